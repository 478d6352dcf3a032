//! Which protocol replicates: the only place that names all three.

use node::{Application, Node, NodeConfig, StartError};
use replog::{Limits, Timing};
use std::sync::Arc;

/// Switches of the protocols, so that what the papers say can be raced against what production needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Variant {
    /// The protocol as its paper (Zab: as ZooKeeper) has it, without the hardening.
    pub textbook: bool,
    /// Raft, Paxos: push the commit position as soon as it moves instead of with the next message. `None`: what the
    /// variant says (hardened yes, textbook no).
    pub eager_commit: Option<bool>,
    /// Paxos: both phases for every command, the yardstick of what a stable leader spares.
    pub classic: bool,
}

/// A protocol that is compiled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consensus {
    /// ZooKeeper's own.
    #[cfg(feature = "zab")]
    Zab,
    /// Raft.
    #[cfg(feature = "raft")]
    Raft,
    /// Multi-Paxos.
    #[cfg(feature = "paxos")]
    Paxos,
}

impl Consensus {
    /// All that are compiled in; the first is the default.
    pub const ALL: &'static [Self] = &[
        #[cfg(feature = "zab")]
        Self::Zab,
        #[cfg(feature = "raft")]
        Self::Raft,
        #[cfg(feature = "paxos")]
        Self::Paxos,
    ];

    /// Its name in configurations and in data directories.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "zab")]
            Self::Zab => "zab",
            #[cfg(feature = "raft")]
            Self::Raft => "raft",
            #[cfg(feature = "paxos")]
            Self::Paxos => "paxos",
        }
    }

    /// The one with this name.
    ///
    /// # Errors
    /// Which names there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|c| c.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|c| c.name()).collect();
            format!("'{name}' is not compiled in; there is: {}", known.join(", "))
        })
    }

    /// Starts a node that runs it.
    ///
    /// # Errors
    /// See [`StartError`].
    pub(crate) fn start(
        self,
        config: NodeConfig,
        timing: Timing,
        limits: Limits,
        variant: Variant,
        app: Arc<dyn Application>,
    ) -> Result<Node, StartError> {
        match self {
            #[cfg(feature = "zab")]
            Self::Zab => {
                let base = if variant.textbook { zab::Options::textbook() } else { zab::Options::default() };
                node::start::<zab::Zab>(config, zab::Options { timing, limits, ..base }, app)
            }
            #[cfg(feature = "raft")]
            Self::Raft => {
                let base =
                    if variant.textbook { raft::Options::textbook() } else { raft::Options::default() };
                // The paper's protocol learns of a lost leader from its own timeout only.
                let link_loss_spread = base.timing.link_loss_spread.max(timing.link_loss_spread);
                let timing = Timing { link_loss_spread, ..timing };
                let eager_commit = variant.eager_commit.unwrap_or(base.eager_commit);
                node::start::<raft::Raft>(config, raft::Options { timing, limits, eager_commit, ..base }, app)
            }
            #[cfg(feature = "paxos")]
            Self::Paxos => {
                let base =
                    if variant.textbook { paxos::Options::textbook() } else { paxos::Options::default() };
                let eager_commit = variant.eager_commit.unwrap_or(base.eager_commit);
                let classic = variant.classic;
                let options = paxos::Options { timing, limits, eager_commit, classic, ..base };
                node::start::<paxos::Paxos>(config, options, app)
            }
        }
    }
}

impl Default for Consensus {
    fn default() -> Self {
        // Without any, the crate does not compile (see lib.rs).
        #[allow(clippy::indexing_slicing, reason = "checked at compile time")]
        const FIRST: Consensus = Consensus::ALL[0];
        FIRST
    }
}
