//! All answers in the order of their zxids, through the reference model: does every one fit?
//!
//! ```text
//!  zxid   0x21 create /a ── 0x22 (nobody's: settled as "set /a") ── 0x23 get /a ── 0x24 delete /a, failed ── …
//!  model  applied, answer compared     applied                      compared         applied, answer compared
//! ```
//!
//! An answer that does not fit is a finding, unless what it is about is in [doubt](crate::doubt); then it is believed
//! and the model corrected, as it is after a finding, so that one fault is told once. With exact reads
//! (`Header::exact_reads`) reads stand in line at the zxid of their header, after the write there.
//!
//! What came out in between is kept in [`Past`] for the checkers that ask for "the state at zxid z".

use crate::check::Sink;
use crate::doubt::Doubts;
use crate::facts::{Call, Facts};
use crate::intern::{Map, Path};
use crate::model::{
    At, DOUBT_KIDS, DOUBT_SELF, Model, Node, Past, code, is_ephemeral, is_sequential, parent_of,
};
use crate::record::{Op, Outcome, Reply, Stat};
use crate::resolve::{Hidden, Resolved};

const BOTH: u8 = DOUBT_SELF | DOUBT_KIDS;

/// See the module.
pub(crate) struct Replay<'h, 's> {
    pub(crate) facts: &'s Facts<'h>,
    pub(crate) sink: &'s mut Sink,
    pub(crate) model: Model,
    pub(crate) past: Past,
    pub(crate) doubts: Doubts,
    pub(crate) origin: i64,
    /// zxids of multis.
    pub(crate) multis: Map<i64, ()>,
    /// zxid → ms on the leader's clock.
    times: Map<i64, (i64, usize)>,
    /// Sessions that are over, and the zxid at which they were known to be.
    pub(crate) ended: Map<i64, i64>,
    /// Suspects whose windows have not opened yet begin here.
    next_suspect: usize,
    /// Sessions that must have ended before a zxid, the last first.
    overdue: Vec<(i64, i64)>,
    /// What sessions may own without anybody knowing: creations that are open.
    unsure: Map<i64, Vec<(Path, u8)>>,
    /// What the settled were seen to make, by zxid.
    pub(crate) made: Map<i64, String>,
}

/// What comes out of a replay.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) names: Option<crate::intern::Names>,
    pub(crate) past: Past,
    /// zxids whose changes are known: those of answered writes and of settled suspects that the model could carry out.
    pub(crate) settled: Map<i64, ()>,
}

#[derive(Clone, Copy)]
enum Item {
    Write(usize),
    Hidden(Hidden),
    Read(usize),
}

impl<'h, 's> Replay<'h, 's> {
    pub(crate) fn run(facts: &'s Facts<'h>, resolved: Resolved, sink: &'s mut Sink) -> Replayed {
        let Resolved { settled, made, open, origin } = resolved;
        let mut items: Vec<(i64, u8, Item)> = Vec::with_capacity(facts.calls.len());
        items.extend(settled.into_iter().map(|(zxid, what)| (zxid, 0, Item::Hidden(what))));
        for (index, call) in facts.calls.iter().enumerate() {
            if call.is_placed() {
                items.push((call.zxid, 0, Item::Write(index)));
            } else if call.is_read() && call.zxid > 0 && facts.history.header.exact_reads {
                items.push((call.zxid, 1, Item::Read(index)));
            }
        }
        items.sort_by_key(|(zxid, rank, _)| (*zxid, *rank));
        let mut overdue: Vec<(i64, i64)> = Vec::new();
        for suspect in open.iter().filter(|suspect| suspect.high < i64::MAX) {
            if let Hidden::End(session) = suspect.what {
                overdue.push((suspect.high, session));
            }
        }
        overdue.sort_unstable_by_key(|(zxid, _)| std::cmp::Reverse(*zxid));
        let mut replay = Self {
            facts,
            sink,
            model: Model::new(),
            past: Past::default(),
            doubts: Doubts::new(open),
            origin,
            multis: Map::default(),
            times: Map::default(),
            ended: Map::default(),
            next_suspect: 0,
            overdue,
            unsure: Map::default(),
            made,
        };
        replay.note_unsure();
        let mut known = Map::default();
        for (zxid, _, item) in items {
            replay.open_windows(zxid);
            replay.bury(zxid);
            match item {
                Item::Write(index) => {
                    if !replay.is_unsure_end(index) {
                        known.insert(zxid, ());
                    }
                    replay.write(index);
                }
                Item::Hidden(Hidden::Call(index)) => {
                    if replay.hidden(index, zxid) {
                        known.insert(zxid, ());
                    }
                }
                Item::Hidden(Hidden::End(session)) => {
                    if !replay.unsure.contains_key(&session) {
                        known.insert(zxid, ());
                    }
                    replay.end(session, zxid);
                }
                Item::Read(index) => replay.read(index),
            }
        }
        let Self { model, past, .. } = replay;
        Replayed { names: Some(model.names), past, settled: known }
    }

    fn note_unsure(&mut self) {
        for suspect in self.doubts.suspects().to_vec() {
            if let Hidden::Call(index) = suspect.what
                && let Some(call) = self.facts.calls.get(index).copied()
                && makes_ephemeral(call.op)
            {
                let touched = self.touched(call.op);
                self.unsure.entry(call.session).or_default().extend(touched);
            }
        }
    }

    /// Whether this is the end of a session that may own more than is known.
    fn is_unsure_end(&self, index: usize) -> bool {
        self.facts
            .calls
            .get(index)
            .is_some_and(|call| matches!(call.op, Op::Close) && self.unsure.contains_key(&call.session))
    }

    /// What a session may have made unseen may go with it unseen.
    fn lose_unsure(&mut self, session: i64, zxid: i64) {
        for (path, bits) in self.unsure.get(&session).cloned().unwrap_or_default() {
            self.doubts.lose(path, bits);
            let bits = self.doubts.of(path, BOTH);
            self.past.doubt(path, zxid, self.model.node(path).copied(), bits);
        }
    }

    /// From `zxid` on, operations may have happened whose windows begin below it; others must have.
    fn open_windows(&mut self, zxid: i64) {
        while let Some(suspect) = self.doubts.suspects().get(self.next_suspect).copied() {
            if suspect.low >= zxid {
                break;
            }
            let at = self.next_suspect;
            self.next_suspect += 1;
            match suspect.what {
                Hidden::Call(call) => {
                    let Some(call) = self.facts.calls.get(call) else { continue };
                    for (path, bits) in self.touched(call.op) {
                        self.doubt(at, path, bits, suspect.low);
                    }
                }
                Hidden::End(session) => {
                    for path in self.model.ephemerals(session) {
                        self.doubt(at, path, BOTH, suspect.low);
                        self.doubt(at, self.model.names.parent(path), DOUBT_KIDS, suspect.low);
                    }
                    for (path, bits) in self.unsure.get(&session).cloned().unwrap_or_default() {
                        self.doubt(at, path, bits, suspect.low);
                    }
                }
            }
        }
    }

    /// Sessions of which it was known before this write was asked for that they are over.
    fn bury(&mut self, zxid: i64) {
        while let Some((high, session)) = self.overdue.last().copied().filter(|(high, _)| *high <= zxid) {
            self.overdue.pop();
            if !self.ended.contains_key(&session) {
                self.conclude(session, high);
            }
        }
    }

    fn doubt(&mut self, at: usize, path: Path, bits: u8, low: i64) {
        self.doubts.suspect(at, path, bits);
        let node = self.model.node(path).copied();
        let bits = self.doubts.of(path, BOTH);
        self.past.doubt(path, low.saturating_add(1), node, bits);
    }

    /// Whoever owns this node may have ended already.
    pub(crate) fn doubt_owner(&mut self, path: Path, zxid: i64) {
        let owner = self.model.node(path).map_or(0, |node| node.owner);
        if owner == 0 {
            return;
        }
        if !self.facts.sessions.contains_key(&owner) {
            // Somebody who is not in the history: nothing is known of the end.
            self.doubts.lose(path, BOTH);
        } else if let Some(at) = self.doubts.end_of(owner)
            && self.doubts.suspects().get(at).is_some_and(|suspect| suspect.low < zxid)
        {
            self.doubt(at, path, BOTH, zxid);
            self.doubt(at, self.model.names.parent(path), DOUBT_KIDS, zxid);
        }
    }

    /// What an operation may touch, or depends on.
    pub(crate) fn touched(&mut self, op: &Op) -> Vec<(Path, u8)> {
        match op {
            Op::Multi { ops } => ops.iter().flat_map(|op| self.touched(op)).collect(),
            Op::Create { path, mode, .. } => {
                let parent = self.model.names.path(parent_of(path));
                if is_sequential(*mode) {
                    vec![(parent, BOTH)]
                } else {
                    vec![(self.model.names.path(path), BOTH), (parent, BOTH)]
                }
            }
            Op::Delete { path, .. } => {
                let path = self.model.names.path(path);
                vec![(path, BOTH), (self.model.names.parent(path), BOTH)]
            }
            Op::Set { path, .. } | Op::Check { path, .. } => vec![(self.model.names.path(path), DOUBT_SELF)],
            _ => Vec::new(),
        }
    }

    /// Whether an operation's result hangs on something that is in doubt.
    pub(crate) fn is_doubtful(&mut self, op: &Op) -> bool {
        match op {
            Op::Multi { ops } => ops.iter().any(|op| self.is_doubtful(op)),
            Op::Create { path, mode, .. } => {
                let parent = self.model.names.path(parent_of(path));
                if is_sequential(*mode) {
                    return self.doubt_of(parent, BOTH) != 0;
                }
                let path = self.model.names.path(path);
                self.doubt_of(parent, DOUBT_SELF) | self.doubt_of(path, DOUBT_SELF) != 0
            }
            Op::Delete { path, .. } => {
                let path = self.model.names.path(path);
                let parent = self.model.names.parent(path);
                self.doubt_of(parent, DOUBT_SELF) | self.doubt_of(path, BOTH) != 0
            }
            Op::Set { path, .. } => {
                let path = self.model.names.path(path);
                self.doubt_of(path, BOTH) != 0
            }
            Op::Check { path, .. } => {
                let path = self.model.names.path(path);
                self.doubt_of(path, DOUBT_SELF) != 0
            }
            _ => false,
        }
    }

    /// Which of these facets are in doubt.
    pub(crate) fn doubt_of(&mut self, path: Path, bits: u8) -> u8 {
        self.doubts.settle(path, self.model.names.parent(path));
        self.doubts.of(path, bits)
    }

    fn write(&mut self, index: usize) {
        let Some(call) = self.facts.calls.get(index).copied() else { return };
        let Some(outcome) = call.outcome else { return };
        let checker = if matches!(call.op, Op::Multi { .. }) { "C9" } else { "C1" };
        if matches!(call.op, Op::Multi { .. }) {
            self.multis.insert(call.zxid, ());
        }
        if !self.session(&call, outcome) {
            return;
        }
        if matches!(call.op, Op::Close) {
            return self.end(call.session, call.zxid);
        }
        self.times_of(&call, call.op, outcome);
        let doubtful = self.is_doubtful(call.op);
        let at = At { zxid: call.zxid, time_ms: 0, session: call.session };
        let expected = self.model.apply(at, call.op);
        if agrees(&expected, outcome) {
            self.commit(call.zxid);
            self.believe(&call, call.op, outcome);
            if doubtful {
                self.sink.skipped(checker)
            } else {
                self.sink.judged(checker)
            }
            return;
        }
        self.model.undo();
        if doubtful {
            self.sink.skipped(checker);
        } else {
            self.misfit(&call, outcome, &expected);
        }
        self.force(&call, call.op, outcome);
        self.commit(call.zxid);
        self.believe(&call, call.op, outcome);
    }

    fn misfit(&mut self, call: &Call<'_>, outcome: &Outcome, expected: &Outcome) {
        let checker = match (call.op, outcome, expected) {
            (Op::Multi { .. }, ..) => "C9",
            (
                Op::Create { mode, .. },
                Outcome::Ok(Reply::Created { path: a, .. }),
                Outcome::Ok(Reply::Created { path: b, .. }),
            ) if is_sequential(*mode) && a != b => "C6",
            _ if self.is_about_ephemeral(call.op) => "C7",
            _ => "C1",
        };
        let text = format!(
            "the writes before zxid {:#x}, in order, leave {} as the only answer to {:?} of session {:#x}, not {}",
            call.zxid,
            told(expected),
            call.op,
            call.session,
            told(outcome)
        );
        self.sink.find(checker, text, vec![call.invoked, call.ended]);
    }

    /// Whether the node that the operation is about is, or was when it last existed, a session's own.
    fn is_about_ephemeral(&mut self, op: &Op) -> bool {
        let (Op::Create { path, .. } | Op::Delete { path, .. } | Op::Set { path, .. }) = op else {
            return false;
        };
        let path = self.model.names.path(path);
        self.model.node(path).is_some_and(|node| node.owner != 0)
    }

    /// Keeps what the model did, and which of it is only believed.
    pub(crate) fn commit(&mut self, zxid: i64) {
        let touched = self.model.commit(zxid, &mut self.past);
        for path in touched {
            let bits = self.doubts.of(path, BOTH);
            self.past.doubt(path, zxid, self.model.node(path).copied(), bits);
        }
    }

    /// These facets are as the model has them.
    pub(crate) fn shown(&mut self, path: Path, bits: u8, zxid: i64) {
        let before = self.doubts.of(path, BOTH);
        if before & bits != 0 {
            self.doubts.shown(path, bits, zxid);
        }
        self.doubt_owner(path, zxid);
        let after = self.doubts.of(path, BOTH);
        if before != after {
            self.past.doubt(path, zxid, self.model.node(path).copied(), after);
        }
    }

    /// What a success tells about the nodes that it touched.
    fn believe(&mut self, call: &Call<'_>, op: &Op, outcome: &Outcome) {
        match (op, outcome) {
            (Op::Create { .. }, Outcome::Ok(Reply::Created { path, .. })) => {
                let path = self.model.names.path(path);
                self.shown(path, BOTH, call.zxid);
                self.doubts.born(path);
            }
            (Op::Set { path, .. }, Outcome::Ok(Reply::Stat(_))) => {
                let path = self.model.names.path(path);
                self.shown(path, BOTH, call.zxid);
            }
            (Op::Delete { path, .. }, Outcome::Ok(_)) => {
                let path = self.model.names.path(path);
                self.shown(path, BOTH, call.zxid);
            }
            (Op::Multi { ops }, Outcome::Ok(Reply::Multi(results))) => {
                // Only the last word on a path within the multi describes what is there after it.
                for (op, result) in ops.iter().zip(results) {
                    if !matches!(op, Op::Set { .. }) {
                        self.believe(call, op, result);
                    }
                }
            }
            _ => {}
        }
    }

    /// An operation of a session: is it one that may still act? False: nothing more is to be done.
    fn session(&mut self, call: &Call<'_>, outcome: &Outcome) -> bool {
        let refused = code::is_over(outcome);
        let ended = self.ended.get(&call.session).copied();
        match (refused, ended) {
            (true, None) => {
                if self.doubts.end_of(call.session).is_some() {
                    self.conclude(call.session, call.zxid);
                } else {
                    let text = format!(
                        "session {:#x} is refused as expired at zxid {:#x} and answered later as if it lived",
                        call.session, call.zxid
                    );
                    self.sink.find("C7", text, vec![call.invoked, call.ended]);
                }
            }
            (false, Some(end)) => {
                let text = format!(
                    "session {:#x} was over by zxid {end:#x}, and at {:#x} it still acts: {:?}",
                    call.session, call.zxid, call.op
                );
                self.sink.find("C7", text, vec![call.invoked, call.ended]);
                self.model.revive(call.session);
            }
            _ => {}
        }
        !refused
    }

    /// A session ends at exactly this zxid.
    fn end(&mut self, session: i64, zxid: i64) {
        for path in self.model.ephemerals(session) {
            if self.doubts.of(path, DOUBT_SELF) != 0 {
                // It may have been deleted before: no change that could be relied upon.
                self.past.maybe(zxid, path);
                self.past.maybe(zxid, self.model.names.parent(path));
                self.forget_from(path, zxid);
            }
        }
        self.model.end_session(session, zxid);
        self.lose_unsure(session, zxid);
        self.commit(zxid);
        self.ended.insert(session, zxid);
        self.sink.judged("C7");
        if let Some(at) = self.doubts.end_of(session) {
            self.doubts.close(at);
        }
    }

    /// It may have gone before this zxid: reads from here on tell nothing about its parent's children either.
    fn forget_from(&mut self, path: Path, zxid: i64) {
        self.forget(path);
        let parent = self.model.names.parent(path);
        let bits = self.doubts.of(parent, BOTH);
        self.past.doubt(parent, zxid, self.model.node(parent).copied(), bits);
    }

    /// A session must have ended at this zxid or before, it is not known when.
    pub(crate) fn conclude(&mut self, session: i64, zxid: i64) {
        for path in self.model.ephemerals(session) {
            self.forget_from(path, zxid);
            // 1. n3's session makes /lock, and closes without an answer. 2. n4 asks for /lock, without an answer. 3. n3
            //    is told that it is over; whether /lock is there afterwards hangs on n4.
            if self.doubts.of(path, BOTH) == 0 || self.doubts.only_by_end(path, session) {
                self.doubts.shown(path, BOTH, zxid);
            } else {
                self.doubts.lose(path, BOTH);
            }
        }
        self.model.end_session(session, zxid);
        if let Some(at) = self.doubts.end_of(session) {
            self.doubts.close(at);
        }
        self.lose_unsure(session, zxid);
        self.commit(zxid);
        self.ended.insert(session, zxid);
        self.sink.judged("C7");
    }

    /// A command without an answer that is known to have been carried out here. False: the model could not.
    fn hidden(&mut self, index: usize, zxid: i64) -> bool {
        let Some(call) = self.facts.calls.get(index).copied() else { return false };
        if matches!(call.op, Op::Multi { .. }) {
            self.multis.insert(zxid, ());
        }
        let at = At { zxid, time_ms: 0, session: call.session };
        let doubtful = self.is_doubtful(call.op);
        let outcome = self.model.apply(at, call.op);
        let done = match &outcome {
            Outcome::Error(_) => false,
            Outcome::Ok(Reply::Multi(results)) => !results.iter().any(|one| matches!(one, Outcome::Error(_))),
            Outcome::Ok(_) => true,
        };
        if done && doubtful {
            self.number(&Call { zxid, ..call }, &outcome);
        }
        if !done {
            self.model.undo();
            for (path, bits) in self.touched(call.op) {
                self.doubts.lose(path, bits);
            }
        }
        if (doubtful || !done) && makes_ephemeral(call.op) {
            let touched = self.touched(call.op);
            self.unsure.entry(call.session).or_default().extend(touched);
        }
        for (path, _) in self.touched(call.op) {
            self.doubt_owner(path, zxid);
        }
        self.commit(zxid);
        done && !doubtful
    }

    /// The time of a zxid is one, whoever is asked.
    fn times_of(&mut self, call: &Call<'_>, op: &Op, outcome: &Outcome) {
        match (op, outcome) {
            (_, Outcome::Ok(Reply::Created { stat: Some(stat), .. } | Reply::Stat(stat))) => {
                self.times(stat, call.ended);
            }
            (Op::Multi { ops }, Outcome::Ok(Reply::Multi(results))) => {
                ops.iter().zip(results).for_each(|(op, result)| self.times_of(call, op, result));
            }
            _ => {}
        }
    }

    pub(crate) fn times(&mut self, stat: &Stat, event: usize) {
        for (zxid, time) in [(stat.czxid, stat.ctime), (stat.mzxid, stat.mtime)] {
            let (before, by) = *self.times.entry(zxid).or_insert((time, event));
            if before != time {
                let text =
                    format!("zxid {zxid:#x} was at {before} ms for one reader and at {time} ms for another");
                self.sink.find("C4", text, vec![by, event]);
            }
        }
    }
}

fn makes_ephemeral(op: &Op) -> bool {
    match op {
        Op::Multi { ops } => ops.iter().any(makes_ephemeral),
        Op::Create { mode, .. } => is_ephemeral(*mode),
        _ => false,
    }
}

/// Whether an answer is the expected one. Times are not foretold, and a plain create shows no stat.
fn agrees(expected: &Outcome, actual: &Outcome) -> bool {
    match (expected, actual) {
        (Outcome::Error(a), Outcome::Error(b)) => a == b,
        (Outcome::Ok(a), Outcome::Ok(b)) => match (a, b) {
            (Reply::Nothing, Reply::Nothing) => true,
            (Reply::Created { path: a, stat }, Reply::Created { path: b, stat: shown }) => {
                a == b && shown.is_none_or(|shown| stat.is_some_and(|stat| timeless(stat) == timeless(shown)))
            }
            (Reply::Stat(a), Reply::Stat(b)) => timeless(*a) == timeless(*b),
            (Reply::Multi(a), Reply::Multi(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agrees(a, b))
            }
            _ => false,
        },
        // An operation that a failed multi took back: code 0, which some clients record as a success.
        (Outcome::Error(0), Outcome::Ok(_)) => true,
        _ => false,
    }
}

fn timeless(stat: Stat) -> Stat {
    Stat { ctime: 0, mtime: 0, ..stat }
}

/// An outcome in few words.
fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Error(code) => format!("error {code}"),
        Outcome::Ok(Reply::Stat(stat)) => tell(stat),
        Outcome::Ok(Reply::Created { path, stat: Some(stat) }) => format!("{path}, {}", tell(stat)),
        Outcome::Ok(Reply::Created { path, stat: None }) => path.clone(),
        Outcome::Ok(Reply::Multi(all)) => {
            format!("[{}]", all.iter().map(told).collect::<Vec<_>>().join("; "))
        }
        Outcome::Ok(reply) => format!("{reply:?}"),
    }
}

/// A stat in few words.
pub(crate) fn tell(stat: &Stat) -> String {
    format!(
        "version {}, czxid {:#x}, mzxid {:#x}, pzxid {:#x}, cversion {}, {} children, {} bytes, owner {:#x}",
        stat.version,
        stat.czxid,
        stat.mzxid,
        stat.pzxid,
        stat.cversion,
        stat.num_children,
        stat.data_length,
        stat.ephemeral_owner
    )
}

/// A node that exists and of which nothing else is known.
pub(crate) fn blank() -> Node {
    Node::of(&Stat::default(), None)
}
