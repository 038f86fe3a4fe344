# shellcheck shell=bash
# What the examples have in common: they build, hide in namespaces of their own, make machines and Pods, and show things.
#
# Sourced by demo.sh and */run.sh, which set `root` (the checkout) first, define `demonstrate`, and end with `example "$@"`.
#
# Nothing is left behind, however an example ends: all of it lives in namespaces (network, mount, process) that the
# kernel removes with the script.

# shellcheck source=.ci/build.sh
. "${root:?the checkout}/.ci/build.sh"

# --- outside of the example's namespaces --------------------------------------------------------------------------

example() {
    case ${1:-} in
        '') build && enter "$target_dir/debug" ;;
        --programs)
            [ -x "${2:-}/cnitool" ] || die "--programs ${2:-}: no cnitool there; name a directory with it and the plugins"
            check_needs
            enter "$(cd -- "$2" && pwd)"
            ;;
        --inside) inside "$2" ;;
        --help | -h) head_of_file "$0" ;;
        *) die "unknown argument $1; see $0 --help" ;;
    esac
}

build() {
    check_needs
    find_rust
    # shellcheck disable=SC2119 # no static linking here
    need_linker
    step "Building (the first time this takes a minute or two)"
    local name bins=()
    for name in $(plugins) cnitool; do bins+=(--bin "$name"); done
    cargo_in_root build --locked "${bins[@]}"
}

check_needs() {
    [ "$(id -u)" -eq 0 ] || die "making network namespaces needs root: sudo $0"
    need ip iproute2
    need ping iputils-ping
    need unshare util-linux
    need sysctl procps
    need perl perl
}

# A mount namespace hides what is made in /run from everyone else, and takes it along when it goes; a process namespace
# does the same with what still runs.
enter() {
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc "$0" --inside "$1" || exit
    echo
    say "Everything is gone: the namespaces went with the example, and this machine's own network was never touched."
}

# --- inside -------------------------------------------------------------------------------------------------------

inside() {
    # The first process of a process namespace hears no signal that it does not ask for.
    trap 'exit 130' INT TERM HUP
    files=/run/podwire
    programs=$1
    mount -t tmpfs -o mode=0755 podwire-example /run
    mkdir -p /run/netns "$files"
    demonstrate
}

shown() { say "$dim\$ $*$plain"; }
good() { say "$green✓$plain $*"; }
failed() { die "this step did not show what it should: $*"; }

# Prints a command, runs it, and indents what it prints.
show() {
    shown "$*"
    "$@" >"$files/shown" 2>&1 || { cat "$files/shown" >&2; failed "$*"; }
    sed 's/^/        /' "$files/shown"
}

# --- machines -----------------------------------------------------------------------------------------------------

# machine NAME...: each a network namespace. Nobody else has its addresses, so none is waited for.
machine() {
    local name
    for name in "$@"; do
        ip netns add "$name"
        settle "$name"
        ip -n "$name" link set lo up
    done
}

# settle NETNS: a new namespace inherits settings from this machine's own. A machine of an example has those of a kernel that nobody
# has configured, but for duplicate address detection.
settle() {
    ip netns exec "$1" sysctl -qw net.ipv4.ip_forward=0 \
        net.ipv4.conf.{all,default}.{rp_filter,arp_ignore,arp_announce,arp_filter,proxy_arp,route_localnet}=0 \
        net.ipv4.conf.{all,default}.{accept_local,src_valid_mark,ignore_routes_with_linkdown,promote_secondaries}=0 \
        net.ipv4.conf.{all,default}.{send_redirects,accept_redirects}=1 \
        net.ipv6.conf.{all,default,lo}.disable_ipv6=0 net.ipv6.conf.{all,default}.forwarding=0 \
        net.ipv6.conf.default.{accept_ra,autoconf}=1 net.ipv6.conf.default.{addr_gen_mode,keep_addr_on_down,accept_dad}=0
}

# cable A INTERFACE B INTERFACE: between two machines.
cable() {
    ip -n "$1" link add "$2" type veth peer name "$4" netns "$3"
    ip -n "$1" link set "$2" up
    ip -n "$3" link set "$4" up
}

# router NAME: a machine that forwards.
router() {
    machine "$1"
    ip netns exec "$1" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
        net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0
}

# outside_of ROUTER: a host beyond it, 192.0.2.9, that says whom it sees.
outside_of() {
    machine outside
    cable outside eth0 "$1" outside
    ip -n "$1" addr add 192.0.2.1/24 dev outside
    ip -n outside addr add 192.0.2.9/24 dev eth0
    ip -n outside route add default via 192.0.2.1
    tell_who_asks outside
}

# configure_nodes NODE...: with the files that lie beside the script.
configure_nodes() {
    # shellcheck disable=SC2154 # the script's own directory
    local node conflist=$here/10-podwire.conflist map=$here/nodes.json
    step "The configuration, the same two files on every node"
    sed 's/^/    /' "$conflist" "$map"
    for node in "$@"; do configure "$node" "$conflist" "$map"; done
}

# configure NODE CONFLIST [NODES.JSON]: puts them into the node's files. Nodes here share one file system, so each has
# a directory for what on a machine of its own would be /etc/cni and /var/lib/cni.
configure() {
    local node=$1 name
    mkdir -p "$files/$node/net.d"
    name=$(basename "$2")
    sed -e "s|/etc/cni/|$files/$node/|g" \
        -e "s|\"type\": \"host-local\"|&, \"dataDir\": \"$files/$node/networks\"|" "$2" >"$files/$node/net.d/$name"
    [ -z "${3:-}" ] || replace_map "$node" "$3"
}

# replace_map NODE NODES.JSON: the way that never leaves half of one.
replace_map() {
    cp "$2" "$files/$1/nodes.json.new"
    mv "$files/$1/nodes.json.new" "$files/$1/nodes.json"
}

# on_node NODE PROGRAM ARGUMENTS: one of podwire's.
on_node() {
    local node=$1 program=$2
    shift 2
    CNI_PATH=$programs NETCONFPATH=$files/$node/net.d ip netns exec "$node" "$programs/$program" "$@"
}

# cni NODE add|check|del NETWORK POD
cni() { on_node "$1" cnitool --cache-dir "$files/$1/cache" "$2" "$3" "/run/netns/$4"; }

# --- Pods ---------------------------------------------------------------------------------------------------------

# add_pod NODE NETWORK POD: an empty network namespace, wired as a container runtime would do it. It answers who asks.
add_pod() {
    machine "$3"
    shown "cnitool add $2 /run/netns/$3    # on $1"
    cni "$1" add "$2" "$3" >"$files/$3.json" || failed "cnitool add"
    ip -n "$3" -br addr show dev eth0 | sed 's/^/        /'
    tell_who_asks "$3"
}

# del_pod NODE NETWORK POD: nothing of it is left.
del_pod() {
    local left
    shown "cnitool del $2 /run/netns/$3    # on $1"
    cni "$1" del "$2" "$3" || failed "cnitool del"
    left=$(ip -n "$3" -o link show | grep -v ' lo: ' || true)
    [ -z "$left" ] || failed "in $3 there is still: $left"
}

# no_pod_is_left NODE: no end of a Pod's wire, no reserved address, no cached result.
no_pod_is_left() {
    local left
    left=$(ip -n "$1" -o link show type veth | grep -v ' eth0@' || true)
    [ -z "$left" ] || failed "$1 still has: $left"
    # The store has a file for each address, named by it.
    left=$(find "$files/$1/networks" -name '*[.:]*[.:]*' -type f)
    [ -z "$left" ] || failed "still reserved: $left"
    left=$(find "$files/$1/cache" -type f)
    [ -z "$left" ] || failed "results are still cached: $left"
}

# address_of NETNS -4|-6: of eth0, without the prefix length.
address_of() {
    local address
    address=$(ip -n "$1" "$2" -o addr show dev eth0 scope global | awk '{ sub("/.*", "", $4); print $4; exit }')
    [ -n "$address" ] || failed "$1 got no address for ip $2"
    printf '%s\n' "$address"
}

# --- who reaches whom ---------------------------------------------------------------------------------------------

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
    seen=$(asks "$1" "$2" 7) || failed "no TCP to $2"
    [ "$seen" = "$3" ] || failed "the other side sees $seen, not $3"
    good "\"you are $seen\""
}

# asks NETNS ADDRESS PORT: by TCP; prints the answer.
asks() {
    # shellcheck disable=SC2016 # the inner shell's variables
    ip netns exec "$1" timeout 5 bash -c 'exec 3<>"/dev/tcp/$1/$2" && cat <&3' - "$2" "$3"
}

# In NETNS, answers every TCP connection to port 7 with the address it came from. Returns when it listens.
# shellcheck disable=SC2016 # perl's variables
tell_who_asks() { answer "$1" 7 'print $client "$peer\n"'; }

# answer NETNS PORT PERL: does that to every TCP connection; $peer is the client's address, $own the one it came to.
answer() {
    # shellcheck disable=SC2016 # perl's variables
    ip netns exec "$1" perl -MIO::Socket::IP -e '
        my ($port, $do) = @ARGV;
        my $server = IO::Socket::IP->new(LocalHost => "::", V6Only => 0, LocalPort => $port, Listen => 8, ReuseAddr => 1)
            or die "listen: $@";
        exit if fork;
        while (my $client = $server->accept) {
            my ($peer, $own) = ($client->peerhost, $client->sockhost);
            s/^::ffff:// for $peer, $own;
            eval $do;
            close $client;
        }' "$2" "$3" || failed "listening in $1"
}
