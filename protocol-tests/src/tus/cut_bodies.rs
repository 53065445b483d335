//! Bodies that end too early: lost connections, resets, silence.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::case::{BOTH, Case, Setup};
use crate::content::{bytes, checksum};
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::{Link, Site};
use crate::upload::Upload;

pub(super) const CASES: &[Case] = &[
    Case::should(
        "cut_patch_keeps_every_received_byte",
        &["T-024", "T-026", "D-24", "I-01", "I-03", "F-13"],
        "close, half-close and reset mid-body, sized and chunked: what arrived stays, the rest resumes",
        keeps,
    ),
    Case::should(
        "cut_patch_of_many_megabytes_keeps_them",
        &["T-026", "F-13", "F-14", "I-11"],
        "a single PATCH of 100 MB cut at 60 MB leaves all of the 60",
        keeps_megabytes,
    )
    .waiting(),
    Case::ours(
        "cut_stream_keeps_every_received_byte",
        &["D-58", "D-24", "T-024", "F-55"],
        "RST_STREAM over HTTP/2 counts as a broken connection",
        cut_stream,
    )
    .under(&[Setup::Http2]),
    Case::ours(
        "cut_patch_is_never_taken_for_a_whole_one",
        &["F-18", "T-048", "D-23"],
        "a cut body neither declares a length nor completes a deferred upload",
        never_whole,
    )
    .needing(&["creation", "creation-defer-length"]),
    Case::ours(
        "cut_patch_before_the_last_chunk_mark_can_be_resumed",
        &["F-18", "T-026", "I-01"],
        "all bytes came, the end of the chunked body did not: HEAD and PATCH still finish it",
        without_last_chunk,
    ),
    Case::should(
        "silent_patch_ends_without_an_answer",
        &["T-024", "T-025", "F-04", "F-32", "D-45"],
        "after the idle timeout the connection is closed, nothing is invented, the bytes are kept",
        silent,
    )
    .under(&[Setup::IdleTimeout])
    .waiting(),
    Case::should(
        "silent_stream_ends_with_a_reset",
        &["T-024", "T-025", "F-32"],
        "after the idle timeout an HTTP/2 stream is reset, and its neighbours live on",
        silent_stream,
    )
    .under(&[Setup::IdleTimeout])
    .waiting(),
    Case::should(
        "slow_patch_is_not_silent",
        &["T-024", "T-025"],
        "a byte now and then keeps a PATCH alive past the idle timeout",
        slow,
    )
    .under(&[Setup::IdleTimeout])
    .waiting(),
    Case::ours(
        "aborted_patches_in_numbers_leave_the_server_well",
        &["F-21", "D-24"],
        "hundreds of aborts in all phases, then everything still works",
        many_aborts,
    )
    .under(BOTH),
];

const SOON: Duration = Duration::from_secs(2);

/// Enough for the end of a connection to reach the server.
const UNNOTICED: Duration = Duration::from_millis(200);

/// Sends a PATCH head for `content` and the first `sent` bytes as they go on the wire.
fn start<'a>(
    upload: &Upload<'a>,
    framing: &str,
    content: &[u8],
    sent: usize,
) -> Result<Link<'a>, Failure> {
    let mut link = upload.site.connect()?;
    if framing == "sized" {
        link.send_head(&upload.patch_at(0).body(content))?;
        link.raw.send(&content[..sent])?;
    } else {
        link.send_head(&upload.patch_at(0).chunked(&[]))?;
        let half = sent / 2;
        link.raw.send_chunk(&content[..half])?;
        // The second chunk is announced whole and sent in part.
        link.raw.send(format!("{:x}\r\n", content.len() - half).as_bytes())?;
        link.raw.send(&content[half..sent])?;
    }
    Ok(link)
}

fn keeps(site: &Site) -> Verdict {
    let content = bytes(1000, 9);
    let mut rows = Rows::new();
    for framing in ["sized", "chunked"] {
        for cut in ["close", "half-close", "reset"] {
            for look in [true, false] {
                // A reset throws away what the server has not read: it must have looked first.
                if cut == "reset" && !look {
                    continue;
                }
                rows.row(format!("{framing}, {cut}, HEAD before: {look}"), || {
                    let upload = site.create(1000)?;
                    let link = start(&upload, framing, &content, 400)?;
                    if look {
                        upload.reaches(400, SOON)?;
                    }
                    let half_open = end(link, cut)?;
                    // The server must notice by itself: a HEAD too early would only show what
                    // a running PATCH has.
                    sleep(UNNOTICED);
                    upload.reaches(400, SOON)?;
                    drop(half_open);
                    upload.completes_with(&content)
                });
            }
        }
    }
    rows.verdict()
}

/// Ends a connection in this way; one whose other half stays open is given back.
fn end<'a>(link: Link<'a>, cut: &str) -> Result<Option<Link<'a>>, Failure> {
    match cut {
        "close" => Ok(None),
        "reset" => link.raw.reset().map(|()| None),
        _ => link.raw.half_close().map(|()| Some(link)),
    }
}

fn keeps_megabytes(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for (length, sent) in [(12 << 20, 5 << 20), (100_000_000, 60_000_000)] {
        rows.row(format!("{sent} of {length}"), || {
            let content = bytes(length, 10);
            let upload = site.create(length as u64)?;
            drop(start(&upload, "sized", &content, sent)?);
            upload.reaches(sent as u64, Duration::from_secs(10))?;
            upload.completes_with(&content)
        });
    }
    rows.verdict()
}

fn cut_stream(site: &Site) -> Verdict {
    let content = bytes(1000, 11);
    let mut rows = Rows::new();
    for way in ["reset stream", "lost connection"] {
        for look in [true, false] {
            rows.row(format!("{way}, HEAD before: {look}"), || {
                let upload = site.create(1000)?;
                let mut session = site.session()?;
                let patch = upload.patch_at(0).with("Content-Length", 1000);
                let mut stream = session.start(&patch, &site.base.host, false)?;
                session.send(&mut stream, &content[..400], false)?;
                if look {
                    upload.reaches(400, SOON)?;
                }
                if way == "reset stream" {
                    session.cancel(stream);
                    session.ask(&upload.request("HEAD"), &site.base.host)?.is(200)?;
                } else {
                    session.lose(stream);
                }
                sleep(UNNOTICED);
                upload.reaches(400, SOON)?;
                upload.completes_with(&content)
            });
        }
    }
    rows.verdict()
}

fn never_whole(site: &Site) -> Verdict {
    let content = bytes(1000, 12);
    let mut rows = Rows::new();
    for framing in ["sized", "chunked"] {
        rows.row(framing, || {
            let upload = site.create_deferred()?;
            drop(start(&upload, framing, &content, 400)?);
            upload.reaches(400, SOON)?;
            let state = upload.state()?;
            ensure_eq("the length", (state.length, state.deferred.as_deref()), (None, Some("1")))?;
            upload.get()?.is(404)?;
            upload.completes_with(&content)
        });
    }
    rows.verdict()
}

fn without_last_chunk(site: &Site) -> Verdict {
    let content = bytes(1000, 13);
    let upload = site.create(1000)?;
    let mut link = site.connect()?;
    link.send_head(&upload.patch_at(0).chunked(&[]))?;
    link.raw.send_chunk(&content)?;
    drop(link);
    sleep(Duration::from_millis(300));
    let offset = upload.offset()?;
    ensure(offset <= 1000, format!("HEAD shows {offset} of 1000"))?;
    upload.completes_with(&content)
}

fn silent(site: &Site) -> Verdict {
    let content = bytes(1000, 14);
    let mut rows = Rows::new();
    for framing in ["sized", "chunked"] {
        rows.row(framing, || {
            let upload = site.create(1000)?;
            let begun = Instant::now();
            let mut link = start(&upload, framing, &content, 400)?;
            ensure(link.raw.is_ended_within(Duration::from_secs(10))?, "the connection lives on")?;
            let took = begun.elapsed();
            ensure(took > Duration::from_millis(1500), format!("it was closed after {took:?}"))?;
            upload.stands_at(400)?;
            upload.completes_with(&content)
        });
    }
    rows.row("no answer at all", || {
        let upload = site.create(1000)?;
        let mut link = start(&upload, "sized", &content, 400)?;
        let answer = link.answer_to(&upload.patch_at(0));
        ensure(answer.is_err(), format!("the server answers {:?}", answer.map(|a| a.status)))
    });
    rows.row("with a checksum the bytes are dropped", || {
        let upload = site.create(1000)?;
        let mut link = site.connect()?;
        let sum = checksum("sha1", &content);
        link.send_head(&upload.patch_at(0).with("Upload-Checksum", sum).body(&content))?;
        link.raw.send(&content[..400])?;
        ensure(link.raw.is_ended_within(Duration::from_secs(10))?, "the connection lives on")?;
        upload.stands_at(0)?;
        upload.completes_with(&content)
    });
    rows.verdict()
}

fn silent_stream(site: &Site) -> Verdict {
    let upload = site.create(1000)?;
    let mut session = site.session()?;
    let patch = upload.patch_at(0).with("Content-Length", 1000);
    let mut stream = session.start(&patch, &site.base.host, false)?;
    session.send(&mut stream, &bytes(400, 15), false)?;
    let answer = session.read_answer(stream);
    ensure(answer.is_err(), format!("the server answers {:?}", answer.map(|a| a.status)))?;
    let options = Request::plain("OPTIONS", site.collection());
    session.ask(&options, &site.base.host)?.is_success()?;
    upload.stands_at(400)
}

fn slow(site: &Site) -> Verdict {
    let content = bytes(8, 16);
    let upload = site.create(8)?;
    let request = upload.patch_at(0).body(&content);
    let mut link = site.connect()?;
    link.send_head(&request)?;
    for byte in &content {
        link.raw.send(&[*byte])?;
        sleep(Duration::from_millis(600));
    }
    link.answer_to(&request)?.is(204)?;
    upload.reads_back(&content)
}

fn many_aborts(site: &Site) -> Verdict {
    let content = bytes(5000, 17);
    let upload = site.create(5000)?;
    for round in 0..200 {
        let mut link = site.connect()?;
        let request = upload.patch_at(upload.offset()?).body(&content);
        let head = crate::http1::head(&request, &site.base.host);
        // Every prefix of a request is a phase in which a client may die.
        link.raw.send(&head[..head.len() * (round % 20 + 1) / 20])?;
    }
    upload.stands_at(0)?;
    upload.completes_with(&content)
}
