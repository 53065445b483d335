//! [`FileWriter`]: frames into a file, in batches, while the next frames arrive.

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

/// Bytes written at a time: enough to make the system call cheap, and few enough to be still in the
/// processor's cache.
const BATCH_BYTES: usize = 128 << 10;

/// Bytes accepted and not written yet, beyond which [`Writer::push`] waits: one batch being written
/// and one being collected.
const WINDOW_BYTES: usize = 2 * BATCH_BYTES;

/// A frame of fewer bytes is copied. It is a slice of the buffer that its connection reads into, at
/// least 8 KiB in hyper; kept as it is, it would keep all of that, and many of them would be many times
/// the window.
const MIN_FRAME_BYTES: usize = 4 << 10;

/// A sink into the data file of one upload.
#[derive(Debug)]
pub(super) struct FileWriter(Arc<WriteQueue>);

impl FileWriter {
    /// A sink into `file`, which belongs to `entry`, from position `start` on.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
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
    /// A push dropped while it waits has taken nothing.
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
    /// Nothing that waits is written any more. What is being written right now cannot be called
    /// back, so the entry makes later writers wait for it.
    fn drop(&mut self) {
        if self.0.abandon() {
            self.0.open_write.abandoned_by(&self.0);
        }
    }
}

/// What a writer shares with whoever writes for it.
#[derive(Debug)]
pub(super) struct WriteQueue {
    disk: Arc<Disk>,
    file: Arc<File>,
    state: Mutex<QueueState>,
    /// Called whenever `flow` has got further.
    progress: Notify,
    /// What keeps the bytes from being freed.
    open_write: Arc<OpenWrite>,
}

/// How far a writer has got.
#[derive(Debug, Default)]
struct QueueState {
    /// Frames to be written, the next one first.
    frames: VecDeque<Bytes>,
    /// Copies of small frames, to be written after these.
    tail: BytesMut,
    /// Bytes to be written and being written.
    waiting_bytes: usize,
    /// The position after the last byte accepted.
    pushed: u64,
    /// The position after the last byte written.
    written: u64,
    /// Whether someone is writing, or about to.
    running: bool,
    /// Why nothing is written any more.
    failure: Option<Arc<io::Error>>,
}

/// Its length in bytes.
fn length(frame: &Bytes) -> u64 {
    frame.len() as u64
}

/// A failure of the data file. The upload is known from the span around it.
fn failed(source: io::Error) -> StoreError {
    StoreError::io("writing the data file", source)
}

impl WriteQueue {
    /// Waits until `enough` says so.
    ///
    /// # Errors
    /// Why nothing is written any more.
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

    /// Waits until nobody writes.
    pub(super) async fn wait_idle(&self) {
        loop {
            let progress = self.progress.notified();
            if !lock(&self.state).running {
                return;
            }
            progress.await;
        }
    }

    /// Takes a frame, and sees that a full batch is written.
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

    /// Sees that everything accepted is written. Gives the position after it.
    fn flush(self: &Arc<Self>) -> u64 {
        let state = lock(&self.state);
        let (target, is_empty) = (state.pushed, state.is_empty());
        drop(state);
        if !is_empty {
            self.start();
        }
        target
    }

    /// Sees that what waits is written: right here, or by a thread.
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

    /// Writes until nothing waits. To be called by whoever set `running`.
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

    /// Makes what is written durable. A failure is final: the system may forget what it could not
    /// write and report success the next time.
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

    /// Forgets what waits. Says whether someone may still be writing.
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

    /// Takes a frame in, as it is or copied.
    fn add(&mut self, frame: Bytes) {
        if frame.len() < MIN_FRAME_BYTES {
            self.tail.extend_from_slice(&frame);
        } else {
            self.end_tail();
            self.frames.push_back(frame);
        }
    }

    /// Makes a frame of the copies of small ones.
    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.frames.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// Takes the next frames to write; `None` when nothing waits.
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

    /// Notes that nothing is written any more; the first reason counts.
    fn fail(&mut self, reason: io::Error) {
        self.end_tail();
        let dropped = self.frames.drain(..).map(|frame| frame.len());
        self.waiting_bytes -= dropped.sum::<usize>();
        self.failure.get_or_insert_with(|| Arc::new(reason));
    }
}

/// A pump on its way to a thread. If the runtime ends before the thread begins, nobody writes.
struct PoolJob {
    queue: Arc<WriteQueue>,
    begun: bool,
}

impl PoolJob {
    /// Writes, now that there is a thread.
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
