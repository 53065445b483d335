//! The rules of the tus contract that no client can see broken, or not all of them, and the tests
//! that check them instead.

use crate::rules::{Elsewhere, elsewhere};

/// Rules, or parts of rules, that black-box cases cannot reach.
pub(super) const NOT_ON_THE_WIRE: &[Elsewhere] = &[
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
