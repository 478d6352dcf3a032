//! What people build from a coordination service, as clients that take part in a recorded run.
//!
//! ```text
//!  /lock/c3.1-0000000007    a ticket: ephemeral, sequential; whose number is the lowest holds the lock
//!  /locked                  what the lock protects: set by [check ticket · set], and so fenced by the ticket
//!  /q/n-0000000012          an item of a queue: whoever deletes it has it
//!
//!  no ticket ──create──► ticket ──children──► lowest ──► work · work · delete ──► no ticket
//!                          ▲         └ not yet ┘
//! ```
//!
//! A leader latch is the same lock, kept for longer. A create whose answer was lost may have made a ticket that nobody
//! waits with: tickets carry their client's name, so that it finds and deletes them, as Curator's protected creates do.
//!
//! Source: ZooKeeper recipes (locks, queues); checked by [C11](crate::check), reliability.md C11.

use crate::intern::suffix_of;
use crate::record::{CreateMode, Op, Outcome, Reply};

/// Parent of the tickets of a lock.
pub const LOCK: &str = "/lock";
/// What the lock protects: holds the path of the ticket that wrote it.
pub const LOCKED: &str = "/locked";
/// Parent of the items of a queue.
pub const QUEUE: &str = "/q";

/// Writes of a holder before it lets go.
const WRITES: usize = 2;

/// One client's way with the lock.
#[derive(Clone, Debug)]
pub struct Lock {
    /// Begins the names of its tickets.
    name: String,
    tries: u64,
    ticket: Option<String>,
    /// A create is under way.
    creates: bool,
    /// To be asked next, the last one first.
    next: Vec<Op>,
}

impl Lock {
    /// A client that has not asked yet.
    #[must_use]
    pub fn new(client: u32) -> Self {
        Self { name: format!("c{client}."), tries: 0, ticket: None, creates: false, next: Vec::new() }
    }

    /// What it asks for next. [`Self::answered`] must hear of every answer, in the order of the questions.
    pub fn ask(&mut self) -> Op {
        if let Some(op) = self.next.pop() {
            if matches!(&op, Op::Delete { path, .. } if Some(path) == self.ticket.as_ref()) {
                self.ticket = None;
            }
            return op;
        }
        if self.ticket.is_some() || self.creates {
            return Op::Children { path: LOCK.to_owned(), watch: false };
        }
        (self.creates, self.tries) = (true, self.tries + 1);
        let path = format!("{LOCK}/{}{}-", self.name, self.tries);
        Op::Create { path, data: String::new(), mode: CreateMode::EphemeralSequential }
    }

    /// Learns from an answer, also to what it did not ask for; `None`: there will be none.
    pub fn answered(&mut self, op: &Op, outcome: Option<&Outcome>) {
        match (op, outcome) {
            (Op::Create { path, .. }, _) if self.is_own(path) => {
                self.creates = false;
                if let Some(Outcome::Ok(Reply::Created { path, .. })) = outcome {
                    self.ticket = Some(path.clone());
                }
            }
            (Op::Children { path, .. }, Some(Outcome::Ok(Reply::Children { names, .. }))) if path == LOCK => {
                self.look(names);
            }
            _ => {}
        }
    }

    fn look(&mut self, names: &[String]) {
        let mut tickets: Vec<String> = names.iter().map(|name| format!("{LOCK}/{name}")).collect();
        tickets.sort_by_key(|ticket| suffix_of(ticket));
        if self.next.is_empty() {
            let stray = |t: &&String| self.is_own(t) && Some(*t) != self.ticket.as_ref();
            let strays = tickets.iter().filter(stray).map(|t| Op::Delete { path: t.clone(), version: -1 });
            self.next = strays.collect();
            if let Some(ticket) = tickets.first().filter(|t| Some(*t) == self.ticket.as_ref()) {
                self.next.push(Op::Delete { path: ticket.clone(), version: -1 });
                self.next.extend((0..WRITES).map(|_| work(ticket)));
            }
        }
        if !self.ticket.as_ref().is_some_and(|ticket| tickets.contains(ticket)) {
            self.ticket = None; // its session ended, and the ticket with it
        }
    }

    fn is_own(&self, path: &str) -> bool {
        path.strip_prefix(LOCK)
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|n| n.starts_with(&self.name))
    }
}

/// One client's way with the queue: it takes the first item that it has seen.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    first: Option<String>,
}

impl Queue {
    /// Takes an item; `None`: none was seen since the last one.
    pub fn take(&mut self) -> Option<Op> {
        self.first.take().map(|path| Op::Delete { path, version: -1 })
    }

    /// Learns from an answer, also to what it did not ask for.
    pub fn answered(&mut self, op: &Op, outcome: Option<&Outcome>) {
        if let (Op::Children { path, .. }, Some(Outcome::Ok(Reply::Children { names, .. }))) = (op, outcome)
            && path == QUEUE
        {
            let first = names.iter().min_by_key(|name| suffix_of(name));
            self.first = first.map(|name| format!("{QUEUE}/{name}"));
        }
    }
}

/// Work of a holder, fenced: it succeeds while the ticket stands, and as long as that stands nobody else holds the lock.
fn work(ticket: &str) -> Op {
    Op::Multi {
        ops: vec![
            Op::Check { path: ticket.to_owned(), version: -1 },
            Op::Set { path: LOCKED.to_owned(), data: ticket.to_owned(), version: -1 },
        ],
    }
}

/// The ticket with whose number a request is fenced.
pub(crate) fn fence(op: &Op) -> Option<&str> {
    let Op::Multi { ops } = op else { return None };
    match ops.as_slice() {
        [Op::Check { path: ticket, .. }, Op::Set { path, data, .. }] if path == LOCKED && data == ticket => {
            Some(ticket)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Stat;

    fn created(path: &str) -> Outcome {
        Outcome::Ok(Reply::Created { path: path.to_owned(), stat: None })
    }

    fn shown(names: &[&str]) -> Outcome {
        let names = names.iter().map(|n| (*n).to_owned()).collect();
        Outcome::Ok(Reply::Children { names, stat: Stat::default() })
    }

    fn is_delete_of(op: &Op, ticket: &str) -> bool {
        matches!(op, Op::Delete { path, .. } if path == ticket)
    }

    #[test]
    fn the_lowest_ticket_works_and_lets_go() {
        let mut lock = Lock::new(3);
        let create = lock.ask();
        assert!(matches!(&create, Op::Create { path, .. } if path == "/lock/c3.1-"));
        lock.answered(&create, Some(&created("/lock/c3.1-0000000007")));
        let look = lock.ask();
        lock.answered(&look, Some(&shown(&["c3.1-0000000007", "c1.9-0000000006"])));
        assert_eq!(lock.ask(), look, "another holds it");
        lock.answered(&look, Some(&shown(&["c30.1-0000000008", "c3.1-0000000007"])));
        let (first, second) = (lock.ask(), lock.ask());
        assert_eq!(fence(&first), Some("/lock/c3.1-0000000007"));
        assert_eq!(first, second);
        assert!(is_delete_of(&lock.ask(), "/lock/c3.1-0000000007"));
        assert!(matches!(lock.ask(), Op::Create { path, .. } if path == "/lock/c3.2-"));
    }

    #[test]
    fn a_ticket_whose_create_was_not_answered_is_deleted() {
        let mut lock = Lock::new(3);
        let lost = lock.ask();
        lock.answered(&lost, None);
        let create = lock.ask();
        assert_ne!(create, lost);
        lock.answered(&create, Some(&created("/lock/c3.2-0000000008")));
        let look = lock.ask();
        lock.answered(&look, Some(&shown(&["c3.2-0000000008", "c3.1-0000000007"])));
        assert!(is_delete_of(&lock.ask(), "/lock/c3.1-0000000007"));
        assert_eq!(lock.ask(), look);
    }

    #[test]
    fn the_first_item_is_taken_once() {
        let mut queue = Queue::default();
        let look = Op::Children { path: QUEUE.to_owned(), watch: false };
        queue.answered(&look, Some(&shown(&["p-0000000009", "n-0000000008"])));
        assert!(queue.take().is_some_and(|op| is_delete_of(&op, "/q/n-0000000008")));
        assert_eq!(queue.take(), None);
        queue.answered(&look, Some(&shown(&[])));
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn a_ticket_that_is_gone_is_forgotten() {
        let mut lock = Lock::new(3);
        let create = lock.ask();
        lock.answered(&create, Some(&created("/lock/c3.1-0000000007")));
        let look = lock.ask();
        lock.answered(&look, Some(&shown(&[])));
        assert!(matches!(lock.ask(), Op::Create { .. }));
    }
}
