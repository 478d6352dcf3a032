//! Reading schedules: TOML in, a checked [`Schedule`] out, or an error that says where and what is allowed.
//!
//! ```text
//!  text ─► toml (types, names of steps and fields) ─► check (what types cannot say) ─► Schedule
//!              └── line, column, allowed names          └── line of the step, allowed range
//! ```
//!
//! What is checked here, nobody checks again: the world carries out what it is given. A step that finds nobody to act
//! on (`down` when nobody is) is no error: it depends on the run, and is reported as skipped.
//!
//! It also resolves expectations: `expect.but` holds exceptions by protocol and variant, the more special one wins:
//! the schedule's own, then `textbook`, then `zab`, then `zab.textbook`.

use super::{Action, Expect, Schedule, Step, Target, Trigger, Variant};
use std::fmt;
use std::path::Path;

/// Names of the protocols, as in the keys of `expect.but`.
pub const PROTOCOLS: [&str; 3] = ["zab", "raft", "paxos"];

/// Longest schedule, ms of virtual time, as far as its triggers are times.
const LONGEST_MS: u64 = 600_000;

/// Why a schedule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The file's name, or what the caller calls the text.
    pub file: String,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    /// What is wrong and what is allowed.
    pub text: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.text),
            line => write!(f, "{}:{line}: {}", self.file, self.text),
        }
    }
}

impl std::error::Error for LoadError {}

/// A complaint and the step that it is about.
type Complaint = (Option<usize>, String);

impl Schedule {
    /// Reads a file. Its name without the suffix must be the schedule's name.
    ///
    /// # Errors
    /// If the file cannot be read, or as [`Schedule::parse`].
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| LoadError {
            file: file.clone(),
            line: 0,
            text: format!("cannot be read: {e}"),
        })?;
        let schedule = Self::parse(&file, &text)?;
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        if schedule.name != stem {
            let complaint = format!("name is {:?}, but the file's name asks for {stem:?}", schedule.name);
            return Err(LoadError { file, line: line_of(&text, "name"), text: complaint });
        }
        Ok(schedule)
    }

    /// Reads and checks a schedule; `file` is its name in errors.
    ///
    /// # Errors
    /// If it is no TOML, has unknown names, or asks for something impossible.
    pub fn parse(file: &str, text: &str) -> Result<Self, LoadError> {
        let schedule: Self = toml::from_str(text).map_err(|e| LoadError {
            file: file.to_owned(),
            line: e.span().map_or(0, |s| line_at(text, s.start)),
            text: e.message().to_owned(),
        })?;
        schedule.check().map_err(|(step, complaint)| LoadError {
            file: file.to_owned(),
            line: step.map_or(0, |n| line_of_step(text, n)),
            text: step.map_or_else(|| complaint.clone(), |n| format!("step {}: {complaint}", n + 1)),
        })?;
        Ok(schedule)
    }

    /// What is expected of a protocol in a variant.
    #[must_use]
    pub fn expectation(&self, protocol: &str, variant: Variant) -> Expect {
        let variant = variant.name();
        let mut all = self.expect.clone();
        for key in [variant.to_owned(), protocol.to_owned(), format!("{protocol}.{variant}")] {
            if let Some(but) = self.expect.but.get(&key) {
                all.overlay(but);
            }
        }
        all.but.clear();
        all
    }

    /// Checks what types cannot say.
    ///
    /// # Errors
    /// The step, if one is at fault, and the complaint.
    pub fn check(&self) -> Result<(), Complaint> {
        let whole = |text: String| Err((None, text));
        if self.name.is_empty() {
            return whole("name is empty".into());
        }
        if let Some(row) = self.rows.iter().find(|r| !(1..=43).contains(*r)) {
            return whole(format!("row {row} is not in the fault matrix: 1 to 43"));
        }
        if self.steps.is_empty() {
            return whole("it has no step: a [[step]] with `when` and `do` is needed".into());
        }
        self.check_cluster().or_else(whole)?;
        self.expect.check(true).or_else(whole)?;
        let mut before = 0;
        let mut total: u64 = 0;
        for (n, step) in self.steps.iter().enumerate() {
            let here = |text: String| Err((Some(n), text));
            self.check_step(n, step).or_else(here)?;
            match step.when {
                Trigger::At(ms) if ms < before => {
                    return here(format!("at = {ms} lies before an earlier step's {before}"));
                }
                Trigger::At(ms) => {
                    before = ms;
                    total = total.max(ms);
                }
                Trigger::After(ms) => total = total.saturating_add(ms),
                _ => {}
            }
            if total > LONGEST_MS {
                return here(format!("the schedule lasts {total} ms: {LONGEST_MS} at most"));
            }
        }
        Ok(())
    }

    fn check_cluster(&self) -> Result<(), String> {
        let c = &self.cluster;
        range("cluster.voters", c.voters, 1, 7)?;
        range("cluster.observers", c.observers, 0, 4)?;
        range("cluster.latency_us", c.latency_us, 1, 1_000_000)?;
        range("cluster.jitter_us", c.jitter_us, 0, 1_000_000)?;
        range("cluster.fsync_us", c.fsync_us, 1, 1_000_000)?;
        range("cluster.snapshot_every", c.snapshot_every, 1, 1_000_000)?;
        range("cluster.keep_entries", c.keep_entries, 0, 1_000_000)?;
        range("cluster.drift_per_mille", c.drift_per_mille, 0, 100)?;
        c.switches.check(self)?;
        let w = &self.workload;
        range("workload.clients", w.clients, 1, 500)?;
        range("workload.rate", w.rate, 1, 100_000)?;
        range("workload.timeout_ms", w.timeout_ms, 500, 600_000)?;
        range("workload.tail_ms", Some(w.tail_ms), 0, LONGEST_MS)
    }

    /// Nodes that surely exist, whatever the seed draws.
    fn sure_nodes(&self) -> u32 {
        self.cluster.voters.unwrap_or(3) + self.cluster.observers.unwrap_or(0)
    }

    fn check_step(&self, n: usize, step: &Step) -> Result<(), String> {
        let targets = step.act.targets();
        let earlier = self.steps.get(..n).unwrap_or_default();
        for target in &targets {
            match target {
                Target::Same if earlier.iter().all(|s| s.act.targets().is_empty()) => {
                    return Err("`same` needs a step before it that is about a node".into());
                }
                Target::Node(id) if !(1..=self.sure_nodes()).contains(id) => {
                    return Err(format!(
                        "node {id} does not exist: 1 to {} (voters and observers; 3 voters if the seed draws them)",
                        self.sure_nodes()
                    ));
                }
                Target::All if !step.act.takes_all() => {
                    return Err(format!("`all` makes no sense for {}", step.act.name()));
                }
                _ => {}
            }
        }
        if let [a, b] = targets.as_slice()
            && a == b
            && *a != Target::Any
        {
            return Err(format!("{} needs two different nodes", step.act.name()));
        }
        step.act.check(self.cluster.voters)
    }
}

impl Variant {
    /// As in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hardened => "hardened",
            Self::Textbook => "textbook",
        }
    }
}

impl Expect {
    fn overlay(&mut self, but: &Self) {
        let Self { commit_within_te, gap_within_te, reigns_at_most, unavailable, safety_only, but: _ } =
            but.clone();
        self.commit_within_te = commit_within_te.or(self.commit_within_te);
        self.gap_within_te = gap_within_te.or(self.gap_within_te);
        self.reigns_at_most = reigns_at_most.or(self.reigns_at_most);
        // Who may be unavailable is not asked for short gaps or few reigns, unless the exception itself does.
        if unavailable.is_some() || safety_only.is_some() {
            self.gap_within_te = gap_within_te;
            self.reigns_at_most = reigns_at_most;
        }
        self.unavailable = unavailable.or_else(|| self.unavailable.take());
        self.safety_only = safety_only.or_else(|| self.safety_only.take());
    }

    fn check(&self, outer: bool) -> Result<(), String> {
        for (name, te) in [("commit_within_te", self.commit_within_te), ("gap_within_te", self.gap_within_te)]
        {
            if te.is_some_and(|te| !(te > 0.0 && te <= 1000.0)) {
                return Err(format!("expect.{name} must be above 0 and at most 1000 (in Te)"));
            }
        }
        for (name, why) in [("unavailable", &self.unavailable), ("safety_only", &self.safety_only)] {
            if why.as_ref().is_some_and(|w| w.trim().is_empty()) {
                return Err(format!("expect.{name} must say why"));
            }
        }
        if !outer && !self.but.is_empty() {
            return Err("expect.but inside expect.but".into());
        }
        for (key, but) in &self.but {
            let (protocol, variant) = key.split_once('.').unwrap_or((key, "textbook"));
            let known = PROTOCOLS.contains(&protocol) && ["textbook", "hardened"].contains(&variant);
            if !known && !["textbook", "hardened"].contains(&key.as_str()) {
                return Err(format!(
                    "expect.but.{key:?}: a protocol (zab, raft, paxos), a variant (textbook, hardened), or both \
                     (\"zab.textbook\")"
                ));
            }
            but.check(false)?;
        }
        Ok(())
    }
}

pub(super) fn range<T: Copy + PartialOrd + fmt::Display>(
    name: &str,
    value: Option<T>,
    least: T,
    most: T,
) -> Result<(), String> {
    match value {
        Some(v) if v < least || v > most => Err(format!("{name} = {v}: {least} to {most}")),
        _ => Ok(()),
    }
}

impl Action {
    fn check(&self, voters: Option<u32>) -> Result<(), String> {
        let name = self.name();
        let of = |field: &str, value: u64, least: u64, most: u64| {
            range(&format!("{name}.{field}"), Some(value), least, most)
        };
        match *self {
            Self::CrashAtWrite { operations, .. } => of("operations", operations, 1, 100_000),
            Self::Starve { ms, period_ms, .. } => {
                of("period_ms", period_ms, 1, 60_000)?;
                of("ms", ms, 1, period_ms.saturating_sub(1))
            }
            Self::Split { with_leader } => {
                of("with_leader", with_leader.into(), 0, u64::from(voters.unwrap_or(3)).saturating_sub(2))
            }
            Self::HubOnly { .. } if voters.is_some_and(|v| v < 3) => {
                Err("hub_only needs three voters or more".into())
            }
            Self::Flap { period_ms, .. } => of("period_ms", period_ms, 1, 60_000),
            Self::Swizzle { gap_ms } => of("gap_ms", gap_ms, 1, 10_000),
            Self::Noise { loss, duplicate, reorder } => {
                of("loss", loss.into(), 0, 900)?;
                of("duplicate", duplicate.into(), 0, 900)?;
                of("reorder", reorder.into(), 0, 900)
            }
            Self::Slow { latency_ms, jitter_ms, bytes_per_second } => {
                of("latency_ms", latency_ms, 0, 60_000)?;
                of("jitter_ms", jitter_ms, 0, 60_000)?;
                if bytes_per_second == 0 {
                    Ok(())
                } else {
                    of("bytes_per_second", bytes_per_second, 1000, 1 << 40)
                }
            }
            Self::SlowDisk { factor, .. } => of("factor", factor, 1, 1_000_000),
            Self::StallDisk { ms, .. } => of("ms", ms, 1, LONGEST_MS),
            Self::ClockRate { per_mille, .. } => of("per_mille", per_mille.into(), 900, 1100),
            Self::DropClients { count } | Self::KillClients { count } => of("count", count.into(), 1, 500),
            Self::StopClients { count, ms } | Self::SlowReaders { count, ms } => {
                of("count", count.into(), 1, 500)?;
                of("ms", ms, 1, LONGEST_MS)
            }
            _ => Ok(()),
        }
    }

    /// Whether `all` nodes can be meant.
    fn takes_all(&self) -> bool {
        matches!(
            self,
            Self::Crash { .. }
                | Self::CrashAtWrite { .. }
                | Self::Restart { .. }
                | Self::Stop { .. }
                | Self::Pause { .. }
                | Self::Resume { .. }
                | Self::Starve { .. }
                | Self::SlowDisk { .. }
                | Self::StallDisk { .. }
                | Self::FillDisk { .. }
                | Self::MendDisk { .. }
                | Self::ClockJump { .. }
                | Self::ClockRate { .. }
                | Self::Snapshot { .. }
        )
    }
}

/// The line of a byte, from 1.
fn line_at(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|b| *b == b'\n').count() + 1
}

/// The line of the first assignment to `key`, 0 if there is none.
fn line_of(text: &str, key: &str) -> usize {
    let found = text
        .lines()
        .position(|l| l.trim_start().strip_prefix(key).is_some_and(|r| r.trim().starts_with('=')));
    found.map_or(0, |n| n + 1)
}

/// The line of the n-th `[[step]]`, from 0.
fn line_of_step(text: &str, n: usize) -> usize {
    let mut headers = text.lines().enumerate().filter(|(_, l)| l.trim_start().starts_with("[[step]]"));
    headers.nth(n).map_or(0, |(line, _)| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(body: &str) -> String {
        format!("name = \"x\"\n[[step]]\nwhen = {{ at = 5 }}\ndo = {body}\n")
    }

    fn complaint(text: &str) -> String {
        Schedule::parse("x.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn the_example_of_the_module_is_a_schedule() {
        let text = include_str!("mod.rs");
        let example: String = text
            .lines()
            .skip_while(|l| !l.contains("```toml"))
            .skip(1)
            .take_while(|l| !l.contains("```"))
            .map(|l| format!("{}\n", l.trim_start_matches("//!")))
            .collect();
        let schedule = Schedule::parse("example", &example).unwrap();
        assert_eq!(schedule.steps.len(), 2);
        assert_eq!(schedule.expect.commit_within_te, Some(2.0));
    }

    #[test]
    fn errors_name_line_and_what_is_allowed() {
        let cases = [
            ("name = \"x\"\n", "x.toml: it has no step"),
            ("nane = \"x\"\n", "x.toml:1: unknown field `nane`, expected one of `name`, `rows`"),
            (
                &step("{ crush = { node = \"leader\" } }"),
                "x.toml:4: unknown variant `crush`, expected one of `crash`",
            ),
            (
                &step("{ pause = { node = \"boss\" } }"),
                "x.toml:4: unknown variant `boss`, expected one of `leader`",
            ),
            (&step("{ pause = { node = \"same\" } }"), "x.toml:2: step 1: `same` needs a step before"),
            (&step("{ pause = { node = { node = 4 } } }"), "x.toml:2: step 1: node 4 does not exist: 1 to 3"),
            (&step("{ wipe = { node = \"all\" } }"), "step 1: `all` makes no sense for wipe"),
            (&step("{ cut = { a = \"leader\", b = \"leader\" } }"), "cut needs two different nodes"),
            (
                &step("{ clock_rate = { node = \"any\", per_mille = 1200 } }"),
                "clock_rate.per_mille = 1200: 900 to 1100",
            ),
            (&step("{ split = { with_leader = 2 } }"), "split.with_leader = 2: 0 to 1"),
            (&format!("{}[cluster]\nvoters = 8\n", step("{ heal = {} }")), "cluster.voters = 8: 1 to 7"),
            (&format!("{}[expect.but.ark]\n", step("{ heal = {} }")), "expect.but.\"ark\": a protocol"),
            (
                &format!("{}[expect]\nunavailable = \" \"\n", step("{ heal = {} }")),
                "expect.unavailable must say why",
            ),
            (
                &format!("{}[[step]]\nwhen = {{ at = 4 }}\ndo = {{ heal = {{}} }}", step("{ heal = {} }")),
                "x.toml:5: step 2: at = 4 lies before an earlier step's 5",
            ),
        ];
        for (text, expected) in cases {
            let got = complaint(text);
            assert!(got.contains(expected), "{got}\nshould contain\n{expected}");
        }
    }

    #[test]
    fn the_more_special_expectation_wins() {
        let text = format!(
            "{}[expect]\ncommit_within_te = 2.0\ngap_within_te = 1.0\n[expect.but.textbook]\ngap_within_te = 5.0\n\
             [expect.but.raft]\ngap_within_te = 3.0\n[expect.but.\"raft.textbook\"]\nunavailable = \"why\"\n",
            step("{ heal = {} }")
        );
        let s = Schedule::parse("x.toml", &text).unwrap();
        let gap = |p, v| s.expectation(p, v).gap_within_te;
        assert_eq!(gap("zab", Variant::Hardened), Some(1.0));
        assert_eq!(gap("zab", Variant::Textbook), Some(5.0));
        assert_eq!(gap("raft", Variant::Hardened), Some(3.0));
        assert_eq!(gap("raft", Variant::Textbook), None, "who may be unavailable has no bound on gaps");
        let e = s.expectation("raft", Variant::Textbook);
        assert_eq!((e.commit_within_te, e.unavailable.as_deref()), (Some(2.0), Some("why")));
    }
}
