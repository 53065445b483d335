//! [`Surplus`]: bytes in the data file of an open upload that were written and never committed,
//! such as those of a refused request. Their space is reclaimed once no write can commit them any
//! more.

use std::{
    fs::File,
    io,
    ops::Range,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::{runtime::Handle, sync::Notify};

use super::{disk::Disk, entry::EntryRef, lock, writer::WriteQueue};
use crate::upload::{Phase, Receipt, Upload, UploadId};

/// Tracks the writes of a data file that may still be committed, and its uncommitted bytes.
#[derive(Debug, Default)]
pub(super) struct Surplus {
    state: Mutex<State>,
    /// Notified when a reclaim ends.
    done: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the file is being truncated or punched.
    is_reclaiming: bool,
    /// From the first to the last byte that was written and not committed.
    range: Option<Range<u64>>,
    /// Number of [`OpenWrite`]s.
    open_writes: usize,
}

impl Surplus {
    /// Waits until the file is not being reclaimed.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn wait_idle(&self) {
        self.when_idle(|_| ()).await;
    }

    /// Runs `then` while the file is not being reclaimed.
    async fn when_idle(&self, then: impl FnOnce(&mut State)) {
        loop {
            let done = self.done.notified();
            {
                let mut state = lock(&self.state);
                if !state.is_reclaiming {
                    return then(&mut state);
                }
            }
            done.await;
        }
    }
}

/// A write that can still be committed. Shared by a writer and its receipts; when the last of them
/// is dropped, its bytes can no longer be committed.
///
/// Nothing is reclaimed while an upload has any open write, because the range that a writer is
/// going to write is not known.
#[derive(Debug)]
pub(super) struct OpenWrite {
    /// Weak: a receipt must not keep the data directory locked.
    disk: Weak<Disk>,
    /// The position after the last byte.
    end: AtomicU64,
    entry: EntryRef,
    file: Arc<File>,
    /// The position of the first byte.
    start: u64,
}

impl OpenWrite {
    /// Registers a write to `file` that begins at `start`. Waits while the file is being reclaimed,
    /// so that bytes written afterwards are not truncated.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn begin(
        disk: &Arc<Disk>,
        entry: EntryRef,
        file: Arc<File>,
        start: u64,
    ) -> Arc<Self> {
        entry.surplus.when_idle(|state| state.open_writes += 1).await;
        let (disk, end) = (Arc::downgrade(disk), AtomicU64::new(start));
        Arc::new(Self { disk, end, entry, file, start })
    }

    /// Returns the id of the upload.
    pub(super) fn id(&self) -> &UploadId {
        &self.entry.id
    }

    /// Returns the position of the first byte.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Extends the range that may be written to `end`.
    pub(super) fn extend(&self, end: u64) {
        self.end.store(end, Ordering::Relaxed);
    }

    /// Registers that the writer was dropped while a thread may still be writing for it.
    pub(super) fn abandoned_by(&self, queue: &Arc<WriteQueue>) {
        self.entry.abandon(queue);
    }

    /// Returns a receipt without content: it only keeps the write open. The record says where the
    /// bytes are.
    pub(super) fn receipt(self: &Arc<Self>) -> Receipt {
        Receipt(Bytes::from_owner(ReceiptOwner(Arc::clone(self))))
    }
}

/// Owns an open write inside of an empty [`Bytes`].
struct ReceiptOwner(
    #[expect(dead_code, reason = "keeps the write open until dropped")] Arc<OpenWrite>,
);

impl AsRef<[u8]> for ReceiptOwner {
    fn as_ref(&self) -> &[u8] {
        &[]
    }
}

impl Drop for OpenWrite {
    /// Bytes that are not committed by now never will be.
    fn drop(&mut self) {
        let written = self.start..self.end.load(Ordering::Relaxed);
        let (Some(reclaim), Some(disk)) =
            (Reclaim::after_write(&self.entry, written), self.disk.upgrade())
        else {
            return;
        };
        let file = Arc::clone(&self.file);
        let work = move || reclaim.run(&disk, &file);
        // Freeing the blocks of a large file takes a while.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(work)),
            Err(_) => work(),
        }
    }
}

/// The right to free uncommitted bytes of a data file. While it exists no write begins, and no
/// upload is published.
#[derive(Debug)]
pub(super) struct Reclaim {
    entry: EntryRef,
    /// The range to search for uncommitted bytes.
    range: Range<u64>,
    upload: Arc<Upload>,
}

impl Reclaim {
    /// Unregisters the open write of `written`. If it was the last one of its upload, returns the
    /// right to free the bytes that were not committed; `None` when there are none.
    fn after_write(entry: &EntryRef, written: Range<u64>) -> Option<Self> {
        let mut state = lock(&entry.surplus.state);
        state.open_writes -= 1;
        // Read under the lock: a commit that adds bytes keeps its write open.
        let upload = entry.current().filter(|upload| upload.phase == Phase::Open);
        if upload.as_ref().is_none_or(|upload| !upload.received.covers(&written)) {
            let range = state.range.get_or_insert(written.clone());
            *range = range.start.min(written.start)..range.end.max(written.end);
        }
        if state.open_writes > 0 {
            return None;
        }
        let range = state.range.take()?;
        let upload = upload?;
        state.is_reclaiming = true;
        drop(state);
        Some(Self { entry: entry.clone(), range, upload })
    }

    /// Returns the right to free all bytes that `upload`, just read, has not received; `None` while
    /// there are open writes.
    pub(super) fn all(entry: &EntryRef, upload: &Arc<Upload>) -> Option<Self> {
        let mut state = lock(&entry.surplus.state);
        if state.open_writes > 0 || state.is_reclaiming {
            return None;
        }
        state.is_reclaiming = true;
        drop(state);
        Some(Self { entry: entry.clone(), range: 0..u64::MAX, upload: Arc::clone(upload) })
    }

    /// Truncates `file` after the last committed byte and punches holes into the gaps before it.
    /// Blocks. A failure is logged; the bytes that remain use space and do no other harm.
    pub(super) fn run(self, disk: &Disk, file: &File) {
        let freed = self.free(disk, file);
        if let Err(error) = freed
            && error.kind() != io::ErrorKind::Unsupported
        {
            tracing::warn!(id = %self.upload.id, %error, "cannot reclaim uncommitted bytes");
        }
    }

    fn free(&self, disk: &Disk, file: &File) -> io::Result<()> {
        let received = &self.upload.received;
        let end = received.end();
        if disk.linked_length(file)?.is_some_and(|length| length > end) {
            disk.truncate(file, end)?;
        }
        for gap in received.gaps(&(self.range.start..self.range.end.min(end))) {
            disk.punch(file, &gap)?;
        }
        Ok(())
    }
}

impl Drop for Reclaim {
    fn drop(&mut self) {
        lock(&self.entry.surplus.state).is_reclaiming = false;
        self.entry.surplus.done.notify_waiters();
    }
}
