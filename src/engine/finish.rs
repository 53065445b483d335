//! Uploads that are complete on request, and the list of one owner's.

use std::sync::Arc;

use http::Extensions;

use super::{Action, Engine, refusal_of, writers::Kind};
use crate::{
    rules::{Finish, MAX_LISTED, Outcome, Refusal, finish, write},
    upload::{Algorithm, Completion, Digest, Upload, UploadId},
};

/// Bytes that are hashed on a thread of the blocking pool at once.
const HASHED_BYTES: usize = 1 << 20;

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
        if let Some(given) = &request.checksum {
            let computed = self.digest(&upload, given.algorithm).await?;
            write::verify(given, &computed)?;
        }
        let due = |now: &Upload| finish::changes(now, self.now());
        let (upload, finished) = self.0.records.commit(upload, extensions, due).await?;
        self.0.digests.drop(&upload.id);
        Ok(Outcome::Written { finished, changed: true, offset: upload.offset(), upload })
    }

    /// Returns the digest over all bytes of `upload`, which is full.
    async fn digest(&self, upload: &Upload, algorithm: Algorithm) -> Result<Digest, Refusal> {
        let end = upload.offset();
        if let Some(digester) = self.0.digests.up_to(upload, end, algorithm) {
            return Ok(digester.finish());
        }
        let failed = |error| refusal_of(&upload.id, &error);
        let mut stream = self.store().read(upload, 0..end).await.map_err(failed)?;
        let mut digester = algorithm.digester();
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
        let digest = digester.clone().finish();
        // Asked again, as after a wrong checksum, it is known.
        self.0.digests.keep(upload, end, digester);
        Ok(digest)
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
