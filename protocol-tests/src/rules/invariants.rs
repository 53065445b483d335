//! The frame of the contract and its invariants.

use super::{Rule, rule};
use crate::case::Level::{Must, Ours};

pub(super) const FRAME: &[Rule] = &[
    rule("0.2", Ours, "Checks run in one fixed order; the first that fails answers."),
    rule("0.3", Ours, "Every refusal has one status and one code, as plain text, none on HEAD."),
    rule(
        "0.4",
        Ours,
        "Every answer carries the version, no-store and nosniff; each success its fields.",
    ),
];

pub(super) const INVARIANTS: &[Rule] = &[
    rule(
        "I-01",
        Must,
        "The offset any client can see never goes down and is exactly what a later read returns.",
    ),
    rule("I-02", Must, "A 2xx to a request with body bytes means that all of them were kept."),
    rule("I-03", Must, "A 4xx decided by a check changes nothing."),
    rule("I-04", Must, "A POST that is answered with anything but 2xx leaves no upload behind."),
    rule(
        "I-05",
        Must,
        "Offset = length becomes visible only after completion succeeded, which happens once.",
    ),
    rule("I-06", Must, "HEAD of an upload that exists answers 2xx or 423, never 404 or 5xx."),
    rule("I-07", Must, "No redirect on any tus URL, for any method."),
    rule("I-08", Must, "At most one writer per upload at any instant, across tasks and processes."),
    rule(
        "I-09",
        Must,
        "After kill -9 HEAD shows at least the last acknowledged offset, and no unverified byte.",
    ),
    rule(
        "I-10",
        Must,
        "Every answer carries Tus-Resumable, and CORS fields when the request has Origin.",
    ),
    rule(
        "I-11",
        Must,
        "Bodies are streamed: memory is bounded and bytes reach the store while the request runs.",
    ),
    rule(
        "I-12",
        Must,
        "Ids are made by the server, at least 128 random bits; no client text becomes a path.",
    ),
];
