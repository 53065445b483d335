//! [`serve`]: a [`Windlass`] on a listener, HTTP/1.1 and cleartext HTTP/2 on one port, with a
//! graceful end. For those who have no server of their own.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep},
};

use crate::{service::Windlass, upload::Limits};

/// What a client says first that speaks HTTP/2 (RFC 9113, 3.4). No HTTP/1 request begins so.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest HTTP/2 header list: a final upload of 500 absolute URLs is about 45 KB (D-58).
const HTTP2_HEADER_BYTES: u32 = 256 << 10;

/// The largest HTTP/1 head, and the read buffer of a connection.
const HTTP1_BUFFER_BYTES: usize = 400 << 10;

/// What one HTTP/2 stream may have in flight: at a round-trip time of 100 ms, 40 MiB/s.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// What one HTTP/2 connection may have in flight: enough that a stalled upload does not starve its
/// neighbours (D-58).
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Uploads side by side on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 128;

/// Streams of one HTTP/2 connection that the client has reset before anybody looked at them. One
/// more ends the connection: somebody opens streams only to reset them (CVE-2023-44487).
const HTTP2_PENDING_RESETS: usize = 20;

/// Streams of one HTTP/2 connection that the server has reset for a fault of the client. One more
/// ends the connection (CVE-2025-8671).
const HTTP2_ERROR_RESETS: usize = 1024;

/// How long an HTTP/2 client may take to answer the PING that a silent connection gets after
/// [`Limits::head_timeout`].
const HTTP2_PING_TIME: Duration = Duration::from_secs(20);

/// How long requests may take to end after the signal to stop. All in all the process is gone
/// within 10 s.
const DRAIN_TIME: Duration = Duration::from_secs(8);

/// How long a closed connection is still read from, so that the peer finds the last answer and not
/// a reset (D-48).
const LINGER_TIME: Duration = Duration::from_secs(2);

/// How much is read in that time. A peer that sends more than this after the answer is not going to
/// read it; the reset that follows stops a useless transfer.
const LINGER_BYTES: usize = 4 << 20;

/// Serves connections of `listener` until `stop` resolves; then running bodies are stopped at their
/// next frame, what they brought is recorded, and connections are closed.
///
/// # Errors
/// When the listener fails for good. A single connection that fails is only logged.
///
/// # Cancel safety
/// Dropping it closes the listener; connections go on by themselves.
pub async fn serve(
    listener: TcpListener,
    service: Windlass,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let limits = service.engine().limits().clone();
    let builder = builder(&limits);
    let graceful = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let stream = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    // Out of descriptors, most likely: those in use will be given back.
                    tracing::error!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let io = TokioIo::new(Socket::new(stream, &limits));
        let connection = builder.serve_connection(io, service.clone()).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    drop(listener);
    let end = async {
        tokio::join!(service.engine().close(), graceful.shutdown());
    };
    if tokio::time::timeout(DRAIN_TIME, end).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    Ok(())
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HTTP1_BUFFER_BYTES)
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HTTP2_HEADER_BYTES)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS)
        .max_local_error_reset_streams(HTTP2_ERROR_RESETS)
        .keep_alive_interval(limits.head_timeout)
        .keep_alive_timeout(limits.head_timeout.min(HTTP2_PING_TIME));
    builder
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// A stream that does not wait for its peer for ever, where hyper would: for the first bytes, by which
/// the version is told, and for a peer that does not read what it is sent.
///
/// It is closed in two steps: nothing more is sent, then what the peer still sends is read for a
/// moment. Closed at once, data in flight would make the kernel send a reset, and the peer would
/// lose the answer it has not read yet.
struct Socket {
    opening: Option<Opening>,
    read_timeout: Duration,
    /// Runs while the peer takes nothing.
    stalled: Option<Timer>,
    left_bytes: usize,
    linger: Option<Timer>,
    stream: TcpStream,
}

type Timer = Pin<Box<Sleep>>;

/// The time until the first bytes of a connection tell its version.
struct Opening {
    /// How much of the preface of HTTP/2 has come.
    matched_bytes: usize,
    timer: Timer,
}

impl Opening {
    /// Whether the version is still open after these bytes.
    fn goes_on_after(&mut self, bytes: &[u8]) -> bool {
        let rest = &HTTP2_PREFACE[self.matched_bytes..];
        self.matched_bytes += bytes.len();
        bytes.len() < rest.len() && rest.starts_with(bytes)
    }
}

impl Socket {
    fn new(stream: TcpStream, limits: &Limits) -> Self {
        Self {
            opening: Some(Opening {
                matched_bytes: 0,
                timer: Box::pin(sleep(limits.head_timeout)),
            }),
            read_timeout: limits.idle_timeout,
            stalled: None,
            left_bytes: LINGER_BYTES,
            linger: None,
            stream,
        }
    }

    /// A write as it went, or the end of the patience with a peer that takes nothing.
    fn taken(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if write.is_ready() {
            self.stalled = None;
            return write;
        }
        let wait = self.read_timeout;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(wait)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some(opening) = &mut self.opening else {
            return read;
        };
        if read.is_pending() {
            ready!(opening.timer.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if !opening.goes_on_after(&buf.filled()[before..]) {
            self.opening = None;
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.taken(cx, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.taken(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.linger = Some(Box::pin(sleep(LINGER_TIME)));
        }
        let Self {
            left_bytes,
            linger,
            stream,
            ..
        } = &mut *self;
        let late = linger
            .as_mut()
            .is_some_and(|linger| linger.as_mut().poll(cx).is_ready());
        let mut waste = [0; 16 << 10];
        while !late && *left_bytes > 0 {
            let mut buf = ReadBuf::new(&mut waste);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    *left_bytes = left_bytes.saturating_sub(buf.filled().len());
                }
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
