//! The status resource, `<mount>/status?<identifier, name, path>`: in one request what the clients'
//! tests ask chunk by chunk, and the place where an upload is cancelled.
//!
//! It has a path of its own because a 200 on the main one means "this chunk is there" (F-43).
//!
//! # Source
//! J-060, J-042. `contiguousChunks` is for `markChunksCompleted` of
//! resumable.js, `uploaded_chunks` for `checkChunkUploadedByResponse` of simple-uploader.js.

use http::{HeaderMap, Method, StatusCode, header::LOCATION, request::Parts};
use serde::Serialize;

use super::{
    RequestKind, ResumableJsExchange,
    answer::{self, Shown, UploadBody},
    chunk::Chunk,
    profile::Parameter,
    read::Rejection,
    refuse,
};
use crate::{
    fields::{upload_expires, upload_length, upload_missing, upload_offset},
    rules::{Intent, Subject},
    upload::{Limits, Ranges, Upload},
    wire::{Reply, reply},
};

/// The most chunk numbers in one answer: a chunk that is left out is tested by itself, or sent
/// again.
const MAX_NUMBERS: usize = 50_000;

/// What a status request says about the client's chunks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Question {
    /// How many it has.
    pub(super) chunks: Option<u64>,
    /// The bytes of each but the last.
    pub(super) size: Option<u64>,
    /// The size of the file.
    pub(super) total: Option<u64>,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "resumableIdentifier")]
    identifier: &'a str,
    upload: UploadBody<'a>,
    #[serde(flatten)]
    chunks: Option<Chunks>,
}

/// Which chunks are there.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Chunks {
    /// How many from the first on.
    #[serde(rename = "contiguousChunks")]
    contiguous: u64,
    /// The numbers of all of them, up to a limit.
    #[serde(rename = "uploaded_chunks")]
    uploaded: Vec<u64>,
}

/// What a request to the status resource wants.
pub(super) fn read(
    exchange: &mut ResumableJsExchange,
    head: &Parts,
    limits: &Limits,
) -> Result<Intent, Rejection> {
    let removes = match head.method {
        Method::DELETE if limits.termination => true,
        Method::GET | Method::HEAD => false,
        Method::OPTIONS => return Err(Rejection::Options),
        _ if limits.termination => {
            return Err(Rejection::NotAllowed { allow: "GET, HEAD, DELETE, OPTIONS" });
        }
        _ => {
            return Err(Rejection::NotAllowed { allow: "GET, HEAD, OPTIONS" });
        }
    };
    let chosen = exchange.query(head).choose(&[Parameter::Identifier])?;
    exchange.chosen = Some(chosen.clone());
    let file = chosen.file()?;
    let key = exchange.config.naming.key_of(head, &file);
    exchange.identifier = Some(file.identifier);
    if removes {
        exchange.kind = RequestKind::Removal;
        // A name can be guessed, so it does not show whose finished file it is.
        let of = if exchange.has_owner { Subject::Key(key) } else { Subject::Unfinished(key) };
        return Ok(Intent::Terminate { of });
    }
    exchange.kind = RequestKind::Status(Question {
        chunks: chosen.number(Parameter::TotalChunks)?,
        size: chosen.size_of_chunks()?,
        total: chosen.number(Parameter::TotalSize)?,
    });
    Ok(Intent::Status { of: Subject::Key(key) })
}

/// The answer about `upload`.
pub(super) fn answer(
    exchange: &ResumableJsExchange,
    question: &Question,
    upload: &Upload,
) -> Reply {
    if let Some(total) = question.total.filter(|total| upload.length != Some(*total)) {
        return refuse::fault(exchange, &exchange.wrong_total(upload.length, total));
    }
    let chunks = question
        .size
        .zip(upload.length)
        .map(|(size, total)| Chunks::of(upload, size, total, question.chunks));
    let body = Body {
        identifier: exchange.identifier.as_deref().unwrap_or_default(),
        upload: answer::body_of(exchange, upload, Shown::Name),
        chunks,
    };
    let mut reply = reply::json(StatusCode::OK, &body);
    insert_fields(reply.response.headers_mut(), upload);
    if let Some(tus) = exchange.config.tus.as_ref().filter(|_| exchange.has_owner) {
        let location = tus.location(&exchange.start, &upload.id);
        reply.response.headers_mut().insert(LOCATION, location);
    }
    reply
}

fn insert_fields(fields: &mut HeaderMap, upload: &Upload) {
    fields.insert(upload_offset::NAME, upload_offset::encode(upload.offset()));
    if let Some(expires) = upload.expires {
        fields.insert(upload_expires::NAME, upload_expires::encode(expires));
    }
    let Some(length) = upload.length else {
        return;
    };
    fields.insert(upload_length::NAME, upload_length::encode(length));
    if let Some(missing) = upload_missing::encode(&upload.received.gaps(&(0..length))) {
        fields.insert(upload_missing::NAME, missing);
    }
}

impl Chunks {
    /// The chunks of `size` bytes of which every byte is there. By which rule the client cuts the
    /// last one is known only if it says how many there are; if not, a chunk counts when it is
    /// there by both.
    fn of(upload: &Upload, size: u64, total: u64, chunks: Option<u64>) -> Self {
        let (floor, ceil) = Chunk::counts(size, total);
        // Of two numbers the smaller may be the larger one counted too early (C-52).
        let (whole, last) = match chunks {
            Some(chunks) if chunks == ceil => (ceil, ceil),
            Some(chunks) if chunks == floor => (floor, floor),
            Some(_) | None => (floor, ceil),
        };
        if total == 0 {
            let there = u64::from(upload.is_complete());
            return Self { contiguous: there, uploaded: (1..=there).collect() };
        }
        let prefix = upload.received.prefix();
        let contiguous =
            if prefix >= total { whole } else { (prefix / size).min(whole.saturating_sub(1)) };
        let end = |number: u64| {
            if number >= whole { total } else { number.saturating_mul(size).min(total) }
        };
        let uploaded = numbers(&upload.received, size, last, end);
        Self { contiguous, uploaded }
    }
}

/// The numbers of chunks, up to `last` and [`MAX_NUMBERS`] of them, that lie in one run each and
/// end where `end` says.
fn numbers(received: &Ranges, size: u64, last: u64, end: impl Fn(u64) -> u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    for run in received.iter() {
        let first = run.start.div_ceil(size).saturating_add(1);
        let there = (first..=last).take_while(|number| end(*number) <= run.end);
        numbers.extend(there.take(MAX_NUMBERS - numbers.len()));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant, UNIX_EPOCH},
    };

    use serde_json::{Value, json};

    use super::{
        super::tests::{dialect, exchange, head, told, upload},
        *,
    };

    const FILE: &str = "identifier=i&filename=n&relativePath=p";

    fn told_of(read: Result<Intent, Rejection>) -> Result<Intent, (u16, &'static str)> {
        read.map_err(|rejection| match rejection {
            Rejection::Fault(fault) => (fault.status.as_u16(), fault.code),
            Rejection::NotAllowed { allow } => (405, allow),
            Rejection::Options => (204, ""),
            Rejection::Refused(refusal) => panic!("{refusal:?}"),
        })
    }

    #[test]
    fn status_is_asked_by_name_j_042_f_43() {
        let key = || dialect().naming().key(None, "i", "n", "p");
        let of = || Subject::Key(key());
        let unfinished = || Intent::Terminate { of: Subject::Unfinished(key()) };
        let allow = "GET, HEAD, DELETE, OPTIONS";
        for (lines, expected) in [
            (format!("GET /up/status?{FILE}"), Ok(Intent::Status { of: of() })),
            (format!("HEAD /up/status/?{FILE}&chunkNumber=7"), Ok(Intent::Status { of: of() })),
            (format!("DELETE /up/status?{FILE}"), Ok(unfinished())),
            ("OPTIONS /up/status".to_owned(), Err((204, ""))),
            (format!("POST /up/status?{FILE}"), Err((405, allow))),
            ("GET /up/status".to_owned(), Err((400, refuse::MISSING))),
            ("DELETE /up/status".to_owned(), Err((400, refuse::MISSING))),
            (format!("GET /up/status?{FILE}&flowIdentifier=j"), Err((400, refuse::AMBIGUOUS))),
            (format!("GET /up/status?{FILE}&chunkSize=0"), Err((400, refuse::BAD_NUMBER))),
            (
                format!("GET /up/status?{FILE}&chunkSize=Infinity&totalChunks=2"),
                Err((400, refuse::BAD_NUMBER)),
            ),
            (
                format!("GET /up/status?{FILE}&chunkSize=Infinity&totalChunks=1"),
                Ok(Intent::Status { of: of() }),
            ),
            (format!("GET /up/status?{FILE}&totalSize=x"), Err((400, refuse::BAD_NUMBER))),
        ] {
            let mut exchange = exchange(&lines);
            let read = read(&mut exchange, &head(&lines), &Limits::default());
            assert_eq!(told_of(read), expected, "{lines}");
        }
        let lines = format!("DELETE /up/status?{FILE}");
        let mut owned = exchange(&lines);
        owned.has_owner = true;
        let read_owned = read(&mut owned, &head(&lines), &Limits::default());
        assert_eq!(told_of(read_owned), Ok(Intent::Terminate { of: of() }), "S-002");
        let limits = Limits { termination: false, ..Limits::default() };
        let read = read(&mut exchange(&lines), &head(&lines), &limits);
        assert_eq!(told_of(read), Err((405, "GET, HEAD, OPTIONS")));
    }

    async fn answered(method: &str, more: &str, upload: &Upload) -> (String, Value) {
        let lines = format!("{method} /up/status?{FILE}{more}");
        let mut exchange = exchange(&lines);
        exchange.has_owner = true;
        read(&mut exchange, &head(&lines), &Limits::default()).expect("a good request");
        let RequestKind::Status(question) = exchange.kind.clone() else {
            panic!("{:?}", exchange.kind);
        };
        told(exchange.completed(answer(&exchange, &question, upload))).await
    }

    #[tokio::test]
    async fn status_tells_all_there_is_to_know_j_060() {
        let mut unfinished = Upload::clone(&upload(29, &[(0, 12), (15, 29)]));
        unfinished.expires = Some(UNIX_EPOCH + Duration::from_secs(1_403_712_000));
        let fields = "200\nlocation: /files/u\nupload-expires: Wed, 25 Jun 2014 16:00:00 GMT\n\
            upload-length: 29\nupload-missing: 12-14\nupload-offset: 12";
        let said = json!({
            "id": "u", "url": "/files/u", "offset": 12, "received": 26, "size": 29
        });
        let body = json!({ "resumableIdentifier": "i", "upload": said });
        assert_eq!(answered("GET", "", &unfinished).await, (fields.to_owned(), body));
        let head = answered("HEAD", "", &unfinished).await;
        assert_eq!(head, (fields.to_owned(), Value::Null));
        let (head, body) =
            answered("GET", "&chunkSize=5&totalSize=29", &upload(29, &[(0, 29)])).await;
        let fields = "200\nlocation: /files/u\nupload-length: 29\nupload-offset: 29";
        assert_eq!(head, fields);
        assert_eq!(body["upload"]["complete"], true);
        assert_eq!(body["contiguousChunks"], 5);
        assert_eq!(body["uploaded_chunks"], json!([1, 2, 3, 4, 5, 6]));
        let (head, body) = answered("GET", "&totalSize=30", &unfinished).await;
        assert_eq!((head.as_str(), &body["error"]["code"]), ("400", &json!("total_size_mismatch")));
        assert_eq!(body["error"]["param"], "totalSize");
    }

    /// Whoever has the URL may read and remove the upload; a name anybody may guess.
    #[tokio::test]
    async fn status_leads_nobody_to_an_upload_without_owner_s_002() {
        let exchange = exchange(&format!("GET /up/status?{FILE}"));
        let reply = answer(&exchange, &Question::default(), &upload(29, &[(0, 29)]));
        let (head, body) = told(exchange.completed(reply)).await;
        assert_eq!(head, "200\nupload-length: 29\nupload-offset: 29");
        let upload = json!({
            "offset": 29, "received": 29, "size": 29, "complete": true, "name": "b.txt"
        });
        assert_eq!(body, json!({ "resumableIdentifier": "", "upload": upload }));
    }

    #[test]
    fn chunks_are_there_when_every_byte_of_them_is() {
        for (held, total, chunks, contiguous, uploaded) in [
            (&[][..], 29, None, 0, &[][..]),
            (&[(0, 9)], 29, None, 0, &[]),
            (&[(0, 10)], 29, None, 1, &[1]),
            (&[(0, 20)], 29, None, 1, &[1]),
            (&[(0, 20)], 29, Some(2), 1, &[1]),
            (&[(0, 20)], 29, Some(3), 2, &[1, 2]),
            (&[(5, 25)], 29, Some(3), 0, &[2]),
            (&[(20, 29)], 29, None, 0, &[3]),
            (&[(20, 29)], 29, Some(2), 0, &[]),
            (&[(10, 29)], 29, Some(2), 0, &[2]),
            (&[(10, 29)], 29, Some(3), 0, &[2, 3]),
            (&[(0, 10), (20, 30)], 30, None, 1, &[1, 3]),
            (&[(0, 30)], 30, Some(3), 3, &[1, 2, 3]),
            (&[(0, 29)], 29, Some(3), 3, &[1, 2, 3]),
            (&[(0, 29)], 29, Some(2), 2, &[1, 2]),
            (&[(0, 29)], 29, Some(1), 2, &[1, 2, 3]),
            (&[(0, 5)], 5, Some(1), 1, &[1]),
            (&[], 0, Some(1), 1, &[1]),
        ] {
            let there = Chunks::of(&upload(total, held), 10, total, chunks);
            let expected = Chunks { contiguous, uploaded: uploaded.to_vec() };
            assert_eq!(there, expected, "{held:?} of {total}, {chunks:?} chunks");
        }
    }

    #[test]
    fn lists_of_chunks_are_bounded_s_008_f_40() {
        let most = (1 << 53) - 1;
        let start = Instant::now();
        for (upload, contiguous) in [(upload(most, &[(0, most)]), most), (gapped(most), 1)] {
            let there = Chunks::of(&upload, 1, most, None);
            assert_eq!(there.contiguous, contiguous);
            assert_eq!(there.uploaded.len(), if contiguous > 1 { MAX_NUMBERS } else { 10_000 });
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    fn gapped(total: u64) -> Arc<Upload> {
        let runs: Vec<_> = (0..10_000_u64).map(|n| (2 * n, 2 * n + 1)).collect();
        upload(total, &runs)
    }
}
