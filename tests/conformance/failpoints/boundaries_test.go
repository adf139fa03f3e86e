package failpoints

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"keepstone.io/conformance/harness"
)

// What brings a member that serves puts to a point.
type trigger func(t *testing.T, m *member, l *load)

func puts(*testing.T, *member, *load) {}

// defragment has all that was applied written and made durable, and the log give up what is durable elsewhere, until the
// member is dead of it. It may have died of a checkpoint of its own before.
func defragment(t *testing.T, m *member, l *load) {
	t.Helper()
	harness.Eventually(t, "the member to die", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, _ = l.clients[0].Defragment(ctx, m.Addr)
		return m.Dead()
	})
}

func compact(t *testing.T, m *member, l *load) {
	t.Helper()
	harness.Eventually(t, "the member to die", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		l.lock.Lock()
		revision := l.last
		l.lock.Unlock()
		_, _ = l.clients[0].Compact(ctx, revision)
		return m.Dead()
	})
}

// boundaries are the points at which something is, or is about to be, on disk, and what brings a lone member there.
var boundaries = []struct {
	trigger trigger
	points  string
}{
	{puts, "raftBeforeSave walBeforeSync walAfterSync raftAfterSave raftBeforeLeaderSend beforeApplyOneEntryNormal raftBeforeAdvance"},
	{defragment, "raftBeforePurge raftAfterPurge defragBeforeCopy beforeStartDBTxn afterStartDBTxn commitBeforePreCommitHook commitAfterPreCommitHook beforeWritebackBuf " +
		"afterWritebackBuf"},
	{defragment, "beforeCommit heapBeforeSync heapAfterSync rowsBeforeSync rowsAfterSync afterCommit defragBeforeRename"},
	{compact, "compactBeforeCommitScheduledCompact compactAfterCommitScheduledCompact compactBeforeCommitBatch compactAfterCommitBatch " +
		"compactBeforeSetFinishedCompact compactAfterSetFinishedCompact"},
}

// TestDeathAtEveryBoundary has a member die at each point under load, over and over on the same data: what was
// acknowledged is there each time, and revisions go on.
func TestDeathAtEveryBoundary(t *testing.T) {
	t.Parallel()
	for _, boundary := range boundaries {
		first, _, _ := strings.Cut(boundary.points, " ")
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			m := start(t, harness.Flags("--snapshot-count=10", "--snapshot-catchup-entries=5"))
			l := newLoad(m)
			for _, point := range strings.Fields(boundary.points) {
				die(t, m, l, point, boundary.trigger)
			}
		})
	}
}

// TestDeathAtTheLogsSegments is the same where the log goes on in another file and gives up an old one.
func TestDeathAtTheLogsSegments(t *testing.T) {
	t.Parallel()
	m := start(t, harness.Flags("--snapshot-count=10", "--snapshot-catchup-entries=5"))
	l := newLoad(m)
	// A segment has 64 MiB.
	l.value = strings.Repeat("0123456789abcdef", 1<<16)
	for _, point := range strings.Fields("walBeforeRoll walAfterRoll walBeforeRelease raftAfterWALRelease") {
		trigger := defragment
		if strings.HasSuffix(point, "Roll") {
			trigger = puts
		}
		die(t, m, l, point, trigger)
	}
}

func die(t *testing.T, m *member, l *load, point string, trigger trigger) {
	t.Helper()
	l.begin()
	l.enough()
	m.arm(point, "panic")
	trigger(t, m, l)
	require.Equal(t, exitCode, m.Ended(), point)
	l.end()
	require.Contains(t, m.Log(), "failpoint panic: "+point+"\n")
	m.Restart()
	l.check()
}

// TestDeathAtTheStart has a member die at what only a start comes by, in a new directory and in one that is used.
func TestDeathAtTheStart(t *testing.T) {
	t.Parallel()
	m := start(t)
	l := newLoad(m)
	l.begin()
	l.enough()
	for _, point := range strings.Fields("raftBeforeSaveVote raftAfterSaveVote") {
		m.Kill()
		l.end()
		require.Equal(t, exitCode, m.RestartToDie("GOFAIL_FAILPOINTS="+point+"=panic"), point)
		m.Restart()
		l.check()
	}
	fresh := "passportBeforeSave=panic passportAfterSave=panic passportBeforeSave=1*off->panic passportAfterSave=1*off->panic " +
		"raftBeforeSaveVote=panic raftAfterSaveVote=panic raftBeforeSave=panic raftAfterSave=panic " +
		"beforeApplyOneConfChange=panic beforeApplyOneEntryNormal=panic beforePublishing=panic"
	for _, point := range strings.Fields(fresh) {
		m.Kill()
		require.NoError(t, os.RemoveAll(m.Dir))
		require.Equal(t, exitCode, m.RestartToDie("GOFAIL_FAILPOINTS="+point), point)
		m.Restart()
		client := m.Client()
		members, err := client.MemberList(harness.Context(t))
		require.NoError(t, err)
		require.Len(t, members.Members, 1)
		put, err := client.Put(harness.Context(t), "first", "")
		require.NoError(t, err)
		require.EqualValues(t, 2, put.Header.Revision)
	}
}
