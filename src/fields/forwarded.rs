//! `Forwarded` and `X-Forwarded-Proto`, `-Host`, `-Port`, `-Prefix`: how the client calls a server
//! behind a proxy. To be read only when the operator trusts the sender.
//!
//! # Source
//! RFC 7239; D-41, F-44.
//!
//! # Grammar
//! `Forwarded`: a comma list, the client's side first, of `name "=" value` pairs separated by
//! semicolons. The others: comma lists. Example: `for=192.0.2.60;proto=https;host=example.org`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, header::FORWARDED};

use super::{elements, host, is_plain_path, split_unquoted, unquote};

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What a proxy says about the request it got. A value that breaks its grammar is as good as none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarded<'h> {
    /// The host and port that the client asked.
    pub host: Option<Cow<'h, str>>,
    /// The port that the client asked, for a host without one.
    pub port: Option<u16>,
    /// What the proxy took off the start of the path: empty, or a path without a slash at its end.
    pub prefix: &'h str,
    /// `http` or `https`.
    pub proto: Option<&'static str>,
}

impl Forwarded<'_> {
    /// The host and port that the client asked; `passed` is the host of the request itself, which a
    /// proxy that says nothing of a host has left as it was.
    pub fn authority<'a>(&'a self, passed: Option<&'a str>) -> Option<Cow<'a, str>> {
        let host = self.host.as_deref().or(passed)?;
        match self.port.filter(|_| !host::has_port(host)) {
            Some(port) => Some(Cow::Owned(format!("{host}:{port}"))),
            None => Some(Cow::Borrowed(host)),
        }
    }
}

/// What the proxy nearest to the client says. `Forwarded` comes before the older fields.
pub fn decode(headers: &HeaderMap) -> Forwarded<'_> {
    let nearest = elements(headers, &FORWARDED).next();
    let parameter = |name: &str| {
        split_unquoted(nearest?, b';')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| unquote(value))
    };
    let field = |name: &HeaderName| elements(headers, name).next().map(unquote);
    let host = |text: &Cow<'_, str>| host::is_host(text);
    let complete = parameter("host").filter(host);
    Forwarded {
        // RFC 7239 has the port in the host, and a host without one means the usual port.
        port: elements(headers, &X_FORWARDED_PORT)
            .next()
            .filter(|text| complete.is_none() && text.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|text| text.parse().ok()),
        host: complete.or_else(|| field(&X_FORWARDED_HOST).filter(host)),
        prefix: elements(headers, &X_FORWARDED_PREFIX).next().map(prefix).unwrap_or_default(),
        proto: parameter("proto")
            .and_then(|text| proto(&text))
            .or_else(|| field(&X_FORWARDED_PROTO).and_then(|text| proto(&text))),
    }
}

fn proto(text: &str) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|known| known.eq_ignore_ascii_case(text))
}

fn prefix(text: &str) -> &str {
    let path = text.strip_suffix('/').unwrap_or(text);
    if is_plain_path(path) { path } else { "" }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::headers, *};

    #[test]
    fn nearest_proxy_is_believed_where_it_makes_sense_d_41_f_44() {
        let forwarded = |proto, host: Option<&'static str>, prefix| Forwarded {
            host: host.map(Cow::Borrowed),
            port: None,
            prefix,
            proto,
        };
        for (lines, expected) in [
            (&[][..], forwarded(None, None, "")),
            (
                &[("Forwarded", "for=1.2.3.4;Proto=HTTPS;host=a.b:8080, for=x;host=y")],
                forwarded(Some("https"), Some("a.b:8080"), ""),
            ),
            (
                &[("Forwarded", r#"for="[::1]:1,2"; host="[::1]:443" ;proto="http""#)],
                forwarded(Some("http"), Some("[::1]:443"), ""),
            ),
            (&[("X-Forwarded-Proto", "https,http")], forwarded(Some("https"), None, "")),
            (
                &[("X-Forwarded-Host", "a, b"), ("X-Forwarded-Prefix", "/up/")],
                forwarded(None, Some("a"), "/up"),
            ),
            (
                &[
                    ("Forwarded", "proto=https"),
                    ("X-Forwarded-Proto", "http"),
                    ("X-Forwarded-Host", "a"),
                ],
                forwarded(Some("https"), Some("a"), ""),
            ),
            (&[("X-Forwarded-Proto", "ftp")], forwarded(None, None, "")),
            (&[("X-Forwarded-Host", "a/b")], forwarded(None, None, "")),
            (&[("X-Forwarded-Prefix", "//evil.example")], forwarded(None, None, "")),
            (&[("X-Forwarded-Prefix", "/../x")], forwarded(None, None, "")),
            (&[("X-Forwarded-Prefix", "up")], forwarded(None, None, "")),
            (&[("X-Forwarded-Prefix", "/")], forwarded(None, None, "")),
            (&[("Forwarded", "é;host=a")], forwarded(None, None, "")),
            (&[("Forwarded", "")], forwarded(None, None, "")),
        ] {
            assert_eq!(decode(&headers(lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn ports_belong_to_hosts_without_one_d_41() {
        for (lines, passed, expected) in [
            (&[("X-Forwarded-Port", "8443")][..], Some("a"), Some("a:8443")),
            (&[("X-Forwarded-Port", "8443, 80")], Some("a"), Some("a:8443")),
            (&[("X-Forwarded-Port", "8443")], Some("a:1"), Some("a:1")),
            (&[("X-Forwarded-Port", "8443")], Some("[::1]"), Some("[::1]:8443")),
            (&[("X-Forwarded-Port", "8443")], None, None),
            (&[("X-Forwarded-Port", "8443"), ("X-Forwarded-Host", "b")], Some("a"), Some("b:8443")),
            (&[("X-Forwarded-Port", "8443"), ("X-Forwarded-Host", "b:1")], None, Some("b:1")),
            (&[("X-Forwarded-Port", "8443"), ("Forwarded", "host=b")], None, Some("b")),
            (
                &[("X-Forwarded-Port", "8443"), ("Forwarded", "proto=http")],
                Some("a"),
                Some("a:8443"),
            ),
            (&[("X-Forwarded-Port", "65536")], Some("a"), Some("a")),
            (&[("X-Forwarded-Port", "+1")], Some("a"), Some("a")),
            (&[("X-Forwarded-Port", "1/x")], Some("a"), Some("a")),
            (&[("X-Forwarded-Port", "")], Some("a"), Some("a")),
        ] {
            let headers = headers(lines);
            let forwarded = decode(&headers);
            assert_eq!(forwarded.authority(passed).as_deref(), expected, "{lines:?} {passed:?}");
        }
    }
}
