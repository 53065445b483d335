//! Final uploads on their way from links to a plain file.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{
    super::{FileStore, disk::Step, lock},
    Directory, full, set,
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
    store.create(&upload).await.expect("created");
    let mut writer = store.write(&upload, 0).await.expect("a sink");
    writer.push(vec![byte; PART].into()).await.expect("taken");
    let receipt = writer.finish().await.expect("durable");
    let received = Change::Received { range: 0..PART as u64, receipt };
    let completed = Change::Completed { at: upload.created };
    store.commit(&upload, &[received, completed]).await.expect("committed")
}

/// A final upload of parts, joined and created.
async fn join(store: &FileStore, id: &str, parts: &[Arc<Upload>]) -> Upload {
    let length = (PART * parts.len()) as u64;
    let upload = Upload {
        completed: Some(std::time::UNIX_EPOCH),
        phase: Phase::Complete,
        received: Ranges::from(0..length),
        role: Role::Final {
            partials: parts.iter().map(|part| part.id.clone()).collect(),
            text: String::new(),
        },
        ..conformance::upload(id, Some(length))
    };
    store.join(&upload, parts).await.expect("joined");
    store.create(&upload).await.expect("created");
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
        store.remove(&part.id).await.expect("removed");
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
    store.remove(&upload.id).await.expect("removed");
    // Its id may even be used again.
    let again = conformance::upload("f", Some(5));
    store.create(&again).await.expect("created");
    drop(release);
    store.wait_idle().await;
    let left = set(["f.part", "f.record", "p1.part", "p1.record"]);
    assert_eq!(place.names(), left);
    assert_eq!(fs::metadata(place.file("f.part")).expect("there").len(), 0);
    store.remove(&again.id).await.expect("removed");
    // And voided ones get no file either.
    let (reached, release) = hold_copies(&store);
    let upload = join(&store, "g", &parts).await;
    drop(reached.acquire().await.expect("never closed"));
    store.commit(&upload, &[Change::Voided]).await.expect("committed");
    drop(release);
    store.wait_idle().await;
    assert_eq!(place.names(), set(["g.record", "p1.part", "p1.record"]));
}

#[tokio::test]
async fn upload_joined_anew_while_it_is_laid_down_has_its_new_bytes() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let parts = [part(&store, "p1", 1).await, part(&store, "p2", 2).await];
    let (reached, release) = hold_copies(&store);
    let upload = join(&store, "f", &parts[..1]).await;
    drop(reached.acquire().await.expect("never closed"));
    store.remove(&upload.id).await.expect("removed");
    let upload = join(&store, "f", &parts[1..]).await;
    drop(release);
    store.wait_idle().await;
    assert!(read(&store, &upload).await == [2; PART]);
    assert!(fs::read(place.file("f")).expect("published") == [2; PART]);
    let all = ["f", "f.record", "p1.part", "p1.record", "p2.part", "p2.record"];
    assert_eq!(place.names(), set(all));
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

#[tokio::test]
async fn join_that_waits_for_its_record_is_no_orphan() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let parts = [part(&store, "p1", 1).await];
    let upload = Upload {
        completed: Some(std::time::UNIX_EPOCH),
        phase: Phase::Complete,
        received: Ranges::from(0..PART as u64),
        role: Role::Final { partials: vec![parts[0].id.clone()], text: String::new() },
        ..conformance::upload("f", Some(PART as u64))
    };
    store.join(&upload, &parts).await.expect("joined");
    assert_eq!(store.recover().await.expect("a directory"), 0);
    store.create(&upload).await.expect("its bytes are still there");
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
    let upload = Upload {
        completed: Some(std::time::UNIX_EPOCH),
        phase: Phase::Complete,
        received: Ranges::from(0..4 << 30),
        role: Role::Final { partials: Vec::new(), text: String::new() },
        ..conformance::upload("f", Some(4 << 30))
    };
    store.join(&upload, &parts).await.expect("joined");
    store.create(&upload).await.expect("created");
    // Copying 4 GiB takes a hundred times as long on any machine.
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
    store.remove(&upload.id).await.expect("removed");
    drop(release);
    store.wait_idle().await;
}
