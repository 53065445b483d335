//! [`Disk`]: one data directory as names and system calls. All blocking calls of the file store are
//! made here; it knows no record and no lock.

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

/// What a name in the directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `<id>.gone`: the record of a removed upload whose bytes are still to be unlinked.
    Gone,
    /// `<id>.join/`: links to the bytes a final upload is made of.
    Join,
    /// `<id>.join.tmp/`: such links, not all there yet or not needed any more.
    JoinTmp,
    /// `<key>.name`: a symbolic link to the record of the upload that the key leads to.
    Name,
    /// `<key>.name.tmp`: such a link, not in force yet.
    NameTmp,
    /// `<id>.part`: private bytes.
    Part,
    /// `<id>`: published bytes.
    Plain,
    /// `<id>.record`: the change log.
    Record,
    /// `<id>.record.tmp`: a shorter change log, not in force yet.
    RecordTmp,
}

impl Kind {
    /// Every kind, for taking names apart.
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

    /// What follows the id in the name.
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

    /// Takes a name apart; `None` when it is not one of ours.
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
    /// The directory itself, to sync the names in it.
    names: File,
    /// Its syncs, which uploads share.
    names_synced: GroupSync,
    durability: Durability,
    /// Files that are kept open, as long as there are descriptors for them.
    handles: Handles,
    modes: Modes,
    /// Nobody else has the directory as long as this is open: whoever may still write holds it.
    _lock: File,
    dispatcher: Dispatcher,
    #[cfg(test)]
    probe: super::tests::probe::Slot,
}

impl Disk {
    /// The directory `dir`, which exists. Nobody else has it as long as `lock` is open.
    ///
    /// # Errors
    /// What the system says about opening it.
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

    /// Which promises syncs have to keep.
    pub(super) fn durability(&self) -> Durability {
        self.durability
    }

    /// Files that are kept open.
    pub(super) fn handles(&self) -> &Handles {
        &self.handles
    }

    /// How fast it is.
    pub(super) fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    /// Where tests listen in and interfere.
    #[cfg(test)]
    pub(super) fn probe(&self) -> &super::tests::probe::Slot {
        &self.probe
    }

    /// Where it is.
    #[cfg(test)]
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Tells tests what is about to be done.
    #[cfg(test)]
    fn step(&self, step: Step<'_>) -> io::Result<()> {
        self.probe.ask(&self.dir, &step)
    }

    /// Tells tests what is about to be done.
    #[cfg(not(test))]
    fn step(&self, _: Step<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Where `kind` of `id` lies.
    fn path(&self, id: &UploadId, kind: Kind) -> PathBuf {
        let (id, suffix) = (id.as_str(), kind.suffix());
        let mut path =
            PathBuf::with_capacity(self.dir.as_os_str().len() + id.len() + suffix.len() + 1);
        path.push(&self.dir);
        path.push(id);
        path.as_mut_os_string().push(suffix);
        path
    }

    /// Opens something. When there is no descriptor left, files that are only kept open are closed, and
    /// it is tried once more.
    fn with_spare_descriptors<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match open() {
            Err(e) if is_out_of_descriptors(&e) && self.handles.close_all() => open(),
            result => result,
        }
    }

    /// Opens a path of this directory: by its name, so that the way to the directory is not looked up
    /// each time.
    fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let mode = Mode::from_raw_mode(self.modes.file as RawMode);
        let flags = flags | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&self.names, name_of(path), flags, mode);
        self.with_spare_descriptors(|| Ok(rustix::io::retry_on_intr(open)?.into()))
    }

    /// Makes an empty file, or empties the one that is there.
    pub(super) fn create(&self, id: &UploadId, kind: Kind) -> io::Result<File> {
        let path = self.path(id, kind);
        self.step(Step::Create { path: &path })?;
        self.open_at(&path, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)
    }

    /// Makes an empty file; one that is there is `AlreadyExists`.
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

    /// The whole content of a file just opened.
    pub(super) fn read(&self, mut file: &File) -> io::Result<Vec<u8>> {
        self.step(Step::Read { file, at: 0 })?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok(content)
    }

    /// Whether the name is there.
    pub(super) fn exists(&self, id: &UploadId, kind: Kind) -> io::Result<bool> {
        Ok(self.length_of(id, kind)?.is_some())
    }

    /// The length in bytes of the file that has the name now; `None` when there is none.
    pub(super) fn length_of(&self, id: &UploadId, kind: Kind) -> io::Result<Option<u64>> {
        let path = self.path(id, kind);
        let about = || rustix::fs::statat(&self.names, name_of(&path), AtFlags::empty());
        let about = found(rustix::io::retry_on_intr(about).map_err(io::Error::from))?;
        Ok(about.map(|about| u64::try_from(about.st_size).unwrap_or_default()))
    }

    /// The length of an open file in bytes; `None` when no name is left of it.
    pub(super) fn linked_length(&self, file: &File) -> io::Result<Option<u64>> {
        let about = file.metadata()?;
        Ok((about.nlink() > 0).then_some(about.len()))
    }

    /// Whether the name still stands for `file`.
    pub(super) fn is_same_file(&self, id: &UploadId, kind: Kind, file: &File) -> io::Result<bool> {
        let Some(named) = found(fs::metadata(self.path(id, kind)))? else {
            return Ok(false);
        };
        let open = file.metadata()?;
        Ok((named.dev(), named.ino()) == (open.dev(), open.ino()))
    }

    /// Writes `frames` one after the other from position `at` on.
    pub(super) fn write_at(&self, file: &File, frames: &[Bytes], mut at: u64) -> io::Result<()> {
        self.step(Step::Write { file, frames, at })?;
        let mut slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
        let mut rest = slices.as_mut_slice();
        IoSlice::advance_slices(&mut rest, 0); // Drops empty slices in front.
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

    /// At most `limit` bytes from position `at` on; none at the end of the file.
    pub(super) fn read_at(&self, file: &File, at: u64, limit: usize) -> io::Result<Bytes> {
        self.step(Step::Read { file, at })?;
        let mut content = Vec::with_capacity(limit);
        rustix::io::retry_on_intr(|| {
            rustix::io::pread(file, rustix::buffer::spare_capacity(&mut content), at)
        })?;
        Ok(content.into())
    }

    /// Copies at most `limit` bytes from where `from` stands to where `to` stands, without moving
    /// them through this process where the system knows how. Gives their number.
    pub(super) fn copy(&self, from: &File, to: &File, limit: u64) -> io::Result<u64> {
        self.step(Step::Copy { from, to, limit })?;
        io::copy(&mut from.take(limit), &mut &*to)
    }

    /// Cuts a file to `len` bytes.
    pub(super) fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        self.step(Step::Truncate { file, len })?;
        file.set_len(len)
    }

    /// Frees the space of a range inside of a file, which reads as zeros then. Some file systems cannot
    /// do that.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn punch(&self, file: &File, range: &Range<u64>) -> io::Result<()> {
        self.step(Step::Punch { file, range })?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(file, flags, range.start, range.end - range.start)?)
    }

    /// Other systems cannot do that.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn punch(&self, _: &File, _: &Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes the content of a file survive the loss of power, if that was promised.
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        match self.durability {
            Durability::Relaxed => Ok(()),
            Durability::Synced => {
                self.step(Step::Sync { file })?;
                file.sync_data()
            }
        }
    }

    /// Makes the names in the directory survive the loss of power, if that was promised.
    pub(super) fn sync_names(&self) -> io::Result<()> {
        match self.durability {
            Durability::Relaxed => Ok(()),
            Durability::Synced => self.names_synced.run(|| {
                self.step(Step::SyncNames { dir: &self.names })?;
                self.names.sync_all()
            }),
        }
    }

    /// Makes everything in the file system survive the loss of power, if that was promised. Takes as
    /// long as there is something to write.
    pub(super) fn sync_all(&self) -> io::Result<()> {
        match self.durability {
            Durability::Relaxed => Ok(()),
            Durability::Synced => {
                self.step(Step::SyncAll { dir: &self.names })?;
                sync_file_system(&self.names)
            }
        }
    }

    /// Gives `from` the name `to`, in the place of what had it.
    pub(super) fn rename(&self, id: &UploadId, from: Kind, to: Kind) -> io::Result<()> {
        let (from, to) = (self.path(id, from), self.path(id, to));
        self.step(Step::Rename { from: &from, to: &to })?;
        let (from, to) = (name_of(&from), name_of(&to));
        Ok(rustix::fs::renameat(&self.names, from, &self.names, to)?)
    }

    /// Has the pointer of `key` lead to `id`, whatever it led to before.
    pub(super) fn set_pointer(&self, key: &UploadId, id: &UploadId) -> io::Result<()> {
        self.unlink(key, Kind::NameTmp)?;
        let (from, to) = (self.path(key, Kind::NameTmp), self.path(id, Kind::Record));
        self.step(Step::Symlink { path: &from, to: name_of(&to) })?;
        rustix::fs::symlinkat(name_of(&to), &self.names, name_of(&from))?;
        self.rename(key, Kind::NameTmp, Kind::Name)
    }

    /// The upload that the pointer of `key` leads to; `None` when there is none.
    pub(super) fn pointer_target(&self, key: &UploadId) -> io::Result<Option<UploadId>> {
        let path = self.path(key, Kind::Name);
        self.step(Step::Open { path: &path })?;
        let to = found(fs::read_link(path))?;
        let to = to.and_then(|to| Kind::parse(to.as_os_str()));
        Ok(to.filter(|(_, kind)| *kind == Kind::Record).map(|(id, _)| id))
    }

    /// Removes a file. Says whether there was one.
    pub(super) fn unlink(&self, id: &UploadId, kind: Kind) -> io::Result<bool> {
        let path = self.path(id, kind);
        self.step(Step::Unlink { path: &path })?;
        Ok(found(fs::remove_file(path))?.is_some())
    }

    /// Removes a directory of links. Says whether there was one.
    pub(super) fn unlink_tree(&self, id: &UploadId, kind: Kind) -> io::Result<bool> {
        let path = self.path(id, kind);
        self.step(Step::Unlink { path: &path })?;
        Ok(found(self.with_spare_descriptors(|| fs::remove_dir_all(&path)))?.is_some())
    }

    /// Makes the directory `<id>.join` with a link for each `(position, partial)`, named after the
    /// position, to the private bytes of the partial. It appears with all links or not at all; that
    /// it has appeared lasts after the next [`Self::sync_names`].
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

    /// The positions of the links in `<id>.join`, ascending; `None` when there is no such directory.
    pub(super) fn links(&self, id: &UploadId) -> io::Result<Option<Vec<u64>>> {
        let path = self.path(id, Kind::Join);
        self.step(Step::Open { path: &path })?;
        let Some(entries) = found(self.with_spare_descriptors(|| fs::read_dir(&path)))? else {
            return Ok(None);
        };
        let mut positions = Vec::new();
        for entry in entries {
            // Only we make names here; others are not ours to judge.
            positions.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        positions.sort_unstable();
        Ok(Some(positions))
    }

    /// Whether the bytes of a link in such a directory have no other name any more.
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

    /// All names in the directory, ours or not.
    pub(super) fn entries(&self) -> io::Result<ReadDir> {
        self.step(Step::Open { path: &self.dir })?;
        self.with_spare_descriptors(|| fs::read_dir(&self.dir))
    }
}

/// The last part of a path.
fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

/// Makes everything survive that is in the file system of `dir`.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn sync_file_system(dir: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(dir)?)
}

/// Other systems cannot do that for one file system.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn sync_file_system(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether this process, or all of them together, can have no further descriptor.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// The most slices given to one `pwritev`: `IOV_MAX` of Linux and the BSDs.
const MAX_SLICES: usize = 1024;

/// `None` for what is not there.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// A system call about to be made, for tests that stop the world there or make the call fail.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "only tests look inside, and not at everything")]
pub(super) enum Step<'a> {
    /// Bytes from one file to another.
    Copy { from: &'a File, to: &'a File, limit: u64 },
    /// A new file or directory.
    Create { path: &'a Path },
    /// A second name for a file.
    Link { from: &'a Path, to: &'a Path },
    /// A file or directory opened.
    Open { path: &'a Path },
    /// Bytes read.
    Read { file: &'a File, at: u64 },
    /// Space inside of a file freed.
    Punch { file: &'a File, range: &'a Range<u64> },
    /// A name changed.
    Rename { from: &'a Path, to: &'a Path },
    /// A pointer of a key.
    Symlink { path: &'a Path, to: &'a OsStr },
    /// Content made to last.
    Sync { file: &'a File },
    /// Everything made to last.
    SyncAll { dir: &'a File },
    /// Names made to last.
    SyncNames { dir: &'a File },
    /// A file cut.
    Truncate { file: &'a File, len: u64 },
    /// A name removed.
    Unlink { path: &'a Path },
    /// Bytes written.
    Write { file: &'a File, frames: &'a [Bytes], at: u64 },
}
