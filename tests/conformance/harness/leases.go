package harness

import (
	"context"
	"fmt"
	"sort"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Leases is what a client can learn of all leases: by ID, the TTL each was granted for and the keys that hang on it.
func Leases(ctx context.Context, t testing.TB, client *clientv3.Client) map[string]string {
	t.Helper()
	all := map[string]string{}
	leases, err := client.Leases(ctx)
	require.NoError(t, err)
	for _, lease := range leases.Leases {
		info, err := client.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
		require.NoError(t, err)
		require.Positive(t, info.TTL)
		attached := []string{}
		for _, key := range info.Keys {
			attached = append(attached, string(key))
		}
		sort.Strings(attached)
		all[fmt.Sprint(lease.ID)] = fmt.Sprint(info.GrantedTTL, attached)
	}
	return all
}

// Lease grants a lease and hangs two keys on it: leased/TTL/a and b.
func Lease(ctx context.Context, t testing.TB, client *clientv3.Client, ttl int64) clientv3.LeaseID {
	t.Helper()
	lease, err := client.Grant(ctx, ttl)
	require.NoError(t, err)
	_, err = client.Txn(ctx).Then(
		clientv3.OpPut(fmt.Sprintf("leased/%d/a", ttl), "", clientv3.WithLease(lease.ID)),
		clientv3.OpPut(fmt.Sprintf("leased/%d/b", ttl), "", clientv3.WithLease(lease.ID)),
	).Commit()
	require.NoError(t, err)
	return lease.ID
}
