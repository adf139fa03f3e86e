package conformance

import (
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keepstone.io/conformance/harness"
)

// counted is the sum of a family's samples; what is in braces in rows has to be in each.
func counted(t *testing.T, server *harness.Server, rows string) (sum float64) {
	t.Helper()
	name, labels, _ := strings.Cut(rows, "{")
	_, body, _ := fetch(t, "GET", server.URL()+"/metrics", "")
	for _, line := range strings.Split(body, "\n") {
		row, value, _ := strings.Cut(line, " ")
		family, has, _ := strings.Cut(row, "{")
		if family == name && strings.Contains(has, strings.TrimSuffix(labels, "}")) {
			sum += must(strconv.ParseFloat(value, 64))(t)
		}
	}
	return sum
}

// TestMetricsCount has everything happen once that dashboards look at: what etcd counts then, keepstone does.
func TestMetricsCount(t *testing.T) {
	t.Parallel()
	reference, subject := harness.Pair(t)
	for _, server := range []*harness.Server{reference, subject} {
		ctx, client := harness.Context(t), server.Client()
		watch := client.Watch(ctx, "a")
		put := must(client.Put(ctx, "a", strings.Repeat("x", 1000)))(t)
		event := <-watch
		require.Len(t, event.Events, 1)
		must(client.Get(ctx, "a"))(t)
		must(client.Txn(ctx).Then(clientv3.OpPut("b", ""), clientv3.OpPut("c", "")).Commit())(t)
		must(client.Delete(ctx, "c"))(t)
		must(client.Grant(ctx, 600))(t)
		must(client.HashKV(ctx, server.Addr, 0))(t)
		must(pb.NewMaintenanceClient(server.Conn()).Hash(ctx, &pb.HashRequest{}))(t)
		must(client.Compact(ctx, put.Header.Revision, clientv3.WithCompactPhysical()))(t)
		must(client.Defragment(ctx, server.Addr))(t)
		snapshot := must(client.Snapshot(ctx))(t)
		must(io.Copy(io.Discard, snapshot))(t)
		for _, rows := range []string{
			`etcd_server_apply_duration_seconds_count{op="Put",success="true",version="v3"}`,
			`etcd_server_apply_duration_seconds_count{op="Txn",success="true",version="v3"}`,
			`etcd_server_apply_duration_seconds_count{op="DeleteRange",success="true",version="v3"}`,
			`etcd_server_apply_duration_seconds_count{op="LeaseGrant",success="true",version="v3"}`,
			`etcd_server_apply_duration_seconds_count{op="Compaction",success="true",version="v3"}`,
			`etcd_server_range_duration_seconds_count{success="true"}`,
			`etcd_server_client_requests_total{client_api_version="3.`,
			`etcd_server_client_requests_total{type="stream"}`,
			"etcd_debugging_mvcc_events_total",
			"etcd_debugging_mvcc_db_compaction_last",
			"etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count",
			"etcd_mvcc_hash_duration_seconds_count",
			"etcd_mvcc_hash_rev_duration_seconds_count",
			"etcd_mvcc_txn_total",
			"etcd_disk_backend_defrag_duration_seconds_count",
			"etcd_disk_backend_snapshot_duration_seconds_count",
		} {
			harness.Eventually(t, server.Bin()+" to count in "+rows, func() bool { return counted(t, server, rows) > 0 })
		}
		for _, way := range []string{"received", "sent"} {
			require.Greater(t, counted(t, server, "etcd_network_client_grpc_"+way+"_bytes_total"), 1000.0, way)
		}
	}
}
