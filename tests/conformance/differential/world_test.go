package differential

import (
	"fmt"
	"math/rand"
)

// world is what the generator needs to know to ask interesting questions.
type world struct {
	*rand.Rand
	rev       int64 // the newest revision
	compacted int64
	floors    []int64 // every revision compacted at
	leases    []int64
	crashes   bool // both sides are killed and started again
}

// step takes one random step.
func (w *world) step(p *pair) {
	switch n := w.Intn(100); {
	case n < 26:
		p.do(w, w.put())
	case n < 36:
		p.do(w, w.deleteRange())
	case n < 56:
		p.do(w, w.txn())
	case n < 72:
		p.do(w, w.rangeRequest())
	case n < 80:
		w.leaseStep(p)
	case n < 83:
		w.compactStep(p)
	case n < 88:
		p.do(w, w.hash())
	case n < 92:
		w.watchStep(p)
	case n < 94:
		w.cancelStep(p)
	case n < 99:
		p.do(w, w.bad())
	default:
		p.settle(w)
	}
}

func (w *world) chance(percent int) bool { return w.Intn(100) < percent }

// key is one of few, so that histories collide; some are not text.
func (w *world) key() []byte {
	switch n := w.Intn(20); {
	case n < 14:
		return fmt.Appendf(nil, "k/%02d", w.Intn(24))
	case n < 17:
		return fmt.Appendf(nil, "m/%c", 'a'+rune(w.Intn(4)))
	case n < 18:
		return []byte{'z', 0xff, byte(w.Intn(3))}
	case n < 19:
		return []byte{0xff, 0xff}
	default:
		return []byte("k/")
	}
}

// interval is a single key or any of the ways to name a range.
func (w *world) interval() (key, end []byte) {
	switch n := w.Intn(20); {
	case n < 6:
		return w.key(), nil
	case n < 10:
		return []byte("k/"), []byte("k0")
	case n < 12:
		tens := byte('0' + w.Intn(3))
		return []byte{'k', '/', tens}, []byte{'k', '/', tens + 1}
	case n < 13:
		return []byte("m/"), []byte("m0")
	case n < 15:
		return w.key(), w.key()
	case n < 16:
		return w.key(), []byte{0}
	case n < 17:
		return []byte("k/9"), []byte("k/1")
	default:
		return []byte{'a'}, []byte{0}
	}
}

func (w *world) value() []byte {
	switch n := w.Intn(20); {
	case n < 2:
		return nil
	case n < 17:
		return fmt.Appendf(nil, "v%d", w.Intn(50))
	case n < 19:
		return []byte{0, 0xff, byte(w.Intn(256))}
	default:
		value := make([]byte, w.Intn(20_000))
		w.Read(value)
		return value
	}
}

// revision is mostly the present, else something from just compacted to just beyond the newest.
func (w *world) revision() int64 {
	switch n := w.Intn(10); {
	case n < 5:
		return 0
	case n < 9:
		return w.oldRevision()
	default:
		return w.rev + int64(w.Intn(3))
	}
}

func (w *world) oldRevision() int64 {
	from := max(1, w.compacted-1)
	return from + w.Int63n(max(1, w.rev-from+1))
}

// someLease is mostly one that exists or existed.
func (w *world) someLease() int64 {
	if len(w.leases) == 0 || w.chance(5) {
		return 1 + w.Int63n(40)
	}
	return w.leases[w.Intn(len(w.leases))]
}
