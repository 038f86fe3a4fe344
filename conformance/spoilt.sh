#!/bin/bash
# conformance/spoilt.sh - runs a command on a machine that has other work already, to test that nothing depends on it
#
#   sudo conformance/spoilt.sh COMMAND [ARGUMENTS]
#
#   sudo conformance/spoilt.sh conformance/test.sh              every test
#   sudo conformance/spoilt.sh conformance/test.sh bridge       the tests with that word in their names
#   sudo conformance/spoilt.sh examples/demo.sh
#
# COMMAND finds what Docker, Kubernetes and a firewall leave on a node: it forwards, filters reverse paths loosely, has
# IPv6 switched off, drops what it is to forward, and has nftables rules, the bridges cni0 and docker0, a network in
# /etc/cni/net.d and addresses reserved in /var/lib/cni/networks. All of that is in a network and a mount namespace and
# goes with them, so build first: there is no way out to the network.
#
# One setting of the machine itself is changed, and set back at the end: net.core.devconf_inherit_init_net is 3, so that
# namespaces which COMMAND makes inherit the settings of the one that it runs in, as they do where COMMAND runs on the machine itself.
# Until then the kernel lets them inherit from the machine's first namespace, which stays as it is.

set -euo pipefail

root=$(cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=.ci/build.sh
. "$root/.ci/build.sh"

inherit=/proc/sys/net/core/devconf_inherit_init_net

main() {
    case ${1:-} in
        '' | --help | -h) head_of_file "$0" && exit ;;
        --inside) shift && inside "$@" ;;
    esac
    [ "$(id -u)" -eq 0 ] || die "making namespaces needs root: sudo $0 $*"
    need unshare util-linux
    need ip iproute2
    need sysctl procps
    need nft nftables
    before=$(cat "$inherit" 2>/dev/null) || skip "there is no $inherit here"
    trap 'restore "$before"' EXIT
    trap 'exit 130' INT TERM HUP
    one_at_a_time
    echo 3 2>/dev/null >"$inherit" || skip "this kernel takes no 3 in $inherit (Linux 5.16 does)"
    make_places
    unshare --net --mount --propagation private "$0" --inside "$@" 8>&-
}

skip() { say "skipped: $*" && exit; }

# Two at once would set back what the other needs.
one_at_a_time() {
    exec 8>/run/podwire-spoilt.lock
    flock --nonblock 8 || { trap - EXIT && die "it runs already"; }
}

restore() {
    echo "$1" >"$inherit"
    [ ${#made[@]} -eq 0 ] || rmdir --ignore-fail-on-non-empty "${made[@]}"
}

# What is mounted over has to exist.
made=()
make_places() {
    local place
    for place in /etc/cni /var/lib/cni /run/netns; do
        [ -d "$place" ] || { mkdir "$place" && made+=("$place"); }
    done
}

# --- inside -------------------------------------------------------------------------------------------------------

inside() {
    see_own_links
    spoil_settings
    spoil_links
    spoil_rules
    spoil_files
    exec "$@"
}

# /sys shows the interfaces of the namespace that it was mounted in. What is mounted in it is control groups.
see_own_links() {
    mount -t tmpfs tmpfs /run/netns
    mkdir /run/netns/.cgroup
    mount --rbind /sys/fs/cgroup /run/netns/.cgroup
    mount -t sysfs sysfs /sys
    mount --rbind /run/netns/.cgroup /sys/fs/cgroup
    umount --recursive /run/netns/.cgroup && rmdir /run/netns/.cgroup
}

spoil_settings() {
    sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.{all,default}.rp_filter=2 net.ipv4.conf.{all,default}.promote_secondaries=1 \
        net.ipv4.conf.{all,default}.accept_redirects=0 net.ipv4.conf.{all,default}.send_redirects=0 \
        net.ipv4.conf.{all,default}.arp_ignore=1 net.ipv4.conf.{all,default}.arp_announce=2 \
        net.ipv6.conf.default.accept_ra=0 net.ipv6.conf.default.addr_gen_mode=1 \
        net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
}

spoil_links() {
    ip link set lo up
    ip link add cni0 type bridge && ip addr add 10.244.0.1/24 dev cni0
    ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0
    ip link set cni0 up && ip link set docker0 up
}

# Docker's policy as its iptables writes it to nftables, and a firewall of the node's own.
spoil_rules() {
    nft -f - <<'RULES'
table ip filter {
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        oifname "docker0" ct state related,established accept
    }
}
table inet firewall {
    chain forward {
        type filter hook forward priority filter; policy accept;
        ct state established,related accept
        iifname "trusted0" accept
        reject with icmpx admin-prohibited
    }
}
RULES
}

spoil_files() {
    local address
    mount -t tmpfs -o mode=0755 tmpfs /etc/cni
    mount -t tmpfs -o mode=0755 tmpfs /var/lib/cni
    mkdir -p /etc/cni/net.d /var/lib/cni/networks/cbr0
    cat >/etc/cni/net.d/10-cbr0.conflist <<'CONFLIST'
{"cniVersion": "0.4.0", "name": "cbr0", "plugins": [{"type": "bridge", "bridge": "cni0", "isDefaultGateway": true,
  "ipam": {"type": "host-local", "subnet": "10.244.0.0/24"}}]}
CONFLIST
    for address in 10.244.0.2 10.244.0.3 10.88.0.2; do
        printf 'c0ffee\r\neth0' >"/var/lib/cni/networks/cbr0/$address"
    done
    printf 10.244.0.3 >/var/lib/cni/networks/cbr0/last_reserved_ip.0
}

main "$@"
