//! SIGTERM.

use std::time::Duration;

use crate::case::{Case, OWN};
use crate::content::{bytes, checksum};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::http1::Connection;
use crate::site::{Own, Site};

/// How long the server may take to end: ten seconds (D-59) and a breath.
const LIMIT: Duration = Duration::from_secs(11);

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "shutdown_during_a_patch_keeps_its_bytes",
        &["D-59", "F-07", "I-03", "0.3"],
        "503 with Retry-After and close, exit code 0 within 10 s, the next server resumes at once",
        during_patch,
    )
    .under(OWN)
    .waiting(),
    Case::ours(
        "shutdown_during_a_checksummed_patch_drops_its_bytes",
        &["D-59", "T-084", "D-25"],
        "what was not verified is not there after the restart",
        during_checksum,
    )
    .under(OWN)
    .waiting(),
    Case::ours(
        "shutdown_of_an_idle_server_is_quick",
        &["D-59"],
        "idle connections do not hold it up, new ones are refused",
        idle,
    )
    .under(OWN),
    Case::ours(
        "shutdown_over_http2_answers_running_streams",
        &["D-59"],
        "a stream with a running body gets 503, the connection ends",
        http2,
    )
    .under(OWN)
    .waiting(),
    Case::ours(
        "shutdown_during_a_download_ends_in_time",
        &["D-59"],
        "a reader that does not read cannot hold the server",
        download,
    )
    .under(OWN)
    .waiting(),
];

fn ends_well(own: &mut Own) -> Verdict {
    let status = own.process.ended_within(LIMIT)?;
    ensure_eq("the exit code", status.code(), Some(0))
}

fn during_patch(site: &Site) -> Verdict {
    let mut own = site.launch(&[])?;
    let content = bytes(1000, 83);
    let path = {
        let upload = own.site.create(1000)?;
        let request = upload.patch_at(0).body(&content).may_fail();
        let mut link = own.site.connect()?;
        link.send_head(&request)?;
        link.raw.send(&content[..400])?;
        upload.reaches(400, Duration::from_secs(2))?;
        own.process.terminate()?;
        let answer = link.answer_to(&request)?.is(503)?.carries("Retry-After")?;
        let answer = answer.has_code("ERR_SERVER_SHUTDOWN")?;
        let connection = answer.field("Connection").map(str::to_lowercase);
        ensure_eq("Connection", connection, Some("close".to_owned()))?;
        upload.path
    };
    ends_well(&mut own)?;
    own.restart()?;
    own.site.upload(&path).stands_at(400)?;
    own.site.upload(&path).completes_with(&content)
}

fn during_checksum(site: &Site) -> Verdict {
    let mut own = site.launch(&[])?;
    let content = bytes(1000, 84);
    let path = {
        let upload = own.site.create(1000)?;
        let sum = checksum("sha1", &content);
        let request = upload.patch_at(0).with("Upload-Checksum", sum).body(&content).may_fail();
        let mut link = own.site.connect()?;
        link.send_head(&request)?;
        link.raw.send(&content[..400])?;
        std::thread::sleep(Duration::from_millis(200));
        own.process.terminate()?;
        link.answer_to(&request)?.is(503)?;
        upload.path
    };
    ends_well(&mut own)?;
    own.restart()?;
    own.site.upload(&path).stands_at(0)?;
    own.site.upload(&path).completes_with(&content)
}

fn idle(site: &Site) -> Verdict {
    let mut own = site.launch(&[])?;
    let address = own.site.base.address;
    let path = {
        let upload = own.site.create_complete(b"abc")?;
        let mut used = own.site.connect()?;
        used.ask(&upload.request("HEAD"))?.is(200)?;
        let _fresh = own.site.connect()?;
        own.process.terminate()?;
        ensure(used.raw.is_ended_within(Duration::from_secs(5))?, "an idle connection stays")?;
        upload.path
    };
    ends_well(&mut own)?;
    ensure(Connection::open(address).is_err(), "something still listens")?;
    own.restart()?;
    own.site.upload(&path).reads_back(b"abc")
}

fn http2(site: &Site) -> Verdict {
    let mut own = site.launch(&[])?;
    let content = bytes(1000, 85);
    let path = {
        let upload = own.site.create(1000)?;
        let mut session = own.site.session()?;
        let request = upload.patch_at(0).with("Content-Length", 1000);
        let mut stream = session.start(&request, &own.site.base.host, false)?;
        session.send(&mut stream, &content[..400], false)?;
        upload.reaches(400, Duration::from_secs(2))?;
        own.process.terminate()?;
        session.read_answer(stream)?.is(503)?.carries("Retry-After")?;
        upload.path
    };
    ends_well(&mut own)?;
    own.restart()?;
    own.site.upload(&path).completes_with(&content)
}

fn download(site: &Site) -> Verdict {
    let mut own = site.launch(&[])?;
    let content = bytes(40 << 20, 86);
    {
        let upload = own.site.create_complete(&content)?;
        let mut link = own.site.connect()?;
        link.send_head(&upload.request("GET"))?;
        let head = link.raw.read_head()?;
        ensure_eq("the status", head.status, 200)?;
        own.process.terminate()?;
        let status = own.process.ended_within(LIMIT);
        let status = status.map_err(|_| Failure::new("a lazy reader holds the server for 10 s"))?;
        ensure_eq("the exit code", status.code(), Some(0))
    }
}
