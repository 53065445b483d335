//! What every answer of this dialect must keep.

use serde_json::Value;

use crate::case::Level;
use crate::watch::{self, Check, Exchange};

/// Every check of ResumableJS answers.
pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "every_chunk_answer_forbids_caching_and_sniffing",
        rules: &["S-012", "F-44"],
        level: Level::Ours,
        says: "Cache-Control: no-store and X-Content-Type-Options: nosniff",
        holds: |x| {
            x.response.list("Cache-Control") == ["no-store"]
                && x.response.field("X-Content-Type-Options") == Some("nosniff")
        },
    },
    Check {
        name: "every_chunk_answer_to_another_origin_is_readable",
        rules: &["F-32"],
        level: Level::Ours,
        says: "an answer to a request with Origin lets that origin read it, errors included",
        holds: |x| watch::answer_to_origin_is_readable(x) && watch::answer_varies_by_origin(x),
    },
    Check {
        name: "every_chunk_answer_is_framed_once",
        rules: &["S-012"],
        level: Level::Ours,
        says: "one Content-Length at most, none with Transfer-Encoding or 204, no body on HEAD",
        holds: watch::answer_is_framed_once,
    },
    Check {
        name: "every_chunk_answer_has_a_status_that_clients_understand",
        rules: &["A-001", "F-03", "F-04", "F-34"],
        level: Level::Ours,
        says: "200, 204, 400, 404, 405, 415, 403 and 5xx only where the case made the server say no",
        holds: |x| {
            let failed = [403, 500, 503].contains(&x.response.status) && x.request.may_fail;
            failed || [200, 204, 400, 404, 405, 415].contains(&x.response.status)
        },
    },
    Check {
        name: "every_chunk_answer_is_json",
        rules: &["F-01", "F-05", "S-012"],
        level: Level::Ours,
        says: "a body is application/json: a yes of one kind with its upload, or a no with its error",
        holds: body_is_as_promised,
    },
    Check {
        name: "no_payload_is_answered_204",
        rules: &["A-001", "F-04"],
        level: Level::Ours,
        says: "204 is for requests without a chunk",
        holds: |x| x.response.status != 204 || !carries_payload(x),
    },
];

fn carries_payload(x: &Exchange<'_>) -> bool {
    let uploads = ["POST", "PUT", "PATCH"].contains(&x.method.as_str());
    let kind = x.request.field("Content-Type").unwrap_or_default();
    let body = x.request.body.bytes();
    let is_form = kind.starts_with("multipart/form-data");
    let has_file = body.windows(11).any(|window| window == b"; filename=");
    uploads && if is_form { has_file } else { !body.is_empty() }
}

fn body_is_as_promised(x: &Exchange<'_>) -> bool {
    let bodiless = x.method == "HEAD" || [204, 405].contains(&x.response.status);
    if bodiless {
        return x.response.body.is_empty();
    }
    if x.response.field("Content-Type") != Some("application/json") {
        return false;
    }
    let Ok(body) = serde_json::from_slice::<Value>(&x.response.body) else {
        return false;
    };
    if x.response.status != 200 {
        let error = &body["error"];
        return body["chunkUploadStatus"] == false
            && body.get("fileUploadStatus").is_none()
            && error["code"].is_string()
            && error["message"].is_string();
    }
    let upload = &body["upload"];
    let numbers = ["offset", "received", "size"];
    let described = numbers.iter().all(|n| upload[n].is_u64());
    let is_status = x.request.target.contains("/status");
    // Whoever has the URL may read and remove the upload, so that it takes more than its name.
    let is_test = is_status || x.method == "GET";
    let leads = ["id", "url"].iter().any(|member| upload.get(member).is_some());
    let chunk = body["chunkUploadStatus"] == true;
    let file = body["fileUploadStatus"] == true;
    let complete = upload["complete"] == true;
    described
        && !(is_test && leads)
        && body["resumableIdentifier"].is_string()
        && (is_status || (chunk != file && file == complete))
}
