package differential

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// bad is a request no official client would send, or one at the edge of what is allowed.
func (w *world) bad() request {
	choices := []func() request{
		func() request { return putCall(&pb.PutRequest{Value: []byte("no key")}) },
		func() request {
			return putCall(&pb.PutRequest{Key: w.key(), Value: []byte("v"), IgnoreValue: true})
		},
		func() request { return putCall(&pb.PutRequest{Key: w.key(), Lease: 1, IgnoreLease: true}) },
		func() request { return putCall(&pb.PutRequest{Key: w.key(), Lease: 1 << 40}) },
		func() request {
			return putCall(&pb.PutRequest{Key: []byte("k/none"), IgnoreValue: true, Lease: 1 << 40})
		},
		func() request { return putCall(&pb.PutRequest{Key: []byte("k/none"), IgnoreLease: true}) },
		func() request { return putCall(&pb.PutRequest{Key: []byte("k/big"), Value: make([]byte, 1_573_000)}) },
		func() request { return putCall(&pb.PutRequest{Key: []byte("k/big"), Value: make([]byte, 1_572_000)}) },
		func() request { return rangeCall(&pb.RangeRequest{RangeEnd: []byte("z")}) },
		func() request { return rangeCall(&pb.RangeRequest{Key: w.key(), SortOrder: 9}) },
		func() request { return rangeCall(&pb.RangeRequest{Key: w.key(), SortTarget: -1}) },
		func() request { return rangeCall(&pb.RangeRequest{Key: w.key(), Revision: -5}) },
		func() request { return deleteCall(&pb.DeleteRangeRequest{RangeEnd: []byte{0}}) },
		func() request { return revokeCall(&pb.LeaseRevokeRequest{ID: 0}) },
		func() request { return txnCall(&pb.TxnRequest{}) },
		func() request { return txnCall(&pb.TxnRequest{Success: []*pb.RequestOp{{}}}) },
		func() request { return txnCall(&pb.TxnRequest{Compare: []*pb.Compare{{RangeEnd: []byte("k")}}}) },
		func() request { return txnCall(w.wide(128)) },
		func() request { return txnCall(w.wide(129)) },
		func() request { return txnCall(w.deep(129)) },
		func() request { return txnCall(w.duplicate()) },
	}
	return choices[w.Intn(len(choices))]()
}

func (w *world) wide(ops int) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	for i := range ops {
		put := &pb.PutRequest{Key: fmt.Appendf(nil, "wide/%03d", i), Value: w.value()}
		r.Success = append(r.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
	}
	return r
}

// deep is over the limit only by what is nested in it.
func (w *world) deep(ops int) *pb.TxnRequest {
	r := w.wide(ops / 2)
	inner := w.wide(ops - ops/2)
	for _, op := range inner.Success {
		put := op.GetRequestPut()
		put.Key = append([]byte("deep/"), put.Key...)
	}
	r.Success = append(r.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: inner}})
	return r
}

// duplicate is one of the ways to name a key twice: some are allowed.
func (w *world) duplicate() *pb.TxnRequest {
	put := func() *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k/05")}}}
	}
	remove := func() *pb.RequestOp {
		r := &pb.DeleteRangeRequest{Key: []byte("k/"), RangeEnd: []byte("k/06")}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
	}
	nested := func(then, otherwise []*pb.RequestOp) *pb.RequestOp {
		r := &pb.TxnRequest{Success: then, Failure: otherwise}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
	}
	list := func(ops ...*pb.RequestOp) []*pb.RequestOp { return ops }
	shapes := [][]*pb.RequestOp{
		list(put(), put()),
		list(put(), remove()),
		list(remove(), put()),
		list(remove(), remove()),
		list(put(), nested(list(put()), nil)),
		list(put(), nested(nil, list(remove()))),
		list(remove(), nested(list(put()), nil)),
		list(nested(list(put()), list(put()))),
		list(nested(list(put()), nil), nested(list(put()), nil)),
		list(nested(list(put()), nil), nested(list(remove()), nil)),
		list(nested(list(remove()), list(put()))),
		list(nested(list(remove()), nil), nested(nil, list(remove()))),
	}
	ops := shapes[w.Intn(len(shapes))]
	if w.chance(50) {
		return &pb.TxnRequest{Failure: ops}
	}
	return &pb.TxnRequest{Success: ops}
}
