package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keepstone.io/conformance/harness"
)

const value = "value"

// shortLog has members forget their log soon.
var shortLog = []string{"--snapshot-count=50", "--snapshot-catchup-entries=5"}

// large are values of which a snapshot takes long enough to be interrupted.
var large = strings.Repeat("0123456789abcdef", 1<<13)

// leftBehind are three members of which the last has no way back through the log: it is stopped as signal does it while
// the others go on.
func leftBehind(t *testing.T, signal syscall.Signal, before func(*member)) (all []*member, last *member) {
	t.Helper()
	for _, name := range []string{"a", "b", "c"} {
		m := newMember(t, harness.UnderTest(t), name)
		// Else nobody is told of each message that fails.
		m.env = []string{"KEEPSTONE_LOG=openraft::replication=warn"}
		all = append(all, m)
	}
	found(t, all, shortLog...)
	lead, others := leader(t, all)
	last = others[0]
	before(last)
	status, err := last.connect().Status(within(t), last.client)
	require.NoError(t, err)
	givenUp := func() int { return strings.Count(lead.log(), "ReplicationCore recv RPCError") }
	seen := givenUp()
	if signal == syscall.SIGSTOP {
		require.NoError(t, last.cmd.Process.Signal(signal))
		// Until the leader has given up the connection, what it sends waits there.
		fill(t, lead, "unnoticed", 1, value)
		harness.Eventually(t, "the leader to notice", func() bool { return givenUp() > seen })
	} else {
		last.end(signal)
	}
	// Large, so that no more than a part of one is on its way to a member that does not read.
	fill(t, lead, "while-away", 300, large)
	purge(t, lead)
	// What it is being sent at the time is purged once that has failed. A few entries may wait for it on the way.
	harness.Eventually(t, "the log to go", func() bool { return purged(lead) > status.RaftIndex+100 })
	return all, last
}

// purged is how far a member's log has gone.
func purged(m *member) (index uint64) {
	for _, line := range strings.Split(m.log(), "\n") {
		var entry struct {
			Msg   string
			Index uint64 `json:"compact-index"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "compacted Raft logs" {
			index = entry.Index
		}
	}
	return index
}

// purge has the log of m begin a few entries before its end.
func purge(t *testing.T, m *member) {
	t.Helper()
	// What is in memory is written, so that the log can go.
	seen := strings.Count(m.log(), "saved snapshot")
	_, err := m.connect().Defragment(within(t), m.client)
	require.NoError(t, err)
	fill(t, m, "then", 120, value)
	_, err = m.connect().Defragment(within(t), m.client)
	require.NoError(t, err)
	harness.Eventually(t, "the log to be purged", func() bool { return strings.Count(m.log(), "saved snapshot") > seen })
}

func fill(t *testing.T, m *member, prefix string, keys int, value string) {
	t.Helper()
	client := m.connect()
	for i := range keys {
		_, err := client.Put(within(t), fmt.Sprintf("%s-%03d", prefix, i), value)
		require.NoError(t, err)
	}
}

// agree waits until every member hashes the same history.
func agree(t *testing.T, all []*member) {
	t.Helper()
	harness.Eventually(t, "the members to agree", func() bool {
		var hashes []clientv3.HashKVResponse
		for _, m := range all {
			hash, err := m.connect().HashKV(within(t), m.client, 0)
			if err != nil {
				return false
			}
			hashes = append(hashes, *hash)
		}
		same := func(h clientv3.HashKVResponse) bool {
			return h.Hash == hashes[0].Hash && h.HashRevision == hashes[0].HashRevision &&
				h.CompactRevision == hashes[0].CompactRevision
		}
		for _, hash := range hashes {
			if !same(hash) {
				return false
			}
		}
		return true
	})
}

// another is a member that is not m.
func another(all []*member, m *member) *member {
	if all[0] == m {
		return all[1]
	}
	return all[0]
}

func bySnapshot(m *member) bool {
	text := m.log()
	return strings.Contains(text, "installed a snapshot") || strings.Contains(text, "applied snapshot")
}

func TestAMemberThatWasAwayForLongIsBroughtUp(t *testing.T) {
	all, last := leftBehind(t, syscall.SIGKILL, func(*member) {})
	last.start()
	last.ready()
	harness.Eventually(t, "a snapshot", func() bool { return bySnapshot(last) })
	agree(t, all)
	require.Equal(t, large, get(t, last, "while-away-007"))
	// What it was given is its own: it comes back with it.
	last.end(syscall.SIGKILL)
	fill(t, another(all, last), "after", 5, value)
	last.start()
	last.ready()
	agree(t, all)
	require.False(t, bySnapshot(last), "the log was enough")
}

// leftBehindWatching are members of which the last is hung, with a watch of everything there that has had revision from.
func leftBehindWatching(t *testing.T) (all []*member, last *member, watch clientv3.WatchChan, from int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	all, last = leftBehind(t, syscall.SIGSTOP, func(m *member) {
		client := m.connect()
		answer, err := client.Put(within(t), "first", "value")
		require.NoError(t, err)
		from = answer.Header.Revision
		watch = client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(from))
		created := <-watch
		require.NoError(t, created.Err())
	})
	return all, last, watch, from
}

func TestWatchesGoOnOverASnapshot(t *testing.T) {
	all, last, watch, from := leftBehindWatching(t)
	require.NoError(t, last.cmd.Process.Signal(syscall.SIGCONT))
	harness.Eventually(t, "a snapshot", func() bool { return bySnapshot(last) })
	agree(t, all)
	answer, err := last.connect().Put(within(t), "last", "value")
	require.NoError(t, err)
	next := from + 1
	for next <= answer.Header.Revision {
		response := <-watch
		require.NoError(t, response.Err())
		for _, event := range response.Events {
			require.Equal(t, mvccpb.PUT, event.Type)
			require.Equal(t, next, event.Kv.ModRevision)
			next++
		}
	}
}

// What was on its way to the member when it stopped may reach it before the snapshot does. So the watch may go on; what it
// may not do is pass over something.
func TestAWatchWhoseHistoryASnapshotTookGoesOnOrIsTold(t *testing.T) {
	all, last, watch, from := leftBehindWatching(t)
	other := another(all, last)
	status, err := other.connect().Status(within(t), other.client)
	require.NoError(t, err)
	compacted := status.Header.Revision - 5
	_, err = other.connect().Compact(within(t), compacted)
	require.NoError(t, err)
	require.NoError(t, last.cmd.Process.Signal(syscall.SIGCONT))
	harness.Eventually(t, "a snapshot", func() bool { return bySnapshot(last) })
	agree(t, all)
	answer, err := last.connect().Put(within(t), "last", "value")
	require.NoError(t, err)
	next := from + 1
	for response := range watch {
		if response.Canceled {
			require.Equal(t, rpctypes.ErrCompacted, response.Err())
			require.Equal(t, compacted, response.CompactRevision)
			return
		}
		for _, event := range response.Events {
			require.Equal(t, next, event.Kv.ModRevision)
			next++
		}
		if next > answer.Header.Revision {
			return
		}
	}
	t.Fatal("the watch ended without a word")
}

func TestAReceiverKilledInTheMiddleComesBack(t *testing.T) {
	all, last := leftBehind(t, syscall.SIGKILL, func(*member) {})
	there := func(pattern string) func() bool {
		return func() bool {
			found, err := filepath.Glob(filepath.Join(last.dir, pattern))
			require.NoError(t, err)
			return len(found) > 0
		}
	}
	for _, step := range []struct {
		what string
		done func() bool
	}{
		{"the transfer to begin", func() bool { return strings.Contains(last.log(), "receiving a snapshot") }},
		{"something to be on the disk", there("store.incoming-*/heap")},
		{"the new state to count", there("store.incoming-*/INSTALLED")},
	} {
		last.start()
		harness.Eventually(t, step.what, step.done)
		last.end(syscall.SIGKILL)
		fill(t, another(all, last), "meanwhile", 10, value)
	}
	last.start()
	last.ready()
	agree(t, all)
	require.Equal(t, large, get(t, last, "while-away-007"))
	require.False(t, there("store.incoming-*")(), "it has its usual name")
}

func TestASenderKilledInTheMiddleIsReplacedByAnother(t *testing.T) {
	all, last := leftBehind(t, syscall.SIGKILL, func(*member) {})
	sender := func() *member {
		for _, m := range all {
			if m != last && strings.Contains(m.log(), "sending a snapshot") {
				return m
			}
		}
		return nil
	}
	last.start()
	harness.Eventually(t, "a transfer", func() bool { return sender() != nil })
	dead := sender()
	dead.end(syscall.SIGKILL)
	var rest []*member
	for _, m := range all {
		if m != dead {
			rest = append(rest, m)
		}
	}
	last.ready()
	fill(t, last, "without it", 10, value)
	agree(t, rest)
	dead.start()
	dead.ready()
	agree(t, all)
	require.Equal(t, large, get(t, last, "while-away-299"))
}

func TestAnEmptyMemberJoinsBySnapshot(t *testing.T) {
	all := three(t, harness.UnderTest(t), shortLog...)
	found, _ := leader(t, all)
	fill(t, found, "before", 100, value)
	purge(t, found)
	joiner := newMember(t, harness.UnderTest(t), "d")
	joiner.flags = append([]string{"--join=http://" + all[1].peer}, shortLog...)
	harness.Eventually(t, "the members to be healthy for long enough", func() bool {
		_, err := found.connect().MemberAdd(within(t), []string{"http://" + joiner.peer})
		if err != nil {
			require.ErrorIs(t, err, rpctypes.ErrUnhealthy)
		}
		return err == nil
	})
	joiner.start()
	harness.Eventually(t, "a snapshot", func() bool { return bySnapshot(joiner) })
	joiner.ready()
	all = append(all, joiner)
	agree(t, all)
	// It votes like the others: with it and one more there is no quorum of four, with two more there is.
	all[0].end(syscall.SIGKILL)
	fill(t, joiner, "with it", 5, value)
	joiner.end(syscall.SIGKILL)
	all[0].start()
	all[0].ready()
	fill(t, all[0], "without it", 5, value)
	joiner.start()
	joiner.ready()
	agree(t, all)
}
