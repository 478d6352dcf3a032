//! Strings of the wire: checked UTF-8 that shares the received memory.

use crate::DecodeError;
use bytes::Bytes;
use std::fmt;
use std::ops::Deref;

/// A string that came over the wire (a path, a scheme, an id): UTF-8 inside [`Bytes`], so that neither decoding nor
/// cloning copies. It keeps the whole frame alive: copy what outlives the request.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JStr(Bytes);

impl JStr {
    /// Checks the bytes. Surrogates in three bytes (CESU-8, as the Java encoder writes characters above U+FFFF) are
    /// refused; ZooKeeper decodes them and then refuses the path.
    ///
    /// # Errors
    /// [`DecodeError::Utf8`].
    pub fn new(bytes: Bytes) -> Result<Self, DecodeError> {
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(_) => Err(DecodeError::Utf8),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Checked in `new`; without unsafe code the check is repeated (some ns for a path).
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Its bytes, without the repeated check of [`Self::as_str`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its bytes as they were received.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for JStr {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for JStr {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for JStr {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl PartialEq<str> for JStr {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for JStr {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl fmt::Debug for JStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for JStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
