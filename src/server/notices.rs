//! What the server says at start: where it serves, what strangers can do, which setting helps.

use std::{fmt::Write as _, net::SocketAddr};

use crate::{config::Config, wire::location::Locations};

/// Without a login, what whoever reaches this server can do to tus uploads.
const TUS_IS_OPEN: &str = "no login: whoever has the URL of a tus upload can read, continue and \
                           remove it; a proxy that authenticates keeps strangers out";

/// Without a login and so without owners, what whoever reaches this server can do to ResumableJS
/// uploads (S-002).
const RESUMABLE_IS_OPEN: &str = "no login: whoever guesses the name and size of a ResumableJS \
                                 upload can ask which chunks are there, disturb it with other \
                                 chunks, and delete it while it is unfinished; a proxy that \
                                 authenticates keeps strangers out, --resumable-path= leaves \
                                 ResumableJS out";

/// Why some clients fail at their second request (D-40).
const LOCATIONS_ARE_PATHS: &str = "upload URLs are given as paths; aiotus, tus_async_client, \
                                   tusc.sh and the parallel mode of react-uploady need whole URLs: \
                                   set --public-url, such as --public-url https://example.org";

/// The lines for standard output, as soon as the server listens on `address`. Scripts wait for the
/// last one.
pub fn greeting(config: &Config, address: SocketAddr) -> String {
    let (version, dir) = (env!("CARGO_PKG_VERSION"), config.data_dir.display());
    let mut lines = format!("windlass {version}: data in {dir}\n");
    for (dialect, locations) in [("tus", &config.tus), ("resumable", &config.resumable)] {
        if let Some(locations) = locations {
            // Writing to a string never fails.
            let _ = writeln!(lines, "{dialect}: http://{address}{}", locations.mount);
        }
    }
    lines + "stop with Ctrl-C or SIGTERM\n"
}

/// What strangers can do, a warning for each dialect that is served.
pub fn warnings(config: &Config) -> impl Iterator<Item = &'static str> {
    let tus = config.tus.as_ref().map(|_| TUS_IS_OPEN);
    let resumable = config.resumable.as_ref().map(|_| RESUMABLE_IS_OPEN);
    tus.into_iter().chain(resumable)
}

/// What helps clients that may fail.
pub fn hint(config: &Config) -> Option<&'static str> {
    let gives_paths = |tus: &&Locations| tus.public_url.is_none() && !tus.trust_forwarded;
    config.tus.as_ref().filter(gives_paths).map(|_| LOCATIONS_ARE_PATHS)
}
