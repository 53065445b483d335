//! The page `docs/conformance.md`, written from the tables of rules and cases.

use std::fmt::Write as _;

use crate::rules::{CHAPTERS, Elsewhere, NOT_ON_THE_WIRE, Rule};
use crate::{tus, watch};

const INTRODUCTION: &str = "\
# Conformance

Every rule of the wire contract for tus 1.0, with the cases that fail if it is broken. A case is an
exchange over sockets in `protocol-tests/src/tus/`; `cargo run -p protocol-tests --bin conformance`
runs all of them against the windlass binary, and `--url URL` against any tus server. Levels are
those of the protocol text; *ours* marks what it leaves open and Windlass decides.

This page is generated: `cargo run -p protocol-tests --bin conformance -- --markdown
docs/conformance.md`.
";

/// The page as text.
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (title, rules) in CHAPTERS {
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n## {title}\n\n| rule | level | says | cases |\n| --- | --- | --- | --- |\n"
        );
        for rule in *rules {
            let (id, level, says) = (rule.id, rule.level.word(), rule.says);
            let _ = writeln!(page, "| {id} | {level} | {says} | {} |", proofs(rule));
        }
    }
    page
}

/// The names of the cases and checks that hold a rule.
pub fn cases_of(id: &str) -> Vec<&'static str> {
    let cases = tus::cases()
        .filter(|case| case.rules.contains(&id))
        .map(|case| case.name);
    let checks = watch::CHECKS
        .iter()
        .filter(|check| check.rules.contains(&id));
    let mut names: Vec<_> = cases.chain(checks.map(|check| check.name)).collect();
    if watch::NO_PANIC_RULES.contains(&id) {
        names.push(watch::NO_PANIC);
    }
    names
}

fn proofs(rule: &Rule) -> String {
    let cases = cases_of(rule.id)
        .into_iter()
        .map(|name| format!("`{name}`"));
    let elsewhere = NOT_ON_THE_WIRE
        .iter()
        .filter(|elsewhere| elsewhere.id == rule.id);
    cases
        .chain(elsewhere.map(not_here))
        .collect::<Vec<_>>()
        .join("<br>")
}

fn not_here(elsewhere: &Elsewhere) -> String {
    format!(
        "*not on the wire: {}; see the {}*",
        elsewhere.why, elsewhere.place
    )
}
