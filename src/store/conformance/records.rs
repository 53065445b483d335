//! Promises about records: create, load, commit, remove, list.

use super::*;

super::checks![
    created_upload_is_loaded_as_it_was,
    created_upload_in_any_phase_is_loaded_as_it_was,
    unknown_upload_is_absent,
    existing_upload_is_not_created_again,
    racing_creates_have_one_winner,
    committed_changes_last,
    many_gaps_last,
    many_commits_last,
    stale_commit_changes_nothing,
    racing_commits_have_one_winner,
    commit_that_does_not_fit_changes_nothing,
    commits_of_many_uploads_do_not_meet,
    removed_upload_stays_removed,
    upload_that_moved_on_is_not_removed,
    racing_removal_and_commit_have_one_winner,
    writer_of_a_removed_upload_records_nothing,
    listing_gives_every_record_once,
    abandoned_calls_are_done_wholly_or_not_at_all,
];

/// Whatever a record can say survives.
async fn created_upload_is_loaded_as_it_was(mut bench: Bench) {
    let plain = bench.create(upload("plain", Some(5))).await;
    let rich = bench
        .create(Upload {
            completion: Completion::OnRequest,
            expires: Some(UNIX_EPOCH + Duration::from_millis(1_800_000_000_456)),
            key: Some(key("name")),
            length: None,
            metadata: " k ,, filename d29ybGQucGRm, x".parse().expect("as clients write it"),
            owner: Some("somebody \"else\"".to_owned()),
            role: Role::partial(),
            ..upload("rich-_1", None)
        })
        .await;
    let partials = vec![plain.id.clone(), rich.id.clone(), plain.id.clone()];
    let text = "final;/files/plain /files/rich-_1 /files/plain".to_owned();
    let role = Role::Final { partials, text };
    let joined = bench.create(Upload { role, ..upload(&"f".repeat(128), None) }).await;
    for upload in [&plain, &rich, &joined] {
        assert_eq!(*bench.load(upload).await, *upload);
    }
    bench.reopen().await;
    for upload in [&plain, &rich, &joined] {
        assert_eq!(*bench.load(upload).await, *upload);
    }
}

/// The first record need not be an open one.
async fn created_upload_in_any_phase_is_loaded_as_it_was(mut bench: Bench) {
    let complete = Phase::Complete { at: UNIX_EPOCH + Duration::from_millis(123) };
    let complete = bench.create(Upload { phase: complete, ..upload("complete", Some(0)) }).await;
    let until = Some(UNIX_EPOCH + Duration::from_millis(456));
    let expired = Phase::Void { why: VoidReason::Expired, until };
    let expired = bench.create(Upload { phase: expired, ..upload("expired", Some(5)) }).await;
    let removed = Phase::Void { why: VoidReason::Removed, until: None };
    let removed = bench.create(Upload { phase: removed, ..upload("removed", Some(5)) }).await;
    bench.reopen().await;
    for upload in [&complete, &expired, &removed] {
        assert_eq!(*bench.load(upload).await, *upload);
    }
    bench.expect_pattern(&complete, 0..0, 1).await;
}

/// Nothing can be done to an upload that is not there, and nothing comes to be by trying.
async fn unknown_upload_is_absent(bench: Bench) {
    let unknown = upload("unknown", Some(5));
    assert!(bench.is_absent(&unknown.id).await);
    let written = bench.store().write(&unknown, 0).await;
    assert!(matches!(written.map(drop), Err(StoreError::Absent)));
    let committed = bench.store().commit(&unknown, &[received(0..1)]).await;
    assert!(matches!(committed, Err(StoreError::Absent)));
    let read = bench.store().read(&unknown, 0..1).await;
    assert!(matches!(read.map(drop), Err(StoreError::Absent)));
    bench.remove(&unknown).await;
    assert!(bench.is_absent(&unknown.id).await);
    assert!(collect_list(bench.store().list()).await.is_empty());
}

/// The first of two uploads of one id stays as it is.
async fn existing_upload_is_not_created_again(mut bench: Bench) {
    let first = bench.create(upload("a", Some(5))).await;
    let first = bench.put(&first, 0..3, 1).await;
    for _ in 0..2 {
        let again = bench.store().create(&upload("a", Some(7)), None).await;
        assert!(matches!(again, Err(StoreError::Exists)));
        assert_eq!(*bench.load(&first).await, first);
        bench.expect_pattern(&first, 0..3, 1).await;
        bench.reopen().await;
    }
}

/// Of eight at once, exactly one succeeds.
async fn racing_creates_have_one_winner(bench: Bench) {
    for round in 0..8 {
        let id = format!("race-{round}");
        let tasks: Vec<_> = (1..=8)
            .map(|length| {
                let (store, upload) = (bench.shared(), upload(&id, Some(length)));
                tokio::spawn(async move { store.create(&upload, None).await.map(|()| upload) })
            })
            .collect();
        let mut winners = Vec::new();
        for task in tasks {
            match task.await.expect("creating does not panic") {
                Ok(upload) => winners.push(upload),
                Err(e) => assert!(matches!(e, StoreError::Exists), "{e}"),
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(*bench.load(&winners[0]).await, winners[0]);
    }
}

/// Every kind of change is there after a restart, and the revision counts.
async fn committed_changes_last(mut bench: Bench) {
    let mut upload = bench.create(upload("a", None)).await;
    let expires = Some(UNIX_EPOCH + Duration::from_millis(1_900_000_000_789));
    for changes in [
        vec![],
        vec![Change::ExpiryMoved { expires }],
        vec![received(0..3)],
        vec![received(5..9), Change::LengthDeclared { length: 9 }],
        vec![Change::ExpiryMoved { expires: None }],
        vec![Change::Voided { why: VoidReason::Expired, until: expires }],
        vec![Change::ExpiryMoved { expires }],
    ] {
        let mut changes = changes;
        if let Some(Change::Received { range, receipt }) = changes.first_mut() {
            *receipt = bench.write(&upload, range.start, &pattern(1, range.clone())).await;
        }
        let expected = upload.after(&changes).expect("the changes fit");
        upload = bench.commit(&upload, &changes).await;
        assert_eq!(upload, expected);
        assert_eq!(*bench.load(&upload).await, expected);
        bench.reopen().await;
        assert_eq!(*bench.load(&upload).await, expected);
    }
}

/// A record with hundreds of gaps is kept like any other.
async fn many_gaps_last(mut bench: Bench) {
    let upload = bench.create(upload("a", Some(1_000))).await;
    let blocks = bench.blocks(&upload, &(1..=1_000).collect::<Vec<_>>()).await;
    let odd: Vec<_> = blocks.into_iter().step_by(2).collect();
    let upload = bench.commit(&upload, &odd).await;
    assert_eq!(upload.received.runs(), 500);
    bench.reopen().await;
    assert_eq!(*bench.load(&upload).await, upload);
    bench.expect_pattern(&upload, 998..999, 1).await;
}

/// A record of a long life, too.
async fn many_commits_last(mut bench: Bench) {
    let mut upload = bench.create(upload("a", Some(1_000_000))).await;
    for round in 0..500 {
        let expires = Some(UNIX_EPOCH + Duration::from_secs(round));
        upload = bench.commit(&upload, &[Change::ExpiryMoved { expires }]).await;
    }
    assert_eq!(upload.revision, 500);
    bench.reopen().await;
    assert_eq!(*bench.load(&upload).await, upload);
    upload = bench.put(&upload, 0..10, 1).await;
    bench.reopen().await;
    assert_eq!(*bench.load(&upload).await, upload);
}

/// A commit based on an older record is `Stale`.
async fn stale_commit_changes_nothing(mut bench: Bench) {
    let old = bench.create(upload("a", Some(9))).await;
    let new = bench.put(&old, 0..3, 1).await;
    for _ in 0..2 {
        let stale = bench.store().commit(&old, &[VOIDED]).await;
        assert!(matches!(stale, Err(StoreError::Stale)));
        assert_eq!(*bench.load(&new).await, new);
        bench.expect_pattern(&new, 0..3, 1).await;
        bench.reopen().await;
    }
}

/// Of eight commits on top of the same record, one is made.
async fn racing_commits_have_one_winner(bench: Bench) {
    let mut upload = bench.create(upload("a", None)).await;
    for _ in 0..8 {
        let tasks: Vec<_> = (0..8_u64)
            .map(|seconds| {
                let (store, upload) = (bench.shared(), upload.clone());
                let expires = Some(UNIX_EPOCH + Duration::from_secs(seconds));
                let moved = Change::ExpiryMoved { expires };
                tokio::spawn(async move { store.commit(&upload, &[moved]).await })
            })
            .collect();
        let mut winners = Vec::new();
        for task in tasks {
            match task.await.expect("committing does not panic") {
                Ok(upload) => winners.push(upload),
                Err(e) => assert!(matches!(e, StoreError::Stale), "{e}"),
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(bench.load(&upload).await, winners[0]);
        upload = (*winners[0]).clone();
    }
}

/// All changes of a commit are made, or none.
async fn commit_that_does_not_fit_changes_nothing(mut bench: Bench) {
    let upload = bench.create(upload("a", Some(9))).await;
    for _ in 0..2 {
        let receipt = bench.write(&upload, 0, &pattern(1, 0..3)).await;
        let received = Change::Received { range: 0..3, receipt };
        let refused = bench.store().commit(&upload, &[received, COMPLETED]).await;
        assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
        assert_eq!(*bench.load(&upload).await, upload);
        bench.reopen().await;
    }
    bench.put(&upload, 0..3, 1).await;
}

/// Uploads that change at the same time keep apart.
async fn commits_of_many_uploads_do_not_meet(mut bench: Bench) {
    let tasks: Vec<_> = (0..32_u64)
        .map(|seed| {
            let store = bench.shared();
            tokio::spawn(async move {
                let mut upload = upload(&format!("a{seed}"), Some(1_000));
                store.create(&upload, None).await.expect("created");
                for start in (0..1_000).step_by(100) {
                    let range = start..start + 100;
                    let mut writer = store.write(&upload, start).await.expect("a sink");
                    push(&mut *writer, &pattern(seed, range.clone())).await;
                    let receipt = writer.finish().await.expect("durable");
                    let changes = [Change::Received { range, receipt }];
                    let next = store.commit(&upload, &changes).await.expect("committed");
                    upload = (*next).clone();
                }
                upload
            })
        })
        .collect();
    let mut uploads = Vec::new();
    for task in tasks {
        uploads.push(task.await.expect("no panic"));
    }
    bench.reopen().await;
    for (seed, upload) in (0..).zip(uploads) {
        assert_eq!(*bench.load(&upload).await, upload);
        bench.expect_pattern(&upload, 0..1_000, seed).await;
    }
}

/// Whatever phase it was in.
async fn removed_upload_stays_removed(mut bench: Bench) {
    let open = bench.create(upload("open", Some(9))).await;
    let open = bench.put(&open, 0..3, 1).await;
    let void = bench.create(upload("void", Some(9))).await;
    let void = bench.commit(&void, &[VOIDED]).await;
    let complete = bench.complete("complete", 9, Role::Whole, 1).await;
    let partial = bench.complete("partial", 9, Role::partial(), 1).await;
    let kept = bench.complete("kept", 9, Role::Whole, 2).await;
    for upload in [&open, &void, &complete, &partial] {
        bench.remove(upload).await;
        assert!(bench.is_absent(&upload.id).await);
        let committed = bench.store().commit(upload, &[]).await;
        assert!(matches!(committed, Err(StoreError::Absent)));
        bench.remove(upload).await;
    }
    bench.reopen().await;
    for upload in [&open, &void, &complete, &partial] {
        assert!(bench.is_absent(&upload.id).await);
        bench.remove(upload).await;
    }
    bench.expect_pattern(&kept, 0..9, 2).await;
}

/// What was judged is removed, and nothing else.
async fn upload_that_moved_on_is_not_removed(mut bench: Bench) {
    let judged = bench.create(upload("a", Some(9))).await;
    let now = bench.put(&judged, 0..9, 1).await;
    for _ in 0..2 {
        let removed = bench.store().remove(&judged).await;
        assert!(matches!(removed, Err(StoreError::Stale)), "{removed:?}");
        assert_eq!(*bench.load(&now).await, now);
        bench.expect_pattern(&now, 0..9, 1).await;
        bench.reopen().await;
    }
    let complete = bench.commit(&now, &[COMPLETED]).await;
    let removed = bench.store().remove(&now).await;
    assert!(matches!(removed, Err(StoreError::Stale)), "{removed:?}");
    bench.expect_pattern(&complete, 0..9, 1).await;
    bench.remove(&complete).await;
    assert!(bench.is_absent(&complete.id).await);
}

/// Either a commit is made, and nothing removed, or the upload is removed, and nothing committed.
async fn racing_removal_and_commit_have_one_winner(bench: Bench) {
    for round in 0..16 {
        let upload = bench.create(upload(&format!("race-{round}"), Some(9))).await;
        let race = |removes: bool| {
            let (store, upload) = (bench.shared(), upload.clone());
            tokio::spawn(async move {
                match removes {
                    true => store.remove(&upload).await,
                    false => store.commit(&upload, &[VOIDED]).await.map(drop),
                }
            })
        };
        let racing = [race(true), race(false), race(true), race(false)];
        let mut outcomes = Vec::new();
        for task in racing {
            outcomes.push(task.await.expect("no panic"));
        }
        let is_stale = |outcome: &Result<(), StoreError>| matches!(outcome, Err(StoreError::Stale));
        let is_absent =
            |outcome: &Result<(), StoreError>| matches!(outcome, Err(StoreError::Absent));
        let [first, second] = [&outcomes[1], &outcomes[3]];
        if bench.is_absent(&upload.id).await {
            assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
            assert!(is_absent(first) && is_absent(second), "{outcomes:?}");
        } else {
            assert!(is_stale(&outcomes[0]) && is_stale(&outcomes[2]), "{outcomes:?}");
            assert!(first.is_ok() != second.is_ok(), "{outcomes:?}");
            assert!(bench.load(&upload).await.is_void());
        }
    }
}

/// A writer may outlive its upload.
async fn writer_of_a_removed_upload_records_nothing(mut bench: Bench) {
    let removed = bench.create(upload("a", Some(9))).await;
    let mut writer = bench.store().write(&removed, 0).await.expect("a sink");
    push(&mut *writer, &pattern(1, 0..9)).await;
    bench.remove(&removed).await;
    // Whether the bytes can still be stored is of no interest; they must not come to count.
    let receipt = writer.finish().await.unwrap_or_default();
    let received = Change::Received { range: 0..9, receipt };
    let committed = bench.store().commit(&removed, &[received]).await;
    assert!(matches!(committed, Err(StoreError::Absent)), "{committed:?}");
    assert!(bench.is_absent(&removed.id).await);
    bench.reopen().await;
    assert!(bench.is_absent(&removed.id).await);
}

/// More records than a store may like to read at once.
async fn listing_gives_every_record_once(mut bench: Bench) {
    let mut uploads = Vec::new();
    for index in 0..300_u64 {
        uploads.push(Arc::new(bench.create(upload(&format!("a{index:03}"), Some(index))).await));
    }
    uploads.push(bench.complete("b", 9, Role::Whole, 1).await);
    let removed = bench.create(upload("c", None)).await;
    bench.remove(&removed).await;
    assert_eq!(collect_list(bench.store().list()).await, uploads);
    bench.reopen().await;
    assert_eq!(collect_list(bench.store().list()).await, uploads);
    // A list may be dropped before its end.
    let mut list = bench.store().list();
    assert!(list.next().await.is_some());
}

/// Futures dropped after a few polls.
async fn abandoned_calls_are_done_wholly_or_not_at_all(mut bench: Bench) {
    for polls in 0..4 {
        let id = format!("a{polls}");
        let created = Upload { key: Some(key(&id)), ..upload(&id, Some(9)) };
        abandon(bench.store().create(&created, None), polls).await;
        match bench.store().create(&created, None).await {
            Ok(()) | Err(StoreError::Exists | StoreError::Stale) => {}
            Err(e) => panic!("creating again: {e}"),
        }
        let upload = bench.load(&created).await;
        assert_eq!(*upload, created);
        assert_eq!(bench.by_key(&key(&id)).await, Some(upload.clone()));
        let changes = [VOIDED];
        abandon(bench.store().commit(&upload, &changes), polls).await;
        let void = upload.after(&changes).expect("fits");
        match bench.store().commit(&upload, &changes).await {
            Ok(next) => assert_eq!(*next, void),
            Err(e) => assert!(matches!(e, StoreError::Stale), "{e}"),
        }
        assert_eq!(*bench.load(&upload).await, void);
        abandon(bench.store().remove(&void), polls).await;
        bench.remove(&void).await;
        assert!(bench.is_absent(&upload.id).await);
        assert_eq!(bench.by_key(&key(&id)).await, None);
    }
    bench.reopen().await;
    assert!(collect_list(bench.store().list()).await.is_empty());
}

/// Polls a future so many times, then drops it.
async fn abandon<T>(future: impl Future<Output = T>, polls: u32) {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return std::task::Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        future.as_mut().poll(cx).map(drop)
    })
    .await;
}
