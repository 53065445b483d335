//! Pointers: symbolic links from keys to the records of their uploads. A key is locked like an
//! upload; lock order: the key before the upload.
//!
//! A new upload takes over its key with the first line of its record: the new link exists before
//! that line, as `<key>.name.tmp`, and is renamed after it. If a crash comes in between, the next
//! access to the key renames the link, or unlinks it if the record does not exist.

use std::{io, sync::Arc};

use super::{
    disk::Kind,
    dispatch::Cost,
    entry::EntryGuard,
    shared::{Shared, failed},
};
use crate::{
    store::StoreError,
    upload::{Upload, UploadId},
};

impl Shared {
    /// Waits for exclusive access to the pointer of a key, and completes an interrupted rename of
    /// it.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn lock_pointer(
        self: &Arc<Self>,
        key: &UploadId,
    ) -> Result<EntryGuard, StoreError> {
        let guard = self.cache.entry(key).lock().await;
        if self.is_clean() {
            return Ok(guard);
        }
        let Some(id) = self.pointer_target(key, Kind::NameTmp).await? else {
            return Ok(guard);
        };
        let mut upload = self.cache.entry(&id).lock().await;
        let finish = move |shared: &Arc<Self>| {
            shared.finish_pointer(&guard.entry.id, &mut upload).map(|()| guard)
        };
        self.run(Cost::Disk, finish).await
    }

    /// Returns the upload that the pointer of a key leads to.
    ///
    /// # Errors
    /// Those of [`Store::by_key`](crate::store::Store::by_key).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn by_key(
        self: &Arc<Self>,
        key: &UploadId,
    ) -> Result<Arc<Upload>, StoreError> {
        let mut absent = None;
        loop {
            let id = self.pointer_target(key, Kind::Name).await?.ok_or(StoreError::Absent)?;
            match self.find(&id).await {
                // The key may have moved to a successor before the upload was removed.
                Err(StoreError::Absent) if absent.as_ref() != Some(&id) => absent = Some(id),
                found => return found,
            }
        }
    }

    /// Returns the upload that a link of a key leads to.
    async fn pointer_target(
        self: &Arc<Self>,
        key: &UploadId,
        kind: Kind,
    ) -> Result<Option<UploadId>, StoreError> {
        let own = key.clone();
        let read = move |shared: &Arc<Self>| shared.disk.pointer_target(&own, kind);
        self.run(Cost::Memory, read).await.map_err(failed("reading the pointer of", key))
    }

    /// Renames the link of an interrupted creation, or unlinks it if there is no record.
    fn finish_pointer(
        self: &Arc<Self>,
        key: &UploadId,
        upload: &mut EntryGuard,
    ) -> Result<(), StoreError> {
        let finished = match self.load(upload) {
            Ok(_) | Err(StoreError::Damaged(_)) => self.disk.rename(key, Kind::NameTmp, Kind::Name),
            Err(StoreError::Absent) => self.disk.unlink(key, Kind::NameTmp).map(drop),
            Err(e) => return Err(e),
        };
        finished.map_err(failed("completing the pointer of", key))
    }

    /// Creates the link that becomes the pointer of a key. It takes effect with the record of the
    /// upload; the caller syncs its name before that.
    pub(super) fn prepare_pointer(&self, key: &UploadId, id: &UploadId) -> io::Result<()> {
        if self.disk.exists(key, Kind::Name)? {
            // The rename of the current pointer must be durable before its temporary name is
            // reused.
            self.disk.sync_names()?;
        }
        self.disk.link_to_record(key, id)
    }

    /// Renames the link to its final name. The last step of a creation, so it is never undone.
    pub(super) fn set_pointer(&self, key: &UploadId, upload: &Upload) -> io::Result<()> {
        self.disk.rename(key, Kind::NameTmp, Kind::Name).inspect_err(|_| {
            if upload.is_published() {
                self.unpublish(&upload.id);
            }
        })
    }

    /// Unlinks the pointer of a key if it leads to `id`, whose removal is durable.
    pub(super) fn unlink_pointer(&self, key: &UploadId, id: &UploadId) -> io::Result<()> {
        if self.disk.pointer_target(key, Kind::Name)?.as_ref() == Some(id) {
            self.disk.unlink(key, Kind::Name)?;
        }
        Ok(())
    }

    /// Completes or unlinks the pointer of a key after a crash.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn recover_pointer(
        self: &Arc<Self>,
        key: &UploadId,
    ) -> Result<(), StoreError> {
        let guard = self.lock_pointer(key).await?;
        let clean = move |shared: &Arc<Self>| {
            let (key, disk) = (&guard.entry.id, &shared.disk);
            let dangling = match disk.pointer_target(key, Kind::Name)? {
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
