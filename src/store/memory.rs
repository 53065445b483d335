//! [`MemoryStore`]: uploads in memory, for tests and examples. The store to read first: it keeps the
//! promises of [`Store`] in the plainest way.

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

/// Bytes of one item of a read.
const READ_BYTES: usize = 64 << 10;

/// Uploads in memory. They end with the last clone of the store. Nothing bounds their size.
///
/// Bytes on their way into an upload lie apart, each block under its receipt, until a commit takes
/// them in. So clones may serve engines of their own, as the nodes that share a bucket do.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    shelves: Arc<Mutex<Shelves>>,
}

/// All that is stored.
#[derive(Debug, Default)]
struct Shelves {
    /// Bytes that no commit has taken in, by the number in their receipt. Those of a write that was
    /// given up stay.
    blocks: HashMap<u64, Vec<u8>>,
    next_block: u64,
    names: HashMap<Key, UploadId>,
    slots: HashMap<UploadId, Slot>,
}

/// One upload.
#[derive(Debug, Default)]
struct Slot {
    /// `None` = joined, but not created yet.
    record: Option<Arc<Upload>>,
    data: Vec<u8>,
}

impl MemoryStore {
    /// A store with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Shelves {
    /// The record and the bytes of an upload.
    fn find(&self, id: &UploadId) -> Result<(&Arc<Upload>, &[u8]), StoreError> {
        let slot = self.slots.get(id).ok_or(StoreError::Absent)?;
        Ok((slot.record.as_ref().ok_or(StoreError::Absent)?, &slot.data))
    }

    /// The record that `upload` is a copy of.
    fn current(&self, upload: &Upload) -> Result<&Arc<Upload>, StoreError> {
        let (record, _) = self.find(&upload.id)?;
        if record.revision == upload.revision { Ok(record) } else { Err(StoreError::Stale) }
    }

    /// The upload that the pointer of `key` leads to.
    fn by_key(&self, key: &Key) -> Result<&Arc<Upload>, StoreError> {
        let id = self.names.get(key).ok_or(StoreError::Absent)?;
        self.find(id).map(|(record, _)| record)
    }

    /// Takes the bytes of `receipt` into `range` of an upload.
    fn take_in(
        &mut self,
        id: &UploadId,
        range: &Range<u64>,
        receipt: &Receipt,
    ) -> Result<(), StoreError> {
        if receipt.is_empty() {
            return Ok(());
        }
        let lost = || StoreError::io("taking bytes in", io::ErrorKind::NotFound.into());
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
        let mut shelves = lock(&self.shelves);
        let slot = shelves.slots.get(&upload.id);
        if slot.is_some_and(|slot| slot.record.is_some()) {
            return Err(StoreError::Exists);
        }
        let length = slot.map_or(0, |slot| slot.data.len() as u64);
        if upload.is_complete() && length != upload.offset() {
            return Err(StoreError::io("creating an upload", io::ErrorKind::NotFound.into()));
        }
        if let Some(key) = &upload.key {
            let leads_to = shelves.by_key(key).ok().map(|upload| &upload.id);
            if leads_to != predecessor {
                return Err(StoreError::Stale);
            }
            shelves.names.insert(key.clone(), upload.id.clone());
        }
        let slot = shelves.slots.entry(upload.id.clone()).or_default();
        slot.record = Some(Arc::new(upload.clone()));
        Ok(())
    }

    async fn by_key(&self, key: &Key) -> Result<Arc<Upload>, StoreError> {
        lock(&self.shelves).by_key(key).cloned()
    }

    async fn load(&self, id: &UploadId) -> Result<Arc<Upload>, StoreError> {
        lock(&self.shelves).find(id).map(|(record, _)| Arc::clone(record))
    }

    async fn write(&self, upload: &Upload, _: u64) -> Result<Box<dyn Writer>, StoreError> {
        if self.load(&upload.id).await?.phase != Phase::Open {
            return Err(StoreError::Stale);
        }
        let shelves = Arc::clone(&self.shelves);
        Ok(Box::new(MemoryWriter { bytes: Vec::new(), shelved: 0, shelves }))
    }

    async fn commit(&self, upload: &Upload, changes: &[Change]) -> Result<Arc<Upload>, StoreError> {
        let mut shelves = lock(&self.shelves);
        let next = shelves.current(upload)?.after(changes).map_err(|e| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, e);
            StoreError::io("changing a record", source)
        })?;
        for change in changes {
            if let Change::Received { range, receipt } = change {
                shelves.take_in(&upload.id, range, receipt)?;
            }
        }
        let next = Arc::new(next);
        let slot = shelves.slots.entry(upload.id.clone()).or_default();
        match next.phase {
            Phase::Open => {}
            Phase::Complete { .. } => slot.data.truncate(position(next.offset())?),
            Phase::Void { .. } => slot.data = Vec::new(),
        }
        slot.record = Some(Arc::clone(&next));
        Ok(next)
    }

    /// Copies the bytes, which in memory is as good as not to.
    async fn join(&self, upload: &Upload, partials: &[Arc<Upload>]) -> Result<(), StoreError> {
        let mut shelves = lock(&self.shelves);
        let mut joined = Vec::new();
        for partial in partials {
            let (record, data) = shelves.find(&partial.id)?;
            if !record.is_complete() {
                return Err(StoreError::Absent);
            }
            joined.extend_from_slice(data);
        }
        match shelves.slots.entry(upload.id.clone()).or_default() {
            Slot { record: Some(record), .. } if record.is_complete() => {}
            slot => slot.data = joined,
        }
        Ok(())
    }

    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let shelves = lock(&self.shelves);
        let (record, data) = shelves.find(&upload.id)?;
        if record.is_void() {
            return Err(StoreError::Absent);
        }
        Ok(pieces(&copy(data, range)?))
    }

    async fn remove(&self, upload: &Upload) -> Result<(), StoreError> {
        let mut shelves = lock(&self.shelves);
        match shelves.current(upload) {
            Ok(_) | Err(StoreError::Absent) => shelves.slots.remove(&upload.id),
            Err(e) => return Err(e),
        };
        shelves.names.retain(|_, id| *id != upload.id);
        Ok(())
    }

    fn list(&self) -> UploadStream {
        let shelves = lock(&self.shelves);
        let records: Vec<_> =
            shelves.slots.values().filter_map(|slot| slot.record.clone()).collect();
        Box::pin(Items(records.into_iter().map(Ok)))
    }
}

/// A sink for bytes of one upload.
struct MemoryWriter {
    /// What was pushed.
    bytes: Vec<u8>,
    /// How many of them lie under a receipt.
    shelved: usize,
    shelves: Arc<Mutex<Shelves>>,
}

impl MemoryWriter {
    /// Puts the bytes since the last receipt under one of their own.
    fn shelve(&mut self) -> Receipt {
        let mut shelves = lock(&self.shelves);
        let number = shelves.next_block;
        shelves.next_block += 1;
        shelves.blocks.insert(number, self.bytes[self.shelved..].to_vec());
        self.shelved = self.bytes.len();
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
        let receipt = self.shelve();
        Box::pin(async { Ok(receipt) })
    }

    async fn reread(&mut self) -> Result<ByteStream, StoreError> {
        Ok(pieces(&Bytes::copy_from_slice(&self.bytes)))
    }

    async fn finish(mut self: Box<Self>) -> Result<Receipt, StoreError> {
        Ok(self.shelve())
    }
}

/// A copy of `range` of `data`.
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

/// A position in memory.
fn position(at: u64) -> Result<usize, StoreError> {
    usize::try_from(at).map_err(|_| StoreError::Full)
}

/// `bytes` as a stream of several items.
fn pieces(bytes: &Bytes) -> ByteStream {
    let starts = (0..bytes.len()).step_by(READ_BYTES);
    let pieces = starts.map(|at| Ok(bytes.slice(at..bytes.len().min(at + READ_BYTES))));
    Box::pin(Items(pieces.collect::<Vec<_>>().into_iter()))
}

/// An iterator as a stream that never waits.
struct Items<I>(I);

impl<I: Iterator + Unpin> Stream for Items<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.next())
    }
}

/// Locks for a moment; see the locks of the file store.
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
