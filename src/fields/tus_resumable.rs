//! `Tus-Resumable`: the protocol version of a request or an answer.
//!
//! # Source
//! tus 1.0 "Tus-Resumable"; T-004 to T-006, D-02, D-03.
//!
//! # Grammar
//! A version, once. Example: `1.0.0`.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Invalid, Reason, single};

/// The field's name.
pub const NAME: HeaderName = HeaderName::from_static("tus-resumable");

/// The field's name in messages.
pub const FIELD: &str = "Tus-Resumable";

/// The version spoken here.
pub const VERSION: HeaderValue = HeaderValue::from_static("1.0.0");

/// Whether the request is of a client of tus, of whatever version.
pub fn is_given(headers: &HeaderMap) -> bool {
    headers.contains_key(NAME)
}

/// Whether the request says that it speaks the version spoken here. If not, it says nothing.
///
/// # Errors
/// [`Reason::UnsupportedVersion`].
pub fn decode(headers: &HeaderMap) -> Result<bool, Invalid> {
    match single(headers, &NAME, FIELD) {
        Ok(Some(version)) if *version == VERSION => Ok(true),
        Ok(None) => Ok(false),
        Ok(Some(_)) | Err(_) => Err(Invalid::new(FIELD, Reason::UnsupportedVersion)),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::headers, *};

    #[test]
    fn version_is_1_0_0_exactly_t_006() {
        for (lines, expected) in [
            (&[][..], Ok(false)),
            (&["1.0.0"], Ok(true)),
            (&["1.0"], Err(Reason::UnsupportedVersion)),
            (&["0.2.2"], Err(Reason::UnsupportedVersion)),
            (&[""], Err(Reason::UnsupportedVersion)),
            (&["1.0.0", "1.0.0"], Err(Reason::UnsupportedVersion)),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("Tus-Resumable", *line)).collect();
            assert_eq!(
                decode(&headers(&lines)).map_err(|invalid| invalid.reason),
                expected,
                "{lines:?}"
            );
        }
    }
}
