//! [`Stage`]: a store, and hooks, in which nothing happens before its turn.

use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    engine::{Finisher, Finishing, Observer},
    rules::{Denial, Finished},
    store::{ByteStream, Pending, Store, StoreError, UploadStream, Writer, faulty},
    upload::{Capabilities, Change, Event, Key, Receipt, Upload, UploadId},
};

/// How a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is not made. Of the completion step: it says no for now.
    Fail,
    /// It is not made, for want of space. Of the completion step: it says no for good.
    FailForGood,
    /// It is made, and its answer lost.
    LoseAnswer,
    /// It is made.
    Make,
}

/// A call that can go wrong. The order is that in which calls are offered for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    ByKey,
    Checkpoint,
    Commit,
    Create,
    Finish,
    Hook,
    Join,
    Load,
    Push,
    Read,
    Remove,
    Reread,
    Write,
}

impl Call {
    /// Whether it may be made and yet fail. Not a commit, of which a store promises that it says no
    /// only when nothing is changed.
    pub(super) const fn may_lose_answer(self) -> bool {
        matches!(self, Self::Create | Self::Finish | Self::Join | Self::Push | Self::Remove)
    }

    /// Whether it may still be made after the node that asked for it has died.
    const fn may_be_late(self) -> bool {
        matches!(self, Self::Commit | Self::Create | Self::Join | Self::Remove)
    }

    /// Whether observers hear of what it does.
    pub(super) const fn is_heard(self) -> bool {
        matches!(self, Self::Commit | Self::Create | Self::Remove)
    }
}

/// A call that waits for its turn.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) call: Call,
    /// Whether the node that asked for it is dead.
    pub(super) is_late: bool,
    pub(super) node: usize,
    /// The upload, by its number.
    pub(super) number: usize,
    go: oneshot::Sender<Verdict>,
}

impl Turn {
    /// Lets the call go as `verdict` says.
    pub(super) fn go(self, verdict: Verdict) {
        // An error means that the caller was dropped meanwhile.
        let _ = self.go.send(verdict);
    }
}

/// What an application heard, or said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The completion step of an upload said no for good, seeing it at this revision.
    Denied(usize, u64),
    Event(usize, Event),
    /// The completion step said yes.
    Finished(usize),
}

/// What all nodes of a walk share, alive and dead.
#[derive(Debug, Clone, Default)]
pub(super) struct Backstage(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    heard: Vec<Heard>,
    /// How often each node has died.
    deaths: HashMap<usize, u64>,
    numbers: HashMap<UploadId, usize>,
    turns: Vec<Turn>,
}

impl Shared {
    fn deaths(&self, node: usize) -> u64 {
        self.deaths.get(&node).copied().unwrap_or_default()
    }
}

impl Backstage {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number by which a walk speaks of `id`: the same in every walk of the same seed.
    pub(super) fn number(&self, id: &UploadId) -> usize {
        let mut shared = self.lock();
        let next = shared.numbers.len();
        *shared.numbers.entry(id.clone()).or_insert(next)
    }

    /// The ids that were met so far, by their numbers.
    pub(super) fn ids(&self) -> Vec<UploadId> {
        let shared = self.lock();
        let mut ids: Vec<_> = shared.numbers.iter().collect();
        ids.sort_by_key(|(_, number)| **number);
        ids.into_iter().map(|(id, _)| id.clone()).collect()
    }

    /// How many calls wait.
    pub(super) fn waiting(&self) -> usize {
        let mut shared = self.lock();
        shared.turns.retain(|turn| !turn.go.is_closed());
        shared.turns.len()
    }

    /// The `index`th call of those that wait, in an order that does not depend on which was polled
    /// first.
    pub(super) fn take(&self, index: usize) -> Turn {
        let mut shared = self.lock();
        shared.turns.sort_by_key(|turn| (turn.node, turn.number, turn.call));
        shared.turns.remove(index)
    }

    /// What was heard since the last time.
    pub(super) fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut self.lock().heard)
    }

    /// A node dies: nothing that it has begun goes on, but for the calls on their way that `lands`
    /// says true of. These are made some time later, and nobody hears of it.
    pub(super) fn die(&self, node: usize, mut lands: impl FnMut() -> bool) {
        let mut shared = self.lock();
        *shared.deaths.entry(node).or_default() += 1;
        shared.turns.sort_by_key(|turn| (turn.node, turn.number, turn.call));
        shared.turns.retain_mut(|turn| {
            if turn.node != node {
                return true;
            }
            turn.is_late = turn.is_late || (turn.call.may_be_late() && lands());
            turn.is_late
        });
    }

    /// The stage for `node` as it is alive now.
    pub(super) fn stage(&self, node: usize, inner: Arc<dyn Store>) -> Stage {
        Stage { inner, life: self.lock().deaths(node), node, shared: self.clone() }
    }

    fn note(&self, heard: Heard) {
        self.lock().heard.push(heard);
    }
}

/// A store whose calls wait for their turn, and the hooks of the same node.
#[derive(Clone)]
pub(super) struct Stage {
    inner: Arc<dyn Store>,
    life: u64,
    node: usize,
    shared: Backstage,
}

impl Stage {
    fn is_dead(&self) -> bool {
        self.shared.lock().deaths(self.node) != self.life
    }

    async fn turn(&self, number: usize, call: Call) -> Verdict {
        let (go, gone) = oneshot::channel();
        if !self.is_dead() {
            let turn = Turn { call, is_late: false, node: self.node, number, go };
            self.shared.lock().turns.push(turn);
        }
        match gone.await {
            Ok(verdict) => verdict,
            Err(_) => std::future::pending().await,
        }
    }

    async fn call<T>(
        &self,
        number: usize,
        call: Call,
        made: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let result = match self.turn(number, call).await {
            Verdict::Fail => Err(faulty::injected_error()),
            Verdict::FailForGood => Err(StoreError::Full),
            Verdict::LoseAnswer => made.await.and_then(|_| Err(faulty::injected_error())),
            Verdict::Make => made.await,
        };
        if self.is_dead() { std::future::pending().await } else { result }
    }

    async fn on<T>(
        &self,
        id: &UploadId,
        call: Call,
        made: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.call(self.shared.number(id), call, made).await
    }

    /// A call that asks. The answer takes its time as well: what it says may be old when it is
    /// heard.
    async fn ask<T: Send>(
        &self,
        id: &UploadId,
        call: Call,
        made: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let answer = self.on(id, call, made).await?;
        self.on(id, call, async { Ok(answer) }).await
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Stage {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn create(
        &self,
        upload: &Upload,
        predecessor: Option<&UploadId>,
    ) -> Result<(), StoreError> {
        let made = self.inner.create(upload, predecessor);
        self.on(&upload.id, Call::Create, made).await
    }

    async fn by_key(&self, key: &Key) -> Result<Arc<Upload>, StoreError> {
        self.ask(&key.to_id(), Call::ByKey, self.inner.by_key(key)).await
    }

    async fn load(&self, id: &UploadId) -> Result<Arc<Upload>, StoreError> {
        self.ask(id, Call::Load, self.inner.load(id)).await
    }

    async fn write(&self, upload: &Upload, at: u64) -> Result<Box<dyn Writer>, StoreError> {
        let made = self.inner.write(upload, at);
        let inner = self.on(&upload.id, Call::Write, made).await?;
        let number = self.shared.number(&upload.id);
        Ok(Box::new(StageWriter { inner, number, stage: self.clone() }))
    }

    async fn commit(&self, upload: &Upload, changes: &[Change]) -> Result<Arc<Upload>, StoreError> {
        let made = self.inner.commit(upload, changes);
        self.on(&upload.id, Call::Commit, made).await
    }

    async fn join(&self, upload: &Upload, partials: &[Arc<Upload>]) -> Result<(), StoreError> {
        let made = self.inner.join(upload, partials);
        self.on(&upload.id, Call::Join, made).await
    }

    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let made = self.inner.read(upload, range);
        self.on(&upload.id, Call::Read, made).await
    }

    async fn remove(&self, upload: &Upload) -> Result<(), StoreError> {
        self.on(&upload.id, Call::Remove, self.inner.remove(upload)).await
    }

    /// In the order of the numbers, so that a sweep does the same in every walk of a seed.
    fn list(&self) -> UploadStream {
        struct Records(std::vec::IntoIter<UploadId>, Arc<dyn Store>);
        impl futures_core::Stream for Records {
            type Item = Result<Arc<Upload>, StoreError>;

            fn poll_next(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<Option<Self::Item>> {
                let Some(id) = self.0.next() else {
                    return Poll::Ready(None);
                };
                let store = Arc::clone(&self.1);
                let mut load = Box::pin(async move { store.load(&id).await });
                let loaded = ready!(load.as_mut().poll(cx));
                if matches!(loaded, Err(StoreError::Absent)) {
                    return self.poll_next(cx);
                }
                Poll::Ready(Some(loaded))
            }
        }
        UploadStream::new(Records(self.shared.ids().into_iter(), Arc::clone(&self.inner)))
    }
}

/// A writer whose calls wait for their turn.
struct StageWriter {
    inner: Box<dyn Writer>,
    number: usize,
    stage: Stage,
}

#[async_trait]
impl Writer for StageWriter {
    async fn push(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let made = self.inner.push(bytes);
        self.stage.call(self.number, Call::Push, made).await
    }

    fn checkpoint(&mut self) -> Pending<Result<Receipt, StoreError>> {
        let (stage, number, made) = (self.stage.clone(), self.number, self.inner.checkpoint());
        Box::pin(async move { stage.call(number, Call::Checkpoint, made).await })
    }

    async fn reread(&mut self) -> Result<ByteStream, StoreError> {
        let made = self.inner.reread();
        self.stage.call(self.number, Call::Reread, made).await
    }

    async fn finish(self: Box<Self>) -> Result<Receipt, StoreError> {
        let made = self.inner.finish();
        self.stage.call(self.number, Call::Finish, made).await
    }
}

#[async_trait]
impl Finisher for Stage {
    async fn finish(&self, finishing: Finishing<'_>) -> Result<Finished, Denial> {
        let Upload { id, revision, .. } = finishing.upload;
        let number = self.shared.number(id);
        match self.turn(number, Call::Hook).await {
            Verdict::Fail => Err(Denial::unavailable("later", Duration::from_secs(1))),
            Verdict::FailForGood => {
                self.shared.note(Heard::Denied(number, revision.saturating_sub(1)));
                Err(Denial::invalid("never"))
            }
            Verdict::LoseAnswer | Verdict::Make => {
                self.shared.note(Heard::Finished(number));
                Ok(Finished::default())
            }
        }
    }
}

impl Observer for Stage {
    fn event(&self, upload: &Upload, event: Event) {
        self.shared.note(Heard::Event(self.shared.number(&upload.id), event));
    }
}
