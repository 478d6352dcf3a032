//! ACLs: hashes, networks, what a list allows, the table.

use super::*;
use crate::testing::acl;

// requirement: AC4
#[test]
fn digests_are_zookeepers() {
    assert_eq!(digest_id("user1:12345"), "user1:+owfoSBn/am19roBPzR1/MfCblE=");
    assert_eq!(digest_id("super:secret"), "super:lK75jTNcA+U9vtVEw5vB51mj/w4=");
}

// requirement: AC5
#[test]
fn networks() {
    let cases = [
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1", "127.0.0.2", false),
        ("127.0.0.0/8", "127.9.9.9", true),
        ("10.0.0.0/8", "127.0.0.1", false),
        ("10.9.9.9/8", "10.1.1.1", true),
        ("0.0.0.0/0", "1.2.3.4", true),
        ("0.0.0.0/0", "::1", false),
        ("1.2.3.4/32", "1.2.3.5", false),
        ("::1", "0:0:0:0:0:0:0:1", true),
        ("fe80::/10", "fe80::1234", true),
        ("fe80::/10", "fec0::1", false),
        ("::/0", "::1", true),
        ("nonsense", "127.0.0.1", false),
        ("127.0.0.1", "nonsense", false),
        ("1.2.3.4/99", "1.2.3.4", false),
    ];
    for (network, address, expected) in cases {
        assert_eq!(ip_matches(network, address), expected, "{network} {address}");
    }
}

#[test]
fn identities_survive_their_encoding() {
    let pairs = [("ip", "::1"), ("digest", "ü:x"), ("super", "")];
    let who = Identities::new(pairs);
    assert_eq!(who.iter().collect::<Vec<_>>(), pairs);
    assert_eq!(who.with("ip", "::1"), who);
    assert_eq!(who.with("ip", "::2").iter().count(), 4);
    assert!(who.is_super() && !Identities::NONE.is_super());
    let broken = Identities::from_encoded(Bytes::from_static(&[0, 0, 0, 1, b'a', 0, 0, 0, 9, b'b']));
    assert_eq!(broken.iter().count(), 0);
}

#[test]
fn an_acl_allows_when_one_entry_has_the_bit_and_matches() {
    let ann = Identities::new([("digest", "ann:x")]);
    let list =
        AclRef::of(vec![acl(1, "world", "anyone"), acl(2, "digest", "ann:x"), acl(4, "digest", "bob:x")]);
    assert!(list.allows(Perms::READ, &Identities::NONE));
    assert!(list.allows(Perms::WRITE, &ann) && !list.allows(Perms::WRITE, &Identities::NONE));
    assert!(!list.allows(Perms::CREATE, &ann));
    assert!(list.allows(Perms::READ.union(Perms::ADMIN), &ann), "any bit suffices");
    assert!(list.allows(Perms::ADMIN, &Identities::new([("super", "")])));
    let sasl = AclRef::of(vec![acl(31, "sasl", "ann")]);
    assert!(!sasl.allows(Perms::READ, &Identities::new([("digest", "ann")])), "schemes do not mix");
}

#[test]
fn normalising_keeps_order_drops_duplicates_and_copies() {
    let who = Identities::new([("ip", "1.1.1.1"), ("digest", "a:1"), ("digest", "b:2")]);
    let sent =
        [acl(1, "ip", "9.9.9.9"), acl(31, "auth", ""), acl(1, "ip", "9.9.9.9"), acl(31, "digest", "a:1")];
    let stored = normalise(&sent, &who).unwrap().entries();
    assert_eq!(stored, [acl(1, "ip", "9.9.9.9"), acl(31, "digest", "a:1"), acl(31, "digest", "b:2")]);
    assert_eq!(normalise(&[], &who), Err(ErrorCode::InvalidAcl));
    let only_ip = Identities::new([("ip", "1.1.1.1")]);
    assert_eq!(
        normalise(&[acl(31, "auth", "")], &only_ip),
        Err(ErrorCode::InvalidAcl),
        "an address is no proof"
    );
    assert!(normalise(&[Acl::open()], &who).unwrap().is_open());
    assert!(!normalise(&[acl(1, "world", "anyone")], &who).unwrap().is_open());
    // A frame of 1 MB must not stay alive for an ACL of some bytes.
    let frame = Bytes::from([b"ip9.9.9.9".as_slice(), &[0; 1000]].concat());
    let text = |range| JStr::new(frame.slice(range)).unwrap();
    let kept = normalise(&[Acl { perms: 1, id: Id { scheme: text(0..2), id: text(2..9) } }], &who).unwrap();
    assert!(frame.try_into_mut().is_ok(), "still referenced by {kept:?}");
}

#[test]
fn the_table_stores_each_acl_once_and_frees_it() {
    let mut table = AclTable::default();
    let one = AclRef::of(vec![acl(1, "world", "anyone")]);
    let two = AclRef::of(vec![acl(2, "world", "anyone")]);
    assert_eq!(table.intern(&AclRef::default()), AclId::OPEN);
    let (a, b) = (table.intern(&one), table.intern(&two));
    assert_eq!(table.intern(&AclRef::of(one.entries())), a, "equal lists share an entry");
    assert_eq!((table.len(), table.get(b)), (2, two));
    table.release(a);
    assert_eq!(table.len(), 2);
    table.release(a);
    assert_eq!(table.len(), 1);
    assert_eq!(table.intern(&AclRef::of(vec![acl(3, "world", "anyone")])), a, "the slot is used again");
    table.release(AclId::OPEN);
    assert_eq!(table.get(AclId::OPEN).entries(), [Acl::open()]);
}
