//! Promises about joins.

use super::*;

super::checks![
    store_without_joins_says_so,
    joined_upload_has_the_bytes_of_its_parts,
    joined_upload_can_be_read_in_any_range,
    joined_upload_outlives_its_parts,
    joined_upload_of_one_part_is_independent,
    joined_upload_of_empty_parts_is_empty,
    join_shows_nothing_until_the_record_is_made,
    join_can_be_repeated,
    join_of_a_missing_part_is_refused,
    upload_created_before_its_join_completes,
    removed_join_leaves_its_parts,
    many_parts_are_joined,
];

/// The length of every part that is not empty.
const PART_BYTES: u64 = 300_001;

/// A final upload of `parts`, complete, whose record is not made yet.
fn final_of(id: &str, parts: &[Arc<Upload>]) -> Upload {
    let length = parts.iter().map(|part| part.offset()).sum();
    let partials: Vec<_> = parts.iter().map(|part| part.id.clone()).collect();
    Upload {
        phase: Phase::Complete { at: UNIX_EPOCH },
        received: Ranges::from(0..length),
        role: Role::Final { partials, text: "final;as the client wrote it".to_owned() },
        ..upload(id, Some(length))
    }
}

/// Parts with the patterns of seeds 1, 2 .., and an empty one in the middle.
async fn parts(bench: &Bench) -> Vec<Arc<Upload>> {
    vec![
        bench.complete("one", PART_BYTES, Role::partial(), 1).await,
        bench.complete("none", 0, Role::partial(), 9).await,
        bench.complete("two", PART_BYTES, Role::partial(), 2).await,
    ]
}

/// A join and its record.
async fn join(bench: &Bench, id: &str, parts: &[Arc<Upload>]) -> Upload {
    let upload = final_of(id, parts);
    bench.store().join(&upload, parts).await.expect("joined");
    bench.create(upload).await
}

/// Shows that the bytes of `upload` are those of the patterns of `seeds`, one after the other.
async fn expect_parts(bench: &Bench, upload: &Upload, seeds: &[u64]) {
    let read = bench.read(upload, 0..upload.offset()).await;
    let expected: Vec<_> = seeds.iter().flat_map(|seed| pattern(*seed, 0..PART_BYTES)).collect();
    assert!(read == expected, "{}: wrong bytes", upload.id);
}

/// Instead of pretending.
async fn store_without_joins_says_so(bench: Bench) {
    if !bench.store().capabilities().join {
        let refused = bench.store().join(&final_of("a", &[]), &[]).await;
        assert!(matches!(refused, Err(StoreError::Unsupported)));
    }
}

/// In order, each as often as it is named, from the first moment on, permanently.
async fn joined_upload_has_the_bytes_of_its_parts(mut bench: Bench) {
    if !bench.store().capabilities().join {
        return;
    }
    let parts = parts(&bench).await;
    let order: Vec<_> = [1, 0, 1, 2, 0, 0, 1].map(|index| Arc::clone(&parts[index])).into();
    let upload = join(&bench, "a", &order).await;
    // A store may move the bytes meanwhile.
    for _ in 0..10 {
        expect_parts(&bench, &upload, &[1, 2, 1, 1]).await;
    }
    assert_eq!(*bench.load(&upload).await, upload);
    bench.reopen().await;
    assert_eq!(*bench.load(&upload).await, upload);
    for _ in 0..10 {
        expect_parts(&bench, &upload, &[1, 2, 1, 1]).await;
    }
    bench.expect_pattern(&parts[0], 0..PART_BYTES, 1).await;
}

/// Borders of parts are no borders.
async fn joined_upload_can_be_read_in_any_range(bench: Bench) {
    if !bench.store().capabilities().join {
        return;
    }
    let parts = parts(&bench).await;
    let upload = join(&bench, "a", &parts).await;
    let all = [pattern(1, 0..PART_BYTES), pattern(2, 0..PART_BYTES)].concat();
    for border in [1, PART_BYTES, 2 * PART_BYTES - 1] {
        for (before, after) in [(0, 0), (0, 1), (1, 0), (1, 1), (200_000, 250_000)] {
            let start = border.saturating_sub(before);
            let end = (border + after).min(2 * PART_BYTES);
            let read = bench.read(&upload, start..end).await;
            assert!(read == all[start as usize..end as usize], "wrong bytes in {start}..{end}");
        }
    }
}

/// Removing a part takes nothing away, even from a reader that has begun.
async fn joined_upload_outlives_its_parts(mut bench: Bench) {
    if !bench.store().capabilities().join {
        return;
    }
    let parts = parts(&bench).await;
    let upload = join(&bench, "a", &parts).await;
    let begun = bench.store().read(&upload, 0..2 * PART_BYTES).await.expect("bytes");
    for part in &parts {
        bench.remove(part).await;
    }
    let all = [pattern(1, 0..PART_BYTES), pattern(2, 0..PART_BYTES)].concat();
    assert!(collect(begun).await.expect("bytes") == all, "wrong bytes");
    expect_parts(&bench, &upload, &[1, 2]).await;
    bench.reopen().await;
    expect_parts(&bench, &upload, &[1, 2]).await;
}

/// The simplest join is no other name for its part.
async fn joined_upload_of_one_part_is_independent(mut bench: Bench) {
    if !bench.store().capabilities().join {
        return;
    }
    let parts = parts(&bench).await;
    let first = join(&bench, "first", &parts[..1]).await;
    let second = join(&bench, "second", &parts[..1]).await;
    bench.remove(&first).await;
    bench.remove(&parts[0]).await;
    bench.reopen().await;
    expect_parts(&bench, &second, &[1]).await;
    assert!(bench.is_absent(&first.id).await);
}

/// No part, or none with bytes.
async fn joined_upload_of_empty_parts_is_empty(mut bench: Bench) {
    if !bench.store().capabilities().join {
        return;
    }
    let parts = parts(&bench).await;
    let none = join(&bench, "a", &[]).await;
    let empty = join(&bench, "b", &parts[1..2]).await;
    for _ in 0..2 {
        for upload in [&none, &empty] {
            assert!(bench.load(upload).await.is_complete());
            assert!(bench.read(upload, 0..0).await.is_empty());
        }
        bench.reopen().await;
    }
}

/// Bytes without a record are no upload, and can be taken back.
async fn join_shows_nothing_until_the_record_is_made(mut bench: Bench) {
    if !bench.store().capabilities().join {
        return;
    }
    let parts = parts(&bench).await;
    let upload = final_of("a", &parts);
    bench.store().join(&upload, &parts).await.expect("joined");
    assert!(bench.is_absent(&upload.id).await);
    assert_eq!(collect_list(bench.store().list()).await.len(), 3);
    bench.remove(&upload).await;
    let created = bench.store().create(&upload, None).await;
    assert!(created.is_err(), "an upload is complete whose bytes were removed");
    bench.reopen().await;
    assert!(bench.is_absent(&upload.id).await);
}

/// Before its record and after it.
async fn join_can_be_repeated(mut bench: Bench) {
    if !bench.store().capabilities().join {
        return;
    }
    let parts = parts(&bench).await;
    let upload = final_of("a", &parts);
    bench.store().join(&upload, &parts[..1]).await.expect("joined in another order");
    bench.store().join(&upload, &parts).await.expect("joined");
    bench.store().join(&upload, &parts).await.expect("joined again");
    let upload = bench.create(upload).await;
    bench.store().join(&upload, &parts).await.expect("joined once more");
    bench.reopen().await;
    expect_parts(&bench, &upload, &[1, 2]).await;
}

/// A part that was removed, or whose bytes were given up, meanwhile.
async fn join_of_a_missing_part_is_refused(bench: Bench) {
    if !bench.store().capabilities().join {
        return;
    }
    let mut parts = parts(&bench).await;
    let void = bench.complete("void", PART_BYTES, Role::partial(), 3).await;
    bench.remove(&parts[2]).await;
    bench.commit(&void, &[VOIDED]).await;
    let upload = final_of("a", &parts);
    for missing in [Arc::clone(&parts[2]), void] {
        parts[2] = missing;
        let refused = bench.store().join(&upload, &parts).await;
        assert!(matches!(refused, Err(StoreError::Absent)), "{refused:?}");
        assert!(bench.is_absent(&upload.id).await);
    }
    // What remains can still be joined.
    let upload = join(&bench, "a", &parts[..2]).await;
    expect_parts(&bench, &upload, &[1]).await;
}

/// A final upload may be made while its parts are still open.
async fn upload_created_before_its_join_completes(mut bench: Bench) {
    if !bench.store().capabilities().join {
        return;
    }
    let parts = parts(&bench).await;
    let full = final_of("a", &parts);
    let open = Upload { phase: Phase::Open, received: Ranges::new(), length: None, ..full };
    let open = bench.create(open).await;
    bench.reopen().await;
    bench.store().join(&open, &parts).await.expect("joined");
    let length = 2 * PART_BYTES;
    let changes = [Change::LengthDeclared { length }, received(0..length), COMPLETED];
    let upload = bench.commit(&open, &changes).await;
    for _ in 0..2 {
        expect_parts(&bench, &upload, &[1, 2]).await;
        bench.reopen().await;
    }
}

/// Parts are uploads of their own.
async fn removed_join_leaves_its_parts(mut bench: Bench) {
    if !bench.store().capabilities().join {
        return;
    }
    let parts = parts(&bench).await;
    for round in 0..10 {
        let upload = join(&bench, &format!("a{round}"), &parts).await;
        bench.remove(&upload).await;
        assert!(bench.is_absent(&upload.id).await);
    }
    bench.reopen().await;
    bench.expect_pattern(&parts[0], 0..PART_BYTES, 1).await;
    bench.expect_pattern(&parts[2], 0..PART_BYTES, 2).await;
    assert_eq!(collect_list(bench.store().list()).await.len(), 3);
}

/// Hundreds of them.
async fn many_parts_are_joined(mut bench: Bench) {
    if !bench.store().capabilities().join {
        return;
    }
    let mut parts = Vec::new();
    for seed in 0..200_u64 {
        parts.push(bench.complete(&format!("p{seed}"), 100 + seed, Role::partial(), seed).await);
    }
    let upload = join(&bench, "a", &parts).await;
    let all: Vec<_> = (0..200).flat_map(|seed| pattern(seed, 0..100 + seed)).collect();
    for _ in 0..2 {
        assert!(bench.read(&upload, 0..upload.offset()).await == all, "wrong bytes");
        bench.reopen().await;
    }
}
