//! Clients from hell: slow, silent, many, lying about lengths, flooding. While each of them does
//! its worst a fresh client is served in normal time; afterwards memory, descriptors and uploads
//! are as they were.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use protocol_tests::content::bytes;
use protocol_tests::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use protocol_tests::frames::{END_HEADERS, END_STREAM, Kind, Wire, block, frame, string};
use protocol_tests::http1::{Connection, ask, body, head};
use protocol_tests::http2::Session;
use protocol_tests::message::{OFFSET_OCTETS, Request, Response};
use protocol_tests::server::{self, Windlass};
use protocol_tests::site::{Base, path_of};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the server is told to wait for a head, for a byte of a body, for a reader: longer than a
/// client takes that sends a byte per second.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long the server may take to notice, on a machine that is busy.
const SLACK: Duration = Duration::from_secs(15);

/// Normal time for a fresh client, on a machine that is quiet.
const NORMAL: Duration = Duration::from_secs(2);

/// How much memory a server may keep after an attack.
const KEPT_BYTES: u64 = 64 << 20;

/// How much more it may take at any time.
const PEAK_BYTES: u64 = 384 << 20;

/// How long a flood goes on.
const FLOOD: Duration = Duration::from_millis(700);

/// Connections at once, if descriptors allow it.
const CONNECTIONS: u64 = 10_000;

/// A window that is larger than one may be when it is added to another: a fault of one stream.
/// (None at all is a fault of the connection to many servers.)
const TOO_MUCH: [u8; 4] = [0x7f, 0xff, 0xff, 0xff];

/// How many threads make them.
const CLIENTS: usize = 20;

/// Clients that wait for the same chunk.
const WAITING: usize = 500;

/// The length of that chunk: no more than the kernel takes for a server that reads nothing, so that
/// it also takes the end of the connection.
const WAITED_FOR_BYTES: usize = 20_000;

/// What one connection may cost the server.
const CONNECTION_BYTES: u64 = 40 << 10;

/// One attack at a time: they are measured.
static ALONE: Mutex<()> = Mutex::new(());

/// A server and what was measured when it was left in peace.
struct Victim {
    address: SocketAddr,
    process: Windlass,
    _alone: MutexGuard<'static, ()>,
}

impl Victim {
    fn start(head_timeout: Duration) -> Result<Self, Failure> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let binary = server::binary().ok_or_else(|| Failure::new("no windlass binary"))?;
        let flags = ["--durability", "relaxed", "--max-size", "9223372036854775807"];
        let [head, idle] = [head_timeout, TIMEOUT].map(|time| format!("{}s", time.as_secs()));
        let timeouts = ["--head-timeout", &head, "--idle-timeout", &idle];
        let process = Windlass::start(&binary, &[&flags[..], &timeouts[..]].concat())?;
        let victim = Self { address: Base::parse(&process.url)?.address, process, _alone: alone };
        victim.is_usable()?;
        Ok(victim)
    }

    fn ask(&self, request: &Request) -> Result<Response, Failure> {
        ask(self.address, request)
    }

    fn connect(&self) -> Result<Connection, Failure> {
        Connection::open(self.address)
    }

    fn create(&self, length: u64) -> Result<String, Failure> {
        let creation = creation(length);
        let created = self.ask(&creation)?.is(201)?;
        Ok(path_of(created.field("Location").unwrap_or_default()).to_owned())
    }

    /// What a fresh client does: HEAD and a small PATCH, each on a connection of its own.
    fn is_usable(&self) -> Result<Duration, Failure> {
        let path = self.create(10)?;
        let begun = Instant::now();
        self.ask(&Request::tus("HEAD", &path))?.is(200)?.has("Upload-Offset", 0)?;
        self.ask(&Request::patch(&path, 0).body(b"0123456789"))?.is(204)?;
        let took = begun.elapsed();
        self.ask(&Request::tus("DELETE", &path))?.is(204)?;
        Ok(took)
    }

    fn descriptors(&self) -> Result<usize, Failure> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.process.pid()))?.count())
    }

    /// What the process has used of the CPU.
    fn cpu_time(&self) -> Result<Duration, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.pid()))?;
        // The name may hold blanks; what follows it are numbers, the times 12th and 13th.
        let numbers = stat.rsplit_once(')').map_or("", |(_, numbers)| numbers);
        let ticks = numbers.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = ticks.sum::<Result<_, _>>().map_err(Failure::new)?;
        // Linux tells everybody ticks of 1/100 s, whatever its own are.
        Ok(Duration::from_millis(ticks * 10))
    }

    fn memory_bytes(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        Ok(kib.ok_or_else(|| Failure::new("no VmRSS"))? * 1024)
    }

    /// Lets a client do its worst, and looks at the server meanwhile and afterwards.
    fn endures(&self, name: &str, attack: impl FnOnce(&Self) -> Verdict) -> Verdict {
        let begun = Instant::now();
        let calm = (0..3).map(|_| self.is_usable());
        let calm = calm.collect::<Result<Vec<_>, _>>()?;
        // A busy machine makes everything slow; a quiet one gets `NORMAL`.
        let normal = NORMAL + 20 * calm.into_iter().max().unwrap_or_default();
        let (descriptors, memory) = (self.descriptors()?, self.memory_bytes()?);
        let ended = AtomicBool::new(false);
        let (attacked, (rounds, slowest)) = thread::scope(|scope| {
            let fresh = scope.spawn(|| {
                let (mut rounds, mut slowest) = (0, Duration::ZERO);
                while !ended.load(Ordering::Relaxed) || rounds == 0 {
                    slowest = slowest.max(self.is_usable()?);
                    rounds += 1;
                }
                Ok::<_, Failure>((rounds, slowest))
            });
            let attacked = attack(self);
            ended.store(true, Ordering::Relaxed);
            let fresh = fresh.join();
            let fresh = fresh.unwrap_or_else(|_| Err(Failure::new("the fresh client panicked")));
            Ok::<_, Failure>((attacked, fresh.map_err(|f| f.within("a fresh client"))?))
        })?;
        attacked?;
        ensure(slowest <= normal, format!("a fresh client took {slowest:?} of {normal:?}"))?;
        // In this order: the server keeps files of uploads open that were used of late. A creation
        // that was cut off may be done only now.
        let mut uploads = self.every_upload_is_free()?;
        let deadline = Instant::now() + SLACK;
        while let Err(failure) = self.is_settled(descriptors, memory + KEPT_BYTES) {
            ensure(Instant::now() < deadline, failure)?;
            thread::sleep(Duration::from_millis(20));
            uploads += self.every_upload_is_free()?;
        }
        let kept = self.memory_bytes()?.saturating_sub(memory) >> 10;
        let peak = self.process.peak_memory_bytes().unwrap_or_default();
        let peak = peak.saturating_sub(memory) >> 10;
        ensure(peak < PEAK_BYTES >> 10, format!("it took {peak} KiB more"))?;
        let took = begun.elapsed();
        println!(
            "{name}: {took:.1?}, fresh client {rounds} times, at most {slowest:.1?}; \
             {uploads} uploads free, {kept} KiB kept of {peak}"
        );
        let panics = self.process.panics();
        ensure(panics.is_empty(), format!("{panics:?}"))
    }

    /// Descriptors and memory go back.
    fn settles(&self, descriptors: usize, memory_bytes: u64) -> Verdict {
        let deadline = Instant::now() + SLACK;
        while let Err(failure) = self.is_settled(descriptors, memory_bytes) {
            ensure(Instant::now() < deadline, failure)?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Whether no more descriptors and memory are in use than these.
    fn is_settled(&self, descriptors: usize, memory_bytes: u64) -> Verdict {
        let (open, memory) = (self.descriptors()?, self.memory_bytes()?);
        ensure(
            open <= descriptors && memory <= memory_bytes,
            format!(
                "{open} descriptors of {descriptors}, {memory} bytes of {memory_bytes} are left"
            ),
        )
    }

    /// Whether the upload takes a byte at the offset that it shows, if it shows one and has room.
    /// It does, but when another request comes in between.
    fn takes_a_byte(&self, path: &str) -> Result<bool, Failure> {
        let head = self.ask(&Request::tus("HEAD", path))?;
        let (offset, length) = (head.number("Upload-Offset"), head.number("Upload-Length"));
        let (200, Some(at)) = (head.status, offset) else {
            return Ok(true);
        };
        if offset == length {
            return Ok(true);
        }
        let patch = Request::patch(path, at).body(b"x");
        let answer = self.ask(&patch)?.is_one_of(&[204, 409])?;
        if answer.status == 204 {
            answer.has("Upload-Offset", at + 1)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Every upload that is left takes a byte at once, and is removed.
    fn every_upload_is_free(&self) -> Result<usize, Failure> {
        let mut uploads = 0;
        for (path, _) in self.process.files() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(id) = name.strip_suffix(".record") else {
                continue;
            };
            let path = format!("/files/{id}");
            let deadline = Instant::now() + SLACK;
            // A request that was cut off behind its last byte may be served only now.
            while !self.takes_a_byte(&path)? {
                ensure(Instant::now() < deadline, "an upload is not free")?;
            }
            self.ask(&Request::tus("DELETE", &path))?.is_one_of(&[204, 404])?;
            uploads += 1;
        }
        Ok(uploads)
    }
}

fn creation(length: impl ToString) -> Request {
    Request::tus("POST", "/files").with("Upload-Length", length).body(b"")
}

/// A PATCH of a known length, without its body.
fn patch_head(path: &str, length: u64) -> Vec<u8> {
    let request = Request::patch(path, 0).with("Content-Length", length);
    head(&request, "localhost")
}

/// Waits until the server has ended every one of them, and no sooner than it should.
fn are_cut(connections: Vec<Connection>, begun: Instant) -> Verdict {
    for mut connection in connections {
        let left = (TIMEOUT + SLACK).saturating_sub(begun.elapsed());
        ensure(connection.is_ended_within(left)?, "a connection is kept")?;
        let after = begun.elapsed();
        ensure(after >= TIMEOUT / 2, format!("cut after {after:?} already"))?;
    }
    Ok(())
}

#[test]
fn slow_and_silent_clients_are_cut() -> Verdict {
    let victim = Victim::start(TIMEOUT)?;
    let mut rows = Rows::new();
    let mut row = |name, attack: fn(&Victim) -> Verdict| {
        rows.row(name, || victim.endures(name, attack));
    };
    row("silent connections", |victim| {
        let begun = Instant::now();
        let openings: [&[u8]; 6] = [
            b"",
            b"P",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
            b"G",
            b"\r\n",
            b"PATCH /files/a HTTP/1.1\r\nHost: a\r\n",
        ];
        let mut silent = Vec::new();
        for opening in openings.iter().cycle().take(60) {
            let mut connection = victim.connect()?;
            connection.send(opening)?;
            silent.push(connection);
        }
        are_cut(silent, begun)
    });
    row("silent HTTP/2", |victim| {
        let begun = Instant::now();
        let openings = [
            Vec::new(),
            frame(Kind::Headers, END_STREAM, 1, b"\x82"),
            frame(Kind::Data, 0, 1, b"")[..5].to_vec(),
        ];
        let mut silent = Vec::new();
        for opening in openings.iter().cycle().take(30) {
            let mut connection = victim.connect()?;
            connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
            connection.send(&frame(Kind::Settings, 0, 0, b""))?;
            connection.send(opening)?;
            silent.push(connection);
        }
        are_cut(silent, begun)
    });
    row("slow heads", |victim| {
        let begun = Instant::now();
        let text = patch_head("/files/a", 1);
        let slow = (0..20).map(|_| victim.connect());
        let mut slow = slow.collect::<Result<Vec<_>, _>>()?;
        for byte in &text[..usize::try_from(TIMEOUT.as_secs()).unwrap_or(0) + 2] {
            for connection in &mut slow {
                // The server may have ended it by now: that is what is asked below.
                let _ = connection.send(&[*byte]);
            }
            thread::sleep(Duration::from_secs(1));
        }
        are_cut(slow, begun)
    });
    row("stalled bodies", |victim| {
        let begun = Instant::now();
        let mut stalled = Vec::new();
        let query = "resumableChunkNumber=1&resumableChunkSize=100&resumableTotalSize=100";
        let form = Request::plain(
            "POST",
            &format!("/resumable?{query}&resumableIdentifier=a&resumableFilename=a"),
        );
        for at in 0..40 {
            let path = victim.create(1000)?;
            let begin = match at % 4 {
                0 => [patch_head(&path, 1000), bytes(10, 1)].concat(),
                1 => patch_head(&path, 1000),
                2 => {
                    let request = Request::patch(&path, 0).chunked(&[]);
                    [&head(&request, "localhost")[..], b"3e8\r\nabc"].concat()
                }
                _ => {
                    let kind = "multipart/form-data; boundary=b";
                    let form = form.clone().with("Content-Type", kind);
                    let form = form.with("Content-Length", 500);
                    [&head(&form, "localhost")[..], b"--b\r\nContent-Disp"].concat()
                }
            };
            let mut connection = victim.connect()?;
            connection.send(&begin)?;
            stalled.push(connection);
        }
        are_cut(stalled, begun)
    });
    // One byte per second is progress: the bytes count, the client is not cut, and it does not keep
    // anybody out.
    row("slow bodies", |victim| {
        let mut slow = Vec::new();
        for _ in 0..20 {
            let path = victim.create(1000)?;
            let mut connection = victim.connect()?;
            connection.send(&patch_head(&path, 1000))?;
            slow.push((path, connection));
        }
        for _ in 0..4 {
            for (_, connection) in &mut slow {
                connection.send(b"x")?;
            }
            thread::sleep(Duration::from_secs(1));
        }
        for (path, mut connection) in slow {
            ensure(!connection.has_arrived()?, "it was cut off")?;
            let offset = victim.ask(&Request::tus("HEAD", &path))?.is(200)?.number("Upload-Offset");
            let at = offset.unwrap_or_default();
            ensure(at >= 3, format!("4 bytes were sent, {at} count"))?;
            let patch = Request::patch(&path, at).body(b"other");
            victim.ask(&patch)?.is(204)?;
        }
        Ok(())
    });
    row("readers that do not read", |victim| {
        let content = bytes(16 << 20, 3);
        let path = victim.create(content.len() as u64)?;
        victim.ask(&Request::patch(&path, 0).body(&content))?.is(204)?;
        let before = victim.descriptors()?;
        let mut deaf = Vec::new();
        for _ in 0..30 {
            let mut connection = victim.connect()?;
            connection.send(&head(&Request::plain("GET", &path), "localhost"))?;
            deaf.push(connection);
        }
        // By HTTP/2: no window at all, and nobody to answer a PING.
        let window = [0, 4, 0, 0, 0, 0];
        for _ in 0..5 {
            let mut connection = victim.connect()?;
            connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
            connection.send(&frame(Kind::Settings, 0, 0, &window))?;
            for stream in 0..100 {
                let get = block("GET", &path, &[]);
                let flags = END_HEADERS | END_STREAM;
                connection.send(&frame(Kind::Headers, flags, 2 * stream + 1, &get))?;
            }
            deaf.push(connection);
        }
        let deadline = Instant::now() + SLACK;
        while victim.descriptors()? < before + 100 {
            ensure(Instant::now() < deadline, "the downloads do not begin")?;
        }
        // The connections stay open on this side. Fresh clients have a few of their own.
        victim.settles(before + 10, victim.memory_bytes()? + KEPT_BYTES)?;
        drop(deaf);
        Ok(())
    });
    row("HTTP/2 downloads without a window", |victim| {
        let content = bytes(1 << 20, 3);
        let path = victim.create(content.len() as u64)?;
        let whole = Request::patch(&path, 0).body(&content);
        victim.ask(&whole)?.is(204)?;
        let before = victim.descriptors()?;
        let mut deaf = Vec::new();
        for _ in 0..5 {
            let mut session = Session::open_without_window(victim.address)?;
            let get = Request::plain("GET", &path);
            let started = (0..100).map(|_| session.start(&get, "localhost", true));
            let started = started.collect::<Result<Vec<_>, _>>()?;
            let heads = started.into_iter().map(|stream| session.read_head(stream));
            let heads = heads.collect::<Result<Vec<_>, _>>()?;
            ensure(heads.iter().all(|head| head.status == 200), "no download")?;
            deaf.push((session, heads));
        }
        victim.settles(before + 10, victim.memory_bytes()? + KEPT_BYTES)?;
        // These answer PINGs and are clients like any other.
        thread::sleep(TIMEOUT * 2);
        for (session, _) in &mut deaf {
            let head = Request::tus("HEAD", &path);
            session.ask(&head, "localhost")?.is(200)?;
        }
        Ok(())
    });
    rows.verdict()
}

#[test]
fn ten_thousand_connections_leave_room_for_one_more() -> Verdict {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(Failure::new)?;
    let Rlimit { current, .. } = limit;
    let count = CONNECTIONS.min(current.unwrap_or(u64::MAX).saturating_sub(500));
    let count = usize::try_from(count).map_err(Failure::new)?;
    // Nobody is cut before all are there.
    let victim = Victim::start(TIMEOUT * 60)?;
    println!("{count} connections at once");
    let attack = |victim: &Victim| {
        let openings: [&[u8]; 4] = [
            b"",
            b"GET / HTTP/1.1\r\nX: ",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ];
        // Side by side, because the kernel makes one that finds the queue full wait for a second.
        let open = |count: usize| {
            let open = (0..count).map(|at| {
                let mut connection = victim.connect()?;
                connection.send(openings[at % openings.len()])?;
                Ok(connection)
            });
            open.collect::<Result<Vec<_>, Failure>>()
        };
        let held = thread::scope(|scope| {
            let clients = (0..CLIENTS).map(|_| scope.spawn(|| open(count / CLIENTS)));
            let clients: Vec<_> = clients.collect();
            let held = clients.into_iter().map(|client| client.join());
            held.map(|held| held.unwrap_or_else(|_| Err(Failure::new("a client panicked"))))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let deadline = Instant::now() + SLACK;
        while victim.descriptors()? < count {
            ensure(Instant::now() < deadline, "not all were accepted")?;
        }
        victim.is_usable()?;
        let each = victim.memory_bytes()? / count as u64;
        println!("{each} bytes per connection");
        drop(held);
        ensure(each < CONNECTION_BYTES, "that is too much")
    };
    attack(&victim)?;
    // Memory that was used once may stay with the allocator, for the next time.
    victim.endures("connections", attack)
}

/// A request that another server on the way may take for a longer or a shorter one. What follows it
/// on the connection must not be answered: it may be part of it.
#[test]
fn request_that_two_servers_may_read_differently_ends_its_connection() -> Verdict {
    let victim = Victim::start(TIMEOUT)?;
    let mut rows = Rows::new();
    let long = "a".repeat(100_000);
    let chunked = "Transfer-Encoding: chunked\r\n";
    let none = "0\r\n\r\n";
    let table = [
        ("CL and TE", format!("Content-Length: 42\r\n{chunked}"), none),
        ("TE and CL", format!("{chunked}Content-Length: 42\r\n"), none),
        ("two CLs", "Content-Length: 0\r\nContent-Length: 42\r\n".to_owned(), ""),
        ("CL list", "Content-Length: 0, 42\r\n".to_owned(), ""),
        ("CL list of one value", "Content-Length: 0, 0\r\n".to_owned(), ""),
        ("CL +0", "Content-Length: +0\r\n".to_owned(), ""),
        ("CL -0", "Content-Length: -0\r\n".to_owned(), ""),
        ("CL -1", "Content-Length: -1\r\n".to_owned(), ""),
        ("CL 0x0", "Content-Length: 0x0\r\n".to_owned(), ""),
        ("CL empty", "Content-Length:\r\n".to_owned(), ""),
        ("CL 0 0", "Content-Length: 0 0\r\n".to_owned(), ""),
        ("CL 2^64", "Content-Length: 18446744073709551616\r\n".to_owned(), ""),
        ("TE twice", format!("{chunked}{chunked}"), none),
        ("TE list", "Transfer-Encoding: chunked, chunked\r\n".to_owned(), none),
        ("TE gzip", "Transfer-Encoding: gzip, chunked\r\n".to_owned(), none),
        ("TE not last", "Transfer-Encoding: chunked, identity\r\n".to_owned(), none),
        ("TE unknown", "Transfer-Encoding: xchunked\r\n".to_owned(), none),
        ("TE identity", "Transfer-Encoding: identity\r\n".to_owned(), none),
        ("TE quoted", "Transfer-Encoding: \"chunked\"\r\n".to_owned(), none),
        ("TE parameter", "Transfer-Encoding: chunked;a=b\r\n".to_owned(), none),
        ("TE vertical tab", "Transfer-Encoding: \x0bchunked\r\n".to_owned(), none),
        ("TE empty", format!("Transfer-Encoding:\r\n{chunked}"), none),
        ("TE space colon", "Transfer-Encoding : chunked\r\n".to_owned(), none),
        ("CL space colon", "Content-Length : 0\r\n".to_owned(), ""),
        ("TE folded", "Transfer-Encoding:\r\n chunked\r\n".to_owned(), none),
        ("any field folded", "X: a\r\n b\r\nContent-Length: 0\r\n".to_owned(), ""),
        ("blank before a name", " Content-Length: 0\r\n".to_owned(), ""),
        ("bare CR", "X: a\rContent-Length: 42\r\nContent-Length: 0\r\n".to_owned(), ""),
        ("NUL", "X: a\0b\r\nContent-Length: 0\r\n".to_owned(), ""),
        ("no colon", "Content-Length 0\r\n".to_owned(), ""),
        ("two hosts", "Host: other\r\nContent-Length: 0\r\n".to_owned(), ""),
        ("one host twice", "Host: a\r\nContent-Length: 0\r\n".to_owned(), ""),
        ("size -1", chunked.to_owned(), "-1\r\n\r\n"),
        ("size +0", chunked.to_owned(), "+0\r\n\r\n"),
        ("size 0x0", chunked.to_owned(), "0x0\r\n\r\n"),
        ("size blank 0", chunked.to_owned(), " 0\r\n\r\n"),
        ("size empty", chunked.to_owned(), "\r\n\r\n"),
        ("size 2^64", chunked.to_owned(), "10000000000000000\r\n\r\n"),
        ("size 2^68", chunked.to_owned(), "FFFFFFFFFFFFFFFFF\r\n\r\n"),
        ("size LF", chunked.to_owned(), "0\n\r\n"),
        ("extension LF", chunked.to_owned(), "0;a\nb\r\n\r\n"),
        ("extension CR", chunked.to_owned(), "0;a\rb\r\n\r\n"),
        ("chunk longer than its size", chunked.to_owned(), "1\r\nab\r\n0\r\n\r\n"),
    ];
    let after = "DELETE /files/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut row = |path: &str, name: &str, fields: &str, begin: &str| {
        rows.row(format!("{name} {path}"), || {
            let mut connection = victim.connect()?;
            let kind = format!("Content-Type: {OFFSET_OCTETS}\r\nUpload-Length: 5\r\n");
            let start =
                format!("POST {path} HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\n{kind}");
            connection.send(format!("{start}{fields}\r\n{begin}{after}").as_bytes())?;
            let answer = connection.read_head();
            if let Ok(answer) = answer {
                let served = if path == "/files" { 201 } else { 404 };
                ensure([served, 400].contains(&answer.status), answer.status)?;
                let length = answer.field("Content-Length").unwrap_or("0");
                connection.read_bytes(length.parse().map_err(Failure::new)?)?;
            }
            // Not one byte of a second answer; the end, cleanly or not.
            let second = connection.read_head();
            ensure(second.is_err(), format!("a second answer: {second:?}"))?;
            ensure(connection.is_ended_within(SLACK)?, "the connection is kept")
        });
    };
    victim.endures("smuggling", |_| {
        let extension = format!("0;{long}\r\n\r\n");
        // Also where nothing is served: the connection is the same.
        for path in ["/files", "/nowhere"] {
            for (name, fields, begin) in &table {
                row(path, name, fields, begin);
            }
            row(path, "huge extension", chunked, &extension);
        }
        Ok(())
    })?;
    rows.verdict()
}

#[test]
fn pipelined_requests_are_answered_in_order() -> Verdict {
    let victim = Victim::start(TIMEOUT)?;
    victim.endures("pipelining", |victim| {
        let path = victim.create(1000)?;
        let mut connection = victim.connect()?;
        let requests = (0..1000).map(|at| match at % 2 {
            0 => Request::patch(&path, at / 2).body(b"x"),
            _ => Request::tus("HEAD", &path),
        });
        let requests: Vec<Request> = requests.collect();
        let mut wire = Vec::new();
        for request in &requests {
            wire.extend(head(request, "localhost"));
            wire.extend(body(&request.body));
        }
        connection.send(&wire)?;
        for (at, request) in requests.iter().enumerate() {
            let answer = connection.read_answer(request)?.is_one_of(&[200, 204])?;
            answer.has("Upload-Offset", at / 2 + 1)?;
        }
        Ok(())
    })
}

/// A chunk that a client keeps sending, byte by byte, until this is dropped. Nobody else gets to
/// write it as long.
struct HeldChunk {
    /// Where the chunk is sent to.
    target: String,
    /// Its length.
    bytes: usize,
    feeder: Option<thread::JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
}

impl HeldChunk {
    /// The first chunk of a file of two.
    fn begin(victim: &Victim, name: &str, bytes: usize) -> Result<Self, Failure> {
        let target = format!(
            "/resumable?resumableChunkNumber=1&resumableChunkSize={bytes}&resumableTotalSize={}\
             &resumableIdentifier={name}&resumableFilename={name}",
            2 * bytes
        );
        let mut connection = victim.connect()?;
        connection.send(&chunk_head(&target, bytes))?;
        connection.send(b"x")?;
        let status = Request::plain("GET", &target.replace("/resumable?", "/resumable/status?"));
        let deadline = Instant::now() + SLACK;
        while victim.ask(&status)?.status != 200 {
            ensure(Instant::now() < deadline, "the chunk is not begun")?;
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&is_over);
        let feeder = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) && connection.send(b"x").is_ok() {
                thread::sleep(TIMEOUT / 10);
            }
        });
        Ok(Self { target, bytes, feeder: Some(feeder), is_over })
    }

    /// Ends the request that holds it. The chunk is free then, and the upload is removed.
    fn end(mut self, victim: &Victim) -> Verdict {
        self.stop();
        let whole = Request::plain("POST", &self.target)
            .with("Content-Type", "application/octet-stream")
            .body(bytes(self.bytes, 1));
        victim.ask(&whole)?.is(200)?;
        let status = self.target.replace("/resumable?", "/resumable/status?");
        victim.ask(&Request::plain("DELETE", &status))?.is_one_of(&[200, 204])?;
        Ok(())
    }

    fn stop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let feeder = self.feeder.take().map(thread::JoinHandle::join);
        assert!(feeder.is_none_or(|feeder| feeder.is_ok()), "the feeder panicked");
    }
}

impl Drop for HeldChunk {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A POST of a chunk, without its body.
fn chunk_head(target: &str, bytes: usize) -> Vec<u8> {
    let request = Request::plain("POST", target)
        .with("Content-Type", "application/octet-stream")
        .with("Content-Length", bytes);
    head(&request, "localhost")
}

/// A chunk is waited for by many, for up to a minute each. Those that leave take everything along
/// that they have cost; those that have only ended their side are told.
#[test]
fn waits_end_when_their_clients_leave() -> Verdict {
    type Leave = fn(Connection) -> Result<Option<Connection>, Failure>;
    /// What the chunk and fresh clients have open.
    const FRESH: usize = 20;
    let victim = Victim::start(TIMEOUT)?;
    let calm = victim.descriptors()?;
    let mut rows = Rows::new();
    let close: Leave = |_| Ok(None);
    let reset: Leave = |connection| connection.reset().map(|()| None);
    let half_close: Leave = |connection| {
        connection.half_close()?;
        Ok(Some(connection))
    };
    let table = [
        ("closed before the body", 0, close),
        ("closed within the body", WAITED_FOR_BYTES / 2, close),
        ("closed behind the body", WAITED_FOR_BYTES, close),
        ("reset", WAITED_FOR_BYTES / 2, reset),
        ("ended on one side", WAITED_FOR_BYTES, half_close),
    ];
    for (at, (name, sent, leave)) in table.into_iter().enumerate() {
        let attack = |victim: &Victim| {
            let held = HeldChunk::begin(victim, &format!("waited{at}"), WAITED_FOR_BYTES)?;
            let begin = [chunk_head(&held.target, WAITED_FOR_BYTES), bytes(sent, 1)].concat();
            let mut waiting = Vec::new();
            for _ in 0..WAITING {
                let mut connection = victim.connect()?;
                connection.send(&begin)?;
                waiting.push(connection);
            }
            let deadline = Instant::now() + SLACK;
            while victim.descriptors()? < calm + WAITING {
                ensure(Instant::now() < deadline, "they do not wait")?;
            }
            let left = waiting.into_iter().map(leave).collect::<Result<Vec<_>, _>>()?;
            for mut connection in left.into_iter().flatten() {
                let request = Request::plain("POST", &held.target);
                connection.read_answer(&request)?.is(503)?.carries("Retry-After")?;
            }
            victim.settles(calm + FRESH, victim.memory_bytes()? + KEPT_BYTES)?;
            held.end(victim)
        };
        rows.row(name, || victim.endures(name, attack));
    }
    let name = "HTTP/2";
    let attack = |victim: &Victim| {
        // As much as the windows of a stream and of its connection allow.
        const STREAM_BYTES: usize = 4 << 20;
        let held = HeldChunk::begin(victim, "waited", 2 * STREAM_BYTES)?;
        let memory = victim.memory_bytes()?;
        let chunk = Request::plain("POST", &held.target)
            .with("Content-Type", "application/octet-stream")
            .with("Content-Length", held.bytes);
        let begin = bytes(STREAM_BYTES, 1);
        let mut waiting = Vec::new();
        for _ in 0..8 {
            let mut session = Session::open(victim.address)?;
            let streams = (0..4).map(|_| session.start(&chunk, "localhost", false));
            let mut streams = streams.collect::<Result<Vec<_>, _>>()?;
            for stream in &mut streams {
                ensure_eq("bytes sent", session.fill(stream, &begin), STREAM_BYTES)?;
            }
            waiting.push((session, streams));
        }
        let sent = (waiting.len() * 4 * STREAM_BYTES) as u64;
        let deadline = Instant::now() + SLACK;
        while victim.memory_bytes()? < memory + sent / 2 {
            ensure(Instant::now() < deadline, "they do not wait")?;
        }
        drop(waiting);
        victim.settles(calm + FRESH, memory + KEPT_BYTES)?;
        held.end(victim)
    };
    rows.row(name, || victim.endures(name, attack));
    rows.verdict()
}

/// Sends the same frames again and again, with new stream numbers, until the time is up or the
/// server ends the connection; on a few connections at once.
fn flood(victim: &Victim, next: &(dyn Fn(u32) -> Vec<u8> + Sync)) -> Verdict {
    let deadline = Instant::now() + FLOOD;
    thread::scope(|scope| {
        let floods = (0..3).map(|_| {
            scope.spawn(|| {
                while Instant::now() < deadline {
                    let mut wire = Wire::open(victim.address, b"")?;
                    let mut stream = 1;
                    while Instant::now() < deadline {
                        let mut frames = Vec::new();
                        for _ in 0..50 {
                            frames.extend(next(stream));
                            stream += 2;
                        }
                        if !wire.send(&frames)? {
                            break;
                        }
                    }
                }
                Ok(())
            })
        });
        let floods: Vec<_> = floods.collect();
        let mut ends = floods.into_iter().map(|flood| flood.join());
        // The scope waits for those that are left.
        ends.try_for_each(|end| end.unwrap_or_else(|_| Err(Failure::new("panicked"))))
    })
}

/// Header blocks that floods are made of.
struct Blocks {
    head: Vec<u8>,
    post: Vec<u8>,
    patch: Vec<u8>,
    /// One field of 4 KB in the table, and 10,000 references to it.
    bomb: Vec<u8>,
    /// Long enough to go on with.
    fields: Vec<u8>,
}

impl Blocks {
    /// For requests on this upload.
    fn of(path: &str) -> Self {
        let tus = ("tus-resumable", "1.0.0");
        let kind = ("content-type", OFFSET_OCTETS);
        let mut bomb = [&block("GET", "/files", &[])[..], &[0x40]].concat();
        string(&mut bomb, "x-bomb");
        string(&mut bomb, &"b".repeat(4000));
        bomb.extend([0xbe; 10_000]);
        Self {
            head: block("HEAD", path, &[tus]),
            post: block("POST", "/files", &[tus, ("upload-length", "10")]),
            patch: block("PATCH", path, &[tus, kind, ("upload-offset", "0")]),
            bomb,
            fields: block("GET", "/", &[("x-filler", &"f".repeat(8000))]),
        }
    }
}

/// What a flood sends with each stream number.
type Wave = fn(&Blocks, u32) -> Vec<u8>;

#[test]
fn floods_of_frames_keep_nobody_out() -> Verdict {
    fn opened(block: &[u8], stream: u32) -> Vec<u8> {
        frame(Kind::Headers, END_HEADERS, stream, block)
    }
    fn reset(stream: u32) -> Vec<u8> {
        frame(Kind::Reset, 0, stream, &8_u32.to_be_bytes())
    }
    let victim = Victim::start(TIMEOUT)?;
    let mut rows = Rows::new();
    let floods: [(&str, Wave); 13] = [
        ("rapid reset, HEAD", |of, stream| [opened(&of.head, stream), reset(stream)].concat()),
        ("rapid reset, POST", |of, stream| [opened(&of.post, stream), reset(stream)].concat()),
        ("rapid reset, PATCH", |of, stream| {
            let data = frame(Kind::Data, 0, stream, b"");
            [opened(&of.patch, stream), data, reset(stream)].concat()
        }),
        ("resets made by the server", |of, stream| {
            let window = frame(Kind::WindowUpdate, 0, stream, &TOO_MUCH);
            [opened(&of.head, stream), window].concat()
        }),
        ("CONTINUATION", |of, stream| match stream {
            1 => frame(Kind::Headers, 0, 1, &of.fields),
            _ => frame(Kind::Continuation, 0, 1, &of.fields[40..]),
        }),
        ("empty CONTINUATION", |of, stream| match stream {
            1 => frame(Kind::Headers, 0, 1, &of.fields),
            _ => frame(Kind::Continuation, 0, 1, b""),
        }),
        ("SETTINGS", |_, _| frame(Kind::Settings, 0, 0, &[0, 4, 0, 0, 0, 1])),
        ("PING", |_, _| frame(Kind::Ping, 0, 0, b"12345678")),
        ("PRIORITY", |_, stream| frame(Kind::Priority, 0, stream, &[0, 0, 0, 0, 1])),
        ("empty DATA", |of, stream| match stream {
            1 => opened(&of.patch, 1),
            _ => frame(Kind::Data, 0, 1, b""),
        }),
        ("window of the connection", |_, _| frame(Kind::WindowUpdate, 0, 0, &[0, 0, 0, 1])),
        ("header list bomb", |of, stream| {
            frame(Kind::Headers, END_HEADERS | END_STREAM, stream, &of.bomb)
        }),
        ("more streams than allowed", |of, stream| opened(&of.patch, stream)),
    ];
    for (name, next) in floods {
        rows.row(name, || {
            victim.endures(name, |victim| {
                let blocks = Blocks::of(&victim.create(1 << 20)?);
                flood(victim, &|stream| next(&blocks, stream))
            })
        });
    }
    rows.verdict()
}

/// CVE-2025-8671: the client makes the server reset its streams, so that none of them counts as
/// open.
#[test]
fn streams_that_must_be_reset_end_their_connection() -> Verdict {
    // No silence ends the connection.
    let victim = Victim::start(TIMEOUT * 60)?;
    let blocks = Blocks::of(&victim.create(1)?);
    let mut wire = Wire::open(victim.address, b"")?;
    for stream in (1..4_000).step_by(2) {
        let opened = frame(Kind::Headers, END_HEADERS, stream, &blocks.head);
        let fault = frame(Kind::WindowUpdate, 0, stream, &TOO_MUCH);
        wire.send(&[opened, fault].concat())?;
    }
    let deadline = Instant::now() + SLACK;
    while wire.send(&frame(Kind::Ping, 0, 0, b"12345678"))? {
        ensure(Instant::now() < deadline, "the connection is kept")?;
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn requests_cancelled_anywhere_leave_nothing() -> Verdict {
    let victim = Victim::start(TIMEOUT)?;
    let mut rows = Rows::new();
    let form = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\
                0123456789\r\n--b--\r\n";
    let requests = [
        ("creation", Request::tus("POST", "/files").with("Upload-Length", 30).octets().body([7; 20])),
        ("PATCH", Request::patch("", 0).body([7; 20])),
        ("chunked PATCH", Request::patch("", 0).chunked(&[b"0123456789", b"0123456789"])),
        ("verified PATCH", Request::patch("", 0).with("Upload-Checksum", "md5 AAAAAAAAAAAAAAAAAAAAAA==").body([7; 20])),
        ("form", Request::plain("POST", "/resumable?resumableChunkNumber=1&resumableChunkSize=10&resumableTotalSize=30&resumableIdentifier=a&resumableFilename=a").with("Content-Type", "multipart/form-data; boundary=b").body(form)),
    ];
    for (name, request) in requests {
        let cut = |victim: &Victim| {
            let mut request = request.clone();
            if request.target.is_empty() {
                request.target = victim.create(40)?;
            }
            let wire = [head(&request, "localhost"), body(&request.body)].concat();
            for (at, end) in (0..=wire.len()).zip([0, 1, 2].iter().cycle()) {
                let mut connection = victim.connect()?;
                connection.send(&wire[..at])?;
                match end {
                    0 => connection.half_close()?,
                    1 => drop(connection),
                    _ => connection.reset()?,
                }
            }
            if name == "form" {
                // The chunk is free. No tus client knows of this upload: it is removed here.
                victim.ask(&request)?.is(200)?;
                let status = request.target.replace("/resumable?", "/resumable/status?");
                victim.ask(&Request::plain("DELETE", &status))?.is_one_of(&[200, 204])?;
            }
            Ok(())
        };
        rows.row(name, || victim.endures(name, cut));
    }
    rows.row("HTTP/2", || {
        victim.endures("HTTP/2 streams reset at every frame", |victim| {
            let path = victim.create(1000)?;
            let tus = ("tus-resumable", "1.0.0");
            let kind = ("content-type", OFFSET_OCTETS);
            let patch = block("PATCH", &path, &[tus, kind, ("upload-offset", "0")]);
            for at in 0..60 {
                let mut wire = Wire::open(victim.address, b"")?;
                for stream in (1..20).step_by(2) {
                    wire.send(&frame(Kind::Headers, END_HEADERS, stream, &patch))?;
                    for _ in 0..at % 6 {
                        wire.send(&frame(Kind::Data, 0, stream, b"x"))?;
                    }
                    wire.send(&frame(Kind::Reset, 0, stream, &8_u32.to_be_bytes()))?;
                }
            }
            Ok(())
        })
    });
    rows.verdict()
}

#[test]
fn what_is_too_large_is_refused_in_words() -> Verdict {
    let victim = Victim::start(TIMEOUT)?;
    let mut rows = Rows::new();
    let long = |bytes| "a".repeat(bytes);
    let partial = victim.ask(&creation(0).with("Upload-Concat", "partial"))?;
    let partial = path_of(partial.is(201)?.field("Location").unwrap_or_default()).to_owned();
    let list = |count| format!("final;{}", vec![partial.as_str(); count].join(" "));
    let many =
        |count| (0..count).fold(creation(1), |request, at| request.with(&format!("X-{at}"), "a"));
    let pairs = |count| {
        let pairs = (0..count).map(|at| format!("k{at} YQ=="));
        pairs.collect::<Vec<_>>().join(",")
    };
    let joined = |value| Request::tus("POST", "/files").with("Upload-Concat", value).body(b"");
    let table: [(&str, Request, &[u16]); 12] = [
        (
            "metadata within",
            creation(1).with("Upload-Metadata", format!("a {}", long(16_000))),
            &[201],
        ),
        (
            "metadata of 20 KB",
            creation(1).with("Upload-Metadata", format!("a {}", long(20_000))),
            &[431],
        ),
        (
            "metadata of 300 KB",
            creation(1).with("Upload-Metadata", format!("a {}", long(300_000))),
            &[431],
        ),
        ("10,000 keys", creation(1).with("Upload-Metadata", pairs(10_000)), &[431]),
        ("a field of 1 MB", creation(1).with("X", long(1_000_000)), &[431]),
        ("a name of 70 KB", creation(1).with(&long(70_000), "a"), &[400, 431]),
        ("90 fields", many(90), &[201]),
        ("200 fields", many(200), &[431]),
        ("a target of 70 KB", Request::plain("GET", &format!("/{}", long(70_000))), &[414]),
        ("500 parts", joined(list(500)), &[201, 400]),
        ("5,000 parts", joined(list(5_000)), &[201, 400, 413, 431]),
        ("20,000 parts", joined(list(20_000)), &[400, 413, 431]),
    ];
    victim.endures("large fields", |victim| {
        for (name, request, statuses) in &table {
            rows.row(name, || {
                victim.ask(request)?.is_one_of(statuses)?;
                Ok(())
            });
        }
        for (bytes, is_taken) in [(200_000, true), (300_000, false)] {
            rows.row(format!("an HTTP/2 header list of {bytes} bytes"), || {
                let request = creation(1).with("X", long(bytes));
                let answer = Session::open(victim.address)?.ask(&request, "localhost");
                // The other way of saying no is to end the connection.
                let status = answer.map_or(431, |answer| answer.status);
                ensure_eq("the status", status, if is_taken { 201 } else { 431 })
            });
        }
        Ok(())
    })?;
    rows.verdict()
}

/// What one query that says nothing may cost, on a busy machine and without optimisation.
const QUERY_CPU: Duration = Duration::from_millis(150);

#[test]
fn queries_without_meaning_cost_little() -> Verdict {
    const TIMES: u32 = 20;
    let victim = Victim::start(TIMEOUT)?;
    let mut rows = Rows::new();
    for pair in
        ["&", "=&", "a&", "%61&", "checksum&", "chunkNumber=1&", "resumableChunkNumbex=%41&"]
    {
        let query = pair.repeat(60_000 / pair.len());
        victim.endures(pair, |victim| {
            for path in ["/resumable", "/resumable/status", "/files/unknown"] {
                rows.row(format!("{pair} {path}"), || {
                    let request = Request::plain("GET", &format!("{path}?{query}"));
                    let before = victim.cpu_time()?;
                    for _ in 0..TIMES {
                        victim.ask(&request)?.is_one_of(&[400, 404])?;
                    }
                    let each = (victim.cpu_time()? - before) / TIMES;
                    ensure(each < QUERY_CPU, format!("{each:?} of CPU time each"))
                });
            }
            Ok(())
        })?;
    }
    rows.verdict()
}

/// Numbers at every boundary, and what is nearly a number.
const NUMBERS: &[&str] = &[
    "0",
    "00",
    "000000000000000000000000000000",
    "1",
    "01",
    "9",
    "10",
    "11",
    "4294967295",
    "4294967296",
    "9007199254740991",
    "9007199254740992",
    "9007199254740993",
    "9223372036854775806",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551614",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999999999999",
    "-0",
    "+0",
    "-1",
    "+1",
    "1.0",
    "1e1",
    "0x1",
    "1_0",
    "",
    "1 1",
    "1,1",
    "1;",
    "NaN",
    "\u{661}",
];

/// The value in the grammar of T-002, as far as one can be held.
fn value(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = text.parse().ok().filter(|value| i64::try_from(*value).is_ok());
    if digits { value } else { None }
}

#[test]
fn numbers_at_every_boundary_are_read_or_refused() -> Verdict {
    let victim = Victim::start(TIMEOUT)?;
    let mut rows = Rows::new();
    victim.endures("numbers", |victim| {
        let whole = victim.create(10)?;
        let full = Request::patch(&whole, 0).body(b"0123456789");
        victim.ask(&full)?.is(204)?;
        let open = victim.create(10)?;
        for text in NUMBERS {
            let value = value(text);
            rows.row(format!("Upload-Length: {text}"), || {
                let created = victim.ask(&creation(text))?;
                let Some(length) = value else {
                    created.is_one_of(&[400, 413])?;
                    return Ok(());
                };
                let created = created.is(201)?;
                let path = path_of(created.field("Location").unwrap_or_default()).to_owned();
                let head = victim.ask(&Request::tus("HEAD", &path))?;
                head.has("Upload-Length", length)?;
                victim.ask(&Request::tus("DELETE", &path))?.is(204)?;
                Ok(())
            });
            rows.row(format!("Upload-Offset: {text}"), || {
                let patch = Request::patch(&open, 0).set("Upload-Offset", text);
                let expected = match value {
                    Some(0) => 204,
                    Some(_) => 409,
                    None => 400,
                };
                victim.ask(&patch.body(b""))?.is(expected)?;
                Ok(())
            });
            rows.row(format!("Content-Length: {text}"), || {
                let patch = Request::patch(&open, 0).with("Content-Length", text);
                let mut connection = victim.connect()?;
                connection.send(&head(&patch, "localhost"))?;
                connection.half_close()?;
                let Ok(answer) = connection.read_head() else {
                    // No answer to a body that ends too early.
                    return ensure(value.is_some_and(|length| length > 0), "no answer");
                };
                let expected: &[u16] = match value {
                    Some(0) => &[204],
                    Some(1..=10) => &[400],
                    // 2^64 - 1 and - 2 are hyper's own signs, and refused as a head that is too
                    // large.
                    _ => &[400, 413, 431],
                };
                answer.is_one_of(expected)?;
                Ok(())
            });
            for range in [
                format!("{text}-"),
                format!("-{text}"),
                format!("0-{text}"),
                format!("{text}-{text}"),
            ] {
                rows.row(format!("Range: bytes={range}"), || {
                    let get = Request::plain("GET", &whole).with("Range", format!("bytes={range}"));
                    let answer = victim.ask(&get)?.is_one_of(&[200, 206, 416])?;
                    let part = String::from_utf8_lossy(&answer.body).into_owned();
                    let right =
                        answer.status == 416 || "0123456789".contains(&part) && !part.is_empty();
                    ensure(right, format!("{} {part:?}", answer.status))
                });
            }
        }
        ensure_eq(
            "the offset",
            victim.ask(&Request::tus("HEAD", &open))?.number("Upload-Offset"),
            Some(0),
        )
    })?;
    rows.verdict()
}
