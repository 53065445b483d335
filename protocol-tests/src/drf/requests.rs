//! Every form of request, and what a success says.

use serde_json::{Value, json};

use super::client::{Field, NAMED, begun, chunk, completion, file, form, md5, offset, says, state};
use crate::case::{BOTH, Case};
use crate::content::bytes;
use crate::failure::{Rows, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::{Site, path_of};
use crate::tus;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "chunks_and_a_checksum_make_a_complete_upload",
        &["P-001", "P-002", "P-003", "P-005", "P-030", "P-031", "P-032", "P-034", "P-150"],
        "the state after each step, by GET and HEAD, by tus, and the file in the end",
        whole_way,
    )
    .under(BOTH),
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
        &["P-011", "P-145"],
        "as form, query string or JSON, in any case, with blanks around",
        checksums,
    ),
    Case::ours(
        "requests_without_a_length_are_taken",
        &["P-024"],
        "a chunk, a checksum and a whole file in HTTP chunks of 7 bytes",
        without_length,
    ),
    Case::ours(
        "options_and_unknown_methods_are_answered",
        &["P-007", "P-008", "P-133"],
        "204; 405 with the method; no list without an owner",
        methods,
    ),
    Case::ours(
        "upload_is_continued_over_tus",
        &["P-150"],
        "tus appends between two chunks, and the checksum covers all of them",
        continued_over_tus,
    ),
];

/// The same server as tus clients see it.
fn over_tus(site: &Site) -> Site {
    site.beside(&tus::CONTRACT, "/files")
}

fn whole_way(site: &Site) -> Verdict {
    let content = bytes(35, 1);
    let first = chunk(site.collection(), "0-24/35", &[NAMED, file(&content[..25])]);
    let response = site.ask(&first)?.lacks("Location")?.has("Content-Type", "application/json")?;
    let made = state(response)?;
    let (id, url) = (made["id"].as_str().unwrap_or_default(), made["url"].as_str());
    let is_uuid = id.len() == 36 && id.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    ensure(is_uuid && id.as_bytes()[14] == b'4', format!("no random UUID: {id}"))?;
    let (host, collection) = (&site.base.host, site.collection());
    ensure_eq("url", url, Some(format!("http://{host}{collection}/{id}/").as_str()))?;
    let members: Vec<_> = ["filename", "offset", "status", "completed_at", "user", "expires"]
        .map(|name| made[name].clone())
        .into();
    let expected = [json!("x.bin"), json!(25), json!(1), Value::Null, Value::Null, Value::Null];
    ensure_eq("members", members, expected.into())?;
    let created = made["created_at"].as_str().unwrap_or_default();
    let is_time = created.len() == 27 && created.ends_with('Z') && &created[19..20] == ".";
    ensure(is_time, format!("created_at: {created}"))?;

    let path = path_of(url.unwrap_or_default()).to_owned();
    let tus_path = path_of(made["file"].as_str().unwrap_or_default()).to_owned();
    let tus_site = over_tus(site);
    let tus = tus_site.ask(&Request::tus("HEAD", &tus_path))?;
    let seen = [tus.number("Upload-Offset"), tus.number("Upload-Length")];
    ensure_eq("over tus", seen, [Some(25), Some(35)])?;
    let second = state(site.ask(&chunk(&path, "25-34/35", &[file(&content[25..])]))?)?;
    ensure_eq("offset", &second["offset"], &json!(35))?;
    ensure_eq("status", &second["status"], &json!(1))?;
    tus_site.ask(&Request::tus("GET", &tus_path))?.is_one_of(&[204, 404])?;
    let done = state(site.ask(&completion(&path, &md5(&content)))?)?;
    ensure_eq("status", &done["status"], &json!(2))?;
    ensure(done["completed_at"].is_string(), format!("{done}"))?;
    says(site.ask(&Request::plain("GET", &path))?, 200, done.clone())?;
    let without_slash = path.trim_end_matches('/');
    says(site.ask(&Request::plain("GET", without_slash))?, 200, done)?;
    site.ask(&Request::plain("HEAD", &path))?.is(200)?.has_body(b"")?;
    tus_site.ask(&Request::plain("GET", &tus_path))?.is(200)?.has_body(&content)?;
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
            let request = form(Request::plain("POST", site.collection()), &fields);
            let request = request.with("Content-Range", "bytes 3-4/5");
            let done = state(site.ask(&request)?)?;
            let seen = [&done["status"], &done["offset"], &done["filename"]];
            ensure_eq("state", seen, [&json!(2), &json!(100_000), &json!("x.bin")])?;
            let download = path_of(done["file"].as_str().unwrap_or_default()).to_owned();
            over_tus(site).ask(&Request::plain("GET", &download))?.is(200)?.has_body(&content)?;
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
            rows.row(format!("{name} {is_late}"), || {
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
                let made = state(site.ask(&chunk(site.collection(), "0-4/9", &fields))?)?;
                let seen = [&made["filename"], &made["offset"], &made["status"], &made["user"]];
                ensure_eq("state", seen, [&json!(name), &json!(5), &json!(1), &Value::Null])
            });
        }
    }
    rows.verdict()
}

fn checksums(site: &Site) -> Verdict {
    let content = bytes(10, 3);
    let sum = md5(&content);
    let padded = format!("  {} ", sum.to_uppercase());
    let mut rows = Rows::new();
    for (row, kind, body) in [
        ("query string", "application/x-www-form-urlencoded", format!("a=b&md5={sum}&c")),
        ("upper case", "application/x-www-form-urlencoded", format!("md5=+{padded}")),
        ("JSON", "application/json; charset=utf-8", json!({ "md5": padded }).to_string()),
    ] {
        rows.row(row, || {
            let path = begun(site, &content, 10)?;
            let request = Request::plain("POST", &path).with("Content-Type", kind).body(body);
            ensure_eq("status", &state(site.ask(&request)?)?["status"], &json!(2))
        });
    }
    rows.row("form", || {
        let path = begun(site, &content, 10)?;
        let request = form(Request::plain("POST", &path), &[Field::Text("md5", &sum)]);
        ensure_eq("status", &state(site.ask(&request)?)?["status"], &json!(2))
    });
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
    let made = in_chunks(chunk(site.collection(), "0-49/50", &[NAMED, file(&content)]));
    let url = state(site.ask(&made)?)?["url"].as_str().unwrap_or_default().to_owned();
    let done = state(site.ask(&in_chunks(completion(path_of(&url), &sum)))?)?;
    ensure_eq("status", &done["status"], &json!(2))?;
    let fields = [file(&content), NAMED, Field::Text("md5", &sum)];
    let whole = in_chunks(form(Request::plain("POST", site.collection()), &fields));
    ensure_eq("status", &state(site.ask(&whole)?)?["status"], &json!(2))
}

fn methods(site: &Site) -> Verdict {
    let path = begun(site, b"12345", 9)?;
    for target in [site.collection(), &path, "/chunked/a/b"] {
        let preflight = Request::plain("OPTIONS", target)
            .with("Origin", "https://app.example")
            .with("Access-Control-Request-Method", "PUT")
            .with("Access-Control-Request-Headers", "content-range,x-csrftoken");
        site.ask(&preflight)?.is(204)?;
    }
    site.ask(&Request::plain("OPTIONS", &path))?.is(204)?;
    for method in ["DELETE", "PATCH"] {
        let refused = site.ask(&Request::plain(method, &path))?;
        let detail = format!("Method \"{method}\" not allowed.");
        says(refused, 405, json!({ "detail": detail }))?;
    }
    says(site.ask(&Request::plain("GET", site.collection()))?, 404, json!({"detail": "Not found."}))
}

fn continued_over_tus(site: &Site) -> Verdict {
    let content = bytes(30, 5);
    let path = begun(site, &content[..10], 30)?;
    let made = state(site.ask(&Request::plain("GET", &path))?)?;
    let tus = path_of(made["file"].as_str().unwrap_or_default()).to_owned();
    over_tus(site).ask(&Request::patch(&tus, 10).body(&content[10..20]))?.is(204)?;
    ensure_eq("offset", offset(site, &path)?, 20)?;
    state(site.ask(&chunk(&path, "20-29/30", &[file(&content[20..])]))?)?;
    let done = state(site.ask(&completion(&path, &md5(&content)))?)?;
    ensure_eq("status", &done["status"], &json!(2))
}
