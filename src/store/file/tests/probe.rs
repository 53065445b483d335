//! A place in the disk where tests listen in on every system call, and make some fail.

use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Mutex},
};

use super::super::{disk::Step, lock};

/// Told of a system call in the directory before it is made; an error is its outcome instead.
pub(in super::super) type Probe = dyn Fn(&Path, &Step<'_>) -> io::Result<()> + Send + Sync;

/// Where a test puts its probe.
#[derive(Default)]
pub(in super::super) struct Slot(Mutex<Option<Arc<Probe>>>);

impl Slot {
    /// Has `probe` told from now on.
    pub(in super::super) fn set(
        &self,
        probe: impl Fn(&Path, &Step<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) {
        *lock(&self.0) = Some(Arc::new(probe));
    }

    /// Tells nobody from now on.
    pub(in super::super) fn clear(&self) {
        *lock(&self.0) = None;
    }

    /// Tells the probe of `step`.
    pub(in super::super) fn ask(&self, dir: &Path, step: &Step<'_>) -> io::Result<()> {
        let probe = lock(&self.0).clone();
        probe.map_or(Ok(()), |probe| probe(dir, step))
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}
