//! Opening a data directory, alone: [`OpenError`] and the lock file.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// The file that is locked while a process has the directory. Not the name of any upload.
const LOCK_NAME: &str = ".lock";

/// Whoever may open the lock file may lock it and keep the server from starting.
const LOCK_MODE: u32 = 0o600;

/// Bytes of a lock file that are shown: a process id and a label. Whatever else may lie there is
/// not worth more.
const MAX_HOLDER_BYTES: u64 = 256;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is not there and cannot be made.
    #[error("cannot create the data directory {}: {source}; create it or name another one", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// The directory is in use.
    #[error(
        "the data directory {} is in use by {holder}; stop that process or name another directory",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that has it, as it calls itself.
        holder: String,
    },
    /// The file system has no locks.
    #[error("cannot lock {}: {source}; use a directory on a local file system", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// The secret that the names of uploads depend on is lost.
    #[error(
        "{} {fault}, and without it clients do not find the uploads that they name (ResumableJS); \
         restore it from a backup, or give those uploads up with: head -c {} /dev/urandom > {}",
        path.display(), super::secret::SECRET_BYTES, path.display()
    )]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The directory cannot be written to.
    #[error("cannot use the data directory {}: {source}; let this user write to it", path.display())]
    Use {
        /// The directory.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
}

/// Makes the directory and its parents if they are not there, durably and with this mode. Warns of
/// one that lets in more users.
pub(super) fn create_dir(path: &Path, mode: u32) -> Result<(), OpenError> {
    let failed = |source| OpenError::Create { path: path.to_owned(), source };
    // An absolute path has a parent for every name that is made.
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

/// Takes the directory for this process and leaves `label` for others to read. The lock goes with
/// the file given, or with the process.
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
    // Only a help for whoever is refused: a full disk must not keep a server from reading.
    let label: String = label.chars().filter(|c| !c.is_control()).collect();
    let text = format!("process {} {label}", std::process::id());
    if let Err(e) = file.set_len(0).and_then(|()| writeln!(file, "{}", text.trim_end())) {
        tracing::warn!(error = %e, "cannot write a name into the lock file");
    }
    Ok(file)
}

/// Who has the directory, as far as its lock file tells.
fn holder(file: &File) -> String {
    let mut text = String::new();
    match file.take(MAX_HOLDER_BYTES).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        Ok(_) | Err(_) => "another process".to_owned(),
    }
}
