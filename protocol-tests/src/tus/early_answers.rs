//! Answers that are decided before the body is read.

use std::time::{Duration, Instant};

use crate::case::{Case, Setup};
use crate::content::bytes;
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::message::{Body, Request};
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "expect_continue_with_a_refusal_gets_no_100",
        &["D-14", "T-064", "F-42", "I-03", "I-04"],
        "a refused Expect: 100-continue gets the final status alone, before any body byte",
        refused,
    ),
    Case::ours(
        "expect_continue_with_an_accepted_request_gets_one_100",
        &["D-14", "F-42", "T-064"],
        "exactly one 100, then the body is taken; sized, chunked, PATCH and POST",
        accepted,
    ),
    Case::ours(
        "expect_without_waiting_works",
        &["D-14", "D-45"],
        "a client that sends Expect and its body at once, or an unknown expectation, is served",
        impatient,
    ),
    Case::ours(
        "early_answer_reaches_a_client_in_mid_send",
        &["D-48", "F-41", "I-03"],
        "a blocking client that sends 8 or 15 MiB before it reads still reads the refusal",
        mid_send,
    ),
    Case::ours(
        "early_answer_comes_before_the_body",
        &["D-48", "D-01"],
        "the refusal is there while the body is still to come; the connection ends within 10 s",
        before_body,
    )
    .waiting(),
    Case::ours(
        "early_answer_stops_an_endless_body",
        &["D-48"],
        "a body far above 16 MiB is not read to its end",
        endless,
    ),
    Case::ours(
        "early_answer_over_http2_ends_the_stream_gently",
        &["D-48"],
        "the full answer, END_STREAM, then RST_STREAM(NO_ERROR); the connection lives on",
        http2,
    )
    .under(&[Setup::Http2]),
];

/// PATCH and POST requests with a body of `body`, each with one fault, and their status.
fn faulty(site: &Site, body: &[u8]) -> Result<Vec<(Request, u16)>, Failure> {
    let upload = site.create(body.len() as u64)?;
    let small = site.create(1)?;
    let patch = || upload.patch_at(0).body(body);
    let post = || site.post().octets().with("Upload-Length", body.len()).body(body);
    Ok(vec![
        (upload.patch_at(7).body(body), 409),
        (small.patch_at(0).body(body), 413),
        (patch().set("Content-Type", "text/plain"), 415),
        (patch().set("Tus-Resumable", "9"), 412),
        (patch().set("Upload-Offset", "x"), 400),
        (patch().with("Upload-Length", "1"), 400),
        (patch().with("Upload-Checksum", "sha1"), 400),
        (Request::patch(&site.below("unknown"), 0).body(body), 404),
        (patch().method("PUT"), 405),
        (post().set("Tus-Resumable", "9"), 412),
        (post().set("Upload-Length", "x"), 400),
        (post().set("Upload-Length", "1"), 413),
        (post().with("Upload-Concat", "x"), 400),
        (post().with("Upload-Metadata", "a !!!"), 400),
        (post().with("Upload-Metadata", format!("a {}", "YWFh".repeat(5000))), 431),
    ])
}

fn refused(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for (request, status) in faulty(site, &bytes(100, 18))? {
        rows.row(format!("{} {status}", request.about()), || {
            let request = request.with("Expect", "100-continue");
            let mut link = site.connect()?;
            link.send_head(&request)?;
            let answer = link.answer_to(&request)?.is(status)?.lacks("Location")?;
            ensure_eq("the interim answers", answer.interim, Vec::new())
        });
    }
    rows.verdict()
}

fn accepted(site: &Site) -> Verdict {
    let content = bytes(100, 19);
    let post = site.post().octets().with("Upload-Length", 100);
    let mut rows = Rows::new();
    for framing in ["sized", "chunked"] {
        let framed = |request: Request| match framing {
            "sized" => request.body(&content),
            _ => request.chunked(&[&content]),
        };
        rows.row(format!("PATCH, {framing}"), || {
            let upload = site.create(100)?;
            continues(site, &framed(upload.patch_at(0)), 204)?;
            upload.reads_back(&content)
        });
        rows.row(format!("POST, {framing}"), || continues(site, &framed(post.clone()), 201));
    }
    rows.verdict()
}

/// Sends a head with `Expect`, waits for the 100, sends the body and reads the final status.
fn continues(site: &Site, request: &Request, status: u16) -> Verdict {
    let request = request.clone().with("Expect", "100-continue");
    let mut link = site.connect()?;
    link.send_head(&request)?;
    let first = link.raw.read_head()?;
    ensure_eq("the interim status", first.status, 100)?;
    if let Body::Chunked(..) = &request.body {
        link.raw.send_chunk(&request.body.bytes())?;
        link.raw.send(b"0\r\n\r\n")?;
    } else {
        link.raw.send(&request.body.bytes())?;
    }
    let answer =
        link.answer_to(&request)?.is(status)?.has("Upload-Offset", request.body.length())?;
    ensure_eq("further interim answers", answer.interim, Vec::new())
}

fn impatient(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for expectation in ["100-continue", "100-Continue", "something-else"] {
        rows.row(expectation, || {
            let upload = site.create(3)?;
            let request = upload.patch_at(0).with("Expect", expectation).body(b"abc");
            site.ask(&request)?.is(204)?;
            upload.reads_back(b"abc")
        });
    }
    rows.verdict()
}

fn mid_send(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    // The 8 MiB that were seen in the wild; then almost all that the server promises to drain,
    // which is more than both kernels buffer, for a few of the requests.
    for (length, every) in [(8 << 20, 1), (15 << 20, 5)] {
        for (request, status) in faulty(site, &bytes(length, 20))?.into_iter().step_by(every) {
            rows.row(format!("{} {status}, {length} bytes", request.about()), || {
                let mut link = site.connect()?;
                link.raw.shrink()?;
                link.ask_unbroken(&request)?.is(status)?.lacks("Location").map(drop)
            });
        }
    }
    rows.verdict()
}

fn before_body(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    let requests = faulty(site, &bytes(1 << 20, 21))?;
    // One of each kind is enough: the connection is held open for seconds.
    for (request, status) in requests.into_iter().step_by(5) {
        rows.row(format!("{} {status}", request.about()), || {
            let mut link = site.connect()?;
            let begun = Instant::now();
            link.send_head(&request)?;
            link.raw.send(b"some")?;
            link.answer_to(&request)?.is(status)?;
            let took = begun.elapsed();
            ensure(took < Duration::from_secs(2), format!("the answer took {took:?}"))?;
            let ended = link.raw.is_ended_within(Duration::from_secs(10))?;
            ensure(ended, "the connection is still open after 10 s")
        });
    }
    rows.verdict()
}

fn endless(site: &Site) -> Verdict {
    const BODY: u64 = 256 << 20;
    let upload = site.create(BODY)?;
    let request = upload.patch_at(7).with("Content-Length", BODY);
    let mut link = site.connect()?;
    link.send_head(&request)?;
    let piece = bytes(1 << 20, 22);
    let mut sent = 0;
    while sent < BODY && link.raw.send(&piece).is_ok() {
        sent += piece.len() as u64;
    }
    // 16 MiB and what the kernel buffers on both sides.
    ensure(sent <= 64 << 20, format!("the server read {sent} bytes of a refused body"))?;
    upload.stands_at(0)
}

fn http2(site: &Site) -> Verdict {
    let body = bytes(100_000, 23);
    let mut rows = Rows::new();
    let mut session = site.session()?;
    for (request, status) in faulty(site, &body)? {
        rows.row(format!("{} {status}", request.about()), || {
            let mut stream = session.start(&request, &site.base.host, false)?;
            session.send(&mut stream, &body[..10], false)?;
            let (answer, reset) = session.read_answer_and_reset(stream)?;
            answer.is(status)?;
            ensure_eq("the reset after the answer", reset, Some(0))
        });
    }
    rows.verdict()
}
