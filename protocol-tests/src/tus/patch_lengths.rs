//! PATCH against the length of the upload: too long, and Upload-Length on PATCH.

use std::time::Duration;

use crate::case::{BOTH, Case, Setup};
use crate::content::{bytes, checksum};
use crate::failure::{Rows, Verdict, ensure, ensure_eq};
use crate::site::Site;
use crate::tus::patch::BAD_NUMBERS;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "patch_longer_than_the_upload_is_refused",
        &["D-11", "I-02", "I-03", "F-55"],
        "Content-Length past the end answers 413 before a byte is stored",
        too_long,
    )
    .under(BOTH),
    Case::ours(
        "patch_overrunning_in_chunks_is_refused",
        &["D-12", "I-02", "I-03", "F-55"],
        "a chunked body that passes the end answers 413, what is not recorded is dropped, nothing completes",
        overrun,
    )
    .under(BOTH),
    Case::ours(
        "patch_overrunning_after_megabytes_keeps_what_was_recorded",
        &["D-12", "I-03"],
        "what was checkpointed stays, the upload is not complete, and goes on where HEAD says",
        long_overrun,
    ),
    Case::must(
        "patch_overrunning_after_a_head_keeps_what_was_shown",
        &["I-01", "D-12", "D-47"],
        "what a HEAD reported of it stays and nothing completes: a visible offset never falls",
        shown_overrun,
    ),
    Case::must(
        "patch_repeating_a_known_length_works",
        &["T-049", "D-17", "F-24", "F-55"],
        "Upload-Length with the known value is accepted",
        same_length,
    )
    .under(BOTH),
    Case::must(
        "patch_changing_a_known_length_is_refused",
        &["T-049", "D-17", "I-03"],
        "Upload-Length with any other value answers 400",
        other_length,
    )
    .under(BOTH),
    Case::must(
        "patch_with_a_bad_length_is_refused",
        &["T-002", "I-03"],
        "400 unless Upload-Length is digits alone, once; 413 if it is too big for the type",
        bad_length,
    )
    .needing(&["creation", "creation-defer-length"]),
    Case::ours(
        "patch_declaring_a_length_below_its_bytes_is_refused",
        &["D-16", "D-11", "I-03", "F-55"],
        "400 below the offset, 413 below the end of the body, and no length is committed",
        declared_too_short,
    )
    .needing(&["creation", "creation-defer-length"])
    .under(BOTH),
    Case::ours(
        "patch_declaring_a_length_above_the_limit_is_refused",
        &["D-16", "T-055", "I-03"],
        "413 with Tus-Max-Size, and no length is committed",
        above_limit,
    )
    .needing(&["creation", "creation-defer-length"])
    .under(&[Setup::MaxSize]),
    Case::ours(
        "patch_of_a_deferred_upload_past_the_limit_is_refused",
        &["T-055", "D-12", "I-03"],
        "an undeclared length does not go round the limit, sized or chunked",
        deferred_past_limit,
    )
    .needing(&["creation", "creation-defer-length"])
    .under(&[Setup::MaxSize]),
];

fn too_long(site: &Site) -> Verdict {
    let upload = site.create(10)?;
    upload.patch(0, b"abcde")?.is(204)?;
    let mut rows = Rows::new();
    for length in [6, 100, 100_000] {
        rows.row(length, || {
            let request = upload.patch_at(5).body(bytes(length, 6));
            upload.refuses(&request, &[413]).map(drop)
        });
    }
    rows.row("with the digest of the body", || {
        let sum = checksum("sha1", b"abcdef");
        let request = upload.patch_at(5).with("Upload-Checksum", sum).body(b"abcdef");
        upload.refuses(&request, &[413]).map(drop)
    });
    rows.verdict()?;
    upload.completes_with(b"abcdefghij")
}

fn overrun(site: &Site) -> Verdict {
    let upload = site.create(10)?;
    upload.patch(0, b"abcde")?.is(204)?;
    let bodies: [&[&[u8]]; 4] = [
        &[b"123456"],
        &[b"12345", b"6"],
        &[b"1", b"2", b"3", b"4", b"5", b"6"],
        &[b"123", b"4567"],
    ];
    let mut rows = Rows::new();
    for body in bodies {
        rows.row(format!("{} chunks", body.len()), || {
            upload.refuses(&upload.patch_at(5).chunked(body), &[413]).map(drop)
        });
    }
    rows.verdict()?;
    upload.completes_with(b"abcdefghij")
}

fn long_overrun(site: &Site) -> Verdict {
    const LENGTH: usize = 20 << 20;
    let content = bytes(LENGTH, 7);
    let upload = site.create(LENGTH as u64)?;
    let chunks: Vec<&[u8]> = content.chunks(1 << 20).chain([&b"x"[..]]).collect();
    site.ask(&upload.patch_at(0).chunked(&chunks))?.is(413)?;
    let offset = upload.state()?.offset;
    ensure(offset < Some(LENGTH as u64), format!("the refused body completes it: {offset:?}"))?;
    upload.get()?.is(404)?;
    upload.completes_with(&content)
}

fn shown_overrun(site: &Site) -> Verdict {
    const LENGTH: usize = 20 << 20;
    let content = bytes(LENGTH, 109);
    let mut rows = Rows::new();
    for shown in [1000, 3 << 20] {
        rows.row(format!("{shown} bytes shown"), || {
            let upload = site.create(LENGTH as u64)?;
            let request = upload.patch_at(0).chunked(&[]);
            let mut link = site.connect()?;
            link.send_head(&request)?;
            link.raw.send_chunk(&content[..shown])?;
            upload.reaches(shown as u64, Duration::from_secs(5))?;
            // Enough to be checkpointed again, and then a byte too many.
            link.raw.send_chunk(&content[shown..])?;
            link.raw.send_chunk(b"x")?;
            link.answer_to(&request)?.is(413)?;
            let offset = upload.state()?.offset.unwrap_or(0);
            let kept = shown as u64..LENGTH as u64;
            ensure(kept.contains(&offset), format!("the offset after it is {offset}"))?;
            upload.completes_with(&content)
        });
    }
    rows.verdict()
}

fn same_length(site: &Site) -> Verdict {
    let upload = site.create(6)?;
    site.ask(&upload.patch_at(0).with("Upload-Length", 6).body(b""))?.is(204)?;
    site.ask(&upload.patch_at(0).with("Upload-Length", 6).body(b"abc"))?.is(204)?;
    site.ask(&upload.patch_at(3).with("Upload-Length", 6).body(b"def"))?.is(204)?;
    site.ask(&upload.patch_at(6).with("Upload-Length", 6).body(b""))?.is(204)?;
    upload.reads_back(b"abcdef")
}

fn other_length(site: &Site) -> Verdict {
    let upload = site.create(6)?;
    upload.patch(0, b"abc")?.is(204)?;
    let mut rows = Rows::new();
    for length in [0, 2, 3, 5, 7, 1_u64 << 50] {
        rows.row(length, || {
            let request = upload.patch_at(3).with("Upload-Length", length);
            upload.refuses(&request.clone().body(b""), &[400])?;
            upload.refuses(&request.body(b"def"), &[400]).map(drop)
        });
    }
    rows.verdict()?;
    upload.completes_with(b"abcdef")
}

fn bad_length(site: &Site) -> Verdict {
    let uploads = [site.create(3)?, site.create_deferred()?];
    let mut rows = Rows::new();
    for (upload, kind) in uploads.iter().zip(["known", "deferred"]) {
        for value in BAD_NUMBERS {
            rows.row(format!("{kind} {value:?}"), || {
                let request = upload.patch_at(0).with("Upload-Length", value).body(b"abc");
                upload.refuses(&request, &[400]).map(drop)
            });
        }
        rows.row(format!("{kind}, repeated"), || {
            let request = upload.patch_at(0).with("Upload-Length", 3).with("Upload-Length", 3);
            upload.refuses(&request.body(b"abc"), &[400]).map(drop)
        });
    }
    let deferred = &uploads[1];
    for value in ["9223372036854775808", "99999999999999999999999999"] {
        rows.row(value, || {
            let request = deferred.patch_at(0).with("Upload-Length", value).body(b"abc");
            deferred.refuses(&request, &[413]).map(drop)
        });
    }
    rows.verdict()
}

fn declared_too_short(site: &Site) -> Verdict {
    let upload = site.create_deferred()?;
    upload.patch(0, b"abcde")?.is(204)?;
    let mut rows = Rows::new();
    let table: &[(u64, &[u8], u16)] =
        &[(0, b"", 400), (4, b"", 400), (4, b"x", 400), (5, b"x", 413), (6, b"xy", 413)];
    for (length, body, status) in table {
        rows.row(format!("length {length}, {} bytes", body.len()), || {
            let request = upload.patch_at(5).with("Upload-Length", length);
            upload.refuses(&request.clone().body(body), &[*status])?;
            // Of a body without Content-Length the head alone is right, and so its length stays
            // (D-18).
            if *length < 6 {
                upload.refuses(&request.clone().chunked(&[body]), &[*status])?;
            }
            let sum = checksum("sha1", body);
            upload.refuses(&request.with("Upload-Checksum", sum).body(body), &[*status]).map(drop)
        });
    }
    rows.verdict()?;
    ensure_eq("the deferral", upload.state()?.deferred.as_deref(), Some("1"))?;
    upload.completes_with(b"abcdefg")
}

fn above_limit(site: &Site) -> Verdict {
    let max = site.options()?.number("Tus-Max-Size").unwrap_or(u64::MAX - 1);
    let upload = site.create_deferred()?;
    let mut rows = Rows::new();
    for length in [max + 1, max * 2] {
        rows.row(length, || {
            let request = upload.patch_at(0).with("Upload-Length", length).body(b"abc");
            upload.refuses(&request, &[413])?.has("Tus-Max-Size", max).map(drop)
        });
    }
    rows.verdict()?;
    site.ask(&upload.patch_at(0).with("Upload-Length", max).body(b""))?.is(204)?;
    ensure_eq("the length", upload.state()?.length, Some(max))
}

fn deferred_past_limit(site: &Site) -> Verdict {
    let max = site.options()?.number("Tus-Max-Size").unwrap_or(0);
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let content = bytes(max + 1, 8);
    let upload = site.create_deferred()?;
    upload.patch(0, &content[..5])?.is(204)?;
    upload.refuses(&upload.patch_at(5).body(&content[5..]), &[413])?;
    let chunks: Vec<&[u8]> = content[5..].chunks(1000).collect();
    upload.refuses(&upload.patch_at(5).chunked(&chunks), &[413])?;
    upload.patch(5, &content[5..max])?.is(204)?.has("Upload-Offset", max)?;
    upload.completes_with(&content[..max])
}
