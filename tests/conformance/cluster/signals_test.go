package cluster

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keepstone.io/conformance/harness"
)

// ask is what m answers at path to HTTP.
func ask(t *testing.T, m *member, path string) (int, string) {
	t.Helper()
	answer, err := http.Get("http://" + m.client + path)
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(body)
}

// shows waits until m's metrics have a line that begins like this.
func shows(t *testing.T, m *member, line string) {
	t.Helper()
	harness.Eventually(t, m.name+" to show "+line, func() bool {
		_, body := ask(t, m, "/metrics")
		return strings.Contains(body, "\n"+line)
	})
}

// A voter that was added and does not run: see docs/operations.md.
func TestAPendingPromotionIsShownUntilTheMemberVotes(t *testing.T) {
	all := three(t, harness.UnderTest(t))
	joiner := newMember(t, all[0].bin, "d")
	joiner.flags = []string{"--join=http://" + all[1].peer}
	var line string
	harness.Eventually(t, "the members to be healthy for long enough", func() bool {
		added, err := all[0].connect().MemberAdd(within(t), []string{"http://" + joiner.peer})
		if err != nil {
			require.ErrorIs(t, err, rpctypes.ErrUnhealthy)
			return false
		}
		line = fmt.Sprintf("[+]pending_promotion ok: no vote yet: %x\n", added.Member.ID)
		return true
	})
	for _, m := range all {
		shows(t, m, "keepstone_cluster_pending_promotions 1\n")
		code, body := ask(t, m, "/readyz?verbose")
		require.Equal(t, 200, code, body)
		require.Contains(t, body, line)
		code, body = ask(t, m, "/readyz")
		require.Equal(t, "200 ok\n", fmt.Sprint(code, " ", body))
		code, _ = ask(t, m, "/readyz/pending_promotion")
		require.Equal(t, 503, code)
	}
	joiner.start()
	joiner.ready()
	for _, m := range append(all, joiner) {
		shows(t, m, "keepstone_cluster_pending_promotions 0\n")
		code, body := ask(t, m, "/readyz?verbose")
		require.Equal(t, 200, code, body)
		require.NotContains(t, body, "pending")
		code, _ = ask(t, m, "/readyz/pending_promotion")
		require.Equal(t, 200, code)
	}
}

// families are those of members and snapshots that m shows: names, types, names of labels, bounds of buckets.
func families(t *testing.T, m *member) []string {
	t.Helper()
	name := regexp.MustCompile(`^etcd_(network_(peer|active|disconnected|known|snapshot)|snap_db|server_snapshot)_?\w*`)
	labels := regexp.MustCompile(`(\w+)="([^"]*)"`)
	_, body := ask(t, m, "/metrics")
	var shown []string
	for _, line := range strings.Split(body, "\n") {
		if kind, ok := strings.CutPrefix(line, "# TYPE "); ok && name.MatchString(kind) {
			shown = append(shown, kind)
		}
		if !name.MatchString(line) {
			continue
		}
		row := name.FindString(line)
		for _, label := range labels.FindAllStringSubmatch(line, -1) {
			row += " " + label[1]
			if label[1] == "le" {
				row += "=" + label[2]
			}
		}
		shown = append(shown, row)
	}
	return shown
}

// sendsASnapshot are three members, one of which was away for long, and is back by a snapshot of the leader's.
func sendsASnapshot(t *testing.T, bin string) (lead, last *member) {
	t.Helper()
	all := three(t, bin, shortLog...)
	lead, others := leader(t, all)
	last = others[0]
	status, err := last.connect().Status(within(t), last.client)
	require.NoError(t, err)
	who := fmt.Sprintf("%x", status.Header.MemberId)
	shows(t, lead, fmt.Sprintf(`etcd_network_active_peers{Local="%x",Remote="%s"} 1`, status.Leader, who))
	last.end(syscall.SIGKILL)
	shows(t, lead, fmt.Sprintf(`etcd_network_active_peers{Local="%x",Remote="%s"} 0`, status.Leader, who))
	shows(t, lead, fmt.Sprintf(`etcd_network_disconnected_peers_total{Local="%x",Remote="%s"} `, status.Leader, who))
	shows(t, lead, fmt.Sprintf(`etcd_network_peer_sent_failures_total{To="%s"} `, who))
	fill(t, lead, "while-away", 300, value)
	purge(t, lead)
	// etcd says so only to whoever debugs it.
	if bin == harness.UnderTest(t) {
		harness.Eventually(t, "the log to go", func() bool { return purged(lead) > status.RaftIndex })
	}
	last.start()
	last.ready()
	harness.Eventually(t, "a snapshot", func() bool { return bySnapshot(last) })
	shows(t, lead, fmt.Sprintf(`etcd_network_snapshot_send_success{To="%s"} 1`, who))
	shows(t, lead, fmt.Sprintf(`etcd_network_snapshot_send_inflights_total{To="%s"} 0`, who))
	shows(t, last, fmt.Sprintf(`etcd_network_snapshot_receive_success{From="%x"} 1`, status.Leader))
	shows(t, lead, fmt.Sprintf(`etcd_network_active_peers{Local="%x",Remote="%s"} 1`, status.Leader, who))
	shows(t, lead, fmt.Sprintf(`etcd_network_peer_round_trip_time_seconds_bucket{To="%s"`, who))
	shows(t, others[1], fmt.Sprintf(`etcd_network_peer_round_trip_time_seconds_bucket{To="%s"`, who))
	for _, way := range []string{"sent_bytes_total{To", "received_bytes_total{From"} {
		shows(t, lead, fmt.Sprintf(`etcd_network_peer_%s="%s"} `, way, who))
	}
	return lead, last
}

func TestMetricsOfPeersAndSnapshotsAreEtcds(t *testing.T) {
	lead, last := sendsASnapshot(t, harness.Etcd(t))
	wanted := append(families(t, lead), families(t, last)...)
	require.Contains(t, wanted, "etcd_network_snapshot_send_success To")
	lead, last = sendsASnapshot(t, harness.UnderTest(t))
	shown := append(families(t, lead), families(t, last)...)
	for _, row := range wanted {
		require.True(t, slices.Contains(shown, row), "%s is not in\n%s", row, strings.Join(shown, "\n"))
	}
}
