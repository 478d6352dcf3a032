//! What a node calls: [`Application`] for [`Service`].
//!
//! The functions of the core thread hand over and return: they touch leaf locks and single connections, which nobody
//! holds during a system call or while applying a batch.

use super::Service;
use super::connection::Connection;
use super::peer_message::{self, PeerMessage};
use crate::reports::{Mark, Touch};
use bytes::Bytes;
use node::{Application, Barrier, FrozenState, NodeHandle, View};
use replog::{Body, Entry, Epoch, LogId, NodeId, Phase, Refusal, Role, mutant};
use std::io;
use std::sync::Arc;
use znode::{Command, Machine, Request};

/// Connections up to which the core thread may apply: each may have to be told of a change, by a system call.
const FEW_CONNECTIONS: usize = 64;

impl Application for Service {
    fn on_start(&self, handle: &NodeHandle) {
        let _ = self.handle.set(handle.clone());
    }

    fn apply(&self, entries: &[Entry]) {
        self.apply_entries(entries);
    }

    fn apply_at_once(&self, entries: &[Entry]) -> bool {
        // A herd of watchers to tell, the end of a session with 10⁵ ephemerals, a reader that holds the lock: all that is
        // for the apply thread.
        let quick = self.registry.try_read().is_some_and(|registry| registry.len() <= FEW_CONNECTIONS)
            && entries.iter().all(is_quick);
        let Some(machine) = quick.then(|| self.state.try_write()).flatten() else { return false };
        self.apply_entries_in(machine, entries);
        true
    }

    fn freeze(&self) -> FrozenState {
        // A clone costs some reference counts; the tree is copied, page by page, only where it changes meanwhile.
        let frozen = self.state.read().clone();
        Box::new(move |to| frozen.write_snapshot(to))
    }

    fn install(&self, at: LogId, from: &mut dyn io::Read) -> io::Result<()> {
        let machine =
            Machine::read_snapshot(from).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        if machine.last_index() != at.index.0 {
            let reason = format!("it holds the state at {}, not at {}", machine.last_index(), at.index);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let mut state = self.state.write();
        *state = machine;
        // Contract-schedules §7 (c): the events of the changes that were skipped are unknown, and so are the outcomes of
        // requests whose entries lie inside. Clients must come again and ask.
        let abandoned = self.forwarder.lock().on_install(self.now());
        for taker in abandoned {
            taker.connection().close();
        }
        if !mutant!(InstallKeepsConnections) {
            for connection in self.registry.read().iter() {
                connection.close();
            }
            self.watches.lock().clear();
        }
        drop(state);
        Ok(())
    }

    fn on_message(&self, from: NodeId, message: Bytes) {
        // Commands live on in the log's memory; the receive buffer must not be kept alive for them.
        match PeerMessage::decode(Bytes::copy_from_slice(&message)) {
            Some(PeerMessage::Forward(commands)) => {
                if let Some(handle) = self.handle.get() {
                    handle.propose(commands);
                }
            }
            Some(PeerMessage::Touches(mark, touches)) => self.hear(from, mark, touches),
            Some(PeerMessage::Heard(mark)) => self.reports.lock().confirm(mark),
            None => tracing::warn!(%from, bytes = message.len(), "unknown message of a peer"),
        }
    }

    fn on_view(&self, view: &View) {
        let route = route(self.me, view);
        let before = std::mem::replace(&mut *self.route.lock(), route);
        if before != route {
            tracing::info!(role = ?view.role, phase = ?view.phase, epoch = %view.epoch, leader = ?view.leader, "view");
        }
        let now = self.now();
        let mut forwarder = self.forwarder.lock();
        forwarder.on_route(now, route);
        self.forward(&mut forwarder);
        drop(forwarder);
        if !view.is_leading() {
            self.expiry.lock().end();
        }
    }

    fn on_link(&self, peer: NodeId, up: bool) {
        let mut links = self.links.lock();
        if up {
            links.insert(peer);
        } else {
            links.remove(&peer);
        }
        drop(links);
        if up {
            let now = self.now();
            let mut forwarder = self.forwarder.lock();
            forwarder.on_link_up(now, peer);
            self.forward(&mut forwarder);
        }
    }

    fn on_barrier(&self, token: u64, outcome: Result<Barrier, Refusal>) {
        let connection = {
            let mut barriers = self.barriers.lock();
            match outcome {
                Ok(_) => barriers.waiting.remove(&token),
                Err(_) => {
                    if barriers.waiting.contains_key(&token) {
                        barriers.refused.push(token);
                    }
                    None
                }
            }
        };
        let (Some(connection), Ok(barrier)) = (connection, outcome) else { return };
        let at = if mutant!(SyncForgetsItsIndex) { 0 } else { barrier.at.0 };
        connection.lock().barrier_passed(token, at);
        // The task looks at the state: this thread must not wait for the apply thread.
        connection.wake.notify_one();
    }
}

/// Whether applying this entry takes microseconds, whatever the state is.
fn is_quick(entry: &Entry) -> bool {
    match &entry.body {
        Body::Noop => true,
        Body::Config(..) => false,
        Body::Command(command) => match Command::decode(command) {
            Ok(Command::Request { request, .. }) => !matches!(request, Request::CloseSession { .. }),
            Ok(Command::OpenStream { .. }) | Err(_) => true,
            Ok(Command::Decision { .. }) => false,
        },
    }
}

/// Where requests go: the leader, once it takes them.
fn route(me: NodeId, view: &View) -> Option<(Epoch, NodeId)> {
    let leader = view.leader.filter(|_| view.phase == Phase::Broadcast)?;
    (leader != me || view.role == Role::Leader).then_some((view.epoch, leader))
}

impl super::Taker {
    fn connection(&self) -> &Arc<Connection> {
        match self {
            Self::Write(connection) => connection,
            Self::Connect(connecting) => &connecting.connection,
        }
    }
}

impl Service {
    /// A server reports its clients' touches.
    fn hear(&self, from: NodeId, mark: Mark, touches: Vec<Touch>) {
        let Some(handle) = self.handle.get() else { return };
        let now = self.now();
        let reigns = {
            let mut expiry = self.expiry.lock();
            let heard = touches.into_iter().map(|(session, age)| (now.saturating_sub(age.into()), session));
            heard.for_each(|(at, session)| expiry.touch(at, session));
            expiry.is_reigning()
        };
        // A leader that was cut off expires nobody; another may, who heard nothing of this. It confirms nothing.
        if reigns && self.is_in_contact(&handle.view()) {
            handle.send(from, peer_message::heard(mark));
        }
    }

    /// Asks for a read barrier on behalf of a connection's sync.
    pub(super) fn barrier(&self, connection: &Arc<Connection>) -> u64 {
        let token = {
            let mut barriers = self.barriers.lock();
            barriers.next += 1;
            let token = barriers.next;
            barriers.waiting.insert(token, connection.clone());
            token
        };
        if let Some(handle) = self.handle.get() {
            handle.barrier(token);
        }
        token
    }
}
