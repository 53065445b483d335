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

/// What all handles and threads of one store share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The data directory.
    pub(super) disk: Arc<Disk>,
    /// What is in memory.
    pub(super) cache: Cache,
    /// Final uploads that wait for their plain file.
    pub(super) materializer: Materializer,
    /// Ids joined by this process whose record is not there yet: no orphans.
    pub(super) pending_joins: Mutex<HashSet<UploadId>>,
    /// A rewritten log may still lose its name to the log before, and with it what was appended.
    pub(super) names_unsynced: AtomicBool,
    /// Whether all that an earlier process has written is safe.
    pub(super) is_synced: AtomicBool,
    /// Whether nothing is left of what an earlier process was removing when it died.
    pub(super) is_recovered: AtomicBool,
    /// Whether something may be left of what this process has removed.
    has_leftovers: AtomicBool,
}

/// The error for a system call on the files of `id`.
pub(super) fn failed<'a>(
    doing: &'static str,
    id: &'a UploadId,
) -> impl Fn(io::Error) -> StoreError + 'a {
    move |source| StoreError::io(format_args!("{doing} {id}"), source)
}

/// What is wrong when bytes of no record lie in `kind`.
pub(super) fn missing_record(id: &UploadId, kind: Kind) -> String {
    format!("{id}{} holds bytes, and {id}.record is missing or empty", kind.suffix())
}

impl Shared {
    /// What a store on `disk` starts with.
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

    /// Does `work` on the thread that suits its cost.
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

    /// The record, from memory or from disk.
    ///
    /// # Errors
    /// [`StoreError::Absent`], also when the file of a complete upload was moved away;
    /// [`StoreError::Damaged`].
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
            // The process that wrote it may have died before its sync, and what is read here is
            // passed on as a promise.
            let synced = self.disk.sync(&file);
            synced.map_err(failed("syncing the record of", id))?;
        }
        let parsed = record::parse(id, &text)?.ok_or(StoreError::Absent)?;
        let upload = Arc::new(parsed.upload);
        if let Err(e) = self.reconcile_names(guard, &upload) {
            // The record is right all the same, and reads find the bytes where they are.
            tracing::warn!(%id, error = %e, "cannot finish what a crash left half done");
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

    /// Drops what is in memory of an upload whose files another program has changed.
    pub(super) fn invalidate(&self, entry: &EntryRef) {
        Handles::close(entry);
        entry.set(None);
    }

    /// The data file of an open upload, which is kept open for the next request.
    pub(super) fn data_file(&self, entry: &EntryRef) -> io::Result<Arc<File>> {
        self.cached_file(entry, CachedFile::Data, Kind::Part)
    }

    /// The record of an upload, which is kept open for the next request.
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

    /// Makes the record and the data file of a new upload, and has the pointer of its key lead to it.
    pub(super) fn create(
        self: &Arc<Self>,
        guard: &mut EntryGuard,
        upload: &Upload,
        pointer: Option<&UploadId>,
        predecessor: Option<&UploadId>,
    ) -> Result<(), StoreError> {
        let id = &upload.id;
        if guard.entry.current().is_some() {
            return Err(StoreError::Exists);
        }
        if let Some(key) = pointer
            && self.key_target(key).map_err(failed("creating", id))?.as_ref() != predecessor
        {
            return Err(StoreError::Stale);
        }
        let reserved = self.reserve(guard, id)?;
        let Some(record) = reserved else {
            return Err(StoreError::Exists);
        };
        match self.create_files(guard, upload, &record, pointer) {
            Ok(log) => *guard.log = log,
            Err(e) => {
                self.undo_creation(&guard.entry, pointer, predecessor);
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

    /// Makes an empty record, which counts as none. `None` when there is one that counts.
    fn reserve(
        self: &Arc<Self>,
        guard: &mut EntryGuard,
        id: &UploadId,
    ) -> Result<Option<File>, StoreError> {
        let is_clean = self.is_recovered.load(Ordering::Relaxed)
            && !self.has_leftovers.load(Ordering::Relaxed);
        let is_being_removed = |id| self.disk.exists(id, Kind::Gone);
        if !is_clean && is_being_removed(id).map_err(failed("creating", id))? {
            self.finish_removal(id).map_err(failed("clearing away", id))?;
        }
        match self.disk.create_new(id, Kind::Record) {
            Ok(file) => return Ok(Some(file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed("creating", id)(e)),
        }
        match self.load(guard) {
            Ok(_) => Ok(None),
            // A crash came before its first line was whole. Nobody was told of that upload.
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

    /// Makes the data file, and the record durable.
    fn create_files(
        self: &Arc<Self>,
        guard: &EntryGuard,
        upload: &Upload,
        record: &File,
        pointer: Option<&UploadId>,
    ) -> io::Result<Log> {
        let is_empty = upload.length == Some(0);
        if !upload.is_void() && !self.is_joined(upload)? {
            if upload.is_complete() && !is_empty {
                return Err(io::Error::new(io::ErrorKind::NotFound, "its bytes are not there"));
            }
            let part = self.create_data_file(&guard.entry)?;
            if !is_empty {
                self.disk.handles().insert(&guard.entry, CachedFile::Data, part);
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
        if let Some(key) = pointer {
            self.disk.set_pointer(key, &upload.id)?;
        }
        if !upload.is_complete() {
            // In this order the file system has the names on disk already, as a rule.
            self.disk.sync_names()?;
        }
        self.reconcile_names(guard, upload)?;
        Ok(Log { bytes, base_bytes: bytes, torn: false })
    }

    /// Undoes what [`Self::fill`] has begun, as far as the system lets us.
    fn undo_creation(
        &self,
        entry: &Entry,
        pointer: Option<&UploadId>,
        predecessor: Option<&UploadId>,
    ) {
        Handles::close(entry);
        let id = &entry.id;
        let restored = match (pointer, predecessor) {
            (Some(key), Some(predecessor)) => self.disk.set_pointer(key, predecessor),
            (Some(key), None) => self.disk.unlink(key, Kind::Name).map(drop),
            (None, _) => Ok(()),
        };
        let undone = restored
            .and_then(|()| self.disk.unlink(id, Kind::Record))
            .and_then(|_| self.disk.sync_names())
            .and_then(|()| self.disk.length_of(id, Kind::Part))
            // One with bytes is none of this creation.
            .and_then(|bytes| Ok(bytes == Some(0) && self.disk.unlink(id, Kind::Part)?));
        if let Err(e) = undone {
            tracing::warn!(%id, error = %e, "cannot undo a creation that failed");
        }
    }

    /// The upload that the pointer of a key leads to, if it exists.
    fn key_target(&self, key: &UploadId) -> io::Result<Option<UploadId>> {
        let Some(id) = self.disk.pointer_target(key)? else {
            return Ok(None);
        };
        if self.cache.peek(&id).is_some() {
            return Ok(Some(id));
        }
        let text = self.disk.open_read(&id, Kind::Record).and_then(|file| self.disk.read(&file));
        // A damaged record is an upload all the same; one without a whole line never came to be.
        let exists =
            found(text)?.is_some_and(|text| !matches!(record::parse(&id, &text), Ok(None)));
        Ok(exists.then_some(id))
    }

    /// Removes the record, then the bytes, if the record is still at `revision`.
    pub(super) fn remove(
        self: &Arc<Self>,
        guard: &mut EntryGuard,
        revision: u64,
        pointer: Option<&UploadId>,
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
        let cleared =
            self.unlink_pointer(pointer, id).and_then(|()| match (has_record, was_complete) {
                // Complete and without its bytes it is gone, whatever becomes of its record.
                (true, true) => self.finish_removal(id),
                (true, false) => self.disk.sync_names().and_then(|()| self.finish_removal(id)),
                (false, _) => self.remove_orphan(id).map(drop),
            });
        if cleared.is_err() {
            self.has_leftovers.store(true, Ordering::Relaxed);
        }
        cleared.map_err(failed("removing the bytes of", id))
    }

    /// Unlinks the pointer of a key if it leads to `id`, which is gone.
    fn unlink_pointer(&self, pointer: Option<&UploadId>, id: &UploadId) -> io::Result<()> {
        if let Some(key) = pointer
            && self.disk.pointer_target(key)?.as_ref() == Some(id)
        {
            self.disk.unlink(key, Kind::Name)?;
        }
        Ok(())
    }

    /// Brings everything of one id in order. Says whether leftovers of no upload were removed.
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
                // From an earlier life of the id; its bytes were gone before this record was made.
                self.disk.unlink(id, Kind::Gone)?;
                Ok(false)
            } else if !orphaned {
                Ok(false)
            } else if self.disk.exists(id, Kind::Gone)? {
                self.disk.unlink(id, Kind::Record)?;
                self.finish_removal(id).map(|()| true)
            } else {
                // It may as well be a key, whose upload is gone or never came to be.
                self.disk.unlink(id, Kind::NameTmp)?;
                if self.key_target(id)?.is_none() {
                    self.disk.unlink(id, Kind::Name)?;
                }
                self.remove_orphan(id)
            }
        };
        cleaned().map_err(failed("cleaning up", id))
    }

    /// Unlinks what is left of a removed upload, whose record is `.gone`.
    pub(super) fn finish_removal(&self, id: &UploadId) -> io::Result<()> {
        let had_bytes = self.disk.unlink(id, Kind::Plain)?
            | self.disk.unlink(id, Kind::Part)?
            | self.disk.unlink_tree(id, Kind::Join)?
            | self.disk.unlink_tree(id, Kind::JoinTmp)?
            | self.disk.unlink(id, Kind::RecordTmp)?;
        if had_bytes {
            // Bytes without the proof that they were removed look like bytes whose record is lost.
            self.disk.sync_names()?;
        }
        self.disk.unlink(id, Kind::Gone)?;
        Ok(())
    }

    /// Unlinks what a crash leaves of an upload that never came to be. Says whether it did: such an
    /// upload has no bytes, so where there are some the record is lost, and everything is kept.
    pub(super) fn remove_orphan(&self, id: &UploadId) -> io::Result<bool> {
        if let Some(kind) = self.orphaned_bytes(id)? {
            tracing::error!("{}; they are kept", missing_record(id, kind));
            return Ok(false);
        }
        self.disk.unlink(id, Kind::Record)?;
        self.disk.unlink(id, Kind::Part)?;
        self.disk.unlink_tree(id, Kind::Join)?;
        self.disk.unlink_tree(id, Kind::JoinTmp)?;
        self.disk.unlink(id, Kind::RecordTmp)?;
        Ok(true)
    }

    /// What holds bytes of an id without a record that are nowhere else.
    fn orphaned_bytes(&self, id: &UploadId) -> io::Result<Option<Kind>> {
        let has_bytes =
            |kind| self.disk.length_of(id, kind).map(|bytes| bytes.is_some_and(|n| n > 0));
        for kind in [Kind::Part, Kind::RecordTmp] {
            if has_bytes(kind)? {
                return Ok(Some(kind));
            }
        }
        // A plain file is not ours if it has no record at all.
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
