// Package driver is the one thing that scenarios know of the cluster they run in, besides its kubeconfig: how to give it an
// image, and how to have a node fail or be cut off.
package driver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// A Driver is a cluster's hardware.
type Driver interface {
	// LoadImage gives every node the images of an archive.
	LoadImage(ctx context.Context, archive string) error
	// FailNode is a loss of power: everything on the node ends at once. Its disk stays as it is.
	FailNode(ctx context.Context, node string) error
	// BootNode starts it again.
	BootNode(ctx context.Context, node string) error
	// CutNode takes the node off the network. Whatever runs there goes on.
	CutNode(ctx context.Context, node string) error
	// JoinNode puts it back.
	JoinNode(ctx context.Context, node string) error
}

// FromEnvironment is the driver that E2E_DRIVER names.
func FromEnvironment() (Driver, error) {
	switch name := os.Getenv("E2E_DRIVER"); name {
	case "lab":
		return &lab{program: os.Getenv("E2E_LAB"), dir: os.Getenv("E2E_LAB_DIR")}, nil
	case "kind":
		return &kind{cluster: "keepstone"}, nil
	default:
		return nil, fmt.Errorf("E2E_DRIVER is %q, neither lab nor kind", name)
	}
}

// run is a program that must succeed; it returns what it said.
func run(ctx context.Context, program string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}

// lab is the cluster of ../lab.
type lab struct{ program, dir string }

func (l *lab) do(ctx context.Context, verb, what string) error {
	_, err := run(ctx, l.program, verb, l.dir, what)
	return err
}

func (l *lab) LoadImage(ctx context.Context, archive string) error { return l.do(ctx, "load", archive) }
func (l *lab) FailNode(ctx context.Context, node string) error     { return l.do(ctx, "fail", node) }
func (l *lab) BootNode(ctx context.Context, node string) error     { return l.do(ctx, "boot", node) }
func (l *lab) CutNode(ctx context.Context, node string) error      { return l.do(ctx, "cut", node) }
func (l *lab) JoinNode(ctx context.Context, node string) error     { return l.do(ctx, "join", node) }
