//! The server: config -> store -> service -> listener -> graceful stop.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    num::NonZero,
    panic,
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    runtime,
};
use windlass::{
    Engine, Windlass,
    config::{Config, Listen},
    server::{lines::Lines, notices, signals},
    store::file::FileStore,
    wire::{drf::Drf, location::Locations, resumable_js::ResumableJs, tus::Tus},
};

/// Connections that may wait until they are accepted: a burst of clients meets no closed door. The
/// kernel has a limit of its own (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// How long work on the disk that no request waits for may take after the last request, and
/// how long the last lines of the log may take. Together with the drain that is less than 10 s.
const END_TIME: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let config = Config::read().unwrap_or_else(|error| error.exit());
    let lines = Lines::to("log", io::stderr())
        .and_then(|log| Ok((log, Lines::to("output", io::stdout())?)));
    let (log, output) = match lines {
        Ok(lines) => lines,
        Err(error) => {
            let _ = writeln!(io::stderr(), "windlass: cannot start a thread: {error}");
            return ExitCode::FAILURE;
        }
    };
    start_log(log.clone(), config.log_level);
    let ended = start(config, &output);
    if let Err(message) = &ended {
        log.push(format!("windlass: {message}\n"));
    }
    output.flush(END_TIME);
    log.flush(END_TIME);
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Sends the log to `lines`, panics included: what writes to standard error itself may wait there.
fn start_log(lines: Lines, level: tracing::Level) {
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(Arc::new(lines))
        .with_ansi(io::stderr().is_terminal())
        .log_internal_errors(false)
        .init();
    panic::set_hook(Box::new(|panic| {
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            tracing::error!("{panic}\n{trace}");
        } else {
            tracing::error!("{panic}");
        }
    }));
}

/// Runs the server on threads of its own until it is asked to stop.
fn start(config: Config, output: &Lines) -> Result<(), String> {
    // One of them is spare, for the case that the disk hangs.
    let workers = thread::available_parallelism().map_or(1, NonZero::get) + 1;
    let runtime = runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let ended = runtime.block_on(run(config, output));
    // A disk that hangs does not keep the process.
    runtime.shutdown_timeout(END_TIME);
    ended
}

async fn run(config: Config, output: &Lines) -> Result<(), String> {
    let stop = signals::until_stop().map_err(|error| format!("cannot watch signals: {error}"))?;
    let store = FileStore::options()
        .durability(config.durability)
        .dir_mode(config.dir_mode)
        .file_mode(config.file_mode)
        .open(&config.data_dir);
    let store = Arc::new(store.map_err(|error| error.to_string())?);
    tokio::spawn(store.spare_worker());
    let listener = bind(&config.listen).map_err(|error| {
        let listen = &config.listen;
        format!("cannot listen on {listen}: {error}; use another address, such as --listen :8081")
    })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let engine = Engine::builder(store.clone()).limits(config.limits.clone()).build();
    let service = mount(Windlass::new(engine.clone()), &config, store.secret());

    output.push(notices::greeting(&config, address));
    for warning in notices::warnings(&config) {
        tracing::warn!("{warning}");
    }
    if let Some(hint) = notices::hint(&config) {
        tracing::info!("{hint}");
    }
    engine.start();
    let stop = async {
        stop.await;
        tracing::info!("stopping");
    };
    windlass::serve(listener, service, stop).await.map_err(|error| error.to_string())
}

/// Listens on the first address that this system knows. One that is taken is not passed over: a
/// second server would stand beside the first.
fn bind(listen: &Listen) -> io::Result<TcpListener> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in listen.addresses()? {
        match bind_to(address) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => failed = error,
            bound => return bound,
        }
    }
    Err(failed)
}

fn bind_to(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A server that is started again does not wait for the last connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves the dialects that have a path. Each knows where the others are, if they are.
fn mount(service: Windlass, config: &Config, secret: &[u8]) -> Windlass {
    let service = service.cors(config.cors.clone());
    let resumable_js = |locations: &Locations| {
        let dialect = ResumableJs::new(locations.clone(), secret);
        dialect.with_max_chunk_bytes(config.max_chunk_bytes)
    };
    let service = match &config.chunked {
        None => service,
        Some(chunked) => {
            let drf = Drf::new(chunked.clone()).with_checksum(config.chunked_checksum);
            service.mount(match &config.tus {
                Some(tus) => drf.with_tus(tus.clone()),
                None => drf,
            })
        }
    };
    match (&config.tus, &config.resumable) {
        (Some(tus), None) => service.mount(Tus::new(tus.clone())),
        (None, Some(resumable)) => service.mount(resumable_js(resumable)),
        (Some(tus), Some(resumable)) => {
            let resumable = resumable_js(resumable).with_tus(tus.clone());
            let tus = Tus::new(tus.clone())
                .with_naming(resumable.naming().clone())
                .beside(resumable.clone());
            service.mount(resumable).mount(tus)
        }
        (None, None) => service,
    }
}
