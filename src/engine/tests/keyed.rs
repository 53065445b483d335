//! Keyed uploads and their chunks in any order: the J-rules below the wire.

use std::sync::OnceLock;

use super::*;
use crate::store::faulty::{self, Faults, FaultyStore, Operation};

fn key(name: &str) -> Key {
    Key::new(b"secret", &[name.as_bytes()])
}

fn chunk(name: &str, total: u64, range: std::ops::Range<u64>) -> Intent {
    let new = NewUpload { length: Some(total), ..NewUpload::default() };
    Intent::Write(Write {
        answer_when_alone: Duration::from_secs(1),
        length: Some(total),
        wait: Wait { at_most: Duration::from_secs(60), stall_after: Duration::from_secs(10) },
        ..write_to(Target::Keyed(key(name), new), At::Range(range))
    })
}

/// A creation by tus that gives the file the name which a client of chunks gives it.
fn creation(name: &str, total: u64) -> Intent {
    let new = NewUpload { length: Some(total), ..NewUpload::default() };
    let write = write_to(Target::Keyed(key(name), new), At::Offset(0));
    Intent::Write(Write { length: Some(total), ..write })
}

impl Bench {
    /// Begins a session of a file of 10 bytes without a byte of it.
    async fn begin(&self, name: &str) -> UploadId {
        let made = stored(self.run(creation(name, 10), Content::empty()).await);
        made.expect("begun").0.id.clone()
    }

    /// The upload that a name leads to.
    async fn current(&self, name: &str) -> Arc<Upload> {
        self.engine.store().by_key(&key(name)).await.expect("there")
    }

    /// Sends a chunk of a file of 10 bytes; yields whether the answer says complete.
    async fn put(&self, name: &str, range: std::ops::Range<u64>) -> Result<bool, Refusal> {
        self.send(name, range.clone(), &b"0123456789"[bytes_of(&range)]).await
    }

    async fn send(
        &self,
        name: &str,
        range: std::ops::Range<u64>,
        bytes: &[u8],
    ) -> Result<bool, Refusal> {
        let outcome = self.run(chunk(name, 10, range), whole(bytes)).await;
        Ok(stored(outcome)?.0.is_complete())
    }

    async fn test(&self, name: &str) -> Result<Arc<Upload>, Refusal> {
        self.test_range(name, 0..0).await
    }

    async fn test_range(
        &self,
        name: &str,
        range: std::ops::Range<u64>,
    ) -> Result<Arc<Upload>, Refusal> {
        let test = Intent::Test(Test { key: key(name), length: 10, range });
        status_of(self.run(test, Content::empty()).await)
    }

    async fn status_by_name(&self, name: &str) -> Result<Arc<Upload>, Refusal> {
        let of = Subject::Key(key(name));
        status_of(self.run(Intent::Status { of }, Content::empty()).await)
    }
}

fn status_of(outcome: Result<Outcome, Refusal>) -> Result<Arc<Upload>, Refusal> {
    let Outcome::Status { upload } = outcome? else { unreachable!("status yields a status") };
    Ok(upload)
}

fn bytes_of(range: &std::ops::Range<u64>) -> std::ops::Range<usize> {
    let at = |position: u64| usize::try_from(position).expect("small");
    at(range.start)..at(range.end)
}

#[tokio::test(start_paused = true)]
async fn chunks_in_any_order_make_one_upload_completed_once() {
    // F-10: all orders of five chunks.
    let chunks = [0..2, 2..4, 4..6, 6..8, 8..10];
    let mut order = [0, 1, 2, 3, 4];
    for turn in 0..120_usize {
        let bench = bench();
        let mut rest: Vec<usize> = (0..5).collect();
        let mut number = turn;
        for (place, base) in [24, 6, 2, 1, 1].into_iter().enumerate() {
            order[place] = rest.remove((number / base).min(rest.len() - 1));
            number %= base;
        }
        let mut sent = Vec::new();
        for index in order {
            let bytes = whole(&b"0123456789"[bytes_of(&chunks[index])]);
            sent.push(bench.spawn(chunk("a", 10, chunks[index].clone()), bytes));
            settle().await;
        }
        for task in sent {
            assert!(task.await.expect("no panic").is_ok(), "{order:?}");
        }
        let heard = bench.log.heard();
        let completed = heard.iter().filter(|heard| *heard == "completed").count();
        assert_eq!(completed, 1, "{order:?}");
        let upload = bench.current("a").await;
        assert_eq!(bench.fetch(&upload.id).await.as_deref(), Ok(&b"0123456789"[..]));
        assert_eq!(bench.uploads().await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn duplicates_are_compared_and_never_overwrite() {
    let bench = bench();
    let id = bench.begin("a").await;
    assert_eq!(bench.put("a", 2..6).await, Ok(false));
    assert_eq!(bench.put("a", 2..6).await, Ok(false), "J-022: equal bytes");
    assert_eq!(bench.put("a", 0..4).await, Ok(false), "J-021: another chunk size");
    assert_eq!(bench.send("a", 0..8, b"0123x567").await, Err(Refusal::ContentConflict { at: 4 }));
    assert_eq!(bench.current("a").await.received, Ranges::from(0..6), "F-17: nothing of it counts");
    assert_eq!(bench.put("a", 0..10).await, Ok(true));
    assert_eq!(bench.put("a", 4..8).await, Ok(true), "J-034: late, equal");
    assert_eq!(bench.send("a", 4..8, b"xxxx").await, Err(Refusal::ContentConflict { at: 4 }));
    assert_eq!(bench.fetch(&id).await.as_deref(), Ok(&b"0123456789"[..]));
}

#[tokio::test(start_paused = true)]
async fn chunk_counts_whole_or_not_at_all() {
    let bench = bench();
    for end in [Some(Err(cut())), None, Some(Ok(Bytes::from_static(b"456")))] {
        let (sender, content) = fed();
        sender.send(Ok(Bytes::from_static(b"0123"))).expect("open");
        if let Some(end) = end {
            sender.send(end).expect("open");
        }
        drop(sender);
        let result = bench.run(chunk("a", 10, 0..6), content).await;
        assert!(result.is_err(), "J-014, J-023");
        assert_eq!(bench.uploads().await, 0, "S-009");
    }
    assert_eq!(bench.put("a", 0..5).await, Ok(false));
    let total = bench.run(chunk("a", 10, 5..11), whole(b"567890")).await;
    assert_eq!(total.err(), Some(Refusal::BodyTooLong { length: 10 }));
    let other = bench.run(chunk("a", 11, 5..11), whole(b"567890")).await;
    assert!(matches!(other, Err(Refusal::LengthConflict { .. })), "J-017");
    assert_eq!(bench.put("a", 5..10).await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn empty_file_is_one_empty_chunk() {
    let bench = bench();
    let empty = || chunk("a", 0, 0..0);
    let (first, second) =
        tokio::join!(bench.run(empty(), Content::empty()), bench.run(empty(), Content::empty()));
    for outcome in [first, second] {
        assert!(stored(outcome).expect("J-031").0.is_complete());
    }
    let heard = bench.log.heard();
    assert_eq!(heard.iter().filter(|heard| *heard == "completed").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn chunks_arrive_side_by_side_and_the_last_answers_say_complete() {
    let bench = bench();
    let parts = [0..4_u64, 4..8, 8..10];
    let mut running = Vec::new();
    for range in &parts {
        let (sender, content) = fed();
        running.push((sender, bench.spawn(chunk("a", 10, range.clone()), content)));
    }
    settle().await;
    assert_eq!(bench.uploads().await, 1, "J-026");
    assert_eq!(bench.current("a").await.received, Ranges::new(), "J-020");
    for ((sender, _), range) in running.iter().zip(&parts) {
        let bytes = Bytes::from_static(&b"0123456789"[bytes_of(range)]);
        sender.send(Ok(bytes)).expect("open");
    }
    for (sender, task) in running {
        drop(sender);
        settle().await;
        // J-033: the earlier answers wait for the last chunk, which is still on its way.
        if task.is_finished() {
            assert!(stored(task.await.expect("no panic")).expect("stored").0.is_complete());
        } else {
            tokio::spawn(async move {
                assert!(stored(task.await.expect("no panic")).expect("stored").0.is_complete());
            });
        }
    }
    assert!(bench.current("a").await.is_complete());
}

/// Stores the second half of a file as soon as the first is recorded, before that is answered.
#[derive(Clone, Default)]
struct SecondHalf(Arc<OnceLock<Engine>>);

impl Observer for SecondHalf {
    fn event(&self, _: &Upload, event: Event) {
        if event != (Event::Received { offset: 5 }) {
            return;
        }
        let engine = self.0.get().expect("set by the test").clone();
        let other = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let (intent, none) = (chunk("a", 10, 5..10), Extensions::new());
            runtime.block_on(engine.run(intent, whole(b"56789"), &none))
        });
        let outcome = other.join().expect("no panic");
        assert!(matches!(outcome, Ok(Outcome::Written { upload, .. }) if upload.is_complete()));
    }
}

#[tokio::test]
async fn chunk_answered_after_the_upload_became_complete_says_so() {
    let observer = SecondHalf::default();
    let engine =
        Engine::builder(Arc::new(MemoryStore::default())).observer(observer.clone()).build();
    assert!(observer.0.set(engine.clone()).is_ok());
    let (intent, none) = (chunk("a", 10, 0..5), Extensions::new());
    let outcome = engine.run(intent, whole(b"01234"), &none).await;
    let outcome = outcome.map_err(|refused| refused.refusal);
    assert!(stored(outcome).expect("stored").0.is_complete(), "J-033");
}

#[tokio::test(start_paused = true)]
async fn upload_that_a_creation_has_found_outlives_the_chunk_that_made_it_j_054() {
    let bench = bench();
    let (sender, content) = fed();
    let first = bench.spawn(chunk("a", 10, 0..5), content);
    sender.send(Ok(Bytes::from_static(b"01"))).expect("open");
    settle().await;
    let id = bench.begin("a").await;
    assert_eq!(bench.uploads().await, 1);
    sender.send(Err(cut())).expect("open");
    assert_eq!(first.await.expect("no panic").err(), Some(Refusal::Abandoned));
    assert_eq!(bench.write(&id, 0, b"0123456789").await, Ok(10), "answered 201, so it is there");
}

#[tokio::test(start_paused = true)]
async fn chunk_whose_upload_is_removed_before_its_answer_was_stored_j_033() {
    let store = MemoryStore::new();
    let [bench, other] = [(); 2].map(|()| Bench::on(Arc::new(store.clone()), Limits::default()));
    let (_sender, content) = fed();
    let _second = bench.spawn(chunk("a", 10, 0..5), content);
    settle().await;
    let first = bench.spawn(chunk("a", 10, 5..10), whole(b"56789"));
    settle().await;
    assert!(!first.is_finished(), "it waits for the other half");
    let of = Subject::Key(key("a"));
    let removed = other.run(Intent::Terminate { of }, Content::empty()).await;
    assert!(matches!(removed, Ok(Outcome::Terminated)));
    let (upload, _) = stored(first.await.expect("no panic")).expect("stored");
    assert!(upload.received.covers(&(5..10)), "{upload:?}");
}

#[tokio::test(start_paused = true)]
async fn silent_chunk_gives_way_to_another_copy() {
    let bench = bench();
    let (sender, content) = fed();
    let silent = bench.spawn(chunk("a", 10, 0..5), content);
    sender.send(Ok(Bytes::from_static(b"01"))).expect("open");
    settle().await;
    assert_eq!(bench.put("a", 0..5).await, Ok(false), "J-024");
    assert_eq!(silent.await.expect("no panic").err(), Some(Refusal::Displaced));
    assert_eq!(bench.put("a", 5..10).await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn chunk_from_the_middle_begins_nothing_j_043() {
    let limits = Limits { expire_after: Some(Duration::from_secs(10)), ..Limits::default() };
    let gone: [fn(&Bench); 2] = [|_| (), |bench| bench.clock.store(10, Ordering::SeqCst)];
    for (by_client, go) in [(true, gone[0]), (false, gone[1])] {
        let bench = Bench::new(limits.clone());
        assert_eq!(bench.put("a", 5..10).await, Err(Refusal::Expired), "nothing has begun");
        assert_eq!(bench.put("a", 0..5).await, Ok(false));
        if by_client {
            let of = Subject::Key(key("a"));
            let removed = bench.run(Intent::Terminate { of }, Content::empty()).await;
            assert!(matches!(removed, Ok(Outcome::Terminated)), "J-042");
        }
        go(&bench);
        let gone = bench.current("a").await.id.clone();
        assert_eq!(bench.test("a").await, Err(Refusal::Unknown));
        assert_eq!(bench.put("a", 5..10).await, Err(Refusal::Expired), "J-041, F-41");
        let (late, first) = tokio::join!(bench.put("a", 5..10), async {
            settle().await;
            bench.put("a", 0..5).await
        });
        assert!(late.is_ok() && first.is_ok(), "parallel starts: {late:?} {first:?}");
        let current = bench.current("a").await;
        assert!(current.is_complete());
        assert_ne!(current.id, gone, "an id has one life");
    }
}

#[tokio::test(start_paused = true)]
async fn removal_of_an_earlier_upload_of_a_name_leaves_the_running_one_alone_j_043() {
    let bench = bench();
    assert_eq!(bench.put("a", 0..10).await, Ok(true));
    let first = bench.current("a").await.id.clone();
    bench.clock.store(60, Ordering::SeqCst);
    assert_eq!(bench.send("a", 0..5, b"other").await, Ok(false));
    let removed = bench.run(removal(&first), Content::empty()).await;
    assert!(matches!(removed, Ok(Outcome::Terminated)));
    assert_eq!(bench.send("a", 5..10, b"bytes").await, Ok(true));
    let second = bench.current("a").await.id.clone();
    assert_eq!(bench.fetch(&second).await.as_deref(), Ok(&b"otherbytes"[..]));
}

#[tokio::test(start_paused = true)]
async fn other_bytes_from_byte_0_on_begin_a_new_upload_and_equal_ones_do_not_j_044() {
    for (first, rest, is_new) in [(&b"01234"[..], &b"56789"[..], false), (b"0123x", b"other", true)]
    {
        let bench = bench();
        assert_eq!(bench.put("a", 0..10).await, Ok(true));
        let before = bench.current("a").await.id.clone();
        assert_eq!(bench.test_range("a", 0..5).await, Err(Refusal::Unknown), "J-044");
        assert_eq!(bench.test_range("a", 5..10).await, Err(Refusal::Unknown), "J-043");
        // The rest comes first, as chunks that are sent side by side do.
        let late = bench.spawn(chunk("a", 10, 5..10), whole(rest));
        settle().await;
        let (sender, content) = fed();
        let begins = bench.spawn(chunk("a", 10, 0..5), content);
        for byte in first {
            sender.send(Ok(Bytes::copy_from_slice(&[*byte]))).expect("open");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        drop(sender);
        for task in [begins, late] {
            assert!(stored(task.await.expect("no panic")).is_ok());
        }
        let after = bench.current("a").await;
        assert!(after.is_complete());
        assert_eq!(after.id != before, is_new);
        assert_eq!(bench.uploads().await, 1 + usize::from(is_new));
        let bytes = bench.fetch(&after.id).await.expect("complete");
        assert_eq!(bytes, [first, rest].concat());
        assert_eq!(bench.fetch(&before).await.as_deref(), Ok(&b"0123456789"[..]));
    }
}

#[tokio::test(start_paused = true)]
async fn new_length_begins_a_new_upload_unless_the_old_one_is_being_written_j_017() {
    let bench = bench();
    assert_eq!(bench.put("a", 0..5).await, Ok(false));
    let old = bench.current("a").await.id.clone();
    let (sender, content) = fed();
    let write = bench.spawn(chunk("a", 10, 5..10), content);
    settle().await;
    let other = bench.run(chunk("a", 6, 0..6), whole(b"012345")).await;
    assert!(matches!(other, Err(Refusal::LengthConflict { .. })), "{other:?}");
    sender.send(Err(cut())).expect("open");
    assert!(write.await.expect("no panic").is_err());
    let test = Test { key: key("a"), length: 6, range: 0..1 };
    let tested = bench.run(Intent::Test(test), Content::empty()).await;
    assert_eq!(tested.err(), Some(Refusal::Unknown));
    let other = bench.run(chunk("a", 6, 0..6), whole(b"012345")).await;
    assert!(stored(other).expect("begun").0.is_complete());
    assert_eq!(bench.offset(&old).await, 5, "the one before keeps its bytes");
}

#[tokio::test(start_paused = true)]
async fn found_bytes_keep_an_upload_alive_and_missing_ones_do_not() {
    let bench =
        Bench::new(Limits { expire_after: Some(Duration::from_secs(160)), ..Limits::default() });
    assert_eq!(bench.put("a", 0..5).await, Ok(false));
    for (now, range, expires) in
        [(9, 0..5, 160), (10, 0..5, 170), (150, 4..6, 170), (150, 1..2, 310)]
    {
        bench.clock.store(now, Ordering::SeqCst);
        let is_present = range.end <= 5;
        assert_eq!(bench.test_range("a", range).await.is_ok(), is_present);
        let upload = bench.current("a").await;
        let expected = UNIX_EPOCH + Duration::from_secs(expires);
        assert_eq!(upload.expires, Some(expected), "J-040 at {now}");
    }
    bench.clock.store(300, Ordering::SeqCst);
    assert_eq!(bench.put("a", 0..5).await, Ok(false), "an equal chunk");
    let expected = UNIX_EPOCH + Duration::from_secs(460);
    assert_eq!(bench.current("a").await.expires, Some(expected), "J-040");
}

#[tokio::test(start_paused = true)]
async fn status_by_name_changes_nothing() {
    let bench =
        Bench::new(Limits { expire_after: Some(Duration::from_secs(10)), ..Limits::default() });
    assert_eq!(bench.status_by_name("a").await, Err(Refusal::Unknown));
    assert_eq!(bench.put("a", 0..5).await, Ok(false));
    bench.clock.store(10, Ordering::SeqCst);
    assert_eq!(bench.status_by_name("a").await, Err(Refusal::Expired));
    assert_eq!(bench.put("a", 5..10).await, Err(Refusal::Expired), "J-041");
    assert_eq!(bench.put("b", 0..10).await, Ok(true));
    assert!(bench.status_by_name("b").await.expect("there").is_complete());
    bench.clock.store(1000, Ordering::SeqCst);
    assert_eq!(bench.status_by_name("b").await, Err(Refusal::Unknown), "J-044");
}

#[tokio::test(start_paused = true)]
async fn creation_by_name_finds_what_chunks_have_brought_and_the_reverse() {
    let bench = bench();
    let made = stored(bench.run(creation("a", 10), Content::empty()).await);
    let (upload, offset) = made.expect("made");
    assert_eq!((&upload.key, offset), (&Some(key("a")), 0), "J-054");
    assert_eq!(bench.put("a", 0..4).await, Ok(false));
    let found = stored(bench.run(creation("a", 10), Content::empty()).await);
    let (found, offset) = found.expect("found");
    assert_eq!((&found.id, offset), (&upload.id, 4));
    // Its client may go on from there, or from the start as after any creation.
    assert_eq!(bench.write(&upload.id, 0, b"01").await, Ok(2), "J-051");
    assert_eq!(bench.write(&upload.id, 2, b"23").await, Ok(4));
    assert_eq!(bench.write(&upload.id, 4, b"4").await, Ok(5));
    let again = bench.run(creation("a", 10), whole(b"0123456")).await;
    let (again, offset) = stored(again).expect("goes on");
    assert_eq!((&again.id, offset), (&upload.id, 7));
    let different = bench.run(creation("a", 10), whole(b"x")).await;
    let conflict = Refusal::ContentConflict { at: 0 };
    assert_eq!(different.err(), Some(conflict), "J-022");
    assert_eq!(bench.put("a", 7..10).await, Ok(true));
    let late = stored(bench.run(creation("a", 10), whole(b"0123456789")).await);
    let (late, offset) = late.expect("equal");
    assert_eq!((&late.id, offset), (&upload.id, 10), "J-044");
    let anew = stored(bench.run(creation("a", 10), Content::empty()).await);
    assert_ne!(anew.expect("begun").0.id, upload.id, "J-044");
}

#[tokio::test(start_paused = true)]
async fn finished_name_is_free_again_after_its_grace() {
    let bench = bench();
    assert_eq!(bench.put("a", 0..10).await, Ok(true));
    let first = bench.current("a").await;
    bench.clock.store(60, Ordering::SeqCst);
    assert_eq!(bench.put("a", 5..10).await, Ok(true), "a late duplicate");
    assert_eq!(bench.put("a", 0..5).await, Ok(false), "S-010");
    let second = bench.current("a").await;
    assert_ne!(first.id, second.id);
    assert_eq!(bench.send("a", 5..10, b"bytes").await, Ok(true));
    assert_eq!(bench.fetch(&first.id).await.as_deref(), Ok(&b"0123456789"[..]));
    assert_eq!(bench.fetch(&second.id).await.as_deref(), Ok(&b"01234bytes"[..]));
}

#[tokio::test(start_paused = true)]
async fn either_side_continues_the_work_of_the_other() {
    let bench = bench();
    let id = bench.begin("a").await;
    assert_eq!(bench.put("a", 4..6).await, Ok(false));
    assert_eq!(bench.offset(&id).await, 0, "J-050");
    // The bytes close the gap; the answer is the sum all the same, and is where the client goes on.
    assert_eq!(bench.write(&id, 0, b"01234").await, Ok(5), "J-051");
    assert_eq!(bench.offset(&id).await, 6);
    assert_eq!(bench.write(&id, 5, b"56").await, Ok(7));
    assert_eq!(bench.write(&id, 5, b"56").await, Ok(7), "a copy, compared");
    assert_eq!(bench.write(&id, 5, b"5x").await, Err(Refusal::ContentConflict { at: 6 }));
    assert_eq!(
        bench.write(&id, 8, b"8").await,
        Err(Refusal::OffsetMismatch { expected: 7, given: 8 })
    );
    assert_eq!(bench.put("a", 8..10).await, Ok(false));
    assert_eq!(bench.write(&id, 7, b"7").await, Ok(8), "J-052");
    assert!(bench.status(&id).await.expect("there").is_complete());
    assert_eq!(bench.write(&id, 8, b"89").await, Ok(10), "J-052");
    assert_eq!(bench.put("a", 0..5).await, Ok(true));
    assert_eq!(bench.fetch(&id).await.as_deref(), Ok(&b"0123456789"[..]));
}

#[tokio::test(start_paused = true)]
async fn upload_in_too_many_pieces_is_refused() {
    let bench = Bench::new(Limits { max_fragments: 2, ..Limits::default() });
    assert_eq!(bench.put("a", 0..1).await, Ok(false));
    assert_eq!(bench.put("a", 2..3).await, Ok(false));
    assert_eq!(bench.put("a", 4..5).await, Err(Refusal::TooFragmented { limit: 2 }), "S-008");
    assert_eq!(bench.put("a", 1..2).await, Ok(false));
}

#[tokio::test(start_paused = true)]
async fn write_over_an_island_at_the_end_completes_only_with_its_last_byte() {
    let bench = bench();
    let id = bench.begin("a").await;
    assert_eq!(bench.put("a", 4..10).await, Ok(false));
    let (sender, content) = fed();
    let write = bench.spawn(append(&id, 0), content);
    sender.send(Ok(Bytes::from_static(b"012345"))).expect("open");
    settle().await;
    // Every byte is there, but the request is not over: nothing may be complete yet (J-022).
    assert_eq!(bench.offset(&id).await, 0);
    assert!(!bench.log.heard().iter().any(|heard| heard == "completed"));
    sender.send(Ok(Bytes::from_static(b"xxxx"))).expect("open");
    drop(sender);
    let result = write.await.expect("no panic");
    assert_eq!(result.err(), Some(Refusal::ContentConflict { at: 6 }));
    assert_eq!(bench.offset(&id).await, 0, "I-03");
    assert_eq!(bench.write(&id, 0, b"0123").await, Ok(4));
    assert!(bench.status(&id).await.expect("there").is_complete());
}

/// A bench whose store fails on cue.
fn faulty_bench(limits: Limits) -> (Bench, Faults) {
    let store = FaultyStore::new(Arc::new(MemoryStore::default()));
    let faults = store.faults();
    (Bench::on(Arc::new(store), limits), faults)
}

#[tokio::test(start_paused = true)]
async fn upload_that_goes_while_it_is_asked_about_is_not_answered_as_void() {
    let (bench, faults) =
        faulty_bench(Limits { expire_after: Some(Duration::from_secs(100)), ..Limits::default() });
    assert_eq!(bench.put("a", 0..5).await, Ok(false));
    bench.clock.store(50, Ordering::SeqCst);
    // A test that moves the deadline.
    let mut stall = faults.stall(Operation::Commit, 1);
    let test = Intent::Test(Test { key: key("a"), length: 10, range: 0..5 });
    let tested = bench.spawn(test, Content::empty());
    stall.reached().await;
    let of = Subject::Key(key("a"));
    let removed = bench.run(Intent::Terminate { of }, Content::empty()).await;
    assert!(matches!(removed, Ok(Outcome::Terminated)));
    stall.release();
    assert_eq!(status_of(tested.await.expect("no panic")), Err(Refusal::Unknown));
}

#[tokio::test(start_paused = true)]
async fn bytes_of_a_checkpoint_under_way_are_not_recorded_again_before_present_ones() {
    let (bench, faults) = faulty_bench(Limits { checkpoint_bytes: 4, ..Limits::default() });
    let id = bench.begin("a").await;
    assert_eq!(bench.put("a", 8..10).await, Ok(false));
    let (sender, content) = fed();
    let mut stall = faults.stall(Operation::Commit, 1);
    let write = bench.spawn(append(&id, 0), content);
    for frame in ["01234", "567", "89"] {
        sender.send(Ok(Bytes::from(frame))).expect("open");
        settle().await;
    }
    drop(sender);
    stall.reached().await;
    stall.release();
    assert_eq!(stored(write.await.expect("no panic")).map(|s| s.1), Ok(10));
}

#[tokio::test(start_paused = true)]
async fn store_trouble_does_not_complete_an_empty_file_again() {
    for nth in 1..=3 {
        let (bench, faults) = faulty_bench(Limits::default());
        let mut stall = faults.stall(Operation::Create, 1);
        let first = bench.spawn(chunk("a", 0, 0..0), Content::empty());
        stall.reached().await;
        let late = bench.spawn(chunk("a", 0, 0..0), Content::empty());
        settle().await;
        faults.fail(Operation::ByKey, nth, faulty::injected_error);
        stall.release();
        for task in [first, late] {
            let _ = task.await.expect("no panic");
        }
        let heard = bench.log.heard();
        assert_eq!(heard, ["finish at 0", "created", "completed"], "look {nth}");
    }
}

#[tokio::test(start_paused = true)]
async fn writer_that_was_overtaken_is_refused_and_never_answered_with_success() {
    // Another process stores the same range meanwhile: equal bytes or not, these are not its bytes.
    let store = Arc::new(MemoryStore::default());
    let (bench, other) =
        (Bench::on(store.clone(), Limits::default()), Bench::on(store, Limits::default()));
    bench.begin("a").await;
    let (sender, content) = fed();
    let write = bench.spawn(chunk("a", 10, 2..6), content);
    settle().await;
    assert_eq!(other.send("a", 4..8, b"xxxx").await, Ok(false));
    sender.send(Ok(Bytes::from_static(b"2345"))).expect("open");
    drop(sender);
    assert_eq!(write.await.expect("no panic").err(), Some(Refusal::Displaced));
    assert_eq!(bench.current("a").await.received, Ranges::from(4..8));
}

#[tokio::test(start_paused = true)]
async fn chunks_that_wait_for_one_range_are_bounded() {
    let bench = bench();
    let (_sender, content) = fed();
    let _first = bench.spawn(chunk("a", 10, 0..5), content);
    settle().await;
    let copies: Vec<_> =
        (0..300).map(|_| bench.spawn(chunk("a", 10, 0..5), whole(b"01234"))).collect();
    settle().await;
    let refused = copies.iter().filter(|copy| copy.is_finished()).count();
    assert_eq!(refused, 300 - 128);
    // Another upload is none of their business.
    assert_eq!(bench.put("b", 0..5).await, Ok(false));
}

#[tokio::test(start_paused = true)]
async fn chunk_of_tiny_stretches_is_refused_before_it_costs_more_than_its_bytes_s_008() {
    let bench = bench();
    let total = 1_000;
    let begun = bench.run(creation("a", total), Content::empty()).await;
    assert!(begun.is_ok());
    for at in (0..total).step_by(2) {
        let byte = bench.run(chunk("a", total, at..at + 1), whole(b"x")).await;
        assert!(byte.is_ok(), "{byte:?}");
    }
    let bytes = vec![b'x'; 1_000];
    let all = bench.run(chunk("a", total, 0..total), whole(&bytes)).await;
    assert!(matches!(all, Err(Refusal::TooFragmented { .. })), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn write_tells_whether_it_brought_anything_s_002() {
    let bench = bench();
    let empty = chunk("empty", 0, 0..0);
    for (intent, bytes, expected) in [
        (chunk("a", 10, 0..4), &b"0123"[..], true),
        (chunk("a", 10, 0..4), b"0123", false),
        (chunk("a", 10, 2..6), b"2345", true),
        (chunk("a", 10, 1..1), b"", false),
        (chunk("a", 10, 6..10), b"6789", true),
        (chunk("a", 10, 6..10), b"6789", false),
        (empty.clone(), b"", true),
        (empty, b"", false),
    ] {
        let outcome = bench.run(intent.clone(), whole(bytes)).await;
        let Ok(Outcome::Written { changed, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(changed, expected, "{intent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn removal_of_what_is_unfinished_leaves_what_is_complete_s_002() {
    let bench = bench();
    let remove = || Intent::Terminate { of: Subject::Unfinished(key("a")) };
    assert_eq!(bench.put("a", 0..5).await, Ok(false));
    let removed = bench.run(remove(), Content::empty()).await;
    assert!(matches!(removed, Ok(Outcome::Terminated)), "J-042");
    assert_eq!(bench.put("a", 0..5).await, Ok(false));
    assert_eq!(bench.put("a", 5..10).await, Ok(true));
    let refused = bench.run(remove(), Content::empty()).await;
    assert_eq!(refused.err(), Some(Refusal::Unknown));
    assert!(bench.current("a").await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn creation_that_must_be_new_leads_nobody_to_an_upload_that_is_there_s_002() {
    let bench = bench();
    let create = |name: &str, bytes: &'static [u8]| {
        let new = NewUpload { length: Some(10), ..NewUpload::default() };
        let target = Target::NewKeyed(key(name), new);
        let Intent::Write(write) = creation(name, 10) else { unreachable!("a creation writes") };
        bench.run(Intent::Write(Write { target, ..write }), whole(bytes))
    };
    let (first, _) = stored(create("a", b"01").await).expect("made");
    assert!(first.key.is_some(), "J-054");
    assert_eq!(bench.put("a", 2..4).await, Ok(false));
    let (second, offset) = stored(create("a", b"x").await).expect("made");
    assert_eq!((&second.key, offset), (&None, 1));
    assert_ne!(second.id, first.id);
    assert_eq!(bench.put("a", 4..10).await, Ok(true));
    let (third, _) = stored(create("a", b"").await).expect("made");
    assert!(third.id != first.id && third.id != second.id, "J-044");
}

#[tokio::test(start_paused = true)]
async fn chunk_that_has_made_an_upload_and_may_not_write_leaves_nothing_s_009() {
    let (bench, faults) = faulty_bench(Limits::default());
    let mut stall = faults.delay_answer(Operation::Create, 1);
    let first = bench.spawn(chunk("a", 10, 0..5), whole(b"01234"));
    stall.reached().await;
    tokio::join!(bench.engine.close(), async { stall.release() });
    assert_eq!(first.await.expect("no panic").err(), Some(Refusal::ShuttingDown));
    assert_eq!(bench.uploads().await, 0);
}
