//! Holds every case against a server, or against one started for each setup.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::case::{Case, Setup};
use crate::failure::{Failure, Verdict};
use crate::server::Windlass;
use crate::site::{Base, Site};
use crate::watch::{CHECKS, Watch};

/// Cases wait for sockets and clocks more than they compute.
const WORKERS: usize = 16;

/// What a run is held against.
#[derive(Clone, Debug)]
pub enum Target {
    /// A server that runs already, with the setups that it was declared to have.
    Running(String, Vec<Setup>),
    /// A binary, started once for each setup.
    Binary(PathBuf),
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
type Places = BTreeMap<Setup, Result<(Base, Vec<String>), String>>;

/// Runs every case whose name or rule contains `filter`.
pub fn run(target: &Target, filter: &str) -> Result<Report, Failure> {
    let wanted = |case: &&'static Case| {
        case.name.contains(filter)
            || case
                .rules
                .iter()
                .any(|rule| rule.eq_ignore_ascii_case(filter))
    };
    let cases: Vec<&'static Case> = crate::tus::cases().filter(wanted).collect();
    let mut jobs: Vec<(&'static Case, Setup)> = cases
        .iter()
        .flat_map(|case| case.setups.iter().map(|setup| (*case, *setup)))
        .collect();
    // Those that wait start first, so that the run lasts little longer than the longest of them.
    jobs.sort_by_key(|(case, _)| case.waits);

    let setups = jobs.iter().map(|(_, setup)| *setup).collect();
    let (places, servers) = prepare(target, setups)?;
    let watch = Arc::new(Watch::default());
    let binary = match target {
        Target::Running(..) => None,
        Target::Binary(path) => Some(path.as_path()),
    };
    let mut rows = work(jobs, &places, binary, &watch);
    rows.sort_by_key(|row| crate::tus::position(row.name));
    rows.extend(CHECKS.iter().map(|check| check_row(check, &watch)));
    if binary.is_some() {
        rows.push(panic_row(&servers));
    }
    Ok(Report { rows })
}

/// Starts or asks the servers for these setups.
fn prepare(target: &Target, setups: Vec<Setup>) -> Result<(Places, Vec<Windlass>), Failure> {
    let mut places = Places::new();
    let mut servers = Vec::new();
    for setup in setups {
        if places.contains_key(&setup) {
            continue;
        }
        let place = match target {
            Target::Running(url, declared) => running(url, declared, setup),
            Target::Binary(binary) => {
                let server = Windlass::start(binary, setup.flags())?;
                let base = Base::parse(&server.url)?;
                servers.push(server);
                Ok((base.clone(), extensions(&base)))
            }
        };
        places.insert(setup, place);
    }
    Ok((places, servers))
}

fn running(url: &str, declared: &[Setup], setup: Setup) -> Result<(Base, Vec<String>), String> {
    let base = Base::parse(url).map_err(|failure| failure.to_string())?;
    let options = probe(&base, Setup::Plain)
        .options()
        .map_err(|failure| failure.to_string())?;
    let extensions = options.list("Tus-Extension");
    let offered = declared.contains(&setup)
        || match setup {
            Setup::Plain => true,
            Setup::Http2 => probe(&base, Setup::Http2).options().is_ok(),
            Setup::MaxSize => options
                .number("Tus-Max-Size")
                .is_some_and(|max| max <= 1 << 30),
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
    if offered {
        Ok((base, extensions))
    } else {
        Err(format!("no setup {}", setup.name()))
    }
}

fn probe(base: &Base, setup: Setup) -> Site {
    Site::new(base.clone(), setup, "probe", Arc::default())
}

fn extensions(base: &Base) -> Vec<String> {
    let options = probe(base, Setup::Plain).options();
    options
        .map(|options| options.list("Tus-Extension"))
        .unwrap_or_default()
}

fn work(
    jobs: Vec<(&'static Case, Setup)>,
    places: &Places,
    binary: Option<&Path>,
    watch: &Arc<Watch>,
) -> Vec<Row> {
    let queue = Mutex::new(jobs);
    let rows = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some((case, setup)) = job else { return };
                    let row = run_one(case, setup, places, binary, watch);
                    rows.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(row);
                }
            });
        }
    });
    rows.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn run_one(
    case: &'static Case,
    setup: Setup,
    places: &Places,
    binary: Option<&Path>,
    watch: &Arc<Watch>,
) -> Row {
    let started = Instant::now();
    let ending = match places.get(&setup) {
        None => Ending::Failed("no server for this setup".to_owned()),
        Some(Err(reason)) => Ending::NotOffered(reason.clone()),
        Some(Ok((base, extensions))) => {
            let missing = case
                .extensions
                .iter()
                .find(|e| !extensions.iter().any(|o| o == *e));
            match missing {
                Some(name) if binary.is_none() => Ending::NotOffered(format!("no {name}")),
                Some(name) => Ending::Failed(format!("the server does not announce {name}")),
                None => {
                    let site = Site::new(base.clone(), setup, case.name, Arc::clone(watch));
                    let site = site.with_binary(binary.map(Path::to_owned));
                    ending(std::panic::catch_unwind(AssertUnwindSafe(|| {
                        (case.run)(&site)
                    })))
                }
            }
        }
    };
    Row {
        name: case.name,
        rules: case.rules,
        setup: setup.name(),
        ending,
        took: started.elapsed(),
    }
}

fn ending(verdict: std::thread::Result<Verdict>) -> Ending {
    match verdict {
        Ok(Ok(())) => Ending::Passed,
        Ok(Err(failure)) => Ending::Failed(failure.to_string()),
        Err(_) => Ending::Failed("the case itself panicked".to_owned()),
    }
}

fn check_row(check: &'static crate::watch::Check, watch: &Watch) -> Row {
    let findings = watch.findings(check.name);
    let mut ending = Ending::Passed;
    if let Some(first) = findings.first() {
        let count = findings.len();
        ending = Ending::Failed(format!(
            "{count} answers, first in {}: {}",
            first.case, first.exchange
        ));
    }
    Row {
        name: check.name,
        rules: check.rules,
        setup: "always",
        ending,
        took: Duration::ZERO,
    }
}

fn panic_row(servers: &[Windlass]) -> Row {
    let panics: Vec<String> = servers.iter().flat_map(Windlass::panics).collect();
    let ending = panics.first().map_or(Ending::Passed, |first| {
        Ending::Failed(first.trim().to_owned())
    });
    let (name, rules) = (crate::watch::NO_PANIC, crate::watch::NO_PANIC_RULES);
    Row {
        name,
        rules,
        setup: "always",
        ending,
        took: Duration::ZERO,
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
