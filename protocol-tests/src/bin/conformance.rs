//! Holds a server against the contracts: `conformance --url http://127.0.0.1:1080/files`, or
//! `conformance --dialect resumable --url http://127.0.0.1:1080/resumable`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use protocol_tests::case::Setup;
use protocol_tests::contract::{self, Contract};
use protocol_tests::run::{Target, run};
use protocol_tests::{original, page, server, tus};

const HELP: &str = "\
usage: conformance [--dialect NAME] [--url URL [--has SETUP]...] [--filter TEXT] [--failures]
       conformance --list
       conformance --markdown FILE
       conformance --original PROGRAM (--into FILE | --check FILE) [--failures]

  --dialect NAME  tus, resumable or chunked; without it all, and tus at a URL
  --url URL       where to test; without it the windlass binary is started
                  (WINDLASS_BIN, else the newest build below target)
  --has SETUP     what the server at URL is configured for and OPTIONS does not tell:
                  expiry (2 s), trust-forwarded, no-cors, cors-origin (https://app.example),
                  root-path, idle-timeout (2 s)
  --filter TEXT   only cases whose name contains TEXT or that hold the rule TEXT
  --failures      print only what failed
  --list          print every case and stop
  --markdown FILE write the page of rules and cases and stop
  --original PROGRAM
                  run the cases of chunked against windlass and against PROGRAM, which takes
                  its flags (protocol-tests/original/app.py)
  --into FILE     write the table of differences into FILE, between its marks
  --check FILE    fail if the table in FILE is another
";

#[derive(Default)]
struct Arguments {
    url: Option<String>,
    dialect: Option<String>,
    has: Vec<Setup>,
    filter: String,
    failures: bool,
    list: bool,
    markdown: Option<PathBuf>,
    original: Option<PathBuf>,
    into: Option<PathBuf>,
    check: Option<PathBuf>,
    help: bool,
}

fn main() -> ExitCode {
    match parse().and_then(|arguments| act(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("conformance: {message}");
            ExitCode::from(2)
        }
    }
}

fn parse() -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--url" => arguments.url = Some(value()?),
            "--dialect" => arguments.dialect = Some(value()?),
            "--has" => arguments.has.push(setup(&value()?)?),
            "--filter" => arguments.filter = value()?,
            "--markdown" => arguments.markdown = Some(PathBuf::from(value()?)),
            "--original" => arguments.original = Some(PathBuf::from(value()?)),
            "--into" => arguments.into = Some(PathBuf::from(value()?)),
            "--check" => arguments.check = Some(PathBuf::from(value()?)),
            "--failures" => arguments.failures = true,
            "--list" => arguments.list = true,
            "--help" | "-h" => arguments.help = true,
            _ => return Err(format!("unknown argument {word}; see --help")),
        }
    }
    Ok(arguments)
}

fn setup(name: &str) -> Result<Setup, String> {
    let found = Setup::ALL.into_iter().find(|setup| setup.name() == name);
    found.ok_or_else(|| format!("unknown setup {name}; see --help"))
}

fn act(arguments: &Arguments) -> Result<bool, String> {
    if arguments.help {
        print!("{HELP}");
        return Ok(true);
    }
    if arguments.list {
        for (_, case) in contract::cases() {
            println!("{}  [{}]  {}", case.name, case.rules.join(" "), case.says);
        }
        return Ok(true);
    }
    if let Some(path) = &arguments.markdown {
        std::fs::write(path, page::markdown()).map_err(|e| format!("{}: {e}", path.display()))?;
        return Ok(true);
    }
    if let Some(program) = &arguments.original {
        return compare(program, arguments);
    }
    let target = match &arguments.url {
        Some(url) => Target::Running(url.clone(), arguments.has.clone()),
        None => Target::Binary(server::binary().ok_or("no windlass binary; build it first")?),
    };
    let contracts = match (&arguments.dialect, &arguments.url) {
        (Some(name), _) => vec![Contract::by_name(name).ok_or("unknown dialect; see --help")?],
        (None, Some(_)) => vec![&tus::CONTRACT],
        (None, None) => contract::ALL.to_vec(),
    };
    let report =
        run(&contracts, &target, &arguments.filter).map_err(|failure| failure.to_string())?;
    print!("{}", report.text(!arguments.failures));
    Ok(report.counts().1 == 0)
}

/// Measures the table of differences, then writes it or holds the one in a file against it.
fn compare(program: &Path, arguments: &Arguments) -> Result<bool, String> {
    let (path, is_check) = match (&arguments.into, &arguments.check) {
        (Some(path), None) => (path, false),
        (None, Some(path)) => (path, true),
        _ => return Err("--original needs one of --into and --check".to_owned()),
    };
    let about = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let found = std::fs::read_to_string(path).map_err(|error| about(&error))?;
    let binary = server::binary().ok_or("no windlass binary; build it first")?;
    let comparison = original::compare(&binary, program).map_err(|failure| failure.to_string())?;
    if !arguments.failures {
        print!("{}", comparison.theirs.text(true));
    }
    if let Some(failures) = comparison.own_failures() {
        return Err(format!("windlass itself fails\n{failures}"));
    }
    let page = original::insert(&found, &comparison.markdown()).map_err(|error| about(&error))?;
    if !is_check {
        std::fs::write(path, page).map_err(|error| about(&error))?;
    } else if found != page {
        print!("{}", original::difference(&found, &page));
        return Err(about(&"another table was measured; `protocol-tests/original/run --renew`"));
    }
    println!("{}: the table is what was measured", path.display());
    Ok(true)
}
