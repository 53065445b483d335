//! [`UploadId`]: the only place where untrusted text becomes an id.

use std::{cell::RefCell, fmt, str::FromStr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// The name of one upload: 1 to 128 characters of `[A-Za-z0-9_-]`, so that it is safe as a file
/// name, a path segment and a header value without escaping.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UploadId(Arc<str>);

/// What a fresh id looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IdForm {
    /// As [`UploadId::random`] makes it.
    #[default]
    Short,
    /// As [`UploadId::random_uuid`] makes it.
    Uuid,
}

/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Random bits in an id made by [`UploadId::random`], in bytes (I-12 asks for 128 bits).
const RANDOM_BYTES: usize = 18;

/// For so many ids the system is asked for randomness at once.
const STOCK_IDS: usize = 64;

thread_local! {
    /// Random bytes that no id has been made of yet.
    static STOCK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl UploadId {
    /// A fresh, unguessable id: 144 random bits as 24 characters.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        STOCK.with_borrow_mut(|stock| {
            if stock.is_empty() {
                let mut bytes = vec![0; STOCK_IDS * RANDOM_BYTES];
                getrandom::fill(&mut bytes)?;
                *stock = bytes;
            }
            let rest = stock.len() - RANDOM_BYTES;
            let id = Self(URL_SAFE_NO_PAD.encode(&stock[rest..]).into());
            stock.truncate(rest);
            Ok(id)
        })
    }

    /// A fresh, unguessable id in the form of a random UUID (RFC 9562, version 4): 122 random bits
    /// as 36 characters.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn random_uuid() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let groups =
            [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        Ok(Self(groups.join("-").into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The keyed hash of a client's own name for an upload. The secret keeps the name from being
/// guessed from the key; no text of a client is used beyond it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key([u8; 32]);

impl Key {
    /// The key of a list of names. Each goes in with its length in front, so that no two lists
    /// meet.
    pub fn new(secret: &[u8], names: &[&[u8]]) -> Self {
        let mut mac: Hmac<Sha256> =
            Hmac::new_from_slice(secret).expect("a key of any length makes an HMAC");
        for name in names {
            mac.update(&u64::try_from(name.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(name);
        }
        Self(mac.finalize().into_bytes().into())
    }

    /// The key in the place of an id, which no upload has.
    pub fn to_id(&self) -> UploadId {
        UploadId(self.to_text().into())
    }

    /// The key as text of the alphabet of [`UploadId`], 43 characters.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl TryFrom<String> for Key {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidKey)?;
        Ok(Self(bytes.try_into().map_err(|_| InvalidKey)?))
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.to_text()
    }
}

/// The text is not a [`Key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is 32 bytes as base64url without padding")]
pub struct InvalidKey;

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// The text is not an id: empty, too long, or with a character outside `[A-Za-z0-9_-]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an upload id is 1 to {MAX_ID_BYTES} characters of A-Z, a-z, 0-9, _ and -")]
pub struct InvalidId;

impl FromStr for UploadId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let safe = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if text.is_empty() || text.len() > MAX_ID_BYTES || !text.bytes().all(safe) {
            return Err(InvalidId);
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for UploadId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<UploadId> for String {
    fn from(id: UploadId) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_from_text_is_path_safe() {
        let long = "a".repeat(128);
        let too_long = "a".repeat(129);
        for (text, valid) in [
            ("a", true),
            ("AZaz09_-", true),
            (long.as_str(), true),
            ("", false),
            (too_long.as_str(), false),
            ("..", false),
            ("a/b", false),
            ("a.part", false),
            ("a\0", false),
            ("ä", false),
        ] {
            assert_eq!(text.parse::<UploadId>().is_ok(), valid, "{text:?}");
        }
    }

    #[test]
    fn random_ids_differ_and_parse() {
        let ids =
            [UploadId::random().expect("randomness"), UploadId::random().expect("randomness")];
        assert_ne!(ids[0], ids[1]);
        assert_eq!(ids[0].as_str().parse(), Ok(ids[0].clone()));
        assert_eq!(ids[0].as_str().len(), 24);
    }

    #[test]
    fn keys_depend_on_the_secret_every_name_and_its_borders() {
        let key = Key::new;
        assert_eq!(key(b"s", &[b"a", b"b"]), key(b"s", &[b"a", b"b"]));
        assert_ne!(key(b"s", &[b"a", b"b"]), key(b"s", &[b"ab", b""]));
        assert_ne!(key(b"s", &[b"a"]), key(b"t", &[b"a"]));
        let text = key(b"s", &[b"../x"]).to_text();
        assert!(text.parse::<UploadId>().is_ok());
        assert_eq!(Key::try_from(text), Ok(key(b"s", &[b"../x"])));
        assert_eq!(Key::try_from("YQ".to_owned()), Err(InvalidKey));
    }
}
