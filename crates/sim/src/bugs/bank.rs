//! The bank itself: for each mutant a run that finds it fast, kept in `bugs.toml`.

use super::{Bug, Ground, Trial};
use crate::Backend;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// `bugs.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bank {
    /// In the order of the list of mutants.
    #[serde(default, rename = "bug")]
    pub bugs: Vec<Entry>,
}

/// A mutant and the run that finds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name.
    pub mutant: String,
    /// What kind of run.
    pub ground: Ground,
    /// The protocol.
    pub backend: Backend,
    /// The seed.
    pub seed: u64,
    /// The checker that saw it when it was stored.
    pub checker: String,
    /// Runs that a fresh search needed then.
    pub runs: u64,
}

impl Entry {
    /// The run.
    #[must_use]
    pub fn trial(&self) -> Trial {
        Trial { ground: self.ground.clone(), backend: self.backend, seed: self.seed }
    }
}

impl Bank {
    /// Where it is kept.
    #[must_use]
    pub fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("bugs.toml")
    }

    /// Reads it; without a file it is empty.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn load() -> Result<Self, String> {
        let path = Self::path();
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(format!("{}: {e}", path.display())),
        }
    }

    /// Writes it, in the order of the list.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&mut self) -> Result<(), String> {
        let place = |e: &Entry| Bug::all().position(|b| b.name == e.mutant).unwrap_or(usize::MAX);
        self.bugs.sort_by_key(place);
        let text = toml::to_string(self).map_err(|e| e.to_string())?;
        let head = "# A run that finds each mutant; written by `sim bugs --fresh --save`, run again by `sim bugs`.\n\n";
        std::fs::write(Self::path(), format!("{head}{text}")).map_err(|e| e.to_string())
    }

    /// The entry of a mutant.
    #[must_use]
    pub fn entry(&self, mutant: &str) -> Option<&Entry> {
        self.bugs.iter().find(|e| e.mutant == mutant)
    }

    /// Keeps `entry` for its mutant.
    pub fn put(&mut self, entry: Entry) {
        self.bugs.retain(|e| e.mutant != entry.mutant);
        self.bugs.push(entry);
    }
}
