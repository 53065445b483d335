//! The load generator: one thread, one epoll instance, a script per connection. It costs two system
//! calls per small request, so that on a small machine the server has the rest.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::Timespec,
    event::epoll::{self, CreateFlags, EventData, EventFlags},
};

use crate::{
    http::{Answer, Request},
    process,
};

/// How much of a long body is sent on one connection before the others have their turn.
const TURN_BYTES: u64 = 256 << 10;

/// The length of the bytes that payloads repeat.
const PATTERN_BYTES: usize = 256 << 10;

/// Turns between two looks for new events while some connection can go on anyway.
const TURNS_PER_LOOK: usize = 8;

/// The longest answer.
const ANSWER_BYTES: usize = 16 << 10;

/// How long all servers together may be silent before a run is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one connection has to do.
pub(crate) trait Script {
    /// Words the next request, knowing the answer to the last one. `false`: nothing more to do.
    /// When `over`, nothing new should be begun.
    ///
    /// # Errors
    /// A sentence, when the answer is not the one that is due.
    fn next(
        &mut self,
        last: Option<&Answer>,
        request: &mut Request,
        over: bool,
    ) -> Result<bool, String>;
}

/// One thing that was counted: a request, or several that belong together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit {
    /// When it was answered, from the begin of the load.
    pub(crate) ended: Duration,
    /// How long it took.
    pub(crate) took: Duration,
}

/// What a load came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// From the first request to the last answer.
    pub(crate) wall: Duration,
    /// What was done, in the order of the answers.
    pub(crate) units: Vec<Unit>,
    /// Payload sent.
    pub(crate) payload_bytes: u64,
    /// CPU time of the generator itself.
    pub(crate) own_cpu: Duration,
}

/// The bytes that payloads repeat: nothing that a disk or file system could make smaller.
pub(crate) fn pattern() -> Vec<u8> {
    let mut random = Random(1);
    (0..PATTERN_BYTES / 8).flat_map(|_| random.next().to_le_bytes()).collect()
}

/// A sequence that is the same in every run.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Puts `items` in any order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let other = self.next() % (end as u64 + 1);
            items.swap(end, usize::try_from(other).expect("below a usize"));
        }
    }
}

/// Runs every script on a connection of its own until all are done. After `time`, if given, scripts
/// are told to begin nothing new.
///
/// # Errors
/// When a server answers what it should not, closes, or is silent for too long.
pub(crate) fn run(
    address: SocketAddr,
    scripts: Vec<Box<dyn Script + '_>>,
    time: Option<Duration>,
) -> Result<Outcome, String> {
    let mut generator = Generator::new(address, scripts, time).map_err(|e| e.to_string())?;
    let cpu = process::own_cpu();
    generator.clock = Clock { began: Instant::now(), time };
    generator.run()?;
    Ok(Outcome {
        wall: generator.units.last().map_or(Duration::ZERO, |unit| unit.ended),
        units: generator.units,
        payload_bytes: generator.payload_bytes,
        own_cpu: process::own_cpu().saturating_sub(cpu),
    })
}

/// When the load began and how long it may last.
struct Clock {
    began: Instant,
    time: Option<Duration>,
}

/// All connections of a load.
struct Generator<'a> {
    clock: Clock,
    connections: Vec<Connection<'a>>,
    epoll: rustix::fd::OwnedFd,
    pattern: Vec<u8>,
    payload_bytes: u64,
    /// Connections that can go on without a new event.
    ready: VecDeque<usize>,
    units: Vec<Unit>,
}

impl<'a> Generator<'a> {
    fn new(
        address: SocketAddr,
        scripts: Vec<Box<dyn Script + 'a>>,
        time: Option<Duration>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for script in scripts {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let data = EventData::new_u64(connections.len() as u64);
            epoll::add(&epoll, &stream, data, EventFlags::IN | EventFlags::OUT | EventFlags::ET)?;
            connections.push(Connection::new(stream, script));
        }
        Ok(Self {
            clock: Clock { began: Instant::now(), time },
            ready: (0..connections.len()).collect(),
            connections,
            epoll,
            pattern: pattern(),
            payload_bytes: 0,
            units: Vec::new(),
        })
    }

    fn run(&mut self) -> Result<(), String> {
        let mut running = self.connections.len();
        let mut events = Vec::with_capacity(256);
        while running > 0 {
            for _ in 0..TURNS_PER_LOOK {
                let Some(index) = self.ready.pop_front() else {
                    break;
                };
                match self.turn(index).map_err(|e| format!("connection {index}: {e}"))? {
                    Turn::Blocked => {}
                    Turn::Done => running -= 1,
                    Turn::More => self.ready.push_back(index),
                }
            }
            if running > 0 {
                self.look(&mut events)?;
            }
        }
        Ok(())
    }

    /// Finds out which connections can go on; waits for one if there is none.
    fn look(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), String> {
        let wait = if self.ready.is_empty() { PATIENCE } else { Duration::ZERO };
        let wait = Timespec::try_from(wait).map_err(|e| e.to_string())?;
        events.clear();
        let found = epoll::wait(&self.epoll, spare_capacity(events), Some(&wait));
        if found.map_err(|e| e.to_string())? == 0 && self.ready.is_empty() {
            return Err(format!("no answer within {PATIENCE:?}"));
        }
        for event in events.iter() {
            let index = usize::try_from(event.data.u64()).expect("we gave it a usize");
            let connection = &self.connections[index];
            // An event without news wakes a connection that is queued already, or done.
            if connection.state != State::Done && !self.ready.contains(&index) {
                self.ready.push_back(index);
            }
        }
        Ok(())
    }

    fn turn(&mut self, index: usize) -> Result<Turn, String> {
        let connection = &mut self.connections[index];
        loop {
            match connection.state {
                State::Asking => {
                    let now = self.clock.began.elapsed();
                    let over = self.clock.time.is_some_and(|time| now >= time);
                    if !connection.ask(now, over)? {
                        return Ok(Turn::Done);
                    }
                    self.payload_bytes += connection.request.payload_bytes;
                }
                State::Sending => match connection.send(&self.pattern)? {
                    // The event of an answer that came early was taken for one to go on sending.
                    Sent::All if connection.request.payload_bytes > TURN_BYTES => {}
                    Sent::All => return Ok(Turn::Blocked),
                    Sent::Blocked => return connection.hear_while_sending(),
                    Sent::Some => return Ok(Turn::More),
                },
                State::Awaiting => {
                    let Some(answer) = connection.receive()? else {
                        return Ok(Turn::Blocked);
                    };
                    let now = self.clock.began.elapsed();
                    self.units.extend(connection.answered(answer, now));
                }
                State::Done => return Ok(Turn::Blocked),
            }
        }
    }
}

/// How a turn of a connection ended.
enum Turn {
    /// It waits for its peer.
    Blocked,
    /// Its script is done.
    Done,
    /// It could go on.
    More,
}

/// How much was sent.
enum Sent {
    All,
    Blocked,
    Some,
}

/// What a connection is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Asking,
    Awaiting,
    Done,
    Sending,
}

/// One connection and its script.
struct Connection<'a> {
    answer: Option<Answer>,
    filled: usize,
    input: Box<[u8]>,
    request: Request,
    script: Box<dyn Script + 'a>,
    sent: u64,
    state: State,
    stream: TcpStream,
    unit_began: Option<Duration>,
}

impl<'a> Connection<'a> {
    fn new(stream: TcpStream, script: Box<dyn Script + 'a>) -> Self {
        Self {
            answer: None,
            filled: 0,
            input: vec![0; ANSWER_BYTES].into(),
            request: Request::default(),
            script,
            sent: 0,
            state: State::Asking,
            stream,
            unit_began: None,
        }
    }

    /// Has the script word the next request; `false` when there is none.
    fn ask(&mut self, now: Duration, over: bool) -> Result<bool, String> {
        let more = self.script.next(self.answer.as_ref(), &mut self.request, over)?;
        self.sent = 0;
        self.state = if more { State::Sending } else { State::Done };
        self.unit_began.get_or_insert(now);
        Ok(more)
    }

    /// Sends until nothing is left, the socket is full, or others should have their turn.
    fn send(&mut self, pattern: &[u8]) -> Result<Sent, String> {
        let turn_ends = self.sent + TURN_BYTES;
        while self.sent < self.request.bytes() {
            if self.sent >= turn_ends {
                return Ok(Sent::Some);
            }
            let slices = self.request.slices(self.sent, pattern).map(IoSlice::new);
            match self.stream.write_vectored(&slices) {
                Ok(sent) => self.sent += sent as u64,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Sent::Blocked),
                Err(e) => return Err(format!("sending: {e}")),
            }
        }
        self.state = State::Awaiting;
        Ok(Sent::All)
    }

    /// An answer before the end of its request is a refusal, and would be waited for in vain.
    fn hear_while_sending(&mut self) -> Result<Turn, String> {
        match self.receive()? {
            None => Ok(Turn::Blocked),
            Some(answer) => Err(format!("answered {} in the middle of a request", answer.status)),
        }
    }

    fn receive(&mut self) -> Result<Option<Answer>, String> {
        match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => return Err("the server closed the connection".to_owned()),
            Ok(read) => self.filled += read,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(format!("receiving: {e}")),
        }
        let to_head = self.request.head.starts_with(b"HEAD ");
        let answer = Answer::parse(&self.input[..self.filled], to_head)?;
        if answer.is_some() {
            self.filled = 0;
        }
        Ok(answer)
    }

    /// Takes an answer; gives the unit that it ends.
    fn answered(&mut self, answer: Answer, now: Duration) -> Option<Unit> {
        self.answer = Some(answer);
        self.state = State::Asking;
        if !self.request.ends_unit {
            return None;
        }
        let began = self.unit_began.take()?;
        Some(Unit { ended: now, took: now - began })
    }
}
