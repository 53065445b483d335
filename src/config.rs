//! Settings from flags and the environment: as typed, then as checked. Knows no request.

mod values;

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    time::Duration,
};

use clap::{
    Arg, Command, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
};

pub use self::values::{InvalidListen, Listen};
use self::values::{Route, checksum, dir_mode, duration, file_mode, size, switch};
use crate::{
    store::Durability,
    upload::{Algorithm, Limits},
    wire::{
        cors::{Cors, Origin},
        location::{Locations, PublicUrl},
    },
};

/// Resumable-upload server: tus 1.0 and ResumableJS on one store.
#[derive(Debug, Parser)]
#[command(name = "windlass", version, about, max_term_width = 100)]
struct Flags {
    /// Address to listen on: 127.0.0.1:8080, localhost:8080, or :8080 for all addresses; port 0
    /// picks a free port
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8080",
        env = "WINDLASS_LISTEN"
    )]
    listen: Listen,

    /// Directory that stores the uploads; created if it does not exist
    #[arg(long, value_name = "DIR", default_value = "./windlass-data", env = "WINDLASS_DATA_DIR")]
    data_dir: PathBuf,

    /// Mode of new directories, the data directory included, less the umask; 0750 lets a group in
    #[arg(long, value_name = "MODE", default_value = "0700", env = "WINDLASS_DIR_MODE", value_parser = dir_mode)]
    dir_mode: u32,

    /// Mode of new uploads and their records, less the umask; 0640 lets a group read them
    #[arg(long, value_name = "MODE", default_value = "0600", env = "WINDLASS_FILE_MODE", value_parser = file_mode)]
    file_mode: u32,

    /// Path at which tus clients create uploads; an empty path or off disables tus
    #[arg(long, value_name = "PATH", default_value = "/files", env = "WINDLASS_TUS_PATH")]
    tus_path: Route,

    /// Path for chunks of ResumableJS, flow.js, simple-uploader.js and Dropzone; an empty path or
    /// off disables them
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/resumable",
        env = "WINDLASS_RESUMABLE_PATH"
    )]
    resumable_path: Route,

    /// Path for clients of drf-chunked-upload; an empty path or off disables them
    #[arg(long, value_name = "PATH", default_value = "/chunked", env = "WINDLASS_CHUNKED_PATH")]
    chunked_path: Route,

    /// Checksum by which clients of drf-chunked-upload complete an upload: md5, sha1, sha256 or
    /// sha512
    #[arg(
        long,
        value_name = "NAME",
        default_value = "md5",
        env = "WINDLASS_CHUNKED_CHECKSUM",
        value_parser = checksum
    )]
    chunked_checksum: Algorithm,

    /// What acknowledged data survives
    #[arg(long, value_name = "MODE", default_value = "synced", env = "WINDLASS_DURABILITY")]
    durability: DurabilityFlag,

    /// Largest upload, such as 500MB, 10GiB or a number of bytes; without it there is no limit
    #[arg(long, value_name = "SIZE", env = "WINDLASS_MAX_SIZE", allow_negative_numbers = true, value_parser = size)]
    max_size: Option<u64>,

    /// Largest ResumableJS chunk; by default clients make the last chunk of a file up to twice
    /// their chunk size
    #[arg(long, value_name = "SIZE", default_value = "256MiB", env = "WINDLASS_MAX_CHUNK_SIZE", allow_negative_numbers = true, value_parser = size)]
    max_chunk_size: u64,

    /// How long an unfinished upload is kept after its last byte, such as 24h; without it, forever
    #[arg(long, value_name = "DURATION", env = "WINDLASS_EXPIRE_AFTER", value_parser = duration)]
    expire_after: Option<Duration>,

    /// Longest time to receive a request head, and longest idle time between requests
    #[arg(long, value_name = "DURATION", default_value = "90s", env = "WINDLASS_HEAD_TIMEOUT", value_parser = duration)]
    head_timeout: Duration,

    /// Longest wait for the next byte of a request body, or for a client to read its response
    #[arg(long, value_name = "DURATION", default_value = "60s", env = "WINDLASS_IDLE_TIMEOUT", value_parser = duration)]
    idle_timeout: Duration,

    /// Accept final uploads whose partial uploads are not complete yet
    #[arg(long, env = "WINDLASS_CONCATENATION_UNFINISHED", value_parser = switch)]
    concatenation_unfinished: bool,

    /// Origin whose pages may upload; can be repeated. Without it: any origin, without credentials
    #[arg(long, value_name = "ORIGIN", env = "WINDLASS_CORS_ORIGIN", value_delimiter = ',')]
    cors_origin: Vec<Origin>,

    /// Send no CORS headers
    #[arg(long, env = "WINDLASS_NO_CORS", value_parser = switch)]
    no_cors: bool,

    /// Trust Forwarded and X-Forwarded-* headers; only behind a proxy that sets them
    #[arg(long, env = "WINDLASS_TRUST_FORWARDED", value_parser = switch)]
    trust_forwarded: bool,

    /// URL at which clients reach this server; makes upload URLs absolute instead of paths
    #[arg(long, value_name = "URL", env = "WINDLASS_PUBLIC_URL")]
    public_url: Option<PublicUrl>,

    /// Log level: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "WINDLASS_LOG_LEVEL")]
    log_level: tracing::Level,
}

/// [`Durability`] as a flag.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum DurabilityFlag {
    /// Acknowledged data survives a crash of the process
    Relaxed,
    /// Acknowledged data survives power loss
    Synced,
}

/// The checked settings of the server.
#[derive(Debug)]
pub struct Config {
    /// The mount of the drf-chunked-upload dialect; `None` disables it.
    pub chunked: Option<Locations>,
    /// The checksum that completes an upload of drf-chunked-upload.
    pub chunked_checksum: Algorithm,
    /// Which origins may upload.
    pub cors: Cors,
    /// The directory that stores the uploads.
    pub data_dir: PathBuf,
    /// The mode of directories.
    pub dir_mode: u32,
    /// What acknowledged data survives.
    pub durability: Durability,
    /// The mode of files.
    pub file_mode: u32,
    /// Limits and timeouts.
    pub limits: Limits,
    /// The address to listen on.
    pub listen: Listen,
    /// The log level.
    pub log_level: tracing::Level,
    /// The largest chunk, in bytes.
    pub max_chunk_bytes: u64,
    /// The mount of the ResumableJS dialect; `None` disables it. No two mounts are the same.
    pub resumable: Option<Locations>,
    /// The mount of the tus dialect; `None` disables it.
    pub tus: Option<Locations>,
}

impl Config {
    /// Reads the flags and the environment of this process.
    ///
    /// # Errors
    /// For an invalid setting, and for `--help` and `--version`, whose text is the error.
    pub fn read() -> Result<Self, clap::Error> {
        Self::of(&std::env::args_os().collect::<Vec<_>>())
    }

    fn of(args: &[OsString]) -> Result<Self, clap::Error> {
        let mut command = Flags::command().mut_args(without_empty_variable);
        let matches = command.try_get_matches_from_mut(args);
        let matches = matches.map_err(|error| naming_variable(error, &command, args))?;
        Flags::from_arg_matches(&matches)?
            .check()
            .map_err(|message| Flags::command().error(ErrorKind::ValueValidation, message))
    }
}

/// Treats an empty variable as unset: that is how scripts leave one out.
fn without_empty_variable(arg: Arg) -> Arg {
    match variable(&arg) {
        Some(value) if value.is_empty() => arg.env(Resettable::Reset),
        Some(_) | None => arg,
    }
}

/// The value of the argument's environment variable.
fn variable(arg: &Arg) -> Option<OsString> {
    arg.get_env().and_then(std::env::var_os)
}

/// Makes an error about a value from the environment name the variable instead of the flag.
fn naming_variable(mut error: clap::Error, command: &Command, args: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let Some(arg) = command.get_arguments().find(|arg| arg.to_string() == *named) else {
        return error;
    };
    let flag = format!("--{}", arg.get_long().unwrap_or_default());
    let is_given = args.iter().filter_map(|text| text.to_str()).any(|text| {
        text.strip_prefix(&flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    if let Some(name) = arg.get_env().and_then(OsStr::to_str).filter(|_| !is_given) {
        error.insert(ContextKind::InvalidArg, ContextValue::String(name.to_owned()));
    }
    error
}

/// Checks that something is served, and that no two dialects are at one path.
fn check_routes(routes: &[(&str, Route)]) -> Result<(), String> {
    let served: Vec<_> =
        routes.iter().filter_map(|(flag, Route(mount))| Some((flag, mount.as_ref()?))).collect();
    if served.is_empty() {
        let flags: Vec<_> = routes.iter().map(|(flag, _)| *flag).collect();
        return Err(format!(
            "{} are all disabled, so there is nothing to serve; set one of them to a path, such as \
             --tus-path /files",
            flags.join(", ")
        ));
    }
    for (at, (flag, mount)) in served.iter().enumerate() {
        if let Some((other, _)) = served[..at].iter().find(|(_, other)| other == mount) {
            return Err(format!(
                "{other} and {flag} are both {mount}; use different paths, such as /files, \
                 /resumable and /chunked"
            ));
        }
    }
    Ok(())
}

impl Flags {
    /// Checks the flags against each other. Each was checked by itself when it was parsed.
    fn check(self) -> Result<Config, String> {
        let cors = match (self.no_cors, self.cors_origin.is_empty()) {
            (true, true) => Cors::off(),
            (true, false) => {
                return Err("--no-cors conflicts with --cors-origin; set one of them, such as \
                            --cors-origin https://example.org"
                    .to_owned());
            }
            (false, true) => Cors::any(),
            (false, false) => Cors::listed(self.cors_origin),
        };
        let routes = [
            ("--tus-path", self.tus_path),
            ("--resumable-path", self.resumable_path),
            ("--chunked-path", self.chunked_path),
        ];
        check_routes(&routes)?;
        let [(_, Route(tus)), (_, Route(resumable)), (_, Route(chunked))] = routes;
        let (public_url, trust_forwarded) = (self.public_url, self.trust_forwarded);
        let locations = |mount| Locations {
            public_url: public_url.clone(),
            trust_forwarded,
            ..Locations::new(mount)
        };
        let limits = Limits {
            expire_after: self.expire_after,
            head_timeout: self.head_timeout,
            idle_timeout: self.idle_timeout,
            join_unfinished: self.concatenation_unfinished,
            max_size_bytes: self.max_size,
            ..Limits::default()
        };
        Ok(Config {
            chunked: chunked.map(locations),
            chunked_checksum: self.chunked_checksum,
            cors,
            data_dir: self.data_dir,
            dir_mode: self.dir_mode,
            durability: match self.durability {
                DurabilityFlag::Relaxed => Durability::Relaxed,
                DurabilityFlag::Synced => Durability::Synced,
            },
            file_mode: self.file_mode,
            limits,
            listen: self.listen,
            log_level: self.log_level,
            max_chunk_bytes: self.max_chunk_size,
            resumable: resumable.map(locations),
            tus: tus.map(locations),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::resumable_js;

    fn check(flags: &[&str]) -> Result<Config, String> {
        let args = std::iter::once("windlass").chain(flags.iter().copied());
        Config::of(&args.map(OsString::from).collect::<Vec<_>>()).map_err(|error| error.to_string())
    }

    fn path(locations: Option<&Locations>) -> Option<String> {
        locations.map(|locations| locations.mount.to_string())
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = check(&[]).expect("no flag is required");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.data_dir, PathBuf::from("./windlass-data"));
        assert_eq!(config.durability, Durability::Synced);
        assert_eq!((config.dir_mode, config.file_mode), (0o700, 0o600));
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.max_chunk_bytes, resumable_js::MAX_CHUNK_BYTES);
        assert_eq!(path(config.tus.as_ref()).as_deref(), Some("/files"));
        assert_eq!(path(config.resumable.as_ref()).as_deref(), Some("/resumable"));
    }

    #[test]
    fn dialects_can_be_left_out() {
        for (flags, tus, resumable) in [
            (&["--tus-path="][..], None, Some("/resumable")),
            (&["--tus-path", "off"], None, Some("/resumable")),
            (&["--resumable-path="], Some("/files"), None),
            (&["--resumable-path", ""], Some("/files"), None),
            (&["--tus-path=/resumable", "--resumable-path="], Some("/resumable"), None),
        ] {
            let config = check(flags).expect("a dialect is left");
            assert_eq!(path(config.tus.as_ref()).as_deref(), tus, "{flags:?}");
            assert_eq!(path(config.resumable.as_ref()).as_deref(), resumable, "{flags:?}");
        }
    }

    /// O-005 in part: the flag, and an example of a right value.
    #[test]
    fn bad_flags_are_refused_with_a_word_about_them() {
        for (flags, example) in [
            (&["--listen", "here"][..], "127.0.0.1:8080"),
            (&["--max-size", "-1"], "10GiB"),
            (&["--max-size", "0"], "10GiB"),
            (&["--max-size", "9223372036854775808"], "10GiB"),
            (&["--max-chunk-size", "0"], "10GiB"),
            (&["--expire-after", "soon"], "24h"),
            (&["--expire-after", "0s"], "24h"),
            (&["--head-timeout", "0s"], "90s"),
            (&["--tus-path", "files"], "/a/b"),
            (&["--tus-path", "/a b"], "/a/b"),
            (&["--tus-path=", "--resumable-path=", "--chunked-path="], "--tus-path /files"),
            (&["--tus-path", "/a", "--resumable-path", "/a/"], "/resumable"),
            (&["--chunked-path", "/files"], "--tus-path and --chunked-path are both /files"),
            (&["--chunked-checksum", "crc32"], "one of md5, sha1, sha256 and sha512"),
            (&["--durability", "perhaps"], "synced"),
            (&["--dir-mode", "0600"], "0750"),
            (&["--file-mode", "rw"], "0640"),
            (&["--public-url", "example.org"], "https://example.org"),
            (&["--cors-origin", "not an origin"], "https://example.org"),
            (&["--no-cors", "--cors-origin", "https://a"], "https://example.org"),
            (&["--log-level", "loud"], "info"),
        ] {
            let error = check(flags).expect_err("bad flag");
            let name = flags[0].trim_end_matches('=');
            assert!(error.contains(name) && error.contains(example), "{flags:?}: {error}");
        }
    }
}
