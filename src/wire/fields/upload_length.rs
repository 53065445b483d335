//! `Upload-Length`: how many bytes an upload will have.
//!
//! # Source
//! tus 1.0 "Upload-Length"; T-002.
//!
//! # Grammar
//! `1*DIGIT`, at most 2^63-1, once. Example: `1024`.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{NotDecimal, decimal, malformed, single};
use crate::{
    rules::{Refusal, lifecycle},
    upload::Limits,
};

/// The field's name.
pub const NAME: HeaderName = HeaderName::from_static("upload-length");

/// The field's name in messages.
pub const FIELD: &str = "Upload-Length";

/// The length a request declares, if it does.
///
/// # Errors
/// [`Refusal::Malformed`]; [`Refusal::OverLimit`] when no upload could ever be so long, whatever
/// `limits` say.
pub fn decode(headers: &HeaderMap, limits: &Limits) -> Result<Option<u64>, Refusal> {
    let Some(value) = single(headers, &NAME, FIELD)? else {
        return Ok(None);
    };
    decimal(value.as_bytes()).map(Some).map_err(|error| match error {
        NotDecimal::Malformed => malformed(FIELD, "expected a number of bytes"),
        NotDecimal::TooLarge => Refusal::OverLimit { limit_bytes: lifecycle::max_size(limits) },
    })
}

/// The field's value for `length`.
pub fn encode(length: u64) -> HeaderValue {
    length.into()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::headers, *};
    use crate::upload::MAX_POSITION_BYTES;

    #[test]
    fn length_is_one_number_or_none_t_002() {
        let malformed = |reason| Err(malformed(FIELD, reason));
        for (lines, expected) in [
            (&[][..], Ok(None)),
            (&["0"], Ok(Some(0))),
            (&["9223372036854775807"], Ok(Some(MAX_POSITION_BYTES))),
            (&["9223372036854775808"], Err(Refusal::OverLimit { limit_bytes: 9 })),
            (&["-1"], malformed("expected a number of bytes")),
            (&["1.5"], malformed("expected a number of bytes")),
            (&[""], malformed("expected a number of bytes")),
            (&["1", "1"], malformed("given more than once")),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("Upload-Length", *line)).collect();
            let limits = Limits { max_size_bytes: Some(9), ..Limits::default() };
            assert_eq!(decode(&headers(&lines), &limits), expected, "{lines:?}");
        }
        assert_eq!(encode(0), "0");
    }
}
