//! What clients saw, and whether a coordination service may show it.
//!
//! A [`History`] is a list of [`Event`]s in the order of one clock: what was asked, what was answered, which watch
//! events came, when sessions began, moved and ended. The simulator, the live fault runner and a recorder in front of
//! any ZooKeeper-compatible service write the same records, so the same checkers judge all of them, offline.
//!
//! Nothing here knows a consensus protocol, or the implementation of the tree: a checker that shared code with what it
//! checks would share its mistakes.

mod check;
mod correct;
mod doubt;
mod facts;
mod intern;
pub mod jsonl;
mod model;
pub mod recipe;
mod record;
mod register;
mod replay;
mod report;
mod resolve;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod timeline;
#[cfg(feature = "wire")]
pub mod wire;

pub use check::{Checked, Finding, Tally, check, check_all};
pub use record::{
    CreateMode, Event, EventKind, FORMAT, Header, History, Op, Outcome, Reply, Stat, WatchMode, What,
};
pub use register::{Registers, registers};
pub use report::{ENOUGH_PER_SECOND, PhaseRate, rates, report, tell};
pub use timeline::timeline_html;
