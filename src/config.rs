//! Flags and environment as typed, then as checked. Knows no request.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

use crate::{
    store::Durability,
    upload::Limits,
    wire::{
        cors::{Cors, Origin},
        location::{Locations, PublicUrl},
        mount::Mount,
    },
};

/// Resumable uploads: one store, several wire dialects.
#[derive(Debug, Parser)]
#[command(name = "windlass", version, about, max_term_width = 100)]
pub struct Flags {
    /// Where to listen; port 0 takes a free one
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8080",
        env = "WINDLASS_LISTEN"
    )]
    listen: SocketAddr,

    /// Where uploads are kept; made if it does not exist
    #[arg(long, value_name = "DIR", default_value = "./windlass-data", env = "WINDLASS_DATA_DIR")]
    data_dir: PathBuf,

    /// The path at which tus clients create uploads
    #[arg(long, value_name = "PATH", default_value = "/files", env = "WINDLASS_TUS_PATH")]
    tus_path: Mount,

    /// The path of ResumableJS, flow.js and simple-uploader.js uploads
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/resumable",
        env = "WINDLASS_RESUMABLE_PATH"
    )]
    resumable_path: Mount,

    /// What an acknowledged byte survives: the loss of power, or the death of the process
    #[arg(long, value_name = "MODE", default_value = "synced", env = "WINDLASS_DURABILITY")]
    durability: DurabilityFlag,

    /// The largest upload
    #[arg(long, value_name = "BYTES", env = "WINDLASS_MAX_SIZE", allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    max_size: Option<u64>,

    /// How long an unfinished upload is kept after its last byte, such as 24h
    #[arg(long, value_name = "DURATION", env = "WINDLASS_EXPIRE_AFTER", value_parser = duration)]
    expire_after: Option<Duration>,

    /// How long a connection may take to bring a request head, and may be idle between two
    #[arg(long, value_name = "DURATION", default_value = "90s", env = "WINDLASS_HEAD_TIMEOUT", value_parser = duration)]
    head_timeout: Duration,

    /// How long a request may wait for the next byte of its body, or an answer for its reader
    #[arg(long, value_name = "DURATION", default_value = "60s", env = "WINDLASS_IDLE_TIMEOUT", value_parser = duration)]
    idle_timeout: Duration,

    /// Accept final uploads whose parts are not finished yet
    #[arg(long, env = "WINDLASS_CONCATENATION_UNFINISHED")]
    concatenation_unfinished: bool,

    /// An origin whose pages may upload; repeat for more. Without it: any, without credentials
    #[arg(long, value_name = "ORIGIN", env = "WINDLASS_CORS_ORIGIN", value_delimiter = ',')]
    cors_origin: Vec<Origin>,

    /// Send no CORS headers
    #[arg(long, conflicts_with = "cors_origin", env = "WINDLASS_NO_CORS")]
    no_cors: bool,

    /// Believe Forwarded and X-Forwarded-* headers; only behind a proxy that sets them
    #[arg(long, env = "WINDLASS_TRUST_FORWARDED")]
    trust_forwarded: bool,

    /// The URL at which clients reach this server, for absolute upload URLs
    #[arg(long, value_name = "URL", env = "WINDLASS_PUBLIC_URL")]
    public_url: Option<PublicUrl>,

    /// How much to log
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "WINDLASS_LOG_LEVEL")]
    log_level: tracing::Level,
}

/// [`Durability`] as a flag.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum DurabilityFlag {
    /// It survives the death of the process
    Relaxed,
    /// It survives the loss of power
    Synced,
}

/// What the server runs with.
#[derive(Debug)]
pub struct Config {
    /// Who may upload from other origins.
    pub cors: Cors,
    /// Where uploads are kept.
    pub data_dir: PathBuf,
    /// What an acknowledged byte survives.
    pub durability: Durability,
    /// What is allowed.
    pub limits: Limits,
    /// Where to listen.
    pub listen: SocketAddr,
    /// How much to log.
    pub log_level: tracing::Level,
    /// Where ResumableJS uploads are served.
    pub resumable: Locations,
    /// Where tus uploads are served.
    pub tus: Locations,
}

impl Flags {
    /// The configuration that the flags stand for. Each flag was checked when it was parsed.
    pub fn check(self) -> Config {
        let cors = if self.no_cors {
            Cors::off()
        } else if self.cors_origin.is_empty() {
            Cors::any()
        } else {
            Cors::listed(self.cors_origin)
        };
        let (public_url, trust_forwarded) = (self.public_url, self.trust_forwarded);
        let locations =
            |mount| Locations { mount, public_url: public_url.clone(), trust_forwarded };
        let limits = Limits {
            expire_after: self.expire_after,
            head_timeout: self.head_timeout,
            idle_timeout: self.idle_timeout,
            join_unfinished: self.concatenation_unfinished,
            max_size_bytes: self.max_size,
            ..Limits::default()
        };
        Config {
            cors,
            data_dir: self.data_dir,
            durability: match self.durability {
                DurabilityFlag::Relaxed => Durability::Relaxed,
                DurabilityFlag::Synced => Durability::Synced,
            },
            limits,
            listen: self.listen,
            log_level: self.log_level,
            resumable: locations(self.resumable_path),
            tus: locations(self.tus_path),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; durations look like 90s, 15m or 24h"))?;
    if duration.is_zero() { Err("must be longer than nothing".to_owned()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(flags: &[&str]) -> Result<Config, String> {
        let flags = std::iter::once("windlass").chain(flags.iter().copied());
        Ok(Flags::try_parse_from(flags).map_err(|error| error.to_string())?.check())
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = check(&[]).expect("no flag is required");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.data_dir, PathBuf::from("./windlass-data"));
        assert_eq!(config.durability, Durability::Synced);
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.tus.mount.to_string(), "/files");
        assert_eq!(config.resumable.mount.to_string(), "/resumable");
    }

    #[test]
    fn bad_flags_are_refused_with_a_word_about_them() {
        for flags in [
            ["--listen", "here"],
            ["--max-size", "-1"],
            ["--max-size", "9223372036854775808"],
            ["--expire-after", "soon"],
            ["--expire-after", "0s"],
            ["--head-timeout", "0s"],
            ["--tus-path", "files"],
            ["--tus-path", "/a b"],
            ["--durability", "perhaps"],
            ["--public-url", "example.org"],
            ["--cors-origin", "not an origin"],
            ["--log-level", "loud"],
        ] {
            let error = check(&flags).expect_err("bad flag");
            assert!(error.contains(flags[0]), "{flags:?}: {error}");
        }
    }
}
