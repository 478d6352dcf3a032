//! The smallest run found that still shows a mutant, in words.
//!
//! ```text
//!  whole servers ─► shrink.rs: fewer steps, clients, shorter times ─► a plan for `sim replay --plan`
//!  cores, disk, states ─► the fewest faults or entries that do ─────► the end of its story
//!  suite, plays ─► a script, nothing of which can be left out ──────► the end of its story
//! ```

use super::{Bug, Ground, Trial, select};
use crate::Violation;
use crate::shrink::{Shrunk, kind, shrink};

/// Lines of a story shown.
const LINES: usize = 25;

/// Shrinks a trial that shows `bug`, in at most about `attempts` runs.
///
/// # Errors
/// If the plan cannot be written, which would be a bug.
pub(crate) fn small(bug: Bug, trial: &Trial, found: &Violation, attempts: u32) -> Result<String, String> {
    select(Some(bug));
    let told = smaller(bug, trial, found, attempts);
    select(None);
    told
}

fn smaller(bug: Bug, trial: &Trial, found: &Violation, attempts: u32) -> Result<String, String> {
    if let Some(plan) = trial.plan() {
        let plan = plan.map_err(|e| e.to_string())?;
        let (least, violation) = shrink(&plan, found, attempts, &|p| crate::run(p, None).violation);
        let steps = (plan.schedule.steps.len(), least.schedule.steps.len());
        let shrunk = Shrunk {
            seed: least.seed,
            backend: least.backend,
            commit: format!("mutant {}", bug.name),
            checker: violation.checker,
            text: violation.text,
            schedule: least.schedule,
        };
        let story = shrunk.schedule.to_string();
        return Ok(format!("shrunk from {} to {} steps: {story}\n{}", steps.0, steps.1, shrunk.to_toml()?));
    }
    let what = match trial.ground {
        Ground::Cores => "faults",
        Ground::Storm => "storms",
        Ground::Disk => "crashes",
        Ground::States => "entries",
        Ground::Suite | Ground::Play(_) | Ground::World(_) => "",
    };
    let Some(most) = trial.size() else {
        return Ok(format!("a script, all of which is needed: {}", end_of(&found.text)));
    };
    let alike = |size: u32| trial.sized(size).filter(|v| kind(v) == kind(found)).map(|v| (size, v));
    let least = (1..most).take(attempts as usize).find_map(alike);
    let (size, violation) = least.unwrap_or((most, found.clone()));
    Ok(format!("shrunk from {most} to {size} {what}: {}", end_of(&violation.text)))
}

/// What is wrong, and the last lines before it.
fn end_of(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let rest: Vec<&str> = lines.collect();
    let from = rest.len().saturating_sub(LINES);
    std::iter::once(first).chain(rest.into_iter().skip(from)).collect::<Vec<_>>().join("\n")
}
