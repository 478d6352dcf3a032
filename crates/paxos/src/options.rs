//! The protocol's switches. `Default` is the hardened protocol; [`Options::textbook`] is the one of the papers.

use core::time::Duration;
use replog::{Limits, Timing};

/// Switches of Multi-Paxos.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// Time-outs, shared with the other protocols.
    pub timing: Timing,
    /// Windows and frame sizes, shared with the other protocols.
    pub limits: Limits,
    /// A proposer asks the acceptors, before it raises a ballot, whether they still hear a quorum-connected leader,
    /// and goes on only if a quorum does not. Off in the papers, where any silence starts a phase 1.
    pub pre_prepare: bool,
    /// An acceptor that hears a quorum-connected leader makes no promise to another proposer (but to one that the
    /// leader itself sent). Off in the papers.
    pub stickiness: bool,
    /// Tell the acceptors at once what was chosen (a third message per round, a delay of d less on every follower).
    /// Off: the commit bound rides on the next `Accept` or heartbeat.
    pub eager_commit: bool,
    /// Classic Paxos, the yardstick: a phase 1 for every command and one command at a time. Raises ballots within
    /// a reign, never the reign itself.
    // spec: paxos-simple §3 (what the distinguished proposer spares)
    pub classic: bool,
    /// Serve `ReadMode::Lease` without a round while a quorum's word is younger than nine tenths of
    /// `timing.election_timeout`. Acceptors then make no promise during a full `election_timeout` after they heard
    /// the leader or started. Assumes clocks that drift less than a tenth apart; hence off.
    pub lease: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timing: Timing::default(),
            limits: Limits::default(),
            pre_prepare: true,
            stickiness: true,
            eager_commit: true,
            classic: false,
            lease: false,
        }
    }
}

impl Options {
    /// Multi-Paxos as the papers have it: no asking before a phase 1, no loyalty to a leader, commit bounds ride.
    #[must_use]
    pub fn textbook() -> Self {
        Self { pre_prepare: false, stickiness: false, eager_commit: false, ..Self::default() }
    }

    /// How long a quorum's word makes a lease.
    pub(crate) fn lease_span(&self) -> Duration {
        self.timing.election_timeout * 9 / 10
    }
}
