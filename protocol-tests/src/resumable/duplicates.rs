//! Chunks that come twice, over others, or in part.

use std::time::{Duration, Instant};

use super::client::{Answer, File, Form, Said, refused, said};
use crate::case::{BOTH, Case};
use crate::content::bytes;
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "equal_chunk_again_is_stored_again",
        &["J-022", "F-11", "J-034", "F-16"],
        "while others are missing and after completion, in every form; no new upload appears",
        equal,
    )
    .under(BOTH)
    .waiting(),
    Case::ours(
        "different_chunk_again_is_refused_and_changes_nothing",
        &["F-17", "J-022", "F-26", "F-05"],
        "content_conflict in the first byte or the last, and in a late chunk of a complete file",
        different,
    )
    .waiting(),
    Case::ours(
        "complete_file_sent_again_with_other_bytes_is_a_new_upload",
        &["J-044", "J-043", "J-034", "S-010"],
        "tests are absent; equal first bytes are a late duplicate, others begin anew; both read back",
        edited,
    )
    .waiting(),
    Case::ours(
        "chunk_over_others_fills_only_gaps",
        &["J-022", "J-021", "F-19", "F-24"],
        "overlaps of other cuts are compared where bytes are, and stored where not",
        overlap,
    ),
    Case::ours(
        "chunk_that_conflicts_where_it_is_present_stores_none_of_it",
        &["J-022", "J-023"],
        "the gap beside the difference stays a gap",
        partial_conflict,
    ),
    Case::ours(
        "sessions_with_other_chunk_sizes_make_the_right_file",
        &["F-19", "J-021", "J-016"],
        "1 MiB chunks cut in the middle, then 3 MiB chunks, and back",
        sessions,
    )
    .waiting(),
    Case::ours(
        "chunk_cut_in_the_middle_is_absent",
        &["F-12", "J-023", "J-053", "F-05"],
        "close, half-close and reset at every stage of every form; sent again it is stored",
        cut,
    ),
    Case::ours(
        "chunk_with_an_awkward_end_arrives_whole",
        &["F-21"],
        "1 mod 4096 bytes and an ASCII 0 at the end, line breaks, dashes",
        awkward,
    ),
    Case::ours(
        "checksum_of_a_chunk_is_verified_before_it_counts",
        &["J-061", "J-023", "A-003"],
        "the right one stores; a wrong one is 503 after a second and stores nothing",
        checksum,
    )
    .waiting(),
];

fn equal(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in Form::ALL {
        rows.row(format!("{form:?}"), || {
            let file = File::new(30, 10).form(form);
            for number in [1, 2, 2, 1] {
                file.stores(site, number)?;
            }
            let last = file.put(site, 3)?;
            last.clone().is(Said::File)?;
            for number in [1, 2, 3] {
                file.repeats(site, number)?;
            }
            file.reads_back(site, &last)
        });
    }
    rows.verdict()
}

fn different(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in Form::ALL {
        for at in [0, 5, 9] {
            rows.row(format!("{form:?} {at}"), || {
                let file = File::new(20, 10).form(form);
                file.stores(site, 1)?;
                let mut other = file.ask(1);
                other.payload[at] ^= 1;
                other.put(site)?.is(refused(400, "content_conflict"))?;
                file.tests(site, 1, Said::Chunk)?;
                file.completes(site, 2)
            });
        }
        rows.row(format!("{form:?} of a complete file"), || {
            let file = File::new(20, 10).form(form);
            file.uploads(site)?;
            let mut other = file.ask(2);
            other.payload[0] ^= 1;
            other.put(site)?.is(refused(400, "content_conflict"))?;
            file.repeats(site, 1)
        });
    }
    rows.verdict()
}

fn edited(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for (form, at) in Form::ALL.into_iter().zip([0, 5, 9, 9]) {
        rows.row(format!("{form:?} {at}"), || {
            let file = File::new(30, 10).form(form);
            file.stores(site, 1)?;
            file.stores(site, 2)?;
            let last = file.put(site, 3)?;
            last.clone().is(Said::File)?;
            for number in 1..=3 {
                file.is_complete(site, number)?;
            }
            file.repeats(site, 1)?;
            let mut other = file.clone();
            other.content[at] ^= 1;
            let answer = other.put(site, 1)?;
            answer.clone().is(Said::Chunk)?;
            ensure(answer.url()? != last.url()?, "the same upload")?;
            other.stores(site, 2)?;
            other.completes(site, 3)?;
            file.reads_back(site, &last)
        });
    }
    rows.verdict()
}

fn overlap(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in Form::ALL {
        rows.row(format!("{form:?}"), || {
            let file = File::new(100, 10).form(form);
            file.begins(site)?;
            for number in [2, 5, 10] {
                file.stores(site, number)?;
            }
            let received = |answer: &Answer| answer.upload["received"].as_u64();
            let wide = file.clone().cut(35);
            let answer = wide.put(site, 1)?;
            ensure_eq("received", received(&answer), Some(55))?;
            ensure_eq("offset", answer.upload["offset"].as_u64(), Some(35))?;
            // 35 to 69, of which 40 to 49 are there.
            let answer = wide.ceil().put(site, 2)?;
            ensure_eq("received", received(&answer), Some(80))?;
            file.cut(100).completes(site, 1)
        });
    }
    rows.verdict()
}

fn partial_conflict(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in Form::ALL {
        for at in [10, 12, 17, 19] {
            rows.row(format!("{form:?} {at}"), || {
                let file = File::new(100, 10).form(form);
                file.begins(site)?;
                file.stores(site, 2)?;
                let mut wide = file.clone().cut(50).ask(1);
                wide.payload[at] ^= 1;
                wide.put(site)?.is(refused(400, "content_conflict"))?;
                for (number, expected) in [(1, Said::Absent), (2, Said::Chunk), (3, Said::Absent)] {
                    file.tests(site, number, expected)?;
                }
                file.clone().cut(50).stores(site, 1)?;
                file.cut(50).completes(site, 2)
            });
        }
    }
    rows.verdict()
}

fn sessions(site: &Site) -> Verdict {
    const MIB: usize = 1 << 20;
    let mut rows = Rows::new();
    for (first, second) in [(MIB, 3 * MIB), (3 * MIB, MIB)] {
        rows.row(format!("{first} then {second}"), || {
            let file = File::new(7 * MIB + 5, first as u64);
            file.begins(site)?;
            file.stores(site, 2)?;
            cut_at(site, &file, 1, file.chunk / 2)?;
            let file = file.cut(second as u64);
            for number in 1..=file.count() {
                if file.test(site, number)? == Said::Absent {
                    let answer = file.put(site, number)?;
                    if answer.said == Said::File {
                        return file.reads_back(site, &answer);
                    }
                    answer.is(Said::Chunk)?;
                }
            }
            Err(Failure::new("no chunk completes the file"))
        });
    }
    rows.verdict()
}

/// Sends an upload without the last part of its body, `kept` bytes of the chunk at most.
fn cut_at(site: &Site, file: &File, number: u64, kept: u64) -> Verdict {
    let ask = file.ask(number);
    let request = ask.request(site);
    let body = request.body.bytes();
    let lost = ask.payload.len() - usize::try_from(kept).map_err(Failure::new)?;
    let mut link = site.connect()?;
    link.send_head(&request)?;
    link.raw.send(&body[..body.len() - lost - 64.min(body.len() - lost)])?;
    Ok(())
}

fn cut(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in Form::ALL {
        for way in ["close", "half-close", "reset"] {
            // Of a thousandth of the body all but the last byte.
            for sent in [0, 300, 500, 900, 1000] {
                rows.row(format!("{form:?}, {way} after {sent}"), || {
                    let file = File::new(60_000, 30_000).form(form);
                    let request = file.ask(1).request(site);
                    let body = request.body.bytes();
                    let sent = (body.len() * sent / 1000).min(body.len() - 1);
                    let mut link = site.connect()?;
                    link.send_head(&request)?;
                    link.raw.send(&body[..sent])?;
                    match way {
                        "close" => drop(link),
                        "reset" => link.raw.reset()?,
                        _ => link.raw.half_close()?,
                    }
                    file.tests(site, 1, Said::Absent)?;
                    // Other bytes than those that were cut off: had any been kept, they would
                    // contradict.
                    let mut file = file;
                    file.content.iter_mut().for_each(|byte| *byte ^= 1);
                    file.stores(site, 1)?;
                    file.completes(site, 2)
                });
            }
        }
    }
    rows.verdict()
}

fn awkward(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for end in [&b"0"[..], b"\r\n", b"\n", b"--", b"\r\n--", b"\0", b"\r\n------WebKitFormBoundary"]
    {
        for length in [1, 4096, 8192, 65_536, 131_072] {
            rows.row(format!("{length} and {end:?}"), || {
                let mut file = File::new(0, 200_000);
                file.content = bytes(length, 3);
                file.content.extend(end);
                file.uploads(site)?;
                let mut text = File::new(0, 200_000).form(Form::Base64);
                text.content = file.content;
                text.uploads(site)
            });
        }
    }
    rows.verdict()
}

fn checksum(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in Form::ALL {
        rows.row(format!("{form:?}"), || {
            let file = File::new(20, 10).form(form);
            let right = crate::content::checksum("sha256", &file.ask(1).payload);
            let wrong = crate::content::checksum("sha256", b"other");
            let request = |sum: &str| file.ask(1).with("checksum", sum).request(site);
            let asked = Instant::now();
            let answer = site.ask(&request(&wrong).may_fail())?;
            said(&answer)?.is(refused(503, "checksum_mismatch"))?;
            let took = asked.elapsed();
            ensure(took >= Duration::from_millis(990), format!("503 after {took:?}"))?;
            file.tests(site, 1, Said::Absent)?;
            said(&site.ask(&request(&right))?)?.is(Said::Chunk)?;
            let header = file.ask(2).request(site).with("Checksum", &wrong).may_fail();
            said(&site.ask(&header)?)?.is(refused(503, "checksum_mismatch"))?;
            file.completes(site, 2)
        });
    }
    rows.verdict()
}
