//! When a file is complete, and what then holds.

use std::collections::HashMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::{File, Form, Said, said};
use crate::case::{Case, OWN};
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::http1::body;
use crate::site::{Own, Site};

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "chunks_in_every_order_make_one_file",
        &["F-10", "J-030", "F-24"],
        "the 120 orders of five chunks: complete with the last to arrive, once, the same bytes",
        orders,
    )
    .under(OWN)
    .waiting(),
    Case::ours(
        "first_chunk_again_disturbs_nothing",
        &["F-11", "F-16"],
        "chunk 1 sent again at every point of the upload",
        first_again,
    ),
    Case::ours(
        "file_with_a_half_received_chunk_is_not_complete",
        &["F-13", "J-030", "J-033"],
        "everything but the middle of chunk 2 is there",
        half_received,
    ),
    Case::ours(
        "ten_thousand_chunks_are_in_order",
        &["F-22", "S-008", "J-032"],
        "10,001 chunks in a scattered order, the last answer as quick as the others",
        ten_thousand,
    )
    .under(OWN)
    .waiting(),
    Case::ours(
        "sums_and_duplicates_do_not_complete_a_file",
        &["F-24", "J-030"],
        "more bytes than the file has, and still a gap",
        sums,
    ),
    Case::ours(
        "complete_file_stays",
        &["F-25", "J-032", "J-060", "S-010"],
        "a second later it is there, its status says so, and so does the data directory",
        stays,
    )
    .under(OWN)
    .waiting(),
    Case::ours(
        "second_upload_of_a_name_neither_appends_nor_is_lost",
        &["F-26", "S-001", "S-010"],
        "another identifier under the same name is another file, and so are other bytes under the same",
        second_upload,
    ),
];

/// Ends a server, which writes the rest of its log then, and says how often that says of each
/// upload that it is complete.
pub(super) fn completions(own: &mut Own) -> Result<HashMap<String, usize>, Failure> {
    own.process.terminate()?;
    own.process.ended_within(Duration::from_secs(15))?;
    let log = String::from_utf8_lossy(&own.process.log()).into_owned();
    let mut counts = HashMap::new();
    for line in log.lines().filter(|line| line.contains(": complete id=")) {
        let id = line.split("complete id=").nth(1).unwrap_or_default();
        let id = id.split_whitespace().next().unwrap_or_default();
        *counts.entry(id.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

fn orders(site: &Site) -> Verdict {
    let mut own = site.launch(&["--durability", "relaxed"])?;
    let site = &own.site;
    let mut orders = vec![vec![]];
    for number in 1..=5u64 {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<u64>| {
                (0..=order.len()).map(move |at| {
                    let mut order = order.clone();
                    order.insert(at, number);
                    order
                })
            })
            .collect();
    }
    ensure_eq("orders", orders.len(), 120)?;
    for (round, order) in orders.iter().enumerate() {
        let within = |f: Failure| f.within(format!("{order:?}"));
        // 57 bytes are 10+10+10+10+17 or, by the other rule with chunks of 12, 12+12+12+12+9.
        let file = if round % 2 == 0 { File::new(57, 10) } else { File::new(57, 12).ceil() };
        let file = file.form(Form::ALL[round % 4]);
        file.begins(site).map_err(within)?;
        for number in &order[..4] {
            file.stores(site, *number).map_err(within)?;
        }
        file.completes(site, order[4]).map_err(within)?;
    }
    let counts = completions(&mut own)?;
    ensure_eq("complete uploads", counts.len(), 120)?;
    ensure(counts.values().all(|count| *count == 1), format!("{counts:?}"))
}

fn first_again(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for again in 2..=4 {
        rows.row(format!("before chunk {again}"), || {
            let file = File::new(40, 10);
            for number in 1..=4 {
                if number == again {
                    file.stores(site, 1)?;
                }
                if number < 4 {
                    file.stores(site, number)?;
                }
            }
            file.completes(site, 4)?;
            file.repeats(site, 1)
        });
    }
    rows.verdict()
}

fn half_received(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in Form::ALL {
        rows.row(format!("{form:?}"), || {
            let file = File::new(40, 10).form(form);
            file.begins(site)?;
            let request = file.ask(2).request(site);
            let bytes = body(&request.body);
            let mut link = site.connect()?;
            link.send_head(&request)?;
            link.raw.send(&bytes[..bytes.len() - 5])?;
            for number in [1, 3, 4] {
                file.stores(site, number)?;
            }
            for (number, expected) in [(1, Said::Chunk), (2, Said::Absent), (4, Said::Chunk)] {
                file.tests(site, number, expected)?;
            }
            link.raw.send(&bytes[bytes.len() - 5..])?;
            let answer = said(&link.answer_to(&request)?)?;
            answer.clone().is(Said::File)?;
            file.reads_back(site, &answer)
        });
    }
    rows.verdict()
}

fn ten_thousand(site: &Site) -> Verdict {
    const COUNT: u64 = 10_001;
    let own = site.launch(&["--durability", "relaxed"])?;
    let site = &own.site;
    let file = File::new(20_002, 2).form(Form::Octet);
    let mut link = site.connect()?;
    let mut times = Vec::new();
    let mut last = None;
    for step in 0..COUNT {
        // 7,919 has no factor in common with the count: every chunk comes once.
        let number = step * 7919 % COUNT + 1;
        let asked = Instant::now();
        let answer = said(&link.ask(&file.ask(number).request(site))?)?;
        times.push(asked.elapsed());
        let expected = if step + 1 == COUNT { Said::File } else { Said::Chunk };
        answer.clone().is(expected)?;
        last = Some(answer);
    }
    let last = last.ok_or_else(|| Failure::new("no chunk"))?;
    file.reads_back(site, &last)?;
    let final_time = times.pop().unwrap_or_default();
    times.sort_unstable();
    let worst = times.last().copied().unwrap_or_default();
    // A machine under load makes single requests slow; an assembly would be slower than all.
    let bound = worst.max(Duration::from_millis(250)) * 2;
    ensure(final_time <= bound, format!("{final_time:?}, the others up to {worst:?}"))
}

fn sums(site: &Site) -> Verdict {
    let file = File::new(30, 10);
    file.begins(site)?;
    for number in [2, 3, 2, 3, 2, 3] {
        file.stores(site, number)?;
    }
    let small = file.clone().cut(5);
    for number in [3, 4, 5, 6, 3] {
        small.stores(site, number)?;
    }
    file.tests(site, 1, Said::Absent)?;
    small.stores(site, 1)?;
    small.completes(site, 2)
}

fn stays(site: &Site) -> Verdict {
    let own = site.launch(&[])?;
    let site = &own.site;
    let file = File::new(30, 10);
    for number in 1..=2 {
        file.stores(site, number)?;
    }
    let last = file.put(site, 3)?;
    last.clone().is(Said::File)?;
    sleep(Duration::from_millis(1200));
    file.reads_back(site, &last)?;
    file.is_complete(site, 3)?;
    let id = last.upload["id"].as_str().unwrap_or_default().to_owned();
    let published = own.process.data().join(&id);
    ensure_eq("the published file", std::fs::read(published)?, file.content)
}

fn second_upload(site: &Site) -> Verdict {
    let first = File::new(20, 10);
    first.stores(site, 1)?;
    let last = first.put(site, 2)?;
    last.clone().is(Said::File)?;
    let mut second = File::new(20, 10);
    (second.name, second.path) = (first.name.clone(), first.path.clone());
    second.uploads(site)?;
    first.repeats(site, 1)?;
    let mut edited = first.clone();
    edited.content[3] ^= 1;
    edited.uploads(site)?;
    first.reads_back(site, &last)
}
