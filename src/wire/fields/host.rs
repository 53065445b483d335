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

/// Whether `text` is a name or an address with at most a port: nothing that could reach into the
/// rest of a URL.
pub fn is_host(text: &str) -> bool {
    let is_address = |b: u8| b.is_ascii_hexdigit() || b == b':' || b == b'.';
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((address, port)) if !address.is_empty() && address.bytes().all(is_address) => {
            ("address", port)
        }
        Some(_) => return false,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok() && !port.starts_with('+');
    !host.is_empty()
        && host.bytes().all(is_name)
        && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// `host` without the port that `scheme` implies.
pub fn without_default_port<'h>(host: &'h str, scheme: &str) -> &'h str {
    let port = if scheme == "https" { ":443" } else { ":80" };
    host.strip_suffix(port).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_d_41() {
        for (text, expected) in [
            ("example.org", true),
            ("a_b-c.example:8080", true),
            ("127.0.0.1:0", true),
            ("[::1]", true),
            ("[::ffff:1.2.3.4]:443", true),
            ("", false),
            (":80", false),
            ("a:", false),
            ("a:+1", false),
            ("a:65536", false),
            ("a:1:2", false),
            ("a/b", false),
            ("a@b", false),
            ("a b", false),
            ("a\"b", false),
            ("[]", false),
            ("[::1", false),
            ("[::1]x", false),
            ("[x]", false),
        ] {
            assert_eq!(is_host(text), expected, "{text:?}");
        }
        assert_eq!(without_default_port("a:443", "https"), "a");
        assert_eq!(without_default_port("a:443", "http"), "a:443");
        assert_eq!(without_default_port("[::1]:80", "http"), "[::1]");
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
