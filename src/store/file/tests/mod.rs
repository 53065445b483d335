//! Tests of the file store: what others than [`Store`](crate::store::Store) see of it.

pub(super) mod probe;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;

use super::{FileStore, OpenError};
use crate::store::{
    Durability, Store,
    conformance::{self, Place},
};

/// A directory of its own for a store.
struct Directory {
    dir: tempfile::TempDir,
    durability: Durability,
}

impl Directory {
    fn new(durability: Durability) -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            durability,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Opens the store as soon as what is left of the one before is gone.
    async fn open(&self) -> FileStore {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match FileStore::open(self.path(), self.durability) {
                Ok(store) => return store,
                Err(OpenError::Held { .. }) if Instant::now() < deadline => {
                    tokio::task::yield_now().await;
                }
                Err(e) => panic!("{e}"),
            }
        }
    }
}

#[async_trait]
impl Place for Directory {
    async fn open(&mut self) -> Arc<dyn Store> {
        let store = Self::open(self).await;
        Arc::new(store)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn relaxed_store_conforms() {
    conformance::run(|| Box::new(Directory::new(Durability::Relaxed))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn synced_store_conforms() {
    conformance::run(|| Box::new(Directory::new(Durability::Synced))).await;
}

#[tokio::test]
async fn store_conforms_on_one_thread() {
    conformance::run(|| Box::new(Directory::new(Durability::Relaxed))).await;
}
