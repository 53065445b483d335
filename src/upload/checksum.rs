//! [`Algorithm`], [`Digest`], [`Digester`]: checksums over the bytes of a request or an upload.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::Digest as _;

/// A checksum algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// MD5, 16 bytes.
    Md5,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// All algorithms, the preferred first.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha512, Self::Md5];

    /// The lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of its values.
    pub const fn value_bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The algorithm of this name in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// A digester that has seen no byte.
    pub fn digester(self) -> Digester {
        Digester(match self {
            Self::Md5 => State::Md5(md5::Md5::new()),
            Self::Sha1 => State::Sha1(sha1::Sha1::new()),
            Self::Sha256 => State::Sha256(sha2::Sha256::new()),
            Self::Sha512 => State::Sha512(sha2::Sha512::new()),
        })
    }
}

/// A checksum: an algorithm and the value it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// How the value is computed.
    pub algorithm: Algorithm,
    /// The value; of the wrong length it matches nothing.
    pub value: Vec<u8>,
}

impl Digest {
    /// Parses the checksum that a client may give for all bytes of an upload: an algorithm, a space
    /// and the value in base64, as in `Upload-Checksum`. `None` when `text` does not begin with the
    /// name of an algorithm and a space.
    ///
    /// # Errors
    /// When the value is not base64, or of the wrong length.
    pub fn of_upload(text: &str) -> Option<Result<Self, &'static str>> {
        let (name, value) = text.split_once(' ')?;
        let algorithm = Algorithm::named(name)?;
        let value = STANDARD.decode(value).unwrap_or_default();
        let is_valid = value.len() == algorithm.value_bytes();
        Some(is_valid.then_some(Self { algorithm, value }).ok_or(
            "the checksum of an upload is an algorithm, a space and its value in padded base64",
        ))
    }
}

/// The running computation of one checksum.
#[derive(Clone)]
pub struct Digester(State);

#[derive(Clone)]
enum State {
    Md5(md5::Md5),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Digester {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Md5(state) => state.update(bytes),
            State::Sha1(state) => state.update(bytes),
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The algorithm it computes.
    pub const fn algorithm(&self) -> Algorithm {
        match &self.0 {
            State::Md5(_) => Algorithm::Md5,
            State::Sha1(_) => Algorithm::Sha1,
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The checksum over all bytes taken in.
    pub fn finish(self) -> Digest {
        let (algorithm, value) = match self.0 {
            State::Md5(state) => (Algorithm::Md5, state.finalize().to_vec()),
            State::Sha1(state) => (Algorithm::Sha1, state.finalize().to_vec()),
            State::Sha256(state) => (Algorithm::Sha256, state.finalize().to_vec()),
            State::Sha512(state) => (Algorithm::Sha512, state.finalize().to_vec()),
        };
        Digest { algorithm, value }
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180 and RFC 1321 give these for `abc`.
    #[test]
    fn digests_of_abc_are_the_published_ones() {
        for (algorithm, start, length) in [
            (Algorithm::Md5, [0x90, 0x01, 0x50, 0x98], 16),
            (Algorithm::Sha1, [0xa9, 0x99, 0x3e, 0x36], 20),
            (Algorithm::Sha256, [0xba, 0x78, 0x16, 0xbf], 32),
            (Algorithm::Sha512, [0xdd, 0xaf, 0x35, 0xa1], 64),
        ] {
            let mut digester = algorithm.digester();
            digester.update(b"a");
            digester.update(b"bc");
            let digest = digester.finish();
            assert_eq!(digest.algorithm, algorithm);
            assert_eq!((&digest.value[..4], digest.value.len()), (&start[..], length));
            assert_eq!(algorithm.value_bytes(), length);
            assert_eq!(Algorithm::named(&algorithm.name().to_uppercase()), Some(algorithm));
        }
        assert_eq!(Algorithm::named("crc32"), None);
    }

    #[test]
    fn checksum_of_an_upload_is_an_algorithm_and_a_value_of_its_length() {
        for (text, expected) in [
            ("sha1 Lve95gjOVATpfV8EL5X4nxwjKHE=", Some(Ok(Algorithm::Sha1))),
            ("MD5 kAFQmDzST7DWlj99KOF/cg==", Some(Ok(Algorithm::Md5))),
            ("sha256 Lve95gjOVATpfV8EL5X4nxwjKHE=", Some(Err(()))),
            ("sha1 2ef7bde608ce5404e97d5f042f95f89f1c232871", Some(Err(()))),
            ("sha1 Lve95gjOVATpfV8EL5X4nxwjKHE", Some(Err(()))),
            ("sha1 ", Some(Err(()))),
            ("sha1", None),
            ("crc32 AAAAAA==", None),
            ("2ef7bde608ce5404e97d5f042f95f89f1c232871", None),
            ("", None),
        ] {
            let parsed = Digest::of_upload(text);
            let algorithm =
                parsed.map(|parsed| parsed.map(|digest| digest.algorithm).map_err(|_| ()));
            assert_eq!(algorithm, expected, "{text:?}");
        }
    }
}
