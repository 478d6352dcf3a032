//! Trace records of a run. Nothing is built while nobody listens.

use super::host::Process;
use super::network::{Load, Packet};
use super::{Simulated, World};
use replog::{Entry, LogId, Message, NodeId, Phase, Role, Ticket, Write};
use trace::{Kind, Record};

impl<P: Simulated> World<'_, P> {
    /// Hands a record over, if somebody listens.
    pub(crate) fn trace(&mut self, i: usize, kind: Kind, fill: impl FnOnce(&mut Record)) {
        if let Some(sink) = &mut self.sink {
            let mut record = Record { t: self.now, node: self.hosts[i].id.0, kind, ..Record::default() };
            fill(&mut record);
            sink(&record);
        }
    }

    /// A remark of the world: a fault, a heal.
    pub(crate) fn trace_fault(&mut self, text: &str) {
        if let Some(sink) = &mut self.sink {
            let cause = Some(text.to_owned());
            sink(&Record { t: self.now, node: 0, kind: Kind::Fault, cause, ..Record::default() });
        }
    }

    pub(crate) fn trace_send(
        &mut self,
        i: usize,
        to: usize,
        id: u64,
        message: &P::Message,
        entries: &[Entry],
    ) {
        let peer = Some(self.hosts[to].id.0);
        self.trace(i, Kind::Send, |r| {
            (r.id, r.peer) = (Some(id), peer);
            describe(r, message, entries);
        });
    }

    pub(crate) fn trace_receive(
        &mut self,
        i: usize,
        from: usize,
        id: u64,
        message: &P::Message,
        entries: &[Entry],
    ) {
        let peer = Some(self.hosts[from].id.0);
        self.trace(i, Kind::Recv, |r| {
            (r.id, r.peer) = (Some(id), peer);
            describe(r, message, entries);
        });
    }

    pub(crate) fn trace_lost(&mut self, packet: &Packet<P::Message>) {
        if self.sink.is_none() {
            return;
        }
        let peer = Some(self.hosts[packet.to].id.0);
        let (from, id) = (packet.from, packet.id);
        let Load::Core { message, entries } = &packet.load else { return };
        self.trace(from, Kind::Lost, |r| {
            (r.id, r.peer) = (Some(id), peer);
            describe(r, message, entries);
        });
    }

    pub(crate) fn trace_writes(&mut self, i: usize, writes: &[Write]) {
        if self.sink.is_none() {
            return;
        }
        for write in writes {
            let mut names: Vec<&str> = Vec::new();
            let mut last = None;
            for op in &write.ops {
                names.push(match op {
                    replog::LogOp::HardState(_) => "hard state",
                    replog::LogOp::Write(entries) => {
                        last = entries.last().map(|e| e.id);
                        "entries"
                    }
                    replog::LogOp::Truncate { .. } => "truncate",
                    replog::LogOp::Purge { .. } => "purge",
                });
            }
            let name = names.join(", ");
            self.trace(i, Kind::Persist, |r| {
                (r.id, r.name) = (Some(write.ticket.0), Some(name));
                r.index = last.map(|id| id.index.0);
                r.epoch = last.map(|id| id.epoch.to_string());
            });
        }
    }

    pub(crate) fn trace_durable(&mut self, i: usize, ticket: Ticket) {
        self.trace(i, Kind::Durable, |r| r.id = Some(ticket.0));
    }

    pub(crate) fn trace_apply(&mut self, i: usize, entries: &[Entry]) {
        let Some(last) = entries.last().map(|e| e.id) else { return };
        self.trace(i, Kind::Apply, |r| {
            (r.index, r.epoch) = (Some(last.index.0), Some(last.epoch.to_string()));
        });
    }

    pub(crate) fn trace_phase(&mut self, i: usize, process: &Process<P>) {
        let status = process.status;
        self.trace(i, Kind::Phase, |r| {
            r.epoch = Some(status.epoch.to_string());
            r.role = Some(role(status.role).to_owned());
            r.name = Some(phase(status.phase).to_owned());
            r.peer = status.leader.map(|l| l.0);
            (r.index, r.commit) = (Some(status.last.index.0), Some(status.committed.0));
        });
    }

    pub(crate) fn trace_link(&mut self, i: usize, peer: usize, up: bool) {
        let peer = Some(self.hosts[peer].id.0);
        self.trace(i, if up { Kind::LinkUp } else { Kind::LinkDown }, |r| r.peer = peer);
    }

    pub(crate) fn trace_ignored(&mut self, i: usize, from: NodeId, why: &str) {
        self.trace(i, Kind::Ignored, |r| (r.peer, r.cause) = (Some(from.0), Some(why.to_owned())));
    }

    pub(crate) fn trace_snapshot(&mut self, i: usize, what: &str, at: LogId, peer: Option<usize>) {
        let peer = peer.map(|p| self.hosts[p].id.0);
        self.trace(i, Kind::Snapshot, |r| {
            (r.name, r.peer) = (Some(what.to_owned()), peer);
            (r.index, r.epoch) = (Some(at.index.0), Some(at.epoch.to_string()));
        });
    }
}

fn describe<M: Message>(record: &mut Record, message: &M, entries: &[Entry]) {
    record.name = Some(message.kind().to_owned());
    record.epoch = Some(message.epoch().to_string());
    record.index = entries.last().map(|e| e.id.index.0);
    record.bytes = Some(64 + entries.iter().map(|e| u64::from(e.bytes())).sum::<u64>());
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Electing => "electing",
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Learner => "learner",
        Role::Observer => "observer",
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Election => "election",
        Phase::Discovery => "discovery",
        Phase::Sync => "sync",
        Phase::Broadcast => "broadcast",
    }
}
