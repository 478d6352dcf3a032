//! Brings faults about and takes them back: draws, begins, ends, and keeps what is at stake in bounds.
//!
//! ```text
//!  every 1-2 s: draw ─► begin(fault) ─► agenda: (when, Undo)… ─► end
//!                          └ hurts: servers that do not serve their peers until the last of its undos
//! ```
//!
//! * Faults overlap. Normally a majority stays whole, so that there is something to check; every seventh time it need
//!   not, for a second or two.
//! * A fault that takes away what a server has promised (lost or damaged files) begins only while every other server is
//!   up and every link is clear, and no other fault hurts a server until it is over: two of them at once may lose data
//!   by design. A server that lost its files comes back as a learner, and is admitted again when all agree on one
//!   epoch and it has caught up (node's `may_vote`).

use super::chance::Chance;
use super::client::Stage;
use super::faults::{Deck, Entry, Fault};
use super::stand::{Stand, State};
use super::weather::{Way, Weather, both};
use anyhow::Result;
use history::What;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often the agenda and the processes are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a server that lost files may take to be whole again.
const HEALS_WITHIN: Duration = Duration::from_secs(25);

/// One fault that happened.
#[derive(Clone, Debug)]
pub(crate) struct Injected {
    /// Its kind.
    pub(crate) entry: Entry,
    /// To whom, and how long.
    pub(crate) text: String,
    /// When it began, µs of the history.
    pub(crate) at_us: u64,
    /// When it was over.
    pub(crate) until_us: u64,
}

/// Something to be done later.
#[derive(Clone, Debug)]
pub(super) enum Undo {
    Start(u32),
    Thaw(u32),
    Lift(u64),
    LiftDisk(u32, u64),
    Break(Vec<Way>),
    /// Cut these ways if clear, clear them if cut; again after a while, until then.
    Flap(u64, Vec<Way>, Instant),
    /// Stop the server if it runs, let it run if not; until then.
    Duty(u32, Instant),
    /// Lay this cut as well.
    Cut(u64, Vec<Way>),
    /// Look whether the server is whole again: `seen` looks in a row found it so; give up then.
    Rejoin {
        server: u32,
        seen: u32,
        until: Instant,
    },
}

/// A fault under way.
#[derive(Clone, Debug)]
struct Active {
    number: u64,
    hurts: BTreeSet<u32>,
    is_exclusive: bool,
    left: usize,
    at: usize,
}

/// The bringer of faults.
#[derive(Debug)]
pub(crate) struct Nemesis {
    /// The servers.
    pub(crate) stand: Stand,
    pub(super) stage: Arc<Stage>,
    pub(super) chance: Chance,
    /// What has happened.
    pub(crate) injected: Vec<Injected>,
    /// Servers that ended without a reason.
    pub(crate) ended: Vec<String>,
    /// Servers that took too long to be whole again.
    pub(crate) slow: Vec<String>,
    /// Whether faults that take long to end are left out.
    pub(crate) is_brief: bool,
    deck: Deck,
    agenda: Vec<(Instant, u64, Undo)>,
    active: Vec<Active>,
    /// Servers asked to end.
    pub(super) ending: BTreeSet<u32>,
    faults: u64,
    layers: u64,
}

/// What beginning a fault amounts to.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) text: String,
    pub(super) hurts: BTreeSet<u32>,
    pub(super) is_exclusive: bool,
    pub(super) undo: Vec<(Duration, Undo)>,
}

impl Nemesis {
    /// Over `stand`, telling `stage`.
    pub(crate) fn new(stand: Stand, stage: Arc<Stage>, is_ours: bool, seed: u64) -> Self {
        let mut chance = Chance::new(seed, 0xfa17);
        let deck = Deck::new(stand.servers.len() as u32, is_ours, &mut chance);
        Self {
            stand,
            stage,
            chance,
            injected: Vec::new(),
            ended: Vec::new(),
            slow: Vec::new(),
            is_brief: false,
            deck,
            agenda: Vec::new(),
            active: Vec::new(),
            ending: BTreeSet::new(),
            faults: 0,
            layers: 0,
        }
    }

    fn hurt(&self) -> BTreeSet<u32> {
        let down = self.stand.servers.iter().filter(|s| s.state != State::Up).map(|s| s.id);
        down.chain(self.active.iter().flat_map(|a| a.hurts.iter().copied())).collect()
    }

    /// Brings about `count` faults, one every `pause` ms (drawn between the two), as long as `deadline` allows.
    ///
    /// # Errors
    /// The operating system refuses something.
    pub(crate) async fn run(&mut self, count: usize, pause: (u64, u64), deadline: Instant) -> Result<()> {
        while self.injected.len() < count && Instant::now() < deadline {
            let next = Instant::now() + self.chance.ms(pause.0, pause.1);
            self.wait_until(next.min(deadline)).await?;
            self.strike().await?;
        }
        Ok(())
    }

    /// Does what is due until `then`.
    pub(crate) async fn wait_until(&mut self, then: Instant) -> Result<()> {
        loop {
            self.look_after().await?;
            let now = Instant::now();
            if now >= then {
                return Ok(());
            }
            sleep_until((now + LOOK).min(then)).await;
        }
    }

    /// Draws a fault that may happen now and begins it.
    async fn strike(&mut self) -> Result<()> {
        let is_exclusive = self.active.iter().any(|a| a.is_exclusive);
        let hurt = self.hurt();
        let is_quiet = hurt.is_empty() && self.active.is_empty();
        let may_be_bold = self.chance.percent(14);
        let room = hurt.len() < self.stand.minority() || may_be_bold;
        let may = |e: &Entry| match e.fault {
            Fault::LogRot | Fault::SnapshotRot | Fault::Wipe => is_quiet && !self.is_brief,
            Fault::Storm | Fault::HalfOpen | Fault::SlowReaders | Fault::Corrupt => true,
            Fault::SlowLink | Fault::Late | Fault::Lossy => !is_exclusive,
            _ => !is_exclusive && room,
        };
        // A quiet moment is rare: what needs one and was not seen yet is waited for in due time.
        let Some(entry) = self.deck.draw(&mut self.chance, may) else { return Ok(()) };
        let is_bold = hurt.len() >= self.stand.minority();
        let Some(plan) = self.begin(&entry, is_bold).await? else { return Ok(()) };
        let text = format!("{}: {}", entry.name, plan.text);
        let at_us = self.stage.recorder.record(0, What::Fault { text: format!("begins: {text}") });
        let now = Instant::now();
        self.faults += 1;
        let number = self.faults;
        self.active.push(Active {
            number,
            hurts: plan.hurts,
            is_exclusive: plan.is_exclusive,
            left: plan.undo.len(),
            at: self.injected.len(),
        });
        self.injected.push(Injected { entry, text, at_us, until_us: at_us });
        self.agenda.extend(plan.undo.into_iter().map(|(after, undo)| (now + after, number, undo)));
        self.finish(number, 0);
        Ok(())
    }

    /// `done` of a fault's undos are done; with the last one it is over.
    fn finish(&mut self, number: u64, done: usize) {
        let Some(at) = self.active.iter().position(|a| a.number == number) else { return };
        let Some(active) = self.active.get_mut(at) else { return };
        active.left = active.left.saturating_sub(done);
        if active.left > 0 {
            return;
        }
        let index = active.at;
        self.active.remove(at);
        if let Some(injected) = self.injected.get_mut(index) {
            let text = format!("ends: {}", injected.text);
            injected.until_us = self.stage.recorder.record(0, What::Fault { text });
        }
    }

    /// Starts again what has ended, and does what is due.
    async fn look_after(&mut self) -> Result<()> {
        for id in self.stand.reap() {
            let server = self.stand.server(id)?;
            let is_expected = self.ending.remove(&id) || server.disk_fails();
            if !is_expected || server.log_tail(40).contains("panicked") {
                let tail = server.log_tail(20);
                self.ended.push(format!("server {id} ended by itself:\n{tail}"));
            }
            // A server whose end was asked for is started again by the agenda.
            if self.agenda.iter().all(|(_, _, undo)| !matches!(undo, Undo::Start(s) if *s == id)) {
                self.agenda.push((Instant::now() + Duration::from_millis(300), 0, Undo::Start(id)));
            }
        }
        let now = Instant::now();
        while let Some(at) = self.agenda.iter().position(|(when, ..)| *when <= now) {
            let (_, number, undo) = self.agenda.remove(at);
            match self.undo(undo).await? {
                Some((after, again)) => self.agenda.push((Instant::now() + after, number, again)),
                None => self.finish(number, 1),
            }
        }
        Ok(())
    }

    async fn undo(&mut self, undo: Undo) -> Result<Option<(Duration, Undo)>> {
        let proxy = self.stand.proxy.clone();
        let sky = proxy.as_ref().map(|p| &p.sky);
        match (undo, sky) {
            (Undo::Start(id), _) => {
                // One that was asked to end and has not yet: wait for it.
                if self.ending.contains(&id) {
                    return Ok(Some((LOOK, Undo::Start(id))));
                }
                self.stand.run(id)?;
            }
            (Undo::Thaw(id), _) => self.stand.thaw(id)?,
            (Undo::LiftDisk(id, layer), _) => self.stand.server(id)?.lift_disk(layer)?,
            (Undo::Duty(id, until), _) => return self.duty(id, until),
            (Undo::Rejoin { server, seen, until }, _) => return self.rejoin(server, seen, until),
            (Undo::Lift(layer), Some(sky)) => sky.lift(layer),
            (Undo::Break(ways), Some(sky)) => sky.break_now(&ways),
            (Undo::Cut(layer, ways), Some(sky)) => sky.lay(layer, ways, Weather::CUT),
            (Undo::Flap(layer, ways, until), Some(sky)) => {
                if Instant::now() >= until {
                    sky.lift(layer);
                    return Ok(None);
                }
                if sky.has(layer) {
                    sky.lift(layer);
                } else {
                    sky.lay(layer, ways.clone(), Weather::CUT);
                }
                return Ok(Some((self.chance.ms(100, 1000), Undo::Flap(layer, ways, until))));
            }
            (_, None) => {}
        }
        Ok(None)
    }

    /// A tenth of a CPU: 90 ms stopped, 10 ms running.
    fn duty(&mut self, id: u32, until: Instant) -> Result<Option<(Duration, Undo)>> {
        let is_over = Instant::now() >= until;
        match self.stand.state(id) {
            State::Frozen => {
                self.stand.thaw(id)?;
                Ok((!is_over).then_some((Duration::from_millis(10), Undo::Duty(id, until))))
            }
            State::Up if !is_over => {
                self.stand.freeze(id)?;
                Ok(Some((Duration::from_millis(90), Undo::Duty(id, until))))
            }
            _ => Ok(None),
        }
    }

    /// A server that lost files becomes a full member again, when that is safe.
    fn rejoin(&mut self, id: u32, seen: u32, until: Instant) -> Result<Option<(Duration, Undo)>> {
        let pause = Duration::from_millis(250);
        if Instant::now() >= until {
            let tail = self.stand.server(id)?.log_tail(20);
            self.slow.push(format!("server {id} did not catch up within {HEALS_WITHIN:?}:\n{tail}"));
            return Ok(None);
        }
        let answers = self.stand.answers();
        let leader = answers.iter().filter(|(_, s)| s.mode == "leader").max_by_key(|(_, s)| s.zxid);
        let own = answers.iter().find(|(s, _)| *s == id);
        let agreed = leader.is_some_and(|(_, l)| {
            answers.len() == self.stand.servers.len()
                && answers.iter().all(|(_, s)| s.zxid >> 32 == l.zxid >> 32)
        });
        let caught_up = matches!((leader, own), (Some((_, l)), Some((_, o))) if o.zxid + 50 > l.zxid);
        let seen = if agreed && caught_up { seen + 1 } else { 0 };
        if seen < 4 {
            return Ok(Some((pause, Undo::Rejoin { server: id, seen, until })));
        }
        let server = self.stand.server(id)?;
        if server.may_vote() {
            return Ok(None);
        }
        server.allow_vote(true)?;
        self.stand.terminate(id)?;
        self.ending.insert(id);
        Ok(Some((pause, Undo::Rejoin { server: id, seen: 0, until })))
    }

    /// Ends every fault and waits until every server serves.
    ///
    /// # Errors
    /// A server does not come back.
    pub(crate) async fn heal(&mut self, within: Duration) -> Result<()> {
        let until = Instant::now() + HEALS_WITHIN + Duration::from_secs(2);
        // What is under way with lost files is left to end by itself: hurrying it could lose data.
        while self.active.iter().any(|a| a.is_exclusive) && Instant::now() < until {
            self.wait_until(Instant::now() + LOOK).await?;
        }
        if let Some(proxy) = &self.stand.proxy {
            proxy.sky.lift_all();
        }
        for (_, number, undo) in std::mem::take(&mut self.agenda) {
            match undo {
                Undo::LiftDisk(id, layer) => self.stand.server(id)?.lift_disk(layer)?,
                Undo::Start(id) => {
                    while self.ending.contains(&id) && Instant::now() < until {
                        self.wait_until(Instant::now() + LOOK).await?;
                    }
                    self.stand.run(id)?;
                }
                _ => {}
            }
            self.finish(number, usize::MAX);
        }
        for id in self.stand.ids() {
            self.stand.thaw(id)?;
            if self.stand.state(id) == State::Down {
                self.stand.run(id)?;
            }
        }
        self.stand.wait_serving(within).await
    }

    /// Another layer's number, for a fault of several.
    pub(super) fn layer(&mut self) -> u64 {
        self.layers += 1;
        self.layers
    }

    /// Every way from and to `server`.
    pub(super) fn around(&self, server: u32) -> Vec<Way> {
        self.stand.ids().into_iter().filter(|id| *id != server).flat_map(|id| both(server, id)).collect()
    }
}
