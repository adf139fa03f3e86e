package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"keepstone.io/e2e/history"
)

// TestAMemberThatIsKilled has the clients at a member that is killed twice: what they were told holds, and a history from
// which one acknowledged put is taken does not.
func TestAMemberThatIsKilled(t *testing.T) {
	runtime.LockOSThread() // the member dies with the thread that started it
	program := os.Getenv("KEEPSTONE_BIN")
	if program == "" {
		t.Fatal("KEEPSTONE_BIN names no program")
	}
	dir := t.TempDir()
	endpoint, peer := fmt.Sprintf("http://127.0.0.1:%d", freePort(t)), fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	start := func() *exec.Cmd {
		member := exec.Command(program, "--name=m", "--data-dir="+filepath.Join(dir, "m"), "--initial-cluster=m="+peer,
			"--listen-client-urls="+endpoint, "--advertise-client-urls="+endpoint,
			"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer)
		member.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := member.Start(); err != nil {
			t.Fatal(err)
		}
		return member
	}
	member := start()
	t.Cleanup(func() {
		_ = member.Process.Kill()
		_ = member.Wait()
	})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	r := newRecorder()
	load, err := startLoad(ctx, options{
		endpoint: endpoint, prefix: "/t/", writers: 3, readers: 2, pace: 2 * time.Millisecond, timeout: 5 * time.Second,
	}, r)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		acknowledged(ctx, t, r, 100)
		_ = member.Process.Kill()
		_ = member.Wait()
		member = start()
	}
	acknowledged(ctx, t, r, 100)
	if err := load.stop(ctx); err != nil {
		t.Fatal(err)
	}
	h := r.copy()
	for _, problem := range history.Check(h) {
		t.Error(problem)
	}
	t.Logf("%+v", history.Summarize(h))
	// The judge is awake: take a put's event away.
	for i, call := range h.Calls {
		if call.Kind == history.Put && call.Error == "" {
			at := -1
			for j, event := range h.Events {
				if event.Value == call.Value {
					at = j
				}
			}
			lost := &history.History{Calls: h.Calls, Events: append(append([]history.Event{}, h.Events[:at]...), h.Events[at+1:]...)}
			if len(history.Check(lost)) == 0 {
				t.Errorf("nobody misses call %d", i)
			}
			break
		}
	}
}

func acknowledged(ctx context.Context, t *testing.T, r *recorder, more int) {
	t.Helper()
	for want := r.summary().Puts + more; r.summary().Puts < want; {
		if pause(ctx, 10*time.Millisecond); ctx.Err() != nil {
			t.Fatalf("puts: %+v", r.summary())
		}
	}
}

// freePort is below those that the kernel gives to clients: one of them would be given to who dials it.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 10000 + rand.IntN(20000)
		if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			listener.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}
