//! The tables of rules and cases agree with each other and with the page written from them.

use std::collections::HashSet;
use std::path::Path;

use protocol_tests::{contract, original, page};

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

/// What the package did with each is measured by `protocol-tests/original/run`.
#[test]
fn table_of_differences_has_every_case() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/drf-chunked-upload.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
    let missing: Vec<_> =
        original::beginnings().filter(|line| !page.lines().any(|l| l.starts_with(line))).collect();
    assert!(
        missing.is_empty(),
        "docs/drf-chunked-upload.md is out of date; write it anew with \
         `protocol-tests/original/run --renew`\n{}",
        missing.join("\n")
    );
}

#[test]
fn every_rule_has_a_case_or_a_reason() {
    for contract in contract::ALL {
        let excused = |id| contract.elsewhere.iter().any(|e| e.id == id);
        let bare: Vec<_> = contract
            .rules()
            .map(|rule| rule.id)
            .filter(|id| contract.proofs(id).is_empty() && !excused(*id))
            .collect();
        let name = contract.name;
        assert!(bare.is_empty(), "{name}: rules without a case or a reason: {bare:?}");
    }
}

#[test]
fn every_case_cites_rules_that_exist() {
    for contract in contract::ALL {
        let known: HashSet<_> = contract.rules().map(|rule| rule.id).collect();
        let cited = contract.cases().flat_map(|case| case.rules);
        let checked = contract.checks.iter().flat_map(|check| check.rules);
        let excused = contract.elsewhere.iter().map(|elsewhere| &elsewhere.id);
        let unknown: Vec<_> = cited
            .chain(checked)
            .chain(contract.panic_rules)
            .chain(excused)
            .filter(|id| !known.contains(*id))
            .collect();
        let name = contract.name;
        assert!(unknown.is_empty(), "{name}: no such rules: {unknown:?}");
    }
}

#[test]
fn every_name_is_used_once() {
    let mut seen = HashSet::new();
    let cases = contract::cases().map(|(_, case)| case.name);
    let checks = contract::ALL.into_iter().flat_map(|c| c.checks);
    let twice: Vec<_> =
        cases.chain(checks.map(|check| check.name)).filter(|name| !seen.insert(*name)).collect();
    assert!(twice.is_empty(), "names used twice: {twice:?}");
    for contract in contract::ALL {
        let mut seen = HashSet::new();
        let rules = contract.rules().map(|rule| rule.id);
        let twice: Vec<_> = rules.filter(|rule| !seen.insert(*rule)).collect();
        assert!(twice.is_empty(), "rules listed twice: {twice:?}");
    }
}
