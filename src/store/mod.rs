//! Where bytes and records live. Of our modules it knows `upload` only: no dialect, no rule, no
//! checksum, no hook.

#[cfg(any(test, feature = "test-support"))]
pub mod conformance;
#[cfg(any(test, feature = "test-support"))]
pub mod faulty;
pub mod file;
pub mod memory;

use std::{fmt, future::Future, io, ops::Range, pin::Pin, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;

use crate::upload::{Capabilities, Change, Key, Receipt, Upload, UploadId};

/// Bytes of an upload, in order.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Records, each as of some moment after the call that began the stream.
pub type UploadStream = Pin<Box<dyn Stream<Item = Result<Arc<Upload>, StoreError>> + Send>>;

/// A future that borrows nothing.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// When a promise of a store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// It survives the death of the process.
    Relaxed,
    /// It survives the loss of power.
    #[default]
    Synced,
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such upload.
    #[error("no such upload")]
    Absent,
    /// The record cannot be understood, or its bytes are not all there. Everything is left as it is.
    #[error("damaged: {0}")]
    Damaged(String),
    /// There is an upload of this id already.
    #[error("an upload of this id exists already")]
    Exists,
    /// No space is left.
    #[error("no space left in the store")]
    Full,
    /// The system below failed.
    #[error("{doing}: {source}")]
    Io {
        /// What the store was doing, for the log.
        doing: String,
        /// The failure.
        source: io::Error,
    },
    /// The record has moved on since the caller read it.
    #[error("the record has changed meanwhile")]
    Stale,
    /// This store cannot do that.
    #[error("this store cannot do that")]
    Unsupported,
}

impl StoreError {
    /// The error for `source`, met while `doing` something. A full disk has a kind of its own; an error
    /// of this type that was passed on as `source` stays what it is.
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

/// A place for uploads.
///
/// Callers make sure that no two writers of overlapping ranges of one upload are alive at once; all
/// else may be called from anywhere at any time. *Durable* means what [`Durability`] says.
///
/// # Cancel safety
/// Every method may be dropped at any await: what it promises then holds wholly or not at all, and
/// work already handed to the system may still be done.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// What this store can do.
    fn capabilities(&self) -> Capabilities;

    /// Makes the record of a new upload, in whatever phase `upload` is; with `Complete` its bytes
    /// must lie there already ([`Store::join`]), or it must be empty. Ids are never used again.
    ///
    /// When the upload has a [`Key`], the pointer of that key swings to it in the same step:
    /// `predecessor` is the upload that [`Store::by_key`] gave, `None` when it said
    /// [`StoreError::Absent`]. An upload without a key has no predecessor.
    ///
    /// On return record and pointer are durable, wholly or not at all. Of racing creates of one id,
    /// and of those that follow one predecessor, exactly one wins.
    ///
    /// # Errors
    /// [`StoreError::Exists`]; [`StoreError::Stale`] when the key does not lead to `predecessor` (any
    /// more); or what the system below says.
    async fn create(
        &self,
        upload: &Upload,
        predecessor: Option<&UploadId>,
    ) -> Result<(), StoreError>;

    /// The upload that the pointer of `key` leads to, as [`Store::load`] gives it.
    ///
    /// # Errors
    /// [`StoreError::Absent`] when no upload has had this key, or its last one was removed;
    /// [`StoreError::Damaged`]; or what the system below says.
    async fn by_key(&self, key: &Key) -> Result<Arc<Upload>, StoreError>;

    /// The record, reflecting every commit that returned before.
    ///
    /// # Errors
    /// [`StoreError::Absent`], also when its owner has taken the published bytes away;
    /// [`StoreError::Damaged`]; or what the system below says.
    async fn load(&self, id: &UploadId) -> Result<Arc<Upload>, StoreError>;

    /// A sink for bytes of `upload` from position `at` on. Nothing becomes visible by it.
    ///
    /// # Errors
    /// [`StoreError::Absent`], [`StoreError::Stale`] when the upload is not open any more,
    /// [`StoreError::Full`], or what the system below says.
    async fn write(&self, upload: &Upload, at: u64) -> Result<Box<dyn Writer>, StoreError>;

    /// Makes `changes` on top of the record `upload` and returns the new one.
    ///
    /// On return all changes are durable, or none is. [`Change::Completed`] publishes the bytes of
    /// an upload that is not partial, whole and at once; [`Change::Voided`] frees them. Commits of
    /// one upload happen in one order.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when the record is not `upload` any more, [`StoreError::Absent`] when
    /// it is gone, or what the system below says; then none of the changes is visible.
    async fn commit(&self, upload: &Upload, changes: &[Change]) -> Result<Arc<Upload>, StoreError>;

    /// Lays the bytes of `partials`, all complete, in order under `upload`, whose record may not
    /// exist yet. Answers before any byte is copied; what is removed later takes nothing away.
    /// Repeating it is fine. [`Store::remove`] undoes it.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`], [`StoreError::Absent`] when the bytes of a partial are gone, or
    /// what the system below says.
    async fn join(&self, upload: &Upload, partials: &[Arc<Upload>]) -> Result<(), StoreError>;

    /// The bytes of `range`, which `upload` has received.
    ///
    /// # Errors
    /// [`StoreError::Absent`], also when they have been freed since; [`StoreError::Damaged`] when not
    /// all of them are there, or what the system below says; in the stream as the source of an [`io::Error`].
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream, StoreError>;

    /// Removes an upload, record and bytes, as long as its record is `upload`. On return later loads
    /// say [`StoreError::Absent`], after a crash too. Removing what is not there is fine, and undoes a
    /// [`Store::join`] that no record followed.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when the record has changed since it was judged; or what the system below
    /// says: repeating the call goes on.
    async fn remove(&self, upload: &Upload) -> Result<(), StoreError>;

    /// All records, in no order.
    fn list(&self) -> UploadStream;

    /// Takes the steps that a crash left undone, and removes what belongs to no upload. Called once,
    /// beside serving; without it all else works, and leftovers stay.
    ///
    /// # Errors
    /// What the system below says; it is tried again at the next start.
    async fn recover(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A sink for consecutive bytes of one upload.
///
/// Bytes may be committed as long as there is the writer or a receipt for them. After that those that
/// were not are given back, sooner or later; a later write of that range replaces them.
#[async_trait]
pub trait Writer: Send {
    /// Takes the next bytes. Returns late rather than buffer more than a fixed window.
    ///
    /// # Errors
    /// [`StoreError::Full`] or what the system below says, also about bytes pushed before. The
    /// writer is of no use then.
    async fn push(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// Makes durable what was pushed so far. The receipt is for the bytes since the checkpoint before.
    /// The future borrows nothing, so that pushing goes on beside it.
    fn checkpoint(&mut self) -> Pending<Result<Receipt, StoreError>>;

    /// The bytes pushed so far, in order, for a checksum that was named only after them.
    ///
    /// # Errors
    /// What the system below says.
    async fn reread(&mut self) -> Result<ByteStream, StoreError>;

    /// Makes all bytes durable. The receipt is for those since the last checkpoint. They are still no
    /// part of the upload: a commit of [`Change::Received`] makes them so.
    ///
    /// # Errors
    /// [`StoreError::Full`] or what the system below says.
    async fn finish(self: Box<Self>) -> Result<Receipt, StoreError>;
}
