package driver

import "context"

// kind is a cluster whose nodes are Docker's containers, named as the nodes are.
type kind struct{ cluster string }

func (k *kind) LoadImage(ctx context.Context, archive string) error {
	_, err := run(ctx, "kind", "load", "image-archive", archive, "--name", k.cluster)
	return err
}

// FailNode kills the container's processes, without a word to them.
func (k *kind) FailNode(ctx context.Context, node string) error {
	_, err := run(ctx, "docker", "kill", "--signal", "KILL", node)
	return err
}

func (k *kind) BootNode(ctx context.Context, node string) error {
	_, err := run(ctx, "docker", "start", node)
	return err
}

// CutNode drops what goes in and out of the container, but for the loopback. It keeps its address, as a node does whose
// cable is pulled; a network that Docker disconnects would come back with another one.
func (k *kind) CutNode(ctx context.Context, node string) error { return k.wire(ctx, node, "-I") }

func (k *kind) JoinNode(ctx context.Context, node string) error { return k.wire(ctx, node, "-D") }

// wire adds or takes away the rules. FORWARD is the way of what pods send.
func (k *kind) wire(ctx context.Context, node, verb string) error {
	for _, rule := range [][]string{{"INPUT", "-i", "eth0"}, {"OUTPUT", "-o", "eth0"}, {"FORWARD", "-i", "eth0"}, {"FORWARD", "-o", "eth0"}} {
		args := append([]string{"exec", node, "iptables", "-w", verb}, rule...)
		if _, err := run(ctx, "docker", append(args, "-j", "DROP")...); err != nil {
			return err
		}
	}
	return nil
}
