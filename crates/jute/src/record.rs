//! Records that several messages share.

use crate::codec::record;
use crate::{DecodeError, JStr, Jute, Reader};
use bytes::BufMut;

record! {
    /// Who: a scheme and what it knows somebody by.
    Id {
        /// `world`, `auth`, `digest`, `ip`, `x509`, `sasl`.
        scheme: JStr,
        /// `anyone`, `user:hash`, `10.0.0.0/8`, …
        id: JStr,
    }

    /// What somebody may do.
    Acl {
        /// Bits of [`crate::Perms`].
        perms: i32,
        /// Who.
        id: Id,
    }

    /// One identity of a connection, as `whoAmI` shows it.
    ClientInfo {
        /// Its scheme.
        auth_scheme: JStr,
        /// For digest the part before the colon, for ip the address, else empty.
        user: JStr,
    }
}

impl Acl {
    /// Everybody may do everything.
    #[must_use]
    pub fn open() -> Self {
        Self { perms: crate::Perms::ALL.0, id: Id::anyone() }
    }
}

impl Id {
    /// `world:anyone`.
    #[must_use]
    pub fn anyone() -> Self {
        Self { scheme: JStr::from("world"), id: JStr::from("anyone") }
    }
}

/// What clients see of a node besides its data. 68 bytes on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stat {
    /// zxid of its creation.
    pub czxid: i64,
    /// zxid of the last change of its data.
    pub mzxid: i64,
    /// Time of its creation, ms since the Unix epoch.
    pub ctime: i64,
    /// Time of the last change of its data, ms since the Unix epoch.
    pub mtime: i64,
    /// Number of changes of its data.
    pub version: i32,
    /// Number of changes of its set of children (as reported).
    pub cversion: i32,
    /// Number of changes of its ACL.
    pub aversion: i32,
    /// The owning session if it is ephemeral, else 0.
    pub ephemeral_owner: i64,
    /// Bytes of data.
    pub data_length: i32,
    /// Number of children.
    pub num_children: i32,
    /// zxid of the last creation or deletion of a child.
    pub pzxid: i64,
}

impl Stat {
    /// Bytes on the wire.
    pub const BYTES: usize = 68;
}

impl Jute for Stat {
    const MIN_BYTES: usize = Self::BYTES;

    fn encode(&self, out: &mut impl BufMut) {
        // One append of 68 bytes instead of eleven: it is in nearly every reply.
        let mut wire = [0; Self::BYTES];
        let mut rest = wire.as_mut_slice();
        rest.put_i64(self.czxid);
        rest.put_i64(self.mzxid);
        rest.put_i64(self.ctime);
        rest.put_i64(self.mtime);
        rest.put_i32(self.version);
        rest.put_i32(self.cversion);
        rest.put_i32(self.aversion);
        rest.put_i64(self.ephemeral_owner);
        rest.put_i32(self.data_length);
        rest.put_i32(self.num_children);
        rest.put_i64(self.pzxid);
        out.put_slice(&wire);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            czxid: i64::decode(from)?,
            mzxid: i64::decode(from)?,
            ctime: i64::decode(from)?,
            mtime: i64::decode(from)?,
            version: i32::decode(from)?,
            cversion: i32::decode(from)?,
            aversion: i32::decode(from)?,
            ephemeral_owner: i64::decode(from)?,
            data_length: i32::decode(from)?,
            num_children: i32::decode(from)?,
            pzxid: i64::decode(from)?,
        })
    }
}
