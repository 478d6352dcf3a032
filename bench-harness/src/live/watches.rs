//! What a client has to remember of its watches, to set them again at another server as ZooKeeper's own client does.
//!
//! ```text
//!  armed by a reply ──► table of its kind ──event──► out of the one-shot tables, persistent ones stay
//!                              └── reconnect ──► setWatches with all of them and the last zxid seen
//! ```

use history::{EventKind, Op, Outcome, WatchMode};
use std::collections::BTreeSet;

/// Watches that a session holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watches {
    data: BTreeSet<String>,
    exist: BTreeSet<String>,
    child: BTreeSet<String>,
    persistent: BTreeSet<String>,
    recursive: BTreeSet<String>,
}

impl Watches {
    /// An operation was answered: it may have armed a watch.
    pub(crate) fn answered(&mut self, op: &Op, outcome: &Outcome) {
        let is_ok = matches!(outcome, Outcome::Ok(_));
        let is_absent = *outcome == Outcome::Error(jute::ErrorCode::NoNode.code());
        match op {
            Op::Get { path, watch: true } if is_ok => drop(self.data.insert(path.clone())),
            Op::Children { path, watch: true } if is_ok => drop(self.child.insert(path.clone())),
            Op::Exists { path, watch: true } if is_ok => drop(self.data.insert(path.clone())),
            Op::Exists { path, watch: true } if is_absent => drop(self.exist.insert(path.clone())),
            Op::AddWatch { path, mode } if is_ok => drop(match mode {
                WatchMode::Persistent => self.persistent.insert(path.clone()),
                WatchMode::Recursive => self.recursive.insert(path.clone()),
            }),
            _ => {}
        }
    }

    /// An event came: one-shot watches that it fires are gone.
    pub(crate) fn fired(&mut self, kind: EventKind, path: &str) {
        match kind {
            EventKind::Created | EventKind::DataChanged => {
                self.data.remove(path);
                self.exist.remove(path);
            }
            EventKind::ChildrenChanged => drop(self.child.remove(path)),
            EventKind::Deleted => {
                self.data.remove(path);
                self.exist.remove(path);
                self.child.remove(path);
            }
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        [&self.data, &self.exist, &self.child, &self.persistent, &self.recursive]
            .iter()
            .map(|t| t.len())
            .sum()
    }

    /// What to ask of a new server; `None` without watches.
    pub(crate) fn set_again(&self, relative: i64) -> Option<Op> {
        let list = |table: &BTreeSet<String>| table.iter().cloned().collect();
        (self.len() > 0).then(|| Op::SetWatches {
            relative,
            data: list(&self.data),
            exist: list(&self.exist),
            child: list(&self.child),
            persistent: list(&self.persistent),
            recursive: list(&self.recursive),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use history::Reply;

    #[test]
    fn one_shots_go_with_their_event_and_persistent_ones_stay() {
        let (mut watches, ok) = (Watches::default(), Outcome::Ok(Reply::Nothing));
        let path = || "/a".to_owned();
        watches.answered(&Op::Get { path: path(), watch: true }, &ok);
        watches.answered(&Op::Get { path: "/b".into(), watch: false }, &ok);
        watches.answered(&Op::Children { path: path(), watch: true }, &ok);
        watches.answered(&Op::Exists { path: "/none".into(), watch: true }, &Outcome::Error(-101));
        watches.answered(&Op::AddWatch { path: path(), mode: WatchMode::Recursive }, &ok);
        assert_eq!(watches.len(), 4);
        watches.fired(EventKind::DataChanged, "/a");
        watches.fired(EventKind::Created, "/none");
        let Some(Op::SetWatches { relative, data, exist, child, recursive, .. }) = watches.set_again(9)
        else {
            panic!("there are watches left")
        };
        assert_eq!((relative, data.len(), exist.len()), (9, 0, 0));
        assert_eq!((child, recursive), (vec![path()], vec![path()]));
        assert!(Watches::default().set_again(1).is_none());
    }
}
