//! The dependencies of the workspace are what `deny.toml` allows: licences, duplicates, sources.
//! None has a fault that the RustSec advisory database knew when `advisories.json` was made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use protocol_tests::advisories::{self, Advisory, RENEWAL, Snapshot};
use protocol_tests::failure::{Failure, Rows, ensure};
use serde_json::Value;

/// How old the snapshot of the advisories may be before the test says so.
const FRESH: Duration = Duration::from_secs(120 * 24 * 60 * 60);

/// A list of texts in `deny.toml`.
fn allowed(key: &str) -> Result<BTreeSet<String>, Failure> {
    let text = fs::read_to_string(advisories::root().join("deny.toml"))?;
    let list = advisories::texts(&text, key);
    ensure(!list.is_empty(), format!("deny.toml has no list {key}"))?;
    Ok(list.into_iter().collect())
}

/// Every package of the lock file, for any system.
fn packages() -> Result<Vec<Value>, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .current_dir(advisories::root())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.success(), format!("cargo metadata: {said}"))?;
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(Failure::new)?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    ensure(packages.len() > 100, "cargo metadata lists next to nothing")?;
    Ok(packages)
}

/// Whether a licence expression (SPDX, and the older form with a slash) can be met by what is
/// allowed.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest, allowed) && rest.is_empty()
}

fn either(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = both(rest, allowed);
    while let ["OR", after @ ..] = *rest {
        *rest = after;
        met |= both(rest, allowed);
    }
    met
}

fn both(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = one(rest, allowed);
    while let ["AND", after @ ..] = *rest {
        *rest = after;
        met &= one(rest, allowed);
    }
    met
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let (licence, after) = match *rest {
        ["(", after @ ..] => {
            *rest = after;
            let met = either(rest, allowed);
            let closed = matches!(*rest, [")", ..]);
            *rest = rest.get(1..).unwrap_or_default();
            return met && closed;
        }
        [name, "WITH", exception, after @ ..] => (format!("{name} WITH {exception}"), after),
        [name, after @ ..] => ((*name).to_owned(), after),
        [] => return false,
    };
    *rest = after;
    allowed.contains(&licence)
}

#[test]
fn dependencies_are_what_is_allowed() -> Result<(), Failure> {
    let (licences, twice) = (allowed("allow")?, allowed("skip")?);
    let registries = allowed("allow-registry")?;
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut rows = Rows::new();
    for package in packages()? {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        let (name, licence, source) = (text("name"), text("license"), text("source"));
        versions.entry(name.clone()).or_default().push(text("version"));
        rows.row(&name, || {
            let met = is_met(&licence, &licences);
            ensure(met, format!("the licence is {licence:?}"))?;
            // Those without a source are ours.
            let registry = source.strip_prefix("registry+").unwrap_or(&source);
            let known = source.is_empty() || registries.contains(registry);
            ensure(known, format!("it comes from {source:?}"))
        });
    }
    for (name, versions) in versions {
        rows.row(&name, || {
            let fine = versions.len() == 1 || twice.contains(&name);
            ensure(fine, format!("it is there in several versions: {versions:?}"))
        });
    }
    rows.verdict()
}

#[test]
fn licence_expressions_are_read_as_they_are_meant() {
    let allowed: BTreeSet<String> = ["A", "B", "A WITH x"].map(str::to_owned).into();
    for (expression, expected) in [
        ("A", true),
        ("C", false),
        ("", false),
        ("A OR C", true),
        ("C/A", true),
        ("A AND C", false),
        ("A AND B", true),
        ("C OR A AND B", true),
        ("(C OR A) AND B", true),
        ("(A OR B) AND C", false),
        ("A WITH x", true),
        ("A WITH y", false),
        ("B WITH x OR C", false),
        ("(A", false),
        ("A B", false),
    ] {
        assert_eq!(is_met(expression, &allowed), expected, "{expression}");
    }
}

#[test]
fn dependencies_have_no_known_fault() -> Result<(), Failure> {
    let snapshot = Snapshot::read()?;
    if SystemTime::now() > snapshot.time + FRESH {
        println!("NOTE: advisories are known up to {}: {RENEWAL}", snapshot.date);
    }
    let mut rows = Rows::new();
    for package in advisories::locked()? {
        rows.row(format!("{} {}", package.name, package.version), || {
            let is_known = snapshot.packages.contains(&package.name);
            ensure(is_known, format!("nobody has looked for advisories: {RENEWAL}"))?;
            let about = snapshot.about(&package);
            let about: Vec<_> = about.map(|one| format!("{} ({})", one.id, one.kind)).collect();
            ensure(about.is_empty(), format!("https://rustsec.org has {about:?}"))
        });
    }
    rows.verdict()
}

#[test]
fn advisory_is_about_every_version_that_it_does_not_except() -> Result<(), Failure> {
    let advisory = |versions: &str| {
        let head = "[advisory]\nid = \"RUSTSEC-2000-0001\"\npackage = \"leaky\"\n";
        Advisory::parse(&format!("```toml\n{head}{versions}\n```\n\n# It leaks\n"))
    };
    let lock = |name: &str, version: &str| {
        let source = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
        let text = format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n{source}\n");
        let packages = advisories::packages_of(&format!("version = 4\n\n{text}"));
        packages.map(|mut packages| packages.remove(0))
    };
    let versions = "[versions]\npatched = [\n  \">= 1.2.3, < 1.3.0\",\n  \">= 1.4.0\",\n]\n\
                    unaffected = [\"< 1.0.0\"]";
    let found = advisory(versions)?.ok_or_else(|| Failure::new("it is not withdrawn"))?;
    for (name, version, expected) in [
        ("leaky", "0.9.9", false),
        ("leaky", "1.0.0", true),
        ("leaky", "1.2.2", true),
        ("leaky", "1.2.3", false),
        ("leaky", "1.3.5", true),
        ("leaky", "1.4.0", false),
        ("tight", "1.0.0", false),
    ] {
        assert_eq!(found.is_about(&lock(name, version)?), expected, "{name} {version}");
    }
    let never = advisory("informational = \"unmaintained\"\n[versions]\npatched = []")?;
    let never = never.ok_or_else(|| Failure::new("it is not withdrawn"))?;
    assert_eq!(never.kind, "unmaintained");
    assert!(never.is_about(&lock("leaky", "9.9.9")?));
    assert!(advisory("withdrawn = \"2000-01-01\"\n[versions]\npatched = []")?.is_none());
    Ok(())
}
