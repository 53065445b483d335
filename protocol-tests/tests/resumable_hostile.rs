//! A corpus of hostile text in every place where a ResumableJS client may put text: none of it
//! becomes a path, a field of an answer, or a line of the log.

use std::path::Path;

use protocol_tests::case::Setup;
use protocol_tests::contract::Contract;
use protocol_tests::failure::{Failure, Verdict, ensure};
use protocol_tests::http1::head;
use protocol_tests::message::{Request, Response};
use protocol_tests::resumable::client::{Ask, BOUNDARY, File, Form, Multipart, encoded, tus_of};
use protocol_tests::server::{self, Windlass};
use protocol_tests::site::{Base, Site};

/// What gives client text away wherever it turns up. Each text holds it.
const CANARY: &str = "zq7canary";

/// Texts; `@` stands for the canary.
const CORPUS: &[&[u8]] = &[
    b"@",
    b"../../@",
    b"..\\..\\@",
    b"/etc/@",
    b"/tmp/@",
    b"C:\\@",
    b"file:///tmp/@",
    b"./@",
    b"@/../../../../tmp/@",
    b"....//....//tmp/@",
    b"%2e%2e%2f@",
    b"..%00/@",
    b"@\0.txt",
    b"@.part",
    b"@.record",
    b"lock@",
    b"@\r\nX-Injected: 1",
    b"@\nX-Injected: 1",
    b"@\rX-Injected: 1",
    b"@%0d%0aX-Injected: 1",
    b"@%0aX-Injected: 1",
    b"@\r\n\r\nHTTP/1.1 200 OK\r\nX-Injected: 1\r\n\r\n",
    b"@\"; filename=\"/tmp/@",
    b"@\"\r\nContent-Type: text/html\r\n\r\n<script>",
    b"@\\\"; name=\"file",
    b"@'\"`;|&$(touch /tmp/@)",
    b"@\x1b[2J\x1b[31mred\x1b]0;title\x07",
    b"@\xc2\x9b31m",
    b"@\n2026-01-01T00:00:00.000000Z  INFO windlass: forged",
    b"@\r\n2026-01-01T00:00:00.000000Z ERROR windlass: forged",
    b"@\x08\x08\x08\x7f\t\x0b\x0c",
    b"\xe2\x80\xae@gnp.exe",
    b"\xe2\x81\xa6@\xe2\x81\xa9",
    b"\xef\xbb\xbf@\xe2\x80\xa8\xe2\x80\xa9",
    b"@\xff\xfe\xfd",
    b"\xc0\xae\xc0\xae/@",
    b"\xed\xa0\x80@",
    b"@\xf0\x9f\x98\x80",
    b"${jndi:ldap://127.0.0.1/@}",
    b"{} %s %n {0} {@}",
    b"[@] *? {a,b}",
    b"text/html; charset=\"@\"",
    b"text/@\r\nX-Injected: 1",
    b"<img src=x onerror=alert(1)>@",
    b"--@--",
    b"CON@",
    b" @ ",
];

/// The texts with the canary in them, and two that are long.
fn corpus() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = Vec::new();
    for text in CORPUS {
        let pieces: Vec<&[u8]> = text.split(|byte| *byte == b'@').collect();
        texts.push(pieces.join(CANARY.as_bytes()));
    }
    texts.push([CANARY.as_bytes(), &b"a".repeat(10_000)].concat());
    texts.push([CANARY.as_bytes(), &b"../".repeat(300)].concat());
    texts
}

/// One server, and what it must not do.
struct Hostile {
    site: Site,
    process: Windlass,
}

impl Hostile {
    fn start() -> Result<Self, Failure> {
        let binary = server::binary().ok_or_else(|| Failure::new("no windlass binary"))?;
        let flags = ["--durability", "relaxed", "--log-level", "trace"];
        let process = Windlass::start(&binary, &flags)?;
        let base = Base::parse(process.url_of("resumable")?)?;
        let contract = Contract::by_name("resumable").ok_or_else(|| Failure::new("no contract"))?;
        let site = Site::new(contract, base, Setup::Plain, "hostile", Default::default());
        Ok(Self { site, process })
    }

    fn ask(&self, request: &Request) -> Result<Option<Response>, Failure> {
        // A parser may end the connection: then there is no answer to judge.
        let answer = self.site.connect()?.ask(request).ok();
        answer.as_ref().map_or(Ok(()), is_clean)?;
        Ok(answer)
    }

    /// The same over HTTP/2, whose log has lines of its own about fields.
    fn ask_by_http2(&self, request: &Request) -> Verdict {
        let answer = self.site.session()?.ask(request, &self.site.base.host);
        answer.ok().as_ref().map_or(Ok(()), is_clean)
    }

    /// A chunk, its test, its status, and how the upload looks to tus clients.
    fn everything(&self, ask: &Ask, file: &File) -> Verdict {
        self.ask(&ask.test(&self.site))?;
        let answer = self.ask(&ask.request(&self.site))?;
        self.ask_by_http2(&ask.request(&self.site))?;
        self.ask(&file.status(&self.site))?;
        let body = answer.map(|answer| answer.body).unwrap_or_default();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        if let Some(url) = body["upload"]["url"].as_str() {
            let tus = tus_of(&self.site, url);
            for request in [
                Request::tus("HEAD", url),
                Request::plain("GET", url).with("Origin", "https://other.example"),
            ] {
                is_clean(&tus.ask(&request)?)?;
            }
        }
        self.ask(&file.status(&self.site).method("DELETE"))?;
        Ok(())
    }
}

/// Whether no field of an answer holds text of a client but as the grammar of the field allows.
fn is_clean(answer: &Response) -> Verdict {
    for (name, value) in &answer.fields {
        let field = format!("{}: {name}: {value:?}", answer.about);
        let plain = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        ensure(plain, format!("{field} holds raw text"))?;
        ensure(name != "x-injected", format!("{field} was forged"))?;
        // A download is called what the file is called, escaped; a media type that is one is told;
        // tus metadata are base64; an origin is told that it may read.
        let speaks = [
            "access-control-allow-origin",
            "content-disposition",
            "content-type",
            "upload-metadata",
        ];
        let silent = speaks.contains(&name.as_str()) || !value.contains(CANARY);
        ensure(silent, format!("{field} holds text of the client"))?;
    }
    let is_json = answer.field("content-type") == Some("application/json");
    if is_json && !answer.body.is_empty() {
        let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&answer.body);
        let about = format!("{}: {}", answer.about, answer.text());
        ensure(parsed.is_ok(), format!("{about} is no JSON"))?;
        let raw = answer.body.iter().any(|byte| *byte < b' ');
        ensure(!raw, format!("{about} holds control characters"))?;
    }
    Ok(())
}

#[test]
fn hostile_text_reaches_no_path_field_or_log() -> Result<(), Failure> {
    let hostile = Hostile::start()?;
    let before = names_in(&std::env::temp_dir());
    for text in corpus() {
        let within = |failure: Failure| failure.within(encoded(&text[..text.len().min(60)]));
        parameters(&hostile, &text).map_err(within)?;
        parts(&hostile, &text).map_err(within)?;
        heads(&hostile, &text).map_err(within)?;
    }
    let new: Vec<_> = names_in(&std::env::temp_dir())
        .into_iter()
        .filter(|name| !before.contains(name) && name.contains(CANARY))
        .collect();
    assert!(new.is_empty(), "files outside of the store: {new:?}");
    files_are_the_stores_own(&hostile.process)?;
    assert_eq!(hostile.process.panics(), Vec::<String>::new());
    log_is_clean(&hostile.process.log())
}

/// In each parameter, each form, and as the name of a parameter.
fn parameters(hostile: &Hostile, text: &[u8]) -> Verdict {
    for form in Form::ALL {
        for place in ["id", "name", "path", "type"] {
            let mut file = File::new(20, 10).form(form);
            // So that the download shows the name as well.
            file.chunk = 20;
            let text = text.to_vec();
            match place {
                "id" => file.identifier = text.clone(),
                "name" => file.name = text.clone(),
                "path" => file.path = text.clone(),
                _ => {}
            }
            let ask = file.ask(1);
            let ask = if place == "type" { ask.set("type", &text) } else { ask };
            hostile.everything(&ask, &file)?;
        }
        if form == Form::Doubled || form == Form::Base64 {
            continue;
        }
        let file = File::new(10, 10).form(form);
        for place in ["k", "c", "s", "T", "n", "checksum"] {
            let ask = file.ask(1).set(place, text);
            hostile.ask(&ask.test(&hostile.site))?;
            hostile.ask(&ask.request(&hostile.site))?;
        }
        let name = String::from_utf8_lossy(text).into_owned();
        hostile.ask(&file.ask(1).with(&name, text).request(&hostile.site))?;
        // A checksum that names an algorithm of its own.
        let checksum = [text, b" AAAA"].concat();
        hostile.ask(&file.ask(1).set("checksum", checksum).request(&hostile.site))?;
    }
    Ok(())
}

/// In the head of a part: name, file name, media type, a field of its own, and raw in between.
fn parts(hostile: &Hostile, text: &[u8]) -> Verdict {
    let file = File::new(10, 10);
    let heads = [
        part("form-data; name=\"", text, "\"; filename=\"x\""),
        part("form-data; name=\"file\"; filename=\"", text, "\""),
        part("form-data; name=\"file\"; filename*=UTF-8''", text, ""),
        part("form-data; name=", text, "; filename=x"),
        part("form-data; name=\"file\"; filename=\"x\"\r\nContent-Type: ", text, ""),
        part("form-data; name=\"file\"; filename=\"x\"\r\nX-Other: ", text, ""),
        part("", text, "; name=\"file\"; filename=\"x\""),
        text.to_vec(),
    ];
    for head in heads {
        let ask = file.ask(1);
        let fields = ask.parameters.iter().fold(Multipart::new(), |form, (name, value)| {
            form.field(&file.profile.name(name), value)
        });
        let form = fields.part(head, &ask.payload);
        let request = Request::plain("POST", hostile.site.collection());
        hostile.ask(&form.into_request(request))?;
    }
    Ok(())
}

fn part(before: &str, text: &[u8], after: &str) -> Vec<u8> {
    let head = format!("Content-Disposition: {before}");
    [head.as_bytes(), text, after.as_bytes()].concat()
}

/// In the head of the request: target, boundary, fields of other kinds.
fn heads(hostile: &Hostile, text: &[u8]) -> Verdict {
    let file = File::new(10, 10);
    let site = &hostile.site;
    let escaped = encoded(text);
    let query = file.ask(1).query();
    for target in [
        format!("{}?{escaped}={escaped}&{query}", site.collection()),
        format!("{}?{query}&{escaped}", site.collection()),
        format!("{}/{escaped}?{query}", site.collection()),
        format!("{}/status/{escaped}", site.collection()),
        format!("/{escaped}"),
    ] {
        for method in ["GET", "POST", "DELETE"] {
            hostile.ask(&Request::plain(method, &target))?;
        }
    }
    let lines = [
        "Checksum",
        "Upload-Checksum",
        "Origin",
        "Content-Encoding",
        "X-Forwarded-Host",
        "Host",
        "Referer",
        "Cookie",
    ];
    let request = file.ask(1).request(site);
    for name in lines {
        hostile.ask(&request.clone().set(name, "").without(name).with_raw(name, text))?;
    }
    let kinds = [
        [b"multipart/form-data; boundary=", text].concat(),
        [b"multipart/form-data; boundary=\"", text, b"\""].concat(),
        [format!("multipart/form-data; boundary={BOUNDARY}; x=").as_bytes(), text].concat(),
        text.to_vec(),
    ];
    for kind in kinds {
        hostile.ask(&request.clone().without("Content-Type").with_raw("Content-Type", &kind))?;
    }
    // As it is, in the request line: most of it is no HTTP, and answered as such or not at all.
    let mut bytes = head(&Request::plain("GET", "@"), &site.base.host);
    let at = bytes.iter().position(|byte| *byte == b'@').unwrap_or(0);
    let target = [site.collection().as_bytes(), b"?resumableIdentifier=", text].concat();
    bytes.splice(at..=at, target);
    let mut link = site.connect()?;
    link.raw.send(&bytes)?;
    link.raw.half_close()?;
    if let Ok(answer) = link.raw.read_head() {
        is_clean(&answer)?;
    }
    Ok(())
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Ids, with an ending of the store's, and the store's own few files, all in one directory.
fn files_are_the_stores_own(process: &Windlass) -> Verdict {
    let files = process.files();
    ensure(files.len() > 10, "nothing was stored: the test shows nothing")?;
    for (path, _) in files {
        let name = path.strip_prefix(process.data()).unwrap_or(&path);
        let name = name.to_string_lossy().into_owned();
        let (stem, ending) = name.split_once('.').unwrap_or((&name, ""));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_id = stem.len() >= 22 && stem.bytes().all(plain);
        let own = is_id && ["", "part", "record", "name"].contains(&ending);
        let known = ["lock", "secret", ".lock", ".secret"].contains(&name.as_str())
            || name.contains("secret");
        ensure(own || known, format!("a file called {name:?}"))?;
    }
    Ok(())
}

/// Each line is one that the server began itself, without a control character or a mark that turns
/// the reading order.
fn log_is_clean(log: &[u8]) -> Verdict {
    let text = String::from_utf8(log.to_vec()).map_err(Failure::new)?;
    ensure(text.lines().count() > 100, "the log says little: the test shows nothing")?;
    for line in text.lines() {
        let about = format!("in the log: {line:?}");
        let levels = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
        let mut words = line.split_whitespace();
        let stamped = words.next().is_some_and(|word| word.ends_with('Z') && word.len() >= 20);
        let levelled = words.next().is_some_and(|word| levels.contains(&word));
        ensure(stamped && levelled, format!("no line of the server's {about}"))?;
        ensure(!line.contains("windlass: forged"), format!("a forged line {about}"))?;
        let bad = |c: char| {
            c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
        };
        ensure(!line.chars().any(bad), format!("a control character {about}"))?;
    }
    Ok(())
}
