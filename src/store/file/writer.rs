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
    entry::Lease,
    lock,
    pace::{Cost, in_pool},
    reader::Pieces,
    surplus::Stake,
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
pub(super) struct FileWriter(Arc<Pump>);

impl FileWriter {
    /// A sink into `file`, which belongs to `entry`, from position `start` on.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(super) async fn open(disk: Arc<Disk>, entry: Lease, file: Arc<File>, start: u64) -> Self {
        let stake = Stake::take(&disk, entry, Arc::clone(&file), start).await;
        let flow = Flow { pushed: start, written: start, ..Flow::default() };
        let (flow, moved) = (Mutex::new(flow), Notify::new());
        Self(Arc::new(Pump { disk, file, flow, moved, stake }))
    }
}

#[async_trait]
impl Writer for FileWriter {
    /// # Cancel safety
    /// A push dropped while it waits has taken nothing.
    async fn push(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.0.wait(|flow| flow.waiting_bytes < WINDOW_BYTES).await?;
        self.0.accept(bytes);
        Ok(())
    }

    fn checkpoint(&mut self) -> Pending<Result<Receipt, StoreError>> {
        let pump = Arc::clone(&self.0);
        let target = pump.flush();
        Box::pin(async move {
            pump.wait(|flow| flow.written >= target).await?;
            pump.sync().await?;
            Ok(pump.stake.receipt())
        })
    }

    async fn reread(&mut self) -> Result<ByteStream, StoreError> {
        let target = self.0.flush();
        self.0.wait(|flow| flow.written >= target).await?;
        let (disk, file) = (Arc::clone(&self.0.disk), Arc::clone(&self.0.file));
        let (id, start) = (self.0.stake.id().clone(), self.0.stake.start());
        let pieces = Pieces::of_file(disk, id, file, start..target);
        Ok(pieces.stream())
    }

    async fn finish(self: Box<Self>) -> Result<Receipt, StoreError> {
        let target = self.0.flush();
        self.0.wait(|flow| flow.written >= target).await?;
        self.0.sync().await?;
        Ok(self.0.stake.receipt())
    }
}

impl Drop for FileWriter {
    /// Nothing that waits is written any more. What is being written right now cannot be called
    /// back, so the entry makes later writers wait for it.
    fn drop(&mut self) {
        if self.0.abandon() {
            self.0.stake.abandoned_by(&self.0);
        }
    }
}

/// What a writer shares with whoever writes for it.
#[derive(Debug)]
pub(super) struct Pump {
    disk: Arc<Disk>,
    file: Arc<File>,
    flow: Mutex<Flow>,
    /// Called whenever `flow` has got further.
    moved: Notify,
    /// What keeps the bytes from being freed.
    stake: Arc<Stake>,
}

/// How far a writer has got.
#[derive(Debug, Default)]
struct Flow {
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

impl Pump {
    /// Waits until `enough` says so.
    ///
    /// # Errors
    /// Why nothing is written any more.
    async fn wait(&self, enough: impl Fn(&Flow) -> bool) -> Result<(), StoreError> {
        loop {
            let moved = self.moved.notified();
            {
                let flow = lock(&self.flow);
                if let Some(failure) = &flow.failure {
                    return Err(failed(io::Error::new(failure.kind(), Arc::clone(failure))));
                }
                if enough(&flow) {
                    return Ok(());
                }
            }
            moved.await;
        }
    }

    /// Waits until nobody writes.
    pub(super) async fn idle(&self) {
        loop {
            let moved = self.moved.notified();
            if !lock(&self.flow).running {
                return;
            }
            moved.await;
        }
    }

    /// Takes a frame, and sees that a full batch is written.
    fn accept(self: &Arc<Self>, frame: Bytes) {
        if frame.is_empty() {
            return;
        }
        let mut flow = lock(&self.flow);
        flow.pushed += length(&frame);
        self.stake.extend(flow.pushed);
        flow.waiting_bytes += frame.len();
        flow.add(frame);
        let is_full = flow.waiting_bytes >= BATCH_BYTES;
        drop(flow);
        if is_full {
            self.start();
        }
    }

    /// Sees that everything accepted is written. Gives the position after it.
    fn flush(self: &Arc<Self>) -> u64 {
        let flow = lock(&self.flow);
        let (target, is_empty) = (flow.pushed, flow.is_empty());
        drop(flow);
        if !is_empty {
            self.start();
        }
        target
    }

    /// Sees that what waits is written: right here, or by a thread.
    fn start(self: &Arc<Self>) {
        if std::mem::replace(&mut lock(&self.flow).running, true) {
            return;
        }
        if let Some(here) = self.disk.pace().here(Cost::Memory) {
            here.run(|| self.run());
        } else {
            let shift = Shift { pump: Arc::clone(self), begun: false };
            spawn_blocking(move || shift.begin());
        }
    }

    /// Writes until nothing waits. To be called by whoever set `running`.
    fn run(&self) {
        let mut flow = lock(&self.flow);
        while let Some(batch) = flow.next_batch() {
            let at = flow.written;
            drop(flow);
            let outcome = self.disk.write_at(&self.file, &batch, at);
            flow = lock(&self.flow);
            flow.waiting_bytes -= batch.iter().map(Bytes::len).sum::<usize>();
            match outcome {
                Ok(()) => flow.written += batch.iter().map(length).sum::<u64>(),
                Err(e) => flow.fail(e),
            }
            self.moved.notify_waiters();
        }
        flow.running = false;
        self.moved.notify_waiters();
    }

    /// Makes what is written durable. A failure is final: the system may forget what it could not
    /// write and report success the next time.
    async fn sync(self: &Arc<Self>) -> Result<(), StoreError> {
        if self.disk.durability() == Durability::Relaxed {
            return Ok(());
        }
        let pump = Arc::clone(self);
        let sync = move || {
            if let Err(e) = pump.disk.sync(&pump.file) {
                lock(&pump.flow).fail(e);
                pump.moved.notify_waiters();
            }
        };
        in_pool(sync).await;
        self.wait(|_| true).await
    }

    /// Forgets what waits. Says whether someone may still be writing.
    fn abandon(&self) -> bool {
        let mut flow = lock(&self.flow);
        if flow.written < flow.pushed {
            flow.fail(io::Error::other("the writer was given up"));
        }
        let running = flow.running;
        drop(flow);
        self.moved.notify_waiters();
        running
    }
}

impl Flow {
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
struct Shift {
    pump: Arc<Pump>,
    begun: bool,
}

impl Shift {
    /// Writes, now that there is a thread.
    fn begin(mut self) {
        self.begun = true;
        self.pump.run();
    }
}

impl Drop for Shift {
    fn drop(&mut self) {
        if !self.begun {
            lock(&self.pump.flow).running = false;
            self.pump.moved.notify_waiters();
        }
    }
}
