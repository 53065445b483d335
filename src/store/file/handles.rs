//! [`Handles`]: files of open uploads, kept open between requests. Bounded; knows no record.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    sync::{Arc, Mutex},
};

use super::lock;
use crate::upload::UploadId;

/// Uploads whose files are kept open at most, at two descriptors each. More only costs the time to
/// open them again.
const MAX_UPLOADS: usize = 128;

/// Which file of an upload.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    /// The private bytes.
    Part,
    /// The change log.
    Record,
}

/// Files that the next request to their uploads finds open. Whoever gives one of these names to
/// another file, or takes it away, has them forgotten.
#[derive(Debug, Default)]
pub(super) struct Handles(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    files: HashMap<UploadId, [Option<Arc<File>>; 2]>,
    /// The ids in `files` in the order in which they came, and some that are not there any more.
    order: VecDeque<UploadId>,
}

impl Handles {
    /// The file, if it is open.
    pub(super) fn get(&self, id: &UploadId, which: Which) -> Option<Arc<File>> {
        lock(&self.0).files.get(id)?[which as usize].clone()
    }

    /// Keeps `file` open, in the place of the oldest where there is no other.
    pub(super) fn keep(&self, id: &UploadId, which: Which, file: Arc<File>) {
        let mut kept = lock(&self.0);
        if let Some(files) = kept.files.get_mut(id) {
            files[which as usize] = Some(file);
            return;
        }
        let mut files = [None, None];
        files[which as usize] = Some(file);
        kept.files.insert(id.clone(), files);
        kept.order.push_back(id.clone());
        while kept.files.len() > MAX_UPLOADS
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.files.remove(&oldest);
        }
        if kept.order.len() > 2 * MAX_UPLOADS {
            let Kept { files, order } = &mut *kept;
            order.retain(|id| files.contains_key(id));
        }
    }

    /// Closes the files of `id`, once nobody uses them.
    pub(super) fn forget(&self, id: &UploadId) {
        let files = lock(&self.0).files.remove(id);
        // Closed without the lock.
        drop(files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: usize) -> UploadId {
        format!("a{index}").parse().expect("plain")
    }

    #[test]
    fn so_many_files_are_kept_and_no_more() {
        let handles = Handles::default();
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        let is_kept = |index: usize, which| handles.get(&id(index), which).is_some();
        for index in 0..3 * MAX_UPLOADS {
            handles.keep(&id(index), Which::Part, Arc::clone(&file));
            handles.keep(&id(index), Which::Record, Arc::clone(&file));
        }
        assert_eq!(Arc::strong_count(&file), 1 + 2 * MAX_UPLOADS);
        assert!(is_kept(3 * MAX_UPLOADS - 1, Which::Part));
        assert!(is_kept(2 * MAX_UPLOADS, Which::Record));
        assert!(!is_kept(2 * MAX_UPLOADS - 1, Which::Part));
        handles.forget(&id(2 * MAX_UPLOADS));
        assert!(!is_kept(2 * MAX_UPLOADS, Which::Record));
        // Ids that come and go leave nothing behind.
        for index in 0..10 * MAX_UPLOADS {
            handles.keep(&id(index), Which::Part, Arc::clone(&file));
            handles.forget(&id(index));
        }
        assert!(lock(&handles.0).order.len() <= 2 * MAX_UPLOADS);
    }
}
