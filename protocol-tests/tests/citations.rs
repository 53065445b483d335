//! A rule number in the code leads to a rule: every number that a comment, a test's name or a table
//! of tests cites is in one of the documents of `docs/contract`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use protocol_tests::rules::is_number;
use protocol_tests::{drf, resumable, tus};

#[test]
fn every_cited_rule_is_in_a_document() {
    let [tus, resumable, drf] =
        [&tus::CONTRACT, &resumable::CONTRACT, &drf::CONTRACT].map(|contract| {
            let facts = contract.document().facts;
            contract
                .rules()
                .map(|rule| rule.id)
                .chain(facts.into_iter().map(|fact| fact.id))
                .collect::<HashSet<_>>()
        });
    let mut unknown = Vec::new();
    for (path, line, text) in lines() {
        // Both documents number faults of other servers with an F.
        let is_resumable = path.to_string_lossy().contains("resumable");
        for number in cited(&text) {
            let is_known = match number.starts_with("F-") && is_resumable {
                true => resumable.contains(number.as_str()),
                false => [&tus, &resumable, &drf].iter().any(|of| of.contains(number.as_str())),
            };
            if !is_known {
                unknown.push(format!("{}:{line}: {number}", path.display()));
            }
        }
    }
    assert!(unknown.is_empty(), "no document has these rules:\n{}", unknown.join("\n"));
}

/// Sections move, rules do not.
#[test]
fn no_comment_cites_a_section_of_a_contract() {
    let sections: Vec<_> = lines()
        .filter(|(_, _, text)| cites_section(text))
        .map(|(path, line, text)| format!("{}:{line}: {}", path.display(), text.trim()))
        .collect();
    assert!(sections.is_empty(), "cite a rule number instead:\n{}", sections.join("\n"));
}

#[test]
fn citations_are_found_in_comments_names_and_tables() {
    for (line, expected) in [
        ("/// Answers (T-001, D-02: I-03).", &["T-001", "D-02", "I-03"][..]),
        ("fn patch_is_refused_t_019_d_09() {", &["T-019", "D-09"]),
        ("    async fn a_head_is_answered_j_009() {", &["J-009"]),
        ("(\"S-003\", x - 1, \"RFC-9112\"),", &["S-003"]),
        ("//! The order of checks (0.2), version 1.0.2 of x.", &["0.2"]),
        ("let half = 0.5;", &[]),
        ("fn version_is_1_0_0_exactly() {", &[]),
    ] {
        assert_eq!(cited(line), expected, "{line}");
    }
    for (line, expected) in [
        ("/// As in section 0.2 of the contract.", true),
        ("/// Names are ignored (1.2).", true),
        ("// RFC 9113, section 4.1.", false),
        ("fn faults_say_what_was_expected_section_4() {", true),
        ("/// One file per section group.", false),
        ("/// resumable.js (1.0.2)", false),
    ] {
        assert_eq!(cites_section(line), expected, "{line}");
    }
}

/// The lines of every source file, with file and line number.
fn lines() -> impl Iterator<Item = (PathBuf, usize, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let mut files = Vec::new();
    for folder in ["src", "examples", "protocol-tests"] {
        collect(&root.join(folder), &mut files);
    }
    // This one has examples of wrong citations.
    files.retain(|path| !path.ends_with(file!()));
    files.into_iter().flat_map(move |path| {
        let text = std::fs::read_to_string(&path).expect("a text file");
        let short = path.strip_prefix(root).expect("below it").to_owned();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        (1..).zip(lines).map(move |(number, line)| (short.clone(), number, line))
    })
}

/// Adds the source files below `folder`, but none that a tool has put there.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_foreign = name.starts_with('.') || ["node_modules", "target"].contains(&&*name);
        if path.is_dir() && !is_foreign {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The rule numbers in `line`: as they are, and in names of functions as `_t_001`.
fn cited(line: &str) -> Vec<String> {
    let is_comment = line.trim_start().starts_with("//");
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && !"-.".contains(c));
    let words = words.map(|word| word.trim_matches('.'));
    let numbers = words.filter(|word| is_number(word) && (is_comment || !word.starts_with('0')));
    let mut numbers: Vec<_> = numbers.map(str::to_owned).collect();
    if let Some((_, name)) = line.split_once("fn ") {
        let name = name.split('(').next().unwrap_or_default();
        let words: Vec<_> = name.split('_').collect();
        let pairs = words.windows(2).map(|pair| format!("{}-{}", pair[0].to_uppercase(), pair[1]));
        numbers.extend(pairs.filter(|number| is_number(number) && number.len() > 3));
    }
    numbers
}

/// Whether `line` cites a section by its number, other than of an RFC.
fn cites_section(line: &str) -> bool {
    let is_digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let lower = line.to_lowercase();
    if lower.contains("rfc") {
        return false;
    }
    let mut after = lower.split("section").skip(1);
    let by_word = after.any(|rest| is_digit(rest.trim_start_matches(['s', ' ', '_'])));
    let mut brackets = lower.split('(').skip(1).filter_map(|rest| rest.split_once(')'));
    let by_number = brackets.any(|(inner, _)| {
        inner.split_once('.').is_some_and(|(chapter, section)| {
            let mut digits = [chapter, section].into_iter();
            digits.all(|part| is_digit(part) && part.bytes().all(|b| b.is_ascii_digit()))
                && !is_number(inner)
        })
    });
    by_word || (by_number && lower.trim_start().starts_with("//"))
}
