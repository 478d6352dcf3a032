//! How far the checker goes: the bounds, and the options under which the cores are checked.
//!
//! Randomness is off (every spread is zero) and timers fire when the checker says so. What remains is the protocol
//! with its hardening (pre-vote, quorum checks, stickiness), or its textbook form.

use super::node::Lie;
use crate::Backend;
use replog::{ReplicatedLog, Timing};
use std::time::Duration;

/// Bounds on what may happen after the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Name, for reports.
    pub name: &'static str,
    /// Whether it begins when a first leader serves, instead of with empty disks and nobody elected.
    pub is_led: bool,
    /// The textbook protocol instead of the hardened one: without pre-vote and the like, one timeout is an election.
    pub is_textbook: bool,
    /// Whoever learns that its leader's link is dead elects at once; else timers alone begin elections.
    pub is_hasty: bool,
    /// A crashed node is back, and linked, at once; else notices, restart and links come in any order.
    pub is_brief: bool,
    /// Epochs (terms, rounds of ballots) after the start's that may be entered.
    pub epochs: u32,
    /// Commands proposed.
    pub commands: u8,
    /// Of these, in one epoch at most so many.
    pub commands_an_epoch: u8,
    /// Power cuts.
    pub crashes: u8,
    /// Lost messages; on FIFO links broken links.
    pub losses: u8,
    /// Messages delivered twice.
    pub duplicates: u8,
    /// Messages that overtake others of their link; [`Scope::UNLIMITED`] makes a wire a bag. FIFO links: none.
    pub overtakes: u8,
    /// Timers that fire on nodes that do not lead.
    pub timeouts: u8,
    /// Timers that fire on leaders.
    pub heartbeats: u8,
    /// Leaves out interleavings that cannot matter, see `World::actions`. Off: to compare.
    pub is_reduced: bool,
    /// A driver that lies, to see that it is noticed.
    pub lie: Lie,
    /// Added to all clocks, and so to what Raft's seeds are mixed from; must change nothing (see print.rs).
    pub disguise: u64,
}

impl Scope {
    /// For [`Self::overtakes`]: any order.
    pub const UNLIMITED: u8 = u8::MAX;

    /// A serving leader, three hardened nodes, nothing that goes wrong.
    #[must_use]
    pub const fn calm(name: &'static str) -> Self {
        Self {
            name,
            is_led: true,
            is_textbook: false,
            is_hasty: false,
            is_brief: false,
            epochs: 1,
            commands: 1,
            commands_an_epoch: u8::MAX,
            crashes: 0,
            losses: 0,
            duplicates: 0,
            overtakes: 0,
            timeouts: 0,
            heartbeats: 0,
            is_reduced: true,
            lie: Lie::None,
            disguise: 0,
        }
    }

    /// Seconds per backend: a crash at every point, and elections at every point. Textbook protocols need the fewest
    /// steps for an election. Zab's elections say the most, so it gets fewer commands.
    #[must_use]
    pub fn small(backend: Backend) -> Vec<Self> {
        let is_zab = backend == Backend::Zab;
        let textbook = |name| Self { is_textbook: true, ..Self::calm(name) };
        vec![
            Self {
                is_hasty: true,
                is_brief: true,
                crashes: 1,
                commands: u8::from(!is_zab),
                ..textbook("small crash")
            },
            Self { timeouts: if is_zab { 2 } else { 1 }, ..textbook("small elections") },
        ]
    }

    /// As large as finishes in minutes per backend, up to an hour for Zab, and beyond.
    #[must_use]
    pub fn full(backend: Backend) -> Vec<Self> {
        // Zab's elections say the most: two commands in one epoch are beyond what a machine visits.
        let commands_an_epoch = if backend == Backend::Zab { 1 } else { u8::MAX };
        let crash =
            |name| Self { is_hasty: true, is_brief: true, crashes: 1, commands_an_epoch, ..Self::calm(name) };
        vec![
            Self { is_textbook: true, commands: 2, ..crash("crash, textbook") },
            crash("crash, hardened"),
            Self { is_textbook: true, losses: 1, commands: 2, ..crash("crash and loss, textbook") },
            Self { losses: 1, ..crash("crash and loss, hardened") },
            Self { timeouts: 2, ..Self::calm("elections, hardened") },
            Self {
                is_textbook: true,
                timeouts: if backend == Backend::Zab { 2 } else { 1 },
                losses: 1,
                overtakes: 1,
                commands: 2,
                ..Self::calm("losses, textbook")
            },
            Self {
                is_textbook: true,
                timeouts: 2,
                crashes: 1,
                losses: 1,
                overtakes: 1,
                commands: 2,
                ..Self::calm("all at once")
            },
        ]
    }

    /// The bounds in one line.
    #[must_use]
    pub fn text(&self) -> String {
        let overtakes =
            if self.overtakes == Self::UNLIMITED { "any".to_owned() } else { self.overtakes.to_string() };
        format!(
            "3 {} nodes from {}, {} further epoch(s), {} command(s){}, {} crash(es){}, {} loss(es), {} duplicate(s), \
             {overtakes} overtaking(s) where links are not FIFO, {} timeout(s){}, {} heartbeat(s)",
            if self.is_textbook { "textbook" } else { "hardened" },
            if self.is_led { "a serving leader" } else { "empty disks" },
            self.epochs,
            self.commands,
            if self.commands_an_epoch < self.commands {
                format!(" (at most {} an epoch)", self.commands_an_epoch)
            } else {
                String::new()
            },
            self.crashes,
            if self.is_brief { " with immediate restart" } else { "" },
            self.losses,
            self.duplicates,
            self.timeouts,
            if self.is_hasty { " and elections when a leader's link dies" } else { "" },
            self.heartbeats
        )
    }
}

/// A core that can be checked.
pub trait Modelled: ReplicatedLog<Message: Sync> + Send + Sync + 'static {
    /// Its options: hardened, without randomness.
    fn options(scope: &Scope) -> Self::Options;
}

/// Timing without randomness.
fn timing(scope: &Scope) -> Timing {
    Timing {
        heartbeat: Duration::from_millis(500),
        election_timeout: Duration::from_millis(1000),
        election_spread: Duration::ZERO,
        link_loss_spread: if scope.is_hasty { Duration::ZERO } else { Duration::MAX },
        disk_stall: Duration::from_millis(10_000),
    }
}

impl Modelled for zab::Zab {
    fn options(scope: &Scope) -> zab::Options {
        let base = if scope.is_textbook { zab::Options::textbook() } else { zab::Options::default() };
        // Elects as soon as a quorum agrees: an election only guesses, so guessing early must be safe too.
        zab::Options {
            timing: timing(scope),
            finalize_wait: zab::FinalizeWait::Fixed(Duration::ZERO),
            ..base
        }
    }
}

impl Modelled for raft::Raft {
    fn options(scope: &Scope) -> raft::Options {
        let base = if scope.is_textbook { raft::Options::textbook() } else { raft::Options::default() };
        raft::Options { timing: timing(scope), ..base }
    }
}

impl Modelled for paxos::Paxos {
    fn options(scope: &Scope) -> paxos::Options {
        let base = if scope.is_textbook { paxos::Options::textbook() } else { paxos::Options::default() };
        paxos::Options { timing: timing(scope), ..base }
    }
}
