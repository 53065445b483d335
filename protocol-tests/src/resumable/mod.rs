//! The cases for ResumableJS, flow.js and simple-uploader.js, one file per section group.

mod answers;
mod bytes_of_chunks;
mod checks;
pub mod client;
mod completion;
mod concurrency;
mod duplicates;
mod elsewhere;
mod expiry;
mod identity;
mod presence;
mod reading;
mod restarts;
mod seen_from_tus;

use crate::case::Case;
use crate::contract::Contract;

const GROUPS: &[&[Case]] = &[
    presence::CASES,
    reading::CASES,
    bytes_of_chunks::CASES,
    duplicates::CASES,
    concurrency::CASES,
    completion::CASES,
    restarts::CASES,
    expiry::CASES,
    seen_from_tus::CASES,
    identity::CASES,
    answers::CASES,
];

/// The contract.
pub const CONTRACT: Contract = Contract {
    name: "resumable",
    text: include_str!("../../../docs/contract/resumablejs.md"),
    elsewhere: elsewhere::NOT_ON_THE_WIRE,
    groups: GROUPS,
    checks: checks::CHECKS,
    panic_rules: &["S-003"],
    announces: false,
};
