//! File systems in image files, on loop devices. Needs root.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::failure::Failure;

/// When this is set, a test that cannot mount fails instead of saying so and passing.
const MUST_MOUNT: &str = "WINDLASS_TESTS_MUST_MOUNT";

/// Whether a test that mounts can run here. Where it cannot, it says so; under
/// `WINDLASS_TESTS_MUST_MOUNT`, which `protocol-tests/run` sets for root, that is a failure.
///
/// # Errors
/// What is missing, if the test must run.
pub fn can_mount() -> Result<bool, Failure> {
    let tried = TempDir::new().map_err(Failure::from).and_then(|dir| {
        let image = image(&dir.path().join("image"), 16 << 20)?;
        FileSystem::Ext4.make(&image)?;
        Mounted::new(&image, &dir.path().join("mounted"), "").map(drop)
    });
    match tried {
        Ok(()) => Ok(true),
        Err(failure) if std::env::var_os(MUST_MOUNT).is_some() => Err(failure),
        Err(failure) => {
            eprintln!("NOT TESTED: this needs root and loop devices: {failure}");
            Ok(false)
        }
    }
}

/// A kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
}

impl FileSystem {
    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "ext4" => Some(Self::Ext4),
            "xfs" => Some(Self::Xfs),
            _ => None,
        }
    }

    /// The smallest image that it can be made in with some room to spare, in bytes.
    pub const fn min_bytes(self) -> u64 {
        match self {
            Self::Ext4 => 128 << 20,
            Self::Xfs => 320 << 20,
        }
    }

    /// Makes an empty file system in an image. Its sectors have 4 KiB, as a cloned image needs it.
    ///
    /// # Errors
    /// What the tools say.
    pub fn make(self, image: &Path) -> Result<(), Failure> {
        let (tool, arguments): (_, &[&str]) = match self {
            Self::Ext4 => ("mkfs.ext4", &["-q", "-F", "-b", "4096"]),
            Self::Xfs => ("mkfs.xfs", &["-q", "-f", "-s", "size=4096"]),
        };
        let arguments: Vec<&Path> = arguments.iter().map(Path::new).collect();
        run(tool, &[&arguments[..], &[image]].concat()).map(drop)
    }
}

/// A file system, mounted until this is dropped.
#[derive(Debug)]
pub struct Mounted {
    device: PathBuf,
    at: PathBuf,
}

impl Mounted {
    /// Mounts the file system in `image` at `at`, which is made if it is not there. Everything that
    /// it writes goes to the image at once, with no cache between.
    ///
    /// # Errors
    /// What the tools say.
    pub fn new(image: &Path, at: &Path, options: &str) -> Result<Self, Failure> {
        std::fs::create_dir_all(at)?;
        let arguments = ["--find", "--show", "--direct-io=on", "--sector-size=4096"].map(Path::new);
        let device = run("losetup", &[&arguments[..], &[image]].concat())?;
        let mounted = Self { device: PathBuf::from(device.trim()), at: at.to_owned() };
        let options = if options.is_empty() { "rw" } else { options };
        run("mount", &["-o".as_ref(), options.as_ref(), &mounted.device, at])?;
        Ok(mounted)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// The loop device under it.
    pub fn device(&self) -> &Path {
        &self.device
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily, so that a program that still has a file open cannot keep the name in use.
        let _ = run("umount", &["-l".as_ref(), &self.at]);
        let _ = run("losetup", &["-d".as_ref(), &self.device]);
    }
}

/// A temporary directory, in memory if there is such a place: images are written to all the time.
///
/// # Errors
/// When there is none.
pub fn temporary() -> Result<TempDir, Failure> {
    let quick = tempfile::Builder::new().prefix("windlass-crash-").tempdir_in("/dev/shm");
    Ok(quick.or_else(|_| TempDir::new())?)
}

/// Makes an image of so many bytes that takes no space yet.
///
/// # Errors
/// What the system says.
pub fn image(path: &Path, bytes: u64) -> Result<PathBuf, Failure> {
    File::create(path)?.set_len(bytes)?;
    Ok(path.to_owned())
}

/// Runs a tool and gives what it prints.
///
/// # Errors
/// What it says when it fails.
pub fn run(tool: &str, arguments: &[&Path]) -> Result<String, Failure> {
    let ran = Command::new(tool).args(arguments).output();
    let ran = ran.map_err(|error| Failure::new(format!("{tool}: {error}")))?;
    if ran.status.success() {
        return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&ran.stderr);
    Err(Failure::new(format!("{tool} {arguments:?}: {why}")))
}
