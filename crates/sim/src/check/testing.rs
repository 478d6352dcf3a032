//! Hand-made facts for the tests of the checks.

use super::fact::{Claim, Event, Fact};
use super::logs::Logs;
use bytes::Bytes;
use replog::{
    Body, Entry, Epoch, HardState, Index, LogId, LogOp, NodeId, Phase, Role, Room, Stamp, Status, Ticket,
};

pub(crate) fn event(node: u32, life: u32, fact: Fact<'_>) -> Event<'_> {
    Event { at_us: 0, node: NodeId(node), life, fact }
}

pub(crate) fn leads(node: u32, life: u32, round: u32, proposer: u32) -> Event<'static> {
    let epoch = Epoch { round, proposer };
    event(node, life, Fact::Said { to: NodeId(9), claim: Claim::Leads { reign: epoch, ballot: epoch } })
}

pub(crate) fn status(role: Role, phase: Phase, round: u32, committed: u64) -> Status {
    Status {
        role,
        phase,
        epoch: Epoch::of(round),
        leader: None,
        last: LogId::new(Epoch::of(round), Index(committed)),
        committed: Index(committed),
        room: Room::default(),
    }
}

pub(crate) fn entry(round: u32, index: u64, text: &str) -> Entry {
    let epoch = Epoch::of(round);
    Entry {
        id: LogId::new(epoch, Index(index)),
        ballot: epoch,
        stamp: Stamp(0),
        body: Body::Command(Bytes::copy_from_slice(text.as_bytes())),
    }
}

pub(crate) fn hard(round: u32, voted_for: Option<u32>) -> LogOp {
    LogOp::HardState(HardState {
        promised: Epoch::of(round),
        voted_for: voted_for.map(NodeId),
        ..HardState::default()
    })
}

/// Disks of nodes, fed by hand.
pub(crate) struct Disk {
    node: u32,
    pub(crate) logs: Logs,
}

impl Disk {
    /// With one node started.
    pub(crate) fn new(node: u32) -> Self {
        let mut disk = Self { node, logs: Logs::default() };
        disk.start(node);
        disk
    }

    pub(crate) fn start(&mut self, node: u32) {
        let started = Fact::Started {
            hard: HardState::default(),
            base: LogId::ZERO,
            snapshot: LogId::ZERO,
            entries: &[],
            whole: true,
            members: None,
        };
        self.logs.follow(&event(node, 1, started)).unwrap();
    }

    pub(crate) fn write(&mut self, ticket: u64, ops: &[LogOp]) {
        self.write_as(self.node, ticket, ops);
    }

    pub(crate) fn write_as(&mut self, node: u32, ticket: u64, ops: &[LogOp]) {
        self.logs.follow(&event(node, 1, Fact::Wrote { ticket: Ticket(ticket), ops })).unwrap();
    }

    pub(crate) fn sync(&mut self, node: u32, ticket: u64) {
        self.logs.follow(&event(node, 1, Fact::Durable { ticket: Ticket(ticket) })).unwrap();
    }
}
