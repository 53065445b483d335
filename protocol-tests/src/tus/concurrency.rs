//! Several requests on one upload at once, all of them alive.

use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::case::{BOTH, Case};
use crate::content::bytes;
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::message::{Request, Response};
use crate::site::Site;
use crate::tus::concatenation::{join, part};

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "head_during_a_live_patch_answers_at_once",
        &["F-01", "D-43", "D-47", "I-01", "F-50", "I-11", "F-55"],
        "within a second, with every byte sent so far; the PATCH goes on to its 204",
        head_during,
    )
    .waiting(),
    Case::ours(
        "patch_meeting_a_live_patch_is_locked_out",
        &["D-42", "D-46", "F-02", "F-08", "F-09", "F-10", "I-08", "F-55"],
        "the newcomer gets 423 with Retry-After within 10 s, the holder its 204; then all is free",
        live_patches,
    )
    .waiting(),
    Case::ours(
        "patch_waiting_for_a_patch_that_ends_goes_on",
        &["D-46", "D-42"],
        "a newcomer with the right offset proceeds when the holder finishes in time",
        waits,
    )
    .waiting(),
    Case::ours(
        "patch_sent_twice_at_once_is_taken_once",
        &["F-06", "I-08", "D-42"],
        "exactly one 204, the other 409 or 423; the stored bytes are right",
        twice,
    )
    .under(BOTH),
    Case::must(
        "patches_racing_for_one_offset_have_one_winner",
        &["I-08", "I-01", "I-02", "F-06", "F-09", "F-10"],
        "eight different bodies at one offset: one 204, and the file is the winner's alone",
        race,
    )
    .under(BOTH),
    Case::ours(
        "delete_during_a_live_patch_wins",
        &["D-44", "F-05", "T-091", "F-55"],
        "204 at once, the writer gets 404, the upload is gone",
        delete_during,
    ),
    Case::ours(
        "delete_right_after_an_abort_answers_204",
        &["F-05", "D-44"],
        "also before the server can have noticed the abort",
        delete_after_abort,
    ),
    Case::ours(
        "final_racing_with_the_delete_of_its_part_is_whole_or_refused",
        &["D-39", "I-04", "I-01"],
        "either 201 and every byte is there, or 404 and nothing was created",
        join_race,
    )
    .needing(&["creation", "concatenation", "termination"]),
    Case::must(
        "storm_of_clients_leaves_the_upload_right",
        &["I-01", "I-08", "I-03", "F-21", "F-02"],
        "HEADs, resumes, aborts and stale PATCHes from many threads; the content is right",
        storm,
    ),
];

fn head_during(site: &Site) -> Verdict {
    let content = bytes(100_000, 54);
    let upload = site.create(100_000)?;
    let request = upload.patch_at(0).body(&content);
    let mut link = site.connect()?;
    link.send_head(&request)?;
    for (index, piece) in content.chunks(20_000).enumerate() {
        link.raw.send(piece)?;
        sleep(Duration::from_millis(400));
        let begun = Instant::now();
        let offset = upload.offset()?;
        let took = begun.elapsed();
        ensure(took < Duration::from_secs(1), format!("HEAD took {took:?}"))?;
        let sent = (index as u64 + 1) * 20_000;
        let last = sent == 100_000;
        // The last bytes may be in the middle of completing.
        ensure(offset == sent || last, format!("HEAD shows {offset} of {sent} sent"))?;
    }
    link.answer_to(&request)?.is(204)?.has("Upload-Offset", 100_000)?;
    upload.reads_back(&content)
}

/// Sends a body byte by byte for this long, so that its PATCH stays alive, and reads the answer.
fn trickle(
    site: &Site,
    request: &Request,
    body: &[u8],
    lasting: Duration,
) -> Result<Response, Failure> {
    let pause = lasting / u32::try_from(body.len()).map_err(Failure::new)?;
    let mut link = site.connect()?;
    link.send_head(request)?;
    for byte in body {
        link.raw.send(&[*byte])?;
        sleep(pause);
    }
    link.answer_to(request)
}

fn live_patches(site: &Site) -> Verdict {
    let content = bytes(40, 55);
    let upload = site.create(1_000_000)?;
    let holder = upload.patch_at(0).body(&content);
    scope(|scope| {
        let holding = scope.spawn(|| trickle(site, &holder, &content, Duration::from_secs(8)));
        sleep(Duration::from_millis(500));
        let begun = Instant::now();
        // A blocking client with a body that fills every buffer must still read its 423.
        let newcomer = upload.patch_at(0).body(vec![b'x'; 900_000]);
        let answer = site.connect()?.ask_unbroken(&newcomer);
        let took = begun.elapsed();
        let held = holding.join().map_err(|_| Failure::new("the holder panicked"))?;
        answer?.is(423)?.has("Retry-After", 1)?.has_code("ERR_UPLOAD_LOCKED")?;
        let range = Duration::from_secs(3)..Duration::from_secs(10);
        ensure(range.contains(&took), format!("the newcomer waited {took:?}"))?;
        held?.is(204)?.has("Upload-Offset", 40)?;
        Ok::<(), Failure>(())
    })?;
    upload.stands_at(40)?;
    let rest = bytes(999_960, 56);
    upload.patch(40, &rest)?.is(204)?;
    upload.reads_back(&[content, rest].concat())
}

fn waits(site: &Site) -> Verdict {
    let content = bytes(20, 57);
    let upload = site.create(40)?;
    let holder = upload.patch_at(0).body(&content);
    scope(|scope| {
        let holding = scope.spawn(|| trickle(site, &holder, &content, Duration::from_secs(2)));
        sleep(Duration::from_millis(300));
        // It names the offset that will be right when its turn comes: its own check decides.
        let answer = site.ask(&upload.patch_at(20).body(&content));
        let held = holding.join().map_err(|_| Failure::new("the holder panicked"))?;
        held?.is(204)?;
        answer?.is(204)?.has("Upload-Offset", 40)?;
        Ok::<(), Failure>(())
    })?;
    upload.reads_back(&[&content[..], &content].concat())
}

fn twice(site: &Site) -> Verdict {
    let content = bytes(300_000, 58);
    for _ in 0..10 {
        let upload = site.create(content.len() as u64)?;
        let request = upload.patch_at(0).body(&content);
        let answers = together(&[&request, &request], |request| site.ask(request))?;
        one_winner(&answers)?;
        upload.reads_back(&content)?;
    }
    Ok(())
}

fn race(site: &Site) -> Verdict {
    for round in 0..5 {
        let upload = site.create(200_000)?;
        let bodies: Vec<Vec<u8>> = (0..8).map(|n| bytes(200_000, 1000 + round * 8 + n)).collect();
        let requests: Vec<Request> =
            bodies.iter().map(|body| upload.patch_at(0).body(body)).collect();
        let requests: Vec<&Request> = requests.iter().collect();
        let answers = together(&requests, |request| site.ask(request))?;
        let winner = one_winner(&answers)?;
        upload.reads_back(&bodies[winner])?;
    }
    Ok(())
}

/// Sends all requests at once and collects the answers in order.
fn together(
    requests: &[&Request],
    ask: impl Fn(&Request) -> Result<Response, Failure> + Sync,
) -> Result<Vec<Response>, Failure> {
    let start = std::sync::Barrier::new(requests.len());
    scope(|scope| {
        let (start, ask) = (&start, &ask);
        let asking: Vec<_> = requests
            .iter()
            .map(|request| {
                scope.spawn(move || {
                    start.wait();
                    ask(request)
                })
            })
            .collect();
        let lost = || Err(Failure::new("a client panicked"));
        asking.into_iter().map(|one| one.join().unwrap_or_else(|_| lost())).collect()
    })
}

/// Expects one 204 and otherwise 409 or 423; the index of the winner.
fn one_winner(answers: &[Response]) -> Result<usize, Failure> {
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    let winners: Vec<usize> = (0..statuses.len()).filter(|n| statuses[*n] == 204).collect();
    let fair = statuses.iter().all(|status| [204, 409, 423].contains(status));
    ensure(fair && winners.len() == 1, format!("the statuses are {statuses:?}"))?;
    Ok(winners[0])
}

fn delete_during(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for framing in ["sized", "chunked"] {
        rows.row(framing, || {
            let upload = site.create(1000)?;
            let request = upload.patch_at(0);
            let request =
                if framing == "sized" { request.body([b'x'; 1000]) } else { request.chunked(&[]) };
            let mut link = site.connect()?;
            link.send_head(&request)?;
            if framing == "sized" {
                link.raw.send(b"some")?
            } else {
                link.raw.send_chunk(b"some")?
            }
            upload.reaches(4, Duration::from_secs(2))?;
            let begun = Instant::now();
            upload.delete()?.is(204)?;
            let took = begun.elapsed();
            ensure(took < Duration::from_secs(1), format!("DELETE took {took:?}"))?;
            upload.is_gone(404)?;
            link.answer_to(&request)?.is(404)?;
            upload.is_gone(404)
        });
    }
    rows.verdict()
}

fn delete_after_abort(site: &Site) -> Verdict {
    for round in 0..20 {
        let upload = site.create(1000)?;
        let mut link = site.connect()?;
        link.send_head(&upload.patch_at(0).body([b'x'; 1000]))?;
        link.raw.send(&vec![b'x'; round * 40])?;
        if round % 2 == 0 {
            drop(link)
        } else {
            link.raw.reset()?
        }
        upload.delete()?.is(204)?;
        upload.is_gone(404)?;
    }
    Ok(())
}

fn join_race(site: &Site) -> Verdict {
    let content = bytes(100_000, 108);
    for _ in 0..20 {
        let parts = [part(site, &content)?, part(site, &content)?];
        let requests = [join(site, &[&parts[0], &parts[1]]), parts[1].request("DELETE")];
        let answers = together(&[&requests[0], &requests[1]], |request| site.ask(request))?;
        ensure_eq("the status of DELETE", answers[1].status, 204)?;
        if answers[0].status == 201 {
            site.created(&answers[0])?.reads_back(&content.repeat(2))?;
        } else {
            ensure_eq("the status of POST", answers[0].status, 404)?;
        }
        parts[1].is_gone(404)?;
        parts[0].stands_at(100_000)?;
    }
    Ok(())
}

fn storm(site: &Site) -> Verdict {
    const LENGTH: usize = 400_000;
    let content = bytes(LENGTH, 59);
    let upload = site.create(LENGTH as u64)?;
    let deadline = Instant::now() + Duration::from_secs(4);
    let results: Vec<Verdict> = scope(|scope| {
        let (content, upload) = (&content, &upload);
        let clients: Vec<_> = (0..6_u64)
            .map(|client| {
                scope.spawn(move || {
                    let mut dice = client + 1;
                    while Instant::now() < deadline {
                        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        step(site, upload, content, dice >> 33)?;
                    }
                    Ok(())
                })
            })
            .collect();
        let lost = || Err(Failure::new("a client panicked"));
        clients.into_iter().map(|client| client.join().unwrap_or_else(|_| lost())).collect()
    });
    results.into_iter().collect::<Verdict>()?;
    upload.completes_with(&content)
}

/// One move of a client that knows the content: every byte that lands is the right one.
fn step(site: &Site, upload: &crate::upload::Upload<'_>, content: &[u8], dice: u64) -> Verdict {
    let offset = upload.offset()?;
    let at = usize::try_from(offset).map_err(Failure::new)?;
    let size = usize::try_from(dice / 8 % 3000).map_err(Failure::new)?.min(content.len() - at);
    let piece = &content[at..at + size];
    let request = upload.patch_at(offset).body(piece);
    match dice % 4 {
        0 => {
            // Says more than it sends, then goes.
            let mut link = site.connect()?;
            link.send_head(&request)?;
            link.raw.send(&piece[..size / 2])
        }
        1 => {
            let stale = upload.patch_at(offset / 2 + 1_000_000).body(piece);
            site.ask(&stale)?.is_one_of(&[409, 423]).map(drop)
        }
        _ => {
            let answer = site.ask(&request)?.is_one_of(&[204, 409, 423])?;
            let end = (at + size) as u64;
            let shown = answer.number("Upload-Offset");
            if answer.status == 204 { ensure_eq("the offset", shown, Some(end)) } else { Ok(()) }
        }
    }
}
