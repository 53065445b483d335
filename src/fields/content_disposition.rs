//! `Content-Disposition`: whether a download is shown or saved, and under which name.
//!
//! # Source
//! RFC 6266; RFC 8187 for `filename*`; D-56.
//!
//! # Grammar
//! `("inline" | "attachment") [ ";" filename=quoted-string ";" filename*=UTF-8''ext-value ]`.
//! Example: `attachment; filename="_.txt"; filename*=UTF-8''%E2%82%AC.txt`.

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::content_type;
use crate::upload::Metadata;

/// The types that a browser shows without running anything from them.
const SHOWN: [&str; 16] = [
    "application/ogg",
    "audio/ogg",
    "audio/wav",
    "audio/wave",
    "audio/webm",
    "audio/x-pn-wav",
    "audio/x-wav",
    "image/bmp",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "text/plain",
    "video/mp4",
    "video/ogg",
    "video/webm",
];

/// The longest file name that is suggested, in characters; what the usual file systems take.
const MAX_NAME_CHARS: usize = 255;

/// Everything but the `attr-char` of RFC 8187.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The field's value for a download of type `media_type`, named by the metadata's `filename`, else
/// its `name`.
pub fn encode(media_type: Option<&str>, metadata: &Metadata) -> HeaderValue {
    let kind = if media_type.is_some_and(is_shown) { "inline" } else { "attachment" };
    let name = ["filename", "name"]
        .into_iter()
        .filter_map(|key| metadata.get_str(key))
        .map(file_name)
        .find(|name| !name.is_empty());
    let Some(name) = name else {
        return HeaderValue::from_static(kind);
    };
    let (fallback, escaped) = (ascii(&name), utf8_percent_encode(&name, ESCAPED));
    HeaderValue::try_from(format!("{kind}; filename=\"{fallback}\"; filename*=UTF-8''{escaped}"))
        .expect("both forms of the name are printable ASCII")
}

fn is_shown(media_type: &str) -> bool {
    let essence = content_type::essence(media_type);
    SHOWN.iter().any(|shown| shown.eq_ignore_ascii_case(essence))
}

/// The last part of a path, without what controls a terminal or turns the reading order.
fn file_name(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let is_plain = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let name: String = name.chars().filter(is_plain).take(MAX_NAME_CHARS).collect();
    let name = name.trim();
    if name == "." || name == ".." { String::new() } else { name.to_owned() }
}

/// `name` in the ASCII that a quoted string can hold. `%` goes too: some browsers decode it
/// (RFC 6266 appendix D).
fn ascii(name: &str) -> String {
    let is_safe = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '%');
    name.chars().map(|c| if is_safe(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    fn named(name: &str) -> Metadata {
        Metadata::from_entries([("filename", name)]).expect("plain key")
    }

    #[test]
    fn only_harmless_types_are_shown_d_56() {
        for (media_type, expected) in [
            (Some("text/plain"), "inline"),
            (Some("Image/PNG"), "inline"),
            (Some("text/plain; charset=utf-8"), "inline"),
            (Some("video/mp4"), "inline"),
            (Some("text/html"), "attachment"),
            (Some("image/svg+xml"), "attachment"),
            (Some("application/xhtml+xml"), "attachment"),
            (Some("text/xml"), "attachment"),
            (Some("application/pdf"), "attachment"),
            (Some("text/javascript"), "attachment"),
            (None, "attachment"),
        ] {
            assert_eq!(encode(media_type, &Metadata::default()), expected, "{media_type:?}");
        }
    }

    #[test]
    fn names_are_cut_to_plain_file_names_d_56() {
        for (name, expected) in [
            ("a b.txt", r#"attachment; filename="a b.txt"; filename*=UTF-8''a%20b.txt"#),
            ("€.txt", r#"attachment; filename="_.txt"; filename*=UTF-8''%E2%82%AC.txt"#),
            ("../../etc/passwd", r#"attachment; filename="passwd"; filename*=UTF-8''passwd"#),
            (r"C:\x\y.txt", r#"attachment; filename="y.txt"; filename*=UTF-8''y.txt"#),
            ("a\"b\r\n;.txt", r#"attachment; filename="a_b;.txt"; filename*=UTF-8''a%22b%3B.txt"#),
            ("a\u{202e}txt.exe", r#"attachment; filename="atxt.exe"; filename*=UTF-8''atxt.exe"#),
            ("50%.txt", r#"attachment; filename="50_.txt"; filename*=UTF-8''50%25.txt"#),
            ("..", "attachment"),
            ("a/", "attachment"),
            ("", "attachment"),
        ] {
            assert_eq!(encode(None, &named(name)), expected, "{name:?}");
        }
        let both = Metadata::from_entries([("filename", "/"), ("name", "n")]).expect("plain");
        let expected = r#"attachment; filename="n"; filename*=UTF-8''n"#;
        assert_eq!(encode(None, &both), expected);
    }

    proptest! {
        /// Any name gives a header value, and a client decodes from it what the name was cut to.
        #[test]
        fn names_survive_their_text(name in any::<String>()) {
            let value = encode(None, &named(&name));
            let text = value.to_str().expect("printable ASCII");
            let decoded = text.split_once("UTF-8''").map_or(String::new(), |(_, escaped)| {
                percent_decode_str(escaped).decode_utf8().expect("UTF-8").into_owned()
            });
            prop_assert_eq!(decoded, file_name(&name));
        }
    }
}
