//! Watchers, from registration to call.
//!
//! ```text
//!  read with a watcher ──reply ok──► tables (data | exists | child, path → watchers)
//!  event for path ──► take the watchers out of the tables (regrouped, S16) ──► queue ──► event thread
//!  reconnect ──► setWatches with every path in the tables and the last zxid (S18)
//! ```
//!
//! Invariants: a watcher stands at most once in one list; an event takes what it fires out of the tables before it is
//! queued, so a registration fires at most once; the queue is in the order of the wire.

use jute::{EventType, JStr, KeeperState, Request, SetWatches};
use std::collections::HashMap;
use std::sync::{Arc, mpsc};

/// Called with every event that it was registered for. Calls never overlap.
pub type Watcher = Arc<dyn Fn(&Event) + Send + Sync>;

/// Bytes of paths in one setWatches.
const MAX_PATHS: usize = 128 << 10;

/// Something happened to a watched node, or to the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened; [`EventType::None`]: the session's state changed.
    pub kind: EventType,
    /// State of the session.
    pub state: KeeperState,
    /// The node; empty when the state changed.
    pub path: String,
}

/// Which table a watcher goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Data of an existing node.
    Data,
    /// A node that does not exist yet.
    Exists,
    /// Children.
    Child,
}

type Paths = HashMap<String, Vec<Watcher>>;

/// One event and whom to call.
pub(crate) type Call = (Event, Vec<Watcher>);

/// The three tables, and the queue to the event thread.
pub(crate) struct Watches {
    data: Paths,
    exists: Paths,
    child: Paths,
    session: Option<Watcher>,
    queue: mpsc::Sender<Call>,
}

impl Watches {
    /// Empty tables; `session` hears of every change of state.
    pub(crate) fn new(session: Option<Watcher>, queue: mpsc::Sender<Call>) -> Self {
        let paths = || Paths::new();
        Self { data: paths(), exists: paths(), child: paths(), session, queue }
    }

    /// Starts the thread that calls watchers, one at a time, until the queue is dropped.
    pub(crate) fn thread(calls: mpsc::Receiver<Call>) {
        let run = move || {
            for (event, watchers) in calls {
                for watcher in watchers {
                    watcher(&event);
                }
            }
        };
        // Without the thread there are no events, which is what a system out of threads can still offer.
        if let Err(error) = std::thread::Builder::new().name("client-events".into()).spawn(run) {
            tracing::error!(%error, "no thread for events");
        }
    }

    fn table(&mut self, table: Table) -> &mut Paths {
        match table {
            Table::Data => &mut self.data,
            Table::Exists => &mut self.exists,
            Table::Child => &mut self.child,
        }
    }

    /// Registers `watcher`.
    pub(crate) fn register(&mut self, table: Table, path: &str, watcher: Watcher) {
        let list = self.table(table).entry(path.to_owned()).or_default();
        if !list.iter().any(|known| Arc::ptr_eq(known, &watcher)) {
            list.push(watcher);
        }
    }

    /// Queues a node event for everyone who waits for it.
    pub(crate) fn fire(&mut self, kind: EventType, path: &str) {
        let tables: &[Table] = match kind {
            EventType::NodeCreated | EventType::NodeDataChanged => &[Table::Data, Table::Exists],
            EventType::NodeChildrenChanged => &[Table::Child],
            EventType::NodeDeleted => &[Table::Data, Table::Exists, Table::Child],
            _ => &[],
        };
        let mut called: Vec<Watcher> = Vec::new();
        for table in tables {
            for watcher in self.table(*table).remove(path).unwrap_or_default() {
                // One event is one call, in however many tables the watcher stood.
                if !called.iter().any(|known| Arc::ptr_eq(known, &watcher)) {
                    called.push(watcher);
                }
            }
        }
        let event = Event { kind, state: KeeperState::SyncConnected, path: path.to_owned() };
        let _ = self.queue.send((event, called));
    }

    /// Tells everyone that the session's state changed. Registrations stay.
    pub(crate) fn state(&self, state: KeeperState) {
        let mut called: Vec<Watcher> = self.session.iter().cloned().collect();
        for watcher in [&self.data, &self.exists, &self.child].into_iter().flat_map(HashMap::values).flatten()
        {
            if !called.iter().any(|known| Arc::ptr_eq(known, watcher)) {
                called.push(Arc::clone(watcher));
            }
        }
        let _ = self.queue.send((Event { kind: EventType::None, state, path: String::new() }, called));
    }

    /// The requests that register everything again at another server, each with at most 128 KiB of paths.
    pub(crate) fn set_watches(&self, last_zxid: i64) -> Vec<Request> {
        let empty = || SetWatches { relative_zxid: last_zxid, data: vec![], exists: vec![], child: vec![] };
        let (mut requests, mut current, mut bytes) = (Vec::new(), empty(), 0);
        for (table, paths) in
            [(Table::Data, &self.data), (Table::Exists, &self.exists), (Table::Child, &self.child)]
        {
            for path in paths.keys() {
                if bytes + path.len() > MAX_PATHS {
                    requests.push(Request::SetWatches(std::mem::replace(&mut current, empty())));
                    bytes = 0;
                }
                bytes += path.len();
                let path = JStr::from(path.as_str());
                match table {
                    Table::Data => current.data.push(path),
                    Table::Exists => current.exists.push(path),
                    Table::Child => current.child.push(path),
                }
            }
        }
        if bytes > 0 {
            requests.push(Request::SetWatches(current));
        }
        requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    type Seen = Arc<Mutex<Vec<(&'static str, EventType)>>>;

    fn watcher(seen: &Seen, name: &'static str) -> Watcher {
        let seen = Arc::clone(seen);
        Arc::new(move |event| seen.lock().unwrap().push((name, event.kind)))
    }

    fn run(calls: &mpsc::Receiver<Call>) {
        for (event, watchers) in calls.try_iter() {
            watchers.iter().for_each(|w| w(&event));
        }
    }

    // requirement: S12, S13, S14, S16
    #[test]
    fn one_event_calls_every_watcher_once_and_only_once() {
        let (queue, calls) = mpsc::channel();
        let (mut watches, seen) = (Watches::new(None, queue), Seen::default());
        let (a, b) = (watcher(&seen, "a"), watcher(&seen, "b"));
        watches.register(Table::Data, "/n", a.clone());
        watches.register(Table::Data, "/n", a.clone());
        watches.register(Table::Child, "/n", a);
        watches.register(Table::Data, "/n", b);
        watches.fire(EventType::NodeDeleted, "/n");
        watches.fire(EventType::NodeDeleted, "/n");
        run(&calls);
        assert_eq!(*seen.lock().unwrap(), [("a", EventType::NodeDeleted), ("b", EventType::NodeDeleted)]);
    }

    #[test]
    fn a_child_event_leaves_data_watches_alone() {
        let (queue, calls) = mpsc::channel();
        let (mut watches, seen) = (Watches::new(None, queue), Seen::default());
        watches.register(Table::Data, "/n", watcher(&seen, "data"));
        watches.register(Table::Child, "/n", watcher(&seen, "child"));
        watches.fire(EventType::NodeChildrenChanged, "/n");
        watches.fire(EventType::NodeDataChanged, "/n");
        run(&calls);
        let expected = [("child", EventType::NodeChildrenChanged), ("data", EventType::NodeDataChanged)];
        assert_eq!(*seen.lock().unwrap(), expected);
    }

    // requirement: S18
    #[test]
    fn set_watches_names_every_path_once_in_bounded_packets() {
        let (queue, _calls) = mpsc::channel();
        let (mut watches, seen) = (Watches::new(None, queue), Seen::default());
        for i in 0..400 {
            watches.register(Table::Exists, &format!("/{i:01000}"), watcher(&seen, "x"));
        }
        let requests = watches.set_watches(77);
        let sizes: Vec<usize> = requests
            .iter()
            .map(|r| match r {
                Request::SetWatches(s) => {
                    assert_eq!(s.relative_zxid, 77);
                    s.exists.iter().map(|p| p.as_bytes().len()).sum()
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sizes.iter().sum::<usize>(), 400 * 1001);
        assert!(sizes.iter().all(|s| *s <= MAX_PATHS), "{sizes:?}");
    }
}
