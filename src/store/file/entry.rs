//! [`Entry`]: everything this process knows about one id, and [`Cache`]: all entries. No files.

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

/// Entries kept at most, as long as nobody uses the rest: well above the uploads of a busy hour, at
/// about 300 bytes each.
const MAX_ENTRIES: usize = 16_384;

/// Approximate bytes of records kept at most, as long as nobody uses the rest. Records with much
/// metadata or many gaps reach it before [`MAX_ENTRIES`].
const MAX_ENTRY_BYTES: usize = 16 << 20;

/// Entries looked at for each one added, so that adding stays cheap when all are in use.
const EVICTION_TRIES: usize = 8;

/// What is known about one id. There is at most one entry of an id, so whoever holds its log is
/// alone with the files of that id.
#[derive(Debug)]
pub(super) struct Entry {
    /// Which upload.
    pub(super) id: UploadId,
    /// The record as committed; `None` = the disk knows. Held for a moment only.
    current: Mutex<Option<Arc<Upload>>>,
    /// Held by whoever changes or reads the files that the record speaks of.
    log: Arc<tokio::sync::Mutex<Log>>,
    /// Writers given up in mid-write. See [`Entry::quiet`].
    abandoned: Mutex<Vec<Weak<WriteQueue>>>,
    /// Bytes in its data file that are not recorded.
    pub(super) surplus: Surplus,
    /// Whether it was asked for since the cache last looked for room.
    touched: AtomicBool,
    /// Where it is kept.
    slots: Weak<Mutex<Slots>>,
    /// Its files that are open, see [`Handles`](super::handles::Handles).
    pub(super) files: Mutex<Files>,
    /// Its share of [`Slots::bytes`]; 0 until a record was known, and not considered for eviction
    /// until then.
    weight: AtomicUsize,
}

/// The change log on disk. Means nothing while the entry has no record.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The length of its committed lines in bytes: where the next line goes.
    pub(super) bytes: u64,
    /// The length of its first line in bytes.
    pub(super) base_bytes: u64,
    /// Whether bytes that were never committed may follow.
    pub(super) torn: bool,
}

/// An entry that somebody uses: it stays where it is until this is dropped.
#[derive(Debug, Clone)]
pub(super) struct EntryRef {
    /// `None` only while it is dropped.
    entry: Option<Arc<Entry>>,
}

/// An entry with whose files the holder is alone.
#[derive(Debug)]
pub(super) struct EntryGuard {
    // Dropped before the lease: an entry that may be evicted is held by nobody.
    /// Its change log.
    pub(super) log: OwnedMutexGuard<Log>,
    /// The entry.
    pub(super) entry: EntryRef,
}

impl EntryRef {
    /// Waits to be alone with the files of the upload.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in the queue.
    pub(super) async fn lock(self) -> EntryGuard {
        let log = Arc::clone(&self.log).lock_owned().await;
        EntryGuard { log, entry: self }
    }

    /// The same without waiting; `None` while its files are in use.
    pub(super) fn try_lock(self) -> Option<EntryGuard> {
        let log = Arc::clone(&self.log).try_lock_owned().ok()?;
        Some(EntryGuard { log, entry: self })
    }

    /// The entry, as long as somebody else keeps it.
    pub(super) fn downgrade(&self) -> Weak<Entry> {
        self.entry.as_ref().map(Arc::downgrade).unwrap_or_default()
    }

    /// Sets the record; `None` = the disk knows.
    pub(super) fn set(&self, current: Option<Arc<Upload>>) {
        *lock(&self.current) = current;
        // Alone: whoever sets the record holds its files.
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
        self.entry.as_ref().expect("an entry is there until its lease is dropped")
    }
}

impl Drop for EntryRef {
    /// An entry about which nothing is known is dropped with its last lease: ids that do not exist
    /// leave nothing behind.
    fn drop(&mut self) {
        let Some(entry) = self.entry.take() else {
            return;
        };
        // One that has a record, or had one a moment ago, goes when the cache needs its room.
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

    /// The record as committed; `None` = the disk knows.
    pub(super) fn current(&self) -> Option<Arc<Upload>> {
        lock(&self.current).clone()
    }

    /// Notes that a writer was given up while a thread may still be writing for it.
    pub(super) fn abandon(&self, queue: &Arc<WriteQueue>) {
        let mut abandoned = lock(&self.abandoned);
        abandoned.retain(|queue| queue.strong_count() > 0);
        abandoned.push(Arc::downgrade(queue));
    }

    /// Waits until no thread writes for a writer that was given up, or cuts off what it wrote. Bytes
    /// written after that cannot be overwritten with older ones.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
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

    /// What it weighs in the cache, in bytes, about.
    fn weigh(&self) -> usize {
        let own = size_of::<Self>() + size_of::<Log>() + 3 * self.id.as_str().len() + 128;
        own + self.current().map_or(0, |upload| weight(&upload))
    }
}

/// What a record weighs in memory, in bytes, about.
fn weight(upload: &Upload) -> usize {
    let partials = match &upload.role {
        Role::Whole | Role::Partial { .. } => 0,
        Role::Final { partials, text } => text.len() + 64 * partials.len(),
    };
    // Metadata is held as text and as decoded entries.
    size_of::<Upload>()
        + 2 * upload.metadata.as_text().len()
        + 16 * upload.received.runs()
        + partials
}

/// The entries in memory, bounded.
#[derive(Debug, Default)]
pub(super) struct Cache(Arc<Mutex<Slots>>);

#[derive(Debug, Default)]
struct Slots {
    /// All entries.
    entries: HashMap<UploadId, Arc<Entry>>,
    /// Ids in the order in which they are considered for eviction; some may be gone already.
    order: VecDeque<UploadId>,
    /// The sum of all weights.
    bytes: usize,
}

impl Cache {
    /// The record of `id`, if it is in memory.
    pub(super) fn current(&self, id: &UploadId) -> Option<Arc<Upload>> {
        let slots = lock(&self.0);
        let entry = slots.entries.get(id)?;
        entry.touched.store(true, Ordering::Relaxed);
        entry.current()
    }

    /// The same, without counting as use.
    pub(super) fn peek(&self, id: &UploadId) -> Option<Arc<Upload>> {
        lock(&self.0).entries.get(id)?.current()
    }

    /// The entry of `id`. Nothing about it need be known yet.
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
    /// Notes what `entry`, which is in use, weighs now. The first time it becomes a candidate for
    /// eviction.
    fn reweigh(&mut self, entry: &Entry, before: usize, now: usize) {
        self.bytes = self.bytes - before + now;
        if before == 0 {
            self.make_room();
            self.order.push_back(entry.id.clone());
        }
    }

    /// Makes room for one more entry: a second chance for those asked for of late.
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

    /// Drops the entry of `id` if only the cache holds it and `idle` agrees. Says whether it did.
    ///
    /// New holders are made under the lock of the cache only, so nobody can come in between.
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

    /// An entry with a record, and no user any more.
    fn keep(cache: &Cache, id: &str, metadata: &str) {
        let mut upload = conformance::upload(id, Some(5));
        upload.metadata = metadata.parse().expect("plain metadata");
        cache.entry(&upload.id).set(Some(Arc::new(upload)));
    }

    fn of(id: &str) -> UploadId {
        id.parse().expect("plain")
    }

    /// How many entries there are, and what they weigh.
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
            // One that is asked for all the time stays.
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
