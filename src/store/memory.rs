//! [`MemoryStore`]: uploads in memory, for tests and examples. The simplest implementation of
//! [`Store`], and the one to read first.

use std::{
    collections::HashMap,
    io,
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;

use super::{ByteStream, Pending, Store, StoreError, UploadStream, Writer};
use crate::upload::{Capabilities, Change, Key, Phase, Receipt, Upload, UploadId};

/// Bytes per item of a read.
const READ_BYTES: usize = 64 << 10;

/// Uploads in memory. All clones share them. Their size is not bounded.
///
/// Written bytes are stored apart from the upload, as one block per receipt, until a commit copies
/// them. Each clone can thus serve an engine of its own, like several nodes on one bucket.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

/// The state shared by all clones.
#[derive(Debug, Default)]
struct State {
    /// Uncommitted blocks, by the number in their receipt. Blocks of abandoned writes are never
    /// removed.
    blocks: HashMap<u64, Vec<u8>>,
    next_block: u64,
    keys: HashMap<Key, UploadId>,
    slots: HashMap<UploadId, Slot>,
}

/// One upload.
#[derive(Debug, Default)]
struct Slot {
    /// `None` for an upload that was joined and not created yet.
    record: Option<Arc<Upload>>,
    data: Vec<u8>,
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl State {
    /// Returns the record and the bytes of an upload.
    fn find(&self, id: &UploadId) -> Result<(&Arc<Upload>, &[u8]), StoreError> {
        let slot = self.slots.get(id).ok_or(StoreError::Absent)?;
        Ok((slot.record.as_ref().ok_or(StoreError::Absent)?, &slot.data))
    }

    /// Returns the record of `upload` if it is still at the same revision.
    fn current(&self, upload: &Upload) -> Result<&Arc<Upload>, StoreError> {
        let (record, _) = self.find(&upload.id)?;
        if record.revision == upload.revision { Ok(record) } else { Err(StoreError::Stale) }
    }

    /// Returns the upload that the pointer of `key` leads to.
    fn by_key(&self, key: &Key) -> Result<&Arc<Upload>, StoreError> {
        let id = self.keys.get(key).ok_or(StoreError::Absent)?;
        self.find(id).map(|(record, _)| record)
    }

    /// Copies the block of `receipt` to `range` of an upload.
    fn copy_block(
        &mut self,
        id: &UploadId,
        range: &Range<u64>,
        receipt: &Receipt,
    ) -> Result<(), StoreError> {
        if receipt.is_empty() {
            return Ok(());
        }
        let lost = || StoreError::io("committing bytes", io::ErrorKind::NotFound.into());
        let number = receipt.0.as_ref().try_into().map(u64::from_be_bytes).map_err(|_| lost())?;
        let block = self.blocks.remove(&number).ok_or_else(lost)?;
        let slot = self.slots.get_mut(id).ok_or(StoreError::Absent)?;
        let (start, end) = (position(range.start)?, position(range.end)?);
        if slot.data.len() < end {
            slot.data.resize(end, 0);
        }
        let bytes = block.get(..end - start).ok_or_else(lost)?;
        slot.data[start..end].copy_from_slice(bytes);
        Ok(())
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities { join: true }
    }

    async fn create(
        &self,
        upload: &Upload,
        predecessor: Option<&UploadId>,
    ) -> Result<(), StoreError> {
        let mut state = lock(&self.state);
        let slot = state.slots.get(&upload.id);
        if slot.is_some_and(|slot| slot.record.is_some()) {
            return Err(StoreError::Exists);
        }
        let length = slot.map_or(0, |slot| slot.data.len() as u64);
        if upload.is_complete() && length != upload.offset() {
            return Err(StoreError::io("creating an upload", io::ErrorKind::NotFound.into()));
        }
        if let Some(key) = &upload.key {
            let current = state.by_key(key).ok().map(|upload| &upload.id);
            if current != predecessor {
                return Err(StoreError::Stale);
            }
            state.keys.insert(key.clone(), upload.id.clone());
        }
        let slot = state.slots.entry(upload.id.clone()).or_default();
        slot.record = Some(Arc::new(upload.clone()));
        Ok(())
    }

    async fn by_key(&self, key: &Key) -> Result<Arc<Upload>, StoreError> {
        lock(&self.state).by_key(key).cloned()
    }

    async fn load(&self, id: &UploadId) -> Result<Arc<Upload>, StoreError> {
        lock(&self.state).find(id).map(|(record, _)| Arc::clone(record))
    }

    async fn write(&self, upload: &Upload, _: u64) -> Result<Box<dyn Writer>, StoreError> {
        if self.load(&upload.id).await?.phase != Phase::Open {
            return Err(StoreError::Stale);
        }
        let state = Arc::clone(&self.state);
        Ok(Box::new(MemoryWriter { bytes: Vec::new(), stored_bytes: 0, state }))
    }

    async fn commit(&self, upload: &Upload, changes: &[Change]) -> Result<Arc<Upload>, StoreError> {
        let mut state = lock(&self.state);
        let next = state.current(upload)?.after(changes).map_err(|e| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, e);
            StoreError::io("changing a record", source)
        })?;
        for change in changes {
            if let Change::Received { range, receipt } = change {
                state.copy_block(&upload.id, range, receipt)?;
            }
        }
        let next = Arc::new(next);
        let slot = state.slots.entry(upload.id.clone()).or_default();
        match next.phase {
            Phase::Open => {}
            Phase::Complete { .. } => slot.data.truncate(position(next.offset())?),
            Phase::Void { .. } => slot.data = Vec::new(),
        }
        slot.record = Some(Arc::clone(&next));
        Ok(next)
    }

    /// Copies the bytes, which is cheap enough in memory.
    async fn join(&self, upload: &Upload, partials: &[Arc<Upload>]) -> Result<(), StoreError> {
        let mut state = lock(&self.state);
        let mut joined = Vec::new();
        for partial in partials {
            let (record, data) = state.find(&partial.id)?;
            if !record.is_complete() {
                return Err(StoreError::Absent);
            }
            joined.extend_from_slice(data);
        }
        match state.slots.entry(upload.id.clone()).or_default() {
            Slot { record: Some(record), .. } if record.is_complete() => {}
            slot => slot.data = joined,
        }
        Ok(())
    }

    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let state = lock(&self.state);
        let slot = state.slots.get(&upload.id).ok_or(StoreError::Absent)?;
        if slot.record.as_ref().is_some_and(|record| record.is_void()) {
            return Err(StoreError::Absent);
        }
        Ok(blocks(&copy(&slot.data, range)?))
    }

    async fn remove(&self, upload: &Upload) -> Result<(), StoreError> {
        let mut state = lock(&self.state);
        match state.current(upload) {
            Ok(_) | Err(StoreError::Absent) => state.slots.remove(&upload.id),
            Err(e) => return Err(e),
        };
        state.keys.retain(|_, id| *id != upload.id);
        Ok(())
    }

    fn list(&self) -> UploadStream {
        let state = lock(&self.state);
        let records: Vec<_> = state.slots.values().filter_map(|slot| slot.record.clone()).collect();
        UploadStream::new(Items(records.into_iter().map(Ok)))
    }
}

/// A writer to one upload.
struct MemoryWriter {
    /// All bytes pushed.
    bytes: Vec<u8>,
    /// Number of pushed bytes that are stored in blocks.
    stored_bytes: usize,
    state: Arc<Mutex<State>>,
}

impl MemoryWriter {
    /// Stores the bytes since the last receipt as a block.
    fn store_block(&mut self) -> Receipt {
        let mut state = lock(&self.state);
        let number = state.next_block;
        state.next_block += 1;
        state.blocks.insert(number, self.bytes[self.stored_bytes..].to_vec());
        self.stored_bytes = self.bytes.len();
        Receipt(Bytes::copy_from_slice(&number.to_be_bytes()))
    }
}

#[async_trait]
impl Writer for MemoryWriter {
    async fn push(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn checkpoint(&mut self) -> Pending<Result<Receipt, StoreError>> {
        let receipt = self.store_block();
        Box::pin(async { Ok(receipt) })
    }

    async fn reread(&mut self) -> Result<ByteStream, StoreError> {
        Ok(blocks(&Bytes::copy_from_slice(&self.bytes)))
    }

    async fn finish(mut self: Box<Self>) -> Result<Receipt, StoreError> {
        Ok(self.store_block())
    }
}

/// Returns a copy of `range` of `data`.
fn copy(data: &[u8], range: Range<u64>) -> Result<Bytes, StoreError> {
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let range = position(range.start)?..position(range.end)?;
    let bytes = data
        .get(range)
        .ok_or_else(|| StoreError::io("reading an upload", io::ErrorKind::UnexpectedEof.into()))?;
    Ok(Bytes::copy_from_slice(bytes))
}

/// Converts a position.
fn position(at: u64) -> Result<usize, StoreError> {
    usize::try_from(at).map_err(|_| StoreError::Full)
}

/// Returns `bytes` as a stream of several items.
fn blocks(bytes: &Bytes) -> ByteStream {
    let starts = (0..bytes.len()).step_by(READ_BYTES);
    let blocks = starts.map(|at| Ok(bytes.slice(at..bytes.len().min(at + READ_BYTES))));
    ByteStream::new(Items(blocks.collect::<Vec<_>>().into_iter()))
}

/// An iterator as a stream that is always ready.
struct Items<I>(I);

impl<I: Iterator + Unpin> Stream for Items<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.next())
    }
}

/// Locks a mutex and ignores poisoning, like the file store.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    struct Same(MemoryStore);

    #[async_trait]
    impl conformance::Place for Same {
        async fn open(&mut self) -> Result<Arc<dyn Store>, conformance::OpenError> {
            Ok(Arc::new(self.0.clone()))
        }
    }

    #[tokio::test]
    async fn memory_store_conforms() {
        conformance::run(|| Box::new(Same(MemoryStore::new()))).await;
    }
}
