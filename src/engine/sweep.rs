//! Removes expired uploads, and later their tombstones.

use std::time::Duration;

use super::{Engine, refusal_of};
use crate::{
    rules::{
        Refusal,
        lifecycle::{self, Fate},
    },
    store::StoreError,
    upload::{Upload, UploadId},
};

/// Between two sweeps when uploads do not expire: what is left of removed ones does.
const RARE: Duration = Duration::from_secs(60 * 60);

/// Between two sweeps at least, and at most, when uploads expire.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// What one sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Tombstones forgotten.
    pub forgotten: u64,
    /// Uploads expired.
    pub voided: u64,
}

impl Engine {
    /// Looks at every upload once and gives up those whose deadline has passed. An upload that is
    /// being written is left alone.
    ///
    /// # Cancel safety
    /// Safe: the next sweep goes on.
    pub async fn sweep(&self) -> Swept {
        let mut swept = Swept::default();
        let mut uploads = self.store().list();
        while let Some(upload) = std::future::poll_fn(|cx| uploads.as_mut().poll_next(cx)).await {
            let result = match upload {
                Ok(upload) if self.is_due(&upload) => self.expire(&upload.id, &mut swept).await,
                Ok(_) => Ok(()),
                Err(error) => {
                    tracing::warn!(%error, "a sweep could not read a record");
                    Ok(())
                }
            };
            if let Err(refusal) = result {
                tracing::warn!(%refusal, "an expired upload was not removed");
            }
        }
        swept
    }

    /// Sweeps again and again, as often as the configured life time calls for.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn keep_swept(&self) {
        let interval = match self.limits().expire_after {
            Some(expire_after) => (expire_after / 4).clamp(INTERVAL.0, INTERVAL.1),
            None => RARE,
        };
        loop {
            let swept = self.sweep().await;
            if swept != Swept::default() {
                tracing::info!(voided = swept.voided, forgotten = swept.forgotten, "swept");
            }
            tokio::time::sleep(interval).await;
        }
    }

    fn is_due(&self, upload: &Upload) -> bool {
        lifecycle::fate(upload, self.limits(), self.now()) != Fate::Stay
    }

    async fn expire(&self, id: &UploadId, swept: &mut Swept) -> Result<(), Refusal> {
        let claim = self.0.claims.claim_idle(id);
        let Some(_claim) = claim.filter(|_| !self.is_closed()) else {
            return Ok(());
        };
        // The listed record may be old; under the claim it stays as it is.
        let upload = self.load(id).await?;
        match lifecycle::fate(&upload, self.limits(), self.now()) {
            Fate::Stay => Ok(()),
            Fate::Forget => {
                swept.forgotten += 1;
                self.remove(&upload).await
            }
            Fate::Void(changes) => match self.store().commit(&upload, &changes).await {
                Ok(upload) => {
                    swept.voided += 1;
                    tracing::info!(%id, "expired");
                    self.tell(&upload, &changes);
                    Ok(())
                }
                Err(StoreError::Stale) => Ok(()),
                Err(error) => Err(refusal_of(id, &error)),
            },
        }
    }
}
