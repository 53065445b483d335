//! [`InPlace`]: blocking calls made on async worker threads, bounded and supervised by a watchdog.
//! Does no I/O itself.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, time::sleep};

use super::lock;

/// The blocking calls that run on async worker threads right now.
///
/// A call that never returns, because the file system is frozen or its disk is gone, blocks its
/// worker thread. Three measures keep all other tasks running:
///
/// - At least one worker thread of the runtime stays free. While a call is overdue, no other one
///   begins. The free worker may be one that sleeps as long as no call is overdue, see
///   [`Self::spare_worker`].
/// - The task in the LIFO slot of the worker, which other workers cannot steal, is moved to the run
///   queue first.
/// - The worker may be the one that polled the I/O driver while the others slept. The watchdog, a
///   plain thread, wakes another one.
///
/// `block_in_place` achieves the same by handing the worker's core to a second thread before each
/// call, which costs as much as making the call on that thread. One thing it does is left out here:
/// tasks of this worker that have used up their budget stay with it. They move bytes from or to the
/// same disk.
#[derive(Debug)]
pub(super) struct InPlace(Arc<Shared>);

/// State shared by the calls and the watchdog.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Notified when the watchdog has something to do.
    wake: Condvar,
    /// Notified when a call is overdue, and when the watchdog stops.
    alarm: Condvar,
    /// A call that takes longer is overdue.
    overdue_after: Duration,
}

#[derive(Debug, Default)]
struct State {
    running: Vec<Running>,
    /// The number of the next call.
    next: u64,
    watch: Watchdog,
}

/// A call in progress.
#[derive(Debug)]
struct Running {
    number: u64,
    begin: Instant,
    runtime: Handle,
    /// Whether another worker was woken because this call is overdue.
    is_reported: bool,
}

/// The state of the watchdog thread.
#[derive(Debug, Default, PartialEq, Eq)]
enum Watchdog {
    /// Not started yet.
    #[default]
    Absent,
    /// Checks the running calls periodically.
    Awake,
    /// Waits for a call.
    Asleep,
    /// Exits.
    Stopped,
}

/// The right to make one blocking call on this thread, until dropped.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    shared: &'a Shared,
    number: u64,
}

impl InPlace {
    /// Creates an instance without calls. A call longer than `overdue_after` counts as hanging.
    pub(super) fn new(overdue_after: Duration) -> Self {
        let (state, wake, alarm) = (Mutex::default(), Condvar::new(), Condvar::new());
        Self(Arc::new(Shared { state, wake, alarm, overdue_after }))
    }

    /// Keeps the worker thread that polls it asleep until a call is overdue, so that the calls may
    /// use all other workers. Completes when the instance is dropped.
    pub(super) fn spare_worker(&self) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::clone(&self.0);
        async move {
            loop {
                // This worker may be the one that polled the I/O driver while the others slept.
                // The second task makes the runtime wake another worker, which polls it then.
                drop([tokio::spawn(async {}), tokio::spawn(async {})]);
                if !shared.wait_for_alarm() {
                    return;
                }
                while shared.is_overdue(&lock(&shared.state)) {
                    sleep(shared.overdue_after).await;
                }
            }
        }
    }

    /// Returns the right to make a blocking call on this thread; `None` when that would leave the
    /// runtime without a free worker, or when another call hangs.
    pub(super) fn permit(&self) -> Option<Permit<'_>> {
        let runtime = Handle::try_current().ok()?;
        let workers = runtime.metrics().num_workers();
        let number = self.begin(&runtime, workers)?;
        // Takes the LIFO slot and moves the task in it to the run queue, see `InPlace`.
        runtime.spawn(async {});
        Some(Permit { shared: &self.0, number })
    }

    /// Registers a call, starts or wakes the watchdog, and returns the number of the call.
    fn begin(&self, runtime: &Handle, workers: usize) -> Option<u64> {
        let mut state = lock(&self.0.state);
        if state.running.len() + 1 >= workers || self.0.is_overdue(&state) {
            return None;
        }
        match state.watch {
            Watchdog::Absent => {
                let shared = Arc::clone(&self.0);
                let watch = thread::Builder::new().name("windlass-watch".to_owned());
                watch.spawn(move || shared.watch()).ok()?;
                state.watch = Watchdog::Awake;
            }
            Watchdog::Asleep => {
                self.0.wake.notify_one();
                state.watch = Watchdog::Awake;
            }
            Watchdog::Awake | Watchdog::Stopped => {}
        }
        let number = state.next;
        state.next += 1;
        let (begin, runtime) = (Instant::now(), runtime.clone());
        state.running.push(Running { number, begin, runtime, is_reported: false });
        Some(number)
    }
}

impl Drop for InPlace {
    fn drop(&mut self) {
        lock(&self.0.state).watch = Watchdog::Stopped;
        self.0.wake.notify_one();
        self.0.alarm.notify_all();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        lock(&self.shared.state).running.retain(|call| call.number != self.number);
    }
}

impl Shared {
    fn is_overdue(&self, state: &State) -> bool {
        state.running.iter().any(|call| call.begin.elapsed() > self.overdue_after)
    }

    /// Blocks until a call is overdue; returns false once the watchdog has stopped.
    fn wait_for_alarm(&self) -> bool {
        let is_quiet =
            |state: &mut State| state.watch != Watchdog::Stopped && !self.is_overdue(state);
        let state = self.alarm.wait_while(lock(&self.state), is_quiet);
        state.unwrap_or_else(PoisonError::into_inner).watch != Watchdog::Stopped
    }

    /// Wakes the spare worker, and another one for each call that is overdue.
    fn watch(&self) {
        let mut state = lock(&self.state);
        while state.watch != Watchdog::Stopped {
            if state.running.is_empty() {
                state.watch = Watchdog::Asleep;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = self.wake.wait_timeout(state, self.overdue_after);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            for call in &mut state.running {
                if !call.is_reported && call.begin.elapsed() > self.overdue_after {
                    call.is_reported = true;
                    self.alarm.notify_all();
                    // Spawning from outside of the runtime wakes a worker, which then finds the
                    // other tasks.
                    call.runtime.spawn(async {});
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::{
        runtime::{Builder, Runtime},
        sync::oneshot,
    };

    use super::*;

    const OVERDUE_AFTER: Duration = Duration::from_millis(20);

    fn runtime(workers: usize) -> Runtime {
        let runtime = Builder::new_multi_thread().worker_threads(workers).enable_all().build();
        runtime.expect("a runtime")
    }

    #[test]
    fn one_worker_is_always_left() {
        for workers in 1..4 {
            let in_place = InPlace::new(Duration::from_secs(60));
            runtime(workers).block_on(async {
                let permits: Vec<_> = (0..4).map_while(|_| in_place.permit()).collect();
                assert_eq!(permits.len(), workers - 1, "of {workers}");
                drop(permits);
                assert_eq!(in_place.permit().is_some(), workers > 1, "of {workers}");
            });
        }
        let in_place = InPlace::new(OVERDUE_AFTER);
        let current_thread = Builder::new_current_thread().build().expect("a runtime");
        current_thread.block_on(async { assert!(in_place.permit().is_none()) });
    }

    #[test]
    fn call_that_hangs_is_the_last_one() {
        let in_place = InPlace::new(OVERDUE_AFTER);
        runtime(8).block_on(async {
            let hanging = in_place.permit();
            assert!(hanging.is_some() && in_place.permit().is_some());
            thread::sleep(2 * OVERDUE_AFTER);
            assert!(in_place.permit().is_none());
            drop(hanging);
            assert!(in_place.permit().is_some());
        });
    }

    /// The spare worker is woken by the driver, and nobody polls that when it falls asleep again.
    #[test]
    fn spare_worker_takes_no_other_task_along() {
        let runtime = runtime(2);
        let in_place = Arc::new(InPlace::new(OVERDUE_AFTER));
        runtime.spawn(in_place.spare_worker());
        for round in 0..20 {
            let in_place = Arc::clone(&in_place);
            let slow = runtime.spawn(async move {
                let permit = in_place.permit();
                thread::sleep(2 * OVERDUE_AFTER);
                permit.is_some()
            });
            assert!(runtime.block_on(slow).expect("no panic"), "round {round}");
            let (done, is_done) = mpsc::channel();
            runtime.spawn(async move {
                sleep(3 * OVERDUE_AFTER).await;
                done.send(())
            });
            assert!(is_done.recv_timeout(Duration::from_secs(10)).is_ok(), "round {round}");
        }
    }

    /// A task hangs on the only worker that was awake. The other one, which it may have woken just
    /// before, needs a timer. The worker that serves it then is parked, or is the spare one.
    #[test]
    fn call_that_hangs_takes_no_other_task_along() {
        for (round, (wakes, spare)) in (0..80)
            .zip([(true, false), (false, false), (true, true), (false, true)].into_iter().cycle())
        {
            let runtime = runtime(2);
            let in_place = InPlace::new(OVERDUE_AFTER);
            if spare {
                runtime.spawn(in_place.spare_worker());
            }
            let (go, gone) = oneshot::channel::<()>();
            let (thaw, frozen) = mpsc::channel::<()>();
            let (done, is_done) = mpsc::channel();
            runtime.spawn(async move {
                if wakes {
                    let _ = gone.await;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                done.send(())
            });
            let hanging = runtime.spawn(async move {
                // Both workers are idle by then, and the driver wakes this one.
                tokio::time::sleep(Duration::from_millis(5)).await;
                let _ = go.send(());
                let permit = in_place.permit();
                let is_permitted = permit.is_some();
                let _ = frozen.recv();
                is_permitted
            });
            let is_done = is_done.recv_timeout(Duration::from_secs(10));
            drop(thaw);
            assert!(runtime.block_on(hanging).expect("no panic"), "round {round}");
            assert!(is_done.is_ok(), "round {round}");
        }
    }
}
