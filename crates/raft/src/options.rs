//! Raft's switches. The default is the hardened protocol; [`Options::textbook`] is the paper's, to be compared.
//!
//! PreVote, CheckQuorum and stickiness only make sense together (protocol-traps 2.9): PreVote alone keeps a leader
//! that lost its quorum, stickiness alone lets a partially connected leader block elections for ever. Each can
//! still be switched off by itself, so that exactly this can be shown.

use core::time::Duration;
use replog::{Limits, Timing, mutant};

/// The switches of one replica. All replicas of a cluster should agree on them; `lease` must be the same on all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// Timeouts, shared with the other protocols.
    pub timing: Timing,
    /// Windows and frame sizes, shared with the other protocols.
    pub limits: Limits,
    /// Ask whether an election could be won before raising the term (thesis §9.6).
    pub pre_vote: bool,
    /// A leader that hears no quorum for an election timeout, or makes no progress for a disk stall while entries
    /// are outstanding, steps down (thesis §6.2).
    pub check_quorum: bool,
    /// Voters that hear a leader ignore `RequestVote` (thesis §4.2.3).
    pub stickiness: bool,
    /// Push the commit index to followers as soon as it moves. Off: it rides the next append or heartbeat, as in
    /// the paper.
    pub eager_commit: bool,
    /// Serve `ReadMode::Lease` without a round. The value is the largest error of one clock against another over
    /// one election timeout; the lease is an election timeout minus this. `None` (default): lease reads cost a
    /// round. Needs `check_quorum` and `stickiness`, and switches off the short cut after a lost link, because a
    /// voter that no longer waits for the leader would break the lease.
    pub lease: Option<Duration>,
    /// Bytes of entries that may be under way to one follower.
    pub inflight_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timing: Timing::default(),
            limits: Limits::default(),
            pre_vote: true,
            check_quorum: true,
            stickiness: true,
            eager_commit: true,
            lease: None,
            inflight_bytes: 8 << 20,
        }
    }
}

impl Options {
    /// The protocol of the paper's figure 2: no PreVote, no CheckQuorum, no stickiness, commit index rides along,
    /// link losses are not looked at.
    #[must_use]
    pub fn textbook() -> Self {
        let timing = Timing { link_loss_spread: Duration::MAX, ..Timing::default() };
        Self {
            timing,
            pre_vote: false,
            check_quorum: false,
            stickiness: false,
            eager_commit: false,
            ..Self::default()
        }
    }

    /// Whether a leader looks after its quorum.
    pub(crate) fn checks_quorum(&self) -> bool {
        self.check_quorum && !mutant!(NoCheckQuorum)
    }

    /// Length of a lease from the moment at which its round was sent, `None` if leases may not be used.
    pub(crate) fn lease_length(&self) -> Option<Duration> {
        let drift = self.lease?;
        if !self.check_quorum || !self.stickiness {
            return None;
        }
        self.timing.election_timeout.checked_sub(drift)
    }

    /// Random wait after the link to the leader broke, `None` if link losses are not looked at.
    pub(crate) fn link_loss_spread(&self) -> Option<Duration> {
        // Stickiness is what a lease rests on: nobody may vote early because of a reset connection.
        (self.timing.link_loss_spread != Duration::MAX && self.lease.is_none())
            .then_some(self.timing.link_loss_spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_needs_what_it_rests_on() {
        let lease = Some(Duration::from_millis(100));
        let with = Options { lease, ..Options::default() };
        assert_eq!(with.lease_length(), Some(Duration::from_millis(900)));
        assert_eq!(with.link_loss_spread(), None);
        for without in [
            Options { check_quorum: false, ..with.clone() },
            Options { stickiness: false, ..with.clone() },
            Options { lease: Some(Duration::from_secs(2)), ..with.clone() },
            Options::default(),
        ] {
            assert_eq!(without.lease_length(), None);
        }
    }
}
