//! What servers say to each other beside the protocol, on the application lane of their links.
//!
//! ```text
//!  1 Forward   (length, command)*     to the leader: propose these, in this order
//!  2 Touches   life at (session age)* to the leader: these clients were heard, so many ms before the report was made
//!  3 Heard     life at                from the leader: that report has arrived
//! ```
//!
//! Each may be lost or come twice: the forwarder sends again, and what was not confirmed is in the next report too.

use crate::reports::{Mark, Touch};
use bytes::{Buf, BufMut, Bytes, BytesMut};

const FORWARD: u8 = 1;
const TOUCHES: u8 = 2;
const HEARD: u8 = 3;
/// Bytes of a touch.
const TOUCH_BYTES: usize = 12;

/// A decoded message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PeerMessage {
    /// Commands to propose.
    Forward(Vec<Bytes>),
    /// Sessions heard of.
    Touches(Mark, Vec<Touch>),
    /// The leader knows of a report.
    Heard(Mark),
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
pub(crate) fn touches(mark: Mark, touches: &[Touch]) -> Bytes {
    let mut out = BytesMut::with_capacity(17 + TOUCH_BYTES * touches.len());
    put_mark(&mut out, TOUCHES, mark);
    for (session, age) in touches {
        out.put_i64(*session);
        out.put_u32(*age);
    }
    out.freeze()
}

/// Encodes the confirmation of a report.
pub(crate) fn heard(mark: Mark) -> Bytes {
    let mut out = BytesMut::with_capacity(17);
    put_mark(&mut out, HEARD, mark);
    out.freeze()
}

fn put_mark(out: &mut BytesMut, kind: u8, mark: Mark) {
    out.put_u8(kind);
    out.put_u64(mark.life);
    out.put_u64(mark.at);
}

fn take_mark(from: &mut Bytes) -> Option<Mark> {
    Some(Mark { life: from.try_get_u64().ok()?, at: from.try_get_u64().ok()? })
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
                let mark = take_mark(&mut from)?;
                if !from.len().is_multiple_of(TOUCH_BYTES) {
                    return None;
                }
                let mut touches = Vec::with_capacity(from.len() / TOUCH_BYTES);
                while let (Ok(session), Ok(age)) = (from.try_get_i64(), from.try_get_u32()) {
                    touches.push((session, age));
                }
                Some(Self::Touches(mark, touches))
            }
            HEARD => take_mark(&mut from).filter(|_| from.is_empty()).map(Self::Heard),
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
        let (mark, some) = (Mark { life: 7, at: 9 }, vec![(1, 0), (-2, 500)]);
        assert_eq!(PeerMessage::decode(touches(mark, &some)), Some(PeerMessage::Touches(mark, some)));
        assert_eq!(PeerMessage::decode(heard(mark)), Some(PeerMessage::Heard(mark)));
        for bad in [&[][..], &[9], &[1, 0, 0, 0, 9, 1], &[1, 0], &[2, 1, 2, 3], &[2; 18], &[3; 16], &[3; 18]]
        {
            assert_eq!(PeerMessage::decode(Bytes::copy_from_slice(bad)), None);
        }
    }
}
