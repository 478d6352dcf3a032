//! What of the believed tree may be otherwise, and why.
//!
//! Each path has two facets: itself (existence, versions, content) and its children (cversion, pzxid, their number).
//! A facet is certain once an answer has shown it, or a certain command has made it; from then on, it is in doubt while an
//! operation that may have touched it may have happened unseen.
//!
//! ```text
//!  never seen ─── answer shows it ───► certain ◄── answer at zxid ≥ high − 1 shows it ──┐
//!                                         └───── a suspect's window (low, high) opens ──► in doubt
//! ```

use crate::intern::{Map, Path, Table};
use crate::model::{DOUBT_KIDS, DOUBT_SELF};
use crate::resolve::{Hidden, Suspect};

/// One facet.
#[derive(Debug, Default)]
pub(crate) struct Facet {
    certain: bool,
    /// Whether anything has been said of it at all.
    touched: bool,
    /// Indices of open suspects.
    suspects: Vec<usize>,
}

/// All facets, and the suspects.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    facets: [Table<Facet>; 2],
    suspects: Vec<Suspect>,
    over: Vec<bool>,
    ends: Map<i64, usize>,
    /// Nodes made in this history, with nothing unseen below them ever since: what was not made there is not there.
    pure: Table<bool>,
}

impl Doubts {
    /// A node was made, by a certain command.
    pub(crate) fn born(&mut self, path: Path) {
        *self.pure.at_mut(path) = self.of(path, DOUBT_KIDS) == 0;
    }

    /// If nobody ever spoke of this path and all below its parent is known, it is certain that there is nothing.
    pub(crate) fn settle(&mut self, path: Path, parent: Path) {
        let unseen = self.facets.first().is_some_and(|table| !table.at(path).touched);
        if unseen && *self.pure.at(parent) {
            self.shown(path, DOUBT_SELF | DOUBT_KIDS, 0);
        }
    }

    pub(crate) fn new(suspects: Vec<Suspect>) -> Self {
        let over = vec![false; suspects.len()];
        let ends = suspects.iter().enumerate().filter_map(|(at, suspect)| match suspect.what {
            Hidden::End(session) => Some((session, at)),
            Hidden::Call(_) => None,
        });
        let ends = ends.collect();
        Self { facets: <[Table<Facet>; 2]>::default(), suspects, over, ends, pure: Table::default() }
    }

    fn tables(bits: u8) -> impl Iterator<Item = usize> {
        [DOUBT_SELF, DOUBT_KIDS]
            .into_iter()
            .enumerate()
            .filter(move |(_, bit)| bits & bit != 0)
            .map(|(at, _)| at)
    }

    /// Which of these facets are in doubt.
    pub(crate) fn of(&self, path: Path, bits: u8) -> u8 {
        let mut found = 0;
        for table in Self::tables(bits) {
            let Some(facet) = self.facets.get(table).map(|table| table.at(path)) else { continue };
            if !facet.certain || facet.suspects.iter().any(|at| self.is_open(*at)) {
                found |= 1 << table;
            }
        }
        found
    }

    fn is_open(&self, at: usize) -> bool {
        !self.over.get(at).copied().unwrap_or(true)
    }

    /// Whether the node itself can only have gone because this session ended.
    pub(crate) fn only_by_end(&self, path: Path, session: i64) -> bool {
        let Some(facet) = self.facets.first().map(|table| table.at(path)) else { return false };
        let mut open = facet.suspects.iter().filter(|at| self.is_open(**at)).peekable();
        let end = Some(Hidden::End(session));
        facet.certain && open.peek().is_some() && open.all(|at| self.suspects.get(*at).map(|s| s.what) == end)
    }

    /// An open suspect may have touched these facets from now on.
    pub(crate) fn suspect(&mut self, at: usize, path: Path, bits: u8) {
        if bits & DOUBT_KIDS != 0 {
            *self.pure.at_mut(path) = false;
        }
        for table in Self::tables(bits) {
            let Some(facet) = self.facets.get_mut(table).map(|table| table.at_mut(path)) else { continue };
            facet.touched = true;
            if !facet.suspects.contains(&at) {
                facet.suspects.push(at);
            }
        }
    }

    /// An answer at `zxid` has shown these facets.
    pub(crate) fn shown(&mut self, path: Path, bits: u8, zxid: i64) {
        for table in Self::tables(bits) {
            let Some(facet) = self.facets.get_mut(table).map(|table| table.at_mut(path)) else { continue };
            (facet.certain, facet.touched) = (true, true);
            if !facet.suspects.is_empty() {
                let (over, suspects) = (&self.over, &self.suspects);
                facet.suspects.retain(|at| {
                    !over.get(*at).copied().unwrap_or(true)
                        && suspects.get(*at).is_some_and(|suspect| suspect.high > zxid.saturating_add(1))
                });
            }
        }
    }

    /// These facets were touched in a way that is not known in full.
    pub(crate) fn lose(&mut self, path: Path, bits: u8) {
        if bits & DOUBT_KIDS != 0 {
            *self.pure.at_mut(path) = false;
        }
        for table in Self::tables(bits) {
            if let Some(table) = self.facets.get_mut(table) {
                let facet = table.at_mut(path);
                (facet.certain, facet.touched) = (false, true);
            }
        }
    }

    pub(crate) fn suspects(&self) -> &[Suspect] {
        &self.suspects
    }

    /// The end of this session, while it is not known when it was.
    pub(crate) fn end_of(&self, session: i64) -> Option<usize> {
        self.ends.get(&session).copied().filter(|at| self.is_open(*at))
    }

    /// It is known what became of this suspect.
    pub(crate) fn close(&mut self, at: usize) {
        if let Some(over) = self.over.get_mut(at) {
            *over = true;
        }
    }
}
