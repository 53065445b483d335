//! The whole service: several requests in sequence, of any method, path, fields and bodies, to one
//! store in memory.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use windlass::{
    Engine, Windlass,
    store::memory::MemoryStore,
    upload::Limits,
    wire::{drf::Drf, location::Locations, resumable_js::ResumableJs, tus::Tus},
};

use crate::input::{Frames, Input, in_paused_time};

/// Requests of one run.
const MAX_REQUESTS: usize = 12;

/// What a server that is asked anything may answer. No 5xx: the store does not fail. No redirect
/// (I-07); 304 is for a GET that asks for it.
const STATUSES: [u16; 17] =
    [200, 201, 204, 206, 304, 400, 403, 404, 405, 409, 410, 412, 413, 415, 416, 431, 460];

const METHODS: [&str; 10] =
    ["POST", "PATCH", "HEAD", "GET", "DELETE", "OPTIONS", "PUT", "TRACE", "CONNECT", "X"];

/// Fields that are read, with values that make sense more often than chance would have it.
const FIELDS: [(&str, &str); 24] = [
    ("upload-length", "10"),
    ("upload-offset", "0"),
    ("upload-offset", "5"),
    ("upload-defer-length", "1"),
    ("upload-length", "0"),
    ("upload-concat", "partial"),
    ("upload-metadata", "filename YQ==,resumableIdentifier YQ=="),
    ("upload-checksum", "sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0="),
    ("upload-checksum", "md5 kAFQmDzST7DWlj99KOF/cg=="),
    ("trailer", "upload-checksum"),
    ("range", "bytes=0-3"),
    ("if-none-match", "*"),
    ("x-http-method-override", "PATCH"),
    ("origin", "https://example.org"),
    ("content-encoding", "gzip"),
    ("content-type", "multipart/form-data; boundary=B"),
    ("expect", "100-continue"),
    ("host", "example.org"),
    ("forwarded", "host=a;proto=https"),
    ("access-control-request-method", "PATCH"),
    ("tus-resumable", "0.2.2"),
    ("upload-length", ""),
    ("upload-offset", ""),
    ("upload-concat", ""),
];

/// A request, as far as it is understood here.
struct Asked {
    /// The bytes of the body, and whether all of them were sent.
    body: (u64, bool),
    head: http::request::Parts,
}

/// The service under test, and what it has told.
struct Bench {
    /// The highest offset told of each upload, by its path.
    told: BTreeMap<String, u64>,
    windlass: Windlass,
}

/// Requests to the whole service.
pub fn service(data: &[u8]) {
    in_paused_time(async {
        let mut bench = Bench::new();
        let mut input = Input::new(data);
        for _ in 0..MAX_REQUESTS {
            if input.is_empty() {
                break;
            }
            bench.ask(&mut input).await;
            bench.look().await;
        }
    });
}

impl Bench {
    fn new() -> Self {
        let mut limits = Limits::default();
        limits.expire_after = Some(Duration::from_secs(60 * 60));
        limits.join_unfinished = true;
        limits.max_size_bytes = Some(1 << 20);
        let store = Arc::new(MemoryStore::new());
        let engine = Engine::builder(store).limits(limits).build();
        let at = |path: &str| Locations::new(path.parse().expect("a path"));
        let resumable = ResumableJs::new(at("/resumable"), "secret").with_tus(at("/files"));
        let tus = Tus::new(at("/files"))
            .with_naming(resumable.naming().clone())
            .beside(resumable.clone());
        let drf = Drf::new(at("/chunked")).with_tus(at("/files")).with_removal().with_open_list();
        let windlass = Windlass::new(engine).mount(tus).mount(resumable).mount(drf);
        Self { told: BTreeMap::new(), windlass }
    }

    /// Sends the next request, and judges its answer.
    async fn ask(&mut self, input: &mut Input<'_>) {
        let Some((head, frames, is_cut)) = self.request(input) else {
            return;
        };
        let sent: usize = frames.iter().map(Bytes::len).sum();
        let asked = Asked { body: (sent as u64, !is_cut), head: head.clone() };
        let request = Request::from_parts(head, Frames::new(frames, is_cut));
        let Ok(answer) = self.windlass.handle(request).await else {
            assert!(is_cut, "closed without an answer");
            return;
        };
        let answer = whole(answer).await;
        self.judge(&asked, &answer);
    }

    fn request(&self, input: &mut Input<'_>) -> Option<(http::request::Parts, Vec<Bytes>, bool)> {
        let known: Vec<&str> = self.told.keys().map(String::as_str).collect();
        let method = input.pick(&METHODS);
        let flags = input.byte();
        let uri = match flags % 8 {
            0..3 if !known.is_empty() => input.pick(&known).to_owned(),
            3 => "/resumable?resumableChunkNumber=1&resumableChunkSize=10&resumableTotalSize=10\
                  &resumableIdentifier=a"
                .to_owned(),
            4 => format!("/resumable?{}", String::from_utf8_lossy(input.line())),
            5 => String::from_utf8_lossy(input.line()).into_owned(),
            6 => format!("/files/{}", String::from_utf8_lossy(input.line())),
            7 if flags & 128 == 128 => "/chunked/".to_owned(),
            _ => "/files".to_owned(),
        };
        let is_chunked = uri.starts_with("/chunked");
        let mut request = Request::builder().method(method).uri(uri);
        if is_chunked {
            request = request.header("content-range", "bytes 0-4/5");
            request = request.header("content-type", "multipart/form-data; boundary=B");
        }
        if flags & 8 == 0 {
            request = request.header("tus-resumable", "1.0.0");
        }
        if flags & 16 == 0 {
            request = request.header("content-type", "application/offset+octet-stream");
        }
        for _ in 0..input.byte() % 8 {
            let (name, usual) = input.pick(&FIELDS);
            let value = match usual {
                "" if name == "upload-concat" => {
                    format!("final;{} {}", known.first()?, input.pick(&known)).into_bytes()
                }
                "" => input.line().to_vec(),
                usual => usual.as_bytes().to_vec(),
            };
            request = request.header(name, HeaderValue::from_bytes(&value).ok()?);
        }
        let (mut head, ()) = request.body(()).ok()?.into_parts();
        // Without one there is nothing more to find.
        head.headers.entry("host").or_insert(HeaderValue::from_static("localhost"));
        let frames = (0..input.byte() % 5).map(|_| {
            let count = usize::from(input.byte() % 16);
            Bytes::copy_from_slice(input.take(count))
        });
        Some((head, frames.collect(), flags & 96 == 96))
    }

    /// Whether an answer is one that may be given.
    fn judge(&mut self, asked: &Asked, answer: &Response<Bytes>) {
        let (head, status) = (&asked.head, answer.status().as_u16());
        let path = head.uri.path();
        let context = || format!("{} {} {:?} -> {answer:?}", head.method, head.uri, head.headers);
        // Of a body that is cut off nobody waits for the answer: it may say so. A ResumableJS
        // client sends a chunk again that came damaged.
        let again = !path.starts_with("/files") && head.headers.contains_key("upload-checksum");
        let passing = status == 503 && (again || !asked.body.1);
        assert!(passing || STATUSES.contains(&status), "{}", context());
        if path == "/files" || path.starts_with("/files/") {
            let version = answer.headers().get("tus-resumable");
            assert_eq!(version.map(HeaderValue::as_bytes), Some(&b"1.0.0"[..]), "I-10");
        }
        if head.headers.contains_key("origin") {
            let cors = answer.headers().contains_key("access-control-allow-origin");
            assert!(cors, "I-10: {}", context());
        }
        let offset = number(answer, "upload-offset");
        let is_patch = head.method == "PATCH" && path.starts_with("/files/");
        let written = is_patch && !head.headers.contains_key("x-http-method-override");
        if written && status == 204 {
            let (bytes, all) = asked.body;
            let at = head.headers.get("upload-offset").and_then(|at| at.to_str().ok());
            let at: u64 = at.and_then(|at| at.parse().ok()).expect("T-002");
            assert!(all, "I-02: a body cut off is no success: {}", context());
            assert_eq!(offset, Some(at + bytes), "I-02: {}", context());
        }
        if let (201, Some(location)) = (status, answer.headers().get("location")) {
            let location = location.to_str().expect("a URL").to_owned();
            let path = location.find("/files/").map(|at| location[at..].to_owned());
            self.told.entry(path.expect("T-057")).or_insert(0);
        }
    }

    /// Asks for every upload that was told of: no offset goes back, and every byte under it can be
    /// read.
    async fn look(&mut self) {
        let mut gone = Vec::new();
        for (path, told) in &mut self.told {
            let request = |method: &str| {
                let request = Request::builder().method(method).uri(path.as_str());
                let request = request.header("host", "localhost");
                request.body(Frames::cut(b"", 1)).expect("a request")
            };
            let head = self.windlass.handle(request("HEAD")).await;
            let head = whole(head.expect("answered")).await;
            match head.status().as_u16() {
                200 => {}
                404 | 410 => {
                    gone.push(path.clone());
                    continue;
                }
                status => panic!("I-06: HEAD {path} -> {status}"),
            }
            // Finals that wait for their parts have none (T-109).
            let offset = number(&head, "upload-offset").unwrap_or(0);
            assert!(offset >= *told, "I-01: {path} at {offset}, told {told}");
            *told = offset;
            let is_partial = head.headers().get("upload-concat").is_some_and(|v| v == "partial");
            let is_complete = number(&head, "upload-length") == Some(offset)
                && head.headers().contains_key("upload-offset");
            let read = self.windlass.handle(request("GET")).await;
            let read = whole(read.expect("answered")).await;
            if is_complete && !is_partial {
                assert_eq!(read.status(), 200, "F-22: {path}");
                assert_eq!(read.body().len() as u64, offset, "I-01: {path}");
            } else {
                assert_eq!(read.status(), 404, "D-51: {path}");
            }
        }
        for path in gone {
            self.told.remove(&path);
        }
    }
}

fn number(answer: &Response<Bytes>, name: &str) -> Option<u64> {
    answer.headers().get(name)?.to_str().ok()?.parse().ok()
}

/// An answer with all of its body.
async fn whole(answer: Response<windlass::wire::ReplyBody>) -> Response<Bytes> {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("memory does not fail");
    Response::from_parts(head, body.to_bytes())
}
