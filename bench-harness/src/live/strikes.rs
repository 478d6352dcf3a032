//! How each fault of the catalogue begins, and what has to be undone when.
//!
//! One function per family: processes, links, disks, files, clients. Each chooses its victims, does what is to be done
//! at once and returns a [`Plan`]; `None`: there is no fitting victim now.

use super::faults::{Entry, Fault};
use super::nemesis::{Nemesis, Plan, Undo};
use super::stand::State;
use super::trouble;
use super::weather::{Way, Weather, both};
use anyhow::Result;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a log that it must have before it is damaged, so that the damage is never at its end: what nobody was told
/// of is cut without a word, by the rules of a torn tail.
const LOG_BYTES: u64 = 32 << 10;
/// Longest time that a server whose files were lost may take; the same as nemesis.rs's.
const REJOINS_WITHIN: Duration = Duration::from_secs(25);

impl Nemesis {
    /// Begins a fault. `is_bold`: it may cost the quorum, so it is short.
    pub(super) async fn begin(&mut self, entry: &Entry, is_bold: bool) -> Result<Option<Plan>> {
        use Fault as F;
        let wants_leader = matches!(
            entry.fault,
            F::KillLeader
                | F::StopLeader
                | F::PauseLeader
                | F::Starve
                | F::Isolate
                | F::Deaf
                | F::Mute
                | F::SlowDiskLeader
                | F::StallLeader
                | F::FullLeader
        );
        let leader = self.stand.leader();
        let up: Vec<u32> =
            self.stand.ids().into_iter().filter(|id| self.stand.state(*id) == State::Up).collect();
        let victim = if wants_leader {
            leader
        } else {
            let followers: Vec<u32> = up.iter().copied().filter(|id| Some(*id) != leader).collect();
            self.chance.pick(&followers).copied()
        };
        let Some(victim) = victim.filter(|id| !self.ending.contains(id)) else { return Ok(None) };
        // Mostly short, sometimes long: 0.1 to 10 s.
        let long = if is_bold {
            1500
        } else if self.chance.percent(12) {
            10_000
        } else {
            3000
        };
        let lasts = self.chance.ms(100, long);
        match entry.fault {
            F::KillFollower
            | F::KillLeader
            | F::KillAll
            | F::StopLeader
            | F::StopFollower
            | F::PauseLeader
            | F::PauseFollower
            | F::Starve => self.process(entry.fault, victim, lasts),
            F::LogRot | F::SnapshotRot | F::Wipe => self.files(entry.fault, victim),
            F::SlowDiskFollower
            | F::SlowDiskLeader
            | F::StallFollower
            | F::StallLeader
            | F::SyncError
            | F::FullFollower
            | F::FullLeader => self.disk(entry.fault, victim, lasts),
            F::Storm | F::HalfOpen | F::SlowReaders => Ok(Some(self.clients(entry.fault, lasts))),
            F::Lossy | F::Late | F::SlowLink | F::Corrupt => Ok(self.bad_link(entry.fault, victim, lasts)),
            _ => Ok(self.cut(entry.fault, victim, leader, lasts)),
        }
    }

    fn process(&mut self, fault: Fault, id: u32, lasts: Duration) -> Result<Option<Plan>> {
        let mut plan =
            Plan { text: format!("server {id}, {lasts:?}"), hurts: [id].into(), ..Plan::default() };
        match fault {
            Fault::KillAll => {
                plan.text = format!("{lasts:?}");
                plan.hurts = self.stand.ids().into_iter().collect();
                for id in self.stand.ids() {
                    self.stand.kill(id)?;
                    let after = lasts.min(Duration::from_secs(1)) + self.chance.ms(0, 300);
                    plan.undo.push((after, Undo::Start(id)));
                }
            }
            Fault::KillLeader | Fault::KillFollower => {
                self.stand.kill(id)?;
                plan.undo.push((lasts, Undo::Start(id)));
            }
            Fault::StopLeader | Fault::StopFollower => {
                self.stand.terminate(id)?;
                self.ending.insert(id);
                plan.undo.push((lasts, Undo::Start(id)));
            }
            Fault::Starve => {
                let lasts = lasts.clamp(Duration::from_secs(1), Duration::from_secs(4));
                plan.undo.push((Duration::ZERO, Undo::Duty(id, Instant::now() + lasts)));
            }
            _ => {
                self.stand.freeze(id)?;
                plan.undo.push((lasts, Undo::Thaw(id)));
            }
        }
        Ok(Some(plan))
    }

    fn disk(&mut self, fault: Fault, id: u32, lasts: Duration) -> Result<Option<Plan>> {
        let words = match fault {
            Fault::SlowDiskFollower | Fault::SlowDiskLeader => {
                format!("sync_ms={}", self.chance.between(10, 150))
            }
            Fault::SyncError => "fail_sync".to_owned(),
            Fault::FullFollower | Fault::FullLeader => "full".to_owned(),
            _ => "stall".to_owned(),
        };
        let layer = self.layer();
        self.stand.server(id)?.lay_disk(layer, &words)?;
        let lasts = if fault == Fault::SyncError { Duration::from_millis(500) } else { lasts };
        Ok(Some(Plan {
            text: format!("server {id}, {words}, {lasts:?}"),
            hurts: [id].into(),
            undo: vec![(lasts, Undo::LiftDisk(id, layer))],
            is_exclusive: false,
        }))
    }

    /// The victim is killed, its files are damaged or gone, and it starts again.
    fn files(&mut self, fault: Fault, id: u32) -> Result<Option<Plan>> {
        let suffix = if fault == Fault::SnapshotRot { "snap" } else { "log" };
        let least = if fault == Fault::LogRot { LOG_BYTES } else { 1 };
        let files = self.stand.server(id)?.files(suffix);
        let newest = files.into_iter().rev().find(|f| used(f).is_ok_and(|bytes| bytes >= least));
        // A snapshot from a peer is the only one that covers the log behind it, until the next own one.
        let newest = match newest {
            Some(file) if fault == Fault::SnapshotRot && !self.stand.server(id)?.took(&file) => None,
            other => other,
        };
        let everybody_serves = self.stand.answers().len() == self.stand.servers.len();
        let (true, Some(newest)) = (everybody_serves, newest) else { return Ok(None) };
        self.stand.kill(id)?;
        // Nothing of its former life may still be under way.
        if let Some(proxy) = &self.stand.proxy {
            proxy.sky.break_now(&self.around(id));
        }
        let text = if fault == Fault::Wipe {
            let server = self.stand.server(id)?;
            server.wipe()?;
            server.allow_vote(false)?;
            format!("server {id}")
        } else {
            let bytes = self.chance.between(1, 3);
            let end = used(&newest)?;
            for _ in 0..bytes {
                let at = self.chance.below(if fault == Fault::LogRot { end * 2 / 3 } else { end });
                flip(&newest, at, 1 << self.chance.below(8))?;
            }
            let name = newest.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            format!("server {id}, {bytes} bytes of {end} in {name}")
        };
        let until = Instant::now() + REJOINS_WITHIN;
        Ok(Some(Plan {
            text,
            hurts: [id].into(),
            is_exclusive: true,
            undo: vec![
                (Duration::from_millis(300), Undo::Start(id)),
                (Duration::from_millis(800), Undo::Rejoin { server: id, seen: 0, until }),
            ],
        }))
    }

    fn clients(&mut self, fault: Fault, lasts: Duration) -> Plan {
        let lasts = lasts.min(Duration::from_secs(3));
        let (ends, servers) = (Instant::now() + lasts, self.stage.servers.iter().map(|s| s.1).collect());
        match fault {
            Fault::Storm => drop(tokio::spawn(trouble::storm(servers, 24, ends))),
            Fault::HalfOpen => drop(tokio::spawn(trouble::half_open(servers, 60, ends))),
            _ => drop(tokio::spawn(trouble::slow_readers(servers, 4, ends))),
        }
        // A layer that does not exist: the end of the fault, and nothing to do.
        Plan { text: format!("{lasts:?}"), undo: vec![(lasts, Undo::Lift(0))], ..Plan::default() }
    }

    fn bad_link(&mut self, fault: Fault, one: u32, lasts: Duration) -> Option<Plan> {
        let others: Vec<u32> = self.stand.ids().into_iter().filter(|id| *id != one).collect();
        let other = *self.chance.pick(&others)?;
        let (layer, ways) = (self.layer(), both(one, other).to_vec());
        let proxy = self.stand.proxy.clone()?;
        let text = format!("servers {one} and {other}, {lasts:?}");
        let lift = (lasts, Undo::Lift(layer));
        let mut plan = Plan { text, undo: vec![lift], ..Plan::default() };
        match fault {
            Fault::Corrupt => {
                let frames = self.chance.between(1, 3) as u32;
                let way = if self.chance.percent(50) { (one, other) } else { (other, one) };
                proxy.sky.damage(way, frames);
                plan.text = format!("{frames} frames from server {} to {}", way.0, way.1);
                plan.undo = vec![(Duration::from_secs(1), Undo::Lift(layer))];
            }
            Fault::Lossy => {
                let breaks_per_million = self.chance.between(2_000, 100_000);
                proxy.sky.lay(layer, ways, Weather { breaks_per_million, ..Weather::default() });
            }
            Fault::Late => {
                let held_before = proxy.connections();
                proxy.sky.lay(layer, ways, Weather { held_before, ..Weather::default() });
                plan.hurts = [one].into();
            }
            _ => {
                let (latency, jitter) = (self.chance.ms(20, 120), self.chance.ms(0, 60));
                let bytes_per_s = if self.chance.percent(50) { 1 << 20 } else { 0 };
                proxy.sky.lay(layer, ways, Weather { latency, jitter, bytes_per_s, ..Weather::default() });
                plan.text += &format!(", {latency:?} + {jitter:?}");
            }
        }
        Some(plan)
    }

    /// Cuts, of one way or both, of one link or many.
    fn cut(&mut self, fault: Fault, victim: u32, leader: Option<u32>, lasts: Duration) -> Option<Plan> {
        let proxy = self.stand.proxy.clone()?;
        let layer = self.layer();
        let mut hurts = BTreeSet::from([victim]);
        let all = || self.stand.ids().into_iter().filter(|id| *id != victim);
        let mut undo = vec![(lasts, Undo::Lift(layer))];
        let mut text = format!("server {victim}, {lasts:?}");
        let ways: Vec<Way> = match fault {
            Fault::Isolate => self.around(victim),
            Fault::Deaf => all().map(|id| (id, victim)).collect(),
            Fault::Mute => all().map(|id| (victim, id)).collect(),
            Fault::Split => {
                // Nobody hears more than one other (of three: nobody), so no side is a quorum.
                hurts = self.stand.ids().into_iter().collect();
                let width = (self.stand.servers.len() as u32).div_ceil(3);
                let side = |id: u32| (id - 1) / width.max(1);
                proxy.sky.ways().filter(|(a, b)| side(*a) != side(*b)).collect()
            }
            Fault::Chain | Fault::Flap => {
                let other = leader.filter(|l| *l != victim)?;
                hurts.clear();
                text = format!("servers {victim} and {other}, {lasts:?}");
                both(victim, other).to_vec()
            }
            Fault::QuorumLoss | Fault::Constrained => {
                hurts = self.stand.ids().into_iter().collect();
                let hub = proxy.sky.ways().filter(|(a, b)| *a != victim && *b != victim);
                hub.collect()
            }
            _ => return self.swizzle(),
        };
        match fault {
            Fault::Flap => {
                let until = Instant::now() + lasts.max(Duration::from_secs(2));
                undo = vec![(Duration::ZERO, Undo::Flap(layer, ways, until))];
            }
            Fault::Constrained => {
                // First the hub falls behind, then everybody else is left with it alone.
                let (first, late) = (self.layer(), self.chance.ms(300, 1200));
                proxy.sky.lay(first, self.around(victim), Weather::CUT);
                undo = vec![
                    (late, Undo::Lift(first)),
                    (late, Undo::Cut(layer, ways)),
                    (late + lasts, Undo::Lift(layer)),
                ];
            }
            _ => proxy.sky.lay(layer, ways, Weather::CUT),
        }
        // Sometimes what was under way during the cut is lost as well.
        if self.chance.percent(30) && !matches!(fault, Fault::Flap | Fault::Constrained) {
            undo.push((lasts, Undo::Break(self.around(victim))));
        }
        Some(Plan { text, hurts, undo, is_exclusive: false })
    }

    /// Links stop one after the other and heal in another order.
    fn swizzle(&mut self) -> Option<Plan> {
        let proxy = self.stand.proxy.clone()?;
        let mut links: Vec<Way> = proxy.sky.ways().filter(|(a, b)| a < b).collect();
        let mut plan = Plan { hurts: self.stand.ids().into_iter().collect(), ..Plan::default() };
        let (mut at, mut layers) = (Duration::ZERO, Vec::new());
        while let Some((a, b)) = self.chance.take(&mut links) {
            let layer = self.layer();
            plan.undo.push((at, Undo::Cut(layer, both(a, b).to_vec())));
            layers.push(layer);
            at += self.chance.ms(20, 300);
        }
        at += self.chance.ms(100, 1000);
        while let Some(layer) = self.chance.take(&mut layers) {
            plan.undo.push((at, Undo::Lift(layer)));
            at += self.chance.ms(20, 300);
        }
        plan.text = format!("{at:?}");
        Some(plan)
    }
}

/// Bytes of a file up to the last one that is not 0 (logs are laid out in advance).
fn used(file: &Path) -> Result<u64> {
    let bytes = fs::read(file)?;
    Ok(bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at as u64 + 1))
}

/// Flips bits of the byte at `at`.
fn flip(file: &Path, at: u64, bits: u8) -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().read(true).write(true).open(file)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    let [old] = byte;
    file.write_all_at(&[old ^ bits], at)?;
    Ok(file.sync_all()?)
}
