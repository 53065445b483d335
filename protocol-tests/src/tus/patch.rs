//! PATCH (core protocol, "PATCH").

use std::time::Duration;

use crate::case::{BOTH, Case, OWN};
use crate::content::bytes;
use crate::failure::{Rows, Verdict, ensure, ensure_eq};
use crate::message::{OFFSET_OCTETS, Request};
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::must(
        "patch_at_the_offset_appends",
        &["T-001", "T-017", "T-021", "T-022", "I-01", "I-02", "F-54", "T-058"],
        "204 with the new offset, which HEAD shows too; the whole reads back",
        appends,
    )
    .under(BOTH),
    Case::must(
        "patch_at_another_offset_is_refused",
        &["T-019", "D-09", "I-03", "F-09"],
        "409 below and above the offset, with the current one, and nothing changes",
        stale,
    )
    .under(BOTH),
    Case::must(
        "patch_with_another_content_type_is_refused",
        &["T-018", "D-07", "I-03", "F-55"],
        "415 unless the type is application/offset+octet-stream; parameters and case do not matter",
        content_type,
    )
    .under(BOTH),
    Case::ours(
        "patch_with_an_encoded_body_is_refused",
        &["0.2", "I-03"],
        "415 for any Content-Encoding but identity",
        encoded,
    ),
    Case::must(
        "patch_with_a_bad_offset_is_refused",
        &["T-002", "D-08", "I-03", "F-55"],
        "400 unless Upload-Offset is digits alone, once, below 2^63",
        bad_offset,
    ),
    Case::should(
        "patch_of_an_unknown_upload_answers_404",
        &["T-023", "D-15"],
        "404 and no upload appears",
        unknown,
    )
    .under(BOTH),
    Case::should(
        "patch_may_be_tiny_and_frequent",
        &["T-020", "F-48"],
        "hundreds of PATCHes of a few bytes on one connection",
        tiny,
    ),
    Case::ours(
        "patch_without_content_length_works",
        &["D-13", "I-02", "F-55"],
        "chunked bodies, in one chunk, many, with extensions and odd sizes",
        chunked,
    )
    .under(BOTH),
    Case::ours(
        "patch_of_any_size_shows_the_true_offset",
        &["F-15", "I-01", "I-02"],
        "sizes around every likely block limit, up to 16 MiB + 1",
        block_limits,
    ),
    Case::ours(
        "patch_sequence_on_one_connection_survives_pauses",
        &["F-49", "F-48"],
        "large PATCHes over one kept-alive connection, with pauses",
        pauses,
    )
    .waiting(),
    Case::ours(
        "patches_sent_ahead_are_taken_in_order",
        &["T-020", "F-48", "I-01"],
        "requests pipelined on one connection are answered one by one, in order",
        pipelined,
    ),
    Case::ours(
        "patch_with_stray_fields_works",
        &["D-31", "D-35", "F-24", "T-054"],
        "Upload-Metadata, -Concat and -Defer-Length that clients repeat on PATCH are ignored",
        stray_fields,
    )
    .under(BOTH),
    Case::ours(
        "patch_without_bytes_is_cheap_and_changes_nothing",
        &["F-60", "D-10"],
        "an endless stream of empty PATCHes answers 204 and writes nothing",
        empty,
    )
    .under(OWN),
    Case::ours(
        "patch_of_a_complete_upload_is_judged_like_any_other",
        &["D-10", "I-03", "F-55", "F-17"],
        "empty at the end 204, elsewhere 409, with bytes 413",
        complete,
    )
    .under(BOTH),
];

fn appends(site: &Site) -> Verdict {
    let content = bytes(100_000, 1);
    let upload = site.create(content.len() as u64)?;
    let mut offset = 0;
    for piece in content.chunks(33_333) {
        offset += piece.len() as u64;
        let start = offset - piece.len() as u64;
        upload.patch(start, piece)?.is(204)?.has("Upload-Offset", offset)?.has_body(b"")?;
        upload.stands_at(offset)?;
    }
    upload.reads_back(&content)
}

fn stale(site: &Site) -> Verdict {
    let upload = site.create(10)?;
    upload.patch(0, b"abcde")?.is(204)?;
    let mut rows = Rows::new();
    for offset in [0, 4, 6, 10, 11, 1 << 40, (1 << 63) - 1] {
        rows.row(offset, || {
            let request = upload.patch_at(offset).body(b"xyz");
            upload.refuses(&request, &[409])?.has("Upload-Offset", 5)?;
            Ok(())
        });
    }
    rows.verdict()?;
    upload.completes_with(b"abcdefghij")
}

fn content_type(site: &Site) -> Verdict {
    let upload = site.create(100)?;
    let refused = [
        Some("text/plain"),
        Some("application/octet-stream"),
        Some("application/offset+octet-streams"),
        Some("application/offset octet-stream"),
        Some("x/application/offset+octet-stream"),
        Some("application/partial-upload"),
        Some("multipart/form-data; boundary=application/offset+octet-stream"),
        Some(""),
        None,
    ];
    let mut rows = Rows::new();
    for kind in refused {
        rows.row(format!("{kind:?}"), || {
            let request = upload.patch_at(0).without("Content-Type").body(b"abc");
            let request = kind.iter().fold(request, |r, kind| r.with("Content-Type", kind));
            upload.refuses(&request, &[415]).map(drop)
        });
    }
    let accepted = [
        OFFSET_OCTETS,
        "Application/Offset+Octet-Stream",
        "application/offset+octet-stream; charset=utf-8",
        "application/offset+octet-stream;x=\"y\"",
    ];
    for (index, kind) in accepted.into_iter().enumerate() {
        rows.row(kind, || {
            let request = upload.patch_at(index as u64).set("Content-Type", kind).body(b"x");
            site.ask(&request)?.is(204)?.has("Upload-Offset", index + 1).map(drop)
        });
    }
    rows.verdict()
}

fn encoded(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let mut rows = Rows::new();
    for coding in ["gzip", "br", "identity, gzip", "x"] {
        rows.row(coding, || {
            let request = upload.patch_at(0).with("Content-Encoding", coding).body(b"abc");
            upload.refuses(&request, &[415]).map(drop)
        });
    }
    rows.row("identity", || {
        let request = upload.patch_at(0).with("Content-Encoding", "identity").body(b"abc");
        site.ask(&request)?.is(204).map(drop)
    });
    rows.verdict()?;
    upload.reads_back(b"abc")
}

/// Values that are no number in the grammar of T-002.
pub(super) const BAD_NUMBERS: &[&str] = &[
    "", "-1", "+1", "-0", "1.0", "1e3", "0x1", "1 2", "1,1", "0, 0", "abc", "1a", "\"1\"", "NaN",
    "null", "1;1", "\u{0661}",
];

fn bad_offset(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let mut rows = Rows::new();
    let too_big = ["9223372036854775808", "18446744073709551616", "99999999999999999999999999"];
    for value in BAD_NUMBERS.iter().chain(&too_big) {
        rows.row(format!("{value:?}"), || {
            let request = upload.patch_at(0).set("Upload-Offset", value).body(b"abc");
            upload.refuses(&request, &[400]).map(drop)
        });
    }
    rows.row("absent", || {
        let request = upload.patch_at(0).without("Upload-Offset").body(b"abc");
        upload.refuses(&request, &[400]).map(drop)
    });
    rows.row("repeated", || {
        let request = upload.patch_at(0).with("Upload-Offset", 0).body(b"abc");
        upload.refuses(&request, &[400]).map(drop)
    });
    rows.verdict()?;
    upload.patch(0, b"abc")?.is(204)?;
    upload.reads_back(b"abc")
}

fn unknown(site: &Site) -> Verdict {
    let upload = site.upload(&site.below("unknown"));
    upload.patch(0, b"abc")?.is(404)?;
    upload.patch(5, b"")?.is(404)?;
    upload.head()?.is(404)?;
    Ok(())
}

fn tiny(site: &Site) -> Verdict {
    let content = bytes(900, 2);
    let upload = site.create(content.len() as u64)?;
    let mut link = site.connect()?;
    for (index, piece) in content.chunks(3).enumerate() {
        let offset = index as u64 * 3;
        let answer = link.ask(&upload.patch_at(offset).body(piece))?.is(204)?;
        answer.has("Upload-Offset", offset + 3)?;
    }
    upload.reads_back(&content)
}

fn chunked(site: &Site) -> Verdict {
    let content = bytes(200_000, 3);
    let sizes = [content.len(), 1, 7, 4096, 65_536, 65_537];
    let mut rows = Rows::new();
    for size in sizes {
        rows.row(format!("chunks of {size}"), || {
            // Single bytes are dear on the wire: a shorter body says the same.
            let content = if size < 10 { &content[..2000] } else { &content[..] };
            let upload = site.create(content.len() as u64)?;
            let chunks: Vec<&[u8]> = content.chunks(size).collect();
            let request = upload.patch_at(0).chunked(&chunks);
            site.ask(&request)?.is(204)?.has("Upload-Offset", content.len())?;
            upload.reads_back(content)
        });
    }
    rows.row("chunk extensions", || {
        let upload = site.create(6)?;
        let mut link = site.connect()?;
        let request = upload.patch_at(0).chunked(&[b"abcdef"]);
        link.send_head(&request)?;
        link.raw.send(b"3;name=value\r\nabc\r\n03\r\ndef\r\n0\r\n\r\n")?;
        link.answer_to(&request)?.is(204)?;
        upload.reads_back(b"abcdef")
    });
    rows.verdict()
}

fn block_limits(site: &Site) -> Verdict {
    let mut sizes: Vec<usize> = vec![1];
    for power in [9, 12, 13, 14, 16, 20, 22, 24] {
        sizes.extend([(1 << power) - 1, 1 << power, (1 << power) + 1]);
    }
    let total: usize = sizes.iter().sum();
    let content = bytes(total, 4);
    let upload = site.create(total as u64)?;
    let mut link = site.connect()?;
    let mut offset = 0;
    for size in sizes {
        let piece = &content[offset..offset + size];
        let answer = link.ask(&upload.patch_at(offset as u64).body(piece))?.is(204)?;
        offset += size;
        answer.has("Upload-Offset", offset)?;
        link.ask(&upload.request("HEAD"))?.is(200)?.has("Upload-Offset", offset)?;
    }
    upload.reads_back(&content)
}

fn pauses(site: &Site) -> Verdict {
    const PIECE: usize = 16 << 20;
    let content = bytes(4 * PIECE, 5);
    let upload = site.create(content.len() as u64)?;
    let mut link = site.connect()?;
    for (index, piece) in content.chunks(PIECE).enumerate() {
        let offset = (index * PIECE) as u64;
        link.ask(&upload.patch_at(offset).body(piece))?.is(204)?;
        std::thread::sleep(Duration::from_millis(700));
    }
    upload.reads_back(&content)
}

fn pipelined(site: &Site) -> Verdict {
    let content = bytes(3000, 100);
    let upload = site.create(3000)?;
    let requests: Vec<Request> = (0..30)
        .map(|n| upload.patch_at(n * 100).body(&content[n as usize * 100..][..100]))
        .collect();
    let mut link = site.connect()?;
    for request in &requests {
        link.raw.send_request(request, &site.base.host)?;
    }
    for (request, n) in requests.iter().zip(1..) {
        link.answer_to(request)?.is(204)?.has("Upload-Offset", n * 100)?;
    }
    upload.reads_back(&content)
}

fn stray_fields(site: &Site) -> Verdict {
    let create = site.post().with("Upload-Length", 3).with("Upload-Metadata", "name YQ==");
    let upload = site.create_by(&create.body(b""))?;
    let before = upload.state()?;
    let strays = [
        ("Upload-Metadata", "other Yg=="),
        ("Upload-Concat", "partial"),
        ("Upload-Concat", "final;/files/unknown"),
        ("Upload-Defer-Length", "1"),
        ("Upload-Expires", "Wed, 25 Jun 2014 16:00:00 GMT"),
    ];
    let mut rows = Rows::new();
    for (name, value) in strays {
        rows.row(format!("{name}: {value}"), || {
            site.ask(&upload.patch_at(0).with(name, value).body(b""))?.is(204)?;
            ensure_eq("the upload", upload.state()?, before.clone())
        });
    }
    rows.verdict()?;
    upload.completes_with(b"abc")
}

fn empty(site: &Site) -> Verdict {
    let own = site.launch(&[])?;
    let upload = own.site.create(10)?;
    upload.patch(0, b"abc")?.is(204)?;
    let before = (upload.state()?, own.process.files());
    let mut link = own.site.connect()?;
    for _ in 0..500 {
        link.ask(&upload.patch_at(3).body(b""))?.is(204)?.has("Upload-Offset", 3)?;
        link.ask(&upload.patch_at(3).chunked(&[]))?.is(204)?.has("Upload-Offset", 3)?;
    }
    ensure_eq("state and files", (upload.state()?, own.process.files()), before)?;
    upload.completes_with(b"abcdefghij")
}

fn complete(site: &Site) -> Verdict {
    let upload = site.create_complete(b"abc")?;
    let before = upload.state()?;
    for _ in 0..3 {
        upload.patch(3, b"")?.is(204)?.has("Upload-Offset", 3)?;
    }
    site.ask(&upload.patch_at(3))?.is(204)?;
    upload.refuses(&upload.patch_at(3).body(b"d"), &[413])?;
    upload.refuses(&upload.patch_at(3).chunked(&[b"d"]), &[413])?;
    upload.refuses(&upload.patch_at(0).body(b"abc"), &[409])?.has("Upload-Offset", 3)?;
    upload.refuses(&upload.patch_at(0).body(b""), &[409])?;
    upload.refuses(&upload.patch_at(4).body(b""), &[409])?;
    ensure(upload.state()? == before, "the upload changed")?;
    // A request of another kind of client: the last one again, as after a lost answer (C-28).
    let again = Request::patch(&upload.path, 0).body(b"abc");
    upload.refuses(&again, &[409])?;
    upload.reads_back(b"abc")
}
