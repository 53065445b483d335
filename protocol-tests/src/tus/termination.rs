//! The termination extension: DELETE.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::case::{BOTH, Case, OWN, Setup};
use crate::content::bytes;
use crate::failure::{Rows, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::{Own, Site};
use crate::tus::concatenation::{join, part};

const EXTENSIONS: &[&str] = &["creation", "termination"];

pub(super) const CASES: &[Case] = &[
    Case::must(
        "delete_of_any_upload_answers_204",
        &["T-090", "T-091", "T-092", "D-15"],
        "new, half, complete, deferred, partial, final: 204, then 404 to every method at once",
        any_upload,
    )
    .needing(&["creation", "termination", "concatenation", "creation-defer-length"])
    .under(BOTH),
    Case::ours(
        "delete_of_an_unknown_upload_answers_404",
        &["D-15", "T-092", "F-55"],
        "also the second DELETE of the same upload, never 410",
        unknown,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::ours(
        "delete_is_framed_for_the_next_request",
        &["F-48", "0.4"],
        "DELETE without a body and without Content-Length, then more on the same connection",
        framed,
    )
    .needing(EXTENSIONS),
    Case::must(
        "delete_gives_the_space_back",
        &["T-091", "T-092"],
        "the files of an upload, unfinished or complete, leave the data directory",
        gives_space,
    )
    .under(OWN),
    Case::must(
        "delete_of_finals_and_parts_gives_all_space_back",
        &["T-091", "D-39"],
        "in whatever order finals and their parts go, in the end no byte of them is left",
        gives_joined_space,
    )
    .under(OWN)
    .waiting(),
    Case::ours(
        "delete_of_an_upload_outlives_a_restart",
        &["T-092", "D-15"],
        "a deleted upload stays unknown after kill -9",
        stays_deleted,
    )
    .under(OWN),
    Case::ours(
        "delete_of_a_needed_part_ends_the_pending_final",
        &["D-33"],
        "DELETE of the part is 204, HEAD of the pending final becomes 404, its GET 410",
        needed_part,
    )
    .needing(&["creation", "termination", "concatenation", "concatenation-unfinished"])
    .under(&[Setup::PendingFinals]),
];

fn any_upload(site: &Site) -> Verdict {
    let partial =
        |length: u64| site.post().with("Upload-Length", length).with("Upload-Concat", "partial");
    let half = site.create(6)?;
    half.patch(0, b"abc")?.is(204)?;
    let part = site.create_by(&partial(0).body(b""))?;
    let join = site.post().with("Upload-Concat", format!("final;{}", part.path)).body(b"");
    let joined = site.create_by(&join)?;
    let uploads = [
        ("new", site.create(6)?),
        ("half", half),
        ("complete", site.create_complete(b"abc")?),
        ("empty", site.create(0)?),
        ("deferred", site.create_deferred()?),
        ("open partial", site.create_by(&partial(3).body(b""))?),
        ("final", joined),
        ("complete partial", part),
    ];
    let mut rows = Rows::new();
    for (name, upload) in &uploads {
        rows.row(name, || {
            upload.delete()?.is(204)?.has_body(b"")?;
            upload.is_gone(404)?;
            upload.delete()?.is(404)?;
            upload.head()?.is(404)?.lacks("Upload-Offset").map(drop)
        });
    }
    rows.verdict()
}

fn unknown(site: &Site) -> Verdict {
    site.upload(&site.below("unknown")).delete()?.is(404)?;
    let upload = site.create(3)?;
    upload.delete()?.is(204)?;
    upload.delete()?.is(404)?;
    upload.delete()?.is(404)?;
    Ok(())
}

fn framed(site: &Site) -> Verdict {
    let uploads = [site.create(3)?, site.create_complete(b"abc")?];
    let mut link = site.connect()?;
    for upload in &uploads {
        link.ask(&upload.request("DELETE"))?.is(204)?;
        link.ask(&upload.request("DELETE").body(b""))?.is(404)?;
        link.ask(&Request::plain("OPTIONS", site.collection()))?.is_success()?;
    }
    Ok(())
}

fn gives_space(site: &Site) -> Verdict {
    let own = site.launch(&[])?;
    let content = bytes(2_000_000, 43);
    // The first upload may make files that every server has.
    own.site.create_complete(b"abc")?.delete()?.is(204)?;
    let half = own.site.create(3_000_000)?;
    half.patch(0, &content)?.is(204)?;
    let complete = own.site.create_complete(&content)?;
    half.delete()?.is(204)?;
    complete.delete()?.is(204)?;
    no_large_file_stays(&own)
}

/// Waits until nothing in the data directory is larger than records are.
fn no_large_file_stays(own: &Own) -> Verdict {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut files = own.process.files();
        files.retain(|(_, size)| *size >= 100_000);
        if files.is_empty() {
            return Ok(());
        }
        ensure(Instant::now() < deadline, format!("files are left: {files:?}"))?;
        sleep(Duration::from_millis(50));
    }
}

fn gives_joined_space(site: &Site) -> Verdict {
    let own = site.launch(&[])?;
    let content = bytes(1_000_000, 107);
    let mut rows = Rows::new();
    for order in ["parts first", "final first", "part, final, part", "final at once"] {
        for pause in [0, 700] {
            rows.row(format!("{order}, after {pause} ms"), || {
                let parts = [part(&own.site, &content)?, part(&own.site, &content)?];
                let joined = join(&own.site, &[&parts[0], &parts[1], &parts[0]]);
                let joined = own.site.create_by(&joined)?;
                sleep(Duration::from_millis(pause));
                let uploads = match order {
                    "parts first" => [&parts[0], &parts[1], &joined],
                    "part, final, part" => [&parts[0], &joined, &parts[1]],
                    _ => [&joined, &parts[0], &parts[1]],
                };
                for upload in uploads {
                    upload.delete()?.is(204)?;
                    if order == "parts first" {
                        sleep(Duration::from_millis(pause));
                    }
                }
                no_large_file_stays(&own)
            });
        }
    }
    rows.verdict()
}

fn stays_deleted(site: &Site) -> Verdict {
    let mut own = site.launch(&[])?;
    let paths = {
        let half = own.site.create(6)?;
        half.patch(0, b"abc")?.is(204)?;
        let complete = own.site.create_complete(b"abc")?;
        half.delete()?.is(204)?;
        complete.delete()?.is(204)?;
        [half.path, complete.path]
    };
    own.crash_and_restart()?;
    for path in &paths {
        own.site.upload(path).is_gone(404)?;
    }
    Ok(())
}

fn needed_part(site: &Site) -> Verdict {
    let partial = site.post().with("Upload-Length", 3).with("Upload-Concat", "partial").body(b"");
    let (kept, deleted) = (site.create_by(&partial)?, site.create_by(&partial)?);
    let list = format!("final;{} {}", kept.path, deleted.path);
    let joined = site.create_by(&site.post().with("Upload-Concat", list).body(b""))?;
    joined.head()?.is(200)?.lacks("Upload-Offset")?;
    deleted.delete()?.is(204)?;
    joined.head()?.is(404)?.lacks("Upload-Offset")?;
    joined.get()?.is(410)?;
    kept.patch(0, b"abc")?.is(204)?;
    joined.head()?.is(404)?;
    ensure_eq("the other part", kept.offset()?, 3)
}
