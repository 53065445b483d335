//! [`Disk`]: the names and system calls of one data directory. Makes all blocking calls of the file
//! store; knows no record and no lock on entries.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, ReadDir},
    io::{self, IoSlice, Read as _},
    ops::Range,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::fs::FallocateFlags;
use rustix::fs::{AtFlags, Mode, OFlags, RawMode};

use super::{dispatch::Dispatcher, group_sync::GroupSync, handles::Handles, options::Modes};
use crate::{store::Durability, upload::UploadId};

/// The file kinds of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `<id>.gone`: the record of a removed upload whose bytes are still to be unlinked.
    Gone,
    /// `<id>.join/`: links to the bytes of a joined upload.
    Join,
    /// `<id>.join.tmp/`: such links, incomplete or no longer needed.
    JoinTmp,
    /// `<key>.name`: a symbolic link to the record of the upload of a key.
    Name,
    /// `<key>.name.tmp`: such a link, not yet in place.
    NameTmp,
    /// `<id>.part`: the private data file.
    Part,
    /// `<id>`: the published data file.
    Plain,
    /// `<id>.record`: the change log.
    Record,
    /// `<id>.record.tmp`: a rewritten change log, not yet in place.
    RecordTmp,
}

impl Kind {
    /// Every kind, for parsing names.
    const ALL: [Self; 9] = [
        Self::Gone,
        Self::Join,
        Self::JoinTmp,
        Self::Name,
        Self::NameTmp,
        Self::Part,
        Self::Plain,
        Self::Record,
        Self::RecordTmp,
    ];

    /// Returns the file name after the id.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::Gone => ".gone",
            Self::Join => ".join",
            Self::JoinTmp => ".join.tmp",
            Self::Name => ".name",
            Self::NameTmp => ".name.tmp",
            Self::Part => ".part",
            Self::Plain => "",
            Self::Record => ".record",
            Self::RecordTmp => ".record.tmp",
        }
    }

    /// Parses a file name; `None` when it is not one of ours.
    pub(super) fn parse(name: &OsStr) -> Option<(UploadId, Self)> {
        let name = name.to_str()?;
        let (id, suffix) = name.split_at(name.find('.').unwrap_or(name.len()));
        let kind = Self::ALL.into_iter().find(|kind| kind.suffix() == suffix)?;
        Some((id.parse().ok()?, kind))
    }
}

/// One data directory.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    /// An open handle of the directory, for syncs and relative paths.
    names: File,
    /// Coalesces syncs of the directory.
    names_synced: GroupSync,
    durability: Durability,
    /// The cache of open files.
    handles: Handles,
    modes: Modes,
    /// Keeps the directory locked while anything may still write.
    _lock: File,
    dispatcher: Dispatcher,
    #[cfg(test)]
    probe: super::tests::probe::Slot,
}

impl Disk {
    /// Opens the existing directory `dir`. It stays locked as long as the store keeps `lock`.
    ///
    /// # Errors
    /// Any I/O error.
    pub(super) fn open(
        dir: PathBuf,
        durability: Durability,
        modes: Modes,
        lock: File,
    ) -> io::Result<Self> {
        let names = File::open(&dir)?;
        Ok(Self {
            dir,
            names,
            names_synced: GroupSync::default(),
            durability,
            handles: Handles::within_limits(),
            modes,
            _lock: lock,
            dispatcher: Dispatcher::default(),
            #[cfg(test)]
            probe: super::tests::probe::Slot::default(),
        })
    }

    /// Returns the durability that syncs provide.
    pub(super) fn durability(&self) -> Durability {
        self.durability
    }

    /// Returns the cache of open files.
    pub(super) fn handles(&self) -> &Handles {
        &self.handles
    }

    /// Returns the dispatcher of blocking work.
    pub(super) fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    /// Returns the hook by which tests observe system calls and make them fail.
    #[cfg(test)]
    pub(super) fn probe(&self) -> &super::tests::probe::Slot {
        &self.probe
    }

    /// Returns the path of the directory.
    #[cfg(test)]
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Passes a system call that is about to be made to the probe of a test.
    #[cfg(test)]
    fn step(&self, step: Step<'_>) -> io::Result<()> {
        self.probe.ask(&self.dir, &step)
    }

    /// Does nothing outside of tests.
    #[cfg(not(test))]
    fn step(&self, _: Step<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Returns the path of `kind` of `id`.
    fn path(&self, id: &UploadId, kind: Kind) -> PathBuf {
        let (id, suffix) = (id.as_str(), kind.suffix());
        let mut path =
            PathBuf::with_capacity(self.dir.as_os_str().len() + id.len() + suffix.len() + 1);
        path.push(&self.dir);
        path.push(id);
        path.as_mut_os_string().push(suffix);
        path
    }

    /// Calls `open`. When the process is out of file descriptors, closes the cached files and tries
    /// once more.
    fn with_spare_descriptors<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match open() {
            Err(e) if is_out_of_descriptors(&e) && self.handles.close_all() => open(),
            result => result,
        }
    }

    /// Opens a file relative to the directory handle, which saves looking up the path of the
    /// directory.
    fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let mode = Mode::from_raw_mode(self.modes.file as RawMode);
        let flags = flags | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&self.names, name_of(path), flags, mode);
        self.with_spare_descriptors(|| Ok(rustix::io::retry_on_intr(open)?.into()))
    }

    /// Creates an empty file, or truncates an existing one.
    pub(super) fn create(&self, id: &UploadId, kind: Kind) -> io::Result<File> {
        let path = self.path(id, kind);
        self.step(Step::Create { path: &path })?;
        self.open_at(&path, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)
    }

    /// Creates an empty file. An existing one is the error `AlreadyExists`.
    pub(super) fn create_new(&self, id: &UploadId, kind: Kind) -> io::Result<File> {
        let path = self.path(id, kind);
        self.step(Step::Create { path: &path })?;
        self.open_at(&path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    /// Opens a file for reading.
    pub(super) fn open_read(&self, id: &UploadId, kind: Kind) -> io::Result<File> {
        let path = self.path(id, kind);
        self.step(Step::Open { path: &path })?;
        self.open_at(&path, OFlags::RDONLY)
    }

    /// Opens a file for reading and writing.
    pub(super) fn open_write(&self, id: &UploadId, kind: Kind) -> io::Result<File> {
        let path = self.path(id, kind);
        self.step(Step::Open { path: &path })?;
        self.open_at(&path, OFlags::RDWR)
    }

    /// Reads the whole content of a file just opened.
    pub(super) fn read(&self, mut file: &File) -> io::Result<Vec<u8>> {
        self.step(Step::Read { file, at: 0 })?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok(content)
    }

    /// Returns whether the file exists.
    pub(super) fn exists(&self, id: &UploadId, kind: Kind) -> io::Result<bool> {
        Ok(self.length_of(id, kind)?.is_some())
    }

    /// Returns the length of a file in bytes; `None` when it does not exist.
    pub(super) fn length_of(&self, id: &UploadId, kind: Kind) -> io::Result<Option<u64>> {
        let path = self.path(id, kind);
        let about = || rustix::fs::statat(&self.names, name_of(&path), AtFlags::empty());
        let about = found(rustix::io::retry_on_intr(about).map_err(io::Error::from))?;
        Ok(about.map(|about| u64::try_from(about.st_size).unwrap_or_default()))
    }

    /// Returns the length of an open file in bytes; `None` when it has been unlinked.
    pub(super) fn linked_length(&self, file: &File) -> io::Result<Option<u64>> {
        let about = file.metadata()?;
        Ok((about.nlink() > 0).then_some(about.len()))
    }

    /// Returns whether the name still refers to `file`.
    pub(super) fn is_same_file(&self, id: &UploadId, kind: Kind, file: &File) -> io::Result<bool> {
        let Some(named) = found(fs::metadata(self.path(id, kind)))? else {
            return Ok(false);
        };
        let open = file.metadata()?;
        Ok((named.dev(), named.ino()) == (open.dev(), open.ino()))
    }

    /// Writes all `frames`, one after the other, at position `at`.
    pub(super) fn write_at(&self, file: &File, frames: &[Bytes], mut at: u64) -> io::Result<()> {
        self.step(Step::Write { file, frames, at })?;
        let mut slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
        let mut rest = slices.as_mut_slice();
        IoSlice::advance_slices(&mut rest, 0); // Skips leading empty slices.
        while !rest.is_empty() {
            let some = rest.len().min(MAX_SLICES);
            let written =
                rustix::io::retry_on_intr(|| rustix::io::pwritev(file, &rest[..some], at))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            at = at.saturating_add(written.try_into().unwrap_or(u64::MAX));
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    /// Reads at most `limit` bytes at position `at`; returns none at the end of the file.
    pub(super) fn read_at(&self, file: &File, at: u64, limit: usize) -> io::Result<Bytes> {
        self.step(Step::Read { file, at })?;
        let mut content = Vec::with_capacity(limit);
        rustix::io::retry_on_intr(|| {
            rustix::io::pread(file, rustix::buffer::spare_capacity(&mut content), at)
        })?;
        Ok(content.into())
    }

    /// Copies at most `limit` bytes between the file positions of `from` and `to`, inside of the
    /// kernel where it supports that. Returns the number of bytes copied.
    pub(super) fn copy(&self, from: &File, to: &File, limit: u64) -> io::Result<u64> {
        self.step(Step::Copy { from, to, limit })?;
        io::copy(&mut from.take(limit), &mut &*to)
    }

    /// Truncates a file to `len` bytes.
    pub(super) fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        self.step(Step::Truncate { file, len })?;
        file.set_len(len)
    }

    /// Frees the blocks of a range, which then reads as zeros. Not supported by all file systems.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn punch(&self, file: &File, range: &Range<u64>) -> io::Result<()> {
        self.step(Step::Punch { file, range })?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(file, flags, range.start, range.end - range.start)?)
    }

    /// Not supported on this system.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn punch(&self, _: &File, _: &Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Syncs the content of a file; no-op with [`Durability::Relaxed`].
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        match self.durability {
            Durability::Relaxed => Ok(()),
            Durability::Synced => {
                self.step(Step::Sync { file })?;
                file.sync_data()
            }
        }
    }

    /// Syncs the names in the directory; no-op with [`Durability::Relaxed`].
    pub(super) fn sync_names(&self) -> io::Result<()> {
        match self.durability {
            Durability::Relaxed => Ok(()),
            Durability::Synced => self.names_synced.run(|| {
                self.step(Step::SyncNames { dir: &self.names })?;
                self.names.sync_all()
            }),
        }
    }

    /// Syncs the whole file system; no-op with [`Durability::Relaxed`]. Takes as long as there is
    /// data to write.
    pub(super) fn sync_all(&self) -> io::Result<()> {
        match self.durability {
            Durability::Relaxed => Ok(()),
            Durability::Synced => {
                self.step(Step::SyncAll { dir: &self.names })?;
                sync_file_system(&self.names)
            }
        }
    }

    /// Renames a file, replacing an existing `to`.
    pub(super) fn rename(&self, id: &UploadId, from: Kind, to: Kind) -> io::Result<()> {
        let (from, to) = (self.path(id, from), self.path(id, to));
        self.step(Step::Rename { from: &from, to: &to })?;
        let (from, to) = (name_of(&from), name_of(&to));
        Ok(rustix::fs::renameat(&self.names, from, &self.names, to)?)
    }

    /// Makes `<key>.name.tmp` a link to the record of `id`, replacing an existing one.
    pub(super) fn link_to_record(&self, key: &UploadId, id: &UploadId) -> io::Result<()> {
        let (path, record) = (self.path(key, Kind::NameTmp), self.path(id, Kind::Record));
        let (name, to) = (name_of(&path), name_of(&record));
        self.step(Step::Symlink { path: &path, to })?;
        match rustix::fs::symlinkat(to, &self.names, name) {
            Err(rustix::io::Errno::EXIST) => {
                self.unlink(key, Kind::NameTmp)?;
                Ok(rustix::fs::symlinkat(to, &self.names, name)?)
            }
            made => Ok(made?),
        }
    }

    /// Returns the upload to whose record a link leads; `None` when there is no such link.
    pub(super) fn pointer_target(
        &self,
        key: &UploadId,
        kind: Kind,
    ) -> io::Result<Option<UploadId>> {
        let path = self.path(key, kind);
        self.step(Step::Open { path: &path })?;
        let to = match fs::read_link(path) {
            // A foreign file.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => return Ok(None),
            to => found(to)?,
        };
        let to = to.and_then(|to| Kind::parse(to.as_os_str()));
        Ok(to.filter(|(_, kind)| *kind == Kind::Record).map(|(id, _)| id))
    }

    /// Removes a file. Returns whether it existed.
    pub(super) fn unlink(&self, id: &UploadId, kind: Kind) -> io::Result<bool> {
        let path = self.path(id, kind);
        self.step(Step::Unlink { path: &path })?;
        Ok(found(fs::remove_file(path))?.is_some())
    }

    /// Removes a directory of links. Returns whether it existed.
    pub(super) fn unlink_tree(&self, id: &UploadId, kind: Kind) -> io::Result<bool> {
        let path = self.path(id, kind);
        self.step(Step::Unlink { path: &path })?;
        Ok(found(self.with_spare_descriptors(|| fs::remove_dir_all(&path)))?.is_some())
    }

    /// Creates the directory `<id>.join` with a hard link for each `(position, partial)`, named
    /// after the position, to the data file of the partial. The directory appears with all links or
    /// not at all; its name is durable after the next [`Self::sync_names`].
    pub(super) fn link_partials(
        &self,
        id: &UploadId,
        parts: &[(u64, &UploadId)],
    ) -> io::Result<()> {
        let tmp = self.path(id, Kind::JoinTmp);
        self.unlink_tree(id, Kind::JoinTmp)?;
        self.step(Step::Create { path: &tmp })?;
        DirBuilder::new().mode(self.modes.dir).create(&tmp)?;
        for (position, partial) in parts {
            let (from, to) = (self.path(partial, Kind::Part), tmp.join(position.to_string()));
            self.step(Step::Link { from: &from, to: &to })?;
            fs::hard_link(from, to)?;
        }
        if self.durability == Durability::Synced {
            let links = self.with_spare_descriptors(|| File::open(&tmp))?;
            self.step(Step::SyncNames { dir: &links })?;
            links.sync_all()?;
        }
        self.rename(id, Kind::JoinTmp, Kind::Join)
    }

    /// Returns the positions of the links in `<id>.join`, ascending; `None` when there is no such
    /// directory.
    pub(super) fn links(&self, id: &UploadId) -> io::Result<Option<Vec<u64>>> {
        let path = self.path(id, Kind::Join);
        self.step(Step::Open { path: &path })?;
        let Some(entries) = found(self.with_spare_descriptors(|| fs::read_dir(&path)))? else {
            return Ok(None);
        };
        let mut positions = Vec::new();
        for entry in entries {
            // Names that are not positions are not ours.
            positions.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        positions.sort_unstable();
        Ok(Some(positions))
    }

    /// Returns whether a link in such a directory is the last name of its file.
    pub(super) fn has_last_link(&self, id: &UploadId, kind: Kind) -> io::Result<bool> {
        let Some(links) = found(fs::read_dir(self.path(id, kind)))? else {
            return Ok(false);
        };
        for link in links {
            if link?.metadata()?.nlink() == 1 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens the link of `<id>.join` at `position` for reading.
    pub(super) fn open_link(&self, id: &UploadId, position: u64) -> io::Result<File> {
        let path = self.path(id, Kind::Join).join(position.to_string());
        self.step(Step::Open { path: &path })?;
        self.with_spare_descriptors(|| File::open(&path))
    }

    /// Lists all names in the directory, ours or not.
    pub(super) fn entries(&self) -> io::Result<ReadDir> {
        self.step(Step::Open { path: &self.dir })?;
        self.with_spare_descriptors(|| fs::read_dir(&self.dir))
    }
}

/// Returns the last component of a path.
fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

/// Syncs the file system of `dir`.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn sync_file_system(dir: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(dir)?)
}

/// Not supported on this system for one file system alone.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn sync_file_system(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns whether the process or the system is out of file descriptors.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Maximum number of slices per `pwritev`: `IOV_MAX` of Linux and the BSDs.
const MAX_SLICES: usize = 1024;

/// Maps `NotFound` to `None`.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// A system call about to be made, for tests that interrupt it or make it fail.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "only tests read the fields, and not all of them")]
pub(super) enum Step<'a> {
    /// Copies bytes between files.
    Copy { from: &'a File, to: &'a File, limit: u64 },
    /// Creates a file or directory.
    Create { path: &'a Path },
    /// Creates a hard link.
    Link { from: &'a Path, to: &'a Path },
    /// Opens a file or directory.
    Open { path: &'a Path },
    /// Reads bytes.
    Read { file: &'a File, at: u64 },
    /// Frees a range inside of a file.
    Punch { file: &'a File, range: &'a Range<u64> },
    /// Renames a file or directory.
    Rename { from: &'a Path, to: &'a Path },
    /// Creates the symbolic link of a pointer.
    Symlink { path: &'a Path, to: &'a OsStr },
    /// Syncs a file.
    Sync { file: &'a File },
    /// Syncs the file system.
    SyncAll { dir: &'a File },
    /// Syncs a directory.
    SyncNames { dir: &'a File },
    /// Truncates a file.
    Truncate { file: &'a File, len: u64 },
    /// Removes a name.
    Unlink { path: &'a Path },
    /// Writes bytes.
    Write { file: &'a File, frames: &'a [Bytes], at: u64 },
}
