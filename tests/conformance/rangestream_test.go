package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/golang/protobuf/proto" //nolint:staticcheck // the messages of etcd 3.6's client are of this API
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keepstone.io/conformance/harness"
)

// rangeStreamResponse is etcd 3.7's message, which the 3.6 client does not have: field 1 holds a part of the answer.
type rangeStreamResponse struct {
	RangeResponse *pb.RangeResponse `protobuf:"bytes,1,opt,name=range_response,json=rangeResponse,proto3"`
}

func (r *rangeStreamResponse) Reset()         { *r = rangeStreamResponse{} }
func (r *rangeStreamResponse) String() string { return fmt.Sprint(r.RangeResponse) }
func (*rangeStreamResponse) ProtoMessage()    {}

// rangeStream collects the parts of one streamed range.
func rangeStream(ctx context.Context, conn *grpc.ClientConn, r *pb.RangeRequest) ([]*pb.RangeResponse, error) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/etcdserverpb.KV/RangeStream")
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(r); err != nil {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	var parts []*pb.RangeResponse
	for {
		var part rangeStreamResponse
		err := stream.RecvMsg(&part)
		if errors.Is(err, io.EOF) {
			return parts, nil
		}
		if err != nil {
			return nil, err
		}
		parts = append(parts, part.RangeResponse)
	}
}

// TestRangeStream holds for a server that says it is Keepstone; etcd has the call from 3.7 on.
func TestRangeStream(t *testing.T) {
	ctx, server, client := start(t)
	conn := server.Conn()
	if _, err := rangeStream(ctx, conn, &pb.RangeRequest{Key: []byte("a")}); isEtcd36(t, server) {
		refused(t, err, codes.Unimplemented, "unknown method RangeStream for service etcdserverpb.KV")
		return
	}
	value := strings.Repeat("v", 2000)
	for i := 0; i < 3000; i += 100 {
		ops := []clientv3.Op{}
		for j := i; j < i+100; j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("s/%04d", j), value))
		}
		must(client.Txn(ctx).Then(ops...).Commit())(t)
	}
	all := &pb.RangeRequest{Key: []byte("s/"), RangeEnd: []byte("s0")}
	for name, r := range map[string]*pb.RangeRequest{
		"all":          all,
		"limit":        {Key: all.Key, RangeEnd: all.RangeEnd, Limit: 1234},
		"old revision": {Key: all.Key, RangeEnd: all.RangeEnd, Revision: 20},
		"keys only":    {Key: all.Key, RangeEnd: all.RangeEnd, KeysOnly: true},
		"count only":   {Key: all.Key, RangeEnd: all.RangeEnd, CountOnly: true},
		"serializable": {Key: all.Key, RangeEnd: all.RangeEnd, Serializable: true},
		"one key":      {Key: []byte("s/0007")},
		"nothing":      {Key: []byte("none")},
	} {
		want := must(pb.NewKVClient(conn).Range(ctx, r))(t)
		parts := must(rangeStream(ctx, conn, r))(t)
		whole := &pb.RangeResponse{}
		for i, part := range parts {
			if i < len(parts)-1 {
				require.Nil(t, part.Header, name)
				require.Zero(t, part.Count, name)
				require.False(t, part.More, name)
				require.NotEmpty(t, part.Kvs, name)
			}
			proto.Merge(whole, part)
		}
		require.True(t, proto.Equal(want, whole), name)
	}
	require.Greater(t, len(must(rangeStream(ctx, conn, all))(t)), 2)

	for text, r := range map[string]*pb.RangeRequest{
		"RangeStream does not support custom sort orders": {Key: all.Key, SortTarget: pb.RangeRequest_VALUE},
		"RangeStream does not support revision filters":   {Key: all.Key, MinModRevision: 3},
	} {
		_, err := rangeStream(ctx, conn, r)
		require.Equal(t, codes.Unimplemented, status.Code(err))
		require.Contains(t, status.Convert(err).Message(), text)
	}
	for code, r := range map[codes.Code]*pb.RangeRequest{
		codes.InvalidArgument: {},
		codes.OutOfRange:      {Key: all.Key, Revision: 1 << 40},
	} {
		_, err := rangeStream(ctx, conn, r)
		require.Equal(t, code, status.Code(err))
	}
}

// isEtcd36 tells a real etcd by the Go runtime it is made of: no other server under test is.
func isEtcd36(t *testing.T, server *harness.Server) bool {
	t.Helper()
	out := harness.Run(t, server.Bin(), "--version")
	return strings.Contains(out, "Go Version: go") && strings.Contains(out, "etcd Version: 3.6.") && !strings.Contains(strings.ToLower(out), "keepstone")
}
