//! [`Origin`]: where a page is from.

use std::{fmt, str::FromStr};

use http::HeaderValue;

use crate::fields::host;

/// The origin of a page: `scheme://host[:port]` as a browser writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// The text is not an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an origin is like https://example.org or http://localhost:3000, without a path")]
pub struct InvalidOrigin;

impl Origin {
    /// Whether `text`, the `Origin` of a request, is this one: in any case, with its usual port or
    /// without.
    pub fn is(&self, text: &HeaderValue) -> bool {
        let parsed = || text.to_str().ok()?.parse().ok();
        self.0 == text || parsed().is_some_and(|origin: Self| origin == *self)
    }

    /// Whether a server that is asked as `host`, over whatever scheme, is where this one is.
    pub fn is_at(&self, host: &str) -> bool {
        let own = self.0.to_str().ok().and_then(|text| text.split_once("://"));
        own.is_some_and(|(scheme, own)| {
            host::without_default_port(host, scheme).eq_ignore_ascii_case(own)
        })
    }
}

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
        let host = host::without_default_port(host, scheme);
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
    use super::*;

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

    #[test]
    fn origins_are_compared_by_what_they_mean() {
        for (origin, text, same, at) in [
            ("https://a.example", "HTTPS://A.example:443", true, "A.example:443"),
            ("http://a.example:80", "http://a.example", true, "a.example:80"),
            ("http://a.example:81", "http://a.example:81", true, "a.EXAMPLE:81"),
            ("http://[::1]", "http://[::1]:80", true, "[::1]"),
            ("https://a.example", "http://a.example", false, "a.example"),
            ("https://a.example", "https://a.example:80", false, "a.example"),
            ("https://a.example", "null", false, "a.example"),
        ] {
            let origin: Origin = origin.parse().expect("an origin");
            let text = HeaderValue::from_static(text);
            assert_eq!((origin.is(&text), origin.is_at(at)), (same, true), "{origin} {text:?}");
        }
        let origin: Origin = "https://a.example".parse().expect("an origin");
        for elsewhere in ["a.example:80", "b.a.example", "a.example.b", "127.0.0.1:8080", ""] {
            assert!(!origin.is_at(elsewhere), "{elsewhere}");
        }
    }
}
