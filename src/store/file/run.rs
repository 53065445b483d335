//! [`run`]: the one place that decides on which thread blocking work is done.

use std::future::pending;

use tokio::task::{JoinError, spawn_blocking};

/// What a piece of blocking work may have to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// The disk: syncs, first reads, the release of large files.
    Disk,
    /// The kernel's memory at most: names made and changed, files opened that were opened before, a
    /// few KiB handed to the page cache.
    Memory,
}

/// Does `work` where it harms nobody.
///
/// Waiting for the disk takes milliseconds, in which an async thread would serve no other upload,
/// so it goes to the blocking pool. Going there and back costs two wake-ups of threads, about 10 µs;
/// system calls that stay in the kernel's memory take less, so they are made right here.
///
/// # Cancel safety
/// Dropping the future does not stop work that has begun; it is then done to its end.
pub(super) async fn run<T: Send + 'static>(
    cost: Cost,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    match cost {
        Cost::Memory => work(),
        Cost::Disk => match spawn_blocking(work).await {
            Ok(value) => value,
            Err(e) => raise(e).await,
        },
    }
}

/// Goes on with the panic of a thread. Otherwise the runtime is ending, and so is every task in it:
/// there is nobody to answer to.
pub(super) async fn raise<T>(error: JoinError) -> T {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => pending().await,
    }
}
