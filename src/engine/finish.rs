//! Uploads that are complete on request, and the list of one owner's.

use std::sync::Arc;

use http::Extensions;

use super::{Action, Engine, records::Completing, writers::Kind};
use crate::{
    rules::{Finish, MAX_LISTED, Outcome, Refusal, finish},
    upload::{Completion, Upload, UploadId},
};

impl Engine {
    /// Completes an upload, if all its bytes are there and have the checksum given.
    pub(super) async fn finish(
        &self,
        request: &Finish,
        extensions: &Extensions,
    ) -> Result<Outcome, Refusal> {
        let upload = self.find(&request.of).await?;
        finish::check(&upload, self.now())?;
        self.admit(Action::Write(&upload), extensions).await?;
        let id = &upload.id;
        let reserved = self.0.writers.reserve(id, 0..u64::MAX, Kind::Guard, request.wait);
        let _reservation = reserved.await?;
        let upload = self.load(id).await?;
        finish::check(&upload, self.now())?;
        let checksum = request.checksum.as_ref();
        let completing = Completing { checksum, digester: None, extensions };
        let due = |now: &Upload| finish::changes(now, self.now());
        let (upload, finished) = self.0.records.commit(upload, completing, due).await?;
        Ok(Outcome::Written { finished, changed: true, offset: upload.offset(), upload })
    }

    /// Lists the uploads of `owner` that are complete on request, in no particular order.
    pub(super) async fn list(
        &self,
        owner: Option<&str>,
        extensions: &Extensions,
    ) -> Result<Outcome, Refusal> {
        let mut listed = Vec::new();
        let mut uploads = self.store().list();
        while let Some(upload) = uploads.next().await {
            let upload = match upload {
                Ok(upload) => upload,
                Err(error) => {
                    tracing::warn!(%error, "a record is missing in a list");
                    continue;
                }
            };
            let is_listed = upload.completion == Completion::OnRequest
                && upload.owner.as_deref() == owner
                && !upload.is_void();
            if is_listed && self.admit(Action::Status(&upload), extensions).await.is_ok() {
                listed.push(upload);
                if listed.len() == MAX_LISTED {
                    break;
                }
            }
        }
        Ok(Outcome::Listed(listed))
    }

    /// Loads an upload that must belong to `owner`; that of another is not known.
    pub(super) async fn load_owned(
        &self,
        id: &UploadId,
        owner: Option<&str>,
    ) -> Result<Arc<Upload>, Refusal> {
        let upload = self.load(id).await?;
        if upload.owner.as_deref() == owner { Ok(upload) } else { Err(Refusal::Unknown) }
    }
}
