//! The rules of the contract that no client can see broken, or not all of them, and the tests that
//! check them instead.

use crate::rules::{Elsewhere, elsewhere};

/// Rules, or parts of rules, that black-box cases cannot reach.
pub(super) const NOT_ON_THE_WIRE: &[Elsewhere] = &[
    elsewhere(
        "P-012",
        "the binary has no setting for the name of the field",
        "wire test requests_are_read_as_configured_p_008_p_012",
    ),
    elsewhere(
        "P-130",
        "the binary has no source of owners",
        "service test uploads_of_one_owner_are_unknown_to_others_p_130_p_133",
    ),
    elsewhere(
        "P-149",
        "that nothing is read again is seen by time alone",
        "engine test checksum_of_bytes_that_came_in_order_is_known_p_149",
    ),
];
