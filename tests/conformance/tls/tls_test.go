// Package tls looks at the server's TLS with official clients: who is let in and who is not, as compared with a real
// etcd, and what becomes of connections when certificates, CAs and revocation lists change on disk.
package tls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keepstone.io/conformance/harness"
)

// world is a CA, a server certificate and a client's.
type world struct {
	ca     *harness.Authority
	files  *harness.Files
	client harness.Issued
	// flags are those of a server that asks for certificates.
	flags []string
}

func newWorld(t *testing.T) world {
	t.Helper()
	ca, files := harness.NewAuthority(t, "ca"), harness.NewFiles(t)
	cert, key := files.Pair("server", ca.Issue(harness.Subject{CN: "server", Names: []string{"localhost", "127.0.0.1"}}))
	return world{
		ca:     ca,
		files:  files,
		client: ca.Issue(harness.Subject{CN: "client", Names: []string{"client.local"}}),
		flags: []string{
			"--cert-file=" + cert, "--key-file=" + key,
			"--trusted-ca-file=" + files.Put("ca.crt", ca.PEM), "--client-cert-auth",
		},
	}
}

func (w world) config(t *testing.T) *tls.Config { return harness.ClientTLS(t, &w.client, w.ca) }

func (w world) start(t *testing.T, more ...string) *harness.Server {
	t.Helper()
	return harness.Start(t, harness.UnderTest(t), harness.Secure(w.config(t)), harness.Flags(append(w.flags, more...)...))
}

func (w world) pair(t *testing.T, more ...string) (reference, subject *harness.Server) {
	t.Helper()
	return harness.Pair(t, harness.Secure(w.config(t)), harness.Flags(append(w.flags, more...)...))
}

// logs waits until the server has said something: its log is written behind its back.
func logs(t *testing.T, server *harness.Server, words string) {
	t.Helper()
	harness.Eventually(t, words, func() bool { return strings.Contains(server.Log(), words) })
}

// TestClientWithACertificate does with TLS what a client does: calls, streams, and etcdctl's flags.
func TestClientWithACertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := w.start(t)
	ctx, client := harness.Context(t), server.Client()
	watch := client.Watch(ctx, "k", clientv3.WithRev(1))
	_, err := client.Put(ctx, "k", "v")
	require.NoError(t, err)
	seen := <-watch
	require.NoError(t, seen.Err())
	require.Equal(t, "v", string(seen.Events[0].Kv.Value))
	logs(t, server, `"serving client traffic securely"`)
	require.NotContains(t, server.Log(), "insecurely")

	cert, key := w.files.Pair("client", w.client)
	ctl := func(args ...string) (string, error) {
		all := append([]string{"--endpoints=" + server.URL(), "--command-timeout=5s"}, args...)
		out, err := exec.CommandContext(ctx, harness.Etcdctl(t), all...).CombinedOutput()
		return string(out), err
	}
	ca := "--cacert=" + w.files.Path("ca.crt")
	out, err := ctl(ca, "--cert="+cert, "--key="+key, "get", "k", "--print-value-only")
	require.NoError(t, err, out)
	require.Equal(t, "v\n", out)
	out, err = ctl(ca, "--cert="+cert, "--key="+key, "endpoint", "health")
	require.NoError(t, err, out)
	out, err = ctl(ca, "get", "k")
	require.Error(t, err, out)
}

// TestWhoStaysOut shows both servers what must not get in, and compares what they say to it.
func TestWhoStaysOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	crl := w.files.Put("crl", w.ca.Revoke(99))
	reference, subject := w.pair(t, "--client-crl-file="+crl, "--client-cert-allowed-hostname=client.local,other.local",
		"--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
	other := harness.NewAuthority(t, "other")
	of := func(ca *harness.Authority, subject harness.Subject) *tls.Config {
		if subject.Names == nil {
			subject.Names = []string{"client.local"}
		}
		issued := ca.Issue(subject)
		return harness.ClientTLS(t, &issued, w.ca)
	}
	limit := func(config *tls.Config, change func(*tls.Config)) *tls.Config {
		change(config)
		return config
	}
	good := w.config(t)
	// Where rustls says something else than Go's TLS, to the same effect: two alerts, and the name of a protocol that both
	// sides speak anyway.
	otherwise := map[string]bool{"too old": true, "nothing, with 1.2": true, "asking for HTTP/1.1": true}
	for _, c := range []struct {
		name   string
		config *tls.Config
		let    bool
	}{
		{"one of its own", good, true},
		{"nothing", harness.ClientTLS(t, nil, w.ca), false},
		{"of another CA", of(other, harness.Subject{CN: "x"}), false},
		{"expired", of(w.ca, harness.Subject{CN: "x", Ended: true}), false},
		{"a server's", of(w.ca, harness.Subject{CN: "x", Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}), false},
		{"of another host", of(w.ca, harness.Subject{CN: "x", Names: []string{"third.local"}}), false},
		{"revoked", of(w.ca, harness.Subject{CN: "x", Serial: 99}), false},
		{"too old", limit(good.Clone(), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), false},
		{"with 1.2", limit(good.Clone(), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), true},
		{"with a cipher that is not allowed", limit(good.Clone(), func(c *tls.Config) {
			c.MaxVersion = tls.VersionTLS12
			c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
		}), false},
		{"nothing, with 1.2", limit(harness.ClientTLS(t, nil, w.ca), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), false},
		{"asking for another protocol", limit(good.Clone(), func(c *tls.Config) { c.NextProtos = []string{"foo"} }), false},
		{"asking for HTTP/1.1", limit(good.Clone(), func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }), true},
	} {
		want, got := greet(t, reference, c.config), greet(t, subject, c.config)
		if !otherwise[c.name] {
			require.Equal(t, want, got, c.name)
		}
		require.Equal(t, c.let, strings.HasPrefix(got, "let in"), "%s: %s", c.name, got)
	}
	for _, server := range []*harness.Server{reference, subject} {
		logs(t, server, `"rejected connection on client endpoint"`)
		logs(t, server, `client certificate authentication failed`)
		logs(t, server, `x509: certificate specifies an incompatible key usage`)
		logs(t, server, `transport: certificate serial 63 revoked`)
	}
}

// greet shakes hands and says what a client sees of it.
func greet(t *testing.T, server *harness.Server, config *tls.Config) string {
	t.Helper()
	config = config.Clone()
	config.ServerName = "localhost"
	raw, err := net.DialTimeout("tcp", server.Addr, harness.Patience)
	require.NoError(t, err)
	conn := tls.Client(raw, config)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(harness.Patience)))
	if err := conn.HandshakeContext(context.Background()); err != nil {
		return cause(err)
	}
	// With TLS 1.3 the server's opinion comes with the first byte. A request that both protocols refuse gets one.
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return cause(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		return cause(err)
	}
	state := conn.ConnectionState()
	return fmt.Sprintf("let in with %q and %s", state.NegotiatedProtocol, tls.VersionName(state.Version))
}

// cause is an error without addresses. A server that hangs up may do so before or after all was sent.
func cause(err error) string {
	text := regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(err.Error(), "HERE")
	for _, gone := range []string{"EOF", "connection reset by peer", "broken pipe"} {
		if strings.HasSuffix(text, gone) {
			return "hung up"
		}
	}
	return text
}

// TestPlainHTTPOnATLSPort gets what it gets from etcd: nothing.
func TestPlainHTTPOnATLSPort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	reference, subject := w.pair(t)
	said := func(server *harness.Server) string {
		conn, err := net.DialTimeout("tcp", server.Addr, harness.Patience)
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(harness.Patience)))
		_, err = io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(t, err)
		answer, err := io.ReadAll(conn)
		if err != nil {
			require.Contains(t, err.Error(), "connection reset by peer")
		}
		return string(answer)
	}
	require.Equal(t, said(reference), said(subject))
	for _, server := range []*harness.Server{reference, subject} {
		logs(t, server, "tls: first record does not look like a TLS handshake")
	}
}

// TestHTTPBesideGRPC asks for the plain HTTP paths with either protocol.
func TestHTTPBesideGRPC(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	reference, subject := w.pair(t, "--host-whitelist=nobody")
	for _, path := range []string{"/health", "/version", "/livez", "/readyz", "/nothing"} {
		for _, http2 := range []bool{false, true} {
			ask := func(server *harness.Server) string {
				transport := &http.Transport{TLSClientConfig: w.config(t), ForceAttemptHTTP2: http2}
				defer transport.CloseIdleConnections()
				client := http.Client{Transport: transport, Timeout: harness.Patience}
				response, err := client.Get(server.URL() + path)
				require.NoError(t, err)
				defer response.Body.Close()
				body, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				return fmt.Sprint(response.Proto, response.Status, string(body))
			}
			require.Equal(t, ask(reference), ask(subject), "%s, HTTP/2 %v", path, http2)
		}
	}
}

// TestOnePortForBoth has http and https on one address.
func TestOnePortForBoth(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, bin := range []string{harness.Etcd(t), harness.UnderTest(t)} {
		server := harness.Start(t, bin, harness.Flags(w.flags...), harness.Before(func(s *harness.Server) {
			harness.Flags("--listen-client-urls=http://" + s.Addr + ",https://" + s.Addr)(s)
		}))
		ctx := harness.Context(t)
		_, err := server.Client().Put(ctx, "k", "plain")
		require.NoError(t, err)
		secure, err := clientv3.New(clientv3.Config{Endpoints: []string{"https://" + server.Addr}, TLS: w.config(t)})
		require.NoError(t, err)
		defer secure.Close()
		got, err := secure.Get(ctx, "k")
		require.NoError(t, err)
		require.Equal(t, "plain", string(got.Kvs[0].Value))
		logs(t, server, "serving client traffic securely")
		logs(t, server, "serving client traffic insecurely; this is strongly discouraged!")
		server.Stop()
	}
}
