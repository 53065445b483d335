//! Walks through the whole directory: [`Records`] for listing, [`recover`] for what a crash left.

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
    upload::{Upload, UploadId},
};

/// Names read from the directory at a time.
const BATCH_NAMES: usize = 256;

/// One of our names in a directory, taken apart.
struct Name {
    id: UploadId,
    kind: Kind,
    entry: DirEntry,
}

impl Name {
    /// Whether it may be there because of a crash. A record that is not empty is not looked into,
    /// and a plain file is nobody's business but that of its record.
    fn is_crash_leftover(&self) -> bool {
        match self.kind {
            Kind::Gone
            | Kind::Join
            | Kind::JoinTmp
            | Kind::NameTmp
            | Kind::Part
            | Kind::RecordTmp => true,
            // A pointer to a record that is not there.
            Kind::Name => !self.entry.path().exists(),
            Kind::Plain => false,
            Kind::Record => self.entry.metadata().is_ok_and(|about| about.len() == 0),
        }
    }
}

/// Our names in a directory. Blocks.
#[derive(Debug)]
struct Names {
    shared: Arc<Shared>,
    entries: Walk,
}

/// How far a walk through the directory has got.
#[derive(Debug)]
enum Walk {
    /// Nowhere.
    New,
    /// Into it.
    On(ReadDir),
    /// To its end, or to an error.
    Over,
}

impl Names {
    /// All names.
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, entries: Walk::New }
    }

    /// The next name, ours or not.
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

/// All records, read one by one and not kept. Blocks.
#[derive(Debug)]
pub(super) struct Records(Names);

impl Records {
    /// Records that are read together: enough to make going to another thread worth it.
    pub(super) const BATCH: usize = 64;

    /// All records.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(Names::new(shared))
    }

    /// The upload of a record; `None` when it is gone by now or cannot be read.
    fn upload(&self, id: &UploadId) -> Option<Arc<Upload>> {
        let shared = &self.0.shared;
        let known = shared.cache.peek(id).or_else(|| self.record(id))?;
        if shared.is_intact(&known) {
            return Some(known);
        }
        let Some(mut guard) = shared.cache.entry(id).try_lock() else {
            return Some(known);
        };
        match shared.load(&mut guard) {
            Ok(upload) => return Some(upload),
            // Its owner has moved the file away.
            Err(StoreError::Absent) => match shared.remove_orphan(id) {
                Ok(true) => tracing::info!(%id, "forgotten: its file was moved away"),
                Ok(false) => {}
                Err(e) => tracing::warn!(%id, error = %e, "cannot forget what was moved away"),
            },
            Err(e) => log_skipped(id, &e),
        }
        None
    }

    /// The record of `id`, from disk.
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

/// Notes that a listing lacks an upload.
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

/// Cleans up what a crash left half done, one id after the other. Gives the number of ids of which
/// orphans were removed.
pub(super) async fn recover(shared: &Arc<Shared>) -> Result<u64, StoreError> {
    let synced = shared.run(Cost::Disk, |shared| shared.disk.sync_all());
    match synced.await {
        Ok(()) => shared.is_synced.store(true, Ordering::Relaxed),
        // Records are then synced one by one, when they are read.
        Err(e) => tracing::debug!(error = %e, "cannot sync the file system at once"),
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
            match recover_one(shared, name.id).await {
                Some(was_orphan) => removed += u64::from(was_orphan),
                None => is_recovered = false,
            }
        }
    }
}

/// Brings everything of one id in order. Says whether orphans were removed; `None` when it failed.
async fn recover_one(shared: &Arc<Shared>, id: UploadId) -> Option<bool> {
    let mut guard = shared.cache.entry(&id).lock().await;
    let recovered = shared.run(Cost::Disk, move |shared| shared.recover(&mut guard));
    let recovered = recovered.await.inspect_err(|e| {
        tracing::warn!(%id, error = %e, "cannot clean up after a crash");
    });
    recovered.ok()
}
