//! What an entrant does in one run, and the figures that come of it.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    disk,
    http::{Client, Request},
    http2,
    line::Line,
    load::{self, Outcome, Random, Script, Unit},
    population,
    process::{Cpu, Memory, settled_cpu},
    scripts::{Chunks, CreateThenPatch, CreateWithUpload, Heads, Patches},
    servers::{Programs, Running, Server},
    target::Sample,
};

/// The length of a small upload.
const SMALL_BYTES: u64 = 4 << 10;

/// The length of a chunk.
const CHUNK_BYTES: u64 = 1 << 20;

/// Connections that send chunks of one upload: what browsers do by default.
const CHUNK_CONNECTIONS: usize = 3;

/// How long memory must not have grown to be called settled.
const SETTLED: Duration = Duration::from_secs(2);

/// The round-trip time of a long line.
const ROUND_TRIP: Duration = Duration::from_millis(100);

/// Bytes in a MiB.
const MIB: f64 = (1 << 20) as f64;

/// What there is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// One ResumableJS upload.
    Chunks,
    /// One large file, synced now and then; no server.
    DiskLarge,
    /// One large file, synced at the end; no server.
    DiskOnce,
    /// Small synced writes; no server.
    DiskSyncs { files: usize },
    /// A final upload.
    Final { part_bytes: u64 },
    /// HEAD requests.
    Heads,
    /// One upload over a long line.
    Line { http2: bool },
    /// Uploads in PATCHes of a chunk each.
    Patches { sha1: bool },
    /// Uploads of this size, each in one request.
    Sized { bytes: u64, connections: usize },
    /// Small uploads.
    Small { kind: Small, connections: usize, place: Place },
    /// Uploads that stall.
    Stalled { uploads: usize },
    /// Starting beside stored uploads, with their files in the page cache or not.
    Start { stored: u64, cold: bool },
    /// Requests beside stored uploads.
    Stored { count: u64 },
    /// The files of new uploads beside so many stored ones, made without a server.
    Files { stored: u64 },
    /// Uploads in one PATCH each.
    Stream { connections: u64, place: Place },
}

/// How small uploads are made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Small {
    CreateThenPatch,
    CreateWithUpload,
}

/// Where data is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Disk,
    Memory,
}

/// How much is done.
#[derive(Debug)]
pub(crate) struct Scale {
    /// The length of a large upload.
    pub(crate) large_bytes: u64,
    /// The length of a ResumableJS upload.
    pub(crate) resumable_bytes: u64,
    /// The length of an upload over a long line.
    pub(crate) line_bytes: u64,
    /// How long requests are repeated.
    pub(crate) time: Duration,
    /// All counts and lengths of the scenarios are divided by this.
    pub(crate) divisor: u64,
}

impl Scale {
    /// That of the published figures.
    pub(crate) const FULL: Self = Self {
        large_bytes: 512 << 20,
        resumable_bytes: 2 << 30,
        line_bytes: 512 << 20,
        time: Duration::from_secs(3),
        divisor: 1,
    };

    /// Enough to see that everything works.
    pub(crate) const QUICK: Self = Self {
        large_bytes: 64 << 20,
        resumable_bytes: 128 << 20,
        line_bytes: 32 << 20,
        time: Duration::from_millis(300),
        divisor: 20,
    };
}

/// Where runs take place.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) programs: Programs,
    pub(crate) scale: Scale,
    /// A folder on a disk.
    pub(crate) disk: PathBuf,
    /// A folder in memory.
    pub(crate) memory: PathBuf,
    /// Directories with stored uploads, by their number: too slow to make for each run.
    pub(crate) stored: RefCell<BTreeMap<u64, Rc<TempDir>>>,
    /// Directories of runs that are over, with the small files in them. ext4 passes over numbers of
    /// files that were removed in the last minutes: where there are thousands, making a file takes
    /// ten times as long, and the next run would pay for the last one.
    pub(crate) over: RefCell<Vec<Rc<TempDir>>>,
}

impl Bench {
    /// One run of `work` with `server`.
    ///
    /// # Errors
    /// A sentence, when something is not as it should be: then there is no figure.
    pub(crate) fn run(&self, server: Option<Server>, work: Work) -> Result<Sample, String> {
        match (server, work) {
            (None, Work::DiskLarge) => self.disk(disk::large_writes),
            (None, Work::DiskOnce) => self.disk(disk::one_sync),
            (None, Work::DiskSyncs { files }) => self.disk_syncs(files),
            (None, Work::Files { stored }) => self.files(stored),
            (Some(server), Work::Chunks) => self.chunks(server),
            (Some(server), Work::Final { part_bytes }) => self.join(server, part_bytes),
            (Some(server), Work::Heads) => self.heads(server),
            (Some(server), Work::Line { http2 }) => self.line(server, http2),
            (Some(server), Work::Patches { sha1 }) => self.patches(server, sha1),
            (Some(server), Work::Sized { bytes, connections }) => {
                self.sized(server, bytes, connections)
            }
            (Some(server), Work::Small { kind, connections, place }) => {
                self.small(server, kind, connections, place)
            }
            (Some(server), Work::Stalled { uploads }) => self.stalled(server, uploads),
            (Some(server), Work::Start { stored, cold }) => self.start(server, stored, cold),
            (Some(server), Work::Stored { count }) => self.beside_stored(server, count),
            (Some(server), Work::Stream { connections, place }) => {
                self.stream(server, connections, place)
            }
            (None | Some(_), _) => Err(format!("{work:?} does not fit {server:?}")),
        }
    }

    fn stream(&self, server: Server, connections: u64, place: Place) -> Result<Sample, String> {
        // One connection sends as much as four would.
        let length = 4 * self.scale.large_bytes / connections;
        let host = self.host(server, place)?;
        let paths = host.create(connections, length)?;
        host.measure(None, || {
            paths.iter().map(|path| script(Patches::new(path.clone(), length, length))).collect()
        })
    }

    fn patches(&self, server: Server, sha1: bool) -> Result<Sample, String> {
        let length = self.scale.large_bytes;
        let host = self.host(server, Place::Disk)?;
        let paths = host.create(4, length)?;
        let patches = |path: &String| {
            let patches = Patches::new(path.clone(), length, CHUNK_BYTES);
            script(if sha1 { patches.with_sha1() } else { patches })
        };
        host.measure(None, || paths.iter().map(patches).collect())
    }

    fn small(
        &self,
        server: Server,
        kind: Small,
        connections: usize,
        place: Place,
    ) -> Result<Sample, String> {
        let host = self.host(server, place)?;
        let at = server.tus_path();
        let scripts = || {
            (0..connections)
                .map(|_| match kind {
                    Small::CreateThenPatch => script(CreateThenPatch::new(at, SMALL_BYTES)),
                    Small::CreateWithUpload => script(CreateWithUpload { at, bytes: SMALL_BYTES }),
                })
                .collect()
        };
        host.warm_up(scripts())?;
        host.measure(Some(self.scale.time), scripts)
    }

    fn sized(&self, server: Server, bytes: u64, connections: usize) -> Result<Sample, String> {
        let host = self.host(server, Place::Memory)?;
        let at = server.tus_path();
        let create = || script(CreateWithUpload { at, bytes });
        let scripts = || (0..connections).map(|_| create()).collect();
        // Short: a machine takes in several GB a second, and has to keep them in memory.
        host.measure(Some(self.scale.time / 3), scripts)
    }

    fn heads(&self, server: Server) -> Result<Sample, String> {
        let host = self.host(server, Place::Disk)?;
        let paths = host.create(32, 1)?;
        let scripts = || paths.iter().map(|path| script(Heads { path: || path.clone() })).collect();
        host.warm_up(scripts())?;
        host.measure(Some(self.scale.time), scripts)
    }

    fn join(&self, server: Server, part_bytes: u64) -> Result<Sample, String> {
        let host = self.host(server, Place::Disk)?;
        let mut client = Client::new(host.running.address)?;
        let mut paths = Vec::new();
        for _ in 0..8 {
            let mut request = Request::new("POST", server.tus_path());
            request.tus().field("Upload-Concat", "partial").field("Upload-Length", part_bytes);
            request.field("Content-Length", 0).end();
            paths.push(client.call(&request)?.created()?.to_owned());
        }
        let parts =
            paths.iter().map(|path| script(Patches::new(path.clone(), part_bytes, part_bytes)));
        load::run(host.running.address, parts.collect(), None)?;
        let before = settled_cpu(host.running.pid())?;
        let mut request = Request::new("POST", server.tus_path());
        request.tus().field("Upload-Concat", format_args!("final;{}", paths.join(" ")));
        request.field("Content-Length", 0).end();
        // A new one: the old connection may have been idle for too long.
        let mut client = Client::new(host.running.address)?;
        let began = Instant::now();
        client.call(&request)?.created()?;
        let took = began.elapsed();
        let cpu = settled_cpu(host.running.pid())?.since(before);
        Ok([("answer ms", millis(took)), ("CPU s until quiet", cpu.seconds())].into())
    }

    fn stalled(&self, server: Server, uploads: usize) -> Result<Sample, String> {
        let uploads = uploads / usize::try_from(self.scale.divisor).unwrap_or(1);
        let host = self.host(server, Place::Disk)?;
        let before = host.running.memory()?;
        let mut stalled = Vec::new();
        let mut request = Request::default();
        for _ in 0..uploads {
            let mut client = Client::new(host.running.address)?;
            let path = client.create(server.tus_path(), CHUNK_BYTES)?;
            request.begin("PATCH", &path).tus().field("Upload-Offset", 0).data(CHUNK_BYTES);
            request.head.resize(request.head.len() + 1024, b'x');
            client.send(&request.head)?;
            stalled.push(client);
        }
        let mut memory = host.running.memory()?;
        loop {
            sleep(SETTLED);
            let now = host.running.memory()?;
            let grown = now.now - memory.now;
            memory = now;
            if grown < MIB {
                break;
            }
        }
        drop(stalled);
        let each = (memory.now - before.now) / 1024.0 / uploads as f64;
        Ok([
            ("KiB per upload", each),
            ("idle MiB", before.now / MIB),
            ("peak MiB", memory.peak / MIB),
        ]
        .into())
    }

    fn chunks(&self, server: Server) -> Result<Sample, String> {
        let total_bytes = self.scale.resumable_bytes;
        let host = self.host(server, Place::Disk)?;
        let mut numbers: Vec<u64> = (2..=total_bytes / CHUNK_BYTES).collect();
        Random(2).shuffle(&mut numbers);
        // The last is sent first: a session begins with byte 0.
        numbers.push(1);
        let left = RefCell::new(numbers);
        let chunks = || script(Chunks { left: &left, chunk_bytes: CHUNK_BYTES, total_bytes });
        host.measure(None, || (0..CHUNK_CONNECTIONS).map(|_| chunks()).collect())
    }

    fn disk(&self, write: fn(&Path, u64) -> std::io::Result<f64>) -> Result<Sample, String> {
        let dir = self.dir(Place::Disk)?;
        let bytes = 4 * self.scale.large_bytes;
        let seconds = write(dir.path(), bytes).map_err(|e| e.to_string())?;
        Ok([("wall s", seconds), ("MiB/s", float(bytes) / MIB / seconds)].into())
    }

    fn files(&self, stored: u64) -> Result<Sample, String> {
        let dir = self.stored((stored / self.scale.divisor).max(1))?;
        let bytes = usize::try_from(SMALL_BYTES).map_err(|e| e.to_string())?;
        let made = disk::uploads(dir.path(), bytes, self.scale.time);
        let (cpu, mut took) = made.map_err(|e| e.to_string())?;
        took.sort();
        let median = took.get(took.len() / 2).copied().unwrap_or_default();
        let each = cpu.as_secs_f64() / float(took.len() as u64);
        Ok([("new of 4 KiB, CPU µs", 1e6 * each), ("new of 4 KiB, p50 ms", millis(median))].into())
    }

    fn disk_syncs(&self, files: usize) -> Result<Sample, String> {
        let dir = self.dir(Place::Disk)?;
        let bytes = usize::try_from(SMALL_BYTES).map_err(|e| e.to_string())?;
        let rate = disk::syncs_per_second(dir.path(), bytes, files, self.scale.time);
        Ok([("units/s", rate.map_err(|e| e.to_string())?)].into())
    }

    fn start(&self, server: Server, stored: u64, cold: bool) -> Result<Sample, String> {
        let dir = self.stored(stored / self.scale.divisor)?;
        if cold {
            rustix::fs::sync();
            fs::write("/proc/sys/vm/drop_caches", "3")
                .map_err(|e| format!("cannot empty the page cache, which needs root: {e}"))?;
        }
        let mut running = server.launch(&self.programs, dir.path())?;
        let mut client = loop {
            if let Ok(client) = Client::new(running.address) {
                break client;
            }
            running.check()?;
            sleep(Duration::from_micros(200));
        };
        let mut request = Request::new("HEAD", &format!("/files/{}", population::id(0)));
        let answer = client.call(request.tus().end())?;
        let took = running.started.elapsed();
        if stored > 0 {
            answer.expect(200)?;
        }
        let cpu = settled_cpu(running.pid())?;
        Ok([
            ("first answer ms", millis(took)),
            ("idle MiB", running.memory()?.now / MIB),
            ("peak MiB", running.memory()?.peak / MIB),
            ("CPU s until quiet", cpu.seconds()),
        ]
        .into())
    }

    fn beside_stored(&self, server: Server, count: u64) -> Result<Sample, String> {
        let count = (count / self.scale.divisor).max(1);
        let dir = self.stored(count)?;
        let host = Host { running: server.start(&self.programs, dir.path())?, dir: Emptied(dir) };
        settled_cpu(host.running.pid())?;
        let path = |number| format!("/files/{}", population::id(number));
        let any = |seed: u64| {
            let mut random = Random(seed);
            move || path(random.next() % count)
        };
        let connections = 0..8;
        let time = Some(self.scale.time);
        let one = host.measure(time, || {
            connections.clone().map(|_| script(Heads { path: || path(0) })).collect()
        })?;
        let any = host.measure(time, || {
            connections.clone().map(|seed| script(Heads { path: any(seed) })).collect()
        })?;
        let new = host.measure(time, || {
            let create = || CreateWithUpload { at: server.tus_path(), bytes: SMALL_BYTES };
            connections.clone().map(|_| script(create())).collect()
        })?;
        let cpu = "CPU µs per unit";
        Ok([
            ("HEAD of one, CPU µs", one[cpu]),
            ("HEAD of one, p50 ms", one["p50 ms"]),
            ("HEAD of any, CPU µs", any[cpu]),
            ("HEAD of any, p50 ms", any["p50 ms"]),
            ("new of 4 KiB, CPU µs", new[cpu]),
            ("new of 4 KiB, p50 ms", new["p50 ms"]),
        ]
        .into())
    }

    fn line(&self, server: Server, http2: bool) -> Result<Sample, String> {
        let (dir, line) = (self.dir(Place::Disk)?, Line::new(ROUND_TRIP)?);
        let address = line.server_address();
        let running = server.launch_at(&self.programs, dir.path(), address, Some(line.server()))?;
        let mut host = Host { running, dir: Emptied(Rc::new(dir)) };
        let length = self.scale.line_bytes;
        let path = loop {
            let create = || Client::new(address)?.create(server.tus_path(), length);
            match line.at_client(create)? {
                Ok(path) => break path,
                Err(_) => host.running.check()?,
            }
        };
        let before = host.running.memory()?;
        let took = line.at_client(|| {
            if http2 {
                http2::upload(address, server.tus_path(), length)
            } else {
                load::run(address, vec![script(Patches::new(path, length, length))], None)
                    .map(|outcome| outcome.wall)
            }
        })??;
        let above = host.running.memory()?.peak - before.now;
        Ok([
            ("wall s", took.as_secs_f64()),
            ("MiB/s", float(length) / MIB / took.as_secs_f64()),
            ("peak above idle MiB", above / MIB),
        ]
        .into())
    }

    /// A fresh directory. What earlier runs have left to write is written first.
    fn dir(&self, place: Place) -> Result<TempDir, String> {
        let parent = match place {
            Place::Disk => {
                rustix::fs::sync();
                &self.disk
            }
            Place::Memory => &self.memory,
        };
        tempfile::Builder::new()
            .prefix("windlass-bench-")
            .tempdir_in(parent)
            .map_err(|e| format!("{}: {e}", parent.display()))
    }

    /// A directory with `count` stored uploads.
    fn stored(&self, count: u64) -> Result<Rc<TempDir>, String> {
        if let Some(dir) = self.stored.borrow().get(&count) {
            return Ok(Rc::clone(dir));
        }
        let dir = Rc::new(self.dir(Place::Disk)?);
        if count > 0 {
            population::fill(&self.programs, dir.path(), count)?;
            rustix::fs::sync();
        }
        self.stored.borrow_mut().insert(count, Rc::clone(&dir));
        Ok(dir)
    }

    fn host(&self, server: Server, place: Place) -> Result<Host, String> {
        let dir = Rc::new(self.dir(place)?);
        if place == Place::Disk {
            self.over.borrow_mut().push(Rc::clone(&dir));
        }
        Ok(Host { running: server.start(&self.programs, dir.path())?, dir: Emptied(dir) })
    }
}

/// A server and its directory. The server goes first.
#[derive(Debug)]
struct Host {
    running: Running,
    #[expect(dead_code, reason = "it goes when the server has gone")]
    dir: Emptied,
}

/// A directory that gives back the space of its large files when it is done with.
#[derive(Debug)]
struct Emptied(Rc<TempDir>);

impl Drop for Emptied {
    fn drop(&mut self) {
        let files = fs::read_dir(self.0.path()).into_iter().flatten().flatten();
        for file in files {
            if file.metadata().is_ok_and(|file| file.len() >= CHUNK_BYTES) {
                let _ = fs::remove_file(file.path());
            }
        }
    }
}

impl Host {
    /// Creates uploads.
    fn create(&self, count: u64, length: u64) -> Result<Vec<String>, String> {
        let mut client = Client::new(self.running.address)?;
        (0..count).map(|_| client.create(self.running.server.tus_path(), length)).collect()
    }

    /// Has caches filled and code compiled.
    fn warm_up(&self, scripts: Vec<Box<dyn Script + '_>>) -> Result<(), String> {
        load::run(self.running.address, scripts, Some(Duration::from_millis(300))).map(drop)
    }

    /// Runs a load and tells what it came to.
    fn measure<'a>(
        &self,
        time: Option<Duration>,
        scripts: impl FnOnce() -> Vec<Box<dyn Script + 'a>>,
    ) -> Result<Sample, String> {
        let pid = self.running.pid();
        let before = self.running.memory()?;
        Memory::reset_peak(pid)?;
        let cpu = self.running.cpu()?;
        let outcome = load::run(self.running.address, scripts(), time)?;
        let cpu = settled_cpu(pid)?.since(cpu);
        Ok(figures(&outcome, cpu, before, self.running.memory()?))
    }
}

/// A script of any kind.
fn script<'a>(script: impl Script + 'a) -> Box<dyn Script + 'a> {
    Box::new(script)
}

/// All figures of a load.
fn figures(outcome: &Outcome, cpu: Cpu, before: Memory, after: Memory) -> Sample {
    let seconds = outcome.wall.as_secs_f64();
    let mib = float(outcome.payload_bytes) / MIB;
    let gib = mib / 1024.0;
    let units = float(outcome.units.len() as u64);
    let own = outcome.own_cpu.as_secs_f64();
    let mut took: Vec<f64> = outcome.units.iter().map(|unit| millis(unit.took)).collect();
    took.sort_by(f64::total_cmp);
    let last = outcome.units.iter().max_by_key(|unit| unit.ended);
    let last = last.map_or(0.0, |Unit { took, .. }| millis(*took));
    let median = percentile(&took, 50.0);
    let mut sample = Sample::from([
        ("wall s", seconds),
        ("units", units),
        ("units/s", units / seconds),
        ("CPU µs per unit", 1e6 * cpu.seconds() / units),
        ("user µs per unit", 1e6 * cpu.user / units),
        ("system µs per unit", 1e6 * cpu.system / units),
        ("generator CPU µs per unit", 1e6 * own / units),
        ("p50 ms", median),
        ("p90 ms", percentile(&took, 90.0)),
        ("p99 ms", percentile(&took, 99.0)),
        ("p99.9 ms", percentile(&took, 99.9)),
        ("max ms", percentile(&took, 100.0)),
        ("last answer ms", last),
        ("last / median", last / median),
        ("idle MiB", before.now / MIB),
        ("peak MiB", after.peak / MIB),
        ("peak above idle MiB", (after.peak - before.now) / MIB),
    ]);
    if gib > 0.0 {
        sample.extend([
            ("MiB/s", mib / seconds),
            ("CPU s per GiB", cpu.seconds() / gib),
            ("user s per GiB", cpu.user / gib),
            ("system s per GiB", cpu.system / gib),
            ("generator CPU s per GiB", own / gib),
        ]);
    }
    sample
}

/// The value below which `percent` of the sorted `values` lie.
fn percentile(values: &[f64], percent: f64) -> f64 {
    let rank = (float(values.len() as u64) * percent / 100.0).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

fn millis(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}

fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_a_value_that_was_measured() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        for (percent, expected) in [(50.0, 100.0), (99.0, 198.0), (99.9, 200.0), (100.0, 200.0)] {
            assert!((percentile(&values, percent) - expected).abs() < f64::EPSILON, "{percent}");
        }
        assert!(percentile(&[], 50.0).abs() < f64::EPSILON);
    }
}
