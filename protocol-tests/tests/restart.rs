//! The server is stopped and started again while uploads are running: they keep their bytes, and no
//! client sees an error that its library would take for final.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use protocol_tests::content::bytes;
use protocol_tests::failure::{Failure, Verdict, ensure};
use protocol_tests::http1::{Connection, ask, head};
use protocol_tests::message::{Request, Response};
use protocol_tests::server::{self, Windlass};
use protocol_tests::site::{Base, path_of};

/// Uploads that run when the server is told to stop.
const UPLOADS: usize = 50;

/// The length of each.
const LENGTH: usize = 600_000;

/// How often the server is stopped.
const STOPS: usize = 3;

/// How long a client goes on trying.
const PATIENCE: Duration = Duration::from_secs(120);

/// The length of each upload in chunks.
const CHUNKED: usize = LENGTH / 2;

/// What each sends when all of the first half was told, and nobody asks for.
const UNTOLD: usize = 1_000;

/// How long the server may take to read that.
const READ_TIME: Duration = Duration::from_millis(500);

/// The length of a download that no buffer on its way holds.
const DOWNLOAD: usize = 32 << 20;

/// How the log says that requests were cut off.
const CUT_OFF: &str = "some connections did not end in time";

/// A PATCH in the middle of its body.
struct Begun {
    connection: Connection,
    request: Request,
    /// The offset that HEAD has shown meanwhile.
    told: usize,
}

/// One client.
struct Client<'a> {
    address: SocketAddr,
    content: Vec<u8>,
    /// Where its upload is.
    path: String,
    /// All clients and the operator meet here: with bodies half sent, and before they go on.
    meet: &'a Barrier,
    /// How often what nobody was told of was kept.
    kept: &'a AtomicUsize,
}

impl Client<'_> {
    /// Retries what tus-js-client retries: no connection, 5xx, 409, 423.
    fn persist(
        &self,
        mut request: impl FnMut() -> Result<Response, Failure>,
    ) -> Result<Response, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let outcome = request();
            match &outcome {
                Ok(answer) if answer.status < 400 => return outcome,
                Ok(answer) => {
                    let passing = answer.status >= 500 || [409, 423].contains(&answer.status);
                    let about = format!("{} answers {}", answer.about, answer.status);
                    ensure(passing, about)?;
                }
                Err(_) => {}
            }
            ensure(Instant::now() < deadline, format!("{outcome:?}"))?;
            // As the client libraries do it, only sooner.
            sleep(Duration::from_millis(20));
        }
    }

    fn offset(&self) -> Result<usize, Failure> {
        let request = Request::tus("HEAD", &self.path);
        let answer = self.persist(|| ask(self.address, &request))?;
        let offset = answer.number("Upload-Offset");
        Ok(offset.ok_or_else(|| Failure::new("no offset"))? as usize)
    }

    /// Is in the middle of a PATCH whenever the server is stopped, then finishes.
    fn run(&self) -> Verdict {
        let mut verdict = Ok(());
        for _ in 0..STOPS {
            // Whoever fails comes to the meetings all the same: the others wait for it.
            let begun = verdict.and_then(|()| self.begin());
            self.meet.wait();
            verdict = begun.and_then(|begun| self.end(begun));
            self.meet.wait();
        }
        verdict?;
        self.persist(|| {
            let at = self.offset()?;
            let request = Request::patch(&self.path, at as u64).body(&self.content[at..]);
            ask(self.address, &request)
        })?;
        let get = Request::plain("GET", &self.path);
        self.persist(|| ask(self.address, &get))?.is(200)?.has_body(&self.content)?;
        Ok(())
    }

    /// Sends half of what is missing, of which everything arrives and is told.
    fn begin(&self) -> Result<Begun, Failure> {
        let begin = self.offset()?;
        let told = begin + (LENGTH - begin) / 2;
        let request = Request::patch(&self.path, begin as u64).body(&self.content[begin..]);
        let mut connection = Connection::open(self.address)?;
        connection.send(&head(&request, "localhost"))?;
        connection.send(&self.content[begin..told])?;
        let deadline = Instant::now() + PATIENCE;
        while self.offset()? < told {
            ensure(Instant::now() < deadline, "the bytes do not arrive")?;
        }
        connection.send(&self.content[told..told + UNTOLD])?;
        Ok(Begun { connection, request, told })
    }

    /// Is told that the server stops, and finds what it was told before (D-59). What came after
    /// that is kept as well, if the server has read it.
    fn end(&self, mut begun: Begun) -> Verdict {
        let told = begun.told;
        // The answer was sent before the process ended, and waits to be read.
        let answer = begun.connection.read_answer(&begun.request)?.is(503)?;
        answer.carries("Retry-After")?;
        let kept = self.offset()?;
        self.kept.fetch_add(usize::from(kept == told + UNTOLD), Ordering::Relaxed);
        let sent = told..=told + UNTOLD;
        ensure(sent.contains(&kept), format!("{kept} bytes of {sent:?}"))
    }
}

/// A ResumableJS client that keeps sending chunks, each until it is stored.
fn send_chunks(address: SocketAddr, index: usize) -> Verdict {
    const CHUNK: usize = 20_000;
    let content = bytes(CHUNKED, index as u64);
    let deadline = Instant::now() + PATIENCE;
    for (number, chunk) in (1..).zip(content.chunks(CHUNK)) {
        let target = format!(
            "/resumable?resumableChunkNumber={number}&resumableChunkSize={CHUNK}\
             &resumableTotalSize={CHUNKED}&resumableIdentifier=file-{index}\
             &resumableFilename=file-{index}"
        );
        let request = Request::plain("POST", &target)
            .with("Content-Type", "application/octet-stream")
            .body(chunk);
        loop {
            let outcome = ask(address, &request);
            match &outcome {
                Ok(answer) if answer.status == 200 => break,
                Ok(answer) => {
                    // Everything else is final for one of the libraries or another.
                    let about = format!("chunk {number} is answered {}", answer.status);
                    ensure(answer.status == 503, about)?;
                }
                Err(_) => {}
            }
            ensure(Instant::now() < deadline, format!("{outcome:?}"))?;
            sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Is in the middle of a download whenever the server is stopped, and gets all of it.
fn download(address: SocketAddr, path: &str, content: &[u8], meet: &Barrier) -> Verdict {
    let half = content.len() / 2;
    let mut verdict = Ok(());
    for _ in 0..STOPS {
        let begun = verdict.and_then(|()| begin_download(address, path));
        meet.wait();
        verdict = begun.and_then(|mut connection| {
            let mut read = connection.read_bytes(half)?;
            sleep(Duration::from_secs(1));
            read.extend(connection.read_bytes(content.len() - half)?);
            ensure(read == content, "the download is another")
        });
        meet.wait();
    }
    verdict
}

/// A download of which nothing but the head is read.
fn begin_download(address: SocketAddr, path: &str) -> Result<Connection, Failure> {
    let mut connection = Connection::open(address)?;
    connection.send(&head(&Request::plain("GET", path), "localhost"))?;
    connection.read_head()?.is(200)?;
    Ok(connection)
}

/// Stops the server and starts it again.
fn stop(process: &mut Windlass) -> Verdict {
    let begun = Instant::now();
    process.terminate()?;
    let status = process.ended_within(Duration::from_secs(10))?;
    let ended = begun.elapsed();
    ensure(status.success(), format!("it ended with {status}"))?;
    process.restart()?;
    let served = begun.elapsed();
    println!("ended after {ended:?}, served again after {served:?}");
    Ok(())
}

#[test]
fn restart_under_load_loses_no_byte_and_no_client() -> Verdict {
    let binary = server::binary().ok_or_else(|| Failure::new("no windlass binary"))?;
    let mut process = Windlass::start(&binary, &["--durability", "synced"])?;
    process.keep_address()?;
    let base = Base::parse(&process.url)?;
    let address = base.address;
    let (meet, kept) = (Barrier::new(UPLOADS + 2), AtomicUsize::new(0));
    let create = |content: &[u8], held: &[u8]| {
        let request = Request::tus("POST", &base.path)
            .with("Upload-Length", content.len())
            .octets()
            .body(held);
        let created = ask(address, &request)?.is(201)?;
        Ok::<_, Failure>(path_of(created.field("Location").unwrap_or_default()).to_owned())
    };
    let large = bytes(DOWNLOAD, 0);
    let large_path = create(&large, &large)?;
    let mut clients = Vec::new();
    for index in 0..UPLOADS {
        let content = bytes(LENGTH, index as u64);
        clients.push(Client {
            address,
            path: create(&content, b"")?,
            content,
            meet: &meet,
            kept: &kept,
        });
    }
    std::thread::scope(|scope| {
        let tus = clients.iter().map(|client| scope.spawn(|| client.run()));
        let tus: Vec<_> = tus.collect();
        let chunks: Vec<_> =
            (0..4).map(|index| scope.spawn(move || send_chunks(address, index))).collect();
        let reader = scope.spawn(|| download(address, &large_path, &large, &meet));
        let mut stop_and_check = |is_last: bool| {
            // Nobody waits for the last one: it never reads.
            let _deaf = match is_last {
                true => Some(begin_download(address, &large_path)?),
                false => None,
            };
            stop(&mut process)?;
            let cut_off = process.has_logged(CUT_OFF);
            ensure(cut_off == is_last, format!("requests cut off: {cut_off}"))
        };
        let stopped: Vec<Verdict> = (1..=STOPS)
            .map(|stop| {
                meet.wait();
                sleep(READ_TIME);
                let stopped = stop_and_check(stop == STOPS);
                meet.wait();
                stopped
            })
            .collect();
        let joined = tus.into_iter().chain(chunks).chain([reader]);
        let joined = joined.map(|client| client.join().expect("a client panicked"));
        stopped.into_iter().chain(joined).collect::<Verdict>()
    })?;
    let kept = kept.into_inner();
    let about = format!("{kept} times of {} what was read is kept", UPLOADS * STOPS);
    ensure(kept > UPLOADS * STOPS / 2, about)?;
    ensure(process.panics().is_empty(), format!("{:?}", process.panics()))
}
