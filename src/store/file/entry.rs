//! [`Entry`]: the in-memory state of one id, and [`Cache`]: the bounded map of entries. Does no
//! I/O.

use std::{
    collections::{HashMap, VecDeque},
    ops::Deref,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::sync::OwnedMutexGuard;

use super::{handles::Files, lock, surplus::Surplus, writer::WriteQueue};
use crate::upload::{Role, Upload, UploadId};

/// Maximum number of entries while unused ones can be evicted. Well above the uploads of a busy
/// hour, at about 300 bytes each.
const MAX_ENTRIES: usize = 16_384;

/// Approximate maximum of bytes in cached records while unused entries can be evicted. Records with
/// much metadata or many gaps reach it before [`MAX_ENTRIES`].
const MAX_ENTRY_BYTES: usize = 16 << 20;

/// Eviction candidates examined per insertion, so that inserting stays cheap when all entries are
/// in use.
const EVICTION_TRIES: usize = 8;

/// The in-memory state of one id. At most one entry exists per id, so the owner of the lock on its
/// log has exclusive access to the files of that id.
#[derive(Debug)]
pub(super) struct Entry {
    /// The id of the upload.
    pub(super) id: UploadId,
    /// The last committed record; `None` means that it must be read from disk. Locked only to copy
    /// or replace the `Arc`.
    current: Mutex<Option<Arc<Upload>>>,
    /// Locked while the files of the upload are read or changed.
    log: Arc<tokio::sync::Mutex<Log>>,
    /// Queues of writers dropped in the middle of a write. See [`Entry::wait_idle`].
    abandoned: Mutex<Vec<Weak<WriteQueue>>>,
    /// Bytes in the data file that are not committed.
    pub(super) surplus: Surplus,
    /// Whether the entry was used since the last eviction pass.
    touched: AtomicBool,
    /// The cache that owns the entry.
    slots: Weak<Mutex<Slots>>,
    /// The open files of the upload, see [`Handles`](super::handles::Handles).
    pub(super) files: Mutex<Files>,
    /// The share of this entry in [`Slots::bytes`]. 0 until a record is cached for the first time;
    /// until then the entry is not an eviction candidate.
    weight: AtomicUsize,
}

/// The state of the change log on disk. Meaningless while the entry has no record.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Length of the committed lines in bytes: the position of the next line.
    pub(super) bytes: u64,
    /// Length of the first line in bytes.
    pub(super) base_bytes: u64,
    /// Whether uncommitted bytes may follow the committed lines.
    pub(super) torn: bool,
}

/// A reference to an entry. The entry is not evicted while one exists.
#[derive(Debug, Clone)]
pub(super) struct EntryRef {
    /// `None` only during drop.
    entry: Option<Arc<Entry>>,
}

/// Exclusive access to the files of an upload.
#[derive(Debug)]
pub(super) struct EntryGuard {
    // Field order matters: the lock is released before the entry may be evicted.
    /// The change log.
    pub(super) log: OwnedMutexGuard<Log>,
    /// The locked entry.
    pub(super) entry: EntryRef,
}

impl EntryRef {
    /// Waits for exclusive access to the files of the upload.
    ///
    /// # Cancel safety
    /// Cancel safe. Dropping the future loses the place in the queue.
    pub(super) async fn lock(self) -> EntryGuard {
        let log = Arc::clone(&self.log).lock_owned().await;
        EntryGuard { log, entry: self }
    }

    /// Returns `None` instead of waiting when the files are in use.
    pub(super) fn try_lock(self) -> Option<EntryGuard> {
        let log = Arc::clone(&self.log).try_lock_owned().ok()?;
        Some(EntryGuard { log, entry: self })
    }

    /// Returns a weak reference to the entry.
    pub(super) fn downgrade(&self) -> Weak<Entry> {
        self.entry.as_ref().map(Arc::downgrade).unwrap_or_default()
    }

    /// Replaces the cached record; `None` means that it must be read from disk.
    pub(super) fn set(&self, current: Option<Arc<Upload>>) {
        *lock(&self.current) = current;
        // No race: the caller has the entry locked.
        let now = self.weigh();
        let before = self.weight.swap(now, Ordering::Relaxed);
        if before != now
            && let Some(slots) = self.slots.upgrade()
        {
            lock(&slots).reweigh(self, before, now);
        }
    }
}

impl Deref for EntryRef {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        self.entry.as_ref().expect("only drop takes the entry out")
    }
}

impl Drop for EntryRef {
    /// Removes an entry without a record together with its last reference, so that requests for
    /// unknown ids use no memory.
    fn drop(&mut self) {
        let Some(entry) = self.entry.take() else {
            return;
        };
        // An entry with a record, or with one a moment ago, is left to eviction.
        if entry.current().is_some() {
            return;
        }
        let Some(slots) = entry.slots.upgrade() else {
            return;
        };
        let mut slots = lock(&slots);
        let id = entry.id.clone();
        drop(entry);
        slots.evict_if(&id, |entry| entry.current().is_none());
    }
}

impl Entry {
    fn new(id: UploadId, slots: Weak<Mutex<Slots>>) -> Self {
        Self {
            id,
            slots,
            current: Mutex::default(),
            log: Arc::default(),
            abandoned: Mutex::default(),
            surplus: Surplus::default(),
            touched: AtomicBool::new(true),
            files: Mutex::default(),
            weight: AtomicUsize::new(0),
        }
    }

    /// Returns the last committed record; `None` means that it must be read from disk.
    pub(super) fn current(&self) -> Option<Arc<Upload>> {
        lock(&self.current).clone()
    }

    /// Registers a writer that was dropped while a thread may still be writing for it.
    pub(super) fn abandon(&self, queue: &Arc<WriteQueue>) {
        let mut abandoned = lock(&self.abandoned);
        abandoned.retain(|queue| queue.strong_count() > 0);
        abandoned.push(Arc::downgrade(queue));
    }

    /// Waits until no thread writes for a dropped writer or reclaims its bytes. Bytes written
    /// afterwards cannot be overwritten by older ones.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn wait_idle(&self) {
        self.surplus.wait_idle().await;
        let abandoned = lock(&self.abandoned).clone();
        if abandoned.is_empty() {
            return;
        }
        for queue in abandoned.iter().filter_map(Weak::upgrade) {
            queue.wait_idle().await;
        }
        lock(&self.abandoned).retain(|queue| queue.strong_count() > 0);
    }

    /// Returns the approximate size of the entry in bytes.
    fn weigh(&self) -> usize {
        let own = size_of::<Self>() + size_of::<Log>() + 3 * self.id.as_str().len() + 128;
        own + self.current().map_or(0, |upload| weight(&upload))
    }
}

/// Returns the approximate size of a record in memory, in bytes.
fn weight(upload: &Upload) -> usize {
    let partials = match &upload.role {
        Role::Whole | Role::Partial { .. } => 0,
        Role::Final { partials, text } => text.len() + 64 * partials.len(),
    };
    // Metadata is stored as text and as decoded entries.
    size_of::<Upload>()
        + 2 * upload.metadata.as_text().len()
        + 16 * upload.received.runs()
        + partials
}

/// The bounded map of entries.
#[derive(Debug, Default)]
pub(super) struct Cache(Arc<Mutex<Slots>>);

#[derive(Debug, Default)]
struct Slots {
    entries: HashMap<UploadId, Arc<Entry>>,
    /// Eviction candidates, oldest first. Some ids may have been removed already.
    order: VecDeque<UploadId>,
    /// The sum of all weights, in bytes.
    bytes: usize,
}

impl Cache {
    /// Returns the cached record of `id` and marks the entry as used.
    pub(super) fn current(&self, id: &UploadId) -> Option<Arc<Upload>> {
        let slots = lock(&self.0);
        let entry = slots.entries.get(id)?;
        entry.touched.store(true, Ordering::Relaxed);
        entry.current()
    }

    /// Returns the cached record of `id` without marking the entry as used.
    pub(super) fn peek(&self, id: &UploadId) -> Option<Arc<Upload>> {
        lock(&self.0).entries.get(id)?.current()
    }

    /// Returns the entry of `id`, created without a record if there is none.
    pub(super) fn entry(&self, id: &UploadId) -> EntryRef {
        let mut slots = lock(&self.0);
        let entry = match slots.entries.get(id) {
            Some(entry) => Arc::clone(entry),
            None => {
                let entry = Arc::new(Entry::new(id.clone(), Arc::downgrade(&self.0)));
                slots.entries.insert(id.clone(), Arc::clone(&entry));
                entry
            }
        };
        entry.touched.store(true, Ordering::Relaxed);
        EntryRef { entry: Some(entry) }
    }
}

impl Slots {
    /// Updates the weight of `entry`, which is in use. The first call makes it an eviction
    /// candidate.
    fn reweigh(&mut self, entry: &Entry, before: usize, now: usize) {
        self.bytes = self.bytes - before + now;
        if before == 0 {
            self.make_room();
            self.order.push_back(entry.id.clone());
        }
    }

    /// Evicts entries until there is room for one more. Recently used ones get a second chance.
    fn make_room(&mut self) {
        for _ in 0..EVICTION_TRIES {
            if self.order.len() < MAX_ENTRIES && self.bytes < MAX_ENTRY_BYTES {
                return;
            }
            let Some(id) = self.order.pop_front() else {
                return;
            };
            let untouched = |entry: &Entry| !entry.touched.swap(false, Ordering::Relaxed);
            if !self.evict_if(&id, untouched) && self.entries.contains_key(&id) {
                self.order.push_back(id);
            }
        }
    }

    /// Removes the entry of `id` if only the cache references it and `idle` returns true. Returns
    /// whether it was removed.
    ///
    /// References are only created under the lock of the cache, so no reference can appear in
    /// between.
    fn evict_if(&mut self, id: &UploadId, idle: impl FnOnce(&Entry) -> bool) -> bool {
        let unused = |entry: &Arc<Entry>| Arc::strong_count(entry) == 1 && idle(entry);
        if !self.entries.get(id).is_some_and(unused) {
            return false;
        }
        if let Some(entry) = self.entries.remove(id) {
            self.bytes -= entry.weight.load(Ordering::Relaxed);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    /// Caches a record without keeping a reference to its entry.
    fn keep(cache: &Cache, id: &str, metadata: &str) {
        let mut upload = conformance::upload(id, Some(5));
        upload.metadata = metadata.parse().expect("plain metadata");
        cache.entry(&upload.id).set(Some(Arc::new(upload)));
    }

    fn of(id: &str) -> UploadId {
        id.parse().expect("plain")
    }

    /// Returns the number of entries and their total weight in bytes.
    fn size(cache: &Cache) -> (usize, usize) {
        let slots = lock(&cache.0);
        let weight = |entry: &Arc<Entry>| entry.weight.load(Ordering::Relaxed);
        let weights: usize = slots.entries.values().map(weight).sum();
        assert_eq!(slots.bytes, weights);
        (slots.entries.len(), slots.bytes)
    }

    #[test]
    fn unknown_ids_leave_nothing_behind() {
        let cache = Cache::default();
        for index in 0..1_000 {
            let id = of(&format!("a{index}"));
            let (first, second) = (cache.entry(&id), cache.entry(&id));
            drop(first);
            assert_eq!(size(&cache).0, 1);
            drop(second);
        }
        assert_eq!(size(&cache), (0, 0));
        assert!(lock(&cache.0).order.is_empty());
    }

    #[test]
    fn number_of_entries_is_bounded() {
        let cache = Cache::default();
        for index in 0..3 * MAX_ENTRIES {
            keep(&cache, &format!("a{index}"), "");
            // An entry in steady use is not evicted.
            assert!(cache.current(&of("a0")).is_some(), "{index}");
        }
        let (entries, _) = size(&cache);
        assert!((MAX_ENTRIES / 2..=MAX_ENTRIES).contains(&entries), "{entries}");
        assert!(lock(&cache.0).order.len() <= MAX_ENTRIES);
    }

    #[test]
    fn weight_of_entries_is_bounded() {
        let cache = Cache::default();
        let metadata = format!("key {}", "QUJD".repeat(25_000));
        for index in 0..500 {
            keep(&cache, &format!("a{index}"), &metadata);
        }
        let (entries, bytes) = size(&cache);
        assert!(bytes <= MAX_ENTRY_BYTES + 500_000, "{bytes}");
        assert!((20..500).contains(&entries), "{entries}");
    }

    #[test]
    fn entry_in_use_is_never_evicted() {
        let cache = Cache::default();
        let used = cache.entry(&of("used"));
        used.set(Some(Arc::new(conformance::upload("used", Some(7)))));
        for index in 0..3 * MAX_ENTRIES {
            keep(&cache, &format!("a{index}"), "");
        }
        let again = cache.entry(&of("used"));
        assert_eq!(again.current().expect("known").length, Some(7));
        assert!(std::ptr::eq::<Entry>(&*used, &*again));
    }

    #[test]
    fn forgotten_record_is_dropped_with_its_last_user() {
        let cache = Cache::default();
        keep(&cache, "a", "");
        let (first, second) = (cache.entry(&of("a")), cache.entry(&of("a")));
        first.set(None);
        assert!(cache.current(&of("a")).is_none());
        drop(first);
        assert_eq!(size(&cache).0, 1);
        drop(second);
        assert_eq!(size(&cache), (0, 0));
    }
}
