//! Just enough HTTP/1.1 for a client that trusts its server: requests as bytes, answers as a few
//! fields.

use std::{
    fmt::Display,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// What separates the parts of the one form we send.
const BOUNDARY: &str = "----windlass-bench-boundary";

/// How long a server may take to answer in [`Client`].
const PATIENCE: Duration = Duration::from_secs(120);

/// One request. Its payload is not in it: the bytes come from a pattern that all requests share.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// The head, and what comes before the payload.
    pub(crate) head: Vec<u8>,
    /// How much of the pattern is sent.
    pub(crate) payload_bytes: u64,
    /// What comes after the payload.
    pub(crate) tail: Vec<u8>,
    /// Whether its answer ends what is counted and timed as one.
    pub(crate) ends_unit: bool,
}

impl Request {
    /// A request without body; fields and a body may follow.
    pub(crate) fn new(method: &str, path: &str) -> Self {
        let mut request = Self::default();
        request.begin(method, path);
        request
    }

    /// Makes it another one, in the same memory.
    pub(crate) fn begin(&mut self, method: &str, path: &str) -> &mut Self {
        self.head.clear();
        self.tail.clear();
        self.payload_bytes = 0;
        self.ends_unit = true;
        self.text(format_args!("{method} {path} HTTP/1.1\r\nHost: bench\r\n"))
    }

    /// The same as part of a larger unit.
    pub(crate) fn within_unit(&mut self) -> &mut Self {
        self.ends_unit = false;
        self
    }

    /// One more field.
    pub(crate) fn field(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.text(format_args!("{name}: {value}\r\n"))
    }

    /// The fields every tus request has.
    pub(crate) fn tus(&mut self) -> &mut Self {
        self.field("Tus-Resumable", "1.0.0")
    }

    /// Ends the head; no body follows.
    pub(crate) fn end(&mut self) -> &mut Self {
        self.text("\r\n")
    }

    /// Ends the head of a request whose body is tus data.
    pub(crate) fn data(&mut self, payload_bytes: u64) -> &mut Self {
        self.payload_bytes = payload_bytes;
        self.field("Content-Type", "application/offset+octet-stream")
            .field("Content-Length", payload_bytes)
            .end()
    }

    /// Ends the head of a request whose body is a form: `fields`, then a file.
    pub(crate) fn form(
        &mut self,
        fields: &[(&str, &dyn Display)],
        payload_bytes: u64,
    ) -> &mut Self {
        let mut form = String::new();
        for (name, value) in fields {
            form.push_str(&format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            ));
        }
        form.push_str(&format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"blob\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        ));
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let length = form.len() as u64 + payload_bytes + tail.len() as u64;
        self.payload_bytes = payload_bytes;
        self.field("Content-Type", format_args!("multipart/form-data; boundary={BOUNDARY}"))
            .field("Content-Length", length)
            .end()
            .text(&form);
        self.tail.extend_from_slice(tail.as_bytes());
        self
    }

    /// The length in bytes, head included.
    pub(crate) fn bytes(&self) -> u64 {
        self.head.len() as u64 + self.payload_bytes + self.tail.len() as u64
    }

    /// What to send from position `at` on: at most three slices, empty ones included.
    pub(crate) fn slices<'a>(&'a self, at: u64, pattern: &'a [u8]) -> [&'a [u8]; 3] {
        let head = &self.head[cut(at, self.head.len())..];
        let at = at.saturating_sub(self.head.len() as u64);
        let left = self.payload_bytes.saturating_sub(at);
        let from = cut(at.min(self.payload_bytes) % pattern.len() as u64, pattern.len());
        let payload = &pattern[from..][..cut(left, pattern.len() - from)];
        let at = at.saturating_sub(self.payload_bytes);
        let is_last = left == payload.len() as u64;
        let tail = if is_last { &self.tail[cut(at, self.tail.len())..] } else { &[] };
        [head, payload, tail]
    }

    fn text(&mut self, text: impl Display) -> &mut Self {
        write!(self.head, "{text}").expect("memory takes any write");
        self
    }
}

/// The smaller of a position and a length.
fn cut(at: u64, length: usize) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX).min(length)
}

/// One answer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The path in `Location`.
    pub(crate) location: Option<String>,
    /// The length of head and body.
    pub(crate) bytes: usize,
}

impl Answer {
    /// The answer to a HEAD request, or not, at the start of `text`, once it is all there.
    pub(crate) fn parse(text: &[u8], to_head: bool) -> Result<Option<Self>, String> {
        let Some(end) = memchr::memmem::find(text, b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = std::str::from_utf8(&text[..end]).map_err(|e| e.to_string())?;
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.get(9..12).and_then(|code| code.parse().ok());
        let mut answer = Self {
            status: status.ok_or_else(|| format!("not an answer: {first}"))?,
            location: None,
            bytes: end + 4,
        };
        let mut chunked = false;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("location") {
                answer.location = Some(path(value).to_owned());
            } else if name.eq_ignore_ascii_case("content-length") && !to_head {
                answer.bytes += value.parse::<usize>().map_err(|e| e.to_string())?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = !to_head;
            }
        }
        if chunked {
            let Some(last) = memchr::memmem::find(&text[end + 4..], b"0\r\n\r\n") else {
                return Ok(None);
            };
            answer.bytes += last + 5;
        }
        Ok((answer.bytes <= text.len()).then_some(answer))
    }

    /// An error unless the status is `status`.
    pub(crate) fn expect(&self, status: u16) -> Result<(), String> {
        if self.status == status {
            Ok(())
        } else {
            Err(format!("answered {} where {status} is due", self.status))
        }
    }

    /// The location; an error unless the status is 201.
    pub(crate) fn created(&self) -> Result<&str, String> {
        self.expect(201)?;
        self.location.as_deref().ok_or_else(|| "201 without location".to_owned())
    }
}

/// The path of a URL that may be absolute.
fn path(url: &str) -> &str {
    match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => url,
    }
}

/// A connection for requests one after another, where speed is of no concern.
#[derive(Debug)]
pub(crate) struct Client(TcpStream);

impl Client {
    /// Connects.
    pub(crate) fn new(address: SocketAddr) -> Result<Self, String> {
        let connect = || {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            io::Result::Ok(stream)
        };
        connect().map(Self).map_err(|e| format!("cannot connect to {address}: {e}"))
    }

    /// Sends a request without payload and waits for the answer.
    pub(crate) fn call(&mut self, request: &Request) -> Result<Answer, String> {
        self.send(&request.head)?;
        let to_head = request.head.starts_with(b"HEAD ");
        let mut text = Vec::new();
        let mut part = [0; 4096];
        loop {
            let read = self.0.read(&mut part).map_err(|e| format!("reading an answer: {e}"))?;
            if read == 0 {
                return Err("the server closed the connection".to_owned());
            }
            text.extend_from_slice(&part[..read]);
            if let Some(answer) = Answer::parse(&text, to_head)? {
                return Ok(answer);
            }
        }
    }

    /// Creates an upload and gives its path.
    pub(crate) fn create(&mut self, at: &str, length: u64) -> Result<String, String> {
        let mut request = Request::new("POST", at);
        request.tus().field("Upload-Length", length).field("Content-Length", 0).end();
        self.call(&request)?.created().map(str::to_owned)
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.write_all(bytes).map_err(|e| format!("sending: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_add_up_to_the_request_wherever_it_is_cut() {
        let pattern: Vec<u8> = (0..10).collect();
        let mut request = Request::new("POST", "/");
        request.form(&[("a", &1)], 27);
        let whole = |at: u64| {
            let (mut at, mut sent) = (at, Vec::new());
            while at < request.bytes() {
                let before = at;
                for slice in request.slices(at, &pattern) {
                    at += slice.len() as u64;
                    sent.extend_from_slice(slice);
                }
                assert!(at > before, "{at}");
            }
            sent
        };
        let all = whole(0);
        assert_eq!(all.len() as u64, request.bytes());
        let payload: Vec<u8> = pattern.iter().copied().cycle().take(27).collect();
        assert!(memchr::memmem::find(&all, &payload).is_some());
        for at in 0..all.len() {
            assert_eq!(whole(at as u64), all[at..], "{at}");
        }
    }

    #[test]
    fn answer_is_there_once_its_body_is() {
        for (text, to_head, expected) in [
            (&b"HTTP/1.1 204 No Content\r\n"[..], false, None),
            (b"HTTP/1.1 204 No Content\r\n\r\n", false, Some((204, None))),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{", false, None),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", true, Some((200, None))),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", false, Some((200, None))),
            (
                b"HTTP/1.1 201 Created\r\nLocation: http://h:1/files/a\r\nContent-Length: 0\r\n\r\n",
                false,
                Some((201, Some("/files/a"))),
            ),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n", false, None),
        ] {
            let answer = Answer::parse(text, to_head).expect("an answer");
            let answer = answer.map(|answer| (answer.status, answer.location));
            let expected = expected.map(|(status, to)| (status, to.map(str::to_owned)));
            assert_eq!(answer, expected);
        }
    }
}
