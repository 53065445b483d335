//! Limits of the HTTP layer and input that is hardly HTTP.

use std::time::{Duration, Instant};

use crate::case::{Case, Setup};
use crate::content::bytes;
use crate::failure::{Failure, Rows, Verdict, ensure};
use crate::message::Request;
use crate::site::Site;
use crate::upload::Upload;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "head_of_64_kib_is_accepted",
        &["D-58"],
        "fields of almost 64 KiB in one line and in many, over HTTP/1.1 and HTTP/2",
        large_head,
    )
    .under(&[Setup::Plain, Setup::Http2]),
    Case::ours(
        "head_without_end_is_refused",
        &["D-58", "I-11"],
        "a head of many megabytes ends with an error or a closed connection, not with memory",
        endless_head,
    ),
    Case::ours(
        "connection_idle_for_long_still_serves",
        &["D-58", "F-49"],
        "a kept-alive connection that was idle for 45 s takes the next request",
        idle,
    )
    .waiting(),
    Case::ours(
        "stream_that_waits_does_not_starve_its_neighbours",
        &["D-58"],
        "an HTTP/2 upload that has to wait leaves the connection's window to others",
        neighbours,
    )
    .under(&[Setup::Http2])
    .waiting(),
    Case::must(
        "input_that_is_no_http_harms_nobody",
        &["I-10", "I-03", "F-52"],
        "garbage, doubled and contradictory framing, bad chunks: refused or closed, nothing changes",
        garbage,
    ),
    Case::must(
        "framing_that_contradicts_itself_stores_nothing",
        &["I-03", "F-52", "T-002"],
        "two lengths, length with chunks, bad lengths: no smuggled byte reaches an upload",
        contradictions,
    ),
    Case::ours(
        "framing_of_answers_serves_the_next_request",
        &["F-48", "F-52"],
        "one connection for every kind of answer in a row",
        one_connection,
    ),
];

fn large_head(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let mut rows = Rows::new();
    rows.row("one field", || {
        let request = upload.request("HEAD").with("X-Padding", "x".repeat(64 * 1024 - 1000));
        site.ask(&request)?.is(200)?.has("Upload-Offset", 0).map(drop)
    });
    rows.row("sixty fields", || {
        let request = (0..60).fold(upload.request("HEAD"), |request, n| {
            request.with(&format!("X-Padding-{n}"), "x".repeat(1000))
        });
        site.ask(&request)?.is(200)?.has("Upload-Offset", 0).map(drop)
    });
    rows.verdict()
}

fn endless_head(site: &Site) -> Verdict {
    let mut link = site.connect()?;
    link.raw.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Endless: ")?;
    let piece = vec![b'x'; 1 << 20];
    let sent = (0..32).take_while(|_| link.raw.send(&piece).is_ok()).count();
    ensure(sent < 32, "32 MiB of a single field were taken")?;
    site.options()?.is_success()?;
    Ok(())
}

fn idle(site: &Site) -> Verdict {
    let upload = site.create(6)?;
    let mut link = site.connect()?;
    link.ask(&upload.patch_at(0).body(b"abc"))?.is(204)?;
    std::thread::sleep(Duration::from_secs(45));
    link.ask(&upload.patch_at(3).body(b"def"))?.is(204)?;
    upload.reads_back(b"abcdef")
}

fn neighbours(site: &Site) -> Verdict {
    let locked = site.create(10_000_000)?;
    let free = site.create(8_000_000)?;
    let content = bytes(8_000_000, 73);
    // A writer that is alive keeps the upload: whoever comes second has to wait with its body.
    let mut holder = site.connect()?;
    holder.send_head(&locked.patch_at(0).with("Content-Length", 1000))?;
    holder.raw.send(b"x")?;
    std::thread::scope(|scope| {
        let keeping = scope.spawn(move || {
            for _ in 0..15 {
                holder.raw.send(b"x")?;
                std::thread::sleep(Duration::from_millis(300));
            }
            Ok::<(), Failure>(())
        });
        beside_full_streams(site, &locked, &free, &content)?;
        keeping.join().map_err(|_| Failure::new("the holder panicked"))?
    })?;
    free.reads_back(&content)
}

/// Sends `content` to `free` on a connection where two streams to `locked` are full and wait.
fn beside_full_streams(
    site: &Site,
    locked: &Upload<'_>,
    free: &Upload<'_>,
    content: &[u8],
) -> Verdict {
    let host = &site.base.host;
    let mut session = site.session()?;
    let waiting = locked.patch_at(0).with("Content-Length", 10_000_000);
    let mut stuck = Vec::new();
    for _ in 0..2 {
        let mut stream = session.start(&waiting, host, false)?;
        let sent = session.fill(&mut stream, content);
        ensure(sent < content.len(), "a request that waits took its whole body")?;
        stuck.push(stream);
    }
    let begun = Instant::now();
    session.ask(&free.patch_at(0).body(content), host)?.is(204)?;
    let took = begun.elapsed();
    ensure(took < Duration::from_secs(3), format!("the neighbour took {took:?}"))?;
    stuck.into_iter().for_each(|stream| session.cancel(stream));
    Ok(())
}

fn garbage(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let path = &upload.path;
    let inputs: Vec<Vec<u8>> = vec![
        b"\r\n\r\n\r\n".to_vec(),
        b"\0\0\0\0\0\0\0\0\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"PATCH  /files HTTP/1.1\r\n\r\n".to_vec(),
        format!("PATCH {path} HTTP/1.1\r\nno colon here\r\n\r\n").into_bytes(),
        format!("PATCH {path} HTTP/1.1\r\nHost: x\r\n Upload-Offset: 0\r\n\r\n").into_bytes(),
        format!("PATCH {path} HTTP/1.1\r\nHost: x\r\nUpload-Offset : 0\r\n\r\n").into_bytes(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        bytes(5000, 74),
    ];
    let mut rows = Rows::new();
    for (index, input) in inputs.iter().enumerate() {
        rows.row(format!("input {index}"), || {
            let mut link = site.connect()?;
            // Whether it is answered or closed is the HTTP layer's business.
            let _ = link.raw.send(input);
            let _ = link.raw.half_close();
            let ended = link.raw.is_ended_within(Duration::from_secs(5))?;
            ensure(ended, "the connection is still open")?;
            upload.stands_at(0)
        });
    }
    rows.verdict()?;
    upload.completes_with(b"abc")
}

fn contradictions(site: &Site) -> Verdict {
    let upload = site.create(10)?;
    let framings = [
        "Content-Length: 3\r\nContent-Length: 5\r\n",
        "Content-Length: -3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 3x\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
    ];
    let bodies = [
        "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    ];
    let framings = framings.iter().map(|framing| format!("{framing}\r\nabc"));
    let mut rows = Rows::new();
    for tail in framings.chain(bodies.iter().map(|body| (*body).to_owned())) {
        rows.row(format!("{tail:?}"), || {
            let mut head = crate::http1::head(&upload.patch_at(0), &site.base.host);
            head.truncate(head.len() - 2);
            head.extend(tail.bytes());
            let mut link = site.connect()?;
            let _ = link.raw.send(&head);
            let _ = link.raw.half_close();
            if let Ok(answer) = link.raw.read_answer(&upload.patch_at(0)) {
                ensure(answer.status >= 400, format!("the answer is {}", answer.status))?;
            }
            upload.stands_at(0)
        });
    }
    rows.verdict()?;
    upload.completes_with(b"abcdefghij")
}

fn one_connection(site: &Site) -> Verdict {
    let (upload, complete) = (site.create(10)?, site.create_complete(b"abc")?);
    let patch = |offset: u64| upload.patch_at(offset);
    let requests = vec![
        (Request::plain("OPTIONS", site.collection()), 204),
        (upload.request("HEAD"), 200),
        (patch(0).body(b"abc"), 204),
        (patch(9).body(b""), 409),
        (patch(3).chunked(&[b"d", b"e"]), 204),
        // Refusals without a body: after one that was not read the server may close (D-48).
        (patch(0).body(b""), 409),
        (upload.request("PUT").body(b""), 405),
        (site.post().with("Upload-Length", 3).body(b""), 201),
        (site.post().body(b""), 400),
        (complete.request("GET"), 200),
        (complete.request("GET").with("Range", "bytes=1-1"), 206),
        (upload.request("GET"), 204),
        (Request::plain("GET", &upload.path), 404),
        (Request::tus("HEAD", &site.below("unknown")), 404),
        (patch(5).body(b"fghij"), 204),
        (complete.request("DELETE"), 204),
        (upload.request("HEAD"), 200),
    ];
    let mut link = site.connect()?;
    for (request, status) in requests {
        link.ask(&request)?.is(status)?;
    }
    upload.reads_back(b"abcdefghij")
}
