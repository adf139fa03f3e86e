package etcdctl

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"keepstone.io/conformance/harness"
)

// lockedBuffer is written by a running command and read by the test.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}

func TestWatch(t *testing.T) {
	reference, subject := both(t)
	var printed [2]string
	for i, c := range []ctl{reference, subject} {
		c.ok("put", "w/a", "1")
		watch := c.stream("watch", "--prefix", "w/", "--rev=1", "--prev-kv")
		watch.prints("w/a\n1\n")
		c.ok("put", "w/a", "2")
		c.ok("put", "other", "2")
		c.ok("put", "w/b", "x")
		c.ok("del", "w/", "--prefix")
		watch.prints("w/b\n\n")
		watch.end()
		printed[i] = string(watch.out.Bytes())
	}
	require.Equal(t, "PUT\nw/a\n1\nPUT\nw/a\n1\nw/a\n2\nPUT\nw/b\nx\nDELETE\nw/a\n2\nw/a\n\nDELETE\nw/b\nx\nw/b\n\n", printed[0])
	require.Equal(t, printed[0], printed[1])

	same(t, reference, subject, "", "compaction", "4")
	same(t, reference, subject, "", "watch", "w/a", "--rev=2")
}

// TestLock holds a lock with one command while another waits for it.
func TestLock(t *testing.T) {
	_, c := both(t)
	first := c.stream("lock", "mine")
	first.prints("mine/")
	second := c.stream("lock", "mine")
	harness.Eventually(t, "two in line", func() bool {
		return strings.Count(c.ok("get", "--prefix", "mine/", "--keys-only"), "mine/") == 2
	})
	require.Empty(t, second.out.Bytes())
	require.NoError(t, first.cmd.Process.Signal(syscall.SIGINT))
	second.prints("mine/")
	require.Equal(t, "held\n", lastLine(c.ok("lock", "another", "echo", "held")))
}

func TestElect(t *testing.T) {
	_, c := both(t)
	listener := c.stream("elect", "-l", "boss")
	first := c.stream("elect", "boss", "one")
	first.prints("one\n")
	listener.prints("one\n")
	second := c.stream("elect", "boss", "two")
	harness.Eventually(t, "two in line", func() bool {
		return strings.Count(c.ok("get", "--prefix", "boss/", "--keys-only"), "boss/") == 2
	})
	require.NoError(t, first.cmd.Process.Signal(syscall.SIGINT))
	second.prints("two\n")
	listener.prints("two\n")
}

func TestKeepAlive(t *testing.T) {
	_, c := both(t)
	fields := strings.Fields(c.ok("lease", "grant", "2"))
	alive := c.stream("lease", "keep-alive", fields[1])
	alive.prints("keepalived with TTL(2)\n")
	c.ok("put", "--lease="+fields[1], "k", "v")
	harness.Eventually(t, "kept alive again", func() bool { return bytes.Count(alive.out.Bytes(), []byte("TTL(2)")) >= 3 })
	require.Equal(t, "k\nv\n", c.ok("get", "k"))
	alive.end()
	harness.Eventually(t, "the key gone", func() bool { return c.ok("get", "k") == "" })
}

// TestMakeMirror copies a keyspace from etcd to the server under test, and back from it.
func TestMakeMirror(t *testing.T) {
	reference, subject := both(t)
	for _, c := range [][2]ctl{{reference, subject}, {subject, reference}} {
		from, to := c[0], c[1]
		prefix := "m-" + from.server.Addr + "/"
		from.ok("put", prefix+"a", "1")
		from.stream("make-mirror", to.server.Addr, "--prefix="+prefix)
		harness.Eventually(t, "the base", func() bool { return to.ok("get", prefix+"a", "--print-value-only") == "1\n" })
		from.ok("put", prefix+"b", "2")
		from.ok("del", prefix+"a")
		harness.Eventually(t, "the changes", func() bool {
			return to.ok("get", "--prefix", prefix) == prefix+"b\n2\n"
		})
	}
}

// TestCheckPerf takes a minute and measures: it runs only where ETCDCTL_CHECK_PERF is set. The loads are fixed rates, and
// etcdctl needs most of a machine to make the large one. Where the check fails, etcd has its turn: it must fail as well, and
// be no faster. One run of either tells a tenth of them apart at best.
func TestCheckPerf(t *testing.T) {
	load := os.Getenv("ETCDCTL_CHECK_PERF")
	if load == "" {
		t.Log("not asked for: set ETCDCTL_CHECK_PERF=s (or m, l)")
		return
	}
	server := harness.Start(t, harness.UnderTest(t))
	ours := checkPerf(t, server, load)
	out, failed := ctl{t, harness.Etcdctl(t), server}.slow("check", "datascale", "--load=s")
	t.Log(verdicts(out))
	require.False(t, failed)
	server.Stop()
	if !ours.passed {
		theirs := checkPerf(t, harness.Start(t, harness.Etcd(t)), load)
		require.False(t, theirs.passed, "etcd passes on this machine")
		require.GreaterOrEqual(t, 10*ours.writes, 9*theirs.writes, "writes a second: %d, etcd's %d", ours.writes, theirs.writes)
	}
}

type perf struct {
	passed bool
	// Writes a second.
	writes int
}

// verdicts is what a check said, without its progress bar.
func verdicts(out string) string {
	return strings.Join(regexp.MustCompile(`(PASS|FAIL)\b.*`).FindAllString(out, -1), "\n")
}

// checkPerf runs `etcdctl check perf`.
func checkPerf(t *testing.T, server *harness.Server, load string) perf {
	t.Helper()
	out, failed := ctl{t, harness.Etcdctl(t), server}.slow("check", "perf", "--load="+load)
	t.Logf("%s, load %s:\n%s", filepath.Base(server.Bin()), load, verdicts(out))
	writes := regexp.MustCompile(`Throughput (?:is|too low:) (\d+) writes/s`).FindStringSubmatch(out)
	require.NotNil(t, writes, "no throughput in %s", out)
	number, err := strconv.Atoi(writes[1])
	require.NoError(t, err)
	return perf{passed: !failed, writes: number}
}

func lastLine(out string) string {
	lines := strings.SplitAfter(out, "\n")
	if lines[len(lines)-1] == "" && len(lines) > 1 {
		return lines[len(lines)-2]
	}
	return lines[len(lines)-1]
}
