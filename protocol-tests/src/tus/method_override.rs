//! X-HTTP-Method-Override.

use crate::case::{BOTH, Case};
use crate::failure::{Rows, Verdict};
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::must(
        "override_replaces_the_real_method",
        &["T-011", "D-06", "F-55"],
        "X-HTTP-Method-Override wins over any real method, in any case",
        replaces,
    )
    .under(BOTH),
    Case::ours(
        "override_with_an_unknown_method_answers_405",
        &["D-06", "T-011", "I-03"],
        "a value that is no method of the resource answers 405",
        unknown,
    ),
    Case::ours(
        "override_never_applies_to_a_preflight",
        &["D-06"],
        "OPTIONS with Origin and Access-Control-Request-Method is a preflight in any case",
        preflight,
    ),
    Case::ours(
        "override_never_applies_to_connect",
        &["D-06"],
        "CONNECT is answered 405, whatever it is to mean: no client would take a success for one",
        connect,
    ),
    Case::ours(
        "override_to_head_answers_without_a_body",
        &["D-06", "0.3"],
        "POST with override HEAD answers like HEAD, framed by Content-Length: 0",
        head,
    ),
];

fn over(method: &str, real: &str, request: &Request) -> Request {
    request.clone().with("X-HTTP-Method-Override", method).method(real)
}

fn replaces(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    // A body on HEAD is not worth the trouble that proxies have with it.
    for real in ["POST", "PUT", "GET", "DELETE", "PATCH"] {
        for method in ["PATCH", "patch", "Patch"] {
            rows.row(format!("{real} as {method}"), || {
                let upload = site.create(3)?;
                let patch = over(method, real, &upload.patch_at(0).body(b"abc"));
                site.ask(&patch)?.is(204)?.has("Upload-Offset", 3)?;
                upload.reads_back(b"abc")
            });
        }
    }
    rows.row("POST as DELETE", || {
        let upload = site.create(3)?;
        site.ask(&over("DELETE", "POST", &upload.request("DELETE").body(b"")))?.is(204)?;
        upload.is_gone(404)
    });
    rows.row("DELETE as HEAD", || {
        let upload = site.create(3)?;
        site.ask(&over("HEAD", "DELETE", &upload.request("HEAD")))?
            .is(200)?
            .has("Upload-Offset", 0)?;
        upload.stands_at(0)
    });
    rows.row("PUT as POST", || {
        let create = site.post().with("Upload-Length", "3").body(b"");
        let response = site.ask(&over("POST", "PUT", &create))?.is(201)?;
        site.created(&response)?.stands_at(0)
    });
    rows.row("GET as OPTIONS", || {
        let options = Request::plain("OPTIONS", site.collection());
        site.ask(&over("OPTIONS", "GET", &options))?.is(204)?.has("Tus-Version", "1.0.0")?;
        Ok(())
    });
    rows.verdict()
}

fn unknown(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let mut rows = Rows::new();
    for method in ["FOO", "PUT", "POST", "PATCH, DELETE", "PA TCH"] {
        for real in ["POST", "DELETE", "PATCH"] {
            rows.row(format!("{real} as {method:?}"), || {
                let request = over(method, real, &upload.patch_at(0).body(b"abc"));
                upload.refuses(&request, &[405])?.carries("Allow").map(drop)
            });
        }
    }
    rows.verdict()
}

fn preflight(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let request = Request::plain("OPTIONS", &upload.path)
        .with("Origin", "https://app.example")
        .with("Access-Control-Request-Method", "PATCH")
        .with("X-HTTP-Method-Override", "DELETE");
    // The answer is OPTIONS' own, so the watch must not take it for one to DELETE.
    let mut link = site.connect()?;
    link.raw.send_request(&request, &site.base.host)?;
    let answer = link.raw.read_answer(&request)?.is(204)?;
    answer.carries("Access-Control-Allow-Methods")?;
    upload.stands_at(0)
}

fn connect(site: &Site) -> Verdict {
    let upload = site.create_complete(b"abc")?;
    let mut rows = Rows::new();
    for (method, target) in
        [("GET", &upload.path), ("HEAD", &upload.path), ("OPTIONS", &upload.path)]
    {
        rows.row(method, || {
            // The answer is CONNECT's own, so the watch must not take it for one to another.
            let request = over(method, "CONNECT", &Request::tus(method, target));
            let mut link = site.connect()?;
            link.raw.send_request(&request, &site.base.host)?;
            link.raw.read_answer(&request)?.is(405)?.carries("Allow").map(drop)
        });
    }
    rows.verdict()?;
    upload.reads_back(b"abc")
}

fn head(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let complete = site.create_complete(b"abc")?;
    let mut rows = Rows::new();
    for (target, status) in
        [(&upload.path, 200), (&complete.path, 200), (&site.below("unknown"), 404)]
    {
        rows.row(target, || {
            let request = over("HEAD", "POST", &Request::tus("HEAD", target).body(b""));
            let answer = site.ask(&request)?.is(status)?.has("Content-Length", 0)?;
            answer.has_body(b"")?;
            Ok(())
        });
    }
    rows.verdict()
}
