//! Requests at the same time.

use std::sync::Barrier;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::{Answer, File, Form, Said, refused, said};
use super::completion::completions;
use crate::case::{Case, OWN, Setup};
use crate::content::bytes;
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::http1::{Connection, body, head};
use crate::site::{Link, Site};

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "first_chunks_in_parallel_make_one_upload",
        &["F-15", "J-026", "J-025"],
        "three at once, two hundred times: all 200, one upload, the right file",
        first_chunks,
    ),
    Case::ours(
        "last_two_chunks_at_once_complete_the_file_once",
        &["F-14", "J-030", "J-033"],
        "a thousand races: both answers 200, one says complete, the file intact, one event in the log",
        last_two,
    )
    .under(OWN)
    .waiting(),
    Case::ours(
        "answer_that_arrives_last_says_complete",
        &["F-42", "J-033"],
        "a thousand uploads over three connections, with a processor at hand: 99 of 100 end with it",
        arrives_last,
    )
    .under(OWN)
    .alone(),
    Case::ours(
        "answer_waits_for_the_last_chunks_under_way",
        &["J-033", "F-42"],
        "not while other chunks are missing, never longer than a second, told at once when all came",
        held_back,
    ),
    Case::ours(
        "different_copies_at_once_never_mix",
        &["F-18", "J-024", "J-022"],
        "two contents of one chunk, a hundred times: the file is one of them, the other was refused",
        never_mix,
    ),
    Case::ours(
        "equal_copies_at_once_are_both_stored",
        &["J-024", "J-022"],
        "the second waits for the first and is compared",
        equal_copies,
    ),
    Case::ours(
        "second_copy_waits_for_a_live_first_one",
        &["J-024"],
        "it is answered after the first, and takes the range when the first fails",
        waits,
    ),
    Case::ours(
        "chunks_of_one_file_are_taken_side_by_side",
        &["J-025", "F-13"],
        "five chunks are stored while five others are half sent, and tests are answered",
        side_by_side,
    ),
    Case::ours(
        "retry_of_a_stuck_chunk_is_served",
        &["F-46", "J-024"],
        "the first copy is silent on an open connection: the second is stored within the stall, \
         late bytes of the first are not",
        stuck,
    )
    .waiting(),
    Case::ours(
        "refused_first_chunk_does_not_harm_its_siblings",
        &["S-009", "J-026", "J-043"],
        "the one that made the upload is refused: the others are stored, or begin nothing either",
        refused_sibling,
    ),
];

/// A round is judged if the threads of the server waited for a processor no longer, all together.
const UNDISTURBED: Duration = Duration::from_micros(50);

/// Sends requests from as many connections at the same moment; answers in the order of requests.
fn at_once(site: &Site, asks: &[super::client::Ask]) -> Result<Vec<Answer>, Failure> {
    let start = Barrier::new(asks.len());
    let start = &start;
    std::thread::scope(|scope| {
        let senders: Vec<_> = asks
            .iter()
            .map(|ask| {
                scope.spawn(move || {
                    let request = ask.request(site);
                    let link = site.connect();
                    start.wait();
                    said(&link?.ask(&request)?)
                })
            })
            .collect();
        senders
            .into_iter()
            .map(|sender| sender.join().map_err(|_| Failure::new("a sender panicked"))?)
            .collect()
    })
}

fn first_chunks(site: &Site) -> Verdict {
    for round in 0..200 {
        let file = File::new(40, 10).form(Form::ALL[round % 4]);
        let answers = at_once(site, &[file.ask(1), file.ask(2), file.ask(3)])?;
        for answer in &answers {
            ensure_eq("the upload", &answer.upload["id"], &answers[0].upload["id"])?;
            answer.clone().is(Said::Chunk).map_err(|f| f.within(format!("round {round}")))?;
        }
        file.completes(site, 4)?;
    }
    Ok(())
}

fn last_two(site: &Site) -> Verdict {
    let mut own = site.launch(&["--durability", "relaxed"])?;
    let site = &own.site;
    let mut ids = Vec::new();
    for round in 0..1000 {
        let within = |f: Failure| f.within(format!("round {round}"));
        let file = File::new(30, 10).form(Form::ALL[round % 4]);
        file.stores(site, 1).map_err(within)?;
        let answers = at_once(site, &[file.ask(2), file.ask(3)])?;
        let files = answers.iter().filter(|a| a.said == Said::File).count();
        for answer in &answers {
            let yes = [Said::Chunk, Said::File].contains(&answer.said);
            ensure(yes, format!("{:?}", answer.said)).map_err(within)?;
        }
        ensure(files >= 1, "no answer says complete").map_err(within)?;
        file.reads_back(site, &answers[0]).map_err(within)?;
        ids.push(answers[0].upload["id"].as_str().unwrap_or_default().to_owned());
    }
    let counts = completions(&mut own)?;
    for id in &ids {
        ensure_eq("completions of an upload", counts.get(id), Some(&1))?;
    }
    ensure_eq("completions in all", counts.len(), 1000)
}

fn arrives_last(site: &Site) -> Verdict {
    let own = site.launch(&["--durability", "relaxed"])?;
    let (pid, site) = (own.process.pid(), &own.site);
    let mut links = [site.connect()?, site.connect()?, site.connect()?];
    let (mut judged, mut late, mut rounds) = (0, 0, 0);
    while judged < 1000 && rounds < 5_000 {
        rounds += 1;
        let file = File::new(30, 10).form(Form::Octet);
        let before = kept_waiting(pid);
        let last = last_answers(site, &file, &mut links)?;
        // The kernel may have stopped the server between its look at the upload and the write of
        // the answer, which nobody can prevent. Less than before: a thread has ended.
        if kept_waiting(pid).checked_sub(before).is_none_or(|waited| waited > UNDISTURBED) {
            continue;
        }
        let files = last.iter().filter(|said| **said == Said::File).count();
        // Which of two answers that are there at once came first nobody can say.
        if files == 0 || files == last.len() {
            judged += 1;
        }
        if files == 0 {
            late += 1;
        }
    }
    ensure(judged >= 100, format!("{judged} of {rounds} rounds were undisturbed"))?;
    // A hypervisor stops processors unseen. A server that looks a millisecond too early is late in
    // one of twenty.
    ensure(late * 100 <= judged, format!("{late} of {judged} uploads end with another answer"))
}

/// How long the threads of a process have waited for a processor.
fn kept_waiting(pid: u32) -> Duration {
    let mut waited = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let nanos: Option<u64> = stat.split(' ').nth(1).and_then(|nanos| nanos.parse().ok());
        waited += nanos.unwrap_or_default();
    }
    Duration::from_nanos(waited)
}

/// Sends the chunks of a file at once; what the answers say that were the last to arrive.
fn last_answers(site: &Site, file: &File, links: &mut [Link<'_>]) -> Result<Vec<Said>, Failure> {
    let requests: Vec<_> =
        (1..=file.count()).map(|number| file.ask(number).request(site)).collect();
    for (link, request) in links.iter_mut().zip(&requests) {
        link.raw.send_request(request, &site.base.host)?;
    }
    let mut waiting: Vec<usize> = (0..requests.len()).collect();
    let mut last = Vec::new();
    while !waiting.is_empty() {
        // Together are those that came before a look around that found nobody new: whoever comes
        // later came after all of them, however long this thread was kept from looking.
        let mut arrived = Vec::new();
        loop {
            let before = waiting.len();
            for at in std::mem::take(&mut waiting) {
                let has_arrived = links[at].raw.has_arrived()?;
                if has_arrived { &mut arrived } else { &mut waiting }.push(at);
            }
            if waiting.len() == before || waiting.is_empty() {
                break;
            }
        }
        if arrived.is_empty() {
            Connection::wait_for_any(waiting.iter().map(|at| &links[*at].raw))?;
        } else {
            last = arrived;
        }
    }
    let mut verdicts = Vec::new();
    for (at, (link, request)) in links.iter_mut().zip(&requests).enumerate() {
        let answer = said(&link.answer_to(request)?)?;
        ensure([Said::Chunk, Said::File].contains(&answer.said), format!("{:?}", answer.said))?;
        if last.contains(&at) {
            verdicts.push(answer.said);
        }
    }
    Ok(verdicts)
}

/// Sends a chunk but for its last bytes and what follows them.
fn start<'a>(site: &'a Site, file: &File, number: u64) -> Result<(Link<'a>, Vec<u8>), Failure> {
    let request = file.ask(number).request(site);
    let mut link = site.connect()?;
    link.send_head(&request)?;
    let bytes = body(&request.body);
    // Behind the chunk a form has 46 bytes.
    let end = if file.form == Form::Octet { 1 } else { 50 };
    let (first, last) = bytes.split_at(bytes.len() - end);
    link.raw.send(first)?;
    Ok((link, last.to_vec()))
}

/// Sends the rest of a chunk and reads its answer.
fn finish(
    site: &Site,
    file: &File,
    number: u64,
    started: (Link<'_>, Vec<u8>),
) -> Result<Answer, Failure> {
    let (mut link, rest) = started;
    link.raw.send(&rest)?;
    said(&link.answer_to(&file.ask(number).request(site))?)
}

fn held_back(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    rows.row("told when all came", || {
        let file = File::new(30, 10).form(Form::Octet);
        file.stores(site, 1)?;
        let open = start(site, &file, 3)?;
        under_way(site, &file, 3)?;
        let asked = Instant::now();
        let (second, third) = std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                let answer = file.put(site, 2);
                (answer, asked.elapsed())
            });
            // Long enough for the second chunk to be committed, far shorter than the hold.
            sleep(Duration::from_millis(300));
            let third = finish(site, &file, 3, open);
            (second.join(), third)
        });
        let (second, took) = second.map_err(|_| Failure::new("a sender panicked"))?;
        third?.is(Said::File)?;
        // A machine that is too busy to send within the hold shows nothing.
        if took < Duration::from_millis(900) {
            second?.is(Said::File)?;
        }
        Ok(())
    });
    rows.row("not longer than the hold", || {
        let file = File::new(20, 10).form(Form::Octet);
        file.begins(site)?;
        let open = start(site, &file, 2)?;
        under_way(site, &file, 2)?;
        let asked = Instant::now();
        let answer = file.put(site, 1)?;
        let took = asked.elapsed();
        answer.is(Said::Chunk)?;
        ensure(took >= Duration::from_millis(900), format!("answered after {took:?}"))?;
        finish(site, &file, 2, open)?.is(Said::File)
    });
    rows.row("not while others are missing", || {
        let file = File::new(40, 10).form(Form::Octet);
        file.begins(site)?;
        let open = start(site, &file, 3)?;
        under_way(site, &file, 3)?;
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            let asked = Instant::now();
            file.stores(site, 1)?;
            fastest = fastest.min(asked.elapsed());
        }
        ensure(fastest < Duration::from_millis(900), format!("held for {fastest:?}"))?;
        finish(site, &file, 3, open)?.is(Said::Chunk)
    });
    rows.verdict()
}

/// Returns when the server has a chunk under way: a retry of it waits.
fn under_way(site: &Site, file: &File, number: u64) -> Verdict {
    let deadline = Instant::now() + Duration::from_secs(10);
    let request = file.ask(number).request(site);
    // The retry is dropped before its last byte; whether it was kept waiting cannot be seen, so
    // that the time which the head of a request needs is given twenty times over.
    let bytes = head(&request, &site.base.host);
    let mut probe = site.connect()?;
    probe.raw.send(&bytes)?;
    let quiet = probe.raw.end_within(Duration::from_millis(100))?;
    ensure_eq("the retry", quiet, crate::http1::End::Open)?;
    ensure(Instant::now() < deadline, "the machine is too slow")
}

fn never_mix(site: &Site) -> Verdict {
    for round in 0..100u64 {
        let within = |f: Failure| f.within(format!("round {round}"));
        // A third chunk is missing: of a complete file, other first bytes begin a new upload
        // (J-044).
        let one = File::new(300_000, 100_000).form(Form::ALL[(round % 3) as usize]);
        let mut other = one.clone();
        other.content[1..100_000].copy_from_slice(&bytes(99_999, round + 1));
        one.begins(site).map_err(within)?;
        one.stores(site, 2).map_err(within)?;
        let answers = at_once(site, &[one.ask(1), other.ask(1)])?;
        let conflict = refused(400, "content_conflict");
        let winner = match (&answers[0].said, &answers[1].said) {
            (Said::Chunk, no) if *no == conflict => &one,
            (no, Said::Chunk) if *no == conflict => &other,
            pair => return Err(Failure::new(format!("round {round}: {pair:?}"))),
        };
        winner.completes(site, 3).map_err(within)?;
    }
    Ok(())
}

fn equal_copies(site: &Site) -> Verdict {
    for round in 0..100 {
        let file = File::new(20_000, 10_000).form(Form::ALL[round % 4]);
        let answers = at_once(site, &[file.ask(1), file.ask(1), file.ask(1)])?;
        for answer in answers {
            answer.is(Said::Chunk).map_err(|f| f.within(format!("round {round}")))?;
        }
        file.completes(site, 2)?;
    }
    Ok(())
}

fn waits(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for (what, fails) in [("the first is stored", false), ("the first breaks off", true)] {
        rows.row(what, || {
            let file = File::new(20, 10);
            let open = start(site, &file, 1)?;
            under_way(site, &file, 1)?;
            let request = file.ask(1).request(site);
            let mut second = site.connect()?;
            second.send_head(&request)?;
            second.raw.send(&body(&request.body))?;
            let end = second.raw.end_within(Duration::from_millis(500))?;
            ensure_eq("the second copy meanwhile", end, crate::http1::End::Open)?;
            file.tests(site, 1, Said::Absent)?;
            if fails {
                drop(open);
            } else {
                finish(site, &file, 1, open)?.is(Said::Chunk)?;
            }
            said(&second.answer_to(&request)?)?.is(Said::Chunk)?;
            file.completes(site, 2)
        });
    }
    rows.verdict()
}

fn side_by_side(site: &Site) -> Verdict {
    let file = File::new(100, 10);
    let mut open = Vec::new();
    for number in [1, 3, 5, 7, 9] {
        open.push((number, start(site, &file, number)?));
    }
    for number in [2, 4, 6, 8] {
        file.stores(site, number)?;
    }
    for number in 1..=9 {
        let expected = if number % 2 == 0 { Said::Chunk } else { Said::Absent };
        file.tests(site, number, expected)?;
    }
    // The last gap is not closed yet, so that nothing is complete (F-13). Its answer may be held.
    file.stores(site, 10)?;
    while let Some((number, started)) = open.pop() {
        let answer = finish(site, &file, number, started)?;
        let expected = if open.is_empty() { Said::File } else { Said::Chunk };
        answer.clone().is(expected)?;
        if open.is_empty() {
            file.reads_back(site, &answer)?;
        }
    }
    Ok(())
}

fn stuck(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in [Form::Multipart, Form::Octet] {
        rows.row(format!("{form:?}"), || {
            let file = File::new(20, 10).form(form);
            file.begins(site)?;
            file.stores(site, 2)?;
            let (mut first, rest) = start(site, &file, 1)?;
            under_way(site, &file, 1)?;
            let asked = Instant::now();
            // A different copy: what is stored in the end tells whose it is.
            let mut other = file.clone();
            other.content[1..10].copy_from_slice(b"123456789");
            let answer = other.put(site, 1)?;
            let took = asked.elapsed();
            answer.clone().is(Said::File)?;
            ensure(took < Duration::from_secs(20), format!("served after {took:?}"))?;
            // The old one is told to come again, and nothing of it is written. Its connection may
            // be gone already.
            let _ = first.raw.send(&rest);
            let request = file.ask(1).request(site).may_fail();
            if let Ok(late) = first.answer_to(&request) {
                ensure_eq("the late answer", late.status, 503)?;
            }
            other.reads_back(site, &answer)
        });
    }
    rows.verdict()
}

fn refused_sibling(site: &Site) -> Verdict {
    for round in 0..24 {
        let within = |f: Failure| f.within(format!("round {round}"));
        let file = File::new(30, 10).form(Form::ALL[round % 4]);
        let bad = file.ask(1).payload(vec![b'x'; 9 + round % 3 * 2]);
        let bad = if round % 3 == 0 { bad.payload(b"too short") } else { bad };
        let answers = at_once(site, &[bad, file.ask(2), file.ask(3)])?;
        ensure_eq("the refused", answers[0].said.clone(), refused(400, "length_mismatch"))
            .map_err(within)?;
        // Whether they came before it was gone is chance.
        let gone = refused(404, "upload_expired");
        for answer in &answers[1..] {
            let is_right = [Said::Chunk, gone.clone()].contains(&answer.said);
            ensure(is_right, format!("{:?}", answer.said)).map_err(within)?;
        }
        for number in 1..=3 {
            let said = file.put(site, number).map_err(within)?.said;
            let is_right = [Said::Chunk, Said::File].contains(&said);
            ensure(is_right, format!("chunk {number}: {said:?}")).map_err(within)?;
        }
        file.is_complete(site, 1).map_err(within)?;
    }
    ensure(site.setup == Setup::Plain, "a plain server")
}
