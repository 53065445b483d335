//! Data files and their names: private, published, joined. Blocks; callers lock the entry.

use std::{fs::File, io, sync::Arc};

use super::{
    disk::{Kind, found},
    entry::{Entry, EntryGuard, EntryRef},
    handles::Handles,
    lock,
    shared::{Shared, failed, missing_record},
    surplus::Reclaim,
};
use crate::{
    store::StoreError,
    upload::{Phase, Role, Upload, UploadId},
};

/// An I/O error with [`StoreError::Damaged`] as its source.
pub(super) fn damaged(why: String) -> io::Error {
    io::Error::other(StoreError::Damaged(why))
}

/// Checks that a data file is present and has at least `expected_bytes`.
fn check_length(
    id: &UploadId,
    kind: Kind,
    present_bytes: Option<u64>,
    expected_bytes: u64,
) -> io::Result<()> {
    let file = format_args!("{id}{}", kind.suffix());
    match present_bytes {
        Some(present_bytes) if present_bytes >= expected_bytes => Ok(()),
        Some(present_bytes) => Err(damaged(format!(
            "{file} holds {present_bytes} bytes, its record says {expected_bytes}"
        ))),
        None => Err(damaged(format!("{file} is missing, its record says {expected_bytes} bytes"))),
    }
}

impl Shared {
    /// Creates an empty data file. An older one is replaced, not reused: an earlier writer may have
    /// it open.
    pub(super) fn create_data_file(&self, entry: &Entry) -> io::Result<Arc<File>> {
        Handles::close(entry);
        let id = &entry.id;
        let made = match self.disk.create_new(id, Kind::Part) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if self.disk.length_of(id, Kind::Part)?.is_some_and(|bytes| bytes > 0) {
                    return Err(damaged(missing_record(id, Kind::Part)));
                }
                self.disk.unlink(id, Kind::Part)?;
                self.disk.create_new(id, Kind::Part)
            }
            made => made,
        };
        made.map(Arc::new)
    }

    /// Returns the data file of an open upload if it is present and has at least `end` bytes.
    pub(super) fn intact_data_file(
        &self,
        entry: &EntryRef,
        end: u64,
    ) -> io::Result<Option<Arc<File>>> {
        let Some(file) = found(self.data_file(entry))? else {
            return Ok(None);
        };
        let length = self.disk.linked_length(&file)?;
        Ok(length.is_some_and(|length| length >= end).then_some(file))
    }

    /// Returns the data file of an open upload, after it was missing or too short. An upload
    /// without bytes may have lost it in a power loss; it is then created again.
    pub(super) fn restore_data_file(
        self: &Arc<Self>,
        guard: &mut EntryGuard,
    ) -> Result<Arc<File>, StoreError> {
        self.invalidate(&guard.entry);
        let upload = self.load(guard)?;
        let id = &upload.id;
        if upload.phase != Phase::Open {
            return Err(StoreError::Stale);
        }
        let file =
            found(self.data_file(&guard.entry)).map_err(failed("opening the data file of", id))?;
        if let Some(file) = file {
            return Ok(file);
        }
        let file = self.create_data_file(&guard.entry);
        let file = file.and_then(|file| self.disk.sync_names().map(|()| file));
        file.map_err(failed("creating the data file of", id))
    }

    /// Before a completion is recorded: syncs the links, or truncates the data file to the length
    /// of the upload.
    pub(super) fn prepare_completion(&self, guard: &EntryGuard, next: &Upload) -> io::Result<()> {
        if self.is_joined(next)? {
            return self.disk.sync_names();
        }
        match self.disk.length_of(&next.id, Kind::Part)? {
            // Lost in a power loss before anything was written, or never created: a final upload
            // that turned out to be empty.
            None if next.length == Some(0) => self.create_data_file(&guard.entry).map(drop),
            present_bytes => self.trim(&guard.entry, next, present_bytes),
        }
    }

    /// Truncates bytes that dropped writers left after the end of a full upload. `present_bytes` is
    /// the length of its data file.
    fn trim(
        &self,
        entry: &EntryRef,
        upload: &Upload,
        present_bytes: Option<u64>,
    ) -> io::Result<()> {
        let length = upload.offset();
        check_length(&upload.id, Kind::Part, present_bytes, length)?;
        if present_bytes > Some(length) {
            let file = self.data_file(entry)?;
            self.disk.truncate(&file, length)?;
            self.disk.sync(&file)?;
        }
        Ok(())
    }

    /// Before bytes are recorded: checks that they are in the data file.
    pub(super) fn check_received(&self, next: &Upload) -> io::Result<()> {
        let present_bytes = self.disk.length_of(&next.id, Kind::Part)?;
        check_length(&next.id, Kind::Part, present_bytes, next.received.end())
    }

    /// Returns whether the bytes of a cached upload are still in place. Checked only for published
    /// uploads, which other programs may move away. Costs one `stat`, about a microsecond.
    pub(super) fn is_intact(&self, upload: &Upload) -> bool {
        !upload.is_published()
            || match self.disk.length_of(&upload.id, Kind::Plain) {
                Ok(Some(bytes)) => bytes >= upload.offset(),
                Ok(None) => self.is_joined(upload).unwrap_or(false),
                Err(_) => false,
            }
    }

    /// Checks that all bytes that `upload`, just read, has received are in place. Reclaims other
    /// bytes of an open upload.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]; [`StoreError::Absent`] when it is complete and its file was moved
    /// away; [`StoreError::Io`].
    pub(super) fn check_data_file(
        &self,
        entry: &EntryRef,
        upload: &Arc<Upload>,
    ) -> Result<(), StoreError> {
        let id = &upload.id;
        let inspected = || {
            if upload.is_void() || self.is_joined(upload)? {
                return Ok(());
            }
            let (mut kind, mut present_bytes) = (Kind::Plain, None);
            if upload.is_published() {
                present_bytes = self.disk.length_of(id, kind)?;
            }
            if present_bytes.is_none() {
                kind = Kind::Part;
                present_bytes = self.disk.length_of(id, kind)?;
            }
            match present_bytes {
                None if upload.is_complete() => Err(io::Error::other(StoreError::Absent)),
                None if upload.received.runs() == 0 => Ok(()),
                present_bytes => check_length(id, kind, present_bytes, upload.received.end()),
            }?;
            self.free_surplus(entry, upload, present_bytes)
        };
        inspected().map_err(failed("checking the data file of", id))
    }

    /// Reclaims bytes that a crash left in the data file of an open upload. `present_bytes` is its
    /// length.
    fn free_surplus(
        &self,
        entry: &EntryRef,
        upload: &Arc<Upload>,
        present_bytes: Option<u64>,
    ) -> io::Result<()> {
        let received = &upload.received;
        let has_surplus =
            present_bytes > Some(received.end()) || received.prefix() < received.end();
        if upload.phase == Phase::Open
            && has_surplus
            && let Some(reclaim) = Reclaim::all(entry, upload)
        {
            reclaim.run(&self.disk, &*self.data_file(entry)?);
        }
        Ok(())
    }

    /// After a completion was recorded: publishes the bytes, or queues a joined upload for
    /// materialization.
    pub(super) fn publish(self: &Arc<Self>, guard: &EntryGuard, upload: &Upload) -> io::Result<()> {
        // No more bytes are written.
        Handles::close(&guard.entry);
        if !upload.is_published() {
            return Ok(());
        }
        if self.is_joined(upload)? {
            self.materializer.add(self, &upload.id);
            return Ok(());
        }
        self.rename_to_plain(&upload.id)
    }

    /// Renames the data file to its public name. On failure it keeps the private one.
    pub(super) fn rename_to_plain(&self, id: &UploadId) -> io::Result<()> {
        self.disk.rename(id, Kind::Part, Kind::Plain)?;
        self.disk.sync_names().inspect_err(|_| self.unpublish(id))
    }

    /// Renames a published data file back to its private name.
    pub(super) fn unpublish(&self, id: &UploadId) {
        if let Err(e) = found(self.disk.rename(id, Kind::Plain, Kind::Part)) {
            tracing::warn!(%id, error = %e, "cannot undo a publication that failed");
        }
    }

    /// Completes the renames and unlinks that the record implies. Idempotent.
    pub(super) fn reconcile_names(
        self: &Arc<Self>,
        guard: &EntryGuard,
        upload: &Upload,
    ) -> io::Result<()> {
        let id = &upload.id;
        if upload.is_void() {
            Handles::close(&guard.entry);
            self.disk.unlink(id, Kind::Plain)?;
            self.disk.unlink(id, Kind::Part)?;
            self.disk.unlink_tree(id, Kind::Join)?;
            return Ok(());
        }
        if !upload.is_published() {
            return Ok(());
        }
        if !self.is_joined(upload)? {
            let present_bytes = self.disk.length_of(id, Kind::Part)?;
            if present_bytes.is_none() {
                return Ok(());
            }
            self.trim(&guard.entry, upload, present_bytes)?;
        }
        self.publish(guard, upload)
    }

    /// Returns whether the bytes of `upload` are still links to its partials.
    pub(super) fn is_joined(&self, upload: &Upload) -> io::Result<bool> {
        match upload.role {
            Role::Whole | Role::Partial { .. } => Ok(false),
            Role::Final { .. } => self.disk.exists(&upload.id, Kind::Join),
        }
    }

    /// Links the bytes of `partials`, each an id and its length in bytes, in order as the bytes of
    /// the locked upload.
    pub(super) fn join(
        self: &Arc<Self>,
        guard: &mut EntryGuard,
        partials: &[(UploadId, u64)],
    ) -> Result<(), StoreError> {
        match self.load(guard) {
            Ok(upload) if upload.is_complete() => return Ok(()),
            Ok(_) => {}
            Err(StoreError::Absent) => {
                lock(&self.pending_joins).insert(guard.entry.id.clone());
            }
            Err(e) => return Err(e),
        }
        let id = &guard.entry.id;
        let mut links = Vec::with_capacity(partials.len());
        let mut position = 0_u64;
        for (partial, length) in partials {
            if *length > 0 {
                links.push((position, partial));
            }
            position = position.saturating_add(*length);
        }
        self.disk.unlink_tree(id, Kind::Join).map_err(failed("joining", id))?;
        if links.is_empty() {
            return Ok(());
        }
        let linked = match found(self.disk.link_partials(id, &links)) {
            Ok(linked) => linked.ok_or(StoreError::Absent),
            Err(e) => Err(failed("joining", id)(e)),
        };
        linked.inspect_err(|_| {
            lock(&self.pending_joins).remove(id);
            if let Err(e) = self.disk.unlink_tree(id, Kind::JoinTmp) {
                tracing::warn!(%id, error = %e, "cannot undo a join that failed");
            }
        })
    }
}
