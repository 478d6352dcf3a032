//! Directed runs of the cores: the schedules behind rules that chance breaks too rarely. The seed moves every moment a
//! little; what happens stays. Each names the rules for which it was written, and runs on every protocol.

#![allow(clippy::indexing_slicing, reason = "places are drawn below the length")]

use replog::conformance::{Cluster, ClusterOptions, Crash, KeepEntries};
use replog::{NodeId, ReplicatedLog, Rng, Role};
use std::time::Duration;

/// Longest wait for something that must happen.
const LONG: Duration = Duration::from_secs(20);

/// A play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Play {
    /// Two rivals that do not hear each other, and a voter between them that loses power again and again.
    ForgetfulMiddle,
    /// Raft's figure 8.
    Figure8,
    /// Of three that are left only one may be elected.
    OneCandidate,
    /// A replica that was behind falls while it is brought up to date by a new leader, and the old ones come back.
    CutShort,
    /// The link breaks again and again under a snapshot that is being sent.
    BrokenStream,
    /// Bursts over a bad network, and the leader falls.
    LossyBursts,
    /// A leader falls as soon as it leads, and leads again with others.
    LeadsTwice,
    /// Answers to a leader arrive in its next reign; in between another one has led.
    LateAnswers,
}

impl Play {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ForgetfulMiddle,
        Self::Figure8,
        Self::OneCandidate,
        Self::CutShort,
        Self::BrokenStream,
        Self::LossyBursts,
        Self::LeadsTwice,
        Self::LateAnswers,
    ];

    /// As in `bugs.toml`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ForgetfulMiddle => "forgetful-middle",
            Self::Figure8 => "figure-8",
            Self::OneCandidate => "one-candidate",
            Self::CutShort => "cut-short",
            Self::BrokenStream => "broken-stream",
            Self::LossyBursts => "lossy-bursts",
            Self::LeadsTwice => "leads-twice",
            Self::LateAnswers => "late-answers",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    /// Plays it.
    ///
    /// # Panics
    /// On a violation.
    pub fn run<P: ReplicatedLog>(self, seed: u64, keep: KeepEntries<P>) {
        let mut rng = Rng::new(seed ^ 0x91A7);
        let play = match self {
            Self::ForgetfulMiddle => forgetful_middle::<P>,
            Self::Figure8 => figure_8::<P>,
            Self::OneCandidate => one_candidate::<P>,
            Self::CutShort => cut_short::<P>,
            Self::BrokenStream => broken_stream::<P>,
            Self::LossyBursts => lossy_bursts::<P>,
            Self::LeadsTwice => leads_twice::<P>,
            Self::LateAnswers => late_answers::<P>,
        };
        play(seed, &mut rng, keep);
    }
}

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

fn options<P: ReplicatedLog>(
    seed: u64,
    voters: u32,
    fsync_ms: u64,
    keep: KeepEntries<P>,
) -> ClusterOptions<P::Options> {
    let mut options = ClusterOptions::<P::Options>::new(seed, voters);
    options.fsync = Duration::from_millis(fsync_ms);
    options.fsync_spread = Duration::from_millis(fsync_ms);
    keep(&mut options.protocol, 0);
    options
}

fn wait<P: ReplicatedLog>(c: &mut Cluster<P>, rng: &mut Rng, ms: u64) {
    let pause = Duration::from_micros(rng.below(ms * 1000 + 1));
    c.run_for(pause);
}

fn led<P: ReplicatedLog>(c: &mut Cluster<P>) -> Option<NodeId> {
    c.run_until(LONG, |c| c.leader().is_some());
    c.leader()
}

/// Ends a play: everything comes back, and what was chosen is what everybody has.
fn converge<P: ReplicatedLog>(c: &mut Cluster<P>) {
    c.network.options.loss_per_mille = 0;
    c.heal();
    for id in c.nodes() {
        if c.status(id).is_none() {
            c.restart(id);
        }
    }
    for _ in 0..10 {
        c.run_for(Duration::from_secs(2));
        c.propose(1);
    }
    let same = c.run_until(LONG, |c| c.nodes().iter().all(|n| c.applied(*n).index == c.ledger().top()));
    assert!(same, "liveness: not converged\n{}", c.story());
}

/// Traps 2.6, 3.1, 1.6: what a voter promised must survive.
/// 1. n1 and n2 both want to lead and do not hear each other; 2. n3 gives its word to n1 and loses power;
/// 3. n2 asks. If n3 has forgotten, both lead.
fn forgetful_middle<P: ReplicatedLog>(seed: u64, rng: &mut Rng, keep: KeepEntries<P>) {
    let fsync_ms = rng.below(12);
    let mut options = options::<P>(seed, 3, fsync_ms, keep);
    // Longer than links need to come up: both ask before either has got its answer.
    options.network.latency = Duration::from_millis(4);
    let mut c = Cluster::<P>::new(options);
    led(&mut c);
    c.propose(3);
    c.run_for(Duration::from_millis(200));
    for _ in 0..3 {
        c.crash(N3, Crash::Power);
        c.cut(N1, N2);
        c.run_for(Duration::from_millis(3500));
        c.restart(N3);
        for _ in 0..5 {
            wait(&mut c, rng, 60);
            c.propose_to(N1, 1);
            c.propose_to(N2, 1);
            wait(&mut c, rng, 15);
            c.crash(N3, Crash::Power);
            wait(&mut c, rng, 2);
            c.restart(N3);
        }
        wait(&mut c, rng, 400);
        c.heal();
        led(&mut c);
    }
    converge(&mut c);
}

/// Trap 2.1, raft figure 8. An entry of an older reign reaches a majority in a later one, and is lost to the log of a
/// reign in between.
fn figure_8<P: ReplicatedLog>(seed: u64, rng: &mut Rng, keep: KeepEntries<P>) {
    let mut options = options::<P>(seed, 5, 3, keep);
    options.frame_bytes = 1;
    let mut c = Cluster::<P>::new(options);
    let Some(first) = led(&mut c) else { return };
    c.propose(2);
    c.run_for(Duration::from_millis(300));
    // (a) The first leader gets an entry to one other, and falls.
    let others: Vec<NodeId> = c.nodes().into_iter().filter(|n| *n != first).collect();
    let Some((&friend, rest)) = others.split_first() else { return };
    rest.iter().for_each(|n| c.cut(first, *n));
    c.propose_to(first, 1);
    c.run_for(Duration::from_millis(20));
    c.crash(first, Crash::Kill);
    c.crash(friend, Crash::Kill);
    // (b) One of the rest leads, writes for itself only, and falls.
    let leads = |c: &Cluster<P>, n: NodeId| c.status(n).is_some_and(|s| s.role == Role::Leader);
    c.run_until(LONG, |c| rest.iter().any(|n| leads(c, *n)));
    let Some(second) = rest.iter().copied().find(|n| leads(&c, *n)) else { return };
    c.isolate(second);
    wait(&mut c, rng, 30);
    c.crash(second, Crash::Kill);
    c.heal();
    // (c) The first two come back: the old entry goes to a majority …
    c.restart(first);
    c.restart(friend);
    let before = c.ledger().top();
    c.run_until(LONG, |c| c.ledger().top() > before);
    // (d) … and its holders fall before anything of the new reign is safe.
    for id in c.live() {
        c.crash_keeping(id, 0);
    }
    c.restart(second);
    for id in rest.iter().copied().filter(|n| *n != second) {
        c.restart(id);
    }
    c.run_for(Duration::from_secs(6));
    converge(&mut c);
}

/// Trap 2.2: refused candidates must not keep the only electable one from its turn.
fn one_candidate<P: ReplicatedLog>(seed: u64, rng: &mut Rng, keep: KeepEntries<P>) {
    let mut c = Cluster::<P>::new(options::<P>(seed, 5, 1, keep));
    let Some(leader) = led(&mut c) else { return };
    c.run_for(Duration::from_millis(500));
    let others: Vec<NodeId> = c.nodes().into_iter().filter(|n| *n != leader).collect();
    let [good, other, stale @ ..] = others.as_slice() else { return };
    stale.iter().for_each(|n| c.isolate(*n));
    c.propose(5);
    wait(&mut c, rng, 500);
    c.crash(leader, Crash::Power);
    c.crash(*other, Crash::Power);
    c.heal();
    let elected = c.run_until(Duration::from_secs(8), |c| c.leader().is_some_and(|l| l != leader));
    assert!(elected, "liveness: no leader within 5 Te, though {good} may lead\n{}", c.story());
    converge(&mut c);
}

/// Trap 1.9 (ZOOKEEPER-4643): 1. n3 is behind; 2. n1, with n3 alone, begins a new epoch and brings it up to date;
/// 3. n1 and n3 fall in the middle of it; 4. n2, who has everything, meets n3 again.
fn cut_short<P: ReplicatedLog>(seed: u64, rng: &mut Rng, keep: KeepEntries<P>) {
    let mut options = options::<P>(seed, 3, 1 + rng.below(10), keep);
    options.frame_bytes = [1, 4096][rng.below(2) as usize];
    let mut c = Cluster::<P>::new(options);
    for _ in 0..4 {
        let Some(leader) = led(&mut c) else { return };
        let others: Vec<NodeId> = c.nodes().into_iter().filter(|n| *n != leader).collect();
        let [whole, behind] = others.as_slice() else { return };
        c.isolate(*behind);
        c.propose(20);
        c.run_for(Duration::from_millis(300));
        c.crash(*whole, Crash::Power);
        c.crash(leader, Crash::Power);
        c.heal();
        c.restart(leader);
        c.run_until(LONG, |c| c.status(*behind).is_some_and(|s| s.leader.is_some()));
        wait(&mut c, rng, 120);
        c.crash(leader, Crash::Power);
        c.crash(*behind, Crash::Power);
        c.restart(*whole);
        c.restart(*behind);
        c.run_for(Duration::from_secs(4));
        c.restart(leader);
    }
    converge(&mut c);
}

/// Contract schedules 3 and 15: a stream ends after its receiver has moved on.
fn broken_stream<P: ReplicatedLog>(seed: u64, rng: &mut Rng, keep: KeepEntries<P>) {
    let mut options = options::<P>(seed, 3, 1, keep);
    options.snapshot_every = Some(5);
    let mut c = Cluster::<P>::new(options);
    for _ in 0..6 {
        let Some(leader) = led(&mut c) else { return };
        let others: Vec<NodeId> = c.nodes().into_iter().filter(|n| *n != leader).collect();
        let behind = others[rng.below(others.len() as u64) as usize];
        c.isolate(behind);
        c.propose(30);
        c.run_for(Duration::from_millis(1500));
        c.heal();
        for _ in 0..8 {
            wait(&mut c, rng, 8);
            c.break_link(leader, behind);
            c.propose(1);
        }
        c.run_for(Duration::from_millis(300));
    }
    converge(&mut c);
}

/// Traps 3.2, 3.3: holes below what was accepted, and a leader that does not know of them.
fn lossy_bursts<P: ReplicatedLog>(seed: u64, rng: &mut Rng, keep: KeepEntries<P>) {
    let mut c = Cluster::<P>::new(options::<P>(seed, 3, 1, keep));
    c.network.options.jitter = Duration::from_millis(2);
    for _ in 0..8 {
        c.network.options.loss_per_mille = 0;
        let Some(leader) = led(&mut c) else { return };
        c.run_for(Duration::from_millis(150));
        c.network.options.loss_per_mille = if P::GUARANTEES.fifo_links { 2 } else { 400 };
        for _ in 0..6 {
            c.propose(1);
            c.run_for(Duration::from_micros(300));
        }
        wait(&mut c, rng, 12);
        c.crash(leader, Crash::Power);
        c.network.options.loss_per_mille = 0;
        led(&mut c);
        c.propose(2);
        wait(&mut c, rng, 100);
        c.restart(leader);
    }
    converge(&mut c);
}

/// Contract schedule 1: 1. n1 leads with n2 and proposes before its own epoch is durable; 2. n1 loses power;
/// 3. it leads again, with n3, in the same epoch.
fn leads_twice<P: ReplicatedLog>(seed: u64, rng: &mut Rng, keep: KeepEntries<P>) {
    let mut c = Cluster::<P>::new(options::<P>(seed, 3, 40, keep));
    for _ in 0..5 {
        led(&mut c);
        c.run_for(Duration::from_millis(500));
        let mut order = [N1, N2, N3];
        order.rotate_left(rng.below(3) as usize);
        let [a, b, late] = order;
        // Something that the late one does not know.
        c.isolate(late);
        c.propose(2);
        c.run_for(Duration::from_millis(60));
        wait(&mut c, rng, 60);
        for id in c.nodes() {
            c.crash(id, Crash::Power);
        }
        c.heal();
        c.restart(a);
        c.restart(b);
        let leads = |c: &Cluster<P>, n: NodeId| c.status(n).is_some_and(|s| s.role == Role::Leader);
        c.run_until(LONG, |c| leads(c, a) || leads(c, b));
        let first = if leads(&c, a) { a } else { b };
        c.propose_to(first, 1);
        wait(&mut c, rng, 25);
        c.propose_to(first, 1);
        c.crash(first, Crash::Power);
        c.crash(if first == a { b } else { a }, Crash::Power);
        c.restart(first);
        c.restart(late);
        c.run_for(Duration::from_millis(1500));
        c.propose(2);
        c.run_for(Duration::from_millis(500));
        c.restart(if first == a { b } else { a });
    }
    converge(&mut c);
}

/// paxos-simple §2.2, P2. Five nodes: 1. A and F hold x in a slot, F's answers to A are late; 2. A and F are cut off, B
/// leads and holds y there alone; 3. A leads again, with B and C, and proposes y; before C has it, F's old answers come
/// in. If they count, A takes y for chosen: A and B hold it. 4. A and B fall; C, D and F know of x.
fn late_answers<P: ReplicatedLog>(seed: u64, rng: &mut Rng, keep: KeepEntries<P>) {
    let mut options = options::<P>(seed, 5, 8, keep);
    (options.fsync_spread, options.network.latency) = (Duration::ZERO, Duration::from_millis(1));
    let mut c = Cluster::<P>::new(options);
    let Some(a) = led(&mut c) else { return };
    c.propose(2);
    c.run_for(Duration::from_millis(300));
    let others: Vec<NodeId> = c.nodes().into_iter().filter(|n| *n != a).collect();
    let [f, rest @ ..] = others.as_slice() else { return };
    // 1. A's proposals reach F in a moment; F's answers leave when its disk is done, and take seconds.
    rest.iter().for_each(|n| {
        c.cut(a, *n);
        c.cut(*f, *n);
    });
    for late_ms in (1200..3200).step_by(40) {
        c.propose_to(a, 1);
        c.run_for(Duration::from_millis(4));
        c.network.options.latency = Duration::from_millis(late_ms);
        c.run_for(Duration::from_millis(12));
        c.network.options.latency = Duration::from_millis(1);
    }
    c.pause(*f);
    // 2. B leads, and what it proposes reaches nobody.
    let leads = |c: &Cluster<P>, n: NodeId| c.status(n).is_some_and(|s| s.role == Role::Leader);
    if !c.run_until(LONG, |c| rest.iter().any(|n| leads(c, *n))) {
        return;
    }
    let Some(b) = rest.iter().copied().find(|n| leads(&c, *n)) else { return };
    c.isolate(b);
    c.run_for(Duration::from_millis(30));
    c.crash(b, Crash::Kill);
    // 3. A alone reaches both B and C.
    let Some(third) = rest.iter().copied().find(|n| *n != b) else { return };
    c.heal();
    c.restart(b);
    for n in rest.iter().filter(|n| **n != b && **n != third) {
        [a, b, third].into_iter().for_each(|peer| c.cut(*n, peer));
    }
    c.cut(b, third);
    if !c.run_until(LONG, |c| leads(c, a)) {
        return;
    }
    c.cut(a, third);
    c.cut_one_way(a, *f);
    c.run_for(Duration::from_millis(600));
    wait(&mut c, rng, 400);
    // 4. What A and B alone hold is not chosen.
    c.run_for(Duration::from_millis(200));
    c.crash(a, Crash::Kill);
    c.crash(b, Crash::Kill);
    c.heal();
    c.resume(*f);
    c.run_for(Duration::from_secs(6));
    converge(&mut c);
}
