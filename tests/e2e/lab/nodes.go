package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// boot starts all nodes, which come up while the API server does.
func (p *plane) boot() error {
	for _, at := range places() {
		if err := p.bootNode(at.name); err != nil {
			return err
		}
		// What is not for this network goes to the node that has it.
		if err := p.f.words("ip route add %s via %s", at.pods, at.ip); err != nil {
			return err
		}
	}
	return nil
}

// port is the node's cable, as it is plugged in here.
func port(node string) string { return "lab-" + node }

// bootNode is a node's power switch. Its disk is as it was left.
func (p *plane) bootNode(name string) error {
	at, err := placeOf(name)
	if err != nil {
		return err
	}
	if p.nodes[name] != nil {
		return fmt.Errorf("%s is up", name)
	}
	if err := first(os.MkdirAll(p.s.in(name), 0o755), makeCgroup(p.s.cgroup(name)), writeNodeFiles(p.s, at)); err != nil {
		return err
	}
	out, err := os.OpenFile(p.s.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	hold, release, err := os.Pipe()
	if err != nil {
		return err
	}
	defer release.Close()
	c := exec.Command("/proc/self/exe", asNode, p.s.Dir, name)
	c.Stdin, c.Stdout, c.Stderr = hold, out, out
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	first, err := p.f.start(c)
	hold.Close()
	if err != nil {
		return err
	}
	p.nodes[name] = first
	// The old cable may still be on its way out.
	_ = p.f.words("ip link del %s", port(name))
	if err := p.f.words("ip link add %s type veth peer name eth0 netns %d", port(name), first.pid); err != nil {
		return err
	}
	if err := p.f.words("ip link set %s master lab up", port(name)); err != nil {
		return err
	}
	_, err = release.WriteString("go\n")
	return err
}

// fail is a loss of power: everything on the node ends at once.
func (p *plane) fail(name string) error {
	node, err := p.node(name)
	if err != nil {
		return err
	}
	if err := syscall.Kill(node.pid, syscall.SIGKILL); err != nil {
		return err
	}
	<-node.done
	delete(p.nodes, name)
	return removeCgroup(p.s.cgroup(name))
}

// cut pulls the cable.
func (p *plane) cut(name string) error { return p.cable(name, "down") }

// join plugs it in again.
func (p *plane) join(name string) error { return p.cable(name, "up") }

func (p *plane) cable(name, to string) error {
	if _, err := p.node(name); err != nil {
		return err
	}
	return p.f.words("ip link set %s %s", port(name), to)
}

func (p *plane) node(name string) (*child, error) {
	if node := p.nodes[name]; node != nil {
		return node, nil
	}
	return nil, fmt.Errorf("%s is not up", name)
}

// load gives an image to every node that is up.
func (p *plane) load(archive string) error {
	for name, node := range p.nodes {
		if err := p.f.words("nsenter -t %d -m -p -n -- ctr -n k8s.io images import %s", node.pid, archive); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
