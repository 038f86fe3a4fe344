#!/bin/bash
# examples/demo.sh - builds podwire and shows, step by step, what it does
#
#   sudo examples/demo.sh
#
# A node, a host outside and two Pods are made as network namespaces; `cnitool` wires the Pods with
# the plugins `bridge` and `host-local`, for IPv4 and IPv6; and every step is tried for real.
#
# Nothing is left behind, however it ends: all of it lives in namespaces (network, mount, process)
# that the kernel removes with this script. The machine's own network is not touched. Needs Rust,
# iproute2, ping and perl. Under sudo the build runs as the caller. CARGO_TARGET_DIR is honoured.

set -euo pipefail

root=$(cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=.ci/build.sh
. "$root/.ci/build.sh"

# The addresses that documents are for (RFC 5737, RFC 3849), and private ones for the Pods.
node4=192.0.2.2 node6=2001:db8::2
outside4=192.0.2.9 outside6=2001:db8::9
subnet4=10.88.0.0/24 subnet6=fd00:88::/64
gateway4=10.88.0.1 gateway6=fd00:88::1

main() {
    case ${1:-} in
        '') build_and_enter ;;
        --inside) demonstrate "$2" ;;
        --help | -h) head_of_file "$0" ;;
        *) die "unknown argument $1; see $0 --help" ;;
    esac
}

# --- outside of the demo's namespaces -----------------------------------------------------------------------------

build_and_enter() {
    [ "$(id -u)" -eq 0 ] || die "making network namespaces needs root: sudo $0"
    need ip iproute2
    need ping iputils-ping
    need unshare util-linux
    need perl perl
    find_rust
    need_linker
    step "Building (the first time this takes a minute or two)"
    local name bins=()
    for name in $(plugins) cnitool; do bins+=(--bin "$name"); done
    cargo_in_root build --locked "${bins[@]}"
    # A mount namespace hides what is made in /run from everyone else, and takes it along when it goes; a process
    # namespace does the same with what still runs.
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
        "$0" --inside "$target_dir/debug" || exit
    echo
    say "Everything is gone: the namespaces went with the demo, and this machine's own network was never touched."
}

# --- inside -------------------------------------------------------------------------------------------------------

demonstrate() {
    # The first process of a process namespace hears no signal that it does not ask for.
    trap 'exit 130' INT TERM HUP
    files=/run/podwire
    mount -t tmpfs -o mode=0755 podwire-demo /run
    mkdir -p /run/netns "$files/net.d"
    export CNI_PATH=$1 NETCONFPATH=$files/net.d

    make_node_and_outside
    show_configuration
    wire_pods
    pods_reach_each_other
    pods_reach_the_node
    pods_reach_the_outside
    check_finds_faults
    remove_pods
}

make_node_and_outside() {
    step "A node, and a host outside that knows nothing of Pods"
    local name
    for name in node outside; do
        ip netns add "$name"
        ip -n "$name" link set lo up
    done
    ip -n node link add eth0 type veth peer name eth0 netns outside
    ip -n node link set eth0 up
    ip -n outside link set eth0 up
    ip -n node addr add "$node4/24" dev eth0
    ip -n node addr add "$node6/64" dev eth0 nodad
    ip -n outside addr add "$outside4/24" dev eth0
    ip -n outside addr add "$outside6/64" dev eth0 nodad
    tell_who_asks outside
    cat <<PICTURE

         Pod a                  Pod b
           │ eth0                 │ eth0        $subnet4, $subnet6
       ┌───┴──────────────────────┴───┐
       │             cni0             │         $gateway4, $gateway6
       │                              │         the node
       │             eth0             │         $node4, $node6
       └──────────────┬───────────────┘
                      │ eth0
                   outside                      $outside4, $outside6

PICTURE
}

show_configuration() {
    step "The network configuration, as it would lie in /etc/cni/net.d"
    tee "$files/net.d/10-demo.conflist" <<CONFLIST
{
  "cniVersion": "1.0.0",
  "name": "demo",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isDefaultGateway": true,
      "ipMasq": true,
      "ipam": {
        "type": "host-local",
        "ranges": [[{ "subnet": "$subnet4" }], [{ "subnet": "$subnet6" }]],
        "dataDir": "$files/networks"
      }
    }
  ]
}
CONFLIST
}

wire_pods() {
    step "Two Pods: empty network namespaces, wired on the node by cnitool, as a container runtime would do it"
    local pod
    for pod in pod-a pod-b; do
        ip netns add "$pod"
        ip -n "$pod" link set lo up
        shown "cnitool add demo /run/netns/$pod"
        in_node cnitool add demo "/run/netns/$pod" >"$files/$pod.json" || failed "cnitool add"
        ip -n "$pod" -br addr show dev eth0 | sed 's/^/        /'
    done
    a4=$(address_of pod-a -4) a6=$(address_of pod-a -6)
    b4=$(address_of pod-b -4) b6=$(address_of pod-b -6)
    tell_who_asks pod-b
}

pods_reach_each_other() {
    step "Pod to Pod: b sees a's own address"
    reaches pod-a "$b4" "$a4"
    reaches pod-a "$b6" "$a6"
}

pods_reach_the_node() {
    step "Pod to node: its gateway, and the node's own address"
    local address
    for address in "$gateway4" "$gateway6" "$node4" "$node6"; do pings pod-a "$address"; done
}

pods_reach_the_outside() {
    step "Pod to outside: masqueraded, so the outside sees the node's address"
    reaches pod-a "$outside4" "$node4"
    reaches pod-a "$outside6" "$node6"
}

check_finds_faults() {
    step "CHECK: is everything as ADD left it?"
    shown "cnitool check demo /run/netns/pod-a"
    in_node cnitool check demo /run/netns/pod-a || failed "cnitool check"
    good "yes"
    shown "ip -n pod-a addr del $a4/24 dev eth0    # break it"
    ip -n pod-a addr del "$a4/24" dev eth0
    shown "cnitool check demo /run/netns/pod-a"
    local words
    if words=$(in_node cnitool check demo /run/netns/pod-a 2>&1); then failed "CHECK missed that the address is gone"; fi
    printf '%s\n' "$words" | fold -s -w 100 | sed 's/^/        /'
    good "found"
}

remove_pods() {
    step "DEL: the Pods go, and with them all that was theirs"
    local pod left
    for pod in pod-a pod-b; do
        shown "cnitool del demo /run/netns/$pod"
        in_node cnitool del demo "/run/netns/$pod" || failed "cnitool del"
        left=$(ip -n "$pod" -o link show | grep -v ' lo: ' || true)
        [ -z "$left" ] || failed "in $pod there is still: $left"
    done
    left=$(ip -n node -o link show type veth | grep -v ' eth0@' || true)
    [ -z "$left" ] || failed "the node still has: $left"
    # The store has a file for each address, named by it.
    for left in "$files/networks/demo/$a4" "$files/networks/demo/$a6" "$files/networks/demo/$b4" "$files/networks/demo/$b6"; do
        [ ! -e "$left" ] || failed "still reserved: $left"
    done
    left=$(find "$files/cache" -type f)
    [ -z "$left" ] || failed "results are still cached: $left"
    good "no interface, no reserved address and no cached result is left; the bridge stays for the next Pod"
}

# --- what the steps are made of -----------------------------------------------------------------------------------

in_node() {
    local command=$1
    shift
    ip netns exec node "$CNI_PATH/$command" --cache-dir "$files/cache" "$@"
}

shown() { say "$dim\$ $*$plain"; }
good() { say "$green✓$plain $*"; }
failed() { die "this step did not show what it should: $*"; }

# address_of NETNS -4|-6: of eth0, without the prefix length.
address_of() {
    local address
    address=$(ip -n "$1" "$2" -o addr show dev eth0 scope global | awk '{ sub("/.*", "", $4); print $4; exit }')
    [ -n "$address" ] || failed "$1 got no address for ip $2"
    printf '%s\n' "$address"
}

# pings NETNS ADDRESS
pings() {
    shown "ip netns exec $1 ping -c 1 $2"
    ip netns exec "$1" ping -n -c 1 -W 3 "$2" >"$files/ping" 2>&1 || { cat "$files/ping" >&2; failed "no answer from $2"; }
    good "answered"
}

# reaches NETNS ADDRESS SEEN: a ping comes back, and by TCP the other side says whom it sees.
reaches() {
    pings "$1" "$2"
    say "$1 asks $2, by TCP: who am I to you?"
    local seen
    # shellcheck disable=SC2016 # the inner shell's variable
    seen=$(ip netns exec "$1" timeout 5 bash -c 'exec 3<>"/dev/tcp/$1/7" && cat <&3' - "$2") || failed "no TCP to $2"
    [ "$seen" = "$3" ] || failed "the other side sees $seen, not $3"
    good "\"you are $seen\""
}

# In NETNS, answers every TCP connection to port 7 with the address it came from. Returns when it listens.
tell_who_asks() {
    # shellcheck disable=SC2016 # perl's variables
    ip netns exec "$1" perl -MIO::Socket::IP -e '
        my $server = IO::Socket::IP->new(LocalHost => "::", V6Only => 0, LocalPort => 7, Listen => 8, ReuseAddr => 1)
            or die "listen: $@";
        exit if fork;
        while (my $client = $server->accept) {
            my $peer = $client->peerhost;
            $peer =~ s/^::ffff://;
            print $client "$peer\n";
            close $client;
        }' || failed "listening in $1"
}

main "$@"
