//! The concatenation extension: what finals are made of and what they are.

use std::time::{Duration, Instant};

use crate::case::{BOTH, Case, OWN, Setup};
use crate::content::{bytes, metadata};
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::Site;
use crate::upload::Upload;

const EXTENSIONS: &[&str] = &["creation", "concatenation"];
const PENDING: &[&str] = &["creation", "concatenation", "concatenation-unfinished"];

pub(super) const CASES: &[Case] = &[
    Case::must(
        "final_is_its_parts_in_order",
        &["T-100", "T-101", "T-103", "T-107", "T-110", "F-34", "F-37", "F-39", "D-38", "D-49"],
        "201 without a length; offset = length = sum; bytes in listed order, a part twice counts twice",
        in_order,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::must(
        "partial_shows_its_offset_and_what_it_is",
        &["T-101", "T-111", "T-112", "F-39"],
        "HEAD of a partial has offset, length or deferral, and Upload-Concat as received",
        partial_head,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::must(
        "final_shows_what_it_is",
        &["T-112", "T-106", "T-110"],
        "HEAD of a final has Upload-Concat as received and the metadata of its own POST alone",
        final_head,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::should(
        "partial_is_no_completed_upload",
        &["T-102", "D-51"],
        "a complete partial is neither readable nor published",
        not_published,
    )
    .under(OWN),
    Case::may(
        "final_over_unfinished_parts_is_refused",
        &["T-105", "D-33", "I-04"],
        "400 unless concatenation-unfinished is announced; once the parts are complete it works",
        unfinished,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::ours(
        "final_of_what_is_no_partial_is_refused",
        &["D-32", "I-04", "F-55"],
        "an ordinary upload or another final as a part answers 400",
        not_partial,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::must(
        "final_refuses_bytes",
        &["T-104", "T-108", "D-37", "I-03", "I-04"],
        "PATCH at any offset answers 403, so does a POST with upload bytes; another body is drained",
        refuses_bytes,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::ours(
        "final_with_a_length_must_be_told_the_sum",
        &["D-36", "T-104", "I-04"],
        "Upload-Length equal to the sum is ignored, another answers 400",
        with_length,
    )
    .needing(EXTENSIONS),
    Case::ours(
        "final_of_empty_parts_is_empty_and_complete",
        &["T-114", "T-052"],
        "parts of no bytes are legal, alone and among others",
        empty_parts,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::ours(
        "final_outlives_its_parts",
        &["D-39", "T-107", "I-01"],
        "DELETE of parts leaves the final whole, DELETE of a final leaves parts and other finals",
        outlives,
    )
    .needing(&["creation", "concatenation", "termination"])
    .under(BOTH),
    Case::must(
        "final_above_the_limit_is_refused",
        &["T-055", "I-04"],
        "413 if the sum of the parts is above the limit",
        above_limit,
    )
    .needing(EXTENSIONS)
    .under(&[Setup::MaxSize]),
    Case::ours(
        "final_of_gigabytes_answers_at_once",
        &["F-33", "D-49"],
        "2 GiB by reference: the 201 and the first read do not wait for a copy",
        at_once,
    )
    .under(OWN),
    Case::may(
        "pending_final_completes_with_its_last_part",
        &["T-105", "T-109", "T-110", "D-33", "F-39"],
        "201 over unfinished parts; no offset until the last is complete, the length when known",
        pending,
    )
    .needing(PENDING)
    .under(&[Setup::PendingFinals]),
    Case::must(
        "pending_final_refuses_bytes_and_reading",
        &["T-108", "D-51", "F-27"],
        "PATCH answers 403 and GET 404 while it is pending",
        pending_refuses,
    )
    .needing(PENDING)
    .under(&[Setup::PendingFinals]),
];

/// A POST for a partial of this length.
pub(super) fn partial(site: &Site, length: u64) -> Request {
    site.post().with("Upload-Length", length).with("Upload-Concat", "partial").body(b"")
}

/// A complete partial with this content.
pub(super) fn part<'a>(site: &'a Site, content: &[u8]) -> Result<Upload<'a>, Failure> {
    let upload = site.create_by(&partial(site, content.len() as u64))?;
    if !content.is_empty() {
        upload.patch(0, content)?.is(204)?;
    }
    Ok(upload)
}

/// A POST for a final of these parts.
pub(super) fn join(site: &Site, parts: &[&Upload<'_>]) -> Request {
    let list = parts.iter().map(|part| part.path.as_str()).collect::<Vec<_>>().join(" ");
    site.post().with("Upload-Concat", format!("final;{list}")).body(b"")
}

fn in_order(site: &Site) -> Verdict {
    let contents = [bytes(1000, 44), bytes(70_000, 45), bytes(1, 46)];
    let mut parts = Vec::new();
    for content in &contents {
        parts.push(part(site, content)?);
    }
    let orders: [&[usize]; 6] =
        [&[0, 1, 2], &[2, 1, 0], &[1], &[0, 0], &[0, 1, 0, 2, 1], &[2, 2, 2]];
    let mut rows = Rows::new();
    for order in orders {
        rows.row(format!("{order:?}"), || {
            let chosen: Vec<&Upload<'_>> = order.iter().map(|n| &parts[*n]).collect();
            let content: Vec<u8> = order.iter().flat_map(|n| contents[*n].clone()).collect();
            let answer = site.ask(&join(site, &chosen))?.is(201)?.carries("Location")?;
            let joined = site.created(&answer.has("Upload-Offset", content.len())?)?;
            joined.reads_back(&content)
        });
    }
    rows.verdict()?;
    for (part, content) in parts.iter().zip(&contents) {
        part.stands_at(content.len() as u64)?;
    }
    Ok(())
}

fn partial_head(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for value in ["partial", "Partial", "PARTIAL"] {
        rows.row(value, || {
            let known = site.post().with("Upload-Length", 6).with("Upload-Concat", value).body(b"");
            let upload = site.create_by(&known)?;
            for (offset, piece) in [(0, &b""[..]), (0, b"abc"), (3, b"def")] {
                upload.patch(offset, piece)?.is(204)?;
                let head = upload.head()?.is(200)?.has("Upload-Concat", value)?;
                let end = offset + piece.len() as u64;
                head.has("Upload-Offset", end)?.has("Upload-Length", 6)?;
            }
            let deferred = site.post().with("Upload-Defer-Length", 1).with("Upload-Concat", value);
            let head = site.create_by(&deferred.body(b""))?.head()?.is(200)?;
            let head = head.has("Upload-Concat", value)?.has("Upload-Defer-Length", 1)?;
            head.has("Upload-Offset", 0).map(drop)
        });
    }
    rows.verdict()
}

fn final_head(site: &Site) -> Verdict {
    let create = |name: &str| {
        let request =
            partial(site, 3).octets().with("Upload-Metadata", metadata(&[("filename", name)]));
        site.create_by(&request.body(b"abc"))
    };
    let parts = [create("first.bin")?, create("second.bin")?];
    let request = join(site, &[&parts[0], &parts[1]]);
    let value = request.field("Upload-Concat").unwrap_or_default();
    let head = site.create_by(&request)?.head()?.is(200)?;
    head.has("Upload-Concat", &value)?.lacks("Upload-Metadata")?.has("Upload-Offset", 6)?;

    let own = metadata(&[("filename", "whole.bin")]);
    let named = site.create_by(&request.with("Upload-Metadata", &own))?;
    named.head()?.is(200)?.has("Upload-Metadata", &own)?.has("Upload-Concat", &value)?;
    ensure_eq(
        "a part's metadata",
        parts[0].state()?.metadata,
        Some(metadata(&[("filename", "first.bin")])),
    )
}

fn not_published(site: &Site) -> Verdict {
    let own = site.launch(&[])?;
    let upload = part(&own.site, b"abcdef")?;
    let named = own.process.files().into_iter().find(|(path, _)| path.ends_with(upload.id()));
    ensure(named.is_none(), format!("the partial was published as {named:?}"))?;
    upload.get()?.is(404)?;
    part(&own.site, b"")?.get()?.is(404)?;
    Ok(())
}

fn unfinished(site: &Site) -> Verdict {
    let (whole, half) = (part(site, b"abc")?, site.create_by(&partial(site, 3))?);
    let deferred = site.post().with("Upload-Defer-Length", 1).with("Upload-Concat", "partial");
    let deferred = site.create_by(&deferred.body(b""))?;
    let lists: [&[&Upload<'_>]; 4] =
        [&[&half], &[&whole, &half], &[&half, &whole], &[&whole, &deferred]];
    let mut rows = Rows::new();
    for list in lists {
        rows.row(format!("{} parts", list.len()), || {
            site.ask(&join(site, list))?.is(400)?.lacks("Location").map(drop)
        });
    }
    rows.verdict()?;
    half.patch(0, b"def")?.is(204)?;
    site.create_by(&join(site, &[&whole, &half]))?.reads_back(b"abcdef")
}

fn not_partial(site: &Site) -> Verdict {
    let (whole, ordinary) = (part(site, b"abc")?, site.create_complete(b"def")?);
    let open = site.create(3)?;
    let joined = site.create_by(&join(site, &[&whole]))?;
    let lists: [&[&Upload<'_>]; 5] =
        [&[&ordinary], &[&whole, &ordinary], &[&open], &[&joined], &[&whole, &joined]];
    let mut rows = Rows::new();
    for (index, list) in lists.iter().enumerate() {
        rows.row(format!("list {index}"), || {
            site.ask(&join(site, list))?.is(400)?.lacks("Location").map(drop)
        });
    }
    rows.verdict()
}

fn refuses_bytes(site: &Site) -> Verdict {
    let whole = part(site, b"abc")?;
    let joined = site.create_by(&join(site, &[&whole, &whole]))?;
    let mut rows = Rows::new();
    for (offset, body) in [(0, &b"abc"[..]), (6, b"x"), (6, b""), (3, b"abc"), (99, b"")] {
        rows.row(format!("PATCH at {offset}, {} bytes", body.len()), || {
            joined.refuses(&joined.patch_at(offset).body(body), &[403])?;
            joined.refuses(&joined.patch_at(offset).chunked(&[body]), &[403]).map(drop)
        });
    }
    rows.row("POST with upload bytes", || {
        let request = join(site, &[&whole]).octets();
        site.ask(&request.clone().body(b"abc"))?.is(403)?.lacks("Location")?;
        site.ask(&request.chunked(&[b"abc"]))?.is(403)?.lacks("Location").map(drop)
    });
    rows.row("POST with no upload bytes", || {
        site.create_by(&join(site, &[&whole]).octets().body(b""))?.reads_back(b"abc")?;
        let other = join(site, &[&whole]).with("Content-Type", "text/plain").body(b"other");
        site.create_by(&other)?.reads_back(b"abc")
    });
    rows.verdict()?;
    joined.reads_back(b"abcabc")
}

fn with_length(site: &Site) -> Verdict {
    let (first, second) = (part(site, b"abc")?, part(site, b"defg")?);
    let request = join(site, &[&first, &second]);
    site.create_by(&request.clone().with("Upload-Length", 7))?.reads_back(b"abcdefg")?;
    for length in ["0", "6", "8", "x", "-7"] {
        site.ask(&request.clone().with("Upload-Length", length))?.is(400)?.lacks("Location")?;
    }
    Ok(())
}

fn empty_parts(site: &Site) -> Verdict {
    let (empty, two) = (part(site, b"")?, part(site, b"ab")?);
    empty.stands_at(0)?;
    site.create_by(&join(site, &[&empty]))?.reads_back(b"")?;
    site.create_by(&join(site, &[&empty, &empty]))?.reads_back(b"")?;
    site.create_by(&join(site, &[&empty, &empty, &two]))?.reads_back(b"ab")?;
    site.create_by(&join(site, &[&two, &empty, &two]))?.reads_back(b"abab")
}

fn outlives(site: &Site) -> Verdict {
    let contents = [bytes(50_000, 47), bytes(60_000, 48)];
    let parts = [part(site, &contents[0])?, part(site, &contents[1])?];
    let first = site.create_by(&join(site, &[&parts[0], &parts[1]]))?;
    let second = site.create_by(&join(site, &[&parts[1], &parts[0]]))?;
    let third = site.create_by(&join(site, &[&parts[1]]))?;
    third.delete()?.is(204)?;
    parts[1].stands_at(60_000)?;
    parts[0].delete()?.is(204)?;
    parts[0].is_gone(404)?;
    first.reads_back(&contents.concat())?;
    parts[1].delete()?.is(204)?;
    first.reads_back(&contents.concat())?;
    first.delete()?.is(204)?;
    first.is_gone(404)?;
    second.reads_back(&[&contents[1][..], &contents[0]].concat())
}

fn above_limit(site: &Site) -> Verdict {
    let max = site.options()?.number("Tus-Max-Size").unwrap_or(0);
    let half = vec![b'x'; usize::try_from(max / 2 + 1).unwrap_or(1)];
    let whole = part(site, &half)?;
    let answer = site.ask(&join(site, &[&whole, &whole]))?.is(413)?.lacks("Location")?;
    answer.has("Tus-Max-Size", max)?;
    site.create_by(&join(site, &[&whole]))?.reads_back(&half)
}

fn at_once(site: &Site) -> Verdict {
    const PART: usize = 32 << 20;
    const TIMES: usize = 64;
    // A server of its own: when it goes, so does whatever it still copies.
    let own = site.launch(&[])?;
    let content = bytes(PART, 49);
    let upload = part(&own.site, &content)?;
    let begun = Instant::now();
    let joined = own.site.create_by(&join(&own.site, &vec![&upload; TIMES]))?;
    let length = (PART * TIMES) as u64;
    joined.stands_at(length)?;
    let last =
        Request::plain("GET", &joined.path).with("Range", format!("bytes={}-", length - 100));
    own.site.ask(&last)?.is(206)?.has_body(&content[PART - 100..])?;
    let took = begun.elapsed();
    ensure(took < Duration::from_secs(2), format!("POST, HEAD and a read took {took:?}"))?;
    joined.delete()?.is(204)?;
    Ok(())
}

fn pending(site: &Site) -> Verdict {
    let first = site.create_by(&partial(site, 3))?;
    let deferred = site.post().with("Upload-Defer-Length", 1).with("Upload-Concat", "partial");
    let second = site.create_by(&deferred.body(b""))?;
    let request = join(site, &[&first, &second, &first]);
    let joined = site.created(&site.ask(&request)?.is(201)?)?;
    joined.head()?.is(200)?.lacks("Upload-Offset")?.lacks("Upload-Length")?;
    second.patch(0, b"de")?.is(204)?;
    joined.head()?.is(200)?.lacks("Upload-Offset")?.lacks("Upload-Length")?;
    site.ask(&second.patch_at(2).with("Upload-Length", 4).body(b"fg"))?.is(204)?;
    joined.head()?.is(200)?.lacks("Upload-Offset")?.has("Upload-Length", 10)?;
    first.patch(0, b"ab")?.is(204)?;
    joined.head()?.is(200)?.lacks("Upload-Offset")?;
    first.patch(2, b"c")?.is(204)?;
    let value = request.field("Upload-Concat").unwrap_or_default();
    joined.head()?.is(200)?.has("Upload-Offset", 10)?.has("Upload-Concat", value)?;
    joined.reads_back(b"abcdefgabc")?;
    site.create_by(&join(site, &[&first]))?.reads_back(b"abc")
}

fn pending_refuses(site: &Site) -> Verdict {
    let upload = site.create_by(&partial(site, 3))?;
    let joined = site.created(&site.ask(&join(site, &[&upload]))?.is(201)?)?;
    for offset in [0, 3, 9] {
        joined.refuses(&joined.patch_at(offset).body(b"abc"), &[403])?;
        joined.refuses(&joined.patch_at(offset).body(b""), &[403])?;
    }
    joined.get()?.is(404)?;
    upload.patch(0, b"abc")?.is(204)?;
    joined.reads_back(b"abc")
}
