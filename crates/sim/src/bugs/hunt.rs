//! The hunt for one mutant: trials in a fixed order until one fails.

use super::{Bug, Ground, Trial, select};
use crate::{Backend, Violation};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How to hunt.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// Give up after this much time.
    pub budget: Duration,
    /// Give up after so many trials.
    pub trials: u64,
    /// Threads.
    pub threads: usize,
}

/// A mutant was seen.
#[derive(Clone, Debug)]
pub struct Found {
    /// By this run.
    pub trial: Trial,
    /// And this checker.
    pub violation: Violation,
    /// It was the so-manyth.
    pub runs: u64,
}

/// How a hunt ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Seen, and clean without it.
    Found(Found),
    /// The run fails without the mutant as well: not the mutant was found.
    Unsound(Found),
    /// Not seen in so many runs.
    Missed(u64),
}

/// The trials of a mutant: its grounds and backends in turn, seeds ascending.
fn trial(bug: Bug, grounds: &[Ground], number: u64) -> Option<Trial> {
    let backends = bug.backends();
    let kinds: Vec<_> = grounds.iter().flat_map(|g| backends.iter().map(move |b| (g, *b))).collect();
    let (ground, backend) = kinds.get(usize::try_from(number % kinds.len() as u64).ok()?)?;
    let seed = number / kinds.len() as u64;
    // A ground of few seeds has had its turn.
    if Trial::seeds(ground).is_some_and(|few| seed >= few) {
        return None;
    }
    Some(Trial { ground: (*ground).clone(), backend: *backend, seed })
}

/// Hunts `bug` on `grounds`. Everything below the first failing trial was run, so the count is the same every time.
#[must_use]
pub fn hunt(bug: Bug, grounds: &[Ground], how: &Hunt) -> Outcome {
    let start = Instant::now();
    let (mut from, mut unsound) = (0, None);
    loop {
        select(Some(bug));
        let outcome = search(bug, grounds, how, start, from);
        select(None);
        match outcome {
            // Not the mutant was found: whatever it was, the hunt goes on behind it.
            Outcome::Found(found) if found.trial.run().is_some() => {
                from = found.runs;
                unsound = Some(found);
            }
            Outcome::Missed(runs) => return unsound.map_or(Outcome::Missed(runs), Outcome::Unsound),
            other => return other,
        }
    }
}

fn search(bug: Bug, grounds: &[Ground], how: &Hunt, start: Instant, from: u64) -> Outcome {
    let (next, first) = (AtomicU64::new(from), AtomicU64::new(u64::MAX));
    let best: Mutex<Option<Found>> = Mutex::new(None);
    let worker = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= how.trials || number > first.load(Ordering::Relaxed) || start.elapsed() > how.budget
            {
                return;
            }
            let Some(trial) = trial(bug, grounds, number) else { continue };
            if let Some(violation) = trial.run() {
                first.fetch_min(number, Ordering::Relaxed);
                let mut best = best.lock().unwrap_or_else(PoisonError::into_inner);
                if best.as_ref().is_none_or(|b| number < b.runs - 1) {
                    *best = Some(Found { trial, violation, runs: number + 1 });
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..how.threads.max(1) {
            scope.spawn(worker);
        }
    });
    let runs = next.load(Ordering::Relaxed).min(how.trials);
    best.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Outcome::Missed(runs), Outcome::Found)
}

/// Runs the first `seeds` seeds of a ground with nothing switched off; what fails.
#[must_use]
pub fn clean(ground: &Ground, backend: Backend, seeds: u64, threads: usize) -> Vec<(Trial, Violation)> {
    select(None);
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let trial = Trial { ground: ground.clone(), backend, seed };
            if let Some(violation) = trial.run() {
                found.lock().unwrap_or_else(PoisonError::into_inner).push((trial, violation));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(worker);
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(trial, _)| trial.seed);
    found
}

/// Runs one stored trial with the mutant and without it.
#[must_use]
pub fn verify(bug: Bug, trial: &Trial) -> Outcome {
    select(Some(bug));
    let with = trial.run();
    select(None);
    let Some(violation) = with else { return Outcome::Missed(1) };
    let found = Found { trial: trial.clone(), violation, runs: 1 };
    if trial.run().is_some() { Outcome::Unsound(found) } else { Outcome::Found(found) }
}
