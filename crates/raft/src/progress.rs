//! What a leader knows of one follower (paper §5.3: nextIndex and matchIndex; thesis §10.2 pipelining).
//!
//! ```text
//!             Mismatch, link up, Unsent               next below the base
//!   Replicate ─────────────────────────► Probe ───────────────────────────► Snapshot
//!       ▲                                 │ ▲                                  │
//!       └──────── Appended ───────────────┘ └──────── SnapshotSent ────────────┘
//!       └──────── Appended at or above the snapshot ────────────────────────────┘
//! ```
//!
//! * Probe: one message at a time; `next` is a guess.
//! * Replicate: `next` runs ahead of the answers; frames are pipelined as long as their bytes are counted. Entries
//!   whose sizes were forgotten go as one catch-up span at a time: the driver cuts it and says where.
//! * Snapshot: nothing but heartbeats until the stream ended.
//!
//! Invariant: `matched < next`.

use replog::{Index, LogId, NodeId, Span, Time};

/// How entries flow to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flow {
    /// Looking for the place where the logs meet; `sent` while an answer is awaited.
    Probe { sent: bool },
    /// Logs meet; appends are pipelined.
    Replicate,
    /// It needs what was purged: a snapshot is on its way.
    Snapshot,
}

/// One follower, seen from the leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Progress {
    pub(crate) node: NodeId,
    /// Durable and equal to ours up to here.
    pub(crate) matched: Index,
    /// Next entry to send.
    pub(crate) next: Index,
    pub(crate) flow: Flow,
    /// Last entry of the probe under way, if entries rode along.
    pub(crate) probed_upto: Index,
    /// The uncounted span under way.
    pub(crate) catch_up: Option<Span>,
    /// Where the driver last stopped short.
    pub(crate) unsent: Index,
    /// The snapshot being streamed to it; the log above stays.
    pub(crate) streaming: Option<LogId>,
    /// Link is up.
    pub(crate) connected: bool,
    /// False: its disk was lost since it last voted.
    pub(crate) counts: bool,
    /// Last word from it in this term.
    pub(crate) heard: Time,
    /// Last append or heartbeat to it.
    pub(crate) sent: Time,
    /// Highest round that it answered.
    pub(crate) round: u64,
    /// Commit index last told.
    pub(crate) told: Index,
    /// A heartbeat is due in this step.
    pub(crate) beat: bool,
}

impl Progress {
    /// A follower of which nothing is known; probing starts at `next`.
    pub(crate) fn new(node: NodeId, next: Index, connected: bool, now: Time) -> Self {
        Self {
            node,
            matched: Index::ZERO,
            next,
            flow: Flow::Probe { sent: false },
            probed_upto: Index::ZERO,
            catch_up: None,
            unsent: Index::ZERO,
            streaming: None,
            connected,
            counts: true,
            heard: now,
            sent: now,
            round: 0,
            told: Index::ZERO,
            beat: false,
        }
    }

    /// Whether it is not known to be level: what is sent to it is a cost of synchronisation.
    pub(crate) fn is_syncing(&self) -> bool {
        self.flow != Flow::Replicate || self.catch_up.is_some()
    }

    /// Looks for the meeting place again, from `next`.
    pub(crate) fn probe(&mut self, next: Index) {
        self.flow = Flow::Probe { sent: false };
        self.next = next.max(self.matched.next());
        self.catch_up = None;
    }

    /// The link came up or went down; what was under way is lost.
    pub(crate) fn reconnect(&mut self, connected: bool) {
        self.connected = connected;
        let next = if self.matched == Index::ZERO { self.next } else { self.matched.next() };
        self.probe(next);
    }

    /// It holds our log durably up to `matched`. Returns whether that is news.
    pub(crate) fn on_matched(&mut self, matched: Index) -> bool {
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        match self.flow {
            Flow::Probe { .. } => {
                // The probe's own entries were taken with it; a later answer tells if not.
                self.next = self.next.max(self.probed_upto.next());
                self.flow = Flow::Replicate;
            }
            Flow::Snapshot if self.streaming.is_none_or(|at| self.matched >= at.index) => {
                self.flow = Flow::Replicate;
            }
            Flow::Snapshot | Flow::Replicate => {}
        }
        self.next = self.next.max(self.matched.next());
        if self.catch_up.is_some_and(|span| self.matched >= span.to) {
            self.catch_up = None;
        }
        news
    }

    /// Whether a refusal of `probed` answers what is believed now, and not something older.
    pub(crate) fn is_current_refusal(&self, probed: Index) -> bool {
        match self.flow {
            // A late refusal from before the last step back would send the probe back again and again.
            Flow::Probe { .. } => probed.next() == self.next,
            // A follower never loses what it acknowledged.
            Flow::Replicate => probed > self.matched,
            Flow::Snapshot => false,
        }
    }

    /// It lacks what it once acknowledged: its disk was lost.
    pub(crate) fn forget(&mut self) {
        self.matched = Index::ZERO;
    }

    /// The driver could not send the positions from `from` on.
    pub(crate) fn on_unsent(&mut self, from: Index) {
        if from <= self.matched || self.flow == Flow::Snapshot {
            return;
        }
        if matches!(self.flow, Flow::Probe { .. }) {
            self.probed_upto = self.probed_upto.min(from.prev());
            return;
        }
        if from >= self.next {
            return; // Of a later frame than one that was cut before: sent again anyway.
        }
        if self.unsent == from {
            // Nothing goes out from here. Wait for an answer to the next heartbeat instead of asking the disk in a
            // circle.
            self.probe(from);
            self.flow = Flow::Probe { sent: true };
            self.probed_upto = Index::ZERO;
            return;
        }
        self.unsent = from;
        self.next = from;
        self.catch_up = self.catch_up.and_then(|span| Span::new(span.from, span.to.min(from.prev())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicating(matched: u64, next: u64) -> Progress {
        let mut p = Progress::new(NodeId(2), Index(next), true, Time(0));
        p.matched = Index(matched);
        p.flow = Flow::Replicate;
        p
    }

    #[test]
    fn an_answer_ends_probing_behind_its_entries() {
        let mut p = Progress::new(NodeId(2), Index(5), true, Time(0));
        p.probed_upto = Index(9);
        assert!(p.on_matched(Index(4)));
        assert_eq!((p.flow, p.matched, p.next), (Flow::Replicate, Index(4), Index(10)));
    }

    #[test]
    fn old_refusals_are_not_believed() {
        let mut p = replicating(4, 10);
        assert!(!p.is_current_refusal(Index(4)));
        assert!(p.is_current_refusal(Index(7)));
        p.probe(Index(6));
        assert!(p.is_current_refusal(Index(5)));
        assert!(!p.is_current_refusal(Index(7)));
    }

    #[test]
    fn what_was_cut_is_sent_again() {
        let mut p = replicating(4, 100);
        p.catch_up = Span::new(Index(5), Index(99));
        p.on_unsent(Index(40));
        assert_eq!((p.next, p.catch_up), (Index(40), Span::new(Index(5), Index(39))));
        p.on_matched(Index(39));
        assert_eq!(p.catch_up, None);
        p.next = Index(60);
        p.on_unsent(Index(40));
        assert_eq!((p.next, p.flow), (Index(40), Flow::Probe { sent: true }), "the second time it waits");
    }

    #[test]
    fn a_new_link_forgets_what_was_under_way() {
        let mut p = replicating(4, 10);
        p.reconnect(true);
        assert_eq!((p.next, p.flow), (Index(5), Flow::Probe { sent: false }));
    }
}
