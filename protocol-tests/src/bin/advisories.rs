//! Renews `protocol-tests/advisories.json` from a clone of the RustSec advisory database.

use std::env;
use std::path::Path;
use std::process::ExitCode;

use protocol_tests::advisories::{RENEWAL, Snapshot};

fn main() -> ExitCode {
    let Some(clone) = env::args_os().nth(1) else {
        eprintln!("{RENEWAL}");
        return ExitCode::FAILURE;
    };
    let snapshot = Snapshot::of_clone(Path::new(&clone));
    let written = snapshot.and_then(|snapshot| snapshot.write().map(|()| snapshot));
    match written {
        Ok(snapshot) => {
            let count = snapshot.advisories.len();
            println!("{count} advisories as of {} ({})", snapshot.date, snapshot.commit);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
