#!/bin/bash
# examples/vxlan-three-nodes/run.sh - three nodes in three networks, and Pods that reach each other through tunnels
#
#   sudo examples/vxlan-three-nodes/run.sh
#
# The router between the nodes knows no Pod and speaks IPv4 alone. Pods are on each node's bridge, with addresses of IPv4
# and IPv6; VXLAN carries what they send from node to node. Then a node gets another address, and the others follow.
#
# 10-podwire.conflist (for /etc/cni/net.d) and nodes.json (for /etc/cni) lie beside this script, ready to be copied to
# each node. Nothing is left behind, however this ends. It builds podwire first;
#
#   sudo examples/vxlan-three-nodes/run.sh --programs DIR    uses the plugins and cnitool in DIR

set -euo pipefail

here=$(cd -- "$(dirname -- "$0")" && pwd)
root=$(cd -- "$here/../.." && pwd)
# shellcheck source=examples/lib.sh
. "$root/examples/lib.sh"

demonstrate() {
    make_nodes
    configure_nodes node-0 node-1 node-2
    start_pods
    show_the_overlay
    pods_reach_pods_and_nodes
    what_fits_passes
    pods_reach_the_outside
    an_address_changes
    remove_pods
}

make_nodes() {
    step "Three nodes, each in a network of its own, and a router that knows nothing of Pods"
    router router
    local number
    for number in 0 1 2; do
        machine "node-$number"
        cable "node-$number" eth0 router "port$number"
        ip -n router addr add "10.240.$number.1/24" dev "port$number"
        ip -n "node-$number" addr add "10.240.$number.4/24" dev eth0
        ip -n "node-$number" route add default via "10.240.$number.1"
        tell_who_asks "node-$number"
    done
    outside_of router
    cat <<'PICTURE'

        Pod a               Pod b               Pod c
          │ .0.2              │ .1.2              │ .2.2       10.244.0.0/16, fd00:244::/48
      ┌─ cbr0 ─────┐      ┌─ cbr0 ─────┐      ┌─ cbr0 ─────┐
      │   node-0   ╞══════╡   node-1   ╞══════╡   node-2   │   VXLAN, each with each
      └─── eth0 ───┘      └─── eth0 ───┘      └─── eth0 ───┘
             │ .0.4              │ .1.4              │ .2.4    10.240.0.0/16
             └────────────── router ─────────────────┘
                                │
                             outside                           192.0.2.9

PICTURE
}

start_pods() {
    step "Pods: each node gives addresses of its own Pod CIDRs"
    add_pod node-0 podwire pod-a
    add_pod node-1 podwire pod-b
    add_pod node-2 podwire pod-c
}

show_the_overlay() {
    step "What node-0 has for the others: a route each, a neighbor for its next hop, and where to send the tunnel's packets"
    show ip -n node-0 route show dev vxlan.1
    show ip -n node-0 neighbor show dev vxlan.1 nud permanent
    show bridge -n node-0 fdb show dev vxlan.1
    say "all of it is permanent: nothing is learned, flooded or asked for"
}

pods_reach_pods_and_nodes() {
    step "Pod to Pod, from node to node: nobody is masqueraded, and IPv6 goes over a network of IPv4"
    reaches pod-a 10.244.1.2 10.244.0.2
    reaches pod-a fd00:244:0:2::2 fd00:244::2
    reaches pod-c 10.244.0.2 10.244.2.2
    step "Pod to another node: it sees the Pod's node, for its answer goes there outside of the tunnel"
    reaches pod-a 10.240.1.4 10.240.0.4
}

what_fits_passes() {
    step "The tunnel takes 50 of 1500 bytes: Pods know it, and nothing is cut in pieces or lost"
    show ip -n pod-a link show dev eth0
    show ip netns exec pod-a ping -n -c 1 -W 3 -M "do" -s 1422 10.244.1.2
    shown "ip netns exec pod-a ping -c 1 -M do -s 1423 10.244.1.2    # one byte more"
    if ip netns exec pod-a ping -n -c 1 -W 3 -M "do" -s 1423 10.244.1.2 >"$files/ping" 2>&1; then failed "it passed"; fi
    grep 'too long' "$files/ping" | sed 's/^/        /' || failed "it was lost, not refused"
    good "refused at the Pod"
}

pods_reach_the_outside() {
    step "Pod to outside: it sees the node's address"
    reaches pod-a 192.0.2.9 10.240.0.4
}

an_address_changes() {
    step "node-2 gets another address: the map says so, and --sync tells every node"
    ip -n node-2 addr del 10.240.2.4/24 dev eth0
    ip -n node-2 addr add 10.240.2.77/24 dev eth0
    ip -n node-2 route add default via 10.240.2.1
    sed 's/"10\.240\.2\.4"/"10.240.2.77"/' "$here/nodes.json" >"$files/nodes.json"
    local number
    for number in 0 1 2; do
        replace_map "node-$number" "$files/nodes.json"
        shown "vxlan-overlay --sync /etc/cni/net.d/10-podwire.conflist    # on node-$number"
        on_node "node-$number" vxlan-overlay --sync "$files/node-$number/net.d/10-podwire.conflist" | sed 's/^/        /'
    done
    show bridge -n node-0 fdb show dev vxlan.1
    if grep -q '10\.240\.2\.4 ' "$files/shown"; then failed "node-0 still sends to the old address"; fi
    reaches pod-a 10.244.2.2 10.244.0.2
}

remove_pods() {
    step "DEL: the Pods go, and with them all that was theirs"
    local number pods=(pod-a pod-b pod-c)
    for number in 0 1 2; do
        del_pod "node-$number" podwire "${pods[number]}"
        no_pod_is_left "node-$number"
    done
    good "no interface, no reserved address and no cached result is left"
}

example "$@"
