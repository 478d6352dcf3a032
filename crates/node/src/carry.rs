//! What a step asks for, carried out: views, batches, reads, frames. Writes go to the log thread at the turn's end.
//!
//! The order within a turn is by who waits longest: first the apply thread (a client waits for its reply), then the
//! peers (their fsync begins when our frame arrives), then our own log thread, whose fsync is the shorter way.

use crate::apply_thread::Job;
use crate::core_thread::{Core, OWN_TOKENS};
use crate::link::{HIGH_BYTES, Link, LinkError};
use crate::story::{self, Tracer};
use crate::{Barrier, View};
use replog::{Committed, Frame, LogReader, Message, Notice, QuorumPhase, Refusal, ReplicatedLog, Role};
use std::cell::Cell;
use std::task::Context;
use std::time::Instant;
use wal::Disk;

/// Bytes of entries in one batch for the apply thread.
const APPLY_BYTES: u64 = 1 << 20;

impl<P: ReplicatedLog, D: Disk> Core<P, D> {
    /// Everything of a step but its frames and writes.
    pub(crate) fn carry_out(&mut self, now: Instant) {
        self.take_writes();
        let changed = self.take_notices(now);
        self.hand_over_committed();
        for request in self.replica.take_reads() {
            self.reading += 1;
            self.hands.reads.requests.push(request);
        }
        self.update_view(now, changed);
    }

    fn take_writes(&mut self) {
        let writes = self.replica.take_writes();
        self.written = writes.last().map_or(self.written, |w| w.ticket);
        if let Some(tracer) = &self.tracer {
            writes.iter().for_each(|w| tracer.put(story::write(w)));
        }
        if self.writes.is_empty() {
            self.writes = writes;
        } else {
            self.writes.extend(writes);
        }
    }

    fn hand_over_committed(&mut self) {
        let from_disk = Cell::new(false);
        while !from_disk.get() && !self.hands.apply.queue.is_full() {
            let read = |span, max_bytes| {
                from_disk.set(true);
                self.hands.reader.read(span, max_bytes)
            };
            match self.replica.take_committed(APPLY_BYTES, read) {
                None => return,
                Some(Committed::Install(at)) => {
                    if let Some(tracer) = &self.tracer {
                        tracer.put(story::snapshot("installed", at, None));
                    }
                    self.hands.apply.queue.push(Job::Install { at });
                }
                Some(Committed::Entries(entries)) => {
                    if let (Some(tracer), Some(record)) = (&self.tracer, story::apply(&entries)) {
                        tracer.put(record);
                    }
                    let bytes = entries.iter().map(|e| u64::from(e.bytes())).sum();
                    self.stamp = entries.last().map_or(self.stamp, |e| self.stamp.max(e.stamp));
                    self.hands.apply.apply(entries, bytes, self.written);
                }
            }
        }
        // A read from the disk is enough for one turn: heartbeats come first.
        self.again |= from_disk.get();
    }

    /// True if role, phase, epoch or leader changed.
    fn take_notices(&mut self, now: Instant) -> bool {
        let mut changed = false;
        let mut accepted = Vec::new();
        for notice in self.replica.take_notices() {
            if let Some(tracer) = &self.tracer {
                tracer.notice(&notice);
            }
            match notice {
                Notice::Phase { role, .. } => {
                    self.count_role(role);
                    changed = true;
                }
                Notice::SendSnapshot { to, at } => {
                    let transport = &self.hands.transport;
                    self.hands.snapshots.send(transport, to, at, self.status.epoch);
                }
                Notice::InstallAccepted { at } => {
                    self.hands.snapshots.accepted(at);
                    accepted.push(at);
                }
                Notice::Readable { token, at, until } => {
                    let until = until.map(|t| self.clock.instant(t));
                    self.app.on_barrier(token.0, Ok(Barrier { at, until }));
                }
                Notice::Refused { token, why } if token.0 >= OWN_TOKENS => {
                    tracing::info!(node = %self.figures.id, "leadership is not handed over: {why:?}");
                    if why != Refusal::Busy {
                        self.stop_waiting_for_a_successor(now);
                    }
                }
                Notice::Refused { token, why } => self.app.on_barrier(token.0, Err(why)),
                Notice::Configured { at, configuration, settled } => {
                    tracing::info!(node = %self.figures.id, %at, settled, ?configuration, "configuration");
                    self.hands.snapshots.configured(at, &configuration, settled);
                    self.configuration = configuration;
                }
                Notice::Ignored { from, why } => {
                    self.shared.stats.ignored.add(1);
                    tracing::debug!(node = %self.figures.id, %from, why, "ignored");
                }
                Notice::Overflown(peer) => self.drop_link(peer, &LinkError::Overflow),
            }
        }
        for at in std::mem::take(&mut self.staged) {
            if !accepted.contains(&at) {
                self.hands.snapshots.discard(at);
            }
        }
        changed
    }

    fn count_role(&mut self, role: Role) {
        if role == Role::Electing && self.role != Role::Electing {
            self.shared.stats.elections.add(1);
        }
        if role == Role::Leader && self.role != Role::Leader {
            self.shared.stats.won.add(1);
        }
        self.role = role;
    }

    fn update_view(&mut self, now: Instant, changed: bool) {
        self.contact = self.contact.max(self.last_contact(now));
        let view = View::of(self.status, self.contact);
        *self.shared.view.lock() = view;
        if changed {
            if let Some(tracer) = &self.tracer {
                tracer.put(story::phase(&self.status));
            }
            let View { role, phase, epoch, leader, last, committed, .. } = view;
            let leader = leader.map_or(0, |l| l.0);
            tracing::info!(node = %self.figures.id, ?role, ?phase, %epoch, leader, %last, %committed, "view");
            self.app.on_view(&view);
        }
    }

    /// When this node last heard its leader, or as leader a quorum.
    fn last_contact(&self, now: Instant) -> Instant {
        let word = |peer| self.links.get(&peer).and_then(|l: &Link| l.word);
        let me = self.figures.id;
        let contact = match (self.status.role, self.status.leader) {
            (Role::Leader, _) => {
                let since = |at: Instant| {
                    let heard = |n| n == me || word(n).is_some_and(|w| w >= at);
                    self.configuration.is_quorum(QuorumPhase::Replication, heard)
                };
                if since(now) {
                    Some(now)
                } else {
                    self.links.values().filter_map(|l| l.word).filter(|w| since(*w)).max()
                }
            }
            (Role::Electing, _) | (_, None) => None,
            (_, Some(leader)) => word(leader),
        };
        contact.unwrap_or(self.contact)
    }

    /// Encodes what may leave, writes what the sockets take.
    pub(crate) fn flush_links(&mut self, cx: &mut Context<'_>, now: Instant) {
        let mut broken = Vec::new();
        let mut frames = std::mem::take(&mut self.outgoing);
        for (&peer, link) in &mut self.links {
            loop {
                let (encoder, tracer) = (self.figures.encoder, self.tracer.as_ref());
                if let Err(e) =
                    encode(&mut self.replica, link, &mut frames, encoder, &self.shared.stats, tracer)
                {
                    broken.push((peer, e));
                    break;
                }
                if !link.is_blocked() {
                    break;
                }
                match link.flush(cx, now) {
                    Ok(writes) => self.shared.stats.socket_writes.add(writes),
                    Err(e) => {
                        broken.push((peer, e));
                        break;
                    }
                }
                if link.is_blocked() {
                    break;
                }
            }
        }
        frames.clear();
        self.outgoing = frames;
        for (peer, e) in broken {
            self.drop_link(peer, &e);
        }
    }

    /// Pings the quiet ones and gives up the silent ones.
    pub(crate) fn look_after_links(&mut self, now: Instant) {
        let mut silent = Vec::new();
        for (&peer, link) in &mut self.links {
            if now.saturating_duration_since(link.heard) >= self.figures.link_timeout {
                // After a pause the bytes may be there, only not yet polled: look once more.
                if std::mem::replace(&mut link.suspect, true) {
                    silent.push(peer);
                }
                self.again = true;
            } else {
                link.suspect = false;
            }
            let quiet = now.saturating_duration_since(link.said) >= self.figures.ping_interval;
            if quiet && !link.is_blocked() && self.figures.encoder.ping(link.out()).is_ok() {
                link.said = now;
            }
        }
        for peer in silent {
            self.drop_link(peer, &LinkError::Silent);
        }
    }

    /// When [`Self::look_after_links`] has something to do for this link.
    pub(crate) fn next_care(&self, link: &Link) -> Instant {
        let silent = link.heard + self.figures.link_timeout;
        if link.is_blocked() { silent } else { silent.min(link.said + self.figures.ping_interval) }
    }
}

/// Fills the link's send buffer: core frames first, then the application's.
fn encode<P: ReplicatedLog>(
    replica: &mut replog::Replica<P>,
    link: &mut Link,
    frames: &mut Vec<Frame<P::Message>>,
    encoder: crate::codec::Encoder,
    stats: &crate::counters::Stats,
    tracer: Option<&Tracer>,
) -> Result<(), LinkError> {
    while link.has_room() {
        replica.drain(link.peer, HIGH_BYTES as u64, frames);
        if frames.is_empty() {
            break;
        }
        for Frame { message, entries } in frames.drain(..) {
            let bytes = encoder.core(&message, &entries, link.out())?;
            stats.sent(message.phase(), entries.len(), bytes);
            if let Some(tracer) = tracer {
                tracer.sent(link, &message, &entries, bytes);
            }
        }
    }
    link.encode_app(encoder, |bytes| stats.app_sent.add(0, bytes))?;
    Ok(())
}
