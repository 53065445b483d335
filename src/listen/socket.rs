//! [`Socket`]: a stream with limits on what its client may leave undone. Knows of HTTP how HTTP/2
//! begins.

use std::{
    future::Future as _,
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// What a client says first that speaks HTTP/2 (RFC 9113, 3.4). No HTTP/1 request begins so.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a closed connection is still read from, so that the peer finds the last answer and not
/// a reset (D-48).
const LINGER_TIME: Duration = Duration::from_secs(2);

/// How much is read in that time. A peer that sends more than this after the answer is not going to
/// read it; the reset that follows stops a useless transfer.
const LINGER_BYTES: usize = 4 << 20;

/// What came of a connection before its version was known.
pub(super) struct Opening {
    bytes: [u8; HTTP2_PREFACE.len()],
    /// Which of them are still to be read by hyper.
    unread: Range<usize>,
}

impl Opening {
    /// Reads no more than it takes to tell the version.
    pub(super) async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut bytes = [0; HTTP2_PREFACE.len()];
        let mut end = 0;
        while end < bytes.len() && HTTP2_PREFACE.starts_with(&bytes[..end]) {
            match io.read(&mut bytes[end..]).await? {
                0 => break,
                count => end += count,
            }
        }
        let unread = 0..end;
        Ok(Self { bytes, unread })
    }

    pub(super) fn is_http2(&self) -> bool {
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
pub(super) struct Socket<Io> {
    io: Io,
    opening: Opening,
    read_timeout: Duration,
    /// Runs while the peer takes nothing.
    stalled: Option<Timer>,
    left_bytes: usize,
    linger: Option<Timer>,
}

type Timer = Pin<Box<Sleep>>;

impl<Io> Socket<Io> {
    /// The rest of `io` after `opening`, which hyper gets to see first. The peer takes something
    /// within `read_timeout`.
    pub(super) fn new(io: Io, opening: Opening, read_timeout: Duration) -> Self {
        let left_bytes = LINGER_BYTES;
        Self { io, opening, read_timeout, stalled: None, left_bytes, linger: None }
    }

    /// What became of an attempt to write, or the end of the patience with a peer that takes
    /// nothing.
    fn poll_taken<T>(
        &mut self,
        cx: &mut Context<'_>,
        taken: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if taken.is_ready() {
            self.stalled = None;
            return taken;
        }
        let wait = self.read_timeout;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(wait)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Socket<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.opening.unread.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        // Together with what follows, so that a head that came in one piece stays one.
        self.opening.move_to(buf);
        if buf.remaining() > 0
            && let Poll::Ready(Err(error)) = Pin::new(&mut self.io).poll_read(cx, buf)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.poll_taken(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.poll_taken(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.poll_taken(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            let shut = Pin::new(&mut self.io).poll_shutdown(cx);
            ready!(self.poll_taken(cx, shut))?;
            self.linger = Some(Box::pin(sleep(LINGER_TIME)));
        }
        let Self { io, left_bytes, linger, .. } = &mut *self;
        let late = linger.as_mut().is_some_and(|linger| linger.as_mut().poll(cx).is_ready());
        let mut waste = [0; 16 << 10];
        while !late && *left_bytes > 0 {
            let mut buf = ReadBuf::new(&mut waste);
            match ready!(Pin::new(&mut *io).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    *left_bytes = left_bytes.saturating_sub(buf.filled().len());
                }
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
