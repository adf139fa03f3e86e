package conformance

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc/codes"

	"keepstone.io/conformance/harness"
)

// TestLockService: the server's lock service and the client's mutex are one and the same lock.
func TestLockService(t *testing.T) {
	ctx, server, client := start(t)
	locks := v3lockpb.NewLockClient(server.Conn())
	lease := must(client.Grant(ctx, 600))(t).ID
	held := must(locks.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("lock"), Lease: int64(lease)}))(t)
	require.Equal(t, fmt.Sprintf("lock/%x", int64(lease)), string(held.Key))
	kv := must(client.Get(ctx, string(held.Key)))(t).Kvs[0]
	require.Empty(t, kv.Value)
	require.EqualValues(t, lease, kv.Lease)
	again := must(locks.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("lock"), Lease: int64(lease)}))(t)
	require.Equal(t, held.Key, again.Key, "who has it gets it again")

	session := must(concurrency.NewSession(client))(t)
	mutex := concurrency.NewMutex(session, "lock")
	require.ErrorIs(t, mutex.TryLock(ctx), concurrency.ErrLocked)
	got := make(chan error, 1)
	go func() { got <- mutex.Lock(ctx) }()
	harness.Eventually(t, "the mutex in line", func() bool { return len(values(ctx, t, client, "lock/")) == 2 })
	must(locks.Unlock(ctx, &v3lockpb.UnlockRequest{Key: held.Key}))(t)
	require.NoError(t, <-got)

	// And the other way round: the service waits for the mutex. Without a lease it takes one of its own.
	waiting := make(chan *v3lockpb.LockResponse, 1)
	go func() {
		response, err := locks.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("lock")})
		got <- err
		waiting <- response
	}()
	harness.Eventually(t, "the service in line", func() bool { return len(values(ctx, t, client, "lock/")) == 2 })
	require.NoError(t, mutex.Unlock(ctx))
	require.NoError(t, <-got)
	response := <-waiting
	require.True(t, strings.HasPrefix(string(response.Key), "lock/"))
	kv = must(client.Get(ctx, string(response.Key)))(t).Kvs[0]
	require.EqualValues(t, 60, must(client.TimeToLive(ctx, clientv3.LeaseID(kv.Lease)))(t).GrantedTTL)
}

// TestLockServiceLosesSession: a lease revoked while it waits ends the wait with an error.
func TestLockServiceLosesSession(t *testing.T) {
	ctx, server, client := start(t)
	locks := v3lockpb.NewLockClient(server.Conn())
	holder, waiter := must(client.Grant(ctx, 600))(t).ID, must(client.Grant(ctx, 600))(t).ID
	held := must(locks.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("lock"), Lease: int64(holder)}))(t)
	failed := make(chan error, 1)
	go func() {
		_, err := locks.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("lock"), Lease: int64(waiter)})
		failed <- err
	}()
	harness.Eventually(t, "the second in line", func() bool { return len(values(ctx, t, client, "lock/")) == 2 })
	must(client.Revoke(ctx, waiter))(t)
	must(locks.Unlock(ctx, &v3lockpb.UnlockRequest{Key: held.Key}))(t)
	refused(t, <-failed, codes.Unknown, "mutex: session is expired")
	_, err := locks.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("lock"), Lease: 12345})
	refused(t, err, codes.Unknown, "etcdserver: requested lease not found")
}

// TestElectionService: the server's election service and the client's elections are the same elections.
func TestElectionService(t *testing.T) {
	ctx, server, client := start(t)
	elections := v3electionpb.NewElectionClient(server.Conn())
	_, err := elections.Leader(ctx, &v3electionpb.LeaderRequest{Name: []byte("boss")})
	refused(t, err, codes.Unknown, "election: no leader")
	_, err = elections.Proclaim(ctx, &v3electionpb.ProclaimRequest{Value: []byte("x")})
	refused(t, err, codes.Unknown, `"leader" field must be provided`)
	_, err = elections.Resign(ctx, &v3electionpb.ResignRequest{})
	refused(t, err, codes.Unknown, `"leader" field must be provided`)

	observing, stop := context.WithCancel(ctx)
	defer stop()
	observer := must(elections.Observe(observing, &v3electionpb.LeaderRequest{Name: []byte("boss")}))(t)
	lease := must(client.Grant(ctx, 600))(t).ID
	won := must(elections.Campaign(ctx, &v3electionpb.CampaignRequest{Name: []byte("boss"), Lease: int64(lease), Value: []byte("one")}))(t).Leader
	require.Equal(t, fmt.Sprintf("boss/%x", int64(lease)), string(won.Key))
	require.EqualValues(t, lease, won.Lease)
	require.Equal(t, "one", string(must(observer.Recv())(t).Kv.Value))

	session := must(concurrency.NewSession(client))(t)
	rival := concurrency.NewElection(session, "boss")
	require.Equal(t, "one", string(must(rival.Leader(ctx))(t).Kvs[0].Value))
	elected := make(chan error, 1)
	go func() { elected <- rival.Campaign(ctx, "two") }()
	harness.Eventually(t, "the rival in line", func() bool { return len(values(ctx, t, client, "boss/")) == 2 })
	must(elections.Proclaim(ctx, &v3electionpb.ProclaimRequest{Leader: won, Value: []byte("one more")}))(t)
	require.Equal(t, "one more", string(must(observer.Recv())(t).Kv.Value))
	must(elections.Resign(ctx, &v3electionpb.ResignRequest{Leader: won}))(t)
	require.NoError(t, <-elected)
	require.Equal(t, "two", string(must(observer.Recv())(t).Kv.Value))
	require.Equal(t, "two", string(must(elections.Leader(ctx, &v3electionpb.LeaderRequest{Name: []byte("boss")}))(t).Kv.Value))
	_, err = elections.Proclaim(ctx, &v3electionpb.ProclaimRequest{Leader: won, Value: []byte("late")})
	refused(t, err, codes.Unknown, "election: not leader")
}
