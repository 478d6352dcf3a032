//! Which protocol replicates: the only place that names all three.

use node::{Application, Node, NodeConfig, StartError};
use replog::{Limits, Timing};
use std::sync::Arc;

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
        app: Arc<dyn Application>,
    ) -> Result<Node, StartError> {
        match self {
            #[cfg(feature = "zab")]
            Self::Zab => {
                node::start::<zab::Zab>(config, zab::Options { timing, limits, ..Default::default() }, app)
            }
            #[cfg(feature = "raft")]
            Self::Raft => {
                node::start::<raft::Raft>(config, raft::Options { timing, limits, ..Default::default() }, app)
            }
            #[cfg(feature = "paxos")]
            Self::Paxos => node::start::<paxos::Paxos>(
                config,
                paxos::Options { timing, limits, ..Default::default() },
                app,
            ),
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
