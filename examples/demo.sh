#!/bin/bash
# examples/demo.sh - builds podwire and shows, step by step, what it does
#
#   sudo examples/demo.sh
#
# A node, a host outside and two Pods are made as network namespaces; `cnitool` wires the Pods with
# the plugins `bridge` and `host-local`, for IPv4 and IPv6; and every step is tried for real. Then two
# nodes, and their Pods reach each other over VXLAN.
#
# Nothing is left behind, however it ends: all of it lives in namespaces (network, mount, process)
# that the kernel removes with this script. The machine's own network is not touched. Needs Rust,
# iproute2, ping and perl. Under sudo the build runs as the caller. CARGO_TARGET_DIR is honoured.
#
#   sudo examples/demo.sh --programs DIR    with the plugins and cnitool in DIR, without building

set -euo pipefail

root=$(cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=examples/lib.sh
. "$root/examples/lib.sh"

# The addresses that documents are for (RFC 5737, RFC 3849), and private ones for the Pods.
node4=192.0.2.2 node6=2001:db8::2
outside4=192.0.2.9 outside6=2001:db8::9
subnet4=10.88.0.0/24 subnet6=fd00:88::/64
gateway4=10.88.0.1 gateway6=fd00:88::1

demonstrate() {
    make_node_and_outside
    show_configuration
    wire_pods
    pods_reach_each_other
    pods_reach_the_node
    pods_reach_the_outside
    check_finds_faults
    remove_pods
    two_nodes_over_vxlan
}

make_node_and_outside() {
    step "A node, and a host outside that knows nothing of Pods"
    machine node outside
    cable node eth0 outside eth0
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
    mkdir -p "$files/node/net.d"
    tee "$files/node/net.d/10-demo.conflist" <<CONFLIST
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
        "dataDir": "$files/node/networks"
      }
    }
  ]
}
CONFLIST
}

wire_pods() {
    step "Two Pods: empty network namespaces, wired on the node by cnitool, as a container runtime would do it"
    add_pod node demo pod-a
    add_pod node demo pod-b
    a4=$(address_of pod-a -4) a6=$(address_of pod-a -6)
    b4=$(address_of pod-b -4) b6=$(address_of pod-b -6)
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
    cni node check demo pod-a || failed "cnitool check"
    good "yes"
    shown "ip -n pod-a addr del $a4/24 dev eth0    # break it"
    ip -n pod-a addr del "$a4/24" dev eth0
    shown "cnitool check demo /run/netns/pod-a"
    local words
    if words=$(cni node check demo pod-a 2>&1); then failed "CHECK missed that the address is gone"; fi
    printf '%s\n' "$words" | fold -s -w 100 | sed 's/^/        /'
    good "found"
}

remove_pods() {
    step "DEL: the Pods go, and with them all that was theirs"
    del_pod node demo pod-a
    del_pod node demo pod-b
    no_pod_is_left node
    good "no interface, no reserved address and no cached result is left; the bridge stays for the next Pod"
}

two_nodes_over_vxlan() {
    step "Two nodes, in two networks, and a router that knows nothing of Pods"
    router router
    local number
    for number in 1 2; do
        machine "node-$number"
        cable "node-$number" eth0 router "eth$number"
        ip -n "node-$number" addr add "198.51.100.$((number * 64 + 2))/26" dev eth0
        ip -n router addr add "198.51.100.$((number * 64 + 1))/26" dev "eth$number"
        ip -n "node-$number" route add default via "198.51.100.$((number * 64 + 1))"
    done
    cat <<'PICTURE'

           Pod c                              Pod d
             │ eth0   10.88.1.0/24              │ eth0   10.88.2.0/24
       ┌─────┴──────┐                     ┌─────┴──────┐
       │  node-1    ╞═══════ VXLAN ═══════╡    node-2  │
       │  eth0      │                     │      eth0  │
       └────┬───────┘                     └───────┬────┘
            │ 198.51.100.66                       │ 198.51.100.130
            └─────────────── router ──────────────┘

PICTURE
    step "The configuration: the same two files on every node"
    tee "$files/10-overlay.conflist" <<'CONFLIST'
{
  "cniVersion": "1.0.0",
  "name": "overlay",
  "plugins": [
    {
      "type": "vxlan-overlay",
      "nodes": "/etc/cni/nodes.json",
      "ipMasq": true,
      "ipam": { "type": "host-local" }
    }
  ]
}
CONFLIST
    tee "$files/nodes.json" <<'MAP'
{"nodes": [
  {"name": "node-1", "addresses": ["198.51.100.66"], "podCIDRs": ["10.88.1.0/24", "fd00:88:0:1::/64"]},
  {"name": "node-2", "addresses": ["198.51.100.130"], "podCIDRs": ["10.88.2.0/24", "fd00:88:0:2::/64"]}
]}
MAP
    step "A Pod on each: addresses from the node's own Pod CIDRs, IPv6 too, over a network of IPv4"
    for number in 1 2; do configure "node-$number" "$files/10-overlay.conflist" "$files/nodes.json"; done
    add_pod node-1 overlay pod-c
    add_pod node-2 overlay pod-d
    step "What node-1 has for that: a route to the other's Pod CIDR into the tunnel, and Pods' packets that fit it"
    show ip -n node-1 route show 10.88.2.0/24
    show ip -n pod-c link show dev eth0
    step "Pod to Pod, from node to node: d sees c's own address"
    reaches pod-c "$(address_of pod-d -4)" "$(address_of pod-c -4)"
    reaches pod-c "$(address_of pod-d -6)" "$(address_of pod-c -6)"
    del_pod node-1 overlay pod-c
    del_pod node-2 overlay pod-d
    no_pod_is_left node-1
    no_pod_is_left node-2
}

example "$@"
