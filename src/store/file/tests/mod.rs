//! Tests of the file store: what others than [`Store`] see of it.

mod bytes;
mod crash;
mod damage;
mod faults;
mod joins;
mod names;
mod power;
pub(super) mod probe;
mod script;
mod surplus;
mod wrapped;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{DirEntryExt as _, symlink},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use async_trait::async_trait;

use super::{FileStore, OpenError};
use crate::{
    store::{
        Durability, Store,
        conformance::{self, Place},
    },
    upload::{Change, VoidReason},
};

/// The change that gives the bytes of an upload up.
const VOIDED: Change = Change::Voided { why: VoidReason::Removed, until: Some(UNIX_EPOCH) };

/// A directory of its own for a store.
struct Directory {
    path: PathBuf,
    durability: Durability,
    /// Whether the disk is taken to be slow, so that threads do what they would do then.
    slow: bool,
    /// Removes it in the end.
    _temporary: Option<tempfile::TempDir>,
}

impl Directory {
    fn new(durability: Durability) -> Self {
        let temporary = tempfile::tempdir().expect("a directory");
        let place = Self::at(&temporary.path().join("data"), durability);
        Self { _temporary: Some(temporary), ..place }
    }

    /// One in memory, if there is such a place: for tests that sync thousands of times.
    fn quick(durability: Durability) -> Self {
        let temporary = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let temporary = temporary.expect("a directory");
        let place = Self::at(&temporary.path().join("data"), durability);
        Self { _temporary: Some(temporary), ..place }
    }

    /// One that exists.
    fn at(path: &Path, durability: Durability) -> Self {
        Self { path: path.to_owned(), durability, slow: false, _temporary: None }
    }

    fn slow(durability: Durability) -> Self {
        Self { slow: true, ..Self::new(durability) }
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file lies in it.
    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens the store as soon as what is left of the one before is gone.
    async fn open(&self) -> FileStore {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match self.try_open() {
                Ok(store) => return store,
                Err(OpenError::InUse { .. }) if Instant::now() < deadline => {
                    tokio::task::yield_now().await;
                }
                Err(e) => panic!("{e}"),
            }
        }
    }

    /// Opens the store, unless something is left of the one before.
    fn try_open(&self) -> Result<FileStore, OpenError> {
        let store = FileStore::open(&self.path, self.durability)?;
        if self.slow {
            store.shared.disk.dispatcher().back_off(Duration::MAX);
        }
        Ok(store)
    }

    /// What lies in it, without what belongs to the store itself.
    fn names(&self) -> BTreeSet<String> {
        names(self.path())
    }
}

/// What lies in a directory, without what belongs to the store itself.
fn names(path: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(path).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("a name in UTF-8"));
    names.filter(|name| name != ".lock" && name != ".secret").collect()
}

/// Copies a directory with everything in it. Names of one file are names of one file in the copy.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    copy_into(from, to, &mut BTreeMap::new())
}

/// The same; `copied` are the files copied already, by their numbers.
fn copy_into(from: &Path, to: &Path, copied: &mut BTreeMap<u64, PathBuf>) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_into(&entry.path(), &target, copied)?;
        } else if let Some(other) = copied.get(&entry.ino()) {
            fs::hard_link(other, target)?;
        } else if entry.file_type()?.is_symlink() {
            symlink(fs::read_link(entry.path())?, target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            copied.insert(entry.ino(), target);
        }
    }
    Ok(())
}

/// The names given.
fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// The error number 5, as of a broken disk.
fn broken() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

/// The error number 28, as of a full disk.
fn full() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error())
}

#[async_trait]
impl Place for Directory {
    async fn open(&mut self) -> Result<Arc<dyn Store>, conformance::OpenError> {
        Ok(Arc::new(self.try_open()?))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn relaxed_store_conforms() {
    conformance::run(|| Box::new(Directory::new(Durability::Relaxed))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn synced_store_conforms() {
    conformance::run(|| Box::new(Directory::new(Durability::Synced))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn relaxed_store_on_a_slow_disk_conforms() {
    conformance::run(|| Box::new(Directory::slow(Durability::Relaxed))).await;
}

#[tokio::test]
async fn store_on_one_thread_conforms() {
    conformance::run(|| Box::new(Directory::slow(Durability::Synced))).await;
}
