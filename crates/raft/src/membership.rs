//! membership: which configuration is in force, and who is in it (paper §6).
//!
//! A configuration counts from the moment at which its entry is appended, not committed, and is rolled back with
//! the entry (protocol-traps 2.13). Changing it is not supported yet: `Reconfigure` is refused, but entries that
//! hold configurations are respected wherever they come from.
//!
//! Invariant: `configs` ascends by `from`; its first element is committed.

use crate::message::Message;
use crate::state::Raft;
use alloc::vec::Vec;
use replog::{Configuration, ConfigurationAt, Effect, Effects, Index};

/// Ascending by index, one for each; of two for the same index the later one.
pub(crate) fn in_order(mut configurations: Vec<ConfigurationAt>) -> Vec<ConfigurationAt> {
    configurations.reverse();
    configurations.sort_by_key(|c| c.from);
    configurations.dedup_by_key(|c| c.from);
    configurations
}

impl Raft {
    /// The configuration in force.
    pub(crate) fn config(&self) -> &Configuration {
        // `open` puts one in, and truncation stops at the committed one.
        static NOBODY: Configuration = Configuration {
            voters: Vec::new(),
            outgoing: Vec::new(),
            learners: Vec::new(),
            observers: Vec::new(),
            rule: replog::QuorumRule::Majority,
        };
        self.configs.last().map_or(&NOBODY, |c| &c.configuration)
    }

    /// Whether the configuration in force may still be rolled back.
    pub(crate) fn has_pending_config(&self) -> bool {
        self.configs.last().is_some_and(|c| c.from > self.committed)
    }

    /// A configuration was appended.
    pub(crate) fn on_config_appended(
        &mut self,
        from: Index,
        configuration: Configuration,
        out: &mut Effects<Message>,
    ) {
        out.push(Effect::Configured { at: from, configuration: configuration.clone(), settled: false });
        self.configs.push(ConfigurationAt { from, configuration });
    }

    /// Entries from `from` on are gone, and the configurations in them.
    pub(crate) fn on_config_truncated(&mut self, from: Index, out: &mut Effects<Message>) {
        let before = self.configs.len();
        self.configs.retain(|c| c.from < from);
        if self.configs.len() == before {
            return;
        }
        self.settled = self.settled.min(self.configs.len());
        if let Some(last) = self.configs.last() {
            out.push(Effect::Configured {
                at: last.from,
                configuration: last.configuration.clone(),
                settled: last.from <= self.committed,
            });
        }
    }

    /// The commit index moved: configurations below it can no longer be rolled back.
    pub(crate) fn settle_configs(&mut self, out: &mut Effects<Message>) {
        let committed = self.committed;
        let settled = self.configs.iter().take_while(|c| c.from <= committed).count();
        if settled <= self.settled {
            return;
        }
        for config in self.configs.iter().take(settled).skip(self.settled) {
            out.push(Effect::Configured {
                at: config.from,
                configuration: config.configuration.clone(),
                settled: true,
            });
        }
        self.configs.drain(..settled.saturating_sub(1));
        self.settled = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use replog::NodeId;

    #[test]
    fn of_two_configurations_at_one_index_the_later_counts() {
        let at = |from, voters: u32| ConfigurationAt {
            from: Index(from),
            configuration: Configuration::of_voters((1..=voters).map(NodeId)),
        };
        assert_eq!(in_order(vec![at(0, 3), at(7, 5), at(0, 4)]), [at(0, 4), at(7, 5)]);
    }
}
