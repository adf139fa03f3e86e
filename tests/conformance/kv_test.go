package conformance

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestPutGetDelete(t *testing.T) {
	ctx, _, client := start(t)
	require.EqualValues(t, 1, must(client.Get(ctx, "a"))(t).Header.Revision, "a fresh store")

	put := must(client.Put(ctx, "a", "1", clientv3.WithPrevKV()))(t)
	require.EqualValues(t, 2, put.Header.Revision)
	require.Nil(t, put.PrevKv)
	put = must(client.Put(ctx, "a", "2", clientv3.WithPrevKV()))(t)
	require.Equal(t, "1", string(put.PrevKv.Value))

	kv := must(client.Get(ctx, "a"))(t).Kvs[0]
	require.Equal(t, "2", string(kv.Value))
	require.EqualValues(t, 2, kv.CreateRevision)
	require.EqualValues(t, 3, kv.ModRevision)
	require.EqualValues(t, 2, kv.Version)

	removed := must(client.Delete(ctx, "a", clientv3.WithPrevKV()))(t)
	require.EqualValues(t, 1, removed.Deleted)
	require.Equal(t, "2", string(removed.PrevKvs[0].Value))
	require.EqualValues(t, 4, removed.Header.Revision)
	require.EqualValues(t, 4, must(client.Delete(ctx, "a"))(t).Header.Revision, "deleting nothing changes nothing")

	must(client.Put(ctx, "a", "3"))(t)
	kv = must(client.Get(ctx, "a"))(t).Kvs[0]
	require.EqualValues(t, 5, kv.CreateRevision, "a new life")
	require.EqualValues(t, 1, kv.Version)
	require.Equal(t, "1", string(must(client.Get(ctx, "a", clientv3.WithRev(2)))(t).Kvs[0].Value))
	require.Empty(t, must(client.Get(ctx, "a", clientv3.WithRev(4)))(t).Kvs)
}

func TestIgnoreValueAndLease(t *testing.T) {
	ctx, _, client := start(t)
	lease := must(client.Grant(ctx, 600))(t).ID
	must(client.Put(ctx, "a", "1", clientv3.WithLease(lease)))(t)
	must(client.Put(ctx, "a", "2", clientv3.WithIgnoreLease()))(t)
	kv := must(client.Get(ctx, "a"))(t).Kvs[0]
	require.Equal(t, "2", string(kv.Value))
	require.EqualValues(t, lease, kv.Lease)
	must(client.Put(ctx, "a", "", clientv3.WithIgnoreValue()))(t)
	kv = must(client.Get(ctx, "a"))(t).Kvs[0]
	require.Equal(t, "2", string(kv.Value))
	require.Zero(t, kv.Lease, "a put without a lease detaches the key")
}

func TestRangeOptions(t *testing.T) {
	ctx, _, client := start(t)
	for i, key := range []string{"k/c", "k/a", "k/b", "l/a"} {
		must(client.Put(ctx, key, fmt.Sprint(9-i)))(t) // revisions 2 to 5
	}
	must(client.Put(ctx, "k/a", "0"))(t) // revision 6
	prefix := clientv3.WithPrefix()
	cases := map[string]struct {
		key     string
		options []clientv3.OpOption
		want    []string
	}{
		"one key":       {"k/a", nil, []string{"k/a"}},
		"prefix":        {"k/", []clientv3.OpOption{prefix}, []string{"k/a", "k/b", "k/c"}},
		"range":         {"k/a", []clientv3.OpOption{clientv3.WithRange("k/c")}, []string{"k/a", "k/b"}},
		"empty range":   {"k/c", []clientv3.OpOption{clientv3.WithRange("k/a")}, []string{}},
		"from key":      {"k/c", []clientv3.OpOption{clientv3.WithFromKey()}, []string{"k/c", "l/a"}},
		"everything":    {"", []clientv3.OpOption{prefix}, []string{"k/a", "k/b", "k/c", "l/a"}},
		"descending":    {"k/", []clientv3.OpOption{prefix, clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)}, []string{"k/c", "k/b", "k/a"}},
		"by value":      {"k/", []clientv3.OpOption{prefix, clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend)}, []string{"k/a", "k/b", "k/c"}},
		"by version":    {"k/", []clientv3.OpOption{prefix, clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend), clientv3.WithLimit(1)}, []string{"k/a"}},
		"by creation":   {"k/", []clientv3.OpOption{prefix, clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend)}, []string{"k/c", "k/a", "k/b"}},
		"by change":     {"k/", []clientv3.OpOption{prefix, clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortNone)}, []string{"k/c", "k/b", "k/a"}},
		"changed since": {"k/", []clientv3.OpOption{prefix, clientv3.WithMinModRev(4)}, []string{"k/a", "k/b"}},
		"changed until": {"k/", []clientv3.OpOption{prefix, clientv3.WithMaxModRev(4)}, []string{"k/b", "k/c"}},
		"created since": {"k/", []clientv3.OpOption{prefix, clientv3.WithMinCreateRev(3)}, []string{"k/a", "k/b"}},
		"created until": {"k/", []clientv3.OpOption{prefix, clientv3.WithMaxCreateRev(3)}, []string{"k/a", "k/c"}},
		"old revision":  {"k/", []clientv3.OpOption{prefix, clientv3.WithRev(3)}, []string{"k/a", "k/c"}},
		"serializable":  {"k/a", []clientv3.OpOption{clientv3.WithSerializable()}, []string{"k/a"}},
	}
	for name, c := range cases {
		response := must(client.Get(ctx, c.key, c.options...))(t)
		require.Equal(t, c.want, keys(response.Kvs), name)
		require.EqualValues(t, 6, response.Header.Revision, name)
	}

	counted := must(client.Get(ctx, "k/", prefix, clientv3.WithCountOnly()))(t)
	require.EqualValues(t, 3, counted.Count)
	require.Empty(t, counted.Kvs)
	require.False(t, counted.More)
	bare := must(client.Get(ctx, "k/", prefix, clientv3.WithKeysOnly(), clientv3.WithLimit(1)))(t)
	require.Empty(t, bare.Kvs[0].Value)
	require.EqualValues(t, 2, bare.Kvs[0].Version)
	require.EqualValues(t, 3, bare.Count, "the limit does not change the count")
	require.True(t, bare.More)
}

func TestPagination(t *testing.T) {
	ctx, _, client := start(t)
	const total, page = 1000, 64
	for i := 0; i < total; i += 100 {
		ops := []clientv3.Op{}
		for j := i; j < i+100; j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("p/%04d", j), fmt.Sprint(j)))
		}
		must(client.Txn(ctx).Then(ops...).Commit())(t)
	}
	key, end, revision, seen := "p/", clientv3.GetPrefixRangeEnd("p/"), int64(0), []string{}
	for {
		response := must(client.Get(ctx, key, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(revision)))(t)
		if revision == 0 {
			revision = response.Header.Revision
		}
		require.EqualValues(t, total-len(seen), response.Count)
		seen = append(seen, keys(response.Kvs)...)
		if !response.More {
			break
		}
		require.Len(t, response.Kvs, page)
		key = seen[len(seen)-1] + "\x00"
		// What happens between two pages of one revision is not seen.
		must(client.Put(ctx, seen[len(seen)-1]+"/new", ""))(t)
		must(client.Delete(ctx, fmt.Sprintf("p/%04d", total-1)))(t)
	}
	require.Len(t, seen, total)
	require.IsIncreasing(t, seen)
}

func TestCompaction(t *testing.T) {
	ctx, _, client := start(t)
	for i := range 5 {
		must(client.Put(ctx, "a", fmt.Sprint(i)))(t) // revisions 2 to 6
	}
	must(client.Delete(ctx, "a"))(t)
	must(client.Put(ctx, "b", "1"))(t) // revision 8
	must(client.Compact(ctx, 5, clientv3.WithCompactPhysical()))(t)
	require.Equal(t, "3", string(must(client.Get(ctx, "a", clientv3.WithRev(5)))(t).Kvs[0].Value), "at the compacted revision")
	_, err := client.Get(ctx, "a", clientv3.WithRev(4))
	require.ErrorContains(t, err, "etcdserver: mvcc: required revision has been compacted")
	require.EqualValues(t, 8, must(client.Get(ctx, "b"))(t).Header.Revision, "a compaction is no revision")
	must(client.Compact(ctx, 8))(t)
	require.Equal(t, "1", string(must(client.Get(ctx, "b"))(t).Kvs[0].Value))
}
