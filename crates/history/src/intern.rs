//! Paths and values as small numbers: a history names the same few thousands of times.
//!
//! A [`Path`] knows its parent, so that the tree needs no text; a [`Table`] has one entry per path and grows by itself.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

/// A hash that costs little; nothing here comes from an adversary.
#[derive(Default)]
pub(crate) struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.write_u64(u64::from_le_bytes(word));
        }
        self.write_u64(bytes.len() as u64);
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn write_i64(&mut self, word: i64) {
        self.write_u64(word as u64);
    }
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// A map that hashes with [`Quick`]. Never iterated where order could show.
pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;

/// A path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Path(u32);

/// A node's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Text(u32);

#[derive(Debug, Default)]
struct Strings {
    numbers: Map<Rc<str>, u32>,
    all: Vec<Rc<str>>,
}

impl Strings {
    fn number(&mut self, text: &str) -> (u32, bool) {
        if let Some(number) = self.numbers.get(text) {
            return (*number, false);
        }
        let number = self.all.len() as u32;
        let text: Rc<str> = text.into();
        self.all.push(text.clone());
        self.numbers.insert(text, number);
        (number, true)
    }

    fn text(&self, number: u32) -> &str {
        self.all.get(number as usize).map_or("", |text| text)
    }
}

/// All paths and values of a history.
#[derive(Debug)]
pub(crate) struct Names {
    paths: Strings,
    parents: Vec<Path>,
    texts: Strings,
    scratch: String,
}

impl Names {
    pub(crate) const ROOT: Path = Path(0);

    pub(crate) fn new() -> Self {
        let mut new = Self {
            paths: Strings::default(),
            parents: Vec::new(),
            texts: Strings::default(),
            scratch: String::new(),
        };
        new.path("/");
        new
    }

    /// The path with this text. Everything above it gets a number too.
    pub(crate) fn path(&mut self, text: &str) -> Path {
        let (number, fresh) = self.paths.number(text);
        if fresh {
            self.parents.push(Self::ROOT);
            if let Some(slash) = text.rfind('/').filter(|_| number > 0) {
                let parent = self.path(text.get(..slash.max(1)).unwrap_or("/"));
                if let Some(entry) = self.parents.get_mut(number as usize) {
                    *entry = parent;
                }
            }
        }
        Path(number)
    }

    /// The child of this name.
    pub(crate) fn child(&mut self, parent: Path, name: &str) -> Path {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.push_str(self.text(parent));
        if parent != Self::ROOT {
            scratch.push('/');
        }
        scratch.push_str(name);
        let child = self.path(&scratch);
        self.scratch = scratch;
        child
    }

    /// The root's is the root.
    pub(crate) fn parent(&self, path: Path) -> Path {
        self.parents.get(path.0 as usize).copied().unwrap_or(Self::ROOT)
    }

    pub(crate) fn text(&self, path: Path) -> &str {
        self.paths.text(path.0)
    }

    /// A node's content as a number.
    pub(crate) fn content(&mut self, text: &str) -> Text {
        Text(self.texts.number(text).0)
    }

    pub(crate) fn content_of(&self, text: Text) -> &str {
        self.texts.text(text.0)
    }
}

/// The number at the end of a sequential node's name.
pub(crate) fn suffix_of(path: &str) -> Option<i64> {
    let at = path.len().checked_sub(10)?;
    path.get(at..)?.parse().ok().filter(|number: &i64| *number >= 0)
}

/// One `T` per path.
#[derive(Debug, Default)]
pub(crate) struct Table<T> {
    all: Vec<T>,
    none: T,
}

impl<T: Default> Table<T> {
    pub(crate) fn at(&self, path: Path) -> &T {
        self.all.get(path.0 as usize).unwrap_or(&self.none)
    }

    pub(crate) fn at_mut(&mut self, path: Path) -> &mut T {
        let index = path.0 as usize;
        if index >= self.all.len() {
            self.all.resize_with(index + 1, T::default);
        }
        self.all.get_mut(index).unwrap_or(&mut self.none)
    }
}
