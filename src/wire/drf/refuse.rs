//! A refusal becomes an answer: JSON with the key `detail`, in the words of drf-chunked-upload
//! 0.6.0, which clients compare (P-101 to P-113).

use std::fmt;

use http::{
    Method, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::{Value, json};

use super::{
    DrfExchange,
    fields::{CHECKSUM, FILENAME},
};
use crate::{
    rules::{Denial, DenialKind, Refusal, Refused},
    upload::Algorithm,
    wire::{Reply, reply},
};

/// When a client that met a passing trouble should try again, in seconds.
const RETRY_SECONDS: u64 = 1;

fn detail(status: StatusCode, detail: impl fmt::Display) -> Reply {
    reply::json(status, &json!({ "detail": detail.to_string() }))
}

fn bad(text: impl fmt::Display) -> Reply {
    detail(StatusCode::BAD_REQUEST, text)
}

/// A fault of a field of the form, as Django's serializers report it.
fn field_fault(field: &str, fault: &str) -> Reply {
    reply::json(StatusCode::BAD_REQUEST, &json!({ "detail": { field: [fault] } }))
}

/// P-022.
pub(super) fn empty_file() -> Reply {
    field_fault("file", "The submitted file is empty.")
}

/// P-111.
pub(super) fn missing_checksum(algorithm: Algorithm) -> Reply {
    bad(format_args!("Checksum of type '{}' is required", algorithm.name()))
}

/// P-008.
pub(super) fn not_allowed(method: &Method) -> Reply {
    detail(StatusCode::METHOD_NOT_ALLOWED, format_args!("Method \"{method}\" not allowed."))
}

/// P-103.
pub(super) fn not_found() -> Reply {
    detail(StatusCode::NOT_FOUND, "Not found.")
}

/// P-142.
pub(super) fn past_total(total: u64) -> Reply {
    bad(format_args!("End of chunk exceeds reported total ({total} bytes)"))
}

/// P-020.
pub(super) fn unusable_range() -> Reply {
    bad("Error in request headers")
}

/// P-104.
pub(super) fn without_file() -> Reply {
    bad("No chunk file was submitted")
}

/// P-011.
pub(super) fn wrong_media_type(given: &str) -> Reply {
    let text = format_args!("Unsupported media type \"{given}\" in request.").to_string();
    detail(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
}

/// Words `refused`.
pub(super) fn refuse(exchange: &DrfExchange, refused: &Refused) -> Reply {
    let is_read = exchange.method.is_safe();
    let refusal = &refused.refusal;
    match refusal {
        Refusal::AlreadyComplete => bad("Upload has already been marked as \"complete\""),
        Refusal::BodyLengthWrong { expected, given } => bad(format_args!(
            "File size doesn't match headers: file size is {given} but {expected} reported"
        )),
        Refusal::BodyTooLong { length } | Refusal::LengthConflict { given: length, .. } => {
            past_total(*length)
        }
        Refusal::ChecksumMismatch => bad("checksum does not match"),
        Refusal::Denied(denial) => denied(denial),
        // A question about an upload whose bytes are gone is one about nothing (P-126).
        Refusal::Expired if is_read => unknown(),
        Refusal::Expired => detail(StatusCode::GONE, "Upload has expired"),
        Refusal::Internal => detail(StatusCode::INTERNAL_SERVER_ERROR, refusal),
        Refusal::Malformed { field: CHECKSUM, .. } => missing_checksum(exchange.config.checksum),
        Refusal::Malformed { field: FILENAME, reason } => field_fault(FILENAME, reason),
        Refusal::OffsetMismatch { expected, given } => {
            let body = json!({
                "detail": "Offsets do not match",
                "offset": expected,
                "expected_offset": expected,
                "provided_offset": given,
            });
            reply::json(StatusCode::BAD_REQUEST, &body)
        }
        Refusal::OverLimit { limit_bytes } => {
            bad(format_args!("Size of file exceeds the limit ({limit_bytes} bytes)"))
        }
        Refusal::StoreFull => detail(StatusCode::INSUFFICIENT_STORAGE, refusal),
        Refusal::Abandoned
        | Refusal::Busy
        | Refusal::Displaced
        | Refusal::ShuttingDown
        | Refusal::StoreTrouble => passing(refusal),
        Refusal::Unfinished { offset, length } => {
            let total = length.map_or(Value::Null, Value::from);
            let body =
                json!({ "detail": "Upload is incomplete", "offset": offset, "total": total });
            reply::json(StatusCode::BAD_REQUEST, &body)
        }
        Refusal::Unknown => unknown(),
        Refusal::ChecksumUnknown { .. }
        | Refusal::ContentConflict { .. }
        | Refusal::FinalUpload
        | Refusal::Malformed { .. }
        | Refusal::MetadataTooLong { .. }
        | Refusal::NotPartial { .. }
        | Refusal::PartialUnfinished { .. }
        | Refusal::RangeUnsatisfiable { .. }
        | Refusal::TooFragmented { .. }
        | Refusal::TooManyPartials { .. }
        | Refusal::Unsupported { .. }
        | Refusal::VersionUnsupported => bad(refusal),
        Refusal::WrongMediaType { .. } => detail(StatusCode::UNSUPPORTED_MEDIA_TYPE, refusal),
    }
}

/// P-102.
fn unknown() -> Reply {
    detail(StatusCode::NOT_FOUND, "No ChunkedUpload matches the given query.")
}

/// A trouble after which the same request is right: nothing of it counted (P-140).
fn passing(refusal: &Refusal) -> Reply {
    let mut reply = detail(StatusCode::SERVICE_UNAVAILABLE, refusal);
    reply.response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS.into());
    reply.close = matches!(refusal, Refusal::Displaced | Refusal::ShuttingDown);
    reply
}

fn denied(denial: &Denial) -> Reply {
    match &denial.kind {
        DenialKind::Forbidden => detail(StatusCode::FORBIDDEN, denial),
        DenialKind::Invalid | DenialKind::TooLarge => bad(denial),
        DenialKind::Unauthenticated { challenge } => {
            let mut reply = detail(StatusCode::UNAUTHORIZED, denial);
            let challenge = reply::challenge(challenge.as_deref());
            reply.response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            reply
        }
        DenialKind::Unavailable { retry_after } => {
            let mut reply = detail(StatusCode::SERVICE_UNAVAILABLE, denial);
            reply.response.headers_mut().insert(RETRY_AFTER, reply::retry_after(*retry_after));
            reply
        }
    }
}
