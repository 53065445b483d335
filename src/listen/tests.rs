//! Connections through memory, in paused time, and what only sockets have.

use std::{
    future::pending,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use super::*;
use crate::{
    engine::{Admission, Engine, Gate},
    rules::Denial,
    store::{Store, memory::MemoryStore},
    upload::Limits,
    wire::{location::Locations, tus::Tus},
};

/// What a connection through memory takes before it is read from.
const PIPE_BYTES: usize = 64;

/// Who is at the other end of a connection, according to its listener.
#[derive(Clone, Debug, PartialEq)]
struct Caller(&'static str);

/// Yields what it is sent, streams and failures.
struct Memory(mpsc::UnboundedReceiver<io::Result<DuplexStream>>);

impl Accept for Memory {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<Handshake<DuplexStream>> {
        let Some(next) = self.0.recv().await else {
            return pending().await;
        };
        let mut connection = Connection::new(next?);
        connection.extensions.insert(Caller("ann"));
        Ok(Box::pin(async { Ok(connection) }))
    }
}

/// Stands for TLS: a handshake, bytes that only the other end can read, and writes that are kept
/// until they are flushed.
struct Masked<Io> {
    io: Io,
    kept: Vec<u8>,
}

const MASK: u8 = 0x55;

impl<Io: AsyncRead + AsyncWrite + Unpin> Masked<Io> {
    fn new(io: Io) -> Self {
        Self { io, kept: Vec::new() }
    }

    /// The server's side of the handshake: one byte that must be the right one, and one back.
    async fn accept(mut io: Io) -> io::Result<Self> {
        if io.read_u8().await? != b'?' {
            return Err(io::ErrorKind::InvalidData.into());
        }
        io.write_u8(b'!').await?;
        Ok(Self::new(io))
    }

    async fn connect(mut io: Io) -> Self {
        io.write_u8(b'?').await.expect("sent");
        assert_eq!(io.read_u8().await.expect("received"), b'!');
        Self::new(io)
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Masked<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        buf.filled_mut()[before..].iter_mut().for_each(|byte| *byte ^= MASK);
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Masked<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.kept.extend(buf.iter().map(|byte| byte ^ MASK));
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, kept } = &mut *self;
        while !kept.is_empty() {
            let count = ready!(Pin::new(&mut *io).poll_write(cx, kept))?;
            kept.drain(..count);
        }
        Pin::new(io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What each request brought, as its hooks see it.
#[derive(Clone, Default)]
struct Callers(Arc<Mutex<Vec<Option<Caller>>>>);

impl Callers {
    fn taken(&self) -> Vec<Option<Caller>> {
        std::mem::take(&mut self.0.lock().expect("unpoisoned"))
    }
}

#[async_trait::async_trait]
impl Gate for Callers {
    async fn admit(&self, admission: Admission<'_>) -> Result<(), Denial> {
        let caller = admission.extensions.get().cloned();
        self.0.lock().expect("unpoisoned").push(caller);
        Ok(())
    }
}

/// A server of tus on `/files`.
struct Server {
    callers: Callers,
    limits: Limits,
    stop: oneshot::Sender<()>,
    store: Arc<MemoryStore>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    fn start(listener: impl Accept + 'static) -> Self {
        let (store, callers) = (Arc::new(MemoryStore::default()), Callers::default());
        let engine = Engine::builder(Arc::clone(&store) as Arc<dyn Store>).gate(callers.clone());
        let engine = engine.build();
        let limits = engine.limits().clone();
        let tus = Tus::new(Locations::new("/files".parse().expect("a path")));
        let service = Windlass::new(engine).mount(tus);
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve(listener, service, stopped));
        Self { callers, limits, stop, store, task }
    }

    async fn stop(self) -> Duration {
        let begin = Instant::now();
        let _ = self.stop.send(());
        self.task.await.expect("no panic").expect("no error");
        begin.elapsed()
    }
}

/// A server of masked connections, and what makes them.
fn masked() -> (Server, impl Fn() -> DuplexStream) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let server = Server::start(Memory(receiver).with_handshake(Masked::accept));
    (server, move || connected(&sender))
}

fn connected(sender: &mpsc::UnboundedSender<io::Result<DuplexStream>>) -> DuplexStream {
    let (client, server) = duplex(PIPE_BYTES);
    sender.send(Ok(server)).expect("a listener");
    client
}

const CREATION: &str = "POST /files HTTP/1.1\r\nHost: h\r\nTus-Resumable: 1.0.0\r\n\
                        Upload-Length: 9\r\n\r\n";

/// The head of the answer to `request`.
async fn ask(io: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    io.write_all(request.as_bytes()).await.expect("sent");
    io.flush().await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.expect("an answer"));
    }
    String::from_utf8(head).expect("text")
}

async fn creates(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let head = ask(io, CREATION).await;
    assert!(head.starts_with("HTTP/1.1 201 "), "{head}");
    let location = head.lines().find_map(|line| line.strip_prefix("Location: "));
    location.expect("a location").to_owned()
}

/// Reads to the end, which must come.
async fn is_closed(io: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).await.expect("an end, not a failure");
}

/// One creation over HTTP/2, and the types of the frames of stream 1 that come back.
async fn creates_by_http2(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Vec<u8> {
    let literal = |name: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).expect("short");
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    };
    // POST and http are in the static table.
    let mut fields = vec![0x83, 0x86];
    fields.extend(literal(":path", "/files"));
    fields.extend(literal(":authority", "h"));
    fields.extend(literal("tus-resumable", "1.0.0"));
    fields.extend(literal("upload-length", "9"));
    let length = u8::try_from(fields.len()).expect("short");
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]); // SETTINGS
    sent.extend([0, 0, length, 1, 5, 0, 0, 0, 1]); // HEADERS, the whole request
    sent.extend(fields);
    io.write_all(&sent).await.expect("sent");
    io.flush().await.expect("sent");
    let mut types = Vec::new();
    loop {
        let mut head = [0; 9];
        io.read_exact(&mut head).await.expect("a frame");
        let [a, b, c, kind, flags, .., stream] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        io.read_exact(&mut payload).await.expect("a frame");
        if stream == 1 {
            types.push(kind);
            if flags & 1 == 1 {
                return types;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn streams_of_any_kind_carry_both_versions_and_bring_their_extensions() {
    let ann = || Some(Caller("ann"));
    let (sender, receiver) = mpsc::unbounded_channel();
    let server = Server::start(Memory(receiver));
    creates(&mut connected(&sender)).await;
    assert_eq!(creates_by_http2(&mut connected(&sender)).await, [1], "HEADERS");
    assert_eq!(server.callers.taken(), [ann(), ann()]);

    let (server, connect) = masked();
    let mut kept = Masked::connect(connect()).await;
    creates(&mut kept).await;
    creates(&mut kept).await;
    let frames = creates_by_http2(&mut Masked::connect(connect()).await).await;
    assert_eq!(frames, [1], "HEADERS");
    assert_eq!(server.callers.taken(), [ann(), ann(), ann()]);
}

#[tokio::test(start_paused = true)]
async fn slow_handshake_delays_no_other_and_ends_at_the_head_timeout() {
    let (server, connect) = masked();
    let begin = Instant::now();
    let (mut silent, mut half) = (connect(), Masked::connect(connect()).await);
    half.write_all(b"POST").await.expect("sent");
    half.flush().await.expect("sent");
    creates(&mut Masked::connect(connect()).await).await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    is_closed(&mut silent).await;
    let within = Duration::from_secs(1);
    let late = begin.elapsed().checked_sub(server.limits.head_timeout);
    assert!(late.is_some_and(|late| late < within), "{late:?}");
    is_closed(&mut half).await;
    assert!(begin.elapsed() < server.limits.head_timeout + LINGER + within);
}

/// How long a connection may take to be closed.
const LINGER: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn failures_to_accept_are_survived() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let server = Server::start(Memory(receiver).with_handshake(Masked::accept));
    let fails = |error: io::Error| sender.send(Err(error)).expect("a listener");
    let begin = Instant::now();
    let mut wrong = connected(&sender);
    wrong.write_all(b"GET").await.expect("sent");
    is_closed(&mut wrong).await;
    fails(io::ErrorKind::ConnectionAborted.into());
    creates(&mut Masked::connect(connected(&sender)).await).await;
    assert_eq!(begin.elapsed(), Duration::ZERO, "of one connection");
    fails(io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error()));
    creates(&mut Masked::connect(connected(&sender)).await).await;
    assert!((ACCEPT_PAUSE..ACCEPT_PAUSE * 2).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn client_that_does_not_read_is_given_up_after_the_idle_timeout() {
    let (server, connect) = masked();
    let mut client = Masked::connect(connect()).await;
    let begin = Instant::now();
    // The answer is larger than the pipe.
    client.write_all(CREATION.as_bytes()).await.expect("sent");
    client.flush().await.expect("sent");
    let early = server.limits.idle_timeout - Duration::from_secs(1);
    tokio::time::sleep_until(begin + early).await;
    client.io.write_all(b"\r\n").await.expect("the connection is there");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let error = client.io.write_all(b"\r\n").await.expect_err("the connection is closed");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn stop_ends_handshakes_and_idle_connections_and_records_what_bodies_brought() {
    let (server, connect) = masked();
    let store = Arc::clone(&server.store);
    let mut shaking = connect();
    let mut idle = Masked::connect(connect()).await;
    let location = creates(&mut idle).await;
    let mut writing = Masked::connect(connect()).await;
    let patch = format!(
        "PATCH {location} HTTP/1.1\r\nHost: h\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n\
         Content-Type: application/offset+octet-stream\r\nContent-Length: 9\r\n\r\nhalf"
    );
    writing.write_all(patch.as_bytes()).await.expect("sent");
    writing.flush().await.expect("sent");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let clients = tokio::spawn(async move {
        is_closed(&mut shaking).await;
        is_closed(&mut idle).await;
        let mut answer = String::new();
        writing.read_to_string(&mut answer).await.expect("an answer and an end");
        drop((shaking, idle, writing));
        answer
    });
    let time = server.stop().await;
    assert!(time < DRAIN_TIME, "{time:?}");
    let answer = clients.await.expect("no panic");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let (_, id) = location.rsplit_once('/').expect("a URL");
    let upload = store.load(&id.parse().expect("an id")).await.expect("an upload");
    assert_eq!(upload.offset(), 4);
}

#[tokio::test]
async fn tcp_under_a_handshake_keeps_its_address_and_shows_that_the_client_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).await.expect("a connection");
    let mut listener = listener.with_handshake(Masked::accept);
    let handshake = listener.accept().await.expect("accepted");
    let (connection, client) = tokio::join!(handshake, Masked::connect(client));
    let connection = connection.expect("shaken hands");
    let expected = client.io.local_addr().expect("an address");
    assert_eq!(connection.extensions.get(), Some(&expected));
    let short = Duration::from_millis(50);
    assert!(timeout(short, connection.peer.ended()).await.is_err());
    drop(client);
    assert!(timeout(DRAIN_TIME, connection.peer.ended()).await.is_ok());
}

#[cfg(unix)]
#[tokio::test]
async fn unix_sockets_are_served() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let server = Server::start(tokio::net::UnixListener::bind(&path).expect("a socket"));
    let mut client = tokio::net::UnixStream::connect(&path).await.expect("a connection");
    creates(&mut client).await;
    drop(client);
    server.stop().await;
}
