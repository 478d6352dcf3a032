//! Single cores stepped by hand, with a disk that loses what was not synced: for schedules that must be exact.
#![allow(dead_code)] // each test file uses its part

use bytes::Bytes;
use paxos::{Message, Options, Paxos};
use replog::{
    Body, Configuration, ConfigurationAt, Effect, Effects, Entry, Epoch, HardState, Index, Input, LogId,
    LogOp, NodeId, Phase, ReplicatedLog, Role, Setup, Span, Stamp, Ticket, Time,
};
use std::collections::BTreeMap;

/// What a log holds after some writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) hard: HardState,
    pub(crate) base: LogId,
    pub(crate) entries: BTreeMap<Index, Entry>,
}

impl Image {
    fn apply(&mut self, op: &LogOp) {
        match op {
            LogOp::HardState(h) => self.hard = *h,
            LogOp::Write(entries) => {
                assert!(entries.windows(2).all(|w| w[0].id.index < w[1].id.index), "a write is ascending");
                self.entries.extend(entries.iter().map(|e| (e.id.index, e.clone())));
            }
            LogOp::Truncate { from } => drop(self.entries.split_off(from)),
            LogOp::Purge { upto } => {
                self.base = *upto;
                self.entries = self.entries.split_off(&upto.index.next());
            }
        }
    }
}

/// A core, its disk and what it asked for in its last step.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) core: Paxos,
    pub(crate) now: Time,
    pub(crate) written: Image,
    pub(crate) durable: Image,
    pub(crate) ticket: Ticket,
    pub(crate) out: Vec<Effect<Message>>,
    options: Options,
    configuration: Configuration,
    pub(crate) may_vote: bool,
    pub(crate) damaged: Vec<Span>,
    pub(crate) snapshot: LogId,
    lives: u64,
}

pub(crate) fn n(id: u32) -> NodeId {
    NodeId(id)
}

/// Ballot `round` of node `proposer`.
pub(crate) fn b(round: u32, proposer: u32) -> Epoch {
    Epoch { round, proposer }
}

/// A command at `index`, first proposed in `epoch`, accepted in `ballot`.
pub(crate) fn entry(index: u64, epoch: Epoch, ballot: Epoch, text: &'static str) -> Entry {
    let body = Body::Command(Bytes::from_static(text.as_bytes()));
    Entry { id: LogId::new(epoch, Index(index)), ballot, stamp: Stamp(0), body }
}

/// The no-op at `index`.
pub(crate) fn noop(index: u64, epoch: Epoch, ballot: Epoch) -> Entry {
    Entry { id: LogId::new(epoch, Index(index)), ballot, stamp: Stamp(0), body: Body::Noop }
}

pub(crate) fn accept(ballot: Epoch, committed: u64) -> Message {
    Message::Accept { ballot, reign: ballot, committed: Index(committed), sync: false }
}

pub(crate) fn prepare(ballot: Epoch) -> Message {
    Message::Prepare { ballot, reign: ballot, have: Vec::new(), handed: false }
}

pub(crate) fn heartbeat(ballot: Epoch, committed: u64) -> Message {
    Message::Heartbeat {
        ballot,
        reign: ballot,
        committed: Index(committed),
        quorum: true,
        round: 1,
        acked: Index(0),
    }
}

pub(crate) fn text(e: &Entry) -> String {
    match &e.body {
        Body::Command(c) => String::from_utf8_lossy(c).into_owned(),
        Body::Noop => "-".to_owned(),
        Body::Config(..) => "config".to_owned(),
    }
}

impl Node {
    pub(crate) fn new(id: u32, voters: u32, options: Options) -> Self {
        Self::in_configuration(id, Configuration::of_voters((1..=voters).map(NodeId)), options)
    }

    pub(crate) fn in_configuration(id: u32, configuration: Configuration, options: Options) -> Self {
        Self::on(Image::default(), id, configuration, options)
    }

    /// Starts on a disk that holds `image`.
    pub(crate) fn on(image: Image, id: u32, configuration: Configuration, options: Options) -> Self {
        let now = Time(1_000_000_000);
        let core =
            Paxos::open(setup(&image, NodeId(id), &configuration, &options, 1), now, &mut Effects::new());
        let mut node = Self {
            id: NodeId(id),
            core,
            now,
            written: image.clone(),
            durable: image,
            ticket: Ticket::NONE,
            out: Vec::new(),
            options,
            configuration,
            may_vote: true,
            damaged: Vec::new(),
            snapshot: LogId::ZERO,
            lives: 1,
        };
        node.crash();
        node
    }

    /// Loses what was not synced and starts again; all links come up.
    pub(crate) fn crash(&mut self) {
        self.lives += 1;
        self.written = self.durable.clone();
        self.ticket = Ticket::NONE;
        let mut setup = setup(&self.durable, self.id, &self.configuration, &self.options, self.lives);
        (setup.may_vote, setup.damaged, setup.snapshot) =
            (self.may_vote, self.damaged.clone(), self.snapshot);
        let mut effects = Effects::new();
        self.core = Paxos::open(setup, self.now, &mut effects);
        self.out.clear();
        self.take(&mut effects);
        let me = self.id;
        for node in self.configuration.members().into_iter().filter(|p| *p != me) {
            self.give(Input::Peer { node, connected: true });
        }
    }

    fn take(&mut self, effects: &mut Effects<Message>) -> Vec<Input<Message>> {
        let mut back = Vec::new();
        for effect in effects.drain() {
            match &effect {
                Effect::Persist { ticket, ops } => {
                    assert_eq!(*ticket, self.ticket.next(), "tickets rise by one");
                    self.ticket = *ticket;
                    ops.iter().for_each(|op| self.written.apply(op));
                }
                Effect::Send { to, message, attach: Some(span), .. } if *to == self.id => {
                    let found = self.written.entries.range(span.from..=span.to).map(|(_, e)| e.clone());
                    let entries = found.collect();
                    back.push(Input::Message { from: self.id, message: message.clone(), entries });
                }
                _ => {}
            }
            self.out.push(effect);
        }
        back
    }

    /// One step with these inputs, and further ones for what the core sent itself. Answers with what it asked for.
    pub(crate) fn step(&mut self, inputs: Vec<Input<Message>>) -> &[Effect<Message>] {
        self.out.clear();
        let mut batch = inputs;
        loop {
            let mut effects = Effects::new();
            self.core.step(self.now, &mut batch, &mut effects);
            self.core.check().unwrap_or_else(|v| panic!("{}: {}", v.rule, v.detail));
            batch = self.take(&mut effects);
            if batch.is_empty() {
                return &self.out;
            }
        }
    }

    pub(crate) fn give(&mut self, input: Input<Message>) -> &[Effect<Message>] {
        self.step(vec![input])
    }

    pub(crate) fn tell(&mut self, from: u32, message: Message, entries: Vec<Entry>) -> &[Effect<Message>] {
        self.give(Input::Message { from: NodeId(from), message, entries })
    }

    /// Makes all writes durable and says so.
    pub(crate) fn sync(&mut self) -> &[Effect<Message>] {
        self.durable = self.written.clone();
        self.give(Input::Persisted(self.ticket))
    }

    /// Lets the next timer run.
    pub(crate) fn wait(&mut self) -> &[Effect<Message>] {
        self.now = self.now.max(self.core.deadline().expect("a timer runs"));
        self.step(Vec::new())
    }

    /// Lets time pass without a step.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now = self.now + std::time::Duration::from_millis(ms);
    }

    /// Waits until it sends a Prepare; its ballot.
    pub(crate) fn campaign(&mut self) -> Epoch {
        for _ in 0..50 {
            self.wait();
            if let Some(Message::Prepare { ballot, .. }) = self.sent("Prepare").first() {
                return *ballot;
            }
            // Answer its questions for everybody.
            if let Some(Message::Query { number, .. }) = self.sent("Query").first().cloned() {
                for peer in self.configuration.voter_ids() {
                    if peer != self.id && self.sent("Prepare").is_empty() {
                        let answer = Message::Answer { promised: Epoch::ZERO, number, hears: false };
                        self.tell(peer.0, answer, Vec::new());
                    }
                }
                if let Some(Message::Prepare { ballot, .. }) = self.sent("Prepare").first() {
                    return *ballot;
                }
            }
        }
        panic!("{} never campaigns", self.id);
    }

    /// Campaigns in a round above `round`.
    pub(crate) fn campaign_above(&mut self, round: u32) -> Epoch {
        self.tell(2, Message::Query { promised: b(round, 2), number: 0 }, Vec::new());
        let ballot = self.campaign();
        assert!(ballot.round > round);
        ballot
    }

    /// Campaigns, is promised an empty suffix by `by`, and opens its reign with their acceptance.
    pub(crate) fn lead(&mut self, by: &[u32]) -> Epoch {
        let ballot = self.campaign();
        self.sync();
        for peer in by {
            self.tell(*peer, empty_promise(ballot, self.core.status().committed), Vec::new());
        }
        self.sync();
        let last = self.core.status().last.index;
        for peer in by {
            self.tell(*peer, accepted(ballot, last.0), Vec::new());
        }
        assert_eq!((self.core.status().role, self.core.status().phase), (Role::Leader, Phase::Broadcast));
        ballot
    }

    pub(crate) fn propose(&mut self, texts: &[&'static str]) -> &[Effect<Message>] {
        let commands = texts.iter().map(|t| Bytes::from_static(t.as_bytes())).collect();
        self.give(Input::Propose { stamp: Stamp(0), commands })
    }

    /// Messages of this kind in the last step.
    pub(crate) fn sent(&self, kind: &str) -> Vec<Message> {
        self.sends(kind).into_iter().map(|(_, m, _, _)| m).collect()
    }

    /// The same with receiver, attachment and gate.
    pub(crate) fn sends(&self, kind: &str) -> Vec<(NodeId, Message, Option<Span>, Ticket)> {
        let sends = self.out.iter().filter_map(|e| match e {
            Effect::Send { to, message, attach, after } if *to != self.id => {
                Some((*to, message.clone(), *attach, *after))
            }
            _ => None,
        });
        sends.filter(|(_, m, _, _)| replog::Message::kind(m) == kind).collect()
    }

    /// The highest `Commit` of the last step.
    pub(crate) fn commit(&self) -> Option<u64> {
        self.out.iter().rev().find_map(|e| if let Effect::Commit { upto } = e { Some(upto.0) } else { None })
    }

    /// `index: text @ballot` of everything written above `from`.
    pub(crate) fn log(&self, from: u64) -> Vec<(u64, String, Epoch)> {
        let above = self.written.entries.range(Index(from + 1)..);
        above.map(|(i, e)| (i.0, text(e), e.ballot)).collect()
    }

    pub(crate) fn ignored(&self) -> Vec<&'static str> {
        self.out
            .iter()
            .filter_map(|e| if let Effect::Ignored { why, .. } = e { Some(*why) } else { None })
            .collect()
    }

    /// Entries that a message attached.
    pub(crate) fn attached(&self, span: Option<Span>) -> Vec<Entry> {
        let Some(span) = span else { return Vec::new() };
        self.written.entries.range(span.from..=span.to).map(|(_, e)| e.clone()).collect()
    }
}

pub(crate) fn empty_promise(ballot: Epoch, committed: Index) -> Message {
    Message::Promise { ballot, committed, base: Index::ZERO, held: Vec::new() }
}

/// A promise that holds exactly `entries`.
pub(crate) fn promise(ballot: Epoch, committed: u64, entries: &[Entry]) -> Message {
    let run =
        |e: &Entry| paxos::Run { from: e.id.index, to: e.id.index, epoch: e.id.epoch, ballot: e.ballot };
    let held = entries.iter().map(run).collect();
    Message::Promise { ballot, committed: Index(committed), base: Index::ZERO, held }
}

pub(crate) fn accepted(ballot: Epoch, upto: u64) -> Message {
    Message::Accepted { ballot, upto: Index(upto), more: Vec::new(), committed: Index(0), counts: true }
}

fn setup(
    image: &Image,
    id: NodeId,
    configuration: &Configuration,
    options: &Options,
    life: u64,
) -> Setup<Options> {
    Setup {
        id,
        seed: u64::from(id.0) * 1000 + life,
        configurations: vec![ConfigurationAt { from: Index::ZERO, configuration: configuration.clone() }],
        hard_state: image.hard,
        base: image.base,
        snapshot: LogId::ZERO,
        entries: image.entries.values().map(Entry::meta).collect(),
        damaged: Vec::new(),
        may_vote: true,
        options: options.clone(),
    }
}
