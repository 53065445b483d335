//! What the disk itself sustains, measured beside the servers that write to it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    load::{Random, pattern},
    process::own_cpu,
};

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
        let threads: Vec<_> = (0..files).map(|number| scope.spawn(move || write(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("nothing in it panics")).collect()
    });
    Ok(counts?.iter().sum::<u64>() as f64 / began.elapsed().as_secs_f64())
}

/// Makes files in `dir` as uploads of `bytes` do, in two threads: a record and a data file, bytes
/// into both, another name for the data file. Gives the CPU time and what each upload took.
pub(crate) fn uploads(
    dir: &Path,
    bytes: usize,
    time: Duration,
) -> io::Result<(Duration, Vec<Duration>)> {
    let pattern = pattern();
    let began = Instant::now();
    let make = |seed: u64| -> io::Result<(Duration, Vec<Duration>)> {
        let cpu = own_cpu();
        // Other names than in the runs before.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut random = Random(now.unwrap_or_default().as_nanos() as u64 ^ seed << 62);
        let mut took = Vec::new();
        while began.elapsed() < time {
            let begins = Instant::now();
            let id = format!("{:016x}{:016x}", random.next(), random.next());
            let (record, part) = (format!("{id}.record"), format!("{id}.part"));
            let (record, data) = (new(dir, &record)?, new(dir, &part)?);
            record.write_all_at(&pattern[..200], 0)?;
            data.write_all_at(&pattern[..bytes], 0)?;
            record.write_all_at(&pattern[..200], 200)?;
            fs::rename(dir.join(part), dir.join(id))?;
            drop((record, data));
            took.push(begins.elapsed());
        }
        Ok((own_cpu() - cpu, took))
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| make(1));
        let (cpu, mut took) = make(2)?;
        let (other_cpu, others) = other.join().expect("nothing in it panics")?;
        took.extend(others);
        Ok((cpu + other_cpu, took))
    })
}

fn new(dir: &Path, name: &str) -> io::Result<File> {
    OpenOptions::new().create_new(true).write(true).open(dir.join(name))
}
