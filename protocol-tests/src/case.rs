//! What a case is.

use crate::failure::Verdict;
use crate::site::Site;

/// How binding a rule or a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The protocol says MUST, or an invariant demands it.
    Must,
    /// The protocol says SHOULD.
    Should,
    /// The protocol says MAY and we do.
    May,
    /// The protocol is silent and the contract decides.
    Ours,
}

impl Level {
    /// The word for tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::May => "MAY",
            Self::Ours => "ours",
        }
    }
}

/// The origin that [`Setup::CorsOrigin`] allows.
pub const ALLOWED_ORIGIN: &str = "https://app.example";

/// The limit of [`Setup::MaxSize`] in bytes.
pub const MAX_SIZE_BYTES: u64 = 10_000;

/// How a server is configured for a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setup {
    /// Without any flag.
    Plain,
    /// Without any flag; plain exchanges go over HTTP/2.
    Http2,
    /// With a maximum size.
    MaxSize,
    /// Unfinished uploads expire after two seconds.
    Expiry,
    /// Finals over unfinished parts are allowed.
    PendingFinals,
    /// Forwarding headers are believed.
    TrustForwarded,
    /// The public URL is fixed.
    PublicUrl,
    /// CORS is off.
    NoCors,
    /// CORS is on for one origin.
    CorsOrigin,
    /// The collection is at `/`.
    RootPath,
    /// A silent body is given up after two seconds.
    IdleTimeout,
    /// The case starts servers of its own.
    Own,
}

impl Setup {
    /// Every setup, in the order of the report.
    pub const ALL: [Self; 12] = [
        Self::Plain,
        Self::Http2,
        Self::MaxSize,
        Self::Expiry,
        Self::PendingFinals,
        Self::TrustForwarded,
        Self::PublicUrl,
        Self::NoCors,
        Self::CorsOrigin,
        Self::RootPath,
        Self::IdleTimeout,
        Self::Own,
    ];

    /// The name in reports and after `--has`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Http2 => "http2",
            Self::MaxSize => "max-size",
            Self::Expiry => "expiry",
            Self::PendingFinals => "pending-finals",
            Self::TrustForwarded => "trust-forwarded",
            Self::PublicUrl => "public-url",
            Self::NoCors => "no-cors",
            Self::CorsOrigin => "cors-origin",
            Self::RootPath => "root-path",
            Self::IdleTimeout => "idle-timeout",
            Self::Own => "own",
        }
    }

    /// The flags that configure the binary so.
    pub const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Plain | Self::Http2 | Self::Own => &[],
            Self::MaxSize => &["--max-size", "10000"],
            Self::Expiry => &["--expire-after", "2s"],
            Self::PendingFinals => &["--concatenation-unfinished"],
            Self::TrustForwarded => &["--trust-forwarded"],
            Self::PublicUrl => &["--public-url", "https://uploads.example"],
            Self::NoCors => &["--no-cors"],
            Self::CorsOrigin => &["--cors-origin", ALLOWED_ORIGIN],
            Self::RootPath => &["--tus-path", "/"],
            Self::IdleTimeout => &["--idle-timeout", "2s"],
        }
    }
}

/// When a case runs; in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// A rule makes it wait for seconds.
    Long,
    /// Beside others.
    Short,
    /// It measures what happens within microseconds: beside others, it would measure the machine.
    Alone,
}

/// One case: a name, the rules that it holds, and an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// `<subject>_<condition>_<result>`.
    pub name: &'static str,
    /// The rules of the contract that fail if this case fails.
    pub rules: &'static [&'static str],
    /// The level of the most binding of them.
    pub level: Level,
    /// What it shows, in a line.
    pub says: &'static str,
    /// The setups in which it runs; it needs one server for each.
    pub setups: &'static [Setup],
    /// The extensions that the server must announce.
    pub extensions: &'static [&'static str],
    /// What it does to the others, and they to it.
    pub pace: Pace,
    /// Whether requests race in it, so that a server without locks may pass or fail by chance.
    pub races: bool,
    /// Why no other server of the dialect can be held against it, if none can.
    pub ours_alone: Option<&'static str>,
    /// The exchange.
    pub run: fn(&Site) -> Verdict,
}

/// Over both HTTP versions.
pub const BOTH: &[Setup] = &[Setup::Plain, Setup::Http2];

/// On servers that the case starts itself.
pub const OWN: &[Setup] = &[Setup::Own];

impl Case {
    const fn new(
        level: Level,
        name: &'static str,
        rules: &'static [&'static str],
        says: &'static str,
        run: fn(&Site) -> Verdict,
    ) -> Self {
        let (setups, extensions): (&[Setup], _) = (&[Setup::Plain], &["creation"]);
        let (pace, races, ours_alone) = (Pace::Short, false, None);
        Self { name, rules, level, says, setups, extensions, pace, races, ours_alone, run }
    }

    /// A case for a MUST.
    pub const fn must(
        name: &'static str,
        rules: &'static [&'static str],
        says: &'static str,
        run: fn(&Site) -> Verdict,
    ) -> Self {
        Self::new(Level::Must, name, rules, says, run)
    }

    /// A case for a SHOULD.
    pub const fn should(
        name: &'static str,
        rules: &'static [&'static str],
        says: &'static str,
        run: fn(&Site) -> Verdict,
    ) -> Self {
        Self::new(Level::Should, name, rules, says, run)
    }

    /// A case for a MAY that we do.
    pub const fn may(
        name: &'static str,
        rules: &'static [&'static str],
        says: &'static str,
        run: fn(&Site) -> Verdict,
    ) -> Self {
        Self::new(Level::May, name, rules, says, run)
    }

    /// A case for a decision of the contract.
    pub const fn ours(
        name: &'static str,
        rules: &'static [&'static str],
        says: &'static str,
        run: fn(&Site) -> Verdict,
    ) -> Self {
        Self::new(Level::Ours, name, rules, says, run)
    }

    /// The same case in these setups.
    pub const fn under(self, setups: &'static [Setup]) -> Self {
        Self { setups, ..self }
    }

    /// The same case for servers that announce these extensions.
    pub const fn needing(self, extensions: &'static [&'static str]) -> Self {
        Self { extensions, ..self }
    }

    /// The same case, started before those that do not wait.
    pub const fn waiting(self) -> Self {
        Self { pace: Pace::Long, ..self }
    }

    /// The same case, run when no other does.
    pub const fn alone(self) -> Self {
        Self { pace: Pace::Alone, ..self }
    }

    /// The same case, whose end on other servers may be a matter of chance.
    pub const fn racing(self) -> Self {
        Self { races: true, ..self }
    }

    /// The same case for Windlass alone, with the reason.
    pub const fn for_windlass_alone(self, why: &'static str) -> Self {
        Self { ours_alone: Some(why), ..self }
    }
}
