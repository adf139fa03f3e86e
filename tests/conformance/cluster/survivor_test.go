package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keepstone.io/conformance/harness"
)

// lose kills all, and returns the survivor and those that are lost for good.
func lose(all []*member) (*member, []*member) {
	for _, m := range all {
		m.end(syscall.SIGKILL)
	}
	return all[0], all[1:]
}

// grow adds a member without data at the peer URL of one that is lost.
func grow(t *testing.T, at *member, url, name string) *member {
	t.Helper()
	joiner := newMember(t, at.bin, name)
	joiner.peer = strings.TrimPrefix(url, "http://")
	joiner.flags = []string{"--join=http://" + at.peer}
	harness.Eventually(t, "the members to be healthy for long enough", func() bool {
		_, err := at.connect().MemberAdd(within(t), []string{url})
		if err != nil {
			require.ErrorIs(t, err, rpctypes.ErrUnhealthy)
		}
		return err == nil
	})
	joiner.start()
	joiner.ready()
	return joiner
}

// counts waits until every member counts for the quorum: a member that was just added does not before it has caught up,
// and then it can lead.
func counts(t *testing.T, all []*member) {
	t.Helper()
	for _, m := range all {
		harness.Eventually(t, m.name+" to count for the quorum", func() bool {
			lead, _ := leader(t, all)
			status, err := m.connect().Status(within(t), m.client)
			require.NoError(t, err)
			_, err = lead.connect().MoveLeader(within(t), status.Header.MemberId)
			return err == nil
		})
	}
}

// members is the cluster's ID and the names in its member table.
func members(t *testing.T, at *member) (uint64, []string) {
	t.Helper()
	list, err := at.connect().MemberList(within(t))
	require.NoError(t, err)
	var names []string
	for _, m := range list.Members {
		names = append(names, m.Name)
	}
	return list.Header.ClusterId, names
}

func TestASurvivorGoesOnAlone(t *testing.T) {
	all := three(t, harness.UnderTest(t))
	client := all[0].connect()
	lease, err := client.Grant(within(t), 600)
	require.NoError(t, err)
	var revision int64
	for i := range 20 {
		put, err := client.Put(within(t), fmt.Sprintf("key-%02d", i), "before", clientv3.WithLease(lease.ID))
		require.NoError(t, err)
		revision = put.Header.Revision
	}
	id, _ := members(t, all[0])

	survivor, lost := lose(all)
	flags := survivor.flags
	survivor.flags = append(flags, "--force-new-cluster")
	survivor.start()
	survivor.ready()
	now, names := members(t, survivor)
	require.Equal(t, id, now)
	require.Equal(t, []string{"a"}, names)
	client = survivor.connect()
	read, err := client.Get(within(t), "key-", clientv3.WithPrefix())
	require.NoError(t, err)
	require.EqualValues(t, 20, read.Count)
	require.Equal(t, revision, read.Header.Revision)
	left, err := client.TimeToLive(within(t), lease.ID, clientv3.WithAttachedKeys())
	require.NoError(t, err)
	require.Positive(t, left.TTL)
	require.Len(t, left.Keys, 20)
	put, err := client.Put(within(t), "after", "1")
	require.NoError(t, err)
	require.Equal(t, revision+1, put.Header.Revision)

	// One of the lost comes back with what it had: it is not let in, and knows it from then on.
	lost[0].start()
	lost[0].ended()
	require.Contains(t, lost[0].log(), "permanently removed from the cluster")
	lost[0].start()
	lost[0].ended()
	require.Contains(t, lost[0].log(), "permanently removed from the cluster")

	// The flag left in place does nothing more, least of all to members that were added since.
	joined := grow(t, survivor, "http://"+lost[0].peer, "d")
	survivor.end(syscall.SIGKILL)
	survivor.start()
	survivor.ready()
	require.Contains(t, survivor.log(), "goes on alone already")
	third := grow(t, survivor, "http://"+harness.FreeAddr(t), "e")
	_, names = members(t, survivor)
	require.ElementsMatch(t, []string{"a", "d", "e"}, names)

	counts(t, []*member{survivor, joined, third})

	// Without it the three are a cluster like any other, whoever leads.
	survivor.end(syscall.SIGTERM)
	survivor.flags = flags
	survivor.start()
	for _, m := range []*member{survivor, joined, third} {
		m.ready()
		require.Equal(t, "before", get(t, m, "key-00"))
	}
	survivor.end(syscall.SIGKILL)
	harness.Eventually(t, "the two to go on", func() bool {
		_, err := third.connect().Put(within(t), "after", "2")
		return err == nil
	})
	require.Equal(t, "2", get(t, joined, "after"))
}

func TestASurvivorUnderANewIDHasNoHistory(t *testing.T) {
	all := three(t, harness.UnderTest(t))
	client := all[0].connect()
	lease, err := client.Grant(within(t), 600)
	require.NoError(t, err)
	_, err = client.Put(within(t), "kept", "1")
	require.NoError(t, err)
	put, err := client.Put(within(t), "kept", "2", clientv3.WithLease(lease.ID))
	require.NoError(t, err)
	id, _ := members(t, all[0])

	survivor, lost := lose(all)
	flags := survivor.flags
	survivor.flags = append(flags, "--force-new-cluster-id")
	survivor.start()
	survivor.ready()
	now, names := members(t, survivor)
	require.NotEqual(t, id, now)
	require.Equal(t, []string{"a"}, names)
	client = survivor.connect()
	read, err := client.Get(within(t), "kept")
	require.NoError(t, err)
	require.Equal(t, "2", string(read.Kvs[0].Value))
	require.Equal(t, put.Header.Revision, read.Kvs[0].ModRevision)
	require.GreaterOrEqual(t, read.Header.Revision, put.Header.Revision+1_000_000_000)
	left, err := client.TimeToLive(within(t), lease.ID)
	require.NoError(t, err)
	require.Positive(t, left.TTL)
	// Whoever watched goes on from the revision after the last it has seen.
	answer := <-client.Watch(within(t), "kept", clientv3.WithRev(put.Header.Revision+1))
	require.ErrorIs(t, answer.Err(), rpctypes.ErrCompacted)
	require.Equal(t, read.Header.Revision, answer.CompactRevision)

	// The others are of another cluster now: the two elect a leader of the old one, and neither is spoken to.
	for _, m := range lost {
		m.start()
	}
	lost[0].ready()
	harness.Eventually(t, "the old cluster to be told", func() bool {
		return strings.Contains(lost[0].log()+lost[1].log(), "refuses: cluster ID mismatch")
	})
	for _, m := range lost {
		m.end(syscall.SIGKILL)
	}

	survivor.end(syscall.SIGKILL)
	survivor.flags = flags
	survivor.start()
	survivor.ready()
	again, _ := members(t, survivor)
	require.Equal(t, now, again)
	joined := grow(t, survivor, "http://"+lost[0].peer, "d")
	require.Equal(t, "2", get(t, joined, "kept"))
	joined.end(syscall.SIGKILL)
	joined.start()
	joined.ready()
	require.Equal(t, "2", get(t, joined, "kept"))
}

// A survivor that is killed while it takes the cluster over is started again as it was, and takes it over once.
func TestASurvivorThatIsKilledGoesOnAlone(t *testing.T) {
	all := three(t, harness.UnderTest(t))
	fill(t, all[0], "key", 20, value)
	put, err := all[0].connect().Put(within(t), "last", "1")
	require.NoError(t, err)
	old, _ := members(t, all[0])
	survivor, _ := lose(all)
	survivor.flags = append(survivor.flags, "--force-new-cluster-id")
	dir := survivor.dir
	// When the newest file of the log was last written.
	written := func() (newest time.Time) {
		segments, err := filepath.Glob(filepath.Join(survivor.dir, "log", "*.wal"))
		require.NoError(t, err)
		for _, path := range segments {
			file, err := os.Stat(path)
			if err == nil && file.ModTime().After(newest) {
				newest = file.ModTime()
			}
		}
		return newest
	}
	says := func(line string) func() bool { return func() bool { return strings.Contains(survivor.log(), line) } }
	for n, moment := range []func(before time.Time) func() bool{
		func(before time.Time) func() bool { return func() bool { return written().After(before) } },
		func(time.Time) func() bool { return says("forced new cluster") },
		func(time.Time) func() bool { return says("opened the data directory") },
		func(time.Time) func() bool { return says("ready to serve") },
	} {
		survivor.dir = fmt.Sprintf("%s.%d", dir, n)
		harness.Run(t, "cp", "-a", dir, survivor.dir)
		comes := moment(written())
		survivor.start()
		harness.Eventually(t, "the moment to kill it", comes)
		survivor.end(syscall.SIGKILL)
		survivor.start()
		survivor.ready()
		now, names := members(t, survivor)
		require.NotEqual(t, old, now)
		require.Equal(t, []string{"a"}, names)
		read, err := survivor.connect().Get(within(t), "", clientv3.WithPrefix(), clientv3.WithCountOnly())
		require.NoError(t, err)
		require.EqualValues(t, 21, read.Count)
		// What it took over counts once.
		require.GreaterOrEqual(t, read.Header.Revision, put.Header.Revision+1_000_000_000)
		require.Less(t, read.Header.Revision, put.Header.Revision+1_100_000_000)
		survivor.end(syscall.SIGKILL)
		survivor.start()
		survivor.ready()
		again, _ := members(t, survivor)
		require.Equal(t, now, again)
		require.Equal(t, "1", get(t, survivor, "last"))
		survivor.end(syscall.SIGKILL)
	}
}

func TestOnlyAMemberWithDataSurvives(t *testing.T) {
	for _, flag := range []string{"--force-new-cluster", "--force-new-cluster-id"} {
		m := newMember(t, harness.UnderTest(t), "a")
		m.flags = []string{flag, "--initial-cluster=a=http://" + m.peer}
		m.start()
		m.ended()
		require.Contains(t, m.log(), "there is none in this directory")
		// It was never a member, and may found a cluster.
		m.flags = m.flags[1:]
		m.start()
		m.ready()
		_, err := os.Stat(m.dir)
		require.NoError(t, err)
	}
}
