//! Which check answers when a request has several faults (0.2), and with which code (0.3).

use crate::case::{BOTH, Case, Setup};
use crate::content::checksum;
use crate::failure::{Rows, Verdict};
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "patch_with_several_faults_answers_the_first",
        &["D-01", "0.2", "I-03"],
        "method, version, syntax, existence, final, offset, length: in this order",
        patch_order,
    )
    .needing(&["creation", "checksum", "concatenation"])
    .under(BOTH),
    Case::ours(
        "post_with_several_faults_answers_the_first",
        &["D-01", "0.2", "I-04"],
        "version, concat, length, size, metadata, checksum: in this order",
        post_order,
    )
    .under(&[Setup::MaxSize]),
    Case::ours(
        "refusals_carry_their_code",
        &["0.3", "D-09"],
        "every refusal names its cause by the code of the catalogue",
        codes,
    )
    .needing(&["creation", "checksum", "concatenation", "creation-defer-length"])
    .under(BOTH),
    Case::ours(
        "refusals_at_the_limit_carry_code_and_limit",
        &["0.3", "T-055", "D-16"],
        "ERR_MAX_SIZE_EXCEEDED with Tus-Max-Size on POST and PATCH, declared or sent",
        limit_codes,
    )
    .needing(&["creation", "creation-with-upload", "creation-defer-length", "concatenation"])
    .under(&[Setup::MaxSize]),
];

fn patch_order(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let part = site.create_by(&partial(site, 0))?;
    let concat = format!("final;{}", part.path);
    let joined = site.create_by(&site.post().with("Upload-Concat", concat).body(b""))?;
    let unknown = Request::patch(&site.below("unknown"), 0).body(b"abc");
    let stale = upload.patch_at(1).body(b"abc");
    let bad_sum = "sha1 !!!";

    let table: Vec<(&str, Request, u16)> = vec![
        ("method before version", unknown.clone().without("Tus-Resumable").method("PUT"), 405),
        ("override before method", unknown.clone().with("X-HTTP-Method-Override", "PUT"), 405),
        (
            "version before type",
            stale.clone().set("Tus-Resumable", "9").set("Content-Type", "a/b"),
            412,
        ),
        ("version before existence", unknown.clone().without("Tus-Resumable"), 412),
        (
            "type before offset syntax",
            stale.clone().set("Content-Type", "a/b").set("Upload-Offset", "x"),
            415,
        ),
        ("type before existence", unknown.clone().set("Content-Type", "a/b"), 415),
        ("encoding before existence", unknown.clone().with("Content-Encoding", "gzip"), 415),
        ("offset syntax before existence", unknown.clone().set("Upload-Offset", "x"), 400),
        ("length syntax before existence", unknown.clone().with("Upload-Length", "x"), 400),
        ("checksum syntax before existence", unknown.with("Upload-Checksum", bad_sum), 400),
        ("existence before offset", Request::patch(&site.below("unknown"), 7).body(b"abc"), 404),
        ("type before final", joined.patch_at(0).set("Content-Type", "a/b").body(b"abc"), 415),
        ("final before offset", joined.patch_at(7).body(b"abc"), 403),
        ("final before length", joined.patch_at(0).with("Upload-Length", "7").body(b"abc"), 403),
        ("offset before length", stale.clone().with("Upload-Length", "7"), 409),
        ("offset before size", upload.patch_at(1).body(b"abcdef"), 409),
        ("offset before checksum match", stale.with("Upload-Checksum", checksum("sha1", b"")), 409),
        ("length before size", upload.patch_at(0).with("Upload-Length", "7").body(b"abcdef"), 400),
        (
            "size before checksum match",
            upload.patch_at(0).with("Upload-Checksum", checksum("sha1", b"")).body(b"abcdef"),
            413,
        ),
    ];
    let mut rows = Rows::new();
    for (name, request, status) in table {
        rows.row(name, || upload.refuses(&request, &[status]).map(drop));
    }
    rows.verdict()
}

fn post_order(site: &Site) -> Verdict {
    let max = site.options()?.number("Tus-Max-Size").unwrap_or(u64::MAX - 1);
    let post = || site.post().body(b"");
    let table: Vec<(&str, Request, u16)> = vec![
        ("version before all", post().set("Tus-Resumable", "9").with("Upload-Length", "x"), 412),
        (
            "concat before size",
            post().with("Upload-Concat", "x").with("Upload-Length", max + 1),
            400,
        ),
        (
            "size before metadata",
            post().with("Upload-Length", max + 1).with("Upload-Metadata", "a !"),
            413,
        ),
        (
            "size before checksum",
            post().octets().with("Upload-Length", max + 1).with("Upload-Checksum", "sha1 !"),
            413,
        ),
        (
            "length syntax before size of metadata",
            long_metadata(post()).with("Upload-Length", "x"),
            400,
        ),
        (
            "metadata before checksum",
            long_metadata(post()).with("Upload-Length", "1").octets().with("Upload-Checksum", "x"),
            431,
        ),
    ];
    let mut rows = Rows::new();
    for (name, request, status) in table {
        rows.row(name, || site.ask(&request)?.is(status)?.lacks("Location").map(drop));
    }
    rows.verdict()
}

fn codes(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let part = site.create_by(&partial(site, 3))?;
    let empty = site.create_by(&partial(site, 0))?;
    let concat = format!("final;{}", empty.path);
    let joined = site.create_by(&site.post().with("Upload-Concat", concat).body(b""))?;
    let post = || site.post().with("Upload-Length", "3").body(b"");
    let patch = || upload.patch_at(0).body(b"abc");
    let finish = |part: &str| site.post().with("Upload-Concat", format!("final;{part}")).body(b"");
    let wrong = checksum("sha1", b"other");

    let table: Vec<(Request, u16, &str)> = vec![
        (patch().without("Upload-Offset"), 400, "ERR_INVALID_OFFSET"),
        (patch().set("Upload-Offset", "x"), 400, "ERR_INVALID_OFFSET"),
        (post().without("Upload-Length"), 400, "ERR_INVALID_UPLOAD_LENGTH"),
        (post().set("Upload-Length", "x"), 400, "ERR_INVALID_UPLOAD_LENGTH"),
        (patch().with("Upload-Length", "4"), 400, "ERR_INVALID_UPLOAD_LENGTH"),
        (post().with("Upload-Defer-Length", "1"), 400, "ERR_AMBIGUOUS_UPLOAD_LENGTH"),
        (
            post().without("Upload-Length").with("Upload-Defer-Length", "2"),
            400,
            "ERR_INVALID_UPLOAD_LENGTH_DEFER",
        ),
        (post().with("Upload-Concat", "x"), 400, "ERR_INVALID_CONCAT"),
        (finish(&upload.path), 400, "ERR_INVALID_CONCAT"),
        (finish(&part.path), 400, "ERR_UPLOAD_NOT_FINISHED"),
        (post().with("Upload-Metadata", "a !!!"), 400, "ERR_INVALID_METADATA"),
        (patch().with("Upload-Checksum", "sha1"), 400, "ERR_INVALID_CHECKSUM"),
        (patch().with("Upload-Checksum", "crc32 AAAAAA=="), 400, "ERR_CHECKSUM_ALGORITHM"),
        (joined.patch_at(0).body(b"abc"), 403, "ERR_MODIFY_FINAL"),
        (Request::patch(&site.below("unknown"), 0).body(b"a"), 404, "ERR_UPLOAD_NOT_FOUND"),
        (Request::plain("GET", &upload.path), 404, "ERR_UPLOAD_NOT_FOUND"),
        (upload.patch_at(1).body(b"abc"), 409, "ERR_MISMATCHED_OFFSET"),
        (post().without("Tus-Resumable"), 412, "ERR_UNSUPPORTED_VERSION"),
        (upload.patch_at(0).body(b"abcd"), 413, "ERR_UPLOAD_SIZE_EXCEEDED"),
        (patch().set("Content-Type", "text/plain"), 415, "ERR_INVALID_CONTENT_TYPE"),
        (long_metadata(post()), 431, "ERR_METADATA_TOO_LARGE"),
        (patch().with("Upload-Checksum", wrong), 460, "ERR_CHECKSUM_MISMATCH"),
    ];
    let mut rows = Rows::new();
    for (request, status, code) in table {
        rows.row(format!("{code} on {}", request.method), || {
            upload.refuses(&request, &[status])?.has_code(code).map(drop)
        });
    }
    rows.verdict()
}

fn limit_codes(site: &Site) -> Verdict {
    let max = site.options()?.number("Tus-Max-Size").unwrap_or(0);
    let body = vec![b'x'; usize::try_from(max + 1).unwrap_or(1)];
    let pieces: Vec<&[u8]> = body.chunks(999).collect();
    let upload = site.create_deferred()?;
    let deferred = || site.post().octets().with("Upload-Defer-Length", 1);
    let part = site.create_by(&partial(site, max))?;
    upload.stands_at(0)?;
    site.ask(&Request::patch(&part.path, 0).body(&body[1..]))?.is(204)?;
    let joined = format!("final;{} {}", part.path, part.path);
    let requests = [
        site.post().with("Upload-Length", max + 1).body(b""),
        partial(site, max + 1),
        deferred().body(&body),
        deferred().chunked(&pieces),
        upload.patch_at(0).with("Upload-Length", max + 1).body(b""),
        upload.patch_at(0).body(&body),
        upload.patch_at(0).chunked(&pieces),
        site.post().with("Upload-Concat", joined).body(b""),
    ];
    let mut rows = Rows::new();
    for (index, request) in requests.iter().enumerate() {
        rows.row(format!("{} {index}", request.method), || {
            let answer = upload.refuses(request, &[413])?.has("Tus-Max-Size", max)?;
            answer.has_code("ERR_MAX_SIZE_EXCEEDED").map(drop)
        });
    }
    rows.verdict()
}

fn partial(site: &Site, length: u64) -> Request {
    site.post().with("Upload-Length", length).with("Upload-Concat", "partial").body(b"")
}

/// Metadata of more than 16 KiB (D-28).
fn long_metadata(request: Request) -> Request {
    request.with("Upload-Metadata", format!("a {}", "YWFh".repeat(4 * 1024 + 1)))
}
