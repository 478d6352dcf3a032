//! The claims of the Zab paper's safety section, one test each, over random runs: crashes of processes and machines,
//! cuts, pauses and load. What is recorded is what the paper speaks of: `broadcast` (a primary's log grows in its own
//! epoch), `deliver` (the commit of a replica grows), `ready` (a leader enters phase 3).
// spec: zab-dsn11 §3 (properties), §4 (protocol), §5 (claims)

use replog::conformance::{Cluster, ClusterOptions, Crash};
use replog::{Epoch, Index, LogId, NodeId, Phase, Rng, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Duration;
use zab::{Options, Zab};

/// What was seen of a run.
#[derive(Default)]
struct Trace {
    /// Who was ready in which epoch.
    ready: BTreeMap<Epoch, BTreeSet<NodeId>>,
    /// Ids broadcast by each primary, in order.
    broadcast: BTreeMap<Epoch, Vec<LogId>>,
    /// Ids delivered by each replica, in order, over all its lives.
    delivered: BTreeMap<NodeId, Vec<LogId>>,
    /// What each primary had delivered when it became ready.
    before: BTreeMap<Epoch, Vec<LogId>>,
    /// The history that a primary became ready with.
    initial: BTreeMap<Epoch, LogId>,
    /// End of each replica's log when it was last looked at.
    ends: BTreeMap<NodeId, LogId>,
    /// The epoch in which a replica led when it was last looked at.
    led: BTreeMap<NodeId, Epoch>,
}

impl Trace {
    /// Looks at every replica after an event.
    fn look(&mut self, c: &Cluster<Zab>) {
        for id in c.live() {
            let Some(status) = c.status(id) else { continue };
            self.deliveries(c, id);
            let end = self.ends.insert(id, status.last).unwrap_or(status.last);
            if (status.role, status.phase) == (Role::Leader, Phase::Broadcast) {
                self.primary(id, status.epoch, end, status.last);
                self.led.insert(id, status.epoch);
            } else if let Some(epoch) = self.led.remove(&id)
                && status.last.epoch == epoch
            {
                // It broadcast and left in one step.
                self.primary(id, epoch, end, status.last);
            }
        }
    }

    fn deliveries(&mut self, c: &Cluster<Zab>, id: NodeId) {
        let applied = c.applied(id);
        let seen = self.delivered.entry(id).or_default();
        let from = seen.last().map_or(Index::ZERO, |l| l.index);
        // The cluster checks each applied entry against the first replica's; the ids come from there.
        let new = c.ledger().entries().filter(|e| e.id.index > from && e.id.index <= applied.index);
        seen.extend(new.map(|e| e.id));
    }

    fn primary(&mut self, id: NodeId, epoch: Epoch, end: LogId, last: LogId) {
        if self.ready.entry(epoch).or_default().insert(id) {
            self.before.insert(epoch, self.delivered.get(&id).cloned().unwrap_or_default());
            self.initial.insert(epoch, end);
        }
        let grown = end.index.0 + 1..=last.index.0;
        let sent = self.broadcast.entry(epoch).or_default();
        sent.extend(grown.map(|i| LogId::new(epoch, Index(i))));
    }
}

/// One random run under the eye of the trace.
fn run(seed: u64) -> (Trace, Cluster<Zab>) {
    let mut rng = Rng::new(seed ^ 0xC1A1);
    let mut options = ClusterOptions::<Options>::new(seed, if rng.one_in(3) { 5 } else { 3 });
    options.fsync_spread = Duration::from_millis(rng.below(6));
    options.network.jitter = Duration::from_millis(rng.below(3));
    let mut c = Cluster::<Zab>::new(options);
    let mut trace = Trace::default();
    let mut pass = |c: &mut Cluster<Zab>, ms: u64| {
        c.run_until(Duration::from_millis(ms), |c| {
            trace.look(c);
            false
        });
    };
    pass(&mut c, 50);
    for _ in 0..25 {
        let nodes = c.nodes();
        let any = nodes.get(usize::try_from(rng.below(nodes.len() as u64)).unwrap_or(0)).copied();
        let Some(victim) = c.leader().filter(|_| rng.one_in(2)).or(any) else { continue };
        match rng.below(6) {
            0 => c.crash(victim, Crash::Kill),
            1 => c.crash(victim, Crash::Power),
            2 => c.isolate(victim),
            3 => c.heal(),
            _ => {
                let down = nodes.iter().find(|n| c.status(**n).is_none());
                down.into_iter().for_each(|n| c.restart(*n));
            }
        }
        c.propose(rng.below(9));
        pass(&mut c, 1 + rng.below(900));
        c.propose(rng.below(9));
        pass(&mut c, rng.below(3));
    }
    c.heal();
    for id in c.nodes() {
        if c.status(id).is_none() {
            c.restart(id);
        }
    }
    pass(&mut c, 4000);
    c.propose(1);
    pass(&mut c, 500);
    (trace, c)
}

fn over_runs(claim: impl Fn(&Trace, &Cluster<Zab>)) {
    static RUNS: OnceLock<Vec<(Trace, Cluster<Zab>)>> = OnceLock::new();
    let runs = RUNS.get_or_init(|| (0..25).map(run).collect());
    let epochs: usize = runs.iter().map(|(trace, _)| trace.ready.len()).sum();
    let delivered: u64 = runs.iter().map(|(_, c)| c.ledger().top().0).sum();
    assert!(epochs > 60 && delivered > 1000, "the runs were too quiet: {epochs} reigns, {delivered} entries");
    runs.iter().for_each(|(trace, c)| claim(trace, c));
}

/// §3.1 Integrity: what is delivered was broadcast.
#[test]
fn integrity() {
    over_runs(|trace, _| {
        for (id, delivered) in &trace.delivered {
            for entry in delivered {
                let sent = trace.broadcast.get(&entry.epoch);
                assert!(sent.is_some_and(|s| s.contains(entry)), "{id} delivered {entry}, never broadcast");
            }
        }
    });
}

/// §3.1 Total order: replicas deliver in one order, so of two sequences one is a prefix of the other.
#[test]
fn total_order() {
    over_runs(|trace, _| {
        for a in trace.delivered.values() {
            for b in trace.delivered.values() {
                let common = a.len().min(b.len());
                assert_eq!(a[..common], b[..common]);
            }
        }
    });
}

/// §3.1 Agreement: in the end all correct replicas have delivered the same.
#[test]
fn agreement() {
    over_runs(|trace, c| {
        let longest = c.ledger().top().0 as usize;
        for (id, delivered) in &trace.delivered {
            assert_eq!(delivered.len(), longest, "{id} is behind\n{}", c.story());
        }
    });
}

/// §3.2 Local primary order: of one primary's broadcasts, what is delivered is delivered in its order with nothing of
/// it missing before.
#[test]
fn local_primary_order() {
    over_runs(|trace, _| {
        for delivered in trace.delivered.values() {
            for (epoch, sent) in &trace.broadcast {
                let mine: Vec<_> = delivered.iter().filter(|e| e.epoch == *epoch).collect();
                assert!(
                    mine.iter().copied().eq(sent.iter().take(mine.len())),
                    "epoch {epoch}: {mine:?} of {sent:?}"
                );
            }
        }
    });
}

/// §3.2 Global primary order: a later primary's entries are delivered after an earlier one's.
#[test]
fn global_primary_order() {
    over_runs(|trace, _| {
        for delivered in trace.delivered.values() {
            assert!(delivered.is_sorted_by(|a, b| a.epoch <= b.epoch && a.index < b.index), "{delivered:?}");
        }
    });
}

/// §3.2 Primary integrity: before it broadcasts, a primary has delivered (here: committed and been synchronised to)
/// everything of earlier primaries that anyone ever delivers.
#[test]
fn primary_integrity() {
    over_runs(|trace, c| {
        for (epoch, initial) in &trace.initial {
            let earlier = c.ledger().entries().filter(|e| e.id.epoch < *epoch);
            let last = earlier.map(|e| e.id).next_back().unwrap_or(LogId::ZERO);
            assert!(*initial >= last, "the primary of {epoch} began at {initial}, {last} was delivered");
        }
    });
}

/// §5 Claim: there is at most one ready(e) per epoch: a quorum promises an epoch to one leader only.
#[test]
fn one_primary_per_epoch() {
    over_runs(|trace, _| {
        for (epoch, leaders) in &trace.ready {
            assert_eq!(leaders.len(), 1, "epoch {epoch}");
        }
    });
}

/// §5 Claim: the initial history of an epoch holds what its leader had delivered before, and a later initial history
/// is shorter than an earlier one only by entries that were never delivered.
#[test]
fn an_initial_history_loses_only_what_was_never_delivered() {
    over_runs(|trace, c| {
        for (epoch, before) in &trace.before {
            assert!(before.last().is_none_or(|last| *last <= trace.initial[epoch]), "epoch {epoch}");
        }
        let lost = trace.broadcast.values().flatten().filter(|id| c.ledger().entries().all(|e| e.id != **id));
        for id in lost {
            // A lost entry is one that some later leader did not have.
            let later = trace
                .initial
                .iter()
                .any(|(epoch, initial)| *epoch > id.epoch && *initial < *id || initial.index < id.index);
            assert!(later, "{id} is in every later initial history and was not delivered");
        }
    });
}
