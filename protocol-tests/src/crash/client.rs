//! One client at work: it creates, grows, joins, reads and removes uploads of its own, and notes in
//! the ledger what it asks for before it asks, and what it was told when it was.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;

use super::dice::Dice;
use super::ledger::{Attempt, Entry, Fate, Kind, Ledger, Length, NUMBERS};
use crate::content::{bytes, checksum};
use crate::failure::{Failure, ensure, ensure_eq};
use crate::http1::{Connection, body, head};
use crate::message::{Request, Response};
use crate::site::path_of;

/// The collections of the server as it is started here.
pub const TUS: &str = "/files";
/// The collection of ResumableJS uploads.
pub const CHUNKS: &str = "/resumable";

/// Uploads that a client keeps before it removes one for each new one.
const MAX_UPLOADS: usize = 10;

/// Counts the steps of all clients and calls for the crash at one of them.
pub struct Pulse<'a> {
    left: AtomicI64,
    crash: Box<dyn Fn() + Sync + 'a>,
    /// No client begins anything new.
    over: AtomicBool,
    /// Answers so far.
    pub answers: AtomicU64,
}

impl std::fmt::Debug for Pulse<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pulse").finish_non_exhaustive()
    }
}

impl<'a> Pulse<'a> {
    /// Calls `crash` at the step of this number, counted from 1.
    pub fn new(steps: u64, crash: impl Fn() + Sync + 'a) -> Self {
        Self {
            left: AtomicI64::new(steps.cast_signed()),
            crash: Box::new(crash),
            over: AtomicBool::new(false),
            answers: AtomicU64::new(0),
        }
    }

    /// One step: a piece of a request sent, or an answer read.
    fn beat(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.over.store(true, Ordering::SeqCst);
            (self.crash)();
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// Why a step ended early.
#[derive(Debug)]
enum Trouble {
    /// The connection ended.
    Cut(Failure),
    /// The server is wrong.
    Wrong(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Wrong(failure)
    }
}

type Outcome<T> = Result<T, Trouble>;

/// A client.
#[derive(Debug)]
pub struct Client<'a> {
    address: SocketAddr,
    dice: Dice,
    index: usize,
    ledger: &'a Ledger,
    max_bytes: u64,
    /// Which number its next upload gets.
    next: &'a AtomicU64,
    pulse: &'a Pulse<'a>,
}

/// A request on its way, piece by piece.
struct Sending {
    connection: Connection,
    request: Request,
    raw: Vec<u8>,
    sent: usize,
    /// Where to stop for good.
    stop: usize,
    piece: usize,
}

impl<'a> Client<'a> {
    /// Has one client for each page of the ledger work until the crash.
    ///
    /// # Errors
    /// The first wrong answer.
    pub fn crowd(
        address: SocketAddr,
        dice: &mut Dice,
        (ledger, next): (&Ledger, &AtomicU64),
        max_bytes: u64,
        pulse: &Pulse<'_>,
    ) -> Result<(), Failure> {
        let verdicts: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
            let work = |index| {
                let client =
                    Client { address, dice: dice.split(), index, ledger, max_bytes, next, pulse };
                scope.spawn(move || client.run())
            };
            let workers: Vec<_> = (0..ledger.clients()).map(work).collect();
            let verdicts = workers.into_iter().map(ScopedJoinHandle::join);
            let panicked = |_| Err(Failure::new("a client panicked"));
            verdicts.map(|verdict| verdict.unwrap_or_else(panicked)).collect()
        });
        verdicts.into_iter().collect()
    }

    /// Works until the crash.
    fn run(mut self) -> Result<(), Failure> {
        while !self.pulse.is_over() {
            match self.step() {
                Ok(()) => {}
                Err(Trouble::Cut(_)) if self.pulse.is_over() => return Ok(()),
                Err(Trouble::Cut(failure) | Trouble::Wrong(failure)) => return Err(failure),
            }
        }
        Ok(())
    }

    fn page(&self) -> MutexGuard<'a, Vec<Entry>> {
        self.ledger.page(self.index)
    }

    /// Notes something about an upload.
    fn note<T>(&self, number: u64, note: impl FnOnce(&mut Entry) -> T) -> T {
        let mut page = self.page();
        let entry = page.iter_mut().find(|entry| entry.number == number);
        note(entry.expect("entries are removed between the crashes only"))
    }

    fn step(&mut self) -> Outcome<()> {
        let living: Vec<Entry> = {
            let page = self.page();
            let living = page.iter().filter(|entry| entry.fate == Fate::Living);
            living.cloned().collect()
        };
        let (complete, open): (Vec<&Entry>, Vec<&Entry>) =
            living.iter().partition(|entry| entry.is_complete());
        if living.len() > MAX_UPLOADS {
            let surplus = if complete.is_empty() { &open } else { &complete };
            let surplus = (*self.dice.pick(surplus)).clone();
            return self.delete(&surplus);
        }
        match self.dice.roll(16) {
            0..=8 if !open.is_empty() => {
                let entry = (*self.dice.pick(&open)).clone();
                match entry.kind {
                    Kind::Chunks(_) => self.store(&entry),
                    Kind::Whole | Kind::Partial | Kind::Final => self.append(&entry),
                }
            }
            9..=10 => {
                let parts = complete.iter().filter(|entry| entry.kind == Kind::Partial);
                let parts: Vec<Entry> = parts.map(|entry| (*entry).clone()).collect();
                if parts.is_empty() {
                    return self.create();
                }
                let count = 1 + self.dice.roll(3);
                let chosen: Vec<Entry> =
                    (0..count).map(|_| self.dice.pick(&parts).clone()).collect();
                self.join(&chosen)
            }
            11 if !living.is_empty() => {
                let entry = self.dice.pick(&living).clone();
                self.delete(&entry)
            }
            12 if !open.is_empty() => {
                let entry = (*self.dice.pick(&open)).clone();
                self.look(&entry)
            }
            13 if !complete.is_empty() => {
                let entry = (*self.dice.pick(&complete)).clone();
                self.fetch(&entry)
            }
            _ => self.create(),
        }
    }

    fn size(&mut self) -> u64 {
        let limit = *self.dice.pick(&[1, 50, 5_000, self.max_bytes, self.max_bytes]);
        match self.dice.roll(12) {
            0 => 0,
            _ => 1 + self.dice.roll(limit),
        }
    }

    /// A new entry, noted before its first request is sent.
    fn enter(&mut self, content: Vec<u8>, kind: Kind, length: Length, number: u64) -> Entry {
        let entry = Entry::new(number, content, kind, length);
        self.page().push(entry.clone());
        entry
    }

    fn number(&self) -> u64 {
        self.index as u64 * NUMBERS + self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn create(&mut self) -> Outcome<()> {
        let (size, number) = (self.size(), self.number());
        let content = bytes(size as usize, number);
        let kind = match self.dice.roll(10) {
            0..=3 => Kind::Whole,
            4..=6 => Kind::Partial,
            _ => Kind::Chunks((size / (1 + self.dice.roll(6))).max(1)),
        };
        if let Kind::Chunks(_) = kind {
            let entry = self.enter(content, kind, Length::Known, number);
            return self.store(&entry);
        }
        let length = if self.dice.one_in(4) { Length::Deferred } else { Length::Known };
        let entry = self.enter(content, kind, length, number);
        let request = Request::tus("POST", TUS).with("Upload-Metadata", entry.metadata());
        let request = match length {
            Length::Known => request.with("Upload-Length", size),
            Length::Deferred | Length::Declaring => request.with("Upload-Defer-Length", 1),
        };
        let request = match kind {
            Kind::Partial => request.with("Upload-Concat", "partial"),
            Kind::Whole | Kind::Final | Kind::Chunks(_) => request,
        };
        let with_upload = size > 0 && self.dice.one_in(3);
        let range = 0..if with_upload { 1 + self.dice.roll(size) } else { 0 };
        let request = if with_upload { request.octets() } else { request };
        let (request, _) = self.fill(request, &entry, &range, false);
        let answer = self.attempt(&entry, &request, &range, true)?;
        let Some(answer) = answer else {
            return Ok(());
        };
        let answer = answer.is(201)?.has("Upload-Offset", range.end)?;
        self.born(number, answer.field("Location"))?;
        self.note(number, |entry| {
            entry.told = range.end;
            entry.settle();
        });
        Ok(())
    }

    /// Notes where an upload is.
    fn born(&self, number: u64, location: Option<&str>) -> Result<(), Failure> {
        let path = path_of(location.unwrap_or_default()).to_owned();
        ensure(path.starts_with(TUS), format!("no upload is at {path:?}"))?;
        self.note(number, |entry| {
            (entry.path, entry.fate) = (Some(path), Fate::Living);
        });
        Ok(())
    }

    /// Gives a request the bytes of a range as its body, framed and checksummed at random. Says
    /// whether the checksum is a wrong one.
    fn fill(
        &mut self,
        request: Request,
        entry: &Entry,
        range: &Range<u64>,
        may_be_wrong: bool,
    ) -> (Request, bool) {
        let bytes = entry.bytes(range);
        let algorithm = *self.dice.pick(&crate::content::ALGORITHMS);
        let choice = self.dice.roll(8);
        let request = match choice {
            2 | 4 => request.chunked(&bytes.chunks(10_000).collect::<Vec<_>>()),
            _ => request.body(bytes),
        };
        match choice {
            0 => (request.with("Upload-Checksum", checksum(algorithm, bytes)), false),
            1 if may_be_wrong => {
                (request.with("Upload-Checksum", checksum(algorithm, b"other bytes")), true)
            }
            2 => (
                request
                    .with("Trailer", "Upload-Checksum")
                    .trailer("Upload-Checksum", checksum(algorithm, bytes)),
                false,
            ),
            _ => (request, false),
        }
    }

    /// Sends a request that brings the bytes of a range; `None` when it was cut off on purpose.
    fn attempt(
        &mut self,
        entry: &Entry,
        request: &Request,
        range: &Range<u64>,
        is_right: bool,
    ) -> Outcome<Option<Response>> {
        let whole_or_nothing =
            request.field("Upload-Checksum").is_some() || request.field("Trailer").is_some();
        self.begin(entry.number, range, whole_or_nothing);
        let mut sending = self.open(request)?;
        if range.end > range.start && self.dice.one_in(10) {
            sending.stop -= 1 + self.dice.roll(range.end - range.start) as usize;
        }
        let looks = !whole_or_nothing && entry.path.is_some() && self.dice.one_in(8);
        while self.advance(&mut sending, entry.number, is_right.then_some(range))? {
            if looks && sending.sent < sending.stop {
                // What this shows is a promise, even though the request is still running.
                self.note(entry.number, |entry| entry.unsure = true);
                self.look(entry)?;
            }
        }
        if sending.stop < sending.raw.len() {
            self.note(entry.number, |entry| entry.unsure = true);
            return Ok(None);
        }
        self.answer(&mut sending).map(Some)
    }

    fn begin(&self, number: u64, range: &Range<u64>, whole_or_nothing: bool) {
        self.note(number, |entry| {
            entry.attempts.push(Attempt {
                range: range.clone(),
                whole_or_nothing,
                may_count: false,
            });
        });
    }

    fn open(&mut self, request: &Request) -> Outcome<Sending> {
        let mut raw = head(request, "localhost");
        raw.extend(body(&request.body));
        let connection = Connection::open(self.address).map_err(Trouble::Cut)?;
        Ok(Sending {
            connection,
            request: request.clone(),
            sent: 0,
            stop: raw.len(),
            piece: raw.len() / (1 + self.dice.roll(4) as usize) + 1,
            raw,
        })
    }

    /// Sends the next piece. Says whether there are more.
    fn advance(
        &self,
        sending: &mut Sending,
        number: u64,
        range: Option<&Range<u64>>,
    ) -> Outcome<bool> {
        let end = (sending.sent + sending.piece).min(sending.stop);
        if let (true, Some(range)) = (end == sending.raw.len(), range) {
            self.note(number, |entry| {
                let attempts = entry.attempts.iter_mut();
                let same = attempts.filter(|attempt| attempt.range == *range);
                same.for_each(|attempt| attempt.may_count = true);
            });
        }
        let sent = sending.connection.send(&sending.raw[sending.sent..end]);
        if let Err(failure) = sent {
            // The answer to a refused body overtakes the body.
            if self.pulse.is_over() {
                return Err(Trouble::Cut(failure));
            }
        }
        sending.sent = end;
        self.pulse.beat();
        Ok(end < sending.stop)
    }

    fn answer(&self, sending: &mut Sending) -> Outcome<Response> {
        let answer = sending.connection.read_answer(&sending.request);
        let answer = answer.map_err(Trouble::Cut)?;
        self.pulse.answers.fetch_add(1, Ordering::Relaxed);
        self.pulse.beat();
        Ok(answer)
    }

    fn ask(&mut self, request: &Request) -> Outcome<Response> {
        let mut sending = self.open(request)?;
        while self.advance(&mut sending, 0, None)? {}
        self.answer(&mut sending)
    }

    /// HEAD: what it shows is a promise from now on.
    fn look(&mut self, entry: &Entry) -> Outcome<()> {
        let path = entry.path.as_deref().unwrap_or_default();
        let answer = self.ask(&Request::tus("HEAD", path))?;
        let answer = answer.is_one_of(&[200, 204])?;
        let offset = answer.number("Upload-Offset").unwrap_or(u64::MAX);
        // A name stands for a complete upload for a while only (S-010).
        if !entry.stored.is_empty() && !entry.is_complete() {
            let chunk = *self.dice.pick(&entry.stored);
            let target = format!("{CHUNKS}?{}", chunk_query(entry, chunk));
            let about = |f: Failure| f.within(format!("{:?}", About(entry)));
            let answer = self.ask(&Request::plain("GET", &target))?;
            answer.is(200).map_err(about)?;
        }
        self.note(entry.number, |entry| {
            let right = match entry.kind {
                Kind::Chunks(_) => offset <= entry.size(),
                Kind::Whole | Kind::Partial | Kind::Final if entry.unsure => {
                    entry.allows(entry, offset)
                }
                Kind::Whole | Kind::Partial | Kind::Final => offset == entry.told,
            };
            let about = format!("HEAD shows {offset} for {entry:?}", entry = About(entry));
            ensure(right, about)?;
            if !matches!(entry.kind, Kind::Chunks(_)) {
                entry.told = offset;
            }
            Ok(())
        })
    }

    /// The next bytes of a tus upload.
    fn append(&mut self, entry: &Entry) -> Outcome<()> {
        if entry.unsure {
            self.look(entry)?;
        }
        let entry = &self.note(entry.number, |entry| entry.clone());
        let number = entry.number;
        let left = entry.size() - entry.told;
        let count = match self.dice.roll(3) {
            _ if left == 0 => 0,
            0 => left,
            _ => 1 + self.dice.roll(left),
        };
        let range = entry.told..entry.told + count;
        let request = Request::patch(entry.path.as_deref().unwrap_or_default(), range.start);
        let declares = entry.length != Length::Known && (count == left || self.dice.one_in(4));
        let request = if declares {
            self.note(number, |entry| entry.length = Length::Declaring);
            request.with("Upload-Length", entry.size())
        } else {
            request
        };
        let (request, wrong) = self.fill(request, entry, &range, count > 0);
        let Some(answer) = self.attempt(entry, &request, &range, !wrong)? else {
            return Ok(());
        };
        let status = answer.status;
        if entry.unsure && [409, 423].contains(&status) {
            return Ok(());
        }
        let answer = answer.is(if wrong { 460 } else { 204 })?;
        if !wrong {
            answer.has("Upload-Offset", range.end)?;
        }
        if wrong {
            // A request from before may still be waiting for its turn, and find its offset
            // unchanged.
            return Ok(());
        }
        self.note(number, |entry| {
            entry.settle();
            entry.unsure = false;
            entry.told = range.end;
            if declares {
                entry.length = Length::Known;
            }
        });
        Ok(())
    }

    /// One chunk, or two side by side, of a ResumableJS upload.
    fn store(&mut self, entry: &Entry) -> Outcome<()> {
        let number = entry.number;
        let mut missing: Vec<u64> =
            (1..=entry.chunks()).filter(|chunk| !entry.stored.contains(chunk)).collect();
        let mut under_way = Vec::new();
        // A session begins with byte 0 (J-043): until something is stored, the first chunk is
        // alone.
        let begins = entry.stored.is_empty();
        let count = if begins { 1 } else { 1 + self.dice.roll(2) };
        for _ in 0..count.min(missing.len() as u64) {
            let at = if begins { 0 } else { self.dice.roll(missing.len() as u64) as usize };
            let chunk = missing.swap_remove(at);
            let range = entry.chunk(chunk);
            let wrong = self.dice.one_in(10) && !range.is_empty();
            let request = self.chunk_request(entry, chunk, wrong);
            self.begin(number, &range, true);
            let mut sending = self.open(&request)?;
            if !range.is_empty() && self.dice.one_in(10) {
                sending.stop -= 1 + self.dice.roll(range.end - range.start) as usize;
            }
            under_way.push((chunk, range, wrong, sending));
        }
        let mut more = true;
        while more {
            more = false;
            for (_, range, wrong, sending) in &mut under_way {
                if sending.sent < sending.stop {
                    more |= self.advance(sending, number, (!*wrong).then_some(&*range))?;
                }
            }
        }
        for (chunk, range, wrong, mut sending) in under_way {
            if sending.stop < sending.raw.len() {
                continue;
            }
            let answer = self.answer(&mut sending)?;
            let answer = answer.is(if wrong { 503 } else { 200 })?;
            if wrong {
                continue;
            }
            let text = String::from_utf8_lossy(&answer.body);
            let url = text.split("\"url\":\"").nth(1);
            let url = url.and_then(|rest| rest.split('"').next());
            // A copy of a chunk whose answer was lost leads nowhere.
            if url.is_some() {
                self.born(number, url)?;
            }
            self.note(number, |entry| {
                entry.stored.push(chunk);
                let (done, open) = std::mem::take(&mut entry.attempts)
                    .into_iter()
                    .partition(|attempt| attempt.range == range);
                entry.attempts = open;
                entry.settled.extend::<Vec<_>>(done);
            });
        }
        Ok(())
    }

    fn chunk_request(&mut self, entry: &Entry, chunk: u64, wrong: bool) -> Request {
        let range = entry.chunk(chunk);
        let bytes = entry.bytes(&range);
        let target = format!("{CHUNKS}?{}", chunk_query(entry, chunk));
        let method = *self.dice.pick(&["POST", "PUT"]);
        let request = Request::plain(method, &target);
        let request = if wrong {
            request.with("Checksum", checksum("sha256", b"other bytes"))
        } else if self.dice.one_in(4) {
            request.with("Checksum", checksum("sha1", bytes))
        } else {
            request
        };
        if self.dice.one_in(2) {
            return request.with("Content-Type", "application/octet-stream").body(bytes);
        }
        let mut form = b"--limit\r\nContent-Disposition: form-data; name=\"file\"; \
            filename=\"blob\"\r\nContent-Type: application/octet-stream\r\n\r\n"
            .to_vec();
        form.extend(bytes);
        form.extend(b"\r\n--limit--\r\n");
        request.with("Content-Type", "multipart/form-data; boundary=limit").body(form)
    }

    /// A final upload of these parts.
    fn join(&mut self, parts: &[Entry]) -> Outcome<()> {
        let paths = parts.iter().filter_map(|part| part.path.as_deref());
        let concat = format!("final;{}", paths.collect::<Vec<_>>().join(" "));
        let content: Vec<u8> = parts.iter().flat_map(|part| part.content.to_vec()).collect();
        let number = self.number();
        let entry = self.enter(content, Kind::Final, Length::Known, number);
        let range = 0..entry.size();
        self.note(number, |entry| {
            entry.attempts.push(Attempt {
                range: range.clone(),
                whole_or_nothing: true,
                may_count: true,
            });
        });
        let request = Request::tus("POST", TUS)
            .with("Upload-Concat", concat)
            .with("Upload-Metadata", entry.metadata())
            .body(b"");
        let answer = self.ask(&request)?.is(201)?;
        let answer = answer.has("Upload-Offset", range.end)?;
        self.born(number, answer.field("Location"))?;
        self.note(number, |entry| {
            entry.told = range.end;
            entry.settle();
        });
        Ok(())
    }

    fn delete(&mut self, entry: &Entry) -> Outcome<()> {
        let number = entry.number;
        self.note(number, |entry| entry.fate = Fate::Leaving);
        let path = entry.path.as_deref().unwrap_or_default();
        let request = match entry.kind {
            Kind::Chunks(_) if !entry.is_complete() && self.dice.one_in(2) => {
                let target = format!("{CHUNKS}/status?{}", chunk_query(entry, 1));
                Request::plain("DELETE", &target)
            }
            Kind::Chunks(_) | Kind::Whole | Kind::Partial | Kind::Final => {
                Request::tus("DELETE", path)
            }
        };
        let answer = self.ask(&request)?;
        if answer.status == 423 && entry.unsure {
            self.note(number, |entry| entry.fate = Fate::Living);
            return Ok(());
        }
        answer.is(204)?;
        self.note(number, |entry| {
            entry.fate = Fate::Gone;
            entry.settle();
        });
        Ok(())
    }

    fn fetch(&mut self, entry: &Entry) -> Outcome<()> {
        let path = entry.path.as_deref().unwrap_or_default();
        let answer = self.ask(&Request::plain("GET", path))?;
        if entry.kind == Kind::Partial {
            answer.is(404)?;
        } else {
            answer.is(200)?.has_body(&entry.content)?;
        }
        Ok(())
    }
}

/// The parameters of a chunk.
pub fn chunk_query(entry: &Entry, chunk: u64) -> String {
    let range = entry.chunk(chunk);
    format!(
        "resumableChunkNumber={chunk}&resumableChunkSize={}&resumableCurrentChunkSize={}\
         &resumableTotalSize={}&resumableTotalChunks={}&resumableIdentifier={name}\
         &resumableFilename={name}&resumableRelativePath={name}",
        entry.chunk_size(),
        range.end - range.start,
        entry.size(),
        entry.chunks(),
        name = entry.name(),
    )
}

/// An entry in messages: all but its content.
#[derive(Clone, Copy)]
pub struct About<'a>(pub &'a Entry);

impl std::fmt::Debug for About<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(entry) = self;
        write!(
            f,
            "{} ({:?}, {:?}, length {:?} of {}, at {:?}), told {}, chunks {:?}, attempts {:?}",
            entry.name(),
            entry.kind,
            entry.fate,
            entry.size(),
            match entry.length {
                Length::Deferred => "deferred",
                Length::Declaring => "being declared",
                Length::Known => "known",
            },
            entry.path,
            entry.told,
            entry.stored,
            entry.attempts
        )
    }
}

/// Expects two numbers to be equal, for an entry.
pub fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    entry: &Entry,
    found: T,
    expected: T,
) -> Result<(), Failure> {
    ensure_eq(what, found, expected).map_err(|f| f.within(format!("{:?}", About(entry))))
}
