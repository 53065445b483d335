//! The cases for clients of drf-chunked-upload, one file per section group.

mod chunks;
pub mod client;
mod elsewhere;
mod errors;
mod requests;

use crate::case::{Case, Level};
use crate::contract::Contract;
use crate::watch::Check;

const GROUPS: &[&[Case]] = &[requests::CASES, chunks::CASES, errors::CASES];

/// What every answer of this dialect must keep.
const CHECKS: &[Check] = &[
    Check {
        name: "every_drf_answer_names_the_methods_and_forbids_caching",
        rules: &["P-010"],
        level: Level::Ours,
        says: "Allow with the methods, Cache-Control: no-store",
        holds: |x| {
            x.response.list("Cache-Control") == ["no-store"]
                && x.response.list("Allow") == ["GET", "POST", "PUT", "HEAD", "OPTIONS"]
        },
    },
    Check {
        name: "every_drf_answer_is_framed_once",
        rules: &["P-010"],
        level: Level::Ours,
        says: "one Content-Length at most, none with Transfer-Encoding or 204, no body on HEAD",
        holds: |x| {
            let lengths = x.response.all("Content-Length").count();
            let chunked = usize::from(x.response.field("Transfer-Encoding").is_some());
            let most = if x.response.status == 204 { 0 } else { 1 };
            lengths + chunked <= most && (x.method != "HEAD" || x.response.body.is_empty())
        },
    },
    Check {
        name: "every_drf_answer_is_below_500",
        rules: &["P-147", "P-030"],
        level: Level::Ours,
        says: "200, 204 for OPTIONS, or 4xx",
        holds: |x| [200, 204, 400, 404, 405, 410, 415].contains(&x.response.status),
    },
];

/// The contract.
pub const CONTRACT: Contract = Contract {
    name: "chunked",
    text: include_str!("../../../docs/contract/drf-chunked-upload.md"),
    elsewhere: elsewhere::NOT_ON_THE_WIRE,
    groups: GROUPS,
    checks: CHECKS,
    panic_rules: &["P-147"],
    announces: false,
};
