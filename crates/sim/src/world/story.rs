//! Trace records of a run. Nothing is built while nobody listens.

use super::host::Process;
use super::network::{Load, Packet};
use super::{Simulated, World};
use node::story;
use replog::{Entry, LogId, NodeId, Ticket, Write};
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
        let peer = self.hosts[to].id;
        self.trace_as(i, || story::frame(Kind::Send, id, peer, message, entries));
    }

    pub(crate) fn trace_receive(
        &mut self,
        i: usize,
        from: usize,
        id: u64,
        message: &P::Message,
        entries: &[Entry],
    ) {
        let peer = self.hosts[from].id;
        self.trace_as(i, || story::frame(Kind::Recv, id, peer, message, entries));
    }

    pub(crate) fn trace_lost(&mut self, packet: &Packet<P::Message>) {
        let Load::Core { message, entries } = &packet.load else { return };
        let peer = self.hosts[packet.to].id;
        self.trace_as(packet.from, || story::frame(Kind::Lost, packet.id, peer, message, entries));
    }

    pub(crate) fn trace_writes(&mut self, i: usize, writes: &[Write]) {
        if self.sink.is_some() {
            for write in writes {
                self.trace_as(i, || story::write(write));
            }
        }
    }

    pub(crate) fn trace_durable(&mut self, i: usize, ticket: Ticket) {
        self.trace_as(i, || story::durable(ticket));
    }

    pub(crate) fn trace_apply(&mut self, i: usize, entries: &[Entry]) {
        self.trace_as(i, || story::apply(entries).unwrap_or_default());
    }

    pub(crate) fn trace_phase(&mut self, i: usize, process: &Process<P>) {
        self.trace_as(i, || story::phase(&process.status));
    }

    pub(crate) fn trace_link(&mut self, i: usize, peer: usize, up: bool) {
        let peer = self.hosts[peer].id;
        self.trace_as(i, || story::link(peer, (!up).then(String::new)));
    }

    pub(crate) fn trace_ignored(&mut self, i: usize, from: NodeId, why: &str) {
        self.trace_as(i, || story::ignored(from, why));
    }

    pub(crate) fn trace_snapshot(&mut self, i: usize, what: &str, at: LogId, peer: Option<usize>) {
        let peer = peer.map(|p| self.hosts[p].id);
        self.trace_as(i, || story::snapshot(what, at, peer));
    }

    /// Hands over what `make` makes, as an event of node `i`.
    fn trace_as(&mut self, i: usize, make: impl FnOnce() -> Record) {
        self.trace(i, Kind::Note, |r| *r = Record { t: r.t, node: r.node, ..make() });
    }
}
