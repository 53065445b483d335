//! A raw HTTP/1.1 client: every byte on the wire is the case's own.
//!
//! It sends heads, parts of bodies, chunks and trailers when told to, and reads interim and final
//! answers strictly: what it cannot parse is a failure of the server.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::failure::Failure;
use crate::message::{Body, Request, Response};

/// How long an answer may take before the case fails; above every wait of the contract (10 s).
pub const PATIENCE: Duration = Duration::from_secs(25);

/// How a connection stands after some time without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed its side.
    Closed,
    /// The peer sent something instead.
    Data,
    /// Nothing happened.
    Open,
    /// The peer reset the connection.
    Reset,
}

/// One TCP connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    pending: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, pending: Vec::new() })
    }

    /// Makes our send buffer small, so that little of a body is under way at any time.
    pub fn shrink(&self) -> Result<(), Failure> {
        Ok(socket2::SockRef::from(&self.stream).set_send_buffer_size(256 * 1024)?)
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes)?;
        Ok(())
    }

    /// Sends one chunk of a chunked body.
    pub fn send_chunk(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.send(&chunk(bytes))
    }

    /// Sends a request. A peer that closed early is no failure yet: its answer may be readable.
    pub fn send_request(&mut self, request: &Request, host: &str) -> Result<(), Failure> {
        let mut bytes = head(request, host);
        bytes.extend(body(&request.body));
        match self.stream.write_all(&bytes) {
            Err(error) if is_disconnect(error.kind()) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Ends our side; the peer's stays readable.
    pub fn half_close(&self) -> Result<(), Failure> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// Ends the connection with a reset.
    pub fn reset(self) -> Result<(), Failure> {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }

    /// Reads the final answer to `request`, interim ones on the way.
    pub fn read_answer(&mut self, request: &Request) -> Result<Response, Failure> {
        let mut interim = Vec::new();
        loop {
            let mut response = self.read_head().map_err(|f| f.within(request.about()))?;
            response.about = request.about();
            if (100..200).contains(&response.status) {
                interim.push(response.status);
                continue;
            }
            response.interim = interim;
            let bodiless = request.method == "HEAD" || [204, 304].contains(&response.status);
            if !bodiless {
                response.body = self.read_body(&response).map_err(|f| f.within(request.about()))?;
            }
            return Ok(response);
        }
    }

    /// Reads one head, interim or final, and nothing of a body.
    pub fn read_head(&mut self) -> Result<Response, Failure> {
        let status_line = self.read_line()?;
        let (version, rest) = status_line.split_once(' ').unwrap_or_default();
        let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        if !version.starts_with("HTTP/1.") {
            return Err(Failure::new(format!("no status line but {status_line:?}")));
        }
        let status = status.parse().map_err(|_| Failure::new(format!("status {status:?}")))?;
        let mut response = Response { status, reason: reason.to_owned(), ..Response::default() };
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok(response);
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(Failure::new(format!("no field but {line:?}")));
            };
            response.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Reads so many bytes of a body.
    pub fn read_bytes(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        self.take(length)
    }

    /// Whether anything has arrived by now.
    pub fn has_arrived(&mut self) -> Result<bool, Failure> {
        if !self.pending.is_empty() {
            return Ok(true);
        }
        self.stream.set_nonblocking(true)?;
        let filled = self.fill();
        self.stream.set_nonblocking(false)?;
        match filled {
            Err(error) if is_timeout(error.kind()) => Ok(false),
            filled => Ok(filled? > 0),
        }
    }

    /// Returns when something has arrived on one of these connections. It sleeps until then: on a
    /// small machine a loop that looks again and again takes the processor from the server.
    pub fn wait_for_any<'a>(connections: impl Iterator<Item = &'a Self>) -> Result<(), Failure> {
        let mut polled: Vec<_> =
            connections.map(|connection| PollFd::new(&connection.stream, PollFlags::IN)).collect();
        let patience = PATIENCE.try_into().map_err(|_| Failure::new("longer than a timespec"))?;
        match rustix::event::poll(&mut polled, Some(&patience)) {
            Ok(0) => Err(Failure::new("nothing arrived")),
            Ok(_) => Ok(()),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }

    /// What happens on the connection within `wait`.
    pub fn end_within(&mut self, wait: Duration) -> Result<End, Failure> {
        if !self.pending.is_empty() {
            return Ok(End::Data);
        }
        self.stream.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let end = match self.fill() {
            Ok(0) => End::Closed,
            Ok(_) => End::Data,
            Err(error) if is_timeout(error.kind()) => End::Open,
            Err(_) => End::Reset,
        };
        self.stream.set_read_timeout(Some(PATIENCE))?;
        Ok(end)
    }

    /// Whether the peer ends the connection, cleanly or not, within `wait`.
    pub fn is_ended_within(&mut self, wait: Duration) -> Result<bool, Failure> {
        let deadline = Instant::now() + wait;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.end_within(left)? {
                End::Closed | End::Reset => return Ok(true),
                End::Data => self.pending.clear(),
                End::Open => return Ok(false),
            }
        }
        Ok(false)
    }

    fn read_body(&mut self, response: &Response) -> Result<Vec<u8>, Failure> {
        let encoding = response.field("Transfer-Encoding").unwrap_or_default();
        if encoding.eq_ignore_ascii_case("chunked") {
            return self.read_chunks();
        }
        if let Some(length) = response.field("Content-Length") {
            let length = length.parse();
            return self.take(length.map_err(|_| Failure::new("Content-Length is no number"))?);
        }
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.pending))
    }

    fn read_chunks(&mut self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16);
            let size = size.map_err(|_| Failure::new(format!("no chunk size but {line:?}")))?;
            if size == 0 {
                while !self.read_line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size)?);
            self.take(2)?;
        }
    }

    fn read_line(&mut self) -> Result<String, Failure> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.pending[searched..].iter().position(|b| *b == b'\n') {
                let end = searched + at;
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                let text = String::from_utf8_lossy(&line);
                return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
            }
            searched = self.pending.len();
            if self.fill()? == 0 {
                return Err(Failure::new("the server closed the connection without an answer"));
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        while self.pending.len() < length {
            if self.fill()? == 0 {
                let found = self.pending.len();
                return Err(Failure::new(format!("body ends after {found} of {length} bytes")));
            }
        }
        Ok(self.pending.drain(..length).collect())
    }

    fn fill(&mut self) -> std::io::Result<usize> {
        let mut buffer = [0; 64 * 1024];
        let count = loop {
            match self.stream.read(&mut buffer) {
                // With a timeout set, a read is not taken up again by the system.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.pending.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

/// One exchange on a connection of its own, watched by nobody.
pub fn ask(address: SocketAddr, request: &Request) -> Result<Response, Failure> {
    let mut connection = Connection::open(address)?;
    connection.send_request(request, "localhost")?;
    connection.read_answer(request)
}

/// The head of a request as bytes, framing fields included.
pub fn head(request: &Request, host: &str) -> Vec<u8> {
    let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method, request.target).into_bytes();
    if request.field("Host").is_none() {
        bytes.extend(format!("Host: {host}\r\n").bytes());
    }
    for (name, value) in &request.fields {
        bytes.extend(name.bytes());
        bytes.extend(b": ");
        bytes.extend(value);
        bytes.extend(b"\r\n");
    }
    match &request.body {
        Body::Absent => {}
        Body::Sized(body) => bytes.extend(format!("Content-Length: {}\r\n", body.len()).bytes()),
        Body::Chunked(..) => bytes.extend(b"Transfer-Encoding: chunked\r\n"),
    }
    bytes.extend(b"\r\n");
    bytes
}

/// One chunk with its framing.
pub fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend(bytes);
    chunk.extend(b"\r\n");
    chunk
}

/// A body as bytes, chunk framing and trailers included.
pub fn body(body: &Body) -> Vec<u8> {
    match body {
        Body::Absent => Vec::new(),
        Body::Sized(bytes) => bytes.clone(),
        Body::Chunked(chunks, trailers) => {
            let mut bytes: Vec<u8> = Vec::new();
            chunks.iter().filter(|c| !c.is_empty()).for_each(|c| bytes.extend(chunk(c)));
            bytes.extend(b"0\r\n");
            for (name, value) in trailers {
                bytes.extend(format!("{name}: {value}\r\n").bytes());
            }
            bytes.extend(b"\r\n");
            bytes
        }
    }
}

fn is_disconnect(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
    )
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
