//! Resumable uploads: one store, several wire dialects.
//!
//! An upload is a length and a set of received byte ranges. A *dialect* turns HTTP requests into
//! intents and outcomes into answers; the *engine* carries intents out on a *store*.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use windlass::{Durability, Engine, Windlass, store::file::FileStore};
//! use windlass::wire::{location::Locations, tus::Tus};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Arc::new(FileStore::open("./uploads", Durability::Synced)?);
//! let engine = Engine::builder(store).build();
//! engine.start();
//! let service = Windlass::new(engine).mount(Tus::new(Locations::new("/files".parse()?)));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! windlass::serve(listener, service, std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # The way of a request
//!
//! 1. [`service`] asks the dialects whose request it is, and splits head from body. No byte of the body
//!    has been asked for.
//! 2. The dialect ([`wire`]) reads the head into an [`Intent`](rules::Intent), or refuses it.
//! 3. The [`engine`] asks the [`Gate`], claims the byte range, and lets the [`rules`] plan.
//! 4. Frames go to the digester and the store's [`Writer`](store::Writer), one at a time.
//! 5. The rules settle which [`Change`](upload::Change)s follow; the [`store`] makes them true, all
//!    or none; the [`Observer`] hears of them.
//! 6. The dialect words the answer.

#[cfg(feature = "server")]
pub mod config;
pub mod content;
pub mod engine;
pub mod fields;
pub mod listen;
pub mod rules;
#[cfg(feature = "server")]
pub mod server;
pub mod service;
pub mod store;
pub mod upload;
pub mod wire;

pub use self::{
    engine::{Action, Admission, Engine, Finisher, Finishing, Gate, Observer},
    listen::{Accept, serve},
    rules::{Denial, Finished},
    service::{Aborted, Windlass},
    store::{Durability, Store},
    upload::{Limits, Upload, UploadId},
};
