//! The engine on the memory store, in paused time: no socket, no file.

mod keyed;
#[expect(clippy::wildcard_enum_match_arm, reason = "a model says only where things differ")]
mod model;
mod on_request;

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Mutex, atomic::AtomicU64, atomic::Ordering},
    task::{Context, Poll},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;

use super::*;
use crate::{
    rules::{At, Checksum, Denial, Finished, Join, NewUpload, Target, Test, Wait, Write},
    store::{
        StoreError,
        faulty::{FaultyStore, Operation},
        memory::MemoryStore,
    },
    upload::{Algorithm, Digest, Event, Key, Metadata, Ranges, Role},
};

/// A body that a test feeds frame by frame.
struct Feed(mpsc::UnboundedReceiver<io::Result<Bytes>>);

impl Body for Feed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map_ok(Frame::data)
    }
}

type Sender = mpsc::UnboundedSender<io::Result<Bytes>>;

fn fed() -> (Sender, Content) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Content::new(Feed(receiver)))
}

fn whole(bytes: &[u8]) -> Content {
    Content::new(http_body_util::Full::new(Bytes::copy_from_slice(bytes)))
}

fn cut() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// Hooks that write down what they hear, and fail on cue.
#[derive(Default)]
struct Log {
    finishes: Mutex<VecDeque<Result<Finished, Denial>>>,
    heard: Mutex<Vec<String>>,
}

impl Log {
    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.lock().expect("not poisoned"))
    }

    fn note(&self, what: impl Into<String>) {
        self.heard.lock().expect("not poisoned").push(what.into());
    }
}

struct Hooks(Arc<Log>);

impl Observer for Hooks {
    fn event(&self, _: &Upload, event: Event) {
        self.0.note(match event {
            Event::Completed => "completed",
            Event::Created => "created",
            Event::Expired => "expired",
            Event::LengthDeclared { .. } => "length",
            Event::Received { .. } => "received",
            Event::Removed => "removed",
        });
    }
}

#[async_trait::async_trait]
impl Finisher for Hooks {
    async fn finish(&self, finishing: Finishing<'_>) -> Result<Finished, Denial> {
        self.0.note(format!("finish at {}", finishing.upload.offset()));
        let next = self.0.finishes.lock().expect("not poisoned").pop_front();
        next.unwrap_or_else(|| Ok(Finished::default()))
    }
}

/// An engine with its store, hooks and clock.
struct Bench {
    clock: Arc<AtomicU64>,
    engine: Engine,
    log: Arc<Log>,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self::on(Arc::new(MemoryStore::default()), limits)
    }

    fn on(store: Arc<dyn Store>, limits: Limits) -> Self {
        let log = Arc::new(Log::default());
        let clock = Arc::new(AtomicU64::new(0));
        let seconds = Arc::clone(&clock);
        let now = move || UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::SeqCst));
        let engine = Engine::builder(store)
            .limits(limits)
            .finisher(Hooks(Arc::clone(&log)))
            .observer(Hooks(Arc::clone(&log)))
            .clock(Arc::new(now))
            .build();
        Self { clock, engine, log }
    }

    async fn run(&self, intent: Intent, content: Content) -> Result<Outcome, Refusal> {
        let result = self.engine.run(intent, content, &Extensions::new()).await;
        result.map_err(|refused| refused.refusal)
    }

    /// Runs beside the test, as the service does it.
    fn spawn(
        &self,
        intent: Intent,
        content: Content,
    ) -> tokio::task::JoinHandle<Result<Outcome, Refusal>> {
        let engine = self.engine.clone();
        tokio::spawn(async move {
            let result = engine.run(intent, content, &Extensions::new()).await;
            result.map_err(|refused| refused.refusal)
        })
    }

    async fn create(&self, length: Option<u64>, role: Role) -> UploadId {
        let new = NewUpload { length, role, ..NewUpload::default() };
        let outcome = self.run(creation(new, Checksum::None), Content::empty()).await;
        stored(outcome).expect("created").0.id.clone()
    }

    async fn write(&self, id: &UploadId, at: u64, bytes: &[u8]) -> Result<u64, Refusal> {
        Ok(stored(self.run(append(id, at), whole(bytes)).await)?.1)
    }

    async fn status(&self, id: &UploadId) -> Result<Arc<Upload>, Refusal> {
        let intent = Intent::Status { of: Subject::Id(id.clone()) };
        let Outcome::Status { upload } = self.run(intent, Content::empty()).await? else {
            unreachable!("status yields a status")
        };
        Ok(upload)
    }

    async fn offset(&self, id: &UploadId) -> u64 {
        self.status(id).await.expect("there").offset()
    }

    async fn fetch(&self, id: &UploadId) -> Result<Vec<u8>, Refusal> {
        let intent = Intent::Fetch { id: id.clone(), selection: Selection::All };
        let Outcome::Fetched { bytes: Some(mut bytes), .. } =
            self.run(intent, Content::empty()).await?
        else {
            unreachable!("all bytes are asked for")
        };
        let mut all = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| bytes.stream.as_mut().poll_next(cx)).await
        {
            all.extend_from_slice(&frame.expect("memory does not fail"));
        }
        Ok(all)
    }

    async fn uploads(&self) -> usize {
        let mut list = self.engine.store().list();
        let mut count = 0;
        while list.next().await.is_some() {
            count += 1;
        }
        count
    }
}

fn bench() -> Bench {
    Bench::new(Limits::default())
}

/// A write as tus clients make it.
fn write_to(target: Target, at: At) -> Write {
    let limits = Limits::default();
    let wait = Wait { at_most: limits.lock_wait, stall_after: limits.stall_after };
    Write::new(target, at, wait)
}

fn creation(new: NewUpload, checksum: Checksum) -> Intent {
    Intent::Write(Write { checksum, ..write_to(Target::New(new), At::Offset(0)) })
}

fn append(id: &UploadId, at: u64) -> Intent {
    append_with(id, at, None, Checksum::None)
}

fn append_with(id: &UploadId, at: u64, length: Option<u64>, checksum: Checksum) -> Intent {
    let write = write_to(Target::Existing(id.clone()), At::Offset(at));
    Intent::Write(Write { checksum, length, ..write })
}

fn removal(id: &UploadId) -> Intent {
    Intent::Terminate { of: Subject::Id(id.clone()) }
}

fn join(partials: &[&UploadId]) -> Intent {
    Intent::Join(Join {
        content_bytes: Some(0),
        length: None,
        metadata: Metadata::default(),
        owner: None,
        partials: partials.iter().map(|id| (*id).clone()).collect(),
        text: String::new(),
    })
}

fn stored(outcome: Result<Outcome, Refusal>) -> Result<(Arc<Upload>, u64), Refusal> {
    let Outcome::Written { upload, offset, .. } = outcome? else { unreachable!("a write stores") };
    Ok((upload, offset))
}

fn sha1(bytes: &[u8]) -> Checksum {
    let mut digester = Algorithm::Sha1.digester();
    digester.update(bytes);
    Checksum::Given(digester.finish())
}

/// Lets every task run until it waits for something a test controls.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn upload_in_two_writes_completes_once() {
    let bench = bench();
    let id = bench.create(Some(10), Role::Whole).await;
    assert_eq!(bench.log.heard(), ["created"]);
    assert_eq!(bench.write(&id, 0, b"01234").await, Ok(5));
    assert_eq!(bench.fetch(&id).await, Err(Refusal::Unknown));
    assert_eq!(bench.write(&id, 5, b"56789").await, Ok(10));
    assert_eq!(bench.log.heard(), ["received", "finish at 10", "received", "completed"]);
    assert_eq!(bench.write(&id, 10, b"").await, Ok(10), "D-10: an empty repeat succeeds");
    assert_eq!(bench.log.heard(), [""; 0]);
    assert_eq!(bench.fetch(&id).await.as_deref(), Ok(&b"0123456789"[..]));
}

#[tokio::test(start_paused = true)]
async fn empty_upload_is_complete_at_creation() {
    let bench = bench();
    let id = bench.create(Some(0), Role::Whole).await;
    assert_eq!(bench.log.heard(), ["finish at 0", "created", "completed"]);
    assert_eq!(bench.fetch(&id).await.as_deref(), Ok(&b""[..]));
}

#[tokio::test(start_paused = true)]
async fn completion_step_that_fails_for_now_leaves_the_offset_and_is_repeated() {
    let bench = bench();
    let id = bench.create(Some(10), Role::Whole).await;
    assert_eq!(bench.write(&id, 0, b"01234").await, Ok(5));
    let denial = Denial::unavailable("later", Duration::from_secs(1));
    bench.log.finishes.lock().expect("not poisoned").push_back(Err(denial.clone()));
    assert_eq!(bench.write(&id, 5, b"56789").await, Err(Refusal::Denied(denial)));
    assert_eq!(bench.offset(&id).await, 5);
    bench.log.heard();
    assert_eq!(bench.write(&id, 5, b"56789").await, Ok(10));
    assert_eq!(bench.log.heard(), ["finish at 10", "received", "completed"]);
}

#[tokio::test(start_paused = true)]
async fn completion_step_that_says_no_for_good_removes_the_upload() {
    let bench = bench();
    let id = bench.create(Some(5), Role::Whole).await;
    let denial = Denial::invalid("not this");
    bench.log.finishes.lock().expect("not poisoned").push_back(Err(denial.clone()));
    assert_eq!(bench.write(&id, 0, b"01234").await, Err(Refusal::Denied(denial)));
    assert_eq!(bench.status(&id).await, Err(Refusal::Unknown));
    assert_eq!(bench.uploads().await, 0);
}

#[tokio::test(start_paused = true)]
async fn body_cut_off_keeps_every_byte_unless_checksummed() {
    let bench = bench();
    for (checksum, kept) in [(Checksum::None, 4), (sha1(b"01234567"), 0), (Checksum::Trailing, 0)] {
        let id = bench.create(Some(10), Role::Whole).await;
        let (sender, content) = fed();
        sender.send(Ok(Bytes::from_static(b"0123"))).expect("open");
        sender.send(Err(cut())).expect("open");
        let result = bench.run(append_with(&id, 0, None, checksum), content).await;
        assert_eq!(result.err(), Some(Refusal::Abandoned));
        assert_eq!(bench.offset(&id).await, kept);
    }
}

#[tokio::test(start_paused = true)]
async fn creation_cut_off_keeps_its_bytes_and_a_refused_one_leaves_nothing() {
    let bench = bench();
    let new = || NewUpload { length: Some(10), ..NewUpload::default() };
    let (sender, content) = fed();
    sender.send(Ok(Bytes::from_static(b"0123"))).expect("open");
    sender.send(Err(cut())).expect("open");
    let (upload, offset) =
        stored(bench.run(creation(new(), Checksum::None), content).await).expect("T-063");
    assert_eq!((upload.offset(), offset), (4, 4));
    assert_eq!(bench.uploads().await, 1);
    for (checksum, body, refusal) in [
        (sha1(b"other"), &b"01234"[..], Refusal::ChecksumMismatch),
        (Checksum::None, b"0123456789a", Refusal::BodyTooLong { length: 10 }),
    ] {
        let result = bench.run(creation(new(), checksum), whole(body)).await;
        assert_eq!(result.err(), Some(refusal));
        assert_eq!(bench.uploads().await, 1, "I-04");
    }
}

#[tokio::test(start_paused = true)]
async fn checksums_decide_whether_bytes_count() {
    let bench = bench();
    let id = bench.create(Some(10), Role::Whole).await;
    let wrong = Checksum::Given(Digest { algorithm: Algorithm::Md5, value: vec![0; 16] });
    let result = bench.run(append_with(&id, 0, None, wrong), whole(b"01234")).await;
    assert_eq!(result.err(), Some(Refusal::ChecksumMismatch));
    assert_eq!(bench.offset(&id).await, 0);
    let right = append_with(&id, 0, None, sha1(b"01234"));
    assert_eq!(stored(bench.run(right, whole(b"01234")).await).map(|s| s.1), Ok(5));
}

#[tokio::test(start_paused = true)]
async fn status_during_a_write_tells_a_safe_offset_and_the_write_goes_on() {
    let bench = bench();
    for (checksum, told) in [(Checksum::None, 4), (sha1(b"0123456789"), 0)] {
        let id = bench.create(Some(10), Role::Whole).await;
        let (sender, content) = fed();
        let write = bench.spawn(append_with(&id, 0, None, checksum), content);
        sender.send(Ok(Bytes::from_static(b"0123"))).expect("open");
        settle().await;
        assert_eq!(bench.offset(&id).await, told);
        sender.send(Ok(Bytes::from_static(b"456789"))).expect("open");
        drop(sender);
        let result = write.await.expect("no panic");
        assert_eq!(stored(result).map(|s| s.1), Ok(10));
        assert_eq!(bench.fetch(&id).await.as_deref(), Ok(&b"0123456789"[..]));
    }
}

#[tokio::test(start_paused = true)]
async fn progress_is_heard_before_the_outcome() {
    let bench = Bench::new(Limits { checkpoint_bytes: 4, ..Limits::default() });
    let (sender, content) = fed();
    let (progress, mut heard) = mpsc::unbounded_channel();
    let content = content.with_progress(Box::new(move |upload| {
        let _ = progress.send(upload.offset());
    }));
    let new = NewUpload { length: Some(9), ..NewUpload::default() };
    let write = bench.spawn(creation(new, Checksum::None), content);
    assert_eq!(heard.recv().await, Some(0), "the record is made");
    sender.send(Ok(Bytes::from_static(b"0123"))).expect("open");
    assert_eq!(heard.recv().await, Some(4), "a checkpoint");
    sender.send(Ok(Bytes::from_static(b"45678"))).expect("open");
    drop(sender);
    assert_eq!(stored(write.await.expect("no panic")).map(|s| s.1), Ok(9));
    assert_eq!(heard.recv().await, None, "the outcome says the rest");
}

#[tokio::test(start_paused = true)]
async fn long_body_is_checkpointed_by_bytes_and_by_time() {
    let limits = Limits {
        checkpoint_bytes: 4,
        checkpoint_interval: Duration::from_secs(1),
        ..Limits::default()
    };
    let bench = Bench::new(limits);
    let id = bench.create(Some(10), Role::Whole).await;
    let (sender, content) = fed();
    let write = bench.spawn(append(&id, 0), content);
    let recorded = || async { bench.engine.store().load(&id).await.expect("there").offset() };
    sender.send(Ok(Bytes::from_static(b"012"))).expect("open");
    settle().await;
    assert_eq!(recorded().await, 0);
    sender.send(Ok(Bytes::from_static(b"3"))).expect("open");
    settle().await;
    assert_eq!(recorded().await, 4);
    sender.send(Ok(Bytes::from_static(b"4"))).expect("open");
    settle().await;
    assert_eq!(recorded().await, 4);
    tokio::time::advance(Duration::from_secs(1)).await;
    settle().await;
    assert_eq!(recorded().await, 5);
    // The bytes that make it full wait for the completion.
    sender.send(Ok(Bytes::from_static(b"56789"))).expect("open");
    settle().await;
    assert_eq!(recorded().await, 5);
    drop(sender);
    assert_eq!(stored(write.await.expect("no panic")).map(|s| s.1), Ok(10));
}

#[tokio::test(start_paused = true)]
async fn refused_write_keeps_what_was_recorded_and_completes_nothing_i_03() {
    let limits = Limits { checkpoint_bytes: 1, ..Limits::default() };
    let bench = Bench::new(limits);
    let id = bench.create(Some(10), Role::Whole).await;
    let (sender, content) = fed();
    let write = bench.spawn(append(&id, 0), content);
    sender.send(Ok(Bytes::from_static(b"0123"))).expect("open");
    settle().await;
    assert_eq!(bench.offset(&id).await, 4);
    // The last bytes and one more in one frame: none of them is taken.
    sender.send(Ok(Bytes::from_static(b"456789a"))).expect("open");
    let result = write.await.expect("no panic");
    assert_eq!(result.err(), Some(Refusal::BodyTooLong { length: 10 }));
    assert_eq!(bench.offset(&id).await, 4, "D-12");
    assert_eq!(bench.write(&id, 4, b"456789").await, Ok(10));
}

#[tokio::test(start_paused = true)]
async fn length_declared_without_a_checksum_outlives_its_body_d_18() {
    let bench = bench();
    for end in [Err(cut()), Ok(Bytes::from_static(b"0123456789a"))] {
        let id = bench.create(None, Role::Whole).await;
        let (sender, content) = fed();
        sender.send(end).expect("open");
        drop(sender);
        let _ = bench.run(append_with(&id, 0, Some(10), Checksum::None), content).await;
        assert_eq!(bench.status(&id).await.expect("there").length, Some(10));
    }
    let id = bench.create(None, Role::Whole).await;
    let result = bench.run(append_with(&id, 0, Some(10), sha1(b"x")), whole(b"y")).await;
    assert_eq!(result.err(), Some(Refusal::ChecksumMismatch));
    assert_eq!(bench.status(&id).await.expect("there").length, None, "T-084");
}

#[tokio::test(start_paused = true)]
async fn empty_write_that_declares_the_length_completes() {
    let bench = bench();
    let id = bench.create(None, Role::Whole).await;
    assert_eq!(bench.write(&id, 0, b"01234").await, Ok(5));
    let last = append_with(&id, 5, Some(5), Checksum::None);
    assert_eq!(stored(bench.run(last, Content::empty()).await).map(|s| s.1), Ok(5));
    assert!(bench.status(&id).await.expect("there").is_complete());
}

#[tokio::test(start_paused = true)]
async fn silent_client_is_given_up_after_the_idle_timeout() {
    let bench = bench();
    let id = bench.create(Some(10), Role::Whole).await;
    let (sender, content) = fed();
    let write = bench.spawn(append(&id, 0), content);
    sender.send(Ok(Bytes::from_static(b"0123"))).expect("open");
    let result = write.await.expect("no panic");
    assert_eq!(result.err(), Some(Refusal::Abandoned));
    assert_eq!(bench.offset(&id).await, 4);
}

#[tokio::test(start_paused = true)]
async fn newcomer_takes_over_from_a_silent_writer() {
    let bench = bench();
    let id = bench.create(Some(10), Role::Whole).await;
    let (sender, content) = fed();
    let silent = bench.spawn(append(&id, 0), content);
    sender.send(Ok(Bytes::from_static(b"0123"))).expect("open");
    settle().await;
    assert_eq!(
        bench.write(&id, 0, b"0123").await,
        Err(Refusal::OffsetMismatch { expected: 4, given: 0 }),
        "its own offset decides after the take-over"
    );
    assert_eq!(silent.await.expect("no panic").err(), Some(Refusal::Displaced));
    assert_eq!(bench.write(&id, 4, b"456789").await, Ok(10));
}

#[tokio::test(start_paused = true)]
async fn write_to_an_upload_that_another_engine_has_completed_is_displaced() {
    let store = MemoryStore::new();
    let [bench, other] = [(); 2].map(|()| Bench::on(Arc::new(store.clone()), Limits::default()));
    let id = bench.create(Some(5), Role::Whole).await;
    let (sender, content) = fed();
    let write = bench.spawn(append(&id, 0), content);
    settle().await;
    assert_eq!(other.write(&id, 0, b"01234").await, Ok(5));
    sender.send(Ok(Bytes::from_static(b"x"))).expect("open");
    assert_eq!(write.await.expect("no panic").err(), Some(Refusal::Displaced));
    assert_eq!(bench.fetch(&id).await.as_deref(), Ok(&b"01234"[..]));
}

#[tokio::test(start_paused = true)]
async fn removal_stops_a_running_write() {
    let bench = bench();
    let id = bench.create(Some(10), Role::Whole).await;
    let (sender, content) = fed();
    let write = bench.spawn(append(&id, 0), content);
    sender.send(Ok(Bytes::from_static(b"0123"))).expect("open");
    settle().await;
    let removed = bench.run(removal(&id), Content::empty()).await;
    assert!(matches!(removed, Ok(Outcome::Terminated)));
    assert_eq!(write.await.expect("no panic").err(), Some(Refusal::Unknown));
    assert_eq!(bench.status(&id).await, Err(Refusal::Unknown));
    let again = bench.run(removal(&id), Content::empty()).await;
    assert_eq!(again.err(), Some(Refusal::Unknown));
}

#[tokio::test(start_paused = true)]
async fn closing_keeps_what_running_writes_brought() {
    let bench = bench();
    let id = bench.create(Some(10), Role::Whole).await;
    let (sender, content) = fed();
    let write = bench.spawn(append(&id, 0), content);
    sender.send(Ok(Bytes::from_static(b"0123"))).expect("open");
    settle().await;
    bench.engine.close().await;
    assert_eq!(write.await.expect("no panic").err(), Some(Refusal::ShuttingDown));
    assert_eq!(bench.offset(&id).await, 4);
    assert_eq!(bench.write(&id, 4, b"4").await, Err(Refusal::ShuttingDown));
}

#[tokio::test(start_paused = true)]
async fn final_upload_is_its_parts_in_order_and_survives_them() {
    let bench = bench();
    let (a, b) = (
        bench.create(Some(3), Role::partial()).await,
        bench.create(Some(2), Role::partial()).await,
    );
    assert_eq!(
        bench.run(join(&[&a]), Content::empty()).await.err(),
        Some(Refusal::PartialUnfinished { id: a.clone() })
    );
    assert_eq!(bench.write(&a, 0, b"abc").await, Ok(3));
    assert_eq!(bench.write(&b, 0, b"de").await, Ok(2));
    assert!(!bench.log.heard().iter().any(|heard| heard.starts_with("finish")), "T-102");
    let (upload, offset) =
        stored(bench.run(join(&[&b, &a, &b]), Content::empty()).await).expect("joined");
    assert_eq!(offset, 7);
    assert_eq!(bench.log.heard(), ["finish at 7", "created", "received", "completed"]);
    for id in [&a, &b] {
        assert_eq!(bench.fetch(id).await, Err(Refusal::Unknown), "D-51");
        let removed = bench.run(removal(id), Content::empty()).await;
        assert!(matches!(removed, Ok(Outcome::Terminated)));
    }
    assert_eq!(bench.fetch(&upload.id).await.as_deref(), Ok(&b"deabcde"[..]));
    assert_eq!(bench.write(&upload.id, 0, b"x").await, Err(Refusal::FinalUpload));
    let whole = bench.create(Some(0), Role::Whole).await;
    assert_eq!(
        bench.run(join(&[&whole]), Content::empty()).await.err(),
        Some(Refusal::NotPartial { id: whole })
    );
}

#[tokio::test(start_paused = true)]
async fn pending_final_completes_when_it_is_asked_for_or_swept() {
    let bench = Bench::new(Limits { join_unfinished: true, ..Limits::default() });
    for is_asked in [true, false] {
        let a = bench.create(Some(3), Role::partial()).await;
        let b = bench.create(None, Role::partial()).await;
        let joined = stored(bench.run(join(&[&a, &b]), Content::empty()).await);
        let id = joined.expect("T-105").0.id.clone();
        assert_eq!(bench.status(&id).await.expect("there").length, None);
        assert_eq!(bench.write(&a, 0, b"abc").await, Ok(3));
        let (sender, content) = fed();
        let declared = append_with(&b, 0, Some(2), Checksum::None);
        let write = bench.spawn(declared, content);
        settle().await;
        let pending = bench.status(&id).await.expect("there");
        assert_eq!((pending.length, pending.is_complete()), (Some(5), false), "T-109");
        bench.engine.sweep().await;
        sender.send(Ok(Bytes::from_static(b"de"))).expect("open");
        drop(sender);
        assert!(write.await.expect("no panic").is_ok());
        bench.log.heard();
        if is_asked {
            assert!(bench.status(&id).await.expect("there").is_complete());
        } else {
            bench.engine.sweep().await;
        }
        let heard = bench.log.heard();
        assert_eq!(heard, ["finish at 5", "length", "received", "completed"], "D-33");
        assert_eq!(bench.fetch(&id).await.as_deref(), Ok(&b"abcde"[..]));
    }
}

#[tokio::test(start_paused = true)]
async fn pending_final_is_gone_with_a_part() {
    let bench = Bench::new(Limits { join_unfinished: true, ..Limits::default() });
    let a = bench.create(Some(3), Role::partial()).await;
    let id = stored(bench.run(join(&[&a]), Content::empty()).await).expect("T-105").0.id.clone();
    let removed = bench.run(removal(&a), Content::empty()).await;
    assert!(matches!(removed, Ok(Outcome::Terminated)));
    assert_eq!(bench.status(&id).await, Err(Refusal::Expired), "D-33");
}

#[tokio::test(start_paused = true)]
async fn final_whose_part_goes_while_it_is_joined_is_known_and_gone_d_33() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let faults = store.faults();
    let limits = Limits { join_unfinished: true, ..Limits::default() };
    let bench = Bench::on(Arc::new(store), limits);
    let a = bench.create(Some(3), Role::partial()).await;
    let id = stored(bench.run(join(&[&a]), Content::empty()).await).expect("T-105").0.id.clone();
    assert_eq!(bench.write(&a, 0, b"abc").await, Ok(3));
    faults.fail(Operation::Join, 1, || StoreError::Absent);
    assert_eq!(bench.status(&id).await, Err(Refusal::Expired), "I-06");
}

#[tokio::test(start_paused = true)]
async fn removal_that_meets_another_change_removes_what_has_expired_since() {
    let inner = MemoryStore::new();
    let store = FaultyStore::new(Arc::new(inner.clone()));
    let faults = store.faults();
    let limits = Limits { expire_after: Some(Duration::from_secs(10)), ..Limits::default() };
    let bench = Bench::on(Arc::new(store), limits.clone());
    let other = Bench::on(Arc::new(inner), limits);
    let id = bench.create(Some(3), Role::Whole).await;
    let mut stall = faults.stall(Operation::Remove, 1);
    let removed = bench.spawn(removal(&id), Content::empty());
    stall.reached().await;
    assert_eq!(other.write(&id, 0, b"a").await, Ok(1));
    bench.clock.store(10, Ordering::SeqCst);
    stall.release();
    assert!(matches!(removed.await.expect("no panic"), Ok(Outcome::Terminated)));
    assert_eq!(bench.uploads().await, 0, "answered 204, so it is gone");
}

#[tokio::test(start_paused = true)]
async fn uploads_expire_unless_fed_or_complete() {
    let limits = Limits {
        expire_after: Some(Duration::from_secs(10)),
        tombstone: Duration::from_secs(100),
        ..Limits::default()
    };
    let bench = Bench::new(limits);
    let (slow, done) =
        (bench.create(Some(10), Role::Whole).await, bench.create(Some(1), Role::Whole).await);
    assert_eq!(bench.write(&done, 0, b"x").await, Ok(1));
    bench.clock.store(9, Ordering::SeqCst);
    assert_eq!(bench.write(&slow, 0, b"x").await, Ok(1), "T-073");
    bench.clock.store(10, Ordering::SeqCst);
    assert_eq!(bench.engine.sweep().await, sweep::Swept::default());
    assert_eq!(bench.offset(&slow).await, 1);

    // A write that is still running holds the deadline off.
    let (sender, content) = fed();
    let write = bench.spawn(append(&slow, 1), content);
    settle().await;
    bench.clock.store(19, Ordering::SeqCst);
    assert_eq!(bench.engine.sweep().await, sweep::Swept::default());
    assert_eq!(bench.offset(&slow).await, 1);
    sender.send(Err(cut())).expect("open");
    assert_eq!(write.await.expect("no panic").err(), Some(Refusal::Abandoned));

    assert_eq!(bench.status(&slow).await, Err(Refusal::Expired), "before any sweep");
    assert_eq!(bench.engine.sweep().await, sweep::Swept { voided: 1, forgotten: 0 });
    assert_eq!(bench.write(&slow, 1, b"x").await, Err(Refusal::Expired));
    bench.clock.store(119, Ordering::SeqCst);
    assert_eq!(bench.engine.sweep().await, sweep::Swept { voided: 0, forgotten: 1 });
    assert_eq!(bench.status(&slow).await, Err(Refusal::Unknown), "T-074");
    assert!(bench.status(&done).await.expect("F-57").is_complete());
}

#[tokio::test(start_paused = true)]
async fn clock_stepped_back_takes_no_time_away() {
    let limits = Limits { expire_after: Some(Duration::from_secs(10)), ..Limits::default() };
    let bench = Bench::new(limits);
    bench.clock.store(1_000, Ordering::SeqCst);
    let (before, done) =
        (bench.create(Some(3), Role::Whole).await, bench.create(Some(1), Role::Whole).await);
    assert_eq!(bench.write(&before, 0, b"a").await, Ok(1));
    bench.clock.store(500, Ordering::SeqCst);
    let after = bench.create(Some(3), Role::Whole).await;
    for (id, at) in [(&before, 1), (&after, 0)] {
        assert_eq!(bench.write(id, at, b"b").await, Ok(at + 1));
        assert_eq!(bench.offset(id).await, at + 1);
    }
    assert_eq!(bench.write(&done, 0, b"c").await, Ok(1));
    assert_eq!(bench.engine.sweep().await, sweep::Swept::default());
    // The clock is put right again: what was told until then still holds.
    bench.clock.store(1_009, Ordering::SeqCst);
    assert_eq!(bench.write(&before, 2, b"c").await, Ok(3));
    assert_eq!(bench.fetch(&before).await.as_deref(), Ok(&b"abc"[..]));
    assert_eq!(bench.fetch(&done).await.as_deref(), Ok(&b"c"[..]));
}

#[tokio::test(start_paused = true)]
async fn creation_of_no_bytes_waits_for_the_end_of_its_body_i_05() {
    let bench = bench();
    let new = || NewUpload { length: Some(0), ..NewUpload::default() };
    for (end, expected) in [
        (Ok(Bytes::from_static(b"x")), Err(Refusal::BodyTooLong { length: 0 })),
        (Err(cut()), Err(Refusal::Abandoned)),
        (Ok(Bytes::new()), Ok(0)),
    ] {
        let (sender, content) = fed();
        let creation = bench.spawn(creation(new(), Checksum::None), content);
        settle().await;
        assert_eq!(bench.uploads().await, 0, "nothing is full and not complete");
        sender.send(end).expect("open");
        drop(sender);
        let result = stored(creation.await.expect("no panic")).map(|(_, offset)| offset);
        assert_eq!(result, expected);
    }
    assert_eq!(bench.log.heard(), ["finish at 0", "created", "completed"]);
}

#[tokio::test(start_paused = true)]
async fn checksum_in_a_trailer_that_was_not_announced_is_ignored_d_22() {
    let bench = bench();
    let id = bench.create(Some(5), Role::Whole).await;
    let fields = http::HeaderMap::from_iter([(http::header::TE, "x".parse().expect("plain"))]);
    let frames = [Ok(Frame::data(Bytes::from_static(b"01234"))), Ok(Frame::trailers(fields))];
    let body = http_body_util::StreamBody::new(Frames(frames.into()));
    let content = Content::new(body).with_trailer_checksum(|_| {
        Ok(Some(Digest { algorithm: Algorithm::Sha1, value: vec![0; 20] }))
    });
    assert_eq!(stored(bench.run(append(&id, 0), content).await).map(|s| s.1), Ok(5));
}

/// Frames of a body.
struct Frames(VecDeque<io::Result<Frame<Bytes>>>);

impl futures_core::Stream for Frames {
    type Item = io::Result<Frame<Bytes>>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front())
    }
}

#[tokio::test(start_paused = true)]
async fn started_engine_sweeps_once_an_interval_until_its_last_handle_goes() {
    use crate::store::faulty::{FaultyStore, Operation};
    let store = FaultyStore::new(Arc::new(MemoryStore::default()));
    let faults = store.faults();
    let limits = Limits { expire_after: Some(Duration::from_secs(40)), ..Limits::default() };
    let bench = Bench::on(Arc::new(store), limits);
    bench.engine.start();
    bench.engine.start();
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(faults.calls(Operation::List), 3);
    drop(bench);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(faults.calls(Operation::List), 3);
}
