//! Switches of the cores, one by one: what a plan sets apart from its variant.
//!
//! ```toml
//! [cluster.switches]
//! lease = true
//! frame_bytes = 600
//! ```
//!
//! A variant ([`Variant`](super::Variant)) is a whole set of them, as shipped or as in the paper. Here single ones are
//! turned, so that runs see combinations that neither has. A protocol takes those that it has and ignores the others.
//! Two of them rest on assumptions, which [`Switches::check`] asks of the whole plan:
//!
//! * leases: clocks that run apart by less than a tenth ([`Switches::DRIFT`]);
//! * quorums for elections above a majority: data damaged nowhere, because fewer copies of it exist.

use super::{Action, Schedule};
use core::fmt::Write as _;
use replog::{Configuration, QuorumRule, Rng};
use serde::{Deserialize, Serialize};

/// See the module. What is left out, the variant decides (sizes: the seed).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switches {
    /// Raft's PreVote, Multi-Paxos' asking before a phase 1.
    pub pre_vote: Option<bool>,
    /// Raft: a leader that hears no quorum steps down.
    pub check_quorum: Option<bool>,
    /// Raft, Multi-Paxos: who hears a leader votes for nobody else.
    pub stickiness: Option<bool>,
    /// Raft, Multi-Paxos: followers are told at once what is committed.
    pub eager_commit: Option<bool>,
    /// Raft, Multi-Paxos: leases, and every other barrier asks for one.
    pub lease: Option<bool>,
    /// Classic Paxos: a phase 1 for every command.
    pub classic: Option<bool>,
    /// Zab: candidates that reach no quorum are skipped.
    pub connectivity: Option<bool>,
    /// Zab: an election is closed after `ZooKeeper`'s 200 ms.
    pub fixed_wait: Option<bool>,
    /// Zab: the common point is searched entry by entry.
    pub entry_search: Option<bool>,
    /// Raft, Multi-Paxos: voters that an election needs, a majority or more; a commit needs the rest and one more
    /// (Flexible Paxos).
    pub election_quorum: Option<u32>,
    /// Commands beyond the committed prefix.
    pub window_commands: Option<u32>,
    /// Bytes of entries in one frame.
    pub frame_bytes: Option<u64>,
    /// Raft: bytes of entries under way to one follower.
    pub inflight_bytes: Option<u64>,
}

impl Switches {
    /// How much too fast or too slow a clock may run where leases are served, per mille: two that differ so much drift
    /// apart by less than the tenth of an election timeout that a lease is shorter.
    pub const DRIFT: u32 = 40;

    /// Whether everything is left to variant and seed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Those of a seed: none in every other one, else a few.
    pub(crate) fn draw(seed: u64, voters: u32) -> Self {
        // Of its own: what the seed drew before there were switches, it still draws.
        let mut rng = Rng::new(seed ^ 0x7377_6974_6368);
        let r = &mut rng;
        if r.one_in(2) {
            return Self::default();
        }
        let switch = |r: &mut Rng| r.one_in(4).then(|| r.one_in(2));
        let majority = voters / 2 + 1;
        Self {
            pre_vote: switch(r),
            check_quorum: switch(r),
            stickiness: switch(r),
            eager_commit: switch(r),
            lease: r.one_in(3).then_some(true),
            classic: r.one_in(8).then_some(true),
            connectivity: switch(r),
            fixed_wait: switch(r),
            entry_search: switch(r),
            election_quorum: (voters >= 4 && r.one_in(6))
                .then(|| (majority + u32::from(r.one_in(2))).min(voters - 1)),
            window_commands: r.one_in(4).then(|| 1 + r.below(6) as u32),
            frame_bytes: r.one_in(3).then(|| 200 + r.below(2000)),
            inflight_bytes: r.one_in(4).then(|| 200 + r.below(4000)),
        }
    }

    /// Whether commands go one or a few at a time. While disks are slow the requests that clients' servers send again
    /// pile up before such a leader, and afterwards it works them off at little more than the clients' own rate.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.classic == Some(true) || self.window_commands.is_some()
    }

    /// An action within what they assume: clocks.
    pub(crate) fn assumed(&self, act: Action) -> Action {
        match act {
            Action::ClockRate { node, per_mille } if self.lease == Some(true) => {
                let per_mille = per_mille.clamp(1000 - Self::DRIFT, 1000 + Self::DRIFT);
                Action::ClockRate { node, per_mille }
            }
            act => act,
        }
    }

    /// The members with the quorums asked for.
    pub(crate) fn quorums(&self, mut members: Configuration, voters: u32) -> Configuration {
        if let Some(election) = self.election_quorum {
            members.rule = QuorumRule::Flexible { election, replication: voters + 1 - election.min(voters) };
        }
        members
    }

    /// Checks what types cannot say, and what leases and quorums ask of the rest of the plan.
    pub(crate) fn check(&self, plan: &Schedule) -> Result<(), String> {
        let cluster = &plan.cluster;
        super::load::range("switches.window_commands", self.window_commands, 1, 1_000_000)?;
        super::load::range("switches.frame_bytes", self.frame_bytes, 1, 1 << 30)?;
        super::load::range("switches.inflight_bytes", self.inflight_bytes, 1, 1 << 30)?;
        if let Some(election) = self.election_quorum {
            let Some(voters) = cluster.voters else {
                return Err("switches.election_quorum needs cluster.voters".into());
            };
            super::load::range("switches.election_quorum", Some(election), voters / 2 + 1, voters)?;
        }
        if self.lease == Some(true) {
            let far = |per_mille: u32| per_mille.abs_diff(1000) > Self::DRIFT;
            let jumps = |a: &Action| matches!(*a, Action::ClockRate { per_mille, .. } if far(per_mille));
            let drifts = cluster.drift_per_mille.is_some_and(|d| d > Self::DRIFT);
            if drifts || plan.steps.iter().any(|s| jumps(&s.act)) {
                return Err(format!("switches.lease needs clocks within {} per mille", Self::DRIFT));
            }
        }
        Ok(())
    }

    /// In a line's words, empty if nothing is set.
    pub(crate) fn in_words(&self) -> String {
        let mut words = String::new();
        let flags = [
            ("pre_vote", self.pre_vote),
            ("check_quorum", self.check_quorum),
            ("stickiness", self.stickiness),
            ("eager_commit", self.eager_commit),
            ("lease", self.lease),
            ("classic", self.classic),
            ("connectivity", self.connectivity),
            ("fixed_wait", self.fixed_wait),
            ("entry_search", self.entry_search),
        ];
        for (name, on) in flags {
            if let Some(on) = on {
                let _ = write!(words, " {name} {}", if on { "on" } else { "off" });
            }
        }
        let sizes = [
            ("election_quorum", self.election_quorum.map(u64::from)),
            ("window_commands", self.window_commands.map(u64::from)),
            ("frame_bytes", self.frame_bytes),
            ("inflight_bytes", self.inflight_bytes),
        ];
        for (name, size) in sizes {
            if let Some(size) = size {
                let _ = write!(words, " {name} {size}");
            }
        }
        words.trim_start().to_owned()
    }

    /// One switch less each: what the shrinker tries.
    pub(crate) fn fewer(&self) -> Vec<Self> {
        let without = |take: fn(&mut Self)| {
            let mut fewer = self.clone();
            take(&mut fewer);
            fewer
        };
        let all: [fn(&mut Self); 13] = [
            |s| s.pre_vote = None,
            |s| s.check_quorum = None,
            |s| s.stickiness = None,
            |s| s.eager_commit = None,
            |s| s.lease = None,
            |s| s.classic = None,
            |s| s.connectivity = None,
            |s| s.fixed_wait = None,
            |s| s.entry_search = None,
            |s| s.election_quorum = None,
            |s| s.window_commands = None,
            |s| s.frame_bytes = None,
            |s| s.inflight_bytes = None,
        ];
        all.into_iter().map(without).filter(|fewer| fewer != self).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_survive_a_file_and_are_told() {
        let text = "name = \"x\"\n[cluster]\nvoters = 5\n[cluster.switches]\nlease = true\nelection_quorum = 4\n\
                    [[step]]\nwhen = { at = 5 }\ndo = { heal = {} }\n";
        let schedule = Schedule::parse("x.toml", text).unwrap();
        assert_eq!(Schedule::parse("again", &toml::to_string(&schedule).unwrap()).unwrap(), schedule);
        assert!(schedule.to_string().contains("switches lease on election_quorum 4"), "{schedule}");
        let members = Configuration::of_voters((1..=5).map(replog::NodeId));
        let members = schedule.cluster.switches.quorums(members, 5);
        assert_eq!(members.rule, QuorumRule::Flexible { election: 4, replication: 2 });
        assert!(members.is_sound());
        assert_eq!(schedule.cluster.switches.fewer().len(), 2);
    }

    #[test]
    fn a_lease_is_not_asked_of_clocks_that_drift_too_far() {
        let with = |cluster: &str, step: &str| {
            let text = format!(
                "name = \"x\"\n[cluster]\n{cluster}\n[cluster.switches]\nlease = true\n\
                 [[step]]\nwhen = {{ at = 5 }}\ndo = {step}\n"
            );
            Schedule::parse("x.toml", &text).map(|_| ())
        };
        let rate = |n| format!("{{ clock_rate = {{ node = \"any\", per_mille = {n} }} }}");
        assert_eq!(with("drift_per_mille = 40", &rate(960)), Ok(()));
        assert!(with("drift_per_mille = 41", &rate(1000)).is_err());
        assert!(with("", &rate(1041)).is_err());
    }
}
