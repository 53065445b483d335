//! `Content-Type`: what a body is, in requests and in downloads.
//!
//! # Source
//! RFC 9110 "Content-Type"; tus 1.0 "PATCH"; T-018, D-07, D-56.
//!
//! # Grammar
//! `type "/" subtype *( ";" parameter )`. Example: `application/offset+octet-stream`.

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};

use super::{Invalid, Reason, is_token, single, split_unquoted, unquote};
use crate::upload::Metadata;

/// The type of bodies that are part of an upload.
pub const OFFSET_OCTET_STREAM: &str = "application/offset+octet-stream";

/// The type of bytes about which nothing is known.
pub const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The longest boundary of a form, in bytes (RFC 2046 "Common Syntax").
const MAX_BOUNDARY_BYTES: usize = 70;

/// The longest media type that is repeated in a download, in bytes.
const MAX_TYPE_BYTES: usize = 255;

/// Whether the body of a request is part of an upload: type and subtype in any case, parameters
/// ignored (D-07).
pub fn is_offset_octet_stream(headers: &HeaderMap) -> bool {
    let value = single(headers, &CONTENT_TYPE, "Content-Type").ok().flatten();
    value
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| essence(text).eq_ignore_ascii_case(OFFSET_OCTET_STREAM))
}

/// The boundary of a body that is a form; `None` for every other type, and for none (J-008).
///
/// # Errors
/// [`Reason::WrongMediaType`] for a form without a usable boundary, and for one that cannot carry
/// a payload.
pub fn form_boundary(headers: &HeaderMap) -> Result<Option<String>, Invalid> {
    // More than one line means nothing; the first is the one that a client meant.
    let value = headers.get(CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok());
    let text = text.unwrap_or_default();
    let expected = "multipart/form-data with a boundary, or the payload alone";
    let invalid = Invalid::new("Content-Type", Reason::WrongMediaType { expected });
    let essence = essence(text);
    if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(invalid);
    }
    if !essence.eq_ignore_ascii_case("multipart/form-data") {
        return Ok(None);
    }
    let boundary = split_unquoted(text, b';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("boundary"))
        .map(|(_, value)| unquote(value).into_owned())
        .filter(|boundary| is_boundary(boundary));
    boundary.map(Some).ok_or(invalid)
}

/// The grammar of RFC 2046 "Common Syntax".
fn is_boundary(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    (1..=MAX_BOUNDARY_BYTES).contains(&text.len())
        && !text.ends_with(' ')
        && text.bytes().all(is_plain)
}

/// Type and subtype, without parameters.
pub fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim_matches([' ', '\t'])
}

/// The media type of a download: what the metadata says in `filetype`, else in `type`, if it is
/// well formed (D-56).
pub fn of_download(metadata: &Metadata) -> Option<&str> {
    ["filetype", "type"]
        .into_iter()
        .filter_map(|key| metadata.get_str(key))
        .find(|text| is_media_type(text))
}

/// Whether `text` is a media type by its grammar, so that it may become a header value.
fn is_media_type(text: &str) -> bool {
    let mut pieces = split_unquoted(text, b';');
    let is_typed = pieces
        .next()
        .and_then(|essence| essence.split_once('/'))
        .is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    is_typed && text.len() <= MAX_TYPE_BYTES && pieces.all(is_parameter)
}

fn is_parameter(text: &str) -> bool {
    let Some((name, value)) = text.split_once('=') else {
        return text.is_empty();
    };
    is_token(name) && (is_token(value) || is_quoted(value))
}

fn is_quoted(text: &str) -> bool {
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    quoted.is_some_and(|text| text.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::headers, *};

    #[test]
    fn bodies_count_under_one_type_only_d_07() {
        for (lines, expected) in [
            (&["application/offset+octet-stream"][..], true),
            (&["Application/Offset+Octet-Stream"], true),
            (&["application/offset+octet-stream; charset=utf-8"], true),
            (&["application/offset+octet-stream ;x"], true),
            (&[], false),
            (&[""], false),
            (&["application/octet-stream"], false),
            (&["application/offset+octet-stream2"], false),
            (&["application/offset+octet-stream", "text/plain"], false),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("Content-Type", *line)).collect();
            assert_eq!(is_offset_octet_stream(&headers(&lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn forms_have_a_boundary_and_all_else_is_raw_j_008() {
        let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
        let form = |boundary: &str| Ok(Some(boundary.to_owned()));
        for (value, expected) in [
            ("", Ok(None)),
            ("binary/octet-stream", Ok(None)),
            ("multipart/related; boundary=b", Ok(None)),
            ("application/octet-stream, x/y", Ok(None)),
            (
                "multipart/form-data; boundary=----WebKitFormBoundaryaB3",
                form("----WebKitFormBoundaryaB3"),
            ),
            ("Multipart/Form-Data;charset=utf-8; Boundary=\"a b?=;\"", Err(())),
            ("Multipart/Form-Data;charset=utf-8; Boundary=\"a b?=\"", form("a b?=")),
            ("multipart/form-data", Err(())),
            ("multipart/form-data; boundary=", Err(())),
            ("multipart/form-data; boundary=\"\"", Err(())),
            ("multipart/form-data; boundary=\"a \"", Err(())),
            ("multipart/form-data; boundary=b@c", Err(())),
            (&long, Err(())),
            ("application/x-www-form-urlencoded", Err(())),
            ("application/x-www-form-urlencoded; charset=UTF-8", Err(())),
        ] {
            let decoded = form_boundary(&headers(&[("Content-Type", value)]));
            assert_eq!(decoded.map_err(|_| ()), expected, "{value:?}");
        }
        assert_eq!(form_boundary(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn download_type_is_a_well_formed_one_d_56() {
        let long = format!("a/{}", "b".repeat(300));
        for (entries, expected) in [
            (&[("filetype", "image/png"), ("type", "text/plain")][..], Some("image/png")),
            (&[("type", "text/plain;charset=utf-8")], Some("text/plain;charset=utf-8")),
            (
                &[("filetype", "x"), ("type", "a/b; c=\"d e;f\"; g=h")],
                Some("a/b; c=\"d e;f\"; g=h"),
            ),
            (&[("filetype", "image/png\r\nx: y")], None),
            (&[("filetype", "image/pñg")], None),
            (&[("filetype", "image/")], None),
            (&[("filetype", "a/b; c")], None),
            (&[("filetype", "a/b; c=\"d\u{7}\"")], None),
            (&[("filetype", "")], None),
            (&[("filetype", &long)], None),
            (&[], None),
        ] {
            let metadata = Metadata::from_entries(entries.iter().copied()).expect("plain keys");
            assert_eq!(of_download(&metadata), expected, "{entries:?}");
            assert!(expected.is_none_or(|text| HeaderValue::from_str(text).is_ok()));
        }
    }
}
