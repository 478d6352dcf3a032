//! Golden scripts. `scripts/<protocol>/*` hold their own output; each script of `scripts/shared` is run on all three
//! protocols and compared with the three outputs beside it, so that a reader sees the protocols differ line by line.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // test support: panics are verdicts

use replog::ReplicatedLog;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};
use tests::Script;

type Outcome = Result<(), Box<dyn Error>>;

fn scripts(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(folder)
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(scripts(folder)).expect("the folder of scripts");
    let mut found: Vec<PathBuf> = entries
        .map(|e| e.expect("a directory entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort();
    found
}

/// Options by name, the same words for every protocol where they mean the same.
macro_rules! tune {
    ($options:ident, $key:ident, $value:ident $(, $name:literal => $set:expr)*) => {
        match $key {
            "keep" => $options.limits.keep_entries = $value.parse()?,
            "window" => $options.limits.window_commands = $value.parse()?,
            $($name => $set,)*
            other => return Err(format!("unknown option {other}").into()),
        }
    };
}

fn tune_zab(o: &mut zab::Options, key: &str, value: &str) -> Outcome {
    tune!(o, key, value);
    Ok(())
}

fn tune_raft(o: &mut raft::Options, key: &str, value: &str) -> Outcome {
    tune!(o, key, value,
        "pre_vote" => o.pre_vote = value.parse()?,
        "check_quorum" => o.check_quorum = value.parse()?,
        "stickiness" => o.stickiness = value.parse()?,
        "eager_commit" => o.eager_commit = value.parse()?);
    Ok(())
}

fn tune_paxos(o: &mut paxos::Options, key: &str, value: &str) -> Outcome {
    tune!(o, key, value,
        "eager_commit" => o.eager_commit = value.parse()?,
        "classic" => o.classic = value.parse()?);
    Ok(())
}

fn run_own<P: ReplicatedLog>(tune: fn(&mut P::Options, &str, &str) -> Outcome) {
    let found = files(P::NAME, "script");
    assert!(!found.is_empty(), "no scripts for {}", P::NAME);
    for path in found {
        goldenscript::run(&mut Script::<P>::new(tune), &path)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

fn run_shared<P: ReplicatedLog>(tune: fn(&mut P::Options, &str, &str) -> Outcome) {
    let found = files("shared", "script");
    assert!(!found.is_empty(), "no shared scripts");
    for path in found {
        let script = fs::read_to_string(&path).expect("a readable script");
        let output = goldenscript::generate(&mut Script::<P>::new(tune), &script)
            .unwrap_or_else(|e| panic!("{} on {}: {e}", path.display(), P::NAME));
        let golden = path.with_extension(P::NAME);
        if env::var_os("UPDATE_GOLDENFILES").is_some() {
            fs::write(&golden, output).expect("a writable output");
            continue;
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert!(
            output == expected,
            "{} differs (UPDATE_GOLDENFILES=1 writes it anew):\n{output}",
            golden.display()
        );
    }
}

#[test]
fn zab_scripts() {
    run_own::<zab::Zab>(tune_zab);
}

#[test]
fn raft_scripts() {
    run_own::<raft::Raft>(tune_raft);
}

#[test]
fn paxos_scripts() {
    run_own::<paxos::Paxos>(tune_paxos);
}

#[test]
fn shared_scripts_on_zab() {
    run_shared::<zab::Zab>(tune_zab);
}

#[test]
fn shared_scripts_on_raft() {
    run_shared::<raft::Raft>(tune_raft);
}

#[test]
fn shared_scripts_on_paxos() {
    run_shared::<paxos::Paxos>(tune_paxos);
}
