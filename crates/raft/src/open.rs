//! Opening: the state that follows from what is durable (paper §5.5: a restarted server continues where its disk is).
//!
//! What the disk may hold besides an ordinary log:
//! * a snapshot ahead of the log: an install was durable, the log's base had not moved; it moves now;
//! * damaged entries whose ids are known: they are fetched again, see `sync`;
//! * a gap in the ids: what was acknowledged is not known any more, as after a lost disk (protocol-traps 2.18).
//!
//! Invariant: nothing is believed committed but the snapshot and what the last hard state says, bounded by the log.

use crate::log::Log;
use crate::membership::in_order;
use crate::options::Options;
use crate::state::{Campaign, Cause, Following, Raft, Standing};
use crate::writes::Writes;
use alloc::vec::Vec;
use replog::{
    Configuration, ConfigurationAt, EntryMeta, HardState, Index, LogId, QuorumPhase, Rng, Setup, Stamp,
    Ticket, Time,
};

/// The log and its configurations, and the first index of a gap.
fn restored_log(
    base: LogId,
    entries: Vec<EntryMeta>,
    configurations: Vec<ConfigurationAt>,
    options: &Options,
) -> (Log, Vec<ConfigurationAt>, Option<Index>) {
    // Some more than a window: no-ops and configurations do not wait for room.
    let mut log = Log::new(base, options.limits.window_commands.saturating_add(64));
    let mut configs = in_order(configurations);
    if configs.is_empty() {
        configs.push(ConfigurationAt { from: Index::ZERO, configuration: Configuration::default() });
    }
    let mut cut = None;
    for entry in entries {
        if entry.id.index != log.last().index.next() {
            cut = Some(log.last().index.next());
            break;
        }
        log.append(entry.id, entry.bytes);
        if let Some(configuration) = entry.configuration
            && configs.last().is_none_or(|c| c.from < entry.id.index)
        {
            configs.push(ConfigurationAt { from: entry.id.index, configuration: *configuration });
        }
    }
    (log, configs, cut)
}

impl Raft {
    /// The state as it is on disk, following nobody.
    pub(crate) fn restored(setup: Setup<Options>, now: Time) -> Raft {
        let Setup {
            id,
            seed,
            configurations,
            hard_state,
            base,
            snapshot,
            entries,
            damaged,
            may_vote,
            options,
        } = setup;
        let (log, configs, cut) = restored_log(base, entries, configurations, &options);
        let durable = log.last().index;
        let committed = snapshot.index.max(hard_state.committed.min(durable));
        // Two incarnations with one seed must not draw the same names for their barriers.
        let salt = (u64::from(hard_state.promised.round) << 40)
            ^ durable.0
            ^ now.0.rotate_left(32)
            ^ u64::from(id.0);
        let mut raft = Raft {
            id,
            may_vote,
            // Mixed, not merely combined: with seeds equal to ids all replicas would draw the same timeouts for ever.
            rng: Rng::new(Rng::new(seed).bits() ^ Rng::new(!salt).bits()),
            now,
            hard: HardState { promised: hard_state.promised.max(log.last().epoch), ..hard_state },
            writes: Writes::new(durable, hard_state.committed),
            log,
            configs,
            settled: 0,
            committed,
            told: snapshot.index,
            snapshot,
            damaged,
            stamp: Stamp::default(),
            links: Vec::new(),
            standing: Standing::Following,
            leader: None,
            // A lease may run on a word that we gave before the restart.
            contact: options.lease.map(|_| now),
            options,
            election_at: now,
            overslept: false,
            campaign: Campaign::new(Cause::Silence),
            following: Following::default(),
            lead: None,
            outgoing: Vec::new(),
            install: None,
            reported: None,
            won: None,
            installing: Ticket::NONE,
        };
        if let Some(from) = cut {
            // Ids are missing in the middle: what we once acknowledged is not known any more. As after a lost disk:
            // whoever votes without it could elect a leader that lacks what was committed.
            raft.may_vote = false;
            raft.writes.truncate(from);
        }
        if durable < snapshot.index {
            // The state is ahead of the log: an install whose base had not moved yet.
            raft.writes.install(snapshot);
            raft.log.purge(snapshot);
        }
        raft
    }

    /// When to campaign if nobody is heard after the start.
    pub(crate) fn arm_first_timer(&mut self) {
        self.reset_election_timer();
        if self.config().is_quorum(QuorumPhase::Election, |node| node == self.id) {
            self.election_at = self.now; // nobody to wait for
        } else if self.options.pre_vote && self.options.lease.is_none() {
            // Nobody was ever heard: a whole cluster that starts need not wait for the full timeout. If there is a
            // leader, pre-votes are refused and nothing has happened.
            let timing = &self.options.timing;
            let first = self.now + self.rng.wait(timing.heartbeat * 2, timing.election_spread);
            self.election_at = self.election_at.min(first);
        }
    }
}
