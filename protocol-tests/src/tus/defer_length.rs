//! The creation-defer-length extension.

use std::time::Duration;

use crate::case::{BOTH, Case};
use crate::content::{bytes, checksum};
use crate::failure::{Rows, Verdict, ensure_eq};
use crate::site::Site;

const EXTENSIONS: &[&str] = &["creation", "creation-defer-length"];

pub(super) const CASES: &[Case] = &[
    Case::must(
        "deferred_length_may_come_with_any_patch",
        &["T-041", "T-048", "T-050", "T-051", "F-24"],
        "with the first, a middle, the last or an empty PATCH; then HEAD shows it and no deferral",
        any_patch,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::must(
        "deferred_length_never_changes_once_set",
        &["T-049", "D-17"],
        "another value answers 400, the same is fine",
        never_changes,
    )
    .needing(EXTENSIONS),
    Case::ours(
        "deferred_upload_on_a_chunk_border_ends_with_an_empty_patch",
        &["F-25", "T-048", "F-24"],
        "an empty PATCH with Upload-Length = offset completes the upload",
        chunk_border,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::ours(
        "deferred_upload_of_no_bytes_completes",
        &["T-048", "T-052", "T-089"],
        "an empty PATCH with Upload-Length 0 and the digest of nothing",
        no_bytes,
    )
    .needing(&["creation", "creation-defer-length", "checksum"])
    .under(BOTH),
    Case::ours(
        "deferred_length_survives_a_cut_body",
        &["D-18", "F-25"],
        "the length is committed once the head is judged: a broken last PATCH leaves it known",
        survives_cut,
    )
    .needing(EXTENSIONS),
    Case::ours(
        "deferred_length_survives_a_body_that_passes_it",
        &["D-18", "D-12", "I-03"],
        "of a body without Content-Length the head is right: 413, and the length stays",
        survives_overrun,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::ours(
        "deferred_length_with_a_checksum_counts_only_on_a_match",
        &["D-18", "T-084", "I-03"],
        "after 460, 400 or a cut body the length is as unknown as before",
        with_checksum,
    )
    .needing(&["creation", "creation-defer-length", "checksum"]),
    Case::ours(
        "deferred_deferral_repeated_on_patch_is_ignored",
        &["D-31", "F-24", "F-55"],
        "Upload-Defer-Length: 1 on PATCH, also beside Upload-Length, does no harm",
        repeated_deferral,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::ours(
        "deferred_upload_is_not_readable_before_it_is_complete",
        &["F-27", "D-51"],
        "GET answers 404, at any offset, until the length is reached",
        not_readable,
    )
    .needing(EXTENSIONS),
];

fn any_patch(site: &Site) -> Verdict {
    let pieces: [&[u8]; 4] = [b"abc", b"", b"def", b"ghi"];
    let mut rows = Rows::new();
    for declared_with in 0..pieces.len() {
        rows.row(format!("PATCH {declared_with}"), || {
            let upload = site.create_deferred()?;
            let mut offset = 0;
            for (index, piece) in pieces.iter().enumerate() {
                let request = upload.patch_at(offset).body(piece);
                let declares = index == declared_with;
                let request = if declares { request.with("Upload-Length", 9) } else { request };
                offset += piece.len() as u64;
                site.ask(&request)?.is(204)?.has("Upload-Offset", offset)?;
                let expected = (index >= declared_with).then_some(9);
                let state = upload.state()?;
                ensure_eq("the length on HEAD", state.length, expected)?;
                ensure_eq("deferral on HEAD", state.deferred.is_none(), expected.is_some())?;
            }
            upload.reads_back(b"abcdefghi")
        });
    }
    rows.verdict()
}

fn never_changes(site: &Site) -> Verdict {
    let upload = site.create_deferred()?;
    site.ask(&upload.patch_at(0).with("Upload-Length", 6).body(b"abc"))?.is(204)?;
    let mut rows = Rows::new();
    for length in [0, 3, 5, 7] {
        rows.row(length, || {
            let request = upload.patch_at(3).with("Upload-Length", length).body(b"");
            upload.refuses(&request, &[400]).map(drop)
        });
    }
    rows.verdict()?;
    site.ask(&upload.patch_at(3).with("Upload-Length", 6).body(b"def"))?.is(204)?;
    upload.reads_back(b"abcdef")
}

fn chunk_border(site: &Site) -> Verdict {
    let content = bytes(20_000, 29);
    for chunked in [false, true] {
        let upload = site.create_deferred()?;
        upload.patch(0, &content[..10_000])?.is(204)?;
        upload.patch(10_000, &content[10_000..])?.is(204)?;
        ensure_eq("the length", upload.state()?.length, None)?;
        let last = upload.patch_at(20_000).with("Upload-Length", 20_000);
        let last = if chunked { last.chunked(&[]) } else { last.body(b"") };
        site.ask(&last)?.is(204)?.has("Upload-Offset", 20_000)?;
        upload.reads_back(&content)?;
    }
    Ok(())
}

fn no_bytes(site: &Site) -> Verdict {
    for sum in [None, Some(checksum("sha1", b""))] {
        let upload = site.create_deferred()?;
        let request = upload.patch_at(0).with("Upload-Length", 0).body(b"");
        let request = sum.iter().fold(request, |r, sum| r.with("Upload-Checksum", sum));
        site.ask(&request)?.is(204)?.has("Upload-Offset", 0)?;
        upload.reads_back(b"")?;
    }
    Ok(())
}

fn survives_cut(site: &Site) -> Verdict {
    let content = bytes(1000, 30);
    let mut rows = Rows::new();
    for sent in [0, 400] {
        rows.row(format!("{sent} bytes sent"), || {
            let upload = site.create_deferred()?;
            let mut link = site.connect()?;
            link.send_head(&upload.patch_at(0).with("Upload-Length", 1000).body(&content))?;
            link.raw.send(&content[..sent])?;
            // The head alone makes the length known, even while the body is under way.
            std::thread::sleep(Duration::from_millis(300));
            ensure_eq("the length during the body", upload.state()?.length, Some(1000))?;
            drop(link);
            upload.reaches(sent as u64, Duration::from_secs(2))?;
            ensure_eq("the length after the cut", upload.state()?.length, Some(1000))?;
            upload.completes_with(&content)
        });
    }
    rows.verdict()
}

fn survives_overrun(site: &Site) -> Verdict {
    let upload = site.create_deferred()?;
    upload.patch(0, b"abcde")?.is(204)?;
    let patch = upload.patch_at(5).with("Upload-Length", 7).chunked(&[b"f", b"gh"]);
    site.ask(&patch)?.is(413)?;
    let state = upload.state()?;
    ensure_eq("the length", (state.length, state.deferred), (Some(7), None))?;
    ensure_eq("complete", state.offset == state.length, false)?;
    upload.completes_with(b"abcdefg")
}

fn with_checksum(site: &Site) -> Verdict {
    let content = bytes(1000, 31);
    let upload = site.create_deferred()?;
    let (right, wrong) = (checksum("sha1", &content), checksum("sha1", b"other"));
    let patch = upload.patch_at(0).with("Upload-Length", 1000).body(&content);
    upload.refuses(&patch.clone().with("Upload-Checksum", wrong), &[460])?;
    upload.refuses(&patch.clone().with("Upload-Checksum", "sha1"), &[400])?;

    let checked = patch.with("Upload-Checksum", right);
    let mut link = site.connect()?;
    link.send_head(&checked)?;
    link.raw.send(&content[..400])?;
    let during = upload.state()?;
    ensure_eq("during the body", (during.offset, during.length), (Some(0), None))?;
    drop(link);
    std::thread::sleep(Duration::from_millis(300));
    let after = upload.state()?;
    ensure_eq("after the cut", (after.offset, after.length), (Some(0), None))?;
    site.ask(&checked)?.is(204)?;
    upload.reads_back(&content)
}

fn repeated_deferral(site: &Site) -> Verdict {
    let upload = site.create_deferred()?;
    let deferred = |offset| upload.patch_at(offset).with("Upload-Defer-Length", "1");
    site.ask(&deferred(0).body(b"abc"))?.is(204)?;
    site.ask(&deferred(3).with("Upload-Length", 6).body(b""))?.is(204)?;
    site.ask(&deferred(3).with("Upload-Length", 6).body(b"def"))?.is(204)?;
    site.ask(&deferred(6).body(b""))?.is(204)?;
    upload.reads_back(b"abcdef")
}

fn not_readable(site: &Site) -> Verdict {
    let upload = site.create_deferred()?;
    upload.get()?.is(404)?;
    upload.patch(0, b"abc")?.is(204)?;
    upload.get()?.is(404)?;
    site.ask(&upload.patch_at(3).with("Upload-Length", 6).body(b""))?.is(204)?;
    upload.get()?.is(404)?;
    upload.completes_with(b"abcdef")
}
