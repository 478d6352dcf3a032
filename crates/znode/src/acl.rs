//! ACLs: who a connection is, what an ACL allows, and the table that stores each distinct ACL once.
//!
//! ```text
//!  connection ──auth packets, address──► Identities ──in the command──► normalise (create, setACL) ─► AclTable id
//!                                             └────────────────────────► AclRef::allows(perm)
//! ```
//!
//! Identities are resolved by the serving server and travel in the command: `apply` must not ask what only one
//! server knows (its peers' addresses, its certificate authorities). Invariants:
//! * nothing here reads anything but its arguments;
//! * `world:anyone:cdrwa` costs no table entry and is allowed without looking at identities;
//! * stored ACLs own their bytes: they never keep a received frame alive.
//!
//! Source: zookeeper-reference 1.12.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use hashbrown::HashMap;
use jute::{Acl, ErrorCode, Id, JStr, Perms};
use sha1::{Digest as _, Sha1};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;
use std::sync::Arc;

/// The identities of one connection: pairs (scheme, id) such as (`ip`, `127.0.0.1`), (`digest`, `user:hash`),
/// (`super`, ``). Encoded, so that a command carries and returns them without a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identities(Bytes);

impl Identities {
    /// Nobody in particular.
    pub const NONE: Self = Self(Bytes::new());

    /// Encodes pairs (scheme, id).
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut out = BytesMut::new();
        for (scheme, id) in pairs {
            for text in [scheme, id] {
                out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
                out.put_slice(text.as_bytes());
            }
        }
        Self(out.freeze())
    }

    /// The same and one more; unchanged when it is there already.
    #[must_use]
    pub fn with(&self, scheme: &str, id: &str) -> Self {
        if self.iter().any(|pair| pair == (scheme, id)) {
            return self.clone();
        }
        Self::new(self.iter().chain([(scheme, id)]))
    }

    /// The pairs in the order in which they were added. Bytes that are not pairs end the list.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let scheme = take_text(&mut rest)?;
            Some((scheme, take_text(&mut rest)?))
        })
    }

    /// Whether the connection may do everything.
    #[must_use]
    pub fn is_super(&self) -> bool {
        self.iter().any(|(scheme, _)| scheme == "super")
    }

    pub(crate) const fn from_encoded(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(crate) fn encoded(&self) -> &[u8] {
        &self.0
    }
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (len, tail) = rest.split_first_chunk::<4>()?;
    let (text, tail) = tail.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
    *rest = tail;
    std::str::from_utf8(text).ok()
}

/// The id that a client proves with `user:password` in a digest auth packet: `user:base64(SHA1(user:password))`.
/// Without a colon the whole text is the user, as in ZooKeeper.
#[must_use]
pub fn digest_id(user_password: &str) -> String {
    let user = user_password.split(':').next().unwrap_or_default();
    format!("{user}:{}", STANDARD.encode(Sha1::digest(user_password.as_bytes())))
}

/// A node's ACL, cheap to clone; outlives the node (watch events carry it).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclRef(Option<Arc<[Acl]>>);

impl AclRef {
    /// Whether it is `world:anyone:cdrwa`.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.0.is_none()
    }

    /// Its entries.
    #[must_use]
    pub fn entries(&self) -> Vec<Acl> {
        self.0.as_deref().map_or_else(|| vec![Acl::open()], <[Acl]>::to_vec)
    }

    /// Whether a connection with these identities has any permission of `any`.
    #[must_use]
    pub fn allows(&self, any: Perms, who: &Identities) -> bool {
        let Some(entries) = &self.0 else { return true };
        entries.is_empty()
            || entries.iter().any(|entry| Perms(entry.perms).intersects(any) && matches(&entry.id, who))
            || who.is_super()
    }

    /// For tests and for decoding; an open ACL becomes the open one.
    pub(crate) fn of(entries: Vec<Acl>) -> Self {
        if is_open(&entries) { Self(None) } else { Self(Some(entries.into())) }
    }
}

fn is_open(entries: &[Acl]) -> bool {
    matches!(entries, [one] if one.perms == Perms::ALL.0 && is_anyone(&one.id))
}

fn is_anyone(id: &Id) -> bool {
    id.scheme == *"world" && id.id == *"anyone"
}

fn matches(entry: &Id, who: &Identities) -> bool {
    if is_anyone(entry) {
        return true;
    }
    let (scheme, wanted) = (entry.scheme.as_str(), entry.id.as_str());
    who.iter().any(|(theirs, id)| {
        theirs == scheme
            && match scheme {
                "ip" => ip_matches(wanted, id),
                "sasl" => id == wanted || id == "super",
                _ => id == wanted,
            }
    })
}

/// An address and the number of leading bits that count.
fn parse_network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) => bits.parse().ok().filter(|bits| *bits <= width)?,
        None => width,
    };
    Some((address, bits))
}

fn leading(address: IpAddr, bits: u32) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits().checked_shr(32 - bits).unwrap_or(0)),
        IpAddr::V6(v6) => v6.to_bits().checked_shr(128 - bits).unwrap_or(0),
    }
}

fn ip_matches(network: &str, address: &str) -> bool {
    let (Some((network, bits)), Ok(address)) = (parse_network(network), address.parse::<IpAddr>()) else {
        return false;
    };
    network.is_ipv4() == address.is_ipv4() && leading(network, bits) == leading(address, bits)
}

/// Whether an id of `scheme` may stand in an ACL. sasl and x509 wait for their providers.
fn is_valid(scheme: &str, id: &str) -> bool {
    match scheme {
        // Exactly two parts, in the sense of Java's `split`, which drops empty parts at the end.
        "digest" => id.trim_end_matches(':').split(':').count() == 2,
        "ip" => parse_network(id).is_some(),
        _ => false,
    }
}

/// Whether somebody with an identity of this scheme is authenticated, so that `auth` stands for it.
fn is_authenticated(scheme: &str) -> bool {
    matches!(scheme, "digest" | "sasl" | "x509")
}

/// The ACL to store for the one that a client sent: duplicates removed, `auth` replaced by the connection's
/// authenticated identities, order kept, bytes copied out of the received frame.
///
/// # Errors
/// `InvalidAcl`: empty, an unknown scheme, a malformed id, `auth` without an authenticated identity.
pub(crate) fn normalise(sent: &[Acl], who: &Identities) -> Result<AclRef, ErrorCode> {
    if is_open(sent) {
        return Ok(AclRef(None));
    }
    let mut stored: Vec<Acl> = Vec::with_capacity(sent.len());
    let mut add = |perms: i32, scheme: &str, id: &str| {
        let entry = Acl { perms, id: Id { scheme: JStr::from(scheme), id: JStr::from(id) } };
        if !stored.contains(&entry) {
            stored.push(entry);
        }
    };
    for entry in sent {
        let (scheme, id) = (entry.id.scheme.as_str(), entry.id.id.as_str());
        if is_anyone(&entry.id) {
            add(entry.perms, scheme, id);
        } else if scheme == "auth" {
            let mut found = false;
            for (scheme, id) in who.iter().filter(|(scheme, _)| is_authenticated(scheme)) {
                found = true;
                add(entry.perms, scheme, id);
            }
            if !found {
                return Err(ErrorCode::InvalidAcl);
            }
        } else if is_valid(scheme, id) {
            add(entry.perms, scheme, id);
        } else {
            return Err(ErrorCode::InvalidAcl);
        }
    }
    if stored.is_empty() { Err(ErrorCode::InvalidAcl) } else { Ok(AclRef::of(stored)) }
}

/// The list that getACL shows to somebody without ADMIN: hashes of digest ids become `x`.
pub(crate) fn mask(entries: &mut [Acl]) {
    for entry in entries.iter_mut().filter(|entry| entry.id.scheme == *"digest") {
        let user = entry.id.id.as_str().split(':').next().unwrap_or_default();
        entry.id.id = JStr::from(format!("{user}:x"));
    }
}

/// Handle of a stored ACL. Local to one replica: never in a snapshot, never in a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct AclId(u32);

impl AclId {
    /// `world:anyone:cdrwa`.
    pub(crate) const OPEN: Self = Self(0);
}

type FixedState = BuildHasherDefault<DefaultHasher>;

/// Each distinct ACL once, with the number of nodes that have it.
#[derive(Clone, Debug, Default)]
pub(crate) struct AclTable {
    slots: Vec<Slot>,
    ids: HashMap<Arc<[Acl]>, u32, FixedState>,
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Slot {
    acl: Arc<[Acl]>,
    uses: u32,
}

impl AclTable {
    /// Counts one more use of the ACL.
    pub(crate) fn intern(&mut self, acl: &AclRef) -> AclId {
        let Some(entries) = &acl.0 else { return AclId::OPEN };
        if let Some(&id) = self.ids.get(entries) {
            self.slot(id).uses += 1;
            return AclId(id);
        }
        let slot = Slot { acl: entries.clone(), uses: 1 };
        let id = match self.free.pop() {
            Some(id) => {
                *self.slot(id) = slot;
                id
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len()).unwrap_or_else(|_| panic!("more than 2^32 distinct ACLs"))
            }
        };
        self.ids.insert(entries.clone(), id);
        AclId(id)
    }

    /// Counts one use less; the last one frees the entry.
    pub(crate) fn release(&mut self, id: AclId) {
        if id == AclId::OPEN {
            return;
        }
        let slot = self.slot(id.0);
        slot.uses -= 1;
        if slot.uses == 0 {
            let acl = std::mem::take(&mut slot.acl);
            self.ids.remove(&acl);
            self.free.push(id.0);
        }
    }

    /// The ACL behind a handle.
    pub(crate) fn get(&self, id: AclId) -> AclRef {
        AclRef(self.entries(id).cloned())
    }

    /// Whether the ACL behind a handle gives any permission of `any`.
    pub(crate) fn allows(&self, id: AclId, any: Perms, who: &Identities) -> bool {
        id == AclId::OPEN || self.get(id).allows(any, who)
    }

    /// Number of distinct ACLs besides the open one.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    fn entries(&self, id: AclId) -> Option<&Arc<[Acl]>> {
        if id == AclId::OPEN {
            return None;
        }
        let slot = self.slots.get(id.0 as usize - 1);
        Some(&slot.unwrap_or_else(|| panic!("ACL {} is used but not stored", id.0)).acl)
    }

    fn slot(&mut self, id: u32) -> &mut Slot {
        self.slots.get_mut(id as usize - 1).unwrap_or_else(|| panic!("ACL {id} is used but not stored"))
    }
}

#[cfg(test)]
#[path = "acl_tests.rs"]
mod tests;
