package conformance

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// events reads n events and wants every revision's events in one response, in order.
func events(t *testing.T, watch clientv3.WatchChan, n int) []*clientv3.Event {
	t.Helper()
	var all []*clientv3.Event
	last := int64(0)
	for len(all) < n {
		response, open := <-watch
		require.True(t, open, "the watch ended after %d of %d events", len(all), n)
		require.NoError(t, response.Err())
		for i, event := range response.Events {
			if i == 0 {
				require.Greater(t, event.Kv.ModRevision, last, "a revision came in two parts or twice")
			}
			require.GreaterOrEqual(t, event.Kv.ModRevision, last)
			last = event.Kv.ModRevision
			all = append(all, event)
		}
		require.GreaterOrEqual(t, response.Header.Revision, last)
	}
	require.Len(t, all, n)
	return all
}

func describe(all []*clientv3.Event) []string {
	words := []string{}
	for _, event := range all {
		words = append(words, fmt.Sprintf("%s %s=%s @%d", event.Type, event.Kv.Key, event.Kv.Value, event.Kv.ModRevision))
	}
	return words
}

func TestWatchPrefix(t *testing.T) {
	ctx, _, client := start(t)
	watch := client.Watch(ctx, "w/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	created := <-watch
	require.True(t, created.Created)
	require.EqualValues(t, 1, created.Header.Revision)
	must(client.Put(ctx, "w/a", "1"))(t)
	must(client.Put(ctx, "other", "1"))(t)
	must(client.Txn(ctx).Then(clientv3.OpPut("w/b", "1"), clientv3.OpPut("w/a", "2")).Commit())(t)
	must(client.Delete(ctx, "w/", clientv3.WithPrefix()))(t)
	all := events(t, watch, 5)
	require.Equal(t, []string{"PUT w/a=1 @2", "PUT w/b=1 @4", "PUT w/a=2 @4", "DELETE w/a= @5", "DELETE w/b= @5"}, describe(all))
	require.True(t, all[0].IsCreate())
	require.Nil(t, all[0].PrevKv)
	require.True(t, all[2].IsModify())
	require.Equal(t, "1", string(all[2].PrevKv.Value))
	require.Equal(t, "2", string(all[3].PrevKv.Value))
	require.Equal(t, &mvccpb.KeyValue{Key: []byte("w/b"), ModRevision: 5}, all[4].Kv, "a deletion carries key and revision only")
}

// TestWatchPrevKvIsOfAnEarlierRevision writes and deletes keys in one revision, which only nested transactions can:
// the previous value is the one before the revision, never one of its own.
func TestWatchPrevKvIsOfAnEarlierRevision(t *testing.T) {
	ctx, _, client := start(t)
	live := client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	require.True(t, (<-live).Created)
	must(client.Put(ctx, "old", "1"))(t)
	child := func(ops ...clientv3.Op) clientv3.Op { return clientv3.OpTxn(nil, ops, nil) }
	must(client.Txn(ctx).Then(
		child(clientv3.OpPut("new", "2"), clientv3.OpPut("old", "2")),
		child(clientv3.OpDelete("new"), clientv3.OpDelete("old")),
	).Commit())(t)
	must(client.Put(ctx, "old", "3"))(t)
	past := client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithRev(2))
	for name, watch := range map[string]clientv3.WatchChan{"live": live, "past": past} {
		all := events(t, watch, 6)
		require.Equal(t, []string{
			"PUT old=1 @2", "PUT new=2 @3", "PUT old=2 @3", "DELETE new= @3", "DELETE old= @3", "PUT old=3 @4",
		}, describe(all), name)
		previous := []string{}
		for _, event := range all {
			value := ""
			if event.PrevKv != nil {
				value = string(event.PrevKv.Value)
			}
			previous = append(previous, value)
		}
		require.Equal(t, []string{"", "", "1", "", "1", ""}, previous, name)
	}
}

func TestWatchFromRevision(t *testing.T) {
	ctx, _, client := start(t)
	for i := range 8 {
		must(client.Put(ctx, "a", fmt.Sprint(i)))(t) // revisions 2 to 9
	}
	past := client.Watch(ctx, "a", clientv3.WithRev(4))
	future := client.Watch(ctx, "a", clientv3.WithRev(12))
	now := client.Watch(ctx, "a", clientv3.WithCreatedNotify())
	require.True(t, (<-now).Created)
	for i := 8; i < 12; i++ {
		must(client.Put(ctx, "a", fmt.Sprint(i)))(t) // revisions 10 to 13
	}
	require.Equal(t, "PUT a=2 @4", describe(events(t, past, 10))[0])
	require.Equal(t, []string{"PUT a=10 @12", "PUT a=11 @13"}, describe(events(t, future, 2)))
	require.Equal(t, "PUT a=8 @10", describe(events(t, now, 4))[0])
}

func TestWatchFilters(t *testing.T) {
	ctx, _, client := start(t)
	noPut := client.Watch(ctx, "a", clientv3.WithFilterPut(), clientv3.WithRev(1), clientv3.WithPrevKV())
	noDelete := client.Watch(ctx, "a", clientv3.WithFilterDelete(), clientv3.WithRev(1))
	for i := range 3 {
		must(client.Put(ctx, "a", fmt.Sprint(i)))(t)
		must(client.Delete(ctx, "a"))(t)
	}
	deleted := events(t, noPut, 3)
	require.Equal(t, []string{"DELETE a= @3", "DELETE a= @5", "DELETE a= @7"}, describe(deleted))
	require.Equal(t, "2", string(deleted[2].PrevKv.Value))
	require.Equal(t, []string{"PUT a=0 @2", "PUT a=1 @4", "PUT a=2 @6"}, describe(events(t, noDelete, 3)))
}

// TestWatchFragments reads a revision of 8 MiB through a client that takes no message near that size.
func TestWatchFragments(t *testing.T) {
	ctx, server, client := start(t, "--max-request-bytes=16777216")
	narrow := must(clientv3.New(clientv3.Config{Endpoints: []string{server.Addr}, MaxCallRecvMsgSize: 20 << 20}))(t)
	defer narrow.Close()
	ops := []clientv3.Op{}
	for i := range 32 {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("big/%02d", i), strings.Repeat("x", 256<<10)))
	}
	must(client.Txn(ctx).Then(ops...).Commit())(t)
	must(client.Txn(ctx).Then(ops...).Commit())(t)
	must(client.Txn(ctx).Then(ops...).Commit())(t)
	watch := narrow.Watch(ctx, "big/", clientv3.WithPrefix(), clientv3.WithRev(2), clientv3.WithFragment())
	seen := []string{}
	for len(seen) < 96 {
		response := <-watch
		require.NoError(t, response.Err())
		for _, event := range response.Events {
			seen = append(seen, fmt.Sprintf("%s@%d", event.Kv.Key, event.Kv.ModRevision))
		}
	}
	for i, got := range seen {
		require.Equal(t, fmt.Sprintf("big/%02d@%d", i%32, 2+i/32), got)
	}
}

func TestWatchProgress(t *testing.T) {
	ctx, _, client := start(t, "--watch-progress-notify-interval=100ms")
	quiet := client.Watch(ctx, "quiet", clientv3.WithProgressNotify())
	must(client.Put(ctx, "other", "1"))(t)
	for response := range quiet {
		require.NoError(t, response.Err())
		require.True(t, response.IsProgressNotify())
		if response.Header.Revision == 2 {
			break
		}
	}

	asked, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := client.Watch(asked, "k", clientv3.WithCreatedNotify())
	require.True(t, (<-watch).Created)
	for i := range 20 {
		must(client.Put(ctx, "k", fmt.Sprint(i)))(t)
	}
	must(client.Put(ctx, "other", "2"))(t)
	require.NoError(t, client.RequestProgress(asked))
	seen := int64(2)
	for response := range watch {
		require.NoError(t, response.Err())
		if response.IsProgressNotify() {
			require.GreaterOrEqual(t, seen, min(response.Header.Revision, 22), "events up to a progress revision come before it")
			if response.Header.Revision == 23 {
				return
			}
			require.NoError(t, client.RequestProgress(asked))
			continue
		}
		for _, event := range response.Events {
			seen = event.Kv.ModRevision
		}
	}
	t.Fatal("the watch ended")
}

// TestWatchThroughCompaction: a watch from a compacted revision is told where history begins, and a list and a watch
// from there miss nothing.
func TestWatchThroughCompaction(t *testing.T) {
	ctx, _, client := start(t)
	for i := range 9 {
		must(client.Put(ctx, fmt.Sprintf("c/%d", i%3), fmt.Sprint(i)))(t) // revisions 2 to 10
	}
	must(client.Delete(ctx, "c/0"))(t) // revision 11
	must(client.Compact(ctx, 8))(t)
	late := client.Watch(ctx, "c/", clientv3.WithPrefix(), clientv3.WithRev(5))
	response := <-late
	require.ErrorIs(t, response.Err(), rpctypes.ErrCompacted)
	require.EqualValues(t, 8, response.CompactRevision)
	_, open := <-late
	require.False(t, open)

	at := client.Watch(ctx, "c/", clientv3.WithPrefix(), clientv3.WithRev(8))
	require.Equal(t, []string{"PUT c/0=6 @8", "PUT c/1=7 @9", "PUT c/2=8 @10", "DELETE c/0= @11"}, describe(events(t, at, 4)))
	list := must(client.Get(ctx, "c/", clientv3.WithPrefix()))(t)
	require.Equal(t, []string{"c/1", "c/2"}, keys(list.Kvs))
	follow := client.Watch(ctx, "c/", clientv3.WithPrefix(), clientv3.WithRev(list.Header.Revision+1))
	must(client.Compact(ctx, list.Header.Revision, clientv3.WithCompactPhysical()))(t)
	must(client.Put(ctx, "c/9", "new"))(t)
	require.Equal(t, []string{"PUT c/9=new @12"}, describe(events(t, follow, 1)))

	// The deletion at the compacted revision itself is still there to be seen.
	must(client.Delete(ctx, "c/1"))(t) // revision 13
	must(client.Put(ctx, "d", ""))(t)
	must(client.Compact(ctx, 13, clientv3.WithCompactPhysical()))(t)
	tomb := client.Watch(ctx, "c/", clientv3.WithPrefix(), clientv3.WithRev(13))
	require.Equal(t, []string{"DELETE c/1= @13"}, describe(events(t, tomb, 1)))
}

// TestManyWatches holds 2,000 watches on one connection: each sees its own key's events and nothing else.
func TestManyWatches(t *testing.T) {
	ctx, server, client := start(t)
	const watches = 2000
	one := server.Client()
	channels := make([]clientv3.WatchChan, watches)
	for i := range channels {
		// The client opens a stream for each set of metadata: 400 streams, five watches on each.
		streamed := metadata.AppendToOutgoingContext(ctx, "stream", fmt.Sprint(i%400))
		channels[i] = one.Watch(streamed, fmt.Sprintf("many/%04d", i), clientv3.WithRev(1))
	}
	for i := 0; i < watches; i += 100 {
		ops := []clientv3.Op{}
		for j := i; j < i+100; j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("many/%04d", j), fmt.Sprint(j)))
		}
		must(client.Txn(ctx).Then(ops...).Commit())(t)
	}
	for i, watch := range channels {
		require.Equal(t, []string{fmt.Sprintf("PUT many/%04d=%d @%d", i, i, 2+i/100)}, describe(events(t, watch, 1)))
	}
	// The connection has room for other calls beside them.
	must(one.Put(ctx, "many/0000", "again"))(t)
	require.Equal(t, "again", string(events(t, channels[0], 1)[0].Kv.Value))
}

// TestManyWatchesOnOneStream holds as many on one stream.
func TestManyWatchesOnOneStream(t *testing.T) {
	ctx, _, client := start(t)
	const watches = 2000
	channels := make([]clientv3.WatchChan, watches)
	for i := range channels {
		channels[i] = client.Watch(ctx, "one/", clientv3.WithPrefix(), clientv3.WithRev(2))
	}
	for i := range 5 {
		must(client.Put(ctx, "one/key", fmt.Sprint(i)))(t)
	}
	for _, watch := range channels {
		require.Equal(t, "PUT one/key=4 @6", describe(events(t, watch, 5))[4])
	}
}
