//! A refusal becomes an answer: rule 0.3.

use std::fmt;

use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{ALLOW, CONTENT_RANGE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use hyper::ext::ReasonPhrase;

use super::{TUS_MAX_SIZE, TUS_VERSION, TusExchange, read::LENGTH_AND_DEFERRAL};
use crate::{
    fields::{
        range, tus_resumable, upload_checksum, upload_concat, upload_defer_length, upload_expires,
        upload_length, upload_metadata, upload_offset,
    },
    rules::{Denial, DenialKind, Refusal, Refused},
    wire::{Reply, reply},
};

/// How long a client waits for the writer that is in its way, in seconds.
const BUSY_SECONDS: u64 = 1;

/// How long a client waits for a server to come back, in seconds; draining takes at most 10.
const RESTART_SECONDS: u64 = 5;

/// The status of a checksum that does not match.
const CHECKSUM_MISMATCH: u16 = 460;

/// How one refusal is worded.
#[derive(Debug)]
struct Wording {
    closes: bool,
    code: &'static str,
    fact: Option<(HeaderName, HeaderValue)>,
    hint: &'static str,
    status: StatusCode,
}

fn plain(status: StatusCode, code: &'static str) -> Wording {
    Wording { closes: false, code, fact: None, hint: "", status }
}

impl Wording {
    /// The answer has this field as well.
    fn with(self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        Self { fact: Some((name, value.into())), ..self }
    }

    /// The message ends with `hint`.
    fn hinting(self, hint: &'static str) -> Self {
        Self { hint, ..self }
    }

    /// The connection ends with the answer.
    fn closing(self) -> Self {
        Self { closes: true, ..self }
    }
}

/// The answer to a method that the resource does not have (D-55).
pub(super) fn not_allowed(allow: &'static str) -> Reply {
    let message = format_args!("this URL takes {allow}");
    let mut reply = reply::text(StatusCode::METHOD_NOT_ALLOWED, "ERR_METHOD_NOT_ALLOWED", message);
    reply.response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    reply
}

/// The answer to an upload of resumable.js and the like. 415 makes each of them stop.
pub(super) fn other_dialect(exchange: &TusExchange) -> Reply {
    let path = exchange.config.other.as_ref().map(|dialect| dialect.locations().mount.to_string());
    let right = path.map_or("no path of this server".to_owned(), |path| path);
    let message = format_args!(
        "this URL is for clients of tus 1.0; chunks of resumable.js, flow.js and \
         simple-uploader.js go to {right}"
    );
    reply::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "ERR_INVALID_CONTENT_TYPE", message)
}

/// The answer to the request of `exchange`, which is `refused`.
pub(super) fn refuse(exchange: &TusExchange, refused: &Refused) -> Reply {
    let refusal = match (&refused.refusal, &exchange.method) {
        // Clients that remove an upload take 404 for done, 410 for an error (D-15).
        (Refusal::Expired, &Method::DELETE) => &Refusal::Unknown,
        (refusal, _) => refusal,
    };
    let Wording { closes, code, fact, hint, status } = wording(refusal);
    // tus-java-client begins anew after 404 alone, and takes 410 for the end of its file (T-074).
    let status = match status {
        StatusCode::GONE if exchange.is_about_status() => StatusCode::NOT_FOUND,
        status => status,
    };
    let mut reply = reply::text(status, code, Message { hint, refusal });
    if exchange.is_about_status() && status.is_server_error() {
        // On HEAD any 5xx makes tus-js-client give the upload up; 423 makes it come again (I-06).
        *reply.response.status_mut() = StatusCode::LOCKED;
        reply.response.headers_mut().insert(RETRY_AFTER, BUSY_SECONDS.into());
    }
    if status.as_u16() == CHECKSUM_MISMATCH {
        reply.response.extensions_mut().insert(ReasonPhrase::from_static(b"Checksum Mismatch"));
    }
    if let Some((name, value)) = fact {
        reply.response.headers_mut().insert(name, value);
    }
    let tells_expiry = [Method::PATCH, Method::POST].contains(&exchange.method);
    if let Some(expires) = refused.expires.filter(|_| tells_expiry && *refusal != Refusal::Expired)
    {
        reply.response.headers_mut().insert(upload_expires::NAME, upload_expires::encode(expires));
    }
    reply.close = closes;
    reply
}

struct Message<'r> {
    hint: &'static str,
    refusal: &'r Refusal,
}

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.refusal, self.hint)
    }
}

/// The error catalogue (0.3). Temporary failures are 423, 503 and 507, which clients retry;
/// permanent ones are 4xx (D-45).
fn wording(refusal: &Refusal) -> Wording {
    match refusal {
        Refusal::AlreadyComplete | Refusal::Unfinished { .. } => {
            plain(StatusCode::BAD_REQUEST, "ERR_INVALID_REQUEST")
        }
        Refusal::Abandoned => plain(StatusCode::SERVICE_UNAVAILABLE, "ERR_READ_TIMEOUT").closing(),
        Refusal::BodyLengthWrong { .. } => plain(StatusCode::BAD_REQUEST, "ERR_INVALID_REQUEST"),
        Refusal::BodyTooLong { .. } => {
            plain(StatusCode::PAYLOAD_TOO_LARGE, "ERR_UPLOAD_SIZE_EXCEEDED")
        }
        Refusal::Busy => {
            plain(StatusCode::LOCKED, "ERR_UPLOAD_LOCKED").with(RETRY_AFTER, BUSY_SECONDS)
        }
        Refusal::ChecksumMismatch => {
            let status = StatusCode::from_u16(CHECKSUM_MISMATCH).expect("it has three digits");
            plain(status, "ERR_CHECKSUM_MISMATCH")
        }
        Refusal::ChecksumUnknown { .. } => plain(StatusCode::BAD_REQUEST, "ERR_CHECKSUM_ALGORITHM")
            .hinting("; sha1, sha256, sha512 and md5 are"),
        Refusal::ContentConflict { .. } => plain(StatusCode::BAD_REQUEST, "ERR_CONTENT_CONFLICT"),
        Refusal::Denied(denial) => denied(denial),
        Refusal::Displaced => plain(StatusCode::LOCKED, "ERR_UPLOAD_INTERRUPTED").closing(),
        Refusal::Expired => plain(StatusCode::GONE, "ERR_UPLOAD_EXPIRED"),
        Refusal::FinalUpload => plain(StatusCode::FORBIDDEN, "ERR_MODIFY_FINAL"),
        Refusal::Internal => plain(StatusCode::INTERNAL_SERVER_ERROR, "ERR_INTERNAL"),
        Refusal::LengthConflict { .. } => {
            plain(StatusCode::BAD_REQUEST, "ERR_INVALID_UPLOAD_LENGTH")
        }
        Refusal::Malformed { field, .. } => plain(StatusCode::BAD_REQUEST, malformed_code(field)),
        Refusal::MetadataTooLong { .. } => {
            plain(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "ERR_METADATA_TOO_LARGE")
        }
        Refusal::NotPartial { .. } => plain(StatusCode::BAD_REQUEST, "ERR_INVALID_CONCAT"),
        Refusal::OffsetMismatch { expected, .. } => {
            plain(StatusCode::CONFLICT, "ERR_MISMATCHED_OFFSET")
                .with(upload_offset::NAME, *expected)
        }
        Refusal::OverLimit { limit_bytes } => {
            plain(StatusCode::PAYLOAD_TOO_LARGE, "ERR_MAX_SIZE_EXCEEDED")
                .with(TUS_MAX_SIZE, *limit_bytes)
        }
        Refusal::PartialUnfinished { .. } => {
            plain(StatusCode::BAD_REQUEST, "ERR_UPLOAD_NOT_FINISHED")
        }
        Refusal::RangeUnsatisfiable { length } => {
            plain(StatusCode::RANGE_NOT_SATISFIABLE, "ERR_RANGE_NOT_SATISFIABLE")
                .with(CONTENT_RANGE, range::encode_unsatisfied(*length))
        }
        Refusal::ShuttingDown => plain(StatusCode::SERVICE_UNAVAILABLE, "ERR_SERVER_SHUTDOWN")
            .with(RETRY_AFTER, RESTART_SECONDS)
            .closing(),
        Refusal::StoreFull => plain(StatusCode::INSUFFICIENT_STORAGE, "ERR_NO_SPACE"),
        Refusal::StoreTrouble => plain(StatusCode::SERVICE_UNAVAILABLE, "ERR_STORE_UNAVAILABLE")
            .with(RETRY_AFTER, BUSY_SECONDS),
        Refusal::TooFragmented { .. } => plain(StatusCode::BAD_REQUEST, "ERR_INVALID_REQUEST"),
        Refusal::TooManyPartials { .. } => plain(StatusCode::BAD_REQUEST, "ERR_INVALID_CONCAT"),
        Refusal::Unknown => plain(StatusCode::NOT_FOUND, "ERR_UPLOAD_NOT_FOUND"),
        Refusal::Unsupported { .. } => plain(StatusCode::BAD_REQUEST, "ERR_UNSUPPORTED"),
        Refusal::VersionUnsupported => {
            plain(StatusCode::PRECONDITION_FAILED, "ERR_UNSUPPORTED_VERSION")
                .with(TUS_VERSION, tus_resumable::VERSION)
                .hinting("; expected Tus-Resumable: 1.0.0")
        }
        Refusal::WrongMediaType { .. } => {
            plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "ERR_INVALID_CONTENT_TYPE")
        }
    }
}

fn denied(denial: &Denial) -> Wording {
    const REJECTED: &str = "ERR_UPLOAD_REJECTED";
    match &denial.kind {
        DenialKind::Forbidden => plain(StatusCode::FORBIDDEN, "ERR_FORBIDDEN"),
        DenialKind::Invalid => plain(StatusCode::BAD_REQUEST, REJECTED),
        DenialKind::TooLarge => plain(StatusCode::PAYLOAD_TOO_LARGE, REJECTED),
        DenialKind::Unauthenticated { challenge } => {
            plain(StatusCode::UNAUTHORIZED, "ERR_UNAUTHENTICATED")
                .with(WWW_AUTHENTICATE, reply::challenge(challenge.as_deref()))
        }
        DenialKind::Unavailable { retry_after } => plain(StatusCode::SERVICE_UNAVAILABLE, REJECTED)
            .with(RETRY_AFTER, reply::retry_after(*retry_after)),
    }
}

/// The code of a field that breaks its grammar. The engine names a checksum without its header.
fn malformed_code(field: &str) -> &'static str {
    match field {
        LENGTH_AND_DEFERRAL => "ERR_AMBIGUOUS_UPLOAD_LENGTH",
        upload_checksum::FIELD | "checksum" => "ERR_INVALID_CHECKSUM",
        upload_concat::FIELD => "ERR_INVALID_CONCAT",
        upload_defer_length::FIELD => "ERR_INVALID_UPLOAD_LENGTH_DEFER",
        upload_length::FIELD => "ERR_INVALID_UPLOAD_LENGTH",
        upload_metadata::FIELD => "ERR_INVALID_METADATA",
        upload_offset::FIELD => "ERR_INVALID_OFFSET",
        _ => "ERR_INVALID_REQUEST",
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use http_body_util::BodyExt as _;

    use super::{
        super::tests::{exchange, head, head_of, tus},
        *,
    };
    use crate::{
        content::Content,
        upload::{Limits, UploadId},
        wire::{Exchange as _, location::Locations, resumable_js::ResumableJs},
    };

    fn id() -> UploadId {
        "a".parse().expect("an id")
    }

    fn malformed(field: &'static str) -> Refusal {
        Refusal::Malformed { field, reason: "wrong".to_owned() }
    }

    /// Every refusal, with what a `PATCH` is answered: rule, status and code, further fields.
    fn refusals() -> Vec<(&'static str, Refusal, &'static str, &'static str)> {
        let known = crate::rules::KnownLength::Declared(9);
        let busy = "\nretry-after: 1";
        let close = "\nconnection: close";
        let ten = Duration::from_millis(9_001);
        vec![
            ("T-025", Refusal::Abandoned, "503 ERR_READ_TIMEOUT", close),
            ("D-11", Refusal::BodyTooLong { length: 9 }, "413 ERR_UPLOAD_SIZE_EXCEEDED", ""),
            ("D-46", Refusal::Busy, "423 ERR_UPLOAD_LOCKED", busy),
            ("T-083", Refusal::ChecksumMismatch, "460 ERR_CHECKSUM_MISMATCH", ""),
            (
                "T-082",
                Refusal::ChecksumUnknown { name: "x".into() },
                "400 ERR_CHECKSUM_ALGORITHM",
                "",
            ),
            ("0.2", Refusal::Denied(Denial::forbidden("no")), "403 ERR_FORBIDDEN", ""),
            ("T-053", Refusal::Denied(Denial::invalid("no")), "400 ERR_UPLOAD_REJECTED", ""),
            (
                "T-053",
                Refusal::Denied(Denial { kind: DenialKind::TooLarge, message: "no".into() }),
                "413 ERR_UPLOAD_REJECTED",
                "",
            ),
            (
                "0.2",
                Refusal::Denied(Denial::unauthenticated("no")),
                "401 ERR_UNAUTHENTICATED",
                "\nwww-authenticate: Bearer",
            ),
            (
                "0.2",
                Refusal::Denied(Denial {
                    kind: DenialKind::Unauthenticated { challenge: Some("Basic realm=x".into()) },
                    message: "no".into(),
                }),
                "401 ERR_UNAUTHENTICATED",
                "\nwww-authenticate: Basic realm=x",
            ),
            (
                "D-45",
                Refusal::Denied(Denial::unavailable("no", ten)),
                "503 ERR_UPLOAD_REJECTED",
                "\nretry-after: 10",
            ),
            ("D-46", Refusal::Displaced, "423 ERR_UPLOAD_INTERRUPTED", close),
            ("D-15", Refusal::Expired, "410 ERR_UPLOAD_EXPIRED", ""),
            ("T-108", Refusal::FinalUpload, "403 ERR_MODIFY_FINAL", ""),
            ("0.3", Refusal::Internal, "500 ERR_INTERNAL", ""),
            (
                "T-049",
                Refusal::LengthConflict { given: 8, known },
                "400 ERR_INVALID_UPLOAD_LENGTH",
                "",
            ),
            ("D-08", malformed("Upload-Offset"), "400 ERR_INVALID_OFFSET", ""),
            ("T-002", malformed("Upload-Length"), "400 ERR_INVALID_UPLOAD_LENGTH", ""),
            ("D-31", malformed(LENGTH_AND_DEFERRAL), "400 ERR_AMBIGUOUS_UPLOAD_LENGTH", ""),
            ("T-047", malformed("Upload-Defer-Length"), "400 ERR_INVALID_UPLOAD_LENGTH_DEFER", ""),
            ("D-35", malformed("Upload-Concat"), "400 ERR_INVALID_CONCAT", ""),
            ("D-27", malformed("Upload-Metadata"), "400 ERR_INVALID_METADATA", ""),
            ("T-087", malformed("Upload-Checksum"), "400 ERR_INVALID_CHECKSUM", ""),
            ("D-23", malformed("checksum"), "400 ERR_INVALID_CHECKSUM", ""),
            ("0.3", malformed("other"), "400 ERR_INVALID_REQUEST", ""),
            ("D-28", Refusal::MetadataTooLong { limit_bytes: 9 }, "431 ERR_METADATA_TOO_LARGE", ""),
            ("D-32", Refusal::NotPartial { id: id() }, "400 ERR_INVALID_CONCAT", ""),
            (
                "D-09",
                Refusal::OffsetMismatch { expected: 70, given: 90 },
                "409 ERR_MISMATCHED_OFFSET",
                "\nupload-offset: 70",
            ),
            (
                "T-055",
                Refusal::OverLimit { limit_bytes: 100 },
                "413 ERR_MAX_SIZE_EXCEEDED",
                "\ntus-max-size: 100",
            ),
            ("D-33", Refusal::PartialUnfinished { id: id() }, "400 ERR_UPLOAD_NOT_FINISHED", ""),
            (
                "D-51",
                Refusal::RangeUnsatisfiable { length: 9 },
                "416 ERR_RANGE_NOT_SATISFIABLE",
                "\ncontent-range: bytes */9",
            ),
            (
                "D-59",
                Refusal::ShuttingDown,
                "503 ERR_SERVER_SHUTDOWN",
                "\nretry-after: 5\nconnection: close",
            ),
            ("F-20", Refusal::StoreFull, "507 ERR_NO_SPACE", ""),
            ("F-12", Refusal::StoreTrouble, "503 ERR_STORE_UNAVAILABLE", busy),
            ("D-35", Refusal::TooManyPartials { limit: 9 }, "400 ERR_INVALID_CONCAT", ""),
            ("T-023", Refusal::Unknown, "404 ERR_UPLOAD_NOT_FOUND", ""),
            ("F-40", Refusal::Unsupported { what: "it" }, "400 ERR_UNSUPPORTED", ""),
            (
                "T-006",
                Refusal::VersionUnsupported,
                "412 ERR_UNSUPPORTED_VERSION",
                "\ntus-version: 1.0.0",
            ),
            (
                "T-018",
                Refusal::WrongMediaType { expected: "x" },
                "415 ERR_INVALID_CONTENT_TYPE",
                "",
            ),
        ]
    }

    fn refused(lines: &str, refusal: Refusal, expires: Option<SystemTime>) -> Reply {
        let exchange = exchange(lines);
        exchange.completed(refuse(&exchange, &Refused { expires, refusal }))
    }

    async fn text_of(reply: Reply) -> String {
        let bytes = reply.response.into_body().collect().await.expect("text").to_bytes();
        String::from_utf8(bytes.into()).expect("UTF-8")
    }

    #[tokio::test]
    async fn every_refusal_has_its_status_code_and_facts_0_3() {
        for (rule, refusal, expected, fields) in refusals() {
            let reply = refused("PATCH /files/a", refusal.clone(), None);
            let (status, code) = expected.split_once(' ').expect("both");
            let head = format!("{status}\ncontent-type: text/plain; charset=utf-8{fields}");
            assert_eq!(head_of(&reply), head, "{rule} {refusal:?}");
            let text = text_of(reply).await;
            assert!(text.starts_with(&format!("{code}: {refusal}")), "{rule} {text}");
            assert!(text.ends_with('\n') && text.len() > code.len() + 4, "{rule} {text}");
        }
    }

    #[tokio::test]
    async fn a_head_is_answered_without_a_body_and_never_5xx_i_06() {
        for lines in ["HEAD /files/a", "POST /files/a\nX-HTTP-Method-Override: HEAD"] {
            for (_, refusal, expected, fields) in refusals() {
                let reply = refused(lines, refusal.clone(), Some(UNIX_EPOCH));
                let expected = match &expected[..3] {
                    "500" | "503" | "507" if !fields.contains("retry-after") => {
                        format!("423{fields}\nretry-after: 1")
                    }
                    "503" => format!("423{fields}"),
                    "410" => format!("404{fields}"),
                    status => format!("{status}{fields}"),
                };
                let lines = |head: &str| head.lines().map(str::to_owned).collect::<BTreeSet<_>>();
                assert_eq!(lines(&head_of(&reply)), lines(&expected), "{refusal:?}");
                assert_eq!(text_of(reply).await, "");
            }
        }
    }

    #[test]
    fn removal_of_an_expired_upload_is_404_d_15() {
        assert_eq!(refused("DELETE /files/a", Refusal::Expired, None).response.status(), 404);
        assert_eq!(refused("GET /files/a", Refusal::Expired, None).response.status(), 410);
        assert_eq!(refused("PATCH /files/a", Refusal::Expired, None).response.status(), 410);
        assert_eq!(refused("HEAD /files/a", Refusal::Expired, None).response.status(), 404);
    }

    /// T-074, D-61, I-06: an answer to a `HEAD` is one, whatever a cache has made of its request.
    #[tokio::test]
    async fn a_head_that_was_turned_is_refused_as_one() {
        let lines = "GET /files/a\nTus-Resumable: 1.0.0";
        for (refusal, expected) in [
            (Refusal::Expired, "404 ERR_UPLOAD_EXPIRED"),
            (Refusal::Unknown, "404 ERR_UPLOAD_NOT_FOUND"),
            (Refusal::StoreTrouble, "423 ERR_STORE_UNAVAILABLE"),
        ] {
            let mut exchange = exchange(lines);
            let read = exchange.read(&head(lines), Content::empty(), &Limits::default()).await;
            assert!(read.is_ok());
            let result = Err(Refused { expires: None, refusal });
            assert_eq!(exchange.next(&result), None);
            let reply = exchange.answer(result);
            let status = reply.response.status().as_u16();
            let text = format!("{status} {}", text_of(reply).await);
            assert!(text.starts_with(expected), "{text}");
        }
    }

    #[tokio::test]
    async fn pages_of_the_other_library_are_told_its_path() {
        let exchange = exchange("POST /files");
        let at = |path: &str| Locations::new(path.parse().expect("a path"));
        assert!(text_of(other_dialect(&exchange)).await.contains("no path of this server"));
        let dialect = ResumableJs::new(at("/up"), *b"secret");
        let exchange = TusExchange::new(&tus("/files").beside(dialect), &head("POST /files"));
        let reply = exchange.completed(other_dialect(&exchange));
        assert_eq!(reply.response.status(), 415);
        assert!(text_of(reply).await.contains("go to /up"));
    }

    #[test]
    fn refused_writes_tell_the_expiry_t_071() {
        let mismatch = Refusal::OffsetMismatch { expected: 70, given: 90 };
        for (lines, refusal, expected) in [
            ("PATCH /files/a", mismatch.clone(), true),
            ("PATCH /files/a", Refusal::ChecksumMismatch, true),
            ("POST /files", Refusal::ChecksumMismatch, true),
            ("POST /files/a\nX-HTTP-Method-Override: PATCH", mismatch, true),
            ("PATCH /files/a", Refusal::Expired, false),
            ("HEAD /files/a", Refusal::Busy, false),
            ("DELETE /files/a", Refusal::Busy, false),
        ] {
            let reply = refused(lines, refusal, Some(UNIX_EPOCH));
            assert_eq!(
                reply.response.headers().contains_key(&upload_expires::NAME),
                expected,
                "{lines}"
            );
        }
    }

    #[test]
    fn checksum_mismatch_has_words_for_its_status_0_3() {
        let reply = refused("PATCH /files/a", Refusal::ChecksumMismatch, None);
        let reason = reply.response.extensions().get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
        assert_eq!(reason, Some(&b"Checksum Mismatch"[..]));
    }

    #[tokio::test]
    async fn a_missing_method_is_answered_with_those_there_are_d_55() {
        let reply = exchange("PUT /files").completed(not_allowed("POST, OPTIONS"));
        let expected = "405\ncontent-type: text/plain; charset=utf-8\nallow: POST, OPTIONS";
        assert_eq!(head_of(&reply), expected);
        let text = "ERR_METHOD_NOT_ALLOWED: this URL takes POST, OPTIONS\n";
        assert_eq!(text_of(reply).await, text);
    }
}
