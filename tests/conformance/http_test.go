package conformance

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"

	"keepstone.io/conformance/harness"
)

// fetch makes one HTTP request and returns status and body.
func fetch(t *testing.T, method, url, body string) (int, string, http.Header) {
	t.Helper()
	request := must(http.NewRequestWithContext(harness.Context(t), method, url, strings.NewReader(body)))(t)
	response := must(http.DefaultClient.Do(request))(t)
	defer response.Body.Close()
	return response.StatusCode, string(must(io.ReadAll(response.Body))(t)), response.Header
}

func TestHealthEndpoints(t *testing.T) {
	ctx, server, client := start(t)
	type want struct {
		code int
		body string
	}
	check := func(cases map[string]want) {
		t.Helper()
		for path, w := range cases {
			code, body, _ := fetch(t, "GET", server.URL()+path, "")
			require.Equal(t, w, want{code, body}, path)
		}
	}
	check(map[string]want{
		"/health":                           {200, `{"health":"true","reason":""}`},
		"/health?serializable=true":         {200, `{"health":"true","reason":""}`},
		"/livez":                            {200, "ok\n"},
		"/livez?verbose":                    {200, "[+]serializable_read ok\nok\n"},
		"/livez/serializable_read":          {200, "ok\n"},
		"/readyz":                           {200, "ok\n"},
		"/readyz/linearizable_read":         {200, "ok\n"},
		"/readyz/data_corruption":           {200, "ok\n"},
		"/readyz/non_learner":               {200, "ok\n"},
		"/readyz?exclude=data_corruption":   {200, "ok\n"},
		"/readyz?exclude=something_unknown": {200, "ok\n"},
	})
	_, body, _ := fetch(t, "GET", server.URL()+"/readyz?verbose", "")
	lines := strings.Split(strings.TrimSpace(body), "\n")
	require.ElementsMatch(t, []string{"[+]serializable_read ok", "[+]linearizable_read ok", "[+]data_corruption ok", "[+]non_learner ok", "ok"}, lines)
	code, _, header := fetch(t, "POST", server.URL()+"/health", "")
	require.Equal(t, 405, code)
	require.Equal(t, "GET", header.Get("Allow"))
	code, _, _ = fetch(t, "GET", server.URL()+"/nothing/here", "")
	require.Equal(t, 404, code)

	member := must(client.MemberList(ctx))(t).Members[0].ID
	alarm := func(action pb.AlarmRequest_AlarmAction, kind pb.AlarmType) {
		t.Helper()
		must(pb.NewMaintenanceClient(server.Conn()).Alarm(ctx, &pb.AlarmRequest{Action: action, MemberID: member, Alarm: kind}))(t)
	}
	alarm(pb.AlarmRequest_ACTIVATE, pb.AlarmType_NOSPACE)
	check(map[string]want{
		"/health":                 {503, `{"health":"false","reason":"ALARM NOSPACE"}` + "\n"},
		"/health?exclude=NOSPACE": {200, `{"health":"true","reason":""}`},
		"/readyz":                 {200, "ok\n"},
		"/livez":                  {200, "ok\n"},
	})
	alarm(pb.AlarmRequest_DEACTIVATE, pb.AlarmType_NOSPACE)
	alarm(pb.AlarmRequest_ACTIVATE, pb.AlarmType_CORRUPT)
	_, err := client.Put(ctx, "a", "")
	require.EqualError(t, err, "etcdserver: corrupt cluster")
	code, body, _ = fetch(t, "GET", server.URL()+"/readyz/data_corruption", "")
	require.Equal(t, 503, code)
	require.Contains(t, body, "[-]data_corruption failed: alarm activated: CORRUPT")
	check(map[string]want{"/health": {503, `{"health":"false","reason":"ALARM CORRUPT"}` + "\n"}})
	alarm(pb.AlarmRequest_DEACTIVATE, pb.AlarmType_CORRUPT)
	check(map[string]want{"/health": {200, `{"health":"true","reason":""}`}})
}

func TestHTTPEndpoints(t *testing.T) {
	ctx, server, client := start(t)
	must(client.Put(ctx, "a", ""))(t)
	code, body, header := fetch(t, "GET", server.URL()+"/version", "")
	require.Equal(t, 200, code)
	require.Equal(t, "application/json", header.Get("Content-Type"))
	version := map[string]string{}
	require.NoError(t, json.Unmarshal([]byte(body), &version))
	require.Regexp(t, `^3\.6\.\d+$`, version["etcdserver"])
	require.Equal(t, "3.6.0", version["etcdcluster"])
	require.Equal(t, "3.6.0", version["storage"])

	code, body, _ = fetch(t, "GET", server.URL()+"/metrics", "")
	require.Equal(t, 200, code)
	for _, line := range []string{
		"etcd_server_has_leader 1", "etcd_server_is_leader 1", "etcd_mvcc_put_total 1", "etcd_debugging_mvcc_current_revision 2",
		"# TYPE etcd_disk_wal_fsync_duration_seconds histogram", "# TYPE etcd_mvcc_db_total_size_in_bytes gauge",
		"# TYPE etcd_server_proposals_committed_total gauge", "# TYPE process_resident_memory_bytes gauge",
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
	} {
		require.Contains(t, body, "\n"+line+"\n")
	}
	require.Contains(t, body, `etcd_server_version{server_version="`+version["etcdserver"]+`"} 1`)

	code, body, _ = fetch(t, "GET", server.URL()+"/debug/vars", "")
	require.Equal(t, 200, code)
	require.True(t, json.Valid([]byte(body)))
	require.Contains(t, body, `"cmdline"`)
}

func TestMetricsListener(t *testing.T) {
	addr := harness.FreeAddr(t)
	start(t, "--listen-metrics-urls=http://"+addr)
	for _, path := range []string{"/metrics", "/health", "/livez", "/readyz"} {
		code, body, _ := fetch(t, "GET", "http://"+addr+path, "")
		require.Equal(t, 200, code, path)
		require.NotEmpty(t, body, path)
	}
}

func TestGRPCHealth(t *testing.T) {
	ctx, server, _ := start(t)
	health := grpc_health_v1.NewHealthClient(server.Conn())
	response := must(health.Check(ctx, &grpc_health_v1.HealthCheckRequest{}))(t)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, response.Status)
	_, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "none.Such"})
	refused(t, err, codes.NotFound, "unknown service")
	watch := must(health.Watch(ctx, &grpc_health_v1.HealthCheckRequest{}))(t)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, must(watch.Recv())(t).Status)
}

func TestStatus(t *testing.T) {
	ctx, server, client := start(t)
	must(client.Put(ctx, "a", "1"))(t)
	s := must(client.Status(ctx, server.Addr))(t)
	require.Regexp(t, `^3\.6\.\d+$`, s.Version)
	require.Equal(t, "3.6.0", s.StorageVersion)
	require.Equal(t, s.Header.MemberId, s.Leader)
	require.EqualValues(t, 2, s.Header.Revision)
	require.GreaterOrEqual(t, s.RaftIndex, s.RaftAppliedIndex)
	require.Positive(t, s.RaftAppliedIndex)
	require.Positive(t, s.RaftTerm)
	require.Positive(t, s.DbSize)
	require.LessOrEqual(t, s.DbSizeInUse, s.DbSize)
	require.EqualValues(t, 2<<30, s.DbSizeQuota)
	require.False(t, s.IsLearner)
	require.Empty(t, s.Errors)
	require.NotNil(t, s.DowngradeInfo)
	members := must(client.MemberList(ctx))(t)
	require.Len(t, members.Members, 1)
	m := members.Members[0]
	require.Equal(t, "default", m.Name)
	require.Equal(t, s.Header.MemberId, m.ID)
	require.Equal(t, []string{server.URL()}, m.ClientURLs)
	require.Equal(t, []string{server.PeerURL()}, m.PeerURLs)
	require.Zero(t, members.Header.Revision, "the cluster service has no revision")
}
