//! Data files and their names: private, published, joined. Blocks; callers hold the entry.

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

/// An error of the system's kind that says what is wrong with the files of an upload.
pub(super) fn damaged(why: String) -> io::Error {
    io::Error::other(StoreError::Damaged(why))
}

/// Whether a data file that has `held_bytes`, if it is there, has all of `due_bytes`.
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
    /// Makes an empty data file that no writer of an earlier upload knows.
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

    /// The data file of an open upload, if it is there and holds `end` bytes at least.
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

    /// The data file of an open upload, which was not found, or not as the record says. It may be
    /// missing after the loss of power as long as the upload holds no bytes, and is then made again.
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
        file.map_err(failed("making the data file of", id))
    }

    /// Before an upload is recorded as complete: makes sure that its links last, or makes its data file
    /// exactly as long as the upload.
    pub(super) fn prepare_completion(&self, guard: &EntryGuard, next: &Upload) -> io::Result<()> {
        if self.is_joined(next)? {
            return self.disk.sync_names();
        }
        match self.disk.length_of(&next.id, Kind::Part)? {
            // Lost with the power before anything was written, or never made: a final upload that
            // turns out to be empty.
            None if next.length == Some(0) => self.create_data_file(&guard.entry).map(drop),
            present_bytes => self.trim(&guard.entry, next, present_bytes),
        }
    }

    /// Cuts off what dropped writers have left behind the end of a full upload, whose data file has so
    /// many bytes.
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

    /// Before bytes are recorded: makes sure that they are in the data file.
    pub(super) fn check_received(&self, next: &Upload) -> io::Result<()> {
        let present_bytes = self.disk.length_of(&next.id, Kind::Part)?;
        check_length(&next.id, Kind::Part, present_bytes, next.received.end())
    }

    /// Whether the bytes of an upload in memory are still where they were last. Only of a complete one
    /// that is asked: others than this store move it away. One look at a name, about a microsecond.
    pub(super) fn is_intact(&self, upload: &Upload) -> bool {
        !upload.is_published()
            || match self.disk.length_of(&upload.id, Kind::Plain) {
                Ok(Some(bytes)) => bytes >= upload.offset(),
                Ok(None) => self.is_joined(upload).unwrap_or(false),
                Err(_) => false,
            }
    }

    /// Makes sure that all bytes are there that `upload`, just read, counts; of an open one, that no
    /// others take space.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]; [`StoreError::Absent`] when it is complete, and its file was moved away.
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
        inspected().map_err(failed("looking at the data file of", id))
    }

    /// Frees what a crash has left in the data file of an open upload, which has so many bytes.
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

    /// After an upload was recorded as complete: gives its bytes their public name, or sees that
    /// they get one.
    pub(super) fn publish(self: &Arc<Self>, guard: &EntryGuard, upload: &Upload) -> io::Result<()> {
        // It takes no more bytes.
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

    /// Gives the data file its public name. On failure it keeps its private one.
    pub(super) fn rename_to_plain(&self, id: &UploadId) -> io::Result<()> {
        self.disk.rename(id, Kind::Part, Kind::Plain)?;
        self.disk.sync_names().inspect_err(|_| {
            if let Err(e) = self.disk.rename(id, Kind::Plain, Kind::Part) {
                tracing::warn!(%id, error = %e, "cannot undo a publication that failed");
            }
        })
    }

    /// Brings the names in the directory in line with the record. Repeating it is fine.
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

    /// Whether the bytes of `upload` are still those of its partials.
    pub(super) fn is_joined(&self, upload: &Upload) -> io::Result<bool> {
        match upload.role {
            Role::Whole | Role::Partial { .. } => Ok(false),
            Role::Final { .. } => self.disk.exists(&upload.id, Kind::Join),
        }
    }

    /// Lays `partials`, each an id and its length, in order under `upload`.
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
