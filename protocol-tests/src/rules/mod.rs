//! The rules of the tus contract, each as one short sentence, and where those are tested that a
//! client cannot see.

mod decisions;
mod faults;
mod invariants;
mod protocol;

use crate::case::Level;

/// One rule of the contract.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its number.
    pub id: &'static str,
    /// How binding it is.
    pub level: Level,
    /// What it says.
    pub says: &'static str,
}

/// A rule that no client can see broken from outside, or not all of it.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere {
    /// Its number.
    pub id: &'static str,
    /// What cannot be seen on the wire.
    pub why: &'static str,
    /// Where it is tested instead.
    pub place: &'static str,
}

/// The chapters of the contract with their rules.
pub(crate) const CHAPTERS: &[(&str, &[Rule])] = &[
    ("Frame", invariants::FRAME),
    ("Invariants", invariants::INVARIANTS),
    ("Core protocol", protocol::CORE),
    ("Creation", protocol::CREATION),
    ("Creation with upload", protocol::CREATION_WITH_UPLOAD),
    ("Expiration", protocol::EXPIRATION),
    ("Checksum", protocol::CHECKSUM),
    ("Termination", protocol::TERMINATION),
    ("Concatenation", protocol::CONCATENATION),
    ("Decisions where the protocol is silent", decisions::DECISIONS),
    ("Faults of other servers", faults::FAULTS),
];

pub(crate) const fn rule(id: &'static str, level: Level, says: &'static str) -> Rule {
    Rule { id, level, says }
}

pub(crate) const fn elsewhere(
    id: &'static str,
    why: &'static str,
    place: &'static str,
) -> Elsewhere {
    Elsewhere { id, why, place }
}

/// Rules, or parts of rules, that black-box cases cannot reach.
pub(crate) const NOT_ON_THE_WIRE: &[Elsewhere] = &[
    elsewhere("I-05", "a completion step that fails needs a hook", "engine tests"),
    elsewhere(
        "I-06",
        "HEAD over a store that fails needs a store that fails on cue",
        "engine tests",
    ),
    elsewhere("T-053", "a hook that rejects or rewrites metadata needs a hook", "engine tests"),
    elsewhere("T-074", "a tombstone older than a day needs a clock of its own", "rules tests"),
    elsewhere("D-49", "a hook that rejects for good or for now needs a hook", "engine tests"),
    elsewhere(
        "D-57",
        "credentials and extra fields are options of the library alone",
        "wire tests",
    ),
    elsewhere(
        "D-58",
        "the full 75 s of idle time would make a run too long; 45 s are waited",
        "listener settings",
    ),
    elsewhere("F-11", "HEAD over a failing store needs a store that fails on cue", "engine tests"),
    elsewhere("F-12", "a transient read error needs a store that fails on cue", "engine tests"),
    elsewhere("F-17", "a completion hook that fails once needs a hook", "engine tests"),
    elsewhere("F-35", "events for partials and finals are seen by observers only", "engine tests"),
    elsewhere("F-40", "concatenation cannot be switched off in the binary", "tests of the rules"),
    elsewhere("F-58", "S3 is not part of local disk", "object storage tests"),
    elsewhere("F-59", "S3 is not part of local disk", "object storage tests"),
];
