//! `Host`, and `:authority` of HTTP/2: the name by which the client calls this server.
//!
//! # Source
//! RFC 9110 "Host and :authority"; D-41.
//!
//! # Grammar
//! `host [ ":" port ]`. Example: `example.org:8080`.

use http::{header::HOST, request::Parts};

use super::single;

/// The host and port of a request; `None` if they are missing or could not stand in a URL.
pub fn decode(head: &Parts) -> Option<&str> {
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let field = || single(&head.headers, &HOST, "Host").ok().flatten()?.to_str().ok();
    authority.or_else(field).filter(|host| is_host(host))
}

/// Whether `text` has the grammar of the field. Wider than [`is_host`]: what is valid here may
/// still be nothing that this server would put into a URL.
pub fn is_valid(text: &str) -> bool {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&b);
    let (host, port) = parted(text);
    let is_port = |port: &str| {
        port.bytes().all(|b| b.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok())
    };
    let is_host = is_address(host) || (!host.is_empty() && host.bytes().all(is_name));
    is_host && port.is_none_or(is_port)
}

/// Whether `text` is a name or an address with at most a port: nothing that could reach into the
/// rest of a URL.
pub fn is_host(text: &str) -> bool {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let (host, port) = parted(text);
    let is_port = |port: &str| port.parse::<u16>().is_ok() && !port.starts_with('+');
    let is_host = is_address(host) || (!host.is_empty() && host.bytes().all(is_name));
    is_host && port.is_none_or(is_port)
}

/// Whether `host` says a port.
pub fn has_port(host: &str) -> bool {
    parted(host).1.is_some()
}

/// The host in `text` and its port. The colons within brackets are the address's.
fn parted(text: &str) -> (&str, Option<&str>) {
    let end = text.find(']').map_or(0, |bracket| bracket + 1);
    match text[end..].split_once(':') {
        Some((name, port)) => (&text[..end + name.len()], Some(port)),
        None => (text, None),
    }
}

/// Whether `host` is an IPv6 address in brackets.
fn is_address(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let is_plain = |b: u8| b.is_ascii_hexdigit() || b == b':' || b == b'.';
    address.is_some_and(|text| !text.is_empty() && text.bytes().all(is_plain))
}

/// `host` without the port that `scheme` implies.
pub fn without_default_port<'h>(host: &'h str, scheme: &str) -> &'h str {
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return host,
    };
    host.strip_suffix(port).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_d_41() {
        for (text, expected, valid) in [
            ("example.org", true, true),
            ("a_b-c.example:8080", true, true),
            ("127.0.0.1:0", true, true),
            ("[::1]", true, true),
            ("[::ffff:1.2.3.4]:443", true, true),
            ("a:", false, true),
            ("[::1]:", false, true),
            ("a%20b", false, true),
            ("a,b", false, true),
            ("~a!$&'()*+;=", false, true),
            ("", false, false),
            (":80", false, false),
            ("a:+1", false, false),
            ("a:x", false, false),
            ("a:65536", false, false),
            ("a:1:2", false, false),
            ("a/b", false, false),
            ("a?b", false, false),
            ("a#b", false, false),
            ("a\\b", false, false),
            ("a@b", false, false),
            ("u:p@b", false, false),
            ("a b", false, false),
            ("a, b", false, false),
            ("a\"b", false, false),
            ("<a>", false, false),
            ("http://a", false, false),
            ("\u{e9}.example", false, false),
            ("[]", false, false),
            ("[::1", false, false),
            ("::1", false, false),
            ("[::1]x", false, false),
            ("[::1]x:1", false, false),
            ("a[::1]", false, false),
            ("[x]", false, false),
        ] {
            assert_eq!(is_host(text), expected, "{text:?}");
            assert_eq!(is_valid(text), valid, "{text:?}");
        }
        for (text, expected) in [("a", false), ("a:1", true), ("[::1]", false), ("[::1]:1", true)] {
            assert_eq!(has_port(text), expected, "{text}");
        }
        assert_eq!(without_default_port("a:443", "https"), "a");
        assert_eq!(without_default_port("a:443", "http"), "a:443");
        assert_eq!(without_default_port("[::1]:80", "http"), "[::1]");
        assert_eq!(without_default_port("a:80", "app"), "a:80");
    }

    #[test]
    fn authority_comes_before_the_field() {
        for (uri, hosts, expected) in [
            ("/files", &["a:1"][..], Some("a:1")),
            ("http://b/files", &["a:1"], Some("b")),
            ("http://u@b/files", &["a:1"], None),
            ("/files", &["a", "a"], None),
            ("/files", &["a/b"], None),
            ("/files", &[], None),
        ] {
            let request = hosts.iter().fold(Request::get(uri), |r, host| r.header(HOST, *host));
            let (head, ()) = request.body(()).expect("plain").into_parts();
            assert_eq!(decode(&head), expected, "{uri} {hosts:?}");
        }
    }
}
