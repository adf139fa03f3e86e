// Package moving takes data from etcd into Keepstone and out again: backups restored, logs exported. It needs the
// sub-commands of keepstone, so KEEPSTONE_BIN can't name an etcd here.
package moving

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keepstone.io/conformance/harness"
)

// compacted is the revision that fill compacts at: the oldest that can be read.
const compacted = 30

// content is everything a client can learn of a store.
type content struct {
	Revision int64
	Now, Old []*mvccpb.KeyValue
	Leases   map[string]string
	Events   []string // all since the compaction, in the order a watcher gets them
	Hashes   []uint32
}

func contentOf(ctx context.Context, t *testing.T, server *harness.Server) content {
	t.Helper()
	client := server.Client()
	all := must(client.Get(ctx, "", clientv3.WithPrefix()))(t)
	c := content{Revision: all.Header.Revision, Now: all.Kvs, Leases: harness.Leases(ctx, t, client)}
	c.Old = must(client.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(compacted)))(t).Kvs
	c.Events = events(ctx, t, client, c.Revision)
	// Not at the compaction itself: etcd remembers what it hashed there while compacting, until it restarts.
	for _, revision := range []int64{compacted + 1, c.Revision - 1, 0} {
		c.Hashes = append(c.Hashes, must(client.HashKV(ctx, server.Addr, revision))(t).Hash)
	}
	return c
}

// events watches from the compaction up to a revision, which must be a write of a key.
func events(ctx context.Context, t *testing.T, client *clientv3.Client, upTo int64) (seen []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for response := range client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(compacted+1), clientv3.WithPrevKV()) {
		require.NoError(t, response.Err())
		last := int64(0)
		for _, event := range response.Events {
			seen = append(seen, (*mvccpb.Event)(event).String())
			last = event.Kv.ModRevision
		}
		if last == upTo {
			return seen
		}
	}
	t.Fatalf("the watch ended after %d events", len(seen))
	return nil
}

// fill writes a history with everything in it: overwritten and deleted keys, transactions, leases (one of them revoked),
// a large value, a compaction. It ends with a put.
func fill(ctx context.Context, t *testing.T, client *clientv3.Client) {
	t.Helper()
	for i := range 50 {
		must(client.Put(ctx, fmt.Sprintf("s/%d", i%20), fmt.Sprint(i)))(t)
	}
	must(client.Delete(ctx, "s/3"))(t)
	must(client.Put(ctx, "s/3", "again"))(t)
	must(client.Delete(ctx, "s/1", clientv3.WithPrefix()))(t)
	for i := range 4 {
		lease := harness.Lease(ctx, t, client, int64(1000+i))
		if i == 0 {
			must(client.Revoke(ctx, lease))(t)
		}
	}
	must(client.Put(ctx, "large", string(make([]byte, 100_000))))(t)
	must(client.Compact(ctx, compacted, clientv3.WithCompactPhysical()))(t)
	must(client.Put(ctx, "last", "one"))(t)
}

func save(ctx context.Context, t *testing.T, server *harness.Server) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "backup.db")
	harness.Run(t, harness.Etcdctl(t), "--endpoints", server.URL(), "snapshot", "save", file)
	return file
}

// restored is a member that starts from a backup, made by `program restore`.
func restored(t *testing.T, server string, restore []string, file string, flags ...string) *harness.Server {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	return harness.Start(t, server, harness.Data(dir), harness.Before(func(s *harness.Server) {
		args := append(append([]string{}, restore[1:]...), file, "--data-dir", dir, "--name", "default",
			"--initial-cluster", "default="+s.PeerURL(), "--initial-advertise-peer-urls", s.PeerURL())
		harness.Run(t, restore[0], append(args, flags...)...)
	}))
}

func keepstone(t *testing.T, file string, flags ...string) *harness.Server {
	t.Helper()
	bin := harness.UnderTest(t)
	return restored(t, bin, []string{bin, "restore"}, file, flags...)
}

func etcd(t *testing.T, file string, flags ...string) *harness.Server {
	t.Helper()
	return restored(t, harness.Etcd(t), []string{harness.Etcdutl(t), "snapshot", "restore"}, file, flags...)
}

// TestInAndOut goes from etcd to Keepstone, on to another Keepstone, and back to etcd. Everybody sees the same.
func TestInAndOut(t *testing.T) {
	ctx := harness.Context(t)
	source := harness.Start(t, harness.Etcd(t))
	fill(ctx, t, source.Client())
	before := contentOf(ctx, t, source)

	first := keepstone(t, save(ctx, t, source))
	require.Equal(t, before, contentOf(ctx, t, first))
	_, err := first.Client().Get(ctx, "s/1", clientv3.WithRev(compacted-1))
	require.ErrorContains(t, err, "required revision has been compacted")

	// It goes on as a member does: further writes, a restart, leases that end.
	client := first.Client()
	require.Equal(t, before.Revision+1, must(client.Put(ctx, "after", "in"))(t).Header.Revision)
	leases := must(client.Leases(ctx))(t).Leases
	must(client.Revoke(ctx, leases[0].ID))(t)
	must(client.Put(ctx, "last", "two"))(t)
	after := contentOf(ctx, t, first)
	require.Len(t, after.Leases, len(before.Leases)-1)
	first.Kill()
	first.Restart()
	require.Equal(t, after, contentOf(ctx, t, first))

	second := keepstone(t, save(ctx, t, first))
	require.Equal(t, after, contentOf(ctx, t, second))
	back := etcd(t, save(ctx, t, second))
	require.Equal(t, after, contentOf(ctx, t, back))
}

// TestSameIdentity gives a restored member the IDs that etcdutl gives it.
func TestSameIdentity(t *testing.T) {
	ctx := harness.Context(t)
	source := harness.Start(t, harness.Etcd(t))
	must(source.Client().Put(ctx, "a", "b"))(t)
	file := save(ctx, t, source)
	token := []string{"--initial-cluster-token", "another"}
	reference := etcd(t, file, token...)
	peer := reference.PeerURL()
	reference.Stop()
	args := []string{"restore", file, "--data-dir", filepath.Join(t.TempDir(), "restored"),
		"--initial-cluster", "default=" + peer, "--initial-advertise-peer-urls", peer}
	out := harness.Run(t, harness.UnderTest(t), append(args, token...)...)
	reference.Restart()
	header := must(reference.Client().Get(ctx, "a"))(t).Header
	require.Contains(t, out, fmt.Sprintf("member %x of cluster %x", header.MemberId, header.ClusterId))
}

// TestBumpedRevision restores with a bump on either side, and on top of the other's.
func TestBumpedRevision(t *testing.T) {
	ctx := harness.Context(t)
	source := harness.Start(t, harness.Etcd(t))
	fill(ctx, t, source.Client())
	file := save(ctx, t, source)
	bump := []string{"--bump-revision", "1000", "--mark-compacted"}
	reference, subject := etcd(t, file, bump...), keepstone(t, file, bump...)
	for _, server := range []*harness.Server{reference, subject, keepstone(t, save(ctx, t, reference))} {
		client := server.Client()
		all := must(client.Get(ctx, "", clientv3.WithPrefix()))(t)
		want := must(reference.Client().Get(ctx, "", clientv3.WithPrefix()))(t)
		require.Equal(t, want.Kvs, all.Kvs)
		require.Equal(t, want.Header.Revision, all.Header.Revision)
		_, err := client.Get(ctx, "last", clientv3.WithRev(all.Header.Revision-1))
		require.ErrorContains(t, err, "required revision has been compacted")
		watch := <-client.Watch(ctx, "last", clientv3.WithRev(compacted+1))
		require.Equal(t, all.Header.Revision, watch.CompactRevision)
	}
	next := must(subject.Client().Put(ctx, "after", ""))(t).Header.Revision
	require.Equal(t, must(reference.Client().Put(ctx, "after", ""))(t).Header.Revision, next)
}

// TestDatabaseOfAStoppedMember restores the file that a member of etcd leaves in its data directory.
func TestDatabaseOfAStoppedMember(t *testing.T) {
	ctx := harness.Context(t)
	source := harness.Start(t, harness.Etcd(t))
	fill(ctx, t, source.Client())
	before := contentOf(ctx, t, source)
	source.Stop()
	file := filepath.Join(source.Dir, "member", "snap", "db")
	out, err := exec.Command(harness.UnderTest(t), "restore", file, "--data-dir", filepath.Join(t.TempDir(), "no")).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "--skip-hash-check")
	require.Equal(t, before, contentOf(ctx, t, keepstone(t, file, "--skip-hash-check")))
}

// TestProtectedBackup refuses what could only be restored without its protection.
func TestProtectedBackup(t *testing.T) {
	ctx := harness.Context(t)
	source := harness.Start(t, harness.Etcd(t))
	client := source.Client()
	must(client.UserAdd(ctx, "root", "secret"))(t)
	must(client.UserGrantRole(ctx, "root", "root"))(t)
	must(client.AuthEnable(ctx))(t)
	source.Stop()
	dir := filepath.Join(t.TempDir(), "no")
	file := filepath.Join(source.Dir, "member", "snap", "db")
	out, err := exec.Command(harness.UnderTest(t), "restore", file, "--skip-hash-check", "--data-dir", dir).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "users and roles")
	require.NoDirExists(t, dir)
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		require.NoError(t, err)
		return value
	}
}

func exported(t *testing.T, server *harness.Server) string {
	t.Helper()
	server.Stop()
	target := filepath.Join(t.TempDir(), "exported")
	harness.Run(t, server.Bin(), "wal", "export", target, "--data-dir", server.Dir)
	require.DirExists(t, filepath.Join(target, "member", "wal"))
	entries, err := os.ReadDir(target)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	return target
}
