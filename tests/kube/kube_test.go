// Package kube runs a real kube-apiserver on the member under test. It never looks at the apiserver's insides: what it
// knows is what clients are told, and what the store holds in the end.
package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// allWithin bounds the whole test; it is below go test's own limit, so that everything is cleaned up.
const allWithin = 8 * time.Minute

// A run is one pass of the test: the cluster, the loads and the observers.
type run struct {
	t       *testing.T
	ctx     context.Context
	fail    func(error)
	cluster *cluster
	api     *api
	load    *load
	lease   *item

	watchers  []*watcher
	pagers    []*pager
	informers map[*kind]cache.SharedIndexInformer
	observers sync.WaitGroup
	quiet     context.CancelFunc // ends watchers, pagers and informers
}

// TestKillsUnderLoad kills the store ten times while 2,000 objects are created, updated, deleted, listed in pages and
// watched through an apiserver that stays up. Afterwards the objects are exactly the acknowledged ones, every list was a
// true picture of its revision, and every watcher was told everything once and in order.
func TestKillsUnderLoad(t *testing.T) {
	runtime.LockOSThread() // see process.start; the thread ends with the test
	ctx, cancel := context.WithTimeoutCause(context.Background(), allWithin, errors.New("the test's time is over"))
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx) // the first failure ends everything that waits
	defer fail(nil)
	r := &run{t: t, ctx: ctx, fail: fail, cluster: newCluster(ctx, t)}
	var err error
	if r.api, err = newAPI(r.cluster.config); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	eventually(ctx, t, "start kube-apiserver", func() error { return r.cluster.ready(ctx, r.api) })
	t.Logf("kube-apiserver was ready after %v", time.Since(started).Round(time.Millisecond))
	if err := prepare(ctx, r.api); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "serve the custom resource", func() error {
		_, err := revisionOf(ctx, r.api, widgets)
		return err
	})

	first := r.observe()
	applied := r.killUnderLoad(first)
	r.settle()
	r.quiet()
	r.observers.Wait()
	r.checkObservers()
	r.checkStore()
	r.checkGone(first)
	if err := checkApplied(ctx, r.api, applied); err != nil {
		t.Error(err)
	}
	eventually(ctx, t, "end the event's lease", func() error { return eventGone(ctx, r.api) })
	if !r.cluster.apiserver.running() {
		t.Errorf("kube-apiserver ended: %v", r.cluster.apiserver.cmd.ProcessState)
	}
	r.report()
}

// observe starts two watchers and a pager for each kind and the informers of client-go, and returns the revision they
// all start from.
func (r *run) observe() int64 {
	ctx, quiet := context.WithCancel(r.ctx)
	r.quiet = quiet
	r.t.Cleanup(func() { quiet(); r.observers.Wait() })
	first, err := revisionOf(ctx, r.api, secrets)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, k := range kinds {
		for _, lifetime := range []int{0, shortLife} {
			w := &watcher{api: r.api, kind: k, lifetime: lifetime, seen: first}
			r.watchers = append(r.watchers, w)
			r.observers.Go(func() { w.run(ctx, r.fail) })
		}
		p := &pager{kind: k}
		r.pagers = append(r.pagers, p)
		r.observers.Go(func() { p.run(ctx, r.api, r.fail) })
	}
	clients, err := kubernetes.NewForConfig(r.cluster.config)
	if err != nil {
		r.t.Fatal(err)
	}
	factory := informers.NewSharedInformerFactory(clients, 0)
	r.informers = map[*kind]cache.SharedIndexInformer{
		configMaps: factory.Core().V1().ConfigMaps().Informer(),
		secrets:    factory.Core().V1().Secrets().Informer(),
		leases:     factory.Coordination().V1().Leases().Informer(),
	}
	factory.Start(ctx.Done())
	r.observers.Go(func() { <-ctx.Done(); factory.Shutdown() })
	return first
}

// killUnderLoad runs the loads and kills the store among them. It returns the last answer to the server-side apply.
func (r *run) killUnderLoad(first int64) (applied object) {
	seed := rand.Uint64()
	if text := os.Getenv("KUBE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			r.t.Fatal(err)
		}
	}
	r.t.Logf("KUBE_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	writer := &writer{api: r.api, unclear: map[string]int{}}
	r.load = &load{writer: writer, items: plan()}
	r.lease = &item{kind: leases, namespace: loadNamespaces[0], name: "election"}
	if err := createEvent(r.ctx, r.api); err != nil {
		r.t.Fatal(err)
	}

	over := make(chan struct{})
	var big, side sync.WaitGroup
	side.Go(func() {
		if err := elect(r.ctx, writer, r.lease, over); err != nil {
			r.fail(err)
		}
	})
	side.Go(func() {
		var err error
		if applied, err = apply(r.ctx, r.api, over); err != nil {
			r.fail(err)
		}
	})
	big.Go(func() { r.load.run(r.ctx, r.fail) })

	for kill := range kills {
		after := r.load.threshold(kill, random)
		eventually(r.ctx, r.t, "load before a kill", func() error {
			if got := writer.created.Load(); got < after {
				return fmt.Errorf("%d of %d objects created", got, after)
			}
			return nil
		})
		if kill == kills/2 {
			// The second half runs on a store that has been compacted.
			eventually(r.ctx, r.t, "compaction", func() error { return r.compacted(first) })
		}
		r.cluster.crash(r.ctx)
		r.load.windows.Add(1)
	}
	big.Wait()
	close(over)
	side.Wait()
	if err := context.Cause(r.ctx); err != nil {
		r.t.Fatal(err)
	}
	return applied
}

// compacted is nil once the store refuses to list secrets as of the revision.
func (r *run) compacted(revision int64) error {
	_, err := r.api.page(r.ctx, secrets, map[string][]string{
		"limit": {"1"}, "resourceVersion": {strconv.FormatInt(revision, 10)}, "resourceVersionMatch": {"Exact"},
	})
	if isGone(err) {
		return nil
	}
	return fmt.Errorf("a list as of revision %d: %w", revision, err)
}

// all is everything that was ever written in the load's namespaces.
func (r *run) all() []*item { return append([]*item{r.lease}, r.load.items...) }

// settle writes one object of each kind once more and waits until every observer has come that far.
func (r *run) settle() {
	for _, k := range kinds {
		for _, i := range r.all() {
			if i.kind != k || i.deleted {
				continue
			}
			if err := r.load.writer.update(r.ctx, i); err != nil {
				r.t.Fatal(err)
			}
			for _, w := range r.watchers {
				if w.kind == k {
					eventually(r.ctx, r.t, "watch to the end", func() error { return w.reached(i.last().revision) })
				}
			}
			break
		}
	}
	for k, informer := range r.informers {
		want := r.acknowledged(k)
		eventually(r.ctx, r.t, "the informer of "+k.resource, func() error { return compareInformer(informer, want) })
	}
}

// acknowledged is the state that the answers add up to.
func (r *run) acknowledged(k *kind) map[string]write {
	state := map[string]write{}
	for _, i := range r.all() {
		if i.kind == k && !i.deleted {
			state[i.key()] = i.last()
		}
	}
	return state
}

func (r *run) report() {
	w := r.load.writer
	r.t.Logf("kills %d, down for %v", len(r.cluster.downtimes), r.cluster.downtimes)
	r.t.Logf("objects: %d created, %d deleted, %d stand", w.created.Load(), w.deleted.Load(), w.created.Load()-w.deleted.Load())
	r.t.Logf("writes: %d acknowledged, %d more found done after no clear answer", w.acknowledged.Load(), w.found.Load())
	for _, watcher := range r.watchers {
		r.t.Logf("watch %s: %d events in %d streams, %d relists", watcher.kind.resource, len(watcher.history), watcher.streams, len(watcher.gaps))
	}
	for _, p := range r.pagers {
		r.t.Logf("list %s: %d lists of %d pages, %d more ended by compaction", p.kind.resource, len(p.snapshots), p.pages, p.restarted)
	}
	for text, times := range w.unclear {
		r.t.Logf("%6d x %s", times, text)
	}
}
