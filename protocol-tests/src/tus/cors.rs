//! CORS: what a page on another origin can do and read.

use crate::case::{ALLOWED_ORIGIN, BOTH, Case, Setup};
use crate::content::checksum;
use crate::failure::{Rows, Verdict, ensure, ensure_eq};
use crate::message::{Request, Response};
use crate::site::Site;

/// Request fields that the preflight must name (D-57).
const ALLOWED: &[&str] = &[
    "Authorization",
    "Content-Type",
    "Origin",
    "X-Requested-With",
    "X-Request-ID",
    "X-HTTP-Method-Override",
    "Tus-Resumable",
    "Upload-Length",
    "Upload-Offset",
    "Upload-Metadata",
    "Upload-Defer-Length",
    "Upload-Concat",
    "Upload-Checksum",
    "Upload-Complete",
    "Upload-Incomplete",
    "Upload-Draft-Interop-Version",
];

/// Answer fields that a page must be able to read (D-57).
const EXPOSED: &[&str] = &[
    "Location",
    "Upload-Offset",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Defer-Length",
    "Upload-Concat",
    "Upload-Expires",
    "Tus-Version",
    "Tus-Resumable",
    "Tus-Max-Size",
    "Tus-Extension",
    "Tus-Checksum-Algorithm",
    "Upload-Complete",
    "Upload-Incomplete",
    "Upload-Draft-Interop-Version",
    "Upload-Limit",
    "Retry-After",
];

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "cors_preflight_names_every_method_and_field",
        &["D-57", "F-46", "F-47", "D-53", "F-55"],
        "204 with methods, fields and age on any tus URL, and the capabilities too",
        preflight,
    )
    .under(BOTH),
    Case::ours(
        "cors_preflight_reflects_nothing",
        &["D-57", "F-47"],
        "requested fields are not echoed; * and credentials appear nowhere",
        no_reflection,
    ),
    Case::ours(
        "cors_fields_are_on_every_answer",
        &["I-10", "D-57", "F-46", "D-53"],
        "success or error of any status: the origin is allowed and every tus field exposed",
        every_answer,
    )
    .needing(&["creation", "checksum", "termination"])
    .under(BOTH),
    Case::ours(
        "cors_any_origin_is_echoed",
        &["D-57"],
        "by default each origin is allowed by name, null and custom schemes included",
        any_origin,
    ),
    Case::ours(
        "cors_origin_not_allowed_is_served_without_fields",
        &["D-57", "D-53"],
        "no 403: the request is processed, the browser just may not read the answer",
        not_allowed,
    )
    .under(&[Setup::CorsOrigin]),
    Case::ours(
        "cors_off_means_no_fields",
        &["D-57"],
        "without CORS no answer has an Access-Control field, and requests work as ever",
        off,
    )
    .under(&[Setup::NoCors]),
];

const ORIGIN: &str = "https://page.example";

fn ask_preflight(site: &Site, target: &str, method: &str) -> Request {
    let request = Request::plain("OPTIONS", target).with("Origin", origin(site));
    let request = request.with("Access-Control-Request-Method", method);
    request.with("Access-Control-Request-Headers", "tus-resumable,x-evil,content-type")
}

fn origin(site: &Site) -> &'static str {
    if site.setup == Setup::CorsOrigin { ALLOWED_ORIGIN } else { ORIGIN }
}

/// The names of `expected` that a list field lacks, whatever the case.
fn missing(answer: &Response, field: &str, expected: &[&str]) -> String {
    let found = answer.list(field);
    let lacks = |name: &&&str| !found.iter().any(|f| f.eq_ignore_ascii_case(name));
    expected.iter().filter(lacks).copied().collect::<Vec<_>>().join(" ")
}

fn preflight(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let targets = [site.collection().to_owned(), upload.path.clone(), site.below("unknown")];
    let mut rows = Rows::new();
    for target in &targets {
        for method in ["POST", "PATCH", "HEAD", "DELETE", "GET"] {
            rows.row(format!("{method} {target}"), || {
                let answer = site.ask(&ask_preflight(site, target, method))?.is(204)?;
                let answer = answer.has("Access-Control-Allow-Origin", ORIGIN)?;
                let methods = ["POST", "HEAD", "PATCH", "OPTIONS", "GET", "DELETE"];
                let lacks = missing(&answer, "Access-Control-Allow-Methods", &methods);
                ensure_eq("missing methods", lacks.as_str(), "")?;
                let lacks = missing(&answer, "Access-Control-Allow-Headers", ALLOWED);
                ensure_eq("missing fields", lacks.as_str(), "")?;
                let answer = answer.has("Access-Control-Max-Age", 86_400)?;
                answer.has("Tus-Version", "1.0.0")?.carries("Tus-Extension").map(drop)
            });
        }
    }
    rows.verdict()?;
    upload.stands_at(0)
}

fn no_reflection(site: &Site) -> Verdict {
    let answer = site.ask(&ask_preflight(site, site.collection(), "POST"))?.is(204)?;
    let evil = answer.fields.iter().find(|(_, value)| value.to_lowercase().contains("x-evil"));
    ensure(evil.is_none(), format!("a requested field is reflected: {evil:?}"))?;
    let stars = answer.fields.iter().find(|(name, value)| {
        name.starts_with("access-control-") && value.split(',').any(|v| v.trim() == "*")
    });
    ensure(stars.is_none(), format!("a star: {stars:?}"))?;
    answer.lacks("Access-Control-Allow-Credentials")?;
    Ok(())
}

fn every_answer(site: &Site) -> Verdict {
    let upload = site.create(6)?;
    let complete = site.create_complete(b"abc")?;
    let patch = || upload.patch_at(0).body(b"abc");
    let unknown = site.below("unknown");
    let table = vec![
        (site.post().with("Upload-Length", 3).body(b""), 201),
        (site.post().body(b""), 400),
        (patch().set("Upload-Offset", "x"), 400),
        (patch().set("Upload-Offset", "9"), 409),
        (patch().set("Content-Type", "text/plain"), 415),
        (patch().set("Tus-Resumable", "9"), 412),
        (upload.patch_at(0).body(b"abcdefg"), 413),
        (patch().with("Upload-Checksum", checksum("sha1", b"x")), 460),
        (upload.request("HEAD"), 200),
        (Request::tus("HEAD", &unknown), 404),
        (Request::tus("DELETE", &unknown), 404),
        (upload.request("GET"), 404),
        (complete.request("GET"), 200),
        (complete.request("GET").with("Range", "bytes=1-1"), 206),
        (complete.request("GET").with("Range", "bytes=9-"), 416),
        (upload.request("PUT"), 405),
        (Request::plain("OPTIONS", site.collection()), 204),
        (patch(), 204),
        (upload.request("DELETE"), 204),
    ];
    let mut rows = Rows::new();
    for (request, status) in table {
        rows.row(format!("{} {status}", request.about()), || {
            let answer = site.ask(&request.with("Origin", ORIGIN))?.is(status)?;
            let answer = answer.has("Access-Control-Allow-Origin", ORIGIN)?;
            let lacks = missing(&answer, "Access-Control-Expose-Headers", EXPOSED);
            ensure_eq("fields not exposed", lacks.as_str(), "")?;
            answer.lacks("Access-Control-Allow-Credentials").map(drop)
        });
    }
    rows.verdict()
}

fn any_origin(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for origin in ["null", "http://localhost:3000", "file://", "capacitor://localhost", ORIGIN] {
        rows.row(origin, || {
            let request = Request::plain("OPTIONS", site.collection()).with("Origin", origin);
            let answer = site.ask(&request)?.is(204)?;
            answer.has("Access-Control-Allow-Origin", origin).map(drop)
        });
    }
    rows.verdict()
}

fn not_allowed(site: &Site) -> Verdict {
    let create = site.post().with("Upload-Length", 3).body(b"");
    let mut rows = Rows::new();
    for origin in [ORIGIN, "null", "https://app.example.evil.example", "http://app.example"] {
        rows.row(origin, || {
            let answer = site.ask(&create.clone().with("Origin", origin))?.is(201)?;
            answer.lacks("Access-Control-Allow-Origin").map(drop)
        });
    }
    rows.verdict()?;
    let answer = site.ask(&create.with("Origin", ALLOWED_ORIGIN))?.is(201)?;
    answer.has("Access-Control-Allow-Origin", ALLOWED_ORIGIN)?;
    let answer = site.ask(&ask_preflight(site, site.collection(), "POST"))?.is(204)?;
    answer.has("Access-Control-Allow-Origin", ALLOWED_ORIGIN)?;
    Ok(())
}

fn off(site: &Site) -> Verdict {
    let mut link = site.connect()?;
    let create = site.post().with("Upload-Length", 3).with("Origin", ORIGIN).body(b"");
    let answer = link.ask(&create)?.is(201)?;
    let upload = site.created(&answer)?;
    link.ask(&upload.patch_at(0).with("Origin", ORIGIN).body(b"abc"))?.is(204)?;
    let preflight = ask_preflight(site, site.collection(), "POST");
    let answer = link.ask(&preflight)?.is(204)?;
    let fields = answer.fields.iter().find(|(name, _)| name.starts_with("access-control-"));
    ensure(fields.is_none(), format!("CORS is off but there is {fields:?}"))
}
