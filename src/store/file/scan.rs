//! Scans of the whole directory: [`Records`] for listing, [`recover`] for cleaning up after a
//! crash.

use std::{
    fs::{DirEntry, ReadDir},
    io,
    sync::{Arc, atomic::Ordering},
};

use super::{
    disk::{Kind, found},
    dispatch::Cost,
    record,
    shared::{Shared, failed},
};
use crate::{
    store::StoreError,
    upload::{Key, Upload, UploadId},
};

/// Directory entries read per batch.
const BATCH_NAMES: usize = 256;

/// A parsed name of the directory.
struct Name {
    id: UploadId,
    kind: Kind,
    entry: DirEntry,
}

impl Name {
    /// Returns whether the name may be left over from a crash. Records that are not empty are not
    /// read, and a plain file depends on its record.
    fn is_crash_leftover(&self) -> bool {
        match self.kind {
            Kind::Gone
            | Kind::Join
            | Kind::JoinTmp
            | Kind::NameTmp
            | Kind::Part
            | Kind::RecordTmp => true,
            // A pointer to a record that does not exist.
            Kind::Name => !self.entry.path().exists(),
            Kind::Plain => false,
            Kind::Record => self.entry.metadata().is_ok_and(|about| about.len() == 0),
        }
    }
}

/// The parsed names of the directory. Blocks.
#[derive(Debug)]
struct Names {
    shared: Arc<Shared>,
    entries: Walk,
}

/// The progress of a directory scan.
#[derive(Debug)]
enum Walk {
    /// Not opened yet.
    New,
    /// In progress.
    On(ReadDir),
    /// Ended, or failed.
    Over,
}

impl Names {
    /// Creates a scan of all names.
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, entries: Walk::New }
    }

    /// Returns the next directory entry, ours or not.
    fn entry(&mut self) -> Option<io::Result<DirEntry>> {
        if matches!(self.entries, Walk::New) {
            match self.shared.disk.entries() {
                Ok(entries) => self.entries = Walk::On(entries),
                Err(e) => return Some(Err(e)),
            }
        }
        match &mut self.entries {
            Walk::On(entries) => entries.next(),
            Walk::New | Walk::Over => None,
        }
    }
}

impl Iterator for Names {
    type Item = io::Result<Name>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.entry() {
                Some(Ok(entry)) => match Kind::parse(&entry.file_name()) {
                    Some((id, kind)) => return Some(Ok(Name { id, kind, entry })),
                    None => continue,
                },
                Some(Err(e)) => {
                    self.entries = Walk::Over;
                    return Some(Err(e));
                }
                None => return None,
            }
        }
    }
}

/// An iterator over all records. They are not cached. Blocks.
#[derive(Debug)]
pub(super) struct Records(Names);

impl Records {
    /// Records read per batch: enough to amortize the switch to another thread.
    pub(super) const BATCH: usize = 64;

    /// Creates an iterator over all records.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(Names::new(shared))
    }

    /// Returns the upload of a record; `None` when it was removed meanwhile or cannot be read.
    fn upload(&self, id: &UploadId) -> Option<Arc<Upload>> {
        let shared = &self.0.shared;
        let known = shared.cache.peek(id).or_else(|| self.record(id))?;
        if shared.is_intact(&known) {
            return Some(known);
        }
        let key = known.key.as_ref().map(Key::to_id);
        let pointer = key.as_ref().map(|key| shared.cache.entry(key).try_lock());
        let guard = shared.cache.entry(id).try_lock();
        let (Some(mut guard), None | Some(Some(_))) = (guard, &pointer) else {
            return Some(known);
        };
        match shared.load(&mut guard) {
            Ok(upload) => return Some(upload),
            // The file was moved away by its owner.
            Err(StoreError::Absent) => match shared.remove_moved(id, key.as_ref()) {
                Ok(true) => {
                    tracing::info!(%id, "removed the record of an upload whose file was moved away")
                }
                Ok(false) => {}
                Err(e) => {
                    tracing::warn!(%id, error = %e, "cannot remove the record of an upload whose file was moved away")
                }
            },
            Err(e) => log_skipped(id, &e),
        }
        None
    }

    /// Reads the record of `id` from disk.
    fn record(&self, id: &UploadId) -> Option<Arc<Upload>> {
        let shared = &self.0.shared;
        let text = shared.disk.open_read(id, Kind::Record).and_then(|file| shared.disk.read(&file));
        let text = found(text).map_err(failed("reading the record of", id));
        match text.and_then(|text| record::parse(id, &text.unwrap_or_default())) {
            Ok(parsed) => parsed.map(|parsed| Arc::new(parsed.upload)),
            Err(e) => {
                log_skipped(id, &e);
                None
            }
        }
    }
}

/// Logs that a record is missing from the listing.
fn log_skipped(id: &UploadId, error: &StoreError) {
    tracing::warn!(file = %format_args!("{id}.record"), %error, "record skipped");
}

impl Iterator for Records {
    type Item = Result<Arc<Upload>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let name = match self.0.next()? {
                Ok(name) => name,
                Err(e) => return Some(Err(StoreError::io("listing the directory", e))),
            };
            if name.kind == Kind::Record
                && let Some(upload) = self.upload(&name.id)
            {
                return Some(Ok(upload));
            }
        }
    }
}

/// Cleans up after a crash, one id after the other. Returns the number of ids with orphaned files
/// that were removed.
pub(super) async fn recover(shared: &Arc<Shared>) -> Result<u64, StoreError> {
    let synced = shared.run(Cost::Disk, |shared| shared.disk.sync_all());
    match synced.await {
        Ok(()) => shared.is_synced.store(true, Ordering::Relaxed),
        // Records are then synced one by one when they are loaded.
        Err(e) => tracing::debug!(error = %e, "cannot sync the whole file system"),
    }
    let mut names = Names::new(Arc::clone(shared));
    let (mut removed, mut batch, mut is_recovered) = (0, Vec::new(), true);
    loop {
        (names, batch) = shared
            .run(Cost::Disk, move |_| {
                let leftover =
                    |name: &io::Result<Name>| name.as_ref().map_or(true, Name::is_crash_leftover);
                batch.extend(names.by_ref().filter(leftover).take(BATCH_NAMES));
                (names, batch)
            })
            .await;
        if batch.is_empty() {
            shared.is_recovered.store(is_recovered, Ordering::Relaxed);
            return Ok(removed);
        }
        for name in batch.drain(..) {
            let name = name.map_err(|e| StoreError::io("reading the directory", e))?;
            match recover_one(shared, name).await {
                Some(was_orphan) => removed += u64::from(was_orphan),
                None => is_recovered = false,
            }
        }
    }
}

/// Cleans up the files of one id, or the pointer of one key. Returns whether orphaned files were
/// removed; `None` on failure, which is logged.
async fn recover_one(shared: &Arc<Shared>, Name { id, kind, .. }: Name) -> Option<bool> {
    let recovered = if matches!(kind, Kind::Name | Kind::NameTmp) {
        shared.recover_pointer(&id).await.map(|()| false)
    } else {
        let mut guard = shared.cache.entry(&id).lock().await;
        shared.run(Cost::Disk, move |shared| shared.recover(&mut guard)).await
    };
    let recovered = recovered.inspect_err(|e| {
        tracing::warn!(%id, error = %e, "cannot clean up after a crash");
    });
    recovered.ok()
}
