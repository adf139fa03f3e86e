//! A log beside a plain model of it: every state it passed through, and how far it was answered.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use keepstone_wal::testing::{Rng, SimDisk};
use keepstone_wal::{Done, Entry, LogPos, Options, Wal, WalError};

/// What a log holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    pub meta: Option<Bytes>,
    pub vote: Option<Bytes>,
    pub committed: u64,
    pub purged: Option<LogPos>,
    pub entries: BTreeMap<u64, (u64, Bytes)>,
}

impl State {
    fn last(&self) -> Option<LogPos> {
        let last = self.entries.last_key_value().map(|(index, (term, _))| LogPos { term: *term, index: *index });
        last.or(self.purged)
    }

    fn brief(&self) -> String {
        let entries: Vec<_> = self.entries.iter().map(|(index, (term, data))| (index, term, data.len())).collect();
        format!("committed {}, purged {:?}, entries {entries:?}", self.committed, self.purged)
    }

    fn next(&self) -> u64 {
        self.last().map_or(1, |last| last.index + 1)
    }
}

/// Something a log's owner does.
#[derive(Debug, Clone)]
pub enum Call {
    Vote(u64),
    Committed,
    /// Payload sizes.
    Append(Vec<usize>),
    /// How many entries go; more than there are is all.
    Truncate(usize),
    /// How many entries go; and how far above the last one, if more than there are.
    Purge(usize, u64),
    Sync,
    Step,
    Read(usize, usize, usize),
}

impl Call {
    pub fn random(rng: &mut Rng) -> Self {
        match rng.below(100) {
            0..5 => Self::Vote(rng.next_u64()),
            5..15 => Self::Committed,
            15..50 => {
                let count = 1 + rng.below(4);
                Self::Append((0..count).map(|_| random_size(rng)).collect())
            }
            50..55 => Self::Truncate(rng.below(8) as usize),
            55..61 => Self::Purge(rng.below(40) as usize, rng.below(5)),
            61..62 => Self::Sync,
            62..70 => Self::Read(rng.below(50) as usize, rng.below(20) as usize, rng.below(5000) as usize),
            _ => Self::Step,
        }
    }
}

fn random_size(rng: &mut Rng) -> usize {
    match rng.below(20) {
        0 => 0,
        1 => 5000,
        2..6 => rng.below(2000) as usize,
        _ => rng.below(300) as usize,
    }
}

/// Every state since the last opening, and the newest that was answered.
pub struct Model {
    states: Vec<State>,
    answered: Arc<AtomicUsize>,
    counter: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self { states: vec![State::default()], answered: Arc::default(), counter: 0 }
    }
}

pub fn options() -> Options {
    Options {
        segment_bytes: 16 * 1024,
        cache_bytes: 3000,
        queue_bytes: 30_000,
        group_bytes: 4000,
        spare_segments: 1,
        ..Options::default()
    }
}

pub fn dir() -> &'static Path {
    Path::new("wal")
}

/// A log from its opening to its end.
pub struct Life<'a> {
    wal: Wal,
    model: &'a mut Model,
    alive: bool,
}

impl<'a> Life<'a> {
    /// Opens the log and checks what it found; `None` if the disk died meanwhile.
    pub fn open(disk: &SimDisk, model: &'a mut Model) -> Option<Self> {
        let wal = match Wal::open_inline(dir(), options(), Arc::new(disk.clone())) {
            Ok((wal, _)) => wal,
            Err(error) => {
                assert!(error.to_string().contains("the process is dead"), "refused: {error}");
                return None;
            }
        };
        let found = observe(&wal);
        let answered = model.answered.load(Ordering::Relaxed);
        let like = |state: &&State| {
            let mut state = (*state).clone();
            let newer = found.committed <= state.committed;
            state.committed = found.committed;
            state == found && newer
        };
        let known = model.states[answered..].iter().rfind(like);
        assert!(
            known.is_some() && found.committed >= model.states[answered].committed,
            "found a state that never was, or an older one than was answered: {}; answered was {}",
            found.brief(),
            model.states[answered].brief()
        );
        model.states = vec![found];
        model.answered = Arc::default();
        let mut life = Self { wal, model, alive: true };
        if life.state().meta.is_none() {
            let meta = Bytes::from_static(b"member 7 of cluster 9");
            let mut next = life.state().clone();
            next.meta = Some(meta.clone());
            let done = life.done();
            let taken = life.wal.save_meta(meta, done);
            life.took(taken, next);
        }
        Some(life)
    }

    pub fn alive(&self) -> bool {
        self.alive
    }

    pub fn random_call(&mut self, rng: &mut Rng) {
        self.call(&Call::random(rng));
    }

    pub fn call(&mut self, call: &Call) {
        let mut next = self.state().clone();
        let done = self.done();
        match *call {
            Call::Vote(vote) => {
                let vote = Bytes::from(vote.to_le_bytes().to_vec());
                next.vote = Some(vote.clone());
                let taken = self.wal.save_vote(vote, done);
                self.took(taken, next);
            }
            Call::Committed => {
                self.model.counter += 1;
                next.committed = self.model.counter;
                let taken = self.wal.save_committed(Bytes::from(next.committed.to_le_bytes().to_vec()));
                self.took(taken, next);
            }
            Call::Append(ref sizes) => self.append(sizes, next),
            Call::Truncate(count) => {
                let floor = next.purged.map(|purged| purged.index);
                let keep = next.last().map(|last| last.index.saturating_sub(count as u64)).max(floor);
                let keep = if floor.is_none() && count > next.entries.len() { None } else { keep };
                next.entries.retain(|index, _| keep.is_some_and(|keep| *index <= keep));
                let taken = self.wal.truncate_after(keep, done);
                self.took(taken, next);
            }
            Call::Purge(count, above) => {
                let up_to =
                    next.entries.iter().nth(count).map(|(index, (term, _))| LogPos { term: *term, index: *index });
                let beyond = LogPos { term: 1_000, index: next.next() + above };
                let up_to = up_to.unwrap_or(beyond);
                next.entries.retain(|index, _| *index > up_to.index);
                next.purged = Some(up_to);
                let taken = self.wal.purge(up_to, done);
                self.took(taken, next);
            }
            Call::Sync => {
                let taken = self.wal.sync(done);
                self.took(taken, next);
            }
            Call::Step => {
                if let Err(error) = self.wal.step() {
                    self.ended(&error);
                }
            }
            Call::Read(skip, count, max_bytes) => self.read(skip, count, max_bytes),
        }
    }

    fn append(&mut self, sizes: &[usize], mut next: State) {
        let first = next.next();
        let term = next.last().map_or(1, |last| last.term) + u64::from(sizes[0].is_multiple_of(7));
        let mut entries = Vec::new();
        // A crash may leave the first few entries of an append: each is a state of its own.
        let mut states = Vec::new();
        for (index, size) in (first..).zip(sizes) {
            self.model.counter += 1;
            let byte = self.model.counter.to_le_bytes();
            let data: Bytes = byte.iter().cycle().take(*size).copied().collect();
            next.entries.insert(index, (term, data.clone()));
            states.push(next.clone());
            entries.push(Entry { index, term, data });
        }
        let done = self.done_at(self.model.states.len() + states.len() - 1);
        match self.wal.append(entries, done) {
            Ok(()) => self.model.states.append(&mut states),
            Err(WalError::QueueFull { .. }) => self.call(&Call::Step),
            Err(error) => self.ended(&error),
        }
    }

    fn read(&mut self, skip: usize, count: usize, max_bytes: usize) {
        let state = self.state();
        let Some((first, _)) = state.entries.iter().nth(skip) else {
            return;
        };
        let range = *first..*first + count as u64;
        let mut expected = Vec::new();
        let mut bytes = 0;
        for (index, (term, data)) in state.entries.range(range.clone()) {
            bytes += data.len();
            if bytes > max_bytes && !expected.is_empty() {
                break;
            }
            expected.push(Entry { index: *index, term: *term, data: data.clone() });
        }
        let found = self.wal.read(range, max_bytes).expect("reads");
        assert!(found.len() <= expected.len() && found == expected[..found.len()], "read something else");
        let full = found.len() == expected.len() || bytes >= max_bytes;
        assert!(full, "read {} of {} entries", found.len(), expected.len());
    }

    /// Everything queued is written; what a new opening finds must be just this.
    pub fn finish(&mut self) {
        let done = self.done();
        let state = self.state().clone();
        let taken = self.wal.sync(done);
        self.took(taken, state);
        while self.alive && self.wal.stats().queued_bytes > 0 {
            self.call(&Call::Step);
        }
        self.compare();
    }

    /// The log says what the model says.
    pub fn compare(&self) {
        let state = self.state();
        let first = self.wal.first_index().unwrap_or(state.next());
        let entries = self.wal.read(first..u64::MAX, usize::MAX).expect("reads");
        let entries = entries.into_iter().map(|e| (e.index, (e.term, e.data))).collect();
        assert_eq!(state.entries, entries);
        assert_eq!(self.wal.last(), state.last());
        for (index, (term, _)) in &state.entries {
            assert_eq!(self.wal.term(*index), Some(*term));
        }
        assert_eq!(self.wal.first_index(), state.entries.keys().next().copied());
    }

    pub fn state(&self) -> &State {
        self.model.states.last().expect("never empty")
    }

    /// A callback for the state that comes next.
    fn done(&self) -> Done {
        self.done_at(self.model.states.len())
    }

    fn done_at(&self, number: usize) -> Done {
        let answered = Arc::clone(&self.model.answered);
        Box::new(move |result| {
            if result.is_ok() {
                let before = answered.swap(number, Ordering::Relaxed);
                assert!(before < number, "answers came out of order");
            }
        })
    }

    fn took(&mut self, taken: Result<(), WalError>, next: State) {
        match taken {
            Ok(()) => self.model.states.push(next),
            Err(error) => self.ended(&error),
        }
    }

    fn ended(&mut self, error: &WalError) {
        assert!(matches!(error, WalError::Failed(_)), "{error}");
        self.alive = false;
    }
}

fn observe(wal: &Wal) -> State {
    let found = wal.recovered();
    let entries = match found.first_index {
        Some(first) => wal.read(first..u64::MAX, usize::MAX).expect("reads"),
        None => Vec::new(),
    };
    let number = |bytes: &Bytes| u64::from_le_bytes(bytes[..].try_into().expect("eight bytes"));
    State {
        meta: found.meta.clone(),
        vote: found.vote.clone(),
        committed: found.committed.as_ref().map_or(0, number),
        purged: found.purged,
        entries: entries.into_iter().map(|e| (e.index, (e.term, e.data))).collect(),
    }
}
