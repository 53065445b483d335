//! [`Materializer`]: copies joined uploads into plain files, in the background, one at a time.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify};

use super::{
    disk::Kind,
    dispatch::in_pool,
    entry::EntryGuard,
    lock,
    shared::{Shared, failed},
};
use crate::{store::StoreError, upload::UploadId};

/// Bytes copied between two checks whether the store is closed: about a second on a slow disk.
pub(super) const STEP_BYTES: u64 = 64 << 20;

/// Delay before a failed copy is tried again, for example on a full disk.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Joined uploads that wait for a plain file.
#[derive(Debug, Default)]
pub(super) struct Materializer {
    queue: Mutex<Queue>,
    /// Notified when the queue is empty.
    idle: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<UploadId>,
    /// Whether a worker is running.
    busy: bool,
}

impl Materializer {
    /// Queues `id`, and starts a worker if there is none.
    ///
    /// Outside of a runtime no worker starts until the next call from inside of one.
    pub(super) fn add(&self, shared: &Arc<Shared>, id: &UploadId) {
        let mut queue = lock(&self.queue);
        // Queueing an id twice does no harm: the second time nothing is left to do.
        queue.waiting.push_back(id.clone());
        if !queue.busy
            && let Ok(runtime) = Handle::try_current()
        {
            queue.busy = true;
            runtime.spawn(Worker { shared: Arc::downgrade(shared), done: false }.work());
        }
    }

    /// Waits until the queue is empty. Uploads that failed and wait for their retry do not count.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn wait_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if !lock(&self.queue).busy {
                return;
            }
            idle.await;
        }
    }

    /// Returns the next id; `None` ends the worker.
    fn next(&self) -> Option<UploadId> {
        let mut queue = lock(&self.queue);
        let id = queue.waiting.pop_front();
        if id.is_none() {
            queue.busy = false;
            self.idle.notify_waiters();
        }
        id
    }
}

/// The task that materializes uploads. Holds the store weakly, so that it delays the unlocking of
/// the directory by one step at most.
struct Worker {
    shared: Weak<Shared>,
    done: bool,
}

impl Worker {
    /// Runs until the queue is empty.
    async fn work(mut self) {
        while let Some(next) = self.shared.upgrade().map(|shared| shared.materializer.next()) {
            let Some(id) = next else {
                self.done = true;
                return;
            };
            if let Some(Err(e)) = materialize(&self.shared, &id).await {
                tracing::warn!(%id, error = %e, "cannot materialize a final upload; it is read from its partials");
                tokio::spawn(retry(self.shared.clone(), id));
            }
        }
    }
}

/// Queues `id` again after [`RETRY_AFTER`], so that a failing upload does not block the others.
async fn retry(shared: Weak<Shared>, id: UploadId) {
    tokio::time::sleep(RETRY_AFTER).await;
    if let Some(shared) = shared.upgrade() {
        shared.materializer.add(&shared, &id);
    }
}

impl Drop for Worker {
    /// The task may be dropped with its runtime; the next call of `add` starts another one.
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Some(shared) = self.shared.upgrade() {
            lock(&shared.materializer.queue).busy = false;
            shared.materializer.idle.notify_waiters();
        }
    }
}

/// Copies the bytes of `id` into a plain file. They can be read at any moment. Returns `None` when
/// the store is closed.
async fn materialize(store: &Weak<Shared>, id: &UploadId) -> Option<Result<(), StoreError>> {
    let mut guard = lock_entry(store, id).await?;
    let mut copy = match run(store, move |shared| Copy::begin(shared, &mut guard)).await? {
        Ok(Some(copy)) => copy,
        Ok(None) => return Some(Ok(())),
        Err(e) => return Some(Err(e)),
    };
    // The entry is unlocked while bytes are copied, so that the upload can be removed meanwhile.
    let mut outcome = Ok(false);
    while let Ok(false) = outcome {
        let step = move |shared: &Arc<Shared>| {
            let outcome = copy.step(shared);
            (copy, outcome)
        };
        (copy, outcome) = run(store, step).await?;
    }
    let mut guard = lock_entry(store, id).await?;
    let end = move |shared: &Arc<Shared>| match outcome {
        Ok(_) => copy.publish(shared, &mut guard),
        Err(e) => copy.discard(shared).and(Err(e)),
    };
    let ended = run(store, end).await?;
    Some(ended.map_err(failed("materializing", id)))
}

/// Waits for exclusive access to the files of an upload. Does not hold the store while it waits.
async fn lock_entry(store: &Weak<Shared>, id: &UploadId) -> Option<EntryGuard> {
    let entry = store.upgrade()?.cache.entry(id);
    Some(entry.lock().await)
}

/// Runs one step of the work. The directory stays locked until it ends, even if the store is
/// dropped.
async fn run<T: Send + 'static>(
    store: &Weak<Shared>,
    work: impl FnOnce(&Arc<Shared>) -> T + Send + 'static,
) -> Option<T> {
    let shared = store.upgrade()?;
    Some(in_pool(move || work(&shared)).await)
}

/// A copy of the bytes of a joined upload in progress.
#[derive(Debug)]
struct Copy {
    id: UploadId,
    /// The private data file, which becomes the plain file when the copy is complete.
    target: File,
    /// Bytes copied.
    copied: u64,
    /// Bytes to be copied in all.
    length: u64,
    /// The positions of links not opened yet, the next one last.
    links: Vec<u64>,
    /// The link being copied.
    source: Option<File>,
}

impl Copy {
    /// Begins a copy; `None` when there is nothing to do.
    fn begin(shared: &Arc<Shared>, guard: &mut EntryGuard) -> Result<Option<Self>, StoreError> {
        let upload = match shared.load(guard) {
            Ok(upload) if upload.is_published() => upload,
            Ok(_) | Err(StoreError::Absent) => return Ok(None),
            Err(e) => return Err(e),
        };
        let (id, disk) = (&upload.id, &shared.disk);
        let doing = "materializing";
        if disk.exists(id, Kind::Plain).map_err(failed(doing, id))? {
            // Materialized already; a power loss has brought the links back. It is not published
            // again, because its owner may be using the file.
            disk.unlink_tree(id, Kind::Join).map_err(failed(doing, id))?;
            return Ok(None);
        }
        let Some(mut links) = disk.links(id).map_err(failed(doing, id))? else {
            // Everything but the rename may have been done before.
            shared.reconcile_names(guard, &upload).map_err(failed(doing, id))?;
            return Ok(None);
        };
        links.reverse();
        // A new file, whose identity shows in the end whether it is still the one in place.
        disk.unlink(id, Kind::Part).map_err(failed(doing, id))?;
        let target = disk.create_new(id, Kind::Part).map_err(failed(doing, id))?;
        let (id, length) = (id.clone(), upload.offset());
        Ok(Some(Self { id, target, copied: 0, length, links, source: None }))
    }

    /// Copies up to [`STEP_BYTES`]. Returns whether the copy is complete and durable.
    fn step(&mut self, shared: &Shared) -> io::Result<bool> {
        let mut budget = STEP_BYTES;
        while budget > 0 {
            let source = match self.source.take() {
                Some(source) => source,
                None => match self.links.pop() {
                    Some(link) => shared.disk.open_link(&self.id, link)?,
                    None => return shared.disk.sync(&self.target).map(|()| true),
                },
            };
            let end = self.links.last().copied().unwrap_or(self.length);
            let limit = budget.min(end.saturating_sub(self.copied));
            let copied = shared.disk.copy(&source, &self.target, limit)?;
            if copied == 0 && limit > 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a partial is too short"));
            }
            budget -= copied;
            self.copied += copied;
            if self.copied < end {
                self.source = Some(source);
            }
        }
        Ok(false)
    }

    /// Replaces the links by the file, unless the upload was removed or replaced meanwhile.
    fn publish(self, shared: &Arc<Shared>, guard: &mut EntryGuard) -> io::Result<()> {
        let (id, disk) = (&self.id, &shared.disk);
        let current = shared.load(guard).is_ok_and(|upload| upload.is_published());
        if !current || !disk.is_same_file(id, Kind::Part, &self.target)? {
            return Ok(());
        }
        disk.unlink_tree(id, Kind::JoinTmp)?;
        // The private file must be durable before its sources may be lost.
        disk.sync_names()?;
        // From here on the upload is like any other whose rename is pending.
        disk.rename(id, Kind::Join, Kind::JoinTmp)?;
        shared.rename_to_plain(id)?;
        disk.unlink_tree(id, Kind::JoinTmp)?;
        Ok(())
    }

    /// Unlinks a failed copy.
    fn discard(self, shared: &Shared) -> io::Result<()> {
        if shared.disk.is_same_file(&self.id, Kind::Part, &self.target)? {
            shared.disk.unlink(&self.id, Kind::Part)?;
        }
        Ok(())
    }
}
