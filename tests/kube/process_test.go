package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is one child of the test. It dies with the test's thread, whatever ends the test.
type process struct {
	name string
	bin  string
	args []string
	env  []string // besides that of the test
	log  string
	cmd  *exec.Cmd
	died chan struct{} // closed once the child that runs now has ended
}

// freePorts finds loopback ports below the range the kernel takes outgoing ports from: in that range a client that
// dials a port nobody listens on may be given the same port for itself, and then it holds the port of a member that
// is about to come back.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for tries := 0; len(ports) < n; tries++ {
		if tries == 1000 {
			t.Fatal("no free ports on the loopback interface")
		}
		port := 10000 + rand.IntN(20000)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer listener.Close()
		ports = append(ports, port)
	}
	return ports
}

// start runs the program. The caller holds its thread (runtime.LockOSThread): the kernel kills the child when the
// thread that started it ends.
func (p *process) start(t *testing.T) {
	t.Helper()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.cmd = exec.Command(p.bin, p.args...)
	p.cmd.Dir = filepath.Dir(p.log)
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		// These are settings to the store, and the ones of the test are none.
		return strings.HasPrefix(variable, "ETCD_") || strings.HasPrefix(variable, "KEEPSTONE_")
	})
	p.cmd.Env = append(p.cmd.Env, p.env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	cmd, died := p.cmd, make(chan struct{})
	p.died = died
	go func() {
		_ = cmd.Wait()
		close(died)
	}()
}

// kill ends the program as a power button does and waits until it is gone. It fails the test if it was gone before.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if !p.running() {
		t.Fatalf("%s ended on its own: %v", p.name, p.cmd.ProcessState)
	}
	p.end()
}

// end is kill without the question; for the clean-up.
func (p *process) end() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.died
}

func (p *process) running() bool {
	select {
	case <-p.died:
		return false
	default:
		return true
	}
}

// dialing is what every one of the apiserver's clients logs while the store is down; it would bury all else.
const dialing = "addrConn.createTransport failed to connect"

// tail is the end of the log, for the report of a failure.
func (p *process) tail(lines int) string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	all = slices.DeleteFunc(all, func(line string) bool { return strings.Contains(line, dialing) })
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// patience bounds each wait for a condition. It is there to end a hanging test, not to measure anything.
const patience = 2 * time.Minute

// eventually polls until the condition holds and fails the test when patience or ctx ends. The pause only paces the
// polling.
func eventually(ctx context.Context, t *testing.T, what string, condition func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("patience is over"))
	defer cancel()
	for {
		err := condition()
		if err == nil {
			return
		}
		if !pause(ctx, 50*time.Millisecond) {
			t.Fatalf("%s: %v (%v)", what, err, context.Cause(ctx))
		}
	}
}

// pause paces a retry; false says that ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
