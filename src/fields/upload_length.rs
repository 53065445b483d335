//! `Upload-Length`: how many bytes an upload will have.
//!
//! # Source
//! tus 1.0 "Upload-Length"; T-002.
//!
//! # Grammar
//! `1*DIGIT`, at most 2^63-1, once. Example: `1024`.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Invalid, number, single};

/// The field's name.
pub const NAME: HeaderName = HeaderName::from_static("upload-length");

/// The field's name in messages.
pub const FIELD: &str = "Upload-Length";

/// The length a request declares, if it does.
///
/// # Errors
/// [`Reason::Malformed`](super::Reason::Malformed); [`Reason::TooLarge`](super::Reason::TooLarge)
/// when no upload could ever be so long.
pub fn decode(headers: &HeaderMap) -> Result<Option<u64>, Invalid> {
    single(headers, &NAME, FIELD)?.map(|value| number(value, FIELD)).transpose()
}

/// The field's value for `length`.
pub fn encode(length: u64) -> HeaderValue {
    length.into()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Reason, tests::headers},
        *,
    };
    use crate::upload::MAX_POSITION_BYTES;

    #[test]
    fn length_is_one_number_or_none_t_002() {
        let malformed = |reason| Err(Invalid::malformed(FIELD, reason));
        for (lines, expected) in [
            (&[][..], Ok(None)),
            (&["0"], Ok(Some(0))),
            (&["9223372036854775807"], Ok(Some(MAX_POSITION_BYTES))),
            (&["9223372036854775808"], Err(Invalid::new(FIELD, Reason::TooLarge))),
            (&["-1"], malformed("expected a number of bytes")),
            (&["1.5"], malformed("expected a number of bytes")),
            (&[""], malformed("expected a number of bytes")),
            (&["1", "1"], malformed("given more than once")),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("Upload-Length", *line)).collect();
            assert_eq!(decode(&headers(&lines)), expected, "{lines:?}");
        }
        assert_eq!(encode(0), "0");
    }
}
