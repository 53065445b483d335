//! [`Dispatcher`]: decides on which thread blocking work runs.

use std::{
    future::pending,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::task::{JoinError, spawn_blocking};

use super::in_place::{InPlace, Permit};

/// Work that should stay in kernel memory and takes longer than this had to wait for the disk.
/// Copying a batch into the page cache takes a hundredth of it; the rest allows for a thread that
/// is scheduled late.
const SLOW_CALL: Duration = Duration::from_millis(20);

/// A slow call means that the disk lags behind if another one was slow among this many calls before
/// it. A thread that only waited for a processor looks the same, but that happens once in thousands
/// of calls.
const SLOW_CALL_WINDOW: u32 = 64;

/// Work is then kept off the async threads for this many times its duration, so that they block for
/// 5 % of the time.
const BACKOFF_FACTOR: u32 = 20;

/// What blocking work may have to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// The disk: syncs, first reads, freeing large files.
    Disk,
    /// Normally only kernel memory: creating and renaming files, opening files that were open
    /// before, writing to the page cache.
    Memory,
}

/// Chooses between the async thread and the blocking pool, based on how fast recent calls were.
///
/// Waiting for the disk takes milliseconds, during which an async thread would serve no other
/// upload, so such work goes to the blocking pool. The round trip wakes two threads and moves the
/// bytes to the caches of another core; it costs more than most of the work itself, a fifth of the
/// cost of a GiB. Work that stays in kernel memory therefore runs inline. Once it has been slow,
/// because the disk lags behind, it goes to the pool for a while as well. A call that hangs inline
/// does not affect other requests: see [`InPlace`].
///
/// Each call that hangs in the pool occupies one of tokio's 512 threads. Further work queues there,
/// one call for each request that needs the disk; everything else does without the pool.
#[derive(Debug)]
pub(super) struct Dispatcher {
    begin: Instant,
    /// Calls that run inline.
    in_place: InPlace,
    /// Fast calls since the last slow one.
    fast_calls: AtomicU32,
    /// Until when nothing runs inline, in milliseconds since `begin`.
    backoff_until_ms: AtomicU64,
}

impl Default for Dispatcher {
    fn default() -> Self {
        Self {
            begin: Instant::now(),
            in_place: InPlace::new(SLOW_CALL),
            fast_calls: AtomicU32::new(SLOW_CALL_WINDOW),
            backoff_until_ms: AtomicU64::new(0),
        }
    }
}

impl Dispatcher {
    /// Whether work that should stay in memory is expected to.
    fn is_fast(&self) -> bool {
        let until_ms = self.backoff_until_ms.load(Ordering::Relaxed);
        until_ms == 0 || self.now_ms() >= until_ms
    }

    /// Lets nothing run inline for `time`.
    pub(super) fn back_off(&self, time: Duration) {
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let until_ms = self.now_ms().saturating_add(time_ms);
        self.backoff_until_ms.store(until_ms, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the right to run work on this thread, if its cost allows that.
    pub(super) fn try_inline(&self, cost: Cost) -> Option<Inline<'_>> {
        if cost == Cost::Disk || !self.is_fast() {
            return None;
        }
        Some(Inline { dispatcher: self, _permit: self.in_place.permit()? })
    }

    /// See [`InPlace::spare_worker`].
    pub(super) fn spare_worker(&self) -> impl Future<Output = ()> + Send + use<> {
        self.in_place.spare_worker()
    }

    /// Records how long a call took.
    fn note(&self, took: Duration) {
        if took <= SLOW_CALL {
            let calls = self.fast_calls.load(Ordering::Relaxed);
            if calls < SLOW_CALL_WINDOW {
                // Lost increments do not matter.
                self.fast_calls.store(calls + 1, Ordering::Relaxed);
            }
        } else if self.fast_calls.swap(0, Ordering::Relaxed) < SLOW_CALL_WINDOW {
            self.back_off(took.saturating_mul(BACKOFF_FACTOR));
        }
    }
}

/// The right to run one call on this thread.
#[derive(Debug)]
pub(super) struct Inline<'a> {
    dispatcher: &'a Dispatcher,
    _permit: Permit<'a>,
}

impl Inline<'_> {
    /// Runs `work` and records its duration.
    pub(super) fn run<T>(self, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let value = work();
        self.dispatcher.note(begin.elapsed());
        value
    }
}

/// Runs `work` on the blocking pool.
///
/// # Cancel safety
/// Dropping the future does not stop work that has begun; it runs to completion.
pub(super) async fn in_pool<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(value) => value,
        Err(e) => resume_panic(e).await,
    }
}

/// Resumes the panic of a thread. Otherwise the runtime is shutting down together with this task,
/// so it never returns.
async fn resume_panic<T>(error: JoinError) -> T {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn slow_work_is_kept_away_for_a_while() {
        let dispatcher = Dispatcher::default();
        let is_inline = |cost| dispatcher.try_inline(cost).is_some();
        assert!(is_inline(Cost::Memory));
        assert!(!is_inline(Cost::Disk));
        for fast in [0, SLOW_CALL_WINDOW, SLOW_CALL_WINDOW - 1] {
            for _ in 0..fast {
                let inline = dispatcher.try_inline(Cost::Memory);
                inline.expect("it is fast").run(|| ());
            }
            assert!(is_inline(Cost::Memory), "{fast}");
            dispatcher.note(2 * SLOW_CALL);
        }
        assert!(!is_inline(Cost::Memory));
        dispatcher.back_off(Duration::ZERO);
        assert!(is_inline(Cost::Memory));
        dispatcher.back_off(Duration::from_secs(60));
        assert!(!is_inline(Cost::Memory));
    }

    #[tokio::test]
    async fn pool_is_another_thread() {
        let here = std::thread::current().id();
        assert_ne!(in_pool(|| std::thread::current().id()).await, here);
    }

    #[tokio::test]
    #[should_panic(expected = "of the work")]
    async fn panic_of_the_work_is_resumed() {
        in_pool(|| panic!("of the work")).await
    }
}
