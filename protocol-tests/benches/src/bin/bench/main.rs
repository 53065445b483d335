//! What the server costs: throughput, CPU, memory and latency, side by side with a minimal program,
//! the disk itself, and other servers. Runs are interleaved, so that a machine that slows down does
//! so for all of them.

mod disk;
mod http;
mod http2;
mod line;
mod load;
mod population;
mod process;
mod report;
mod scenarios;
mod scripts;
mod servers;
mod target;
mod work;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;

use crate::{
    report::{About, Runs},
    scenarios::{Entrant, SCENARIOS, Scenario},
    servers::{Programs, Server},
    work::{Bench, Scale},
};

/// Measures servers side by side and prints the medians as Markdown.
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 100)]
struct Flags {
    /// The scenarios; all of them unless given
    #[arg(value_parser = SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>())]
    scenarios: Vec<String>,

    /// How often each is run
    #[arg(long, default_value_t = 3)]
    runs: u32,

    /// Small sizes and short times: shows that everything works, the figures mean little
    #[arg(long)]
    quick: bool,

    /// The server
    #[arg(long, value_name = "PATH", default_value = "target/release/windlass")]
    bin: PathBuf,

    /// The minimal program; the one beside this program unless given
    #[arg(long, value_name = "PATH")]
    floor: Option<PathBuf>,

    /// Where the other servers are installed, see the README
    #[arg(long, value_name = "DIR", default_value = "protocol-tests/benches/peers")]
    peers: PathBuf,

    /// Leave the other servers out
    #[arg(long)]
    no_peers: bool,

    /// A folder on the disk to measure
    #[arg(long, value_name = "DIR", default_value = "target")]
    disk: PathBuf,

    /// A folder in memory
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    memory: PathBuf,

    /// Write all figures of all runs there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<(), String> {
    process::raise_file_limit();
    let bench = bench(flags)?;
    let about = About::new(flags.runs);
    let wanted = |scenario: &&Scenario| {
        flags.scenarios.is_empty() || flags.scenarios.iter().any(|name| name == scenario.name)
    };
    println!("{}", about.markdown());
    let mut all = Vec::new();
    for scenario in SCENARIOS.iter().filter(wanted) {
        let runs = measure(&bench, scenario, flags);
        print!("{}", runs.markdown());
        all.push(runs);
    }
    print!("{}", report::targets(&all));
    if let Some(path) = &flags.json {
        let text = format!("{:#}\n", report::json(&about, &all));
        fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn bench(flags: &Flags) -> Result<Bench, String> {
    let beside = std::env::current_exe().map_err(|e| e.to_string())?.with_file_name("floor");
    let programs = Programs {
        windlass: flags.bin.clone(),
        floor: flags.floor.clone().unwrap_or(beside),
        peers: flags.peers.clone(),
    };
    for server in [Server::WindlassRelaxed, Server::Floor] {
        if !server.is_installed(&programs) {
            return Err(format!(
                "{server:?} is not there; cargo build --release -p windlass -p benches"
            ));
        }
    }
    fs::create_dir_all(&flags.disk).map_err(|e| format!("{}: {e}", flags.disk.display()))?;
    Ok(Bench {
        programs,
        scale: if flags.quick { Scale::QUICK } else { Scale::FULL },
        disk: absolute(&flags.disk)?,
        memory: absolute(&flags.memory)?,
        stored: RefCell::new(BTreeMap::new()),
        over: RefCell::new(Vec::new()),
    })
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))
}

/// All runs of one scenario, interleaved. An entrant that fails once is out.
fn measure(bench: &Bench, scenario: &'static Scenario, flags: &Flags) -> Runs {
    let mut runs = Runs { scenario, samples: BTreeMap::new(), failures: BTreeMap::new() };
    for number in 1..=flags.runs {
        for Entrant { name, server, work } in scenario.entrants {
            let is_peer = server.is_some_and(Server::is_peer);
            let is_there = server.is_none_or(|server| server.is_installed(&bench.programs));
            if is_peer && flags.no_peers || runs.failures.contains_key(name) {
                continue;
            }
            eprintln!("{} {number}/{}: {name}", scenario.name, flags.runs);
            let outcome =
                if is_there { bench.run(*server, *work) } else { Err("not installed".to_owned()) };
            match outcome {
                Ok(sample) => runs.samples.entry(name).or_default().push(sample),
                Err(why) => {
                    eprintln!("  {why}");
                    runs.failures.insert(name, why);
                }
            }
        }
    }
    runs
}
