//! The rules of a wire contract, read from its document in `docs/contract`.
//!
//! A chapter is a heading `## TITLE`, a rule is a line `- **NUMBER** (LEVEL) TEXT.`, and everything
//! else is prose. Lines of the level *fact* say what clients were seen to do.

use std::collections::HashSet;

use crate::case::Level;

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its title.
    pub title: &'static str,
    /// The chapters that have rules, in order.
    pub chapters: Vec<Chapter>,
    /// What clients were seen to do.
    pub facts: Vec<Fact>,
}

/// Rules under one heading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chapter {
    /// The heading.
    pub title: &'static str,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// One rule of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its number.
    pub id: &'static str,
    /// How binding it is.
    pub level: Level,
    /// What it says.
    pub says: &'static str,
}

/// Something that clients were seen to do: a reason for rules, which no server can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Its number.
    pub id: &'static str,
    /// What it says.
    pub says: &'static str,
}

/// A rule that no client can see broken from outside, or not all of it.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere {
    /// Its number.
    pub id: &'static str,
    /// What cannot be seen on the wire.
    pub why: &'static str,
    /// Where it is tested instead.
    pub place: &'static str,
}

pub(crate) const fn elsewhere(
    id: &'static str,
    why: &'static str,
    place: &'static str,
) -> Elsewhere {
    Elsewhere { id, why, place }
}

/// The prefixes of rule numbers.
const PREFIXES: &[u8] = b"ACDFIJPST";

/// Whether `text` has the form of a rule number: `T-001`, or `0.2` for the frame of the tus
/// contract.
pub fn is_number(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.as_bytes() {
        [prefix, b'-', ..] if PREFIXES.contains(prefix) => is_digits(&text[2..]),
        [b'0', b'.', ..] => is_digits(&text[2..]),
        _ => false,
    }
}

/// Reads a document.
///
/// # Errors
/// When a number occurs twice, a level is unknown, a rule stands before the first heading, or a
/// line looks like a rule and is none.
pub fn parse(text: &'static str) -> Result<Document, String> {
    let mut document = Document { title: "", chapters: Vec::new(), facts: Vec::new() };
    let mut chapter = None;
    let mut seen = HashSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let wrong = |what: &str| format!("line {number}: {what}: {line}");
        if let Some(title) = line.strip_prefix("# ") {
            document.title = title;
        } else if let Some(title) = line.strip_prefix("## ") {
            chapter = Some(title);
        } else if looks_like_rule(line) {
            let (id, level, says) = split(line).ok_or_else(|| wrong("not a rule"))?;
            let title = chapter.ok_or_else(|| wrong("before the first heading"))?;
            if !seen.insert(id) {
                return Err(wrong("a second rule of this number"));
            }
            let level = match level {
                "must" => Level::Must,
                "should" => Level::Should,
                "may" => Level::May,
                "ours" => Level::Ours,
                "fact" => {
                    document.facts.push(Fact { id, says });
                    continue;
                }
                _ => return Err(wrong("unknown level")),
            };
            if document.chapters.last().is_none_or(|last| last.title != title) {
                document.chapters.push(Chapter { title, rules: Vec::new() });
            }
            let last = document.chapters.last_mut();
            last.into_iter().for_each(|last| last.rules.push(Rule { id, level, says }));
        }
    }
    Ok(document)
}

/// Whether a line begins with a rule number, or with a bullet in bold as only rules do.
fn looks_like_rule(line: &str) -> bool {
    let marks = |c: char| c.is_whitespace() || "-*_`+".contains(c);
    let inner = line.trim_start_matches(marks);
    let word = inner.split(|c: char| !c.is_ascii_alphanumeric() && !"-.".contains(c)).next();
    line.starts_with("- **") || word.is_some_and(is_number)
}

/// Number, level and text of a rule.
fn split(line: &'static str) -> Option<(&'static str, &'static str, &'static str)> {
    let (id, rest) = line.strip_prefix("- **")?.split_once("** (")?;
    let (level, says) = rest.split_once(") ")?;
    (is_number(id) && says.ends_with('.')).then_some((id, level, says))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_is_chapters_of_rules_and_facts() {
        let document = parse(
            "# Title\n\nProse, `T-001`.\n\n## One\n\n- **0.2** (ours) First.\n\n### Table\n\n\
             | 1 | T-001 |\n\n1. T-001 in a list.\n\n## Empty\n\n## Two\n\n\
             - **T-001** (must) A (b) **c**.\n- **C-01** (fact) Seen.\n- **J-001** (may) D.\n",
        );
        let rule = |id, level, says| Rule { id, level, says };
        let expected = Document {
            title: "Title",
            chapters: vec![
                Chapter { title: "One", rules: vec![rule("0.2", Level::Ours, "First.")] },
                Chapter {
                    title: "Two",
                    rules: vec![
                        rule("T-001", Level::Must, "A (b) **c**."),
                        rule("J-001", Level::May, "D."),
                    ],
                },
            ],
            facts: vec![Fact { id: "C-01", says: "Seen." }],
        };
        assert_eq!(document, Ok(expected));
    }

    #[test]
    fn document_with_a_broken_rule_is_refused() {
        for (lines, expected) in [
            ("- **T-001** (must) A.", "line 1: before the first heading"),
            ("## A\n- **T-001** (must) A.\n- **T-001** (ours) B.", "line 3: a second rule"),
            ("## A\n- **T-001** (fact) A.\n- **T-001** (ours) B.", "line 3: a second rule"),
            ("## A\n- **T-001** (MUST) A.", "line 2: unknown level"),
            ("## A\n- **T-001** (must)A.", "line 2: not a rule"),
            ("## A\n- **T-001** (must) A", "line 2: not a rule"),
            ("## A\n- **T-001** A.", "line 2: not a rule"),
            ("## A\n- **X-001** (must) A.", "line 2: not a rule"),
            ("## A\n- T-001 (must) A.", "line 2: not a rule"),
            ("## A\n* **T-001** (must) A.", "line 2: not a rule"),
            ("## A\n - **T-001** (must) A.", "line 2: not a rule"),
            ("## A\nT-001: A.", "line 2: not a rule"),
        ] {
            let found = parse(lines).expect_err(lines);
            assert!(found.starts_with(expected), "{lines}: {found}");
        }
    }

    #[test]
    fn numbers_have_a_known_prefix_and_digits() {
        for text in ["T-001", "S-001", "A-003", "0.2"] {
            assert!(is_number(text), "{text}");
        }
        for text in ["", "T-", "T001", "X-1", "T-1a", "1.2", "0.", "0.2.1", "H-40"] {
            assert!(!is_number(text), "{text}");
        }
    }
}
