//! The generator's loop.
//!
//! ```text
//!  loop: tick links ─► plan requests ─► flush ─► epoll(until the next planned request) ─► receive, count
//! ```
//!
//! Invariants: in a closed loop a session has at most `depth` requests under way, and exactly that while ready; in an
//! open loop the n-th request is planned for `n / rate`, whatever happens. The clock starts when every session is
//! ready, so that opening sessions is never part of a figure.

use super::link::{Done, Link};
use super::wire::Wire;
use super::{Outcome, Pace, Plan, histogram};
use anyhow::{Context, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long the sessions may take to open.
const OPEN_WITHIN: Duration = Duration::from_secs(30);
/// How long the last replies may take.
const DRAIN_WITHIN: Duration = Duration::from_secs(3);
/// The loop looks at its timers at least this often.
const IDLE: Duration = Duration::from_millis(5);

/// A view into a running load, from other threads.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    /// Successes so far.
    pub(crate) acked: AtomicU64,
    /// Set: end now.
    pub(crate) stop: AtomicBool,
}

struct Driver<'a, W> {
    plan: &'a Plan,
    probe: &'a Probe,
    links: Vec<Link<W>>,
    scratch: Vec<u8>,
    epoll: OwnedFd,
    events: Vec<Event>,
    /// What epoll knows of each link: number of its connection, and whether it waits to write.
    interest: Vec<(u64, bool)>,
    clock: Instant,
    /// Planned starts that wait for a connection.
    waiting: VecDeque<u64>,
    planned: u64,
    turn: usize,
    numbers: Vec<u64>,
    draw: u64,
    count: Count,
}

struct Count {
    outcome: Outcome,
    from_ns: u64,
    to_ns: u64,
    keep_acks: bool,
}

impl Count {
    fn done(&mut self, done: Done, now: u64, probe: &Probe) {
        if done.code == 0 {
            probe.acked.fetch_add(1, Ordering::Relaxed);
            if self.keep_acks {
                self.outcome.acks.push(now);
                self.outcome.ack_latencies.push(now.saturating_sub(done.flight.planned_ns));
            }
        }
        if now < self.from_ns || now >= self.to_ns {
            return;
        }
        if done.code != 0 {
            *self.outcome.errors.entry(done.code).or_default() += 1;
            return;
        }
        self.outcome.ok += 1;
        let flight = done.flight;
        self.outcome.latency.saturating_record(now.saturating_sub(flight.planned_ns));
        self.outcome.service.saturating_record(now.saturating_sub(flight.sent_ns));
        self.outcome.lag.saturating_record(flight.sent_ns.saturating_sub(flight.planned_ns));
    }
}

/// Runs `plan`; `wire(i)` speaks for session i.
///
/// # Errors
/// Sessions that cannot be opened, and replies that break the protocol.
pub(crate) fn run<W: Wire>(plan: &Plan, probe: &Probe, wire: impl FnMut(usize) -> W) -> Result<Outcome> {
    let links: Vec<_> = (0..plan.sessions)
        .map(wire)
        .enumerate()
        .map(|(i, wire)| Link::new(wire, plan.servers.clone(), i))
        .collect();
    let from_ns = plan.warmup.as_nanos() as u64;
    let outcome = Outcome {
        started: Instant::now(),
        seconds: 0.0,
        sent: 0,
        ok: 0,
        errors: BTreeMap::new(),
        unknown: 0,
        dropped: 0,
        latency: histogram(),
        service: histogram(),
        lag: histogram(),
        acks: Vec::new(),
        ack_latencies: Vec::new(),
        losses: 0,
        expired: 0,
        cpu_seconds: 0.0,
    };
    let to_ns = from_ns + plan.measure.as_nanos() as u64;
    let mut driver = Driver {
        plan,
        probe,
        numbers: vec![0; links.len()],
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        events: Vec::with_capacity(256),
        interest: vec![(0, false); links.len()],
        links,
        scratch: vec![0; 256 << 10],
        clock: Instant::now(),
        waiting: VecDeque::new(),
        planned: 0,
        turn: 0,
        draw: 0x9E37_79B9_7F4A_7C15,
        count: Count { outcome, from_ns, to_ns, keep_acks: plan.keep_acks },
    };
    driver.open()?;
    driver.measure()?;
    driver.drain()?;
    Ok(driver.count.outcome)
}

impl<W: Wire> Driver<'_, W> {
    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    fn open(&mut self) -> Result<()> {
        while !self.links.iter().all(Link::is_ready) {
            if self.clock.elapsed() > OPEN_WITHIN {
                let ready = self.links.iter().filter(|l| l.is_ready()).count();
                bail!("only {ready} of {} sessions opened within {OPEN_WITHIN:?}", self.links.len());
            }
            self.turn(IDLE)?;
        }
        self.clock = Instant::now();
        self.count.outcome.started = self.clock;
        Ok(())
    }

    fn measure(&mut self) -> Result<()> {
        let mut cpu_from = None;
        let mut from = 0;
        loop {
            let now = self.now();
            if cpu_from.is_none() && now >= self.count.from_ns {
                cpu_from = Some(thread_cpu_seconds());
                from = now;
            }
            let sent_all =
                self.plan.limit.is_some_and(|limit| self.probe.acked.load(Ordering::Relaxed) >= limit);
            if now >= self.count.to_ns || sent_all || self.probe.stop.load(Ordering::Relaxed) {
                self.count.to_ns = self.count.to_ns.min(now);
                self.count.outcome.seconds = self.count.to_ns.saturating_sub(from) as f64 / 1e9;
                self.count.outcome.cpu_seconds = cpu_from.map_or(0.0, |from| thread_cpu_seconds() - from);
                return Ok(());
            }
            let wait = match self.plan.pace {
                Pace::Closed => self.fill(now),
                Pace::Open { per_second, max_waiting } => self.follow_plan(now, per_second, max_waiting),
            };
            self.turn(wait)?;
        }
    }

    /// Closed loop: tops every ready session up.
    fn fill(&mut self, now: u64) -> Duration {
        let mut left =
            self.plan.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.count.outcome.sent));
        for i in 0..self.links.len() {
            while left > 0 {
                let Some(link) = self.links.get(i) else { break };
                if !link.is_ready() || link.in_flight() >= self.plan.depth {
                    break;
                }
                self.request(i, now, now);
                left -= 1;
            }
        }
        IDLE
    }

    /// Open loop: lets everything planned until now leave, in turn over the ready sessions.
    fn follow_plan(&mut self, now: u64, per_second: u32, max_waiting: usize) -> Duration {
        let distance = 1_000_000_000 / u64::from(per_second.max(1));
        while self.planned * distance <= now {
            if self.waiting.len() < max_waiting {
                self.waiting.push_back(self.planned * distance);
            } else {
                self.count.outcome.dropped += 1;
            }
            self.planned += 1;
        }
        while let Some(planned) = self.waiting.front().copied() {
            let sessions = self.links.len();
            let free = (0..sessions).map(|k| (self.turn + k) % sessions).find(|i| {
                self.links.get(*i).is_some_and(|l| l.is_ready() && l.in_flight() < self.plan.depth)
            });
            let Some(i) = free else { break };
            self.turn = i + 1;
            self.waiting.pop_front();
            self.request(i, planned, now);
        }
        Duration::from_nanos((self.planned * distance).saturating_sub(now)).min(IDLE)
    }

    fn request(&mut self, session: usize, planned: u64, now: u64) {
        let number = match self.plan.op {
            super::Op::Create => self.numbers.get_mut(session).map_or(0, |n| {
                *n += 1;
                *n
            }),
            super::Op::Get | super::Op::Set => {
                // xorshift64: cheap, and the same keys in every run.
                self.draw ^= self.draw << 13;
                self.draw ^= self.draw >> 7;
                self.draw ^= self.draw << 17;
                self.draw % self.plan.keys.max(1)
            }
        };
        if let Some(link) = self.links.get_mut(session) {
            link.request(self.plan.op, number, planned, now);
            self.count.outcome.sent += 1;
        }
    }

    /// Flushes, waits at most `wait`, receives.
    fn turn(&mut self, wait: Duration) -> Result<()> {
        let now = self.now();
        for link in &mut self.links {
            self.count.outcome.unknown += (link.tick(now) + link.flush(now)) as u64;
        }
        self.register()?;
        self.wait(wait)?;
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            let i = event.data.u64() as usize;
            let now = self.now();
            let (count, probe) = (&mut self.count, self.probe);
            let Some(link) = self.links.get_mut(i) else { continue };
            let unknown = link
                .receive(now, &mut self.scratch, |done| count.done(done, now, probe))
                .map_err(|e| anyhow::anyhow!("session {i}: the server broke the protocol: {e}"))?;
            count.outcome.unknown += unknown as u64;
        }
        self.events = events;
        Ok(())
    }

    /// Tells epoll of new sockets, and of those that have something to write or no longer have.
    fn register(&mut self) -> Result<()> {
        for (i, (link, known)) in self.links.iter().zip(&mut self.interest).enumerate() {
            let Some((stream, writes)) = link.socket() else { continue };
            let wanted = (link.generation, writes);
            if *known == wanted {
                continue;
            }
            let flags = if writes { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            let data = EventData::new_u64(i as u64);
            // A closed socket leaves by itself.
            if known.0 == link.generation {
                epoll::modify(&self.epoll, stream, data, flags)?;
            } else {
                epoll::add(&self.epoll, stream, data, flags)?;
            }
            *known = wanted;
        }
        Ok(())
    }

    fn wait(&mut self, longest: Duration) -> Result<()> {
        let mut timeout = timespec(longest);
        if self.plan.pace != Pace::Closed {
            // epoll counts in ms, a plan does not.
            match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => timeout = timespec(Duration::ZERO),
                Err(e) => return Err(e).context("poll"),
            }
        }
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(e).context("epoll"),
        }
    }

    fn drain(&mut self) -> Result<()> {
        let since = Instant::now();
        while self.links.iter().any(|l| l.in_flight() > 0) && since.elapsed() < DRAIN_WITHIN {
            self.turn(IDLE)?;
        }
        self.count.outcome.losses = self.links.iter().map(|l| l.losses).sum();
        self.count.outcome.expired = self.links.iter().map(|l| l.expired).sum();
        for link in &mut self.links {
            link.close();
        }
        let since = Instant::now();
        while self.links.iter().any(Link::is_ready) && since.elapsed() < Duration::from_millis(300) {
            self.turn(IDLE)?;
        }
        Ok(())
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

/// CPU time of this thread.
fn thread_cpu_seconds() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}
