//! Uploads that go away.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::{File, Form, Profile, Said, refused, said};
use crate::case::{Case, Setup};
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "expired_upload_refuses_a_chunk_from_the_middle",
        &["F-41", "J-041", "J-040"],
        "404 upload_expired until the first chunk begins the file anew; tests are absent",
        expired,
    )
    .under(&[Setup::Expiry])
    .waiting(),
    Case::ours(
        "chunk_from_the_middle_begins_no_session",
        &["J-043", "F-41", "S-009"],
        "of a fresh name it is 404 upload_expired, makes nothing, and the first chunk begins as ever",
        from_the_middle,
    )
    .waiting(),
    Case::ours(
        "chunk_from_the_middle_waits_for_its_session",
        &["J-043", "J-026", "F-15"],
        "chunks 3 and 2 are sent first, chunk 1 within two seconds: all are stored in one upload",
        late_beginning,
    ),
    Case::ours(
        "expiry_moves_on_with_every_chunk",
        &["J-040"],
        "an upload fed every second outlives its two seconds",
        sliding,
    )
    .under(&[Setup::Expiry])
    .waiting(),
    Case::ours(
        "expiry_moves_on_with_every_present_chunk_that_is_tested",
        &["J-040"],
        "a client that tests what is there for longer than the time it has finds all of it",
        tested,
    )
    .under(&[Setup::Expiry])
    .waiting(),
    Case::ours(
        "expiry_spares_complete_files",
        &["J-040", "F-25", "F-16"],
        "complete ones stay, and equal chunks of them are still answered as complete",
        spares,
    )
    .under(&[Setup::Expiry])
    .waiting(),
    Case::ours(
        "expiry_waits_for_a_chunk_under_way",
        &["J-040", "J-023"],
        "an upload whose chunk trickles in for longer than its time completes",
        under_way,
    )
    .under(&[Setup::Expiry])
    .waiting(),
    Case::ours(
        "removed_upload_refuses_a_chunk_from_the_middle",
        &["J-042", "J-041", "F-43"],
        "DELETE on the status resource: 404 for chunk 2 after at most a short wait, then anew",
        removed,
    ),
    Case::ours(
        "removed_upload_is_begun_anew_by_parallel_chunks",
        &["J-041", "F-15"],
        "chunk 3 waits for chunk 1 and both are stored in one new upload",
        parallel_restart,
    ),
    Case::ours(
        "removal_stops_a_chunk_under_way",
        &["J-042"],
        "its bytes are gone, and the chunk is not stored in what comes after",
        removal_under_way,
    ),
];

const LIFE: Duration = Duration::from_millis(2500);

fn expired(site: &Site) -> Verdict {
    let file = File::new(1000, 10);
    file.stores(site, 1)?;
    file.stores(site, 56)?;
    sleep(LIFE);
    let asked = Instant::now();
    file.put(site, 57)?.is(refused(404, "upload_expired"))?;
    let took = asked.elapsed();
    ensure(took < Duration::from_secs(10), format!("refused after {took:?}"))?;
    for number in [1, 56, 57] {
        file.tests(site, number, Said::Absent)?;
    }
    file.stores(site, 1)?;
    file.stores(site, 57)?;
    file.tests(site, 56, Said::Absent)
}

fn from_the_middle(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for (profile, form) in Profile::ALL.into_iter().zip(Form::ALL) {
        rows.row(format!("{profile:?} {form:?}"), || {
            let file = File::new(30, 10).profile(profile).form(form);
            let asked = Instant::now();
            file.put(site, 2)?.is(refused(404, "upload_expired"))?;
            let took = asked.elapsed();
            ensure(took < Duration::from_secs(10), format!("refused after {took:?}"))?;
            site.ask(&file.status(site))?.is(404)?;
            file.uploads(site)
        });
    }
    rows.verdict()
}

fn late_beginning(site: &Site) -> Verdict {
    let file = File::new(40, 10);
    let (first, early) = std::thread::scope(|scope| {
        let file = &file;
        let early = [3, 2].map(|number| scope.spawn(move || file.put(site, number)));
        sleep(Duration::from_millis(300));
        let first = file.put(site, 1);
        (first, early.map(|sender| sender.join().unwrap_or(Err(Failure::new("a sender panicked")))))
    });
    let url = first?.url()?;
    for answer in early {
        let answer = answer?;
        answer.clone().is(Said::Chunk)?;
        ensure_eq("the upload", answer.url()?, url.clone())?;
    }
    file.completes(site, 4)
}

fn sliding(site: &Site) -> Verdict {
    let file = File::new(60, 10);
    for number in 1..=5 {
        file.stores(site, number)?;
        sleep(Duration::from_millis(1000));
    }
    file.completes(site, 6)
}

fn tested(site: &Site) -> Verdict {
    let file = File::new(30, 10);
    file.stores(site, 1)?;
    file.stores(site, 2)?;
    for number in [1, 2, 1, 2, 1] {
        sleep(Duration::from_millis(1000));
        file.tests(site, number, Said::Chunk)?;
    }
    file.completes(site, 3)
}

fn spares(site: &Site) -> Verdict {
    let file = File::new(30, 10);
    file.uploads(site)?;
    sleep(LIFE + LIFE);
    file.is_complete(site, 2)?;
    file.repeats(site, 2)
}

fn under_way(site: &Site) -> Verdict {
    let file = File::new(20, 10).form(Form::Octet);
    file.stores(site, 1)?;
    let request = file.ask(2).request(site);
    let mut link = site.connect()?;
    link.send_head(&request)?;
    for byte in &file.ask(2).payload {
        link.raw.send(&[*byte])?;
        sleep(Duration::from_millis(500));
    }
    let answer = said(&link.answer_to(&request)?)?;
    answer.clone().is(Said::File)?;
    file.reads_back(site, &answer)
}

fn delete(site: &Site, file: &File) -> Verdict {
    site.ask(&file.status(site).method("DELETE"))?.is(204)?;
    Ok(())
}

fn removed(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for complete in [false, true] {
        rows.row(format!("complete: {complete}"), || {
            let file = File::new(30, 10);
            let url = file.put(site, 1)?.url()?;
            let tus = super::client::tus_of(site, &url);
            if complete {
                file.stores(site, 2)?;
                file.completes(site, 3)?;
                // A name alone removes nothing that is finished (S-002).
                tus.ask(&Request::tus("DELETE", &url))?.is(204)?;
            } else {
                delete(site, &file)?;
            }
            site.ask(&file.status(site))?.is(404)?;
            tus.ask(&Request::tus("HEAD", &url))?.is_one_of(&[404, 410])?;
            file.put(site, 2)?.is(refused(404, "upload_expired"))?;
            file.uploads(site)
        });
    }
    rows.row("what is not there", || {
        let file = File::new(30, 10);
        site.ask(&file.status(site).method("DELETE"))?.is(404)?;
        file.uploads(site)
    });
    rows.verdict()
}

fn parallel_restart(site: &Site) -> Verdict {
    let file = File::new(30, 10);
    file.stores(site, 1)?;
    delete(site, &file)?;
    let third = std::thread::scope(|scope| {
        let third = scope.spawn(|| file.put(site, 3));
        sleep(Duration::from_millis(300));
        file.stores(site, 1)?;
        third.join().map_err(|_| Failure::new("a sender panicked"))?
    })?;
    third.is(Said::Chunk)?;
    file.completes(site, 2)
}

fn removal_under_way(site: &Site) -> Verdict {
    let file = File::new(20, 10).form(Form::Octet);
    file.begins(site)?;
    file.stores(site, 2)?;
    let request = file.ask(1).request(site).may_fail();
    let mut link = site.connect()?;
    link.send_head(&request)?;
    link.raw.send(&file.ask(1).payload[..5])?;
    let end = link.raw.end_within(Duration::from_millis(200))?;
    ensure_eq("the chunk under way", end, crate::http1::End::Open)?;
    delete(site, &file)?;
    let _ = link.raw.send(&file.ask(1).payload[5..]);
    if let Ok(answer) = link.answer_to(&request) {
        ensure(answer.status >= 400, format!("answered {}", answer.status))?;
    }
    file.tests(site, 1, Said::Absent)?;
    file.tests(site, 2, Said::Absent)?;
    file.uploads(site)
}
