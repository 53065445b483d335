//! [`OpenError`], and exclusive access to a data directory by a lock file.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// The name of the lock file. Not a valid upload id.
const LOCK_NAME: &str = ".lock";

/// The mode of the lock file: a user who may open it can lock it and keep the server from starting.
const LOCK_MODE: u32 = 0o600;

/// Bytes of a lock file that are shown in errors: a process id and a label. Bounds unexpected
/// content.
const MAX_HOLDER_BYTES: u64 = 256;

/// Errors of opening a data directory.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory does not exist and cannot be created.
    #[error("cannot create the data directory {}: {source}; create it or name another one", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The directory is in use by another process, or by another store of this one.
    #[error(
        "the data directory {} is in use by {holder}; stop that process or name another directory",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that has it, as its lock file names it.
        holder: String,
    },
    /// The lock failed, as on file systems without locks.
    #[error("cannot lock {}: {source}; use a directory on a local file system", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The secret from which keys are derived is missing or damaged.
    #[error(
        "{} {fault}, and without it clients cannot find their uploads by name; \
         restore it from a backup, or abandon those uploads with: head -c {} /dev/urandom > {}",
        path.display(), super::secret::SECRET_BYTES, path.display()
    )]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The directory cannot be read or written.
    #[error("cannot use the data directory {}: {source}; let this user write to it", path.display())]
    Use {
        /// The directory.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
}

/// Creates the directory and its parents with `mode` if they do not exist, durably. Warns when an
/// existing directory is accessible to more users.
pub(super) fn create_dir(path: &Path, mode: u32) -> Result<(), OpenError> {
    let failed = |source| OpenError::Create { path: path.to_owned(), source };
    // An absolute path has a parent for every directory that is created.
    let absolute = std::path::absolute(path).map_err(failed)?;
    let missing = absolute.ancestors().take_while(|dir| !dir.exists());
    let parents: Vec<&Path> = missing.filter_map(Path::parent).collect();
    DirBuilder::new().recursive(true).mode(mode).create(&absolute).map_err(failed)?;
    for parent in parents {
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed)?;
    }
    let found = absolute.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if found & !mode != 0 {
        let path = path.display();
        tracing::warn!(
            "the data directory {path} has mode {found:04o}, so other users may read uploads: \
             chmod {mode:04o} {path}, or open it with that mode (--dir-mode {found:04o})"
        );
    }
    Ok(())
}

/// Locks the directory for this process and writes `label` for other processes to read. Dropping
/// the returned file, or the end of the process, unlocks it.
pub(super) fn acquire(dir: &Path, label: &str) -> Result<File, OpenError> {
    let path = dir.join(LOCK_NAME);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(LOCK_MODE);
    let opened = options.open(&path);
    let mut file = opened.map_err(|source| OpenError::Use { path: dir.to_owned(), source })?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::InUse { path: dir.to_owned(), holder: holder(&file) });
        }
        Err(TryLockError::Error(source)) => return Err(OpenError::Lock { path, source }),
    }
    // Only informational: a full disk must not keep a server from starting.
    let label: String = label.chars().filter(|c| !c.is_control()).collect();
    let text = format!("process {} {label}", std::process::id());
    if let Err(e) = file.set_len(0).and_then(|()| writeln!(file, "{}", text.trim_end())) {
        tracing::warn!(error = %e, "cannot write the lock file");
    }
    Ok(file)
}

/// Returns the owner of the lock, as the lock file names it.
fn holder(file: &File) -> String {
    let mut text = String::new();
    match file.take(MAX_HOLDER_BYTES).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        Ok(_) | Err(_) => "another process".to_owned(),
    }
}
