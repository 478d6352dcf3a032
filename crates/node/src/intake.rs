//! What reaches the core thread in a turn: connections, frames, the mailbox.

use crate::apply_thread::Job;
use crate::codec::{FrameError, Incoming};
use crate::core_thread::{Core, OWN_TOKENS};
use crate::link::{Link, LinkError};
use crate::snapshots::SnapshotEvent;
use crate::story;
use crate::transport::Arrival;
use bytes::Bytes;
use replog::{Input, Message, NodeId, ReplicatedLog, Token};
use std::task::{Context, Poll};
use std::time::Instant;
use wal::Disk;

/// A command must leave this much of a frame to its message.
const FRAME_SLACK: usize = 1024;

impl<P: ReplicatedLog, D: Disk> Core<P, D> {
    pub(crate) fn take_arrivals(&mut self, cx: &mut Context<'_>, now: Instant) {
        for arrival in std::mem::take(&mut self.waiting) {
            self.take_arrival(arrival, now);
        }
        while let Poll::Ready(Some(arrival)) = self.hands.arrivals.poll_recv(cx) {
            self.take_arrival(arrival, now);
        }
    }

    fn take_arrival(&mut self, arrival: Arrival, now: Instant) {
        match arrival {
            Arrival::Link { peer, stream, token } => {
                self.drop_link(peer, &LinkError::Replaced);
                if self.downed.contains(&peer) {
                    self.waiting.push(Arrival::Link { peer, stream, token });
                    return;
                }
                tracing::info!(node = %self.figures.id, %peer, "link up");
                if let Some(tracer) = &self.tracer {
                    tracer.put(story::link(peer, None));
                }
                self.links.insert(peer, Link::new(peer, stream, token, now));
                self.hands.transport.linked(peer);
                self.replica.set_link(peer, true);
                self.app.on_link(peer, true);
                self.shared.stats.links_up.add(1);
            }
            Arrival::Snapshot { peer, stream } => self.hands.snapshots.receive(peer, stream),
        }
    }

    /// Takes the link to `peer` down, if there is one.
    pub(crate) fn drop_link(&mut self, peer: NodeId, why: &LinkError) {
        if self.links.remove(&peer).is_none() {
            return;
        }
        tracing::info!(node = %self.figures.id, %peer, "link down: {why}");
        if let Some(tracer) = &self.tracer {
            tracer.put(story::link(peer, Some(why.to_string())));
        }
        self.downed.push(peer);
        self.replica.set_link(peer, false);
        self.app.on_link(peer, false);
        self.hands.transport.lost(peer);
        self.shared.stats.links_down.add(1);
        if why.is_fault() {
            self.shared.stats.link_faults.add(1);
        }
    }

    pub(crate) fn read_links(&mut self, cx: &mut Context<'_>, now: Instant) {
        let mut broken = Vec::new();
        let mut frames = std::mem::take(&mut self.frames);
        for (&peer, link) in &mut self.links {
            let (outcome, result) = link.read(cx, self.figures.decoder, now, &mut frames);
            self.shared.stats.socket_reads.add(outcome.reads);
            self.again |= outcome.more;
            let arrived = link.emptied;
            for frame in frames.drain(..) {
                match frame {
                    Incoming::Core { message, entries, bytes } => {
                        self.shared.stats.received(message.phase(), entries.len(), bytes);
                        link.word = Some(arrived);
                        if let Some(tracer) = &self.tracer {
                            tracer.received(link, &message, &entries, bytes);
                        }
                        self.replica.push(Input::Message { from: peer, message, entries });
                    }
                    Incoming::App { message, bytes } => {
                        self.shared.stats.app_received.add(0, bytes);
                        self.app.on_message(peer, message);
                    }
                    Incoming::Ping => {}
                }
            }
            match result {
                Ok(()) if !outcome.more => link.mark_emptied(now),
                Ok(()) => {}
                Err(e) => broken.push((peer, e)),
            }
        }
        self.frames = frames;
        for (peer, e) in broken {
            self.drop_link(peer, &e);
        }
    }

    /// False if the node has to stop at once.
    pub(crate) fn take_mail(&mut self, now: Instant) -> bool {
        if self.reading > 0 {
            for (request, found) in self.hands.reads.answers() {
                self.reading -= 1;
                self.replica.read_done(request, found);
            }
            for span in self.hands.reads.damaged() {
                self.replica.push(Input::Damaged(span));
            }
        }
        let mut inbox = std::mem::take(&mut self.inbox);
        if self.shared.mailbox.take(&mut inbox) {
            if inbox.stop {
                return false;
            }
            if inbox.durable > self.durable {
                self.durable = inbox.durable;
                self.replica.persisted(inbox.durable);
                if let Some(tracer) = &self.tracer {
                    tracer.put(story::durable(inbox.durable));
                }
            }
            self.take_messages(&mut inbox.messages);
            self.take_proposals(&mut inbox.proposals);
            for token in inbox.barriers.drain(..) {
                self.replica.push(Input::Read { token: Token(token), mode: self.figures.read_mode });
            }
            if let Some(to) = inbox.transfer.take() {
                self.replica.push(Input::Transfer { token: Token(OWN_TOKENS), to });
            }
            for event in inbox.snapshots.drain(..) {
                self.take_snapshot_event(event);
            }
            if inbox.shutdown && self.ending.is_none() {
                self.begin_to_end(now);
            }
        }
        self.inbox = inbox;
        true
    }
    fn take_messages(&mut self, messages: &mut Vec<(NodeId, Bytes)>) {
        for (to, message) in messages.drain(..) {
            let Some(link) = self.links.get_mut(&to) else { continue };
            let limit = self.figures.encoder.limit;
            let queued = if message.len() > limit as usize {
                Err(FrameError::TooLong { bytes: message.len(), limit }.into())
            } else {
                link.queue(message)
            };
            if let Err(e) = queued {
                self.drop_link(to, &e);
            }
        }
    }

    fn take_proposals(&mut self, proposals: &mut Vec<Bytes>) {
        let limit = (self.figures.encoder.limit as usize).saturating_sub(FRAME_SLACK);
        for command in proposals.drain(..) {
            // It could be written, but never sent: the link would go down for ever.
            if command.len() > limit {
                tracing::error!(node = %self.figures.id, "a command of {} bytes exceeds {limit}: dropped", command.len());
            } else {
                self.proposals.push_back(command);
            }
        }
    }

    fn take_snapshot_event(&mut self, event: SnapshotEvent) {
        if let (Some(tracer), SnapshotEvent::Taken { at }) = (&self.tracer, &event) {
            tracer.put(story::snapshot("taken", *at, None));
        }
        self.replica.push(match event {
            SnapshotEvent::Taken { at } => Input::SnapshotTaken { at },
            SnapshotEvent::Wanted => return self.hands.apply.queue.push(Job::Snapshot),
            SnapshotEvent::Sent { to, at, whole } => Input::SnapshotSent { to, at, whole },
            SnapshotEvent::Received { from, epoch, at, configurations } => {
                self.staged.push(at);
                Input::SnapshotReceived { from, epoch, at, configurations }
            }
        });
    }
}
