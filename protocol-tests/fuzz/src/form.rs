//! Forms, as they stream in, and the parameters of ResumableJS clients. Where the frames of a body
//! end must make no difference.

use http::Request;
use windlass::{
    content::{Content, Step},
    rules::{Intent, Refusal},
    upload::Limits,
    wire::{
        Dialect as _,
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
    let (whole, cut) = in_paused_time(async {
        let whole = ask(method, &uri, media_type, body, body.len()).await;
        (whole, ask(method, &uri, media_type, body, most).await)
    });
    assert_eq!(whole, cut, "it depends on the frames");
}

/// What a request comes to: an intent and whether its data can be had, or the status of a refusal.
async fn ask(
    method: &str,
    uri: &http::Uri,
    media_type: &str,
    body: &[u8],
    most: usize,
) -> Result<(Intent, Option<Vec<u8>>), u16> {
    let head =
        Request::builder().method(method).uri(uri).header("content-type", media_type).body(());
    let (head, ()) = head.expect("a request").into_parts();
    let dialect = ResumableJs::new(Locations::new("/resumable".parse().expect("a path")), "secret");
    let mut exchange = dialect.open(&head);
    let content = Content::new(Frames::cut(body, most));
    match exchange.read(&head, content, &Limits::default()).await {
        Ok((intent, content)) => Ok((intent, all(content).await.ok())),
        Err(reply) => {
            let status = reply.response.status().as_u16();
            assert!([200, 204, 400, 404, 405, 415].contains(&status), "{status}");
            Err(status)
        }
    }
}
