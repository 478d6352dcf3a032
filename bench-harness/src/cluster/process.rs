//! Child processes that never outlive the harness.
//!
//! ```text
//!  spawn ─► registry ─┬─ drop ──────────────► SIGKILL, wait, forget
//!                     ├─ SIGINT, SIGTERM ───► end_all(): SIGKILL for each registered pid, exit 130
//!                     └─ harness killed ────► setpriv --pdeathsig KILL (where util-linux has it)
//! ```
//!
//! Invariants: signals go to pids in the registry only, and a pid is in the registry only while its `Child` was not
//! waited for, so the number cannot belong to somebody else's process.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Every process that runs now.
static REGISTRY: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
/// Directories to remove when the harness is interrupted.
static DIRECTORIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Executable.
    pub(crate) program: PathBuf,
    /// Arguments.
    pub(crate) args: Vec<OsString>,
    /// Environment on top of the harness's own.
    pub(crate) env: Vec<(String, String)>,
}

impl Launch {
    /// As one would type it.
    pub(crate) fn command_line(&self) -> String {
        let mut line = self.program.display().to_string();
        for arg in &self.args {
            line.push(' ');
            line.push_str(&arg.to_string_lossy());
        }
        line
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    pid: Pid,
}

impl ServerProcess {
    /// Starts `launch`; its output is appended to `log`.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn spawn(launch: &Launch, directory: &Path, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let mut command = if Path::new("/usr/bin/setpriv").exists() {
            let mut command = Command::new("/usr/bin/setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).arg(&launch.program);
            command
        } else {
            Command::new(&launch.program)
        };
        command
            .args(&launch.args)
            .envs(launch.env.iter().cloned())
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut child = command.spawn().with_context(|| format!("starting {}", launch.command_line()))?;
        let Some(pid) = Pid::from_raw(child.id() as i32) else {
            let _ = child.kill();
            anyhow::bail!("a process without an id");
        };
        locked(&REGISTRY).push(pid);
        Ok(Self { child, pid })
    }

    /// Process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        ensure!(self.is_running(), "process {} has ended", self.id());
        kill_process(self.pid, signal).with_context(|| format!("signalling {}", self.id()))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        locked(&REGISTRY).retain(|p| *p != self.pid);
    }
}

/// Remembers a directory of this run.
pub(crate) fn register_directory(directory: &Path) {
    locked(&DIRECTORIES).push(directory.to_owned());
}

/// Forgets it.
pub(crate) fn forget_directory(directory: &Path) {
    locked(&DIRECTORIES).retain(|d| d != directory);
}

/// Kills every process that is still registered and removes the registered directories.
pub(crate) fn end_all() {
    for pid in locked(&REGISTRY).drain(..) {
        let _ = kill_process(pid, Signal::KILL);
    }
    for directory in locked(&DIRECTORIES).drain(..) {
        let _ = std::fs::remove_dir_all(directory);
    }
}

/// Pids that are registered now.
#[cfg(test)]
pub(crate) fn registered() -> Vec<u32> {
    locked(&REGISTRY).iter().map(|p| p.as_raw_nonzero().get() as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn sleeper(directory: &Path) -> ServerProcess {
        let launch = Launch { program: "/bin/sleep".into(), args: vec!["600".into()], env: Vec::new() };
        ServerProcess::spawn(&launch, directory, &directory.join("log")).unwrap()
    }

    fn wait_for(what: impl Fn() -> bool) {
        let since = Instant::now();
        while !what() {
            assert!(since.elapsed() < Duration::from_secs(10), "the condition never came true");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_dropped_process_is_gone_and_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let process = sleeper(directory.path());
        let id = process.id();
        assert!(registered().contains(&id));
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
        assert!(!registered().contains(&id));
    }

    #[test]
    fn freezing_stops_a_process_and_killing_ends_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = sleeper(directory.path());
        let state = {
            let path = format!("/proc/{}/stat", process.id());
            move || std::fs::read_to_string(&path).unwrap().rsplit(')').next().unwrap().trim().chars().next()
        };
        process.signal(Signal::STOP).unwrap();
        wait_for(|| state() == Some('T'));
        process.signal(Signal::CONT).unwrap();
        wait_for(|| state() == Some('S'));
        process.signal(Signal::KILL).unwrap();
        wait_for(|| state() == Some('Z'));
        assert!(!process.is_running());
        assert!(process.signal(Signal::CONT).is_err(), "a dead process is never signalled");
    }
}
