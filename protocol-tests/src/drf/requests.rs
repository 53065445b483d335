//! Every form of request, and what a success says.

use serde_json::{Value, json};

use super::client::{
    Field, NAMED, begun, chunk, collection, completion, file, form, md5, path_in, says, state,
    tells,
};
use crate::case::{BOTH, Case};
use crate::content::bytes;
use crate::failure::{Rows, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::Site;
use crate::tus;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "chunks_and_a_checksum_make_a_complete_upload",
        &["P-001", "P-002", "P-003", "P-005", "P-030"],
        "the state after each step, then by GET and HEAD",
        whole_way,
    )
    .under(BOTH),
    Case::ours(
        "state_has_its_members_in_order",
        &["P-031", "P-034"],
        "nine members: a random UUID, absolute URLs, times in UTC",
        members,
    ),
    Case::ours(
        "deadline_is_a_member_of_every_state",
        &["P-032"],
        "`expires` and `expires_at`, null where uploads do not expire",
        deadline,
    ),
    Case::ours(
        "complete_file_is_downloaded_from_its_url",
        &["P-034"],
        "GET of `file` answers every byte",
        download,
    ),
    Case::ours(
        "file_in_one_post_is_complete",
        &["P-004", "P-014"],
        "in every order of the fields, with a Content-Range that means nothing",
        one_post,
    )
    .under(BOTH),
    Case::ours(
        "name_after_the_chunk_is_as_good_as_before_it",
        &["P-014", "P-013", "P-017"],
        "the name is the field's, as it is; fields of the server are ignored",
        names,
    ),
    Case::ours(
        "checksums_come_in_every_kind_of_body",
        &["P-011"],
        "as form, query string or JSON",
        checksums,
    ),
    Case::ours(
        "checksums_are_read_in_any_case",
        &["P-145"],
        "upper case; blanks around",
        checksums_as_written,
    ),
    Case::ours(
        "requests_without_a_length_are_taken",
        &["P-024"],
        "a chunk, a checksum and a whole file in HTTP chunks of 7 bytes",
        without_length,
    ),
    Case::ours(
        "paths_without_the_last_slash_are_the_same",
        &["P-009"],
        "a creation, a chunk, the state; no redirect, which loses the body",
        without_slash,
    ),
    Case::ours(
        "options_are_answered_without_a_body",
        &["P-007"],
        "204 on every path, for browsers and others",
        options,
    ),
    Case::ours(
        "methods_that_mean_nothing_are_405",
        &["P-008"],
        "DELETE and PATCH, by their names",
        methods,
    ),
    Case::ours(
        "uploads_of_nobody_are_not_listed",
        &["P-133"],
        "GET of the collection is 404: ids are then the only secret",
        list,
    ),
    Case::ours(
        "upload_is_one_upload_over_tus",
        &["P-150"],
        "tus tells its offset, appends between two chunks, and downloads the whole in the end",
        continued_over_tus,
    )
    .for_windlass_alone("it has no second dialect"),
];

/// The same server as tus clients see it, and everything else outside the collection.
pub(super) fn over_tus(site: &Site) -> Site {
    site.beside(&tus::CONTRACT, "/files")
}

fn whole_way(site: &Site) -> Verdict {
    let content = bytes(35, 1);
    let first = chunk(&collection(site), "0-24/35", &[NAMED, file(&content[..25])]);
    let response = site.ask(&first)?.lacks("Location")?.has("Content-Type", "application/json")?;
    let made = state(response)?;
    let path = path_in(&made, "url");
    let second = state(site.ask(&chunk(&path, "25-34/35", &[file(&content[25..])]))?)?;
    for (now, offset) in [(&made, 25), (&second, 35)] {
        tells(now, "filename", "x.bin")?;
        tells(now, "offset", offset)?;
        tells(now, "status", 1)?;
        tells(now, "completed_at", Value::Null)?;
    }
    let done = state(site.ask(&completion(&path, &md5(&content)))?)?;
    tells(&done, "status", 2)?;
    ensure(done["completed_at"].is_string(), format!("{done}"))?;
    says(site.ask(&Request::plain("GET", &path))?, 200, done)?;
    site.ask(&Request::plain("HEAD", &path))?.is(200)?.has_body(b"")?;
    Ok(())
}

fn members(site: &Site) -> Verdict {
    let first = chunk(&collection(site), "0-4/9", &[NAMED, file(b"12345")]);
    let response = site.ask(&first)?.is(200)?;
    let text = String::from_utf8_lossy(&response.body).into_owned();
    let names =
        ["id", "url", "file", "filename", "offset", "created_at", "status", "completed_at", "user"];
    let places = names.map(|name| text.find(&format!("\"{name}\":")));
    let is_ordered = places.iter().all(Option::is_some) && places.is_sorted();
    ensure(is_ordered, format!("members are missing or in another order: {text}"))?;
    let made = state(response)?;
    let id = made["id"].as_str().unwrap_or_default();
    let is_uuid = id.len() == 36 && id.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    ensure(is_uuid && id.as_bytes()[14] == b'4', format!("no random UUID: {id}"))?;
    let host = &site.base.host;
    tells(&made, "url", format!("http://{host}{}{id}/", collection(site)))?;
    let is_absolute = made["file"].as_str().is_some_and(|file| file.starts_with("http://"));
    ensure(is_absolute, format!("file is {}, expected a URL", made["file"]))?;
    let created = made["created_at"].as_str().unwrap_or_default();
    let is_time = created.len() == 27 && created.ends_with('Z') && &created[19..20] == ".";
    ensure(is_time, format!("created_at is {created}"))?;
    tells(&made, "user", Value::Null)
}

fn deadline(site: &Site) -> Verdict {
    let path = begun(site, b"12345", 5)?;
    let now = state(site.ask(&Request::plain("GET", &path))?)?;
    let done = state(site.ask(&completion(&path, &md5(b"12345")))?)?;
    let mut rows = Rows::new();
    for (row, state) in [("incomplete", now), ("complete", done)] {
        rows.row(row, || {
            for name in ["expires", "expires_at"] {
                ensure(state.get(name).is_some(), format!("no member {name}"))?;
                tells(&state, name, Value::Null)?;
            }
            Ok(())
        });
    }
    rows.verdict()
}

fn download(site: &Site) -> Verdict {
    let content = bytes(100_000, 6);
    let path = begun(site, &content, content.len())?;
    let done = state(site.ask(&completion(&path, &md5(&content)))?)?;
    let file = Request::plain("GET", &path_in(&done, "file"));
    over_tus(site).ask(&file)?.is(200)?.has_body(&content)?;
    Ok(())
}

fn one_post(site: &Site) -> Verdict {
    let content = bytes(100_000, 2);
    let sum = md5(&content);
    let sum = Field::Text("md5", &sum);
    let mut rows = Rows::new();
    for (row, fields) in [
        ("file last", [NAMED, sum, file(&content)]),
        ("file first", [file(&content), NAMED, sum]),
        ("file between", [sum, file(&content), NAMED]),
    ] {
        rows.row(row, || {
            let request = form(Request::plain("POST", &collection(site)), &fields);
            let request = request.with("Content-Range", "bytes 3-4/5");
            let done = state(site.ask(&request)?)?;
            tells(&done, "status", 2)?;
            tells(&done, "offset", 100_000)?;
            tells(&done, "filename", "x.bin")?;
            let file = Request::plain("GET", &path_in(&done, "file"));
            over_tus(site).ask(&file)?.is(200)?.has_body(&content)?;
            Ok(())
        });
    }
    rows.verdict()
}

fn names(site: &Site) -> Verdict {
    let long = "\u{e9}".repeat(255);
    let mut rows = Rows::new();
    for name in ["late.bin", "../../etc/x", "a b;c=\"d\"", &long] {
        for is_late in [false, true] {
            let place = if is_late { "after" } else { "before" };
            rows.row(format!("{name} {place} the file"), || {
                let mut fields = vec![
                    Field::Text("filename", name),
                    Field::Text("offset", "7"),
                    Field::Text("status", "2"),
                    Field::Text("user", "root"),
                    file(b"12345"),
                ];
                if is_late {
                    fields.reverse();
                }
                let made = state(site.ask(&chunk(&collection(site), "0-4/9", &fields))?)?;
                tells(&made, "filename", name)?;
                tells(&made, "offset", 5)?;
                tells(&made, "status", 1)?;
                tells(&made, "user", Value::Null)
            });
        }
    }
    rows.verdict()
}

const URLENCODED: &str = "application/x-www-form-urlencoded";

fn checksums(site: &Site) -> Verdict {
    let content = bytes(10, 3);
    let sum = md5(&content);
    let mut rows = Rows::new();
    for (row, kind, body) in [
        ("query string", URLENCODED, format!("a=b&md5={sum}&c")),
        ("JSON", "application/json; charset=utf-8", json!({ "md5": sum }).to_string()),
    ] {
        rows.row(row, || {
            let path = begun(site, &content, 10)?;
            let request = Request::plain("POST", &path).with("Content-Type", kind).body(body);
            tells(&state(site.ask(&request)?)?, "status", 2)
        });
    }
    rows.row("form", || {
        let path = begun(site, &content, 10)?;
        let request = form(Request::plain("POST", &path), &[Field::Text("md5", &sum)]);
        tells(&state(site.ask(&request)?)?, "status", 2)
    });
    rows.verdict()
}

fn checksums_as_written(site: &Site) -> Verdict {
    let content = bytes(10, 3);
    let sum = md5(&content);
    let mut rows = Rows::new();
    for (row, written) in
        [("upper case", sum.to_uppercase()), ("blanks around", format!("  {sum} "))]
    {
        rows.row(row, || {
            let path = begun(site, &content, 10)?;
            let request = form(Request::plain("POST", &path), &[Field::Text("md5", &written)]);
            tells(&state(site.ask(&request)?)?, "status", 2)
        });
    }
    rows.verdict()
}

fn without_length(site: &Site) -> Verdict {
    let content = bytes(50, 4);
    let sum = md5(&content);
    let in_chunks = |request: Request| {
        let body = request.body.bytes();
        let chunks: Vec<_> = body.chunks(7).collect();
        request.chunked(&chunks)
    };
    let made = in_chunks(chunk(&collection(site), "0-49/50", &[NAMED, file(&content)]));
    let path = path_in(&state(site.ask(&made)?)?, "url");
    tells(&state(site.ask(&in_chunks(completion(&path, &sum)))?)?, "status", 2)?;
    let fields = [file(&content), NAMED, Field::Text("md5", &sum)];
    let whole = in_chunks(form(Request::plain("POST", &collection(site)), &fields));
    tells(&state(site.ask(&whole)?)?, "status", 2)
}

fn without_slash(site: &Site) -> Verdict {
    let content = bytes(10, 7);
    let path = begun(site, &content[..5], 10)?;
    let path = path.trim_end_matches('/');
    let mut rows = Rows::new();
    for (row, request) in [
        ("a creation", chunk(site.collection(), "0-4/9", &[NAMED, file(b"12345")])),
        ("a chunk", chunk(path, "5-9/10", &[file(&content[5..])])),
        ("the state", Request::plain("GET", path)),
        ("a checksum", completion(path, &md5(&content))),
    ] {
        rows.row(row, || site.ask(&request)?.is(200).map(drop));
    }
    rows.verdict()
}

fn options(site: &Site) -> Verdict {
    let path = begun(site, b"12345", 9)?;
    let mut rows = Rows::new();
    for (row, target) in [
        ("the collection", &collection(site)),
        ("an upload", &path),
        ("no upload", &site.below("a/b")),
    ] {
        rows.row(row, || {
            let preflight = Request::plain("OPTIONS", target)
                .with("Origin", "https://app.example")
                .with("Access-Control-Request-Method", "PUT")
                .with("Access-Control-Request-Headers", "content-range,x-csrftoken");
            site.ask(&preflight)?.is(204)?;
            site.ask(&Request::plain("OPTIONS", target))?.is(204)?;
            Ok(())
        });
    }
    rows.verdict()
}

fn methods(site: &Site) -> Verdict {
    let path = begun(site, b"12345", 9)?;
    for method in ["DELETE", "PATCH"] {
        let refused = site.ask(&Request::plain(method, &path))?;
        let detail = format!("Method \"{method}\" not allowed.");
        says(refused, 405, json!({ "detail": detail }))?;
    }
    Ok(())
}

fn list(site: &Site) -> Verdict {
    let response = site.ask(&Request::plain("GET", &collection(site)))?;
    // A list differs from run to run, and is better not printed.
    ensure_eq("status", response.status, 404)?;
    says(response, 404, json!({ "detail": "Not found." }))
}

fn continued_over_tus(site: &Site) -> Verdict {
    let content = bytes(30, 5);
    let path = begun(site, &content[..10], 30)?;
    let made = state(site.ask(&Request::plain("GET", &path))?)?;
    let (tus, tus_site) = (path_in(&made, "file"), over_tus(site));
    let head = tus_site.ask(&Request::tus("HEAD", &tus))?;
    let seen = [head.number("Upload-Offset"), head.number("Upload-Length")];
    ensure_eq("over tus", seen, [Some(10), Some(30)])?;
    tus_site.ask(&Request::patch(&tus, 10).body(&content[10..20]))?.is(204)?;
    tells(&state(site.ask(&Request::plain("GET", &path))?)?, "offset", 20)?;
    state(site.ask(&chunk(&path, "20-29/30", &[file(&content[20..])]))?)?;
    tus_site.ask(&Request::tus("GET", &tus))?.is_one_of(&[204, 404])?;
    tells(&state(site.ask(&completion(&path, &md5(&content)))?)?, "status", 2)?;
    tus_site.ask(&Request::plain("GET", &tus))?.is(200)?.has_body(&content)?;
    Ok(())
}
