package conformance

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
)

// openWatch is a bare watch stream: what the official client hides.
func openWatch(ctx context.Context, t *testing.T, client pb.WatchClient) (pb.Watch_WatchClient, func(*pb.WatchCreateRequest), func() *pb.WatchResponse) {
	stream := must(client.Watch(ctx))(t)
	create := func(r *pb.WatchCreateRequest) {
		require.NoError(t, stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}))
	}
	next := func() *pb.WatchResponse {
		t.Helper()
		return must(stream.Recv())(t)
	}
	return stream, create, next
}

func TestWatchIDs(t *testing.T) {
	ctx, server, client := start(t)
	stream, create, next := openWatch(ctx, t, pb.NewWatchClient(server.Conn()))
	create(&pb.WatchCreateRequest{Key: []byte("a")})
	create(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 7})
	create(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 7})
	create(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")})
	create(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: -1})
	create(&pb.WatchCreateRequest{Key: []byte("a")})
	type seen struct {
		id       int64
		canceled bool
		reason   string
	}
	for _, want := range []seen{
		{0, false, ""},
		{7, false, ""},
		{-1, true, "mvcc: duplicate watch ID provided on the WatchStream"},
		{-1, true, "mvcc: watcher range is empty"},
		{-1, true, "etcdserver: mvcc: required revision has been compacted"},
		{1, false, ""},
	} {
		got := next()
		require.True(t, got.Created)
		require.Equal(t, want, seen{got.WatchId, got.Canceled, got.CancelReason})
	}
	// An unknown id is passed over in silence; a known one is answered.
	for _, id := range []int64{99, 7} {
		cancel := &pb.WatchCancelRequest{WatchId: id}
		require.NoError(t, stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: cancel}}))
	}
	got := next()
	require.True(t, got.Canceled)
	require.EqualValues(t, 7, got.WatchId)

	// Half-closing the stream ends nothing.
	require.NoError(t, stream.CloseSend())
	must(client.Put(ctx, "a", "1"))(t)
	ids := map[int64]bool{}
	for range 2 {
		got := next()
		require.Len(t, got.Events, 1)
		ids[got.WatchId] = true
	}
	require.Equal(t, map[int64]bool{0: true, 1: true}, ids)
}

func TestWatchEverything(t *testing.T) {
	ctx, server, client := start(t)
	_, create, next := openWatch(ctx, t, pb.NewWatchClient(server.Conn()))
	create(&pb.WatchCreateRequest{RangeEnd: []byte{0}})
	require.True(t, next().Created)
	must(client.Put(ctx, "\x00", "first"))(t)
	must(client.Put(ctx, "\xff\xff", "last"))(t)
	require.Equal(t, "first", string(next().Events[0].Kv.Value))
	require.Equal(t, "last", string(next().Events[0].Kv.Value))
}

// TestWatchProgressRequest: progress of a stream is told once, under the id -1, and not without watchers.
func TestWatchProgressRequest(t *testing.T) {
	ctx, server, client := start(t)
	stream, create, next := openWatch(ctx, t, pb.NewWatchClient(server.Conn()))
	ask := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
	require.NoError(t, stream.Send(ask)) // not answered: nobody watches
	create(&pb.WatchCreateRequest{Key: []byte("a")})
	create(&pb.WatchCreateRequest{Key: []byte("b")})
	require.True(t, next().Created)
	require.True(t, next().Created)
	must(client.Put(ctx, "c", ""))(t)
	require.NoError(t, stream.Send(ask))
	got := next()
	require.EqualValues(t, -1, got.WatchId)
	require.EqualValues(t, 2, got.Header.Revision)
	require.Empty(t, got.Events)
	require.False(t, got.Canceled || got.Created)
}

func TestWatchStreamEnd(t *testing.T) {
	ctx, server, _ := start(t)
	cancelable, cancel := context.WithCancel(ctx)
	stream, create, next := openWatch(cancelable, t, pb.NewWatchClient(server.Conn()))
	create(&pb.WatchCreateRequest{Key: []byte("a")})
	require.True(t, next().Created)
	cancel()
	_, err := stream.Recv()
	refused(t, err, codes.Canceled, "context canceled")
}
