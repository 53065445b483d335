//! [`Locations`]: the URLs by which clients reach uploads.

use std::{fmt, str::FromStr};

use http::{HeaderValue, request::Parts};

use super::{mount::Mount, origin::Origin};
use crate::{
    fields::{forwarded, host, is_plain_path},
    upload::UploadId,
};

/// Where uploads are, as this server and as its clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// The path they are under.
    pub mount: Mount,
    /// What a router in front takes off the paths of requests, before they are under `mount`.
    pub outer: Option<Mount>,
    /// What stands before that path in the URLs given out; `None` = nothing, which is right behind
    /// every proxy that keeps paths as they are (D-40).
    pub public_url: Option<PublicUrl>,
    /// Whether proxies are believed when they say how clients reach this server (D-41).
    pub trust_forwarded: bool,
}

/// The start of a server's URLs: scheme, host and perhaps a path that a proxy takes off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    origin: Origin,
    start: String,
}

/// The text is not the start of a server's URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a public URL is like https://example.org or https://example.org/path")]
pub struct InvalidPublicUrl;

impl Locations {
    /// Uploads under `mount`, named by their path alone.
    pub const fn new(mount: Mount) -> Self {
        Self { mount, outer: None, public_url: None, trust_forwarded: false }
    }

    /// The same behind a router that takes `outer` off the paths of requests, as axum's `nest` and
    /// `nest_service` do: clients hear the whole path.
    #[must_use]
    pub fn with_outer(self, outer: Mount) -> Self {
        Self { outer: Some(outer), ..self }
    }

    /// What stands before the path in URLs for the client that sent `head`; nothing unless that is
    /// known (D-40).
    pub fn base_url(&self, head: &Parts) -> String {
        let start = match &self.public_url {
            Some(url) => url.start.clone(),
            None if self.trust_forwarded => forwarded_start(head),
            None => String::new(),
        };
        start + self.outer.as_ref().map_or("", Mount::prefix)
    }

    /// The origin of the pages that come from where clients reach this server, if that is known.
    pub fn origin(&self) -> Option<&Origin> {
        self.public_url.as_ref().map(|url| &url.origin)
    }

    /// The URL of upload `id` for a client whose URLs begin with `start`.
    pub fn location(&self, start: &str, id: &UploadId) -> HeaderValue {
        let prefix = self.mount.prefix();
        let url = format!("{start}{prefix}/{id}");
        HeaderValue::try_from(url).expect("hosts, plain paths and ids are printable ASCII")
    }
}

/// The path in what stands before the path of a mount: empty, or a path without a slash at its end.
pub(crate) fn path_of(start: &str) -> &str {
    let Some((_, rest)) = start.split_once("://") else {
        return start;
    };
    rest.find('/').map_or("", |path| &rest[path..])
}

/// What proxies say that stands before the path. Without a scheme there is no absolute URL; a
/// guess would send clients behind a TLS proxy to `http` (F-43).
fn forwarded_start(head: &Parts) -> String {
    let forwarded = forwarded::decode(&head.headers);
    let authority = forwarded.authority(host::decode(head));
    match (forwarded.proto, authority) {
        (Some(proto), Some(authority)) => {
            let host = host::without_default_port(&authority, proto);
            format!("{proto}://{host}{}", forwarded.prefix)
        }
        (Some(_) | None, _) => forwarded.prefix.to_owned(),
    }
}

impl FromStr for PublicUrl {
    type Err = InvalidPublicUrl;

    fn from_str(text: &str) -> Result<Self, InvalidPublicUrl> {
        let url = text.strip_suffix('/').unwrap_or(text);
        let (scheme, rest) = url.split_once("://").ok_or(InvalidPublicUrl)?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_path = path.is_empty() || is_plain_path(path);
        if !matches!(scheme, "http" | "https") || !host::is_host(host) || !is_path {
            return Err(InvalidPublicUrl);
        }
        let origin = format!("{scheme}://{host}").parse().map_err(|_| InvalidPublicUrl)?;
        Ok(Self { origin, start: url.to_owned() })
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.start)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn public_urls_are_absolute() {
        for (text, expected) in [
            ("https://example.org", Some("https://example.org")),
            ("http://example.org:8080/", Some("http://example.org:8080")),
            ("https://example.org/up/", Some("https://example.org/up")),
            ("https://[::1]", Some("https://[::1]")),
            ("example.org", None),
            ("ftp://example.org", None),
            ("https://", None),
            ("https:///x", None),
            ("https://u@example.org", None),
            ("https://example.org/a?b", None),
            ("https://example.org/a//b", None),
        ] {
            let url = text.parse::<PublicUrl>().ok().map(|url| url.to_string());
            assert_eq!(url.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn locations_are_absolute_paths_or_urls_d_40_d_41_f_43() {
        let https = &[("x-forwarded-proto", "https"), ("host", "h:443")][..];
        let alb =
            &[("x-forwarded-proto", "https"), ("host", "h"), ("x-forwarded-port", "8443")][..];
        let full = &[("forwarded", "proto=http;host=f:81"), ("x-forwarded-prefix", "/up")][..];
        for (mount, public_url, trust_forwarded, lines, expected) in [
            ("/files", None, false, full, "/files/a"),
            ("/", None, false, full, "/a"),
            ("/files", Some("https://p/x"), true, full, "https://p/x/files/a"),
            ("/", Some("https://p"), false, full, "https://p/a"),
            ("/files", None, true, full, "http://f:81/up/files/a"),
            ("/files", None, true, https, "https://h/files/a"),
            ("/files", None, true, alb, "https://h:8443/files/a"),
            ("/files", None, false, alb, "/files/a"),
            ("/files", None, true, &https[..1], "/files/a"),
            ("/files", None, true, &https[1..], "/files/a"),
            ("/files", None, true, &full[1..], "/up/files/a"),
            ("/files", None, true, &[], "/files/a"),
        ] {
            let locations = Locations {
                mount: mount.parse().expect("a path"),
                outer: None,
                public_url: public_url.map(|url| url.parse().expect("a URL")),
                trust_forwarded,
            };
            let request = lines.iter().fold(Request::post("/files"), |request, (name, value)| {
                request.header(*name, *value)
            });
            let (head, ()) = request.body(()).expect("plain").into_parts();
            let start = locations.base_url(&head);
            let location = locations.location(&start, &"a".parse().expect("an id"));
            assert_eq!(location, expected, "{public_url:?} {lines:?}");
            let path = path_of(expected).trim_end_matches("/a").trim_end_matches("/files");
            assert_eq!(path_of(&start), path, "{start}");
            let nested = locations.with_outer("/out/er".parse().expect("a path"));
            let nested = nested.location(&nested.base_url(&head), &"a".parse().expect("an id"));
            let end = if mount == "/" { "/a" } else { "/files/a" };
            let expected = format!("{}/out/er{end}", expected.trim_end_matches(end));
            assert_eq!(nested, expected, "{public_url:?} {lines:?}");
        }
    }
}
