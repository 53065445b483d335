//! [`Handles`]: files of open uploads, kept open between requests. Bounded; knows no record.

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

/// Uploads whose files are kept open at most, at [`DESCRIPTORS_EACH`]. More only costs the time to
/// open them again.
const MAX_UPLOADS: usize = 128;

/// Descriptors of an upload whose files are kept open.
const DESCRIPTORS_EACH: usize = 2;

/// They take no more than this part of the descriptors that the process may have: connections and
/// requests need the others.
const DESCRIPTORS_SHARE: usize = 4;

/// Which file of an upload.
#[derive(Debug, Clone, Copy)]
pub(super) enum CachedFile {
    /// The private bytes.
    Data,
    /// The change log.
    Record,
}

/// Files of one upload that the next request finds open; they lie in its entry.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: [Option<Arc<File>>; 2],
    counted: Option<CountGuard>,
}

/// An upload that has files open.
#[derive(Debug)]
struct CountGuard(Arc<AtomicUsize>);

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Which uploads have files open. Whoever gives one of their names to another file, or takes it away,
/// has them forgotten.
#[derive(Debug)]
pub(super) struct Handles {
    /// How many there may be.
    max_uploads: usize,
    /// How many there are.
    uploads: Arc<AtomicUsize>,
    /// In the order in which they came, and some that have no file open any more.
    order: Mutex<VecDeque<Weak<Entry>>>,
}

impl Handles {
    /// Without files. There will be as many as suit the limits of the process.
    pub(super) fn within_limits() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current;
        let descriptors = descriptors.and_then(|limit| usize::try_from(limit).ok());
        Self::within(descriptors.unwrap_or(usize::MAX))
    }

    /// Without files, in a process that may have so many descriptors.
    fn within(descriptors: usize) -> Self {
        let max_uploads = MAX_UPLOADS.min(descriptors / DESCRIPTORS_SHARE / DESCRIPTORS_EACH);
        Self { max_uploads, uploads: Arc::default(), order: Mutex::default() }
    }

    /// The file, if it is open.
    pub(super) fn get(entry: &Entry, kind: CachedFile) -> Option<Arc<File>> {
        lock(&entry.files).files[kind as usize].clone()
    }

    /// Keeps `file` open. If those are too many uploads, the files of the oldest are closed.
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

    /// Closes all files, those in use once they are not. Says whether there were any.
    pub(super) fn close_all(&self) -> bool {
        let order = std::mem::take(&mut *lock(&self.order));
        order.iter().filter_map(take_open).count() > 0
    }

    /// Closes the files, once nobody uses them.
    pub(super) fn close(entry: &Entry) {
        drop(take_files(entry));
    }
}

/// The files of an entry, which has none from now on. They are closed without its lock.
fn take_files(entry: &Entry) -> Files {
    std::mem::take(&mut *lock(&entry.files))
}

/// The files of an entry that had some, to be closed.
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
        // Those that come and go leave nothing behind, and do not drive out those that stay.
        for _ in 0..10 * MAX_UPLOADS {
            handles.insert(&entries[0], CachedFile::Data, Arc::clone(&file));
            Handles::close(&entries[0]);
        }
        assert!(lock(&handles.order).len() <= 2 * MAX_UPLOADS);
        assert!(is_kept(2 * MAX_UPLOADS + 1, CachedFile::Data));
        // Nor does an entry that is gone.
        drop(entries);
        assert_eq!(Arc::strong_count(&file), 1);
        assert_eq!(handles.uploads.load(Ordering::Relaxed), 0);
    }
}
