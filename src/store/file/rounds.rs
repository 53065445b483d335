//! [`Rounds`]: one call of the system for all who wait for its effect. Knows no files.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use super::lock;

/// Rounds of a call that holds for all that was done before it began, such as the sync of a directory:
/// whoever comes while one is under way waits for the next, together with all others.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    state: Mutex<State>,
    over: Condvar,
}

/// Rounds are counted from 1.
#[derive(Debug, Default)]
struct State {
    /// The last round that has begun.
    begun: u64,
    /// Whether it is under way.
    runs: bool,
    /// The last round that failed, and why.
    failed: Option<(u64, Arc<io::Error>)>,
}

impl Rounds {
    /// Returns when a round is over that began after this call. One of those who wait makes `call`.
    ///
    /// # Errors
    /// Why the round failed. The system tells that once, to whoever made the call.
    pub(super) fn join(&self, call: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = lock(&self.state);
        let due = state.begun + 1;
        while state.runs {
            let waited = self.over.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            if state.over() >= due {
                return state.outcome(due);
            }
        }
        state.begun += 1;
        state.runs = true;
        drop(state);
        let mut turn = Turn { rounds: self, result: Err(io::ErrorKind::Interrupted.into()) };
        turn.result = call();
        drop(turn);
        lock(&self.state).outcome(due)
    }
}

impl State {
    /// The last round that is over.
    fn over(&self) -> u64 {
        self.begun - u64::from(self.runs)
    }

    /// What came of round `due`, or of one after it: an error too many does no harm.
    fn outcome(&self, due: u64) -> io::Result<()> {
        match &self.failed {
            Some((round, error)) if *round >= due => {
                Err(io::Error::new(error.kind(), Arc::clone(error)))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// A round under way. It is over when this is dropped, even by a panic.
struct Turn<'a> {
    rounds: &'a Rounds,
    result: io::Result<()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.rounds.state);
        state.runs = false;
        if let Err(error) = std::mem::replace(&mut self.result, Ok(())) {
            state.failed = Some((state.begun, Arc::new(error)));
        }
        drop(state);
        self.rounds.over.notify_all();
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

    /// Threads make changes and ask for each to last. A call makes all changes last that were made
    /// before it began, unless it fails, as every third does. One that begins and ends between a change
    /// and its question says nothing about it.
    #[test]
    fn ok_means_that_a_call_after_the_change_has_succeeded() {
        let (rounds, made) = (Rounds::default(), AtomicU64::new(0));
        // Of each call: the last change before it, and whether it has succeeded.
        let calls = Mutex::new(Vec::new());
        let call = || {
            let last = made.load(Ordering::SeqCst);
            // Others come meanwhile.
            (0..20).for_each(|_| thread::yield_now());
            let mut calls = lock(&calls);
            let succeeds = calls.len() % 3 != 2;
            calls.push((last, succeeds));
            succeeds.then_some(()).ok_or_else(|| io::ErrorKind::StorageFull.into())
        };
        let change = || {
            let change = made.fetch_add(1, Ordering::SeqCst) + 1;
            let before = lock(&calls).len();
            let told = rounds.join(call);
            let lasts = |(last, succeeded): &(u64, bool)| *last >= change && *succeeded;
            match told {
                Ok(()) => assert!(lock(&calls)[before..].iter().any(lasts), "{change} was lost"),
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
    fn failure_is_told_to_those_it_concerns() {
        let rounds = Rounds::default();
        for (fails, expected) in [(false, true), (true, false), (false, true)] {
            let call = || match fails {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            };
            assert_eq!(rounds.join(call).is_ok(), expected);
        }
    }

    #[test]
    fn round_that_panics_is_over() {
        let rounds = Rounds::default();
        let join = || rounds.join(|| panic!("of the call"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(join)).is_err());
        assert!(rounds.join(|| Ok(())).is_ok());
    }
}
