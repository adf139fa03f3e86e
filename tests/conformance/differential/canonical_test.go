package differential

import (
	"bytes"
	"fmt"
	"sort"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// canonical blanks what may differ between two servers: who answered, in which term.
func canonical(header *pb.ResponseHeader) int64 {
	if header == nil {
		return 0
	}
	header.ClusterId, header.MemberId, header.RaftTerm = 0, 0, 0
	return header.Revision
}

// canonicalTxn brings the ranges of the branch that was taken into their one form.
func canonicalTxn(request *pb.TxnRequest, response *pb.TxnResponse) {
	ops := request.Failure
	if response.Succeeded {
		ops = request.Success
	}
	for i, result := range response.Responses {
		if i >= len(ops) {
			return
		}
		switch op := ops[i].Request.(type) {
		case *pb.RequestOp_RequestRange:
			if r := result.GetResponseRange(); r != nil {
				canonicalRange(op.RequestRange, r)
			}
		case *pb.RequestOp_RequestTxn:
			if r := result.GetResponseTxn(); r != nil {
				canonicalTxn(op.RequestTxn, r)
			}
		}
	}
}

// canonicalRange orders keys that compare equal under the order asked for, which etcd leaves to an unstable sort, and
// blanks those among which a limit has cut.
func canonicalRange(request *pb.RangeRequest, response *pb.RangeResponse) {
	if request.SortTarget == pb.RangeRequest_KEY {
		return
	}
	kvs := response.Kvs
	for from := 0; from < len(kvs); {
		to := from + 1
		for to < len(kvs) && bytes.Equal(sortedBy(request, kvs[from]), sortedBy(request, kvs[to])) {
			to++
		}
		tied := kvs[from:to]
		sort.Slice(tied, func(i, j int) bool { return bytes.Compare(tied[i].Key, tied[j].Key) < 0 })
		if to == len(kvs) && response.More {
			for i := range tied {
				kvs[from+i] = &mvccpb.KeyValue{Key: sortedBy(request, tied[i])}
			}
		}
		from = to
	}
}

func sortedBy(request *pb.RangeRequest, kv *mvccpb.KeyValue) []byte {
	switch request.SortTarget {
	case pb.RangeRequest_VERSION:
		return fmt.Append(nil, kv.Version)
	case pb.RangeRequest_CREATE:
		return fmt.Append(nil, kv.CreateRevision)
	case pb.RangeRequest_MOD:
		return fmt.Append(nil, kv.ModRevision)
	case pb.RangeRequest_VALUE:
		if request.KeysOnly {
			return nil // blanked before we see it: anything may be tied
		}
		return kv.Value
	default:
		return kv.Key
	}
}
