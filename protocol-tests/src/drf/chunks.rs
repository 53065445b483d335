//! Which bytes of which chunks count: repeats, cuts, requests at the same time, restarts.

use std::sync::Barrier;

use serde_json::json;

use super::client::{NAMED, begun, chunk, completion, fails, file, md5, offset, says, state};
use crate::case::{Case, OWN, Setup};
use crate::content::bytes;
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::http1::{body, head};
use crate::message::Request;
use crate::site::{Site, path_of};

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "repeated_chunk_is_compared",
        &["P-119", "P-109"],
        "equal bytes are 200 with the current state, other bytes and other places are refused",
        repeats,
    ),
    Case::ours(
        "chunk_that_is_cut_off_changes_nothing",
        &["P-140"],
        "the offset stays, and the same request then succeeds",
        cut_off,
    ),
    Case::ours(
        "total_follows_the_newest_chunk",
        &["P-143", "P-144"],
        "it grows; an upload that is not full is not completed",
        totals,
    ),
    Case::ours(
        "different_chunks_at_one_offset_are_stored_once",
        &["P-146"],
        "two at once, two hundred times: one 200, one with the new offset; equal ones both 200",
        at_once,
    ),
    Case::ours(
        "checksum_is_right_after_a_restart",
        &["P-149", "P-003"],
        "the server is killed between the chunks and before the checksum",
        restarted,
    )
    .under(OWN),
    Case::ours(
        "expired_upload_is_gone_for_writers",
        &["P-101", "P-126", "P-032"],
        "the deadline is told and moves with each chunk; then 410 for PUT and POST, never for GET",
        expired,
    )
    .under(&[Setup::Expiry])
    .waiting(),
];

fn repeats(site: &Site) -> Verdict {
    let content = bytes(30, 1);
    let path = begun(site, &content[..10], 30)?;
    state(site.ask(&chunk(&path, "10-19/30", &[file(&content[10..20])]))?)?;
    let now = state(site.ask(&Request::plain("GET", &path))?)?;
    let mut rows = Rows::new();
    for (range, sent) in [("10-19/30", &content[10..20]), ("0-9/30", &content[..10])] {
        rows.row(range, || says(site.ask(&chunk(&path, range, &[file(sent)]))?, 200, now.clone()));
    }
    for (range, provided, length) in
        [("10-19/30", 10, 10), ("15-24/30", 15, 10), ("21-29/30", 21, 9), ("0-19/30", 0, 20)]
    {
        rows.row(format!("other bytes {range}"), || {
            let body = json!({
                "detail": "Offsets do not match",
                "expected_offset": 20,
                "offset": 20,
                "provided_offset": provided,
            });
            let other = vec![7; length];
            says(site.ask(&chunk(&path, range, &[file(&other)]))?, 400, body)
        });
    }
    rows.row("in the end", || ensure_eq("offset", offset(site, &path)?, 20));
    rows.verdict()
}

fn cut_off(site: &Site) -> Verdict {
    let content = bytes(2_000_000, 2);
    let path = begun(site, &content[..1000], content.len())?;
    let whole = chunk(&path, "1000-1999999/2000000", &[file(&content[1000..])]);
    for cut in [200, 1_000_000, 1_999_000] {
        let mut link = site.connect()?;
        let mut sent = head(&whole, &site.base.host);
        sent.extend_from_slice(&body(&whole.body)[..cut]);
        link.raw.send(&sent)?;
        link.raw.reset()?;
        ensure_eq("offset", offset(site, &path)?, 1000)?;
    }
    let now = state(site.ask(&whole)?)?;
    ensure_eq("offset", &now["offset"], &json!(2_000_000))?;
    let done = state(site.ask(&completion(&path, &md5(&content)))?)?;
    ensure_eq("status", &done["status"], &json!(2))
}

fn totals(site: &Site) -> Verdict {
    let content = bytes(30, 3);
    let path = begun(site, &content[..10], 10)?;
    state(site.ask(&chunk(&path, "10-19/25", &[file(&content[10..20])]))?)?;
    let incomplete =
        |total: u64| json!({ "detail": "Upload is incomplete", "offset": 20, "total": total });
    let early = completion(&path, &md5(&content[..20]));
    says(site.ask(&early)?, 400, incomplete(25))?;
    state(site.ask(&chunk(&path, "20-29/30", &[file(&content[20..])]))?)?;
    // A repeat tells nothing new.
    state(site.ask(&chunk(&path, "10-19/77", &[file(&content[10..20])]))?)?;
    let done = state(site.ask(&completion(&path, &md5(&content)))?)?;
    ensure_eq("status", &done["status"], &json!(2))
}

fn at_once(site: &Site) -> Verdict {
    for round in 0..200_u64 {
        let contents = [bytes(20, round), bytes(20, round + 1000)];
        let path = begun(site, b"12345", 25)?;
        let is_equal = round % 4 == 0;
        let second = if is_equal { 0 } else { 1 };
        let start = Barrier::new(2);
        let answers: Vec<_> = std::thread::scope(|scope| {
            let senders = [0, second].map(|which| {
                let request = chunk(&path, "5-24/25", &[file(&contents[which])]);
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    site.ask(&request)
                })
            });
            senders.into_iter().map(|sender| sender.join()).collect()
        });
        let mut stored = Vec::new();
        for (which, answer) in [0, second].into_iter().zip(answers) {
            let answer = answer.map_err(|_| Failure::new("a sender panicked"))??;
            if answer.status == 200 {
                stored.push(which);
            } else {
                fails(answer, 400, "Offsets do not match")?;
            }
        }
        ensure_eq("chunks stored", stored.len(), if is_equal { 2 } else { 1 })?;
        let content = [b"12345", &contents[stored[0]][..]].concat();
        let done = state(site.ask(&completion(&path, &md5(&content)))?)?;
        ensure_eq("status", &done["status"], &json!(2))?;
    }
    Ok(())
}

fn restarted(site: &Site) -> Verdict {
    let mut own = site.launch(&[])?;
    let content = bytes(100_000, 4);
    let path = begun(&own.site, &content[..50_000], 100_000)?;
    own.crash_and_restart()?;
    let last = chunk(&path, "50000-99999/100000", &[file(&content[50_000..])]);
    state(own.site.ask(&last)?)?;
    own.crash_and_restart()?;
    fails(own.site.ask(&completion(&path, &md5(b"")))?, 400, "checksum does not match")?;
    let done = state(own.site.ask(&completion(&path, &md5(&content)))?)?;
    ensure_eq("status", &done["status"], &json!(2))
}

fn expired(site: &Site) -> Verdict {
    let content = bytes(30, 5);
    let made = site.ask(&chunk(site.collection(), "0-9/30", &[NAMED, file(&content[..10])]))?;
    let made = state(made)?;
    ensure(made["expires"].is_string(), format!("{made}"))?;
    ensure_eq("expires_at", &made["expires_at"], &made["expires"])?;
    let path = path_of(made["url"].as_str().unwrap_or_default()).to_owned();
    std::thread::sleep(std::time::Duration::from_millis(1200));
    let later = state(site.ask(&chunk(&path, "10-19/30", &[file(&content[10..20])]))?)?;
    ensure(later["expires"].as_str() > made["expires"].as_str(), format!("{later}"))?;
    std::thread::sleep(std::time::Duration::from_millis(2200));
    let next = chunk(&path, "20-29/30", &[file(&content[20..])]);
    fails(site.ask(&next)?, 410, "Upload has expired")?;
    fails(site.ask(&completion(&path, &md5(&content)))?, 410, "Upload has expired")?;
    site.ask(&Request::plain("GET", &path))?.is_one_of(&[200, 404])?;
    Ok(())
}
