package failpoints

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/framework/e2e"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"keepstone.io/conformance/harness"
)

// inside tells the copy of this program that it has a network of its own.
const inside = "FAILPOINTS_INSIDE"

// etcdsPoints are those that etcd's robustness tests use at 3.6.16.
var etcdsPoints = []string{
	"defragBeforeCopy", "defragBeforeRename", "beforeCommit", "afterCommit", "raftBeforeSave", "raftAfterSave",
	"commitBeforePreCommitHook", "commitAfterPreCommitHook", "beforeStartDBTxn", "afterStartDBTxn", "beforeWritebackBuf",
	"afterWritebackBuf", "compactBeforeCommitScheduledCompact", "compactAfterCommitScheduledCompact",
	"compactBeforeSetFinishedCompact", "compactAfterSetFinishedCompact", "compactBeforeCommitBatch", "compactAfterCommitBatch",
	"raftBeforeLeaderSend", "raftBeforeFollowerSend", "raftBeforeApplySnap", "raftAfterApplySnap", "raftAfterWALRelease",
	"raftBeforeSaveSnap", "raftAfterSaveSnap", "applyBeforeOpenSnapshot", "beforeApplyOneConfChange", "beforeSendWatchResponse",
}

// TestEtcdsToolsDrive has etcd's own test framework found a cluster, arm points by its own client, and see a member die. Its
// ports are fixed, so the test starts itself again in a network of its own.
func TestEtcdsToolsDrive(t *testing.T) {
	if os.Getenv(inside) == "" {
		t.Parallel()
		again := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
		again.Env = append(os.Environ(), inside+"=1")
		again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		if os.Getuid() != 0 {
			again.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			again.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			again.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		out, err := again.CombinedOutput()
		require.NoError(t, err, string(out))
		return
	}
	raiseLoopback(t)
	e2e.BinPath.Etcd, e2e.BinPath.Etcdctl = harness.UnderTest(t), harness.Etcdctl(t)
	ctx := harness.Context(t)
	cluster, err := e2e.NewEtcdProcessCluster(ctx, t, e2e.WithClusterSize(3), e2e.WithGoFailEnabled(true),
		e2e.WithGoFailClientTimeout(10*time.Second), e2e.WithEnvVars(map[string]string{"KEEPSTONE_AUDIT_WAL": "1"}))
	require.NoError(t, err)
	defer cluster.Close()
	client, err := clientv3.New(clientv3.Config{Endpoints: cluster.EndpointsGRPC(), Logger: zap.NewNop()})
	require.NoError(t, err)
	defer client.Close()

	leader := cluster.WaitLeader(t)
	for _, point := range etcdsPoints {
		require.True(t, cluster.Procs[leader].Failpoints().Available(point), point)
	}
	puts := 0
	put := func() {
		// One that fails on the way may have been done all the same.
		require.Eventually(t, func() bool {
			_, err := client.Put(ctx, fmt.Sprint("key-", puts), "")
			return err == nil
		}, harness.Patience, 10*time.Millisecond)
		puts++
	}
	// A leader that dies makes another one leader.
	for point, away := range map[string]int{"raftBeforeSave": 0, "raftAfterSave": 1, "raftBeforeFollowerSend": 2, "raftBeforeLeaderSend": 0} {
		member := cluster.Procs[(cluster.WaitLeader(t)+away)%3]
		require.NoError(t, member.Failpoints().SetupHTTP(ctx, point, "panic"))
		put()
		require.NoError(t, member.Wait(ctx))
		require.NoError(t, member.Start(ctx))
		put()
	}
	sleeper := cluster.Procs[cluster.WaitLeader(t)].Failpoints()
	require.NoError(t, sleeper.SetupHTTP(ctx, "raftBeforeSave", `sleep("100ms")`))
	put()
	require.NoError(t, sleeper.DeactivateHTTP(ctx, "raftBeforeSave"))
	require.Error(t, sleeper.SetupHTTP(ctx, "nowhere", "panic"))

	// As their report does it: what one member has persisted is the beginning of what another has.
	longest := []string{}
	for _, member := range cluster.Procs {
		require.NoError(t, member.Kill())
		_ = member.Wait(ctx)
		keys := keysIn(persisted(t, member.Config().DataDirPath))
		common := min(len(keys), len(longest))
		require.Equal(t, longest[:common], keys[:common])
		if len(keys) > len(longest) {
			longest = keys
		}
	}
	require.GreaterOrEqual(t, len(longest), puts)
}

func raiseLoopback(t *testing.T) {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(socket)
	loopback, err := unix.NewIfreq("lo")
	require.NoError(t, err)
	loopback.SetUint16(unix.IFF_UP)
	require.NoError(t, unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback))
}
