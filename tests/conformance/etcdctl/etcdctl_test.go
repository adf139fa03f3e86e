// Package etcdctl runs the commands of an etcd guide with the real etcdctl, against a real etcd and against the server
// under test, and wants the same output wherever it does not name a server, a lease or a time.
package etcdctl

import (
	"bytes"
	"context"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"keepstone.io/conformance/harness"
)

// ctl is etcdctl bound to one server.
type ctl struct {
	t      *testing.T
	bin    string
	server *harness.Server
}

// run returns what a command prints and whether it failed.
func (c ctl) run(input string, args ...string) (string, bool) {
	c.t.Helper()
	cmd := c.command(harness.Context(c.t), args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err != nil
}

// slow is run for a command that takes longer than the harness's patience.
func (c ctl) slow(args ...string) (string, bool) {
	out, err := c.command(context.Background(), args...).CombinedOutput()
	return string(out), err != nil
}

func (c ctl) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, c.bin, append([]string{"--endpoints=" + c.server.Addr}, args...)...)
}

// ok is run for a command that must not fail.
func (c ctl) ok(args ...string) string {
	c.t.Helper()
	out, failed := c.run("", args...)
	require.False(c.t, failed, "%v: %s", args, out)
	return out
}

func both(t *testing.T, options ...harness.Option) (reference, subject ctl) {
	t.Helper()
	t.Parallel()
	a, b := harness.Pair(t, options...)
	bin := harness.Etcdctl(t)
	return ctl{t, bin, a}, ctl{t, bin, b}
}

// same runs one command on both and compares.
func same(t *testing.T, reference, subject ctl, input string, args ...string) string {
	t.Helper()
	want, wantFailed := reference.run(input, args...)
	got, gotFailed := subject.run(input, args...)
	require.Equal(t, wantFailed, gotFailed, "%v: etcd: %s, subject: %s", args, want, got)
	require.Equal(t, anonymous(reference, want), anonymous(subject, got), "%v", args)
	return got
}

var (
	ids   = regexp.MustCompile(`(?i)"(cluster_?id|member_?id|raft_?term|leader|id)" ?: ?\d+`)
	log   = regexp.MustCompile(`(?m)^\{"level":.*$`)
	stamp = regexp.MustCompile(`took = [0-9.]+[a-zµ]+|[0-9.]+ ?[kMG]?B|[0-9.]+[mµn]?s\b`)
)

// anonymous leaves out who answered, and how long it took.
func anonymous(c ctl, out string) string {
	out = strings.ReplaceAll(out, c.server.Addr, "SERVER")
	out = strings.ReplaceAll(out, c.server.PeerAddr, "PEER")
	out = ids.ReplaceAllString(out, `"$1":0`)
	out = log.ReplaceAllString(out, "LOG")
	return stamp.ReplaceAllString(out, "TOOK")
}

func TestGuide(t *testing.T) {
	reference, subject := both(t)
	for _, c := range []struct {
		input string
		args  string
	}{
		{"", "version"},
		{"", "put foo bar"},
		{"", "put foo1 bar1"},
		{"", "put foo2 bar2"},
		{"piped", "put foo3"},
		{"", "put foo baz --prev-kv"},
		{"", "get foo"},
		{"", "get foo --print-value-only"},
		{"", "get foo -w fields"},
		{"", "get foo --hex"},
		{"", "get foo foo3"},
		{"", "get --prefix foo"},
		{"", "get --prefix foo --keys-only"},
		{"", "get --prefix foo --limit=2"},
		{"", "get --prefix foo --count-only -w fields"},
		{"", "get --prefix foo --order=DESCEND --sort-by=MODIFY"},
		{"", "get --prefix foo --order=ASCEND --sort-by=VERSION -w json"},
		{"", "get --prefix foo --sort-by=CREATE"},
		{"", "get --prefix foo --sort-by=VALUE"},
		{"", "get --from-key foo1"},
		{"", "get foo --rev=2"},
		{"", "get foo --rev=99"},
		{"", "get foo --consistency=s"},
		{"", "get foo --consistency=l -w json"},
		{"", "get nothing"},
		{"", "del foo1"},
		{"", "del foo2 --prev-kv"},
		{"", "del --prefix none"},
		{"mod(\"foo\") > \"0\"\n\nput foo txn\nget foo\n\nput foo wrong\n\n", "txn -i"},
		{"value(\"foo\") = \"wrong\"\n\nput foo wrong\n\nget foo\ndel foo3\n\n", "txn"},
		{"create(\"none\") = \"0\"\n\nput dup 1\nput dup 2\n\n\n", "txn"},
		{"", "compaction 5"},
		{"", "compact 5"},
		{"", "get foo --rev=3"},
		{"", "compaction 6 --physical"},
		{"", "alarm list"},
		{"", "alarm disarm"},
		{"", "defrag"},
		{"", "endpoint hashkv"},
		{"", "endpoint hashkv --rev=8"},
		{"", "endpoint hashkv -w json"},
		{"", "endpoint health"},
		{"", "put --lease=1234 foo bar"},
		{"", "put --ignore-value missing"},
		{"", "lease timetolive 1234"},
		{"", "lease revoke 1234"},
		{"", "lease keep-alive --once 1234"},
		{"", "lease list"},
		{"", "auth status"},
	} {
		same(t, reference, subject, c.input, strings.Fields(c.args)...)
	}

	status := regexp.MustCompile(`^SERVER, [0-9a-f]+, 3\.6\.\d+, 3\.6\.0, .*, true, false, \d+, \d+, \d+, , , false\n$`)
	for _, c := range []ctl{reference, subject} {
		out := strings.ReplaceAll(c.ok("endpoint", "status"), c.server.Addr, "SERVER")
		require.Regexp(t, status, out)
		require.Regexp(t, `"storageVersion":"3.6.0"`, c.ok("endpoint", "status", "-w", "json"))
		require.Regexp(t, `, started, default, http://`+c.server.PeerAddr+`, http://`+c.server.Addr+`, false`, c.ok("member", "list"))
	}
}

func TestLeases(t *testing.T) {
	reference, subject := both(t)
	granted := regexp.MustCompile(`^lease ([0-9a-f]+) granted with TTL\(600s\)\n$`)
	for _, c := range []ctl{reference, subject} {
		match := granted.FindStringSubmatch(c.ok("lease", "grant", "600"))
		require.NotNil(t, match)
		id := match[1]
		require.Equal(t, "OK\n", c.ok("put", "--lease="+id, "leased", "1"))
		require.Regexp(t, `^lease `+id+` granted with TTL\(600s\), remaining\(\d+s\), attached keys\(\[leased\]\)\n$`,
			c.ok("lease", "timetolive", id, "--keys"))
		require.Equal(t, "lease "+id+" keepalived with TTL(600)\n", c.ok("lease", "keep-alive", "--once", id))
		require.Equal(t, "found 1 leases\n"+id+"\n", c.ok("lease", "list"))
		require.Equal(t, "lease "+id+" revoked\n", c.ok("lease", "revoke", id))
		require.Equal(t, "lease "+id+" already expired\n", c.ok("lease", "timetolive", id))
		require.Empty(t, c.ok("get", "leased"))
	}
}

func TestSnapshotSave(t *testing.T) {
	reference, subject := both(t)
	etcdutl := harness.Etcdutl(t)
	var status [2]string
	for i, c := range []ctl{reference, subject} {
		for _, key := range []string{"a", "b", "c"} {
			c.ok("put", key, "1")
		}
		// etcd looks every five seconds whether it can note its storage version.
		harness.Eventually(t, "a storage version", func() bool {
			return strings.Contains(c.ok("endpoint", "status", "-w", "json"), `"storageVersion":"3.6.0"`)
		})
		file := t.TempDir() + "/snapshot.db"
		require.Contains(t, c.ok("snapshot", "save", file), "Snapshot saved at "+file)
		out := harness.Run(t, etcdutl, "snapshot", "status", file)
		fields := strings.Split(out, ", ") // hash, revision, keys, size, version: hash and size are of the pages
		require.Len(t, fields, 5, out)
		status[i] = fields[1] + " " + strings.TrimSpace(fields[4])
	}
	require.Equal(t, status[0], status[1])
}

// stream is a command that runs until it is told to end.
type stream struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  lockedBuffer
	stop context.CancelFunc
}

func (c ctl) stream(args ...string) *stream {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{t: c.t, cmd: c.command(ctx, args...), stop: cancel}
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	require.NoError(c.t, s.cmd.Start())
	c.t.Cleanup(s.end)
	return s
}

func (s *stream) end() {
	s.stop()
	_ = s.cmd.Wait()
}

func (s *stream) prints(text string) {
	s.t.Helper()
	harness.Eventually(s.t, "printed "+text, func() bool { return bytes.Contains(s.out.Bytes(), []byte(text)) })
}
