package conformance

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/golang/protobuf/proto" //nolint:staticcheck // the messages of etcd 3.6's client are of this API
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keepstone.io/conformance/harness"
)

// TestLongAnswersAreEtcds lists six megabytes in every way there is: answers of that size are made while they are sent,
// and are to be the very messages that etcd makes in memory.
func TestLongAnswersAreEtcds(t *testing.T) {
	t.Parallel()
	reference, subject := harness.Pair(t)
	servers := []*harness.Server{reference, subject}
	const total = 3000
	for _, server := range servers {
		ctx, client := harness.Context(t), server.Client()
		for i := 0; i < total; i += 100 {
			ops := []clientv3.Op{}
			for j := i; j < i+100; j++ {
				n := j * 7919 % total
				ops = append(ops, clientv3.OpPut(fmt.Sprintf("l/%04d", n), strings.Repeat(fmt.Sprint(n%7), 2000+n%300)))
			}
			must(client.Txn(ctx).Then(ops...).Commit())(t)
		}
		for i := range 50 {
			must(client.Put(ctx, fmt.Sprintf("l/%04d", i*61%total), strings.Repeat("x", 1900+i)))(t)
		}
	}
	all := pb.RangeRequest{Key: []byte("l/"), RangeEnd: []byte("l0")}
	requests := map[string]func(*pb.RangeRequest){
		"all":           func(*pb.RangeRequest) {},
		"limit":         func(r *pb.RangeRequest) { r.Limit = 2900 },
		"old revision":  func(r *pb.RangeRequest) { r.Revision = 31 },
		"keys only":     func(r *pb.RangeRequest) { r.KeysOnly = true },
		"changed since": func(r *pb.RangeRequest) { r.MinModRevision = 3 },
		"created until": func(r *pb.RangeRequest) { r.MaxCreateRevision, r.Limit = 30, 2800 },
	}
	for target, name := range pb.RangeRequest_SortTarget_name {
		for order := range pb.RangeRequest_SortOrder_name {
			for _, limit := range []int64{0, 1, 2700} {
				requests[fmt.Sprint(name, order, limit)] = func(r *pb.RangeRequest) {
					r.SortTarget, r.SortOrder = pb.RangeRequest_SortTarget(target), pb.RangeRequest_SortOrder(order)
					r.Limit = limit
				}
			}
		}
	}
	for name, change := range requests {
		request := all
		change(&request)
		var answers [2]*pb.RangeResponse
		for i, server := range servers {
			answers[i] = must(pb.NewKVClient(server.Conn()).Range(harness.Context(t), &request))(t)
			answers[i].Header.ClusterId, answers[i].Header.MemberId, answers[i].Header.RaftTerm = 0, 0, 0
		}
		if target := request.SortTarget; target != pb.RangeRequest_KEY {
			for _, answer := range answers {
				tiesInKeyOrder(answer, target)
			}
			if n := len(answers[0].Kvs); n > 0 && answers[0].More {
				require.Len(t, answers[1].Kvs, n, name)
				last := len(untied(answers[0].Kvs, target))
				require.Equal(t, sortedBy(answers[0].Kvs[n-1], target), sortedBy(answers[1].Kvs[n-1], target), name)
				answers[0].Kvs, answers[1].Kvs = answers[0].Kvs[:last], answers[1].Kvs[:last]
			}
		}
		require.True(t, proto.Equal(answers[0], answers[1]), name)
	}
	for _, body := range []string{
		`{"key":"bC8=","range_end":"bDA="}`,
		`{"key":"bC8=","range_end":"bDA=","limit":"2900"}`,
		`{"key":"bC8=","range_end":"bDA=","sort_order":"DESCEND","sort_target":"KEY"}`,
	} {
		var answers [2]string
		for i, server := range servers {
			code, answer, _ := fetch(t, "POST", server.URL()+"/v3/kv/range", body)
			require.Equal(t, 200, code)
			answers[i] = anonymous(answer)
		}
		require.True(t, answers[0] == answers[1], body)
	}
}

// sortedBy is what a key-value is sorted by, as text.
func sortedBy(kv *mvccpb.KeyValue, target pb.RangeRequest_SortTarget) string {
	switch target {
	case pb.RangeRequest_VERSION:
		return fmt.Sprint(kv.Version)
	case pb.RangeRequest_CREATE:
		return fmt.Sprint(kv.CreateRevision)
	case pb.RangeRequest_MOD:
		return fmt.Sprint(kv.ModRevision)
	default:
		return string(kv.Value)
	}
}

// tiesInKeyOrder gives ties one order: etcd's sort is not stable, so its ties come in any.
func tiesInKeyOrder(answer *pb.RangeResponse, target pb.RangeRequest_SortTarget) {
	kvs := answer.Kvs
	for from := 0; from < len(kvs); {
		to := from + 1
		for to < len(kvs) && sortedBy(kvs[to], target) == sortedBy(kvs[from], target) {
			to++
		}
		slices.SortFunc(kvs[from:to], func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
		from = to
	}
}

// untied is what comes before the last run of ties, of which a limit shows any.
func untied(kvs []*mvccpb.KeyValue, target pb.RangeRequest_SortTarget) []*mvccpb.KeyValue {
	last := len(kvs)
	for last > 0 && sortedBy(kvs[last-1], target) == sortedBy(kvs[len(kvs)-1], target) {
		last--
	}
	return kvs[:last]
}
