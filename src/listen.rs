//! [`serve`]: a [`Windlass`] on a listener, HTTP/1.1 and cleartext HTTP/2 on one port, with a
//! graceful end. For those who have no server of their own.

use std::{
    future::Future,
    io,
    ops::Range,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::{Shutdown, shutdown};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::{Sleep, sleep, timeout},
};

use crate::service::{Peer, Windlass};

/// What a client says first that speaks HTTP/2 (RFC 9113, 3.4). No HTTP/1 request begins so.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest HTTP/2 header list: a final upload of 500 absolute URLs is about 45 KB (D-58).
const HTTP2_HEADER_BYTES: u32 = 256 << 10;

/// The largest HTTP/1 head, and the read buffer of a connection.
const HTTP1_BUFFER_BYTES: usize = 400 << 10;

/// What one HTTP/2 stream may have in flight: at a round-trip time of 100 ms, 40 MiB/s. One whose
/// body is not read yet has the same: h2 has one initial window for all streams.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// What one HTTP/2 connection may have in flight: enough that a stalled upload does not starve its
/// neighbours (D-58).
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Uploads side by side on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 128;

/// Streams of one HTTP/2 connection that the client has reset before they were accepted. One
/// more ends the connection: such a client opens streams only to reset them (CVE-2023-44487).
const HTTP2_PENDING_RESETS: usize = 20;

/// Streams of one HTTP/2 connection that the server has reset for a fault of the client. One more
/// ends the connection (CVE-2025-8671).
const HTTP2_ERROR_RESETS: usize = 1024;

/// How long an HTTP/2 client may take to answer the PING that a silent connection gets after
/// [`Limits::head_timeout`](crate::Limits::head_timeout).
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
/// When the listener fails permanently. A single connection that fails is only logged.
///
/// # Cancel safety
/// Dropping it closes the listener; connections go on by themselves.
pub async fn serve(
    listener: TcpListener,
    service: Windlass,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let (stopping, stopped) = watch::channel(());
    let connections = Arc::new(Connections::new(service, stopped));
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
        tokio::spawn(Arc::clone(&connections).serve(stream));
    }
    drop(listener);
    let engine = connections.service.engine().clone();
    drop(connections);
    let end = async {
        // Each connection holds a receiver until it ends.
        let _ = stopping.send(());
        tokio::join!(engine.close(), stopping.closed());
    };
    if timeout(DRAIN_TIME, end).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    Ok(())
}

/// How connections are served, the same for all of them.
struct Connections {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    service: Windlass,
    stopped: watch::Receiver<()>,
}

impl Connections {
    fn new(service: Windlass, stopped: watch::Receiver<()>) -> Self {
        let limits = service.engine().limits();
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_buf_size(HTTP1_BUFFER_BYTES)
            // Scripts look for `Location:`, though case does not matter.
            .title_case_headers(true)
            .half_close(true);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(HTTP2_HEADER_BYTES)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(HTTP2_STREAMS)
            .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS)
            .max_local_error_reset_streams(HTTP2_ERROR_RESETS)
            .keep_alive_interval(limits.head_timeout)
            .keep_alive_timeout(limits.head_timeout.min(HTTP2_PING_TIME));
        Self { http1, http2, service, stopped }
    }

    /// Serves one connection to its end.
    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut stopped = self.stopped.clone();
        let _ = stream.set_nodelay(true);
        let limits = self.service.engine().limits();
        let opening = tokio::select! {
            opening = timeout(limits.head_timeout, Opening::read(&mut stream)) => opening,
            _ = stopped.changed() => return,
        };
        let Ok(Ok(opening)) = opening else {
            return;
        };
        let is_http2 = opening.is_http2();
        let socket = Socket::new(stream, opening, limits.idle_timeout);
        let peer = Peer::of(&socket.write);
        let io = TokioIo::new(socket);
        let service = self.service.clone();
        // The one that is larger and rarer is kept apart.
        let end = if is_http2 {
            let mut connection = Box::pin(self.http2.serve_connection(io, service));
            let finish = http2::Connection::graceful_shutdown;
            until_stopped(connection.as_mut(), finish, &mut stopped).await
        } else {
            // hyper does not read, and so does not notice the end, while a request waits.
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                service.handle_of(peer.clone(), request)
            });
            let mut connection = pin!(self.http1.serve_connection(io, service));
            let finish = http1::Connection::graceful_shutdown;
            until_stopped(connection.as_mut(), finish, &mut stopped).await
        };
        if let Err(error) = end {
            tracing::debug!(%error, "connection ended");
        }
    }
}

/// Drives `connection` to its end; when the server stops, `finish` tells it to take no more
/// requests.
async fn until_stopped<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    finish: fn(Pin<&mut C>),
    stopped: &mut watch::Receiver<()>,
) -> hyper::Result<()> {
    tokio::select! {
        biased;
        end = connection.as_mut() => return end,
        _ = stopped.changed() => {}
    }
    finish(connection.as_mut());
    connection.await
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// What came of a connection before its version was known.
struct Opening {
    bytes: [u8; HTTP2_PREFACE.len()],
    /// Which of them are still to be read by hyper.
    unread: Range<usize>,
}

impl Opening {
    /// Reads no more than it takes to tell the version.
    async fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let mut bytes = [0; HTTP2_PREFACE.len()];
        let mut end = 0;
        while end < bytes.len() && HTTP2_PREFACE.starts_with(&bytes[..end]) {
            match stream.read(&mut bytes[end..]).await? {
                0 => break,
                count => end += count,
            }
        }
        let unread = 0..end;
        Ok(Self { bytes, unread })
    }

    fn is_http2(&self) -> bool {
        self.bytes == *HTTP2_PREFACE
    }

    /// Moves what is unread to `buf`.
    fn move_to(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.bytes[self.unread.start..][..count]);
        self.unread.start += count;
    }
}

/// A stream that does not wait for ever for a peer that does not read what it is sent, where hyper
/// would.
///
/// It is closed in two steps: nothing more is sent, then what the peer still sends is read for a
/// moment. Closed at once, data in flight would make the kernel send a reset, and the peer would
/// lose the answer it has not read yet.
struct Socket {
    opening: Opening,
    read_timeout: Duration,
    /// Runs while the peer takes nothing.
    stalled: Option<Timer>,
    left_bytes: usize,
    linger: Option<Timer>,
    read: OwnedReadHalf,
    /// Shared with the [`Peer`], which does not write.
    write: Arc<OwnedWriteHalf>,
}

type Timer = Pin<Box<Sleep>>;

impl Socket {
    /// The rest of `stream` after `opening`, which hyper gets to see first.
    fn new(stream: TcpStream, opening: Opening, read_timeout: Duration) -> Self {
        let (read, write) = stream.into_split();
        Self {
            opening,
            read_timeout,
            stalled: None,
            left_bytes: LINGER_BYTES,
            linger: None,
            read,
            write: Arc::new(write),
        }
    }

    /// Makes a write as soon as there is room for it, or ends the patience with a peer that takes
    /// nothing.
    fn poll_taken(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&OwnedWriteHalf) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let half = &*self.write;
        while half.as_ref().poll_write_ready(cx)?.is_ready() {
            match write(half) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.stalled = None;
                    return Poll::Ready(written);
                }
            }
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
        if self.opening.unread.is_empty() {
            return Pin::new(&mut self.read).poll_read(cx, buf);
        }
        // Together with what follows, so that a head that came in one piece stays one.
        self.opening.move_to(buf);
        if buf.remaining() > 0
            && let Poll::Ready(Err(error)) = Pin::new(&mut self.read).poll_read(cx, buf)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_taken(cx, |half| half.try_write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_taken(cx, |half| half.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.write.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The kernel has everything.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            shutdown((*self.write).as_ref(), Shutdown::Write)?;
            self.linger = Some(Box::pin(sleep(LINGER_TIME)));
        }
        let Self { left_bytes, linger, read, .. } = &mut *self;
        let late = linger.as_mut().is_some_and(|linger| linger.as_mut().poll(cx).is_ready());
        let mut waste = [0; 16 << 10];
        while !late && *left_bytes > 0 {
            let mut buf = ReadBuf::new(&mut waste);
            match ready!(Pin::new(&mut *read).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    *left_bytes = left_bytes.saturating_sub(buf.filled().len());
                }
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
