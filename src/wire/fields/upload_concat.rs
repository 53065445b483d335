//! `Upload-Concat`: an upload that is a part of another, or made of others.
//!
//! # Source
//! tus 1.0 "Upload-Concat"; T-113, D-34, D-35.
//!
//! # Grammar
//! `"partial" | "final;" url *( SP url )`, once, in any case. Example:
//! `final;/files/a https://example.org/files/b`.

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::{excerpt, malformed, single};
use crate::{
    rules::Refusal,
    upload::{Role, UploadId},
    wire::mount::Mount,
};

/// The field's name.
pub const NAME: HeaderName = HeaderName::from_static("upload-concat");

/// The field's name in messages.
pub const FIELD: &str = "Upload-Concat";

const PARTIAL: &str = "partial";
const FINAL: &str = "final;";

/// What a request says about concatenation, its URLs being those of uploads under `mount`.
///
/// # Errors
/// [`Refusal::Malformed`].
pub fn decode(headers: &HeaderMap, mount: &Mount) -> Result<Option<Role>, Refusal> {
    let Some(value) = single(headers, &NAME, FIELD)? else {
        return Ok(None);
    };
    let unknown = || malformed(FIELD, "expected partial, or final; and a list of URLs");
    let text = value.to_str().map_err(|_| unknown())?;
    if text.eq_ignore_ascii_case(PARTIAL) {
        let text = text.to_owned();
        return Ok(Some(Role::Partial { text }));
    }
    let (kind, urls) = text.split_at_checked(FINAL.len()).ok_or_else(unknown)?;
    if !kind.eq_ignore_ascii_case(FINAL) {
        return Err(unknown());
    }
    let partials = urls
        .split(' ')
        .filter(|url| !url.is_empty())
        .map(|url| {
            upload_of(url, mount).ok_or_else(|| {
                malformed(FIELD, format!("{:?} is no upload of this server", excerpt(url)))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if partials.is_empty() {
        return Err(malformed(FIELD, "the list of URLs is empty"));
    }
    Ok(Some(Role::Final { partials, text: text.to_owned() }))
}

/// The field's value for an upload of this role, as it was received (T-112).
pub fn encode(role: &Role) -> Option<HeaderValue> {
    match role {
        Role::Whole => None,
        Role::Partial { text } | Role::Final { text, .. } => HeaderValue::from_str(text).ok(),
    }
}

/// The upload that `url` names: whatever the host, the path must end in that of an upload, or be
/// nothing but its id (D-34).
fn upload_of(url: &str, mount: &Mount) -> Option<UploadId> {
    let path = percent_decode_str(path_of(url)).decode_utf8().ok()?;
    let path = path.strip_suffix('/').unwrap_or(&path);
    let Some((parent, id)) = path.rsplit_once('/') else {
        return path.parse().ok();
    };
    let prefix = mount.prefix();
    let is_ours = parent.ends_with(prefix) || prefix.strip_prefix('/') == Some(parent);
    // Several URLs with a wrong separator must not pass for their last one.
    if is_ours && !parent.contains([',', ';']) { id.parse().ok() } else { None }
}

/// The path of an absolute or relative URL.
fn path_of(url: &str) -> &str {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let is_scheme =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let after_scheme = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => Some(rest),
        Some(_) | None => url.strip_prefix("//"),
    };
    match after_scheme {
        Some(rest) => rest.find('/').map_or("", |path| &rest[path..]),
        None => url,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::headers, *};

    fn mount(path: &str) -> Mount {
        path.parse().expect("a path")
    }

    fn decoded(lines: &[&str], base: &str) -> Result<Option<String>, Refusal> {
        let lines: Vec<_> = lines.iter().map(|line| ("Upload-Concat", *line)).collect();
        Ok(decode(&headers(&lines), &mount(base))?.map(|concat| match concat {
            Role::Whole => "whole".to_owned(),
            Role::Partial { text } => text,
            Role::Final { partials, text } => {
                assert_eq!(text, lines[0].1);
                partials.iter().map(UploadId::as_str).collect::<Vec<_>>().join(" ")
            }
        }))
    }

    #[test]
    fn concat_is_partial_or_a_list_d_35() {
        for (lines, expected) in [
            (&[][..], Ok(None)),
            (&["partial"], Ok(Some("partial"))),
            (&["Partial"], Ok(Some("Partial"))),
            (&["final;/files/a"], Ok(Some("a"))),
            (&["FINAL;  /files/a   /files/b "], Ok(Some("a b"))),
            (&["final;/files/a /files/a"], Ok(Some("a a"))),
            (&["final;"], Err(())),
            (&["final; "], Err(())),
            (&["final"], Err(())),
            (&["final ;/files/a"], Err(())),
            (&["partial;"], Err(())),
            (&["whole"], Err(())),
            (&[""], Err(())),
            (&["fina\u{e9};/files/a"], Err(())),
            (&["partial", "partial"], Err(())),
        ] {
            let decoded = decoded(lines, "/files");
            assert_eq!(
                decoded.as_ref().map(Option::as_deref).map_err(|_| ()),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn urls_are_matched_by_the_end_of_their_path_d_34_f_38() {
        for (base, url, expected) in [
            ("/files", "/files/a", Some("a")),
            ("/files", "/files/a/", Some("a")),
            ("/files", "/files/a?x=/y#z", Some("a")),
            ("/files", "a", Some("a")),
            ("/files", "files/a", Some("a")),
            ("/files", "https://h:1/files/a", Some("a")),
            ("/files", "https://h/proxy/files/a", Some("a")),
            ("/files", "//h/files/a", Some("a")),
            ("/files", "http://u@[::1]:80/files/a", Some("a")),
            ("/files", "/files/%61", Some("a")),
            ("/files", "/files%2Fa", Some("a")),
            ("/files", "/xfiles/a", None),
            ("/files", "/a", None),
            ("/files", "/files/x/a", None),
            ("/files", "/files//a", None),
            ("/files", "/files/", None),
            ("/files", "https://h", None),
            ("/files", "../a", None),
            ("/files", "..%2Fa", None),
            ("/files", "/files/..", None),
            ("/files", "/files/../a", None),
            ("/files", "/files/a%00", None),
            ("/files", "/files/%ff", None),
            ("/files", "/etc/passwd", None),
            ("/files", "/files/a,/files/b", None),
            ("/up/files", "/up/files/a", Some("a")),
            ("/up/files", "/files/a", None),
            ("/up/files", "up/files/a", Some("a")),
            ("/", "/a", Some("a")),
            ("/", "https://h/a", Some("a")),
            ("/", "a", Some("a")),
            ("/", "https://a", None),
            ("/", "/a,/b", None),
        ] {
            let value = format!("final;{url}");
            let decoded = decoded(&[&value], base).ok().flatten();
            assert_eq!(decoded.as_deref(), expected, "{url} under {base}");
        }
    }

    proptest! {
        #[test]
        fn concat_is_echoed_byte_for_byte_t_112(ids in proptest::collection::vec("[A-Za-z0-9_-]{1,9}", 1..9)) {
            let urls: Vec<_> = ids.iter().map(|id| format!("http://h/files/{id}")).collect();
            let value = format!("final;{}", urls.join(" "));
            let concat = decode(&headers(&[("upload-concat", &value)]), &mount("/files"));
            let Ok(Some(Role::Final { partials, text })) = concat else {
                panic!("{value} is a final");
            };
            prop_assert_eq!(partials.iter().map(UploadId::as_str).collect::<Vec<_>>(), ids);
            prop_assert_eq!(encode(&Role::Final { partials, text }).expect("ASCII"), value);
        }
    }
}
