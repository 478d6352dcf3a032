//! The mutants, by crate. Traps are those of `protocol-traps.md`, schedules those of `contract-schedules.md`.

use super::Description;

const ZAB: &[&str] = &["zab"];
const RAFT: &[&str] = &["raft"];
const PAXOS: &[&str] = &["paxos"];
const ANY: &[&str] = &["zab", "raft", "paxos"];

macro_rules! mutants {
    ($($krate:literal $backends:ident: { $($name:ident: $rule:literal, $source:literal;)* })*) => {
        /// A rule that can be switched off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Mutant {
            $($(#[doc = $rule] $name,)*)*
        }

        /// Every mutant.
        pub const ALL: &[Description] = &[
            $($(Description {
                mutant: Mutant::$name,
                name: stringify!($name),
                krate: $krate,
                backends: $backends,
                rule: $rule,
                source: $source,
            },)*)*
        ];
    };
}

mutants! {
    "replog" ANY: {
        AckBeforeFsync: "what a message says of its sender waits for its write", "contract point 2, schedule 1";
        GateOneEarly: "a ticket releases what waits for it, and nothing behind it", "contract point 2";
        InstallBeforePurge: "an install waits for the write that moves the log's base", "schedule 3";
        WipedVotes: "a voter whose disk was lost neither votes nor counts", "trap 2.18, schedule 17";
    }
    "zab" ZAB: {
        LongerHistoryWins: "a history is recent by its epoch first, then by its length", "trap 1.1";
        BetterHistoryIgnored: "who holds a better history than the leader does not count for its epoch", "zab-dsn11 §4.1";
        AnnounceBeforeDurable: "a leader's epoch is durable before it is announced", "trap 1.8, schedule 1";
        PromiseBeforeDurable: "acceptedEpoch is durable before ACKEPOCH", "trap 1.6";
        PromiseCountsForAll: "an ack of an epoch counts only for whom it was promised to", "trap 1.7";
        EpochBeforeHistory: "the synchronised history is durable before currentEpoch", "trap 1.9 (ZOOKEEPER-4643)";
        NewLeaderAckBeforeDurable: "history and epoch are durable before the ack of NEWLEADER", "trap 1.9 (3911, 4646)";
        ProposalAckBeforeDurable: "a proposal is durable before its ack", "trap 1.9 (3023)";
        EpochForgotten: "currentEpoch is durable", "trap 1.6";
        UnsyncedCount: "acks count only from who has acknowledged NEWLEADER", "trap 1.9 (4685)";
        ZabOwnAckUndurable: "the leader counts itself for what is durable only", "contract point 2";
        SyncCommitsAll: "until a quorum acknowledged NEWLEADER only what the leader knows is committed", "schedule 10";
        SyncByLength: "logs are compared by epoch and position", "trap 1.15";
        SessionSurvivesLink: "a broken link ends the session", "trap 1.20";
        ProposalsFromAckOn: "a learner gets proposals from NEWLEADER on, not from its ack on", "trap 1.19";
        FollowerNeverGivesUp: "a follower leaves a leader that fell silent", "requirement S39";
        ZabLeaderWithoutQuorum: "a leader leaves when no quorum is heard", "requirement S26";
        ZabInstallsBackwards: "a snapshot never takes the state back", "schedule 3";
        ZabReadUnconfirmed: "a barrier needs a quorum that still follows", "trap 1.22 (1675)";
    }
    "raft" RAFT: {
        CountOldTerms: "only entries of the current term are counted", "trap 2.1 (raft §5.4.2, figure 8)";
        NoNoop: "a reign begins with an entry of its own", "trap 2.1, 2.7";
        TimerResetOnRefusal: "a refused vote does not reset the election timer", "trap 2.2";
        TimeoutsAlike: "election timeouts are drawn at random", "raft §5.2";
        TruncateMatching: "what equals the leader's log is never removed", "trap 2.3 (openraft 9540c904)";
        LongerLogWins: "a log is up to date by its last term first, then by its length", "trap 2.4 (openraft a48a3282)";
        LeadBeforeTermDurable: "a leader's term is durable before it leads", "trap 2.5, schedule 1";
        VoteBeforeDurable: "term and vote are durable before they are told", "trap 2.6";
        VoteForgotten: "the vote is part of the durable state", "trap 2.6";
        VoteTwice: "one vote a term", "raft §5.2";
        AppendAckBeforeDurable: "entries are durable before they are acknowledged", "schedule 1";
        HeartbeatClaimsUndurable: "a heartbeat's answer claims what is durable only", "schedule 14";
        RaftOwnAckUndurable: "the leader counts itself for what is durable only", "contract point 2";
        StaleWriteCounts: "a completed write does not vouch for entries that replaced its own", "trap 2.21";
        RaftBoundUnverified: "a commit bound covers the verified part of the log only", "schedule 10";
        ReadBeforeTermCommit: "no barrier before an entry of the term is committed", "trap 2.7";
        RaftReadUnconfirmed: "a barrier needs a round that began after it", "trap 2.22";
        PreVoteTermAdopted: "the term that a pre-vote asks about is not adopted", "trap 2.11";
        NoCheckQuorum: "a leader without a quorum steps down", "trap 2.9";
        RaftInstallsBackwards: "a snapshot never takes the state back", "schedule 3";
        InstallKeepsConflict: "a log that disagrees with an installed snapshot is cut", "schedule 4";
        PurgeUnderStream: "the log above a snapshot stays while it is streamed", "schedule 15";
    }
    "paxos" PAXOS: {
        PromiseUngated: "a promise is durable before it is told", "trap 3.1";
        AcceptedUngated: "an acceptance is durable before it is told", "trap 3.1";
        PromiseForgotten: "the promise is part of the durable state", "trap 3.1";
        PromiseWithoutSlots: "a promise carries every slot accepted above the prefix", "trap 3.2";
        PromiseWithoutPrefix: "a promise says where its sender's chosen prefix ends", "trap 3.2, 3.4 (OmniPaxos #58)";
        AnyBallotWins: "of a slot's values the one of the highest ballot is taken", "trap 3.3 (P2c)";
        NothingReproposed: "what phase 1 found is proposed before anything new", "trap 3.3";
        ProposeBeforeBallotDurable: "a ballot is durable before anything is proposed in it", "trap 3.5, schedule 1";
        PromiseTakenBack: "nothing is accepted below the promise", "paxos-simple §2.2 P1b";
        ForeignBallotCounts: "acceptances are counted in their own ballot", "paxos-simple §2.2 P2";
        PaxosOwnAckUndurable: "the leader counts itself for what is durable only", "contract point 2";
        BoundIsLicence: "a commit bound covers only slots accepted from that leader", "trap 3.14, schedule 10";
        PaxosInstallForgetsAbove: "an install keeps what was accepted above it", "schedule 4";
        PaxosInstallsBackwards: "a snapshot never takes the state back", "schedule 3";
        DecideNotRepeated: "what was decided last is told again in a quiet log", "trap 3.6 (OmniPaxos #68)";
        PaxosLeaderWithoutQuorum: "alive is not enough: a leader needs its quorum, and says so", "trap 3.11";
        ReadBeforeReignOpens: "no barrier before an entry of the reign is chosen", "trap 3.8";
        PaxosReadUnconfirmed: "a barrier needs a round that began after it", "trap 3.8";
    }
    "wal" ANY: {
        WalSyncSkipped: "sync makes durable what was appended", "reliability §4 rule 7";
        WalNoDirSync: "a new segment's name is durable before it is used", "reliability §4 rule 3";
        WalSegmentBeforeTail: "a segment is durable before the next begins", "schedule 5 (a)";
        WalStateNotRepeated: "each segment begins with the hard state", "reliability §4 rule 5";
        WalRecoveryUnsynced: "what was read back is synced before it is believed", "schedule 5";
        WalTornTailBelieved: "a torn tail is cut", "reliability §4 rule 2";
        WalPurgeBeforeDurable: "segments go once the base that makes them useless is durable", "schedule 4";
        WalStagedBelieved: "a received snapshot counts once its purge is durable", "schedule 3";
        WalSyncErrorIgnored: "a failed sync ends the process", "bug museum (fsync, ATC'20)";
    }
    "server" ANY: {
        StalledLeaderExpires: "a leader that hears no quorum, or was stopped, expires nobody", "trap 4.2 (etcd #15247)";
        ClocksGoOn: "a new leader starts all session clocks at their full timeout", "trap 4.2";
        TouchesUnreported: "followers tell the leader which clients they hear", "trap 4.3";
        LaterZxidAccepted: "a client that has seen a later zxid is refused", "trap 4.4, requirement S4";
        EventAfterReply: "an event stands before the reply that reveals its change", "trap 4.7";
        ReadOvertakesWrite: "a read waits for the earlier writes of its session", "trap 4.8";
        WriteOvertakesSync: "a write behind a sync does not overtake it", "trap 4.8";
        SyncForgetsItsIndex: "a sync is answered once its barrier is applied", "trap 1.22, C5";
        InstallKeepsConnections: "an installed snapshot ends all connections", "schedule 7 (c)";
        CutOffKeepsConnections: "a server without a leader lets its clients go", "schedule 7 (a, b)";
        NothingSentAgain: "a server sends again from its first unapplied request", "schedule 6";
    }
}
