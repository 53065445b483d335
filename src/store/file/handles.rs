//! [`Handles`]: a bounded cache of the open files of open uploads, used across requests.

use std::{
    collections::{HashSet, VecDeque},
    fs::File,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::process::{Resource, getrlimit};

use super::{
    entry::{Entry, EntryRef},
    lock,
};

/// Maximum number of uploads with open files, at [`DESCRIPTORS_EACH`]. A miss only costs opening
/// the files again.
const MAX_UPLOADS: usize = 128;

/// File descriptors per upload.
const DESCRIPTORS_EACH: usize = 2;

/// The cache uses at most one in this many of the descriptors that the process may have;
/// connections and requests need the others.
const DESCRIPTORS_SHARE: usize = 4;

/// Which file of an upload is cached.
#[derive(Debug, Clone, Copy)]
pub(super) enum CachedFile {
    /// The data file, `<id>.part`.
    Data,
    /// The change log, `<id>.record`.
    Record,
}

/// The open files of one upload; stored in its entry.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: [Option<Arc<File>>; 2],
    counted: Option<CountGuard>,
}

/// Counts an upload with open files until dropped.
#[derive(Debug)]
struct CountGuard(Arc<AtomicUsize>);

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The uploads with open files. Code that renames or unlinks one of the files must call
/// [`Handles::close`].
#[derive(Debug)]
pub(super) struct Handles {
    /// Maximum number of uploads with open files.
    max_uploads: usize,
    /// Number of uploads with open files.
    uploads: Arc<AtomicUsize>,
    /// Eviction order, oldest first. Some entries may have no open file any more.
    order: Mutex<VecDeque<Weak<Entry>>>,
}

impl Handles {
    /// Creates an empty cache sized by the descriptor limit of the process.
    pub(super) fn within_limits() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current;
        let descriptors = descriptors.and_then(|limit| usize::try_from(limit).ok());
        Self::within(descriptors.unwrap_or(usize::MAX))
    }

    /// Creates an empty cache for a process with this many descriptors.
    fn within(descriptors: usize) -> Self {
        let max_uploads = MAX_UPLOADS.min(descriptors / DESCRIPTORS_SHARE / DESCRIPTORS_EACH);
        Self { max_uploads, uploads: Arc::default(), order: Mutex::default() }
    }

    /// Returns the file if it is open.
    pub(super) fn get(entry: &Entry, kind: CachedFile) -> Option<Arc<File>> {
        lock(&entry.files).files[kind as usize].clone()
    }

    /// Caches `file`. When there are too many uploads, the files of the oldest are closed.
    pub(super) fn insert(&self, entry: &EntryRef, kind: CachedFile, file: Arc<File>) {
        let mut files = lock(&entry.files);
        files.files[kind as usize] = Some(file);
        if files.counted.is_some() {
            return;
        }
        let before = self.uploads.fetch_add(1, Ordering::Relaxed);
        files.counted = Some(CountGuard(Arc::clone(&self.uploads)));
        drop(files);
        let mut order = lock(&self.order);
        order.push_back(entry.downgrade());
        let mut oldest = None;
        if before >= self.max_uploads {
            oldest = std::iter::from_fn(|| order.pop_front()).find_map(|entry| take_open(&entry));
        }
        if order.len() > 2 * self.max_uploads {
            let mut seen = HashSet::new();
            order.retain(|entry| has_files(entry) && seen.insert(entry.as_ptr()));
        }
        drop(order);
        // Closed without the lock.
        drop(oldest);
    }

    /// Closes all files; a file in use is closed after its last use. Returns whether there were
    /// any.
    pub(super) fn close_all(&self) -> bool {
        let order = std::mem::take(&mut *lock(&self.order));
        order.iter().filter_map(take_open).count() > 0
    }

    /// Closes the files of an upload; a file in use is closed after its last use.
    pub(super) fn close(entry: &Entry) {
        drop(take_files(entry));
    }
}

/// Takes the files out of an entry, so that they are closed without its lock.
fn take_files(entry: &Entry) -> Files {
    std::mem::take(&mut *lock(&entry.files))
}

/// Takes the files out of an entry; `None` when it has none open.
fn take_open(entry: &Weak<Entry>) -> Option<Files> {
    let files = take_files(&*entry.upgrade()?);
    files.counted.is_some().then_some(files)
}

fn has_files(entry: &Weak<Entry>) -> bool {
    let entry = entry.upgrade();
    entry.is_some_and(|entry| lock(&entry.files).counted.is_some())
}

#[cfg(test)]
mod tests {
    use super::{super::entry::Cache, *};

    #[test]
    fn so_many_files_are_kept_and_no_more() {
        let (cache, handles) = (Cache::default(), Handles::within(usize::MAX));
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        let entry = |index: usize| cache.entry(&format!("a{index}").parse().expect("plain"));
        let entries: Vec<_> = (0..3 * MAX_UPLOADS).map(entry).collect();
        let is_kept = |index: usize, kind| Handles::get(&entries[index], kind).is_some();
        for entry in &entries {
            handles.insert(entry, CachedFile::Data, Arc::clone(&file));
            handles.insert(entry, CachedFile::Record, Arc::clone(&file));
        }
        assert_eq!(Arc::strong_count(&file), 1 + 2 * MAX_UPLOADS);
        assert!(is_kept(3 * MAX_UPLOADS - 1, CachedFile::Data));
        assert!(is_kept(2 * MAX_UPLOADS, CachedFile::Record));
        assert!(!is_kept(2 * MAX_UPLOADS - 1, CachedFile::Data));
        Handles::close(&entries[2 * MAX_UPLOADS]);
        assert!(!is_kept(2 * MAX_UPLOADS, CachedFile::Record));
        // Inserting and closing the same upload leaves nothing behind and evicts no other.
        for _ in 0..10 * MAX_UPLOADS {
            handles.insert(&entries[0], CachedFile::Data, Arc::clone(&file));
            Handles::close(&entries[0]);
        }
        assert!(lock(&handles.order).len() <= 2 * MAX_UPLOADS);
        assert!(is_kept(2 * MAX_UPLOADS + 1, CachedFile::Data));
        // Neither does a dropped entry.
        drop(entries);
        assert_eq!(Arc::strong_count(&file), 1);
        assert_eq!(handles.uploads.load(Ordering::Relaxed), 0);
    }
}
