//! How requests say what they say: parameters, forms, bodies.

use super::client::{BOUNDARY, File, Form, Multipart, Profile, Said, encoded, refused, said};
use crate::case::{BOTH, Case};
use crate::content::base64;
use crate::failure::{Rows, Verdict, ensure_eq};
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "upload_in_every_form_of_every_library_is_stored",
        &["J-004", "J-005", "J-007", "J-008", "J-009", "F-28", "F-31", "F-04"],
        "three libraries, form, doubled parameters, raw and base64, POST, PUT and PATCH",
        every_form,
    )
    .under(BOTH),
    Case::ours(
        "numbers_that_are_not_plain_are_refused",
        &["J-001", "J-002", "F-05"],
        "signs, blanks, points, exponents, leading zeros, too many digits",
        numbers,
    ),
    Case::ours(
        "chunk_size_that_switches_chunks_off_is_a_chunk",
        &["J-001"],
        "Number.MAX_VALUE, Infinity, fractions: the file is one chunk, in every form, and its test",
        one_chunk_of_any_size,
    ),
    Case::ours(
        "chunks_of_dropzone_are_stored",
        &["J-004", "J-012", "J-055"],
        "numbers from 0, no size of the chunk, the name with the file; refusals as a text",
        dropzone,
    ),
    Case::ours(
        "refused_form_says_what_is_wrong",
        &["J-006", "J-023"],
        "fields that are missing are named, a form without its closing boundary is told so",
        form_faults,
    ),
    Case::ours(
        "parameters_that_are_optional_may_be_absent_or_empty",
        &["J-002", "J-012", "F-08"],
        "without size, count, name, path, type; required ones are missed",
        optional,
    ),
    Case::ours(
        "parameters_given_twice_must_agree",
        &["J-003"],
        "equal is fine, after newlines are made one; different is refused, wherever it stands",
        twice,
    ),
    Case::ours(
        "parameters_of_two_libraries_are_refused",
        &["J-004"],
        "names of one library never fill the gaps of another",
        two_libraries,
    ),
    Case::ours(
        "fields_of_the_application_change_nothing",
        &["F-29", "J-003"],
        "before, between and behind the parameters, repeated, empty, in query and form",
        application_fields,
    ),
    Case::ours(
        "form_has_one_chunk_and_it_is_found",
        &["J-005"],
        "by its name, or as the only file; two chunks and too many fields are refused",
        one_chunk,
    ),
    Case::ours(
        "form_with_parameters_behind_the_chunk_is_judged",
        &["J-006"],
        "missing ones are refused, equal ones pass, contradicting ones undo the chunk",
        behind,
    ),
    Case::ours(
        "form_that_breaks_off_stores_nothing",
        &["J-005", "J-014", "J-023"],
        "no end, another boundary, a nameless part head, no boundary at all",
        broken_forms,
    ),
    Case::ours(
        "chunk_as_base64_is_decoded_strictly",
        &["J-007", "F-28"],
        "with prefix, without, with line breaks; anything else is refused; sizes are decoded ones",
        as_base64,
    ),
    Case::ours(
        "chunk_under_any_media_type_is_stored_raw",
        &["J-008", "F-30"],
        "multipart/related, image/png, binary/octet-stream, none; form-urlencoded is 415",
        any_type,
    ),
    Case::ours(
        "chunk_that_looks_like_a_boundary_arrives_whole",
        &["J-005", "F-30"],
        "the boundary of its own form inside the chunk is bytes like others",
        boundary_inside,
    ),
];

fn every_form(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for profile in Profile::ALL {
        for form in Form::ALL {
            for method in ["POST", "PUT", "PATCH"] {
                rows.row(format!("{profile:?} {form:?} {method}"), || {
                    let file = File::new(29, 10).profile(profile).form(form);
                    file.method(method).uploads(site)
                });
            }
        }
    }
    rows.verdict()
}

fn numbers(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    let values = [
        "-1",
        "+1",
        " 1",
        "1 ",
        "1.0",
        "1e3",
        "01",
        "0x1",
        "1,0",
        "one",
        "3.3333333333333335",
        "1e+21",
        "9007199254740992",
        "18446744073709551616",
        "99999999999999999",
        "\u{661}",
        "1\0",
        "NaN",
        "Infinity",
        "undefined",
        "1;1",
    ];
    for name in ["k", "c", "s", "T", "n"] {
        for value in values {
            rows.row(format!("{name}={value:?}"), || {
                let file = File::new(30, 10);
                for form in [Form::Multipart, Form::Octet] {
                    let ask = file.clone().form(form).ask(1).set(name, value);
                    ask.put(site)?.is(refused(400, "bad_number"))?;
                }
                site.ask(&file.status(site))?.is(404)?;
                Ok(())
            });
        }
    }
    for name in ["k", "c"] {
        rows.row(format!("{name}=0"), || {
            let ask = File::new(30, 10).ask(1).set(name, "0");
            ask.put(site)?.is(refused(400, "bad_number"))
        });
    }
    rows.verdict()
}

fn one_chunk_of_any_size(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for size in ["1.7976931348623157e+308", "Infinity", "1e+21", "33.5", "9007199254740992"] {
        for form in Form::ALL {
            rows.row(format!("{size} {form:?}"), || {
                let file = File::new(33, 33).form(form);
                // What JavaScript makes of infinity less infinity.
                let current = if size == "Infinity" { "NaN" } else { "33" };
                let ask = file.ask(1).set("c", size).set("s", current);
                said(&site.ask(&ask.test(site))?)?.is(Said::Absent)?;
                let answer = ask.put(site)?;
                answer.clone().is(Said::File)?;
                file.reads_back(site, &answer)?;
                let part = File::new(33, 10).form(form).ask(2).set("c", size);
                part.put(site)?.is(refused(400, "bad_number"))
            });
        }
    }
    rows.verdict()
}

fn dropzone(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for length in [0, 1, 10, 11, 12, 20, 21, 29] {
        rows.row(length, || {
            let file = File::new(length, 10).ceil();
            let name = String::from_utf8_lossy(&file.name).into_owned();
            let put = |index: u64, bytes: &[u8]| {
                let form = [
                    ("dzuuid", name.clone()),
                    ("dzchunkindex", index.to_string()),
                    ("dztotalfilesize", length.to_string()),
                    ("dzchunksize", "10".to_owned()),
                    ("dztotalchunkcount", file.count().to_string()),
                    ("dzchunkbyteoffset", (index * 10).to_string()),
                ];
                let form = form.iter().fold(Multipart::new(), |form, (name, value)| {
                    form.field(name, value.as_bytes())
                });
                let form = form.file("file", &format!("{name}.txt"), bytes);
                site.ask(&form.into_request(Request::plain("POST", site.collection())))
            };
            for number in 1..file.count() {
                said(&put(number - 1, &file.ask(number).payload)?)?.is(Said::Chunk)?;
            }
            let last = file.count();
            let answer = said(&put(last - 1, &file.ask(last).payload)?)?;
            answer.clone().is(Said::File)?;
            let given = answer.upload["name"].as_str();
            ensure_eq("the name", given, Some(&*format!("{name}.txt")))?;
            file.reads_back(site, &answer)
        });
    }
    rows.verdict()
}

fn form_faults(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    let file = || File::new(30, 10);
    let post = |body: Vec<u8>| {
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        let request = Request::plain("POST", site.collection()).with("Content-Type", kind);
        said(&site.ask(&request.body(body))?)
    };
    let chunk = |file: &File| fields(file, 1).file("file", "x", &file.ask(1).payload);
    let end = format!("\r\n--{BOUNDARY}--\r\n");
    let unclosed = {
        let bytes = chunk(&file()).end();
        bytes[..bytes.len() - end.len()].to_vec()
    };
    let short = fields(&file(), 1).file("file", "x", b"0123").end();
    let alone = Multipart::new().file("file", "x", b"0123456789").end();
    for (what, body, code, words) in [
        ("no closing boundary", unclosed, "bad_form", &["before its closing boundary"][..]),
        ("a short chunk", short, "length_mismatch", &["4 bytes", "10 were announced"]),
        (
            "no fields",
            alone,
            "fields_after_file",
            &["missing", "resumableChunkNumber", "flowIdentifier", "dzuuid", "forceChunking"],
        ),
    ] {
        rows.row(what, || {
            let answer = post(body.clone())?;
            let message = answer.body["error"]["message"].as_str().unwrap_or_default().to_owned();
            answer.is(refused(400, code))?;
            let says = words.iter().all(|word| message.contains(word));
            crate::failure::ensure(says, format!("{message:?} lacks one of {words:?}"))
        });
    }
    rows.verdict()
}

fn optional(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in Form::ALL {
        for name in ["s", "n", "name", "path", "type"] {
            for empty in [false, true] {
                rows.row(format!("{form:?} {name} empty: {empty}"), || {
                    let file = File::new(29, 10).form(form);
                    for number in 1..=2 {
                        let ask = file.ask(number);
                        let ask = if empty { ask.set(name, "") } else { ask.without(name) };
                        // How long the last chunk is cannot be told from base64 text beforehand.
                        if form == Form::Base64 && name == "s" && number == 2 {
                            continue;
                        }
                        let expected = if number == 1 { Said::Chunk } else { Said::File };
                        ask.put(site)?.is(expected)?;
                    }
                    Ok(())
                });
            }
        }
        for name in ["k", "c", "T", "id"] {
            rows.row(format!("{form:?} without {name}"), || {
                let answer = File::new(29, 10).form(form).ask(1).without(name).put(site)?;
                let found = matches!(&answer.said, Said::Refused(400, code)
                    if ["missing_parameter", "fields_after_file"].contains(&code.as_str()));
                crate::failure::ensure(found, format!("{:?}", answer.said))
            });
        }
    }
    rows.verdict()
}

fn twice(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in Form::ALL {
        for (name, other) in [("k", "2"), ("T", "31"), ("id", "other"), ("n", "2")] {
            rows.row(format!("{form:?} {name}"), || {
                let file = File::new(30, 10).form(form);
                let ask = file.ask(1);
                let value = ask.parameters.iter().find(|(known, _)| known == name);
                let value = value.map(|(_, value)| value.clone()).unwrap_or_default();
                ask.clone().with(name, value).put(site)?.is(Said::Chunk)?;
                let ask = ask.with(name, other);
                ask.put(site)?.is(refused(400, "conflicting_parameter"))?;
                let test = said(&site.ask(&ask.test(site))?)?.said;
                ensure_eq("the test", test, refused(400, "conflicting_parameter"))
            });
        }
    }
    rows.row("query against form", || {
        let ask = File::new(30, 10).form(Form::Doubled).ask(1);
        let request = ask.request(site);
        let target = request.target.replace("ChunkNumber=1", "ChunkNumber=2");
        let request = Request { target, ..request };
        said(&site.ask(&request)?)?.is(refused(400, "conflicting_parameter"))
    });
    rows.row("a line feed in the query is CR LF in the form", || {
        let mut file = File::new(30, 10).form(Form::Doubled);
        file.name.extend(b"\nx");
        let request = file.ask(1).request(site);
        let field = String::from_utf8_lossy(&file.name).into_owned();
        let body = String::from_utf8_lossy(&request.body.bytes())
            .replace(&field, &field.replace('\n', "\r\n"));
        // The chunk is text here, so that the form may be edited as such.
        let body = body.into_bytes();
        let answer = said(&site.ask(&request.body(body))?)?;
        let edited =
            !matches!(answer.said, Said::Refused(_, ref code) if code == "conflicting_parameter");
        crate::failure::ensure(edited, format!("{:?}", answer.said))
    });
    rows.verdict()
}

fn two_libraries(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for (one, other) in [
        (Profile::Resumable, Profile::Flow),
        (Profile::Flow, Profile::Simple),
        (Profile::Simple, Profile::Resumable),
    ] {
        let file = File::new(30, 10).form(Form::Octet).profile(one);
        rows.row(format!("{one:?} and {other:?}"), || {
            let more = file.clone().profile(other).ask(1).query();
            let request = file.ask(1).request(site);
            let target = format!("{}&{more}", request.target);
            let request = Request { target, ..request };
            said(&site.ask(&request)?)?.is(refused(400, "ambiguous_parameters"))
        });
        rows.row(format!("{one:?} lacks what {other:?} has"), || {
            let ask = file.ask(1).without("T").with(&other.name("T"), "30");
            ask.put(site)?.is(refused(400, "missing_parameter"))
        });
        rows.row(format!("one name of {other:?} is a stranger"), || {
            let ask = file.ask(1).with(&other.name("T"), "99");
            ask.put(site)?.is(Said::Chunk)
        });
    }
    rows.verdict()
}

fn application_fields(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for form in Form::ALL {
        rows.row(format!("{form:?}"), || {
            let file = File::new(29, 10).form(form);
            for number in 1..=2 {
                let mut ask = file.ask(number);
                for at in (0..=ask.parameters.len()).rev() {
                    let field = (format!("x{}", at % 3), b"v".to_vec());
                    ask.parameters.insert(at, field);
                }
                let ask = ask.with("_token", "").with("x0", "other").with("length", "9");
                let expected = if number == 1 { Said::Chunk } else { Said::File };
                let answer = ask.put(site)?;
                answer.clone().is(expected)?;
                if number == 2 {
                    file.reads_back(site, &answer)?;
                }
            }
            Ok(())
        });
    }
    rows.verdict()
}

/// The fields of a chunk as a form without the chunk.
fn fields(file: &File, number: u64) -> Multipart {
    let ask = file.ask(number);
    let fields = ask.parameters.iter();
    fields.fold(Multipart::new(), |form, (name, value)| form.field(&file.profile.name(name), value))
}

fn send(site: &Site, form: Multipart) -> Result<Said, crate::failure::Failure> {
    let request = form.into_request(Request::plain("POST", site.collection()));
    Ok(said(&site.ask(&request)?)?.said)
}

fn one_chunk(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    let chunk = |file: &File| file.ask(1).payload;
    for (name, filename) in [("file", "x"), ("blob", "x"), ("file", ""), ("", "x"), ("a b", "\"")] {
        rows.row(format!("{name:?} {filename:?}"), || {
            let file = File::new(30, 10);
            let form = fields(&file, 1).file(name, filename, &chunk(&file));
            ensure_eq("the answer", send(site, form)?, Said::Chunk)?;
            file.tests(site, 1, Said::Chunk)
        });
    }
    for second in ["file", "other"] {
        rows.row(format!("a second chunk {second}"), || {
            let file = File::new(30, 10);
            let form = fields(&file, 1).file("file", "x", &chunk(&file));
            let form = form.file(second, "y", &chunk(&file));
            let found = send(site, form)?;
            crate::failure::ensure(matches!(found, Said::Refused(400, _)), format!("{found:?}"))?;
            file.tests(site, 1, Said::Absent)
        });
    }
    for (what, count, size) in [("fields", 70, 1), ("bytes", 2, 40 << 10)] {
        rows.row(format!("too many {what}"), || {
            let file = File::new(30, 10);
            let form = (0..count).fold(fields(&file, 1), |form, number| {
                form.field(&format!("x{number}"), &vec![b'x'; size])
            });
            let found = send(site, form.file("file", "x", &chunk(&file)))?;
            crate::failure::ensure(matches!(found, Said::Refused(400, _)), format!("{found:?}"))?;
            file.tests(site, 1, Said::Absent)
        });
    }
    rows.verdict()
}

fn behind(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for (what, before, late, expected) in [
        ("all", false, "", refused(400, "fields_after_file")),
        ("an equal one", true, "10", Said::Chunk),
        ("another one", true, "11", refused(400, "conflicting_parameter")),
    ] {
        rows.row(what, || {
            let file = File::new(30, 10);
            let form = if before { fields(&file, 1) } else { Multipart::new() };
            let form = form.file("file", "x", &file.ask(1).payload);
            let form = if before {
                form.field("resumableChunkSize", late.as_bytes())
            } else {
                Multipart { bytes: [form.bytes, fields(&file, 1).bytes].concat() }
            };
            let stored = expected == Said::Chunk;
            ensure_eq("the answer", send(site, form)?, expected.clone())?;
            let presence = if stored { Said::Chunk } else { Said::Absent };
            file.tests(site, 1, presence)
        });
    }
    rows.verdict()
}

fn broken_forms(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let end = format!("\r\n--{BOUNDARY}--\r\n");
    for (what, kind, break_off) in [
        ("no end", kind.as_str(), end.len()),
        ("half an end", kind.as_str(), end.len() - 9),
        ("no dashes", kind.as_str(), 4),
        ("another boundary", "multipart/form-data; boundary=other", 0),
        ("no boundary", "multipart/form-data", 0),
        ("an empty boundary", "multipart/form-data; boundary=", 0),
    ] {
        rows.row(what, || {
            let file = File::new(30, 10);
            let body = fields(&file, 1).file("file", "x", &file.ask(1).payload).end();
            let body = &body[..body.len() - break_off];
            let request = Request::plain("POST", site.collection()).with("Content-Type", kind);
            let found = said(&site.ask(&request.body(body))?)?.said;
            let is_no = matches!(found, Said::Refused(400 | 415, _));
            crate::failure::ensure(is_no, format!("{found:?}"))?;
            file.tests(site, 1, Said::Absent)
        });
    }
    rows.verdict()
}

fn as_base64(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    let good = |text: &str| -> Vec<String> {
        vec![
            text.to_owned(),
            format!("data:;base64,{text}"),
            format!("data:image/png;base64,{text}"),
            format!("data:application/octet-stream;base64,{}\r\n{}", &text[..4], &text[4..]),
        ]
    };
    let bad = |text: &str| -> Vec<String> {
        vec![
            String::new(),
            text.trim_end_matches('=').to_owned(),
            format!("{text}A"),
            format!("{text}===="),
            text.replacen(|c: char| c.is_ascii_alphanumeric(), "!", 1),
            text[4..].to_owned(),
            format!("AAAA{text}"),
            format!("data:;base64 {text}"),
        ]
    };
    for index in 0..12 {
        rows.row(format!("text {index}"), || {
            let file = File::new(30, 10);
            let text = base64(file.ask(1).payload);
            let (text, is_good) = match good(&text).get(index) {
                Some(good) => (good.clone(), true),
                None => (bad(&text)[index - 4].clone(), false),
            };
            let form = fields(&file, 1).field("file", text.as_bytes());
            let found = send(site, form)?;
            if is_good {
                ensure_eq("the answer", found, Said::Chunk)?;
                return file.tests(site, 1, Said::Chunk);
            }
            let is_no = matches!(found, Said::Refused(400, _));
            crate::failure::ensure(is_no, format!("{text:?} is answered {found:?}"))?;
            file.tests(site, 1, Said::Absent)
        });
    }
    rows.verdict()
}

fn any_type(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for kind in [
        Some("multipart/related; boundary=x"),
        Some("multipart/mixed"),
        Some("image/png"),
        Some("binary/octet-stream"),
        Some("application/octet-stream"),
        Some("application/json"),
        Some("text/html; charset=utf-8"),
        Some("not a type"),
        Some(""),
        None,
    ] {
        for method in ["POST", "PUT", "PATCH"] {
            rows.row(format!("{kind:?} {method}"), || {
                let file = File::new(29, 10).form(Form::Octet);
                file.stores(site, 1)?;
                let request = file.ask(2).request(site).without("Content-Type");
                let request = match kind {
                    Some(kind) => request.with("Content-Type", kind),
                    None => request,
                };
                let answer = said(&site.ask(&request.method(method))?)?;
                answer.clone().is(Said::File)?;
                file.reads_back(site, &answer)
            });
        }
    }
    rows.row("form-urlencoded", || {
        let file = File::new(29, 10).form(Form::Octet);
        let request = file.ask(1).request(site);
        let request = request.set("Content-Type", "application/x-www-form-urlencoded");
        site.ask(&request)?.is(415)?;
        file.tests(site, 1, Said::Absent)
    });
    rows.row("a coded body", || {
        let file = File::new(29, 10).form(Form::Octet);
        let request = file.ask(1).request(site).with("Content-Encoding", "gzip");
        site.ask(&request)?.is(415)?;
        file.tests(site, 1, Said::Absent)
    });
    rows.verdict()
}

fn boundary_inside(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    let end = format!("\r\n--{BOUNDARY}--\r\n");
    let next =
        format!("\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"k\"\r\n\r\n9\r\n");
    for content in [end.clone(), next, format!("{end}{end}"), format!("\r\n--{BOUNDARY}")] {
        for name in ["", "unit"] {
            rows.row(encoded(content.as_bytes()), || {
                let mut file = File::new(0, 4096);
                file.content = [content.as_bytes(), name.as_bytes()].concat();
                file.uploads(site)
            });
        }
    }
    rows.verdict()
}
