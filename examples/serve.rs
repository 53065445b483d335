//! The smallest server: tus uploads on `/files`, kept in `./uploads`.
//!
//! `cargo run --example serve`

use std::{error::Error, sync::Arc};

use tokio::net::TcpListener;
use windlass::{
    Durability, Engine, Windlass,
    store::file::FileStore,
    wire::{location::Locations, tus::Tus},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = Arc::new(FileStore::open("./uploads", Durability::Synced)?);
    let engine = Engine::builder(store).build();
    engine.start();
    let service = Windlass::new(engine).mount(Tus::new(Locations::new("/files".parse()?)));
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    println!("tus: http://{}/files", listener.local_addr()?);
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    Ok(windlass::serve(listener, service, stop).await?)
}
