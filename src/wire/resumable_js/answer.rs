//! An outcome becomes an answer. The clients read the status alone;
//! pages read the body, which they get as text.

use http::StatusCode;
use serde::Serialize;

use super::{RequestKind, ResumableJsExchange, refuse, status};
use crate::{
    rules::{Outcome, Refusal},
    upload::Upload,
    wire::{Reply, reply, safe_name::safe_name},
};

/// The body of every answer that is a yes. One of the first two members is there, as front ends of
/// python-resumable expect.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "chunkUploadStatus", skip_serializing_if = "is_false")]
    is_chunk: bool,
    #[serde(rename = "fileUploadStatus", skip_serializing_if = "is_false")]
    is_file: bool,
    #[serde(rename = "resumableIdentifier")]
    identifier: &'a str,
    upload: UploadBody<'a>,
}

/// What an answer says about the upload.
#[derive(Serialize)]
pub(super) struct UploadBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    offset: u64,
    received: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// What the client of an answer has shown of the upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Its name, and perhaps bytes that it holds anyway: others may guess these.
    Name,
    /// Bytes that are part of it by this request.
    Bytes,
}

/// For serde, which hands out references.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The answer to what the request of `exchange` yielded.
pub(super) fn answer(exchange: &ResumableJsExchange, outcome: Outcome) -> Reply {
    match (outcome, &exchange.kind) {
        // A chunk that is not there is refused as unknown.
        (Outcome::Status { upload }, RequestKind::Presence) => {
            success(exchange, &upload, Shown::Name)
        }
        (Outcome::Status { upload }, RequestKind::Status(question)) => {
            status::answer(exchange, question, &upload)
        }
        (Outcome::Written { finished, changed, upload, .. }, _) => {
            let shown = if changed { Shown::Bytes } else { Shown::Name };
            let mut reply = success(exchange, &upload, shown);
            reply::add_finished(&mut reply, &finished);
            reply
        }
        (Outcome::Terminated, _) => reply::empty(StatusCode::NO_CONTENT),
        // No request of this dialect asks for these.
        (
            Outcome::Discovered(_)
            | Outcome::Fetched { .. }
            | Outcome::Listed(_)
            | Outcome::Status { .. },
            _,
        ) => refuse::refuse(exchange, &Refusal::Internal.into()),
    }
}

/// The bytes are there. Whichever answer a page reads last says whether the file is, too.
fn success(exchange: &ResumableJsExchange, upload: &Upload, shown: Shown) -> Reply {
    let is_file = upload.is_complete();
    let body = Body {
        is_chunk: !is_file,
        is_file,
        identifier: exchange.identifier.as_deref().unwrap_or_default(),
        upload: body_of(exchange, upload, shown),
    };
    reply::json(StatusCode::OK, &body)
}

/// What an answer says about `upload`.
pub(super) fn body_of<'u>(
    exchange: &ResumableJsExchange,
    upload: &'u Upload,
    shown: Shown,
) -> UploadBody<'u> {
    // Who has the URL may read and remove the upload, so that it takes more than its name.
    let is_told = exchange.has_owner || shown == Shown::Bytes;
    let url = exchange.config.tus.as_ref().filter(|_| is_told).and_then(|tus| {
        let location = tus.location(&exchange.start, &upload.id);
        location.to_str().map(str::to_owned).ok()
    });
    let name = upload.metadata.get_str("filename");
    let lengths = upload.received.iter().map(|run| run.end - run.start);
    UploadBody {
        id: is_told.then_some(upload.id.as_str()),
        url,
        offset: upload.offset(),
        received: lengths.sum(),
        size: upload.length,
        complete: upload.is_complete(),
        name: name.filter(|_| upload.is_complete()).map(safe_name),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::{
        super::tests::{exchange, told, upload},
        *,
    };
    use crate::rules::Finished;

    fn asking(method: &str) -> ResumableJsExchange {
        let mut exchange = exchange(&format!("{method} /up"));
        exchange.has_owner = true;
        exchange.identifier = Some("i\"\r\n".to_owned());
        exchange.kind = RequestKind::Presence;
        exchange
    }

    fn writing(lines: &str) -> ResumableJsExchange {
        let mut exchange = exchange(lines);
        exchange.identifier = Some("i".to_owned());
        exchange.kind = RequestKind::Write;
        exchange
    }

    fn stored(upload: Arc<Upload>) -> Outcome {
        let headers = vec![("X-Result".to_owned(), "7".to_owned())];
        Outcome::Written { finished: Finished { headers }, changed: true, offset: 20, upload }
    }

    /// The upload's id and its URL make their owner; a name and a few bytes are guessed.
    #[tokio::test]
    async fn uploads_without_owner_are_shown_to_those_who_fill_them_s_002() {
        let upload = || upload(30, &[(0, 10)]);
        let written = |changed| {
            let finished = Finished::default();
            Outcome::Written { finished, changed, offset: 10, upload: upload() }
        };
        for (mut exchange, has_owner, outcome, expected) in [
            (asking("GET"), false, Outcome::Status { upload: upload() }, false),
            (asking("GET"), true, Outcome::Status { upload: upload() }, true),
            (writing("POST /up"), false, written(true), true),
            (writing("POST /up"), false, written(false), false),
            (writing("POST /up"), true, written(false), true),
        ] {
            exchange.has_owner = has_owner;
            let asked = format!("{:?} {has_owner} {outcome:?}", exchange.kind);
            let reply = exchange.completed(answer(&exchange, outcome));
            let upload = told(reply).await.1["upload"].take();
            let shown = ["id", "url"].map(|member| upload.get(member).is_some());
            assert_eq!(shown, [expected; 2], "{asked}: {upload}");
            assert_eq!(upload["received"], 10);
        }
    }

    #[tokio::test]
    async fn answers_say_how_far_the_upload_is_j_055() {
        let said = |upload: Value, member: &str, identifier: &str| -> Value {
            json!({ member: true, "resumableIdentifier": identifier, "upload": upload })
        };
        let part = json!({
            "id": "u", "url": "/files/u", "offset": 10, "received": 15, "size": 30
        });
        let whole = json!({
            "id": "u", "url": "/files/u", "offset": 30, "received": 30, "size": 30,
            "complete": true, "name": "b.txt"
        });
        let (chunk, file) = ("chunkUploadStatus", "fileUploadStatus");
        let held = [(0, 10), (20, 25)];
        for (exchange, outcome, expected) in [
            (
                asking("GET"),
                Outcome::Status { upload: upload(30, &held) },
                ("200", said(part.clone(), chunk, "i\"\r\n")),
            ),
            (
                asking("GET"),
                Outcome::Status { upload: upload(30, &[(0, 30)]) },
                ("200", said(whole.clone(), file, "i\"\r\n")),
            ),
            (asking("HEAD"), Outcome::Status { upload: upload(30, &held) }, ("200", Value::Null)),
            (
                writing("POST /up"),
                stored(upload(30, &held)),
                ("200\nx-result: 7", said(part, chunk, "i")),
            ),
            (
                writing("PUT /up/"),
                stored(upload(30, &[(0, 30)])),
                ("200\nx-result: 7", said(whole, file, "i")),
            ),
        ] {
            let reply = exchange.completed(answer(&exchange, outcome));
            let (head, body) = told(reply).await;
            assert_eq!((head.as_str(), body), expected);
        }
    }

    #[tokio::test]
    async fn without_tus_there_is_no_url_j_055() {
        let locations = crate::wire::location::Locations::new("/up".parse().expect("a path"));
        let dialect = super::super::ResumableJs::new(locations, *b"secret");
        let mut exchange = super::super::tests::exchange_with(&dialect, "POST /up");
        exchange.kind = RequestKind::Write;
        let reply = exchange.completed(answer(&exchange, stored(upload(30, &[(0, 10)]))));
        assert_eq!(told(reply).await.1["upload"].get("url"), None);
    }
}
