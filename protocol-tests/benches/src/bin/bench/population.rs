//! A data directory with any number of stored uploads, made without asking the server for each.

use std::{fs, path::Path};

use crate::{
    http::Client,
    servers::{Programs, Server},
};

/// The id of upload `number`.
pub(crate) fn id(number: u64) -> String {
    format!("bench{number:019}")
}

/// Fills `dir` with `count` complete, empty uploads: the server makes one, the rest are copies of
/// its files under other names.
///
/// # Errors
/// When the server does not make one, or the disk is full.
pub(crate) fn fill(programs: &Programs, dir: &Path, count: u64) -> Result<(), String> {
    let server = Server::WindlassRelaxed.start(programs, dir)?;
    let path = Client::new(server.address)?.create("/files", 0)?;
    drop(server);
    let made = path.rsplit('/').next().unwrap_or_default();
    let record = dir.join(format!("{made}.record"));
    let copy = || {
        let text = fs::read(&record)?;
        for number in 0..count {
            let id = id(number);
            fs::write(dir.join(format!("{id}.record")), &text)?;
            fs::File::create_new(dir.join(id))?;
        }
        fs::remove_file(&record)?;
        fs::remove_file(dir.join(made))
    };
    copy().map_err(|e| format!("filling {}: {e}", dir.display()))
}
