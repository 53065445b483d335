//! Which offsets clients go on from although their uploads are further (J-051).

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::upload::{Upload, UploadId};

/// How many uploads are remembered. One that is forgotten costs its client a question: it is told
/// that the offset does not fit, and asks for the right one.
const MAX_UPLOADS: usize = 10_000;

/// The offsets told in answers to writes whose bytes closed a gap, so that the upload jumped ahead of
/// them.
#[derive(Debug, Default)]
pub(super) struct Jumps(Mutex<HashMap<UploadId, u64>>);

impl Jumps {
    /// The offset that the client of `id` was last told, if the upload was further already.
    pub(super) fn told(&self, id: &UploadId) -> Option<u64> {
        self.lock().get(id).copied()
    }

    /// Notes that the client of `upload` is told `offset`.
    pub(super) fn tell(&self, upload: &Upload, offset: u64) {
        let mut told = self.lock();
        if offset >= upload.offset() {
            told.remove(&upload.id);
        } else if told.len() < MAX_UPLOADS || told.contains_key(&upload.id) {
            told.insert(upload.id.clone(), offset);
        }
    }

    /// Forgets an upload that is gone.
    pub(super) fn forget(&self, id: &UploadId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UploadId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
