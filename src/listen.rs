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

use crate::service::Windlass;

/// How long the server waits for a request head, and an idle connection lives. Browsers keep
/// connections for about as long (D-58: at least 75 s).
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);

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
    let builder = builder();
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
        let io = TokioIo::new(Lingering::new(stream));
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

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HTTP1_BUFFER_BYTES)
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HTTP2_HEADER_BYTES)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(HTTP2_STREAMS)
        .keep_alive_interval(HEAD_TIMEOUT);
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

/// A stream that is closed in two steps: nothing more is sent, then what the peer still sends is
/// read for a moment. Closed at once, data in flight would make the kernel send a reset, and the
/// peer would lose the answer it has not read yet.
struct Lingering {
    left_bytes: usize,
    linger: Option<Pin<Box<Sleep>>>,
    stream: TcpStream,
}

impl Lingering {
    const fn new(stream: TcpStream) -> Self {
        Self {
            left_bytes: LINGER_BYTES,
            linger: None,
            stream,
        }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
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
