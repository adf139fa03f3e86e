package conformance

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestErrors wants codes and texts to the letter: the official client tells errors apart by them.
func TestErrors(t *testing.T) {
	ctx, server, client := start(t)
	conn := server.Conn()
	kv, leases, maintenance := pb.NewKVClient(conn), pb.NewLeaseClient(conn), pb.NewMaintenanceClient(conn)
	for i := range 4 {
		must(client.Put(ctx, "a", fmt.Sprint(i)))(t) // revisions 2 to 5
	}
	must(client.Compact(ctx, 3))(t)
	must(leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 7, TTL: 600}))(t)

	put := func(r *pb.PutRequest) error { _, err := kv.Put(ctx, r); return err }
	get := func(r *pb.RangeRequest) error { _, err := kv.Range(ctx, r); return err }
	remove := func(r *pb.DeleteRangeRequest) error { _, err := kv.DeleteRange(ctx, r); return err }
	txn := func(ops ...*pb.RequestOp) error {
		_, err := kv.Txn(ctx, &pb.TxnRequest{Success: ops})
		return err
	}
	compact := func(revision int64) error {
		_, err := kv.Compact(ctx, &pb.CompactionRequest{Revision: revision})
		return err
	}
	grant := func(id, ttl int64) error {
		_, err := leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl})
		return err
	}
	revoke := func(id int64) error { _, err := leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id}); return err }
	hash := func(revision int64) error {
		_, err := maintenance.HashKV(ctx, &pb.HashKVRequest{Revision: revision})
		return err
	}
	a := []byte("a")
	opPut := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: a}}}
	const (
		noKey     = "etcdserver: key is not provided"
		noLease   = "etcdserver: requested lease not found"
		compacted = "etcdserver: mvcc: required revision has been compacted"
		future    = "etcdserver: mvcc: required revision is a future revision"
	)
	for name, c := range map[string]struct {
		err  error
		code codes.Code
		text string
	}{
		"put, no key":                {put(&pb.PutRequest{}), codes.InvalidArgument, noKey},
		"range, no key":              {get(&pb.RangeRequest{}), codes.InvalidArgument, noKey},
		"delete, no key":             {remove(&pb.DeleteRangeRequest{}), codes.InvalidArgument, noKey},
		"bad sort":                   {get(&pb.RangeRequest{Key: a, SortOrder: 8}), codes.InvalidArgument, "etcdserver: invalid sort option"},
		"value and ignore_value":     {put(&pb.PutRequest{Key: a, Value: a, IgnoreValue: true}), codes.InvalidArgument, "etcdserver: value is provided"},
		"lease and ignore_lease":     {put(&pb.PutRequest{Key: a, Lease: 7, IgnoreLease: true}), codes.InvalidArgument, "etcdserver: lease is provided"},
		"ignore_value of nothing":    {put(&pb.PutRequest{Key: []byte("b"), IgnoreValue: true}), codes.InvalidArgument, "etcdserver: key not found"},
		"put, unknown lease":         {put(&pb.PutRequest{Key: a, Lease: 8}), codes.NotFound, noLease},
		"range, compacted":           {get(&pb.RangeRequest{Key: a, Revision: 2}), codes.OutOfRange, compacted},
		"range, future":              {get(&pb.RangeRequest{Key: a, Revision: 6}), codes.OutOfRange, future},
		"compaction again":           {compact(3), codes.OutOfRange, compacted},
		"compaction of the future":   {compact(6), codes.OutOfRange, future},
		"hash, compacted":            {hash(2), codes.OutOfRange, compacted},
		"hash, future":               {hash(6), codes.OutOfRange, future},
		"lease again":                {grant(7, 600), codes.FailedPrecondition, "etcdserver: lease already exists"},
		"lease too long":             {grant(9, 9_000_000_001), codes.OutOfRange, "etcdserver: too large lease TTL"},
		"revoke of nothing":          {revoke(9), codes.NotFound, noLease},
		"txn with the key twice":     {txn(opPut, opPut), codes.InvalidArgument, "etcdserver: duplicate key given in txn request"},
		"txn with an operation of 0": {txn(&pb.RequestOp{}), codes.InvalidArgument, "etcdserver: key not found"},
		"unknown method": {conn.Invoke(ctx, "/etcdserverpb.KV/Nothing", &pb.RangeRequest{}, &pb.RangeResponse{}),
			codes.Unimplemented, "unknown method Nothing for service etcdserverpb.KV"},
		"unknown service": {conn.Invoke(ctx, "/none.Such/Nothing", &pb.RangeRequest{}, &pb.RangeResponse{}),
			codes.Unimplemented, "unknown service none.Such"},
	} {
		require.Error(t, c.err, name)
		s := status.Convert(c.err)
		require.Equal(t, c.text, s.Message(), name)
		require.Equal(t, c.code, s.Code(), name)
	}
	require.EqualValues(t, 5, must(client.Get(ctx, "a"))(t).Header.Revision, "no refused request changed anything")
}

func TestTxnOpsLimit(t *testing.T) {
	ctx, _, client := start(t)
	ops := func(n int) []clientv3.Op {
		list := []clientv3.Op{}
		for i := range n {
			list = append(list, clientv3.OpPut(fmt.Sprintf("t/%03d", i), ""))
		}
		return list
	}
	compares := []clientv3.Cmp{}
	for range 129 {
		compares = append(compares, clientv3.Compare(clientv3.Version("a"), "=", 0))
	}
	require.True(t, must(client.Txn(ctx).If(compares[:128]...).Then(ops(128)...).Else(ops(128)...).Commit())(t).Succeeded)
	require.Len(t, values(ctx, t, client, "t/"), 128)
	const text = "etcdserver: too many operations in txn request"
	for name, txn := range map[string]clientv3.Txn{
		"then":     client.Txn(ctx).Then(ops(129)...),
		"else":     client.Txn(ctx).Else(ops(129)...),
		"compares": client.Txn(ctx).If(compares...),
	} {
		_, err := txn.Commit()
		require.EqualError(t, err, text, name)
	}
	require.EqualValues(t, 2, must(client.Get(ctx, "a"))(t).Header.Revision)
}

func TestSizeLimits(t *testing.T) {
	ctx, server, client := start(t)
	kv := pb.NewKVClient(server.Conn())
	put := func(size int) error {
		_, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("big"), Value: make([]byte, size)}, grpc.MaxCallSendMsgSize(1<<30))
		return err
	}
	const limit, frame = 1572864, 1572864 + 512<<10
	require.NoError(t, put(limit-1024))
	refused(t, put(limit+1024), codes.InvalidArgument, "etcdserver: request is too large")
	refused(t, put(frame-1024), codes.InvalidArgument, "etcdserver: request is too large")
	err := put(frame + 1024)
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.Regexp(t, regexp.MustCompile(fmt.Sprintf(`^grpc: received message larger than max \(\d+ vs\. %d\)$`, frame)), status.Convert(err).Message())
	require.Len(t, must(client.Get(ctx, "big"))(t).Kvs[0].Value, limit-1024, "and the connection still serves")
}

func TestQuota(t *testing.T) {
	ctx, server, client := start(t, "--quota-backend-bytes=1048576")
	kv := pb.NewKVClient(server.Conn())
	var err error
	for i := 0; err == nil && i < 200; i++ {
		_, err = kv.Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "q/%d", i), Value: make([]byte, 64<<10)})
	}
	refused(t, err, codes.ResourceExhausted, "etcdserver: mvcc: database space exceeded")
	alarms := must(client.AlarmList(ctx))(t).Alarms
	require.Len(t, alarms, 1)
	require.Equal(t, pb.AlarmType_NOSPACE, alarms[0].Alarm)
	_, err = client.Put(ctx, "small", "")
	require.EqualError(t, err, "etcdserver: mvcc: database space exceeded")
	_, err = client.Grant(ctx, 600)
	require.EqualError(t, err, "etcdserver: mvcc: database space exceeded")
	_, err = client.Txn(ctx).Then(clientv3.OpPut("small", "")).Commit()
	require.EqualError(t, err, "etcdserver: mvcc: database space exceeded")
	require.NotEmpty(t, must(client.Get(ctx, "q/0"))(t).Kvs, "reads work")

	// The way back: delete, compact, defragment, disarm.
	removed := must(client.Delete(ctx, "q/", clientv3.WithPrefix()))(t)
	must(client.Compact(ctx, removed.Header.Revision, clientv3.WithCompactPhysical()))(t)
	must(client.Defragment(ctx, server.URL()))(t)
	must(client.AlarmDisarm(ctx, &clientv3.AlarmMember{}))(t)
	must(client.Put(ctx, "small", "1"))(t)
	require.Empty(t, must(client.AlarmList(ctx))(t).Alarms)
}
