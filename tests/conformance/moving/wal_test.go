package moving

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keepstone.io/conformance/harness"
)

// TestExportedLogReads reads an exported log with etcd's reader: every write is there once, as etcd would have logged it.
func TestExportedLogReads(t *testing.T) {
	ctx := harness.Context(t)
	server := harness.Start(t, harness.UnderTest(t))
	client := server.Client()
	lease := must(client.Grant(ctx, 1))(t)
	must(client.Put(ctx, "short", "", clientv3.WithLease(lease.ID)))(t)
	harness.Eventually(t, "the lease is over", func() bool {
		return must(client.Get(ctx, "short"))(t).Count == 0
	})
	fill(ctx, t, client)
	status := must(client.Status(ctx, server.Addr))(t)
	target := exported(t, server)

	wals := filepath.Join(target, "member", "wal")
	_, err := wal.Verify(zap.NewNop(), wals, walpb.Snapshot{})
	require.NoError(t, err)
	log, err := wal.OpenForRead(zap.NewNop(), wals, walpb.Snapshot{})
	require.NoError(t, err)
	defer log.Close()
	metadata, state, entries, err := log.ReadAll()
	require.NoError(t, err)
	var who pb.Metadata
	require.NoError(t, who.Unmarshal(metadata))
	require.Equal(t, []uint64{status.Header.MemberId, status.Header.ClusterId}, []uint64{who.NodeID, who.ClusterID})
	require.NotZero(t, state.Term)

	kinds := map[string]int{}
	for i, entry := range entries {
		require.Equal(t, uint64(i+1), entry.Index)
		kinds[kindOf(t, entry, status.Header.MemberId)]++
	}
	delete(kinds, "blank")
	require.Equal(t, map[string]int{
		"conf change": 1, "member attributes": 1, "cluster version": 1,
		"put": 1 + 50 + 1 + 1 + 1, "delete": 2, "txn": 4, "compaction": 1,
		"lease grant": 1 + 4, "lease revoke": 1 + 1,
	}, kinds)
}

func kindOf(t *testing.T, entry raftpb.Entry, member uint64) string {
	t.Helper()
	if entry.Type == raftpb.EntryConfChange {
		var change raftpb.ConfChange
		require.NoError(t, change.Unmarshal(entry.Data))
		require.Equal(t, raftpb.ConfChangeAddNode, change.Type)
		require.Equal(t, member, change.NodeID)
		require.Contains(t, string(change.Context), `"peerURLs":["http://127.0.0.1:`)
		return "conf change"
	}
	if len(entry.Data) == 0 {
		return "blank"
	}
	var request pb.InternalRaftRequest
	require.NoError(t, request.Unmarshal(entry.Data))
	switch {
	case request.Put != nil:
		return "put"
	case request.DeleteRange != nil:
		return "delete"
	case request.Txn != nil:
		return "txn"
	case request.Compaction != nil:
		return "compaction"
	case request.LeaseGrant != nil:
		return "lease grant"
	case request.LeaseRevoke != nil:
		return "lease revoke"
	case request.ClusterVersionSet != nil:
		return "cluster version"
	case request.ClusterMemberAttrSet != nil:
		return "member attributes"
	}
	return request.String()
}

// TestExportedLogReplays starts an etcd on an exported log and nothing else: applied by etcd, it makes the same store.
func TestExportedLogReplays(t *testing.T) {
	ctx := harness.Context(t)
	server := harness.Start(t, harness.UnderTest(t))
	fill(ctx, t, server.Client())
	before := contentOf(ctx, t, server)
	reference := harness.Start(t, harness.Etcd(t), harness.Data(exported(t, server)))
	require.Equal(t, before, contentOf(ctx, t, reference))
}
