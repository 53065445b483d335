//! What a dialect is held against: its rules, its cases, and what every answer of it must keep.

use crate::case::Case;
use crate::rules::{self, Document, Elsewhere, Rule};
use crate::watch::{self, Check};
use crate::{drf, resumable, tus};

/// One wire contract. Rule numbers are its own; names of cases and checks are not shared.
#[derive(Debug)]
pub struct Contract {
    /// The dialect's name, as in the start lines of the server and after `--dialect`.
    pub name: &'static str,
    /// The document with its rules.
    pub text: &'static str,
    /// Rules, or parts of rules, that no client can see broken.
    pub elsewhere: &'static [Elsewhere],
    /// The cases, by section group.
    pub groups: &'static [&'static [Case]],
    /// What every answer must keep.
    pub checks: &'static [Check],
    /// The rules that a panic of the server breaks.
    pub panic_rules: &'static [&'static str],
    /// Whether OPTIONS announces extensions that cases may need.
    pub announces: bool,
}

/// Every contract, in the order of the page.
pub const ALL: [&Contract; 3] = [&tus::CONTRACT, &resumable::CONTRACT, &drf::CONTRACT];

impl Contract {
    /// The contract of a dialect.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        ALL.into_iter().find(|contract| contract.name == name)
    }

    /// Every case, in the order of the contract.
    pub fn cases(&self) -> impl Iterator<Item = &'static Case> + use<> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    /// The document of the contract.
    ///
    /// # Panics
    /// When the document is malformed; the text says where.
    pub fn document(&self) -> Document {
        rules::parse(self.text)
            .unwrap_or_else(|wrong| panic!("docs/contract, {}: {wrong}", self.name))
    }

    /// Every rule, in order.
    pub fn rules(&self) -> impl Iterator<Item = Rule> + use<> {
        self.document().chapters.into_iter().flat_map(|chapter| chapter.rules)
    }

    /// The names of the cases and checks that hold a rule.
    pub fn proofs(&self, rule: &str) -> Vec<&'static str> {
        let cases = self.cases().filter(|case| case.rules.contains(&rule));
        let checks = self.checks.iter().filter(|c| c.rules.contains(&rule));
        let mut names: Vec<_> = cases.map(|case| case.name).collect();
        names.extend(checks.map(|check| check.name));
        if self.panic_rules.contains(&rule) {
            names.push(watch::NO_PANIC);
        }
        names
    }
}

/// Every case of every contract, with the contract.
pub fn cases() -> impl Iterator<Item = (&'static Contract, &'static Case)> {
    ALL.into_iter().flat_map(|contract| contract.cases().map(move |case| (contract, case)))
}
