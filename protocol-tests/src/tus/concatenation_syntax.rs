//! The value of Upload-Concat: which words and URLs are understood.

use crate::case::{BOTH, Case, OWN, Setup};
use crate::failure::{Rows, Verdict, ensure_eq};
use crate::site::Site;
use crate::tus::concatenation::part;

const EXTENSIONS: &[&str] = &["creation", "concatenation"];

pub(super) const CASES: &[Case] = &[
    Case::must(
        "concat_urls_may_be_absolute_or_relative",
        &["T-113", "D-34", "D-35", "T-112"],
        "any host and scheme, a prefix before the base, bare ids, queries, slashes, escapes, blanks",
        taken,
    )
    .needing(EXTENSIONS),
    Case::ours(
        "concat_urls_elsewhere_are_refused",
        &["D-34", "I-04", "F-55"],
        "a path that does not end in the base and an id answers 400, and two URLs that are not separated",
        elsewhere,
    )
    .needing(EXTENSIONS),
    Case::ours(
        "concat_urls_of_unknown_uploads_answer_404",
        &["D-34", "I-04"],
        "well-formed but absent, alone or among others",
        absent,
    )
    .needing(&["creation", "concatenation", "termination"])
    .under(BOTH),
    Case::ours(
        "concat_values_that_are_malformed_are_refused",
        &["D-35", "T-113", "I-04"],
        "neither partial nor final with a list answers 400",
        malformed,
    )
    .needing(EXTENSIONS),
    Case::must(
        "concat_urls_that_try_to_escape_are_refused",
        &["F-38", "I-12", "D-34"],
        "dots, NUL, encoded slashes and file paths answer 400 or 404 and touch nothing",
        escapes,
    )
    .under(OWN),
    Case::ours(
        "concat_on_other_methods_is_ignored",
        &["D-35"],
        "Upload-Concat on HEAD, PATCH and DELETE, as tus-js-client sends it, changes nothing",
        other_methods,
    )
    .needing(EXTENSIONS),
    Case::ours(
        "concat_of_five_hundred_urls_works",
        &["F-36", "D-58"],
        "45 KB of absolute URLs in one field, over HTTP/1.1 and HTTP/2",
        five_hundred,
    )
    .needing(EXTENSIONS)
    .under(BOTH),
    Case::ours(
        "concat_urls_at_the_root_work",
        &["D-34", "D-54"],
        "with the collection at / a part is /<id>, absolute or bare",
        at_root,
    )
    .needing(EXTENSIONS)
    .under(&[Setup::RootPath]),
];

/// Every character of the id as a percent escape.
fn escaped(id: &str) -> String {
    id.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn taken(site: &Site) -> Verdict {
    let (first, second) = (part(site, b"abc")?, part(site, b"def")?);
    let (a, b) = (&first.path, &second.path);
    let (host, id_a, id_b) = (&site.base.host, first.id(), second.id());
    let values = [
        format!("final;{a} {b}"),
        format!("final;http://{host}{a} http://{host}{b}"),
        format!("final;https://cdn.example{a} http://other.example:99{b}"),
        format!("final;https://cdn.example/prefix{a} /more/prefix{b}"),
        format!("final;{id_a} {id_b}"),
        format!("final;{id_a} http://{host}{b}"),
        format!("final;{a}/ {b}/"),
        format!("final;{a}?_=1 {b}#fragment"),
        format!("final;{} {b}", a.replace(id_a, &escaped(id_a))),
        format!("final; {a} {b}"),
        format!("final;{a}   {b}"),
        format!("final;  {a}  {b}"),
        format!("Final;{a} {b}"),
        format!("FINAL;{a} {b}"),
    ];
    let mut rows = Rows::new();
    for value in &values {
        rows.row(value, || {
            let request = site.post().with("Upload-Concat", value).body(b"");
            let joined = site.create_by(&request)?;
            joined.head()?.is(200)?.has("Upload-Concat", value)?;
            joined.reads_back(b"abcdef")
        });
    }
    rows.verdict()
}

fn elsewhere(site: &Site) -> Verdict {
    let upload = part(site, b"abc")?;
    let (path, id, base) = (&upload.path, upload.id(), site.collection());
    let values = [
        format!("/elsewhere/{id}"),
        format!("/x{}/{id}", base.trim_start_matches('/')),
        format!("{base}x/{id}"),
        format!("{base}/x/{id}"),
        format!("{path}/x"),
        format!("http://h.example/{id}"),
        format!("http://h.example/?{path}"),
        format!("http://h.example/#{path}"),
        "http://h.example".to_owned(),
        base.to_owned(),
        format!("{base}/"),
        format!("x/{id}"),
        format!("/{id}"),
    ]
    .into_iter()
    .chain(joined_wrongly(&[path.clone(), format!("http://h.example{path}"), id.to_owned()]));
    let values: Vec<String> = values.collect();
    let mut rows = Rows::new();
    for value in &values {
        rows.row(value, || {
            for list in [value.clone(), format!("{path} {value}")] {
                let request = site.post().with("Upload-Concat", format!("final;{list}")).body(b"");
                site.ask(&request)?.is(400)?.lacks("Location")?;
            }
            Ok(())
        });
    }
    rows.verdict()?;
    upload.stands_at(3)
}

/// Each of `urls` after each, with what is no separator in between: never one part alone.
fn joined_wrongly(urls: &[String]) -> Vec<String> {
    let mut values = Vec::new();
    for between in ["\t", "%20", "%09", "+", "|", "%7C", "&", ",", ";", ""] {
        for (first, second) in urls.iter().flat_map(|u| urls.iter().map(move |v| (u, v))) {
            // An id that goes on is another id, of no upload that there is.
            if !between.is_empty() || second.contains('/') {
                values.push(format!("{first}{between}{second}"));
            }
        }
    }
    values
}

fn absent(site: &Site) -> Verdict {
    let (upload, deleted) = (part(site, b"abc")?, part(site, b"def")?);
    deleted.delete()?.is(204)?;
    let unknown = site.below("unknown");
    let mut rows = Rows::new();
    for list in [
        unknown.clone(),
        "unknown".to_owned(),
        format!("http://h.example{unknown}"),
        format!("{} {unknown}", upload.path),
        deleted.path,
    ] {
        rows.row(&list, || {
            let request = site.post().with("Upload-Concat", format!("final;{list}")).body(b"");
            site.ask(&request)?.is(404)?.lacks("Location").map(drop)
        });
    }
    rows.verdict()
}

fn malformed(site: &Site) -> Verdict {
    let upload = part(site, b"abc")?;
    let path = &upload.path;
    let values = [
        String::new(),
        "other".to_owned(),
        "partials".to_owned(),
        "partial;".to_owned(),
        format!("partial;{path}"),
        "partial final".to_owned(),
        "final".to_owned(),
        "final;".to_owned(),
        "final;   ".to_owned(),
        "finals;".to_owned(),
        format!("final {path}"),
        format!("final:{path}"),
        format!("final,{path}"),
        format!(";{path}"),
        path.clone(),
    ];
    let mut rows = Rows::new();
    for value in &values {
        rows.row(format!("{value:?}"), || {
            let request = site.post().with("Upload-Concat", value).body(b"");
            site.ask(&request)?.is(400)?.lacks("Location")?;
            let sized = request.with("Upload-Length", 3);
            site.ask(&sized)?.is(400)?.lacks("Location").map(drop)
        });
    }
    rows.row("repeated", || {
        let request = site.post().with("Upload-Length", 3).with("Upload-Concat", "partial");
        let request = request.with("Upload-Concat", "partial").body(b"");
        site.ask(&request)?.is(400)?.lacks("Location").map(drop)
    });
    rows.verdict()
}

fn escapes(site: &Site) -> Verdict {
    let own = site.launch(&[])?;
    let site = &own.site;
    let upload = part(site, b"abc")?;
    let before = own.process.files();
    let (base, id) = (site.collection(), upload.id());
    let values = [
        format!("{base}/.."),
        format!("{base}/."),
        format!("{base}/../{id}"),
        format!("{base}/..%2F{id}"),
        format!("{base}/%2e%2e%2fetc%2fpasswd"),
        format!("{base}/%00"),
        format!("{base}/{id}%00"),
        format!("{base}/{id}%2Fx"),
        format!("{base}/{id}.part"),
        format!("{base}/%ff"),
        format!("{base}/%"),
        format!("{base}/%zz"),
        "/etc/passwd".to_owned(),
        "file:///etc/passwd".to_owned(),
        "../../etc/passwd".to_owned(),
        "..".to_owned(),
        ".".to_owned(),
        "%2e%2e".to_owned(),
        format!("{base}/{}", "a".repeat(5000)),
    ];
    let mut rows = Rows::new();
    for value in &values {
        rows.row(value.chars().take(60).collect::<String>(), || {
            let request = site.post().with("Upload-Concat", format!("final;{value}")).body(b"");
            site.ask(&request)?.is_one_of(&[400, 404])?.lacks("Location").map(drop)
        });
    }
    rows.verdict()?;
    ensure_eq("the files in the data directory", own.process.files(), before)
}

fn other_methods(site: &Site) -> Verdict {
    let upload = site.create(6)?;
    for value in ["partial", "final;/x", "nonsense"] {
        site.ask(&upload.request("HEAD").with("Upload-Concat", value))?.is(200)?;
        let offset = upload.offset()?;
        site.ask(&upload.patch_at(offset).with("Upload-Concat", value).body(b"x"))?.is(204)?;
        upload.head()?.is(200)?.lacks("Upload-Concat")?;
    }
    site.ask(&upload.request("DELETE").with("Upload-Concat", "nonsense"))?.is(204)?;
    Ok(())
}

fn five_hundred(site: &Site) -> Verdict {
    let upload = part(site, b"ab")?;
    // Padded so that 500 URLs make the 45 KB that were seen in the wild.
    let mut url = format!("https://{}/{}", "a".repeat(8), upload.path.trim_start_matches('/'));
    while url.len() < 89 {
        url = url.replacen("https://a", "https://aa", 1);
    }
    let list = vec![url; 500].join(" ");
    let request = site.post().with("Upload-Concat", format!("final;{list}")).body(b"");
    let joined = site.create_by(&request)?;
    joined.stands_at(1000)?;
    joined.reads_back(&b"ab".repeat(500))
}

fn at_root(site: &Site) -> Verdict {
    let upload = part(site, b"abc")?;
    let (path, id) = (&upload.path, upload.id());
    for value in [format!("final;{path} {id}"), format!("final;https://h.example{path} {path}/")] {
        let request = site.post().with("Upload-Concat", value).body(b"");
        site.create_by(&request)?.reads_back(b"abcabc")?;
    }
    Ok(())
}
