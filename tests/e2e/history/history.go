// Package history is what clients of a store saw, and the judgement on it: whether all of it can have happened in one
// store that lost nothing.
package history

import "time"

// A Kind is what a call was.
type Kind string

const (
	Put Kind = "put"
	Get Kind = "get" // linearizable
)

// A Call is one request to the store. All times are of one clock, in nanoseconds since it began.
type Call struct {
	Client   int    `json:"client"` // one call after the other; clients are beside each other
	Kind     Kind   `json:"kind"`
	Key      string `json:"key"`
	Value    string `json:"value,omitempty"` // that was put, which no other call puts; or that was got
	Began    int64  `json:"began"`
	Ended    int64  `json:"ended"`
	Revision int64  `json:"revision,omitempty"` // of the answer's header
	Modified int64  `json:"modified,omitempty"` // what a get said of the key's last change; 0 where there is no key
	Cluster  uint64 `json:"cluster,omitempty"`  // of the answer's header
	Error    string `json:"error,omitempty"`    // then nobody knows whether a put took effect
}

func (c *Call) acknowledged() bool { return c.Error == "" }

// An Event is a change as the watcher was told of it, in the order it was.
type Event struct {
	Revision int64  `json:"revision"`
	Key      string `json:"key"`
	Value    string `json:"value"`
	Deleted  bool   `json:"deleted,omitempty"`
}

// A History is all that the clients of one run saw. The watcher saw the run's keys from their first change on, and up to
// the last call's revision at least.
type History struct {
	Calls  []Call  `json:"calls"`
	Events []Event `json:"events"`
	// Broken is what must not happen to a watch: that it is refused for good, or says there is a hole.
	Broken []string `json:"broken,omitempty"`
}

// A Summary is what a run comes to.
type Summary struct {
	Puts         int           `json:"puts"`         // acknowledged
	Unclear      int           `json:"unclear"`      // puts without an answer
	Gets         int           `json:"gets"`         // answered
	Events       int           `json:"events"`       // told of
	LongestPause time.Duration `json:"longestPause"` // in which one and the same client had no put acknowledged
	PauseBegan   time.Duration `json:"pauseBegan"`   // when, since the run began
	Errors       []string      `json:"errors"`       // each text once
}

// Summarize counts. A pause is between two acknowledged puts: what was before the first, or is after the last, is none.
func Summarize(h *History) Summary {
	var s Summary
	s.Events = len(h.Events)
	last := map[int]int64{}
	texts := map[string]bool{}
	for i := range h.Calls {
		c := &h.Calls[i]
		switch {
		case !c.acknowledged():
			if c.Kind == Put {
				s.Unclear++
			}
			if !texts[c.Error] {
				texts[c.Error] = true
				s.Errors = append(s.Errors, c.Error)
			}
		case c.Kind == Get:
			s.Gets++
		default:
			s.Puts++
			if before, ok := last[c.Client]; ok && time.Duration(c.Ended-before) > s.LongestPause {
				s.LongestPause, s.PauseBegan = time.Duration(c.Ended-before), time.Duration(before)
			}
			last[c.Client] = c.Ended
		}
	}
	return s
}

// State is what the keys are at the end, by their last event.
func (h *History) State() map[string]Event {
	state := map[string]Event{}
	for _, e := range h.Events {
		state[e.Key] = e
	}
	return state
}
