//! tus 1.0 and its extensions: creation, creation-with-upload, creation-defer-length, expiration,
//! checksum, checksum-trailer, termination, concatenation.
//!
//! `read` turns a request head into an intent, `answer` an outcome into an answer, `refuse` a
//! refusal. What the three share, and what every answer says, is here.
//!
//! # Source
//! tus resumable upload protocol 1.0.0 (2016-03-25). Rule numbers are those of its wire contract.

mod answer;
mod read;
mod refuse;

use std::{fmt, sync::Arc};

use http::{
    HeaderName, HeaderValue, Method,
    header::{CACHE_CONTROL, CONTENT_LENGTH, X_CONTENT_TYPE_OPTIONS},
    request::Parts,
};

use self::read::Rejection;
use super::{Dialect, Exchange, Naming, Reply, cors, location::Locations, naming, reply};
use crate::{
    content::Content,
    fields::{tus_resumable, x_http_method_override},
    rules::{Intent, Outcome, Refused},
    upload::{Limits, UploadId},
};

const TUS_CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");
const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");

/// D-57. What the IETF draft needs is listed too: clients of both share a path.
const CORS: cors::CorsFields = cors::CorsFields {
    allow_headers: "Authorization, Content-Type, Origin, X-Requested-With, X-Request-ID, \
        X-HTTP-Method-Override, Tus-Resumable, Upload-Length, Upload-Offset, Upload-Metadata, \
        Upload-Defer-Length, Upload-Concat, Upload-Checksum, Upload-Complete, Upload-Incomplete, \
        Upload-Draft-Interop-Version",
    allow_methods: "POST, HEAD, PATCH, OPTIONS, GET, DELETE",
    expose_headers: "Location, Upload-Offset, Upload-Length, Upload-Metadata, \
        Upload-Defer-Length, Upload-Concat, Upload-Expires, Tus-Version, Tus-Resumable, \
        Tus-Max-Size, Tus-Extension, Tus-Checksum-Algorithm, Upload-Complete, Upload-Incomplete, \
        Upload-Draft-Interop-Version, Upload-Limit, Retry-After",
};

/// tus 1.0, mounted at a path.
#[derive(Debug, Clone)]
pub struct Tus {
    config: Arc<Config>,
}

/// How one mount behaves.
#[derive(Debug, Clone)]
struct Config {
    locations: Locations,
    naming: Option<Naming>,
    /// The dialect that clients may take this one for.
    other: Option<Arc<dyn Dialect>>,
}

impl Tus {
    /// tus 1.0 for the uploads at `locations`.
    pub fn new(locations: Locations) -> Self {
        Self { config: Arc::new(Config { locations, naming: None, other: None }) }
    }

    /// The same, but an upload whose metadata has a `resumableIdentifier` (and `filename` and
    /// `relativePath`, if its client sends them) is the one that clients of another dialect with
    /// this `naming` know by these names, so that either side continues what the other has begun
    /// (J-054). Not one of unknown length, and not a part of another.
    #[must_use]
    pub fn with_naming(mut self, naming: Naming) -> Self {
        Arc::make_mut(&mut self.config).naming = Some(naming);
        self
    }

    /// Answers requests that are meant for `other` with a hint that names its path.
    #[must_use]
    pub fn beside(mut self, other: impl Dialect) -> Self {
        Arc::make_mut(&mut self.config).other = Some(Arc::new(other));
        self
    }
}

impl Dialect for Tus {
    fn name(&self) -> &'static str {
        "tus"
    }

    fn locations(&self) -> &Locations {
        &self.config.locations
    }

    fn cors(&self) -> &cors::CorsFields {
        &CORS
    }

    /// Never: no form can send `Tus-Resumable` or `X-HTTP-Method-Override`, and without the one or
    /// the other nothing is changed (D-57).
    fn is_forgeable(&self, _head: &Parts) -> bool {
        false
    }

    fn open(&self, head: &Parts) -> Box<dyn Exchange> {
        Box::new(TusExchange::new(self, head))
    }
}

/// The method meant. A browser's own question is never anything else (D-06), and neither is
/// `CONNECT`: HTTP has no answer to it that would look like a success of another method.
fn method(head: &Parts) -> Method {
    let meant = x_http_method_override::decode(&head.headers);
    let is_itself = cors::is_preflight(head) || head.method == Method::CONNECT;
    meant.filter(|_| !is_itself).unwrap_or_else(|| head.method.clone())
}

/// One request in tus and its answer.
struct TusExchange {
    config: Arc<Config>,
    /// What a `GET` of a tus client wants if its upload turns out to be one that can be read.
    fetch: Option<Intent>,
    /// The method meant.
    method: Method,
    /// The method that frames the answer.
    real_method: Method,
    /// What the URLs of this client begin with.
    start: String,
    /// Whether a download has the fields of a `HEAD` as well.
    tells_status: bool,
}

#[async_trait::async_trait]
impl Exchange for TusExchange {
    async fn read(
        &mut self,
        head: &Parts,
        content: Content,
        limits: &Limits,
    ) -> Result<(Intent, Content), Box<Reply>> {
        read::read(self, head, content, limits).map_err(|rejection| {
            Box::new(self.completed(match rejection {
                Rejection::NotAllowed { allow } => refuse::not_allowed(allow),
                Rejection::OtherDialect => refuse::other_dialect(self),
                Rejection::Refused(refusal) => refuse::refuse(self, &refusal.into()),
            }))
        })
    }

    fn next(&mut self, result: &Result<Outcome, Refused>) -> Option<Intent> {
        match result {
            Ok(Outcome::Status { upload }) if upload.is_published() => self.fetch.take(),
            Ok(_) | Err(_) => None,
        }
    }

    fn answer(&mut self, result: Result<Outcome, Refused>) -> Reply {
        self.completed(match result {
            Ok(outcome) => answer::answer(self, outcome),
            Err(refused) => refuse::refuse(self, &refused),
        })
    }
}

impl TusExchange {
    fn new(dialect: &Tus, head: &Parts) -> Self {
        let method = method(head);
        Self {
            config: Arc::clone(&dialect.config),
            fetch: None,
            method,
            real_method: head.method.clone(),
            start: dialect.config.locations.base_url(head),
            tells_status: false,
        }
    }

    /// Who sends the request with `head`, as records hold it.
    fn owner(&self, head: &Parts) -> Option<String> {
        let owner = match &self.config.naming {
            Some(naming) => naming.owner(head),
            None => naming::owner(head, None),
        };
        owner.map(naming::owner_text)
    }

    /// Whether the answer says how the upload stands: to a `HEAD`, also to one that a cache has
    /// turned into a `GET` (D-61).
    fn is_about_status(&self) -> bool {
        self.method == Method::HEAD || self.fetch.is_some()
    }

    /// `reply` with what every answer says (0.4, I-10), and without what this one must not have.
    fn completed(&self, mut reply: Reply) -> Reply {
        if [&self.method, &self.real_method].contains(&&Method::HEAD) {
            reply::remove_body(&mut reply);
        }
        let fields = reply.response.headers_mut();
        if self.method == Method::HEAD && self.real_method != Method::HEAD {
            // It would be the length of this answer, which has no body.
            fields.remove(CONTENT_LENGTH);
        }
        fields.insert(tus_resumable::NAME, tus_resumable::VERSION);
        fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // A cached offset or 404 is fatal (D-60); downloads have said already how they are cached.
        fields.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        reply
    }
}

impl fmt::Debug for TusExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TusExchange").field("method", &self.method).finish_non_exhaustive()
    }
}

/// The entity tag of a complete upload. Strong, because its bytes never change (D-51).
fn etag(id: &UploadId) -> HeaderValue {
    HeaderValue::try_from(format!("\"{id}\"")).expect("ids are plain characters")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// The exchange that begins with `lines`, for uploads under `/files`.
    pub(super) fn exchange(lines: &str) -> TusExchange {
        TusExchange::new(&tus("/files"), &head(lines))
    }

    /// The dialect for uploads under `mount`.
    pub(super) fn tus(mount: &str) -> Tus {
        Tus::new(Locations::new(mount.parse().expect("a path")))
    }

    /// The head that `lines` are: a request line, then fields.
    pub(super) fn head(lines: &str) -> Parts {
        let (line, fields) = lines.split_once('\n').unwrap_or((lines, ""));
        let mut words = line.trim().split(' ');
        let request = Request::builder()
            .method(words.next().expect("a method"))
            .uri(words.next().expect("a target"));
        let request = fields.lines().fold(request, |request, line| {
            let (name, value) = line.trim().split_once(':').expect("a field");
            request.header(name, value.trim())
        });
        request.body(()).expect("a plain request").into_parts().0
    }

    /// Status and header fields, one a line, the fields of every answer left out once seen.
    pub(super) fn head_of(reply: &Reply) -> String {
        let mut head = reply.response.status().as_u16().to_string();
        for (name, expected) in [
            (tus_resumable::NAME, Some("1.0.0")),
            (X_CONTENT_TYPE_OPTIONS, Some("nosniff")),
            (CACHE_CONTROL, None),
        ] {
            let value = reply.response.headers().get(&name).expect("every answer has it");
            assert!(expected.is_none_or(|expected| value == expected), "{name:?}: {value:?}");
        }
        for (name, value) in reply.response.headers() {
            let value = value.to_str().expect("printable ASCII");
            let is_common = matches!(name.as_str(), "tus-resumable" | "x-content-type-options")
                || (name == CACHE_CONTROL && value == "no-store");
            if !is_common {
                head.push_str(&format!("\n{name}: {value}"));
            }
        }
        if reply.close {
            head.push_str("\nconnection: close");
        }
        head
    }

    #[test]
    fn override_names_the_method_meant_t_011_d_06() {
        for (lines, expected) in [
            ("POST /files/a\nX-HTTP-Method-Override: PATCH", "PATCH"),
            ("GET /files/a\nX-HTTP-Method-Override: delete", "DELETE"),
            ("PATCH /files/a", "PATCH"),
            ("CONNECT /files/a\nX-HTTP-Method-Override: GET", "CONNECT"),
            ("OPTIONS /files/a\nX-HTTP-Method-Override: DELETE", "DELETE"),
            (
                "OPTIONS /files/a\nOrigin: http://a\nAccess-Control-Request-Method: POST\n\
                 X-HTTP-Method-Override: DELETE",
                "OPTIONS",
            ),
        ] {
            assert_eq!(exchange(lines).method, expected, "{lines}");
        }
    }

    #[test]
    fn lists_name_every_field_without_wildcard_d_57() {
        for name in [
            "Tus-Resumable",
            "Upload-Length",
            "Upload-Offset",
            "Upload-Metadata",
            "Upload-Defer-Length",
            "Upload-Concat",
            "Upload-Checksum",
            "X-HTTP-Method-Override",
            "Content-Type",
        ] {
            assert!(CORS.allow_headers.split(", ").any(|listed| listed == name), "{name}");
        }
        for name in ["Location", "Upload-Offset", "Upload-Length", "Upload-Expires", "Retry-After"]
        {
            assert!(CORS.expose_headers.split(", ").any(|listed| listed == name), "{name}");
        }
        assert!(
            ![CORS.allow_headers, CORS.expose_headers, CORS.allow_methods].concat().contains('*')
        );
    }
}
