//! What a check says to people: a table of checkers with what they looked at, and the findings in plain words.
//!
//! A verdict is one of: `clean`, `VIOLATED`, `nothing judged` (the history had nothing for this checker), and for the run
//! as a whole `unknown`, when it did too little to prove anything (reliability.md, "checker hygiene": at least 50
//! acknowledged operations a second before, during and after the faults).

use crate::check::{Checked, check_all};
use crate::record::{History, Outcome, What};
use std::fmt::Write as _;

/// Acknowledged operations a second below which a phase proves nothing.
pub const ENOUGH_PER_SECOND: f64 = 50.0;

/// Every checker: its name, what it judges, and in which units it counts.
const CHECKERS: [(&str, &str, &str); 12] = [
    ("C1", "linearizable writes", "writes"),
    ("C2", "no lost or phantom writes", "final reads"),
    ("C3", "session order", "answers"),
    ("C4", "reads from a real state", "reads"),
    ("C5", "sync freshness", "syncs"),
    ("C6", "sequential nodes", "creates"),
    ("C7", "sessions and ephemerals", "sessions"),
    ("C8", "watches", "events"),
    ("C9", "multi atomicity", "multis"),
    ("C11", "recipes: lock, queue", "holders, items"),
    ("C14", "commits after healing", "clients"),
    ("format", "the record itself", "lines"),
];

/// A part of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseRate {
    /// `before faults`, `during faults`, `after faults`.
    pub name: &'static str,
    /// Seconds.
    pub seconds: f64,
    /// Acknowledged operations (answers other than errors) a second.
    pub per_second: f64,
}

/// How much was done in each phase of the run. Phases of less than a second are left out.
#[must_use]
pub fn rates(history: &History) -> Vec<PhaseRate> {
    let at =
        |index: Option<usize>| index.and_then(|index| history.events.get(index)).map(|event| event.at_us);
    let end = history.events.last().map_or(0, |event| event.at_us);
    let fault = at(history.events.iter().position(|event| matches!(event.what, What::Fault { .. })));
    let healed = at(history.events.iter().position(|event| event.what == What::Healed)).unwrap_or(end);
    let last = at(history.events.iter().position(|event| event.what == What::Final)).unwrap_or(end);
    let fault = fault.unwrap_or(healed).min(healed);
    let phases =
        [("before faults", 0, fault), ("during faults", fault, healed), ("after faults", healed, last)];
    let phases = phases.into_iter().filter(|(_, from, to)| to.saturating_sub(*from) >= 1_000_000);
    let done = |from: u64, to: u64| {
        let events = history.events.iter().filter(|event| (from..to).contains(&event.at_us));
        events.filter(|event| matches!(event.what, What::Return { outcome: Outcome::Ok(_), .. })).count()
    };
    let rate = |(name, from, to): (_, u64, u64)| {
        let seconds = (to - from) as f64 / 1e6;
        PhaseRate { name, seconds, per_second: done(from, to) as f64 / seconds }
    };
    phases.map(rate).collect()
}

/// Checks a history and tells the result.
#[must_use]
pub fn report(history: &History) -> String {
    tell(history, &check_all(history))
}

/// Tells the result of a check.
#[must_use]
pub fn tell(history: &History, checked: &Checked) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}: {} events", history.header.system, history.events.len());
    let _ = writeln!(text, "\n{:<7}{:<28}{:>10}{:>10}  verdict", "", "", "judged", "left open");
    for (name, about, unit) in CHECKERS {
        let tally = checked.coverage.get(name).copied().unwrap_or_default();
        let found = checked.findings.iter().filter(|finding| finding.checker == name).count();
        let verdict = match (found, tally.judged) {
            (0, 0) if name == "format" => "clean".to_owned(),
            (0, 0) => "nothing judged".to_owned(),
            (0, _) => "clean".to_owned(),
            (found, _) => format!("VIOLATED ({found})"),
        };
        let _ = writeln!(
            text,
            "{name:<7}{about:<28}{:>10}{:>10}  {verdict} ({unit})",
            tally.judged, tally.skipped
        );
    }
    if checked.overlaps > 0 {
        let _ = writeln!(
            text,
            "C11: {} times a client took the lock while an earlier holder had not heard yet of its session's end: \
             expected, and what fencing is for.",
            checked.overlaps
        );
    }
    let _ = writeln!(text, "C10 (quotas, containers, TTL) is not recorded yet.");
    for finding in &checked.findings {
        let _ = writeln!(text, "\n{}: {}", finding.checker, finding.text);
        for index in &finding.events {
            if let Some(event) = history.events.get(*index) {
                let _ = writeln!(
                    text,
                    "    #{index} {} µs client {}: {:?}",
                    event.at_us, event.client, event.what
                );
            }
        }
    }
    text.push('\n');
    let mut enough = true;
    for phase in rates(history) {
        enough &= phase.per_second >= ENOUGH_PER_SECOND;
        let _ = writeln!(
            text,
            "{:<14} {:>8.1} s {:>10.1} operations/s",
            phase.name, phase.seconds, phase.per_second
        );
    }
    let verdict = match (checked.findings.is_empty(), enough) {
        (false, _) => "VIOLATED",
        (true, true) => "clean",
        (true, false) => "unknown: too little was done in a phase to prove anything",
    };
    let _ = writeln!(text, "verdict: {verdict}");
    text
}
