package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keepstone.io/e2e/history"
)

// keys are few, so that clients meet.
const keys = 5

// quiet keeps the library's own log: it tells of connections that fail, which is in the history as well.
var quiet = zap.NewNop()

// A recorder keeps the history.
type recorder struct {
	began time.Time
	mu    sync.Mutex
	h     history.History
	news  chan struct{} // closed and renewed with each event
}

func newRecorder() *recorder { return &recorder{began: time.Now(), news: make(chan struct{})} }

func (r *recorder) now() int64 { return int64(time.Since(r.began)) }

func (r *recorder) call(c history.Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Calls = append(r.h.Calls, c)
}

func (r *recorder) events(all []history.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Events = append(r.h.Events, all...)
	close(r.news)
	r.news = make(chan struct{})
}

func (r *recorder) broken(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Broken = append(r.h.Broken, why)
}

func (r *recorder) copy() *history.History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &history.History{Calls: slices.Clone(r.h.Calls), Events: slices.Clone(r.h.Events), Broken: slices.Clone(r.h.Broken)}
}

func (r *recorder) summary() history.Summary {
	r.mu.Lock()
	defer r.mu.Unlock()
	return history.Summarize(&r.h)
}

// reached waits until the watch has told of the revision.
func (r *recorder) reached(ctx context.Context, revision int64) error {
	for {
		r.mu.Lock()
		last, news := int64(0), r.news
		if n := len(r.h.Events); n > 0 {
			last = r.h.Events[n-1].Revision
		}
		r.mu.Unlock()
		if last >= revision {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("the watch is at revision %d, not at %d: %w", last, revision, ctx.Err())
		}
	}
}

// A load is all clients at work.
type load struct {
	ctx     context.Context
	o       options
	r       *recorder
	end     context.CancelFunc
	clients sync.WaitGroup
	last    *clientv3.Client
	stops   sync.Mutex
	stopped bool
}

func startLoad(ctx context.Context, o options, r *recorder) (*load, error) {
	l := &load{ctx: ctx, o: o, r: r}
	working, end := context.WithCancel(ctx)
	l.end = end
	watcher, err := dial(ctx, o)
	if err != nil {
		return nil, err
	}
	created := make(chan struct{})
	go l.watch(ctx, watcher, created)
	if l.last, err = dial(ctx, o); err != nil {
		return nil, err
	}
	for client := range o.writers + o.readers {
		c, err := dial(ctx, o)
		if err != nil {
			return nil, err
		}
		l.clients.Go(func() {
			select {
			case <-created:
				l.work(working, c, client)
			case <-working.Done():
			}
		})
	}
	return l, nil
}

// work makes one call after the other. One that is under way when the end comes is finished.
func (l *load) work(ctx context.Context, c *clientv3.Client, client int) {
	defer c.Close()
	pace := time.NewTicker(l.o.pace)
	defer pace.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		key := fmt.Sprintf("%s%d", l.o.prefix, n%keys)
		if client < l.o.writers {
			put(l.ctx, l.o, l.r, c, client, key, fmt.Sprintf("%d-%d", client, n))
		} else {
			get(l.ctx, l.o, l.r, c, client, key)
		}
	}
}

// watch follows the run's keys from the revision after the one that is current when it begins: all before that is older than
// the run, and may be compacted. It closes created when it is heard for the first time; only then is anything written.
func (l *load) watch(ctx context.Context, c *clientv3.Client, created chan<- struct{}) {
	next := current(ctx, c, l.o.prefix) + 1
	heard := false
	for ctx.Err() == nil {
		stream, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		for answer := range c.Watch(stream, l.o.prefix, clientv3.WithPrefix(), clientv3.WithRev(next), clientv3.WithCreatedNotify()) {
			if answer.CompactRevision != 0 {
				l.r.broken(fmt.Sprintf("the watch is at %d, and all before %d is compacted", next, answer.CompactRevision))
				cancel()
				return
			}
			// Any other end, such as that of a member without a leader, is a reason to ask again.
			if answer.Err() != nil {
				break
			}
			if answer.Created && !heard {
				heard = true
				close(created)
			}
			if all := events(answer); len(all) > 0 {
				l.r.events(all)
				next = all[len(all)-1].Revision + 1
			}
		}
		cancel()
		pause(ctx, 100*time.Millisecond)
	}
}

// current is the revision that a store is at.
func current(ctx context.Context, c *clientv3.Client, prefix string) int64 {
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		answer, err := c.Get(try, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		cancel()
		if err == nil {
			return answer.Header.Revision
		}
		if pause(ctx, 100*time.Millisecond); ctx.Err() != nil {
			return 0
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func events(answer clientv3.WatchResponse) []history.Event {
	var all []history.Event
	for _, e := range answer.Events {
		all = append(all, history.Event{
			Revision: e.Kv.ModRevision, Key: string(e.Kv.Key), Value: string(e.Kv.Value), Deleted: e.Type == clientv3.EventTypeDelete,
		})
	}
	return all
}

// stop ends all clients, writes once more and waits until the watch has told of it: then it has told of everything.
func (l *load) stop(ctx context.Context) error {
	l.stops.Lock()
	defer l.stops.Unlock()
	if l.stopped {
		return nil
	}
	l.end()
	l.clients.Wait()
	for n := 0; ; n++ {
		call := put(ctx, l.o, l.r, l.last, l.o.writers+l.o.readers, l.o.prefix+"last", fmt.Sprintf("last-%d", n))
		if call.Error == "" {
			if err := l.r.reached(ctx, call.Revision); err != nil {
				return err
			}
			l.stopped = true
			return nil
		}
		if pause(ctx, 100*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("the last put: %s", call.Error)
		}
	}
}
