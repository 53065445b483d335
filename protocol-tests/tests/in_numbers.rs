//! What must hold a thousand times over, or for gigabytes: too much for a conformance case.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Barrier,
    time::{Duration, Instant},
};

use protocol_tests::{
    content::bytes,
    failure::Failure,
    http1::Connection,
    message::{Request, Response},
    server::{self, Windlass},
    site::{Base, path_of},
};

const MIB: usize = 1 << 20;

struct Server {
    address: SocketAddr,
    path: String,
    process: Windlass,
}

impl Server {
    fn start() -> Result<Self, Failure> {
        let binary = server::binary().ok_or_else(|| Failure::new("no windlass binary"))?;
        let process = Windlass::start(&binary, &["--durability", "relaxed"])?;
        let base = Base::parse(&process.url)?;
        Ok(Self { address: base.address, path: base.path, process })
    }

    fn ask(&self, request: &Request) -> Result<Response, Failure> {
        let mut connection = Connection::open(self.address)?;
        connection.send_request(request, "localhost")?;
        connection.read_answer(request)
    }

    /// The path of a new upload.
    fn create(&self, length: usize, concat: Option<&str>) -> Result<String, Failure> {
        let request = Request::tus("POST", &self.path).with("Upload-Length", length).body(b"");
        let request = match concat {
            Some(concat) => request.with("Upload-Concat", concat),
            None => request,
        };
        let created = self.ask(&request)?.is(201)?;
        Ok(path_of(created.field("Location").unwrap_or_default()).to_owned())
    }

    fn descriptors(&self) -> Result<usize, Failure> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.process.pid()))?.count())
    }

    /// Waits until no more than `descriptors` are open.
    fn settled(&self, descriptors: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let now = self.descriptors()?;
            if now <= descriptors {
                return Ok(());
            }
            if Instant::now() > deadline {
                let trouble = format!("{descriptors} descriptors have become {now}");
                return Err(Failure::new(trouble));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Resident memory in KiB.
    fn memory_kib(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|n| n.parse().ok()).ok_or_else(|| Failure::new("no VmRSS"))
    }
}

/// F-06: exactly one of two equal PATCHes is taken, whoever comes first.
#[test]
fn patch_sent_twice_at_once_is_taken_once_a_thousand_times() -> Result<(), Failure> {
    let server = Server::start()?;
    for round in 0..1000 {
        let content = bytes(20_000, round);
        let path = server.create(content.len(), None)?;
        let patch = Request::patch(&path, 0).body(&content);
        let start = Barrier::new(2);
        let send = || -> Result<u16, Failure> {
            let mut connection = Connection::open(server.address)?;
            start.wait();
            connection.send_request(&patch, "localhost")?;
            Ok(connection.read_answer(&patch)?.status)
        };
        let statuses = std::thread::scope(|scope| {
            [scope.spawn(send), scope.spawn(send)].map(|sender| sender.join())
        });
        let mut taken = 0;
        for status in statuses {
            match status.map_err(|_| Failure::new("a sender panicked"))?? {
                204 => taken += 1,
                409 | 423 => {}
                other => return Err(Failure::new(format!("round {round}: {other}"))),
            }
        }
        assert_eq!(taken, 1, "round {round}");
        server.ask(&Request::plain("GET", &path))?.is(200)?.has_body(&content)?;
    }
    Ok(())
}

/// F-21: clients that go away in the middle leave nothing behind.
#[test]
fn ten_thousand_cut_patches_leave_memory_and_descriptors_where_they_were() -> Result<(), Failure> {
    const ROUND: usize = 2000;
    let server = Server::start()?;
    let paths = (0..100).map(|_| server.create(MIB, None)).collect::<Result<Vec<_>, _>>()?;
    let descriptors = server.descriptors()?;
    let cut = |number: usize| -> Result<(), Failure> {
        // A checksummed body leaves the offset at 0, so that every PATCH is a right one.
        let head = format!(
            "PATCH {} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n\
             Content-Type: application/offset+octet-stream\r\nContent-Length: 100000\r\n\
             Upload-Checksum: sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
            paths[number % paths.len()]
        );
        let mut stream = TcpStream::connect(server.address)?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(&[b'x'; 50_000][..number % 50_000])?;
        Ok(())
    };
    // How many are open at once decides how much memory is kept for later, so it is bounded here.
    // The allocator takes more now and then all the same; a leak grows in every round alike.
    let round = || -> Result<u64, Failure> {
        let before = server.memory_kib()?;
        for first in (0..ROUND).step_by(50) {
            (first..first + 50).try_for_each(cut)?;
            server.settled(descriptors)?;
        }
        Ok(server.memory_kib()?.saturating_sub(before))
    };
    round()?;
    let mut growth_kib = (0..5).map(|_| round()).collect::<Result<Vec<_>, _>>()?;
    growth_kib.sort_unstable();
    println!("memory grew by {growth_kib:?} KiB in rounds of {ROUND} cut PATCHes");
    assert!(growth_kib[1] <= 512, "{growth_kib:?} KiB");
    Ok(())
}

/// F-33: a final upload of 4 GiB is answered before a byte is copied, and can be read at once.
#[test]
fn final_of_four_gibibytes_is_answered_and_read_at_once() -> Result<(), Failure> {
    const PART_MIB: usize = 1024;
    let server = Server::start()?;
    let pattern = bytes(MIB, 7);
    let block = |part: usize, number: usize| {
        let mut block = pattern.clone();
        block[..16].copy_from_slice(&[part.to_be_bytes(), number.to_be_bytes()].concat());
        block
    };
    let mut paths = Vec::new();
    for part in 0..4 {
        let path = server.create(PART_MIB * MIB, Some("partial"))?;
        let patch = Request::patch(&path, 0).with("Content-Length", PART_MIB * MIB);
        let mut connection = Connection::open(server.address)?;
        connection.send_request(&patch, "localhost")?;
        for number in 0..PART_MIB {
            connection.send(&block(part, number))?;
        }
        connection.read_answer(&patch)?.is(204)?;
        paths.push(path);
    }
    let concat = format!("final;{}", paths.join(" "));
    let request = Request::tus("POST", &server.path).with("Upload-Concat", concat).body(b"");
    let asked = Instant::now();
    let joined = server.ask(&request)?.is(201)?;
    let answered = asked.elapsed();
    println!("a final of 4 GiB was answered in {answered:?}");
    assert!(answered < Duration::from_secs(1), "{answered:?}");
    let location = path_of(joined.field("Location").unwrap_or_default()).to_owned();
    let mut stream = TcpStream::connect(server.address)?;
    write!(stream, "GET {location} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    let mut read = vec![0; MIB];
    for part in 0..4 {
        for number in 0..PART_MIB {
            stream.read_exact(&mut read)?;
            assert!(read == block(part, number), "part {part}, MiB {number}");
        }
    }
    Ok(())
}
