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
        "cors_preflight_allows_the_fields_it_asks_for",
        &["D-57", "F-47"],
        "tracing, caching and CSRF fields too, 64 names at most; * and credentials appear nowhere",
        asked_for,
    )
    .under(&[Setup::Plain, Setup::Http2, Setup::CorsOrigin]),
    Case::ours(
        "cors_preflight_is_answered_on_every_path",
        &["D-57"],
        "204 below an upload and where nothing is, so that the page can read the 404 that follows",
        everywhere,
    )
    .under(&[Setup::Plain, Setup::Http2, Setup::CorsOrigin]),
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

/// A preflight from an origin that may upload, which asks for `fields`.
fn asking_for(site: &Site, target: &str, fields: &str) -> Request {
    let request = Request::plain("OPTIONS", target).with("Origin", origin(site));
    let request = request.with("Access-Control-Request-Method", "POST");
    request.with("Access-Control-Request-Headers", fields)
}

fn asked_for(site: &Site) -> Verdict {
    let many = (0..100).map(|n| format!("x-{n}")).collect::<Vec<_>>();
    let mut rows = Rows::new();
    for (asked, expected) in [
        ("sentry-trace,baggage,traceparent,tus-resumable", "sentry-trace baggage traceparent"),
        ("x-upsert, cache-control , content-range", "x-upsert cache-control content-range"),
        ("x-csrf-token,*,a b,\"c\",x-d", "x-csrf-token x-d"),
        (&many.join(","), &many[..64].join(" ")),
    ] {
        rows.row(asked, || {
            let answer = site.ask(&asking_for(site, site.collection(), asked))?.is(204)?;
            let allowed = answer.list("Access-Control-Allow-Headers");
            let more = allowed.iter().filter(|name| !ALLOWED.contains(&name.as_str()));
            let more = more.cloned().collect::<Vec<_>>().join(" ");
            ensure_eq("fields beside the listed ones", more.as_str(), expected)?;
            let lacks = missing(&answer, "Access-Control-Allow-Headers", ALLOWED);
            ensure_eq("missing fields", lacks.as_str(), "")?;
            let varies = answer.list("Vary").iter().any(|v| v == "Access-Control-Request-Headers");
            ensure(varies, "no Vary on what was asked for")?;
            let stars = answer.fields.iter().find(|(name, value)| {
                name.starts_with("access-control-") && value.split(',').any(|v| v.trim() == "*")
            });
            ensure(stars.is_none(), format!("a star: {stars:?}"))?;
            answer.lacks("Access-Control-Allow-Credentials").map(drop)
        });
    }
    if site.setup == Setup::CorsOrigin {
        rows.row("an origin that is not listed", || {
            let asked = asking_for(site, site.collection(), "x-evil").set("Origin", ORIGIN);
            site.ask(&asked)?.is(204)?.lacks("Access-Control-Allow-Headers").map(drop)
        });
    }
    rows.verdict()
}

fn everywhere(site: &Site) -> Verdict {
    let below = format!("{}/more", site.below("unknown"));
    let mut rows = Rows::new();
    for target in [below.as_str(), "/", "/nowhere", "/nowhere/at/all?x=y"] {
        rows.row(target, || {
            // No dialect is there, so that the watch has nothing to say.
            let ask = |request: &Request| {
                if site.setup == Setup::Http2 {
                    return site.session()?.ask(request, &site.base.host);
                }
                let mut link = site.connect()?;
                link.raw.send_request(request, &site.base.host)?;
                link.raw.read_answer(request)
            };
            let answer = ask(&asking_for(site, target, "x-request-id,sentry-trace"))?.is(204)?;
            let answer = answer.has("Access-Control-Allow-Origin", origin(site))?;
            let names = ["sentry-trace", "x-request-id"];
            let lacks = missing(&answer, "Access-Control-Allow-Headers", &names);
            ensure_eq("missing fields", lacks.as_str(), "")?;
            let methods = ["POST", "PUT", "PATCH", "DELETE"];
            let methods = if target == below { &methods[..1] } else { &methods };
            let lacks = missing(&answer, "Access-Control-Allow-Methods", methods);
            ensure_eq("missing methods", lacks.as_str(), "")?;
            let request = Request::tus("POST", target).with("Origin", origin(site)).body(b"abc");
            let answer = ask(&request)?.is(404)?;
            let answer = answer.has("Access-Control-Allow-Origin", origin(site))?;
            let text = String::from_utf8_lossy(&answer.body);
            let names_paths = ["tus is at /files", "ResumableJS is at /resumable"];
            let is_told = names_paths.iter().all(|path| text.contains(path));
            ensure(target == below || is_told, text)
        });
    }
    rows.verdict()
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
        (Request::plain("GET", &upload.path), 404),
        (upload.request("GET"), 204),
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
