//! What every answer must keep, whatever the case: checked on each exchange of a run.

use std::sync::{Mutex, PoisonError};

use crate::case::{Level, Setup};
use crate::message::{Request, Response};

/// A check of every answer.
#[derive(Debug)]
pub struct Check {
    /// Its name, like a case's.
    pub name: &'static str,
    /// The rules it holds.
    pub rules: &'static [&'static str],
    /// Their level.
    pub level: Level,
    /// What it says.
    pub says: &'static str,
    /// Whether an exchange keeps it.
    pub holds: fn(&Exchange<'_>) -> bool,
}

/// One exchange as a check sees it.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// The request.
    pub request: &'a Request,
    /// The answer.
    pub response: &'a Response,
    /// The method, an override included.
    pub method: String,
    /// How the server is configured.
    pub setup: Setup,
    /// The highest offset shown before.
    pub floor: Option<u64>,
}

/// Collects what checks found during a run.
#[derive(Debug, Default)]
pub struct Watch {
    findings: Mutex<Vec<Finding>>,
}

/// One answer that breaks a check.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// The case during which it was seen.
    pub case: &'static str,
    /// The exchange.
    pub exchange: String,
    /// What kind of exchange it is: method and status.
    pub kind: String,
}

impl Watch {
    /// Holds one answer against every one of `checks`.
    pub fn check(
        &self,
        checks: &'static [Check],
        case: &'static str,
        setup: Setup,
        request: &Request,
        response: &Response,
        floor: Option<u64>,
    ) {
        let method = request.effective_method();
        let exchange = Exchange { request, response, method, setup, floor };
        for check in checks.iter().filter(|check| !(check.holds)(&exchange)) {
            let fields = response.fields.iter().map(|(name, value)| format!("{name}: {value}"));
            let fields = fields.collect::<Vec<_>>().join(", ");
            let exchange = format!("{} -> {} [{fields}]", request.about(), response.status);
            let kind = format!("{} {}", request.method, response.status);
            let finding = Finding { check: check.name, case, exchange, kind };
            self.findings.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
        }
    }

    /// What was found against one check.
    pub fn findings(&self, check: &str) -> Vec<Finding> {
        let findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        findings.iter().filter(|finding| finding.check == check).cloned().collect()
    }
}

/// The name of the check on the server's log after a run.
pub const NO_PANIC: &str = "no_request_makes_the_server_panic";

/// Every check of tus answers, in the order of the report.
pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "every_answer_carries_the_version",
        rules: &["I-10", "T-005", "0.4"],
        level: Level::Must,
        says: "Tus-Resumable: 1.0.0 on every answer, errors included",
        holds: |x| x.response.all("Tus-Resumable").collect::<Vec<_>>() == ["1.0.0"],
    },
    Check {
        name: "every_answer_forbids_caching",
        rules: &["D-60", "T-016", "F-56", "0.4"],
        level: Level::Ours,
        says: "Cache-Control: no-store; on downloads private, no-cache with an ETag",
        holds: |x| {
            let download = x.method == "GET" && [200, 206, 304, 416].contains(&x.response.status);
            let found = x.response.list("Cache-Control");
            found == ["no-store"] || (download && found == ["private", "no-cache"])
        },
    },
    Check {
        name: "every_answer_forbids_sniffing",
        rules: &["0.4", "D-56"],
        level: Level::Ours,
        says: "X-Content-Type-Options: nosniff on every answer",
        holds: |x| x.response.field("X-Content-Type-Options") == Some("nosniff"),
    },
    Check {
        name: "every_answer_to_another_origin_is_readable",
        rules: &["I-10", "D-57", "F-46"],
        level: Level::Must,
        says: "an answer to a request with Origin lets that origin read it, errors included",
        holds: answer_to_origin_is_readable,
    },
    Check {
        name: "every_answer_varies_by_origin",
        rules: &["D-57"],
        level: Level::Ours,
        says: "Vary: Origin on every answer of a server with CORS, and no CORS without it",
        holds: answer_varies_by_origin,
    },
    Check {
        name: "every_error_says_why_in_plain_text",
        rules: &["0.3"],
        level: Level::Ours,
        says: "the body of an error is `ERR_...: text` and a line end, as text/plain; charset=utf-8",
        holds: error_says_why,
    },
    Check {
        name: "every_answer_is_framed_once",
        rules: &["F-52", "F-48", "0.4"],
        level: Level::Must,
        says: "one Content-Length at most, none with Transfer-Encoding or 204, no body on HEAD",
        holds: answer_is_framed_once,
    },
    Check {
        name: "every_success_carries_its_fields",
        rules: &["0.4", "D-19", "D-54", "I-02"],
        level: Level::Ours,
        says: "Location and Upload-Offset on 201, Upload-Offset on PATCH, offset and length on HEAD",
        holds: success_carries_its_fields,
    },
    Check {
        name: "every_success_keeps_all_bytes",
        rules: &["I-02", "T-022", "F-54"],
        level: Level::Must,
        says: "a 2xx to a PATCH shows the old offset plus the length of its body",
        holds: success_keeps_all_bytes,
    },
    Check {
        name: "every_visible_offset_grows",
        rules: &["I-01", "F-15"],
        level: Level::Must,
        says: "no answer shows an offset below one that was shown before the request was sent",
        holds: |x| match (x.floor, x.response.number("Upload-Offset")) {
            (Some(floor), Some(offset)) => offset >= floor,
            _ => true,
        },
    },
    Check {
        name: "every_offset_and_length_is_a_number",
        rules: &["T-002", "F-15"],
        level: Level::Must,
        says: "Upload-Offset and Upload-Length are digits alone, once",
        holds: |x| {
            ["Upload-Offset", "Upload-Length", "Tus-Max-Size"].iter().all(|name| {
                let count = x.response.all(name).count();
                count == 0 || (count == 1 && x.response.number(name).is_some())
            })
        },
    },
    Check {
        name: "every_expiry_is_an_http_date",
        rules: &["T-075"],
        level: Level::Must,
        says: "Upload-Expires looks like Wed, 25 Jun 2014 16:00:00 GMT",
        holds: |x| x.response.all("Upload-Expires").all(is_http_date),
    },
    Check {
        name: "every_refusal_carries_its_field",
        rules: &["0.3", "D-09", "T-004", "D-55", "D-46"],
        level: Level::Ours,
        says: "405 Allow, 409 Upload-Offset, 412 Tus-Version, 423 for a lock and 503 Retry-After",
        holds: refusal_carries_its_field,
    },
    Check {
        name: "no_answer_redirects",
        rules: &["I-07"],
        level: Level::Must,
        says: "no redirect on any tus URL, for any method; 304 only for a GET that asked for it",
        holds: |x| {
            let revalidated = x.method == "GET" && x.response.status == 304;
            !(300..400).contains(&x.response.status) || revalidated
        },
    },
    Check {
        name: "no_answer_uses_a_status_that_clients_misread",
        rules: &["D-45", "F-10", "F-32", "F-51"],
        level: Level::Ours,
        says: "never 408, 417, 429 or 501, and 5xx only where the case made the server fail",
        holds: |x| {
            let fault = x.response.status >= 500 && !x.request.may_fail;
            !fault && ![408, 417, 429, 501].contains(&x.response.status)
        },
    },
    Check {
        name: "no_failed_head_shows_an_offset",
        rules: &["T-014", "F-56"],
        level: Level::Must,
        says: "a HEAD that does not succeed carries no Upload-Offset and no Upload-Length",
        holds: |x| {
            let failed = x.method == "HEAD" && x.response.status >= 300;
            let shows = |name| x.response.field(name).is_some();
            !failed || !(shows("Upload-Offset") || shows("Upload-Length"))
        },
    },
];

pub(crate) fn answer_to_origin_is_readable(x: &Exchange<'_>) -> bool {
    let Some(origin) = x.request.field("Origin") else {
        return true;
    };
    let allowed = x.response.field("Access-Control-Allow-Origin");
    let other = x.setup == Setup::CorsOrigin && origin != crate::case::ALLOWED_ORIGIN;
    if x.setup == Setup::NoCors || other {
        return allowed.is_none();
    }
    allowed == Some(origin.as_str())
}

pub(crate) fn answer_varies_by_origin(x: &Exchange<'_>) -> bool {
    let fields = &x.response.fields;
    if x.setup == Setup::NoCors {
        return !fields.iter().any(|(name, _)| name.starts_with("access-control-"));
    }
    let vary = x.response.list("Vary");
    vary.iter().any(|name| name.eq_ignore_ascii_case("Origin"))
}

fn error_says_why(x: &Exchange<'_>) -> bool {
    if x.response.status < 400 || x.method == "HEAD" {
        return true;
    }
    let kind = x.response.field("Content-Type").unwrap_or_default();
    let text = String::from_utf8_lossy(&x.response.body);
    let coded = text.starts_with("ERR_") && text.contains(": ") && text.ends_with('\n');
    kind.eq_ignore_ascii_case("text/plain; charset=utf-8") && coded
}

pub(crate) fn answer_is_framed_once(x: &Exchange<'_>) -> bool {
    let lengths: Vec<_> = x.response.all("Content-Length").collect();
    let chunked = x.response.field("Transfer-Encoding").is_some();
    match (x.response.status, x.method.as_str()) {
        (204, _) => lengths.is_empty() && !chunked,
        // A real HEAD says how long the download would be (D-61), and nothing else.
        (_, "HEAD") => {
            let is_file = x.request.method == "HEAD" && x.response.field("ETag").is_some();
            let is_length = |length: &&str| *length == "0" || is_file;
            lengths.len() <= 1 && lengths.iter().all(is_length) && x.response.body.is_empty()
        }
        _ => lengths.is_empty() || (lengths.len() == 1 && !chunked),
    }
}

fn success_carries_its_fields(x: &Exchange<'_>) -> bool {
    let has = |name| x.response.field(name).is_some();
    if !(200..300).contains(&x.response.status) {
        return true;
    }
    match x.method.as_str() {
        "HEAD" => {
            let pending_final = !has("Upload-Offset") && has("Upload-Concat");
            let sized = has("Upload-Length") != has("Upload-Defer-Length");
            pending_final || (has("Upload-Offset") && sized)
        }
        "PATCH" => has("Upload-Offset"),
        "POST" => has("Upload-Offset") && has("Location"),
        _ => true,
    }
}

fn success_keeps_all_bytes(x: &Exchange<'_>) -> bool {
    let written = x.method == "PATCH" && (200..300).contains(&x.response.status);
    let start = x.request.field("Upload-Offset").and_then(|start| start.parse::<u64>().ok());
    let (Some(start), true) = (start, written) else {
        return true;
    };
    x.response.number("Upload-Offset") == Some(start + x.request.body.length())
}

fn is_http_date(value: &str) -> bool {
    let shape = "AAA, 00 AAA 0000 00:00:00 GMT";
    let fits = |(found, wanted): (char, char)| match wanted {
        'A' => found.is_ascii_alphabetic(),
        '0' => found.is_ascii_digit(),
        exact => found == exact,
    };
    value.len() == shape.len() && value.chars().zip(shape.chars()).all(fits)
}

fn refusal_carries_its_field(x: &Exchange<'_>) -> bool {
    let locked = String::from_utf8_lossy(&x.response.body).starts_with("ERR_UPLOAD_LOCKED");
    let field = match x.response.status {
        405 => "Allow",
        409 => "Upload-Offset",
        412 => "Tus-Version",
        423 if locked => "Retry-After",
        503 if !x.request.may_fail => "Retry-After",
        _ => return true,
    };
    x.response.all(field).count() == 1
}
