//! [`serve`]: a [`Windlass`] on a listener, HTTP/1.1 and cleartext HTTP/2 on one port, with a
//! graceful end. For those who have no server of their own.
//!
//! Connections come from anything that is [`Accept`]: a TCP listener, the same behind TLS, streams
//! of another kind. Whatever they are, the same limits hold for them.

mod accept;
mod socket;
mod tcp;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{sleep, timeout},
};

use self::socket::{Opening, Socket};
pub use self::{
    accept::{Accept, Connection, Handshake, WithHandshake},
    tcp::Tcp,
};
use crate::service::{Peer, Windlass};

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

/// How long no connection is accepted after that has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections of `listener` until `stop` resolves; then running bodies are stopped at their
/// next frame, what they brought is recorded, and connections are closed.
///
/// A [`TcpListener`](tokio::net::TcpListener) is given as it is; for TLS, see
/// [`Accept::with_handshake`]. [`Limits::head_timeout`](crate::Limits::head_timeout) covers
/// handshakes, and [`Limits::idle_timeout`](crate::Limits::idle_timeout) clients that do not read.
///
/// # Errors
/// None at present. A listener that fails is logged and tried again, a connection that fails is
/// logged.
///
/// # Cancel safety
/// Dropping it closes the listener; connections go on by themselves.
pub async fn serve<A: Accept>(
    mut listener: A,
    service: Windlass,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let (stopping, stopped) = watch::channel(());
    let connections = Arc::new(Connections::new(service, stopped));
    let mut stop = pin!(stop);
    loop {
        let handshake = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok(handshake) => handshake,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    // Out of descriptors, most likely: those in use will be given back.
                    tracing::error!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        tokio::spawn(Arc::clone(&connections).serve(handshake));
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
    async fn serve<Io>(self: Arc<Self>, handshake: Handshake<Io>)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut stopped = self.stopped.clone();
        let limits = self.service.engine().limits();
        let opened = tokio::select! {
            opened = timeout(limits.head_timeout, open(handshake)) => opened,
            _ = stopped.changed() => return,
        };
        let (Connection { io, extensions, peer }, opening) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return tracing::debug!(%error, "connection did not open"),
            Err(_) => return,
        };
        let is_http2 = opening.is_http2();
        let io = TokioIo::new(Socket::new(io, opening, limits.idle_timeout));
        // While a request waits hyper reads, and so notices the end, only over HTTP/2.
        let peer = if is_http2 { Peer::default() } else { peer };
        let service = self.service.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().extend(extensions.clone());
            service.handle_of(peer.clone(), request)
        });
        // The one that is larger and rarer is kept apart.
        let end = if is_http2 {
            let mut connection = Box::pin(self.http2.serve_connection(io, service));
            let finish = http2::Connection::graceful_shutdown;
            until_stopped(connection.as_mut(), finish, &mut stopped).await
        } else {
            let mut connection = pin!(self.http1.serve_connection(io, service));
            let finish = http1::Connection::graceful_shutdown;
            until_stopped(connection.as_mut(), finish, &mut stopped).await
        };
        if let Err(error) = end {
            tracing::debug!(%error, "connection ended");
        }
    }
}

/// A connection and the bytes that say which version of HTTP it carries.
async fn open<Io: AsyncRead + Unpin>(
    handshake: Handshake<Io>,
) -> io::Result<(Connection<Io>, Opening)> {
    let mut connection = handshake.await?;
    let opening = Opening::read(&mut connection.io).await?;
    Ok((connection, opening))
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
