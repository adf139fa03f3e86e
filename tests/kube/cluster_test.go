package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// compactionInterval is how often the apiserver compacts the store, up to where it was one interval before. Small, so
// that compactions fall between the kills.
const compactionInterval = 5 * time.Second

// cluster is one member of the store and one apiserver on it, on loopback ports and in a directory of their own.
type cluster struct {
	t         *testing.T
	store     *process
	apiserver *process
	endpoint  string // the store's, for clients
	config    *rest.Config
	downtimes []time.Duration // from each kill until the store answered again
}

// newCluster starts both and waits until the apiserver is ready. All of it is gone at the end of the test.
func newCluster(ctx context.Context, t *testing.T) *cluster {
	t.Helper()
	storeBin := os.Getenv("KEEPSTONE_BIN")
	if storeBin == "" {
		t.Fatal("KEEPSTONE_BIN must name the binary under test")
	}
	dir := t.TempDir()
	ports := freePorts(t, 3)
	c := &cluster{t: t, endpoint: fmt.Sprintf("http://127.0.0.1:%d", ports[0])}
	c.store = &process{name: "store", bin: storeBin, log: logFile(t, dir, "store.log"), args: storeFlags(dir, c.endpoint, ports[1])}
	c.apiserver = &process{name: "kube-apiserver", bin: toolBin(t, "KUBE_APISERVER_BIN", "kube-apiserver"), log: logFile(t, dir, "apiserver.log")}

	certificates := filepath.Join(dir, "pki")
	if err := os.Mkdir(certificates, 0o700); err != nil {
		t.Fatal(err)
	}
	pki := newPKI(t, certificates)
	c.apiserver.args = apiserverFlags(pki, c.endpoint, ports[2])
	c.config = &rest.Config{
		Host: fmt.Sprintf("https://127.0.0.1:%d", ports[2]),
		QPS:  -1,
		TLSClientConfig: rest.TLSClientConfig{
			CAFile: pki.path("ca.crt"), CertFile: pki.path("admin.crt"), KeyFile: pki.path("admin.key"),
		},
	}
	t.Cleanup(c.stop)
	c.store.start(t)
	eventually(ctx, t, "start the store", c.healthy)
	c.apiserver.start(t)
	return c
}

func storeFlags(dir, endpoint string, peerPort int) []string {
	peer := fmt.Sprintf("http://127.0.0.1:%d", peerPort)
	return []string{
		"--name", "kube", "--data-dir", filepath.Join(dir, "data"),
		"--listen-client-urls", endpoint, "--advertise-client-urls", endpoint,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "kube=" + peer,
	}
}

func apiserverFlags(pki *pki, endpoint string, port int) []string {
	return []string{
		"--etcd-servers=" + endpoint,
		"--etcd-compaction-interval=" + compactionInterval.String(),
		"--watch-cache-sizes=secrets#0", // no watch cache for secrets
		"--event-ttl=5s",
		"--lease-reuse-duration-seconds=1",
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none", // it refuses loopback addresses
		"--authorization-mode=RBAC", "--anonymous-auth=false", "--profiling=false",
		"--client-ca-file=" + pki.path("ca.crt"),
		"--tls-cert-file=" + pki.path("apiserver.crt"), "--tls-private-key-file=" + pki.path("apiserver.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + pki.path("sa.pub"), "--service-account-signing-key-file=" + pki.path("sa.key"),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--cert-dir=" + pki.dir,
	}
}

// toolBin is what the variable names, or a program that build.sh makes here; cold that takes minutes.
func toolBin(t *testing.T, variable, name string) string {
	t.Helper()
	if bin := os.Getenv(variable); bin != "" {
		return bin
	}
	dir := t.TempDir()
	if out, err := exec.Command("./build.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("build.sh: %v\n%s", err, out)
	}
	return filepath.Join(dir, name)
}

// logFile is in the test's directory, or in KUBE_LOGS to be kept.
func logFile(t *testing.T, dir, name string) string {
	t.Helper()
	if keep := os.Getenv("KUBE_LOGS"); keep != "" {
		dir = keep
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ready is nil once the apiserver's own checks pass.
func (c *cluster) ready(ctx context.Context, a *api) error {
	if !c.apiserver.running() {
		return fmt.Errorf("kube-apiserver ended: %v", c.apiserver.cmd.ProcessState)
	}
	_, err := a.call(ctx, "GET", "/readyz", nil, "", nil)
	return err
}

// healthy is nil once the store serves.
func (c *cluster) healthy() error {
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get(c.endpoint + "/health")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var health struct{ Health string }
	if err := json.NewDecoder(answer.Body).Decode(&health); err != nil {
		return err
	}
	if health.Health != "true" {
		return fmt.Errorf("health is %q", health.Health)
	}
	return nil
}

// crash kills the store and brings it back on the data it left.
func (c *cluster) crash(ctx context.Context) {
	c.t.Helper()
	killed := time.Now()
	c.store.kill(c.t)
	c.store.start(c.t)
	eventually(ctx, c.t, "start the store again", func() error {
		if !c.store.running() {
			c.t.Fatalf("the store ended by itself after a kill: %v", c.store.cmd.ProcessState)
		}
		return c.healthy()
	})
	c.downtimes = append(c.downtimes, time.Since(killed).Round(time.Millisecond))
}

func (c *cluster) stop() {
	c.apiserver.end()
	c.store.end()
	if c.t.Failed() {
		c.t.Logf("kube-apiserver:\n%s\nstore:\n%s", c.apiserver.tail(40), c.store.tail(40))
	}
}
