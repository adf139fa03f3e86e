package conformance

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"keepstone.io/conformance/harness"
)

// TestServiceRegistration is how services are found: a key with a lease, kept alive while the service is.
func TestServiceRegistration(t *testing.T) {
	ctx, server, client := start(t)
	register := func(name string) (context.CancelFunc, clientv3.LeaseID) {
		own := server.Client()
		lease := must(own.Grant(ctx, 2))(t)
		must(own.Put(ctx, "services/web/"+name, name+":80", clientv3.WithLease(lease.ID)))(t)
		alive, stop := context.WithCancel(ctx)
		answers := must(own.KeepAlive(alive, lease.ID))(t)
		go func() {
			for range answers {
			}
		}()
		return stop, lease.ID
	}
	leaveA, _ := register("a")
	leaveB, leaseB := register("b")
	defer leaveB()
	require.Equal(t, map[string]string{"services/web/a": "a:80", "services/web/b": "b:80"},
		values(ctx, t, client, "services/web/"))

	gone := client.Watch(ctx, "services/web/", clientv3.WithPrefix())
	leaveA()
	event := (<-gone).Events[0]
	require.Equal(t, clientv3.EventTypeDelete, event.Type)
	require.Equal(t, "services/web/a", string(event.Kv.Key))
	require.Equal(t, map[string]string{"services/web/b": "b:80"}, values(ctx, t, client, "services/web/"))
	require.Positive(t, must(client.TimeToLive(ctx, leaseB))(t).TTL, "b is kept alive")
}

// TestConfigService lists a configuration, then follows it from just after the list: nothing is missed or seen twice.
func TestConfigService(t *testing.T) {
	ctx, server, client := start(t)
	for i := range 5 {
		must(client.Put(ctx, fmt.Sprintf("config/%d", i), "old"))(t)
	}
	writer := server.Client()
	const changes = 200
	done := make(chan error, 1)
	go func() {
		for i := range changes {
			if _, err := writer.Put(ctx, fmt.Sprintf("config/%d", i%7), fmt.Sprint(i)); err != nil {
				done <- err
				return
			}
		}
		_, err := writer.Delete(ctx, "config/0")
		done <- err
	}()
	list := must(client.Get(ctx, "config/", clientv3.WithPrefix()))(t)
	config := map[string]string{}
	for _, kv := range list.Kvs {
		config[string(kv.Key)] = string(kv.Value)
	}
	revision := list.Header.Revision
	for revision < 6+changes+1 {
		response := <-client.Watch(ctx, "config/", clientv3.WithPrefix(), clientv3.WithRev(revision+1))
		require.NoError(t, response.Err())
		for _, event := range response.Events {
			require.Equal(t, revision+1, event.Kv.ModRevision)
			revision = event.Kv.ModRevision
			if event.Type == clientv3.EventTypeDelete {
				delete(config, string(event.Kv.Key))
			} else {
				config[string(event.Kv.Key)] = string(event.Kv.Value)
			}
		}
	}
	require.NoError(t, <-done)
	require.Equal(t, values(ctx, t, client, "config/"), config)
}

// TestMoneyTransfers moves money between accounts from several clients at once: none is made or lost.
func TestMoneyTransfers(t *testing.T) {
	ctx, server, client := start(t)
	const accounts, clients, transfers, each = 5, 4, 25, 100
	for i := range accounts {
		must(client.Put(ctx, fmt.Sprintf("account/%d", i), fmt.Sprint(each)))(t)
	}
	var all sync.WaitGroup
	errs := make(chan error, clients)
	for c := range clients {
		own := server.Client()
		all.Add(1)
		go func() {
			defer all.Done()
			for i := range transfers {
				from, to := fmt.Sprintf("account/%d", (c+i)%accounts), fmt.Sprintf("account/%d", (c*2+i*3+1)%accounts)
				if from == to {
					continue
				}
				if err := transfer(ctx, own, from, to, 1+i%7); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	all.Wait()
	close(errs)
	require.NoError(t, <-errs)
	sum := 0
	for _, balance := range values(ctx, t, client, "account/") {
		sum += must(strconv.Atoi(balance))(t)
	}
	require.Equal(t, accounts*each, sum)
}

func transfer(ctx context.Context, client *clientv3.Client, from, to string, amount int) error {
	_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
		source, err := strconv.Atoi(stm.Get(from))
		if err != nil {
			return err
		}
		target, err := strconv.Atoi(stm.Get(to))
		if err != nil {
			return err
		}
		stm.Put(from, fmt.Sprint(source-amount))
		stm.Put(to, fmt.Sprint(target+amount))
		return nil
	}, concurrency.WithAbortContext(ctx), concurrency.WithIsolation(concurrency.SerializableSnapshot))
	return err
}

// TestMutex lets clients count with a plain read and write: only the lock keeps the count right.
func TestMutex(t *testing.T) {
	ctx, server, client := start(t)
	const clients, rounds = 5, 10
	must(client.Put(ctx, "counter", "0"))(t)
	var all sync.WaitGroup
	errs := make(chan error, clients)
	for range clients {
		own := server.Client()
		all.Add(1)
		go func() {
			defer all.Done()
			errs <- countUnderLock(ctx, own, rounds)
		}()
	}
	all.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	require.Equal(t, fmt.Sprint(clients*rounds), string(must(client.Get(ctx, "counter"))(t).Kvs[0].Value))
	require.Empty(t, values(ctx, t, client, "lock/"), "every lock was given back")
}

func countUnderLock(ctx context.Context, client *clientv3.Client, rounds int) error {
	session, err := concurrency.NewSession(client, concurrency.WithTTL(30))
	if err != nil {
		return err
	}
	defer session.Close()
	for range rounds {
		mutex := concurrency.NewMutex(session, "lock")
		if err := mutex.Lock(ctx); err != nil {
			return err
		}
		response, err := client.Get(ctx, "counter")
		if err != nil {
			return err
		}
		count, err := strconv.Atoi(string(response.Kvs[0].Value))
		if err != nil {
			return err
		}
		if _, err := client.Put(ctx, "counter", fmt.Sprint(count+1)); err != nil {
			return err
		}
		if err := mutex.Unlock(ctx); err != nil {
			return err
		}
	}
	return nil
}

// TestSessionLoss: who loses its session loses the lock, and the next in line gets it.
func TestSessionLoss(t *testing.T) {
	ctx, server, client := start(t)
	// A session learns of its end when it next renews: after a third of its time.
	first := must(concurrency.NewSession(client, concurrency.WithTTL(10)))(t)
	held := concurrency.NewMutex(first, "lock")
	require.NoError(t, held.Lock(ctx))

	second := must(concurrency.NewSession(server.Client(), concurrency.WithTTL(60)))(t)
	next := concurrency.NewMutex(second, "lock")
	require.ErrorIs(t, next.TryLock(ctx), concurrency.ErrLocked)
	got := make(chan error, 1)
	go func() { got <- next.Lock(ctx) }()
	harness.Eventually(t, "the second in line", func() bool { return len(values(ctx, t, client, "lock/")) == 2 })
	must(client.Revoke(ctx, first.Lease()))(t)
	require.NoError(t, <-got)
	<-first.Done()
	require.False(t, must(client.Txn(ctx).If(held.IsOwner()).Commit())(t).Succeeded)
	require.True(t, must(client.Txn(ctx).If(next.IsOwner()).Commit())(t).Succeeded)
}

func TestElection(t *testing.T) {
	ctx, server, client := start(t)
	const candidates = 4
	watcher := must(concurrency.NewSession(client))(t)
	_, err := concurrency.NewElection(watcher, "boss").Leader(ctx)
	require.ErrorIs(t, err, concurrency.ErrElectionNoLeader)
	observed := concurrency.NewElection(watcher, "boss").Observe(ctx)

	type reign struct {
		name     string
		election *concurrency.Election
		err      error
	}
	elected := make(chan reign)
	for i := range candidates {
		session := must(concurrency.NewSession(server.Client()))(t)
		go func() {
			name := fmt.Sprintf("candidate-%d", i)
			election := concurrency.NewElection(session, "boss")
			err := election.Campaign(ctx, name)
			elected <- reign{name, election, err}
		}()
	}
	seen := map[string]bool{}
	for range candidates {
		winner := <-elected
		require.NoError(t, winner.err)
		require.False(t, seen[winner.name], "each wins once")
		seen[winner.name] = true
		leader := must(winner.election.Leader(ctx))(t)
		require.Equal(t, winner.name, string(leader.Kvs[0].Value))
		require.NoError(t, winner.election.Proclaim(ctx, winner.name+" speaks"))
		for response := range observed {
			if string(response.Kvs[0].Value) == winner.name+" speaks" {
				break
			}
		}
		require.NoError(t, winner.election.Resign(ctx))
	}
}
