//! [`Digests`]: digests over the bytes of open uploads as far as they have come, so that the
//! checksum of a whole upload is known when its last byte is.
//!
//! A hint, like all that a process remembers: without it the bytes are read once more.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::upload::{Algorithm, Digester, Upload, UploadId};

/// Uploads whose digests are kept, a few hundred bytes each. The one that was kept first is dropped
/// for another.
const MAX_KEPT: usize = 4096;

/// The digests of one engine.
#[derive(Debug, Default)]
pub(super) struct Digests(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_upload: HashMap<UploadId, (u64, Digester)>,
    /// The ids in the order in which they came.
    order: VecDeque<UploadId>,
}

impl Digests {
    /// Returns the digester of all bytes of `upload` before `offset`; `None` when it is not known.
    pub(super) fn up_to(
        &self,
        upload: &Upload,
        offset: u64,
        algorithm: Algorithm,
    ) -> Option<Digester> {
        if offset == 0 {
            return Some(algorithm.digester());
        }
        let kept = self.lock();
        let (at, digester) = kept.by_upload.get(&upload.id)?;
        (*at == offset && digester.algorithm() == algorithm).then(|| digester.clone())
    }

    /// Keeps the digester of all bytes of `upload` before `offset`, until the upload is complete.
    pub(super) fn keep(&self, upload: &Upload, offset: u64, digester: Digester) {
        if upload.is_complete() {
            self.drop(&upload.id);
            return;
        }
        let mut kept = self.lock();
        if kept.by_upload.insert(upload.id.clone(), (offset, digester)).is_some() {
            return;
        }
        kept.order.push_back(upload.id.clone());
        if kept.order.len() > MAX_KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.by_upload.remove(&oldest);
        }
    }

    /// Drops the digester of an upload.
    pub(super) fn drop(&self, id: &UploadId) {
        let mut kept = self.lock();
        if kept.by_upload.remove(id).is_some() {
            kept.order.retain(|other| other != id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::{
        rules::{NewUpload, create::create},
        upload::{Limits, Phase},
    };

    fn upload(id: &str) -> Upload {
        let id = id.parse().expect("plain");
        create(NewUpload::default(), id, &Limits::default(), UNIX_EPOCH).expect("within limits")
    }

    #[test]
    fn digests_are_kept_for_one_offset_and_one_algorithm() {
        let (digests, mut upload) = (Digests::default(), upload("a"));
        let mut digester = Algorithm::Md5.digester();
        digester.update(b"abc");
        digests.keep(&upload, 3, digester.clone());
        for (offset, algorithm, is_known) in [
            (0, Algorithm::Sha1, true),
            (2, Algorithm::Md5, false),
            (3, Algorithm::Md5, true),
            (3, Algorithm::Sha1, false),
        ] {
            let known = digests.up_to(&upload, offset, algorithm);
            assert_eq!(known.is_some(), is_known, "{offset} {algorithm:?}");
        }
        let kept = digests.up_to(&upload, 3, Algorithm::Md5).expect("kept");
        assert_eq!(kept.finish(), digester.clone().finish());
        upload.phase = Phase::Complete { at: UNIX_EPOCH };
        digests.keep(&upload, 3, digester);
        assert!(digests.up_to(&upload, 3, Algorithm::Md5).is_none());
    }

    #[test]
    fn so_many_are_kept_and_the_oldest_goes_first() {
        let digests = Digests::default();
        let uploads: Vec<_> = (0..=MAX_KEPT).map(|n| upload(&n.to_string())).collect();
        for upload in &uploads {
            digests.keep(upload, 1, Algorithm::Md5.digester());
        }
        let is_kept = |upload: &Upload| digests.up_to(upload, 1, Algorithm::Md5).is_some();
        assert!(!is_kept(&uploads[0]));
        assert!(uploads[1..].iter().all(is_kept));
    }
}
