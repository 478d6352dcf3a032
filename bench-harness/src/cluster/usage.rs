//! What the operating system knows of a process: memory, CPU time, context switches, bytes handed to the disk.

use serde::Serialize;
use std::fs;

/// A reading of `/proc/<pid>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Usage {
    /// Resident memory, bytes.
    pub(crate) rss_bytes: u64,
    /// Highest resident memory so far, bytes.
    pub(crate) rss_peak_bytes: u64,
    /// CPU time so far, s; sampled by the kernel in ticks of 10 ms.
    pub(crate) cpu_seconds: f64,
    /// CPU time so far of the threads that live now, s; exact, for what hardly works: a thread that sleeps between two
    /// ticks is charged a whole one, or nothing.
    pub(crate) threads_cpu_seconds: f64,
    /// Context switches so far.
    pub(crate) switches: u64,
    /// Bytes that it caused to be written to storage.
    pub(crate) disk_bytes: u64,
}

impl Usage {
    /// Reads process `pid`; zeros for what cannot be read.
    pub(crate) fn of(pid: u32) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let status = read("status");
        let kib = |name: &str| field(&status, name) * 1024;
        Self {
            rss_bytes: kib("VmRSS:"),
            rss_peak_bytes: kib("VmHWM:"),
            cpu_seconds: cpu_seconds(&read("stat")),
            threads_cpu_seconds: threads_cpu_seconds(pid),
            switches: task_switches(pid),
            disk_bytes: field(&read("io"), "write_bytes:"),
        }
    }

    /// What grew since `earlier` (memory stays as it is).
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - earlier.cpu_seconds,
            threads_cpu_seconds: self.threads_cpu_seconds - earlier.threads_cpu_seconds,
            switches: self.switches.saturating_sub(earlier.switches),
            disk_bytes: self.disk_bytes.saturating_sub(earlier.disk_bytes),
            ..self
        }
    }
}

fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|l| l.strip_prefix(name))
        .and_then(|v| v.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// utime + stime, in clock ticks of 1/100 s on every Linux that we know.
fn cpu_seconds(stat: &str) -> f64 {
    // The name in parentheses may hold spaces: count from the last parenthesis.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|v| v.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// The `file` of every thread.
fn of_threads(pid: u32, file: &'static str) -> impl Iterator<Item = String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    tasks.filter_map(move |t| fs::read_to_string(t.ok()?.path().join(file)).ok())
}

/// First field of `schedstat`: ns on a CPU.
fn threads_cpu_seconds(pid: u32) -> f64 {
    let nanos = of_threads(pid, "schedstat").filter_map(|s| s.split_whitespace().next()?.parse::<u64>().ok());
    nanos.sum::<u64>() as f64 / 1e9
}

fn task_switches(pid: u32) -> u64 {
    of_threads(pid, "status")
        .map(|s| field(&s, "voluntary_ctxt_switches:") + field(&s, "nonvoluntary_ctxt_switches:"))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        assert!((cpu_seconds(stat) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn our_own_process_has_memory() {
        let usage = Usage::of(std::process::id());
        assert!(usage.threads_cpu_seconds > 0.0);
        assert!(usage.rss_bytes > 100_000 && usage.rss_peak_bytes >= usage.rss_bytes);
    }
}
