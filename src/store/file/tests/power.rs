//! Power fails: a disk that is simulated from the system calls of the script keeps what was synced,
//! and of the rest whatever it likes. What another process then finds.
//!
//! The simulated disk promises no more than POSIX does. Content that was not synced may be there,
//! be missing, be cut short or read as zeros. Names that were not synced may be made or not, each by
//! itself, in any order; a rename happens wholly or not at all.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    fmt,
    fs::{self, File},
    hash::{Hash as _, Hasher as _},
    io::{self, Seek as _},
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::Path,
    sync::{Arc, Mutex},
};

use super::{
    super::{disk, lock},
    Directory,
    script::{After, Known, Step, restart, script},
};
use crate::{
    store::Durability,
    upload::{Role, Upload, UploadId},
};

/// States of the disk that are looked at for one moment, at most.
const MAX_STATES: usize = 256;

/// How many moments a sync that is left out is given to be missed.
const MISSED_WITHIN: usize = 40;

/// Something that happened.
#[derive(Debug, Clone)]
enum Event {
    /// A step of the script was begun (with a doubt) or acknowledged.
    Known(Known, Option<(UploadId, Option<Upload>)>),
    /// An empty file or directory was made.
    Create(String),
    Link(String, String),
    Rename(String, String),
    Sync(String),
    SyncNames(String),
    Truncate(String, usize),
    Unlink(String),
    Write(String, usize, Vec<u8>),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(_, Some((id, _))) => write!(f, "begin {id}"),
            Self::Known(_, None) => write!(f, "done"),
            Self::Write(path, at, bytes) => write!(f, "write {} to {path} at {at}", bytes.len()),
            Self::Create(_)
            | Self::Link(..)
            | Self::Rename(..)
            | Self::Sync(_)
            | Self::SyncNames(_)
            | Self::Truncate(..)
            | Self::Unlink(_) => write!(f, "{self:?}"),
        }
    }
}

/// The name of an open file or directory, relative to `dir`; `None` when it has none any more.
fn name_of(file: &File, dir: &Path) -> Option<String> {
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    let name = relative(&path, dir);
    (!name.ends_with(" (deleted)")).then_some(name)
}

/// A path relative to `dir`.
fn relative(path: &Path, dir: &Path) -> String {
    let dir = dir.canonicalize().expect("the directory is there");
    let name = path.strip_prefix(dir).expect("it lies in the directory");
    name.to_str().expect("names are UTF-8").to_owned()
}

/// What a system call does to the disk; `None` = nothing.
fn event(dir: &Path, step: &disk::Step<'_>) -> Option<Event> {
    let path = |path: &Path| relative(path, dir);
    Some(match step {
        disk::Step::Copy { from, to, limit } => {
            let (mut source, mut target) = (*from, *to);
            let at = source.stream_position().expect("a file");
            let mut bytes = vec![0; usize::try_from(*limit).expect("small").min(1 << 20)];
            let read = source.read_at(&mut bytes, at).expect("bytes");
            bytes.truncate(read);
            let to = usize::try_from(target.stream_position().expect("a file")).expect("small");
            Event::Write(name_of(target, dir)?, to, bytes)
        }
        disk::Step::Create { path: made } => Event::Create(path(made)),
        disk::Step::Link { from, to } => Event::Link(path(from), path(to)),
        disk::Step::Rename { from, to } if from.exists() => Event::Rename(path(from), path(to)),
        disk::Step::Sync { file } => Event::Sync(name_of(file, dir)?),
        disk::Step::SyncNames { dir: names } => Event::SyncNames(name_of(names, dir)?),
        disk::Step::Truncate { file, len } => {
            Event::Truncate(name_of(file, dir)?, usize::try_from(*len).expect("small"))
        }
        disk::Step::Unlink { path: gone } if gone.exists() => Event::Unlink(path(gone)),
        disk::Step::Write { file, frames, at } => {
            let at = usize::try_from(*at).expect("small");
            Event::Write(name_of(file, dir)?, at, frames.concat())
        }
        disk::Step::Open { .. }
        | disk::Step::Read { .. }
        | disk::Step::Rename { .. }
        | disk::Step::SyncAll { .. }
        | disk::Step::Unlink { .. } => return None,
    })
}

/// Runs the script and gives all that happened.
async fn history() -> Vec<Event> {
    let place = Directory::quick(Durability::Synced);
    let store = place.open().await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    store.shared.disk.probe().set(move |dir, step| {
        let event = event(dir, step);
        lock(&heard).extend(event);
        Ok(())
    });
    let mut known = Known::new();
    for step in script() {
        let outcome = step.outcome(&known);
        lock(&events).push(Event::Known(known.clone(), outcome.clone()));
        let taken = Step::take(&step, &store, &known).await;
        taken.unwrap_or_else(|e| panic!("{step:?}: {e}"));
        known.extend(outcome);
        lock(&events).push(Event::Known(known.clone(), None));
    }
    store.shared.disk.probe().clear();
    std::mem::take(&mut lock(&events))
}

/// What was done to a file and not synced.
#[derive(Debug, Clone)]
enum Change {
    Truncate(usize),
    Write(usize, Vec<u8>),
}

/// What was done to the names in a directory and not synced. Nodes are numbers.
#[derive(Debug, Clone)]
enum Naming {
    Add(String, usize),
    Move(String, String, usize),
    Remove(String),
}

/// A file or directory: what is on the disk for sure, and what may be.
#[derive(Debug, Clone)]
enum Node {
    Dir(BTreeMap<String, usize>, Vec<Naming>),
    File(Vec<u8>, Vec<Change>),
}

/// A disk with files, directories and a memory of what was not synced.
#[derive(Debug, Clone)]
struct Simulated(Vec<Node>);

/// The content after a change.
fn changed(mut content: Vec<u8>, change: &Change) -> Vec<u8> {
    match change {
        Change::Truncate(length) => content.resize(*length, 0),
        Change::Write(at, bytes) => {
            let end = at + bytes.len();
            content.resize(content.len().max(end), 0);
            content[*at..end].copy_from_slice(bytes);
        }
    }
    content
}

/// The names after a change.
fn renamed(mut names: BTreeMap<String, usize>, naming: &Naming) -> BTreeMap<String, usize> {
    match naming {
        Naming::Add(name, node) => drop(names.insert(name.clone(), *node)),
        Naming::Move(from, to, node) => {
            names.remove(from);
            names.insert(to.clone(), *node);
        }
        Naming::Remove(name) => drop(names.remove(name)),
    }
    names
}

impl Simulated {
    /// An empty disk.
    fn new() -> Self {
        Self(vec![Node::Dir(BTreeMap::new(), Vec::new())])
    }

    /// The directory of a name and the name in it.
    fn parent<'a>(&self, path: &'a str) -> (usize, &'a str) {
        match path.rsplit_once('/') {
            Some((dir, name)) => (self.find(dir).expect("a directory"), name),
            None => (0, path),
        }
    }

    /// What programs see under a name.
    fn find(&self, path: &str) -> Option<usize> {
        let mut node = 0;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            node = *self.seen(node).get(name)?;
        }
        Some(node)
    }

    /// The names that programs see in a directory.
    fn seen(&self, dir: usize) -> BTreeMap<String, usize> {
        match &self.0[dir] {
            Node::Dir(sure, pending) => pending.iter().fold(sure.clone(), renamed),
            Node::File(..) => BTreeMap::new(),
        }
    }

    fn name(&mut self, dir: usize, naming: Naming) {
        match &mut self.0[dir] {
            Node::Dir(_, pending) => pending.push(naming),
            Node::File(..) => panic!("no directory"),
        }
    }

    fn change(&mut self, path: &str, change: Change) {
        let Some(node) = self.find(path) else { return };
        match &mut self.0[node] {
            Node::File(_, pending) => pending.push(change),
            Node::Dir(..) => panic!("no file"),
        }
    }

    /// Puts down for sure what may be there.
    fn sync(&mut self, path: &str) {
        let Some(node) = self.find(path) else { return };
        match &mut self.0[node] {
            Node::Dir(sure, pending) => {
                *sure = pending
                    .drain(..)
                    .fold(std::mem::take(sure), |s, n| renamed(s, &n));
            }
            Node::File(sure, pending) => {
                *sure = pending
                    .drain(..)
                    .fold(std::mem::take(sure), |s, c| changed(s, &c));
            }
        }
    }

    /// Does what a system call does.
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Known(..) => {}
            Event::Create(path) => {
                assert!(self.find(path).is_none(), "{path} is there already");
                let (dir, name) = self.parent(path);
                let new = match path.ends_with(".join.tmp") {
                    true => Node::Dir(BTreeMap::new(), Vec::new()),
                    false => Node::File(Vec::new(), Vec::new()),
                };
                self.0.push(new);
                self.name(dir, Naming::Add(name.to_owned(), self.0.len() - 1));
            }
            Event::Link(from, to) => {
                let node = self.find(from).expect("a file");
                let (dir, name) = self.parent(to);
                self.name(dir, Naming::Add(name.to_owned(), node));
            }
            Event::Rename(from, to) => {
                let node = self.find(from).expect("a name");
                self.name(0, Naming::Move(from.clone(), to.clone(), node));
            }
            Event::Sync(path) | Event::SyncNames(path) => self.sync(path),
            Event::Truncate(path, length) => self.change(path, Change::Truncate(*length)),
            Event::Unlink(path) => {
                let node = self.find(path).expect("a name");
                for name in self.seen(node).into_keys() {
                    self.name(node, Naming::Remove(name));
                }
                self.name(0, Naming::Remove(path.clone()));
            }
            Event::Write(path, at, bytes) => self.change(path, Change::Write(*at, bytes.clone())),
        }
    }

    /// How many forms a node may have after the loss of power.
    fn forms(&self, node: usize) -> usize {
        match &self.0[node] {
            // Any of the changes.
            Node::Dir(_, pending) => 1 << pending.len().min(16),
            Node::File(_, pending) if pending.is_empty() => 1,
            // Any number of them, the last of these whole, cut short, or as zeros.
            Node::File(_, pending) => 1 + 3 * pending.len(),
        }
    }

    /// The names of a directory in one of its forms.
    fn names_in(&self, node: usize, form: usize) -> BTreeMap<String, usize> {
        let Node::Dir(sure, pending) = &self.0[node] else {
            return BTreeMap::new();
        };
        let chosen = pending
            .iter()
            .enumerate()
            .filter(|(bit, _)| form >> bit & 1 == 1);
        chosen.fold(sure.clone(), |names, (_, naming)| renamed(names, naming))
    }

    /// The content of a file in one of its forms.
    fn content_in(&self, node: usize, form: usize) -> Vec<u8> {
        let Node::File(sure, pending) = &self.0[node] else {
            return Vec::new();
        };
        let Some(form) = form.checked_sub(1) else {
            return sure.clone();
        };
        let before = pending[..form / 3].iter().fold(sure.clone(), changed);
        let last = match (&pending[form / 3], form % 3) {
            (Change::Write(at, bytes), 1) => Change::Write(*at, bytes[..bytes.len() / 2].to_vec()),
            (Change::Write(at, bytes), 2) => Change::Write(*at, vec![0; bytes.len()]),
            (change, _) => change.clone(),
        };
        changed(before, &last)
    }

    /// Lays a directory down with the forms chosen for its nodes.
    fn lay_down(&self, node: usize, forms: &[usize], to: &Path) -> io::Result<()> {
        fs::create_dir_all(to)?;
        for (name, node) in self.names_in(node, forms[node]) {
            match &self.0[node] {
                Node::Dir(..) => self.lay_down(node, forms, &to.join(name))?,
                Node::File(..) => fs::write(to.join(name), self.content_in(node, forms[node]))?,
            }
        }
        Ok(())
    }

    /// What lies on the disk with those forms, as a number.
    fn digest(&self, node: usize, forms: &[usize], hasher: &mut DefaultHasher) {
        for (name, node) in self.names_in(node, forms[node]) {
            name.hash(hasher);
            match &self.0[node] {
                Node::Dir(..) => self.digest(node, forms, hasher),
                Node::File(..) => self.content_in(node, forms[node]).hash(hasher),
            }
        }
        ")".hash(hasher);
    }

    /// Choices of forms: all, or some of each kind when they are too many.
    fn choices(&self) -> Vec<Vec<usize>> {
        let radix: Vec<usize> = (0..self.0.len()).map(|node| self.forms(node)).collect();
        let all = radix
            .iter()
            .fold(1_usize, |all, forms| all.saturating_mul(*forms));
        let pick = |mut number: usize| {
            let digit = |forms: &usize| {
                let digit = number % forms;
                number /= forms;
                digit
            };
            radix.iter().map(digit).collect()
        };
        if all <= MAX_STATES {
            return (0..all).map(pick).collect();
        }
        // The first and the last, and others by a walk that meets every digit.
        let mut choices = vec![pick(0), radix.iter().map(|forms| forms - 1).collect()];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        while choices.len() < MAX_STATES {
            let digit = |forms: &usize| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 33) as usize % forms
            };
            choices.push(radix.iter().map(digit).collect());
        }
        choices
    }
}

/// Whether every upload that is known to be complete has its plain file, even before anybody looks at
/// its record, or, for a final one, what that is made from.
fn published(
    path: &Path,
    known: &Known,
    doubt: Option<&(UploadId, Option<Upload>)>,
) -> Result<(), String> {
    let sure = |upload: &&Upload| doubt.is_none_or(|(id, _)| *id != upload.id);
    for upload in known.values().flatten().filter(sure) {
        let id = &upload.id;
        let is_there = |suffix: &str| path.join(format!("{id}{suffix}")).exists();
        let laid_down_later = match upload.role {
            Role::Whole | Role::Partial { .. } => false,
            Role::Final { .. } => is_there(".join") || is_there(".part"),
        };
        let there = is_there("") || laid_down_later;
        if upload.is_published() && !there {
            return Err(format!("{id} is not there"));
        }
    }
    Ok(())
}

/// Goes through `events` without the one at `without`, and lets the power fail between any two of
/// them. Gives the first broken promise.
async fn explore(events: &[Event], without: Option<usize>) -> Result<usize, String> {
    let mut simulated = Simulated::new();
    let (mut known, mut doubt) = (Known::new(), None);
    let (mut seen, mut states) = (BTreeSet::new(), 0);
    for (index, event) in events.iter().enumerate() {
        if Some(index) != without {
            simulated.apply(event);
        }
        if let Event::Known(now, next) = event {
            (known, doubt) = (now.clone(), next.clone());
            seen.clear();
        }
        match without {
            Some(without) if index < without => continue,
            Some(without) if index > without + MISSED_WITHIN => break,
            Some(_) | None => {}
        }
        for forms in simulated.choices() {
            let mut hasher = DefaultHasher::new();
            simulated.digest(0, &forms, &mut hasher);
            if !seen.insert(hasher.finish()) {
                continue;
            }
            states += 1;
            let place = Directory::quick(Durability::Synced);
            let laid = simulated.lay_down(0, &forms, place.path());
            laid.expect("a place for the state of the disk");
            let published = published(place.path(), &known, doubt.as_ref());
            published.map_err(|e| format!("power lost after {index}, {event}: {e}"))?;
            let restarted = restart(&place, &known, doubt.as_ref(), After::PowerLoss).await;
            restarted.map_err(|e| format!("power lost after {index}, {event}: {e}"))?;
        }
    }
    Ok(states)
}

#[tokio::test]
async fn synced_store_survives_the_loss_of_power_anywhere() {
    let events = history().await;
    let states = explore(&events, None)
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(states > 300, "only {states} states of the disk");
}

#[tokio::test]
async fn every_sync_is_missed() {
    let events = history().await;
    let mut idle = Vec::new();
    for (index, event) in events.iter().enumerate() {
        // A line is not missed when the log is replaced by a shorter one right after it.
        let replaced =
            matches!(events.get(index + 1), Some(Event::Create(next)) if next.ends_with(".tmp"));
        let syncs = matches!(event, Event::Sync(_) | Event::SyncNames(_));
        if syncs && !replaced && explore(&events, Some(index)).await.is_ok() {
            let before = events[..index].iter().rev();
            let last = before
                .clone()
                .find(|event| !matches!(event, Event::Known(..)));
            idle.push(format!(
                "{index} {event} after {}",
                last.expect("something")
            ));
        }
    }
    assert!(idle.is_empty(), "nobody misses\n{}", idle.join("\n"));
}
