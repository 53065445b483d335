//! [`FileStore`]: uploads in one directory of a local file system.
//!
//! # Layout
//!
//! The directory is flat. An upload `<id>` has these files:
//!
//! | name | content | present |
//! | --- | --- | --- |
//! | `<id>.record` | the change log: one JSON line per commit, such as `{"rev":3,"changes":[...],"sum":"..."}` | from creation to removal |
//! | `<id>.part` | the private data file | while the upload is open; always for a partial upload |
//! | `<id>` | the published data file, exactly the bytes of the upload | once the upload is complete, unless it is partial |
//! | `<id>.join/` | hard links to the `.part` files of its partials, each named after the position of its first byte | for a final upload, until `<id>` is materialized |
//! | `<key>.name` | the pointer of a key: a symbolic link to `<id>.record` | from the creation of the first upload with that key to the removal of the last |
//!
//! Temporary files:
//!
//! | name | content | after a crash |
//! | --- | --- | --- |
//! | `<id>.gone` | the record of an upload that is being removed | the bytes of the upload are removed |
//! | `<id>.join.tmp/` | links that are incomplete or no longer needed | removed |
//! | `<id>.record.tmp` | a rewritten change log, not yet in place | removed |
//! | `<key>.name.tmp` | a pointer, not yet in place | renamed to `<key>.name` if its record exists, else removed |
//!
//! `.lock` is locked by the process that uses the directory, and contains its process id. `.secret`
//! is hashed into keys, so that a key does not reveal the name that a client chose. Files with
//! other names are never touched, nor is a plain file without a record.
//!
//! Files and directories are created with the modes of [`OpenOptions`]; by default other users
//! cannot read them. `.lock` and `.secret` are always private to the user of the process.
//!
//! The first line of a record contains a revision and the changes that lead to the state at that
//! revision; each further line is one commit and increments the revision. Every line ends with a
//! checksum. A last line that is incomplete or contains zeros (sectors that never reached the disk)
//! was never committed. A record without a complete first line is not an upload; if there are bytes
//! all the same, they are kept. Anything else that does not parse, does not apply, or skips a
//! revision is damage, as are a data file shorter than its record says and a line with fields
//! unknown to this version: loading that upload fails with [`StoreError::Damaged`], its files are
//! not touched, and other uploads are not affected. A long log is occasionally rewritten as one
//! line.
//!
//! # Crash safety
//!
//! Each operation is a sequence of steps, one of which, in bold below, is the commit point: a crash
//! before it leaves no effect, and after a later crash the remaining steps are completed. An arrow
//! is a sync of the step before it, in [`Durability::Synced`].
//!
//! | operation | steps |
//! | --- | --- |
//! | create | record (empty) and `.part` created, **first line** -> names -> |
//! | create, complete | record and `.part` created, names -> **first line** -> as completed |
//! | create, with a key | names, if the key leads to an upload -> record, `.part` and `.name.tmp` created, names -> **first line** -> as completed, if it is; `.name.tmp` renamed to `.name` |
//! | write | bytes into `.part` -> (not referenced yet; reclaimed unless committed) |
//! | commit | **line** -> |
//! | .. completed | `.part` truncated to its length -> **line** -> `.part` renamed to the plain name -> |
//! | .. completed, joined | names of the join -> **line** -> materialized later |
//! | .. voided | **line** -> bytes unlinked |
//! | join | links in `.join.tmp/` -> renamed to `.join/` (takes effect with create or commit) |
//! | materialize | bytes copied into `.part`, its name -> **`.join/` renamed** to `.join.tmp/`, `.part` renamed to the plain name -> links unlinked |
//! | remove | **record renamed** to `.gone` -> all bytes unlinked -> `.gone` unlinked, pointer unlinked if it leads there |
//! | .. complete | **record renamed** to `.gone`, all bytes unlinked -> `.gone` unlinked, pointer unlinked if it leads there |
//! | compact a log | `.record.tmp` written -> **renamed** to `.record` -> |
//!
//! All names are in one directory, so concurrent uploads share its syncs (`group_sync.rs`).
//!
//! [`Durability::Relaxed`] takes the same steps in the same order without syncs: after the death of
//! the process the kernel still has every write.
//!
//! No crash leaves bytes without a record. If there are any, the record was lost by other means:
//! the bytes are kept, and an error is logged. When the file of a complete upload is missing, its
//! owner has moved it away: the upload is absent, and the next listing removes its record.
//!
//! Steps that a crash interrupted are completed when the record is first loaded, or by
//! [`FileStore::recover`], which also removes orphaned files. The writes of an earlier process are
//! synced once more, all at once by `recover`, or record by record before that: the process may
//! have died before its sync, and a loaded record is acknowledged to clients.
//!
//! Tests: `tests/crash.rs` kills the process before every system call, `tests/faults.rs` makes
//! every call fail, and `tests/power.rs` simulates a disk that loses everything not synced, and
//! shows that no sync can be left out.
//!
//! # Network file systems
//!
//! Not supported: their locks may not reach other machines, and renames may become visible late.
//! Joins need hard links.

mod commit;
mod data;
mod disk;
mod dispatch;
mod entry;
mod group_sync;
mod handles;
mod in_place;
mod lock;
mod materialize;
mod options;
mod pointers;
mod reader;
mod record;
mod scan;
mod secret;
mod shared;
mod surplus;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt, io,
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use self::{
    dispatch::Cost,
    entry::{EntryGuard, EntryRef},
    reader::{BlockReader, ReadAhead},
    scan::Records,
    shared::{Shared, failed},
    writer::FileWriter,
};
pub use self::{lock::OpenError, options::OpenOptions};
use super::{ByteStream, Durability, Store, StoreError, UploadStream, Writer};
use crate::upload::{Capabilities, Change, Key, Phase, Upload, UploadId};

/// Parses the text of a change log; `None` when the upload was never created. For tests and
/// fuzzing.
///
/// # Errors
/// [`StoreError::Damaged`].
#[cfg(any(test, feature = "test-support"))]
pub fn record_of(id: &UploadId, text: &[u8]) -> Result<Option<Upload>, StoreError> {
    Ok(record::parse(id, text)?.map(|parsed| parsed.upload))
}

/// A [`Store`] in one directory of a local file system. Locks the directory as long as it lives.
///
/// Its async methods must be called from within a tokio runtime.
pub struct FileStore {
    secret: [u8; secret::SECRET_BYTES],
    shared: Arc<Shared>,
}

impl FileStore {
    /// Opens the store in `dir`, which is created with mode `0o700` if it does not exist. Reads no
    /// upload. Blocks.
    ///
    /// # Errors
    /// [`OpenError`] when the directory cannot be used, or another process or store has locked it.
    pub fn open(dir: impl Into<PathBuf>, durability: Durability) -> Result<Self, OpenError> {
        Self::options().durability(durability).open(dir)
    }

    /// Returns the default options, to be changed before opening.
    pub fn options() -> OpenOptions {
        OpenOptions::default()
    }

    /// Returns the secret to derive keys from, so that they do not reveal the names that clients
    /// chose. 32 random bytes, created with the directory and stored in it.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// Cleans up after a crash: removes orphaned files, completes interrupted steps, and resumes
    /// the materialization of final uploads. Returns the number of uploads, never fully created or
    /// removed before, of which files were left.
    ///
    /// Call it once after opening; requests can be served meanwhile. It scans the whole directory.
    /// Without it everything works, but leftover files remain.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the directory cannot be read. Failures of single uploads are only
    /// logged.
    ///
    /// # Cancel safety
    /// Cancel safe; may be repeated.
    pub async fn recover(&self) -> Result<u64, StoreError> {
        scan::recover(&self.shared).await
    }

    /// Returns a task that keeps one worker thread of its runtime asleep, for the case that the disk
    /// hangs. It completes when the store is dropped.
    ///
    /// Short calls to the disk are made on the workers themselves, at half the cost of a blocking
    /// pool, on all but one at the same time: a worker is left when the disk hangs. On a runtime
    /// with one worker more than processors, this task is that one, and all processors may make
    /// such calls.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use windlass::{Durability, store::file::FileStore};
    ///
    /// # let dir = std::env::temp_dir().join(format!("windlass-doc-{}", std::process::id()));
    /// let processors = std::thread::available_parallelism()?.get();
    /// let mut runtime = tokio::runtime::Builder::new_multi_thread();
    /// let runtime = runtime.worker_threads(processors + 1).enable_all().build()?;
    /// let store = FileStore::open(&dir, Durability::Synced)?;
    /// runtime.spawn(store.spare_worker());
    /// # drop(store);
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn spare_worker(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shared.disk.dispatcher().spare_worker()
    }

    /// Waits until every final upload has been materialized as a plain file, or has failed and
    /// waits for its retry.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wait_idle(&self) {
        self.shared.materializer.wait_idle().await;
    }

    /// Returns the cost of an operation whose only disk access is its syncs.
    fn cost(&self) -> Cost {
        match self.shared.disk.durability() {
            Durability::Relaxed => Cost::Memory,
            Durability::Synced => Cost::Disk,
        }
    }

    /// Waits for exclusive access to the files of an upload.
    async fn lock_entry(&self, id: &UploadId) -> EntryGuard {
        self.shared.cache.entry(id).lock().await
    }

    /// Waits for exclusive access to the pointer of the key of `upload`, if it has one. Lock order:
    /// the pointer before the entry of the upload.
    async fn lock_pointer(&self, upload: &Upload) -> Result<Option<EntryGuard>, StoreError> {
        match &upload.key {
            Some(key) => self.shared.lock_pointer(&key.to_id()).await.map(Some),
            None => Ok(None),
        }
    }

    /// Runs `work` on the files of a locked upload, then unlocks it. Work that has begun runs to
    /// completion even when the future is dropped.
    async fn run<T: Send + 'static>(
        &self,
        mut guard: EntryGuard,
        cost: Cost,
        work: impl FnOnce(&Arc<Shared>, &mut EntryGuard) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let work = move |shared: &Arc<Shared>| work(shared, &mut guard);
        self.shared.run(cost, work).await
    }

    /// Returns the entry of an open upload, and the end of its received bytes.
    async fn open_entry(&self, upload: &Upload) -> Result<(EntryRef, u64), StoreError> {
        let current = self.load(&upload.id).await?;
        if current.phase != Phase::Open {
            return Err(StoreError::Stale);
        }
        Ok((self.shared.cache.entry(&upload.id), current.received.end()))
    }

    /// Returns the error for bytes that cannot be read. The record is loaded from disk first, which
    /// finds missing or damaged files.
    async fn diagnose(&self, id: &UploadId, doing: &'static str, source: io::Error) -> StoreError {
        let guard = self.lock_entry(id).await;
        let load = |shared: &Arc<Shared>, guard: &mut EntryGuard| {
            shared.invalidate(&guard.entry);
            shared.load(guard)
        };
        match self.run(guard, Cost::Disk, load).await {
            Ok(upload) if upload.is_void() => StoreError::Absent,
            Ok(_) => failed(doing, id)(source),
            Err(e) => e,
        }
    }
}

#[async_trait]
impl Store for FileStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities { join: true }
    }

    async fn create(
        &self,
        upload: &Upload,
        predecessor: Option<&UploadId>,
    ) -> Result<(), StoreError> {
        let pointer = self.lock_pointer(upload).await?;
        if let Some(pointer) = &pointer {
            let current = match self.shared.by_key(&pointer.entry.id).await {
                Ok(current) => Some(current),
                Err(StoreError::Absent) => None,
                Err(e) => return Err(e),
            };
            if current.as_ref().map(|current| &current.id) != predecessor {
                return Err(StoreError::Stale);
            }
        }
        let guard = self.lock_entry(&upload.id).await;
        let upload = upload.clone();
        let create = move |shared: &Arc<Shared>, guard: &mut EntryGuard| {
            shared.create(guard, &upload, pointer.as_ref().map(|pointer| &pointer.entry.id))
        };
        self.run(guard, self.cost(), create).await
    }

    async fn by_key(&self, key: &Key) -> Result<Arc<Upload>, StoreError> {
        let key = key.to_id();
        if !self.shared.is_clean() {
            drop(self.shared.lock_pointer(&key).await?);
        }
        self.shared.by_key(&key).await
    }

    async fn load(&self, id: &UploadId) -> Result<Arc<Upload>, StoreError> {
        self.shared.find(id).await
    }

    async fn write(&self, upload: &Upload, at: u64) -> Result<Box<dyn Writer>, StoreError> {
        let (entry, end) = self.open_entry(upload).await?;
        entry.wait_idle().await;
        let open = move |shared: &Arc<Shared>| {
            let file = shared.intact_data_file(&entry, end);
            (entry, file)
        };
        let id = &upload.id;
        let (entry, file) = self.shared.run(Cost::Memory, open).await;
        let file = match file {
            Ok(Some(file)) => file,
            Ok(None) => {
                let guard = self.lock_entry(id).await;
                self.run(guard, Cost::Disk, Shared::restore_data_file).await?
            }
            Err(e) => return Err(failed("opening the data file of", id)(e)),
        };
        let disk = Arc::clone(&self.shared.disk);
        Ok(Box::new(FileWriter::open(disk, entry, file, at).await))
    }

    async fn commit(&self, upload: &Upload, changes: &[Change]) -> Result<Arc<Upload>, StoreError> {
        let guard = self.lock_entry(&upload.id).await;
        if changes.iter().any(Change::completes) {
            // No write may be in progress in a file that is being published.
            guard.entry.wait_idle().await;
        }
        let frees = changes.iter().any(|change| matches!(change, Change::Voided { .. }));
        let cost = match guard.entry.current() {
            Some(_) if !frees => self.cost(),
            Some(_) | None => Cost::Disk,
        };
        let (revision, changes) = (upload.revision, changes.to_vec());
        self.run(guard, cost, move |shared, guard| shared.commit(guard, revision, &changes)).await
    }

    async fn join(&self, upload: &Upload, partials: &[Arc<Upload>]) -> Result<(), StoreError> {
        let guard = self.lock_entry(&upload.id).await;
        let partials: Vec<_> =
            partials.iter().map(|partial| (partial.id.clone(), partial.offset())).collect();
        self.run(guard, Cost::Disk, move |shared, guard| shared.join(guard, &partials)).await
    }

    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let own = upload.clone();
        let open =
            move |shared: &Arc<Shared>| BlockReader::open(Arc::clone(&shared.disk), &own, range);
        match self.shared.run(Cost::Disk, open).await {
            Ok(blocks) => Ok(blocks.stream()),
            Err(e) => Err(self.diagnose(&upload.id, "opening the data of", e).await),
        }
    }

    async fn remove(&self, upload: &Upload) -> Result<(), StoreError> {
        let pointer = self.lock_pointer(upload).await?;
        let guard = self.lock_entry(&upload.id).await;
        let revision = upload.revision;
        let remove = move |shared: &Arc<Shared>, guard: &mut EntryGuard| {
            shared.remove(guard, revision, pointer.as_ref().map(|pointer| &pointer.entry.id))
        };
        self.run(guard, Cost::Disk, remove).await
    }

    async fn recover(&self) -> Result<(), StoreError> {
        let uploads = Self::recover(self).await?;
        if uploads > 0 {
            tracing::info!(uploads, "removed files of unfinished creations and removals");
        }
        Ok(())
    }

    fn list(&self) -> UploadStream {
        UploadStream::new(ReadAhead::new(Records::new(Arc::clone(&self.shared)), Records::BATCH))
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// Locks a mutex for a few instructions. Poisoning is ignored: the values behind these locks are
/// replaced or counted in one step, so a panic leaves them consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
