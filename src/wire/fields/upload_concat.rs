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

/// What a request says about concatenation, its URLs being those of uploads under `mount`. `outer` is
/// the path that a proxy is known to take off its URLs; empty if there is none.
///
/// # Errors
/// [`Refusal::Malformed`].
pub fn decode(headers: &HeaderMap, mount: &Mount, outer: &str) -> Result<Option<Role>, Refusal> {
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
            upload_of(url, mount, outer).ok_or_else(|| {
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
/// nothing but its id. Several URLs with a wrong separator, or with none, must not pass for one of
/// them (D-34).
fn upload_of(url: &str, mount: &Mount, outer: &str) -> Option<UploadId> {
    let encoded = local_part(url)?;
    let local = percent_decode_str(encoded).decode_utf8().ok()?;
    let separates = |c: char| c.is_whitespace() || c.is_control() || c == '|';
    if local.contains(separates) || local.contains("://") {
        return None;
    }
    let path = encoded.split(['?', '#']).next().unwrap_or_default();
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let path = path.strip_suffix('/').unwrap_or(&path);
    let Some((parent, id)) = path.rsplit_once('/') else {
        return path.parse().ok();
    };
    let prefix = mount.prefix();
    let is_ours = if prefix.is_empty() {
        // Here any segment could be an upload: what a proxy takes off must be known.
        parent.is_empty() || parent == outer
    } else {
        let is_twice = local.matches(&format!("{prefix}/")).nth(1).is_some();
        let is_plain = !parent.contains([',', ';']) && !is_twice;
        let is_relative = prefix.strip_prefix('/') == Some(parent);
        is_plain && (is_relative || (parent.starts_with('/') && parent.ends_with(prefix)))
    };
    if is_ours { id.parse().ok() } else { None }
}

/// What follows the authority in an absolute or relative URL. `None` for a URL of no web server.
fn local_part(url: &str) -> Option<&str> {
    let is_web = |scheme: &str| ["http", "https"].iter().any(|s| scheme.eq_ignore_ascii_case(s));
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if is_web(scheme) => rest,
        Some(_) => return None,
        None => match url.strip_prefix("//") {
            Some(rest) => rest,
            None => return Some(url),
        },
    };
    rest.find('/').map(|path| &rest[path..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::headers, *};

    /// What a proxy takes off.
    const OUTER: &str = "/outer";

    fn mount(path: &str) -> Mount {
        path.parse().expect("a path")
    }

    fn decoded(lines: &[&str], base: &str) -> Result<Option<String>, Refusal> {
        let lines: Vec<_> = lines.iter().map(|line| ("Upload-Concat", *line)).collect();
        Ok(decode(&headers(&lines), &mount(base), OUTER)?.map(|concat| match concat {
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
            ("/files", "HTTPS://files/files/a", Some("a")),
            ("/files", "https://files/proxy/files/a", Some("a")),
            ("/files", "https://p/files/files/a", Some("a")),
            ("/files", "/outer/files/a", Some("a")),
            ("/files", "/files/a,/files/b", None),
            ("/files", "/files/a\t/files/b", None),
            ("/files", "/files/a%20/files/b", None),
            ("/files", "/files/a%09/files/b", None),
            ("/files", "/files/a%0A/files/b", None),
            ("/files", "/files/a+/files/b", None),
            ("/files", "/files/a|/files/b", None),
            ("/files", "/files/a%7C/files/b", None),
            ("/files", "/files/a&/files/b", None),
            ("/files", "/files/a;/files/b", None),
            ("/files", "/files/a/files/b", None),
            ("/files", "/files/a//files/b", None),
            ("/files", "/files/a?/files/b", None),
            ("/files", "/files/a#/files/b", None),
            ("/files", "/files%2Fa/files%2Fb", None),
            ("/files", "http://h/files/ahttp://h/files/b", None),
            ("/files", "http://h/files/a+http://h/files/b", None),
            ("/files", "http://h/files/a|http://h/files/b", None),
            ("/files", "http://h/files/a?http://h/files/b", None),
            ("/files", "http://h/files/a%20http://h/files/b", None),
            ("/files", "http://h/files/a%20http%3A%2F%2Fh/files/b", None),
            ("/files", "http://h/a\thttp://h/files/b", None),
            ("/files", "//h/files/a//h/files/b", None),
            ("/files", "files/afiles/b", None),
            ("/files", "files/a+files/b", None),
            ("/files", "files/a/files/b", None),
            ("/files", "files/a|files/b", None),
            ("/files", "a+b", None),
            ("/files", "a|b", None),
            ("/files", "a%20b", None),
            ("/files", "a\tb", None),
            ("/files", "a/files/b", None),
            ("/files", "ahttps://h/files/b", None),
            ("/files", "a+https://h/files/b", None),
            ("/files", "a|https://h/files/b", None),
            ("/files", "ftp://h/files/a", None),
            ("/up/files", "/up/files/a", Some("a")),
            ("/up/files", "/files/a", None),
            ("/up/files", "up/files/a", Some("a")),
            ("/", "/a", Some("a")),
            ("/", "https://h/a", Some("a")),
            ("/", "a", Some("a")),
            ("/", "https://a", None),
            ("/", "/a,/b", None),
            ("/", "/a/b", None),
            ("/", "/a+/b", None),
            ("/", "/a%20/b", None),
            ("/", "/a|/b", None),
            ("/", "a/b", None),
            ("/", "https://h/a/b", None),
            ("/", "https://h/ahttps://h/b", None),
            ("/", "https://h/outer/a", Some("a")),
            ("/", "/outer/a", Some("a")),
            ("/", "/outer/a/outer/b", None),
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
            let concat = decode(&headers(&[("upload-concat", &value)]), &mount("/files"), "");
            let Ok(Some(Role::Final { partials, text })) = concat else {
                panic!("{value} is a final");
            };
            prop_assert_eq!(partials.iter().map(UploadId::as_str).collect::<Vec<_>>(), ids);
            prop_assert_eq!(encode(&Role::Final { partials, text }).expect("ASCII"), value);
        }
    }
}
