//! The disk fails the server: it is full, cannot be written, has no descriptor to give, or holds a
//! record that something has damaged. The request is answered with an error and the truth, other
//! uploads live on, and everything goes on when the trouble is over.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use protocol_tests::content::{bytes, checksum};
use protocol_tests::crash::mount::{FileSystem, Mounted, can_mount, image, run, temporary};
use protocol_tests::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use protocol_tests::http1::{self, Connection, ask};
use protocol_tests::http2::Session;
use protocol_tests::message::{Request, Response};
use protocol_tests::server::{self, Windlass};
use protocol_tests::site::{Base, path_of};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// The length of every upload here.
const LENGTH: usize = 2_000_000;

/// The chunk size of ResumableJS uploads.
const CHUNK: usize = LENGTH / 2;

fn binary() -> Result<PathBuf, Failure> {
    server::binary().ok_or_else(|| Failure::new("no windlass binary"))
}

/// A server and what is asked of it.
struct Bench {
    process: Windlass,
    address: SocketAddr,
    content: Vec<u8>,
}

impl Bench {
    fn new(process: Windlass) -> Result<Self, Failure> {
        Ok(Self { address: Base::parse(&process.url)?.address, process, content: bytes(LENGTH, 7) })
    }

    fn ask(&self, request: &Request) -> Result<Response, Failure> {
        ask(self.address, request)
    }

    fn restart(&mut self) -> Verdict {
        self.process.restart()?;
        self.address = Base::parse(&self.process.url)?.address;
        Ok(())
    }

    fn creation(&self) -> Request {
        Request::tus("POST", "/files").with("Upload-Length", LENGTH).body(b"")
    }

    /// An upload that holds so many bytes.
    fn create(&self, held: usize) -> Result<String, Failure> {
        let created = self.ask(&self.creation())?.is(201)?;
        let path = path_of(created.field("Location").unwrap_or_default()).to_owned();
        if held > 0 {
            self.ask(&self.patch(&path, 0..held))?.is(204)?;
        }
        Ok(path)
    }

    fn patch(&self, path: &str, range: std::ops::Range<usize>) -> Request {
        Request::patch(path, range.start as u64).body(&self.content[range])
    }

    fn offset(&self, path: &str) -> Result<usize, Failure> {
        let answer = self.ask(&Request::tus("HEAD", path))?;
        let offset = answer.is_one_of(&[200, 204])?.number("Upload-Offset");
        Ok(offset.ok_or_else(|| Failure::new("no offset"))? as usize)
    }

    /// Sends what is missing and reads everything back.
    fn finish(&self, path: &str) -> Verdict {
        let at = self.offset(path)?;
        if at < LENGTH {
            self.ask(&self.patch(path, at..LENGTH))?.is(204)?;
        }
        self.reads_back(path)
    }

    fn reads_back(&self, path: &str) -> Verdict {
        let get = Request::plain("GET", path);
        self.ask(&get)?.is(200)?.has_body(&self.content)?;
        Ok(())
    }

    fn chunk(&self, method: &str, number: usize) -> Request {
        let target = format!(
            "/resumable?resumableChunkNumber={number}&resumableChunkSize={CHUNK}\
             &resumableTotalSize={LENGTH}&resumableIdentifier=file&resumableFilename=file"
        );
        let request = Request::plain(method, &target);
        match method {
            "GET" => request,
            _ => request
                .with("Content-Type", "application/octet-stream")
                .body(&self.content[(number - 1) * CHUNK..number * CHUNK]),
        }
    }
}

/// A small file system and a server on it. Fields are dropped in this order.
struct Small {
    bench: Bench,
    disk: Mounted,
    directory: tempfile::TempDir,
}

impl Small {
    fn new(options: &str, durability: &str) -> Result<Self, Failure> {
        let directory = temporary()?;
        let image = image(&directory.path().join("disk.img"), 32 << 20)?;
        FileSystem::Ext4.make(&image)?;
        let disk = Mounted::new(&image, &directory.path().join("disk"), options)?;
        let flags = ["--durability", durability];
        let process = Windlass::start_on(&binary()?, &disk.path().join("data"), &flags)?;
        Ok(Self { bench: Bench::new(process)?, disk, directory })
    }

    /// Takes all space but so many bytes.
    fn fill(&self, left: u64) -> Result<PathBuf, Failure> {
        let path = self.disk.path().join("filler");
        let mut filler = File::create(&path)?;
        // Space is given back when the journal says so, and what was set aside for more than was
        // needed when that is written: full is what has nothing left after a sync.
        while filler.write_all(&[1; 1024]).is_ok() {
            while filler.write_all(&[1; 1024]).is_ok() {}
            filler.sync_all()?;
        }
        let length = filler.metadata()?.len();
        filler.set_len(length.saturating_sub(left))?;
        filler.sync_all()?;
        Ok(path)
    }
}

#[test]
fn full_disk_is_told_and_outlived() -> Verdict {
    if !can_mount()? {
        return Ok(());
    }
    let mut rows = Rows::new();
    for durability in ["relaxed", "synced"] {
        let small = Small::new("", durability)?;
        for left in [0, 4 << 10, 8 << 10, 64 << 10, 1 << 20, 1_900_000] {
            rows.row(format!("{durability}, {left} bytes left"), || full_disk(&small, left));
        }
        rows.row(format!("{durability}, record"), || record_without_room(&small));
    }
    rows.verdict()
}

/// Everything is refused that does not fit, and done when there is room again.
fn full_disk(small: &Small, left: u64) -> Verdict {
    let bench = &small.bench;
    let complete = bench.create(LENGTH)?;
    let open = bench.create(10_000)?;
    let surplus = bench.create(10_000)?;
    let first = bench.ask(&bench.chunk("POST", 1))?.is(200)?;
    let body: serde_json::Value = serde_json::from_slice(&first.body).map_err(Failure::new)?;
    let file = body["upload"]["url"].as_str().unwrap_or_default().to_owned();

    let filler = small.fill(left)?;
    let answer = bench.ask(&bench.patch(&open, 10_000..LENGTH))?;
    answer.is(507)?.has_code("ERR_NO_SPACE")?;
    // What was kept is there: see the end. 10,000 bytes were told.
    let kept = bench.offset(&open)?;
    let about = format!("{kept} bytes are kept");
    ensure((10_000..LENGTH).contains(&kept), about)?;
    let chunk = bench.ask(&bench.chunk("POST", 2))?;
    let is_complete = chunk.status == 200;
    if !is_complete {
        chunk.is(500)?;
        bench.ask(&bench.chunk("GET", 2))?.is(204)?;
    }
    // Of a complete file nothing is present to a client that tests (J-044).
    let present = if is_complete { 204 } else { 200 };
    bench.ask(&bench.chunk("GET", 1))?.is(present)?;
    bench.ask(&bench.creation())?.is_one_of(&[201, 507])?;
    bench.reads_back(&complete)?;
    ensure_eq("the offset", bench.offset(&surplus)?, 10_000)?;
    bench.ask(&Request::tus("DELETE", &surplus))?.is(204)?;
    bench.ask(&Request::tus("HEAD", &surplus))?.is(404)?;

    fs::remove_file(filler)?;
    bench.finish(&open)?;
    bench.ask(&bench.chunk("POST", 2))?.is(200)?;
    for path in [&complete, &open, &file] {
        bench.ask(&Request::tus("DELETE", path))?.is(204)?;
    }
    Ok(())
}

/// The bytes find room in a block that the data file has, and the record needs another one.
fn record_without_room(small: &Small) -> Verdict {
    let bench = &small.bench;
    let path = bench.create(1)?;
    let id = path.rsplit('/').next().unwrap_or_default();
    let record = small.disk.path().join("data").join(format!("{id}.record"));
    let mut at = 1;
    while fs::metadata(&record)?.len() % 4096 < 4096 - 60 {
        bench.ask(&bench.patch(&path, at..at + 1))?.is(204)?;
        at += 1;
    }
    let filler = small.fill(0)?;
    let mut refused = false;
    for _ in 0..4 {
        let answer = bench.ask(&bench.patch(&path, at..at + 1))?;
        refused |= answer.status == 507;
        at += usize::from(answer.is_one_of(&[204, 507])?.status == 204);
        ensure_eq("the offset", bench.offset(&path)?, at)?;
    }
    ensure(refused, "there was room for the record")?;
    fs::remove_file(filler)?;
    bench.finish(&path)
}

#[test]
fn disk_that_cannot_be_written_is_told_and_outlived() -> Verdict {
    if !can_mount()? {
        return Ok(());
    }
    let Small { mut bench, disk, directory } = Small::new("errors=remount-ro", "synced")?;
    let complete = bench.create(LENGTH)?;
    let open = bench.create(10_000)?;

    // Nothing in the directory can be made or renamed. (Root may write to it whatever its mode.)
    let data = disk.path().join("data");
    run("chattr", &["+i".as_ref(), &data])?;
    bench.ask(&bench.creation())?.is(503)?;
    bench.ask(&bench.patch(&open, 10_000..20_000))?.is_one_of(&[204, 503])?;
    let told = bench.offset(&open)?;
    bench.ask(&bench.patch(&open, told..LENGTH))?.is(503)?;
    // A completion that failed shows what was there before that request (I-05).
    ensure_eq("the offset", bench.offset(&open)?, told)?;
    bench.ask(&Request::tus("DELETE", &open))?.is(503)?;
    bench.reads_back(&complete)?;
    run("chattr", &["-i".as_ref(), &data])?;
    ensure_eq("the offset", bench.offset(&open)?, told)?;
    // The completion is not in the record either: a server that comes after a crash knows of none.
    bench.process.kill()?;
    bench.restart()?;
    ensure_eq("the offset", bench.offset(&open)?, told)?;
    bench.ask(&bench.patch(&open, told..told + 10))?.is(204)?;
    let told = told + 10;

    // The kernel finds an error and stops writing.
    let device = fs::canonicalize(disk.device())?;
    let name = device.file_name().unwrap_or_default().to_string_lossy();
    fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "test")?;
    bench.ask(&bench.creation())?.is(503)?;
    bench.ask(&bench.patch(&open, told..LENGTH))?.is(503)?;
    ensure_eq("the offset", bench.offset(&open)?, told)?;
    bench.reads_back(&complete)?;
    ensure(bench.process.logs("store trouble"), "nothing is logged")?;

    bench.process.kill()?;
    let image = directory.path().join("disk.img");
    drop(disk);
    let _disk = Mounted::new(&image, &directory.path().join("disk"), "")?;
    bench.restart()?;
    ensure_eq("the offset", bench.offset(&open)?, told)?;
    bench.finish(&open)?;
    bench.reads_back(&complete)?;
    bench.process.kill()
}

/// A file system on which nothing is written until this is dropped.
struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    fn new(at: &'a Path) -> Result<Self, Failure> {
        run("fsfreeze", &["-f".as_ref(), at])?;
        Ok(Self(at))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let thawed = run("fsfreeze", &["-u".as_ref(), self.0]);
        assert!(thawed.is_ok() || std::thread::panicking(), "{thawed:?}");
    }
}

/// How long an answer may take that does not need the disk: less than what is waited for when it
/// hangs.
const PROMPT: Duration = Duration::from_secs(3);

#[test]
fn disk_that_hangs_concerns_nobody_who_does_not_need_it() -> Verdict {
    if !can_mount()? {
        return Ok(());
    }
    let mut rows = Rows::new();
    for durability in ["relaxed", "synced"] {
        rows.row(durability, || disk_that_hangs(durability));
    }
    rows.verdict()
}

fn disk_that_hangs(durability: &str) -> Verdict {
    const HANGING: usize = 6;
    let Small { mut bench, disk, directory: _directory } = Small::new("", durability)?;
    let known = bench.create(10_000)?;
    let paths = (0..HANGING).map(|_| bench.create(1)).collect::<Result<Vec<_>, _>>()?;
    let mut session = Session::open(bench.address)?;
    let in_session = session.ask(&bench.creation(), "localhost")?.is(201)?;
    let in_session = path_of(in_session.field("Location").unwrap_or_default()).to_owned();

    let frozen = Frozen::new(disk.path())?;
    let mut patches = Vec::new();
    for path in &paths {
        let patch = bench.patch(path, 1..1_000_000);
        let mut connection = Connection::open(bench.address)?;
        connection.send_request(&patch, "localhost")?;
        patches.push((connection, patch));
    }
    let patch = bench.patch(&in_session, 0..1_000_000).with("Content-Length", 1_000_000);
    let mut stream = session.start(&patch, "localhost", false)?;
    session.send(&mut stream, &bench.content[..1_000_000], true)?;
    for round in 0..20 {
        let begun = Instant::now();
        bench.ask(&Request::tus("OPTIONS", "/files"))?.is_one_of(&[200, 204])?;
        bench.ask(&Request::tus("HEAD", &known))?.is(200)?.has("Upload-Offset", 10_000)?;
        // Another stream of a connection on which one hangs.
        session.ask(&Request::tus("OPTIONS", "/files"), "localhost")?.is_one_of(&[200, 204])?;
        let took = begun.elapsed();
        ensure(took < PROMPT, format!("round {round}: others are answered after {took:?}"))?;
    }
    drop(frozen);
    for (mut connection, patch) in patches {
        connection.read_answer(&patch)?.is(204)?.has("Upload-Offset", 1_000_000)?;
    }
    session.read_answer(stream)?.is(204)?;
    for path in paths.iter().chain([&known, &in_session]) {
        bench.finish(path)?;
        bench.ask(&Request::tus("DELETE", path))?.is(204)?;
    }

    let stopped = bench.create(1)?;
    let frozen = Frozen::new(disk.path())?;
    let patch = bench.patch(&stopped, 1..1_000_000);
    let mut connection = Connection::open(bench.address)?;
    connection.send_request(&patch, "localhost")?;
    bench.ask(&Request::tus("OPTIONS", "/files"))?.is_one_of(&[200, 204])?;
    bench.process.terminate()?;
    // No signal ends a thread that waits for a frozen file system: the process is a zombie until
    // then.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !bench.process.has_exited()? {
        ensure(Instant::now() < deadline, "the server still runs after 10 s")?;
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(frozen);
    let status = bench.process.ended_within(Duration::from_secs(5))?;
    ensure(status.success(), format!("it ended with {status}"))?;
    bench.restart()?;
    bench.finish(&stopped)
}

#[test]
fn want_of_descriptors_is_told_and_outlived() -> Verdict {
    let bench = Bench::new(Windlass::start(&binary()?, &["--durability", "relaxed"])?)?;
    let (known, other) = (bench.create(10_000)?, bench.create(10_000)?);
    let mut connection = Connection::open(bench.address)?;
    let mut ask_there = |request: &Request| {
        connection.send_request(request, "localhost")?;
        connection.read_answer(request)
    };
    let head = Request::tus("HEAD", &known);
    ask_there(&head)?.is(200)?;
    let fds = format!("/proc/{}/fd", bench.process.pid());
    let open = fs::read_dir(&fds)?.count() as u64;
    let pid = i32::try_from(bench.process.pid()).ok().and_then(Pid::from_raw);
    let limit = |count| Rlimit { current: Some(count), maximum: Some(4096) };
    prlimit(pid, Resource::Nofile, limit(open + 10)).map_err(Failure::new)?;
    let idle = (0..30).map(|_| TcpStream::connect(bench.address)).collect::<Result<Vec<_>, _>>()?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while !bench.process.has_logged("cannot accept a connection") {
        ensure(Instant::now() < deadline, "all connections were accepted")?;
        std::thread::sleep(Duration::from_millis(5));
    }
    // Files that are only kept open give way.
    ask_there(&bench.creation())?.is(201)?;
    ask_there(&bench.patch(&known, 10_000..20_000))?.is(204)?;
    // Now none of those that are open counts for a new one.
    prlimit(pid, Resource::Nofile, limit(3)).map_err(Failure::new)?;
    ask_there(&bench.creation())?.is(503)?;
    ask_there(&bench.patch(&known, 20_000..30_000))?.is(503)?;
    ask_there(&head)?.is(200)?.has("Upload-Offset", 20_000)?;
    ask_there(&Request::plain("GET", "/files/unknown"))?.is(503)?;
    prlimit(pid, Resource::Nofile, limit(open + 10)).map_err(Failure::new)?;
    drop(idle);
    bench.finish(&known)?;
    bench.finish(&other)?;
    ensure(bench.process.panics().is_empty(), "it panicked")
}

#[test]
fn files_kept_open_leave_descriptors_for_others() -> Verdict {
    const DESCRIPTORS: u64 = 256;
    const UPLOADS: usize = 200;
    const CONNECTIONS: usize = 100;
    let flags = ["--durability", "relaxed"];
    let process = Windlass::start_with_descriptors(&binary()?, &flags, DESCRIPTORS)?;
    let bench = Bench::new(process)?;
    let mut paths = (0..UPLOADS).map(|_| bench.create(1)).collect::<Result<Vec<_>, _>>()?;
    let mut others = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(bench.address)?;
        let head = Request::tus("HEAD", &paths[0]);
        connection.send_request(&head, "localhost")?;
        connection.read_answer(&head)?.is(200)?;
        others.push(connection);
    }
    paths.push(bench.create(1)?);
    for path in [&paths[0], &paths[UPLOADS]] {
        bench.finish(path)?;
    }
    ensure(!bench.process.has_logged("Too many open files"), "it ran out of descriptors")
}

/// What a damaged record is made of.
type Damage = fn(&mut Vec<u8>, usize);

#[test]
fn damaged_record_concerns_nobody_else_whatever_the_damage() -> Verdict {
    const TRUNCATED: Damage = |record, at| record.truncate(at);
    const FLIPPED: Damage = |record, at| record[at] ^= 1 << (at % 8);
    const ZEROED: Damage = |record, at| record[at..].fill(0);
    let mut rows = Rows::new();
    for (name, damage) in [("cut", TRUNCATED), ("flipped", FLIPPED), ("zeroed", ZEROED)] {
        rows.row(name, || damaged(name, damage));
    }
    rows.verdict()
}

/// Damages one record of many at each of its bytes.
fn damaged(name: &str, damage: Damage) -> Verdict {
    let mut bench = Bench::new(Windlass::start(&binary()?, &["--durability", "relaxed"])?)?;
    let whole = bench.create(10_000)?;
    let complete = bench.create(LENGTH)?;
    let record = |data: &Path, path: &str| {
        let id = path.rsplit('/').next().unwrap_or_default();
        data.join(format!("{id}.record"))
    };
    let sample = {
        let path = three_bytes(&bench)?;
        fs::read(record(bench.process.data(), &path))?.len()
    };
    let victims = (0..sample).map(|_| three_bytes(&bench)).collect::<Result<Vec<_>, _>>()?;
    bench.process.kill()?;
    let mut before = Vec::new();
    for (at, path) in victims.iter().enumerate() {
        let file = record(bench.process.data(), path);
        let mut text = fs::read(&file)?;
        before.push(text.clone());
        damage(&mut text, at);
        fs::write(file, text)?;
    }
    bench.restart()?;
    let (mut refused, mut shown) = (0, 0);
    for (at, (path, text)) in victims.iter().zip(&before).enumerate() {
        let about = |f: Failure| f.within(format!("byte {at} of {}", text.len()));
        let head = bench.ask(&Request::tus("HEAD", path)).map_err(about)?;
        // A log that ends early is a log that ended there: what a crash leaves of a last commit.
        let lines = text[..at].iter().filter(|byte| **byte == b'\n').count();
        // The same without the end of the last line.
        let is_cut = name != "flipped" || at + 1 == text.len();
        let expected = match (is_cut, lines) {
            (false, _) => 423,
            (true, 0) => 404,
            (true, _) => 200,
        };
        let head = head.is(expected).map_err(about)?;
        if expected == 200 {
            head.has("Upload-Offset", lines - 1).map_err(about)?;
            shown += 1;
        } else if expected == 423 {
            refused += 1;
            let id = path.rsplit('/').next().unwrap_or_default();
            let said = bench.process.logs(&format!("{id}.record, line"));
            ensure(said, "the log does not say which file").map_err(about)?;
            bench.ask(&bench.patch(path, 3..4)).map_err(about)?.is(503)?;
            let kept = record(bench.process.data(), path).exists();
            ensure(kept, "the damaged record is gone").map_err(about)?;
        }
    }
    println!("{name}: {refused} of {sample} are refused as damaged, {shown} are shown");
    bench.finish(&whole)?;
    bench.reads_back(&complete)?;
    bench.create(10_000)?;
    ensure(bench.process.panics().is_empty(), "it panicked")
}

/// An upload that has received three bytes, one by one: four lines in its record.
fn three_bytes(bench: &Bench) -> Result<String, Failure> {
    let path = bench.create(0)?;
    for at in 0..3 {
        bench.ask(&bench.patch(&path, at..at + 1))?.is(204)?;
    }
    Ok(path)
}

/// Where a file of an upload lies; `suffix` follows its id.
fn file_of(data: &Path, path: &str, suffix: &str) -> PathBuf {
    let id = path.rsplit('/').next().unwrap_or_default();
    data.join(format!("{id}{suffix}"))
}

/// Waits until `holds`: what is not part of a request is done soon after its answer.
fn wait_until(what: &str, holds: impl Fn() -> bool) -> Verdict {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        ensure(Instant::now() < deadline, what)?;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Whatever is wrong with a body, it takes no space after its answer.
#[test]
fn refused_bytes_take_no_space() -> Verdict {
    let mut bench = Bench::new(Windlass::start(&binary()?, &["--durability", "relaxed"])?)?;
    let length = |bench: &Bench, path: &str| {
        fs::metadata(file_of(bench.process.data(), path, ".part")).map(|about| about.len())
    };
    let wrong = checksum("sha1", b"other bytes");
    let mut rows = Rows::new();
    for (name, status) in [("checksum", 460), ("too long", 413), ("cut off", 0), ("killed", 0)] {
        let path = bench.create(10_000)?;
        let rest = &bench.content.clone()[10_000..];
        let request = match name {
            "too long" => Request::patch(&path, 10_000).chunked(&[rest, b"more"]),
            _ => bench.patch(&path, 10_000..LENGTH).with("Upload-Checksum", &wrong),
        };
        rows.row(name, || {
            if status == 0 {
                let mut connection = Connection::open(bench.address)?;
                connection.send(&http1::head(&request, "localhost"))?;
                connection.send(&rest[..1_000_000])?;
                let is_there = || length(&bench, &path).is_ok_and(|length| length > 500_000);
                wait_until("nothing is written", is_there)?;
                if name == "killed" {
                    bench.process.kill()?;
                    bench.restart()?;
                }
            } else {
                bench.ask(&request)?.is(status)?;
            }
            let offset = || bench.offset(&path).unwrap_or_default() as u64;
            let is_cut = || length(&bench, &path).is_ok_and(|length| length == offset());
            wait_until("refused bytes stay", is_cut)?;
            bench.finish(&path)
        });
    }
    rows.verdict()
}

/// A refused request does not leave the disk full for everybody else.
#[test]
fn refused_bytes_do_not_fill_the_disk() -> Verdict {
    if !can_mount()? {
        return Ok(());
    }
    let small = Small::new("", "synced")?;
    let bench = &small.bench;
    let (bad, good) = (bench.create(10_000)?, bench.create(10_000)?);
    small.fill(2_500_000)?;
    let wrong = checksum("sha1", b"other bytes");
    for _ in 0..3 {
        let refused = bench.patch(&bad, 10_000..LENGTH).with("Upload-Checksum", &wrong);
        bench.ask(&refused)?.is(460)?;
    }
    wait_until("the disk stays full", || bench.finish(&good).is_ok())
}

/// Bytes cut off by another program are never replaced, by zeros or otherwise.
#[test]
fn data_that_was_cut_off_is_damage() -> Verdict {
    let mut bench = Bench::new(Windlass::start(&binary()?, &["--durability", "relaxed"])?)?;
    let data = bench.process.data().to_owned();
    let cut = |path: &str, suffix: &str, bytes: u64| {
        let file = file_of(&data, path, suffix);
        File::options().write(true).open(file).and_then(|file| file.set_len(bytes))
    };
    let (open, complete) = (bench.create(10_000)?, bench.create(LENGTH)?);
    let (running, other) = (bench.create(10_000)?, bench.create(LENGTH)?);
    // While the server runs.
    cut(&running, ".part", 5_000)?;
    bench.ask(&bench.patch(&running, 10_000..LENGTH))?.is(503)?;
    bench.ask(&Request::tus("HEAD", &running))?.is(423)?;
    cut(&complete, "", 0)?;
    bench.ask(&Request::plain("GET", &complete))?.is(503)?;
    bench.ask(&Request::tus("HEAD", &complete))?.is(423)?;
    // While it does not.
    bench.process.kill()?;
    cut(&open, ".part", 9_999)?;
    cut(&other, "", LENGTH as u64 - 1)?;
    bench.restart()?;
    for path in [&open, &running, &complete, &other] {
        bench.ask(&Request::tus("HEAD", path))?.is(423)?;
    }
    bench.ask(&bench.patch(&open, 10_000..LENGTH))?.is(503)?;
    bench.ask(&Request::plain("GET", &other))?.is(503)?;
    let name = file_of(Path::new(""), &open, ".part").display().to_string();
    let said = format!("{name} holds 9999 bytes, its record says 10000");
    ensure(bench.process.has_logged(&said), "the log does not say which file")?;
    ensure(bench.process.panics().is_empty(), "it panicked")
}

/// Bytes without a record may still be of value to their owner.
#[test]
fn bytes_without_a_readable_record_are_kept_and_logged() -> Verdict {
    let mut bench = Bench::new(Windlass::start(&binary()?, &["--durability", "relaxed"])?)?;
    let data = bench.process.data().to_owned();
    let (emptied, removed) = (bench.create(10_000)?, bench.create(10_000)?);
    let whole = bench.create(LENGTH)?;
    bench.process.kill()?;
    fs::write(file_of(&data, &emptied, ".record"), "")?;
    fs::remove_file(file_of(&data, &removed, ".record"))?;
    fs::write(file_of(&data, &whole, ".record"), "")?;
    bench.restart()?;
    for (path, suffix, bytes) in
        [(&emptied, ".part", 10_000), (&removed, ".part", 10_000), (&whole, "", LENGTH)]
    {
        let file = file_of(&data, path, suffix);
        let name = file_of(Path::new(""), path, suffix).display().to_string();
        let said = || bench.process.has_logged(&format!("{name} holds bytes"));
        wait_until("the log does not say which file", said)?;
        ensure_eq("the bytes kept", fs::metadata(file)?.len(), bytes as u64)?;
        bench.ask(&Request::tus("HEAD", path))?.is(404)?;
    }
    Ok(())
}

/// Without its secret a server would not find what clients name, and would not say why.
#[test]
fn lost_secret_is_an_error_at_the_start() -> Verdict {
    let mut bench = Bench::new(Windlass::start(&binary()?, &["--durability", "relaxed"])?)?;
    bench.ask(&bench.chunk("POST", 1))?.is(200)?;
    let secret = bench.process.data().join(".secret");
    bench.process.kill()?;
    let kept = fs::read(&secret)?;
    fs::remove_file(&secret)?;
    ensure(bench.restart().is_err(), "it serves with another secret")?;
    ensure(bench.process.has_logged(".secret is missing"), "it does not say why")?;
    ensure(!secret.exists(), "there is a new secret")?;
    fs::write(&secret, kept)?;
    bench.restart()?;
    bench.ask(&bench.chunk("GET", 1))?.is(200)?;
    Ok(())
}

/// Operators move finished files to where they are needed.
#[test]
fn finished_file_that_was_moved_away_is_gone() -> Verdict {
    let mut bench = Bench::new(Windlass::start(&binary()?, &["--durability", "relaxed"])?)?;
    let data = bench.process.data().to_owned();
    let (running, stopped) = (bench.create(LENGTH)?, bench.create(LENGTH)?);
    bench.reads_back(&running)?;
    fs::rename(file_of(&data, &running, ""), data.join("moved.bin"))?;
    let gone = |bench: &Bench, path: &str| {
        bench.ask(&Request::tus("HEAD", path))?.is(404)?;
        bench.ask(&Request::plain("GET", path))?.is(404)?;
        bench.ask(&bench.patch(path, 0..1))?.is(404).map(drop)
    };
    gone(&bench, &running)?;
    bench.process.kill()?;
    fs::remove_file(file_of(&data, &stopped, ""))?;
    bench.restart()?;
    gone(&bench, &running)?;
    gone(&bench, &stopped)?;
    // The sweep removes its record.
    let is_forgotten = || !file_of(&data, &stopped, ".record").exists();
    wait_until("the record stays", is_forgotten)
}

/// Nothing is acknowledged that goes into a file without a name.
#[test]
fn open_upload_whose_files_were_removed_takes_no_more() -> Verdict {
    let bench = Bench::new(Windlass::start(&binary()?, &["--durability", "relaxed"])?)?;
    let mut rows = Rows::new();
    for (suffixes, patch, head) in
        [(&[".part"][..], 503, 423), (&[".record"], 404, 404), (&[".part", ".record"], 404, 404)]
    {
        rows.row(format!("{suffixes:?}"), || {
            let path = bench.create(10_000)?;
            for suffix in suffixes {
                fs::remove_file(file_of(bench.process.data(), &path, suffix))?;
            }
            bench.ask(&bench.patch(&path, 10_000..20_000))?.is(patch)?;
            bench.ask(&Request::tus("HEAD", &path))?.is(head)?;
            Ok(())
        });
    }
    rows.verdict()
}
