//! `Upload-Missing`: which bytes of an upload have not arrived.
//!
//! # Source
//! J-060. Not a field of tus.
//!
//! # Grammar
//! A comma list of `first "-" last`, both included, in ascending order; at most so many that a
//! client which fills them asks again. Example: `0-99,300-399`.

use std::ops::Range;

use http::{HeaderName, HeaderValue};

/// The field's name.
pub const NAME: HeaderName = HeaderName::from_static("upload-missing");

/// The most ranges in one field: some 2 KiB, which every client and proxy takes.
const MAX_RANGES: usize = 64;

/// The field's value for `missing`; `None` if nothing is.
pub fn encode(missing: &[Range<u64>]) -> Option<HeaderValue> {
    let ranges: Vec<_> = missing
        .iter()
        .filter(|range| !range.is_empty())
        .take(MAX_RANGES)
        .map(|range| format!("{}-{}", range.start, range.end.saturating_sub(1)))
        .collect();
    if ranges.is_empty() {
        return None;
    }
    Some(HeaderValue::try_from(ranges.join(",")).expect("numbers are printable ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_ranges_include_their_last_byte() {
        for (missing, expected) in [
            (&[][..], None),
            (&[(5, 5)], None),
            (&[(0, 1)], Some("0-0")),
            (&[(0, 100), (300, 400)], Some("0-99,300-399")),
        ] {
            let missing: Vec<_> = missing.iter().map(|(start, end)| *start..*end).collect();
            let value = encode(&missing);
            let text = value.as_ref().and_then(|value| value.to_str().ok());
            assert_eq!(text, expected, "{missing:?}");
        }
    }

    #[test]
    fn lists_of_missing_ranges_are_bounded() {
        let many: Vec<_> =
            (0..10_000).map(|n| (u64::MAX - 30_000 + 3 * n)..(u64::MAX - 29_999 + 3 * n)).collect();
        let value = encode(&many).expect("some");
        assert_eq!(value.to_str().expect("ASCII").split(',').count(), MAX_RANGES);
        assert!(value.len() <= 4096);
    }
}
