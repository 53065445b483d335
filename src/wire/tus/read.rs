//! A request head becomes an intent. The checks stand in the order of rule 0.2:
//! path, `OPTIONS`, method, version, then the header fields of each method.

use http::{HeaderMap, Method, request::Parts};

use super::{TusExchange, etag};
use crate::{
    content::Content,
    fields::{
        Invalid, Reason, content_type, if_none_match, if_range,
        range::{self, Range},
        tus_resumable, upload_checksum, upload_concat, upload_defer_length, upload_length,
        upload_metadata, upload_offset,
    },
    rules::{
        At, Checksum, Intent, Join, NewUpload, Refusal, Selection, Subject, Target, Wait, Write,
        create::check_length, lifecycle,
    },
    upload::{Completion, Limits, Role, UploadId},
    wire::{check_uncoded, cors, location, mount::Resource, naming::File, trailer_checksum},
};

/// Why a head has no intent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The resource does not have the method.
    NotAllowed {
        /// The methods it has, as a comma list.
        allow: &'static str,
    },
    /// It speaks ResumableJS, which this path does not.
    OtherDialect,
    /// Everything else.
    Refused(Refusal),
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The field in messages about a length that is declared and deferred at once.
pub(super) const LENGTH_AND_DEFERRAL: &str = "Upload-Length and Upload-Defer-Length";

/// What a request means, once path and method fit.
enum Operation {
    Append(UploadId),
    Create,
    Fetch(UploadId),
    Status(UploadId),
    Terminate(UploadId),
}

/// What the request of `exchange` wants, and the part of `content` that goes with it.
pub(super) fn read(
    exchange: &mut TusExchange,
    head: &Parts,
    content: Content,
    limits: &Limits,
) -> Result<(Intent, Content), Rejection> {
    let headers = &head.headers;
    if cors::is_preflight(head) {
        // On any path, so that the page can read what is wrong with its own request (D-57).
        return Ok((Intent::Discover, content.ignored()));
    }
    let path = head.uri.path();
    let resource = exchange.config.locations.mount.resource(path).ok_or(Refusal::Unknown)?;
    if exchange.method == Method::OPTIONS {
        return Ok((Intent::Discover, content.ignored()));
    }
    if is_resumable_js(exchange, head) {
        return Err(Rejection::OtherDialect);
    }
    let ask = operation(&exchange.method, resource, limits)?;
    check_version(&exchange.method, headers)?;
    match ask {
        Operation::Append(id) => Ok(append(headers, id, content, limits)?),
        Operation::Create => Ok(create(exchange, head, content, limits)?),
        Operation::Fetch(id) => {
            let selection = selection(headers, &id);
            let fetch = Intent::Fetch { id: id.clone(), selection };
            if tus_resumable::decode(headers) != Ok(true) {
                return Ok((fetch, content.ignored()));
            }
            // A cache on the way has made it of a `HEAD`, for all that is known yet (D-61).
            exchange.fetch = Some(fetch);
            exchange.tells_status = true;
            Ok((Intent::Status { of: Subject::Id(id) }, content.ignored()))
        }
        Operation::Status(id) => Ok((Intent::Status { of: Subject::Id(id) }, content.ignored())),
        Operation::Terminate(id) => {
            Ok((Intent::Terminate { of: Subject::Id(id) }, content.ignored()))
        }
    }
}

/// Whether an upload that says nothing of tus comes from a page with resumable.js or one of its
/// forks, sent to the wrong path. These take 412 and 405 for a passing trouble, and come again for
/// ever.
fn is_resumable_js(exchange: &TusExchange, head: &Parts) -> bool {
    let is_upload = [Method::PATCH, Method::POST, Method::PUT].contains(&exchange.method);
    let names_chunk = || exchange.config.other.as_ref().is_some_and(|other| other.recognizes(head));
    is_upload
        && !tus_resumable::is_given(&head.headers)
        && (content_type::form_boundary(&head.headers) != Ok(None) || names_chunk())
}

/// What `method` means for `resource` (D-55).
fn operation(method: &Method, resource: Resource, limits: &Limits) -> Result<Operation, Rejection> {
    match (method, resource) {
        (&Method::POST, Resource::Collection) => Ok(Operation::Create),
        (&Method::HEAD, Resource::Upload(id)) => Ok(Operation::Status(id)),
        (&Method::PATCH, Resource::Upload(id)) => Ok(Operation::Append(id)),
        (&Method::GET, Resource::Upload(id)) => Ok(Operation::Fetch(id)),
        (&Method::DELETE, Resource::Upload(id)) if limits.termination => {
            Ok(Operation::Terminate(id))
        }
        (_, Resource::Collection) => Err(Rejection::NotAllowed { allow: "POST, OPTIONS" }),
        (_, Resource::Upload(_)) if limits.termination => {
            Err(Rejection::NotAllowed { allow: "HEAD, PATCH, GET, DELETE, OPTIONS" })
        }
        (_, Resource::Upload(_)) => {
            Err(Rejection::NotAllowed { allow: "HEAD, PATCH, GET, OPTIONS" })
        }
    }
}

/// T-004, T-006, D-02, D-03. A client of an IETF draft, which names another version in another
/// field, ends here as well (C-19).
fn check_version(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    match *method {
        Method::GET => Ok(()),
        Method::HEAD => Ok(tus_resumable::decode(headers).map(|_| ())?),
        _ if tus_resumable::decode(headers)? => Ok(()),
        _ => Err(Refusal::VersionUnsupported),
    }
}

/// A `PATCH`. Fields that only mean something to a `POST` are ignored (T-042, D-31, D-35).
fn append(
    headers: &HeaderMap,
    id: UploadId,
    content: Content,
    limits: &Limits,
) -> Result<(Intent, Content), Refusal> {
    if !content_type::is_offset_octet_stream(headers) {
        return Err(Refusal::WrongMediaType { expected: content_type::OFFSET_OCTET_STREAM });
    }
    check_uncoded(headers)?;
    let at = upload_offset::decode(headers)?;
    let length = length(headers, limits)?;
    let checksum = checksum(headers)?;
    let content_bytes = content.exact_bytes();
    let content = with_trailer(content, &checksum);
    let target = Target::Existing(id);
    let write = Write::new(target, At::Offset(at), wait(limits));
    let write = Write { checksum, content_bytes, length, ..write };
    Ok((Intent::Write(write), content))
}

/// The same content; a checksum in its trailer is read if it was announced, and else ignored
/// (D-22).
fn with_trailer(content: Content, checksum: &Checksum) -> Content {
    match checksum {
        Checksum::Trailing => content.with_trailer_checksum(trailer_checksum),
        Checksum::Given(_) | Checksum::None => content,
    }
}

/// How a write waits for another one (D-46).
fn wait(limits: &Limits) -> Wait {
    Wait { at_most: limits.lock_wait, stall_after: limits.stall_after }
}

/// A `POST`.
fn create(
    exchange: &TusExchange,
    head: &Parts,
    content: Content,
    limits: &Limits,
) -> Result<(Intent, Content), Refusal> {
    let headers = &head.headers;
    let outer = location::path_of(&exchange.start);
    let mount = &exchange.config.locations.mount;
    let concat = upload_concat::decode(headers, |url| mount.upload_at(url, outer))?;
    let is_final = matches!(concat, Some(Role::Final { .. }));
    let length = declared_length(headers, is_final, limits)?;
    let metadata = upload_metadata::decode(headers, limits.max_metadata_bytes)?;
    let checksum = checksum(headers)?;
    let (content, checksum) = first_bytes(headers, content, checksum)?;
    let content_bytes = content.exact_bytes();
    let owner = exchange.owner(head);
    let role = match concat {
        None => Role::Whole,
        Some(role @ (Role::Whole | Role::Partial { .. })) => role,
        Some(Role::Final { partials, text }) => {
            let join = Join { content_bytes, length, metadata, owner, partials, text };
            return Ok((Intent::Join(join), content));
        }
    };
    let naming =
        exchange.config.naming.as_ref().filter(|_| length.is_some() && role == Role::Whole);
    let key = naming.and_then(|naming| Some(naming.key_of(head, &File::described_by(&metadata)?)));
    // A name alone never leads to the upload of another client.
    let has_owner = owner.is_some();
    let new = NewUpload {
        completion: Completion::WhenFull,
        length,
        metadata,
        owner,
        role,
        ..NewUpload::default()
    };
    let target = match key {
        Some(key) if has_owner => Target::Keyed(key, new),
        Some(key) => Target::NewKeyed(key, new),
        None => Target::New(new),
    };
    let write = Write::new(target, At::Offset(0), wait(limits));
    let write = Write { checksum, content_bytes, length, ..write };
    Ok((Intent::Write(write), content))
}

/// The length that a request declares. One that no upload could ever have is over every limit.
fn length(headers: &HeaderMap, limits: &Limits) -> Result<Option<u64>, Refusal> {
    upload_length::decode(headers).map_err(|invalid| match invalid {
        Invalid { reason: Reason::TooLarge, .. } => {
            Refusal::OverLimit { limit_bytes: lifecycle::max_size(limits) }
        }
        invalid => invalid.into(),
    })
}

/// The length a `POST` declares: exactly one of a length and its deferral must be there (T-046,
/// D-31), but a final upload has that of its parts.
fn declared_length(
    headers: &HeaderMap,
    is_final: bool,
    limits: &Limits,
) -> Result<Option<u64>, Refusal> {
    let length = length(headers, limits)?;
    match (length, upload_defer_length::decode(headers)?) {
        (Some(_), true) => {
            Err(Refusal::malformed(LENGTH_AND_DEFERRAL, "only one of them may be given"))
        }
        (None, false) if !is_final => Err(Refusal::malformed(
            upload_length::FIELD,
            "missing, and Upload-Defer-Length: 1 as well",
        )),
        (Some(length), false) => check_length(length, limits).map(|()| Some(length)),
        (None, true | false) => Ok(None),
    }
}

/// The part of a `POST`'s body that belongs to the upload, and what it must hash to: all of it
/// under the type for that, else nothing (T-061).
fn first_bytes(
    headers: &HeaderMap,
    content: Content,
    checksum: Checksum,
) -> Result<(Content, Checksum), Refusal> {
    if !content_type::is_offset_octet_stream(headers) {
        return Ok((content.ignored(), Checksum::None));
    }
    check_uncoded(headers)?;
    Ok((with_trailer(content, &checksum), checksum))
}

/// The checksum of the body, which is in the head or announced for the trailer, not both (D-22).
fn checksum(headers: &HeaderMap) -> Result<Checksum, Refusal> {
    match (upload_checksum::decode(headers)?, upload_checksum::is_trailing(headers)) {
        (Some(_), true) => Err(Refusal::malformed(
            upload_checksum::FIELD,
            "given, and announced for the trailer as well",
        )),
        (Some(digest), false) => Ok(Checksum::Given(digest)),
        (None, true) => Ok(Checksum::Trailing),
        (None, false) => Ok(Checksum::None),
    }
}

/// The bytes that a `GET` asks for, in the order of RFC 9110 "Precedence of Preconditions".
fn selection(headers: &HeaderMap, id: &UploadId) -> Selection {
    let etag = etag(id);
    if if_none_match::matches(headers, &etag) {
        Selection::Nothing
    } else if if_range::holds(headers, &etag) {
        match range::decode(headers) {
            None => Selection::All,
            Some(Range::From(first)) => Selection::From(first),
            Some(Range::Last(count)) => Selection::Last(count),
            Some(Range::Span(first, last)) => Selection::Span(first, last),
        }
    } else {
        Selection::All
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;

    use super::{
        super::tests::{exchange, head, tus},
        *,
    };
    use crate::{
        content::Step,
        upload::{Algorithm, Digest, Metadata},
        wire::{location::Locations, resumable_js::ResumableJs},
    };

    const OOS: &str = "Content-Type: application/offset+octet-stream";

    fn limits() -> Limits {
        Limits { max_size_bytes: Some(100), max_metadata_bytes: 20, ..Limits::default() }
    }

    fn read_with(lines: &str, content: Content) -> Result<(Intent, Content), Rejection> {
        read(&mut exchange(lines), &head(lines), content, &limits())
    }

    fn intent(lines: &str) -> Result<Intent, Rejection> {
        read_with(lines, Content::empty()).map(|(intent, _)| intent)
    }

    /// What a client is told: the status, and the field where one is to blame.
    fn status_and_field(rejection: Rejection) -> (u16, &'static str) {
        match rejection {
            Rejection::NotAllowed { allow } => (405, allow),
            Rejection::OtherDialect => (415, "other"),
            Rejection::Refused(Refusal::Malformed { field, .. }) => (400, field),
            Rejection::Refused(Refusal::ChecksumUnknown { .. }) => (400, "algorithm"),
            Rejection::Refused(Refusal::Unknown) => (404, ""),
            Rejection::Refused(Refusal::VersionUnsupported) => (412, ""),
            Rejection::Refused(Refusal::OverLimit { limit_bytes: 100 }) => (413, ""),
            Rejection::Refused(Refusal::WrongMediaType { .. }) => (415, ""),
            Rejection::Refused(Refusal::MetadataTooLong { limit_bytes: 20 }) => (431, ""),
            Rejection::Refused(other) => panic!("{other:?} is the engine's"),
        }
    }

    fn id(text: &str) -> UploadId {
        text.parse().expect("an id")
    }

    fn write(at: u64, length: Option<u64>, checksum: Checksum) -> Intent {
        let write = Write::new(Target::Existing(id("a")), At::Offset(at), wait(&Limits::default()));
        Intent::Write(Write { checksum, content_bytes: Some(0), length, ..write })
    }

    fn new(length: Option<u64>, metadata: &str, role: Role) -> Intent {
        let metadata: Metadata = metadata.parse().expect("plain");
        let completion = Completion::WhenFull;
        let new = NewUpload { completion, length, metadata, role, ..NewUpload::default() };
        let write = Write::new(Target::New(new), At::Offset(0), wait(&Limits::default()));
        Intent::Write(Write { content_bytes: Some(0), length, ..write })
    }

    /// J-054: what clients of chunks know by name is found by it, unless it cannot be one of
    /// theirs.
    #[test]
    fn uploads_of_two_dialects_have_one_name() {
        let dialect = ResumableJs::new(Locations::new("/up".parse().expect("a path")), *b"secret");
        let named = dialect.naming().key(None, "i", "", "");
        let metadata = "Upload-Metadata: resumableIdentifier aQ==";
        for (fields, expected) in [
            (format!("Upload-Length: 9\n{metadata}"), Some(named.clone())),
            (format!("Upload-Length: 0\n{metadata}"), Some(named)),
            (format!("Upload-Defer-Length: 1\n{metadata}"), None),
            (format!("Upload-Length: 9\nUpload-Concat: partial\n{metadata}"), None),
            ("Upload-Length: 9".to_owned(), None),
        ] {
            let lines = format!("POST /files\nTus-Resumable: 1.0.0\n{fields}");
            let tus = tus("/files").with_naming(dialect.naming().clone()).beside(dialect.clone());
            let mut exchange = TusExchange::new(&tus, &head(&lines));
            let limits = Limits::default();
            let read = read(&mut exchange, &head(&lines), Content::empty(), &limits);
            let (intent, _) = read.expect("a good request");
            let Intent::Write(write) = intent else {
                panic!("{intent:?}");
            };
            let key = match write.target {
                Target::NewKeyed(key, new) => {
                    assert_eq!(write.length, new.length);
                    Some(key)
                }
                Target::Existing(_) | Target::Keyed(..) | Target::New(_) | Target::Owned(..) => {
                    None
                }
            };
            assert_eq!(key, expected, "{lines}");
        }
    }

    /// S-002: the existing upload belongs to the owner that made it.
    #[test]
    fn only_owners_are_led_to_uploads_that_are_there_j_054() {
        let locations = Locations::new("/up".parse().expect("a path"));
        let header = http::HeaderName::from_static("x-owner");
        let dialect = ResumableJs::new(locations, *b"secret").with_owner_header(header);
        for (owner, name) in [("", None), ("X-Owner:", None), ("X-Owner: o", Some(&b"o"[..]))] {
            let lines = format!(
                "POST /files\nTus-Resumable: 1.0.0\nUpload-Length: 9\n\
                 Upload-Metadata: resumableIdentifier aQ==\n{owner}"
            );
            let tus = tus("/files").with_naming(dialect.naming().clone()).beside(dialect.clone());
            let mut exchange = TusExchange::new(&tus, &head(&lines));
            let limits = Limits::default();
            let read = read(&mut exchange, &head(&lines), Content::empty(), &limits);
            let Ok((Intent::Write(write), _)) = read else { panic!("{read:?}") };
            let key = dialect.naming().key(name, "i", "", "");
            match write.target {
                Target::Keyed(found, new) => {
                    assert_eq!((found, new.owner.as_deref()), (key, Some("o")));
                    assert!(name.is_some());
                }
                Target::NewKeyed(found, new) => {
                    assert_eq!((found, new.owner, name), (key, None, None))
                }
                target @ (Target::Existing(_) | Target::New(_) | Target::Owned(..)) => {
                    panic!("{target:?}")
                }
            }
        }
    }

    #[test]
    fn requests_about_one_upload_are_read() {
        let status = || Intent::Status { of: Subject::Id(id("a")) };
        let fetch = |selection| Intent::Fetch { id: id("a"), selection };
        for (rule, lines, expected) in [
            ("T-027", "OPTIONS /files", Intent::Discover),
            ("T-027", "OPTIONS /files/a", Intent::Discover),
            ("T-029", "OPTIONS /files\nTus-Resumable: 0.2.2", Intent::Discover),
            ("T-012", "HEAD /files/a\nTus-Resumable: 1.0.0", status()),
            ("D-03", "HEAD /files/a", status()),
            ("D-54", "HEAD /files/a/", status()),
            ("D-54", "HEAD /files/a?_=1470920397045", status()),
            ("C-11", "HEAD /files/a\nTus-Resumable: 1.0.0\nUpload-Concat: partial", status()),
            (
                "T-091",
                "DELETE /files/a\nTus-Resumable: 1.0.0",
                Intent::Terminate { of: Subject::Id(id("a")) },
            ),
            ("D-51", "GET /files/a", fetch(Selection::All)),
            ("D-03", "GET /files/a\nTus-Resumable: 0.2.2", fetch(Selection::All)),
            ("D-51", "GET /files/a\nRange: bytes=1-2", fetch(Selection::Span(1, 2))),
            ("D-51", "GET /files/a\nRange: bytes=1-\nIf-Range: \"a\"", fetch(Selection::From(1))),
            ("D-51", "GET /files/a\nRange: bytes=1-\nIf-Range: \"b\"", fetch(Selection::All)),
            (
                "D-51",
                "GET /files/a\nRange: bytes=1-\nIf-None-Match: \"a\"",
                fetch(Selection::Nothing),
            ),
            (
                "T-011",
                "POST /files/a\nX-HTTP-Method-Override: HEAD\nTus-Resumable: 1.0.0",
                status(),
            ),
            ("D-61", "GET /files/a\nTus-Resumable: 1.0.0", status()),
            (
                "D-57",
                "OPTIONS /files/a/b\nOrigin: http://a\nAccess-Control-Request-Method: POST",
                Intent::Discover,
            ),
        ] {
            assert_eq!(intent(lines), Ok(expected), "{rule} {lines}");
        }
    }

    #[test]
    fn patches_are_read() {
        let digest = Digest { algorithm: Algorithm::Sha1, value: b"abc".to_vec() };
        for (rule, fields, expected) in [
            ("T-017", "Upload-Offset: 70", write(70, None, Checksum::None)),
            ("T-048", "Upload-Offset: 70\nUpload-Length: 70", write(70, Some(70), Checksum::None)),
            // The rules judge it, once the upload is known to exist.
            ("D-16", "Upload-Offset: 0\nUpload-Length: 101", write(0, Some(101), Checksum::None)),
            ("D-31", "Upload-Offset: 0\nUpload-Defer-Length: 1", write(0, None, Checksum::None)),
            ("D-35", "Upload-Offset: 0\nUpload-Concat: nonsense", write(0, None, Checksum::None)),
            ("T-042", "Upload-Offset: 0\nUpload-Metadata: a a a", write(0, None, Checksum::None)),
            (
                "T-081",
                "Upload-Offset: 0\nUpload-Checksum: sha1 YWJj",
                write(0, None, Checksum::Given(digest)),
            ),
            (
                "T-088",
                "Upload-Offset: 0\nTrailer: Upload-Checksum",
                write(0, None, Checksum::Trailing),
            ),
            ("0.2", "Upload-Offset: 0\nContent-Encoding: identity", write(0, None, Checksum::None)),
        ] {
            for line in ["PATCH /files/a", "POST /files/a\nX-HTTP-Method-Override: PATCH"] {
                let lines = format!("{line}\nTus-Resumable: 1.0.0\n{OOS}\n{fields}");
                assert_eq!(intent(&lines), Ok(expected.clone()), "{rule} {lines}");
            }
        }
    }

    #[test]
    fn posts_are_read() {
        let join = |length, metadata: &str, text: &str| {
            Intent::Join(Join {
                content_bytes: Some(0),
                length,
                metadata: metadata.parse().expect("plain"),
                owner: None,
                partials: vec![id("a"), id("b")],
                text: text.to_owned(),
            })
        };
        for (rule, fields, expected) in [
            ("T-040", "Upload-Length: 9", new(Some(9), "", Role::Whole)),
            ("T-052", "Upload-Length: 0", new(Some(0), "", Role::Whole)),
            ("T-048", "Upload-Defer-Length: 1", new(None, "", Role::Whole)),
            (
                "T-054",
                "Upload-Length: 9\nUpload-Metadata: b Yg==, a",
                new(Some(9), "b Yg==, a", Role::Whole),
            ),
            ("D-26", "Upload-Length: 9\nUpload-Metadata:", new(Some(9), "", Role::Whole)),
            (
                "T-101",
                "Upload-Length: 9\nUpload-Concat: partial",
                new(Some(9), "", Role::partial()),
            ),
            (
                "T-101",
                "Upload-Defer-Length: 1\nUpload-Concat: partial",
                new(None, "", Role::partial()),
            ),
            (
                "T-103",
                "Upload-Concat: final;/files/a http://h/files/b",
                join(None, "", "final;/files/a http://h/files/b"),
            ),
            (
                "D-36",
                "Upload-Concat: final;a b\nUpload-Length: 9\nUpload-Metadata: c",
                join(Some(9), "c", "final;a b"),
            ),
        ] {
            for line in ["POST /files", "POST /files/", "POST /files?x=y"] {
                let lines = format!("{line}\nTus-Resumable: 1.0.0\n{fields}");
                assert_eq!(intent(&lines), Ok(expected.clone()), "{rule} {lines}");
            }
        }
    }

    #[tokio::test]
    async fn bodies_count_under_one_type_t_061_t_062_d_37() {
        let post = "POST /files\nTus-Resumable: 1.0.0";
        for (rule, fields, content_bytes, counted) in [
            ("T-062", format!("Upload-Length: 9\n{OOS}"), Some(3), true),
            ("T-061", "Upload-Length: 9".to_owned(), Some(0), false),
            ("T-061", "Upload-Length: 9\nContent-Type: text/plain".to_owned(), Some(0), false),
            ("D-37", format!("Upload-Concat: final;a\n{OOS}"), Some(3), true),
            ("D-37", "Upload-Concat: final;a".to_owned(), Some(0), false),
        ] {
            let body = Content::new(Full::new(Bytes::from_static(b"abc")));
            let rest = body.rest();
            let (intent, mut content) =
                read_with(&format!("{post}\n{fields}"), body).expect("a good request");
            let seen = match intent {
                Intent::Write(write) => Some(write.content_bytes),
                Intent::Join(join) => Some(join.content_bytes),
                Intent::Discover
                | Intent::Fetch { .. }
                | Intent::Finish(_)
                | Intent::List { .. }
                | Intent::Status { .. }
                | Intent::Terminate { .. }
                | Intent::Test(_) => None,
            };
            assert_eq!(seen, Some(content_bytes), "{rule} {fields}");
            assert_eq!(matches!(content.next().await, Some(Ok(Step::Data(_)))), counted, "{rule}");
            // What did not count can still be taken off the connection.
            assert_eq!(rest.take().is_some(), !counted, "{rule}");
        }
    }

    #[test]
    fn checksums_of_posts_are_checked_d_21() {
        let post = "POST /files\nTus-Resumable: 1.0.0\nUpload-Length: 9\nUpload-Checksum: md5 YQ==";
        let checksum = |lines: &str| match intent(lines) {
            Ok(Intent::Write(write)) => write.checksum,
            other => panic!("{other:?}"),
        };
        let given = Checksum::Given(Digest { algorithm: Algorithm::Md5, value: b"a".to_vec() });
        assert_eq!(checksum(&format!("{post}\n{OOS}")), given);
        assert_eq!(checksum(post), Checksum::None, "a body that does not count is not verified");
    }

    #[test]
    fn heads_are_refused_in_the_order_of_the_contract() {
        const UPLOAD: &str = "HEAD, PATCH, GET, DELETE, OPTIONS";
        const TUS: &str = "Tus-Resumable: 1.0.0";
        let patch = |fields: &str| format!("PATCH /files/a\n{TUS}\n{fields}");
        let post = |fields: &str| format!("POST /files\n{TUS}\n{fields}");
        for (rule, lines, expected) in [
            ("0.2 path", "BREW /files/a/b".to_owned(), (404, "")),
            ("0.2 path", "OPTIONS /files/a/b".to_owned(), (404, "")),
            ("F-38", format!("HEAD /files/..%2Fx\n{TUS}"), (404, "")),
            ("D-15", format!("PATCH /files/a.b\n{TUS}"), (404, "")),
            ("D-55", "BREW /files".to_owned(), (405, "POST, OPTIONS")),
            ("D-55", "GET /files/".to_owned(), (405, "POST, OPTIONS")),
            ("D-55", "POST /files/a".to_owned(), (405, UPLOAD)),
            ("D-55", "PUT /files/a".to_owned(), (405, UPLOAD)),
            ("D-06", "POST /files/a\nX-HTTP-Method-Override: BREW".to_owned(), (405, UPLOAD)),
            ("D-06", "PATCH /files/a\nX-HTTP-Method-Override:".to_owned(), (405, UPLOAD)),
            ("T-004", "POST /files".to_owned(), (412, "")),
            ("T-004", "PATCH /files/a".to_owned(), (412, "")),
            ("T-004", "DELETE /files/a".to_owned(), (412, "")),
            ("T-006", "DELETE /files/a\nTus-Resumable: 0.2.2".to_owned(), (412, "")),
            ("D-02", "HEAD /files/a\nTus-Resumable: 0.2.2".to_owned(), (412, "")),
            ("C-19", "POST /files\nUpload-Draft-Interop-Version: 6".to_owned(), (412, "")),
            ("T-018", patch("Upload-Offset: x"), (415, "")),
            ("T-018", patch("Upload-Offset: 0\nContent-Type: text/plain"), (415, "")),
            ("0.2", patch(&format!("{OOS}\nContent-Encoding: gzip")), (415, "")),
            ("D-08", patch(&format!("{OOS}\nUpload-Length: x")), (400, "Upload-Offset")),
            ("T-002", patch(&format!("{OOS}\nUpload-Offset: -1")), (400, "Upload-Offset")),
            (
                "T-002",
                patch(&format!("{OOS}\nUpload-Offset: 9223372036854775808")),
                (400, "Upload-Offset"),
            ),
            (
                "T-002",
                patch(&format!("{OOS}\nUpload-Offset: 0\nUpload-Length: x\nUpload-Checksum: x")),
                (400, "Upload-Length"),
            ),
            (
                "T-002",
                patch(&format!("{OOS}\nUpload-Offset: 0\nUpload-Length: 9223372036854775808")),
                (413, ""),
            ),
            (
                "T-087",
                patch(&format!("{OOS}\nUpload-Offset: 0\nUpload-Checksum: x")),
                (400, "Upload-Checksum"),
            ),
            (
                "T-082",
                patch(&format!("{OOS}\nUpload-Offset: 0\nUpload-Checksum: crc32 YQ==")),
                (400, "algorithm"),
            ),
            (
                "D-22",
                patch(&format!(
                    "{OOS}\nUpload-Offset: 0\nUpload-Checksum: md5 YQ==\nTrailer: upload-checksum"
                )),
                (400, "Upload-Checksum"),
            ),
            ("D-35", post("Upload-Concat: x\nUpload-Length: x"), (400, "Upload-Concat")),
            ("T-046", post("Upload-Metadata: a a a"), (400, "Upload-Length")),
            ("T-046", post("Upload-Concat: partial"), (400, "Upload-Length")),
            ("T-002", post("Upload-Length: 1.5"), (400, "Upload-Length")),
            ("T-047", post("Upload-Defer-Length: 0"), (400, "Upload-Defer-Length")),
            ("D-31", post("Upload-Length: 9\nUpload-Defer-Length: 1"), (400, LENGTH_AND_DEFERRAL)),
            ("T-055", post("Upload-Length: 101\nUpload-Metadata: a a a"), (413, "")),
            ("T-002", post("Upload-Length: 9223372036854775808"), (413, "")),
            ("D-27", post("Upload-Length: 9\nUpload-Metadata: a a a"), (400, "Upload-Metadata")),
            ("D-28", post("Upload-Length: 9\nUpload-Metadata: abcdefghijklmnopqrstu"), (431, "")),
            ("D-21", post("Upload-Length: 9\nUpload-Checksum: sha1"), (400, "Upload-Checksum")),
            ("0.2", post(&format!("Upload-Length: 9\nContent-Encoding: gzip\n{OOS}")), (415, "")),
        ] {
            assert_eq!(intent(&lines).map_err(status_and_field), Err(expected), "{rule} {lines}");
        }
    }

    #[test]
    fn pages_with_the_other_library_are_told_to_stop() {
        let dialect = ResumableJs::new(Locations::new("/up".parse().expect("a path")), *b"secret");
        let chunk = "resumableChunkNumber=1&resumableIdentifier=a";
        let form = "Content-Type: multipart/form-data; boundary=b";
        let binary = "Content-Type: application/octet-stream";
        let other = (415, "other");
        for (lines, expected) in [
            (format!("POST /files\n{form}"), other),
            ("POST /files/\nContent-Type: multipart/form-data".to_owned(), other),
            (format!("PUT /files\n{form}"), other),
            (format!("POST /files/a\n{form}"), other),
            (format!("POST /files?{chunk}\n{binary}"), other),
            (format!("PATCH /files?{chunk}"), other),
            (format!("POST /files?chunkNumber=1&identifier=a\n{binary}"), other),
            (format!("POST /files?{chunk}\nTus-Resumable: 0.2.2\n{form}"), (412, "")),
            (format!("POST /files?resumableIdentifier=a\n{binary}"), (412, "")),
            (format!("GET /files?{chunk}"), (405, "POST, OPTIONS")),
        ] {
            let tus = tus("/files").with_naming(dialect.naming().clone()).beside(dialect.clone());
            let mut exchange = TusExchange::new(&tus, &head(&lines));
            let read = read(&mut exchange, &head(&lines), Content::empty(), &limits());
            assert_eq!(read.map(|_| ()).map_err(status_and_field), Err(expected), "{lines}");
        }
        // Whoever serves tus alone meets the same pages.
        let lines = format!("POST /files\n{form}");
        assert_eq!(intent(&lines).map_err(status_and_field), Err(other));
    }

    #[test]
    fn uploads_cannot_be_removed_where_that_is_off_t_090() {
        let limits = Limits { termination: false, ..Limits::default() };
        let lines = "DELETE /files/a\nTus-Resumable: 1.0.0";
        let told = read(&mut exchange(lines), &head(lines), Content::empty(), &limits)
            .map(|_| ())
            .map_err(status_and_field);
        assert_eq!(told, Err((405, "HEAD, PATCH, GET, OPTIONS")));
    }

    #[test]
    fn the_root_can_be_a_collection_d_54() {
        let head = head("HEAD /a");
        let mut exchange = TusExchange::new(&tus("/"), &head);
        let read = read(&mut exchange, &head, Content::empty(), &limits());
        let (intent, _) = read.expect("a good request");
        assert_eq!(intent, Intent::Status { of: Subject::Id(id("a")) });
    }
}
