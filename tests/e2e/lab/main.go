// Command lab is a real Kubernetes on one machine, without kind, Docker or a registry: API server, controller manager and
// scheduler, and three nodes with a kubelet, containerd and kube-proxy each.
//
// A node is a set of namespaces, and so is what the control plane runs in; the nodes' are inside it. Nothing of the machine's
// own network, mounts or processes is touched: the API server is reached through a port of the loopback interface that was
// opened outside and handed in. So all of it goes when one process is killed, whatever state it is in.
//
//	lab up DIR        start it; what an earlier one left in DIR is removed first
//	lab down DIR      end it, and leave nothing
//	lab fail|boot|cut|join DIR NODE
//	lab load DIR TAR  give an image to all nodes
//	lab restart DIR PART
//	lab kubectl DIR …
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

const usage = "usage: lab up|down|fail|boot|cut|join|load|restart|kubectl DIR [ARGUMENTS]"

func main() {
	if err := run(os.Args[1:]); err != nil {
		var ended *exec.ExitError
		if errors.As(err, &ended) && ended.ExitCode() > 0 {
			os.Exit(ended.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New(usage)
	}
	dir, rest := args[1], args[2:]
	switch args[0] {
	case "up":
		return up(dir)
	case "down":
		return down(dir)
	case "fail", "boot", "cut", "join", "load", "restart":
		if len(rest) != 1 {
			return errors.New(usage)
		}
		return command(dir, args[0], rest[0])
	case "kubectl":
		return kubectl(dir, rest)
	case asControl:
		return control(dir)
	case asNode:
		if len(rest) != 1 {
			return errors.New(usage)
		}
		return node(dir, rest[0])
	default:
		return errors.New(usage)
	}
}

// kubectl is the real one.
func kubectl(dir string, args []string) error {
	s, err := readSettings(dir)
	if err != nil {
		return err
	}
	c := exec.Command(s.program("kubernetes"), append([]string{"kubectl", "--kubeconfig", s.in("kubeconfig")}, args...)...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	return c.Run()
}
