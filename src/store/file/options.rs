//! [`OpenOptions`]: what can be chosen when a [`FileStore`] is opened.

use std::{path::PathBuf, sync::Arc};

use super::{FileStore, OpenError, disk::Disk, lock, secret, shared::Shared};
use crate::store::Durability;

/// What can be chosen when a [`FileStore`] is opened.
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

/// The permission bits of what a store makes.
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
    /// The mode of the data directory, if it is not there yet, and of directories in it, less the
    /// umask of the process; `0o700` by default. One that exists keeps its mode; a warning is logged
    /// if that lets in more users.
    #[must_use]
    pub fn dir_mode(mut self, mode: u32) -> Self {
        self.modes.dir = mode;
        self
    }

    /// What an acknowledged byte survives; by default the loss of power.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The mode of uploads and their records, less the umask of the process; `0o600` by default.
    /// Files that exist keep theirs.
    #[must_use]
    pub fn file_mode(mut self, mode: u32) -> Self {
        self.modes.file = mode;
        self
    }

    /// A name for this process: another one that finds the directory in use says it.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Opens the store in `dir`, which is made if it is not there. Reads no upload.
    ///
    /// # Errors
    /// When the directory cannot be used, or another process (or store) has it.
    pub fn open(&self, dir: impl Into<PathBuf>) -> Result<FileStore, OpenError> {
        let path = dir.into();
        lock::create_dir(&path, self.modes.dir)?;
        let lock = lock::acquire(&path, &self.label)?;
        let disk = Disk::open(path.clone(), self.durability, self.modes, lock);
        // A process that died may have left names unsynced that this one is going to rely on.
        let disk = disk.and_then(|disk| disk.sync_names().map(|()| disk));
        let disk = disk.map_err(|source| OpenError::Use { path: path.clone(), source })?;
        let secret = secret::load_or_create(&path)?;
        Ok(FileStore { secret, shared: Arc::new(Shared::new(disk)) })
    }
}
