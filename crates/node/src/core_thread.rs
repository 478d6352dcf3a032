//! The core thread: one task that owns the replica and all peer sockets.
//!
//! ```text
//!  turn:  connections ─► read every socket dry ─► mailbox ─► offer proposals ─► one step ─► carry out (carry.rs)
//!           ▲                                                                               │
//!           └───────────── wake: a socket, the mailbox, the timer ◄─────────── rest ◄───────┘
//! ```
//!
//! Inputs first, then timers: a process that was stopped, or starved, hears the news before it acts on the clock.
//!
//! 1. The leader's heartbeats arrive while the follower is stopped.
//! 2. It goes on in the middle of a turn, and finds its election timer due.
//! 3. The runtime has not polled the sockets since, so they look empty.
//!
//! Rule: a step never sees a time later than the last poll of the sockets if a timer is due by then
//! ([`Core::moment`]).
//!
//! Links: messages lie between `Peer` up and down, and a `Peer` up never shares a batch with the `Peer` down before
//! it: what the core answers to a message of the old connection would otherwise leave on the new one (schedule 13).

use crate::Application;
use crate::apply_thread::Appliers;
use crate::codec::{Decoder, Encoder, Incoming};
use crate::handle::Shared;
use crate::link::Link;
use crate::mailbox::Inbox;
use crate::queue::Queue;
use crate::reader_thread::Reads;
use crate::snapshots::Snapshots;
use crate::story::Tracer;
use crate::transport::{Arrival, Transport};
use bytes::Bytes;
use replog::{
    Configuration, Entry, Frame, Input, LogId, NodeId, ReadMode, Replica, ReplicatedLog, Role, Stamp, Status,
    Ticket, Time, Token, Write,
};
use std::collections::{BTreeMap, VecDeque};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use wal::{Disk, WalReader};

/// Tokens from here on are the node's own.
pub(crate) const OWN_TOKENS: u64 = 1 << 63;

/// How long the core thread looks for the next acknowledgement before it sleeps, if few entries are under way: that is due
/// within a round trip and an fsync, and waking a halted CPU takes a good part of that.
const ATTENTION: Duration = Duration::from_micros(300);
/// A turn of others that takes longer than this says that the CPU is wanted elsewhere.
const LONG_TURN: Duration = Duration::from_millis(1);
/// For so long the core thread sleeps at once then.
const MODESTY: Duration = Duration::from_secs(1);
/// With more entries under way than this there is work at every turn, and the CPU is better left to others.
const FEW_IN_FLIGHT: u64 = 16;

/// The core's clock: nanoseconds since the node started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(pub(crate) Instant);

impl Clock {
    pub(crate) fn time(self, at: Instant) -> Time {
        Time(u64::try_from(at.saturating_duration_since(self.0).as_nanos()).unwrap_or(u64::MAX))
    }

    pub(crate) fn instant(self, time: Time) -> Instant {
        self.0 + Duration::from_nanos(time.0)
    }
}

/// Figures of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) id: NodeId,
    pub(crate) encoder: Encoder,
    pub(crate) decoder: Decoder,
    pub(crate) read_mode: ReadMode,
    pub(crate) ping_interval: Duration,
    pub(crate) link_timeout: Duration,
    pub(crate) shutdown_wait: Duration,
    /// Whether there is anybody to hand leadership to.
    pub(crate) alone: bool,
}

/// Where other threads wait for work.
pub(crate) struct Hands<M, D: Disk> {
    pub(crate) log: Arc<Queue<Write>>,
    pub(crate) apply: Appliers<D>,
    pub(crate) reads: Arc<Reads<M>>,
    pub(crate) reader: WalReader<D>,
    pub(crate) snapshots: Arc<Snapshots<D>>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) arrivals: mpsc::UnboundedReceiver<Arrival>,
}

/// Everything that the task owns.
pub(crate) struct Core<P: ReplicatedLog, D: Disk> {
    pub(crate) figures: Figures,
    pub(crate) clock: Clock,
    pub(crate) shared: Arc<Shared>,
    pub(crate) app: Arc<dyn Application>,
    pub(crate) replica: Replica<P>,
    pub(crate) hands: Hands<P::Message, D>,
    pub(crate) links: BTreeMap<NodeId, Link>,
    /// As of the last step.
    pub(crate) status: Status,
    /// As of the last notice.
    pub(crate) role: Role,
    /// As in [`crate::View::contact`].
    pub(crate) contact: Instant,
    /// Highest ticket handed to the log thread.
    pub(crate) written: Ticket,
    /// Writes of this turn, handed over at its end: the peers' frames go first, their way is longer.
    pub(crate) writes: Vec<Write>,
    /// Highest ticket that the log thread reported.
    pub(crate) durable: Ticket,
    /// The configuration that counts, for [`crate::View::contact`] of a leader.
    pub(crate) configuration: Configuration,
    /// Attachments being read.
    pub(crate) reading: u64,
    /// Snapshots told to the core in this batch; deleted unless it accepts them.
    pub(crate) staged: Vec<LogId>,
    /// Another turn is needed before resting.
    pub(crate) again: bool,
    /// Stamp of the last entry proposed or applied.
    pub(crate) stamp: Stamp,
    pub(crate) proposals: VecDeque<Bytes>,
    pub(crate) inbox: Inbox,
    pub(crate) frames: Vec<Incoming<P::Message>>,
    pub(crate) outgoing: Vec<Frame<P::Message>>,
    /// Connections that wait for the step that takes the old one's end.
    pub(crate) waiting: Vec<Arrival>,
    /// Links that went down since the last step.
    pub(crate) downed: Vec<NodeId>,
    /// A timer was found due at this moment, and the sockets are polled since.
    due_since: Option<Instant>,
    /// Commands were offered since the last step.
    offered: bool,
    /// The last step.
    stepped: Instant,
    /// Until when the CPU is wanted elsewhere.
    modest: Instant,
    timer: Pin<Box<Sleep>>,
    /// What the timer is set to.
    alarm: Instant,
    /// It went off and has to be set anew.
    elapsed: bool,
    /// Tells what happens, if anybody wants to know.
    pub(crate) tracer: Option<Tracer>,
    /// Set once the graceful end was asked for: when to stop waiting.
    pub(crate) ending: Option<Instant>,
}

impl<P: ReplicatedLog, D: Disk> Core<P, D> {
    /// Inside the runtime.
    pub(crate) fn new(
        figures: Figures,
        clock: Clock,
        shared: Arc<Shared>,
        app: Arc<dyn Application>,
        replica: Replica<P>,
        hands: Hands<P::Message, D>,
        configuration: Configuration,
    ) -> Self {
        let now = Instant::now();
        Self {
            figures,
            clock,
            shared,
            app,
            status: replica.status(),
            replica,
            hands,
            links: BTreeMap::new(),
            role: Role::Electing,
            contact: now,
            written: Ticket::NONE,
            writes: Vec::new(),
            durable: Ticket::NONE,
            configuration,
            reading: 0,
            staged: Vec::new(),
            again: true,
            stamp: Stamp(0),
            proposals: VecDeque::new(),
            inbox: Inbox::default(),
            frames: Vec::new(),
            outgoing: Vec::new(),
            waiting: Vec::new(),
            downed: Vec::new(),
            due_since: None,
            offered: false,
            stepped: now,
            modest: now,
            timer: Box::pin(tokio::time::sleep_until(now.into())),
            alarm: now,
            elapsed: true,
            tracer: None,
            ending: None,
        }
    }

    /// Runs until the node ends; whether it did so in good order.
    pub(crate) async fn run(mut self) -> bool {
        let turn = |cx: &mut Context<'_>| {
            self.shared.pulse.beat();
            let done = self.turn(cx);
            self.shared.pulse.beat();
            done
        };
        std::future::poll_fn(turn).await
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.shared.mailbox.awake();
        self.again = false;
        let now = Instant::now();
        if let Some(tracer) = &mut self.tracer {
            tracer.now = now;
        }
        self.take_arrivals(cx, now);
        self.read_links(cx, now);
        if !self.take_mail(now) {
            return Poll::Ready(false);
        }
        self.offer_proposals();
        if let Some(moment) = self.moment(now) {
            if self.is_due(moment) || self.replica.has_input() {
                self.step(moment);
            }
            self.carry_out(now);
        }
        self.look_after_links(now);
        self.flush_links(cx, now);
        self.hands.log.extend(std::mem::take(&mut self.writes));
        if self.ending.is_some_and(|until| self.status.role != Role::Leader || now >= until) {
            return Poll::Ready(true);
        }
        self.rest(cx, now)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.replica.deadline().is_some_and(|d| d <= self.clock.time(now))
    }

    /// The time at which to step now. `None`: a timer is due, and the sockets have to be polled first.
    fn moment(&mut self, now: Instant) -> Option<Instant> {
        if !self.is_due(now) {
            self.due_since = None;
            return Some(now);
        }
        if let Some(before_poll) = self.due_since.take() {
            return Some(before_poll);
        }
        self.due_since = Some(now);
        self.again = true;
        None
    }

    fn step(&mut self, now: Instant) {
        self.shared.stats.steps.add(1);
        self.stepped = now;
        self.replica.step(self.clock.time(now));
        self.status = self.replica.status();
        self.downed.clear();
        self.offered = false;
        self.again |= !self.waiting.is_empty();
    }

    /// Gives the core as many commands as it has room for.
    fn offer_proposals(&mut self) {
        if self.proposals.is_empty() || self.offered {
            return;
        }
        if self.status.role != Role::Leader {
            self.proposals.clear();
            return;
        }
        if self.hands.apply.queue.is_full() {
            return;
        }
        let room = self.status.room;
        let (mut count, mut bytes) = (0, 0);
        for command in self.proposals.iter().take(room.commands as usize) {
            bytes += command.len() as u64 + u64::from(Entry::OVERHEAD_BYTES);
            if bytes > room.bytes {
                break;
            }
            count += 1;
        }
        if count == 0 {
            return;
        }
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.stamp = self.stamp.max(Stamp(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)));
        let commands = self.proposals.drain(..count).collect();
        self.shared.stats.proposed.add(count as u64);
        self.replica.push(Input::Propose { stamp: self.stamp, commands });
        self.offered = true;
    }

    /// The graceful end: leadership goes first.
    pub(crate) fn begin_to_end(&mut self, now: Instant) {
        if self.status.role == Role::Leader && !self.figures.alone {
            self.replica.push(Input::Transfer { token: Token(OWN_TOKENS), to: None });
            self.ending = Some(now + self.figures.shutdown_wait);
        } else {
            self.ending = Some(now);
        }
    }

    /// Nobody will take over: end without it.
    pub(crate) fn stop_waiting_for_a_successor(&mut self, now: Instant) {
        self.ending = self.ending.map(|until| until.min(now));
    }

    /// Whether an acknowledgement is due so soon that sleeping does not pay; lets others have their turn first.
    fn is_attentive(&mut self) -> bool {
        let Status { last, committed, .. } = self.status;
        let in_flight = last.index.0.saturating_sub(committed.0);
        let now = Instant::now();
        if !(1..=FEW_IN_FLIGHT).contains(&in_flight)
            || now.saturating_duration_since(self.stepped) >= ATTENTION
            || now < self.modest
        {
            return false;
        }
        std::thread::yield_now();
        if now.elapsed() >= LONG_TURN {
            self.modest = now + MODESTY;
        }
        true
    }

    /// Sets the timer and goes to sleep, unless there is more to do at once.
    fn rest(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<bool> {
        let more_room = !self.offered && self.status.room.commands > 0 && !self.proposals.is_empty();
        self.again |= self.replica.has_input() || (more_room && !self.hands.apply.queue.is_full());
        self.again = self.again || self.is_attentive();
        if !self.again {
            let core = self.replica.deadline().map(|d| self.clock.instant(d));
            let links = self.links.values().map(|l| self.next_care(l)).min();
            let next = [core, links, self.ending].into_iter().flatten().min();
            let next = next.unwrap_or(now + Duration::from_secs(3600));
            if self.elapsed || next < self.alarm {
                self.timer.as_mut().reset(next.into());
                self.alarm = next;
            }
            self.elapsed = self.timer.as_mut().poll(cx).is_ready();
            self.again = self.elapsed || !self.shared.mailbox.sleep(cx.waker());
        }
        if self.again {
            // Registers a wake for after the runtime has polled the sockets.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        }
        Poll::Pending
    }
}
