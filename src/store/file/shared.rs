//! [`Shared`]: what all parts of the store share, and how uploads begin and end. Blocks; callers hold
//! the entry and choose the thread. Commits and data files have modules of their own.

use std::{
    collections::HashSet,
    fs::File,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    disk::{Disk, Kind, found},
    entry::{Cache, Entry, Held, Lease, Log},
    handles::{Handles, Which},
    lay_down::LayDowns,
    lock,
    pace::{Cost, in_pool},
    record,
};
use crate::{
    store::StoreError,
    upload::{Phase, Upload, UploadId},
};

/// What all handles and threads of one store share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The data directory.
    pub(super) disk: Arc<Disk>,
    /// What is in memory.
    pub(super) cache: Cache,
    /// Final uploads that wait for their plain file.
    pub(super) lay_downs: LayDowns,
    /// Ids joined by this process whose record is not there yet: no orphans.
    pub(super) unborn: Mutex<HashSet<UploadId>>,
    /// A rewritten log may still lose its name to the log before, and with it what was appended.
    pub(super) names_unsynced: AtomicBool,
    /// Whether all that an earlier process has written is safe.
    pub(super) is_synced: AtomicBool,
    /// Whether nothing is left of what an earlier process was removing when it died.
    pub(super) is_recovered: AtomicBool,
    /// Whether something may be left of what this process has removed.
    is_littered: AtomicBool,
}

/// The error for a system call on the files of `id`.
pub(super) fn failed<'a>(
    doing: &'static str,
    id: &'a UploadId,
) -> impl Fn(io::Error) -> StoreError + 'a {
    move |source| StoreError::io(format_args!("{doing} {id}"), source)
}

impl Shared {
    /// What a store on `disk` starts with.
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            disk: Arc::new(disk),
            cache: Cache::default(),
            lay_downs: LayDowns::default(),
            unborn: Mutex::default(),
            names_unsynced: AtomicBool::new(false),
            is_synced: AtomicBool::new(false),
            is_recovered: AtomicBool::new(false),
            is_littered: AtomicBool::new(false),
        }
    }

    /// Does `work` on the thread that suits its cost.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop work that has begun.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        cost: Cost,
        work: impl FnOnce(&Arc<Self>) -> T + Send + 'static,
    ) -> T {
        if let Some(here) = self.disk.pace().here(cost) {
            return here.run(|| work(self));
        }
        let shared = Arc::clone(self);
        in_pool(move || work(&shared)).await
    }

    /// The record, from memory or from disk.
    pub(super) fn load(self: &Arc<Self>, held: &mut Held) -> Result<Arc<Upload>, StoreError> {
        if let Some(upload) = held.entry.current() {
            return Ok(upload);
        }
        let id = &held.entry.id;
        let file = found(self.disk.open_read(id, Kind::Record));
        let file = file.map_err(failed("opening the record of", id))?.ok_or(StoreError::Absent)?;
        let text = self.disk.read(&file).map_err(failed("reading the record of", id))?;
        if !self.is_synced.load(Ordering::Relaxed) {
            // The process that wrote it may have died before its sync, and what is read here is
            // passed on as a promise.
            let synced = self.disk.sync(&file);
            synced.map_err(failed("syncing the record of", id))?;
        }
        let parsed = record::parse(id, &text)?.ok_or(StoreError::Absent)?;
        let upload = Arc::new(parsed.upload);
        if let Err(e) = self.settle(held, &upload) {
            // The record is right all the same, and reads find the bytes where they are.
            tracing::warn!(%id, error = %e, "cannot finish what a crash left half done");
        }
        held.entry.set(Some(Arc::clone(&upload)));
        *held.log = Log {
            bytes: parsed.bytes,
            base_bytes: parsed.base_bytes,
            torn: parsed.bytes < text.len() as u64,
        };
        Ok(upload)
    }

    /// The data file of an open upload, which is kept open for the next request.
    pub(super) fn part(&self, entry: &Lease) -> io::Result<Arc<File>> {
        self.kept(entry, Which::Part, Kind::Part)
    }

    /// The record of an upload, which is kept open for the next request.
    pub(super) fn record(&self, entry: &Lease) -> io::Result<Arc<File>> {
        self.kept(entry, Which::Record, Kind::Record)
    }

    fn kept(&self, entry: &Lease, which: Which, kind: Kind) -> io::Result<Arc<File>> {
        if let Some(file) = Handles::get(entry, which) {
            return Ok(file);
        }
        let file = Arc::new(self.disk.open_write(&entry.id, kind)?);
        self.disk.handles().keep(entry, which, Arc::clone(&file));
        Ok(file)
    }

    /// Makes the record and the data file of a new upload.
    pub(super) fn create(
        self: &Arc<Self>,
        held: &mut Held,
        upload: &Upload,
    ) -> Result<(), StoreError> {
        let id = &upload.id;
        if held.entry.current().is_some() {
            return Err(StoreError::Exists);
        }
        let claimed = self.claim(held, id)?;
        let Some(record) = claimed else {
            return Err(StoreError::Exists);
        };
        match self.fill(held, upload, &record) {
            Ok(log) => *held.log = log,
            Err(e) => {
                self.forget(&held.entry);
                return Err(failed("creating", id)(e));
            }
        }
        if !upload.is_complete() {
            self.disk.handles().keep(&held.entry, Which::Record, Arc::new(record));
        }
        lock(&self.unborn).remove(id);
        held.entry.set(Some(Arc::new(upload.clone())));
        Ok(())
    }

    /// Makes an empty record, which counts as none. `None` when there is one that counts.
    fn claim(self: &Arc<Self>, held: &mut Held, id: &UploadId) -> Result<Option<File>, StoreError> {
        let is_tidy =
            self.is_recovered.load(Ordering::Relaxed) && !self.is_littered.load(Ordering::Relaxed);
        let was_removed = |id| self.disk.exists(id, Kind::Gone);
        if !is_tidy && was_removed(id).map_err(failed("creating", id))? {
            self.clear(id).map_err(failed("clearing away", id))?;
        }
        match self.disk.create_new(id, Kind::Record) {
            Ok(file) => return Ok(Some(file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed("creating", id)(e)),
        }
        match self.load(held) {
            Ok(_) => Ok(None),
            // A crash came before its first line was whole. Nobody was told of that upload.
            Err(StoreError::Absent) => {
                let record = self.disk.create(id, Kind::Record);
                record.map(Some).map_err(failed("creating", id))
            }
            Err(e) => Err(e),
        }
    }

    /// Makes the data file, and the record durable.
    fn fill(self: &Arc<Self>, held: &Held, upload: &Upload, record: &File) -> io::Result<Log> {
        let is_empty = upload.length == Some(0);
        if upload.phase != Phase::Void && !self.is_joined(upload)? {
            if upload.is_complete() && !is_empty {
                return Err(io::Error::new(io::ErrorKind::NotFound, "its bytes are not there"));
            }
            let part = self.make_part(&held.entry)?;
            if !is_empty {
                self.disk.handles().keep(&held.entry, Which::Part, part);
            }
        }
        let line = record::first_line(upload);
        let bytes = line.len() as u64;
        if upload.is_complete() {
            // It takes no further step that could make up for a data file that is lost.
            self.disk.sync_names()?;
        }
        self.disk.write_at(record, &[line.into()], 0)?;
        self.disk.sync(record)?;
        if !upload.is_complete() {
            // In this order the file system has the names on disk already, as a rule.
            self.disk.sync_names()?;
        }
        self.settle(held, upload)?;
        Ok(Log { bytes, base_bytes: bytes, torn: false })
    }

    /// Undoes what [`Self::fill`] has begun, as far as the system lets us.
    fn forget(&self, entry: &Entry) {
        Handles::forget(entry);
        let id = &entry.id;
        let undone = self
            .disk
            .unlink(id, Kind::Record)
            .and_then(|_| self.disk.sync_names())
            .and_then(|()| self.disk.unlink(id, Kind::Part));
        if let Err(e) = undone {
            tracing::warn!(%id, error = %e, "cannot undo a creation that failed");
        }
    }

    /// Removes the record, then the bytes.
    pub(super) fn remove(&self, held: &mut Held) -> Result<(), StoreError> {
        let id = &held.entry.id;
        let gone = found(self.disk.rename(id, Kind::Record, Kind::Gone));
        gone.map_err(failed("removing", id))?;
        Handles::forget(&held.entry);
        held.entry.set(None);
        lock(&self.unborn).remove(id);
        let cleared = self.disk.sync_names().and_then(|()| self.clear(id));
        if cleared.is_err() {
            self.is_littered.store(true, Ordering::Relaxed);
        }
        cleared.map_err(failed("removing the bytes of", id))
    }

    /// Brings everything of one id in order. Says whether leftovers of no upload were removed.
    pub(super) fn recover(self: &Arc<Self>, held: &mut Held) -> Result<bool, StoreError> {
        let loaded = self.load(held);
        let id = &held.entry.id;
        let orphaned = match &loaded {
            Ok(_) => false,
            Err(StoreError::Absent) if lock(&self.unborn).contains(id) => false,
            Err(StoreError::Absent) => true,
            Err(_) => return loaded.map(|_| false),
        };
        let cleaned = || {
            if let Ok(upload) = &loaded {
                self.settle(held, upload)?;
                self.disk.unlink_tree(id, Kind::JoinTmp)?;
                self.disk.unlink(id, Kind::RecordTmp)?;
                // From an earlier life of the id; its bytes were gone before this record was made.
                self.disk.unlink(id, Kind::Gone)?;
            } else if orphaned {
                self.disk.unlink(id, Kind::Record)?;
                self.clear(id)?;
            }
            Ok(orphaned)
        };
        cleaned().map_err(failed("cleaning up", id))
    }

    /// Unlinks what belongs to an id that has no record.
    pub(super) fn clear(&self, id: &UploadId) -> io::Result<()> {
        // A plain name may be somebody else's; it is ours if a record went before it. That it is
        // gone must last before the proof is thrown away.
        if self.disk.exists(id, Kind::Gone)? && self.disk.unlink(id, Kind::Plain)? {
            self.disk.sync_names()?;
        }
        self.disk.unlink(id, Kind::Part)?;
        self.disk.unlink_tree(id, Kind::Join)?;
        self.disk.unlink_tree(id, Kind::JoinTmp)?;
        self.disk.unlink(id, Kind::RecordTmp)?;
        self.disk.unlink(id, Kind::Gone)?;
        Ok(())
    }
}
