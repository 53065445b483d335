//! `Upload-Offset`: where a request's bytes go, or where an upload is.
//!
//! # Source
//! tus 1.0 "Upload-Offset"; T-002, D-08.
//!
//! # Grammar
//! `1*DIGIT`, at most 2^63-1, once. Example: `70`.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Invalid, number, single};

/// The field's name.
pub const NAME: HeaderName = HeaderName::from_static("upload-offset");

/// The field's name in messages.
pub const FIELD: &str = "Upload-Offset";

/// The offset a request gives.
///
/// # Errors
/// [`Reason::Malformed`](super::Reason::Malformed), also when there is none;
/// [`Reason::TooLarge`](super::Reason::TooLarge).
pub fn decode(headers: &HeaderMap) -> Result<u64, Invalid> {
    let value = single(headers, &NAME, FIELD)?;
    number(value.ok_or_else(|| Invalid::malformed(FIELD, "missing"))?, FIELD)
}

/// The field's value for `offset`.
pub fn encode(offset: u64) -> HeaderValue {
    offset.into()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::headers, *};

    #[test]
    fn offset_is_one_number_t_002_d_08() {
        for (lines, expected) in [
            (&["0"][..], Some(0)),
            (&["70"], Some(70)),
            (&[], None),
            (&[""], None),
            (&["7", "7"], None),
            (&["7, 7"], None),
            (&["-7"], None),
            (&["9223372036854775808"], None),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("Upload-Offset", *line)).collect();
            let decoded = decode(&headers(&lines));
            assert_eq!(decoded.as_ref().ok(), expected.as_ref(), "{lines:?}");
            assert!(matches!(decoded, Ok(_) | Err(Invalid { field: FIELD, .. })));
        }
        assert_eq!(encode(70), "70");
    }
}
