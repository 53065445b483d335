//! Writers that fell silent: who may take over, and what becomes of their bytes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::case::{Case, Setup};
use crate::content::{bytes, checksum};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::{Link, Site};
use crate::upload::Upload;

/// More than the second after which a silent writer may be stopped (D-46).
const SILENCE: Duration = Duration::from_millis(1300);

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "silent_writer_is_displaced_by_a_patch",
        &["D-46", "F-03", "F-04", "I-08", "D-42"],
        "the newcomer proceeds at the offset of what arrived, the old one reads 423 and is closed",
        displaced,
    )
    .waiting(),
    Case::ours(
        "silent_writer_is_stopped_by_head",
        &["D-47", "F-03", "D-43"],
        "a PATCH at the offset that HEAD shows works at once, even for clients that never retry",
        stopped_by_head,
    )
    .waiting(),
    Case::ours(
        "silent_writer_and_a_stale_newcomer_meet_409",
        &["D-46", "D-09"],
        "the newcomer's own offset decides after the holder's bytes were committed",
        stale_newcomer,
    )
    .waiting(),
    Case::ours(
        "silent_writer_with_a_checksum_loses_its_bytes",
        &["D-46", "D-47", "T-084", "D-25"],
        "what was never verified is dropped, the newcomer starts where the chunk began",
        checksummed,
    )
    .waiting(),
    Case::ours(
        "silent_writer_that_wakes_up_late_writes_nothing",
        &["I-08", "D-46", "I-01"],
        "bytes that a displaced writer sends later do not reach the upload",
        late_bytes,
    )
    .waiting(),
    Case::ours(
        "vanished_client_is_back_within_two_seconds",
        &["F-03", "D-46", "D-47", "F-04"],
        "HEAD and PATCH on a new connection succeed although the old socket looks alive",
        vanished,
    )
    .waiting(),
    Case::ours(
        "silent_stream_is_displaced_like_a_connection",
        &["D-46", "D-44", "I-08"],
        "an HTTP/2 writer that fell silent reads 423, or 404 after a DELETE",
        silent_stream,
    )
    .under(&[Setup::Http2])
    .waiting(),
    Case::ours(
        "vanished_client_of_megabytes_is_back_soon",
        &["F-03", "D-46", "D-47", "F-13"],
        "also if the server still has megabytes to store; a 409 on the way is answered by HEAD",
        vanished_megabytes,
    )
    .waiting(),
    Case::ours(
        "silent_writer_is_removed_by_delete",
        &["F-05", "D-44"],
        "DELETE does not wait for it",
        deleted,
    )
    .waiting(),
];

/// A PATCH of 1000 bytes that stops after 400, with the connection still open.
fn hang<'a>(upload: &Upload<'a>, request: &Request, content: &[u8]) -> Result<Link<'a>, Failure> {
    let mut link = upload.site.connect()?;
    link.send_head(request)?;
    link.raw.send(&content[..400])?;
    Ok(link)
}

fn displaced(site: &Site) -> Verdict {
    let content = bytes(1000, 60);
    let upload = site.create(1000)?;
    let request = upload.patch_at(0).body(&content);
    let mut old = hang(&upload, &request, &content)?;
    sleep(SILENCE);
    let begun = Instant::now();
    upload.patch(400, &content[400..])?.is(204)?.has("Upload-Offset", 1000)?;
    let took = begun.elapsed();
    ensure(took < Duration::from_secs(2), format!("the newcomer waited {took:?}"))?;
    let answer = old.answer_to(&request)?.is(423)?;
    let answer = answer.has_code("ERR_UPLOAD_INTERRUPTED")?;
    ensure_eq(
        "Connection",
        answer.field("Connection").map(str::to_lowercase),
        Some("close".to_owned()),
    )?;
    ensure(old.raw.is_ended_within(Duration::from_secs(10))?, "the old connection lives on")?;
    upload.reads_back(&content)
}

fn stopped_by_head(site: &Site) -> Verdict {
    let content = bytes(1000, 61);
    let upload = site.create(1000)?;
    let request = upload.patch_at(0).body(&content);
    let _old = hang(&upload, &request, &content)?;
    sleep(SILENCE);
    let begun = Instant::now();
    upload.stands_at(400)?;
    upload.patch(400, &content[400..])?.is(204)?;
    let took = begun.elapsed();
    ensure(took < Duration::from_secs(1), format!("HEAD and PATCH took {took:?}"))?;
    upload.reads_back(&content)
}

fn stale_newcomer(site: &Site) -> Verdict {
    let content = bytes(1000, 62);
    let upload = site.create(1000)?;
    let request = upload.patch_at(0).body(&content);
    let _old = hang(&upload, &request, &content)?;
    sleep(SILENCE);
    site.ask(&request)?.is(409)?.has("Upload-Offset", 400)?;
    upload.completes_with(&content)
}

fn checksummed(site: &Site) -> Verdict {
    let content = bytes(1000, 63);
    let upload = site.create(1000)?;
    let request = upload.patch_at(0).with("Upload-Checksum", checksum("sha1", &content));
    let request = request.body(&content);
    for look in [false, true] {
        let mut old = hang(&upload, &request, &content)?;
        sleep(SILENCE);
        if look {
            upload.stands_at(0)?;
        }
        let sum = checksum("sha1", &content[..10]);
        let wrong = upload.patch_at(0).with("Upload-Checksum", sum).body(&content[..20]);
        site.ask(&wrong)?.is(460)?;
        old.answer_to(&request)?.is(423)?;
        upload.stands_at(0)?;
    }
    site.ask(&request)?.is(204)?;
    upload.reads_back(&content)
}

fn late_bytes(site: &Site) -> Verdict {
    let (content, other) = (bytes(1000, 64), bytes(1000, 65));
    let upload = site.create(1000)?;
    let request = upload.patch_at(0).body(&content);
    let mut old = hang(&upload, &request, &content)?;
    sleep(SILENCE);
    upload.patch(400, &other[400..700])?.is(204)?;
    // The old connection may be closed by now; what matters is what its bytes do not do.
    let _ = old.raw.send(&content[400..]);
    sleep(Duration::from_millis(200));
    upload.stands_at(700)?;
    upload.patch(700, &other[700..])?.is(204)?;
    upload.reads_back(&[&content[..400], &other[400..]].concat())
}

fn vanished(site: &Site) -> Verdict {
    let content = bytes(1000, 66);
    let upload = site.create(1000)?;
    let request = upload.patch_at(0).body(&content);
    let _old = hang(&upload, &request, &content)?;
    let begun = Instant::now();
    upload.reaches(400, Duration::from_secs(1))?;
    upload.patch(400, &content[400..])?.is(204)?;
    let took = begun.elapsed();
    ensure(took < Duration::from_millis(2500), format!("it took {took:?}"))?;
    upload.reads_back(&content)
}

fn vanished_megabytes(site: &Site) -> Verdict {
    const SENT: usize = 30 << 20;
    let content = bytes(SENT + 1000, 102);
    let upload = site.create(content.len() as u64)?;
    let mut old = site.connect()?;
    old.send_head(&upload.patch_at(0).body(&content))?;
    old.raw.send(&content[..SENT])?;
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let offset = upload.offset()?;
        let at = usize::try_from(offset).map_err(Failure::new)?;
        // What is already in the server's buffers may still move the offset.
        if upload.patch(offset, &content[at..])?.is_one_of(&[204, 409])?.status == 204 {
            break;
        }
        ensure(Instant::now() < deadline, "only 409 for five seconds")?;
    }
    upload.reads_back(&content)
}

fn deleted(site: &Site) -> Verdict {
    let content = bytes(1000, 67);
    let upload = site.create(1000)?;
    let request = upload.patch_at(0).body(&content);
    let mut old = hang(&upload, &request, &content)?;
    sleep(SILENCE);
    let begun = Instant::now();
    upload.delete()?.is(204)?;
    ensure(begun.elapsed() < Duration::from_secs(1), "DELETE waited")?;
    upload.is_gone(404)?;
    old.answer_to(&request)?.is(404)?;
    Ok(())
}

fn silent_stream(site: &Site) -> Verdict {
    let content = bytes(1000, 101);
    for delete in [false, true] {
        let upload = site.create(1000)?;
        let mut session = site.session()?;
        let patch = upload.patch_at(0).with("Content-Length", 1000);
        let mut old = session.start(&patch, &site.base.host, false)?;
        session.send(&mut old, &content[..400], false)?;
        sleep(SILENCE);
        if delete {
            upload.delete()?.is(204)?;
            session.read_answer(old)?.is(404)?;
            upload.is_gone(404)?;
        } else {
            upload.patch(400, &content[400..])?.is(204)?;
            session.read_answer(old)?.is(423)?;
            upload.reads_back(&content)?;
        }
    }
    Ok(())
}
