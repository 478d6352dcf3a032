//! How processes begin and end.

use super::host::{Mail, in_force, keeping};
use super::observe::Happening;
use super::turn::End;
use super::{Event, Process, Simulated, World};
use crate::schedule::CrashKind;
use node::{Application, NodeHandle, StartError, Storage};
use replog::{LogStore, Replica};
use server::config::{Config, Member, MemberRole};
use server::service::Service;
use server::{Environment, Virtual};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use trace::Kind;
use wal::{Crash, WalError};

/// The service looks at its clock this often.
const UPKEEP_NS: u64 = 100_000_000;
/// Basic unit of the sessions' clocks.
pub(crate) const TICK_MS: u32 = 500;

impl<P: Simulated> Process<P> {
    /// Digest of the replicated state.
    pub(crate) fn digest(&self) -> u64 {
        self.app.digest()
    }

    /// Places of the peers to which it has a link.
    pub(crate) fn linked(&self) -> Vec<usize> {
        (0..self.links.len()).filter(|p| self.links[*p].is_some()).collect()
    }
}

impl<P: Simulated> World<'_, P> {
    /// Starts a node that is down on what its disk holds; false if it refuses.
    pub(crate) fn start(&mut self, i: usize) -> bool {
        let seed = self.rng.bits();
        let host = &mut self.hosts[i];
        if host.process.is_some() {
            return true;
        }
        (host.life, host.paused, host.starved) = (host.life + 1, false, None);
        let (id, life, local) = (host.id, host.life, host.clock.local(self.now));
        let time = Arc::new(Virtual::new(seed));
        time.set(Duration::from_nanos(local.0), host.clock.wall_ms(self.now));
        let config = self.config(i);
        let service = Service::with(config, Environment::Virtual(Arc::clone(&time)));
        let Ok(service) = service else { return false };
        let host = &self.hosts[i];
        let keeping = keeping(id, P::NAME, host.may_vote, &self.settings);
        let storage = match Storage::open(host.disk.clone(), keeping, &*service) {
            Ok(storage) => storage,
            Err(refusal) => {
                self.refused_to_start(i, &refusal);
                return false;
            }
        };
        let handle = NodeHandle::detached(id, time.instant(Duration::from_nanos(local.0)));
        service.on_start(&handle);
        let (variant, limits) = (self.settings.variant, self.settings.limits.clone());
        let frame_bytes = limits.frame_bytes;
        let options = P::options(variant, &self.settings.switches, self.settings.timing.clone(), limits);
        let setup = storage.setup(options, seed);
        let configuration = in_force(&setup);
        let snapshot = setup.snapshot;
        let replica = Replica::<P>::open(setup.clone(), frame_bytes, local);
        self.trace(i, Kind::Start, |r| r.index = setup.entries.last().map(|e| e.id.index.0));
        self.tell(i, Happening::Started { setup: &setup, core: replica.core() });
        let parts = (service, time, handle);
        let now = (self.now, local.0);
        let mut process = Process::new(storage, replica, configuration, parts, &self.settings, seed, now);
        process.may_vote = setup.may_vote;
        if let Err((checker, text)) = self.ledger.loaded_at_start(snapshot, process.digest()) {
            self.violate(checker, format!("{id}: {text}"));
        }
        self.hosts[i].process = Some(Box::new(process));
        self.hosts[i].out_since = None;
        self.figures.restarts += u64::from(life > 1);
        let this = self.life(i);
        let phase = self.rng.below(UPKEEP_NS);
        self.events.schedule(self.now + phase, Event::Upkeep(this));
        self.events.schedule(self.now + 10 * phase, Event::Care(this));
        for peer in 0..self.hosts.len() {
            if peer != i {
                self.dial_soon(i, peer);
            }
        }
        self.poke(i);
        true
    }

    /// A start that a damaged, full or failing disk prevents is right; any other is a lost node.
    fn refused_to_start(&mut self, i: usize, why: &StartError) {
        let failed = matches!(why, StartError::Storage(WalError::Sync { .. }));
        let armed = self.hosts[i].crash_armed.take();
        let host = &mut self.hosts[i];
        host.out_since.get_or_insert(self.now);
        host.disk.crash(if armed == Some(CrashKind::Power) { Crash::PowerLoss } else { Crash::Kill });
        let excused = host.lied_to || host.full || failed || armed.is_some();
        let id = host.id;
        self.trace_fault(&format!("{id} does not start: {why}"));
        if !excused {
            self.violate("C2 durability", format!("{id} does not start on an undamaged disk: {why}"));
        }
    }

    fn config(&self, i: usize) -> Config {
        let member = |voter: bool| Member {
            addresses: Vec::new(),
            election_port: 0,
            role: if voter { MemberRole::Participant } else { MemberRole::Observer },
            client: None,
        };
        let ids = 1..=self.settings.nodes as u32;
        let members: BTreeMap<u32, Member> = ids.map(|id| (id, member(id <= self.settings.voters))).collect();
        let mut config = Config::default();
        config.id = self.hosts[i].id.0;
        config.members = members;
        config.tick_ms = TICK_MS;
        (config.min_session_ms, config.max_session_ms) = (2 * TICK_MS, 20 * TICK_MS);
        config.max_client_connections = 0;
        config
    }

    /// A process ends as its own code or the disk decides.
    pub(crate) fn end_process(&mut self, i: usize, end: &End) {
        let armed = self.hosts[i].crash_armed.take();
        match (end, armed) {
            (_, Some(how)) => self.crash(i, how),
            (End::Graceful, None) => self.take_down(i, CrashKind::Kill),
            (End::Fatal(why), None) => {
                let id = self.hosts[i].id;
                self.trace_fault(&format!("{id} ends: {why}"));
                self.figures.crashes += 1;
                self.take_down(i, CrashKind::Kill);
            }
        }
    }

    /// The process ends at once.
    pub(crate) fn crash(&mut self, i: usize, how: CrashKind) {
        if self.hosts[i].process.is_some() {
            self.figures.crashes += 1;
            self.take_down(i, how);
        }
    }

    fn take_down(&mut self, i: usize, how: CrashKind) {
        let Some(mut process) = self.hosts[i].process.take() else { return };
        self.trace(i, Kind::Crash, |r| r.cause = Some(format!("{how:?}").to_lowercase()));
        self.tell(i, Happening::Crashed { how });
        // A sync was under way: its bytes may have reached the page cache, or the platter in part.
        if process.log_busy && self.rng.one_in(2) {
            self.hosts[i].disk.stop_after(Some(1));
            // It stops between the write and the sync.
            let _ = process.wal.sync();
        }
        let disk = &mut self.hosts[i].disk;
        disk.crash(match how {
            CrashKind::Kill => Crash::Kill,
            CrashKind::Power => Crash::PowerLoss,
            CrashKind::Torn if self.rng.one_in(2) => {
                let unsynced = disk.unsynced_bytes();
                Crash::Torn(self.rng.below(unsynced + 1))
            }
            CrashKind::Torn => Crash::Sectors(self.rng.bits()),
        });
        for peer in 0..self.hosts.len() {
            if let Some(link) = process.links[peer]
                && how == CrashKind::Kill
            {
                // The kernel closes the sockets of a dead process. Without power nobody does.
                self.say_end(i, peer, link.session);
            }
        }
        let clients: Vec<(usize, u64)> = process.clients.iter().map(|c| (c.client, c.number)).collect();
        drop(process);
        let host = &mut self.hosts[i];
        (host.paused, host.starved, host.crash_armed) = (false, None, None);
        host.out_since.get_or_insert(self.now);
        self.disconnect_clients(&clients, how == CrashKind::Kill);
    }

    /// It is stopped: its sockets fill, its clock runs on.
    pub(crate) fn pause(&mut self, i: usize) {
        self.hosts[i].paused = true;
        self.hosts[i].out_since.get_or_insert(self.now);
    }

    /// It goes on with what has arrived meanwhile, then its timers.
    pub(crate) fn resume(&mut self, i: usize) {
        let host = &mut self.hosts[i];
        if !std::mem::replace(&mut host.paused, false) {
            return;
        }
        host.out_since = None;
        let Some(process) = &mut host.process else { return };
        (process.turn_scheduled, process.apply_scheduled) = (false, false);
        let due = !process.jobs.is_empty();
        self.poke(i);
        if due {
            self.apply_soon(i);
        }
    }

    /// Asks for a graceful end.
    pub(crate) fn stop(&mut self, i: usize) {
        if let Some(process) = &mut self.hosts[i].process {
            process.inbox.push(Mail::Shutdown);
            self.poke(i);
        }
    }

    /// The service's clock ticks.
    pub(crate) fn upkeep(&mut self, i: usize) {
        let life = self.life(i);
        let at = self.hosts[i].clock.world_after(self.now, UPKEEP_NS);
        self.events.schedule(at, Event::Upkeep(life));
        if self.hosts[i].paused || self.ready_at(i) > self.now + UPKEEP_NS {
            return;
        }
        self.set_time(i);
        let local = self.hosts[i].clock.local(self.now).0;
        if let Some(process) = &mut self.hosts[i].process {
            process.kept_up = local;
            process.app.keep_up_once();
        }
        self.after_service(i);
        self.tell_load(i);
    }

    /// Shows the service of a node what time it is there.
    pub(crate) fn set_time(&self, i: usize) {
        if let Some(process) = &self.hosts[i].process {
            self.hosts[i].show_time(self.now, process);
        }
    }
}
