//! An outcome becomes an answer: rule 0.4.

use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
        CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, LOCATION,
    },
};

use super::{
    TUS_CHECKSUM_ALGORITHM, TUS_EXTENSION, TUS_MAX_SIZE, TUS_VERSION, TusExchange, etag, refuse,
};
use crate::{
    fields::{
        content_disposition, content_type, range, tus_resumable, upload_concat,
        upload_defer_length, upload_expires, upload_length, upload_metadata, upload_offset,
    },
    rules::{FetchedBytes, Outcome, Refusal, ServerInfo},
    upload::Upload,
    wire::{Reply, ReplyBody, reply},
};

/// The checksum algorithms, the preferred first (T-085).
const ALGORITHMS: HeaderValue = HeaderValue::from_static("sha1,sha256,sha512,md5");

/// As many fields as all but a few answers have, so that the map need not grow. For one more it
/// would be twice as large.
const FIELDS: usize = 12;

/// The answer to what the request of `exchange` yielded.
pub(super) fn answer(exchange: &TusExchange, outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Discovered(offer) => discovered(&offer),
        Outcome::Fetched { bytes, upload } => fetched(exchange, bytes, &upload),
        // No request of this dialect asks for it.
        Outcome::Listed(_) => refuse::refuse(exchange, &Refusal::Internal.into()),
        Outcome::Status { upload } => status(exchange, &upload),
        Outcome::Written { finished, offset, upload, .. } => {
            let mut reply = stored(exchange, offset, &upload);
            reply::add_finished(&mut reply, &finished);
            reply
        }
        Outcome::Terminated => with_fields(StatusCode::NO_CONTENT),
    }
}

fn with_fields(status: StatusCode) -> Reply {
    let mut reply = reply::empty(status);
    reply.response.headers_mut().reserve(FIELDS);
    reply
}

fn discovered(offer: &ServerInfo) -> Reply {
    let mut reply = with_fields(StatusCode::NO_CONTENT);
    let fields = reply.response.headers_mut();
    fields.insert(TUS_VERSION, tus_resumable::VERSION);
    fields.insert(TUS_EXTENSION, extensions(offer));
    fields.insert(TUS_CHECKSUM_ALGORITHM, ALGORITHMS);
    if let Some(max_size) = offer.limits.max_size_bytes {
        fields.insert(TUS_MAX_SIZE, max_size.into());
    }
    reply
}

/// The extensions, and only those that work (T-007, T-030).
fn extensions(ServerInfo { capabilities, limits }: &ServerInfo) -> HeaderValue {
    let names: Vec<_> = [
        ("creation", true),
        ("creation-with-upload", true),
        ("creation-defer-length", true),
        ("termination", limits.termination),
        ("checksum", true),
        ("checksum-trailer", true),
        ("concatenation", capabilities.join),
        ("concatenation-unfinished", capabilities.join && limits.join_unfinished),
        ("expiration", limits.expire_after.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, is_offered)| is_offered.then_some(name))
    .collect();
    HeaderValue::try_from(names.join(",")).expect("names of extensions are plain")
}

fn status(exchange: &TusExchange, upload: &Upload) -> Reply {
    let is_head = exchange.method == Method::HEAD;
    let mut reply = with_fields(if is_head { StatusCode::OK } else { StatusCode::NO_CONTENT });
    let fields = reply.response.headers_mut();
    insert_status(fields, upload);
    if upload.is_published() {
        insert_validators(fields, upload);
        insert_download(fields, upload);
        fields.insert(CONTENT_LENGTH, upload.offset().into());
    }
    reply
}

/// How the upload stands (0.4).
fn insert_status(fields: &mut HeaderMap, upload: &Upload) {
    // A final upload whose parts are unfinished has no offset to go on from (T-109).
    let is_pending = upload.is_pending_final();
    if !is_pending {
        fields.insert(upload_offset::NAME, upload_offset::encode(upload.offset()));
    }
    insert_expiry(fields, upload);
    match upload.length {
        Some(length) => fields.insert(upload_length::NAME, upload_length::encode(length)),
        None => fields.insert(upload_defer_length::NAME, upload_defer_length::DEFERRED),
    };
    if let Some(metadata) = upload_metadata::encode(&upload.metadata) {
        fields.insert(upload_metadata::NAME, metadata);
    }
    if let Some(concat) = upload_concat::encode(&upload.role) {
        fields.insert(upload_concat::NAME, concat);
    }
}

fn stored(exchange: &TusExchange, offset: u64, upload: &Upload) -> Reply {
    let is_new = exchange.method == Method::POST;
    let mut reply = with_fields(if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT });
    let fields = reply.response.headers_mut();
    if is_new {
        fields.insert(LOCATION, exchange.config.locations.location(&exchange.start, &upload.id));
    }
    fields.insert(upload_offset::NAME, upload_offset::encode(offset));
    insert_expiry(fields, upload);
    reply
}

/// Until when the upload waits for more.
fn insert_expiry(fields: &mut HeaderMap, upload: &Upload) {
    if let Some(expires) = upload.expires {
        fields.insert(upload_expires::NAME, upload_expires::encode(expires));
    }
}

fn fetched(exchange: &TusExchange, bytes: Option<FetchedBytes>, upload: &Upload) -> Reply {
    let mut reply = with_fields(StatusCode::OK);
    let fields = reply.response.headers_mut();
    if exchange.tells_status {
        insert_status(fields, upload);
    } else {
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    }
    insert_validators(fields, upload);
    let Some(FetchedBytes { partial, range, stream }) = bytes else {
        *reply.response.status_mut() = StatusCode::NOT_MODIFIED;
        return reply;
    };
    insert_download(fields, upload);
    if partial && !range.is_empty() {
        let length = upload.length.unwrap_or_else(|| upload.offset());
        fields.insert(CONTENT_RANGE, range::encode(range.start, range.end - 1, length));
    }
    let length = range.end.saturating_sub(range.start);
    // An empty HTTP/2 answer would go without it (D-51).
    fields.insert(CONTENT_LENGTH, length.into());
    if fields.contains_key(CONTENT_RANGE) {
        *reply.response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    *reply.response.body_mut() = ReplyBody::stream(stream, length);
    reply
}

/// What lets a download be taken up again.
fn insert_validators(fields: &mut HeaderMap, upload: &Upload) {
    fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    fields.insert(ETAG, etag(&upload.id));
}

/// What keeps a download from doing harm in a browser (D-56).
fn insert_download(fields: &mut HeaderMap, upload: &Upload) {
    let media_type = content_type::of_download(&upload.metadata);
    let disposition = content_disposition::encode(media_type, &upload.metadata);
    let media_type = media_type.and_then(|text| HeaderValue::from_str(text).ok());
    fields.insert(CONTENT_TYPE, media_type.unwrap_or(content_type::OCTET_STREAM));
    fields.insert(CONTENT_DISPOSITION, disposition);
    let policy = HeaderValue::from_static("sandbox; default-src 'none'");
    fields.insert(CONTENT_SECURITY_POLICY, policy);
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::Arc,
        task::{Context, Poll},
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use bytes::Bytes;
    use futures_core::Stream;
    use http_body_util::BodyExt as _;

    use super::{
        super::tests::{exchange, head, head_of},
        *,
    };
    use crate::{
        content::Content,
        rules::{Finished, Intent},
        upload::{Algorithm, Capabilities, Change, Completion, Limits, Phase, Role, UploadId},
        wire::Exchange as _,
    };

    const EXPIRES: &str = "upload-expires: Wed, 25 Jun 2014 16:00:00 GMT";

    fn expires() -> Option<SystemTime> {
        Some(UNIX_EPOCH + Duration::from_secs(1_403_712_000))
    }

    fn id(text: &str) -> UploadId {
        text.parse().expect("an id")
    }

    fn upload(length: Option<u64>, offset: u64, metadata: &str, role: Role) -> Upload {
        let metadata = metadata.parse().expect("plain");
        let completion = Completion::WhenFull;
        let created = Change::Created {
            completion,
            key: None,
            length,
            metadata,
            owner: None,
            role,
            at: UNIX_EPOCH,
        };
        let mut upload = Upload::new(id("a"), &created).expect("created comes first");
        upload.received.insert(0..offset);
        if upload.is_full() {
            upload.phase = Phase::Complete { at: UNIX_EPOCH };
        }
        upload
    }

    fn made_of_two() -> Role {
        Role::Final { partials: vec![id("b"), id("c")], text: "final;b  /files/c".to_owned() }
    }

    fn answered(lines: &str, outcome: Outcome) -> Reply {
        let exchange = exchange(lines);
        exchange.completed(answer(&exchange, outcome))
    }

    #[test]
    fn discovery_names_what_works_t_007_t_008_t_030() {
        let offer = |join, limits| {
            let capabilities = Capabilities { join };
            Outcome::Discovered(Box::new(ServerInfo { capabilities, limits }))
        };
        let rest = "tus-checksum-algorithm: sha1,sha256,sha512,md5";
        let always = "creation,creation-with-upload,creation-defer-length";
        for (offer, extensions, more) in [
            (
                offer(true, Limits::default()),
                format!("{always},termination,checksum,checksum-trailer,concatenation"),
                "",
            ),
            (
                offer(
                    true,
                    Limits {
                        expire_after: Some(Duration::from_secs(1)),
                        join_unfinished: true,
                        max_size_bytes: Some(100),
                        termination: false,
                        ..Limits::default()
                    },
                ),
                format!(
                    "{always},checksum,checksum-trailer,concatenation,concatenation-unfinished,\
                     expiration"
                ),
                "\ntus-max-size: 100",
            ),
            (
                offer(false, Limits { join_unfinished: true, ..Limits::default() }),
                format!("{always},termination,checksum,checksum-trailer"),
                "",
            ),
        ] {
            let reply = answered("OPTIONS /files", offer);
            let expected =
                format!("204\ntus-version: 1.0.0\ntus-extension: {extensions}\n{rest}{more}");
            assert_eq!(head_of(&reply), expected);
        }
        let names = Algorithm::ALL.map(Algorithm::name).join(",");
        assert_eq!(ALGORITHMS, names, "T-085");
    }

    #[test]
    fn status_tells_all_there_is_to_know() {
        let partial = Upload { expires: expires(), ..upload(Some(9), 9, "", Role::partial()) };
        let file = |length| {
            format!(
                "accept-ranges: bytes\netag: \"a\"\ncontent-type: application/octet-stream\n\
                 content-disposition: attachment\n\
                 content-security-policy: sandbox; default-src 'none'\ncontent-length: {length}"
            )
        };
        let unfinished = Upload { expires: expires(), ..upload(Some(9), 4, "", Role::Whole) };
        for (rule, upload, expected) in [
            (
                "T-012 T-013 D-29",
                upload(Some(9), 0, "b Yg==, a", Role::Whole),
                "200\nupload-offset: 0\nupload-length: 9\nupload-metadata: b Yg==, a".to_owned(),
            ),
            (
                "T-050",
                upload(None, 4, "", Role::Whole),
                "200\nupload-offset: 4\nupload-defer-length: 1".to_owned(),
            ),
            ("D-50", unfinished, format!("200\nupload-offset: 4\n{EXPIRES}\nupload-length: 9")),
            (
                "T-111 D-39",
                partial,
                format!(
                    "200\nupload-offset: 9\n{EXPIRES}\nupload-length: 9\nupload-concat: partial"
                ),
            ),
            (
                "T-110 T-112",
                upload(Some(9), 9, "", made_of_two()),
                format!(
                    "200\nupload-offset: 9\nupload-length: 9\nupload-concat: final;b  /files/c\n{}",
                    file(9)
                ),
            ),
            (
                "D-61",
                upload(Some(0), 0, "", Role::Whole),
                format!("200\nupload-offset: 0\nupload-length: 0\n{}", file(0)),
            ),
            (
                "T-109",
                upload(Some(9), 0, "", made_of_two()),
                "200\nupload-length: 9\nupload-concat: final;b  /files/c".to_owned(),
            ),
            (
                "T-114",
                upload(Some(0), 0, "", made_of_two()),
                format!(
                    "200\nupload-offset: 0\nupload-length: 0\nupload-concat: final;b  /files/c\n{}",
                    file(0)
                ),
            ),
        ] {
            let reply = answered("HEAD /files/a", Outcome::Status { upload: Arc::new(upload) });
            assert_eq!(head_of(&reply), expected, "{rule}");
        }
    }

    /// D-61: caches turn `HEAD` into `GET`, and take the body off what is answered.
    #[tokio::test]
    async fn a_head_that_was_turned_is_told_the_same() {
        let lines = "GET /files/a\nTus-Resumable: 1.0.0";
        for (upload, is_read) in [
            (upload(Some(9), 4, "b Yg==", Role::Whole), false),
            (upload(None, 4, "", Role::Whole), false),
            (upload(Some(9), 9, "", Role::partial()), false),
            (upload(Some(9), 0, "", made_of_two()), false),
            (upload(Some(9), 9, "b Yg==", Role::Whole), true),
        ] {
            let upload = Arc::new(upload);
            let asked = || Ok(Outcome::Status { upload: Arc::clone(&upload) });
            let as_head = exchange("HEAD /files/a").answer(asked());
            let mut turned = exchange(lines);
            let read = turned.read(&head(lines), Content::empty(), &Limits::default()).await;
            assert!(matches!(read, Ok((Intent::Status { .. }, _))));
            let next = turned.next(&asked());
            assert_eq!(matches!(next, Some(Intent::Fetch { .. })), is_read);
            let as_get = if is_read {
                let stream = Box::pin(Once(Some(Bytes::from_static(b"abcdefghi"))));
                let bytes = Some(FetchedBytes { partial: false, range: 0..9, stream });
                turned.answer(Ok(Outcome::Fetched { bytes, upload: Arc::clone(&upload) }))
            } else {
                turned.answer(asked())
            };
            assert_eq!(as_get.response.status(), if is_read { 200 } else { 204 });
            let head_of = |reply: &Reply| head_of(reply)[3..].to_owned();
            assert_eq!(head_of(&as_get), head_of(&as_head));
            let body = as_get.response.into_body().collect().await.expect("as long as it says");
            assert_eq!(body.to_bytes().len(), if is_read { 9 } else { 0 });
        }
    }

    /// D-06: what is framed is the answer to the real method.
    #[test]
    fn lengths_of_files_are_told_to_real_heads_alone() {
        for (lines, expected) in [
            ("HEAD /files/a", Some("9")),
            ("HEAD /files/a\nX-HTTP-Method-Override: HEAD", Some("9")),
            ("POST /files/a\nX-HTTP-Method-Override: HEAD", None),
        ] {
            let upload = Arc::new(upload(Some(9), 9, "", Role::Whole));
            let reply = answered(lines, Outcome::Status { upload });
            let length =
                reply.response.headers().get(CONTENT_LENGTH).map(|n| n.to_str().expect("digits"));
            assert_eq!(length, expected, "{lines}");
        }
    }

    #[test]
    fn writes_are_acknowledged() {
        let created = "201\nlocation: /files/a";
        let unfinished = Upload { expires: expires(), ..upload(Some(9), 4, "", Role::Whole) };
        for (rule, lines, upload, expected) in [
            (
                "D-19",
                "POST /files",
                upload(None, 0, "", Role::Whole),
                format!("{created}\nupload-offset: 0"),
            ),
            (
                "T-057",
                "POST /files/",
                upload(Some(9), 9, "", Role::Whole),
                format!("{created}\nupload-offset: 9"),
            ),
            (
                "T-072",
                "POST /files",
                unfinished.clone(),
                format!("{created}\nupload-offset: 4\n{EXPIRES}"),
            ),
            (
                "D-19",
                "POST /files",
                upload(Some(9), 0, "", made_of_two()),
                format!("{created}\nupload-offset: 0"),
            ),
            (
                "T-103",
                "POST /files",
                upload(Some(9), 9, "", made_of_two()),
                format!("{created}\nupload-offset: 9"),
            ),
            ("T-071", "PATCH /files/a", unfinished, format!("204\nupload-offset: 4\n{EXPIRES}")),
            (
                "T-022",
                "PATCH /files/a",
                upload(Some(9), 9, "", Role::Whole),
                "204\nupload-offset: 9".to_owned(),
            ),
            (
                "T-011",
                "POST /files/a\nX-HTTP-Method-Override: PATCH",
                upload(Some(9), 9, "", Role::Whole),
                "204\nupload-offset: 9".to_owned(),
            ),
        ] {
            let offset = upload.offset();
            let headers = vec![
                ("X-Result".to_owned(), "7".to_owned()),
                ("Upload-Offset".to_owned(), "7".to_owned()),
            ];
            let finished = Finished { headers };
            let upload = Arc::new(upload);
            let outcome = Outcome::Written { finished, changed: true, offset, upload };
            let reply = answered(lines, outcome);
            assert_eq!(head_of(&reply), format!("{expected}\nx-result: 7"), "{rule} {lines}");
        }
    }

    #[test]
    fn removal_is_a_bare_204_t_091() {
        assert_eq!(head_of(&answered("DELETE /files/a", Outcome::Terminated)), "204");
    }

    struct Once(Option<Bytes>);

    impl Stream for Once {
        type Item = std::io::Result<Bytes>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.take().map(Ok))
        }
    }

    #[tokio::test]
    async fn downloads_are_whole_or_partial_d_51_d_56_d_60() {
        let start = "cache-control: private, no-cache\naccept-ranges: bytes\netag: \"a\"";
        let shield = "content-security-policy: sandbox; default-src 'none'";
        let plain = "content-type: application/octet-stream\ncontent-disposition: attachment";
        let named = "content-type: text/plain\n\
                     content-disposition: inline; filename=\"b\"; filename*=UTF-8''b";
        // `filetype` is text/plain, `filename` is b.
        let metadata = "filetype dGV4dC9wbGFpbg==,filename Yg==";
        for (text, range, partial, metadata, expected) in [
            ("abc", 0..3, false, "", format!("200\n{start}\n{plain}\n{shield}\ncontent-length: 3")),
            ("", 0..0, false, "", format!("200\n{start}\n{plain}\n{shield}\ncontent-length: 0")),
            (
                "bc",
                1..3,
                true,
                metadata,
                format!(
                    "206\n{start}\n{named}\n{shield}\ncontent-range: bytes 1-2/3\ncontent-length: 2"
                ),
            ),
        ] {
            let length = if text.is_empty() { 0 } else { 3 };
            let stream = Box::pin(Once(Some(Bytes::from_static(text.as_bytes()))));
            let bytes = Some(FetchedBytes { partial, range, stream });
            let upload = Arc::new(upload(Some(length), length, metadata, Role::Whole));
            let reply = answered("GET /files/a", Outcome::Fetched { bytes, upload });
            assert_eq!(head_of(&reply), expected);
            let body = reply.response.into_body().collect().await.expect("as long as it says");
            assert_eq!(body.to_bytes(), text);
        }
        let upload = Arc::new(upload(Some(3), 3, metadata, Role::Whole));
        let reply = answered("GET /files/a", Outcome::Fetched { bytes: None, upload });
        assert_eq!(head_of(&reply), format!("304\n{start}"));
    }
}
