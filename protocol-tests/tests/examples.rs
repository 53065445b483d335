//! The embedding examples, run as they stand: own authentication, own mount path, completion hook.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
};

use protocol_tests::{
    failure::Failure,
    http1::Connection,
    message::{Request, Response},
};
use tempfile::TempDir;

/// A running example with a data directory of its own.
struct Example {
    address: SocketAddr,
    child: Child,
    _directory: TempDir,
    /// The path at which uploads are created.
    path: String,
    /// Kept open, for the example goes on printing.
    _stdout: BufReader<ChildStdout>,
}

impl Example {
    fn start(name: &str) -> Result<Self, Failure> {
        let directory = tempfile::tempdir()?;
        let mut child = Command::new(binary(name)?)
            .arg("127.0.0.1:0")
            .arg(directory.path())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::new("no stdout"))?;
        let mut line = String::new();
        let mut stdout = BufReader::new(stdout);
        stdout.read_line(&mut line)?;
        let url = line.trim().strip_prefix("tus: http://");
        let (address, path) = url
            .and_then(|url| url.split_once('/'))
            .ok_or_else(|| Failure::new(format!("{name} printed {line:?}")))?;
        let address = address.parse().map_err(Failure::new)?;
        let path = format!("/{path}");
        Ok(Self { address, child, _directory: directory, path, _stdout: stdout })
    }

    fn ask(&self, request: &Request) -> Result<Response, Failure> {
        let mut connection = Connection::open(self.address)?;
        connection.send_request(request, &self.address.to_string())?;
        connection.read_answer(request)
    }

    /// A creation with all bytes in it, by `caller`.
    fn create(&self, caller: Option<&str>, content: &[u8]) -> Result<Response, Failure> {
        let request = Request::tus("POST", &self.path)
            .with("Upload-Length", content.len())
            .octets()
            .body(content);
        self.ask(&by(caller, request))
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended already; either way nothing is left to do about it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Examples are built beside the tests.
fn binary(name: &str) -> Result<PathBuf, Failure> {
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(|deps| deps.parent());
    let profile = profile.ok_or_else(|| Failure::new("the test is in no target directory"))?;
    let binary = profile.join("examples").join(name);
    if binary.is_file() {
        return Ok(binary);
    }
    Err(Failure::new(format!("{} is missing: run `cargo build --examples`", binary.display())))
}

fn by(caller: Option<&str>, request: Request) -> Request {
    match caller {
        Some(caller) => request.with("Authorization", format!("Bearer {caller}")),
        None => request,
    }
}

#[test]
fn hyper_example_keeps_the_uploads_of_its_callers_apart() -> Result<(), Failure> {
    let example = Example::start("embed_hyper")?;
    example.create(None, b"hello")?.is(401)?;
    let created = example.create(Some("ann"), b"hello")?.is(201)?.carries("X-Finished")?;
    let location = created.field("Location").unwrap_or_default().to_owned();
    assert!(location.starts_with("/api/uploads/"), "{location}");
    let read = |caller| example.ask(&by(Some(caller), Request::plain("GET", &location)));
    read("ann")?.is(200)?.has_body(b"hello")?;
    read("bob")?.is(403)?;
    let delete = |caller| example.ask(&by(Some(caller), Request::tus("DELETE", &location)));
    delete("bob")?.is(403)?;
    delete("ann")?.is(204)?;
    read("ann")?.is(404)?;
    Ok(())
}

#[test]
fn axum_example_serves_uploads_beside_its_other_routes() -> Result<(), Failure> {
    let example = Example::start("embed_axum")?;
    example.ask(&Request::plain("GET", "/"))?.is(200)?.has_body(b"an application\n")?;
    example.create(None, b"hello")?.is(401)?;
    let created = example.create(Some("ann"), b"hello")?.is(201)?;
    let location = created.field("Location").unwrap_or_default().to_owned();
    let read = Request::plain("GET", &location);
    example.ask(&by(Some("ann"), read))?.is(200)?.has_body(b"hello")?;
    // The completion step reads the upload and says no for good: nothing is left (I-04).
    example.create(Some("ann"), b"MZ program")?.is(400)?;
    Ok(())
}
