//! [`Pace`]: the one place that decides on which thread blocking work is done.

use std::{
    future::pending,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::task::{JoinError, spawn_blocking};

use super::in_place::{InPlace, Permit};

/// Work that should stay in the kernel's memory and takes longer than this had to wait for the disk.
/// Copying a batch into the page cache takes a hundredth of it; the rest is room for a thread that is
/// scheduled late.
const SLOW_CALL: Duration = Duration::from_millis(20);

/// Work that was slow is a sign of a disk that lags behind if there was other slow work no more than
/// so many pieces ago. A thread that only waited for a processor looks the same, but once in
/// thousands.
const SLOW_CALL_WINDOW: u32 = 64;

/// Work is then kept away from async threads for so many times as long as it took, so that they wait
/// for 5 % of the time.
const BACKOFF_FACTOR: u32 = 20;

/// What a piece of blocking work may have to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// The disk: syncs, first reads, the release of large files.
    Disk,
    /// The kernel's memory, as a rule: names made and changed, files opened that were opened before,
    /// bytes handed to the page cache.
    Memory,
}

/// How fast the system answers, and what follows for work that waits for it.
///
/// Waiting for the disk takes milliseconds, in which an async thread would serve no other upload,
/// so it goes to the blocking pool. Going there and back wakes two threads and takes the bytes to
/// another core's caches: more than most of the work itself, and a fifth of the cost of a GiB. So
/// what stays in the kernel's memory is done right where it comes up, as long as it keeps to that:
/// once it has been slow, because the disk lags behind, it goes to the pool too for a while. What
/// hangs there all the same concerns no other request: see [`InPlace`].
///
/// Work that hangs in the pool keeps a thread each, of 512 in tokio. Further work waits in line, one
/// piece for each request that needs the disk; all else does without the pool.
#[derive(Debug)]
pub(super) struct Dispatcher {
    begin: Instant,
    /// Pieces of work that are done right where they come up.
    in_place: InPlace,
    /// Pieces of work since the last slow one.
    fast_calls: AtomicU32,
    /// The end of the time to be wary in, in milliseconds since `begin`.
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
    /// Whether work that should stay in memory is likely to.
    fn is_fast(&self) -> bool {
        let until_ms = self.backoff_until_ms.load(Ordering::Relaxed);
        until_ms == 0 || self.now_ms() >= until_ms
    }

    /// Is wary from now on, for `time`.
    pub(super) fn back_off(&self, time: Duration) {
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let until_ms = self.now_ms().saturating_add(time_ms);
        self.backoff_until_ms.store(until_ms, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The right to do work right where it comes up, if that suits its cost.
    pub(super) fn try_inline(&self, cost: Cost) -> Option<Inline<'_>> {
        if cost == Cost::Disk || !self.is_fast() {
            return None;
        }
        Some(Inline { dispatcher: self, _permit: self.in_place.permit()? })
    }

    /// Notes how long a piece of work took.
    fn note(&self, took: Duration) {
        if took <= SLOW_CALL {
            let calls = self.fast_calls.load(Ordering::Relaxed);
            if calls < SLOW_CALL_WINDOW {
                // Whether one is counted or two does not matter.
                self.fast_calls.store(calls + 1, Ordering::Relaxed);
            }
        } else if self.fast_calls.swap(0, Ordering::Relaxed) < SLOW_CALL_WINDOW {
            self.back_off(took.saturating_mul(BACKOFF_FACTOR));
        }
    }
}

/// The right to do a piece of work right here.
#[derive(Debug)]
pub(super) struct Inline<'a> {
    dispatcher: &'a Dispatcher,
    _permit: Permit<'a>,
}

impl Inline<'_> {
    /// Does `work`.
    pub(super) fn run<T>(self, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let value = work();
        self.dispatcher.note(begin.elapsed());
        value
    }
}

/// Does `work` on the blocking pool.
///
/// # Cancel safety
/// Dropping the future does not stop work that has begun; it is then done to its end.
pub(super) async fn in_pool<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(value) => value,
        Err(e) => resume_panic(e).await,
    }
}

/// Goes on with the panic of a thread. Otherwise the runtime is ending, and so is every task in it:
/// there is nobody to answer to.
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
