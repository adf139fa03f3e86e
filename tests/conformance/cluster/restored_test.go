package cluster

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keepstone.io/conformance/harness"
)

// restored is a member that serves what was restored from another one's backup: ten keys, each written twice.
func restored(t *testing.T, flags ...string) *member {
	t.Helper()
	bin := harness.UnderTest(t)
	before := newMember(t, bin, "before")
	found(t, []*member{before})
	client := before.connect()
	for range 2 {
		for _, key := range keys {
			_, err := client.Put(within(t), key, "backed up")
			require.NoError(t, err)
		}
	}
	backup := filepath.Join(t.TempDir(), "backup.db")
	stream, err := client.Snapshot(within(t))
	require.NoError(t, err)
	bytes, err := io.ReadAll(stream)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(backup, bytes, 0o600))
	before.end(syscall.SIGTERM)

	m := newMember(t, bin, "a")
	url := "http://" + m.peer
	out, err := exec.Command(bin, append([]string{
		"restore", backup, "--data-dir=" + m.dir, "--name=" + m.name,
		"--initial-cluster=" + m.name + "=" + url, "--initial-advertise-peer-urls=" + url,
	}, flags...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return m
}

var keys = []string{"k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "k9"}

// joined is a voter that was added to m's cluster.
func joined(t *testing.T, m *member) *member {
	t.Helper()
	joiner := newMember(t, m.bin, "b")
	joiner.flags = []string{"--join=http://" + m.peer}
	id := learner(t, m.connect(), joiner)
	joiner.start()
	joiner.ready()
	harness.Eventually(t, "the learner to be promoted", func() bool {
		_, err := m.connect().MemberPromote(within(t), id)
		return err == nil
	})
	return joiner
}

// same wants two members to have the same of everything.
func same(t *testing.T, a, b *member) {
	t.Helper()
	var hashes []uint32
	for _, m := range []*member{a, b} {
		client := m.connect()
		got, err := client.Get(within(t), "", clientv3.WithPrefix())
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(got.Kvs), len(keys), m.name)
		hash, err := client.HashKV(within(t), m.client, got.Header.Revision)
		require.NoError(t, err)
		hashes = append(hashes, hash.Hash)
	}
	require.Equal(t, hashes[0], hashes[1])
}

// The log of what was restored began with the new cluster's first entry. A member that joined was given all entries from
// there on, and nothing of what the backup held: it answered with an empty store.
func TestAMemberThatJoinsARestoredClusterGetsWhatWasRestored(t *testing.T) {
	m := restored(t)
	m.flags = []string{"--initial-cluster=" + m.name + "=http://" + m.peer}
	m.start()
	m.ready()
	_, err := m.connect().Put(within(t), "new", "1")
	require.NoError(t, err)
	joiner := joined(t, m)
	require.Equal(t, "backed up", get(t, joiner, "k3"))
	require.Equal(t, "1", get(t, joiner, "new"))
	same(t, m, joiner)
	// And it stays so over a start from what is on the disk.
	for _, one := range []*member{joiner, m} {
		one.end(syscall.SIGKILL)
		one.start()
		one.ready()
	}
	same(t, m, joiner)
}

// The same, where the restored member goes on under a cluster ID of its own, as operators have it.
func TestAMemberThatJoinsOneThatWasRestoredAndGoesOnAloneGetsItsData(t *testing.T) {
	m := restored(t)
	m.flags = []string{"--initial-cluster=" + m.name + "=http://" + m.peer, "--force-new-cluster-id"}
	m.start()
	m.ready()
	m.end(syscall.SIGTERM)
	m.flags = m.flags[:1]
	m.start()
	m.ready()
	got, err := m.connect().Get(within(t), "k3")
	require.NoError(t, err)
	require.Greater(t, got.Header.Revision, int64(1_000_000_000))
	joiner := joined(t, m)
	require.Equal(t, "backed up", get(t, joiner, "k3"))
	same(t, m, joiner)
}
