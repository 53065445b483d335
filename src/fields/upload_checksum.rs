//! `Upload-Checksum`: what the body of a request must hash to. In the head or in the trailer.
//!
//! # Source
//! tus 1.0 "Upload-Checksum"; T-080 to T-089, D-20 to D-23.
//!
//! # Grammar
//! `algorithm SP base64(digest)`, once; algorithm names in any case. Example:
//! `sha1 Lve95gjOVATpfV8EL5X4nxwjKHE=`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header::TRAILER};

use super::{Invalid, Reason, elements, excerpt, single};
use crate::upload::{Algorithm, Digest};

/// The field's name.
pub const NAME: HeaderName = HeaderName::from_static("upload-checksum");

/// The field's name in messages.
pub const FIELD: &str = "Upload-Checksum";

/// The checksum among `fields`, which are those of a head or of a trailer. A value of the wrong
/// length is one; it matches nothing (T-087).
///
/// # Errors
/// [`Reason::Malformed`], [`Reason::UnknownAlgorithm`].
pub fn decode(fields: &HeaderMap) -> Result<Option<Digest>, Invalid> {
    let Some(value) = single(fields, &NAME, FIELD)? else {
        return Ok(None);
    };
    parse(value.to_str().unwrap_or_default()).map(Some)
}

/// The checksum that `text` is.
///
/// # Errors
/// As [`decode`].
pub fn parse(text: &str) -> Result<Digest, Invalid> {
    let pair = text.split_once(' ');
    let Some((name, value)) = pair.filter(|(name, value)| !name.is_empty() && !value.is_empty())
    else {
        let reason = "expected an algorithm, a space and a value in base64";
        return Err(Invalid::malformed(FIELD, reason));
    };
    let Some(algorithm) = Algorithm::named(name) else {
        return Err(Invalid::new(FIELD, Reason::UnknownAlgorithm { name: excerpt(name) }));
    };
    let value = STANDARD
        .decode(value)
        .map_err(|_| Invalid::malformed(FIELD, "the value is not padded base64"))?;
    Ok(Digest { algorithm, value })
}

/// The field's value for `digest`.
pub fn encode(digest: &Digest) -> HeaderValue {
    let value = STANDARD.encode(&digest.value);
    HeaderValue::try_from(format!("{} {value}", digest.algorithm.name()))
        .expect("names of algorithms and base64 are printable ASCII")
}

/// Whether the head announces a checksum for the trailer.
pub fn is_trailing(headers: &HeaderMap) -> bool {
    elements(headers, &TRAILER).any(|name| name.eq_ignore_ascii_case(FIELD))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::headers, *};

    #[test]
    fn checksum_is_a_known_algorithm_and_base64_t_087() {
        let digest =
            |algorithm, value: &[u8]| Ok(Some(Digest { algorithm, value: value.to_vec() }));
        let malformed = Err(400);
        for (rule, lines, expected) in [
            ("T-081", &[][..], Ok(None)),
            ("T-085", &["sha1 YWJj"], digest(Algorithm::Sha1, b"abc")),
            ("T-086", &["SHA256 YWJj"], digest(Algorithm::Sha256, b"abc")),
            ("T-087", &["md5 YQ=="], digest(Algorithm::Md5, b"a")),
            ("T-082", &["crc32 YWJj"], Err(404)),
            ("T-087", &["sha1"], malformed.clone()),
            ("T-087", &["sha1 "], malformed.clone()),
            ("T-087", &[" YWJj"], malformed.clone()),
            ("T-087", &[""], malformed.clone()),
            ("T-087", &["sha1 YQ"], malformed.clone()),
            ("T-087", &["sha1 YWJj YWJj"], malformed.clone()),
            ("T-087", &["sha1  YWJj"], malformed.clone()),
            ("T-087", &["sha1 -_-_"], malformed.clone()),
            ("T-002", &["sha1 YWJj", "sha1 YWJj"], malformed),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("Upload-Checksum", *line)).collect();
            let unknown = Reason::UnknownAlgorithm { name: "crc32".to_owned() };
            let decoded = decode(&headers(&lines))
                .map_err(|invalid| if invalid.reason == unknown { 404 } else { 400 });
            assert_eq!(decoded, expected, "{rule} {lines:?}");
        }
    }

    #[test]
    fn trailers_announce_a_checksum_by_name_d_22() {
        for (lines, expected) in [
            (&[][..], false),
            (&["Upload-Checksum"], true),
            (&["x, upload-checksum"], true),
            (&["x", "UPLOAD-CHECKSUM"], true),
            (&["upload-checksum2"], false),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("Trailer", *line)).collect();
            assert_eq!(is_trailing(&headers(&lines)), expected, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn checksums_survive_their_text(
            which in 0..Algorithm::ALL.len(),
            value in proptest::collection::vec(any::<u8>(), 1..70),
        ) {
            let digest = Digest { algorithm: Algorithm::ALL[which], value };
            let fields = HeaderMap::from_iter([(NAME, encode(&digest))]);
            prop_assert_eq!(decode(&fields), Ok(Some(digest)));
        }
    }
}
