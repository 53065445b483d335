//! The creation extension: POST, Upload-Length, Upload-Defer-Length.

use crate::case::{BOTH, Case, OWN, Setup};
use crate::content::checksum;
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::{Own, Site, path_of};
use crate::tus::patch::BAD_NUMBERS;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "post_answers_with_names_that_scripts_look_for",
        &["T-057"],
        "Location and the tus fields in title case over HTTP/1.1, though case does not matter",
        title_case,
    ),
    Case::must(
        "post_creates_an_upload",
        &["T-040", "T-056", "T-057", "T-058", "D-19", "0.4"],
        "201 with Location and Upload-Offset 0; the URL works at once",
        creates,
    )
    .under(BOTH),
    Case::ours(
        "post_answers_a_path_absolute_location",
        &["D-40", "T-057", "F-43", "I-12"],
        "Location is /files/<id>, whatever Host says, so it is right behind every proxy",
        location,
    )
    .under(BOTH),
    Case::must(
        "post_without_length_is_refused",
        &["T-046", "I-04"],
        "neither Upload-Length nor Upload-Defer-Length answers 400",
        without_length,
    )
    .under(BOTH),
    Case::must(
        "post_with_a_bad_length_is_refused",
        &["T-002", "T-046", "I-04"],
        "400 unless Upload-Length is digits alone, once; 413 if it is too big for the type",
        bad_length,
    ),
    Case::must(
        "post_with_an_unusual_but_legal_length_works",
        &["T-002", "T-056"],
        "leading zeros and 2^63-1",
        legal_length,
    ),
    Case::ours(
        "post_with_length_and_deferral_is_refused",
        &["D-31", "I-04", "F-55"],
        "Upload-Length together with Upload-Defer-Length answers 400",
        both_lengths,
    )
    .needing(&["creation", "creation-defer-length"]),
    Case::must(
        "post_with_a_bad_deferral_is_refused",
        &["T-041", "T-047", "I-04"],
        "Upload-Defer-Length is 1 or the answer is 400",
        bad_deferral,
    )
    .needing(&["creation", "creation-defer-length"]),
    Case::may(
        "post_of_length_zero_is_complete_at_once",
        &["T-052", "D-30", "F-23", "I-05", "F-55"],
        "201 with offset 0 = length 0, readable as an empty file, no PATCH needed",
        empty,
    )
    .under(BOTH),
    Case::must(
        "post_above_the_limit_is_refused",
        &["T-055", "I-04", "0.3"],
        "413 with Tus-Max-Size; exactly the limit is fine",
        above_limit,
    )
    .under(&[Setup::MaxSize]),
    Case::ours(
        "post_above_the_limit_with_a_body_is_refused",
        &["T-055", "I-04", "D-21"],
        "also if the length is deferred and the body alone is too long",
        body_above_limit,
    )
    .needing(&["creation", "creation-with-upload", "creation-defer-length"])
    .under(&[Setup::MaxSize]),
    Case::must(
        "post_that_is_refused_leaves_nothing_behind",
        &["I-04", "D-21", "D-12", "F-55"],
        "no refusal of any kind leaves a file in the data directory",
        leaves_nothing,
    )
    .under(OWN),
    Case::ours(
        "post_with_or_without_an_empty_body_is_the_same",
        &["T-056", "F-29", "T-061"],
        "Content-Length: 0, no Content-Length, an empty chunked body, any Content-Type",
        empty_bodies,
    ),
    Case::ours(
        "posts_in_parallel_make_uploads_that_do_not_mix",
        &["F-19", "I-12"],
        "many uploads at once, each reads back as sent with its own metadata",
        parallel,
    )
    .under(BOTH),
];

fn title_case(site: &Site) -> Verdict {
    let mut link = site.connect()?;
    let create = site.post().with("Upload-Length", 3).body(b"");
    link.raw.send_request(&create, &site.base.host)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(link.raw.read_bytes(1)?);
    }
    let head = String::from_utf8_lossy(&head);
    for name in ["Location", "Upload-Offset", "Tus-Resumable", "Cache-Control", "Vary"] {
        ensure(head.contains(&format!("\r\n{name}: ")), format!("no {name}: in {head:?}"))?;
    }
    Ok(())
}

fn creates(site: &Site) -> Verdict {
    let create = site.post().with("Upload-Length", "3").body(b"");
    let answer = site.ask(&create)?.is(201)?.carries("Location")?.has("Upload-Offset", 0)?;
    let upload = site.created(&answer)?;
    upload.head()?.is(200)?.has("Upload-Offset", 0)?.has("Upload-Length", 3)?;
    upload.patch(0, b"abc")?.is(204)?;
    upload.reads_back(b"abc")
}

fn location(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    let hosts: &[&str] = match site.transport {
        crate::site::Transport::Http1 => &["", "evil.example", "h:1", "[::1]:8080"],
        crate::site::Transport::Http2 => &[""],
    };
    for host in hosts {
        rows.row(format!("Host {host:?}"), || {
            let create = site.post().with("Upload-Length", "3").body(b"");
            let create = if host.is_empty() { create } else { create.with("Host", host) };
            let answer = site.ask(&create)?.is(201)?.carries("Location")?;
            let location = answer.field("Location").unwrap_or_default();
            let id = location.strip_prefix(&site.below("")).unwrap_or_default();
            ensure(!id.is_empty() && !id.contains('/'), format!("Location: {location}"))
        });
    }
    rows.verdict()
}

fn without_length(site: &Site) -> Verdict {
    for request in [site.post().body(b""), site.post(), site.post().octets().body(b"abc")] {
        site.ask(&request)?.is(400)?.lacks("Location")?;
    }
    Ok(())
}

fn bad_length(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for value in BAD_NUMBERS {
        rows.row(format!("{value:?}"), || {
            let request = site.post().with("Upload-Length", value).body(b"");
            site.ask(&request)?.is(400)?.lacks("Location").map(drop)
        });
    }
    for (first, second) in [("3", "3"), ("3", "4")] {
        rows.row(format!("repeated {first} {second}"), || {
            let request = site.post().with("Upload-Length", first).with("Upload-Length", second);
            site.ask(&request.body(b""))?.is(400)?.lacks("Location").map(drop)
        });
    }
    for value in ["9223372036854775808", "18446744073709551616", "99999999999999999999999999"] {
        rows.row(value, || {
            let request = site.post().with("Upload-Length", value).body(b"");
            site.ask(&request)?.is(413)?.lacks("Location").map(drop)
        });
    }
    rows.verdict()
}

fn legal_length(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for (value, length) in [("007", 7), ("9223372036854775807", (1 << 63) - 1)] {
        rows.row(value, || {
            let upload = site.create_by(&site.post().with("Upload-Length", value).body(b""))?;
            ensure_eq("the length", upload.state()?.length, Some(length))?;
            upload.patch(0, b"abc")?.is(204)?;
            upload.stands_at(3)
        });
    }
    rows.verdict()
}

fn both_lengths(site: &Site) -> Verdict {
    for deferral in ["1", "0", ""] {
        let request = site.post().with("Upload-Length", 3).with("Upload-Defer-Length", deferral);
        site.ask(&request.body(b""))?.is(400)?.lacks("Location")?;
    }
    Ok(())
}

fn bad_deferral(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for value in ["0", "2", "true", "", "01", "1.0", "1,1", "-1", "one"] {
        rows.row(format!("{value:?}"), || {
            let request = site.post().with("Upload-Defer-Length", value).body(b"");
            site.ask(&request)?.is(400)?.lacks("Location").map(drop)
        });
    }
    rows.verdict()
}

fn empty(site: &Site) -> Verdict {
    let plain = site.post().with("Upload-Length", 0);
    let requests = [plain.clone(), plain.clone().body(b""), plain.octets().body(b"")];
    for request in requests {
        let answer =
            site.ask(&request)?.is(201)?.has("Upload-Offset", 0)?.lacks("Upload-Expires")?;
        let upload = site.created(&answer)?;
        upload.reads_back(b"")?;
        upload.get()?.is(200)?.has("Content-Length", 0)?;
        upload.patch(0, b"")?.is(204)?;
    }
    Ok(())
}

fn above_limit(site: &Site) -> Verdict {
    let max = site.options()?.number("Tus-Max-Size").unwrap_or(0);
    for length in [max + 1, max * 1000, (1 << 63) - 1] {
        let request = site.post().with("Upload-Length", length).body(b"");
        site.ask(&request)?.is(413)?.has("Tus-Max-Size", max)?.lacks("Location")?;
    }
    let upload = site.create(max)?;
    ensure_eq("the length", upload.state()?.length, Some(max))
}

fn body_above_limit(site: &Site) -> Verdict {
    let max = site.options()?.number("Tus-Max-Size").unwrap_or(0);
    let body = vec![b'x'; usize::try_from(max + 1).unwrap_or(1)];
    let deferred = site.post().octets().with("Upload-Defer-Length", 1);
    let chunks: Vec<&[u8]> = body.chunks(1000).collect();
    for request in [deferred.clone().body(&body), deferred.clone().chunked(&chunks)] {
        site.ask(&request)?.is(413)?.lacks("Location")?;
    }
    site.ask(&deferred.body(&body[1..]))?.is(201)?.has("Upload-Offset", max)?;
    Ok(())
}

/// POST requests that must be refused, with their status.
fn refusals(own: &Own) -> Result<Vec<(Request, u16)>, Failure> {
    let site = &own.site;
    let plain = site.create(3)?;
    let part =
        site.create_by(&site.post().with("Upload-Length", 3).with("Upload-Concat", "partial"))?;
    let post = || site.post().with("Upload-Length", 3);
    let upload = || post().octets();
    let trailing = || upload().with("Trailer", "Upload-Checksum").chunked(&[b"abc"]);
    let finish = |list: &str| site.post().with("Upload-Concat", format!("final;{list}"));
    Ok(vec![
        (post().without("Tus-Resumable"), 412),
        (post().set("Upload-Length", "x"), 400),
        (post().set("Upload-Length", "1000001"), 413),
        (post().with("Upload-Defer-Length", 1), 400),
        (post().with("Upload-Metadata", "a !!!"), 400),
        (post().with("Upload-Metadata", format!("a {}", "YWFh".repeat(5000))), 431),
        (post().with("Upload-Concat", "other"), 400),
        (finish(""), 400),
        (finish("/elsewhere/x"), 400),
        (finish(&site.below("unknown")), 404),
        (finish(&plain.path), 400),
        (finish(&part.path), 400),
        (upload().body(b"abcd"), 413),
        (upload().chunked(&[b"ab", b"cd"]), 413),
        (upload().with("Upload-Checksum", "sha1").body(b"abc"), 400),
        (upload().with("Upload-Checksum", "crc32 AAAA").body(b"abc"), 400),
        (upload().with("Upload-Checksum", checksum("md5", b"x")).body(b"abc"), 460),
        (trailing().trailer("Upload-Checksum", checksum("md5", b"x")), 460),
        (trailing(), 400),
    ])
}

fn leaves_nothing(site: &Site) -> Verdict {
    let own = site.launch(&["--max-size", "1000000"])?;
    let table = refusals(&own)?;
    let before = own.process.files();
    let mut rows = Rows::new();
    for (request, status) in table {
        let fields =
            request.fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ");
        rows.row(format!("{status} {fields}"), || {
            own.site.ask(&request)?.is(status)?.lacks("Location")?;
            ensure_eq("the files in the data directory", own.process.files(), before.clone())
        });
    }
    rows.verdict()
}

fn empty_bodies(site: &Site) -> Verdict {
    let post = site.post().with("Upload-Length", 3);
    let requests = [
        post.clone(),
        post.clone().body(b""),
        post.clone().chunked(&[]),
        post.clone().octets().body(b""),
        post.clone().octets().chunked(&[]),
        post.clone().with("Content-Type", "application/json").body(b""),
        post.with("Content-Type", "").body(b""),
    ];
    for request in requests {
        let answer = site.ask(&request)?.is(201)?.has("Upload-Offset", 0)?;
        site.created(&answer)?.completes_with(b"abc")?;
    }
    Ok(())
}

fn parallel(site: &Site) -> Verdict {
    let results: Vec<Verdict> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8).map(|n| scope.spawn(move || several(site, n))).collect();
        let lost = || Err(Failure::new("a worker panicked"));
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| lost())).collect()
    });
    results.into_iter().collect()
}

fn several(site: &Site, worker: u64) -> Verdict {
    for round in 0..6 {
        let content = crate::content::bytes(20_000, worker * 100 + round);
        let name = format!("{worker}-{round}.bin");
        let metadata = crate::content::metadata(&[("filename", &name)]);
        let create =
            site.post().with("Upload-Length", content.len()).with("Upload-Metadata", &metadata);
        let upload = site.create_by(&create.body(b""))?;
        for (index, piece) in content.chunks(7_000).enumerate() {
            upload.patch(index as u64 * 7_000, piece)?.is(204)?;
        }
        ensure_eq("the metadata", upload.state()?.metadata, Some(metadata))?;
        upload.reads_back(&content)?;
        ensure(path_of(&upload.path) == upload.path, "the path is a path")?;
    }
    Ok(())
}
