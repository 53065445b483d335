//! [`Shared`]: what is done to the files of one upload, one system call after the other. Blocks;
//! callers hold the entry and choose the thread.

use std::{
    collections::HashSet,
    fs::File,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::UNIX_EPOCH,
};

use super::{
    disk::{Disk, Kind, found},
    entry::{Cache, Held, Log},
    lay_down::LayDowns,
    lock,
    pace::Cost,
    record,
};
use crate::{
    store::StoreError,
    upload::{Change, Phase, Role, Upload, UploadId},
};

/// A change log shorter than this is never rewritten: reading it takes no time. Tests meet it sooner.
const COMPACT_MIN_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 256 << 10 };

/// A longer one is rewritten once it is so many times as long as when it was last rewritten, so that
/// the cost of rewriting stays a fraction of that of the commits.
const COMPACT_RATIO: u64 = 4;

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
}

/// Which state of which upload a caller has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    /// In whole milliseconds, as on disk. Tells uploads apart that had the same id in turn.
    created_ms: u128,
    revision: u64,
}

impl Version {
    /// The version that `upload` is.
    pub(super) fn of(upload: &Upload) -> Self {
        let created = upload
            .created
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            created_ms: created.as_millis(),
            revision: upload.revision,
        }
    }
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
        let shared = Arc::clone(self);
        self.disk.pace().run(cost, move || work(&shared)).await
    }

    /// The record, from memory or from disk.
    pub(super) fn load(self: &Arc<Self>, held: &mut Held) -> Result<Arc<Upload>, StoreError> {
        if let Some(upload) = held.entry.current() {
            return Ok(upload);
        }
        let id = &held.entry.id;
        let file = found(self.disk.open_read(id, Kind::Record));
        let file = file
            .map_err(failed("opening the record of", id))?
            .ok_or(StoreError::Absent)?;
        let text = self
            .disk
            .read(&file)
            .map_err(failed("reading the record of", id))?;
        if !self.is_synced.load(Ordering::Relaxed) {
            // The process that wrote it may have died before its sync, and what is read here is
            // passed on as a promise.
            let synced = self.disk.sync(&file);
            synced.map_err(failed("syncing the record of", id))?;
        }
        let parsed = record::parse(id, &text)?.ok_or(StoreError::Absent)?;
        let upload = Arc::new(parsed.upload);
        if let Err(e) = self.settle(&upload) {
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
        match self.fill(upload, &record) {
            Ok(log) => *held.log = log,
            Err(e) => {
                self.forget(id);
                return Err(failed("creating", id)(e));
            }
        }
        lock(&self.unborn).remove(id);
        held.entry.set(Some(Arc::new(upload.clone())));
        Ok(())
    }

    /// Makes an empty record, which counts as none. `None` when there is one that counts.
    fn claim(self: &Arc<Self>, held: &mut Held, id: &UploadId) -> Result<Option<File>, StoreError> {
        if self
            .disk
            .exists(id, Kind::Gone)
            .map_err(failed("creating", id))?
        {
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
    fn fill(self: &Arc<Self>, upload: &Upload, record: &File) -> io::Result<Log> {
        let id = &upload.id;
        let is_empty = upload.length == Some(0);
        if upload.phase != Phase::Void && !self.is_joined(upload)? {
            if upload.is_complete() && !is_empty {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "its bytes are not there",
                ));
            }
            self.make_part(id)?;
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
        self.settle(upload)?;
        Ok(Log {
            bytes,
            base_bytes: bytes,
            torn: false,
        })
    }

    /// Makes an empty data file that no writer of an earlier upload knows.
    fn make_part(&self, id: &UploadId) -> io::Result<File> {
        match self.disk.create_new(id, Kind::Part) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.unlink(id, Kind::Part)?;
                self.disk.create_new(id, Kind::Part)
            }
            made => made,
        }
    }

    /// Undoes what [`Self::fill`] has begun, as far as the system lets us.
    fn forget(&self, id: &UploadId) {
        let undone = self
            .disk
            .unlink(id, Kind::Record)
            .and_then(|_| self.disk.sync_names())
            .and_then(|()| self.disk.unlink(id, Kind::Part));
        if let Err(e) = undone {
            tracing::warn!(%id, error = %e, "cannot undo a creation that failed");
        }
    }

    /// Makes `changes` on top of `version`.
    pub(super) fn commit(
        self: &Arc<Self>,
        held: &mut Held,
        version: Version,
        changes: &[Change],
    ) -> Result<Arc<Upload>, StoreError> {
        let current = self.load(held)?;
        if Version::of(&current) != version {
            return Err(StoreError::Stale);
        }
        let id = &current.id;
        let next = current
            .after(changes)
            .map_err(|e| failed("changing", id)(io::Error::new(io::ErrorKind::InvalidInput, e)))?;
        let line = record::line(next.revision, changes);
        let bytes = line.len() as u64;
        let completes = next.is_complete() && !current.is_complete();
        if completes {
            self.fit(&next).map_err(failed("completing", id))?;
        }
        let record = self.append(held, line);
        let record = record.map_err(failed("changing the record of", id))?;
        if completes && let Err(e) = self.appear(&next) {
            self.retract(held, &record);
            return Err(failed("publishing", id)(e));
        }
        held.log.bytes += bytes;
        held.log.torn = false;
        let next = Arc::new(next);
        held.entry.set(Some(Arc::clone(&next)));
        self.tidy(held, &next);
        Ok(next)
    }

    /// Before an upload is recorded as complete: makes sure that its links last, or makes its data file
    /// exactly as long as the upload.
    fn fit(&self, next: &Upload) -> io::Result<()> {
        if self.is_joined(next)? {
            return self.disk.sync_names();
        }
        match self.trim(next) {
            // Lost with the power before anything was written, or never made: a final upload that
            // turns out to be empty.
            Err(e) if e.kind() == io::ErrorKind::NotFound && next.length == Some(0) => {
                self.make_part(&next.id).map(drop)
            }
            trimmed => trimmed,
        }
    }

    /// After an upload was recorded as complete: gives its bytes their public name, or sees that
    /// they get one.
    fn appear(self: &Arc<Self>, upload: &Upload) -> io::Result<()> {
        if !upload.is_published() {
            return Ok(());
        }
        if self.is_joined(upload)? {
            self.lay_downs.add(self, &upload.id);
            return Ok(());
        }
        self.publish(&upload.id)
    }

    /// Takes a completion back that failed after it was recorded.
    fn retract(&self, held: &mut Held, record: &File) {
        let id = &held.entry.id;
        let is_private = self.disk.exists(id, Kind::Part).unwrap_or(false);
        if is_private {
            self.cut_back(held, record);
        } else {
            // Published after all. The record says so too, and is read again the next time.
            held.entry.set(None);
        }
    }

    /// Cuts off what dropped writers have left behind the end of a full upload.
    fn trim(&self, upload: &Upload) -> io::Result<()> {
        let id = &upload.id;
        let (held, length) = (self.disk.len(id, Kind::Part)?, upload.offset());
        if held < length {
            let why = format!("its data file holds {held} bytes, its record says {length}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        if held > length {
            let file = self.disk.open_write(id, Kind::Part)?;
            self.disk.truncate(&file, length)?;
            self.disk.sync(&file)?;
        }
        Ok(())
    }

    /// Adds a line to the record, durably. On failure the record is as it was.
    fn append(&self, held: &mut Held, line: Vec<u8>) -> io::Result<File> {
        if self.names_unsynced.load(Ordering::Relaxed) {
            self.disk.sync_names()?;
            self.names_unsynced.store(false, Ordering::Relaxed);
        }
        let record = self.disk.open_write(&held.entry.id, Kind::Record)?;
        if held.log.torn {
            self.disk.truncate(&record, held.log.bytes)?;
        }
        held.log.torn = true;
        let written = self
            .disk
            .write_at(&record, &[line.into()], held.log.bytes)
            .and_then(|()| self.disk.sync(&record));
        if let Err(e) = written {
            self.cut_back(held, &record);
            return Err(e);
        }
        Ok(record)
    }

    /// Takes the last line off the record again. When not even that works, only the disk knows
    /// whether the line will last, and it is asked the next time.
    fn cut_back(&self, held: &mut Held, record: &File) {
        let cut = self
            .disk
            .truncate(record, held.log.bytes)
            .and_then(|()| self.disk.sync(record));
        match cut {
            Ok(()) => held.log.torn = false,
            Err(e) => {
                tracing::warn!(id = %held.entry.id, error = %e, "cannot undo a commit that failed");
                held.entry.set(None);
            }
        }
    }

    /// After a commit: what need not succeed.
    fn tidy(self: &Arc<Self>, held: &mut Held, upload: &Upload) {
        let id = &upload.id;
        if upload.phase == Phase::Void
            && let Err(e) = self.settle(upload)
        {
            tracing::warn!(%id, error = %e, "cannot free the bytes of a void upload");
        }
        let limit = COMPACT_MIN_BYTES.max(COMPACT_RATIO.saturating_mul(held.log.base_bytes));
        if held.log.bytes < limit {
            return;
        }
        match self.compact(upload) {
            Ok(bytes) => {
                *held.log = Log {
                    bytes,
                    base_bytes: bytes,
                    torn: false,
                }
            }
            Err(e) => {
                tracing::warn!(%id, error = %e, "cannot shorten a record");
                // Not again with every commit.
                held.log.base_bytes = held.log.bytes;
            }
        }
    }

    /// Replaces the record by one line that says the same. Gives its length in bytes.
    fn compact(&self, upload: &Upload) -> io::Result<u64> {
        let id = &upload.id;
        let line = record::first_line(upload);
        let bytes = line.len() as u64;
        let file = self.disk.create(id, Kind::RecordTmp)?;
        self.disk.write_at(&file, &[line.into()], 0)?;
        self.disk.sync(&file)?;
        self.disk.rename(id, Kind::RecordTmp, Kind::Record)?;
        if self.disk.sync_names().is_err() {
            // Both logs say the same by now. The next append tries again first.
            self.names_unsynced.store(true, Ordering::Relaxed);
        }
        Ok(bytes)
    }

    /// Brings the names in the directory in line with the record. Repeating it is fine.
    pub(super) fn settle(self: &Arc<Self>, upload: &Upload) -> io::Result<()> {
        let id = &upload.id;
        if upload.phase == Phase::Void {
            self.disk.unlink(id, Kind::Plain)?;
            self.disk.unlink(id, Kind::Part)?;
            self.disk.unlink_tree(id, Kind::Join)?;
            return Ok(());
        }
        if !upload.is_published() {
            return Ok(());
        }
        if !self.is_joined(upload)? {
            if !self.disk.exists(id, Kind::Part)? {
                return Ok(());
            }
            self.trim(upload)?;
        }
        self.appear(upload)
    }

    /// Gives the data file its public name. On failure it keeps its private one.
    pub(super) fn publish(&self, id: &UploadId) -> io::Result<()> {
        self.disk.rename(id, Kind::Part, Kind::Plain)?;
        self.disk.sync_names().inspect_err(|_| {
            if let Err(e) = self.disk.rename(id, Kind::Plain, Kind::Part) {
                tracing::warn!(%id, error = %e, "cannot undo a publication that failed");
            }
        })
    }

    /// Whether the bytes of `upload` are still those of its partials.
    pub(super) fn is_joined(&self, upload: &Upload) -> io::Result<bool> {
        match upload.role {
            Role::Whole | Role::Partial { .. } => Ok(false),
            Role::Final { .. } => self.disk.exists(&upload.id, Kind::Join),
        }
    }

    /// Lays `partials`, each an id and its length, in order under `upload`.
    pub(super) fn join(
        self: &Arc<Self>,
        held: &mut Held,
        partials: &[(UploadId, u64)],
    ) -> Result<(), StoreError> {
        match self.load(held) {
            Ok(upload) if upload.is_complete() => return Ok(()),
            Ok(_) => {}
            Err(StoreError::Absent) => {
                lock(&self.unborn).insert(held.entry.id.clone());
            }
            Err(e) => return Err(e),
        }
        let id = &held.entry.id;
        let mut links = Vec::with_capacity(partials.len());
        let mut position = 0_u64;
        for (partial, length) in partials {
            if *length > 0 {
                links.push((position, partial));
            }
            position = position.saturating_add(*length);
        }
        self.disk
            .unlink_tree(id, Kind::Join)
            .map_err(failed("joining", id))?;
        if links.is_empty() {
            return Ok(());
        }
        let linked = match found(self.disk.link_parts(id, &links)) {
            Ok(linked) => linked.ok_or(StoreError::Absent),
            Err(e) => Err(failed("joining", id)(e)),
        };
        linked.inspect_err(|_| {
            lock(&self.unborn).remove(id);
            if let Err(e) = self.disk.unlink_tree(id, Kind::JoinTmp) {
                tracing::warn!(%id, error = %e, "cannot undo a join that failed");
            }
        })
    }

    /// Removes the record, then the bytes.
    pub(super) fn remove(&self, held: &mut Held) -> Result<(), StoreError> {
        let id = &held.entry.id;
        let gone = found(self.disk.rename(id, Kind::Record, Kind::Gone));
        gone.map_err(failed("removing", id))?;
        held.entry.set(None);
        lock(&self.unborn).remove(id);
        self.disk.sync_names().map_err(failed("removing", id))?;
        self.clear(id).map_err(failed("removing the bytes of", id))
    }

    /// The data file of an open upload, which was not found. It may be missing after the loss of power
    /// as long as the upload holds no bytes, and is then made again.
    pub(super) fn remake_part(self: &Arc<Self>, held: &mut Held) -> Result<File, StoreError> {
        let upload = self.load(held)?;
        let id = &upload.id;
        if upload.phase != Phase::Open {
            return Err(StoreError::Stale);
        }
        if upload.received.runs() > 0 {
            return Err(failed("opening the data file of", id)(
                io::ErrorKind::NotFound.into(),
            ));
        }
        let file = self.make_part(id);
        let file = file.and_then(|file| self.disk.sync_names().map(|()| file));
        file.map_err(failed("making the data file of", id))
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
                self.settle(upload)?;
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
