//! C8: watches fire, once per arming, in order, before the answer that shows the change.
//!
//! ```text
//!  get /a, watch ── answer @ 7 ─── event DataChanged /a @ 12 ─── answer @ 12
//!     armed from 7 on              spent: it was the first       everything ≤ 12 that an armed
//!                                  change of /a after 7          watch waits for has been told
//! ```
//!
//! Per connection (watches live there), in the order of the wire:
//! 1. an event needs a watch: one-shot and not spent, persistent, or recursive on the node or above it;
//! 2. it needs a change of that kind at its zxid, and tells it once;
//! 3. zxids of events do not decrease, and an event comes before every answer with its zxid or a later one;
//! 4. an answer at zxid z says that everything up to z was told: the first change after each arming of a one-shot
//!    watch, every change for the others;
//! 5. `setWatches` makes up exactly the events that its relative zxid and the state call for, before its answer.
//!
//! Cannot see: what was missed by a connection that ended before an answer showed a later state; ACL-hidden paths; a
//! node created and deleted while an exists watch was away (requirement S19: the known gap).
//!
//! Source: reliability.md C8, requirements S9-S19, zookeeper-reference 3.

use super::Sink;
use crate::facts::{Call, Facts};
use crate::intern::{Map, Names, Path};
use crate::model::{Change, DOUBT_KIDS, DOUBT_SELF, Past, after, exactly};
use crate::record::{EventKind, Op, Outcome, Reply, WatchMode, What};
use crate::replay::Replayed;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const NAME: &str = "C8";
const DATA: u8 = 1;
const CHILD: u8 = 2;

/// An event that is owed: (zxid, number of its kind, path, event that armed the watch, its class, its arming).
type Due = Reverse<(i64, u8, Path, usize, u8, u32)>;

/// What one connection is waiting for.
#[derive(Default)]
struct Line {
    /// One-shot watches.
    armed: Map<Path, u8>,
    /// (path, mode, everything up to here has been told, armed by).
    lasting: Vec<(Path, WatchMode, i64, usize)>,
    due: BinaryHeap<Due>,
    /// Times that the one-shot watch was spent: what was owed to an earlier arming is settled, also where the change that
    /// spent it is not known (a session's end that nobody could place).
    spent: Map<(Path, u8), u32>,
    told: Map<(i64, u8, Path), usize>,
    /// Events that do not say which change they tell of, and that nobody has asked for yet: (kind, path) → how many.
    unnamed: Map<(u8, Path), usize>,
    /// Highest zxid of an answer, and which.
    answered: (i64, usize),
    last_event: (i64, usize),
    made_up: Vec<(EventKind, Path, usize)>,
    /// Calls that are under way and may arm something.
    asking: Vec<usize>,
    /// Told before the answer to the call that armed the watch (services that register before they answer).
    early: Vec<(EventKind, Path)>,
}

struct Watcher<'a, 'h> {
    facts: &'a Facts<'h>,
    names: &'a mut Names,
    past: &'a Past,
    settled: &'a Map<i64, ()>,
    sink: &'a mut Sink,
}

pub(crate) fn check(facts: &Facts<'_>, replayed: &mut Replayed, sink: &mut Sink) {
    let Replayed { names: Some(names), past, settled } = replayed else { return };
    let mut watcher = Watcher { facts, names, past, settled, sink };
    let mut lines: Vec<Line> = facts.connections.iter().map(|_| Line::default()).collect();
    for (index, event) in facts.history.events.iter().enumerate() {
        let connection = facts.connection_of.get(index).copied().flatten();
        let Some(line) = connection.and_then(|connection| lines.get_mut(connection)) else { continue };
        match &event.what {
            What::Invoke { .. } => line.asking.extend(facts.call_of.get(index).copied().flatten()),
            What::Watch { zxid, kind, path, .. } => {
                let path = watcher.names.path(path);
                watcher.event(line, index, *zxid, *kind, path);
            }
            What::Return { .. } => {
                let Some(call) = facts.call(index) else { continue };
                if let Some(at) = facts.call_of.get(index).copied().flatten() {
                    line.asking.retain(|other| *other != at);
                }
                watcher.answer(line, index, call);
            }
            _ => {}
        }
    }
}

const fn number(kind: EventKind) -> u8 {
    match kind {
        EventKind::Created => 0,
        EventKind::Deleted => 1,
        EventKind::DataChanged => 2,
        EventKind::ChildrenChanged => 3,
    }
}

impl Watcher<'_, '_> {
    fn find(&mut self, index: usize, by: Option<usize>, text: String) {
        self.sink.find(NAME, text, by.into_iter().chain([index]).collect());
    }

    fn describe(&self, index: usize, kind: EventKind, path: Path, zxid: i64) -> String {
        let connection = self.facts.connection_of.get(index).copied().flatten();
        let connection = connection.and_then(|at| self.facts.connections.get(at));
        let (session, server) = connection.map_or((0, 0), |c| (c.session, c.server));
        format!(
            "{kind:?} {} at zxid {zxid:#x} to session {session:#x} on server {server}",
            self.names.text(path)
        )
    }

    fn event(&mut self, line: &mut Line, index: usize, zxid: i64, kind: EventKind, path: Path) {
        let setting = line.asking.iter().any(|call| {
            matches!(self.facts.calls.get(*call).map(|call| call.op), Some(Op::SetWatches { .. }))
        });
        if zxid < 0 && setting {
            return line.made_up.push((kind, path, index));
        }
        let fits = self.take(line, kind, path);
        if !fits && !self.is_early(line, kind, path) {
            let what = self.describe(index, kind, path, zxid);
            self.find(index, None, format!("event without a watch that is still armed: {what}"));
        }
        if zxid < 0 {
            // Services before ZooKeeper 3.9 do not say which change it was: it tells of one that an answer will show.
            *line.unnamed.entry((number(kind), path)).or_default() += 1;
            return self.sink.skipped(NAME);
        }
        if zxid <= line.answered.0 {
            let what = self.describe(index, kind, path, zxid);
            let text = format!("event after an answer at zxid {:#x}: {what}", line.answered.0);
            self.find(index, Some(line.answered.1), text);
        }
        if zxid < line.last_event.0 {
            let what = self.describe(index, kind, path, zxid);
            let text = format!("event after one at zxid {:#x}: {what}", line.last_event.0);
            self.find(index, Some(line.last_event.1), text);
        }
        line.last_event = (zxid, index);
        let told = line.told.entry((zxid, number(kind), path)).or_default();
        *told += 1;
        let told = *told;
        if !self.settled.contains_key(&zxid) || self.past.is_maybe(zxid, path) {
            return self.sink.skipped(NAME);
        }
        self.sink.judged(NAME);
        let changes = match kind {
            EventKind::ChildrenChanged => exactly(self.past.below(path), zxid).len(),
            _ => exactly(self.past.changes(path), zxid).iter().filter(|change| change.kind == kind).count(),
        };
        if changes == 0 && kind == EventKind::ChildrenChanged && self.may_have_changed(path, zxid) {
            return;
        }
        if told > changes {
            let what = self.describe(index, kind, path, zxid);
            let text = format!("{told} events for {changes} such changes: {what}");
            self.find(index, None, text);
        }
    }

    /// A session's end whose ephemerals are not all known.
    fn may_have_changed(&self, path: Path, zxid: i64) -> bool {
        self.past.at(path, zxid).is_none_or(|version| version.doubt != 0)
    }

    /// Finds the watch that an event belongs to, and spends it if it is one-shot.
    fn take(&self, line: &mut Line, kind: EventKind, path: Path) -> bool {
        let classes = match kind {
            EventKind::ChildrenChanged => CHILD,
            EventKind::Deleted => DATA | CHILD,
            EventKind::Created | EventKind::DataChanged => DATA,
        };
        let mut fits = false;
        if let Some(armed) = line.armed.get_mut(&path) {
            fits = *armed & classes != 0;
            *armed &= !classes;
            for class in [DATA, CHILD].into_iter().filter(|class| classes & class != 0) {
                *line.spent.entry((path, class)).or_default() += 1;
            }
        }
        fits || line.lasting.iter().any(|(at, mode, ..)| match mode {
            WatchMode::Persistent => *at == path,
            WatchMode::Recursive => kind != EventKind::ChildrenChanged && self.is_below(path, *at),
        })
    }

    fn is_below(&self, path: Path, above: Path) -> bool {
        let mut at = path;
        loop {
            let parent = self.names.parent(at);
            if at == above {
                return true;
            }
            if parent == at {
                return false;
            }
            at = parent;
        }
    }

    fn is_early(&mut self, line: &mut Line, kind: EventKind, path: Path) -> bool {
        if self.facts.history.header.exact_reads {
            return false;
        }
        let asked = line.asking.iter().filter_map(|call| self.facts.calls.get(*call));
        let mut arming = asked.filter_map(|call| match call.op {
            Op::Get { path, watch: true }
            | Op::Exists { path, watch: true }
            | Op::Children { path, watch: true }
            | Op::AddWatch { path, .. } => Some(path.as_str()),
            _ => None,
        });
        let names = &mut *self.names;
        let early = arming.any(|asked| names.path(asked) == path);
        if early {
            line.early.push((kind, path));
        }
        early
    }

    fn answer(&mut self, line: &mut Line, index: usize, call: &Call<'_>) {
        if call.zxid <= 0 {
            return;
        }
        self.owed(line, index, call.zxid);
        if call.zxid > line.answered.0 {
            line.answered = (call.zxid, index);
        }
        let success = matches!(call.outcome, Some(Outcome::Ok(_)));
        let nothing = call.outcome == Some(&Outcome::Error(crate::model::code::NO_NODE));
        match call.op {
            Op::Get { path, watch: true } if success => self.arm(line, index, path, DATA, call.zxid),
            Op::Exists { path, watch: true } if success || nothing => {
                self.arm(line, index, path, DATA, call.zxid);
            }
            Op::Children { path, watch: true } if success => self.arm(line, index, path, CHILD, call.zxid),
            Op::AddWatch { path, mode } if call.outcome == Some(&Outcome::Ok(Reply::Nothing)) => {
                let path = self.names.path(path);
                line.lasting.push((path, *mode, call.zxid, index));
            }
            Op::SetWatches { .. } if success => self.set_watches(line, index, call),
            _ => {}
        }
    }

    /// An answer at `zxid` shows that everything up to there has been told.
    fn owed(&mut self, line: &mut Line, index: usize, zxid: i64) {
        while let Some(Reverse(due)) = line.due.peek().copied().filter(|Reverse(due)| due.0 <= zxid) {
            line.due.pop();
            let (at, kind, path, by, class, arming) = due;
            if line.spent.get(&(path, class)).copied().unwrap_or(0) == arming {
                self.judge(line, index, (at, kind, path), by);
            } else {
                self.sink.judged(NAME);
            }
        }
        let mut lasting = std::mem::take(&mut line.lasting);
        for (path, mode, upto, by) in &mut lasting {
            if zxid <= *upto {
                continue;
            }
            let until = |change: &&Change| change.zxid <= zxid;
            match mode {
                WatchMode::Persistent => {
                    for change in after(self.past.changes(*path), *upto).iter().take_while(until) {
                        self.judge(line, index, (change.zxid, number(change.kind), *path), *by);
                    }
                    for change in after(self.past.below(*path), *upto).iter().take_while(until) {
                        let kind = number(EventKind::ChildrenChanged);
                        self.judge(line, index, (change.zxid, kind, *path), *by);
                    }
                }
                WatchMode::Recursive => {
                    for change in after(self.past.all(), *upto).iter().take_while(until) {
                        if self.is_below(change.path, *path) {
                            self.judge(line, index, (change.zxid, number(change.kind), change.path), *by);
                        }
                    }
                }
            }
            *upto = zxid;
        }
        line.lasting = lasting;
    }

    fn judge(&mut self, line: &mut Line, index: usize, (zxid, kind, path): (i64, u8, Path), by: usize) {
        if self.past.is_maybe(zxid, path) {
            return self.sink.skipped(NAME);
        }
        self.sink.judged(NAME);
        if let Some(left) = line.unnamed.get_mut(&(kind, path)).filter(|left| **left > 0)
            && !line.told.contains_key(&(zxid, kind, path))
        {
            *left -= 1;
            line.told.insert((zxid, kind, path), 1);
        }
        if !line.told.contains_key(&(zxid, kind, path)) {
            let kinds =
                [EventKind::Created, EventKind::Deleted, EventKind::DataChanged, EventKind::ChildrenChanged];
            let kind = kinds.get(usize::from(kind)).copied().unwrap_or(EventKind::Created);
            let what = self.describe(index, kind, path, zxid);
            let text =
                format!("an answer shows a state in which a watch had fired, and it was not told: {what}");
            self.find(index, Some(by), text);
        }
    }

    fn arm(&mut self, line: &mut Line, index: usize, path: &str, class: u8, zxid: i64) {
        let path = self.names.path(path);
        if let Some(at) = line.early.iter().position(|(_, early)| *early == path) {
            line.early.swap_remove(at);
            return;
        }
        *line.armed.entry(path).or_default() |= class;
        let own = after(self.past.changes(path), zxid);
        let own = if class == DATA {
            own.first()
        } else {
            own.iter().find(|change| change.kind == EventKind::Deleted)
        };
        let own = own.map(|change| (change.zxid, number(change.kind)));
        let below = after(self.past.below(path), zxid).first().filter(|_| class == CHILD);
        let below = below.map(|change| (change.zxid, number(EventKind::ChildrenChanged)));
        // At one zxid children go before their parent.
        let first = match (below, own) {
            (Some(below), Some(own)) if own.0 < below.0 => Some(own),
            (below, own) => below.or(own),
        };
        if let Some((at, kind)) = first {
            let arming = line.spent.get(&(path, class)).copied().unwrap_or(0);
            line.due.push(Reverse((at, kind, path, index, class, arming)));
        }
    }

    // requirement: S18
    fn set_watches(&mut self, line: &mut Line, index: usize, call: &Call<'_>) {
        let Op::SetWatches { relative, data, exist, child, persistent, recursive } = call.op else { return };
        for (paths, class, absent) in [(data, DATA, false), (exist, DATA, true), (child, CHILD, false)] {
            for text in paths {
                let path = self.names.path(text);
                let expected = self.made_up(path, class, absent, *relative, call.zxid);
                let can = match (class, absent) {
                    (CHILD, _) => [EventKind::Deleted, EventKind::ChildrenChanged],
                    (_, true) => [EventKind::Created; 2],
                    _ => [EventKind::Deleted, EventKind::DataChanged],
                };
                let found = line.made_up.iter().position(|(kind, at, _)| {
                    *at == path
                        && can.contains(kind)
                        && expected.flatten().is_none_or(|expected| expected == *kind)
                });
                match (expected, found) {
                    (None, _) => self.sink.skipped(NAME),
                    (Some(Some(kind)), None) => {
                        let what = self.describe(index, kind, path, call.zxid);
                        let text = format!(
                            "a change after zxid {relative:#x}, while the client was away, was not told: {what}"
                        );
                        self.find(index, Some(call.invoked), text);
                    }
                    (Some(None), Some(at)) => {
                        let what = self.describe(index, EventKind::DataChanged, path, call.zxid);
                        let by = line.made_up.get(at).map(|(.., by)| *by);
                        let text =
                            format!("setWatches told of a change that was not after {relative:#x}: {what}");
                        self.find(index, by, text);
                    }
                    _ => self.sink.judged(NAME),
                }
                match found {
                    Some(at) => drop(line.made_up.swap_remove(at)),
                    None => self.arm(line, index, text, class, call.zxid),
                }
            }
        }
        for (kind, path, by) in std::mem::take(&mut line.made_up) {
            let what = self.describe(index, kind, path, -1);
            self.find(index, Some(by), format!("setWatches told of what it was not asked for: {what}"));
        }
        for (paths, mode) in [(persistent, WatchMode::Persistent), (recursive, WatchMode::Recursive)] {
            for path in paths {
                let path = self.names.path(path);
                line.lasting.push((path, mode, call.zxid, index));
            }
        }
    }

    /// The event that setWatches has to make up. `None`: not known.
    fn made_up(
        &self,
        path: Path,
        class: u8,
        absent: bool,
        relative: i64,
        zxid: i64,
    ) -> Option<Option<EventKind>> {
        if !self.facts.history.header.exact_reads {
            return None;
        }
        let version = self.past.at(path, zxid)?;
        let needs = if class == CHILD { DOUBT_SELF | DOUBT_KIDS } else { DOUBT_SELF };
        if version.doubt & needs != 0 {
            return None;
        }
        Some(match version.node {
            Some(_) if absent => Some(EventKind::Created),
            None if absent => None,
            None => Some(EventKind::Deleted),
            Some(node) if class == CHILD => (node.pzxid > relative).then_some(EventKind::ChildrenChanged),
            Some(node) => (node.mzxid > relative).then_some(EventKind::DataChanged),
        })
    }
}
