// Package s3 has backups taken into a real S3 server, and clusters made of them, by keepstone's tools and by etcd's.
//
// It runs programs that are named in the environment, and fails where one is missing: KEEPSTONE_BIN, KEEPSTONE_OPERATOR_BIN,
// VERSITYGW_BIN and ETCDUTL_BIN.
package s3

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	access = "keepstone"
	secret = "not so secret"
	bucket = "backups"
	// Larger than one part of an upload, which is 16 MiB.
	values     = 40
	valueBytes = 1 << 20
)

func program(t *testing.T, name string) string {
	t.Helper()
	path := os.Getenv(name)
	if path == "" {
		t.Fatalf("%s names no program", name)
	}
	return path
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// start runs a program until the test ends. What it says is shown where the test fails.
func start(t *testing.T, command *exec.Cmd) {
	t.Helper()
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(command.Path), said.String())
		}
	})
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("not within a minute: %s", what)
}

// gateway is a bucket that is a directory.
type gateway struct {
	url, dir string
}

func startGateway(t *testing.T) gateway {
	t.Helper()
	root, port := t.TempDir(), freePort(t)
	dir := filepath.Join(root, "data", bucket)
	for _, dir := range []string{dir, filepath.Join(root, "sidecar")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	command := exec.Command(program(t, "VERSITYGW_BIN"), "--port", address, "--access", access, "--secret", secret,
		"posix", "--sidecar", filepath.Join(root, "sidecar"), filepath.Join(root, "data"))
	start(t, command)
	eventually(t, "the S3 server answers", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return gateway{url: "http://" + address, dir: dir}
}

type member struct {
	url string
}

func startMember(t *testing.T, data string) member {
	t.Helper()
	url := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	peer := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	start(t, exec.Command(program(t, "KEEPSTONE_BIN"), "--name=m", "--data-dir="+data, "--initial-cluster=m="+peer,
		"--listen-client-urls="+url, "--advertise-client-urls="+url, "--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer))
	m := member{url: url}
	eventually(t, "the member answers", func() bool {
		answer, err := http.Get(url + "/readyz")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	return m
}

func (m member) ask(t *testing.T, path string, question, answer any) {
	t.Helper()
	body, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	got, err := http.Post(m.url+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil || got.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", path, got.Status, text, err)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		t.Fatal(err)
	}
}

func encoded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func value(n int) string { return strings.Repeat(fmt.Sprintf("%07d\n", n), valueBytes/8) }

func (m member) put(t *testing.T, key, value string) {
	t.Helper()
	var answer map[string]any
	m.ask(t, "/v3/kv/put", map[string]string{"key": encoded(key), "value": encoded(value)}, &answer)
}

func (m member) get(t *testing.T, key string) (value, modified string) {
	t.Helper()
	var answer struct {
		Kvs []struct {
			Value       string `json:"value"`
			ModRevision string `json:"mod_revision"`
		} `json:"kvs"`
	}
	m.ask(t, "/v3/kv/range", map[string]string{"key": encoded(key)}, &answer)
	if len(answer.Kvs) != 1 {
		t.Fatalf("%d keys of the name %s", len(answer.Kvs), key)
	}
	decoded, err := base64.StdEncoding.DecodeString(answer.Kvs[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	return string(decoded), answer.Kvs[0].ModRevision
}

type object map[string]any

// store is as an EtcdBackup has it.
func (g gateway) at(key string) object {
	return object{"key": key, "store": object{"s3": object{
		"endpoint": g.url, "bucket": bucket, "region": "us-east-1", "forcePathStyle": true, "prefix": "prod/main",
	}}}
}

type artifact struct {
	URI       string `json:"uri"`
	SizeBytes int64  `json:"sizeBytes"`
	Sha256    string `json:"sha256"`
	Revision  int64  `json:"revision"`
}

type report struct {
	Taken  *artifact `json:"taken"`
	Failed struct {
		Reason, Why string
	} `json:"failed"`
}

// agent runs as in a Job, and gives back its termination message.
func agent(t *testing.T, task object, password string) (report, bool) {
	t.Helper()
	text, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "termination-log")
	command := exec.Command(program(t, "KEEPSTONE_OPERATOR_BIN"), "agent", "--report", file)
	command.Env = []string{
		"KEEPSTONE_TASK=" + string(text), "AWS_ACCESS_KEY_ID=" + access, "AWS_SECRET_ACCESS_KEY=" + password,
	}
	said, failed := command.CombinedOutput()
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if len(written) > 4096 {
		t.Fatalf("the termination message has %d bytes, and would be cut", len(written))
	}
	var got report
	if string(written) != `"done"` {
		if err := json.Unmarshal(written, &got); err != nil {
			t.Fatalf("%v: %s", err, written)
		}
	}
	return got, failed == nil
}

func take(t *testing.T, m member, g gateway, key, owner string) (report, bool) {
	t.Helper()
	return agent(t, object{"take": object{"endpoint": m.url, "to": g.at(key), "owner": owner}}, secret)
}

func hash(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

const key = "prod/main/nightly.db"

// backedUp is a bucket with a backup of a member with some data.
func backedUp(t *testing.T) (gateway, member, artifact) {
	t.Helper()
	g, m := startGateway(t), startMember(t, filepath.Join(t.TempDir(), "data"))
	for n := range values {
		m.put(t, fmt.Sprintf("key-%d", n), value(n))
	}
	got, well := take(t, m, g, key, "cluster-a")
	if !well || got.Taken == nil {
		t.Fatalf("not taken: %+v", got)
	}
	return g, m, *got.Taken
}

func TestABackupInABucketIsWhatItsRecordSays(t *testing.T) {
	g, m, taken := backedUp(t)
	file := filepath.Join(g.dir, key)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	want := artifact{URI: "s3://backups/" + key, SizeBytes: info.Size(), Sha256: hash(t, file), Revision: 1 + values}
	if taken != want {
		t.Errorf("the record says %+v, and it is %+v", taken, want)
	}
	if info.Size() < values*valueBytes {
		t.Errorf("%d bytes are too few to need parts", info.Size())
	}
	// Retention of two clusters in one place would remove each other's.
	if got, well := take(t, m, g, "prod/main/other.db", "cluster-b"); well || got.Failed.Reason != "StoreDenied" {
		t.Errorf("another cluster's backup: %v %+v", well, got)
	}
	if got, well := take(t, m, g, "prod/main/second.db", "cluster-a"); !well || got.Taken == nil {
		t.Errorf("a second backup: %+v", got)
	}
	for range 2 {
		if got, well := agent(t, object{"discard": object{"at": g.at(key)}}, secret); !well {
			t.Errorf("it is not discarded: %+v", got)
		}
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}

func TestWhoeverMayNotWriteIsTold(t *testing.T) {
	g, m := startGateway(t), startMember(t, filepath.Join(t.TempDir(), "data"))
	got, well := agent(t, object{"take": object{"endpoint": m.url, "to": g.at(key), "owner": "a"}}, "wrong")
	if well || got.Failed.Reason != "StoreDenied" {
		t.Errorf("%v %+v", well, got)
	}
	if entries, err := os.ReadDir(g.dir); err != nil || len(entries) != 0 {
		t.Errorf("%v %v", entries, err)
	}
}

func TestABackupInABucketBecomesAClusterAgain(t *testing.T) {
	g, m, taken := backedUp(t)
	m.put(t, "key-0", "changed since")
	dir := t.TempDir()
	fetched := filepath.Join(dir, "fetched.db")
	fetch := object{"fetch": object{"from": g.at(key), "sha256": taken.Sha256, "into": fetched}}
	if got, well := agent(t, fetch, secret); !well {
		t.Fatalf("not fetched: %+v", got)
	}
	if hash(t, fetched) != taken.Sha256 {
		t.Fatal("what was fetched is something else")
	}
	data := filepath.Join(dir, "data")
	output(t, "KEEPSTONE_BIN", "restore", fetched, "--data-dir="+data, "--name=m",
		"--initial-cluster=m=http://127.0.0.1:1", "--initial-advertise-peer-urls=http://127.0.0.1:1")
	restored := startMember(t, data)
	for n := range values {
		got, modified := restored.get(t, fmt.Sprintf("key-%d", n))
		if got != value(n) || modified != fmt.Sprint(n+2) {
			t.Fatalf("key-%d has %d bytes of revision %s", n, len(got), modified)
		}
	}
}

func TestEtcdsOwnToolsReadABackupFromABucket(t *testing.T) {
	g, _, taken := backedUp(t)
	file := filepath.Join(g.dir, key)
	var status struct {
		Revision int64 `json:"revision"`
		TotalKey int64 `json:"totalKey"`
	}
	if err := json.Unmarshal([]byte(output(t, "ETCDUTL_BIN", "snapshot", "status", file, "-w", "json")), &status); err != nil {
		t.Fatal(err)
	}
	if status.Revision != taken.Revision || status.TotalKey != values {
		t.Errorf("etcdutl says %+v", status)
	}
	// It checks the digest at the file's end.
	data := filepath.Join(t.TempDir(), "data")
	output(t, "ETCDUTL_BIN", "snapshot", "restore", file, "--data-dir", data)
	if _, err := os.Stat(filepath.Join(data, "member", "snap", "db")); err != nil {
		t.Error(err)
	}
}

func TestAFileThatWasChangedInTheBucketIsNotRestored(t *testing.T) {
	g, _, taken := backedUp(t)
	file := filepath.Join(g.dir, key)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	into := filepath.Join(t.TempDir(), "fetched.db")
	fetch := object{"fetch": object{"from": g.at(key), "sha256": taken.Sha256, "into": into}}
	if got, well := agent(t, fetch, secret); well || got.Failed.Reason != "HashMismatch" {
		t.Errorf("%v %+v", well, got)
	}
}
