//! The cases for tus 1.0 and its extensions, one file per section group.

mod checksum;
mod checksum_of_upload;
mod checksum_trailer;
mod completion;
mod concatenation;
mod concatenation_syntax;
mod concurrency;
mod cors;
mod creation;
mod creation_metadata;
mod creation_with_upload;
mod cut_bodies;
mod defer_length;
mod download;
mod durability;
mod early_answers;
mod elsewhere;
mod expiration;
mod forwarded;
mod head;
mod hosts;
mod limits;
mod memory;
mod method_override;
mod options;
mod order_of_checks;
mod patch;
mod patch_lengths;
mod paths;
mod shutdown;
mod takeover;
mod termination;
mod versions;
mod walk;

use crate::case::Case;
use crate::contract::Contract;
use crate::watch;

const GROUPS: &[&[Case]] = &[
    options::CASES,
    versions::CASES,
    order_of_checks::CASES,
    paths::CASES,
    hosts::CASES,
    method_override::CASES,
    head::CASES,
    patch::CASES,
    patch_lengths::CASES,
    cut_bodies::CASES,
    early_answers::CASES,
    creation::CASES,
    creation_metadata::CASES,
    creation_with_upload::CASES,
    defer_length::CASES,
    expiration::CASES,
    checksum::CASES,
    checksum_of_upload::CASES,
    checksum_trailer::CASES,
    termination::CASES,
    concatenation::CASES,
    concatenation_syntax::CASES,
    download::CASES,
    cors::CASES,
    forwarded::CASES,
    concurrency::CASES,
    takeover::CASES,
    completion::CASES,
    walk::CASES,
    limits::CASES,
    memory::CASES,
    durability::CASES,
    shutdown::CASES,
];

/// The contract.
pub const CONTRACT: Contract = Contract {
    name: "tus",
    text: include_str!("../../../docs/contract/tus.md"),
    elsewhere: elsewhere::NOT_ON_THE_WIRE,
    groups: GROUPS,
    checks: watch::CHECKS,
    panic_rules: &["I-10"],
    announces: true,
};
