//! Requests as data and answers as read, with the expectations a case puts on an answer.

use crate::failure::{Failure, ensure};

/// The media type of upload bytes.
pub const OFFSET_OCTETS: &str = "application/offset+octet-stream";

/// The body of a request.
#[derive(Clone, Debug, Default)]
pub enum Body {
    /// No body and no `Content-Length`.
    #[default]
    Absent,
    /// A body under `Content-Length`.
    Sized(Vec<u8>),
    /// HTTP/1.1 chunks or HTTP/2 frames without a length, then trailer fields.
    Chunked(Vec<Vec<u8>>, Vec<(String, String)>),
}

impl Body {
    /// All body bytes in one piece.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Absent => Vec::new(),
            Self::Sized(bytes) => bytes.clone(),
            Self::Chunked(chunks, _) => chunks.concat(),
        }
    }

    /// The number of body bytes.
    pub fn length(&self) -> u64 {
        let length = match self {
            Self::Absent => 0,
            Self::Sized(bytes) => bytes.len(),
            Self::Chunked(chunks, _) => chunks.iter().map(Vec::len).sum(),
        };
        length as u64
    }
}

/// One request, not yet bound to a connection.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method as written on the request line.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Fields in the order in which they are sent; values are raw bytes.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Body,
    /// Whether a 5xx or a 403 is allowed here, because the case makes the server say no.
    pub may_fail: bool,
}

impl Request {
    /// A request without any field.
    pub fn plain(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            fields: Vec::new(),
            body: Body::Absent,
            may_fail: false,
        }
    }

    /// A request with `Tus-Resumable: 1.0.0`.
    pub fn tus(method: &str, target: &str) -> Self {
        Self::plain(method, target).with("Tus-Resumable", "1.0.0")
    }

    /// A PATCH at `offset`, still without a body.
    pub fn patch(target: &str, offset: u64) -> Self {
        Self::tus("PATCH", target).with("Content-Type", OFFSET_OCTETS).with("Upload-Offset", offset)
    }

    /// Adds a field, also a second one of the same name.
    pub fn with(self, name: &str, value: impl ToString) -> Self {
        self.with_raw(name, value.to_string().as_bytes())
    }

    /// Adds a field whose value may be any bytes.
    pub fn with_raw(mut self, name: &str, value: &[u8]) -> Self {
        self.fields.push((name.to_owned(), value.to_vec()));
        self
    }

    /// Replaces a field.
    pub fn set(self, name: &str, value: impl ToString) -> Self {
        self.without(name).with(name, value)
    }

    /// Removes a field.
    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self
    }

    /// The same request under another method.
    pub fn method(mut self, method: &str) -> Self {
        self.method = method.to_owned();
        self
    }

    /// A body with `Content-Length`.
    pub fn body(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.body = Body::Sized(bytes.as_ref().to_vec());
        self
    }

    /// A body without a length, in these chunks.
    pub fn chunked(mut self, chunks: &[&[u8]]) -> Self {
        self.body = Body::Chunked(chunks.iter().map(|c| c.to_vec()).collect(), Vec::new());
        self
    }

    /// A trailer field after a chunked body.
    pub fn trailer(mut self, name: &str, value: impl ToString) -> Self {
        if let Body::Chunked(_, trailers) = &mut self.body {
            trailers.push((name.to_owned(), value.to_string()));
        }
        self
    }

    /// Upload bytes on a POST.
    pub fn octets(self) -> Self {
        self.set("Content-Type", OFFSET_OCTETS)
    }

    /// Allows a 5xx answer: the case made the server fail on purpose.
    pub fn may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }

    /// The last value of a field, as text.
    pub fn field(&self, name: &str) -> Option<String> {
        let field = self.fields.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name));
        field.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    /// The method as the server must understand it, an override included.
    pub fn effective_method(&self) -> String {
        self.field("X-HTTP-Method-Override").unwrap_or_else(|| self.method.clone()).to_uppercase()
    }

    /// Method and target, for messages.
    pub fn about(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// One answer as read from the wire.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The request it answers, for messages.
    pub about: String,
    /// The status code.
    pub status: u16,
    /// The reason phrase; empty over HTTP/2.
    pub reason: String,
    /// Fields with lower-case names, in order.
    pub fields: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Status codes of the interim answers that came before.
    pub interim: Vec<u16>,
}

impl Response {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }

    /// All values of a field.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        let same = move |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_str())
    }

    /// A field as a number, if it is one in the grammar of T-002.
    pub fn number(&self, name: &str) -> Option<u64> {
        let value = self.field(name)?;
        let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        if digits { value.parse().ok() } else { None }
    }

    /// The elements of a comma-separated field, blanks around them removed.
    pub fn list(&self, name: &str) -> Vec<String> {
        let values = self.all(name).flat_map(|value| value.split(','));
        values.map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect()
    }

    /// The body as text, shortened for messages; of a page in HTML its title.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let is_page = self.field("Content-Type").is_some_and(|kind| kind.starts_with("text/html"));
        let title = text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
        match title {
            Some((title, _)) if is_page => format!("a page: {}", title.trim()),
            _ => text.chars().take(120).collect::<String>().trim().to_owned(),
        }
    }

    /// Expects this status.
    #[track_caller]
    pub fn is(self, status: u16) -> Result<Self, Failure> {
        self.is_one_of(&[status])
    }

    /// Expects one of these statuses.
    #[track_caller]
    pub fn is_one_of(self, statuses: &[u16]) -> Result<Self, Failure> {
        if statuses.contains(&self.status) {
            return Ok(self);
        }
        let (about, status) = (&self.about, self.status);
        // What went well has no reason to tell.
        let text = if status < 300 { String::new() } else { self.text() };
        let text = if text.is_empty() { text } else { format!(" {text:?}") };
        let expected = statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(" or ");
        Err(Failure::new(format!("{about} answers {status}{text}, expected {expected}")))
    }

    /// Expects any 2xx.
    #[track_caller]
    pub fn is_success(self) -> Result<Self, Failure> {
        let message =
            format!("{} answers {} {:?}, expected 2xx", self.about, self.status, self.text());
        ensure((200..300).contains(&self.status), message)?;
        Ok(self)
    }

    /// Expects a field with exactly this value, once.
    #[track_caller]
    pub fn has(self, name: &str, value: impl ToString) -> Result<Self, Failure> {
        let (found, expected) = (self.all(name).collect::<Vec<_>>(), value.to_string());
        if found == [expected.as_str()] {
            return Ok(self);
        }
        let message = format!("{} has {name} {found:?}, expected {expected:?}", self.about);
        Err(Failure::new(message))
    }

    /// Expects a field to be there, once.
    #[track_caller]
    pub fn carries(self, name: &str) -> Result<Self, Failure> {
        let count = self.all(name).count();
        let message =
            format!("{} ({}) has {count} fields {name}, expected 1", self.about, self.status);
        ensure(count == 1, message)?;
        Ok(self)
    }

    /// Expects a field not to be there.
    #[track_caller]
    pub fn lacks(self, name: &str) -> Result<Self, Failure> {
        let message = format!("{} has {name} {:?}, expected none", self.about, self.field(name));
        ensure(self.field(name).is_none(), message)?;
        Ok(self)
    }

    /// Expects exactly this body.
    #[track_caller]
    pub fn has_body(self, body: &[u8]) -> Result<Self, Failure> {
        if self.body == body {
            return Ok(self);
        }
        let at = self.body.iter().zip(body).position(|(a, b)| a != b);
        let (about, found, expected) = (&self.about, self.body.len(), body.len());
        Err(Failure::new(format!(
            "{about}: body of {found} bytes, expected {expected}, first difference at {at:?}"
        )))
    }

    /// Expects a text body that begins with this error code (0.3).
    #[track_caller]
    pub fn has_code(self, code: &str) -> Result<Self, Failure> {
        let message = format!("{} says {:?}, expected {code}", self.about, self.text());
        ensure(self.text().starts_with(&format!("{code}:")), message)?;
        Ok(self)
    }
}
