//! Completion: what a complete upload is, on the wire and in the data directory.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::case::{BOTH, Case, OWN};
use crate::content::bytes;
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::{Own, Site};
use crate::tus::concatenation::{join, part};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "complete_upload_is_readable_with_its_answer",
        &["I-05", "D-49", "F-22", "I-01"],
        "whoever reads the 204 or 201 that completes can read the whole file",
        readable,
    )
    .under(BOTH),
    Case::must(
        "complete_upload_is_published_whole",
        &["I-05", "F-22", "D-49", "T-102"],
        "a file named like the id appears with completion, holding exactly the bytes, never before",
        published,
    )
    .under(OWN),
    Case::ours(
        "complete_final_becomes_a_plain_file",
        &["D-49", "F-22", "F-34", "F-35"],
        "one file with the bytes of the parts in order, also if the parts are deleted meanwhile",
        final_published,
    )
    .under(OWN)
    .waiting(),
    Case::ours(
        "complete_final_is_readable_while_it_becomes_a_file",
        &["D-49", "D-51", "I-01", "F-33"],
        "a reader that began before the parts were joined in one file gets every byte of them",
        read_across,
    )
    .under(OWN)
    .waiting(),
    Case::ours(
        "complete_upload_stays_as_it_is",
        &["D-10", "F-17", "I-05"],
        "late duplicates of the last PATCH change neither the file nor its ETag",
        stays,
    )
    .under(BOTH),
];

fn readable(site: &Site) -> Verdict {
    let content = bytes(50_000, 68);
    for round in 0..30 {
        let piece = &content[..1000 * (round + 1)];
        let upload = site.create(piece.len() as u64)?;
        upload.patch(0, piece)?.is(204)?;
        upload.get()?.is(200)?.has_body(piece)?;
        let post = site.post().octets().with("Upload-Length", piece.len()).body(piece);
        site.create_by(&post)?.get()?.is(200)?.has_body(piece)?;
    }
    Ok(())
}

fn file_named(own: &Own, id: &str) -> Option<PathBuf> {
    own.process.files().into_iter().map(|(path, _)| path).find(|path| path.ends_with(id))
}

fn holds(own: &Own, id: &str, content: &[u8]) -> Verdict {
    let path = file_named(own, id).ok_or_else(|| Failure::new(format!("no file is named {id}")))?;
    let found = std::fs::read(path)?;
    ensure_eq("the length of the file", found.len(), content.len())?;
    ensure(found == content, "the file holds other bytes")
}

fn published(site: &Site) -> Verdict {
    let own = site.launch(&[])?;
    let content = bytes(100_000, 69);
    let upload = own.site.create(100_000)?;
    ensure(file_named(&own, upload.id()).is_none(), "a new upload has a file of its name")?;
    upload.patch(0, &content[..99_999])?.is(204)?;
    ensure(file_named(&own, upload.id()).is_none(), "an open upload has a file of its name")?;
    upload.patch(99_999, &content[99_999..])?.is(204)?;
    holds(&own, upload.id(), &content)?;
    let empty = own.site.create(0)?;
    holds(&own, empty.id(), b"")
}

fn final_published(site: &Site) -> Verdict {
    let own = site.launch(&[])?;
    let contents = [bytes(100_000, 70), bytes(50_000, 71)];
    let parts = [part(&own.site, &contents[0])?, part(&own.site, &contents[1])?];
    let joined = own.site.create_by(&join(&own.site, &[&parts[0], &parts[1], &parts[0]]))?;
    for part in &parts {
        part.delete()?.is(204)?;
    }
    let content = [&contents[0][..], &contents[1], &contents[0]].concat();
    joined.reads_back(&content)?;
    let deadline = Instant::now() + Duration::from_secs(15);
    while file_named(&own, joined.id()).is_none() {
        ensure(Instant::now() < deadline, "the final did not become a file within 15 s")?;
        std::thread::sleep(Duration::from_millis(50));
    }
    holds(&own, joined.id(), &content)?;
    joined.reads_back(&content)
}

fn read_across(site: &Site) -> Verdict {
    let own = site.launch(&[])?;
    let contents = [bytes(12_000_000, 105), bytes(7_000_000, 106)];
    let parts = [part(&own.site, &contents[0])?, part(&own.site, &contents[1])?];
    let joined = own.site.create_by(&join(&own.site, &[&parts[0], &parts[1], &parts[0]]))?;
    let content = [&contents[0][..], &contents[1], &contents[0]].concat();
    let request = Request::plain("GET", &joined.path);
    let mut slow = own.site.connect()?;
    slow.send_head(&request)?;
    // A range over the border of two parts, before and after they are one file.
    let border = request.clone().with("Range", "bytes=11999990-12000009");
    own.site.ask(&border)?.is(206)?.has_body(&content[11_999_990..12_000_010])?;
    for part in &parts {
        part.delete()?.is(204)?;
    }
    let deadline = Instant::now() + Duration::from_secs(15);
    while file_named(&own, joined.id()).is_none() {
        ensure(Instant::now() < deadline, "the final did not become a file within 15 s")?;
        std::thread::sleep(Duration::from_millis(50));
    }
    own.site.ask(&border)?.is(206)?.has_body(&content[11_999_990..12_000_010])?;
    slow.answer_to(&request)?.is(200)?.has_body(&content)?;
    Ok(())
}

fn stays(site: &Site) -> Verdict {
    let content = bytes(5000, 72);
    let upload = site.create_complete(&content)?;
    let etag = upload.get()?.field("ETag").map(str::to_owned);
    for _ in 0..5 {
        upload.refuses(&upload.patch_at(0).body(&content), &[409])?;
        upload.patch(5000, b"")?.is(204)?;
        upload.refuses(&upload.patch_at(5000).body(b"x"), &[413])?;
    }
    ensure_eq("the ETag", upload.get()?.field("ETag").map(str::to_owned), etag)?;
    upload.reads_back(&content)
}
