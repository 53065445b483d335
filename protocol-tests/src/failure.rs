//! Why a case failed, and the helpers that say so.

use std::fmt;
use std::panic::Location;

/// One reason why a case does not hold, with the place in the case that found it.
#[derive(Clone, Debug)]
pub struct Failure {
    message: String,
    /// The rows that failed, if it is about a table of them.
    rows: Vec<Self>,
    /// File and line.
    place: String,
}

/// What a case returns.
pub type Verdict = Result<(), Failure>;

impl Failure {
    /// A failure found at the caller's line.
    #[track_caller]
    pub fn new(message: impl fmt::Display) -> Self {
        let place = Location::caller();
        let file = place.file().rsplit('/').next().unwrap_or_default();
        let place = format!("{file}:{}", place.line());
        Self { message: message.to_string(), rows: Vec::new(), place }
    }

    /// The same failure, saying which row or step it belongs to.
    pub fn within(self, step: impl fmt::Display) -> Self {
        Self { message: format!("{step}: {}", self.message), ..self }
    }

    /// The same without the places in the source: a line, then one for each row that failed.
    pub fn reason(&self) -> Vec<String> {
        let rows = self.rows.iter().flat_map(Self::reason);
        std::iter::once(self.message.clone()).chain(rows).collect()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (number, row) in self.rows.iter().take(SHOWN_ROWS).enumerate() {
            write!(f, "{} {row}", if number == 0 { ":" } else { ";" })?;
        }
        write!(f, " ({})", self.place)
    }
}

impl From<std::io::Error> for Failure {
    #[track_caller]
    fn from(error: std::io::Error) -> Self {
        Self::new(format!("socket: {error}"))
    }
}

/// Fails at the caller's line unless the condition holds.
#[track_caller]
pub fn ensure(condition: bool, message: impl fmt::Display) -> Verdict {
    if condition { Ok(()) } else { Err(Failure::new(message)) }
}

/// Fails at the caller's line unless both are equal.
#[track_caller]
pub fn ensure_eq<T: PartialEq + fmt::Debug>(what: &str, found: T, expected: T) -> Verdict {
    if found == expected {
        return Ok(());
    }
    Err(Failure::new(format!("{what} is {found:?}, expected {expected:?}")))
}

/// How many failing rows a report shows; the rest mostly says the same.
const SHOWN_ROWS: usize = 6;

/// Rows of a table-driven case: every row runs, all that fail are reported together.
#[derive(Debug, Default)]
pub struct Rows {
    failed: Vec<Failure>,
    total: usize,
}

impl Rows {
    /// A table without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs one row.
    pub fn row(&mut self, name: impl fmt::Display, check: impl FnOnce() -> Verdict) {
        self.total += 1;
        if let Err(failure) = check() {
            self.failed.push(failure.within(name));
        }
    }

    /// Fails if any row did.
    #[track_caller]
    pub fn verdict(self) -> Verdict {
        if self.failed.is_empty() {
            return Ok(());
        }
        let (failed, total) = (self.failed.len(), self.total);
        let failure = Failure::new(format!("{failed} of {total} rows"));
        Err(Failure { rows: self.failed, ..failure })
    }
}
