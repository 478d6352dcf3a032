//! Switches of the protocol. The default is the hardened protocol; [`Options::textbook`] is what ZooKeeper does.
//!
//! | switch | default | textbook | what it shows |
//! |---|---|---|---|
//! | `finalize_wait` | adapted to the round trip | fixed 200 ms | the floor under ZooKeeper's elections |
//! | `sync_search` | one comparison of epoch-start tables | entry by entry from the last zxid | requirement S40 |
//! | `connectivity` | candidates that reach no quorum are skipped | ignored | quorum-loss hub (fault rows 9-12) |
//!
//! `timing` and `limits` are shared with the other protocols, so that they race with the same timeouts, windows and
//! frame sizes.
//!
//! Flexible quorums: an epoch has a number and no owner, so election, discovery and synchronisation need the larger of the
//! two quorums, only commits and reads the smaller. Before broadcast a leader short of the larger one leaves after
//! `timing.election_timeout`; in broadcast it goes on with the smaller one until a voter looks, and then joins that
//! election, as the voter could not follow on the word of so few.

use core::time::Duration;
use replog::{Limits, Timing};

/// How long a looking replica waits for something better once a quorum votes for its candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FinalizeWait {
    /// Not at all when every linked voter agrees, else twice the measured round trip (1-200 ms).
    // spec-deviates: zookeeper FastLeaderElection finalizeWait because discovery re-checks epoch and history, so
    // that a hasty choice costs a retry and never safety.
    #[default]
    Adaptive,
    /// Always this long. ZooKeeper: [`FinalizeWait::ZOOKEEPER`].
    Fixed(Duration),
}

impl FinalizeWait {
    /// ZooKeeper's 200 ms.
    pub const ZOOKEEPER: Self = Self::Fixed(Duration::from_millis(200));
}

/// How a leader finds the last entry that it has in common with a follower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SyncSearch {
    /// One comparison of the two epoch-start tables.
    #[default]
    EpochTable,
    /// ZooKeeper's search: the follower's last zxid is looked up entry by entry; a tail of an epoch that the leader
    /// never saw needs a snapshot.
    ZooKeeper,
}

/// Everything that can be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// Durations shared by all protocols.
    pub timing: Timing,
    /// Windows and frames shared by all protocols.
    pub limits: Limits,
    /// Wait before an election is closed.
    pub finalize_wait: FinalizeWait,
    /// Search for the common point.
    pub sync_search: SyncSearch,
    /// Whether a candidate must reach a quorum itself.
    pub connectivity: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timing: Timing::default(),
            limits: Limits::default(),
            finalize_wait: FinalizeWait::default(),
            sync_search: SyncSearch::default(),
            connectivity: true,
        }
    }
}

impl Options {
    /// What ZooKeeper does.
    #[must_use]
    pub fn textbook() -> Self {
        Self {
            finalize_wait: FinalizeWait::ZOOKEEPER,
            sync_search: SyncSearch::ZooKeeper,
            connectivity: false,
            ..Self::default()
        }
    }

    /// First interval at which an unanswered notification is sent again; doubles up to [`Self::notify_most`].
    // spec: zookeeper FastLeaderElection minNotificationInterval
    pub(crate) fn notify_least(&self) -> Duration {
        Duration::from_millis(200).min(self.timing.election_timeout)
    }

    /// Longest interval between two notifications.
    // spec-deviates: zookeeper maxNotificationInterval (60 s) because a lost notification can delay an election by
    // the back-off.
    pub(crate) fn notify_most(&self) -> Duration {
        (self.timing.election_timeout * 2).max(self.notify_least())
    }
}
