package kube

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

const (
	objects     = 2000 // ConfigMaps and Secrets
	customEvery = 40   // one custom object for so many others
	kills       = 10
	workers     = 16
	deleteAfter = 4 // a worker's creates between an object's create and its delete
)

// plan lays out the load: ConfigMaps and Secrets in turn, some custom objects between them, over all namespaces. About
// half of them are deleted again, half are updated right after their create.
func plan() []*item {
	var items []*item
	random := rand.New(rand.NewPCG(1, 1))
	add := func(k *kind, n int) {
		items = append(items, &item{
			kind:      k,
			namespace: loadNamespaces[random.IntN(len(loadNamespaces))],
			name:      fmt.Sprintf("%s-%04d", k.resource, n),
			doomed:    random.IntN(2) == 1,
		})
	}
	for n := range objects {
		add([]*kind{configMaps, secrets}[n%2], n)
		if n%customEvery == 0 {
			add(widgets, n/customEvery)
		}
	}
	return items
}

// A load spreads its creates evenly over the time before, between and after the kills: each window has its share, and
// a worker that is through with its own keeps updating what it has until the next window opens.
type load struct {
	writer  *writer
	items   []*item
	windows atomic.Int64 // kills survived
}

// threshold is the number of creates after which a kill falls, somewhere inside the window before it.
func (l *load) threshold(kill int, random *rand.Rand) int64 {
	share := float64(len(l.items)) / (kills + 1)
	return int64((float64(kill) + 0.1 + 0.7*random.Float64()) * share)
}

func (l *load) open(n int) bool {
	return int64(n)*(kills+1) < (l.windows.Load()+1)*int64(len(l.items))
}

// run carries the whole load out. The first failure ends it.
func (l *load) run(ctx context.Context, fail func(error)) {
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			if err := l.work(ctx, worker); err != nil {
				fail(err)
			}
		})
	}
	all.Wait()
}

func (l *load) work(ctx context.Context, worker int) error {
	random := rand.New(rand.NewPCG(uint64(worker), 1))
	var mine []*item
	for n := worker; n < len(l.items); n += workers {
		for !l.open(n) {
			if err := l.churn(ctx, mine, random); err != nil {
				return err
			}
		}
		i := l.items[n]
		if err := l.writer.create(ctx, i); err != nil {
			return err
		}
		mine = append(mine, i)
		if n/workers%2 == 0 {
			if err := l.writer.update(ctx, i); err != nil {
				return err
			}
		}
		if n := len(mine); n > deleteAfter {
			if err := l.retire(ctx, mine[n-1-deleteAfter]); err != nil {
				return err
			}
		}
	}
	for _, i := range mine[max(0, len(mine)-deleteAfter):] {
		if err := l.retire(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// churn updates one object that is there.
func (l *load) churn(ctx context.Context, mine []*item, random *rand.Rand) error {
	if len(mine) > 0 {
		if i := mine[random.IntN(len(mine))]; !i.deleted {
			return l.writer.update(ctx, i)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// retire deletes the object if it is doomed.
func (l *load) retire(ctx context.Context, i *item) error {
	if !i.doomed {
		return nil
	}
	return l.writer.remove(ctx, i)
}
