//! Every error in its words, and that it leaves nothing behind.

use serde_json::{Value, json};

use super::client::{
    Field, NAMED, begun, chunk, completion, fails, file, form, json as json_of, md5, offset, says,
};
use crate::case::{Case, OWN, Setup};
use crate::failure::{Rows, Verdict, ensure_eq};
use crate::http1::head;
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "content_range_is_judged_before_the_body",
        &["P-020", "P-122", "P-142", "P-141"],
        "the answer comes while no byte of the body was sent",
        ranges,
    ),
    Case::ours(
        "chunk_is_as_long_as_its_range",
        &["P-021"],
        "shorter or longer: both numbers, and no byte counts",
        sizes,
    ),
    Case::ours(
        "forms_without_a_usable_file_are_refused",
        &["P-104", "P-015", "P-016", "P-011", "P-022"],
        "none, text in its place, two of them, another kind of body",
        files,
    ),
    Case::ours(
        "creations_without_a_usable_name_are_refused",
        &["P-113", "P-013"],
        "missing, empty, with NUL, too long; before the file or after it",
        names,
    ),
    Case::ours(
        "checksums_that_are_missing_or_wrong_are_refused",
        &["P-111", "P-112", "P-110"],
        "the upload stays as it is; a complete one takes nothing more",
        checksums,
    ),
    Case::ours(
        "uploads_that_are_not_there_are_unknown",
        &["P-102", "P-103"],
        "by every method; paths that can be no upload as well",
        unknown,
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
    let unusable = (400, json!({ "detail": "Error in request headers" }));
    let mismatch = |expected: u64, given: u64| {
        let body = json!({
            "detail": "Offsets do not match",
            "expected_offset": expected,
            "offset": expected,
            "provided_offset": given,
        });
        (400, body)
    };
    let passes = |total: u64| {
        (400, json!({ "detail": format!("End of chunk exceeds reported total ({total} bytes)") }))
    };
    let mut rows = Rows::new();
    for (range, expected) in [
        (None, unusable.clone()),
        (Some("Bytes 5-9/100"), unusable.clone()),
        (Some("bytes */100"), unusable.clone()),
        (Some("bytes 5-9/*"), unusable.clone()),
        (Some("bytes 0--1/0"), unusable.clone()),
        (Some("bytes 9-5/100"), unusable.clone()),
        (Some("bytes 5-99999999999999999999/99999999999999999999"), unusable),
        (Some("bytes 5-14/10"), passes(10)),
        (Some("bytes 5-9/9"), passes(9)),
    ] {
        rows.row(format!("{range:?}"), || {
            let request = form(Request::plain("PUT", &path), &[file(b"67890")]);
            let request =
                range.into_iter().fold(request, |r, range| r.with("Content-Range", range));
            let mut link = site.connect()?;
            // Only the head: a server that waits for the body never answers.
            link.raw.send(&head(&request, &site.base.host))?;
            says(link.answer_to(&request)?, expected.0, expected.1)
        });
    }
    rows.row("the first chunk begins at 0", || {
        let (status, body) = mismatch(0, 5);
        let fields = [NAMED, file(b"67890")];
        says(site.ask(&chunk(site.collection(), "5-9/100", &fields))?, status, body)
    });
    rows.row("in the end", || ensure_eq("offset", offset(site, &path)?, 5));
    rows.verdict()
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

fn files(site: &Site) -> Verdict {
    let path = begun(site, b"12345", 100)?;
    let none = "No chunk file was submitted";
    let other = Field::File("other", b"67890");
    let mut rows = Rows::new();
    for (row, fields) in [
        ("no file", &[NAMED][..]),
        ("another file", &[other]),
        ("text", &[Field::Text("file", "67890")]),
        ("nothing", &[]),
    ] {
        rows.row(row, || fails(site.ask(&chunk(&path, "5-9/100", fields))?, 400, none));
    }
    rows.row("two files", || {
        let fields = [file(b"67890"), file(b"67890")];
        site.ask(&chunk(&path, "5-9/100", &fields))?.is(400)?;
        Ok(())
    });
    let plain = Request::plain("PUT", &path).with("Content-Range", "bytes 5-9/100").body("67890");
    for kind in ["application/json", "application/x-www-form-urlencoded"] {
        let request = plain.clone().with("Content-Type", kind);
        rows.row(kind, || fails(site.ask(&request)?, 400, none));
    }
    rows.row("an empty file", || {
        let fields = [NAMED, Field::Text("md5", "00"), file(b"")];
        let body = json!({ "detail": { "file": ["The submitted file is empty."] } });
        says(site.ask(&form(Request::plain("POST", site.collection()), &fields))?, 400, body)
    });
    rows.row("bytes alone", || {
        let request = plain.clone().with("Content-Type", "application/octet-stream");
        let detail = "Unsupported media type \"application/octet-stream\" in request.";
        fails(site.ask(&request)?, 415, detail)
    });
    rows.row("in the end", || ensure_eq("offset", offset(site, &path)?, 5));
    rows.verdict()
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
            rows.row(format!("{fault} {is_late}"), || {
                let mut fields = vec![file(b"12345")];
                fields.extend(name.map(|name| Field::Text("filename", name)));
                if !is_late {
                    fields.reverse();
                }
                let body = json!({ "detail": { "filename": [fault] } });
                says(site.ask(&chunk(site.collection(), "0-4/9", &fields))?, 400, body)
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
    for name in ["a.b/", "a/b/", "%2e%2e/"] {
        fails(site.ask(&Request::plain("GET", &site.below(name)))?, 404, "Not found.")?;
    }
    Ok(())
}

fn limits(site: &Site) -> Verdict {
    let detail = "Size of file exceeds the limit (10000 bytes)";
    let fields = [NAMED, file(b"12345")];
    fails(site.ask(&chunk(site.collection(), "0-4/10001", &fields))?, 400, detail)?;
    site.ask(&chunk(site.collection(), "0-4/10000", &fields))?.is(200)?;
    for (length, status) in [(10_000, 200), (10_001, 400)] {
        let content = vec![1; length];
        let sum = md5(&content);
        let fields = [NAMED, Field::Text("md5", &sum), file(&content)];
        let answer = site.ask(&form(Request::plain("POST", site.collection()), &fields))?;
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
    let whole = |fields: &[Field<'_>]| form(Request::plain("POST", site.collection()), fields);
    let (wrong, right) = (md5(b"1"), md5(b"12345"));
    let wrong = Field::Text("md5", &wrong);
    let right = Field::Text("md5", &right);
    for request in [
        whole(&[NAMED, file(b"12345"), wrong]),
        whole(&[NAMED, wrong, file(b"12345")]),
        whole(&[NAMED, file(b"12345")]),
        whole(&[file(b"12345"), right]),
        whole(&[NAMED, right, file(b"")]),
        whole(&[NAMED, right, file(b"12345"), file(b"12345")]),
        chunk(site.collection(), "0-4/9", &[file(b"12345")]),
        chunk(site.collection(), "0-5/9", &[file(b"12345"), NAMED]),
        chunk(site.collection(), "0-3/9", &[NAMED, file(b"12345")]),
    ] {
        site.ask(&request)?.is(400)?;
    }
    let files = own.process.files();
    let of_uploads: Vec<_> = files
        .iter()
        .filter(|(path, _)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".part") || name.ends_with(".record")
        })
        .collect();
    ensure_eq("files left", of_uploads.len(), 0)
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
        ("10,000 fields to create", chunk(site.collection(), "0-4/9", &many_fields)),
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
