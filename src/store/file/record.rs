//! The format of the change log: encoding of one line, and parsing of a whole log. Does no I/O.

use serde::{Deserialize, Serialize, de::IgnoredAny};
use sha1::{Digest as _, Sha1};

use crate::{
    store::StoreError,
    upload::{Change, Upload, UploadId},
};

/// One commit, for writing.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// The revision after the commit.
    rev: u64,
    /// The changes of the commit.
    changes: &'a [Change],
}

/// One commit, for reading. Rejects unknown fields, which the next rewrite of the log would drop.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadLine {
    rev: u64,
    changes: Vec<Change>,
    #[serde(rename = "sum")]
    _sum: IgnoredAny,
}

/// The error for a line with a valid checksum that does not parse: it is intact, so a newer version
/// has written it.
fn newer_version(e: &serde_json::Error) -> String {
    format!("written by a newer version of Windlass, which this one cannot read ({e})")
}

/// A parsed change log.
#[derive(Debug)]
pub(super) struct Parsed {
    /// The record after all complete lines.
    pub(super) upload: Upload,
    /// Length of the complete lines in bytes. Bytes after them were never committed.
    pub(super) bytes: u64,
    /// Length of the first line in bytes.
    pub(super) base_bytes: u64,
}

/// Encodes the whole state of `upload` as the first line of a log.
pub(super) fn first_line(upload: &Upload) -> Vec<u8> {
    line(upload.revision, &upload.history())
}

/// Encodes one commit: `changes` that lead to revision `rev`.
pub(super) fn line(rev: u64, changes: &[Change]) -> Vec<u8> {
    let mut text = serde_json::to_vec(&Line { rev, changes })
        .expect("changes are plain data with text as map keys");
    text.pop(); // The closing brace, which follows the checksum.
    let checksum = checksum(&text);
    text.extend_from_slice(checksum.as_bytes());
    text
}

/// Returns the end of a line that begins with `text`: its last member, a checksum of `text`.
/// Detects flipped bits that JSON alone does not, as in a number.
fn checksum(text: &[u8]) -> String {
    let digest = Sha1::digest(text);
    let [a, b, c, d] = [digest[0], digest[1], digest[2], digest[3]];
    format!(",\"sum\":\"{:08x}\"}}\n", u32::from_be_bytes([a, b, c, d]))
}

/// Returns whether the checksum of a line matches.
fn has_valid_checksum(raw: &[u8]) -> bool {
    let start = raw.windows(CHECKSUM_PREFIX.len()).rposition(|part| part == CHECKSUM_PREFIX);
    start.is_some_and(|start| {
        let (text, end) = raw.split_at(start);
        checksum(text).as_bytes() == end
    })
}

/// The text before the checksum of a line.
const CHECKSUM_PREFIX: &[u8] = b",\"sum\":\"";

/// Parses a change log. `None` when the first line is incomplete: the upload was never created.
///
/// # Errors
/// [`StoreError::Damaged`] when a complete line is invalid or does not follow the one before.
pub(super) fn parse(id: &UploadId, text: &[u8]) -> Result<Option<Parsed>, StoreError> {
    let mut parsed: Option<Parsed> = None;
    let mut torn = false;
    for (number, raw) in (1_u64..).zip(text.split_inclusive(|b| *b == b'\n')) {
        let damaged = |why: &dyn std::fmt::Display| {
            StoreError::Damaged(format!("{id}.record, line {number}: {why}"))
        };
        if is_torn(raw) {
            torn = true;
            continue;
        }
        if torn {
            return Err(damaged(&"follows an incomplete line"));
        }
        if !has_valid_checksum(raw) {
            return Err(damaged(&"checksum mismatch"));
        }
        let line = serde_json::from_slice(raw);
        let ReadLine { rev, changes, .. } = line.map_err(|e| damaged(&newer_version(&e)))?;
        let bytes = u64::try_from(raw.len()).expect("a file in memory has fewer than 2^64 bytes");
        match &mut parsed {
            None => {
                let upload = created(id, rev, &changes).map_err(|e| damaged(&e))?;
                parsed = Some(Parsed { upload, bytes, base_bytes: bytes });
            }
            Some(parsed) => {
                parsed.upload = parsed.upload.after(&changes).map_err(|e| damaged(&e))?;
                if parsed.upload.revision != rev {
                    let due = parsed.upload.revision;
                    return Err(damaged(&format_args!("revision {rev}, expected {due}")));
                }
                parsed.bytes = parsed.bytes.saturating_add(bytes);
            }
        }
    }
    Ok(parsed)
}

/// Returns whether a crash cut this line short. It then lacks its newline, or contains sectors that
/// never reached the disk and read as zeros; encoded lines contain no zero byte.
fn is_torn(raw: &[u8]) -> bool {
    raw.last() != Some(&b'\n') || raw.contains(&0)
}

/// Returns the upload that a first line creates.
fn created(id: &UploadId, rev: u64, changes: &[Change]) -> Result<Upload, String> {
    let (first, rest) = changes.split_first().ok_or("no change")?;
    let mut upload = Upload::new(id.clone(), first).map_err(|e| e.to_string())?;
    for change in rest {
        upload.apply(change).map_err(|e| e.to_string())?;
    }
    upload.revision = rev;
    Ok(upload)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::upload::{Completion, Metadata, Receipt, Role};

    fn id() -> UploadId {
        "a".parse().expect("plain")
    }

    fn upload() -> Upload {
        let created = Change::Created {
            completion: Completion::WhenFull,
            key: None,
            length: Some(9),
            metadata: Metadata::default(),
            owner: None,
            role: Role::Whole,
            at: UNIX_EPOCH + Duration::from_millis(5),
        };
        Upload::new(id(), &created).expect("created comes first")
    }

    fn received(rev: u64, range: std::ops::Range<u64>) -> Vec<u8> {
        line(rev, &[Change::Received { range, receipt: Receipt::default() }])
    }

    /// A log of a first line and two commits.
    fn lines() -> [Vec<u8>; 3] {
        [first_line(&upload()), received(1, 0..4), received(2, 4..9)]
    }

    #[test]
    fn lines_add_up_wherever_the_last_is_cut() {
        let lines = lines();
        let text = lines.concat();
        for cut in 0..=text.len() {
            let mut ends = lines.iter().scan(0, |end, line| {
                *end += line.len();
                Some(*end)
            });
            let whole = ends.by_ref().filter(|end| *end <= cut).count();
            let mut zeroed = text[..cut].to_vec();
            zeroed.resize(text.len() + 100, 0);
            for text in [&text[..cut], &zeroed] {
                let parsed = parse(&id(), text).expect("not damaged");
                let revision = parsed.as_ref().map(|parsed| parsed.upload.revision);
                assert_eq!(revision, [None, Some(0), Some(1), Some(2)][whole], "{cut}");
                let bytes = parsed.map_or(0, |parsed| parsed.bytes);
                let expected: usize = lines[..whole].iter().map(Vec::len).sum();
                assert_eq!(bytes, u64::try_from(expected).expect("small"), "{cut}");
            }
        }
    }

    #[test]
    fn flipped_bit_is_damage_unless_it_looks_like_a_torn_end() {
        let text = lines().concat();
        for (at, bit) in (0..text.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut flipped = text.clone();
            flipped[at] ^= 1 << bit;
            match parse(&id(), &flipped) {
                Err(StoreError::Damaged(_)) => {}
                Ok(Some(parsed)) if at + 1 == text.len() => {
                    assert_eq!(parsed.upload.revision, 1, "the last line lost its end");
                }
                other => panic!("byte {at}, bit {bit}: {other:?}"),
            }
        }
    }

    /// The next rewrite of the log would drop an unknown field.
    #[test]
    fn line_that_says_more_is_of_a_newer_version() {
        let with_checksum = |text: &str| {
            let text = text.strip_suffix('}').expect("an object");
            [text.as_bytes(), checksum(text.as_bytes()).as_bytes()].concat()
        };
        let created = r#"{"rev":0,"changes":[{"created":{"at":5}}]}"#;
        assert!(parse(&id(), &with_checksum(created)).expect("known").is_some());
        for text in [
            r#"{"version":2,"rev":0,"changes":[{"created":{"at":5}}]}"#,
            r#"{"rev":0,"changes":[{"created":{"at":5,"color":"red"}}]}"#,
            r#"{"rev":0,"changes":[{"created":{"at":5,"role":{"partial":{"text":"","of":1}}}}]}"#,
            r#"{"rev":0,"changes":[{"created":{"at":5,"role":{"mirror":{}}}}]}"#,
            r#"{"rev":0,"changes":[{"created":{"at":5}},{"renamed":{"to":"b"}}]}"#,
            r#"{"rev":0,"changes":[{"created":{"at":5}},{"length_declared":{"length":5,"unit":"k"}}]}"#,
        ] {
            let error = parse(&id(), &with_checksum(text)).expect_err(text).to_string();
            assert!(error.contains("a.record, line 1: written by a newer version"), "{error}");
        }
    }

    #[test]
    fn log_that_cannot_be_ours_is_damaged() {
        let [first, second, third] = lines();
        let bad = b"{\"rev\":1,\"chang\n".to_vec();
        let torn = b"{\"rev\":1,\0\0\0\n".to_vec();
        for (name, text) in [
            ("bad line in the middle", [&first, &bad, &third].map(Vec::as_slice).concat()),
            ("bad last line", [&first, &second, &bad].map(Vec::as_slice).concat()),
            ("bad first line", [&bad, &second].map(Vec::as_slice).concat()),
            ("only a bad line", bad.clone()),
            ("line after a torn one", [&first, &torn, &third].map(Vec::as_slice).concat()),
            ("revision gap", [&first, &third].map(Vec::as_slice).concat()),
            ("first line missing", second.clone()),
            ("change does not fit", [&first, &received(1, 0..10)].map(Vec::as_slice).concat()),
            ("created twice", [&first, &first].map(Vec::as_slice).concat()),
            ("no change at all", line(0, &[])),
        ] {
            let error = parse(&id(), &text).expect_err(name);
            assert!(
                matches!(&error, StoreError::Damaged(why) if why.contains("a.record")),
                "{name}"
            );
        }
        assert!(parse(&id(), &[first, second, third].concat()).expect("whole").is_some());
    }
}
