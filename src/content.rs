//! [`Content`]: the data of one request as frames of bytes, then what its trailer says. Knows
//! bodies and the nouns; header names are the dialects'.

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use http_body::Body;
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};

use crate::{
    rules::Refusal,
    upload::{Digest, Metadata, Upload},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Any body, made one type.
pub type AnyBody = UnsyncBoxBody<Bytes, io::Error>;

/// How a dialect finds a checksum among the fields of a trailer.
pub type TrailerChecksum = fn(&HeaderMap) -> Result<Option<Digest>, Refusal>;

/// What a dialect knows of a request once its last byte has come, such as from the fields of a form
/// that follow the file.
pub type AtEnd = Box<dyn FnOnce() -> Result<Trailer, Refusal> + Send>;

/// What a request says after its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trailer {
    /// What the bytes must hash to.
    pub checksum: Option<Digest>,
    /// What the client says about the upload.
    pub metadata: Option<Metadata>,
}

/// Resolves when a client does not wait for its answer any more.
pub type Left = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Hears how far an upload has come, before the outcome of its request: when its record was made,
/// and whenever more of it was recorded. Runs between two frames of the body, and must not block.
pub type Progress = Box<dyn FnMut(&Upload) + Send>;

/// The data of one request. Dropped before its end, it leaves the body to its [`BodyRemainder`].
pub struct Content {
    at_end: Option<AtEnd>,
    body: Option<AnyBody>,
    left: Option<Left>,
    peeked: Option<Step>,
    progress: Option<Progress>,
    /// Bytes that come before those of the body, once more.
    replayed: Option<Replayed>,
    rest: Arc<Mutex<Option<UnreadBody>>>,
    started: bool,
    /// How many bytes have been given.
    taken_bytes: u64,
    trailer_checksum: TrailerChecksum,
}

/// Bytes that come once more.
type Replayed = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// One step of a [`Content`].
#[derive(Debug)]
pub enum Step {
    /// The next bytes; may be empty.
    Data(Bytes),
    /// The body breaks a rule of its form: nothing more comes, and what came must not count.
    Refused(Refusal),
    /// What follows the last byte.
    Trailer(Trailer),
}

impl Content {
    /// No data.
    pub fn empty() -> Self {
        Self {
            at_end: None,
            body: None,
            left: None,
            peeked: None,
            progress: None,
            replayed: None,
            rest: Arc::default(),
            started: false,
            taken_bytes: 0,
            trailer_checksum: |_| Ok(None),
        }
    }

    /// The data of `body`. A client that waits for `100 Continue` gets it with the first
    /// [`Content::next`], not by this. An error that is a [`Refusal`] becomes a
    /// [`Step::Refused`], so that a body may judge what it carries.
    pub fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut content = Self::empty();
        if !body.is_end_stream() {
            let body = body.map_err(|error| io_error(error.into()));
            content.body = Some(body.boxed_unsync());
        }
        content
    }

    /// The same data, but a trailer's checksum is looked for with `find`. Without it trailers are
    /// passed over.
    #[must_use]
    pub fn with_trailer_checksum(mut self, find: TrailerChecksum) -> Self {
        self.trailer_checksum = find;
        self
    }

    /// The same data, followed by what `at_end` yields when all of it has come.
    #[must_use]
    pub fn with_end(mut self, at_end: AtEnd) -> Self {
        self.at_end = Some(at_end);
        self
    }

    /// No data, as far as an upload is concerned: what the client sends is no part of it, and left
    /// to the [`BodyRemainder`].
    #[must_use]
    pub fn ignored(self) -> Self {
        drop(self);
        Self::empty()
    }

    /// The same data of a client that is gone when `left` resolves, see [`Content::while_present`].
    #[must_use]
    pub fn with_left(mut self, left: Left) -> Self {
        self.left = Some(left);
        self
    }

    /// The same data, but `progress` hears of it, for dialects that report progress in interim
    /// answers.
    #[must_use]
    pub fn with_progress(mut self, progress: Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Says that `upload` is recorded; its offset is safe to acknowledge.
    pub fn report(&mut self, upload: &Upload) {
        if let Some(progress) = &mut self.progress {
            progress(upload);
        }
    }

    /// Waits for something that is of use to the client of this request alone, such as its turn to
    /// write. To be used where nothing is half done.
    ///
    /// # Errors
    /// Those of `wait`, and [`Refusal::Busy`] when the client has left before.
    ///
    /// # Cancel safety
    /// That of `wait`, which is dropped when the client leaves.
    pub async fn while_present<T>(
        &mut self,
        wait: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let mut wait = pin!(wait);
        poll_fn(|cx| {
            let result = wait.as_mut().poll(cx);
            if result.is_pending() && self.has_left(cx) {
                return Poll::Ready(Err(Refusal::Busy));
            }
            result
        })
        .await
    }

    /// Whether the client has left. If not, the task is woken when it does.
    fn has_left(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(left) = &mut self.left else {
            return false;
        };
        let has_left = left.as_mut().poll(cx).is_ready();
        if has_left {
            // It must not be polled again, and its client does not come back.
            self.left = Some(Box::pin(async {}));
        }
        has_left
    }

    /// Where the body goes if it is not read to its end.
    pub fn rest(&self) -> BodyRemainder {
        BodyRemainder(Arc::clone(&self.rest))
    }

    /// How many bytes it has given since its start, or its last replay.
    pub fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    /// Takes bytes back that were just given: they come next.
    pub fn put_back(&mut self, bytes: Bytes) {
        self.taken_bytes = self.taken_bytes.saturating_sub(length(&bytes));
        self.peeked = Some(Step::Data(bytes));
    }

    /// Has all bytes come once more, those that were given from `given`.
    pub fn replay(&mut self, given: Replayed) {
        self.taken_bytes = 0;
        self.replayed = Some(given);
    }

    /// Whether nothing more can come.
    pub fn is_end(&self) -> bool {
        self.at_end.is_none()
            && self.replayed.is_none()
            && self.peeked.is_none()
            && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    /// Whether not a single byte comes. Waits for the first one where that was not announced; it
    /// is still to come.
    ///
    /// # Errors
    /// As [`Content::next`].
    pub async fn is_empty(&mut self) -> io::Result<bool> {
        if let Some(bytes) = self.exact_bytes() {
            return Ok(bytes == 0);
        }
        while self.peeked.is_none() {
            match self.next().await {
                None => return Ok(true),
                Some(Err(error)) => return Err(error),
                Some(Ok(Step::Data(bytes))) if bytes.is_empty() => {}
                Some(Ok(Step::Data(bytes))) => self.put_back(bytes),
                Some(Ok(step)) => self.peeked = Some(step),
            }
        }
        Ok(false)
    }

    /// The number of bytes still to come, if it was announced.
    pub fn exact_bytes(&self) -> Option<u64> {
        let peeked = match &self.peeked {
            Some(Step::Data(bytes)) => u64::try_from(bytes.len()).ok()?,
            Some(Step::Refused(_) | Step::Trailer(_)) | None => 0,
        };
        let unread = self.body.as_ref().map_or(Some(0), |body| body.size_hint().exact());
        unread?.checked_add(peeked)
    }

    /// The next step, `None` at the proper end and after a refusal.
    ///
    /// # Errors
    /// When the peer went away or broke the framing: what was promised will not come.
    ///
    /// # Cancel safety
    /// Safe: a step is returned or still to come.
    pub async fn next(&mut self) -> Option<io::Result<Step>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`Content::next`] for bodies that are made of another one's content.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Step>>> {
        let step = ready!(self.poll_step(cx));
        if let Some(Ok(Step::Data(bytes))) = &step {
            self.taken_bytes += length(bytes);
        }
        Poll::Ready(step)
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Step>>> {
        if let Some(replayed) = &mut self.replayed {
            match ready!(replayed.as_mut().poll_next(cx)) {
                Some(Ok(bytes)) => return Poll::Ready(Some(Ok(Step::Data(bytes)))),
                Some(Err(error)) => {
                    tracing::error!(%error, "bytes to be written once more cannot be read");
                    self.replayed = None;
                    return Poll::Ready(Some(Ok(Step::Refused(Refusal::StoreTrouble))));
                }
                None => self.replayed = None,
            }
        }
        if let Some(step) = self.peeked.take() {
            return Poll::Ready(Some(Ok(step)));
        }
        self.started = true;
        loop {
            let Some(body) = &mut self.body else {
                let end = self.at_end.take().map(|at_end| at_end());
                return Poll::Ready(
                    end.map(|end| Ok(end.map_or_else(Step::Refused, Step::Trailer))),
                );
            };
            let frame = match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    (self.body, self.at_end) = (None, None);
                    return Poll::Ready(Some(refused_or_failed(error)));
                }
                None => {
                    self.body = None;
                    continue;
                }
            };
            let frame = match frame.into_data() {
                Ok(data) => return Poll::Ready(Some(Ok(Step::Data(data)))),
                Err(frame) => frame,
            };
            // A kind of frame that does not exist yet says nothing, as do trailers without a
            // checksum.
            let checksum = frame.into_trailers().map(|fields| (self.trailer_checksum)(&fields));
            match checksum {
                Ok(Ok(Some(digest))) => {
                    let trailer = Trailer { checksum: Some(digest), ..Trailer::default() };
                    return Poll::Ready(Some(Ok(Step::Trailer(trailer))));
                }
                Ok(Err(refusal)) => return Poll::Ready(Some(Ok(Step::Refused(refusal)))),
                Ok(Ok(None)) | Err(_) => {}
            }
        }
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// `error` as one of input and output, wrapped at most once.
fn io_error(error: BoxError) -> io::Error {
    match error.downcast::<io::Error>() {
        Ok(error) => *error,
        Err(error) => io::Error::other(error),
    }
}

/// The last step of a body that ends with `error`.
fn refused_or_failed(error: io::Error) -> io::Result<Step> {
    let refusal = error.get_ref().and_then(|cause| cause.downcast_ref());
    match refusal.cloned() {
        Some(refusal) => Ok(Step::Refused(refusal)),
        None => Err(error),
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let body = self.body.take().filter(|body| !body.is_end_stream());
        let unread = body.map(|body| UnreadBody { body, started: self.started });
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = unread;
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("end", &self.is_end()).finish_non_exhaustive()
    }
}

/// What is left of a body whose [`Content`] was dropped before its end.
pub struct BodyRemainder(Arc<Mutex<Option<UnreadBody>>>);

/// A body that was not read to its end.
pub struct UnreadBody {
    /// What is left of it.
    pub body: AnyBody,
    /// Whether reading had begun, so that a client that waits for `100 Continue` got it.
    pub started: bool,
}

impl BodyRemainder {
    /// The unread body; `None` when it was read to its end, or is still being read.
    pub fn take(self) -> Option<UnreadBody> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for BodyRemainder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyRemainder")
    }
}

impl fmt::Debug for UnreadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnreadBody").field("started", &self.started).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body::Frame;
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn content_left_unread_is_found_in_its_rest() {
        for (steps, left) in [(0, true), (1, false), (2, false)] {
            let mut content = Content::new(Full::new(Bytes::from_static(b"abc")));
            assert_eq!(content.exact_bytes(), Some(3));
            let rest = content.rest();
            for _ in 0..steps {
                content.next().await;
            }
            drop(content);
            assert_eq!(rest.take().is_some(), left, "after {steps} steps");
        }
    }

    /// A body in another one's content, as the payload of a form is.
    struct Wrapper(Content);

    impl Body for Wrapper {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            let step = ready!(self.0.poll_next(cx));
            Poll::Ready(step.map(|step| match step? {
                Step::Data(bytes) if bytes == "bad" => Err(io::Error::other(Refusal::Busy)),
                Step::Data(bytes) => Ok(Frame::data(bytes)),
                Step::Refused(_) | Step::Trailer(_) => Err(io::ErrorKind::Other.into()),
            }))
        }
    }

    fn framed(frames: &[&'static str]) -> Content {
        let frames: VecDeque<_> = frames.iter().map(|frame| Bytes::from(*frame)).collect();
        Content::new(http_body_util::StreamBody::new(Frames(frames)))
    }

    struct Frames(VecDeque<Bytes>);

    impl futures_core::Stream for Frames {
        type Item = Result<Frame<Bytes>, io::Error>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.pop_front().map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    #[tokio::test]
    async fn wrapped_content_left_unread_is_found_in_the_rest_of_the_inner_one() {
        for (steps, left) in [(0, Some(2)), (1, Some(1)), (2, Some(0)), (3, None)] {
            let inner = framed(&["a", "b"]);
            let rest = inner.rest();
            let mut outer = Content::new(Wrapper(inner));
            for _ in 0..steps {
                outer.next().await;
            }
            drop(outer);
            let unread = rest.take();
            assert!(unread.as_ref().is_none_or(|unread| unread.started == (steps > 0)));
            let mut frames = 0;
            if let Some(unread) = &mut rest_body(unread) {
                while let Some(Ok(_)) = unread.frame().await {
                    frames += 1;
                }
                assert_eq!(Some(frames), left, "after {steps} steps");
            } else {
                assert_eq!(left, None, "after {steps} steps");
            }
        }
    }

    fn rest_body(unread: Option<UnreadBody>) -> Option<AnyBody> {
        unread.map(|unread| unread.body)
    }

    #[tokio::test]
    async fn wait_ends_when_the_client_leaves() {
        let forever = std::future::pending::<Result<(), Refusal>>;
        let (present, left) = tokio::sync::oneshot::channel::<()>();
        let left = Box::pin(async { drop(left.await) });
        let mut content = framed(&["a"]).with_left(left);
        let granted = content.while_present(async { Ok(()) }).await;
        assert_eq!(granted, Ok(()));
        let (waited, ()) = tokio::join!(content.while_present(forever()), async { drop(present) });
        assert_eq!(waited, Err(Refusal::Busy));
        // It stays absent: only futures that are ready complete.
        assert_eq!(content.while_present(forever()).await, Err(Refusal::Busy));
        assert_eq!(content.while_present(async { Ok(()) }).await, Ok(()));
        assert!(matches!(content.next().await, Some(Ok(Step::Data(_)))));
    }

    #[tokio::test]
    async fn peeked_bytes_are_still_to_come() {
        for (frames, empty, first) in
            [(&[][..], true, None), (&["", ""], true, None), (&["", "a", "b"], false, Some("a"))]
        {
            let mut content = framed(frames);
            assert_eq!(content.is_empty().await.ok(), Some(empty), "{frames:?}");
            assert_eq!(content.is_empty().await.ok(), Some(empty), "{frames:?}");
            assert_eq!(content.is_end(), empty, "{frames:?}");
            let next = match content.next().await {
                Some(Ok(Step::Data(bytes))) => Some(bytes),
                _ => None,
            };
            assert_eq!(next.as_deref(), first.map(str::as_bytes), "{frames:?}");
        }
        let mut content = Content::new(Full::new(Bytes::from_static(b"abc")));
        assert_eq!(content.is_empty().await.ok(), Some(false));
        drop(content);
    }

    #[tokio::test]
    async fn errors_that_are_refusals_are_steps_and_end_the_content() {
        let inner = framed(&["a", "bad", "c"]);
        let rest = inner.rest();
        let mut outer = Content::new(Wrapper(inner));
        assert!(matches!(outer.next().await, Some(Ok(Step::Data(bytes))) if bytes == "a"));
        let refused = outer.next().await;
        assert!(matches!(refused, Some(Ok(Step::Refused(Refusal::Busy)))), "{refused:?}");
        assert!(outer.next().await.is_none() && outer.is_end());
        assert!(rest.take().is_some_and(|unread| unread.started));
    }

    #[tokio::test]
    async fn ignored_content_is_empty_and_its_body_is_left_to_the_rest() {
        let content = Content::new(Full::new(Bytes::from_static(b"abc")));
        let rest = content.rest();
        let mut content = content.ignored();
        assert!(content.is_end() && content.next().await.is_none());
        assert!(rest.take().is_some_and(|unread| !unread.started));
    }
}
