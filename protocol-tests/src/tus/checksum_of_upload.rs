//! The checksum of a whole upload, in its metadata.

use super::concatenation::{join, part};
use crate::case::{BOTH, Case};
use crate::content::{ALGORITHMS, base64, bytes, checksum, digest, metadata};
use crate::failure::{Rows, Verdict};
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "upload_with_its_checksum_in_the_metadata_is_verified",
        &["D-62"],
        "complete with the right bytes, in one request or several; 460 and not complete with others",
        verified,
    )
    .under(BOTH),
    Case::ours(
        "final_with_its_checksum_in_the_metadata_is_verified",
        &["D-62"],
        "201 for the right parts, 460 and no upload for others",
        joined,
    )
    .needing(&["concatenation"]),
    Case::ours(
        "checksum_of_an_upload_without_a_value_is_refused",
        &["D-63"],
        "400 for hexadecimal, bad base64 and wrong lengths; other texts are plain metadata",
        malformed,
    ),
];

fn with_sum(request: Request, sum: &str) -> Request {
    request.with("Upload-Metadata", metadata(&[("checksum", sum)]))
}

fn verified(site: &Site) -> Verdict {
    let content = bytes(90_000, 61);
    let mut other = content.clone();
    other[7] ^= 1;
    let (first, last) = content.split_at(50_000);
    let mut rows = Rows::new();
    for algorithm in ALGORITHMS {
        rows.row(algorithm, || {
            let sum = checksum(algorithm, &content);
            let creation = with_sum(site.post().with("Upload-Length", content.len()), &sum);
            let upload = site.create_by(&creation.body(b""))?;
            upload.refuses(&upload.patch_at(0).body(&other), &[460])?;
            upload.patch(0, first)?.is(204)?;
            // A checksum of this body alone, so that all bytes are read at the end.
            let mut patch = upload.patch_at(50_000);
            if algorithm == "md5" {
                patch = patch.with("Upload-Checksum", checksum(algorithm, last));
            }
            site.ask(&patch.body(last))?.is(204)?;
            upload.reads_back(&content)
        });
    }
    rows.row("other bytes before", || {
        let sum = checksum("sha256", &content);
        let creation = with_sum(site.post().with("Upload-Length", content.len()), &sum);
        let upload = site.create_by(&creation.body(b""))?;
        upload.patch(0, &other[..50_000])?.is(204)?;
        upload.refuses(&upload.patch_at(50_000).body(last), &[460])?;
        upload.stands_at(50_000)
    });
    rows.row("nothing", || {
        for (content, status) in [(&b""[..], 201), (b"x", 460)] {
            let sum = checksum("sha1", content);
            let creation = with_sum(site.post().with("Upload-Length", 0), &sum);
            site.ask(&creation.body(b""))?.is(status)?;
        }
        Ok(())
    });
    rows.verdict()
}

fn joined(site: &Site) -> Verdict {
    let (a, b) = (part(site, b"first ")?, part(site, b"second")?);
    let sum = checksum("sha256", b"first second");
    let right = with_sum(join(site, &[&a, &b]), &sum);
    let answer = site.ask(&right)?.is(201)?;
    site.created(&answer)?.reads_back(b"first second")?;
    site.ask(&with_sum(join(site, &[&b, &a]), &sum))?.is(460).map(drop)
}

fn malformed(site: &Site) -> Verdict {
    let value = base64(digest("sha256", b"abc"));
    let mut rows = Rows::new();
    for (sum, status) in [
        (format!("sha256 {value}"), 201),
        (format!("sha1 {value}"), 400),
        (format!("sha256 {}", value.trim_end_matches('=')), 400),
        ("md5 900150983cd24fb0d6963f7d28e17f72".to_owned(), 400),
        ("md5 ".to_owned(), 400),
        ("crc32 AAAAAA==".to_owned(), 201),
        ("900150983cd24fb0d6963f7d28e17f72".to_owned(), 201),
        ("md5".to_owned(), 201),
    ] {
        rows.row(&sum, || {
            let creation = with_sum(site.post().with("Upload-Length", 3), &sum);
            site.ask(&creation.body(b""))?.is(status).map(drop)
        });
    }
    rows.verdict()
}
