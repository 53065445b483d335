//! Which file is which, and what names can do.

use super::client::{File, Form, Profile, Said, encoded, refused, said};
use crate::case::{Case, OWN};
use crate::failure::{Rows, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "files_that_share_an_identifier_stay_apart",
        &["F-37", "S-001"],
        "other names or paths are other files, of the same size and side by side",
        share,
    ),
    Case::ours(
        "upload_is_the_same_for_every_library_and_cut",
        &["S-001", "J-016"],
        "chunk size, count, media type and library are not part of the key",
        same,
    ),
    Case::ours(
        "identifier_may_be_any_text",
        &["F-35", "F-23", "S-003", "S-005"],
        "paths, patterns, NUL, controls, 4 KiB of emoji: stored, found again, and echoed",
        any_text,
    ),
    Case::ours(
        "identifier_that_is_no_text_is_refused",
        &["F-35", "S-003"],
        "empty, too long, no UTF-8, broken percent-encoding",
        no_text,
    ),
    Case::ours(
        "names_never_become_paths",
        &["F-35", "S-004", "S-005"],
        "no file appears outside of the store's own naming",
        no_paths,
    )
    .under(OWN),
    Case::ours(
        "relative_path_that_climbs_is_refused",
        &["S-004", "S-006"],
        "`..` in any place, roots and drives; dots that mean nothing pass",
        climbs,
    ),
    Case::ours(
        "refused_first_request_makes_nothing",
        &["S-009"],
        "no record, no file, for every kind of refusal and for tests",
        makes_nothing,
    )
    .under(OWN),
    Case::ours(
        "sparse_files_reserve_no_disk",
        &["S-007", "S-008"],
        "a byte at the end of a terabyte costs a block",
        sparse,
    )
    .under(OWN),
];

fn share(site: &Site) -> Verdict {
    let first = File::new(20, 10);
    let mut files = vec![first.clone()];
    for (name, path) in [
        ("你好.txt", "你好.txt"),
        ("再见.txt", "再见.txt"),
        ("x", "a/x"),
        ("x", "b/x"),
        ("", ""),
        ("a", "b"),
        ("ab", ""),
    ] {
        let mut file = File::new(20, 10);
        file.identifier = first.identifier.clone();
        (file.name, file.path) = (name.into(), path.into());
        files.push(file);
    }
    for number in 1..=2 {
        for (at, file) in files.iter().enumerate() {
            file.tests(site, number, Said::Absent).map_err(|f| f.within(at))?;
            if number == 1 {
                file.stores(site, 1).map_err(|f| f.within(at))?;
            } else {
                file.completes(site, 2).map_err(|f| f.within(at))?;
            }
        }
    }
    Ok(())
}

fn same(site: &Site) -> Verdict {
    let file = File::new(40, 10);
    file.stores(site, 1)?;
    for profile in Profile::ALL {
        file.clone().profile(profile).tests(site, 1, Said::Chunk)?;
        file.clone().profile(profile).cut(5).tests(site, 2, Said::Chunk)?;
    }
    file.clone().profile(Profile::Flow).form(Form::Octet).stores(site, 2)?;
    let typed = file.ask(3).set("type", "image/png").without("n");
    typed.put(site)?.is(Said::Chunk)?;
    file.profile(Profile::Simple).completes(site, 4)
}

fn any_text(site: &Site) -> Verdict {
    let unique = File::new(0, 1).identifier;
    let mut rows = Rows::new();
    let texts = [
        "../../x",
        "/etc/x",
        "..\0",
        "a/b",
        "a\\b",
        "[x]",
        "*",
        "?",
        "a&b=c#d",
        "a b+c%20d",
        "%00",
        "%",
        "\r\nx: y",
        "\t",
        "\u{7f}\u{80}",
        "\u{1b}[31m",
        "\u{202e}gnp.exe",
        "\"'<>",
        "{}",
        "😀",
        "\u{feff}",
        "CON",
        ".",
        "..",
        "status",
    ];
    for text in texts {
        for form in Form::ALL {
            rows.row(format!("{text:?} {form:?}"), || {
                let mut file = File::new(20, 10).form(form);
                file.identifier =
                    [text.as_bytes(), &unique, format!("{form:?}").as_bytes()].concat();
                (file.name, file.path) = (b"x".to_vec(), b"x".to_vec());
                let answer = file.put(site, 1)?;
                answer.clone().is(Said::Chunk)?;
                let echo = answer.body["resumableIdentifier"].as_str().unwrap_or_default();
                let sent = String::from_utf8_lossy(&file.identifier).into_owned();
                // A form carries each newline as CR LF.
                let same = echo.replace("\r\n", "\n") == sent.replace("\r\n", "\n");
                ensure(same, format!("echoed as {echo:?}"))?;
                file.tests(site, 1, Said::Chunk)?;
                file.completes(site, 2)
            });
        }
    }
    rows.row("4 KiB", || {
        let mut file = File::new(10, 10);
        let rest = 4096 - file.identifier.len();
        file.identifier.extend("😀".repeat(rest / 4).bytes());
        file.uploads(site)
    });
    rows.verdict()
}

fn no_text(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    let long = vec![b'x'; 10_000];
    for (what, identifier, code) in [
        ("empty", &b""[..], "missing_parameter"),
        ("a byte too long", &long[..4097], "identifier_too_long"),
        ("10 kB", &long, "identifier_too_long"),
        ("no UTF-8", b"a\xff", "bad_encoding"),
        ("half a character", b"\xf0\x9f\x98", "bad_encoding"),
        ("a surrogate", b"\xed\xa0\x80", "bad_encoding"),
        ("overlong", b"\xc0\xaf", "bad_encoding"),
    ] {
        for form in [Form::Multipart, Form::Octet] {
            rows.row(format!("{what} {form:?}"), || {
                let file = File::new(10, 10).form(form);
                let ask = file.ask(1).set("id", identifier);
                let test = said(&site.ask(&ask.test(site))?)?.said;
                let answer = ask.put(site)?.said;
                let no = refused(400, code);
                // An empty one in a form is missing when the chunk begins.
                let late = what == "empty" && form == Form::Multipart;
                let expected = if late { refused(400, "fields_after_file") } else { no.clone() };
                ensure_eq("test and upload", (test, answer), (no, expected))
            });
        }
    }
    for text in ["%", "%2", "%zz", "a%", "%u0041"] {
        rows.row(text, || {
            let ask = File::new(10, 10).ask(1);
            let target = format!("{}?{}", site.collection(), ask.query());
            let target = target.replace("Identifier=", &format!("Identifier={text}"));
            // What follows the sign must not complete it.
            let target = target.replace(&format!("{text}10-"), &format!("{text}z"));
            let answer = said(&site.ask(&Request::plain("GET", &target))?)?;
            answer.is(refused(400, "bad_encoding"))
        });
    }
    rows.verdict()
}

fn no_paths(site: &Site) -> Verdict {
    let own = site.launch(&["--durability", "relaxed"])?;
    let site = &own.site;
    let outside = own.process.data().parent().map(|parent| parent.join("pwned"));
    for text in [
        "../pwned",
        "../../pwned",
        "/tmp/pwned",
        "a/../../pwned",
        "..\\pwned",
        "pwned\0",
        "lock",
        "secret",
    ] {
        for form in Form::ALL {
            let mut file = File::new(10, 10).form(form);
            file.identifier = text.into();
            file.name = [text.as_bytes(), format!("{form:?}").as_bytes()].concat();
            file.path = b"x".to_vec();
            file.uploads(site)?;
        }
    }
    let strange: Vec<_> = own
        .process
        .files()
        .into_iter()
        .map(|(path, _)| path.strip_prefix(own.process.data()).map(ToOwned::to_owned))
        .filter_map(Result::ok)
        .filter(|path| path.to_string_lossy().contains("pwned") || path.components().count() > 1)
        .collect();
    ensure(strange.is_empty(), format!("{strange:?}"))?;
    ensure(!outside.is_some_and(|path| path.exists()), "a file outside")
}

fn climbs(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for (path, allowed) in [
        ("../x", false),
        ("a/../x", false),
        ("a/..", false),
        ("..", false),
        ("..\\x", false),
        ("a\\..\\x", false),
        ("/../x", false),
        ("\\..\\x", false),
        ("C:/x", false),
        ("c:\\x", false),
        ("/dir/x", true),
        ("\\lead.txt", true),
        ("//x", true),
        ("a/b/x", true),
        ("./x", true),
        ("a..b", true),
        ("...", true),
        ("a/.../x", true),
        ("%2e%2e/x", true),
    ] {
        for form in Form::ALL {
            rows.row(format!("{} {form:?}", encoded(path.as_bytes())), || {
                let ask = File::new(10, 10).form(form).ask(1).set("path", path);
                let no = refused(400, "bad_relative_path");
                let (test, upload) =
                    if allowed { (Said::Absent, Said::File) } else { (no.clone(), no) };
                let found = said(&site.ask(&ask.test(site))?)?.said;
                ensure_eq("the test", found, test)?;
                ask.put(site)?.is(upload)
            });
        }
    }
    rows.verdict()
}

fn makes_nothing(site: &Site) -> Verdict {
    let own = site.launch(&["--max-size", "1000"])?;
    let site = &own.site;
    let before = own.process.files();
    for form in Form::ALL {
        let ask = || File::new(30, 10).form(form).ask(1);
        for (what, ask) in [
            ("too large", ask().set("T", "1001").without("n")),
            ("bad size", ask().set("s", "9")),
            ("bad number", ask().set("k", "x")),
            ("bad count", ask().set("n", "0")),
            ("no such chunk", ask().set("k", "4")),
            ("too short", ask().payload(b"x")),
            ("too long", ask().payload(vec![b'x'; 5000])),
            ("a climbing path", ask().set("path", "../x")),
            ("too long an identifier", ask().set("id", vec![b'x'; 5000])),
        ] {
            let answer = ask.put(site)?.said;
            let no = matches!(answer, Said::Refused(400, _));
            ensure(no, format!("{form:?} {what}: {answer:?}"))?;
            ensure_eq(&format!("files after {what}"), own.process.files(), before.clone())?;
        }
        site.ask(&ask().test(site))?.is(204)?;
    }
    ensure_eq("files after tests", own.process.files(), before)
}

fn sparse(site: &Site) -> Verdict {
    use std::os::unix::fs::MetadataExt as _;
    let own = site.launch(&[])?;
    let site = &own.site;
    let size = 1u64 << 40;
    let number = (size / 10).to_string();
    let ask = File::new(10, 10).ask(1).set("T", size.to_string()).without("n");
    ask.put(site)?.is(Said::Chunk)?;
    let ask = ask.set("k", number).without("s").payload([b'x'; 16]);
    ask.put(site)?.is(Said::Chunk)?;
    let blocks: u64 = own
        .process
        .files()
        .iter()
        .filter_map(|(path, _)| path.metadata().ok())
        .map(|meta| meta.blocks())
        .sum();
    ensure(blocks < 200, format!("{blocks} blocks of 512 bytes"))
}
