//! The servers side by side: how each is found, started and stopped.

use std::{
    ffi::OsString,
    fs::File,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::process::{Cpu, Memory};

/// How long a server may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A program that can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Floor,
    ResumableNode,
    Rustus,
    TusNode,
    Tusd,
    WindlassRelaxed,
    WindlassSynced,
}

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    /// The server under test.
    pub(crate) windlass: PathBuf,
    /// The minimal program.
    pub(crate) floor: PathBuf,
    /// The folder in which the peers were installed, each in a folder of its own.
    pub(crate) peers: PathBuf,
}

impl Server {
    /// Whether it is somebody else's.
    pub(crate) fn is_peer(self) -> bool {
        match self {
            Self::ResumableNode | Self::Rustus | Self::TusNode | Self::Tusd => true,
            Self::Floor | Self::WindlassRelaxed | Self::WindlassSynced => false,
        }
    }

    /// The path at which tus uploads are created.
    pub(crate) fn tus_path(self) -> &'static str {
        if self == Self::Tusd { "/files/" } else { "/files" }
    }

    /// The file that must be there, and how it is started on `address` and `dir`.
    fn command(self, programs: &Programs, address: SocketAddr, dir: &Path) -> (PathBuf, Command) {
        let peer = |path: &str| programs.peers.join(path);
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let address = address.to_string();
        let dir = dir.as_os_str();
        let windlass = |durability| {
            let mut command = Command::new(&programs.windlass);
            command
                .args([
                    "--listen",
                    &address,
                    "--durability",
                    durability,
                    "--log-level",
                    "warn",
                    "--data-dir",
                ])
                .arg(dir);
            (programs.windlass.clone(), command)
        };
        let program = |path: PathBuf, arguments: &[&dyn AsRef<std::ffi::OsStr>]| {
            let mut command = Command::new(&path);
            command.args(arguments);
            (path, command)
        };
        let node = |folder: &str| {
            let mut command = Command::new("node");
            command.arg(peer(folder).join("server.js")).arg(&port).arg(dir);
            (peer(folder).join("node_modules"), command)
        };
        match self {
            Self::Floor => program(programs.floor.clone(), &[&address, &dir]),
            Self::ResumableNode => node("resumable-node"),
            Self::Rustus => program(
                peer("rustus/bin/rustus"),
                &[
                    &"--host",
                    &host,
                    &"--port",
                    &port,
                    &"--data-dir",
                    &dir,
                    &"--info-dir",
                    &dir,
                    &"--max-body-size",
                    &"17179869184",
                    &"--log-level",
                    &"ERROR",
                ],
            ),
            Self::TusNode => node("tus-node"),
            Self::Tusd => program(peer("tusd/tusd"), &[&"-listen", &address, &"-dir", &dir]),
            Self::WindlassRelaxed => windlass("relaxed"),
            Self::WindlassSynced => windlass("synced"),
        }
    }

    /// Whether it is on this machine.
    pub(crate) fn is_installed(self, programs: &Programs) -> bool {
        let nowhere = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0);
        self.command(programs, nowhere, Path::new("")).0.exists()
    }

    /// Starts it on `dir` and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be started, or ends, or does not listen in time.
    pub(crate) fn start(self, programs: &Programs, dir: &Path) -> Result<Running, String> {
        let mut running = self.launch(programs, dir)?;
        running.wait_until_it_listens()?;
        Ok(running)
    }

    /// The same without waiting.
    pub(crate) fn launch(self, programs: &Programs, dir: &Path) -> Result<Running, String> {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        self.launch_at(programs, dir, free.map_err(|e| e.to_string())?, None)
    }

    /// The same on `address` in the network namespace of that name.
    pub(crate) fn launch_at(
        self,
        programs: &Programs,
        dir: &Path,
        address: SocketAddr,
        namespace: Option<&str>,
    ) -> Result<Running, String> {
        let (_, mut command) = self.command(programs, address, dir);
        if let Some(name) = namespace {
            // `ip netns exec` becomes the program, so the process id is the server's.
            let arguments: Vec<OsString> = command.get_args().map(OsString::from).collect();
            let program = command.get_program().to_owned();
            command = Command::new("ip");
            command.args(["netns", "exec", name]).arg(program).args(arguments);
        }
        let log = tempfile::tempfile().map_err(|e| e.to_string())?;
        let copy = |log: &File| log.try_clone().map_err(|e| e.to_string());
        command.stdin(Stdio::null()).stdout(copy(&log)?).stderr(copy(&log)?);
        let started = Instant::now();
        let child = command.spawn().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
        Ok(Running { address, child, log, server: self, started })
    }
}

/// A server that runs; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    child: Child,
    log: File,
    /// What it is.
    pub(crate) server: Server,
    /// When it was started.
    pub(crate) started: Instant,
}

impl Running {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The CPU time used so far.
    pub(crate) fn cpu(&self) -> Result<Cpu, String> {
        Cpu::of(self.pid())
    }

    /// The memory in use.
    pub(crate) fn memory(&self) -> Result<Memory, String> {
        Memory::of(self.pid())
    }

    /// Waits for the first connection that is accepted.
    fn wait_until_it_listens(&mut self) -> Result<(), String> {
        while TcpStream::connect(self.address).is_err() {
            self.check()?;
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// An error when it has ended, or should have listened long ago.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        let ended = self.child.try_wait().map_err(|e| e.to_string())?;
        let why = match ended {
            Some(status) => format!("ended with {status}"),
            None if self.started.elapsed() > START_PATIENCE => "does not listen".to_owned(),
            None => return Ok(()),
        };
        Err(format!("{:?} {why}: {}", self.server, self.log_tail()))
    }

    /// The end of what it said.
    fn log_tail(&self) -> String {
        use std::os::unix::fs::FileExt as _;
        let mut text = vec![0; 2000];
        let length = self.log.metadata().map_or(0, |about| about.len());
        let from = length.saturating_sub(text.len() as u64);
        let read = self.log.read_at(&mut text, from).unwrap_or(0);
        String::from_utf8_lossy(&text[..read]).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
