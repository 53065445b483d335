//! Windlass inside an axum router: authentication by a middleware of the application, uploads
//! beside other routes, a completion hook that reads the upload.
//!
//! `cargo run --example embed_axum -- [ADDR:PORT] [DIR]`

use std::{env, error::Error, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header::AUTHORIZATION},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use tokio::net::TcpListener;
use windlass::{
    Denial, Durability, Engine, Finished, Finisher, Finishing, Windlass,
    store::file::FileStore,
    wire::{location::Locations, tus::Tus},
};

/// Refuses files that begin with `MZ`, and tells the client the name of those it takes.
struct NoPrograms;

#[async_trait::async_trait]
impl Finisher for NoPrograms {
    async fn finish(&self, finishing: Finishing<'_>) -> Result<Finished, Denial> {
        let upload = finishing.upload;
        let unavailable = |error: String| Denial::unavailable(error, Duration::from_secs(1));
        let mut start = Vec::new();
        let mut bytes = finishing
            .read(0..upload.offset().min(2))
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        while let Some(frame) = bytes.next().await {
            start.extend_from_slice(&frame.map_err(|error| unavailable(error.to_string()))?);
        }
        if start == b"MZ" {
            return Err(Denial::invalid("programs are not accepted here"));
        }
        let name = upload.metadata.get_str("filename").unwrap_or("nameless");
        println!("finished: {} as {name:?}", upload.id);
        Ok(Finished::default())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let dir = arguments.next().unwrap_or_else(|| "./uploads".to_owned());

    let store = Arc::new(FileStore::open(dir, Durability::Synced)?);
    let engine = Engine::builder(store).finisher(NoPrograms).build();
    engine.start();
    // The path is the whole one, so the routes below must not strip a prefix. With `nest_service`
    // that is named by `Locations::with_outer`.
    let windlass =
        Windlass::new(engine.clone()).mount(Tus::new(Locations::new("/media/uploads".parse()?)));

    let uploads = Router::new()
        .route_service("/media/uploads", windlass.clone())
        .route_service("/media/uploads/{*rest}", windlass)
        .layer(middleware::from_fn(authenticate));
    let app = Router::new().route("/", get(|| async { "an application\n" })).merge(uploads);

    let listener = TcpListener::bind(address).await?;
    println!("tus: http://{}/media/uploads", listener.local_addr()?);
    let stop = async move {
        let _ = tokio::signal::ctrl_c().await;
        engine.close().await;
    };
    Ok(axum::serve(listener, app).with_graceful_shutdown(stop).await?)
}

async fn authenticate(request: Request, next: Next) -> Result<Response, StatusCode> {
    match request.headers().get(AUTHORIZATION) {
        Some(token) if token == "Bearer ann" => Ok(next.run(request).await),
        Some(_) | None => Err(StatusCode::UNAUTHORIZED),
    }
}
