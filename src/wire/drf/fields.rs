//! The fields of a request: of a form that holds a file, before and after it, or of a body that is
//! nothing but fields, as form, query string or JSON (P-011, P-014).

use std::collections::HashMap;

use http::{HeaderMap, header::CONTENT_TYPE};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::read::Rejection;
use crate::{
    content::{Content, Step},
    fields::{content_type, excerpt},
    rules::Refusal,
    upload::{Algorithm, Digest, Metadata},
    wire::form::{Form, MAX_FIELD_BYTES},
};

/// The field with the name of the file.
pub(super) const FILENAME: &str = "filename";

/// The checksum as the field of a [`Refusal::Malformed`].
pub(super) const CHECKSUM: &str = "checksum";

/// The longest name of a file, in characters (P-013).
const MAX_FILENAME_CHARS: usize = 255;

/// Fields by their names; of one that is given twice the last.
#[derive(Debug, Default)]
pub(super) struct Fields(HashMap<String, Vec<u8>>);

/// What the body of a request is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// A form, with this boundary.
    Form(String),
    /// A JSON value.
    Json,
    /// Nothing.
    None,
    /// A query string.
    Urlencoded,
}

impl BodyKind {
    /// What `headers` say of the body.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Rejection> {
        let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(Self::None);
        };
        let essence = content_type::essence(text).to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Ok(Self::Json),
            "application/x-www-form-urlencoded" => Ok(Self::Urlencoded),
            "multipart/form-data" => {
                let boundary = content_type::form_boundary(headers).ok().flatten();
                boundary.map(Self::Form).ok_or_else(|| {
                    Refusal::malformed("Content-Type", "the form has no boundary that can be used")
                        .into()
                })
            }
            _ => Err(Rejection::WrongMediaType { given: excerpt(text) }),
        }
    }
}

impl Fields {
    /// Keeps a field.
    pub(super) fn set(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.0.insert(name.into(), value.into());
    }

    /// The field `name` as text.
    fn text(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.0.get(name)?).ok()
    }

    /// Whether there is a field `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// What the fields say about the upload.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] in the words of P-113.
    pub(super) fn metadata(&self) -> Result<Metadata, Refusal> {
        let fault = match self.text(FILENAME) {
            None => "This field is required.",
            Some("") => "This field may not be blank.",
            Some(name) if name.contains('\0') => "Null characters are not allowed.",
            Some(name) if name.chars().count() > MAX_FILENAME_CHARS => {
                "Ensure this field has no more than 255 characters."
            }
            Some(name) => {
                return Metadata::from_entries([(FILENAME, name)]).map_err(|_| Refusal::Internal);
            }
        };
        Err(Refusal::malformed(FILENAME, fault))
    }

    /// The checksum that the client expects of the whole file, in the field named like its
    /// algorithm; `None` when there is no such field (P-111, P-145).
    ///
    /// # Errors
    /// [`Refusal::ChecksumMismatch`] for what is no checksum of this algorithm.
    pub(super) fn checksum(&self, algorithm: Algorithm) -> Result<Option<Digest>, Refusal> {
        let Some(value) = self.0.get(algorithm.name()).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let text = str::from_utf8(value).unwrap_or_default().trim();
        let value = from_hex(text).ok_or(Refusal::ChecksumMismatch)?;
        Ok(Some(Digest { algorithm, value }))
    }

    /// Reads a body that has fields and no file.
    pub(super) async fn read(content: Content, kind: &BodyKind) -> Result<Self, Rejection> {
        let mut fields = Self::default();
        match kind {
            BodyKind::Form(boundary) => {
                let mut form = Form::new(content, boundary);
                while let Some(part) = form.next_part().await? {
                    let value = form.value().await?;
                    fields.set(part.name, value);
                }
            }
            BodyKind::Json => fields.add_json(&whole(content).await?)?,
            BodyKind::None => {}
            BodyKind::Urlencoded => fields.add_urlencoded(&whole(content).await?),
        }
        Ok(fields)
    }

    fn add_json(&mut self, text: &[u8]) -> Result<(), Rejection> {
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| Refusal::malformed("JSON parse error", error.to_string()))?;
        if let Value::Object(members) = value {
            for (name, value) in members {
                match value {
                    Value::String(text) => self.set(name, text),
                    Value::Number(number) => self.set(name, number.to_string()),
                    // No field has such a value.
                    Value::Array(_) | Value::Bool(_) | Value::Null | Value::Object(_) => {}
                }
            }
        }
        Ok(())
    }

    fn add_urlencoded(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded =
                |text: &str| -> Vec<u8> { percent_decode_str(&text.replace('+', " ")).collect() };
            self.set(String::from_utf8_lossy(&decoded(name)).into_owned(), decoded(value));
        }
    }
}

/// Reads a short body whole.
async fn whole(mut content: Content) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    loop {
        match content.next().await {
            None => return Ok(bytes),
            Some(Ok(Step::Data(frame))) if bytes.len() + frame.len() > MAX_FIELD_BYTES => {
                let reason = format!("longer than {MAX_FIELD_BYTES} bytes");
                return Err(Refusal::malformed("body", reason));
            }
            Some(Ok(Step::Data(frame))) => bytes.extend_from_slice(&frame),
            Some(Ok(Step::Trailer(_))) => {}
            Some(Ok(Step::Refused(refusal))) => return Err(refusal),
            Some(Err(_)) => return Err(Refusal::Abandoned),
        }
    }
}

/// The bytes that hexadecimal `text`, in any case, stands for.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Vec<u8> = text.bytes().map(|byte| digit(&byte)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_hexadecimal_in_any_case_p_112_p_145() {
        let digest = |value: &[u8]| Some(Digest { algorithm: Algorithm::Md5, value: value.into() });
        for (text, expected) in [
            ("00ff", Ok(digest(b"\x00\xff"))),
            (" 00FF\t", Ok(digest(b"\x00\xff"))),
            ("", Ok(None)),
            ("0", Err(Refusal::ChecksumMismatch)),
            ("0g", Err(Refusal::ChecksumMismatch)),
            ("+1", Err(Refusal::ChecksumMismatch)),
            ("\u{ff10}\u{ff10}", Err(Refusal::ChecksumMismatch)),
        ] {
            let mut fields = Fields::default();
            fields.set("md5", text);
            assert_eq!(fields.checksum(Algorithm::Md5), expected, "{text:?}");
            assert_eq!(fields.checksum(Algorithm::Sha1), Ok(None));
        }
    }

    #[test]
    fn names_of_files_are_checked_and_kept_as_they_are_p_013_p_113() {
        let long = "\u{e9}".repeat(255);
        let too_long = "x".repeat(256);
        for (name, expected) in [
            (Some("../../etc/x"), Ok("../../etc/x")),
            (Some(long.as_str()), Ok(long.as_str())),
            (None, Err("This field is required.")),
            (Some(""), Err("This field may not be blank.")),
            (Some("a\0"), Err("Null characters are not allowed.")),
            (Some(&too_long), Err("Ensure this field has no more than 255 characters.")),
        ] {
            let mut fields = Fields::default();
            if let Some(name) = name {
                fields.set(FILENAME, name);
            }
            let metadata = fields.metadata();
            let found = metadata.as_ref().map(|found| found.get_str(FILENAME).unwrap_or_default());
            let expected = expected.map_err(|fault| Refusal::malformed(FILENAME, fault));
            assert_eq!(found, expected.as_ref().copied(), "{name:?}");
        }
    }

    #[test]
    fn fields_without_a_file_are_json_or_a_query_string_p_011() {
        for (text, expected) in [
            (r#"{"md5": "ab"}"#, Some("ab")),
            (r#"{"md5": 12}"#, Some("12")),
            (r#"{"md5": ["ab"]}"#, None),
            (r#"["md5"]"#, None),
            ("null", None),
        ] {
            let mut fields = Fields::default();
            assert!(fields.add_json(text.as_bytes()).is_ok(), "{text}");
            assert_eq!(fields.text("md5"), expected, "{text}");
        }
        assert!(Fields::default().add_json(b"{").is_err());
        let nested = "[".repeat(100_000);
        assert!(Fields::default().add_json(nested.as_bytes()).is_err());
        for (text, expected) in [
            ("md5=ab", Some("ab")),
            ("a=b&md5=a%62&c", Some("ab")),
            ("md5=a+b", Some("a b")),
            ("md5=1&md5=2", Some("2")),
            ("md5", Some("")),
            ("md5=%ff", None),
            ("", None),
        ] {
            let mut fields = Fields::default();
            fields.add_urlencoded(text.as_bytes());
            assert_eq!(fields.text("md5"), expected, "{text}");
        }
    }
}
