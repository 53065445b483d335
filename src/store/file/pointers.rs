//! Pointers: symbolic links that say which upload a key leads to. A key is held like an upload, and
//! always before one.
//!
//! A new upload takes its key over with the first line of its record: the link that is to be the pointer
//! is there before that line, as `<key>.name.tmp`, and gets its place after it. If a crash comes in
//! between, the next who asks for the key puts it there, or unlinks it if there is no such record.

use std::{io, sync::Arc};

use super::{
    disk::Kind,
    entry::Held,
    pace::Cost,
    shared::{Shared, failed},
};
use crate::{
    store::StoreError,
    upload::{Upload, UploadId},
};

impl Shared {
    /// Waits to be alone with the pointer of a key, which is where it belongs on return.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(super) async fn hold_pointer(self: &Arc<Self>, key: &UploadId) -> Result<Held, StoreError> {
        let held = self.cache.entry(key).hold().await;
        if self.is_tidy() {
            return Ok(held);
        }
        let Some(id) = self.pointed(key, Kind::NameTmp).await? else {
            return Ok(held);
        };
        let mut upload = self.cache.entry(&id).hold().await;
        let finish = move |shared: &Arc<Self>| {
            shared.finish_swing(&held.entry.id, &mut upload).map(|()| held)
        };
        self.run(Cost::Disk, finish).await
    }

    /// The upload that the pointer of a key leads to.
    ///
    /// # Errors
    /// Those of [`Store::by_key`](crate::store::Store::by_key).
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(super) async fn by_key(
        self: &Arc<Self>,
        key: &UploadId,
    ) -> Result<Arc<Upload>, StoreError> {
        let mut absent = None;
        loop {
            let id = self.pointed(key, Kind::Name).await?.ok_or(StoreError::Absent)?;
            match self.find(&id).await {
                // It may have had a successor before it was removed.
                Err(StoreError::Absent) if absent.as_ref() != Some(&id) => absent = Some(id),
                found => return found,
            }
        }
    }

    async fn pointed(
        self: &Arc<Self>,
        key: &UploadId,
        kind: Kind,
    ) -> Result<Option<UploadId>, StoreError> {
        let own = key.clone();
        let read = move |shared: &Arc<Self>| shared.disk.pointed(&own, kind);
        self.run(Cost::Memory, read).await.map_err(failed("reading the pointer of", key))
    }

    /// Puts a link in its place, or unlinks it, after a crash or a creation that failed.
    fn finish_swing(self: &Arc<Self>, key: &UploadId, upload: &mut Held) -> Result<(), StoreError> {
        let finished = match self.load(upload) {
            Ok(_) | Err(StoreError::Damaged(_)) => self.disk.rename(key, Kind::NameTmp, Kind::Name),
            Err(StoreError::Absent) => self.disk.unlink(key, Kind::NameTmp).map(drop),
            Err(e) => return Err(e),
        };
        finished.map_err(failed("finishing the pointer of", key))
    }

    /// Makes the link that is to be the pointer of a key. It counts as soon as the upload has a record;
    /// its name must last before that.
    pub(super) fn prepare_swing(&self, key: &UploadId, id: &UploadId) -> io::Result<()> {
        if self.disk.exists(key, Kind::Name)? {
            // The pointer may still be lost to the name that is now used again.
            self.disk.sync_names()?;
        }
        self.disk.link_to_record(key, id)
    }

    /// Puts the link in its place: the last step of a creation, so that it is never taken back.
    pub(super) fn swing(&self, key: &UploadId, upload: &Upload) -> io::Result<()> {
        self.disk.rename(key, Kind::NameTmp, Kind::Name).inspect_err(|_| {
            if upload.is_published() {
                self.unpublish(&upload.id);
            }
        })
    }

    /// Unlinks the pointer of a key if it leads to `id`, whose record is gone, and will not come back.
    pub(super) fn unpoint(&self, key: &UploadId, id: &UploadId) -> io::Result<()> {
        if self.disk.pointed(key, Kind::Name)?.as_ref() == Some(id) {
            self.disk.unlink(key, Kind::Name)?;
        }
        Ok(())
    }

    /// Brings the pointer of a key in order after a crash.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(super) async fn recover_pointer(
        self: &Arc<Self>,
        key: &UploadId,
    ) -> Result<(), StoreError> {
        let held = self.hold_pointer(key).await?;
        let clean = move |shared: &Arc<Self>| {
            let (key, disk) = (&held.entry.id, &shared.disk);
            let dangling = match disk.pointed(key, Kind::Name)? {
                Some(id) => !disk.exists(&id, Kind::Record)?,
                None => false,
            };
            if dangling {
                disk.unlink(key, Kind::Name)?;
            }
            Ok(())
        };
        self.run(Cost::Disk, clean).await.map_err(failed("cleaning up the pointer of", key))
    }
}
