//! A cluster of three that is as it should be, for each test to break.

use std::collections::{BTreeMap, BTreeSet};

use keepstone_operator_plan::act::{Act, Permit, PermitKind};
use keepstone_operator_plan::condition::{Condition, ConditionType, Reason, Truth};
use keepstone_operator_plan::desired::*;
use keepstone_operator_plan::ids::*;
use keepstone_operator_plan::observed::*;
use keepstone_operator_plan::operation::{Intent, Operation, Verb};
use keepstone_operator_plan::{Plan, plan};

pub const NOW: Time = Time(1_000_000);
pub const CLUSTER: ClusterId = ClusterId(0xc1);
pub const V1: Version = Version { major: 1, minor: 4, patch: 2 };
pub const V2: Version = Version { major: 1, minor: 5, patch: 0 };

pub struct Case {
    pub o: Observed,
    pub d: Desired,
    pub now: Time,
}

pub fn uid(text: impl AsRef<str>) -> Uid {
    Uid::from(text.as_ref())
}

pub fn template() -> Template {
    Template { config: "a".into(), version: V1 }
}

pub fn id(n: u32) -> MemberId {
    MemberId(100 + u64::from(n))
}

pub fn desired(size: u32) -> Desired {
    Desired {
        size,
        template: template(),
        storage: 100,
        paused: false,
        hibernate: false,
        deletion_policy: Retention::Retain,
        retain_policy: Retention::Delete,
        quota: 1000,
        tls: Tls::Disabled,
        update: Update { pause_between: Seconds(20), allow_downgrade: false, snapshot_before: true, max_lag: 100 },
        recovery: Recovery {
            replace: true,
            after_restarts: 5,
            min_unhealthy: Seconds(600),
            automatic: false,
            after: Seconds(900),
        },
        maintenance: Maintenance::default(),
        backup: None,
        backup_suspended: false,
        source: None,
        deadlines: Deadlines::default(),
    }
}

pub fn pod(n: u32) -> Pod {
    Pod {
        uid: uid(format!("pod-{n}")),
        created: Time(NOW.0 - 5000),
        template: template(),
        started: true,
        ready: true,
        ready_changed: Time(NOW.0 - 4000),
        terminating: false,
        restarts: 0,
        node_lost: None,
        verdict: None,
    }
}

pub fn claim(n: u32) -> Claim {
    Claim {
        uid: uid(format!("claim-{n}")),
        owner: uid("cluster"),
        terminating: false,
        left: None,
        request: 100,
        capacity: 100,
        resize_rejected: false,
    }
}

pub fn status(n: u32) -> Status {
    Status {
        cluster_id: CLUSTER,
        member_id: id(n),
        leader: Some(id(0)),
        term: 7,
        applied: 5000,
        revision: Revision(4000),
        learner: false,
        version: V1,
        db_size: 100,
        db_in_use: 90,
        permit: None,
    }
}

pub fn member(n: u32) -> Member {
    Member { id: id(n), ordinal: Some(Ordinal(n)), learner: false }
}

/// Nothing is there yet.
pub fn nothing(size: u32) -> Case {
    let cluster = Cluster {
        name: "main".into(),
        uid: uid("cluster"),
        created: Time(NOW.0 - 10_000),
        generation: 1,
        deleting: false,
        cluster_id: None,
        operation: None,
        seq: 0,
        marks: Marks::default(),
        volumes: BTreeMap::new(),
        ran: None,
    };
    let o = Observed {
        cluster,
        objects: Seen::Known(Objects { current: true, open: false, min_available: None }),
        workload: Seen::Known(None),
        pods: Seen::Known(BTreeMap::new()),
        claims: Seen::Known(BTreeMap::new()),
        permit: Seen::Known(None),
        table: Seen::Unknown,
        answers: BTreeMap::new(),
        alarms: Seen::Known(BTreeSet::new()),
        certificates: Seen::Known(Certificates::default()),
        requests: Seen::Known(Vec::new()),
        backups: Seen::Known(Vec::new()),
        saved: Seen::Known(BTreeMap::new()),
        filled: Seen::Known(None),
        source: Seen::Known(true),
        fenced: Seen::Known(BTreeSet::new()),
        keep_from: None,
        nonce: Nonce(42),
        echo: Vec::new(),
    };
    Case { o, d: desired(size), now: NOW }
}

/// A cluster of `n` that is well, led by member 0, as large as asked for.
pub fn well(n: u32) -> Case {
    let mut case = nothing(n);
    let o = &mut case.o;
    o.cluster.cluster_id = Some(CLUSTER);
    o.cluster.seq = 9;
    o.objects = Seen::Known(Objects { current: true, open: true, min_available: Some(n / 2 + 1) });
    o.workload =
        Seen::Known(Some(Workload { uid: uid("sts"), replicas: n, template: template(), storage: 100, settled: true }));
    let all = || (0..n).map(Ordinal);
    o.pods = Seen::Known(all().map(|n| (n, pod(n.0))).collect());
    o.claims = Seen::Known(all().map(|n| (n, claim(n.0))).collect());
    o.table = Seen::Known(all().map(|n| member(n.0)).collect());
    o.cluster.volumes = all().map(|n| (n, uid(format!("claim-{n}")))).collect();
    o.answers = all().map(|n| (n, status(n.0))).collect();
    case
}

pub fn known<T>(seen: &mut Seen<T>) -> &mut T {
    match seen {
        Seen::Known(value) => value,
        Seen::Unknown => panic!("it is unknown"),
    }
}

impl Case {
    pub fn plan(&self) -> Plan {
        plan(&self.o, &self.d, self.now)
    }

    pub fn act(&self) -> Option<Act> {
        self.plan().act
    }

    /// The intent that is about to be recorded.
    pub fn intent(&self) -> Intent {
        match self.act() {
            Some(Act::RecordIntent(operation)) => operation.intent,
            other => panic!("no intent is recorded: {other:?}"),
        }
    }

    pub fn condition(&self, kind: ConditionType) -> Condition {
        self.plan().conditions.into_iter().find(|c| c.kind == kind).expect("all conditions are always there")
    }

    pub fn says(&self, kind: ConditionType, truth: Truth, reason: Reason) {
        let condition = self.condition(kind);
        assert_eq!((condition.truth, condition.reason), (truth, reason), "{kind:?}: {}", condition.message);
    }

    pub fn under_way(&mut self, intent: Intent) -> &mut Operation {
        let deadline = Time(self.now.0 + 600);
        let seq = self.o.cluster.seq;
        let operation = Operation { seq, intent, started: self.now, deadline, generation: 1, request: None };
        self.o.cluster.operation.insert(operation)
    }

    pub fn pod(&mut self, n: u32) -> &mut Pod {
        known(&mut self.o.pods).get_mut(&Ordinal(n)).expect("there is such a pod")
    }

    pub fn claim(&mut self, n: u32) -> &mut Claim {
        known(&mut self.o.claims).get_mut(&Ordinal(n)).expect("there is such a claim")
    }

    pub fn workload(&mut self) -> &mut Workload {
        known(&mut self.o.workload).as_mut().expect("there is a StatefulSet")
    }

    pub fn answer(&mut self, n: u32) -> &mut Status {
        self.o.answers.get_mut(&Ordinal(n)).expect("it answers")
    }

    /// It answers nobody, and its pod is not ready.
    pub fn down(&mut self, n: u32) {
        self.o.answers.remove(&Ordinal(n));
        let pod = self.pod(n);
        (pod.started, pod.ready) = (false, false);
        pod.ready_changed = Time(NOW.0 - 100);
    }

    pub fn leader(&mut self, n: u32) {
        for status in self.o.answers.values_mut() {
            status.leader = Some(id(n));
        }
    }

    /// No pod runs, and the StatefulSet has none.
    pub fn stopped(&mut self) {
        self.workload().replicas = 0;
        (self.o.pods, self.o.table) = (Seen::Known(BTreeMap::new()), Seen::Unknown);
        self.o.answers.clear();
    }

    pub fn no_quorum(&mut self) {
        self.o.table = Seen::Unknown;
        for status in self.o.answers.values_mut() {
            status.leader = None;
        }
        known(&mut self.o.pods).values_mut().for_each(|pod| pod.ready = false);
    }

    pub fn failed(&mut self, act: Act) {
        self.o.echo.push(Echo { act, done: false });
    }

    pub fn done(&mut self, act: Act) {
        self.o.echo.push(Echo { act, done: true });
    }

    pub fn request(&mut self, verb: Verb) {
        let created = self.now;
        let request = Request {
            name: "asked".into(),
            uid: uid("request"),
            created,
            scheduled: None,
            verb,
            phase: Phase::Pending,
        };
        known(&mut self.o.requests).push(request);
    }
}

pub fn permit() -> Permit {
    Permit {
        kind: PermitKind::Found,
        ordinal: Ordinal::SEED,
        pod: Some(uid("pod-0")),
        claim: uid("claim-0"),
        nonce: Nonce(42),
    }
}
