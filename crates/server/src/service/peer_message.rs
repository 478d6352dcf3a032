//! What servers say to each other beside the protocol, on the application lane of their links.
//!
//! ```text
//!  1 Forward   (length, command)*     to the leader: propose these, in this order
//!  2 Touches   session*               to the leader: these clients were heard since the last report
//! ```
//!
//! Both may be lost or come twice: the forwarder sends again, and a lost report costs a session half a tick of its
//! timeout once.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const FORWARD: u8 = 1;
const TOUCHES: u8 = 2;

/// A decoded message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PeerMessage {
    /// Commands to propose.
    Forward(Vec<Bytes>),
    /// Sessions heard of.
    Touches(Vec<i64>),
}

/// Encodes commands for the leader.
pub(crate) fn forward(commands: &[Bytes]) -> Bytes {
    let size: usize = commands.iter().map(|c| c.len() + 4).sum();
    let mut out = BytesMut::with_capacity(1 + size);
    out.put_u8(FORWARD);
    for command in commands {
        out.put_u32(u32::try_from(command.len()).unwrap_or(u32::MAX));
        out.put_slice(command);
    }
    out.freeze()
}

/// Encodes a report of touches.
pub(crate) fn touches(sessions: &[i64]) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + 8 * sessions.len());
    out.put_u8(TOUCHES);
    for session in sessions {
        out.put_i64(*session);
    }
    out.freeze()
}

impl PeerMessage {
    /// Decodes a message; `None` if it is none. Commands are slices of it.
    pub(crate) fn decode(mut from: Bytes) -> Option<Self> {
        match from.try_get_u8().ok()? {
            FORWARD => {
                let mut commands = Vec::new();
                while from.has_remaining() {
                    let length = usize::try_from(from.try_get_u32().ok()?).ok()?;
                    if length > from.len() {
                        return None;
                    }
                    commands.push(from.split_to(length));
                }
                Some(Self::Forward(commands))
            }
            TOUCHES => {
                if !from.len().is_multiple_of(8) {
                    return None;
                }
                let mut sessions = Vec::with_capacity(from.len() / 8);
                while let Ok(session) = from.try_get_i64() {
                    sessions.push(session);
                }
                Some(Self::Touches(sessions))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_nonsense_is_refused() {
        let commands = vec![Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"two")];
        assert_eq!(PeerMessage::decode(forward(&commands)), Some(PeerMessage::Forward(commands)));
        assert_eq!(PeerMessage::decode(touches(&[1, -2])), Some(PeerMessage::Touches(vec![1, -2])));
        for bad in [&[][..], &[9], &[1, 0, 0, 0, 9, 1], &[1, 0], &[2, 1, 2, 3]] {
            assert_eq!(PeerMessage::decode(Bytes::copy_from_slice(bad)), None);
        }
    }
}
