//! `If-None-Match`: an answer only if the client does not have these bytes yet.
//!
//! # Source
//! RFC 9110 "If-None-Match"; D-51.
//!
//! # Grammar
//! `"*" | a comma list of entity tags`. Example: `"dGVzdA", W/"b"`.

use http::{HeaderMap, HeaderValue, header::IF_NONE_MATCH};

use super::elements;

/// Whether the client already has what `etag` names, by weak comparison.
pub fn matches(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    elements(headers, &IF_NONE_MATCH).any(|tag| {
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::{super::tests::headers, *};

    #[test]
    fn tags_match_weakly_d_51() {
        for (lines, expected) in [
            (&[][..], false),
            (&["\"a\""], true),
            (&["W/\"a\""], true),
            (&["*"], true),
            (&["\"b\", \"a\""], true),
            (&["\"b\"", "\"a\""], true),
            (&["\"b,\\\"", "a"], false),
            (&["a"], false),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("If-None-Match", *line)).collect();
            let etag = HeaderValue::from_static("\"a\"");
            assert_eq!(matches(&headers(&lines), &etag), expected, "{lines:?}");
        }
    }
}
