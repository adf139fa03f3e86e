package differential

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"keepstone.io/conformance/harness"
)

// side is one of the two servers and the plain gRPC clients of its services: the official client would refuse to send
// much of what is sent here.
type side struct {
	name        string
	server      *harness.Server
	kv          pb.KVClient
	lease       pb.LeaseClient
	watch       pb.WatchClient
	maintenance pb.MaintenanceClient
}

// pair holds both sides and what was sent to them.
type pair struct {
	t      *testing.T
	ctx    context.Context
	sides  [2]*side
	seed   int64
	trail  []string // the latest steps, for the report of a difference
	steps  int
	past   *watchers // start now or earlier
	future *watchers // start at a revision yet to come
}

// request is one call, made to both sides.
type request struct {
	name    string
	message fmt.Stringer
	call    func(context.Context, *side, ...grpc.CallOption) (answer, error)
}

// answer is a response in the one form that is the same on both sides, and the revision in its header.
type answer struct {
	text     string
	revision int64
}

func newPair(t *testing.T, servers ...*harness.Server) *pair {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	p := &pair{t: t, ctx: ctx}
	for i, server := range servers {
		conn := server.Conn()
		p.sides[i] = &side{
			name:        [2]string{"etcd", "subject"}[i],
			server:      server,
			kv:          pb.NewKVClient(conn),
			lease:       pb.NewLeaseClient(conn),
			watch:       pb.NewWatchClient(conn),
			maintenance: pb.NewMaintenanceClient(conn),
		}
	}
	p.past, p.future = newWatchers(p), newWatchers(p)
	return p
}

// do makes the call on both sides at once, compares, and lets the world learn from what etcd said. It reports whether
// the call succeeded.
func (p *pair) do(w *world, r request) bool {
	p.t.Helper()
	var answers [2]answer
	var errs [2]error
	p.note(r.name + " " + clip(r.message.String(), 600))
	p.both(func(i int, s *side) {
		ctx, cancel := context.WithTimeout(p.ctx, harness.Patience)
		defer cancel()
		answers[i], errs[i] = r.call(ctx, s, grpc.WaitForReady(true))
	})
	for i := range answers {
		if errs[i] != nil {
			answers[i].text = describe(errs[i])
		}
	}
	p.same(answers[0].text, answers[1].text)
	if errs[0] == nil && answers[0].revision > w.rev {
		w.rev = answers[0].revision
	}
	return errs[0] == nil
}

func (p *pair) both(act func(int, *side)) {
	var calls sync.WaitGroup
	for i, s := range p.sides {
		calls.Add(1)
		go func() {
			defer calls.Done()
			act(i, s)
		}()
	}
	calls.Wait()
}

func (p *pair) note(step string) {
	p.steps++
	p.trail = append(p.trail, fmt.Sprintf("%4d %s", p.steps, step))
	if len(p.trail) > 25 {
		p.trail = p.trail[1:]
	}
}

// same ends the history at the first difference: everything after it would differ too.
func (p *pair) same(reference, subject string) {
	p.t.Helper()
	if reference != subject {
		p.t.Fatalf("seed %d differs.\nthe latest steps:\n%s\netcd:    %s\nsubject: %s",
			p.seed, strings.Join(p.trail, "\n"), clip(reference, 6000), clip(subject, 6000))
	}
}

// crash kills both servers and starts them again; the watch streams end with them.
func (p *pair) crash() {
	p.past.drop()
	p.future.drop()
	p.both(func(_ int, s *side) { s.server.Kill() })
	for _, s := range p.sides {
		s.server.Restart()
	}
	p.past, p.future = newWatchers(p), newWatchers(p)
	p.note("crash and restart")
}

// settle waits until both sides have delivered every event there is, and compares them. It writes first: progress of
// the new revision cannot be an answer, late on its way, to something asked before the latest watchers were there.
func (p *pair) settle(w *world) {
	p.t.Helper()
	p.do(w, w.anchor())
	p.past.settle(w.rev)
	if p.future.latestStart <= w.rev {
		p.future.settle(w.rev)
	}
}

func describe(err error) string {
	s := status.Convert(err)
	return fmt.Sprintf("error %s: %s", s.Code(), s.Message())
}

func clip(text string, most int) string {
	if len(text) > most {
		return text[:most] + fmt.Sprintf("... (%d bytes)", len(text))
	}
	return text
}
