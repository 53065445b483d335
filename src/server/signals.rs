//! Which signals the process lives with. Whatever is not named here does what it does to every
//! process.

use std::{future::Future, io};

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Signals that end a process unless it asks for them, and must not end this one: running requests
/// would be cut off.
const IGNORED: [SignalKind; 4] = [
    // The terminal is gone; or it is a habit: daemons reload or reopen their logs.
    SignalKind::hangup(),
    SignalKind::user_defined1(),
    SignalKind::user_defined2(),
    // A file has reached the limit of the process (RLIMIT_FSIZE). Without the signal the write
    // fails, and with it one request: 507.
    SignalKind::from_raw(Signal::XFSZ.as_raw()),
];

/// Ignores those signals, and waits for one that asks the process to stop, SIGINT or SIGTERM. Both
/// begin with the call.
///
/// # Errors
/// When the system has no handler to give.
///
/// # Cancel safety
/// The future may be dropped at any time; the signals are ignored from then on.
pub fn until_stop() -> io::Result<impl Future<Output = ()>> {
    for kind in IGNORED {
        // The handler stays when the stream of its signals is dropped.
        drop(signal(kind)?);
    }
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
