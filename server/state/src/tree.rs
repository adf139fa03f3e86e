//! An ordered map from byte keys that also knows how many keys stand in any range.
//!
//! A B+-tree: entries live in leaves, branches hold copies of separating keys and the number of entries below
//! each child. So `count` of a range costs two descents, never a walk. Leaves grow by a few entries at a time
//! instead of doubling, which keeps a million 8-byte keys with 24-byte values near 70 bytes a key.
//!
//! It never allocates on a read except the iterator's path, and never calls back into its owner while it is
//! being changed other than through the closure of [`Tree::upsert`].

use std::ops::Bound;

use crate::sorted::{Entry, Sorted};

/// Entries in a leaf and children in a branch, at most.
const FULL: usize = 64;
/// Below this a node is joined with a neighbour or filled up from it.
const SPARSE: usize = FULL / 4;

/// An ordered map with subtree counts. See the module's head.
#[derive(Clone, Debug)]
pub struct Tree<V> {
    root: Node<V>,
}

#[derive(Clone, Debug)]
enum Node<V> {
    Leaf(Sorted<V>),
    Branch(Box<Branch<V>>),
}

/// The separator at `i` is a lower bound of everything in `children[i + 1]` and above everything in `children[i]`.
#[derive(Clone, Debug)]
struct Branch<V> {
    separators: Sorted<()>,
    counts: Vec<usize>,
    children: Vec<Node<V>>,
}

/// A node that was cut off the right side of a full one, and its lower bound.
struct Split<V> {
    separator: Box<[u8]>,
    right: Node<V>,
}

impl<V> Default for Tree<V> {
    fn default() -> Self {
        Self { root: Node::Leaf(Sorted::default()) }
    }
}

impl<V> Tree<V> {
    /// How many keys there are. Constant time, up to the root's children.
    pub fn len(&self) -> usize {
        self.root.count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.get(key),
                Node::Branch(branch) => node = &branch.children[branch.child_of(key)],
            }
        }
    }

    /// Sets `key` to what `next` makes of its present value, and returns that present value. The key is copied
    /// only if it is new. One descent.
    pub fn upsert(&mut self, key: &[u8], next: impl FnOnce(Option<&V>) -> V) -> Option<V> {
        let (old, split) = self.root.upsert(key, next);
        if let Some(split) = split {
            let left = std::mem::replace(&mut self.root, Node::Leaf(Sorted::default()));
            self.root = Node::Branch(Box::new(Branch {
                counts: vec![left.count(), split.right.count()],
                separators: Sorted::one(split.separator, ()),
                children: vec![left, split.right],
            }));
        }
        old
    }

    /// Sets `key` to `value`, and returns what was there before.
    pub fn insert(&mut self, key: &[u8], value: V) -> Option<V> {
        self.upsert(key, |_| value)
    }

    /// Takes `key` out and hands over the tree's own copy of it.
    pub fn remove(&mut self, key: &[u8]) -> Option<(Box<[u8]>, V)> {
        let removed = self.root.remove(key)?;
        if let Node::Branch(branch) = &mut self.root
            && branch.children.len() == 1
            && let Some(only) = branch.children.pop()
        {
            self.root = only;
        }
        Some(removed)
    }

    /// How many keys are smaller than `key`. O(log n).
    pub fn rank(&self, key: &[u8]) -> usize {
        let mut node = &self.root;
        let mut before = 0;
        loop {
            match node {
                Node::Leaf(leaf) => return before + leaf.find(key).unwrap_or_else(|at| at),
                Node::Branch(branch) => {
                    let child = branch.child_of(key);
                    before += branch.counts[..child].iter().sum::<usize>();
                    node = &branch.children[child];
                }
            }
        }
    }

    /// How many keys are in `[start, end)`; `None` is "to the last key". O(log n).
    pub fn count(&self, start: &[u8], end: Option<&[u8]>) -> usize {
        let upto = end.map_or_else(|| self.len(), |end| self.rank(end));
        upto.saturating_sub(self.rank(start))
    }

    /// Entries in key order, from `start` on.
    pub fn iter_from(&self, start: Bound<&[u8]>) -> Iter<'_, V> {
        Iter::new(&self.root, start)
    }

    /// All entries in key order.
    pub fn iter(&self) -> Iter<'_, V> {
        self.iter_from(Bound::Unbounded)
    }
}

/// Where to cut a full node that gets a new element at `at`: keys that arrive in ascending order leave
/// full nodes behind instead of half empty ones.
fn cut(len: usize, at: usize) -> usize {
    if at + 1 >= len { len - 1 } else { len / 2 }
}

impl<V> Node<V> {
    fn count(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.len(),
            Self::Branch(branch) => branch.counts.iter().sum(),
        }
    }

    /// Entries of a leaf, children of a branch.
    fn width(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.len(),
            Self::Branch(branch) => branch.children.len(),
        }
    }

    fn upsert(&mut self, key: &[u8], next: impl FnOnce(Option<&V>) -> V) -> (Option<V>, Option<Split<V>>) {
        match self {
            Self::Leaf(leaf) => match leaf.find(key) {
                Ok(at) => {
                    let present = leaf.value_mut(at);
                    let value = next(Some(present));
                    (Some(std::mem::replace(present, value)), None)
                }
                Err(at) => {
                    leaf.insert(at, key.into(), next(None));
                    (None, cut_leaf(leaf, at))
                }
            },
            Self::Branch(branch) => {
                let child = branch.child_of(key);
                let (old, split) = branch.children[child].upsert(key, next);
                if old.is_none() {
                    branch.counts[child] += 1;
                }
                (old, split.and_then(|split| branch.adopt(child, split)))
            }
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<Entry<V>> {
        match self {
            Self::Leaf(leaf) => {
                let at = leaf.find(key).ok()?;
                Some(leaf.remove(at))
            }
            Self::Branch(branch) => {
                let child = branch.child_of(key);
                let entry = branch.children[child].remove(key)?;
                branch.counts[child] -= 1;
                if branch.children[child].width() < SPARSE && branch.children.len() > 1 {
                    branch.mend(child);
                }
                Some(entry)
            }
        }
    }
}

/// Cuts a leaf that has grown too wide by an entry at `at`.
fn cut_leaf<V>(leaf: &mut Sorted<V>, at: usize) -> Option<Split<V>> {
    (leaf.len() > FULL).then(|| {
        let right = leaf.split_off(cut(leaf.len(), at));
        Split::leaf(right)
    })
}

impl<V> Split<V> {
    fn leaf(right: Sorted<V>) -> Self {
        let separator = right.entries()[0].0.clone();
        Self { separator, right: Node::Leaf(right) }
    }
}

impl<V> Branch<V> {
    /// Which child `key` belongs to.
    fn child_of(&self, key: &[u8]) -> usize {
        match self.separators.find(key) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    /// Takes in what was cut off `children[child]`; cuts itself if that makes it too wide.
    fn adopt(&mut self, child: usize, split: Split<V>) -> Option<Split<V>> {
        let moved = split.right.count();
        self.counts[child] -= moved;
        self.counts.insert(child + 1, moved);
        self.separators.insert(child, split.separator, ());
        self.children.insert(child + 1, split.right);
        if self.children.len() <= FULL {
            return None;
        }
        // The cut leaves at least two children on either side.
        let at = cut(self.children.len(), child + 1).min(self.children.len() - 2);
        Some(self.cut_off(at))
    }

    /// Cuts off the children from `at` on, of which there are some on either side.
    fn cut_off(&mut self, at: usize) -> Split<V> {
        let right = Self {
            children: self.children.split_off(at),
            counts: self.counts.split_off(at),
            separators: self.separators.split_off(at),
        };
        let (separator, ()) = self.separators.pop().expect("there is one between the two halves");
        Split { separator, right: Node::Branch(Box::new(right)) }
    }

    /// Joins a sparse child with a neighbour, or levels the two if they don't fit in one node.
    fn mend(&mut self, child: usize) {
        let left = if child + 1 < self.children.len() { child } else { child - 1 };
        let (separator, ()) = self.separators.remove(left);
        let mut right = self.children.remove(left + 1);
        let moved = self.counts.remove(left + 1);
        self.counts[left] += moved;
        let fits = self.children[left].width() + right.width() <= FULL;
        let split = match (&mut self.children[left], &mut right) {
            (Node::Leaf(a), Node::Leaf(b)) => {
                a.append(b);
                (!fits).then(|| Split::leaf(a.split_off(a.len() / 2)))
            }
            (Node::Branch(a), Node::Branch(b)) => {
                a.separators.insert(a.separators.len(), separator, ());
                a.separators.append(&mut b.separators);
                a.counts.append(&mut b.counts);
                a.children.append(&mut b.children);
                (!fits).then(|| a.cut_off(a.children.len() / 2))
            }
            _ => unreachable!("all leaves of the tree have the same depth"),
        };
        if let Some(split) = split {
            self.restore(left, split);
        }
    }

    /// Puts back the right one of two levelled children.
    fn restore(&mut self, left: usize, split: Split<V>) {
        let moved = split.right.count();
        self.counts[left] -= moved;
        self.counts.insert(left + 1, moved);
        self.separators.insert(left, split.separator, ());
        self.children.insert(left + 1, split.right);
    }
}

/// Entries in key order. Holds the path from the root.
#[derive(Debug)]
pub struct Iter<'a, V> {
    path: Vec<std::slice::Iter<'a, Node<V>>>,
    leaf: std::slice::Iter<'a, Entry<V>>,
}

impl<'a, V> Iter<'a, V> {
    fn new(root: &'a Node<V>, start: Bound<&[u8]>) -> Self {
        let mut path = Vec::new();
        let mut node = root;
        loop {
            match node {
                Node::Branch(branch) => {
                    let child = match start {
                        Bound::Unbounded => 0,
                        Bound::Included(key) | Bound::Excluded(key) => branch.child_of(key),
                    };
                    path.push(branch.children[child + 1..].iter());
                    node = &branch.children[child];
                }
                Node::Leaf(leaf) => {
                    let at = match start {
                        Bound::Unbounded => 0,
                        Bound::Included(key) => leaf.find(key).unwrap_or_else(|at| at),
                        Bound::Excluded(key) => leaf.find(key).map_or_else(|at| at, |at| at + 1),
                    };
                    return Self { path, leaf: leaf.entries()[at..].iter() };
                }
            }
        }
    }
}

impl<'a, V> Iterator for Iter<'a, V> {
    type Item = (&'a [u8], &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.leaf.next() {
                return Some((key, value));
            }
            let mut node = loop {
                match self.path.last_mut()?.next() {
                    Some(node) => break node,
                    None => self.path.pop(),
                };
            };
            loop {
                match node {
                    Node::Leaf(leaf) => {
                        self.leaf = leaf.entries().iter();
                        break;
                    }
                    Node::Branch(branch) => {
                        let mut children = branch.children.iter();
                        node = children.next().expect("a branch has children");
                        self.path.push(children);
                    }
                }
            }
        }
    }
}

/// Equal if they hold the same entries, however they are laid out.
impl<V: PartialEq> PartialEq for Tree<V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Panics unless counts, widths, depths and separators are what the module's head says.
    fn check(node: &Node<u32>, low: Option<&[u8]>, high: Option<&[u8]>, root: bool) -> usize {
        match node {
            Node::Leaf(leaf) => {
                assert!(leaf.len() <= FULL);
                leaf.check();
                for (key, _) in leaf.entries() {
                    assert!(low.is_none_or(|low| low <= &**key) && high.is_none_or(|high| &**key < high));
                }
                1
            }
            Node::Branch(branch) => {
                assert!(branch.children.len() <= FULL && branch.children.len() >= 2 || !root);
                assert_eq!(branch.children.len(), branch.separators.len() + 1);
                branch.separators.check();
                let separator = |at: usize| branch.separators.entries().get(at).map(|(key, ())| &**key);
                assert_eq!(branch.children.len(), branch.counts.len());
                let mut depths = Vec::new();
                for (i, child) in branch.children.iter().enumerate() {
                    assert_eq!(child.count(), branch.counts[i]);
                    let low = if i == 0 { low } else { separator(i - 1) };
                    let high = separator(i).or(high);
                    depths.push(check(child, low, high, false));
                }
                assert!(depths.iter().all(|d| *d == depths[0]));
                depths[0] + 1
            }
        }
    }

    fn key(n: u32) -> [u8; 4] {
        n.to_be_bytes()
    }

    #[test]
    fn ascending_keys_leave_full_leaves() {
        let mut tree = Tree::default();
        for n in 0..100_000_u32 {
            assert_eq!(tree.insert(&key(n), n), None);
        }
        let depth = check(&tree.root, None, None, true);
        assert!(depth <= 4, "depth {depth}");
        assert_eq!(tree.count(&key(500), Some(&key(90_500))), 90_000);
        for n in 0..100_000 {
            assert_eq!(tree.remove(&key(n)), Some((key(n).into(), n)));
            if n % 7_919 == 0 {
                check(&tree.root, None, None, true);
            }
        }
        assert!(tree.is_empty());
    }

    #[test]
    fn descending_and_scattered_keys_keep_the_shape() {
        let mut tree = Tree::default();
        for n in (0..20_000_u32).rev() {
            tree.insert(&key(n), n);
        }
        check(&tree.root, None, None, true);
        for n in 0..20_000_u32 {
            let n = n.wrapping_mul(7_919) % 20_000;
            assert_eq!(tree.remove(&key(n)), Some((key(n).into(), n)));
        }
        assert!(tree.is_empty());
        check(&tree.root, None, None, true);
    }

    #[test]
    fn count_of_an_inverted_range_is_zero() {
        let mut tree = Tree::default();
        tree.insert(b"a", 1_u32);
        tree.insert(b"b", 1);
        assert_eq!(tree.count(b"b", Some(b"a")), 0);
        assert_eq!(tree.count(b"", None), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn behaves_like_a_btreemap(ops in proptest::collection::vec((0..4_u8, 0..2_000_u32, 1..200_u32), 1..400)) {
            let mut tree = Tree::default();
            let mut model = BTreeMap::new();
            for (op, from, len) in ops {
                for n in from..from + len {
                    let scattered = n.wrapping_mul(2_654_435_761) % 2_200;
                    let n = if op % 2 == 0 { n } else { scattered };
                    if op < 2 {
                        prop_assert_eq!(tree.insert(&key(n), n), model.insert(key(n), n));
                    } else {
                        prop_assert_eq!(tree.remove(&key(n)).map(|(_, v)| v), model.remove(&key(n)));
                    }
                }
                let (a, b) = (key(from), key(from + len));
                prop_assert_eq!(tree.len(), model.len());
                prop_assert_eq!(tree.count(&a, Some(&b)), model.range(a..b).count());
                prop_assert_eq!(tree.count(&a, None), model.range(a..).count());
                prop_assert_eq!(tree.get(&a), model.get(&a));
                let next = tree.iter_from(Bound::Excluded(&a)).next().map(|(k, v)| (k.to_vec(), *v));
                let expected = model.range((Bound::Excluded(a), Bound::Unbounded)).next().map(|(k, v)| (k.to_vec(), *v));
                prop_assert_eq!(next, expected);
            }
            check(&tree.root, None, None, true);
            let all: Vec<_> = tree.iter().map(|(k, v)| (k.to_vec(), *v)).collect();
            let expected: Vec<_> = model.iter().map(|(k, v)| (k.to_vec(), *v)).collect();
            prop_assert_eq!(all, expected);
        }
    }
}
