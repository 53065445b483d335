//! [`Download`]: bytes of a store that are lent to a client as long as it takes them. Knows no
//! dialect.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use crate::wire::reply::ReplyStream;

/// The bytes of an answer. What they are read from, and what was read ahead, is given back when the
/// client takes nothing for a while.
///
/// That must not wait for the next poll: hyper does not poll the body of an HTTP/2 answer while the
/// client keeps its window closed, and does not end it as long as PINGs are answered.
pub(super) struct Download {
    /// What comes first, until it is taken.
    first: Option<io::Result<Bytes>>,
    /// What follows, unless the first bytes are all.
    rest: Option<Rest>,
}

/// A stream that is watched.
struct Rest {
    lent: Arc<Mutex<Lent>>,
    watch: AbortHandle,
}

/// What the client and the watch share.
struct Lent {
    /// Since when the client is awaited; `None` while it waits for the store.
    awaited: Option<Instant>,
    /// `None` when it was given back.
    stream: Option<ReplyStream>,
}

impl Download {
    /// The `length` bytes of `stream`, given back when `patience` passes without any of them being
    /// taken. The first ones are at hand on return; if they are all, nothing else is kept.
    ///
    /// # Cancel safety
    /// Dropped, it gives everything back.
    pub(super) async fn begin(mut stream: ReplyStream, length: u64, patience: Duration) -> Self {
        let first = poll_fn(|cx| stream.as_mut().poll_next(cx)).await;
        let is_all = match &first {
            Some(Ok(bytes)) => u64::try_from(bytes.len()).is_ok_and(|first| first == length),
            Some(Err(_)) | None => true,
        };
        Self { first, rest: (!is_all).then(|| Rest::new(stream, patience)) }
    }
}

impl Rest {
    fn new(stream: ReplyStream, patience: Duration) -> Self {
        let lent =
            Arc::new(Mutex::new(Lent { awaited: Some(Instant::now()), stream: Some(stream) }));
        let watch = tokio::spawn(watch(Arc::downgrade(&lent), patience));
        Self { lent, watch: watch.abort_handle() }
    }

    fn lent(&self) -> MutexGuard<'_, Lent> {
        lock(&self.lent)
    }
}

/// Waits until the client has taken nothing for `patience`, and gives back what it was lent. Sleeps
/// through whatever is taken meanwhile.
///
/// # Cancel safety
/// Dropped, it gives nothing back.
async fn watch(lent: Weak<Mutex<Lent>>, patience: Duration) {
    let mut deadline = Instant::now() + patience;
    loop {
        sleep_until(deadline).await;
        let Some(lent) = lent.upgrade() else { return };
        let mut held = lock(&lent);
        deadline = held.awaited.unwrap_or_else(Instant::now) + patience;
        if deadline <= Instant::now() {
            let stream = held.stream.take();
            // Closes files: not under the lock.
            drop(held);
            drop(stream);
            tracing::debug!("a client does not take its download");
            return;
        }
    }
}

/// Locks for a moment. A panic of a store leaves nothing half done here.
fn lock(lent: &Mutex<Lent>) -> MutexGuard<'_, Lent> {
    lent.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream for Download {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let first = self.first.take();
        let Some(rest) = &self.rest else {
            return Poll::Ready(first);
        };
        let mut lent = rest.lent();
        let Lent { awaited, stream } = &mut *lent;
        let Some(stream) = stream else {
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        };
        let next = match first {
            Some(first) => Some(first),
            None => {
                *awaited = None;
                ready!(stream.as_mut().poll_next(cx))
            }
        };
        *awaited = Some(Instant::now());
        Poll::Ready(next)
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Download")
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use tokio::time::{Sleep, sleep};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// What is nearly too long.
    const NEARLY: Duration = Duration::from_secs(59);

    const PIECE_BYTES: usize = 1000;

    /// A store's stream that never ends.
    struct Slow {
        wait: Duration,
        waiting: Option<Pin<Box<Sleep>>>,
        _file: Arc<()>,
    }

    impl Stream for Slow {
        type Item = io::Result<Bytes>;

        fn poll_next(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Bytes>>> {
            let wait = self.wait;
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(wait)));
            ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
            Poll::Ready(Some(Ok(vec![b'x'; PIECE_BYTES].into())))
        }
    }

    /// A download from a store that takes `wait` for each read, and what it holds.
    async fn download(wait: Duration, length: u64) -> (Download, Weak<()>) {
        let file = Arc::new(());
        let held = Arc::downgrade(&file);
        let stream = Slow { wait, waiting: None, _file: file };
        (Download::begin(Box::pin(stream), length, PATIENCE).await, held)
    }

    async fn next(download: &mut Download) -> Result<usize, io::ErrorKind> {
        let next = poll_fn(|cx| Pin::new(&mut *download).poll_next(cx)).await;
        let bytes = next.expect("it never ends");
        bytes.map(|bytes| bytes.len()).map_err(|error| error.kind())
    }

    #[tokio::test(start_paused = true)]
    async fn download_that_is_not_taken_is_given_back() {
        for taken in 0..4 {
            let (mut download, held) = download(Duration::ZERO, u64::MAX).await;
            for _ in 0..taken {
                assert_eq!(next(&mut download).await, Ok(PIECE_BYTES), "after {taken}");
            }
            sleep(NEARLY).await;
            assert_eq!(held.strong_count(), 1, "after {taken}");
            sleep(PATIENCE - NEARLY + Duration::from_millis(2)).await;
            assert_eq!(held.strong_count(), 0, "after {taken}");
            for _ in 0..2 {
                assert_eq!(next(&mut download).await, Err(io::ErrorKind::TimedOut));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_client_is_served_to_the_end() {
        let (mut download, held) = download(Duration::ZERO, u64::MAX).await;
        for _ in 0..10 {
            sleep(NEARLY).await;
            assert_eq!(next(&mut download).await, Ok(PIECE_BYTES));
        }
        drop(download);
        assert_eq!(held.strong_count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_are_all_at_hand_keep_nothing() {
        let (mut download, held) = download(Duration::ZERO, PIECE_BYTES as u64).await;
        assert_eq!(held.strong_count(), 0);
        sleep(PATIENCE * 2).await;
        assert_eq!(next(&mut download).await, Ok(PIECE_BYTES));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_store_is_not_the_fault_of_the_client() {
        let (mut download, _file) = download(PATIENCE * 5, u64::MAX).await;
        for _ in 0..3 {
            assert_eq!(next(&mut download).await, Ok(PIECE_BYTES));
        }
    }
}
