//! The process as its operator meets it: where its lines go, which signals and limits it lives
//! with, the settings that people type, the modes of its files, and what it says at start.

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use protocol_tests::content::{bytes, metadata};
use protocol_tests::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use protocol_tests::http1::{Connection, ask, head};
use protocol_tests::message::{Request, Response};
use protocol_tests::server::{self, Windlass};
use protocol_tests::site::{Base, path_of};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};

/// The length of an upload here.
const LENGTH: usize = 1_000;

/// How long the process may take to end.
const STOP_TIME: Duration = Duration::from_secs(10);

/// How long the server may take for what it does by itself.
const PATIENCE: Duration = Duration::from_secs(30);

fn binary() -> Result<PathBuf, Failure> {
    server::binary().ok_or_else(|| Failure::new("no windlass binary"))
}

fn address(process: &Windlass) -> Result<SocketAddr, Failure> {
    Ok(Base::parse(&process.url)?.address)
}

fn location(created: &Response) -> String {
    path_of(created.field("Location").unwrap_or_default()).to_owned()
}

fn creation() -> Request {
    Request::tus("POST", "/files").with("Upload-Length", LENGTH).body(b"")
}

/// A chunk of a file of two.
fn chunk(number: usize, size: usize) -> Request {
    let target = format!(
        "/resumable?resumableChunkNumber={number}&resumableChunkSize={size}\
         &resumableTotalSize={}&resumableIdentifier=file&resumableFilename=file",
        2 * size
    );
    Request::plain("POST", &target)
        .with("Content-Type", "application/octet-stream")
        .body(bytes(size, 5))
}

/// Waits until something holds that the server does by itself.
fn comes_true(what: &str, mut holds: impl FnMut() -> bool) -> Verdict {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        ensure(Instant::now() < deadline, format!("{what}: not within {PATIENCE:?}"))?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Stops the server and expects that it ends in order and in time.
fn stops(process: &mut Windlass) -> Verdict {
    process.terminate()?;
    let status = process.ended_within(STOP_TIME)?;
    ensure(status.success(), format!("the server ended with {status}"))
}

/// A pipe that nobody reads and that takes nothing more.
fn full_pipe() -> Result<(PipeReader, PipeWriter), Failure> {
    let (reader, mut writer) = pipe()?;
    let flags = rustix::fs::fcntl_getfl(&writer).map_err(Failure::new)?;
    rustix::fs::fcntl_setfl(&writer, flags | OFlags::NONBLOCK).map_err(Failure::new)?;
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).map_err(Failure::new)?;
    Ok((reader, writer))
}

/// Where lines cannot be written.
#[derive(Clone, Copy, Debug)]
enum Nowhere {
    /// The disk is full.
    FullDisk,
    /// The reader is there and does not read.
    FullPipe,
    /// The reader has gone.
    NoReader,
}

impl Nowhere {
    const ALL: [Self; 3] = [Self::FullDisk, Self::FullPipe, Self::NoReader];

    /// The place, and what has to live as long as the server.
    fn open(self) -> Result<(Stdio, Option<PipeReader>), Failure> {
        match self {
            Self::FullDisk => Ok((File::create("/dev/full")?.into(), None)),
            Self::FullPipe => full_pipe().map(|(reader, writer)| (writer.into(), Some(reader))),
            Self::NoReader => Ok((pipe()?.1.into(), None)),
        }
    }
}

#[test]
fn log_that_cannot_be_written_is_in_nobodys_way() -> Verdict {
    let mut rows = Rows::new();
    for nowhere in Nowhere::ALL {
        rows.row(format!("{nowhere:?}"), || {
            let (log, _reader) = nowhere.open()?;
            // More lines than any pipe takes.
            let flags = ["--expire-after", "4s", "--log-level", "trace"];
            let mut process = Windlass::start_logging_to(&binary()?, log, &flags)?;
            is_served(address(&process)?)?;
            sweeps(&process)?;
            stops(&mut process)
        });
    }
    rows.verdict()
}

/// Every request that the server logs is answered.
fn is_served(address: SocketAddr) -> Verdict {
    let content = bytes(LENGTH, 3);
    for _ in 0..50 {
        let path = location(&ask(address, &creation())?.is(201)?);
        ask(address, &Request::patch(&path, 0).body(&content))?.is(204)?;
        let whole = creation().octets().body(&content);
        let whole = location(&ask(address, &whole)?.is(201)?.has("Upload-Offset", LENGTH)?);
        ask(address, &Request::plain("GET", &whole))?.is(200)?.has_body(&content)?;
        ask(address, &Request::tus("DELETE", &path))?.is(204)?;
        ask(address, &Request::tus("DELETE", &whole))?.is(204)?;
    }
    Ok(())
}

/// Uploads that expire are removed, one after the other.
fn sweeps(process: &Windlass) -> Verdict {
    for _ in 0..3 {
        ask(address(process)?, &creation())?.is(201)?;
    }
    let is_part = |(path, _): &(PathBuf, u64)| path.extension().is_some_and(|e| e == "part");
    comes_true("expired uploads are removed", || !process.files().iter().any(is_part))
}

/// A server whose output nobody reads line by line.
struct Silent(Child);

impl Silent {
    fn start(data: &Path, listen: SocketAddr, output: Stdio, log: Stdio) -> Result<Self, Failure> {
        let mut command = Command::new(binary()?);
        command.args(["--listen", &listen.to_string(), "--data-dir"]).arg(data);
        Ok(Self(command.stdin(Stdio::null()).stdout(output).stderr(log).spawn()?))
    }

    fn ended_within(&mut self, wait: Duration) -> Result<ExitStatus, Failure> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            ensure(Instant::now() < deadline, format!("the server still runs after {wait:?}"))?;
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn output_that_cannot_be_written_is_in_nobodys_way() -> Verdict {
    let mut rows = Rows::new();
    for nowhere in Nowhere::ALL {
        rows.row(format!("{nowhere:?}"), || {
            let data = tempfile::tempdir()?;
            let ((output, _reader), (log, _log_reader)) = (nowhere.open()?, nowhere.open()?);
            let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            let mut process = Silent::start(data.path(), listen, output, log)?;
            comes_true("it serves", || TcpStream::connect(listen).is_ok())?;
            is_served(listen)?;
            signal(process.0.id(), Signal::TERM)?;
            let status = process.ended_within(STOP_TIME)?;
            ensure(status.success(), format!("it ended with {status}"))?;

            // What cannot start says why, or cannot.
            let file = data.path().join("file");
            fs::write(&file, "no directory")?;
            let ((output, _reader), (log, _log_reader)) = (nowhere.open()?, nowhere.open()?);
            let mut process = Silent::start(&file, listen, output, log)?;
            let status = process.ended_within(STOP_TIME)?;
            ensure_eq("the exit status", status.code(), Some(1))
        });
    }
    rows.verdict()
}

fn signal(pid: u32, signal: Signal) -> Verdict {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::new("the process has no id"))?;
    kill_process(pid, signal).map_err(Failure::new)
}

#[test]
fn signals_that_are_no_order_to_stop_cut_nobody_off() -> Verdict {
    let mut process = Windlass::start(&binary()?, &[])?;
    let address = address(&process)?;
    let content = bytes(LENGTH, 4);
    for sent in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::XFSZ, Signal::PIPE] {
        let within = |failure: Failure| failure.within(format!("{sent:?}"));
        let path = location(&ask(address, &creation())?.is(201)?);
        let request = Request::patch(&path, 0).body(&content);
        let mut connection = Connection::open(address)?;
        connection.send(&head(&request, "localhost"))?;
        connection.send(&content[..LENGTH / 2])?;
        signal(process.pid(), sent)?;
        // The signal has arrived when the server answers a request that was sent after it.
        ask(address, &Request::tus("HEAD", &path)).map_err(within)?.is_one_of(&[200, 204])?;
        connection.send(&content[LENGTH / 2..]).map_err(within)?;
        connection.read_answer(&request).map_err(within)?.is(204).map_err(within)?;
    }
    stops(&mut process)
}

#[test]
fn file_that_is_larger_than_the_process_may_write_is_refused_alone() -> Verdict {
    let mut process = Windlass::start_in_shell(&binary()?, "ulimit -f 64", &[])?;
    let address = address(&process)?;
    let large = bytes(200_000, 6);
    let create = |length: usize| Request::tus("POST", "/files").with("Upload-Length", length);
    let path = location(&ask(address, &create(large.len()).body(b""))?.is(201)?);
    ask(address, &Request::patch(&path, 0).body(&large))?.is(507)?;
    let at = ask(address, &Request::tus("HEAD", &path))?.number("Upload-Offset");
    ensure(at.is_some_and(|at| at <= 64 << 10), format!("the offset is {at:?}"))?;
    ask(address, &create(large.len()).octets().body(&large))?.is_one_of(&[201, 507])?;
    is_served(address)?;
    stops(&mut process)
}

/// What a setting does: the server starts, and answers like this.
type Effect = fn(&Windlass) -> Verdict;

fn any(_: &Windlass) -> Verdict {
    Ok(())
}

fn cors(process: &Windlass) -> Result<Option<String>, Failure> {
    let request = Request::tus("HEAD", "/files/unknown").with("Origin", "https://example.org");
    let answer = ask(address(process)?, &request)?;
    Ok(answer.field("Access-Control-Allow-Origin").map(str::to_owned))
}

fn without_cors(process: &Windlass) -> Verdict {
    ensure_eq("the CORS field", cors(process)?, None)
}

fn with_cors(process: &Windlass) -> Verdict {
    ensure_eq("the CORS field", cors(process)?, Some("https://example.org".to_owned()))
}

fn at_most_2000(process: &Windlass) -> Verdict {
    let create =
        |length: u64| Request::tus("POST", "/files").with("Upload-Length", length).body(b"");
    ask(address(process)?, &create(2_001))?.is(413)?;
    ask(address(process)?, &create(2_000))?.is(201)?;
    Ok(())
}

fn no_limit(process: &Windlass) -> Verdict {
    let request = Request::tus("POST", "/files").with("Upload-Length", u64::MAX >> 1).body(b"");
    ask(address(process)?, &request)?.is(201)?;
    Ok(())
}

fn chunks_of_1000(process: &Windlass) -> Verdict {
    ask(address(process)?, &chunk(1, 1_001))?.is(400)?;
    ask(address(process)?, &chunk(1, 1_000))?.is(200)?;
    Ok(())
}

fn is_loopback(process: &Windlass) -> Verdict {
    ensure(address(process)?.ip().is_loopback(), &process.url)
}

fn is_everywhere(process: &Windlass) -> Verdict {
    let listens = address(process)?;
    ensure(listens.ip().is_unspecified(), &process.url)?;
    TcpStream::connect(("127.0.0.1", listens.port()))?;
    Ok(())
}

fn only_tus(process: &Windlass) -> Verdict {
    ensure(process.url_of("resumable").is_err(), "it names a URL of ResumableJS")?;
    ask(address(process)?, &chunk(1, 1_000))?.is(404)?;
    ask(address(process)?, &creation())?.is(201)?;
    ensure(process.logs("has the URL of a tus upload"), "it says nothing about tus")?;
    ensure(!process.has_logged("ResumableJS"), "it speaks of ResumableJS")
}

fn only_resumable(process: &Windlass) -> Verdict {
    ensure(process.url.is_empty(), "it names a URL of tus")?;
    let address = Base::parse(process.url_of("resumable")?)?.address;
    ask(address, &creation())?.is(404)?;
    // Nothing points to the other dialect.
    let answer = ask(address, &chunk(1, 1_000))?.is(200)?;
    ensure(!answer.text().contains("/files"), answer.text())?;
    ensure(process.logs("guesses the name and size"), "it says nothing about ResumableJS")?;
    ensure(!process.has_logged("tus upload"), "it speaks of tus")
}

#[test]
fn settings_are_taken_as_people_type_them() -> Verdict {
    let mut rows = Rows::new();
    for (environment, flags, effect) in [
        ("", &[][..], with_cors as Effect),
        ("WINDLASS_NO_CORS=1", &[], without_cors),
        ("WINDLASS_NO_CORS=yes", &[], without_cors),
        ("WINDLASS_NO_CORS=True", &[], without_cors),
        ("WINDLASS_NO_CORS=on", &[], without_cors),
        ("WINDLASS_NO_CORS=0", &[], with_cors),
        ("WINDLASS_NO_CORS=off", &["--cors-origin", "https://example.org"], with_cors),
        ("WINDLASS_NO_CORS=", &[], with_cors),
        ("", &["--no-cors"], without_cors),
        ("WINDLASS_MAX_SIZE=2kB", &[], at_most_2000),
        ("WINDLASS_MAX_SIZE=1GiB", &["--max-size", "2k"], at_most_2000),
        ("WINDLASS_MAX_SIZE=", &[], no_limit),
        ("", &["--max-chunk-size", "1k"], chunks_of_1000),
        ("WINDLASS_LISTEN= WINDLASS_DURABILITY= WINDLASS_PUBLIC_URL=", &[], any),
        ("", &["--listen", "localhost:0"], is_loopback),
        ("", &["--listen", ":0"], is_everywhere),
        ("", &["--resumable-path="], only_tus),
        ("", &["--tus-path", ""], only_resumable),
        ("WINDLASS_RESUMABLE_PATH=off", &[], only_tus),
    ] {
        rows.row(format!("{environment} {}", flags.join(" ")), || {
            let prelude = format!("export WINDLASS_LOG_LEVEL=info {environment}");
            effect(&Windlass::start_in_shell(&binary()?, &prelude, flags)?)
        });
    }
    rows.verdict()
}

/// The exit status of a server that does not start, and what it says.
fn refusal(command: &mut Command) -> Result<(Option<i32>, String), Failure> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = Silent(child.spawn()?);
    let status = process.ended_within(STOP_TIME)?;
    let mut said = String::new();
    if let Some(log) = &mut process.0.stderr {
        log.read_to_string(&mut said)?;
    }
    Ok((status.code(), said))
}

#[test]
fn bad_settings_are_refused_by_their_name_with_an_example() -> Verdict {
    let data = tempfile::tempdir()?;
    let mut rows = Rows::new();
    for (environment, flags, name, example) in [
        ("", "--max-size 0", "--max-size", "10GiB"),
        ("WINDLASS_MAX_SIZE=0", "", "WINDLASS_MAX_SIZE", "10GiB"),
        ("WINDLASS_MAX_SIZE=1GB", "--max-size=0", "--max-size", "10GiB"),
        ("WINDLASS_NO_CORS=maybe", "", "WINDLASS_NO_CORS", "true"),
        ("WINDLASS_DURABILITY=high", "", "WINDLASS_DURABILITY", "synced"),
        ("WINDLASS_LISTEN=8080", "", "WINDLASS_LISTEN", "127.0.0.1:8080"),
        ("WINDLASS_EXPIRE_AFTER=1", "", "WINDLASS_EXPIRE_AFTER", "24h"),
        ("", "--tus-path= --resumable-path=off --chunked-path=", "--tus-path", "/files"),
    ] {
        rows.row(format!("{environment} {flags}"), || {
            let mut command = Command::new("bash");
            let script =
                format!("export WINDLASS_LOG_LEVEL=info {environment}; exec \"$0\" \"$@\"");
            command.arg("-c").arg(script).arg(binary()?).args(flags.split_whitespace());
            let (status, said) = refusal(command.arg("--data-dir").arg(data.path()))?;
            ensure_eq("the exit status", status, Some(2))?;
            ensure(said.contains(name) && said.contains(example), said)
        });
    }
    rows.verdict()
}

#[test]
fn address_that_is_taken_is_refused_with_the_setting() -> Verdict {
    let (data, taken) = (tempfile::tempdir()?, TcpListener::bind("localhost:0")?);
    let listen = format!("localhost:{}", taken.local_addr()?.port());
    let mut command = Command::new(binary()?);
    let command = command.args(["--listen", &listen, "--data-dir"]).arg(data.path());
    let (status, said) = refusal(command)?;
    ensure_eq("the exit status", status, Some(1))?;
    ensure(said.contains(&listen) && said.contains("--listen"), said)
}

/// The permission bits of everything below a directory, itself included, by name.
fn modes(path: &Path, found: &mut Vec<(PathBuf, u32)>) -> Verdict {
    let about = fs::metadata(path)?;
    found.push((path.to_owned(), about.permissions().mode() & 0o777));
    if about.is_dir() {
        for entry in fs::read_dir(path)? {
            modes(&entry?.path(), found)?;
        }
    }
    Ok(())
}

#[test]
fn files_are_not_for_other_users_unless_that_is_asked_for() -> Verdict {
    let group = ["--dir-mode", "0750", "--file-mode", "640"];
    let mut rows = Rows::new();
    for (flags, dir, file) in [(&[][..], 0o700, 0o600), (&group, 0o750, 0o640)] {
        rows.row(flags.join(" "), || {
            let process = Windlass::start_in_shell(&binary()?, "umask 022", flags)?;
            let address = address(&process)?;
            let content = bytes(LENGTH, 8);
            ask(address, &creation().with("Upload-Metadata", metadata(&[("a", "b")])))?.is(201)?;
            ask(address, &creation().octets().body(&content))?.is(201)?;
            let partial = creation().with("Upload-Concat", "partial").octets().body(&content);
            let partial = location(&ask(address, &partial)?.is(201)?);
            let concat = format!("final;{partial} {partial}");
            let joined = Request::tus("POST", "/files").with("Upload-Concat", concat).body(b"");
            ask(address, &joined)?.is(201)?;
            ask(address, &chunk(1, LENGTH))?.is(200)?;
            let mut found = Vec::new();
            modes(process.data(), &mut found)?;
            ensure(found.len() > 8, format!("{found:?}"))?;
            for (path, mode) in found {
                let private = [".lock", ".secret"].map(|name| process.data().join(name));
                let expected = match path.is_dir() {
                    true => dir,
                    false if private.contains(&path) => 0o600,
                    false => file,
                };
                // One that is gone meanwhile was of this kind too.
                let about = format!("{} has mode {mode:04o}", path.display());
                ensure(mode == expected || !path.exists(), about)?;
            }
            ensure(process.logs("no login"), "it logs nothing")?;
            ensure(!process.has_logged("has mode"), "it warns of its own directory")
        });
    }
    rows.verdict()
}

#[test]
fn directory_that_lets_others_in_is_warned_of_once() -> Verdict {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    fs::DirBuilder::new().mode(0o755).create(&data)?;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755))?;
    let process = Windlass::start_on(&binary()?, &data, &[])?;
    let said = format!("chmod 0700 {}", data.display());
    ensure(process.logs(&said), "nothing is said")?;
    let log = String::from_utf8_lossy(&process.log()).into_owned();
    ensure_eq("warnings", log.matches(&said).count(), 1)?;
    drop(process);
    let process = Windlass::start_on(&binary()?, &data, &["--dir-mode", "0755"])?;
    ensure(process.logs("no login"), "it does not start")?;
    ensure(!process.has_logged("chmod"), "it warns of what was asked for")
}

#[test]
fn start_says_what_strangers_can_do_and_which_setting_helps() -> Verdict {
    let process = Windlass::start(&binary()?, &[])?;
    for said in [
        "has the URL of a tus upload can read, continue and remove it",
        "guesses the name and size of a ResumableJS upload can",
        "--resumable-path=",
        "--public-url",
        "react-uploady",
    ] {
        ensure(process.logs(said), format!("it does not say {said:?}"))?;
    }
    let process = Windlass::start(&binary()?, &["--public-url", "https://example.org"])?;
    ensure(process.logs("guesses the name and size"), "it says nothing")?;
    ensure(!process.has_logged("--public-url"), "it names a setting that is set")
}
