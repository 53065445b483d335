//! [`Writers`]: the byte ranges that requests of this process are writing, and how one writer is
//! displaced by another (D-46, D-47).
//!
//! A hint: it spares writers conflicts with each other. Correctness does not depend on it, because
//! a commit is refused when another one came before it.

use std::{
    collections::HashMap,
    ops::Range,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    rules::{Refusal, Wait},
    upload::{Limits, Ranges, UploadId},
};

/// How long a status request waits for a running writer to make its bytes durable. HEAD answers at
/// once (D-47), so a writer that is slower than this is reported as of its last checkpoint.
const FLUSH_WAIT: Duration = Duration::from_millis(500);

/// Requests that may wait for the writers of one upload. More are refused at once: a browser sends
/// six at a time.
const MAX_WAITING: usize = 128;

/// All writers of one engine.
#[derive(Debug, Default)]
pub(super) struct Writers(Arc<Registry>);

#[derive(Debug, Default)]
struct Registry {
    /// Woken when the last reservation is released.
    empty: Notify,
    state: Mutex<Active>,
}

#[derive(Debug, Default)]
struct Active {
    by_upload: HashMap<UploadId, Traffic>,
    closed: bool,
}

/// The writers of one upload, and how many requests wait for them.
#[derive(Debug, Default)]
struct Traffic {
    /// Woken when a reservation is released.
    released: Arc<Notify>,
    /// How many requests wait for a reservation.
    waiting: usize,
    writers: Vec<Arc<Writer>>,
}

/// The shared side of one reservation.
#[derive(Debug)]
struct Writer {
    /// Woken when the state changes in the interest of those who wait for the writer.
    changed: Notify,
    kind: Kind,
    range: Range<u64>,
    /// Woken when the writer is asked for something.
    signal: Notify,
    /// Set with `signal`, so that the writer need not lock to see that nothing is asked.
    signalled: AtomicBool,
    /// How long it may wait for its client before it has to give way.
    stall_after: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How often the writer was asked to make its bytes durable, and how many of these are done.
    flushes: u64,
    flushes_done: u64,
    released: bool,
    stop: Option<Stop>,
    /// Since when the writer waits for its client.
    waiting_since: Option<Instant>,
}

/// What a reservation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To write bytes that count together or not at all.
    AllOrNothing,
    /// To keep writers out.
    Guard,
    /// To write bytes that count as they arrive.
    Incremental,
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
    /// Make durable what has arrived; answer with [`Reservation::flushed`] and this number.
    Flush(u64),
    /// Stop.
    Stop(Stop),
}

/// The right to write a byte range of an upload, until dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    id: UploadId,
    registry: Arc<Registry>,
    writer: Arc<Writer>,
}

/// A place among those who wait for the writers of an upload, until dropped.
#[derive(Debug)]
struct Place<'a> {
    id: &'a UploadId,
    registry: &'a Registry,
}

impl Writers {
    /// Reserves `range` of `id` for writing. A silent writer of an overlapping range is asked to
    /// stop, a live one is waited for.
    ///
    /// # Errors
    /// [`Refusal::Busy`] at the deadline, or when too many wait already; [`Refusal::ShuttingDown`].
    ///
    /// # Cancel safety
    /// Cancel safe: a reservation is returned, or there is no trace of the call.
    pub(super) async fn reserve(
        &self,
        id: &UploadId,
        range: Range<u64>,
        kind: Kind,
        wait: Wait,
    ) -> Result<Reservation, Refusal> {
        self.wait_for(id, range, kind, wait, None).await
    }

    /// Reserves all of `id` for its removal: every writer is asked to stop at once.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when one does not within the time allowed; [`Refusal::ShuttingDown`].
    ///
    /// # Cancel safety
    /// Safe, but writers may have been asked to stop.
    pub(super) async fn stop_all(
        &self,
        id: &UploadId,
        limits: &Limits,
    ) -> Result<Reservation, Refusal> {
        let wait = Wait { at_most: limits.lock_wait, stall_after: Duration::MAX };
        self.wait_for(id, 0..u64::MAX, Kind::Guard, wait, Some(Stop::Terminated)).await
    }

    async fn wait_for(
        &self,
        id: &UploadId,
        range: Range<u64>,
        kind: Kind,
        wait: Wait,
        stop: Option<Stop>,
    ) -> Result<Reservation, Refusal> {
        let deadline = Instant::now() + wait.at_most;
        let mut place = None;
        loop {
            if self.is_closed() {
                return Err(Refusal::ShuttingDown);
            }
            let writer = match self.try_reserve(id, range.clone(), kind, wait.stall_after) {
                Ok(reservation) => return Ok(reservation),
                Err(writer) => writer,
            };
            if place.is_none() {
                place = Some(self.0.place(id)?);
            }
            if let Some(stop) = stop {
                writer.ask_to_stop(stop);
            }
            if !writer.released(deadline).await {
                return Err(Refusal::Busy);
            }
        }
    }

    /// Reserves all of `id` for cleaning up, if no range of it is reserved; also during shutdown.
    pub(super) fn reserve_idle(&self, id: &UploadId) -> Option<Reservation> {
        self.try_reserve(id, 0..u64::MAX, Kind::Guard, Duration::MAX).ok()
    }

    fn try_reserve(
        &self,
        id: &UploadId,
        range: Range<u64>,
        kind: Kind,
        stall_after: Duration,
    ) -> Result<Reservation, Arc<Writer>> {
        let mut active = self.0.lock();
        let writers = &mut active.by_upload.entry(id.clone()).or_default().writers;
        let overlaps =
            |other: &&Arc<Writer>| range.start < other.range.end && other.range.start < range.end;
        if let Some(writer) = writers.iter().find(overlaps) {
            return Err(Arc::clone(writer));
        }
        let writer = Arc::new(Writer::new(range, kind, stall_after));
        writers.push(Arc::clone(&writer));
        Ok(Reservation { id: id.clone(), registry: Arc::clone(&self.0), writer })
    }

    /// Whether a request writes to `id`.
    pub(super) fn is_written(&self, id: &UploadId) -> bool {
        self.0.lock().writers(id).iter().any(|writer| writer.kind != Kind::Guard)
    }

    /// Whether a request writes the first byte of `id`.
    pub(super) fn is_begun(&self, id: &UploadId) -> bool {
        self.0.lock().writers(id).iter().any(|writer| writer.range.contains(&0))
    }

    /// Waits until the first of the writers of `id` releases its reservation, if together they have
    /// reserved all of `gaps`. Returns false when they have not, and at the deadline.
    pub(super) async fn one_released(
        &self,
        id: &UploadId,
        gaps: &[Range<u64>],
        deadline: Instant,
    ) -> bool {
        let Some(released) = self.0.lock().by_upload.get(id).map(|upload| upload.released.clone())
        else {
            return false;
        };
        let mut released = pin!(released.notified());
        released.as_mut().enable();
        let mut reserved = Ranges::new();
        for writer in self.0.lock().writers(id) {
            reserved.insert(writer.range.clone());
        }
        let is_alone = gaps.is_empty() || !gaps.iter().all(|gap| reserved.covers(gap));
        !is_alone && timeout_at(deadline, released).await.is_ok()
    }

    /// Waits until every writer of `id` has made its bytes durable or is gone, within limits. A
    /// silent one is asked to stop, so that a write at the offset that is acknowledged next
    /// succeeds.
    pub(super) async fn flush(&self, id: &UploadId, limits: &Limits) {
        let writers = self.0.lock().writers(id).to_vec();
        let flushes: Vec<_> = writers.iter().map(|writer| writer.ask_to_flush()).collect();
        let now = Instant::now();
        for (writer, flush) in writers.iter().zip(flushes) {
            let is_flushed = |state: &State| {
                state.released || (state.stop.is_none() && state.flushes_done >= flush)
            };
            if writer.is_silent() {
                // It is waited for as long as a write would wait.
                writer.released(now + limits.lock_wait).await;
            } else {
                writer.until(Duration::MAX, now + FLUSH_WAIT, is_flushed).await;
            }
        }
    }

    /// Whether new reservations are refused.
    pub(super) fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    /// Refuses new reservations, asks every writer to stop, and waits until the last one is gone.
    pub(super) async fn close(&self) {
        let writers: Vec<_> = {
            let mut active = self.0.lock();
            active.closed = true;
            active.by_upload.values().flat_map(|upload| &upload.writers).cloned().collect()
        };
        for writer in writers {
            writer.ask_to_stop(Stop::ShuttingDown);
        }
        loop {
            let mut empty = pin!(self.0.empty.notified());
            empty.as_mut().enable();
            if self.0.lock().by_upload.is_empty() {
                return;
            }
            empty.await;
        }
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Active> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among those who wait at `id`.
    fn place<'a>(&'a self, id: &'a UploadId) -> Result<Place<'a>, Refusal> {
        let mut active = self.lock();
        let upload = active.by_upload.entry(id.clone()).or_default();
        if upload.waiting >= MAX_WAITING {
            return Err(Refusal::Busy);
        }
        upload.waiting += 1;
        Ok(Place { id, registry: self })
    }

    /// Changes the entry of `id`, and removes it when it is empty.
    fn leave(&self, id: &UploadId, change: impl FnOnce(&mut Traffic)) {
        let mut active = self.lock();
        if let Some(upload) = active.by_upload.get_mut(id) {
            change(upload);
            if upload.waiting == 0 && upload.writers.is_empty() {
                active.by_upload.remove(id);
            }
        }
        let is_empty = active.by_upload.is_empty();
        drop(active);
        if is_empty {
            self.empty.notify_waiters();
        }
    }
}

impl Active {
    fn writers(&self, id: &UploadId) -> &[Arc<Writer>] {
        self.by_upload.get(id).map(|upload| upload.writers.as_slice()).unwrap_or_default()
    }
}

impl Writer {
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
        // The first reason stays: what the writer does about it may have begun.
        self.lock().stop.get_or_insert(stop);
        self.wake();
    }

    /// Asks the writer to make its bytes durable. Returns the number of flushes to wait for; bytes
    /// that count only as a whole have nothing to flush.
    fn ask_to_flush(&self) -> u64 {
        let mut state = self.lock();
        if self.kind == Kind::Incremental {
            state.flushes += 1;
            self.wake();
        }
        state.flushes
    }

    fn wake(&self) {
        self.signalled.store(true, Ordering::Release);
        self.signal.notify_one();
    }

    /// Waits until the writer is gone, asking it to stop once it has been silent for too long.
    /// Returns false at the deadline.
    async fn released(&self, deadline: Instant) -> bool {
        self.until(self.stall_after, deadline, |state| state.released).await
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
            let mut changed = pin!(self.changed.notified());
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
}

impl Reservation {
    /// Whether there is a signal to the writer. Cheap: called for every frame.
    pub(super) fn signalled(&self) -> bool {
        self.writer.signalled.load(Ordering::Acquire)
    }

    /// Waits for the next signal to the writer.
    ///
    /// # Cancel safety
    /// Cancel safe: a signal is kept until it is returned.
    pub(super) async fn signal(&self) -> Signal {
        loop {
            let signalled = self.writer.signal.notified();
            if self.writer.signalled.swap(false, Ordering::AcqRel) {
                let state = self.writer.lock();
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

    /// Completes all flushes up to this number.
    pub(super) fn flushed(&self, flush: u64) {
        let mut state = self.writer.lock();
        state.flushes_done = state.flushes_done.max(flush);
        self.writer.changed.notify_waiters();
    }

    /// Records that the writer waits for its client from now on, if it does not already.
    pub(super) fn waits(&self) {
        self.writer.lock().waiting_since.get_or_insert_with(Instant::now);
    }

    /// Records that the writer does not wait for its client.
    pub(super) fn works(&self) {
        self.writer.lock().waiting_since = None;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.registry.leave(&self.id, |upload| {
            upload.writers.retain(|writer| !Arc::ptr_eq(writer, &self.writer));
            upload.released.notify_waiters();
        });
        self.writer.lock().released = true;
        self.writer.changed.notify_waiters();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.registry.leave(self.id, |upload| upload.waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(limits: &Limits) -> Wait {
        Wait { at_most: limits.lock_wait, stall_after: limits.stall_after }
    }

    fn writers() -> (Writers, Limits, UploadId) {
        (Writers::default(), Limits::default(), "a".parse().expect("plain"))
    }

    #[tokio::test(start_paused = true)]
    async fn reservations_of_separate_ranges_run_side_by_side() {
        let (writers, limits, id) = writers();
        let first =
            writers.reserve(&id, 0..10, Kind::Incremental, wait(&limits)).await.expect("free");
        let second =
            writers.reserve(&id, 10..20, Kind::Incremental, wait(&limits)).await.expect("free");
        drop((first, second));
        assert!(!writers.is_written(&id));
    }

    #[tokio::test(start_paused = true)]
    async fn live_writer_is_waited_for_and_never_displaced() {
        let (writers, limits, id) = writers();
        let reservation =
            writers.reserve(&id, 0..10, Kind::Incremental, wait(&limits)).await.expect("free");
        let started = Instant::now();
        let newcomer = writers.reserve(&id, 5..9, Kind::Incremental, wait(&limits));
        let feed = async {
            loop {
                reservation.waits();
                tokio::time::sleep(Duration::from_millis(900)).await;
                reservation.works();
            }
        };
        tokio::select! {
            result = newcomer => assert_eq!(result.err(), Some(Refusal::Busy)),
            () = feed => unreachable!("feeding never ends"),
        }
        assert_eq!(started.elapsed(), limits.lock_wait);
        assert!(!reservation.signalled());
    }

    #[tokio::test(start_paused = true)]
    async fn silent_writer_is_asked_to_stop_after_the_stall_time() {
        let (writers, limits, id) = writers();
        let reservation =
            writers.reserve(&id, 0..10, Kind::Incremental, wait(&limits)).await.expect("free");
        reservation.waits();
        let started = Instant::now();
        let writer = async {
            assert_eq!(reservation.signal().await, Signal::Stop(Stop::Displaced));
            drop(reservation);
        };
        let (newcomer, ()) =
            tokio::join!(writers.reserve(&id, 5..9, Kind::Incremental, wait(&limits)), writer);
        assert!(newcomer.is_ok());
        assert_eq!(started.elapsed(), limits.stall_after);
    }

    #[tokio::test(start_paused = true)]
    async fn removal_stops_a_live_writer_at_once() {
        let (writers, limits, id) = writers();
        let reservation =
            writers.reserve(&id, 0..10, Kind::Incremental, wait(&limits)).await.expect("free");
        let started = Instant::now();
        let writer = async {
            assert_eq!(reservation.signal().await, Signal::Stop(Stop::Terminated));
            drop(reservation);
        };
        let (stopped, ()) = tokio::join!(writers.stop_all(&id, &limits), writer);
        assert!(stopped.is_ok());
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn status_asks_a_live_writer_to_flush_and_stops_a_silent_one() {
        let (writers, limits, id) = writers();
        let reservation =
            writers.reserve(&id, 0..10, Kind::Incremental, wait(&limits)).await.expect("free");
        let ((), signal) = tokio::join!(writers.flush(&id, &limits), async {
            let signal = reservation.signal().await;
            if let Signal::Flush(flush) = signal {
                reservation.flushed(flush);
            }
            signal
        });
        assert_eq!(signal, Signal::Flush(1));
        reservation.waits();
        tokio::time::advance(limits.stall_after).await;
        let ((), signal) = tokio::join!(writers.flush(&id, &limits), async {
            let signal = reservation.signal().await;
            drop(reservation);
            signal
        });
        assert_eq!(signal, Signal::Stop(Stop::Displaced));
    }

    #[tokio::test(start_paused = true)]
    async fn signal_that_was_answered_already_yields_nothing() {
        let (writers, limits, id) = writers();
        let reservation =
            writers.reserve(&id, 0..10, Kind::Incremental, wait(&limits)).await.expect("free");
        // As when two requests to flush are answered by one flush.
        reservation.writer.wake();
        assert!(reservation.signalled());
        let signal = tokio::time::timeout(Duration::from_secs(1), reservation.signal()).await;
        assert!(signal.is_err(), "{signal:?}");
        assert!(!reservation.signalled(), "the writer goes on with its body");
    }

    #[tokio::test(start_paused = true)]
    async fn closing_refuses_newcomers_and_waits_for_active_writers() {
        let (writers, limits, id) = writers();
        let reservation =
            writers.reserve(&id, 0..10, Kind::Incremental, wait(&limits)).await.expect("free");
        let writer = async {
            assert_eq!(reservation.signal().await, Signal::Stop(Stop::ShuttingDown));
            drop(reservation);
        };
        tokio::join!(writers.close(), writer);
        let late = writers.reserve(&id, 0..10, Kind::Incremental, wait(&limits)).await;
        assert_eq!(late.err(), Some(Refusal::ShuttingDown));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_released_is_heard_of_only_while_others_write_all_gaps() {
        let (writers, limits, id) = writers();
        let deadline = Instant::now() + Duration::from_secs(1);
        let gaps = [0..10, 20..30];
        assert!(!writers.one_released(&id, &gaps, deadline).await);
        let first = writers.reserve(&id, 0..10, Kind::AllOrNothing, wait(&limits)).await;
        assert!(!writers.one_released(&id, &gaps, deadline).await, "20..30 is not being written");
        let _second = writers.reserve(&id, 20..30, Kind::AllOrNothing, wait(&limits)).await;
        let (is_released, ()) =
            tokio::join!(writers.one_released(&id, &gaps, deadline), async { drop(first) });
        assert!(is_released);
        assert!(!writers.one_released(&id, &gaps[1..], deadline).await, "in time");
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_wait_for_one_upload_and_no_more() {
        let (writers, limits, id) = writers();
        let reserve = || writers.reserve(&id, 0..10, Kind::AllOrNothing, wait(&limits));
        let first = reserve().await;
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(reserve())).map(polled).collect();
        assert_eq!(reserve().await.err(), Some(Refusal::Busy));
        drop(waiting);
        drop(first);
        assert!(reserve().await.is_ok());
    }

    /// A future that has been polled once.
    fn polled<F: std::future::Future + Unpin>(mut future: F) -> F {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::Pin::new(&mut future).poll(&mut cx).is_pending());
        future
    }
}
