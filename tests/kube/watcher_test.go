package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
)

// A watcher follows one kind from a resource version on, as a controller does: a watch that ends is resumed behind the
// last event or bookmark it gave, and only a version that has been compacted makes it list anew.
type watcher struct {
	api      *api
	kind     *kind
	lifetime int // seconds the apiserver is asked to keep one stream open; 0 for as long as it will

	mu      sync.Mutex
	seen    int64 // everything up to this revision has been given
	history []event
	gaps    []gap // what a relist jumped over
	streams int
}

// An event of an object of the load.
type event struct {
	kind     string // ADDED, MODIFIED, DELETED
	key      string
	revision int64
	version
}

// A gap is the revisions in (after, upTo] that a watcher has not been given one by one.
type gap struct{ after, upTo int64 }

func (g gap) has(revision int64) bool { return revision > g.after && revision <= g.upTo }

// run follows the kind until ctx ends. What must not happen goes to fail.
func (w *watcher) run(ctx context.Context, fail func(error)) {
	for ctx.Err() == nil {
		w.mu.Lock()
		w.streams++
		after := w.seen
		w.mu.Unlock()
		err := w.api.watch(ctx, w.kind, after, w.lifetime, func(e watchEvent) error {
			if err := w.take(e); err != nil {
				fail(err)
				return err
			}
			return nil
		})
		if err != nil && isGone(err) {
			if err := w.relist(ctx); err != nil && ctx.Err() == nil {
				fail(err)
			}
			continue
		}
		if err != nil && isDefinite(err) && ctx.Err() == nil {
			fail(fmt.Errorf("watch %s after %d: %w", w.kind.resource, after, err))
		}
		pause(ctx, retryAfter)
	}
}

// take enters one event. Each must be newer than all before it: nothing repeated, nothing out of order.
func (w *watcher) take(e watchEvent) error {
	var o object
	if err := json.Unmarshal(e.Object, &o); err != nil {
		return err
	}
	revision, err := o.revision()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if revision < w.seen || revision == w.seen && e.Type != "BOOKMARK" {
		return fmt.Errorf("watch %s: %s of %s at revision %d after revision %d", w.kind.resource, e.Type, o.key(), revision, w.seen)
	}
	w.seen = revision
	if e.Type == "BOOKMARK" || !isLoad(o.Metadata.Namespace) {
		return nil
	}
	v, err := o.version()
	if err != nil {
		return err
	}
	w.history = append(w.history, event{e.Type, o.key(), revision, v})
	return nil
}

// relist jumps to the state as it is now.
func (w *watcher) relist(ctx context.Context) error {
	revision, err := int64(0), error(nil)
	for {
		if revision, err = revisionOf(ctx, w.api, w.kind); err == nil || isDefinite(err) {
			break
		}
		if !pause(ctx, retryAfter) {
			return context.Cause(ctx)
		}
	}
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gaps = append(w.gaps, gap{w.seen, revision})
	w.seen = revision
	return nil
}

// reached is nil once the watcher has been given everything up to the revision.
func (w *watcher) reached(revision int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen < revision {
		return fmt.Errorf("watch %s is at %d, not yet at %d", w.kind.resource, w.seen, revision)
	}
	return nil
}

// check compares the history with what is known of the objects: every write of every object exactly once, in order, at
// the revision its answer named, and its deletion behind them.
func (w *watcher) check(items []*item) (problems []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := map[string][]event{}
	for _, e := range w.history {
		events[e.key] = append(events[e.key], e)
	}
	for _, i := range items {
		if i.kind == w.kind {
			problems = append(problems, w.compare(i, events[i.key()])...)
			delete(events, i.key())
		}
	}
	for key, stray := range events {
		problems = append(problems, fmt.Sprintf("watch %s: events of %s, which nobody wrote: %v", w.kind.resource, key, stray))
	}
	return problems
}

func (w *watcher) compare(i *item, events []event) (problems []string) {
	missed := func(revision int64) bool {
		for _, g := range w.gaps {
			if g.has(revision) {
				return true
			}
		}
		return false
	}
	for _, want := range i.writes {
		if missed(want.revision) {
			continue
		}
		kind := "MODIFIED"
		if want.step == 1 {
			kind = "ADDED"
		}
		expected := event{kind, i.key(), want.revision, want.version}
		if len(events) == 0 || events[0] != expected {
			return append(problems, fmt.Sprintf("watch %s: expected %v, then came %v", i, expected, events))
		}
		events = events[1:]
	}
	if i.deleted && len(events) == 1 && events[0].kind == "DELETED" && events[0].version == i.last().version {
		return nil
	}
	if len(events) > 0 || i.deleted && len(w.gaps) == 0 {
		problems = append(problems, fmt.Sprintf("watch %s: deleted %v, the last events are %v", i, i.deleted, events))
	}
	return problems
}

// shortLife is how many seconds the restless watchers keep a stream.
const shortLife = 2
