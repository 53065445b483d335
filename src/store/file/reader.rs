//! [`Pieces`]: the bytes of an upload, read wherever they lie, and [`Ahead`]: blocking reads as a
//! stream.

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

/// Bytes per read: a frame of HTTP/2. A client that takes nothing keeps one or two of them.
const READ_BYTES: usize = 16 << 10;

/// Reads that are made at a time at most, 128 KiB. Twice as much is in memory for each download.
const READS_AHEAD: usize = 8;

/// The bytes of a range of an upload, piece by piece. Blocks.
///
/// The bytes of a published upload may be on their way from links to a plain file. They are looked
/// for in the order in which they move, so that they are found wherever they are just then.
#[derive(Debug)]
pub(super) struct BlockReader {
    disk: Arc<Disk>,
    id: UploadId,
    /// What is still to be read.
    rest: Range<u64>,
    segment: Segment,
    /// The positions of all links; empty when there are none.
    links: Vec<u64>,
}

/// An open file that holds some of the bytes.
#[derive(Debug)]
struct Segment {
    file: Arc<File>,
    /// Which bytes of the upload are those of the file.
    range: Range<u64>,
}

impl Segment {
    /// A file that holds all bytes.
    fn whole(file: impl Into<Arc<File>>) -> Self {
        Self { file: file.into(), range: 0..u64::MAX }
    }

    /// The same, if the file has all bytes that are to be read from it: a short file is an error before
    /// the first byte.
    fn check_length(self, disk: &Disk, id: &UploadId, rest: &Range<u64>) -> io::Result<Self> {
        let length = disk.linked_length(&self.file)?;
        let end = length.map_or(u64::MAX, |length| self.range.start.saturating_add(length));
        if rest.is_empty() || self.range.end.min(rest.end) <= end {
            return Ok(self);
        }
        Err(too_short(id, end))
    }
}

/// The error for data that ends before its record says.
fn too_short(id: &UploadId, end: u64) -> io::Error {
    damaged(format!("the data of {id} ends at byte {end}, its record says more"))
}

impl BlockReader {
    /// The bytes `range` of `upload`.
    ///
    /// # Errors
    /// `NotFound` when there is no data file, or what the system says.
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

    /// The bytes `range` of `file`.
    pub(super) fn of_file(
        disk: Arc<Disk>,
        id: UploadId,
        file: Arc<File>,
        range: Range<u64>,
    ) -> Self {
        Self { disk, id, rest: range, segment: Segment::whole(file), links: Vec::new() }
    }

    /// The bytes as a stream.
    pub(super) fn stream(self) -> ByteStream {
        Box::pin(ReadAhead::new(self, READS_AHEAD))
    }

    /// The next piece of a rest that is not empty.
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

/// The file that holds the byte at position `at`. Bytes move from the links to the private file and
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
            // The head of an answer is on its way already, and cannot say it.
            tracing::error!(id = %self.id, %error, "cannot read on");
            // What follows cannot be right.
            self.rest.start = self.rest.end;
        }
        Some(block)
    }

    /// Says when there is nothing more, so that nobody looks in vain.
    fn size_hint(&self) -> (usize, Option<usize>) {
        match self.rest.is_empty() {
            true => (0, Some(0)),
            false => (1, None),
        }
    }
}

/// A blocking iterator as a stream: its items are made on the blocking pool, the next ones while
/// the consumer is busy with those before.
#[derive(Debug)]
pub(super) struct ReadAhead<I: Iterator> {
    /// Items that were made.
    ready: VecDeque<I::Item>,
    /// How many are made next: twice as many each time, so that a consumer that stops soon has
    /// cost little.
    batch: usize,
    /// How many are made at a time at most.
    max_batch: usize,
    state: State<I>,
}

#[derive(Debug)]
enum State<I: Iterator> {
    /// There are no more.
    Ended,
    /// Nothing is being made.
    Idle(I),
    /// Some are being made.
    Running(JoinHandle<(I, VecDeque<I::Item>)>),
}

impl<I> ReadAhead<I>
where
    I: Iterator + Send + 'static,
    I::Item: Send,
{
    /// The items of `items`, made from the first poll on, at most so many at a time.
    pub(super) fn new(items: I, max_batch: usize) -> Self {
        Self { ready: VecDeque::new(), batch: 1, max_batch, state: State::Idle(items) }
    }

    /// Has the next items made, if nothing is being made.
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
                // Fewer than asked for, or the last: the iterator has ended.
                Ok((_, ready)) => (self.state, self.ready) = (State::Ended, ready),
                Err(e) => match e.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime ends and nobody will poll again.
                    Err(_) => return Poll::Pending,
                },
            }
        }
    }
}
