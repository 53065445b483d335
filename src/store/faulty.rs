//! [`FaultyStore`]: a store that fails, stalls or loses responses as scripted, for tests of its
//! users.
//!
//! ```
//! # use std::sync::Arc;
//! # use windlass::store::{StoreError, faulty::{FaultyStore, Operation}, memory::MemoryStore};
//! let store = FaultyStore::new(Arc::new(MemoryStore::new()));
//! let faults = store.faults();
//! // The second commit from here on fails because the disk is full.
//! faults.fail(Operation::Commit, 2, || StoreError::Full);
//! ```

use std::{
    collections::HashMap,
    future::Future,
    io,
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::watch;

use super::{ByteStream, Pending, Store, StoreError, UploadStream, Writer};
use crate::upload::{Capabilities, Change, Key, Receipt, Upload, UploadId};

/// A call that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Store::by_key`].
    ByKey,
    /// [`Writer::checkpoint`].
    Checkpoint,
    /// [`Store::commit`].
    Commit,
    /// [`Store::create`].
    Create,
    /// [`Writer::finish`].
    Finish,
    /// [`Store::join`].
    Join,
    /// [`Store::list`]; its first item is the error. It never stalls.
    List,
    /// [`Store::load`].
    Load,
    /// [`Writer::push`].
    Push,
    /// [`Store::read`].
    Read,
    /// [`Store::remove`].
    Remove,
    /// [`Writer::reread`].
    Reread,
    /// [`Store::write`].
    Write,
}

/// An I/O error, for [`Faults::fail`].
pub fn injected_error() -> StoreError {
    StoreError::io("calling a faulty store", io::Error::other("injected error"))
}

/// What happens to one call.
#[derive(Debug)]
enum Fault {
    /// The call fails and is not passed on.
    Fail(fn() -> StoreError),
    /// The call is passed on, and fails afterwards.
    LoseAnswer,
    /// The call waits.
    Stall {
        /// Whether the call is passed on before it waits.
        is_made: bool,
        reached: watch::Sender<bool>,
        released: watch::Receiver<bool>,
    },
}

/// Scheduled faults and call counts.
#[derive(Debug, Default)]
struct Plan {
    calls: HashMap<Operation, u64>,
    faults: HashMap<(Operation, u64), Fault>,
    /// Bytes that writers still accept; `None` means no limit.
    space_bytes: Option<u64>,
}

/// Schedules the faults of a [`FaultyStore`]. All clones control the same store.
///
/// Calls are counted per operation over all uploads and writers. `nth` counts from now on; 1 is the
/// next call.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

impl Faults {
    /// The `nth` call fails with `error` and is not passed on.
    pub fn fail(&self, operation: Operation, nth: u64, error: fn() -> StoreError) {
        self.schedule(operation, nth, Fault::Fail(error));
    }

    /// The `nth` call is passed on, then fails with [`injected_error`].
    pub fn lose_answer(&self, operation: Operation, nth: u64) {
        self.schedule(operation, nth, Fault::LoseAnswer);
    }

    /// The `nth` call waits until it is released, then it is passed on.
    pub fn stall(&self, operation: Operation, nth: u64) -> Stall {
        self.plan_stall(operation, nth, false)
    }

    /// The `nth` call is passed on, and its response waits until it is released.
    pub fn delay_answer(&self, operation: Operation, nth: u64) -> Stall {
        self.plan_stall(operation, nth, true)
    }

    fn plan_stall(&self, operation: Operation, nth: u64, is_made: bool) -> Stall {
        let (reached, has_reached) = watch::channel(false);
        let (release, released) = watch::channel(false);
        let fault = Fault::Stall { is_made, reached, released };
        self.schedule(operation, nth, fault);
        Stall { reached: has_reached, release }
    }

    /// After `space_bytes` more bytes, pushes fail with [`StoreError::Full`]; `None` removes the
    /// limit.
    pub fn fill_up(&self, space_bytes: Option<u64>) {
        self.plan().space_bytes = space_bytes;
    }

    /// Removes all scheduled faults.
    pub fn clear(&self) {
        let mut plan = self.plan();
        plan.faults.clear();
        plan.space_bytes = None;
    }

    /// Returns the number of calls so far.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.plan().calls.get(&operation).copied().unwrap_or_default()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn schedule(&self, operation: Operation, nth: u64, fault: Fault) {
        let mut plan = self.plan();
        let call = plan.calls.get(&operation).copied().unwrap_or_default() + nth;
        plan.faults.insert((operation, call), fault);
    }

    /// Counts a call and returns its fault.
    fn next(&self, operation: Operation) -> Option<Fault> {
        let mut plan = self.plan();
        let calls = plan.calls.entry(operation).or_default();
        *calls += 1;
        let call = (operation, *calls);
        plan.faults.remove(&call)
    }

    /// Takes up to `wanted` bytes of the remaining space.
    fn take_space(&self, wanted: usize) -> usize {
        let mut plan = self.plan();
        let Some(space) = &mut plan.space_bytes else {
            return wanted;
        };
        let taken = usize::try_from(*space).unwrap_or(usize::MAX).min(wanted);
        *space -= taken as u64;
        taken
    }

    /// Makes a call with the fault scheduled for it.
    async fn call<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match self.next(operation) {
            None => call.await,
            Some(Fault::Fail(error)) => Err(error()),
            Some(Fault::LoseAnswer) => call.await.and_then(|_| Err(injected_error())),
            Some(Fault::Stall { is_made, reached, mut released }) => {
                let wait = async {
                    // An error means that the test dropped its end, which releases the call.
                    let _ = reached.send(true);
                    let _ = released.wait_for(|released| *released).await;
                };
                if is_made {
                    let answer = call.await;
                    wait.await;
                    return answer;
                }
                wait.await;
                call.await
            }
        }
    }
}

/// A stalled call. Dropping this releases it.
#[derive(Debug)]
pub struct Stall {
    reached: watch::Receiver<bool>,
    release: watch::Sender<bool>,
}

impl Stall {
    /// Waits until the call is stalled.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn reached(&mut self) {
        // An error means that the fault was cleared; there is nothing to wait for.
        let _ = self.reached.wait_for(|reached| *reached).await;
    }

    /// Lets the call continue.
    pub fn release(self) {
        // An error means that the caller dropped the call.
        let _ = self.release.send(true);
    }
}

/// A store that forwards to another one, with the faults scheduled by [`Faults`].
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Faults,
}

impl FaultyStore {
    /// Creates a store that forwards to `inner`.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, faults: Faults::default() }
    }

    /// Returns the handle that schedules faults.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn create(
        &self,
        upload: &Upload,
        predecessor: Option<&UploadId>,
    ) -> Result<(), StoreError> {
        self.faults.call(Operation::Create, self.inner.create(upload, predecessor)).await
    }

    async fn by_key(&self, key: &Key) -> Result<Arc<Upload>, StoreError> {
        self.faults.call(Operation::ByKey, self.inner.by_key(key)).await
    }

    async fn load(&self, id: &UploadId) -> Result<Arc<Upload>, StoreError> {
        self.faults.call(Operation::Load, self.inner.load(id)).await
    }

    async fn write(&self, upload: &Upload, at: u64) -> Result<Box<dyn Writer>, StoreError> {
        let inner = self.faults.call(Operation::Write, self.inner.write(upload, at)).await?;
        Ok(Box::new(FaultyWriter { inner, faults: self.faults.clone() }))
    }

    async fn commit(&self, upload: &Upload, changes: &[Change]) -> Result<Arc<Upload>, StoreError> {
        self.faults.call(Operation::Commit, self.inner.commit(upload, changes)).await
    }

    async fn join(&self, upload: &Upload, partials: &[Arc<Upload>]) -> Result<(), StoreError> {
        self.faults.call(Operation::Join, self.inner.join(upload, partials)).await
    }

    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream, StoreError> {
        self.faults.call(Operation::Read, self.inner.read(upload, range)).await
    }

    async fn remove(&self, upload: &Upload) -> Result<(), StoreError> {
        self.faults.call(Operation::Remove, self.inner.remove(upload)).await
    }

    async fn recover(&self) -> Result<(), StoreError> {
        self.inner.recover().await
    }

    fn list(&self) -> UploadStream {
        match self.faults.next(Operation::List) {
            Some(Fault::Fail(error)) => UploadStream::new(Failure(Some(error()))),
            Some(Fault::LoseAnswer) => UploadStream::new(Failure(Some(injected_error()))),
            Some(Fault::Stall { .. }) | None => self.inner.list(),
        }
    }
}

/// A stream of one error.
struct Failure(Option<StoreError>);

impl Stream for Failure {
    type Item = Result<Arc<Upload>, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take().map(Err))
    }
}

/// A writer with the faults scheduled by [`Faults`].
struct FaultyWriter {
    inner: Box<dyn Writer>,
    faults: Faults,
}

#[async_trait]
impl Writer for FaultyWriter {
    async fn push(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let space = self.faults.take_space(bytes.len());
        let fits = space == bytes.len();
        self.faults.call(Operation::Push, self.inner.push(bytes.slice(..space))).await?;
        if fits { Ok(()) } else { Err(StoreError::Full) }
    }

    fn checkpoint(&mut self) -> Pending<Result<Receipt, StoreError>> {
        let (inner, faults) = (self.inner.checkpoint(), self.faults.clone());
        Box::pin(async move { faults.call(Operation::Checkpoint, inner).await })
    }

    async fn reread(&mut self) -> Result<ByteStream, StoreError> {
        self.faults.call(Operation::Reread, self.inner.reread()).await
    }

    async fn finish(self: Box<Self>) -> Result<Receipt, StoreError> {
        let Self { inner, faults } = *self;
        faults.call(Operation::Finish, inner.finish()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{conformance, memory::MemoryStore};

    fn store() -> (Arc<FaultyStore>, Faults) {
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let faults = store.faults();
        (store, faults)
    }

    #[tokio::test]
    async fn store_without_faults_conforms() {
        struct Once(Arc<dyn Store>);
        #[async_trait]
        impl conformance::Place for Once {
            async fn open(&mut self) -> Result<Arc<dyn Store>, conformance::OpenError> {
                Ok(Arc::clone(&self.0))
            }
        }
        conformance::run(|| Box::new(Once(store().0))).await;
    }

    #[tokio::test]
    async fn nth_call_fails_and_is_not_made() {
        let (store, faults) = store();
        faults.fail(Operation::Create, 2, || StoreError::Full);
        let [a, b] = ["a", "b"].map(|id| conformance::upload(id, Some(5)));
        store.create(&a, None).await.expect("the first call is sound");
        assert!(matches!(store.create(&b, None).await, Err(StoreError::Full)));
        assert!(matches!(store.load(&b.id).await, Err(StoreError::Absent)));
        store.create(&b, None).await.expect("the third call is sound");
        assert_eq!(faults.calls(Operation::Create), 3);
    }

    #[tokio::test]
    async fn lost_answer_hides_a_call_that_was_made() {
        let (store, faults) = store();
        faults.lose_answer(Operation::Create, 1);
        let upload = conformance::upload("a", Some(5));
        assert!(matches!(store.create(&upload, None).await, Err(StoreError::Io { .. })));
        assert_eq!(*store.load(&upload.id).await.expect("it was made"), upload);
    }

    #[tokio::test]
    async fn stalled_call_waits_for_its_release() {
        let (store, faults) = store();
        let upload = conformance::upload("a", Some(5));
        let mut stall = faults.stall(Operation::Create, 1);
        let (own, id) = (Arc::clone(&store), upload.id.clone());
        let creating = tokio::spawn(async move { own.create(&upload, None).await });
        stall.reached().await;
        assert!(matches!(store.load(&id).await, Err(StoreError::Absent)));
        stall.release();
        creating.await.expect("no panic").expect("made after all");
        store.load(&id).await.expect("there now");
    }

    #[tokio::test]
    async fn full_store_takes_what_fits() {
        let (store, faults) = store();
        let upload = conformance::upload("a", Some(5));
        store.create(&upload, None).await.expect("sound");
        faults.fill_up(Some(3));
        let mut writer = store.write(&upload, 0).await.expect("sound");
        writer.push(Bytes::from_static(b"ab")).await.expect("fits");
        assert!(matches!(writer.push(Bytes::from_static(b"cde")).await, Err(StoreError::Full)));
        faults.fill_up(None);
        writer.push(Bytes::from_static(b"de")).await.expect("there is space again");
        let read = conformance::collect(writer.reread().await.expect("sound")).await;
        assert_eq!(read.expect("sound"), b"abcde");
    }
}
