package conformance

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"keepstone.io/conformance/harness"
)

// TestGateway sends the same JSON to a real etcd and to the server under test. Status and body must be the same JSON,
// down to which fields are there; only who answered, and in which term, is left out.
func TestGateway(t *testing.T) {
	t.Parallel()
	reference, subject := harness.Pair(t)
	for _, c := range []struct{ path, body string }{
		{"/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`},
		{"/v3/kv/put", `{"key":"Zm9v","value":"YmF6","prev_kv":true}`},
		{"/v3/kv/put", `{"key":"Zm9v","value":"YmF6","prevKv":true}`},
		{"/v3/kv/put", `{"key":"Zm9w"}`},
		{"/v3/kv/range", `{"key":"Zm9v"}`},
		{"/v3/kv/range", `{"key":"Zm8=","range_end":"Zm8w"}`},
		{"/v3/kv/range", `{"key":"AA==","range_end":"AA==","sort_order":"DESCEND","sort_target":"MOD","limit":"1"}`},
		{"/v3/kv/range", `{"key":"AA==","rangeEnd":"AA==","sortOrder":2,"limit":1}`},
		{"/v3/kv/range", `{"key":"AA==","range_end":"AA==","count_only":true}`},
		{"/v3/kv/range", `{"key":"AA==","range_end":"AA==","keys_only":true,"serializable":true}`},
		{"/v3/kv/range", `{"key":"bm90aGluZw=="}`},
		{"/v3/kv/range", `{"key":"Zm9v","revision":"2"}`},
		{"/v3/kv/range", `{"key":"Zm9v","revision":"99"}`},
		{"/v3/kv/range", `{"key":"Zm9v","not_a_field":1}`},
		{"/v3/kv/range", `{}`},
		{"/v3/kv/txn", `{"compare":[{"result":"EQUAL","target":"VERSION","key":"Zm9v","version":"3"}],
			"success":[{"request_put":{"key":"Zm9v","value":"dHhu"}},{"request_range":{"key":"Zm9v"}},{"requestTxn":{"success":[{"requestDeleteRange":{"key":"Zm9w"}}]}}],
			"failure":[{"request_range":{"key":"Zm9v"}}]}`},
		{"/v3/kv/txn", `{"compare":[{"target":"VALUE","key":"Zm9v","value":"bm8="}],"failure":[{"request_range":{"key":"Zm9v"}}]}`},
		{"/v3/kv/txn", `{"success":[{"request_put":{"key":"Zm9v"}},{"request_put":{"key":"Zm9v"}}]}`},
		{"/v3/kv/txn", `{"success":[{}]}`},
		{"/v3/kv/deleterange", `{"key":"Zm8=","range_end":"Zm8w","prev_kv":true}`},
		{"/v3/kv/deleterange", `{"key":"Zm8="}`},
		{"/v3/kv/compaction", `{"revision":"3","physical":true}`},
		{"/v3/kv/compaction", `{"revision":"3"}`},
		{"/v3/lease/grant", `{"TTL":"600","ID":"77"}`},
		{"/v3/lease/grant", `{"TTL":600,"ID":77}`},
		{"/v3/kv/put", `{"key":"bGVhc2Vk","lease":"77"}`},
		{"/v3/kv/put", `{"key":"bGVhc2Vk","lease":"78"}`},
		{"/v3/lease/leases", `{}`},
		{"/v3/kv/lease/leases", `{}`},
		{"/v3/lease/timetolive", `{"ID":"78","keys":true}`},
		{"/v3/kv/lease/timetolive", `{"ID":"78"}`},
		{"/v3/lease/keepalive", `{"ID":"77"}`},
		{"/v3/lease/keepalive", `{"ID":"78"}`},
		{"/v3/lease/keepalive", `{"ID":"77"}{"ID":"78"}`},
		{"/v3/lease/revoke", `{"ID":"77"}`},
		{"/v3/kv/lease/revoke", `{"ID":"77"}`},
		{"/v3/cluster/member/list", `{"linearizable":"no"}`},
		{"/v3/maintenance/alarm", `{"action":"GET"}`},
		{"/v3/maintenance/hashkv", `{}`},
		{"/v3/maintenance/defragment", `{}`},
		{"/v3/auth/status", `{}`},
		{"/v3/election/leader", `{"name":"Ym9zcw=="}`},
		{"/v3/election/proclaim", `{"value":"eA=="}`},
		{"/v3beta/kv/range", `{"key":"Zm9v"}`},
		{"/v3/nothing", `{}`},
		{"/v3/kv/range", `{"key":`},
		{"/v3/kv/range", `{"key":"not base64!"}`},
		{"/v3/kv/range", `{"key":7}`},
		{"/v3/kv/range", `[]`},
		{"/v3/kv/range", `{"key":"Zm9v","limit":"many"}`},
		{"/v3/kv/range", ``},
	} {
		var answers [2]string
		var codes [2]int
		for i, server := range []*harness.Server{reference, subject} {
			code, body, header := fetch(t, "POST", server.URL()+c.path, c.body)
			codes[i] = code
			answers[i] = header.Get("Content-Type") + "\n" + anonymous(body)
		}
		require.Equal(t, codes[0], codes[1], "%s %s\n%s\n%s", c.path, c.body, answers[0], answers[1])
		if codes[0] == 400 && strings.Contains(answers[0], "proto:") {
			// What a JSON library says about bad JSON is its own; that it is refused, and how, is not.
			answers[0], answers[1] = errorCode(t, answers[0]), errorCode(t, answers[1])
		}
		require.Equal(t, answers[0], answers[1], "%s %s", c.path, c.body)
	}
	for i, server := range []*harness.Server{reference, subject} {
		code, _, _ := fetch(t, "GET", server.URL()+"/v3/kv/range", "")
		require.Equal(t, http.StatusNotImplemented, code, "server %d", i)
	}
}

// anonymous is the JSON, or the stream of JSON, with its keys sorted and the servers' names taken out.
func anonymous(body string) string {
	var out strings.Builder
	decoder := json.NewDecoder(strings.NewReader(body))
	for {
		var value map[string]any
		err := decoder.Decode(&value)
		if err == io.EOF {
			return out.String()
		}
		if err != nil {
			return out.String() + body
		}
		strip(value)
		text, _ := json.Marshal(value)
		out.Write(append(text, '\n'))
	}
}

func strip(value map[string]any) {
	if header, found := value["header"].(map[string]any); found {
		for _, name := range []string{"cluster_id", "member_id", "raft_term"} {
			if _, found := header[name].(string); found {
				header[name] = "some"
			}
		}
	}
	for _, inner := range value {
		if inner, found := inner.(map[string]any); found {
			strip(inner)
		}
	}
}

func errorCode(t *testing.T, answer string) string {
	t.Helper()
	kind, body, _ := strings.Cut(answer, "\n")
	var value struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &value), body)
	require.NotEmpty(t, value.Message)
	text := must(json.Marshal(value.Code))(t)
	return kind + string(text)
}

// TestGatewayWatch follows a key over plain HTTP: one JSON object a line, as it happens.
func TestGatewayWatch(t *testing.T) {
	ctx, server, client := start(t)
	create := strings.NewReader(`{"create_request":{"key":"Zm9v","prev_kv":true}}`)
	request := must(http.NewRequestWithContext(ctx, "POST", server.URL()+"/v3/watch", create))(t)
	response := must(http.DefaultClient.Do(request))(t)
	defer response.Body.Close()
	require.Equal(t, 200, response.StatusCode)
	lines := bufio.NewReader(response.Body)
	type event struct {
		Type string
		Kv   struct {
			Key, Value, Lease string
			ModRevision       string `json:"mod_revision"`
		}
		PrevKv *struct{ Value string } `json:"prev_kv"`
	}
	type message struct {
		Result struct {
			Header  struct{ Revision string }
			WatchID string `json:"watch_id"`
			Created bool
			Events  []event
		}
	}
	next := func() message {
		t.Helper()
		line := must(lines.ReadBytes('\n'))(t)
		var m message
		require.NoError(t, json.NewDecoder(bytes.NewReader(line)).Decode(&m), string(line))
		return m
	}
	require.True(t, next().Result.Created)
	must(client.Put(ctx, "foo", "bar"))(t)
	got := next().Result
	require.Equal(t, "2", got.Header.Revision)
	require.Empty(t, got.Events[0].Type, "PUT is the default and left out")
	require.Equal(t, "YmFy", got.Events[0].Kv.Value)
	must(client.Delete(ctx, "foo"))(t)
	got = next().Result
	require.Equal(t, "DELETE", got.Events[0].Type)
	require.Equal(t, "YmFy", got.Events[0].PrevKv.Value)
	require.Equal(t, "3", got.Events[0].Kv.ModRevision)
}
