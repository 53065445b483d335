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
use crate::upload::{Capabilities, Change, Phase, Receipt, Upload, UploadId};

/// Bytes of one item of a read.
const READ_BYTES: usize = 64 << 10;

/// Uploads in memory. They end with the last clone of the store. Nothing bounds their size.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    slots: Arc<Mutex<HashMap<UploadId, Slot>>>,
}

/// The bytes of one upload.
type Data = Arc<Mutex<Vec<u8>>>;

/// One upload.
#[derive(Debug, Default)]
struct Slot {
    /// `None` = joined, but not created yet.
    record: Option<Arc<Upload>>,
    /// A new one for each life of the id, so that a writer of an earlier life writes to nobody.
    data: Data,
}

impl MemoryStore {
    /// A store with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The record and the bytes of an upload.
    fn find(&self, id: &UploadId) -> Result<(Arc<Upload>, Data), StoreError> {
        let slots = lock(&self.slots);
        let slot = slots.get(id).ok_or(StoreError::Absent)?;
        let record = slot.record.clone().ok_or(StoreError::Absent)?;
        Ok((record, Arc::clone(&slot.data)))
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            join: true,
            max_pieces: None,
            min_piece_bytes: 0,
            out_of_order: true,
            read_before_complete: true,
        }
    }

    async fn create(&self, upload: &Upload) -> Result<(), StoreError> {
        let mut slots = lock(&self.slots);
        let slot = slots.entry(upload.id.clone()).or_default();
        if slot.record.is_some() {
            return Err(StoreError::Exists);
        }
        if upload.is_complete() && lock(&slot.data).len() as u64 != upload.offset() {
            return Err(StoreError::io("creating an upload", io::ErrorKind::NotFound.into()));
        }
        slot.record = Some(Arc::new(upload.clone()));
        Ok(())
    }

    async fn load(&self, id: &UploadId) -> Result<Arc<Upload>, StoreError> {
        self.find(id).map(|(record, _)| record)
    }

    async fn write(&self, upload: &Upload, at: u64) -> Result<Box<dyn Writer>, StoreError> {
        let (record, data) = self.find(&upload.id)?;
        if record.phase != Phase::Open {
            return Err(StoreError::Stale);
        }
        Ok(Box::new(MemoryWriter { data, range: at..at }))
    }

    async fn commit(&self, upload: &Upload, changes: &[Change]) -> Result<Arc<Upload>, StoreError> {
        let mut slots = lock(&self.slots);
        let slot = slots.get_mut(&upload.id).ok_or(StoreError::Absent)?;
        let record = slot.record.as_ref().ok_or(StoreError::Absent)?;
        if (record.revision, record.created) != (upload.revision, upload.created) {
            return Err(StoreError::Stale);
        }
        let next = record.after(changes).map_err(|e| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, e);
            StoreError::io("changing a record", source)
        })?;
        match next.phase {
            Phase::Open => {}
            Phase::Complete => lock(&slot.data).truncate(position(next.offset())?),
            Phase::Void => slot.data = Arc::default(),
        }
        let next = Arc::new(next);
        slot.record = Some(Arc::clone(&next));
        Ok(next)
    }

    /// Copies the bytes, which in memory is as good as not to.
    async fn join(&self, upload: &Upload, partials: &[Arc<Upload>]) -> Result<(), StoreError> {
        let mut joined = Vec::new();
        for partial in partials {
            let (record, data) = self.find(&partial.id)?;
            if !record.is_complete() {
                return Err(StoreError::Absent);
            }
            joined.extend_from_slice(&lock(&data));
        }
        match lock(&self.slots).entry(upload.id.clone()).or_default() {
            Slot { record: Some(record), .. } if record.is_complete() => {}
            slot => slot.data = Arc::new(Mutex::new(joined)),
        }
        Ok(())
    }

    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let (_, data) = self.find(&upload.id)?;
        let bytes = copy(&lock(&data), range)?;
        Ok(pieces(&bytes))
    }

    async fn remove(&self, id: &UploadId) -> Result<(), StoreError> {
        lock(&self.slots).remove(id);
        Ok(())
    }

    fn list(&self) -> UploadStream {
        let slots = lock(&self.slots);
        let records: Vec<_> = slots.values().filter_map(|slot| slot.record.clone()).collect();
        Box::pin(Items(records.into_iter().map(Ok)))
    }
}

/// A sink into the bytes of one upload.
struct MemoryWriter {
    data: Data,
    /// What was written.
    range: Range<u64>,
}

#[async_trait]
impl Writer for MemoryWriter {
    async fn push(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let (start, mut data) = (position(self.range.end)?, lock(&self.data));
        let end = start.checked_add(bytes.len()).ok_or(StoreError::Full)?;
        if data.len() < end {
            data.resize(end, 0);
        }
        data[start..end].copy_from_slice(&bytes);
        self.range.end += bytes.len() as u64;
        Ok(())
    }

    fn checkpoint(&mut self) -> Pending<Result<Receipt, StoreError>> {
        Box::pin(async { Ok(Receipt::default()) })
    }

    async fn reread(&mut self) -> Result<ByteStream, StoreError> {
        let bytes = copy(&lock(&self.data), self.range.clone())?;
        Ok(pieces(&bytes))
    }

    async fn finish(self: Box<Self>) -> Result<Receipt, StoreError> {
        Ok(Receipt::default())
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
        async fn open(&mut self) -> Arc<dyn Store> {
            Arc::new(self.0.clone())
        }
    }

    #[tokio::test]
    async fn memory_store_conforms() {
        conformance::run(|| Box::new(Same(MemoryStore::new()))).await;
    }
}
