//! Promises about bytes: write, checkpoint, reread, finish, read, completion.

use super::*;

super::checks![
    bytes_come_back_as_they_were_written,
    every_range_can_be_read,
    bytes_that_were_not_committed_do_not_count,
    ranges_may_arrive_in_any_order,
    ranges_may_be_written_at_once,
    bytes_of_a_dropped_writer_are_replaced,
    bytes_of_a_dropped_writer_never_come_later,
    bytes_behind_the_end_are_cut_off,
    completion_publishes_exactly_the_bytes,
    empty_upload_completes,
    void_upload_keeps_its_record,
    checkpoint_outlives_its_writer,
    pushing_goes_on_beside_a_checkpoint,
    receipt_is_for_the_bytes_since_the_checkpoint_before,
    receipts_are_recorded_in_any_order,
    receipt_that_is_not_recorded_counts_for_nothing,
    checkpoint_of_a_dropped_writer_ends,
    reread_gives_what_was_pushed,
    writer_without_bytes_finishes,
];

/// More bytes than any window, in frames of any size.
const LARGE_BYTES: u64 = (4 << 20) + 13;

/// Across all borders inside a store.
async fn bytes_come_back_as_they_were_written(mut bench: Bench) {
    let upload = bench.create(upload("a", Some(LARGE_BYTES))).await;
    let upload = bench.put(&upload, 0..LARGE_BYTES, 1).await;
    let upload = bench.commit(&upload, &[COMPLETED]).await;
    bench.expect_pattern(&upload, 0..LARGE_BYTES, 1).await;
    bench.reopen().await;
    bench.expect_pattern(&upload, 0..LARGE_BYTES, 1).await;
}

/// From any byte to any byte.
async fn every_range_can_be_read(bench: Bench) {
    let upload = bench.complete("a", LARGE_BYTES, Role::Whole, 1).await;
    for border in [0, 1, 4_096, 65_536, 131_072, 262_144, 1 << 20, LARGE_BYTES] {
        for start in [border.saturating_sub(1), border] {
            for length in [0, 1, 2, 70_000, 300_001] {
                let end = (start + length).min(LARGE_BYTES);
                bench.expect_pattern(&upload, start..end, 1).await;
            }
        }
    }
    // A reader may leave at any time.
    let stream = bench.store().read(&upload, 0..LARGE_BYTES).await.expect("bytes");
    drop(stream);
}

/// Finishing a writer makes bytes durable and no more.
async fn bytes_that_were_not_committed_do_not_count(mut bench: Bench) {
    let upload = bench.create(upload("a", Some(9))).await;
    bench.write(&upload, 0, &pattern(1, 0..9)).await;
    assert_eq!(*bench.load(&upload).await, upload);
    bench.reopen().await;
    assert_eq!(*bench.load(&upload).await, upload);
}

/// Last first, with gaps.
async fn ranges_may_arrive_in_any_order(mut bench: Bench) {
    let mut upload = bench.create(upload("a", Some(LARGE_BYTES))).await;
    for range in [3 << 20..LARGE_BYTES, 0..1 << 20, 5 << 19..3 << 20] {
        upload = bench.put(&upload, range, 1).await;
    }
    bench.reopen().await;
    assert_eq!(*bench.load(&upload).await, upload);
    bench.expect_pattern(&upload, 5 << 19..3 << 20, 1).await;
    for range in [2 << 20..5 << 19, 1 << 20..2 << 20] {
        upload = bench.put(&upload, range, 1).await;
    }
    let upload = bench.commit(&upload, &[COMPLETED]).await;
    bench.expect_pattern(&upload, 0..LARGE_BYTES, 1).await;
}

/// As three connections of one client do it.
async fn ranges_may_be_written_at_once(bench: Bench) {
    let mut upload = bench.create(upload("a", Some(6 << 20))).await;
    let tasks: Vec<_> = (0..6_u64)
        .map(|index| {
            let (store, upload) = (bench.shared(), upload.clone());
            let range = index << 20..(index + 1) << 20;
            tokio::spawn(async move {
                let mut writer = store.write(&upload, range.start).await.expect("a sink");
                push(&mut *writer, &pattern(1, range.clone())).await;
                let receipt = writer.finish().await.expect("durable");
                Change::Received { range, receipt }
            })
        })
        .collect();
    for task in tasks {
        let change = task.await.expect("no panic");
        upload = bench.commit(&upload, &[change]).await;
    }
    let upload = bench.commit(&upload, &[COMPLETED]).await;
    bench.expect_pattern(&upload, 0..6 << 20, 1).await;
}

/// A body whose checksum was wrong, then the right one.
async fn bytes_of_a_dropped_writer_are_replaced(mut bench: Bench) {
    let upload = bench.create(upload("a", Some(LARGE_BYTES))).await;
    let mut writer = bench.store().write(&upload, 0).await.expect("a sink");
    push(&mut *writer, &pattern(1, 0..LARGE_BYTES)).await;
    drop(writer);
    let upload = bench.put(&upload, 0..LARGE_BYTES, 2).await;
    let upload = bench.commit(&upload, &[COMPLETED]).await;
    bench.reopen().await;
    bench.expect_pattern(&upload, 0..LARGE_BYTES, 2).await;
}

/// However many were on their way.
async fn bytes_of_a_dropped_writer_never_come_later(bench: Bench) {
    for round in 0..16_u64 {
        let length = (1 << 20) + round * 100_000;
        let upload = bench.create(upload(&format!("a{round}"), Some(length))).await;
        let mut writer = bench.store().write(&upload, 0).await.expect("a sink");
        push(&mut *writer, &pattern(1, 0..length)).await;
        drop(writer);
        let upload = bench.put(&upload, 0..length, 2).await;
        let upload = bench.commit(&upload, &[COMPLETED]).await;
        bench.expect_pattern(&upload, 0..length, 2).await;
    }
}

/// What a dropped writer has left there is no part of the upload.
async fn bytes_behind_the_end_are_cut_off(mut bench: Bench) {
    let upload = bench.create(upload("a", None)).await;
    let upload = bench.put(&upload, 0..100, 1).await;
    let mut writer = bench.store().write(&upload, 100).await.expect("a sink");
    push(&mut *writer, &pattern(2, 0..LARGE_BYTES)).await;
    drop(writer);
    let changes = [Change::LengthDeclared { length: 100 }, COMPLETED];
    let upload = bench.commit(&upload, &changes).await;
    for _ in 0..2 {
        bench.expect_pattern(&upload, 0..100, 1).await;
        let beyond = match bench.store().read(&upload, 0..101).await {
            Ok(stream) => collect(stream).await.map_err(|e| StoreError::io("reading", e)),
            Err(e) => Err(e),
        };
        assert!(beyond.is_err(), "there is a byte behind the end");
        bench.reopen().await;
    }
}

/// With the last bytes or later, of every role, and permanently.
async fn completion_publishes_exactly_the_bytes(mut bench: Bench) {
    let later = bench.complete("later", 1_000, Role::Whole, 1).await;
    let partial = bench.complete("partial", 1_000, Role::partial(), 2).await;
    let at_once = bench.create(upload("at-once", None)).await;
    let receipt = bench.write(&at_once, 0, &pattern(3, 0..1_000)).await;
    let changes = [
        Change::LengthDeclared { length: 1_000 },
        Change::Received { range: 0..1_000, receipt },
        COMPLETED,
    ];
    let at_once = Arc::new(bench.commit(&at_once, &changes).await);
    for _ in 0..2 {
        for (seed, upload) in [(1, &later), (2, &partial), (3, &at_once)] {
            assert!(bench.load(upload).await.is_complete());
            bench.expect_pattern(upload, 0..1_000, seed).await;
            let commit = bench.store().commit(upload, &[received(0..5)]).await;
            assert!(matches!(commit, Err(StoreError::Io { .. })), "{commit:?}");
        }
        bench.reopen().await;
    }
}

/// With or without a writer.
async fn empty_upload_completes(mut bench: Bench) {
    let untouched = bench.complete("untouched", 0, Role::Whole, 1).await;
    let written = bench.create(upload("written", Some(0))).await;
    bench.write(&written, 0, b"").await;
    let written = bench.commit(&written, &[COMPLETED]).await;
    bench.reopen().await;
    for upload in [&*untouched, &written] {
        assert!(bench.load(upload).await.is_complete());
        bench.expect_pattern(upload, 0..0, 1).await;
    }
}

/// And nothing else.
async fn void_upload_keeps_its_record(mut bench: Bench) {
    let open = bench.create(upload("open", Some(9))).await;
    let open = bench.put(&open, 0..3, 1).await;
    let complete = bench.complete("complete", 9, Role::Whole, 2).await;
    for upload in [&open, &*complete] {
        let void = bench.commit(upload, &[VOIDED]).await;
        assert_eq!(void.received, Ranges::new());
        bench.reopen().await;
        assert_eq!(*bench.load(upload).await, void);
        let read = bench.store().read(&void, 0..3).await;
        assert!(matches!(read, Err(StoreError::Absent)), "the bytes of a void upload are gone");
    }
}

/// What was committed after a checkpoint survives the writer and the process.
async fn checkpoint_outlives_its_writer(mut bench: Bench) {
    let upload = bench.create(upload("a", Some(LARGE_BYTES))).await;
    let mut writer = bench.store().write(&upload, 0).await.expect("a sink");
    push(&mut *writer, &pattern(1, 0..3_000_000)).await;
    let receipt = writer.checkpoint().await.expect("durable");
    let range = 0..3_000_000;
    let upload = bench.commit(&upload, &[Change::Received { range, receipt }]).await;
    push(&mut *writer, &pattern(1, 3_000_000..LARGE_BYTES)).await;
    drop(writer);
    bench.reopen().await;
    assert_eq!(bench.load(&upload).await.offset(), 3_000_000);
    let upload = bench.put(&upload, 3_000_000..LARGE_BYTES, 2).await;
    let upload = bench.commit(&upload, &[COMPLETED]).await;
    bench.expect_pattern(&upload, 0..3_000_000, 1).await;
    bench.expect_pattern(&upload, 3_000_000..LARGE_BYTES, 2).await;
}

/// The future borrows nothing, and counts what came before it.
async fn pushing_goes_on_beside_a_checkpoint(bench: Bench) {
    let mut upload = bench.create(upload("a", Some(4_000_000))).await;
    let mut writer = bench.store().write(&upload, 0).await.expect("a sink");
    let mut checkpoint = None;
    for start in (0..4_000_000).step_by(1_000_000) {
        let range = start..start + 1_000_000;
        push(&mut *writer, &pattern(1, range.clone())).await;
        if let Some((range, pending)) = checkpoint.replace((range, writer.checkpoint())) {
            let receipt = pending.await.expect("durable");
            upload = bench.commit(&upload, &[Change::Received { range, receipt }]).await;
        }
    }
    let (range, pending) = checkpoint.expect("one for each range");
    let receipt = pending.await.expect("durable");
    let upload = bench.commit(&upload, &[Change::Received { range, receipt }, COMPLETED]).await;
    bench.expect_pattern(&upload, 0..4_000_000, 1).await;
}

/// No more and no fewer, whether they are recorded beside the writer, after it, or all at once.
async fn receipt_is_for_the_bytes_since_the_checkpoint_before(mut bench: Bench) {
    let ends = [1, 300_000, 300_007, 2_000_000, LARGE_BYTES];
    let at_once = bench.create(upload("at-once", Some(LARGE_BYTES))).await;
    let changes = bench.blocks(&at_once, &ends).await;
    let at_once = bench.commit(&at_once, &changes).await;
    let mut one_by_one = bench.create(upload("one-by-one", Some(LARGE_BYTES))).await;
    for (change, end) in bench.blocks(&one_by_one, &ends).await.into_iter().zip(ends) {
        one_by_one = bench.commit(&one_by_one, &[change]).await;
        assert_eq!(one_by_one.received, Ranges::from(0..end));
        bench.expect_pattern(&one_by_one, 0..end, 1).await;
    }
    bench.reopen().await;
    for upload in [at_once, one_by_one] {
        bench.expect_pattern(&upload, 0..LARGE_BYTES, 1).await;
        let upload = bench.commit(&upload, &[COMPLETED]).await;
        bench.expect_pattern(&upload, 0..LARGE_BYTES, 1).await;
    }
}

/// The last one first, and each stands for its own bytes.
async fn receipts_are_recorded_in_any_order(mut bench: Bench) {
    let ends = [100_000, 1_000_000, LARGE_BYTES];
    let mut upload = bench.create(upload("a", Some(LARGE_BYTES))).await;
    let mut changes = bench.blocks(&upload, &ends).await;
    changes.swap(0, 1);
    for change in changes.into_iter().rev() {
        let Change::Received { range, .. } = change.clone() else { unreachable!("see above") };
        upload = bench.commit(&upload, &[change]).await;
        bench.expect_pattern(&upload, range, 1).await;
    }
    let upload = bench.commit(&upload, &[COMPLETED]).await;
    bench.reopen().await;
    bench.expect_pattern(&upload, 0..LARGE_BYTES, 1).await;
}

/// Others may be written in its place, and receipts beside it are as good as before.
async fn receipt_that_is_not_recorded_counts_for_nothing(mut bench: Bench) {
    let ends = [100_000, 1_000_000, 1_200_000];
    let upload = bench.create(upload("a", Some(1_200_000))).await;
    let mut changes = bench.blocks(&upload, &ends).await;
    drop(changes.remove(1));
    let upload = bench.commit(&upload, &changes).await;
    let gap = 100_000..1_000_000;
    assert_eq!(upload.received.gaps(&(0..1_200_000)), std::slice::from_ref(&gap));
    let upload = bench.put(&upload, gap.clone(), 2).await;
    let upload = bench.commit(&upload, &[COMPLETED]).await;
    for _ in 0..2 {
        bench.expect_pattern(&upload, 0..gap.start, 1).await;
        bench.expect_pattern(&upload, gap.clone(), 2).await;
        bench.expect_pattern(&upload, gap.end..1_200_000, 1).await;
        bench.reopen().await;
    }
}

/// With any outcome; no future stays pending.
async fn checkpoint_of_a_dropped_writer_ends(bench: Bench) {
    for round in 0..20 {
        let upload = bench.create(upload(&format!("a{round}"), Some(LARGE_BYTES))).await;
        let mut writer = bench.store().write(&upload, 0).await.expect("a sink");
        push(&mut *writer, &pattern(1, 0..2_000_000)).await;
        let checkpoint = writer.checkpoint();
        drop(writer);
        drop(checkpoint.await);
        // A checkpoint may be dropped without being awaited.
        let mut writer = bench.store().write(&upload, 0).await.expect("a sink");
        push(&mut *writer, &pattern(2, 0..2_000_000)).await;
        drop(writer.checkpoint());
        writer.finish().await.expect("durable");
    }
}

/// At any time, and more can be pushed after it.
async fn reread_gives_what_was_pushed(bench: Bench) {
    let upload = bench.create(upload("a", Some(LARGE_BYTES))).await;
    let mut writer = bench.store().write(&upload, 100).await.expect("a sink");
    let mut at = 100;
    for end in [100, 107, 90_000, 2_000_000, 2_000_000, LARGE_BYTES] {
        push(&mut *writer, &pattern(1, at..end)).await;
        at = end;
        let reread = collect(writer.reread().await.expect("bytes")).await.expect("bytes");
        assert!(reread == pattern(1, 100..end), "wrong bytes up to {end}");
    }
    let receipt = writer.finish().await.expect("durable");
    let changes = [Change::Received { range: 100..LARGE_BYTES, receipt }];
    let upload = bench.commit(&upload, &changes).await;
    let upload = bench.put(&upload, 0..100, 1).await;
    let upload = bench.commit(&upload, &[COMPLETED]).await;
    bench.expect_pattern(&upload, 0..LARGE_BYTES, 1).await;
}

/// A request with an empty body.
async fn writer_without_bytes_finishes(bench: Bench) {
    let upload = bench.create(upload("a", Some(9))).await;
    let mut writer = bench.store().write(&upload, 0).await.expect("a sink");
    writer.push(Bytes::new()).await.expect("nothing is taken");
    writer.checkpoint().await.expect("durable");
    assert!(collect(writer.reread().await.expect("nothing")).await.expect("nothing").is_empty());
    writer.finish().await.expect("durable");
    let upload = bench.put(&upload, 0..9, 1).await;
    let upload = bench.commit(&upload, &[COMPLETED]).await;
    bench.expect_pattern(&upload, 0..9, 1).await;
}
