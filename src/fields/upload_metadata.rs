//! `Upload-Metadata`: what a client says about a file.
//!
//! # Source
//! tus 1.0 "Upload-Metadata"; T-042 to T-045, T-054, D-26 to D-29.
//!
//! # Grammar
//! A comma list of `key` or `key SP base64(value)`; [`Metadata`] reads it. Several lines are one
//! list (RFC 9110 "Field Lines and Combined Field Value"). Example:
//! `filename d29ybGQuZG9j,is_confidential`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Invalid, Reason};
use crate::upload::Metadata;

/// The field's name.
pub const NAME: HeaderName = HeaderName::from_static("upload-metadata");

/// The field's name in messages.
pub const FIELD: &str = "Upload-Metadata";

/// The metadata of a request; an empty field is none (D-26).
///
/// # Errors
/// [`Reason::TooLong`] before anything is read; [`Reason::Malformed`].
pub fn decode(headers: &HeaderMap, limit_bytes: usize) -> Result<Metadata, Invalid> {
    let mut bytes = Cow::Borrowed(&b""[..]);
    for (line, value) in headers.get_all(&NAME).iter().enumerate() {
        match line {
            0 => bytes = Cow::Borrowed(value.as_bytes()),
            _ => bytes.to_mut().extend([b",", value.as_bytes()].concat()),
        }
        if bytes.len() > limit_bytes {
            return Err(Invalid::new(FIELD, Reason::TooLong { limit_bytes }));
        }
    }
    let text = str::from_utf8(&bytes)
        .map_err(|_| Invalid::malformed(FIELD, "metadata has a byte outside printable ASCII"))?;
    text.parse().map_err(|error| Invalid::malformed(FIELD, format!("{error}")))
}

/// The field's value for `metadata`, byte for byte as it was received (T-054); `None` if there is
/// none.
pub fn encode(metadata: &Metadata) -> Option<HeaderValue> {
    let text = metadata.as_text();
    if text.is_empty() { None } else { HeaderValue::from_str(text).ok() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::headers, *};

    #[test]
    fn metadata_is_read_once_it_fits() {
        for (rule, lines, expected) in [
            ("D-26", &[][..], Ok("")),
            ("D-26", &[""], Ok("")),
            ("T-054", &["b Yg==, a"], Ok("b Yg==, a")),
            ("T-042", &["b Yg==", "a"], Ok("b Yg==,a")),
            ("D-27", &["a Yg==", "a Yg=="], Err(400)),
            ("D-27", &["a Y!=="], Err(400)),
            ("D-28", &["ä Yg=="], Err(400)),
            ("D-28", &["abcdefghijklmnopq"], Err(431)),
            ("D-28", &["abcdefgh", "abcdefgh"], Err(431)),
            ("D-28", &["abcdefg\u{ff}", "abcdefgh"], Err(431)),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("Upload-Metadata", *line)).collect();
            let decoded = decode(&headers(&lines), 16);
            let seen = match &decoded {
                Ok(metadata) => Ok(metadata.as_text()),
                Err(Invalid { reason: Reason::TooLong { limit_bytes: 16 }, .. }) => Err(431),
                Err(_) => Err(400),
            };
            assert_eq!(seen, expected, "{rule} {lines:?}");
        }
    }

    proptest! {
        /// What was taken is echoed as it came.
        #[test]
        fn metadata_is_echoed_byte_for_byte_t_054(text in "[a-c]{1,3}( [A-Z]{4})?( ?, ?[d-f]{1,3})?") {
            let decoded = decode(&headers(&[("upload-metadata", &text)]), 99).expect("plain");
            prop_assert_eq!(encode(&decoded).expect("not empty"), text);
        }
    }
}
