//! [`Input`]: bytes taken as decisions. When there are no more, every decision is the first one.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};

/// Bytes that decide.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    /// The next `count` bytes, or as many as there are.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The next bytes up to a zero byte, which goes too.
    pub(crate) fn line(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == 0);
        let line = self.take(end.unwrap_or(self.0.len()));
        self.byte();
        line
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.take(self.0.len())
    }
}

/// A body in frames, perhaps cut off at its end.
pub(crate) struct Frames {
    frames: VecDeque<Bytes>,
    is_cut: bool,
}

impl Frames {
    pub(crate) fn new(frames: impl IntoIterator<Item = Bytes>, is_cut: bool) -> Self {
        let frames = frames.into_iter().collect();
        Self { frames, is_cut }
    }

    /// `data` in frames of at most `most` bytes.
    pub(crate) fn cut(data: &[u8], most: usize) -> Self {
        let frames = data.chunks(most.max(1)).map(Bytes::copy_from_slice);
        Self::new(frames, false)
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match self.frames.pop_front() {
            Some(frame) => Some(Ok(Frame::data(frame))),
            None if std::mem::take(&mut self.is_cut) => {
                Some(Err(io::ErrorKind::ConnectionReset.into()))
            }
            None => None,
        })
    }
}

/// Runs `work` in time that passes when nothing else does.
pub(crate) fn in_paused_time<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}
