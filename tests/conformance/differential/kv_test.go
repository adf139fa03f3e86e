package differential

import (
	"context"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// anchor is a key no delete here reaches. Without any key alive, what etcd hashes below a compaction depends on how
// far its background work has come.
func (w *world) anchor() request {
	return putCall(&pb.PutRequest{Key: []byte("Anchor"), Value: []byte("stays")})
}

func (w *world) put() request { return putCall(w.putRequest(w.key())) }

func (w *world) putRequest(key []byte) *pb.PutRequest {
	r := &pb.PutRequest{Key: key, Value: w.value(), PrevKv: w.chance(30)}
	if w.chance(20) {
		r.Lease = w.someLease()
	}
	if w.chance(8) {
		r.IgnoreValue, r.Value = true, nil
	}
	if w.chance(8) {
		r.IgnoreLease, r.Lease = true, 0
	}
	return r
}

func putCall(r *pb.PutRequest) request {
	return request{"put", r, func(ctx context.Context, s *side, o ...grpc.CallOption) (answer, error) {
		response, err := s.kv.Put(ctx, r, o...)
		if err != nil {
			return answer{}, err
		}
		revision := canonical(response.Header)
		return answer{response.String(), revision}, nil
	}}
}

func (w *world) deleteRange() request { return deleteCall(w.deleteRequest()) }

func (w *world) deleteRequest() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{PrevKv: w.chance(50)}
	r.Key, r.RangeEnd = w.interval()
	if len(r.RangeEnd) > 0 && w.chance(60) {
		r.RangeEnd = nil // or there would be little left to look at
	}
	return r
}

func deleteCall(r *pb.DeleteRangeRequest) request {
	return request{"delete", r, func(ctx context.Context, s *side, o ...grpc.CallOption) (answer, error) {
		response, err := s.kv.DeleteRange(ctx, r, o...)
		if err != nil {
			return answer{}, err
		}
		revision := canonical(response.Header)
		return answer{response.String(), revision}, nil
	}}
}

func (w *world) rangeRequest() request { return rangeCall(w.randomRange()) }

func (w *world) rangeAll() request {
	return rangeCall(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
}

func (w *world) randomRange() *pb.RangeRequest {
	r := &pb.RangeRequest{
		Revision:     w.revision(),
		Serializable: w.chance(20),
		KeysOnly:     w.chance(15),
		CountOnly:    w.chance(10),
	}
	r.Key, r.RangeEnd = w.interval()
	if w.chance(10) {
		r.Key, r.RangeEnd = []byte{0}, []byte{0}
	}
	if w.chance(40) {
		r.Limit = int64(w.Intn(8)) - 1
	}
	if w.chance(40) {
		r.SortOrder = pb.RangeRequest_SortOrder(w.Intn(3))
		r.SortTarget = pb.RangeRequest_SortTarget(w.Intn(5))
	}
	for _, bound := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision} {
		if w.chance(8) {
			*bound = w.oldRevision()
		}
	}
	return r
}

func rangeCall(r *pb.RangeRequest) request {
	return request{"range", r, func(ctx context.Context, s *side, o ...grpc.CallOption) (answer, error) {
		response, err := s.kv.Range(ctx, r, o...)
		if err != nil {
			return answer{}, err
		}
		revision := canonical(response.Header)
		canonicalRange(r, response)
		return answer{response.String(), revision}, nil
	}}
}

// compactStep compacts somewhere below the newest revision, or asks for what cannot be.
func (w *world) compactStep(p *pair) {
	p.settle(w)
	if p.future.latestStart > w.rev {
		return // its events are not to be seen yet, and must not be lost
	}
	r := &pb.CompactionRequest{Physical: w.chance(50)}
	switch n := w.Intn(10); {
	case n < 7:
		r.Revision = w.oldRevision()
	case n < 8:
		r.Revision = w.rev
	default:
		r.Revision = w.rev + 1 + int64(w.Intn(3))
	}
	done := p.do(w, request{"compact", r, func(ctx context.Context, s *side, o ...grpc.CallOption) (answer, error) {
		response, err := s.kv.Compact(ctx, r, o...)
		if err != nil {
			return answer{}, err
		}
		revision := canonical(response.Header)
		return answer{response.String(), revision}, nil
	}})
	if done {
		w.compacted = r.Revision
		w.floors = append(w.floors, r.Revision)
	}
}

// hash asks for no revision that was compacted at: once its background work is done, etcd answers with a hash it kept
// from then, taken over the previous compaction.
func (w *world) hash() request {
	revision := w.revision()
	if slices.Contains(w.floors, revision) {
		revision = 0
	}
	return w.hashAt(revision)
}

func (w *world) hashAt(revision int64) request {
	r := &pb.HashKVRequest{Revision: revision}
	return request{"hashkv", r, func(ctx context.Context, s *side, o ...grpc.CallOption) (answer, error) {
		response, err := s.maintenance.HashKV(ctx, r, o...)
		if err != nil {
			return answer{}, err
		}
		revision := canonical(response.Header)
		return answer{response.String(), revision}, nil
	}}
}
