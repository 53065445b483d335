//! ResumableJS: resumable.js and its forks flow.js and simple-uploader.js, which cut a file into
//! numbered chunks and send them in parallel, in any order; and Dropzone, which does much the same.
//!
//! `read` turns a request into an intent: [`profile`] and `params` say what it says, `chunk` which
//! bytes it means. `answer` words an outcome, `refuse` a refusal; `status` is the resource that
//! tells in one request what the clients' tests ask chunk by chunk.
//!
//! # Source
//! resumable.js 1.0.2, 1.1.0 and its repository's head, flow.js 2.14, simple-uploader.js 0.6.0, Dropzone
//! 5.9 and 6.3. Rule numbers are those of the wire contract.

mod answer;
mod chunk;
mod params;
pub mod profile;
mod read;
mod refuse;
mod safe_name;
mod status;

use std::{fmt, sync::Arc, time::Duration};

use http::{
    HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{ACCEPT, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS},
    request::Parts,
};

pub use self::profile::{Parameter, Profile};
use self::{
    params::{Chosen, File, Params},
    profile::Answers,
    read::Unread,
    refuse::Fault,
    status::Question,
};
use super::{Dialect, Exchange, Owner, Reply, cors, location::Locations, reply};
use crate::{
    content::Content,
    rules::{Intent, Outcome, Refused, Wait},
    upload::{Key, Limits, Metadata},
};

/// The segment below the mount at which the status resource is.
const STATUS: &str = "status";

/// The largest chunk, in bytes, unless configured: far above what browsers cut, and small enough to
/// send again.
pub(crate) const MAX_CHUNK_BYTES: u64 = 256 << 20;

/// How a chunk waits for another request with the same bytes (J-024). Long: any answer would have it
/// sent once more.
const CHUNK_WAIT: Wait =
    Wait { at_most: Duration::from_secs(60), stall_after: Duration::from_secs(10) };

/// How long the answer to a chunk is delayed while the last other chunks are on their way (J-033),
/// unless configured.
const ANSWER_DELAY: Duration = Duration::from_secs(1);

/// F-32. `DELETE` is for the status resource.
const CORS: cors::Lists = cors::Lists {
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
    owner_header: Option<HeaderName>,
    profiles: Arc<[Profile]>,
    secret: Secret,
    strict_total_chunks: bool,
    tus: Option<Locations>,
}

/// What the names that clients give are hashed with.
#[derive(Clone)]
struct Secret(Vec<u8>);

impl ResumableJs {
    /// The dialect at the mount of `locations`, for clients of all four libraries with their usual
    /// names. `secret` keeps anybody from telling which name an upload's id stands for; uploads are
    /// found again only with the same one.
    pub fn new(locations: Locations, secret: impl Into<Vec<u8>>) -> Self {
        let profiles =
            [Profile::resumable(), Profile::flow(), Profile::simple(), Profile::dropzone()];
        let config = Config {
            answer_delay: ANSWER_DELAY,
            denial_is_not_found: false,
            locations,
            max_chunk_bytes: MAX_CHUNK_BYTES,
            owner_header: None,
            profiles: Arc::new(profiles),
            secret: Secret(secret.into()),
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

    /// The same, but the answer to a chunk is delayed at most so long while the last other chunks are
    /// on their way, so that whichever answer a page reads last says complete (J-033). Zero: not at
    /// all; 1 s otherwise.
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

    /// The same, but the header field `name` says whose upload it is, where the embedding
    /// application gives no [`Owner`]. Only behind a proxy that sets or removes it (S-002).
    #[must_use]
    pub fn with_owner_header(self, name: HeaderName) -> Self {
        self.with(|config| config.owner_header = Some(name))
    }

    /// The same, but callers who may not upload are told 404, which makes every client stop, and
    /// not 401 or 403, on which pages can act.
    #[must_use]
    pub fn with_denial_as_not_found(self) -> Self {
        self.with(|config| config.denial_is_not_found = true)
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }

    /// The key under which `owner` has the upload of a file: what another dialect binds its upload
    /// to so that clients of this one continue it (J-054).
    pub fn key(&self, owner: Option<&[u8]>, identifier: &str, name: &str, path: &str) -> Key {
        self.config.key(owner, identifier, name, path)
    }

    /// Whether the query of `head` names a chunk in the words of one of the libraries.
    pub(super) fn is_spoken_in(&self, head: &Parts) -> bool {
        let mut params = Params::new(Arc::clone(&self.config.profiles));
        params.add_query(head.uri.query().unwrap_or_default());
        params.choose(&[Parameter::ChunkNumber, Parameter::Identifier]).is_ok()
    }

    /// The key that `metadata`, sent with `head` in another dialect, stands for (J-054). `None` when
    /// no client of this one could send such names.
    pub(super) fn key_of(&self, head: &Parts, metadata: &Metadata) -> Option<Key> {
        let file = File::described_by(metadata)?;
        Some(self.config.key_of(head, &file))
    }

    /// Whether it is known who sends the request with `head` (S-002).
    pub(super) fn has_owner(&self, head: &Parts) -> bool {
        self.config.owner(head).is_some()
    }
}

impl Config {
    /// S-001. The size of the file is not in it, so that a changed one is noticed.
    fn key(&self, owner: Option<&[u8]>, identifier: &str, name: &str, path: &str) -> Key {
        let names = [
            owner.unwrap_or_default(),
            self.locations.mount.prefix().as_bytes(),
            identifier.as_bytes(),
            name.as_bytes(),
            path.as_bytes(),
        ];
        Key::new(&self.secret.0, &names)
    }

    /// Who sends the request with `head`, if anything says so (S-002).
    fn owner<'h>(&self, head: &'h Parts) -> Option<&'h [u8]> {
        let owner = head.extensions.get::<Owner>();
        let owner = owner.map(|Owner(name)| name.as_bytes()).or_else(|| {
            let name = self.owner_header.as_ref()?;
            Some(head.headers.get(name)?.as_bytes())
        });
        // Without a name it is anybody.
        owner.filter(|owner| !owner.is_empty())
    }

    /// The key of `file` for whoever sends the request with `head`.
    fn key_of(&self, head: &Parts, file: &File) -> Key {
        let owner = self.owner(head);
        let name = file.name.as_deref().unwrap_or_default();
        let path = file.path.as_deref().unwrap_or_default();
        self.key(owner, &file.identifier, name, path)
    }
}

impl Dialect for ResumableJs {
    fn name(&self) -> &'static str {
        "ResumableJS"
    }

    fn locations(&self) -> &Locations {
        &self.config.locations
    }

    fn cors(&self) -> &cors::Lists {
        &CORS
    }

    /// A chunk in a form is just what a page of another site can send. Methods are not overridden here.
    fn is_forgeable(&self, head: &Parts) -> bool {
        !head.method.is_safe()
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
    asked: Asked,
    chosen: Option<Chosen>,
    config: Arc<Config>,
    /// Whether it is known whose uploads the names of the request lead to.
    has_owner: bool,
    /// What the client calls the file, for the answer.
    identifier: Option<String>,
    method: Method,
    /// What the URLs of this client begin with.
    start: String,
    version: Version,
}

/// What a request asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Asked {
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
            Err(unread) => Err(Box::new(self.completed(match unread {
                Unread::Fault(fault) => refuse::fault(self, &fault),
                Unread::NotAllowed { allow } => refuse::not_allowed(allow),
                // Always, and of anybody: browsers send no credentials with it (F-32).
                Unread::Options => reply::empty(StatusCode::NO_CONTENT),
                Unread::Refused(refusal) => refuse::refuse(self, &refusal.into()),
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
        let start = config.tus.as_ref().map(|tus| tus.start(head));
        let has = |name, value: &str| head.headers.get(name).is_some_and(|given| given == value);
        let script = HeaderName::from_static("x-requested-with");
        Self {
            asks_as_dropzone: has(ACCEPT, "application/json") && has(script, "XMLHttpRequest"),
            asked: Asked::Nothing,
            chosen: None,
            has_owner: config.owner(head).is_some(),
            config,
            identifier: None,
            method: head.method.clone(),
            start: start.unwrap_or_default(),
            version: head.version,
        }
    }

    /// `reply` with what every answer says, and without what this one must not have (S-012): a
    /// cached 200 would be data loss once the upload has expired.
    fn completed(&self, mut reply: Reply) -> Reply {
        if self.method == Method::HEAD {
            reply::remove_body(&mut reply);
        }
        let fields = reply.headers_mut();
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

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::Request;
    use http_body_util::BodyExt as _;
    use serde_json::Value;

    use super::*;
    use crate::upload::{Change, Completion, Phase, Role, Upload};

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
        let mut head = reply.status().as_u16().to_string();
        for (name, expected) in [(CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")] {
            assert_eq!(reply.headers().get(&name).expect("S-012"), expected);
        }
        let has_json = reply.headers().get("content-type")
            == Some(&"application/json".parse().expect("plain"));
        let mut lines: Vec<_> = reply
            .headers()
            .iter()
            .map(|(name, value)| format!("\n{name}: {}", value.to_str().expect("ASCII")))
            .collect();
        lines.retain(|line| {
            let common = ["\ncache-control", "\ncontent-type", "\nx-content-type-options"];
            !common.iter().any(|name| line.starts_with(name))
        });
        lines.sort_unstable();
        head.extend(lines);
        let bytes = reply.into_body().collect().await.expect("text").to_bytes();
        assert_eq!(bytes.is_empty(), !has_json);
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        (head, body)
    }

    #[test]
    fn metadata_of_tus_names_the_same_file_j_054() {
        let head = head("POST /files");
        for (entries, expected) in [
            (
                &[
                    ("resumableIdentifier", "3-ab"),
                    ("filename", "a\r\nb"),
                    ("relativePath", "x/ab"),
                    ("filetype", "text/plain"),
                ][..],
                Some(("3-ab", "a\nb", "x/ab")),
            ),
            (&[("resumableIdentifier", "i"), ("relativePath", "/dir/a")], Some(("i", "", "dir/a"))),
            (&[("resumableIdentifier", "i"), ("relativePath", "\\")], Some(("i", "", ""))),
            (&[("resumableIdentifier", "i")], Some(("i", "", ""))),
            (&[("filename", "a")], None),
            (&[("resumableIdentifier", ""), ("filename", "a")], None),
            (&[("resumableIdentifier", "i"), ("relativePath", "../a")], None),
        ] {
            let metadata = Metadata::from_entries(entries.iter().copied()).expect("plain keys");
            let dialect = dialect().with_owner_header(HeaderName::from_static("x-owner"));
            let expected = expected.map(|(id, name, path)| dialect.key(None, id, name, path));
            assert_eq!(dialect.key_of(&head, &metadata), expected, "{entries:?}");
        }
        let long = "x".repeat(4097);
        let entries = [("resumableIdentifier", long.as_str())];
        let metadata = Metadata::from_entries(entries).expect("plain keys");
        assert_eq!(dialect().key_of(&head, &metadata), None);
    }

    #[test]
    fn keys_depend_on_owner_route_and_names_s_001_f_36_f_37() {
        let key = |dialect: &ResumableJs, owner: Option<&str>, names: [&str; 3]| {
            let [id, name, path] = names;
            dialect.key(owner.map(str::as_bytes), id, name, path).to_id()
        };
        let dialect = dialect();
        let usual = key(&dialect, Some("o"), ["i", "n", "p"]);
        assert_eq!(usual, key(&dialect, Some("o"), ["i", "n", "p"]));
        let other_route =
            ResumableJs::new(Locations::new("/b".parse().expect("a path")), *b"secret");
        let other_secret =
            ResumableJs::new(Locations::new("/up".parse().expect("a path")), *b"other");
        for other in [
            key(&dialect, None, ["i", "n", "p"]),
            key(&dialect, Some("p"), ["i", "n", "p"]),
            key(&dialect, Some("o"), ["j", "n", "p"]),
            key(&dialect, Some("o"), ["i", "m", "p"]),
            key(&dialect, Some("o"), ["i", "n", "q"]),
            key(&dialect, Some("o"), ["in", "", "p"]),
            key(&other_route, Some("o"), ["i", "n", "p"]),
            key(&other_secret, Some("o"), ["i", "n", "p"]),
        ] {
            assert_ne!(other, usual);
        }
        // Two names of equal length that the clients' usual identifier does not tell apart.
        assert_ne!(
            key(&dialect, None, ["12-txt", "你好.txt", "你好.txt"]),
            key(&dialect, None, ["12-txt", "再见.txt", "再见.txt"])
        );
    }

    #[test]
    fn owners_come_from_the_application_or_a_header_s_002() {
        let file = File { identifier: "i".to_owned(), kind: None, name: None, path: None };
        let dialect = dialect().with_owner_header(HeaderName::from_static("x-user"));
        let key = |lines: &str, owner: Option<&str>| {
            let mut head = head(lines);
            if let Some(owner) = owner {
                head.extensions.insert(Owner(owner.to_owned()));
            }
            dialect.config.key_of(&head, &file)
        };
        let of = |owner: Option<&str>| dialect.key(owner.map(str::as_bytes), "i", "", "");
        assert_eq!(key("GET /up", None), of(None));
        assert_eq!(key("GET /up\nX-User: a", None), of(Some("a")));
        assert_eq!(key("GET /up\nX-User: a", Some("b")), of(Some("b")));
        for (lines, expected) in
            [("GET /up", false), ("GET /up\nX-User:", false), ("GET /up\nX-User: a", true)]
        {
            assert_eq!(exchange_with(&dialect, lines).has_owner, expected, "{lines}");
        }
        let unread = super::tests::dialect().config.key_of(&head("GET /up\nX-User: a"), &file);
        assert_eq!(unread, of(None), "a header that is not configured");
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
