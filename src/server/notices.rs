//! What the server prints at start: its URLs, warnings about open access, and a hint.

use std::{fmt::Write as _, net::SocketAddr};

use crate::{config::Config, wire::location::Locations};

/// What anyone can do to tus uploads.
const TUS_IS_OPEN: &str = "no login: anyone who has the URL of a tus upload can read, continue and \
                           remove it; put a proxy that authenticates in front";

/// What anyone can do to ResumableJS uploads, as long as there are no owners (S-002).
const RESUMABLE_IS_OPEN: &str = "no login: anyone who guesses the name and size of a ResumableJS \
                                 upload can test which chunks are stored, and add chunks to it or \
                                 delete it while it is unfinished; put a proxy that authenticates \
                                 in front, or disable ResumableJS with --resumable-path=";

/// What anyone can do to uploads of drf-chunked-upload, as long as there are no owners (P-133).
const CHUNKED_IS_OPEN: &str = "no login: anyone who has the URL of a drf-chunked-upload upload can \
                               see its state and continue it; put a proxy that authenticates in \
                               front, or disable it with --chunked-path=";

/// Why some clients fail at their second request (D-40).
const LOCATIONS_ARE_PATHS: &str = "upload URLs are paths; aiotus, tus_async_client, tusc.sh and \
                                   the parallel mode of react-uploady need absolute URLs: set \
                                   --public-url, such as --public-url https://example.org";

/// The lines printed to standard output once the server listens on `address`. Scripts wait for the
/// last one.
pub fn greeting(config: &Config, address: SocketAddr) -> String {
    let (version, dir) = (env!("CARGO_PKG_VERSION"), config.data_dir.display());
    let mut lines = format!("windlass {version}: data in {dir}\n");
    let routes =
        [("tus", &config.tus), ("resumable", &config.resumable), ("chunked", &config.chunked)];
    for (dialect, locations) in routes {
        if let Some(locations) = locations {
            // Writing to a string never fails.
            let _ = writeln!(lines, "{dialect}: http://{address}{}", locations.mount);
        }
    }
    lines + "stop with Ctrl-C or SIGTERM\n"
}

/// A warning about open access for each dialect that is served.
pub fn warnings(config: &Config) -> impl Iterator<Item = &'static str> {
    let tus = config.tus.as_ref().map(|_| TUS_IS_OPEN);
    let resumable = config.resumable.as_ref().map(|_| RESUMABLE_IS_OPEN);
    let chunked = config.chunked.as_ref().map(|_| CHUNKED_IS_OPEN);
    tus.into_iter().chain(resumable).chain(chunked)
}

/// The setting that helps clients which fail with the current ones.
pub fn hint(config: &Config) -> Option<&'static str> {
    let gives_paths = |tus: &&Locations| tus.public_url.is_none() && !tus.trust_forwarded;
    config.tus.as_ref().filter(gives_paths).map(|_| LOCATIONS_ARE_PATHS)
}
