package differential

import (
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"testing"

	"keepstone.io/conformance/harness"
)

// TestHistories runs DIFF_SEEDS histories (default 20) of DIFF_STEPS steps (default 300), the first with seed
// DIFF_SEED (default 1). A failure names its seed: DIFF_SEED=n DIFF_SEEDS=1 repeats it.
func TestHistories(t *testing.T) {
	first, seeds, steps := number(t, "DIFF_SEED", 1), number(t, "DIFF_SEEDS", 20), number(t, "DIFF_STEPS", 300)
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			history(t, int64(seed), steps)
		})
	}
}

func history(t *testing.T, seed int64, steps int) {
	reference, subject := harness.Pair(t)
	p := newPair(t, reference, subject)
	// A history in four has a crash in it: what was answered before it must be there after it.
	w := &world{Rand: rand.New(rand.NewSource(seed)), rev: 1, crashes: seed%4 == 0}
	p.seed = seed
	p.do(w, w.anchor())
	for step := range steps {
		if w.crashes && step == steps/2 {
			p.crash()
		}
		w.step(p)
	}
	// Everything that was still to come for watchers of future revisions comes now.
	for w.rev < p.future.latestStart {
		p.do(w, w.put())
	}
	p.settle(w)
	p.do(w, w.rangeAll())
	p.do(w, w.hashAt(0))
}

func number(t *testing.T, name string, fallback int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	value, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatalf("%s=%q: %v", name, text, err)
	}
	return value
}
