package kube

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// An item is one object of the load and everything the apiserver has said about it. One worker at a time owns it, and
// every write of it is conditional on the one before, so each write can take effect once at most, whenever it arrives.
type item struct {
	kind            *kind
	namespace, name string
	doomed          bool // is deleted in the end

	uid     string
	writes  []write // step i at i-1
	deleted bool
}

// A write has taken effect: it was acknowledged, or no answer came and a later read found it.
type write struct {
	version
	revision int64
}

func (i *item) String() string { return i.kind.resource + " " + i.key() }

func (i *item) key() string { return i.namespace + "/" + i.name }

func (i *item) last() write { return i.writes[len(i.writes)-1] }

// accept enters an answer that carries the object.
func (i *item) accept(got object, want version) error {
	v, err := got.version()
	if err != nil {
		return err
	}
	revision, err := got.revision()
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", i, err)
	case v != want || got.key() != i.key():
		return fmt.Errorf("%s: wrote %v, the answer has %v of %s", i, want, v, got.key())
	case i.uid != "" && i.uid != got.Metadata.UID:
		return fmt.Errorf("%s: its UID was %s and is %s", i, i.uid, got.Metadata.UID)
	case len(i.writes) > 0 && revision <= i.last().revision:
		return fmt.Errorf("%s: step %d has revision %d, the step before it %d", i, v.step, revision, i.last().revision)
	}
	i.uid = got.Metadata.UID
	i.writes = append(i.writes, write{v, revision})
	return nil
}

// A writer carries writes out and keeps trying until it knows how each one ended.
type writer struct {
	api *api

	acknowledged atomic.Int64 // writes that were answered
	found        atomic.Int64 // writes without an answer that had taken effect
	created      atomic.Int64
	deleted      atomic.Int64

	mu      sync.Mutex
	unclear map[string]int // answers that left open whether the write took effect, by their text
}

// retryAfter paces tries while the store is down.
const retryAfter = 50 * time.Millisecond

// create writes an object that has never been: AlreadyExists is possible only after a try whose end is not known.
func (w *writer) create(ctx context.Context, i *item) error {
	for try := 1; ; try++ {
		v := version{1, try}
		got, err := w.api.create(ctx, i.kind, i.kind.build(i.namespace, i.name, v))
		switch {
		case err == nil:
			w.acknowledged.Add(1)
			w.created.Add(1)
			return i.accept(got, v)
		case apierrors.IsAlreadyExists(err) && try > 1:
			w.created.Add(1)
			return w.find(ctx, i, v)
		}
		if err := w.again(ctx, i, "create", err); err != nil {
			return err
		}
	}
}

// update writes the next step: Conflict is possible only after a try whose end is not known.
func (w *writer) update(ctx context.Context, i *item) error {
	before := i.last()
	for try := 1; ; try++ {
		v := version{before.step + 1, try}
		next := i.kind.build(i.namespace, i.name, v)
		next.Metadata.UID = i.uid
		next.Metadata.ResourceVersion = fmt.Sprint(before.revision)
		got, err := w.api.update(ctx, i.kind, next)
		switch {
		case err == nil:
			w.acknowledged.Add(1)
			return i.accept(got, v)
		case apierrors.IsConflict(err) && try > 1:
			return w.find(ctx, i, v)
		}
		if err := w.again(ctx, i, "update", err); err != nil {
			return err
		}
	}
}

// remove deletes the object: NotFound is possible only after a try whose end is not known.
func (w *writer) remove(ctx context.Context, i *item) error {
	read := object{Metadata: metadata{Name: i.name, Namespace: i.namespace, UID: i.uid}}
	read.Metadata.ResourceVersion = fmt.Sprint(i.last().revision)
	for try := 1; ; try++ {
		err := w.api.remove(ctx, i.kind, read)
		if err == nil || apierrors.IsNotFound(err) && try > 1 {
			if err == nil {
				w.acknowledged.Add(1)
			} else {
				w.found.Add(1)
			}
			w.deleted.Add(1)
			i.deleted = true
			return nil
		}
		if err := w.again(ctx, i, "delete", err); err != nil {
			return err
		}
	}
}

// find reads an object after a try that was refused because an earlier try of the same step had taken effect, and
// enters which one it was.
func (w *writer) find(ctx context.Context, i *item, upTo version) error {
	for {
		got, err := w.api.get(ctx, i.kind, i.namespace, i.name)
		if err == nil {
			v, err := got.version()
			if err != nil {
				return err
			}
			if v.step != upTo.step || v.try > upTo.try {
				return fmt.Errorf("%s: step %d was refused as done, but the object is at %v", i, upTo.step, v)
			}
			w.found.Add(1)
			return i.accept(got, v)
		}
		if err := w.again(ctx, i, "read", err); err != nil {
			return err
		}
	}
}

// again counts an answer that leaves the end open, and waits for the next try; an answer that does not leave it open is
// an error, for nobody else writes these objects.
func (w *writer) again(ctx context.Context, i *item, verb string, err error) error {
	if isDefinite(err) {
		return fmt.Errorf("%s %s at step %d: %w", verb, i, len(i.writes), err)
	}
	w.mu.Lock()
	w.unclear[digest(err)]++
	w.mu.Unlock()
	if !pause(ctx, retryAfter) {
		return fmt.Errorf("%s %s: %w (last: %w)", verb, i, context.Cause(ctx), err)
	}
	return nil
}

// digest is the text of an error without what differs from one request to the next.
func digest(err error) string {
	text := []byte(err.Error())
	for at, c := range text {
		if c >= '0' && c <= '9' {
			text[at] = '#'
		}
	}
	return string(text[:min(len(text), 160)])
}
