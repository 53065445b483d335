//! Who is writing which byte range of which upload, and how one gives way to another (D-46, D-47).

use std::{
    collections::HashMap,
    future::{Future as _, poll_fn},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{
    rules::Refusal,
    upload::{Limits, Ranges, UploadId},
};

/// How long a status request waits for a running writer to make its bytes safe. HEAD answers at
/// once (D-47), so a writer that is slower than this is reported as of its last checkpoint.
const FLUSH_WAIT: Duration = Duration::from_millis(500);

/// All claims of one engine.
#[derive(Debug, Default)]
pub(super) struct Claims(Arc<Registry>);

#[derive(Debug, Default)]
struct Registry {
    /// Woken when the last claim is released.
    empty: Notify,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    by_upload: HashMap<UploadId, Vec<Arc<Holder>>>,
    closed: bool,
}

/// The shared side of one claim.
#[derive(Debug)]
struct Holder {
    /// Woken when the state changes in the interest of those who wait for the holder.
    changed: Notify,
    kind: Kind,
    range: Range<u64>,
    /// Woken when the holder is asked for something.
    signal: Notify,
    /// Set with `signal`, so that the holder need not lock to see that nothing is asked.
    signalled: AtomicBool,
    /// How long it may wait for its client before it has to give way.
    stall_after: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How often the holder was asked to make its bytes safe, and how many of these are done.
    flushes: u64,
    flushes_done: u64,
    released: bool,
    stop: Option<Stop>,
    /// The highest offset that a client was told while this claim was held.
    told: Option<u64>,
    /// Since when the holder waits for its client.
    waiting_since: Option<Instant>,
    /// The holder takes back what it recorded; nobody may be told an offset meanwhile.
    withdrawing: bool,
}

/// How a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// Once it has waited this long for its client it gives way to others.
    pub(super) stall_after: Duration,
    /// How long it waits for others that go on.
    pub(super) wait: Duration,
}

/// What a claim is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To keep writers out.
    Guard,
    /// To write bytes that count as they arrive.
    Pieces,
    /// To write bytes that count together or not at all.
    Whole,
}

/// Why a writer must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// A newer request takes over from a silent one.
    Displaced,
    /// The server is going down.
    ShuttingDown,
    /// The upload is being removed.
    Terminated,
}

/// What a writer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Make safe what has arrived; answer with [`Claim::flushed`] and this number.
    Flush(u64),
    /// Stop.
    Stop(Stop),
}

/// The right to write a byte range of an upload, until dropped.
#[derive(Debug)]
pub(super) struct Claim {
    holder: Arc<Holder>,
    id: UploadId,
    registry: Arc<Registry>,
}

impl Claims {
    /// The right to write `range` of `id`. A silent holder of an overlapping claim is told to stop,
    /// a live one is waited for.
    ///
    /// # Errors
    /// [`Refusal::Busy`] at the deadline; [`Refusal::ShuttingDown`].
    ///
    /// # Cancel safety
    /// Safe: a claim is returned, or nothing is left behind.
    pub(super) async fn claim(
        &self,
        id: &UploadId,
        range: Range<u64>,
        kind: Kind,
        patience: Patience,
    ) -> Result<Claim, Refusal> {
        let deadline = Instant::now() + patience.wait;
        loop {
            if self.is_closed() {
                return Err(Refusal::ShuttingDown);
            }
            let stall_after = patience.stall_after;
            let holder = match self.try_claim(id, range.clone(), kind, stall_after) {
                Ok(claim) => return Ok(claim),
                Err(holder) => holder,
            };
            if !holder.released(deadline).await {
                return Err(Refusal::Busy);
            }
        }
    }

    /// The right to remove `id`: every writer is told to stop at once.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when one does not within the time allowed; [`Refusal::ShuttingDown`].
    ///
    /// # Cancel safety
    /// Safe, but writers may have been told to stop.
    pub(super) async fn seize(&self, id: &UploadId, limits: &Limits) -> Result<Claim, Refusal> {
        let deadline = Instant::now() + limits.lock_wait;
        loop {
            if self.is_closed() {
                return Err(Refusal::ShuttingDown);
            }
            let holder = match self.try_claim(id, 0..u64::MAX, Kind::Guard, Duration::MAX) {
                Ok(claim) => return Ok(claim),
                Err(holder) => holder,
            };
            holder.ask_to_stop(Stop::Terminated);
            if !holder.released(deadline).await {
                return Err(Refusal::Busy);
            }
        }
    }

    /// The right to all of `id` if nobody holds any of it, to clean up: while the server is going
    /// down as well.
    pub(super) fn claim_idle(&self, id: &UploadId) -> Option<Claim> {
        self.try_claim(id, 0..u64::MAX, Kind::Guard, Duration::MAX).ok()
    }

    fn try_claim(
        &self,
        id: &UploadId,
        range: Range<u64>,
        kind: Kind,
        stall_after: Duration,
    ) -> Result<Claim, Arc<Holder>> {
        let mut held = self.0.lock();
        let holders = held.by_upload.entry(id.clone()).or_default();
        let overlaps =
            |other: &&Arc<Holder>| range.start < other.range.end && other.range.start < range.end;
        if let Some(holder) = holders.iter().find(overlaps) {
            return Err(Arc::clone(holder));
        }
        let holder = Arc::new(Holder::new(range, kind, stall_after));
        holders.push(Arc::clone(&holder));
        Ok(Claim { holder, id: id.clone(), registry: Arc::clone(&self.0) })
    }

    /// Whether anybody writes to `id`.
    pub(super) fn is_written(&self, id: &UploadId) -> bool {
        let held = self.0.lock();
        let holders = held.by_upload.get(id).map(Vec::as_slice).unwrap_or_default();
        holders.iter().any(|holder| holder.kind != Kind::Guard)
    }

    /// Returns when the first of the writers of `id` is gone, if they hold all of `gaps` between
    /// them. False when they do not, or not in time.
    pub(super) async fn one_released(
        &self,
        id: &UploadId,
        gaps: &[Range<u64>],
        deadline: Instant,
    ) -> bool {
        let holders = self.0.lock().by_upload.get(id).cloned().unwrap_or_default();
        let mut held = Ranges::new();
        for holder in &holders {
            held.insert(holder.range.clone());
        }
        if gaps.is_empty() || !gaps.iter().all(|gap| held.covers(gap)) {
            return false;
        }
        let mut released: Vec<_> = holders
            .iter()
            .map(|holder| Box::pin(holder.until(Duration::MAX, deadline, |state| state.released)))
            .collect();
        poll_fn(|cx| {
            let ready = released.iter_mut().find_map(|one| match one.as_mut().poll(cx) {
                Poll::Ready(released) => Some(released),
                Poll::Pending => None,
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Returns when every writer of `id` has made its bytes safe or is gone; a silent one is told
    /// to stop, so that a write at the offset told next succeeds. Never longer than the time
    /// allowed.
    pub(super) async fn settle(&self, id: &UploadId, limits: &Limits) {
        let holders = self.0.lock().by_upload.get(id).cloned().unwrap_or_default();
        for holder in holders {
            holder.settled(limits).await;
        }
    }

    /// Notes that a client is told `offset` of `id`: no writer takes it back from now on. False
    /// when one is about to; ask again after [`Claims::settle`].
    pub(super) fn tell(&self, id: &UploadId, offset: u64) -> bool {
        let held = self.0.lock();
        let holders = held.by_upload.get(id).map(Vec::as_slice).unwrap_or_default();
        holders.iter().all(|holder| holder.tell(offset))
    }

    /// Whether new claims are refused.
    pub(super) fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    /// Refuses new claims, stops every writer, and returns when the last one is gone.
    pub(super) async fn close(&self) {
        let holders: Vec<_> = {
            let mut held = self.0.lock();
            held.closed = true;
            held.by_upload.values().flatten().cloned().collect()
        };
        for holder in holders {
            holder.ask_to_stop(Stop::ShuttingDown);
        }
        loop {
            let mut empty = std::pin::pin!(self.0.empty.notified());
            empty.as_mut().enable();
            if self.0.lock().by_upload.is_empty() {
                return;
            }
            empty.await;
        }
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder {
    fn new(range: Range<u64>, kind: Kind, stall_after: Duration) -> Self {
        Self {
            changed: Notify::new(),
            kind,
            range,
            signal: Notify::new(),
            signalled: AtomicBool::new(false),
            stall_after,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask_to_stop(&self, stop: Stop) {
        // The first reason stays: what the holder does about it may have begun.
        self.lock().stop.get_or_insert(stop);
        self.wake();
    }

    fn wake(&self) {
        self.signalled.store(true, Ordering::Release);
        self.signal.notify_one();
    }

    /// Waits until the holder is gone, telling it to stop once it has been silent for too long.
    /// False at the deadline.
    async fn released(&self, deadline: Instant) -> bool {
        let stall_after = self.stall_after;
        self.until(stall_after, deadline, |state| state.released).await
    }

    /// Waits until the holder's bytes are safe or it is gone; see [`Claims::settle`].
    async fn settled(&self, limits: &Limits) {
        let now = Instant::now();
        let flush = {
            let mut state = self.lock();
            if self.kind == Kind::Pieces {
                state.flushes += 1;
            }
            state.flushes
        };
        if self.kind == Kind::Pieces {
            self.wake();
        }
        // A silent holder is stopped first, and then waited for as long as a writer would.
        let done =
            |state: &State| state.released || (state.stop.is_none() && state.flushes_done >= flush);
        if self.is_silent() {
            self.released(now + limits.lock_wait).await;
        } else if self.kind == Kind::Pieces {
            self.until(Duration::MAX, now + FLUSH_WAIT, done).await;
        }
    }

    fn is_silent(&self) -> bool {
        self.lock().waiting_since.is_some_and(|since| since.elapsed() >= self.stall_after)
    }

    async fn until(
        &self,
        stall_after: Duration,
        deadline: Instant,
        done: impl Fn(&State) -> bool,
    ) -> bool {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = Instant::now();
            let look_again = {
                let state = self.lock();
                if done(&state) {
                    return true;
                }
                if now >= deadline {
                    return false;
                }
                let since = state.waiting_since.unwrap_or(now);
                since.checked_add(stall_after).unwrap_or(deadline)
            };
            if look_again <= now {
                self.ask_to_stop(Stop::Displaced);
            }
            let wake_at = if look_again <= now { deadline } else { look_again.min(deadline) };
            tokio::select! {
                () = changed => {}
                () = sleep_until(wake_at) => {}
            }
        }
    }

    fn tell(&self, offset: u64) -> bool {
        let mut state = self.lock();
        if !state.withdrawing {
            state.told = state.told.max(Some(offset));
        }
        !state.withdrawing
    }
}

impl Claim {
    /// Why the holder must stop, if it must. Cheap: for the way of every frame.
    pub(super) fn signalled(&self) -> bool {
        self.holder.signalled.load(Ordering::Acquire)
    }

    /// What the holder is asked for, now or later.
    ///
    /// # Cancel safety
    /// Safe: what is asked stays asked until it is returned.
    pub(super) async fn signal(&self) -> Signal {
        loop {
            let signalled = self.holder.signal.notified();
            if self.holder.signalled.swap(false, Ordering::AcqRel) {
                let state = self.holder.lock();
                if let Some(stop) = state.stop {
                    return Signal::Stop(stop);
                }
                if state.flushes > state.flushes_done {
                    return Signal::Flush(state.flushes);
                }
            }
            signalled.await;
        }
    }

    /// Answers all requests to flush up to this number.
    pub(super) fn flushed(&self, flush: u64) {
        let mut state = self.holder.lock();
        state.flushes_done = state.flushes_done.max(flush);
        self.holder.changed.notify_waiters();
    }

    /// The holder begins to wait for its client, if it does not already.
    pub(super) fn waits(&self) {
        self.holder.lock().waiting_since.get_or_insert_with(Instant::now);
    }

    /// The holder does not wait for its client any more.
    pub(super) fn works(&self) {
        self.holder.lock().waiting_since = None;
    }

    /// The highest offset that a client was told while this claim was held. Nobody is told one any
    /// more until the claim is released.
    pub(super) fn withdraw(&self) -> Option<u64> {
        let mut state = self.holder.lock();
        state.withdrawing = true;
        state.told
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut held = self.registry.lock();
        if let Some(holders) = held.by_upload.get_mut(&self.id) {
            holders.retain(|holder| !Arc::ptr_eq(holder, &self.holder));
            if holders.is_empty() {
                held.by_upload.remove(&self.id);
            }
        }
        let empty = held.by_upload.is_empty();
        drop(held);
        self.holder.lock().released = true;
        self.holder.changed.notify_waiters();
        if empty {
            self.registry.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(limits: &Limits) -> Patience {
        Patience { stall_after: limits.stall_after, wait: limits.lock_wait }
    }

    fn claims() -> (Claims, Limits, UploadId) {
        (Claims::default(), Limits::default(), "a".parse().expect("plain"))
    }

    #[tokio::test(start_paused = true)]
    async fn claims_of_separate_ranges_run_side_by_side() {
        let (claims, limits, id) = claims();
        let first = claims.claim(&id, 0..10, Kind::Pieces, patience(&limits)).await.expect("free");
        let second =
            claims.claim(&id, 10..20, Kind::Pieces, patience(&limits)).await.expect("free");
        drop((first, second));
        assert!(!claims.is_written(&id));
    }

    #[tokio::test(start_paused = true)]
    async fn live_holder_is_waited_for_and_never_displaced() {
        let (claims, limits, id) = claims();
        let claim = claims.claim(&id, 0..10, Kind::Pieces, patience(&limits)).await.expect("free");
        let started = Instant::now();
        let newcomer = claims.claim(&id, 5..9, Kind::Pieces, patience(&limits));
        let feed = async {
            loop {
                claim.waits();
                tokio::time::sleep(Duration::from_millis(900)).await;
                claim.works();
            }
        };
        tokio::select! {
            result = newcomer => assert_eq!(result.err(), Some(Refusal::Busy)),
            () = feed => unreachable!("feeding never ends"),
        }
        assert_eq!(started.elapsed(), limits.lock_wait);
        assert!(!claim.signalled());
    }

    #[tokio::test(start_paused = true)]
    async fn silent_holder_is_told_to_stop_after_the_stall_time() {
        let (claims, limits, id) = claims();
        let claim = claims.claim(&id, 0..10, Kind::Pieces, patience(&limits)).await.expect("free");
        claim.waits();
        let started = Instant::now();
        let holder = async {
            assert_eq!(claim.signal().await, Signal::Stop(Stop::Displaced));
            drop(claim);
        };
        let (newcomer, ()) =
            tokio::join!(claims.claim(&id, 5..9, Kind::Pieces, patience(&limits)), holder);
        assert!(newcomer.is_ok());
        assert_eq!(started.elapsed(), limits.stall_after);
    }

    #[tokio::test(start_paused = true)]
    async fn seizing_stops_a_live_holder_at_once() {
        let (claims, limits, id) = claims();
        let claim = claims.claim(&id, 0..10, Kind::Pieces, patience(&limits)).await.expect("free");
        let started = Instant::now();
        let holder = async {
            assert_eq!(claim.signal().await, Signal::Stop(Stop::Terminated));
            drop(claim);
        };
        let (seized, ()) = tokio::join!(claims.seize(&id, &limits), holder);
        assert!(seized.is_ok());
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn status_asks_a_live_holder_to_flush_and_stops_a_silent_one() {
        let (claims, limits, id) = claims();
        let claim = claims.claim(&id, 0..10, Kind::Pieces, patience(&limits)).await.expect("free");
        let ((), signal) = tokio::join!(claims.settle(&id, &limits), async {
            let signal = claim.signal().await;
            if let Signal::Flush(flush) = signal {
                claim.flushed(flush);
            }
            signal
        });
        assert_eq!(signal, Signal::Flush(1));
        claim.waits();
        tokio::time::advance(limits.stall_after).await;
        let ((), signal) = tokio::join!(claims.settle(&id, &limits), async {
            let signal = claim.signal().await;
            drop(claim);
            signal
        });
        assert_eq!(signal, Signal::Stop(Stop::Displaced));
    }

    #[tokio::test(start_paused = true)]
    async fn offsets_told_bound_what_is_taken_back() {
        let (claims, limits, id) = claims();
        let claim = claims.claim(&id, 0..10, Kind::Pieces, patience(&limits)).await.expect("free");
        assert!(claims.tell(&id, 3) && claims.tell(&id, 2));
        assert_eq!(claim.withdraw(), Some(3));
        assert!(!claims.tell(&id, 4));
        drop(claim);
        assert!(claims.tell(&id, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn signal_that_was_answered_already_yields_nothing() {
        let (claims, limits, id) = claims();
        let claim = claims.claim(&id, 0..10, Kind::Pieces, patience(&limits)).await.expect("free");
        // As when two requests to flush are answered by one flush.
        claim.holder.wake();
        assert!(claim.signalled());
        let signal = tokio::time::timeout(Duration::from_secs(1), claim.signal()).await;
        assert!(signal.is_err(), "{signal:?}");
        assert!(!claim.signalled(), "the writer goes on with its body");
    }

    #[tokio::test(start_paused = true)]
    async fn closing_refuses_newcomers_and_waits_for_holders() {
        let (claims, limits, id) = claims();
        let claim = claims.claim(&id, 0..10, Kind::Pieces, patience(&limits)).await.expect("free");
        let holder = async {
            assert_eq!(claim.signal().await, Signal::Stop(Stop::ShuttingDown));
            drop(claim);
        };
        tokio::join!(claims.close(), holder);
        let late = claims.claim(&id, 0..10, Kind::Pieces, patience(&limits)).await;
        assert_eq!(late.err(), Some(Refusal::ShuttingDown));
    }
}
