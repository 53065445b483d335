//! Power fails: a disk that is simulated from the system calls of the script keeps what was synced,
//! and of the rest whatever it likes. What another process then finds.
//!
//! The simulated disk promises no more than POSIX does. Content that was not synced may be there,
//! be missing, be cut short or read as zeros. Names that were not synced may be made or not, each
//! by itself, in any order; a rename happens wholly or not at all.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    fmt,
    fs::{self, File},
    hash::{Hash as _, Hasher as _},
    io::{self, Seek as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, symlink},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::{
    super::{disk, lock},
    Directory,
    script::{After, Known, Step, chapters, restart, script},
};
use crate::{
    store::Durability,
    upload::{Role, Upload},
};

/// How many moments a sync that is left out is given to be missed.
const MISSED_WITHIN: usize = 40;

/// Something that happened.
#[derive(Debug, Clone)]
enum Event {
    /// A step of the script was begun, with what may be known after it, or acknowledged.
    Known(String, Known, Option<Known>),
    /// An empty file or directory was made.
    Create(String),
    Link(String, String),
    Rename(String, String),
    /// A name, and where it leads.
    Symlink(String, String),
    Sync(String),
    SyncNames(String),
    Truncate(String, usize),
    Unlink(String),
    Write(String, usize, Vec<u8>),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(step, ..) => f.write_str(step),
            Self::Write(path, at, bytes) => write!(f, "write {} to {path} at {at}", bytes.len()),
            Self::Create(_)
            | Self::Link(..)
            | Self::Rename(..)
            | Self::Symlink(..)
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

/// Whether a name is there, wherever it may lead.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
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
        disk::Step::Rename { from, to } if is_there(from) => Event::Rename(path(from), path(to)),
        disk::Step::Symlink { path: made, to } => {
            Event::Symlink(path(made), to.to_str().expect("names are UTF-8").to_owned())
        }
        disk::Step::Sync { file } => Event::Sync(name_of(file, dir)?),
        disk::Step::SyncNames { dir: names } => Event::SyncNames(name_of(names, dir)?),
        disk::Step::Truncate { file, len } => {
            Event::Truncate(name_of(file, dir)?, usize::try_from(*len).expect("small"))
        }
        disk::Step::Unlink { path: gone } if is_there(gone) => Event::Unlink(path(gone)),
        disk::Step::Write { file, frames, at } => {
            let at = usize::try_from(*at).expect("small");
            Event::Write(name_of(file, dir)?, at, frames.concat())
        }
        disk::Step::Open { .. }
        | disk::Step::Punch { .. }
        | disk::Step::Read { .. }
        | disk::Step::Rename { .. }
        | disk::Step::SyncAll { .. }
        | disk::Step::Unlink { .. } => return None,
    })
}

/// Runs the script and gives all that happened.
async fn history(script: Vec<Step>) -> Vec<Event> {
    let place = Directory::quick(Durability::Synced);
    let store = place.open().await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    store.shared.disk.probe().set(move |dir, step| {
        let event = event(dir, step);
        lock(&heard).extend(event);
        Ok(())
    });
    let mut known = Known::default();
    for step in script {
        let outcome = step.outcome(&known);
        let begin = format!("begin {step:?}").chars().take(80).collect();
        lock(&events).push(Event::Known(begin, known.clone(), outcome.clone()));
        let taken = Step::take(&step, &store, &known).await;
        taken.unwrap_or_else(|e| panic!("{step:?}: {e}"));
        known = outcome.unwrap_or(known);
        lock(&events).push(Event::Known("done".to_owned(), known.clone(), None));
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

/// A file or directory: what is on the disk for sure, and what may be. Where a symbolic link leads
/// is there with its name.
#[derive(Debug, Clone)]
enum Node {
    Dir(BTreeMap<String, usize>, Vec<Naming>),
    File(Vec<u8>, Vec<Change>),
    Symlink(String),
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
            Node::File(..) | Node::Symlink(_) => BTreeMap::new(),
        }
    }

    fn name(&mut self, dir: usize, naming: Naming) {
        match &mut self.0[dir] {
            Node::Dir(_, pending) => pending.push(naming),
            Node::File(..) | Node::Symlink(_) => panic!("no directory"),
        }
    }

    fn change(&mut self, path: &str, change: Change) {
        let Some(node) = self.find(path) else { return };
        match &mut self.0[node] {
            Node::File(_, pending) => pending.push(change),
            Node::Dir(..) | Node::Symlink(_) => panic!("no file"),
        }
    }

    /// Puts down for sure what may be there.
    fn sync(&mut self, path: &str) {
        let Some(node) = self.find(path) else { return };
        match &mut self.0[node] {
            Node::Dir(sure, pending) => {
                *sure = pending.drain(..).fold(std::mem::take(sure), |s, n| renamed(s, &n));
            }
            Node::File(sure, pending) => {
                *sure = pending.drain(..).fold(std::mem::take(sure), |s, c| changed(s, &c));
            }
            Node::Symlink(_) => panic!("no file"),
        }
    }

    /// Makes something new under a name that is free.
    fn make(&mut self, path: &str, new: Node) {
        assert!(self.find(path).is_none(), "{path} is there already");
        let (dir, name) = self.parent(path);
        self.0.push(new);
        self.name(dir, Naming::Add(name.to_owned(), self.0.len() - 1));
    }

    /// Does what a system call does.
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Known(..) => {}
            Event::Create(path) => {
                let new = match path.ends_with(".join.tmp") {
                    true => Node::Dir(BTreeMap::new(), Vec::new()),
                    false => Node::File(Vec::new(), Vec::new()),
                };
                self.make(path, new);
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
            Event::Symlink(path, to) => self.make(path, Node::Symlink(to.clone())),
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
        let bits = match &self.0[node] {
            // Any of the changes; those of one name keep their order, and the others' does not
            // show.
            Node::Dir(_, pending) => pending.len(),
            // Any of the changes, each whole, cut short, or as zeros.
            Node::File(_, pending) => 2 * pending.len(),
            Node::Symlink(_) => 0,
        };
        assert!(bits < 24, "too much is not synced: {:?}", self.0[node]);
        1 << bits
    }

    /// The names of a directory in one of its forms.
    fn names_in(&self, node: usize, form: usize) -> BTreeMap<String, usize> {
        let Node::Dir(sure, pending) = &self.0[node] else {
            return BTreeMap::new();
        };
        let chosen = pending.iter().enumerate().filter(|(bit, _)| form >> bit & 1 == 1);
        chosen.fold(sure.clone(), |names, (_, naming)| renamed(names, naming))
    }

    /// The content of a file in one of its forms.
    fn content_in(&self, node: usize, form: usize) -> Vec<u8> {
        let Node::File(sure, pending) = &self.0[node] else {
            return Vec::new();
        };
        let kept = |(index, change): (usize, &Change)| match (change, form >> (2 * index) & 3) {
            (_, 0) => None,
            (Change::Write(at, bytes), 1) => {
                Some(Change::Write(*at, bytes[..bytes.len() / 2].to_vec()))
            }
            (Change::Write(at, bytes), 2) => Some(Change::Write(*at, vec![0; bytes.len()])),
            (change, _) => Some(change.clone()),
        };
        let kept = pending.iter().enumerate().filter_map(kept);
        kept.fold(sure.clone(), |content, change| changed(content, &change))
    }

    /// Lays a directory down in one of its states. `laid` are the files laid down already, by node.
    fn lay_down(
        &self,
        node: usize,
        state: &BTreeMap<usize, usize>,
        to: &Path,
        laid: &mut BTreeMap<usize, PathBuf>,
    ) -> io::Result<()> {
        fs::create_dir_all(to)?;
        for (name, node) in self.names_in(node, state[&node]) {
            let path = to.join(name);
            match (&self.0[node], laid.get(&node)) {
                (Node::Dir(..), _) => self.lay_down(node, state, &path, laid)?,
                (Node::Symlink(to), _) => symlink(to, path)?,
                (Node::File(..), Some(other)) => fs::hard_link(other, path)?,
                (Node::File(..), None) => {
                    fs::write(&path, self.content_in(node, state[&node]))?;
                    laid.insert(node, path);
                }
            }
        }
        Ok(())
    }

    /// What a node is in one of its forms, as a number: the names in it, or its content.
    fn digest(&self, node: usize, form: usize) -> u64 {
        let mut hasher = DefaultHasher::new();
        match &self.0[node] {
            Node::Dir(..) => self.names_in(node, form).hash(&mut hasher),
            Node::File(..) => self.content_in(node, form).hash(&mut hasher),
            Node::Symlink(to) => to.hash(&mut hasher),
        }
        hasher.finish()
    }

    /// The forms of a node that differ from each other.
    fn distinct(&self, node: usize) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        let forms = 0..self.forms(node);
        forms.filter(|form| seen.insert(self.digest(node, *form))).collect()
    }

    /// Every state the disk may be in: a form for each node that can be reached.
    fn states(&self) -> Vec<BTreeMap<usize, usize>> {
        let mut states = Vec::new();
        let mut unfinished = vec![(BTreeMap::new(), vec![0])];
        while let Some((chosen, mut open)) = unfinished.pop() {
            let Some(node) = open.pop() else {
                states.push(chosen);
                continue;
            };
            if chosen.contains_key(&node) {
                unfinished.push((chosen, open));
                continue;
            }
            for form in self.distinct(node) {
                let (mut chosen, mut open) = (chosen.clone(), open.clone());
                open.extend(self.names_in(node, form).into_values());
                chosen.insert(node, form);
                unfinished.push((chosen, open));
            }
        }
        states
    }

    /// What lies on the disk in a state, as a number.
    fn fingerprint(&self, node: usize, state: &BTreeMap<usize, usize>, hasher: &mut DefaultHasher) {
        for (name, node) in self.names_in(node, state[&node]) {
            name.hash(hasher);
            match &self.0[node] {
                Node::Dir(..) => self.fingerprint(node, state, hasher),
                Node::File(..) | Node::Symlink(_) => self.digest(node, state[&node]).hash(hasher),
            }
        }
        ")".hash(hasher);
    }
}

/// Whether every upload that is known to be complete has its plain file, even before anybody looks
/// at its record, or, for a final one, what that is made from.
fn published(path: &Path, known: &Known, doubt: Option<&Known>) -> Result<(), String> {
    let is_sure =
        |upload: &&Upload| doubt.is_none_or(|doubt| doubt.get(&upload.id) == Some(*upload));
    for upload in known.uploads().filter(is_sure) {
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
/// them. Looks at every state of the disk that is possible then: every order and every loss of what
/// was not synced. Gives their number, or the first broken promise.
async fn explore(events: &[Event], without: Option<usize>) -> Result<usize, String> {
    let mut simulated = Simulated::new();
    let (mut known, mut doubt) = (Known::default(), None);
    let (mut seen, mut states) = (BTreeSet::new(), 0);
    for (index, event) in events.iter().enumerate() {
        if Some(index) != without {
            simulated.apply(event);
        }
        if let Event::Known(_, now, next) = event {
            (known, doubt) = (now.clone(), next.clone());
            seen.clear();
        }
        match without {
            Some(without) if index < without => continue,
            Some(without) if index > without + MISSED_WITHIN => break,
            Some(_) | None => {}
        }
        for state in simulated.states() {
            let mut hasher = DefaultHasher::new();
            simulated.fingerprint(0, &state, &mut hasher);
            if !seen.insert(hasher.finish()) {
                continue;
            }
            states += 1;
            let place = Directory::quick(Durability::Synced);
            let laid = simulated.lay_down(0, &state, place.path(), &mut BTreeMap::new());
            // It was made before anything that the simulated disk knows of.
            let laid = laid.and_then(|()| fs::write(place.file(".secret"), [7; 32]));
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
    let events = history(script()).await;
    let states = explore(&events, None).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(states > 300, "only {states} states of the disk");
}

/// Two uploads side by side: a sync for one also makes names last that the other has not got to.
#[tokio::test]
async fn synced_store_survives_the_loss_of_power_between_any_two_uploads() {
    let chapters = chapters();
    let pairs = (0..chapters.len()).flat_map(|first| (0..first).map(move |second| (first, second)));
    for (first, second) in pairs {
        let (one, other) = (&chapters[first], &chapters[second]);
        let rounds = 0..one.len().max(other.len());
        let steps = rounds.flat_map(|round| [one.get(round), other.get(round)]);
        let events = history(steps.flatten().cloned().collect()).await;
        let explored = explore(&events, None).await;
        explored.unwrap_or_else(|e| panic!("chapters {first} and {second}: {e}"));
    }
}

#[tokio::test]
async fn every_sync_is_missed() {
    let events = history(script()).await;
    let mut idle = Vec::new();
    for (index, event) in events.iter().enumerate() {
        // A line is not missed when the log is replaced by a shorter one right after it.
        let replaced =
            matches!(events.get(index + 1), Some(Event::Create(next)) if next.ends_with(".tmp"));
        let syncs = matches!(event, Event::Sync(_) | Event::SyncNames(_));
        if syncs && !replaced && explore(&events, Some(index)).await.is_ok() {
            let before = events[..index].iter().rev();
            let last = before.clone().find(|event| !matches!(event, Event::Known(..)));
            idle.push(format!("{index} {event} after {}", last.expect("something")));
        }
    }
    assert!(idle.is_empty(), "nobody misses\n{}", idle.join("\n"));
}
