// Package cluster runs several real members and looks at what clients, and people who make mistakes with data
// directories, see of them.
package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keepstone.io/conformance/harness"
)

// member is one process of a cluster. Its ports and data outlive it.
type member struct {
	t                  *testing.T
	bin, name, dir     string
	client, peer, logs string
	advertise          string // where the others find it, if that is not peer itself
	flags, env         []string
	cmd                *exec.Cmd
	done               chan struct{}
}

func (m *member) start() {
	m.t.Helper()
	out, err := os.OpenFile(m.logs, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	require.NoError(m.t, err)
	defer out.Close()
	m.cmd = exec.Command(m.bin, append([]string{
		"--name=" + m.name, "--data-dir=" + m.dir,
		"--listen-client-urls=http://" + m.client, "--advertise-client-urls=http://" + m.client,
		"--listen-peer-urls=http://" + m.peer, "--initial-advertise-peer-urls=http://" + m.reachable(),
	}, m.flags...)...)
	m.cmd.Env = append(os.Environ(), m.env...)
	m.cmd.Stdout, m.cmd.Stderr = out, out
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(m.t, m.cmd.Start())
	done := make(chan struct{})
	m.done = done
	go func() {
		_ = m.cmd.Wait()
		close(done)
	}()
}

func (m *member) reachable() string {
	if m.advertise != "" {
		return m.advertise
	}
	return m.peer
}

func (m *member) log() string {
	text, _ := os.ReadFile(m.logs)
	return string(text)
}

func (m *member) says(what string) {
	m.t.Helper()
	harness.Eventually(m.t, fmt.Sprintf("%s to say %q", m.name, what), func() bool {
		return strings.Contains(m.log(), what)
	})
}

func (m *member) ready() { m.t.Helper(); m.says("ready to serve client requests") }

func (m *member) end(signal syscall.Signal) {
	if m.done == nil {
		return
	}
	_ = m.cmd.Process.Signal(signal)
	<-m.done
	m.done = nil
}

// ended waits until the process has ended by itself.
func (m *member) ended() {
	m.t.Helper()
	select {
	case <-m.done:
		m.done = nil
	case <-time.After(harness.Patience):
		m.t.Fatalf("%s still runs", m.name)
	}
}

func (m *member) connect() *clientv3.Client {
	m.t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"http://" + m.client}, DialTimeout: harness.Patience, Logger: zap.NewNop(),
	})
	require.NoError(m.t, err)
	m.t.Cleanup(func() { _ = client.Close() })
	return client
}

// three starts the founders a, b and c, with the same flags.
func three(t *testing.T, bin string, flags ...string) []*member {
	t.Helper()
	all := []*member{newMember(t, bin, "a"), newMember(t, bin, "b"), newMember(t, bin, "c")}
	found(t, all, flags...)
	return all
}

// found starts the founders of a cluster.
func found(t *testing.T, all []*member, flags ...string) {
	t.Helper()
	var founders []string
	for _, m := range all {
		founders = append(founders, m.name+"=http://"+m.reachable())
	}
	for _, m := range all {
		m.flags = append([]string{"--initial-cluster=" + strings.Join(founders, ",")}, flags...)
		m.start()
	}
	for _, m := range all {
		m.ready()
	}
}

func newMember(t *testing.T, bin, name string) *member {
	t.Helper()
	work := t.TempDir()
	m := &member{
		t: t, bin: bin, name: name, dir: filepath.Join(work, name), logs: filepath.Join(work, name+".log"),
		client: harness.FreeAddr(t), peer: harness.FreeAddr(t),
	}
	t.Cleanup(func() {
		m.end(syscall.SIGKILL)
		if t.Failed() {
			lines := strings.Split(strings.TrimSpace(m.log()), "\n")
			t.Logf("the end of %s's log:\n%s", name, strings.Join(lines[max(0, len(lines)-12):], "\n"))
		}
	})
	return m
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	t.Cleanup(cancel)
	return ctx
}

// leader is the one that leads, and the others.
func leader(t *testing.T, all []*member) (*member, []*member) {
	t.Helper()
	var found *member
	var others []*member
	harness.Eventually(t, "a leader", func() bool {
		found, others = nil, nil
		for _, m := range all {
			status, err := m.connect().Status(within(t), m.client)
			if err != nil {
				return false
			}
			if status.Leader == status.Header.MemberId {
				found = m
			} else {
				others = append(others, m)
			}
		}
		return found != nil
	})
	return found, others
}
