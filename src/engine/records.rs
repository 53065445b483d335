//! [`Records`]: how records are read, made, changed and removed. A change is decided anew on the
//! current record. The application's completion step and observer are called here and nowhere
//! else.

use std::{sync::Arc, time::Duration, time::SystemTime};

use http::Extensions;
use tokio::time::{Instant, sleep};

use super::{Clock, Finisher, Finishing, Observer, digests::Digests};
use crate::{
    rules::{Finished, Refusal, lifecycle},
    store::{Store, StoreError},
    upload::{Change, Digest, Digester, Event, Key, Limits, Upload, UploadId, VoidReason},
};

/// How long a change that meets other changes of the same record is tried again.
const COMMIT_TIME: Duration = Duration::from_secs(30);

/// So often it is tried again at once: writers of one upload meet now and then.
const IMMEDIATE_RETRIES: u32 = 4;

/// The first and the longest pause after these, each cut short at random.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(250));

/// The records of a store, and who hears of their changes.
pub(super) struct Records {
    pub(super) clock: Clock,
    pub(super) digests: Digests,
    pub(super) finisher: Arc<dyn Finisher>,
    pub(super) limits: Limits,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) store: Arc<dyn Store>,
}

/// What is known when an upload may become complete.
#[derive(Clone, Copy)]
pub(super) struct Completing<'a> {
    /// What all its bytes, which are recorded, must hash to by this request.
    pub(super) checksum: Option<&'a Digest>,
    /// The digester that has seen all its bytes, if there is one.
    pub(super) digester: Option<&'a Digester>,
    pub(super) extensions: &'a Extensions,
}

impl<'a> From<&'a Extensions> for Completing<'a> {
    fn from(extensions: &'a Extensions) -> Self {
        Self { checksum: None, digester: None, extensions }
    }
}

impl Records {
    pub(super) fn now(&self) -> SystemTime {
        (self.clock)()
    }

    pub(super) async fn load(&self, id: &UploadId) -> Result<Arc<Upload>, Refusal> {
        self.store.load(id).await.map_err(|error| refusal_of(id, &error))
    }

    /// The upload that `key` leads to; `None` when there is none.
    pub(super) async fn by_key(&self, key: &Key) -> Result<Option<Arc<Upload>>, Refusal> {
        match self.store.by_key(key).await {
            Ok(upload) => Ok(Some(upload)),
            Err(StoreError::Absent) => Ok(None),
            Err(error) => Err(refusal_of(&key.to_text(), &error)),
        }
    }

    /// Makes a record. False when its key does not lead to `predecessor` any more.
    pub(super) async fn create(
        &self,
        upload: &Upload,
        predecessor: Option<&UploadId>,
    ) -> Result<bool, Refusal> {
        match self.store.create(upload, predecessor).await {
            Ok(()) => {
                tracing::debug!(id = %upload.id, length = upload.length, "created");
                self.notify(upload, &upload.history());
                Ok(true)
            }
            Err(StoreError::Stale) => Ok(false),
            Err(error) => Err(refusal_of(&upload.id, &error)),
        }
    }

    /// Makes the changes that are due on the record as it is by then; `upload` is what the caller
    /// knows of it. When they complete the upload, the application's completion step runs before
    /// them, once. When that refuses finally, the upload is removed at the revision that was judged
    /// (D-49).
    ///
    /// # Errors
    /// What `due`, the store or the completion step says; then nothing is changed.
    /// [`Refusal::StoreTrouble`] when the record keeps changing under it.
    pub(super) async fn commit(
        &self,
        mut upload: Arc<Upload>,
        completing: impl Into<Completing<'_>>,
        due: impl Fn(&Upload) -> Result<Vec<Change>, Refusal>,
    ) -> Result<(Arc<Upload>, Finished), Refusal> {
        let completing = completing.into();
        let mut finished = None;
        let mut retries = Retries::new();
        loop {
            let changes = due(&upload)?;
            if changes.is_empty() {
                return Ok((upload, finished.unwrap_or_default()));
            }
            if finished.is_none() && changes.iter().any(Change::completes) {
                let done = upload.after(&changes).map_err(|_| Refusal::Internal)?;
                match self.finish(&done, completing).await {
                    Ok(headers) => finished = Some(headers),
                    Err(refusal) => {
                        if matches!(&refusal, Refusal::Denied(denial) if denial.is_final()) {
                            let is_same = |now: &Upload| Ok(now.revision == upload.revision);
                            self.end_while(Arc::clone(&upload), Leaves::Tombstone, is_same).await?;
                        }
                        return Err(refusal);
                    }
                }
            }
            match self.store.commit(&upload, &changes).await {
                Ok(upload) => {
                    self.notify(&upload, &changes);
                    if upload.is_complete() {
                        self.digests.drop(&upload.id);
                    }
                    return Ok((upload, finished.unwrap_or_default()));
                }
                Err(StoreError::Stale) => {
                    retries.pause(&upload.id).await?;
                    upload = self.load(&upload.id).await?;
                }
                Err(error) => return Err(refusal_of(&upload.id, &error)),
            }
        }
    }

    /// Verifies the bytes of `upload`, complete from the next change on, and runs the completion
    /// step. Partial uploads have none.
    pub(super) async fn finish(
        &self,
        upload: &Upload,
        completing: impl Into<Completing<'_>>,
    ) -> Result<Finished, Refusal> {
        let Completing { checksum, digester, extensions } = completing.into();
        let of_upload = upload.metadata.checksum().and_then(Result::ok);
        for due in checksum.into_iter().chain(&of_upload) {
            self.verify(upload, due, digester, checksum.is_some()).await?;
        }
        if upload.is_partial() {
            return Ok(Finished::default());
        }
        let finishing = Finishing { extensions, upload, store: &*self.store };
        self.finisher.finish(finishing).await.map_err(|denial| {
            tracing::warn!(id = %upload.id, reason = %denial, "completion step failed");
            Refusal::Denied(denial)
        })
    }

    /// Ends the life of an upload as long as `still` holds of it. Returns whether it did.
    ///
    /// # Errors
    /// Those of `still` and of the store.
    pub(super) async fn end_while(
        &self,
        mut upload: Arc<Upload>,
        leaves: Leaves,
        still: impl Fn(&Upload) -> Result<bool, Refusal>,
    ) -> Result<bool, Refusal> {
        let mut retries = Retries::new();
        while still(&upload)? {
            match self.end(&upload, leaves).await {
                Ok(()) => return Ok(true),
                Err(StoreError::Stale) => {
                    retries.pause(&upload.id).await?;
                    upload = match self.load(&upload.id).await {
                        Err(Refusal::Unknown) => return Ok(true),
                        loaded => loaded?,
                    };
                }
                Err(error) => return Err(refusal_of(&upload.id, &error)),
            }
        }
        Ok(false)
    }

    /// Ends the life of an upload that still is `judged`.
    async fn end(&self, judged: &Upload, leaves: Leaves) -> Result<(), StoreError> {
        if leaves == Leaves::Tombstone && judged.key.is_some() {
            let changes = [lifecycle::voided(VoidReason::Removed, &self.limits, self.now())];
            let upload = self.store.commit(judged, &changes).await?;
            self.notify(&upload, &changes);
            return Ok(());
        }
        self.store.remove(judged).await?;
        if !judged.is_void() {
            self.observer.event(judged, Event::Removed);
        }
        Ok(())
    }

    fn notify(&self, upload: &Upload, changes: &[Change]) {
        for event in Event::of(upload, changes) {
            self.observer.event(upload, event);
        }
        if changes.iter().any(Change::completes) {
            tracing::info!(id = %upload.id, bytes = upload.offset(), "complete");
        }
    }
}

/// What an upload leaves behind when its life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    /// Nothing.
    Nothing,
    /// Its record for a while, if it is keyed: late chunks are answered that it is gone (J-041).
    Tombstone,
}

/// The retries of a commit that met other commits of the same record. Each of those succeeded, so
/// all of them together make progress; random pauses give each a turn.
struct Retries {
    deadline: Instant,
    made: u32,
    pause: Duration,
}

impl Retries {
    fn new() -> Self {
        Self { deadline: Instant::now() + COMMIT_TIME, made: 0, pause: PAUSE.0 }
    }

    /// Waits until it is time for the next try.
    ///
    /// # Errors
    /// [`Refusal::StoreTrouble`] when there have been enough.
    async fn pause(&mut self, id: &UploadId) -> Result<(), Refusal> {
        self.made += 1;
        if self.made <= IMMEDIATE_RETRIES {
            return Ok(());
        }
        if Instant::now() >= self.deadline {
            tracing::error!(%id, "the record keeps changing under a commit");
            return Err(Refusal::StoreTrouble);
        }
        let random = getrandom::u32().unwrap_or(u32::MAX);
        sleep(self.pause.mul_f64(f64::from(random) / f64::from(u32::MAX))).await;
        self.pause = (self.pause * 2).min(PAUSE.1);
        Ok(())
    }
}

/// The refusal that a client gets for `error`; the log has the details.
pub(super) fn refusal_of(id: &dyn std::fmt::Display, error: &StoreError) -> Refusal {
    match error {
        StoreError::Absent => Refusal::Unknown,
        // Another request has ended the upload since it was loaded.
        StoreError::Stale => Refusal::Displaced,
        StoreError::Full => {
            tracing::error!(%id, "the store has no space left");
            Refusal::StoreFull
        }
        StoreError::Unsupported => Refusal::Unsupported { what: "this kind of upload" },
        StoreError::Damaged(_) | StoreError::Exists | StoreError::Io { .. } => {
            tracing::error!(%id, %error, "store trouble");
            Refusal::StoreTrouble
        }
    }
}
