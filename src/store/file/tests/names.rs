//! What lies in the directory, who may have it, and what is made of damage.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};

use super::{
    super::{FileStore, OpenError, lock},
    Directory, VOIDED, names,
    script::{Known, script},
    set,
};
use crate::{
    store::{Durability, Store, StoreError, conformance},
    upload::{Change, Receipt, Role, Upload, UploadId},
};

/// An upload of 9 bytes, not created yet.
pub(super) fn nine(id: &str) -> Upload {
    conformance::upload(id, Some(9))
}

/// Its bytes.
pub(super) const NINE: &[u8] = b"123456789";

/// The id of an upload.
pub(super) fn of(id: &str) -> UploadId {
    id.parse().expect("ids of tests are plain")
}

/// Bytes written and committed.
pub(super) async fn put(
    store: &FileStore,
    upload: &Upload,
    at: u64,
    bytes: &'static [u8],
) -> Arc<Upload> {
    let mut writer = store.write(upload, at).await.expect("a sink");
    writer.push(bytes.into()).await.expect("bytes are taken");
    let receipt = writer.finish().await.expect("durable");
    let range = at..at + bytes.len() as u64;
    let received = Change::Received { range, receipt };
    store.commit(upload, &[received]).await.expect("committed")
}

/// The end of an upload.
pub(super) async fn complete(store: &FileStore, upload: &Upload) -> Arc<Upload> {
    let at = upload.created;
    let committed = store.commit(upload, &[Change::Completed { at }]).await;
    committed.expect("committed")
}

/// An upload of [`NINE`], complete.
pub(super) async fn whole(store: &FileStore, id: &str, role: Role) -> Arc<Upload> {
    let upload = Upload { role, ..nine(id) };
    store.create(&upload, None).await.expect("created");
    let upload = put(store, &upload, 0, NINE).await;
    complete(store, &upload).await
}

#[tokio::test]
async fn plain_name_appears_with_completion_only() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let upload = nine("a");
    store.create(&upload, None).await.expect("created");
    assert_eq!(place.names(), set(["a.part", "a.record"]));
    let upload = put(&store, &upload, 0, NINE).await;
    assert_eq!(place.names(), set(["a.part", "a.record"]));
    let upload = complete(&store, &upload).await;
    assert_eq!(place.names(), set(["a", "a.record"]));
    assert_eq!(fs::read(place.file("a")).expect("published"), NINE);
    let upload = store.commit(&upload, &[VOIDED]).await.expect("committed");
    assert_eq!(place.names(), set(["a.record"]));
    store.remove(&upload).await.expect("removed");
    assert_eq!(place.names(), set([]));
    whole(&store, "p", Role::partial()).await;
    assert_eq!(place.names(), set(["p.part", "p.record"]));
}

#[tokio::test]
async fn published_file_has_no_junk_behind_its_end() {
    let place = Directory::new(Durability::Relaxed);
    let store = place.open().await;
    let upload = Upload { length: None, ..nine("a") };
    store.create(&upload, None).await.expect("created");
    let upload = put(&store, &upload, 0, NINE).await;
    // Bytes that are written, and given up.
    let mut writer = store.write(&upload, 9).await.expect("a sink");
    writer.push(vec![1; 1 << 20].into()).await.expect("taken");
    let receipt = writer.checkpoint().await.expect("durable");
    drop(writer);
    // They stay as long as they may still be recorded.
    assert_eq!(fs::metadata(place.file("a.part")).expect("there").len(), 9 + (1 << 20));
    let declared = Change::LengthDeclared { length: 9 };
    let at = upload.created;
    let changes = [declared, Change::Completed { at }];
    store.commit(&upload, &changes).await.expect("committed");
    drop(receipt);
    assert_eq!(fs::read(place.file("a")).expect("published"), NINE);
}

#[tokio::test]
async fn record_is_lines_of_json() {
    let place = Directory::new(Durability::Relaxed);
    let store = place.open().await;
    whole(&store, "a", Role::Whole).await;
    let text = fs::read_to_string(place.file("a.record")).expect("a record");
    let created = r#"{"rev":0,"changes":[{"created":{"length":9,"metadata":"filename d29ybGQucGRm,is_confidential","at":1700000000123}}],"sum":"08e6d861"}"#;
    let received =
        r#"{"rev":1,"changes":[{"received":{"range":{"start":0,"end":9}}}],"sum":"f7860ee1"}"#;
    let completed = r#"{"rev":2,"changes":[{"completed":{"at":1700000000123}}],"sum":"08c84c6f"}"#;
    assert_eq!(text, format!("{created}\n{received}\n{completed}\n"));
}

#[tokio::test]
async fn second_store_is_refused_and_told_who_has_the_directory() {
    let place = Directory::new(Durability::Synced);
    let first = FileStore::options().label("serving\ntests").open(place.path()).expect("opened");
    let refused = FileStore::open(place.path(), Durability::Synced).expect_err("in use");
    let message = refused.to_string();
    let holder = format!("process {} servingtests;", std::process::id());
    assert!(message.contains(&holder), "{message}");
    assert!(!message.contains('\n'), "{message}");
    drop(first);
    FileStore::open(place.path(), Durability::Synced).expect("free again");
}

#[test]
fn directory_is_made_with_its_parents() {
    let temporary = tempfile::tempdir().expect("a directory");
    let deep = temporary.path().join("a/b/c");
    FileStore::open(&deep, Durability::Synced).expect("made");
    assert!(deep.is_dir());
    let file = temporary.path().join("file");
    fs::write(&file, "x").expect("written");
    let refused = FileStore::open(file.join("data"), Durability::Synced);
    assert!(matches!(refused, Err(OpenError::Create { .. })), "{refused:?}");
    let refused = FileStore::open(&file, Durability::Synced).expect_err("a file");
    assert!(!refused.to_string().contains('\n'), "{refused}");
}

/// The kind and permission bits of everything in a directory, itself included. What goes away
/// meanwhile is left out.
fn modes(path: &Path) -> Vec<(PathBuf, bool, u32)> {
    let Ok(about) = fs::metadata(path) else { return Vec::new() };
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let below = entries.flat_map(|entry| modes(&entry.path()));
    let own = (path.to_owned(), about.is_dir(), about.permissions().mode() & 0o777);
    std::iter::once(own).chain(below).collect()
}

/// What is there for a moment only too: all is looked at before every system call.
#[tokio::test]
async fn everything_is_made_with_the_modes_that_were_asked_for() {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:")).expect("a umask");
    let umask = u32::from_str_radix(umask.trim(), 8).expect("octal");
    let group = FileStore::options().dir_mode(0o750).file_mode(0o640);
    for (options, dir, file) in [(FileStore::options(), 0o700, 0o600), (group, 0o750, 0o640)] {
        let place = Directory::new(Durability::Relaxed);
        let options = options.durability(Durability::Relaxed);
        let store = options.open(place.path()).expect("opened");
        let (seen, wrong) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(Mutex::new(vec![])));
        let (all, other) = (Arc::clone(&seen), Arc::clone(&wrong));
        store.shared.disk.probe().set(move |path, _| {
            for (path, is_dir, mode) in modes(path) {
                let is_private = path.ends_with(".lock") || path.ends_with(".secret");
                let expected = match (is_dir, is_private) {
                    (true, _) => dir & !umask,
                    (false, true) => 0o600,
                    (false, false) => file & !umask,
                };
                if mode != expected {
                    lock(&other).push(format!("{}: {mode:o}", path.display()));
                }
                let name = path.extension().map(|name| name.to_string_lossy().into_owned());
                lock(&all).insert(name);
            }
            Ok(())
        });
        let mut known = Known::default();
        for step in script() {
            step.take(&store, &known).await.expect("nothing fails");
            known = step.outcome(&known).unwrap_or(known);
        }
        store.shared.disk.probe().clear();
        assert_eq!(*lock(&wrong), Vec::<String>::new());
        let seen: Vec<_> = lock(&seen).iter().flatten().cloned().collect();
        assert_eq!(seen, ["gone", "join", "name", "part", "record", "tmp"]);
    }
}

#[tokio::test]
async fn files_of_others_are_left_alone() {
    let place = Directory::new(Durability::Synced);
    drop(place.open().await);
    let foreign = ["README", "notes.txt", "a.part.bak", "a b.part", ".hidden", "x.recordx"];
    for name in foreign {
        fs::write(place.file(name), "mine").expect("written");
    }
    fs::create_dir(place.file("folder")).expect("made");
    fs::write(place.file("orphan.part"), "").expect("written");
    let store = place.open().await;
    assert_eq!(store.recover().await.expect("a directory"), 1);
    for name in foreign {
        assert_eq!(fs::read(place.file(name)).expect("still there"), b"mine");
    }
    // Not even if somebody asks for it.
    store.remove(&nine("README")).await.expect("nothing to remove");
    let mut all: BTreeSet<_> = foreign.map(str::to_owned).into();
    all.insert("folder".to_owned());
    assert_eq!(place.names(), all);
}

#[tokio::test]
async fn torn_line_was_never_committed() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let created = nine("a");
    store.create(&created, None).await.expect("created");
    let first = put(&store, &created, 0, &NINE[..4]).await;
    drop(store);
    let whole = fs::read(place.file("a.record")).expect("a record");
    // Its first bytes never reached the disk, its last ones did.
    let long = [b"\0\0\0", &[b'x'; 500][..], b"\n"].concat();
    for torn in [&b"{\"rev\":2,\"chan"[..], b"\0\0\0\0\0", b"{\"rev\":2\0\0\0\0\n", &long] {
        fs::write(place.file("a.record"), [&whole, torn].concat()).expect("written");
        let store = place.open().await;
        assert_eq!(store.load(&first.id).await.expect("a record"), first);
        let second = put(&store, &first, 4, &NINE[4..]).await;
        drop(store);
        let store = place.open().await;
        assert_eq!(store.load(&first.id).await.expect("a record"), second);
    }
}

#[tokio::test]
async fn record_without_a_first_line_never_existed() {
    for torn in [&b""[..], b"{\"rev\":0,\"changes\":[{\"cr", b"\0\0\0\0\n"] {
        let place = Directory::new(Durability::Synced);
        drop(place.open().await);
        fs::write(place.file("a.record"), torn).expect("written");
        fs::write(place.file("a.part"), "").expect("written");
        let store = place.open().await;
        assert!(matches!(store.load(&of("a")).await, Err(StoreError::Absent)));
        let created = whole(&store, "a", Role::Whole).await;
        assert_eq!(fs::read(place.file("a")).expect("published"), NINE);
        store.remove(&created).await.expect("removed");
        assert_eq!(place.names(), set([]));
        // Without anybody asking for it, it is an orphan.
        fs::write(place.file("b.record"), torn).expect("written");
        if !torn.is_empty() {
            fs::write(place.file("b.part"), "").expect("written");
        }
        assert_eq!(store.recover().await.expect("a directory"), 1);
        assert_eq!(place.names(), set([]));
    }
}

#[tokio::test]
async fn damaged_record_concerns_nobody_else() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let good = whole(&store, "good", Role::Whole).await;
    let bad = whole(&store, "bad", Role::partial()).await;
    drop(store);
    let text = fs::read_to_string(place.file("bad.record")).expect("a record");
    let damaged = text.replace("\"rev\":1", "\"rev\":7");
    fs::write(place.file("bad.record"), &damaged).expect("written");
    let store = place.open().await;
    let error = store.load(&bad.id).await.expect_err("damaged");
    let StoreError::Damaged(why) = error else { panic!("{error}") };
    assert!(why.contains("bad.record, line 2"), "{why}");
    assert!(matches!(store.create(&nine("bad"), None).await, Err(StoreError::Damaged(_))));
    let committed = store.commit(&bad, &[VOIDED]).await;
    assert!(matches!(committed, Err(StoreError::Damaged(_))));
    let written = store.write(&bad, 0).await.map(drop);
    assert!(matches!(written, Err(StoreError::Damaged(_))));
    store.recover().await.expect("a directory");
    assert_eq!(fs::read_to_string(place.file("bad.record")).expect("there"), damaged);
    assert_eq!(fs::read(place.file("bad.part")).expect("there"), NINE);
    let stream = store.read(&good, 0..9).await.expect("bytes");
    assert_eq!(conformance::collect(stream).await.expect("bytes"), NINE);
    assert_eq!(conformance::collect_list(store.list()).await, [good]);
    // Nobody can have judged it.
    let removed = store.remove(&bad).await;
    assert!(matches!(removed, Err(StoreError::Damaged(_))), "{removed:?}");
    assert_eq!(place.names(), set(["bad.part", "bad.record", "good", "good.record"]));
}

#[tokio::test]
async fn missing_bytes_are_damage_unless_they_were_published() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let open = nine("open");
    store.create(&open, None).await.expect("created");
    let open = put(&store, &open, 0, &NINE[..4]).await;
    let published = whole(&store, "published", Role::Whole).await;
    drop(store);
    fs::remove_file(place.file("open.part")).expect("there");
    fs::remove_file(place.file("published")).expect("there");
    let store = place.open().await;
    let read = store.read(&open, 0..4).await.map(drop);
    assert!(matches!(read, Err(StoreError::Damaged(_))), "{read:?}");
    let written = store.write(&open, 4).await.map(drop);
    assert!(matches!(written, Err(StoreError::Damaged(_))), "{written:?}");
    let read = store.read(&published, 0..4).await.map(drop);
    assert!(matches!(read, Err(StoreError::Absent)), "{read:?}");
    let part = whole(&store, "part", Role::partial()).await;
    fs::remove_file(place.file("part.part")).expect("there");
    let joined = store.join(&nine("f"), &[part]).await;
    assert!(matches!(joined, Err(StoreError::Absent)), "{joined:?}");
    // A published file that somebody took away is not published twice.
    drop(store);
    let store = place.open().await;
    let loaded = store.load(&published.id).await;
    assert!(matches!(loaded, Err(StoreError::Absent)), "{loaded:?}");
    store.recover().await.expect("a directory");
    assert!(!place.names().contains("published"));
}

#[tokio::test]
async fn data_file_lost_before_its_first_byte_is_made_again() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let upload = nine("a");
    store.create(&upload, None).await.expect("created");
    store.create(&conformance::upload("e", Some(0)), None).await.expect("created");
    drop(store);
    fs::remove_file(place.file("a.part")).expect("there");
    fs::remove_file(place.file("e.part")).expect("there");
    let store = place.open().await;
    let upload = put(&store, &upload, 0, NINE).await;
    complete(&store, &upload).await;
    complete(&store, &conformance::upload("e", Some(0))).await;
    assert_eq!(fs::read(place.file("a")).expect("published"), NINE);
    assert_eq!(fs::read(place.file("e")).expect("published"), b"");
}

#[tokio::test]
async fn data_file_that_is_too_short_is_never_published() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let upload = nine("a");
    store.create(&upload, None).await.expect("created");
    let upload = put(&store, &upload, 0, NINE).await;
    fs::write(place.file("a.part"), &NINE[..8]).expect("written");
    let at = upload.created;
    let refused = store.commit(&upload, &[Change::Completed { at }]).await;
    assert!(matches!(refused, Err(StoreError::Damaged(_))), "{refused:?}");
    // Nor when only the rename is missing.
    fs::write(place.file("a.part"), NINE).expect("written");
    let upload = complete(&store, &upload).await;
    drop(store);
    fs::rename(place.file("a"), place.file("a.part")).expect("there");
    fs::write(place.file("a.part"), &NINE[..8]).expect("written");
    let store = place.open().await;
    let loaded = store.load(&upload.id).await;
    assert!(matches!(loaded, Err(StoreError::Damaged(_))), "{loaded:?}");
    assert_eq!(place.names(), set(["a.part", "a.record"]));
    let read = store.read(&upload, 0..9).await.map(drop);
    assert!(matches!(read, Err(StoreError::Damaged(_))), "{read:?}");
}

#[tokio::test]
async fn long_log_is_shortened() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let mut upload = Arc::new(nine("a"));
    store.create(&upload, None).await.expect("created");
    let mut longest = 0;
    for seconds in 0..2_000 {
        let expires = Some(UNIX_EPOCH + Duration::from_secs(seconds));
        let changes = [Change::ExpiryMoved { expires }];
        upload = store.commit(&upload, &changes).await.expect("committed");
        longest = longest.max(fs::metadata(place.file("a.record")).expect("there").len());
    }
    assert!((4_000..6_000).contains(&longest), "the log grew to {longest} bytes");
    assert_eq!(place.names(), set(["a.part", "a.record"]));
    drop(store);
    let store = place.open().await;
    assert_eq!(store.load(&upload.id).await.expect("a record"), upload);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_uploads_leave_no_descriptor_open() {
    let place = Directory::new(Durability::Relaxed);
    let store = place.open().await;
    let ours = || {
        let entries = fs::read_dir("/proc/self/fd").expect("descriptors");
        let targets = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let targets = targets.filter(|target| target.starts_with(place.path()));
        targets.map(|target| target.display().to_string()).collect::<BTreeSet<_>>()
    };
    let before = ours();
    for index in 0..2_000 {
        let upload = whole(&store, &format!("a{index}"), Role::Whole).await;
        if index % 10 == 0 {
            drop(store.read(&upload, 0..9).await.expect("bytes"));
            drop(store.write(&nine("b"), 0).await);
            store.remove(&upload).await.expect("removed");
        }
    }
    // A read given up ends when its thread has noticed.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while ours() != before && std::time::Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    assert_eq!(ours(), before);
    assert_eq!(names(place.path()).len(), 2 * 1_800);
}

#[tokio::test]
async fn known_upload_is_loaded_without_opening_a_file() {
    let place = Directory::new(Durability::Synced);
    let store = place.open().await;
    let upload = whole(&store, "a", Role::Whole).await;
    store.shared.disk.probe().set(|_, step| panic!("{step:?}"));
    assert_eq!(store.load(&upload.id).await.expect("known"), upload);
    store.shared.disk.probe().clear();
    drop(store);
    // Listing neither needs what is known nor adds to it.
    let store = place.open().await;
    assert_eq!(conformance::collect_list(store.list()).await, [Arc::clone(&upload)]);
    assert!(store.shared.cache.peek(&upload.id).is_none());
    let received = Change::Received { range: 0..0, receipt: Receipt::default() };
    drop(store.commit(&upload, &[received]).await);
    assert!(store.shared.cache.peek(&upload.id).is_some());
}
