//! How two nodes get to know each other before the first frame.
//!
//! ```text
//!  dialler                                    acceptor
//!  Hello  kind, versions, protocol, cluster,
//!         from, to, nonce            ───────►  checks, in this order: version, protocol, cluster, to, from
//!                                    ◄───────  Answer  status, version, nonce, MAC(secret, "answer" Hello Answer)
//!  Proof  MAC(secret, "proof" Hello Answer) ►
//!                                    ◄───────  Verdict: status
//! ```
//!
//! All messages have a fixed size, so nothing is reserved on a stranger's word. With a secret both ends prove that
//! they know it; the nonces make each proof good for one connection only, the label keeps a proof from being played
//! back as an answer. Without one the MACs are zeros. The MAC covers the handshake, not the frames after it: it
//! keeps strangers and mix-ups out, not someone who can rewrite packets; that takes TLS.
//!
//! The larger id dials. A smaller one only knocks (`Kind::Knock`): it is answered, closed, and dialled back.

use crate::config::Secret;
use hmac::{Hmac, Mac};
use replog::NodeId;
use sha2::Sha256;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MAGIC: [u8; 8] = *b"mngpeer\n";
const HELLO_BYTES: usize = 61;
const ANSWER_BYTES: usize = 59;
const PROVEN_BYTES: usize = ANSWER_BYTES - MAC_BYTES;
const MAC_BYTES: usize = 32;
const PROTOCOL_BYTES: usize = 16;

/// Versions of the peer protocol that this build speaks.
const VERSIONS: (u16, u16) = (1, 1);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Frames in both directions.
    Link,
    /// "Dial me": closed at once.
    Knock,
    /// One snapshot, from the dialler.
    Snapshot,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Link => 1,
            Self::Knock => 2,
            Self::Snapshot => 3,
        }
    }

    const fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Link),
            2 => Some(Self::Knock),
            3 => Some(Self::Snapshot),
            _ => None,
        }
    }
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("not a Menagerie peer")]
    Magic,
    #[error("no common version of the peer protocol")]
    Version,
    #[error("it runs another consensus protocol")]
    Protocol,
    #[error("it belongs to another cluster")]
    Cluster,
    #[error("it takes this node, or the node takes it, for another server")]
    Addressee,
    #[error("it is not a member of the ensemble")]
    Stranger,
    #[error("it does not know the shared secret")]
    Secret,
    #[error("the smaller id does not dial")]
    Direction,
    #[error("timed out")]
    Timeout,
}

impl HandshakeError {
    const fn status(&self) -> u8 {
        match self {
            Self::Io(_) | Self::Timeout | Self::Magic => 1,
            Self::Version => 2,
            Self::Protocol => 3,
            Self::Cluster => 4,
            Self::Addressee => 5,
            Self::Stranger => 6,
            Self::Secret => 7,
            Self::Direction => 8,
        }
    }

    const fn of(status: u8) -> Result<(), Self> {
        Err(match status {
            0 => return Ok(()),
            2 => Self::Version,
            3 => Self::Protocol,
            4 => Self::Cluster,
            5 => Self::Addressee,
            6 => Self::Stranger,
            7 => Self::Secret,
            8 => Self::Direction,
            _ => Self::Magic,
        })
    }
}

/// Who this node is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) protocol: &'static str,
    pub(crate) cluster: u64,
    pub(crate) id: NodeId,
    pub(crate) secret: Option<Secret>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hello {
    kind: Kind,
    versions: (u16, u16),
    protocol: [u8; PROTOCOL_BYTES],
    cluster: u64,
    from: NodeId,
    to: NodeId,
}

impl Hello {
    fn encode(&self, nonce: [u8; 16]) -> [u8; HELLO_BYTES] {
        let mut out = Vec::with_capacity(HELLO_BYTES);
        out.extend_from_slice(&MAGIC);
        out.push(self.kind.byte());
        out.extend_from_slice(&self.versions.0.to_le_bytes());
        out.extend_from_slice(&self.versions.1.to_le_bytes());
        out.extend_from_slice(&self.protocol);
        out.extend_from_slice(&self.cluster.to_le_bytes());
        out.extend_from_slice(&self.from.0.to_le_bytes());
        out.extend_from_slice(&self.to.0.to_le_bytes());
        out.extend_from_slice(&nonce);
        let mut fixed = [0; HELLO_BYTES];
        fixed.copy_from_slice(&out);
        fixed
    }

    fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, HandshakeError> {
        let mut from = Fields(bytes);
        if from.take::<8>()? != MAGIC {
            return Err(HandshakeError::Magic);
        }
        let [kind] = from.take::<1>()?;
        let versions = (u16::from_le_bytes(from.take()?), u16::from_le_bytes(from.take()?));
        Ok(Self {
            kind: Kind::of(kind).ok_or(HandshakeError::Magic)?,
            versions,
            protocol: from.take()?,
            cluster: u64::from_le_bytes(from.take()?),
            from: NodeId(u32::from_le_bytes(from.take()?)),
            to: NodeId(u32::from_le_bytes(from.take()?)),
        })
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], HandshakeError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(HandshakeError::Magic)?;
        self.0 = rest;
        Ok(*head)
    }
}

fn padded(name: &str) -> [u8; PROTOCOL_BYTES] {
    let mut field = [0; PROTOCOL_BYTES];
    field.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    field
}

fn nonce() -> Result<[u8; 16], HandshakeError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| HandshakeError::Io(io::Error::other(e.to_string())))?;
    Ok(bytes)
}

/// A number that both ends of a connection know and no other connection has: its nonces, mixed.
fn token(hello: &[u8; HELLO_BYTES], answer: &[u8]) -> u64 {
    let nonces = hello.iter().rev().take(16).chain(answer.iter().rev().take(16));
    // 64-bit FNV-1a.
    nonces.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Everything of the connection that a MAC covers.
struct Transcript<'a> {
    secret: Option<&'a Secret>,
    hello: &'a [u8; HELLO_BYTES],
    /// The answer up to its MAC.
    answer: &'a [u8],
}

impl Transcript<'_> {
    fn mac(&self, label: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(self.secret?.bytes()).ok()?;
        for part in [label, self.hello, self.answer] {
            mac.update(part);
        }
        Some(mac)
    }

    fn make(&self, label: &[u8]) -> [u8; MAC_BYTES] {
        self.mac(label).map_or([0; MAC_BYTES], |m| m.finalize().into_bytes().into())
    }

    /// Without a secret of our own anything will do.
    fn check(&self, label: &[u8], given: &[u8]) -> Result<(), HandshakeError> {
        let Some(mac) = self.mac(label) else { return Ok(()) };
        mac.verify_slice(given).map_err(|_| HandshakeError::Secret)
    }
}

impl Identity {
    /// The dialler's side; a number that names the connection at both ends.
    pub(crate) async fn greet(
        &self,
        stream: &mut TcpStream,
        to: NodeId,
        kind: Kind,
    ) -> Result<u64, HandshakeError> {
        let hello = Hello {
            kind,
            versions: VERSIONS,
            protocol: padded(self.protocol),
            cluster: self.cluster,
            from: self.id,
            to,
        }
        .encode(nonce()?);
        stream.write_all(&hello).await?;
        let mut answer = [0; ANSWER_BYTES];
        stream.read_exact(&mut answer).await?;
        let (proven, mac) = answer.split_at(PROVEN_BYTES);
        let mut fields = Fields(proven);
        if fields.take::<8>()? != MAGIC {
            return Err(HandshakeError::Magic);
        }
        let [status] = fields.take::<1>()?;
        HandshakeError::of(status)?;
        let transcript = Transcript { secret: self.secret.as_ref(), hello: &hello, answer: proven };
        transcript.check(b"answer", mac)?;
        stream.write_all(&transcript.make(b"proof")).await?;
        let mut verdict = [0];
        stream.read_exact(&mut verdict).await?;
        let [status] = verdict;
        HandshakeError::of(status).map(|()| token(&hello, proven))
    }

    /// The acceptor's side: who is there, what for, and the connection's number.
    pub(crate) async fn receive(
        &self,
        stream: &mut TcpStream,
        is_member: impl Fn(NodeId) -> bool,
    ) -> Result<(NodeId, Kind, u64), HandshakeError> {
        let mut bytes = [0; HELLO_BYTES];
        stream.read_exact(&mut bytes).await?;
        let hello = Hello::decode(&bytes)?;
        let checked = self.check(&hello, is_member);
        let status = checked.as_ref().err().map_or(0, HandshakeError::status);
        let mut proven = Vec::with_capacity(ANSWER_BYTES);
        proven.extend_from_slice(&MAGIC);
        proven.push(status);
        proven.extend_from_slice(&VERSIONS.1.min(hello.versions.1).to_le_bytes());
        proven.extend_from_slice(&nonce()?);
        let transcript = Transcript { secret: self.secret.as_ref(), hello: &bytes, answer: &proven };
        let answer = [&proven[..], &transcript.make(b"answer")].concat();
        stream.write_all(&answer).await?;
        checked?;
        let mut proof = [0; MAC_BYTES];
        stream.read_exact(&mut proof).await?;
        let verdict = transcript.check(b"proof", &proof);
        stream.write_all(&[verdict.as_ref().err().map_or(0, HandshakeError::status)]).await?;
        verdict.map(|()| (hello.from, hello.kind, token(&bytes, &proven)))
    }

    fn check(&self, hello: &Hello, is_member: impl Fn(NodeId) -> bool) -> Result<(), HandshakeError> {
        if hello.versions.0 > VERSIONS.1 || hello.versions.1 < VERSIONS.0 {
            Err(HandshakeError::Version)
        } else if hello.protocol != padded(self.protocol) {
            Err(HandshakeError::Protocol)
        } else if hello.cluster != self.cluster {
            Err(HandshakeError::Cluster)
        } else if hello.to != self.id || hello.from == self.id {
            Err(HandshakeError::Addressee)
        } else if !is_member(hello.from) {
            Err(HandshakeError::Stranger)
        } else if hello.kind == Kind::Link && hello.from < self.id {
            Err(HandshakeError::Direction)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn identity(id: u32) -> Identity {
        Identity { protocol: "raft", cluster: 7, id: NodeId(id), secret: None }
    }

    type Received = Result<(NodeId, Kind, u64), HandshakeError>;

    /// What dialler and acceptor say.
    fn meet(
        dialler: &Identity,
        acceptor: &Identity,
        to: u32,
        kind: Kind,
    ) -> (Result<u64, HandshakeError>, Received) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut out = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut inbound, _) = listener.accept().await.unwrap();
            // Each side drops its end when it is done, so the other is not left waiting.
            tokio::join!(async move { dialler.greet(&mut out, NodeId(to), kind).await }, async move {
                acceptor.receive(&mut inbound, |n| n.0 <= 3).await
            })
        })
    }

    #[test]
    fn friends_meet() {
        for (from, to, kind) in [(2, 1, Kind::Link), (1, 2, Kind::Knock), (1, 2, Kind::Snapshot)] {
            let (greeted, received) = meet(&identity(from), &identity(to), to, kind);
            let token = greeted.unwrap();
            assert_eq!(received.unwrap(), (NodeId(from), kind, token), "both ends name the connection alike");
        }
    }

    // requirement: fault row 34, and "rogue or old peer" of the threat table
    #[test]
    fn everyone_else_is_told_why_not() {
        let me = identity(2);
        let other_protocol = Identity { protocol: "zab", ..identity(3) };
        let other_cluster = Identity { cluster: 8, ..identity(3) };
        let told = |dialler: &Identity, to, kind| {
            let (greeted, received) = meet(dialler, &me, to, kind);
            let (greeted, received) = (greeted.unwrap_err(), received.unwrap_err());
            assert_eq!(greeted.to_string(), received.to_string());
            received
        };
        assert!(matches!(told(&other_protocol, 2, Kind::Link), HandshakeError::Protocol));
        assert!(matches!(told(&other_cluster, 2, Kind::Link), HandshakeError::Cluster));
        assert!(matches!(told(&identity(3), 1, Kind::Link), HandshakeError::Addressee));
        assert!(matches!(told(&identity(2), 2, Kind::Link), HandshakeError::Addressee));
        assert!(matches!(told(&identity(9), 2, Kind::Link), HandshakeError::Stranger));
        assert!(matches!(told(&identity(1), 2, Kind::Link), HandshakeError::Direction));
    }

    // requirement: CVE-2018-8012 (no authentication of joining servers)
    #[test]
    fn a_secret_must_be_known_to_both() {
        let with =
            |id, secret: &[u8]| Identity { secret: Some(Secret::new(secret.to_vec())), ..identity(id) };
        let (greeted, received) = meet(&with(3, b"one"), &with(2, b"one"), 2, Kind::Link);
        assert!(greeted.is_ok() && received.is_ok());
        let (greeted, received) = meet(&with(3, b"one"), &with(2, b"two"), 2, Kind::Link);
        assert!(greeted.is_err() && received.is_err());
        let (_, received) = meet(&identity(3), &with(2, b"two"), 2, Kind::Link);
        assert!(matches!(received, Err(HandshakeError::Secret)));
        let (greeted, _) = meet(&with(3, b"one"), &identity(2), 2, Kind::Link);
        assert!(matches!(greeted, Err(HandshakeError::Secret)));
    }

    #[test]
    fn golden_hello() {
        let hello = Hello {
            kind: Kind::Link,
            versions: (1, 1),
            protocol: padded("raft"),
            cluster: 7,
            from: NodeId(3),
            to: NodeId(2),
        };
        let bytes = hello.encode([9; 16]);
        let mut expected = b"mngpeer\n\x01\x01\0\x01\0raft".to_vec();
        expected.extend_from_slice(&[0; 12]);
        expected.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0]);
        expected.extend_from_slice(&[9; 16]);
        assert_eq!(bytes.to_vec(), expected);
        assert_eq!(Hello::decode(&bytes).unwrap(), hello);
    }
}
