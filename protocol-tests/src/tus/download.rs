//! GET: reading a complete upload.

use crate::case::{BOTH, Case};
use crate::content::{bytes, metadata};
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::message::{Request, Response};
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "get_of_a_complete_upload_answers_it_whole",
        &["D-51", "D-56", "D-60", "I-01"],
        "200 with length, strong ETag, Accept-Ranges and the fields that keep browsers safe",
        whole,
    )
    .under(BOTH),
    Case::ours(
        "get_of_an_unfinished_upload_answers_404",
        &["D-51", "F-27", "0.3"],
        "new, half, deferred and partial uploads are not there yet",
        unfinished,
    )
    .needing(&["creation", "creation-defer-length", "concatenation"])
    .under(BOTH),
    Case::ours(
        "get_of_a_tus_client_is_a_head_that_was_turned",
        &["D-61", "T-016", "F-56"],
        "204 with the fields of HEAD while there is nothing to read, 200 with both when there is",
        turned,
    )
    .needing(&["creation", "creation-defer-length", "concatenation"])
    .under(BOTH),
    Case::ours(
        "head_of_a_complete_upload_says_what_get_would",
        &["D-61", "D-51", "D-56"],
        "length, media type, disposition, ETag and ranges beside the tus fields, and no body",
        head,
    )
    .under(BOTH),
    Case::ours(
        "get_of_a_range_answers_it",
        &["D-51"],
        "206 for one range in any form, 416 past the end, the whole for what is no range",
        ranges,
    )
    .under(BOTH),
    Case::ours(
        "get_with_if_range_follows_the_etag",
        &["D-51", "D-60"],
        "206 if the ETag still holds, 200 otherwise; the ETag is stable and no other upload's",
        if_range,
    ),
    Case::ours(
        "get_with_its_etag_answers_304",
        &["D-51", "D-60", "I-07"],
        "If-None-Match with the ETag, or *, answers 304; other conditions the whole upload",
        conditions,
    ),
    Case::ours(
        "get_shows_the_media_type_of_the_metadata",
        &["D-56"],
        "filetype, else type, if well formed; else application/octet-stream",
        media_type,
    ),
    Case::ours(
        "get_shows_inline_only_what_is_safe",
        &["D-56", "D-52", "F-55"],
        "an allow-list without HTML, SVG, XML, PDF and JavaScript; the rest is an attachment",
        disposition,
    ),
    Case::ours(
        "get_shows_the_file_name_safely",
        &["D-56", "T-045", "F-31", "D-52"],
        "no path parts, no control characters, an ASCII fallback and the true name in UTF-8",
        file_name,
    ),
    Case::ours(
        "get_during_a_delete_is_whole_or_cut",
        &["D-51", "I-01", "T-091"],
        "a slow reader of a deleted upload gets its bytes or a broken connection, never other bytes",
        deleted_meanwhile,
    )
    .needing(&["creation", "termination"]),
    Case::ours(
        "get_by_many_readers_at_once_works",
        &["F-26", "D-51"],
        "twenty readers with ranges, slow ones among them, while HEAD is asked",
        many_readers,
    )
    .under(BOTH),
];

fn create(site: &Site, metadata: &str) -> Result<Response, Failure> {
    let create = site.post().with("Upload-Length", 0).with("Upload-Metadata", metadata).body(b"");
    site.create_by(&create)?.get()?.is(200)
}

fn whole(site: &Site) -> Verdict {
    let content = bytes(3_000_000, 50);
    for content in [&content[..], &content[..1], b""] {
        let upload = site.create_complete(content)?;
        let answer = upload.get()?.is(200)?.has_body(content)?;
        let answer = answer.has("Content-Length", content.len())?.has("Accept-Ranges", "bytes")?;
        let answer = answer.has("Content-Type", "application/octet-stream")?;
        let answer = answer.has("X-Content-Type-Options", "nosniff")?;
        let policy = answer.field("Content-Security-Policy").unwrap_or_default();
        ensure_eq("the policy", policy, "sandbox; default-src 'none'")?;
        let etag = answer.field("ETag").unwrap_or_default();
        ensure(
            etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"'),
            format!("ETag {etag}"),
        )?;
        ensure_eq(
            "Cache-Control",
            answer.list("Cache-Control").join(","),
            "private,no-cache".to_owned(),
        )?;
    }
    Ok(())
}

fn unfinished(site: &Site) -> Verdict {
    let half = site.create(6)?;
    half.patch(0, b"abc")?.is(204)?;
    let part = site.post().octets().with("Upload-Length", 3).with("Upload-Concat", "partial");
    let uploads = [
        ("new", site.create(3)?),
        ("half", half),
        ("deferred", site.create_deferred()?),
        ("complete partial", site.create_by(&part.body(b"abc"))?),
    ];
    let mut rows = Rows::new();
    for (name, upload) in &uploads {
        rows.row(name, || {
            let ranged = Request::plain("GET", &upload.path).with("Range", "bytes=0-0");
            site.ask(&ranged)?.is(404)?;
            upload.get()?.is(404)?.has("Cache-Control", "no-store").map(drop)
        });
    }
    rows.verdict()
}

/// The fields that HEAD has for this upload, as far as they say how it stands.
const STATUS: [&str; 5] =
    ["Upload-Offset", "Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Concat"];

fn turned(site: &Site) -> Verdict {
    let half = site.post().with("Upload-Length", 6).with("Upload-Metadata", "filename YQ==");
    let half = site.create_by(&half.body(b""))?;
    half.patch(0, b"abc")?.is(204)?;
    let part = site.post().octets().with("Upload-Length", 3).with("Upload-Concat", "partial");
    let mut rows = Rows::new();
    for (name, upload, status) in [
        ("new", site.create(3)?, 204),
        ("half", half, 204),
        ("deferred", site.create_deferred()?, 204),
        ("complete partial", site.create_by(&part.body(b"abc"))?, 204),
        ("complete", site.create_complete(b"abc")?, 200),
        ("empty", site.create_complete(b"")?, 200),
    ] {
        rows.row(name, || {
            let asked = upload.head()?.is(200)?;
            let turned = site.ask(&upload.request("GET"))?.is(status)?;
            for field in STATUS {
                ensure_eq(field, turned.field(field), asked.field(field))?;
            }
            turned.has("Cache-Control", "no-store").map(drop)
        });
    }
    rows.row("unknown", || {
        site.ask(&Request::tus("GET", &site.below("unknown")))?.is(404).map(drop)
    });
    rows.verdict()
}

fn head(site: &Site) -> Verdict {
    let create = site.post().octets().with("Upload-Length", 3);
    let kind = metadata(&[("filetype", "text/plain"), ("filename", "a.txt")]);
    let named = site.create_by(&create.with("Upload-Metadata", kind).body(b"abc"))?;
    for upload in [named, site.create_complete(b"")?] {
        let read = upload.get()?.is(200)?;
        let asked = upload.head()?.is(200)?.has_body(b"")?;
        for field in
            ["Content-Length", "Content-Type", "Content-Disposition", "ETag", "Accept-Ranges"]
        {
            ensure_eq(field, asked.field(field), read.field(field))?;
        }
        asked.has("Upload-Offset", read.body.len())?.has("Cache-Control", "no-store")?;
    }
    site.create(3)?.head()?.is(200)?.lacks("ETag")?.lacks("Accept-Ranges")?;
    Ok(())
}

fn ranges(site: &Site) -> Verdict {
    let content = bytes(1000, 51);
    let upload = site.create_complete(&content)?;
    let get = |range: &str| site.ask(&Request::plain("GET", &upload.path).with("Range", range));
    let satisfied = [
        ("bytes=0-0", 0..1),
        ("bytes=0-99", 0..100),
        ("bytes=100-", 100..1000),
        ("bytes=999-", 999..1000),
        ("bytes=-1", 999..1000),
        ("bytes=-250", 750..1000),
        ("bytes=-5000", 0..1000),
        ("bytes=500-99999999999999999", 500..1000),
        ("bytes=0-", 0..1000),
        ("Bytes=1-2", 1..3),
    ];
    let mut rows = Rows::new();
    for (range, expected) in satisfied {
        rows.row(range, || {
            let answer = get(range)?.is(206)?.has("Content-Length", expected.len())?;
            let shown = format!("bytes {}-{}/1000", expected.start, expected.end - 1);
            answer.has("Content-Range", shown)?.has_body(&content[expected]).map(drop)
        });
    }
    for range in ["bytes=1000-", "bytes=5000-6000", "bytes=1000-1000", "bytes=-0"] {
        rows.row(range, || get(range)?.is(416)?.has("Content-Range", "bytes */1000").map(drop));
    }
    for range in
        ["bytes=5-2", "bytes=", "bytes=a-b", "lines=1-2", "0-5", "bytes 0-5", "bytes=--1", ""]
    {
        rows.row(format!("{range:?}"), || get(range)?.is(200)?.has_body(&content).map(drop));
    }
    let empty = site.create_complete(b"")?;
    for (range, status) in [("bytes=0-", 200), ("bytes=0-0", 416), ("bytes=1-", 416)] {
        rows.row(format!("{range} of nothing"), || {
            let request = Request::plain("GET", &empty.path).with("Range", range);
            site.ask(&request)?.is(status).map(drop)
        });
    }
    rows.row("several ranges", || {
        let answer = get("bytes=0-1,5-6")?.is_one_of(&[200, 206])?;
        ensure(answer.status == 206 || answer.body == content, "neither the ranges nor the whole")
    });
    rows.verdict()
}

fn if_range(site: &Site) -> Verdict {
    let content = bytes(1000, 52);
    let (upload, other) = (site.create_complete(&content)?, site.create_complete(&content)?);
    let etag = |answer: &Response| answer.field("ETag").unwrap_or_default().to_owned();
    let (first, again) = (etag(&upload.get()?), etag(&upload.get()?));
    ensure_eq("the ETag", &again, &first)?;
    ensure(etag(&other.get()?) != first, "two uploads have one ETag")?;
    let get = |condition: &str| {
        let request = Request::plain("GET", &upload.path).with("Range", "bytes=10-19");
        site.ask(&request.with("If-Range", condition))
    };
    get(&first)?.is(206)?.has_body(&content[10..20])?.has("ETag", &first)?;
    get("\"another\"")?.is(200)?.has_body(&content)?;
    get(&format!("W/{first}"))?.is(200)?.has_body(&content)?;
    Ok(())
}

fn conditions(site: &Site) -> Verdict {
    let upload = site.create_complete(b"abc")?;
    let etag = upload.get()?.field("ETag").unwrap_or_default().to_owned();
    let stale = "\"another\"";
    let table = [
        ("If-None-Match", etag.as_str(), 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", stale, 200),
        ("If-Modified-Since", "Wed, 25 Jun 2094 16:00:00 GMT", 200),
    ];
    for (name, value, status) in table {
        let answer = site.ask(&Request::plain("GET", &upload.path).with(name, value))?;
        let content: &[u8] = if status == 200 { b"abc" } else { b"" };
        answer.is(status)?.has("ETag", &etag)?.has_body(content)?;
    }
    Ok(())
}

fn media_type(site: &Site) -> Verdict {
    let table = [
        (vec![("filetype", "image/png")], "image/png"),
        (vec![("type", "image/png")], "image/png"),
        (vec![("type", "image/png"), ("filetype", "video/mp4")], "video/mp4"),
        (vec![("filetype", "text/plain; charset=utf-8")], "text/plain; charset=utf-8"),
        (vec![("filetype", "application/vnd.ms-excel")], "application/vnd.ms-excel"),
        (vec![("filetype", "")], "application/octet-stream"),
        (vec![("filetype", "image")], "application/octet-stream"),
        (vec![("filetype", "image/")], "application/octet-stream"),
        (vec![("filetype", "/png")], "application/octet-stream"),
        (vec![("filetype", "image/png/x")], "application/octet-stream"),
        (vec![("filetype", "ima ge/png")], "application/octet-stream"),
        (vec![("filetype", "image/png\r\nX-Injected: yes")], "application/octet-stream"),
        (vec![("filetype", "im\u{e4}ge/png")], "application/octet-stream"),
        (vec![("filename", "a.png")], "application/octet-stream"),
    ];
    let mut rows = Rows::new();
    for (pairs, expected) in table {
        rows.row(format!("{pairs:?}"), || {
            let answer = create(site, &metadata(&pairs))?.lacks("X-Injected")?;
            answer.has("Content-Type", expected).map(drop)
        });
    }
    rows.verdict()
}

fn disposition(site: &Site) -> Verdict {
    let inline = [
        "text/plain",
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/bmp",
        "image/webp",
        "audio/wave",
        "audio/wav",
        "audio/x-wav",
        "audio/x-pn-wav",
        "audio/webm",
        "audio/ogg",
        "video/mp4",
        "video/webm",
        "video/ogg",
        "application/ogg",
        "text/plain; charset=utf-8",
        "IMAGE/PNG",
    ];
    let attached = [
        "text/html",
        "image/svg+xml",
        "text/xml",
        "application/xml",
        "application/pdf",
        "application/javascript",
        "text/javascript",
        "application/xhtml+xml",
        "text/css",
        "application/octet-stream",
        "image/tiff",
        "text/html; charset=text/plain",
        "nonsense",
        "",
    ];
    let inline = inline.iter().map(|kind| (*kind, "inline"));
    let attached = attached.iter().map(|kind| (*kind, "attachment"));
    let mut rows = Rows::new();
    for (kind, expected) in inline.chain(attached) {
        rows.row(format!("{kind:?}"), || {
            let answer = create(site, &metadata(&[("filetype", kind), ("filename", "a.bin")]))?;
            let shown = answer.field("Content-Disposition").unwrap_or_default();
            ensure_eq(
                "the disposition",
                shown.split(';').next().unwrap_or_default().trim(),
                expected,
            )
        });
    }
    rows.verdict()
}

/// The percent-encoding of RFC 8187.
fn extended(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&b);
    name.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn file_name(site: &Site) -> Verdict {
    let table = [
        ("filename", "report.txt", "report.txt"),
        ("name", "report.txt", "report.txt"),
        ("filename", "two words.txt", "two words.txt"),
        (
            "filename",
            "\u{30D5}\u{30A1}\u{30A4}\u{30EB}.txt",
            "\u{30D5}\u{30A1}\u{30A4}\u{30EB}.txt",
        ),
        ("filename", "\u{1F600}.png", "\u{1F600}.png"),
        ("filename", "na\u{ef}ve.txt", "na\u{ef}ve.txt"),
        ("filename", "../../etc/passwd", "passwd"),
        ("filename", "/etc/passwd", "passwd"),
        ("filename", "C:\\Users\\me\\notes.txt", "notes.txt"),
        ("filename", "a\r\nX-Injected: yes.txt", "aX-Injected: yes.txt"),
        ("filename", "tab\there\u{7f}.txt", "tabhere.txt"),
        ("filename", "quo\"te.txt", "quo\"te.txt"),
        ("filename", "semi;colon.txt", "semi;colon.txt"),
        ("filename", "100%.txt", "100%.txt"),
    ];
    let mut rows = Rows::new();
    for (key, given, expected) in table {
        rows.row(format!("{key} {given:?}"), || {
            let answer = create(site, &metadata(&[(key, given)]))?.lacks("X-Injected")?;
            let shown = answer.field("Content-Disposition").unwrap_or_default();
            ensure(shown.is_ascii(), format!("not ASCII: {shown}"))?;
            let fallback = shown.contains("filename=\"");
            let exact = shown.contains(&format!("filename*=UTF-8''{}", extended(expected)));
            ensure(fallback && exact, format!("Content-Disposition: {shown}"))
        });
    }
    rows.row("both keys", || {
        let answer = create(site, &metadata(&[("name", "b.txt"), ("filename", "a.txt")]))?;
        let shown = answer.field("Content-Disposition").unwrap_or_default();
        ensure(shown.contains("a.txt") && !shown.contains("b.txt"), shown)
    });
    for name in ["", "..", ".", "/", "\r\n"] {
        rows.row(format!("no name from {name:?}"), || {
            let answer = create(site, &metadata(&[("filename", name)]))?;
            let shown = answer.field("Content-Disposition").unwrap_or_default();
            ensure(
                !shown.contains("\"..\"") && !shown.contains("\".\"") && !shown.contains('/'),
                shown,
            )
        });
    }
    rows.verdict()
}

fn deleted_meanwhile(site: &Site) -> Verdict {
    let content = bytes(20_000_000, 103);
    let upload = site.create_complete(&content)?;
    let request = Request::plain("GET", &upload.path);
    let mut link = site.connect()?;
    link.send_head(&request)?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    upload.delete()?.is(204)?;
    upload.is_gone(404)?;
    // Others take the space meanwhile.
    site.create_complete(&bytes(20_000_000, 104))?.delete()?.is(204)?;
    match link.answer_to(&request) {
        Ok(answer) => answer.is(200)?.has_body(&content).map(drop),
        Err(_) => Ok(()),
    }
}

fn many_readers(site: &Site) -> Verdict {
    let content = bytes(4_000_000, 53);
    let upload = site.create_complete(&content)?;
    // A reader that never reads holds its answer open all the while.
    let mut lazy = site.connect()?;
    lazy.send_head(&Request::plain("GET", &upload.path))?;
    let results: Vec<Verdict> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..20_usize)
            .map(|n| {
                let (content, upload) = (&content, &upload);
                scope.spawn(move || {
                    let start = n * 100_000;
                    let request = Request::plain("GET", &upload.path);
                    let request = request.with("Range", format!("bytes={start}-"));
                    site.ask(&request)?.is(206)?.has_body(&content[start..])?;
                    upload.stands_at(4_000_000)
                })
            })
            .collect();
        let lost = || Err(Failure::new("a reader panicked"));
        readers.into_iter().map(|reader| reader.join().unwrap_or_else(|_| lost())).collect()
    });
    drop(lazy);
    results.into_iter().collect()
}
