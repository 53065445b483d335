//! [`FileWriter`]: writes frames to a file in batches while further frames arrive.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::{sync::Notify, task::spawn_blocking};

use super::{
    disk::Disk,
    dispatch::{Cost, in_pool},
    entry::EntryRef,
    lock,
    reader::BlockReader,
    surplus::OpenWrite,
};
use crate::{
    store::{ByteStream, Durability, Pending, StoreError, Writer},
    upload::Receipt,
};

/// Bytes per write: enough to amortize the system call, and few enough to still be in the
/// processor's cache.
const BATCH_BYTES: usize = 128 << 10;

/// Bytes accepted and not written beyond which [`Writer::push`] waits: one batch being written and
/// one being collected.
const WINDOW_BYTES: usize = 2 * BATCH_BYTES;

/// Smaller frames are copied. A frame is a slice of the read buffer of its connection, at least 8
/// KiB in hyper, and keeps all of that allocated; many small ones would use many times the window.
const MIN_FRAME_BYTES: usize = 4 << 10;

/// A writer to the data file of one upload.
#[derive(Debug)]
pub(super) struct FileWriter(Arc<WriteQueue>);

impl FileWriter {
    /// Opens a writer to `file`, the data file of `entry`, at position `start`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn open(
        disk: Arc<Disk>,
        entry: EntryRef,
        file: Arc<File>,
        start: u64,
    ) -> Self {
        let open_write = OpenWrite::begin(&disk, entry, Arc::clone(&file), start).await;
        let state = QueueState { pushed: start, written: start, ..QueueState::default() };
        let (state, progress) = (Mutex::new(state), Notify::new());
        Self(Arc::new(WriteQueue { disk, file, state, progress, open_write }))
    }
}

#[async_trait]
impl Writer for FileWriter {
    /// # Cancel safety
    /// Cancel safe. A push dropped while it waits has accepted nothing.
    async fn push(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.0.wait(|state| state.waiting_bytes < WINDOW_BYTES).await?;
        self.0.enqueue(bytes);
        Ok(())
    }

    fn checkpoint(&mut self) -> Pending<Result<Receipt, StoreError>> {
        let queue = Arc::clone(&self.0);
        let target = queue.flush();
        Box::pin(async move {
            queue.wait(|state| state.written >= target).await?;
            queue.sync().await?;
            Ok(queue.open_write.receipt())
        })
    }

    async fn reread(&mut self) -> Result<ByteStream, StoreError> {
        let target = self.0.flush();
        self.0.wait(|state| state.written >= target).await?;
        let (disk, file) = (Arc::clone(&self.0.disk), Arc::clone(&self.0.file));
        let (id, start) = (self.0.open_write.id().clone(), self.0.open_write.start());
        let blocks = BlockReader::of_file(disk, id, file, start..target);
        Ok(blocks.stream())
    }

    async fn finish(self: Box<Self>) -> Result<Receipt, StoreError> {
        let target = self.0.flush();
        self.0.wait(|state| state.written >= target).await?;
        self.0.sync().await?;
        Ok(self.0.open_write.receipt())
    }
}

impl Drop for FileWriter {
    /// Discards queued frames. A write in progress cannot be cancelled, so the entry makes later
    /// writers wait for it.
    fn drop(&mut self) {
        if self.0.abandon() {
            self.0.open_write.abandoned_by(&self.0);
        }
    }
}

/// The frames of one writer on their way to the file; shared with the thread that writes them.
#[derive(Debug)]
pub(super) struct WriteQueue {
    disk: Arc<Disk>,
    file: Arc<File>,
    state: Mutex<QueueState>,
    /// Notified on every change of `state`.
    progress: Notify,
    /// Keeps the bytes from being reclaimed.
    open_write: Arc<OpenWrite>,
}

/// The progress of a writer.
#[derive(Debug, Default)]
struct QueueState {
    /// Frames to be written, in order.
    frames: VecDeque<Bytes>,
    /// Copies of small frames, to be written after `frames`.
    tail: BytesMut,
    /// Bytes queued or being written.
    waiting_bytes: usize,
    /// The position after the last byte accepted.
    pushed: u64,
    /// The position after the last byte written.
    written: u64,
    /// Whether a thread is writing, or about to.
    running: bool,
    /// The first error. Nothing is written after it.
    failure: Option<Arc<io::Error>>,
}

/// Returns the length of a frame in bytes.
fn length(frame: &Bytes) -> u64 {
    frame.len() as u64
}

/// The error for the data file. The span of the request names the upload.
fn failed(source: io::Error) -> StoreError {
    StoreError::io("writing the data file", source)
}

impl WriteQueue {
    /// Waits until `enough` returns true.
    ///
    /// # Errors
    /// The error that stopped the writer.
    async fn wait(&self, enough: impl Fn(&QueueState) -> bool) -> Result<(), StoreError> {
        loop {
            let progress = self.progress.notified();
            {
                let state = lock(&self.state);
                if let Some(failure) = &state.failure {
                    return Err(failed(io::Error::new(failure.kind(), Arc::clone(failure))));
                }
                if enough(&state) {
                    return Ok(());
                }
            }
            progress.await;
        }
    }

    /// Waits until no thread writes.
    pub(super) async fn wait_idle(&self) {
        loop {
            let progress = self.progress.notified();
            if !lock(&self.state).running {
                return;
            }
            progress.await;
        }
    }

    /// Queues a frame, and starts writing when a batch is full.
    fn enqueue(self: &Arc<Self>, frame: Bytes) {
        if frame.is_empty() {
            return;
        }
        let mut state = lock(&self.state);
        state.pushed += length(&frame);
        self.open_write.extend(state.pushed);
        state.waiting_bytes += frame.len();
        state.add(frame);
        let is_full = state.waiting_bytes >= BATCH_BYTES;
        drop(state);
        if is_full {
            self.start();
        }
    }

    /// Starts writing everything queued. Returns the position after it.
    fn flush(self: &Arc<Self>) -> u64 {
        let state = lock(&self.state);
        let (target, is_empty) = (state.pushed, state.is_empty());
        drop(state);
        if !is_empty {
            self.start();
        }
        target
    }

    /// Starts writing unless a thread already does: inline, or on the blocking pool.
    fn start(self: &Arc<Self>) {
        if std::mem::replace(&mut lock(&self.state).running, true) {
            return;
        }
        if let Some(inline) = self.disk.dispatcher().try_inline(Cost::Memory) {
            inline.run(|| self.run());
        } else {
            let job = PoolJob { queue: Arc::clone(self), begun: false };
            spawn_blocking(move || job.begin());
        }
    }

    /// Writes until the queue is empty. To be called by the thread that set `running`.
    fn run(&self) {
        let mut state = lock(&self.state);
        while let Some(batch) = state.next_batch() {
            let at = state.written;
            drop(state);
            let outcome = self.disk.write_at(&self.file, &batch, at);
            state = lock(&self.state);
            state.waiting_bytes -= batch.iter().map(Bytes::len).sum::<usize>();
            match outcome {
                Ok(()) => state.written += batch.iter().map(length).sum::<u64>(),
                Err(e) => state.fail(e),
            }
            self.progress.notify_waiters();
        }
        state.running = false;
        self.progress.notify_waiters();
    }

    /// Makes written bytes durable. A failure is permanent: after a failed sync the kernel may drop
    /// dirty pages and report success the next time.
    async fn sync(self: &Arc<Self>) -> Result<(), StoreError> {
        if self.disk.durability() == Durability::Relaxed {
            return Ok(());
        }
        let queue = Arc::clone(self);
        let sync = move || {
            if let Err(e) = queue.disk.sync(&queue.file) {
                lock(&queue.state).fail(e);
                queue.progress.notify_waiters();
            }
        };
        in_pool(sync).await;
        self.wait(|_| true).await
    }

    /// Discards queued frames. Returns whether a thread may still be writing.
    fn abandon(&self) -> bool {
        let mut state = lock(&self.state);
        if state.written < state.pushed {
            state.fail(io::Error::other("the writer was dropped"));
        }
        let running = state.running;
        drop(state);
        self.progress.notify_waiters();
        running
    }
}

impl QueueState {
    fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.tail.is_empty()
    }

    /// Queues a frame, copied if it is small.
    fn add(&mut self, frame: Bytes) {
        if frame.len() < MIN_FRAME_BYTES {
            self.tail.extend_from_slice(&frame);
        } else {
            self.end_tail();
            self.frames.push_back(frame);
        }
    }

    /// Queues the copies of small frames as one frame.
    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.frames.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// Takes the next frames to write; `None` when the queue is empty.
    fn next_batch(&mut self) -> Option<Vec<Bytes>> {
        self.end_tail();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES {
            let Some(frame) = self.frames.pop_front() else {
                break;
            };
            bytes += frame.len();
            batch.push(frame);
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Stops the writer. Only the first error is kept.
    fn fail(&mut self, reason: io::Error) {
        self.end_tail();
        let dropped = self.frames.drain(..).map(|frame| frame.len());
        self.waiting_bytes -= dropped.sum::<usize>();
        self.failure.get_or_insert_with(|| Arc::new(reason));
    }
}

/// A queue on its way to a pool thread. Resets `running` if the runtime shuts down before the
/// thread begins.
struct PoolJob {
    queue: Arc<WriteQueue>,
    begun: bool,
}

impl PoolJob {
    /// Writes the queue on this thread.
    fn begin(mut self) {
        self.begun = true;
        self.queue.run();
    }
}

impl Drop for PoolJob {
    fn drop(&mut self) {
        if !self.begun {
            lock(&self.queue.state).running = false;
            self.queue.progress.notify_waiters();
        }
    }
}
