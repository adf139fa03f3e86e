package conformance

import (
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestCompareAndSwap(t *testing.T) {
	ctx, _, client := start(t)
	lease := must(client.Grant(ctx, 600))(t).ID
	must(client.Put(ctx, "k", "1"))(t)                            // revision 2
	must(client.Put(ctx, "k", "2", clientv3.WithLease(lease)))(t) // revision 3
	must(client.Put(ctx, "k2", "2"))(t)                           // revision 4
	cases := map[string]struct {
		compare clientv3.Cmp
		want    bool
	}{
		"value =":              {clientv3.Compare(clientv3.Value("k"), "=", "2"), true},
		"value !=":             {clientv3.Compare(clientv3.Value("k"), "!=", "2"), false},
		"value <":              {clientv3.Compare(clientv3.Value("k"), "<", "3"), true},
		"value >":              {clientv3.Compare(clientv3.Value("k"), ">", "3"), false},
		"value of nothing =":   {clientv3.Compare(clientv3.Value("none"), "=", ""), false},
		"value of nothing !=":  {clientv3.Compare(clientv3.Value("none"), "!=", "x"), false},
		"version =":            {clientv3.Compare(clientv3.Version("k"), "=", 2), true},
		"version of nothing":   {clientv3.Compare(clientv3.Version("none"), "=", 0), true},
		"version >":            {clientv3.Compare(clientv3.Version("k"), ">", 2), false},
		"create revision =":    {clientv3.Compare(clientv3.CreateRevision("k"), "=", 2), true},
		"create revision of 0": {clientv3.Compare(clientv3.CreateRevision("none"), "=", 0), true},
		"mod revision =":       {clientv3.Compare(clientv3.ModRevision("k"), "=", 3), true},
		"mod revision <":       {clientv3.Compare(clientv3.ModRevision("k"), "<", 3), false},
		"lease =":              {clientv3.Compare(clientv3.LeaseValue("k"), "=", lease), true},
		"no lease":             {clientv3.Compare(clientv3.LeaseValue("k2"), "=", 0), true},
		"prefix, all":          {clientv3.Compare(clientv3.Value("k"), "=", "2").WithPrefix(), true},
		"prefix, not all":      {clientv3.Compare(clientv3.Version("k"), "=", 2).WithPrefix(), false},
		"empty range, value":   {clientv3.Compare(clientv3.Value("none"), "!=", "x").WithRange("nonf"), false},
		"empty range, version": {clientv3.Compare(clientv3.Version("none"), "=", 0).WithRange("nonf"), true},
	}
	for name, c := range cases {
		response := must(client.Txn(ctx).If(c.compare).Commit())(t)
		require.Equal(t, c.want, response.Succeeded, name)
	}

	swap := func(from, to string) bool {
		return must(client.Txn(ctx).
			If(clientv3.Compare(clientv3.Value("k"), "=", from)).
			Then(clientv3.OpPut("k", to)).Commit())(t).Succeeded
	}
	require.True(t, swap("2", "3"))
	require.False(t, swap("2", "4"))
	require.Equal(t, "3", string(must(client.Get(ctx, "k"))(t).Kvs[0].Value))
}

func TestTxnBranches(t *testing.T) {
	ctx, _, client := start(t)
	must(client.Put(ctx, "a", "1"))(t)
	must(client.Put(ctx, "b", "1"))(t)
	response := must(client.Txn(ctx).
		If(clientv3.Compare(clientv3.Value("a"), "=", "1")).
		Then(
			clientv3.OpGet("a"),
			clientv3.OpPut("a", "2", clientv3.WithPrevKV()),
			clientv3.OpGet("a"),
			clientv3.OpDelete("b", clientv3.WithPrevKV()),
			clientv3.OpGet("", clientv3.WithPrefix()),
		).
		Else(clientv3.OpPut("never", "")).
		Commit())(t)
	require.True(t, response.Succeeded)
	require.EqualValues(t, 4, response.Header.Revision)
	r := response.Responses
	require.Len(t, r, 5)
	require.Equal(t, "1", string(r[0].GetResponseRange().Kvs[0].Value))
	require.Equal(t, "1", string(r[1].GetResponsePut().PrevKv.Value))
	require.Equal(t, "2", string(r[2].GetResponseRange().Kvs[0].Value), "a txn sees its own writes")
	require.Equal(t, "1", string(r[3].GetResponseDeleteRange().PrevKvs[0].Value))
	require.Equal(t, []string{"a"}, keys(r[4].GetResponseRange().Kvs))

	response = must(client.Txn(ctx).Then(clientv3.OpDelete("none"), clientv3.OpGet("a")).Commit())(t)
	require.EqualValues(t, 4, response.Header.Revision, "nothing changed")
}

func TestTxnNesting(t *testing.T) {
	ctx, _, client := start(t)
	must(client.Put(ctx, "a", "1"))(t)
	inner := clientv3.OpTxn(
		[]clientv3.Cmp{clientv3.Compare(clientv3.Value("a"), "=", "1")},
		[]clientv3.Op{
			clientv3.OpGet("a"),
			clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("deep", "1")}, nil),
		},
		[]clientv3.Op{clientv3.OpPut("wrong", "")},
	)
	response := must(client.Txn(ctx).Then(clientv3.OpPut("a", "2"), inner).Commit())(t)
	nested := response.Responses[1].GetResponseTxn()
	require.True(t, nested.Succeeded, "compares see the state before the whole txn")
	require.Equal(t, "2", string(nested.Responses[0].GetResponseRange().Kvs[0].Value), "ranges see its writes")
	require.Equal(t, map[string]string{"a": "2", "deep": "1"}, values(ctx, t, client, ""))
	require.EqualValues(t, 3, must(client.Get(ctx, "deep"))(t).Kvs[0].ModRevision, "one revision for all")
}
