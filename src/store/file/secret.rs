//! The secret of a data directory: made once, and lost with the uploads whose ids depend on it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Where the secret lies. Not the name of any upload.
const SECRET_NAME: &str = ".secret";

/// The secret before it is whole.
const TEMPORARY_NAME: &str = ".secret.tmp";

/// As long as the hash that it goes into is wide.
pub(super) const SECRET_BYTES: usize = 32;

/// Only the user that runs the server may read it.
const SECRET_MODE: u32 = 0o600;

/// The secret of `dir`, made if there is none yet. Whoever calls has the directory for himself.
pub(super) fn load_or_make(dir: &Path) -> io::Result<[u8; SECRET_BYTES]> {
    match fs::read(dir.join(SECRET_NAME)) {
        Ok(bytes) => bytes.try_into().map_err(|_| {
            let message = format!("{SECRET_NAME} is not {SECRET_BYTES} bytes long");
            io::Error::new(io::ErrorKind::InvalidData, message)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(dir),
        Err(error) => Err(error),
    }
}

fn make(dir: &Path) -> io::Result<[u8; SECRET_BYTES]> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    let temporary = dir.join(TEMPORARY_NAME);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(SECRET_MODE)
        .open(&temporary)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    fs::rename(temporary, dir.join(SECRET_NAME))?;
    File::open(dir)?.sync_all()?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_made_once_and_a_damaged_one_is_not_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let secret = load_or_make(dir.path()).expect("made");
        assert_eq!(load_or_make(dir.path()).expect("read"), secret);
        let other = tempfile::tempdir().expect("a directory");
        assert_ne!(load_or_make(other.path()).expect("made"), secret);
        fs::write(dir.path().join(SECRET_NAME), b"short").expect("writable");
        let error = load_or_make(dir.path()).expect_err("damaged");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
