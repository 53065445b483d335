//! The rules of the ResumableJS contract that no client can see broken, or not all of them, and the
//! tests that check them instead.

use crate::rules::{Elsewhere, elsewhere};

/// Rules, or parts of rules, that black-box cases cannot reach.
pub(super) const NOT_ON_THE_WIRE: &[Elsewhere] = &[
    elsewhere(
        "S-002",
        "the binary has no source of owners; the cases show what it answers without one",
        "wire test owners_come_from_the_application_or_a_header_s_002",
    ),
    elsewhere(
        "S-001",
        "what the hash depends on",
        "wire test keys_depend_on_owner_route_and_names_s_001_f_36_f_37",
    ),
    elsewhere(
        "F-36",
        "the binary has no source of owners",
        "wire tests keys_depend_on_owner_route_and_names_s_001_f_36_f_37 and owners_come_from_the_application_or_a_header_s_002",
    ),
    elsewhere("S-006", "authorisation of tests needs a gate", "engine tests"),
    elsewhere(
        "S-010",
        "what a name leads to after the grace of a minute needs a clock of its own",
        "engine test finished_name_is_free_again_after_its_grace",
    ),
    elsewhere(
        "J-060",
        "the status of a file that has been complete for a minute needs a clock of its own",
        "engine test finished_name_is_free_again_after_its_grace",
    ),
    elsewhere("A-003", "401 and 403 need a gate", "wire tests of refusals"),
    elsewhere(
        "J-004",
        "renamed parameters, namespaces and narrowed profiles are options of the library",
        "wire tests every_name_can_be_changed_j_004 and mounts_take_the_configured_names_only_j_004",
    ),
    elsewhere(
        "J-015",
        "strict counting is an option of the library",
        "wire test mounts_can_be_strict_j_015",
    ),
    elsewhere(
        "J-035",
        "the loss of power needs a disk that forgets",
        "file store tests of power loss",
    ),
    elsewhere(
        "J-030",
        "the one completion event is seen by observers",
        "engine tests; here the server's log is read",
    ),
];
