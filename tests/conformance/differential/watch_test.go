package differential

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"keepstone.io/conformance/harness"
)

// watchers is one watch stream to each side, with the same watchers on both.
type watchers struct {
	p           *pair
	streams     [2]*stream
	latestStart int64
	open        []int64 // watcher ids
	cancel      context.CancelFunc
}

// stream is what one side has sent, in the form that is compared.
type stream struct {
	pb.Watch_WatchClient
	mu       sync.Mutex
	changed  chan struct{} // closed at every change
	created  []string
	byID     map[int64][]string // events and cancellations of each watcher, in order
	lastRev  map[int64]int64    // newest revision of each watcher's last complete response
	canceled int
	progress int64
	ended    error
	broken   string // a promise the stream alone has broken
}

func newWatchers(p *pair) *watchers {
	ctx, cancel := context.WithCancel(p.ctx)
	ws := &watchers{p: p, cancel: cancel}
	for i, s := range p.sides {
		client, err := s.watch.Watch(ctx, grpc.WaitForReady(true))
		if err != nil {
			p.t.Fatal(err)
		}
		ws.streams[i] = &stream{
			Watch_WatchClient: client,
			changed:           make(chan struct{}),
			byID:              map[int64][]string{},
			lastRev:           map[int64]int64{},
		}
		go ws.streams[i].receive()
	}
	// etcd tells the progress of a stream only when somebody watches on it.
	ws.create(&pb.WatchCreateRequest{Key: []byte("Anchor")}, 0)
	ws.open = nil
	return ws
}

func (s *stream) receive() {
	for {
		response, err := s.Recv()
		s.mu.Lock()
		if err != nil {
			s.ended = err
		} else {
			s.record(response)
		}
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *stream) record(r *pb.WatchResponse) {
	revision := canonical(r.Header)
	id := r.WatchId
	switch {
	case r.Created:
		s.created = append(s.created, r.String())
	case r.Canceled:
		r.Header = nil // of the moment, which is not the same on both sides
		s.byID[id] = append(s.byID[id], r.String())
		delete(s.lastRev, id) // the next watcher of this id may start earlier
		s.canceled++
	case len(r.Events) == 0:
		s.progress = max(s.progress, revision)
	default:
		first, last := r.Events[0].Kv.ModRevision, r.Events[len(r.Events)-1].Kv.ModRevision
		if first <= s.lastRev[id] {
			s.broken = fmt.Sprintf("watcher %d got revision %d in two responses, or again", id, first)
		}
		if revision < last {
			s.broken = fmt.Sprintf("watcher %d got revision %d under header %d", id, last, revision)
		}
		if !r.Fragment {
			s.lastRev[id] = last
		}
		for _, event := range r.Events {
			s.byID[id] = append(s.byID[id], event.String())
		}
	}
}

// until waits for a condition on the stream; poke, if any, is done at the start and again while nothing happens.
func (s *stream) until(what string, poke func(), holds func() bool) error {
	deadline := time.After(harness.Patience)
	for {
		s.mu.Lock()
		done, changed, ended := holds(), s.changed, s.ended
		s.mu.Unlock()
		if done {
			return nil
		}
		if ended != nil {
			return fmt.Errorf("waiting for %s: %w", what, ended)
		}
		var again <-chan time.Time
		if poke != nil {
			poke()
			again = time.After(20 * time.Millisecond)
		}
		select {
		case <-changed:
		case <-again:
		case <-deadline:
			return fmt.Errorf("no %s", what)
		}
	}
}

func (ws *watchers) each(what string, poke func(*stream), holds func(*stream) bool) {
	ws.p.t.Helper()
	var errs [2]error
	ws.p.both(func(i int, _ *side) {
		s := ws.streams[i]
		var again func()
		if poke != nil {
			again = func() { poke(s) }
		}
		errs[i] = s.until(what, again, func() bool { return holds(s) })
	})
	for i, err := range errs {
		if err != nil {
			ws.p.t.Fatalf("seed %d, %s: %v\nthe latest steps:\n%s",
				ws.p.seed, ws.p.sides[i].name, err, strings.Join(ws.p.trail, "\n"))
		}
	}
}

func (ws *watchers) send(r *pb.WatchRequest) {
	ws.p.t.Helper()
	for _, s := range ws.streams {
		if err := s.Send(r); err != nil {
			ws.p.t.Fatal(err)
		}
	}
}

// create adds a watcher on both sides. It waits for the answer, and for the cancellation where history is gone.
func (ws *watchers) create(r *pb.WatchCreateRequest, compacted int64) {
	ws.p.t.Helper()
	ws.p.note("watch " + r.String())
	created, canceled := len(ws.streams[0].created)+1, ws.streams[0].canceled
	ws.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
	ws.each("created", nil, func(s *stream) bool { return len(s.created) >= created })
	var answers [2]string
	for i, s := range ws.streams {
		s.mu.Lock()
		answers[i] = s.created[created-1]
		s.mu.Unlock()
	}
	ws.p.same(answers[0], answers[1])
	refused := strings.Contains(answers[0], "canceled:true")
	if !refused && 0 < r.StartRevision && r.StartRevision < compacted {
		ws.each("cancellation by compaction", nil, func(s *stream) bool { return s.canceled > canceled })
		return
	}
	if !refused {
		var id int64
		if _, text, found := strings.Cut(answers[0], "watch_id:"); found {
			_, _ = fmt.Sscanf(text, "%d", &id)
		}
		ws.open = append(ws.open, id)
		ws.latestStart = max(ws.latestStart, r.StartRevision)
	}
}

// settle waits for everything up to the revision and compares all watchers.
func (ws *watchers) settle(revision int64) {
	ws.p.t.Helper()
	ws.p.note(fmt.Sprintf("settle at %d", revision))
	ask := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
	ws.each("progress", func(s *stream) { _ = s.Send(ask) }, func(s *stream) bool { return s.progress >= revision })
	ws.compare()
}

func (ws *watchers) compare() {
	ws.p.t.Helper()
	var logs [2]map[int64][]string
	for i, s := range ws.streams {
		s.mu.Lock()
		if s.broken != "" {
			ws.p.t.Fatalf("seed %d, %s: %s", ws.p.seed, ws.p.sides[i].name, s.broken)
		}
		logs[i] = s.byID
		s.byID = map[int64][]string{}
		s.mu.Unlock()
	}
	ws.p.same(render(logs[0], logs[1]), render(logs[1], logs[0]))
}

// render shows only the watchers whose events differ.
func render(log, other map[int64][]string) string {
	var text strings.Builder
	for id := int64(-1); id < 1000; id++ {
		mine, theirs := strings.Join(log[id], "\n  "), strings.Join(other[id], "\n  ")
		if mine != theirs {
			fmt.Fprintf(&text, "watcher %d:\n  %s\n", id, mine)
		}
	}
	return text.String()
}

func (ws *watchers) drop() { ws.cancel() }

// watchStep creates a watcher with random options.
func (w *world) watchStep(p *pair) {
	r := &pb.WatchCreateRequest{
		PrevKv:         w.chance(50),
		Fragment:       w.chance(30),
		ProgressNotify: w.chance(20),
	}
	r.Key, r.RangeEnd = w.interval()
	if w.chance(15) {
		r.Key, r.RangeEnd = nil, []byte{0}
	}
	for filter := range pb.WatchCreateRequest_FilterType_name {
		if w.chance(15) {
			r.Filters = append(r.Filters, pb.WatchCreateRequest_FilterType(filter))
		}
	}
	if w.chance(20) {
		r.WatchId = int64(w.Intn(12))
	}
	ws := p.past
	switch n := w.Intn(20); {
	case n < 8:
	case n < 16:
		r.StartRevision = w.oldRevision()
		if r.StartRevision < w.compacted {
			// On a stream of its own: in etcd a watcher ended by a compaction holds back its stream's progress.
			ws = newWatchers(p)
			defer ws.drop()
			defer ws.compare()
		}
	case n < 17:
		r.StartRevision = -1
	default:
		r.StartRevision = w.rev + 1 + int64(w.Intn(6))
		ws = p.future
	}
	ws.create(r, w.compacted)
}

// cancelStep cancels a watcher, known or not, once it has had all its events.
func (w *world) cancelStep(p *pair) {
	ws := p.past
	p.settle(w)
	if len(ws.open) == 0 || w.chance(10) {
		cancel := &pb.WatchCancelRequest{WatchId: 900}
		p.note("cancel an unknown watcher")
		ws.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: cancel}})
		return
	}
	i := w.Intn(len(ws.open))
	cancel := &pb.WatchCancelRequest{WatchId: ws.open[i]}
	ws.open = append(ws.open[:i], ws.open[i+1:]...)
	p.note(fmt.Sprintf("cancel watcher %d", cancel.WatchId))
	canceled := ws.streams[0].canceled
	ws.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: cancel}})
	ws.each("cancellation", nil, func(s *stream) bool { return s.canceled > canceled })
	ws.compare()
}
