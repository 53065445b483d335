//! `Upload-Defer-Length`: the length of the upload is not known yet.
//!
//! # Source
//! tus 1.0 "Upload-Defer-Length"; T-041, T-047.
//!
//! # Grammar
//! `1`, once. Example: `1`.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Invalid, single};

/// The field's name.
pub const NAME: HeaderName = HeaderName::from_static("upload-defer-length");

/// The field's name in messages.
pub const FIELD: &str = "Upload-Defer-Length";

/// The only value there is.
pub const DEFERRED: HeaderValue = HeaderValue::from_static("1");

/// Whether the length is deferred.
///
/// # Errors
/// [`Reason::Malformed`](super::Reason::Malformed).
pub fn decode(headers: &HeaderMap) -> Result<bool, Invalid> {
    match single(headers, &NAME, FIELD)? {
        None => Ok(false),
        Some(value) if *value == DEFERRED => Ok(true),
        Some(_) => Err(Invalid::malformed(FIELD, "the only value is 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::headers, *};

    #[test]
    fn deferral_is_said_with_1_only_t_047() {
        for (lines, expected) in [
            (&[][..], Some(false)),
            (&["1"], Some(true)),
            (&["0"], None),
            (&["01"], None),
            (&["true"], None),
            (&[""], None),
            (&["1", "1"], None),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("Upload-Defer-Length", *line)).collect();
            assert_eq!(decode(&headers(&lines)).ok(), expected, "{lines:?}");
        }
    }
}
