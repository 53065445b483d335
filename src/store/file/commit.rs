//! Commits: appending a line to the record, and the follow-up steps. Blocks; callers lock the
//! entry.

use std::{
    fs::File,
    io,
    sync::{Arc, atomic::Ordering},
};

use super::{
    disk::Kind,
    entry::{EntryGuard, Log},
    handles::CachedFile,
    record,
    shared::{Shared, failed},
};
use crate::{
    store::StoreError,
    upload::{Change, Upload},
};

/// Minimum length of a change log before it is rewritten; reading a shorter one takes no time.
/// Smaller in tests.
const COMPACT_MIN_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 256 << 10 };

/// A longer log is rewritten at this many times its length after the last rewrite, so that
/// rewriting costs a fraction of the commits.
const COMPACT_RATIO: u64 = 4;

impl Shared {
    /// Commits `changes` on top of `revision`.
    pub(super) fn commit(
        self: &Arc<Self>,
        guard: &mut EntryGuard,
        revision: u64,
        changes: &[Change],
    ) -> Result<Arc<Upload>, StoreError> {
        let current = self.load(guard)?;
        if current.revision != revision {
            return Err(StoreError::Stale);
        }
        let id = &current.id;
        let next = current
            .after(changes)
            .map_err(|e| failed("changing", id)(io::Error::new(io::ErrorKind::InvalidInput, e)))?;
        let line = record::line(next.revision, changes);
        let bytes = line.len() as u64;
        let completes = next.is_complete() && !current.is_complete();
        let brings_bytes = changes.iter().any(|change| matches!(change, Change::Received { .. }));
        let checked = match (completes, brings_bytes) {
            (true, _) => self.prepare_completion(guard, &next),
            (false, true) => self.check_received(&next),
            (false, false) => Ok(()),
        };
        if let Err(e) = checked {
            // The files do not match the cached record.
            self.invalidate(&guard.entry);
            return Err(failed("committing bytes of", id)(e));
        }
        let record = self.append(guard, line);
        let record = record.map_err(failed("changing the record of", id))?;
        if completes && let Err(e) = self.publish(guard, &next) {
            self.undo_completion(guard, &record);
            return Err(failed("publishing", id)(e));
        }
        guard.log.bytes += bytes;
        guard.log.torn = false;
        let next = Arc::new(next);
        guard.entry.set(Some(Arc::clone(&next)));
        self.after_commit(guard, &next);
        Ok(next)
    }

    /// Appends a line to the record, durably. On failure the record is unchanged.
    fn append(&self, guard: &mut EntryGuard, line: Vec<u8>) -> io::Result<Arc<File>> {
        if self.names_unsynced.load(Ordering::Relaxed) {
            self.disk.sync_names()?;
            self.names_unsynced.store(false, Ordering::Relaxed);
        }
        let record = self.record(&guard.entry)?;
        if self.disk.linked_length(&record)?.is_none() {
            self.invalidate(&guard.entry);
            return Err(io::Error::other(StoreError::Absent));
        }
        if guard.log.torn {
            self.disk.truncate(&record, guard.log.bytes)?;
        }
        guard.log.torn = true;
        let written = self
            .disk
            .write_at(&record, &[line.into()], guard.log.bytes)
            .and_then(|()| self.disk.sync(&record));
        if let Err(e) = written {
            self.undo_append(guard, &record);
            return Err(e);
        }
        Ok(record)
    }

    /// Removes the last line of the record. If that fails, whether the line is durable is unknown,
    /// and the record is read from disk the next time.
    fn undo_append(&self, guard: &mut EntryGuard, record: &File) {
        let cut = self.disk.truncate(record, guard.log.bytes).and_then(|()| self.disk.sync(record));
        match cut {
            Ok(()) => guard.log.torn = false,
            Err(e) => {
                tracing::warn!(id = %guard.entry.id, error = %e, "cannot undo a commit that failed");
                guard.entry.set(None);
            }
        }
    }

    /// Undoes a completion whose publication failed.
    fn undo_completion(&self, guard: &mut EntryGuard, record: &File) {
        let id = &guard.entry.id;
        let exists = |kind| self.disk.exists(id, kind);
        let is_private = exists(Kind::Part).and_then(|part| Ok(part || !exists(Kind::Plain)?));
        if is_private.unwrap_or(false) {
            self.undo_append(guard, record);
        } else {
            // The bytes were published after all, and the record agrees. It is read again the next
            // time.
            guard.entry.set(None);
        }
    }

    /// Steps after a commit that may fail.
    fn after_commit(self: &Arc<Self>, guard: &mut EntryGuard, upload: &Upload) {
        let id = &upload.id;
        if upload.is_void()
            && let Err(e) = self.reconcile_names(guard, upload)
        {
            tracing::warn!(%id, error = %e, "cannot free the bytes of a void upload");
        }
        let limit = COMPACT_MIN_BYTES.max(COMPACT_RATIO.saturating_mul(guard.log.base_bytes));
        if guard.log.bytes < limit {
            return;
        }
        match self.compact(guard, upload) {
            Ok(bytes) => *guard.log = Log { bytes, base_bytes: bytes, torn: false },
            Err(e) => {
                tracing::warn!(%id, error = %e, "cannot compact a record");
                // On failure the file only uses space.
                let _ = self.disk.unlink(id, Kind::RecordTmp);
                // Prevents another attempt with every commit.
                guard.log.base_bytes = guard.log.bytes;
            }
        }
    }

    /// Replaces the change log by one equivalent line. Returns its length in bytes.
    fn compact(&self, guard: &EntryGuard, upload: &Upload) -> io::Result<u64> {
        let id = &upload.id;
        let line = record::first_line(upload);
        let bytes = line.len() as u64;
        let file = self.disk.create(id, Kind::RecordTmp)?;
        self.disk.write_at(&file, &[line.into()], 0)?;
        self.disk.sync(&file)?;
        self.disk.rename(id, Kind::RecordTmp, Kind::Record)?;
        self.disk.handles().insert(&guard.entry, CachedFile::Record, Arc::new(file));
        if self.disk.sync_names().is_err() {
            // Both logs are equivalent by now. The next append syncs the names first.
            self.names_unsynced.store(true, Ordering::Relaxed);
        }
        Ok(bytes)
    }
}
