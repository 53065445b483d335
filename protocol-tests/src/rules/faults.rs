//! Faults that were recorded in other servers, turned round.

use super::{Rule, rule};
use crate::case::Level::Ours;

pub(super) const FAULTS: &[Rule] = &[
    rule(
        "F-01",
        Ours,
        "HEAD during a PATCH answers within a second and the PATCH still ends with 204.",
    ),
    rule(
        "F-02",
        Ours,
        "Of two live writers one goes on, the other gets 423; the file is intact.",
    ),
    rule(
        "F-03",
        Ours,
        "After the network vanished HEAD and PATCH succeed within two seconds.",
    ),
    rule(
        "F-04",
        Ours,
        "A peer that stops sending frees the lock without any TCP event.",
    ),
    rule(
        "F-05",
        Ours,
        "DELETE right after an aborted PATCH answers 204.",
    ),
    rule(
        "F-06",
        Ours,
        "The same PATCH twice at once has exactly one 204.",
    ),
    rule(
        "F-07",
        Ours,
        "After SIGTERM during a PATCH and a restart no lock is left.",
    ),
    rule(
        "F-08",
        Ours,
        "A lock attempt that times out blocks nobody later.",
    ),
    rule("F-09", Ours, "Contention is 423, never 409."),
    rule("F-10", Ours, "Lock trouble is never 500."),
    rule(
        "F-11",
        Ours,
        "HEAD never gives 5xx or 404 for a live upload, even with a failing store.",
    ),
    rule(
        "F-12",
        Ours,
        "A transient read error is not 404, and DELETE does not answer 204 to it.",
    ),
    rule(
        "F-13",
        Ours,
        "An upload aborted at 5 of 12 MiB resumes to identical bytes.",
    ),
    rule(
        "F-14",
        Ours,
        "A PATCH of 100 MB aborted at 60 MB leaves at least 59 MB.",
    ),
    rule(
        "F-15",
        Ours,
        "The offset of a 204 equals that of the next HEAD, around every block limit.",
    ),
    rule(
        "F-16",
        Ours,
        "After a broken request the next checksum is over the next chunk alone.",
    ),
    rule(
        "F-17",
        Ours,
        "A completion that failed once is retried and fires once.",
    ),
    rule(
        "F-18",
        Ours,
        "An interrupted request is never taken for a finished one.",
    ),
    rule("F-19", Ours, "Parallel uploads do not mix."),
    rule(
        "F-20",
        Ours,
        "A full disk is 507 or 5xx, the offset stays true, resuming works later.",
    ),
    rule("F-21", Ours, "Thousands of aborts neither crash nor leak."),
    rule(
        "F-22",
        Ours,
        "No upload is complete whose file is shorter than its length.",
    ),
    rule("F-23", Ours, "An empty upload completes in its POST."),
    rule(
        "F-24",
        Ours,
        "Repeated deferral, an equal length and an empty PATCH with a length are fine.",
    ),
    rule(
        "F-25",
        Ours,
        "A deferred upload on a chunk border ends with an empty PATCH.",
    ),
    rule(
        "F-26",
        Ours,
        "Twenty simultaneous GETs of a complete upload succeed.",
    ),
    rule(
        "F-27",
        Ours,
        "GET of an unfinished or deferred upload is 404, not 500.",
    ),
    rule(
        "F-28",
        Ours,
        "Empty metadata values in every spelling are understood.",
    ),
    rule(
        "F-29",
        Ours,
        "Upload-Metadata on HEAD and Upload-Expires on POST are there without a content type.",
    ),
    rule(
        "F-30",
        Ours,
        "A partial with its body in one POST stores the body.",
    ),
    rule("F-31", Ours, "UTF-8 file names survive to the download."),
    rule("F-32", Ours, "A read timeout is no 4xx."),
    rule(
        "F-33",
        Ours,
        "A huge final answers in seconds and is readable at once.",
    ),
    rule(
        "F-34",
        Ours,
        "A final is never empty when its parts are not; sum and order hold.",
    ),
    rule(
        "F-35",
        Ours,
        "No finish event for partials, exactly one for the final.",
    ),
    rule("F-36", Ours, "500 absolute URLs in Upload-Concat work."),
    rule("F-37", Ours, "A final without a length is accepted."),
    rule(
        "F-38",
        Ours,
        "Dots, slashes and NUL in ids answer 404 or 400 and touch nothing.",
    ),
    rule(
        "F-39",
        Ours,
        "Partials always show an offset, pending finals none; a part twice counts twice.",
    ),
    rule(
        "F-40",
        Ours,
        "If concatenation is off, partial is refused with 400.",
    ),
    rule(
        "F-41",
        Ours,
        "A blocking client in mid-send reads the refusal, not a reset.",
    ),
    rule(
        "F-42",
        Ours,
        "Expect with a wrong offset gets 409 and no 100; with the right one exactly one 100.",
    ),
    rule(
        "F-43",
        Ours,
        "Behind a TLS proxy that forwards nothing the upload URL is still right.",
    ),
    rule(
        "F-44",
        Ours,
        "X-Forwarded-Proto: https,http is no error and means https.",
    ),
    rule(
        "F-45",
        Ours,
        "/files and /files/ both create, / works, nothing redirects.",
    ),
    rule(
        "F-46",
        Ours,
        "A page on another origin reads every field it needs, on errors too.",
    ),
    rule(
        "F-47",
        Ours,
        "A preflight reflects nothing; no * with credentials.",
    ),
    rule(
        "F-48",
        Ours,
        "After a 204 the connection serves the next request at once.",
    ),
    rule(
        "F-49",
        Ours,
        "Many large PATCHes over one connection with pauses work.",
    ),
    rule(
        "F-50",
        Ours,
        "The offset never exceeds what the server holds; chunks make progress.",
    ),
    rule(
        "F-51",
        Ours,
        "Permanent failures are 4xx, transient ones 5xx or 423.",
    ),
    rule(
        "F-52",
        Ours,
        "Never two Content-Lengths, never one with Transfer-Encoding.",
    ),
    rule("F-53", Ours, "A query string still addresses the upload."),
    rule(
        "F-54",
        Ours,
        "Success never reports another offset than start plus sent.",
    ),
    rule(
        "F-55",
        Ours,
        "What other servers do against the protocol is tested as a negative case.",
    ),
    rule(
        "F-56",
        Ours,
        "HEAD of a deleted upload is a fast 404 without offset that nobody caches.",
    ),
    rule("F-57", Ours, "A complete upload does not expire."),
    rule("F-58", Ours, "S3 uploads stay within part limits."),
    rule(
        "F-59",
        Ours,
        "Interrupted S3 uploads leave no orphan parts.",
    ),
    rule("F-60", Ours, "An endless stream of empty PATCHes is cheap."),
];
