//! [`Digests`]: digests over the bytes of open uploads as far as they have come, so that the
//! checksum of a whole upload is known when its last byte is.
//!
//! A hint, like all that a process remembers: without it the bytes are read once more.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Records, refusal_of};
use crate::{
    rules::{Refusal, write},
    upload::{Algorithm, Digest, Digester, Upload, UploadId},
};

/// Bytes that are hashed on a thread of the blocking pool at once.
const HASHED_BYTES: usize = 1 << 20;

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

    /// Keeps the digester of all bytes of `id` before `offset`, which are recorded.
    pub(super) fn keep(&self, id: &UploadId, offset: u64, digester: Digester) {
        let mut kept = self.lock();
        if kept.by_upload.insert(id.clone(), (offset, digester)).is_some() {
            return;
        }
        kept.order.push_back(id.clone());
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

impl Records {
    /// Checks all bytes of `upload`, which is full, against `due`. They are read if no digester has
    /// seen them.
    pub(super) async fn verify(
        &self,
        upload: &Upload,
        due: &Digest,
        digester: Option<&Digester>,
        are_recorded: bool,
    ) -> Result<(), Refusal> {
        let end = upload.offset();
        let algorithm = due.algorithm;
        let known = digester.filter(|digester| digester.algorithm() == algorithm).cloned();
        let known = known.or_else(|| self.digests.up_to(upload, end, algorithm));
        let digester = match known {
            Some(digester) => digester,
            None => {
                let read = self.digest_stored(upload, 0..end, algorithm.digester()).await?;
                if are_recorded {
                    // Asked again, as after a wrong checksum, it is known.
                    self.digests.keep(&upload.id, end, read.clone());
                }
                read
            }
        };
        write::verify(due, &digester.finish())
    }

    /// Returns `digester` after the bytes of `range` of `upload`.
    pub(super) async fn digest_stored(
        &self,
        upload: &Upload,
        range: Range<u64>,
        mut digester: Digester,
    ) -> Result<Digester, Refusal> {
        let failed = |error| refusal_of(&upload.id, &error);
        let mut stream = self.store.read(upload, range).await.map_err(failed)?;
        let mut blocks = Vec::new();
        let mut bytes = 0;
        loop {
            let next = stream.next().await.transpose().map_err(|error| {
                tracing::error!(id = %upload.id, %error, "bytes to be verified cannot be read");
                Refusal::StoreTrouble
            })?;
            let is_end = next.is_none();
            if let Some(block) = next {
                bytes += block.len();
                blocks.push(block);
            }
            if is_end || bytes >= HASHED_BYTES {
                let blocks = std::mem::take(&mut blocks);
                bytes = 0;
                let hashed = tokio::task::spawn_blocking(move || {
                    blocks.iter().for_each(|block| digester.update(block));
                    digester
                });
                digester = hashed.await.map_err(|_| Refusal::Internal)?;
            }
            if is_end {
                break;
            }
        }
        Ok(digester)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::{
        rules::{NewUpload, create::create},
        upload::Limits,
    };

    fn upload(id: &str) -> Upload {
        let id = id.parse().expect("plain");
        create(NewUpload::default(), id, &Limits::default(), UNIX_EPOCH).expect("within limits")
    }

    #[test]
    fn digests_are_kept_for_one_offset_and_one_algorithm() {
        let (digests, upload) = (Digests::default(), upload("a"));
        let mut digester = Algorithm::Md5.digester();
        digester.update(b"abc");
        digests.keep(&upload.id, 3, digester.clone());
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
        digests.drop(&upload.id);
        assert!(digests.up_to(&upload, 3, Algorithm::Md5).is_none());
    }

    #[test]
    fn so_many_are_kept_and_the_oldest_goes_first() {
        let digests = Digests::default();
        let uploads: Vec<_> = (0..=MAX_KEPT).map(|n| upload(&n.to_string())).collect();
        for upload in &uploads {
            digests.keep(&upload.id, 1, Algorithm::Md5.digester());
        }
        let is_kept = |upload: &Upload| digests.up_to(upload, 1, Algorithm::Md5).is_some();
        assert!(!is_kept(&uploads[0]));
        assert!(uploads[1..].iter().all(is_kept));
    }
}
