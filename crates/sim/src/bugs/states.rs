//! The state machine alone, on logs such as Multi-Paxos may choose: what a client cannot bring about at will.
//!
//! ```text
//!  epoch  1.1 1.1 1.1 │ 1.2 1.2 │ 1.1 ◄── a leftover: accepted in the first reign, adopted and chosen in a later one
//!  stream  #1  #2  #4 │  #3  #4 │ #2  ◄── lost, sent again, arriving twice
//! ```
//!
//! Reigns follow each other, also two of one round (two proposers); what an earlier one left behind is chosen late; a
//! server's stream has gaps and repeats; now and then the state goes through a snapshot. A model that knows numbers,
//! sessions and epochs, and nothing of the tree, says what each command must come to.
//!
//! Source: contract-schedules §6, §7 (d), §8.

use crate::Violation;
use bytes::Bytes;
use replog::Rng;
use std::collections::BTreeMap;
use znode::{At, Command, Decision, Epoch, Machine, Origin, Outcome, Request};

/// Entries of a run.
pub(crate) const ENTRIES: u32 = 300;
/// Servers that take requests.
const SERVERS: u64 = 3;
const PASSWORD: [u8; jute::PASSWORD_BYTES] = [7; jute::PASSWORD_BYTES];

/// One random log. The first broken rule.
pub(crate) fn run(seed: u64, entries: u32) -> Option<Violation> {
    let mut run = Run::new(seed);
    let (checker, text) = (0..entries).find_map(|_| run.one().err())?;
    Some(Violation { checker: checker.to_owned(), text: format!("seed {seed}: {text}"), at_us: 0 })
}

type Broken = (&'static str, String);

struct Run {
    rng: Rng,
    machine: Machine,
    index: u64,
    /// Every reign so far, ascending.
    reigns: Vec<(u32, u32)>,
    /// The highest reign of any entry.
    passed: (u32, u32),
    zxid: i64,
    /// Server → its stream, and the last number executed.
    streams: BTreeMap<u32, (u64, u64)>,
    /// Living sessions, and their attachments.
    sessions: BTreeMap<i64, u64>,
    next_session: i64,
}

/// What a command must come to.
enum Expected {
    Opened,
    Void,
    Session { id: i64, lives: bool },
}

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed ^ 0x57A7_E000),
            machine: Machine::new(),
            index: 0,
            reigns: vec![(1, 1)],
            passed: (0, 0),
            zxid: 0,
            streams: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_session: 1,
        }
    }

    fn one(&mut self) -> Result<(), Broken> {
        if self.rng.one_in(12) {
            self.new_reign();
            return Ok(());
        }
        if self.rng.one_in(40) {
            self.through_a_snapshot()?;
        }
        let epoch = self.epoch();
        let at = self.next_at(epoch);
        let (command, expected) = self.command(epoch);
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        let applied = self.machine.apply(at, &Bytes::from(bytes));
        let told = format!("{command:?} of {epoch:?} behind {:?}: {:?}", self.passed, applied.outcome);
        if applied.zxid <= self.zxid {
            return Err(("C1 zxid order", format!("{:#x} after {:#x}: {told}", applied.zxid, self.zxid)));
        }
        self.zxid = applied.zxid;
        let is_void = matches!(applied.outcome, Outcome::Voided(_));
        let is_right = match expected {
            Expected::Opened => matches!(applied.outcome, Outcome::StreamOpened { .. }),
            Expected::Void => is_void,
            Expected::Session { id, lives } => !is_void && self.machine.session(id).is_some() == lives,
        };
        let checker =
            if matches!(command, Command::Decision { .. }) { "C7 sessions" } else { "C3 session order" };
        if !is_right {
            return Err((checker, told));
        }
        let lost = self.sessions.keys().find(|id| self.machine.session(**id).is_none());
        match lost {
            Some(id) => Err(("C7 sessions", format!("{id:#x} is gone: {told}"))),
            None => Ok(()),
        }
    }

    /// Somebody else leads: with a proposer of a higher number in the same round, or in a later round.
    fn new_reign(&mut self) {
        let (round, proposer) = self.reigns.last().copied().unwrap_or((1, 1));
        let reign = if proposer < 5 && self.rng.one_in(2) {
            (round, proposer + 1)
        } else {
            (round + 1, 1 + self.rng.below(5) as u32)
        };
        self.reigns.push(reign);
        let at = self.next_at(reign);
        self.machine.pass(at);
    }

    /// The reign of the next entry: the present one, or one that left something behind.
    fn epoch(&mut self) -> (u32, u32) {
        let last = self.reigns.len() - 1;
        let back = if self.rng.one_in(6) { self.rng.below(last as u64 + 1).min(3) as usize } else { 0 };
        self.reigns.get(last - back).copied().unwrap_or((1, 1))
    }

    fn next_at(&mut self, (round, proposer): (u32, u32)) -> At {
        self.index += 1;
        self.passed = self.passed.max((round, proposer));
        At { epoch: Epoch::new(round, proposer), index: self.index, time_ms: 0 }
    }

    fn command(&mut self, epoch: (u32, u32)) -> (Command, Expected) {
        let server = 1 + self.rng.below(SERVERS) as u32;
        if !self.streams.contains_key(&server) || self.rng.one_in(30) {
            self.streams.insert(server, (self.index, 0));
            return (Command::OpenStream { server, nonce: self.index }, Expected::Opened);
        }
        if self.rng.one_in(6) { self.decision(epoch) } else { self.request(server) }
    }

    /// The leader of a reign finds that a session's time is over.
    fn decision(&mut self, (round, proposer): (u32, u32)) -> (Command, Expected) {
        let id = self.some_session();
        let decision = Decision::Expire { session: id };
        let command = Command::Decision { epoch: Epoch::new(round, proposer), decision };
        // spec: contract-schedules §7 (d)
        if (round, proposer) < self.passed {
            return (command, Expected::Void);
        }
        self.sessions.remove(&id);
        (command, Expected::Session { id, lives: false })
    }

    /// A request of a server: the next one, one too far, or an old one again.
    fn request(&mut self, server: u32) -> (Command, Expected) {
        let (stream, last) = self.streams.get(&server).copied().unwrap_or_default();
        let number = match self.rng.below(10) {
            0 => last + 2 + self.rng.below(2),
            1 if last > 0 => 1 + self.rng.below(last),
            _ => last + 1,
        };
        let is_next = number == last + 1;
        let (request, id, lives) = self.wish(is_next);
        let command = Command::Request { origin: Origin { server, stream, number }, request };
        if !is_next {
            return (command, Expected::Void);
        }
        self.streams.insert(server, (stream, number));
        (command, Expected::Session { id, lives })
    }

    /// What is asked for, the session that it is about, and whether that lives afterwards.
    fn wish(&mut self, counts: bool) -> (Request, i64, bool) {
        let id = self.some_session();
        let attachment = self.sessions.get(&id).copied();
        match (self.rng.below(8), attachment) {
            (0, Some(attachment)) => {
                if counts {
                    self.sessions.remove(&id);
                }
                (Request::CloseSession { session: id, attachment }, id, false)
            }
            (1..=3, known) => {
                if let Some(attachment) = self.sessions.get_mut(&id).filter(|_| counts) {
                    *attachment = self.index;
                }
                (Request::Attach { session: id, password: PASSWORD }, id, known.is_some())
            }
            _ => {
                let session = self.next_session;
                self.next_session += 1;
                if counts {
                    self.sessions.insert(session, self.index);
                }
                (Request::OpenSession { session, timeout_ms: 6000, password: PASSWORD }, session, true)
            }
        }
    }

    /// A session that lives, or one that is over.
    fn some_session(&mut self) -> i64 {
        let at = self.rng.below(self.sessions.len().max(1) as u64) as usize;
        match self.sessions.keys().nth(at) {
            Some(id) if !self.rng.one_in(8) => *id,
            _ => 1 + self.rng.below(self.next_session as u64) as i64,
        }
    }

    /// A replica that was away gets the state as a snapshot.
    fn through_a_snapshot(&mut self) -> Result<(), Broken> {
        let broken = |e: &dyn std::fmt::Display| ("C12 snapshot", e.to_string());
        let mut bytes = Vec::new();
        self.machine.write_snapshot(&mut bytes).map_err(|e| broken(&e))?;
        let again = Machine::read_snapshot(&mut bytes.as_slice()).map_err(|e| broken(&e))?;
        if again.digest() != self.machine.digest() {
            return Err(("C12 digest", "a snapshot does not hold the state that was written".to_owned()));
        }
        self.machine = again;
        Ok(())
    }
}
