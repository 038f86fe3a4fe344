#!/bin/bash
# examples/azure-routes/run.sh - two agents of a cloud, whose gateway has a route table
#
#   sudo examples/azure-routes/run.sh
#
# Kubernetes as Azure's container service laid it out: Pods on the bridge cbr0 of each agent; an agent sends what is for
# the other's Pods to its default gateway, like everything else; and the gateway's route table knows which agent has
# which Pod CIDR. Then the Service kube-dns, by kube-proxy's iptables rules.
#
# 10-podwire.conflist (for /etc/cni/net.d) and nodes.json (for /etc/cni) lie beside this script, ready to be copied to
# each node. Nothing is left behind, however this ends. It builds podwire first;
#
#   sudo examples/azure-routes/run.sh --programs DIR    uses the plugins and cnitool in DIR

set -euo pipefail

here=$(cd -- "$(dirname -- "$0")" && pwd)
root=$(cd -- "$here/../.." && pwd)
# shellcheck source=examples/lib.sh
. "$root/examples/lib.sh"

demonstrate() {
    make_the_cloud
    configure_nodes k8s-agent-0 k8s-agent-1
    say "\"nodeRoutes\": false, for the routes between agents are the gateway's"
    start_pods
    show_routes
    pods_reach_pods
    pods_reach_the_outside
    kube_dns_answers
    remove_pods
}

make_the_cloud() {
    step "A gateway, two agents on its network, and a host outside"
    router gateway
    ip -n gateway link add subnet type bridge
    ip -n gateway addr add 10.240.0.1/16 dev subnet
    ip -n gateway link set subnet up
    local number
    for number in 0 1; do
        machine "k8s-agent-$number"
        cable "k8s-agent-$number" eth0 gateway "port$number"
        ip -n gateway link set "port$number" master subnet
        ip -n "k8s-agent-$number" addr add "10.240.0.$((number + 4))/16" dev eth0
        ip -n "k8s-agent-$number" route add default via 10.240.0.1
    done
    outside_of gateway
    cat <<'PICTURE'

      Pod a        Pod b                    Pod c
        │ .0.2       │ .0.3                   │ .1.2      10.244.0.0/16
      ┌─┴── cbr0 ────┴─┐               ┌───── cbr0 ─────┐
      │  k8s-agent-0   │               │  k8s-agent-1   │
      └───── eth0 ─────┘               └───── eth0 ─────┘
              │ 10.240.0.4                    │ 10.240.0.5
              └────────────── gateway ────────┘           10.240.0.1
                                 │
                              outside                     192.0.2.9

PICTURE
    step "The gateway's route table, as the cloud writes it: each Pod CIDR by way of its agent"
    ip -n gateway route add 10.244.0.0/24 via 10.240.0.4
    ip -n gateway route add 10.244.1.0/24 via 10.240.0.5
    show ip -n gateway route show
}

start_pods() {
    step "Pods: each agent gives addresses of its own Pod CIDR"
    add_pod k8s-agent-0 podwire pod-a
    add_pod k8s-agent-0 podwire pod-b
    add_pod k8s-agent-1 podwire pod-c
}

show_routes() {
    step "An agent's routes: its Pods on cbr0, the rest by way of the gateway; a Pod's: all by way of cbr0"
    show ip -n k8s-agent-0 route show
    show ip -n pod-a route show
}

pods_reach_pods() {
    step "Pod to Pod, on one agent and from one to the other: nobody is masqueraded"
    reaches pod-a 10.244.0.3 10.244.0.2
    reaches pod-a 10.244.1.2 10.244.0.2
    reaches pod-c 10.244.0.2 10.244.1.2
}

pods_reach_the_outside() {
    step "Pod to outside: it sees the agent's address"
    reaches pod-a 192.0.2.9 10.240.0.4
    reaches pod-c 192.0.2.9 10.240.0.5
}

kube_dns_answers() {
    if ! command -v iptables-restore >/dev/null; then
        step "The Service kube-dns is left out: there is no iptables-restore here"
        return
    fi
    step "The Service kube-dns, 10.0.0.10, with a back end on each agent: kube-proxy's rules (kube-dns.rules)"
    local number
    for number in 0 1; do
        on_agent "$number" iptables-restore "$here/kube-dns.rules"
        # The back end beside pod-b is on its own bridge: that bridge's packets have to pass the rules too.
        on_agent "$number" sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || bridge_netfilter=missing
    done
    show ip netns exec k8s-agent-0 iptables -t nat -S KUBE-SVC-ERIFXISQEP7F7OF4
    # shellcheck disable=SC2016 # perl's variables
    for number in a c; do answer "pod-$number" 53 'print $client "$own sees $peer"'; done
    if [ -n "${bridge_netfilter:-}" ]; then
        say "pod-b is not asked: this kernel has no br_netfilter, which a back end on the client's own bridge needs"
        return
    fi
    say "pod-b asks 10.0.0.10, again and again; who answers, and sees whom?"
    for number in {1..32}; do
        asks pod-b 10.0.0.10 53 || failed "no answer from 10.0.0.10"
        echo
    done >"$files/answers"
    sort "$files/answers" | uniq -c | sed 's/^/    /'
    [ "$(sort -u "$files/answers")" = "10.244.0.2 sees 10.244.0.3
10.244.1.2 sees 10.244.0.3" ] || failed "other answers than those of both back ends"
    good "the dice choose between both agents, and both see pod-b's own address"
}

on_agent() {
    local number=$1
    shift
    ip netns exec "k8s-agent-$number" "$@"
}

remove_pods() {
    step "DEL: the Pods go, and with them all that was theirs"
    del_pod k8s-agent-0 podwire pod-a
    del_pod k8s-agent-0 podwire pod-b
    del_pod k8s-agent-1 podwire pod-c
    no_pod_is_left k8s-agent-0
    no_pod_is_left k8s-agent-1
    good "no interface, no reserved address and no cached result is left"
}

example "$@"
