//! drf-chunked-upload: chunks by `PUT` with `Content-Range`, in order, then a `POST` with the
//! checksum of the whole file that completes the upload.
//!
//! `read` turns a request into an intent, `answer` words an outcome, `refuse` a refusal. A chunk
//! counts whole or not at all (P-140); an upload is complete when a request says so, and never by
//! its length.
//!
//! # Source
//! drf-chunked-upload 0.4.0 to 0.6.0, `views.py` and `serializers.py`. Rule numbers are those of
//! the wire contract.

mod answer;
mod fields;
mod read;
mod refuse;

use std::{fmt, sync::Arc, time::Duration};

use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{ALLOW, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS},
    request::Parts,
};

use self::read::Rejection;
use super::{Dialect, Exchange, Reply, cors, location::Locations, naming, reply};
use crate::{
    content::Content,
    fields::host,
    rules::{Intent, Outcome, Refused, Wait},
    upload::{Algorithm, Limits},
};

/// The methods that every answer names (P-010).
const METHODS: &str = "GET, POST, PUT, HEAD, OPTIONS";

/// The same where uploads can be removed (P-008).
const METHODS_WITH_DELETE: &str = "GET, POST, PUT, DELETE, HEAD, OPTIONS";

/// How a chunk waits for another request with the same bytes (P-146).
const CHUNK_WAIT: Wait =
    Wait { at_most: Duration::from_secs(60), stall_after: Duration::from_secs(10) };

const CORS: cors::CorsFields = cors::CorsFields {
    allow_headers: "Authorization, Content-Range, Content-Type, Origin, X-Requested-With, \
        X-Request-ID, X-CSRFToken, X-CSRF-Token",
    allow_methods: METHODS_WITH_DELETE,
    expose_headers: "Allow",
};

/// The drf-chunked-upload dialect, mounted at a path.
#[derive(Debug, Clone)]
pub struct Drf {
    config: Arc<Config>,
}

/// How one mount behaves.
#[derive(Debug, Clone)]
struct Config {
    checksum: Algorithm,
    field_name: String,
    is_list_open: bool,
    locations: Locations,
    owner_header: Option<HeaderName>,
    removes: bool,
    tus: Option<Locations>,
}

impl Drf {
    /// The dialect at the mount of `locations`, as drf-chunked-upload behaves when nothing is
    /// configured: md5, files in the form field `file`, no removal.
    pub fn new(locations: Locations) -> Self {
        let config = Config {
            checksum: Algorithm::Md5,
            field_name: "file".to_owned(),
            is_list_open: false,
            locations,
            owner_header: None,
            removes: false,
            tus: None,
        };
        Self { config: Arc::new(config) }
    }

    /// The same, but files are verified with `checksum`, which is also the name of the form field
    /// with its value, in hexadecimal.
    #[must_use]
    pub fn with_checksum(self, checksum: Algorithm) -> Self {
        self.with(|config| config.checksum = checksum)
    }

    /// The same, but chunks are in the form field `name` (P-012).
    #[must_use]
    pub fn with_field_name(self, name: impl Into<String>) -> Self {
        self.with(|config| config.field_name = name.into())
    }

    /// The same, but callers without an owner may list the uploads without one (P-133). Ids are
    /// then no secret any more.
    #[must_use]
    pub fn with_open_list(self) -> Self {
        self.with(|config| config.is_list_open = true)
    }

    /// The same, but the header field `name` says whose upload it is, where the embedding
    /// application gives no [`Owner`](super::Owner). Only behind a proxy that sets or removes it.
    #[must_use]
    pub fn with_owner_header(self, name: HeaderName) -> Self {
        self.with(|config| config.owner_header = Some(name))
    }

    /// The same, but `DELETE` removes an upload (P-008).
    #[must_use]
    pub fn with_removal(self) -> Self {
        self.with(|config| config.removes = true)
    }

    /// The same, but answers name the URL at which the file can be downloaded over tus (P-034).
    #[must_use]
    pub fn with_tus(self, locations: Locations) -> Self {
        self.with(|config| config.tus = Some(locations))
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }
}

impl Dialect for Drf {
    fn name(&self) -> &'static str {
        "drf-chunked-upload"
    }

    fn locations(&self) -> &Locations {
        &self.config.locations
    }

    fn cors(&self) -> &cors::CorsFields {
        &CORS
    }

    /// A `POST` with a form is just what a page of another site can send.
    fn is_forgeable(&self, head: &Parts) -> bool {
        !head.method.is_safe()
    }

    fn open(&self, head: &Parts) -> Box<dyn Exchange> {
        Box::new(DrfExchange::new(Arc::clone(&self.config), head))
    }
}

/// One request of a client and its answer.
struct DrfExchange {
    /// What URLs given to this client begin with: scheme and host.
    base_url: String,
    config: Arc<Config>,
    method: Method,
    owner: Option<String>,
    /// What the URLs of downloads begin with.
    tus_base_url: String,
}

#[async_trait::async_trait]
impl Exchange for DrfExchange {
    async fn read(
        &mut self,
        head: &Parts,
        content: Content,
        limits: &Limits,
    ) -> Result<(Intent, Content), Box<Reply>> {
        match read::read(self, head, content, limits).await {
            Ok(read) => Ok(read),
            Err(rejection) => Err(Box::new(self.completed(match rejection {
                Rejection::EmptyFile => refuse::empty_file(),
                Rejection::MissingChecksum => refuse::missing_checksum(self.config.checksum),
                Rejection::NotAllowed => refuse::not_allowed(&self.method),
                Rejection::NotFound => refuse::not_found(),
                Rejection::Options => reply::empty(StatusCode::NO_CONTENT),
                Rejection::PastTotal { total } => refuse::past_total(total),
                Rejection::Refused(refusal) => refuse::refuse(self, &refusal.into()),
                Rejection::UnusableRange => refuse::unusable_range(),
                Rejection::WithoutFile => refuse::without_file(),
                Rejection::WrongMediaType { given } => refuse::wrong_media_type(&given),
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

impl DrfExchange {
    fn new(config: Arc<Config>, head: &Parts) -> Self {
        // Answers name absolute URLs (P-031).
        let absolute = |locations: &Locations| match locations.base_url(head) {
            known if known.contains("://") => known,
            path => match host::decode(head) {
                Some(host) => format!("http://{host}{path}"),
                None => path,
            },
        };
        let owner = naming::owner(head, config.owner_header.as_ref()).map(naming::owner_text);
        Self {
            base_url: absolute(&config.locations),
            method: head.method.clone(),
            owner,
            tus_base_url: config.tus.as_ref().map(absolute).unwrap_or_default(),
            config,
        }
    }

    /// `reply` with what every answer says (P-010).
    fn completed(&self, mut reply: Reply) -> Reply {
        if self.method == Method::HEAD {
            reply::remove_body(&mut reply);
        }
        let methods = if self.config.removes { METHODS_WITH_DELETE } else { METHODS };
        let fields = reply.response.headers_mut();
        fields.insert(ALLOW, HeaderValue::from_static(methods));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        reply
    }
}

impl fmt::Debug for DrfExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrfExchange").field("method", &self.method).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::Full;

    use super::*;
    use crate::rules::Subject;

    fn form(field: &str) -> Content {
        let text = format!(
            "--x\r\nContent-Disposition: form-data; name=\"filename\"\r\n\r\na\r\n--x\r\n\
             Content-Disposition: form-data; name=\"{field}\"; filename=\"b\"\r\n\r\n12345\r\n--x--"
        );
        Content::new(Full::from(text))
    }

    async fn read(dialect: &Drf, method: Method, path: &str, field: &str) -> Result<Intent, u16> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-range", "bytes 0-4/9")
            .header("content-type", "multipart/form-data; boundary=x")
            .header("x-user", "u");
        let (head, ()) = request.body(()).expect("plain").into_parts();
        let mut exchange = dialect.open(&head);
        let read = exchange.read(&head, form(field), &Limits::default()).await;
        read.map(|(intent, _)| intent).map_err(|reply| reply.response.status().as_u16())
    }

    #[tokio::test]
    async fn requests_are_read_as_configured_p_008_p_012() {
        let plain = Drf::new(Locations::new("/chunked".parse().expect("a path")));
        let removing = plain.clone().with_removal();
        let chunked = plain.clone().with_field_name("chunk");
        let open = plain.clone().with_open_list();
        let owning = plain.clone().with_owner_header(HeaderName::from_static("x-user"));
        let list = |owner: Option<&str>| Ok(Intent::List { owner: owner.map(str::to_owned) });
        let removal = Intent::Terminate { of: Subject::Owned("a".parse().expect("an id"), None) };
        for (dialect, method, path, expected) in [
            (&plain, Method::DELETE, "/chunked/a", Err(405)),
            (&removing, Method::DELETE, "/chunked/a/", Ok(removal)),
            (&removing, Method::DELETE, "/chunked/", Err(405)),
            (&plain, Method::GET, "/chunked/", Err(404)),
            (&open, Method::GET, "/chunked", list(None)),
            (&owning, Method::GET, "/chunked/", list(Some("u"))),
        ] {
            assert_eq!(read(dialect, method, path, "file").await, expected, "{path}");
        }
        for (dialect, field, is_taken) in [
            (&plain, "file", true),
            (&plain, "chunk", false),
            (&chunked, "chunk", true),
            (&chunked, "file", false),
        ] {
            let read = read(dialect, Method::PUT, "/chunked/", field).await;
            assert_eq!(read.is_ok(), is_taken, "{field}");
        }
    }

    #[test]
    fn urls_are_absolute_p_031() {
        let plain = Locations::new("/chunked".parse().expect("a path"));
        let nested = plain.clone().with_outer("/media".parse().expect("a path"));
        let forwarded = Locations { trust_forwarded: true, ..plain.clone() };
        let known = Locations { public_url: "https://p/x".parse().ok(), ..nested.clone() };
        for (locations, expected) in [
            (plain, "http://h:1"),
            (nested, "http://h:1/media"),
            (forwarded, "http://h:1/up"),
            (known, "https://p/x/media"),
        ] {
            let request = Request::put("/chunked/").header("host", "h:1");
            let request = request.header("x-forwarded-prefix", "/up");
            let (head, ()) = request.body(()).expect("plain").into_parts();
            let exchange = DrfExchange::new(Drf::new(locations.clone()).config, &head);
            assert_eq!(exchange.base_url, expected, "{locations:?}");
        }
    }
}
