//! What clients of drf-chunked-upload send, and what they read in answers.

use serde_json::Value;

use crate::failure::{Failure, Verdict, ensure};
use crate::message::{Request, Response};
use crate::site::{Site, path_of};

const BOUNDARY: &str = "----drf";

/// A field of a form, or a file.
#[derive(Clone, Copy, Debug)]
pub enum Field<'a> {
    /// A file, in the field of this name.
    File(&'a str, &'a [u8]),
    /// A value.
    Text(&'a str, &'a str),
}

/// The usual file.
pub fn file(content: &[u8]) -> Field<'_> {
    Field::File("file", content)
}

/// A name for the file.
pub const NAMED: Field<'static> = Field::Text("filename", "x.bin");

/// A form as browsers and `requests` write it.
pub fn form(request: Request, fields: &[Field<'_>]) -> Request {
    let mut body = Vec::new();
    for field in fields {
        let (name, more, value) = match field {
            Field::File(name, content) => (name, "; filename=\"own-name\"", *content),
            Field::Text(name, value) => (name, "", value.as_bytes()),
        };
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    request.with("Content-Type", format!("multipart/form-data; boundary={BOUNDARY}")).body(body)
}

/// A chunk for `target`: the collection or an upload.
pub fn chunk(target: &str, range: &str, fields: &[Field<'_>]) -> Request {
    form(Request::plain("PUT", target).with("Content-Range", format!("bytes {range}")), fields)
}

/// The request that completes an upload.
pub fn completion(target: &str, checksum: &str) -> Request {
    Request::plain("POST", target)
        .with("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("md5={checksum}"))
}

/// The md5 of `content`, as clients send it.
pub fn md5(content: &[u8]) -> String {
    crate::content::digest("md5", content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The JSON of an answer.
pub fn json(response: &Response) -> Result<Value, Failure> {
    serde_json::from_slice(&response.body).map_err(|_| {
        Failure::new(format!("{} says no JSON but {}", response.about, response.text()))
    })
}

/// The state that an answer of 200 tells.
pub fn state(response: Response) -> Result<Value, Failure> {
    json(&response.is(200)?)
}

/// Holds a member of a state against a value.
#[track_caller]
pub fn tells(state: &Value, name: &str, expected: impl Into<Value>) -> Verdict {
    let (found, expected) = (&state[name], expected.into());
    ensure(*found == expected, format!("{name} is {found}, expected {expected}"))
}

/// Holds an answer against a status and its whole JSON.
#[track_caller]
pub fn says(response: Response, status: u16, body: Value) -> Verdict {
    let response = response.is(status)?;
    let found = json(&response)?;
    ensure(found == body, format!("{} says {found}, expected {body}", response.about))
}

/// Holds an answer against a status and the text of `detail`.
#[track_caller]
pub fn fails(response: Response, status: u16, detail: &str) -> Verdict {
    let response = response.is(status)?;
    let found = &json(&response)?["detail"];
    let expected = Value::from(detail);
    ensure(*found == expected, format!("{} says {found}, expected {expected}", response.about))
}

/// The path of the collection, with the slash at its end that clients send.
pub fn collection(site: &Site) -> String {
    site.below("")
}

/// The path of a URL that a state tells.
pub fn path_in(state: &Value, name: &str) -> String {
    path_of(state[name].as_str().unwrap_or_default()).to_owned()
}

/// The path of a new upload that has `content` of `total` bytes.
pub fn begun(site: &Site, content: &[u8], total: usize) -> Result<String, Failure> {
    let range = format!("0-{}/{total}", content.len() - 1);
    let made = site.ask(&chunk(&collection(site), &range, &[NAMED, file(content)]))?;
    Ok(path_in(&state(made)?, "url"))
}

/// The offset that the state of an upload tells.
pub fn offset(site: &Site, path: &str) -> Result<u64, Failure> {
    let state = state(site.ask(&Request::plain("GET", path))?)?;
    state["offset"].as_u64().ok_or_else(|| Failure::new(format!("no offset: {state}")))
}
