package kube

import (
	"context"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"
)

// finalLimit is the page size of the lists at the end.
const finalLimit = 500

// checkObservers compares what the watchers and pagers were given with what the writers were told.
func (r *run) checkObservers() {
	histories := map[*kind]*watcher{}
	for _, w := range r.watchers {
		r.problems(w.check(r.all()))
		if known := histories[w.kind]; known == nil || len(w.gaps) < len(known.gaps) {
			histories[w.kind] = w
		}
	}
	for _, p := range r.pagers {
		if w := histories[p.kind]; len(p.snapshots) == 0 {
			r.t.Errorf("%s were never listed to the end", p.kind.resource)
		} else {
			r.problems(p.check(w.history, w.gaps))
		}
	}
	writes := map[int64]*item{}
	for _, i := range r.all() {
		for _, w := range i.writes {
			if other := writes[w.revision]; other != nil {
				r.t.Errorf("revision %d was given to %s and to %s", w.revision, other, i)
			}
			writes[w.revision] = i
		}
	}
}

// checkStore compares the objects that are there with the acknowledged ones: as the apiserver lists them, and as they
// lie in the store, where the key's version counts the writes that took effect.
func (r *run) checkStore() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{r.cluster.endpoint}, DialTimeout: 10 * time.Second})
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	for _, k := range kinds {
		want := r.acknowledged(k)
		listed, err := listOnce(r.ctx, r.api, k, finalLimit)
		if err != nil {
			r.t.Fatal(err)
		}
		r.problems(differences("list "+k.resource+" at the end", want, listed.objects))

		stored, err := client.Get(r.ctx, k.keys, clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			r.t.Fatal(err)
		}
		got := map[string]write{}
		for _, kv := range stored.Kvs {
			key := strings.TrimPrefix(string(kv.Key), k.keys)
			if isLoad(key) {
				// Which try it was only the object says, and the list above has compared that.
				got[key] = write{version{int(kv.Version), want[key].try}, kv.ModRevision}
			}
		}
		r.problems(differences("stored "+k.resource, want, got))
	}
}

// checkGone watches secrets, which no cache of the apiserver answers for, from a revision that has been compacted: the
// answer must be the one that makes a controller list anew.
func (r *run) checkGone(compacted int64) {
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	err := r.api.watch(ctx, secrets, compacted, 0, func(e watchEvent) error {
		return fmt.Errorf("a %s event", e.Type)
	})
	if err == nil || !isGone(err) {
		r.t.Errorf("a watch from revision %d, which has been compacted, ended with: %v", compacted, err)
	}
}

// compareInformer is nil while the informer's store is what is wanted.
func compareInformer(informer cache.SharedIndexInformer, want map[string]write) error {
	got := map[string]string{}
	for _, o := range informer.GetStore().List() {
		access, err := meta.Accessor(o)
		if err != nil {
			return err
		}
		if isLoad(access.GetNamespace()) {
			got[access.GetNamespace()+"/"+access.GetName()] = access.GetResourceVersion()
		}
	}
	for key, w := range want {
		if got[key] != fmt.Sprint(w.revision) {
			return fmt.Errorf("%s should be at %d, is at %q", key, w.revision, got[key])
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d objects instead of %d", len(got), len(want))
	}
	return nil
}

// problems reports what went wrong, in bounds.
func (r *run) problems(all []string) {
	for at, problem := range all {
		if at == 20 {
			r.t.Errorf("and %d more", len(all)-at)
			return
		}
		r.t.Error(problem)
	}
}
