//! The bug bank: rules of the protocols, switched off one at a time, that the simulator must find.
//!
//! A checker that never fails proves nothing, and a fault that is never drawn tests nothing. So each rule of
//! [`replog::mutant::ALL`] and [`znode::mutant::ALL`] is broken on purpose, and the same runs that are clean without it must show it:
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
mod disks;
mod ground;
mod hunt;
mod plays;
mod small;
mod states;

pub use bank::{Bank, Entry};
pub use command::Command;
pub use ground::{Ground, Trial};
pub use hunt::{Found, Hunt, Outcome, clean, hunt, verify};
pub use plays::Play;

use crate::Backend;
use replog::mutant as rules;
use znode::mutant as state_rules;

/// A mutant as the bank sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug {
    /// Its name, as in the code.
    pub name: &'static str,
    /// The crate that holds the guard.
    pub krate: &'static str,
    /// The rule that it breaks.
    pub rule: &'static str,
    /// Where the rule is from.
    pub source: &'static str,
    switch: Switch,
}

/// How it is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    Rule(rules::Mutant, &'static [&'static str]),
    StateRule(state_rules::Mutant),
}

impl Bug {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let known = rules::ALL.iter().map(|d| Self {
            name: d.name,
            krate: d.krate,
            rule: d.rule,
            source: d.source,
            switch: Switch::Rule(d.mutant, d.backends),
        });
        known.chain(state_rules::ALL.iter().map(|&(mutant, name, rule, source)| Self {
            name,
            krate: "znode",
            rule,
            source,
            switch: Switch::StateRule(mutant),
        }))
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|b| b.name == name)
    }

    /// The backends on which it can show.
    #[must_use]
    pub fn backends(self) -> Vec<Backend> {
        Backend::ALL
            .into_iter()
            .filter(|b| match self.switch {
                Switch::Rule(_, backends) => backends.contains(&b.name()),
                Switch::StateRule(state_rules::Mutant::ZxidByRound) => *b == Backend::Paxos,
                Switch::StateRule(_) => true,
            })
            .collect()
    }

    /// Where it is hunted.
    #[must_use]
    pub fn grounds(self) -> Vec<Ground> {
        match self.krate {
            "wal" => vec![Ground::Disk],
            "server" | "znode" => {
                let worlds = self.worlds().iter().chain(&["row-38", "swarm"]);
                let worlds = worlds.map(|name| Ground::World((*name).to_owned()));
                worlds.chain(self.is_of_the_log().then_some(Ground::States)).collect()
            }
            _ => {
                let plays = self.plays().iter().map(|p| Ground::Play(p.name().to_owned()));
                let worlds = self.worlds().iter().map(|name| Ground::World((*name).to_owned()));
                plays.chain([Ground::Suite, Ground::Storm, Ground::Cores]).chain(worlds).collect()
            }
        }
    }

    /// Rules about logs that the faults of a run seldom bring about.
    fn is_of_the_log(self) -> bool {
        matches!(self.name, "GapExecuted" | "RepeatExecuted" | "EndedReignDecides" | "ZxidByRound")
    }

    /// Rows of the fault matrix, with whole servers, that break the rule more often than others do.
    fn worlds(self) -> &'static [&'static str] {
        match self.name {
            "VoteBeforeDurable"
            | "VoteForgotten"
            | "PromiseForgotten"
            | "PromiseUngated"
            | "PromiseBeforeDurable" => &["row-21", "row-23"],
            "UnsyncedCount" | "PromiseCountsForAll" => &["row-12", "row-8", "row-14"],
            "StalledLeaderExpires" => &["leader-unheard", "row-6", "row-19"],
            "ClocksGoOn" | "TouchesUnreported" | "NothingSentAgain" => &["row-2", "row-4"],
            "SyncForgetsItsIndex" => &["row-16", "row-15", "row-13"],
            "InstallKeepsConnections" => &["install-under-clients", "row-32"],
            "SnapshotWithoutStreams" => &["row-31", "row-32"],
            "CutOffKeepsConnections" => &["cut-off-holder", "row-5"],
            "GapExecuted" | "RepeatExecuted" => &["lost-in-a-stream", "row-2", "row-8"],
            "ZxidByRound" => &["same-round", "row-12"],
            "EndedReignDecides" | "LaterZxidAccepted" => &["row-2", "row-4", "row-12"],
            _ => &[],
        }
    }

    /// Directed runs for what chance finds too rarely.
    fn plays(self) -> &'static [Play] {
        match self.name {
            "VoteBeforeDurable" | "VoteForgotten" | "PromiseUngated" | "PromiseForgotten" => {
                &[Play::ForgetfulMiddle]
            }
            "CountOldTerms" => &[Play::Figure8],
            "TimerResetOnRefusal" => &[Play::OneCandidate],
            "EpochBeforeHistory" | "NewLeaderAckBeforeDurable" | "UnsyncedCount" => &[Play::CutShort],
            "ZabInstallsBackwards" => &[Play::BrokenStream],
            "ForeignBallotCounts" => &[Play::LateAnswers, Play::LossyBursts],
            "ProposeBeforeBallotDurable" => &[Play::LeadsTwice],
            _ => &[],
        }
    }
}

/// Switches one mutant on, or all off.
pub(crate) fn select(bug: Option<Bug>) {
    let (rule, state_rule) = match bug.map(|b| b.switch) {
        Some(Switch::Rule(mutant, _)) => (Some(mutant), None),
        Some(Switch::StateRule(mutant)) => (None, Some(mutant)),
        None => (None, None),
    };
    rules::select(rule);
    state_rules::select(state_rule);
}
