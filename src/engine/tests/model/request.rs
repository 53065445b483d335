//! What a walk asks of the engine, what it sends, and what it is answered.

use std::{
    ops::Range,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use super::super::*;

/// Names in a walk. Their numbers, among those of the uploads, are the first.
pub(super) const NAMES: usize = 2;

/// How a chunk waits for other writers of the same bytes.
pub(super) const CHUNK_WAIT: Wait =
    Wait { at_most: Duration::from_secs(6), stall_after: Duration::from_secs(3) };

static KEYS: LazyLock<[Key; NAMES]> = LazyLock::new(|| {
    std::array::from_fn(|name| Key::new(b"secret", &[format!("n{name}").as_bytes()]))
});

/// The key of the `name`th name.
pub(super) fn key(name: usize) -> Key {
    KEYS[name].clone()
}

/// The name that an upload was made for.
pub(super) fn name_of(record: &Upload) -> Option<usize> {
    let of = record.key.as_ref()?;
    KEYS.iter().position(|key| key == of)
}

/// Which uploads a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    Name(usize),
    Number(usize),
}

/// What is asked for. Uploads are spoken of by number, names by number of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Append {
        of: usize,
        declares: Option<u64>,
    },
    Chunk {
        name: usize,
        total: u64,
    },
    Close,
    Create {
        length: Option<u64>,
        partial: bool,
    },
    Fetch {
        of: usize,
    },
    /// A creation that gives a name; by an owner it also finds the upload of it (J-054).
    Find {
        is_owner: bool,
        name: usize,
        total: u64,
    },
    Join {
        parts: Vec<usize>,
    },
    Remove {
        of: About,
    },
    Status {
        of: About,
    },
    Sweep,
    Test {
        name: usize,
        range: Range<u64>,
        total: u64,
    },
}

/// What is said of the checksum of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sum {
    Given {
        right: bool,
    },
    None,
    /// Not announced, and in the trailer all the same, wrong. It is ignored (D-22).
    Surprise,
    Trailer {
        right: bool,
    },
    TrailerMissing,
}

impl Sum {
    pub(super) const fn is_right(self) -> bool {
        match self {
            Self::None | Self::Surprise => true,
            Self::Given { right } | Self::Trailer { right } => right,
            Self::TrailerMissing => false,
        }
    }

    /// Whether the bytes must not count before they are verified.
    pub(super) const fn holds_back(self) -> bool {
        match self {
            Self::Given { .. } | Self::Trailer { .. } | Self::TrailerMissing => true,
            Self::None | Self::Surprise => false,
        }
    }
}

/// How a body ended, as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Cut,
    Open,
    Whole,
}

type Frames = mpsc::UnboundedSender<io::Result<Frame<Bytes>>>;

/// The body of a request.
#[derive(Debug)]
pub(super) struct Sent {
    /// The length that is announced, 0 for none.
    pub(super) announced: usize,
    pub(super) at: u64,
    /// All that the client has to send.
    pub(super) bytes: Vec<u8>,
    pub(super) end: End,
    /// Whether it counts whole or not at all, and beside others.
    pub(super) exact: bool,
    /// How much of it is sent.
    pub(super) fed: usize,
    fed_at: Instant,
    /// How much there should be, where that is known.
    pub(super) room: u64,
    /// The longest time that nothing of it came, before the last time that something did.
    silent: Duration,
    pub(super) sum: Sum,
    frames: Option<Frames>,
}

impl Sent {
    /// A body that waits to be fed, and its other end.
    pub(super) fn new(at: u64, bytes: Vec<u8>, room: Option<u64>, sum: Sum) -> (Self, Content) {
        let (frames, receiver) = mpsc::unbounded_channel();
        let sent = Self {
            announced: 0,
            at,
            bytes,
            end: End::Open,
            exact: room.is_some(),
            fed: 0,
            fed_at: Instant::now(),
            room: room.unwrap_or_default(),
            silent: Duration::ZERO,
            sum,
            frames: Some(frames),
        };
        let content = Content::new(FrameFeed(receiver)).with_trailer_checksum(|fields| {
            let hex = fields.get("sha1").and_then(|hex| hex.to_str().ok());
            let byte = |at| u8::from_str_radix(hex?.get(at..at + 2)?, 16).ok();
            let value: Vec<u8> = (0..40).step_by(2).map_while(byte).collect();
            Ok(hex.map(|_| Digest { algorithm: Algorithm::Sha1, value }))
        });
        (sent, content)
    }

    /// What the engine is told about the checksum beforehand.
    pub(super) fn checksum(&self) -> Checksum {
        match self.sum {
            Sum::None | Sum::Surprise => Checksum::None,
            Sum::Trailer { .. } | Sum::TrailerMissing => Checksum::Trailing,
            Sum::Given { right } => Checksum::Given(digest(&self.bytes, right)),
        }
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.fed
    }

    /// Sends the next `count` bytes.
    pub(super) fn feed(&mut self, count: usize) {
        let next = Bytes::copy_from_slice(&self.bytes[self.fed..self.fed + count]);
        self.fed += count;
        self.frame(Ok(Frame::data(next)));
    }

    /// Ends the body as is proper.
    pub(super) fn finish(&mut self) {
        let right = match self.sum {
            Sum::Surprise => Some(false),
            Sum::Trailer { right } => Some(right),
            Sum::Given { .. } | Sum::None | Sum::TrailerMissing => None,
        };
        if let Some(right) = right {
            let mut fields = HeaderMap::new();
            let value = digest(&self.bytes[..self.fed], right).value;
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            fields.insert("sha1", hex.parse().expect("visible characters"));
            self.frame(Ok(Frame::trailers(fields)));
        }
        self.frames = None;
        self.end = End::Whole;
    }

    /// Ends it in the middle.
    pub(super) fn cut(&mut self) {
        self.frame(Err(cut()));
        self.frames = None;
        self.end = End::Cut;
    }

    /// The longest time that nothing came of it.
    pub(super) fn silence(&self) -> Duration {
        self.silent.max(self.fed_at.elapsed())
    }

    fn frame(&mut self, frame: io::Result<Frame<Bytes>>) {
        self.silent = self.silence();
        self.fed_at = Instant::now();
        if let Some(frames) = &self.frames {
            // An error means that nobody reads any more: the request was answered.
            let _ = frames.send(frame);
        }
    }
}

/// A body that is fed frame by frame, trailers included.
struct FrameFeed(mpsc::UnboundedReceiver<io::Result<Frame<Bytes>>>);

impl Body for FrameFeed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}

/// The digest of `bytes`, or another one.
fn digest(bytes: &[u8], right: bool) -> Digest {
    let mut digester = Algorithm::Sha1.digester();
    digester.update(bytes);
    let mut digest = digester.finish();
    digest.value[0] ^= u8::from(!right);
    digest
}

/// One request of a walk.
#[derive(Debug)]
pub(super) struct Request {
    /// The step in which it was answered or given up.
    pub(super) end: Option<u64>,
    /// Whether its node died: what it had on its way may be done any time later.
    pub(super) is_orphan: bool,
    pub(super) node: usize,
    pub(super) sent: Option<Sent>,
    pub(super) start: u64,
    /// The time of day at its start.
    pub(super) started: SystemTime,
    pub(super) task: Option<JoinHandle<Answer>>,
    pub(super) what: What,
}

impl Request {
    pub(super) const fn is_running(&self) -> bool {
        self.end.is_none()
    }

    /// The byte that it has sent for this position.
    pub(super) fn has_sent(&self, at: u64) -> Option<u8> {
        let sent = self.sent.as_ref()?;
        let i = usize::try_from(at.checked_sub(sent.at)?).ok()?;
        sent.bytes[..sent.fed].get(i).copied()
    }

    /// Whether its bytes may count by now: those that count together have come together, and have
    /// the checksum that was given.
    pub(super) fn counts(&self) -> bool {
        let Some(sent) = &self.sent else { return false };
        let whole = sent.end == End::Whole && sent.sum.is_right();
        let all = !sent.exact || sent.fed as u64 == sent.room;
        (whole && all) || !(sent.sum.holds_back() || sent.exact)
    }

    /// Whether it may have done something in the steps since `start`.
    pub(super) fn acts_since(&self, start: u64) -> bool {
        self.is_orphan || self.end.is_none_or(|end| end >= start)
    }

    /// The body, if its bytes count together or not at all.
    pub(super) fn whole_or_nothing(&self) -> Option<&Sent> {
        self.sent.as_ref().filter(|sent| sent.exact || sent.sum.holds_back())
    }

    /// The length that it declares.
    pub(super) fn declares(&self) -> Option<u64> {
        match self.what {
            What::Append { declares, .. } => declares,
            What::Chunk { total, .. } | What::Find { total, .. } => Some(total),
            What::Create { length, .. } => length,
            What::Close
            | What::Fetch { .. }
            | What::Join { .. }
            | What::Remove { .. }
            | What::Status { .. }
            | What::Sweep
            | What::Test { .. } => None,
        }
    }

    /// How it waits for other writers.
    pub(super) fn wait(&self, limits: &Limits) -> Wait {
        match self.what {
            What::Chunk { .. } => CHUNK_WAIT,
            _ => Wait { at_most: limits.lock_wait, stall_after: limits.stall_after },
        }
    }

    /// The name that it uses.
    pub(super) const fn name(&self) -> Option<usize> {
        match self.what {
            What::Chunk { name, .. }
            | What::Find { name, .. }
            | What::Remove { of: About::Name(name) }
            | What::Status { of: About::Name(name) }
            | What::Test { name, .. } => Some(name),
            What::Append { .. }
            | What::Close
            | What::Create { .. }
            | What::Fetch { .. }
            | What::Join { .. }
            | What::Remove { of: About::Number(_) }
            | What::Status { of: About::Number(_) }
            | What::Sweep => None,
        }
    }

    /// The uploads that it names by their ids.
    pub(super) fn numbers(&self) -> Vec<usize> {
        match &self.what {
            What::Append { of, .. }
            | What::Fetch { of }
            | What::Remove { of: About::Number(of) }
            | What::Status { of: About::Number(of) } => vec![*of],
            What::Join { parts } => parts.clone(),
            What::Chunk { .. }
            | What::Close
            | What::Create { .. }
            | What::Find { .. }
            | What::Remove { of: About::Name(_) }
            | What::Status { of: About::Name(_) }
            | What::Sweep
            | What::Test { .. } => Vec::new(),
        }
    }
}

/// What came of a request.
#[derive(Debug)]
pub(super) enum Answer {
    Bytes(Vec<u8>),
    /// A sweep or a close is over.
    Done,
    Gone,
    Refused(Refusal),
    State(Arc<Upload>),
    Stored {
        offset: u64,
        upload: Arc<Upload>,
    },
}

/// Runs `intent` to its answer.
pub(super) async fn run(engine: Engine, intent: Intent, content: Content) -> Answer {
    let outcome = match engine.run(intent, content, &Extensions::new()).await {
        Ok(outcome) => outcome,
        Err(refused) => return Answer::Refused(refused.refusal),
    };
    match outcome {
        Outcome::Discovered(_) | Outcome::Listed(_) => Answer::Done,
        Outcome::Fetched { bytes, .. } => {
            let mut all = Vec::new();
            let Some(mut bytes) = bytes else {
                return Answer::Done;
            };
            while let Some(frame) =
                std::future::poll_fn(|cx| bytes.stream.as_mut().poll_next(cx)).await
            {
                all.extend_from_slice(&frame.expect("memory does not fail"));
            }
            Answer::Bytes(all)
        }
        Outcome::Status { upload } => Answer::State(upload),
        Outcome::Written { offset, upload, .. } => Answer::Stored { offset, upload },
        Outcome::Terminated => Answer::Gone,
    }
}
