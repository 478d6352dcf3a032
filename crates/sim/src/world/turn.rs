//! A turn of a node's core thread, in the order of `node/src/core_thread.rs` and `carry.rs`.
//!
//! ```text
//!  inbox (frames, links, tickets, snapshots) ─► the application's wishes ─► offer proposals ─► one step ─► carry out:
//!     notices, committed batches, reads ─► frames to peers ─► writes to the log
//! ```
//!
//! Rules kept from there: inputs before timers; messages lie between `Peer` up and down; a `Peer` up never shares a batch
//! with the `Peer` down before it; the peers' frames leave before the own log begins to write.

use super::host::{Job, LinkEnd, Mail, Process};
use super::network::Load;
use super::observe::Happening;
use super::{Event, Life, Simulated, World};
use bytes::Bytes;
use node::{Application, Barrier, View};
use replog::{
    Committed, Entry, Frame, Input, LogReader, NodeId, Notice, QuorumPhase, ReadMode, Refusal, Role, Stamp,
    Token,
};
use std::cell::Cell;
use std::time::Duration;
use znode::{Command, Decision};

/// Tokens from here on are the driver's own.
const OWN_TOKENS: u64 = 1 << 63;
/// Bytes of entries in one batch for the apply thread.
const APPLY_BYTES: u64 = 1 << 20;
/// What a turn costs, and each input of it, in ns.
const TURN_NS: u64 = 3_000;
const INPUT_NS: u64 = 500;
/// How long a graceful end waits for another leader.
const SHUTDOWN_NS: u64 = 2_000_000_000;
/// A leader that has heard no quorum for longer than three heartbeats expires no session.
const UNHEARD_NS: u64 = 301_000_000;
/// Core's own invariants are looked at after every step in debug builds, after so many in release builds.
const CHECK_EVERY: u32 = if cfg!(debug_assertions) { 1 } else { 16 };

/// Why a process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was asked to.
    Graceful,
    /// `on_fatal`, with its words.
    Fatal(String),
}

/// What a turn came to: whether another is needed at once.
type Outcome = Result<bool, End>;

impl<P: Simulated> World<'_, P> {
    /// The node has something to do: now if it can.
    pub(crate) fn poke(&mut self, i: usize) {
        let ready = self.ready_at(i);
        let host = &mut self.hosts[i];
        let paused = host.paused;
        let Some(process) = &mut host.process else { return };
        if process.turn_scheduled || paused {
            return;
        }
        process.turn_scheduled = true;
        if ready <= self.now {
            self.turn(i);
        } else {
            let event = Event::Turn(Life { host: i, life: host.life });
            self.events.schedule(ready, event);
        }
    }

    /// As [`Self::poke`], from within another node's turn or after the own one.
    pub(crate) fn wake(&mut self, i: usize) {
        let ready = self.ready_at(i).max(self.now);
        let host = &mut self.hosts[i];
        let Some(process) = host.process.as_mut().filter(|p| !p.turn_scheduled && !host.paused) else {
            return;
        };
        process.turn_scheduled = true;
        self.events.schedule(ready, Event::Turn(Life { host: i, life: host.life }));
    }

    /// When the node's threads may run.
    pub(crate) fn ready_at(&self, i: usize) -> u64 {
        let host = &self.hosts[i];
        let busy = host.process.as_ref().map_or(0, |p| p.busy_until);
        let at = busy.max(self.now);
        match host.starved {
            Some((starved, period)) if at % period < starved => at - at % period + starved,
            _ => busy,
        }
    }

    /// A turn, if the node runs.
    pub(crate) fn turn(&mut self, i: usize) {
        let host = &mut self.hosts[i];
        if host.paused {
            if let Some(process) = &mut host.process {
                process.turn_scheduled = false;
            }
            return;
        }
        let Some(mut process) = host.process.take() else { return };
        process.turn_scheduled = false;
        let outcome = self.take_turn(i, &mut process);
        process.last_turn = self.hosts[i].clock.local(self.now).0;
        let jobs = !process.jobs.is_empty() && !process.apply_scheduled;
        let answered = std::mem::take(&mut process.answered);
        self.hosts[i].process = Some(process);
        match outcome {
            Ok(again) => {
                if jobs {
                    self.apply_soon(i);
                } else if answered {
                    self.after_service(i);
                }
                if again {
                    self.wake(i);
                }
            }
            Err(end) => self.end_process(i, &end),
        }
    }

    fn take_turn(&mut self, i: usize, process: &mut Process<P>) -> Outcome {
        let now = self.now;
        let inputs = process.inbox.len() as u64;
        self.hosts[i].show_time(now, process);
        process.busy_until = now + TURN_NS + INPUT_NS * inputs;
        let mut again = self.take_inbox(i, process);
        self.take_wishes(i, process);
        again |= self.offer_proposals(i, process);
        let local = self.hosts[i].clock.local(now);
        if process.replica.has_input() || process.replica.deadline().is_some_and(|d| d <= local) {
            self.step(i, process);
        }
        let writes = process.replica.take_writes();
        if !self.observers.is_empty() {
            for write in &writes {
                self.tell(i, Happening::Wrote { ticket: write.ticket, ops: &write.ops });
            }
        }
        if let Some(last) = writes.last() {
            process.written = last.ticket;
            self.trace_writes(i, &writes);
        }
        self.take_notices(i, process)?;
        again |= hand_over_committed(process);
        for request in process.replica.take_reads() {
            let found = process.reader.read(request.span, self.settings.limits.frame_bytes);
            if found.is_err() {
                for span in process.reader.take_damaged() {
                    process.replica.push(Input::Damaged(span));
                }
            }
            process.replica.read_done(request, found);
        }
        self.flush(i, process);
        process.log_queue.extend(writes);
        self.write_log(i, process)?;
        if process.ending.is_some_and(|until| process.status.role != Role::Leader || now >= until) {
            return Err(End::Graceful);
        }
        self.set_alarm(i, process);
        let room = process.status.room.commands > 0 && !process.proposals.is_empty();
        Ok(again || process.replica.has_input() || room)
    }

    /// True if something has to wait for the next turn.
    fn take_inbox(&mut self, i: usize, process: &mut Process<P>) -> bool {
        let mut mail = std::mem::take(&mut process.inbox).into_iter();
        while let Some(item) = mail.next() {
            let Mail::Up { peer, session } = item else {
                self.take_item(i, process, item);
                continue;
            };
            if process.links[peer].is_some() {
                self.drop_link(i, process, peer, false);
            }
            if process.downed.contains(&peer) {
                process.inbox.push(Mail::Up { peer, session });
                process.inbox.extend(mail);
                return true;
            }
            self.take_link(i, process, peer, session);
        }
        false
    }

    fn take_link(&mut self, i: usize, process: &mut Process<P>, peer: usize, session: u64) {
        let (id, now) = (self.hosts[peer].id, self.now);
        process.links[peer] = Some(LinkEnd { session, heard: now, said: now, word: None });
        process.replica.set_link(id, true);
        process.app.on_link(id, true);
        self.trace_link(i, peer, true);
        self.tell(i, Happening::Link { peer: id, up: true });
    }

    fn take_item(&mut self, i: usize, process: &mut Process<P>, item: Mail<P::Message>) {
        match item {
            Mail::Frame { from, session, id, load } => self.take_frame(i, process, from, session, id, load),
            Mail::Durable(ticket) => process.replica.persisted(ticket),
            Mail::Taken { at } => process.replica.push(Input::SnapshotTaken { at }),
            Mail::Sent { to, at, whole } => {
                let to = self.hosts[to].id;
                process.replica.push(Input::SnapshotSent { to, at, whole });
            }
            Mail::Received { from, epoch, at, configurations } => {
                process.staged.push(at);
                let from = self.hosts[from].id;
                process.replica.push(Input::SnapshotReceived { from, epoch, at, configurations });
            }
            Mail::Transfer => process.replica.push(Input::Transfer { token: Token(OWN_TOKENS), to: None }),
            Mail::Shutdown => {
                let leads = process.status.role == Role::Leader && self.settings.nodes > 1;
                if leads {
                    process.replica.push(Input::Transfer { token: Token(OWN_TOKENS), to: None });
                }
                let until = self.now + if leads { SHUTDOWN_NS } else { 0 };
                process.ending = Some(until);
                self.events.schedule(until, Event::Turn(Life { host: i, life: self.hosts[i].life }));
            }
            Mail::Up { .. } => {}
        }
    }

    fn take_frame(
        &mut self,
        i: usize,
        process: &mut Process<P>,
        from: usize,
        session: u64,
        id: u64,
        load: Load<P::Message>,
    ) {
        let last_turn = process.last_turn;
        let Some(link) = process.links[from].as_mut().filter(|l| l.session == session) else { return };
        link.heard = self.now;
        let peer = self.hosts[from].id;
        match load {
            Load::Ping => {}
            Load::End => self.drop_link(i, process, from, false),
            Load::App(message) => process.app.on_message(peer, message),
            Load::Core { message, entries } => {
                // As in `View::contact`: it may have lain there since the socket was last found empty.
                link.word = Some(link.word.unwrap_or(0).max(last_turn));
                self.trace_receive(i, from, id, &message, &entries);
                let (m, e) = (&message, &entries[..]);
                self.tell(i, Happening::Received { from: peer, id, message: m, entries: e });
                process.replica.push(Input::Message { from: peer, message, entries });
            }
        }
    }

    /// What the application asked for.
    fn take_wishes(&mut self, i: usize, process: &mut Process<P>) {
        let Some(mail) = process.wishes.take().or_else(|| process.handle.take_mail()) else { return };
        if let Some(text) = self.expires_unheard(i, process, &mail.proposals) {
            self.violate("C7", text);
        }
        process.proposals.extend(mail.proposals);
        for (to, message) in mail.messages {
            let to = (to.0 - 1) as usize;
            self.send(i, process, to, 0, Load::App(message));
        }
        for token in mail.barriers {
            let leased = self.settings.switches.lease == Some(true) && token.is_multiple_of(2);
            let mode = if leased { ReadMode::Lease } else { ReadMode::Quorum };
            process.replica.push(Input::Read { token: Token(token), mode });
        }
        if let Some(to) = mail.transfer {
            process.replica.push(Input::Transfer { token: Token(OWN_TOKENS), to });
        }
    }

    /// A leader decides that a session's time is over only while it hears a quorum: whoever was cut off, or stopped, has
    /// not heard of the clients either. The service decides when it looks at its clock.
    // spec: protocol-traps §4.2
    fn expires_unheard(&self, i: usize, process: &Process<P>, proposals: &[Bytes]) -> Option<String> {
        // Only decisions need a closer look: version, kind.
        let mut decisions = proposals.iter().filter(|command| command.get(1) == Some(&2));
        let session = decisions.find_map(|command| match Command::decode(command) {
            Ok(Command::Decision { decision: Decision::Expire { session }, .. }) => Some(session),
            _ => None,
        })?;
        let silence = process.kept_up.saturating_sub(process.contact);
        (silence > UNHEARD_NS && self.settings.voters > 1).then(|| {
            let ms = silence / 1_000_000;
            format!("{} ends session {session:#x}, and has not heard a quorum for {ms} ms", self.hosts[i].id)
        })
    }

    /// Gives the core as many commands as it has room for.
    fn offer_proposals(&mut self, i: usize, process: &mut Process<P>) -> bool {
        if process.proposals.is_empty() {
            return false;
        }
        if process.status.role != Role::Leader {
            process.proposals.clear();
            return false;
        }
        let room = process.status.room;
        let (mut count, mut bytes) = (0, 0);
        for command in process.proposals.iter().take(room.commands as usize) {
            bytes += command.len() as u64 + u64::from(Entry::OVERHEAD_BYTES);
            if bytes > room.bytes {
                break;
            }
            count += 1;
        }
        if count > 0 {
            process.stamp = process.stamp.max(Stamp(self.hosts[i].clock.wall_ms(self.now)));
            let commands = process.proposals.drain(..count).collect();
            process.replica.push(Input::Propose { stamp: process.stamp, commands });
        }
        false
    }

    fn step(&mut self, i: usize, process: &mut Process<P>) {
        let before = process.status;
        process.replica.step(self.hosts[i].clock.local(self.now));
        process.status = process.replica.status();
        process.downed.clear();
        process.unchecked += 1;
        if process.unchecked >= CHECK_EVERY {
            process.unchecked = 0;
            if let Err(broken) = process.replica.core().check() {
                self.violate("C13", format!("{}: {}: {}", self.hosts[i].id, broken.rule, broken.detail));
            }
        }
        if !self.observers.is_empty() {
            for notice in process.replica.notices() {
                if let Notice::Phase { role, phase, epoch, .. } = *notice {
                    self.tell(i, Happening::Reported { role, phase, epoch });
                }
            }
            let (after, core) = (process.status, process.replica.core());
            self.tell(i, Happening::Stepped { before: &before, after: &after, core });
        }
        self.mix(process.status.committed.0 ^ (process.status.epoch.round as u64) << 40);
    }

    fn take_notices(&mut self, i: usize, process: &mut Process<P>) -> Result<(), End> {
        let mut changed = false;
        let mut accepted = Vec::new();
        for notice in process.replica.take_notices() {
            match notice {
                Notice::Phase { role, .. } => {
                    self.count_role(i, process, role);
                    changed = true;
                }
                Notice::SendSnapshot { to, at } => self.send_snapshot(i, process, (to.0 - 1) as usize, at),
                Notice::InstallAccepted { at } => {
                    process.snapshots.accepted.push(at);
                    accepted.push(at);
                }
                Notice::Readable { token, at, until } => {
                    let until = until.map(|t| process.time.instant(Duration::from_nanos(t.0)));
                    process.app.on_barrier(token.0, Ok(Barrier { at, until }));
                    process.answered = true;
                }
                Notice::Refused { token, why } if token.0 >= OWN_TOKENS => {
                    if why != Refusal::Busy {
                        process.ending = process.ending.map(|until| until.min(self.now));
                    }
                }
                Notice::Refused { token, why } => process.app.on_barrier(token.0, Err(why)),
                Notice::Configured { at, configuration, settled } => {
                    process.snapshots.configured(at, &configuration, settled);
                    process.configuration = configuration;
                }
                Notice::Ignored { from, why } => self.trace_ignored(i, from, why),
                Notice::Overflown(peer) => self.drop_link(i, process, (peer.0 - 1) as usize, true),
            }
        }
        for at in std::mem::take(&mut process.staged) {
            if !accepted.contains(&at) && !process.snapshots.accepted.contains(&at) {
                // It stays if the disk refuses; the next start removes it.
                let _ = process.store.discard(at);
            }
        }
        self.update_view(i, process, changed);
        Ok(())
    }

    fn count_role(&mut self, i: usize, process: &mut Process<P>, role: Role) {
        if role == Role::Leader && process.role != Role::Leader {
            self.figures.reigns += u64::from(self.first_step.is_some());
        }
        process.role = role;
        self.trace_phase(i, process);
    }

    /// Sets the handle's view, and tells the application if it changed.
    fn update_view(&mut self, i: usize, process: &mut Process<P>, changed: bool) {
        let now = self.hosts[i].clock.local(self.now).0;
        process.contact = process.contact.max(last_contact(self.hosts[i].id, now, process));
        let contact = process.time.instant(Duration::from_nanos(process.contact));
        let view = View::of(process.status, contact);
        process.handle.set_view(view);
        if changed {
            process.app.on_view(&view);
            // It may want something sent at once.
            self.take_wishes(i, process);
        }
    }

    /// Sends everything that may leave.
    fn flush(&mut self, i: usize, process: &mut Process<P>) {
        let mut frames: Vec<Frame<P::Message>> = std::mem::take(&mut self.frames);
        for peer in 0..self.hosts.len() {
            if process.links[peer].is_none() {
                continue;
            }
            process.replica.drain(self.hosts[peer].id, u64::MAX, &mut frames);
            for Frame { message, entries } in frames.drain(..) {
                self.next_frame += 1;
                let id = self.next_frame;
                self.trace_send(i, peer, id, &message, &entries);
                if !self.observers.is_empty() {
                    let to = self.hosts[peer].id;
                    self.tell(i, Happening::Sent { to, id, message: &message, entries: &entries });
                }
                self.send(i, process, peer, id, Load::Core { message, entries });
            }
        }
        self.frames = frames;
    }

    /// Sets the timer, unless an earlier one is under way.
    fn set_alarm(&mut self, i: usize, process: &mut Process<P>) {
        let Some(deadline) = process.replica.deadline() else { return };
        let at = self.hosts[i].clock.world(deadline).max(self.now + 1);
        if at < process.alarm {
            process.alarm = at;
            self.events.schedule(at, Event::Timer(Life { host: i, life: self.hosts[i].life }));
        }
    }

    /// A timer event came.
    pub(crate) fn timer(&mut self, i: usize) {
        let now = self.now;
        let local = self.hosts[i].clock.local(now);
        let Some(process) = &mut self.hosts[i].process else { return };
        if process.alarm > now {
            return; // an earlier one took its place
        }
        process.alarm = u64::MAX;
        match process.replica.deadline() {
            Some(deadline) if deadline <= local => self.poke(i),
            Some(deadline) => {
                let at = self.hosts[i].clock.world(deadline).max(now + 1);
                let life = self.hosts[i].life;
                if let Some(process) = &mut self.hosts[i].process {
                    process.alarm = at;
                }
                self.events.schedule(at, Event::Timer(Life { host: i, life }));
            }
            None => {}
        }
    }
}

/// Hands committed batches to the apply thread; true if another turn is needed.
fn hand_over_committed<P: Simulated>(process: &mut Process<P>) -> bool {
    let from_disk = Cell::new(false);
    let reader = &process.reader;
    while !from_disk.get() {
        let read = |span, max_bytes| {
            from_disk.set(true);
            reader.read(span, max_bytes)
        };
        match process.replica.take_committed(APPLY_BYTES, read) {
            None => return false,
            Some(Committed::Install(at)) => process.jobs.push_back(Job::Install { at }),
            Some(Committed::Entries(entries)) => {
                process.stamp = entries.last().map_or(process.stamp, |e| process.stamp.max(e.stamp));
                process.jobs.push_back(Job::Entries { entries, after: process.written });
            }
        }
    }
    true
}

/// When this node last heard its leader, or as leader a quorum.
// spec: crates/node/src/carry.rs last_contact
fn last_contact<P: Simulated>(me: NodeId, now: u64, process: &Process<P>) -> u64 {
    let word = |peer: NodeId| process.links.get((peer.0 - 1) as usize).and_then(|l| l.as_ref()?.word);
    let contact = match (process.status.role, process.status.leader) {
        (Role::Leader, _) => {
            let since = |at: u64| {
                let heard = |n| n == me || word(n).is_some_and(|w| w >= at);
                process.configuration.is_quorum(QuorumPhase::Replication, heard)
            };
            if since(now) {
                Some(now)
            } else {
                process.links.iter().flatten().filter_map(|l| l.word).filter(|w| since(*w)).max()
            }
        }
        (Role::Electing, _) | (_, None) => None,
        (_, Some(leader)) => word(leader),
    };
    contact.unwrap_or(process.contact)
}
