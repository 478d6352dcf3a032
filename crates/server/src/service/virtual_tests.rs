//! A service driven without threads, sockets or clocks of the system, as the simulator drives it.

use super::Service;
use crate::config::Config;
use crate::environment::{Environment, Virtual};
use jute::{ConnectRequest, ConnectResponse, Jute as _};
use node::{Application as _, NodeHandle, View};
use replog::{Body, Entry, Epoch, Index, LogId, NodeId, Phase, Role, Stamp, Status};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A cluster of one: what it proposes is applied at once.
struct Alone {
    service: Arc<Service>,
    handle: NodeHandle,
    next: u64,
}

impl Alone {
    fn new(seed: u64) -> Self {
        let world = Arc::new(Virtual::new(seed));
        let mut config = Config::default();
        config.id = 1;
        let service = Service::with(config, Environment::Virtual(world.clone())).unwrap();
        let handle = NodeHandle::detached(NodeId(1), world.instant(Duration::ZERO));
        service.on_start(&handle);
        let epoch = Epoch { round: 1, proposer: 0 };
        let status = Status {
            role: Role::Leader,
            phase: Phase::Broadcast,
            epoch,
            leader: Some(NodeId(1)),
            ..Status::default()
        };
        let view = View::of(status, world.instant(Duration::ZERO));
        handle.set_view(view);
        service.on_view(&view);
        Self { service, handle, next: 1 }
    }

    fn run(&mut self) {
        while let Some(mail) = self.handle.take_mail() {
            for command in mail.proposals {
                let id = LogId::new(Epoch { round: 1, proposer: 0 }, Index(self.next));
                self.next += 1;
                self.service.apply(&[Entry {
                    id,
                    ballot: id.epoch,
                    stamp: Stamp(7),
                    body: Body::Command(command),
                }]);
            }
        }
    }

    fn connect(&mut self) -> ConnectResponse {
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut client = self.service.open(peer).unwrap();
        let request =
            ConnectRequest { timeout_ms: 6000, password: Some(vec![0; 16].into()), ..Default::default() };
        let mut frame = Vec::new();
        let mark = jute::begin_frame(&mut frame);
        request.encode(&mut frame);
        jute::end_frame(&mut frame, mark);
        client.receive(&frame[..7]);
        assert!(client.turn() && client.take_output(usize::MAX).is_empty(), "half a request");
        client.receive(&frame[7..]);
        assert!(client.turn());
        self.run();
        assert!(client.turn());
        let reply = client.take_output(usize::MAX);
        ConnectResponse::from_bytes(&reply[4..].to_vec().into()).unwrap()
    }
}

#[test]
fn a_virtual_client_gets_the_session_that_its_seed_decides() {
    let of = |seed| Alone::new(seed).connect();
    assert_ne!(of(1).session, 0);
    assert_eq!(of(1).password, of(1).password);
    assert_ne!(of(1).password, of(2).password);
}
