//! The replay's second half: reads, and bringing the model in line with what an answer shows.
//!
//! After a correction the model has exactly what was shown, and everything that hangs on it without having been shown
//! (the numbers of the parent, the content when only a stat was seen) is in doubt until somebody shows it.

use crate::facts::Call;
use crate::intern::{Path, suffix_of};
use crate::model::{At, Change, DOUBT_KIDS, DOUBT_SELF, Node, code, is_sequential, parent_of};
use crate::record::{EventKind, Op, Outcome, Reply, Stat};
use crate::replay::{Replay, blank, tell};

const BOTH: u8 = DOUBT_SELF | DOUBT_KIDS;

impl Replay<'_, '_> {
    /// A read at exactly its header's zxid.
    pub(crate) fn read(&mut self, index: usize) {
        let Some(call) = self.facts.calls.get(index).copied() else { return };
        let (Op::Get { path, .. } | Op::Exists { path, .. } | Op::Children { path, .. }) = call.op else {
            return;
        };
        let path = self.model.names.path(path);
        if let Some(end) = self.ended.get(&call.session).copied() {
            let text = format!(
                "session {:#x} was over by zxid {end:#x}, and reads at {:#x}: {:?}",
                call.session, call.zxid, call.op
            );
            self.sink.find("C7", text, vec![call.invoked, call.ended]);
        }
        match call.outcome {
            Some(Outcome::Error(code::NO_NODE)) => self.absent(&call, path),
            Some(Outcome::Ok(Reply::Stat(stat))) => self.present(&call, path, stat, None),
            Some(Outcome::Ok(Reply::Data { data, stat })) => self.present(&call, path, stat, Some(data)),
            Some(Outcome::Ok(Reply::Children { names, stat })) => {
                self.present(&call, path, stat, None);
                self.listed(&call, path, names, stat);
            }
            _ => self.sink.skipped("C4"),
        }
    }

    fn count(&mut self, doubt: u8) {
        if doubt == 0 { self.sink.judged("C4") } else { self.sink.skipped("C4") }
    }

    fn absent(&mut self, call: &Call<'_>, path: Path) {
        let doubt = self.doubt_of(path, DOUBT_SELF);
        self.count(doubt);
        if let Some(node) = self.model.node(path).copied() {
            if doubt == 0 {
                let text = format!(
                    "session {:#x} is told at zxid {:#x} that there is no {}, which is there ({})",
                    call.session,
                    call.zxid,
                    self.model.names.text(path),
                    tell(&node.stat())
                );
                let checker = self.blame(&[node], DOUBT_SELF);
                self.sink.find(checker, text, vec![call.invoked, call.ended]);
            }
            if self.doubts.only_by_end(path, node.owner) {
                self.conclude(node.owner, call.zxid);
            } else {
                self.forget(path);
                self.commit(call.zxid);
            }
        }
        self.shown(path, DOUBT_SELF, call.zxid);
    }

    fn present(&mut self, call: &Call<'_>, path: Path, stat: &Stat, data: Option<&str>) {
        self.times(stat, call.ended);
        let data = data.map(|data| self.model.names.content(data));
        let believed = self.model.node(path).copied();
        let shown = Node::of(stat, data);
        let differs = believed.map_or(BOTH, |believed| differs(&believed, &shown));
        let doubt = self.doubt_of(path, BOTH);
        self.count(doubt);
        let exact = stat.aversion == 0 && shown.stat() == *stat;
        if differs != 0 || !exact {
            let wrong = differs & !doubt;
            if wrong != 0 || !exact {
                self.complain(call, path, believed.as_ref(), &shown, stat, wrong);
            } else {
                self.descent(call, path, &shown, stat);
            }
            self.adopt(path, believed, shown);
            self.commit(call.zxid);
        } else if believed.is_some_and(|believed| believed.data.is_none() && shown.data.is_some()) {
            self.model.put(path, believed.map(|believed| Node { data: shown.data, ..believed }));
            self.commit(call.zxid);
        }
        self.shown(path, BOTH, call.zxid);
    }

    fn complain(
        &mut self,
        call: &Call<'_>,
        path: Path,
        believed: Option<&Node>,
        shown: &Node,
        stat: &Stat,
        wrong: u8,
    ) {
        let names = &self.model.names;
        let content = |node: &Node| {
            node.data.map_or(String::new(), |data| format!(", content {:?}", names.content_of(data)))
        };
        let expected =
            believed.map_or("no node".into(), |node| format!("{}{}", tell(&node.stat()), content(node)));
        let text = format!(
            "session {:#x} reads {} at zxid {:#x} as {}{}; the writes up to there make it {expected}",
            call.session,
            names.text(path),
            call.zxid,
            tell(stat),
            content(shown),
        );
        let gone = believed.is_none() && (shown.owner != 0 || self.past.last_owner(path) != 0);
        let checker = if gone {
            "C7"
        } else {
            let nodes: Vec<Node> = believed.into_iter().chain([shown]).copied().collect();
            self.blame(&nodes, wrong)
        };
        self.sink.find(checker, text, vec![call.invoked, call.ended]);
    }

    /// Whose business a misfit is: that of the latest change among what was expected and what was shown.
    fn blame(&self, nodes: &[Node], wrong: u8) -> &'static str {
        let latest = nodes.iter().map(|node| {
            let own = if wrong & DOUBT_SELF == 0 { 0 } else { node.mzxid.max(node.czxid) };
            let kids = if wrong & DOUBT_KIDS == 0 { 0 } else { node.pzxid };
            own.max(kids)
        });
        if latest.max().is_some_and(|zxid| self.multis.contains_key(&zxid)) {
            "C9"
        } else if let &[node] = nodes
            && node.owner != 0
        {
            "C7"
        } else {
            "C4"
        }
    }

    /// What is believed although it was not expected must at least have been asked for.
    fn descent(&mut self, call: &Call<'_>, path: Path, shown: &Node, stat: &Stat) {
        let mut wrong = None;
        for (name, zxid, kind) in
            [("czxid", shown.czxid, EventKind::Created), ("mzxid", shown.mzxid, EventKind::DataChanged)]
        {
            let first = name == "mzxid" && shown.mzxid == shown.czxid;
            if zxid < self.origin || first || !self.is_answered(zxid) {
                continue;
            }
            let mut changes = self.past.changes(path).iter();
            if !changes.any(|change| change.zxid == zxid && change.kind == kind) {
                wrong = Some((name, zxid));
            }
        }
        if let Some((name, zxid)) = wrong {
            let text = format!(
                "session {:#x} reads {} at zxid {:#x} with {name} {zxid:#x}, where another write was ({})",
                call.session,
                self.model.names.text(path),
                call.zxid,
                tell(stat)
            );
            self.sink.find("C4", text, vec![call.invoked, call.ended]);
        }
    }

    fn is_answered(&self, zxid: i64) -> bool {
        let zxid_of = |index: &usize| self.facts.calls.get(*index).map_or(0, |call| call.zxid);
        self.facts.placed.binary_search_by_key(&zxid, zxid_of).is_ok()
    }

    /// The names of a listing whose stat has been taken in.
    fn listed(&mut self, call: &Call<'_>, path: Path, names: &[String], stat: &Stat) {
        let events = vec![call.invoked, call.ended];
        if i32::try_from(names.len()) != Ok(stat.num_children) {
            let text = format!("{} names are listed, and the stat says {}", names.len(), stat.num_children);
            self.sink.find("C4", text, events.clone());
        }
        let mut kids: Vec<Path> = names.iter().map(|name| self.model.names.child(path, name)).collect();
        let known = self.model.kids(path);
        if known.len() == kids.len() && kids.iter().all(|kid| known.contains(kid)) {
            return;
        }
        kids.sort_unstable();
        let missing: Vec<Path> =
            known.iter().filter(|kid| kids.binary_search(kid).is_err()).copied().collect();
        let surplus: Vec<Path> = kids.iter().filter(|kid| !known.contains(kid)).copied().collect();
        for (kid, there) in
            missing.iter().map(|kid| (*kid, false)).chain(surplus.iter().map(|kid| (*kid, true)))
        {
            if self.model.node(kid).is_some() == there {
                // Settled with one before it: they went with one session.
                continue;
            }
            if self.doubt_of(kid, DOUBT_SELF) == 0 {
                let text = format!(
                    "session {:#x} lists {} at zxid {:#x} {} {}",
                    call.session,
                    self.model.names.text(path),
                    call.zxid,
                    if there { "with" } else { "without" },
                    self.model.names.text(kid),
                );
                let node = self.model.node(kid).copied().into_iter().collect::<Vec<_>>();
                let checker = self.blame(&node, DOUBT_SELF);
                self.sink.find(checker, text, events.clone());
            }
            if there {
                self.ensure(kid);
            } else {
                let owner = self.model.node(kid).map_or(0, |node| node.owner);
                if self.doubts.only_by_end(kid, owner) {
                    self.conclude(owner, call.zxid);
                } else {
                    self.forget(kid);
                }
            }
        }
        // The numbers were shown by this very answer.
        self.model
            .put(path, self.model.node(path).map(|node| Node { data: node.data, ..Node::of(stat, None) }));
        self.commit(call.zxid);
        self.shown(path, DOUBT_KIDS, call.zxid);
    }

    /// The node as shown.
    fn adopt(&mut self, path: Path, believed: Option<Node>, shown: Node) {
        let data = shown.data.or_else(|| {
            believed.filter(|b| b.mzxid == shown.mzxid && b.czxid == shown.czxid).and_then(|b| b.data)
        });
        if believed.is_none_or(|believed| believed.czxid != shown.czxid) {
            for kid in self.model.kids(path).clone() {
                self.doubts.lose(kid, BOTH);
            }
        }
        let parent = self.model.names.parent(path);
        if believed.is_none() {
            self.ensure(parent);
            self.doubts.lose(parent, DOUBT_KIDS);
        }
        self.model.put(path, Some(Node { data, ..shown }));
    }

    /// It exists; more is not known.
    pub(crate) fn ensure(&mut self, path: Path) {
        if self.model.node(path).is_none() {
            self.model.put(path, Some(blank()));
            self.doubts.lose(path, BOTH);
            let parent = self.model.names.parent(path);
            if parent != path {
                self.doubts.lose(parent, DOUBT_KIDS);
                self.ensure(parent);
            }
        }
    }

    /// It does not exist, nor anything below it; since when is not known.
    pub(crate) fn forget(&mut self, path: Path) {
        if self.model.node(path).is_none() {
            return;
        }
        for kid in self.model.kids(path).clone() {
            self.forget(kid);
        }
        self.model.put(path, None);
        let parent = self.model.names.parent(path);
        self.doubts.lose(parent, DOUBT_KIDS);
    }

    /// A creation without an answer took a number that hangs on others without an answer.
    ///
    /// 1. "/q/n-" is asked for twice, both times without an answer. 2. Events show n-51 at 0x202, which either can have
    ///    made, and a read shows the second one's content in n-52 at 0x204. 3. The model, which leaves the first one
    ///    open, numbers the second 51. Rule: what was seen to be made is what was made; if nobody saw it, the number
    ///    is a guess, and no watch owes an event for it.
    pub(crate) fn number(&mut self, call: &Call<'_>, guess: &Outcome) {
        let seen = self.made.get(&call.zxid).cloned();
        if let (Op::Create { mode, .. }, Some(path), Outcome::Ok(Reply::Created { path: guess, .. })) =
            (call.op, &seen, guess)
            && is_sequential(*mode)
        {
            if path != guess {
                self.model.undo();
                let made = Outcome::Ok(Reply::Created { path: path.clone(), stat: None });
                self.force(call, call.op, &made);
            }
            return;
        }
        let one = std::slice::from_ref(guess);
        let (ops, results) = match (call.op, guess) {
            (Op::Multi { ops }, Outcome::Ok(Reply::Multi(results))) => (ops.as_slice(), results.as_slice()),
            (op, _) => (std::slice::from_ref(op), one),
        };
        for (op, result) in ops.iter().zip(results) {
            if let (Op::Create { mode, .. }, Outcome::Ok(Reply::Created { path, .. })) = (op, result)
                && is_sequential(*mode)
            {
                let path = self.model.names.path(path);
                self.past.maybe(call.zxid, path);
                self.doubts.lose(path, BOTH);
            }
        }
    }

    /// Makes the model such that this answer is the one.
    pub(crate) fn force(&mut self, call: &Call<'_>, op: &Op, outcome: &Outcome) {
        let path = match op {
            Op::Create { path, .. }
            | Op::Set { path, .. }
            | Op::Delete { path, .. }
            | Op::Check { path, .. } => self.model.names.path(path),
            Op::Multi { ops } => return self.force_multi(call, ops, outcome),
            _ => return,
        };
        match (op, outcome) {
            (Op::Create { path: asked, data, mode }, Outcome::Ok(Reply::Created { path, stat })) => {
                let parent = self.model.names.path(parent_of(asked));
                self.ensure(parent);
                let target = self.model.names.path(path);
                self.forget(target);
                if let Some(above) = self.model.node(parent).copied() {
                    let number = suffix_of(path).filter(|_| is_sequential(*mode));
                    let created = number.and_then(|n| i32::try_from(n).ok()).unwrap_or(above.created);
                    self.model.put(parent, Some(Node { owner: 0, created, ..above }));
                }
                let at = At { zxid: call.zxid, time_ms: 0, session: call.session };
                let op = Op::Create { path: asked.clone(), data: data.clone(), mode: *mode };
                let _ = self.model.apply(at, &op);
                if let (Some(stat), Some(node)) = (stat, self.model.node(target).copied()) {
                    self.model.put(target, Some(Node { data: node.data, ..Node::of(stat, None) }));
                }
                self.doubts.lose(parent, BOTH);
            }
            (Op::Set { data, .. }, Outcome::Ok(Reply::Stat(stat))) => {
                self.ensure(path);
                let data = self.model.names.content(data);
                self.model.put(path, Some(Node::of(stat, Some(data))));
                self.model.changed(Change { zxid: call.zxid, kind: EventKind::DataChanged, path });
            }
            (Op::Delete { .. }, Outcome::Ok(_)) => {
                self.forget(path);
                // Also if the model had no such node: made without an answer, it may be among the parent's numbers or not.
                let parent = self.model.names.parent(path);
                self.doubts.lose(parent, DOUBT_KIDS);
                self.model.changed(Change { zxid: call.zxid, kind: EventKind::Deleted, path });
            }
            (Op::Check { .. }, Outcome::Ok(_)) => {
                self.ensure(path);
                self.doubts.lose(path, DOUBT_SELF);
            }
            (_, Outcome::Error(error)) => self.force_error(op, path, *error),
            _ => {}
        }
    }

    fn force_error(&mut self, op: &Op, path: Path, error: i32) {
        let parent = self.model.names.parent(path);
        match error {
            code::NO_NODE if matches!(op, Op::Create { .. }) => self.forget(parent),
            code::NO_NODE => self.forget(path),
            code::NODE_EXISTS if matches!(op, Op::Create { mode, .. } if is_sequential(*mode)) => {
                self.doubts.lose(parent, BOTH);
            }
            code::NODE_EXISTS => self.ensure(path),
            code::BAD_VERSION => {
                self.ensure(path);
                self.doubts.lose(path, DOUBT_SELF);
            }
            code::NOT_EMPTY => {
                self.ensure(path);
                self.doubts.lose(path, DOUBT_KIDS);
            }
            code::NO_CHILDREN_FOR_EPHEMERALS => {
                self.ensure(parent);
                self.doubts.lose(parent, DOUBT_SELF);
            }
            _ => {}
        }
    }

    fn force_multi(&mut self, call: &Call<'_>, ops: &[Op], outcome: &Outcome) {
        let Outcome::Ok(Reply::Multi(results)) = outcome else { return };
        let failed = results.iter().any(|result| matches!(result, Outcome::Error(code) if *code != 0));
        for (op, result) in ops.iter().zip(results) {
            if !failed {
                self.force(call, op, result);
            }
            for (path, bits) in self.touched(op) {
                self.doubts.lose(path, bits);
            }
        }
    }
}

/// Which facets of two nodes are not the same, as far as both are known.
fn differs(believed: &Node, shown: &Node) -> u8 {
    let own = |n: &Node| (n.czxid, n.mzxid, n.version, n.owner, n.length);
    let kids = |n: &Node| (n.pzxid, n.created, n.children);
    let content = matches!((believed.data, shown.data), (Some(a), Some(b)) if a != b);
    let mut bits = 0;
    if own(believed) != own(shown) || content {
        bits |= DOUBT_SELF;
    }
    if kids(believed) != kids(shown) {
        bits |= DOUBT_KIDS;
    }
    bits
}
