//! Final uploads on their way from links to a plain file.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, Instant, UNIX_EPOCH},
};

use tokio::sync::Semaphore;

use super::{
    super::{FileStore, OpenError, disk::Step, lock, materialize::STEP_BYTES},
    Directory, VOIDED, full, set,
};
use crate::{
    store::{Durability, Store, conformance},
    upload::{Change, Phase, Ranges, Role, Upload},
};

/// The length of each part.
const PART: usize = 300_000;

/// A complete partial upload of one repeated byte.
async fn part(store: &FileStore, id: &str, byte: u8) -> Arc<Upload> {
    let upload = Upload { role: Role::partial(), ..conformance::upload(id, Some(PART as u64)) };
    store.create(&upload, None).await.expect("created");
    let mut writer = store.write(&upload, 0).await.expect("a sink");
    writer.push(vec![byte; PART].into()).await.expect("taken");
    let receipt = writer.finish().await.expect("durable");
    let received = Change::Received { range: 0..PART as u64, receipt };
    let completed = Change::Completed { at: upload.created };
    store.commit(&upload, &[received, completed]).await.expect("committed")
}

/// A final upload of parts, complete, that is not created yet.
fn final_of(id: &str, parts: &[Arc<Upload>]) -> Upload {
    let length = parts.iter().map(|part| part.offset()).sum();
    Upload {
        phase: Phase::Complete { at: UNIX_EPOCH },
        received: Ranges::from(0..length),
        role: Role::Final {
            partials: parts.iter().map(|part| part.id.clone()).collect(),
            text: String::new(),
        },
        ..conformance::upload(id, Some(length))
    }
}

/// A final upload of parts, joined and created.
async fn join(store: &FileStore, id: &str, parts: &[Arc<Upload>]) -> Upload {
    let upload = final_of(id, parts);
    store.join(&upload, parts).await.expect("joined");
    store.create(&upload, None).await.expect("created");
    upload
}

/// The bytes of parts 1 and 2.
fn both() -> Vec<u8> {
    [[1; PART], [2; PART]].concat()
}

/// All bytes of an upload.
async fn read(store: &FileStore, upload: &Upload) -> Vec<u8> {
    let stream = store.read(upload, 0..upload.offset()).await.expect("bytes");
    conformance::collect(stream).await.expect("bytes")
}

/// Has the copying wait until the sender given is dropped, and tells when it has come so far.
fn hold_copies(store: &FileStore) -> (Arc<Semaphore>, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel();
    let (reached, released) = (Arc::new(Semaphore::new(0)), Mutex::new(released));
    let reaching = Arc::clone(&reached);
    store.shared.disk.probe().set(move |_, step| {
        if matches!(step, Step::Copy { .. }) {
            reaching.add_permits(1);
            // Ends with an error, when the sender is gone.
            let _ = lock(&released).recv();
        }
        Ok(())
    });
    (reached, release)
}

#[tokio::test]
async fn final_upload_is_whole_before_and_after_it_is_laid_down() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let parts = [part(&store, "p1", 1).await, part(&store, "p2", 2).await];
    let (reached, release) = hold_copies(&store);
    let upload = join(&store, "f", &parts).await;
    drop(reached.acquire().await.expect("never closed"));
    // Before: no plain file, and yet every byte.
    assert!(place.names().contains("f.join") && !place.names().contains("f"));
    assert!(read(&store, &upload).await == both());
    for part in &parts {
        store.remove(part).await.expect("removed");
    }
    assert!(read(&store, &upload).await == both());
    // A reader that has seen the links, but not opened the last one yet.
    let late = store.read(&upload, 0..upload.offset()).await.expect("bytes");
    drop(release);
    store.wait_idle().await;
    // After: a plain file and nothing else.
    assert_eq!(place.names(), set(["f", "f.record"]));
    assert!(conformance::collect(late).await.expect("bytes") == both());
    assert!(read(&store, &upload).await == both());
    assert!(fs::read(place.file("f")).expect("published") == both());
}

#[tokio::test]
async fn upload_removed_while_it_is_laid_down_leaves_nothing() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let parts = [part(&store, "p1", 1).await];
    let (reached, release) = hold_copies(&store);
    let upload = join(&store, "f", &parts).await;
    drop(reached.acquire().await.expect("never closed"));
    store.remove(&upload).await.expect("removed");
    drop(release);
    store.wait_idle().await;
    assert_eq!(place.names(), set(["p1.part", "p1.record"]));
    // And voided ones get no file either.
    let (reached, release) = hold_copies(&store);
    let upload = join(&store, "g", &parts).await;
    drop(reached.acquire().await.expect("never closed"));
    store.commit(&upload, &[VOIDED]).await.expect("committed");
    drop(release);
    store.wait_idle().await;
    assert_eq!(place.names(), set(["g.record", "p1.part", "p1.record"]));
}

#[tokio::test(start_paused = true)]
async fn lay_down_that_failed_is_tried_again() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let parts = [part(&store, "p1", 1).await, part(&store, "p2", 2).await];
    let tries = Arc::new(AtomicU32::new(0));
    let tried = Arc::clone(&tries);
    store.shared.disk.probe().set(move |_, step| {
        let copies = matches!(step, Step::Copy { .. });
        if copies && tried.fetch_add(1, Ordering::Relaxed) == 0 { Err(full()) } else { Ok(()) }
    });
    let upload = join(&store, "f", &parts).await;
    store.wait_idle().await;
    // The space of the attempt is given back, and the bytes are there.
    assert!(!place.names().contains("f.part"));
    assert!(read(&store, &upload).await == both());
    // One in trouble does not hold up the next.
    join(&store, "g", &parts).await;
    store.wait_idle().await;
    assert!(place.names().contains("g") && !place.names().contains("f"));
    tokio::time::sleep(Duration::from_secs(61)).await;
    store.wait_idle().await;
    assert!(fs::read(place.file("f")).expect("published") == both());
    assert!(!place.names().contains("f.join"));
}

/// The copy goes on when the next store has looked at the upload.
#[tokio::test]
async fn lay_down_ends_with_its_store() {
    let place = Directory::new(Durability::Relaxed);
    let store = place.open().await;
    let small = part(&store, "p1", 1).await;
    // Several steps, without the time it takes to write them: mostly a hole.
    let file = fs::File::options().write(true).open(place.file("p1.part"));
    file.and_then(|file| file.set_len(3 * STEP_BYTES)).expect("a sparse file");
    let parts = [Arc::new(Upload {
        length: Some(3 * STEP_BYTES),
        received: Ranges::from(0..3 * STEP_BYTES),
        ..(*small).clone()
    })];
    let upload = final_of("f", &parts);
    let (reached, release) = hold_copies(&store);
    store.join(&upload, &parts).await.expect("joined");
    store.create(&upload, None).await.expect("created");
    drop(reached.acquire().await.expect("never closed"));
    drop(store);
    let held = place.try_open().expect_err("somebody still writes");
    assert!(matches!(held, OpenError::InUse { .. }), "{held}");
    drop(release);
    let store = place.open().await;
    assert!(place.names().contains("f.join"), "the copy went on without its store");
    store.load(&upload.id).await.expect("a record");
    store.wait_idle().await;
    let all = set(["f", "f.record", "p1.part", "p1.record"]);
    assert_eq!(place.names(), all);
}

#[tokio::test]
async fn join_that_waits_for_its_record_is_no_orphan() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let parts = [part(&store, "p1", 1).await];
    let upload = final_of("f", &parts);
    store.join(&upload, &parts).await.expect("joined");
    assert_eq!(store.recover().await.expect("a directory"), 0);
    store.create(&upload, None).await.expect("its bytes are still there");
    store.wait_idle().await;
    assert!(read(&store, &upload).await == [1; PART]);
    // Left by a process that died, it is one.
    let upload = Upload { id: "g".parse().expect("plain"), ..upload };
    store.join(&upload, &parts).await.expect("joined");
    drop(store);
    let store = place.open().await;
    assert_eq!(store.recover().await.expect("a directory"), 1);
    assert!(!place.names().contains("g.join"));
}

#[tokio::test]
async fn join_takes_no_longer_for_larger_parts() {
    let place = Directory::new(Durability::Relaxed);
    let store = place.open().await;
    let mut parts = Vec::new();
    for index in 0..4 {
        let id = format!("p{index}");
        let small = part(&store, &id, 1).await;
        // 1 GiB each, without the time it takes to write it: a hole.
        let file = fs::File::options().write(true).open(place.file(&format!("{id}.part")));
        file.and_then(|file| file.set_len(1 << 30)).expect("a sparse file");
        parts.push(Arc::new(Upload {
            length: Some(1 << 30),
            received: Ranges::from(0..1 << 30),
            ..(*small).clone()
        }));
    }
    let (_, release) = hold_copies(&store);
    let begin = Instant::now();
    let upload = final_of("f", &parts);
    store.join(&upload, &parts).await.expect("joined");
    store.create(&upload, None).await.expect("created");
    // Copying 4 GiB takes a hundred times as long on any machine.
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
    store.remove(&upload).await.expect("removed");
    drop(release);
    store.wait_idle().await;
}
