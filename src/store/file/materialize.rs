//! [`LayDowns`]: in the background, one at a time, final uploads get a plain file of their own.

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
    dispatch::Cost,
    entry::EntryGuard,
    lock,
    shared::{Shared, failed},
};
use crate::{store::StoreError, upload::UploadId};

/// Bytes copied between two looks at whether the process is ending: about a second of a slow disk.
const STEP_BYTES: u64 = 64 << 20;

/// How long a copy that failed waits for its cause to go away, such as a full disk.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Final uploads that wait for their plain file.
#[derive(Debug, Default)]
pub(super) struct Materializer {
    queue: Mutex<Queue>,
    /// Called when nothing is left to do.
    idle: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<UploadId>,
    /// Whether there is a worker.
    busy: bool,
}

impl Materializer {
    /// Has a plain file made for `id`, some time.
    ///
    /// Outside of a runtime the request waits for the next one made inside.
    pub(super) fn add(&self, shared: &Arc<Shared>, id: &UploadId) {
        let mut queue = lock(&self.queue);
        // The same id twice does no harm: the second time nothing is left to do.
        queue.waiting.push_back(id.clone());
        if !queue.busy
            && let Ok(runtime) = Handle::try_current()
        {
            queue.busy = true;
            runtime.spawn(Worker { shared: Arc::downgrade(shared), done: false }.work());
        }
    }

    /// Waits until nothing is left to do, but what has failed and is tried again later.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(super) async fn wait_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if !lock(&self.queue).busy {
                return;
            }
            idle.await;
        }
    }

    /// The next id; `None` = the worker may go.
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

/// The task that makes plain files. It ends with the store, whose lock it must not prolong.
struct Worker {
    shared: Weak<Shared>,
    done: bool,
}

impl Worker {
    /// Works until nothing is left to do.
    async fn work(mut self) {
        while let Some(shared) = self.shared.upgrade() {
            let Some(id) = shared.materializer.next() else {
                self.done = true;
                return;
            };
            if let Err(e) = materialize(&shared, &id).await {
                tracing::warn!(%id, error = %e, "cannot lay a final upload down; its parts serve");
                tokio::spawn(retry(self.shared.clone(), id));
            }
        }
    }
}

/// Has another try made later, so that one upload in trouble does not hold up the others.
async fn retry(shared: Weak<Shared>, id: UploadId) {
    tokio::time::sleep(RETRY_AFTER).await;
    if let Some(shared) = shared.upgrade() {
        shared.materializer.add(&shared, &id);
    }
}

impl Drop for Worker {
    /// The task may be dropped with its runtime; the next request then starts another one.
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

/// Makes the plain file of `id`. Its bytes can be read all the time.
async fn materialize(shared: &Arc<Shared>, id: &UploadId) -> Result<(), StoreError> {
    let mut guard = shared.cache.entry(id).lock().await;
    let begun = shared.run(Cost::Disk, move |shared| Copy::begin(shared, &mut guard));
    let Some(mut copy) = begun.await? else {
        return Ok(());
    };
    // The copying itself is done with nothing held, so that the upload can be removed meanwhile.
    let mut outcome = Ok(false);
    while let Ok(false) = outcome {
        let step = move |shared: &Arc<Shared>| {
            let outcome = copy.step(shared);
            (copy, outcome)
        };
        (copy, outcome) = shared.run(Cost::Disk, step).await;
    }
    let mut guard = shared.cache.entry(id).lock().await;
    let end = move |shared: &Arc<Shared>| match outcome {
        Ok(_) => copy.publish(shared, &mut guard),
        Err(e) => copy.discard(shared).and(Err(e)),
    };
    let ended = shared.run(Cost::Disk, end).await;
    ended.map_err(failed("laying down", id))
}

/// The bytes of a final upload on their way into one file.
#[derive(Debug)]
struct Copy {
    id: UploadId,
    /// Where the bytes go: the private data file, which only becomes the right one in the end.
    target: File,
    /// How many have gone there.
    copied: u64,
    /// How many there are.
    length: u64,
    /// The positions of links not opened yet, the next one last.
    links: Vec<u64>,
    /// The link being copied.
    source: Option<File>,
}

impl Copy {
    /// Begins. `None` when nothing is to be done (any more).
    fn begin(shared: &Arc<Shared>, guard: &mut EntryGuard) -> Result<Option<Self>, StoreError> {
        let upload = match shared.load(guard) {
            Ok(upload) if upload.is_published() => upload,
            Ok(_) | Err(StoreError::Absent) => return Ok(None),
            Err(e) => return Err(e),
        };
        let (id, disk) = (&upload.id, &shared.disk);
        let doing = "beginning to lay down";
        if disk.exists(id, Kind::Plain).map_err(failed(doing, id))? {
            // It was laid down, and the loss of power has brought the links back. It is not published
            // a second time: somebody may be at work on it.
            disk.unlink_tree(id, Kind::Join).map_err(failed(doing, id))?;
            return Ok(None);
        }
        let Some(mut links) = disk.links(id).map_err(failed(doing, id))? else {
            // All but its rename may have been done before.
            shared.reconcile_names(guard, &upload).map_err(failed(doing, id))?;
            return Ok(None);
        };
        links.reverse();
        // A new file, so that its identity tells in the end whether it is still the one in place.
        disk.unlink(id, Kind::Part).map_err(failed(doing, id))?;
        let target = disk.create_new(id, Kind::Part).map_err(failed(doing, id))?;
        let (id, length) = (id.clone(), upload.offset());
        Ok(Some(Self { id, target, copied: 0, length, links, source: None }))
    }

    /// Copies some more. Says whether that was all, and durable.
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
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a part is too short"));
            }
            budget -= copied;
            self.copied += copied;
            if self.copied < end {
                self.source = Some(source);
            }
        }
        Ok(false)
    }

    /// Puts the file in the place of the links, unless the upload has gone its way.
    fn publish(self, shared: &Arc<Shared>, guard: &mut EntryGuard) -> io::Result<()> {
        let (id, disk) = (&self.id, &shared.disk);
        let current = shared.load(guard).is_ok_and(|upload| upload.is_published());
        if !current || !disk.is_same_file(id, Kind::Part, &self.target)? {
            return Ok(());
        }
        disk.unlink_tree(id, Kind::JoinTmp)?;
        // The private file lasts before its source may be lost.
        disk.sync_names()?;
        // From here on the upload is like any other that lacks its rename.
        disk.rename(id, Kind::Join, Kind::JoinTmp)?;
        shared.rename_to_plain(id)?;
        disk.unlink_tree(id, Kind::JoinTmp)?;
        Ok(())
    }

    /// Gives back the space of a copy that came to nothing.
    fn discard(self, shared: &Shared) -> io::Result<()> {
        if shared.disk.is_same_file(&self.id, Kind::Part, &self.target)? {
            shared.disk.unlink(&self.id, Kind::Part)?;
        }
        Ok(())
    }
}
