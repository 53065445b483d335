//! A refusal becomes an answer.
//!
//! Final refusals are 400, 404, 415 and 500, which make the clients stop; 503 makes them come again
//! at once, so that it is held back. 401 and 403 are honest, because pages refresh tokens
//! on them, and held back as well.

use std::time::Duration;

use http::{
    HeaderValue, StatusCode,
    header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;

use super::{
    RequestKind, ResumableJsExchange,
    profile::{Answers, Parameter},
};
use crate::{
    fields::upload_checksum,
    rules::{Denial, DenialKind, Refusal, Refused},
    wire::{Reply, form, reply},
};

pub(super) const AMBIGUOUS: &str = "ambiguous_parameters";
pub(super) const BAD_CHECKSUM: &str = "bad_checksum";
pub(super) const BAD_CHUNK_NUMBER: &str = "bad_chunk_number";
pub(super) const BAD_CHUNK_SIZE: &str = "bad_chunk_size";
pub(super) const BAD_ENCODING: &str = "bad_encoding";
pub(super) const BAD_NUMBER: &str = "bad_number";
pub(super) const BAD_RELATIVE_PATH: &str = "bad_relative_path";
pub(super) const BAD_TOTAL_CHUNKS: &str = "bad_total_chunks";
pub(super) const CHUNK_TOO_LARGE: &str = "chunk_too_large";
pub(super) const CONFLICTING: &str = "conflicting_parameter";
pub(super) const FIELDS_AFTER_FILE: &str = "fields_after_file";
pub(super) const FILE_TOO_LARGE: &str = "file_too_large";
pub(super) const IDENTIFIER_TOO_LONG: &str = "identifier_too_long";
pub(super) const MISSING: &str = "missing_parameter";
pub(super) const NOT_FOUND: &str = "not_found";
pub(super) const TOTAL_SIZE_MISMATCH: &str = "total_size_mismatch";

const LENGTH_MISMATCH: &str = "length_mismatch";

/// A client that gets 503 repeats its request within milliseconds.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// What is wrong with a request, in the words of this dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// What kind of fault it is; for programs.
    pub(super) code: &'static str,
    /// What is wrong and what was expected; for people.
    pub(super) message: String,
    /// The parameter to blame, as the client calls it.
    pub(super) param: Option<String>,
    /// The status it is answered with.
    pub(super) status: StatusCode,
}

impl Fault {
    /// A bad request.
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None, status: StatusCode::BAD_REQUEST }
    }

    /// A bad request because of the parameter `name`.
    pub(super) fn about(
        name: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { param: Some(name.into()), ..Self::new(code, message) }
    }
}

/// For a fault that shows while the engine has the body: it comes back as a refusal.
impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Malformed { field: fault.code, reason: fault.message }
    }
}

/// The body of every answer that is a no. Front ends of python-resumable look for the first member.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "chunkUploadStatus")]
    chunk_upload_status: bool,
    #[serde(flatten)]
    error: ErrorMember<'a>,
    #[serde(rename = "resumableIdentifier", skip_serializing_if = "Option::is_none")]
    identifier: Option<&'a str>,
}

/// What is wrong, in the form that the client's library reads.
#[derive(Serialize)]
#[serde(untagged)]
enum ErrorMember<'a> {
    Object {
        error: Error<'a>,
    },
    Text {
        /// The library shows it to the user.
        #[serde(rename = "error")]
        message: &'a str,
        code: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        param: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct Error<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
}

/// The answer to a method that the resource does not have. Never a deletion (J-042).
pub(super) fn not_allowed(allow: &'static str) -> Reply {
    let mut reply = reply::empty(StatusCode::METHOD_NOT_ALLOWED);
    reply.response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    reply
}

/// The answer to the request of `exchange`, which has this `fault`.
pub(super) fn fault(exchange: &ResumableJsExchange, fault: &Fault) -> Reply {
    let Fault { code, message, param, .. } = fault;
    let param = param.as_deref();
    let error = match exchange.answers() {
        Answers::Objects => ErrorMember::Object { error: Error { code, message, param } },
        Answers::Texts => ErrorMember::Text { message, code, param },
    };
    let body =
        Body { chunk_upload_status: false, error, identifier: exchange.identifier.as_deref() };
    let mut reply = reply::json(fault.status, &body);
    let comes_again =
        [StatusCode::FORBIDDEN, StatusCode::SERVICE_UNAVAILABLE, StatusCode::UNAUTHORIZED];
    if comes_again.contains(&fault.status) {
        reply.delay = RETRY_DELAY;
    }
    if fault.status == StatusCode::SERVICE_UNAVAILABLE {
        let wait = reply::retry_after(RETRY_DELAY);
        reply.response.headers_mut().insert(RETRY_AFTER, wait);
    }
    reply
}

/// The answer to the request of `exchange`, which is `refused`.
pub(super) fn refuse(exchange: &ResumableJsExchange, refused: &Refused) -> Reply {
    let refusal = &refused.refusal;
    let is_test = matches!(exchange.kind, RequestKind::Presence);
    if is_test && matches!(refusal, Refusal::Expired | Refusal::Unknown) {
        // Never 404, which makes flow.js give the file up (F-01).
        return reply::empty(StatusCode::NO_CONTENT);
    }
    let (status, code) = wording(exchange, refusal);
    let message = message(exchange, refusal);
    let is_about_total = matches!(refusal, Refusal::LengthConflict { .. });
    let param = is_about_total.then(|| exchange.name(Parameter::TotalSize));
    let mut reply = fault(exchange, &Fault { code, message, param: param.flatten(), status });
    if let Refusal::Denied(denial) = refusal {
        add_denial(&mut reply, denial);
    }
    reply.close = matches!(refusal, Refusal::Displaced | Refusal::ShuttingDown);
    reply
}

/// The message for `refusal`.
fn message(exchange: &ResumableJsExchange, refusal: &Refusal) -> String {
    let is_removal_by_anybody = exchange.kind == RequestKind::Removal && !exchange.has_owner;
    if is_removal_by_anybody && matches!(refusal, Refusal::Expired | Refusal::Unknown) {
        return "no unfinished upload has this name; a finished one is removed at its own URL"
            .to_owned();
    }
    refusal.to_string()
}

/// Status and code of each refusal (A-001: 3xx, 202, 206, 304, 409, 413, 422, 423,
/// 429 and 507 make one client or another retry for ever).
pub(super) fn wording(
    exchange: &ResumableJsExchange,
    refusal: &Refusal,
) -> (StatusCode, &'static str) {
    let bad = |code| (StatusCode::BAD_REQUEST, code);
    let passing = |code| (StatusCode::SERVICE_UNAVAILABLE, code);
    match refusal {
        Refusal::Abandoned => passing("interrupted"),
        Refusal::BodyLengthWrong { .. } | Refusal::BodyTooLong { .. } => bad(LENGTH_MISMATCH),
        Refusal::Busy => passing("busy"),
        // What was damaged on the way is good when it is sent again.
        Refusal::ChecksumMismatch => passing("checksum_mismatch"),
        Refusal::ChecksumUnknown { .. } => bad(BAD_CHECKSUM),
        Refusal::ContentConflict { .. } => bad("content_conflict"),
        Refusal::Denied(denial) => denied(exchange, denial),
        Refusal::Displaced => passing("displaced"),
        Refusal::Expired | Refusal::Unknown => (StatusCode::NOT_FOUND, gone(exchange)),
        Refusal::AlreadyComplete
        | Refusal::FinalUpload
        | Refusal::NotPartial { .. }
        | Refusal::OffsetMismatch { .. }
        | Refusal::PartialUnfinished { .. }
        | Refusal::RangeUnsatisfiable { .. }
        | Refusal::TooManyPartials { .. }
        | Refusal::Unfinished { .. }
        | Refusal::Unsupported { .. }
        | Refusal::VersionUnsupported => bad("not_possible"),
        Refusal::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        Refusal::LengthConflict { .. } => bad(TOTAL_SIZE_MISMATCH),
        Refusal::Malformed { field, .. } => bad(malformed_code(field)),
        Refusal::MetadataTooLong { .. } => bad("metadata_too_long"),
        Refusal::OverLimit { .. } => bad(FILE_TOO_LARGE),
        Refusal::ShuttingDown => passing("shutting_down"),
        // The file stops and can be resumed once there is room.
        Refusal::StoreFull => (StatusCode::INTERNAL_SERVER_ERROR, "store_full"),
        Refusal::StoreTrouble => passing("store_unavailable"),
        Refusal::TooFragmented { .. } => bad("too_fragmented"),
        Refusal::WrongMediaType { .. } => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unusable_content_type")
        }
    }
}

/// The code for an upload that is not there: to a client that continues one it had expired
/// (J-041).
fn gone(exchange: &ResumableJsExchange) -> &'static str {
    match exchange.kind {
        RequestKind::Nothing | RequestKind::Presence | RequestKind::Write => "upload_expired",
        RequestKind::Removal | RequestKind::Status(_) => "unknown_upload",
    }
}

fn denied(exchange: &ResumableJsExchange, denial: &Denial) -> (StatusCode, &'static str) {
    let stops = exchange.config.denial_is_not_found;
    match &denial.kind {
        DenialKind::Forbidden if stops => (StatusCode::NOT_FOUND, "forbidden"),
        DenialKind::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
        DenialKind::Invalid => (StatusCode::BAD_REQUEST, "rejected"),
        DenialKind::TooLarge => (StatusCode::BAD_REQUEST, "over_quota"),
        DenialKind::Unauthenticated { .. } if stops => (StatusCode::NOT_FOUND, "unauthenticated"),
        DenialKind::Unauthenticated { .. } => (StatusCode::UNAUTHORIZED, "unauthenticated"),
        DenialKind::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    }
}

/// Adds what goes with a hook's no into the head.
fn add_denial(reply: &mut Reply, denial: &Denial) {
    match &denial.kind {
        DenialKind::Unauthenticated { challenge }
            if reply.response.status() == StatusCode::UNAUTHORIZED =>
        {
            let challenge = reply::challenge(challenge.as_deref());
            reply.response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        DenialKind::Unavailable { retry_after } => {
            let wait = reply::retry_after(*retry_after);
            reply.response.headers_mut().insert(RETRY_AFTER, wait);
        }
        DenialKind::Forbidden
        | DenialKind::Invalid
        | DenialKind::TooLarge
        | DenialKind::Unauthenticated { .. } => {}
    }
}

/// The code of a request that breaks its grammar. Faults of this dialect carry their own.
fn malformed_code(field: &'static str) -> &'static str {
    match field {
        BAD_ENCODING | CONFLICTING | FIELDS_AFTER_FILE => field,
        form::FORM => "bad_form",
        form::PAYLOAD => "bad_payload",
        form::PAYLOAD_END => LENGTH_MISMATCH,
        upload_checksum::FIELD | "checksum" => BAD_CHECKSUM,
        _ => "malformed",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::{
            ResumableJs, status,
            tests::{dialect, exchange_with, told},
        },
        *,
    };

    fn malformed(field: &'static str) -> Refusal {
        Refusal::Malformed { field, reason: "wrong".to_owned() }
    }

    fn denied(kind: DenialKind) -> Refusal {
        Refusal::Denied(Denial { kind, message: "no".to_owned() })
    }

    /// Every refusal, with what an upload is answered: rule, status and code, further fields.
    fn refusals() -> Vec<(&'static str, Refusal, &'static str, &'static str)> {
        let id = || "a".parse().expect("an id");
        let known = crate::rules::KnownLength::Declared(9);
        let again = "\nretry-after: 1";
        let again_and_close = "\nconnection: close\nretry-after: 1";
        let unavailable = DenialKind::Unavailable { retry_after: Duration::from_millis(9_001) };
        let challenge = Some("Basic realm=x".to_owned());
        vec![
            ("A-003", Refusal::Abandoned, "503 interrupted", again),
            (
                "J-014",
                Refusal::BodyLengthWrong { expected: 1, given: 2 },
                "400 length_mismatch",
                "",
            ),
            ("J-014", Refusal::BodyTooLong { length: 9 }, "400 length_mismatch", ""),
            ("J-024", Refusal::Busy, "503 busy", again),
            ("J-061", Refusal::ChecksumMismatch, "503 checksum_mismatch", again),
            ("J-061", Refusal::ChecksumUnknown { name: "x".into() }, "400 bad_checksum", ""),
            ("J-022", Refusal::ContentConflict { at: 7 }, "400 content_conflict", ""),
            ("A-001", denied(DenialKind::Forbidden), "403 forbidden", ""),
            ("A-001", denied(DenialKind::Invalid), "400 rejected", ""),
            ("F-34", denied(DenialKind::TooLarge), "400 over_quota", ""),
            (
                "A-001",
                denied(DenialKind::Unauthenticated { challenge: None }),
                "401 unauthenticated",
                "\nwww-authenticate: Bearer",
            ),
            (
                "A-001",
                denied(DenialKind::Unauthenticated { challenge }),
                "401 unauthenticated",
                "\nwww-authenticate: Basic realm=x",
            ),
            ("A-001", denied(unavailable), "503 unavailable", "\nretry-after: 10"),
            ("J-024", Refusal::Displaced, "503 displaced", again_and_close),
            ("J-041", Refusal::Expired, "404 upload_expired", ""),
            ("A-001", Refusal::FinalUpload, "400 not_possible", ""),
            ("A-001", Refusal::Internal, "500 internal_error", ""),
            ("J-017", Refusal::LengthConflict { given: 8, known }, "400 total_size_mismatch", ""),
            ("A-001", malformed("other"), "400 malformed", ""),
            ("J-005", malformed(form::FORM), "400 bad_form", ""),
            ("J-007", malformed(form::PAYLOAD), "400 bad_payload", ""),
            ("J-014", malformed(form::PAYLOAD_END), "400 length_mismatch", ""),
            ("J-061", malformed("Upload-Checksum"), "400 bad_checksum", ""),
            ("J-006", malformed(FIELDS_AFTER_FILE), "400 fields_after_file", ""),
            ("J-003", malformed(CONFLICTING), "400 conflicting_parameter", ""),
            ("A-001", Refusal::MetadataTooLong { limit_bytes: 9 }, "400 metadata_too_long", ""),
            ("A-001", Refusal::NotPartial { id: id() }, "400 not_possible", ""),
            ("A-001", Refusal::OffsetMismatch { expected: 1, given: 2 }, "400 not_possible", ""),
            ("F-34", Refusal::OverLimit { limit_bytes: 9 }, "400 file_too_large", ""),
            ("A-001", Refusal::PartialUnfinished { id: id() }, "400 not_possible", ""),
            ("A-001", Refusal::RangeUnsatisfiable { length: 9 }, "400 not_possible", ""),
            ("A-001", Refusal::ShuttingDown, "503 shutting_down", again_and_close),
            ("A-001", Refusal::StoreFull, "500 store_full", ""),
            ("A-001", Refusal::StoreTrouble, "503 store_unavailable", again),
            ("S-008", Refusal::TooFragmented { limit: 9 }, "400 too_fragmented", ""),
            ("A-001", Refusal::TooManyPartials { limit: 9 }, "400 not_possible", ""),
            ("J-041", Refusal::Unknown, "404 upload_expired", ""),
            ("A-001", Refusal::Unsupported { what: "it" }, "400 not_possible", ""),
            ("A-001", Refusal::VersionUnsupported, "400 not_possible", ""),
            ("J-008", Refusal::WrongMediaType { expected: "x" }, "415 unusable_content_type", ""),
        ]
    }

    fn exchange(dialect: &ResumableJs, method: &str, kind: RequestKind) -> ResumableJsExchange {
        let mut exchange = exchange_with(dialect, &format!("{method} /up"));
        exchange.identifier = Some("i".to_owned());
        exchange.kind = kind;
        exchange
    }

    fn kinds() -> [(&'static str, RequestKind); 5] {
        let question = status::Question::default();
        let presence = RequestKind::Presence;
        [
            ("POST", RequestKind::Write),
            ("GET", presence),
            ("GET", RequestKind::Status(question)),
            ("DELETE", RequestKind::Removal),
            ("GET", RequestKind::Nothing),
        ]
    }

    #[tokio::test]
    async fn every_refusal_has_its_status_and_code_a_001() {
        for (rule, refusal, expected, fields) in refusals() {
            let exchange = exchange(&dialect(), "POST", RequestKind::Write);
            let reply = exchange.completed(refuse(&exchange, &refusal.clone().into()));
            let (status, code) = expected.split_once(' ').expect("both");
            let is_delayed = ["401", "403", "503"].contains(&status);
            let expected_delay = if is_delayed { RETRY_DELAY } else { Duration::ZERO };
            assert_eq!(reply.delay, expected_delay, "A-003 {rule} {refusal:?}");
            let (head, body) = told(reply).await;
            assert_eq!(head, format!("{status}{fields}"), "{rule} {refusal:?}");
            let error = json!({ "code": code, "message": refusal.to_string() });
            let expected = json!({
                "chunkUploadStatus": false, "error": error, "resumableIdentifier": "i"
            });
            assert_eq!(body, expected, "{rule}");
        }
    }

    #[tokio::test]
    async fn statuses_that_clients_repeat_for_ever_are_never_used_a_001() {
        let strict = dialect().with_denial_as_not_found();
        for dialect in [dialect(), strict.clone()] {
            for (method, kind) in kinds() {
                for (_, refusal, ..) in refusals() {
                    let exchange = exchange(&dialect, method, kind.clone());
                    let reply = refuse(&exchange, &refusal.clone().into());
                    let status = reply.response.status().as_u16();
                    let good = [204, 400, 401, 403, 404, 415, 500, 503].contains(&status);
                    assert!(good, "{refusal:?} {status}");
                    let is_absent = matches!(refusal, Refusal::Expired | Refusal::Unknown);
                    let is_test = matches!(kind, RequestKind::Presence);
                    assert_eq!(status == 204, is_absent && is_test, "{refusal:?} {kind:?}");
                }
            }
        }
        for (_, refusal, expected, _) in refusals() {
            let exchange = exchange(&strict, "POST", RequestKind::Write);
            let reply = refuse(&exchange, &refusal.into());
            let stops = expected.starts_with("401") || expected.starts_with("403");
            let status = reply.response.status().as_str().to_owned();
            assert_eq!(status, if stops { "404" } else { &expected[..3] });
            assert!(!reply.response.headers().contains_key(WWW_AUTHENTICATE));
        }
    }

    #[tokio::test]
    async fn unknown_uploads_are_absent_gone_or_not_there_f_01_f_41() {
        let [write, presence, status, removal, _] = kinds();
        for ((method, kind), expected) in [
            (write, "404 upload_expired"),
            (presence, "204 "),
            (status, "404 unknown_upload"),
            (removal, "404 unknown_upload"),
        ] {
            for refusal in [Refusal::Unknown, Refusal::Expired] {
                let exchange = exchange(&dialect(), method, kind.clone());
                let reply = exchange.completed(refuse(&exchange, &refusal.into()));
                let (head, body) = told(reply).await;
                let code = body["error"]["code"].as_str().unwrap_or_default();
                assert_eq!(format!("{head} {code}"), expected);
            }
        }
    }

    #[tokio::test]
    async fn removal_by_anybody_says_what_a_name_cannot_remove_s_002() {
        for (has_owner, expected) in [
            (true, "no such upload"),
            (false, "no unfinished upload has this name; a finished one is removed at its own URL"),
        ] {
            let mut exchange = exchange(&dialect(), "DELETE", RequestKind::Removal);
            exchange.has_owner = has_owner;
            let reply = exchange.completed(refuse(&exchange, &Refusal::Unknown.into()));
            let (status, body) = told(reply).await;
            assert_eq!((status.as_str(), &body["error"]["message"]), ("404", &json!(expected)));
        }
    }

    #[tokio::test]
    async fn a_head_is_answered_without_a_body_j_009() {
        for (_, refusal, expected, fields) in refusals() {
            let exchange = exchange(&dialect(), "HEAD", RequestKind::Write);
            let reply = exchange.completed(refuse(&exchange, &refusal.into()));
            let (head, body) = told(reply).await;
            assert_eq!((head, body), (format!("{}{fields}", &expected[..3]), Value::Null));
        }
    }

    #[tokio::test]
    async fn faults_name_the_parameter() {
        let mut exchange = exchange(&dialect(), "GET", RequestKind::Nothing);
        exchange.identifier = None;
        let fault = super::Fault::about("ns.k", BAD_NUMBER, "must be at least 1");
        let reply = exchange.completed(super::fault(&exchange, &fault));
        let expected = json!({
            "chunkUploadStatus": false,
            "error": { "code": "bad_number", "message": "must be at least 1", "param": "ns.k" },
        });
        assert_eq!(told(reply).await, ("400".to_owned(), expected));
        // Dropzone shows `error` as it is, also for a small file, which it sends without its
        // fields.
        for lines in [
            "POST /up?dzuuid=u&dzchunkindex=9&dzchunksize=1&dztotalfilesize=2",
            "POST /up\nAccept: application/json\nX-Requested-With: XMLHttpRequest",
        ] {
            let mut exchange = exchange_with(&dialect(), lines);
            exchange.chosen = exchange
                .query(&super::super::tests::head(lines))
                .choose(&[Parameter::Identifier])
                .ok();
            let reply = exchange.completed(super::fault(&exchange, &fault));
            let mut body = told(reply).await.1;
            body.as_object_mut().expect("an object").remove("resumableIdentifier");
            let expected = json!({
                "chunkUploadStatus": false, "error": "must be at least 1", "code": "bad_number",
                "param": "ns.k",
            });
            assert_eq!(body, expected, "{lines}");
        }
        let reply = exchange.completed(not_allowed("GET, HEAD"));
        assert_eq!(told(reply).await, ("405\nallow: GET, HEAD".to_owned(), Value::Null));
    }
}
