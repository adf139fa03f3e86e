//! The files below a directory, as a disk has them at a moment of a trace.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use keepstone_preload::trace::Kind;
use rand::Rng as _;
use rand::rngs::StdRng;

use super::file::{Change, Content, Fate};
use super::trace::Record;

/// What a file system promises about names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// POSIX: a name is durable once its directory is synced; unsynced ones are kept or lost one by one.
    Posix,
    /// ext4, XFS: changes of names get to the disk in order, and every sync brings all that were made before it.
    Journal,
}

type Id = usize;
const ROOT: Id = 0;

/// The names in every directory.
type Tree = BTreeMap<Id, BTreeMap<String, Id>>;

#[derive(Debug)]
enum Node {
    File(Content),
    Dir,
}

/// A change of names: what goes, what comes.
#[derive(Clone, Debug)]
struct Rename {
    when: u64,
    from: Option<(Id, String)>,
    to: Option<(Id, String, Id)>,
}

impl Rename {
    fn concerns(&self, dir: Id) -> bool {
        self.from.as_ref().is_some_and(|(at, _)| *at == dir) || self.to.as_ref().is_some_and(|(at, ..)| *at == dir)
    }
}

/// A disk below one directory.
#[derive(Debug)]
pub struct Disk {
    root: String,
    pub names: Names,
    nodes: Vec<Node>,
    now: Tree,
    durable: Tree,
    pending: Vec<Rename>,
    open: BTreeMap<i32, Id>,
    /// What a sync that has not ended will make durable.
    syncing: BTreeMap<u64, (Id, u64)>,
    /// sync_file_range counts as a sync.
    range_syncs: bool,
    clock: u64,
}

impl Disk {
    /// An empty directory, durable itself.
    pub fn new(root: &str, names: Names, range_syncs: bool) -> Self {
        Self {
            root: root.to_owned(),
            names,
            nodes: vec![Node::Dir],
            now: Tree::from([(ROOT, BTreeMap::new())]),
            durable: Tree::new(),
            pending: Vec::new(),
            open: BTreeMap::new(),
            syncing: BTreeMap::new(),
            range_syncs,
            clock: 0,
        }
    }

    fn dir(&mut self, id: Id) -> Result<&mut BTreeMap<String, Id>> {
        self.now.get_mut(&id).context("a file is used as a directory")
    }

    fn look(&mut self, path: &str) -> Result<Option<Id>> {
        if path == self.root {
            return Ok(Some(ROOT));
        }
        let (dir, name) = self.parent(path)?;
        Ok(self.dir(dir)?.get(&name).copied())
    }

    fn parent(&mut self, path: &str) -> Result<(Id, String)> {
        let below = path.strip_prefix(&self.root).and_then(|path| path.strip_prefix('/'));
        let below = below.with_context(|| format!("{path} is not below {}", self.root))?.to_owned();
        let mut names: Vec<&str> = below.split('/').filter(|name| !name.is_empty()).collect();
        let last = names.pop().context("a path without a name")?;
        let mut at = ROOT;
        for name in names {
            at = *self.dir(at)?.get(name).with_context(|| format!("{path}: no {name}"))?;
        }
        Ok((at, last.to_owned()))
    }

    fn content(&mut self, fd: i32) -> Result<&mut Content> {
        let id = *self.open.get(&fd).with_context(|| format!("descriptor {fd} is not open"))?;
        match &mut self.nodes[id] {
            Node::File(content) => Ok(content),
            Node::Dir => bail!("descriptor {fd} is a directory"),
        }
    }

    fn link(&mut self, path: &str, node: Node) -> Result<Id> {
        let (dir, name) = self.parent(path)?;
        let id = self.nodes.len();
        if matches!(node, Node::Dir) {
            self.now.insert(id, BTreeMap::new());
        }
        self.nodes.push(node);
        self.dir(dir)?.insert(name.clone(), id);
        self.pending.push(Rename { when: self.clock, from: None, to: Some((dir, name, id)) });
        Ok(id)
    }

    /// Carries out the next record.
    ///
    /// # Errors
    /// When it makes no sense, or is of a kind that can't be rebuilt.
    pub fn step(&mut self, record: &Record) -> Result<()> {
        self.clock += 1;
        let (when, head) = (self.clock, record.head);
        match head.kind {
            Kind::Process => self.open.clear(),
            Kind::Open => self.opened(head.fd, head.a as i32, record.path()?)?,
            Kind::Dup => {
                let id = *self.open.get(&head.fd).context("a duplicate of nothing")?;
                self.open.insert(head.a as i32, id);
            }
            Kind::Close => drop(self.open.remove(&head.fd)),
            Kind::Write => {
                let bytes = record.payload.clone();
                self.content(head.fd)?.change(when, Change::Write { at: head.a, bytes });
            }
            Kind::Zero => self.content(head.fd)?.change(when, Change::Zero { at: head.a, len: head.b }),
            Kind::Truncate => self.content(head.fd)?.change(when, Change::Truncate { len: head.a }),
            Kind::Allocate => self.content(head.fd)?.change(when, Change::Extend { len: head.a + head.b }),
            Kind::SyncBegin => {
                let id = *self.open.get(&head.fd).context("a sync of nothing")?;
                self.syncing.insert(head.a, (id, when));
            }
            Kind::SyncEnd => {
                let (id, began) = self.syncing.remove(&head.a).context("a sync that never began")?;
                self.synced(id, began);
            }
            Kind::SyncRange if self.range_syncs => {
                let id = *self.open.get(&head.fd).context("a sync of nothing")?;
                self.synced(id, when);
            }
            Kind::SyncRange => {}
            Kind::Rename => self.rename(record)?,
            Kind::Unlink | Kind::Rmdir => {
                let (dir, name) = self.parent(record.path()?)?;
                self.dir(dir)?.remove(&name).with_context(|| format!("{name} is removed and not there"))?;
                self.pending.push(Rename { when, from: Some((dir, name)), to: None });
            }
            Kind::Mkdir => drop(self.link(record.path()?, Node::Dir)?),
            Kind::Unsupported => bail!("the process used {}, which can't be rebuilt", record.path()?),
        }
        Ok(())
    }

    fn opened(&mut self, fd: i32, flags: i32, path: &str) -> Result<()> {
        let found = self.look(path)?;
        let id = match found {
            Some(id) => id,
            None => self.link(path, Node::File(Content::default()))?,
        };
        self.open.insert(fd, id);
        if found.is_some() && flags & libc::O_TRUNC != 0 {
            let when = self.clock;
            self.content(fd)?.change(when, Change::Truncate { len: 0 });
        }
        Ok(())
    }

    fn rename(&mut self, record: &Record) -> Result<()> {
        let (old, new) = record.paths()?;
        let ((from, old), (to, new)) = (self.parent(old)?, self.parent(new)?);
        let id = self.dir(from)?.remove(&old).with_context(|| format!("{old} is renamed and not there"))?;
        self.dir(to)?.insert(new.clone(), id);
        self.pending.push(Rename { when: self.clock, from: Some((from, old)), to: Some((to, new, id)) });
        Ok(())
    }

    fn synced(&mut self, id: Id, before: u64) {
        if let Node::File(content) = &mut self.nodes[id] {
            content.synced(before);
        }
        let (names, is_dir) = (self.names, matches!(self.nodes[id], Node::Dir));
        let mut left = Vec::new();
        for rename in std::mem::take(&mut self.pending) {
            let done = rename.when < before && (names == Names::Journal || (is_dir && rename.concerns(id)));
            if done {
                apply(&rename, &mut self.durable);
            } else {
                left.push(rename);
            }
        }
        self.pending = left;
    }

    /// Writes the directory as a loss of power now may leave it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn rebuild(&self, root: &Path, fate: Fate, rng: &mut StdRng) -> Result<()> {
        let mut tree = self.durable.clone();
        let kept = match self.names {
            Names::Journal => rng.random_range(0..=self.pending.len()),
            Names::Posix => self.pending.len(),
        };
        for rename in &self.pending[..kept] {
            if self.names == Names::Journal || !rng.random_bool(fate.drop) {
                apply(rename, &mut tree);
            }
        }
        self.write_dir(ROOT, root, &tree, fate, rng)
    }

    fn write_dir(&self, id: Id, path: &Path, tree: &Tree, fate: Fate, rng: &mut StdRng) -> Result<()> {
        std::fs::create_dir_all(path)?;
        for (name, id) in tree.get(&id).into_iter().flatten() {
            match &self.nodes[*id] {
                Node::File(content) => content.rebuild(&path.join(name), fate, rng)?,
                Node::Dir => self.write_dir(*id, &path.join(name), tree, fate, rng)?,
            }
        }
        Ok(())
    }
}

/// Carries a change of names out. A node has one name: where an earlier rename of it was lost, a later one takes it from
/// where it is.
fn apply(rename: &Rename, tree: &mut Tree) {
    if let Some((dir, name)) = &rename.from
        && let Some(names) = tree.get_mut(dir)
    {
        names.remove(name);
    }
    if let Some((dir, name, id)) = &rename.to {
        tree.values_mut().for_each(|names| names.retain(|_, at| at != id));
        tree.entry(*dir).or_default().insert(name.clone(), *id);
    }
}
