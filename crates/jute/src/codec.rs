//! The encoding itself: [`Reader`] over received bytes, the [`Jute`] trait, and the `record!` macro that makes a
//! struct's fields its encoding.

use crate::JStr;
use bytes::{BufMut, Bytes};

/// Why bytes are not the record that they should be. The sender's fault: answer `MarshallingError` or hang up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("record ends inside a field")]
    Short,
    /// A length below −1 or beyond the remaining bytes.
    #[error("length {0} does not fit the rest of the record")]
    Length(i32),
    /// A count below −1 or more elements than the remaining bytes can hold.
    #[error("count {0} does not fit the rest of the record")]
    Count(i32),
    /// A string that is not UTF-8.
    #[error("string is not UTF-8")]
    Utf8,
    /// A value outside of its set.
    #[error("{0} has no such value: {1}")]
    Value(&'static str, i32),
}

/// A cursor over a received record. Buffers and strings read from it share its memory.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// What was not read yet, sharing the memory.
    #[must_use]
    pub fn rest(&self) -> Bytes {
        self.bytes.slice(self.at..)
    }

    /// Reads `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let found = rest.first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.at += N;
        Ok(*found)
    }

    /// Reads a length and that many bytes; `None` is null.
    ///
    /// # Errors
    /// [`DecodeError::Short`], [`DecodeError::Length`].
    #[inline]
    pub fn buffer(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let len = i32::from_be_bytes(self.array()?);
        if len == -1 {
            return Ok(None);
        }
        let size = usize::try_from(len).map_err(|_| DecodeError::Length(len))?;
        if size > self.remaining() {
            return Err(DecodeError::Length(len));
        }
        let found = self.bytes.slice(self.at..self.at + size);
        self.at += size;
        Ok(Some(found))
    }

    /// Reads a vector's count, checked against what the remaining bytes can hold at `min_bytes` per element.
    ///
    /// # Errors
    /// [`DecodeError::Short`], [`DecodeError::Count`].
    pub fn count(&mut self, min_bytes: usize) -> Result<usize, DecodeError> {
        let count = i32::from_be_bytes(self.array()?);
        if count == -1 {
            return Ok(0);
        }
        let size = usize::try_from(count).map_err(|_| DecodeError::Count(count))?;
        // A frame of a few bytes that claims 2^31 elements must not reserve memory for them.
        if size > self.remaining() / min_bytes.max(1) {
            return Err(DecodeError::Count(count));
        }
        Ok(size)
    }
}

/// Something with an encoding.
pub trait Jute: Sized {
    /// The fewest bytes that an encoding can have.
    const MIN_BYTES: usize;

    /// Appends the encoding.
    fn encode(&self, out: &mut impl BufMut);

    /// Reads one, leaving what follows.
    ///
    /// # Errors
    /// The bytes are not one.
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Decodes a whole buffer; what follows the record is ignored, as ZooKeeper does.
    ///
    /// # Errors
    /// The bytes are not one.
    fn from_bytes(bytes: &Bytes) -> Result<Self, DecodeError> {
        Self::decode(&mut Reader::new(bytes))
    }

    /// The encoding in a buffer of its own.
    fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        self.encode(&mut out);
        Bytes::from(out)
    }
}

/// Lengths on the wire are `i32`; nothing that long can be in memory behind a frame cap of at most 2 GiB.
fn wire_len(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

/// Appends a buffer; `None` is null.
#[inline]
pub fn put_buffer(out: &mut impl BufMut, data: Option<&[u8]>) {
    match data {
        None => out.put_i32(-1),
        Some(bytes) => {
            out.put_i32(wire_len(bytes.len()));
            out.put_slice(bytes);
        }
    }
}

/// Appends a string.
#[inline]
pub fn put_string(out: &mut impl BufMut, text: &str) {
    put_buffer(out, Some(text.as_bytes()));
}

impl Jute for bool {
    const MIN_BYTES: usize = 1;
    fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(u8::from(*self));
    }
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(from.array::<1>()? != [0])
    }
}

impl Jute for i32 {
    const MIN_BYTES: usize = 4;
    fn encode(&self, out: &mut impl BufMut) {
        out.put_i32(*self);
    }
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::from_be_bytes(from.array()?))
    }
}

impl Jute for i64 {
    const MIN_BYTES: usize = 8;
    fn encode(&self, out: &mut impl BufMut) {
        out.put_i64(*self);
    }
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::from_be_bytes(from.array()?))
    }
}

impl Jute for Option<Bytes> {
    const MIN_BYTES: usize = 4;
    fn encode(&self, out: &mut impl BufMut) {
        put_buffer(out, self.as_deref());
    }
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.buffer()
    }
}

impl Jute for JStr {
    const MIN_BYTES: usize = 4;
    fn encode(&self, out: &mut impl BufMut) {
        put_buffer(out, Some(self.as_bytes()));
    }
    /// A null string reads as the empty one: no request gives them different meanings.
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::new(from.buffer()?.unwrap_or_default())
    }
}

impl<T: Jute> Jute for Vec<T> {
    const MIN_BYTES: usize = 4;
    fn encode(&self, out: &mut impl BufMut) {
        out.put_i32(wire_len(self.len()));
        for element in self {
            element.encode(out);
        }
    }
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = from.count(T::MIN_BYTES)?;
        let mut all = Self::with_capacity(count);
        for _ in 0..count {
            all.push(T::decode(from)?);
        }
        Ok(all)
    }
}

/// Defines structs whose encoding is their fields in order.
macro_rules! record {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type),* }

        impl $crate::Jute for $name {
            const MIN_BYTES: usize = 0 $(+ <$type as $crate::Jute>::MIN_BYTES)*;
            #[inline]
            fn encode(&self, out: &mut impl ::bytes::BufMut) {
                $(<$type as $crate::Jute>::encode(&self.$field, out);)*
            }
            #[inline]
            fn decode(from: &mut $crate::Reader<'_>) -> Result<Self, $crate::DecodeError> {
                Ok(Self { $($field: <$type as $crate::Jute>::decode(from)?),* })
            }
        }
    )*};
}
pub(crate) use record;
