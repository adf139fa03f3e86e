use std::collections::BTreeMap;

use tonic::Code;

use super::*;

/// Name and type of every family that etcd 3.6.16 shows when it runs alone.
const ETCD: &str = include_str!("etcd-families.txt");

fn types(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    pairs.filter_map(|line| line.split_once(' ')).map(|(n, t)| (n.to_owned(), t.to_owned())).collect()
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
}

/// A member on which everything has happened once that etcd's list has a labelled family for.
fn used(options: Options) -> Arc<Metrics> {
    let metrics = Metrics::new(options);
    metrics.observe(|o| {
        o.member_id = 0x0628_170c_800d_bcee;
        o.cluster_version = Some("3.6.0".into());
        o.members = vec![o.member_id];
        o.quota = 2_147_483_648;
        o.compact_revision = -1;
        o.pending_promotions = 2;
        o.features = vec![Feature { name: "LeaseCheckpoint", stage: "ALPHA", enabled: false }];
    });
    metrics.server.range_took(true, 0.00015);
    metrics.server.apply.observe("Put", true, 0.1);
    metrics.health.checked("livez", "serializable_read", true);
    metrics.clients.count(false, None);
    metrics
}

#[test]
fn every_family_of_etcd_is_there_with_its_type() {
    let shown = types(&used(Options { foreign: true, extensive: true, ..Options::default() }).render());
    let mut wanted = ETCD.lines().map(|line| line.split_once(' ').expect("name and type"));
    let wrong: Vec<_> =
        wanted.by_ref().filter(|(name, kind)| shown.get(*name).map(String::as_str) != Some(kind)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(shown.contains_key("grpc_server_handling_seconds"));
}

#[test]
fn what_only_etcd_has_is_off_by_default() {
    let shown = types(&used(Options::default()).render());
    let missing = ETCD.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| !shown.contains_key(*name));
    let belongs_to_etcd = |name: &str| {
        let prefixes =
            ["go_", "promhttp_", "etcd_grpc_proxy_", "etcd_debugging_store_", "etcd_debugging_disk_backend_commit_"];
        prefixes.iter().any(|prefix| name.starts_with(prefix)) || name == "etcd_server_go_version"
    };
    for (name, _) in missing {
        assert!(belongs_to_etcd(name), "{name}");
    }
    assert!(!shown.contains_key("go_goroutines"));
    assert!(!shown.contains_key("grpc_server_handling_seconds"));
}

#[test]
fn lines_read_as_etcds() {
    let metrics = used(Options::default());
    metrics.mvcc.puts.inc_by(2);
    metrics.disk.wal_fsync.observe(0.0015);
    metrics.grpc.get("/etcdserverpb.Watch/Watch").expect("there").handled(Code::Cancelled);
    let text = metrics.render();
    for line in [
        "etcd_mvcc_put_total 2",
        "etcd_server_version{server_version=\"3.6.16\"} 1",
        "etcd_cluster_version{cluster_version=\"3.6\"} 1",
        "etcd_server_id{server_id=\"628170c800dbcee\"} 1",
        "etcd_network_known_peers{Local=\"628170c800dbcee\",Remote=\"628170c800dbcee\"} 1",
        "etcd_server_quota_backend_bytes 2.147483648e+09",
        "# TYPE keepstone_cluster_pending_promotions gauge",
        "keepstone_cluster_pending_promotions 2",
        "etcd_debugging_mvcc_compact_revision -1",
        "etcd_server_feature_enabled{name=\"LeaseCheckpoint\",stage=\"ALPHA\"} 0",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 0",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 1",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 1",
        "etcd_disk_wal_fsync_duration_seconds_sum 0.0015",
        "etcd_debugging_lease_ttl_total_bucket{le=\"8.388608e+06\"} 0",
        "etcd_server_range_duration_seconds_bucket{success=\"true\",le=\"0.0001\"} 0",
        "etcd_server_range_duration_seconds_bucket{success=\"true\",le=\"52.4288\"} 1",
        "etcd_server_apply_duration_seconds_count{op=\"Put\",success=\"true\",version=\"v3\"} 1",
        "etcd_server_client_requests_total{client_api_version=\"unknown\",type=\"unary\"} 1",
        "etcd_server_healthcheck{name=\"serializable_read\",type=\"livez\"} 1",
        "etcd_server_healthchecks_total{name=\"serializable_read\",status=\"success\",type=\"livez\"} 1",
        "grpc_server_handled_total{grpc_code=\"Canceled\",grpc_method=\"Watch\",grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"} 1",
        "grpc_server_started_total{grpc_method=\"Snapshot\",grpc_service=\"etcdserverpb.Maintenance\",grpc_type=\"server_stream\"} 0",
    ] {
        has(&text, line);
    }
}

/// Histograms whose buckets alerts and dashboards compute with: the first bound, the last one and how many.
#[test]
fn buckets_are_etcds() {
    let text = used(Options::default()).render();
    for (name, first, last, count) in [
        ("etcd_disk_wal_fsync_duration_seconds", "0.001", "8.192", 14),
        ("etcd_disk_wal_write_duration_seconds", "0.001", "8.192", 14),
        ("etcd_disk_backend_commit_duration_seconds", "0.001", "8.192", 14),
        ("etcd_disk_backend_defrag_duration_seconds", "0.1", "409.6", 13),
        ("etcd_disk_backend_snapshot_duration_seconds", "0.01", "655.36", 17),
        ("etcd_mvcc_hash_duration_seconds", "0.01", "163.84", 15),
        ("etcd_mvcc_hash_rev_duration_seconds", "0.01", "163.84", 15),
        ("etcd_server_apply_duration_seconds", "0.0001", "52.4288", 20),
        ("etcd_server_range_duration_seconds", "0.0001", "52.4288", 20),
        ("etcd_snap_db_fsync_duration_seconds", "0.001", "8.192", 14),
        ("etcd_snap_db_save_total_duration_seconds", "0.1", "51.2", 10),
        ("etcd_snap_fsync_duration_seconds", "0.001", "8.192", 14),
        ("etcd_debugging_lease_ttl_total", "1", "8.388608e+06", 24),
        ("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "1", "4096", 13),
        ("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "100", "819200", 14),
        ("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "0.5", "4096", 14),
    ] {
        let start = format!("{name}_bucket{{");
        let bounds: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix(&start)?.split_once("le=\"")?.1.split_once('"'))
            .map(|(bound, _)| bound)
            .collect();
        assert_eq!(bounds.first(), Some(&first), "{name}");
        assert_eq!(&bounds[bounds.len() - 2..], [last, "+Inf"], "{name}");
        assert_eq!(bounds.len(), count + 1, "{name}");
    }
}

#[test]
fn every_code_and_method_is_counted_under_gos_name() {
    let metrics = Metrics::new(Options { extensive: true, ..Options::default() });
    let put = metrics.grpc.get("/etcdserverpb.KV/Put").expect("there");
    let started = put.started();
    put.handled_since(Code::Ok, started);
    put.handled(Code::Unauthenticated);
    for path in ["/grpc.health.v1.Health/Check", "/v3lockpb.Lock/Lock", "/v3electionpb.Election/Observe"] {
        assert!(metrics.grpc.get(path).is_some(), "{path}");
    }
    assert!(metrics.grpc.get("/etcdserverpb.KV/Nope").is_none());
    let text = metrics.render();
    let labels = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
    has(&text, &format!("grpc_server_started_total{{{labels}}} 1"));
    has(&text, &format!("grpc_server_msg_received_total{{{labels}}} 1"));
    has(&text, &format!("grpc_server_msg_sent_total{{{labels}}} 1"));
    has(&text, &format!("grpc_server_handled_total{{grpc_code=\"OK\",{labels}}} 1"));
    has(&text, &format!("grpc_server_handled_total{{grpc_code=\"Unauthenticated\",{labels}}} 1"));
    has(&text, &format!("grpc_server_handling_seconds_count{{{labels}}} 1"));
    // The names belong to tonic's codes by their numbers.
    for (number, name) in grpc::CODES.iter().enumerate() {
        let code = Code::from_i32(i32::try_from(number).expect("small"));
        let rust = format!("{code:?}");
        assert!(rust.eq_ignore_ascii_case(name) || (rust == "Cancelled" && *name == "Canceled"), "{rust} {name}");
    }
}

#[test]
fn peers_and_learners_show_once_there_are_some() {
    let metrics = Metrics::new(Options::default());
    assert!(!metrics.render().contains("etcd_network_peer_"));
    let peer = metrics.network.peer(1, 0xab);
    peer.active.set(1);
    peer.round_trip.observe(0.00005);
    metrics.network.snapshots_to(0xab).succeeded.inc();
    metrics.network.snapshots_from(0xab).inflight.inc();
    metrics.network.received_badly("watch", &tonic::Status::internal("not a message"));
    metrics.network.received_badly("watch", &tonic::Status::cancelled("the client has gone"));
    metrics.server.promotion_failed("not ready");
    let text = metrics.render();
    has(&text, "etcd_network_active_peers{Local=\"1\",Remote=\"ab\"} 1");
    has(&text, "etcd_network_peer_round_trip_time_seconds_bucket{To=\"ab\",le=\"0.0001\"} 1");
    has(&text, "etcd_network_peer_round_trip_time_seconds_bucket{To=\"ab\",le=\"3.2768\"} 1");
    has(&text, "etcd_network_snapshot_send_success{To=\"ab\"} 1");
    has(&text, "etcd_network_server_stream_failures_total{API=\"watch\",Type=\"receive\"} 1");
    has(&text, "etcd_server_learner_promote_failures{Reason=\"not ready\"} 1");
}

#[test]
fn numbers_are_printed_as_go_prints_them() {
    for (value, text) in [
        (0.0, "0"),
        (-1.0, "-1"),
        (0.001, "0.001"),
        (4.4265e-05, "4.4265e-05"),
        (524_288.0, "524288"),
        (1_048_576.0, "1.048576e+06"),
        (1e6, "1e+06"),
        (2_147_483_648.0, "2.147483648e+09"),
        (1.844_674_407_370_955_2e19, "1.8446744073709552e+19"),
        (0.3, "0.3"),
        (f64::INFINITY, "+Inf"),
    ] {
        assert_eq!(text::number(value), text);
    }
    assert_eq!(text::label("a", "x\"y\\z\n"), r#"a="x\"y\\z\n""#);
}
