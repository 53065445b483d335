//! Host: whom a request is for.

use crate::case::{Case, Setup};
use crate::failure::{Failure, Rows, Verdict, ensure};
use crate::message::Response;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[Case::ours(
    "host_that_is_missing_or_invalid_answers_400",
    &["I-10", "I-03"],
    "RFC 9112 3.2, on every path: in the form of its dialect, readable by pages, and the last answer",
    refused,
)
.under(&[Setup::Plain, Setup::NoCors])];

/// What is answered to a request line and fields as they are.
fn ask(site: &Site, line: &str, fields: &str) -> Result<Response, Failure> {
    let request = crate::message::Request::plain("GET", "/").with("Origin", ORIGIN);
    let mut link = site.connect()?;
    let head = format!("{line}\r\n{fields}Origin: {ORIGIN}\r\nContent-Length: 0\r\n\r\n");
    link.raw.send(head.as_bytes())?;
    link.raw.read_answer(&request)
}

const ORIGIN: &str = "https://page.example";

fn refused(site: &Site) -> Verdict {
    let create = "Tus-Resumable: 1.0.0\r\nUpload-Length: 3\r\n";
    let mut rows = Rows::new();
    for host in [
        "",
        "Host:\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: user@a\r\n",
        "Host: a:x\r\n",
        "Host: a:1:2\r\n",
        "Host: a:65536\r\n",
        "Host: [::1\r\n",
        "Host: h\u{e9}\r\n",
        "Host: a\r\nHost: a\r\n",
    ] {
        for (path, form) in
            [("/files", "ERR_INVALID_REQUEST: "), ("/resumable", "{"), ("/nowhere", "ERR_INVALID")]
        {
            rows.row(format!("{host:?} {path}"), || {
                let line = format!("POST {path} HTTP/1.1");
                let answer = ask(site, &line, &format!("{host}{create}"))?.is(400)?;
                ensure(answer.text().starts_with(form), answer.text())?;
                let answer = answer.has("Connection", "close")?;
                if site.setup == Setup::NoCors {
                    return answer.lacks("Access-Control-Allow-Origin").map(drop);
                }
                answer.has("Access-Control-Allow-Origin", ORIGIN).map(drop)
            });
        }
    }
    for (line, host) in [
        ("POST /files HTTP/1.1", "Host: a\r\n"),
        ("POST /files HTTP/1.1", "Host: a:\r\n"),
        ("POST /files HTTP/1.1", "Host: [::1]:8080\r\n"),
        ("POST /files HTTP/1.1", "Host: a_b.example\r\n"),
        ("POST http://a/files HTTP/1.1", "Host: b\r\n"),
        ("POST /files HTTP/1.0", ""),
    ] {
        rows.row(format!("{line} {host:?}"), || {
            ask(site, line, &format!("{host}{create}"))?.is(201).map(drop)
        });
    }
    rows.row("POST http://a/files HTTP/1.1 without", || {
        ask(site, "POST http://a/files HTTP/1.1", create)?.is(400).map(drop)
    });
    rows.verdict()
}
