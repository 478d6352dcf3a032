//! Cases: runs that have a short name, and the plan behind it.
//!
//! ```text
//!  case  = backend, seed, source (swarm │ row N │ schedule NAME), variant
//!  plan  = backend, seed, schedule                   the same for the same case at the same commit
//!  again = sim replay SEED --backend B [--row N | --schedule NAME] [--variant textbook]
//! ```
//!
//! Matrix, soak and CI run cases and print the command that runs one of them again.

use crate::rows::{ROWS, Shown};
use crate::schedule::{LoadError, Schedule, Variant};
use crate::{Backend, Plan, swarm};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter};
use std::path::Path;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Case {
    /// Which protocol.
    pub backend: Backend,
    /// The seed.
    pub seed: u64,
    /// Where its schedule comes from.
    pub source: Source,
    /// As shipped or as in the paper; left out: as the schedule has it, or shipped.
    pub variant: Option<Variant>,
}

/// Where a schedule comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Drawn from the seed.
    Swarm,
    /// One of the row's named schedules, perturbed by the seed.
    Row(u8),
    /// This one of the named schedules or this file, as it is written.
    Schedule(String),
}

impl Case {
    /// The plan of this case.
    ///
    /// # Errors
    /// If there is no such row or schedule, or it cannot be read.
    pub fn plan(&self) -> Result<Plan, LoadError> {
        let mut schedule = match &self.source {
            Source::Swarm => swarm::draw(self.seed),
            Source::Row(row) => of_row(*row, self.seed)?,
            Source::Schedule(name) => of_name(name)?,
        };
        let variant = self.variant.or(schedule.cluster.variant).unwrap_or_default();
        schedule.cluster.variant = Some(variant);
        Ok(Plan { backend: self.backend, seed: self.seed, schedule })
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "sim replay {} --backend {}", self.seed, self.backend.name())?;
        match &self.source {
            Source::Swarm => {}
            Source::Row(row) => write!(f, " --row {row}")?,
            Source::Schedule(name) => write!(f, " --schedule {name}")?,
        }
        self.variant.map_or(Ok(()), |v| write!(f, " --variant {}", v.name()))
    }
}

/// The schedules of a row take turns with the seed: seeds 0, 1, 2 of a row with three are one of each. Row 43 is the swarm.
fn of_row(row: u8, seed: u64) -> Result<Schedule, LoadError> {
    if ROWS.iter().any(|r| r.number == row && r.shown == Shown::Swarm) {
        return Ok(swarm::draw(seed));
    }
    let mut all: Vec<Schedule> = Schedule::named()?.into_iter().filter(|s| s.rows.contains(&row)).collect();
    let count = all.len() as u64;
    if count == 0 {
        return Err(LoadError {
            file: format!("row {row}"),
            line: 0,
            text: "no named schedule shows this row: see `sim matrix`".to_owned(),
        });
    }
    let chosen = all.swap_remove(usize::try_from(seed % count).unwrap_or(0));
    Ok(chosen.perturbed(seed / count))
}

fn of_name(name: &str) -> Result<Schedule, LoadError> {
    let path = Path::new(name);
    if path.extension().is_some_and(|e| e == "toml") {
        return Schedule::load(path);
    }
    Schedule::named()?.into_iter().find(|s| s.name == name).ok_or_else(|| LoadError {
        file: name.to_owned(),
        line: 0,
        text: "neither a .toml file nor one of the named schedules: see `sim schedules`".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(seed: u64, source: Source) -> Case {
        Case { backend: Backend::Raft, seed, source, variant: None }
    }

    #[test]
    fn a_case_names_its_plan() {
        let c = case(7, Source::Row(13));
        assert_eq!(c.to_string(), "sim replay 7 --backend raft --row 13");
        assert_eq!(c.plan().unwrap(), c.plan().unwrap());
        assert_ne!(c.plan().unwrap().schedule, case(10, Source::Row(13)).plan().unwrap().schedule);
        let textbook = Case { variant: Some(Variant::Textbook), ..case(0, Source::Row(9)) };
        assert_eq!(textbook.to_string(), "sim replay 0 --backend raft --row 9 --variant textbook");
        assert_eq!(textbook.plan().unwrap().schedule.cluster.variant, Some(Variant::Textbook));
    }

    #[test]
    fn seeds_take_turns_among_the_schedules_of_a_row() {
        let names: Vec<String> =
            (0..3).map(|s| case(s, Source::Row(13)).plan().unwrap().schedule.name).collect();
        assert_eq!(names, ["13-loss-01", "13-loss-10", "13-loss-30"]);
    }

    #[test]
    fn the_row_of_everything_is_the_swarm() {
        let [of_row, swarm] = [Source::Row(43), Source::Swarm].map(|source| case(5, source).plan().unwrap());
        assert_eq!(of_row, swarm);
    }

    #[test]
    fn unknown_rows_and_names_are_errors() {
        for source in [Source::Row(36), Source::Row(99), Source::Schedule("99-nothing".into())] {
            assert!(case(0, source).plan().is_err());
        }
    }
}
