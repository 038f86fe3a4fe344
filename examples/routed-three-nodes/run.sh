#!/bin/bash
# examples/routed-three-nodes/run.sh - three nodes on one link, routes everywhere, no bridge and no tunnel
#
#   sudo examples/routed-three-nodes/run.sh
#
# Each Pod has a wire of its own to its node, which routes to it; each node has a route to the Pod CIDRs of the others,
# by way of their addresses on the link. IPv4 and IPv6. Then a node leaves, and the others forget it.
#
# 10-podwire.conflist (for /etc/cni/net.d) and nodes.json (for /etc/cni) lie beside this script, ready to be copied to
# each node. Nothing is left behind, however this ends. It builds podwire first;
#
#   sudo examples/routed-three-nodes/run.sh --programs DIR    uses the plugins and cnitool in DIR

set -euo pipefail

here=$(cd -- "$(dirname -- "$0")" && pwd)
root=$(cd -- "$here/../.." && pwd)
# shellcheck source=examples/lib.sh
. "$root/examples/lib.sh"

demonstrate() {
    make_nodes
    configure_nodes node-0 node-1 node-2
    start_pods
    show_routes
    pods_reach_pods_and_nodes
    pods_reach_the_outside
    a_node_leaves
    remove_pods
}

make_nodes() {
    step "Three nodes on one link, with a router to the outside that knows nothing of Pods"
    router router
    ip -n router link add link0 type bridge mcast_snooping 0
    ip -n router addr add 10.240.0.1/16 dev link0
    ip -n router addr add fd00:240::1/64 dev link0 nodad
    ip -n router link set link0 up
    local number
    for number in 0 1 2; do
        machine "node-$number"
        cable "node-$number" eth0 router "port$number"
        ip -n router link set "port$number" master link0
        ip -n "node-$number" addr add "10.240.0.$((number + 4))/16" dev eth0
        ip -n "node-$number" addr add "fd00:240::$((number + 4))/64" dev eth0 nodad
        ip -n "node-$number" route add default via 10.240.0.1
        ip -n "node-$number" -6 route add default via fd00:240::1
    done
    outside_of router
    for number in 0 1 2; do tell_who_asks "node-$number"; done
    cat <<'PICTURE'

      Pod a      Pod b          Pod c                Pod d
        │ .0.2     │ .0.3         │ .1.2               │ .2.2     10.244.0.0/16, fd00:244::/48
      ┌─┴──────────┴─┐      ┌─────┴──────┐       ┌─────┴──────┐
      │    node-0    │      │   node-1   │       │   node-2   │
      └───── eth0 ───┘      └─── eth0 ───┘       └─── eth0 ───┘
              │ .0.4               │ .0.5               │ .0.6    10.240.0.0/16, fd00:240::/64
              └────────────────────┴── router ──────────┘         10.240.0.1
                                         │
                                      outside                     192.0.2.9

PICTURE
}

start_pods() {
    step "Pods: each node gives addresses of its own Pod CIDRs"
    add_pod node-0 podwire pod-a
    add_pod node-0 podwire pod-b
    add_pod node-1 podwire pod-c
    add_pod node-2 podwire pod-d
}

show_routes() {
    step "A node's routes: to each Pod on its own wire, to the other nodes' Pods by way of the nodes"
    show ip -n node-0 route show
    show ip -n node-0 -6 route show fd00:244:0:1::/64
    step "A Pod's: one next hop that is the same for all, with a permanent neighbor entry, so nothing is ever asked for"
    show ip -n pod-a route show
    show ip -n pod-a neighbor show
    show ip -n pod-a -br link show dev eth0
    say "the Pod's hardware address is 0a:58: and its IPv4 address: 0a f4 00 02 is 10.244.0.2"
}

pods_reach_pods_and_nodes() {
    step "Pod to Pod: on one node, and from one to another; nobody is masqueraded"
    reaches pod-a 10.244.0.3 10.244.0.2
    reaches pod-a 10.244.1.2 10.244.0.2
    reaches pod-d fd00:244:0:1::2 fd00:244:0:2::2
    step "Pod to another node: with its own address too"
    reaches pod-a 10.240.0.6 10.244.0.2
}

pods_reach_the_outside() {
    step "Pod to outside: it sees the node's address"
    reaches pod-a 192.0.2.9 10.240.0.4
}

a_node_leaves() {
    step "node-2 leaves: it is switched off, and taken out of the map; --sync tells the others"
    ip netns del pod-d
    ip netns del node-2
    sed -e '/"node-2"/d' -e '/"node-1"/s/,$//' "$here/nodes.json" >"$files/nodes.json"
    local number left
    for number in 0 1; do
        replace_map "node-$number" "$files/nodes.json"
        shown "routed-veth --sync /etc/cni/net.d/10-podwire.conflist    # on node-$number"
        on_node "node-$number" routed-veth --sync "$files/node-$number/net.d/10-podwire.conflist" | sed 's/^/        /'
        left=$(ip -n "node-$number" route show 10.244.2.0/24; ip -n "node-$number" -6 route show fd00:244:0:2::/64)
        [ -z "$left" ] || failed "node-$number still has: $left"
    done
    good "no route leads to it any more"
    reaches pod-a 10.244.1.2 10.244.0.2
}

remove_pods() {
    step "DEL: the Pods go, and with them all that was theirs"
    del_pod node-0 podwire pod-a
    del_pod node-0 podwire pod-b
    del_pod node-1 podwire pod-c
    no_pod_is_left node-0
    no_pod_is_left node-1
    good "no interface, no reserved address and no cached result is left"
}

example "$@"
