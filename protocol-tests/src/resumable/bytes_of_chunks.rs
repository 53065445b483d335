//! From numbers and sizes to byte ranges.

use super::client::{File, Form, Profile, Said, refused, said, tus_of};
use crate::case::{Case, Setup};
use crate::failure::{Rows, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "file_cut_either_way_completes",
        &["F-06", "J-010", "J-011", "J-016"],
        "T from 0 to 30 in chunks of 10, by both rules, all three libraries",
        either_way,
    ),
    Case::ours(
        "file_cut_both_ways_at_once_completes",
        &["F-06", "J-016", "J-011"],
        "one tab cuts 10+19, another 10+10+9, and they meet",
        both_ways,
    ),
    Case::ours(
        "file_shorter_than_a_chunk_is_accepted",
        &["F-07", "J-001"],
        "the chunk size is the configured one, whatever the file, and even if it is no whole number",
        short,
    ),
    Case::ours(
        "file_of_no_bytes_completes_with_one_request",
        &["F-27", "J-031"],
        "in a form, raw and as base64 text, also `data:` alone; absent before, complete after",
        empty,
    ),
    Case::ours(
        "chunk_of_a_wrong_length_is_refused",
        &["J-011", "J-012", "F-05"],
        "sizes that neither rule allows, numbers outside of the file",
        wrong_length,
    ),
    Case::ours(
        "chunk_without_its_size_has_the_length_that_arrives",
        &["J-012", "J-014"],
        "either of two lengths, and no other",
        untold_length,
    ),
    Case::ours(
        "chunk_that_is_longer_or_shorter_than_it_says_is_dropped",
        &["J-014", "J-023", "F-05"],
        "length_mismatch in every form, nothing stored, neighbours untouched",
        mismatch,
    ),
    Case::ours(
        "count_of_chunks_may_be_too_small_but_not_nothing",
        &["F-09", "J-015"],
        "n from 0 past the true one, in tests and uploads",
        counts,
    ),
    Case::ours(
        "total_size_is_fixed_for_a_session",
        &["F-38", "J-017"],
        "with another one a test is absent, a chunk from the middle 400, and the file completes",
        total_size,
    )
    .waiting(),
    Case::ours(
        "first_chunk_with_another_total_size_begins_a_session",
        &["J-017", "J-043", "F-26"],
        "the name leads to the new upload; the one before keeps its bytes and completes at its URL",
        grown,
    ),
    Case::ours(
        "huge_numbers_cost_nothing",
        &["F-40", "S-007", "S-008", "J-001"],
        "T = 2^53-1 in chunks of a byte: judged at once, refused by the limit where there is one",
        huge,
    )
    .under(&[Setup::Plain, Setup::MaxSize]),
    Case::ours(
        "file_above_the_limit_is_refused_at_its_first_request",
        &["F-34", "S-007", "S-009"],
        "400 file_too_large for any of its chunks and tests, and nothing is made",
        above_limit,
    )
    .under(&[Setup::MaxSize]),
    Case::ours(
        "chunk_above_the_limit_is_refused",
        &["S-008", "J-014"],
        "257 MiB by its parameters alone, before the body is asked for",
        large_chunk,
    ),
    Case::ours(
        "fragments_without_number_are_refused",
        &["S-008"],
        "one-byte chunks with gaps: 400 too_fragmented past ten thousand, and the rest goes on",
        fragments,
    )
    .under(crate::case::OWN)
    .waiting(),
];

fn either_way(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for length in 0..=30 {
        let profile = Profile::ALL[length % 3];
        for file in [File::new(length, 10), File::new(length, 10).ceil()] {
            rows.row(format!("{length} {:?}", file.tail), || file.profile(profile).uploads(site));
        }
    }
    rows.verdict()
}

fn both_ways(site: &Site) -> Verdict {
    let floor = File::new(29, 10);
    let ceil = floor.clone().ceil();
    floor.begins(site)?;
    ceil.stores(site, 2)?;
    floor.tests(site, 2, Said::Absent)?;
    floor.stores(site, 2)?;
    ceil.tests(site, 3, Said::Chunk)?;
    ceil.stores(site, 3)?;
    floor.completes(site, 1)
}

fn short(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in Form::ALL {
        for chunk in [6, 1 << 20, (1 << 53) - 1] {
            rows.row(format!("{form:?} {chunk}"), || File::new(5, chunk).form(form).uploads(site));
        }
        // What is advised to switch chunking off.
        for chunk in ["Infinity", "1.7976931348623157e+308"] {
            rows.row(format!("{form:?} {chunk}"), || {
                let file = File::new(5, 6).form(form);
                let ask = file.ask(1).set("c", chunk);
                let test = said(&site.ask(&ask.test(site))?)?.said;
                ensure_eq("the test", test, Said::Absent)?;
                let answer = ask.put(site)?;
                answer.clone().is(Said::File)?;
                file.reads_back(site, &answer)
            });
        }
    }
    rows.verdict()
}

fn empty(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for profile in Profile::ALL {
        for form in Form::ALL {
            rows.row(format!("{profile:?} {form:?}"), || {
                let file = File::new(0, 10).profile(profile).form(form);
                file.tests(site, 1, Said::Absent)?;
                file.completes(site, 1)?;
                file.is_complete(site, 1)?;
                file.repeats(site, 1)
            });
        }
    }
    rows.row("data: alone", || {
        let file = File::new(0, 10);
        let mut form = super::client::Multipart::new();
        for (name, value) in &file.ask(1).parameters {
            form = form.field(&file.profile.name(name), value);
        }
        let request = Request::plain("POST", site.collection());
        let request = form.field("file", b"data:").into_request(request);
        said(&site.ask(&request)?)?.is(Said::File)
    });
    rows.row("bytes in it", || {
        for form in [Form::Multipart, Form::Octet, Form::Base64] {
            let ask = File::new(0, 10).form(form).ask(1).payload(b"x");
            ask.put(site)?.is(refused(400, "length_mismatch"))?;
        }
        Ok(())
    });
    rows.verdict()
}

fn wrong_length(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    let size = "bad_chunk_size";
    let number = "bad_chunk_number";
    for (total, k, s, code) in [
        (29, 1, 9, size),
        (29, 1, 11, size),
        (29, 1, 0, size),
        (29, 1, 29, size),
        (29, 2, 9, size),
        (29, 2, 18, size),
        (29, 2, 20, size),
        (29, 3, 10, size),
        (29, 3, 8, size),
        (29, 4, 9, number),
        (29, 4, 0, number),
        (30, 3, 9, size),
        (30, 4, 10, number),
        (5, 1, 10, size),
        (5, 2, 5, number),
        (0, 1, 1, size),
        (0, 2, 0, number),
    ] {
        rows.row(format!("T={total} k={k} s={s}"), || {
            let file = File::new(total, 10);
            for form in Form::ALL {
                let ask = file.clone().form(form).ask(1).without("n");
                let ask = ask.set("k", k.to_string()).set("s", s.to_string());
                let ask = ask.payload(vec![b'x'; s]);
                let answer = ask.put(site)?.said;
                // A raw body of no bytes is a test.
                ensure_eq(&format!("{form:?}"), answer, refused(400, code))?;
            }
            site.ask(&file.status(site))?.is(404)?;
            Ok(())
        });
    }
    rows.verdict()
}

fn untold_length(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in [Form::Multipart, Form::Doubled, Form::Octet] {
        for (length, stored) in [(19, true), (10, true), (9, false), (11, false), (20, false)] {
            rows.row(format!("{form:?} {length}"), || {
                let file = File::new(29, 10).form(form);
                file.begins(site)?;
                let ask = file.ask(2).without("s").without("n");
                let end = (10 + length).min(29);
                let mut payload = file.content[10..end].to_vec();
                payload.resize(length, 0);
                let answer = ask.payload(&payload).put(site)?;
                if stored {
                    answer.clone().is(Said::Chunk)?;
                    return ensure_eq(
                        "received",
                        answer.upload["received"].as_u64(),
                        Some(1 + length as u64),
                    );
                }
                ensure(matches!(answer.said, Said::Refused(400, _)), format!("{:?}", answer.said))?;
                site.ask(&file.status(site))?.is(200)?.has("Upload-Missing", "1-28")?;
                Ok(())
            });
        }
    }
    rows.verdict()
}

fn mismatch(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in Form::ALL {
        for length in [1, 9, 11, 4096, 100_000] {
            rows.row(format!("{form:?} {length}"), || {
                let file = File::new(30, 10).form(form);
                file.begins(site)?;
                file.stores(site, 2)?;
                let mut payload = file.content[..10.min(length)].to_vec();
                payload.resize(length, b'x');
                let answer = file.ask(1).payload(&payload).put(site)?;
                answer.is(refused(400, "length_mismatch"))?;
                file.tests(site, 1, Said::Absent)?;
                file.stores(site, 1)?;
                file.completes(site, 3)
            });
        }
    }
    rows.row("chunked, without a length beforehand", || {
        let file = File::new(30, 10).form(Form::Octet);
        for length in [9, 11] {
            let payload = vec![b'x'; length];
            let request = file.ask(1).request(site).chunked(&[&payload]);
            said(&site.ask(&request)?)?.is(refused(400, "length_mismatch"))?;
            file.tests(site, 1, Said::Absent)?;
        }
        let payload = file.ask(1).payload;
        let request = file.ask(1).request(site).chunked(&[&payload[..4], &payload[4..]]);
        said(&site.ask(&request)?)?.is(Said::Chunk)
    });
    rows.verdict()
}

fn counts(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    // T=59, c=10: five chunks by one rule, six by the other.
    for (number, size, count, fits) in [
        (1, 10, 0, false),
        (1, 10, 1, true),
        (1, 10, 3, true),
        (1, 10, 5, true),
        (1, 10, 6, true),
        (1, 10, 7, false),
        (3, 10, 2, false),
        (3, 10, 3, true),
        (5, 10, 5, true),
        (5, 10, 6, true),
        (5, 19, 5, true),
        (5, 19, 6, false),
        (5, 19, 4, false),
        (6, 9, 6, true),
        (6, 9, 5, false),
        (6, 9, 0, false),
        (1, 10, 9_007_199_254_740_991_u64, false),
    ] {
        rows.row(format!("k={number} s={size} n={count}"), || {
            let file = File::new(59, 10);
            let start = (number - 1) * 10;
            let ask = file.ask(1).set("k", number.to_string()).set("n", count.to_string());
            let ask = ask.set("s", size.to_string());
            let ask = ask.payload(&file.content[start..start + size]);
            file.begins(site)?;
            let test = said(&site.ask(&ask.test(site))?)?.said;
            let answer = ask.put(site)?.said;
            let no = refused(400, "bad_total_chunks");
            let expected = if fits { (Said::Absent, Said::Chunk) } else { (no.clone(), no) };
            ensure_eq("test and upload", (test, answer), expected)
        });
    }
    rows.verdict()
}

fn total_size(site: &Site) -> Verdict {
    let file = File::new(30, 10);
    file.stores(site, 1)?;
    let mut rows = Rows::new();
    for (total, form) in ["29", "31", "60", "300"].into_iter().zip(Form::ALL) {
        rows.row(format!("{total} {form:?}"), || {
            let file = file.clone().form(form);
            for number in [1, 2] {
                let ask = file.ask(number).set("T", total).without("n");
                let test = said(&site.ask(&ask.test(site))?)?.said;
                ensure_eq("the test", test, Said::Absent)?;
            }
            let ask = file.ask(2).set("T", total).without("n");
            ask.put(site)?.is(refused(400, "total_size_mismatch"))
        });
    }
    rows.verdict()?;
    file.stores(site, 2)?;
    file.completes(site, 3)
}

fn grown(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for (form, removed) in [(Form::Multipart, false), (Form::Octet, true)] {
        rows.row(format!("{form:?}, the first is removed: {removed}"), || {
            let file = File::new(30, 10).form(form);
            let url = file.put(site, 1)?.url()?;
            let mut longer = file.clone();
            longer.content[0] ^= 1;
            longer.content.extend(b"0123456789");
            let answer = longer.put(site, 1)?;
            answer.clone().is(Said::Chunk)?;
            ensure(answer.url()? != url, "the same upload")?;
            file.tests(site, 1, Said::Absent)?;
            let tus = tus_of(site, &url);
            if removed {
                tus.ask(&Request::tus("DELETE", &url))?.is(204)?;
            } else {
                let rest = Request::patch(&url, 10).body(&file.content[10..]);
                tus.ask(&rest)?.is(204)?.has("Upload-Offset", 30)?;
                file.reads_from(site, &url)?;
            }
            longer.stores(site, 3)?;
            longer.stores(site, 2)?;
            longer.completes(site, 4)
        });
    }
    rows.verdict()
}

fn huge(site: &Site) -> Verdict {
    const MOST: &str = "9007199254740991";
    let file = File::new(1, 1);
    let ask = file.ask(1).set("k", MOST).set("T", MOST).set("n", MOST);
    let answer = said(&site.ask(&ask.test(site))?)?.said;
    if site.setup == Setup::MaxSize {
        let no = refused(400, "file_too_large");
        ensure_eq("the test", answer, no.clone())?;
        return ensure_eq("the upload", ask.put(site)?.said, no);
    }
    ensure_eq("the test", answer, Said::Absent)?;
    ask.clone().set("k", "1").put(site)?.is(Said::Chunk)?;
    let answer = said(&site.ask(&ask.request(site).may_fail())?)?.said;
    if answer == refused(500, "store_full") {
        // Few file systems have files of nine petabytes, with holes or without.
        let missing = format!("1-{}", (1_u64 << 53) - 2);
        site.ask(&file.status(site))?.is(200)?.has("Upload-Missing", missing)?;
        return Ok(());
    }
    ensure_eq("the upload", answer, Said::Chunk)?;
    let test = said(&site.ask(&ask.test(site))?)?.said;
    ensure_eq("the test of the last byte", test, Said::Chunk)?;
    let second = said(&site.ask(&ask.set("k", "2").test(site))?)?.said;
    ensure_eq("the test of the second byte", second, Said::Absent)?;
    let status = file.status(site);
    let target = format!("{}&resumableChunkSize=1&resumableTotalSize={MOST}", status.target);
    let status = Request { target, ..status };
    site.ask(&status)?.is(200)?.has("Upload-Missing", "1-9007199254740989")?;
    Ok(())
}

fn above_limit(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in Form::ALL {
        for number in [1, 2] {
            rows.row(format!("{form:?} {number}"), || {
                let file = File::new(10_001, 5000).form(form);
                let no = refused(400, "file_too_large");
                file.put(site, number)?.is(no.clone())?;
                file.tests(site, number, no)?;
                let gone = site.ask(&file.status(site))?;
                gone.is(404)?;
                File::new(10_000, 5000).form(form).uploads(site)
            });
        }
    }
    rows.verdict()
}

fn large_chunk(site: &Site) -> Verdict {
    let size = 257u64 << 20;
    for form in [Form::Doubled, Form::Octet] {
        let file = File::new(10, 10).form(form);
        let text = size.to_string();
        let ask = file.ask(1).set("c", &text).set("s", &text).set("T", &text);
        let request = ask.without("n").request(site);
        let request = request.with("Expect", "100-continue");
        let mut link = site.connect()?;
        link.send_head(&request)?;
        let response = link.answer_to(&request)?;
        ensure_eq("interim answers", response.interim.len(), 0)?;
        said(&response)?.is(refused(400, "chunk_too_large"))?;
    }
    Ok(())
}

fn fragments(site: &Site) -> Verdict {
    let own = site.launch(&["--durability", "relaxed"])?;
    let site = &own.site;
    let file = File::new(20_101, 1).form(Form::Octet);
    let mut link = site.connect()?;
    let mut put = |number: u64| -> Result<Said, crate::failure::Failure> {
        Ok(said(&link.ask(&file.ask(number).request(site))?)?.said)
    };
    for number in 1..=10_000 {
        ensure_eq("a fragment", put(2 * number - 1)?, Said::Chunk)?;
    }
    ensure_eq("one too many", put(20_001)?, refused(400, "too_fragmented"))?;
    // One that joins its neighbours makes it fewer.
    ensure_eq("a byte between two", put(2)?, Said::Chunk)?;
    ensure_eq("the next fragment", put(20_001)?, Said::Chunk)
}
