//! [`Shared`]: the state shared by all handles of a store, and creation, loading, recovery and
//! removal of uploads. Blocks; callers lock the entry and choose the thread. Commits and data files
//! have modules of their own.

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
    dispatch::{Cost, in_pool},
    entry::{Cache, Entry, EntryGuard, EntryRef, Log},
    handles::{CachedFile, Handles},
    lock,
    materialize::Materializer,
    record,
};
use crate::{
    store::StoreError,
    upload::{Upload, UploadId},
};

/// The state shared by all handles and threads of one store.
#[derive(Debug)]
pub(super) struct Shared {
    /// The data directory.
    pub(super) disk: Arc<Disk>,
    /// The entries in memory.
    pub(super) cache: Cache,
    /// Joined uploads that wait for a plain file.
    pub(super) materializer: Materializer,
    /// Ids that this process has joined and not created yet, which are no orphans.
    pub(super) pending_joins: Mutex<HashSet<UploadId>>,
    /// Whether the rename of a rewritten log may be lost on power loss, and with it lines appended
    /// since.
    pub(super) names_unsynced: AtomicBool,
    /// Whether everything that an earlier process wrote is synced.
    pub(super) is_synced: AtomicBool,
    /// Whether no removal of an earlier process is left unfinished.
    pub(super) is_recovered: AtomicBool,
    /// Whether a removal of this process may be unfinished.
    has_leftovers: AtomicBool,
}

/// Maps an I/O error on the files of `id`.
pub(super) fn failed<'a>(
    doing: &'static str,
    id: &'a UploadId,
) -> impl Fn(io::Error) -> StoreError + 'a {
    move |source| StoreError::io(format_args!("{doing} {id}"), source)
}

/// The error message for bytes in `kind` without a record.
pub(super) fn missing_record(id: &UploadId, kind: Kind) -> String {
    format!("{id}{} holds bytes, but {id}.record is missing or empty", kind.suffix())
}

impl Shared {
    /// The initial state of a store on `disk`.
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            disk: Arc::new(disk),
            cache: Cache::default(),
            materializer: Materializer::default(),
            pending_joins: Mutex::default(),
            names_unsynced: AtomicBool::new(false),
            is_synced: AtomicBool::new(false),
            is_recovered: AtomicBool::new(false),
            has_leftovers: AtomicBool::new(false),
        }
    }

    /// Runs `work` on the thread that suits its cost.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop work that has begun.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        cost: Cost,
        work: impl FnOnce(&Arc<Self>) -> T + Send + 'static,
    ) -> T {
        if let Some(inline) = self.disk.dispatcher().try_inline(cost) {
            return inline.run(|| work(self));
        }
        let shared = Arc::clone(self);
        in_pool(move || work(&shared)).await
    }

    /// Returns the record, from memory or from disk.
    ///
    /// # Errors
    /// [`StoreError::Absent`], also when the file of a complete upload was moved away;
    /// [`StoreError::Damaged`]; [`StoreError::Io`].
    pub(super) fn load(
        self: &Arc<Self>,
        guard: &mut EntryGuard,
    ) -> Result<Arc<Upload>, StoreError> {
        if let Some(upload) = guard.entry.current() {
            if self.is_intact(&upload) {
                return Ok(upload);
            }
            self.invalidate(&guard.entry);
        }
        let id = &guard.entry.id;
        let file = found(self.disk.open_read(id, Kind::Record));
        let file = file.map_err(failed("opening the record of", id))?.ok_or(StoreError::Absent)?;
        let text = self.disk.read(&file).map_err(failed("reading the record of", id))?;
        if !self.is_synced.load(Ordering::Relaxed) {
            // The process that wrote it may have died before its sync, and a loaded record is
            // acknowledged to clients.
            let synced = self.disk.sync(&file);
            synced.map_err(failed("syncing the record of", id))?;
        }
        let parsed = record::parse(id, &text)?.ok_or(StoreError::Absent)?;
        let upload = Arc::new(parsed.upload);
        if let Err(e) = self.reconcile_names(guard, &upload) {
            // The record is valid all the same, and readers find the bytes at either place.
            tracing::warn!(%id, error = %e, "cannot complete steps left by a crash");
        }
        self.check_data_file(&guard.entry, &upload)?;
        guard.entry.set(Some(Arc::clone(&upload)));
        *guard.log = Log {
            bytes: parsed.bytes,
            base_bytes: parsed.base_bytes,
            torn: parsed.bytes < text.len() as u64,
        };
        Ok(upload)
    }

    /// Drops the cached state of an upload whose files do not match it.
    pub(super) fn invalidate(&self, entry: &EntryRef) {
        Handles::close(entry);
        entry.set(None);
    }

    /// Returns the record of `id`, without waiting for its entry if it is in memory.
    ///
    /// # Errors
    /// Those of [`Self::load`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn find(self: &Arc<Self>, id: &UploadId) -> Result<Arc<Upload>, StoreError> {
        if let Some(upload) = self.cache.current(id) {
            if !upload.is_published() {
                return Ok(upload);
            }
            let look = move |shared: &Arc<Self>| shared.is_intact(&upload).then_some(upload);
            if let Some(upload) = self.run(Cost::Memory, look).await {
                return Ok(upload);
            }
        }
        let mut guard = self.cache.entry(id).lock().await;
        self.run(Cost::Disk, move |shared| shared.load(&mut guard)).await
    }

    /// Returns the data file of an open upload and keeps it open for the next request.
    pub(super) fn data_file(&self, entry: &EntryRef) -> io::Result<Arc<File>> {
        self.cached_file(entry, CachedFile::Data, Kind::Part)
    }

    /// Returns the record file of an upload and keeps it open for the next request.
    pub(super) fn record(&self, entry: &EntryRef) -> io::Result<Arc<File>> {
        self.cached_file(entry, CachedFile::Record, Kind::Record)
    }

    fn cached_file(
        &self,
        entry: &EntryRef,
        cached: CachedFile,
        kind: Kind,
    ) -> io::Result<Arc<File>> {
        if let Some(file) = Handles::get(entry, cached) {
            return Ok(file);
        }
        let file = Arc::new(self.disk.open_write(&entry.id, kind)?);
        self.disk.handles().insert(entry, cached, Arc::clone(&file));
        Ok(file)
    }

    /// Creates the files of a new upload, and sets the pointer of its key.
    pub(super) fn create(
        self: &Arc<Self>,
        guard: &mut EntryGuard,
        upload: &Upload,
        key: Option<&UploadId>,
    ) -> Result<(), StoreError> {
        let id = &upload.id;
        if guard.entry.current().is_some() {
            return Err(StoreError::Exists);
        }
        let reserved = self.reserve(guard, id)?;
        let Some(record) = reserved else {
            return Err(StoreError::Exists);
        };
        match self.create_files(guard, upload, &record, key) {
            Ok(log) => *guard.log = log,
            Err(e) => {
                self.undo_creation(&guard.entry, key);
                return Err(failed("creating", id)(e));
            }
        }
        if !upload.is_complete() {
            self.disk.handles().insert(&guard.entry, CachedFile::Record, Arc::new(record));
        }
        lock(&self.pending_joins).remove(id);
        guard.entry.set(Some(Arc::new(upload.clone())));
        Ok(())
    }

    /// Whether nothing is left unfinished, except by operations in progress.
    pub(super) fn is_clean(&self) -> bool {
        self.is_recovered.load(Ordering::Relaxed) && !self.has_leftovers.load(Ordering::Relaxed)
    }

    /// Creates an empty record, which does not count as an upload yet. Returns `None` when the id
    /// is taken.
    fn reserve(
        self: &Arc<Self>,
        guard: &mut EntryGuard,
        id: &UploadId,
    ) -> Result<Option<File>, StoreError> {
        let is_being_removed = |id| self.disk.exists(id, Kind::Gone);
        if !self.is_clean() && is_being_removed(id).map_err(failed("creating", id))? {
            self.finish_removal(id).map_err(failed("removing leftovers of", id))?;
        }
        match self.disk.create_new(id, Kind::Record) {
            Ok(file) => return Ok(Some(file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed("creating", id)(e)),
        }
        match self.load(guard) {
            Ok(_) => Ok(None),
            // A crash came before its first line was complete. That upload was never acknowledged.
            Err(StoreError::Absent) => {
                if let Some(kind) = self.orphaned_bytes(id).map_err(failed("creating", id))? {
                    return Err(StoreError::Damaged(missing_record(id, kind)));
                }
                let record = self.disk.create(id, Kind::Record);
                record.map(Some).map_err(failed("creating", id))
            }
            Err(e) => Err(e),
        }
    }

    /// Creates the data file, and makes the record and the pointer durable.
    fn create_files(
        self: &Arc<Self>,
        guard: &EntryGuard,
        upload: &Upload,
        record: &File,
        key: Option<&UploadId>,
    ) -> io::Result<Log> {
        let is_empty = upload.length == Some(0);
        if !upload.is_void() && !self.is_joined(upload)? {
            if upload.is_complete() && !is_empty {
                return Err(io::Error::new(io::ErrorKind::NotFound, "its bytes are missing"));
            }
            let part = self.create_data_file(&guard.entry)?;
            if !is_empty {
                self.disk.handles().insert(&guard.entry, CachedFile::Data, part);
            }
        }
        let line = record::first_line(upload);
        let bytes = line.len() as u64;
        if let Some(key) = key {
            self.prepare_pointer(key, &upload.id)?;
        }
        // No later step could restore a lost data file of a complete upload, or a lost link.
        let names_first = upload.is_complete() || key.is_some();
        if names_first {
            self.disk.sync_names()?;
        }
        self.disk.write_at(record, &[line.into()], 0)?;
        self.disk.sync(record)?;
        if !names_first {
            // In this order the sync of the record has usually put the names on disk already.
            self.disk.sync_names()?;
        }
        self.reconcile_names(guard, upload)?;
        if let Some(key) = key {
            self.set_pointer(key, upload)?;
        }
        Ok(Log { bytes, base_bytes: bytes, torn: false })
    }

    /// Undoes [`Self::create_files`], as far as possible.
    fn undo_creation(&self, entry: &Entry, key: Option<&UploadId>) {
        Handles::close(entry);
        let id = &entry.id;
        let unlink_link = || key.map_or(Ok(false), |key| self.disk.unlink(key, Kind::NameTmp));
        let undone = self
            .disk
            .unlink(id, Kind::Record)
            .and_then(|_| self.disk.sync_names())
            .and_then(|()| unlink_link())
            .and_then(|_| self.disk.length_of(id, Kind::Part))
            // A data file with bytes is not from this creation.
            .and_then(|bytes| Ok(bytes == Some(0) && self.disk.unlink(id, Kind::Part)?));
        if let Err(e) = undone {
            self.has_leftovers.store(true, Ordering::Relaxed);
            tracing::warn!(%id, error = %e, "cannot undo a creation that failed");
        }
    }

    /// Removes the record, then the bytes and the pointer, if the record is at `revision`.
    pub(super) fn remove(
        self: &Arc<Self>,
        guard: &mut EntryGuard,
        revision: u64,
        key: Option<&UploadId>,
    ) -> Result<(), StoreError> {
        match self.load(guard) {
            Ok(current) if current.revision != revision => return Err(StoreError::Stale),
            Ok(_) | Err(StoreError::Absent) => {}
            Err(e) => return Err(e),
        }
        let id = &guard.entry.id;
        let gone = found(self.disk.rename(id, Kind::Record, Kind::Gone));
        let gone = gone.map_err(failed("removing", id))?;
        let was_complete = guard.entry.current().is_some_and(|upload| upload.is_complete());
        self.invalidate(&guard.entry);
        lock(&self.pending_joins).remove(id);
        let has_record = gone.is_some() || self.disk.exists(id, Kind::Gone).unwrap_or(true);
        let cleared = match (has_record, was_complete) {
            // A complete upload without its bytes is absent even if its record comes back.
            (true, true) => self.finish_removal(id),
            (true, false) => self.disk.sync_names().and_then(|()| self.finish_removal(id)),
            (false, _) => self.remove_orphan(id).map(drop),
        };
        let cleared = cleared.and_then(|()| key.map_or(Ok(()), |key| self.unlink_pointer(key, id)));
        if cleared.is_err() {
            self.has_leftovers.store(true, Ordering::Relaxed);
        }
        cleared.map_err(failed("removing the bytes of", id))
    }

    /// Completes or cleans up the files of one id. Returns whether orphaned files were removed.
    pub(super) fn recover(self: &Arc<Self>, guard: &mut EntryGuard) -> Result<bool, StoreError> {
        let loaded = self.load(guard);
        let id = &guard.entry.id;
        let orphaned = match &loaded {
            Ok(_) => false,
            Err(StoreError::Absent) if lock(&self.pending_joins).contains(id) => false,
            Err(StoreError::Absent) => true,
            Err(_) => return loaded.map(|_| false),
        };
        let cleaned = || {
            if let Ok(upload) = &loaded {
                self.reconcile_names(guard, upload)?;
                self.disk.unlink_tree(id, Kind::JoinTmp)?;
                self.disk.unlink(id, Kind::RecordTmp)?;
                // From an earlier use of the id; its bytes were gone before this record was
                // created.
                self.disk.unlink(id, Kind::Gone)?;
                Ok(false)
            } else if !orphaned {
                Ok(false)
            } else if self.disk.exists(id, Kind::Gone)? {
                self.disk.unlink(id, Kind::Record)?;
                self.finish_removal(id).map(|()| true)
            } else {
                self.remove_orphan(id)
            }
        };
        cleaned().map_err(failed("cleaning up", id))
    }

    /// Unlinks the remaining files of a removed upload, whose record is `.gone`.
    pub(super) fn finish_removal(&self, id: &UploadId) -> io::Result<()> {
        let had_bytes = self.disk.unlink(id, Kind::Plain)?
            | self.disk.unlink(id, Kind::Part)?
            | self.disk.unlink_tree(id, Kind::Join)?
            | self.disk.unlink_tree(id, Kind::JoinTmp)?
            | self.disk.unlink(id, Kind::RecordTmp)?;
        if had_bytes {
            // If `.gone` were lost before them, the bytes would look as if their record was lost.
            self.disk.sync_names()?;
        }
        self.disk.unlink(id, Kind::Gone)?;
        Ok(())
    }

    /// Unlinks the remaining files of an upload whose creation did not finish. Returns whether it
    /// did: such an upload has no bytes, so where there are any the record was lost, and all files
    /// are kept.
    pub(super) fn remove_orphan(&self, id: &UploadId) -> io::Result<bool> {
        if let Some(kind) = self.orphaned_bytes(id)? {
            tracing::error!("{}; all files are kept", missing_record(id, kind));
            return Ok(false);
        }
        self.disk.unlink(id, Kind::Record)?;
        self.disk.unlink(id, Kind::Part)?;
        self.disk.unlink_tree(id, Kind::Join)?;
        self.disk.unlink_tree(id, Kind::JoinTmp)?;
        self.disk.unlink(id, Kind::RecordTmp)?;
        Ok(true)
    }

    /// Does the same for an upload whose published file was moved away, and unlinks its pointer.
    pub(super) fn remove_moved(&self, id: &UploadId, key: Option<&UploadId>) -> io::Result<bool> {
        let is_gone = self.remove_orphan(id)?;
        if is_gone && let Some(key) = key {
            self.unlink_pointer(key, id)?;
        }
        Ok(is_gone)
    }

    /// Returns a file with bytes of an id without a record, if they exist nowhere else.
    fn orphaned_bytes(&self, id: &UploadId) -> io::Result<Option<Kind>> {
        let has_bytes =
            |kind| self.disk.length_of(id, kind).map(|bytes| bytes.is_some_and(|n| n > 0));
        for kind in [Kind::Part, Kind::RecordTmp] {
            if has_bytes(kind)? {
                return Ok(Some(kind));
            }
        }
        // A plain file without any record is not ours.
        if self.disk.exists(id, Kind::Record)? && has_bytes(Kind::Plain)? {
            return Ok(Some(Kind::Plain));
        }
        // Links are made before the record, and the partials have the same bytes.
        for kind in [Kind::Join, Kind::JoinTmp] {
            if self.disk.has_last_link(id, kind)? {
                return Ok(Some(kind));
            }
        }
        Ok(None)
    }
}
