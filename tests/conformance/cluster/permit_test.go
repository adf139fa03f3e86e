package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"keepstone.io/conformance/harness"
)

// card is what a member says of its data directory.
type card struct {
	Name, Directory, State, MemberID, ClusterID, Permit, ClusterPermit string
}

func (m *member) card() card {
	m.t.Helper()
	var found card
	harness.Eventually(m.t, m.name+" to show its card", func() bool {
		answer, err := http.Get("http://" + m.peer + "/keepstone/member")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		found = card{}
		return answer.StatusCode == http.StatusOK && json.NewDecoder(answer.Body).Decode(&found) == nil
	})
	return found
}

// alike makes members that are all started with the same flags, and gives the file in which a permit may come to be.
func alike(t *testing.T) ([]*member, string) {
	t.Helper()
	permit := filepath.Join(t.TempDir(), "permit")
	var all []*member
	var urls []string
	for _, name := range []string{"a", "b", "c"} {
		m := newMember(t, harness.UnderTest(t), name)
		all = append(all, m)
		urls = append(urls, "http://"+m.peer)
	}
	for _, m := range all {
		m.flags = []string{"--permit-file=" + permit, "--join=" + strings.Join(urls, ",")}
		m.start()
	}
	return all, permit
}

// write puts a file in place as a whole, as a volume of Kubernetes does.
func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

func TestAPermitFoundsOneCluster(t *testing.T) {
	all, permit := alike(t)
	a, b, c := all[0], all[1], all[2]
	for _, m := range all {
		m.says("there is no permit for this member")
		require.Equal(t, card{Name: m.name, Directory: m.card().Directory, State: "waiting"}, m.card())
	}
	first := b.card().Directory
	write(t, permit, fmt.Sprintf(`{"action":"found","name":"b","directory":%q,"nonce":"one"}`, first))
	b.ready()
	founded := b.card()
	require.Equal(t, "member", founded.State)
	require.Equal(t, "one", founded.Permit)
	require.Equal(t, "one", founded.ClusterPermit)
	id, names := members(t, b)
	require.Equal(t, fmt.Sprintf("%x", id), founded.ClusterID)
	require.Equal(t, []string{"b"}, names)
	_, err := b.connect().Put(within(t), "kept", "1")
	require.NoError(t, err)

	// The others join once they are added. None of them founds, not even with a permit: there is a cluster.
	write(t, permit, `{"action":"found","name":"c","nonce":"two"}`)
	c.says("the permit founds nothing: there is cluster " + founded.ClusterID)
	for _, m := range []*member{a, c} {
		harness.Eventually(t, m.name+" to be added", func() bool {
			_, err := b.connect().MemberAdd(within(t), []string{"http://" + m.peer})
			return err == nil
		})
		m.ready()
		require.Equal(t, "1", get(t, m, "kept"))
		joined := m.card()
		require.Equal(t, founded.ClusterID, joined.ClusterID)
		require.Empty(t, joined.Permit)
		require.Equal(t, "one", joined.ClusterPermit)
	}

	counts(t, all)

	// The founder loses its disk while the others are away, and its permit is there again.
	for _, m := range all {
		m.end(syscall.SIGKILL)
	}
	require.NoError(t, os.RemoveAll(b.dir))
	write(t, permit, fmt.Sprintf(`{"action":"found","name":"b","directory":%q,"nonce":"one"}`, first))
	b.start()
	b.says("there is no permit for this member")
	require.NotEqual(t, first, b.card().Directory)
	// One that names no directory would do; the others are back, and object.
	a.start()
	c.start()
	a.ready()
	write(t, permit, `{"action":"found","name":"b","nonce":"three"}`)
	b.ended()
	require.Contains(t, b.log(), refused)
}

func TestAFoundingThatIsCutOffGoesOn(t *testing.T) {
	permit := filepath.Join(t.TempDir(), "permit")
	write(t, permit, `{"action":"found","name":"a","holder":"pod-1","nonce":"one"}`)
	m := newMember(t, harness.UnderTest(t), "a")
	m.flags = []string{"--permit-file=" + permit, "--permit-holder=pod-2"}
	m.start()
	m.says("there is no permit for this member")
	m.end(syscall.SIGKILL)
	m.flags[1] = "--permit-holder=pod-1"
	m.start()
	m.says("founding a cluster with a permit")
	m.end(syscall.SIGKILL)
	m.start()
	m.ready()
	require.Equal(t, "one", m.card().ClusterPermit)
	// Once there is a cluster the permit is of no use and need not be there.
	require.NoError(t, os.Remove(permit))
	m.end(syscall.SIGKILL)
	m.start()
	m.ready()
	require.Equal(t, "one", m.card().ClusterPermit)
}

func TestAPermitForcesANewClusterOnce(t *testing.T) {
	all, permit := alike(t)
	a, b := all[0], all[1]
	write(t, permit, `{"action":"found","name":"a","nonce":"one"}`)
	a.ready()
	harness.Eventually(t, "b to be added", func() bool {
		_, err := a.connect().MemberAdd(within(t), []string{"http://" + b.peer})
		return err == nil
	})
	b.ready()
	_, err := b.connect().Put(within(t), "kept", "1")
	require.NoError(t, err)
	old := b.card()
	for _, m := range all {
		m.end(syscall.SIGKILL)
	}
	write(t, permit, fmt.Sprintf(`{"action":"force-new-cluster-id","name":"b","directory":%q,"nonce":"two"}`, old.Directory))
	b.start()
	b.ready()
	now := b.card()
	require.NotEqual(t, old.ClusterID, now.ClusterID)
	require.Equal(t, []string{"two", "two"}, []string{now.Permit, now.ClusterPermit})
	_, names := members(t, b)
	require.Equal(t, []string{"b"}, names)
	b.end(syscall.SIGKILL)
	b.start()
	b.ready()
	require.Equal(t, now, b.card())
	require.Equal(t, "1", get(t, b, "kept"))
}
