// Package walread opens an exported etcd WAL with etcd's own reader: what it reads is what etcd would.
package walread

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keepstone.io/conformance/harness"
)

// TestExportedWAL reads WALREAD_DIR, a data directory with member/wal and perhaps member/snap. Without it, the
// directory is that of a real etcd, written here: which proves the reading.
func TestExportedWAL(t *testing.T) {
	dir := os.Getenv("WALREAD_DIR")
	if dir == "" {
		dir = writtenByEtcd(t)
	}
	puts := read(t, dir)
	t.Logf("%d puts", puts)
	if os.Getenv("WALREAD_DIR") == "" {
		require.Equal(t, 10, puts)
	}
}

func writtenByEtcd(t *testing.T) string {
	t.Helper()
	server := harness.Start(t, harness.Etcd(t))
	client := server.Client()
	for range 10 {
		_, err := client.Put(harness.Context(t), "a", "b", clientv3.WithPrevKV())
		require.NoError(t, err)
	}
	server.Stop()
	return server.Dir
}

// read checks that the log is one etcd could start from and counts the puts in it.
func read(t *testing.T, dir string) (puts int) {
	t.Helper()
	logger := zap.NewNop()
	wals := filepath.Join(dir, "member", "wal")
	start := walpb.Snapshot{}
	snapshots, err := wal.ValidSnapshotEntries(logger, wals)
	require.NoError(t, err)
	snaps := filepath.Join(dir, "member", "snap")
	if _, err := os.Stat(snaps); err == nil {
		snapshot, err := snap.New(logger, snaps).LoadNewestAvailable(snapshots)
		if err == nil {
			start = walpb.Snapshot{Index: snapshot.Metadata.Index, Term: snapshot.Metadata.Term, ConfState: &snapshot.Metadata.ConfState}
		} else {
			require.ErrorIs(t, err, snap.ErrNoSnapshot)
		}
	}
	log, err := wal.OpenForRead(logger, wals, start)
	require.NoError(t, err)
	defer log.Close()
	metadata, state, entries, err := log.ReadAll()
	require.NoError(t, err)
	var who pb.Metadata
	require.NoError(t, who.Unmarshal(metadata))
	require.NotZero(t, who.NodeID)
	require.NotZero(t, who.ClusterID)

	last := start.Index
	for _, entry := range entries {
		require.Equal(t, last+1, entry.Index, "no gap")
		last = entry.Index
		if entry.Type != raftpb.EntryNormal || len(entry.Data) == 0 {
			continue
		}
		var request pb.InternalRaftRequest
		require.NoError(t, request.Unmarshal(entry.Data))
		if request.Put != nil {
			puts++
		}
	}
	require.LessOrEqual(t, state.Commit, last, "nothing is committed that is not there")
	return puts
}
