//! Keeps ARCHITECTURE.md true: who may depend on whom, where disks and clocks may be touched, and how long a file
//! may be. Reads manifests and sources; a rule that is broken is named together with the file that breaks it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const PROTOCOLS: [&str; 3] = ["zab", "raft", "paxos"];
const LINE_LIMIT: usize = 600;
/// Statements S1 to S42: what the product was commissioned from.
const REQUIREMENTS: u32 = 42;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Dependencies by section, from a manifest: `[dependencies]` → names, features included.
fn manifest(path: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut sections: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in fs::read_to_string(path).unwrap().lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name.trim_matches(['[', ']']).to_owned();
            // `[dependencies.name]` is the long form of a line in `[dependencies]`.
            if let Some((kind, name)) = section.clone().rsplit_once("dependencies.") {
                section = format!("{kind}dependencies");
                sections.entry(section.clone()).or_default().insert(name.to_owned());
                section = "fields of a dependency".to_owned();
            }
        } else if let Some((key, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            let name = key.trim().split('.').next().unwrap_or_default().to_owned();
            sections.entry(section.clone()).or_default().insert(name);
        }
    }
    sections
}

fn dependencies(of: &str, kind: &str) -> BTreeSet<String> {
    manifest(&root().join("crates").join(of).join("Cargo.toml")).remove(kind).unwrap_or_default()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn files(under: &Path, suffixes: &[&str], found: &mut Vec<PathBuf>) {
    for item in fs::read_dir(under).into_iter().flatten().flatten() {
        let path = item.path();
        let name = item.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') && name != "__pycache__" {
                files(&path, suffixes, found);
            }
        } else if suffixes.iter().any(|s| name.ends_with(s)) {
            found.push(path);
        }
    }
}

fn sources(suffixes: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["crates", "bench-harness", "tests"] {
        files(&root().join(folder), suffixes, &mut found);
    }
    assert!(found.len() > 20, "the sources are where they are looked for");
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The code of a file above its unit tests, without comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let above = text.split("#[cfg(test)]").next().unwrap_or_default();
    above.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn none(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn manifests_are_understood() {
    let found = manifest(&root().join("crates/wal/Cargo.toml"));
    assert!(found["dependencies"].contains("replog") && found["dev-dependencies"].contains("proptest"));
    assert!(!found["dependencies"].contains("proptest"));
}

#[test]
fn protocol_crates_stand_on_the_contract_alone() {
    let mut broken = Vec::new();
    for protocol in PROTOCOLS {
        for name in dependencies(protocol, "dependencies").difference(&set(&["replog", "serde", "bytes"])) {
            broken.push(format!("crates/{protocol} depends on {name}"));
        }
        for other in PROTOCOLS.iter().filter(|p| **p != protocol) {
            if dependencies(protocol, "dev-dependencies").contains(*other) {
                broken.push(format!("the tests of crates/{protocol} know {other}"));
            }
        }
    }
    for name in dependencies("replog", "dependencies").difference(&set(&["serde", "bytes"])) {
        broken.push(format!("crates/replog depends on {name}"));
    }
    none(broken);
}

#[test]
fn protocol_crates_have_no_std() {
    for name in PROTOCOLS.iter().chain(&["replog"]) {
        let lib = root().join("crates").join(name).join("src/lib.rs");
        let code = code(&lib);
        let declared = code.lines().any(|l| {
            l.trim() == "#![no_std]"
                || (l.starts_with("#![cfg_attr(not(") && l.contains("test") && l.ends_with(", no_std)]"))
        });
        assert!(declared, "{} does not declare no_std outside of tests", shown(&lib));
    }
}

/// Which crates of this workspace each may stand on. Development dependencies are free but for the protocols.
const ARROWS: [(&str, &[&str]); 14] = [
    ("replog", &[]),
    ("zab", &["replog"]),
    ("raft", &["replog"]),
    ("paxos", &["replog"]),
    ("wal", &["replog"]),
    ("jute", &[]),
    ("znode", &["jute"]),
    ("node", &["replog", "wal", "znode", "trace"]),
    ("server", &["replog", "wal", "node", "jute", "znode", "zab", "raft", "paxos", "trace"]),
    ("client", &["jute"]),
    ("history", &["jute"]),
    ("trace", &[]),
    (
        "sim",
        &[
            "replog", "zab", "raft", "paxos", "wal", "znode", "jute", "node", "server", "client", "history",
            "trace",
        ],
    ),
    (
        "bench-harness",
        &[
            "client", "jute", "node", "sim", "server", "replog", "zab", "raft", "paxos", "wal", "znode",
            "history", "trace",
        ],
    ),
];

#[test]
fn arrows_point_downwards() {
    let ours: BTreeSet<String> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut broken = Vec::new();
    for (name, allowed) in ARROWS {
        let folder = if name == "bench-harness" { root() } else { root().join("crates") };
        let sections = manifest(&folder.join(name).join("Cargo.toml"));
        for kind in ["dependencies", "build-dependencies"] {
            let found = sections.get(kind).cloned().unwrap_or_default();
            for other in found.intersection(&ours).filter(|o| !allowed.contains(&o.as_str())) {
                broken.push(format!("{name} must not depend on {other}"));
            }
        }
    }
    for item in fs::read_dir(root().join("crates")).unwrap().flatten() {
        let name = item.file_name().to_string_lossy().into_owned();
        if !ours.contains(&name) {
            broken.push(format!("crates/{name} has no row among the arrows"));
        }
    }
    none(broken);
}

// requirement: S34, S35
#[test]
fn protocols_are_optional_in_the_server_and_nowhere_else_required() {
    let path = root().join("crates/server/Cargo.toml");
    let text = fs::read_to_string(&path).unwrap();
    let features = manifest(&path).remove("features").unwrap_or_default();
    for protocol in PROTOCOLS {
        let line = text.lines().find(|l| l.starts_with(&format!("{protocol} = {{"))).unwrap_or_default();
        assert!(line.contains("optional = true"), "{protocol} is not optional in the server: {line}");
        assert!(features.contains(protocol), "the server has no feature {protocol}");
    }
}

#[test]
fn who_knows_one_protocol_crate_finds_everything_in_all() {
    let common =
        "broadcast discovery election invariant lib membership message options read snapshot state sync";
    let mut broken = Vec::new();
    for protocol in PROTOCOLS {
        for file in common.split(' ') {
            if !root().join(format!("crates/{protocol}/src/{file}.rs")).is_file() {
                broken.push(format!("crates/{protocol} has no {file}.rs"));
            }
        }
    }
    none(broken);
}

#[test]
fn cores_have_no_clock_no_threads_and_no_files() {
    let mut broken = Vec::new();
    for name in PROTOCOLS.iter().chain(&["replog", "znode", "jute"]) {
        let mut found = Vec::new();
        files(&root().join("crates").join(name).join("src"), &[".rs"], &mut found);
        for path in found {
            let code = code(&path);
            for banned in
                ["Instant::now", "SystemTime", "std::thread", "std::fs", "TcpStream", "UdpSocket", "tokio::"]
            {
                if code.contains(banned) {
                    broken.push(format!("{} uses {banned}", shown(&path)));
                }
            }
        }
    }
    none(broken);
}

#[test]
fn only_the_log_writes_files() {
    let mut broken = Vec::new();
    for name in ["replog", "zab", "raft", "paxos", "znode", "jute", "node", "client"] {
        let mut found = Vec::new();
        files(&root().join("crates").join(name).join("src"), &[".rs"], &mut found);
        for path in found {
            let code = code(&path);
            for banned in ["File::create", "fs::write", "OpenOptions", "fs::rename"] {
                if code.contains(banned) {
                    broken.push(format!("{} uses {banned}", shown(&path)));
                }
            }
        }
    }
    none(broken);
}

#[test]
fn production_code_knows_no_simulator() {
    let mut broken = Vec::new();
    for path in sources(&[".rs"]) {
        let here = shown(&path);
        let banned = ["cfg(", "sim)"].concat();
        if !here.starts_with("tests/") && code(&path).contains(&banned) {
            broken.push(format!("{here} has code for the simulator only"));
        }
    }
    none(broken);
}

#[test]
fn no_file_is_longer_than_the_house_allows() {
    let mut broken = Vec::new();
    for path in sources(&[".rs", ".py"]) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > LINE_LIMIT {
            broken.push(format!("{} has {lines} lines, the limit is {LINE_LIMIT}", shown(&path)));
        }
    }
    none(broken);
}

#[test]
fn no_path_of_one_machine() {
    let homes = ["work", "root", "home"].map(|h| format!("/{h}/"));
    let mut broken = Vec::new();
    for path in sources(&[".rs", ".py", ".toml", ".md", ".sh"]) {
        for (number, line) in (1..).zip(fs::read_to_string(&path).unwrap().lines()) {
            // A znode path in a test is no path of a machine: only what follows a space, a quote or an equals sign
            // and goes three levels deep is looked at.
            let deep = homes.iter().any(|h| {
                line.split(h.as_str()).skip(1).any(|rest| {
                    let word: String = rest.chars().take_while(|c| !c.is_whitespace() && *c != '"').collect();
                    word.matches('/').count() >= 2
                })
            });
            if deep {
                broken.push(format!("{}:{number}: {}", shown(&path), line.trim()));
            }
        }
    }
    none(broken);
}

/// Numbers named on a line such as `// requirement: S3, S17`.
fn named(line: &str) -> Vec<u32> {
    let Some((_, rest)) = line.split_once("requirement:").or_else(|| line.split_once("requirements:")) else {
        return Vec::new();
    };
    let words = rest.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter_map(|w| w.strip_prefix('S')?.parse().ok()).collect()
}

/// Prints, with `cargo test -p tests --test arrows -- --nocapture requirement`, which statement is tested where.
#[test]
fn requirement_index() {
    assert_eq!(named("// requirement: S3, S17 (in part)"), [3, 17]);
    let mut index: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for path in sources(&[".rs", ".py"]).into_iter().chain(scripts()) {
        for line in fs::read_to_string(&path).unwrap().lines() {
            for number in named(line) {
                index.entry(number).or_default().insert(shown(&path));
            }
        }
    }
    let unknown: Vec<String> = index
        .iter()
        .filter(|(n, _)| !(1..=REQUIREMENTS).contains(*n))
        .map(|(n, files)| format!("S{n} does not exist: {files:?}"))
        .collect();
    for number in 1..=REQUIREMENTS {
        let files = index.get(&number).map(|f| f.iter().cloned().collect::<Vec<_>>().join(" "));
        println!("S{number:<3} {}", files.as_deref().unwrap_or("-"));
    }
    none(unknown);
}

/// Golden scripts name requirements in their comments too.
fn scripts() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&root().join("tests"), &[".script", ".txt", ".golden"], &mut found);
    found
}
