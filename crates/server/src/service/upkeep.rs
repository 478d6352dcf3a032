//! What happens by the clock: expiry, reports of touches, connections without a leader, sending again.

use super::{Service, peer_message};
use crate::forwarder::Millis;
use crate::reports::Touch;
use node::View;
use replog::mutant;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use znode::{Command, Decision};

/// How often it runs. An idle server wakes for this and for heartbeats.
const PERIOD: Duration = Duration::from_millis(100);

impl Service {
    /// Runs for as long as clients are served.
    pub(super) async fn keep_up(self: Arc<Self>) {
        let mut interval = tokio::time::interval(PERIOD);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.keep_up_once();
        }
    }

    /// One round of what happens by the clock; a server runs one every 100 ms.
    pub fn keep_up_once(&self) {
        let Some(handle) = self.handle.get() else { return };
        let view = handle.view();
        let now = self.now();
        {
            let mut forwarder = self.forwarder.lock();
            forwarder.on_tick(now);
            self.forward(&mut forwarder);
        }
        if self.reports.lock().is_due(now, u64::from(self.config.tick_ms / 2)) {
            self.report_touches(&view);
        }
        self.expire(&view);
        self.close_cut_off(&view);
        self.ask_refused_barriers();
    }

    /// Tells the leader which clients were heard, and closes connections that are silent for longer than their session
    /// may be: the session may live on elsewhere, so that no expiry would end them.
    // requirement: S7
    fn report_touches(&self, view: &View) {
        let now = self.now();
        let (mark, told) = {
            let mut reports = self.reports.lock();
            (reports.make(now), reports.told())
        };
        let (mut touches, mut untold_for): (Vec<Touch>, Millis) = (Vec::new(), 0);
        for connection in self.registry.read().iter() {
            let Some(session) = connection.heard_of() else { continue };
            let mut signs = connection.signs.lock();
            let timeout_ms = u64::from(connection.timeout_ms.load(Relaxed));
            if connection.touched.swap(false, Relaxed) {
                signs.heard(now, told);
            } else if now > signs.last + timeout_ms + u64::from(self.config.tick_ms) {
                tracing::info!(peer = %connection.peer, "client is silent: closing");
                connection.close();
            }
            touches.extend(signs.age(now, told).map(|age| (session, age)));
            untold_for = untold_for.max(signs.untold_for(now, told));
        }
        if touches.is_empty() {
            return;
        }
        self.reports.lock().owe(untold_for);
        let route = *self.route.lock();
        if view.is_leading() {
            let mut expiry = self.expiry.lock();
            touches
                .into_iter()
                .for_each(|(session, age)| expiry.touch(now - u64::from(age).min(now), session));
            self.reports.lock().confirm(mark);
        } else if mutant!(TouchesUnreported) {
            self.reports.lock().confirm(mark);
        } else if let (Some((_, leader)), Some(handle)) = (route, self.handle.get()) {
            handle.send(leader, peer_message::touches(mark, &touches));
        }
    }

    /// Leader: proposes the end of sessions whose clients were not heard.
    fn expire(&self, view: &View) {
        if !view.is_leading() {
            return;
        }
        let Some(handle) = self.handle.get() else { return };
        let epoch = znode::Epoch::new(view.epoch.round, view.epoch.proposer);
        let now = self.now();
        if !self.expiry.lock().is_reigning_in(epoch) {
            // Under the state's lock, so that no session is opened between the reading and the beginning.
            let machine = self.state.read();
            let sessions = machine.sessions().map(|(id, s)| (id, u32::try_from(s.timeout_ms).unwrap_or(0)));
            self.expiry.lock().begin(now, epoch, sessions);
        }
        let due = self.expiry.lock().due(now, self.is_in_contact(view));
        let commands: Vec<_> = due
            .into_iter()
            .map(|session| {
                tracing::info!(session = format_args!("{session:#x}"), "session expires");
                super::encode(&Command::Decision { epoch, decision: Decision::Expire { session } })
            })
            .collect();
        if !commands.is_empty() {
            handle.propose(commands);
        }
    }

    /// Closes connections whose clients are better off with another server: because no leader is heard, or because the
    /// leader does not hear of them.
    // requirement: S7
    fn close_cut_off(&self, view: &View) {
        let now = self.now();
        let (told, owed) = {
            let reports = self.reports.lock();
            (reports.told(), reports.owes_for(now))
        };
        let silence = self.silence(view);
        let longest = silence.max(Duration::from_millis(owed));
        if !self.is_lost(longest, self.config.min_session_ms) || mutant!(CutOffKeepsConnections) {
            return;
        }
        for connection in self.registry.read().iter() {
            let timeout_ms = connection.timeout_ms.load(Relaxed);
            let untold = Duration::from_millis(connection.signs.lock().untold_for(now, told));
            if timeout_ms > 0 && self.is_lost(silence.max(untold), timeout_ms) {
                tracing::info!(peer = %connection.peer, ?silence, ?untold, "no contact to a leader: closing");
                connection.close();
            }
        }
    }

    fn ask_refused_barriers(&self) {
        let refused = {
            let mut barriers = self.barriers.lock();
            barriers.waiting.retain(|_, connection| !connection.is_closed());
            let waiting = std::mem::take(&mut barriers.refused);
            waiting.into_iter().filter(|token| barriers.waiting.contains_key(token)).collect::<Vec<_>>()
        };
        if let Some(handle) = self.handle.get() {
            refused.into_iter().for_each(|token| handle.barrier(token));
        }
    }
}
