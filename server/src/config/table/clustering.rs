//! Who the members of a cluster are and how it is founded.

use super::{Effect, Flag, Kind, inert, on, refused};

const DISCOVERY: &str = "cluster discovery is not in this version; name the members with --initial-cluster";

const fn discovery(name: &'static str, default: &'static str) -> Flag {
    refused(name, Kind::Text, default, DISCOVERY)
}

pub(super) const FLAGS: &[Flag] = &[
    on(
        "initial-advertise-peer-urls",
        Kind::Urls,
        "http://localhost:2380",
        "This member's peer URLs, as the other members reach them.",
    ),
    on(
        "initial-cluster",
        Kind::Text,
        "default=http://localhost:2380",
        "name=url of every founding member, comma-separated; a name may have several.",
    ),
    on(
        "initial-cluster-state",
        Kind::OneOf(&["new", "existing"]),
        "new",
        "'new' to found a cluster, 'existing' to join one. Ignored once the member has data.",
    ),
    on("initial-cluster-token", Kind::Text, "etcd-cluster", "A word that tells clusters of equal members apart."),
    on(
        "advertise-client-urls",
        Kind::Urls,
        "http://localhost:2379",
        "This member's client URLs, as clients reach them; required with --listen-client-urls.",
    ),
    on("strict-reconfig-check", Kind::Bool, "true", "Reject membership changes that would cost quorum."),
    on("pre-vote", Kind::Bool, "true", "Ask for votes before disturbing a leader."),
    on("max-learners", Kind::Int, "1", "Learners the cluster may have at a time."),
    on(
        "auto-compaction-mode",
        Kind::Text,
        "periodic",
        "'periodic' keeps a time of history, 'revision' a number of revisions.",
    ),
    on(
        "auto-compaction-retention",
        Kind::Text,
        "0",
        "How much history to keep: revisions, or a duration (hours where it has no unit). 0 turns it off.",
    ),
    on(
        "force-new-cluster",
        Kind::Bool,
        "false",
        "Go on alone with the data that is here, under the same cluster ID: the other members are lost for good. Carried out once; take it away afterwards.",
    ),
    discovery("discovery", ""),
    discovery("discovery-token", ""),
    discovery("discovery-endpoints", ""),
    refused("discovery-dial-timeout", Kind::Duration, "2s", DISCOVERY),
    refused("discovery-request-timeout", Kind::Duration, "5s", DISCOVERY),
    refused("discovery-keepalive-time", Kind::Duration, "2s", DISCOVERY),
    refused("discovery-keepalive-timeout", Kind::Duration, "6s", DISCOVERY),
    refused("discovery-insecure-transport", Kind::Bool, "true", DISCOVERY),
    refused("discovery-insecure-skip-tls-verify", Kind::Bool, "false", DISCOVERY),
    discovery("discovery-cert", ""),
    discovery("discovery-key", ""),
    discovery("discovery-cacert", ""),
    discovery("discovery-user", ""),
    discovery("discovery-password", ""),
    refused(
        "discovery-fallback",
        Kind::OneOf(&["exit", "proxy"]),
        "exit",
        "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
    ),
    discovery("discovery-proxy", ""),
    discovery("discovery-srv", ""),
    discovery("discovery-srv-name", ""),
    inert(
        "v2-deprecation",
        Kind::OneOf(&["write-only", "write-only-skip-check", "write-only-drop-data", "gone"]),
        "write-only",
        "there never was a v2 store",
    ),
    Flag::new(
        "config-file",
        Kind::Text,
        "",
        Effect::Early(true),
        "A YAML file with the settings; all other flags and variables are then ignored.",
    ),
    Flag::new("version", Kind::Bool, "false", Effect::Early(false), "Print the version and exit."),
];
