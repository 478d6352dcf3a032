//! Several servers, and servers that must not start. `cargo test -p server --test servers`

#![allow(clippy::unwrap_used)] // test support: panics are verdicts

mod common;

use common::*;
use jute::{ErrorCode, Request, SyncRequest};
use server::Consensus;
use std::io::Read as _;

// requirement: S3, S5, S35
#[test]
fn writes_at_any_server_reach_all_under_each_protocol() {
    for consensus in Consensus::ALL {
        let ensemble = Ensemble::new(3, &format!("consensus={}\n", consensus.name()));
        let mut clients: Vec<Client> = ensemble.servers.iter().map(|s| Client::open(s.port, 4000)).collect();
        for (at, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.call(create(&format!("/from-{at}"), 0)).header.err, 0);
        }
        for client in &mut clients {
            client.call(Request::Sync(SyncRequest { path: "/".into() }));
            for at in 0..3 {
                assert_eq!(
                    client.call(get(&format!("/from-{at}"), false)).header.err,
                    0,
                    "{}",
                    consensus.name()
                );
            }
        }
    }
}

// Contract-schedules §6: requests of an old attachment are fenced, whatever server they came through.
#[test]
fn a_moved_session_is_fenced_at_its_old_server() {
    let ensemble = Ensemble::new(3, "");
    let mut first = Client::open(ensemble.servers[0].port, 4000);
    first.call(create("/x", 0));
    let mut second = wait_for("the other server has caught up", || {
        Client::connect(ensemble.servers[1].port, &first.again()).filter(|c| c.session.session != 0)
    });
    assert_eq!(second.session.session, first.session.session);
    assert_eq!(second.call(set("/x", b"second")).header.err, 0);
    first.send(&[set("/x", b"first")]);
    assert!(first.receive().is_none(), "closed without an ambiguous reply");
    assert_eq!(second.call(get("/x", false)).data(), b"second");
    assert_eq!(second.call(create("/e", 1)).header.err, 0);
}

#[test]
fn acknowledged_writes_and_sessions_survive_kill_9_of_all() {
    for consensus in Consensus::ALL {
        let mut ensemble = Ensemble::new(1, &format!("consensus={}\n", consensus.name()));
        let mut client = ensemble.client();
        let paths: Vec<String> = (0..50).map(|n| format!("/n{n}")).collect();
        let requests: Vec<_> = paths.iter().map(|p| create(p, 1)).collect();
        client.send(&requests);
        (0..50).for_each(|_| assert_eq!(client.receive().unwrap().header.err, 0));
        let old = ensemble.servers.remove(0);
        let port = old.port;
        drop(old);
        let file = ensemble.dir.path().join("1/zoo.cfg");
        let process = spawn(&["--config".into(), file.display().to_string()]);
        ensemble.servers.push(Server { port, process });
        wait_for("it serves again", || word(port, "srvr").filter(|t| t.contains("Mode: ")));
        let mut again = Client::connect(port, &client.again()).unwrap();
        assert_eq!(again.session.session, client.session.session);
        for path in &paths {
            assert_eq!(again.call(get(path, false)).header.err, 0, "{} lost {path}", consensus.name());
        }
        assert_eq!(again.call(create("/n0", 0)).header.err, ErrorCode::NodeExists.code());
    }
}

/// What a server that must not start says.
fn refusal(arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
    let mut process = spawn(&arguments);
    let status = wait_for("it ends", || process.try_wait().unwrap());
    let mut said = String::new();
    process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn wrong_configurations_and_foreign_directories_end_with_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().display().to_string();
    let said = refusal(&["--data-dir", &home, "--tick-time", "soon"]);
    assert!(said.contains("tickTime: 'soon' is not a number that fits"), "{said}");
    assert!(refusal(&["--config", &format!("{home}/none.cfg")]).contains("none.cfg"));
    assert!(refusal(&["--data-dir", &home, "--server", "1=a:1:2"]).contains("myid"));
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = refusal(&["--data-dir", &home, "--client-port", &port]);
    assert!(said.contains(&format!("cannot listen for clients on 0.0.0.0:{port}")), "{said}");

    if let [first, second, ..] = Consensus::ALL {
        let ensemble = Ensemble::new(1, &format!("consensus={}\n", first.name()));
        let file = ensemble.dir.path().join("1/zoo.cfg").display().to_string();
        let Ensemble { servers, dir: _dir } = ensemble;
        drop(servers);
        let said = refusal(&["--config", &file, "--consensus", second.name()]);
        assert!(said.contains(first.name()) && said.contains(second.name()), "{said}");
        let said = refusal(&["--config", &file, "--myid", "9"]);
        assert!(said.contains('9'), "{said}");
    }
}
