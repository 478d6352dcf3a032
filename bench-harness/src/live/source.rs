//! Where a client's operations come from: a list to work off, or (workload.rs) chance.

use history::{Op, Outcome, Reply};
use std::collections::{BTreeSet, VecDeque};
use std::fmt::Debug;
use std::time::Duration;

/// What a client does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask for this.
    Ask(Op),
    /// Nothing for so long.
    Wait(Duration),
    /// Drop the connection, whatever is under way, and go to another server.
    Hop,
    /// Stop as a process does: neither read nor write for so long.
    Nap(Duration),
}

/// Something that knows what to ask.
pub(crate) trait Source: Debug + Send {
    /// The next step of the client, whose session this is.
    fn next(&mut self, session: i64) -> Next;
    /// An operation has ended; `None`: nobody knows how.
    fn answered(&mut self, op: &Op, outcome: Option<&Outcome>);
    /// The session is over: what it held is gone.
    fn session_over(&mut self) {}
    /// Whether there will be nothing more.
    fn is_done(&self) -> bool;
    /// Operations under way at most.
    fn depth(&self) -> usize;
}

/// Works off a list. What stays without an answer, or finds that the server is not ready, is asked again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    ops: VecDeque<Op>,
    under_way: usize,
    depth: usize,
    /// Follows children listings: what is found there is read too, once.
    reads_children: bool,
    read: BTreeSet<String>,
}

impl Script {
    /// One after the other.
    pub(crate) fn new(ops: Vec<Op>) -> Self {
        Self { ops: ops.into(), depth: 1, ..Self::default() }
    }

    /// A sync, the children of `parents`, and every one of `paths` and of the children found.
    pub(crate) fn survey(parents: &[String], paths: BTreeSet<String>) -> Self {
        let mut ops = VecDeque::from([Op::Sync { path: "/".to_owned() }]);
        ops.extend(parents.iter().map(|path| Op::Children { path: path.clone(), watch: false }));
        ops.extend(paths.iter().map(|path| Op::Get { path: path.clone(), watch: false }));
        Self { ops, under_way: 0, depth: 32, reads_children: true, read: paths }
    }
}

impl Source for Script {
    fn next(&mut self, _: i64) -> Next {
        // The sync comes first, alone: what follows it on this connection sees what it waited for.
        let is_sync = matches!(self.ops.front(), Some(Op::Sync { .. }));
        if is_sync && self.under_way > 0 {
            return Next::Wait(Duration::from_millis(1));
        }
        match self.ops.pop_front() {
            Some(op) => {
                self.under_way += 1;
                Next::Ask(op)
            }
            None => Next::Wait(Duration::from_millis(5)),
        }
    }

    fn answered(&mut self, op: &Op, outcome: Option<&Outcome>) {
        if matches!(op, Op::Close | Op::SetWatches { .. }) {
            return;
        }
        self.under_way = self.under_way.saturating_sub(1);
        match outcome {
            None => self.ops.push_front(op.clone()),
            Some(Outcome::Ok(Reply::Children { names, .. })) if self.reads_children => {
                let Op::Children { path, .. } = op else { return };
                for name in names {
                    let path = format!("{}/{name}", path.trim_end_matches('/'));
                    if self.read.insert(path.clone()) {
                        self.ops.push_back(Op::Get { path, watch: false });
                    }
                }
            }
            Some(_) => {}
        }
    }

    fn is_done(&self) -> bool {
        self.ops.is_empty() && self.under_way == 0
    }

    fn depth(&self) -> usize {
        self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use history::Stat;

    #[test]
    fn a_survey_reads_what_it_finds_and_repeats_what_got_lost() {
        let mut survey = Script::survey(&["/a".to_owned()], ["/b".to_owned()].into());
        let mut asked = Vec::new();
        while !survey.is_done() {
            let Next::Ask(op) = survey.next(1) else { panic!("it waits for nobody") };
            let is_new = !asked.contains(&op);
            asked.push(op.clone());
            let names = vec!["b".to_owned(), "c".to_owned()];
            let children = Outcome::Ok(Reply::Children { names, stat: Stat::default() });
            let outcome = match op {
                Op::Children { .. } => Some(&children),
                // Every other operation is lost once.
                _ if is_new => None,
                _ => Some(&Outcome::Error(-101)),
            };
            survey.answered(&op, outcome);
        }
        let read =
            |p: &str| asked.iter().filter(|op| matches!(op, Op::Get { path, .. } if path == p)).count();
        assert_eq!((read("/b"), read("/a/b"), read("/a/c")), (2, 2, 2));
        assert!(matches!(asked[..2], [Op::Sync { .. }, Op::Sync { .. }]), "{asked:?}");
    }
}
