//! Promises about keys: which upload each leads to.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

super::checks![
    key_without_an_upload_is_absent,
    key_leads_to_its_upload_in_every_phase,
    key_leads_to_the_upload_that_was_created_last,
    creation_that_follows_another_upload_leaves_nothing,
    existing_upload_does_not_take_another_key,
    racing_first_uploads_of_a_key_have_one_winner,
    racing_successors_have_one_winner,
    removal_of_the_current_upload_frees_its_key,
    removal_of_an_older_upload_leaves_the_key,
    removal_that_is_stale_leaves_the_key,
    racing_successor_and_removal_agree,
    key_in_use_is_never_absent,
];

/// An upload of 9 bytes with a key, not created yet.
fn keyed(id: &str, name: &str) -> Upload {
    let owner = Some("owner of the name".to_owned());
    Upload { key: Some(key(name)), owner, ..upload(id, Some(9)) }
}

/// An upload that takes a key over from `predecessor`.
async fn succeed(bench: &Bench, upload: Upload, predecessor: &Upload) -> Upload {
    let created = bench.store().create(&upload, Some(&predecessor.id)).await;
    created.expect("an upload that follows the current one");
    upload
}

/// Shows that the key `name` leads to `upload`, and that this is as given.
async fn expect_current(bench: &Bench, name: &str, upload: &Upload) {
    assert_eq!(bench.by_key(&key(name)).await.as_deref(), Some(upload));
    assert_eq!(*bench.load(upload).await, *upload);
}

/// Shows that a creation was refused, and that nothing is left of it.
async fn expect_stale(bench: &Bench, upload: &Upload, predecessor: Option<&UploadId>) {
    let refused = bench.store().create(upload, predecessor).await;
    assert!(matches!(refused, Err(StoreError::Stale)), "{predecessor:?}: {refused:?}");
    assert!(bench.is_absent(&upload.id).await, "{} was created", upload.id);
    let listed = collect_list(bench.store().list()).await;
    assert!(listed.iter().all(|other| other.id != upload.id), "{} is listed", upload.id);
}

/// Asking for it makes nothing, and an upload of another key, or of none, is another one.
async fn key_without_an_upload_is_absent(mut bench: Bench) {
    assert_eq!(bench.by_key(&key("name")).await, None);
    let other = bench.create(keyed("other", "other")).await;
    bench.create(upload("keyless", Some(9))).await;
    for _ in 0..2 {
        assert_eq!(bench.by_key(&key("name")).await, None);
        expect_current(&bench, "other", &other).await;
        bench.reopen().await;
    }
}

/// A void upload keeps its key: clients that look it up learn that it is gone.
async fn key_leads_to_its_upload_in_every_phase(mut bench: Bench) {
    let open = bench.create(keyed("a", "name")).await;
    let full = bench.put(&open, 0..9, 1).await;
    let complete = bench.commit(&full, &[COMPLETED]).await;
    expect_current(&bench, "name", &complete).await;
    let void = bench.commit(&complete, &[VOIDED]).await;
    let empty = Phase::Complete { at: UNIX_EPOCH };
    let empty = Upload { length: Some(0), phase: empty, ..keyed("empty", "of nothing") };
    let empty = bench.create(empty).await;
    for _ in 0..2 {
        expect_current(&bench, "name", &void).await;
        expect_current(&bench, "of nothing", &empty).await;
        bench.reopen().await;
    }
}

/// Whatever the one before has come to, it stays as it was.
async fn key_leads_to_the_upload_that_was_created_last(mut bench: Bench) {
    let first = bench.create(keyed("first", "name")).await;
    let first = bench.put(&first, 0..3, 1).await;
    let second = succeed(&bench, keyed("second", "name"), &first).await;
    expect_current(&bench, "name", &second).await;
    let second = bench.put(&second, 0..9, 2).await;
    let second = bench.commit(&second, &[COMPLETED]).await;
    let third = succeed(&bench, keyed("third", "name"), &second).await;
    let third = bench.commit(&third, &[VOIDED]).await;
    let fourth = succeed(&bench, keyed("fourth", "name"), &third).await;
    for _ in 0..2 {
        expect_current(&bench, "name", &fourth).await;
        for upload in [&first, &second, &third] {
            assert_eq!(*bench.load(upload).await, *upload);
        }
        bench.expect_pattern(&first, 0..3, 1).await;
        bench.expect_pattern(&second, 0..9, 2).await;
        bench.reopen().await;
    }
    // An older upload is like any other.
    let first = bench.put(&first, 3..9, 1).await;
    let first = bench.commit(&first, &[COMPLETED]).await;
    bench.expect_pattern(&first, 0..9, 1).await;
    expect_current(&bench, "name", &fourth).await;
}

/// Whoever has looked too long ago is refused.
async fn creation_that_follows_another_upload_leaves_nothing(mut bench: Bench) {
    let late = keyed("late", "name");
    expect_stale(&bench, &late, Some(&"unknown".parse().expect("plain"))).await;
    let first = bench.create(keyed("first", "name")).await;
    let other = bench.create(keyed("other", "other")).await;
    for _ in 0..2 {
        expect_stale(&bench, &late, None).await;
        expect_stale(&bench, &late, Some(&other.id)).await;
        expect_stale(&bench, &late, Some(&late.id)).await;
        expect_current(&bench, "name", &first).await;
        bench.reopen().await;
    }
    let second = succeed(&bench, keyed("second", "name"), &first).await;
    for _ in 0..2 {
        expect_stale(&bench, &late, None).await;
        expect_stale(&bench, &late, Some(&first.id)).await;
        expect_current(&bench, "name", &second).await;
        bench.reopen().await;
    }
    let late = succeed(&bench, late, &second).await;
    expect_current(&bench, "name", &late).await;
    expect_current(&bench, "other", &other).await;
}

/// Neither that of another upload nor one of no upload.
async fn existing_upload_does_not_take_another_key(mut bench: Bench) {
    let first = bench.create(keyed("first", "first")).await;
    let second = bench.create(keyed("second", "second")).await;
    for _ in 0..2 {
        for (upload, predecessor) in
            [(keyed("first", "second"), Some(&second.id)), (keyed("first", "third"), None)]
        {
            let refused = bench.store().create(&upload, predecessor).await;
            assert!(matches!(refused, Err(StoreError::Exists)), "{refused:?}");
        }
        expect_current(&bench, "first", &first).await;
        expect_current(&bench, "second", &second).await;
        assert_eq!(bench.by_key(&key("third")).await, None);
        bench.reopen().await;
    }
}

/// Eight creations at once that follow one predecessor. Gives the only one that was made.
async fn race(bench: &Bench, round: u32, predecessor: Option<&Upload>) -> Upload {
    let uploads = (0..8).map(|index| keyed(&format!("a{round}-{index}"), "name"));
    let racing = uploads.map(|upload| {
        let (store, predecessor) = (bench.shared(), predecessor.map(|upload| upload.id.clone()));
        tokio::spawn(async move {
            let created = store.create(&upload, predecessor.as_ref()).await;
            (upload, created)
        })
    });
    let mut winners = Vec::new();
    for task in racing.collect::<Vec<_>>() {
        match task.await.expect("creating does not panic") {
            (upload, Ok(())) => winners.push(upload),
            (upload, Err(e)) => {
                assert!(matches!(e, StoreError::Stale), "{e}");
                assert!(bench.is_absent(&upload.id).await, "{} was created", upload.id);
            }
        }
    }
    let [winner] = &winners[..] else { panic!("{winners:?}") };
    expect_current(bench, "name", winner).await;
    winner.clone()
}

/// The others find it.
async fn racing_first_uploads_of_a_key_have_one_winner(mut bench: Bench) {
    for round in 0..8 {
        let winner = race(&bench, round, None).await;
        bench.reopen().await;
        expect_current(&bench, "name", &winner).await;
        assert_eq!(collect_list(bench.store().list()).await, [Arc::new(winner.clone())]);
        bench.remove(&winner).await;
    }
}

/// One after the other, so that none is lost on the way.
async fn racing_successors_have_one_winner(mut bench: Bench) {
    let mut uploads = vec![bench.create(keyed("a", "name")).await];
    for round in 0..8 {
        uploads.push(race(&bench, round, uploads.last()).await);
    }
    bench.reopen().await;
    expect_current(&bench, "name", &uploads[8]).await;
    assert_eq!(collect_list(bench.store().list()).await.len(), 9);
}

/// Those before it do not come back, whatever phase it was in.
async fn removal_of_the_current_upload_frees_its_key(mut bench: Bench) {
    let mut older = Vec::new();
    for changes in [&[][..], &[VOIDED], &[Change::LengthDeclared { length: 0 }, COMPLETED]] {
        let index = older.len();
        let first = bench.create(keyed(&format!("old-{index}"), "name")).await;
        let second = Upload { length: None, ..keyed(&format!("new-{index}"), "name") };
        let second = succeed(&bench, second, &first).await;
        let second = bench.commit(&second, changes).await;
        older.push(first);
        bench.remove(&second).await;
        for _ in 0..2 {
            assert_eq!(bench.by_key(&key("name")).await, None);
            expect_stale(&bench, &keyed("late", "name"), Some(&second.id)).await;
            for upload in &older {
                expect_stale(&bench, &keyed("late", "name"), Some(&upload.id)).await;
                assert_eq!(*bench.load(upload).await, *upload);
            }
            bench.reopen().await;
        }
    }
    let last = bench.create(keyed("last", "name")).await;
    expect_current(&bench, "name", &last).await;
}

/// It leads to the one that came after.
async fn removal_of_an_older_upload_leaves_the_key(mut bench: Bench) {
    let first = bench.create(keyed("first", "name")).await;
    let second = succeed(&bench, keyed("second", "name"), &first).await;
    let third = succeed(&bench, keyed("third", "name"), &second).await;
    let third = bench.put(&third, 0..9, 3).await;
    for older in [&second, &first] {
        bench.remove(older).await;
        for _ in 0..2 {
            assert!(bench.is_absent(&older.id).await);
            expect_current(&bench, "name", &third).await;
            bench.expect_pattern(&third, 0..9, 3).await;
            bench.reopen().await;
            // Removing it once more is fine, and as harmless.
            bench.remove(older).await;
        }
    }
}

/// Nothing is removed, neither the upload nor the way to it.
async fn removal_that_is_stale_leaves_the_key(mut bench: Bench) {
    let judged = bench.create(keyed("a", "name")).await;
    let now = bench.put(&judged, 0..3, 1).await;
    for _ in 0..2 {
        let removed = bench.store().remove(&judged).await;
        assert!(matches!(removed, Err(StoreError::Stale)), "{removed:?}");
        expect_current(&bench, "name", &now).await;
        bench.expect_pattern(&now, 0..3, 1).await;
        bench.reopen().await;
    }
}

/// Either the successor came first, and the older one was removed, or the key was free already.
async fn racing_successor_and_removal_agree(mut bench: Bench) {
    for round in 0..16 {
        let name = format!("name {round}");
        let old = bench.create(keyed(&format!("old-{round}"), &name)).await;
        let new = keyed(&format!("new-{round}"), &name);
        let (store, removed) = (bench.shared(), old.clone());
        let removing = tokio::spawn(async move { store.remove(&removed).await });
        let created = bench.store().create(&new, Some(&old.id)).await;
        removing.await.expect("no panic").expect("removed");
        assert!(bench.is_absent(&old.id).await);
        if round == 8 {
            bench.reopen().await;
        }
        match created {
            Ok(()) => expect_current(&bench, &name, &new).await,
            Err(StoreError::Stale) => {
                assert!(bench.is_absent(&new.id).await);
                assert_eq!(bench.by_key(&key(&name)).await, None);
            }
            Err(e) => panic!("{e}"),
        }
    }
}

/// Somebody asks while uploads follow one another, each of which is removed once it has a
/// successor.
async fn key_in_use_is_never_absent(bench: Bench) {
    let mut current = bench.create(keyed("a", "name")).await;
    let (store, is_over) = (bench.shared(), Arc::new(AtomicBool::new(false)));
    let over = Arc::clone(&is_over);
    let asking = tokio::spawn(async move {
        while !over.load(Ordering::Relaxed) {
            let found = store.by_key(&key("name")).await;
            assert!(found.is_ok(), "{found:?}");
            tokio::task::yield_now().await;
        }
    });
    for round in 0..30 {
        let next = succeed(&bench, keyed(&format!("a{round}"), "name"), &current).await;
        bench.remove(&current).await;
        current = next;
        tokio::task::yield_now().await;
    }
    is_over.store(true, Ordering::Relaxed);
    asking.await.expect("never absent");
    expect_current(&bench, "name", &current).await;
}
