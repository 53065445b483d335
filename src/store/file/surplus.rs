//! [`Surplus`]: bytes in the data file of an open upload that no record speaks of and none will, such
//! as those of a refused request. Their space is given back as soon as nothing can record them.

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

/// How many may still record bytes of a data file, and which of its bytes are not recorded.
#[derive(Debug, Default)]
pub(super) struct Surplus {
    state: Mutex<State>,
    /// Notified when a cut is over.
    done: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the file is being cut.
    is_reclaiming: bool,
    /// From the first to the last byte that was written and not recorded.
    range: Option<Range<u64>>,
    /// Stakes that are there.
    open_writes: usize,
}

impl Surplus {
    /// Waits while the file is being cut.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(super) async fn wait_idle(&self) {
        self.when_idle(|_| ()).await;
    }

    /// Does `then` in a moment in which the file is not being cut.
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

/// A writer's interest in what it writes, which its receipts share: until the last of them is dropped,
/// its bytes may be recorded.
///
/// While an upload has any stake, nothing is freed: where another writer is going to write is not
/// known.
#[derive(Debug)]
pub(super) struct OpenWrite {
    /// A receipt that is kept does not keep the directory locked.
    disk: Weak<Disk>,
    /// The position after the last byte.
    end: AtomicU64,
    entry: EntryRef,
    file: Arc<File>,
    /// The position of the first byte.
    start: u64,
}

impl OpenWrite {
    /// An interest in the bytes of `file` from `start` on. Waits while the file is being cut, so that
    /// nothing that is written afterwards is lost.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
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

    /// The upload.
    pub(super) fn id(&self) -> &UploadId {
        &self.entry.id
    }

    /// The position of the first byte.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Notes that bytes up to `end` may be written.
    pub(super) fn extend(&self, end: u64) {
        self.end.store(end, Ordering::Relaxed);
    }

    /// Notes that the writer was given up while a thread may still be writing for it.
    pub(super) fn abandoned_by(&self, queue: &Arc<WriteQueue>) {
        self.entry.abandon(queue);
    }

    /// What a commit names the bytes by: nothing, as the record says where they are.
    pub(super) fn receipt(self: &Arc<Self>) -> Receipt {
        Receipt(Bytes::from_owner(ReceiptOwner(Arc::clone(self))))
    }
}

/// A stake as the owner of no bytes.
struct ReceiptOwner(#[expect(dead_code, reason = "it is kept, not used")] Arc<OpenWrite>);

impl AsRef<[u8]> for ReceiptOwner {
    fn as_ref(&self) -> &[u8] {
        &[]
    }
}

impl Drop for OpenWrite {
    /// What was not recorded by now will never be.
    fn drop(&mut self) {
        let written = self.start..self.end.load(Ordering::Relaxed);
        let (Some(reclaim), Some(disk)) =
            (Reclaim::after_write(&self.entry, written), self.disk.upgrade())
        else {
            return;
        };
        let file = Arc::clone(&self.file);
        let work = move || reclaim.run(&disk, &file);
        // The release of a large file takes a while.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(work)),
            Err(_) => work(),
        }
    }
}

/// The right to cut a data file. Until it is dropped no writer begins, and no upload is published.
#[derive(Debug)]
pub(super) struct Reclaim {
    entry: EntryRef,
    /// Where to look for bytes that are not recorded.
    range: Range<u64>,
    upload: Arc<Upload>,
}

impl Reclaim {
    /// Gives up one stake, in the bytes `written`. If it was the last of its upload, gives the right to
    /// free what none of them has recorded; `None` when there is nothing to free.
    fn after_write(entry: &EntryRef, written: Range<u64>) -> Option<Self> {
        let mut state = lock(&entry.surplus.state);
        state.open_writes -= 1;
        // Read under the lock: a commit that is about to add bytes holds a stake.
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

    /// The right to free all that `upload`, just read, does not count; `None` while there are stakes.
    pub(super) fn all(entry: &EntryRef, upload: &Arc<Upload>) -> Option<Self> {
        let mut state = lock(&entry.surplus.state);
        if state.open_writes > 0 || state.is_reclaiming {
            return None;
        }
        state.is_reclaiming = true;
        drop(state);
        Some(Self { entry: entry.clone(), range: 0..u64::MAX, upload: Arc::clone(upload) })
    }

    /// Cuts `file` off behind the last byte that is recorded, and punches holes before it. Blocks. A
    /// failure leaves bytes behind that take space and do no other harm.
    pub(super) fn run(self, disk: &Disk, file: &File) {
        let freed = self.free(disk, file);
        if let Err(error) = freed
            && error.kind() != io::ErrorKind::Unsupported
        {
            tracing::warn!(id = %self.upload.id, %error, "cannot free bytes that do not count");
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
