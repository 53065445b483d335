//! What the three libraries send, and what they are told: files cut into chunks as requests, and
//! answers as one of the few things they can say.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::content::{base64, bytes};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::message::{Request, Response};
use crate::site::{Site, path_of};
use crate::tus;

/// A library, by the names that it gives its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// resumable.js.
    Resumable,
    /// flow.js.
    Flow,
    /// simple-uploader.js.
    Simple,
}

/// How a request carries its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A form; parameters in its fields: resumable.js 1.0.2, flow.js, simple-uploader.js.
    Multipart,
    /// A form; parameters in its fields and in the query: resumable.js 1.1.0 and later.
    Doubled,
    /// The bytes alone; parameters in the query.
    Octet,
    /// A form whose chunk is text, in base64.
    Base64,
}

/// How a file is cut at its end. No request says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// The last chunk takes the remainder.
    Floor,
    /// The remainder is a chunk of its own (`forceChunkSize`).
    Ceil,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Resumable, Self::Flow, Self::Simple];

    /// What the library calls a parameter of the contract (C-53); other names stay.
    pub fn name(self, short: &str) -> String {
        let (resumable, rest) = match short {
            "k" => ("resumableChunkNumber", "ChunkNumber"),
            "c" => ("resumableChunkSize", "ChunkSize"),
            "s" => ("resumableCurrentChunkSize", "CurrentChunkSize"),
            "T" => ("resumableTotalSize", "TotalSize"),
            "n" => ("resumableTotalChunks", "TotalChunks"),
            "id" => ("resumableIdentifier", "Identifier"),
            "name" => ("resumableFilename", "Filename"),
            "path" => ("resumableRelativePath", "RelativePath"),
            "type" => ("resumableType", "Type"),
            other => return other.to_owned(),
        };
        match self {
            Self::Resumable => resumable.to_owned(),
            Self::Flow => format!("flow{rest}"),
            Self::Simple => rest[..1].to_lowercase() + &rest[1..],
        }
    }
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Multipart, Self::Doubled, Self::Octet, Self::Base64];
}

/// A file that a page uploads.
#[derive(Clone, Debug)]
pub struct File {
    /// The library.
    pub profile: Profile,
    /// How chunks travel.
    pub form: Form,
    /// How the file is cut.
    pub tail: Tail,
    /// The method of uploads.
    pub method: &'static str,
    /// The configured size of a chunk.
    pub chunk: u64,
    /// What the library takes for the identity of the file.
    pub identifier: Vec<u8>,
    /// The name.
    pub name: Vec<u8>,
    /// The relative path.
    pub path: Vec<u8>,
    /// The bytes.
    pub content: Vec<u8>,
}

/// One chunk that is tested or uploaded: parameters by their short names, and bytes.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The library.
    pub profile: Profile,
    /// How it travels.
    pub form: Form,
    /// The method of the upload.
    pub method: String,
    /// In the order in which they are sent.
    pub parameters: Vec<(String, Vec<u8>)>,
    /// The chunk.
    pub payload: Vec<u8>,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// 200: these bytes are there, the file is not yet.
    Chunk,
    /// 200: the file is there.
    File,
    /// 204: they are not there.
    Absent,
    /// Something else, with its code.
    Refused(u16, String),
}

/// A no with this status and code.
pub fn refused(status: u16, code: &str) -> Said {
    Said::Refused(status, code.to_owned())
}

/// An answer and what it says about the upload.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The verdict.
    pub said: Said,
    /// The upload, as in the body.
    pub upload: Value,
    /// The body.
    pub body: Value,
}

/// Sets apart files of one run from those of all others, so that a server may be tested twice.
fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let started = std::time::UNIX_EPOCH.elapsed().map_or(0, |age| age.as_nanos());
    format!("{:x}-{}-{}", started, std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl File {
    /// A new file of `length` bytes, in chunks of `chunk`, as resumable.js sends it.
    pub fn new(length: usize, chunk: u64) -> Self {
        let name = unique();
        Self {
            profile: Profile::Resumable,
            form: Form::Multipart,
            tail: Tail::Floor,
            method: "POST",
            chunk,
            identifier: format!("{length}-{name}").into_bytes(),
            path: name.clone().into_bytes(),
            content: bytes(length, name.bytes().map(u64::from).fold(7, |a, b| a * 31 % 99_991 + b)),
            name: name.into_bytes(),
        }
    }

    /// The same, cut the other way.
    pub fn ceil(mut self) -> Self {
        self.tail = Tail::Ceil;
        self
    }

    /// The same in another form.
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// The same from another library.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// The same in chunks of another size.
    pub fn cut(mut self, chunk: u64) -> Self {
        self.chunk = chunk;
        self
    }

    /// The same by another method.
    pub fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.content.len() as u64
    }

    /// The number of chunks.
    pub fn count(&self) -> u64 {
        let whole = match self.tail {
            Tail::Floor => self.length() / self.chunk,
            Tail::Ceil => self.length().div_ceil(self.chunk),
        };
        whole.max(1)
    }

    /// The bytes of a chunk.
    pub fn range(&self, number: u64) -> Range<u64> {
        let start = (number - 1) * self.chunk;
        if number == self.count() { start..self.length() } else { start..start + self.chunk }
    }

    /// A chunk as the library sends it.
    pub fn ask(&self, number: u64) -> Ask {
        let range = self.range(number);
        let payload = self.content[index(range.start)..index(range.end)].to_vec();
        let number_of = |n: u64| n.to_string().into_bytes();
        let mut parameters = vec![
            ("k", number_of(number)),
            ("c", number_of(self.chunk)),
            ("s", number_of(range.end - range.start)),
            ("T", number_of(self.length())),
            ("type", Vec::new()),
            ("id", self.identifier.clone()),
            ("name", self.name.clone()),
            ("path", self.path.clone()),
            ("n", number_of(self.count())),
        ];
        if self.profile != Profile::Resumable {
            parameters.retain(|(name, _)| *name != "type");
        }
        let parameters = parameters.into_iter().map(|(name, value)| (name.to_owned(), value));
        Ask {
            profile: self.profile,
            form: self.form,
            method: self.method.to_owned(),
            parameters: parameters.collect(),
            payload,
        }
    }

    /// Uploads a chunk.
    pub fn put(&self, site: &Site, number: u64) -> Result<Answer, Failure> {
        self.ask(number).put(site)
    }

    /// Begins a session with the first byte alone, so that chunks from the middle may come first
    /// (J-043).
    #[track_caller]
    pub fn begins(&self, site: &Site) -> Result<Answer, Failure> {
        let answer = self.clone().cut(1).put(site, 1)?;
        answer.clone().is(Said::Chunk)?;
        Ok(answer)
    }

    /// Uploads a chunk that must be stored, while others are missing.
    #[track_caller]
    pub fn stores(&self, site: &Site, number: u64) -> Verdict {
        self.put(site, number)?.is(Said::Chunk)
    }

    /// Uploads the chunk that completes the file, and reads the file back.
    #[track_caller]
    pub fn completes(&self, site: &Site, number: u64) -> Verdict {
        let answer = self.put(site, number)?;
        answer.clone().is(Said::File)?;
        self.reads_back(site, &answer)
    }

    /// Uploads a chunk again that the complete file holds. It is a yes, and leads nobody to the
    /// upload (S-002).
    #[track_caller]
    pub fn repeats(&self, site: &Site, number: u64) -> Verdict {
        let answer = self.put(site, number)?;
        answer.leads_nowhere()?;
        answer.is(Said::File)
    }

    /// Uploads all chunks in order and reads the file back.
    #[track_caller]
    pub fn uploads(&self, site: &Site) -> Verdict {
        for number in 1..self.count() {
            self.stores(site, number)?;
        }
        self.completes(site, self.count())
    }

    /// Expects the status resource to say that the file is complete, and tests of `number` that
    /// nothing is present: a client that tests begins anew (J-044).
    #[track_caller]
    pub fn is_complete(&self, site: &Site, number: u64) -> Verdict {
        let status = site.ask(&self.status(site))?.is(200)?;
        status.has("Upload-Offset", self.length())?.lacks("Upload-Missing")?;
        self.tests(site, number, Said::Absent)
    }

    /// What a test says about a chunk.
    pub fn test(&self, site: &Site, number: u64) -> Result<Said, Failure> {
        Ok(said(&site.ask(&self.ask(number).test(site))?)?.said)
    }

    /// Expects a test to say this.
    #[track_caller]
    pub fn tests(&self, site: &Site, number: u64, expected: Said) -> Verdict {
        let said = self.test(site, number)?;
        ensure_eq(&format!("the test of chunk {number}"), said, expected)
    }

    /// Expects the download of a complete file to be its bytes.
    #[track_caller]
    pub fn reads_back(&self, site: &Site, answer: &Answer) -> Verdict {
        self.reads_from(site, &answer.url()?)
    }

    /// Expects the download of the complete file at `url` to be its bytes.
    #[track_caller]
    pub fn reads_from(&self, site: &Site, url: &str) -> Verdict {
        tus_of(site, url).ask(&Request::plain("GET", url))?.is(200)?.has_body(&self.content)?;
        Ok(())
    }

    /// The request for the status of the upload.
    pub fn status(&self, site: &Site) -> Request {
        let ask = self.ask(1);
        let keys = ["id", "name", "path"];
        let parameters = ask.parameters.iter();
        let query =
            query(self.profile, parameters.filter(|(name, _)| keys.contains(&name.as_str())));
        Request::plain("GET", &format!("{}?{query}", site.below("status")))
    }
}

impl Ask {
    /// The same with another value for a parameter.
    pub fn set(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref().to_vec();
        match self.parameters.iter_mut().find(|(known, _)| known == name) {
            Some(parameter) => parameter.1 = value,
            None => self.parameters.push((name.to_owned(), value)),
        }
        self
    }

    /// The same with one more parameter, also a second one of its name.
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.parameters.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// The same without a parameter.
    pub fn without(mut self, name: &str) -> Self {
        self.parameters.retain(|(known, _)| known != name);
        self
    }

    /// The same with other bytes.
    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.payload = payload.as_ref().to_vec();
        self
    }

    /// The parameters as a query.
    pub fn query(&self) -> String {
        query(self.profile, self.parameters.iter())
    }

    /// The test before the upload.
    pub fn test(&self, site: &Site) -> Request {
        Request::plain("GET", &format!("{}?{}", site.collection(), self.query()))
    }

    /// The upload.
    pub fn request(&self, site: &Site) -> Request {
        let path = site.collection();
        let target = match self.form {
            Form::Doubled | Form::Octet => format!("{path}?{}", self.query()),
            Form::Multipart | Form::Base64 => path.to_owned(),
        };
        let request = Request::plain(&self.method, &target);
        if self.form == Form::Octet {
            let request = request.with("Content-Type", "application/octet-stream");
            return request.body(&self.payload);
        }
        let fields = self.parameters.iter();
        let mut form = Multipart::new();
        for (name, value) in fields {
            form = form.field(&self.profile.name(name), value);
        }
        let form = if self.form == Form::Base64 {
            let text = format!("data:text/plain;base64,{}", base64(&self.payload));
            form.field("file", text.as_bytes())
        } else {
            form.file("file", "blob", &self.payload)
        };
        form.into_request(request)
    }

    /// Uploads it.
    pub fn put(&self, site: &Site) -> Result<Answer, Failure> {
        said(&site.ask(&self.request(site))?)
    }
}

impl Answer {
    /// Expects this verdict.
    #[track_caller]
    pub fn is(self, expected: Said) -> Verdict {
        let message = format!("says {:?}, expected {expected:?}: {}", self.said, self.body);
        ensure(self.said == expected, message)
    }

    /// Expects that nobody finds the upload by it (S-002).
    #[track_caller]
    pub fn leads_nowhere(&self) -> Verdict {
        let told = ["id", "url"].iter().any(|member| self.upload.get(member).is_some());
        ensure(!told, format!("the answer leads to the upload: {}", self.body))
    }

    /// The path at which tus clients find the upload.
    pub fn url(&self) -> Result<String, Failure> {
        let url = self.upload["url"].as_str().map(|url| path_of(url).to_owned());
        url.ok_or_else(|| Failure::new(format!("no upload.url in {}", self.body)))
    }
}

/// A body of `multipart/form-data` that is put together piece by piece.
#[derive(Clone, Debug)]
pub struct Multipart {
    /// Everything so far.
    pub bytes: Vec<u8>,
}

/// What stands between the parts of every form here, as browsers make it.
pub const BOUNDARY: &str = "----WebKitFormBoundaryJ0sm3Xb4nK2qf7hT";

impl Default for Multipart {
    fn default() -> Self {
        Self::new()
    }
}

impl Multipart {
    /// A form without parts.
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// A part with this head, which is sent as it is.
    pub fn part(mut self, head: impl AsRef<[u8]>, value: &[u8]) -> Self {
        self.bytes.extend(format!("--{BOUNDARY}\r\n").bytes());
        self.bytes.extend(head.as_ref());
        self.bytes.extend(b"\r\n\r\n");
        self.bytes.extend(value);
        self.bytes.extend(b"\r\n");
        self
    }

    /// A field, its name escaped as browsers do.
    pub fn field(self, name: &str, value: &[u8]) -> Self {
        let name = escaped(name);
        self.part(format!("Content-Disposition: form-data; name=\"{name}\""), value)
    }

    /// A file.
    pub fn file(self, name: &str, filename: &str, bytes: &[u8]) -> Self {
        let (name, filename) = (escaped(name), escaped(filename));
        let head = format!(
            "Content-Disposition: form-data; name=\"{name}\"; filename=\"{filename}\"\r\n\
             Content-Type: application/octet-stream"
        );
        self.part(head, bytes)
    }

    /// All of it, with the end.
    pub fn end(mut self) -> Vec<u8> {
        self.bytes.extend(format!("--{BOUNDARY}--\r\n").bytes());
        self.bytes
    }

    /// `request` with this body.
    pub fn into_request(self, request: Request) -> Request {
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        request.with("Content-Type", kind).body(self.end())
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('"', "%22");
    text.replace('\r', "%0D").replace('\n', "%0A")
}

fn query<'a>(profile: Profile, parameters: impl Iterator<Item = &'a (String, Vec<u8>)>) -> String {
    let pairs = parameters.map(|(name, value)| {
        let name = profile.name(name);
        format!("{}={}", encoded(name.as_bytes()), encoded(value))
    });
    pairs.collect::<Vec<_>>().join("&")
}

/// `encodeURIComponent`, of any bytes.
pub fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// What an answer on the main path says; anything else than A-001 lists is a failure.
pub fn said(response: &Response) -> Result<Answer, Failure> {
    let body = if response.body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&response.body).map_err(|error| {
            let text = response.text();
            Failure::new(format!("{}: {error} in {text:?}", response.about))
        })?
    };
    let yes = |member: &str| body[member] == Value::Bool(true);
    let said = match (response.status, yes("chunkUploadStatus"), yes("fileUploadStatus")) {
        (200, true, false) => Said::Chunk,
        (200, false, true) => Said::File,
        (204, false, false) => Said::Absent,
        (status, false, false) if status >= 400 => {
            let code = body["error"]["code"].as_str().unwrap_or_default();
            refused(status, code)
        }
        (status, ..) => {
            let about = &response.about;
            return Err(Failure::new(format!("{about} answers {status} {body}")));
        }
    };
    Ok(Answer { said, upload: body["upload"].clone(), body })
}

/// The tus collection that holds the upload at `url`.
pub fn tus_of(site: &Site, url: &str) -> Site {
    let collection = url.rsplit_once('/').map_or("/", |(path, _)| path);
    site.beside(&tus::CONTRACT, collection)
}

fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
