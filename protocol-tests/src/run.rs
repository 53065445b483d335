//! Holds every case against a server, or against one started for each setup.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::case::{Case, Pace, Setup};
use crate::contract::Contract;
use crate::failure::{Failure, Verdict};
use crate::server::Windlass;
use crate::site::{Base, Site};
use crate::watch::{Check, Watch};

/// Cases wait for sockets and clocks more than they compute.
const WORKERS: usize = 16;

/// What a run is held against.
#[derive(Clone, Debug)]
pub enum Target {
    /// A server that runs already, by the URL of the dialect that is asked for, with the setups
    /// that it was declared to have.
    Running(String, Vec<Setup>),
    /// A binary, started once for each setup.
    Binary(PathBuf),
    /// Another server of the dialect, behind a program that takes the flags of the binary.
    Other(PathBuf),
}

/// How one case ended in one setup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything held.
    Passed,
    /// Something did not.
    Failed(String),
    /// The server does not offer what the case needs.
    NotOffered(String),
}

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Row {
    /// The case or check.
    pub name: &'static str,
    /// Its rules.
    pub rules: &'static [&'static str],
    /// The setup, or a word for the whole run.
    pub setup: &'static str,
    /// How it ended.
    pub ending: Ending,
    /// Why it failed, without what differs from run to run; empty if it did not.
    pub reason: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Everything a run found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// A row per case and setup, then a row per check of every answer.
    pub rows: Vec<Row>,
}

/// Where a setup can be reached, or why not.
type Places = BTreeMap<(&'static str, Setup), Result<Place, String>>;

/// Where a dialect of a server is, and the extensions that it announces.
type Place = (Base, Vec<String>);

/// One case in one setup.
type Job = (&'static Contract, &'static Case, Setup);

/// Runs every case of `contracts` whose name contains `filter`, or that holds the rule `filter`.
pub fn run(
    contracts: &[&'static Contract],
    target: &Target,
    filter: &str,
) -> Result<Report, Failure> {
    let wanted = |case: &&'static Case| {
        case.name.contains(filter)
            || case.rules.iter().any(|rule| rule.eq_ignore_ascii_case(filter))
    };
    let mut jobs: Vec<Job> = contracts
        .iter()
        .flat_map(|contract| contract.cases().map(move |case| (*contract, case)))
        .filter(|(_, case)| wanted(case))
        .flat_map(|(contract, case)| case.setups.iter().map(move |s| (contract, case, *s)))
        .collect();
    let order: Vec<&str> = jobs.iter().map(|(_, case, _)| case.name).collect();
    // Those that wait start first, so that the run lasts little longer than the longest of them.
    jobs.sort_by_key(|(_, case, _)| case.pace);

    let mut rows = Vec::new();
    if matches!(target, Target::Other(_)) {
        rows.extend(jobs.iter().filter_map(not_asked));
        jobs.retain(|job| not_asked(job).is_none());
    }

    let (places, servers) = prepare(target, &jobs)?;
    let watch = Arc::new(Watch::default());
    let binary = match target {
        Target::Running(..) => None,
        Target::Binary(path) | Target::Other(path) => Some(path.as_path()),
    };
    let alone = jobs.partition_point(|(_, case, _)| case.pace < Pace::Alone);
    let alone = jobs.split_off(alone);
    rows.extend(work(jobs, WORKERS, &places, binary, &watch));
    rows.extend(work(alone, 1, &places, binary, &watch));
    rows.sort_by_key(|row| order.iter().position(|name| *name == row.name));
    for contract in contracts {
        rows.extend(contract.checks.iter().map(|check| check_row(contract, check, &watch)));
    }
    if matches!(target, Target::Binary(_)) {
        rows.push(panic_row(&servers));
    }
    Ok(Report { rows })
}

/// The row of a job that other servers are not given, if it is one.
fn not_asked((_, case, setup): &Job) -> Option<Row> {
    // Behind Django HTTP/2 ends at a proxy.
    let reason = if *setup == Setup::Http2 { Some("HTTP/1.1 alone") } else { case.ours_alone };
    let ending = Ending::NotOffered(reason?.to_owned());
    Some(Row::of(case, *setup, ending, Vec::new(), Duration::ZERO))
}

/// Starts or asks the servers for these jobs.
fn prepare(target: &Target, jobs: &[Job]) -> Result<(Places, Vec<Windlass>), Failure> {
    let mut places = Places::new();
    let mut servers: BTreeMap<Setup, Windlass> = BTreeMap::new();
    for (contract, _, setup) in jobs {
        if places.contains_key(&(contract.name, *setup)) {
            continue;
        }
        let place = match target {
            Target::Running(url, declared) => running(contract, url, declared, *setup),
            Target::Binary(binary) | Target::Other(binary) => {
                if !servers.contains_key(setup) {
                    servers.insert(*setup, Windlass::start(binary, setup.flags())?);
                }
                let base = Base::parse(servers[setup].url_of(contract.name)?)?;
                Ok((base.clone(), extensions(contract, &base)))
            }
        };
        places.insert((contract.name, *setup), place);
    }
    Ok((places, servers.into_values().collect()))
}

fn running(
    contract: &'static Contract,
    url: &str,
    declared: &[Setup],
    setup: Setup,
) -> Result<Place, String> {
    let base = Base::parse(url).map_err(|failure| failure.to_string())?;
    let options =
        probe(contract, &base, Setup::Plain).options().map_err(|failure| failure.to_string())?;
    let extensions = options.list("Tus-Extension");
    let offered = declared.contains(&setup)
        || match setup {
            Setup::Plain => true,
            Setup::Http2 => probe(contract, &base, Setup::Http2).options().is_ok(),
            Setup::MaxSize => options.number("Tus-Max-Size").is_some_and(|max| max <= 1 << 30),
            Setup::PendingFinals => extensions.iter().any(|e| e == "concatenation-unfinished"),
            Setup::Expiry
            | Setup::TrustForwarded
            | Setup::PublicUrl
            | Setup::NoCors
            | Setup::CorsOrigin
            | Setup::RootPath
            | Setup::IdleTimeout
            | Setup::Own => false,
        };
    if offered { Ok((base, extensions)) } else { Err(format!("no setup {}", setup.name())) }
}

fn probe(contract: &'static Contract, base: &Base, setup: Setup) -> Site {
    Site::new(contract, base.clone(), setup, "probe", Arc::default())
}

fn extensions(contract: &'static Contract, base: &Base) -> Vec<String> {
    let options = probe(contract, base, Setup::Plain).options();
    options.map(|options| options.list("Tus-Extension")).unwrap_or_default()
}

fn work(
    jobs: Vec<Job>,
    workers: usize,
    places: &Places,
    binary: Option<&Path>,
    watch: &Arc<Watch>,
) -> Vec<Row> {
    let queue = Mutex::new(VecDeque::from(jobs));
    let rows = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(job) = job else { return };
                    let row = run_one(job, places, binary, watch);
                    rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
                }
            });
        }
    });
    rows.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn run_one(
    (contract, case, setup): Job,
    places: &Places,
    binary: Option<&Path>,
    watch: &Arc<Watch>,
) -> Row {
    let started = Instant::now();
    let mut reason = Vec::new();
    let ending = match places.get(&(contract.name, setup)) {
        None => Ending::Failed("no server for this setup".to_owned()),
        Some(Err(reason)) => Ending::NotOffered(reason.clone()),
        Some(Ok((base, extensions))) => {
            let missing = case
                .extensions
                .iter()
                .find(|e| contract.announces && !extensions.iter().any(|o| o == *e));
            match missing {
                Some(name) if binary.is_none() => Ending::NotOffered(format!("no {name}")),
                Some(name) => Ending::Failed(format!("the server does not announce {name}")),
                None => {
                    let site =
                        Site::new(contract, base.clone(), setup, case.name, Arc::clone(watch));
                    let site = site.with_binary(binary.map(Path::to_owned));
                    let run = AssertUnwindSafe(|| (case.run)(&site));
                    let verdict = std::panic::catch_unwind(run);
                    if let Ok(Err(failure)) = &verdict {
                        reason = failure.reason();
                    }
                    ending(verdict)
                }
            }
        }
    };
    Row::of(case, setup, ending, reason, started.elapsed())
}

fn ending(verdict: std::thread::Result<Verdict>) -> Ending {
    match verdict {
        Ok(Ok(())) => Ending::Passed,
        Ok(Err(failure)) => Ending::Failed(failure.to_string()),
        Err(_) => Ending::Failed("the case itself panicked".to_owned()),
    }
}

fn check_row(contract: &Contract, check: &'static Check, watch: &Watch) -> Row {
    let findings = watch.findings(check.name);
    let mut ending = Ending::Passed;
    if let Some(first) = findings.first() {
        let count = findings.len();
        ending =
            Ending::Failed(format!("{count} answers, first in {}: {}", first.case, first.exchange));
    }
    // Which answers a race sees is chance.
    let races = |name| contract.cases().any(|case| case.name == name && case.races);
    let kinds: BTreeSet<_> =
        findings.into_iter().filter(|f| !races(f.case)).map(|finding| finding.kind).collect();
    let mut reason = Vec::new();
    if !kinds.is_empty() {
        let kinds: Vec<_> = kinds.into_iter().collect();
        reason.push(format!("answers to {}", kinds.join(", ")));
    }
    let (setup, took) = ("always", Duration::ZERO);
    Row { name: check.name, rules: check.rules, setup, ending, reason, took }
}

fn panic_row(servers: &[Windlass]) -> Row {
    let panics: Vec<String> = servers.iter().flat_map(Windlass::panics).collect();
    let ending =
        panics.first().map_or(Ending::Passed, |first| Ending::Failed(first.trim().to_owned()));
    let (name, rules) = (crate::watch::NO_PANIC, crate::tus::CONTRACT.panic_rules);
    Row { name, rules, setup: "always", ending, reason: Vec::new(), took: Duration::ZERO }
}

impl Row {
    fn of(case: &Case, setup: Setup, ending: Ending, reason: Vec<String>, took: Duration) -> Self {
        Self { name: case.name, rules: case.rules, setup: setup.name(), ending, reason, took }
    }
}

impl Report {
    /// Passed, failed and skipped.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |wanted: fn(&Ending) -> bool| {
            self.rows.iter().filter(|row| wanted(&row.ending)).count()
        };
        (
            count(|ending| *ending == Ending::Passed),
            count(|ending| matches!(ending, Ending::Failed(_))),
            count(|ending| matches!(ending, Ending::NotOffered(_))),
        )
    }

    /// The report as text; passed rows only if `all`.
    pub fn text(&self, all: bool) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let (word, detail) = match &row.ending {
                Ending::Passed => ("pass", ""),
                Ending::Failed(why) => ("FAIL", why.as_str()),
                Ending::NotOffered(why) => ("not offered", why.as_str()),
            };
            if all || word == "FAIL" {
                let (rules, seconds) = (row.rules.join(" "), row.took.as_secs_f32());
                let name = format!("{} [{}]", row.name, row.setup);
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{word:<11} {name:<75} {seconds:>5.1}s  {rules}");
                if !detail.is_empty() {
                    let _ = writeln!(text, "            {detail}");
                }
            }
        }
        let (passed, failed, skipped) = self.counts();
        let _ = writeln!(text, "{passed} passed, {failed} failed, {skipped} skipped");
        text
    }
}
