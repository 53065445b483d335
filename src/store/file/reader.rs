//! [`BlockReader`]: reads the bytes of an upload from whichever files hold them, and [`ReadAhead`]:
//! a blocking iterator as a stream.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    data::damaged,
    disk::{Disk, Kind, found},
};
use crate::{
    store::ByteStream,
    upload::{Upload, UploadId},
};

/// Bytes per read: one HTTP/2 frame. A client that stops reading keeps one or two of them in
/// memory.
const READ_BYTES: usize = 16 << 10;

/// Maximum number of reads per batch, 128 KiB. Each download has up to two batches in memory.
const READS_AHEAD: usize = 8;

/// Reads a range of an upload block by block. For blocking threads.
///
/// The bytes of a published upload may be moving from links to a plain file. The files are tried in
/// the order of that move, so that the bytes are found at any moment.
#[derive(Debug)]
pub(super) struct BlockReader {
    disk: Arc<Disk>,
    id: UploadId,
    /// The range still to be read.
    rest: Range<u64>,
    segment: Segment,
    /// The positions of all links; empty when there are none.
    links: Vec<u64>,
}

/// An open file with some of the bytes.
#[derive(Debug)]
struct Segment {
    file: Arc<File>,
    /// The range of the upload that the file covers.
    range: Range<u64>,
}

impl Segment {
    /// A file with all bytes.
    fn whole(file: impl Into<Arc<File>>) -> Self {
        Self { file: file.into(), range: 0..u64::MAX }
    }

    /// Checks that the file has all bytes to be read from it, so that a short file is an error
    /// before the first byte.
    fn check_length(self, disk: &Disk, id: &UploadId, rest: &Range<u64>) -> io::Result<Self> {
        let length = disk.linked_length(&self.file)?;
        let end = length.map_or(u64::MAX, |length| self.range.start.saturating_add(length));
        if rest.is_empty() || self.range.end.min(rest.end) <= end {
            return Ok(self);
        }
        Err(too_short(id, end))
    }
}

/// The error for a data file that is shorter than its record says.
fn too_short(id: &UploadId, end: u64) -> io::Error {
    damaged(format!("the data of {id} ends at byte {end}, its record says more"))
}

impl BlockReader {
    /// Opens `range` of `upload`.
    ///
    /// # Errors
    /// `NotFound` when there is no data file; `Damaged` as the source when it is too short; other
    /// I/O errors.
    pub(super) fn open(disk: Arc<Disk>, upload: &Upload, range: Range<u64>) -> io::Result<Self> {
        let id = upload.id.clone();
        let plain = match upload.is_published() {
            true => found(disk.open_read(&id, Kind::Plain))?,
            false => None,
        };
        if let Some(file) = plain {
            let segment = Segment::whole(file).check_length(&disk, &id, &range)?;
            return Ok(Self { disk, id, rest: range, segment, links: Vec::new() });
        }
        let links = match upload.is_published() {
            true => disk.links(&id)?.unwrap_or_default(),
            false => Vec::new(),
        };
        let segment =
            segment_at(&disk, &id, &links, range.start)?.check_length(&disk, &id, &range)?;
        Ok(Self { disk, id, rest: range, segment, links })
    }

    /// Reads `range` of `file`.
    pub(super) fn of_file(
        disk: Arc<Disk>,
        id: UploadId,
        file: Arc<File>,
        range: Range<u64>,
    ) -> Self {
        Self { disk, id, rest: range, segment: Segment::whole(file), links: Vec::new() }
    }

    /// Returns the bytes as a stream that reads ahead.
    pub(super) fn stream(self) -> ByteStream {
        ByteStream::new(ReadAhead::new(self, READS_AHEAD))
    }

    /// Reads the next block. The rest must not be empty.
    fn next_block(&mut self) -> io::Result<Bytes> {
        let at = self.rest.start;
        if at >= self.segment.range.end {
            let segment = segment_at(&self.disk, &self.id, &self.links, at)?;
            self.segment = segment.check_length(&self.disk, &self.id, &self.rest)?;
        }
        let Segment { file, range } = &self.segment;
        let limit = range.end.min(self.rest.end) - at;
        let limit = usize::try_from(limit).unwrap_or(READ_BYTES).min(READ_BYTES);
        let block = self.disk.read_at(file, at - range.start, limit)?;
        if block.is_empty() {
            return Err(too_short(&self.id, at));
        }
        self.rest.start += block.len() as u64;
        Ok(block)
    }
}

/// Opens the file with the byte at position `at`. Bytes move from the links to the private file and
/// on to the plain file.
fn segment_at(disk: &Disk, id: &UploadId, links: &[u64], at: u64) -> io::Result<Segment> {
    let next = links.partition_point(|link| *link <= at);
    if let Some(start) = next.checked_sub(1).map(|last| links[last])
        && let Some(file) = found(disk.open_link(id, start))?
    {
        let end = links.get(next).copied().unwrap_or(u64::MAX);
        return Ok(Segment { file: file.into(), range: start..end });
    }
    if let Some(file) = found(disk.open_read(id, Kind::Part))? {
        return Ok(Segment::whole(file));
    }
    disk.open_read(id, Kind::Plain).map(Segment::whole)
}

impl Iterator for BlockReader {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let block = self.next_block();
        if let Err(error) = &block {
            // The response head has been sent already, so the error can only be logged.
            tracing::error!(id = %self.id, %error, "read failed, download cut short");
            // Ends the iteration after the error.
            self.rest.start = self.rest.end;
        }
        Some(block)
    }

    /// Reports the end exactly, which saves a last batch without items.
    fn size_hint(&self) -> (usize, Option<usize>) {
        match self.rest.is_empty() {
            true => (0, Some(0)),
            false => (1, None),
        }
    }
}

/// A blocking iterator as a stream. Items are made on the blocking pool; the next batch is made
/// while the consumer handles the current one.
#[derive(Debug)]
pub(super) struct ReadAhead<I: Iterator> {
    /// Items that are ready.
    ready: VecDeque<I::Item>,
    /// Size of the next batch. It doubles each time, so that a consumer that stops early has cost
    /// little.
    batch: usize,
    /// Maximum size of a batch.
    max_batch: usize,
    state: State<I>,
}

#[derive(Debug)]
enum State<I: Iterator> {
    /// The iterator has ended.
    Ended,
    /// No batch is being made.
    Idle(I),
    /// A batch is being made.
    Running(JoinHandle<(I, VecDeque<I::Item>)>),
}

impl<I> ReadAhead<I>
where
    I: Iterator + Send + 'static,
    I::Item: Send,
{
    /// Creates a stream of `items` in batches of at most `max_batch`. Does nothing before the first
    /// poll.
    pub(super) fn new(items: I, max_batch: usize) -> Self {
        Self { ready: VecDeque::new(), batch: 1, max_batch, state: State::Idle(items) }
    }

    /// Starts the next batch if none is being made.
    fn start(&mut self) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Idle(mut items) => {
                let batch = self.batch;
                self.state = State::Running(spawn_blocking(move || {
                    let ready = items.by_ref().take(batch).collect();
                    (items, ready)
                }));
            }
            other @ (State::Ended | State::Running(_)) => self.state = other,
        }
    }
}

impl<I> Stream for ReadAhead<I>
where
    I: Iterator + Send + Unpin + 'static,
    I::Item: Send + Unpin,
{
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                if self.ready.is_empty() {
                    self.start();
                }
                return Poll::Ready(Some(item));
            }
            self.start();
            let State::Running(task) = &mut self.state else {
                return Poll::Ready(None);
            };
            match ready!(Pin::new(task).poll(cx)) {
                Ok((items, ready))
                    if ready.len() == self.batch && items.size_hint().1 != Some(0) =>
                {
                    (self.state, self.ready) = (State::Idle(items), ready);
                    self.batch = self.max_batch.min(self.batch * 2);
                }
                // Fewer items than requested, or the last ones: the iterator has ended.
                Ok((_, ready)) => (self.state, self.ready) = (State::Ended, ready),
                Err(e) => match e.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime is shutting down and will not poll again.
                    Err(_) => return Poll::Pending,
                },
            }
        }
    }
}
