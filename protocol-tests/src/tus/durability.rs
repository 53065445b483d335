//! What survives the sudden death of the server, and a full disk.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::case::{Case, OWN};
use crate::content::{bytes, checksum, metadata};
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::server::Windlass;
use crate::site::Site;
use crate::tus::concatenation::{join, part, partial};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "kill_after_an_answer_loses_nothing",
        &["I-09", "I-01", "T-056", "T-048"],
        "offset, length, metadata, kind and content are as the last answers said; both durabilities",
        after_answers,
    )
    .under(OWN),
    Case::must(
        "kill_during_a_patch_keeps_what_was_shown",
        &["I-09", "I-11", "T-026", "D-47"],
        "the offset of the last HEAD is there, and of a long body all but the last second",
        during_patch,
    )
    .under(OWN)
    .waiting(),
    Case::must(
        "kill_during_a_checksummed_patch_shows_none_of_it",
        &["I-09", "T-084", "D-25"],
        "no unverified byte is visible after the restart, announced trailers included",
        during_checksum,
    )
    .under(OWN),
    Case::must(
        "kill_at_any_moment_leaves_a_truthful_offset",
        &["I-09", "I-01"],
        "small PATCHes without end, killed five times: resumed and read back each byte is right",
        any_moment,
    )
    .under(OWN)
    .waiting(),
    Case::ours(
        "kill_after_a_concatenation_keeps_the_final",
        &["I-09", "D-39", "D-49"],
        "a final answered a moment ago is whole after the restart, its parts deleted or not",
        after_join,
    )
    .under(OWN),
    Case::ours(
        "kill_with_a_pending_final_keeps_it_pending",
        &["I-09", "D-33", "T-109"],
        "a final over unfinished parts is pending after the restart and completes with its parts",
        pending_final,
    )
    .under(OWN),
    Case::must(
        "second_server_on_the_same_data_refuses_to_start",
        &["I-08"],
        "two processes never share a data directory; after kill -9 the next one starts at once",
        second_server,
    )
    .under(OWN),
    Case::ours(
        "full_disk_answers_5xx_and_the_truth",
        &["F-20", "I-06", "I-02", "D-45"],
        "507 or another 5xx, HEAD still works, and when there is space again the upload resumes",
        full_disk,
    )
    .under(OWN),
];

fn after_answers(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for durability in ["synced", "relaxed"] {
        rows.row(durability, || {
            let mut own = site.launch(&["--durability", durability])?;
            let content = bytes(10_000, 76);
            let (states, paths) = {
                let site = &own.site;
                let named = site.post().with("Upload-Length", 10_000);
                let named =
                    named.with("Upload-Metadata", metadata(&[("filename", "a"), ("b", "")]));
                let half = site.create_by(&named.body(b""))?;
                half.patch(0, &content[..5000])?.is(204)?;
                let deferred = site.create_deferred()?;
                deferred.patch(0, &content[..10])?.is(204)?;
                let declared = site.create_deferred()?;
                site.ask(&declared.patch_at(0).with("Upload-Length", 10_000).body(b""))?.is(204)?;
                let first = part(site, &content[..100])?;
                let joined = site.create_by(&join(site, &[&first, &first]))?;
                let complete = site.create_complete(&content)?;
                let new = site.create(1)?;
                let uploads = [half, deferred, declared, first, joined, complete, new];
                let states: Result<Vec<_>, _> =
                    uploads.iter().map(|upload| upload.state()).collect();
                (states?, uploads.map(|upload| upload.path))
            };
            own.crash_and_restart()?;
            for (path, state) in paths.iter().zip(states) {
                ensure_eq("the upload after the restart", own.site.upload(path).state()?, state)?;
            }
            for path in &paths[..3] {
                own.site.upload(path).completes_with(&content)?;
            }
            own.site.upload(&paths[4]).reads_back(&content[..100].repeat(2))?;
            own.site.upload(&paths[5]).reads_back(&content)
        });
    }
    rows.verdict()
}

fn during_patch(site: &Site) -> Verdict {
    const LENGTH: usize = 48 << 20;
    let content = bytes(LENGTH, 77);
    let mut rows = Rows::new();
    for look in [true, false] {
        rows.row(format!("HEAD before: {look}"), || {
            let mut own = site.launch(&[])?;
            let (path, shown) = {
                let upload = own.site.create(LENGTH as u64)?;
                let mut link = own.site.connect()?;
                link.send_head(&upload.patch_at(0).body(&content))?;
                link.raw.send(&content[..40 << 20])?;
                let shown = if look {
                    upload.reaches(40 << 20, Duration::from_secs(10))?;
                    40 << 20
                } else {
                    // A checkpoint is due every second, and one more for a slow disk; a byte now
                    // and then keeps the body alive meanwhile.
                    for byte in &content[40 << 20..(40 << 20) + 10] {
                        sleep(Duration::from_millis(300));
                        link.raw.send(&[*byte])?;
                    }
                    40 << 20
                };
                own.process.kill()?;
                (upload.path, shown)
            };
            own.restart()?;
            let upload = own.site.upload(&path);
            let offset = upload.offset()?;
            ensure(offset >= shown, format!("HEAD shows {offset} after {shown}"))?;
            upload.completes_with(&content)
        });
    }
    rows.verdict()
}

fn during_checksum(site: &Site) -> Verdict {
    let mut own = site.launch(&[])?;
    let content = bytes(5_000_000, 78);
    let path = {
        let upload = own.site.create(5_000_000)?;
        upload.patch(0, &content[..100])?.is(204)?;
        upload.path
    };
    for trailer in [false, true] {
        {
            let upload = own.site.upload(&path);
            let mut link = own.site.connect()?;
            let patch = upload.patch_at(100);
            if trailer {
                link.send_head(&patch.with("Trailer", "Upload-Checksum").chunked(&[]))?;
                link.raw.send_chunk(&content[100..])?;
            } else {
                let sum = checksum("sha1", &content[100..]);
                link.send_head(&patch.with("Upload-Checksum", sum).body(&content[100..]))?;
                link.raw.send(&content[100..4_999_999])?;
            }
            sleep(Duration::from_millis(300));
            upload.stands_at(100)?;
            own.process.kill()?;
        }
        own.restart()?;
        own.site.upload(&path).stands_at(100)?;
    }
    own.site.upload(&path).completes_with(&content)
}

fn any_moment(site: &Site) -> Verdict {
    const LENGTH: usize = 5_000_000;
    let mut own = site.launch(&[])?;
    let content = bytes(LENGTH, 79);
    let path = own.site.create(LENGTH as u64)?.path;
    for round in 0..5_u64 {
        std::thread::scope(|scope| {
            let (site, path, content) = (&own.site, &path, &content);
            // The client sends until the server is gone.
            let client = scope.spawn(move || {
                let upload = site.upload(path);
                let Ok(mut offset) = upload.offset() else {
                    return;
                };
                while let Some(piece) = content.get(offset as usize..offset as usize + 1777) {
                    match upload.patch(offset, piece) {
                        Ok(answer) if answer.status == 204 => offset += piece.len() as u64,
                        _ => return,
                    }
                }
            });
            sleep(Duration::from_millis(150 + 70 * round));
            let killed = own.process.kill();
            client.join().map_err(|_| Failure::new("the client panicked"))?;
            killed
        })?;
        own.restart()?;
        // The floor that answers set before the kill is checked by the watch (I-01, I-09).
        let shown = own.site.upload(&path).offset()?;
        let floor = own.site.floor(&own.site.upload(&path).request("HEAD")).unwrap_or(0);
        ensure(shown >= floor, format!("HEAD shows {shown}, an answer had shown {floor}"))?;
    }
    own.site.upload(&path).completes_with(&content)
}

fn after_join(site: &Site) -> Verdict {
    let mut own = site.launch(&[])?;
    let contents = [bytes(3_000_000, 80), bytes(2_000_000, 81)];
    let (joined, other) = {
        let parts = [part(&own.site, &contents[0])?, part(&own.site, &contents[1])?];
        let joined = own.site.create_by(&join(&own.site, &[&parts[0], &parts[1]]))?;
        let other = own.site.create_by(&join(&own.site, &[&parts[1], &parts[1]]))?;
        parts[0].delete()?.is(204)?;
        own.process.kill()?;
        (joined.path, other.path)
    };
    own.restart()?;
    own.site.upload(&joined).reads_back(&contents.concat())?;
    own.site.upload(&other).reads_back(&contents[1].repeat(2))?;
    sleep(Duration::from_millis(500));
    own.crash_and_restart()?;
    own.site.upload(&joined).reads_back(&contents.concat())?;
    own.site.upload(&other).reads_back(&contents[1].repeat(2))
}

fn pending_final(site: &Site) -> Verdict {
    let mut own = site.launch(&["--concatenation-unfinished"])?;
    let (parts, joined) = {
        let (whole, open) = (part(&own.site, b"abc")?, own.site.create_by(&partial(&own.site, 3))?);
        let answer = own.site.ask(&join(&own.site, &[&whole, &open, &whole]))?.is(201)?;
        let joined = own.site.created(&answer)?.path;
        ([whole.path, open.path], joined)
    };
    own.crash_and_restart()?;
    let joined = own.site.upload(&joined);
    joined.head()?.is(200)?.lacks("Upload-Offset")?.has("Upload-Length", 9)?;
    own.site.upload(&parts[1]).patch(0, b"def")?.is(204)?;
    joined.reads_back(b"abcdefabc")
}

fn second_server(site: &Site) -> Verdict {
    let mut own = site.launch(&[])?;
    let binary = own.site.binary.clone().ok_or_else(|| Failure::new("no server binary"))?;
    let begun = Instant::now();
    let status = Windlass::try_on(&binary, own.process.data())?;
    let took = begun.elapsed();
    ensure(!status.success(), "a second server on the same data ends without an error")?;
    ensure(took < Duration::from_secs(5), format!("it took {took:?} to refuse"))?;
    own.site.create_complete(b"abc")?.reads_back(b"abc")?;
    own.crash_and_restart()?;
    own.site.create_complete(b"abc")?.reads_back(b"abc")
}

fn full_disk(site: &Site) -> Verdict {
    const LIMIT_KIB: u64 = 1024;
    const LENGTH: usize = 3 << 20;
    let mut own = site.launch_with_full_disk(LIMIT_KIB)?;
    let content = bytes(LENGTH, 82);
    let path = {
        let upload = own.site.create(LENGTH as u64)?;
        upload.patch(0, &content[..1000])?.is(204)?;
        let request = upload.patch_at(1000).body(&content[1000..]).may_fail();
        let answer = own.site.ask(&request)?;
        ensure(answer.status >= 500, format!("the answer is {}", answer.status))?;
        let offset = upload.offset()?;
        let truthful = (1000..=LIMIT_KIB << 10).contains(&offset);
        ensure(truthful, format!("HEAD shows {offset}"))?;
        own.site.create(3)?.stands_at(0)?;
        upload.path
    };
    own.crash_and_restart()?;
    own.site.upload(&path).completes_with(&content)
}
