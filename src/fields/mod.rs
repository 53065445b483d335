//! Header fields, one per file: where it comes from, its grammar, an example, `decode`, `encode`.
//! Knows `http` and the nouns, so that servers and clients share it; no request as a whole, no
//! dialect, no rule.
//!
//! `decode` takes a whole header map, because how often a field occurs is part of its grammar. What
//! is wrong with one is [`Invalid`]; dialects decide what that means.

pub mod content_disposition;
pub mod content_encoding;
pub mod content_range;
pub mod content_type;
pub mod forwarded;
pub mod host;
pub mod if_none_match;
pub mod if_range;
pub mod range;
pub mod tus_resumable;
pub mod upload_checksum;
pub mod upload_concat;
pub mod upload_defer_length;
pub mod upload_expires;
pub mod upload_length;
pub mod upload_metadata;
pub mod upload_missing;
pub mod upload_offset;
pub mod x_http_method_override;

use std::{borrow::Cow, iter, str};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::upload::MAX_POSITION_BYTES;

/// A header field that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// Its name, as it is written in messages.
    pub field: &'static str,
    /// Why.
    pub reason: Reason,
}

/// Why a header field cannot be used. All that dialects answer alike is [`Reason::Malformed`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// It breaks its grammar.
    #[error("{0}")]
    Malformed(String),
    /// The number is larger than [`MAX_POSITION_BYTES`].
    #[error("larger than any upload")]
    TooLarge,
    /// It has more bytes than the caller allows.
    #[error("longer than {limit_bytes} bytes")]
    TooLong {
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// It names an algorithm that is not known here.
    #[error("{name:?} is not known")]
    UnknownAlgorithm {
        /// The name as given, cut to 64 characters.
        name: String,
    },
    /// It names no version that is spoken here.
    #[error("not a supported version")]
    UnsupportedVersion,
    /// It names a media type that is not taken here.
    #[error("expected {expected}")]
    WrongMediaType {
        /// The media type expected.
        expected: &'static str,
    },
}

impl Invalid {
    /// `field` cannot be used for `reason`.
    pub(crate) const fn new(field: &'static str, reason: Reason) -> Self {
        Self { field, reason }
    }

    /// `field` breaks its grammar.
    pub(crate) fn malformed(field: &'static str, reason: impl Into<String>) -> Self {
        Self::new(field, Reason::Malformed(reason.into()))
    }
}

/// Why some text is not a position or a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotDecimal {
    /// It is not `1*DIGIT`.
    Malformed,
    /// It is, but larger than [`MAX_POSITION_BYTES`].
    TooLarge,
}

/// The number that `text`, `1*DIGIT`, stands for (T-002).
pub(crate) fn decimal(text: &[u8]) -> Result<u64, NotDecimal> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(NotDecimal::Malformed);
    }
    text.iter()
        .try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .filter(|number| *number <= MAX_POSITION_BYTES)
        .ok_or(NotDecimal::TooLarge)
}

/// The number of bytes in `value`, that of `field`.
fn number(value: &HeaderValue, field: &'static str) -> Result<u64, Invalid> {
    decimal(value.as_bytes()).map_err(|error| match error {
        NotDecimal::Malformed => Invalid::malformed(field, "expected a number of bytes"),
        NotDecimal::TooLarge => Invalid::new(field, Reason::TooLarge),
    })
}

/// The value of a field that may occur once.
pub(crate) fn single<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    field: &'static str,
) -> Result<Option<&'h HeaderValue>, Invalid> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.next() {
        Some(_) => Err(Invalid::malformed(field, "given more than once")),
        None => Ok(first),
    }
}

/// The elements of a comma list, over all its lines, without blanks around them and without empty
/// ones. Lines that are not ASCII have none.
pub(crate) fn elements<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'h str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| split_unquoted(line, b','))
        .filter(|element| !element.is_empty())
}

/// `text` cut at each `separator` outside of quotes, without blanks around the pieces.
pub(crate) fn split_unquoted(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let text = rest?;
        let (piece, after) = match first_unquoted(text, separator) {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        rest = after;
        Some(piece.trim_matches([' ', '\t']))
    })
}

fn first_unquoted(text: &str, separator: u8) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|byte| {
        let separates = byte == separator && !quoted;
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && quoted && !escaped;
        separates
    })
}

/// What a quoted string says; other text as it is.
pub(crate) fn unquote(text: &str) -> Cow<'_, str> {
    let Some(quoted) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return Cow::Borrowed(text);
    };
    if !quoted.contains('\\') {
        return Cow::Borrowed(quoted);
    }
    let mut characters = quoted.chars();
    let unescaped = iter::from_fn(|| match characters.next() {
        Some('\\') => characters.next(),
        other => other,
    });
    Cow::Owned(unescaped.collect())
}

/// Whether `text` is a token (RFC 9110 "Tokens").
pub(crate) fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(token)
}

/// Whether `path` is made of segments `/name` that mean the same in every URL.
pub(crate) fn is_plain_path(path: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let is_segment =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain);
    path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_segment))
}

/// The start of `text`, short enough to be told back to the client.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(MAX_EXCERPT_CHARS).collect()
}

/// The most that a message repeats of what a client sent, in characters.
const MAX_EXCERPT_CHARS: usize = 64;

#[cfg(test)]
pub(crate) mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    /// Header fields as a client would send them.
    pub(crate) fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().expect("a field name");
                (name, HeaderValue::from_bytes(value.as_bytes()).expect("a field value"))
            })
            .collect()
    }

    #[test]
    fn decimals_are_digits_up_to_63_bits_t_002() {
        use NotDecimal::{Malformed, TooLarge};
        for (text, expected) in [
            ("0", Ok(0)),
            ("007", Ok(7)),
            ("9223372036854775807", Ok(MAX_POSITION_BYTES)),
            ("9223372036854775808", Err(TooLarge)),
            ("99999999999999999999999", Err(TooLarge)),
            ("", Err(Malformed)),
            ("-1", Err(Malformed)),
            ("+1", Err(Malformed)),
            ("1.0", Err(Malformed)),
            ("1e3", Err(Malformed)),
            ("1 ", Err(Malformed)),
            ("1,1", Err(Malformed)),
            ("0x1", Err(Malformed)),
            ("١", Err(Malformed)),
        ] {
            assert_eq!(decimal(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn lists_are_cut_at_commas_outside_quotes() {
        let headers = headers(&[("te", r#"a, "b,\",c" ,, d"#), ("te", ""), ("te", "e")]);
        let name = HeaderName::from_static("te");
        let elements: Vec<_> = elements(&headers, &name).collect();
        assert_eq!(elements, ["a", r#""b,\",c""#, "d", "e"]);
        assert_eq!(unquote(elements[1]), r#"b,",c"#);
        assert_eq!(unquote("d"), "d");
        assert_eq!(unquote("\""), "\"");
    }

    proptest! {
        #[test]
        fn decimals_survive_their_text(number in 0..=MAX_POSITION_BYTES) {
            prop_assert_eq!(decimal(number.to_string().as_bytes()), Ok(number));
        }

        #[test]
        fn pieces_joined_again_are_the_text(text in "[ab\"\\\\,]{0,20}") {
            let pieces: Vec<_> = split_unquoted(&text, b',').collect();
            prop_assert_eq!(pieces.join(","), text);
        }
    }
}
