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
//!
//! and for moments of
//!
//! | name | what it is | after a crash |
//! | --- | --- | --- |
//! | `<id>.gone` | the record of an upload that is being removed | its bytes are removed |
//! | `<id>.join.tmp/` | links not complete yet, or not needed any more | removed |
//! | `<id>.record.tmp` | a shorter change log that says the same, not in force yet | removed |
//!
//! `.lock` is locked by the process that has the directory and tells its number. `.secret` makes the
//! ids of named uploads unguessable. Names of any other
//! form are never touched, nor is a plain file without a record.
//!
//! The first line of a record is a revision and the changes that make the upload as it then was; each
//! further line is one commit and one revision. Every line ends with a sum of the rest of it. A last line without its end, or with bytes that
//! never reached the disk (they read as zeros), was never committed; a record without a whole first
//! line never existed. Everything else that does not parse, does not fit or skips a revision is
//! damage: that upload answers [`StoreError::Damaged`], its files are left alone, and no other
//! upload is concerned. A long log is rewritten as one line now and then.
//!
//! # Order
//!
//! Each operation is a list of steps of which one decides, in bold below: a crash before it leaves
//! nothing that counts, a crash after it leaves something that is finished later. An arrow is a sync
//! of what stands before it, in [`Durability::Synced`].
//!
//! | operation | steps |
//! | --- | --- |
//! | create | record (empty) and `.part` made, **first line** -> names -> |
//! | create, complete | record and `.part` made, names -> **first line** -> as completed |
//! | write | bytes into `.part` -> (nothing refers to them yet) |
//! | commit | **line** -> |
//! | .. completed | `.part` cut to its length -> **line** -> `.part` renamed to the plain name -> |
//! | .. completed, joined | names of the join -> **line** -> laid down later |
//! | .. voided | **line** -> bytes unlinked |
//! | join | links in `.join.tmp/` -> renamed to `.join/` (decided by create or commit) |
//! | lay down | bytes copied into `.part`, its name -> **`.join/` renamed** to `.join.tmp/`, `.part` renamed to the plain name -> links unlinked |
//! | remove | **record renamed** to `.gone` -> plain file unlinked -> all else unlinked, `.gone` last |
//! | shorten a log | `.record.tmp` written -> **renamed** to `.record` -> |
//!
//! Names are those of one directory, so uploads that wait for them to last share a sync (`rounds.rs`).
//!
//! [`Durability::Relaxed`] takes the same steps in the same order and leaves the syncs out: the
//! kernel outlives the process and forgets nothing.
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
mod pace;
mod reader;
mod record;
mod rounds;
mod scan;
mod secret;
mod shared;
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

pub use self::lock::OpenError;
use self::{
    commit::Version,
    disk::{Disk, found},
    entry::{Held, Lease},
    pace::Cost,
    reader::{Ahead, Pieces},
    scan::Records,
    shared::{Shared, failed},
    writer::FileWriter,
};
use super::{ByteStream, Durability, Store, StoreError, UploadStream, Writer};
use crate::upload::{Capabilities, Change, Phase, Upload, UploadId};

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
    /// The uploads in `dir`, which is made if it is not there. Reads none of them.
    ///
    /// # Errors
    /// When the directory cannot be used, or another process (or store) has it.
    pub fn open(dir: impl Into<PathBuf>, durability: Durability) -> Result<Self, OpenError> {
        Self::open_labelled(dir, durability, "")
    }

    /// The same; `label` tells whoever is refused meanwhile who has the directory.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub fn open_labelled(
        dir: impl Into<PathBuf>,
        durability: Durability,
        label: &str,
    ) -> Result<Self, OpenError> {
        let path = dir.into();
        lock::create_dir(&path)?;
        let lock = lock::take(&path, label)?;
        let disk = Disk::open(path.clone(), durability, lock);
        // A process that died may have left names unsynced that this one is going to rely on.
        let disk = disk.and_then(|disk| disk.sync_names().map(|()| disk));
        let opened = disk.and_then(|disk| Ok((secret::load_or_make(&path)?, disk)));
        let (secret, disk) = opened.map_err(|source| OpenError::Use { path, source })?;
        Ok(Self { secret, shared: Arc::new(Shared::new(disk)) })
    }

    /// What makes the ids of named uploads unguessable: random bytes that stay with the directory.
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

    /// The entry of an upload that is open.
    async fn open_entry(&self, upload: &Upload) -> Result<Lease, StoreError> {
        let current = self.load(&upload.id).await?;
        if current.phase != Phase::Open {
            return Err(StoreError::Stale);
        }
        Ok(self.shared.cache.entry(&upload.id))
    }

    /// The error for a data file that is not there: only a record that is gone makes it absent.
    async fn explain(&self, id: &UploadId, doing: &'static str, source: io::Error) -> StoreError {
        match self.load(id).await {
            Ok(_) => failed(doing, id)(source),
            Err(e) => e,
        }
    }
}

#[async_trait]
impl Store for FileStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            join: true,
            max_pieces: None,
            min_piece_bytes: 0,
            out_of_order: true,
            read_before_complete: true,
        }
    }

    async fn create(&self, upload: &Upload) -> Result<(), StoreError> {
        let held = self.hold(&upload.id).await;
        let upload = upload.clone();
        self.run(held, self.cost(), move |shared, held| shared.create(held, &upload)).await
    }

    async fn load(&self, id: &UploadId) -> Result<Arc<Upload>, StoreError> {
        if let Some(upload) = self.shared.cache.current(id) {
            return Ok(upload);
        }
        let held = self.hold(id).await;
        self.run(held, Cost::Disk, Shared::load).await
    }

    async fn write(&self, upload: &Upload, at: u64) -> Result<Box<dyn Writer>, StoreError> {
        let entry = self.open_entry(upload).await?;
        entry.quiet().await;
        let open = move |shared: &Arc<Shared>| {
            let file = found(shared.part(&entry));
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
        Ok(Box::new(FileWriter::new(disk, entry, file, at)))
    }

    async fn commit(&self, upload: &Upload, changes: &[Change]) -> Result<Arc<Upload>, StoreError> {
        let held = self.hold(&upload.id).await;
        if changes.iter().any(Change::completes) {
            // Nothing is written into a file that is published.
            held.entry.quiet().await;
        }
        let frees = changes.contains(&Change::Voided);
        let cost = match held.entry.current() {
            Some(_) if !frees => self.cost(),
            Some(_) | None => Cost::Disk,
        };
        let (version, changes) = (Version::of(upload), changes.to_vec());
        self.run(held, cost, move |shared, held| shared.commit(held, version, &changes)).await
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

    async fn remove(&self, id: &UploadId) -> Result<(), StoreError> {
        let held = self.hold(id).await;
        self.run(held, Cost::Disk, |shared, held| shared.remove(held)).await
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
