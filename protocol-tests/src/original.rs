//! The table in `docs/drf-chunked-upload.md`: the cases of the dialect, held against Windlass and
//! against the package that the dialect comes from.

use std::fmt::Write as _;
use std::path::Path;

use crate::drf::CONTRACT;
use crate::failure::Failure;
use crate::run::{Ending, Report, Target, run};

/// The package, with the version that `protocol-tests/original/requirements.in` pins.
const ORIGINAL: &str = "drf-chunked-upload 0.6.0";

/// The table is between these lines of the page.
const BEGIN: &str = "<!-- measured by protocol-tests/original/run -->";
const END: &str = "<!-- end of what was measured -->";

/// The most failed rows of a case that the table shows.
const SHOWN_ROWS: usize = 4;

/// What both servers did.
#[derive(Debug)]
pub struct Comparison {
    /// The cases on Windlass.
    pub ours: Report,
    /// The cases on the package.
    pub theirs: Report,
}

/// How a case ended on the package, in the order of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Fails(Vec<String>),
    Varies,
    NotAsked(String),
    Passes,
}

/// Runs the cases against the windlass binary, then against the package behind `program`.
///
/// # Errors
/// When a server does not start.
pub fn compare(binary: &Path, program: &Path) -> Result<Comparison, Failure> {
    let on = |target| run(&[&CONTRACT], &target, "");
    let ours = on(Target::Binary(binary.to_owned()))?;
    let theirs = on(Target::Other(program.to_owned()))?;
    Ok(Comparison { ours, theirs })
}

impl Comparison {
    /// The table with a line about it.
    pub fn markdown(&self) -> String {
        let mut lines: Vec<_> = Asked::all().map(|asked| self.line(&asked)).collect();
        // Differences first; the sort keeps the order of the contract within a verdict.
        lines.sort_by_key(|(verdict, _)| verdict.rank());
        let count = |rank| lines.iter().filter(|(verdict, _)| verdict.rank() == rank).count();
        let (fails, varies, not_asked, passes) = (count(0), count(1), count(2), count(3));
        let mut text = format!(
            "Of {} cases the package fails {fails} and passes {passes}. The result of {varies} varies \
             from run to run, and {not_asked} cannot be asked of it.\n\n\
             | case | rules | what it checks | {ORIGINAL} | Windlass |\n\
             | --- | --- | --- | --- | --- |\n",
            lines.len()
        );
        for (_, line) in lines {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// What Windlass fails; the table is about the package.
    pub fn own_failures(&self) -> Option<String> {
        (self.ours.counts() != (self.ours.rows.len(), 0, 0)).then(|| self.ours.text(false))
    }

    fn line(&self, asked: &Asked) -> (Verdict, String) {
        let [theirs, ours] = [&self.theirs, &self.ours].map(|report| verdict(report, asked.name));
        let theirs = if asked.races { Verdict::Varies } else { theirs };
        let line = format!("{} {} | {} |", asked.cells(), theirs.cell(), ours.cell());
        (theirs, line)
    }
}

/// A case, or a check of every answer.
struct Asked {
    name: &'static str,
    rules: &'static [&'static str],
    says: &'static str,
    races: bool,
}

impl Asked {
    /// Everything that is asked, in the order of the contract.
    fn all() -> impl Iterator<Item = Self> {
        let cases = CONTRACT.cases();
        let checks = CONTRACT.checks.iter();
        cases.map(|c| Self { name: c.name, rules: c.rules, says: c.says, races: c.races }).chain(
            checks.map(|c| Self { name: c.name, rules: c.rules, says: c.says, races: false }),
        )
    }

    /// The cells that need no measurement.
    fn cells(&self) -> String {
        format!("| `{}` | {} | {} |", self.name, self.rules.join(" "), escaped(self.says))
    }
}

/// How the lines of the table begin, in no order: what a page can be held against without servers.
pub fn beginnings() -> impl Iterator<Item = String> {
    Asked::all().map(|asked| asked.cells())
}

/// How a case ended in all its setups.
fn verdict(report: &Report, name: &str) -> Verdict {
    let rows: Vec<_> = report.rows.iter().filter(|row| row.name == name).collect();
    if let Some(row) = rows.iter().find(|row| matches!(row.ending, Ending::Failed(_))) {
        return Verdict::Fails(row.reason.iter().map(|reason| lasting(reason)).collect());
    }
    let not_asked = rows.iter().find_map(|row| match &row.ending {
        Ending::NotOffered(why) => Some(why.clone()),
        Ending::Failed(_) | Ending::Passed => None,
    });
    match not_asked {
        Some(why) if rows.iter().all(|row| row.ending != Ending::Passed) => Verdict::NotAsked(why),
        _ => Verdict::Passes,
    }
}

impl Verdict {
    const fn rank(&self) -> u8 {
        match self {
            Self::Fails(_) => 0,
            Self::Varies => 1,
            Self::NotAsked(_) => 2,
            Self::Passes => 3,
        }
    }

    fn cell(&self) -> String {
        match self {
            Self::Fails(reasons) => {
                let shown = reasons.iter().take(1 + SHOWN_ROWS).map(|reason| escaped(reason));
                let more = (reasons.len() > 1 + SHOWN_ROWS).then(|| "…".to_owned());
                let reasons: Vec<_> = shown.chain(more).collect();
                format!("**fails**: {}", reasons.join("<br>"))
            }
            Self::Varies => "varies: two requests race, and no lock is taken".to_owned(),
            Self::NotAsked(why) => format!("not asked: {why}"),
            Self::Passes => "passes".to_owned(),
        }
    }
}

/// A reason without what differs from run to run: ids, ports.
fn lasting(reason: &str) -> String {
    let mut text = String::new();
    let mut rest = reason;
    while let Some(first) = rest.chars().next() {
        let (length, name) = if uuid_length(rest) > 0 {
            (uuid_length(rest), "ID")
        } else if address_length(rest) > 0 {
            (address_length(rest), "HOST")
        } else {
            (first.len_utf8(), &rest[..first.len_utf8()])
        };
        text.push_str(name);
        rest = &rest[length..];
    }
    // Quotes of JSON within quotes.
    text.replace("\\\"", "\"")
}

/// The length of the UUID that `text` begins with, or 0.
fn uuid_length(text: &str) -> usize {
    const FORM: &[u8] = b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    let fits = |(found, form): (&u8, &u8)| match form {
        b'-' => *found == b'-',
        _ => found.is_ascii_hexdigit(),
    };
    let is_uuid = text.len() >= FORM.len() && text.as_bytes().iter().zip(FORM).all(fits);
    if is_uuid { FORM.len() } else { 0 }
}

/// The length of the loopback address with port that `text` begins with, or 0.
fn address_length(text: &str) -> usize {
    const HOST: &str = "127.0.0.1:";
    let port = text.strip_prefix(HOST).unwrap_or_default();
    let digits = port.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 { 0 } else { HOST.len() + digits }
}

/// Text that no renderer takes for anything else in a cell.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('*', "\\*").replace('<', "&lt;")
}

/// `page` with `table` in its place.
///
/// # Errors
/// When the page has no place for it.
pub fn insert(page: &str, table: &str) -> Result<String, String> {
    let parts = page.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
    });
    parts.ok_or_else(|| format!("no lines {BEGIN} and {END}"))
}

/// The lines in which two pages differ: `-` for those of the first alone, `+` for the second.
pub fn difference(found: &str, expected: &str) -> String {
    let lines = |of: &str, other: &str, mark: char| {
        let alone = of.lines().filter(|line| !other.lines().any(|o| o == *line));
        alone.map(|line| format!("{mark} {line}\n")).collect::<String>()
    };
    lines(found, expected, '-') + &lines(expected, found, '+')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_loses_ids_and_ports() {
        let reason =
            "GET /chunked/4a2620ab-65dc-4253-b734-5ae007a5d7a0/ at 127.0.0.1:80 says \\\"é";
        assert_eq!(lasting(reason), "GET /chunked/ID/ at HOST says \"é");
        assert_eq!(lasting("4a2620ab-65dc 127.0.0.1"), "4a2620ab-65dc 127.0.0.1");
    }

    #[test]
    fn table_replaces_what_was_between_the_marks() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let expected = format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n");
        assert_eq!(insert(&page, "new\n"), Ok(expected.clone()));
        assert_eq!(insert(&expected, "new\n"), Ok(expected));
        assert!(insert("a", "new").is_err());
    }
}
