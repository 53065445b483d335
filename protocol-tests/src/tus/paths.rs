//! Paths and ids: what is the collection, what is an upload, what is neither.

use std::collections::HashSet;

use crate::case::{BOTH, Case, OWN, Setup};
use crate::failure::{Rows, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "path_with_trailing_slash_is_the_same",
        &["D-54", "F-45", "I-07"],
        "/files/ creates like /files, /files/<id>/ is the upload, nothing redirects",
        trailing_slash,
    )
    .under(&[Setup::Plain, Setup::Http2, Setup::RootPath]),
    Case::ours(
        "path_with_query_addresses_the_upload",
        &["D-54", "F-53"],
        "a query string on any tus URL is ignored",
        query,
    )
    .under(BOTH),
    Case::ours(
        "path_in_absolute_form_addresses_the_same",
        &["D-54"],
        "a request line with the whole URL, as proxies send it, is understood",
        absolute_form,
    ),
    Case::ours(
        "path_of_the_root_serves_a_collection",
        &["D-54", "F-45", "D-40"],
        "with the collection at / everything works at / and /<id>",
        root,
    )
    .under(&[Setup::RootPath]),
    Case::ours(
        "path_below_an_upload_is_unknown",
        &["0.2", "D-54", "D-55"],
        "what is neither the collection nor one segment below it answers 404",
        neither,
    ),
    Case::ours(
        "path_that_is_the_other_dialects_stops_its_pages",
        &["F-51", "D-45"],
        "resumable.js and its forks take 412 and 405 for a passing trouble: 415, and the right path",
        other_dialect,
    )
    .under(BOTH),
    Case::must(
        "path_that_tries_to_escape_is_unknown",
        &["F-38", "I-12", "D-15"],
        "ids with dots, slashes, NUL, in any encoding, answer 404 and touch nothing outside",
        escapes,
    )
    .under(OWN),
    Case::ours(
        "id_is_server_made_and_random",
        &["I-12", "D-40"],
        "ids have at least 128 bits in [A-Za-z0-9_-] and never repeat",
        random_ids,
    ),
];

fn trailing_slash(site: &Site) -> Verdict {
    let collection = format!("{}/", site.collection().trim_end_matches('/'));
    let create = Request::tus("POST", &collection).with("Upload-Length", "3").body(b"");
    let upload = site.create_by(&create)?;
    let slashed = site.upload(&format!("{}/", upload.path.trim_end_matches('/')));
    slashed.stands_at(0)?;
    slashed.patch(0, b"ab")?.is(204)?.has("Upload-Offset", 2)?;
    upload.stands_at(2)?;
    upload.patch(2, b"c")?.is(204)?;
    slashed.reads_back(b"abc")?;
    slashed.delete()?.is(204)?;
    upload.is_gone(404)
}

fn query(site: &Site) -> Verdict {
    let create = format!("{}?upload=1", site.collection());
    let create = Request::tus("POST", &create).with("Upload-Length", "3").body(b"");
    let upload = site.create_by(&create)?;
    ensure(!upload.path.contains('?'), "the query is part of the Location")?;
    let queried = site.upload(&format!("{}?_=1470920397045", upload.path));
    queried.stands_at(0)?;
    queried.patch(0, b"abc")?.is(204)?;
    queried.reads_back(b"abc")?;
    queried.delete()?.is(204)?;
    upload.is_gone(404)
}

fn absolute_form(site: &Site) -> Verdict {
    let url = |path: &str| format!("http://{}{path}", site.base.host);
    let create = Request::tus("POST", &url(site.collection())).with("Upload-Length", "3").body(b"");
    let upload = site.create_by(&create)?;
    let absolute = site.upload(&url(&upload.path));
    absolute.patch(0, b"abc")?.is(204)?;
    absolute.reads_back(b"abc")?;
    upload.reads_back(b"abc")
}

fn root(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let slashes = upload.path.matches('/').count();
    ensure_eq("the number of slashes in the path of an upload at /", slashes, 1)?;
    upload.patch(0, b"abc")?.is(204)?;
    upload.reads_back(b"abc")
}

fn neither(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let paths = ["/more", "//", "/more/", "//more"].map(|tail| format!("{}{tail}", upload.path));
    let mut rows = Rows::new();
    for path in &paths {
        for method in ["HEAD", "PATCH", "GET", "DELETE", "POST", "PUT", "OPTIONS"] {
            rows.row(format!("{method} {path}"), || {
                let request = Request::patch(path, 0).method(method).body(b"");
                site.ask(&request)?.is(404).map(drop)
            });
        }
    }
    rows.verdict()?;
    upload.stands_at(0)
}

fn other_dialect(site: &Site) -> Verdict {
    let chunk = "resumableChunkNumber=1&resumableChunkSize=3&resumableTotalSize=3\
                 &resumableIdentifier=a";
    let with_chunk = format!("{}?{chunk}", site.collection());
    let form = "multipart/form-data; boundary=b";
    let mut rows = Rows::new();
    for (method, target, kind) in [
        ("POST", site.collection(), form),
        ("PUT", site.collection(), form),
        ("POST", &with_chunk, form),
        ("POST", &with_chunk, "application/octet-stream"),
        ("PUT", &with_chunk, "binary/octet-stream"),
        ("POST", &site.below("unknown"), form),
    ] {
        rows.row(format!("{method} {target} {kind}"), || {
            let request = Request::plain(method, target).with("Content-Type", kind).body(b"abc");
            let answer = site.ask(&request)?.is(415)?.lacks("Location")?;
            let text = String::from_utf8_lossy(&answer.body);
            ensure(text.contains(" go to /resumable"), text)
        });
    }
    rows.verdict()
}

/// Ids that must never become a path.
const ESCAPES: &[&str] = &[
    ".",
    "..",
    "...",
    "../secret",
    "..%2Fsecret",
    "%2e%2e/secret",
    "%2E%2E%2Fsecret",
    "..%5Csecret",
    "%2Fetc%2Fpasswd",
    "/etc/passwd",
    "%00",
    "a%00b",
    "a%2Fb",
    "a%0Ab",
    "a%0D%0AX-Injected:%20yes",
    "%ff%fe",
    "%",
    "%zz",
    "%252e%252e%252fsecret",
    "a.json",
    "a;b",
    "~",
    "*",
    "-",
    "CON",
];

fn escapes(site: &Site) -> Verdict {
    let own = site.launch(&[])?;
    let site = &own.site;
    let upload = site.create(3)?;
    let names = own.process.files();
    let mut rows = Rows::new();
    let long = "a".repeat(300);
    let suffixed = [".part", ".json", ".log", ".info"].map(|tail| format!("{}{tail}", upload.id()));
    let ids = ESCAPES.iter().copied().chain([long.as_str()]).chain(suffixed.iter().map(|s| &**s));
    for id in ids {
        for method in ["HEAD", "PATCH", "GET", "DELETE"] {
            rows.row(format!("{method} {id}"), || {
                let request = Request::patch(&site.below(id), 0).method(method).body(b"");
                site.ask(&request)?.is(404)?.lacks("X-Injected")?.lacks("Upload-Offset").map(drop)
            });
        }
    }
    rows.verdict()?;
    ensure_eq("the files in the data directory", own.process.files(), names)?;
    upload.stands_at(0)
}

fn random_ids(site: &Site) -> Verdict {
    let mut seen = HashSet::new();
    for _ in 0..40 {
        let upload = site.create(1)?;
        let id = upload.id().to_owned();
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        // 22 characters of a 64-letter alphabet are the fewest that hold 128 bits.
        ensure(id.len() >= 22 && id.bytes().all(legal), format!("id {id:?}"))?;
        ensure(seen.insert(id.clone()), format!("id {id} was given twice"))?;
    }
    Ok(())
}
