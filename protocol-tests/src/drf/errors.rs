//! Every error in its words, and that it leaves nothing behind.

use std::path::Path;

use serde_json::{Value, json};

use super::client::{
    Field, NAMED, begun, chunk, collection, completion, fails, file, form, json as json_of, md5,
    offset, says, tells,
};
use crate::case::{Case, OWN, Setup};
use crate::failure::{Rows, Verdict, ensure, ensure_eq};
use crate::http1::{End, PATIENCE};
use crate::message::Request;
use crate::server::Windlass;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "content_range_that_is_unusable_is_refused",
        &["P-020"],
        "none, another unit, no numbers, turned round, too large",
        ranges,
    ),
    Case::ours(
        "content_range_that_passes_its_total_is_refused",
        &["P-142"],
        "by many bytes, or by one",
        past_the_total,
    ),
    Case::ours(
        "first_chunk_begins_at_0",
        &["P-141"],
        "a creation in the middle of the file is refused",
        first_chunk,
    ),
    Case::ours(
        "head_is_judged_before_the_body",
        &["P-122"],
        "the answer comes while no byte of the body was sent",
        head_alone,
    ),
    Case::ours(
        "chunk_is_as_long_as_its_range",
        &["P-021"],
        "shorter or longer: both numbers, and no byte counts",
        sizes,
    ),
    Case::ours(
        "forms_without_a_file_are_refused",
        &["P-104"],
        "none, one of another name, a body that is no form",
        no_file,
    ),
    Case::ours(
        "text_in_place_of_the_file_is_refused",
        &["P-016"],
        "a field `file` without a file",
        text,
    ),
    Case::ours(
        "second_file_in_a_form_is_refused",
        &["P-015"],
        "and no byte of both counts",
        two_files,
    ),
    Case::ours(
        "whole_file_without_a_byte_is_refused",
        &["P-022"],
        "the answer names the field",
        empty_file,
    ),
    Case::ours(
        "bodies_that_are_bytes_alone_are_refused",
        &["P-011"],
        "415 with the kind",
        bytes_alone,
    ),
    Case::ours(
        "creations_without_a_usable_name_are_refused",
        &["P-113", "P-013"],
        "missing, empty, with NUL, too long; before the file or after it",
        names,
    ),
    Case::ours(
        "checksums_that_are_missing_or_wrong_are_refused",
        &["P-111", "P-112"],
        "the upload stays as it is, and is completed by the right one",
        checksums,
    ),
    Case::ours(
        "complete_upload_takes_nothing_more",
        &["P-110"],
        "neither the checksum again nor a chunk",
        complete,
    ),
    Case::ours(
        "uploads_that_are_not_there_are_unknown",
        &["P-102"],
        "to GET, PUT and POST",
        unknown,
    ),
    Case::ours(
        "paths_that_can_be_no_upload_are_not_found",
        &["P-103"],
        "404 in JSON, as every error",
        no_upload,
    ),
    Case::ours(
        "totals_above_the_limit_are_refused",
        &["P-106"],
        "as the head says, or as a whole file comes",
        limits,
    )
    .under(&[Setup::MaxSize]),
    Case::ours(
        "refused_creations_leave_nothing",
        &["P-148", "P-111", "P-112", "P-113"],
        "no file is left in the data directory",
        leftovers,
    )
    .under(OWN),
    Case::ours(
        "bodies_of_any_shape_are_refused_in_words",
        &["P-147"],
        "JSON, query strings and forms that nobody should send",
        shapes,
    ),
];

fn ranges(site: &Site) -> Verdict {
    let path = begun(site, b"12345", 100)?;
    let mut rows = Rows::new();
    for range in [
        None,
        Some("Bytes 5-9/100"),
        Some("bytes */100"),
        Some("bytes 5-9/*"),
        Some("bytes 0--1/0"),
        Some("bytes 9-5/100"),
        Some("bytes 5-99999999999999999999/99999999999999999999"),
    ] {
        rows.row(range.unwrap_or("none"), || {
            let request = form(Request::plain("PUT", &path), &[file(b"67890")]);
            let request =
                range.into_iter().fold(request, |r, range| r.with("Content-Range", range));
            fails(site.ask(&request)?, 400, "Error in request headers")
        });
    }
    rows.row("in the end", || ensure_eq("offset", offset(site, &path)?, 5));
    rows.verdict()
}

fn past_the_total(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for (range, total, content) in
        [("5-14/10", 10, &b"6789012345"[..]), ("5-9/8", 8, b"67890"), ("5-9/9", 9, b"67890")]
    {
        rows.row(range, || {
            let path = begun(site, b"12345", 100)?;
            let refused = site.ask(&chunk(&path, range, &[file(content)]))?;
            fails(refused, 400, &format!("End of chunk exceeds reported total ({total} bytes)"))?;
            ensure_eq("offset", offset(site, &path)?, 5)
        });
    }
    rows.verdict()
}

fn first_chunk(site: &Site) -> Verdict {
    let refused = site.ask(&chunk(&collection(site), "5-9/100", &[NAMED, file(b"67890")]))?;
    let refused = refused.is(400)?;
    let body = json_of(&refused)?;
    tells(&body, "detail", "Offsets do not match")?;
    tells(&body, "expected_offset", 0)?;
    tells(&body, "provided_offset", 5)
}

fn head_alone(site: &Site) -> Verdict {
    let path = begun(site, b"12345", 100)?;
    let passes = "End of chunk exceeds reported total (9 bytes)";
    let alien = "Unsupported media type \"text/plain\" in request.";
    let fields = [NAMED, file(b"67890")];
    for (fault, request, status, detail) in [
        ("no usable range", chunk(&path, "5-9/*", &fields), 400, "Error in request headers"),
        ("a range past its total", chunk(&path, "5-9/9", &fields), 400, passes),
        (
            "a first chunk in the middle",
            chunk(&collection(site), "5-9/100", &fields),
            400,
            "Offsets do not match",
        ),
        ("another kind of body", bare(&path, "text/plain"), 415, alien),
    ] {
        let mut link = site.connect()?;
        link.send_head(&request)?;
        let has_answered = link.raw.end_within(PATIENCE)? == End::Data;
        ensure(has_answered, format!("{fault}: no answer before the body"))?;
        fails(link.answer_to(&request)?, status, detail)?;
    }
    ensure_eq("offset", offset(site, &path)?, 5)
}

fn sizes(site: &Site) -> Verdict {
    let path = begun(site, b"12345", 100)?;
    let mut rows = Rows::new();
    for (range, sent, expected) in [("5-13/100", 10, 9), ("5-15/100", 10, 11), ("5-5/100", 0, 1)] {
        rows.row(range, || {
            let content = vec![1; sent];
            let refused = site.ask(&chunk(&path, range, &[file(&content)]))?;
            let detail = format!(
                "File size doesn't match headers: file size is {sent} but {expected} reported"
            );
            fails(refused, 400, &detail)?;
            ensure_eq("offset", offset(site, &path)?, 5)
        });
    }
    rows.verdict()
}

const NO_FILE: &str = "No chunk file was submitted";

/// A chunk as bytes without a form around them.
fn bare(path: &str, kind: &str) -> Request {
    let request = Request::plain("PUT", path).with("Content-Range", "bytes 5-9/100");
    request.with("Content-Type", kind).body("67890")
}

fn no_file(site: &Site) -> Verdict {
    let path = begun(site, b"12345", 100)?;
    let other = Field::File("other", b"67890");
    let with = |fields: &[Field<'_>]| chunk(&path, "5-9/100", fields);
    let mut rows = Rows::new();
    for (row, request) in [
        ("no file", with(&[NAMED])),
        ("another file", with(&[other])),
        ("an empty form", with(&[])),
        ("JSON", bare(&path, "application/json")),
        ("query string", bare(&path, "application/x-www-form-urlencoded")),
    ] {
        rows.row(row, || fails(site.ask(&request)?, 400, NO_FILE));
    }
    rows.row("in the end", || ensure_eq("offset", offset(site, &path)?, 5));
    rows.verdict()
}

fn text(site: &Site) -> Verdict {
    let path = begun(site, b"12345", 100)?;
    let refused = site.ask(&chunk(&path, "5-9/100", &[Field::Text("file", "67890")]))?;
    fails(refused, 400, NO_FILE)?;
    ensure_eq("offset", offset(site, &path)?, 5)
}

fn two_files(site: &Site) -> Verdict {
    let path = begun(site, b"12345", 100)?;
    let fields = [file(b"67890"), file(b"67890")];
    site.ask(&chunk(&path, "5-9/100", &fields))?.is(400)?;
    ensure_eq("offset", offset(site, &path)?, 5)
}

fn empty_file(site: &Site) -> Verdict {
    let fields = [NAMED, Field::Text("md5", "00"), file(b"")];
    let refused = site.ask(&form(Request::plain("POST", &collection(site)), &fields))?;
    says(refused, 400, json!({ "detail": { "file": ["The submitted file is empty."] } }))
}

fn bytes_alone(site: &Site) -> Verdict {
    let path = begun(site, b"12345", 100)?;
    let refused = site.ask(&bare(&path, "application/octet-stream"))?;
    fails(refused, 415, "Unsupported media type \"application/octet-stream\" in request.")?;
    ensure_eq("offset", offset(site, &path)?, 5)
}

fn names(site: &Site) -> Verdict {
    let long = "x".repeat(256);
    let mut rows = Rows::new();
    for (name, fault) in [
        (None, "This field is required."),
        (Some(""), "This field may not be blank."),
        (Some("a\0b"), "Null characters are not allowed."),
        (Some(long.as_str()), "Ensure this field has no more than 255 characters."),
    ] {
        for is_late in [false, true] {
            let place = if is_late { "after" } else { "before" };
            rows.row(format!("{fault} {place} the file"), || {
                let mut fields = vec![file(b"12345")];
                fields.extend(name.map(|name| Field::Text("filename", name)));
                if !is_late {
                    fields.reverse();
                }
                let body = json!({ "detail": { "filename": [fault] } });
                says(site.ask(&chunk(&collection(site), "0-4/9", &fields))?, 400, body)
            });
        }
    }
    rows.verdict()
}

fn checksums(site: &Site) -> Verdict {
    let path = begun(site, b"12345", 5)?;
    let missing = "Checksum of type 'md5' is required";
    let wrong = "checksum does not match";
    fails(site.ask(&Request::plain("POST", &path))?, 400, missing)?;
    fails(site.ask(&completion(&path, ""))?, 400, missing)?;
    for sum in ["0000", "zz", &md5(b"1234"), "00000000000000000000000000000000"] {
        fails(site.ask(&completion(&path, sum))?, 400, wrong)?;
    }
    ensure_eq("offset", offset(site, &path)?, 5)?;
    site.ask(&completion(&path, &md5(b"12345")))?.is(200)?;
    Ok(())
}

fn complete(site: &Site) -> Verdict {
    let path = begun(site, b"12345", 5)?;
    site.ask(&completion(&path, &md5(b"12345")))?.is(200)?;
    let complete = "Upload has already been marked as \"complete\"";
    fails(site.ask(&completion(&path, &md5(b"12345")))?, 400, complete)?;
    fails(site.ask(&chunk(&path, "5-9/10", &[file(b"67890")]))?, 400, complete)
}

fn unknown(site: &Site) -> Verdict {
    let path = site.below("11111111-2222-4333-8444-555555555555/");
    let unknown = "No ChunkedUpload matches the given query.";
    for request in [
        Request::plain("GET", &path),
        chunk(&path, "0-4/9", &[file(b"12345")]),
        completion(&path, "00"),
    ] {
        fails(site.ask(&request)?, 404, unknown)?;
    }
    Ok(())
}

fn no_upload(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for name in ["a.b/", "a/b/", "%2e%2e/"] {
        let request = Request::plain("GET", &site.below(name));
        rows.row(name, || fails(site.ask(&request)?, 404, "Not found."));
    }
    rows.verdict()
}

fn limits(site: &Site) -> Verdict {
    let detail = "Size of file exceeds the limit (10000 bytes)";
    let fields = [NAMED, file(b"12345")];
    fails(site.ask(&chunk(&collection(site), "0-4/10001", &fields))?, 400, detail)?;
    site.ask(&chunk(&collection(site), "0-4/10000", &fields))?.is(200)?;
    for (length, status) in [(10_000, 200), (10_001, 400)] {
        let content = vec![1; length];
        let sum = md5(&content);
        let fields = [NAMED, Field::Text("md5", &sum), file(&content)];
        let answer = site.ask(&form(Request::plain("POST", &collection(site)), &fields))?;
        if status == 400 {
            fails(answer, 400, detail)?;
        } else {
            answer.is(200)?;
        }
    }
    Ok(())
}

fn leftovers(site: &Site) -> Verdict {
    let own = site.launch(&[])?;
    let site = &own.site;
    let whole = |fields: &[Field<'_>]| form(Request::plain("POST", &collection(site)), fields);
    let first = |range, fields: &[Field<'_>]| chunk(&collection(site), range, fields);
    let (wrong, right) = (md5(b"1"), md5(b"12345"));
    let wrong = Field::Text("md5", &wrong);
    let right = Field::Text("md5", &right);
    let mut rows = Rows::new();
    for (row, request) in [
        ("a wrong checksum after the file", whole(&[NAMED, file(b"12345"), wrong])),
        ("a wrong checksum before the file", whole(&[NAMED, wrong, file(b"12345")])),
        ("no checksum", whole(&[NAMED, file(b"12345")])),
        ("no name", whole(&[file(b"12345"), right])),
        ("an empty file", whole(&[NAMED, right, file(b"")])),
        ("two files", whole(&[NAMED, right, file(b"12345"), file(b"12345")])),
        ("a chunk without a name", first("0-4/9", &[file(b"12345")])),
        ("a chunk that is too short", first("0-5/9", &[file(b"12345"), NAMED])),
        ("a chunk that is too long", first("0-3/9", &[NAMED, file(b"12345")])),
    ] {
        rows.row(row, || {
            let before = of_uploads(&own.process);
            site.ask(&request)?.is(400)?;
            ensure_eq("files left", of_uploads(&own.process).saturating_sub(before), 0)
        });
    }
    rows.verdict()
}

/// The number of files that belong to an incomplete upload.
fn of_uploads(process: &Windlass) -> usize {
    let is_of_upload = |path: &Path| {
        path.extension().is_some_and(|extension| extension == "part" || extension == "record")
    };
    process.files().iter().filter(|(path, _)| is_of_upload(path)).count()
}

fn shapes(site: &Site) -> Verdict {
    let path = begun(site, b"12345", 5)?;
    let many_fields = vec![Field::Text("a", "b"); 10_000];
    let kind = |kind: &str, body: &[u8]| {
        Request::plain("POST", &path).with("Content-Type", kind).body(body)
    };
    let json_kind = "application/json";
    let mut rows = Rows::new();
    for (row, request) in [
        ("nested JSON", kind(json_kind, "[".repeat(60_000).as_bytes())),
        ("JSON of 1 MB", kind(json_kind, &vec![b' '; 1 << 20])),
        ("half a JSON", kind(json_kind, b"{\"md5\": \"")),
        ("a JSON list", kind(json_kind, b"[1]")),
        ("a JSON number", kind(json_kind, b"{\"md5\": 1e999}")),
        ("a JSON object in place", kind(json_kind, b"{\"md5\": {\"a\": []}}")),
        ("no UTF-8", kind(json_kind, b"\xff\xfe")),
        ("a wrong kind", kind("text/plain", b"md5=1")),
        ("no boundary", kind("multipart/form-data", b"--x")),
        ("a boundary that is not there", kind("multipart/form-data; boundary=x", b"--y\r\n")),
        ("broken escapes", kind("application/x-www-form-urlencoded", b"md5=%zz%&=&%00=%ff")),
        (
            "10,000 pairs",
            kind("application/x-www-form-urlencoded", "a=b&".repeat(10_000).as_bytes()),
        ),
        ("10,000 fields", form(Request::plain("POST", &path), &many_fields)),
        ("10,000 fields and a range", chunk(&path, "5-9/10", &many_fields)),
        ("10,000 fields to create", chunk(&collection(site), "0-4/9", &many_fields)),
    ] {
        rows.row(row, || {
            let response = site.ask(&request)?.is_one_of(&[400, 415])?;
            let body: Value = json_of(&response)?;
            ensure_eq("a text", body["detail"].is_string(), true)
        });
    }
    rows.row("in the end", || ensure_eq("offset", offset(site, &path)?, 5));
    rows.verdict()
}
