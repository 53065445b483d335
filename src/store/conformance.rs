//! The suite every store passes: each promise of [`Store`] and [`Writer`] as a check with a name.
//!
//! A store of your own is tested by handing [`run`] a way to make places for it:
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

/// The change that completes an upload; when it does is all the same here.
const COMPLETED: Change = Change::Completed { at: UNIX_EPOCH };

/// The change that gives the bytes of an upload up; why is all the same here, too.
const VOIDED: Change = Change::Voided { why: VoidReason::Removed, until: Some(UNIX_EPOCH) };

/// How long a place may be in use by what is left of a store that was dropped.
const RELEASE_TIME: Duration = Duration::from_secs(60);

/// Why a place could not be opened.
pub type OpenError = Box<dyn Error + Send + Sync>;

/// A place where the content of one store lives, empty at first.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the store, as a process does that is started after the one before has died. A store that
    /// is in memory only may be the same again.
    ///
    /// # Errors
    /// When the place cannot be opened now. The store given before was dropped, but work that it has
    /// handed to the system may keep the place in use for a moment: the suite tries again for a while.
    async fn open(&mut self) -> Result<Arc<dyn Store>, OpenError>;
}

/// Opens the store once nothing is left of the one before.
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
/// When a promise is broken; the check is named on standard error.
pub async fn run(make: impl Fn() -> Box<dyn Place>) {
    for (name, check) in [records::CHECKS, keys::CHECKS, bytes::CHECKS, joins::CHECKS].concat() {
        let running = RunningCheck(name);
        let mut place = make();
        let store = Some(open(&mut *place).await);
        check(Bench { place, store }).await;
        drop(running);
    }
}

/// A promise: its name and what shows that it is kept.
type Check = (&'static str, fn(Bench) -> Pin<Box<dyn Future<Output = ()> + Send>>);

/// A list of [`Check`]s: the functions named.
macro_rules! checks {
    ($($check:ident),* $(,)?) => {
        /// The checks of this module.
        pub(super) const CHECKS: &[super::Check] =
            &[$((stringify!($check), |bench| Box::pin($check(bench)))),*];
    };
}
use checks;

/// Tells which check was running when something panicked.
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
    /// `None` only while it is opened anew.
    store: Option<Arc<dyn Store>>,
}

impl Bench {
    /// The store.
    fn store(&self) -> &dyn Store {
        &**self.store.as_ref().expect("it is there unless it is opened anew")
    }

    /// The store, for another task.
    fn shared(&self) -> Arc<dyn Store> {
        Arc::clone(self.store.as_ref().expect("it is there unless it is opened anew"))
    }

    /// Has the process die and start again.
    async fn reopen(&mut self) {
        drop(self.store.take());
        self.store = Some(open(&mut *self.place).await);
    }

    /// A new upload, created.
    async fn create(&self, upload: Upload) -> Upload {
        self.store().create(&upload, None).await.expect("an upload is created");
        upload
    }

    /// An upload removed.
    async fn remove(&self, upload: &Upload) {
        self.store().remove(upload).await.expect("an upload is removed");
    }

    /// The record.
    async fn load(&self, upload: &Upload) -> Arc<Upload> {
        self.store().load(&upload.id).await.expect("the record is there")
    }

    /// The upload that a key leads to; `None` when there is none.
    async fn by_key(&self, key: &Key) -> Option<Arc<Upload>> {
        match self.store().by_key(key).await {
            Ok(upload) => Some(upload),
            Err(StoreError::Absent) => None,
            Err(e) => panic!("finding an upload by its key: {e}"),
        }
    }

    /// Whether there is no record.
    async fn is_absent(&self, id: &UploadId) -> bool {
        matches!(self.store().load(id).await, Err(StoreError::Absent))
    }

    /// A commit that works.
    async fn commit(&self, upload: &Upload, changes: &[Change]) -> Upload {
        let next = self.store().commit(upload, changes).await.expect("a commit that fits");
        assert_eq!(next.revision, upload.revision + 1);
        (*next).clone()
    }

    /// Bytes written and made durable, not committed.
    async fn write(&self, upload: &Upload, at: u64, bytes: &[u8]) -> Receipt {
        let mut writer = self.store().write(upload, at).await.expect("a sink");
        push(&mut *writer, bytes).await;
        writer.finish().await.expect("bytes made durable")
    }

    /// Bytes of the pattern of seed 1, made durable and not committed: one change for each receipt of one
    /// writer that begins at 0, up to each of `ends`.
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

    /// The bytes `range` of the pattern of `seed`, written and committed.
    async fn put(&self, upload: &Upload, range: Range<u64>, seed: u64) -> Upload {
        let receipt = self.write(upload, range.start, &pattern(seed, range.clone())).await;
        self.commit(upload, &[Change::Received { range, receipt }]).await
    }

    /// A complete upload of the pattern of `seed`.
    async fn complete(&self, id: &str, length: u64, role: Role, seed: u64) -> Arc<Upload> {
        let upload = self.create(Upload { role, ..upload(id, Some(length)) }).await;
        let full = if length == 0 { upload } else { self.put(&upload, 0..length, seed).await };
        Arc::new(self.commit(&full, &[COMPLETED]).await)
    }

    /// Bytes read.
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Vec<u8> {
        let stream = self.store().read(upload, range).await.expect("bytes that were received");
        collect(stream).await.expect("bytes that were received")
    }

    /// Shows that `range` holds the pattern of `seed`.
    async fn expect_pattern(&self, upload: &Upload, range: Range<u64>, seed: u64) {
        let read = self.read(upload, range.clone()).await;
        assert!(read == pattern(seed, range.clone()), "{}: wrong bytes in {range:?}", upload.id);
    }
}

/// An open upload that is not created yet, with some metadata.
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

/// What a client's own name hashes to.
pub fn key(name: &str) -> Key {
    Key::new(b"conformance", &[name.as_bytes()])
}

/// All bytes of a stream.
///
/// # Errors
/// The first error in it.
pub async fn collect(mut stream: ByteStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(block) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        bytes.extend_from_slice(&block?);
    }
    Ok(bytes)
}

/// All records of a list, by id.
///
/// # Panics
/// When there is an error in it.
pub async fn collect_list(mut stream: UploadStream) -> Vec<Arc<Upload>> {
    let mut uploads = Vec::new();
    while let Some(upload) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        uploads.push(upload.expect("a list without errors"));
    }
    uploads.sort_by(|a, b| a.id.cmp(&b.id));
    uploads
}

/// Bytes that tell where they belong: those of `range` in the pattern of `seed`.
fn pattern(seed: u64, range: Range<u64>) -> Vec<u8> {
    // Eight bytes at a time; each word is a mix of its position and the seed (splitmix64).
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

/// Pushes `bytes` in frames of changing sizes, as a connection delivers them; some are empty.
async fn push(writer: &mut dyn Writer, bytes: &[u8]) {
    let mut sizes = [1, 0, 7, 1_000, 16_384, 65_537, 300_000].into_iter().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (frame, later) = rest.split_at(rest.len().min(sizes.next().unwrap_or(1)));
        writer.push(Bytes::copy_from_slice(frame)).await.expect("bytes are taken");
        rest = later;
    }
}

/// The change that counts bytes of which the store needs no receipt, or that is refused for another
/// reason.
fn received(range: Range<u64>) -> Change {
    Change::Received { range, receipt: Receipt::default() }
}
