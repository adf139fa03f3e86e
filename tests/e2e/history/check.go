package history

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
)

// Check returns what can't have happened in one store that keeps what it acknowledges; nothing is the judgement one wants.
//
// The watch gives the order of all changes. Every acknowledged put is in it once, at its revision; one that was not
// acknowledged at most once; and nothing else. A call that began after another was answered sees that one's revision or a
// later one. A get returns what its key was at the revision of its answer.
func Check(h *History) []string {
	c := &checker{h: h, byValue: map[string]int{}, byKey: map[string][]Event{}}
	c.problems = append(c.problems, h.Broken...)
	c.cluster()
	c.order()
	c.puts()
	c.realTime()
	c.gets()
	return c.problems
}

type checker struct {
	h        *History
	problems []string
	byValue  map[string]int     // index of the event
	byKey    map[string][]Event // in order
}

func (c *checker) wrong(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// cluster wants all answers to be of the same one.
func (c *checker) cluster() {
	var first *Call
	for i := range c.h.Calls {
		call := &c.h.Calls[i]
		if !call.acknowledged() {
			continue
		}
		if first == nil {
			first = call
		}
		if call.Cluster != first.Cluster {
			c.wrong("answers of two clusters: %x, and %x in %+v", first.Cluster, call.Cluster, *call)
			return
		}
	}
}

// order wants the watch to go forward. A run's changes are one a revision.
func (c *checker) order() {
	var seen int64
	for i, event := range c.h.Events {
		if event.Revision <= seen {
			c.wrong("the watch goes from revision %d to %+v", seen, event)
		}
		seen = max(seen, event.Revision)
		if event.Deleted {
			c.wrong("nobody deleted %+v", event)
			continue
		}
		if other, twice := c.byValue[event.Value]; twice {
			c.wrong("one put took effect twice: %+v and %+v", c.h.Events[other], event)
		}
		c.byValue[event.Value] = i
		c.byKey[event.Key] = append(c.byKey[event.Key], event)
	}
}

// puts matches them with events.
func (c *checker) puts() {
	known := map[string]bool{}
	for i := range c.h.Calls {
		call := &c.h.Calls[i]
		if call.Kind != Put {
			continue
		}
		known[call.Value] = true
		at, there := c.byValue[call.Value]
		if !there {
			if call.acknowledged() {
				c.wrong("lost: %+v was acknowledged, and the watch does not have it", *call)
			}
			continue
		}
		event := c.h.Events[at]
		if event.Key != call.Key {
			c.wrong("%+v was told of as %+v", *call, event)
		}
		if call.acknowledged() && event.Revision != call.Revision {
			c.wrong("%+v was acknowledged at another revision than that of %+v", *call, event)
		}
	}
	for _, event := range c.h.Events {
		if !event.Deleted && !known[event.Value] {
			c.wrong("nobody put %+v", event)
		}
	}
}

// effect is the revision that a call shows to have been reached, and whether it made that revision; 0 where none is known.
func (c *checker) effect(call *Call) (revision int64, made bool) {
	if call.Kind == Put {
		if at, there := c.byValue[call.Value]; there {
			return c.h.Events[at].Revision, true
		}
		return call.Revision, true
	}
	if !call.acknowledged() {
		return 0, false
	}
	return call.Revision, false
}

// realTime wants time to go forward in the store as it does outside.
func (c *checker) realTime() {
	calls := make([]*Call, len(c.h.Calls))
	for i := range c.h.Calls {
		calls[i] = &c.h.Calls[i]
	}
	// What had been reached when a call began is the most that any call showed which was answered before.
	ended := slices.DeleteFunc(slices.Clone(calls), func(call *Call) bool { return !call.acknowledged() })
	slices.SortFunc(ended, func(a, b *Call) int { return cmp.Compare(a.Ended, b.Ended) })
	slices.SortFunc(calls, func(a, b *Call) int { return cmp.Compare(a.Began, b.Began) })
	next := 0
	var reached int64
	var by *Call
	for _, call := range calls {
		for ; next < len(ended) && ended[next].Ended < call.Began; next++ {
			if ended[next].Revision > reached {
				reached, by = ended[next].Revision, ended[next]
			}
		}
		revision, made := c.effect(call)
		if revision != 0 && (revision < reached || made && revision == reached) {
			c.wrong("back in time: %+v is of revision %d, and before it began %+v was answered", *call, revision, *by)
		}
	}
}

// gets wants what was there at the revision that the answer is of.
func (c *checker) gets() {
	for i := range c.h.Calls {
		call := &c.h.Calls[i]
		if call.Kind != Get || !call.acknowledged() {
			continue
		}
		events := c.byKey[call.Key]
		after := sort.Search(len(events), func(i int) bool { return events[i].Revision > call.Revision })
		var want Event
		if after > 0 {
			want = events[after-1]
		}
		if call.Value != want.Value || call.Modified != want.Revision {
			c.wrong("%+v should have got %+v", *call, want)
		}
	}
}
