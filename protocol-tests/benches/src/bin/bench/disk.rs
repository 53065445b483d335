//! What the disk itself sustains, measured beside the servers that write to it.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::load::pattern;

/// What lies between two syncs of a large write: as much as a server may lose at most.
const SYNC_BYTES: u64 = 16 << 20;

/// Seconds to write `bytes` into a new file in `dir`, synced every 16 MiB.
pub(crate) fn large_writes(dir: &Path, bytes: u64) -> io::Result<f64> {
    let file = new(dir, "large")?;
    let pattern = pattern();
    let began = Instant::now();
    let mut at = 0;
    while at < bytes {
        file.write_all_at(&pattern, at)?;
        at += pattern.len() as u64;
        if at.is_multiple_of(SYNC_BYTES) || at >= bytes {
            file.sync_data()?;
        }
    }
    Ok(began.elapsed().as_secs_f64())
}

/// Seconds to write `bytes` into a new file in `dir`, synced once at the end.
pub(crate) fn one_sync(dir: &Path, bytes: u64) -> io::Result<f64> {
    let file = new(dir, "once")?;
    let pattern = pattern();
    let began = Instant::now();
    for at in (0..bytes).step_by(pattern.len()) {
        file.write_all_at(&pattern, at)?;
    }
    file.sync_data()?;
    Ok(began.elapsed().as_secs_f64())
}

/// Appended and synced writes of `bytes` per second, in `files` files of `dir` side by side.
pub(crate) fn syncs_per_second(
    dir: &Path,
    bytes: usize,
    files: usize,
    time: Duration,
) -> io::Result<f64> {
    let pattern = pattern();
    let began = Instant::now();
    let write = |number: usize| -> io::Result<u64> {
        let file = new(dir, &format!("small-{number}"))?;
        let mut count = 0;
        while began.elapsed() < time {
            file.write_all_at(&pattern[..bytes], count * bytes as u64)?;
            file.sync_data()?;
            count += 1;
        }
        Ok(count)
    };
    let counts: io::Result<Vec<u64>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..files)
            .map(|number| scope.spawn(move || write(number)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("nothing in it panics"))
            .collect()
    });
    Ok(counts?.iter().sum::<u64>() as f64 / began.elapsed().as_secs_f64())
}

fn new(dir: &Path, name: &str) -> io::Result<File> {
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(dir.join(name))
}
