//! What a run says about its schedule's expectations.
//!
//! ```text
//!        first fault            healed              every client has committed
//!  ──────────┼──────────────────────┼───────────────────────┼──────►
//!   warm-up  │   gap   gap  …  gap  │   recovery            │
//!            └── A, W or U ─────────┘
//! ```
//!
//! A: no gap between acknowledged writes is longer than [`ABLE_TE`]. W: there was one, and writes went on before the
//! heal. U: nothing was acknowledged any more when the heal came. Safety is judged by the checkers alone; here only
//! figures are compared with bounds. A run with too few acknowledged writes proves nothing and says so.

use crate::schedule::{Expect, Variant};
use crate::{Plan, Report, Violation};
use history::{History, Op, Outcome, What};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A gap of up to this many Tₑ counts as available.
pub const ABLE_TE: f64 = 0.5;

/// Fewer acknowledged writes than this prove nothing.
pub const ENOUGH_ACKED: u64 = 20;

/// Availability during the faults, as measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Availability {
    /// Commits went on.
    #[default]
    A,
    /// After a wait.
    W,
    /// Not before the heal.
    U,
}

/// What a run showed, without its history.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The broken rule, if one was.
    pub violation: Option<Violation>,
    /// Expectations that were missed, in words.
    pub missed: Vec<String>,
    /// Availability while faults lasted.
    pub availability: Availability,
    /// Longest gap between acknowledged writes while faults lasted, Tₑ.
    pub gap_te: f64,
    /// From the heal until every client committed, Tₑ; none if no quorum with whole disks was left.
    pub recovery_te: Option<f64>,
    /// Whether every step that does harm was carried out.
    pub hit: bool,
    /// Whether enough writes were acknowledged for the run to mean something.
    pub telling: bool,
}

/// Judges a run.
#[must_use]
pub fn judge(plan: &Plan, report: &Report) -> Verdict {
    let variant = plan.schedule.cluster.variant.unwrap_or_default();
    let expect = plan.schedule.expectation(plan.backend.name(), variant);
    let te_us = report.figures.election_ms.max(1) * 1000;
    let (gap_us, open_us) = gaps(&report.history);
    let gap_te = ratio(gap_us, te_us);
    let availability = match () {
        () if gap_te <= ABLE_TE => Availability::A,
        // Still silent when the heal came, for longer than an election takes.
        () if open_us == gap_us || ratio(open_us, te_us) > 2.0 => Availability::U,
        () => Availability::W,
    };
    let harmful = |n: &usize| plan.schedule.steps.get(*n).is_some_and(|s| s.act.harms());
    let mut verdict = Verdict {
        violation: report.violation.clone(),
        missed: Vec::new(),
        availability,
        gap_te,
        recovery_te: report.figures.recovery_te,
        hit: !report.skipped.iter().any(harmful),
        telling: report.figures.acked >= ENOUGH_ACKED,
    };
    verdict.missed = missed(&expect, &verdict, report.figures.reigns);
    verdict
}

fn missed(expect: &Expect, v: &Verdict, reigns: u64) -> Vec<String> {
    let mut missed = Vec::new();
    if expect.safety_only.is_none()
        && let Some(bound) = expect.commit_within_te
        && let Some(took) = v.recovery_te.filter(|took| *took > bound)
    {
        missed.push(format!("recovery took {took:.1} Tₑ, expected {bound}"));
    }
    if let Some(bound) = expect.gap_within_te
        && v.gap_te > bound
    {
        missed.push(format!("no write was acknowledged for {:.1} Tₑ, expected {bound}", v.gap_te));
    }
    if let Some(bound) = expect.reigns_at_most
        && reigns > bound
    {
        missed.push(format!("{reigns} leaders took over, expected {bound}"));
    }
    missed
}

/// An expectation in words.
#[must_use]
pub fn in_words(expect: &Expect) -> String {
    let mut words = vec!["safe".to_owned()];
    if let Some(te) = expect.commit_within_te {
        words.push(format!("commits within {te} Tₑ of the heal"));
    }
    if let Some(te) = expect.gap_within_te {
        words.push(format!("no gap above {te} Tₑ"));
    }
    if let Some(n) = expect.reigns_at_most {
        words.push(format!("at most {n} new reigns"));
    }
    if let Some(why) = &expect.unavailable {
        words.push(format!("may be unavailable: {why}"));
    }
    if let Some(why) = &expect.safety_only {
        words.push(format!("no progress asked for: {why}"));
    }
    words.join(", ")
}

fn ratio(us: u64, te_us: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "µs of one run")]
    let ratio = us as f64 / te_us as f64;
    ratio
}

/// Longest time without an acknowledged write between the first fault and the heal, and the one before the heal; µs.
fn gaps(history: &History) -> (u64, u64) {
    let mut writes = BTreeSet::new();
    let (mut last, mut longest) = (0, 0);
    let mut faults = false;
    for event in &history.events {
        match &event.what {
            What::Invoke { call, op, .. } if writes_to(op) => {
                writes.insert(*call);
            }
            What::Return { call, outcome: Outcome::Ok(_), .. } if writes.remove(call) => {
                if faults {
                    longest = longest.max(event.at_us.saturating_sub(last));
                }
                last = event.at_us;
            }
            What::Fault { .. } => faults = true,
            What::Healed => {
                let open = event.at_us.saturating_sub(last);
                return (longest.max(open), open);
            }
            _ => {}
        }
    }
    (longest, 0)
}

const fn writes_to(op: &Op) -> bool {
    matches!(op, Op::Create { .. } | Op::Delete { .. } | Op::Set { .. } | Op::Multi { .. })
}

/// The variant that a plan runs.
#[must_use]
pub fn variant(plan: &Plan) -> Variant {
    plan.schedule.cluster.variant.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Schedule;
    use crate::{Backend, Figures};
    use history::{Event, Reply};

    /// Writes acknowledged at these ms, a fault at 1000 ms, the heal at 10000 ms.
    fn report(acks: &[u64], recovery_te: f64) -> Report {
        let recovery_te = Some(recovery_te);
        let mut events = vec![(1000, What::Fault { text: "x".into() }), (10_000, What::Healed)];
        for (call, at) in (1..).zip(acks) {
            let op = Op::Set { path: "/a".into(), data: String::new(), version: -1 };
            events.push((at - 1, What::Invoke { call, session: 1, op }));
            events.push((*at, What::Return { call, zxid: 1, outcome: Outcome::Ok(Reply::Nothing) }));
        }
        events.sort_by_key(|(at, _)| *at);
        let events =
            events.into_iter().map(|(at, what)| Event { at_us: at * 1000, client: 1, what }).collect();
        Report {
            history: History { events, ..History::default() },
            figures: Figures {
                election_ms: 1500,
                acked: acks.len() as u64,
                recovery_te,
                ..Figures::default()
            },
            ..Report::default()
        }
    }

    fn plan() -> Plan {
        let text = "name = \"x\"\n[[step]]\nwhen = { at = 1000 }\ndo = { isolate = { node = \"leader\" } }\n\
                    [expect]\ncommit_within_te = 2.0\ngap_within_te = 1.0\n";
        Plan { backend: Backend::Zab, seed: 1, schedule: Schedule::parse("x", text).unwrap() }
    }

    #[test]
    fn availability_is_read_from_the_gaps() {
        let steady: Vec<u64> = (1..200).map(|n| n * 50).collect();
        let with_gap: Vec<u64> = steady.iter().copied().filter(|t| !(2000..5000).contains(t)).collect();
        let silent: Vec<u64> = steady.iter().copied().filter(|t| *t < 2000).collect();
        let cases =
            [(steady, Availability::A, 0), (with_gap, Availability::W, 1), (silent, Availability::U, 1)];
        for (acks, expected, missed) in cases {
            let verdict = judge(&plan(), &report(&acks, 0.4));
            assert_eq!(verdict.availability, expected);
            assert_eq!(verdict.missed.len(), missed, "{:?}", verdict.missed);
            assert!(verdict.telling && verdict.hit);
        }
    }

    #[test]
    fn slow_recovery_and_skipped_harm_are_said() {
        let mut slow = report(&[900, 1100], 2.5);
        slow.skipped = vec![0];
        let verdict = judge(&plan(), &slow);
        assert!(verdict.missed.iter().any(|m| m.starts_with("recovery took 2.5")), "{:?}", verdict.missed);
        assert!(!verdict.hit && !verdict.telling);
    }
}
