//! A life of several uploads as a list of steps, and what is known of them after each.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;

use super::{Directory, FileStore, VOIDED, copy_tree, names};
use crate::{
    store::{Durability, Store, StoreError, conformance},
    upload::{Change, Phase, Ranges, Receipt, Role, Upload, UploadId},
};

/// The length of the uploads that are no parts.
const LENGTH: u64 = 3_000;

/// The length of each part.
const PART: u64 = 1_000;

/// The end of an upload.
const COMPLETED: Change = Change::Completed { at: UNIX_EPOCH };

/// One step.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A commit of changes that bring no bytes.
    Commit(&'static str, Vec<Change>),
    /// A new upload without a key.
    Create(Upload),
    /// The bytes of parts for a final upload that exists already.
    Fill(&'static str, Vec<&'static str>),
    /// A new upload with the key of a name, after the one that the key leads to.
    Follow(&'static str, Upload),
    /// A final upload of parts.
    Join(&'static str, Vec<&'static str>),
    /// Bytes behind the end that nobody wants, by a writer that is dropped.
    Junk(&'static str),
    /// The right bytes of a range.
    Put(&'static str, Range<u64>),
    /// An upload removed.
    Remove(&'static str),
    /// A wait for the background.
    Settle,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It was killed; the disk has everything that was written.
    Death,
    /// With the whole machine.
    PowerLoss,
}

/// What is known about every upload and every name that was ever heard of.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// By name: the upload that its key leads to; `None` = to none.
    names: BTreeMap<&'static str, Option<UploadId>>,
    /// `None` = there is no such upload.
    uploads: BTreeMap<UploadId, Option<Upload>>,
}

impl Known {
    /// An upload that is there.
    fn now(&self, id: &str) -> &Upload {
        self.get(&of(id)).expect("it is there")
    }

    /// An upload, if there is one.
    pub(super) fn get(&self, id: &UploadId) -> Option<&Upload> {
        self.uploads.get(id)?.as_ref()
    }

    /// All uploads that are there.
    pub(super) fn uploads(&self) -> impl Iterator<Item = &Upload> {
        self.uploads.values().flatten()
    }

    /// The upload that the key of a name leads to.
    fn current(&self, name: &str) -> Option<&UploadId> {
        self.names.get(name)?.as_ref()
    }

    /// Whether `found` is this, all of it and no more.
    pub(super) fn is(&self, found: &Self) -> bool {
        self.differences(found).is_empty()
    }

    /// What in `found` is something else.
    fn differences(&self, found: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let ids: BTreeSet<_> = self.uploads.keys().chain(found.uploads.keys()).collect();
        for id in ids {
            let (due, found) = (self.get(id), found.get(id));
            if due != found {
                differences.push(format!("{id} is {found:?} instead of {due:?}"));
            }
        }
        let names: BTreeSet<_> = self.names.keys().chain(found.names.keys()).collect();
        for name in names {
            let (due, found) = (self.current(name), found.current(name));
            if due != found {
                differences.push(format!("{name} leads to {found:?} instead of {due:?}"));
            }
        }
        differences
    }
}

/// The bytes an upload that is not final has in the end.
fn content(id: &UploadId) -> Vec<u8> {
    let seed = id.as_str().bytes().fold(7_u64, |seed, b| (seed * 31 + u64::from(b)) % 10_007);
    (0..LENGTH).map(|at| (at * seed / 3 % 251) as u8).collect()
}

/// An id.
pub(super) fn of(id: &str) -> UploadId {
    id.parse().expect("ids of tests are plain")
}

/// Every kind of step, in an order in which each makes sense.
pub(super) fn script() -> Vec<Step> {
    chapters().concat()
}

/// The same in chapters, each of which makes sense by itself.
pub(super) fn chapters() -> Vec<Vec<Step>> {
    use Step::{Commit, Create, Fill, Follow, Join, Junk, Put, Remove, Settle};
    let new = |id, length| Create(conformance::upload(id, Some(length)));
    let follow = |id| Follow("name", conformance::upload(id, Some(LENGTH)));
    let empty = |id| Upload {
        phase: Phase::Complete { at: UNIX_EPOCH },
        ..conformance::upload(id, Some(0))
    };
    let part = |id| Create(Upload { role: Role::partial(), ..conformance::upload(id, Some(PART)) });
    let expires =
        |seconds| Change::ExpiryMoved { expires: Some(UNIX_EPOCH + Duration::from_secs(seconds)) };
    let mut long = vec![new("long", LENGTH)];
    // Lines of 2 KiB each, so that the log is shortened on the way.
    long.extend((0..4).map(|round| Commit("long", vec![expires(round); 50])));
    long.extend([Put("long", 0..10), Remove("long")]);
    vec![
        vec![
            new("a", LENGTH),
            Put("a", 0..2_000),
            Junk("a"),
            Put("a", 2_000..LENGTH),
            Commit("a", vec![COMPLETED]),
            Commit("a", vec![VOIDED]),
        ],
        vec![
            new("b", LENGTH),
            Put("b", 2_500..LENGTH),
            Commit("b", vec![VOIDED, expires(1)]),
            Remove("b"),
            new("c", 100),
            Put("c", 0..100),
        ],
        vec![
            new("empty", 0),
            Commit("empty", vec![COMPLETED]),
            Create(empty("born-empty")),
            Remove("empty"),
        ],
        vec![
            follow("k1"),
            Put("k1", 0..2_000),
            Commit("k1", vec![VOIDED]),
            follow("k2"),
            Put("k2", 0..LENGTH),
            Commit("k2", vec![COMPLETED]),
            Remove("k1"),
            Remove("k2"),
            follow("k3"),
            Put("k3", 0..1_000),
            Follow("name", empty("k4")),
            Remove("k3"),
            Follow("other", empty("o1")),
            Remove("k4"),
        ],
        vec![
            part("p1"),
            Put("p1", 0..PART),
            Commit("p1", vec![COMPLETED]),
            part("p2"),
            Put("p2", 0..PART),
            Commit("p2", vec![COMPLETED]),
            Join("f", vec!["p1", "p2", "p1"]),
            Settle,
            Create(Upload {
                length: None,
                phase: Phase::Open,
                received: Ranges::new(),
                ..joined("h", &["p2", "p1"])
            }),
            Fill("h", vec!["p2", "p1"]),
            Commit(
                "h",
                vec![
                    Change::LengthDeclared { length: 2 * PART },
                    received(&(0..2 * PART)),
                    COMPLETED,
                ],
            ),
            Settle,
            Remove("p1"),
            Join("g", vec!["p2"]),
            Settle,
            Remove("g"),
            Remove("f"),
        ],
        long,
    ]
}

impl Step {
    /// What is known after it; `None` when it changes nothing.
    pub(super) fn outcome(&self, known: &Known) -> Option<Known> {
        let after =
            |id: &str, changes: &[Change]| known.now(id).after(changes).expect("changes fit");
        let upload = match self {
            Self::Commit(id, changes) => after(id, changes),
            Self::Create(upload) => upload.clone(),
            Self::Follow(name, upload) => keyed(name, upload),
            Self::Join(id, parts) => joined(id, parts),
            Self::Put(id, range) => after(id, &[received(range)]),
            Self::Remove(id) => known.now(id).clone(),
            Self::Fill(..) | Self::Junk(_) | Self::Settle => return None,
        };
        let mut next = known.clone();
        if let Self::Follow(name, _) = self {
            next.names.insert(name, Some(upload.id.clone()));
        }
        if let Self::Remove(_) = self {
            let ours = next.names.values_mut().filter(|id| id.as_ref() == Some(&upload.id));
            ours.for_each(|id| *id = None);
        }
        let is_there = !matches!(self, Self::Remove(_));
        next.uploads.insert(upload.id.clone(), is_there.then_some(upload));
        Some(next)
    }

    /// Takes the step.
    pub(super) async fn take(&self, store: &FileStore, known: &Known) -> Result<(), StoreError> {
        let now = |id: &str| known.now(id).clone();
        match self {
            Self::Commit(id, changes) => store.commit(&now(id), changes).await.map(drop),
            Self::Create(upload) => store.create(upload, None).await,
            Self::Fill(id, parts) => {
                let parts: Vec<_> = parts.iter().map(|part| Arc::new(now(part))).collect();
                store.join(&now(id), &parts).await
            }
            Self::Follow(name, upload) => {
                store.create(&keyed(name, upload), known.current(name)).await
            }
            Self::Join(id, parts) => {
                let parts: Vec<_> = parts.iter().map(|part| Arc::new(now(part))).collect();
                let upload =
                    joined(id, &parts.iter().map(|part| part.id.as_str()).collect::<Vec<_>>());
                store.join(&upload, &parts).await?;
                store.create(&upload, None).await
            }
            Self::Junk(id) => {
                let mut writer = store.write(&now(id), LENGTH - 10).await?;
                writer.push(Bytes::from(vec![0xee; 300_000])).await?;
                drop(writer.checkpoint());
                drop(writer);
                // Waits until the bytes are cut off.
                store.write(&now(id), LENGTH).await.map(drop)
            }
            Self::Put(id, range) => {
                let mut writer = store.write(&now(id), range.start).await?;
                let bytes = Bytes::from(content(&of(id)));
                let range_bytes = range.start as usize..range.end as usize;
                writer.push(bytes.slice(range_bytes)).await?;
                let receipt = writer.finish().await?;
                let received = Change::Received { range: range.clone(), receipt };
                store.commit(&now(id), &[received]).await.map(drop)
            }
            Self::Remove(id) => store.remove(&now(id)).await,
            Self::Settle => {
                store.wait_idle().await;
                Ok(())
            }
        }
    }
}

/// The change that counts `range`.
fn received(range: &Range<u64>) -> Change {
    Change::Received { range: range.clone(), receipt: Receipt::default() }
}

/// An upload with the key of a name.
fn keyed(name: &str, upload: &Upload) -> Upload {
    Upload { key: Some(conformance::key(name)), ..upload.clone() }
}

/// A final upload.
fn joined(id: &str, parts: &[&str]) -> Upload {
    let length = PART * parts.len() as u64;
    Upload {
        phase: Phase::Complete { at: UNIX_EPOCH },
        received: Ranges::from(0..length),
        role: Role::Final {
            partials: parts.iter().map(|part| of(part)).collect(),
            text: "final".to_owned(),
        },
        ..conformance::upload(id, Some(length))
    }
}

/// What the store says about all uploads and names of which something is known. It must be what is
/// known, or all of what is known of a step in `doubt`, and every byte it counts must be right.
pub(super) async fn verify(
    store: &FileStore,
    known: &Known,
    doubt: Option<&Known>,
) -> Result<Known, String> {
    let mut found = Known::default();
    let all = || std::iter::once(known).chain(doubt);
    let names: BTreeSet<_> = all().flat_map(|known| known.names.keys().copied()).collect();
    for name in names {
        let current = match store.by_key(&conformance::key(name)).await {
            Ok(upload) => Some(upload.id.clone()),
            Err(StoreError::Absent) => None,
            Err(e) => return Err(format!("{name}: {e}")),
        };
        found.names.insert(name, current);
    }
    let ids: BTreeSet<_> = all().flat_map(|known| known.uploads.keys()).collect();
    for id in ids {
        let loaded = match store.load(id).await {
            Ok(upload) => Some((*upload).clone()),
            Err(StoreError::Absent) => None,
            Err(e) => return Err(format!("{id}: {e}")),
        };
        if let Some(upload) = &loaded {
            verify_bytes(store, upload).await?;
        }
        found.uploads.insert(id.clone(), loaded);
    }
    if all().any(|known| known.is(&found)) {
        return Ok(found);
    }
    let differences: Vec<_> = all().map(|known| known.differences(&found)).collect();
    Err(format!("neither as before nor as after the step: {differences:#?}"))
}

/// Whether every byte that an upload counts is right.
async fn verify_bytes(store: &FileStore, upload: &Upload) -> Result<(), String> {
    let right = content_of(upload);
    for range in upload.received.iter() {
        let told = |e: &dyn std::fmt::Display| format!("{}: {range:?}: {e}", upload.id);
        let stream = store.read(upload, range.clone()).await.map_err(|e| told(&e))?;
        let read = conformance::collect(stream).await.map_err(|e| told(&e))?;
        if read != right[range.start as usize..range.end as usize] {
            return Err(told(&"wrong bytes"));
        }
    }
    Ok(())
}

/// The bytes an upload has in the end.
fn content_of(upload: &Upload) -> Vec<u8> {
    match &upload.role {
        Role::Whole | Role::Partial { .. } => content(&upload.id),
        Role::Final { partials, .. } => {
            let parts = partials.iter().map(|part| content(part)[..PART as usize].to_vec());
            parts.collect::<Vec<_>>().concat()
        }
    }
}

/// Whether the directory holds what belongs to the uploads known and no more, and published files
/// hold exactly their bytes.
fn verify_names(path: &Path, known: &Known, after: After) -> Result<(), String> {
    let mut expected = BTreeSet::new();
    for (name, current) in &known.names {
        if current.is_some() {
            expected.insert(format!("{}.name", conformance::key(name).to_text()));
        }
    }
    for upload in known.uploads() {
        let id = &upload.id;
        expected.insert(format!("{id}.record"));
        match (upload.phase, &upload.role) {
            (Phase::Open, _) | (Phase::Complete { .. }, Role::Partial { .. }) => {
                expected.insert(format!("{id}.part"));
            }
            (Phase::Complete { .. }, Role::Whole | Role::Final { .. }) => {
                let published = fs::read(path.join(id.as_str()));
                let published = published.map_err(|e| format!("{id} is not published: {e}"))?;
                if published != content_of(upload)[..upload.offset() as usize] {
                    return Err(format!("{id}: wrong bytes are published"));
                }
                expected.insert(id.to_string());
            }
            (Phase::Void { .. }, _) => {}
        }
    }
    let mut found = names(path);
    // A final upload that is open may have been filled already.
    for upload in known.uploads().filter(|upload| upload.phase == Phase::Open) {
        found.remove(&format!("{}.join", upload.id));
    }
    if after == After::PowerLoss {
        // An empty data file may get lost; the first write makes it again. A record whose first
        // line never reached the disk may stay; it counts for nothing, and makes way for a new one.
        let empty = |upload: &&Upload| upload.phase == Phase::Open && upload.received.runs() == 0;
        for upload in known.uploads().filter(empty) {
            expected.remove(&format!("{}.part", upload.id));
            found.remove(&format!("{}.part", upload.id));
        }
        // So may the record of a complete upload whose bytes are gone, and the pointer to it.
        for (id, _) in known.uploads.iter().filter(|(_, upload)| upload.is_none()) {
            if found.remove(&format!("{id}.record")) {
                found.retain(|name| !leads_to(&path.join(name), id));
            }
        }
    }
    if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
}

/// Whether a name is a pointer to the record of an upload.
fn leads_to(path: &Path, id: &UploadId) -> bool {
    fs::read_link(path).is_ok_and(|to| to == Path::new(&format!("{id}.record")))
}

/// What a process that is started after a crash finds, does and leaves. `Err` = which promise is
/// broken.
pub(super) async fn restart(
    place: &Directory,
    known: &Known,
    doubt: Option<&Known>,
    after: After,
) -> Result<(), String> {
    if after == After::Death {
        // Another process may clean up before anything else.
        let copy = Directory::quick(Durability::Synced);
        copy_tree(place.path(), copy.path()).map_err(|e| e.to_string())?;
        let store = copy.open().await;
        store.recover().await.map_err(|e| e.to_string())?;
        store.wait_idle().await;
        let found = verify(&store, known, doubt).await?;
        verify_names(copy.path(), &found, after)?;
    }
    let first = verify(&place.open().await, known, doubt).await?;
    // Once more, with the cleaning up before anything else.
    let store = place.open().await;
    store.recover().await.map_err(|e| e.to_string())?;
    store.wait_idle().await;
    verify(&store, &first, None).await.map_err(|e| format!("cleaning up changes a record: {e}"))?;
    verify_names(place.path(), &first, after)?;
    match store.recover().await {
        Ok(0) => Ok(()),
        other => Err(format!("orphans are left: {other:?}")),
    }
}
