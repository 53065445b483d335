//! tus 1.0 and its extensions, statement by statement.

use super::{Rule, rule};
use crate::case::Level::{May, Must, Ours, Should};

pub(super) const CORE: &[Rule] = &[
    rule("T-001", Must, "HEAD, PATCH and OPTIONS are implemented."),
    rule(
        "T-002",
        Must,
        "Offsets and lengths are non-negative integers of digits alone, up to 2^63-1.",
    ),
    rule("T-003", Must, "Tus-Version is a comma list by preference: 1.0.0."),
    rule(
        "T-004",
        Must,
        "POST, PATCH and DELETE without Tus-Resumable answer 412 with Tus-Version.",
    ),
    rule("T-005", Must, "Tus-Resumable is in every answer."),
    rule("T-006", Must, "Another version answers 412 with Tus-Version and nothing is processed."),
    rule("T-007", Must, "Tus-Extension is a comma list without spaces of what is configured."),
    rule(
        "T-008",
        Should,
        "Tus-Max-Size is a number, present if and only if there is a hard limit.",
    ),
    rule("T-011", Must, "X-HTTP-Method-Override replaces the real method."),
    rule("T-012", Must, "HEAD shows Upload-Offset, also 0 and when complete."),
    rule("T-013", Must, "HEAD shows Upload-Length if it is known."),
    rule(
        "T-014",
        Should,
        "HEAD of an unknown or expired upload answers 404 without offset and body.",
    ),
    rule("T-015", Should, "A HEAD that succeeds answers 200."),
    rule("T-016", Must, "HEAD answers Cache-Control: no-store."),
    rule("T-017", Should, "PATCH at the offset of any unfinished upload appends."),
    rule("T-018", Must, "PATCH with another content type answers 415."),
    rule("T-019", Must, "PATCH at another offset answers 409 and leaves the upload untouched."),
    rule("T-020", Should, "One PATCH may be huge, thousands may be tiny."),
    rule("T-021", Must, "A PATCH that succeeds answers 204."),
    rule("T-022", Must, "A PATCH that succeeds shows the new offset."),
    rule("T-023", Should, "PATCH of an unknown upload answers 404."),
    rule("T-024", Should, "Broken and silent peers are detected, the bytes so far are kept."),
    rule(
        "T-025",
        Should,
        "A read timeout closes the connection or resets the stream without an answer.",
    ),
    rule("T-026", Should, "As much received data as possible is kept."),
    rule("T-027", Must, "OPTIONS on the collection or an upload answers 204 with Tus-Version."),
    rule("T-028", May, "OPTIONS shows extensions, limit and checksum algorithms."),
    rule("T-029", Must, "OPTIONS with any Tus-Resumable is answered alike."),
    rule("T-030", Should, "OPTIONS never names what is disabled; what it names works."),
];

pub(super) const CREATION: &[Rule] = &[
    rule("T-040", Must, "creation is announced; POST on the collection creates."),
    rule("T-041", Must, "Upload-Defer-Length is 1 or refused."),
    rule(
        "T-042",
        Must,
        "Upload-Metadata is a comma list of keys and base64 values; keys are unique.",
    ),
    rule("T-043", Should, "Metadata keys are ASCII."),
    rule(
        "T-044",
        May,
        "A key without a value means the empty string, however its blank was trimmed.",
    ),
    rule("T-045", Should, "Metadata reaches no answer field unescaped, but for its own echo."),
    rule("T-046", Must, "POST needs Upload-Length or Upload-Defer-Length, finals neither."),
    rule("T-047", Should, "Another Upload-Defer-Length than 1 answers 400."),
    rule("T-048", Must, "A deferred length may come with any later PATCH."),
    rule("T-049", Must, "A known length never changes."),
    rule(
        "T-050",
        Must,
        "HEAD shows Upload-Defer-Length: 1 until the length is known, then the length.",
    ),
    rule("T-051", Must, "creation-defer-length is announced."),
    rule("T-052", May, "Upload-Length: 0 is complete at once."),
    rule("T-053", May, "Metadata is optional; a hook may reject or rewrite it."),
    rule("T-054", Must, "HEAD echoes Upload-Metadata exactly as sent."),
    rule("T-055", Must, "A length above the limit answers 413 and creates nothing."),
    rule("T-056", Must, "A POST that succeeds answers 201 after the record is durable."),
    rule("T-057", Must, "201 has a Location that works at once."),
    rule("T-058", Must, "Data comes by PATCH, or in the POST by creation-with-upload."),
];

pub(super) const CREATION_WITH_UPLOAD: &[Rule] = &[
    rule("T-060", Must, "creation-with-upload is never announced without creation."),
    rule(
        "T-061",
        Must,
        "A POST body counts only as application/offset+octet-stream; another is drained.",
    ),
    rule("T-062", May, "A whole or partial body in the POST is stored; 201 shows the offset."),
    rule("T-063", Should, "If the POST is cut off, what arrived is kept."),
    rule(
        "T-064",
        Should,
        "Expect: 100-continue: refusals come without 100 and without reading the body.",
    ),
];

pub(super) const EXPIRATION: &[Rule] = &[
    rule("T-070", Must, "Only unfinished uploads expire; expiration is announced if configured."),
    rule("T-071", Must, "Every PATCH answer for an upload that will expire has Upload-Expires."),
    rule("T-072", Must, "201 has Upload-Expires if it is known."),
    rule("T-073", May, "The deadline slides with each byte; a running PATCH never expires."),
    rule(
        "T-074",
        Should,
        "An expired upload answers 410, HEAD 404, while its tombstone lives, then 404.",
    ),
    rule("T-075", Must, "Upload-Expires is an IMF-fixdate."),
];

pub(super) const CHECKSUM: &[Rule] = &[
    rule("T-080", Must, "checksum is announced with its algorithms."),
    rule("T-081", Must, "A checksum is verified over exactly the body of its request."),
    rule("T-082", May, "An unknown algorithm answers 400 before the body."),
    rule("T-083", May, "A mismatch answers 460."),
    rule(
        "T-084",
        Must,
        "After a failed or cut checksummed request nothing of it is visible, nor was meanwhile.",
    ),
    rule("T-085", Must, "sha1 is supported, and sha256, sha512 and md5."),
    rule("T-086", Must, "Algorithm names are lower-case; any case is understood."),
    rule(
        "T-087",
        Must,
        "A malformed Upload-Checksum answers 400, a value of the wrong length 460.",
    ),
    rule("T-088", May, "Upload-Checksum may come as a trailer with the same outcomes."),
    rule("T-089", Ours, "The digest of nothing is valid for an empty body."),
];

pub(super) const TERMINATION: &[Rule] = &[
    rule("T-090", Must, "termination is announced."),
    rule("T-091", Must, "DELETE of an existing upload answers 204 and frees its space."),
    rule("T-092", Should, "Afterwards every method answers 404 at once."),
];

pub(super) const CONCATENATION: &[Rule] = &[
    rule("T-100", Must, "concatenation is announced."),
    rule("T-101", Must, "POST with Upload-Concat: partial creates like any other."),
    rule("T-102", Should, "A complete partial is no completed upload."),
    rule("T-103", Must, "POST with a list of partials creates a final of their sum, in order."),
    rule("T-104", Must, "A final takes no length of its own and no bytes."),
    rule(
        "T-105",
        Must,
        "Unfinished parts answer 400 unless concatenation-unfinished is announced.",
    ),
    rule("T-106", Must, "A final has the metadata of its own POST."),
    rule("T-107", May, "Parts stay usable; one may be listed twice or in several finals."),
    rule("T-108", Must, "PATCH of a final answers 403."),
    rule(
        "T-109",
        Should,
        "HEAD of a pending final has no offset, and the length once it is known.",
    ),
    rule("T-110", Must, "HEAD of a complete final shows offset = length."),
    rule("T-111", Must, "HEAD of a partial shows its offset and its length or deferral."),
    rule("T-112", Must, "HEAD of partials and finals echoes Upload-Concat."),
    rule("T-113", Must, "URLs in Upload-Concat are absolute or relative, separated by spaces."),
    rule("T-114", Ours, "Parts of length zero are legal."),
];
