//! What survives the death of the server.

use std::thread::sleep;
use std::time::Duration;

use super::client::{File, Form, Said};
use super::completion::completions;
use crate::case::{Case, OWN};
use crate::failure::{Rows, Verdict, ensure, ensure_eq};
use crate::http1::body;
use crate::site::Own;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "kill_keeps_stored_chunks_and_no_half_one",
        &["F-39", "J-035", "J-023"],
        "after an answer, in the middle of a chunk, after completion; both durabilities, TERM too",
        kill,
    )
    .under(OWN)
    .waiting(),
    Case::ours(
        "kill_during_parallel_chunks_loses_no_acknowledged_one",
        &["F-39", "J-035", "J-025"],
        "three connections send without end, killed five times: what was answered is there",
        kill_in_parallel,
    )
    .under(OWN)
    .waiting(),
];

fn kill(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for durability in ["synced", "relaxed"] {
        for killed in [true, false] {
            rows.row(format!("{durability}, kill: {killed}"), || {
                let mut own = site.launch(&["--durability", durability])?;
                let mut file = File::new(3 << 20, 1 << 20).form(Form::Multipart);
                file.begins(&own.site)?;
                file.stores(&own.site, 3)?;
                let request = file.ask(1).request(&own.site);
                let bytes = body(&request.body);
                let mut link = own.site.connect()?;
                link.send_head(&request)?;
                link.raw.send(&bytes[..bytes.len() / 2])?;
                // Time for the half to reach the disk.
                sleep(Duration::from_millis(100));
                let raw = link.raw;
                end(&mut own, killed)?;
                drop(raw);
                for (number, expected) in [(1, Said::Absent), (2, Said::Absent), (3, Said::Chunk)] {
                    file.tests(&own.site, number, expected)?;
                }
                // Other bytes: had the half been kept, they would contradict.
                file.content[1..1 << 20].iter_mut().for_each(|byte| *byte ^= 1);
                file.stores(&own.site, 1)?;
                let last = file.put(&own.site, 2)?;
                last.clone().is(Said::File)?;
                // A kill takes along what the log has not been written yet.
                ensure(own.process.logs(": complete id="), "it is not announced")?;
                end(&mut own, killed)?;
                file.is_complete(&own.site, 3)?;
                file.reads_back(&own.site, &last)?;
                let count = completions(&mut own)?.values().sum::<usize>();
                ensure_eq("completions", count, 1)
            });
        }
    }
    rows.verdict()
}

fn end(own: &mut Own, killed: bool) -> Verdict {
    if killed {
        return own.crash_and_restart();
    }
    own.process.terminate()?;
    own.process.ended_within(Duration::from_secs(15))?;
    own.restart()
}

fn kill_in_parallel(site: &Site) -> Verdict {
    let mut own = site.launch(&[])?;
    let file = File::new(300_000, 1000).form(Form::Octet);
    let mut stored = vec![false; 300];
    for _ in 0..5 {
        let (path, host) = (&own.site, &file);
        let pid = own.process.pid();
        let done = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..3usize)
                .map(|lane| {
                    let todo: Vec<u64> = (0..300usize)
                        .filter(|at| at % 3 == lane && !stored[*at])
                        .map(|at| at as u64 + 1)
                        .collect();
                    scope.spawn(move || {
                        let answered = |number: &u64| {
                            // The server dies under it: an error is the end of this lane.
                            host.put(path, *number).is_ok_and(|a| a.said == Said::Chunk)
                        };
                        todo.into_iter().take_while(answered).collect::<Vec<_>>()
                    })
                })
                .collect();
            sleep(Duration::from_millis(40));
            let killed = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
                .map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
            let lanes = senders.into_iter().filter_map(|sender| sender.join().ok());
            (lanes.flatten().collect::<Vec<_>>(), killed.is_some())
        });
        ensure_eq("the kill", done.1, true)?;
        for number in done.0 {
            stored[usize::try_from(number).unwrap_or(1) - 1] = true;
        }
        own.crash_and_restart()?;
        for (at, stored) in stored.iter().enumerate() {
            if *stored {
                file.tests(&own.site, at as u64 + 1, Said::Chunk)?;
            }
        }
    }
    // Whatever the tests say is there is not sent again.
    let mut last = None;
    for number in 1..=file.count() {
        if file.test(&own.site, number)? == Said::Absent {
            last = Some(file.put(&own.site, number)?);
        }
    }
    match last {
        Some(last) => file.reads_back(&own.site, &last),
        None => file.completes(&own.site, 1),
    }
}
