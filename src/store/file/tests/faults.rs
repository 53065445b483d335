//! System calls that fail, one after the other: what was not done leaves no trace, and can be done
//! again.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    super::{FileStore, disk},
    Directory, broken, copy_tree, full,
    script::{After, Known, Step, restart, script, verify},
};
use crate::store::{Durability, StoreError};

/// Which calls fail, counted from 1.
#[derive(Clone, Copy)]
enum Failing {
    /// None.
    Nothing,
    /// One.
    Only(u64),
    /// One and all after it.
    From(u64),
}

/// What the script has come to.
struct Outcome {
    calls: u64,
    failures: u64,
    known: Known,
}

/// Runs the script while those system calls fail with `error` that count and are `failing`. A step
/// that is refused is taken again; it must have changed nothing, unless what would have `undone` it
/// fails as well.
async fn run(
    store: &FileStore,
    counts: fn(&disk::Step<'_>) -> bool,
    failing: Failing,
    error: fn() -> io::Error,
    undone: bool,
) -> Outcome {
    let calls = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&calls);
    let fail = move |step: &disk::Step<'_>| {
        let call = if counts(step) { counter.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        let fails = match failing {
            Failing::Nothing => false,
            Failing::Only(nth) => call == nth,
            Failing::From(nth) => call >= nth,
        };
        if fails { Err(error()) } else { Ok(()) }
    };
    store.shared.disk.probe().set(move |_, step| fail(step));
    let mut outcome = Outcome { calls: 0, failures: 0, known: Known::default() };
    for step in script() {
        let mut done = Step::take(&step, store, &outcome.known).await;
        if let Err(e) = done {
            outcome.failures += 1;
            assert_eq!(matches!(e, StoreError::Full), error().kind() == full().kind(), "{e}");
            if let Failing::From(_) = failing {
                // The disk recovers.
                store.shared.disk.probe().clear();
            }
            done = again(store, &step, &outcome.known, undone).await;
        }
        done.unwrap_or_else(|e| panic!("{step:?} again: {e}"));
        if let Some(next) = step.outcome(&outcome.known) {
            outcome.known = next;
        }
    }
    store.shared.disk.probe().clear();
    outcome.calls = calls.load(Ordering::Relaxed);
    outcome
}

/// After a step has failed: shows that nothing has changed, then takes it again.
async fn again(
    store: &FileStore,
    step: &Step,
    known: &Known,
    undone: bool,
) -> Result<(), StoreError> {
    // A removal need not be undone: it is repeated.
    let sure = undone && !matches!(step, Step::Remove(_));
    let outcome = step.outcome(known);
    let found = verify(store, known, outcome.as_ref().filter(|_| !sure)).await;
    let found = found.unwrap_or_else(|e| panic!("after {step:?} failed: {e}"));
    if sure {
        // The same if the process dies right now.
        let copy = Directory::quick(Durability::Synced);
        copy_tree(store.shared.disk.dir(), copy.path()).expect("a copy");
        let restarted = restart(&copy, known, None, After::Death).await;
        restarted.unwrap_or_else(|e| panic!("after {step:?} failed, and a crash: {e}"));
    }
    match (step, outcome) {
        (Step::Remove(_), _) | (_, None) => Step::take(step, store, known).await,
        (_, Some(next)) if next.is(&found) => Ok(()),
        (_, Some(_)) => Step::take(step, store, known).await,
    }
}

/// Every call fails once.
async fn single_failures(error: fn() -> io::Error) {
    let place = Directory::quick(Durability::Synced);
    let all = run(&place.open().await, |_| true, Failing::Nothing, error, true).await;
    assert!(all.calls > 150, "the script makes {} calls", all.calls);
    let mut failures = 0;
    for nth in 1..=all.calls {
        let place = Directory::quick(Durability::Synced);
        let store = place.open().await;
        let outcome = run(&store, |_| true, Failing::Only(nth), error, true).await;
        failures += outcome.failures;
        drop(store);
        let restarted = restart(&place, &outcome.known, None, After::Death).await;
        restarted.unwrap_or_else(|e| panic!("failure of call {nth}: {e}"));
    }
    assert!(failures > all.calls / 2, "only {failures} calls that failed were noticed");
}

/// From some call on, every one that counts fails, until the step has failed.
async fn lasting_failures(
    counts: fn(&disk::Step<'_>) -> bool,
    error: fn() -> io::Error,
    undone: bool,
) {
    let place = Directory::quick(Durability::Synced);
    let all = run(&place.open().await, counts, Failing::Nothing, error, true).await;
    // A store that has cleaned up looks for leftovers only if it has made some.
    let both = (1..=all.calls).flat_map(|nth| [(nth, false), (nth, true)]);
    for (nth, is_recovered) in both {
        let place = Directory::quick(Durability::Synced);
        let store = place.open().await;
        if is_recovered {
            store.recover().await.expect("nothing fails yet");
        }
        let outcome = run(&store, counts, Failing::From(nth), error, undone).await;
        drop(store);
        let restarted = restart(&place, &outcome.known, None, After::Death).await;
        restarted.unwrap_or_else(|e| panic!("failure of call {nth}: {e}"));
    }
}

/// Whether a full disk refuses the call.
fn needs_space(step: &disk::Step<'_>) -> bool {
    match step {
        disk::Step::Copy { .. }
        | disk::Step::Create { .. }
        | disk::Step::Link { .. }
        | disk::Step::Symlink { .. }
        | disk::Step::Write { .. } => true,
        disk::Step::Open { .. }
        | disk::Step::Punch { .. }
        | disk::Step::Read { .. }
        | disk::Step::Rename { .. }
        | disk::Step::Sync { .. }
        | disk::Step::SyncAll { .. }
        | disk::Step::SyncNames { .. }
        | disk::Step::Truncate { .. }
        | disk::Step::Unlink { .. } => false,
    }
}

#[tokio::test(start_paused = true)]
async fn full_disk_leaves_no_trace() {
    lasting_failures(needs_space, full, true).await;
}

#[tokio::test(start_paused = true)]
async fn broken_disk_leaves_the_old_or_the_new() {
    lasting_failures(|_| true, broken, false).await;
}

#[tokio::test(start_paused = true)]
async fn call_that_fails_leaves_no_trace() {
    single_failures(broken).await;
}
