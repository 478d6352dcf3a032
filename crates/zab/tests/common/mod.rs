//! One replica, stepped by hand: what it hears is spelled out, what it asks for is looked at. The disk answers when
//! the test says so.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use bytes::Bytes;
use replog::{
    Body, Configuration, Effect, Effects, Entry, Epoch, HardState, Index, Input, LogId, LogOp, NodeId, Phase,
    ReplicatedLog, Role, Setup, Span, Stamp, Ticket, Time,
};
use std::time::Duration;
use zab::message::{AckEpoch, Table};
use zab::{Message, Notification, Options, PeerState, Vote, Zab};

pub(crate) fn n(id: u32) -> NodeId {
    NodeId(id)
}

pub(crate) fn id(epoch: u32, index: u64) -> LogId {
    LogId::new(Epoch::of(epoch), Index(index))
}

/// Entries with these epochs, from `first` on.
pub(crate) fn entries(first: u64, epochs: &[u32]) -> Vec<Entry> {
    let make = |(epoch, index): (&u32, u64)| Entry {
        id: id(*epoch, index),
        ballot: Epoch::of(*epoch),
        stamp: Stamp(0),
        body: Body::Command(Bytes::from(format!("{epoch}:{index}"))),
    };
    epochs.iter().zip(first..).map(make).collect()
}

pub(crate) fn setup(me: u32, voters: u32) -> Setup<Options> {
    let configuration = Configuration::of_voters((1..=voters).map(NodeId));
    Setup::fresh(n(me), configuration, Options::default())
}

/// The same with a log of the given epochs from index 1, established in `established`.
pub(crate) fn with_log(
    me: u32,
    voters: u32,
    epochs: &[u32],
    established: u32,
    committed: u64,
) -> Setup<Options> {
    let mut setup = setup(me, voters);
    setup.entries = entries(1, epochs).iter().map(Entry::meta).collect();
    let epoch = Epoch::of(established);
    setup.hard_state =
        HardState { promised: epoch, voted_for: None, established: epoch, committed: Index(committed) };
    setup
}

pub(crate) struct Solo {
    pub(crate) zab: Zab,
    pub(crate) now: Time,
    pub(crate) last: Ticket,
    pub(crate) out: Vec<Effect<Message>>,
}

impl Solo {
    pub(crate) fn open(setup: Setup<Options>) -> Self {
        let now = Time(1_000_000_000);
        let mut effects = Effects::new();
        let zab = Zab::open(setup, now, &mut effects);
        let mut solo = Self { zab, now, last: Ticket::NONE, out: Vec::new() };
        solo.take(effects);
        solo
    }

    fn take(&mut self, mut effects: Effects<Message>) {
        self.out = effects.drain().collect();
        for effect in &self.out {
            if let Effect::Persist { ticket, .. } = effect {
                assert_eq!(*ticket, self.last.next());
                self.last = *ticket;
            }
        }
        self.zab.check().unwrap();
    }

    /// One step; its effects are in `out`.
    pub(crate) fn step(&mut self, inputs: Vec<Input<Message>>) -> &mut Self {
        let mut inputs = inputs;
        let mut effects = Effects::new();
        self.zab.step(self.now, &mut inputs, &mut effects);
        self.take(effects);
        self
    }

    pub(crate) fn link(&mut self, peers: impl IntoIterator<Item = u32>) -> &mut Self {
        let up = peers.into_iter().map(|p| Input::Peer { node: n(p), connected: true }).collect();
        self.step(up)
    }

    pub(crate) fn unlink(&mut self, peer: u32) -> &mut Self {
        self.step(vec![Input::Peer { node: n(peer), connected: false }])
    }

    pub(crate) fn hear(&mut self, from: u32, message: Message) -> &mut Self {
        self.hear_with(from, message, Vec::new())
    }

    pub(crate) fn hear_with(&mut self, from: u32, message: Message, entries: Vec<Entry>) -> &mut Self {
        self.step(vec![Input::Message { from: n(from), message, entries }])
    }

    /// Everything written so far is durable.
    pub(crate) fn fsync(&mut self) -> &mut Self {
        let last = self.last;
        self.step(vec![Input::Persisted(last)])
    }

    /// Lets time pass without news.
    pub(crate) fn wait(&mut self, duration: Duration) -> &mut Self {
        self.now = self.now + duration;
        self.step(Vec::new())
    }

    pub(crate) fn propose(&mut self, count: usize) -> &mut Self {
        let commands = (0..count).map(|i| Bytes::from(format!("c{i}"))).collect();
        self.step(vec![Input::Propose { stamp: Stamp(1), commands }])
    }

    pub(crate) fn role(&self) -> Role {
        self.zab.status().role
    }

    pub(crate) fn phase(&self) -> Phase {
        self.zab.status().phase
    }

    /// Messages of the last step to `to`, with attachment and ticket.
    pub(crate) fn sent(&self, to: u32) -> Vec<(&Message, Option<Span>, Ticket)> {
        let to_peer = |e: &'_ Effect<Message>| matches!(e, Effect::Send { to: t, .. } if *t == n(to));
        let sends = self.out.iter().filter(|e| to_peer(e));
        sends
            .map(|e| match e {
                Effect::Send { message, attach, after, .. } => (message, *attach, *after),
                _ => unreachable!(),
            })
            .collect()
    }

    /// Their names.
    pub(crate) fn kinds(&self, to: u32) -> Vec<&'static str> {
        self.sent(to).iter().map(|(m, ..)| replog::Message::kind(*m)).collect()
    }

    /// The ops of the last step's write.
    pub(crate) fn ops(&self) -> Vec<LogOp> {
        let persist = self.out.iter().find_map(|e| match e {
            Effect::Persist { ops, .. } => Some(ops.clone()),
            _ => None,
        });
        persist.unwrap_or_default()
    }

    pub(crate) fn ignored(&self) -> Vec<&'static str> {
        let why = |e: &Effect<Message>| if let Effect::Ignored { why, .. } = e { Some(*why) } else { None };
        self.out.iter().filter_map(why).collect()
    }

    pub(crate) fn committed(&self) -> Option<u64> {
        let upto = |e: &Effect<Message>| if let Effect::Commit { upto } = e { Some(upto.0) } else { None };
        self.out.iter().rev().find_map(upto)
    }

    /// The notification last sent to `to`.
    pub(crate) fn told(&self, to: u32) -> Option<Notification> {
        let all = self.sent(to);
        all.iter().rev().find_map(|(m, ..)| if let Message::Notification(n) = m { Some(*n) } else { None })
    }

    // ---- whole conversations -------------------------------------------------------------------------------

    /// Follows `leader` in `epoch` from its FOLLOWERINFO to ACKEPOCH; the promise is durable.
    pub(crate) fn follow(&mut self, leader: u32, epoch: u32) -> &mut Self {
        self.link([leader]);
        let round = self.zab.election_round();
        let word = looking(round, vote(99, (99, 99), leader));
        self.hear(leader, Message::Notification(word));
        if self.role() == Role::Electing {
            self.wait(Duration::from_millis(200));
        }
        assert_eq!(self.zab.status().leader, Some(n(leader)));
        let session = self.session(leader);
        self.hear(leader, Message::LeaderInfo { session, epoch: Epoch::of(epoch) });
        assert_eq!(self.kinds(leader), ["ACKEPOCH"], "{:?}", self.out);
        self
    }

    /// The session of the FOLLOWERINFO in the last step.
    pub(crate) fn session(&self, leader: u32) -> u64 {
        let all = self.sent(leader);
        let session = all.iter().find_map(|(m, ..)| {
            if let Message::FollowerInfo { session, .. } = m { Some(*session) } else { None }
        });
        session.expect("no FOLLOWERINFO in the last step")
    }

    /// Leads: elected by and with FOLLOWERINFO of `with`; its epoch is durable and announced.
    pub(crate) fn announce(&mut self, with: &[u32], promised: u32) -> u32 {
        self.link(with.iter().copied());
        let me = self.told(with[0]).expect("a notification").vote;
        let round = self.zab.election_round();
        for peer in with {
            self.hear(*peer, Message::Notification(looking(round, me)));
        }
        if self.role() == Role::Electing {
            self.wait(Duration::from_millis(200));
        }
        assert_eq!((self.role(), self.phase()), (Role::Leader, Phase::Discovery));
        for peer in with {
            let info = Message::FollowerInfo { session: 1, promised: Epoch::of(promised), counts: true };
            self.hear(*peer, info);
        }
        self.fsync();
        let all = self.sent(with[0]);
        let Some((Message::LeaderInfo { epoch, .. }, ..)) = all.first() else { panic!("{:?}", self.out) };
        epoch.round
    }

    /// ACKEPOCH of `from`, with a log of the given epochs.
    pub(crate) fn ack_epoch(&mut self, from: u32, epoch: u32, established: u32, log: &[u32]) -> &mut Self {
        let ack = AckEpoch {
            session: 1,
            epoch: Epoch::of(epoch),
            counts: true,
            established: Epoch::of(established),
            table: table(log),
        };
        self.hear(from, Message::AckEpoch(Box::new(ack)))
    }

    pub(crate) fn ack_new_leader(&mut self, from: u32, epoch: u32, upto: u64) -> &mut Self {
        self.hear(from, Message::AckNewLeader { epoch: Epoch::of(epoch), upto: Index(upto) })
    }

    /// Leads in broadcast with `with`, whose logs equal its own.
    pub(crate) fn lead(&mut self, with: &[u32], log: &[u32]) -> u32 {
        let established = self.zab.hard_state().established.round;
        let epoch = self.announce(with, established);
        for peer in with {
            self.ack_epoch(*peer, epoch, established, log);
        }
        self.fsync();
        for peer in with {
            self.ack_new_leader(*peer, epoch, log.len() as u64);
        }
        assert_eq!((self.role(), self.phase()), (Role::Leader, Phase::Broadcast), "{:?}", self.out);
        epoch
    }
}

/// The epoch-start table of a log with these epochs from index 1.
pub(crate) fn table(epochs: &[u32]) -> Table {
    let mut starts = vec![(Epoch::ZERO, Index::ZERO)];
    for (epoch, index) in epochs.iter().zip(1..) {
        if starts.last().is_none_or(|(e, _)| *e != Epoch::of(*epoch)) {
            starts.push((Epoch::of(*epoch), Index(index)));
        }
    }
    Table { starts, last: Index(epochs.len() as u64) }
}

pub(crate) fn vote(epoch: u32, last: (u32, u64), node: u32) -> Vote {
    Vote { epoch: Epoch::of(epoch), last: id(last.0, last.1), node: n(node) }
}

pub(crate) fn looking(round: u64, vote: Vote) -> Notification {
    Notification { state: PeerState::Looking, round, vote, eligible: true, counts: true, ask: false }
}

pub(crate) fn settled(state: PeerState, round: u64, vote: Vote) -> Notification {
    Notification { state, round, vote, eligible: true, counts: true, ask: false }
}
