package differential

import (
	"bytes"
	"context"
	"fmt"
	"sort"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// leaseStep never grants a lease short enough to expire by itself during a history.
func (w *world) leaseStep(p *pair) {
	switch n := w.Intn(20); {
	case n < 8:
		r := &pb.LeaseGrantRequest{ID: 1 + w.Int63n(40), TTL: 10_000 + w.Int63n(1_000)}
		if w.chance(10) {
			r.TTL = 9_000_000_001
		}
		if p.do(w, grantCall(r)) {
			w.leases = append(w.leases, r.ID)
		}
	case n < 11:
		p.do(w, revokeCall(&pb.LeaseRevokeRequest{ID: w.someLease()}))
	case n < 15:
		p.do(w, timeToLiveCall(&pb.LeaseTimeToLiveRequest{ID: w.someLease(), Keys: w.chance(70)}))
	case n < 17:
		p.do(w, leasesCall())
	default:
		p.do(w, keepAliveCall(&pb.LeaseKeepAliveRequest{ID: w.someLease()}))
	}
}

func grantCall(r *pb.LeaseGrantRequest) request {
	return request{"grant", r, func(ctx context.Context, s *side, o ...grpc.CallOption) (answer, error) {
		response, err := s.lease.LeaseGrant(ctx, r, o...)
		if err != nil {
			return answer{}, err
		}
		revision := canonical(response.Header)
		return answer{response.String(), revision}, nil
	}}
}

func revokeCall(r *pb.LeaseRevokeRequest) request {
	return request{"revoke", r, func(ctx context.Context, s *side, o ...grpc.CallOption) (answer, error) {
		response, err := s.lease.LeaseRevoke(ctx, r, o...)
		if err != nil {
			return answer{}, err
		}
		revision := canonical(response.Header)
		return answer{response.String(), revision}, nil
	}}
}

// timeToLiveCall allows for the seconds that pass, and for keys in any order: etcd keeps them in a map.
func timeToLiveCall(r *pb.LeaseTimeToLiveRequest) request {
	return request{"timetolive", r, func(ctx context.Context, s *side, o ...grpc.CallOption) (answer, error) {
		response, err := s.lease.LeaseTimeToLive(ctx, r, o...)
		if err != nil {
			return answer{}, err
		}
		revision := canonical(response.Header)
		if response.TTL > response.GrantedTTL-1000 && response.TTL <= response.GrantedTTL {
			response.TTL = response.GrantedTTL
		}
		sort.Slice(response.Keys, func(i, j int) bool { return bytes.Compare(response.Keys[i], response.Keys[j]) < 0 })
		return answer{response.String(), revision}, nil
	}}
}

func leasesCall() request {
	r := &pb.LeaseLeasesRequest{}
	return request{"leases", r, func(ctx context.Context, s *side, o ...grpc.CallOption) (answer, error) {
		response, err := s.lease.LeaseLeases(ctx, r, o...)
		if err != nil {
			return answer{}, err
		}
		revision := canonical(response.Header)
		sort.Slice(response.Leases, func(i, j int) bool { return response.Leases[i].ID < response.Leases[j].ID })
		return answer{response.String(), revision}, nil
	}}
}

// keepAliveCall opens a stream for two messages: the second proves that an unknown lease does not end it. How the
// stream then ends is compared too.
func keepAliveCall(r *pb.LeaseKeepAliveRequest) request {
	return request{"keepalive", r, func(ctx context.Context, s *side, o ...grpc.CallOption) (answer, error) {
		stream, err := s.lease.LeaseKeepAlive(ctx, o...)
		if err != nil {
			return answer{}, err
		}
		var all answer
		for range 2 {
			if err := stream.Send(r); err != nil {
				return answer{}, err
			}
			response, err := stream.Recv()
			if err != nil {
				return answer{}, err
			}
			all.revision = canonical(response.Header)
			all.text += response.String() + "; "
		}
		if err := stream.CloseSend(); err != nil {
			return answer{}, err
		}
		_, err = stream.Recv()
		all.text += fmt.Sprint(err)
		return all, nil
	}}
}
