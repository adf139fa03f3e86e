package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// right is a history that can have happened: one client puts and one gets, a put is never answered but takes effect, and
// another does not.
func right() *History {
	return &History{
		Calls: []Call{
			{Client: 0, Kind: Put, Key: "a", Value: "1", Began: 0, Ended: 10, Revision: 5, Cluster: 7},
			{Client: 1, Kind: Get, Key: "a", Value: "1", Began: 5, Ended: 12, Revision: 5, Modified: 5, Cluster: 7},
			{Client: 0, Kind: Put, Key: "b", Value: "2", Began: 11, Ended: 20, Error: "timeout"},
			{Client: 0, Kind: Put, Key: "a", Value: "3", Began: 21, Ended: 30, Error: "timeout"},
			{Client: 1, Kind: Get, Key: "b", Began: 13, Ended: 25, Revision: 6, Cluster: 7},
			{Client: 0, Kind: Put, Key: "a", Value: "4", Began: 31, Ended: 40, Revision: 9, Cluster: 7},
			{Client: 1, Kind: Get, Key: "b", Value: "2", Began: 35, Ended: 50, Revision: 8, Modified: 8, Cluster: 7},
			{Client: 1, Kind: Get, Key: "b", Value: "2", Began: 51, Ended: 60, Revision: 9, Modified: 8, Cluster: 7},
		},
		Events: []Event{
			{Revision: 5, Key: "a", Value: "1"},
			{Revision: 8, Key: "b", Value: "2"}, // others write too, so revisions have holes
			{Revision: 9, Key: "a", Value: "4"},
		},
	}
}

func TestARightHistory(t *testing.T) {
	if problems := Check(right()); len(problems) != 0 {
		t.Error(problems)
	}
}

func TestPlantedViolations(t *testing.T) {
	for _, violation := range []struct {
		name  string
		plant func(*History)
		want  string
	}{
		{"an acknowledged put is lost", func(h *History) { h.Events = h.Events[:2] }, "lost"},
		{"the watch skips a put", func(h *History) { h.Events = slices.Delete(h.Events, 0, 1) }, "lost"},
		{"the watch repeats an event", func(h *History) { h.Events = append(h.Events, h.Events[2]) }, "goes from revision"},
		{"the watch goes back", func(h *History) { h.Events[0], h.Events[1] = h.Events[1], h.Events[0] }, "goes from revision"},
		{"a put takes effect twice", func(h *History) {
			h.Events = append(h.Events, Event{Revision: 10, Key: "b", Value: "2"})
		}, "twice"},
		{"a put at another revision", func(h *History) { h.Events[2].Revision = 10 }, "another revision"},
		{"a put of another key", func(h *History) { h.Events[1].Key = "a" }, "told of as"},
		{"a put of nobody's", func(h *History) { h.Events = append(h.Events, Event{Revision: 11, Key: "a", Value: "x"}) }, "nobody put"},
		{"a key is gone", func(h *History) { h.Events = append(h.Events, Event{Revision: 11, Key: "a", Deleted: true}) }, "nobody deleted"},
		{"a stale get", func(h *History) {
			h.Calls[7].Revision, h.Calls[7].Value, h.Calls[7].Modified = 5, "", 0
		}, "back in time"},
		{"a get behind what another had seen", func(h *History) { h.Calls[6].Ended, h.Calls[7].Revision = 45, 7 }, "back in time"},
		{"a get of a wrong value", func(h *History) { h.Calls[7].Value = "1" }, "should have got"},
		{"a get that misses a key", func(h *History) { h.Calls[7].Value, h.Calls[7].Modified = "", 0 }, "should have got"},
		{"a get of a key that is not yet there", func(h *History) { h.Calls[4].Value, h.Calls[4].Modified = "2", 8 }, "should have got"},
		{"a get with the wrong revision", func(h *History) { h.Calls[7].Modified = 5 }, "should have got"},
		{"an unclear put before its time", func(h *History) { h.Calls[2].Began, h.Calls[2].Ended = 61, 70 }, "back in time"},
		{"an acknowledged put before its time", func(h *History) { h.Calls[0].Began, h.Calls[0].Ended = 55, 59 }, "back in time"},
		{"two clusters", func(h *History) { h.Calls[5].Cluster = 8 }, "two clusters"},
		{"a broken watch", func(h *History) { h.Broken = []string{"compacted"} }, "compacted"},
	} {
		h := right()
		violation.plant(h)
		problems := Check(h)
		if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, violation.want) }) {
			t.Errorf("%s: want %q, got %q", violation.name, violation.want, problems)
		}
	}
}

// TestEveryLostEventIsMissed takes each event away from a long history of many clients.
func TestEveryLostEventIsMissed(t *testing.T) {
	whole := long(rand.New(rand.NewPCG(1, 1)), 400)
	if problems := Check(whole); len(problems) != 0 {
		t.Fatal(problems[0])
	}
	for i := range whole.Events {
		h := &History{Calls: whole.Calls, Events: slices.Delete(slices.Clone(whole.Events), i, i+1)}
		if len(Check(h)) == 0 {
			t.Errorf("nobody misses %+v", whole.Events[i])
		}
	}
}

// long runs clients against a store that is right. What is on its way at the end is never answered.
func long(random *rand.Rand, steps int) *History {
	h := &History{}
	state := map[string]Event{}
	busy := map[int]*Call{}
	var now, revision int64 = 0, 1
	for i := range steps {
		now++
		client := random.IntN(5)
		call, ok := busy[client]
		if !ok {
			kind := Put
			if random.IntN(3) == 0 {
				kind = Get
			}
			busy[client] = &Call{Client: client, Kind: kind, Key: fmt.Sprint(random.IntN(3)), Value: fmt.Sprint(i), Began: now, Cluster: 1}
			continue
		}
		delete(busy, client)
		if call.Kind == Put {
			revision++
			event := Event{Revision: revision, Key: call.Key, Value: call.Value}
			state[call.Key] = event
			h.Events = append(h.Events, event)
		} else {
			call.Value, call.Modified = state[call.Key].Value, state[call.Key].Revision
		}
		call.Revision = revision
		now++
		call.Ended = now
		h.Calls = append(h.Calls, *call)
	}
	return h
}

func TestSummary(t *testing.T) {
	s := Summarize(right())
	if s.Puts != 2 || s.Unclear != 2 || s.Gets != 4 || s.Events != 3 || len(s.Errors) != 1 {
		t.Errorf("%+v", s)
	}
	if s.LongestPause != 30 || s.PauseBegan != time.Duration(10) {
		t.Errorf("the pause was %d from %d on", s.LongestPause, s.PauseBegan)
	}
}
