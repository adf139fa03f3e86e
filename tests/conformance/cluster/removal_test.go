package cluster

import (
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keepstone.io/conformance/harness"
)

// slow is an address from which everything gets to to, and back, after a while.
func slow(t *testing.T, to string, latency time.Duration) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	carry := func(from, to net.Conn) {
		defer to.Close()
		buffer := make([]byte, 1<<16)
		for {
			n, err := from.Read(buffer)
			// The line, not the test, takes its time.
			time.Sleep(latency)
			if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
				return
			}
		}
	}
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			go carry(near, far)
			go carry(far, near)
		}
	}()
	return listener.Addr().String()
}

// Whoever hears that a member is removed may end it: nothing that comes after may need its vote, least of all the change
// by which Raft lets it go. The line to it is slow, so that this change would still be under way.
func TestARemovalIsAnsweredOnceNobodyNeedsTheMember(t *testing.T) {
	a, b := newMember(t, harness.UnderTest(t), "a"), newMember(t, harness.UnderTest(t), "b")
	b.advertise = slow(t, b.peer, 40*time.Millisecond)
	both := []*member{a, b}
	found(t, both, "--strict-reconfig-check=false", "--heartbeat-interval=300", "--election-timeout=2000")
	gone := id(t, b)
	harness.Eventually(t, "a to lead", func() bool {
		lead, _ := leader(t, both)
		if lead == b {
			_, _ = b.connect().MoveLeader(within(t), id(t, a))
		}
		return lead == a
	})
	client := a.connect()
	_, err := client.MemberRemove(within(t), gone)
	require.NoError(t, err)
	b.end(syscall.SIGKILL)
	_, err = client.Put(within(t), "after", "1")
	require.NoError(t, err)
	require.Equal(t, "1", get(t, a, "after"))
}

// Each of two may go as long as the other stays: the third has no vote yet. Asked for at once, one of them stays.
func TestOfTwoRemovalsAtOnceOneIsRefusedIfNobodyWouldBeLeft(t *testing.T) {
	bin := harness.UnderTest(t)
	both := []*member{newMember(t, bin, "a"), newMember(t, bin, "b")}
	found(t, both, "--strict-reconfig-check=false")
	harness.Eventually(t, "the members to be in contact", func() bool {
		_, err := both[0].connect().MemberAdd(within(t), []string{"http://" + harness.FreeAddr(t)})
		return err == nil
	})
	ids := []uint64{id(t, both[0]), id(t, both[1])}
	lead, _ := leader(t, both)
	client := lead.connect()
	var refused [2]error
	var done sync.WaitGroup
	for i := range ids {
		done.Add(1)
		go func() {
			defer done.Done()
			_, refused[i] = client.MemberRemove(within(t), ids[i])
		}()
	}
	done.Wait()
	stays, goes := 0, 1
	if refused[0] == nil {
		stays, goes = 1, 0
	}
	require.NoError(t, refused[goes])
	require.ErrorIs(t, refused[stays], rpctypes.ErrMemberNotEnoughStarted)
	both[goes].ended()
	_, err := both[stays].connect().Put(within(t), "after", "1")
	require.NoError(t, err)
}
