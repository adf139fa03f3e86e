// Package failpoints has members die, wait and fail at chosen places, over gofail's protocol, and looks at what they keep.
package failpoints

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keepstone.io/conformance/harness"
)

// exitCode is what a member ends with that was told to panic, as a Go program does.
const exitCode = 2

// member is one that can be told to fail.
type member struct {
	*harness.Server
	points string
	t      *testing.T
}

func start(t *testing.T, options ...harness.Option) *member {
	t.Helper()
	points := harness.FreeAddr(t)
	options = append(options, harness.Env("GOFAIL_HTTP="+points))
	return &member{Server: harness.Start(t, harness.UnderTest(t), options...), points: points, t: t}
}

// ask does a request to the fail points.
func (m *member) ask(method, path, body string) (int, string) {
	m.t.Helper()
	request, err := http.NewRequestWithContext(harness.Context(m.t), method, "http://"+m.points+"/"+path, strings.NewReader(body))
	require.NoError(m.t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(m.t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	require.NoError(m.t, err)
	return response.StatusCode, string(answer)
}

func (m *member) arm(point, terms string) {
	m.t.Helper()
	status, answer := m.ask(http.MethodPut, point, terms)
	require.Equal(m.t, http.StatusNoContent, status, answer)
}

func (m *member) names() (names []string) {
	m.t.Helper()
	status, answer := m.ask(http.MethodGet, "", "")
	require.Equal(m.t, http.StatusOK, status)
	for _, line := range strings.Split(strings.TrimSpace(answer), "\n") {
		name, _, found := strings.Cut(line, "=")
		require.True(m.t, found, line)
		names = append(names, name)
	}
	return names
}

// TestProtocol is gofail's: lists, arms, counts and disarms.
func TestProtocol(t *testing.T) {
	m := start(t)
	require.True(t, slices.IsSorted(m.names()))
	require.Contains(t, m.names(), "raftBeforeSave")
	m.arm("raftBeforeSave", `2*sleep("1ms")->off`)
	_, list := m.ask(http.MethodGet, "", "")
	require.Contains(t, list, "\nraftBeforeSave=2*sleep(\"1ms\")->off\n")
	client := m.Client()
	for range 5 {
		_, err := client.Put(harness.Context(t), "a", "b")
		require.NoError(t, err)
	}
	_, terms := m.ask(http.MethodGet, "raftBeforeSave", "")
	require.Equal(t, "2*sleep(\"1ms\")->off\n", terms)
	_, count := m.ask(http.MethodGet, "raftBeforeSave/count", "")
	require.NotContains(t, []string{"0", "1", "2", "3", "4"}, count)
	status, _ := m.ask(http.MethodDelete, "raftBeforeSave", "")
	require.Equal(t, http.StatusNoContent, status)
	for _, refused := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{http.MethodDelete, "raftBeforeSave", "", http.StatusBadRequest, "failed to delete failpoint failpoint: failpoint is disabled\n"},
		{http.MethodPut, "nowhere", "panic", http.StatusBadRequest, "fail to set failpoint: failpoint: failpoint does not exist\n"},
		{http.MethodPut, "raftBeforeSave", "panc", http.StatusBadRequest, "fail to set failpoint: failpoint: could not parse terms\n"},
		{http.MethodGet, "nowhere/count", "", http.StatusNotFound, "failed to GET: failpoint: failpoint does not exist\n"},
	} {
		status, text := m.ask(refused.method, refused.path, refused.body)
		require.Equal(t, refused.status, status)
		require.Equal(t, refused.text, text)
	}
}

// TestNobodyListensUnasked: without the environment there is no endpoint, and no word of one.
func TestNobodyListensUnasked(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t))
	require.NotContains(t, server.Log(), "fail point")
	asked := start(t)
	require.Contains(t, asked.Log(), "fail points are on")
	asked.Kill()
	require.Equal(t, 1, asked.RestartToDie("GOFAIL_FAILPOINTS=raftBeforeSave"), "a list that can't be read")
}

// TestSleep: what is to be saved waits, and what came before it is there meanwhile.
func TestSleep(t *testing.T) {
	m := start(t)
	client := m.Client()
	ctx := harness.Context(t)
	_, err := client.Put(ctx, "before", "")
	require.NoError(t, err)
	m.arm("raftBeforeSave", `1*sleep("300ms")`)
	began := time.Now()
	_, err = client.Put(ctx, "after", "")
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
	_, count := m.ask(http.MethodGet, "raftBeforeSave/count", "")
	require.Equal(t, "1", count)
}

// TestAFailedSyncIsFinal: a sync that fails acknowledges nothing and ends the member.
func TestAFailedSyncIsFinal(t *testing.T) {
	t.Parallel()
	for point, terms := range map[string]string{"walBeforeSync": `return("the disk is gone")`, "beforeCommit": `return("the disk is gone")`} {
		t.Run(point, func(t *testing.T) {
			m := start(t)
			load := newLoad(m)
			load.begin()
			load.enough()
			m.arm(point, terms)
			if point == "beforeCommit" {
				defragment(t, m, load)
			}
			require.Equal(t, 1, m.Ended())
			require.Contains(t, m.Log(), "the disk is gone")
			load.end()
			m.Restart()
			load.check()
		})
	}
}

// load is some clients that put, and all that was acknowledged to them.
type load struct {
	m       *member
	clients []*clientv3.Client
	over    context.CancelFunc
	running sync.WaitGroup
	value   string

	lock     sync.Mutex
	acked    map[string]int64
	last     int64
	some     chan struct{}
	attempts int
}

const writers = 4

func newLoad(m *member) *load {
	l := &load{m: m, acked: map[string]int64{}, value: "value"}
	for range writers {
		l.clients = append(l.clients, m.Client())
	}
	return l
}

// begin has every client put until it is over, whatever becomes of its puts.
func (l *load) begin() {
	ctx, over := context.WithTimeout(context.Background(), harness.Patience)
	l.over = over
	l.some = make(chan struct{}, 1<<20)
	l.attempts++
	for w, client := range l.clients {
		l.running.Add(1)
		go func() {
			defer l.running.Done()
			for n := 0; ; n++ {
				key := fmt.Sprintf("load/%d/%d/%d", w, l.attempts, n%100)
				answer, err := client.Put(ctx, key, l.value)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					// The member is dead, or the client has not noticed yet that it is back.
					time.Sleep(time.Millisecond)
					continue
				}
				l.lock.Lock()
				l.acked[key] = answer.Header.Revision
				l.last = max(l.last, answer.Header.Revision)
				l.lock.Unlock()
				l.some <- struct{}{}
			}
		}()
	}
}

// enough waits until a few puts were acknowledged.
func (l *load) enough() {
	l.m.t.Helper()
	for range 5 * writers {
		select {
		case <-l.some:
		case <-time.After(harness.Patience):
			l.m.t.Fatal("nothing is acknowledged")
		}
	}
}

// end has the clients stop.
func (l *load) end() {
	l.over()
	l.running.Wait()
}

// check looks that all that was acknowledged is there, and that revisions go on after it.
func (l *load) check() {
	t := l.m.t
	t.Helper()
	ctx := harness.Context(t)
	all, err := l.clients[0].Get(ctx, "load/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	require.NoError(t, err)
	found := map[string]int64{}
	for _, kv := range all.Kvs {
		found[string(kv.Key)] = kv.ModRevision
	}
	for key, revision := range l.acked {
		// A put that nobody was told of may have come after it.
		require.GreaterOrEqual(t, found[key], revision, key)
	}
	require.GreaterOrEqual(t, all.Header.Revision, l.last)
	next, err := l.clients[0].Put(ctx, "next", "")
	require.NoError(t, err)
	require.Equal(t, all.Header.Revision+1, next.Header.Revision)
}
