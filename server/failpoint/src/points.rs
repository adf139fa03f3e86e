//! Every point there is. Those with an etcd name stand where etcd's do, as far as there is such a place here.

use crate::Point;

macro_rules! points {
    ($($(#[doc = $doc:literal])* $id:ident = $name:literal;)*) => {
        $($(#[doc = $doc])* pub static $id: Point = Point::new($name);)*
        /// All of them.
        pub(crate) static ALL: &[&Point] = &[$(&$id),*];
    };
}

points! {
    // The log.
    /// A group of records is about to be written.
    RAFT_BEFORE_SAVE = "raftBeforeSave";
    /// A group is durable, and nobody has been told.
    RAFT_AFTER_SAVE = "raftAfterSave";
    /// A group is written and about to be synced. `return("why")` fails the sync.
    WAL_BEFORE_SYNC = "walBeforeSync";
    /// A group was synced.
    WAL_AFTER_SYNC = "walAfterSync";
    /// The log is about to go on in another segment.
    WAL_BEFORE_ROLL = "walBeforeRoll";
    /// The next segment has its name, and nothing in it yet.
    WAL_AFTER_ROLL = "walAfterRoll";
    /// Purged segments are about to be let go.
    WAL_BEFORE_RELEASE = "walBeforeRelease";
    /// Purged segments were let go, or the log begins after an installed snapshot.
    RAFT_AFTER_WAL_RELEASE = "raftAfterWALRelease";
    /// A vote is about to go to the log.
    RAFT_BEFORE_SAVE_VOTE = "raftBeforeSaveVote";
    /// A vote is durable, and not given yet.
    RAFT_AFTER_SAVE_VOTE = "raftAfterSaveVote";
    /// Entries another leader does not have are about to be cut off.
    RAFT_BEFORE_TRUNCATE = "raftBeforeTruncate";
    /// They are cut off, durably.
    RAFT_AFTER_TRUNCATE = "raftAfterTruncate";
    /// The log is about to note that its head is not needed any more.
    RAFT_BEFORE_PURGE = "raftBeforePurge";
    /// That is durable.
    RAFT_AFTER_PURGE = "raftAfterPurge";
    /// What the directory says of itself, its incarnation among it, is about to be written.
    PASSPORT_BEFORE_SAVE = "passportBeforeSave";
    /// It is durable, and nobody acts by it yet.
    PASSPORT_AFTER_SAVE = "passportAfterSave";

    // Applying.
    /// An entry of requests is about to be applied.
    BEFORE_APPLY_ONE_ENTRY_NORMAL = "beforeApplyOneEntryNormal";
    /// A change of Raft's membership is about to be applied.
    BEFORE_APPLY_ONE_CONF_CHANGE = "beforeApplyOneConfChange";
    /// A run of entries is applied, and whoever waits has been answered.
    RAFT_BEFORE_ADVANCE = "raftBeforeAdvance";

    // The store.
    /// A checkpoint begins.
    BEFORE_START_DB_TXN = "beforeStartDBTxn";
    /// It has the store for itself.
    AFTER_START_DB_TXN = "afterStartDBTxn";
    /// A batch is about to get the mark of what it is a state of.
    COMMIT_BEFORE_PRE_COMMIT_HOOK = "commitBeforePreCommitHook";
    /// A batch is whole.
    COMMIT_AFTER_PRE_COMMIT_HOOK = "commitAfterPreCommitHook";
    /// A batch is about to be written, not durably.
    BEFORE_WRITEBACK_BUF = "beforeWritebackBuf";
    /// A batch was written, not durably.
    AFTER_WRITEBACK_BUF = "afterWritebackBuf";
    /// What was written is about to be made durable. `return("why")` fails that.
    BEFORE_COMMIT = "beforeCommit";
    /// It is durable, and the log does not know.
    AFTER_COMMIT = "afterCommit";
    /// Large values are about to be synced.
    HEAP_BEFORE_SYNC = "heapBeforeSync";
    /// Large values are durable, the rows that point at them are not written.
    HEAP_AFTER_SYNC = "heapAfterSync";
    /// The rows are written, and about to be synced.
    ROWS_BEFORE_SYNC = "rowsBeforeSync";
    /// The rows are durable; files that nothing points at are about to be deleted.
    ROWS_AFTER_SYNC = "rowsAfterSync";

    // Compaction.
    /// A compaction is about to be carried out.
    COMPACT_BEFORE_COMMIT_SCHEDULED_COMPACT = "compactBeforeCommitScheduledCompact";
    /// The index has given up what is dead, the store has it all.
    COMPACT_AFTER_COMMIT_SCHEDULED_COMPACT = "compactAfterCommitScheduledCompact";
    /// Chunks are about to be packed anew.
    COMPACT_BEFORE_COMMIT_BATCH = "compactBeforeCommitBatch";
    /// Some chunks were packed anew.
    COMPACT_AFTER_COMMIT_BATCH = "compactAfterCommitBatch";
    /// A compaction is about to count as carried out.
    COMPACT_BEFORE_SET_FINISHED_COMPACT = "compactBeforeSetFinishedCompact";
    /// It counts as carried out, in memory.
    COMPACT_AFTER_SET_FINISHED_COMPACT = "compactAfterSetFinishedCompact";

    // Defragmentation.
    /// `Defragment` is about to have everything written. `return("why")` fails the call.
    DEFRAG_BEFORE_COPY = "defragBeforeCopy";
    /// Everything was written, and the caller has no answer.
    DEFRAG_BEFORE_RENAME = "defragBeforeRename";

    // Snapshots between members.
    /// A snapshot is about to be sent.
    SNAPSHOT_BEFORE_SEND = "snapshotBeforeSend";
    /// A piece of a snapshot was received and is about to be taken in.
    SNAPSHOT_BEFORE_SAVE_PIECE = "snapshotBeforeSavePiece";
    /// It was taken in: written, or waiting to be.
    SNAPSHOT_AFTER_SAVE_PIECE = "snapshotAfterSavePiece";
    /// A snapshot is received whole, and about to be checked and made durable.
    RAFT_BEFORE_SAVE_SNAP = "raftBeforeSaveSnap";
    /// It is durable, and does not count yet.
    RAFT_AFTER_SAVE_SNAP = "raftAfterSaveSnap";
    /// It is about to be marked as the state that counts.
    RAFT_BEFORE_APPLY_SNAP = "raftBeforeApplySnap";
    /// It counts, in memory too; the log does not follow it yet.
    RAFT_AFTER_APPLY_SNAP = "raftAfterApplySnap";
    /// It counts on disk, and is about to in memory.
    APPLY_BEFORE_OPEN_SNAPSHOT = "applyBeforeOpenSnapshot";
    /// It counts in memory.
    APPLY_AFTER_OPEN_SNAPSHOT = "applyAfterOpenSnapshot";
    /// The store before is about to be deleted.
    SNAPSHOT_BEFORE_RETIRE = "snapshotBeforeRetire";
    /// A start is about to give a received store its usual name.
    SNAPSHOT_BEFORE_SETTLE = "snapshotBeforeSettle";
    /// It has that name; its mark is still there.
    SNAPSHOT_AFTER_SETTLE = "snapshotAfterSettle";

    // Repair.
    /// A member that differs is about to get the leader's state.
    REPAIR_BEFORE_BRING = "repairBeforeBring";
    /// It has it, and its alarm is still raised.
    REPAIR_AFTER_BRING = "repairAfterBring";

    // Between members, and towards clients.
    /// A leader is about to give requests to its log, or to send entries to another member.
    RAFT_BEFORE_LEADER_SEND = "raftBeforeLeaderSend";
    /// A follower is about to answer its leader.
    RAFT_BEFORE_FOLLOWER_SEND = "raftBeforeFollowerSend";
    /// A member is about to make its name and client URLs known.
    BEFORE_PUBLISHING = "beforePublishing";
    /// A watch is about to send events.
    BEFORE_SEND_WATCH_RESPONSE = "beforeSendWatchResponse";
}
