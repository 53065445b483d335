//! Parsers that take their text whole.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderName, HeaderValue, Request, request::Parts};
use sha1::{Digest as _, Sha1};
use windlass::{
    fields::{
        content_encoding, content_range, content_type, forwarded, host, if_none_match, if_range,
        range::{self, Range},
        tus_resumable, upload_checksum, upload_concat, upload_defer_length, upload_length,
        upload_metadata, upload_offset, x_http_method_override,
    },
    store::file::record_of,
    upload::{Limits, Metadata, Role, UploadId},
    wire::mount::{Mount, Resource},
};

use crate::input::Input;

/// The fields that something reads.
const NAMES: [&str; 20] = [
    "content-encoding",
    "content-length",
    "content-type",
    "forwarded",
    "host",
    "if-none-match",
    "if-range",
    "range",
    "trailer",
    "tus-resumable",
    "upload-checksum",
    "upload-concat",
    "upload-defer-length",
    "upload-length",
    "upload-metadata",
    "upload-offset",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-http-method-override",
    "content-range",
];

/// Header fields: what is understood is written as it was read.
pub fn fields(data: &[u8]) {
    let mut input = Input::new(data);
    let mut headers = HeaderMap::new();
    while !input.is_empty() {
        let name = HeaderName::from_static(input.pick(&NAMES));
        if let Ok(value) = HeaderValue::from_bytes(input.line()) {
            headers.append(name, value);
        }
    }
    let head = head_of(headers);
    let (headers, limits) = (&head.headers, Limits::default());

    let _ = content_encoding::is_coded(headers);
    let _ = content_type::is_offset_octet_stream(headers);
    if let Ok(Some(boundary)) = content_type::form_boundary(headers) {
        assert!((1..=70).contains(&boundary.len()), "{boundary:?}");
    }
    if let Ok(chunk) = content_range::decode(headers) {
        assert!(!chunk.range.is_empty(), "{chunk:?}");
    }
    let _ = forwarded::decode(headers);
    let _ = tus_resumable::decode(headers);
    let _ = upload_checksum::is_trailing(headers);
    let _ = upload_defer_length::decode(headers);
    let _ = x_http_method_override::decode(headers);
    if let Some(host) = host::decode(&head) {
        let _ = (host::is_host(host), host::without_default_port(host, "https"));
    }
    let etag = HeaderValue::from_static("\"a\"");
    let _ = if_none_match::matches(headers, &etag);
    let _ = if_range::holds(headers, &etag);
    if let Some(Range::Span(first, last)) = range::decode(headers) {
        assert!(first <= last, "{first}-{last}");
    }
    let _ = upload_checksum::decode(headers);
    if let Ok(offset) = upload_offset::decode(headers) {
        let again = one("upload-offset", upload_offset::encode(offset));
        assert_eq!(upload_offset::decode(&again), Ok(offset));
    }
    if let Ok(Some(length)) = upload_length::decode(headers) {
        let again = one("upload-length", upload_length::encode(length));
        assert_eq!(upload_length::decode(&again), Ok(Some(length)));
    }
    let metadata = upload_metadata::decode(headers, limits.max_metadata_bytes);
    if let Ok(Some(value)) = metadata.map(|metadata| upload_metadata::encode(&metadata))
        && headers.get_all("upload-metadata").iter().count() == 1
    {
        assert_eq!(headers.get("upload-metadata"), Some(&value), "T-054");
    }
    joined(headers);
}

/// Lists of partial uploads.
pub fn concat(data: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(data) {
        joined(&one("upload-concat", value));
    }
}

fn joined(headers: &HeaderMap) {
    let mount: Mount = "/files".parse().expect("a path");
    let Ok(Some(role)) = upload_concat::decode(headers, |url| mount.upload_at(url, "")) else {
        return;
    };
    if let Role::Final { partials, .. } = &role {
        assert!(!partials.is_empty(), "a final of nothing");
        partials.iter().for_each(is_plain);
    }
    let value = upload_concat::encode(&role).expect("a partial or a final");
    assert_eq!(headers.get("upload-concat"), Some(&value), "T-112");
}

/// Metadata: the text stays, and what it says can be said again.
pub fn metadata(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(metadata) = text.parse::<Metadata>() else {
        return;
    };
    assert_eq!(metadata.as_text(), text, "T-054");
    let entries = || metadata.iter().map(|(key, value)| (key.to_owned(), value.to_vec()));
    let keys: BTreeSet<_> = entries().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), entries().count(), "D-27");
    let again = Metadata::from_entries(entries()).expect("entries of metadata");
    assert!(entries().eq(again.iter().map(|(key, value)| (key.to_owned(), value.to_vec()))));
}

/// Upload ids, alone and in paths.
pub fn ids(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(id) = text.parse::<UploadId>() {
        assert_eq!(id.as_str(), text);
        is_plain(&id);
    }
    for mount in ["/", "/files"] {
        let mount: Mount = mount.parse().expect("a path");
        for path in [text, &format!("/files/{text}")] {
            if let Some(Resource::Upload(id)) = mount.resource(path) {
                assert!(mount.matches(path), "{path:?}");
                is_plain(&id);
            }
        }
    }
    if let Ok(mount) = text.parse::<Mount>() {
        assert!(mount.matches(&format!("{}/a", mount.prefix())), "{text:?}");
    }
}

/// Change logs: a log that is cut anywhere says no more than the whole one, and does not become
/// damaged by it. Lines get the sums that they need to be looked at, but for those that begin with
/// `=`.
pub fn record(data: &[u8]) {
    let id: UploadId = "a".parse().expect("an id");
    let lines = data.split(|byte| *byte == b'\n');
    let log: Vec<u8> = lines.filter(|line| !line.is_empty()).flat_map(sealed).collect();
    let data = log.as_slice();
    let Ok(whole) = record_of(&id, data) else {
        return;
    };
    for cut in [data.len() / 3, data.len() / 2, data.len().saturating_sub(1)] {
        let part = record_of(&id, &data[..cut]).expect("a log cut off is no damage");
        let revision =
            |upload: &Option<_>| upload.as_ref().map(|upload: &windlass::Upload| upload.revision);
        assert!(revision(&part) <= revision(&whole));
    }
    if let Some(upload) = whole {
        assert_eq!(upload.id, id);
        assert!(upload.length.is_none_or(|length| upload.offset() <= length));
    }
}

/// A line with its sum, as the store writes it.
fn sealed(line: &[u8]) -> Vec<u8> {
    if let Some(raw) = line.strip_prefix(b"=") {
        return [raw, b"\n"].concat();
    }
    let text = line.strip_suffix(b"}").unwrap_or(line);
    let digest = Sha1::digest(text);
    let sum: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    [text, b",\"sum\":\"", sum.as_bytes(), b"\"}\n"].concat()
}

fn is_plain(id: &UploadId) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let text = id.as_str();
    assert!(!text.is_empty() && text.len() <= 128 && text.bytes().all(plain), "I-12: {text:?}");
}

fn one(name: &'static str, value: HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(name), value)])
}

fn head_of(headers: HeaderMap) -> Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.headers = headers;
    head
}
