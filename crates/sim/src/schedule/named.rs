//! The schedules that are shipped: `crates/sim/schedules/NN-name.toml`, built in, in the order of the fault matrix.
//!
//! NN is the first row of the fault matrix that a schedule belongs to. A row may have several; a seed chooses one of
//! them and shifts its times ([`Schedule::perturbed`]), so that a thousand seeds of a row are a thousand schedules.

use super::{Action, LoadError, Schedule, Trigger};
use replog::Rng;
use std::sync::OnceLock;

macro_rules! texts {
    ($($name:literal)*) => {
        /// Names and texts.
        pub const NAMED: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../schedules/", $name, ".toml")))),*];
    };
}

texts! {
    "01-follower-crash"
    "02-leader-crash"
    "02-leader-crash-twice"
    "03-leader-stop"
    "03-transfer"
    "04-leader-alone"
    "04-leader-in-minority"
    "05-even-split"
    "05-two-of-three-down"
    "06-deaf-leader"
    "07-mute-leader"
    "08-flapping-fast"
    "08-flapping-link"
    "09-quorum-loss"
    "10-constrained"
    "11-chained"
    "12-swizzle-clog"
    "13-loss-01"
    "13-loss-10"
    "13-loss-30"
    "14-duplicate-reorder"
    "14-very-late"
    "15-bandwidth"
    "15-latency"
    "16-slow-follower-disk"
    "17-crawling-leader-disk"
    "17-slow-leader-disk"
    "18-hung-follower-disk"
    "18-hung-leader-disk"
    "19-pause-blink"
    "19-pause-leader"
    "19-pause-minute"
    "20-clock-drift"
    "20-clock-jump"
    "20-clock-strobe"
    "21-power-cut-all"
    "21-power-cut-leader"
    "22-torn-tail-all"
    "22-torn-tail-leader"
    "23-torn-vote"
    "23-torn-vote-of-any"
    "24-rot-follower"
    "24-rot-leader"
    "25-rot-majority"
    "26-rot-snapshot-all"
    "26-rot-snapshot-newest"
    "27-lost-write"
    "27-misdirected-write"
    "28-fsync-error-follower"
    "28-fsync-error-leader"
    "29-disk-full-all"
    "29-disk-full-follower"
    "29-disk-full-leader"
    "29-disk-full-snapshot"
    "30-crash-in-snapshot"
    "30-crash-of-leader-in-snapshot"
    "31-crash-in-install"
    "32-compaction-race"
    "33-wiped-follower"
    "33-wiped-leader"
    "34-cloned-directory"
    "34-old-backup"
    "35-rolling-restart"
    "38-client-faults"
    "38-sessions-expire"
    "42-corrupt-frames"
}

impl Schedule {
    /// All that are shipped.
    ///
    /// # Errors
    /// If one cannot be read; a test keeps that from happening.
    pub fn named() -> Result<Vec<Self>, LoadError> {
        static READ: OnceLock<Result<Vec<Schedule>, LoadError>> = OnceLock::new();
        let read = || NAMED.iter().map(|(name, text)| Self::parse(&format!("{name}.toml"), text)).collect();
        READ.get_or_init(read).clone()
    }

    /// The same story at other times: a seed shifts every time by up to three tenths, and draws at which operation
    /// of a disk a process ends. Seed 0 leaves it as it is written, and so does `exact`.
    #[must_use]
    pub fn perturbed(mut self, seed: u64) -> Self {
        if seed == 0 || self.exact {
            return self;
        }
        let mut rng = Rng::new(seed ^ 0x7065_7274_7572_6221);
        let mut shift = |value: &mut u64| {
            if *value > 1 {
                *value = *value * 7 / 10 + rng.below(*value * 6 / 10 + 1);
            }
        };
        for step in &mut self.steps {
            match &mut step.when {
                Trigger::After(n) | Trigger::Committed(n) | Trigger::LagOver(n) => shift(n),
                Trigger::At(n) => {
                    // Not before the cluster serves: the first step's time is also the warm-up.
                    let before = *n;
                    shift(n);
                    *n = (*n).max(before * 8 / 10);
                }
                _ => {}
            }
        }
        let mut before = 0;
        for step in &mut self.steps {
            if let Trigger::At(ms) = &mut step.when {
                *ms = (*ms).max(before);
                before = *ms;
            }
            if let Action::CrashAtWrite { operations, .. } = &mut step.act {
                *operations = 1 + rng.below(*operations * 2);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_file_is_built_in_and_sound() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schedules");
        let mut files: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        let names: Vec<&str> = NAMED.iter().map(|(n, _)| *n).collect();
        assert_eq!(names, files, "schedules/ and the list in named.rs");
        for (name, schedule) in names.iter().zip(Schedule::named().unwrap()) {
            let loaded = Schedule::load(&folder.join(format!("{name}.toml"))).unwrap();
            assert_eq!(loaded, schedule);
            assert!(!schedule.about.is_empty() && !schedule.rows.is_empty(), "{name}");
            let prefix: u8 = name.get(..2).unwrap().parse().unwrap();
            assert_eq!(schedule.rows.first(), Some(&prefix), "{name} begins with its row");
            assert!(
                schedule.expect.commit_within_te.is_some() || schedule.expect.safety_only.is_some(),
                "{name}"
            );
        }
    }

    #[test]
    fn seeds_shift_times_and_keep_schedules_sound() {
        for schedule in Schedule::named().unwrap() {
            assert_eq!(schedule.clone().perturbed(0), schedule);
            let mut seen = BTreeSet::new();
            for seed in 1..50 {
                let other = schedule.clone().perturbed(seed);
                assert_eq!(other, schedule.clone().perturbed(seed));
                assert_eq!(other.check(), Ok(()), "{} seed {seed}", schedule.name);
                seen.insert(other.to_string());
            }
            assert!(seen.len() > 40 || schedule.exact, "{}: {} stories", schedule.name, seen.len());
        }
    }

    #[test]
    fn a_schedule_survives_being_written() {
        for schedule in Schedule::named().unwrap() {
            let text = toml::to_string(&schedule).unwrap();
            assert_eq!(Schedule::parse("again", &text), Ok(schedule), "{text}");
        }
    }
}
