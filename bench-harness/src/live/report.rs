//! What a live run leaves behind: `run.json`, schema `menagerie.live/1`, and `report.md` made from it.
//!
//! Counts come from the history and from nothing else; a fault's write gap is the longest time between two acknowledged
//! writes of any client that has a part of the fault in it. Faults overlap, so one gap may stand at several of them.

use super::faults::CATALOGUE;
use super::nemesis::Injected;
use crate::environment::Environment;
use anyhow::{Context, Result};
use history::{History, Op, Outcome, Reply, What};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The schema's name.
pub(crate) const SCHEMA: &str = "menagerie.live/1";

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Live {
    pub(crate) schema: String,
    pub(crate) run_id: String,
    pub(crate) started_utc: String,
    pub(crate) duration_s: f64,
    pub(crate) command: String,
    pub(crate) git_sha: String,
    pub(crate) git_dirty: bool,
    pub(crate) environment: Environment,
    pub(crate) seed: u64,
    pub(crate) nodes: u32,
    pub(crate) clients: u32,
    pub(crate) systems: Vec<System>,
}

/// One kind of fault in one system.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kind {
    /// Row of the fault matrix.
    pub(crate) row: u8,
    /// Its name.
    pub(crate) name: String,
    /// How often it happened.
    pub(crate) count: usize,
    /// Longest time without an acknowledged write around one of them, ms.
    pub(crate) longest_gap_ms: f64,
    /// Median over them.
    pub(crate) median_gap_ms: f64,
}

/// One system.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct System {
    pub(crate) name: String,
    pub(crate) duration_s: f64,
    /// Seconds of the history.
    pub(crate) history_s: f64,
    pub(crate) events: usize,
    pub(crate) calls: u64,
    /// Answered with success.
    pub(crate) acked: u64,
    /// Writes among them.
    pub(crate) acked_writes: u64,
    /// Answered with an error code.
    pub(crate) errors: u64,
    /// Never answered.
    pub(crate) unknown: u64,
    pub(crate) watch_events: u64,
    pub(crate) pings: u64,
    pub(crate) sessions: usize,
    pub(crate) resumed: u64,
    pub(crate) refused: u64,
    pub(crate) expired: u64,
    /// Reigns whose zxids somebody saw.
    pub(crate) epochs: usize,
    /// From the end of the faults to the first write acknowledged to the slowest client, ms.
    pub(crate) after_heal_ms: f64,
    pub(crate) faults_total: usize,
    pub(crate) faults: Vec<Kind>,
    /// Frames carried, frames damaged, connections broken at a frame.
    pub(crate) proxy: [u64; 3],
    /// Per checker: judged, left open.
    pub(crate) coverage: BTreeMap<String, [u64; 2]>,
    pub(crate) check_s: f64,
    /// Commit of the checkers, where they judged the history again later.
    #[serde(default)]
    pub(crate) judged_again: Option<String>,
    /// What the checkers found.
    pub(crate) findings: Vec<String>,
    /// What no server may do on the wire.
    pub(crate) wire: Vec<String>,
    /// Servers that ended without a reason.
    pub(crate) ended: Vec<String>,
    /// Servers that took too long to be whole again: no violation, but worth a look.
    pub(crate) slow: Vec<String>,
}

impl System {
    /// How many things must not have happened.
    pub(crate) fn violations(&self) -> usize {
        self.findings.len() + self.wire.len() + self.ended.len()
    }

    /// What the checkers say.
    pub(crate) fn judge(&mut self, history: &History) {
        let since = std::time::Instant::now();
        let checked = history::check_all(history);
        self.check_s = since.elapsed().as_secs_f64();
        let tallies = checked.coverage.iter();
        self.coverage = tallies.map(|(name, t)| ((*name).to_owned(), [t.judged, t.skipped])).collect();
        let findings = checked.findings.iter();
        self.findings =
            findings.map(|f| format!("{}: {} (events {:?})", f.checker, f.text, f.events)).collect();
    }

    /// Counts `history`.
    pub(crate) fn of(history: &History, injected: &[Injected]) -> Self {
        let mut system =
            Self { events: history.events.len(), faults_total: injected.len(), ..Self::default() };
        let (mut sessions, mut epochs) = (BTreeSet::new(), BTreeSet::new());
        let (mut asked, mut writes): (HashMap<u64, bool>, Vec<u64>) = (HashMap::new(), Vec::new());
        let (mut healed, mut first) = (None, BTreeMap::new());
        for event in &history.events {
            system.history_s = event.at_us as f64 / 1e6;
            match &event.what {
                What::Invoke { call, op, .. } => {
                    system.calls += 1;
                    asked.insert(*call, is_write(op));
                }
                What::Return { call, zxid, outcome } => {
                    epochs.insert(*zxid >> 32);
                    let is_write = asked.remove(call).unwrap_or(false);
                    match outcome {
                        Outcome::Ok(reply) if !is_failed(reply) => {
                            system.acked += 1;
                            if is_write {
                                system.acked_writes += 1;
                                writes.push(event.at_us);
                                if healed.is_some() {
                                    first.entry(event.client).or_insert(event.at_us);
                                }
                            }
                        }
                        _ => system.errors += 1,
                    }
                }
                What::Unknown { .. } => system.unknown += 1,
                What::Watch { .. } => system.watch_events += 1,
                What::Ping { .. } => system.pings += 1,
                What::Connected { session, resumed, .. } => {
                    sessions.insert(*session);
                    system.resumed += u64::from(*resumed);
                }
                What::Refused { .. } => system.refused += 1,
                What::Expired { .. } => system.expired += 1,
                What::Healed => healed = Some(event.at_us),
                _ => {}
            }
        }
        system.sessions = sessions.len();
        system.epochs = epochs.iter().filter(|e| **e > 0).count();
        let slowest = first.values().max().copied();
        system.after_heal_ms =
            slowest.zip(healed).map_or(0.0, |(at, from)| at.saturating_sub(from) as f64 / 1e3);
        system.faults = kinds(injected, &writes);
        system
    }
}

fn is_write(op: &Op) -> bool {
    matches!(op, Op::Create { .. } | Op::Delete { .. } | Op::Set { .. } | Op::Multi { .. })
}

/// A multi that failed is answered with a list of errors.
fn is_failed(reply: &Reply) -> bool {
    matches!(reply, Reply::Multi(parts) if parts.iter().any(|p| matches!(p, Outcome::Error(_))))
}

fn kinds(injected: &[Injected], writes: &[u64]) -> Vec<Kind> {
    let mut gaps: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for fault in injected {
        gaps.entry(fault.entry.name).or_default().push(gap_ms(fault, writes));
    }
    let kind = |entry: &super::faults::Entry| {
        let mut all = gaps.get(entry.name)?.clone();
        all.sort_by(f64::total_cmp);
        Some(Kind {
            row: entry.row,
            name: entry.name.to_owned(),
            count: all.len(),
            longest_gap_ms: all.last().copied().unwrap_or_default(),
            median_gap_ms: all.get(all.len() / 2).copied().unwrap_or_default(),
        })
    };
    CATALOGUE.iter().filter_map(kind).collect()
}

/// The longest time between two acknowledged writes that has a part of the fault in it.
fn gap_ms(fault: &Injected, writes: &[u64]) -> f64 {
    let from = writes.partition_point(|at| *at <= fault.at_us).saturating_sub(1);
    let to = writes.partition_point(|at| *at < fault.until_us).min(writes.len().saturating_sub(1));
    let window = writes.get(from..=to).unwrap_or_default();
    let gaps = window.iter().zip(window.iter().skip(1)).map(|(a, b)| b - a);
    gaps.max().unwrap_or(0) as f64 / 1e3
}

/// A few lines for the terminal.
pub(crate) fn summary(system: &System) -> String {
    let mut text = format!(
        "{}: {} faults, {} acknowledged ({:.0}/s, {} writes), {} unknown, {} sessions, {} expired, {} reigns; {} \
         events checked in {:.1} s: {} violations",
        system.name,
        system.faults_total,
        system.acked,
        system.acked as f64 / system.history_s.max(1.0),
        system.acked_writes,
        system.unknown,
        system.sessions,
        system.expired,
        system.epochs,
        system.events,
        system.check_s,
        system.violations(),
    );
    for line in [&system.findings, &system.wire, &system.ended, &system.slow].into_iter().flatten() {
        let _ = write!(text, "\n  {line}");
    }
    text
}

/// Writes `run.json` and `report.md` into `out`.
///
/// # Errors
/// Files that cannot be written.
pub(crate) fn write(run: &Live, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    let save = |name: &str, text: &str| {
        let path = out.join(name);
        fs::write(&path, text).with_context(|| format!("{}", path.display()))
    };
    save("run.json", &(serde_json::to_string_pretty(run)? + "\n"))?;
    save("report.md", &render(run))
}

/// Puts a new verdict on `history` into the report at `out`, which has one of the same system.
///
/// # Errors
/// No such report, no such system.
pub(crate) fn judge_again(history: &History, out: &Path) -> Result<()> {
    let path = out.join("run.json");
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let mut run: Live = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    anyhow::ensure!(run.schema == SCHEMA, "{} has schema {:?}", path.display(), run.schema);
    let same = |s: &&mut System| s.name == history.header.system && s.events == history.events.len();
    let system = run.systems.iter_mut().find(same).context("the report has no such history")?;
    system.judge(history);
    system.judged_again = Some(crate::environment::output("git", &["rev-parse", "HEAD"]));
    write(&run, out)
}

fn render(run: &Live) -> String {
    let e = &run.environment;
    let mut text = format!(
        "# {}\n\nReal processes, real sockets, real files: {} servers, {} recording clients, seed {}. Every history was \
         checked as a whole.\n\nStarted {}, took {:.0} s. Commit {}{}. Again: `{}`\n\n{} ({} cores), {}, kernel {}; \
         load before: {}.\n",
        run.run_id,
        run.nodes,
        run.clients,
        run.seed,
        run.started_utc,
        run.duration_s,
        run.git_sha,
        if run.git_dirty { " with local changes" } else { "" },
        run.command,
        e.cpu,
        e.cores,
        e.filesystem,
        e.kernel,
        e.load_before,
    );
    text += "\n## What clients saw\n\n| system | faults | seconds | acknowledged | writes | per second | errors | unknown \
             | watch events | pings | sessions | resumed | expired | reigns | first write of the slowest client after \
             the faults, ms | violations |\n| :-- |";
    text += &" --: |".repeat(15);
    for s in &run.systems {
        let _ = write!(
            text,
            "\n| {} | {} | {:.0} | {} | {} | {:.0} | {} | {} | {} | {} | {} | {} | {} | {} | {:.0} | **{}** |",
            s.name,
            s.faults_total,
            s.history_s,
            s.acked,
            s.acked_writes,
            s.acked as f64 / s.history_s.max(1.0),
            s.errors,
            s.unknown,
            s.watch_events,
            s.pings,
            s.sessions,
            s.resumed,
            s.expired,
            s.epochs,
            s.after_heal_ms,
            s.violations(),
        );
    }
    text + &checkers(run) + &faults(run) + &words(run)
}

/// A table with one column per system.
fn header(run: &Live, first: &str) -> String {
    let names: Vec<&str> = run.systems.iter().map(|s| s.name.as_str()).collect();
    let rule = " --: |".repeat(names.len());
    let left = first.matches('|').count();
    format!("\n| {first} | {} |\n|{}{rule}\n", names.join(" | "), " :-- |".repeat(left + 1))
}

fn checkers(run: &Live) -> String {
    let mut text = "\n\n## What the checkers judged\n\nJudged (left open by the history).\n".to_owned();
    text += &header(run, "checker");
    let names: BTreeSet<&String> = run.systems.iter().flat_map(|s| s.coverage.keys()).collect();
    for name in names {
        let _ = write!(text, "| {name} |");
        for system in &run.systems {
            let _ = match system.coverage.get(name) {
                Some([judged, open]) => write!(text, " {judged} ({open}) |"),
                None => write!(text, " – |"),
            };
        }
        text.push('\n');
    }
    text
}

fn faults(run: &Live) -> String {
    let mut text =
        "\n## Faults\n\nTimes they happened: median and longest time without an acknowledged write around \
                    them, ms. Faults overlap, so one outage may stand in several rows.\n"
            .to_owned();
    text += &header(run, "row | fault");
    for entry in &CATALOGUE {
        let cells: Vec<String> = run
            .systems
            .iter()
            .map(|s| {
                let kind = s.faults.iter().find(|k| k.name == entry.name);
                kind.map_or("–".to_owned(), |k| {
                    format!("{}: {:.0}, {:.0}", k.count, k.median_gap_ms, k.longest_gap_ms)
                })
            })
            .collect();
        if cells.iter().any(|c| c != "–") {
            let _ = writeln!(text, "| {} | {} | {} |", entry.row, entry.name, cells.join(" | "));
        }
    }
    for s in &run.systems {
        let [frames, damaged, breaks] = s.proxy;
        if frames > 0 {
            let _ = write!(
                text,
                "\n{}: {frames} frames between servers, {damaged} of them damaged, {breaks} connections broken in \
                 the middle.\n",
                s.name
            );
        }
    }
    text
}

fn words(run: &Live) -> String {
    let mut text = String::new();
    for s in &run.systems {
        if let Some(commit) = &s.judged_again {
            let _ = write!(
                text,
                "\n{}: the recorded history was judged again by the checkers of {commit}.\n",
                s.name
            );
        }
    }
    for s in &run.systems {
        let parts = [
            ("Violations", &s.findings),
            ("Wire", &s.wire),
            ("Ended", &s.ended),
            ("Slow to rejoin", &s.slow),
        ];
        for (title, lines) in parts.into_iter().filter(|(_, lines)| !lines.is_empty()) {
            let _ = write!(text, "\n## {title}: {}\n\n", s.name);
            for line in lines {
                let _ = writeln!(text, "* {}", line.replace('\n', "\n  "));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use history::{Event, Header};

    fn history() -> History {
        let set = |call| What::Invoke {
            call,
            session: 1,
            op: Op::Set { path: "/a".into(), data: "v".into(), version: -1 },
        };
        let ok =
            |call| What::Return { call, zxid: (7 << 32) + call as i64, outcome: Outcome::Ok(Reply::Nothing) };
        let whats = [
            (0, set(1)),
            (10_000, ok(1)),
            (20_000, set(2)),
            (900_000, ok(2)),
            (910_000, What::Healed),
            (920_000, set(3)),
            (930_000, ok(3)),
        ];
        let events = whats.map(|(at_us, what)| Event { at_us, client: 1, what }).to_vec();
        History { header: Header::default(), events }
    }

    #[test]
    fn a_fault_gets_the_gap_that_it_lies_in() {
        let at = |at_us, until_us| Injected { entry: CATALOGUE[1], text: String::new(), at_us, until_us };
        let system = System::of(&history(), &[at(15_000, 40_000), at(905_000, 906_000)]);
        let [kind] = &system.faults[..] else { panic!("{:?}", system.faults) };
        assert_eq!((kind.count, kind.longest_gap_ms, kind.row), (2, 890.0, 2));
        assert_eq!((system.acked_writes, system.epochs, system.after_heal_ms), (3, 1, 20.0));
    }

    #[test]
    fn the_page_names_every_violation() {
        let system = System {
            name: "menagerie raft".into(),
            findings: vec!["C2: lost".into()],
            coverage: [("C1".to_owned(), [5, 1])].into(),
            ..System::default()
        };
        let run = Live {
            schema: SCHEMA.into(),
            run_id: "live-x".into(),
            started_utc: String::new(),
            duration_s: 1.0,
            command: "live".into(),
            git_sha: "0".into(),
            git_dirty: false,
            environment: Environment::default(),
            seed: 1,
            nodes: 3,
            clients: 2,
            systems: vec![system],
        };
        let page = render(&run);
        assert!(page.contains("* C2: lost") && page.contains("| C1 | 5 (1) |"), "{page}");
        assert!(page.contains("**1**"));
    }
}
