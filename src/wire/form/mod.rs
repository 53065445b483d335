//! `multipart/form-data`, read as it comes: the leading fields into memory, within limits, then the
//! payload as a [`Content`] whose frames are those of the body. Shared by dialects; knows none.
//!
//! Where the length of the payload is known its bytes are neither copied nor looked at. What stands
//! around it is read line by line.
//!
//! # Source
//! RFC 7578; RFC 2046 "Multipart"; HTML "Multipart form data" for how browsers write names.

mod base64;
mod envelope;
mod payload;

use self::{
    envelope::{Envelope, Event},
    payload::Payload,
};
use crate::{
    content::{Content, Step},
    rules::Refusal,
};

/// The most fields of a form, besides the payload.
pub const MAX_FIELDS: usize = 64;

/// The most bytes of all values of a form together, and of what stands before and after its parts.
pub const MAX_FIELD_BYTES: usize = 64 << 10;

/// The longest head of one part, in bytes: it holds a file name, perhaps twice.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The form as the field of a [`Refusal::Malformed`].
pub const FORM: &str = "form";

/// The payload as the field of a [`Refusal::Malformed`].
pub const PAYLOAD: &str = "payload";

/// The end of the payload as the field of a [`Refusal::Malformed`].
pub const PAYLOAD_END: &str = "end of the payload";

/// A form that is being read.
#[derive(Debug)]
pub struct Form {
    content: Content,
    envelope: Envelope,
}

/// The head of one part of a form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The name of a file, be it empty. It is ambiguous, because browsers escape `"` as `%22` and
    /// `%` not at all.
    pub filename: Option<String>,
    /// The name of the field; empty if there is none.
    pub name: String,
}

/// How the end of a payload is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Base64 text, with or without `data:...,` in front, that stands for so many bytes.
    Base64(u64),
    /// It ends where the next boundary is.
    Delimited,
    /// It has so many bytes, whatever they are.
    Exact(u64),
    /// It ends where the next boundary is, and must have so many bytes.
    Measured(u64),
}

/// Says whether a field that follows the payload may be there.
pub type Check = Box<dyn FnMut(&Part, &[u8]) -> Result<(), Refusal> + Send>;

impl Form {
    /// The form in `content`, whose parts are separated by `boundary`.
    pub fn new(content: Content, boundary: &str) -> Self {
        Self { content, envelope: Envelope::new(boundary) }
    }

    /// The head of the next part; `None` at the proper end. A value that was not asked for is
    /// passed over.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] when the form breaks its grammar or a limit; [`Refusal::Abandoned`].
    ///
    /// # Cancel safety
    /// Safe: a part is returned or still to come.
    pub async fn next_part(&mut self) -> Result<Option<Part>, Refusal> {
        loop {
            match self.event().await? {
                Event::End => return Ok(None),
                Event::Part(part) => return Ok(Some(part)),
                Event::Value(_) => {}
            }
        }
    }

    /// The value of the part whose head was read last.
    ///
    /// # Errors
    /// As [`Form::next_part`].
    ///
    /// # Cancel safety
    /// Safe: the value is returned or still to come.
    pub async fn value(&mut self) -> Result<Vec<u8>, Refusal> {
        match self.event().await? {
            Event::Value(value) => Ok(value),
            Event::End | Event::Part(_) => Ok(Vec::new()),
        }
    }

    /// The payload, which is the part whose head was read last. It ends well only if the form does:
    /// each field that follows passes `check`, and none of them is a second payload.
    pub fn payload(self, part: Part, shape: Shape, check: Check) -> Content {
        Content::new(Payload::new(self, part, shape, check))
    }

    /// The longest payload that the rest of the body can hold, in bytes, if its length was
    /// announced.
    pub fn most_payload_bytes(&self) -> Option<u64> {
        let read = u64::try_from(self.envelope.unused()).ok()?;
        let after = u64::try_from(self.envelope.least_after_payload()).ok()?;
        let rest = self.content.exact_bytes()?.checked_add(read)?;
        Some(rest.saturating_sub(after))
    }

    async fn event(&mut self) -> Result<Event, Refusal> {
        loop {
            if let Some(event) = self.envelope.next()? {
                return Ok(event);
            }
            match self.content.next().await {
                None => self.envelope.end(),
                Some(Ok(Step::Trailer(_))) => {}
                Some(Ok(Step::Data(frame))) => self.envelope.put(frame),
                Some(Ok(Step::Refused(refusal))) => return Err(refusal),
                Some(Err(_)) => return Err(Refusal::Abandoned),
            }
        }
    }
}

impl Part {
    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        self.filename.is_some()
    }

    /// Takes in one line of the head. Fields that say nothing about the form are passed over.
    fn read_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let line = String::from_utf8_lossy(line);
        let Some((name, value)) = line.split_once(':') else {
            return Err(Refusal::malformed(FORM, "a line in the head of a part has no colon"));
        };
        let value = value.trim_matches([' ', '\t']);
        if name.eq_ignore_ascii_case("content-disposition") {
            self.read_disposition(value);
        } else if name.eq_ignore_ascii_case("content-transfer-encoding") {
            check_identity(value)?;
        }
        Ok(())
    }

    fn read_disposition(&mut self, value: &str) {
        for parameter in quoted_pieces(value) {
            let Some((name, value)) = parameter.split_once('=') else {
                continue;
            };
            if name.eq_ignore_ascii_case("name") {
                self.name = unescaped(value);
            } else if name.eq_ignore_ascii_case("filename") {
                self.filename = Some(unescaped(value));
            } else if name.eq_ignore_ascii_case("filename*") && self.filename.is_none() {
                // RFC 7578 forbids it: that it is a file is all that is taken from it.
                self.filename = Some(String::new());
            }
        }
    }
}

/// `value` cut at each semicolon outside of quotes, without blanks around the pieces. A backslash
/// is one: browsers escape nothing with it, and file names may end with it.
fn quoted_pieces(value: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let separates = move |c: char| {
        is_quoted ^= c == '"';
        c == ';' && !is_quoted
    };
    value.split(separates).map(|piece| piece.trim_matches([' ', '\t']))
}

/// The name that `value` stands for, in quotes or not.
fn unescaped(value: &str) -> String {
    let name = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n")
}

/// Encoded parts are deprecated (RFC 7578) and no client sends them; storing one undecoded would be
/// silent corruption.
fn check_identity(encoding: &str) -> Result<(), Refusal> {
    let is_identity =
        ["7bit", "8bit", "binary"].iter().any(|known| encoding.eq_ignore_ascii_case(known));
    if is_identity {
        Ok(())
    } else {
        Err(Refusal::malformed(FORM, "a part has a transfer encoding"))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        future::Future,
        io,
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    use ::base64::{Engine as _, engine::general_purpose::STANDARD};
    use bytes::Bytes;
    use futures_core::Stream;
    use http_body::Frame;
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use proptest::prelude::*;

    use super::*;

    const BOUNDARY: &str = "AaB03x";

    /// A body of these frames, one at a time.
    struct Frames(VecDeque<Bytes>);

    impl Stream for Frames {
        type Item = io::Result<Frame<Bytes>>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.pop_front().map(|frame| Ok(Frame::data(frame))))
        }
    }

    fn content(frames: impl IntoIterator<Item = Bytes>) -> Content {
        Content::new(StreamBody::new(Frames(frames.into_iter().collect())))
    }

    /// The outcome of a future that waits for nothing.
    fn now<F: Future>(future: F) -> F::Output {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the frames are all there"),
        }
    }

    /// What a form says: leading fields, payload, fields that follow; or why it is refused.
    #[derive(Debug, Default, Clone, PartialEq, Eq)]
    struct Said {
        fields: Vec<(String, Vec<u8>)>,
        payload: Option<Vec<u8>>,
        after: Vec<(String, Vec<u8>)>,
    }

    fn read(content: Content, boundary: &str, shape: Shape) -> Result<Said, Refusal> {
        let mut said = Said::default();
        let mut form = Form::new(content, boundary);
        let part = loop {
            match now(form.next_part())? {
                None => return Ok(said),
                Some(part) if part.is_file() || part.name == "file" => break part,
                Some(part) => said.fields.push((part.name, now(form.value())?)),
            }
        };
        let (sender, after) = std::sync::mpsc::channel();
        let check = move |part: &Part, value: &[u8]| {
            if value == b"bad" {
                return Err(Refusal::Busy);
            }
            let _ = sender.send((part.name.clone(), value.to_vec()));
            Ok(())
        };
        let mut content = form.payload(part, shape, Box::new(check));
        let payload = said.payload.insert(Vec::new());
        loop {
            match now(content.next()) {
                None => break,
                Some(Ok(Step::Data(bytes))) => payload.extend(&bytes[..]),
                Some(Ok(Step::Refused(refusal))) => return Err(refusal),
                step => panic!("{step:?}"),
            }
        }
        assert!(content.is_end());
        said.after = after.try_iter().collect();
        Ok(said)
    }

    fn whole(text: &str, shape: Shape) -> Result<Said, Refusal> {
        let whole = read(content([Bytes::from(text.to_owned())]), BOUNDARY, shape);
        let bytes = text.bytes().map(|byte| Bytes::from(vec![byte]));
        let single = read(content(bytes), BOUNDARY, shape);
        // How far a body came before it was refused depends on its frames.
        match (&whole, &single) {
            (Ok(_), _) | (_, Ok(_)) => assert_eq!(whole, single, "{text:?}"),
            (Err(_), Err(_)) => {}
        }
        whole
    }

    /// A form as browsers write it: `name=value` fields, then the payload, then more fields.
    fn form(before: &[(&str, &str)], payload: Option<&str>, after: &[(&str, &str)]) -> String {
        let field = |(name, value): &(&str, &str)| {
            format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            )
        };
        let payload = payload.map(|payload| {
            format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; \
                 filename=\"a;b\\\"\r\nContent-Type: application/octet-stream\r\n\r\n{payload}\r\n"
            )
        });
        let before: String = before.iter().map(field).collect();
        let after: String = after.iter().map(field).collect();
        format!("{before}{}{after}--{BOUNDARY}--\r\n", payload.unwrap_or_default())
    }

    fn said(before: &[(&str, &str)], payload: Option<&str>, after: &[(&str, &str)]) -> Said {
        let owned = |fields: &[(&str, &str)]| {
            let owned =
                |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
            fields.iter().map(owned).collect()
        };
        Said {
            fields: owned(before),
            payload: payload.map(|payload| payload.as_bytes().to_vec()),
            after: owned(after),
        }
    }

    #[test]
    fn fields_come_before_the_payload_and_after_it() {
        let long = "x".repeat(60_000);
        for (before, payload, after) in [
            (&[][..], None, &[][..]),
            (&[("a", "b")], None, &[]),
            (&[], Some(""), &[]),
            (&[("a", "b"), ("c", ""), ("a", "b")], Some("payload"), &[]),
            (&[("a", "b")], Some("payload"), &[("c", "d"), ("e", "")]),
            (&[("a", "line\nfeed"), ("b", "line\r\nbreak\r\n"), ("c", "\r\n")], Some("\r\n"), &[]),
            (&[("a", "--AaB03"), ("b", "\r\n--AaB03xy\r\n--AaB03x-")], Some("--AaB03x"), &[]),
            (&[("a", &long)], Some("payload"), &[("b", "--AaB0")]),
            (&[("你好", "再见")], Some("\r\n--AaB03"), &[]),
        ] {
            let text = form(before, payload, after);
            let length = payload.map_or(0, str::len) as u64;
            for shape in [Shape::Exact(length), Shape::Measured(length), Shape::Delimited] {
                let expected = said(before, payload, after);
                assert_eq!(whole(&text, shape), Ok(expected), "{text:?} {shape:?}");
            }
        }
    }

    #[test]
    fn forms_of_other_clients_are_understood() {
        let expected = said(&[("a\"b", "c")], Some("xyz"), &[]);
        for text in [
            // A preamble, blanks after a boundary, an epilogue, no line break at the end.
            "\r\n--AaB03x\r\nContent-Disposition: form-data; name=\"a%22b\"\r\n\r\nc\r\n\
             --AaB03x \t\r\ncontent-disposition:form-data;name=file;filename=x\r\n\r\nxyz\r\n\
             --AaB03x--",
            "preamble --AaB03x\r\n\r\n--AaB03x\r\n\
             CONTENT-DISPOSITION: FORM-DATA; NAME=\"a%22b\"\r\nX: y\r\n\r\nc\r\n\
             --AaB03x\r\nContent-Transfer-Encoding: binary\r\n\
             Content-Disposition: form-data; filename*=UTF-8''x; name=\"file\"\r\n\r\nxyz\r\n\
             --AaB03x--  \r\nepilogue\r\n--AaB03x\r\n",
        ] {
            for shape in [Shape::Exact(3), Shape::Delimited] {
                assert_eq!(whole(text, shape), Ok(expected.clone()), "{text:?}");
            }
        }
        let nameless = "--AaB03x\r\nX: y\r\n\r\nc\r\n--AaB03x--";
        assert_eq!(whole(nameless, Shape::Delimited), Ok(said(&[("", "c")], None, &[])));
        // A last field whose value is no line at all.
        let empty = "--AaB03x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n--AaB03x--";
        assert_eq!(whole(empty, Shape::Delimited), Ok(said(&[("a", "")], None, &[])));
    }

    #[test]
    fn broken_forms_are_refused_j_005_j_006_j_014_j_023() {
        let field = "--AaB03x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n";
        let file = "--AaB03x\r\nContent-Disposition: form-data; name=\"file\"; filename=x\r\n\r\n";
        let other = file.replace("\"file\"", "\"other\"");
        let long = "x".repeat(MAX_FIELD_BYTES);
        for (why, text) in [
            ("empty", String::new()),
            ("no boundary", "a=b".to_owned()),
            ("wrong boundary", field.replace("AaB03x", "AaB03y") + "--AaB03y--"),
            ("ends in a field", field.to_owned()),
            ("ends in a head", field.to_owned() + "--AaB03x\r\nX: y"),
            ("ends after a boundary", field.to_owned() + "--AaB03x\r\n"),
            ("no line breaks", field.replace("\r\n", "\n") + "--AaB03x--"),
            ("no colon", "--AaB03x\r\nX\r\n\r\nb\r\n--AaB03x--".to_owned()),
            ("giant head", format!("--AaB03x\r\nX: {long}\r\n\r\nb\r\n--AaB03x--")),
            ("giant value", form(&[("a", &long)], None, &[])),
            ("giant values", form(&[("a", &long[..40_000]), ("b", &long[..40_000])], None, &[])),
            ("giant preamble", long.clone() + "\r\n" + field + "--AaB03x--"),
            ("giant epilogue", form(&[], None, &[]) + &long + "x"),
            ("too many fields", field.repeat(MAX_FIELDS + 2) + "--AaB03x--"),
            ("encoded", format!("--AaB03x\r\nContent-Transfer-Encoding: base64\r\n{file}")),
            ("shorter", format!("{file}xy\r\n--AaB03x--\r\n")),
            ("longer", format!("{file}xyzx\r\n--AaB03x--\r\n")),
            ("longer by a line", format!("{file}xyz\r\n\r\n--AaB03x--\r\n")),
            ("wrong end", format!("{file}xyz\r\n--AaB03y--\r\n")),
            ("no end", format!("{file}xyz")),
            ("half an end", format!("{file}xyz\r\n--AaB03x-")),
            ("half an end", format!("{file}xyz\r\n--AaB03x")),
            ("cut in the payload", format!("{file}xy")),
            ("a second payload", format!("{file}xyz\r\n{file}xyz\r\n--AaB03x--")),
            ("a second file", format!("{file}xyz\r\n{other}xyz\r\n--AaB03x--")),
            (
                "a bad field",
                format!("{file}xyz\r\n{}--AaB03x--", field.replace("\r\nb\r", "\r\nbad\r")),
            ),
            ("giant tail", format!("{file}xyz\r\n{}", form(&[("a", &long)], None, &[]))),
        ] {
            assert!(whole(&text, Shape::Exact(3)).is_err(), "{why}");
        }
        let most = form(&[("a", "b"); MAX_FIELDS], Some("xyz"), &[]);
        assert!(whole(&most, Shape::Exact(3)).is_ok());
        for (why, text) in [
            ("no end", format!("{file}xyz")),
            ("no end", format!("{file}xyz\r\n--AaB03")),
            ("something else", format!("{file}xyz\r\n--AaB03xy\r\n--AaB03x--")),
        ] {
            assert!(whole(&text, Shape::Delimited).is_err(), "{why}");
        }
    }

    #[test]
    fn wrong_lengths_name_both_j_014() {
        let file = form(&[], Some("xyz"), &[]);
        let refused = whole(&file, Shape::Exact(1000));
        let given = (file.len() - file.find("xyz").expect("it is there")) as u64;
        let expected = 1000;
        assert_eq!(refused, Err(Refusal::BodyLengthWrong { expected, given }));
        for (text, expected, given) in [("YWJj", 2, 3), ("YWJj", 4, 3), ("", 1, 0)] {
            let refused = whole(&form(&[], Some(text), &[]), Shape::Base64(expected));
            assert_eq!(refused, Err(Refusal::BodyLengthWrong { expected, given }));
        }
        for (expected, given) in [(2, 3), (4, 3)] {
            let refused = whole(&form(&[], Some("xyz"), &[]), Shape::Measured(expected));
            assert_eq!(refused, Err(Refusal::BodyLengthWrong { expected, given }));
        }
    }

    #[test]
    fn refused_forms_say_where_they_go_wrong() {
        let text = form(&[("a", "b")], Some("xyz"), &[]);
        let unclosed = text.strip_suffix("\r\n--AaB03x--\r\n").expect("an end").to_owned();
        let early = "form: the form ends before its closing boundary";
        for (text, shape, expected) in [
            (unclosed.clone(), Shape::Exact(3), early),
            (unclosed.clone(), Shape::Measured(3), early),
            (unclosed, Shape::Delimited, early),
            (
                text.clone(),
                Shape::Exact(2),
                "end of the payload: no boundary follows the 2 bytes that are announced",
            ),
            (text.clone(), Shape::Measured(5), "the body has 3 bytes, 5 were announced"),
            (
                text.replace("Disposition:", "Disposition"),
                Shape::Delimited,
                "form: a line in the head of a part has no colon",
            ),
        ] {
            let refused = read(content([Bytes::from(text)]), BOUNDARY, shape);
            assert_eq!(refused.expect_err("a fault").to_string(), expected, "{shape:?}");
        }
    }

    #[test]
    fn files_are_told_from_fields_by_their_names_j_005() {
        for (parameters, expected) in [
            ("name=\"file\"; filename=\"a b.txt\"", Some("a b.txt")),
            ("name=file; filename=a%22b%0D%0A", Some("a\"b\r\n")),
            ("name=\"file\"; filename=\"\"", Some("")),
            ("name=\"file\"; filename*=UTF-8''x", Some("")),
            ("filename*=UTF-8''x; filename=\"y\"", Some("y")),
            ("filename=\"y\"; filename*=UTF-8''x", Some("y")),
            ("name=\"file\"", None),
        ] {
            let mut part = Part::default();
            part.read_disposition(&format!("form-data; {parameters}"));
            assert_eq!(part.filename.as_deref(), expected, "{parameters}");
        }
    }

    #[test]
    fn payloads_as_text_are_decoded_j_007_f_28() {
        for (text, expected) in [
            ("data:application/octet-stream;base64,YWJjZA==", "abcd"),
            ("YWJjZA==", "abcd"),
            ("data:", ""),
            ("", ""),
        ] {
            let length = expected.len() as u64;
            let text = form(&[("a", "b")], Some(text), &[("c", "d")]);
            let expected = said(&[("a", "b")], Some(expected), &[("c", "d")]);
            assert_eq!(whole(&text, Shape::Base64(length)), Ok(expected));
        }
        let broken = form(&[], Some("YWJj!A=="), &[]);
        assert!(matches!(
            whole(&broken, Shape::Base64(4)),
            Err(Refusal::Malformed { field: PAYLOAD, .. })
        ));
    }

    #[test]
    fn payload_bytes_are_not_copied() {
        let text = Bytes::from(form(&[("a", "b")], Some(&"x".repeat(1000)), &[]));
        let more = Bytes::from("y".repeat(1000));
        let first = text.slice(..text.len() - 500);
        let memory = [first.as_ptr_range(), more.as_ptr_range()];
        for shape in [Shape::Exact(1600), Shape::Delimited] {
            let mut form = Form::new(content([first.clone(), more.clone()]), BOUNDARY);
            now(form.next_part()).expect("a field");
            let part = now(form.next_part()).expect("a form").expect("the payload");
            let mut content = form.payload(part, shape, Box::new(|_, _| Ok(())));
            for memory in &memory {
                let Some(Ok(Step::Data(bytes))) = now(content.next()) else {
                    panic!("a frame");
                };
                assert!(memory.contains(&bytes.as_ptr()) && bytes.len() > 400, "{shape:?}");
            }
        }
    }

    #[test]
    fn announced_bodies_tell_how_long_a_payload_may_be() {
        let text = form(&[("a", "b")], Some("payload"), &[]);
        let unended = text.strip_suffix("\r\n").expect("a line break").to_owned();
        let mut form = Form::new(Content::new(Full::new(Bytes::from(unended))), BOUNDARY);
        now(form.next_part()).expect("a field");
        now(form.next_part()).expect("the payload");
        assert_eq!(form.most_payload_bytes(), Some(7));
        let form = Form::new(content([Bytes::from(text)]), BOUNDARY);
        assert_eq!(form.most_payload_bytes(), None);
    }

    #[test]
    fn a_form_that_is_given_up_leaves_its_body_to_the_rest_a_002() {
        let frames = [form(&[("a", "b")], Some("payload"), &[]), "more".to_owned()];
        for steps in 0..3 {
            let content = content(frames.clone().map(Bytes::from));
            let rest = content.rest();
            let mut form = Form::new(content, BOUNDARY);
            now(form.next_part()).expect("a field");
            let part = now(form.next_part()).expect("a form").expect("the payload");
            let mut payload = form.payload(part, Shape::Exact(7), Box::new(|_, _| Ok(())));
            for step in 0..steps {
                let refused = matches!(now(payload.next()), Some(Ok(Step::Refused(_))));
                assert!(!refused, "step {step}");
            }
            drop(payload);
            let unread = rest.take();
            assert_eq!(unread.is_some(), steps < 2, "after {steps} steps");
            if let Some(mut unread) = unread {
                assert!(unread.started);
                let frame = now(unread.body.frame()).expect("a frame").expect("data");
                assert_eq!(frame.into_data().expect("data"), "more");
            }
        }
    }

    #[test]
    fn a_body_that_is_cut_off_is_no_refusal_of_its_form() {
        let text = form(&[("a", "b")], Some("payload"), &[]);
        for cut in [10, text.len() - 12] {
            let start = Bytes::from(text[..cut].to_owned());
            let start = http_body_util::StreamBody::new(Frames([start].into()));
            let body = start.chain_error();
            let mut form = Form::new(Content::new(body), BOUNDARY);
            let part = loop {
                match now(form.next_part()) {
                    Ok(Some(part)) if part.is_file() => break Some(part),
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it does not end"),
                    Err(refusal) => {
                        assert_eq!(refusal, Refusal::Abandoned);
                        break None;
                    }
                }
            };
            let Some(part) = part else { continue };
            let mut payload = form.payload(part, Shape::Exact(7), Box::new(|_, _| Ok(())));
            let last = loop {
                match now(payload.next()) {
                    Some(Ok(Step::Data(_))) => {}
                    last => break last,
                }
            };
            assert!(matches!(last, Some(Err(_))), "{last:?}");
        }
    }

    /// A body that breaks off where the inner one ends.
    struct Broken<B>(B);

    trait ChainError: Sized {
        fn chain_error(self) -> Broken<Self> {
            Broken(self)
        }
    }

    impl ChainError for StreamBody<Frames> {}

    impl http_body::Body for Broken<StreamBody<Frames>> {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            let frame = Pin::new(&mut self.0).poll_frame(cx);
            frame.map(|frame| frame.or(Some(Err(io::ErrorKind::ConnectionReset.into()))))
        }
    }

    proptest! {
        /// Where the network cuts a body says nothing about the form.
        #[test]
        fn any_split_of_a_form_gives_the_same_result(
            fields in proptest::collection::vec(
                ("[a-d]{1,3}", "[a\r\n-]{0,8}(--AaB03x?)?[b\r\n]{0,3}"), 0..4),
            payload in proptest::collection::vec(
                prop_oneof![
                    Just(b"\r\n--AaB03".to_vec()), Just(b"\r".to_vec()), Just(b"\r\n-".to_vec()),
                    proptest::collection::vec(any::<u8>(), 0..20)], 0..6),
            how in 0..3,
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let payload = payload.concat();
            let shape = match how {
                0 => Shape::Exact(payload.len() as u64),
                1 => Shape::Delimited,
                _ => Shape::Base64(payload.len() as u64),
            };
            let holds_end = payload.windows(10).any(|window| window == b"\r\n--AaB03x");
            prop_assume!(how != 1 || !holds_end);
            let fields: Vec<(&str, &str)> =
                fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            // A value must not hold a boundary of its own.
            prop_assume!(fields.iter().all(|(_, value)| {
                !format!("\r\n{value}\r\n").contains("\r\n--AaB03x\r\n")
            }));
            let text = form(&fields, Some("PAYLOAD"), &fields);
            let sent = match how {
                2 => STANDARD.encode(&payload).into_bytes(),
                _ => payload.clone(),
            };
            let at = text.find("PAYLOAD").expect("it is there");
            let body = [&text.as_bytes()[..at], &sent, &text.as_bytes()[at + 7..]].concat();
            let body = Bytes::from(body);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let frames: Vec<_> =
                cuts.windows(2).map(|pair| body.slice(pair[0]..pair[1])).collect();
            let expected = Said { payload: Some(payload), ..said(&fields, None, &fields) };
            prop_assert_eq!(read(content(frames), BOUNDARY, shape), Ok(expected));
        }

        /// Nothing that a client sends makes the reader panic or grow.
        #[test]
        fn any_bytes_are_a_form_or_refused(
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just(b"--AaB03x".to_vec()), Just(b"\r\n".to_vec()), Just(b"--".to_vec()),
                    Just(b"Content-Disposition: form-data; name=\"file\"".to_vec()),
                    Just(b"; filename=\"".to_vec()), Just(b": ".to_vec()),
                    proptest::collection::vec(any::<u8>(), 0..6),
                ], 0..24),
            how in 0..3_usize,
        ) {
            let shape = [Shape::Exact(3), Shape::Delimited, Shape::Base64(3)][how];
            let _ = read(content(pieces.into_iter().map(Bytes::from)), BOUNDARY, shape);
        }
    }
}
