//! Forms, as they stream in, and the requests of ResumableJS and drf-chunked-upload clients. Where
//! the frames of a body end must make no difference.

use http::{Request, request::Parts};
use windlass::{
    content::{Content, Step},
    rules::{Intent, Refusal},
    upload::Limits,
    wire::{
        Dialect,
        drf::Drf,
        form::{Form, MAX_FIELD_BYTES, MAX_FIELDS, Shape},
        location::Locations,
        resumable_js::ResumableJs,
    },
};

use crate::input::{Frames, Input, in_paused_time};

/// What a form says.
type Said = Result<(Vec<(String, Vec<u8>)>, Option<Vec<u8>>), Refusal>;

/// A form, read in one piece and in many.
pub fn form(data: &[u8]) {
    let mut input = Input::new(data);
    let (most, shape) = (usize::from(input.byte()) + 1, input.byte());
    let count = u64::from(input.byte());
    let shape = match shape % 3 {
        0 => Shape::Delimited,
        1 => Shape::Base64(count),
        _ => Shape::Exact(count),
    };
    let body = input.rest();
    let (whole, cut) = in_paused_time(async {
        (read(body, body.len(), shape).await, read(body, most, shape).await)
    });
    match (whole, cut) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole, cut, "J-023: it depends on the frames"),
        (Err(_), Err(_)) => {}
        (whole, cut) => panic!("it depends on the frames: {whole:?}, {cut:?}"),
    }
}

async fn read(body: &[u8], most: usize, shape: Shape) -> Said {
    let content = Content::new(Frames::cut(body, most));
    let mut form = Form::new(content, "B");
    let mut fields = Vec::new();
    while let Some(part) = form.next_part().await? {
        if part.is_file() || part.name == "file" {
            let payload = form.payload(part, shape, Box::new(|_, _| Ok(())));
            return Ok((fields, Some(all(payload).await?)));
        }
        let value = form.value().await?;
        fields.push((part.name, value));
        let bytes: usize = fields.iter().map(|(_, value)| value.len()).sum();
        assert!(
            fields.len() <= MAX_FIELDS + 1 && bytes <= MAX_FIELD_BYTES,
            "{} fields of {bytes} bytes",
            fields.len()
        );
    }
    Ok((fields, None))
}

async fn all(mut content: Content) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    while let Some(step) = content.next().await {
        match step.expect("nothing is cut off") {
            Step::Trailer(_) => {}
            Step::Data(data) => bytes.extend_from_slice(&data),
            Step::Refused(refusal) => return Err(refusal),
        }
    }
    Ok(bytes)
}

/// A request of a ResumableJS client, with its parameters in the query and in a form.
pub fn resumable(data: &[u8]) {
    let mut input = Input::new(data);
    let most = usize::from(input.byte()) + 1;
    let method = input.pick(&["POST", "GET", "PUT", "HEAD", "DELETE"]);
    let media_type = input.pick(&["multipart/form-data; boundary=B", "application/octet-stream"]);
    let query = input.line();
    let body = input.rest();
    let Ok(uri) = http::Uri::try_from([b"/resumable?".as_slice(), query].concat()) else {
        return;
    };
    let head = Request::builder().method(method).uri(uri).header("content-type", media_type);
    let (head, ()) = head.body(()).expect("a request").into_parts();
    let dialect = ResumableJs::new(Locations::new("/resumable".parse().expect("a path")), "secret");
    same_in_any_frames(&dialect, &head, body, most);
}

/// A request of a drf-chunked-upload client.
pub fn chunked(data: &[u8]) {
    let mut input = Input::new(data);
    let most = usize::from(input.byte()) + 1;
    let method = input.pick(&["PUT", "POST", "GET", "HEAD", "DELETE"]);
    let path = input.pick(&["/chunked/", "/chunked/c0ffee00-0000-4000-8000-000000000000/"]);
    let media_type = input.pick(&[
        "multipart/form-data; boundary=B",
        "application/json",
        "application/x-www-form-urlencoded",
    ]);
    let range = input.line();
    let body = input.rest();
    let head = Request::builder().method(method).uri(path).header("content-type", media_type);
    let Ok(head) = head.header("content-range", range).body(()) else {
        return;
    };
    let dialect = Drf::new(Locations::new("/chunked".parse().expect("a path")));
    same_in_any_frames(&dialect, &head.into_parts().0, body, most);
}

fn same_in_any_frames(dialect: &dyn Dialect, head: &Parts, body: &[u8], most: usize) {
    let (whole, cut) = in_paused_time(async {
        (ask(dialect, head, body, body.len()).await, ask(dialect, head, body, most).await)
    });
    assert_eq!(whole, cut, "it depends on the frames");
}

/// What a request comes to: an intent and whether its data can be had, or the status of a refusal.
async fn ask(
    dialect: &dyn Dialect,
    head: &Parts,
    body: &[u8],
    most: usize,
) -> Result<(Intent, Option<Vec<u8>>), u16> {
    let mut exchange = dialect.open(head);
    let content = Content::new(Frames::cut(body, most));
    match exchange.read(head, content, &Limits::default()).await {
        Ok((intent, content)) => Ok((intent, all(content).await.ok())),
        Err(reply) => {
            let status = reply.response.status().as_u16();
            assert!([200, 204, 400, 404, 405, 415].contains(&status), "{status}");
            Err(status)
        }
    }
}
