//! Apache ZooKeeper as Debian packages it.
//!
//! Settings as its administrator's guide recommends: transaction log in a directory of its own (`dataLogDir`), a fixed
//! heap well inside the memory, `forceSync` on, `snapCount` 100,000, tickTime 2000 / initLimit 10 / syncLimit 5 as in
//! the sample file. The admin HTTP server and JMX are off, because nothing asks them. Both G1 and the class path are the
//! package's defaults.

use crate::cluster::{ClientPath, Launch, Ports, Step, System, Tuning};
use anyhow::{Result, bail};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Heap of one server.
const HEAP: &str = "-Xmx1g";
/// Where the package has its jars.
const JARS: &str = "/usr/share/java";

/// ZooKeeper.
#[derive(Debug)]
pub(crate) struct ZooKeeper {
    version: String,
}

impl ZooKeeper {
    /// The installed one.
    ///
    /// # Errors
    /// It is not installed.
    pub(crate) fn installed() -> Result<Self> {
        let jar = Path::new(JARS).join("zookeeper.jar");
        if !jar.exists() {
            bail!("peer zookeeper: {} is missing (Debian packages zookeeper and openjdk)", jar.display());
        }
        if !Path::new("/usr/bin/java").exists() {
            bail!("peer zookeeper: no /usr/bin/java (Debian package default-jre-headless)");
        }
        // The version is in the name of a link beside it.
        let versions = fs::read_dir(JARS)?.filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let version = name.strip_prefix("zookeeper-")?.strip_suffix(".jar")?;
            version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
        });
        Ok(Self { version: versions.max().unwrap_or_else(|| "of unknown version".to_owned()) })
    }
}

impl System for ZooKeeper {
    fn name(&self) -> &str {
        "zookeeper"
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn path(&self) -> ClientPath {
        ClientPath::Jute
    }

    fn warms_up(&self) -> bool {
        true
    }

    fn launch(&self, directory: &Path, node: usize, ports: &[Ports], tuning: &Tuning) -> Result<Launch> {
        let file = write_config(directory, node, ports, "admin.enableServer=false\nforceSync=yes\n")?;
        fs::write(
            directory.join("log4j.properties"),
            "log4j.rootLogger=INFO, CONSOLE\nlog4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender\n\
             log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout\n\
             log4j.appender.CONSOLE.layout.ConversionPattern=%d{yyyy-MM-dd'T'HH:mm:ss.SSS} %p %c{1} %m%n\n",
        )?;
        let class_path = format!(
            "{}:{JARS}/zookeeper.jar:{JARS}/slf4j-log4j12.jar:{JARS}/log4j-1.2.jar",
            directory.display()
        );
        let mut args = vec![HEAP.to_owned(), "-Duser.timezone=UTC".into()];
        args.push(format!("-Dzookeeper.snapCount={}", tuning.snapshot_every));
        // The in-memory proposals that a DIFF is served from; 500 is ZooKeeper's least, and then its log on disk
        // serves up to a third of the snapshot's size, unless that is switched off.
        args.push(format!("-Dzookeeper.commitLogCount={}", tuning.log_kept.max(500)));
        if tuning.log_kept == 0 {
            args.push("-Dzookeeper.snapshotSizeFactor=-1".into());
        }
        args.extend(["-cp".into(), class_path, "org.apache.zookeeper.server.quorum.QuorumPeerMain".into()]);
        args.push(file.display().to_string());
        let args = args.into_iter().map(Into::into).collect();
        Ok(Launch { program: "/usr/bin/java".into(), args, env: Vec::new() })
    }

    fn steps(&self, log: &str) -> Vec<(i64, Step)> {
        log.lines().filter_map(step).collect()
    }
}

/// Writes `zoo.cfg`, `myid` and the directories of `node`, the same for ZooKeeper and for ours; returns the file.
///
/// # Errors
/// Files that cannot be written.
pub(crate) fn write_config(directory: &Path, node: usize, ports: &[Ports], extra: &str) -> Result<PathBuf> {
    let (data, log) = (directory.join("data"), directory.join("log"));
    fs::create_dir_all(&data)?;
    fs::create_dir_all(&log)?;
    fs::write(data.join("myid"), format!("{node}\n"))?;
    let mut cfg = format!(
        "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\ndataLogDir={}\nclientPortAddress=127.0.0.1\n\
         clientPort={}\nmaxClientCnxns=0\n4lw.commands.whitelist=*\n{extra}",
        data.display(),
        log.display(),
        ports.get(node - 1).map_or(0, |p| p.client),
    );
    for (i, p) in ports.iter().enumerate() {
        writeln!(cfg, "server.{}=127.0.0.1:{}:{}", i + 1, p.peer, p.election)?;
    }
    let file = directory.join("zoo.cfg");
    fs::write(&file, cfg)?;
    Ok(file)
}

/// Reads one line such as `2026-01-02T03:04:05.678 INFO QuorumPeer LOOKING`.
fn step(line: &str) -> Option<(i64, Step)> {
    let (time, rest) = line.split_once(' ')?;
    let step = if rest.ends_with("QuorumPeer LOOKING") {
        Step::Detected
    } else if rest.contains("LEADER ELECTION TOOK") {
        Step::Elected
    } else if rest.contains("Have quorum of supporters") && rest.contains("starting up") {
        Step::Serving
    } else {
        return None;
    };
    Some((unix_us(time)?, step))
}

/// `2026-01-02T03:04:05.678` (or with µs, and a `Z`) in UTC as µs since the Unix epoch.
pub(crate) fn unix_us(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // Days from civil, after the Gregorian calendar's 400-year cycle.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + number(11..13)? * 3_600 + number(14..16)? * 60 + number(17..19)?;
    Some(seconds * 1_000_000 + number(20..23)? * 1_000 + number(23..26).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_times_become_unix_times() {
        assert_eq!(unix_us("1970-01-01T00:00:00.001"), Some(1_000));
        assert_eq!(unix_us("2024-02-29T12:34:56.789"), Some(1_709_210_096_789_000));
        assert_eq!(unix_us("1970-01-01T00:00:00.001002Z"), Some(1_002));
        assert_eq!(unix_us("garbage"), None);
    }

    #[test]
    fn the_steps_of_an_election_are_found_in_its_log() {
        let log = "2026-01-02T03:04:05.100 INFO QuorumPeer LOOKING\n\
                   2026-01-02T03:04:05.300 INFO Leader LEADING - LEADER ELECTION TOOK - 200 MS\n\
                   2026-01-02T03:04:05.350 INFO Leader Have quorum of supporters, sids: [[1, 3],[1, 3]]; starting up \
                   and setting last processed zxid: 0x200000000\nnoise\n";
        let steps: Vec<Step> =
            ZooKeeper { version: String::new() }.steps(log).into_iter().map(|(_, s)| s).collect();
        assert_eq!(steps, [Step::Detected, Step::Elected, Step::Serving]);
    }
}
