//! The floor: what receiving an upload costs at the very least. Accepts, reads a socket into a
//! buffer, writes the buffer to a file, answers what a client needs to go on; nothing else. It
//! trusts its client and keeps no promise, so nobody can be much faster, and nobody should use it.
//!
//! `floor ADDR:PORT DIR`

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// What is read from a socket at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// What a thread needs besides.
const STACK_BYTES: usize = 64 << 10;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(dir)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: floor ADDR:PORT DIR");
        return ExitCode::FAILURE;
    };
    match serve(&address, dir.into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread per connection.
fn serve(address: &str, dir: PathBuf) -> io::Result<()> {
    let uploads = Arc::new(Uploads { dir, made: AtomicU64::new(0) });
    for stream in TcpListener::bind(address)?.incoming() {
        let (stream, uploads) = (stream?, Arc::clone(&uploads));
        stream.set_nodelay(true)?;
        thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || Connection::new(stream, uploads).run())?;
    }
    Ok(())
}

/// Files named by number. A file is made when its first bytes arrive.
struct Uploads {
    dir: PathBuf,
    made: AtomicU64,
}

impl Uploads {
    fn number(&self) -> u64 {
        self.made.fetch_add(1, Ordering::Relaxed)
    }

    fn open(&self, number: u64) -> io::Result<File> {
        let path = self.dir.join(number.to_string());
        OpenOptions::new().create(true).truncate(false).write(true).open(path)
    }
}

/// One connection and its buffer.
struct Connection {
    stream: TcpStream,
    uploads: Arc<Uploads>,
    buffer: Vec<u8>,
    /// How much of the buffer holds bytes not used yet.
    filled: usize,
}

/// What a head says, as far as anybody cares.
struct Head {
    method: Method,
    /// The number at the end of the path.
    number: u64,
    length: u64,
    offset: u64,
    bytes: usize,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    /// A ResumableJS chunk: form and all into a file.
    Chunk,
    Create,
    Head,
    Patch,
}

impl Connection {
    fn new(stream: TcpStream, uploads: Arc<Uploads>) -> Self {
        Self { stream, uploads, buffer: vec![0; BUFFER_BYTES], filled: 0 }
    }

    /// Requests until the peer closes, or misbehaves.
    fn run(mut self) {
        while let Ok(Some(head)) = self.head() {
            if self.answer(&head).is_err() {
                break;
            }
        }
    }

    fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.buffer[..self.filled], b"\r\n\r\n") {
                return Ok(parse(&self.buffer[..end]).map(|head| Head { bytes: end + 4, ..head }));
            }
            let read = self.stream.read(&mut self.buffer[self.filled..])?;
            if read == 0 {
                return Ok(None);
            }
            self.filled += read;
        }
    }

    fn answer(&mut self, head: &Head) -> io::Result<()> {
        let number = match head.method {
            Method::Create | Method::Chunk => self.uploads.number(),
            Method::Head | Method::Patch => head.number,
        };
        self.store(head, number)?;
        let end = head.offset + head.length;
        let text = match head.method {
            Method::Chunk => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
            Method::Create => format!(
                "HTTP/1.1 201 Created\r\nTus-Resumable: 1.0.0\r\nLocation: /files/{number}\r\n\
                 Upload-Offset: {end}\r\nContent-Length: 0\r\n\r\n"
            ),
            Method::Head => "HTTP/1.1 200 OK\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n\
                 Upload-Length: 1\r\nCache-Control: no-store\r\n\r\n"
                .to_owned(),
            Method::Patch => format!(
                "HTTP/1.1 204 No Content\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {end}\r\n\r\n"
            ),
        };
        self.stream.write_all(text.as_bytes())
    }

    /// The body of `head` into the file of `number`.
    fn store(&mut self, head: &Head, number: u64) -> io::Result<()> {
        let early = self.filled - head.bytes;
        self.buffer.copy_within(head.bytes..self.filled, 0);
        self.filled = early;
        if head.length == 0 {
            return Ok(());
        }
        let file = self.uploads.open(number)?;
        let mut left = head.length;
        let mut at = head.offset;
        while left > 0 {
            if self.filled == 0 {
                self.filled = self.stream.read(&mut self.buffer)?;
                if self.filled == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            let some = self.filled.min(usize::try_from(left).unwrap_or(usize::MAX));
            file.write_all_at(&self.buffer[..some], at)?;
            at += some as u64;
            left -= some as u64;
            self.buffer.copy_within(some..self.filled, 0);
            self.filled -= some;
        }
        Ok(())
    }
}

/// A head as our own client writes it; `None` for any other.
fn parse(text: &[u8]) -> Option<Head> {
    let mut lines = std::str::from_utf8(text).ok()?.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?, first.next()?);
    let method = match method {
        "HEAD" | "OPTIONS" => Method::Head,
        "PATCH" => Method::Patch,
        _ if path.starts_with("/resumable") => Method::Chunk,
        _ => Method::Create,
    };
    let mut head = Head {
        method,
        number: path.rsplit('/').next()?.parse().unwrap_or(0),
        length: 0,
        offset: 0,
        bytes: 0,
    };
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name {
            "Content-Length" => head.length = value.parse().ok()?,
            "Upload-Offset" => head.offset = value.parse().ok()?,
            _ => {}
        }
    }
    Some(head)
}
