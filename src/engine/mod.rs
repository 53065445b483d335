//! The only choreography: gate, reserve, plan, ingest, conclude, commit. Async; knows `upload`,
//! `rules`, `store` and `content`, and of HTTP only the extensions that carry a caller's identity.
//!
//! | file | what it does |
//! | --- | --- |
//! | `records.rs` | how records are read, made, changed and removed |
//! | `writers.rs` | who writes which bytes now |
//! | `append.rs`, `ingest.rs` | a write, around the one copy loop |
//! | `keyed.rs` | which upload a client's own name means |
//! | `finish.rs`, `digests.rs` | uploads that are complete on request, and their checksums |
//! | `concat.rs` | final uploads of partial ones |
//! | `sweep.rs` | expiry |
//! | `hooks.rs` | where an application has its say |

mod append;
mod concat;
mod digests;
mod finish;
pub mod hooks;
mod ingest;
mod keyed;
mod records;
mod sweep;
#[cfg(test)]
mod tests;
mod writers;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    time::SystemTime,
};

use http::Extensions;
use tokio::sync::Notify;

use self::{
    digests::Digests,
    records::{Leaves, Records, refusal_of},
    writers::Writers,
};
pub use self::{
    hooks::{Action, Admission, Finisher, Finishing, Gate, NoHooks, Observer},
    sweep::Swept,
};
use crate::{
    content::Content,
    rules::{
        FetchedBytes, Intent, Outcome, Refusal, Refused, Selection, ServerInfo, Subject, Test,
        fetch, keyed as sessions, lifecycle,
    },
    store::Store,
    upload::{Limits, Upload, UploadId},
};

/// A request on its way to its outcome.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<Outcome, Refused>> + Send + 'a>>;

/// Gives the time.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Does what intents ask for, on one store. A handle: clones are the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    /// Woken when a session of a client's own name begins.
    begun: Notify,
    gate: Arc<dyn Gate>,
    /// See [`Engine::start`].
    is_started: AtomicBool,
    records: Records,
    writers: Writers,
}

/// An [`Engine`] in the making.
pub struct Builder(Inner);

impl Engine {
    /// An engine on `store`, without limits and hooks as long as none are set.
    pub fn builder(store: Arc<dyn Store>) -> Builder {
        Builder(Inner {
            begun: Notify::new(),
            gate: Arc::new(NoHooks),
            is_started: AtomicBool::new(false),
            records: Records {
                clock: Arc::new(SystemTime::now),
                digests: Digests::default(),
                finisher: Arc::new(NoHooks),
                limits: Limits::default(),
                observer: Arc::new(NoHooks),
                store,
            },
            writers: Writers::default(),
        })
    }

    /// What the operator allows.
    pub fn limits(&self) -> &Limits {
        &self.0.records.limits
    }

    /// Where bytes and records live.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.records.store
    }

    /// Does what `intent` asks for. `content` is polled only once the request is known to be
    /// allowed; `extensions` are handed to the hooks.
    ///
    /// # Errors
    /// A [`Refused`] with the reason. A refusal that is decided before the body changes nothing.
    /// One that is decided later never completes an upload and takes nothing back: what was
    /// recorded of the body on the way stays (I-03). A creation that is refused leaves nothing
    /// behind.
    ///
    /// # Cancel safety
    /// A write that is dropped loses what it has not recorded; run it on a task of its own.
    pub fn run<'a>(
        &'a self,
        intent: Intent,
        mut content: Content,
        extensions: &'a Extensions,
    ) -> Running<'a> {
        // Box each branch, or every HEAD allocates a PATCH-sized future.
        match intent {
            Intent::Discover => Box::pin(async { Ok(self.discover()) }),
            Intent::Finish(finish) => Box::pin(async move {
                let finished = self.finish(&finish, extensions).await;
                finished.map_err(Refused::from)
            }),
            Intent::List { owner } => Box::pin(async move {
                let listed = self.list(owner.as_deref(), extensions).await;
                listed.map_err(Refused::from)
            }),
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
        Outcome::Discovered(Box::new(ServerInfo {
            capabilities: self.store().capabilities(),
            limits: self.limits().clone(),
        }))
    }

    /// Whether [`Engine::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.0.writers.is_closed()
    }

    /// Refuses new writes, stops those that run, keeping the bytes they have received, and returns
    /// when the last one is recorded.
    ///
    /// # Cancel safety
    /// Safe; call it again to wait further.
    pub async fn close(&self) {
        self.0.writers.close().await;
    }

    async fn status(&self, of: &Subject, extensions: &Extensions) -> Result<Outcome, Refused> {
        let mut upload = self.find(of).await?;
        self.admit(Action::Status(&upload), extensions).await?;
        // Chunks in flight never count partially: by key there is nothing to flush.
        let flushes = matches!(of, Subject::Id(_) | Subject::Owned(..));
        if flushes && self.0.writers.is_written(&upload.id) {
            self.0.writers.flush(&upload.id, self.limits()).await;
            upload = self.load(&upload.id).await?;
        }
        self.check_alive(&upload)?;
        if upload.is_pending_final() {
            upload = self.resolve(upload, extensions).await?;
        }
        Ok(Outcome::Status { upload })
    }

    async fn test(&self, test: &Test, extensions: &Extensions) -> Result<Outcome, Refused> {
        let upload = self.0.records.by_key(&test.key).await?.ok_or(Refusal::Unknown)?;
        self.admit(Action::Status(&upload), extensions).await?;
        let (limits, is_written) = (self.limits(), self.0.writers.is_written(&upload.id));
        let Test { length, range, .. } = test;
        let due = |upload: &Upload| {
            let now = self.now();
            match sessions::is_present(upload, range, *length, is_written, limits, now) {
                true => Ok(lifecycle::touched(upload, limits, now).into_iter().collect()),
                false => Err(Refusal::Unknown),
            }
        };
        let (upload, _) = self.0.records.commit(upload, extensions, due).await?;
        Ok(Outcome::Status { upload })
    }

    /// The upload that a request is about.
    async fn find(&self, of: &Subject) -> Result<Arc<Upload>, Refusal> {
        match of {
            Subject::Id(id) => self.load(id).await,
            Subject::Owned(id, owner) => self.load_owned(id, owner.as_deref()).await,
            Subject::Key(key) | Subject::Unfinished(key) => {
                let upload = self.0.records.by_key(key).await?.ok_or(Refusal::Unknown)?;
                sessions::is_current(&upload, self.limits(), self.now())?;
                Ok(upload)
            }
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
        if upload.is_pending_final() {
            upload = self.resolve(upload, extensions).await?;
        }
        let Some(range) = fetch::select(&upload, selection, self.now())? else {
            return Ok(Outcome::Fetched { bytes: None, upload });
        };
        let stream = self.store().read(&upload, range.clone()).await;
        let stream = stream.map_err(|error| refusal_of(id, &error))?.into_inner();
        let partial = *selection != Selection::All;
        Ok(Outcome::Fetched { bytes: Some(FetchedBytes { partial, range, stream }), upload })
    }

    async fn terminate(&self, of: &Subject, extensions: &Extensions) -> Result<Outcome, Refused> {
        if !self.limits().termination {
            return Err(Refusal::Unsupported { what: "removing uploads" }.into());
        }
        let check_kept = |upload: &Upload| match of {
            Subject::Unfinished(_) if upload.is_complete() => Err(Refusal::Unknown),
            Subject::Id(_) | Subject::Key(_) | Subject::Owned(..) | Subject::Unfinished(_) => {
                Ok(())
            }
        };
        let check = |upload: &Upload| check_kept(upload).and_then(|()| self.check_alive(upload));
        let upload = self.find(of).await?;
        check(&upload)?;
        self.admit(Action::Terminate(&upload), extensions).await?;
        let _reservation = self.0.writers.stop_all(&upload.id, self.limits()).await?;
        let upload = self.load(&upload.id).await?;
        check(&upload)?;
        let id = upload.id.clone();
        let still = |now: &Upload| check_kept(now).map(|()| !now.is_void());
        self.0.records.end_while(upload, Leaves::Tombstone, still).await?;
        tracing::info!(%id, "removed");
        Ok(Outcome::Terminated)
    }

    fn now(&self) -> SystemTime {
        self.0.records.now()
    }

    async fn admit(&self, action: Action<'_>, extensions: &Extensions) -> Result<(), Refusal> {
        self.0.gate.admit(Admission { action, extensions }).await.map_err(Refusal::Denied)
    }

    async fn load(&self, id: &UploadId) -> Result<Arc<Upload>, Refusal> {
        self.0.records.load(id).await
    }

    /// An upload that is being written does not expire, whatever its record says (T-073).
    fn check_alive(&self, upload: &Upload) -> Result<(), Refusal> {
        if upload.is_void() || !self.0.writers.is_written(&upload.id) {
            lifecycle::check_alive(upload, self.now())?;
        }
        Ok(())
    }
}

impl Builder {
    /// Sets what the operator allows.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.0.records.limits = limits.clamped();
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
        self.0.records.finisher = Arc::new(finisher);
        self
    }

    /// Sets who hears of changes.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.0.records.observer = Arc::new(observer);
        self
    }

    /// Sets what gives the time; the system's clock otherwise.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.0.records.clock = clock;
        self
    }

    /// The engine.
    pub fn build(self) -> Engine {
        Engine(Arc::new(self.0))
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("limits", &self.0.records.limits).finish_non_exhaustive()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("limits", &self.0.records.limits).finish_non_exhaustive()
    }
}
