//! The payload of a form as a body: frames of the form's own body, then the check that the form
//! ends as it should.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use memchr::{memmem, memrchr};

use super::{
    Check, Form, PAYLOAD, Part, Shape,
    base64::Base64,
    envelope::{Envelope, Event, ended_early},
};
use crate::{content::Step, rules::Refusal};

/// The payload of a form, then its end.
pub(super) struct Payload {
    check: Check,
    decoder: Option<Base64>,
    /// How many bytes there must be, if that is known.
    expected: Option<u64>,
    form: Form,
    /// How many there were.
    given: u64,
    part: Part,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The fields that follow; the head of the one whose value is next.
    After(Option<Part>),
    /// Nothing more.
    Done,
    /// So many bytes.
    Exact(u64),
    /// The bytes up to the next boundary.
    Search(Box<Search>),
}

/// The search for the end of a payload.
#[derive(Debug)]
struct Search {
    /// The line break and the boundary that end it.
    end: memmem::Finder<'static>,
    /// The last bytes of the frame before, which may be the start of the end.
    held: Vec<u8>,
}

/// What a stage yields.
enum Progress {
    /// The next bytes; none when one stage went over into the next.
    Data(Bytes),
    End,
    /// Another frame is needed.
    More,
}

/// What a search yields.
enum Found {
    /// The last bytes of the payload.
    Last(Bytes),
    More,
    Piece(Bytes),
}

impl Payload {
    pub(super) fn new(form: Form, part: Part, shape: Shape, check: Check) -> Self {
        let search = || {
            Stage::Search(Box::new(Search {
                end: memmem::Finder::new(&form.envelope.terminator()).into_owned(),
                held: Vec::new(),
            }))
        };
        let (stage, expected, decoder) = match shape {
            Shape::Base64(bytes) => (search(), Some(bytes), Some(Base64::new(bytes))),
            Shape::Delimited => (search(), None, None),
            Shape::Exact(bytes) => (Stage::Exact(bytes), Some(bytes), None),
            Shape::Measured(bytes) => (search(), Some(bytes), None),
        };
        Self { check, decoder, expected, form, given: 0, part, stage }
    }

    /// What can be had without another frame.
    fn advance(&mut self) -> Result<Progress, Refusal> {
        loop {
            let progress = match &self.stage {
                Stage::After(_) => self.check_rest()?,
                Stage::Done => Progress::End,
                Stage::Exact(left) => self.take(*left)?,
                Stage::Search(_) => self.search()?,
            };
            match progress {
                Progress::Data(bytes) if bytes.is_empty() => {}
                Progress::Data(bytes) => return self.counted(bytes).map(Progress::Data),
                Progress::End | Progress::More => return Ok(progress),
            }
        }
    }

    /// The next of `left` bytes, as they come.
    fn take(&mut self, left: u64) -> Result<Progress, Refusal> {
        let envelope = &mut self.form.envelope;
        if left == 0 {
            envelope.expect_break(self.given);
            self.stage = Stage::After(None);
            return Ok(Progress::Data(Bytes::new()));
        }
        let mut frame = envelope.take();
        if frame.is_empty() {
            return if envelope.is_ended() {
                Err(self.wrong_length(self.given))
            } else {
                Ok(Progress::More)
            };
        }
        let bytes = usize::try_from(left).map_or(frame.len(), |left| left.min(frame.len()));
        let piece = frame.split_to(bytes);
        envelope.put(frame);
        self.stage = Stage::Exact(left.saturating_sub(count(&piece)));
        Ok(Progress::Data(piece))
    }

    /// The next bytes before a boundary.
    fn search(&mut self) -> Result<Progress, Refusal> {
        let Stage::Search(search) = &mut self.stage else {
            return Ok(Progress::End);
        };
        let envelope = &mut self.form.envelope;
        match search.advance(envelope) {
            Found::More if envelope.is_ended() => Err(ended_early()),
            Found::More => Ok(Progress::More),
            Found::Piece(piece) => self.decoded(piece).map(Progress::Data),
            Found::Last(piece) => {
                let last = self.last_decoded(piece)?;
                let given = self.given.saturating_add(count(&last));
                if self.expected.is_some_and(|expected| expected != given) {
                    return Err(self.wrong_length(given));
                }
                self.stage = Stage::After(None);
                Ok(Progress::Data(last))
            }
        }
    }

    fn decoded(&mut self, piece: Bytes) -> Result<Bytes, Refusal> {
        match &mut self.decoder {
            None => Ok(piece),
            Some(decoder) => decoder.decode(&piece).map(Bytes::from),
        }
    }

    fn last_decoded(&mut self, piece: Bytes) -> Result<Bytes, Refusal> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(piece);
        };
        let mut bytes = decoder.decode(&piece)?;
        bytes.extend(decoder.finish()?);
        Ok(bytes.into())
    }

    fn counted(&mut self, bytes: Bytes) -> Result<Bytes, Refusal> {
        self.given = self.given.saturating_add(count(&bytes));
        if self.expected.is_some_and(|expected| expected < self.given) {
            return Err(self.wrong_length(self.given));
        }
        Ok(bytes)
    }

    /// Checks what follows the payload, up to the end of the form.
    fn check_rest(&mut self) -> Result<Progress, Refusal> {
        let Some(event) = self.form.envelope.next()? else {
            return Ok(Progress::More);
        };
        let head = match &mut self.stage {
            Stage::After(head) => head.take(),
            Stage::Done | Stage::Exact(_) | Stage::Search(_) => None,
        };
        let (stage, progress) = match event {
            Event::End => (Stage::Done, Progress::End),
            Event::Part(part) if part.is_file() || part.name == self.part.name => {
                return Err(Refusal::malformed(PAYLOAD, "the form has two of them, expected one"));
            }
            Event::Part(part) => (Stage::After(Some(part)), Progress::Data(Bytes::new())),
            Event::Value(value) => {
                (self.check)(&head.unwrap_or_default(), &value)?;
                (Stage::After(None), Progress::Data(Bytes::new()))
            }
        };
        self.stage = stage;
        Ok(progress)
    }

    fn wrong_length(&self, given: u64) -> Refusal {
        let expected = self.expected.unwrap_or(given);
        Refusal::BodyLengthWrong { expected, given }
    }
}

impl Search {
    /// The next bytes that are the payload's beyond doubt.
    fn advance(&mut self, envelope: &mut Envelope) -> Found {
        let mut frame = envelope.take();
        if frame.is_empty() {
            return Found::More;
        }
        if !self.held.is_empty() {
            return self.advance_across(frame, envelope);
        }
        if let Some(at) = self.end.find(&frame) {
            let piece = frame.split_to(at);
            frame.advance(self.end.needle().len());
            envelope.put(frame);
            envelope.passed_boundary();
            return Found::Last(piece);
        }
        let held = frame.split_off(frame.len() - self.started(&frame));
        self.held.extend_from_slice(&held);
        Found::Piece(frame)
    }

    /// The same where the frame before ended with what may be the start of the end. Copies no more
    /// than that and as much again.
    fn advance_across(&mut self, mut frame: Bytes, envelope: &mut Envelope) -> Found {
        let mut joined = std::mem::take(&mut self.held);
        let held = joined.len();
        let taken = frame.len().min(self.end.needle().len());
        joined.extend_from_slice(frame.get(..taken).unwrap_or_default());
        if let Some(at) = self.end.find(&joined) {
            // The end is longer than the bytes held back, so it reaches into the frame.
            frame.advance((at + self.end.needle().len()).saturating_sub(held));
            envelope.put(frame);
            envelope.passed_boundary();
            joined.truncate(at);
            return Found::Last(joined.into());
        }
        frame.advance(taken);
        envelope.put(frame);
        self.held = joined.split_off(joined.len() - self.started(&joined));
        Found::Piece(joined.into())
    }

    /// How many of the last of `bytes` may be the start of the end. It has one carriage return, at
    /// its beginning.
    fn started(&self, bytes: &[u8]) -> usize {
        let start = memrchr(b'\r', bytes).and_then(|at| bytes.get(at..));
        start.filter(|start| self.end.needle().starts_with(start)).map_or(0, <[u8]>::len)
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            let error = match self.advance() {
                Ok(Progress::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Ok(Progress::End) => return Poll::Ready(None),
                Ok(Progress::More) => match ready!(self.form.content.poll_next(cx)) {
                    None => {
                        self.form.envelope.end();
                        continue;
                    }
                    Some(Ok(Step::Trailer(_))) => continue,
                    Some(Ok(Step::Data(frame))) => {
                        self.form.envelope.put(frame);
                        continue;
                    }
                    Some(Ok(Step::Refused(refusal))) => io::Error::other(refusal),
                    Some(Err(error)) => error,
                },
                Err(refusal) => io::Error::other(refusal),
            };
            self.stage = Stage::Done;
            return Poll::Ready(Some(Err(error)));
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// What the request announces, where it does. The end of the form still has to be read when
    /// nothing of it is left.
    fn size_hint(&self) -> SizeHint {
        match self.expected {
            Some(expected) => SizeHint::with_exact(expected.saturating_sub(self.given)),
            None => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("stage", &self.stage).finish_non_exhaustive()
    }
}

fn count(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
