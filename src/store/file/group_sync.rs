//! [`GroupSync`]: one system call shared by all threads that wait for its effect (group commit).
//! Does no I/O itself.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use super::lock;

/// Runs of a call that covers everything done before it began, such as the sync of a directory.
/// Threads that arrive during one run share the next.
#[derive(Debug, Default)]
pub(super) struct GroupSync {
    state: Mutex<State>,
    finished: Condvar,
}

/// Runs are counted from 1.
#[derive(Debug, Default)]
struct State {
    /// The last run that has begun.
    begun: u64,
    /// Whether that run is in progress.
    is_running: bool,
    /// The last run that failed, and its error.
    failed: Option<(u64, Arc<io::Error>)>,
}

impl GroupSync {
    /// Returns when a run that began after this call has finished. One of the waiting threads makes
    /// `call`.
    ///
    /// # Errors
    /// The error of that run. All its waiters get it, although the system reports it only once.
    pub(super) fn run(&self, call: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = lock(&self.state);
        let due = state.begun + 1;
        while state.is_running {
            let waited = self.finished.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            if state.finished() >= due {
                return state.outcome(due);
            }
        }
        state.begun += 1;
        state.is_running = true;
        drop(state);
        let mut guard = RoundGuard { group: self, result: Err(io::ErrorKind::Interrupted.into()) };
        guard.result = call();
        drop(guard);
        lock(&self.state).outcome(due)
    }
}

impl State {
    /// Returns the last run that has finished.
    fn finished(&self) -> u64 {
        self.begun - u64::from(self.is_running)
    }

    /// Returns the outcome of run `due`, or the error of a later one: an extra error does no harm.
    fn outcome(&self, due: u64) -> io::Result<()> {
        match &self.failed {
            Some((round, error)) if *round >= due => {
                Err(io::Error::new(error.kind(), Arc::clone(error)))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// A run in progress. Dropping it finishes the run, even on panic.
struct RoundGuard<'a> {
    group: &'a GroupSync,
    result: io::Result<()>,
}

impl Drop for RoundGuard<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.group.state);
        state.is_running = false;
        if let Err(error) = std::mem::replace(&mut self.result, Ok(())) {
            state.failed = Some((state.begun, Arc::new(error)));
        }
        drop(state);
        self.group.finished.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        thread,
    };

    use super::*;

    const THREADS: u64 = 8;
    const CHANGES: u64 = 300;

    /// Threads make changes and sync each. A call makes durable all changes made before it began,
    /// unless it fails, as every third does. One that begins and ends between a change and its sync
    /// says nothing about it.
    #[test]
    fn ok_means_that_a_call_after_the_change_has_succeeded() {
        let (group, made) = (GroupSync::default(), AtomicU64::new(0));
        // For each call: the last change before it, and whether it succeeded.
        let calls = Mutex::new(Vec::new());
        let call = || {
            let last = made.load(Ordering::SeqCst);
            // Other threads arrive meanwhile.
            (0..20).for_each(|_| thread::yield_now());
            let mut calls = lock(&calls);
            let succeeds = calls.len() % 3 != 2;
            calls.push((last, succeeds));
            succeeds.then_some(()).ok_or_else(|| io::ErrorKind::StorageFull.into())
        };
        let change = || {
            let change = made.fetch_add(1, Ordering::SeqCst) + 1;
            let before = lock(&calls).len();
            let outcome = group.run(call);
            let lasts = |(last, succeeded): &(u64, bool)| *last >= change && *succeeded;
            match outcome {
                Ok(()) => {
                    assert!(lock(&calls)[before..].iter().any(lasts), "change {change} was lost");
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
            }
        };
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| (0..CHANGES).for_each(|_| change()));
            }
        });
        let calls = lock(&calls).len() as u64;
        assert!(calls < THREADS * CHANGES / 2, "{calls} calls");
    }

    #[test]
    fn failure_is_reported_to_those_it_concerns() {
        let group = GroupSync::default();
        for (fails, expected) in [(false, true), (true, false), (false, true)] {
            let call = || match fails {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            };
            assert_eq!(group.run(call).is_ok(), expected);
        }
    }

    #[test]
    fn round_that_panics_is_over() {
        let group = GroupSync::default();
        let run = || group.run(|| panic!("of the call"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        assert!(group.run(|| Ok(())).is_ok());
    }
}
