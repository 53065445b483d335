//! Which bytes of which chunks count: repeats, cuts, requests at the same time, restarts.

use std::sync::Barrier;
use std::time::Duration;

use serde_json::json;

use super::client::{
    NAMED, begun, chunk, collection, completion, fails, file, json as json_of, md5, offset,
    path_in, says, state, tells,
};
use super::requests::over_tus;
use crate::case::{Case, OWN, Setup};
use crate::content::bytes;
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::http1::{body, head};
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "repeated_chunk_is_answered_as_the_first_time",
        &["P-119", "P-143"],
        "equal bytes are 200 with the current state, and tell nothing new",
        repeats,
    ),
    Case::ours(
        "chunk_elsewhere_is_refused_with_the_offset",
        &["P-109", "P-119"],
        "a gap, an overlap, and other bytes in the place of stored ones",
        elsewhere,
    ),
    Case::ours(
        "offset_is_told_under_the_name_of_older_versions_too",
        &["P-109"],
        "`offset` beside `expected_offset`",
        older_name,
    ),
    Case::ours(
        "chunk_that_is_cut_off_changes_nothing",
        &["P-140"],
        "the offset stays, and the same request then succeeds",
        cut_off,
    ),
    Case::ours(
        "total_follows_the_newest_chunk",
        &["P-143"],
        "it grows with the file, which is then completed",
        totals,
    ),
    Case::ours(
        "upload_without_all_bytes_of_its_total_is_not_completed",
        &["P-144"],
        "a checksum of what is stored so far is refused with offset and total",
        incomplete,
    ),
    Case::ours(
        "different_chunks_at_one_offset_are_stored_once",
        &["P-146"],
        "two at once, two hundred times: one 200, one with the new offset; equal ones both 200",
        at_once,
    )
    .racing(),
    Case::ours(
        "checksum_is_right_after_a_restart",
        &["P-149", "P-003"],
        "the server is killed between the chunks and before the checksum",
        restarted,
    )
    .under(OWN),
    Case::ours(
        "hundred_kills_lose_no_acknowledged_chunk",
        &["P-140", "P-119", "P-110"],
        "in a chunk, just after one was sent, and after its answer: the same request then succeeds",
        killed,
    )
    .under(OWN)
    .waiting()
    .for_windlass_alone("a hundred restarts"),
    Case::ours(
        "expired_upload_is_gone_for_writers",
        &["P-101", "P-126"],
        "410 for PUT and POST, never for GET; a complete upload stays",
        expired,
    )
    .under(&[Setup::Expiry])
    .waiting(),
    Case::ours(
        "deadline_moves_with_each_chunk",
        &["P-126", "P-032"],
        "an upload lives as long as chunks come, and each answer tells until when",
        deadline,
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
    for (range, sent) in
        [("10-19/30", &content[10..20]), ("0-9/30", &content[..10]), ("10-19/77", &content[10..20])]
    {
        rows.row(range, || says(site.ask(&chunk(&path, range, &[file(sent)]))?, 200, now.clone()));
    }
    rows.row("in the end", || {
        state(site.ask(&chunk(&path, "20-29/30", &[file(&content[20..])]))?)?;
        let done = state(site.ask(&completion(&path, &md5(&content)))?)?;
        tells(&done, "status", 2)
    });
    rows.verdict()
}

fn elsewhere(site: &Site) -> Verdict {
    let content = bytes(30, 1);
    let path = begun(site, &content[..20], 30)?;
    let mut rows = Rows::new();
    for (range, provided, length) in
        [("10-19/30", 10, 10), ("15-24/30", 15, 10), ("21-29/30", 21, 9), ("0-19/30", 0, 20)]
    {
        rows.row(range, || {
            let other = vec![7; length];
            let refused = site.ask(&chunk(&path, range, &[file(&other)]))?.is(400)?;
            let body = json_of(&refused)?;
            tells(&body, "detail", "Offsets do not match")?;
            tells(&body, "expected_offset", 20)?;
            tells(&body, "provided_offset", provided)
        });
    }
    rows.row("in the end", || ensure_eq("offset", offset(site, &path)?, 20));
    rows.verdict()
}

fn older_name(site: &Site) -> Verdict {
    let path = begun(site, &bytes(20, 1), 30)?;
    let refused = site.ask(&chunk(&path, "21-29/30", &[file(&[7; 9])]))?.is(400)?;
    tells(&json_of(&refused)?, "offset", 20)
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
    tells(&state(site.ask(&whole)?)?, "offset", 2_000_000)?;
    let done = state(site.ask(&completion(&path, &md5(&content)))?)?;
    tells(&done, "status", 2)
}

fn totals(site: &Site) -> Verdict {
    let content = bytes(30, 3);
    let path = begun(site, &content[..10], 10)?;
    for (range, sent) in [("10-19/25", &content[10..20]), ("20-29/30", &content[20..])] {
        state(site.ask(&chunk(&path, range, &[file(sent)]))?)?;
    }
    let done = state(site.ask(&completion(&path, &md5(&content)))?)?;
    tells(&done, "status", 2)
}

fn incomplete(site: &Site) -> Verdict {
    let content = bytes(30, 3);
    let path = begun(site, &content[..20], 25)?;
    let early = site.ask(&completion(&path, &md5(&content[..20])))?;
    says(early, 400, json!({ "detail": "Upload is incomplete", "offset": 20, "total": 25 }))?;
    state(site.ask(&chunk(&path, "20-29/30", &[file(&content[20..])]))?)?;
    let done = state(site.ask(&completion(&path, &md5(&content)))?)?;
    tells(&done, "status", 2)
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
        tells(&done, "status", 2)?;
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
    tells(&done, "status", 2)
}

fn killed(site: &Site) -> Verdict {
    const CHUNK_BYTES: usize = 300_000;
    let mut own = site.launch(&[])?;
    let mut kills = 0;
    for seed in 0.. {
        let content = bytes(10 * CHUNK_BYTES, seed);
        let total = content.len();
        let path = begun(&own.site, &content[..CHUNK_BYTES], total)?;
        for start in (CHUNK_BYTES..total).step_by(CHUNK_BYTES) {
            let (within, end) = (format!("kill {kills}"), start + CHUNK_BYTES);
            let range = format!("{start}-{}/{total}", end - 1);
            let request = chunk(&path, &range, &[file(&content[start..end])]);
            let acknowledged = match kills % 3 {
                0 | 1 => {
                    let mut link = own.site.connect()?;
                    let mut sent = head(&request, &own.site.base.host);
                    sent.extend_from_slice(&body(&request.body));
                    let cut = if kills % 3 == 0 { sent.len() / 2 } else { sent.len() };
                    link.raw.send(&sent[..cut])?;
                    start
                }
                _ => {
                    state(own.site.ask(&request)?).map_err(|f| f.within(within.clone()))?;
                    end
                }
            };
            own.crash_and_restart()?;
            let found = usize::try_from(offset(&own.site, &path)?).unwrap_or_default();
            // A chunk that was sent whole may have been stored, and its answer lost.
            let may_be = found == acknowledged || (kills % 3 == 1 && found == end);
            ensure(may_be, format!("offset {found} after {acknowledged}"))
                .map_err(|f| f.within(within.clone()))?;
            let again = state(own.site.ask(&request)?).map_err(|f| f.within(within))?;
            tells(&again, "offset", end)?;
            kills += 1;
        }
        let completing = completion(&path, &md5(&content));
        tells(&state(own.site.ask(&completing)?)?, "status", 2)?;
        own.crash_and_restart()?;
        kills += 1;
        fails(own.site.ask(&completing)?, 400, "Upload has already been marked as \"complete\"")?;
        let stored = state(own.site.ask(&Request::plain("GET", &path))?)?;
        let download = Request::plain("GET", &path_in(&stored, "file"));
        let stored = over_tus(&own.site).ask(&download)?.is(200)?;
        ensure(stored.body == content, "other bytes are stored")?;
        if kills >= 100 {
            break;
        }
    }
    Ok(())
}

fn expired(site: &Site) -> Verdict {
    let content = bytes(30, 5);
    let path = begun(site, &content[..20], 30)?;
    let complete = begun(site, &content, 30)?;
    state(site.ask(&completion(&complete, &md5(&content)))?)?;
    std::thread::sleep(Duration::from_millis(2200));
    let next = chunk(&path, "20-29/30", &[file(&content[20..])]);
    fails(site.ask(&next)?, 410, "Upload has expired")?;
    fails(site.ask(&completion(&path, &md5(&content)))?, 410, "Upload has expired")?;
    site.ask(&Request::plain("GET", &path))?.is_one_of(&[200, 404])?;
    let marked = "Upload has already been marked as \"complete\"";
    fails(site.ask(&completion(&complete, &md5(&content)))?, 400, marked)
}

fn deadline(site: &Site) -> Verdict {
    let content = bytes(30, 5);
    let made = site.ask(&chunk(&collection(site), "0-9/30", &[NAMED, file(&content[..10])]))?;
    let made = state(made)?;
    let path = path_in(&made, "url");
    let mut rows = Rows::new();
    rows.row("the deadline", || {
        let expires = &made["expires"];
        ensure(expires.is_string(), format!("expires is {expires}, expected a time"))?;
        tells(&made, "expires_at", expires.clone())
    });
    rows.row("a chunk 2.4 s after the first, and one between", || {
        let later = [("10-19/30", &content[10..20]), ("20-29/30", &content[20..])];
        let [second, third] = later.map(|(range, sent)| {
            std::thread::sleep(Duration::from_millis(1200));
            site.ask(&chunk(&path, range, &[file(sent)]))
        });
        // The last one first: whether the second is late too may depend on the machine.
        let (third, second) = (state(third?)?, state(second?)?);
        let told = [&made, &second, &third].map(|state| state["expires"].as_str());
        ensure(told[0] < told[1] && told[1] < told[2], format!("deadlines: {told:?}"))
    });
    rows.verdict()
}
