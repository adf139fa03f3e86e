package cluster

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"keepstone.io/conformance/harness"
)

// arm has the member fail at a point when it is started next; at none with "". See docs/fail-points.md.
func (m *member) arm(point string) {
	m.env = nil
	if point != "" {
		m.env = []string{"GOFAIL_FAILPOINTS=" + point + "=panic"}
	}
}

// died waits until the member is dead of the point it was armed with.
func (m *member) died() {
	m.t.Helper()
	m.ended()
	_, point, _ := strings.Cut(m.env[0], "=")
	point, _, _ = strings.Cut(point, "=")
	require.Equal(m.t, 2, m.cmd.ProcessState.ExitCode(), m.name)
	require.Contains(m.t, m.log(), "failpoint panic: "+point)
}

// dieAt starts the member and waits until it is dead of a point.
func (m *member) dieAt(point string) {
	m.t.Helper()
	m.arm(point)
	m.start()
	m.died()
}

// TestAReceiverDiesAtEveryStepOfASnapshot: whatever it has of the leader's state then, it comes back and gets the rest.
func TestAReceiverDiesAtEveryStepOfASnapshot(t *testing.T) {
	for _, steps := range []string{
		"snapshotBeforeSavePiece snapshotAfterSavePiece raftBeforeSaveSnap raftAfterSaveSnap raftBeforeApplySnap " +
			"applyBeforeOpenSnapshot snapshotBeforeSettle snapshotAfterSettle",
		"raftAfterApplySnap snapshotBeforeSettle",
		"raftAfterWALRelease snapshotAfterSettle",
		"snapshotBeforeRetire",
	} {
		points := strings.Fields(steps)
		t.Run(points[0], func(t *testing.T) {
			t.Parallel()
			all, last := leftBehind(t, syscall.SIGKILL, func(*member) {})
			for _, point := range points {
				last.dieAt(point)
			}
			last.arm("")
			last.start()
			last.ready()
			agree(t, all)
			require.Equal(t, large, get(t, last, "while-away-007"))
		})
	}
}

// TestSendersOfASnapshotDie one after the other: the member that lags gets the state all the same.
func TestSendersOfASnapshotDie(t *testing.T) {
	all, last := leftBehind(t, syscall.SIGKILL, func(*member) {})
	for _, m := range all {
		if m != last && purged(m) == 0 {
			purge(t, m)
			harness.Eventually(t, "the other log to go", func() bool { return purged(m) > 0 })
		}
	}
	// Whoever leads sends.
	for _, m := range all {
		if m != last {
			m.end(syscall.SIGKILL)
			m.arm("snapshotBeforeSend")
			m.start()
		}
	}
	last.start()
	var dead []*member
	for range 2 {
		// With the one that is left there is a quorum still.
		one := firstDead(t, all)
		one.died()
		dead = append(dead, one)
	}
	for _, m := range dead {
		m.arm("")
		m.start()
	}
	for _, m := range all {
		m.ready()
	}
	agree(t, all)
	require.Equal(t, large, get(t, last, "while-away-299"))
}

func firstDead(t *testing.T, all []*member) (dead *member) {
	t.Helper()
	harness.Eventually(t, "one to die", func() bool {
		for _, m := range all {
			// Whose end was seen has no channel any more.
			select {
			case <-m.done:
				dead = m
				return true
			default:
			}
		}
		return false
	})
	return dead
}

// TestADeposedLeaderDiesOfItsEnd: entries that no other member has are cut off, once, wherever it dies meanwhile.
func TestADeposedLeaderDiesOfItsEnd(t *testing.T) {
	all := three(t, harness.UnderTest(t))
	old, others := leader(t, all)
	fill(t, old, "before", 5, value)
	for _, m := range others {
		m.end(syscall.SIGKILL)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := old.connect().Put(ctx, "alone", value)
	require.Error(t, err)
	old.end(syscall.SIGKILL)
	for _, m := range others {
		m.start()
	}
	for _, m := range others {
		m.ready()
	}
	fill(t, others[0], "after", 5, value)
	old.dieAt("raftBeforeTruncate")
	old.dieAt("raftAfterTruncate")
	old.arm("")
	old.start()
	old.ready()
	agree(t, all)
	for _, m := range all {
		answer, err := m.connect().Get(within(t), "alone")
		require.NoError(t, err)
		require.Empty(t, answer.Kvs, m.name)
	}
}

// TestARepairDiesWithTheLeader, before the state is brought and after: it is begun again.
func TestARepairDiesWithTheLeader(t *testing.T) {
	all := spoil(t)
	a, c := all[0], all[2]
	c.start()
	c.ready()
	fence(t, a, c)
	for _, point := range []string{"repairBeforeBring", "repairAfterBring"} {
		for _, m := range all[:2] {
			m.end(syscall.SIGKILL)
			m.arm(point)
			m.start()
			m.ready()
		}
		harness.Eventually(t, "the leader to die", func() bool {
			_, _ = repair(c)
			for _, m := range all[:2] {
				select {
				case <-m.done:
					return true
				default:
				}
			}
			return false
		})
		dead := firstDead(t, all[:2])
		dead.died()
		dead.arm("")
		dead.start()
		dead.ready()
	}
	for _, m := range all[:2] {
		m.end(syscall.SIGKILL)
		m.arm("")
		m.start()
		m.ready()
	}
	harness.Eventually(t, "the repair", func() bool {
		text, err := repair(c)
		require.NoError(t, err)
		if strings.Contains(text, "it leads") {
			// Whoever was the only one to run all the time.
			_, _ = c.connect().MoveLeader(within(t), id(t, a))
		}
		return text == "repaired\n"
	})
	mended(t, all, c)
}

// TestAFollowersVoteDiesWithIt: a vote that was given is on disk, one that is not was not given; there is a leader again.
func TestAFollowersVoteDiesWithIt(t *testing.T) {
	all := three(t, harness.UnderTest(t))
	for _, point := range []string{"raftBeforeSaveVote", "raftAfterSaveVote", "raftBeforeFollowerSend"} {
		old, others := leader(t, all)
		fill(t, old, point, 5, value)
		for _, m := range others {
			m.end(syscall.SIGKILL)
		}
		old.end(syscall.SIGKILL)
		// One alone is no quorum: whoever is first to vote, or to be voted for, dies.
		for _, m := range others {
			m.arm(point)
			m.start()
		}
		if point == "raftBeforeFollowerSend" {
			old.start()
		}
		dead := firstDead(t, others)
		dead.died()
		dead.arm("")
		dead.start()
		for _, m := range others {
			if m != dead {
				m.end(syscall.SIGKILL)
				m.arm("")
				m.start()
			}
		}
		if old.done == nil {
			old.start()
		}
		for _, m := range all {
			m.ready()
		}
		agree(t, all)
		for i := range 5 {
			require.Equal(t, value, get(t, dead, fmt.Sprintf("%s-%03d", point, i)))
		}
	}
}
