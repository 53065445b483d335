//! The process dies at every system call that changes something: what another one then finds.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::{
    super::{disk, lock},
    Directory, copy_tree,
    script::{After, Known, Step, restart, script},
};
use crate::store::Durability;

/// The directory as a crash would leave it, and what was known then.
struct Crash {
    dir: PathBuf,
    /// Where in the script, and before which system call.
    place: String,
    known: Known,
    doubt: Option<Known>,
}

/// What is going on while the script runs.
#[derive(Default)]
struct Scene {
    crashes: Vec<Crash>,
    doubt: Option<Known>,
    known: Known,
    step: String,
}

impl Scene {
    /// Keeps a copy of the directory; gives where it is.
    fn keep(&mut self, dir: &Path, copies: &Path, call: &str) -> io::Result<PathBuf> {
        let copy = copies.join(self.crashes.len().to_string());
        copy_tree(dir, &copy)?;
        self.crashes.push(Crash {
            dir: copy.clone(),
            place: format!("{} / {call}", self.step),
            known: self.known.clone(),
            doubt: self.doubt.clone(),
        });
        Ok(copy)
    }
}

/// The copy in `copy` of an open file in `dir`.
fn copy_of(file: &File, dir: &Path, copy: &Path) -> io::Result<File> {
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let name = path.strip_prefix(dir.canonicalize()?).map_err(io::Error::other)?;
    File::options().write(true).open(copy.join(name))
}

/// Whether a crash before this call differs from one before the next.
fn changes(step: &disk::Step<'_>) -> bool {
    match step {
        disk::Step::Copy { .. }
        | disk::Step::Create { .. }
        | disk::Step::Link { .. }
        | disk::Step::Punch { .. }
        | disk::Step::Rename { .. }
        | disk::Step::Symlink { .. }
        | disk::Step::Truncate { .. }
        | disk::Step::Unlink { .. }
        | disk::Step::Write { .. } => true,
        disk::Step::Open { .. }
        | disk::Step::Read { .. }
        | disk::Step::Sync { .. }
        | disk::Step::SyncAll { .. }
        | disk::Step::SyncNames { .. } => false,
    }
}

/// A call in a few words.
fn tell(step: &disk::Step<'_>) -> String {
    if let disk::Step::Write { frames, at, .. } = step {
        let bytes: usize = frames.iter().map(bytes::Bytes::len).sum();
        return format!("write {bytes} bytes at {at}");
    }
    format!("{step:?}")
}

/// Runs the script and gives all crashes there could have been.
async fn crashes(place: &Directory, copies: &Path) -> Vec<Crash> {
    let scene = Arc::new(Mutex::new(Scene::default()));
    let store = place.open().await;
    let (watched, copies) = (Arc::clone(&scene), copies.to_owned());
    store.shared.disk.probe().set(move |dir, step| {
        if !changes(step) {
            return Ok(());
        }
        let mut scene = lock(&watched);
        scene.keep(dir, &copies, &tell(step))?;
        if let disk::Step::Write { file, frames, at } = step {
            // The same, in the middle of the write.
            let copy = scene.keep(dir, &copies, "torn write")?;
            let bytes = frames.concat();
            let file = copy_of(file, dir, &copy)?;
            file.write_all_at(&bytes[..bytes.len() / 2], *at)?;
        }
        Ok(())
    });
    for step in script() {
        let known = {
            let mut scene = lock(&scene);
            scene.step = format!("{step:?}").chars().take(80).collect();
            scene.doubt = step.outcome(&scene.known);
            scene.known.clone()
        };
        let taken = Step::take(&step, &store, &known).await;
        taken.unwrap_or_else(|e| panic!("{step:?}: {e}"));
        let mut scene = lock(&scene);
        if let Some(next) = scene.doubt.take() {
            scene.known = next;
        }
    }
    store.shared.disk.probe().clear();
    std::mem::take(&mut lock(&scene).crashes)
}

/// Everything known before the crash is there after it, nothing half done is left.
async fn survives(durability: Durability) {
    let place = Directory::quick(durability);
    let copies = Directory::quick(durability);
    let crashes = crashes(&place, copies.path()).await;
    assert!(crashes.len() > 100, "the script has {} crashes", crashes.len());
    for crash in crashes {
        let place = Directory::at(&crash.dir, durability);
        let restarted = restart(&place, &crash.known, crash.doubt.as_ref(), After::Death).await;
        restarted.unwrap_or_else(|e| panic!("crash at {}: {e}", crash.place));
    }
}

#[tokio::test]
async fn relaxed_store_survives_a_crash_anywhere() {
    survives(Durability::Relaxed).await;
}

#[tokio::test]
async fn synced_store_survives_a_crash_anywhere() {
    survives(Durability::Synced).await;
}
