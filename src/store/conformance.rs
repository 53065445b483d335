//! The conformance suite of stores: each guarantee of [`Store`] and [`Writer`] as a named check.
//!
//! To test a store, pass [`run`] a function that creates an empty [`Place`] for it:
//!
//! ```
//! # use std::sync::Arc;
//! # use windlass::store::{Store, conformance::{self, OpenError, Place}, memory::MemoryStore};
//! struct Memory(Arc<dyn Store>);
//!
//! #[async_trait::async_trait]
//! impl Place for Memory {
//!     async fn open(&mut self) -> Result<Arc<dyn Store>, OpenError> {
//!         Ok(self.0.clone())
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! conformance::run(|| Box::new(Memory(Arc::new(MemoryStore::new())))).await;
//! # });
//! ```

mod bytes;
mod joins;
mod keys;
mod records;

use std::{
    error::Error,
    future::{Future, poll_fn},
    io,
    ops::Range,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use ::bytes::Bytes;
use async_trait::async_trait;

use super::{ByteStream, Store, StoreError, UploadStream, Writer};
use crate::upload::{
    Change, Completion, Key, Phase, Ranges, Receipt, Role, Upload, UploadId, VoidReason,
};

/// Completes an upload; the time does not matter here.
const COMPLETED: Change = Change::Completed { at: UNIX_EPOCH };

/// Voids an upload; reason and time do not matter here.
const VOIDED: Change = Change::Voided { why: VoidReason::Removed, until: Some(UNIX_EPOCH) };

/// How long a place may stay in use after its store was dropped.
const RELEASE_TIME: Duration = Duration::from_secs(60);

/// The error of opening a place.
pub type OpenError = Box<dyn Error + Send + Sync>;

/// A location with the content of one store, empty at first.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the store, as a new process does after the previous one died. A store in memory may
    /// return the same store again.
    ///
    /// # Errors
    /// When the place cannot be opened now. The previous store was dropped, but its calls in
    /// progress may keep the place in use for a moment: the suite retries for a minute.
    async fn open(&mut self) -> Result<Arc<dyn Store>, OpenError>;
}

/// Opens the store once the previous one has released the place.
async fn open(place: &mut dyn Place) -> Arc<dyn Store> {
    let deadline = Instant::now() + RELEASE_TIME;
    loop {
        match place.open().await {
            Ok(store) => return store,
            Err(error) if Instant::now() >= deadline => {
                panic!("the store cannot be opened: {error}")
            }
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Runs all checks, each in a place of its own.
///
/// # Panics
/// When a check fails; its name is printed to standard error.
pub async fn run(make: impl Fn() -> Box<dyn Place>) {
    for (name, check) in [records::CHECKS, keys::CHECKS, bytes::CHECKS, joins::CHECKS].concat() {
        let running = RunningCheck(name);
        let mut place = make();
        let store = Some(open(&mut *place).await);
        check(Bench { place, store }).await;
        drop(running);
    }
}

/// A check and its name.
type Check = (&'static str, fn(Bench) -> Pin<Box<dyn Future<Output = ()> + Send>>);

/// Defines the list of [`Check`]s of a module.
macro_rules! checks {
    ($($check:ident),* $(,)?) => {
        /// The checks of this module.
        pub(super) const CHECKS: &[super::Check] =
            &[$((stringify!($check), |bench| Box::pin($check(bench)))),*];
    };
}
use checks;

/// Prints the name of the running check on panic.
struct RunningCheck(&'static str);

impl Drop for RunningCheck {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("store conformance: {} failed", self.0);
        }
    }
}

/// A store under test.
struct Bench {
    place: Box<dyn Place>,
    /// `None` only while the store is being reopened.
    store: Option<Arc<dyn Store>>,
}

impl Bench {
    /// Returns the store.
    fn store(&self) -> &dyn Store {
        &**self.store.as_ref().expect("it is there unless it is opened anew")
    }

    /// Returns the store for use in another task.
    fn shared(&self) -> Arc<dyn Store> {
        Arc::clone(self.store.as_ref().expect("it is there unless it is opened anew"))
    }

    /// Simulates a crash and restart of the process.
    async fn reopen(&mut self) {
        drop(self.store.take());
        self.store = Some(open(&mut *self.place).await);
    }

    /// Creates a new upload.
    async fn create(&self, upload: Upload) -> Upload {
        self.store().create(&upload, None).await.expect("an upload is created");
        upload
    }

    /// Removes an upload.
    async fn remove(&self, upload: &Upload) {
        self.store().remove(upload).await.expect("an upload is removed");
    }

    /// Loads the record.
    async fn load(&self, upload: &Upload) -> Arc<Upload> {
        self.store().load(&upload.id).await.expect("the record is there")
    }

    /// Returns the upload that a key leads to; `None` when there is none.
    async fn by_key(&self, key: &Key) -> Option<Arc<Upload>> {
        match self.store().by_key(key).await {
            Ok(upload) => Some(upload),
            Err(StoreError::Absent) => None,
            Err(e) => panic!("finding an upload by its key: {e}"),
        }
    }

    /// Returns whether there is no record.
    async fn is_absent(&self, id: &UploadId) -> bool {
        matches!(self.store().load(id).await, Err(StoreError::Absent))
    }

    /// Commits changes that must be accepted.
    async fn commit(&self, upload: &Upload, changes: &[Change]) -> Upload {
        let next = self.store().commit(upload, changes).await.expect("a commit that fits");
        assert_eq!(next.revision, upload.revision + 1);
        (*next).clone()
    }

    /// Writes bytes and makes them durable, without a commit.
    async fn write(&self, upload: &Upload, at: u64, bytes: &[u8]) -> Receipt {
        let mut writer = self.store().write(upload, at).await.expect("a sink");
        push(&mut *writer, bytes).await;
        writer.finish().await.expect("bytes made durable")
    }

    /// Writes bytes of the pattern of seed 1 without a commit: one writer that begins at 0, with a
    /// receipt and a change for the bytes up to each of `ends`.
    async fn blocks(&self, upload: &Upload, ends: &[u64]) -> Vec<Change> {
        let mut writer = self.store().write(upload, 0).await.expect("a sink");
        let (mut changes, mut start) = (Vec::new(), 0);
        let (last, others) = ends.split_last().expect("one end at least");
        for end in others {
            push(&mut *writer, &pattern(1, start..*end)).await;
            let receipt = writer.checkpoint().await.expect("bytes made durable");
            changes.push(Change::Received { range: start..*end, receipt });
            start = *end;
        }
        push(&mut *writer, &pattern(1, start..*last)).await;
        let receipt = writer.finish().await.expect("bytes made durable");
        changes.push(Change::Received { range: start..*last, receipt });
        changes
    }

    /// Writes and commits `range` of the pattern of `seed`.
    async fn put(&self, upload: &Upload, range: Range<u64>, seed: u64) -> Upload {
        let receipt = self.write(upload, range.start, &pattern(seed, range.clone())).await;
        self.commit(upload, &[Change::Received { range, receipt }]).await
    }

    /// Creates and completes an upload with the pattern of `seed`.
    async fn complete(&self, id: &str, length: u64, role: Role, seed: u64) -> Arc<Upload> {
        let upload = self.create(Upload { role, ..upload(id, Some(length)) }).await;
        let full = if length == 0 { upload } else { self.put(&upload, 0..length, seed).await };
        Arc::new(self.commit(&full, &[COMPLETED]).await)
    }

    /// Reads bytes.
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Vec<u8> {
        let stream = self.store().read(upload, range).await.expect("bytes that were received");
        collect(stream).await.expect("bytes that were received")
    }

    /// Asserts that `range` contains the pattern of `seed`.
    async fn expect_pattern(&self, upload: &Upload, range: Range<u64>, seed: u64) {
        let read = self.read(upload, range.clone()).await;
        assert!(read == pattern(seed, range.clone()), "{}: wrong bytes in {range:?}", upload.id);
    }
}

/// Returns an open upload with some metadata, not created yet.
pub fn upload(id: &str, length: Option<u64>) -> Upload {
    Upload {
        id: id.parse().expect("ids of tests are plain"),
        completion: Completion::WhenFull,
        created: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        expires: None,
        key: None,
        length,
        metadata: "filename d29ybGQucGRm,is_confidential".parse().expect("plain metadata"),
        owner: None,
        phase: Phase::Open,
        received: Ranges::new(),
        revision: 0,
        role: Role::Whole,
    }
}

/// Returns the key of a name chosen by a client.
pub fn key(name: &str) -> Key {
    Key::new(b"conformance", &[name.as_bytes()])
}

/// Collects all bytes of a stream.
///
/// # Errors
/// The first error in it.
pub async fn collect(mut stream: ByteStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(block) = stream.next().await {
        bytes.extend_from_slice(&block?);
    }
    Ok(bytes)
}

/// Collects all records of a list, sorted by id.
///
/// # Panics
/// When the list contains an error.
pub async fn collect_list(mut stream: UploadStream) -> Vec<Arc<Upload>> {
    let mut uploads = Vec::new();
    while let Some(upload) = stream.next().await {
        uploads.push(upload.expect("a list without errors"));
    }
    uploads.sort_by(|a, b| a.id.cmp(&b.id));
    uploads
}

/// Returns bytes that differ by position: `range` of the pattern of `seed`.
fn pattern(seed: u64, range: Range<u64>) -> Vec<u8> {
    // Eight bytes at a time; each word mixes its position and the seed (splitmix64).
    let word = |index: u64| {
        let mut z = index.wrapping_add(seed << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)).to_le_bytes()
    };
    let mut bytes = Vec::with_capacity((range.end - range.start) as usize + 16);
    for index in range.start / 8..range.end.div_ceil(8) {
        bytes.extend_from_slice(&word(index));
    }
    bytes.drain(..(range.start % 8) as usize);
    bytes.truncate((range.end - range.start) as usize);
    bytes
}

/// Pushes `bytes` in frames of changing sizes, some of them empty, as a connection delivers them.
async fn push(writer: &mut dyn Writer, bytes: &[u8]) {
    let mut sizes = [1, 0, 7, 1_000, 16_384, 65_537, 300_000].into_iter().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (frame, later) = rest.split_at(rest.len().min(sizes.next().unwrap_or(1)));
        writer.push(Bytes::copy_from_slice(frame)).await.expect("bytes are taken");
        rest = later;
    }
}

/// Returns a change with an empty receipt, for bytes that need none or for a commit that fails for
/// another reason.
fn received(range: Range<u64>) -> Change {
    Change::Received { range, receipt: Receipt::default() }
}
