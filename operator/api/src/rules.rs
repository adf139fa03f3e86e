//! What the API server checks with CEL, beyond the schema: one table, each rule with a name.
//!
//! Rules look at the spec alone, or compare it with the one before: a write of the status must never be refused for a
//! spec that was taken. Those that read the status act only while the spec changes, for the same reason.

/// A rule, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// What tests and documents call it.
    pub name: &'static str,
    pub kind: &'static str,
    /// Where in the object; empty is the whole of it.
    pub path: &'static str,
    /// CEL; `self` is what stands at `path`.
    pub rule: &'static str,
    /// What the user is told.
    pub message: &'static str,
}

const fn rule(
    name: &'static str,
    kind: &'static str,
    path: &'static str,
    rule: &'static str,
    message: &'static str,
) -> Rule {
    Rule { name, kind, path, rule, message }
}

const CLUSTER: &str = "EtcdCluster";
const BACKUP: &str = "EtcdBackup";
const OPERATION: &str = "EtcdOperation";

const NAME: &str = "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 48";

/// Whether the spec's version is of the running one's major version, and not above its minor version by more than one.
const ONE_MINOR: &str = "self.spec.version == oldSelf.spec.version || !has(self.status) || \
    !has(self.status.currentVersion) || !self.status.currentVersion.matches('^v?[0-9]+[.][0-9]+[.]') || \
    (self.spec.version.replace('v', '').split('.')[0] == self.status.currentVersion.replace('v', '').split('.')[0] && \
    int(self.spec.version.split('.')[1]) <= int(self.status.currentVersion.split('.')[1]) + 1)";

/// Whether the spec's minor version is not below the running one's, or is allowed to be, by one. Major versions are the
/// other rule's business.
const NO_DOWNGRADE: &str = "self.spec.version == oldSelf.spec.version || !has(self.status) || \
    !has(self.status.currentVersion) || !self.status.currentVersion.matches('^v?[0-9]+[.][0-9]+[.]') || \
    self.spec.version.replace('v', '').split('.')[0] != self.status.currentVersion.replace('v', '').split('.')[0] || \
    int(self.spec.version.split('.')[1]) >= int(self.status.currentVersion.split('.')[1]) - \
    (self.spec.updateStrategy.allowDowngrade ? 1 : 0)";

const OWNED_OPTIONS: &str = "self.all(o, !o.matches('^--(name|data-dir|wal-dir|config-file|version|join|runtime|\
    permit-.*|fence-file|force-new-cluster.*|unsafe-no-fsync|quota-backend-bytes|initial-advertise-peer-urls|initial-cluster.*|\
    advertise-client-urls|listen-.*|discovery.*|(peer-)?(client-)?(cert|key)-file|(peer-)?client-cert-auth|\
    (peer-)?trusted-ca-file|(peer-)?auto-tls|peer-cert-allowed-.*)(=.*)?$'))";

const CRON: &str = "self.matches('^@(hourly|daily|midnight|weekly|monthly|yearly|annually)$') || \
    self.matches('^[^ ]+( [^ ]+){4}$')";
const CRON_MESSAGE: &str = "schedule must be five fields of cron with one space between them, or @hourly, @daily, @weekly, \
    @monthly or @yearly";

const ONE_STORE: &str = "has(self.s3) != has(self.pvc)";
const ONE_STORE_MESSAGE: &str = "store must be exactly one of s3 and pvc";

const ENDPOINT: &str = "isURL(self) && url(self).getScheme() in ['http', 'https']";
const ENDPOINT_MESSAGE: &str = "endpoint must be a URL with http or https";

const ONE_SOURCE: &str = "has(self.backupRef) != has(self.object)";
const ONE_SOURCE_MESSAGE: &str = "from must be exactly one of backupRef and object";

const KEEP: &str = "has(self.duration) != has(self.revisions)";
const KEEP_MESSAGE: &str = "keep must be exactly one of duration and revisions";

const GROWS: &str = "quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0";

const IMMUTABLE: &str = "self == oldSelf";

/// Every rule there is.
pub const RULES: &[Rule] = &[
    rule(
        "cluster-name",
        CLUSTER,
        "",
        NAME,
        "the name must begin with a letter, have only a-z, 0-9 and '-', and at most 48 characters: Services and pods are named after it",
    ),
    rule(
        "size-at-least-one",
        CLUSTER,
        "spec.size",
        "self >= 1",
        "size must be at least 1; to stop a cluster and keep its data, set hibernate: true",
    ),
    rule(
        "size-at-most-nine",
        CLUSTER,
        "spec.size",
        "self <= 9",
        "size must be at most 9: each member makes writes slower",
    ),
    rule(
        "version-format",
        CLUSTER,
        "spec.version",
        "self.matches('^v?[0-9]{1,5}[.][0-9]{1,5}[.][0-9]{1,5}([-+][0-9A-Za-z.+-]+)?$')",
        "version must be a full version such as v1.4.2: it is the image's tag, and what upgrades are checked by",
    ),
    rule(
        "version-one-minor-up",
        CLUSTER,
        "",
        ONE_MINOR,
        "version must stay in its major version, and may go up by one minor version at a time from the one that runs (status.currentVersion)",
    ),
    rule(
        "version-no-downgrade",
        CLUSTER,
        "",
        NO_DOWNGRADE,
        "version may go below the one that runs (status.currentVersion) only with updateStrategy.allowDowngrade, and by one minor version",
    ),
    rule(
        "storage-no-shrink",
        CLUSTER,
        "spec.storageSpec.volumeSizeRequest",
        GROWS,
        "volumeSizeRequest can grow, and never shrink: no volume can",
    ),
    rule(
        "storage-limit",
        CLUSTER,
        "spec.storageSpec",
        "!has(self.volumeSizeLimit) || \
         quantity(string(self.volumeSizeLimit)).compareTo(quantity(string(self.volumeSizeRequest))) >= 0",
        "volumeSizeLimit must not be below volumeSizeRequest",
    ),
    rule(
        "storage-class-immutable",
        CLUSTER,
        "spec.storageSpec",
        "has(self.storageClassName) == has(oldSelf.storageClassName) && \
         (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
        "storageClassName can't change: a volume keeps its class",
    ),
    rule(
        "storage-access-immutable",
        CLUSTER,
        "spec.storageSpec.accessModes",
        IMMUTABLE,
        "accessModes can't change: a volume keeps them",
    ),
    rule(
        "wal-volume-immutable",
        CLUSTER,
        "spec.storageSpec",
        "has(self.walVolume) == has(oldSelf.walVolume) && (!has(self.walVolume) || \
         (has(self.walVolume.storageClassName) == has(oldSelf.walVolume.storageClassName) && \
         (!has(self.walVolume.storageClassName) || self.walVolume.storageClassName == oldSelf.walVolume.storageClassName)))",
        "walVolume can't be added, taken away or change its class: the log is where it is",
    ),
    rule(
        "wal-volume-no-shrink",
        CLUSTER,
        "spec.storageSpec.walVolume.volumeSizeRequest",
        GROWS,
        "walVolume can grow, and never shrink: no volume can",
    ),
    rule(
        "quota-below-volume",
        CLUSTER,
        "spec",
        "!has(self.quotaBackendBytes) || \
         quantity(string(self.quotaBackendBytes)).compareTo(quantity(string(self.storageSpec.volumeSizeRequest))) < 0",
        "quotaBackendBytes must be below the volume's size: log and snapshots need room too",
    ),
    rule(
        "tls-provider-immutable",
        CLUSTER,
        "spec.tls.provider",
        IMMUTABLE,
        "tls.provider can't change: members of both kinds could not talk to each other",
    ),
    rule(
        "tls-cert-manager-cfg",
        CLUSTER,
        "spec.tls",
        "self.provider != 'cert-manager' || has(self.providerCfg.certManagerCfg)",
        "provider cert-manager needs providerCfg.certManagerCfg, which names the issuer",
    ),
    rule(
        "tls-secret-cfg",
        CLUSTER,
        "spec.tls",
        "self.provider != 'secret' || has(self.providerCfg.secretCfg)",
        "provider secret needs providerCfg.secretCfg, which names the Secrets",
    ),
    rule(
        "tls-foreign-cfg",
        CLUSTER,
        "spec.tls",
        "(!has(self.providerCfg.autoCfg) || self.provider == 'auto') && \
         (!has(self.providerCfg.certManagerCfg) || self.provider == 'cert-manager') && \
         (!has(self.providerCfg.secretCfg) || self.provider == 'secret')",
        "providerCfg has a part of another provider than the one chosen",
    ),
    rule(
        "options-form",
        CLUSTER,
        "spec.etcdOptions",
        "self.all(o, o.matches('^--[a-z0-9][a-z0-9-]*(=.*)?$'))",
        "each of etcdOptions must be one flag: --name or --name=value",
    ),
    rule(
        "options-owned",
        CLUSTER,
        "spec.etcdOptions",
        OWNED_OPTIONS,
        "etcdOptions must not have flags that the operator sets: identity, addresses, directories, certificates and quota have fields of their own",
    ),
    rule(
        "pod-labels-reserved",
        CLUSTER,
        "spec.podTemplate.metadata",
        "(!has(self.labels) || self.labels.all(k, !k.startsWith('keepstone.io/') && !k.startsWith('app.kubernetes.io/'))) && \
         (!has(self.annotations) || self.annotations.all(k, !k.startsWith('keepstone.io/')))",
        "labels of keepstone.io/ and app.kubernetes.io/ and annotations of keepstone.io/ are the operator's",
    ),
    rule(
        "snapshot-before-needs-backup",
        CLUSTER,
        "spec",
        "self.updateStrategy.snapshotBefore == 'None' || has(self.backup)",
        "updateStrategy.snapshotBefore needs spec.backup: it says where the snapshot goes",
    ),
    rule(
        "defragment-rule",
        CLUSTER,
        "spec.maintenance.defragment.rule",
        "quantity(string(self.minReclaim)).compareTo(quantity(string(self.freeSpaceAbove))) <= 0",
        "minReclaim must not be above freeSpaceAbove",
    ),
    rule("defragment-schedule", CLUSTER, "spec.maintenance.defragment.schedule", CRON, CRON_MESSAGE),
    rule("compact-schedule", CLUSTER, "spec.maintenance.compact.schedule", CRON, CRON_MESSAGE),
    rule("compact-keep", CLUSTER, "spec.maintenance.compact.keep", KEEP, KEEP_MESSAGE),
    rule("backup-schedule", CLUSTER, "spec.backup.full.schedule", CRON, CRON_MESSAGE),
    rule("backup-one-store", CLUSTER, "spec.backup.store", ONE_STORE, ONE_STORE_MESSAGE),
    rule("backup-endpoint", CLUSTER, "spec.backup.store.s3.endpoint", ENDPOINT, ENDPOINT_MESSAGE),
    rule(
        "bootstrap-immutable",
        CLUSTER,
        "spec",
        "has(self.bootstrap) == has(oldSelf.bootstrap) && (!has(self.bootstrap) || self.bootstrap == oldSelf.bootstrap)",
        "bootstrap can't be added, changed or taken away: a cluster begins once. To put a backup in place, make an EtcdOperation with restore",
    ),
    rule("bootstrap-one-source", CLUSTER, "spec.bootstrap.restore.from", ONE_SOURCE, ONE_SOURCE_MESSAGE),
    rule("bootstrap-one-store", CLUSTER, "spec.bootstrap.restore.from.object.store", ONE_STORE, ONE_STORE_MESSAGE),
    rule(
        "bootstrap-endpoint",
        CLUSTER,
        "spec.bootstrap.restore.from.object.store.s3.endpoint",
        ENDPOINT,
        ENDPOINT_MESSAGE,
    ),
    rule("record-immutable", BACKUP, "spec", IMMUTABLE, "a backup's spec can't change: make another EtcdBackup"),
    rule("record-one-store", BACKUP, "spec.store", ONE_STORE, ONE_STORE_MESSAGE),
    rule("record-endpoint", BACKUP, "spec.store.s3.endpoint", ENDPOINT, ENDPOINT_MESSAGE),
    rule(
        "operation-one-verb",
        OPERATION,
        "spec",
        "[has(self.defragment), has(self.compact), has(self.moveLeader), has(self.replaceMember), has(self.recoverQuorum), \
         has(self.disarmAlarm), has(self.restartMembers), has(self.restore)].filter(verb, verb).size() == 1",
        "exactly one verb must be given: defragment, compact, moveLeader, replaceMember, recoverQuorum, disarmAlarm, restartMembers or restore",
    ),
    rule("operation-immutable", OPERATION, "spec", IMMUTABLE, "an operation can't change: make another EtcdOperation"),
    rule(
        "operation-compact",
        OPERATION,
        "spec.compact",
        "has(self.revision) != has(self.keep)",
        "compact must be exactly one of revision and keep",
    ),
    rule("operation-keep", OPERATION, "spec.compact.keep", KEEP, KEEP_MESSAGE),
    rule(
        "operation-confirm",
        OPERATION,
        "spec",
        "(!has(self.recoverQuorum) || self.recoverQuorum.confirm.startsWith(self.clusterRef.name + '/')) && \
         (!has(self.restore) || self.restore.confirm.startsWith(self.clusterRef.name + '/'))",
        "confirm must be the cluster's name, a slash and its ID (status.clusterID)",
    ),
    rule("operation-one-source", OPERATION, "spec.restore.from", ONE_SOURCE, ONE_SOURCE_MESSAGE),
    rule("operation-one-store", OPERATION, "spec.restore.from.object.store", ONE_STORE, ONE_STORE_MESSAGE),
    rule("operation-endpoint", OPERATION, "spec.restore.from.object.store.s3.endpoint", ENDPOINT, ENDPOINT_MESSAGE),
];
