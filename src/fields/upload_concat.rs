//! `Upload-Concat`: an upload that is a part of another, or made of others.
//!
//! # Source
//! tus 1.0 "Upload-Concat"; T-113, D-34, D-35.
//!
//! # Grammar
//! `"partial" | "final;" url *( SP url )`, once, in any case. Example:
//! `final;/files/a https://example.org/files/b`.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Invalid, excerpt, single};
use crate::upload::{Role, UploadId};

/// The field's name.
pub const NAME: HeaderName = HeaderName::from_static("upload-concat");

/// The field's name in messages.
pub const FIELD: &str = "Upload-Concat";

const PARTIAL: &str = "partial";
const FINAL: &str = "final;";

/// What a request says about concatenation; `upload_at` gives the upload that a URL names.
///
/// # Errors
/// [`Reason::Malformed`](super::Reason::Malformed).
pub fn decode(
    headers: &HeaderMap,
    upload_at: impl Fn(&str) -> Option<UploadId>,
) -> Result<Option<Role>, Invalid> {
    let Some(value) = single(headers, &NAME, FIELD)? else {
        return Ok(None);
    };
    let unknown = || Invalid::malformed(FIELD, "expected partial, or final; and a list of URLs");
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
            upload_at(url).ok_or_else(|| {
                let reason = format!("{:?} is no upload of this server", excerpt(url));
                Invalid::malformed(FIELD, reason)
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if partials.is_empty() {
        return Err(Invalid::malformed(FIELD, "the list of URLs is empty"));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::headers, *};

    /// The upload at a URL of `/files`.
    fn upload_at(url: &str) -> Option<UploadId> {
        url.strip_prefix("/files/")?.parse().ok()
    }

    fn decoded(lines: &[&str]) -> Result<Option<String>, Invalid> {
        let lines: Vec<_> = lines.iter().map(|line| ("Upload-Concat", *line)).collect();
        Ok(decode(&headers(&lines), upload_at)?.map(|concat| match concat {
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
            (&["final;/files/a /x"], Err(())),
            (&["partial;"], Err(())),
            (&["whole"], Err(())),
            (&[""], Err(())),
            (&["fina\u{e9};/files/a"], Err(())),
            (&["partial", "partial"], Err(())),
        ] {
            let decoded = decoded(lines);
            assert_eq!(
                decoded.as_ref().map(Option::as_deref).map_err(|_| ()),
                expected,
                "{lines:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn concat_is_echoed_byte_for_byte_t_112(ids in proptest::collection::vec("[A-Za-z0-9_-]{1,9}", 1..9)) {
            let urls: Vec<_> = ids.iter().map(|id| format!("/files/{id}")).collect();
            let value = format!("final;{}", urls.join(" "));
            let concat = decode(&headers(&[("upload-concat", &value)]), upload_at);
            let Ok(Some(Role::Final { partials, text })) = concat else {
                panic!("{value} is a final");
            };
            prop_assert_eq!(partials.iter().map(UploadId::as_str).collect::<Vec<_>>(), ids);
            prop_assert_eq!(encode(&Role::Final { partials, text }).expect("ASCII"), value);
        }
    }
}
