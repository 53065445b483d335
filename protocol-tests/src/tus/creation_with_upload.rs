//! The creation-with-upload extension: bytes in the POST.

use std::time::{Duration, Instant};

use crate::case::{BOTH, Case, OWN};
use crate::content::{bytes, checksum};
use crate::failure::{Rows, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::{Own, Site};

pub(super) const CASES: &[Case] = &[
    Case::may(
        "post_with_the_whole_body_is_complete",
        &["T-060", "T-062", "I-02", "D-19"],
        "201 with the offset at the end; sized and chunked; readable at once",
        whole,
    )
    .needing(&["creation", "creation-with-upload"])
    .under(BOTH),
    Case::may(
        "post_with_a_first_piece_can_be_continued",
        &["T-062", "D-19", "I-02", "I-01"],
        "201 with the offset after the piece, with a known or a deferred length",
        first_piece,
    )
    .needing(&["creation", "creation-with-upload", "creation-defer-length"])
    .under(BOTH),
    Case::may(
        "post_of_a_partial_with_its_body_stores_it",
        &["T-062", "F-30", "T-101"],
        "Upload-Concat: partial and a body in one POST",
        partial,
    )
    .needing(&["creation", "creation-with-upload", "concatenation"])
    .under(BOTH),
    Case::must(
        "post_with_a_body_of_another_type_ignores_it",
        &["T-061", "D-37"],
        "201 at offset 0; the body is drained and the connection serves the next request",
        other_type,
    )
    .needing(&["creation", "creation-with-upload"]),
    Case::ours(
        "post_with_a_body_past_its_length_is_refused",
        &["I-02", "I-04", "D-11", "D-12"],
        "413, sized or chunked, and nothing is created",
        too_long,
    )
    .needing(&["creation", "creation-with-upload"])
    .under(BOTH),
    Case::ours(
        "post_with_a_checksum_is_verified",
        &["D-21", "I-04", "T-081", "F-55"],
        "201 on a match in header or trailer, 400 or 460 and no upload otherwise",
        checked,
    )
    .needing(&["creation", "creation-with-upload", "checksum"])
    .under(BOTH),
    Case::should(
        "post_cut_off_keeps_what_arrived",
        &["T-063", "T-026"],
        "the bytes are in the store; if an answer comes, it is 201 with the true offset",
        cut,
    )
    .under(OWN),
    Case::must(
        "post_cut_off_with_a_checksum_leaves_nothing",
        &["T-084", "D-25", "I-04"],
        "bytes that were never verified do not stay",
        cut_checked,
    )
    .under(OWN),
];

fn post(site: &Site, length: usize) -> Request {
    site.post().octets().with("Upload-Length", length)
}

fn whole(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for length in [1, 1000, 3_000_000] {
        let content = bytes(length, 24);
        let chunks: Vec<&[u8]> = content.chunks(70_000).collect();
        let requests = [post(site, length).body(&content), post(site, length).chunked(&chunks)];
        for (request, framing) in requests.iter().zip(["sized", "chunked"]) {
            rows.row(format!("{length} bytes, {framing}"), || {
                let answer = site.ask(request)?.is(201)?.has("Upload-Offset", length)?;
                site.created(&answer)?.reads_back(&content)
            });
        }
    }
    rows.verdict()
}

fn first_piece(site: &Site) -> Verdict {
    let content = bytes(1000, 25);
    let deferred = site.post().octets().with("Upload-Defer-Length", 1);
    let mut rows = Rows::new();
    for (name, request) in [("known", post(site, 1000)), ("deferred", deferred)] {
        for (framing, sent) in
            [("sized", 400), ("chunked", 400), ("sized", 1000), ("chunked", 1000)]
        {
            rows.row(format!("{name}, {framing}, {sent} bytes"), || {
                let request = match framing {
                    "sized" => request.clone().body(&content[..sent]),
                    _ => request.clone().chunked(&[&content[..100], &content[100..sent]]),
                };
                let answer = site.ask(&request)?.is(201)?.has("Upload-Offset", sent)?;
                let upload = site.created(&answer)?;
                upload.stands_at(sent as u64)?;
                ensure_eq("deferral", upload.state()?.deferred.is_some(), name == "deferred")?;
                upload.completes_with(&content)
            });
        }
    }
    rows.verdict()
}

fn partial(site: &Site) -> Verdict {
    for (length, sent) in [(6, 6), (6, 2), (0, 0)] {
        let content = &b"abcdef"[..sent];
        let request = post(site, length).with("Upload-Concat", "partial").body(content);
        let answer = site.ask(&request)?.is(201)?.has("Upload-Offset", sent)?;
        let upload = site.created(&answer)?;
        let head = upload.head()?.is(200)?.has("Upload-Concat", "partial")?;
        head.has("Upload-Offset", sent)?.has("Upload-Length", length)?;
    }
    Ok(())
}

fn other_type(site: &Site) -> Verdict {
    let plain = site.post().with("Upload-Length", 3);
    let mut rows = Rows::new();
    for kind in
        [None, Some("application/json"), Some("text/plain"), Some("application/octet-stream")]
    {
        for chunked in [false, true] {
            rows.row(format!("{kind:?}, chunked {chunked}"), || {
                let request =
                    kind.iter().fold(plain.clone(), |r, kind| r.with("Content-Type", kind));
                let body: &[u8] = b"a body longer than the upload";
                let request = if chunked { request.chunked(&[body]) } else { request.body(body) };
                let mut link = site.connect()?;
                let answer = link.ask(&request)?.is(201)?.has("Upload-Offset", 0)?;
                let upload = site.created(&answer)?;
                link.ask(&upload.request("HEAD"))?.is(200)?.has("Upload-Offset", 0)?;
                upload.completes_with(b"abc")
            });
        }
    }
    rows.verdict()
}

fn too_long(site: &Site) -> Verdict {
    let content = bytes(2000, 26);
    let mut rows = Rows::new();
    for length in [0, 1, 1999] {
        rows.row(length, || {
            let sized = post(site, length).body(&content);
            site.ask(&sized)?.is(413)?.lacks("Location")?;
            let chunks: Vec<&[u8]> = content.chunks(100).collect();
            site.ask(&post(site, length).chunked(&chunks))?.is(413)?.lacks("Location").map(drop)
        });
    }
    rows.verdict()
}

fn checked(site: &Site) -> Verdict {
    let (right, wrong) = (checksum("sha256", b"abc"), checksum("sha256", b"abd"));
    let sized = || post(site, 3).body(b"abc");
    let trailed = |sum: &str| {
        let request = post(site, 3).with("Trailer", "Upload-Checksum").chunked(&[b"ab", b"c"]);
        request.trailer("Upload-Checksum", sum)
    };
    let table = [
        ("match", sized().with("Upload-Checksum", &right), 201),
        ("match in a trailer", trailed(&right), 201),
        ("mismatch", sized().with("Upload-Checksum", &wrong), 460),
        ("mismatch in a trailer", trailed(&wrong), 460),
        ("malformed", sized().with("Upload-Checksum", "sha256"), 400),
        ("malformed in a trailer", trailed("sha256"), 400),
        ("unknown", sized().with("Upload-Checksum", "crc32 AAAAAA=="), 400),
        ("unknown in a trailer", trailed("crc32 AAAAAA=="), 400),
    ];
    let mut rows = Rows::new();
    for (name, request, status) in table {
        rows.row(name, || {
            let answer = site.ask(&request)?.is(status)?;
            if status == 201 {
                return site.created(&answer.has("Upload-Offset", 3)?)?.reads_back(b"abc");
            }
            answer.lacks("Location").map(drop)
        });
    }
    rows.verdict()
}

/// Whether a file in the data directory holds exactly these bytes.
fn stored(own: &Own, content: &[u8]) -> bool {
    let files = own.process.files();
    let mut same_size = files.iter().filter(|(_, size)| *size == content.len() as u64);
    same_size.any(|(path, _)| std::fs::read(path).is_ok_and(|found| found == content))
}

fn cut(site: &Site) -> Verdict {
    let own = site.launch(&[])?;
    let content = bytes(1000, 27);
    let mut rows = Rows::new();
    for (half_close, sent) in [(false, 400), (true, 500)] {
        rows.row(format!("half-close {half_close}"), || {
            let request = post(&own.site, 1000).body(&content);
            let mut link = own.site.connect()?;
            link.send_head(&request)?;
            link.raw.send(&content[..sent])?;
            if half_close {
                link.raw.half_close()?;
                if let Ok(answer) = link.raw.read_answer(&request) {
                    answer.is(201)?.has("Upload-Offset", sent)?;
                }
            }
            drop(link);
            let deadline = Instant::now() + Duration::from_secs(3);
            while !stored(&own, &content[..sent]) {
                ensure(Instant::now() < deadline, format!("no file holds the {sent} bytes"))?;
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        });
    }
    rows.verdict()
}

fn cut_checked(site: &Site) -> Verdict {
    let own = site.launch(&[])?;
    let content = bytes(1000, 28);
    let before = own.process.files();
    let sum = checksum("sha1", &content);
    let sized = post(&own.site, 1000).with("Upload-Checksum", sum).body(&content);
    let mut link = own.site.connect()?;
    link.send_head(&sized)?;
    link.raw.send(&content[..400])?;
    drop(link);
    let trailed = post(&own.site, 1000).with("Trailer", "Upload-Checksum").chunked(&[]);
    let mut link = own.site.connect()?;
    link.send_head(&trailed)?;
    link.raw.send_chunk(&content)?;
    drop(link);
    let deadline = Instant::now() + Duration::from_secs(3);
    std::thread::sleep(Duration::from_millis(200));
    while own.process.files() != before {
        let files = own.process.files();
        ensure(Instant::now() < deadline, format!("files are left: {files:?}"))?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
