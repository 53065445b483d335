//! Tus-Resumable on requests.

use crate::case::{BOTH, Case};
use crate::failure::{Rows, Verdict};
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::must(
        "request_without_version_is_refused",
        &["T-004", "D-03", "I-03", "I-04", "F-55"],
        "POST, PATCH and DELETE without Tus-Resumable answer 412 with Tus-Version",
        without,
    )
    .under(BOTH),
    Case::ours(
        "head_and_get_without_version_are_answered",
        &["D-03"],
        "browsers and curl may ask HEAD and GET without Tus-Resumable",
        reading_without,
    )
    .under(BOTH),
    Case::must(
        "request_with_another_version_is_refused",
        &["T-006", "D-02", "I-03", "I-04", "F-55"],
        "any version but 1.0.0 answers 412 with Tus-Version on POST, PATCH, DELETE and HEAD",
        another,
    )
    .under(BOTH),
    Case::ours(
        "request_of_the_draft_without_version_is_refused",
        &["T-004", "0.2", "I-04"],
        "a client of the IETF draft gets 412 while that protocol is not served here",
        draft,
    ),
    Case::ours(
        "get_with_another_version_is_answered",
        &["D-03"],
        "GET is not part of tus: its version is never checked",
        get_with_another,
    ),
];

fn without(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let create = site.post().with("Upload-Length", "3").body(b"");
    let requests = [create, upload.patch_at(0).body(b"abc"), upload.request("DELETE")];
    let mut rows = Rows::new();
    for request in requests {
        rows.row(request.method.clone(), || {
            let answer = upload.refuses(&request.without("Tus-Resumable"), &[412])?;
            answer.has("Tus-Version", "1.0.0")?.lacks("Location")?;
            Ok(())
        });
    }
    rows.verdict()
}

fn reading_without(site: &Site) -> Verdict {
    let upload = site.create_complete(b"abc")?;
    site.ask(&Request::plain("HEAD", &upload.path))?.is(200)?.has("Upload-Offset", 3)?;
    site.ask(&Request::plain("GET", &upload.path))?.is(200)?.has_body(b"abc")?;
    Ok(())
}

fn another(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let create = site.post().with("Upload-Length", "3").body(b"");
    let patch = upload.patch_at(0).body(b"abc");
    let requests = [create, patch, upload.request("DELETE"), upload.request("HEAD")];
    let versions = ["0.2.2", "0.1", "1.0", "1", "1.0.1", "2.0.0", "v1.0.0", "foo", "1.0.0,1.0.0"];
    let mut rows = Rows::new();
    for request in &requests {
        for version in versions {
            rows.row(format!("{} {version}", request.method), || {
                let request = request.clone().set("Tus-Resumable", version);
                let answer = upload.refuses(&request, &[412])?;
                answer.has("Tus-Version", "1.0.0")?.lacks("Location")?;
                Ok(())
            });
        }
    }
    rows.verdict()
}

fn get_with_another(site: &Site) -> Verdict {
    let upload = site.create_complete(b"abc")?;
    let request = Request::plain("GET", &upload.path).with("Tus-Resumable", "0.2.2");
    site.ask(&request)?.is(200)?.has_body(b"abc")?;
    Ok(())
}

fn draft(site: &Site) -> Verdict {
    let request = Request::plain("POST", site.collection())
        .with("Upload-Draft-Interop-Version", 6)
        .with("Upload-Complete", "?0")
        .with("Upload-Length", 3);
    let answer = site.ask(&request.body(b"abc"))?.is(412)?;
    answer.has("Tus-Version", "1.0.0")?.lacks("Location")?;
    Ok(())
}
