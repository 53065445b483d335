//! Final uploads: joined at once, or pending until their last part is complete. A pending one is
//! completed by the next request for it, or by the sweep.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use http::Extensions;

use super::{Action, Engine, append::fresh_id, refusal_of};
use crate::{
    content::{Content, Step},
    rules::{Finished, Join, Outcome, Refusal, Refused, join},
    upload::{IdForm, Role, Upload, UploadId},
};

impl Engine {
    pub(super) async fn join(
        &self,
        mut join: Join,
        content: &mut Content,
        extensions: &Extensions,
    ) -> Result<Outcome, Refused> {
        if !self.store().capabilities().join {
            return Err(Refusal::Unsupported { what: "concatenation" }.into());
        }
        join::admit(&join, self.limits())?;
        self.admit(Action::Join(&mut join), extensions).await?;
        let parts = self.parts(&join.partials).await?;
        let mut seen = HashSet::new();
        for part in &parts {
            if seen.insert(&part.id) {
                join::check_partial(part, self.limits(), self.now())?;
                self.admit(Action::Include(part), extensions).await?;
            }
        }
        let idle_timeout = self.limits().idle_timeout;
        let no_bytes = tokio::time::timeout(idle_timeout, has_no_bytes(content));
        no_bytes.await.unwrap_or(Err(Refusal::Abandoned))?;
        let id = fresh_id(IdForm::Short)?;
        let upload = join::plan(join, id, &parts, self.limits(), self.now())?;
        if !parts.iter().all(|part| part.is_complete()) {
            self.0.records.create(&upload, None).await?;
            let (finished, upload) = (Finished::default(), Arc::new(upload));
            return Ok(Outcome::Written { finished, changed: true, offset: 0, upload });
        }
        Ok(self.create_joined(upload, &parts, extensions).await?)
    }

    async fn create_joined(
        &self,
        upload: Upload,
        parts: &[Arc<Upload>],
        extensions: &Extensions,
    ) -> Result<Outcome, Refusal> {
        let length = upload.length.ok_or(Refusal::Internal)?;
        let changes = join::changes(&upload, length, self.now())?;
        let upload = upload.after(&changes).map_err(|_| Refusal::Internal)?;
        let made = async {
            self.join_bytes(&upload, parts).await?;
            let finished = self.0.records.finish(&upload, extensions).await?;
            self.0.records.create(&upload, None).await?;
            Ok(finished)
        };
        match made.await {
            Ok(finished) => {
                let upload = Arc::new(upload);
                Ok(Outcome::Written { finished, changed: true, offset: length, upload })
            }
            Err(refusal) => {
                if let Err(error) = self.store().remove(&upload).await {
                    tracing::warn!(id = %upload.id, %error, "a refused upload was left behind");
                }
                Err(refusal)
            }
        }
    }

    /// Returns the pending final `upload` as far as its partials are by now: complete, or with the
    /// length that they add up to.
    ///
    /// # Errors
    /// [`Refusal::Expired`] when a partial is gone (D-33).
    ///
    /// # Cancel safety
    /// Safe: the completion step and the commit that follows it run in a task of their own.
    pub(super) async fn resolve(
        &self,
        upload: Arc<Upload>,
        extensions: &Extensions,
    ) -> Result<Arc<Upload>, Refusal> {
        let (engine, extensions) = (self.clone(), extensions.clone());
        let resolved = tokio::spawn(async move { engine.try_finish(upload, &extensions).await });
        resolved.await.unwrap_or(Err(Refusal::Internal))
    }

    async fn try_finish(
        &self,
        upload: Arc<Upload>,
        extensions: &Extensions,
    ) -> Result<Arc<Upload>, Refusal> {
        let Role::Final { partials, .. } = &upload.role else {
            return Ok(upload);
        };
        let parts = self.parts(partials).await.map_err(expired_if_gone)?;
        if parts.iter().any(|part| part.is_void()) {
            return Err(Refusal::Expired);
        }
        // Partials that outgrew the limit since the final was created can never be joined.
        let length = join::length(&parts, self.limits()).map_err(|_| Refusal::Expired)?;
        if !parts.iter().all(|part| part.is_complete()) {
            return Ok(Arc::new(Upload { length, ..Upload::clone(&upload) }));
        }
        let length = length.ok_or(Refusal::Internal)?;
        let reserved = self.reserve_all(&upload.id);
        let _reservation = reserved.await?;
        let current = self.load(&upload.id).await?;
        if current.is_complete() {
            return Ok(current);
        }
        self.join_bytes(&current, &parts).await.map_err(expired_if_gone)?;
        let due = |now: &Upload| join::changes(now, length, self.now());
        match self.0.records.commit(current, extensions, due).await {
            Ok((upload, _)) => Ok(upload),
            // A completion step that refuses finally leaves nothing (D-49).
            Err(Refusal::Denied(denial)) if denial.is_final() => Err(Refusal::Unknown),
            Err(refusal) => Err(refusal),
        }
    }

    async fn join_bytes(&self, upload: &Upload, parts: &[Arc<Upload>]) -> Result<(), Refusal> {
        // A part that was removed after it was looked up is unknown, like any other.
        self.store().join(upload, parts).await.map_err(|error| refusal_of(&upload.id, &error))
    }

    /// The uploads of these ids, each loaded once.
    async fn parts(&self, ids: &[UploadId]) -> Result<Vec<Arc<Upload>>, Refusal> {
        let mut loaded: HashMap<&UploadId, Arc<Upload>> = HashMap::new();
        let mut parts = Vec::with_capacity(ids.len());
        for id in ids {
            let part = match loaded.get(id) {
                Some(part) => Arc::clone(part),
                None => self.load(id).await?,
            };
            loaded.insert(id, Arc::clone(&part));
            parts.push(part);
        }
        Ok(parts)
    }
}

/// A final whose parts are gone can never be complete: it is known, and gone (D-33).
fn expired_if_gone(refusal: Refusal) -> Refusal {
    if refusal == Refusal::Unknown { Refusal::Expired } else { refusal }
}

/// A body whose length was not announced may still turn out empty (D-37).
async fn has_no_bytes(content: &mut Content) -> Result<(), Refusal> {
    loop {
        match content.next().await {
            None => return Ok(()),
            Some(Ok(Step::Data(bytes))) if !bytes.is_empty() => return Err(Refusal::FinalUpload),
            Some(Ok(Step::Data(_) | Step::Trailer(_))) => {}
            Some(Ok(Step::Refused(refusal))) => return Err(refusal),
            Some(Err(_)) => return Err(Refusal::Abandoned),
        }
    }
}
