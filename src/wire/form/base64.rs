//! A payload that is sent as text: base64, with or without `data:...,` in front, decoded as it
//! comes.
//!
//! # Source
//! RFC 4648, standard alphabet, padded; RFC 2397 for the front; J-007.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use memchr::{memchr, memchr2};

use super::{PAYLOAD, PAYLOAD_END};
use crate::rules::Refusal;

/// What a browser puts in front of the text.
const SCHEME: &[u8] = b"data:";

/// The longest front, in bytes: it holds a media type.
const MAX_FRONT_BYTES: usize = 1 << 10;

/// Four characters stand for up to three bytes.
const QUANTUM: usize = 4;

/// The decoder.
#[derive(Debug)]
pub(super) struct Base64 {
    /// Characters that wait for the rest of their quantum.
    carry: Vec<u8>,
    /// What may yet turn out to be a front; `None` once that is known.
    front: Option<Vec<u8>>,
    is_padded: bool,
    /// How many characters may still come. Line breaks stand for nothing, so that the text needs a
    /// limit of its own.
    left: u64,
}

impl Base64 {
    /// The decoder of a text that stands for `bytes` bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let characters = bytes.div_ceil(3).saturating_mul(4);
        let slack = u64::try_from(MAX_FRONT_BYTES).unwrap_or(u64::MAX);
        Self {
            carry: Vec::with_capacity(QUANTUM),
            front: Some(Vec::new()),
            is_padded: false,
            left: characters.saturating_mul(2).saturating_add(slack),
        }
    }

    /// The bytes that the next segment of text completes.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] when it is not base64, or longer than what it stands for.
    pub(super) fn decode(&mut self, text: &[u8]) -> Result<Vec<u8>, Refusal> {
        let characters = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(characters).ok_or_else(too_long)?;
        let mut bytes = Vec::new();
        let Some(front) = &mut self.front else {
            self.decode_to(text, &mut bytes)?;
            return Ok(bytes);
        };
        let seen = front.len();
        let (start, rest) = text.split_at(text.len().min(MAX_FRONT_BYTES.saturating_sub(seen)));
        front.extend_from_slice(start);
        let is_front = front.starts_with(SCHEME);
        if !is_front && !SCHEME.starts_with(front) {
            let front = self.front.take().unwrap_or_default();
            self.decode_to(&front, &mut bytes)?;
            self.decode_to(rest, &mut bytes)?;
        } else if let Some(comma) = memchr(b',', front).filter(|_| is_front) {
            let (before, _) = front.split_at(comma);
            if !before.to_ascii_lowercase().ends_with(b";base64") {
                return Err(Refusal::malformed(PAYLOAD, "its text is not marked as base64"));
            }
            self.front = None;
            let (_, after) = text.split_at((comma + 1).saturating_sub(seen));
            self.decode_to(after, &mut bytes)?;
        } else if front.len() >= MAX_FRONT_BYTES {
            return Err(not_base64());
        }
        Ok(bytes)
    }

    /// The bytes that the end of the text completes.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] when it ends in the middle.
    pub(super) fn finish(&mut self) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Vec::new();
        // Browsers write no more than the scheme for an empty blob.
        let front = self.front.take().filter(|front| front != SCHEME);
        self.decode_to(&front.unwrap_or_default(), &mut bytes)?;
        if !self.carry.is_empty() {
            return Err(not_base64());
        }
        Ok(bytes)
    }

    fn decode_to(&mut self, text: &[u8], bytes: &mut Vec<u8>) -> Result<(), Refusal> {
        if memchr2(b'\r', b'\n', text).is_none() {
            return self.decode_line(text, bytes);
        }
        text.split(|byte| matches!(byte, b'\r' | b'\n'))
            .try_for_each(|line| self.decode_line(line, bytes))
    }

    fn decode_line(&mut self, mut text: &[u8], bytes: &mut Vec<u8>) -> Result<(), Refusal> {
        if self.is_padded && !text.is_empty() {
            return Err(not_base64());
        }
        if !self.carry.is_empty() {
            let (start, rest) = text.split_at(text.len().min(QUANTUM - self.carry.len()));
            self.carry.extend_from_slice(start);
            text = rest;
            if self.carry.len() == QUANTUM {
                let quantum = std::mem::take(&mut self.carry);
                self.decode_quanta(&quantum, bytes)?;
            }
        }
        let (quanta, rest) = text.split_at(text.len() - text.len() % QUANTUM);
        if self.is_padded && !text.is_empty() {
            return Err(not_base64());
        }
        self.decode_quanta(quanta, bytes)?;
        if self.is_padded && !rest.is_empty() {
            return Err(not_base64());
        }
        self.carry.extend_from_slice(rest);
        Ok(())
    }

    fn decode_quanta(&mut self, quanta: &[u8], bytes: &mut Vec<u8>) -> Result<(), Refusal> {
        self.is_padded |= quanta.ends_with(b"=");
        STANDARD.decode_vec(quanta, bytes).map_err(|_| not_base64())
    }
}

fn not_base64() -> Refusal {
    Refusal::malformed(PAYLOAD, "its text is not padded base64")
}

fn too_long() -> Refusal {
    Refusal::malformed(PAYLOAD_END, "its text is longer than the bytes it stands for")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(pieces: &[&[u8]], bytes: u64) -> Option<Vec<u8>> {
        let mut decoder = Base64::new(bytes);
        let mut decoded = Vec::new();
        for piece in pieces {
            decoded.extend(decoder.decode(piece).ok()?);
        }
        decoded.extend(decoder.finish().ok()?);
        Some(decoded)
    }

    #[test]
    fn payloads_as_text_are_decoded_strictly_j_007() {
        for (text, expected) in [
            ("", Some("")),
            ("data:", Some("")),
            ("data:application/octet-stream;base64,", Some("")),
            ("data:;base64,YWJj", Some("abc")),
            ("data:text/plain;charset=utf-8;BASE64,YWI=", Some("ab")),
            ("YWJj", Some("abc")),
            ("data", Some("u\u{ab}Z")),
            ("YWJj\r\nYQ==\r\n", Some("abca")),
            ("Y\nW\nJ\nj", Some("abc")),
            ("YQ==", Some("a")),
            ("YQ", None),
            ("YR==", None),
            ("YQ==YQ==", None),
            ("YQ==\r\nYQ==", None),
            ("YQ=", None),
            ("Y-_j", None),
            ("YW Jj", None),
            ("data:text/plain,YWJj", None),
            ("data:text/plain;base64", None),
            ("data:;base64,data:;base64,YWJj", None),
            ("%59WJj", None),
        ] {
            let expected: Option<Vec<u8>> = expected.map(|text| {
                let latin = |c: char| u8::try_from(u32::from(c)).expect("Latin-1");
                text.chars().map(latin).collect()
            });
            let whole = decoded(&[text.as_bytes()], 100);
            assert_eq!(whole, expected, "{text:?}");
            let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(decoded(&single, 100), expected, "{text:?} byte by byte");
        }
    }

    #[test]
    fn text_is_not_much_longer_than_what_it_stands_for_j_007() {
        let breaks = [b'\n'; 4096];
        assert_eq!(decoded(&[&breaks], 3), None);
        assert_eq!(decoded(&[&breaks[..100], b"YWJj"], 3), Some(b"abc".to_vec()));
        let front = [b"data:", &[b'a'; 2048][..], b";base64,YWJj"].concat();
        assert_eq!(decoded(&[&front], 1 << 20), None);
    }

    proptest! {
        #[test]
        fn any_split_of_a_text_decodes_to_the_same_bytes_j_007(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            has_front in any::<bool>(),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        ) {
            let front = if has_front { "data:image/png;base64," } else { "" };
            let text = format!("{front}{}", STANDARD.encode(&bytes));
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> =
                cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decoded(&pieces, 100), Some(bytes));
        }
    }
}
