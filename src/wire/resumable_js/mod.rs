//! ResumableJS: resumable.js and its forks flow.js and simple-uploader.js, which cut a file into
//! numbered chunks and send them in parallel, in any order; and Dropzone, which does much the same.
//!
//! `read` turns a request into an intent: [`profile`] and `params` say what it says, `chunk` which
//! bytes it means. `answer` words an outcome, `refuse` a refusal; `status` is the resource that
//! tells in one request what the clients' tests ask chunk by chunk.
//!
//! # Source
//! resumable.js 1.0.2, 1.1.0 and its repository's head, flow.js 2.14, simple-uploader.js 0.6.0,
//! Dropzone 5.9 and 6.3. Rule numbers are those of the wire contract.

mod answer;
mod chunk;
mod params;
pub mod profile;
mod read;
mod refuse;
mod status;

use std::{fmt, sync::Arc, time::Duration};

use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{ACCEPT, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS},
    request::Parts,
};

pub use self::profile::{Parameter, Profile};
use self::{
    params::{Chosen, Params},
    profile::Answers,
    read::Rejection,
    refuse::Fault,
    status::Question,
};
use super::{Dialect, Exchange, Naming, Reply, cors, location::Locations, reply};
use crate::{
    content::Content,
    rules::{Intent, Outcome, Refused, Wait},
    upload::Limits,
};

/// The segment below the mount at which the status resource is.
const STATUS: &str = "status";

/// The largest chunk, in bytes, unless configured: far above what browsers cut, and small enough to
/// send again.
pub(crate) const MAX_CHUNK_BYTES: u64 = 256 << 20;

/// How a chunk waits for another request with the same bytes (J-024). Long: any answer would have
/// it sent once more.
const CHUNK_WAIT: Wait =
    Wait { at_most: Duration::from_secs(60), stall_after: Duration::from_secs(10) };

/// How long the answer to a chunk is delayed while the last other chunks are on their way (J-033),
/// unless configured.
const ANSWER_DELAY: Duration = Duration::from_secs(1);

/// F-32. `DELETE` is for the status resource.
const CORS: cors::CorsFields = cors::CorsFields {
    // Dropzone sends `Cache-Control`.
    allow_headers: "Authorization, Cache-Control, Content-Type, Origin, X-Requested-With, \
        X-Request-ID, X-CSRF-Token, X-XSRF-Token, Checksum, Upload-Checksum",
    allow_methods: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    expose_headers: "Location, Upload-Offset, Upload-Length, Upload-Expires, Upload-Missing, \
        Retry-After",
};

/// How long a refused chunk is read to its end.
const DRAIN_TIME: Duration = Duration::from_secs(30);

/// The ResumableJS dialect, mounted at a path.
#[derive(Debug, Clone)]
pub struct ResumableJs {
    config: Arc<Config>,
}

/// How one mount behaves.
#[derive(Debug, Clone)]
struct Config {
    answer_delay: Duration,
    denial_is_not_found: bool,
    locations: Locations,
    max_chunk_bytes: u64,
    naming: Naming,
    profiles: Arc<[Profile]>,
    strict_total_chunks: bool,
    tus: Option<Locations>,
}

impl ResumableJs {
    /// The dialect at the mount of `locations`, for clients of all four libraries with their usual
    /// names. `secret` keeps others from computing which name an upload's id stands for; uploads
    /// are found again only with the same one.
    pub fn new(locations: Locations, secret: impl Into<Vec<u8>>) -> Self {
        let profiles =
            [Profile::resumable(), Profile::flow(), Profile::simple(), Profile::dropzone()];
        let config = Config {
            answer_delay: ANSWER_DELAY,
            denial_is_not_found: false,
            max_chunk_bytes: MAX_CHUNK_BYTES,
            naming: Naming::new(&locations.mount, secret),
            locations,
            profiles: Arc::new(profiles),
            strict_total_chunks: false,
            tus: None,
        };
        Self { config: Arc::new(config) }
    }

    /// The same for clients that use the names of one of `profiles`, and no others (J-004).
    #[must_use]
    pub fn with_profiles(self, profiles: impl IntoIterator<Item = Profile>) -> Self {
        let profiles = profiles.into_iter().collect();
        self.with(|config| config.profiles = profiles)
    }

    /// The same, but chunks have at most `bytes` bytes (S-008). The last chunk of a file may be
    /// twice as large as the others, less a byte.
    #[must_use]
    pub fn with_max_chunk_bytes(self, bytes: u64) -> Self {
        self.with(|config| config.max_chunk_bytes = bytes)
    }

    /// The same, but the answer to a chunk is delayed at most so long while the last other chunks
    /// are on their way, so that whichever answer a page reads last says complete (J-033). Zero:
    /// not at all; 1 s otherwise.
    #[must_use]
    pub fn with_answer_delay(self, delay: Duration) -> Self {
        self.with(|config| config.answer_delay = delay)
    }

    /// The same, but the number of chunks that a client announces must be the true one (J-015).
    /// Files of resumable.js 1.1.0 fail now and then under this: it counts too early.
    #[must_use]
    pub fn with_strict_total_chunks(self) -> Self {
        self.with(|config| config.strict_total_chunks = true)
    }

    /// The same, but answers name the URL at which tus clients find the upload (J-055).
    #[must_use]
    pub fn with_tus(self, locations: Locations) -> Self {
        self.with(|config| config.tus = Some(locations))
    }

    /// The same, but the header field `name` says whose upload it is; see
    /// [`Naming::with_owner_header`].
    #[must_use]
    pub fn with_owner_header(self, name: HeaderName) -> Self {
        self.with(|config| config.naming.set_owner_header(name))
    }

    /// What the names of clients lead to. Another dialect with the same naming finds the uploads of
    /// this one (J-054).
    pub fn naming(&self) -> &Naming {
        &self.config.naming
    }

    /// The same, but callers who may not upload get 404, which makes every client stop, and
    /// not 401 or 403, on which pages can act.
    #[must_use]
    pub fn with_denial_as_not_found(self) -> Self {
        self.with(|config| config.denial_is_not_found = true)
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }
}

impl Dialect for ResumableJs {
    fn name(&self) -> &'static str {
        "ResumableJS"
    }

    fn locations(&self) -> &Locations {
        &self.config.locations
    }

    fn cors(&self) -> &cors::CorsFields {
        &CORS
    }

    /// A chunk in a form is just what a page of another site can send. Methods are not overridden
    /// here.
    fn is_forgeable(&self, head: &Parts) -> bool {
        !head.method.is_safe()
    }

    /// By a query that names a chunk in the words of one of the libraries.
    fn recognizes(&self, head: &Parts) -> bool {
        let mut params = Params::new(Arc::clone(&self.config.profiles));
        params.add_query(head.uri.query().unwrap_or_default());
        params.choose(&[Parameter::ChunkNumber, Parameter::Identifier]).is_ok()
    }

    /// A whole chunk: its client takes a reset for a passing trouble, and sends it again.
    fn drain(&self) -> (u64, Duration) {
        (self.config.max_chunk_bytes, DRAIN_TIME)
    }

    fn open(&self, head: &Parts) -> Box<dyn Exchange> {
        Box::new(ResumableJsExchange::new(Arc::clone(&self.config), head))
    }
}

/// One request of a client and its answer.
struct ResumableJsExchange {
    /// Whether the request has the header fields by which Dropzone tells what it is.
    asks_as_dropzone: bool,
    kind: RequestKind,
    chosen: Option<Chosen>,
    config: Arc<Config>,
    /// Whether it is known whose uploads the names of the request lead to.
    has_owner: bool,
    /// What the client calls the file, for the answer.
    identifier: Option<String>,
    method: Method,
    /// What the URLs of this client begin with.
    start: String,
}

/// What a request asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum RequestKind {
    /// Nothing that was understood.
    #[default]
    Nothing,
    /// Whether bytes are present.
    Presence,
    /// The upload gone.
    Removal,
    /// What is there.
    Status(Question),
    /// Bytes stored.
    Write,
}

#[async_trait::async_trait]
impl Exchange for ResumableJsExchange {
    async fn read(
        &mut self,
        head: &Parts,
        content: Content,
        limits: &Limits,
    ) -> Result<(Intent, Content), Box<Reply>> {
        match read::read(self, head, content, limits).await {
            Ok(read) => Ok(read),
            Err(rejection) => Err(Box::new(self.completed(match rejection {
                Rejection::Fault(fault) => refuse::fault(self, &fault),
                Rejection::NotAllowed { allow } => refuse::not_allowed(allow),
                // Always: browsers send no credentials with it (F-32).
                Rejection::Options => reply::empty(StatusCode::NO_CONTENT),
                Rejection::Refused(refusal) => refuse::refuse(self, &refusal.into()),
            }))),
        }
    }

    fn answer(&mut self, result: Result<Outcome, Refused>) -> Reply {
        self.completed(match result {
            Ok(outcome) => answer::answer(self, outcome),
            Err(refused) => refuse::refuse(self, &refused),
        })
    }
}

impl ResumableJsExchange {
    fn new(config: Arc<Config>, head: &Parts) -> Self {
        let start = config.tus.as_ref().map(|tus| tus.base_url(head));
        let has = |name, value: &str| head.headers.get(name).is_some_and(|given| given == value);
        let script = HeaderName::from_static("x-requested-with");
        Self {
            asks_as_dropzone: has(ACCEPT, "application/json") && has(script, "XMLHttpRequest"),
            kind: RequestKind::Nothing,
            chosen: None,
            has_owner: config.naming.owner(head).is_some(),
            config,
            identifier: None,
            method: head.method.clone(),
            start: start.unwrap_or_default(),
        }
    }

    /// `reply` with what every answer says, and without what this one must not have (S-012): a
    /// cached 200 would be data loss once the upload has expired.
    fn completed(&self, mut reply: Reply) -> Reply {
        if self.method == Method::HEAD {
            reply::remove_body(&mut reply);
        }
        let fields = reply.response.headers_mut();
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        reply
    }

    /// What this client calls `parameter`, once that is known.
    fn name(&self, parameter: Parameter) -> Option<String> {
        Some(self.chosen.as_ref()?.name(parameter))
    }

    /// What the client's library reads in answers. What is told before it is known goes to whoever
    /// sends no parameters at all: Dropzone does that with small files.
    fn answers(&self) -> Answers {
        let has_texts = || self.config.profiles.iter().any(|p| p.answers() == Answers::Texts);
        match &self.chosen {
            Some(chosen) => chosen.profile().answers(),
            None if self.asks_as_dropzone && has_texts() => Answers::Texts,
            None => Answers::Objects,
        }
    }

    /// The fault of naming another file size than the upload has (J-017).
    fn wrong_total(&self, known: Option<u64>, given: u64) -> Fault {
        let known = known.map_or("of unknown size".to_owned(), |known| format!("{known} bytes"));
        let message = format!("the upload is {known}, the request says {given} bytes");
        Fault {
            param: self.name(Parameter::TotalSize),
            ..Fault::new(refuse::TOTAL_SIZE_MISMATCH, message)
        }
    }
}

impl fmt::Debug for ResumableJsExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumableJsExchange").field("method", &self.method).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::Request;
    use http_body_util::BodyExt as _;
    use serde_json::Value;

    use super::*;
    use crate::upload::{Change, Completion, Metadata, Phase, Role, Upload};

    /// The dialect as the tests use it: at `/up`, beside tus at `/files`.
    pub(super) fn dialect() -> ResumableJs {
        let locations = |path: &str| Locations::new(path.parse().expect("a path"));
        ResumableJs::new(locations("/up"), *b"secret").with_tus(locations("/files"))
    }

    /// The exchange that begins with `lines`: a request line, then fields.
    pub(super) fn exchange(lines: &str) -> ResumableJsExchange {
        exchange_with(&dialect(), lines)
    }

    pub(super) fn exchange_with(dialect: &ResumableJs, lines: &str) -> ResumableJsExchange {
        ResumableJsExchange::new(Arc::clone(&dialect.config), &head(lines))
    }

    /// The head that `lines` are.
    pub(super) fn head(lines: &str) -> Parts {
        let (line, fields) = lines.split_once('\n').unwrap_or((lines, ""));
        let (method, target) = line.split_once(' ').expect("a method and a target");
        let request = Request::builder().method(method).uri(target);
        let request = fields.lines().fold(request, |request, line| {
            let (name, value) = line.trim().split_once(':').expect("a field");
            request.header(name, value.trim())
        });
        request.body(()).expect("a plain request").into_parts().0
    }

    /// An upload of `total` bytes called `a/b.txt` that holds `held`.
    pub(super) fn upload(total: u64, held: &[(u64, u64)]) -> Arc<Upload> {
        let metadata = Metadata::from_entries([("filename", "a/b.txt")]).expect("plain");
        let created = Change::Created {
            completion: Completion::WhenFull,
            length: Some(total),
            metadata,
            key: None,
            owner: None,
            role: Role::Whole,
            at: UNIX_EPOCH,
        };
        let id = "u".parse().expect("an id");
        let mut upload = Upload::new(id, &created).expect("created comes first");
        upload.received = held.to_vec().into();
        if upload.is_full() {
            upload.phase = Phase::Complete { at: UNIX_EPOCH };
        }
        Arc::new(upload)
    }

    /// Status and header fields of an answer, sorted and without those of every answer, and its
    /// body.
    pub(super) async fn told(reply: Reply) -> (String, Value) {
        let mut head = reply.response.status().as_u16().to_string();
        for (name, expected) in [(CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")] {
            assert_eq!(reply.response.headers().get(&name).expect("S-012"), expected);
        }
        let has_json = reply.response.headers().get("content-type")
            == Some(&"application/json".parse().expect("plain"));
        let mut lines: Vec<_> = reply
            .response
            .headers()
            .iter()
            .map(|(name, value)| format!("\n{name}: {}", value.to_str().expect("ASCII")))
            .collect();
        lines.retain(|line| {
            let common = ["\ncache-control", "\ncontent-type", "\nx-content-type-options"];
            !common.iter().any(|name| line.starts_with(name))
        });
        lines.extend(reply.close.then(|| "\nconnection: close".to_owned()));
        lines.sort_unstable();
        head.extend(lines);
        let bytes = reply.response.into_body().collect().await.expect("text").to_bytes();
        assert_eq!(bytes.is_empty(), !has_json);
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        (head, body)
    }

    #[test]
    fn exchanges_know_whether_they_have_an_owner_s_002() {
        let dialect = dialect().with_owner_header(HeaderName::from_static("x-user"));
        for (lines, expected) in
            [("GET /up", false), ("GET /up\nX-User:", false), ("GET /up\nX-User: a", true)]
        {
            assert_eq!(exchange_with(&dialect, lines).has_owner, expected, "{lines}");
        }
    }

    #[test]
    fn lists_name_what_browsers_need_without_wildcard_f_32() {
        for name in ["Upload-Offset", "Upload-Missing", "Location", "Retry-After"] {
            assert!(CORS.expose_headers.split(", ").any(|listed| listed == name), "{name}");
        }
        for name in ["GET", "HEAD", "POST", "PUT", "PATCH"] {
            assert!(CORS.allow_methods.split(", ").any(|listed| listed == name), "{name}");
        }
        assert!(CORS.allow_headers.contains("Content-Type"));
        let all = [CORS.allow_headers, CORS.allow_methods, CORS.expose_headers].concat();
        assert!(!all.contains('*'));
    }

    #[test]
    fn secrets_and_queries_are_not_printed() {
        let printed = format!("{:?} {:?}", dialect(), exchange("GET /up?token=hidden"));
        assert!(!printed.contains("hidden") && !printed.contains("115"), "{printed}");
    }
}
