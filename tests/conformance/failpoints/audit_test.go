package failpoints

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/datadir"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keepstone.io/conformance/harness"
)

// persisted reads the audit copy of a data directory as etcd's robustness tests read an etcd's log.
func persisted(t *testing.T, dir string) (requests []*pb.InternalRaftRequest) {
	t.Helper()
	log, err := wal.OpenForRead(zap.NewNop(), datadir.ToWALDir(dir), walpb.Snapshot{})
	require.NoError(t, err)
	defer log.Close()
	_, state, entries, err := log.ReadAll()
	require.NoError(t, err)
	for i, entry := range entries {
		require.Equal(t, uint64(i+1), entry.Index, "no gap, and none twice")
		if entry.Type != raftpb.EntryNormal || len(entry.Data) == 0 {
			continue
		}
		request := &pb.InternalRaftRequest{}
		require.NoError(t, request.Unmarshal(entry.Data))
		requests = append(requests, request)
	}
	require.LessOrEqual(t, state.Commit, uint64(len(entries)))
	return requests
}

func putsIn(requests []*pb.InternalRaftRequest) (puts []string) {
	for _, request := range requests {
		if request.Put != nil {
			puts = append(puts, string(request.Put.Key)+"="+string(request.Put.Value))
		}
	}
	return puts
}

// TestAuditCopy has all that was committed in etcd's log format, while the member runs, after it was killed, and after it
// died in the middle of it.
func TestAuditCopy(t *testing.T) {
	t.Parallel()
	m := start(t, harness.Env("KEEPSTONE_AUDIT_WAL=1"), harness.Flags("--snapshot-count=10", "--snapshot-catchup-entries=5"))
	client, ctx := m.Client(), harness.Context(t)
	var expected []string
	put := func(n int) {
		t.Helper()
		for i := range n {
			key, value := fmt.Sprintf("key-%d", len(expected)), fmt.Sprint(i)
			_, err := client.Put(ctx, key, value)
			require.NoError(t, err)
			expected = append(expected, key+"="+value)
		}
		require.Equal(t, expected, putsIn(persisted(t, m.Dir)))
	}
	put(20)
	m.Kill()
	require.Equal(t, expected, putsIn(persisted(t, m.Dir)))
	m.Restart()
	put(20)
	// What is in the store is not replayed.
	_, err := client.Defragment(ctx, m.Addr)
	require.NoError(t, err)
	put(5)
	m.Stop()
	m.Restart()
	put(5)
	lease, err := client.Grant(ctx, 100)
	require.NoError(t, err)
	_, err = client.Txn(ctx).Then(clientv3.OpPut("txn", "")).Commit()
	require.NoError(t, err)
	_, err = client.Revoke(ctx, lease.ID)
	require.NoError(t, err)
	_, err = client.Delete(ctx, "key-0")
	require.NoError(t, err)
	_, err = client.Compact(ctx, 10)
	require.NoError(t, err)
	last := persisted(t, m.Dir)
	last = last[len(last)-5:]
	require.NotNil(t, last[0].LeaseGrant)
	require.NotNil(t, last[1].Txn)
	require.Equal(t, int64(lease.ID), last[2].LeaseRevoke.ID)
	require.Equal(t, "key-0", string(last[3].DeleteRange.Key))
	require.EqualValues(t, 10, last[4].Compaction.Revision)
	// etcd's own check, too.
	_, err = wal.Verify(zap.NewNop(), filepath.Join(m.Dir, "member", "wal"), walpb.Snapshot{})
	require.NoError(t, err)
}

// TestAuditCopyUnderLoad: whatever was acknowledged before a death is in the copy, in the order of its revisions.
func TestAuditCopyUnderLoad(t *testing.T) {
	t.Parallel()
	m := start(t, harness.Env("KEEPSTONE_AUDIT_WAL=1"))
	l := newLoad(m)
	for _, point := range []string{"raftAfterSave", "beforeApplyOneEntryNormal", "raftBeforeAdvance", "afterCommit"} {
		trigger := puts
		if point == "afterCommit" {
			trigger = defragment
		}
		die(t, m, l, point, trigger)
		// The first put has revision 2, and there is nothing but puts.
		revisions := map[string]int64{}
		for i, put := range keysIn(persisted(t, m.Dir)) {
			revisions[put] = int64(i + 2)
		}
		all, err := m.Client().Get(harness.Context(t), "load/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		require.NoError(t, err)
		for _, kv := range all.Kvs {
			require.Equal(t, revisions[string(kv.Key)], kv.ModRevision, string(kv.Key))
		}
		require.NotEmpty(t, all.Kvs)
	}
}

func keysIn(requests []*pb.InternalRaftRequest) (keys []string) {
	for _, request := range requests {
		if request.Put != nil {
			keys = append(keys, string(request.Put.Key))
		}
	}
	return keys
}

// TestNoAuditCopyWithoutFailPoints: the variable alone asks for nothing.
func TestNoAuditCopyWithoutFailPoints(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Env("KEEPSTONE_AUDIT_WAL=1"))
	require.Contains(t, server.Log(), "KEEPSTONE_AUDIT_WAL has no effect")
	require.NoDirExists(t, filepath.Join(server.Dir, "member"))
}
