//! The checkers, one file each, and what they have in common.
//!
//! ```text
//!  History ─► Facts (calls, sessions, known zxids) ─┬─► C1 C3 C5 C6 C11 C14 …    order, numbers, times
//!                                                   └─► replay in zxid order ─┬─► C1 C4 C6 C7 C9   what the model says
//!                                                                             └─► C8               changes, by zxid
//! ```
//!
//! A checker is sound: what the history leaves open is not held against the service, it is counted as skipped. A checker
//! that judged nothing says so in its [`Tally`], and reports print that.

mod c01_linearizable_writes;
mod c02_lost_writes;
mod c03_session_order;
mod c04_real_states;
mod c05_sync;
mod c06_sequential;
mod c07_sessions;
mod c08_watches;
mod c11_recipes;
mod c14_liveness;

use crate::facts::Facts;
use crate::record::History;
use crate::replay::Replay;
use crate::resolve::resolve;
use std::collections::BTreeMap;

/// Something that a coordination service must not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `C1` … `C14`, or `format` when the record itself is broken.
    pub checker: &'static str,
    /// What is wrong, in plain words.
    pub text: String,
    /// Indices of the events that show it.
    pub events: Vec<usize>,
}

/// How much a checker judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations, reads, events, sessions (see the checker) that were judged.
    pub judged: u64,
    /// Those that the history left open.
    pub skipped: u64,
}

/// What a check found, and how much it looked at.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// In the order of the checkers.
    pub findings: Vec<Finding>,
    /// Per checker.
    pub coverage: BTreeMap<&'static str, Tally>,
    /// Times that a client took the lock of C11 while another, paused or cut off, still believed to hold it: expected,
    /// and harmless to work that is fenced.
    pub overlaps: u64,
}

/// More findings than this of one checker are not listed: they have the same cause.
const MOST: usize = 20;

/// Where checkers leave what they find.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    checked: Checked,
}

impl Sink {
    pub(crate) fn find(&mut self, checker: &'static str, text: String, mut events: Vec<usize>) {
        events.sort_unstable();
        events.dedup();
        let before = self.checked.findings.iter().filter(|finding| finding.checker == checker).count();
        if before < MOST {
            self.checked.findings.push(Finding { checker, text, events });
        }
    }

    pub(crate) fn tally(&mut self, checker: &'static str) -> &mut Tally {
        self.checked.coverage.entry(checker).or_default()
    }

    pub(crate) fn judged(&mut self, checker: &'static str) {
        self.tally(checker).judged += 1;
    }

    pub(crate) fn skipped(&mut self, checker: &'static str) {
        self.tally(checker).skipped += 1;
    }
}

/// Judges a history. Empty: nothing was found that a coordination service must not show.
#[must_use]
pub fn check(history: &History) -> Vec<Finding> {
    check_all(history).findings
}

/// Judges a history and says how much was judged.
#[must_use]
pub fn check_all(history: &History) -> Checked {
    let mut sink = Sink::default();
    let facts = Facts::of(history, &mut sink);
    c01_linearizable_writes::check(&facts, &mut sink);
    c03_session_order::check(&facts, &mut sink);
    let resolved = resolve(&facts, &mut sink);
    let ends = resolved.ends();
    let mut replayed = Replay::run(&facts, resolved, &mut sink);
    c02_lost_writes::check(&facts, &mut sink);
    c04_real_states::check(&facts, &mut replayed, &mut sink);
    c05_sync::check(&facts, &mut sink);
    c06_sequential::check(&facts, &mut sink);
    c07_sessions::check(&facts, &ends, &mut sink);
    c08_watches::check(&facts, &mut replayed, &mut sink);
    c11_recipes::check(&facts, &mut sink);
    c14_liveness::check(&facts, &mut sink);
    sink.checked
}
