//! The one copy loop: frame -> digest -> writer, under the plan's limits, with checkpoints beside.

use std::{
    future::{Future, poll_fn},
    io,
    ops::Range,
    pin::pin,
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use http::Extensions;

use super::{
    Engine, refusal_of,
    writers::{Reservation, Signal, Stop},
};
use crate::{
    content::{Content, Step, Trailer},
    rules::{
        Checksum, Refusal,
        write::{Block, BodyEnd, Recorded, Segment, WritePlan},
    },
    store::{ByteStream, Pending, StoreError, Writer},
    upload::{Digester, Upload},
};

/// Takes the body of one write into the store.
pub(super) struct Ingest<'a> {
    /// Blocks that are durable and not recorded.
    blocks: Vec<Block>,
    checkpoint: Option<Pending<Result<Arc<Upload>, Refusal>>>,
    content: &'a mut Content,
    /// Apart, because few writes have one, and it is as large as all the rest.
    digester: Option<Box<Digester>>,
    engine: &'a Engine,
    /// The position that the checkpoint under way records up to.
    checkpointing: u64,
    /// The request to flush that the checkpoint under way answers.
    flush: u64,
    last_byte: Instant,
    last_checkpoint: Instant,
    /// What the upload has from `pushed` on, while that is compared.
    original: Option<Original>,
    plan: &'a WritePlan,
    /// The end of what has been taken in.
    pushed: u64,
    /// The end of what is recorded.
    recorded: u64,
    reservation: &'a Reservation,
    /// What the bytes at `pushed` are, and how many segments there were.
    segment: Option<Segment>,
    segments: u64,
    trailer: Trailer,
    /// The record, as of the last checkpoint.
    upload: Arc<Upload>,
    /// Where the bytes go that came since the position beside it.
    writer: Option<(u64, Box<dyn Writer>)>,
}

/// Bytes that an upload has, to be compared with those that come again.
struct Original {
    at_hand: Bytes,
    stream: ByteStream,
}

/// What came of a body.
pub(super) struct Arrived {
    /// Blocks that are durable and not recorded.
    pub(super) blocks: Vec<Block>,
    /// The digest over it if it has a checksum, otherwise over all bytes of the upload up to its
    /// end, if one was wanted and known.
    pub(super) digester: Option<Box<Digester>>,
    pub(super) end: BodyEnd,
    /// The bytes that are not durable yet, and not recorded.
    pub(super) pushed: Option<(Range<u64>, Box<dyn Writer>)>,
    /// The position after the last byte that came.
    pub(super) reached: u64,
    /// What came after the bytes.
    pub(super) trailer: Trailer,
    /// The record, as of the last checkpoint.
    pub(super) upload: Arc<Upload>,
}

impl From<Stop> for BodyEnd {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Displaced => Self::Interrupted(Refusal::Displaced),
            Stop::ShuttingDown => Self::Interrupted(Refusal::ShuttingDown),
            Stop::Terminated => Self::Failed(Refusal::Unknown),
        }
    }
}

enum Event {
    Checkpointed(Result<Arc<Upload>, Refusal>),
    Signal(Signal),
    Step(Option<io::Result<Step>>),
    Tick,
}

impl<'a> Ingest<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        upload: Arc<Upload>,
        plan: &'a WritePlan,
        reservation: &'a Reservation,
        content: &'a mut Content,
    ) -> Self {
        let known = |algorithm| engine.0.records.digests.up_to(&upload, plan.at, algorithm);
        let digester = match &plan.checksum {
            Checksum::Given(digest) => Some(digest.algorithm.digester()),
            // What comes in the trailer is over this body alone.
            Checksum::Trailing if plan.at > 0 => None,
            Checksum::None | Checksum::Trailing => plan.digest.and_then(known),
        };
        let now = Instant::now();
        Self {
            blocks: Vec::new(),
            checkpoint: None,
            checkpointing: plan.at,
            content,
            digester: digester.map(Box::new),
            engine,
            flush: 0,
            last_byte: now,
            last_checkpoint: now,
            original: None,
            plan,
            pushed: plan.at,
            recorded: plan.at,
            reservation,
            segment: None,
            segments: 0,
            trailer: Trailer::default(),
            upload,
            writer: None,
        }
    }

    /// Runs the loop to the end of the body, or until it must stop.
    ///
    /// # Cancel safety
    /// Bytes not recorded are lost when dropped; the engine runs it to the end.
    pub(super) async fn run(&mut self) -> Arrived {
        let mut end = self.copy().await;
        self.reservation.works();
        if let Some(checkpoint) = self.checkpoint.take()
            && let Err(refusal) = self.checkpointed(checkpoint.await)
        {
            end = BodyEnd::Failed(refusal);
        }
        let reached = self.pushed;
        let writer = self.writer.take();
        Arrived {
            blocks: std::mem::take(&mut self.blocks),
            digester: self.digester.take(),
            end,
            pushed: writer.map(|(since, writer)| (since.max(self.recorded)..reached, writer)),
            reached,
            trailer: std::mem::take(&mut self.trailer),
            upload: Arc::clone(&self.upload),
        }
    }

    async fn copy(&mut self) -> BodyEnd {
        loop {
            let result = match self.next().await {
                Event::Checkpointed(result) => self.checkpointed(result).map_err(BodyEnd::Failed),
                Event::Signal(Signal::Stop(stop)) => return stop.into(),
                Event::Signal(Signal::Flush(flush)) => {
                    self.flush_for(flush);
                    Ok(())
                }
                Event::Step(Some(Ok(Step::Data(bytes)))) => self.take(bytes).await,
                Event::Step(Some(Ok(Step::Trailer(trailer)))) => {
                    self.trailer = trailer;
                    Ok(())
                }
                Event::Step(Some(Ok(Step::Refused(refusal)))) => {
                    return BodyEnd::Refused(refusal);
                }
                Event::Step(Some(Err(error))) => {
                    tracing::debug!(id = %self.upload.id, %error, "body cut off");
                    return BodyEnd::Interrupted(Refusal::Abandoned);
                }
                Event::Step(None) => return self.end(),
                Event::Tick if self.last_byte.elapsed() >= self.engine.limits().idle_timeout => {
                    tracing::info!(id = %self.upload.id, "no byte within the idle timeout");
                    return BodyEnd::Interrupted(Refusal::Abandoned);
                }
                Event::Tick => Ok(()),
            };
            if let Err(ending) = result {
                return ending;
            }
            self.checkpoint_if_due();
        }
    }

    /// What happens next. A body that has data at hand needs no timer.
    async fn next(&mut self) -> Event {
        if self.reservation.signalled()
            && let Some(signal) = now_or_never(self.reservation.signal()).await
        {
            return Event::Signal(signal);
        }
        if let Some(checkpoint) = &mut self.checkpoint
            && let Some(result) = now_or_never(checkpoint).await
        {
            return Event::Checkpointed(result);
        }
        if let Some(step) = now_or_never(self.content.next()).await {
            self.reservation.works();
            return Event::Step(step);
        }
        self.reservation.waits();
        let wake_at = self.wake_at();
        let checkpoint = async {
            match &mut self.checkpoint {
                Some(checkpoint) => checkpoint.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            signal = self.reservation.signal() => Event::Signal(signal),
            result = checkpoint => Event::Checkpointed(result),
            step = self.content.next() => {
                self.reservation.works();
                Event::Step(step)
            }
            () = sleep_until(wake_at) => Event::Tick,
        }
    }

    fn wake_at(&self) -> Instant {
        let limits = self.engine.limits();
        let idle = self.last_byte + limits.idle_timeout;
        if self.can_checkpoint() {
            idle.min(self.last_checkpoint + limits.checkpoint_interval)
        } else {
            idle
        }
    }

    /// The body has come to its proper end.
    fn end(&self) -> BodyEnd {
        if self.plan.exact && self.pushed < self.plan.end {
            let expected = self.plan.end.saturating_sub(self.plan.at);
            let given = self.pushed.saturating_sub(self.plan.at);
            return BodyEnd::Refused(Refusal::BodyLengthWrong { expected, given });
        }
        BodyEnd::Whole
    }

    async fn take(&mut self, mut bytes: Bytes) -> Result<(), BodyEnd> {
        if length(&bytes) > self.plan.end.saturating_sub(self.pushed) {
            return Err(BodyEnd::Refused(self.plan.overflow.clone()));
        }
        if let Some(digester) = &mut self.digester {
            digester.update(&bytes);
        }
        let (start, frame) = (self.pushed, bytes.clone());
        while !bytes.is_empty() {
            let (end, segment) = self.plan.segment(self.pushed);
            self.enter(segment)?;
            let room = usize::try_from(end - self.pushed).unwrap_or(usize::MAX);
            let run = bytes.split_to(room.min(bytes.len()));
            let count = length(&run);
            match segment {
                Segment::Missing => self.put(run).await?,
                Segment::Present => {
                    if let Err(end) = self.compare(run).await {
                        // A new upload may still take this frame, and the equal bytes before it.
                        self.pushed = start;
                        self.content.put_back(frame);
                        return Err(end);
                    }
                }
            }
            self.pushed += count;
        }
        // After the push: time that the store takes is not the client's silence.
        self.last_byte = Instant::now();
        Ok(())
    }

    /// Counts the segments of the body. Each costs a look into the store, however short it is.
    fn enter(&mut self, segment: Segment) -> Result<(), BodyEnd> {
        if self.segment.replace(segment) == Some(segment) {
            return Ok(());
        }
        self.segments += 1;
        let taken_bytes = self.pushed - self.plan.at;
        self.plan.check_segments(self.segments, taken_bytes).map_err(BodyEnd::Refused)
    }

    async fn put(&mut self, bytes: Bytes) -> Result<(), BodyEnd> {
        self.original = None;
        let id = &self.upload.id;
        let failed = |error: StoreError| BodyEnd::Failed(refusal_of(id, &error));
        if self.writer.is_none() {
            let writer = self.engine.store().write(&self.upload, self.pushed).await;
            self.writer = Some((self.pushed, writer.map_err(failed)?));
        }
        match &mut self.writer {
            Some((_, writer)) => writer.push(bytes).await.map_err(failed),
            None => Ok(()),
        }
    }

    /// Compares with what the upload has, which stays as it is (J-022).
    async fn compare(&mut self, mut bytes: Bytes) -> Result<(), BodyEnd> {
        let id = &self.upload.id;
        let failed = |error: StoreError| BodyEnd::Failed(refusal_of(id, &error));
        if let Some((since, writer)) = self.writer.take() {
            let receipt = writer.finish().await.map_err(failed)?;
            // What a checkpoint under way records is not recorded once more.
            self.blocks.push((since.max(self.checkpointing)..self.pushed, receipt));
        }
        let mut at = self.pushed;
        while !bytes.is_empty() {
            let original = match &mut self.original {
                Some(original) => original,
                none => {
                    let (end, _) = self.plan.segment(at);
                    let stream = self.engine.store().read(&self.upload, at..end).await;
                    let stream = stream.map_err(failed)?;
                    none.insert(Original { at_hand: Bytes::new(), stream })
                }
            };
            if original.at_hand.is_empty() {
                let stream = &mut original.stream;
                original.at_hand = match stream.next().await {
                    Some(Ok(bytes)) => bytes,
                    Some(Err(source)) => return Err(failed(StoreError::io("comparing", source))),
                    None => return Err(failed(StoreError::Damaged("bytes are missing".into()))),
                };
                continue;
            }
            let count = bytes.len().min(original.at_hand.len());
            let (given, present) = (bytes.split_to(count), original.at_hand.split_to(count));
            if given != present {
                let equal = given.iter().zip(&present).take_while(|(a, b)| a == b).count();
                at += u64::try_from(equal).unwrap_or(u64::MAX);
                let conflict = self.plan.conflict.clone();
                let refusal = conflict.unwrap_or(Refusal::ContentConflict { at });
                return Err(BodyEnd::Refused(refusal));
            }
            at += u64::try_from(count).unwrap_or(u64::MAX);
        }
        Ok(())
    }

    /// Bytes that make the upload full are recorded together with its completion, never before.
    fn can_checkpoint(&self) -> bool {
        self.plan.is_incremental()
            && self.checkpoint.is_none()
            && self.recorded < self.pushed
            && self.pushed < self.plan.fills_at()
    }

    fn checkpoint_if_due(&mut self) {
        let limits = self.engine.limits();
        if self.can_checkpoint()
            && (self.pushed - self.recorded >= limits.checkpoint_bytes
                || self.last_checkpoint.elapsed() >= limits.checkpoint_interval)
        {
            self.start_checkpoint();
        }
    }

    fn flush_for(&mut self, flush: u64) {
        if self.can_checkpoint() {
            self.flush = flush;
            self.start_checkpoint();
        } else if self.checkpoint.is_some() {
            // The one under way is young enough: its bytes are at most one checkpoint old.
            self.flush = flush;
        } else {
            self.reservation.flushed(flush);
        }
    }

    fn start_checkpoint(&mut self) {
        self.last_checkpoint = Instant::now();
        let writer = self.writer.as_mut();
        let receipt = writer
            .map(|(since, writer)| ((*since).max(self.recorded)..self.pushed, writer.checkpoint()));
        let mut blocks = std::mem::take(&mut self.blocks);
        let (engine, plan) = (self.engine.clone(), self.plan.clone());
        let upload = Arc::clone(&self.upload);
        self.checkpointing = self.pushed;
        self.checkpoint = Some(Box::pin(async move {
            if let Some((range, receipt)) = receipt {
                let receipt = receipt.await.map_err(|error| refusal_of(&upload.id, &error))?;
                blocks.push((range, receipt));
            }
            let recorded = Recorded { blocks: &blocks, ..Recorded::default() };
            engine.record(upload, &plan, recorded, &Extensions::new()).await.map(|(now, _)| now)
        }));
    }

    fn checkpointed(&mut self, result: Result<Arc<Upload>, Refusal>) -> Result<(), Refusal> {
        self.checkpoint = None;
        self.upload = result?;
        self.recorded = self.checkpointing;
        self.content.report(&self.upload);
        self.reservation.flushed(self.flush);
        Ok(())
    }
}

/// What `future` yields if it is ready; otherwise it is dropped, so it must be cancel safe.
async fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
