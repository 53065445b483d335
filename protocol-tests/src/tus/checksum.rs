//! The checksum extension: Upload-Checksum as a header.

use std::time::Duration;

use crate::case::{BOTH, Case};
use crate::content::{ALGORITHMS, base64, bytes, checksum, digest};
use crate::failure::{Rows, Verdict, ensure};
use crate::site::Site;

const EXTENSIONS: &[&str] = &["creation", "checksum"];

pub(super) const CASES: &[Case] = &[
    Case::must(
        "checksum_that_matches_is_accepted",
        &["T-080", "T-081", "T-085", "T-086", "T-089"],
        "all four algorithms, in any case, sized and chunked, also over an empty body",
        matches,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::must(
        "checksum_that_differs_answers_460",
        &["T-083", "T-084", "D-20", "I-03", "0.3", "F-55"],
        "460 and the chunk is gone: offset and length as before, the right bytes can follow",
        differs,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::ours(
        "checksum_mismatch_names_itself_on_the_status_line",
        &["0.3", "D-20"],
        "460 Checksum Mismatch, not a nameless code",
        reason,
    )
    .needing(EXTENSIONS),
    Case::may(
        "checksum_of_an_unknown_algorithm_is_refused",
        &["T-082", "D-20", "I-03", "F-55"],
        "400, before the body is read",
        unknown,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::ours(
        "checksum_that_is_malformed_is_refused",
        &["T-087", "D-20", "I-03", "F-55"],
        "no blank, no value, bad base64, missing padding: 400; a value of the wrong length: 460",
        malformed,
    )
    .needing(EXTENSIONS),
    Case::must(
        "checksummed_bytes_stay_invisible_until_verified",
        &["T-084", "D-25", "I-09", "D-47"],
        "HEAD shows the start offset while the body runs and after it was cut off",
        invisible,
    )
    .needing(EXTENSIONS),
    Case::must(
        "checksummed_megabytes_cut_off_leave_no_trace",
        &["T-084", "D-25", "D-12"],
        "also a body long enough to be written in many steps",
        megabytes,
    )
    .needing(EXTENSIONS),
    Case::ours(
        "checksum_covers_its_own_request_alone",
        &["F-16", "T-081"],
        "after a broken or refused request the next checksum is over the next body only",
        own_request,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
];

fn matches(site: &Site) -> Verdict {
    let content = bytes(70_000, 36);
    let mut rows = Rows::new();
    for algorithm in ALGORITHMS {
        for name in [algorithm.to_owned(), algorithm.to_uppercase()] {
            rows.row(&name, || {
                let upload = site.create(content.len() as u64)?;
                let sum = |bytes: &[u8]| format!("{name} {}", base64(digest(algorithm, bytes)));
                let (first, second) = content.split_at(30_000);
                let patch = upload.patch_at(0).with("Upload-Checksum", sum(first)).body(first);
                site.ask(&patch)?.is(204)?.has("Upload-Offset", 30_000)?;
                let nothing = upload.patch_at(30_000).with("Upload-Checksum", sum(b"")).body(b"");
                site.ask(&nothing)?.is(204)?.has("Upload-Offset", 30_000)?;
                let patch = upload.patch_at(30_000).with("Upload-Checksum", sum(second));
                let pieces: Vec<&[u8]> = second.chunks(9_999).collect();
                site.ask(&patch.chunked(&pieces))?.is(204)?.has("Upload-Offset", 70_000)?;
                upload.reads_back(&content)
            });
        }
    }
    rows.verdict()
}

fn differs(site: &Site) -> Verdict {
    let content = bytes(70_000, 37);
    let upload = site.create(content.len() as u64)?;
    upload.patch(0, &content[..10_000])?.is(204)?;
    let rest = &content[10_000..];
    let pieces: Vec<&[u8]> = rest.chunks(9_999).collect();
    let mut rows = Rows::new();
    for algorithm in ALGORITHMS {
        let sum = checksum(algorithm, b"something else");
        rows.row(algorithm, || {
            let patch = upload.patch_at(10_000).with("Upload-Checksum", &sum);
            upload.refuses(&patch.clone().body(rest), &[460])?;
            upload.refuses(&patch.clone().chunked(&pieces), &[460])?;
            upload.refuses(&patch.body(b""), &[460]).map(drop)
        });
    }
    rows.verdict()?;
    upload.completes_with(&content)
}

fn reason(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let sum = checksum("sha1", b"something else");
    let patch = upload.patch_at(0).with("Upload-Checksum", sum).body(b"abc");
    let reason = site.ask(&patch)?.is(460)?.reason;
    ensure(reason == "Checksum Mismatch", format!("the reason phrase is {reason:?}"))
}

fn unknown(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let mut rows = Rows::new();
    for value in ["crc32 AAAAAA==", "sha3 AAAA", "sha-1 AAAA", "sha AAAA", "sha11 AAAA", "x AA=="] {
        rows.row(value, || {
            let patch = upload.patch_at(0).with("Upload-Checksum", value).body(b"abc");
            upload.refuses(&patch, &[400]).map(drop)
        });
    }
    rows.verdict()?;
    upload.completes_with(b"abc")
}

fn malformed(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let good = base64(digest("sha1", b"abc"));
    let table: Vec<(String, u16)> = vec![
        (String::new(), 400),
        ("sha1".to_owned(), 400),
        (format!("sha1{good}"), 400),
        (format!("sha1,{good}"), 400),
        (format!("sha1={good}"), 400),
        ("sha1 !!!".to_owned(), 400),
        (format!("sha1 {}", good.trim_end_matches('=')), 400),
        (format!("sha1 {good}{good}"), 400),
        (format!("sha1 {good} {good}"), 400),
        (format!("sha1  {good}"), 400),
        (format!("sha1 {good},sha1 {good}"), 400),
        (good.clone(), 400),
        ("sha1 qZk-NkcGgWq6PiVxeFDCbJzQ2J0=".to_owned(), 400),
        ("sha1 a9993e364706816aba3e25717850c26c9cd0d89d".to_owned(), 460),
        ("sha1 YWJj".to_owned(), 460),
        (format!("sha1 {}", base64(digest("sha256", b"abc"))), 460),
        (format!("md5 {good}"), 460),
    ];
    let mut rows = Rows::new();
    for (value, status) in table {
        rows.row(format!("{value:?}"), || {
            let patch = upload.patch_at(0).with("Upload-Checksum", &value).body(b"abc");
            upload.refuses(&patch, &[status]).map(drop)
        });
    }
    rows.row("repeated", || {
        let sum = checksum("sha1", b"abc");
        let patch = upload.patch_at(0).with("Upload-Checksum", &sum).with("Upload-Checksum", &sum);
        upload.refuses(&patch.body(b"abc"), &[400]).map(drop)
    });
    rows.verdict()?;
    upload.completes_with(b"abc")
}

fn invisible(site: &Site) -> Verdict {
    let content = bytes(1000, 38);
    let mut rows = Rows::new();
    for chunked in [false, true] {
        for reset in [false, true] {
            rows.row(format!("chunked {chunked}, reset {reset}"), || {
                let upload = site.create(1000)?;
                upload.patch(0, &content[..100])?.is(204)?;
                let sum = checksum("sha256", &content[100..]);
                let patch = upload.patch_at(100).with("Upload-Checksum", sum);
                let request = patch.body(&content[100..]);
                let mut link = site.connect()?;
                if chunked {
                    link.send_head(&request.clone().chunked(&[]))?;
                    link.raw.send_chunk(&content[100..600])?;
                } else {
                    link.send_head(&request)?;
                    link.raw.send(&content[100..600])?;
                }
                upload.stands_at(100)?;
                if reset {
                    link.raw.reset()?;
                } else {
                    drop(link);
                }
                upload.stands_at(100)?;
                std::thread::sleep(Duration::from_millis(200));
                upload.stands_at(100)?;
                site.ask(&request)?.is(204)?;
                upload.reads_back(&content)
            });
        }
    }
    rows.verdict()
}

fn megabytes(site: &Site) -> Verdict {
    let content = bytes(40 << 20, 39);
    let upload = site.create(content.len() as u64)?;
    let sum = checksum("md5", &content);
    let request = upload.patch_at(0).with("Upload-Checksum", sum);
    let mut link = site.connect()?;
    link.send_head(&request.clone().with("Content-Length", content.len()))?;
    link.raw.send(&content[..35 << 20])?;
    upload.stands_at(0)?;
    drop(link);
    upload.stands_at(0)?;
    site.ask(&request.body(&content))?.is(204)?;
    upload.reads_back(&content)
}

fn own_request(site: &Site) -> Verdict {
    let content = bytes(300, 40);
    let upload = site.create(300)?;
    let piece = |n: usize| &content[n * 100..(n + 1) * 100];
    let request = |n: usize| {
        let sum = checksum("sha1", piece(n));
        upload.patch_at(n as u64 * 100).with("Upload-Checksum", sum)
    };
    site.ask(&request(0).body(piece(0)))?.is(204)?;
    upload.refuses(&request(1).body(piece(2)), &[460])?;
    upload.refuses(&request(1).body(&piece(1)[..50]), &[460])?;
    site.ask(&request(1).body(piece(1)))?.is(204)?;
    upload.patch(200, b"")?.is(204)?;
    site.ask(&request(2).body(piece(2)))?.is(204)?;
    upload.reads_back(&content)
}
