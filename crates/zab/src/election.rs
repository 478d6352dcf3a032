//! Phase 0: fast leader election.
//!
//! Everyone votes for itself, tells everyone, and takes over any better vote that it hears, until a quorum votes
//! alike. A vote is (established epoch, last entry, id); the order is [`Vote`]'s own.
//!
//! ```text
//!  n1 looking, round 4 ──NOTIFICATION(4, n1)──► n2      older round: ignored, but told ours
//!                      ◄─NOTIFICATION(4, n2)──          newer round: taken over, tally cleared
//!                      ──NOTIFICATION(4, n2)──►         better vote: taken over and told to all
//!  n3 comes late       ──NOTIFICATION(1, n3)──► n1, n2  settled peers answer with their leader
//! ```
//!
//! Rules:
//! * the tally holds votes of the present round only (trap 1.2);
//! * a newcomer follows a settled leader on a quorum's word *and* the leader's own (trap 1.3, requirement S38);
//! * a voter of weight 0 is never a candidate and never counts (trap 1.5);
//! * who led in vain stands again after a wait that doubles up to the election timeout;
//! * observers learn the leader and never count.
//!
//! An election is a guess: nothing here is durable, and discovery checks epoch and history again.

use crate::membership::is_quorum;
use crate::message::{Message, Notification, PeerState, Vote};
use crate::options::FinalizeWait;
use crate::state::{FollowerStage, LeaderStage, Looking, Settled, State};
use crate::{Out, Zab};
use alloc::collections::BTreeMap;
use core::time::Duration;
use replog::{Epoch, LogId, NodeId, Time, mutant};

/// A round further ahead than this is not the work of elections; taking it over could exhaust the clock.
const ROUNDS_AHEAD: u64 = 1 << 32;

/// A looking state in which nothing has happened yet.
pub(crate) fn idle(vote: Vote, now: Time) -> Looking {
    Looking {
        vote,
        eligible: false,
        tally: BTreeMap::new(),
        settled: BTreeMap::new(),
        waiting: BTreeMap::new(),
        since: now,
        probation: true,
        finalize_at: None,
        resend_at: now,
        interval: Duration::ZERO,
        asked_at: None,
    }
}

impl Zab {
    /// Starts an election: next round, vote for itself, tell everyone.
    pub(crate) fn become_looking(&mut self, out: &mut Out) {
        self.leave_role(out);
        if let State::Leading(l) = &self.state {
            let since = l.since;
            self.back_off(since);
        }
        self.round += 1;
        let mut looking = idle(self.own_vote(), self.now);
        looking.interval = self.options.notify_least();
        self.state = State::Looking(looking);
        self.start_round(None, out);
    }

    /// The reign that began at `since` has ended: a short one costs a wait before the next candidacy.
    ///
    /// 1. Of five only n1 reaches the others, and its history is the oldest. 2. It is the only candidate, is elected,
    ///    and discovery shows it a better history. 3. It steps back and is elected again: a thousand epochs a second,
    ///    each of them two fsyncs on every disk. Rule: the first time costs nothing (a voter had promised a later
    ///    epoch: the next one is above it); then the wait begins at an eighth of a heartbeat, doubles, and is at most
    ///    the election timeout.
    // spec-deviates: zookeeper FastLeaderElection because its fixed finalizeWait (kept in `Options::textbook`) is the
    // only brake there.
    fn back_off(&mut self, since: Time) {
        let timing = &self.options.timing;
        let most = timing.election_timeout;
        if !self.options.connectivity || self.now.since(since) >= most {
            self.short_reigns = 0;
            return;
        }
        let before = self.short_reigns;
        self.short_reigns = (before + 1).min(10);
        if before > 0 {
            let wait = (timing.heartbeat / 8 * (1 << (before - 1))).min(most);
            let wait = self.rng.wait(wait / 2, (wait / 2).min(timing.election_spread));
            self.stands_at = Some(self.now + wait);
        }
    }

    /// Clears the tally and votes for the better of this replica and `heard`.
    fn start_round(&mut self, heard: Option<(Vote, bool)>, out: &mut Out) {
        let mut best = (self.is_eligible(), self.own_vote());
        if let Some((vote, eligible)) = heard
            && let Some(rank) = self.rank(vote, eligible)
        {
            best = best.max(rank);
        }
        let State::Looking(l) = &mut self.state else { return };
        l.tally.clear();
        l.finalize_at = None;
        (l.eligible, l.vote) = best;
        self.tell_all(true);
        self.try_finish(out);
    }

    /// This replica as a candidate.
    fn own_vote(&self) -> Vote {
        if mutant!(LongerHistoryWins) {
            let last = LogId::new(Epoch::ZERO, self.log.last().index);
            Vote { epoch: Epoch::ZERO, last, node: self.id }
        } else if self.counts() {
            Vote { epoch: self.hard.established, last: self.log.last(), node: self.id }
        } else {
            // Observers and learners name themselves with the least vote there is.
            Vote { epoch: Epoch::ZERO, last: LogId::ZERO, node: self.id }
        }
    }

    /// Whether this replica may lead: it votes, its log is whole, it did not lead in vain a moment ago, and (hardened)
    /// it reaches a quorum itself.
    ///
    /// Quorum-loss hub: of five replicas only n1 still reaches a quorum, through itself. n2 … n5 may have higher ids
    /// and would be elected again and again, each losing its quorum at once. Who reaches no quorum does not stand.
    fn is_eligible(&self) -> bool {
        self.counts()
            && self.damaged.is_empty()
            && !self.disk_stalled()
            && self.stands_at.is_none_or(|at| at <= self.now)
            && (!self.options.connectivity || self.reaches_quorum())
    }

    fn reaches_quorum(&self) -> bool {
        let timeout = self.options.timing.election_timeout;
        let probation = match &self.state {
            State::Looking(l) => l.probation,
            _ => true,
        };
        is_quorum(&self.configuration, |v| {
            let fresh = |heard: Time| probation || self.now.since(heard) < timeout;
            v == self.id || self.links.get(&v).is_some_and(|link| fresh(link.heard))
        })
    }

    /// Where a heard vote stands, `None` if its candidate cannot be considered at all.
    fn rank(&self, vote: Vote, eligible: bool) -> Option<(bool, Vote)> {
        if !self.configuration.is_voter(vote.node) {
            return None;
        }
        if vote.node == self.id {
            // Others may repeat what this replica said in an earlier round; only its present state counts.
            return Some((self.is_eligible(), self.own_vote()));
        }
        let reachable = !self.options.connectivity || self.links.contains_key(&vote.node);
        Some((eligible && reachable, vote))
    }

    /// What this replica says when asked.
    fn notification(&self, ask: bool) -> Notification {
        let (state, vote, eligible) = match &self.state {
            State::Looking(l) => (PeerState::Looking, l.vote, l.eligible),
            State::Following(f) => (PeerState::Following, settled(self.elected, f.epoch, f.leader), true),
            State::Leading(l) => (PeerState::Leading, settled(self.elected, l.epoch, self.id), true),
        };
        Notification { state, round: self.round, vote, eligible, counts: self.counts(), ask }
    }

    /// Tells one peer at the end of the step; several reasons in one step make one notification.
    pub(crate) fn tell(&mut self, to: NodeId, ask: bool) {
        *self.work.tells.entry(to).or_insert(false) |= ask;
    }

    /// Queues the step's notifications. A notification states this replica's history, so it waits until that is
    /// durable; and all go through one lane, or an older vote could arrive after a newer one and stay in the tally.
    pub(crate) fn flush_tells(&mut self) {
        let looking = matches!(self.state, State::Looking(_));
        let after = self.written();
        for (to, ask) in core::mem::take(&mut self.work.tells) {
            let notification = self.notification(ask && looking);
            self.work.send_after(to, Message::Notification(notification), after);
        }
    }

    pub(crate) fn tell_all(&mut self, ask: bool) {
        for to in self.configuration.voter_ids() {
            if to != self.id && self.links.contains_key(&to) {
                self.tell(to, ask);
            }
        }
        let now = self.now;
        if let State::Looking(l) = &mut self.state {
            l.resend_at = now + l.interval;
            l.asked_at = ask.then_some(now);
        }
    }

    /// A notification.
    pub(crate) fn on_notification(&mut self, from: NodeId, n: Notification, out: &mut Out) {
        if !self.configuration.is_member(from) {
            return Self::ignore(from, "not a member", out);
        }
        if n.round > self.round.saturating_add(ROUNDS_AHEAD) {
            return Self::ignore(from, "election round out of reach", out);
        }
        match &self.state {
            State::Looking(_) => self.looking_hears(from, n, out),
            State::Following(_) => self.following_hears(from, n, out),
            State::Leading(_) => self.leading_hears(from, n, out),
        }
    }

    fn looking_hears(&mut self, from: NodeId, n: Notification, out: &mut Out) {
        self.measure(&n);
        let voter = n.counts && self.configuration.is_voter(from);
        if n.state == PeerState::Looking
            && let State::Looking(l) = &mut self.state
        {
            // It waits for this replica no longer.
            l.waiting.remove(&from);
        }
        if voter {
            match n.state {
                PeerState::Looking => self.hear_looking(from, n, out),
                PeerState::Following | PeerState::Leading => self.hear_settled(from, n, out),
            }
        }
        // The answer tells the vote after what was just heard.
        if n.ask {
            self.tell(from, false);
        }
    }

    fn hear_looking(&mut self, from: NodeId, n: Notification, out: &mut Out) {
        if n.round < self.round {
            // Spec: trap 1.2. Counting votes of an older round elects with votes that were since withdrawn.
            if !n.ask {
                self.tell(from, false);
            }
            return Self::ignore(from, "vote of an older round", out);
        }
        if n.round > self.round {
            self.round = n.round;
            self.start_round(Some((n.vote, n.eligible)), out);
            self.record(from, n.vote);
            return self.try_finish(out);
        }
        let rank = self.rank(n.vote, n.eligible);
        let State::Looking(l) = &mut self.state else { return };
        l.settled.remove(&from);
        l.tally.insert(from, n.vote);
        if n.vote.node == from && !n.eligible && l.vote.node == from && l.eligible {
            // 1. We vote for n2. 2. n2 loses its quorum and says so. 3. Votes only get better, so without a new round
            //    n2 would stay our candidate for ever. Rule: a candidate that withdraws starts a new round.
            self.round += 1;
            return self.start_round(None, out);
        }
        if let Some(rank) = rank
            && rank > (l.eligible, l.vote)
        {
            (l.eligible, l.vote) = rank;
            l.finalize_at = None;
            self.tell_all(true);
        }
        self.try_finish(out);
    }

    /// Keeps a vote of the present round.
    fn record(&mut self, from: NodeId, vote: Vote) {
        let State::Looking(l) = &mut self.state else { return };
        l.settled.remove(&from);
        l.tally.insert(from, vote);
    }

    /// The word of a peer that follows or leads.
    fn hear_settled(&mut self, from: NodeId, n: Notification, out: &mut Out) {
        let round = self.round;
        let leads = n.state == PeerState::Leading;
        let word = Settled { leader: n.vote.node, epoch: n.vote.epoch, round: n.round, leads };
        let State::Looking(l) = &mut self.state else { return };
        l.settled.insert(from, word);
        if n.round == round {
            // It finished this very election a moment earlier: still a vote of this round.
            l.tally.insert(from, n.vote);
        } else {
            l.tally.remove(&from);
        }
        let (settled, me) = (&l.settled, self.id);
        let agrees =
            |v: NodeId| settled.get(&v).is_some_and(|s| (s.leader, s.epoch) == (word.leader, word.epoch));
        // Trap 1.3: followers may not have noticed yet that their leader is gone; only its own word says that it
        // leads. One word alone, on the other hand, may come from an old leader that was cut off.
        // spec: zookeeper FastLeaderElection.checkLeader
        let told = is_quorum(&self.configuration, agrees);
        let says_so = settled.get(&word.leader).is_some_and(|s| s.leads && s.epoch == word.epoch);
        // A spoke of a hub hears no other voter. That its own candidate won this very round is enough then: an old
        // leader is of an older round.
        let won = self.options.connectivity && leads && n.round == round && l.vote.node == from;
        if (told && says_so || won) && word.leader != me {
            self.round = n.round;
            self.elected = n.vote;
            return self.become_follower(word.leader, out);
        }
        self.try_finish(out);
    }

    /// Ends the election if a quorum votes like this replica and nothing better can be expected.
    fn try_finish(&mut self, out: &mut Out) {
        let counts = self.counts();
        let State::Looking(l) = &self.state else { return };
        if !counts || !l.eligible {
            return;
        }
        let candidate = l.vote.node;
        let agrees = |v: NodeId| v == self.id || l.tally.get(&v).is_some_and(|vote| vote.node == candidate);
        if !is_quorum(&self.configuration, agrees) {
            let State::Looking(l) = &mut self.state else { return };
            l.finalize_at = None;
            return;
        }
        // A voter whose link broke has nothing to say; one that was never linked may only be late.
        let silent = |v: NodeId| self.gone.contains(&v);
        let all = self.configuration.voter_ids().into_iter().all(|v| agrees(v) || silent(v));
        let leads = l.settled.get(&candidate).is_some_and(|s| s.leads && s.round == self.round);
        let wait = match self.options.finalize_wait {
            FinalizeWait::Adaptive if all || leads => Duration::ZERO,
            FinalizeWait::Adaptive => {
                (self.rtt() * 2).clamp(Duration::from_millis(1), Duration::from_millis(200))
            }
            FinalizeWait::Fixed(wait) => wait,
        };
        let now = self.now;
        let State::Looking(l) = &mut self.state else { return };
        let at = l.finalize_at.unwrap_or(now + wait);
        if wait.is_zero() || at <= now {
            self.elect(out);
        } else {
            l.finalize_at = Some(at);
        }
    }

    /// Acts on the result.
    fn elect(&mut self, out: &mut Out) {
        let State::Looking(l) = &mut self.state else { return };
        let vote = l.vote;
        self.elected = vote;
        if vote.node == self.id { self.become_leader(out) } else { self.become_follower(vote.node, out) }
    }

    /// A link changed while looking.
    pub(crate) fn looking_peer(&mut self, node: NodeId, connected: bool, out: &mut Out) {
        let State::Looking(l) = &mut self.state else { return };
        if connected {
            if self.configuration.is_voter(node) {
                self.tell(node, true);
            }
            self.refresh_candidacy(out);
            return;
        }
        l.tally.remove(&node);
        l.settled.remove(&node);
        l.waiting.remove(&node);
        if l.vote.node == node {
            self.round += 1;
            return self.start_round(None, out);
        }
        self.refresh_candidacy(out);
        self.try_finish(out);
    }

    /// Stands or withdraws as its connectivity changes; whether everyone was told.
    pub(crate) fn refresh_candidacy(&mut self, out: &mut Out) -> bool {
        let own = (self.is_eligible(), self.own_vote());
        let State::Looking(l) = &mut self.state else { return false };
        let present = (l.eligible, l.vote);
        let mine = l.vote.node == self.id;
        if (mine && own != present) || own > present {
            (l.eligible, l.vote) = own;
            l.finalize_at = None;
            self.tell_all(true);
            self.try_finish(out);
            return true;
        }
        false
    }

    /// Own writes became durable while looking: who withdrew because its disk hung stands again.
    ///
    /// 1. The disk of a single server hangs, and it stops leading. 2. The disk recovers. 3. Without a peer there is no
    ///    message and no timer that would make it look at its disk again.
    pub(crate) fn looking_persisted(&mut self, out: &mut Out) {
        if matches!(&self.state, State::Looking(l) if l.vote.node != self.id || !l.eligible) {
            self.refresh_candidacy(out);
        }
    }

    /// Timers of an election.
    pub(crate) fn looking_time(&mut self, out: &mut Out) {
        if self.stands_at.take_if(|at| *at <= self.now).is_some() {
            self.refresh_candidacy(out);
        }
        let (now, most) = (self.now, self.options.notify_most());
        let timeout = self.options.timing.election_timeout;
        let State::Looking(l) = &mut self.state else { return };
        if l.probation && now >= l.since + timeout {
            l.probation = false;
            self.refresh_candidacy(out);
        }
        let State::Looking(l) = &mut self.state else { return };
        if l.finalize_at.is_some_and(|at| at <= now) {
            self.try_finish(out);
        }
        let State::Looking(l) = &mut self.state else { return };
        if l.resend_at <= now {
            // spec: zookeeper FastLeaderElection, trap 1.4 (the bound is ours)
            l.interval = (l.interval * 2).min(most);
            if !self.refresh_candidacy(out) {
                self.tell_all(true);
            }
        }
    }

    /// When the election needs a step.
    pub(crate) fn looking_deadline(&self) -> Option<Time> {
        let State::Looking(l) = &self.state else { return None };
        // Alone there is nobody to tell.
        let probation = l.since + self.options.timing.election_timeout;
        let resend = if l.probation { l.resend_at.min(probation) } else { l.resend_at };
        let resend = (!self.links.is_empty()).then_some(resend);
        [resend, l.finalize_at, self.stands_at].into_iter().flatten().min()
    }

    /// A follower hears of an election.
    fn following_hears(&mut self, from: NodeId, n: Notification, out: &mut Out) {
        let timeout = self.options.timing.election_timeout;
        let State::Following(f) = &self.state else { return };
        let voter = n.counts && self.configuration.is_voter(from);
        let looking = n.state == PeerState::Looking;
        // A looking word of the leader from before it was elected may arrive late: it is of a round that has ended.
        let abdicated = from == f.leader && looking && (n.round > self.round || f.rejoined);
        // Votes only get better: a candidate that votes for another, or withdraws, will not lead in this round.
        let deferred = from == f.leader
            && looking
            && n.round == self.round
            && (n.vote.node != from || !n.eligible)
            && f.stage == FollowerStage::Joining;
        let elsewhere = from == f.leader
            && f.stage == FollowerStage::Joining
            && n.state == PeerState::Following
            && n.vote.node != self.id;
        // The others look already, and this replica has its own reason to: no use in waiting for its timer.
        let joins = voter && looking && (f.lost.is_some() || self.now.since(f.heard) >= timeout);
        if abdicated || elsewhere || joins || deferred {
            if deferred {
                self.round = self.round.saturating_sub(1);
            }
            self.become_looking(out);
            return self.looking_hears(from, n, out);
        }
        if n.ask {
            self.tell(from, false);
        }
    }

    /// A leader hears of an election.
    fn leading_hears(&mut self, from: NodeId, n: Notification, out: &mut Out) {
        let State::Leading(l) = &self.state else { return };
        let voter = n.counts && self.configuration.is_voter(from);
        let linked = |v: NodeId| v == self.id || l.learners.contains_key(&v);
        // 1. n1 leads n2; n3 is down. 2. n2 restarts and looks. 3. n1 commits nothing without n2, n2 may not follow
        //    on n1's word alone. Rule: a leader without a quorum of learners joins a voter that looks.
        let deserted = voter
            && n.state == PeerState::Looking
            && l.stage >= LeaderStage::Syncing
            && !is_quorum(&self.configuration, linked);
        let deposed =
            voter && n.state != PeerState::Looking && l.epoch != Epoch::ZERO && n.vote.epoch > l.epoch;
        if deserted || deposed {
            self.become_looking(out);
            return self.looking_hears(from, n, out);
        }
        if n.state == PeerState::Looking {
            // Its word came after its FOLLOWERINFO in the same lane, so it left the session.
            self.drop_learner(from);
        }
        if n.ask {
            self.tell(from, false);
        }
    }

    /// Takes the first answer to a round of notifications as a measure of the round trip.
    fn measure(&mut self, n: &Notification) {
        let now = self.now;
        if let State::Looking(l) = &mut self.state
            && !n.ask
            && let Some(at) = l.asked_at.take()
        {
            self.observe_rtt(now.since(at));
        }
    }

    /// Smooths the round trip: the first sample as it is, then up at once, down by an eighth of the difference.
    pub(crate) fn observe_rtt(&mut self, sample: Duration) {
        let sample = sample.min(Duration::from_millis(200));
        self.rtt = Some(match self.rtt {
            Some(rtt) if rtt > sample => rtt - (rtt - sample) / 8,
            _ => sample,
        });
    }

    /// The round trip, or a guess.
    pub(crate) fn rtt(&self) -> Duration {
        self.rtt.unwrap_or(self.options.timing.heartbeat.min(Duration::from_millis(100)) / 4)
    }
}

/// The vote that a settled replica reports: its leader, with the epoch that it leads once that is known.
fn settled(elected: Vote, epoch: Epoch, leader: NodeId) -> Vote {
    Vote { epoch: epoch.max(elected.epoch), node: leader, ..elected }
}
