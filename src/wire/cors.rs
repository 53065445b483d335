//! [`Cors`]: which pages of other origins may use this server from a browser. One policy for all
//! dialects: what pages may read and ask for is added to every answer after its dialect has made
//! it; what a page may change is judged for dialects whose requests a form can forge.
//!
//! # Source
//! The Fetch standard, "HTTP-network protocol"; D-57, F-46, F-47, S-011.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
        AUTHORIZATION, COOKIE, ORIGIN, VARY,
    },
    request::Parts,
};

pub use super::origin::{InvalidOrigin, Origin};
use crate::fields::{elements, excerpt, forwarded, host, is_token};

/// What a dialect lets pages of other origins send and read. Comma lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CorsFields {
    /// Request header fields. Others are allowed as well, if a preflight asks for them.
    pub allow_headers: &'static str,
    /// Request methods.
    pub allow_methods: &'static str,
    /// Answer header fields.
    pub expose_headers: &'static str,
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The schemes of `Authorization` that browsers add by themselves, to forms too, once their user
/// has given a password.
const AMBIENT_SCHEMES: [&str; 4] = ["basic", "digest", "negotiate", "ntlm"];

/// The most header names that a preflight may ask for beside the listed ones.
const MAX_REQUESTED_NAMES: usize = 64;

/// The most bytes of such names in an answer.
const MAX_REQUESTED_BYTES: usize = 1 << 10;

/// How long a browser may remember a preflight, in seconds.
const MAX_AGE_SECONDS: HeaderValue = HeaderValue::from_static("86400");

/// Which origins may use this server from a browser.
///
/// No answer ever holds `*`: beside credentials browsers take it literally.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cors {
    allow_headers: Option<HeaderValue>,
    expose_headers: Option<HeaderValue>,
    origins: Origins,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Origins {
    #[default]
    Any,
    Listed {
        credentials: bool,
        origins: Vec<Origin>,
    },
    Off,
}

impl Cors {
    /// Any origin, without credentials.
    pub const fn any() -> Self {
        Self { allow_headers: None, expose_headers: None, origins: Origins::Any }
    }

    /// Only `origins`, without credentials.
    pub const fn listed(origins: Vec<Origin>) -> Self {
        let origins = Origins::Listed { credentials: false, origins };
        Self { allow_headers: None, expose_headers: None, origins }
    }

    /// Only `origins`, and their pages may send cookies along. There is no such policy for any
    /// origin: every page on the web could act in its visitor's name.
    pub const fn listed_with_credentials(origins: Vec<Origin>) -> Self {
        let origins = Origins::Listed { credentials: true, origins };
        Self { allow_headers: None, expose_headers: None, origins }
    }

    /// No other origin. Answers are as if this module did not exist.
    pub const fn off() -> Self {
        Self { allow_headers: None, expose_headers: None, origins: Origins::Off }
    }

    /// Pages may also send these header fields.
    #[must_use]
    pub fn with_allowed_headers(self, names: &[HeaderName]) -> Self {
        Self { allow_headers: list(names.iter().map(HeaderName::as_str)), ..self }
    }

    /// Pages may also read these header fields.
    #[must_use]
    pub fn with_exposed_headers(self, names: &[HeaderName]) -> Self {
        Self { expose_headers: list(names.iter().map(HeaderName::as_str)), ..self }
    }

    /// Whether the request with `head` may change anything. A page of another origin can make a
    /// browser send a form without asking first, and with it what the browser knows of its visitor.
    /// That is taken from the origins listed, and from `own`, that of the URL by which clients
    /// reach this server; from others only if any origin may upload, and only without a visitor's
    /// credentials (S-011).
    ///
    /// # Errors
    /// [`Foreign`], in words.
    pub fn admit(&self, head: &Parts, own: Option<&Origin>) -> Result<(), Foreign> {
        let page = head.headers.get(ORIGIN);
        let listed = match &self.origins {
            Origins::Any | Origins::Off => &[][..],
            Origins::Listed { origins, .. } => origins,
        };
        let is_known = |page| own.into_iter().chain(listed).any(|origin| origin.is(page));
        let is_open = self.origins == Origins::Any && !brings_credentials(&head.headers);
        if is_open || is_of_no_other_page(head) || page.is_some_and(is_known) {
            return Ok(());
        }
        Err(Foreign {
            page: page.map_or("unknown".to_owned(), |page| {
                excerpt(&String::from_utf8_lossy(page.as_bytes()))
            }),
            server: match own {
                Some(own) => own.to_string(),
                None => excerpt(host::decode(head).unwrap_or("unknown")),
            },
        })
    }

    /// Adds to `fields`, those of an answer, what a browser must be told about it.
    pub fn apply(&self, asked: &CorsRequest, lists: &CorsFields, fields: &mut HeaderMap) {
        let credentials = match &self.origins {
            Origins::Off => return,
            Origins::Any => Some(false),
            Origins::Listed { credentials, origins } => {
                let is_listed = |page| origins.iter().any(|origin| origin.is(page));
                asked.origin.as_ref().is_some_and(is_listed).then_some(*credentials)
            }
        };
        fields.append(VARY, HeaderValue::from_static("Origin"));
        if asked.is_preflight {
            fields.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
        }
        let (Some(credentials), Some(origin)) = (credentials, &asked.origin) else {
            return;
        };
        fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if credentials {
            fields.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        // A list may stand on several lines, so that nothing needs copying.
        let (name, own, extra) = if asked.is_preflight {
            let methods = HeaderValue::from_static(lists.allow_methods);
            fields.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            fields.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
            (ACCESS_CONTROL_ALLOW_HEADERS, lists.allow_headers, &self.allow_headers)
        } else {
            (ACCESS_CONTROL_EXPOSE_HEADERS, lists.expose_headers, &self.expose_headers)
        };
        fields.insert(&name, HeaderValue::from_static(own));
        let more = extra.iter().cloned().chain(asked.more_headers(lists.allow_headers));
        for more in more {
            fields.append(&name, more);
        }
    }
}

/// A page of an origin that may not change anything here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "pages of {page:?} may not upload here: this server is asked as {server:?}; list that origin \
     (--cors-origin), or say by which URL pages reach this server (--public-url)"
)]
pub struct Foreign {
    page: String,
    server: String,
}

/// What a request head says about other origins. Taken before the head goes to its dialect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CorsRequest {
    is_preflight: bool,
    origin: Option<HeaderValue>,
    /// The header names that a preflight asks for, as far as they are looked at.
    requested: Vec<String>,
}

impl CorsRequest {
    /// What `head` says.
    pub fn new(head: &Parts) -> Self {
        // What is no ASCII is no origin, and would be told as it is.
        let origin = head.headers.get(ORIGIN);
        let is_preflight = is_preflight(head);
        Self {
            is_preflight,
            // A copy: the original keeps all of the head in memory.
            origin: origin
                .and_then(|text| text.to_str().ok())
                .and_then(|text| HeaderValue::from_str(text).ok()),
            requested: if is_preflight { requested(&head.headers) } else { Vec::new() },
        }
    }

    /// Whether a browser asks if it may send another request.
    pub const fn is_preflight(&self) -> bool {
        self.is_preflight
    }

    /// The header names asked for that are not in `listed`, as a comma list.
    fn more_headers(&self, listed: &str) -> Option<HeaderValue> {
        let is_listed = |name: &String| listed.split(", ").any(|l| l.eq_ignore_ascii_case(name));
        let more: Vec<_> = self.requested.iter().filter(|name| !is_listed(name)).collect();
        list(more.iter().map(|name| name.as_str()))
    }
}

/// The well-formed names that a preflight asks for, within bounds.
fn requested(headers: &HeaderMap) -> Vec<String> {
    let mut left = MAX_REQUESTED_BYTES;
    let fits = |name: &&str| {
        let rest = left.checked_sub(name.len() + ", ".len());
        rest.map(|rest| left = rest).is_some()
    };
    elements(headers, &ACCESS_CONTROL_REQUEST_HEADERS)
        .filter(|name| is_token(name))
        .take(MAX_REQUESTED_NAMES)
        .take_while(fits)
        .map(str::to_owned)
        .collect()
}

/// `names` as a comma list. `*` is a name by its grammar; it is left out, see [`Cors`].
fn list<'n>(names: impl Iterator<Item = &'n str>) -> Option<HeaderValue> {
    let names: Vec<_> = names.filter(|name| *name != "*").collect();
    if names.is_empty() {
        return None;
    }
    Some(HeaderValue::try_from(names.join(", ")).expect("names are printable ASCII"))
}

/// Whether the request carries what a browser sends along for its user, whichever site the page is
/// from.
fn brings_credentials(headers: &HeaderMap) -> bool {
    let is_ambient = |value: &HeaderValue| {
        let text = value.as_bytes();
        let scheme = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        AMBIENT_SCHEMES.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(scheme))
    };
    headers.contains_key(COOKIE) || headers.get_all(AUTHORIZATION).iter().any(is_ambient)
}

/// Whether the request is of a page of this server, or of no page at all. Old browsers do not say,
/// nor do others of a server without TLS; then the host in the page's origin decides. A proxy may
/// have changed the host; forms cannot send the fields in which it says so.
fn is_of_no_other_page(head: &Parts) -> bool {
    if let Some(site) = head.headers.get(&SEC_FETCH_SITE) {
        return site == "none" || site == "same-origin";
    }
    let Some(page) = head.headers.get(ORIGIN) else {
        return true;
    };
    let page: Option<Origin> = page.to_str().ok().and_then(|text| text.parse().ok());
    let asked = host::decode(head);
    let forwarded = forwarded::decode(&head.headers);
    let told = forwarded.authority(asked);
    let mut hosts = [asked, told.as_deref()].into_iter().flatten();
    page.is_some_and(|page| hosts.any(|host| page.is_at(host)))
}

/// Whether a browser asks if it may send a request of a page of another origin.
pub fn is_preflight(head: &Parts) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(ORIGIN)
        && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const LISTS: CorsFields = CorsFields {
        allow_headers: "Upload-Offset",
        allow_methods: "POST, PATCH",
        expose_headers: "Location",
    };

    /// Which of four policies admit a `POST` with `fields` to a server that is known by the URL
    /// `own`: any origin, a listed one, a listed one with credentials, none.
    fn admitted(fields: &[&str], own: Option<&str>) -> [bool; 4] {
        let listed = || vec!["https://listed.example".parse().expect("an origin")];
        let own: Option<Origin> = own.map(|own| own.parse().expect("an origin"));
        let request = fields.iter().fold(Request::post("/"), |request, field| {
            let (name, value) = field.split_once(": ").expect("a field");
            request.header(name, value)
        });
        let (head, ()) = request.body(()).expect("plain").into_parts();
        [Cors::any(), Cors::listed(listed()), Cors::listed_with_credentials(listed()), Cors::off()]
            .map(|policy| policy.admit(&head, own.as_ref()).is_ok())
    }

    #[test]
    fn pages_of_other_origins_change_nothing_unasked_s_011() {
        const ANYBODY: [bool; 4] = [true; 4];
        const OPEN: [bool; 4] = [true, false, false, false];
        const LISTED: [bool; 4] = [true, true, true, false];
        const NOBODY: [bool; 4] = [false; 4];
        let (cookie, here, other) = ("cookie: a=b", "host: here:1", "origin: https://x.example");
        let listed = "origin: https://listed.example";
        for (fields, expected) in [
            // No page of another origin.
            (&[here, cookie][..], ANYBODY),
            (&[here, cookie, "sec-fetch-site: none"], ANYBODY),
            (&[here, cookie, other, "sec-fetch-site: same-origin"], ANYBODY),
            (&[here, cookie, "origin: https://here:1"], ANYBODY),
            (&[here, cookie, "origin: http://HERE:1"], ANYBODY),
            (&["host: Here:80", cookie, "origin: http://here"], ANYBODY),
            (&["host: here:443", cookie, "origin: https://here"], ANYBODY),
            (&["host: here", cookie, "origin: https://here:443"], ANYBODY),
            (&["host: b", "x-forwarded-host: HERE, b", cookie, "origin: http://here"], ANYBODY),
            (&["host: b", "forwarded: host=here", cookie, "origin: http://here"], ANYBODY),
            (&["host: here", "x-forwarded-port: 8080", "origin: http://here:8080"], ANYBODY),
            // One without a visitor's credentials.
            (&[here, other], OPEN),
            (&[here, other, "sec-fetch-site: cross-site"], OPEN),
            (&[here, "origin: null"], OPEN),
            (&[here, "sec-fetch-site: cross-site"], OPEN),
            (&[here, other, "authorization: Bearer abc"], OPEN),
            (&[here, "origin: http://here"], OPEN),
            // One with them.
            (&[here, cookie, other], NOBODY),
            (&[here, cookie, "origin: null"], NOBODY),
            (&[here, cookie, "sec-fetch-site: same-site"], NOBODY),
            (&[here, "origin: https://here:2", cookie], NOBODY),
            (&[here, other, "authorization: basic abc"], NOBODY),
            (&[here, other, "authorization: Negotiate abc"], NOBODY),
            (&["host: b, x", "x-forwarded-host: b, here", cookie, "origin: http://here"], NOBODY),
            // A listed one.
            (&[here, listed], LISTED),
            (&[here, listed, "sec-fetch-site: cross-site"], LISTED),
            (&[here, "origin: HTTPS://listed.example:443"], LISTED),
            (&[here, cookie, listed], [false, true, true, false]),
        ] {
            assert_eq!(admitted(fields, None), expected, "{fields:?}");
        }
    }

    #[test]
    fn own_origin_is_that_of_the_public_url_s_011() {
        let (cookie, upstream) = ("cookie: a=b", "host: 127.0.0.1:8080");
        for (page, own, expected) in [
            ("origin: http://name", "http://name", true),
            ("origin: http://NAME:80", "http://name", true),
            ("origin: https://name", "http://name", false),
            ("origin: http://other", "http://name", false),
        ] {
            let fields = [upstream, cookie, page];
            assert_eq!(admitted(&fields, Some(own)), [expected; 4], "{page} {own}");
        }
    }

    #[test]
    fn refused_pages_are_told_both_sides_and_the_settings() {
        for (own, expected) in [(None, "\"127.0.0.1:8080\""), (Some("http://b"), "\"http://b\"")] {
            let own = own.map(|own| own.parse().expect("an origin"));
            let request = Request::post("/").header("host", "127.0.0.1:8080");
            let request = request.header("origin", "http://name");
            let (head, ()) = request.body(()).expect("plain").into_parts();
            let told = Cors::off().admit(&head, own.as_ref()).expect_err("foreign").to_string();
            for part in ["\"http://name\"", expected, "--cors-origin", "--public-url"] {
                assert!(told.contains(part), "{told}");
            }
        }
    }

    #[test]
    fn preflights_are_allowed_the_headers_they_ask_for_d_57() {
        let many = (0..100).map(|n| format!("x-{n:02}")).collect::<Vec<_>>();
        let long = ["a", "b", "c"].map(|letter| letter.repeat(400));
        for (asked, expected) in [
            ("sentry-trace,baggage", Some("sentry-trace, baggage")),
            ("upload-offset,traceparent , x-upsert", Some("traceparent, x-upsert")),
            (
                "X-CSRF-Token, Cache-Control,Content-Range",
                Some("X-CSRF-Token, Cache-Control, Content-Range"),
            ),
            ("Upload-Offset", None),
            ("", None),
            ("*", None),
            ("a b,c:d,\"e\",<f>,g", Some("g")),
            (&many.join(","), Some(many[..64].join(", ").as_str())),
            (&long.join(","), Some(long[..2].join(", ").as_str())),
        ] {
            for (policy, is_allowed) in [(Cors::any(), true), (Cors::listed(Vec::new()), false)] {
                let request = Request::options("/")
                    .header("origin", "https://a.example")
                    .header("access-control-request-method", "POST")
                    .header("access-control-request-headers", asked);
                let (head, ()) = request.body(()).expect("plain").into_parts();
                let mut fields = HeaderMap::new();
                policy.apply(&CorsRequest::new(&head), &LISTS, &mut fields);
                let mut lines = fields.get_all(ACCESS_CONTROL_ALLOW_HEADERS).iter();
                let expected = is_allowed.then_some(expected).flatten();
                assert_eq!(lines.nth(1).map(|l| l.to_str().expect("ASCII")), expected);
                assert_eq!(fields.get_all(VARY).iter().count(), 2);
            }
        }
    }

    fn answered(policy: &Cors, method: &str, origin: Option<&str>, preflight: bool) -> Vec<String> {
        let mut request = Request::builder().method(method);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        if preflight {
            request = request.header("access-control-request-method", "POST");
        }
        let (head, ()) = request.body(()).expect("plain").into_parts();
        let mut fields = HeaderMap::new();
        policy.apply(&CorsRequest::new(&head), &LISTS, &mut fields);
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().expect("ASCII"))
        };
        fields.iter().map(line).collect()
    }

    #[test]
    fn answers_tell_browsers_what_pages_may_do_d_57_f_46_f_47() {
        let listed = || vec!["https://A.example:443".parse().expect("an origin")];
        let name = HeaderName::from_static;
        let vary = "vary: Origin";
        let vary_more = "vary: Access-Control-Request-Headers";
        let allowed = "access-control-allow-origin: https://a.example";
        let expose = "access-control-expose-headers: Location";
        let preflight = &[
            vary,
            vary_more,
            allowed,
            "access-control-allow-methods: POST, PATCH",
            "access-control-max-age: 86400",
            "access-control-allow-headers: Upload-Offset",
        ][..];
        let extras = Cors::listed_with_credentials(listed())
            .with_allowed_headers(&[name("x-csrf"), name("*")])
            .with_exposed_headers(&[name("x-a"), name("x-b")]);
        let ours = Some("https://a.example");
        for (policy, method, origin, is_preflight, expected) in [
            (Cors::off(), "OPTIONS", ours, true, &[][..]),
            (Cors::any(), "PATCH", None, false, &[vary]),
            (Cors::any(), "PATCH", ours, false, &[vary, allowed, expose]),
            (Cors::any(), "OPTIONS", ours, false, &[vary, allowed, expose]),
            (Cors::any(), "PATCH", ours, true, &[vary, allowed, expose]),
            (Cors::any(), "OPTIONS", None, true, &[vary]),
            (Cors::any(), "OPTIONS", ours, true, preflight),
            (Cors::listed(listed()), "OPTIONS", ours, true, preflight),
            (
                Cors::listed(listed()),
                "OPTIONS",
                Some("https://b.example"),
                true,
                &[vary, vary_more],
            ),
            (Cors::listed(listed()), "PATCH", Some("http://a.example"), false, &[vary]),
            (Cors::listed(listed()), "PATCH", Some("null"), false, &[vary]),
            (
                extras.clone(),
                "PATCH",
                ours,
                false,
                &[
                    vary,
                    allowed,
                    "access-control-allow-credentials: true",
                    expose,
                    "access-control-expose-headers: x-a, x-b",
                ],
            ),
            (
                extras,
                "OPTIONS",
                ours,
                true,
                &[
                    vary,
                    vary_more,
                    allowed,
                    "access-control-allow-credentials: true",
                    "access-control-allow-methods: POST, PATCH",
                    "access-control-max-age: 86400",
                    "access-control-allow-headers: Upload-Offset",
                    "access-control-allow-headers: x-csrf",
                ],
            ),
        ] {
            let answered = answered(&policy, method, origin, is_preflight);
            assert_eq!(answered, expected, "{method} {origin:?} {policy:?}");
        }
    }
}
