package tls

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"keepstone.io/conformance/harness"
)

const connections = 100

// live is a client with one connection, a watch, and a count of the connections it made.
type live struct {
	client *clientv3.Client
	events clientv3.WatchChan
	dials  *atomic.Int32
}

func connect(ctx context.Context, t *testing.T, server *harness.Server, config *tls.Config, key string) live {
	dials := &atomic.Int32{}
	dial := grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, "tcp", server.Addr)
	})
	client := server.ClientWith(config, dial)
	return live{client, client.Watch(ctx, key, clientv3.WithCreatedNotify()), dials}
}

// TestReloadUnderConnections changes every file that there is while a hundred clients are connected. Each of them goes
// on over the connection it has; who connects anew meets what the files say now.
func TestReloadUnderConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	crl := w.files.Put("crl", w.ca.Revoke())
	server := w.start(t, "--client-crl-file="+crl)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	clients := make([]live, connections)
	var all sync.WaitGroup
	for i := range clients {
		all.Add(1)
		go func() {
			defer all.Done()
			clients[i] = connect(ctx, t, server, w.config(t), "k"+strconv.Itoa(i))
			<-clients[i].events
		}()
	}
	all.Wait()
	round := 0
	allGoOn := func(after string) {
		t.Helper()
		round++
		var failed atomic.Pointer[string]
		for i := range clients {
			all.Add(1)
			go func() {
				defer all.Done()
				value := strconv.Itoa(round)
				if _, err := clients[i].client.Put(harness.Context(t), "k"+strconv.Itoa(i), value); err != nil {
					text := err.Error()
					failed.Store(&text)
					return
				}
				if seen := <-clients[i].events; seen.Err() != nil || string(seen.Events[0].Kv.Value) != value {
					text := "a watch lost its place"
					failed.Store(&text)
				}
			}()
		}
		all.Wait()
		require.Nil(t, failed.Load(), after)
		for i := range clients {
			require.EqualValues(t, 1, clients[i].dials.Load(), "%s: client %d had to connect again", after, i)
		}
	}
	allGoOn("the start")

	letIn := func(config *tls.Config) bool {
		answer := greet(t, server, config)
		return len(answer) > 6 && answer[:6] == "let in"
	}
	// The server's certificate, renewed by another CA.
	renewed := harness.NewAuthority(t, "renewed")
	believes := harness.ClientTLS(t, &w.client, renewed)
	require.False(t, letIn(believes))
	w.files.Pair("server", renewed.Issue(harness.Subject{CN: "server", Names: []string{"localhost", "127.0.0.1"}}))
	harness.Eventually(t, "the new certificate shown", func() bool { return letIn(believes) })
	allGoOn("a new server certificate")

	// The CA of clients: first both, then the new one alone.
	next := harness.NewAuthority(t, "next")
	issued := next.Issue(harness.Subject{CN: "next", Serial: 77})
	ofNext := harness.ClientTLS(t, &issued, renewed)
	require.False(t, letIn(ofNext))
	w.files.Put("ca.crt", w.ca.PEM, next.PEM)
	harness.Eventually(t, "the new CA trusted", func() bool { return letIn(ofNext) })
	require.True(t, letIn(believes), "the old CA is still trusted")
	allGoOn("a CA more")
	w.files.Put("ca.crt", next.PEM)
	harness.Eventually(t, "the old CA no longer trusted", func() bool { return !letIn(believes) })
	require.True(t, letIn(ofNext))
	allGoOn("a CA less")

	// The revocation list.
	w.files.Put("crl", w.ca.Revoke(77))
	harness.Eventually(t, "the certificate revoked", func() bool { return !letIn(ofNext) })
	allGoOn("a revoked certificate")

	// What can't be used changes nothing.
	w.files.Put("crl", w.ca.Revoke())
	harness.Eventually(t, "the certificate no longer revoked", func() bool { return letIn(ofNext) })
	w.files.Put("ca.crt", []byte("junk"))
	logs(t, server, "TLS files changed and can't be used; going on with those before")
	require.True(t, letIn(ofNext))
	allGoOn("a broken file")
}
