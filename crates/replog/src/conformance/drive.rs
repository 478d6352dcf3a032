//! What one turn of a node does: steps its core and carries out every work list, as the tokio driver does.

use super::disk::Snapshot;
use super::events::Event;
use super::host::PendingSnapshot;
use super::network::{Fate, Packet};
use super::{Cluster, State};
use crate::{
    Committed, Frame, Index, Input, LogId, Message, NodeId, Notice, Phase, ReplicatedLog, Role, Ticket, Time,
    Token,
};
use bytes::Bytes;
use std::time::Duration;

/// Turns one step may cause without time passing; more is a loop in the core.
const TURNS: u32 = 10_000;

impl<P: ReplicatedLog> Cluster<P> {
    // ---- one node ------------------------------------------------------------------------------------------

    /// Steps `id` if it has something to do, and carries out what follows.
    pub(super) fn turn(&mut self, id: NodeId) {
        let host = &self.hosts[&id];
        let due = host.replica.as_ref().is_some_and(|r| r.has_input());
        if due || !host.waiting.is_empty() {
            self.step(id);
        } else {
            self.carry_out(id);
        }
    }

    pub(super) fn step(&mut self, id: NodeId) {
        let now = self.now;
        for turn in 0.. {
            assert!(turn < TURNS, "{id} never comes to rest:\n{}", self.story());
            let Some(host) = self.hosts.get_mut(&id) else { return };
            let Some(replica) = host.replica.as_mut().filter(|_| !host.paused) else { return };
            let room = replica.status().room;
            let offered: Vec<Bytes> =
                host.waiting.drain(..host.waiting.len().min(room.commands as usize)).collect();
            if !offered.is_empty() {
                let stamp = crate::Stamp(now.0 / 1_000_000);
                replica.push(Input::Propose { stamp, commands: offered });
            }
            replica.step(now);
            if let Err(v) = replica.core().check() {
                self.fail(id, &format!("{}: {}", v.rule, v.detail));
            }
            self.carry_out(id);
            let host = &self.hosts[&id];
            if !host.replica.as_ref().is_some_and(crate::Replica::has_input) {
                return;
            }
        }
    }

    fn carry_out(&mut self, id: NodeId) {
        if self.hosts[&id].replica.is_none() || self.hosts[&id].paused {
            return;
        }
        self.carry_out_writes(id);
        self.carry_out_reads(id);
        self.carry_out_notices(id);
        self.carry_out_sends(id);
        self.carry_out_applies(id);
        let host = self.hosts.get_mut(&id).expect("a member");
        host.timer += 1;
        if let Some(at) = host.replica.as_ref().and_then(crate::Replica::deadline) {
            let event = Event::Timer { node: id, life: host.life, generation: host.timer };
            self.events.schedule(at.max(Time(self.now.0 + 1)), event);
        }
    }

    fn carry_out_writes(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).expect("a member");
        let writes = host.replica.as_mut().map(crate::Replica::take_writes).unwrap_or_default();
        for write in writes {
            if let Err(why) = self.invariants.writes(&write.ops) {
                self.fail(id, &why);
            }
            let host = self.hosts.get_mut(&id).expect("a member");
            assert_eq!(write.ticket, host.last_ticket.next(), "{id}: tickets rise by one");
            host.last_ticket = write.ticket;
            host.disk.append(write);
        }
        let host = self.hosts.get_mut(&id).expect("a member");
        if host.disk.is_dirty() && !host.syncing {
            host.syncing = true;
            let (life, ticket) = (host.life, host.disk.written_ticket());
            let at = self.now + self.rng.duration(self.options.fsync, self.options.fsync_spread);
            self.events.schedule(at, Event::Synced { node: id, life, ticket });
        }
    }

    pub(super) fn synced(&mut self, id: NodeId, life: u64, ticket: Ticket) {
        let host = self.hosts.get_mut(&id).expect("a member");
        if host.life != life || host.replica.is_none() {
            return;
        }
        host.disk.sync(ticket);
        host.syncing = false;
        host.durable_ticket = ticket;
        if let Some(replica) = &mut host.replica {
            replica.persisted(ticket);
        }
        self.finish_snapshot(id);
        self.turn(id);
    }

    fn carry_out_reads(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).expect("a member");
        let Some(replica) = &mut host.replica else { return };
        for request in replica.take_reads() {
            let found = host.disk.read(request.span, self.options.frame_bytes);
            replica.read_done(request, found);
        }
    }

    fn carry_out_sends(&mut self, id: NodeId) {
        let mut broken = Vec::new();
        for to in self.nodes() {
            let mut frames = Vec::new();
            let Some(replica) = self.hosts.get_mut(&id).and_then(|h| h.replica.as_mut()) else { return };
            replica.drain(to, u64::MAX, &mut frames);
            for frame in frames {
                self.count(id, to, &frame);
                let Some(session) = self.network.session(id, to) else { continue };
                match self.network.fate(self.now, id, to, &mut self.rng) {
                    Fate::Deliver(times) => {
                        for at in times {
                            let packet = Packet { from: id, to, session, frame: frame.clone() };
                            self.events.schedule(at, Event::Deliver(packet));
                        }
                    }
                    Fate::Lost => {}
                    Fate::Broken => {
                        broken.push(to);
                        break;
                    }
                }
            }
        }
        for to in broken {
            self.break_link(id, to);
        }
    }

    fn count(&mut self, from: NodeId, to: NodeId, frame: &Frame<P::Message>) {
        let (kind, phase) = (frame.message.kind(), frame.message.phase());
        *self.counters.by_kind.entry(kind).or_default() += 1;
        *self.counters.by_phase.entry(phase).or_default() += 1;
        let bytes: u64 = frame.entries.iter().map(|e| u64::from(e.bytes())).sum();
        *self.counters.entry_bytes.entry(phase).or_default() += bytes;
        let span = match (frame.entries.first(), frame.entries.last()) {
            (Some(a), Some(b)) if a.id == b.id => format!(" [{}]", a.id),
            (Some(a), Some(b)) => format!(" [{}..{}]", a.id, b.id),
            _ => String::new(),
        };
        self.note(format!("{from} -> {to} {:?}{span}", frame.message));
    }

    fn carry_out_applies(&mut self, id: NodeId) {
        loop {
            let host = self.hosts.get_mut(&id).expect("a member");
            let Some(replica) = &mut host.replica else { return };
            let disk = &host.disk;
            let Some(batch) = replica.take_committed(1 << 20, |span, max| disk.read(span, max)) else {
                return;
            };
            match batch {
                Committed::Install(at) => self.install(id, at),
                Committed::Entries(entries) => {
                    for entry in entries {
                        let host = self.hosts.get_mut(&id).expect("a member");
                        host.state.apply(&entry);
                        let state = host.state;
                        if let Err(why) = self.ledger.check(&entry, &state) {
                            self.fail(id, &why);
                        }
                    }
                    let state = self.hosts[&id].state;
                    self.note(format!("{id} applied {}", state.last));
                }
            }
            self.maybe_snapshot(id);
        }
    }

    // ---- snapshots -----------------------------------------------------------------------------------------

    fn maybe_snapshot(&mut self, id: NodeId) {
        let Some(every) = self.options.snapshot_every else { return };
        let host = &self.hosts[&id];
        let newest = host.disk.newest().map_or(Index::ZERO, |s| s.state.last.index);
        if host.pending_snapshot.is_none() && host.state.last.index.0 >= newest.0 + every {
            self.snapshot(id);
        }
    }

    /// `id` takes a snapshot of what it has applied; visible once the log is durable up to it.
    pub fn snapshot(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).expect("a member");
        host.pending_snapshot = Some(PendingSnapshot { state: host.state, after: host.last_ticket });
        self.finish_snapshot(id);
    }

    fn finish_snapshot(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).expect("a member");
        let Some(pending) = host.pending_snapshot.take() else { return };
        if pending.after > host.durable_ticket {
            host.pending_snapshot = Some(pending);
            return;
        }
        let (at, configurations) = (pending.state.last, host.configurations.clone());
        host.disk.store(Snapshot { state: pending.state, configurations, staged: false });
        if let Some(replica) = &mut host.replica {
            replica.push(Input::SnapshotTaken { at });
        }
        self.note(format!("{id} snapshot {at}"));
    }

    pub(super) fn receive_snapshot(
        &mut self,
        from: NodeId,
        to: NodeId,
        epoch: crate::Epoch,
        state: State,
        configurations: Vec<crate::ConfigurationAt>,
    ) {
        let host = self.hosts.get_mut(&to).expect("a member");
        if host.replica.is_none() {
            return;
        }
        let staged = Snapshot { state, configurations: configurations.clone(), staged: true };
        host.disk.store(staged);
        self.note(format!("{to} received snapshot {} of {from}", state.last));
        self.input(to, Input::SnapshotReceived { from, epoch, at: state.last, configurations });
    }

    fn install(&mut self, id: NodeId, at: LogId) {
        let host = self.hosts.get_mut(&id).expect("a member");
        let snapshot =
            host.disk.at(at).cloned().unwrap_or_else(|| panic!("{id} installs an unknown snapshot {at}"));
        assert!(at.index > host.state.last.index, "{id} installs {at} over the newer {}", host.state.last);
        let base = host.disk.durable().base;
        assert!(base.index >= at.index, "{id} installs {at} before its log begins there durably ({base})");
        host.disk.settle_staged(at);
        host.state = snapshot.state;
        host.configurations = snapshot.configurations;
        host.pending_snapshot = None;
        self.counters.installs += 1;
        self.note(format!("{id} installed {at}"));
        if let Err(why) = self.ledger.check_snapshot(&snapshot.state) {
            self.fail(id, &why);
        }
    }

    // ---- notices -------------------------------------------------------------------------------------------

    fn carry_out_notices(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).expect("a member");
        let notices = host.replica.as_mut().map(crate::Replica::take_notices).unwrap_or_default();
        for notice in notices {
            self.notice(id, notice);
        }
    }

    fn notice(&mut self, id: NodeId, notice: Notice) {
        match notice {
            Notice::SendSnapshot { to, at } => self.send_snapshot(id, to, at),
            // It stays staged until its `Purge` is durable: a crash before forgets it (contract schedule 3).
            Notice::InstallAccepted { at } => self.note(format!("{id} accepts snapshot {at}")),
            Notice::Readable { token, at, .. } => self.barrier_passed(id, token, at),
            Notice::Refused { token, why } => {
                self.note(format!("{id} refused {token:?} {why:?}"));
                let host = self.hosts.get_mut(&id).expect("a member");
                host.barriers.remove(&token.0);
                host.refused.push(token.0);
            }
            Notice::Phase { role, phase, epoch, leader } => {
                let leader = leader.map_or_else(|| "-".to_owned(), |l| l.to_string());
                self.note(format!("{id}@{epoch} {role:?} {phase:?} ⇨ {leader}"));
                if role == Role::Leader && phase == Phase::Broadcast {
                    self.counters.reigns += 1;
                    let host = &self.hosts[&id];
                    let log = host.disk.written();
                    if let Err(why) = self.invariants.leads(id, host.life, epoch, log, &self.ledger) {
                        self.fail(id, &why);
                    }
                }
            }
            Notice::Configured { at, configuration, settled } => {
                self.note(format!("{id} configured from {at} settled={settled}"));
                let host = self.hosts.get_mut(&id).expect("a member");
                host.configurations.push(crate::ConfigurationAt { from: at, configuration });
            }
            Notice::Ignored { from, why } => {
                self.note(format!("{id} ignored {from}: {why}"));
                *self.counters.ignored.entry(why).or_default() += 1;
            }
            Notice::Overflown(peer) => self.break_link(id, peer),
        }
    }

    fn send_snapshot(&mut self, from: NodeId, to: NodeId, at: LogId) {
        self.counters.snapshots_sent += 1;
        let host = &self.hosts[&from];
        let Some(snapshot) = host.disk.at(at).cloned() else {
            panic!("{from} sends a snapshot it does not have: {at}");
        };
        let epoch = host.replica.as_ref().map(|r| r.status().epoch).unwrap_or_default();
        let (state, configurations) = (snapshot.state, snapshot.configurations);
        let arrives = self.now + self.rng.duration(Duration::from_millis(2), Duration::from_millis(20));
        self.note(format!("{from} streams snapshot {at} to {to}"));
        self.events.schedule(arrives, Event::SnapshotArrives { from, to, epoch, state, configurations });
    }

    fn barrier_passed(&mut self, id: NodeId, token: Token, at: Index) {
        let host = self.hosts.get_mut(&id).expect("a member");
        let Some(asked) = host.barriers.remove(&token.0) else { return };
        host.readable.insert(token.0, at);
        if at < asked {
            self.fail(
                id,
                &format!("freshness: barrier passed at {at}, {asked} was applied when it was asked"),
            );
        }
    }
}
