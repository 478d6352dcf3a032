//! What many runs did together: sums that can be saved, added up and printed.
//!
//! A [`Tally`] forgets the runs themselves. What it keeps of single runs it names by the command that runs them again:
//! violations, missed expectations, the slowest recovery.

use crate::case::{Case, Source};
use crate::verdict::{self, Availability, Verdict};
use crate::{Figures, Plan, Report};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Violations kept with their texts; the rest is only counted.
const KEPT: usize = 200;

/// One run, without its history: what a worker hands back.
#[derive(Clone, Debug)]
pub struct Done {
    /// Which run.
    pub case: Case,
    /// What it showed.
    pub verdict: Verdict,
    /// What it measured.
    pub figures: Figures,
    /// Names of the actions that were carried out.
    pub actions: Vec<&'static str>,
    /// Whether it ran the textbook variant.
    pub textbook: bool,
}

impl Done {
    /// Forgets the history.
    #[must_use]
    pub fn new(case: Case, plan: &Plan, report: Report) -> Self {
        let verdict = verdict::judge(plan, &report);
        let steps = plan.schedule.steps.iter().enumerate();
        let done = steps.filter(|(n, _)| !report.skipped.contains(n));
        Self {
            case,
            verdict,
            actions: done.map(|(_, s)| s.act.name()).collect(),
            textbook: verdict::variant(plan) == crate::schedule::Variant::Textbook,
            figures: report.figures,
        }
    }
}

/// A broken rule and the command that shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Broken {
    /// The case.
    pub case: Case,
    /// The rule.
    pub checker: String,
    /// In words.
    pub text: String,
}

/// Missed expectations of one source of schedules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Missed {
    /// Runs that missed one.
    pub runs: u64,
    /// The first one's command.
    pub command: String,
    /// What it missed.
    pub text: String,
}

/// Tenths of Tₑ, counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Number of values in each tenth; the last holds all above.
    counts: Vec<u64>,
    /// The largest value.
    pub most: f64,
    /// The command of the run that showed it.
    pub worst: String,
}

impl Spread {
    const BUCKETS: usize = 400;

    fn add(&mut self, te: f64, case: &Case) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded below and above")]
        let bucket = ((te.max(0.0) * 10.0) as usize).min(Self::BUCKETS);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        if self.worst.is_empty() || te > self.most {
            self.most = te;
            self.worst = case.to_string();
        }
    }

    fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        if self.worst.is_empty() || other.most > self.most {
            self.most = other.most;
            self.worst.clone_from(&other.worst);
        }
    }

    /// The value, in Tₑ, that this many per mille of the runs do not exceed (upper edge of its tenth).
    #[must_use]
    pub fn quantile(&self, per_mille: u64) -> f64 {
        let total: u64 = self.counts.iter().sum();
        let mut seen = 0;
        for (upper, count) in (1_u32..).zip(&self.counts) {
            seen += count;
            if seen * 1000 >= total * per_mille && total > 0 {
                return (f64::from(upper) / 10.0).min(self.most);
            }
        }
        self.most
    }
}

/// Sums over the runs of one protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Runs.
    pub seeds: u64,
    /// Of them, the textbook variant.
    pub textbook: u64,
    /// Of them, random swarms and pairs of schedules.
    pub swarm: u64,
    /// Runs with too few acknowledged writes to mean something.
    pub silent: u64,
    /// Sums; the two in Tₑ are maxima.
    pub sum: Figures,
    /// µs of processor time.
    pub busy_us: u64,
    /// Actions carried out, by name.
    pub actions: BTreeMap<String, u64>,
    /// Runs per row in which every harmful step was carried out.
    pub hits: BTreeMap<u8, u64>,
    /// From the heal until every client committed; hardened.
    pub recovery: Spread,
    /// The same, textbook.
    pub recovery_textbook: Spread,
    /// A, W, U: runs of rows.
    pub availability: BTreeMap<String, u64>,
    /// Missed expectations, by row or `swarm`.
    pub missed: BTreeMap<String, Missed>,
    /// All broken rules, by checker.
    pub broken_by: BTreeMap<String, u64>,
    /// The first ones.
    pub broken: Vec<Broken>,
}

impl Tally {
    /// Adds a run.
    pub fn add(&mut self, done: &Done, took: Duration) {
        let Done { case, verdict, figures, actions, textbook } = done;
        self.seeds += 1;
        self.textbook += u64::from(*textbook);
        self.silent += u64::from(!verdict.telling);
        self.busy_us += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum.add(figures);
        for action in actions {
            *self.actions.entry((*action).to_owned()).or_default() += 1;
        }
        let key = match &case.source {
            Source::Row(row) => {
                if verdict.hit {
                    *self.hits.entry(*row).or_default() += 1;
                }
                *self.availability.entry(format!("{:?}", verdict.availability)).or_default() += 1;
                format!("row {row}{}", if *textbook { " textbook" } else { "" })
            }
            Source::Swarm => {
                self.swarm += 1;
                "swarm".to_owned()
            }
            Source::Schedule(name) => name.clone(),
        };
        let spread = if *textbook { &mut self.recovery_textbook } else { &mut self.recovery };
        if verdict.violation.is_none()
            && let Some(took) = verdict.recovery_te
        {
            spread.add(took, case);
        }
        if let Some(first) = verdict.missed.first() {
            let missed = self.missed.entry(key).or_insert_with(|| Missed {
                command: case.to_string(),
                text: first.clone(),
                runs: 0,
            });
            missed.runs += 1;
        }
        if let Some(v) = &verdict.violation {
            *self.broken_by.entry(v.checker.clone()).or_default() += 1;
            if self.broken.len() < KEPT {
                let (checker, text) = (v.checker.clone(), v.text.clone());
                self.broken.push(Broken { case: case.clone(), checker, text });
            }
        }
    }

    /// Adds another tally.
    pub fn merge(&mut self, other: &Self) {
        let Self { seeds, textbook, swarm, silent, sum, busy_us, .. } = other;
        self.seeds += seeds;
        self.textbook += textbook;
        self.swarm += swarm;
        self.silent += silent;
        self.busy_us += busy_us;
        self.sum.add(sum);
        add_all(&mut self.actions, &other.actions);
        add_all(&mut self.hits, &other.hits);
        add_all(&mut self.availability, &other.availability);
        add_all(&mut self.broken_by, &other.broken_by);
        self.recovery.merge(&other.recovery);
        self.recovery_textbook.merge(&other.recovery_textbook);
        for (key, theirs) in &other.missed {
            let mine = self.missed.entry(key.clone()).or_insert_with(|| Missed { runs: 0, ..theirs.clone() });
            mine.runs += theirs.runs;
        }
        let room = KEPT.saturating_sub(self.broken.len());
        self.broken.extend(other.broken.iter().take(room).cloned());
    }

    /// Simulated hours.
    #[must_use]
    pub fn hours(&self) -> f64 {
        float(self.sum.simulated_us) / 3.6e9
    }

    /// Simulated seconds per core-second.
    #[must_use]
    pub fn speed(&self) -> f64 {
        float(self.sum.simulated_us) / float(self.busy_us.max(1))
    }

    /// Broken rules, all of them.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.broken_by.values().sum()
    }

    /// Share of an availability among the runs of rows, for printing.
    #[must_use]
    pub fn of(&self, availability: Availability) -> u64 {
        self.availability.get(&format!("{availability:?}")).copied().unwrap_or(0)
    }
}

fn add_all<K: Ord + Clone>(to: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (key, count) in from {
        *to.entry(key.clone()).or_default() += count;
    }
}

fn float(n: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "for printing")]
    let f = n as f64;
    f
}

impl Figures {
    /// Adds another run's; what is in Tₑ becomes the larger one.
    pub fn add(&mut self, other: &Self) {
        let Self {
            simulated_us,
            election_ms,
            messages,
            message_faults,
            crashes,
            restarts,
            partitions,
            pauses,
            disk_faults,
            clock_faults,
            client_faults,
            snapshots,
            installs,
            reigns,
            fsyncs,
            ops,
            acked,
            acked_during,
            unknown,
            recovery_te,
            longest_gap_te,
        } = other;
        self.simulated_us += simulated_us;
        self.election_ms = *election_ms;
        self.messages += messages;
        self.message_faults += message_faults;
        self.crashes += crashes;
        self.restarts += restarts;
        self.partitions += partitions;
        self.pauses += pauses;
        self.disk_faults += disk_faults;
        self.clock_faults += clock_faults;
        self.client_faults += client_faults;
        self.snapshots += snapshots;
        self.installs += installs;
        self.reigns += reigns;
        self.fsyncs += fsyncs;
        self.ops += ops;
        self.acked += acked;
        self.acked_during += acked_during;
        self.unknown += unknown;
        self.recovery_te = [self.recovery_te, *recovery_te].into_iter().flatten().reduce(f64::max);
        self.longest_gap_te = self.longest_gap_te.max(*longest_gap_te);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Backend, Violation};

    pub(crate) fn done(seed: u64, row: u8, recovery_te: f64, broken: bool) -> Done {
        let violation = broken.then(|| Violation { checker: "C1".into(), text: "x".into(), at_us: 1 });
        let recovery_te = Some(recovery_te);
        let verdict = Verdict { violation, recovery_te, hit: true, telling: true, ..Verdict::default() };
        let case = Case { backend: Backend::Zab, seed, source: Source::Row(row), variant: None };
        let figures = Figures { simulated_us: 1_000_000, crashes: 2, ..Figures::default() };
        Done { case, verdict, figures, actions: vec!["crash", "heal"], textbook: false }
    }

    #[test]
    fn two_halves_make_the_whole() {
        let mut whole = Tally::default();
        let mut halves = [Tally::default(), Tally::default()];
        for seed in 0..100_u32 {
            let d =
                done(seed.into(), u8::try_from(seed % 3).unwrap(), f64::from(seed) / 50.0, seed % 40 == 7);
            let took = Duration::from_millis(10);
            whole.add(&d, took);
            halves.get_mut(seed as usize % 2).unwrap().add(&d, took);
        }
        let [mut a, b] = halves;
        a.merge(&b);
        whole.broken.sort_by_key(|b| b.case.seed);
        a.broken.sort_by_key(|b| b.case.seed);
        assert_eq!(a, whole);
        assert_eq!((a.violations(), a.seeds, a.sum.crashes), (3, 100, 200));
        assert_eq!(a.recovery.worst, "sim replay 99 --backend zab --row 0");
        assert!((a.recovery.quantile(500) - 1.0).abs() < 0.11, "{}", a.recovery.quantile(500));
        assert!((a.speed() - 100.0).abs() < 1.0);
        let again: Tally = serde_json::from_str(&serde_json::to_string(&a).unwrap()).unwrap();
        assert_eq!(again, a);
    }
}
