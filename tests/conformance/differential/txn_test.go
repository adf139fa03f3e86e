package differential

import (
	"bytes"
	"context"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

func (w *world) txn() request {
	r := w.txnRequest(3, w.keyOnce())
	if deletesToTheEnd(r) {
		keepNothing(r)
	}
	return txnCall(r)
}

// deletesToTheEnd says whether an open-ended range is deleted anywhere in the transaction. etcd does not count such a
// range when it looks for keys named twice, so a put of a deleted key may follow.
func deletesToTheEnd(r *pb.TxnRequest) bool {
	for _, op := range slices.Concat(r.Success, r.Failure) {
		if bytes.Equal(op.GetRequestDeleteRange().GetRangeEnd(), []byte{0}) {
			return true
		}
		if inner := op.GetRequestTxn(); inner != nil && deletesToTheEnd(inner) {
			return true
		}
	}
	return false
}

// keepNothing lets no put keep what its key had: where the transaction has just deleted the key, etcd 3.6.16 panics.
func keepNothing(r *pb.TxnRequest) {
	for _, op := range slices.Concat(r.Success, r.Failure) {
		if put := op.GetRequestPut(); put != nil {
			put.IgnoreValue, put.IgnoreLease = false, false
		}
		if inner := op.GetRequestTxn(); inner != nil {
			keepNothing(inner)
		}
	}
}

// keyOnce hands out keys that are mostly new to the transaction: a key given twice fails it, which is worth a look
// now and then only.
func (w *world) keyOnce() func() []byte {
	given := map[string]bool{}
	return func() []byte {
		key := w.key()
		for tries := 0; given[string(key)] && tries < 30 && !w.chance(3); tries++ {
			key = w.key()
		}
		given[string(key)] = true
		return key
	}
}

func (w *world) txnRequest(depth int, key func() []byte) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	for range w.Intn(4) {
		r.Compare = append(r.Compare, w.compare())
	}
	r.Success, r.Failure = w.branch(depth, key), w.branch(depth, key)
	return r
}

func (w *world) branch(depth int, key func() []byte) []*pb.RequestOp {
	var ops []*pb.RequestOp
	for range w.Intn(5) {
		op := &pb.RequestOp{}
		switch n := w.Intn(20); {
		case n < 8:
			op.Request = &pb.RequestOp_RequestPut{RequestPut: w.putRequest(key())}
		case n < 14:
			op.Request = &pb.RequestOp_RequestRange{RequestRange: w.txnRange()}
		case n < 17:
			op.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: w.txnDelete(key)}
		case depth > 0:
			op.Request = &pb.RequestOp_RequestTxn{RequestTxn: w.txnRequest(depth-1, key)}
		default:
			continue
		}
		ops = append(ops, op)
	}
	return ops
}

// txnRange reads a revision that is gone or not there yet less often than a plain range: it fails all the rest. Where
// etcd will apply the transaction again from its log it never does: there etcd 3.6.16 leaves out the ranges, whose
// answers nobody waits for, and with them the refusal, so what was refused is written after all.
func (w *world) txnRange() *pb.RangeRequest {
	r := w.randomRange()
	refused := r.Revision > w.rev || r.Revision < w.compacted
	if w.chance(70) || w.crashes && refused {
		r.Revision = 0
	}
	return r
}

func (w *world) txnDelete(key func() []byte) *pb.DeleteRangeRequest {
	if w.chance(30) {
		return w.deleteRequest()
	}
	return &pb.DeleteRangeRequest{Key: key(), PrevKv: w.chance(50)}
}

func (w *world) compare() *pb.Compare {
	c := &pb.Compare{Result: pb.Compare_CompareResult(w.Intn(4)), Key: w.key()}
	if w.chance(25) {
		c.Key, c.RangeEnd = w.interval()
	}
	c.Target = pb.Compare_CompareTarget(w.Intn(5))
	union := c.Target
	if w.chance(3) {
		union = pb.Compare_CompareTarget(w.Intn(6)) // another's, or none
	}
	switch union {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: int64(w.Intn(4))}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: w.revision()}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: w.revision()}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: w.value()}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: w.someLease()}
	}
	return c
}

func txnCall(r *pb.TxnRequest) request {
	return request{"txn", r, func(ctx context.Context, s *side, o ...grpc.CallOption) (answer, error) {
		response, err := s.kv.Txn(ctx, r, o...)
		if err != nil {
			return answer{}, err
		}
		revision := canonical(response.Header)
		canonicalTxn(r, response)
		return answer{response.String(), revision}, nil
	}}
}
