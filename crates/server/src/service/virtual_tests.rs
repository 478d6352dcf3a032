//! A service driven without threads, sockets or clocks of the system, as the simulator drives it.

use super::peer_message::{self, PeerMessage};
use super::{Service, VirtualClient};
use crate::config::Config;
use crate::environment::{Environment, Virtual};
use crate::reports::{Mark, Touch};
use bytes::{Bytes, BytesMut};
use jute::{
    ConnectRequest, ConnectResponse, Jute as _, Reader, ReplyHeader, Request, SetDataRequest, SyncRequest,
};
use node::{Application as _, Barrier, NodeHandle, View};
use replog::{Body, Entry, Epoch, Index, LogId, NodeId, Phase, Role, Stamp, Status};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A server with nobody but this test around it: what it proposes, or forwards to its leader, is applied at once.
struct Alone {
    service: Arc<Service>,
    world: Arc<Virtual>,
    handle: NodeHandle,
    next: u64,
    /// Reports of touches that it sent.
    reports: Vec<(Mark, Vec<Touch>)>,
    client: Option<VirtualClient>,
}

impl Alone {
    /// Server 1, following `leader` (or itself leading).
    fn new(seed: u64, leader: u32) -> Self {
        let world = Arc::new(Virtual::new(seed));
        let mut config = Config::default();
        config.id = 1;
        config.tick_ms = 2000;
        (config.min_session_ms, config.max_session_ms) = (4000, 40_000);
        let service = Service::with(config, Environment::Virtual(world.clone())).unwrap();
        let handle = NodeHandle::detached(NodeId(1), world.instant(Duration::ZERO));
        service.on_start(&handle);
        let mut alone = Self { service, world, handle, next: 1, reports: Vec::new(), client: None };
        alone.hears(leader, Duration::ZERO);
        alone
    }

    /// Its leader was heard at `at`.
    fn hears(&mut self, leader: u32, at: Duration) {
        let status = Status {
            role: if leader == 1 { Role::Leader } else { Role::Follower },
            phase: Phase::Broadcast,
            epoch: Epoch { round: 1, proposer: 0 },
            leader: Some(NodeId(leader)),
            ..Status::default()
        };
        let view = View::of(status, self.world.instant(at));
        self.handle.set_view(view);
        self.service.on_view(&view);
    }

    /// The xids of what the server now sends to its client.
    fn output(&mut self) -> Vec<i32> {
        let client = self.client.as_mut().unwrap();
        client.turn();
        let mut bytes = BytesMut::from(&client.take_output(usize::MAX)[..]);
        let frames = jute::split_frames(&mut bytes, 1 << 20).unwrap();
        let header = |frame: Bytes| ReplyHeader::decode(&mut Reader::new(&frame)).unwrap();
        frames.map(header).map(|h| h.xid).collect()
    }

    fn run(&mut self) {
        while let Some(mail) = self.handle.take_mail() {
            mail.proposals.into_iter().for_each(|command| self.apply(command));
            for (_, message) in mail.messages {
                match PeerMessage::decode(message).unwrap() {
                    PeerMessage::Forward(commands) => commands.into_iter().for_each(|c| self.apply(c)),
                    PeerMessage::Touches(mark, touches) => self.reports.push((mark, touches)),
                    PeerMessage::Heard(_) => panic!("a follower confirms nothing"),
                }
            }
        }
    }

    fn apply(&mut self, command: Bytes) {
        let id = LogId::new(Epoch { round: 1, proposer: 0 }, Index(self.next));
        self.next += 1;
        let body = Body::Command(command);
        self.service.apply(&[Entry { id, ballot: id.epoch, stamp: Stamp(7), body }]);
    }

    /// A new connection that asks for `session` (0: a new one).
    fn ask(&mut self, session: i64, password: Vec<u8>) -> VirtualClient {
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut client = self.service.open(peer).unwrap();
        let password = Some(password.into());
        let request = ConnectRequest { timeout_ms: 6000, session, password, ..Default::default() };
        let mut frame = Vec::new();
        jute::put_frame(&mut frame, |out| request.encode(out));
        client.receive(&frame[..7]);
        assert!(client.turn() && client.take_output(usize::MAX).is_empty(), "half a request");
        client.receive(&frame[7..]);
        client.turn();
        client
    }

    fn connect(&mut self) -> ConnectResponse {
        let mut client = self.ask(0, vec![0; 16]);
        self.run();
        assert!(client.turn());
        let reply = client.take_output(usize::MAX);
        self.client = Some(client);
        ConnectResponse::from_bytes(&reply[4..].to_vec().into()).unwrap()
    }

    /// The client pings at `ms`, and the server does what it does by the clock; whether it still has the client.
    fn serves_at(&mut self, ms: u64) -> bool {
        self.world.set(Duration::from_millis(ms), ms);
        let client = self.client.as_mut().unwrap();
        let mut frame = Vec::new();
        jute::put_request(&mut frame, jute::xid::PING, &Request::Ping);
        client.receive(&frame);
        client.turn();
        self.service.keep_up_once();
        self.run();
        self.client.as_mut().unwrap().turn()
    }
}

#[test]
fn a_virtual_client_gets_the_session_that_its_seed_decides() {
    let of = |seed| Alone::new(seed, 1).connect();
    assert_ne!(of(1).session, 0);
    assert_eq!(of(1).password, of(1).password);
    assert_ne!(of(1).password, of(2).password);
}

// requirement: S6
// trap: protocol-traps §4.3
#[test]
fn who_is_not_heard_by_the_leader_lets_its_clients_go_although_it_hears_the_leader() {
    for confirmed in [true, false] {
        let mut alone = Alone::new(1, 2);
        assert_eq!(alone.connect().timeout_ms, 6000);
        let mut until = None;
        for ms in (100..8000).step_by(100) {
            alone.hears(2, Duration::from_millis(ms));
            if !alone.serves_at(ms) {
                until = Some(ms);
                break;
            }
            if let Some((mark, touches)) = alone.reports.last().filter(|_| confirmed) {
                assert_eq!(touches.len(), 1);
                alone.service.on_message(NodeId(2), peer_message::heard(*mark));
            }
        }
        if confirmed {
            assert_eq!(until, None);
        } else {
            // Reports at 1 s and 2 s; the touch of the first is missed for a third of 6 s at 3 s.
            assert_eq!(alone.reports.len(), 3, "{:?}", alone.reports);
            assert_eq!(until, Some(3100));
        }
    }
}

/// A client comes back on another connection, and its Attach waits for the log: the leader hears of it all the same, if the
/// password is right.
///
/// Found by the simulator: C7, `sim replay 16342 --backend paxos`.
// requirement: S8
#[test]
fn a_client_that_comes_back_is_heard_from_its_request_on() {
    for right in [true, false] {
        let mut alone = Alone::new(1, 2);
        let given = alone.connect();
        assert!(alone.serves_at(1000));
        let (mark, _) = *alone.reports.last().unwrap();
        alone.service.on_message(NodeId(2), peer_message::heard(mark));
        alone.client = None;
        let mut password = given.password.to_vec();
        password[0] ^= u8::from(!right);
        alone.world.set(Duration::from_secs(3), 3000);
        alone.hears(2, Duration::from_secs(3));
        let waiting = alone.ask(given.session, password);
        alone.service.keep_up_once();
        let messages = std::iter::from_fn(|| alone.handle.take_mail()).flat_map(|mail| mail.messages);
        let told = messages.filter_map(|(_, message)| match PeerMessage::decode(message) {
            Some(PeerMessage::Touches(_, touches)) => Some(touches),
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), if right { vec![vec![(given.session, 0)]] } else { vec![] });
        drop(waiting);
    }
}

/// 1. A write is under way, two syncs wait behind it; 2. the first barrier passes at what is applied, the second beyond;
/// 3. the write is applied. The second sync is answered when its index is applied, whatever stood before it.
///
/// Found by the simulator: C14, `sim replay 8724 --backend paxos` (also 9433 and 10082, and raft 8542).
// requirement: S33
#[test]
fn each_sync_is_answered_when_its_own_index_is_applied() {
    let mut alone = Alone::new(1, 1);
    alone.connect();
    let mut frames = Vec::new();
    let set = SetDataRequest { path: "/none".into(), data: None, version: -1 };
    jute::put_request(&mut frames, 1, &Request::SetData(set));
    for xid in [2, 3] {
        jute::put_request(&mut frames, xid, &Request::Sync(SyncRequest { path: "/".into() }));
    }
    alone.client.as_mut().unwrap().receive(&frames);
    assert!(alone.output().is_empty());
    let mail = alone.handle.take_mail().unwrap();
    assert_eq!((mail.proposals.len(), mail.barriers.len()), (1, 2));
    let applied = alone.next - 1;
    for (token, at) in mail.barriers.into_iter().zip([applied, applied + 2]) {
        alone.service.on_barrier(token, Ok(Barrier { at: Index(at), until: None }));
    }
    assert!(alone.output().is_empty(), "the write's answer comes first");
    alone.apply(mail.proposals[0].clone());
    assert_eq!(alone.output(), [1, 2]);
    alone.apply(Bytes::from_static(b"whatever"));
    assert_eq!(alone.output(), [3]);
}
