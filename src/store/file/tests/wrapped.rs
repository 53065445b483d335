//! A store of somebody else's around a [`FileStore`] that adds nothing: what is promised to
//! outsiders does not hang on what only this crate can see.

use std::{ops::Range, path::PathBuf, sync::Arc};

use async_trait::async_trait;

use crate::{
    store::{
        ByteStream, Durability, Store, StoreError, UploadStream, Writer,
        conformance::{self, OpenError, Place},
        file::FileStore,
    },
    upload::{Capabilities, Change, Key, Upload, UploadId},
};

/// The store.
#[derive(Debug)]
struct Wrapped(Arc<FileStore>);

#[async_trait]
impl Store for Wrapped {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn create(
        &self,
        upload: &Upload,
        predecessor: Option<&UploadId>,
    ) -> Result<(), StoreError> {
        self.0.create(upload, predecessor).await
    }

    async fn by_key(&self, key: &Key) -> Result<Arc<Upload>, StoreError> {
        self.0.by_key(key).await
    }

    async fn load(&self, id: &UploadId) -> Result<Arc<Upload>, StoreError> {
        self.0.load(id).await
    }

    async fn write(&self, upload: &Upload, at: u64) -> Result<Box<dyn Writer>, StoreError> {
        self.0.write(upload, at).await
    }

    async fn commit(&self, upload: &Upload, changes: &[Change]) -> Result<Arc<Upload>, StoreError> {
        self.0.commit(upload, changes).await
    }

    async fn join(&self, upload: &Upload, partials: &[Arc<Upload>]) -> Result<(), StoreError> {
        self.0.join(upload, partials).await
    }

    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream, StoreError> {
        self.0.read(upload, range).await
    }

    async fn remove(&self, upload: &Upload) -> Result<(), StoreError> {
        self.0.remove(upload).await
    }

    fn list(&self) -> UploadStream {
        self.0.list()
    }
}

/// Where it lives. Opens it once, and leaves the rest to the suite.
struct Directory {
    path: PathBuf,
    _temporary: tempfile::TempDir,
}

#[async_trait]
impl Place for Directory {
    async fn open(&mut self) -> Result<Arc<dyn Store>, OpenError> {
        let store = FileStore::open(&self.path, Durability::Relaxed)?;
        Ok(Arc::new(Wrapped(Arc::new(store))))
    }
}

#[tokio::test]
async fn wrapped_store_conforms() {
    conformance::run(|| {
        let temporary = tempfile::tempdir().expect("a directory");
        Box::new(Directory { path: temporary.path().to_owned(), _temporary: temporary })
    })
    .await;
}
