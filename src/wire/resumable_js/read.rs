//! A request becomes an intent: which chunk of which file, and where its bytes are.
//!
//! The head is judged before the body is asked for, as far as the query goes; the fields of a form
//! before its payload.

use std::ops::Range;

use http::{HeaderMap, HeaderName, Method, request::Parts};

use super::{
    CHUNK_WAIT, RequestKind, ResumableJsExchange, STATUS,
    chunk::{Chunk, Misfit},
    params::{Chosen, Params},
    profile::Parameter,
    refuse::{self, Fault},
    status,
};
use crate::{
    content::{Content, Step},
    fields::{Invalid, content_type, single, upload_checksum},
    rules::{At, Checksum, Intent, NewUpload, Refusal, Target, Test, Write, create::check_length},
    upload::{Completion, Digest, Limits, Metadata, Role},
    wire::{
        check_uncoded, cors,
        form::{Form, Part, Shape},
        mount::Resource,
        naming::{self, File},
    },
};

/// A checksum of the chunk, as in `Upload-Checksum` (J-061).
const CHECKSUM: HeaderName = HeaderName::from_static("checksum");

/// The methods of the main resource.
const ALLOW: &str = "GET, HEAD, POST, PUT, PATCH, OPTIONS";

/// Why a request has no intent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// It breaks a rule of this dialect.
    Fault(Fault),
    /// The resource does not have the method.
    NotAllowed {
        /// The methods it has, as a comma list.
        allow: &'static str,
    },
    /// It asks what it may do.
    Options,
    /// It breaks a rule of all dialects.
    Refused(Refusal),
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Invalid> for Rejection {
    fn from(invalid: Invalid) -> Self {
        Self::Refused(invalid.into())
    }
}

/// The chunk that a request is about.
struct ChunkRequest {
    chosen: Chosen,
    chunk: Chunk,
    file: File,
    /// What the form calls the file.
    part_name: Option<String>,
}

/// What the request of `exchange` wants, and the part of `content` that goes with it.
pub(super) async fn read(
    exchange: &mut ResumableJsExchange,
    head: &Parts,
    content: Content,
    limits: &Limits,
) -> Result<(Intent, Content), Rejection> {
    if cors::is_preflight(head) {
        // On any path, so that the page can read what is wrong with its own request (D-57).
        return Err(Rejection::Options);
    }
    match exchange.resource(head) {
        Some(Resource::Collection) => {}
        Some(Resource::Upload(id)) if id.as_str() == STATUS => {
            return Ok((status::read(exchange, head, limits)?, content.ignored()));
        }
        Some(Resource::Upload(_)) | None => return Err(not_found()),
    }
    let params = exchange.query(head);
    match head.method {
        Method::GET | Method::HEAD => {
            let intent = exchange.test(head, &params, limits)?;
            Ok((intent, content.ignored()))
        }
        Method::OPTIONS => Err(Rejection::Options),
        Method::PATCH | Method::POST | Method::PUT => {
            exchange.upload(head, params, content, limits).await
        }
        _ => Err(Rejection::NotAllowed { allow: ALLOW }),
    }
}

fn not_found() -> Rejection {
    let fault = Fault::new(refuse::NOT_FOUND, "nothing is served at this path");
    Rejection::Fault(Fault { status: http::StatusCode::NOT_FOUND, ..fault })
}

impl ResumableJsExchange {
    fn resource(&self, head: &Parts) -> Option<Resource> {
        self.config.locations.mount.resource(head.uri.path())
    }

    /// What the query says.
    pub(super) fn query(&mut self, head: &Parts) -> Params {
        let mut params = Params::new(self.config.profiles.clone());
        params.add_query(head.uri.query().unwrap_or_default());
        self.identifier = params.identifier().map(str::to_owned);
        params
    }

    /// A test: `GET`, `HEAD`, or any upload without payload (J-009).
    fn test(
        &mut self,
        head: &Parts,
        params: &Params,
        limits: &Limits,
    ) -> Result<Intent, Rejection> {
        let ask = self.ask(params, limits)?;
        let range = ask.chunk.tested(self.config.strict_total_chunks);
        let range = self.checked(&ask, None, range)?;
        self.kind = RequestKind::Presence;
        Ok(Intent::Test(Test {
            key: self.config.naming.key_of(head, &ask.file),
            length: ask.chunk.total,
            range,
        }))
    }

    async fn upload(
        &mut self,
        head: &Parts,
        params: Params,
        content: Content,
        limits: &Limits,
    ) -> Result<(Intent, Content), Rejection> {
        check_uncoded(&head.headers)?;
        let boundary = content_type::form_boundary(&head.headers)?;
        if params.suffice() {
            // Nothing that a form adds can make this good.
            let ask = self.ask(&params, limits)?;
            if ask.chunk.current.is_some() {
                self.range(&ask, None)?;
            }
        }
        match boundary {
            Some(boundary) => self.form(head, params, content, &boundary, limits).await,
            None => self.raw(head, &params, content, limits).await,
        }
    }

    /// A chunk as the whole body (J-008).
    async fn raw(
        &mut self,
        head: &Parts,
        params: &Params,
        mut content: Content,
        limits: &Limits,
    ) -> Result<(Intent, Content), Rejection> {
        let ask = self.ask(params, limits)?;
        let is_empty = content.is_empty().await.map_err(|_| Refusal::Abandoned)?;
        if ask.chunk.total > 0 && is_empty {
            return Ok((self.test(head, params, limits)?, Content::empty()));
        }
        let given = content.exact_bytes();
        let range = self.range(&ask, given)?;
        let expected = range.end.saturating_sub(range.start);
        if let Some(given) = given.filter(|given| *given != expected) {
            return Err(Refusal::BodyLengthWrong { expected, given }.into());
        }
        let intent = self.write(head, params, &ask, range, given)?;
        if expected == 0 && !is_empty {
            return Err(Refusal::BodyLengthWrong { expected, given: 1 }.into());
        }
        Ok((intent, content))
    }

    /// A chunk in a form, behind fields.
    async fn form(
        &mut self,
        head: &Parts,
        mut params: Params,
        content: Content,
        boundary: &str,
        limits: &Limits,
    ) -> Result<(Intent, Content), Rejection> {
        let mut form = Form::new(content, boundary);
        let part = loop {
            match form.next_part().await? {
                None => return Ok((self.test(head, &params, limits)?, Content::empty())),
                Some(part) if self.is_payload(&part) => break part,
                Some(part) => params.add_field(&part.name, &form.value().await?),
            }
        };
        self.identifier = params.identifier().map(str::to_owned);
        let mut ask =
            self.ask(&params, limits).map_err(|rejection| too_late(&params, rejection))?;
        let is_text = !part.is_file();
        let room = form.most_payload_bytes().filter(|_| !is_text);
        let sent = room.and_then(|room| ask.chunk.most_within(room));
        let range = self.range(&ask, sent)?;
        let expected = range.end.saturating_sub(range.start);
        ask.part_name = part.filename.clone().filter(|name| !name.is_empty());
        let intent = self.write(head, &params, &ask, range, Some(expected))?;
        let shape = match room {
            None if is_text => Shape::Base64(expected),
            // The chunk is too short, or the form has no end: which of them, its end shows.
            Some(room) if room < expected => Shape::Measured(expected),
            None | Some(_) => Shape::Exact(expected),
        };
        let chosen = ask.chosen;
        let check = move |part: &Part, value: &[u8]| Ok(chosen.check_late(&part.name, value)?);
        let content = form.payload(part, shape, Box::new(check));
        if expected == 0 {
            // The engine does not wait for the end of an empty body, and here the end is all there
            // is.
            return Ok((intent, ended(content).await?));
        }
        Ok((intent, content))
    }

    /// Whether `part` holds the chunk: by its name, or because it is a file (J-005).
    fn is_payload(&self, part: &Part) -> bool {
        let mut profiles = self.config.profiles.iter();
        part.is_file() || profiles.any(|profile| profile.is_payload(&part.name))
    }

    /// Which chunk of which file.
    fn ask(&mut self, params: &Params, limits: &Limits) -> Result<ChunkRequest, Rejection> {
        let chosen = params.choose(&[Parameter::ChunkNumber, Parameter::Identifier])?;
        self.chosen = Some(chosen.clone());
        let (file, chunk) = (chosen.file()?, chosen.chunk()?);
        self.identifier = Some(file.identifier.clone());
        check_length(chunk.total, limits).map_err(|refusal| {
            let message = format!("the file has {} bytes; {refusal}", chunk.total);
            Fault::about(chosen.name(Parameter::TotalSize), refuse::FILE_TOO_LARGE, message)
        })?;
        Ok(ChunkRequest { chosen, chunk, file, part_name: None })
    }

    /// The bytes that an upload of this chunk brings.
    fn range(&self, ask: &ChunkRequest, sent: Option<u64>) -> Result<Range<u64>, Rejection> {
        let range = ask.chunk.uploaded(sent, self.config.strict_total_chunks);
        self.checked(ask, sent, range)
    }

    fn checked(
        &self,
        ask: &ChunkRequest,
        sent: Option<u64>,
        range: Result<Range<u64>, Misfit>,
    ) -> Result<Range<u64>, Rejection> {
        let range = range.map_err(|misfit| ask.chosen.misfit(&ask.chunk, sent, misfit))?;
        let (bytes, limit) = (range.end.saturating_sub(range.start), self.config.max_chunk_bytes);
        if bytes > limit {
            let message = format!(
                "the chunk has {}, chunks are limited to {}: cut smaller ones (chunkSize), or raise \
                 the server's limit (--max-chunk-size)",
                with_units(bytes),
                with_units(limit)
            );
            let name = ask.chosen.name(Parameter::ChunkSize);
            return Err(Fault::about(name, refuse::CHUNK_TOO_LARGE, message).into());
        }
        Ok(range)
    }

    fn write(
        &mut self,
        head: &Parts,
        params: &Params,
        ask: &ChunkRequest,
        range: Range<u64>,
        content_bytes: Option<u64>,
    ) -> Result<Intent, Rejection> {
        let length = Some(ask.chunk.total);
        let new = NewUpload {
            completion: Completion::WhenFull,
            length,
            metadata: metadata(ask)?,
            owner: self.config.naming.owner(head).map(naming::owner_text),
            role: Role::Whole,
            ..NewUpload::default()
        };
        let target = Target::Keyed(self.config.naming.key_of(head, &ask.file), new);
        let write = Write {
            answer_when_alone: self.config.answer_delay,
            checksum: checksum(&head.headers, params)?,
            content_bytes,
            length,
            ..Write::new(target, At::Range(range), CHUNK_WAIT)
        };
        self.kind = RequestKind::Write;
        Ok(Intent::Write(write))
    }
}

/// A parameter that is missing when the chunk begins may follow it, too late (J-006).
fn too_late(params: &Params, rejection: Rejection) -> Rejection {
    match rejection {
        Rejection::Fault(fault) if fault.code == refuse::MISSING => {
            Rejection::Fault(Fault { param: fault.param, ..params.too_late() })
        }
        Rejection::Fault(_)
        | Rejection::NotAllowed { .. }
        | Rejection::Options
        | Rejection::Refused(_) => rejection,
    }
}

/// So many bytes, for people.
fn with_units(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{bytes} bytes"),
        mib => format!("{mib} MiB ({bytes} bytes)"),
    }
}

/// What tus clients and downloads see of the file (J-055). Where no parameter names it, the
/// form may; that name is no part of its key, because a test could not tell it.
fn metadata(ChunkRequest { file, part_name, .. }: &ChunkRequest) -> Result<Metadata, Refusal> {
    let entries = [
        ("filename", if file.name.is_some() { &file.name } else { part_name }),
        ("filetype", &file.kind),
        ("relativePath", &file.path),
        ("resumableIdentifier", &Some(file.identifier.clone())),
    ];
    let given = entries.into_iter().filter_map(|(key, value)| Some((key, value.clone()?)));
    Metadata::from_entries(given).map_err(|_| Refusal::Internal)
}

/// What the chunk must hash to: in a header field, or in a parameter.
fn checksum(headers: &HeaderMap, params: &Params) -> Result<Checksum, Rejection> {
    let own = single(headers, &CHECKSUM, "Checksum")?;
    let own = own.map(|value| value.to_str().unwrap_or_default());
    let texts = [own, params.checksum()?].into_iter().flatten();
    let mut digests: Vec<Digest> = texts.map(upload_checksum::parse).collect::<Result<_, _>>()?;
    digests.extend(upload_checksum::decode(headers)?);
    digests.dedup();
    match (digests.pop(), digests.is_empty()) {
        (None, _) => Ok(Checksum::None),
        (Some(digest), true) => Ok(Checksum::Given(digest)),
        (Some(_), false) => {
            let message = "given twice, with different values";
            Err(Fault::about("checksum", refuse::CONFLICTING, message).into())
        }
    }
}

/// Reads `content`, which must be empty, to its end.
async fn ended(mut content: Content) -> Result<Content, Refusal> {
    loop {
        match content.next().await {
            None => return Ok(Content::empty()),
            Some(Ok(Step::Trailer(_))) => {}
            Some(Ok(Step::Data(bytes))) if bytes.is_empty() => {}
            Some(Ok(Step::Data(_))) => {
                return Err(Refusal::BodyLengthWrong { expected: 0, given: 1 });
            }
            Some(Ok(Step::Refused(refusal))) => return Err(refusal),
            Some(Err(_)) => return Err(Refusal::Abandoned),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use proptest::prelude::*;

    use super::{
        super::{
            ResumableJs,
            tests::{dialect, exchange_with, head},
        },
        CHUNK_WAIT, *,
    };
    use crate::upload::{Algorithm, Key};

    const FORM: &str = "Content-Type: multipart/form-data; boundary=b";

    /// What was read: the bytes meant and what else the intent says, and the body.
    #[derive(Debug, PartialEq, Eq)]
    enum Read {
        Presence(Range<u64>, u64),
        Refused(u16, &'static str),
        Write(Range<u64>, Result<String, &'static str>),
    }

    fn limits() -> Limits {
        Limits { max_size_bytes: Some(1 << 40), ..Limits::default() }
    }

    /// The outcome of a future that waits for nothing.
    fn now<F: Future>(future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let waker = std::task::Waker::noop();
        match future.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
            std::task::Poll::Ready(output) => output,
            std::task::Poll::Pending => panic!("the body is all there"),
        }
    }

    /// Status and code of a refusal, as the answer has them.
    fn refused(exchange: &ResumableJsExchange, rejection: Rejection) -> (u16, &'static str) {
        match rejection {
            Rejection::Fault(fault) => (fault.status.as_u16(), fault.code),
            Rejection::NotAllowed { allow } => (405, allow),
            Rejection::Options => (204, ""),
            Rejection::Refused(refusal) => {
                let (status, code) = refuse::wording(exchange, &refusal);
                (status.as_u16(), code)
            }
        }
    }

    fn read_content(dialect: &ResumableJs, lines: &str, content: Content) -> (Read, Option<Key>) {
        let mut exchange = exchange_with(dialect, lines);
        let read = now(read(&mut exchange, &head(lines), content, &limits()));
        let (intent, mut content) = match read {
            Ok(read) => read,
            Err(rejection) => {
                let (status, code) = refused(&exchange, rejection);
                return (Read::Refused(status, code), None);
            }
        };
        match (intent, &exchange.kind) {
            (Intent::Test(Test { key, length, range }), RequestKind::Presence) => {
                assert!(content.is_end());
                (Read::Presence(range, length), Some(key))
            }
            (Intent::Write(write), RequestKind::Write) => {
                let body = body_of(&exchange, &mut content);
                let (At::Range(range), Target::Keyed(key, _)) = (write.at, write.target) else {
                    panic!("a range of a named upload");
                };
                (Read::Write(range, body), Some(key))
            }
            (intent, kind) => panic!("{intent:?} {kind:?}"),
        }
    }

    /// The whole of `content`, or the code it is refused with.
    fn body_of(
        exchange: &ResumableJsExchange,
        content: &mut Content,
    ) -> Result<String, &'static str> {
        let mut body = Vec::new();
        loop {
            match now(content.next()) {
                None => return Ok(String::from_utf8(body).expect("UTF-8")),
                Some(Ok(Step::Data(bytes))) => body.extend(&bytes[..]),
                Some(Ok(Step::Refused(refusal))) => {
                    return Err(refused(exchange, refusal.into()).1);
                }
                step => panic!("{step:?}"),
            }
        }
    }

    fn read_all(lines: &str, body: &str) -> Read {
        let content = Content::new(Full::new(Bytes::from(body.to_owned())));
        read_content(&dialect(), lines, content).0
    }

    /// The body of a form with these fields: `name=value` lines; the payload is `file`, after `<`
    /// with a file name.
    fn form(fields: &[&str]) -> String {
        let field = |field: &&str| {
            let (name, value) = field.split_once(['=', '<']).expect("a field");
            let file = if field.contains('<') { "; filename=\"x\"" } else { "" };
            format!(
                "--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n"
            )
        };
        fields.iter().map(field).collect::<String>() + "--b--\r\n"
    }

    const CHUNK: [&str; 9] = [
        "resumableChunkNumber=2",
        "resumableChunkSize=10",
        "resumableCurrentChunkSize=10",
        "resumableTotalSize=30",
        "resumableType=",
        "resumableIdentifier=30-x",
        "resumableFilename=x",
        "resumableRelativePath=x",
        "resumableTotalChunks=3",
    ];

    fn with(fields: &[&str], more: &[&str]) -> String {
        form(&[fields, more].concat())
    }

    fn query(fields: &[&str]) -> String {
        format!("/up?{}", fields.join("&"))
    }

    fn write(range: Range<u64>, body: &str) -> Read {
        Read::Write(range, Ok(body.to_owned()))
    }

    #[test]
    fn chunks_are_read_whatever_client_sends_them_c_56_f_29_f_30_f_31() {
        let target = query(&CHUNK);
        let flow = [
            "token=t",
            "flowChunkNumber=2",
            "flowChunkSize=10",
            "flowCurrentChunkSize=10",
            "flowTotalSize=30",
            "flowIdentifier=30-x",
            "flowFilename=x",
            "flowRelativePath=x",
            "flowTotalChunks=3",
        ];
        let simple = flow.map(|field| match field.strip_prefix("flow") {
            Some(field) => field[..1].to_lowercase() + &field[1..],
            None => field.to_owned(),
        });
        let simple = simple.each_ref().map(String::as_str);
        let text = format!("file=data:x/y;base64,{}", STANDARD.encode("0123456789"));
        let raw = "0123456789".to_owned();
        let file = "file<0123456789";
        for (client, lines, body) in [
            ("R102", format!("POST /up\n{FORM}"), with(&CHUNK, &[file])),
            ("R110", format!("POST {target}\n{FORM}"), with(&CHUNK, &["custom=1", file])),
            ("flow.js", format!("POST /up/\n{FORM}"), with(&flow, &[file])),
            ("simple", format!("POST /up\n{FORM}"), with(&simple, &[file])),
            ("another name", format!("POST /up\n{FORM}"), with(&CHUNK, &["blob<0123456789"])),
            ("fields after", format!("POST /up\n{FORM}"), with(&CHUNK, &[file, CHUNK[0], "x=y"])),
            ("base64", format!("POST {target}\n{FORM}"), with(&CHUNK, &[&text])),
            ("octet", format!("POST {target}\nContent-Type: binary/octet-stream"), raw.clone()),
            ("octet, .mht", format!("PUT {target}\nContent-Type: multipart/related"), raw.clone()),
            ("octet, typeless", format!("PATCH {target}"), raw.clone()),
            ("octet, image", format!("POST {target}\nContent-Type: image/png"), raw),
        ] {
            assert_eq!(read_all(&lines, &body), write(10..20, "0123456789"), "{client}");
        }
    }

    /// Dropzone numbers from 0, says the file's name with the chunk, and not how long that is.
    #[test]
    fn chunks_of_dropzone_are_read_j_004() {
        let fields = |index: u64, total: u64| {
            [
                "dzuuid=b0b5".to_owned(),
                format!("dzchunkindex={index}"),
                format!("dztotalfilesize={total}"),
                "dzchunksize=10".to_owned(),
                format!("dztotalchunkcount={}", total.div_ceil(10).max(1)),
                format!("dzchunkbyteoffset={}", 10 * index),
            ]
        };
        for (index, total, payload, expected) in [
            (0, 0, "", 0..0),
            (0, 3, "012", 0..3),
            (0, 21, "0123456789", 0..10),
            (1, 21, "0123456789", 10..20),
            (2, 21, "0", 20..21),
            (1, 22, "0123456789", 10..20),
            (1, 29, "0123456789", 10..20),
            (1, 20, "0123456789", 10..20),
        ] {
            let fields = fields(index, total);
            let fields = fields.each_ref().map(String::as_str);
            let body = with(&fields, &[&format!("file<{payload}")]);
            let read = read_all(&format!("POST /up\n{FORM}"), &body);
            assert_eq!(read, write(expected, payload), "{index} of {total}");
        }
        let fields = fields(3, 29);
        let fields = fields.each_ref().map(String::as_str);
        let body = with(&fields, &["file<0123456789"]);
        let mut exchange = exchange_with(&dialect(), &format!("POST /up\n{FORM}"));
        let content = Content::new(Full::new(Bytes::from(body)));
        let head = head(&format!("POST /up\n{FORM}"));
        let Err(Rejection::Fault(fault)) = now(read(&mut exchange, &head, content, &limits()))
        else {
            panic!("a chunk too many")
        };
        let message = "no chunk 3: a file of 29 bytes in chunks of 10 has chunks 0 to 2";
        assert_eq!(fault, Fault::about("dzchunkindex", refuse::BAD_CHUNK_NUMBER, message));
    }

    #[test]
    fn name_of_the_form_is_the_file_s_where_no_parameter_is_j_055() {
        let dropzone = ["dzuuid=u", "dzchunkindex=0", "dztotalfilesize=1", "dzchunksize=10"];
        let flow = ["flowIdentifier=u", "flowChunkNumber=1", "flowTotalSize=1", "flowChunkSize=10"];
        let named = [&flow[..], &["flowFilename=y"]].concat();
        for (fields, expected, name) in
            [(&dropzone[..], "x", ""), (&flow, "x", ""), (&named, "y", "y")]
        {
            let lines = format!("POST /up\n{FORM}");
            let mut exchange = exchange_with(&dialect(), &lines);
            let content = Content::new(Full::new(Bytes::from(with(fields, &["file<0"]))));
            let read = now(read(&mut exchange, &head(&lines), content, &limits()));
            let Ok((Intent::Write(write), _)) = read else { panic!("{read:?}") };
            let Target::Keyed(key, new) = write.target else { panic!("a named upload") };
            assert_eq!(new.metadata.get_str("filename"), Some(expected));
            assert_eq!(
                key,
                dialect().naming().key(None, "u", name, ""),
                "the form's name is no part of it"
            );
        }
    }

    /// What switches chunks off: the first chunk is the file, whatever size is said.
    #[test]
    fn any_chunk_size_will_do_for_a_file_of_one_chunk_j_001() {
        let file = |size: &str, current: &str, number: u64, chunks: u64| {
            [
                format!("flowChunkNumber={number}"),
                format!("flowChunkSize={size}"),
                format!("flowCurrentChunkSize={current}"),
                "flowTotalSize=10".to_owned(),
                "flowIdentifier=i".to_owned(),
                format!("flowTotalChunks={chunks}"),
            ]
        };
        let bad = |code| Read::Refused(400, code);
        let sizes =
            ["1.7976931348623157e+308", "Infinity", "1e+21", "9007199254740992", "33.5", "0", "x"];
        for size in sizes {
            for (current, number, chunks, expected) in [
                ("10", 1, 1, None),
                ("", 1, 1, None),
                ("NaN", 1, 1, None),
                ("9", 1, 1, Some(refuse::BAD_NUMBER)),
                ("10", 2, 2, Some(refuse::BAD_NUMBER)),
                ("10", 1, 2, Some(refuse::BAD_TOTAL_CHUNKS)),
                ("10", 1, 0, Some(refuse::BAD_TOTAL_CHUNKS)),
            ] {
                let fields = file(size, current, number, chunks);
                let fields = fields.each_ref().map(String::as_str);
                let target = query(&fields);
                let file = "0123456789";
                let form = with(&fields, &[&format!("file<{file}")]);
                let asked = format!("{fields:?}");
                let read = read_all(&format!("GET {target}"), "");
                let usual = Read::Presence(0..10, 10);
                assert_eq!(read, expected.map_or(usual, bad), "{asked}");
                for (lines, body) in
                    [(format!("POST {target}"), file), (format!("POST /up\n{FORM}"), form.as_str())]
                {
                    let read = read_all(&lines, body);
                    assert_eq!(read, expected.map_or(write(0..10, file), bad), "{asked}");
                }
            }
        }
        let fields = file("Infinity", "", 1, 1);
        let target = query(&fields.each_ref().map(String::as_str));
        let short = read_all(&format!("POST {target}"), "012345678");
        assert_eq!(short, bad(refuse::BAD_CHUNK_SIZE), "L = T");
    }

    /// Each says what is wrong and what was expected, with both values.
    #[test]
    fn faults_say_what_was_expected_a_001() {
        let target = query(&CHUNK);
        let post = format!("POST /up\n{FORM}");
        let get = |from: &str, to: &str| format!("GET {}", target.replace(from, to));
        let (file, none) = ("file<0123456789", String::new());
        let small = dialect().with_max_chunk_bytes(3 << 20);
        let large = |name: &str| {
            [
                format!("{name}ChunkNumber=1"),
                format!("{name}ChunkSize=5242881"),
                format!("{name}TotalSize=5242881"),
                format!("{name}Identifier=i"),
            ]
            .join("&")
        };
        for (lines, body, expected) in [
            (
                get("Number=2", "Number=4"),
                &none,
                "no chunk 4: a file of 30 bytes in chunks of 10 has chunks 1 to 3",
            ),
            (
                get("Number=2", "Number=zwei"),
                &none,
                "is \"zwei\", expected a whole number of at most 9007199254740991",
            ),
            (get("Number=2", "Number=0"), &none, "is 0, expected at least 1"),
            (
                get("CurrentChunkSize=10", "CurrentChunkSize=9"),
                &none,
                "chunk 2 of a file of 30 bytes in chunks of 10 has 10 bytes, this one has 9",
            ),
            (
                get("TotalSize=30", "TotalSize=29")
                    .replace("CurrentChunkSize=10", "CurrentChunkSize=9"),
                &none,
                "chunk 2 of a file of 29 bytes in chunks of 10 has 10 or 19 bytes, this one has 9",
            ),
            (
                get("Chunks=3", "Chunks=1"),
                &none,
                "chunk 2 of 1, but a file of 30 bytes in chunks of 10 has 3 chunks",
            ),
            (
                get("RelativePath=x", "RelativePath=a/../x"),
                &none,
                "\"a/../x\" has the component .., expected a path below a folder",
            ),
            (
                format!("GET {target}&resumableChunkSize=11"),
                &none,
                "given twice, as \"10\" and as \"11\"",
            ),
            (
                format!("GET {target}&flowChunkNumber=1&flowIdentifier=i"),
                &none,
                "the request has resumableChunkNumber and resumableIdentifier, and flowChunkNumber \
                 and flowIdentifier; expected those of one",
            ),
            (get("resumableTotalSize", "x"), &none, "missing: resumableTotalSize"),
            (get("resumableIdentifier", "x"), &none, "missing: resumableIdentifier"),
            (
                format!("GET {}", query(&["resumableIdentifier=i"])),
                &none,
                "missing: resumableChunkNumber",
            ),
            (
                post.clone(),
                &with(&CHUNK[1..], &[file]),
                "form fields that must come before the file are missing: resumableChunkNumber",
            ),
            (
                post.clone(),
                &with(&[CHUNK[0], CHUNK[5]], &[file]),
                "form fields that must come before the file are missing: resumableChunkSize and \
                 resumableTotalSize",
            ),
            (
                post,
                &form(&[file]),
                "form fields that must come before the file are missing: resumableChunkNumber, \
                 resumableChunkSize, resumableTotalSize and resumableIdentifier, or \
                 flowChunkNumber, flowChunkSize, flowTotalSize and flowIdentifier, or chunkNumber, \
                 chunkSize, totalSize and identifier, or dzchunkindex, dzchunksize, \
                 dztotalfilesize and dzuuid; Dropzone sends them with every file if it is given \
                 forceChunking: true",
            ),
            (
                format!("GET /up?{}", large("flow")),
                &none,
                "the chunk has 5 MiB (5242881 bytes), chunks are limited to 3 MiB (3145728 bytes): \
                 cut smaller ones (chunkSize), or raise the server's limit (--max-chunk-size)",
            ),
            (
                "GET /up?flowChunkNumber=1&flowChunkSize=9&flowTotalSize=1099511627777&\
                 flowIdentifier=i"
                    .to_owned(),
                &none,
                "the file has 1099511627777 bytes; uploads are limited to 1099511627776 bytes",
            ),
        ] {
            let mut exchange = exchange_with(&small, &lines);
            let content = Content::new(Full::new(Bytes::from(body.clone())));
            match now(read(&mut exchange, &head(&lines), content, &limits())) {
                Err(Rejection::Fault(fault)) => assert_eq!(fault.message, expected, "{lines}"),
                read => panic!("{read:?}"),
            }
        }
    }

    #[test]
    fn every_source_names_the_same_upload_s_001_j_016() {
        let key = |lines: &str, body: String| {
            let content = Content::new(Full::new(Bytes::from(body)));
            let (read, key) = read_content(&dialect(), lines, content);
            key.unwrap_or_else(|| panic!("{read:?}")).to_id()
        };
        let target = query(&CHUNK);
        let usual = key(&format!("GET {target}"), String::new());
        let posted = key(&format!("POST /up\n{FORM}"), with(&CHUNK, &["file<0123456789"]));
        assert_eq!(posted, usual);
        // Another chunk, another size of chunks, another number of them, another type.
        let other = target
            .replace("Number=2", "Number=1")
            .replace("ChunkSize=10", "ChunkSize=30")
            .replace("Chunks=3", "Chunks=1")
            .replace("Type=", "Type=a/b");
        assert_eq!(key(&format!("GET {other}"), String::new()), usual);
        // Another size of the file is noticed, not another upload (J-017).
        let other = target.replace("TotalSize=30", "TotalSize=31");
        assert_eq!(key(&format!("GET {other}"), String::new()), usual);
        for name in ["Filename=", "Identifier=", "RelativePath="] {
            let other = target.replace(name, &format!("{name}y"));
            assert_ne!(key(&format!("GET {other}"), String::new()), usual, "{name}");
        }
    }

    #[test]
    fn tests_are_read_by_any_method_j_009_f_31() {
        let target = query(&CHUNK);
        let lines = [
            (format!("GET {target}"), String::new()),
            (format!("HEAD {target}"), String::new()),
            (format!("GET {target}\n{FORM}"), "ignored".to_owned()),
            (format!("POST {target}"), String::new()),
            (format!("PUT {target}"), String::new()),
            (format!("POST /up\n{FORM}"), form(&CHUNK)),
            (format!("PUT {target}\n{FORM}"), form(&["custom=x"])),
        ];
        for (lines, body) in lines {
            assert_eq!(read_all(&lines, &body), Read::Presence(10..20, 30), "{lines}");
        }
        // An empty body of unknown length, and one that is not empty.
        for (body, expected) in
            [("", Read::Presence(10..20, 30)), ("0123456789", write(10..20, "0123456789"))]
        {
            let body = Full::new(Bytes::from(body)).into_data_stream();
            let body = Content::new(StreamBody::new(Frames(body)));
            assert_eq!(body.exact_bytes(), None);
            let read = read_content(&dialect(), &format!("POST {target}"), body);
            assert_eq!(read.0, expected);
        }
    }

    /// A body whose length is not announced.
    struct Frames(http_body_util::BodyDataStream<Full<Bytes>>);

    impl futures_core::Stream for Frames {
        type Item = Result<http_body::Frame<Bytes>, std::convert::Infallible>;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            let frame = std::pin::Pin::new(&mut self.0).poll_next(cx);
            frame.map(|frame| frame.map(|frame| frame.map(http_body::Frame::data)))
        }
    }

    #[test]
    fn files_of_no_bytes_have_one_chunk_j_031_f_27() {
        let fields = [
            "flowChunkNumber=1",
            "flowChunkSize=10",
            "flowCurrentChunkSize=0",
            "flowTotalSize=0",
            "flowIdentifier=0-x",
            "flowTotalChunks=1",
        ];
        let target = query(&fields);
        for (lines, body) in [
            (format!("POST /up\n{FORM}"), with(&fields, &["file<"])),
            (format!("POST /up\n{FORM}"), with(&fields, &["file=data:"])),
            (format!("POST /up\n{FORM}"), with(&fields, &["file=data:x/y;base64,"])),
            (format!("POST {target}"), String::new()),
        ] {
            assert_eq!(read_all(&lines, &body), write(0..0, ""), "{lines} {body}");
        }
        let test = read_all(&format!("GET {target}"), "");
        assert_eq!(test, Read::Presence(0..0, 0));
        let fieldless = read_all(&format!("POST /up\n{FORM}"), &form(&fields));
        assert_eq!(fieldless, Read::Presence(0..0, 0));
        for (lines, body) in [
            (format!("POST {target}"), "x".to_owned()),
            (format!("POST /up\n{FORM}"), with(&fields, &["file<x"])),
            (format!("POST /up\n{FORM}"), with(&fields, &["file=YQ=="])),
        ] {
            let refused = Read::Refused(400, "length_mismatch");
            assert_eq!(read_all(&lines, &body), refused, "{lines}");
        }
    }

    #[test]
    fn lengths_are_checked_before_and_after_j_012_j_014_f_05() {
        let target = query(&CHUNK);
        let mismatch = || Read::Refused(400, "length_mismatch");
        for body in ["012345678", "01234567890"] {
            assert_eq!(read_all(&format!("POST {target}"), body), mismatch());
        }
        let post = format!("POST /up\n{FORM}");
        for (payload, expected) in [
            ("file<01234567890", Read::Write(10..20, Err("length_mismatch"))),
            ("file<01", Read::Write(10..20, Err("length_mismatch"))),
            ("file=MDE=", Read::Write(10..20, Err("length_mismatch"))),
            ("file=MDE", Read::Write(10..20, Err("bad_payload"))),
        ] {
            assert_eq!(read_all(&post, &with(&CHUNK, &[payload])), expected, "{payload}");
        }
        let long_tail = with(&CHUNK, &["file<012345678", "x=y"]);
        assert_eq!(read_all(&post, &long_tail), Read::Write(10..20, Err("length_mismatch")));
        let unclosed = with(&CHUNK, &["file<0123456789"]).replace("\r\n--b--\r\n", "");
        assert_eq!(read_all(&post, &unclosed), Read::Write(10..20, Err("bad_form")), "J-023");
        let contradiction = with(&CHUNK, &["file<0123456789", "resumableTotalSize=31"]);
        let expected = Read::Write(10..20, Err(refuse::CONFLICTING));
        assert_eq!(read_all(&post, &contradiction), expected);
        let second = with(&CHUNK, &["file<0123456789", "other<0123456789"]);
        assert_eq!(read_all(&post, &second), Read::Write(10..20, Err("bad_payload")));
        let cut = with(&CHUNK, &["file<0123456789"]).replace("--b--\r\n", "--b-------");
        assert_eq!(read_all(&post, &cut), Read::Write(10..20, Err("length_mismatch")));
    }

    #[test]
    fn lengths_that_are_not_told_are_those_that_arrive_j_012() {
        let fields = |number: u64| {
            [
                format!("chunkNumber={number}"),
                "chunkSize=10".to_owned(),
                "totalSize=23".to_owned(),
                "identifier=i".to_owned(),
            ]
        };
        for (number, payload, expected) in [
            (1, "0123456789", write(0..10, "0123456789")),
            (2, "0123456789", write(10..20, "0123456789")),
            (2, "0123456789012", write(10..23, "0123456789012")),
            (3, "012", write(20..23, "012")),
        ] {
            let fields = fields(number);
            let fields = fields.each_ref().map(String::as_str);
            let body = with(&fields, &[&format!("file<{payload}")]);
            assert_eq!(read_all(&format!("POST /up\n{FORM}"), &body), expected);
            assert_eq!(read_all(&format!("POST {}", query(&fields)), payload), expected);
        }
        let second = fields(2);
        let second = second.each_ref().map(String::as_str);
        let target = query(&second);
        assert_eq!(read_all(&format!("GET {target}"), ""), Read::Presence(10..23, 23), "J-013");
        for (body, code) in
            [("012345678901", "bad_chunk_size"), ("01234567890123", "bad_chunk_size")]
        {
            let read = read_all(&format!("POST {target}"), body);
            assert_eq!(read, Read::Refused(400, code), "{body}");
        }
        let text = with(&second, &["file=MDEyMzQ1Njc4OQ=="]);
        let read = read_all(&format!("POST /up\n{FORM}"), &text);
        assert_eq!(read, Read::Refused(400, "bad_chunk_size"));
    }

    #[test]
    fn wrong_requests_are_refused_before_their_chunk_is_read() {
        let target = query(&CHUNK);
        let post = format!("POST /up\n{FORM}");
        let file = "file<0123456789";
        let large = [
            "flowChunkNumber=1",
            "flowChunkSize=1000000000",
            "flowCurrentChunkSize=1000000000",
            "flowTotalSize=1000000000",
            "flowIdentifier=x",
        ];
        let giant = "GET /up?flowChunkNumber=9007199254740991&flowChunkSize=1&\
            flowTotalSize=9007199254740991&flowIdentifier=x";
        let none = String::new;
        for (rule, lines, body, expected) in [
            ("F-02", "GET /up".to_owned(), none(), (400, refuse::MISSING)),
            ("F-02", "HEAD /up/".to_owned(), none(), (400, refuse::MISSING)),
            ("F-02", "POST /up".to_owned(), none(), (400, refuse::MISSING)),
            (
                "F-02",
                format!("GET {}", target.replace("ChunkNumber", "chunknumber")),
                none(),
                (400, refuse::MISSING),
            ),
            ("C-54", "GET /up?0=undefined&1=undefined".to_owned(), none(), (400, refuse::MISSING)),
            ("F-31", format!("DELETE {target}"), none(), (405, ALLOW)),
            ("F-31", "BREW /up".to_owned(), none(), (405, ALLOW)),
            ("J-009", "OPTIONS /up".to_owned(), none(), (204, "")),
            ("J-009", format!("OPTIONS {target}"), none(), (204, "")),
            ("F-43", "GET /up/other".to_owned(), none(), (404, refuse::NOT_FOUND)),
            ("F-43", "POST /up/status/x".to_owned(), none(), (404, refuse::NOT_FOUND)),
            ("J-006", post.clone(), with(&[file], &CHUNK), (400, refuse::FIELDS_AFTER_FILE)),
            ("J-006", post.clone(), with(&CHUNK[1..], &[file]), (400, refuse::FIELDS_AFTER_FILE)),
            (
                "J-006",
                post.clone(),
                with(&[CHUNK[0], CHUNK[5]], &[file]),
                (400, refuse::FIELDS_AFTER_FILE),
            ),
            (
                "J-008",
                format!("POST {target}\nContent-Type: application/x-www-form-urlencoded"),
                "a=b".to_owned(),
                (415, "unusable_content_type"),
            ),
            (
                "J-008",
                format!("POST {target}\nContent-Type: multipart/form-data"),
                with(&CHUNK, &[file]),
                (415, "unusable_content_type"),
            ),
            (
                "J-008",
                format!("POST {target}\nContent-Encoding: gzip"),
                "0123456789".to_owned(),
                (415, "unusable_content_type"),
            ),
            ("J-023", post.clone(), "--x\r\n".to_owned(), (400, "bad_form")),
            (
                "J-010",
                format!("GET {}", target.replace("Number=2", "Number=4")),
                none(),
                (400, refuse::BAD_CHUNK_NUMBER),
            ),
            (
                "J-012",
                format!("GET {}", target.replace("CurrentChunkSize=10", "CurrentChunkSize=9")),
                none(),
                (400, refuse::BAD_CHUNK_SIZE),
            ),
            (
                "F-09",
                format!("GET {}", target.replace("Chunks=3", "Chunks=0")),
                none(),
                (400, refuse::BAD_TOTAL_CHUNKS),
            ),
            (
                "F-09",
                post.clone(),
                with(&CHUNK, &[file]).replace("\r\n3\r\n", "\r\n0\r\n"),
                (400, refuse::BAD_TOTAL_CHUNKS),
            ),
            ("S-008", post, with(&large, &["file<x"]), (400, refuse::CHUNK_TOO_LARGE)),
            ("S-008", format!("GET {}", query(&large)), none(), (400, refuse::CHUNK_TOO_LARGE)),
            ("F-40", giant.to_owned(), none(), (400, "file_too_large")),
            ("F-40", giant.replace("GET", "POST"), "x".to_owned(), (400, "file_too_large")),
        ] {
            let (status, code) = expected;
            assert_eq!(read_all(&lines, &body), Read::Refused(status, code), "{rule} {lines}");
        }
    }

    /// A query that says everything is judged before the body is asked for, so that a client that
    /// waits for `100 Continue` sends nothing.
    #[test]
    fn queries_are_judged_before_the_body_j_014_s_008() {
        let target = query(&CHUNK).replace("CurrentChunkSize=10", "CurrentChunkSize=11");
        for lines in [format!("POST {target}"), format!("POST {target}\n{FORM}")] {
            let content = Content::new(Full::new(Bytes::from_static(b"0123456789")));
            let rest = content.rest();
            let (read, _) = read_content(&dialect(), &lines, content);
            assert_eq!(read, Read::Refused(400, refuse::BAD_CHUNK_SIZE));
            assert!(rest.take().is_some_and(|rejection| !rejection.started), "{lines}");
        }
    }

    #[test]
    fn refused_and_unfinished_bodies_are_left_to_the_rest_a_002() {
        let body = with(&CHUNK, &["file<0123456789"]);
        for (lines, body, is_read) in [
            (format!("POST /up\n{FORM}"), body.clone(), true),
            (format!("POST /up\n{FORM}"), body.replace("Number", "Nomber"), false),
        ] {
            let frames = [body, "more".to_owned()].map(|frame| {
                Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from(frame)))
            });
            let body = StreamBody::new(Listed(frames.into_iter().collect()));
            let content = Content::new(body);
            let rest = content.rest();
            let mut exchange = exchange_with(&dialect(), &lines);
            let read = now(read(&mut exchange, &head(&lines), content, &limits()));
            assert_eq!(read.is_ok(), is_read);
            drop(read);
            assert!(rest.take().is_some_and(|rejection| rejection.started));
        }
    }

    struct Listed(
        std::collections::VecDeque<Result<http_body::Frame<Bytes>, std::convert::Infallible>>,
    );

    impl futures_core::Stream for Listed {
        type Item = Result<http_body::Frame<Bytes>, std::convert::Infallible>;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            std::task::Poll::Ready(self.0.pop_front())
        }
    }

    #[test]
    fn uploads_carry_what_tus_and_downloads_tell_j_055() {
        let fields = [&CHUNK[..4], &["resumableType=text/plain"], &CHUNK[5..]].concat();
        let lines = format!("POST {}", query(&fields));
        let mut exchange = exchange_with(&dialect(), &lines);
        let content = Content::new(Full::new(Bytes::from_static(b"0123456789")));
        let read = now(read(&mut exchange, &head(&lines), content, &limits()));
        let Ok((Intent::Write(write), _)) = read else {
            panic!("{read:?}");
        };
        let metadata = [
            ("filename", "x"),
            ("filetype", "text/plain"),
            ("relativePath", "x"),
            ("resumableIdentifier", "30-x"),
        ];
        let new = NewUpload {
            completion: Completion::WhenFull,
            length: Some(30),
            metadata: Metadata::from_entries(metadata).expect("plain keys"),
            role: Role::Whole,
            ..NewUpload::default()
        };
        let key = dialect().naming().key(None, "30-x", "x", "x");
        assert_eq!(
            write,
            Write {
                answer_when_alone: super::super::ANSWER_DELAY,
                content_bytes: Some(10),
                length: Some(30),
                ..Write::new(Target::Keyed(key, new), At::Range(10..20), CHUNK_WAIT)
            }
        );
    }

    #[test]
    fn checksums_come_in_a_field_or_a_parameter() {
        let given = |value: &[u8]| {
            Ok(Checksum::Given(Digest { algorithm: Algorithm::Sha256, value: value.to_vec() }))
        };
        for (fields, parameter, expected) in [
            ("", "", Ok(Checksum::None)),
            ("\nChecksum: sha256 YWJj", "", given(b"abc")),
            ("\nUpload-Checksum: sha256 YWJj", "", given(b"abc")),
            ("", "sha256%20YWJj", given(b"abc")),
            (
                "\nChecksum: sha256 YWJj\nUpload-Checksum: sha256 YWJj",
                "sha256%20YWJj",
                given(b"abc"),
            ),
            ("\nChecksum: sha256 YWJj", "sha256%20YWI%3D", Err(refuse::CONFLICTING)),
            ("\nChecksum: md5 YWJj", "sha256%20YWJj", Err(refuse::CONFLICTING)),
            ("\nChecksum: crc32 YWJj", "", Err(refuse::BAD_CHECKSUM)),
            ("", "sha256%20YWJ", Err(refuse::BAD_CHECKSUM)),
            ("", "0a1b2c", Ok(Checksum::None)),
        ] {
            let target = query(&CHUNK);
            let lines = format!("POST {target}&checksum={parameter}{fields}");
            let mut exchange = exchange_with(&dialect(), &lines);
            let content = Content::new(Full::new(Bytes::from_static(b"0123456789")));
            let checksum = match now(read(&mut exchange, &head(&lines), content, &limits())) {
                Ok((Intent::Write(write), _)) => Ok(write.checksum),
                Ok((intent, _)) => panic!("{intent:?}"),
                Err(rejection) => Err(refused(&exchange, rejection).1),
            };
            assert_eq!(checksum, expected, "{lines}");
        }
    }

    #[test]
    fn mounts_take_the_configured_names_only_j_004() {
        let renamed = super::super::Profile::resumable()
            .with_name(Parameter::ChunkNumber, "k")
            .with_namespace("ns.")
            .with_payload_name("blob");
        let fields =
            CHUNK.map(|field| format!("ns.{}", field.replace("resumableChunkNumber", "k")));
        let fields = fields.each_ref().map(String::as_str);
        let payload = "ns.blob=MDEyMzQ1Njc4OQ==";
        let body = with(&fields, &["file=text", payload]);
        let strict = dialect().with_profiles([renamed]);
        let content = |body: &str| Content::new(Full::new(Bytes::from(body.to_owned())));
        let lines = format!("POST /up\n{FORM}");
        let (read, _) = read_content(&strict, &lines, content(&body));
        assert_eq!(read, write(10..20, "0123456789"));
        let (read, _) = read_content(&strict, &format!("GET {}", query(&CHUNK)), content(""));
        assert_eq!(read, Read::Refused(400, refuse::MISSING));
    }

    #[test]
    fn mounts_can_be_strict_j_015() {
        let target = query(&CHUNK).replace("Number=2", "Number=1").replace("Chunks=3", "Chunks=1");
        let lines = format!("GET {target}");
        let empty = Content::empty;
        let (read, _) = read_content(&dialect(), &lines, empty());
        assert_eq!(read, Read::Presence(0..10, 30));
        let strict = dialect().with_strict_total_chunks();
        let (read, _) = read_content(&strict, &lines, empty());
        assert_eq!(read, Read::Refused(400, refuse::BAD_TOTAL_CHUNKS));
        let small = dialect().with_max_chunk_bytes(9);
        let (read, _) = read_content(&small, &lines, empty());
        assert_eq!(read, Read::Refused(400, refuse::CHUNK_TOO_LARGE));
        let large = 1 << 40;
        let whole = format!(
            "GET /up?flowChunkNumber=1&flowChunkSize=Infinity&flowTotalSize={large}&flowIdentifier=i"
        );
        for (most, expected) in [
            (large - 1, Read::Refused(400, refuse::CHUNK_TOO_LARGE)),
            (large, Read::Presence(0..large, large)),
            (u64::MAX, Read::Presence(0..large, large)),
        ] {
            let dialect = dialect().with_max_chunk_bytes(most);
            assert_eq!(read_content(&dialect, &whole, empty()).0, expected, "{most}");
        }
    }

    /// What S-003 and F-35 name, and a few more. None of it is anything but an identifier.
    #[test]
    fn hostile_identifiers_are_just_identifiers_f_23_f_35_s_003() {
        let emoji = "😀".repeat(1024);
        let long = "x".repeat(10_000);
        for (identifier, is_good) in [
            ("../../x", true),
            ("/etc/passwd", true),
            ("..\0", true),
            ("a/b\\c", true),
            ("[*?]", true),
            ("a\r\nSet-Cookie: b=c", true),
            ("\u{1}\u{7f}\u{202e}\u{feff}", true),
            ("{\"$ne\":null}", true),
            ("'; DROP TABLE uploads; --", true),
            ("%2e%2e%2f", true),
            ("${jndi:ldap://x}", true),
            ("你好", true),
            (&emoji, true),
            (&long, false),
            ("", false),
        ] {
            let fields = CHUNK.map(|field| match field {
                "resumableIdentifier=30-x" => format!("resumableIdentifier={identifier}"),
                _ => field.to_owned(),
            });
            let fields = fields.each_ref().map(String::as_str);
            let body = with(&fields, &["file<0123456789"]);
            let content = Content::new(Full::new(Bytes::from(body)));
            let (read, key) = read_content(&dialect(), &format!("POST /up\n{FORM}"), content);
            assert_eq!(matches!(read, Read::Write(..)), is_good, "{identifier:?} {read:?}");
            if let Some(key) = key {
                let id = key.to_id().to_string();
                assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
            }
        }
    }

    proptest! {
        /// Numbers at and beyond every border are refused or lie in the file.
        #[test]
        fn no_numbers_do_harm_j_001_f_40(
            numbers in proptest::array::uniform5(prop_oneof![
                (0_u64..12).prop_map(|n| n.to_string()),
                (0_u64..3).prop_map(|n| ((1_u64 << 53) - n).to_string()),
                (0_u64..3).prop_map(|n| ((1_u64 << 53) - 1 + n).to_string()),
                Just(u64::MAX.to_string()), Just("18446744073709551616".to_owned()),
                "[-+]?[0-9]{1,20}(\\.[0-9])?(e[0-9])?",
            ]),
        ) {
            let [number, size, current, total, chunks] = numbers;
            let target = format!(
                "/up?chunkNumber={number}&chunkSize={size}&currentChunkSize={current}&\
                 totalSize={total}&totalChunks={chunks}&identifier=i"
            );
            match read_all(&format!("GET {target}"), "") {
                Read::Presence(range, total) => prop_assert!(range.end <= total),
                Read::Refused(status, _) => prop_assert_eq!(status, 400),
                other @ Read::Write(..) => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
