package harness

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Patience bounds every wait for a condition. It is there to end a hanging test, not to measure anything.
const Patience = 60 * time.Second

// Server is one member on free loopback ports with a data directory of its own. Everything it leaves is removed at the
// end of the test.
type Server struct {
	Dir      string // data directory
	Addr     string // host:port for clients
	PeerAddr string // host:port for peers

	t      testing.TB
	bin    string
	flags  []string
	env    []string
	before func(*Server)
	secure *tls.Config
	log    string
	cmd    *exec.Cmd
	died   chan struct{}
}

// Option changes how a server is started.
type Option func(*Server)

// Flags appends command line flags.
func Flags(flags ...string) Option {
	return func(s *Server) { s.flags = append(s.flags, flags...) }
}

// Env adds name=value pairs to the server's environment.
func Env(pairs ...string) Option {
	return func(s *Server) { s.env = append(s.env, pairs...) }
}

// Data starts the server on an existing data directory.
func Data(dir string) Option {
	return func(s *Server) { s.Dir = dir }
}

// Secure has the server listen on https for clients, who connect with config. The server's own certificate is a matter
// of Flags.
func Secure(config *tls.Config) Option {
	return func(s *Server) { s.secure = config }
}

// Before runs something once the server has its addresses and has not started yet.
func Before(act func(*Server)) Option {
	return func(s *Server) { s.before = act }
}

// Start runs bin until it serves clients, or fails the test.
func Start(t testing.TB, bin string, options ...Option) *Server {
	t.Helper()
	work := t.TempDir()
	s := &Server{t: t, bin: bin, Dir: filepath.Join(work, "data"), log: filepath.Join(work, "log")}
	for _, option := range options {
		option(s)
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("the end of %s's log:\n%s", filepath.Base(s.bin), s.logTail())
		}
	})
	s.Addr, s.PeerAddr = FreeAddr(t), FreeAddr(t)
	if s.before != nil {
		s.before(s)
	}
	s.launch()
	if err := s.ready(); err != nil {
		if s.before != nil || !strings.Contains(s.logTail(), "in use") {
			t.Fatalf("%s did not start: %v", bin, err)
		}
		// Somebody took a port between our look and the server's bind.
		s.Kill()
		s.Addr, s.PeerAddr = FreeAddr(t), FreeAddr(t)
		s.launch()
		if err := s.ready(); err != nil {
			t.Fatalf("%s did not start: %v", bin, err)
		}
	}
	return s
}

// Log is all that the server has said so far.
func (s *Server) Log() string {
	s.t.Helper()
	data, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(data)
}

// Bin is the path of the program that runs.
func (s *Server) Bin() string { return s.bin }

// URL is where clients and HTTP requests go.
func (s *Server) URL() string {
	if s.secure != nil {
		return "https://" + s.Addr
	}
	return "http://" + s.Addr
}

// PeerURL is what the member advertises to peers.
func (s *Server) PeerURL() string { return "http://" + s.PeerAddr }

// Stop asks the server to end and waits until it has.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server as a crash would and waits until it is gone. Killing a dead server does nothing.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Restart starts an ended server again on the same ports and data.
func (s *Server) Restart() {
	s.t.Helper()
	s.launch()
	if err := s.ready(); err != nil {
		s.t.Fatalf("%s did not start again: %v", s.bin, err)
	}
}

// RestartToDie starts an ended server again, with more in its environment, and waits until it has ended by itself.
// Returns its exit code.
func (s *Server) RestartToDie(env ...string) int {
	s.t.Helper()
	own := s.env
	s.env = append(append([]string(nil), own...), env...)
	s.launch()
	s.env = own
	return s.Ended()
}

// Dead is whether the server has ended by itself.
func (s *Server) Dead() bool {
	select {
	case <-s.died:
		return true
	default:
		return false
	}
}

// Ended waits until the server has ended by itself. Returns its exit code, -1 if a signal ended it.
func (s *Server) Ended() int {
	s.t.Helper()
	select {
	case <-s.died:
	case <-time.After(Patience):
		s.t.Fatalf("%s did not end", s.bin)
	}
	code := s.cmd.ProcessState.ExitCode()
	s.cmd = nil
	return code
}

// Client is an official client of this server, closed at the end of the test.
func (s *Server) Client() *clientv3.Client {
	s.t.Helper()
	return s.ClientWith(s.secure)
}

// ClientWith is Client with a TLS configuration of its own, and more gRPC options.
func (s *Server) ClientWith(config *tls.Config, options ...grpc.DialOption) *clientv3.Client {
	s.t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:          []string{s.URL()},
		DialTimeout:        Patience,
		DialOptions:        options,
		TLS:                config,
		MaxCallSendMsgSize: 64 << 20,
		MaxCallRecvMsgSize: 1 << 30,
		Logger:             zap.NewNop(),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

// Conn is a plain gRPC connection, for what the official client would not send. It is closed at the end of the test.
func (s *Server) Conn() *grpc.ClientConn {
	s.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+s.Addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(64<<20)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Pair starts two servers at once: the reference first, then the one under test.
func Pair(t testing.TB, options ...Option) (reference, subject *Server) {
	t.Helper()
	// A look at the paths first, on the test's own goroutine, so that a missing binary ends the test at once.
	bins := [2]string{Etcd(t), UnderTest(t)}
	var servers [2]*Server
	var both sync.WaitGroup
	for i := range bins {
		both.Add(1)
		go func() {
			defer both.Done()
			servers[i] = Start(t, bins[i], options...)
		}()
	}
	both.Wait()
	if servers[0] == nil || servers[1] == nil {
		t.FailNow()
	}
	return servers[0], servers[1]
}

func (s *Server) launch() {
	s.t.Helper()
	args := append([]string{
		"--name=default",
		"--data-dir=" + s.Dir,
		"--listen-client-urls=" + s.URL(), "--advertise-client-urls=" + s.URL(),
		"--listen-peer-urls=" + s.PeerURL(), "--initial-advertise-peer-urls=" + s.PeerURL(),
		"--initial-cluster=default=" + s.PeerURL(),
	}, s.flags...)
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	s.cmd = exec.Command(s.bin, args...)
	s.cmd.Env = append(os.Environ(), s.env...)
	s.cmd.Stdout, s.cmd.Stderr = out, out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	died := make(chan struct{})
	s.died = died
	cmd := s.cmd
	go func() {
		_ = cmd.Wait()
		close(died)
	}()
}

// ready waits until the member is healthy and the cluster version is settled: from then on its answers are those of
// a running member.
func (s *Server) ready() error {
	deadline := time.Now().Add(Patience)
	for time.Now().Before(deadline) {
		select {
		case <-s.died:
			return errors.New("it ended: " + s.cmd.ProcessState.String())
		default:
		}
		var health struct{ Health string }
		var version struct{ Etcdcluster string }
		if s.getJSON("/health", &health) == nil && health.Health == "true" &&
			s.getJSON("/version", &version) == nil && version.Etcdcluster != "not_decided" {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("not ready within %v", Patience)
}

func (s *Server) end(signal syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(signal)
	select {
	case <-s.died:
	case <-time.After(Patience):
		_ = s.cmd.Process.Kill()
		<-s.died
		s.t.Errorf("%s did not end on %v", s.bin, signal)
	}
	s.cmd = nil
}

func (s *Server) logTail() string {
	data, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	lines = lines[max(0, len(lines)-12):]
	for i, line := range lines {
		lines[i] = line[:min(len(line), 400)]
	}
	return string(bytes.Join(lines, []byte("\n")))
}

func (s *Server) getJSON(path string, into any) error {
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: s.secure}
	probe := &http.Client{Timeout: 5 * time.Second, Transport: transport}
	response, err := probe.Get(s.URL() + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

var (
	takenLock sync.Mutex
	taken     = map[string]bool{}
)

// FreeAddr is a loopback address nobody listens on, never the same one twice in this process.
func FreeAddr(t testing.TB) string {
	t.Helper()
	for {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := listener.Addr().String()
		_ = listener.Close()
		takenLock.Lock()
		seen := taken[addr]
		taken[addr] = true
		takenLock.Unlock()
		if !seen {
			return addr
		}
	}
}
