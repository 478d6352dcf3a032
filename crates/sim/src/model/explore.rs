//! The search: stateright visits every state of a scope, and this module says what must hold there.

use super::scope::{Modelled, Scope};
use super::steps::Steps;
use super::world::{Action, NODES, Spent, World};
use replog::Epoch;
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Actions until the first leader serves; more is a liveness bug.
const START_ACTIONS: u32 = 2000;

/// A bound of the search itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Time was up.
    Time,
    /// So many transitions that the set of seen states may no longer fit the memory.
    States,
    /// A rule was found broken.
    Violation,
}

/// When a search gives up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Wall-clock time.
    pub time: Duration,
    /// Transitions.
    pub transitions: u64,
    /// Threads.
    pub threads: usize,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Backend.
    pub backend: &'static str,
    /// Scope.
    pub scope: Scope,
    /// Transitions taken: states generated, with repetitions.
    pub generated: usize,
    /// Different states.
    pub unique: usize,
    /// Longest path.
    pub depth: usize,
    /// Wall-clock time.
    pub took: Duration,
    /// What ended the search before the whole space was visited; `None`: nothing did.
    pub cut: Option<Cut>,
    /// A broken rule, with the path to it.
    pub violation: Option<String>,
    /// What had to be reached and was not.
    pub unreached: Vec<&'static str>,
}

impl Outcome {
    /// Whether every rule holds and the scope reached what it must.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.violation.is_none() && (self.unreached.is_empty() || self.cut.is_some())
    }
}

/// The model: a scope, and where it begins.
struct Cores<P: Modelled> {
    steps: Steps<P>,
    start: World<P>,
    /// Highest round that may be entered.
    last_round: u32,
    limits: Limits,
    begun: Instant,
    transitions: AtomicU64,
    is_cut: Arc<AtomicBool>,
    /// The search is over.
    is_told: Arc<AtomicBool>,
}

/// What a scope must reach, or it proves nothing.
const COMMITS: &str = "a command commits";
const SERVES: &str = "a leader of a second epoch serves";
const COMMITS_LATER: &str = "a command commits in a second epoch";
const SURVIVES: &str = "a command commits in a second epoch, after a crash";
const COMMITS_ALL: &str = "all commands commit";

fn required(scope: &Scope) -> Vec<&'static str> {
    let mut required = vec![SERVES];
    if scope.commands > 0 {
        required.extend([COMMITS, COMMITS_LATER, COMMITS_ALL]);
        required.extend((scope.crashes > 0).then_some(SURVIVES));
    }
    required
}

impl<P: Modelled> Cores<P> {
    fn new(scope: &Scope, limits: Limits) -> Self {
        let steps = Steps::new(scope);
        let mut start = World::<P>::new(&steps);
        if scope.is_led {
            lead(&mut start, &steps);
        }
        let last_round = start.epoch().round + scope.epochs;
        Self {
            steps,
            start,
            last_round,
            limits,
            begun: Instant::now(),
            transitions: AtomicU64::new(0),
            is_cut: Arc::new(AtomicBool::new(false)),
            is_told: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The round in which the first entries of the scope are proposed.
    fn first_round(&self) -> u32 {
        self.last_round - self.steps.scope.epochs + u32::from(!self.steps.scope.is_led)
    }

    /// Whether to stop. Nothing follows any state then, so the search runs dry.
    fn is_over(&self) -> bool {
        let transitions = self.transitions.load(Ordering::Relaxed);
        // Paths are walked again afterwards: nothing is cut from them. The clock is looked at now and then only.
        if self.is_told.load(Ordering::Relaxed) {
            return false;
        }
        if transitions > self.limits.transitions
            || transitions.is_multiple_of(64) && self.begun.elapsed() > self.limits.time
        {
            self.is_cut.store(true, Ordering::Relaxed);
        }
        self.is_cut.load(Ordering::Relaxed)
    }
}

/// Runs without faults until everybody serves and nothing is under way.
fn lead<P: Modelled>(world: &mut World<P>, steps: &Steps<P>) {
    let scope = steps.scope.clone();
    let calm = Scope { timeouts: u8::MAX, heartbeats: u8::MAX, crashes: 0, commands: 0, losses: 0, ..scope };
    for round in 0..START_ACTIONS {
        let mut actions = Vec::new();
        world.actions(&calm, &mut actions);
        match actions.iter().find(|a| !matches!(a, Action::Timeout(_))) {
            Some(action) => world.act(*action, steps),
            None => match world.idle(round % 4 == 3) {
                Some(id) => world.act(Action::Timeout(id), steps),
                None => break,
            },
        }
    }
    assert!(
        world.idle(true).is_none() && world.broken.is_none(),
        "no leader without faults: {}",
        world.summary()
    );
    world.spent = Spent::default();
}

impl<P: Modelled> Model for Cores<P> {
    type State = World<P>;
    type Action = Action;

    fn init_states(&self) -> Vec<World<P>> {
        vec![self.start.clone()]
    }

    fn actions(&self, state: &World<P>, actions: &mut Vec<Action>) {
        if !self.is_over() {
            state.actions(&self.steps.scope, actions);
        }
    }

    fn next_state(&self, last: &World<P>, action: Action) -> Option<World<P>> {
        self.transitions.fetch_add(1, Ordering::Relaxed);
        let mut next = last.clone();
        next.act(action, &self.steps);
        Some(next)
    }

    fn within_boundary(&self, state: &World<P>) -> bool {
        state.broken.is_some() || state.epoch().round <= self.last_round
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("rules", |_, w: &World<P>| w.broken.is_none()),
            Property::always("durability", |_, w: &World<P>| {
                w.chosen.iter().all(|c| w.holders(c.id) > NODES as usize / 2)
            }),
            Property::sometimes(COMMITS, |_, w: &World<P>| commands(w).next().is_some()),
            Property::sometimes(SERVES, |m: &Self, w: &World<P>| w.serves_after(m.first_round())),
            Property::sometimes(COMMITS_LATER, |m: &Self, w: &World<P>| {
                commands(w).any(|e| e.round > m.first_round())
            }),
            Property::sometimes(SURVIVES, |m: &Self, w: &World<P>| {
                w.spent.crashes > 0 && commands(w).any(|e| e.round > m.first_round())
            }),
            Property::sometimes(COMMITS_ALL, |m: &Self, w: &World<P>| {
                commands(w).count() == usize::from(m.steps.scope.commands)
            }),
        ]
    }
}

/// Epochs of the commands chosen so far.
fn commands<P: Modelled>(world: &World<P>) -> impl Iterator<Item = Epoch> + '_ {
    world.chosen.iter().filter(|c| c.is_command).map(|c| c.id.epoch)
}

/// Visits every state of `scope`, within `limits`.
#[must_use]
pub fn check<P: Modelled>(scope: &Scope, limits: Limits) -> Outcome {
    let model = Cores::<P>::new(scope, limits);
    let (begun, is_cut, is_told) = (model.begun, Arc::clone(&model.is_cut), Arc::clone(&model.is_told));
    let search = model.checker().threads(limits.threads).finish_when(HasDiscoveries::AnyFailures);
    let search = search.spawn_dfs().join();
    let took = begun.elapsed();
    is_told.store(true, Ordering::Relaxed);
    let is_cut = is_cut.load(Ordering::Relaxed);
    let found = search.discoveries();
    let violation = ["rules", "durability"].into_iter().find_map(|rule| {
        let path = found.get(rule)?.clone();
        let mut lines = Vec::new();
        let (mut last, mut why) = (String::new(), None);
        for (state, action) in path.into_vec() {
            lines.extend(action.map(|a| state.describe(a)));
            last = state.summary();
            why = state.broken.as_ref().map(ToString::to_string);
        }
        let why = why.unwrap_or_else(|| format!("{rule}: something applied is not on a quorum's disks"));
        Some(format!("{why}\n  {}\n  {last}", lines.join("\n  ")))
    });
    let cut = match (&violation, is_cut) {
        (Some(_), _) => Some(Cut::Violation),
        (None, true) if took > limits.time => Some(Cut::Time),
        (None, true) => Some(Cut::States),
        (None, false) => None,
    };
    Outcome {
        backend: P::NAME,
        scope: scope.clone(),
        generated: search.state_count(),
        unique: search.unique_state_count(),
        depth: search.max_depth(),
        took,
        cut,
        violation,
        unreached: required(scope).into_iter().filter(|name| !found.contains_key(name)).collect(),
    }
}
