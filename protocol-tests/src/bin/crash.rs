//! The long runs of the crash harness: `crash kill`, `crash power`.

use std::process::ExitCode;
use std::time::Instant;

use protocol_tests::crash::kill::{self, Figures};
use protocol_tests::crash::mount::FileSystem;
use protocol_tests::crash::power;
use protocol_tests::failure::Failure;
use protocol_tests::server;

const HELP: &str = "\
usage: crash kill [--seed N] [--times 500]
       crash power [--seed N] [--times 200] [--on ext4|xfs]

Clients upload, resume, join and remove while the server is killed (kill), or while the disk under
it loses power (power; needs root, loop devices and mkfs.xfs). After each crash a new server must
keep everything that clients had been told. Every 25 crashes the next seed begins with an empty
directory; seeds that are odd kill a synced server, even ones a relaxed one. The first broken
promise ends the run and names its seed: `--seed N --times 25` repeats it.

The server is WINDLASS_BIN, else the newest build below target.
";

/// Crashes of one seed.
const RUN: usize = 25;

/// The largest uploads, by seed in turn: most fit into a pipe, some are checkpointed while they
/// arrive.
const MAX_BYTES: [u64; 4] = [300_000, 300_000, 2_000_000, 20_000_000];

struct Arguments {
    power: bool,
    seed: u64,
    times: usize,
    file_system: FileSystem,
}

fn main() -> ExitCode {
    match parse().and_then(|arguments| act(&arguments).map_err(|f| f.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("crash: {message}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Arguments, String> {
    let mut words = std::env::args().skip(1);
    let power = match words.next().as_deref() {
        Some("kill") => false,
        Some("power") => true,
        _ => return Err(HELP.to_owned()),
    };
    let mut arguments = Arguments {
        power,
        seed: 1,
        times: if power { 200 } else { 500 },
        file_system: FileSystem::Ext4,
    };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{value} is no number"));
        match word.as_str() {
            "--seed" => arguments.seed = number()?,
            "--times" => arguments.times = number()? as usize,
            "--on" => {
                arguments.file_system =
                    FileSystem::parse(&value).ok_or_else(|| format!("no {value} here"))?;
            }
            _ => return Err(HELP.to_owned()),
        }
    }
    Ok(arguments)
}

fn act(arguments: &Arguments) -> Result<(), Failure> {
    let binary = server::binary().ok_or_else(|| Failure::new("no windlass binary"))?;
    let (begun, mut total, mut seed) = (Instant::now(), Figures::default(), arguments.seed);
    while total.crashes < arguments.times {
        let times = RUN.min(arguments.times - total.crashes);
        let max_bytes = MAX_BYTES[seed as usize % MAX_BYTES.len()];
        let figures = if arguments.power {
            power::run(
                &binary,
                &power::Plan {
                    seed,
                    cuts: times,
                    clients: 4,
                    max_bytes: max_bytes.min(1_000_000),
                    file_system: arguments.file_system,
                },
            )?
        } else {
            kill::run(&binary, &kill::Plan { seed, kills: times, clients: 4, max_bytes })?
        };
        println!("seed {seed}: {figures}");
        total += figures;
        seed += 1;
    }
    let seconds = begun.elapsed().as_secs();
    println!(
        "seeds {} to {}: {total}, no promise broken, in {seconds} s",
        arguments.seed,
        seed - 1
    );
    Ok(())
}
