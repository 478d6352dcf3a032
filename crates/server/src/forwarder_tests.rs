//! The schedules of contract-schedules.md §6 against a model of `apply`'s rule for streams.

use super::*;

/// Commands as text: `open:<nonce>` and `<stream>:<number>:<what>`.
struct Text;

impl Codec for Text {
    fn open(&self, nonce: u64) -> Bytes {
        Bytes::from(format!("open:{nonce}"))
    }
    fn renumber(&self, command: &Bytes, stream: u64, number: u64) -> Bytes {
        let text = str::from_utf8(command).unwrap();
        let what = text.rsplit(':').next().unwrap();
        Bytes::from(format!("{stream}:{number}:{what}"))
    }
}

/// One server, its part of the state machine, and what was executed.
struct World {
    forwarder: Forwarder<&'static str, Text>,
    now: Millis,
    index: u64,
    latest: Option<u64>,
    last: u64,
    executed: Vec<String>,
    answered: Vec<&'static str>,
}

impl World {
    fn new() -> Self {
        let forwarder = Forwarder::new(Text, 7);
        Self { forwarder, now: 0, index: 0, latest: None, last: 0, executed: vec![], answered: vec![] }
    }

    /// A world whose stream is open under leader 1 in epoch 1.
    fn open() -> Self {
        let mut world = Self::new();
        world.route(1, 1);
        let open = world.sent();
        world.apply_all(&open);
        assert!(world.forwarder.is_open());
        world
    }

    fn route(&mut self, epoch: u32, leader: u32) {
        self.forwarder.on_route(self.now, Some((Epoch::of(epoch), NodeId(leader))));
    }

    fn request(&mut self, what: &'static str) {
        let (stream, number) = self.forwarder.next();
        self.forwarder.take(what, Bytes::from(format!("{stream}:{number}:{what}")));
    }

    fn sent(&mut self) -> Vec<Bytes> {
        std::iter::from_fn(|| self.forwarder.poll(12)).flat_map(|o| o.commands).collect()
    }

    fn apply_all(&mut self, commands: &[Bytes]) {
        for command in commands {
            self.apply(command);
        }
    }

    /// The rule of `Machine::apply`.
    fn apply(&mut self, command: &Bytes) {
        self.index += 1;
        let text = str::from_utf8(command).unwrap();
        let parts: Vec<&str> = text.split(':').collect();
        if let ["open", nonce] = parts[..] {
            self.latest = Some(self.index);
            self.last = 0;
            return self.forwarder.on_opened(self.now, nonce.parse().unwrap(), self.index);
        }
        let (stream, number) = (parts[0].parse().unwrap(), parts[1].parse().unwrap());
        if self.latest == Some(stream) && number == self.last + 1 {
            self.last = number;
            self.executed.push(parts[2].to_owned());
            self.answered.extend(self.forwarder.on_applied(self.now, stream, number));
        } else {
            self.forwarder.on_voided(stream, number);
        }
    }
}

#[test]
fn requests_wait_for_the_stream_and_keep_their_order() {
    let mut world = World::new();
    world.request("a");
    assert!(world.sent().is_empty(), "no leader");
    world.route(1, 1);
    world.request("b");
    let open = world.sent();
    assert_eq!(open, ["open:7"]);
    assert!(world.sent().is_empty(), "one OpenStream per route");
    world.apply_all(&open);
    world.request("c");
    let sent = world.sent();
    assert_eq!(sent, ["1:1:a", "1:2:b", "1:3:c"]);
    world.apply_all(&sent);
    assert_eq!(world.answered, ["a", "b", "c"]);
    assert_eq!((world.forwarder.outstanding(), world.forwarder.outstanding_bytes()), (0, 0));
}

#[test]
fn renumbered_requests_count_by_their_new_length() {
    let mut world = World::new();
    world.index = 1_000_000;
    world.request("a");
    assert_eq!(world.forwarder.outstanding_bytes(), "0:1:a".len());
    world.route(1, 1);
    let open = world.sent();
    world.apply_all(&open);
    assert_eq!(world.forwarder.outstanding_bytes(), "1000001:1:a".len());
    let sent = world.sent();
    world.apply_all(&sent);
    assert_eq!((world.forwarder.outstanding_bytes(), world.answered), (0, vec!["a"]));
}

// requirement: S3. Schedule 6a: equal requests are two requests.
#[test]
fn equal_requests_run_twice_and_repeats_once() {
    let mut world = World::open();
    world.request("create");
    world.request("create");
    let sent = world.sent();
    world.apply_all(&sent);
    world.apply_all(&sent);
    assert_eq!(world.executed, ["create", "create"]);
    assert_eq!(world.answered, ["create", "create"]);
    assert!(world.sent().is_empty(), "repeats are no gap");
}

// Schedule 6b: a is lost with its leader, b survives.
#[test]
fn a_survivor_behind_a_lost_request_is_voided_and_both_run_in_order() {
    let mut world = World::open();
    world.request("a");
    world.request("b");
    let sent = world.sent();
    world.route(2, 2);
    world.request("c");
    // The new leader's log holds b alone when our copies arrive.
    world.apply(&sent[1]);
    let again = world.sent();
    assert_eq!(again, ["1:1:a", "1:2:b", "1:3:c"]);
    world.apply_all(&again);
    assert_eq!(world.executed, ["a", "b", "c"]);
}

// Schedule 6c: slot 7 = a is filled with a no-op, slot 8 = b is chosen after the re-sent a was proposed.
#[test]
fn a_hole_before_a_chosen_value_does_not_reorder() {
    let mut world = World::open();
    world.request("a");
    world.request("b");
    let first = world.sent();
    world.route(2, 2);
    let again = world.sent();
    world.apply(&first[1]);
    world.apply_all(&again);
    world.apply(&first[0]);
    assert_eq!(world.executed, ["a", "b"]);
    assert_eq!(world.answered, ["a", "b"]);
}

#[test]
fn a_gap_without_a_new_epoch_is_filled_once_per_pause() {
    let mut world = World::open();
    for what in ["a", "b", "c"] {
        world.request(what);
    }
    let sent = world.sent();
    world.apply_all(&sent[1..]);
    assert!(world.sent().is_empty(), "not at once: other copies may be under way");
    world.now += 60;
    world.forwarder.on_tick(world.now);
    let again = world.sent();
    assert_eq!(again.len(), 3);
    // The voids of old copies that come now do not start another round before the pause is over.
    world.apply(&sent[2]);
    world.forwarder.on_tick(world.now + 1);
    assert!(world.sent().is_empty());
    world.apply_all(&again);
    assert_eq!(world.executed, ["a", "b", "c"]);
}

#[test]
fn a_new_link_to_the_leader_resends_and_other_links_do_not() {
    let mut world = World::open();
    world.request("a");
    assert_eq!(world.sent().len(), 1);
    world.forwarder.on_link_up(world.now, NodeId(3));
    assert!(world.sent().is_empty());
    world.forwarder.on_link_up(world.now, NodeId(1));
    assert_eq!(world.sent().len(), 1);
    world.forwarder.on_route(world.now, None);
    world.forwarder.on_link_up(world.now, NodeId(1));
    assert!(world.sent().is_empty(), "no leader");
}

#[test]
fn silence_makes_it_send_again_ever_more_rarely() {
    let mut world = World::open();
    world.request("a");
    world.sent();
    let mut rounds = vec![];
    for now in (0..40_000).step_by(100) {
        world.forwarder.on_tick(now);
        if !world.sent().is_empty() {
            rounds.push(now);
        }
    }
    assert_eq!(rounds, [2000, 6000, 14_000, 30_000]);
}

#[test]
fn an_open_stream_that_commits_twice_moves_the_pending_over() {
    let mut world = World::new();
    world.route(1, 1);
    let open = world.sent();
    world.route(2, 2);
    let second = world.sent();
    assert_eq!(open, second);
    world.apply_all(&open);
    world.request("a");
    world.request("b");
    let sent = world.sent();
    world.apply(&sent[0]);
    world.apply_all(&second);
    world.apply(&sent[1]);
    assert_eq!(world.executed, ["a"], "b of the first stream is void");
    let again = world.sent();
    assert_eq!(again, ["3:1:b"]);
    world.apply_all(&again);
    assert_eq!(world.answered, ["a", "b"]);
}

#[test]
fn a_former_lifes_open_stream_is_answered_by_a_new_one() {
    let mut world = World::open();
    world.request("a");
    let lost = world.sent();
    world.apply(&Bytes::from("open:99"));
    world.apply_all(&lost);
    let open = world.sent();
    assert_eq!(open, ["open:7"]);
    world.apply_all(&open);
    let again = world.sent();
    world.apply_all(&again);
    assert_eq!(world.executed, ["a"]);
}

#[test]
fn an_installed_snapshot_forgets_the_pending_and_voids_their_copies() {
    let mut world = World::open();
    world.request("a");
    let under_way = world.sent();
    assert_eq!(world.forwarder.on_install(world.now), ["a"]);
    world.request("b");
    let open = world.sent();
    assert_eq!(open, ["open:7"]);
    world.apply_all(&open);
    world.apply_all(&under_way);
    let sent = world.sent();
    world.apply_all(&sent);
    assert_eq!((world.executed, world.answered), (vec!["b".to_owned()], vec!["b"]));
}

/// Random lossy logs: every request runs once and in order, whatever is lost, repeated or adopted late.
#[test]
fn random_schedules_execute_each_request_once_in_order() {
    const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    for seed in 0..300 {
        let mut rng = replog::Rng::new(seed);
        let mut world = World::new();
        let mut under_way: Vec<Bytes> = vec![];
        let mut names = NAMES.iter();
        for round in 0u32..4000 {
            match rng.below(8) {
                0 => world.route(round, u32::try_from(rng.below(3)).unwrap() + 1),
                1 | 2 => names.next().into_iter().for_each(|n| world.request(n)),
                3 => world.now += 100,
                4 if !under_way.is_empty() => {
                    // Lost, or kept as a stale value that comes back later.
                    let at = usize::try_from(rng.below(under_way.len() as u64)).unwrap();
                    let lost = under_way.remove(at);
                    if rng.below(2) == 0 {
                        under_way.push(lost);
                    }
                }
                _ if !under_way.is_empty() => {
                    let next = under_way.remove(0);
                    world.apply(&next);
                }
                _ => {}
            }
            world.forwarder.on_tick(world.now);
            under_way.extend(world.sent());
        }
        // Then the network heals.
        for _ in 0..50 {
            world.now += 20_000;
            world.forwarder.on_tick(world.now);
            under_way.extend(world.sent());
            world.apply_all(&std::mem::take(&mut under_way));
        }
        let taken: Vec<_> = NAMES[..NAMES.len() - names.len()].to_vec();
        assert_eq!(world.answered, taken, "seed {seed}");
        assert_eq!(world.executed, taken, "seed {seed}");
        assert_eq!(
            (world.forwarder.outstanding(), world.forwarder.outstanding_bytes()),
            (0, 0),
            "seed {seed}"
        );
    }
}
