//! The tables of rules and cases agree with each other and with the page written from them.

use std::collections::HashSet;
use std::path::Path;

use protocol_tests::{page, rules, tus, watch};

#[test]
fn page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conformance.md");
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == page::markdown(),
        "docs/conformance.md is out of date; write it anew with \
         `cargo run -p protocol-tests --bin conformance -- --markdown docs/conformance.md`"
    );
}

#[test]
fn every_rule_has_a_case_or_a_reason() {
    let excused = |id| {
        rules::NOT_ON_THE_WIRE
            .iter()
            .any(|elsewhere| elsewhere.id == id)
    };
    let bare: Vec<_> = rules::all()
        .map(|rule| rule.id)
        .filter(|id| page::cases_of(id).is_empty() && !excused(*id))
        .collect();
    assert!(
        bare.is_empty(),
        "rules without a case or a reason: {bare:?}"
    );
}

#[test]
fn every_case_cites_rules_that_exist() {
    let known: HashSet<_> = rules::all().map(|rule| rule.id).collect();
    let excused = rules::NOT_ON_THE_WIRE.iter().map(|elsewhere| elsewhere.id);
    let cited = tus::cases().flat_map(|case| case.rules.iter().copied());
    let checked = watch::CHECKS
        .iter()
        .flat_map(|check| check.rules.iter().copied());
    let unknown: Vec<_> = cited
        .chain(checked)
        .chain(excused)
        .filter(|id| !known.contains(id))
        .collect();
    assert!(unknown.is_empty(), "no such rules: {unknown:?}");
}

#[test]
fn every_name_is_used_once() {
    let mut seen = HashSet::new();
    let names = tus::cases()
        .map(|case| case.name)
        .chain(watch::CHECKS.iter().map(|c| c.name));
    let twice: Vec<_> = names.filter(|name| !seen.insert(*name)).collect();
    assert!(twice.is_empty(), "names used twice: {twice:?}");
    let mut seen = HashSet::new();
    let twice: Vec<_> = rules::all().filter(|rule| !seen.insert(rule.id)).collect();
    assert!(twice.is_empty(), "rules listed twice: {twice:?}");
}
