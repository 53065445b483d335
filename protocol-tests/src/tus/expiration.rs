//! The expiration extension.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::case::{Case, OWN, Setup};
use crate::content::{bytes, checksum};
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::site::Site;
use crate::upload::Upload;

const EXPIRY: &[Setup] = &[Setup::Expiry];
const EXTENSIONS: &[&str] = &["creation", "expiration"];

/// Long enough for an upload that expires after two seconds to be gone.
const GONE: Duration = Duration::from_secs(12);

pub(super) const CASES: &[Case] = &[
    Case::must(
        "expiry_is_shown_while_an_upload_will_expire",
        &["T-070", "T-071", "T-072", "T-075", "D-50", "F-29", "0.4"],
        "Upload-Expires on POST, HEAD and PATCH of an unfinished upload, with or without body and type",
        shown,
    )
    .needing(EXTENSIONS)
    .under(EXPIRY),
    Case::must(
        "expiry_is_shown_on_refused_patches_too",
        &["T-071", "I-03"],
        "409, 413, 460 and 400 to a PATCH carry Upload-Expires, and do not move it",
        shown_on_refusals,
    )
    .needing(EXTENSIONS)
    .under(EXPIRY),
    Case::must(
        "expiry_is_not_shown_on_a_complete_upload",
        &["T-070", "D-50", "T-052"],
        "the PATCH that completes, a later HEAD and a POST of length 0 carry none",
        not_shown,
    )
    .needing(EXTENSIONS)
    .under(EXPIRY),
    Case::ours(
        "expiry_is_never_shown_without_the_extension",
        &["T-070", "D-50"],
        "no Upload-Expires if nothing expires",
        never_shown,
    ),
    Case::should(
        "expired_upload_answers_410",
        &["T-074", "D-15", "T-014", "D-01"],
        "PATCH at any offset and GET answer 410, HEAD and DELETE 404",
        answers_410,
    )
    .needing(EXTENSIONS)
    .under(EXPIRY)
    .waiting(),
    Case::should(
        "expired_upload_gives_its_space_back",
        &["T-070", "T-074"],
        "its bytes leave the data directory; the tombstone outlives a restart",
        gives_space,
    )
    .under(OWN)
    .waiting(),
    Case::should(
        "expired_upload_answers_410_after_downtime",
        &["T-074", "T-070", "I-09"],
        "an upload whose date passed while the server was down is gone at once, a complete one is not",
        after_downtime,
    )
    .under(OWN)
    .waiting(),
    Case::may(
        "expiry_slides_with_every_byte",
        &["T-073"],
        "each byte moves Upload-Expires on, past the first date; HEAD and empty PATCHes do not",
        slides,
    )
    .needing(EXTENSIONS)
    .under(EXPIRY)
    .waiting(),
    Case::may(
        "expiry_spares_an_upload_with_a_running_patch",
        &["T-073"],
        "a PATCH that lasts longer than the period is never expired under way",
        spares_running,
    )
    .needing(EXTENSIONS)
    .under(EXPIRY)
    .waiting(),
    Case::must(
        "expiry_spares_complete_uploads",
        &["T-070", "F-57", "F-55"],
        "a complete upload and a complete final are there after the period",
        spares_complete,
    )
    .needing(&["creation", "expiration", "concatenation"])
    .under(EXPIRY)
    .waiting(),
    Case::ours(
        "expiry_takes_partials_and_leaves_their_final",
        &["T-072", "D-39"],
        "complete partials carry Upload-Expires and go; the final made of them stays whole",
        takes_partials,
    )
    .needing(&["creation", "expiration", "concatenation"])
    .under(EXPIRY)
    .waiting(),
];

/// Upload-Expires as seconds of the day, which is enough to compare dates of one test.
fn seconds(expires: &str) -> Result<u64, Failure> {
    let time = expires.split(' ').nth(4).unwrap_or_default();
    let parts: Vec<u64> = time.split(':').filter_map(|part| part.parse().ok()).collect();
    match parts[..] {
        [hours, minutes, seconds] => Ok(hours * 3600 + minutes * 60 + seconds),
        _ => Err(Failure::new(format!("Upload-Expires {expires:?}"))),
    }
}

fn expires(upload: &Upload<'_>) -> Result<String, Failure> {
    upload.state()?.expires.ok_or_else(|| Failure::new("HEAD shows no Upload-Expires"))
}

fn shown(site: &Site) -> Verdict {
    let post = site.post().with("Upload-Length", 6);
    let requests = [
        post.clone(),
        post.clone().body(b""),
        post.clone().octets().body(b"abc"),
        post.with("Upload-Concat", "partial").body(b""),
        site.post().with("Upload-Defer-Length", 1).body(b""),
    ];
    let mut rows = Rows::new();
    for (index, request) in requests.iter().enumerate() {
        rows.row(format!("POST {index}"), || {
            let answer = site.ask(request)?.is(201)?.carries("Upload-Expires")?;
            let upload = site.created(&answer)?;
            upload.head()?.is(200)?.carries("Upload-Expires")?;
            let offset = upload.offset()?;
            upload.patch(offset, b"x")?.is(204)?.carries("Upload-Expires")?;
            upload.patch(offset + 1, b"")?.is(204)?.carries("Upload-Expires")?;
            Ok(())
        });
    }
    rows.verdict()
}

fn shown_on_refusals(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let patch = || upload.patch_at(0).body(b"abc");
    let table = [
        (upload.patch_at(1).body(b"ab"), 409),
        (upload.patch_at(0).body(b"abcd"), 413),
        (upload.patch_at(0).chunked(&[b"abcd"]), 413),
        (patch().with("Upload-Checksum", checksum("sha1", b"x")), 460),
        (patch().with("Upload-Length", 4), 400),
    ];
    let mut rows = Rows::new();
    for (request, status) in table {
        rows.row(status, || site.ask(&request)?.is(status)?.carries("Upload-Expires").map(drop));
    }
    rows.verdict()
}

fn not_shown(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    upload.patch(0, b"abc")?.is(204)?.lacks("Upload-Expires")?;
    upload.head()?.is(200)?.lacks("Upload-Expires")?;
    let empty = site.post().with("Upload-Length", 0).body(b"");
    site.ask(&empty)?.is(201)?.lacks("Upload-Expires")?;
    let whole = site.post().octets().with("Upload-Length", 3).body(b"abc");
    site.ask(&whole)?.is(201)?.lacks("Upload-Expires")?;
    Ok(())
}

fn never_shown(site: &Site) -> Verdict {
    if site.offers("expiration")? {
        return Ok(());
    }
    let post = site.post().with("Upload-Length", 3).body(b"");
    let answer = site.ask(&post)?.is(201)?.lacks("Upload-Expires")?;
    let upload = site.created(&answer)?;
    upload.head()?.is(200)?.lacks("Upload-Expires")?;
    upload.patch(0, b"a")?.is(204)?.lacks("Upload-Expires")?;
    Ok(())
}

/// Waits until HEAD no longer succeeds.
fn wait_for_end(upload: &Upload<'_>) -> Verdict {
    let deadline = Instant::now() + GONE;
    while upload.head()?.status == 200 {
        ensure(Instant::now() < deadline, format!("the upload is still there after {GONE:?}"))?;
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn answers_410(site: &Site) -> Verdict {
    let upload = site.create(6)?;
    upload.patch(0, b"abc")?.is(204)?;
    let untouched = site.create_deferred()?;
    let kept = expires(&upload)?;
    ensure(!kept.is_empty(), "no date")?;
    for upload in [upload, untouched] {
        wait_for_end(&upload)?;
        upload.is_expired()?;
        upload.patch(3, b"def")?.is(410)?;
        upload.patch(77, b"")?.is(410)?;
        // A HEAD that a cache has turned.
        upload.site.ask(&upload.request("GET"))?.is(404)?.has_code("ERR_UPLOAD_EXPIRED")?;
        upload.delete()?.is(404)?;
        upload.is_expired()?;
    }
    Ok(())
}

fn gives_space(site: &Site) -> Verdict {
    let mut own = site.launch(&["--expire-after", "2s"])?;
    let content = bytes(5_000_000, 32);
    let upload = own.site.create(6_000_000)?;
    upload.patch(0, &content)?.is(204)?;
    let path = upload.path.clone();
    wait_for_end(&upload)?;
    let deadline = Instant::now() + GONE;
    while own.process.files().iter().any(|(_, size)| *size >= 1_000_000) {
        ensure(Instant::now() < deadline, "the bytes are still in the data directory")?;
        sleep(Duration::from_millis(100));
    }
    own.crash_and_restart()?;
    own.site.upload(&path).is_expired()
}

fn after_downtime(site: &Site) -> Verdict {
    let mut own = site.launch(&["--expire-after", "2s"])?;
    let (open, complete) = {
        let upload = own.site.create(6)?;
        upload.patch(0, b"abc")?.is(204)?;
        (upload.path, own.site.create_complete(b"abc")?.path)
    };
    own.process.kill()?;
    sleep(Duration::from_millis(3500));
    own.restart()?;
    own.site.upload(&open).is_expired()?;
    own.site.upload(&complete).reads_back(b"abc")
}

fn slides(site: &Site) -> Verdict {
    let upload = site.create(100)?;
    let first = seconds(&expires(&upload)?)?;
    let mut last = first;
    for offset in 0..5 {
        sleep(Duration::from_millis(1100));
        let answer = upload.patch(offset, b"x")?.is(204)?.carries("Upload-Expires")?;
        let next = seconds(answer.field("Upload-Expires").unwrap_or_default())?;
        // Midnight in the middle of the case is the one time when the day's seconds fall.
        ensure(next >= last || next < 60, format!("Upload-Expires went from {last} to {next}"))?;
        last = next;
    }
    ensure(last > first || last < 60, format!("Upload-Expires stayed at {first}"))?;
    upload.stands_at(5)
}

fn spares_running(site: &Site) -> Verdict {
    let content = bytes(12, 33);
    let upload = site.create(12)?;
    let request = upload.patch_at(0).body(&content);
    let mut link = site.connect()?;
    link.send_head(&request)?;
    for byte in &content {
        link.raw.send(&[*byte])?;
        sleep(Duration::from_millis(400));
    }
    link.answer_to(&request)?.is(204)?;
    upload.reads_back(&content)?;

    let silent = site.create(12)?;
    let request = silent.patch_at(0).body(&content);
    let mut link = site.connect()?;
    link.send_head(&request)?;
    link.raw.send(&content[..6])?;
    // Nobody asks meanwhile: a HEAD would stop a writer that has been silent for so long.
    sleep(Duration::from_millis(4500));
    link.raw.send(&content[6..])?;
    link.answer_to(&request)?.is(204)?;
    silent.reads_back(&content)?;

    // Bytes that are not verified yet move no date: only the running PATCH keeps this one.
    let checked = site.create(12)?;
    let request = checked.patch_at(0).with("Upload-Checksum", checksum("sha1", &content));
    let request = request.body(&content);
    let mut link = site.connect()?;
    link.send_head(&request)?;
    for byte in &content {
        link.raw.send(&[*byte])?;
        sleep(Duration::from_millis(400));
        checked.head()?.is(200)?;
    }
    link.answer_to(&request)?.is(204)?;
    checked.reads_back(&content)
}

fn spares_complete(site: &Site) -> Verdict {
    let whole = site.create_complete(b"abc")?;
    let empty = site.create(0)?;
    let part = site.post().octets().with("Upload-Length", 3).with("Upload-Concat", "partial");
    let part = site.create_by(&part.body(b"def"))?;
    let join = site.post().with("Upload-Concat", format!("final;{}", part.path)).body(b"");
    let joined = site.create_by(&join)?;
    sleep(Duration::from_secs(5));
    whole.reads_back(b"abc")?;
    empty.reads_back(b"")?;
    joined.reads_back(b"def")
}

fn takes_partials(site: &Site) -> Verdict {
    let contents = [bytes(1000, 34), bytes(2000, 35)];
    let mut parts = Vec::new();
    for content in &contents {
        let post = site.post().octets().with("Upload-Length", content.len());
        let answer = site.ask(&post.with("Upload-Concat", "partial").body(content))?.is(201)?;
        parts.push(site.created(&answer.carries("Upload-Expires")?)?);
    }
    let list = parts.iter().map(|part| part.path.as_str()).collect::<Vec<_>>().join(" ");
    let join = site.post().with("Upload-Concat", format!("final;{list}")).body(b"");
    let joined = site.create_by(&join)?;
    joined.head()?.is(200)?.lacks("Upload-Expires")?;
    parts[0].head()?.is(200)?.carries("Upload-Expires")?;
    for part in &parts {
        wait_for_end(part)?;
        part.is_expired()?;
    }
    ensure_eq("the final's offset", joined.offset()?, 3000)?;
    joined.reads_back(&contents.concat())
}
