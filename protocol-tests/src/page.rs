//! The page `docs/conformance.md`, written from the documents of rules and the tables of cases.

use std::fmt::Write as _;

use crate::contract::{self, Contract};
use crate::rules::{Elsewhere, Rule};

const INTRODUCTION: &str = "\
# Conformance

Every rule of the wire contracts for [tus 1.0](contract/tus.md), [ResumableJS](contract/resumablejs.md)
and [drf-chunked-upload](contract/drf-chunked-upload.md), with the cases that fail if it is broken. A
case is an exchange over sockets in `protocol-tests/src/tus/`, `resumable/` or `drf/`; `cargo run -p
protocol-tests --bin conformance` runs all of them against the windlass binary, and `--dialect NAME
--url URL` those of one dialect against any server.
Levels are those of the protocol text; *ours* marks what it leaves open and Windlass decides.
ResumableJS and drf-chunked-upload have no text: there every rule is ours, and numbers are those of
its own contract.

This page is generated: `cargo run -p protocol-tests --bin conformance -- --markdown
docs/conformance.md`.
";

/// The page as text.
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for contract in contract::ALL {
        let document = contract.document();
        for chapter in &document.chapters {
            // Writing to a String cannot fail.
            let _ = write!(
                page,
                "\n## {}: {}\n\n| rule | level | says | cases |\n| --- | --- | --- | --- |\n",
                document.title, chapter.title
            );
            for rule in &chapter.rules {
                let (id, level) = (rule.id, rule.level.word());
                // A bar would end the cell.
                let says = rule.says.replace('|', "\\|");
                let proofs = proofs(contract, rule);
                let _ = writeln!(page, "| {id} | {level} | {says} | {proofs} |");
            }
        }
    }
    page
}

fn proofs(contract: &Contract, rule: &Rule) -> String {
    let proofs = contract.proofs(rule.id).into_iter();
    let elsewhere = contract.elsewhere.iter().filter(|e| e.id == rule.id);
    proofs
        .map(|name| format!("`{name}`"))
        .chain(elsewhere.map(not_here))
        .collect::<Vec<_>>()
        .join("<br>")
}

fn not_here(elsewhere: &Elsewhere) -> String {
    format!("*not on the wire: {}; see the {}*", elsewhere.why, elsewhere.place)
}
