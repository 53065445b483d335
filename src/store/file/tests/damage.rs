//! Another program has changed the files: bytes cut off, records emptied, files moved away.

use std::{fs, sync::Arc};

use super::{
    Directory, VOIDED,
    names::{NINE, complete, nine, of, put, whole},
    set,
};
use crate::{
    store::{Durability, Store, StoreError, conformance},
    upload::{Change, Role, Upload},
};

/// Whether an error says that the upload is damaged, and which file it is about.
fn names_file<T: std::fmt::Debug>(result: &Result<T, StoreError>, file: &str) -> bool {
    matches!(result, Err(StoreError::Damaged(why)) if why.contains(file))
}

fn is_absent<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Absent))
}

/// Cuts a file to so many bytes.
fn cut(place: &Directory, name: &str, bytes: u64) {
    let file = fs::File::options().write(true).open(place.file(name));
    file.and_then(|file| file.set_len(bytes)).expect("a file");
}

#[tokio::test]
async fn data_shorter_than_its_record_says_is_damage_after_a_restart() {
    for bytes in [0, 8] {
        let place = Directory::new(Durability::Synced);
        let store = place.open().await;
        store.create(&nine("open"), None).await.expect("created");
        let open = put(&store, &nine("open"), 0, NINE).await;
        let partial = whole(&store, "partial", Role::partial()).await;
        let published = whole(&store, "published", Role::Whole).await;
        drop(store);
        let uploads = [(open, "open.part"), (partial, "partial.part"), (published, "published")];
        for (_, file) in &uploads {
            cut(&place, file, bytes);
        }
        let store = place.open().await;
        store.recover().await.expect("a directory");
        for (upload, file) in &uploads {
            let loaded = store.load(&upload.id).await;
            assert!(names_file(&loaded, file), "{file}: {loaded:?}");
            let read = store.read(upload, 0..9).await.map(drop);
            assert!(names_file(&read, file), "{file}: {read:?}");
            let committed = store.commit(upload, &[Change::Completed { at: upload.created }]).await;
            assert!(names_file(&committed, file), "{file}: {committed:?}");
            let written = store.write(upload, 9).await.map(drop);
            assert!(names_file(&written, file), "{file}: {written:?}");
            assert_eq!(fs::metadata(place.file(file)).expect("there").len(), bytes);
        }
        // The operator brings the bytes back.
        for (upload, file) in &uploads {
            fs::write(place.file(file), NINE).expect("written");
            assert_eq!(store.load(&upload.id).await.expect("whole again"), *upload);
        }
    }
}

#[tokio::test]
async fn data_cut_off_while_it_is_in_use_is_damage() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    store.create(&nine("a"), None).await.expect("created");
    let open = put(&store, &nine("a"), 0, &NINE[..4]).await;
    cut(&place, "a.part", 1);
    // The zeros that a write would leave before it are never counted.
    let read = store.read(&open, 0..4).await.map(drop);
    assert!(names_file(&read, "a"), "{read:?}");
    let written = store.write(&open, 4).await.map(drop);
    assert!(names_file(&written, "a.part"), "{written:?}");
    let loaded = store.load(&open.id).await;
    assert!(names_file(&loaded, "a.part"), "{loaded:?}");
    // Nor between the write and its commit.
    fs::write(place.file("a.part"), &NINE[..4]).expect("written");
    let open = store.load(&open.id).await.expect("whole again");
    let mut writer = store.write(&open, 4).await.expect("a sink");
    writer.push((&NINE[4..]).into()).await.expect("taken");
    let receipt = writer.finish().await.expect("durable");
    cut(&place, "a.part", 5);
    let received = Change::Received { range: 4..9, receipt };
    let committed = store.commit(&open, &[received]).await;
    assert!(names_file(&committed, "a.part"), "{committed:?}");
    // A published file is looked at with every load.
    let published = whole(&store, "b", Role::Whole).await;
    cut(&place, "b", 0);
    let loaded = store.load(&published.id).await;
    assert!(names_file(&loaded, "b"), "{loaded:?}");
}

#[tokio::test]
async fn data_cut_off_while_it_is_read_is_an_error_and_not_the_end() {
    let place = Directory::new(Durability::Relaxed);
    let store = place.open().await;
    let upload = conformance::upload("a", Some(4 << 20));
    store.create(&upload, None).await.expect("created");
    let mut writer = store.write(&upload, 0).await.expect("a sink");
    writer.push(vec![1; 4 << 20].into()).await.expect("taken");
    let receipt = writer.finish().await.expect("durable");
    let received = Change::Received { range: 0..4 << 20, receipt };
    let changes = [received, Change::Completed { at: upload.created }];
    let upload = store.commit(&upload, &changes).await.expect("committed");
    let stream = store.read(&upload, 0..4 << 20).await.expect("bytes");
    cut(&place, "a", 1 << 20);
    let error = conformance::collect(stream).await.expect_err("too few bytes");
    let error = StoreError::io("reading", error);
    assert!(matches!(&error, StoreError::Damaged(why) if why.contains("the data of a")), "{error}");
}

#[tokio::test]
async fn bytes_without_a_readable_record_are_kept() {
    type Damage = fn(&std::path::Path);
    const EMPTIED: Damage = |record| fs::write(record, "").expect("written");
    const ZEROED: Damage = |record| fs::write(record, [0; 300]).expect("written");
    const CUT: Damage = |record| fs::write(record, "{\"rev\":0,\"chan").expect("written");
    const REMOVED: Damage = |record| fs::remove_file(record).expect("there");
    for (name, damage) in
        [("emptied", EMPTIED), ("zeroed", ZEROED), ("cut", CUT), ("removed", REMOVED)]
    {
        let place = Directory::new(Durability::Synced);
        let store = place.open().await;
        store.create(&nine("open"), None).await.expect("created");
        put(&store, &nine("open"), 0, &NINE[..4]).await;
        whole(&store, "published", Role::Whole).await;
        whole(&store, "partial", Role::partial()).await;
        drop(store);
        for id in ["open", "published", "partial"] {
            damage(&place.file(&format!("{id}.record")));
        }
        let before = place.names();
        let store = place.open().await;
        assert_eq!(store.recover().await.expect("a directory"), 0, "{name}");
        if name == "removed" {
            // What is not there cannot be removed, nor what it has left.
            store.remove(&nine("open")).await.expect("nothing to remove");
        }
        let created = store.create(&nine("open"), None).await;
        assert!(names_file(&created, "open.part"), "{name}: {created:?}");
        for id in ["open", "published", "partial"] {
            assert!(is_absent(&store.load(&of(id)).await), "{name}: {id}");
        }
        assert_eq!(place.names(), before, "{name}");
        assert_eq!(fs::read(place.file("open.part")).expect("kept"), &NINE[..4], "{name}");
        assert_eq!(fs::read(place.file("partial.part")).expect("kept"), NINE, "{name}");
        assert_eq!(fs::read(place.file("published")).expect("kept"), NINE, "{name}");
    }
}

/// A join without a record is what a crash leaves, unless its links are all there is.
#[tokio::test]
async fn links_that_are_the_last_are_kept() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let partial = whole(&store, "p", Role::partial()).await;
    for id in ["f", "g"] {
        store.join(&nine(id), &[Arc::clone(&partial)]).await.expect("joined");
    }
    store.remove(&nine("g")).await.expect("undone");
    drop(store);
    let store = place.open().await;
    assert_eq!(store.recover().await.expect("a directory"), 1);
    assert_eq!(place.names(), set(["p.part", "p.record"]));
    store.join(&nine("f"), &[Arc::clone(&partial)]).await.expect("joined");
    store.remove(&partial).await.expect("removed");
    drop(store);
    let store = place.open().await;
    assert_eq!(store.recover().await.expect("a directory"), 0);
    assert_eq!(place.names(), set(["f.join"]));
}

#[tokio::test]
async fn published_file_that_was_moved_away_is_gone() {
    let place = Directory::new(Durability::Synced);
    let mut store = place.open().await;
    let upload = whole(&store, "a", Role::Whole).await;
    for restarts in [false, true] {
        fs::rename(place.file("a"), place.file("elsewhere.bin")).expect("there");
        if restarts {
            drop(store);
            store = place.open().await;
        }
        assert!(is_absent(&store.load(&upload.id).await));
        assert!(is_absent(&store.read(&upload, 0..9).await.map(drop)));
        assert!(is_absent(&store.commit(&upload, &[VOIDED]).await));
        // Back again, or elsewhere with a link in its place.
        fs::rename(place.file("elsewhere.bin"), place.file("a")).expect("there");
        assert_eq!(store.load(&upload.id).await.expect("back"), upload);
    }
    // The next sweep forgets it, whether it is in memory or not.
    whole(&store, "b", Role::Whole).await;
    let stays = whole(&store, "c", Role::Whole).await;
    fs::remove_file(place.file("a")).expect("there");
    assert!(is_absent(&store.load(&upload.id).await));
    fs::remove_file(place.file("b")).expect("there");
    assert_eq!(conformance::collect_list(store.list()).await, [stays]);
    assert_eq!(place.names(), set(["c", "c.record"]));
}

#[tokio::test]
async fn open_upload_whose_files_were_removed_takes_no_more_bytes() {
    for (files, is_gone) in
        [(&["a.part", "a.record"][..], true), (&["a.record"], true), (&["a.part"], false)]
    {
        for is_writing in [false, true] {
            let place = Directory::new(Durability::Synced);
            let store = place.open().await;
            store.create(&nine("a"), None).await.expect("created");
            let upload = put(&store, &nine("a"), 0, &NINE[..4]).await;
            let remove = || {
                for file in files {
                    fs::remove_file(place.file(file)).expect("there");
                }
            };
            if !is_writing {
                remove();
            }
            let ended = match store.write(&upload, 4).await {
                Ok(mut writer) => {
                    writer.push((&NINE[4..]).into()).await.expect("taken");
                    if is_writing {
                        remove();
                    }
                    let receipt = writer.checkpoint().await.expect("durable");
                    let received = Change::Received { range: 4..9, receipt };
                    store.commit(&upload, &[received]).await.map(drop)
                }
                Err(e) => Err(e),
            };
            let about = format!("{files:?} {is_writing}: {ended:?}");
            let lasts = store.load(&upload.id).await;
            if is_gone {
                // A missing data file is met first, and the record next.
                assert!(ended.is_err(), "{about}");
                assert!(is_absent(&lasts), "{about}, {lasts:?}");
            } else {
                assert!(names_file(&ended, "a.part"), "{about}");
                assert!(names_file(&lasts, "a.part"), "{about}, {lasts:?}");
            }
        }
    }
}

#[tokio::test]
async fn upload_whose_data_was_moved_away_is_not_completed() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    store.create(&nine("a"), None).await.expect("created");
    let upload = put(&store, &nine("a"), 0, NINE).await;
    fs::rename(place.file("a.part"), place.file("elsewhere.bin")).expect("there");
    let completed = store.commit(&upload, &[Change::Completed { at: upload.created }]).await;
    assert!(names_file(&completed, "a.part"), "{completed:?}");
    fs::rename(place.file("elsewhere.bin"), place.file("a.part")).expect("there");
    let upload = store.load(&upload.id).await.expect("back");
    complete(&store, &upload).await;
    assert_eq!(fs::read(place.file("a")).expect("published"), NINE);
}

/// A store with uploads in memory is asked again when the disk says otherwise.
#[tokio::test]
async fn upload_is_whole_again_when_its_files_are_back() {
    let place = Directory::new(Durability::Relaxed);
    let store = place.open().await;
    store.create(&nine("a"), None).await.expect("created");
    let upload: Arc<Upload> = put(&store, &nine("a"), 0, &NINE[..4]).await;
    fs::rename(place.file("a.part"), place.file("kept.bin")).expect("there");
    fs::write(place.file("a.part"), &NINE[..2]).expect("written");
    let read = store.read(&upload, 0..4).await.map(drop);
    assert!(names_file(&read, "a"), "{read:?}");
    fs::rename(place.file("kept.bin"), place.file("a.part")).expect("there");
    let upload = put(&store, &upload, 4, &NINE[4..]).await;
    complete(&store, &upload).await;
    assert_eq!(fs::read(place.file("a")).expect("published"), NINE);
}
