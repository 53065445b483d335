//! The checksum-trailer extension: Upload-Checksum after the body.

use crate::case::{BOTH, Case};
use crate::content::{ALGORITHMS, bytes, checksum};
use crate::failure::{Rows, Verdict};
use crate::message::Request;
use crate::site::Site;

const EXTENSIONS: &[&str] = &["creation", "checksum", "checksum-trailer"];

pub(super) const CASES: &[Case] = &[
    Case::may(
        "checksum_trailer_that_matches_is_accepted",
        &["T-088", "T-081"],
        "announced by Trailer, all four algorithms, also over an empty body",
        matches,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::must(
        "checksum_trailer_that_fails_drops_the_chunk",
        &["T-088", "T-082", "T-083", "T-084", "T-087", "I-03"],
        "460 on a mismatch, 400 if malformed or unknown; nothing is kept",
        fails,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::ours(
        "checksum_trailer_announced_but_missing_drops_the_chunk",
        &["D-23", "T-084", "I-03", "F-55"],
        "400 if the body ends properly without it; dropped if the peer goes before it",
        missing,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::ours(
        "checksum_trailer_announced_keeps_bytes_invisible",
        &["D-23", "T-084", "D-25"],
        "an announced trailer makes the whole body unverified until it came",
        invisible,
    )
    .needing(EXTENSIONS),
    Case::ours(
        "checksum_trailer_not_announced_is_ignored",
        &["D-22", "D-23", "I-02"],
        "a trailer that simply arrives says nothing, whatever it says",
        not_announced,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::ours(
        "checksum_in_header_and_trailer_is_refused",
        &["D-22", "I-03"],
        "400 if both are announced; a trailer that is not is ignored, and the header verified",
        twice,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
];

fn announced(request: Request) -> Request {
    request.with("Trailer", "Upload-Checksum")
}

fn matches(site: &Site) -> Verdict {
    let content = bytes(70_000, 41);
    let pieces: Vec<&[u8]> = content.chunks(9_999).collect();
    let mut rows = Rows::new();
    for algorithm in ALGORITHMS {
        rows.row(algorithm, || {
            let upload = site.create(content.len() as u64)?;
            let nothing = announced(upload.patch_at(0)).chunked(&[]);
            let nothing = nothing.trailer("Upload-Checksum", checksum(algorithm, b""));
            site.ask(&nothing)?.is(204)?.has("Upload-Offset", 0)?;
            let patch = announced(upload.patch_at(0)).chunked(&pieces);
            let patch = patch.trailer("Upload-Checksum", checksum(algorithm, &content));
            site.ask(&patch)?.is(204)?.has("Upload-Offset", content.len())?;
            upload.reads_back(&content)
        });
    }
    rows.row("among other trailers, in another case", || {
        let upload = site.create(3)?;
        let patch =
            upload.patch_at(0).with("Trailer", "x-other, UPLOAD-CHECKSUM").chunked(&[b"abc"]);
        let patch =
            patch.trailer("x-other", "1").trailer("upload-checksum", checksum("sha1", b"abc"));
        site.ask(&patch)?.is(204)?;
        upload.reads_back(b"abc")
    });
    rows.verdict()
}

/// Trailer values that must not be accepted for the body `abc`.
fn failing() -> Vec<(String, u16)> {
    let mut values: Vec<(String, u16)> =
        ALGORITHMS.iter().map(|algorithm| (checksum(algorithm, b"x"), 460)).collect();
    values.extend([
        ("sha1".to_owned(), 400),
        (String::new(), 400),
        ("sha1 !!!".to_owned(), 400),
        ("crc32 AAAAAA==".to_owned(), 400),
        ("sha1 YWJj".to_owned(), 460),
    ]);
    values
}

fn fails(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let mut rows = Rows::new();
    for (value, status) in failing() {
        rows.row(format!("{value:?}"), || {
            let patch = announced(upload.patch_at(0)).chunked(&[b"ab", b"c"]);
            upload.refuses(&patch.trailer("Upload-Checksum", &value), &[status]).map(drop)
        });
    }
    rows.verdict()?;
    upload.completes_with(b"abc")
}

fn missing(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let patch = announced(upload.patch_at(0)).chunked(&[b"abc"]);
    upload.refuses(&patch, &[400])?;
    upload.refuses(&patch.trailer("x-other", "1"), &[400])?;
    // A body under Content-Length cannot have trailers at all over HTTP/1.1.
    upload.refuses(&announced(upload.patch_at(0)).body(b"abc"), &[400])?;
    upload.completes_with(b"abc")
}

fn invisible(site: &Site) -> Verdict {
    let content = bytes(1000, 42);
    let upload = site.create(1000)?;
    for sent in [500, 1000] {
        let mut link = site.connect()?;
        link.send_head(&announced(upload.patch_at(0)).chunked(&[]))?;
        link.raw.send_chunk(&content[..sent])?;
        upload.stands_at(0)?;
        if sent == 1000 {
            // The last chunk came, the trailer section is cut in its middle.
            link.raw.send(b"0\r\nUpload-Check")?;
            upload.stands_at(0)?;
        }
        drop(link);
        std::thread::sleep(std::time::Duration::from_millis(200));
        upload.stands_at(0)?;
    }
    upload.completes_with(&content)
}

fn not_announced(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for (value, _) in failing() {
        rows.row(format!("{value:?}"), || {
            let upload = site.create(3)?;
            let patch = upload.patch_at(0).chunked(&[b"ab", b"c"]);
            site.ask(&patch.trailer("Upload-Checksum", &value))?
                .is(204)?
                .has("Upload-Offset", 3)?;
            upload.reads_back(b"abc")
        });
    }
    rows.verdict()
}

fn twice(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let (right, wrong) = (checksum("sha1", b"abc"), checksum("sha1", b"other"));
    let patch = |sum: &str| upload.patch_at(0).with("Upload-Checksum", sum).chunked(&[b"abc"]);
    for sum in [&right, &wrong] {
        upload.refuses(&announced(patch(sum)).trailer("Upload-Checksum", &right), &[400])?;
    }
    // Not announced it is ignored, and that in the head is verified.
    upload.refuses(&patch(&wrong).trailer("Upload-Checksum", &right), &[460])?;
    site.ask(&patch(&right).trailer("Upload-Checksum", &wrong))?.is(204)?;
    upload.reads_back(b"abc")
}
