//! Commits: a line appended to the record, and what follows from it. Blocks; callers hold the entry.

use std::{
    fs::File,
    io,
    sync::{Arc, atomic::Ordering},
    time::UNIX_EPOCH,
};

use super::{
    disk::Kind,
    entry::{Held, Log},
    handles::Which,
    record,
    shared::{Shared, failed},
};
use crate::{
    store::StoreError,
    upload::{Change, Phase, Upload},
};

/// A change log shorter than this is never rewritten: reading it takes no time. Tests meet it sooner.
const COMPACT_MIN_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 256 << 10 };

/// A longer one is rewritten once it is so many times as long as when it was last rewritten, so that
/// the cost of rewriting stays a fraction of that of the commits.
const COMPACT_RATIO: u64 = 4;

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
        let created = upload.created.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { created_ms: created.as_millis(), revision: upload.revision }
    }
}

impl Shared {
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
            self.fit(held, &next).map_err(failed("completing", id))?;
        }
        let record = self.append(held, line);
        let record = record.map_err(failed("changing the record of", id))?;
        if completes && let Err(e) = self.appear(held, &next) {
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

    /// Adds a line to the record, durably. On failure the record is as it was.
    fn append(&self, held: &mut Held, line: Vec<u8>) -> io::Result<Arc<File>> {
        if self.names_unsynced.load(Ordering::Relaxed) {
            self.disk.sync_names()?;
            self.names_unsynced.store(false, Ordering::Relaxed);
        }
        let record = self.record(&held.entry)?;
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
        let cut = self.disk.truncate(record, held.log.bytes).and_then(|()| self.disk.sync(record));
        match cut {
            Ok(()) => held.log.torn = false,
            Err(e) => {
                tracing::warn!(id = %held.entry.id, error = %e, "cannot undo a commit that failed");
                held.entry.set(None);
            }
        }
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

    /// After a commit: what need not succeed.
    fn tidy(self: &Arc<Self>, held: &mut Held, upload: &Upload) {
        let id = &upload.id;
        if upload.phase == Phase::Void
            && let Err(e) = self.settle(held, upload)
        {
            tracing::warn!(%id, error = %e, "cannot free the bytes of a void upload");
        }
        let limit = COMPACT_MIN_BYTES.max(COMPACT_RATIO.saturating_mul(held.log.base_bytes));
        if held.log.bytes < limit {
            return;
        }
        match self.compact(held, upload) {
            Ok(bytes) => *held.log = Log { bytes, base_bytes: bytes, torn: false },
            Err(e) => {
                tracing::warn!(%id, error = %e, "cannot shorten a record");
                // An error means that it is not worth the space that it takes.
                let _ = self.disk.unlink(id, Kind::RecordTmp);
                // Not again with every commit.
                held.log.base_bytes = held.log.bytes;
            }
        }
    }

    /// Replaces the record by one line that says the same. Gives its length in bytes.
    fn compact(&self, held: &Held, upload: &Upload) -> io::Result<u64> {
        let id = &upload.id;
        let line = record::first_line(upload);
        let bytes = line.len() as u64;
        let file = self.disk.create(id, Kind::RecordTmp)?;
        self.disk.write_at(&file, &[line.into()], 0)?;
        self.disk.sync(&file)?;
        self.disk.rename(id, Kind::RecordTmp, Kind::Record)?;
        self.disk.handles().keep(&held.entry, Which::Record, Arc::new(file));
        if self.disk.sync_names().is_err() {
            // Both logs say the same by now. The next append tries again first.
            self.names_unsynced.store(true, Ordering::Relaxed);
        }
        Ok(bytes)
    }
}
