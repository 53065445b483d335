//! Random histories of one upload, held against a plain model: chunks of any cut and form, copies
//! equal and different, cuts in mid-chunk, tus requests, and restarts of the server.
//!
//! A fixed handful of seeds runs with the other tests. `RESUMABLE_SEEDS=1000` runs that many more;
//! `RESUMABLE_SEED=7` runs one again. Of a history that fails, the shortest beginning that still
//! fails is searched by leaving steps out, and printed.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::{Duration, Instant};

use protocol_tests::case::Setup;
use protocol_tests::contract::Contract;
use protocol_tests::failure::{Failure, Verdict, ensure, ensure_eq};
use protocol_tests::http1::body;
use protocol_tests::message::Request;
use protocol_tests::resumable::client::{File, Form, Profile, Said, Tail, refused, said, tus_of};
use protocol_tests::server::{self, Windlass};
use protocol_tests::site::{Base, Own, Site};

/// The seeds of every run.
const SEEDS: Range<u64> = 1..9;

/// How many steps a history has.
const STEPS: usize = 60;

/// For less than a minute a name stands for a complete file (S-010).
const NAME_IS_KEPT: Duration = Duration::from_secs(40);

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A chunk is uploaded.
    Chunk(Piece),
    /// A chunk with a flipped byte at this place.
    Different(Piece, usize),
    /// A chunk of which so many thousandths of the body are sent.
    Cut(Piece, usize),
    /// A test.
    Test(Piece),
    /// The status resource.
    Status,
    /// HEAD of tus.
    Head,
    /// PATCH of tus at the prefix or before it, so many bytes.
    Patch(usize),
    /// The same with a flipped byte at this place.
    PatchDifferent(usize, usize),
    /// PATCH somewhere else.
    PatchElsewhere(u64),
    /// A PATCH that announces the first number of bytes and sends the second.
    PatchCut(usize, usize),
    /// GET of tus.
    Get,
    /// DELETE, by tus or on the status resource.
    Delete(bool),
    /// The server ends, by SIGKILL or SIGTERM, and starts again.
    Restart(bool),
}

/// A chunk of the file as one of the clients cuts it.
#[derive(Clone, Copy, Debug)]
struct Piece {
    size: u64,
    tail: Tail,
    form: Form,
    profile: Profile,
    /// Which chunk, modulo their number.
    number: u64,
}

/// What the upload must be.
#[derive(Debug, Default)]
struct Model {
    /// Which bytes are there; all of one file, so that no others need be kept.
    held: Vec<bool>,
    state: State,
    url: Option<String>,
    /// Since when it is complete.
    complete: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing has this name, or not any more: only byte 0 begins a session (J-043).
    #[default]
    Unknown,
    Open,
    Complete,
}

/// xorshift: the same history for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }

    fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap_or(0)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The history of a seed, and the length of its file.
fn history(seed: u64) -> (usize, Vec<Step>) {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for _ in 0..8 {
        random.below(1);
    }
    let length = match random.below(8) {
        0 => random.index(4),
        1..=5 => 20 + random.index(300),
        _ => 20_000 + random.index(60_000),
    };
    let most = length.max(1) as u64;
    // Few sizes in one history: clients keep theirs, and chunks must meet to make duplicates.
    let sizes: Vec<u64> = (0..3).map(|_| (most / 12).max(1) + random.below(most / 2 + 1)).collect();
    let mut steps = Vec::new();
    while steps.len() < STEPS {
        let piece = Piece {
            size: sizes[random.index(sizes.len())],
            tail: [Tail::Floor, Tail::Ceil][random.index(2)],
            form: Form::ALL[random.index(4)],
            profile: Profile::ALL[random.index(3)],
            number: random.below(1 << 20),
        };
        let bytes = 1 + random.index(length / 4 + 1);
        steps.push(match random.below(100) {
            0..=33 => Step::Chunk(piece),
            34..=42 => Step::Different(piece, random.index(length.max(1))),
            43..=50 => Step::Cut(piece, random.index(1000)),
            51..=62 => Step::Test(piece),
            63..=67 => Step::Status,
            68..=72 => Step::Head,
            73..=80 => Step::Patch(bytes),
            81..=83 => Step::PatchDifferent(bytes, random.index(bytes)),
            84..=86 => Step::PatchElsewhere(random.below(most + 2)),
            87..=90 => Step::PatchCut(bytes + 1, random.index(bytes + 1)),
            91..=93 => Step::Get,
            94 if random.chance(40) => Step::Delete(random.chance(50)),
            95..=97 => Step::Restart(random.chance(60)),
            _ => Step::Test(piece),
        });
    }
    (length, steps)
}

impl Model {
    fn new(length: usize) -> Self {
        Self { held: vec![false; length], ..Self::default() }
    }

    fn prefix(&self) -> usize {
        self.held.iter().take_while(|held| **held).count()
    }

    fn covers(&self, range: &Range<usize>) -> bool {
        self.held[range.clone()].iter().all(|held| *held)
    }

    fn open(&mut self) {
        self.held.fill(false);
        self.state = State::Open;
    }

    /// Bytes are stored.
    fn store(&mut self, range: Range<usize>) {
        self.held[range].fill(true);
        if self.held.iter().all(|held| *held) {
            self.state = State::Complete;
            self.complete.get_or_insert_with(Instant::now);
        }
    }

    /// What a yes says now.
    fn yes(&self) -> Said {
        if self.state == State::Complete { Said::File } else { Said::Chunk }
    }

    /// What is missing, as `Upload-Missing` lists it.
    fn missing(&self) -> Option<String> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (at, _) in self.held.iter().enumerate().filter(|(_, held)| !**held) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == at => *last = at,
                _ => runs.push((at, at)),
            }
        }
        let runs = runs.iter().map(|(first, last)| format!("{first}-{last}"));
        let list = runs.collect::<Vec<_>>().join(",");
        (!list.is_empty()).then_some(list)
    }
}

/// A server and the file that one history is about.
struct Walk<'a> {
    own: &'a mut Own,
    file: File,
    model: Model,
}

impl Walk<'_> {
    fn cut_as(&self, piece: Piece) -> (File, u64, Range<usize>) {
        let file = File {
            tail: piece.tail,
            form: piece.form,
            profile: piece.profile,
            ..self.file.clone().cut(piece.size)
        };
        let number = piece.number % file.count() + 1;
        let range = file.range(number);
        (file, number, index(range.start)..index(range.end))
    }

    fn step(&mut self, step: &Step) -> Verdict {
        match step {
            Step::Chunk(piece) => self.chunk(*piece),
            Step::Different(piece, at) => self.different(*piece, *at),
            Step::Cut(piece, sent) => self.cut(*piece, *sent),
            Step::Test(piece) => self.test(*piece),
            Step::Status => self.status(),
            Step::Head => self.head(),
            Step::Patch(bytes) => self.patch(*bytes, None),
            Step::PatchDifferent(bytes, at) => self.patch(*bytes, Some(*at)),
            Step::PatchElsewhere(offset) => self.patch_elsewhere(*offset),
            Step::PatchCut(bytes, sent) => self.patch_cut(*bytes, *sent),
            Step::Get => self.get(),
            Step::Delete(by_tus) => self.delete(*by_tus),
            Step::Restart(killed) => self.restart(*killed),
        }
    }

    /// Whether a chunk waits two seconds for its session to begin. Few do, or a history would take
    /// minutes; the others are left out, or are the first chunk instead.
    fn waits(&self, piece: Piece, range: &Range<usize>) -> bool {
        self.model.state != State::Open && range.start > 0 && !piece.number.is_multiple_of(8)
    }

    fn chunk(&mut self, mut piece: Piece) -> Verdict {
        if self.waits(piece, &self.cut_as(piece).2) {
            piece.number = 0;
        }
        let (file, number, range) = self.cut_as(piece);
        let answer = file.put(&self.own.site, number)?;
        if self.model.state == State::Unknown {
            if range.start > 0 {
                return answer.is(refused(404, "upload_expired"));
            }
            self.model.open();
        }
        let changed = self.model.state != State::Complete
            && (range.is_empty() || self.model.held[range.clone()].contains(&false));
        self.model.store(range);
        ensure_eq("the answer", answer.said.clone(), self.model.yes())?;
        let number_of = |name: &str| answer.upload[name].as_u64();
        ensure_eq("offset", number_of("offset"), Some(self.model.prefix() as u64))?;
        let received = self.model.held.iter().filter(|held| **held).count();
        ensure_eq("received", number_of("received"), Some(received as u64))?;
        if changed {
            self.model.url = Some(answer.url()?);
            return Ok(());
        }
        answer.leads_nowhere()
    }

    fn different(&mut self, piece: Piece, at: usize) -> Verdict {
        let (file, number, range) = self.cut_as(piece);
        if range.is_empty() {
            return Ok(());
        }
        let at = at % range.len();
        let is_stored = match self.model.state {
            State::Unknown => true,
            State::Open => !self.model.held[range.start + at],
            // Other first bytes begin a new upload (J-044).
            State::Complete => range.start == 0,
        };
        if is_stored || self.waits(piece, &range) {
            // The file would be another one.
            return Ok(());
        }
        let mut ask = file.ask(number);
        ask.payload[at] ^= 0x20;
        ask.put(&self.own.site)?.is(refused(400, "content_conflict"))
    }

    fn cut(&mut self, piece: Piece, sent: usize) -> Verdict {
        let (file, number, range) = self.cut_as(piece);
        // What has no bytes cannot be cut.
        if range.is_empty() || self.waits(piece, &range) {
            return Ok(());
        }
        let request = file.ask(number).request(&self.own.site);
        let bytes = body(&request.body);
        // Whether a form without its very end is whole is not the question here.
        let most = bytes.len().saturating_sub(if file.form == Form::Octet { 1 } else { 60 });
        let mut link = self.own.site.connect()?;
        link.send_head(&request)?;
        link.raw.send(&bytes[..most * sent / 1000])?;
        link.raw.half_close()?;
        // The server is done with it when it has closed the connection.
        let ended = link.raw.is_ended_within(Duration::from_secs(20))?;
        ensure(ended, "the server keeps a connection that broke")
    }

    fn test(&mut self, piece: Piece) -> Verdict {
        let (file, number, range) = self.cut_as(piece);
        let found = said(&self.own.site.ask(&file.ask(number).test(&self.own.site))?)?.said;
        // Of a complete file nothing is present to a client that tests (J-044).
        let there = self.model.state == State::Open && self.model.covers(&range);
        let expected = if there { Said::Chunk } else { Said::Absent };
        ensure_eq("the test", found, expected)
    }

    fn status(&mut self) -> Verdict {
        let answer = self.own.site.ask(&self.file.status(&self.own.site))?;
        if ![State::Open, State::Complete].contains(&self.model.state) {
            answer.is(404)?;
            return Ok(());
        }
        let answer = answer.is(200)?;
        ensure_eq(
            "Upload-Offset",
            answer.number("Upload-Offset"),
            Some(self.model.prefix() as u64),
        )?;
        let missing = self.model.missing();
        ensure_eq("Upload-Missing", answer.field("Upload-Missing"), missing.as_deref())
    }

    /// The tus side, if the upload was ever seen and nothing has taken its place since.
    fn tus(&self) -> Option<(Site, String)> {
        let url = self.model.url.clone()?;
        Some((tus_of(&self.own.site, &url), url))
    }

    fn is_there(&self) -> bool {
        [State::Open, State::Complete].contains(&self.model.state)
    }

    fn head(&mut self) -> Verdict {
        let Some((tus, url)) = self.tus() else {
            return Ok(());
        };
        let head = tus.ask(&Request::tus("HEAD", &url))?;
        if !self.is_there() {
            head.is_one_of(&[404, 410])?;
            return Ok(());
        }
        let offset = head.is(200)?.number("Upload-Offset");
        ensure_eq("Upload-Offset", offset, Some(self.model.prefix() as u64))?;
        Ok(())
    }

    /// Where a PATCH of so many bytes begins: at the prefix, or anywhere before it (J-051).
    fn start(&self, bytes: usize) -> usize {
        let prefix = self.model.prefix();
        if bytes.is_multiple_of(2) { prefix } else { prefix.saturating_sub(bytes / 2) }
    }

    /// A PATCH at the prefix or before it, perhaps with a byte flipped.
    fn patch(&mut self, bytes: usize, flipped: Option<usize>) -> Verdict {
        let Some((tus, url)) = self.tus() else {
            return Ok(());
        };
        let start = self.start(bytes);
        let end = (start + bytes).min(self.model.held.len());
        let mut payload = self.file.content[start..end].to_vec();
        let flipped = flipped.filter(|at| *at < payload.len() && self.is_there());
        if let Some(at) = flipped {
            if !self.model.held[start + at] {
                return Ok(());
            }
            payload[at] ^= 0x20;
        }
        let answer = tus.ask(&Request::patch(&url, start as u64).body(&payload))?;
        if !self.is_there() {
            answer.is_one_of(&[404, 410])?;
            return Ok(());
        }
        if flipped.is_some() {
            // Nothing of it is kept: what was there stays, and what was missing is.
            let refused = (400..500).contains(&answer.status);
            return ensure(refused, format!("a different PATCH is answered {}", answer.status));
        }
        let offset = answer.is(204)?.number("Upload-Offset");
        ensure_eq("Upload-Offset of the PATCH", offset, Some(end as u64))?;
        if end > start {
            self.model.store(start..end);
        }
        Ok(())
    }

    fn patch_elsewhere(&mut self, offset: u64) -> Verdict {
        let Some((tus, url)) = self.tus() else {
            return Ok(());
        };
        let prefix = self.model.prefix() as u64;
        if offset <= prefix {
            return Ok(());
        }
        let answer = tus.ask(&Request::patch(&url, offset).body(b"x"))?;
        if !self.is_there() {
            answer.is_one_of(&[404, 410])?;
            return Ok(());
        }
        let shown = answer.is(409)?.number("Upload-Offset");
        ensure_eq("Upload-Offset of the 409", shown, Some(prefix))
    }

    fn patch_cut(&mut self, bytes: usize, sent: usize) -> Verdict {
        let Some((tus, url)) = self.tus() else {
            return Ok(());
        };
        if !self.is_there() {
            return Ok(());
        }
        let start = self.start(bytes);
        let end = (start + bytes).min(self.model.held.len());
        let sent = (start + sent).min(end.saturating_sub(1));
        if sent <= start {
            return Ok(());
        }
        let request = Request::patch(&url, start as u64).body(&self.file.content[start..end]);
        let mut link = tus.connect()?;
        link.send_head(&request)?;
        link.raw.send(&self.file.content[start..sent])?;
        link.raw.half_close()?;
        let ended = link.raw.is_ended_within(Duration::from_secs(20))?;
        ensure(ended, "the server keeps a connection that broke")?;
        self.model.store(start..sent);
        self.head()
    }

    fn get(&mut self) -> Verdict {
        let Some((tus, url)) = self.tus() else {
            return Ok(());
        };
        let answer = tus.ask(&Request::plain("GET", &url))?;
        if self.model.state == State::Complete {
            answer.is(200)?.has_body(&self.file.content)?;
        } else {
            answer.is_one_of(&[404, 410])?;
        }
        Ok(())
    }

    fn delete(&mut self, by_tus: bool) -> Verdict {
        let (answer, removes) = match self.tus() {
            Some((tus, url)) if by_tus => {
                (tus.ask(&Request::tus("DELETE", &url))?, self.is_there())
            }
            _ => {
                let status = self.file.status(&self.own.site);
                let answer = self.own.site.ask(&status.method("DELETE"))?;
                // A name alone removes nothing that is finished (S-002).
                (answer, self.model.state == State::Open)
            }
        };
        answer.is_one_of(if removes { &[204] } else { &[404, 410] })?;
        if removes {
            self.model.state = State::Unknown;
            self.model.held.fill(false);
            self.model.complete = None;
        }
        Ok(())
    }

    fn restart(&mut self, killed: bool) -> Verdict {
        if killed {
            return self.own.crash_and_restart();
        }
        self.own.process.terminate()?;
        let status = self.own.process.ended_within(Duration::from_secs(30))?;
        ensure(status.success(), format!("the server ended with {status}"))?;
        self.own.restart()
    }

    /// Sends what is missing and reads everything back.
    fn finish(&mut self) -> Verdict {
        let size = (self.model.held.len() as u64 / 5).max(1);
        let whole = self.file.clone().cut(size);
        for number in 1..=whole.count() {
            if self.model.state == State::Complete {
                break;
            }
            self.chunk(Piece {
                size,
                tail: Tail::Floor,
                form: Form::Multipart,
                profile: Profile::Resumable,
                number: number - 1,
            })?;
        }
        ensure_eq("the state", self.model.state, State::Complete)?;
        self.head()?;
        self.get()
    }
}

fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

/// Walks a history on a new file; the number of the step that fails.
fn walk(own: &mut Own, length: usize, steps: &[Step]) -> Result<(), (usize, Failure)> {
    let file = File::new(length, 10);
    let model = Model::new(length);
    let mut walk = Walk { own, file, model };
    for (number, step) in steps.iter().enumerate() {
        if walk.model.complete.is_some_and(|since| since.elapsed() > NAME_IS_KEPT) {
            break;
        }
        let result = walk.step(step);
        result.map_err(|failure| (number, failure.within(format!("{step:?}"))))?;
    }
    walk.finish().map_err(|failure| (steps.len(), failure.within("the rest of the file")))
}

/// The shortest history that this finds by leaving steps out of one that fails.
fn shortest(
    own: &mut Own,
    length: usize,
    mut steps: Vec<Step>,
    mut failure: Failure,
) -> (Vec<Step>, Failure) {
    let mut width = (steps.len() / 2).max(1);
    loop {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + width).min(steps.len()));
            match walk(own, length, &fewer) {
                Ok(()) => at += width,
                Err((number, found)) => {
                    fewer.truncate(number + 1);
                    (steps, failure) = (fewer, found);
                }
            }
            // A server that broke down must not spoil what follows.
            if own.process.ended_within(Duration::ZERO).is_ok() && own.restart().is_err() {
                return (steps, failure);
            }
        }
        if width == 1 {
            return (steps, failure);
        }
        width /= 2;
    }
}

fn launch() -> Result<Own, Failure> {
    let binary = server::binary().ok_or_else(|| Failure::new("no windlass binary"))?;
    let process = Windlass::start(&binary, &["--durability", "relaxed"])?;
    let contract = Contract::by_name("resumable").ok_or_else(|| Failure::new("no contract"))?;
    let base = Base::parse(process.url_of("resumable")?)?;
    let site = Site::new(contract, base, Setup::Own, "model", Default::default());
    Ok(Own { process, site })
}

/// Holds the server against the history of a seed; the report of what fails.
fn hold(seed: u64) -> Result<(), String> {
    let mut own = launch().map_err(|failure| failure.to_string())?;
    let (length, steps) = history(seed);
    let Err((number, failure)) = walk(&mut own, length, &steps) else {
        return Ok(());
    };
    let mut steps = steps;
    steps.truncate(number + 1);
    let (steps, failure) = shortest(&mut own, length, steps, failure);
    let mut report = format!("seed {seed}, a file of {length} bytes: {failure}\n");
    for step in &steps {
        // Writing to a String cannot fail.
        let _ = writeln!(report, "  {step:?}");
    }
    let _ = writeln!(report, "again with RESUMABLE_SEED={seed}");
    Err(report)
}

#[test]
fn random_histories_agree_with_a_plain_model() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match (number("RESUMABLE_SEED"), number("RESUMABLE_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(more)) => SEEDS.start..SEEDS.end + more,
        (None, None) => SEEDS,
    };
    let seeds = std::sync::Mutex::new(seeds);
    let next = || seeds.lock().ok()?.next();
    let reports = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(seed) = next() {
                    if let (Err(report), Ok(mut reports)) = (hold(seed), reports.lock()) {
                        reports.push(report);
                    }
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap_or_default();
    assert!(reports.is_empty(), "\n{}", reports.join("\n"));
}
