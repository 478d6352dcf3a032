//! Traces of several nodes as one: by wall clock, but never a reception before its sending.
//!
//! Each live node counts time from its own start. The header says when that was by the wall clock, which puts the traces
//! side by side; wall clocks differ, so where they contradict causality, causality wins:
//!
//! ```text
//!  n1: … send 7 (t=105) …            the head of each trace is a candidate, the earliest is taken,
//!  n2: recv 7 (t=101) …              unless it receives what is still to be sent: then it waits
//! ```
//!
//! Message ids are unique across the cluster (`Record::id`), so a reception finds its sending by the id alone.

use crate::{Header, Kind, Record, Trace};
use std::collections::HashSet;

/// Merges traces of the nodes of one cluster, in any order. `None` if there are none.
///
/// Times are counted from the earliest start. A trace without `began` (the simulator's) is taken to start there.
#[must_use]
pub fn merge(traces: Vec<Trace>) -> Option<Trace> {
    let first = traces.first()?;
    let start = traces.iter().filter_map(|t| t.header.began).min();
    let header = Header { node: None, began: start, ..first.header.clone() };
    let torn = traces.iter().any(|t| t.torn);
    let sent: HashSet<u64> = traces
        .iter()
        .flat_map(|t| &t.records)
        .filter(|r| r.kind == Kind::Send)
        .filter_map(|r| r.id)
        .collect();
    let shifted = |trace: Trace| {
        let by = trace.header.began.unwrap_or_default().saturating_sub(start.unwrap_or_default());
        let by = if trace.header.began.is_some() { by } else { 0 };
        trace.records.into_iter().map(move |r| Record { t: r.t.saturating_add(by), ..r })
    };
    let mut heads: Vec<_> = traces.into_iter().map(|t| shifted(t).peekable()).collect();
    let mut done: HashSet<u64> = HashSet::new();
    let mut records = Vec::new();
    loop {
        let waits = |r: &Record| {
            r.kind == Kind::Recv && r.id.is_some_and(|id| sent.contains(&id) && !done.contains(&id))
        };
        // If all wait for one another the ids lie; by time, then, rather than not at all.
        let next = heads
            .iter_mut()
            .enumerate()
            .filter_map(|(i, h)| h.peek().map(|r| (waits(r), r.t, i)))
            .min()
            .map(|(_, _, i)| i);
        let Some(record) = next.and_then(|i| heads.get_mut(i)).and_then(Iterator::next) else { break };
        if record.kind == Kind::Send {
            done.extend(record.id);
        }
        records.push(record);
    }
    Some(Trace { header, records, torn })
}

/// Receptions and sendings that do not fit together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unmatched {
    /// Receptions without an earlier sending by that peer to that node.
    pub received: Vec<Record>,
    /// Sendings that nobody received nor reported lost: under way at the end, or lost with their link.
    pub sent: u64,
    /// Ids that two sendings share.
    pub repeated: Vec<u64>,
}

/// Checks that every `recv` has its `send` before it.
#[must_use]
pub fn unmatched(records: &[Record]) -> Unmatched {
    let mut under_way: std::collections::HashMap<u64, (u32, Option<u32>, bool)> =
        std::collections::HashMap::new();
    let mut found = Unmatched::default();
    for r in records {
        let Some(id) = r.id else { continue };
        match r.kind {
            Kind::Send => {
                let before = under_way.insert(id, (r.node, r.peer, false));
                found.repeated.extend(before.map(|_| id));
            }
            Kind::Recv => match under_way.get_mut(&id) {
                Some((from, to, received)) if Some(*from) == r.peer && *to == Some(r.node) => {
                    *received = true;
                }
                _ => found.received.push(r.clone()),
            },
            Kind::Lost => {
                if let Some((.., received)) = under_way.get_mut(&id) {
                    *received = true;
                }
            }
            _ => {}
        }
    }
    found.sent = under_way.values().filter(|(.., received)| !received).count() as u64;
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clock;

    fn event(t: u64, node: u32, kind: Kind, id: u64, peer: u32) -> Record {
        Record { t, node, kind, id: Some(id), peer: Some(peer), ..Record::default() }
    }

    fn trace(node: u32, began: u64, records: Vec<Record>) -> Trace {
        let mut header = Header::new("zab", Clock::Monotonic);
        (header.node, header.began) = (Some(node), Some(began));
        Trace { header, records, torn: false }
    }

    #[test]
    fn wall_clocks_put_traces_side_by_side() {
        let one = trace(1, 1000, vec![event(5, 1, Kind::Send, 7, 2), event(90, 1, Kind::Recv, 8, 2)]);
        let two = trace(2, 1050, vec![event(10, 2, Kind::Recv, 7, 1), event(20, 2, Kind::Send, 8, 1)]);
        let merged = merge(vec![two, one]).unwrap();
        let order: Vec<(u64, u32)> = merged.records.iter().map(|r| (r.t, r.node)).collect();
        assert_eq!(order, [(5, 1), (60, 2), (70, 2), (90, 1)]);
        assert_eq!((merged.header.node, merged.header.began), (None, Some(1000)));
    }

    #[test]
    fn causality_wins_over_clocks() {
        let one = trace(1, 1000, vec![event(50, 1, Kind::Send, 7, 2)]);
        let two = trace(2, 900, vec![event(10, 2, Kind::Recv, 7, 1), event(20, 2, Kind::Send, 8, 1)]);
        let merged = merge(vec![one, two]).unwrap();
        assert_eq!(merged.records.iter().map(|r| r.id.unwrap()).collect::<Vec<_>>(), [7, 7, 8]);
        assert_eq!(unmatched(&merged.records), Unmatched { sent: 1, ..Unmatched::default() });
    }

    #[test]
    fn lying_ids_do_not_stop_the_merge() {
        let one = trace(1, 0, vec![event(1, 1, Kind::Recv, 8, 2), event(2, 1, Kind::Send, 7, 2)]);
        let two = trace(2, 0, vec![event(1, 2, Kind::Recv, 7, 1), event(2, 2, Kind::Send, 8, 1)]);
        assert_eq!(merge(vec![one, two]).unwrap().records.len(), 4);
        assert!(merge(Vec::new()).is_none());
    }

    #[test]
    fn a_reception_needs_its_sending() {
        let stray = event(3, 3, Kind::Recv, 7, 1);
        let records = [event(1, 1, Kind::Send, 7, 2), event(2, 2, Kind::Recv, 7, 1), stray.clone()];
        assert_eq!(unmatched(&records).received, [stray], "it was sent to another node");
        let records = [event(1, 1, Kind::Send, 7, 2), event(2, 1, Kind::Send, 7, 3)];
        assert_eq!(unmatched(&records).repeated, [7]);
    }
}
