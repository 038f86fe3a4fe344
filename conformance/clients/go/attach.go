// attach drives a network with the Go libcni, as podman and other runtimes do:
//
//	attach add|check|del NETWORK CONTAINERID NETNS
//
// Configurations are in /etc/cni/net.d, plugins in /opt/cni/bin, results in /var/lib/cni. CNI_ARGS and CAP_ARGS are cnitool's.
// check and del take list and arguments from the cache: what another program wrote there has to do.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(command, network, id, netns string) error {
	cni := libcni.NewCNIConfig([]string{"/opt/cni/bin"}, nil)
	runtime := &libcni.RuntimeConf{ContainerID: id, NetNS: netns, IfName: "eth0"}
	if command == "add" {
		list, err := libcni.LoadConfList("/etc/cni/net.d", network)
		if err != nil {
			return err
		}
		for _, pair := range strings.Split(os.Getenv("CNI_ARGS"), ";") {
			key, value, _ := strings.Cut(pair, "=")
			runtime.Args = append(runtime.Args, [2]string{key, value})
		}
		if err := json.Unmarshal([]byte(os.Getenv("CAP_ARGS")), &runtime.CapabilityArgs); err != nil {
			return err
		}
		_, err = cni.AddNetworkList(context.Background(), list, runtime)
		return err
	}
	config, runtime, err := cni.GetNetworkListCachedConfig(&libcni.NetworkConfigList{Name: network}, runtime)
	if err != nil || config == nil {
		return fmt.Errorf("nothing in the cache: %v", err)
	}
	list, err := libcni.ConfListFromBytes(config)
	if err != nil {
		return err
	}
	if command == "check" {
		return cni.CheckNetworkList(context.Background(), list, runtime)
	}
	return cni.DelNetworkList(context.Background(), list, runtime)
}
