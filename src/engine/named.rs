//! Uploads that clients find by a name of theirs: found or made, reopened, and their chunks.

use std::sync::Arc;

use http::Extensions;
use tokio::time::{Instant, sleep_until};

use super::{Action, Engine, refusal_of};
use crate::{
    content::Content,
    rules::{At, Finished, NewUpload, Outcome, Refusal, Refused, Write, create, lifecycle, write},
    store::StoreError,
    upload::{Key, Phase, Upload, UploadId},
};

/// More uploads of one name than this are refused: looking for the last one takes longer each time.
const MAX_GENERATIONS: u64 = 1_000;

/// How a name stands.
enum Standing {
    /// Its upload is expired, removed, or complete for a while; a client that begins anew gets
    /// another one, a chunk from the middle does not.
    Closed(Arc<Upload>),
    /// This is its upload.
    Current(Arc<Upload>),
    /// Nothing has this name; an upload that gets it gets this id.
    Free(UploadId),
}

/// The upload of a write by name.
struct Found {
    /// What the application adds to the answer, if the creation has completed the upload.
    finished: Finished,
    /// Whether the write has made it.
    is_new: bool,
    upload: Arc<Upload>,
}

impl Engine {
    /// Writes to the current upload of `key`, made if there is none.
    pub(super) async fn place(
        &self,
        key: &Key,
        new: &NewUpload,
        write: &Write,
        content: &mut Content,
        extensions: &Extensions,
    ) -> Result<Outcome, Refused> {
        loop {
            let Found { mut finished, is_new, upload } =
                self.find_or_create(key, new, write, extensions).await?;
            if !is_new {
                self.admit(Action::Write(&upload), extensions).await?;
            }
            if let At::Offset(at) = write.at {
                // A creation that finds its upload made already goes on with it (J-054), from its
                // own offset or from where the upload is.
                write::plan(&upload, write, Some(at), self.limits(), self.now())?;
                self.0.jumps.tell(&upload, at);
                if content.is_end() {
                    let upload = self.told(upload, false).await?;
                    let offset = upload.offset();
                    return Ok(Outcome::Stored { finished, offset, upload });
                }
            }
            let claim = content.while_present(self.claim(&upload.id, write)).await?;
            let mut upload = match self.load(&upload.id).await {
                Ok(upload) => upload,
                // Whoever made it was refused and took it away again: make it anew.
                Err(Refusal::Unknown) => continue,
                Err(refusal) => return Err(refusal.into()),
            };
            let result = self.write_claimed(&mut upload, write, content, &claim, extensions).await;
            drop(claim);
            return match result {
                Ok(mut outcome) => {
                    if let Outcome::Stored { finished: now, .. } = &mut outcome {
                        now.headers.append(&mut finished.headers);
                    }
                    Ok(self.held_back(outcome).await?)
                }
                Err(refusal) => {
                    if is_new {
                        self.remove_unused(&upload.id).await;
                    }
                    Err(Refused { expires: upload.expires, refusal })
                }
            };
        }
    }

    /// The current upload of `key`, for a client that is about to send what is missing of it: if it
    /// is gone, it begins anew (J-041).
    pub(super) async fn reopened(&self, key: &Key) -> Result<Arc<Upload>, Refusal> {
        match self.standing(key, true).await? {
            Standing::Current(upload) => Ok(upload),
            Standing::Closed(_) | Standing::Free(_) => Err(Refusal::Unknown),
        }
    }

    /// The last upload of `key`, gone or not, for a request that changes nothing about that.
    pub(super) async fn last_named(&self, key: &Key) -> Result<Arc<Upload>, Refusal> {
        match self.standing(key, false).await? {
            Standing::Current(upload) | Standing::Closed(upload) => Ok(upload),
            Standing::Free(_) => Err(Refusal::Unknown),
        }
    }

    async fn find_or_create(
        &self,
        key: &Key,
        new: &NewUpload,
        write: &Write,
        extensions: &Extensions,
    ) -> Result<Found, Refusal> {
        let found = |upload| Found { finished: Finished::default(), is_new: false, upload };
        let begins = match &write.at {
            At::Offset(at) => *at == 0,
            At::Range(range) => range.start == 0,
        };
        let deadline = Instant::now() + self.limits().reopen_wait;
        loop {
            let mut reopened = std::pin::pin!(self.0.reopened.notified());
            reopened.as_mut().enable();
            match self.standing(key, begins).await? {
                Standing::Current(upload) => return Ok(found(upload)),
                Standing::Free(id) => {
                    let created = self.create_named(id, new, write, extensions).await?;
                    // Otherwise another first chunk was quicker (J-026).
                    if let Some(created) = created {
                        return Ok(created);
                    }
                }
                Standing::Closed(last) if Instant::now() >= deadline => {
                    lifecycle::alive(&last, self.now()).map_err(|_| Refusal::Expired)?;
                    // A late copy of a chunk that is there already (S-010).
                    return Ok(found(last));
                }
                Standing::Closed(_) => tokio::select! {
                    () = reopened => {}
                    () = sleep_until(deadline) => {}
                },
            }
        }
    }

    async fn standing(&self, key: &Key, begins: bool) -> Result<Standing, Refusal> {
        let mut last = None;
        for generation in 0..MAX_GENERATIONS {
            let id = key.id(generation);
            let upload = match self.store().load(&id).await {
                Ok(upload) => upload,
                Err(StoreError::Absent) => {
                    return Ok(match last {
                        Some(last) if !begins => Standing::Closed(last),
                        Some(_) | None => {
                            self.0.reopened.notify_waiters();
                            Standing::Free(id)
                        }
                    });
                }
                Err(error) => return Err(refusal_of(&id, &error)),
            };
            if self.alive(&upload).is_err() {
                if !begins || !self.forget(&id).await? {
                    return Ok(Standing::Closed(upload));
                }
                self.0.reopened.notify_waiters();
                return Ok(Standing::Free(id));
            }
            if !lifecycle::is_past(&upload, self.limits(), self.now()) {
                return Ok(Standing::Current(upload));
            }
            last = Some(upload);
        }
        Err(Refusal::TooManyUploads { limit: MAX_GENERATIONS })
    }

    /// Makes the upload of a name, unless somebody else just has.
    async fn create_named(
        &self,
        id: UploadId,
        new: &NewUpload,
        write: &Write,
        extensions: &Extensions,
    ) -> Result<Option<Found>, Refusal> {
        let mut new = NewUpload { named: true, ..new.clone() };
        self.admit(Action::Create(&mut new), extensions).await?;
        let (limits, now) = (self.limits(), self.now());
        let upload = create::create(new, id, limits, now)?;
        // A request that cannot be done makes nothing (S-009).
        let plan = write::plan(&upload, write, None, limits, now)?;
        let (upload, finished, _claim) = if upload.is_full() {
            // An empty upload is never seen full and not complete (I-05).
            let claim = self.claim(&upload.id, write).await?;
            match self.load(&upload.id).await {
                Ok(_) => return Ok(None),
                Err(Refusal::Unknown) => {}
                Err(refusal) => return Err(refusal),
            }
            let changes = write::settle(&upload, &plan, &[], limits, now);
            let upload = upload.after(&changes).map_err(|_| Refusal::Internal)?;
            let finished = self.finish(&upload, extensions).await?;
            (upload, finished, Some(claim))
        } else {
            (upload, Finished::default(), None)
        };
        match self.store().create(&upload).await {
            Ok(()) => {
                tracing::debug!(id = %upload.id, length = upload.length, "created");
                self.tell(&upload, &upload.history());
                Ok(Some(Found { finished, is_new: true, upload: Arc::new(upload) }))
            }
            Err(StoreError::Exists) => Ok(None),
            Err(error) => Err(refusal_of(&upload.id, &error)),
        }
    }

    /// Holds the answer to a chunk back while the last other chunks are on their way, so that
    /// whichever answer is read last says complete (J-033).
    async fn held_back(&self, mut outcome: Outcome) -> Result<Outcome, Refusal> {
        let deadline = Instant::now() + self.limits().tail_hold;
        while let Outcome::Stored { upload, .. } = &mut outcome {
            let length = upload.length.unwrap_or(u64::MAX);
            let gaps = upload.received.gaps(&(0..length));
            if gaps.is_empty() {
                break;
            }
            let claims = &self.0.claims;
            let is_released = claims.one_released(&upload.id, &gaps, deadline).await;
            let current = self.load(&upload.id).await?;
            // A gap that nobody holds may have been closed since it was looked for.
            let is_news = current.received != upload.received;
            *upload = current;
            if !is_released && (!is_news || Instant::now() >= deadline) {
                break;
            }
        }
        Ok(outcome)
    }

    /// Takes away an upload whose first request was refused, if no other has joined it.
    async fn remove_unused(&self, id: &UploadId) {
        let Some(_claim) = self.0.claims.claim_idle(id) else {
            return;
        };
        let Ok(upload) = self.load(id).await else {
            return;
        };
        if upload.phase != Phase::Open || upload.received.runs() > 0 {
            return;
        }
        if let Err(refusal) = self.remove(&upload).await {
            tracing::warn!(%id, %refusal, "a refused upload was left behind");
        }
    }

    /// Forgets an upload that is gone, so that its name is free. False when somebody writes to it.
    async fn forget(&self, id: &UploadId) -> Result<bool, Refusal> {
        let Some(_claim) = self.0.claims.claim_idle(id) else {
            return Ok(false);
        };
        let upload = match self.load(id).await {
            Ok(upload) => upload,
            Err(Refusal::Unknown) => return Ok(true),
            Err(refusal) => return Err(refusal),
        };
        if lifecycle::alive(&upload, self.now()).is_ok() {
            return Ok(false);
        }
        self.remove(&upload).await.map(|()| true)
    }
}
