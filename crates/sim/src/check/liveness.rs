//! C14 quiet reigns: without faults epochs do not grow: at most 10 an hour.
//!
//! Progress after the heal is judged by the run's own bound; here is the other half. A cluster that elects again and
//! again makes progress in between, and nobody notices. Quiet begins some time after the last disturbance: a fault that
//! began or ended, a process that started or ended, a link that went up or down.
// spec: reliability.md §2 C14; protocol-traps 2.10 (a cut-off candidate inflates its term), 3.5 (duels)

use super::fact::{Event, Fact, Verdict, require};
use replog::Epoch;
use std::collections::VecDeque;

const RULE: &str = "C14 quiet reigns";
const HOUR_US: u64 = 3_600_000_000;
/// New epochs in a quiet hour.
pub const EPOCHS_PER_HOUR: usize = 10;

/// Epochs that began in quiet.
#[derive(Clone, Debug)]
pub struct Quiet {
    /// µs from a disturbance until quiet.
    settle_us: u64,
    disturbed_at: u64,
    highest: Epoch,
    began: VecDeque<u64>,
}

impl Quiet {
    /// Quiet begins `settle_us` after a disturbance.
    #[must_use]
    pub fn new(settle_us: u64) -> Self {
        Self { settle_us, disturbed_at: 0, highest: Epoch::ZERO, began: VecDeque::new() }
    }

    /// Looks at an event.
    ///
    /// # Errors
    /// See the module.
    pub fn see(&mut self, event: &Event<'_>) -> Verdict {
        match event.fact {
            Fact::Disturbed
            | Fact::Crashed { .. }
            | Fact::Started { .. }
            | Fact::Replaced
            | Fact::Link { .. } => {
                self.disturbed_at = event.at_us;
                self.began.clear();
                Ok(())
            }
            Fact::Stepped { after, .. } if after.epoch > self.highest => {
                self.highest = after.epoch;
                self.count(event.at_us)
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, now: u64) -> Verdict {
        if now < self.disturbed_at + self.settle_us {
            return Ok(());
        }
        while self.began.front().is_some_and(|t| t + HOUR_US < now) {
            self.began.pop_front();
        }
        self.began.push_back(now);
        require(self.began.len() <= EPOCHS_PER_HOUR, RULE, || {
            let quiet = (now - self.disturbed_at) / 1_000_000;
            let (n, highest) = (self.began.len(), self.highest);
            format!("{n} epochs began, the last is {highest}, though nothing was disturbed for {quiet} s")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{event, status};
    use super::*;
    use replog::{Phase, Role};

    fn epoch(quiet: &mut Quiet, at_us: u64, round: u32) -> Verdict {
        let after = status(Role::Electing, Phase::Election, round, 0);
        let event = event(1, 1, Fact::Stepped { before: &after, after: &after });
        quiet.see(&Event { at_us, ..event })
    }

    #[test]
    fn epochs_do_not_grow_without_a_cause() {
        let mut quiet = Quiet::new(1000);
        for round in 1..=10 {
            assert_eq!(epoch(&mut quiet, 5000 + u64::from(round), round), Ok(()));
        }
        assert_eq!(epoch(&mut quiet, 6000, 10), Ok(()), "known");
        let mut disturbed = quiet.clone();
        assert_eq!(epoch(&mut quiet, 6000, 11).unwrap_err().checker, RULE);
        let fault = event(0, 0, Fact::Disturbed);
        disturbed.see(&Event { at_us: 5999, ..fault }).unwrap();
        assert_eq!(epoch(&mut disturbed, 6000, 11), Ok(()));
    }

    #[test]
    fn an_hour_forgives() {
        let mut quiet = Quiet::new(0);
        for round in 1..=30 {
            assert_eq!(epoch(&mut quiet, u64::from(round) * HOUR_US / 9, round), Ok(()));
        }
    }
}
