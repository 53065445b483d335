//! Bytes that were not recorded take no space, for whatever reason they were not, and no others are
//! freed with them.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    super::{FileStore, disk::Step},
    Directory, full,
    names::{NINE, nine, put},
};
use crate::{
    store::{Durability, Store, StoreError, Writer, conformance},
    upload::{Change, Receipt, Upload},
};

/// Far more than a window.
const LARGE: usize = 1 << 20;

/// How a write comes to nothing.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Recorded by a commit that is refused.
    CommitRefused,
    /// Never recorded, although all bytes are durable.
    Finished,
    /// The disk is full.
    Full,
    /// In the middle.
    Unfinished,
    /// In the middle, after a checkpoint that was not recorded.
    UnrecordedCheckpoint,
}

/// An open upload that has recorded 4 bytes.
async fn four(store: &FileStore) -> Arc<Upload> {
    let upload = Upload { length: None, ..nine("a") };
    store.create(&upload, None).await.expect("created");
    put(store, &upload, 0, &NINE[..4]).await
}

/// A writer that has taken many bytes.
async fn written(store: &FileStore, upload: &Upload, at: u64, byte: u8) -> Box<dyn Writer> {
    let mut writer = store.write(upload, at).await.expect("a sink");
    for _ in 0..LARGE / 4096 {
        writer.push(vec![byte; 4096].into()).await.expect("taken");
    }
    writer
}

/// Waits until the data file has so many bytes, and says how many it has in the end.
async fn length(place: &Directory, expected: u64) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let length = fs::metadata(place.file("a.part")).expect("there").len();
        if length == expected || Instant::now() > deadline {
            return length;
        }
        tokio::task::yield_now().await;
    }
}

/// The space that the data file takes, in bytes.
fn space(place: &Directory) -> u64 {
    fs::metadata(place.file("a.part")).expect("there").blocks() * 512
}

/// The change that counts `range`.
fn received(range: std::ops::Range<u64>, receipt: Receipt) -> Change {
    Change::Received { range, receipt }
}

/// A write that comes to nothing.
async fn fruitless(store: &FileStore, upload: &Arc<Upload>, end: End) {
    if let End::Full = end {
        let fails = |step: &Step<'_>| matches!(step, Step::Write { at, .. } if *at > 300_000);
        store
            .shared
            .disk
            .probe()
            .set(move |_, step| if fails(step) { Err(full()) } else { Ok(()) });
        let mut writer = store.write(upload, 4).await.expect("a sink");
        while writer.push(vec![1; 4096].into()).await.is_ok() {}
        assert!(matches!(writer.finish().await, Err(StoreError::Full)));
        store.shared.disk.probe().clear();
        return;
    }
    let mut writer = written(store, upload, 4, 1).await;
    match end {
        End::CommitRefused => {
            let receipt = writer.finish().await.expect("durable");
            let range = 4..4 + LARGE as u64;
            let stale = Upload { revision: 7, ..(**upload).clone() };
            let refused = store.commit(&stale, &[received(range, receipt)]).await;
            assert!(matches!(refused, Err(StoreError::Stale)), "{refused:?}");
        }
        End::Finished => drop(writer.finish().await.expect("durable")),
        End::Full => unreachable!("see above"),
        End::Unfinished => {}
        End::UnrecordedCheckpoint => drop(writer.checkpoint().await.expect("durable")),
    }
}

#[tokio::test]
async fn bytes_that_were_not_recorded_are_cut_off() {
    let ends =
        [End::CommitRefused, End::Finished, End::Full, End::Unfinished, End::UnrecordedCheckpoint];
    for (end, slow) in ends.into_iter().flat_map(|end| [(end, false), (end, true)]) {
        let place = Directory { slow, ..Directory::new(Durability::Synced) };
        let store = place.open().await;
        let upload = four(&store).await;
        fruitless(&store, &upload, end).await;
        assert_eq!(length(&place, 4).await, 4, "{end:?}");
        put(&store, &upload, 4, &NINE[4..]).await;
        assert_eq!(fs::read(place.file("a.part")).expect("there"), NINE, "{end:?}");
    }
}

#[tokio::test]
async fn nothing_is_cut_that_may_still_be_recorded() {
    let place = Directory::new(Durability::Relaxed);
    let store = place.open().await;
    let upload = four(&store).await;
    let late = written(&store, &upload, 2_000_000, 2).await.finish().await.expect("durable");
    drop(written(&store, &upload, 4, 1).await);
    let live = written(&store, &upload, 4_000_000, 3).await;
    let range = 2_000_000..2_000_000 + LARGE as u64;
    let upload = store.commit(&upload, &[received(range.clone(), late)]).await.expect("committed");
    drop(written(&store, &upload, 6_000_000, 1).await);
    let receipt = live.finish().await.expect("durable");
    let last = 4_000_000..4_000_000 + LARGE as u64;
    let upload =
        store.commit(&upload, &[received(last.clone(), receipt)]).await.expect("committed");
    assert_eq!(length(&place, last.end).await, last.end);
    for (range, byte) in [(range, 2), (last, 3)] {
        let stream = store.read(&upload, range).await.expect("bytes");
        assert!(conformance::collect(stream).await.expect("bytes") == vec![byte; LARGE]);
    }
}

/// A chunk that is refused while a later one was recorded.
#[tokio::test]
async fn space_inside_of_the_file_is_freed() {
    let place = Directory::new(Durability::Relaxed);
    let store = place.open().await;
    let upload = four(&store).await;
    let end = 4 * LARGE as u64;
    let upload = put(&store, &upload, end, NINE).await;
    let before = space(&place);
    drop(written(&store, &upload, 4_096, 1).await);
    // A thread may still be writing, and frees it when it has noticed.
    let deadline = Instant::now() + Duration::from_secs(10);
    while space(&place) > before + 8_192 && Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    assert!(space(&place) <= before + 8_192, "{} bytes, {before} before", space(&place));
    // The same after a crash.
    drop(store);
    let file = fs::File::options().write(true).open(place.file("a.part")).expect("there");
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![1; LARGE], 8_192).expect("written");
    assert!(space(&place) > before + 8_192);
    let store = place.open().await;
    store.recover().await.expect("a directory");
    assert!(space(&place) <= before + 8_192, "{} bytes, {before} before", space(&place));
    let stream = store.read(&upload, end..end + 9).await.expect("bytes");
    assert_eq!(conformance::collect(stream).await.expect("bytes"), NINE);
}

#[tokio::test]
async fn bytes_that_a_crash_left_are_cut_off() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let upload = four(&store).await;
    drop(store);
    for is_recovery in [false, true] {
        let file = fs::File::options().append(true).open(place.file("a.part"));
        file.and_then(|mut file| file.write_all(&[1; 100_000])).expect("written");
        let store = place.open().await;
        if is_recovery {
            store.recover().await.expect("a directory");
        } else {
            store.load(&upload.id).await.expect("a record");
        }
        assert_eq!(fs::read(place.file("a.part")).expect("there"), &NINE[..4]);
    }
}

/// Chunks side by side, every other one given up: all recorded bytes are right.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn chunks_side_by_side_lose_nothing_to_those_given_up() {
    const CHUNK: u64 = 50_000;
    let place = Directory::quick(Durability::Relaxed);
    let store = Arc::new(place.open().await);
    let upload = four(&store).await;
    let tasks: Vec<_> = (1..=200_u64)
        .map(|index| {
            let (store, id) = (Arc::clone(&store), upload.id.clone());
            tokio::spawn(async move {
                let upload = store.load(&id).await.expect("a record");
                let mut writer = store.write(&upload, index * CHUNK).await.expect("a sink");
                writer.push(vec![index as u8; CHUNK as usize].into()).await.expect("taken");
                if index % 2 == 0 {
                    return;
                }
                let receipt = writer.finish().await.expect("durable");
                let change = received(index * CHUNK..(index + 1) * CHUNK, receipt);
                loop {
                    let upload = store.load(&id).await.expect("a record");
                    match store.commit(&upload, std::slice::from_ref(&change)).await {
                        Err(StoreError::Stale) => {}
                        committed => return drop(committed.expect("committed")),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(length(&place, 200 * CHUNK).await, 200 * CHUNK);
    let upload = store.load(&upload.id).await.expect("a record");
    for index in (1..200).step_by(2) {
        let stream = store.read(&upload, index * CHUNK..(index + 1) * CHUNK).await.expect("bytes");
        let read = conformance::collect(stream).await.expect("bytes");
        assert!(read == vec![index as u8; CHUNK as usize], "chunk {index}");
    }
}
