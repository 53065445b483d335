//! Points that the protocol leaves open.

use super::{Rule, rule};
use crate::case::Level::Ours;

pub(super) const DECISIONS: &[Rule] = &[
    rule(
        "D-01",
        Ours,
        "Syntax is checked before storage, in the order of the frame.",
    ),
    rule(
        "D-02",
        Ours,
        "A wrong version answers 412 with Tus-Version, on HEAD too.",
    ),
    rule(
        "D-03",
        Ours,
        "HEAD and GET without a version are answered; GET's is never checked.",
    ),
    rule("D-04", Ours, "OPTIONS answers 204."),
    rule("D-05", Ours, "OPTIONS ignores Tus-Resumable."),
    rule(
        "D-06",
        Ours,
        "The method override counts on any method, in any case, but for preflights; unknown: 405.",
    ),
    rule(
        "D-07",
        Ours,
        "PATCH compares the media type without parameters and case; else 415.",
    ),
    rule("D-08", Ours, "A bad or absent Upload-Offset answers 400."),
    rule("D-09", Ours, "409 carries the current offset."),
    rule(
        "D-10",
        Ours,
        "PATCH of a complete upload: another offset 409, empty 204, bytes 413.",
    ),
    rule(
        "D-11",
        Ours,
        "Content-Length past the end answers 413, nothing is written or committed.",
    ),
    rule(
        "D-12",
        Ours,
        "A chunked body past the end answers 413 and is rolled back.",
    ),
    rule("D-13", Ours, "PATCH without Content-Length works."),
    rule(
        "D-14",
        Ours,
        "100 Continue comes only when the body is wanted.",
    ),
    rule(
        "D-15",
        Ours,
        "Unknown, deleted and bad ids answer 404, expired 410; DELETE 204 or 404.",
    ),
    rule(
        "D-16",
        Ours,
        "A declared length below the offset answers 400, below the body's end or above the limit 413.",
    ),
    rule(
        "D-17",
        Ours,
        "A repeated equal length is accepted, another answers 400.",
    ),
    rule(
        "D-18",
        Ours,
        "A deferred length is committed once the head is judged; with a checksum on a match.",
    ),
    rule("D-19", Ours, "201 always has Upload-Offset."),
    rule(
        "D-20",
        Ours,
        "Checksum unknown or malformed 400, mismatch 460.",
    ),
    rule(
        "D-21",
        Ours,
        "A checksum on POST is checked; nothing is created if it fails.",
    ),
    rule("D-22", Ours, "Checksum in header and trailer answers 400."),
    rule(
        "D-23",
        Ours,
        "An announced trailer that is missing answers 400; one not announced is honoured.",
    ),
    rule(
        "D-24",
        Ours,
        "A broken connection without a checksum keeps every received byte.",
    ),
    rule(
        "D-25",
        Ours,
        "A broken connection with a checksum keeps none.",
    ),
    rule("D-26", Ours, "An empty Upload-Metadata means none."),
    rule(
        "D-27",
        Ours,
        "Doubled keys, bad base64 and surplus blanks answer 400; harmless ones are tolerated.",
    ),
    rule(
        "D-28",
        Ours,
        "Non-ASCII and control bytes answer 400, more than 16 KiB 431.",
    ),
    rule("D-29", Ours, "The metadata echo is raw."),
    rule("D-30", Ours, "Upload-Length: 0 completes in the POST."),
    rule(
        "D-31",
        Ours,
        "Length and deferral together answer 400 on POST; a stray deferral on PATCH is ignored.",
    ),
    rule("D-32", Ours, "Parts that are no partials answer 400."),
    rule(
        "D-33",
        Ours,
        "Finals over unfinished parts are an option; a deleted part makes them 410.",
    ),
    rule(
        "D-34",
        Ours,
        "Part URLs match by the end of their path; another path 400, an absent upload 404.",
    ),
    rule(
        "D-35",
        Ours,
        "Upload-Concat in any case and with blanks; anything else 400; ignored on other methods.",
    ),
    rule("D-36", Ours, "A length on a final must equal the sum."),
    rule(
        "D-37",
        Ours,
        "A body of upload bytes on a final answers 403, another is drained.",
    ),
    rule("D-38", Ours, "A part may be listed twice."),
    rule(
        "D-39",
        Ours,
        "A final outlives its parts; parts are kept until they expire.",
    ),
    rule(
        "D-40",
        Ours,
        "Location is path-absolute, or absolute with a public URL.",
    ),
    rule(
        "D-41",
        Ours,
        "Forwarding fields count only if trusted; bad ones are ignored.",
    ),
    rule("D-42", Ours, "Two PATCHes at once: see D-46."),
    rule("D-43", Ours, "HEAD never stops a live PATCH."),
    rule(
        "D-44",
        Ours,
        "DELETE stops a PATCH and answers 204; the writer gets 404.",
    ),
    rule(
        "D-45",
        Ours,
        "Transient trouble is 423, 503, 507 or a closed connection; never 408, 417, 429, 501.",
    ),
    rule(
        "D-46",
        Ours,
        "A silent writer is displaced after a second, a live one makes others wait, then 423.",
    ),
    rule(
        "D-47",
        Ours,
        "HEAD takes no lock, flushes the writer and shows its offset; silent writers are stopped.",
    ),
    rule(
        "D-48",
        Ours,
        "After an early answer up to 16 MiB or 5 s of the body are drained, so that it is read.",
    ),
    rule(
        "D-49",
        Ours,
        "Completion runs before its answer; finals answer at once whatever their size.",
    ),
    rule("D-50", Ours, "Upload-Expires is on POST, PATCH and HEAD."),
    rule(
        "D-51",
        Ours,
        "GET serves complete uploads with ranges and ETag, 404 before.",
    ),
    rule("D-52", Ours, "Content-Disposition: see D-56."),
    rule("D-53", Ours, "CORS: see D-57."),
    rule(
        "D-54",
        Ours,
        "A trailing slash and a query string do not matter; the base may be /.",
    ),
    rule("D-55", Ours, "Another method answers 405 with Allow."),
    rule(
        "D-56",
        Ours,
        "Downloads are inline only for safe types; names are cleaned; nosniff and a sandbox.",
    ),
    rule(
        "D-57",
        Ours,
        "CORS on every answer, for any or for chosen origins, nothing reflected, no credentials.",
    ),
    rule(
        "D-58",
        Ours,
        "Heads of 64 KiB, idle connections of 75 s, HTTP/2 windows that do not starve others.",
    ),
    rule(
        "D-59",
        Ours,
        "SIGTERM: running bodies are committed and told 503, exit within 10 s.",
    ),
    rule(
        "D-60",
        Ours,
        "no-store on every tus answer; private, no-cache with an ETag on downloads.",
    ),
];
