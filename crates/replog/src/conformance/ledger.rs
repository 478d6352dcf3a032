//! What was chosen, by index; every apply of every node is compared with it.

use crate::{Body, Entry, Index, LogId, Phase};
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// The modelled state machine: a rolling hash of what was applied. Equal hash at equal index means equal history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// Last entry applied.
    pub last: LogId,
    /// Commands among them.
    pub commands: u64,
    /// Hash of all bodies in order.
    pub hash: u64,
}

impl State {
    /// Applies one entry.
    ///
    /// # Panics
    /// If it is not the next one.
    pub fn apply(&mut self, entry: &Entry) {
        assert_eq!(entry.id.index, self.last.index.next(), "applied out of order");
        let mut hasher = DefaultHasher::new();
        (self.hash, &entry.body, entry.id).hash(&mut hasher);
        self.hash = hasher.finish();
        self.last = entry.id;
        self.commands += u64::from(matches!(entry.body, Body::Command(_)));
    }
}

/// The history that the first replica to apply an index laid down.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    chosen: BTreeMap<Index, (Entry, State)>,
}

impl Ledger {
    /// `state` is what a replica holds after it applied `entry`.
    ///
    /// # Errors
    /// The two histories, when another replica applied something else there.
    pub fn check(&mut self, entry: &Entry, state: &State) -> Result<(), String> {
        // The ballot is where it was last accepted, not what was chosen.
        let (first, at) = self.chosen.entry(entry.id.index).or_insert_with(|| (entry.clone(), *state));
        if (&first.body, first.id) != (&entry.body, entry.id) {
            return Err(format!("agreement: {} is {first:?} elsewhere, {entry:?} here", entry.id.index));
        }
        if at != state {
            return Err(format!(
                "prefix: after {} the state is {at:?} elsewhere, {state:?} here",
                entry.id.index
            ));
        }
        Ok(())
    }

    /// A snapshot is installed or loaded.
    ///
    /// # Errors
    /// When it is not the state that was applied at its index.
    pub fn check_snapshot(&self, state: &State) -> Result<(), String> {
        match self.chosen.get(&state.last.index) {
            Some((_, at)) if at == state => Ok(()),
            other => Err(format!("snapshot {state:?} is not what was applied: {other:?}")),
        }
    }

    /// Highest index applied anywhere.
    #[must_use]
    pub fn top(&self) -> Index {
        self.chosen.keys().next_back().copied().unwrap_or(Index::ZERO)
    }

    /// The chosen entries, ascending.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.chosen.values().map(|(e, _)| e)
    }
}

/// Exact costs of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages handed to links, by kind.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Messages handed to links, by phase.
    pub by_phase: BTreeMap<Phase, u64>,
    /// Entry bytes that rode along, by phase.
    pub entry_bytes: BTreeMap<Phase, u64>,
    /// Ignored inputs by reason.
    pub ignored: BTreeMap<&'static str, u64>,
    /// Snapshot transfers begun.
    pub snapshots_sent: u64,
    /// Snapshots installed.
    pub installs: u64,
    /// Reigns that reached Broadcast.
    pub reigns: u64,
}

impl Counters {
    /// All messages.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.by_kind.values().sum()
    }
}
