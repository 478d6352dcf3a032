//! Numbers and configurations as bytes: little-endian, hand-written, no lengths trusted.
//!
//! [`Input`] takes from the front of a slice and says `None` when it is too short; a count is believed only as far
//! as bytes follow.

use replog::{Configuration, ConfigurationAt, Epoch, Index, LogId, NodeId, QuorumRule, Voter};

/// Appends to a buffer.
pub(crate) trait Output {
    fn put_u8(&mut self, v: u8);
    fn put_u32(&mut self, v: u32);
    fn put_u64(&mut self, v: u64);

    fn put_epoch(&mut self, v: Epoch) {
        self.put_u32(v.round);
        self.put_u32(v.proposer);
    }

    fn put_log_id(&mut self, v: LogId) {
        self.put_epoch(v.epoch);
        self.put_u64(v.index.0);
    }
}

impl Output for Vec<u8> {
    fn put_u8(&mut self, v: u8) {
        self.push(v);
    }

    fn put_u32(&mut self, v: u32) {
        self.extend_from_slice(&v.to_le_bytes());
    }

    fn put_u64(&mut self, v: u64) {
        self.extend_from_slice(&v.to_le_bytes());
    }
}

/// Takes from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn epoch(&mut self) -> Option<Epoch> {
        Some(Epoch { round: self.u32()?, proposer: self.u32()? })
    }

    pub(crate) fn log_id(&mut self) -> Option<LogId> {
        Some(LogId { epoch: self.epoch()?, index: Index(self.u64()?) })
    }

    /// `count` items, by a reader of one.
    fn many<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(one(self)?);
        }
        Some(all)
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A configuration: voters, outgoing voters, learners, observers, rule.
pub(crate) fn put_configuration(into: &mut Vec<u8>, c: &Configuration) {
    for voters in [&c.voters, &c.outgoing] {
        into.put_u32(count(voters.len()));
        for voter in voters {
            into.put_u32(voter.node.0);
            into.put_u32(voter.weight);
        }
    }
    for nodes in [&c.learners, &c.observers] {
        into.put_u32(count(nodes.len()));
        nodes.iter().for_each(|n| into.put_u32(n.0));
    }
    match c.rule {
        QuorumRule::Majority => into.put_u8(0),
        QuorumRule::Flexible { election, replication } => {
            into.put_u8(1);
            into.put_u32(election);
            into.put_u32(replication);
        }
    }
}

/// Inverse of [`put_configuration`].
pub(crate) fn configuration(from: &mut Input<'_>) -> Option<Configuration> {
    let voter = |i: &mut Input<'_>| Some(Voter { node: NodeId(i.u32()?), weight: i.u32()? });
    let node = |i: &mut Input<'_>| i.u32().map(NodeId);
    Some(Configuration {
        voters: from.many(voter)?,
        outgoing: from.many(voter)?,
        learners: from.many(node)?,
        observers: from.many(node)?,
        rule: match from.u8()? {
            0 => QuorumRule::Majority,
            1 => QuorumRule::Flexible { election: from.u32()?, replication: from.u32()? },
            _ => return None,
        },
    })
}

/// Configurations with their first indexes.
pub(crate) fn put_configurations(into: &mut Vec<u8>, all: &[ConfigurationAt]) {
    into.put_u32(count(all.len()));
    for c in all {
        into.put_u64(c.from.0);
        put_configuration(into, &c.configuration);
    }
}

/// Inverse of [`put_configurations`].
pub(crate) fn configurations(from: &mut Input<'_>) -> Option<Vec<ConfigurationAt>> {
    from.many(|i| Some(ConfigurationAt { from: Index(i.u64()?), configuration: configuration(i)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_come_back() {
        let mut one = Configuration::of_voters([NodeId(3), NodeId(1)]).with_observers([NodeId(9)]);
        one.learners = vec![NodeId(7)];
        one.outgoing = vec![Voter { node: NodeId(2), weight: 5 }];
        one.rule = QuorumRule::Flexible { election: 3, replication: 2 };
        let all = vec![
            ConfigurationAt { from: Index(0), configuration: Configuration::default() },
            ConfigurationAt { from: Index(77), configuration: one },
        ];
        let mut bytes = Vec::new();
        put_configurations(&mut bytes, &all);
        assert_eq!(configurations(&mut Input(&bytes)), Some(all));
        for cut in 0..bytes.len() {
            assert_eq!(configurations(&mut Input(&bytes[..cut])), None, "cut at {cut}");
        }
    }

    #[test]
    fn a_lying_count_is_not_believed() {
        let bytes = [0xff; 12];
        assert_eq!(configurations(&mut Input(&bytes)), None);
    }
}
