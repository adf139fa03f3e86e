package conformance

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keepstone.io/conformance/harness"
)

// content is everything a client can learn of a store at its newest revision.
type content struct {
	Revision int64
	Kvs      []*mvccpb.KeyValue
	Old      []*mvccpb.KeyValue // at the oldest revision there is
	Leases   map[string]string
	Hash     uint32
}

func contentOf(ctx context.Context, t *testing.T, server *harness.Server, oldest int64) content {
	t.Helper()
	client := server.Client()
	all := must(client.Get(ctx, "", clientv3.WithPrefix()))(t)
	c := content{Revision: all.Header.Revision, Kvs: all.Kvs, Leases: harness.Leases(ctx, t, client)}
	c.Old = must(client.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(oldest)))(t).Kvs
	c.Hash = must(client.HashKV(ctx, server.Addr, 0))(t).Hash
	return c
}

// fill writes a history with everything in it: overwritten and deleted keys, leases, a compaction at revision 30.
func fill(ctx context.Context, t *testing.T, client *clientv3.Client) {
	t.Helper()
	for i := range 50 {
		must(client.Put(ctx, fmt.Sprintf("s/%d", i%20), fmt.Sprint(i)))(t)
	}
	must(client.Delete(ctx, "s/3"))(t)
	for i := range 3 {
		harness.Lease(ctx, t, client, int64(1000+i))
	}
	must(client.Compact(ctx, 30, clientv3.WithCompactPhysical()))(t)
}

// TestSnapshot takes a snapshot from the server under test into etcdutl and into a real etcd.
func TestSnapshot(t *testing.T) {
	ctx, server, client := start(t)
	etcdutl, etcd := harness.Etcdutl(t), harness.Etcd(t)
	fill(ctx, t, client)
	before := contentOf(ctx, t, server, 30)

	stream := must(client.SnapshotWithVersion(ctx))(t)
	require.Equal(t, "3.6.0", stream.Version)
	data := must(io.ReadAll(stream.Snapshot))(t)
	require.Equal(t, sha256.Size, len(data)%512, "whole pages and the hash")
	require.Equal(t, sha256.Sum256(data[:len(data)-sha256.Size]), [sha256.Size]byte(data[len(data)-sha256.Size:]))
	work := t.TempDir()
	file, restored := filepath.Join(work, "snapshot.db"), filepath.Join(work, "restored")
	require.NoError(t, os.WriteFile(file, data, 0o600))

	var status struct {
		Revision int64
		TotalKey int64
		Version  string
	}
	require.NoError(t, json.Unmarshal([]byte(harness.Run(t, etcdutl, "snapshot", "status", file, "-w", "json")), &status))
	require.Equal(t, before.Revision, status.Revision)
	require.Positive(t, status.TotalKey)
	require.Equal(t, "3.6.0", status.Version)

	reference := harness.Start(t, etcd, harness.Data(restored), harness.Before(func(s *harness.Server) {
		harness.Run(t, etcdutl, "snapshot", "restore", file, "--data-dir", restored, "--name", "default",
			"--initial-cluster", "default="+s.PeerURL(), "--initial-advertise-peer-urls", s.PeerURL())
	}))
	require.Equal(t, before, contentOf(ctx, t, reference, 30))
	_, err := reference.Client().Get(ctx, "s/1", clientv3.WithRev(29))
	require.ErrorContains(t, err, "required revision has been compacted")
	require.Equal(t, before.Revision+1, must(reference.Client().Put(ctx, "after", ""))(t).Header.Revision)
}
