//! Data files and their names: private, published, joined. Blocks; callers hold the entry.

use std::{fs::File, io, sync::Arc};

use super::{
    disk::{Kind, found},
    entry::{Entry, Held, Lease},
    handles::Handles,
    lock,
    shared::{Shared, failed},
};
use crate::{
    store::StoreError,
    upload::{Phase, Role, Upload, UploadId},
};

impl Shared {
    /// Makes an empty data file that no writer of an earlier upload knows.
    pub(super) fn make_part(&self, entry: &Entry) -> io::Result<Arc<File>> {
        Handles::forget(entry);
        let id = &entry.id;
        let made = match self.disk.create_new(id, Kind::Part) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.unlink(id, Kind::Part)?;
                self.disk.create_new(id, Kind::Part)
            }
            made => made,
        };
        made.map(Arc::new)
    }

    /// The data file of an open upload, which was not found. It may be missing after the loss of power
    /// as long as the upload holds no bytes, and is then made again.
    pub(super) fn remake_part(self: &Arc<Self>, held: &mut Held) -> Result<Arc<File>, StoreError> {
        let upload = self.load(held)?;
        let id = &upload.id;
        if upload.phase != Phase::Open {
            return Err(StoreError::Stale);
        }
        if upload.received.runs() > 0 {
            return Err(failed("opening the data file of", id)(io::ErrorKind::NotFound.into()));
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
        match self.trim(&held.entry, next) {
            // Lost with the power before anything was written, or never made: a final upload that
            // turns out to be empty.
            Err(e) if e.kind() == io::ErrorKind::NotFound && next.length == Some(0) => {
                self.make_part(&held.entry).map(drop)
            }
            trimmed => trimmed,
        }
    }

    /// Cuts off what dropped writers have left behind the end of a full upload.
    fn trim(&self, entry: &Lease, upload: &Upload) -> io::Result<()> {
        let file = self.part(entry)?;
        let (held, length) = (self.disk.length(&file)?, upload.offset());
        if held < length {
            let why = format!("its data file holds {held} bytes, its record says {length}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        if held > length {
            self.disk.truncate(&file, length)?;
            self.disk.sync(&file)?;
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
            if !self.disk.exists(id, Kind::Part)? {
                return Ok(());
            }
            self.trim(&held.entry, upload)?;
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
