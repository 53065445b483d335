//! Removes expired uploads, and later their tombstones; completes final uploads that no client asks
//! for.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::Extensions;

use super::{Engine, records::Leaves};
use crate::{
    rules::{
        Refusal,
        lifecycle::{self, ExpiryAction},
    },
    upload::Upload,
};

/// The interval of sweeps when uploads do not expire: tombstones of removed ones still do.
const RARE: Duration = Duration::from_secs(60 * 60);

/// The shortest and the longest interval when uploads expire or finals wait for their parts.
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
    /// Safe: the next sweep does what this one left.
    pub async fn sweep(&self) -> Swept {
        let mut swept = Swept::default();
        let mut uploads = self.store().list();
        while let Some(upload) = uploads.next().await {
            let result = match upload {
                Ok(upload) => self.sweep_one(upload, &mut swept).await,
                Err(error) => {
                    tracing::warn!(%error, "a sweep could not read a record");
                    Ok(())
                }
            };
            if let Err(refusal) = result {
                tracing::warn!(%refusal, "an upload was not swept");
            }
        }
        swept
    }

    /// Begins what an engine does by itself, beside serving: cleaning up after a crash, then
    /// sweeping as often as the configured life time calls for. It ends with the last handle of the
    /// engine; a second call does nothing. An engine that is only used for a moment, as in a test,
    /// need not start.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(&self) {
        if self.0.is_started.swap(true, Ordering::Relaxed) {
            return;
        }
        let interval = match self.limits().expire_after {
            Some(expire_after) => (expire_after / 4).clamp(INTERVAL.0, INTERVAL.1),
            None if self.limits().join_unfinished => INTERVAL.1,
            None => RARE,
        };
        let (inner, store) = (Arc::downgrade(&self.0), Arc::clone(self.store()));
        tokio::spawn(async move {
            if let Err(error) = store.recover().await {
                tracing::error!(%error, "cannot clean up after a crash");
            }
            drop(store);
            while let Some(inner) = inner.upgrade() {
                let swept = Self(inner).sweep().await;
                if swept != Swept::default() {
                    tracing::info!(voided = swept.voided, forgotten = swept.forgotten, "swept");
                }
                tokio::time::sleep(interval).await;
            }
        });
    }

    async fn sweep_one(&self, upload: Arc<Upload>, swept: &mut Swept) -> Result<(), Refusal> {
        let expiry_action = |now: &Upload| lifecycle::expiry_action(now, self.limits(), self.now());
        if expiry_action(&upload) == ExpiryAction::Stay {
            return match upload.is_pending_final() {
                true => self.sweep_final(upload).await,
                false => Ok(()),
            };
        }
        // An upload that is being written does not expire (T-073).
        let reservation = self.0.writers.reserve_idle(&upload.id);
        let Some(_reservation) = reservation.filter(|_| !self.is_closed()) else {
            return Ok(());
        };
        let id = upload.id.clone();
        let due = |now: &Upload| match expiry_action(now) {
            ExpiryAction::Void(change) => Ok(vec![change]),
            ExpiryAction::Forget | ExpiryAction::Stay => Ok(vec![]),
        };
        let was_void = upload.is_void();
        let (upload, _) = self.0.records.commit(upload, &Extensions::new(), due).await?;
        if upload.is_void() && !was_void {
            swept.voided += 1;
            tracing::info!(%id, "expired");
        }
        let is_over = |now: &Upload| Ok(expiry_action(now) == ExpiryAction::Forget);
        if self.0.records.end_while(upload, Leaves::Nothing, is_over).await? {
            swept.forgotten += 1;
        }
        Ok(())
    }

    /// Completes a final upload whose parts are complete by now.
    async fn sweep_final(&self, upload: Arc<Upload>) -> Result<(), Refusal> {
        match self.resolve(upload, &Extensions::new()).await {
            // A part is gone; the final goes when its own time has come.
            Ok(_) | Err(Refusal::Expired | Refusal::Unknown) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }
}
