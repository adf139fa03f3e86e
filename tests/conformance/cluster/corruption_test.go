package cluster

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"keepstone.io/conformance/harness"
)

// tamper replaces bytes in a stopped member's log by others of the same length, seals the log anew as if nothing were,
// and takes the state away, so that the member makes it from that log. It then has other data than the others and can't
// know it: see docs/format-wal.md.
func tamper(t *testing.T, m *member, old, new string) {
	t.Helper()
	require.Equal(t, len(old), len(new))
	segments, err := filepath.Glob(filepath.Join(m.dir, "log", "*.wal"))
	require.NoError(t, err)
	table := crc32.MakeTable(crc32.Castagnoli)
	var chain uint32
	var group uint64
	tampered := 0
	for _, path := range segments {
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		tampered += bytes.Count(file, []byte(old))
		file = bytes.ReplaceAll(file, []byte(old), []byte(new))
		for at := 0; at < len(file); at += 512 {
			sector := file[at : at+512]
			number := binary.LittleEndian.Uint64(sector[4:])
			if number < group || number == 0 {
				break
			}
			if number != group {
				head := 12
				if at == 0 {
					head += 24
				}
				binary.LittleEndian.PutUint32(sector[head+8:], chain)
				group = number
			}
			position := binary.LittleEndian.AppendUint32(nil, uint32(at/512))
			sum := crc32.Update(crc32.Checksum(position, table), table, sector[4:])
			binary.LittleEndian.PutUint32(sector, sum)
			chain = crc32.Update(chain, table, sector[:4])
		}
		require.NoError(t, os.WriteFile(path, file, 0o600))
	}
	require.Positive(t, tampered)
	require.NoError(t, os.RemoveAll(filepath.Join(m.dir, "store")))
}

// spoil gives three members, the last of which has other values than the others.
func spoil(t *testing.T, flags ...string) []*member {
	t.Helper()
	all := three(t, harness.UnderTest(t))
	// Several: one may lie across two sectors.
	for i := range 5 {
		_, err := all[0].connect().Put(within(t), fmt.Sprintf("key-%d", i), "truthful")
		require.NoError(t, err)
	}
	last := all[2]
	last.end(syscall.SIGTERM)
	tamper(t, last, "truthful", "deceived")
	for _, m := range all {
		m.end(syscall.SIGTERM)
		m.flags = append(m.flags, flags...)
	}
	for _, m := range all[:2] {
		m.start()
	}
	for _, m := range all[:2] {
		m.ready()
	}
	return all
}

func alarms(t *testing.T, at *member) []*etcdserverpb.AlarmMember {
	t.Helper()
	list, err := at.connect().AlarmList(within(t))
	require.NoError(t, err)
	return list.Alarms
}

func id(t *testing.T, m *member) uint64 {
	t.Helper()
	status, err := m.connect().Status(within(t), m.client)
	require.NoError(t, err)
	return status.Header.MemberId
}

func TestACompactionFindsAMemberThatDiffers(t *testing.T) {
	all := spoil(t)
	a, c := all[0], all[2]
	c.start()
	c.ready()
	require.Empty(t, alarms(t, a))
	put, err := a.connect().Put(within(t), "more", "1")
	require.NoError(t, err)
	_, err = a.connect().Compact(within(t), put.Header.Revision)
	require.NoError(t, err)
	harness.Eventually(t, "an alarm", func() bool { return len(alarms(t, a)) > 0 })
	want := &etcdserverpb.AlarmMember{MemberID: id(t, c), Alarm: etcdserverpb.AlarmType_CORRUPT}
	require.Equal(t, []*etcdserverpb.AlarmMember{want}, alarms(t, a))

	// As in etcd nobody writes until somebody has looked. The one that differs is not read from either.
	_, err = a.connect().Put(within(t), "more", "2")
	require.ErrorIs(t, err, rpctypes.ErrCorrupt)
	harness.Eventually(t, "the member to know it", func() bool {
		_, err := c.connect().Get(within(t), "key-0")
		return err != nil && strings.Contains(err.Error(), rpctypes.ErrCorrupt.Error())
	})
	require.Equal(t, "truthful", get(t, a, "key-0"))

	// It is replaced by one that gets its data from the others.
	harness.Eventually(t, "the members to be healthy for long enough", func() bool {
		_, err := a.connect().MemberRemove(within(t), want.MemberID)
		return err == nil
	})
	c.ended()
	_, err = a.connect().AlarmDisarm(within(t), (*clientv3.AlarmMember)(want))
	require.NoError(t, err)
	d := grow(t, a, "http://"+c.peer, "d")
	for i := range 5 {
		require.Equal(t, "truthful", get(t, d, fmt.Sprintf("key-%d", i)))
	}
	put, err = d.connect().Put(within(t), "more", "2")
	require.NoError(t, err)
	_, err = d.connect().Compact(within(t), put.Header.Revision)
	require.NoError(t, err)
	harness.Eventually(t, "all to be compared", func() bool {
		for _, m := range []*member{a, all[1], d} {
			for _, line := range strings.Split(m.log(), "\n") {
				if strings.Contains(line, `"finished peer corruption check"`) &&
					strings.Contains(line, fmt.Sprintf(`"compact-revision":%d,"number-of-peers-checked":2`, put.Header.Revision)) {
					return true
				}
			}
		}
		return false
	})
	require.Empty(t, alarms(t, a))
}

func TestAMemberThatDiffersIsFoundInTimeAndAtItsStart(t *testing.T) {
	all := spoil(t, "--corrupt-check-time=1s", "--experimental-initial-corrupt-check=true")
	a, c := all[0], all[2]
	// Asked to compare itself first, it does not serve.
	c.start()
	c.ended()
	require.Contains(t, c.log(), "found data inconsistency with peers")
	require.Empty(t, alarms(t, a))
	// Members like a majority do, whoever is wrong.
	c.flags = c.flags[:len(c.flags)-1]
	c.start()
	c.ready()
	harness.Eventually(t, "an alarm", func() bool { return len(alarms(t, a)) > 0 })
	require.Equal(t, id(t, c), alarms(t, a)[0].MemberID)
	a.end(syscall.SIGTERM)
	a.start()
	a.ready()
	require.Contains(t, a.log(), "initial corruption checking passed")
}

// mended waits until m has the others' data under its old ID, and everybody may write.
func mended(t *testing.T, all []*member, m *member) {
	t.Helper()
	harness.Eventually(t, "the alarm to be lowered", func() bool { return len(alarms(t, all[0])) == 0 })
	for i := range 5 {
		require.Equal(t, "truthful", get(t, m, fmt.Sprintf("key-%d", i)))
	}
	for _, other := range all {
		_, err := other.connect().Put(within(t), "more", other.name)
		require.NoError(t, err)
		require.Equal(t, other.name, get(t, m, "more"))
	}
	m.end(syscall.SIGKILL)
	m.start()
	m.ready()
	require.Equal(t, "truthful", get(t, m, "key-0"))
}

// fence has c, the one that differs, found out.
func fence(t *testing.T, a, c *member) {
	t.Helper()
	put, err := a.connect().Put(within(t), "more", "1")
	require.NoError(t, err)
	_, err = a.connect().Compact(within(t), put.Header.Revision)
	require.NoError(t, err)
	harness.Eventually(t, "an alarm", func() bool { return len(alarms(t, a)) > 0 })
	require.Equal(t, id(t, c), alarms(t, a)[0].MemberID)
}

func repair(m *member) (string, error) {
	answer, err := http.Post("http://"+m.peer+"/keepstone/repair", "", nil)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

func TestAMemberThatDiffersIsRepairedByCommand(t *testing.T) {
	all := spoil(t)
	a, c := all[0], all[2]
	c.start()
	c.ready()

	// Two watches at the member that differs: one that stays there, and one that may go elsewhere.
	conn, err := grpc.NewClient("passthrough:///"+c.client, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	stays, err := etcdserverpb.NewWatchClient(conn).Watch(within(t))
	require.NoError(t, err)
	create := &etcdserverpb.WatchCreateRequest{Key: []byte("more")}
	union := &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: create}
	require.NoError(t, stays.Send(&etcdserverpb.WatchRequest{RequestUnion: union}))
	created, err := stays.Recv()
	require.NoError(t, err)
	require.True(t, created.Created)
	client := c.connect()
	goes := client.Watch(within(t), "more", clientv3.WithCreatedNotify())
	first := <-goes
	require.NoError(t, first.Err())
	client.SetEndpoints("http://"+c.client, "http://"+a.client)

	fence(t, a, c)
	for err == nil {
		_, err = stays.Recv()
	}
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.ErrorContains(t, err, rpctypes.ErrCorrupt.Error())

	text, err := repair(c)
	require.NoError(t, err)
	require.Equal(t, "repaired\n", text)
	mended(t, all, c)
	var seen []string
	for len(seen) < 4 {
		answer := <-goes
		require.NoError(t, answer.Err())
		for _, event := range answer.Events {
			seen = append(seen, string(event.Kv.Value))
		}
	}
	require.Equal(t, []string{"1", "a", "b", "c"}, seen)
}

// A member that is killed while it is repaired has its old state or the new one, and is repaired by the same command.
func TestARepairThatIsKilledIsBegunAgain(t *testing.T) {
	all := spoil(t)
	a, b, c := all[0], all[1], all[2]
	fill(t, a, "large", 100, large)
	c.start()
	c.ready()
	fence(t, a, c)
	said := func(line string, by ...*member) func() int {
		return func() (times int) {
			for _, m := range by {
				times += strings.Count(m.log(), line)
			}
			return times
		}
	}
	for _, told := range []func() int{
		said("repairing a member", a, b), said("sending a snapshot", a, b), said("receiving a snapshot", c), said("installed a snapshot", c),
	} {
		before := told()
		asked := make(chan struct{})
		go func() {
			_, _ = repair(c)
			close(asked)
		}()
		harness.Eventually(t, "the moment to kill it", func() bool { return told() > before })
		c.end(syscall.SIGKILL)
		<-asked
		c.start()
		c.ready()
	}
	harness.Eventually(t, "the repair", func() bool {
		text, err := repair(c)
		require.NoError(t, err)
		return text == "repaired\n"
	})
	mended(t, all, c)
	agree(t, all)
	for _, m := range all {
		read, err := m.connect().Get(within(t), "large", clientv3.WithPrefix(), clientv3.WithCountOnly())
		require.NoError(t, err)
		require.EqualValues(t, 100, read.Count, m.name)
	}
}

func TestAMemberThatDiffersIsRepairedByItself(t *testing.T) {
	all := spoil(t, "--corrupt-repair", "--corrupt-check-time=1s")
	c := all[2]
	c.start()
	c.says("installed a snapshot")
	mended(t, all, c)
}
