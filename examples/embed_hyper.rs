//! Windlass inside a bare hyper server: own authentication, own mount path, a completion hook.
//!
//! `cargo run --example embed_hyper -- [ADDR:PORT] [DIR]`, then
//! `curl -i -H 'Authorization: Bearer ann' -H 'Tus-Resumable: 1.0.0' -H 'Upload-Length: 5'
//! -H 'Content-Type: application/offset+octet-stream' -d hello http://ADDR:PORT/api/uploads`

use std::{env, error::Error, sync::Arc};

use hyper::{Request, body::Incoming, header::AUTHORIZATION, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::net::TcpListener;
use windlass::{
    Action, Admission, Denial, Durability, Engine, Finished, Finisher, Finishing, Gate, Windlass,
    store::file::FileStore,
    upload::Metadata,
    wire::{location::Locations, tus::Tus},
};

/// Who calls, as found by the layer in front.
#[derive(Clone)]
struct Caller(String);

/// Uploads belong to whoever made them: the owner is written into the metadata at creation, where
/// no client can forge it, and compared ever after.
struct Owners;

#[async_trait::async_trait]
impl Gate for Owners {
    async fn admit(&self, admission: Admission<'_>) -> Result<(), Denial> {
        let Some(Caller(caller)) = admission.extensions.get() else {
            return Err(Denial::unauthenticated("say who you are with a bearer token"));
        };
        let metadata = match admission.action {
            Action::Create(new) => return own(&mut new.metadata, caller),
            Action::Join(join) => return own(&mut join.metadata, caller),
            Action::Fetch(upload)
            | Action::Include(upload)
            | Action::Status(upload)
            | Action::Terminate(upload)
            | Action::Write(upload) => &upload.metadata,
            _ => return Err(Denial::forbidden("this application does not know what that is")),
        };
        if metadata.get_str("owner") == Some(caller) {
            return Ok(());
        }
        Err(Denial::forbidden("this upload is somebody else's"))
    }
}

fn own(metadata: &mut Metadata, owner: &str) -> Result<(), Denial> {
    let entries = metadata.iter().filter(|(key, _)| *key != "owner");
    let entries = entries.chain([("owner", owner.as_bytes())]);
    *metadata =
        Metadata::from_entries(entries).map_err(|error| Denial::invalid(error.to_string()))?;
    Ok(())
}

/// Runs once the last byte is safe, before the client hears so.
struct Announce;

#[async_trait::async_trait]
impl Finisher for Announce {
    async fn finish(&self, finishing: Finishing<'_>) -> Result<Finished, Denial> {
        let upload = finishing.upload;
        println!("finished: {} with {} bytes", upload.id, upload.offset());
        Ok(Finished { headers: vec![("x-finished".to_owned(), upload.id.to_string())] })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let dir = arguments.next().unwrap_or_else(|| "./uploads".to_owned());

    let store = Arc::new(FileStore::open(dir, Durability::Synced)?);
    let engine = Engine::builder(store).gate(Owners).finisher(Announce).build();
    engine.start();
    let windlass = Windlass::new(engine).mount(Tus::new(Locations::new("/api/uploads".parse()?)));

    let listener = TcpListener::bind(address).await?;
    println!("tus: http://{}/api/uploads", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let windlass = windlass.clone();
        let service = service_fn(move |request| {
            let windlass = windlass.clone();
            async move { windlass.handle(authenticate(request)).await }
        });
        tokio::spawn(async move {
            let io = TokioIo::new(stream);
            if let Err(error) =
                Builder::new(TokioExecutor::new()).serve_connection(io, service).await
            {
                eprintln!("connection ended: {error}");
            }
        });
    }
}

/// Stands for whatever the application does: sessions, signed tokens, client certificates.
fn authenticate(mut request: Request<Incoming>) -> Request<Incoming> {
    let caller = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(caller) = caller.and_then(|value| value.strip_prefix("Bearer ")) {
        let caller = Caller(caller.to_owned());
        request.extensions_mut().insert(caller);
    }
    request
}
