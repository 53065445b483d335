//! `Range` in requests, `Content-Range` in answers: which bytes of an upload.
//!
//! # Source
//! RFC 9110 "Range Requests"; D-51.
//!
//! # Grammar
//! `"bytes=" ( first "-" [ last ] | "-" count )`. Example: `bytes=500-999`. A list of ranges is
//! legal too; a server may answer it with everything, and this one does.

use http::{HeaderMap, HeaderValue, header::RANGE};

use super::{NotDecimal, decimal, single};
use crate::upload::MAX_POSITION_BYTES;

/// One range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// From this position to the end.
    From(u64),
    /// The last so many.
    Last(u64),
    /// First and last position, both included; the first is not behind the last.
    Span(u64, u64),
}

/// The range asked for. `None` asks for all bytes, as does whatever is not one range of bytes.
pub fn decode(headers: &HeaderMap) -> Option<Range> {
    let value = single(headers, &RANGE, "Range").ok().flatten();
    value
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split_once('='))
        .filter(|(unit, _)| unit.eq_ignore_ascii_case("bytes"))
        .and_then(|(_, spec)| one_range(spec.trim_matches([' ', '\t'])))
}

fn one_range(spec: &str) -> Option<Range> {
    match spec.split_once('-')? {
        ("", count) => position(count).map(Range::Last),
        (first, "") => position(first).map(Range::From),
        (first, last) => {
            let (first, last) = (position(first)?, position(last)?);
            (first <= last).then_some(Range::Span(first, last))
        }
    }
}

/// A position; one past all uploads is as good as the largest.
fn position(text: &str) -> Option<u64> {
    match decimal(text.as_bytes()) {
        Ok(position) => Some(position),
        Err(NotDecimal::TooLarge) => Some(MAX_POSITION_BYTES),
        Err(NotDecimal::Malformed) => None,
    }
}

/// `Content-Range` of an answer with the bytes `first..=last` of `length`.
pub fn encode(first: u64, last: u64, length: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes {first}-{last}/{length}"))
        .expect("numbers are printable ASCII")
}

/// `Content-Range` of an answer that says which ranges there are.
pub fn encode_unsatisfied(length: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes */{length}")).expect("numbers are printable ASCII")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::headers, *};

    #[test]
    fn one_range_is_read_and_everything_else_is_all_d_51() {
        for (lines, expected) in [
            (&[][..], None),
            (&["bytes=0-0"], Some(Range::Span(0, 0))),
            (&["bytes=5-9"], Some(Range::Span(5, 9))),
            (&["Bytes=5-"], Some(Range::From(5))),
            (&["bytes=-5"], Some(Range::Last(5))),
            (&["bytes=-0"], Some(Range::Last(0))),
            (&["bytes=0-99999999999999999999"], Some(Range::Span(0, MAX_POSITION_BYTES))),
            (&["bytes=9-5"], None),
            (&["bytes=-"], None),
            (&["bytes=a-b"], None),
            (&["bytes=0-1,3-4"], None),
            (&["bytes=0-1-2"], None),
            (&["bytes 0-1"], None),
            (&["lines=0-1"], None),
            (&["bytes=0-1", "bytes=0-1"], None),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("Range", *line)).collect();
            assert_eq!(decode(&headers(&lines)), expected, "{lines:?}");
        }
        assert_eq!(encode(0, 4, 10), "bytes 0-4/10");
        assert_eq!(encode_unsatisfied(10), "bytes */10");
    }

    proptest! {
        #[test]
        fn ranges_survive_their_text(a in 0..=MAX_POSITION_BYTES, b in 0..=MAX_POSITION_BYTES) {
            let (first, last) = (a.min(b), a.max(b));
            for (text, expected) in [
                (format!("bytes={first}-{last}"), Some(Range::Span(first, last))),
                (format!("bytes={first}-"), Some(Range::From(first))),
                (format!("bytes=-{last}"), Some(Range::Last(last))),
            ] {
                prop_assert_eq!(decode(&headers(&[("range", &text)])), expected);
            }
        }
    }
}
