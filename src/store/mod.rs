//! Storage of bytes and records. Of our modules it uses `upload` only, and knows no dialect, rule,
//! checksum or hook.

#[cfg(any(test, feature = "test-support"))]
pub mod conformance;
#[cfg(any(test, feature = "test-support"))]
pub mod faulty;
pub mod file;
pub mod memory;

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;

use crate::upload::{Capabilities, Change, Key, Receipt, Upload, UploadId};

/// Bytes of an upload, in order.
pub type ByteStream = BoxStream<io::Result<Bytes>>;

/// Records, each as of some moment after the call that began the stream.
pub type UploadStream = BoxStream<Result<Arc<Upload>, StoreError>>;

/// A stream of whatever a store makes it of.
pub struct BoxStream<T>(Pin<Box<dyn Stream<Item = T> + Send>>);

impl<T> BoxStream<T> {
    /// The items of `stream`.
    pub fn new(stream: impl Stream<Item = T> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }

    /// The next item; `None` at the end.
    ///
    /// # Cancel safety
    /// Safe: an item is returned or still to come.
    pub async fn next(&mut self) -> Option<T> {
        poll_fn(|cx| self.0.as_mut().poll_next(cx)).await
    }

    /// The stream in its box.
    pub fn into_inner(self) -> Pin<Box<dyn Stream<Item = T> + Send>> {
        self.0
    }
}

impl<T> Stream for BoxStream<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.as_mut().poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> fmt::Debug for BoxStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxStream")
    }
}

/// An owned, boxed future.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Which failures durable data survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// Data survives the death of the process.
    Relaxed,
    /// Data survives power loss.
    #[default]
    Synced,
}

/// The errors of a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such upload.
    #[error("no such upload")]
    Absent,
    /// The record cannot be parsed, or bytes of the upload are missing. Its files are left
    /// untouched.
    #[error("damaged: {0}")]
    Damaged(String),
    /// An upload with this id already exists.
    #[error("an upload with this id already exists")]
    Exists,
    /// There is no space left.
    #[error("no space left in the store")]
    Full,
    /// An I/O error of the backend.
    #[error("{doing}: {source}")]
    Io {
        /// The failed operation, for the log.
        doing: String,
        /// The I/O error.
        source: io::Error,
    },
    /// The record has changed since the caller read it.
    #[error("the record was changed concurrently")]
    Stale,
    /// This store does not support the operation.
    #[error("operation not supported by this store")]
    Unsupported,
}

impl StoreError {
    /// Wraps `source`, which occurred while `doing` something. A full disk becomes [`Self::Full`],
    /// and a `StoreError` inside of `source` is returned unchanged.
    pub fn io(doing: impl fmt::Display, source: io::Error) -> Self {
        let source = match source.downcast::<Self>() {
            Ok(error) => return error,
            Err(source) => source,
        };
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        if full { Self::Full } else { Self::Io { doing: doing.to_string(), source } }
    }
}

/// A backend that stores uploads.
///
/// Callers ensure that no two writers of overlapping ranges of one upload exist at the same time.
/// All other calls may be concurrent. *Durable* is defined by [`Durability`].
///
/// # Cancel safety
/// Every future may be dropped at any await: its effect then happens wholly or not at all. Calls
/// already made to the backend may still complete.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Returns the optional operations that this store supports.
    fn capabilities(&self) -> Capabilities;

    /// Creates the record of a new upload, in any phase. The bytes of a `Complete` one must be
    /// present already ([`Store::join`]), unless it is empty. Ids are never reused.
    ///
    /// When the upload has a [`Key`], its pointer is set to the new upload in the same step.
    /// `predecessor` is the upload that [`Store::by_key`] returned, `None` when it returned
    /// [`StoreError::Absent`] or when the upload has no key.
    ///
    /// On return, record and pointer are durable, both or neither. Of concurrent calls with one id,
    /// or with one predecessor, exactly one succeeds.
    ///
    /// # Errors
    /// [`StoreError::Exists`]; [`StoreError::Stale`] when the key does not lead to `predecessor`;
    /// [`StoreError::Full`] or [`StoreError::Io`].
    async fn create(
        &self,
        upload: &Upload,
        predecessor: Option<&UploadId>,
    ) -> Result<(), StoreError>;

    /// Returns the upload that the pointer of `key` leads to, like [`Store::load`].
    ///
    /// # Errors
    /// [`StoreError::Absent`] when no upload has had this key, or the last one was removed;
    /// [`StoreError::Damaged`] or [`StoreError::Io`].
    async fn by_key(&self, key: &Key) -> Result<Arc<Upload>, StoreError>;

    /// Returns the record. It reflects every commit that returned before the call.
    ///
    /// # Errors
    /// [`StoreError::Absent`], also when the published bytes were moved away by their owner;
    /// [`StoreError::Damaged`] or [`StoreError::Io`].
    async fn load(&self, id: &UploadId) -> Result<Arc<Upload>, StoreError>;

    /// Opens a writer to `upload` at byte position `at`. Has no visible effect.
    ///
    /// # Errors
    /// [`StoreError::Absent`]; [`StoreError::Stale`] when the upload is not open;
    /// [`StoreError::Full`] or [`StoreError::Io`].
    async fn write(&self, upload: &Upload, at: u64) -> Result<Box<dyn Writer>, StoreError>;

    /// Applies `changes` on top of the record `upload` and returns the new record.
    ///
    /// On return, all changes are durable. [`Change::Completed`] publishes the bytes atomically,
    /// except of a partial upload; [`Change::Voided`] frees them. Commits of one upload are totally
    /// ordered.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when the record is not `upload` any more; [`StoreError::Absent`] when
    /// it was removed; [`StoreError::Full`] or [`StoreError::Io`]. No change is visible then.
    async fn commit(&self, upload: &Upload, changes: &[Change]) -> Result<Arc<Upload>, StoreError>;

    /// Concatenates the bytes of `partials`, which are complete, as the bytes of `upload`, whose
    /// record need not exist yet. Returns before any byte is copied; removing a partial later does
    /// not affect `upload`. Idempotent. Undone by [`Store::remove`].
    ///
    /// # Errors
    /// [`StoreError::Unsupported`]; [`StoreError::Absent`] when the bytes of a partial were
    /// removed; [`StoreError::Full`] or [`StoreError::Io`].
    async fn join(&self, upload: &Upload, partials: &[Arc<Upload>]) -> Result<(), StoreError>;

    /// Reads `range`, which `upload` has received or was joined from, as a stream of exactly those
    /// bytes.
    ///
    /// # Errors
    /// [`StoreError::Absent`], also when they have been freed since; [`StoreError::Damaged`] when
    /// bytes are missing, or [`StoreError::Io`]. In the stream, the [`io::Error`] has the
    /// `StoreError` as its source.
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream, StoreError>;

    /// Removes the record and the bytes of an upload if its record is still `upload`. On return,
    /// later loads return [`StoreError::Absent`], also after a crash. Succeeds when there is no
    /// record, and then undoes a [`Store::join`].
    ///
    /// # Errors
    /// [`StoreError::Stale`] when the record has changed since it was read; [`StoreError::Io`]:
    /// repeat the call to complete the removal.
    async fn remove(&self, upload: &Upload) -> Result<(), StoreError>;

    /// Lists all records, in no particular order.
    fn list(&self) -> UploadStream;

    /// Completes steps that a crash interrupted, and removes orphaned data. Called once at start,
    /// while requests are served. Without it everything works, but orphaned data remains.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the call may be repeated.
    async fn recover(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A writer of consecutive bytes of one upload.
///
/// Bytes can be committed as long as the writer or a receipt for them exists. Afterwards the space
/// of uncommitted bytes is reclaimed; a later write of their range replaces them.
#[async_trait]
pub trait Writer: Send {
    /// Accepts the next bytes. Waits rather than buffer more than a fixed window.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Io`], also for bytes pushed before. The writer cannot
    /// be used any more.
    async fn push(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// Makes the bytes pushed so far durable. The receipt covers the bytes since the last
    /// checkpoint. The future borrows nothing, so that the caller can push while it runs.
    fn checkpoint(&mut self) -> Pending<Result<Receipt, StoreError>>;

    /// Reads the bytes pushed so far, in order, for a checksum whose algorithm is only known at the
    /// end of the body.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    async fn reread(&mut self) -> Result<ByteStream, StoreError>;

    /// Makes all pushed bytes durable. The receipt covers those since the last checkpoint. The
    /// bytes become part of the upload by a commit of [`Change::Received`].
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Io`].
    async fn finish(self: Box<Self>) -> Result<Receipt, StoreError>;
}
