//! Data files and their names: private, published, joined. Blocks; callers hold the entry.

use std::{fs::File, io, sync::Arc};

use super::{
    disk::{Kind, found},
    entry::{Entry, Held, Lease},
    handles::Handles,
    lock,
    shared::{Shared, failed, no_record},
    surplus::Cut,
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
fn holds(id: &UploadId, kind: Kind, held_bytes: Option<u64>, due_bytes: u64) -> io::Result<()> {
    let file = format_args!("{id}{}", kind.suffix());
    match held_bytes {
        Some(held_bytes) if held_bytes >= due_bytes => Ok(()),
        Some(held_bytes) => {
            Err(damaged(format!("{file} holds {held_bytes} bytes, its record says {due_bytes}")))
        }
        None => Err(damaged(format!("{file} is missing, its record says {due_bytes} bytes"))),
    }
}

impl Shared {
    /// Makes an empty data file that no writer of an earlier upload knows.
    pub(super) fn make_part(&self, entry: &Entry) -> io::Result<Arc<File>> {
        Handles::forget(entry);
        let id = &entry.id;
        let made = match self.disk.create_new(id, Kind::Part) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if self.disk.length_of(id, Kind::Part)?.is_some_and(|bytes| bytes > 0) {
                    return Err(damaged(no_record(id, Kind::Part)));
                }
                self.disk.unlink(id, Kind::Part)?;
                self.disk.create_new(id, Kind::Part)
            }
            made => made,
        };
        made.map(Arc::new)
    }

    /// The data file of an open upload, if it is there and holds `end` bytes at least.
    pub(super) fn sound_part(&self, entry: &Lease, end: u64) -> io::Result<Option<Arc<File>>> {
        let Some(file) = found(self.part(entry))? else {
            return Ok(None);
        };
        let length = self.disk.linked_length(&file)?;
        Ok(length.is_some_and(|length| length >= end).then_some(file))
    }

    /// The data file of an open upload, which was not found, or not as the record says. It may be
    /// missing after the loss of power as long as the upload holds no bytes, and is then made again.
    pub(super) fn remake_part(self: &Arc<Self>, held: &mut Held) -> Result<Arc<File>, StoreError> {
        self.distrust(&held.entry);
        let upload = self.load(held)?;
        let id = &upload.id;
        if upload.phase != Phase::Open {
            return Err(StoreError::Stale);
        }
        let file = found(self.part(&held.entry)).map_err(failed("opening the data file of", id))?;
        if let Some(file) = file {
            return Ok(file);
        }
        let file = self.make_part(&held.entry);
        let file = file.and_then(|file| self.disk.sync_names().map(|()| file));
        file.map_err(failed("making the data file of", id))
    }

    /// Before an upload is recorded as complete: makes sure that its links last, or makes its data file
    /// exactly as long as the upload.
    pub(super) fn fit(&self, held: &Held, next: &Upload) -> io::Result<()> {
        if self.is_joined(next)? {
            return self.disk.sync_names();
        }
        match self.disk.length_of(&next.id, Kind::Part)? {
            // Lost with the power before anything was written, or never made: a final upload that
            // turns out to be empty.
            None if next.length == Some(0) => self.make_part(&held.entry).map(drop),
            held_bytes => self.trim(&held.entry, next, held_bytes),
        }
    }

    /// Cuts off what dropped writers have left behind the end of a full upload, whose data file has so
    /// many bytes.
    fn trim(&self, entry: &Lease, upload: &Upload, held_bytes: Option<u64>) -> io::Result<()> {
        let length = upload.offset();
        holds(&upload.id, Kind::Part, held_bytes, length)?;
        if held_bytes > Some(length) {
            let file = self.part(entry)?;
            self.disk.truncate(&file, length)?;
            self.disk.sync(&file)?;
        }
        Ok(())
    }

    /// Before bytes are recorded: makes sure that they are in the data file.
    pub(super) fn check_received(&self, next: &Upload) -> io::Result<()> {
        let held_bytes = self.disk.length_of(&next.id, Kind::Part)?;
        holds(&next.id, Kind::Part, held_bytes, next.received.end())
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
    pub(super) fn inspect(&self, entry: &Lease, upload: &Arc<Upload>) -> Result<(), StoreError> {
        let id = &upload.id;
        let inspected = || {
            if upload.is_void() || self.is_joined(upload)? {
                return Ok(());
            }
            let (mut kind, mut held_bytes) = (Kind::Plain, None);
            if upload.is_published() {
                held_bytes = self.disk.length_of(id, kind)?;
            }
            if held_bytes.is_none() {
                kind = Kind::Part;
                held_bytes = self.disk.length_of(id, kind)?;
            }
            match held_bytes {
                None if upload.is_complete() => Err(io::Error::other(StoreError::Absent)),
                None if upload.received.runs() == 0 => Ok(()),
                held_bytes => holds(id, kind, held_bytes, upload.received.end()),
            }?;
            self.cut(entry, upload, held_bytes)
        };
        inspected().map_err(failed("looking at the data file of", id))
    }

    /// Frees what a crash has left in the data file of an open upload, which has so many bytes.
    fn cut(&self, entry: &Lease, upload: &Arc<Upload>, held_bytes: Option<u64>) -> io::Result<()> {
        let received = &upload.received;
        let has_surplus = held_bytes > Some(received.end()) || received.prefix() < received.end();
        if upload.phase == Phase::Open
            && has_surplus
            && let Some(cut) = Cut::of(entry, upload)
        {
            cut.make(&self.disk, &*self.part(entry)?);
        }
        Ok(())
    }

    /// After an upload was recorded as complete: gives its bytes their public name, or sees that
    /// they get one.
    pub(super) fn appear(self: &Arc<Self>, held: &Held, upload: &Upload) -> io::Result<()> {
        // It takes no more bytes.
        Handles::forget(&held.entry);
        if !upload.is_published() {
            return Ok(());
        }
        if self.is_joined(upload)? {
            self.lay_downs.add(self, &upload.id);
            return Ok(());
        }
        self.publish(&upload.id)
    }

    /// Gives the data file its public name. On failure it keeps its private one.
    pub(super) fn publish(&self, id: &UploadId) -> io::Result<()> {
        self.disk.rename(id, Kind::Part, Kind::Plain)?;
        self.disk.sync_names().inspect_err(|_| {
            if let Err(e) = self.disk.rename(id, Kind::Plain, Kind::Part) {
                tracing::warn!(%id, error = %e, "cannot undo a publication that failed");
            }
        })
    }

    /// Brings the names in the directory in line with the record. Repeating it is fine.
    pub(super) fn settle(self: &Arc<Self>, held: &Held, upload: &Upload) -> io::Result<()> {
        let id = &upload.id;
        if upload.is_void() {
            Handles::forget(&held.entry);
            self.disk.unlink(id, Kind::Plain)?;
            self.disk.unlink(id, Kind::Part)?;
            self.disk.unlink_tree(id, Kind::Join)?;
            return Ok(());
        }
        if !upload.is_published() {
            return Ok(());
        }
        if !self.is_joined(upload)? {
            let held_bytes = self.disk.length_of(id, Kind::Part)?;
            if held_bytes.is_none() {
                return Ok(());
            }
            self.trim(&held.entry, upload, held_bytes)?;
        }
        self.appear(held, upload)
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
        held: &mut Held,
        partials: &[(UploadId, u64)],
    ) -> Result<(), StoreError> {
        match self.load(held) {
            Ok(upload) if upload.is_complete() => return Ok(()),
            Ok(_) => {}
            Err(StoreError::Absent) => {
                lock(&self.unborn).insert(held.entry.id.clone());
            }
            Err(e) => return Err(e),
        }
        let id = &held.entry.id;
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
        let linked = match found(self.disk.link_parts(id, &links)) {
            Ok(linked) => linked.ok_or(StoreError::Absent),
            Err(e) => Err(failed("joining", id)(e)),
        };
        linked.inspect_err(|_| {
            lock(&self.unborn).remove(id);
            if let Err(e) = self.disk.unlink_tree(id, Kind::JoinTmp) {
                tracing::warn!(%id, error = %e, "cannot undo a join that failed");
            }
        })
    }
}
