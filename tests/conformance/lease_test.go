package conformance

import (
	"fmt"
	"sort"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keepstone.io/conformance/harness"
)

func TestLeaseLifecycle(t *testing.T) {
	ctx, _, client := start(t)
	lease := must(client.Grant(ctx, 600))(t)
	require.EqualValues(t, 600, lease.TTL)
	require.Positive(t, lease.ID)
	require.EqualValues(t, 1, lease.Revision, "a lease is no revision")
	for _, key := range []string{"l/b", "l/a", "l/c"} {
		must(client.Put(ctx, key, "", clientv3.WithLease(lease.ID)))(t)
	}
	must(client.Put(ctx, "l/c", ""))(t) // detached
	info := must(client.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys()))(t)
	require.EqualValues(t, 600, info.GrantedTTL)
	require.InDelta(t, 600, info.TTL, 60)
	attached := []string{}
	for _, key := range info.Keys {
		attached = append(attached, string(key))
	}
	sort.Strings(attached)
	require.Equal(t, []string{"l/a", "l/b"}, attached)
	require.Len(t, must(client.Leases(ctx))(t).Leases, 1)
	require.EqualValues(t, 600, must(client.KeepAliveOnce(ctx, lease.ID))(t).TTL)

	watch := client.Watch(ctx, "l/", clientv3.WithPrefix(), clientv3.WithRev(6))
	must(client.Revoke(ctx, lease.ID))(t)
	require.Equal(t, []string{"DELETE l/a= @6", "DELETE l/b= @6"}, describe(events(t, watch, 2)), "one revision, sorted")
	require.Equal(t, map[string]string{"l/c": ""}, values(ctx, t, client, "l/"))
	require.EqualValues(t, -1, must(client.TimeToLive(ctx, lease.ID))(t).TTL)
	require.Empty(t, must(client.Leases(ctx))(t).Leases)
}

func TestLeaseExpiry(t *testing.T) {
	ctx, _, client := start(t)
	short := must(client.Grant(ctx, 1))(t)
	require.EqualValues(t, 2, short.TTL, "raised to the least that outlives an election")
	long := must(client.Grant(ctx, 600))(t)
	must(client.Put(ctx, "e/short", "", clientv3.WithLease(short.ID)))(t)
	must(client.Put(ctx, "e/long", "", clientv3.WithLease(long.ID)))(t)
	watch := client.Watch(ctx, "e/", clientv3.WithPrefix(), clientv3.WithRev(4))
	require.Equal(t, []string{"DELETE e/short= @4"}, describe(events(t, watch, 1)))
	harness.Eventually(t, "the lease gone", func() bool {
		return must(client.TimeToLive(ctx, short.ID))(t).TTL == -1
	})
	require.Equal(t, map[string]string{"e/long": ""}, values(ctx, t, client, "e/"))
}

// TestManyExpiries: leases that end together each end as a revision of their own.
func TestManyExpiries(t *testing.T) {
	ctx, _, client := start(t)
	const leases = 50
	for i := range leases {
		lease := must(client.Grant(ctx, 2))(t)
		must(client.Txn(ctx).Then(
			clientv3.OpPut(fmt.Sprintf("x/%02d/b", i), "", clientv3.WithLease(lease.ID)),
			clientv3.OpPut(fmt.Sprintf("x/%02d/a", i), "", clientv3.WithLease(lease.ID)),
		).Commit())(t)
	}
	// A key deleted by expiry was there until then, even where the last leases are granted after the first expire.
	gone := map[int64][]string{}
	watch := client.Watch(ctx, "x/", clientv3.WithPrefix(), clientv3.WithRev(1), clientv3.WithFilterPut())
	for _, event := range events(t, watch, 2*leases) {
		gone[event.Kv.ModRevision] = append(gone[event.Kv.ModRevision], string(event.Kv.Key))
	}
	require.Len(t, gone, leases)
	for _, keys := range gone {
		require.Len(t, keys, 2)
		require.Equal(t, keys[0][:5]+"a", keys[0])
		require.Equal(t, keys[0][:5]+"b", keys[1])
	}
	require.Empty(t, values(ctx, t, client, "x/"))
}
