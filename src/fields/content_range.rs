//! `Content-Range` in requests: which bytes of a file of known size a chunk is.
//!
//! # Source
//! RFC 9110 "Content-Range"; drf-chunked-upload `views.py`; P-020.
//!
//! # Grammar
//! `bytes first "-" last "/" total`, each `1*DIGIT`, at most 2^63-1; `last` is included. Example:
//! `bytes 0-24/35`.

use std::ops::Range;

use http::{HeaderMap, header::CONTENT_RANGE};

use super::{Invalid, decimal, single};

/// The field's name in messages.
pub const FIELD: &str = "Content-Range";

/// Which bytes of how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRange {
    /// The bytes, of which there is at least one.
    pub range: Range<u64>,
    /// The size of the file, in bytes.
    pub total: u64,
}

/// The range that a request gives. That it lies within the total is not checked.
///
/// # Errors
/// [`Reason::Malformed`](super::Reason::Malformed), also when there is none.
pub fn decode(headers: &HeaderMap) -> Result<ContentRange, Invalid> {
    let value = single(headers, &CONTENT_RANGE, FIELD)?;
    let value = value.ok_or_else(|| Invalid::malformed(FIELD, "missing"))?;
    parse(value.as_bytes())
        .ok_or_else(|| Invalid::malformed(FIELD, "expected bytes, a blank, and FIRST-LAST/TOTAL"))
}

fn parse(value: &[u8]) -> Option<ContentRange> {
    let text = str::from_utf8(value).ok()?.strip_prefix("bytes ")?;
    let (range, total) = text.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| decimal(text.as_bytes()).ok();
    let (first, last, total) = (number(first)?, number(last)?, number(total)?);
    (first <= last).then_some(ContentRange { range: first..last + 1, total })
}

#[cfg(test)]
mod tests {
    use super::{super::tests::headers, *};

    #[test]
    fn ranges_are_first_last_and_total_p_020() {
        for (value, expected) in [
            ("bytes 0-24/35", Some((0..25, 35))),
            ("bytes 25-34/33", Some((25..35, 33))),
            ("bytes 00-0/1", Some((0..1, 1))),
            ("bytes 0-9223372036854775807/9223372036854775807", Some((0..1 << 63, (1 << 63) - 1))),
            ("bytes 0-9223372036854775808/9223372036854775808", None),
            ("Bytes 0-24/35", None),
            ("bytes  0-24/35", None),
            ("bytes */35", None),
            ("bytes 25-34/*", None),
            ("bytes 0--1/0", None),
            ("bytes 5-4/35", None),
            ("bytes 0-24", None),
            ("bytes 0-24/35 ", None),
            ("bytes \u{0661}-2/3", None),
            ("", None),
        ] {
            let value = http::HeaderValue::from_bytes(value.as_bytes()).expect("no controls");
            let mut fields = HeaderMap::new();
            fields.insert(CONTENT_RANGE, value.clone());
            let expected = expected.map(|(range, total)| ContentRange { range, total });
            assert_eq!(decode(&fields).ok(), expected, "{value:?}");
        }
        assert!(decode(&headers(&[])).is_err());
        let twice = [("Content-Range", "bytes 0-1/2"), ("Content-Range", "bytes 0-1/2")];
        assert!(decode(&headers(&twice)).is_err());
    }
}
