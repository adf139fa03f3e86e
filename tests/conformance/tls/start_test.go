package tls

import (
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keepstone.io/conformance/harness"
)

// TestRefusedAtTheStart gives both servers what can't be, and looks for etcd's words in what they say.
func TestRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cert, key := w.files.Path("server.crt"), w.files.Path("server.key")
	other := w.files.Put("other.key", w.ca.Issue(harness.Subject{CN: "other"}).Key)
	junk := w.files.Put("junk", []byte("junk"))
	for _, c := range []struct {
		words string
		flags []string
	}{
		{"TLS key/cert (--cert-file, --key-file) must be provided for client url", nil},
		{"KeyFile and CertFile must both be present[key: , cert: " + cert + "]", []string{"--cert-file=" + cert}},
		{"open /none: no such file or directory", []string{"--cert-file=/none", "--key-file=" + key}},
		{"tls: private key does not match public key", []string{"--cert-file=" + cert, "--key-file=" + other}},
		{"tls: failed to find any PEM data in certificate input", []string{"--cert-file=" + junk, "--key-file=" + key}},
		{"tls: failed to find any PEM data in key input", []string{"--cert-file=" + cert, "--key-file=" + junk}},
		{"ClientKeyFile and ClientCertFile must both be present or both absent", append(w.flags, "--client-cert-file="+cert)},
		{"open /none: no such file or directory", append(w.flags, "--trusted-ca-file=/none")},
		{"unexpected TLS cipher suite \"nonsense\"", append(w.flags, "--cipher-suites=nonsense")},
		{"unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)", append(w.flags, "--tls-min-version=TLS1.1")},
		{"min version (TLS1.3) is greater than max version (TLS1.2)", append(w.flags, "--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2")},
		{"cipher suites cannot be configured when only TLS1.3 is enabled", append(w.flags, "--tls-min-version=TLS1.3", "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")},
		{"client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url", []string{"--listen-client-urls=http://" + harness.FreeAddr(t), "--listen-metrics-urls=https://" + harness.FreeAddr(t)}},
		{"KeyFile and CertFile are not presented", append(w.flags, "--listen-peer-urls=https://"+harness.FreeAddr(t))},
		{"selfSignedCertValidity is invalid,it should be greater than 0", []string{"--auto-tls", "--self-signed-cert-validity=0"}},
	} {
		for _, bin := range []string{harness.Etcd(t), harness.UnderTest(t)} {
			url := "https://" + harness.FreeAddr(t)
			args := append([]string{
				"--data-dir=" + filepath.Join(t.TempDir(), "data"), "--listen-client-urls=" + url,
				"--advertise-client-urls=" + url, "--listen-peer-urls=http://" + harness.FreeAddr(t),
			}, c.flags...)
			out, err := exec.CommandContext(harness.Context(t), bin, args...).CombinedOutput()
			require.Error(t, err, "%s %v", bin, c.flags)
			plain := strings.ReplaceAll(string(out), `\"`, `"`)
			require.Contains(t, plain, c.words, "%s %v", bin, c.flags)
		}
	}
}

// TestCertificatesOfItsOwnMaking are made once and found again, also by the other server on the same directory.
func TestCertificatesOfItsOwnMaking(t *testing.T) {
	t.Parallel()
	anybody := &tls.Config{InsecureSkipVerify: true}
	flags := harness.Flags("--auto-tls", "--peer-auto-tls")
	server := harness.Start(t, harness.UnderTest(t), harness.Secure(anybody), flags)
	ctx := harness.Context(t)
	_, err := server.Client().Put(ctx, "k", "v")
	require.NoError(t, err)
	shown := func(server *harness.Server) []byte {
		conn, err := tls.Dial("tcp", server.Addr, anybody)
		require.NoError(t, err)
		defer conn.Close()
		cert := conn.ConnectionState().PeerCertificates[0]
		require.Equal(t, []string{"etcd"}, cert.Subject.Organization)
		require.NoError(t, cert.VerifyHostname("127.0.0.1"))
		return cert.Raw
	}
	first := shown(server)
	server.Stop()
	server.Restart()
	require.Equal(t, first, shown(server))
	server.Stop()
	fixtures := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.CopyFS(filepath.Join(fixtures, "fixtures"), os.DirFS(filepath.Join(server.Dir, "fixtures"))))
	etcd := harness.Start(t, harness.Etcd(t), harness.Secure(anybody), flags, harness.Data(fixtures))
	require.Equal(t, first, shown(etcd))
}

// TestMetricsOverTLS asks a metrics URL of either scheme.
func TestMetricsOverTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plain, secure := "http://"+harness.FreeAddr(t), "https://"+harness.FreeAddr(t)
	w.start(t, "--listen-metrics-urls="+plain+","+secure)
	issued := w.ca.Issue(harness.Subject{CN: "scraper", Names: []string{"127.0.0.1"}})
	config := harness.ClientTLS(t, &issued, w.ca)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config}, Timeout: harness.Patience}
	for _, url := range []string{plain, secure} {
		response, err := client.Get(url + "/metrics")
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Contains(t, string(body), "etcd_server_has_leader 1")
	}
}

// TestUnixSockets serves clients on sockets of either kind.
func TestUnixSockets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir, err := os.MkdirTemp("", "ks")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// Go's client asks for a server of the file's name.
	plain, secure := filepath.Join(dir, "plain"), filepath.Join(dir, "localhost")
	harness.Start(t, harness.UnderTest(t), harness.Secure(w.config(t)), harness.Flags(w.flags...),
		harness.Before(func(s *harness.Server) {
			harness.Flags("--listen-client-urls=" + s.URL() + ",unix://" + plain + ",unixs://" + secure)(s)
		}))
	ctx := harness.Context(t)
	for url, config := range map[string]*tls.Config{"unix://" + plain: nil, "unixs://" + secure: w.config(t)} {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, TLS: config, DialTimeout: harness.Patience})
		require.NoError(t, err)
		_, err = client.Put(ctx, "k", url)
		require.NoError(t, err, url)
		require.NoError(t, client.Close())
	}
}
