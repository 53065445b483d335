//! How answers reach clients, whatever they say.

use std::time::{Duration, Instant};

use super::client::{File, Form, Profile, Said, refused, said};
use crate::case::{ALLOWED_ORIGIN, BOTH, Case, OWN, Setup};
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "refused_chunk_of_8_mib_is_read_by_a_client_that_only_sends",
        &["F-33", "A-002"],
        "a blocking client sends all of it, then reads its 400; in every form, early faults and late",
        in_mid_send,
    )
    .under(&[Setup::Plain, Setup::MaxSize]),
    Case::ours(
        "refused_chunk_is_not_asked_for",
        &["A-002", "J-014"],
        "Expect: 100-continue and a fault in the query: the 400 comes without a 100",
        expect_continue,
    ),
    Case::ours(
        "path_with_and_without_slash_is_the_same",
        &["F-03"],
        "tests, uploads and the status resource; nothing redirects",
        slashes,
    )
    .under(BOTH),
    Case::ours(
        "method_that_is_not_offered_deletes_nothing",
        &["J-042", "F-31", "F-43"],
        "DELETE, TRACE and others on the main path are 405 with Allow, and the chunk is still there",
        methods,
    ),
    Case::ours(
        "options_answers_204_to_anybody",
        &["J-009", "F-32"],
        "with and without Origin, with and without parameters, on both paths",
        options,
    )
    .under(&[Setup::Plain, Setup::CorsOrigin, Setup::NoCors]),
    Case::ours(
        "answers_of_every_kind_are_readable_from_another_origin",
        &["F-32"],
        "200, 204, 400, 403, 404, 405, 415: Access-Control-Allow-Origin, exposed fields",
        cors,
    )
    .under(&[Setup::Plain, Setup::CorsOrigin, Setup::NoCors]),
    Case::ours(
        "upload_with_cookies_of_another_origin_is_refused",
        &["S-011", "A-003"],
        "403 after a second; not from an origin of the server's own, a listed one, or no page at all",
        forged,
    )
    .under(&[Setup::Plain, Setup::CorsOrigin, Setup::NoCors, Setup::PublicUrl]),
    Case::ours(
        "answers_say_how_far_the_upload_is",
        &["S-012", "F-04", "J-055"],
        "id, url, offset, received, size; complete and name when it is",
        how_far,
    ),
    Case::ours(
        "full_disk_stops_the_file_and_it_resumes",
        &["A-001", "J-023"],
        "500 store_full, what was stored stays, and the chunk is absent",
        full_disk,
    )
    .under(OWN),
    Case::ours(
        "shutdown_answers_a_chunk_under_way_503",
        &["A-003", "J-023"],
        "or ends its connection; never a yes, and after the restart the chunk is absent",
        shutdown,
    )
    .under(OWN)
    .waiting(),
];

const MIB: usize = 1 << 20;

fn in_mid_send(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in Form::ALL {
        let file = || File::new(8 * MIB, 8 << 20).form(form);
        if site.setup == Setup::MaxSize {
            rows.row(format!("{form:?} too large"), || {
                let request = file().ask(1).request(site);
                let answer = site.connect()?.ask_unbroken(&request)?;
                said(&answer)?.is(refused(400, "file_too_large"))
            });
            continue;
        }
        for (name, value, code) in [
            ("k", "2", "bad_chunk_number"),
            ("n", "0", "bad_total_chunks"),
            ("s", "1", "bad_chunk_size"),
            ("path", "../x", "bad_relative_path"),
        ] {
            rows.row(format!("{form:?} {name}={value}"), || {
                let request = file().ask(1).set(name, value).request(site);
                let answer = site.connect()?.ask_unbroken(&request)?;
                said(&answer)?.is(refused(400, code))
            });
        }
        rows.row(format!("{form:?} a different copy"), || {
            let mut file = file();
            file.content.extend(b"x");
            let file = file.ceil();
            file.stores(site, 1)?;
            let mut ask = file.ask(1);
            ask.payload[0] ^= 1;
            let answer = site.connect()?.ask_unbroken(&ask.request(site))?;
            said(&answer)?.is(refused(400, "content_conflict"))
        });
        rows.row(format!("{form:?} with another method"), || {
            let request = file().ask(1).request(site).method("DELETE");
            site.connect()?.ask_unbroken(&request)?.is(405)?;
            Ok(())
        });
    }
    rows.verdict()
}

fn expect_continue(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in [Form::Doubled, Form::Octet] {
        rows.row(format!("{form:?}"), || {
            let file = File::new(8 * MIB, 8 << 20).form(form);
            let request = file.ask(1).set("n", "0").request(site);
            let request = request.with("Expect", "100-continue");
            let mut link = site.connect()?;
            link.send_head(&request)?;
            let answer = link.answer_to(&request)?;
            ensure_eq("interim answers", answer.interim.len(), 0)?;
            said(&answer)?.is(refused(400, "bad_total_chunks"))
        });
    }
    rows.verdict()
}

fn slashes(site: &Site) -> Verdict {
    let file = File::new(40, 10);
    for (number, form) in Form::ALL.into_iter().enumerate() {
        let number = number as u64 + 1;
        let ask = file.clone().form(form).ask(number);
        let slashed = |request: Request| {
            let target = request.target.replacen(site.collection(), &site.below(""), 1);
            Request { target, ..request }
        };
        site.ask(&slashed(ask.test(site)))?.is(204)?;
        let answer = said(&site.ask(&slashed(ask.request(site)))?)?.said;
        if number == 4 {
            ensure_eq("the upload", answer, Said::File)?;
            file.is_complete(site, number)?;
        } else {
            ensure_eq("the upload", answer, Said::Chunk)?;
            file.tests(site, number, Said::Chunk)?;
        }
    }
    let status = file.status(site);
    let target = status.target.replace("status?", "status/?");
    site.ask(&Request { target, ..status })?.is(200)?;
    for below in ["x", "status/x", "x/y"] {
        let target = format!("{}?{}", site.below(below), file.ask(1).query());
        site.ask(&Request::plain("GET", &target))?.is(404)?;
    }
    Ok(())
}

fn methods(site: &Site) -> Verdict {
    let file = File::new(30, 10);
    file.stores(site, 1)?;
    let mut rows = Rows::new();
    for method in ["DELETE", "TRACE", "PROPFIND", "COPY", "LINK", "get"] {
        rows.row(method, || {
            let test = file.ask(1).test(site).method(method);
            let allow = site.ask(&test)?.is(405)?.list("Allow");
            ensure(allow.iter().any(|m| m == "POST"), format!("Allow: {allow:?}"))?;
            file.tests(site, 1, Said::Chunk)
        });
    }
    rows.verdict()
}

fn options(site: &Site) -> Verdict {
    let file = File::new(30, 10);
    let mut rows = Rows::new();
    let paths =
        [site.collection().to_owned(), file.ask(1).test(site).target, file.status(site).target];
    // A page may also ask where nothing is (D-57 of the tus contract).
    let nowhere = format!("{}/more", site.below("unknown"));
    let asked = paths.iter().flat_map(|path| [(path, None), (path, Some(ALLOWED_ORIGIN))]);
    for (path, origin) in asked.chain([(&nowhere, Some(ALLOWED_ORIGIN))]) {
        rows.row(format!("{path} {origin:?}"), || {
            let mut request = Request::plain("OPTIONS", path);
            if let Some(origin) = origin {
                request = request
                    .with("Origin", origin)
                    .with("Access-Control-Request-Method", "POST")
                    .with("Access-Control-Request-Headers", "content-type");
            }
            let answer = site.ask(&request)?.is(204)?;
            if origin.is_some() && site.setup != Setup::NoCors {
                let methods = answer.list("Access-Control-Allow-Methods");
                for method in ["GET", "HEAD", "POST", "PUT", "PATCH"] {
                    let named = methods.iter().any(|m| m == method);
                    ensure(named, format!("{methods:?} lacks {method}"))?;
                }
                let fields = answer.field("Access-Control-Allow-Headers");
                let fields = fields.unwrap_or_default().to_ascii_lowercase();
                ensure(fields.contains("content-type"), fields)?;
            }
            Ok(())
        });
    }
    rows.verdict()
}

fn cors(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    let file = File::new(30, 10);
    file.stores(site, 1)?;
    let gone = File::new(30, 10);
    gone.stores(site, 1)?;
    site.ask(&gone.status(site).method("DELETE"))?.is(204)?;
    let coded = file.ask(2).request(site).with("Content-Encoding", "br");
    // Every answer is also held against the check on origins.
    for (what, request, status) in [
        ("present", file.ask(1).test(site), 200),
        ("absent", file.ask(2).test(site), 204),
        ("stored", file.ask(1).request(site), 200),
        ("malformed", file.ask(1).set("k", "x").request(site), 400),
        ("bare", Request::plain("GET", site.collection()), 400),
        ("gone", gone.ask(2).request(site), 404),
        ("no such path", Request::plain("GET", &site.below("x/y")), 404),
        ("status", file.status(site), 200),
        ("no such upload", gone.status(site), 404),
        ("another method", file.ask(1).test(site).method("DELETE"), 405),
        ("coded", coded, 415),
    ] {
        for origin in [ALLOWED_ORIGIN, "https://other.example", "null"] {
            rows.row(format!("{what} from {origin}"), || {
                let readable = site.setup == Setup::Plain
                    || (site.setup == Setup::CorsOrigin && origin == ALLOWED_ORIGIN);
                let request = request.clone().with("Origin", origin);
                // What would change something is not taken from where nobody may upload (S-011).
                let is_refused = !readable && ["stored", "gone"].contains(&what);
                let answer = if is_refused {
                    site.ask(&request.may_fail())?.is(403)?
                } else {
                    site.ask(&request)?.is(status)?
                };
                let exposed = answer.list("Access-Control-Expose-Headers").join(" ");
                ensure(
                    !readable || exposed.contains("Upload-Offset"),
                    format!("exposes {exposed:?}"),
                )
            });
        }
    }
    rows.verdict()
}

fn forged(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    let host = &site.base.host;
    let own = format!("Origin: http://{host}");
    let loud = format!("Origin: HTTP://{}", host.to_uppercase());
    let cross = "Sec-Fetch-Site: cross-site";
    let (cookie, other) = ("Cookie: session=1", "Origin: https://other.example");
    let upstream = "Host: 127.0.0.1:1";
    // By whom the request is taken: by any server, by one for any origin, by one of some setup, by
    // none.
    let (any, open, none) =
        (true, ![Setup::CorsOrigin, Setup::NoCors].contains(&site.setup), false);
    let listed = site.setup == Setup::CorsOrigin;
    let public = site.setup == Setup::PublicUrl;
    for (fields, is_stored) in [
        (&[cookie, other][..], none),
        (&[cookie, other, cross], none),
        (&[cookie, &own, cross], none),
        (&[cookie, "Origin: null"], none),
        (&["Authorization: Basic YTpi", other], none),
        (&["Authorization: Bearer abc", other], open),
        (&[cookie, &own], any),
        (&[cookie, &loud], any),
        (&[cookie, &own, "Sec-Fetch-Site: same-origin"], any),
        (&[cookie], any),
        (&[other, cross], open),
        (&[other], open),
        (&["Origin: null"], open),
        // A proxy in front that changes the host, and says so or not.
        (&[cookie, "Host: name:80", "Origin: http://NAME"], any),
        (&[cookie, upstream, "X-Forwarded-Host: name, b", "Origin: http://name"], any),
        (&[cookie, upstream, "Origin: http://name"], none),
        (&[upstream, "Origin: http://name"], open),
        (&[cookie, upstream, "Origin: https://uploads.example"], public),
        (&[cookie, upstream, "Origin: https://app.example"], listed),
        (&[cookie, upstream, "Origin: https://app.example", cross], listed),
    ] {
        rows.row(format!("{fields:?}"), || {
            let file = File::new(20, 10);
            let request = fields.iter().fold(file.ask(1).request(site), |request, field| {
                let (name, value) = field.split_once(": ").unwrap_or_default();
                request.with(name, value)
            });
            let asked = Instant::now();
            let request = if is_stored { request } else { request.may_fail() };
            let answer = site.ask(&request)?;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let answer = said(&answer)?.said;
            if is_stored {
                return ensure_eq("the upload", answer, Said::Chunk);
            }
            ensure_eq("the upload", answer, refused(403, "forbidden"))?;
            ensure(text.contains("--cors-origin") && text.contains("--public-url"), text)?;
            let took = asked.elapsed();
            ensure(took >= Duration::from_millis(990), format!("403 after {took:?}"))?;
            site.ask(&file.status(site))?.is(404)?;
            Ok(())
        });
    }
    rows.verdict()
}

fn how_far(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for profile in Profile::ALL {
        rows.row(format!("{profile:?}"), || {
            let mut file = File::new(29, 10).profile(profile).ceil();
            file.name.splice(0..0, *b"dir/\x1b");
            file.begins(site)?;
            let first = file.put(site, 3)?;
            let numbers = |upload: &serde_json::Value| {
                ["offset", "received", "size"].map(|name| upload[name].as_u64().unwrap_or(99))
            };
            ensure_eq("the first answer", numbers(&first.upload), [1, 10, 29])?;
            ensure_eq("complete", first.upload.get("complete"), None)?;
            let second = file.put(site, 1)?;
            ensure_eq("the second answer", numbers(&second.upload), [10, 19, 29])?;
            let test = said(&site.ask(&file.ask(1).test(site))?)?;
            ensure_eq("the test", numbers(&test.upload), [10, 19, 29])?;
            let last = file.put(site, 2)?;
            ensure_eq("the last answer", numbers(&last.upload), [29, 29, 29])?;
            ensure_eq("complete", last.upload["complete"].as_bool(), Some(true))?;
            let name = String::from_utf8_lossy(&file.name[5..]).into_owned();
            ensure_eq("the safe name", last.upload["name"].as_str(), Some(name.as_str()))?;
            ensure_eq("the upload", &last.upload["id"], &first.upload["id"])
        });
    }
    rows.verdict()
}

fn full_disk(site: &Site) -> Verdict {
    let own = site.launch_with_full_disk(64)?;
    let site = &own.site;
    let file = File::new(200_000, 10_000);
    file.stores(site, 1)?;
    let answer = site.ask(&file.ask(20).request(site).may_fail())?;
    let answer = said(&answer)?.said;
    let no = matches!(answer, Said::Refused(500 | 503, _));
    ensure(no, format!("{answer:?}"))?;
    file.tests(site, 1, Said::Chunk)?;
    file.tests(site, 20, Said::Absent)?;
    file.stores(site, 2)
}

fn shutdown(site: &Site) -> Verdict {
    let mut own = site.launch(&[])?;
    let file = File::new(20, 10).form(Form::Octet);
    file.begins(&own.site)?;
    file.stores(&own.site, 2)?;
    let request = file.ask(1).request(&own.site).may_fail();
    let mut link = own.site.connect()?;
    link.send_head(&request)?;
    link.raw.send(&file.ask(1).payload[..5])?;
    let end = link.raw.end_within(Duration::from_millis(200))?;
    ensure_eq("the chunk under way", end, crate::http1::End::Open)?;
    let asked = Instant::now();
    own.process.terminate()?;
    match link.answer_to(&request) {
        Ok(answer) => {
            ensure_eq("the answer", answer.status, 503)?;
            let took = asked.elapsed();
            ensure(took >= Duration::from_millis(990), format!("503 after {took:?}"))?;
        }
        Err(_closed) => {}
    }
    drop(link);
    let status = own.process.ended_within(Duration::from_secs(15))?;
    ensure(status.success(), Failure::new(format!("ended with {status}")))?;
    own.restart()?;
    file.tests(&own.site, 1, Said::Absent)?;
    file.tests(&own.site, 2, Said::Chunk)?;
    file.completes(&own.site, 1)
}
