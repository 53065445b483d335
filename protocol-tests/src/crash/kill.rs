//! The process is killed at any step of its clients, again and again on one directory.

use std::fmt;
use std::ops::AddAssign;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::check::{Announcements, Crash, Survivor, published};
use super::client::{Client, Pulse};
use super::dice::Dice;
use super::ledger::{Entry, Fate, Ledger};
use crate::failure::{Failure, Verdict, ensure};
use crate::server::Windlass;
use crate::site::Base;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Repeats the plan.
    pub seed: u64,
    /// How often the server is killed.
    pub kills: usize,
    /// Connections side by side.
    pub clients: usize,
    /// The largest upload.
    pub max_bytes: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Crashes.
    pub crashes: usize,
    /// Answers that clients have read.
    pub answers: u64,
    /// Uploads looked at after a crash, each time.
    pub checked: usize,
    /// Completions that were announced.
    pub announced: usize,
    /// Uploads that held more than clients had been told: requests cut off that counted all the
    /// same.
    pub counted: usize,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.answers += other.answers;
        self.checked += other.checked;
        self.announced += other.announced;
        self.counted += other.counted;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { crashes, answers, checked, announced, counted } = self;
        write!(
            f,
            "{crashes} crashes, {answers} answers, {checked} uploads checked, \
             {announced} announcements, {counted} unanswered writes kept"
        )
    }
}

/// Runs the plan.
///
/// # Errors
/// The first broken promise, with the seed and the number of the crash.
pub fn run(binary: &Path, plan: &Plan) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    let about = |f: Failure, crash| f.within(format!("seed {}, kill {crash}", plan.seed));
    let durability = ["relaxed", "synced"][(plan.seed % 2) as usize];
    let mut process = Windlass::start(binary, &["--durability", durability])?;
    let mut dice = Dice::new(plan.seed);
    let ledger = Ledger::new(plan.clients);
    let (next, mut announcements) = (AtomicU64::new(0), Announcements::default());
    while figures.crashes < plan.kills {
        let crash = figures.crashes + 1;
        round(&mut process, plan, &mut dice, &ledger, &next, &mut figures)
            .map_err(|f| about(f, crash))?;
        published(process.data(), &ledger.state()).map_err(|f| about(f, crash))?;
        process.restart()?;
        while figures.crashes < plan.kills && dice.one_in(8) {
            // Another one while it cleans up after the first one.
            std::thread::sleep(Duration::from_micros(dice.roll(5_000)));
            process.kill()?;
            figures.crashes += 1;
            process.restart()?;
        }
        let survivor = Survivor {
            address: Base::parse(&process.url)?.address,
            data: process.data(),
            crash: Crash::Kill,
        };
        let state = ledger.state();
        let found = survivor.check(&state, &state).map_err(|f| about(f, crash))?;
        let announced = announcements.check(&process.log(), process.data(), &found);
        figures.announced = announced.map_err(|f| about(f, crash))?;
        figures.checked += found.len();
        figures.counted += counted(&state, &found);
        ledger.learn(found);
        let panics = process.panics();
        ensure(panics.is_empty(), format!("{panics:?}")).map_err(|f| about(f, crash))?;
    }
    Ok(figures)
}

/// How many uploads hold more than clients had been told.
pub(super) fn counted(told: &[Entry], found: &[Entry]) -> usize {
    let grown = |before: &Entry, after: &Entry| {
        after.number == before.number
            && after.fate == Fate::Living
            && (after.told > before.told || after.stored.len() > before.stored.len())
    };
    let counted = |before: &&Entry| found.iter().any(|after| grown(before, after));
    told.iter().filter(counted).count()
}

/// Lets the clients work until one of their steps kills the server.
fn round(
    process: &mut Windlass,
    plan: &Plan,
    dice: &mut Dice,
    ledger: &Ledger,
    next: &AtomicU64,
    figures: &mut Figures,
) -> Verdict {
    let address = Base::parse(&process.url)?.address;
    let pid = i32::try_from(process.pid()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::new("the process has no id"))?;
    let (steps, delay) = (1 + dice.roll(200), Duration::from_micros(dice.roll(1_500)));
    let pulse = Pulse::new(steps, || {
        // Into the middle of what the server does about that step; other clients go on meanwhile.
        let start = Instant::now();
        while start.elapsed() < delay {
            std::thread::yield_now();
        }
        // It is our child and not waited for yet, so the number is still its own.
        kill_process(pid, Signal::KILL).expect("our own child can be killed");
    });
    let worked = Client::crowd(address, dice, (ledger, next), plan.max_bytes, &pulse);
    process.kill()?;
    figures.crashes += 1;
    figures.answers += pulse.answers.load(Ordering::Relaxed);
    worked
}
