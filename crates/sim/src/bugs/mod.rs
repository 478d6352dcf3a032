//! The bug bank: rules of the protocols, switched off one at a time, that the simulator must find.
//!
//! A checker that never fails proves nothing, and a fault that is never drawn tests nothing. So each rule of
//! [`replog::mutant::ALL`] is broken on purpose, and the same runs that are clean without it must show it:
//!
//! ```text
//!   mutant ─► hunt: seeds on its grounds, in order, until a run fails ─► the same run, mutant off, must pass
//!                                              │
//!                                              └─► bugs.toml: (ground, backend, seed), run again by every CI
//! ```
//!
//! One mutant is on in the whole process, so mutants are hunted one after another, their seeds in parallel. The number
//! printed is the number of runs that a fresh search needs: how long a real mistake of this kind would stay unseen.

mod bank;
mod command;
mod ground;
mod hunt;

pub use bank::{Bank, Entry};
pub use command::Command;
pub use ground::{Ground, Trial};
pub use hunt::{Found, Hunt, Outcome, clean, hunt, verify};

use crate::Backend;
use replog::mutant::{ALL, Description};

/// A mutant as the bank sees it.
#[derive(Clone, Copy, Debug)]
pub struct Bug(pub &'static Description);

impl Bug {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.iter().map(Self)
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|b| b.0.name == name)
    }

    /// The backends on which it can show.
    #[must_use]
    pub fn backends(self) -> Vec<Backend> {
        Backend::ALL.into_iter().filter(|b| self.0.backends.contains(&b.name())).collect()
    }

    /// Where it is hunted.
    #[must_use]
    pub fn grounds(self) -> Vec<Ground> {
        vec![Ground::Suite, Ground::Storm, Ground::Cores]
    }
}

/// Switches one mutant on, or all off.
pub(crate) fn select(bug: Option<Bug>) {
    replog::mutant::select(bug.map(|b| b.0.mutant));
}
