//! Where the figures come from: the machine, its disk, and how quiet it was. A figure without this is worth nothing.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// Processor.
    pub(crate) cpu: String,
    /// Processors that the harness may use.
    pub(crate) cores: usize,
    /// Memory, bytes.
    pub(crate) memory_bytes: u64,
    /// Swap, bytes.
    pub(crate) swap_bytes: u64,
    /// Kernel.
    pub(crate) kernel: String,
    /// Frequency governor, if any.
    pub(crate) governor: String,
    /// Hypervisor flag.
    pub(crate) virtualised: bool,
    /// Clock source.
    pub(crate) clocksource: String,
    /// File system type and options of the data directories.
    pub(crate) filesystem: String,
    /// `rustc --version`.
    pub(crate) rustc: String,
    /// fdatasync of 4 KiB inside a file laid out in advance, µs.
    pub(crate) fsync_p50_us: f64,
    /// 99th percentile.
    pub(crate) fsync_p99_us: f64,
    /// fdatasync of 4 KiB appended, µs.
    pub(crate) append_fsync_p50_us: f64,
    /// Wake-up lateness of a 1 ms sleep, 99th percentile, µs: how busy the machine is with something else.
    pub(crate) wakeup_p99_us: f64,
    /// Load average before the run.
    pub(crate) load_before: String,
    /// CPU time stolen by the hypervisor during the run, % of one core.
    pub(crate) steal_percent: f64,
    /// Network between the servers.
    pub(crate) network: String,
    /// What makes this run doubtful.
    pub(crate) flags: Vec<String>,
}

impl Environment {
    /// Looks around; data directories will be below `base`.
    pub(crate) fn capture(base: &Path) -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let meminfo = read("/proc/meminfo");
        let (fsync_p50_us, fsync_p99_us) = fsync_microbench(base, false).unwrap_or_default();
        let (append_fsync_p50_us, _) = fsync_microbench(base, true).unwrap_or_default();
        let mut environment = Self {
            cpu: after(&cpuinfo, "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: kib(&meminfo, "MemTotal:"),
            swap_bytes: kib(&meminfo, "SwapTotal:"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").trim().to_owned(),
            virtualised: cpuinfo.contains("hypervisor"),
            clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
                .trim()
                .to_owned(),
            filesystem: filesystem(base),
            rustc: output("rustc", &["--version"]),
            fsync_p50_us,
            fsync_p99_us,
            append_fsync_p50_us,
            wakeup_p99_us: wakeup_microbench(),
            load_before: read("/proc/loadavg").trim().to_owned(),
            steal_percent: 0.0,
            network: "loopback".into(),
            flags: Vec::new(),
        };
        environment.judge();
        environment
    }

    fn judge(&mut self) {
        let busy: f64 = self.load_before.split(' ').next().and_then(|l| l.parse().ok()).unwrap_or(0.0);
        if busy > 0.5 {
            self.flags.push(format!("busy: load average {busy} before the run"));
        }
        if self.fsync_p50_us > 0.0 && self.fsync_p99_us / self.fsync_p50_us > 20.0 {
            self.flags.push("noisy disk: fsync p99 is over 20 times its median".into());
        }
        if self.wakeup_p99_us > 2_000.0 {
            self.flags.push("noisy scheduler: wake-ups over 2 ms late".into());
        }
        if self.filesystem.starts_with("tmpfs") {
            self.flags.push("data directories on tmpfs: fsync costs nothing".into());
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn after(text: &str, name: &str) -> String {
    let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or_else(String::new, |(_, v)| v.trim().to_owned())
}

fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Standard output of a command, trimmed; empty if it fails.
pub(crate) fn output(program: &str, args: &[&str]) -> String {
    Command::new(program)
        .args(args)
        .output()
        .ok()
        .filter(|o| o.status.success())
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
        .unwrap_or_default()
}

fn filesystem(base: &Path) -> String {
    let base = fs::canonicalize(base).unwrap_or_else(|_| base.to_owned());
    let mounts = read("/proc/self/mounts");
    let best = mounts
        .lines()
        .filter_map(|l| {
            let mut fields = l.split(' ').skip(1);
            Some((fields.next()?, fields.next()?, fields.next()?))
        })
        .filter(|(mount, ..)| base.starts_with(mount))
        .max_by_key(|(mount, ..)| mount.len());
    best.map_or_else(String::new, |(_, kind, options)| format!("{kind} {options}"))
}

/// Writes 4 KiB and syncs, 200 times or for a second; p50 and p99 in µs. Inside a file that is already as long as it
/// will be, as every log here is written (ZooKeeper's and ours are laid out in advance), or `appending`, where each
/// sync also writes the file's new length.
fn fsync_microbench(base: &Path, appending: bool) -> std::io::Result<(f64, f64)> {
    let mut file: File = tempfile::tempfile_in(base)?;
    let (block, mut times) = ([7u8; 4096], Vec::new());
    if !appending {
        file.write_all(&vec![0; 4096 * 200])?;
        file.sync_all()?;
        file.rewind()?;
    }
    let start = Instant::now();
    while times.len() < 200 && start.elapsed() < Duration::from_secs(1) {
        file.write_all(&block)?;
        let before = Instant::now();
        file.sync_data()?;
        times.push(before.elapsed().as_secs_f64() * 1e6);
    }
    let at = |p| crate::stats::percentile(&times, p).unwrap_or_default();
    Ok((at(50.0), at(99.0)))
}

fn wakeup_microbench() -> f64 {
    let late: Vec<f64> = (0..200)
        .map(|_| {
            let before = Instant::now();
            std::thread::sleep(Duration::from_millis(1));
            before.elapsed().as_secs_f64() * 1e6 - 1e3
        })
        .collect();
    crate::stats::percentile(&late, 99.0).unwrap_or_default()
}

/// Total stolen time so far, in ticks of 1/100 s.
pub(crate) fn stolen_ticks() -> u64 {
    let stat = read("/proc/stat");
    stat.lines().next().and_then(|l| l.split_whitespace().nth(8)?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cores_memory_and_a_disk_that_takes_time() {
        let environment = Environment::capture(Path::new("."));
        assert!(environment.cores > 0 && environment.memory_bytes > 1 << 20);
        assert!(environment.fsync_p50_us > 0.0 && environment.fsync_p99_us >= environment.fsync_p50_us);
    }

    #[test]
    fn a_busy_machine_is_flagged() {
        let mut environment = Environment { load_before: "3.50 1 1".into(), ..Environment::default() };
        environment.judge();
        assert_eq!(environment.flags.len(), 1);
    }
}
