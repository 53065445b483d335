//! Tests: which chunks are there.

use super::client::{File, Form, Profile, Said, refused, said};
use crate::case::{BOTH, Case};
use crate::failure::{Failure, Rows, Verdict, ensure_eq};
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "test_of_an_unknown_chunk_answers_204",
        &["F-01", "S-009", "J-020"],
        "204 without a body, whatever the library, and still no upload after it",
        unknown,
    )
    .under(BOTH),
    Case::ours(
        "test_without_a_chunk_number_answers_400",
        &["F-02", "J-002", "J-004"],
        "the bare path, a misspelt number, a query that lost its parameters: never present",
        bare,
    ),
    Case::ours(
        "test_tells_stored_bytes_from_holes",
        &["J-020", "F-20", "F-24"],
        "a chunk of zeros is there, a hole before a stored chunk is not",
        zeros_and_holes,
    ),
    Case::ours(
        "test_with_another_chunk_size_looks_at_bytes",
        &["J-021", "J-016", "F-19"],
        "a chunk that is there in part is absent, over any cut",
        another_size,
    ),
    Case::ours(
        "test_without_a_size_asks_for_the_larger_chunk",
        &["J-013", "J-011"],
        "the last whole chunk alone is no proof of the remainder behind it",
        larger,
    ),
    Case::ours(
        "test_by_any_method_gives_the_same_verdict",
        &["J-009", "F-31", "F-44", "S-006"],
        "GET, HEAD, and POST, PUT, PATCH without a chunk, in the query or in fields",
        any_method,
    )
    .under(BOTH),
    Case::ours(
        "test_is_judged_as_the_upload_is",
        &["S-006", "J-001", "J-015"],
        "what an upload is refused for, its test is refused for",
        judged_alike,
    ),
];

fn unknown(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for profile in Profile::ALL {
        for (length, number) in [(29, 1), (29, 2), (0, 1), (5, 1)] {
            rows.row(format!("{profile:?} {length} {number}"), || {
                let file = File::new(length, 10).profile(profile);
                let response = site.ask(&file.ask(number).test(site))?.is(204)?;
                ensure_eq("the body", response.body.len(), 0)?;
                file.tests(site, number, Said::Absent)?;
                // Had the test made an upload its status would be known.
                site.ask(&file.status(site))?.is(404)?;
                Ok(())
            });
        }
    }
    rows.verdict()
}

fn bare(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    let file = File::new(30, 10);
    let query = file.ask(1).query();
    let misspelt = query.replace("resumableChunkNumber", "resumableChunknumber");
    let queries = [
        String::new(),
        "?".to_owned(),
        "?0=undefined&1=undefined".to_owned(),
        "?undefined=undefined&undefined=undefined".to_owned(),
        format!("?{misspelt}"),
        format!("?{}", query.replace("resumableChunkNumber=1&", "")),
        format!("?{}", query.replace("ChunkNumber=1&", "ChunkNumber=&")),
        format!("?{}", query.replace("resumableTotalSize", "flowTotalSize")),
    ];
    for (number, query) in queries.iter().enumerate() {
        for method in ["GET", "HEAD"] {
            for slash in ["", "/"] {
                rows.row(format!("{method} {slash} {number}"), || {
                    let target = format!("{}{slash}{query}", site.collection());
                    site.ask(&Request::plain(method, &target))?.is(400)?;
                    Ok(())
                });
            }
        }
    }
    rows.verdict()
}

fn zeros_and_holes(site: &Site) -> Verdict {
    let mut file = File::new(50, 10);
    file.content = vec![0; 50];
    file.begins(site)?;
    file.stores(site, 2)?;
    file.stores(site, 5)?;
    for (number, expected) in [
        (1, Said::Absent),
        (2, Said::Chunk),
        (3, Said::Absent),
        (4, Said::Absent),
        (5, Said::Chunk),
    ] {
        file.tests(site, number, expected)?;
    }
    for number in [4, 1] {
        file.stores(site, number)?;
    }
    file.completes(site, 3)?;
    file.is_complete(site, 1)
}

fn another_size(site: &Site) -> Verdict {
    let file = File::new(100, 10);
    file.begins(site)?;
    file.stores(site, 2)?;
    file.stores(site, 3)?;
    let mut rows = Rows::new();
    // Byte 0 is there, and bytes 10 to 29.
    for (chunk, number, expected) in [
        (5, 2, Said::Absent),
        (5, 3, Said::Chunk),
        (5, 6, Said::Chunk),
        (5, 7, Said::Absent),
        (15, 1, Said::Absent),
        (15, 2, Said::Chunk),
        (20, 1, Said::Absent),
        (20, 2, Said::Absent),
        (7, 2, Said::Absent),
        (7, 3, Said::Chunk),
        (7, 4, Said::Chunk),
        (7, 5, Said::Absent),
        (100, 1, Said::Absent),
        (1, 10, Said::Absent),
        (1, 11, Said::Chunk),
        (1, 30, Said::Chunk),
        (1, 31, Said::Absent),
    ] {
        rows.row(format!("{chunk} {number}"), || {
            file.clone().cut(chunk).tests(site, number, expected)
        });
    }
    rows.verdict()
}

fn larger(site: &Site) -> Verdict {
    let file = File::new(29, 10).ceil();
    file.begins(site)?;
    file.stores(site, 2)?;
    let sizeless = file.ask(2).without("s");
    let ask = || -> Result<Said, Failure> { Ok(said(&site.ask(&sizeless.test(site))?)?.said) };
    ensure_eq("before the remainder", ask()?, Said::Absent)?;
    file.tests(site, 2, Said::Chunk)?;
    file.stores(site, 3)?;
    ensure_eq("with the remainder", ask()?, Said::Chunk)
}

fn any_method(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for profile in Profile::ALL {
        let file = File::new(30, 10).profile(profile);
        file.stores(site, 1)?;
        for (number, status) in [(1, 200), (2, 204)] {
            for method in ["GET", "HEAD"] {
                rows.row(format!("{profile:?} {method} {number}"), || {
                    let test = file.ask(number).test(site).method(method);
                    site.ask(&test)?.is(status)?;
                    Ok(())
                });
            }
            for method in ["POST", "PUT", "PATCH"] {
                for form in Form::ALL {
                    rows.row(format!("{profile:?} {method} {form:?} {number}"), || {
                        site.ask(&without_chunk(site, &file, form, method, number))?.is(status)?;
                        Ok(())
                    });
                }
            }
        }
    }
    rows.verdict()
}

/// An upload that forgot its chunk.
fn without_chunk(site: &Site, file: &File, form: Form, method: &str, number: u64) -> Request {
    let ask = file.clone().form(form).ask(number);
    if form == Form::Octet {
        return ask.payload(b"").request(site).method(method);
    }
    let mut parts = super::client::Multipart::new();
    for (name, value) in &ask.parameters {
        parts = parts.field(&file.profile.name(name), value);
    }
    let target = ask.request(site).target;
    parts.into_request(Request::plain(method, &target))
}

fn judged_alike(site: &Site) -> Verdict {
    let file = File::new(30, 10);
    file.stores(site, 1)?;
    let mut rows = Rows::new();
    for (name, value, code) in [
        ("k", "0", "bad_number"),
        ("k", "4", "bad_chunk_number"),
        ("c", "x", "bad_number"),
        ("s", "11", "bad_chunk_size"),
        ("n", "0", "bad_total_chunks"),
        ("n", "4", "bad_total_chunks"),
        ("path", "../x", "bad_relative_path"),
    ] {
        rows.row(format!("{name}={value}"), || {
            let ask = file.ask(1).set(name, value);
            let expected = refused(400, code);
            let answer = said(&site.ask(&ask.test(site))?)?;
            ensure_eq("the test", answer.said, expected.clone())?;
            ensure_eq("the upload", ask.put(site)?.said, expected)
        });
    }
    rows.verdict()
}
