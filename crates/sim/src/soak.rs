//! Soaks: seeds without end, over backends, rows and swarm, that can be stopped, resumed and merged.
//!
//! ```text
//!  n ─► case: backend n mod 3; every second one a row, in turn; the others swarm
//!
//!  run.json ─► next range of n ─► threads ─► tallies ─► run.json, report.md     after every batch
//!     ▲                                                     │
//!     └── stopped at any time: the batch under way is lost ─┘
//! ```
//!
//! `run.json` is the state and the result. Two machines take ranges that do not overlap (`--from`), and
//! `sim soak-merge` puts their folders together.

use crate::case::{Case, Source};
use crate::schedule::Variant;
use crate::tally::{Done, Tally};
use crate::{Backend, Plan, Report, pool, rows};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Name and version of the state's format.
pub const FORMAT: &str = "menagerie.soak/1";

/// Carries out a plan.
pub type Run<'a> = &'a (dyn Fn(&Plan) -> Report + Sync);

/// What a soak has done so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// [`FORMAT`].
    pub format: String,
    /// Commits of the code that ran, in order.
    pub commits: Vec<String>,
    /// Commands that ran it, in order.
    pub commands: Vec<String>,
    /// Numbers of cases that are done: from, and up to but not including. Ascending, apart.
    pub ranges: Vec<(u64, u64)>,
    /// s of the wall's clock, summed over machines.
    pub wall_s: f64,
    /// Sums by protocol.
    pub tallies: BTreeMap<Backend, Tally>,
}

/// The n-th case.
#[must_use]
pub fn case(n: u64) -> Case {
    let at = |i: u64, len: usize| usize::try_from(i % len.max(1) as u64).unwrap_or(0);
    let backend = Backend::ALL.get(at(n, 3)).copied().unwrap_or(Backend::Zab);
    let turn = n / 3;
    let seed = turn / 2;
    if turn % 2 == 1 {
        return Case { backend, seed, source: Source::Swarm, variant: None };
    }
    let rows = rows::simulated();
    let row = rows.get(at(seed, rows.len())).copied().unwrap_or(1);
    let round = seed / rows.len() as u64;
    // One round in eight shows the papers' protocols.
    let variant = (round % 8 == 7).then_some(Variant::Textbook);
    Case { backend, seed: round, source: Source::Row(row), variant }
}

/// Runs cases and adds them up; stops at `deadline`. Returns how many of the range are done for certain.
pub fn run_range(
    range: (u64, u64),
    jobs: usize,
    deadline: Option<Instant>,
    run: Run<'_>,
    tallies: &mut BTreeMap<Backend, Tally>,
) -> u64 {
    let mut started = range.0;
    let cases = (range.0..range.1).take_while(|n| {
        let go_on = deadline.is_none_or(|d| Instant::now() < d);
        if go_on {
            started = n + 1;
        }
        go_on
    });
    let work = |n: u64| -> Result<Done, String> {
        let case = case(n);
        let plan = case.plan().map_err(|e| format!("{case}: {e}"))?;
        let report = run(&plan);
        Ok(Done::new(case, &plan, report))
    };
    pool::run(jobs, cases, work, |done, took| {
        match done {
            Ok(done) => tallies.entry(done.case.backend).or_default().add(&done, took),
            // A shipped schedule that cannot be read: tests keep it from happening.
            Err(why) => eprintln!("{why}"),
        }
        true
    });
    started
}

impl State {
    /// What is in a folder, or nothing yet.
    ///
    /// # Errors
    /// If there is a state that cannot be read.
    pub fn load(folder: &Path) -> Result<Self, String> {
        let path = folder.join("run.json");
        match fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self { format: FORMAT.to_owned(), ..Self::default() })
            }
            Err(e) => Err(format!("{}: {e}", path.display())),
            Ok(text) => {
                let state: Self =
                    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
                if state.format == FORMAT {
                    Ok(state)
                } else {
                    Err(format!("{}: format {:?}, expected {FORMAT:?}", path.display(), state.format))
                }
            }
        }
    }

    /// Writes state and report; a crash in between leaves the old state.
    ///
    /// # Errors
    /// Of the file system.
    pub fn save(&self, folder: &Path) -> Result<(), String> {
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(folder)?;
            let fresh = folder.join("run.json.new");
            fs::write(&fresh, serde_json::to_string_pretty(self)? + "\n")?;
            fs::File::open(&fresh)?.sync_all()?;
            fs::rename(&fresh, folder.join("run.json"))?;
            fs::write(folder.join("report.md"), crate::report_text::soak(self))
        };
        write().map_err(|e| format!("{}: {e}", folder.display()))
    }

    /// The first number from `from` on that is not done.
    #[must_use]
    pub fn next(&self, from: u64) -> u64 {
        self.ranges.iter().fold(from, |n, (a, b)| if (*a..*b).contains(&n) { *b } else { n })
    }

    /// The first number above `n` that is done: a range that begins at `n` ends there.
    fn limit(&self, n: u64) -> u64 {
        self.ranges.iter().map(|(a, _)| *a).find(|a| *a > n).unwrap_or(u64::MAX)
    }

    fn done(&mut self, range: (u64, u64)) {
        self.ranges.push(range);
        self.ranges.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (a, b) in std::mem::take(&mut self.ranges) {
            match joined.last_mut() {
                Some(last) if last.1 == a => last.1 = b,
                _ => joined.push((a, b)),
            }
        }
        self.ranges = joined;
    }

    /// Adds another soak.
    ///
    /// # Errors
    /// If both did the same cases.
    pub fn merge(&mut self, other: &Self) -> Result<(), String> {
        for (a, b) in &other.ranges {
            if let Some((c, d)) = self.ranges.iter().find(|(c, d)| a < d && c < b) {
                return Err(format!(
                    "both soaks did cases of {}..{}: merge counts nothing twice",
                    a.max(c),
                    b.min(d)
                ));
            }
        }
        for range in &other.ranges {
            self.done(*range);
        }
        for (backend, tally) in &other.tallies {
            self.tallies.entry(*backend).or_default().merge(tally);
        }
        self.wall_s += other.wall_s;
        for (mine, theirs) in [(&mut self.commits, &other.commits), (&mut self.commands, &other.commands)] {
            let new: Vec<String> = theirs.iter().filter(|t| !mine.contains(t)).cloned().collect();
            mine.extend(new);
        }
        Ok(())
    }

    /// Broken rules of all protocols.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.tallies.values().map(Tally::violations).sum()
    }
}

/// What to soak.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Cases per batch; a stop loses at most one.
    pub batch: u64,
    /// First case.
    pub from: u64,
    /// Cases at most.
    pub seeds: u64,
    /// Time at most.
    pub time: Option<Duration>,
    /// Threads.
    pub jobs: usize,
    /// Commit of the code.
    pub commit: String,
    /// The command that was given.
    pub command: String,
}

/// Soaks, and saves after every batch.
///
/// # Errors
/// If the folder cannot be read or written.
pub fn soak(
    folder: &Path,
    wish: &Wish,
    run: Run<'_>,
    mut progress: impl FnMut(&State),
) -> Result<State, String> {
    let mut state = State::load(folder)?;
    for (list, new) in [(&mut state.commits, &wish.commit), (&mut state.commands, &wish.command)] {
        if !list.contains(new) {
            list.push(new.clone());
        }
    }
    let deadline = wish.time.map(|t| Instant::now() + t);
    let mut left = wish.seeds;
    while left > 0 && deadline.is_none_or(|d| Instant::now() < d) {
        let began = Instant::now();
        let from = state.next(wish.from);
        let to = (from + wish.batch.min(left)).min(state.limit(from));
        let mut tallies = BTreeMap::new();
        let done = run_range((from, to), wish.jobs, deadline, run, &mut tallies);
        if done == from {
            break;
        }
        for (backend, tally) in &tallies {
            state.tallies.entry(*backend).or_default().merge(tally);
        }
        state.done((from, done));
        state.wall_s += began.elapsed().as_secs_f64();
        left -= done - from;
        state.save(folder)?;
        progress(&state);
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Figures;
    use std::collections::BTreeSet;

    fn fake(plan: &Plan) -> Report {
        let figures = Figures { simulated_us: 1000 + plan.seed, election_ms: 1500, ..Figures::default() };
        Report { figures, ..Report::default() }
    }

    fn wish(from: u64, seeds: u64) -> Wish {
        Wish {
            batch: 50,
            from,
            seeds,
            time: None,
            jobs: 2,
            commit: "abc".into(),
            command: format!("sim soak --from {from}"),
        }
    }

    #[test]
    fn cases_cover_all_rows_and_protocols_evenly() {
        // requirement: S21
        let mut hits: BTreeMap<(Backend, Option<u8>), BTreeSet<Case>> = BTreeMap::new();
        let total = 2400;
        for n in 0..total {
            let case = case(n);
            let row = if let Source::Row(row) = case.source { Some(row) } else { None };
            hits.entry((case.backend, row)).or_default().insert(case);
        }
        assert_eq!(hits.values().map(BTreeSet::len).sum::<usize>(), usize::try_from(total).unwrap());
        assert_eq!(hits.len(), 3 * (rows::simulated().len() + 1));
        assert!(hits.values().all(|cases| cases.len() >= 10));
    }

    #[test]
    fn stopped_resumed_and_merged_is_the_same_as_at_once() {
        // requirement: S38
        let dir = |name: &str| {
            let dir = std::env::temp_dir().join(format!("soak-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            dir
        };
        let (whole, parts, other) = (dir("whole"), dir("parts"), dir("other"));
        let at_once = soak(&whole, &wish(0, 300), &fake, |_| {}).unwrap();
        soak(&parts, &wish(0, 70), &fake, |_| {}).unwrap();
        let resumed = soak(&parts, &wish(0, 130), &fake, |_| {}).unwrap();
        assert_eq!(resumed.ranges, [(0, 200)]);
        let second = soak(&other, &wish(200, 100), &fake, |_| {}).unwrap();
        let mut merged = State::load(&parts).unwrap();
        merged.merge(&second).unwrap();
        assert_eq!(merged.ranges, [(0, 300)]);
        assert!(merged.clone().merge(&second).unwrap_err().contains("200..300"));
        for (backend, tally) in &at_once.tallies {
            let theirs = merged.tallies.get(backend).unwrap();
            assert_eq!((tally.seeds, &tally.sum, &tally.hits), (theirs.seeds, &theirs.sum, &theirs.hits));
        }
        assert!(fs::read_to_string(whole.join("report.md")).unwrap().contains("zab"));
        for dir in [whole, parts, other] {
            fs::remove_dir_all(dir).unwrap();
        }
    }
}
