//! [`Walk`]: what one seed makes happen.

use std::fmt::Write as _;

use tokio::time::Instant;

use super::{
    super::*,
    Open,
    request::{About, Answer, End, NAMES, Request, Sent, Sum, What, key, run},
    stage::{Backstage, Call, Verdict},
    truth::{Moment, Trouble, Truth, index},
};

/// Steps of a walk before it winds down.
const STEPS: u64 = 350;

/// Requests of a walk that run at once, and in all: bytes tell by whom they were sent.
const MAX_RUNNING: usize = 6;
const MAX_REQUESTS: usize = 120;

/// How often tasks are given the thread after a step: more than any of them hands on to others.
const ROUNDS: usize = 12;

/// Steps of winding down, more than any walk needs: what has not ended then hangs.
const MAX_WINDING: usize = 5_000;

/// Random numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn index(&mut self, len: usize) -> usize {
        index(self.below(len as u64))
    }

    /// True `percent` times in a hundred.
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }
}

/// One engine of those that share the store.
struct Node {
    engine: Engine,
    is_closing: bool,
}

/// One walk.
pub(super) struct Walk {
    /// The time that passes with the next step.
    advance: Duration,
    back: Backstage,
    dice: Dice,
    epoch: Instant,
    faulty: bool,
    /// What has happened, step by step.
    pub(super) history: String,
    limits: Limits,
    nodes: Vec<Node>,
    open: Open,
    requests: Vec<Request>,
    step: u64,
    /// The store, as nobody delays it.
    store: Arc<dyn Store>,
    /// The lengths of the files that have names.
    totals: [u64; NAMES],
    truth: Truth,
}

impl Walk {
    pub(super) fn new(seed: u64, nodes: usize, open: Open) -> Self {
        let mut dice = Dice(seed);
        let seconds = Duration::from_secs;
        let limits = Limits {
            checkpoint_bytes: dice.pick(&[1, 4, 1 << 20]),
            completed_grace: seconds(30),
            expire_after: dice.chance(50).then(|| seconds(60)),
            idle_timeout: seconds(20),
            join_unfinished: dice.chance(50),
            tombstone: seconds(100),
            ..Limits::default()
        };
        let back = Backstage::default();
        for name in 0..NAMES {
            back.number(&key(name).to_id());
        }
        let mut walk = Self {
            advance: Duration::ZERO,
            back,
            faulty: dice.chance(60),
            totals: [dice.pick(&[5, 12]), dice.pick(&[0, 12, 12])],
            dice,
            epoch: Instant::now(),
            history: String::new(),
            limits,
            nodes: Vec::new(),
            store: open(),
            open,
            requests: Vec::new(),
            step: 0,
            truth: Truth::new(nodes),
        };
        walk.nodes = (0..nodes).map(|node| walk.node(node)).collect();
        walk
    }

    /// An engine that begins its life.
    fn node(&self, node: usize) -> Node {
        let stage = self.back.stage(node, (self.open)());
        let epoch = self.epoch;
        let engine = Engine::builder(Arc::new(stage.clone()))
            .limits(self.limits.clone())
            .finisher(stage.clone())
            .observer(stage)
            .clock(Arc::new(move || time_of(epoch)))
            .build();
        Node { engine, is_closing: false }
    }

    fn note(&mut self, what: impl std::fmt::Display) {
        let time = self.epoch.elapsed().as_millis();
        let _ = writeln!(self.history, "{:4} {time:6}ms {what}", self.step);
    }

    /// Takes the steps of the walk, and winds it down.
    pub(super) async fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.act();
            self.settle().await?;
        }
        self.wind_down().await
    }

    /// Does one thing.
    fn act(&mut self) {
        self.step += 1;
        let dice = self.dice.below(100);
        let (waiting, feeding) = (self.back.waiting(), self.open_bodies());
        match dice {
            0..45 if waiting > 0 => self.let_go(),
            45..70 if !feeding.is_empty() => self.feed(&feeding),
            70..76 => self.pass_time(),
            76..77 => self.drop_question(),
            77 if self.faulty && self.dice.chance(25) => self.kill(),
            78 if self.dice.chance(15) => self.close(),
            _ => self.begin_any(),
        }
    }

    /// The requests whose bodies are not at their ends.
    fn open_bodies(&self) -> Vec<usize> {
        let is_open = |request: &Request| {
            let open = |sent: &Sent| sent.end == End::Open;
            request.is_running() && request.sent.as_ref().is_some_and(open)
        };
        let all = self.requests.iter().enumerate();
        all.filter(|(_, request)| is_open(request)).map(|(r, _)| r).collect()
    }

    /// Gives one waiting call its turn.
    fn let_go(&mut self) {
        let index = self.dice.index(self.back.waiting());
        let fails = self.faulty && self.dice.chance(4);
        let turn = self.back.take(index);
        let (call, node, number) = (turn.call, turn.node, turn.number);
        let verdict = match (fails && !turn.is_late, self.dice.below(3)) {
            (true, 0) if call.may_lose_answer() => Verdict::LoseAnswer,
            (true, 1) => Verdict::FailForGood,
            (true, _) => Verdict::Fail,
            (false, _) => Verdict::Make,
        };
        if verdict != Verdict::Make {
            let trouble = match call {
                Call::Hook => Trouble::Denied(number, verdict == Verdict::FailForGood),
                _ => Trouble::Store,
            };
            self.truth.troubles.push((self.step, node, trouble));
        }
        if call.is_heard() && (turn.is_late || verdict == Verdict::LoseAnswer) {
            self.truth.books.entry(number).or_default().unheard = true;
        }
        let late = if turn.is_late { ", late" } else { "" };
        self.note(format_args!("  e{node} {call:?} u{number}: {verdict:?}{late}"));
        turn.go(verdict);
    }

    fn feed(&mut self, bodies: &[usize]) {
        let r = self.dice.pick(bodies);
        let (cuts, count) = (self.dice.chance(5), self.dice.below(7));
        let Some(sent) = &mut self.requests[r].sent else {
            return;
        };
        let said = if cuts {
            sent.cut();
            "is cut off".to_owned()
        } else if sent.left() == 0 {
            sent.finish();
            "ends".to_owned()
        } else {
            let count = index(count).min(sent.left());
            sent.feed(count);
            format!("sends {count} bytes")
        };
        self.note(format_args!("r{r} {said}"));
    }

    fn pass_time(&mut self) {
        let millis = [50, 500, 1_000, 1_000, 2_500, 6_000, 25_000, 70_000];
        let millis = self.dice.pick(&millis);
        self.note(format_args!("{millis} ms pass"));
        // The time that passes is noticed by the tasks in `settle`.
        self.advance = Duration::from_millis(millis);
    }

    /// A client does not wait for the answer to a question any more: its future is dropped where it
    /// is.
    fn drop_question(&mut self) {
        let is_question = |request: &Request| {
            matches!(request.what, What::Fetch { .. } | What::Status { .. } | What::Sweep)
        };
        let running = self.requests.iter().enumerate();
        let questions: Vec<_> = running
            .filter(|(_, request)| request.is_running() && is_question(request))
            .map(|(r, _)| r)
            .collect();
        if questions.is_empty() {
            return;
        }
        let r = self.dice.pick(&questions);
        self.note(format_args!("r{r} is dropped"));
        self.give_up(r);
    }

    fn give_up(&mut self, r: usize) {
        let request = &mut self.requests[r];
        request.end = Some(self.step);
        if let Some(task) = request.task.take() {
            task.abort();
        }
    }

    /// A node dies, and another one starts in its place.
    fn kill(&mut self) {
        let node = self.dice.index(self.nodes.len());
        self.note(format_args!("e{node} dies"));
        self.truth.troubles.push((self.step, node, Trouble::Kill));
        self.start_anew(node);
    }

    fn start_anew(&mut self, node: usize) {
        let dice = &mut self.dice;
        self.back.die(node, || dice.chance(30));
        let orphans = self.requests.iter_mut().filter(|one| one.node == node && one.is_running());
        for request in orphans {
            // Its task goes on as far as to the next call that is not made.
            (request.end, request.is_orphan, request.task) = (Some(self.step), true, None);
        }
        self.nodes[node] = self.node(node);
    }

    fn close(&mut self) {
        let node = self.dice.index(self.nodes.len());
        if !std::mem::replace(&mut self.nodes[node].is_closing, true) {
            self.truth.troubles.push((self.step, node, Trouble::Close));
            self.begin_on(node, What::Close);
        }
    }

    /// A request of any kind.
    fn begin_any(&mut self) {
        let running = self.requests.iter().filter(|one| one.is_running()).count();
        if running >= MAX_RUNNING || self.requests.len() >= MAX_REQUESTS {
            return;
        }
        let known: Vec<usize> = self.known();
        let of = if known.is_empty() { None } else { Some(self.dice.pick(&known)) };
        let name = self.dice.index(NAMES);
        let total = self.total(name);
        let what = match (self.dice.below(100), of) {
            (0..12, _) | (_, None) => What::Create {
                length: self.dice.chance(75).then(|| self.dice.pick(&[0, 1, 6, 14, 20])),
                partial: self.dice.chance(40),
            },
            (12..45, Some(of)) => What::Append { of, declares: self.declaration(of) },
            (45..58, _) => What::Chunk { name, total },
            (58..61, _) => What::Find { is_owner: self.dice.chance(70), name, total },
            (61..73, Some(of)) => What::Status { of: About::Number(of) },
            (73..76, _) => What::Status { of: About::Name(name) },
            (76..81, _) => {
                let start = self.dice.below(total + 1);
                let range = start..start + self.dice.below(total + 1 - start);
                What::Test { name, range, total }
            }
            (81..87, Some(of)) => What::Fetch { of },
            (87..89, Some(of)) => What::Remove { of: About::Number(of) },
            (89, _) => What::Remove { of: About::Name(name) },
            (90..96, Some(_)) => {
                let count = 1 + self.dice.index(3);
                let parts: Vec<_> = known.into_iter().filter(|n| self.is_partial(*n)).collect();
                if parts.is_empty() {
                    return;
                }
                What::Join { parts: (0..count).map(|_| self.dice.pick(&parts)).collect() }
            }
            (_, Some(_)) => What::Sweep,
        };
        self.begin(what);
    }

    /// The uploads whose ids clients know.
    fn known(&self) -> Vec<usize> {
        let exists = |number: &usize| self.truth.books[number].record().is_some();
        let known = self.truth.books.iter().filter(|(_, book)| book.known);
        let numbers: Vec<_> = known.map(|(number, _)| *number).collect();
        // The last ones are where things happen; those that are gone are asked about sometimes.
        let mut known: Vec<_> = numbers.iter().copied().filter(exists).collect();
        known.extend(numbers.last());
        known
    }

    fn record(&self, number: usize) -> Option<&Arc<Upload>> {
        self.truth.books.get(&number)?.record()
    }

    fn is_partial(&self, number: usize) -> bool {
        self.record(number).is_some_and(|record| record.is_partial())
    }

    /// What a client says is the length of the file of a name. Sometimes one says another.
    fn total(&mut self, name: usize) -> u64 {
        self.totals[name] + u64::from(self.dice.chance(5))
    }

    /// What an append says of the length of its upload.
    fn declaration(&mut self, of: usize) -> Option<u64> {
        let (length, offset) = match self.record(of) {
            Some(record) => (record.length, record.received.end()),
            None => (None, 0),
        };
        match length {
            Some(length) if self.dice.chance(10) => Some(length + self.dice.below(2)),
            Some(_) => None,
            None => self.dice.chance(40).then(|| offset + self.dice.below(10)),
        }
    }

    /// Starts a request on some node.
    fn begin(&mut self, what: What) {
        let node = self.dice.index(self.nodes.len());
        self.begin_on(node, what);
    }

    fn begin_on(&mut self, node: usize, what: What) {
        let body = self.body(self.requests.len(), &what);
        self.start(node, what, body);
    }

    /// Starts a request with this body.
    fn start(&mut self, node: usize, what: What, body: Option<(Sent, Content)>) {
        let r = self.requests.len();
        let (sent, content) = match body {
            Some((sent, content)) => (Some(sent), content),
            None => (None, Content::empty()),
        };
        self.note(match &sent {
            Some(Sent { at, bytes, sum, announced, .. }) => format!(
                "r{r} to e{node} {what:?} with {} bytes at {at}, sum {sum:?}, announced {announced}",
                bytes.len()
            ),
            None => format!("r{r} to e{node} {what:?}"),
        });
        let mut request = Request {
            end: None,
            is_orphan: false,
            node,
            sent,
            start: self.step,
            started: time_of(self.epoch),
            task: None,
            what,
        };
        let (engine, intent) = (self.nodes[node].engine.clone(), self.intent(r, &request));
        let sweeps = request.what == What::Sweep;
        request.task = Some(tokio::spawn(async move {
            match intent {
                Some(intent) => return run(engine, intent, content).await,
                None if sweeps => drop(engine.sweep().await),
                None => engine.close().await,
            }
            Answer::Done
        }));
        self.requests.push(request);
    }

    /// The body of a request.
    fn body(&mut self, r: usize, what: &What) -> Option<(Sent, Content)> {
        let dice = &mut self.dice;
        let sum = match dice.below(20) {
            0 | 1 => Sum::Given { right: true },
            2 => Sum::Given { right: false },
            3 => Sum::Surprise,
            // Chunks have none in their trailers. Whoever begins an empty file twice, because
            // another engine was quicker and its upload was removed at once, has no trailer left.
            4..=6 if matches!(what, What::Chunk { .. } | What::Find { total: 0, .. }) => Sum::None,
            4 => Sum::Trailer { right: true },
            5 => Sum::Trailer { right: false },
            6 => Sum::TrailerMissing,
            _ => Sum::None,
        };
        let too_much = dice.below(3) * u64::from(dice.chance(12));
        let (at, count, room, by) = match *what {
            What::Append { of, declares } => {
                let record = self.truth.books.get(&of).and_then(|book| book.record());
                let (offset, length, named) = record.map_or((0, None, false), |record| {
                    (record.offset(), record.length.or(declares), record.key.is_some())
                });
                let at = if dice.chance(85) { offset } else { dice.below(14) };
                let room = length.unwrap_or(20).saturating_sub(at);
                let count = if dice.chance(40) { room } else { dice.below(room + 1) };
                let by = if named && dice.chance(90) { 0 } else { r + 2 };
                (at, count + too_much, None, by)
            }
            What::Create { length, .. } => {
                if dice.chance(60) {
                    return None;
                }
                let room = length.unwrap_or(20);
                let count = if dice.chance(30) { room } else { dice.below(room + 1) };
                (0, count + too_much, None, r + 2)
            }
            What::Chunk { total, .. } => {
                let at = if dice.chance(40) { 0 } else { dice.below(total + 1) };
                let room = if dice.chance(40) { total - at } else { dice.below(total - at + 1) };
                let less = dice.below(room + 1) * u64::from(dice.chance(8));
                let by = usize::from(dice.chance(6));
                (at, room - less + too_much, Some(room), by)
            }
            What::Find { total, .. } => {
                if dice.chance(60) {
                    return None;
                }
                (0, dice.below(total + 1) + too_much, None, 0)
            }
            What::Close
            | What::Fetch { .. }
            | What::Join { .. }
            | What::Remove { .. }
            | What::Status { .. }
            | What::Sweep
            | What::Test { .. } => return None,
        };
        let bytes: Vec<u8> = (at..at + count).map(|at| byte(by, at)).collect();
        let (mut sent, content) = Sent::new(at, bytes, room, sum);
        if self.dice.chance(30) {
            sent.announced = sent.bytes.len();
        }
        Some((sent, content))
    }

    fn intent(&self, r: usize, request: &Request) -> Option<Intent> {
        let Request { sent, what, .. } = request;
        let (ids, sent) = (self.back.ids(), sent.as_ref());
        let id = |number: usize| ids[number].clone();
        let subject = |about: About| match about {
            About::Name(name) => Subject::Key(key(name)),
            About::Number(number) => Subject::Id(id(number)),
        };
        let is_chunk = matches!(what, What::Chunk { .. });
        let write = |at: At, length, target| {
            Intent::Write(Write {
                answer_when_alone: Duration::from_secs(u64::from(is_chunk)),
                checksum: sent.map_or(Checksum::None, Sent::checksum),
                content_bytes: match sent {
                    None => Some(0),
                    Some(sent) => (sent.announced > 0).then_some(sent.announced as u64),
                },
                length,
                ..Write::new(target, at, request.wait(&self.limits))
            })
        };
        let new = |length, role| NewUpload {
            length,
            metadata: format!("r{r}").parse().expect("a key"),
            role,
            ..NewUpload::default()
        };
        let at = sent.map_or(0, |sent| sent.at);
        Some(match what.clone() {
            What::Append { of, declares } => {
                write(At::Offset(at), declares, Target::Existing(id(of)))
            }
            What::Chunk { name, total } => {
                let range = at..at + sent.map_or(0, |sent| sent.room);
                let target = Target::Keyed(key(name), new(Some(total), Role::Whole));
                write(At::Range(range), Some(total), target)
            }
            What::Create { length, partial } => {
                let role = if partial { Role::partial() } else { Role::Whole };
                write(At::Offset(0), None, Target::New(new(length, role)))
            }
            What::Fetch { of } => Intent::Fetch { id: id(of), selection: Selection::All },
            What::Find { is_owner, name, total } => {
                let target = if is_owner { Target::Keyed } else { Target::NewKeyed };
                let new = new(Some(total), Role::Whole);
                write(At::Offset(0), Some(total), target(key(name), new))
            }
            What::Join { parts } => {
                let parts: Vec<_> = parts.into_iter().map(id).collect();
                join(&parts.iter().collect::<Vec<_>>())
            }
            What::Remove { of } => Intent::Terminate { of: subject(of) },
            What::Status { of } => Intent::Status { of: subject(of) },
            What::Test { name, range, total } => {
                Intent::Test(Test { key: key(name), length: total, range })
            }
            What::Close | What::Sweep => return None,
        })
    }

    /// Lets every task run until it waits for its turn, then looks at what has become of things.
    /// Yields the answers that have come.
    async fn settle(&mut self) -> Result<Vec<Answer>, String> {
        let time = std::mem::take(&mut self.advance);
        if !time.is_zero() {
            tokio::time::advance(time).await;
        }
        for _ in 0..ROUNDS {
            tokio::task::yield_now().await;
        }
        let ids = self.back.ids();
        for (number, id) in ids.iter().enumerate() {
            let record = self.store.load(id).await.ok();
            let bytes = match &record {
                Some(record) => counting(&*self.store, record).await?,
                None => Vec::new(),
            };
            // A node does not know of the writers of another one.
            let is_written = self.nodes.iter().all(|node| node.engine.0.writers.is_written(id));
            let (truth, moment) = self.moment();
            truth.look(number, record.as_ref(), bytes, is_written, &moment)?;
            if let Some(Role::Final { partials, .. }) = record.as_ref().map(|record| &record.role) {
                let parts: Vec<_> = partials.iter().map(|id| self.back.number(id)).collect();
                self.truth.joined(number, &parts)?;
            }
        }
        for heard in self.back.heard() {
            self.note(format_args!("    {heard:?}"));
            self.truth.heard(&heard)?;
        }
        self.answers().await
    }

    /// An answer in words that are the same in every walk of a seed.
    fn said(&self, answer: &Answer) -> String {
        let brief = |upload: &Upload| {
            let (number, received) = (self.back.number(&upload.id), upload.received.iter());
            let received: Vec<_> = received.collect();
            let Upload { length, phase, .. } = upload;
            format!("u{number} {phase:?} {received:?} of {length:?}")
        };
        match answer {
            Answer::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Answer::Done => "done".to_owned(),
            Answer::Gone => "gone".to_owned(),
            Answer::Refused(Refusal::NotPartial { id }) => {
                format!("u{} is not partial", self.back.number(id))
            }
            Answer::Refused(Refusal::PartialUnfinished { id }) => {
                format!("u{} is not finished", self.back.number(id))
            }
            Answer::Refused(refusal) => format!("{refusal:?}"),
            Answer::State(upload) => brief(upload),
            Answer::Stored { offset, upload } => format!("stored to {offset}, {}", brief(upload)),
        }
    }

    fn moment(&mut self) -> (&mut Truth, Moment<'_>) {
        let moment = Moment {
            limits: &self.limits,
            now: time_of(self.epoch),
            requests: &self.requests,
            step: self.step,
        };
        (&mut self.truth, moment)
    }

    /// Judges the answers that have come.
    async fn answers(&mut self) -> Result<Vec<Answer>, String> {
        let (mut answers, mut closed) = (Vec::new(), None);
        for r in 0..self.requests.len() {
            let task = self.requests[r].task.take_if(|task| task.is_finished());
            let Some(task) = task else { continue };
            let answer = task.await.map_err(|error| format!("r{r}: {error}"))?;
            let said = self.said(&answer);
            self.note(format_args!("r{r} -> {said}"));
            if self.requests[r].what == What::Close {
                closed = Some(self.requests[r].node);
            }
            let back = self.back.clone();
            let (truth, moment) = self.moment();
            truth
                .answered(r, &answer, |id| back.number(id), &moment)
                .map_err(|violation| format!("r{r}: {violation}"))?;
            self.requests[r].end = Some(self.step);
            answers.push(answer);
        }
        if let Some(node) = closed {
            self.note(format_args!("e{node} has gone down, and another one starts"));
            self.start_anew(node);
        }
        Ok(answers)
    }

    /// Ends everything that runs, and shows that what is left can be used by a new client: no
    /// reservation leaked, every upload goes on from the offset it tells, and what is over stays
    /// over.
    async fn wind_down(&mut self) -> Result<(), String> {
        self.faulty = false;
        for r in self.open_bodies() {
            if let Some(sent) = &mut self.requests[r].sent {
                sent.cut();
            }
        }
        self.quiet().await?;
        for id in self.back.ids() {
            let number = self.back.number(&id);
            if self.nodes.iter().any(|node| node.engine.0.writers.reserve_idle(&id).is_none()) {
                return Err(format!("u{number}: a reservation has leaked"));
            }
        }
        for number in self.known() {
            self.go_on(number).await?;
        }
        self.truth.once()?;
        self.expire().await
    }

    /// Lets time pass and calls go until no request runs.
    async fn quiet(&mut self) -> Result<(), String> {
        for _ in 0..MAX_WINDING {
            self.step += 1;
            if self.back.waiting() > 0 {
                self.let_go();
            } else if self.requests.iter().any(Request::is_running) {
                self.advance = Duration::from_millis(500);
            } else {
                return Ok(());
            }
            self.settle().await?;
        }
        let hangs = self.requests.iter().position(Request::is_running);
        Err(format!("r{hangs:?} hangs"))
    }

    /// Asks for something alone, and yields the answer.
    async fn alone(&mut self, what: What, bytes: Option<(u64, Vec<u8>)>) -> Result<Answer, String> {
        let r = self.requests.len();
        let body = bytes.map(|(at, bytes)| {
            let (mut sent, content) = Sent::new(at, bytes, None, Sum::None);
            sent.feed(sent.left());
            sent.finish();
            (sent, content)
        });
        self.step += 1;
        let node = self.dice.index(self.nodes.len());
        self.start(node, what, body);
        for _ in 0..MAX_WINDING {
            if let Some(answer) = self.settle().await?.pop() {
                return Ok(answer);
            }
            self.step += 1;
            if self.back.waiting() == 0 {
                return Err(format!("r{r} waits, although it is alone"));
            }
            self.let_go();
        }
        Err(format!("r{r} never ends"))
    }

    /// A new client finishes the upload, or is told that there is none.
    async fn go_on(&mut self, number: usize) -> Result<(), String> {
        let fail = |what: &str, answer: &Answer| Err(format!("u{number}: {what}: {answer:?}"));
        let of = About::Number(number);
        let record = self.record(number).cloned();
        let answer = self.alone(What::Status { of }, None).await?;
        let is_over = record.as_ref().is_some_and(|record| self.moment().1.is_over(record));
        let upload = match (&answer, record) {
            (Answer::Refused(Refusal::Unknown), None) => return Ok(()),
            (Answer::Refused(Refusal::Unknown), Some(record)) if record.is_void() => return Ok(()),
            (Answer::Refused(Refusal::Expired), Some(record)) if is_over || is_final(&record) => {
                return Ok(());
            }
            (Answer::State(upload), Some(_)) if !is_over => Arc::clone(upload),
            _ => return fail("a wrong answer to a question", &answer),
        };
        if !upload.is_complete() && !is_final(&upload) {
            let (offset, length) = (upload.offset(), upload.length);
            let length = length.unwrap_or(upload.received.end() + 3);
            let book = &self.truth.books[&number];
            let bytes = (offset..length).map(|at| {
                let held = book.bytes.get(index(at)).copied().flatten();
                held.unwrap_or_else(|| byte(250, at))
            });
            let bytes = (offset, bytes.collect());
            let what = What::Append { of: number, declares: Some(length) };
            let answer = self.alone(what, Some(bytes)).await?;
            let Answer::Stored { upload, .. } = &answer else {
                return fail("cannot be finished", &answer);
            };
            if !upload.is_complete() {
                return fail("has all bytes and is not complete", &answer);
            }
        }
        let published = self.record(number).is_some_and(|one| one.is_published());
        if published {
            let answer = self.alone(What::Fetch { of: number }, None).await?;
            if !matches!(answer, Answer::Bytes(_)) {
                return fail("cannot be read", &answer);
            }
        }
        Ok(())
    }

    /// Shows that what is not finished expires, once and for good, and all else stays.
    async fn expire(&mut self) -> Result<(), String> {
        let published = |walk: &Self| -> Vec<usize> {
            let all = walk.truth.books.iter();
            all.filter(|(_, book)| book.record().is_some_and(|one| one.is_published()))
                .map(|(number, _)| *number)
                .collect()
        };
        let before = published(self);
        for _ in 0..2 {
            self.advance = self.limits.tombstone + self.limits.idle_timeout;
            self.settle().await?;
            self.begin(What::Sweep);
            self.quiet().await?;
        }
        let after = published(self);
        if !before.iter().all(|number| after.contains(number)) {
            return Err("F-57: a complete upload has expired".into());
        }
        let left = self.truth.books.iter().find(|(_, book)| {
            let record = book.record();
            record.is_some_and(|record| record.expires.is_some())
        });
        match left {
            Some((number, _)) => Err(format!("u{number}: T-070: outlives its deadline")),
            None => Ok(()),
        }
    }
}

fn is_final(upload: &Upload) -> bool {
    matches!(upload.role, Role::Final { .. })
}

/// The time of day, which goes as the tasks' time goes.
fn time_of(epoch: Instant) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000) + epoch.elapsed()
}

/// The byte that the `by`th sender has for a position: no two of them have the same.
fn byte(by: usize, at: u64) -> u8 {
    let (by, at) = (by % 256, at % 256);
    u8::try_from((by * 31 + index(at) * 7) % 256).expect("below 256")
}

/// The bytes of an upload that count, by position.
async fn counting(store: &dyn Store, upload: &Upload) -> Result<Vec<Option<u8>>, String> {
    let mut bytes = vec![None; index(upload.received.end())];
    for run in upload.received.iter() {
        let read = store.read(upload, run.clone()).await;
        let mut read = read.map_err(|error| format!("{}: F-22: {error}", upload.id))?;
        let mut at = index(run.start);
        while let Some(frame) = read.next().await {
            for byte in frame.expect("memory does not fail") {
                bytes[at] = Some(byte);
                at += 1;
            }
        }
    }
    Ok(bytes)
}
