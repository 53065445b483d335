//! [`FileStore`]: uploads in one directory of a local file system.
//!
//! # On disk
//!
//! The directory is flat. An upload `<id>` is made of
//!
//! | name | what it is | there |
//! | --- | --- | --- |
//! | `<id>.record` | the change log: one JSON line per commit, such as `{"rev":3,"changes":[...],"sum":"..."}` | from creation to removal |
//! | `<id>.part` | its bytes, private | while it is open; of a partial upload always |
//! | `<id>` | its bytes, published: exactly those, never fewer | once it is complete, unless it is partial |
//! | `<id>.join/` | links to the `.part` files of its partials, each named after the position of its first byte | for a final upload, until `<id>` is laid down |
//! | `<key>.name` | a symbolic link to `<id>.record`: the upload that a client's own name leads to | from the creation of the first upload of that name to the removal of the last |
//!
//! and for moments of
//!
//! | name | what it is | after a crash |
//! | --- | --- | --- |
//! | `<id>.gone` | the record of an upload that is being removed | its bytes are removed |
//! | `<id>.join.tmp/` | links not complete yet, or not needed any more | removed |
//! | `<id>.record.tmp` | a shorter change log that says the same, not in force yet | removed |
//! | `<key>.name.tmp` | a link not in force yet | removed |
//!
//! `.lock` is locked by the process that has the directory and tells its number. `.secret` goes
//! into the keys, so that nobody can tell which name one stands for. Names of any other
//! form are never touched, nor is a plain file without a record.
//!
//! Files and directories are made with the modes of [`OpenOptions`], which other users cannot read
//! by default; `.lock` and `.secret` are of this user alone in any case.
//!
//! The first line of a record is a revision and the changes that make the upload as it then was; each
//! further line is one commit and one revision. Every line ends with a sum of the rest of it. A last line without its end, or with bytes that
//! never reached the disk (they read as zeros), was never committed; a record without a whole first
//! line never existed, unless there are bytes, which are kept then. Everything else that does not parse, does not fit or skips a revision is
//! damage: that upload answers [`StoreError::Damaged`], its files are left alone, and no other
//! upload is concerned. The same goes for a data file that is shorter than its record says, and for a
//! line with more in it than this version knows. A long log is rewritten as one line now and then.
//!
//! # Order
//!
//! Each operation is a list of steps of which one decides, in bold below: a crash before it leaves
//! nothing that counts, a crash after it leaves something that is finished later. An arrow is a sync
//! of what stands before it, in [`Durability::Synced`].
//!
//! | operation | steps |
//! | --- | --- |
//! | create | record (empty) and `.part` made, **first line** -> pointer swung, if it has a key; names -> |
//! | create, complete | record and `.part` made, names -> **first line** -> as completed |
//! | write | bytes into `.part` -> (nothing refers to them yet; what is not committed is cut off) |
//! | commit | **line** -> |
//! | .. completed | `.part` cut to its length -> **line** -> `.part` renamed to the plain name -> |
//! | .. completed, joined | names of the join -> **line** -> laid down later |
//! | .. voided | **line** -> bytes unlinked |
//! | join | links in `.join.tmp/` -> renamed to `.join/` (decided by create or commit) |
//! | lay down | bytes copied into `.part`, its name -> **`.join/` renamed** to `.join.tmp/`, `.part` renamed to the plain name -> links unlinked |
//! | remove | **record renamed** to `.gone`, pointer unlinked if it led there -> all bytes unlinked -> `.gone` unlinked |
//! | .. complete | **record renamed** to `.gone`, pointer unlinked if it led there, all bytes unlinked -> `.gone` unlinked |
//! | shorten a log | `.record.tmp` written -> **renamed** to `.record` -> |
//!
//! Names are those of one directory, so uploads that wait for them to last share a sync (`rounds.rs`).
//!
//! [`Durability::Relaxed`] takes the same steps in the same order and leaves the syncs out: the
//! kernel outlives the process and forgets nothing.
//!
//! So no crash leaves bytes without a record. Where there are some, the record was damaged by other
//! means: they are kept, and logged. A complete upload without its file was moved away by its owner: it
//! is absent, and the next listing removes its record.
//!
//! What is missing after a crash is done when the record is first read, or by
//! [`FileStore::recover`], which also removes what belongs to no upload. What an earlier process has
//! written is synced once more, by `recover` as a whole and record by record until then: that process
//! may have died before its sync, and whoever reads a record passes it on as a promise.
//!
//! The tests hold this: `tests/crash.rs` has the process die before every system call,
//! `tests/faults.rs` has every call fail, and `tests/power.rs` simulates a disk that loses whatever
//! was not synced, and shows that none of the syncs can be left out.
//!
//! # Network file systems
//!
//! Locks on them may not reach other machines, and renames may be seen late. Use a local one; it
//! must have hard links for joins.

mod commit;
mod data;
mod disk;
mod entry;
mod handles;
mod in_place;
mod lay_down;
mod lock;
mod options;
mod pace;
mod reader;
mod record;
mod rounds;
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
    entry::{Held, Lease},
    pace::Cost,
    reader::{Ahead, Pieces},
    scan::Records,
    shared::{Shared, failed},
    writer::FileWriter,
};
pub use self::{lock::OpenError, options::OpenOptions};
use super::{ByteStream, Durability, Store, StoreError, UploadStream, Writer};
use crate::upload::{Capabilities, Change, Key, Phase, Upload, UploadId};

/// The upload that the text of a change log adds up to; `None` when it was never created. For tests
/// that bring texts of their own.
///
/// # Errors
/// [`StoreError::Damaged`].
#[cfg(any(test, feature = "test-support"))]
pub fn record_of(id: &UploadId, text: &[u8]) -> Result<Option<Upload>, StoreError> {
    Ok(record::parse(id, text)?.map(|parsed| parsed.upload))
}

/// Uploads in one directory, which it has for itself as long as it lives.
///
/// Its async methods need a tokio runtime around them.
pub struct FileStore {
    secret: [u8; secret::SECRET_BYTES],
    shared: Arc<Shared>,
}

impl FileStore {
    /// The uploads in `dir`, which is made if it is not there, for this user alone. Reads none of
    /// them.
    ///
    /// # Errors
    /// When the directory cannot be used, or another process (or store) has it.
    pub fn open(dir: impl Into<PathBuf>, durability: Durability) -> Result<Self, OpenError> {
        Self::options().durability(durability).open(dir)
    }

    /// What can be chosen when a store is opened.
    pub fn options() -> OpenOptions {
        OpenOptions::default()
    }

    /// What goes into keys, so that nobody can tell which name one stands for: random bytes that stay
    /// with the directory.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// Cleans up after a crash: removes what belongs to no upload, takes the steps that are missing,
    /// and goes on with laying final uploads down. Gives the number of uploads that never came to
    /// be, or were removed, and of which something was left.
    ///
    /// To be called once after opening, beside serving: it reads the whole directory. Without it
    /// everything works, but leftovers stay.
    ///
    /// # Errors
    /// When the directory cannot be read. Trouble with single uploads is logged.
    ///
    /// # Cancel safety
    /// May be dropped at any time and repeated.
    pub async fn recover(&self) -> Result<u64, StoreError> {
        scan::recover(&self.shared).await
    }

    /// Waits until every final upload that was made has been laid down as a plain file, or has failed
    /// to be and is tried again later.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn settled(&self) {
        self.shared.lay_downs.idle().await;
    }

    /// What an operation that syncs nothing in [`Durability::Relaxed`] has to wait for.
    fn cost(&self) -> Cost {
        match self.shared.disk.durability() {
            Durability::Relaxed => Cost::Memory,
            Durability::Synced => Cost::Disk,
        }
    }

    /// Waits to be alone with the files of an upload.
    async fn hold(&self, id: &UploadId) -> Held {
        self.shared.cache.entry(id).hold().await
    }

    /// Waits to be alone with the pointer of the key of `upload`. Always before its files are held.
    async fn hold_pointer(&self, upload: &Upload) -> Option<Held> {
        match &upload.key {
            Some(key) => Some(self.hold(&key.to_id()).await),
            None => None,
        }
    }

    /// Does `work` on the files of a held upload, then lets go of it. Work that has begun is done to
    /// its end even when the future is dropped.
    async fn run<T: Send + 'static>(
        &self,
        mut held: Held,
        cost: Cost,
        work: impl FnOnce(&Arc<Shared>, &mut Held) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let work = move |shared: &Arc<Shared>| work(shared, &mut held);
        self.shared.run(cost, work).await
    }

    /// The entry of an upload that is open, and the end of the bytes that it counts.
    async fn open_entry(&self, upload: &Upload) -> Result<(Lease, u64), StoreError> {
        let current = self.load(&upload.id).await?;
        if current.phase != Phase::Open {
            return Err(StoreError::Stale);
        }
        Ok((self.shared.cache.entry(&upload.id), current.received.end()))
    }

    /// The error for bytes that cannot be read: the disk knows better than the memory.
    async fn explain(&self, id: &UploadId, doing: &'static str, source: io::Error) -> StoreError {
        let held = self.hold(id).await;
        let load = |shared: &Arc<Shared>, held: &mut Held| {
            shared.distrust(&held.entry);
            shared.load(held)
        };
        match self.run(held, Cost::Disk, load).await {
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
        let pointer = self.hold_pointer(upload).await;
        let held = self.hold(&upload.id).await;
        let (upload, predecessor) = (upload.clone(), predecessor.cloned());
        let create = move |shared: &Arc<Shared>, held: &mut Held| {
            let pointer = pointer.as_ref().map(|pointer| &pointer.entry.id);
            shared.create(held, &upload, pointer, predecessor.as_ref())
        };
        self.run(held, self.cost(), create).await
    }

    async fn by_key(&self, key: &Key) -> Result<Arc<Upload>, StoreError> {
        let key = key.to_id();
        let read = move |shared: &Arc<Shared>| shared.disk.pointed(&key);
        let pointed = self.shared.run(Cost::Memory, read).await;
        let id = pointed.map_err(|e| StoreError::io("reading the pointer of a key", e))?;
        self.load(&id.ok_or(StoreError::Absent)?).await
    }

    async fn load(&self, id: &UploadId) -> Result<Arc<Upload>, StoreError> {
        if let Some(upload) = self.shared.cache.current(id) {
            if !upload.is_published() {
                return Ok(upload);
            }
            let look = move |shared: &Arc<Shared>| shared.is_intact(&upload).then_some(upload);
            if let Some(upload) = self.shared.run(Cost::Memory, look).await {
                return Ok(upload);
            }
        }
        let held = self.hold(id).await;
        self.run(held, Cost::Disk, Shared::load).await
    }

    async fn write(&self, upload: &Upload, at: u64) -> Result<Box<dyn Writer>, StoreError> {
        let (entry, end) = self.open_entry(upload).await?;
        entry.quiet().await;
        let open = move |shared: &Arc<Shared>| {
            let file = shared.sound_part(&entry, end);
            (entry, file)
        };
        let id = &upload.id;
        let (entry, file) = self.shared.run(Cost::Memory, open).await;
        let file = match file {
            Ok(Some(file)) => file,
            Ok(None) => {
                let held = self.hold(id).await;
                self.run(held, Cost::Disk, Shared::remake_part).await?
            }
            Err(e) => return Err(failed("opening the data file of", id)(e)),
        };
        let disk = Arc::clone(&self.shared.disk);
        Ok(Box::new(FileWriter::open(disk, entry, file, at).await))
    }

    async fn commit(&self, upload: &Upload, changes: &[Change]) -> Result<Arc<Upload>, StoreError> {
        let held = self.hold(&upload.id).await;
        if changes.iter().any(Change::completes) {
            // Nothing is written into a file that is published.
            held.entry.quiet().await;
        }
        let frees = changes.iter().any(|change| matches!(change, Change::Voided { .. }));
        let cost = match held.entry.current() {
            Some(_) if !frees => self.cost(),
            Some(_) | None => Cost::Disk,
        };
        let (revision, changes) = (upload.revision, changes.to_vec());
        self.run(held, cost, move |shared, held| shared.commit(held, revision, &changes)).await
    }

    async fn join(&self, upload: &Upload, partials: &[Arc<Upload>]) -> Result<(), StoreError> {
        let held = self.hold(&upload.id).await;
        let partials: Vec<_> =
            partials.iter().map(|partial| (partial.id.clone(), partial.offset())).collect();
        self.run(held, Cost::Disk, move |shared, held| shared.join(held, &partials)).await
    }

    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let own = upload.clone();
        let open = move |shared: &Arc<Shared>| Pieces::open(Arc::clone(&shared.disk), &own, range);
        match self.shared.run(Cost::Disk, open).await {
            Ok(pieces) => Ok(pieces.stream()),
            Err(e) => Err(self.explain(&upload.id, "opening the data of", e).await),
        }
    }

    async fn remove(&self, upload: &Upload) -> Result<(), StoreError> {
        let pointer = self.hold_pointer(upload).await;
        let held = self.hold(&upload.id).await;
        let revision = upload.revision;
        let remove = move |shared: &Arc<Shared>, held: &mut Held| {
            let pointer = pointer.as_ref().map(|pointer| &pointer.entry.id);
            shared.remove(held, revision, pointer)
        };
        self.run(held, Cost::Disk, remove).await
    }

    async fn recover(&self) -> Result<(), StoreError> {
        let uploads = Self::recover(self).await?;
        if uploads > 0 {
            tracing::info!(uploads, "cleaned up what unfinished creations and removals left");
        }
        Ok(())
    }

    fn list(&self) -> UploadStream {
        Box::pin(Ahead::new(Records::new(Arc::clone(&self.shared)), Records::BATCH))
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// Locks for a moment. A panic in another thread leaves nothing half done here: whatever these locks
/// guard is replaced or counted in one go.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
