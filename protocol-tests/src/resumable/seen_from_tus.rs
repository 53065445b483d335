//! One upload, two dialects.

use super::client::{File, Form, Profile, Said, refused, said, tus_of};
use crate::case::{BOTH, Case, OWN};
use crate::content::base64;
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "name_alone_leads_nobody_to_an_upload",
        &["S-002", "J-042", "J-054", "J-055"],
        "tests, status, copies and creations of others tell neither id nor URL; DELETE by name \
         removes what is unfinished only",
        by_name,
    )
    .waiting(),
    Case::ours(
        "upload_begun_here_is_continued_by_tus",
        &["F-45", "J-050", "J-051", "J-052", "J-020"],
        "HEAD shows the prefix, PATCHes go on over islands, the status then says complete",
        continued_by_tus,
    )
    .under(BOTH),
    Case::ours(
        "upload_fed_by_tus_is_continued_here",
        &["F-45", "J-020", "J-053"],
        "what a PATCH stored is present to tests of any chunk size; a cut PATCH keeps its bytes",
        continued_here,
    ),
    Case::ours(
        "tus_offset_adds_up_over_islands",
        &["J-051", "J-052"],
        "old offset plus bytes received, though the prefix jumps; any offset up to it goes on",
        adds_up,
    ),
    Case::ours(
        "tus_bytes_over_stored_chunks_are_compared",
        &["J-022", "J-051"],
        "a PATCH that differs from an island is refused and changes nothing",
        compared,
    ),
    Case::ours(
        "tus_sees_what_the_file_is_called",
        &["J-055", "J-050"],
        "filename, filetype, relativePath, resumableIdentifier; Upload-Length is the total",
        metadata,
    ),
    Case::ours(
        "tus_delete_of_a_named_upload_frees_its_name",
        &["J-041", "J-042"],
        "chunk 2 is 404 then, chunk 1 begins anew",
        deleted,
    ),
    Case::ours(
        "tus_creation_that_names_the_file_is_the_same_upload",
        &["J-054", "J-055", "F-45"],
        "made here first or there first, with and without a body; other names are others; a \
         deferred or partial one is not bound",
        bound,
    ),
    Case::ours(
        "status_shows_what_is_missing",
        &["J-060", "F-43", "J-050", "J-020"],
        "Upload-Offset, Upload-Length, Upload-Missing and chunk lists, as HEAD of tus says",
        status,
    )
    .under(BOTH),
    Case::ours(
        "upload_of_both_survives_a_kill",
        &["F-45", "F-39", "J-035"],
        "chunks, PATCHes and islands are there after the restart, and the rest completes it",
        survives,
    )
    .under(OWN),
];

fn head(site: &Site, url: &str) -> Result<Option<u64>, Failure> {
    let head = Request::tus("HEAD", url);
    Ok(tus_of(site, url).ask(&head)?.is(200)?.number("Upload-Offset"))
}

fn patch(site: &Site, url: &str, offset: u64, bytes: &[u8]) -> Result<Option<u64>, Failure> {
    let patch = Request::patch(url, offset).body(bytes);
    Ok(tus_of(site, url).ask(&patch)?.is(204)?.number("Upload-Offset"))
}

fn continued_by_tus(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for profile in Profile::ALL {
        rows.row(format!("{profile:?}"), || {
            let file = File::new(100, 10).profile(profile);
            let url = file.begins(site)?.url()?;
            file.stores(site, 4)?;
            file.stores(site, 1)?;
            file.stores(site, 8)?;
            ensure_eq("the prefix", head(site, &url)?, Some(10))?;
            // Over the island at 30 to 39.
            let told = patch(site, &url, 10, &file.content[10..35])?;
            ensure_eq("the offset told", told, Some(35))?;
            ensure_eq("the offset after it", head(site, &url)?, Some(40))?;
            let told = patch(site, &url, 40, &file.content[40..])?;
            ensure_eq("the last offset", told, Some(100))?;
            file.is_complete(site, 10)?;
            file.reads_from(site, &url)
        });
    }
    rows.verdict()
}

fn continued_here(site: &Site) -> Verdict {
    let file = File::new(100, 10);
    let url = file.put(site, 1)?.url()?;
    patch(site, &url, 10, &file.content[10..35])?;
    for (number, expected) in [(2, Said::Chunk), (3, Said::Chunk), (4, Said::Absent)] {
        file.tests(site, number, expected)?;
    }
    file.clone().cut(7).tests(site, 5, Said::Chunk)?;
    file.clone().cut(36).tests(site, 1, Said::Absent)?;
    let tus = tus_of(site, &url);
    {
        let request = Request::patch(&url, 35).body(&file.content[35..100]);
        let mut link = tus.connect()?;
        link.send_head(&request)?;
        link.raw.send(&file.content[35..65])?;
    }
    let upload = tus.upload(&url);
    upload.reaches(65, std::time::Duration::from_secs(5))?;
    file.tests(site, 6, Said::Chunk)?;
    file.tests(site, 7, Said::Absent)?;
    for number in [10, 7, 9] {
        file.stores(site, number)?;
    }
    file.completes(site, 8)?;
    upload.stands_at(100)
}

fn adds_up(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for start in [0, 7, 25, 30] {
        rows.row(format!("from {start}"), || {
            let file = File::new(100, 10);
            let url = file.begins(site)?.url()?;
            file.stores(site, 3)?;
            file.stores(site, 10)?;
            let told = patch(site, &url, 0, &file.content[..25])?;
            ensure_eq("the offset told", told, Some(25))?;
            let at = usize::try_from(start).map_err(Failure::new)?;
            let told = patch(site, &url, start, &file.content[at..90])?;
            ensure_eq("a PATCH that closes the last gap", told, Some(90))?;
            file.is_complete(site, 9)?;
            let rest = patch(site, &url, 90, &file.content[90..])?;
            ensure_eq("what is left of it", rest, Some(100))?;
            file.reads_from(site, &url)
        });
    }
    rows.row("past the prefix", || {
        let file = File::new(100, 10);
        let url = file.begins(site)?.url()?;
        file.stores(site, 3)?;
        patch(site, &url, 0, &file.content[..25])?;
        for offset in [0, 24, 30] {
            ensure_eq("an empty PATCH", patch(site, &url, offset, b"")?, Some(offset))?;
        }
        for offset in [31, 99, 100] {
            let patch = Request::patch(&url, offset).body(b"");
            tus_of(site, &url).ask(&patch)?.is(409)?;
        }
        Ok(())
    });
    rows.verdict()
}

fn compared(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for at in [20, 25, 29] {
        rows.row(at, || {
            let file = File::new(100, 10);
            let url = file.begins(site)?.url()?;
            file.stores(site, 3)?;
            let mut bytes = file.content.clone();
            bytes[at] ^= 1;
            let request = Request::patch(&url, 0).body(&bytes);
            let answer = tus_of(site, &url).ask(&request)?;
            ensure((400..500).contains(&answer.status), format!("answers {}", answer.status))?;
            ensure_eq("the prefix", head(site, &url)?, Some(1))?;
            file.tests(site, 1, Said::Absent)?;
            file.tests(site, 3, Said::Chunk)?;
            patch(site, &url, 0, &file.content)?;
            file.reads_from(site, &url)
        });
    }
    rows.verdict()
}

fn metadata(site: &Site) -> Verdict {
    let mut file = File::new(20, 10);
    file.name.extend("你好 \"x\".txt".bytes());
    let mut path = b"a/b/".to_vec();
    path.extend(&file.name);
    file.path = path;
    let ask = file.ask(1).set("type", "text/plain");
    let url = ask.put(site)?.url()?;
    let upload = tus_of(site, &url);
    let head = upload.ask(&Request::tus("HEAD", &url))?.is(200)?;
    let mut found = head.list("Upload-Metadata");
    found.sort();
    let mut expected: Vec<_> = [
        ("filename", &file.name),
        ("filetype", &b"text/plain".to_vec()),
        ("relativePath", &file.path),
        ("resumableIdentifier", &file.identifier),
    ]
    .map(|(key, value)| format!("{key} {}", base64(value)))
    .to_vec();
    expected.sort();
    ensure_eq("the metadata", found, expected)?;
    ensure_eq("the length", head.number("Upload-Length"), Some(20))
}

/// A tus creation for a file, by the metadata that name it.
fn creation(file: &File, collection: &str) -> Request {
    let pairs = [
        ("resumableIdentifier", &file.identifier),
        ("filename", &file.name),
        ("relativePath", &file.path),
    ];
    let pairs = pairs.map(|(key, value)| format!("{key} {}", base64(value)));
    Request::tus("POST", collection).with("Upload-Metadata", pairs.join(","))
}

fn bound(site: &Site) -> Verdict {
    // Where the tus side is can be told from any upload.
    let url = File::new(20, 10).put(site, 1)?.url()?;
    let tus = tus_of(site, &url);
    let collection = tus.collection().to_owned();
    let create = |file: &File, body: &[u8]| {
        let request = creation(file, &collection).with("Upload-Length", file.length());
        let request = if body.is_empty() { request } else { request.octets() };
        let created = tus.ask(&request.body(body))?.is(201)?;
        let location = created.field("Location").map(crate::site::path_of);
        let location = location.unwrap_or_default().to_owned();
        Ok::<_, Failure>((location, created.number("Upload-Offset")))
    };
    let mut rows = Rows::new();
    for body in [0, 15] {
        rows.row(format!("there first, with {body} bytes"), || {
            let file = File::new(30, 10);
            let (location, offset) = create(&file, &file.content[..body])?;
            ensure_eq("the offset", offset, Some(body as u64))?;
            file.tests(site, 1, if body > 10 { Said::Chunk } else { Said::Absent })?;
            file.tests(site, 2, Said::Absent)?;
            let answer = file.put(site, 3)?;
            ensure_eq("the upload", answer.url()?, location)?;
            file.stores(site, 1)?;
            file.completes(site, 2)
        });
    }
    // Who knows no more than the name is not led to the upload (S-002).
    rows.row("here first", || {
        let file = File::new(30, 10);
        file.stores(site, 1)?;
        let url = file.put(site, 3)?.url()?;
        for body in [0, 15] {
            let (location, offset) = create(&file, &file.content[..body])?;
            ensure(location != url, "the creation leads to the upload of another")?;
            ensure_eq("the offset", offset, Some(body as u64))?;
        }
        file.completes(site, 2)
    });
    rows.row("another name", || {
        let file = File::new(30, 10);
        create(&file, &file.content[..15])?;
        let mut other = file;
        other.name.extend(b"x");
        other.tests(site, 1, Said::Absent)
    });
    rows.row("another length", || {
        let file = File::new(30, 10);
        file.stores(site, 1)?;
        let mut longer = file.clone();
        longer.content.extend(b"x");
        let (location, _) = create(&longer, b"")?;
        // It begins a session as a chunk at byte 0 would (J-017).
        file.tests(site, 1, Said::Absent)?;
        ensure_eq("the upload", longer.put(site, 2)?.url()?, location)?;
        longer.stores(site, 1)?;
        longer.completes(site, 3)
    });
    for (name, value) in [("Upload-Defer-Length", "1"), ("Upload-Concat", "partial")] {
        rows.row(name, || {
            let file = File::new(30, 10);
            let request = creation(&file, &collection).with(name, value);
            let request = if value == "1" { request } else { request.with("Upload-Length", 30) };
            let created = tus.ask(&request.octets().body(&file.content[..15]))?.is(201)?;
            let location = created.field("Location").map(crate::site::path_of);
            let location = location.unwrap_or_default().to_owned();
            file.tests(site, 1, Said::Absent)?;
            let other = file.put(site, 1)?.url()?;
            ensure(other != location, "the same upload")?;
            file.stores(site, 2)?;
            file.completes(site, 3)
        });
    }
    rows.verdict()
}

/// What one who guesses name and size of a file is told about it, and may do.
fn by_name(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for profile in Profile::ALL {
        for count in [2, 3] {
            rows.row(format!("{profile:?} {count} of 3"), || {
                let file = File::new(30, 10).profile(profile);
                let mut url = String::new();
                for number in 1..=count {
                    url = file.put(site, number)?.url()?;
                }
                let tus = tus_of(site, &url);
                for method in ["GET", "HEAD"] {
                    let status = file.status(site).method(method);
                    site.ask(&status)?.is(200)?.lacks("Location")?;
                }
                let copy = file.clone().cut(1).ask(7);
                let mut requests = vec![file.status(site), copy.request(site)];
                let test = file.ask(2).test(site);
                if count == 2 {
                    requests.push(test);
                } else {
                    site.ask(&test)?.is(204)?;
                }
                for request in requests {
                    let answer = site.ask(&request)?.is(200)?;
                    let upload = said_of(&answer)?["upload"].take();
                    let told = ["id", "url"].map(|member| upload.get(member).cloned());
                    ensure_eq(&format!("{} tells", answer.about), told, [None, None])?;
                }
                // What is unfinished can be cancelled by its name, and nothing else.
                let remove = file.status(site).method("DELETE");
                if count == 3 {
                    said(&site.ask(&remove)?)?.is(refused(404, "unknown_upload"))?;
                }
                let creation = creation(&file, tus.collection()).with("Upload-Length", 30);
                let created = tus.ask(&creation.body(b""))?.is(201)?;
                let location = created.field("Location").map(crate::site::path_of);
                ensure(location != Some(url.as_str()), "the creation leads to the upload")?;
                if count == 2 {
                    site.ask(&remove)?.is(204)?;
                    tus.ask(&Request::tus("HEAD", &url))?.is_one_of(&[404, 410])?;
                    return Ok(());
                }
                // The creation has begun a session, so that the name leads to it from now on.
                site.ask(&remove)?.is(204)?;
                tus.ask(&Request::plain("GET", &url))?.is(200)?.has_body(&file.content)?;
                Ok(())
            });
        }
    }
    rows.verdict()
}

fn deleted(site: &Site) -> Verdict {
    let file = File::new(30, 10);
    let url = file.put(site, 1)?.url()?;
    let tus = tus_of(site, &url);
    tus.ask(&Request::tus("DELETE", &url))?.is(204)?;
    file.put(site, 2)?.is(refused(404, "upload_expired"))?;
    file.tests(site, 1, Said::Absent)?;
    file.uploads(site)
}

fn status(site: &Site) -> Verdict {
    let file = File::new(100, 10);
    let ask = |more: &str| {
        let status = file.status(site);
        let target = format!("{}{more}", status.target);
        Request { target, ..status }
    };
    site.ask(&ask(""))?.is(404)?;
    for number in [1, 2, 5, 9] {
        file.stores(site, number)?;
    }
    let chunks = "&resumableChunkSize=10&resumableTotalSize=100&resumableTotalChunks=10";
    for method in ["GET", "HEAD"] {
        site.ask(&ask(chunks).method(method))?
            .is(200)?
            .has("Upload-Offset", 20)?
            .has("Upload-Length", 100)?
            .has("Upload-Missing", "20-39,50-79,90-99")?
            .lacks("Location")?;
    }
    let body = said_of(&site.ask(&ask(chunks))?)?;
    ensure_eq("contiguousChunks", body["contiguousChunks"].as_u64(), Some(2))?;
    let numbers = body["uploaded_chunks"].to_string();
    ensure_eq("uploaded_chunks", numbers.as_str(), "[1,2,5,9]")?;
    said(&site.ask(&ask("&resumableTotalSize=101"))?)?.is(refused(400, "total_size_mismatch"))?;
    for (target, method, status) in [
        ("", "GET", 400),
        ("", "DELETE", 400),
        (&*format!("?{}", file.ask(1).query()), "POST", 405),
        (&*format!("?{}", file.ask(1).query()), "PUT", 405),
    ] {
        let request = Request::plain(method, &format!("{}{target}", site.below("status")));
        site.ask(&request)?.is(status)?;
    }
    for form in [Form::Octet, Form::Multipart] {
        for number in [3, 4, 6, 7, 8] {
            file.clone().form(form).stores(site, number)?;
        }
    }
    file.completes(site, 10)?;
    site.ask(&ask(""))?.is(200)?.has("Upload-Offset", 100)?.lacks("Upload-Missing")?;
    Ok(())
}

fn said_of(response: &crate::message::Response) -> Result<serde_json::Value, Failure> {
    serde_json::from_slice(&response.body).map_err(Failure::new)
}

fn survives(site: &Site) -> Verdict {
    let mut own = site.launch(&[])?;
    let file = File::new(100, 10);
    let url = file.begins(&own.site)?.url()?;
    file.stores(&own.site, 4)?;
    patch(&own.site, &url, 0, &file.content[..25])?;
    file.stores(&own.site, 10)?;
    own.crash_and_restart()?;
    let site = &own.site;
    ensure_eq("the prefix", head(site, &url)?, Some(25))?;
    for (number, expected) in
        [(2, Said::Chunk), (3, Said::Absent), (4, Said::Chunk), (10, Said::Chunk)]
    {
        file.tests(site, number, expected)?;
    }
    patch(site, &url, 25, &file.content[25..80])?;
    file.completes(site, 9)
}
