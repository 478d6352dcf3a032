//! What a schedule does to the world: one arm per action. Whom it is done to: `targets.rs`.

use super::host::{Mail, log_dir, snapshot_dir};
use super::network::Shape;
use super::observe::Happening;
use super::{Event, Simulated, World};
use crate::schedule::{Action, CrashKind, Target};
use wal::{Crash, Disk, MemDisk};

const MS: u64 = 1_000_000;
/// TCP sends again a while after a cut has ended.
const RETRANSMIT_NS: u64 = 50 * MS;

/// Something that a fault does later. Those that repeat end with the next heal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Later {
    /// A link goes down, or comes back.
    Flap { a: usize, b: usize, period: u64, down: bool, heals: u32 },
    /// A node's links all stop, or all go on.
    Swizzle { node: usize, down: bool, heals: u32 },
}

impl<P: Simulated> World<'_, P> {
    /// Carries an action out; false if it found nothing to act on.
    pub fn act(&mut self, action: &Action) -> bool {
        self.trace_fault(&format!("{action:?}"));
        self.record_fault(format!("{action:?}"));
        let acted = match *action {
            Action::Crash { .. }
            | Action::CrashAtWrite { .. }
            | Action::Restart { .. }
            | Action::Stop { .. }
            | Action::Pause { .. }
            | Action::Resume { .. }
            | Action::Starve { .. }
            | Action::Transfer {} => self.act_process(action),
            Action::Wipe { .. }
            | Action::CloneFrom { .. }
            | Action::Backup { .. }
            | Action::RestoreBackup { .. } => self.act_directory(action),
            Action::SlowDisk { .. }
            | Action::StallDisk { .. }
            | Action::FillDisk { .. }
            | Action::MendDisk { .. }
            | Action::FailFsync { .. }
            | Action::Misdirect { .. }
            | Action::LoseWrite { .. }
            | Action::RotLog { .. }
            | Action::RotMajority {}
            | Action::RotSnapshot { .. } => self.act_disk(action),
            Action::ClockJump { node, ms } => self.each(node, |w, i| {
                w.hosts[i].clock.jump(ms);
                w.figures.clock_faults += 1;
                true
            }),
            Action::ClockRate { node, per_mille } => self.each(node, |w, i| {
                w.hosts[i].clock.set_rate(w.now, per_mille);
                w.figures.clock_faults += 1;
                w.poke(i);
                true
            }),
            Action::Snapshot { node } => self.each(node, Self::snapshot_now),
            Action::DropClients { .. }
            | Action::StopClients { .. }
            | Action::KillClients { .. }
            | Action::SlowReaders { .. } => self.act_clients(action),
            _ => self.act_network(action),
        };
        self.mix(u64::from(acted));
        acted
    }

    /// Does `what` to every node that `target` means; whether any did something.
    fn each(&mut self, target: Target, what: impl Fn(&mut Self, usize) -> bool) -> bool {
        let nodes = self.targets(target);
        let mut acted = false;
        for i in nodes {
            acted |= what(self, i);
        }
        acted
    }

    fn act_process(&mut self, action: &Action) -> bool {
        match *action {
            Action::Crash { node, how } => self.each(node, |w, i| {
                let up = w.hosts[i].process.is_some();
                w.crash(i, how);
                up
            }),
            Action::CrashAtWrite { node, operations, how } => self.each(node, |w, i| {
                w.hosts[i].disk.stop_after(Some(operations));
                w.hosts[i].crash_armed = Some(how);
                w.hosts[i].process.is_some()
            }),
            Action::Restart { node } => {
                let node = if node == Target::Down { Target::All } else { node };
                let mut down: Vec<usize> = self.targets(node);
                down.retain(|i| self.hosts[*i].process.is_none());
                if matches!(action, Action::Restart { node: Target::Down }) {
                    down.sort_by_key(|i| self.hosts[*i].out_since);
                    down.truncate(1);
                    self.same.clone_from(&down);
                }
                down.iter().filter(|i| self.start(**i)).count() > 0
            }
            Action::Stop { node } => self.each(node, |w, i| {
                // A follower has nothing to hand over: it is gone when this returns.
                let up = w.hosts[i].process.is_some();
                w.stop(i);
                up
            }),
            Action::Pause { node } => self.each(node, |w, i| {
                let up = w.hosts[i].is_up();
                if up {
                    w.pause(i);
                    w.figures.pauses += 1;
                }
                up
            }),
            Action::Resume { node } => self.each(node, |w, i| {
                let paused = w.hosts[i].paused;
                w.resume(i);
                paused
            }),
            Action::Starve { node, ms, period_ms } => self.each(node, |w, i| {
                w.hosts[i].starved = (ms > 0).then_some((ms * MS, period_ms.max(ms + 1) * MS));
                w.figures.pauses += 1;
                w.hosts[i].process.is_some()
            }),
            Action::Transfer {} => {
                let Some(leader) = self.leader() else { return false };
                if let Some(process) = &mut self.hosts[leader].process {
                    process.inbox.push(Mail::Transfer);
                }
                self.poke(leader);
                true
            }
            _ => false,
        }
    }

    fn act_directory(&mut self, action: &Action) -> bool {
        self.figures.disk_faults += 1;
        match *action {
            Action::Wipe { node } => self.each(node, |w, i| {
                w.replace_disk(i, MemDisk::new());
                true
            }),
            Action::CloneFrom { node, of } => {
                // First whom it is done to: looking up the other one changes who "the same" is.
                let to = self.targets(node);
                let Some(of) = self.targets(of).first().copied() else { return false };
                self.same.clone_from(&to);
                let copy = self.hosts[of].disk.clone();
                self.each(Target::Same, |w, i| {
                    if i == of {
                        return false;
                    }
                    w.replace_disk(i, copy.fork());
                    // It refuses to start on another server's directory, and that is right.
                    w.hosts[i].lied_to = true;
                    true
                })
            }
            Action::Backup { node } => self.each(node, |w, i| {
                let mut copy = w.hosts[i].disk.fork();
                copy.crash(Crash::Kill);
                w.hosts[i].backup = Some(copy);
                true
            }),
            Action::RestoreBackup { node } => self.each(node, |w, i| match w.hosts[i].backup.take() {
                Some(backup) => {
                    w.replace_disk(i, backup);
                    true
                }
                None => false,
            }),
            _ => false,
        }
    }

    /// Whatever it was, it is another directory now. The operator says so: such a node may not vote, because it may have
    /// voted, or acknowledged what it no longer holds.
    fn replace_disk(&mut self, i: usize, disk: MemDisk) {
        self.crash(i, CrashKind::Kill);
        let host = &mut self.hosts[i];
        host.disk = disk;
        host.disk.crash(Crash::Kill);
        host.may_vote = false;
        self.tell(i, Happening::DiskReplaced);
    }

    fn act_disk(&mut self, action: &Action) -> bool {
        self.figures.disk_faults += 1;
        match *action {
            Action::SlowDisk { node, factor } => self.each(node, |w, i| {
                w.hosts[i].slowness = factor.max(1);
                true
            }),
            Action::StallDisk { node, ms } => self.each(node, |w, i| {
                w.hosts[i].stalled_until = w.now + ms * MS;
                true
            }),
            Action::FillDisk { node, room } => self.each(node, |w, i| {
                let disk = &w.hosts[i].disk;
                disk.set_capacity(None);
                let unbounded = MemDisk::new().free_bytes(&log_dir()).unwrap_or(0);
                let used = unbounded.saturating_sub(disk.free_bytes(&log_dir()).unwrap_or(0));
                disk.set_capacity(Some(used + room));
                w.hosts[i].full = true;
                true
            }),
            Action::MendDisk { node } => self.each(node, |w, i| {
                w.mend_disk(i);
                true
            }),
            Action::FailFsync { node } => self.each(node, |w, i| {
                w.hosts[i].disk.fail_next_sync();
                w.hosts[i].process.is_some()
            }),
            Action::Misdirect { node } => self.each(node, |w, i| {
                w.hosts[i].disk.misdirect_next_write(512);
                w.hosts[i].lied_to = true;
                true
            }),
            Action::LoseWrite { node } => self.each(node, |w, i| {
                w.hosts[i].disk.lose_next_write();
                w.hosts[i].lied_to = true;
                true
            }),
            Action::RotLog { node } => self.each(node, |w, i| {
                let place = w.rng.bits();
                w.rot_log(i, place)
            }),
            Action::RotMajority {} => {
                let place = self.rng.bits();
                let majority = self.settings.voters as usize / 2 + 1;
                (0..majority).filter(|i| self.rot_log(*i, place)).count() > 0
            }
            Action::RotSnapshot { node, all } => self.each(node, |w, i| w.rot_snapshot(i, all)),
            _ => false,
        }
    }

    pub(crate) fn mend_disk(&mut self, i: usize) {
        let now = self.now;
        let host = &mut self.hosts[i];
        // Also what was armed and never met: a disk that fails after the heal is no liveness phase.
        host.disk.mend();
        (host.full, host.slowness, host.stalled_until) = (false, 1, now);
        host.crash_armed = None;
    }

    /// One bit flips in the older half of the log, where every record was committed; a restart follows at once.
    fn rot_log(&mut self, i: usize, place: u64) -> bool {
        self.crash(i, CrashKind::Kill);
        let host = &mut self.hosts[i];
        let names = host.disk.list(&log_dir()).unwrap_or_default();
        let logs: Vec<_> = names.iter().filter(|n| n.ends_with(".log")).map(|n| log_dir().join(n)).collect();
        let sizes: Vec<usize> =
            logs.iter().map(|p| host.disk.contents(p).map_or(0, |bytes| bytes.len())).collect();
        let total: usize = sizes.iter().sum();
        let mut rotted = false;
        if total > 4096 {
            let mut at = usize::try_from(place % (total as u64 / 2)).unwrap_or(0);
            for (path, size) in logs.iter().zip(&sizes) {
                if at < *size {
                    host.disk.flip(path, at as u64, 1 << (place % 8));
                    rotted = true;
                    break;
                }
                at -= size;
            }
        }
        host.lied_to |= rotted;
        self.start(i);
        rotted
    }

    fn rot_snapshot(&mut self, i: usize, all: bool) -> bool {
        let place = self.rng.bits();
        let host = &mut self.hosts[i];
        let names = host.disk.list(&snapshot_dir()).unwrap_or_default();
        let mut files: Vec<_> = names.iter().filter(|n| n.ends_with(".snap")).collect();
        if !all {
            files = files.pop().into_iter().collect();
        }
        for name in &files {
            let path = snapshot_dir().join(name);
            let size = host.disk.contents(&path).map_or(0, |bytes| bytes.len() as u64);
            if size > 0 {
                host.disk.flip(&path, place % size, 1 << (place % 8));
            }
        }
        host.lied_to |= !files.is_empty();
        !files.is_empty()
    }

    fn snapshot_now(&mut self, i: usize) -> bool {
        let mut taken = false;
        self.with_process(i, |world, process| {
            if process.applied.index.0 > 0 {
                taken = true;
                let after = process.written;
                world.take_snapshot(i, process, after);
            }
            Ok(())
        });
        taken
    }

    // ---- network -------------------------------------------------------------------------------------------

    fn act_network(&mut self, action: &Action) -> bool {
        match *action {
            Action::Cut { a, b } => self.between(a, b, |w, a, b| w.cut_both(a, b, true)),
            Action::CutOneWay { from, to } => self.between(from, to, |w, a, b| w.set_cut(a, b, true)),
            Action::Deafen { node } => self.each(node, |w, i| w.cut_off(i, true, false)),
            Action::Mute { node } => self.each(node, |w, i| w.cut_off(i, false, true)),
            Action::Isolate { node } => self.each(node, |w, i| w.cut_off(i, true, true)),
            Action::Split { with_leader } => self.split(with_leader as usize),
            Action::HubOnly { hub } => self.each(hub, |w, hub| {
                let nodes = w.hosts.len();
                for (a, b) in (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b))) {
                    if a != hub && b != hub {
                        w.cut_both(a, b, true);
                    }
                }
                w.figures.partitions += 1;
                true
            }),
            Action::Flap { a, b, period_ms } => self.between(a, b, |w, a, b| {
                let (period, heals) = (period_ms.max(1) * MS, w.heals);
                w.later(0, Later::Flap { a, b, period, down: true, heals });
            }),
            Action::Swizzle { gap_ms } => {
                self.swizzle(gap_ms.max(1) * MS);
                true
            }
            Action::BreakLink { a, b } => self.between(a, b, Self::break_link),
            Action::CorruptFrame { a, b } => self.between(a, b, |w, a, b| {
                w.figures.message_faults += 1;
                w.break_link(a, b);
            }),
            Action::Noise { loss, duplicate, reorder } => {
                let (loss, duplicate, reorder) = (loss.into(), duplicate.into(), reorder.into());
                self.net.shape = Shape { loss, duplicate, reorder, ..self.net.shape };
                true
            }
            Action::Slow { latency_ms, jitter_ms, bytes_per_second } => {
                let (latency, jitter) = (latency_ms * MS, jitter_ms * MS);
                self.net.shape = Shape { latency, jitter, bytes_per_second, ..self.net.shape };
                true
            }
            Action::Heal {} => {
                self.heal();
                true
            }
            _ => false,
        }
    }

    fn between(&mut self, a: Target, b: Target, what: impl Fn(&mut Self, usize, usize)) -> bool {
        let Some(first) = self.targets(a).first().copied() else { return false };
        // "A follower" twice means two of them.
        let second = (0..8).find_map(|_| self.targets(b).into_iter().find(|i| *i != first));
        let Some(second) = second else { return false };
        self.same = vec![first];
        self.figures.partitions += 1;
        what(self, first, second);
        true
    }

    fn set_cut(&mut self, from: usize, to: usize, cut: bool) {
        if from != to && self.net.set_cut(from, to, cut) && !cut {
            let wait = RETRANSMIT_NS + self.rng.below(3 * RETRANSMIT_NS);
            self.events.schedule(self.now + wait, Event::Release(from, to));
        }
    }

    fn cut_both(&mut self, a: usize, b: usize, cut: bool) {
        self.set_cut(a, b, cut);
        self.set_cut(b, a, cut);
    }

    fn cut_off(&mut self, i: usize, hears_not: bool, says_not: bool) -> bool {
        for peer in 0..self.hosts.len() {
            if hears_not {
                self.set_cut(peer, i, true);
            }
            if says_not {
                self.set_cut(i, peer, true);
            }
        }
        self.hosts[i].out_since.get_or_insert(self.now);
        self.figures.partitions += 1;
        true
    }

    fn split(&mut self, with_leader: usize) -> bool {
        let Some(leader) = self.targets(Target::Leader).first().copied() else { return false };
        let mut others: Vec<usize> = (0..self.hosts.len()).filter(|i| *i != leader).collect();
        for at in (1..others.len()).rev() {
            others.swap(at, self.rng.below(at as u64 + 1) as usize);
        }
        let (near, far) = others.split_at(with_leader.min(others.len()));
        for &b in far {
            for &a in near.iter().chain([&leader]) {
                self.cut_both(a, b, true);
            }
        }
        self.figures.partitions += 1;
        true
    }

    fn swizzle(&mut self, gap: u64) {
        let mut nodes: Vec<usize> = (0..self.hosts.len()).filter(|_| self.rng.below(3) > 0).collect();
        let count = nodes.len() as u64;
        let heals = self.heals;
        for down in [true, false] {
            for at in (1..nodes.len()).rev() {
                nodes.swap(at, self.rng.below(at as u64 + 1) as usize);
            }
            for (turn, &node) in nodes.iter().enumerate() {
                let turn = turn as u64 + if down { 0 } else { count + 1 };
                self.later(gap * turn, Later::Swizzle { node, down, heals });
            }
        }
    }

    fn later(&mut self, wait: u64, what: Later) {
        self.events.schedule(self.now + wait, Event::Later(what));
    }

    /// A fault goes on.
    pub(crate) fn go_on(&mut self, what: Later) {
        match what {
            Later::Flap { a, b, period, down, heals } if heals == self.heals => {
                self.cut_both(a, b, down);
                self.figures.partitions += u64::from(down);
                self.later(period, Later::Flap { a, b, period, down: !down, heals });
            }
            Later::Swizzle { node, down, heals } if heals == self.heals => {
                for peer in 0..self.hosts.len() {
                    self.cut_both(node, peer, down);
                }
                self.figures.partitions += u64::from(down);
            }
            _ => {}
        }
    }

    /// Every link is whole, noise and slowness end, starved and paused nodes go on.
    pub(crate) fn heal(&mut self) {
        self.heals += 1;
        self.net.shape = self.net.calm;
        for (from, to) in self.net.cuts() {
            self.set_cut(from, to, false);
        }
        for i in 0..self.hosts.len() {
            self.hosts[i].starved = None;
            self.resume(i);
            if self.hosts[i].process.is_some() {
                self.hosts[i].out_since = None;
            }
        }
    }

    // ---- clients -------------------------------------------------------------------------------------------

    fn act_clients(&mut self, action: &Action) -> bool {
        let (count, ms) = match *action {
            Action::DropClients { count } | Action::KillClients { count } => (count, 0),
            Action::StopClients { count, ms } | Action::SlowReaders { count, ms } => (count, ms),
            _ => (0, 0),
        };
        let mut living: Vec<usize> =
            (0..self.clients.len()).filter(|c| !self.clients[*c].is_dead()).collect();
        let mut acted = 0;
        while acted < count && !living.is_empty() {
            let c = living.swap_remove(self.rng.below(living.len() as u64) as usize);
            match action {
                Action::DropClients { .. } => self.drop_client(c),
                Action::StopClients { .. } => self.stop_client(c, ms * MS),
                Action::SlowReaders { .. } => self.clients[c].slow_until = self.now + ms * MS,
                _ => {
                    self.kill_client(c);
                    self.add_client(None);
                }
            }
            acted += 1;
            self.figures.client_faults += 1;
        }
        acted > 0
    }

    /// Voters that run and count in quorums.
    pub(crate) fn voting(&self) -> usize {
        let voters = self.hosts.iter().take(self.settings.voters as usize);
        voters.filter(|h| h.process.as_ref().is_some_and(|p| p.may_vote)).count()
    }
}
