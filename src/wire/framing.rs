//! What every server on the way must read alike in a head: where its body ends, and whom it is for.

use http::{
    HeaderMap, Version,
    header::{HOST, TRANSFER_ENCODING},
    request::Parts,
};

use crate::{fields::host, rules::Refusal};

/// Checks `head`, whatever its dialect. What follows a head that fails may be a part of its
/// request.
///
/// # Errors
/// [`Refusal::Malformed`].
///
/// # Source
/// RFC 9112 3.2 "Host" and 6.1 "Transfer-Encoding"; RFC 9113 8.3.1.
pub fn check(head: &Parts) -> Result<(), Refusal> {
    if !is_framed_plainly(&head.headers) {
        return Err(Refusal::malformed("Transfer-Encoding", "it must be chunked alone"));
    }
    if !is_addressed(head) {
        return Err(Refusal::malformed(
            "Host",
            "it must be there once, and be a host with at most a port",
        ));
    }
    Ok(())
}

/// hyper refuses what contradicts itself, and takes `Transfer-Encoding` as long as it ends in
/// `chunked`.
fn is_framed_plainly(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked =
        codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    is_chunked && codings.next().is_none()
}

/// Whether `head` names one host, or none where the version allows that. An absolute target does
/// not replace the field.
fn is_addressed(head: &Parts) -> bool {
    let authority = head.uri.authority().is_none_or(|text| host::is_valid(text.as_str()));
    let mut fields = head.headers.get_all(HOST).iter();
    let field = match fields.next() {
        Some(text) => text.to_str().is_ok_and(host::is_valid),
        None => head.version != Version::HTTP_11,
    };
    authority && field && fields.next().is_none()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn heads_have_one_host_and_one_end_rfc_9112_3_2() {
        use Version as V;
        for (version, target, fields, expected) in [
            (V::HTTP_11, "/", &["host: a"][..], true),
            (V::HTTP_11, "/", &["host: a:8080"], true),
            (V::HTTP_11, "/", &[], false),
            (V::HTTP_11, "http://a/", &[], false),
            (V::HTTP_11, "http://a/", &["host: b"], true),
            (V::HTTP_11, "http://u@a/", &["host: a"], false),
            (V::HTTP_11, "/", &["host: "], false),
            (V::HTTP_11, "/", &["host: a/b"], false),
            (V::HTTP_11, "/", &["host: a", "host: a"], false),
            (V::HTTP_10, "/", &[], true),
            (V::HTTP_10, "/", &["host: a b"], false),
            (V::HTTP_2, "/", &[], true),
            (V::HTTP_2, "http://a/", &[], true),
            (V::HTTP_2, "http://a/", &["host: a b"], false),
            (V::HTTP_2, "http://u@a/", &[], false),
            (V::HTTP_11, "/", &["host: a", "transfer-encoding: Chunked"], true),
            (V::HTTP_11, "/", &["host: a", "transfer-encoding: gzip, chunked"], false),
            (
                V::HTTP_11,
                "/",
                &["host: a", "transfer-encoding: chunked", "transfer-encoding: chunked"],
                false,
            ),
        ] {
            let request = Request::get(target).version(version);
            let request = fields.iter().fold(request, |request, field| {
                let (name, value) = field.split_once(": ").expect("a field");
                request.header(name, value)
            });
            let (head, ()) = request.body(()).expect("a request").into_parts();
            assert_eq!(check(&head).is_ok(), expected, "{version:?} {target} {fields:?}");
        }
    }
}
