//! Where an embedding application has its say: [`Gate`] (asked before), [`Finisher`] (once, when an
//! upload completes) and [`Observer`] (notified after).

use std::{fmt, ops::Range};

use async_trait::async_trait;
use http::Extensions;

use crate::{
    rules::{Denial, Finished, Join, NewUpload},
    store::{ByteStream, Store, StoreError},
    upload::{Event, Upload},
};

/// Decides on requests before they change an upload or displace another request.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Decides whether the request is allowed. The upload to be created can be changed.
    ///
    /// # Errors
    /// A [`Denial`]; its message goes to the client.
    ///
    /// # Cancel safety
    /// The future may be dropped when the client goes away.
    async fn admit(&self, admission: Admission<'_>) -> Result<(), Denial>;
}

/// What a [`Gate`] is asked.
#[derive(Debug)]
pub struct Admission<'a> {
    /// What the request would do.
    pub action: Action<'a>,
    /// What the layers in front of the service have put on the request: the caller's identity.
    /// With [`serve`](crate::serve), what [`Connection::extensions`](crate::listen::Connection) has.
    pub extensions: &'a Extensions,
}

/// What a request wants to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Action<'a> {
    /// Make this upload.
    Create(&'a mut NewUpload),
    /// Read the bytes of this upload.
    Fetch(&'a Upload),
    /// Use this upload as a part of a final one.
    Include(&'a Upload),
    /// Make this final upload.
    Join(&'a mut Join),
    /// Learn the state of this upload.
    Status(&'a Upload),
    /// Remove this upload.
    Terminate(&'a Upload),
    /// Write to this upload.
    Write(&'a Upload),
}

/// Runs when the last byte of an upload is durable, before the upload is visible as complete. Not
/// for partial uploads.
#[async_trait]
pub trait Finisher: Send + Sync + 'static {
    /// The completion step. Called again when the client repeats its request after a failure, or
    /// when the process died before the completion was recorded, so it must bear repeating.
    ///
    /// # Errors
    /// [`DenialKind::Unavailable`](crate::rules::DenialKind::Unavailable): the upload stays as it
    /// was before the request, and the client tries again. Any other [`Denial`] is final: the
    /// upload is removed.
    ///
    /// # Cancel safety
    /// Not dropped when the client goes away.
    async fn finish(&self, finishing: Finishing<'_>) -> Result<Finished, Denial>;
}

/// The upload that is about to be complete.
pub struct Finishing<'a> {
    /// What came with the request that completes it.
    pub extensions: &'a Extensions,
    /// The record as it will be.
    pub upload: &'a Upload,
    pub(super) store: &'a dyn Store,
}

impl Finishing<'_> {
    /// The bytes of `range`.
    ///
    /// # Errors
    /// What the store says.
    pub async fn read(&self, range: Range<u64>) -> Result<ByteStream, StoreError> {
        self.store.read(self.upload, range).await
    }
}

impl fmt::Debug for Finishing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finishing").field("upload", &self.upload.id).finish_non_exhaustive()
    }
}

/// Hears of everything that happens to uploads, after it is durable. Runs on the request's own
/// task, so it must be quick.
pub trait Observer: Send + Sync + 'static {
    /// `event` has just happened to `upload`, which is given as it is afterwards.
    ///
    /// Events of one upload come in the order of its changes as far as one process makes them.
    fn event(&self, upload: &Upload, event: Event);
}

/// Lets everything pass, adds nothing, hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

#[async_trait]
impl Gate for NoHooks {
    async fn admit(&self, _: Admission<'_>) -> Result<(), Denial> {
        Ok(())
    }
}

#[async_trait]
impl Finisher for NoHooks {
    async fn finish(&self, _: Finishing<'_>) -> Result<Finished, Denial> {
        Ok(Finished::default())
    }
}

impl Observer for NoHooks {
    fn event(&self, _: &Upload, _: Event) {}
}
