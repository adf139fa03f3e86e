//! Settings that etcd does not have. Their variables begin with KEEPSTONE_.

use super::{Effect, Flag, Kind};

const fn own(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    let mut flag = Flag::new(name, kind, default, Effect::Honoured, help);
    flag.own = true;
    flag
}

pub(super) const FLAGS: &[Flag] = &[
    own(
        "runtime",
        Kind::OneOf(&["local", "multi"]),
        "local",
        "'local' runs one single-threaded runtime a core, 'multi' one runtime over all cores.",
    ),
    own(
        "client-cert-allowed-cn",
        Kind::List,
        "",
        "Common names, one of which a client's certificate must have; allowed-cn in the config file.",
    ),
    own(
        "skip-client-san-verification",
        Kind::Bool,
        "false",
        "Don't compare a client's certificate with its address on --listen-metrics-urls; etcd has it in the file only.",
    ),
    own(
        "join",
        Kind::Urls,
        "",
        "Peer URLs of members of a cluster to join, in place of --initial-cluster; this member's peer URLs have been added there. Ignored once the member has data.",
    ),
    own(
        "corrupt-repair",
        Kind::Bool,
        "false",
        "Repair a member whose data differs from a majority's without being told: it gets the leader's state.",
    ),
    own(
        "force-new-cluster-id",
        Kind::Bool,
        "false",
        "As --force-new-cluster, under a new cluster ID: revisions rise by a billion and all history counts as compacted, so that whoever watches lists again.",
    ),
    own(
        "fence-file",
        Kind::Text,
        "",
        "Where a list of members that must not start may come to be, one name a line. A member that finds its own in it waits, unless a permit lets it go on alone.",
    ),
    own(
        "permit-file",
        Kind::Text,
        "",
        "Where a permit may come to be. A member without data founds a cluster only with a permit that is in there, alone; else it joins, as --join says.",
    ),
    own("permit-holder", Kind::Text, "", "Who runs this member: a permit that names a holder names this one."),
    own("value-cache-bytes", Kind::Uint, "134217728", "Bytes of recently used values kept in memory."),
];
