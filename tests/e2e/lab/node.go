package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// node is what the first process of a node does: its mounts, its network, then containerd, kube-proxy and kubelet, which it
// starts again when they end.
func node(dir, name string) error {
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return fmt.Errorf("the control plane is gone: %w", err)
	}
	s, err := readSettings(dir)
	if err != nil {
		return err
	}
	at, err := placeOf(name)
	if err != nil {
		return err
	}
	f := newFamily()
	if err := first(hide(s.Dir), disks(s, name), wires(f, at)); err != nil {
		return err
	}
	if _, err := f.keep("containerd", s.log(name+"-containerd"), "containerd", "--config", s.in(name, "containerd.toml")); err != nil {
		return err
	}
	if _, err := f.keep("kube-proxy", s.log(name+"-proxy"), s.program("kubernetes"), "kube-proxy",
		"--config", s.in("kube-proxy.yaml"), "--hostname-override", name); err != nil {
		return err
	}
	if err := eventually(func() error { return f.words("ctr version") }); err != nil {
		return err
	}
	images, err := s.images()
	if err != nil {
		return err
	}
	for _, image := range images {
		if err := f.words("ctr -n k8s.io images import %s", image); err != nil {
			return err
		}
	}
	if _, err := f.keep("kubelet", s.log(name+"-kubelet"), s.program("kubernetes"), "kubelet",
		"--config", s.in(name, "kubelet.yaml"), "--kubeconfig", s.kubeconfig(name), "--hostname-override", name,
		"--node-ip", at.ip, "--node-labels", "topology.kubernetes.io/zone="+at.zone, "--v=2"); err != nil {
		return err
	}
	select {}
}

// disks are what outlives a loss of power.
func disks(s *settings, name string) error {
	for _, sub := range []string{"kubelet", "containerd", "cni"} {
		kept, seen := s.in(name, sub), filepath.Join("/var/lib", sub)
		if err := first(os.MkdirAll(kept, 0o755), os.MkdirAll(seen, 0o755), syscall.Mount(kept, seen, "", syscall.MS_BIND, "")); err != nil {
			return fmt.Errorf("%s: %w", seen, err)
		}
	}
	return os.MkdirAll("/run/netns", 0o755)
}

// wires are a node's way to the control plane, to the other nodes and to their pods.
func wires(f *family, at place) error {
	if err := first(
		syscall.Sethostname([]byte(at.name)),
		f.words("ip link set lo up"),
		f.words("ip addr add %s/24 dev eth0", at.ip),
		f.words("ip link set eth0 up"),
		f.words("ip route add default via %s", controlIP),
	); err != nil {
		return err
	}
	for _, other := range places() {
		if other != at {
			if err := f.words("ip route add %s via %s", other.pods, other.ip); err != nil {
				return err
			}
		}
	}
	for _, file := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/bridge/bridge-nf-call-iptables"} {
		if err := os.WriteFile(file, []byte("1"), 0o644); err != nil {
			return err
		}
	}
	return nil
}
