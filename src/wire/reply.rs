//! [`Reply`]: an answer, and what the answers of all dialects have in common.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::{
    HeaderName, HeaderValue, Response, StatusCode, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};
use http_body::{Body, Frame, SizeHint};
use serde::Serialize;

use crate::rules::Finished;

/// An answer, and what becomes of its connection.
#[derive(Debug, Default)]
pub struct Reply {
    /// Whether the connection ends with it.
    pub close: bool,
    /// How long it is delayed, for clients that repeat a request as soon as it is answered.
    pub delay: Duration,
    /// Status, header fields and body.
    pub response: Response<ReplyBody>,
}

impl Reply {
    /// The response to a request of this HTTP version. HTTP/2 has no header field that ends a
    /// connection.
    pub fn into_response(mut self, version: Version) -> Response<ReplyBody> {
        if self.close && version <= Version::HTTP_11 {
            self.response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.response
    }
}

/// Bytes as they come from a store.
pub type ReplyStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// The body of an answer. Its length is always known.
#[derive(Default)]
pub struct ReplyBody(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Stream {
        left: u64,
        stream: ReplyStream,
    },
    Text(Bytes),
}

const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");

const TEXT_PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The start of header names that are a dialect's or this server's own.
const RESERVED_PREFIXES: [&str; 4] = ["access-control-", "proxy-", "tus-", "upload-"];

/// Header names that frame an answer, or that say what a dialect says with them.
static RESERVED: [HeaderName; 8] = [
    CONNECTION,
    CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
    LOCATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

impl ReplyBody {
    /// No body.
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// The body `text`.
    pub fn text(text: impl Into<Bytes>) -> Self {
        Self(Kind::Text(text.into()))
    }

    /// A body of exactly `length` bytes from `stream`.
    pub const fn stream(stream: ReplyStream, length: u64) -> Self {
        Self(Kind::Stream { left: length, stream })
    }

    /// The number of bytes still to come.
    fn left(&self) -> u64 {
        match &self.0 {
            Kind::Empty => 0,
            Kind::Stream { left, .. } => *left,
            Kind::Text(text) => u64::try_from(text.len()).unwrap_or(u64::MAX),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Stream { left, stream } => stream
                .as_mut()
                .poll_next(context)
                .map(|next| Some(counted(left, next).map(Frame::data))),
            Kind::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

/// The next bytes of a stream that has `left` to give; one that gives more or fewer breaks the
/// answer off, so that no client takes it for whole.
fn counted(left: &mut u64, next: Option<io::Result<Bytes>>) -> io::Result<Bytes> {
    let bytes = next.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
    let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    *left = left
        .checked_sub(count)
        .ok_or_else(|| io::Error::other("the store gave more bytes than it said"))?;
    Ok(bytes)
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyBody").field("left", &self.left()).finish_non_exhaustive()
    }
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Reply {
    let mut reply = Reply::default();
    *reply.response.status_mut() = status;
    reply
}

/// An answer in plain words: `code: message`.
pub fn text(status: StatusCode, code: &str, message: impl fmt::Display) -> Reply {
    let mut reply = empty(status);
    *reply.response.body_mut() = ReplyBody::text(format!("{code}: {message}\n"));
    reply.response.headers_mut().insert(CONTENT_TYPE, TEXT_PLAIN);
    reply
}

/// An answer in JSON.
pub fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    let mut reply = empty(status);
    // Only maps with keys that are no text could fail; an answer is no place for them.
    *reply.response.body_mut() = ReplyBody::text(serde_json::to_vec(body).unwrap_or_default());
    reply.response.headers_mut().insert(CONTENT_TYPE, APPLICATION_JSON);
    reply
}

/// Takes the body of `reply` away, for a client that asked with `HEAD`. The type of a text goes
/// with it; that of a download is news.
pub fn remove_body(reply: &mut Reply) {
    let body = std::mem::take(reply.response.body_mut());
    if matches!(body.0, Kind::Text(_)) {
        reply.response.headers_mut().remove(CONTENT_TYPE);
    }
}

/// The value of `Retry-After` for `wait`: whole seconds, rounded up, because a client that comes
/// too early comes twice.
pub fn retry_after(wait: Duration) -> HeaderValue {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).into()
}

/// The value of `WWW-Authenticate` for the challenge of an application, if it gives one. RFC 9110 wants
/// a challenge; the usual one makes no browser open a dialogue.
pub fn challenge(given: Option<&str>) -> HeaderValue {
    let given = given.and_then(|text| HeaderValue::from_str(text).ok());
    given.unwrap_or(HeaderValue::from_static("Bearer"))
}

/// Adds what the application says, but for the names that `reply` has already and those that are a
/// dialect's or HTTP's own.
pub fn add_finished(reply: &mut Reply, finished: &Finished) {
    let fields: Vec<_> = finished
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?)))
        .filter(|(name, _)| !is_reserved(name) && !reply.response.headers().contains_key(name))
        .collect();
    reply.response.headers_mut().reserve(fields.len());
    for (name, value) in fields {
        reply.response.headers_mut().append(name, value);
    }
}

fn is_reserved(name: &HeaderName) -> bool {
    RESERVED.contains(name)
        || RESERVED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body_util::BodyExt as _;

    use super::*;

    struct Frames(VecDeque<io::Result<Bytes>>);

    impl Stream for Frames {
        type Item = io::Result<Bytes>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn streamed(frames: &[&'static str], length: u64) -> ReplyBody {
        let frames = frames.iter().map(|frame| Ok(Bytes::from_static(frame.as_bytes())));
        ReplyBody::stream(Box::pin(Frames(frames.collect())), length)
    }

    #[tokio::test]
    async fn bodies_are_as_long_as_they_say() {
        for (body, length, expected) in [
            (ReplyBody::empty(), 0, Some("")),
            (ReplyBody::text("abc"), 3, Some("abc")),
            (ReplyBody::text(""), 0, Some("")),
            (streamed(&["ab", "", "c"], 3), 3, Some("abc")),
            (streamed(&[], 0), 0, Some("")),
            (streamed(&["ab"], 3), 3, None),
            (streamed(&["ab", "cd"], 3), 3, None),
        ] {
            assert_eq!(body.size_hint().exact(), Some(length));
            assert_eq!(body.is_end_stream(), length == 0);
            let bytes = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
            assert_eq!(bytes.as_deref(), expected.map(str::as_bytes));
        }
    }

    #[test]
    fn applications_cannot_change_what_the_server_says() {
        let mut reply = empty(StatusCode::NO_CONTENT);
        reply.response.headers_mut().insert("x-set", HeaderValue::from_static("1"));
        let headers = [
            ("X-Set", "2"),
            ("Set-Cookie", "a=b"),
            ("set-cookie", "c=d"),
            ("Content-Length", "5"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close"),
            ("Upload-Offset", "5"),
            ("Tus-Version", "2"),
            ("Location", "/"),
            ("Access-Control-Allow-Origin", "*"),
            ("bad name", "x"),
            ("x-bad", "a\nb"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        add_finished(&mut reply, &Finished { headers });
        let left: Vec<_> = reply.response.headers().iter().map(|(n, v)| (n.as_str(), v)).collect();
        assert_eq!(
            left,
            [
                ("x-set", &HeaderValue::from_static("1")),
                ("set-cookie", &HeaderValue::from_static("a=b")),
                ("set-cookie", &HeaderValue::from_static("c=d")),
            ]
        );
    }

    #[test]
    fn connections_close_by_field_in_http_1_only() {
        for (version, expected) in
            [(Version::HTTP_10, true), (Version::HTTP_11, true), (Version::HTTP_2, false)]
        {
            for close in [true, false] {
                let response = Reply { close, ..empty(StatusCode::OK) }.into_response(version);
                let has_field = response.headers().contains_key(CONNECTION);
                assert_eq!(has_field, close && expected, "{version:?}");
            }
        }
    }

    #[test]
    fn waits_are_rounded_up_to_seconds() {
        for (millis, expected) in [(0, "0"), (1, "1"), (1000, "1"), (1001, "2")] {
            assert_eq!(retry_after(Duration::from_millis(millis)), expected);
        }
    }
}
