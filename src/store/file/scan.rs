//! Walks through the whole directory: [`Records`] for listing, [`recover`] for what a crash left.

use std::{fs::ReadDir, io, sync::Arc};

use super::{
    disk::{Kind, found},
    record,
    run::{Cost, run},
    shared::{Shared, failed},
};
use crate::{
    store::StoreError,
    upload::{Upload, UploadId},
};

/// Names read from the directory at a time.
const BATCH_NAMES: usize = 256;

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
        Self {
            shared,
            entries: Walk::New,
        }
    }

    /// The next name, ours or not.
    fn entry(&mut self) -> Option<io::Result<std::fs::DirEntry>> {
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
    type Item = io::Result<(UploadId, Kind)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.entry() {
                Some(Ok(entry)) => match Kind::parse(&entry.file_name()) {
                    Some(name) => return Some(Ok(name)),
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

    /// The record of `id`; `None` when it is gone by now or cannot be read.
    fn record(&self, id: &UploadId) -> Option<Arc<Upload>> {
        let shared = &self.0.shared;
        if let Some(upload) = shared.cache.peek(id) {
            return Some(upload);
        }
        let text = shared
            .disk
            .open_read(id, Kind::Record)
            .and_then(|file| shared.disk.read(&file));
        let text = found(text).map_err(failed("reading the record of", id));
        match text.and_then(|text| record::parse(id, &text.unwrap_or_default())) {
            Ok(parsed) => parsed.map(|parsed| Arc::new(parsed.upload)),
            Err(e) => {
                tracing::warn!(file = %format_args!("{id}.record"), error = %e, "record skipped");
                None
            }
        }
    }
}

impl Iterator for Records {
    type Item = Result<Arc<Upload>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.0.next()? {
                Ok((id, Kind::Record)) => match self.record(&id) {
                    Some(upload) => return Some(Ok(upload)),
                    None => continue,
                },
                Ok((
                    _,
                    Kind::Gone
                    | Kind::Join
                    | Kind::JoinTmp
                    | Kind::Part
                    | Kind::Plain
                    | Kind::RecordTmp,
                )) => {}
                Err(e) => return Some(Err(StoreError::io("listing the directory", e))),
            }
        }
    }
}

/// Cleans up what a crash left half done, one id after the other. Gives the number of ids of which
/// orphans were removed.
pub(super) async fn recover(shared: &Arc<Shared>) -> Result<u64, StoreError> {
    let mut names = Names::new(Arc::clone(shared));
    let (mut removed, mut ended) = (0, false);
    while !ended {
        let batch;
        (names, batch) = run(Cost::Disk, move || {
            let batch = names
                .by_ref()
                .take(BATCH_NAMES)
                .collect::<io::Result<Vec<_>>>();
            (names, batch)
        })
        .await;
        let batch = batch.map_err(|e| StoreError::io("reading the directory", e))?;
        ended = batch.len() < BATCH_NAMES;
        for (id, kind) in batch {
            if !tells_of_a_crash(kind) {
                continue;
            }
            let mut held = shared.cache.entry(&id).hold().await;
            let shared = Arc::clone(shared);
            match run(Cost::Disk, move || shared.recover(&mut held)).await {
                Ok(orphans) => removed += u64::from(orphans),
                Err(e) => tracing::warn!(%id, error = %e, "cannot clean up after a crash"),
            }
        }
    }
    Ok(removed)
}

/// Whether a name may be there because of a crash. A record is not looked into, and a plain file is
/// nobody's business but that of its record.
fn tells_of_a_crash(kind: Kind) -> bool {
    match kind {
        Kind::Gone | Kind::Join | Kind::JoinTmp | Kind::Part | Kind::RecordTmp => true,
        Kind::Plain | Kind::Record => false,
    }
}
