//! `If-Range`: a range only if the bytes are still those the client has.
//!
//! # Source
//! RFC 9110 "If-Range"; D-51.
//!
//! # Grammar
//! `entity-tag | HTTP-date`. Example: `"dGVzdA"`.

use http::{HeaderMap, HeaderValue, header::IF_RANGE};

use super::single;

/// Whether a range may be answered: there is no condition, or it names `etag`, a strong entity
/// tag. Downloads have no date, so that no date matches.
pub fn holds(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    match single(headers, &IF_RANGE, "If-Range") {
        Ok(condition) => condition.is_none_or(|condition| condition == etag),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::headers, *};

    #[test]
    fn ranges_hold_for_the_same_strong_tag_d_51() {
        for (lines, expected) in [
            (&[][..], true),
            (&["\"a\""], true),
            (&["\"b\""], false),
            (&["W/\"a\""], false),
            (&["Wed, 25 Jun 2014 16:00:00 GMT"], false),
            (&["\"a\"", "\"a\""], false),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("If-Range", *line)).collect();
            let etag = HeaderValue::from_static("\"a\"");
            assert_eq!(holds(&headers(&lines), &etag), expected, "{lines:?}");
        }
    }
}
