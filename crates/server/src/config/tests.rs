use super::*;
use std::io::Write;

fn load(text: &str, flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let flags: Vec<_> = flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Config::load(Some(file.path()), &flags)
}

const SAMPLE: &str = "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir=/d\nclientPort=2181\n";

#[test]
fn the_sample_file_of_zookeeper() {
    let config = load(SAMPLE, &[]).unwrap();
    assert_eq!((config.tick_ms, config.min_session_ms, config.max_session_ms), (2000, 4000, 40_000));
    assert_eq!((config.client_port, config.max_client_connections, config.max_frame), (2181, 60, 0xfffff));
    assert_eq!(config.four_letter_words, ["srvr"]);
    assert_eq!(config.notes, []);
    assert_eq!(config.timing(), replog::Timing::default(), "not syncLimit × tickTime");
    assert_eq!(
        [config.negotiate(1), config.negotiate(10_000), config.negotiate(i32::MAX)],
        [4000, 10_000, 40_000]
    );
}

#[test]
fn members_with_roles_client_ports_and_several_addresses() {
    let text = format!(
        "{SAMPLE}server.1=a:2888:3888\nserver.2=b:2888:3888:participant;2182\n\
         server.3=[::1]:2888:3888|c:2889:3889;10.0.0.1:2183\nserver.4=d:2888:3888:observer\n"
    );
    let config = load(&text, &[("myid", "3")]).unwrap();
    assert_eq!(config.voters().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(config.observers().collect::<Vec<_>>(), [4]);
    assert_eq!((config.client_port, config.client_address.as_str()), (2183, "10.0.0.1"));
    let own = &config.members[&3];
    assert_eq!(own.endpoints().collect::<Vec<_>>(), ["[::1]:2888", "c:2889"]);
    assert_eq!(config.members[&2].line(2), "server.2=b:2888:3888:participant;0.0.0.0:2182");
    assert_eq!(Member::parse(own.line(3).split_once('=').unwrap().1).unwrap(), *own);
}

#[test]
fn flags_win_over_the_file() {
    let config = load(SAMPLE, &[("clientPort", "0"), ("electionTimeoutMs", "300")]).unwrap();
    assert_eq!(config.client_port, 0);
    assert_eq!(config.timing().election_timeout, Duration::from_millis(300));
}

#[test]
fn wrong_values_name_line_and_key() {
    for (line, reason) in [
        ("tickTime=abc", "tickTime: 'abc' is not a number that fits"),
        ("tickTime=0", "tickTime: must be above 0"),
        ("clientPort=70000", "clientPort: '70000' is not a number that fits"),
        ("server.x=a:1:2", "server.x: 'x' is not a server id"),
        ("server.1=a", "server.1: 'a' is not host:quorumPort:electionPort"),
        ("server.1=a:1:2:boss", "server.1: 'boss' is neither participant nor observer"),
        ("server.1=a:1:2;x:y", "server.1: 'y' is not a port"),
        ("forceSync=no", "forceSync: writes are always forced to disk here"),
        ("jute.maxbuffer=-1", "jute.maxbuffer: '-1' is not a number that fits"),
    ] {
        let error = load(&format!("{SAMPLE}\n{line}\n"), &[]).unwrap_err();
        assert!(error.place.ends_with("line 7"), "{error}");
        assert_eq!(error.reason, reason);
    }
    assert!(load("tickTime=1\n", &[]).unwrap_err().reason.contains("dataDir"));
    let missing = load(&format!("{SAMPLE}server.1=a:1:2\n"), &[("myid", "2")]).unwrap_err();
    assert!(missing.reason.contains("no server.2"), "{missing}");
}

#[test]
fn other_keys_are_named_and_do_not_stop_the_server() {
    let text = format!(
        "{SAMPLE}preAllocSize=1\nnetty.x=1\nsecureClientPort=2281\nzookeeper.skipACL=yes\ntikTime=5\njute.maxbuffer=0x400000\n"
    );
    let config = load(&text, &[]).unwrap();
    assert_eq!(config.max_frame, 4 << 20);
    let notes = [
        Note::Ignored("preAllocSize".into()),
        Note::Ignored("netty.x".into()),
        Note::Unsupported("secureClientPort".into()),
        Note::Unsupported("zookeeper.skipACL".into()),
        Note::Unknown("tikTime".into()),
    ];
    assert_eq!(config.notes, notes);
}

#[test]
fn every_key_has_a_flag_of_its_own() {
    let mut flags: Vec<_> = KEYS.iter().map(Key::flag).collect();
    assert!(flags.contains(&"tick-time".to_owned()) && flags.contains(&"jute-maxbuffer".to_owned()));
    flags.sort();
    flags.dedup();
    assert_eq!(flags.len(), KEYS.len());
}
