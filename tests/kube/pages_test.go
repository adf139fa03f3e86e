package kube

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// A snapshot is what the pages of one list say together: the load's objects at one revision.
type snapshot struct {
	kind     *kind
	revision int64
	objects  map[string]write // by namespace/name
	pages    int
}

// listOnce lists a whole kind in pages of limit objects, all at the revision of the first page. Which store it comes
// from is the apiserver's choice; see kinds.
func listOnce(ctx context.Context, a *api, k *kind, limit int) (snapshot, error) {
	s := snapshot{kind: k, objects: map[string]write{}}
	query := map[string][]string{"limit": {strconv.Itoa(limit)}}
	for {
		list, err := a.page(ctx, k, query)
		if err != nil {
			if !isGone(err) && !isDefinite(err) && pause(ctx, retryAfter) {
				continue // the same page again: its token outlives the store's restart
			}
			return s, err
		}
		s.pages++
		revision, err := strconv.ParseInt(list.Metadata.ResourceVersion, 10, 64)
		if err != nil {
			return s, err
		}
		if s.pages > 1 && revision != s.revision {
			return s, fmt.Errorf("list %s: page %d is at %d, the first was at %d", k.resource, s.pages, revision, s.revision)
		}
		s.revision = revision
		if err := s.add(list.Items, limit); err != nil {
			return s, err
		}
		if list.Metadata.Continue == "" {
			return s, nil
		}
		query["continue"] = []string{list.Metadata.Continue}
	}
}

func (s *snapshot) add(page []object, limit int) error {
	if len(page) > limit {
		return fmt.Errorf("list %s: %d objects in a page of %d", s.kind.resource, len(page), limit)
	}
	for _, o := range page {
		if !isLoad(o.Metadata.Namespace) {
			continue
		}
		v, err := o.version()
		if err != nil {
			return err
		}
		revision, err := o.revision()
		if err != nil {
			return err
		}
		if _, twice := s.objects[o.key()]; twice {
			return fmt.Errorf("list %s: %s is in it twice", s.kind.resource, o.key())
		}
		s.objects[o.key()] = write{v, revision}
	}
	return nil
}

const (
	pageLimit    = 100                    // while the store is being killed: many pages, so that kills fall between them
	listPause    = 100 * time.Millisecond // between two lists
	keptSnapshot = 400                    // lists of one kind that are kept for the check
)

// A pager lists one kind in pages, again and again.
type pager struct {
	kind      *kind
	snapshots []snapshot
	pages     int
	restarted int // lists whose token had been compacted under them
}

// run lists until ctx ends. What must not happen goes to fail.
func (p *pager) run(ctx context.Context, a *api, fail func(error)) {
	for ctx.Err() == nil && len(p.snapshots) < keptSnapshot {
		s, err := listOnce(ctx, a, p.kind, pageLimit)
		switch {
		case err == nil:
			p.snapshots = append(p.snapshots, s)
			p.pages += s.pages
		case isGone(err):
			p.restarted++
		case ctx.Err() == nil:
			fail(err)
			return
		}
		pause(ctx, listPause)
	}
}

// check compares each list with the events up to its revision: it must be the state that they add up to.
func (p *pager) check(history []event, gaps []gap) (problems []string) {
	slices.SortFunc(p.snapshots, func(a, b snapshot) int { return int(a.revision - b.revision) })
	state := map[string]write{}
	for _, s := range p.snapshots {
		for len(history) > 0 && history[0].revision <= s.revision {
			e := history[0]
			history = history[1:]
			if e.kind == "DELETED" {
				delete(state, e.key)
			} else {
				state[e.key] = write{e.version, e.revision}
			}
		}
		if len(gaps) > 0 && s.revision > gaps[0].after {
			break // from here on the events do not tell the whole state
		}
		problems = append(problems, differences(fmt.Sprintf("list %s at %d", p.kind.resource, s.revision), state, s.objects)...)
	}
	return problems
}

// differences names up to ten objects that are not as they should be.
func differences(where string, want, got map[string]write) (problems []string) {
	for key, w := range want {
		if g, there := got[key]; !there || g != w {
			problems = append(problems, fmt.Sprintf("%s: %s should be %v, is %v (there: %v)", where, key, w, g, there))
		}
	}
	for key, g := range got {
		if _, there := want[key]; !there {
			problems = append(problems, fmt.Sprintf("%s: %s should not be there, is %v", where, key, g))
		}
	}
	return problems[:min(len(problems), 10)]
}
