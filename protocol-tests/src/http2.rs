//! A cleartext HTTP/2 client with prior knowledge, for one exchange or a few streams at once.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::http1::PATIENCE;
use crate::message::{Body, Request, Response};

/// Long enough for the connection task to put on the wire what it was given.
const MOMENT: Duration = Duration::from_millis(100);

/// How long a window may take to open before it counts as closed.
const WINDOW_WAIT: Duration = Duration::from_millis(300);

/// One HTTP/2 connection and the runtime that drives it.
pub struct Session {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
}

/// A stream whose body is still being sent.
#[derive(Debug)]
pub struct Stream {
    body: SendStream<Bytes>,
    answer: ResponseFuture,
    about: String,
}

/// An answer of which nothing but the head was read.
#[derive(Debug)]
pub struct Unread {
    /// The status of the answer.
    pub status: u16,
    _body: RecvStream,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// Connects and exchanges settings.
    pub fn open(address: SocketAddr) -> Result<Self, Failure> {
        let mut builder = h2::client::Builder::new();
        builder.max_header_list_size(256 * 1024);
        Self::open_with(&builder, address)
    }

    /// The same for a client that opens no window for what it is sent, and answers PINGs for ever.
    pub fn open_without_window(address: SocketAddr) -> Result<Self, Failure> {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(0);
        Self::open_with(&builder, address)
    }

    fn open_with(builder: &h2::client::Builder, address: SocketAddr) -> Result<Self, Failure> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let sender = runtime.block_on(async {
            let handshake = async {
                let stream = tokio::net::TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let (sender, connection) = builder.handshake(stream).await.map_err(protocol)?;
                tokio::spawn(connection);
                sender.ready().await.map_err(protocol)
            };
            within(Duration::from_secs(5), handshake).await
        })?;
        Ok(Self { runtime, sender })
    }

    /// Sends a request whole and reads its answer.
    pub fn ask(&mut self, request: &Request, host: &str) -> Result<Response, Failure> {
        let ended = matches!(request.body, Body::Absent);
        let mut stream = self.start(request, host, ended)?;
        if let Body::Sized(bytes) = &request.body {
            self.send(&mut stream, bytes, true)?;
        }
        if let Body::Chunked(chunks, trailers) = &request.body {
            for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                self.send(&mut stream, chunk, false)?;
            }
            self.finish(&mut stream, trailers)?;
        }
        self.read_answer(stream)
    }

    /// Sends a head and leaves the stream open for a body unless `ended`.
    pub fn start(&mut self, request: &Request, host: &str, ended: bool) -> Result<Stream, Failure> {
        let head = head(request, host)?;
        let sender = self.sender.clone();
        let (answer, body) = self.runtime.block_on(within(PATIENCE, async {
            let mut sender = sender.ready().await.map_err(protocol)?;
            sender.send_request(head, ended).map_err(protocol)
        }))?;
        Ok(Stream { body, answer, about: request.about() })
    }

    /// Sends body bytes as the peer's window allows. A stream that the peer ended is no failure
    /// yet: its answer may be readable.
    pub fn send(&self, stream: &mut Stream, bytes: &[u8], last: bool) -> Result<(), Failure> {
        self.runtime.block_on(within(PATIENCE, send_all(&mut stream.body, bytes, last)))
    }

    /// Ends the body, with trailers if there are any.
    pub fn finish(
        &self,
        stream: &mut Stream,
        trailers: &[(String, String)],
    ) -> Result<(), Failure> {
        let _inside = self.runtime.enter();
        if trailers.is_empty() {
            // The peer may have ended the stream already; its answer says why.
            let _ = stream.body.send_data(Bytes::new(), true);
            return Ok(());
        }
        let mut fields = http::HeaderMap::new();
        for (name, value) in trailers {
            fields.append(field_name(name)?, field_value(value.as_bytes())?);
        }
        let _ = stream.body.send_trailers(fields);
        Ok(())
    }

    /// Ends the stream as a browser does when a tab is closed.
    pub fn cancel(&self, mut stream: Stream) {
        // A reset takes back what has not left yet, and leaves itself with the connection task:
        // both need a moment.
        std::thread::sleep(MOMENT);
        let _inside = self.runtime.enter();
        stream.body.send_reset(Reason::CANCEL);
        std::thread::sleep(MOMENT);
    }

    /// Ends the whole connection without a word.
    pub fn lose(self, stream: Stream) {
        // What was sent leaves with the connection task; then the runtime takes the socket along.
        std::thread::sleep(MOMENT);
        self.runtime.shutdown_background();
        drop(stream);
    }

    /// Sends as much of `bytes` as the windows allow and returns how much that was.
    pub fn fill(&self, stream: &mut Stream, bytes: &[u8]) -> usize {
        let mut sent = 0;
        for piece in bytes.chunks(16 * 1024) {
            let sending = self.runtime.block_on(async {
                let sending = send_all(&mut stream.body, piece, false);
                tokio::time::timeout(WINDOW_WAIT, sending).await
            });
            match sending {
                Ok(Ok(())) => sent += piece.len(),
                _ => break,
            }
        }
        sent
    }

    /// Reads the head of the final answer and leaves its body where it is.
    pub fn read_head(&self, stream: Stream) -> Result<Unread, Failure> {
        let about = stream.about;
        let head = async { stream.answer.await.map_err(protocol) };
        let answer = self.runtime.block_on(within(PATIENCE, head));
        let (head, body) = answer.map_err(|failure| failure.within(&about))?.into_parts();
        Ok(Unread { status: head.status.as_u16(), _body: body })
    }

    /// Reads the final answer of a stream.
    pub fn read_answer(&self, stream: Stream) -> Result<Response, Failure> {
        let Stream { body, answer, about } = stream;
        let answer = self.runtime.block_on(within(PATIENCE, read(answer)));
        // Only now: the request's side of the stream stays open until the answer is complete.
        drop(body);
        let mut response = answer.map_err(|failure| failure.within(&about))?;
        response.about = about;
        Ok(response)
    }

    /// Reads the final answer, then the code of the reset that ends a stream whose body was not
    /// finished; `None` if no reset comes within two seconds.
    pub fn read_answer_and_reset(
        &self,
        stream: Stream,
    ) -> Result<(Response, Option<u32>), Failure> {
        let Stream { mut body, answer, about } = stream;
        let answer = self.runtime.block_on(within(PATIENCE, read(answer)));
        let mut response = answer.map_err(|failure| failure.within(&about))?;
        response.about = about;
        let reset = self.runtime.block_on(async {
            let reset = std::future::poll_fn(|context| body.poll_reset(context));
            tokio::time::timeout(Duration::from_secs(2), reset).await
        });
        let code = reset.ok().and_then(Result::ok).map(u32::from);
        Ok((response, code))
    }
}

async fn send_all(body: &mut SendStream<Bytes>, bytes: &[u8], last: bool) -> Result<(), Failure> {
    let mut rest = Bytes::copy_from_slice(bytes);
    while !rest.is_empty() {
        body.reserve_capacity(rest.len());
        let granted = std::future::poll_fn(|context| body.poll_capacity(context)).await;
        let Some(Ok(granted)) = granted else {
            return Ok(());
        };
        let piece = rest.split_to(granted.min(rest.len()));
        if !piece.is_empty() && body.send_data(piece, last && rest.is_empty()).is_err() {
            return Ok(());
        }
    }
    if bytes.is_empty() && last {
        let _ = body.send_data(Bytes::new(), true);
    }
    Ok(())
}

async fn read(answer: ResponseFuture) -> Result<Response, Failure> {
    let (head, mut content) = answer.await.map_err(protocol)?.into_parts();
    let mut response = Response { status: head.status.as_u16(), ..Response::default() };
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        response.fields.push((name.as_str().to_owned(), value));
    }
    while let Some(frame) = content.data().await {
        let frame = frame.map_err(protocol)?;
        let _ = content.flow_control().release_capacity(frame.len());
        response.body.extend_from_slice(&frame);
    }
    Ok(response)
}

fn head(request: &Request, host: &str) -> Result<http::Request<()>, Failure> {
    let uri = format!("http://{host}{}", request.target);
    let mut head = http::Request::builder().method(request.method.as_str()).uri(uri);
    for (name, value) in &request.fields {
        head = head.header(field_name(name)?, field_value(value)?);
    }
    if let Body::Sized(bytes) = &request.body {
        head = head.header("content-length", bytes.len());
    }
    head.body(()).map_err(Failure::new)
}

fn field_name(name: &str) -> Result<http::HeaderName, Failure> {
    http::HeaderName::from_bytes(name.as_bytes()).map_err(Failure::new)
}

fn field_value(value: &[u8]) -> Result<http::HeaderValue, Failure> {
    http::HeaderValue::from_bytes(value).map_err(Failure::new)
}

fn protocol(error: h2::Error) -> Failure {
    Failure::new(format!("HTTP/2: {error}"))
}

async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = |_| Failure::new(format!("no answer within {patience:?}"));
    tokio::time::timeout(patience, work).await.map_err(late)?
}
