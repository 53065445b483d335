//! The only choreography: gate, claim, plan, ingest, settle, commit, tell. Async; knows `upload`,
//! `rules`, `store` and `content`, and of HTTP only the extensions that carry a caller's identity.

mod claims;
mod finals;
pub mod hooks;
mod ingest;
mod jumps;
mod named;
mod sweep;
#[cfg(test)]
mod tests;
mod write;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::SystemTime};

use http::Extensions;

pub use self::hooks::{Action, Ask, Finisher, Finishing, Gate, NoHooks, Observer};
pub use self::sweep::Swept;
use tokio::sync::Notify;

use self::{claims::Claims, finals::Pending, jumps::Jumps};
use crate::{
    content::Content,
    rules::{
        FetchedBytes, Finished, Intent, Offer, Outcome, Refusal, Refused, Selection, Subject, Test,
        fetch, lifecycle, presence,
    },
    store::{Store, StoreError},
    upload::{Change, Limits, Role, Upload, UploadId},
};

/// A request on its way to what comes of it.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<Outcome, Refused>> + Send + 'a>>;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Does what intents ask for, on one store. A handle: clones are the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    claims: Claims,
    clock: Clock,
    finisher: Arc<dyn Finisher>,
    gate: Arc<dyn Gate>,
    jumps: Jumps,
    limits: Limits,
    observer: Arc<dyn Observer>,
    pending: Pending,
    /// Woken when a name whose upload is gone is free for another.
    reopened: Notify,
    store: Arc<dyn Store>,
}

/// An [`Engine`] in the making.
pub struct Builder(Inner);

impl Engine {
    /// An engine on `store`, without limits and hooks as long as none are set.
    pub fn builder(store: Arc<dyn Store>) -> Builder {
        Builder(Inner {
            claims: Claims::default(),
            clock: Arc::new(SystemTime::now),
            finisher: Arc::new(NoHooks),
            gate: Arc::new(NoHooks),
            jumps: Jumps::default(),
            limits: Limits::default(),
            observer: Arc::new(NoHooks),
            pending: Pending::default(),
            reopened: Notify::new(),
            store,
        })
    }

    /// What the operator allows.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Where bytes and records live.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// Does what `intent` asks for. `content` is polled only once the request is known to be
    /// allowed; `extensions` are handed to the hooks.
    ///
    /// # Errors
    /// A [`Refused`] with the reason; the store is then as it was before, but for bytes that a
    /// request without checksum brought before it was cut off.
    ///
    /// # Cancel safety
    /// A write that is dropped loses what it has not checkpointed; run it on a task of its own.
    pub fn run<'a>(
        &'a self,
        intent: Intent,
        mut content: Content,
        extensions: &'a Extensions,
    ) -> Running<'a> {
        // Each in a box of its own: a question should not take the room of a write.
        match intent {
            Intent::Discover => Box::pin(async { Ok(self.discover()) }),
            Intent::Fetch { id, selection } => {
                Box::pin(async move { self.fetch(&id, &selection, extensions).await })
            }
            Intent::Join(join) => {
                Box::pin(async move { self.join(join, &mut content, extensions).await })
            }
            Intent::Status { of } => Box::pin(async move { self.status(&of, extensions).await }),
            Intent::Terminate { of } => {
                Box::pin(async move { self.terminate(&of, extensions).await })
            }
            Intent::Test(test) => Box::pin(async move { self.test(&test, extensions).await }),
            Intent::Write(write) => self.write(write, content, extensions),
        }
    }

    fn discover(&self) -> Outcome {
        Outcome::Discovered(Box::new(Offer {
            capabilities: self.store().capabilities(),
            limits: self.limits().clone(),
        }))
    }

    /// Whether [`Engine::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.0.claims.is_closed()
    }

    /// Refuses new writes, stops those that run, keeping what they brought, and returns when the
    /// last one is recorded.
    ///
    /// # Cancel safety
    /// Safe; calling it again goes on waiting.
    pub async fn close(&self) {
        self.0.claims.close().await;
    }

    async fn status(&self, of: &Subject, extensions: &Extensions) -> Result<Outcome, Refused> {
        let upload = self.find(of).await?;
        self.admit(Action::Status(&upload), extensions).await?;
        // Who asks by name asks for chunks, and these count only when they are recorded.
        let settles = matches!(of, Subject::Id(_));
        let mut upload = self.told(upload, settles).await?;
        if is_pending_final(&upload) {
            upload = self.resolve_detached(upload, extensions).await?;
        }
        Ok(Outcome::Status { upload })
    }

    async fn test(&self, test: &Test, extensions: &Extensions) -> Result<Outcome, Refused> {
        let upload = self.reopened(&test.key).await?;
        self.admit(Action::Status(&upload), extensions).await?;
        let mut upload = self.told(upload, false).await?;
        if upload.length == Some(test.length) && presence::is_there(&upload, &test.range) {
            let touch = |now: &Upload| lifecycle::touched(now, self.limits(), self.now());
            let settle = |now: &Upload| touch(now).into_iter().collect();
            let (now, _) = self.commit(&upload.id, extensions, settle).await?;
            self.alive(&now)?;
            if now.expires != upload.expires {
                // What else is new may still be taken back.
                Arc::make_mut(&mut upload).expires = now.expires;
            }
        }
        Ok(Outcome::Status { upload })
    }

    /// The state of `upload` that its client may be told: none of its bytes will be taken back. With
    /// `settles`, a writer is first made to record what it has.
    async fn told(&self, mut upload: Arc<Upload>, settles: bool) -> Result<Arc<Upload>, Refusal> {
        let id = upload.id.clone();
        loop {
            if settles && self.0.claims.is_written(&id) {
                self.0.claims.settle(&id, self.limits()).await;
                upload = self.load(&id).await?;
            }
            self.alive(&upload)?;
            // A writer that was about to take back what it recorded may have done so meanwhile.
            let told = self.0.claims.tell(&id, upload.offset());
            let now = self.load(&id).await?;
            self.alive(&now)?;
            let is_same = now.created == upload.created;
            if told && is_same && now.offset() >= upload.offset() {
                // Not `now`: what was recorded since may still be taken back.
                return Ok(upload);
            }
            self.0.claims.settle(&id, self.limits()).await;
            upload = self.load(&id).await?;
        }
    }

    /// The upload that is asked about.
    async fn find(&self, of: &Subject) -> Result<Arc<Upload>, Refusal> {
        match of {
            Subject::Id(id) => self.load(id).await,
            Subject::Key(key) | Subject::Unfinished(key) => self.last_named(key).await,
        }
    }

    async fn fetch(
        &self,
        id: &UploadId,
        selection: &Selection,
        extensions: &Extensions,
    ) -> Result<Outcome, Refused> {
        let mut upload = self.load(id).await?;
        self.admit(Action::Fetch(&upload), extensions).await?;
        if is_pending_final(&upload) {
            upload = self.resolve_detached(upload, extensions).await?;
        }
        let Some(range) = fetch::select(&upload, selection, self.now())? else {
            return Ok(Outcome::Fetched { bytes: None, upload });
        };
        let stream = self.store().read(&upload, range.clone()).await;
        let stream = stream.map_err(|error| refusal_of(id, &error))?;
        let partial = *selection != Selection::All;
        Ok(Outcome::Fetched { bytes: Some(FetchedBytes { partial, range, stream }), upload })
    }

    async fn terminate(&self, of: &Subject, extensions: &Extensions) -> Result<Outcome, Refused> {
        if !self.limits().termination {
            return Err(Refusal::Unsupported { what: "removing uploads" }.into());
        }
        let check = |upload: &Upload| match of {
            Subject::Unfinished(_) if upload.is_complete() => Err(Refusal::Unknown),
            Subject::Id(_) | Subject::Key(_) | Subject::Unfinished(_) => self.alive(upload),
        };
        let upload = self.find(of).await?;
        check(&upload)?;
        self.admit(Action::Terminate(&upload), extensions).await?;
        let _claim = self.0.claims.seize(&upload.id, self.limits()).await?;
        let upload = self.load(&upload.id).await?;
        check(&upload)?;
        self.give_up(&upload).await?;
        tracing::info!(id = %upload.id, "removed");
        Ok(Outcome::Terminated)
    }

    /// Removes an upload for good; one that clients find by name leaves word of it.
    async fn give_up(&self, upload: &Upload) -> Result<(), Refusal> {
        if !upload.named {
            return self.remove(upload).await;
        }
        self.forget_hints(&upload.id);
        let changes = lifecycle::removal(self.limits(), self.now());
        self.commit(&upload.id, &Extensions::new(), |_| changes.clone()).await.map(|_| ())
    }

    /// Drops what is kept in memory about an upload that is gone.
    fn forget_hints(&self, id: &UploadId) {
        self.0.jumps.forget(id);
        self.0.pending.take(id);
    }

    fn now(&self) -> SystemTime {
        (self.0.clock)()
    }

    async fn admit(&self, action: Action<'_>, extensions: &Extensions) -> Result<(), Refusal> {
        self.0.gate.admit(Ask { action, extensions }).await.map_err(Refusal::Denied)
    }

    async fn load(&self, id: &UploadId) -> Result<Arc<Upload>, Refusal> {
        self.store().load(id).await.map_err(|error| refusal_of(id, &error))
    }

    /// An upload that is being written does not expire, whatever its record says (T-073).
    fn alive(&self, upload: &Upload) -> Result<(), Refusal> {
        if upload.is_void() || !self.0.claims.is_written(&upload.id) {
            lifecycle::alive(upload, self.now())?;
        }
        Ok(())
    }

    async fn remove(&self, upload: &Upload) -> Result<(), Refusal> {
        self.store().remove(&upload.id).await.map_err(|error| refusal_of(&upload.id, &error))?;
        self.forget_hints(&upload.id);
        self.0.observer.removed(upload);
        Ok(())
    }

    /// Makes the changes that `settle` finds due on the record as it is then. When they complete
    /// the upload, the application's completion step runs before them, once.
    ///
    /// # Errors
    /// What the store or the completion step says; then nothing is changed.
    async fn commit(
        &self,
        id: &UploadId,
        extensions: &Extensions,
        settle: impl Fn(&Upload) -> Vec<Change>,
    ) -> Result<(Arc<Upload>, Finished), Refusal> {
        let mut finished = None;
        loop {
            let upload = self.load(id).await?;
            let changes = settle(&upload);
            if changes.is_empty() {
                return Ok((upload, finished.unwrap_or_default()));
            }
            if finished.is_none() && changes.iter().any(Change::completes) {
                let done = upload.after(&changes).map_err(|_| Refusal::Internal)?;
                finished = Some(self.finish(&done, extensions).await?);
            }
            match self.store().commit(&upload, &changes).await {
                Ok(upload) => {
                    self.tell(&upload, &changes);
                    return Ok((upload, finished.unwrap_or_default()));
                }
                Err(StoreError::Stale) => {}
                Err(error) => return Err(refusal_of(id, &error)),
            }
        }
    }

    /// Runs the completion step for `upload`, complete from the next commit on.
    async fn finish(&self, upload: &Upload, extensions: &Extensions) -> Result<Finished, Refusal> {
        if upload.is_partial() {
            return Ok(Finished::default());
        }
        let finishing = hooks::Finishing { extensions, upload, store: &**self.store() };
        self.0.finisher.finish(finishing).await.map_err(|denial| {
            tracing::warn!(id = %upload.id, reason = %denial, "completion step failed");
            Refusal::Denied(denial)
        })
    }

    fn tell(&self, upload: &Upload, changes: &[Change]) {
        for change in changes {
            self.0.observer.changed(upload, change);
        }
        if changes.iter().any(Change::completes) {
            tracing::info!(id = %upload.id, bytes = upload.offset(), "complete");
            self.complete_waiting(upload);
        }
    }
}

impl Builder {
    /// Sets what the operator allows.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.0.limits = limits.clamped();
        self
    }

    /// Sets who is asked before.
    #[must_use]
    pub fn gate(mut self, gate: impl Gate) -> Self {
        self.0.gate = Arc::new(gate);
        self
    }

    /// Sets the completion step.
    #[must_use]
    pub fn finisher(mut self, finisher: impl Finisher) -> Self {
        self.0.finisher = Arc::new(finisher);
        self
    }

    /// Sets who is told after.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.0.observer = Arc::new(observer);
        self
    }

    /// Sets who tells the time; the system's clock otherwise.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.0.clock = clock;
        self
    }

    /// The engine.
    pub fn build(self) -> Engine {
        Engine(Arc::new(self.0))
    }
}

fn is_pending_final(upload: &Upload) -> bool {
    matches!(upload.role, Role::Final { .. }) && !upload.is_complete() && !upload.is_void()
}

/// What a client is told of `error`; the log has the rest.
fn refusal_of(id: &UploadId, error: &StoreError) -> Refusal {
    match error {
        StoreError::Absent => Refusal::Unknown,
        StoreError::Full => {
            tracing::error!(%id, "the store has no space left");
            Refusal::StoreFull
        }
        StoreError::Unsupported => Refusal::Unsupported { what: "this kind of upload" },
        StoreError::Damaged(_) | StoreError::Exists | StoreError::Io { .. } | StoreError::Stale => {
            tracing::error!(%id, %error, "store trouble");
            Refusal::StoreTrouble
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}
