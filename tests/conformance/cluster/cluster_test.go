package cluster

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keepstone.io/conformance/harness"
)

const refused = "already started with another data directory"

// get is the value of key as a linearizable read of m gives it.
func get(t *testing.T, m *member, key string) string {
	t.Helper()
	answer, err := m.connect().Get(within(t), key)
	require.NoError(t, err)
	require.Len(t, answer.Kvs, 1, "%s on %s", key, m.name)
	return string(answer.Kvs[0].Value)
}

func TestEveryMemberServesEverything(t *testing.T) {
	all := three(t, harness.UnderTest(t))
	ctx := within(t)
	var watches []clientv3.WatchChan
	for _, m := range all {
		watches = append(watches, m.connect().Watch(ctx, "key", clientv3.WithPrefix(), clientv3.WithRev(1)))
	}
	for _, m := range all {
		_, err := m.connect().Put(ctx, "key-"+m.name, m.name)
		require.NoError(t, err)
		for _, other := range all {
			require.Equal(t, m.name, get(t, other, "key-"+m.name))
		}
	}
	for i, watch := range watches {
		seen := 0
		for seen < len(all) {
			answer := <-watch
			require.NoError(t, answer.Err())
			for _, event := range answer.Events {
				require.Equal(t, "key-"+all[seen].name, string(event.Kv.Key), "watch %d", i)
				seen++
			}
		}
	}
	lease, err := all[0].connect().Grant(ctx, 600)
	require.NoError(t, err)
	for _, m := range all {
		renewed, err := m.connect().KeepAliveOnce(ctx, lease.ID)
		require.NoError(t, err)
		require.EqualValues(t, 600, renewed.TTL)
		left, err := m.connect().TimeToLive(ctx, lease.ID)
		require.NoError(t, err)
		require.Positive(t, left.TTL)
	}
}

// A refusal that comes of a read in a transaction is everybody's: etcd 3.6 leaves such reads out where nobody waits for
// their answers, and members then differ in what they wrote.
func TestATransactionThatOneMemberRefusesIsWrittenByNone(t *testing.T) {
	all := three(t, harness.UnderTest(t))
	ctx := within(t)
	for _, m := range all {
		_, err := m.connect().Txn(ctx).
			Then(clientv3.OpPut("refused", m.name), clientv3.OpGet("any", clientv3.WithRev(100))).Commit()
		require.ErrorIs(t, err, rpctypes.ErrFutureRev)
	}
	last, err := all[0].connect().Put(ctx, "last", "1")
	require.NoError(t, err)
	require.EqualValues(t, 2, last.Header.Revision)
	all[2].end(syscall.SIGKILL)
	all[2].start()
	all[2].ready()
	for _, m := range all {
		answer, err := m.connect().Get(ctx, "refused")
		require.NoError(t, err)
		require.Empty(t, answer.Kvs, m.name)
		require.EqualValues(t, 2, answer.Header.Revision, m.name)
	}
}

func TestIDsAreEtcds(t *testing.T) {
	subject := three(t, harness.UnderTest(t))
	ids := func(all []*member) map[string]uint64 {
		list, err := all[0].connect().MemberList(within(t))
		require.NoError(t, err)
		ids := map[string]uint64{"": list.Header.ClusterId}
		for _, member := range list.Members {
			ids[member.Name] = member.ID
		}
		return ids
	}
	ours := ids(subject)
	// etcd on the same ports: its IDs are made of them.
	for _, m := range subject {
		m.end(syscall.SIGKILL)
		m.bin, m.dir = harness.Etcd(t), t.TempDir()
	}
	for _, m := range subject {
		m.start()
	}
	for _, m := range subject {
		m.ready()
	}
	require.Equal(t, ids(subject), ours)
}

func TestAWipedMemberIsRefused(t *testing.T) {
	all := three(t, harness.UnderTest(t))
	_, err := all[0].connect().Put(within(t), "kept", "1")
	require.NoError(t, err)
	for _, m := range all {
		m.end(syscall.SIGKILL)
		require.NoError(t, os.Rename(m.dir, m.dir+".aside"))
		m.start()
		m.ended()
		require.Contains(t, m.log(), refused)
		require.NoError(t, os.RemoveAll(m.dir))
		require.NoError(t, os.Rename(m.dir+".aside", m.dir))
		m.start()
		m.ready()
		require.Equal(t, "1", get(t, m, "kept"))
	}
}

func TestTwoWipedMembersFoundNoSecondCluster(t *testing.T) {
	all := three(t, harness.UnderTest(t))
	_, err := all[0].connect().Put(within(t), "kept", "1")
	require.NoError(t, err)
	for left := range all {
		wiped := []*member{all[(left+1)%3], all[(left+2)%3]}
		for _, m := range all {
			m.end(syscall.SIGKILL)
		}
		for _, m := range wiped {
			require.NoError(t, os.Rename(m.dir, m.dir+".aside"))
			m.start()
		}
		// The two alone wait for the third, and that one objects.
		for _, m := range wiped {
			m.says("waiting for a founder of the cluster")
			require.NotContains(t, m.log(), "ready to serve")
		}
		all[left].start()
		for _, m := range wiped {
			m.ended()
			require.Contains(t, m.log(), refused)
			require.NoError(t, os.RemoveAll(m.dir))
			require.NoError(t, os.Rename(m.dir+".aside", m.dir))
		}
		for _, m := range wiped {
			m.start()
		}
		for _, m := range all {
			m.ready()
		}
		require.Equal(t, "1", get(t, all[left], "kept"))
	}
}

// learner adds one that is to be started, and says which ID it has.
func learner(t *testing.T, client *clientv3.Client, joiner *member) (id uint64) {
	t.Helper()
	// A member that has just been heard of does not count as healthy for five seconds.
	harness.Eventually(t, "the members to be healthy for long enough", func() bool {
		added, err := client.MemberAddAsLearner(within(t), []string{"http://" + joiner.peer})
		if err != nil {
			require.ErrorIs(t, err, rpctypes.ErrUnhealthy)
			return false
		}
		id = added.Member.ID
		return true
	})
	return id
}

func TestAMemberComesAndGoes(t *testing.T) {
	all := three(t, harness.UnderTest(t))
	client := all[0].connect()
	joiner := newMember(t, harness.UnderTest(t), "d")
	joiner.flags = []string{"--join=http://" + all[1].peer}
	id := learner(t, client, joiner)
	joiner.start()
	joiner.ready()
	_, err := joiner.connect().Put(within(t), "a", "1")
	require.ErrorContains(t, err, "rpc not supported for learner")
	harness.Eventually(t, "the learner to be promoted", func() bool {
		_, err := client.MemberPromote(within(t), id)
		return err == nil
	})
	_, err = joiner.connect().Put(within(t), "a", "1")
	require.NoError(t, err)

	_, err = client.MemberRemove(within(t), id)
	require.NoError(t, err)
	joiner.ended()
	require.Contains(t, joiner.log(), "permanently removed from the cluster")
	joiner.start()
	joiner.ended()
	require.Contains(t, joiner.log(), "permanently removed from the cluster")
	require.Equal(t, "1", get(t, all[2], "a"))
}

func TestALeaderThatStopsHandsOver(t *testing.T) {
	all := three(t, harness.UnderTest(t))
	for range 3 {
		lead, others := leader(t, all)
		stopped := make(chan struct{})
		go func() {
			lead.end(syscall.SIGTERM)
			close(stopped)
		}()
		client := others[0].connect()
		for written := 0; ; written++ {
			_, err := client.Put(within(t), "while", "it stops")
			require.NoError(t, err, "write %d", written)
			select {
			case <-stopped:
			default:
				continue
			}
			break
		}
		require.Contains(t, lead.log(), "another member leads now")
		lead.start()
		lead.ready()
	}
}

func TestMoveLeader(t *testing.T) {
	all := three(t, harness.UnderTest(t))
	lead, others := leader(t, all)
	status, err := others[0].connect().Status(within(t), others[0].client)
	require.NoError(t, err)
	_, err = others[0].connect().MoveLeader(within(t), status.Header.MemberId)
	require.ErrorIs(t, err, rpctypes.ErrNotLeader)
	_, err = lead.connect().MoveLeader(within(t), 7)
	require.ErrorIs(t, err, rpctypes.ErrBadLeaderTransferee)
	_, err = lead.connect().MoveLeader(within(t), status.Header.MemberId)
	require.NoError(t, err)
	moved, _ := leader(t, all)
	require.Equal(t, others[0].name, moved.name)
}

func TestAStreamThatWantsALeaderEndsWithoutOne(t *testing.T) {
	all := three(t, harness.UnderTest(t))
	client := all[0].connect()
	watch := client.Watch(clientv3.WithRequireLeader(within(t)), "a", clientv3.WithCreatedNotify())
	created := <-watch
	require.NoError(t, created.Err())
	all[1].end(syscall.SIGKILL)
	all[2].end(syscall.SIGKILL)
	for answer := range watch {
		if answer.Err() != nil {
			require.ErrorIs(t, answer.Err(), rpctypes.ErrNoLeader)
			return
		}
	}
	t.Fatal("the watch ended without a reason")
}
