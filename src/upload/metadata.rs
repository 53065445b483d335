//! [`Metadata`]: what a client says about a file, and the text it said it in.

use std::{fmt, str::FromStr};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Serialize};

use super::Digest;

/// Keys and values about an upload, in the order given.
///
/// The text form is a comma list of `key` or `key base64(value)`. The text as received is kept, so
/// that it can be echoed byte for byte; it is also the form in which metadata is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Metadata {
    text: String,
    entries: Vec<(String, Vec<u8>)>,
}

/// The text of some metadata breaks its grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMetadata {
    /// The value of this key is not base64 in the standard alphabet.
    #[error("the value of metadata key {0:?} is not standard base64")]
    Base64(String),
    /// A byte outside printable ASCII.
    #[error("metadata has a byte outside printable ASCII")]
    Character,
    /// The key occurs twice.
    #[error("metadata key {0:?} is given twice")]
    Duplicate(String),
    /// More than one space between a key and its value, or more than one value.
    #[error("metadata entry {0:?} is not a key, a space and a value")]
    Entry(String),
}

/// Standard alphabet; missing padding is tolerated (D-27), stray bits are not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Metadata {
    /// Metadata made of `entries`; the text follows from them.
    ///
    /// # Errors
    /// When a key is empty, is not printable ASCII, has a space or a comma, or occurs twice.
    pub fn from_entries<K: Into<String>, V: Into<Vec<u8>>>(
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, InvalidMetadata> {
        let mut text = String::new();
        for (key, value) in entries {
            let (key, value) = (key.into(), value.into());
            if key.is_empty() || key.contains([' ', ',']) {
                return Err(InvalidMetadata::Entry(key));
            }
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&key);
            if !value.is_empty() {
                text.push(' ');
                BASE64.encode_string(value, &mut text);
            }
        }
        text.parse()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_slice())
    }

    /// The value of `key`, if it is UTF-8.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The checksum that all bytes of the upload must have: the value of `checksum`, such as
    /// `sha256 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=`. `None` when there is none, or when the
    /// value does not begin with the name of an algorithm, and is plain metadata.
    ///
    /// # Errors
    /// As [`Digest::of_upload`].
    pub fn checksum(&self) -> Option<Result<Digest, &'static str>> {
        self.get_str("checksum").and_then(Digest::of_upload)
    }

    /// All keys and values in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    /// The text as received; empty when there is no metadata.
    pub fn as_text(&self) -> &str {
        &self.text
    }
}

impl FromStr for Metadata {
    type Err = InvalidMetadata;

    /// Blanks around commas and empty elements are tolerated (D-27); `k` and `k ` both mean the
    /// empty value (T-044).
    fn from_str(text: &str) -> Result<Self, InvalidMetadata> {
        if !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err(InvalidMetadata::Character);
        }
        let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
        for element in text.split(',') {
            let element = element.trim_matches(' ');
            if element.is_empty() {
                continue;
            }
            let (key, value) = element.split_once(' ').unwrap_or((element, ""));
            if value.contains(' ') {
                return Err(InvalidMetadata::Entry(element.to_owned()));
            }
            let value =
                BASE64.decode(value).map_err(|_| InvalidMetadata::Base64(key.to_owned()))?;
            entries.push((key.to_owned(), value));
        }
        // Sorted once instead of compared pair by pair: the list is as long as a client likes.
        let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        if let Some(key) = keys.windows(2).find_map(|pair| (pair[0] == pair[1]).then_some(pair[0]))
        {
            return Err(InvalidMetadata::Duplicate(key.to_owned()));
        }
        Ok(Self { text: text.to_owned(), entries })
    }
}

impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Metadata {
    type Error = InvalidMetadata;

    fn try_from(text: String) -> Result<Self, InvalidMetadata> {
        text.parse()
    }
}

impl From<Metadata> for String {
    fn from(metadata: Metadata) -> Self {
        metadata.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn metadata_text_is_read_as_the_contract_says() {
        use InvalidMetadata::{Base64, Character, Duplicate, Entry};
        let ok = |pairs: &[(&str, &str)]| {
            Ok(pairs.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect())
        };
        type Entries = Vec<(String, Vec<u8>)>;
        let cases: &[(&str, Result<Entries, InvalidMetadata>)] = &[
            ("", ok(&[])),
            ("a", ok(&[("a", "")])),
            ("a ,b Yg==", ok(&[("a", ""), ("b", "b")])),
            ("a,b Yg==", ok(&[("a", ""), ("b", "b")])),
            ("b Yg==,a ", ok(&[("b", "b"), ("a", "")])),
            (" b Yg , ,,a", ok(&[("b", "b"), ("a", "")])),
            ("name 8J+YgA==", ok(&[("name", "😀")])),
            ("a Yg==,a Yg==", Err(Duplicate("a".into()))),
            ("a  Yg==", Err(Entry("a  Yg==".into()))),
            ("a Yg== Yg==", Err(Entry("a Yg== Yg==".into()))),
            ("a Y!==", Err(Base64("a".into()))),
            ("a -_-_", Err(Base64("a".into()))),
            ("ä Yg==", Err(Character)),
            ("a\tYg==", Err(Character)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Metadata>().map(|m| m.entries), *expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn metadata_survives_its_text(values in proptest::collection::vec(any::<Vec<u8>>(), 0..5)) {
            let entries: Vec<_> =
                values.into_iter().enumerate().map(|(i, value)| (format!("k{i}"), value)).collect();
            let made = Metadata::from_entries(entries.clone()).expect("keys are plain");
            prop_assert_eq!(&made.entries, &entries);
            let read: Metadata = made.as_text().parse().expect("own text");
            prop_assert_eq!(read, made);
        }

        #[test]
        fn any_text_is_kept_or_refused(text in any::<String>()) {
            if let Ok(metadata) = text.parse::<Metadata>() {
                prop_assert_eq!(metadata.as_text(), text);
            }
        }
    }
}
