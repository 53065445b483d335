//! `Content-Encoding`: whether the body is the bytes themselves.
//!
//! # Source
//! RFC 9110 "Content-Encoding"; 0.2.
//!
//! # Grammar
//! A comma list of codings. Example: `gzip`.

use http::{HeaderMap, header::CONTENT_ENCODING};

use super::elements;

/// Whether the body is coded: counting its bytes would not count the upload's.
pub fn is_coded(headers: &HeaderMap) -> bool {
    elements(headers, &CONTENT_ENCODING).any(|coding| !coding.eq_ignore_ascii_case("identity"))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::headers, *};

    #[test]
    fn every_coding_but_identity_codes() {
        for (lines, expected) in [
            (&[][..], false),
            (&["identity"], false),
            (&["Identity, identity"], false),
            (&[""], false),
            (&["gzip"], true),
            (&["identity", "br"], true),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("Content-Encoding", *line)).collect();
            assert_eq!(is_coded(&headers(&lines)), expected, "{lines:?}");
        }
    }
}
