//! The server: config -> store -> service -> listener -> graceful stop.

use std::{io, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser as _;
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use windlass::{
    Engine, Windlass,
    config::{Config, Flags},
    store::file::FileStore,
    wire::{resumable_js::ResumableJs, tus::Tus},
};

/// Connections that may wait until they are accepted: a burst of clients meets no closed door. The
/// kernel has a limit of its own (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// How long threads may take to end after the last answer. One that the disk does not answer has
/// nothing to end for.
const THREADS_END_TIME: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let ended = Runtime::new().map_err(|error| format!("cannot start: {error}"));
    let ended = ended.and_then(|runtime| {
        let ended = runtime.block_on(run(Flags::parse().check()));
        runtime.shutdown_timeout(THREADS_END_TIME);
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("windlass: {message}");
            ExitCode::FAILURE
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A server that is started again does not wait for the last connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn run(config: Config) -> Result<(), String> {
    tracing_subscriber::fmt()
        .with_max_level(config.log_level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    let store =
        FileStore::open(&config.data_dir, config.durability).map_err(|error| error.to_string())?;
    let listener = bind(config.listen)
        .map_err(|error| format!("cannot listen on {}: {error}", config.listen))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let store = Arc::new(store);
    let engine = Engine::builder(store.clone()).limits(config.limits).build();
    let (tus_path, resumable_path) = (config.tus.mount.clone(), config.resumable.mount.clone());
    if tus_path == resumable_path {
        return Err(format!(
            "--tus-path and --resumable-path are both {tus_path}; give them different paths"
        ));
    }
    let resumable = ResumableJs::new(config.resumable, store.secret()).with_tus(config.tus.clone());
    let tus = Tus::new(config.tus).with_resumable(resumable.clone());
    let service = Windlass::new(engine.clone()).cors(config.cors);
    // The longer path first: it may lie below the other one, such as /.
    let service = if tus_path.prefix().len() > resumable_path.prefix().len() {
        service.mount(tus).mount(resumable)
    } else {
        service.mount(resumable).mount(tus)
    };

    // Before the lines that say how to stop.
    let watch = |kind| signal(kind).map_err(|error| error.to_string());
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut terminate = watch(SignalKind::terminate())?;
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
    };

    println!("windlass {}: data in {}", env!("CARGO_PKG_VERSION"), config.data_dir.display());
    println!("tus: http://{address}{tus_path}");
    println!("resumable: http://{address}{resumable_path}");
    println!("stop with Ctrl-C or SIGTERM");

    tracing::warn!(
        "nobody authenticates here: who guesses the name and size of a ResumableJS upload can \
         disturb it"
    );
    tokio::spawn(async move {
        if let Err(error) = store.recover().await {
            tracing::error!(%error, "cannot clean the data directory up");
        }
    });
    tokio::spawn(async move { engine.keep_swept().await });
    windlass::serve(listener, service, stop).await.map_err(|error| error.to_string())
}
