//! Families that only etcd's implementation has: Go's runtime, bbolt, the v2 store, the gRPC proxy. All zero, because
//! there is nothing to measure. Off unless asked for; suites that compare lists of names ask for them.

use super::text::{Families, Kind, label};

const HELP: &str = "Always zero: there is no such thing in Keepstone.";

const GAUGES: [&str; 29] = [
    "etcd_debugging_store_watchers",
    "etcd_grpc_proxy_cache_hits_total",
    "etcd_grpc_proxy_cache_keys_total",
    "etcd_grpc_proxy_cache_misses_total",
    "etcd_grpc_proxy_watchers_coalescing_total",
    "go_gc_gogc_percent",
    "go_gc_gomemlimit_bytes",
    "go_goroutines",
    "go_memstats_alloc_bytes",
    "go_memstats_buck_hash_sys_bytes",
    "go_memstats_gc_sys_bytes",
    "go_memstats_heap_alloc_bytes",
    "go_memstats_heap_idle_bytes",
    "go_memstats_heap_inuse_bytes",
    "go_memstats_heap_objects",
    "go_memstats_heap_released_bytes",
    "go_memstats_heap_sys_bytes",
    "go_memstats_last_gc_time_seconds",
    "go_memstats_mcache_inuse_bytes",
    "go_memstats_mcache_sys_bytes",
    "go_memstats_mspan_inuse_bytes",
    "go_memstats_mspan_sys_bytes",
    "go_memstats_next_gc_bytes",
    "go_memstats_other_sys_bytes",
    "go_memstats_stack_inuse_bytes",
    "go_memstats_stack_sys_bytes",
    "go_memstats_sys_bytes",
    "go_sched_gomaxprocs_threads",
    "go_threads",
];

const COUNTERS: [&str; 6] = [
    "etcd_debugging_store_expires_total",
    "etcd_debugging_store_watch_requests_total",
    "etcd_grpc_proxy_events_coalescing_total",
    "go_memstats_alloc_bytes_total",
    "go_memstats_frees_total",
    "go_memstats_mallocs_total",
];

const HISTOGRAMS: [&str; 3] = [
    "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
    "etcd_debugging_disk_backend_commit_spill_duration_seconds",
    "etcd_debugging_disk_backend_commit_write_duration_seconds",
];

pub(super) fn add_to(f: &mut Families) {
    for name in GAUGES {
        f.single(name, Kind::Gauge, HELP, 0.0);
    }
    for name in COUNTERS {
        f.single(name, Kind::Counter, HELP, 0.0);
    }
    for name in HISTOGRAMS {
        f.empty_distribution(name, Kind::Histogram, HELP);
    }
    f.empty_distribution("go_gc_duration_seconds", Kind::Summary, HELP);
    f.single("promhttp_metric_handler_requests_in_flight", Kind::Gauge, HELP, 0.0);
    let codes = ["200", "500", "503"].map(|code| (label("code", code), 0.0));
    f.labelled("promhttp_metric_handler_requests_total", Kind::Counter, HELP, codes);
    for (name, action) in
        [("etcd_debugging_store_reads_total", "getRecursive"), ("etcd_debugging_store_writes_total", "set")]
    {
        f.labelled(name, Kind::Counter, HELP, [(label("action", action), 0.0)]);
    }
    f.labelled("go_info", Kind::Gauge, HELP, [(label("version", "none"), 0.0)]);
    f.labelled("etcd_server_go_version", Kind::Gauge, HELP, [(label("server_go_version", "none"), 0.0)]);
}
