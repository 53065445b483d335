//! What clients have asked for and been told.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::content::base64;

/// How an upload comes into being and grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A tus upload by itself.
    Whole,
    /// A tus upload that is a part of others.
    Partial,
    /// A tus upload made of parts.
    Final,
    /// A ResumableJS upload in chunks of so many bytes.
    Chunks(u64),
}

/// What the server knows of the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Nothing.
    Deferred,
    /// A request that declares it was sent and not answered.
    Declaring,
    /// All.
    Known,
}

/// Whether an upload is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its first request was sent and not answered.
    Unborn,
    /// It is there.
    Living,
    /// Its removal was asked for and not answered.
    Leaving,
    /// Its removal was answered, or the first request was refused.
    Gone,
}

/// One body that was sent, wholly or in part, and that no answer has confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Where in the upload it goes.
    pub range: Range<u64>,
    /// Whether all of it becomes visible or nothing: checksummed, or a chunk.
    pub whole_or_nothing: bool,
    /// Whether the server may take it for whole and right: its last byte was (about to be) sent,
    /// and a checksum, if any, is that of its bytes.
    pub may_count: bool,
}

/// One upload.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which one; it is in the metadata, so that an upload nobody was told of can be recognised.
    pub number: u64,
    /// What it is going to hold.
    pub content: Arc<[u8]>,
    /// How it grows.
    pub kind: Kind,
    /// Where it is; `None` until an answer said so.
    pub path: Option<String>,
    /// Whether it is there.
    pub fate: Fate,
    /// What the server knows of the length.
    pub length: Length,
    /// The highest offset that an answer showed.
    pub told: u64,
    /// The chunks that an answer confirmed.
    pub stored: Vec<u64>,
    /// What may have arrived besides.
    pub attempts: Vec<Attempt>,
    /// Attempts that an answer, or the end of the server, has settled.
    pub settled: Vec<Attempt>,
    /// Whether a request may still be running whose client is gone: HEAD tells what it did.
    pub unsure: bool,
}

impl Entry {
    /// An upload whose first request is about to be sent.
    pub fn new(number: u64, content: Vec<u8>, kind: Kind, length: Length) -> Self {
        Self {
            number,
            content: content.into(),
            kind,
            path: None,
            fate: Fate::Unborn,
            length,
            told: 0,
            stored: Vec::new(),
            attempts: Vec::new(),
            settled: Vec::new(),
            unsure: false,
        }
    }

    /// The length that it has in the end.
    pub fn size(&self) -> u64 {
        self.content.len() as u64
    }

    /// The bytes of a range.
    pub fn bytes(&self, range: &Range<u64>) -> &[u8] {
        &self.content[range.start as usize..range.end as usize]
    }

    /// The name that tells it from all others.
    pub fn name(&self) -> String {
        format!("upload-{}", self.number)
    }

    /// `Upload-Metadata` with that name, as this harness and the ResumableJS dialect write it.
    pub fn metadata(&self) -> String {
        format!("filename {}", base64(self.name()))
    }

    /// How many chunks it has; the last one takes what is left over.
    pub fn chunks(&self) -> u64 {
        match self.kind {
            Kind::Chunks(size) => (self.size() / size).max(1),
            Kind::Whole | Kind::Partial | Kind::Final => 0,
        }
    }

    /// The size of its chunks.
    pub fn chunk_size(&self) -> u64 {
        match self.kind {
            Kind::Chunks(size) => size,
            Kind::Whole | Kind::Partial | Kind::Final => self.size(),
        }
    }

    /// The range of a chunk, numbered from 1.
    pub fn chunk(&self, number: u64) -> Range<u64> {
        let size = self.chunk_size();
        let end = if number == self.chunks() { self.size() } else { number * size };
        (number - 1) * size..end
    }

    /// Whether everything has arrived for certain.
    pub fn is_complete(&self) -> bool {
        match self.kind {
            Kind::Chunks(_) => self.stored.len() as u64 == self.chunks(),
            Kind::Whole | Kind::Partial | Kind::Final => {
                self.told == self.size() && self.length == Length::Known
            }
        }
    }

    /// Takes note that nothing more can come of what was attempted so far.
    pub fn settle(&mut self) {
        self.settled.append(&mut self.attempts);
    }

    /// What may have arrived by the time of `self`, and was not certain at that of `then`.
    fn attempted_since<'a>(&'a self, then: &'a Self) -> impl Iterator<Item = &'a Attempt> {
        let settled = self.settled.iter().skip(then.settled.len());
        settled.chain(&then.attempts).chain(&self.attempts)
    }

    /// Whether HEAD may show this offset after a crash that began at `then` and was over at `self`.
    pub fn allows(&self, then: &Self, offset: u64) -> bool {
        let explains = |attempt: &Attempt| {
            let range = &attempt.range;
            if attempt.whole_or_nothing {
                attempt.may_count && offset == range.end
            } else {
                range.start <= offset && offset <= range.end
            }
        };
        offset == then.told
            || offset > then.told && self.attempted_since(then).any(explains)
            || offset > then.told && offset == self.told
    }

    /// Whether this chunk may be there after such a crash.
    pub fn allows_chunk(&self, then: &Self, chunk: &Range<u64>) -> bool {
        self.attempted_since(then).any(|attempt| attempt.may_count && attempt.range == *chunk)
    }
}

/// The pages of all clients, each written by one client and read by whoever stages the crash.
#[derive(Debug)]
pub struct Ledger(Vec<Mutex<Vec<Entry>>>);

impl Ledger {
    /// Empty pages for so many clients.
    pub fn new(clients: usize) -> Self {
        Self((0..clients).map(|_| Mutex::default()).collect())
    }

    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.0.len()
    }

    /// The page of one client.
    pub fn page(&self, client: usize) -> MutexGuard<'_, Vec<Entry>> {
        self.0[client].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every entry of every client, each page at one moment.
    pub fn state(&self) -> Vec<Entry> {
        let pages = (0..self.0.len()).flat_map(|client| self.page(client).clone());
        pages.collect()
    }

    /// Takes over what was found after a crash; uploads that are gone are forgotten.
    pub fn learn(&self, found: Vec<Entry>) {
        for client in 0..self.0.len() {
            self.page(client).clear();
        }
        let tombstone =
            |entry: &Entry| matches!(entry.kind, Kind::Chunks(_)) && entry.path.is_some();
        let lasting = |entry: &Entry| entry.fate == Fate::Living || tombstone(entry);
        for entry in found.into_iter().filter(lasting) {
            let client = (entry.number / NUMBERS) as usize;
            self.page(client).push(entry);
        }
    }
}

/// How many uploads one client may number.
pub const NUMBERS: u64 = 1 << 32;
