//! The secret of a data directory. Created once; uploads by key are lost without it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::{disk::Kind, lock::OpenError};

/// The name of the file with the secret. Not a valid upload id.
const SECRET_NAME: &str = ".secret";

/// The name of the file until it is complete.
const TEMPORARY_NAME: &str = ".secret.tmp";

/// Length of the secret: the output length of the hash that it goes into.
pub(super) const SECRET_BYTES: usize = 32;

/// The mode of the file: only the user that runs the server may read it.
const SECRET_MODE: u32 = 0o600;

/// Returns the secret of `dir`. Creates it if there is neither a secret nor an upload yet. The
/// caller has locked the directory.
///
/// # Errors
/// [`OpenError::Secret`] when it is missing or damaged: with another one, clients would not find
/// their uploads by key, and no error would say why.
pub(super) fn load_or_create(dir: &Path) -> Result<[u8; SECRET_BYTES], OpenError> {
    let unusable = |source| OpenError::Use { path: dir.to_owned(), source };
    let lost = |fault| OpenError::Secret { path: dir.join(SECRET_NAME), fault };
    match fs::read(dir.join(SECRET_NAME)) {
        Ok(bytes) => bytes.try_into().map_err(|_| lost("is damaged")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match has_uploads(dir).map_err(unusable)? {
                true => Err(lost("is missing")),
                false => create(dir).map_err(unusable),
            }
        }
        Err(error) => Err(unusable(error)),
    }
}

/// Returns whether `dir` contains a record. The secret was durable before the first one was
/// created.
fn has_uploads(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        if matches!(Kind::parse(&entry?.file_name()), Some((_, Kind::Record))) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn create(dir: &Path) -> io::Result<[u8; SECRET_BYTES]> {
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
        let secret = load_or_create(dir.path()).expect("made");
        assert_eq!(load_or_create(dir.path()).expect("read"), secret);
        let other = tempfile::tempdir().expect("a directory");
        assert_ne!(load_or_create(other.path()).expect("made"), secret);
        fs::write(dir.path().join(SECRET_NAME), b"short").expect("writable");
        let error = load_or_create(dir.path()).expect_err("damaged").to_string();
        assert!(error.contains(".secret is damaged") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn lost_secret_is_not_made_anew_beside_uploads() {
        let dir = tempfile::tempdir().expect("a directory");
        // A file that is not an upload does not count.
        fs::write(dir.path().join("report"), b"").expect("writable");
        let secret = load_or_create(dir.path()).expect("made");
        fs::write(dir.path().join("a.record"), b"{}").expect("writable");
        assert_eq!(load_or_create(dir.path()).expect("read"), secret);
        fs::remove_file(dir.path().join(SECRET_NAME)).expect("there");
        let error = load_or_create(dir.path()).expect_err("lost").to_string();
        assert!(error.contains(".secret is missing") && !error.contains('\n'), "{error}");
        assert!(!dir.path().join(SECRET_NAME).exists());
    }
}
