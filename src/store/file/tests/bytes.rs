//! Writers on a disk that keeps them waiting.

use std::{
    fs,
    future::Future,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, mpsc},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{
    super::{FileStore, disk::Step, lock},
    Directory,
};
use crate::{
    store::{Durability, Store, StoreError, Writer, conformance},
    upload::{Change, Upload},
};

/// A gate in front of the system calls of one kind.
struct Gate {
    arrived: Arc<Semaphore>,
    open: mpsc::Sender<()>,
}

impl Gate {
    /// Has each such call wait until it is let through.
    fn before(store: &FileStore, stops: fn(&Step<'_>) -> bool) -> Self {
        let (open, opened) = mpsc::channel();
        let (arrived, opened) = (Arc::new(Semaphore::new(0)), Mutex::new(opened));
        let arrivals = Arc::clone(&arrived);
        store.shared.disk.probe().set(move |_, step| {
            if stops(step) {
                arrivals.add_permits(1);
                // An error means that the gate is gone, and with it the need to wait.
                let _ = lock(&opened).recv();
            }
            Ok(())
        });
        Self { arrived, open }
    }

    /// Waits until a call has come to the gate.
    async fn arrival(&self) {
        self.arrived.acquire().await.expect("never closed").forget();
    }

    /// Lets one call through.
    fn let_through(&self) {
        self.open.send(()).expect("the store is there");
    }
}

fn is_write(step: &Step<'_>) -> bool {
    matches!(step, Step::Write { .. })
}

/// Whether a future is not ready yet.
fn waits<F: Future + Unpin>(future: &mut F) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    matches!(Pin::new(future).poll(&mut cx), Poll::Pending)
}

/// An open upload on a slow disk.
async fn open(place: &Directory) -> (FileStore, Upload) {
    let store = place.open().await;
    let upload = conformance::upload("a", None);
    store.create(&upload, None).await.expect("created");
    (store, upload)
}

/// More than one batch.
fn batch(byte: u8) -> Bytes {
    vec![byte; 200_000].into()
}

#[tokio::test]
async fn writer_waits_for_what_a_dropped_one_is_still_writing() {
    let place = Directory::slow(Durability::Relaxed);
    let (store, upload) = open(&place).await;
    let gate = Gate::before(&store, is_write);
    let mut old = store.write(&upload, 0).await.expect("a sink");
    old.push(batch(1)).await.expect("taken");
    gate.arrival().await;
    drop(old);
    let mut writing = store.write(&upload, 0);
    for _ in 0..3 {
        assert!(waits(&mut writing), "two writers at once");
        tokio::task::yield_now().await;
    }
    gate.let_through();
    let mut new = writing.await.expect("a sink");
    store.shared.disk.probe().clear();
    new.push(batch(2)).await.expect("taken");
    let _receipt = new.finish().await.expect("durable");
    assert_eq!(fs::read(place.file("a.part")).expect("there"), batch(2));
}

#[tokio::test]
async fn nothing_is_published_that_a_dropped_writer_is_still_writing() {
    let place = Directory::slow(Durability::Relaxed);
    let (store, upload) = open(&place).await;
    let gate = Gate::before(
        &store,
        |step| matches!(step, Step::Write { frames, .. } if frames.concat().len() > 100_000),
    );
    let mut writer = store.write(&upload, 0).await.expect("a sink");
    writer.push(batch(1)).await.expect("taken");
    gate.arrival().await;
    drop(writer);
    let changes = [Change::LengthDeclared { length: 0 }, Change::Completed { at: upload.created }];
    let mut publishing = store.commit(&upload, &changes);
    // Others come and go meanwhile.
    for round in 0..50 {
        assert!(waits(&mut publishing), "published beneath a writer");
        let other = conformance::upload(&format!("b{round}"), None);
        store.create(&other, None).await.expect("created");
        store.remove(&other).await.expect("removed");
    }
    gate.let_through();
    publishing.await.expect("committed");
    assert_eq!(fs::read(place.file("a")).expect("published"), b"");
}

#[tokio::test]
async fn frames_of_a_dropped_writer_that_wait_are_not_written() {
    let place = Directory::slow(Durability::Relaxed);
    let (store, upload) = open(&place).await;
    let gate = Gate::before(&store, is_write);
    let mut writer = store.write(&upload, 0).await.expect("a sink");
    writer.push(batch(1)).await.expect("taken");
    gate.arrival().await;
    writer.push(batch(2).slice(..10)).await.expect("taken");
    let checkpoint = writer.checkpoint();
    drop(writer);
    gate.let_through();
    checkpoint.await.expect_err("not everything was written");
    drop(store.write(&upload, 0).await.expect("a sink"));
    assert_eq!(gate.arrived.available_permits(), 0, "the second batch was written");
}

#[tokio::test]
async fn push_waits_when_the_window_is_full() {
    let place = Directory::slow(Durability::Relaxed);
    let (store, upload) = open(&place).await;
    let gate = Gate::before(&store, is_write);
    let mut writer = store.write(&upload, 0).await.expect("a sink");
    let mut pushed = 0;
    loop {
        let mut push = writer.push(batch(1));
        if waits(&mut push) {
            break;
        }
        pushed += 1;
        assert!(pushed <= 3, "the window has no end");
    }
    // The push given up has taken nothing.
    gate.arrival().await;
    drop(gate);
    let _receipt = writer.finish().await.expect("durable");
    let written = fs::metadata(place.file("a.part")).expect("there").len();
    assert_eq!(written, pushed * 200_000);
}

/// Frames are slices of large buffers, and a slow client sends many small ones.
#[tokio::test]
async fn small_frames_keep_their_place_but_not_their_buffers() {
    let place = Directory::new(Durability::Relaxed);
    let (store, upload) = open(&place).await;
    let mut writer = store.write(&upload, 0).await.expect("a sink");
    let mut expected = Vec::new();
    for (fill, bytes) in (1..).zip([1, 4_095, 4_096, 100, 7, 9_000, 0, 4_096, 3]) {
        let buffer = Bytes::from(vec![fill; 10_000]);
        let frame = buffer.slice(..bytes);
        expected.extend_from_slice(&frame);
        writer.push(frame).await.expect("taken");
        assert_eq!(buffer.is_unique(), bytes < 4_096, "{bytes}");
    }
    let _receipt = writer.finish().await.expect("durable");
    let written = fs::read(place.file("a.part")).expect("there");
    assert!(written == expected);
}

#[tokio::test]
async fn failed_write_is_told_by_every_later_call() {
    for slow in [false, true] {
        let place = Directory { slow, ..Directory::new(Durability::Synced) };
        let (store, upload) = open(&place).await;
        let full = |_: &Path, step: &Step<'_>| {
            if is_write(step) { Err(super::full()) } else { Ok(()) }
        };
        store.shared.disk.probe().set(full);
        let mut writer = store.write(&upload, 0).await.expect("a sink");
        writer.push(Bytes::from_static(b"x")).await.expect("taken");
        let is_full = |result: Result<(), StoreError>| matches!(result, Err(StoreError::Full));
        assert!(is_full(writer.checkpoint().await.map(drop)));
        assert!(is_full(writer.push(Bytes::from_static(b"x")).await));
        assert!(is_full(writer.reread().await.map(drop)));
        store.shared.disk.probe().clear();
        assert!(is_full(writer.finish().await.map(drop)));
    }
}

#[tokio::test]
async fn failed_sync_is_final() {
    let place = Directory::new(Durability::Synced);
    let (store, upload) = open(&place).await;
    store.shared.disk.probe().set(|_, step| {
        let syncs = matches!(step, Step::Sync { .. });
        if syncs { Err(super::broken()) } else { Ok(()) }
    });
    let mut writer = store.write(&upload, 0).await.expect("a sink");
    writer.push(batch(1)).await.expect("taken");
    writer.checkpoint().await.expect_err("the sync failed");
    // The next sync would succeed, and say nothing about those bytes.
    store.shared.disk.probe().clear();
    writer.finish().await.expect_err("the bytes may be lost");
}

#[tokio::test]
async fn complete_upload_takes_no_writer() {
    let place = Directory::new(Durability::Relaxed);
    let (store, upload) = open(&place).await;
    let changes = [Change::LengthDeclared { length: 0 }, Change::Completed { at: upload.created }];
    let complete = store.commit(&upload, &changes).await.expect("committed");
    for upload in [&upload, &*complete] {
        let refused = store.write(upload, 0).await.map(drop);
        assert!(matches!(refused, Err(StoreError::Stale)), "{refused:?}");
    }
}

#[tokio::test]
async fn commit_given_up_is_done_to_its_end() {
    let place = Directory::new(Durability::Synced);
    let (store, upload) = open(&place).await;
    let gate = Gate::before(&store, is_write);
    let declared = [Change::LengthDeclared { length: 7 }];
    {
        let mut commit = store.commit(&upload, &declared);
        assert!(waits(&mut commit));
        gate.arrival().await;
    }
    // The record is not free before it is done.
    let again = store.commit(&upload, &declared);
    gate.let_through();
    assert!(matches!(again.await, Err(StoreError::Stale)));
    assert_eq!(store.load(&upload.id).await.expect("there").length, Some(7));
}

/// A writer of many frames, for a look at its answer only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn window_of_a_quick_disk_holds_little() {
    let place = Directory::new(Durability::Relaxed);
    let (store, upload) = open(&place).await;
    let mut writer = store.write(&upload, 0).await.expect("a sink");
    push_all(&mut *writer, 50).await;
    // All but the last batch is in the file already, with no thread and no waiting.
    let written = fs::metadata(place.file("a.part")).expect("there").len();
    assert!(written > 50 * 10_000 - 140_000, "only {written} bytes are written");
}

/// Frames of 10,000 bytes.
async fn push_all(writer: &mut dyn Writer, frames: u32) {
    for _ in 0..frames {
        writer.push(vec![1; 10_000].into()).await.expect("taken");
    }
}
