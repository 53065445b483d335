//! The parts of a form around its payload: boundaries, heads, values of fields. Frames in, events
//! out; no I/O. Only heads and values that are returned are copied.

use bytes::Bytes;
use memchr::memchr_iter;

use super::{FORM, MAX_FIELD_BYTES, MAX_FIELDS, MAX_HEAD_BYTES, PAYLOAD, PAYLOAD_END, Part};
use crate::rules::Refusal;

/// Blanks that may follow a boundary on its line, in bytes. No client sends any.
const MAX_BLANKS: usize = 64;

/// The reader of a form's lines.
#[derive(Debug)]
pub(super) struct Envelope {
    /// `--` and the boundary.
    delimiter: Vec<u8>,
    /// Bytes of values, and of what stands before and after the parts, so far.
    field_bytes: usize,
    /// What is unread of the last frame.
    frame: Bytes,
    is_ended: bool,
    /// The start of a line that began in an earlier frame.
    line: Vec<u8>,
    parts: usize,
    /// The length of the payload, once it is taken by it.
    payload_bytes: u64,
    state: State,
}

/// What is expected next.
#[derive(Debug)]
enum State {
    /// The end of the line of a boundary that has been read.
    AfterBoundary,
    /// The boundary that ends the payload.
    Boundary,
    /// The line break before that boundary.
    Break,
    /// What follows the last boundary and means nothing.
    Epilogue,
    /// The head of a part, so many bytes of it read.
    Head(Part, usize),
    /// What precedes the first boundary and means nothing.
    Preamble,
    /// The value of a field, or the payload. `None` before the first line.
    Value(Option<Vec<u8>>),
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The form and the body are at their end.
    End,
    /// A part begins: its value follows, or the payload.
    Part(Part),
    /// The value of the part that began last.
    Value(Vec<u8>),
}

/// What follows a boundary.
#[derive(Clone, Copy)]
enum Next {
    Close,
    Part,
}

/// A line that is longer than it may be.
struct TooLong;

impl Envelope {
    pub(super) fn new(boundary: &str) -> Self {
        Self {
            delimiter: format!("--{boundary}").into_bytes(),
            field_bytes: 0,
            frame: Bytes::new(),
            is_ended: false,
            line: Vec::new(),
            parts: 0,
            payload_bytes: 0,
            state: State::Preamble,
        }
    }

    /// What ends a payload: a line break and the boundary.
    pub(super) fn terminator(&self) -> Vec<u8> {
        [b"\r\n", &self.delimiter[..]].concat()
    }

    /// The fewest bytes that can follow a payload.
    pub(super) fn least_after_payload(&self) -> usize {
        self.terminator().len() + "--".len()
    }

    /// Takes the next frame, once the last one is used up.
    pub(super) fn put(&mut self, frame: Bytes) {
        self.frame = frame;
    }

    /// Gives the rest of the last frame away.
    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.frame)
    }

    /// The number of bytes that are read and not used.
    pub(super) fn unused(&self) -> usize {
        self.frame.len()
    }

    /// No frame comes any more.
    pub(super) fn end(&mut self) {
        self.is_ended = true;
    }

    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The payload of so many bytes has been taken; its line break and a boundary must follow.
    pub(super) fn expect_break(&mut self, payload_bytes: u64) {
        self.payload_bytes = payload_bytes;
        self.state = State::Break;
    }

    /// The payload has been taken, and the boundary after it.
    pub(super) fn passed_boundary(&mut self) {
        self.state = State::AfterBoundary;
    }

    /// The next event; `None` when it takes another frame.
    pub(super) fn next(&mut self) -> Result<Option<Event>, Refusal> {
        loop {
            if matches!(self.state, State::Epilogue) {
                return self.skip_epilogue();
            }
            let line = self.take_line().map_err(|TooLong| self.too_long())?;
            let Some(line) = line else {
                return if self.is_ended { Err(ended_early()) } else { Ok(None) };
            };
            if let Some(event) = self.accept(line)? {
                return Ok(Some(event));
            }
        }
    }

    fn accept(&mut self, line: Vec<u8>) -> Result<Option<Event>, Refusal> {
        match std::mem::replace(&mut self.state, State::Epilogue) {
            State::AfterBoundary => {
                let next = after_boundary(&line).ok_or_else(|| {
                    Refusal::malformed(PAYLOAD, "its boundary is followed by something else")
                })?;
                self.begin(next)?;
            }
            State::Boundary => {
                let next = self.delimiter(&line).ok_or_else(|| self.misplaced_end())?;
                self.begin(next)?;
            }
            State::Break if line.is_empty() => self.state = State::Boundary,
            State::Break => return Err(self.misplaced_end()),
            State::Epilogue => {}
            State::Head(part, _) if line.is_empty() => {
                self.state = State::Value(None);
                return Ok(Some(Event::Part(part)));
            }
            State::Head(mut part, bytes) => {
                part.read_line(&line)?;
                self.state = State::Head(part, bytes + line.len() + 2);
            }
            State::Preamble => match self.delimiter(&line) {
                Some(next) => self.begin(next)?,
                None => {
                    self.count(line.len() + 2)?;
                    self.state = State::Preamble;
                }
            },
            State::Value(value) => {
                if let Some(next) = self.delimiter(&line) {
                    self.begin(next)?;
                    return Ok(Some(Event::Value(value.unwrap_or_default())));
                }
                self.count(line.len() + 2)?;
                self.state = State::Value(Some(match value {
                    None => line,
                    Some(mut lines) => {
                        lines.extend_from_slice(b"\r\n");
                        lines.extend_from_slice(&line);
                        lines
                    }
                }));
            }
        }
        Ok(None)
    }

    fn begin(&mut self, next: Next) -> Result<(), Refusal> {
        self.state = match next {
            Next::Close => State::Epilogue,
            Next::Part => State::Head(Part::default(), 0),
        };
        self.parts += 1;
        // One more is the payload, and one the end.
        if self.parts > MAX_FIELDS + 2 {
            return Err(Refusal::malformed(FORM, format!("more than {MAX_FIELDS} fields")));
        }
        Ok(())
    }

    /// The next line, without its end. The last one of a body needs none.
    fn take_line(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let limit = self.line_limit();
        let ends_at = memchr_iter(b'\n', &self.frame).find(|at| {
            let before = match at.checked_sub(1) {
                Some(before) => self.frame.get(before),
                None => self.line.last(),
            };
            before == Some(&b'\r')
        });
        let bytes = ends_at.map_or(self.frame.len(), |at| at + 1);
        if self.line.len() + bytes > limit {
            return Err(TooLong);
        }
        self.line.extend_from_slice(&self.frame.split_to(bytes));
        let is_last = ends_at.is_none() && self.is_ended && !self.line.is_empty();
        if ends_at.is_none() && !is_last {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        if ends_at.is_some() {
            line.truncate(line.len().saturating_sub(2));
        }
        Ok(Some(line))
    }

    /// How long the next line may be, its end included.
    fn line_limit(&self) -> usize {
        let boundary = self.delimiter.len() + "--\r\n".len() + MAX_BLANKS;
        match &self.state {
            State::AfterBoundary | State::Boundary | State::Break => boundary,
            State::Head(_, bytes) => MAX_HEAD_BYTES.saturating_sub(*bytes),
            State::Epilogue | State::Preamble | State::Value(_) => {
                boundary + MAX_FIELD_BYTES.saturating_sub(self.field_bytes)
            }
        }
    }

    fn too_long(&self) -> Refusal {
        match &self.state {
            State::AfterBoundary | State::Boundary | State::Break => self.misplaced_end(),
            State::Head(..) => Refusal::malformed(
                FORM,
                format!("the head of a part is longer than {MAX_HEAD_BYTES} bytes"),
            ),
            State::Epilogue | State::Preamble | State::Value(_) => too_large(),
        }
    }

    fn misplaced_end(&self) -> Refusal {
        let bytes = self.payload_bytes;
        Refusal::malformed(
            PAYLOAD_END,
            format!("no boundary follows the {bytes} bytes that are announced"),
        )
    }

    fn skip_epilogue(&mut self) -> Result<Option<Event>, Refusal> {
        self.count(self.frame.len() + self.line.len())?;
        self.frame.clear();
        self.line.clear();
        Ok(self.is_ended.then_some(Event::End))
    }

    fn count(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.field_bytes += bytes;
        if self.field_bytes > MAX_FIELD_BYTES {
            return Err(too_large());
        }
        Ok(())
    }

    fn delimiter(&self, line: &[u8]) -> Option<Next> {
        line.strip_prefix(&self.delimiter[..]).and_then(after_boundary)
    }
}

/// What comes after a boundary that `rest` follows on its line.
fn after_boundary(rest: &[u8]) -> Option<Next> {
    let (dashes, blanks) = rest.split_at(if rest.starts_with(b"--") { 2 } else { 0 });
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    if !blanks.iter().all(is_blank) {
        None
    } else if dashes.is_empty() {
        Some(Next::Part)
    } else {
        Some(Next::Close)
    }
}

/// The body is over and the form is not.
pub(super) fn ended_early() -> Refusal {
    Refusal::malformed(FORM, "the form ends before its closing boundary")
}

fn too_large() -> Refusal {
    Refusal::malformed(FORM, format!("its fields are larger than {MAX_FIELD_BYTES} bytes together"))
}
