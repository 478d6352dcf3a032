//! Whom an action means, and when a step's moment has come.

use super::{Simulated, World};
use crate::schedule::{Target, Trigger};
use replog::{LogId, Phase, Role, Status};

impl<P: Simulated> World<'_, P> {
    /// The serving leader of the highest epoch, among nodes that run.
    pub(crate) fn leader(&self) -> Option<usize> {
        let serving = self.hosts.iter().enumerate().filter(|(_, h)| h.is_up()).filter_map(|(i, h)| {
            let status = h.process.as_ref()?.status;
            (status.role == Role::Leader && status.phase == Phase::Broadcast).then_some((status.epoch, i))
        });
        serving.max().map(|(_, i)| i)
    }

    fn status(&self, i: usize) -> Option<Status> {
        self.hosts[i].process.as_ref().map(|p| p.status)
    }

    fn last(&self, i: usize) -> LogId {
        self.status(i).map_or(LogId::ZERO, |s| s.last)
    }

    /// The nodes that `target` means; remembers them for [`Target::Same`].
    pub(crate) fn targets(&mut self, target: Target) -> Vec<usize> {
        let nodes = self.hosts.len();
        let found: Vec<usize> = match target {
            Target::All => (0..nodes).collect(),
            Target::Same => return self.same.clone(),
            Target::Node(id) => (0..nodes).filter(|i| self.hosts[*i].id.0 == id).collect(),
            Target::Any => vec![self.rng.below(nodes as u64) as usize],
            Target::Leader => {
                let longest = || (0..nodes).max_by_key(|i| (self.last(*i), *i));
                self.leader().or_else(longest).into_iter().collect()
            }
            Target::Down => {
                let out = (0..nodes).filter_map(|i| self.hosts[i].out_since.map(|since| (since, i)));
                out.min().map(|(_, i)| i).into_iter().collect()
            }
            Target::Follower | Target::BestFollower | Target::WorstFollower => {
                let leader = self.leader();
                let mut followers: Vec<usize> = (0..self.settings.voters as usize)
                    .filter(|i| Some(*i) != leader && self.hosts[*i].is_up())
                    .collect();
                followers.sort_by_key(|i| (self.last(*i), *i));
                match target {
                    Target::BestFollower => followers.pop().into_iter().collect(),
                    Target::WorstFollower => followers.first().copied().into_iter().collect(),
                    _ if followers.is_empty() => Vec::new(),
                    _ => vec![followers[self.rng.below(followers.len() as u64) as usize]],
                }
            }
        };
        self.same.clone_from(&found);
        found
    }

    /// Whether the moment of a step has come. `since`: of the step before.
    pub(crate) fn is_time(&self, trigger: &Trigger, since: &Since) -> bool {
        match *trigger {
            Trigger::At(ms) => self.now >= ms * 1_000_000,
            Trigger::After(ms) => self.now >= since.at + ms * 1_000_000,
            Trigger::Leader {} => self.leader().is_some(),
            Trigger::NoLeader {} => self.leader().is_none(),
            Trigger::Electing {} => {
                (0..self.hosts.len()).any(|i| self.status(i).is_some_and(|s| s.role == Role::Electing))
            }
            Trigger::LagOver(entries) => self.leader().is_some_and(|leader| {
                let top = self.last(leader).index.0;
                let behind = |i: usize| top > self.last(i).index.0 + entries;
                (0..self.hosts.len()).any(behind)
            }),
            Trigger::Committed(entries) => self.ledger.top() >= since.committed + entries,
            Trigger::SnapshotSent {} => self.snapshots_sent > since.sent,
            Trigger::SnapshotTaken {} => self.snapshots_taken > since.taken,
        }
    }

    /// Where things stand after a step.
    pub(crate) fn since(&self) -> Since {
        Since {
            at: self.now,
            committed: self.ledger.top(),
            sent: self.snapshots_sent,
            taken: self.snapshots_taken,
        }
    }
}

/// What triggers count from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    pub(crate) at: u64,
    committed: u64,
    sent: u64,
    taken: u64,
}
