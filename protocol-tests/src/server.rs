//! Starts, stops and restarts the server binary; a case sees only its URL and data directory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::{NamedTempFile, TempDir};

use crate::failure::Failure;
use crate::site::Base;

/// How long the server may take to print its URL.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// How long a line of the log may take after the answer to the request that it is about.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// The binary under test: `WINDLASS_BIN`, else the newest build in the target directory.
pub fn binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("WINDLASS_BIN") {
        return Some(PathBuf::from(path)).filter(|path| path.is_file());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let builds = ["release", "debug"].map(|profile| target.join(profile).join("windlass"));
    let built = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    builds.into_iter().filter(|path| path.is_file()).max_by_key(built)
}

/// Dialects with their URLs, as the server prints them.
type Urls = HashMap<String, String>;

/// A running server with a data directory of its own.
#[derive(Debug)]
pub struct Windlass {
    binary: PathBuf,
    flags: Vec<String>,
    data: PathBuf,
    /// Removes the data directory in the end, if it is the server's own.
    _directory: Option<TempDir>,
    listen: String,
    log: NamedTempFile,
    child: Child,
    /// The URL from the line `tus: …`.
    pub url: String,
    urls: Urls,
}

impl Windlass {
    /// Starts the binary on a free port with a fresh data directory.
    pub fn start(binary: &Path, flags: &[&str]) -> Result<Self, Failure> {
        Self::start_by(Command::new(binary), binary, flags)
    }

    /// Starts the binary on a free port with a data directory of somebody else's.
    pub fn start_on(binary: &Path, data: &Path, flags: &[&str]) -> Result<Self, Failure> {
        Self::start_there(Command::new(binary), binary, flags, (data, None), None)
    }

    /// Starts the binary so that no file can grow past `blocks` KiB: a disk that is full.
    pub fn start_with_full_disk(binary: &Path, blocks: u64) -> Result<Self, Failure> {
        Self::start_in_shell(binary, &format!("ulimit -f {blocks}"), &[])
    }

    /// Starts the binary in a shell that has run `prelude`.
    pub fn start_in_shell(binary: &Path, prelude: &str, flags: &[&str]) -> Result<Self, Failure> {
        let mut command = Command::new("bash");
        command.arg("-c").arg(format!("{prelude}; exec \"$0\" \"$@\"")).arg(binary);
        Self::start_by(command, binary, flags)
    }

    /// Starts the binary with a log that goes elsewhere: [`Self::log`] stays empty.
    pub fn start_logging_to(
        binary: &Path,
        log: impl Into<Stdio>,
        flags: &[&str],
    ) -> Result<Self, Failure> {
        let directory = directory()?;
        let data = directory.path().join("data");
        let to = Some(log.into());
        Self::start_there(Command::new(binary), binary, flags, (&data, Some(directory)), to)
    }

    /// Starts the binary so that it has no more than so many descriptors.
    pub fn start_with_descriptors(
        binary: &Path,
        flags: &[&str],
        descriptors: u64,
    ) -> Result<Self, Failure> {
        let mut command = Command::new("bash");
        let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
        command.arg("-c").arg(script).arg(binary);
        Self::start_by(command, binary, flags)
    }

    fn start_by(command: Command, binary: &Path, flags: &[&str]) -> Result<Self, Failure> {
        let directory = directory()?;
        let data = directory.path().join("data");
        Self::start_there(command, binary, flags, (&data, Some(directory)), None)
    }

    fn start_there(
        command: Command,
        binary: &Path,
        flags: &[&str],
        (data, directory): (&Path, Option<TempDir>),
        stderr: Option<Stdio>,
    ) -> Result<Self, Failure> {
        let log = NamedTempFile::new()?;
        let stderr = stderr.map_or_else(|| append(&log), Ok)?;
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let listen = "127.0.0.1:0".to_owned();
        let (child, urls) = spawn(command, &listen, &flags, data, stderr)?;
        Ok(Self {
            binary: binary.to_owned(),
            flags,
            data: data.to_owned(),
            _directory: directory,
            listen,
            log,
            child,
            url: urls.get("tus").cloned().unwrap_or_default(),
            urls,
        })
    }

    /// Has every restart from here on listen where the server listens now.
    pub fn keep_address(&mut self) -> Result<(), Failure> {
        self.listen = Base::parse(&self.url)?.address.to_string();
        Ok(())
    }

    /// Starts the binary on a data directory that is in use and waits for its end.
    pub fn try_on(binary: &Path, data: &Path) -> Result<ExitStatus, Failure> {
        let mut command = Command::new(binary);
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(data);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let deadline = Instant::now() + START_PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill()?;
        Ok(child.wait()?)
    }

    /// The URL of a dialect, by the name in the line that the server prints about it.
    pub fn url_of(&self, dialect: &str) -> Result<&str, Failure> {
        let url = self.urls.get(dialect).map(String::as_str);
        url.ok_or_else(|| Failure::new(format!("the server printed no `{dialect}: ` line")))
    }

    /// What the server has logged so far, restarts included.
    pub fn log(&self) -> Vec<u8> {
        std::fs::read(self.log.path()).unwrap_or_default()
    }

    /// The lines that the server wrote about a panic.
    pub fn panics(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.log())
            .lines()
            .filter(|line| line.contains("panicked at"))
            .map(str::to_owned)
            .collect()
    }

    /// Whether the server has logged this so far.
    pub fn has_logged(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.log()).contains(text)
    }

    /// Whether the server logs this now: its lines may come a moment after its answers.
    pub fn logs(&self, text: &str) -> bool {
        let deadline = Instant::now() + LOG_PATIENCE;
        while !self.has_logged(text) {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts the binary again on the same data directory; the old process must have ended.
    pub fn restart(&mut self) -> Result<(), Failure> {
        let command = Command::new(&self.binary);
        let (child, urls) =
            spawn(command, &self.listen, &self.flags, &self.data, append(&self.log)?)?;
        self.child = child;
        self.url = urls.get("tus").cloned().unwrap_or_default();
        self.urls = urls;
        Ok(())
    }

    /// Ends the process without warning (SIGKILL) and waits for it.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.signal(Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the process to end (SIGTERM).
    pub fn terminate(&self) -> Result<(), Failure> {
        self.signal(Signal::TERM)
    }

    /// Whether the process has exited, even if the system still waits for a thread of it.
    pub fn has_exited(&self) -> Result<bool, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        Ok(state == Some('Z'))
    }

    /// Waits for the end of the process.
    pub fn ended_within(&mut self, wait: Duration) -> Result<ExitStatus, Failure> {
        let deadline = Instant::now() + wait;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Failure::new(format!("the server still runs after {wait:?}")))
    }

    /// Every file below the data directory with its size, sorted by name.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let mut files = Vec::new();
        collect(self.data(), &mut files);
        files.sort();
        files
    }

    /// The high-water mark of resident memory in bytes, as Linux reports it.
    pub fn peak_memory_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::new("the process has no id"))?;
        kill_process(pid, signal).map_err(Failure::new)
    }
}

impl Drop for Windlass {
    fn drop(&mut self) {
        // The process may have ended already; either way nothing is left to do about it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn directory() -> Result<TempDir, Failure> {
    Ok(tempfile::Builder::new().prefix("windlass-conformance-").tempdir()?)
}

/// The log as a standard error of the server.
fn append(log: &NamedTempFile) -> Result<Stdio, Failure> {
    Ok(File::options().append(true).open(log.path())?.into())
}

fn spawn(
    mut command: Command,
    listen: &str,
    flags: &[String],
    directory: &Path,
    stderr: Stdio,
) -> Result<(Child, Urls), Failure> {
    if !flags.iter().any(|flag| flag == "--listen") {
        command.args(["--listen", listen]);
    }
    command.arg("--data-dir").arg(directory).args(flags);
    // Flags are also read from the environment; a developer's own must not change a case.
    let inherited = std::env::vars_os().map(|(name, _)| name);
    for name in inherited.filter(|name| name.to_string_lossy().starts_with("WINDLASS_")) {
        command.env_remove(name);
    }
    let mut child = command.stdout(Stdio::piped()).stderr(stderr).stdin(Stdio::null()).spawn()?;
    let output = child.stdout.take().ok_or_else(|| Failure::new("no standard output"))?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Reads to the end so that the server never blocks on a full pipe.
        let mut urls = Urls::new();
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            match line.trim().split_once(": ") {
                Some((dialect, url)) if url.starts_with("http://") => {
                    urls.insert(dialect.to_owned(), url.to_owned());
                }
                _ if line.starts_with("stop with") => {
                    let _ = sender.send(std::mem::take(&mut urls));
                }
                _ => {}
            }
        }
    });
    match receiver.recv_timeout(START_PATIENCE) {
        Ok(urls) => Ok((child, urls)),
        Err(_) => {
            let _ = child.kill();
            let status = child.wait()?;
            let flags = flags.join(" ");
            Err(Failure::new(format!("the server did not say that it runs ({flags}): {status}")))
        }
    }
}

fn collect(directory: &Path, files: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            collect(&entry.path(), files);
        } else {
            files.push((entry.path(), meta.len()));
        }
    }
}
