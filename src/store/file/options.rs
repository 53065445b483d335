//! [`OpenOptions`]: options of opening a [`FileStore`].

use std::{path::PathBuf, sync::Arc};

use super::{FileStore, OpenError, disk::Disk, lock, secret, shared::Shared};
use crate::store::Durability;

/// Options of opening a [`FileStore`].
///
/// ```no_run
/// use windlass::{Durability, store::file::FileStore};
///
/// # fn open() -> Result<(), Box<dyn std::error::Error>> {
/// // A group may read finished uploads.
/// let options = FileStore::options().dir_mode(0o750).file_mode(0o640);
/// let store = options.durability(Durability::Synced).open("./uploads")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct OpenOptions {
    durability: Durability,
    label: String,
    modes: Modes,
}

/// The permission bits of files and directories that the store creates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Modes {
    /// Of directories.
    pub(super) dir: u32,
    /// Of files.
    pub(super) file: u32,
}

impl Default for OpenOptions {
    fn default() -> Self {
        let modes = Modes { dir: 0o700, file: 0o600 };
        Self { durability: Durability::default(), label: String::new(), modes }
    }
}

impl OpenOptions {
    /// Sets the mode of the data directory, if it is created, and of directories in it; `0o700` by
    /// default, less the umask of the process. An existing directory keeps its mode; a warning is
    /// logged if it is accessible to more users.
    #[must_use]
    pub fn dir_mode(mut self, mode: u32) -> Self {
        self.modes.dir = mode;
        self
    }

    /// Sets which failures acknowledged bytes survive; [`Durability::Synced`] by default.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets the mode of uploads and their records; `0o600` by default, less the umask of the
    /// process. Existing files keep their mode.
    #[must_use]
    pub fn file_mode(mut self, mode: u32) -> Self {
        self.modes.file = mode;
        self
    }

    /// Sets a name for this process, shown to other processes that find the directory in use.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Opens the store in `dir`, which is created if it does not exist. Reads no upload. Blocks.
    ///
    /// # Errors
    /// [`OpenError`] when the directory cannot be used, or another process or store has locked it.
    pub fn open(&self, dir: impl Into<PathBuf>) -> Result<FileStore, OpenError> {
        let path = dir.into();
        lock::create_dir(&path, self.modes.dir)?;
        let lock = lock::acquire(&path, &self.label)?;
        let disk = Disk::open(path.clone(), self.durability, self.modes, lock);
        // A process that died may have left names unsynced on which this one is going to rely.
        let disk = disk.and_then(|disk| disk.sync_names().map(|()| disk));
        let disk = disk.map_err(|source| OpenError::Use { path: path.clone(), source })?;
        let secret = secret::load_or_create(&path)?;
        Ok(FileStore { secret, shared: Arc::new(Shared::new(disk)) })
    }
}
