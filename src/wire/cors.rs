//! [`Cors`]: which pages of other origins may use this server from a browser. One policy for all
//! dialects, applied to every answer after its dialect has made it.
//!
//! # Source
//! The Fetch standard, "HTTP-network protocol"; D-57, F-46, F-47.

use std::{fmt, str::FromStr};

use http::{
    HeaderName, HeaderValue, Method,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, COOKIE, HOST, ORIGIN, VARY,
    },
    request::Parts,
};

use super::{Reply, fields::host};

/// What a dialect lets pages of other origins send and read. Comma lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lists {
    /// Request header fields.
    pub allow_headers: &'static str,
    /// Request methods.
    pub allow_methods: &'static str,
    /// Answer header fields.
    pub expose_headers: &'static str,
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

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
        Self { allow_headers: list(names), ..self }
    }

    /// Pages may also read these header fields.
    #[must_use]
    pub fn with_exposed_headers(self, names: &[HeaderName]) -> Self {
        Self { expose_headers: list(names), ..self }
    }

    /// Whether `asked` may change anything. A page of another origin can make a browser send a form,
    /// and with it the cookies that its visitor has here, without asking first. That is taken only
    /// from origins whose pages may send cookies (S-011).
    pub fn admits(&self, asked: &Asked) -> bool {
        let is_listed = |origin: &HeaderValue| match &self.origins {
            Origins::Listed { credentials: true, origins } => {
                origins.iter().any(|listed| listed.0 == *origin)
            }
            Origins::Any | Origins::Listed { .. } | Origins::Off => false,
        };
        !asked.brings_cookies_from_elsewhere || asked.origin.as_ref().is_some_and(is_listed)
    }

    /// Adds to `reply` what a browser must be told about it.
    pub fn apply(&self, asked: &Asked, lists: &Lists, reply: &mut Reply) {
        let credentials = match &self.origins {
            Origins::Off => return,
            Origins::Any => Some(false),
            Origins::Listed { credentials, origins } => {
                let is_listed = origins.iter().any(|o| asked.origin.as_ref() == Some(&o.0));
                is_listed.then_some(*credentials)
            }
        };
        let fields = reply.headers_mut();
        fields.append(VARY, HeaderValue::from_static("Origin"));
        let (Some(credentials), Some(origin)) = (credentials, &asked.origin) else {
            return;
        };
        fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if credentials {
            fields.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        // A list may stand on several lines, so that the operator's own names need no copying.
        let (name, own, extra) = if asked.is_preflight {
            let methods = HeaderValue::from_static(lists.allow_methods);
            fields.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            fields.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
            (ACCESS_CONTROL_ALLOW_HEADERS, lists.allow_headers, &self.allow_headers)
        } else {
            (ACCESS_CONTROL_EXPOSE_HEADERS, lists.expose_headers, &self.expose_headers)
        };
        fields.insert(&name, HeaderValue::from_static(own));
        if let Some(extra) = extra {
            fields.append(name, extra.clone());
        }
    }
}

/// `names` as a comma list. `*` is a name by its grammar; it is left out, see [`Cors`].
fn list(names: &[HeaderName]) -> Option<HeaderValue> {
    let names: Vec<_> = names.iter().map(HeaderName::as_str).filter(|name| *name != "*").collect();
    if names.is_empty() {
        return None;
    }
    Some(HeaderValue::try_from(names.join(", ")).expect("names are printable ASCII"))
}

/// What a request head says about other origins. Taken before the head goes to its dialect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    brings_cookies_from_elsewhere: bool,
    is_preflight: bool,
    origin: Option<HeaderValue>,
}

impl Asked {
    /// What `head` says.
    pub fn new(head: &Parts) -> Self {
        // What is no ASCII is no origin, and would be told as it is.
        let origin = head.headers.get(ORIGIN);
        Self {
            brings_cookies_from_elsewhere: !head.method.is_safe()
                && head.headers.contains_key(COOKIE)
                && !is_same_origin(head),
            is_preflight: is_preflight(head),
            // A copy: the original keeps all of the head in memory.
            origin: origin
                .and_then(|text| text.to_str().ok())
                .and_then(|text| HeaderValue::from_str(text).ok()),
        }
    }
}

/// Whether the request is of a page of this server, or of no page at all. Old browsers do not say;
/// then the host in the page's origin decides. A proxy may have changed the host; forms cannot send
/// the field in which it says so.
fn is_same_origin(head: &Parts) -> bool {
    let field = |name: &HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = field(&SEC_FETCH_SITE) {
        return ["none", "same-origin"].contains(&site);
    }
    let Some(origin) = field(&ORIGIN) else {
        return true;
    };
    let host = origin.split_once("://").map(|(_, host)| host);
    let own = head.uri.authority().map(http::uri::Authority::as_str);
    [own, field(&HOST), field(&X_FORWARDED_HOST)].into_iter().flatten().any(|own| Some(own) == host)
}

/// Whether a browser asks if it may send a request of a page of another origin.
pub fn is_preflight(head: &Parts) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(ORIGIN)
        && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The origin of a page: `scheme://host[:port]` as a browser writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// The text is not an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an origin is like https://example.org or http://localhost:3000, without a path")]
pub struct InvalidOrigin;

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        // Browsers send lower case and no default port.
        let text = text.to_ascii_lowercase();
        let (scheme, host) = text.split_once("://").ok_or(InvalidOrigin)?;
        let is_scheme = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        if scheme.is_empty() || !scheme.bytes().all(is_scheme) || !host::is_host(host) {
            return Err(InvalidOrigin);
        }
        let host = match scheme {
            "http" | "https" => host::without_default_port(host, scheme),
            _ => host,
        };
        HeaderValue::try_from(format!("{scheme}://{host}")).map(Self).map_err(|_| InvalidOrigin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, StatusCode};

    use super::*;
    use crate::wire::reply;

    const LISTS: Lists = Lists {
        allow_headers: "Upload-Offset",
        allow_methods: "POST, PATCH",
        expose_headers: "Location",
    };

    #[test]
    fn cookies_of_other_origins_pages_change_nothing_s_011() {
        let page: Origin = "https://page.example".parse().expect("an origin");
        let listed = Cors::listed_with_credentials(vec![page.clone()]);
        let policies = [listed, Cors::any(), Cors::listed(vec![page]), Cors::off()];
        let (page, other) = ("origin: https://page.example", "origin: https://x.example");
        for (method, fields, expected) in [
            ("POST", &["cookie: a=b"][..], [true; 4]),
            ("POST", &[page], [true; 4]),
            ("POST", &["cookie: a=b", page], [true, false, false, false]),
            ("POST", &["cookie: a=b", other], [false; 4]),
            ("GET", &["cookie: a=b", other], [true; 4]),
            ("POST", &["cookie: a=b", "origin: null"], [false; 4]),
            ("POST", &["cookie: a=b", "origin: https://here:1"], [true; 4]),
            ("POST", &["cookie: a=b", "origin: https://here"], [false; 4]),
            ("POST", &["cookie: a=b", other, "x-forwarded-host: x.example"], [true; 4]),
            ("POST", &["cookie: a=b", other, "sec-fetch-site: same-origin"], [true; 4]),
            ("POST", &["cookie: a=b", "sec-fetch-site: same-site"], [false; 4]),
            (
                "PUT",
                &["cookie: a=b", "sec-fetch-site: cross-site", page],
                [true, false, false, false],
            ),
        ] {
            let request = Request::builder().method(method).header("host", "here:1");
            let request = fields.iter().fold(request, |request, field| {
                let (name, value) = field.split_once(": ").expect("a field");
                request.header(name, value)
            });
            let (head, ()) = request.body(()).expect("plain").into_parts();
            let asked = Asked::new(&head);
            let admitted = policies.each_ref().map(|policy| policy.admits(&asked));
            assert_eq!(admitted, expected, "{method} {fields:?}");
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
        let mut reply = reply::empty(StatusCode::NO_CONTENT);
        policy.apply(&Asked::new(&head), &LISTS, &mut reply);
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().expect("ASCII"))
        };
        reply.headers().iter().map(line).collect()
    }

    #[test]
    fn answers_tell_browsers_what_pages_may_do_d_57_f_46_f_47() {
        let listed = || vec!["https://A.example:443".parse().expect("an origin")];
        let name = HeaderName::from_static;
        let vary = "vary: Origin";
        let allowed = "access-control-allow-origin: https://a.example";
        let expose = "access-control-expose-headers: Location";
        let preflight = &[
            vary,
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
            (Cors::listed(listed()), "OPTIONS", Some("https://b.example"), true, &[vary]),
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

    #[test]
    fn origins_have_no_path() {
        for (text, expected) in [
            ("https://example.org", Some("https://example.org")),
            ("HTTP://Localhost:3000", Some("http://localhost:3000")),
            ("http://a:80", Some("http://a")),
            ("app://a", Some("app://a")),
            ("https://example.org/", None),
            ("example.org", None),
            ("*", None),
            ("null", None),
            ("://a", None),
        ] {
            let origin = text.parse::<Origin>().ok().map(|origin| origin.to_string());
            assert_eq!(origin.as_deref(), expected, "{text:?}");
        }
    }
}
