//! The power fails at any step of the clients: the disk holds what the file system had written by
//! then.
//!
//! The data directory is on a file system in an image file behind a loop device. The image lies on
//! an XFS, which clones a file in one instant, while everything goes on: the clone is what a disk
//! would hold that lost power then, without the pages that were only in memory. A server is started
//! on the clone and must keep what clients had been told before the cloning began.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::check::{Crash, Survivor, announced, published};
use super::client::{Client, Pulse};
use super::dice::Dice;
use super::kill::{Figures, counted};
use super::ledger::{Entry, Fate, Kind, Ledger};
use super::mount::{FileSystem, Mounted, image, temporary};
use crate::failure::{Failure, Verdict, ensure};
use crate::server::Windlass;
use crate::site::Base;

/// Ways to mount the disk. The kernel writes in another order or at other times in each.
const fn options(file_system: FileSystem) -> &'static [&'static str] {
    match file_system {
        FileSystem::Ext4 => &["rw", "commit=1", "data=writeback", "nodelalloc"],
        // A clone has the same identity as the original beside it.
        FileSystem::Xfs => &["nouuid"],
    }
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Repeats the plan.
    pub seed: u64,
    /// How often the power fails.
    pub cuts: usize,
    /// Connections side by side.
    pub clients: usize,
    /// The largest upload.
    pub max_bytes: u64,
    /// What the data is on.
    pub file_system: FileSystem,
}

/// One loss of power.
struct Cut {
    /// What was certain when it began.
    then: Vec<Entry>,
    /// What may have happened until it was over.
    now: Vec<Entry>,
    /// What had been announced when it began.
    announced: BTreeMap<String, usize>,
}

/// The disk and what is around it. Fields are dropped in this order.
struct Bench {
    process: Windlass,
    _disk: Mounted,
    _host: Mounted,
    /// Where images are.
    images: PathBuf,
    options: &'static str,
    directory: tempfile::TempDir,
}

/// Runs the plan.
///
/// # Errors
/// The first broken promise, with the seed and the number of the cut.
pub fn run(binary: &Path, plan: &Plan) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    let mut dice = Dice::new(plan.seed);
    let bench = Bench::new(binary, plan)?;
    let ledger = Ledger::new(plan.clients);
    let next = AtomicU64::new(0);
    while figures.crashes < plan.cuts {
        let crash = figures.crashes + 1;
        let about = |f: Failure| f.within(format!("seed {}, cut {crash}", plan.seed));
        let cut = bench.cut(plan, &mut dice, &ledger, &next, &mut figures).map_err(about)?;
        bench.examine(binary, plan, &mut dice, cut, &next, &mut figures).map_err(about)?;
        ledger.forget();
    }
    Ok(figures)
}

impl Bench {
    fn new(binary: &Path, plan: &Plan) -> Result<Self, Failure> {
        let directory = temporary()?;
        let options = options(plan.file_system);
        let options = options[plan.seed as usize % options.len()];
        let host = image(&directory.path().join("host.img"), 4 << 30)?;
        FileSystem::Xfs.make(&host)?;
        let images = directory.path().join("images");
        let host = Mounted::new(&host, &images, "")?;
        let disk = image(&images.join("disk.img"), plan.file_system.min_bytes())?;
        plan.file_system.make(&disk)?;
        let disk = Mounted::new(&disk, &directory.path().join("disk"), options)?;
        let flags = ["--durability", "synced"];
        Ok(Self {
            process: Windlass::start_on(binary, &disk.path().join("data"), &flags)?,
            _disk: disk,
            _host: host,
            images,
            options,
            directory,
        })
    }

    /// Lets the clients work until one of their steps has the power fail.
    fn cut(
        &self,
        plan: &Plan,
        dice: &mut Dice,
        ledger: &Ledger,
        next: &AtomicU64,
        figures: &mut Figures,
    ) -> Result<Cut, Failure> {
        let (steps, delay) = (1 + dice.roll(200), Duration::from_micros(dice.roll(1_500)));
        let cut = Mutex::new(None);
        let take = || {
            let start = Instant::now();
            while start.elapsed() < delay {
                std::thread::yield_now();
            }
            let (announced, then) = (announced(&self.process.log()), ledger.state());
            let cloned = clone(&self.images.join("disk.img"), &self.images.join("cut.img"));
            let now = ledger.state();
            *cut.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(cloned.map(|()| Cut { then, now, announced }));
        };
        let answers = work(&self.process, plan, steps, dice, (ledger, next), take)?;
        figures.crashes += 1;
        figures.answers += answers;
        let cut = cut.into_inner().unwrap_or_else(PoisonError::into_inner);
        cut.ok_or_else(|| Failure::new("the power did not fail"))?
    }

    /// Starts a server on what the disk holds.
    fn examine(
        &self,
        binary: &Path,
        plan: &Plan,
        dice: &mut Dice,
        cut: Cut,
        next: &AtomicU64,
        figures: &mut Figures,
    ) -> Verdict {
        let image = self.images.join("cut.img");
        let at = self.directory.path().join("cut");
        let start = || -> Result<(Windlass, Mounted), Failure> {
            let disk = Mounted::new(&image, &at, self.options)?;
            let data = disk.path().join("data");
            published(&data, &cut.now)?;
            let flags = ["--durability", "synced"];
            Ok((Windlass::start_on(binary, &data, &flags)?, disk))
        };
        let (mut process, mut disk) = start()?;
        while figures.crashes < plan.cuts && dice.one_in(8) {
            // Another one while it cleans up after the first one.
            std::thread::sleep(Duration::from_micros(dice.roll(5_000)));
            let again = self.images.join("again.img");
            clone(&image, &again)?;
            drop(process);
            drop(disk);
            std::fs::rename(again, &image)?;
            figures.crashes += 1;
            (process, disk) = start()?;
        }
        let survivor = Survivor {
            address: Base::parse(&process.url)?.address,
            data: process.data(),
            crash: Crash::Power,
        };
        let found = survivor.check(&cut.then, &cut.now)?;
        figures.checked += found.len();
        figures.announced = figures.announced.max(cut.announced.len());
        figures.counted += counted(&cut.then, &found);
        let living = found.iter().filter(|entry| entry.fate == Fate::Living);
        for entry in living.filter(|entry| !entry.is_complete()) {
            let path = entry.path.as_deref().unwrap_or_default();
            let about = format!("{path} was announced and is not complete");
            ensure(!cut.announced.contains_key(path), about)?;
        }
        // The clients go on there, which shows that every upload can be resumed.
        let ledger = Ledger::new(plan.clients);
        ledger.learn(found);
        figures.answers += work(&process, plan, 30, dice, (&ledger, next), || ())?;
        let again = announced(&process.log());
        let twice: Vec<_> = again.keys().filter(|path| cut.announced.contains_key(*path)).collect();
        ensure(twice.is_empty(), format!("{twice:?} announced again"))?;
        let panics = process.panics();
        ensure(panics.is_empty(), format!("{panics:?}"))?;
        drop(process);
        drop(disk);
        Ok(std::fs::remove_file(image)?)
    }
}

/// Lets clients work on a server until `crash` was called at the step of that number. Gives the
/// number of their answers.
fn work(
    process: &Windlass,
    plan: &Plan,
    steps: u64,
    dice: &mut Dice,
    (ledger, next): (&Ledger, &AtomicU64),
    crash: impl Fn() + Sync,
) -> Result<u64, Failure> {
    let address = Base::parse(&process.url)?.address;
    let pulse = Pulse::new(steps, crash);
    Client::crowd(address, dice, (ledger, next), plan.max_bytes, &pulse)?;
    Ok(pulse.answers.load(Ordering::Relaxed))
}

/// Clones a file in one instant.
fn clone(from: &Path, to: &Path) -> Verdict {
    let (from, to) = (File::open(from)?, File::create(to)?);
    rustix::fs::ioctl_ficlone(&to, &from)
        .map_err(|error| Failure::new(format!("cannot clone the image: {error}")))
}

impl Ledger {
    /// Forgets uploads that are gone for good.
    fn forget(&self) {
        let lasting =
            |entry: &Entry| entry.fate != Fate::Gone || matches!(entry.kind, Kind::Chunks(_));
        for client in 0..self.clients() {
            self.page(client).retain(lasting);
        }
    }
}
