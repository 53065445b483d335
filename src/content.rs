//! [`Content`]: the data of one request as frames of bytes, then what its trailer says. Knows
//! bodies and the nouns; header names are the dialects'.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};

use crate::{rules::Refusal, upload::Digest};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Any body, made one type.
pub type AnyBody = UnsyncBoxBody<Bytes, io::Error>;

/// How a dialect finds a checksum among the fields of a trailer.
pub type TrailerChecksum = fn(&HeaderMap) -> Result<Option<Digest>, Refusal>;

/// The data of one request. Dropped before its end, it leaves the body to its [`Rest`].
pub struct Content {
    body: Option<AnyBody>,
    rest: Arc<Mutex<Option<Unread>>>,
    started: bool,
    trailer_checksum: TrailerChecksum,
}

/// One step of a [`Content`].
#[derive(Debug)]
pub enum Step {
    /// What the bytes must hash to, as the trailer says, or why the trailer cannot be read. Comes
    /// after the last byte.
    Checksum(Result<Digest, Refusal>),
    /// The next bytes; may be empty.
    Data(Bytes),
}

impl Content {
    /// No data.
    pub fn empty() -> Self {
        Self {
            body: None,
            rest: Arc::default(),
            started: false,
            trailer_checksum: |_| Ok(None),
        }
    }

    /// The data of `body`. A client that waits for `100 Continue` is told to go on by the first
    /// [`Content::next`], not by this.
    pub fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut content = Self::empty();
        if !body.is_end_stream() {
            let body = body.map_err(|error| io::Error::other(error.into()));
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

    /// No data, as far as an upload is concerned: what the client sends is no part of it, and left
    /// to the [`Rest`].
    #[must_use]
    pub fn ignored(self) -> Self {
        drop(self);
        Self::empty()
    }

    /// Where the body goes if it is not read to its end.
    pub fn rest(&self) -> Rest {
        Rest(Arc::clone(&self.rest))
    }

    /// Whether nothing more can come.
    pub fn is_end(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    /// The number of bytes still to come, if it was announced.
    pub fn exact_bytes(&self) -> Option<u64> {
        self.body
            .as_ref()
            .map_or(Some(0), |body| body.size_hint().exact())
    }

    /// The next step, `None` at the proper end.
    ///
    /// # Errors
    /// When the peer went away or broke the framing: what was promised will not come.
    ///
    /// # Cancel safety
    /// Safe: a step is returned or still to come.
    pub async fn next(&mut self) -> Option<io::Result<Step>> {
        self.started = true;
        loop {
            let frame = match self.body.as_mut()?.frame().await {
                Some(Ok(frame)) => frame,
                end => {
                    self.body = None;
                    return end
                        .map(|error| Err(error.err().unwrap_or(io::ErrorKind::Other.into())));
                }
            };
            let frame = match frame.into_data() {
                Ok(data) => return Some(Ok(Step::Data(data))),
                Err(frame) => frame,
            };
            // A kind of frame that does not exist yet says nothing, as do trailers without a
            // checksum.
            let checksum = frame
                .into_trailers()
                .map(|fields| (self.trailer_checksum)(&fields));
            if let Ok(Some(checksum)) = checksum.map(Result::transpose) {
                return Some(Ok(Step::Checksum(checksum)));
            }
        }
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let body = self.body.take().filter(|body| !body.is_end_stream());
        let unread = body.map(|body| Unread {
            body,
            started: self.started,
        });
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = unread;
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("end", &self.is_end())
            .finish_non_exhaustive()
    }
}

/// What is left of a body whose [`Content`] was dropped before its end.
pub struct Rest(Arc<Mutex<Option<Unread>>>);

/// A body that was not read to its end.
pub struct Unread {
    /// What is left of it.
    pub body: AnyBody,
    /// Whether reading had begun, so that a client that waits for `100 Continue` was told to go on.
    pub started: bool,
}

impl Rest {
    /// The unread body; `None` when it was read to its end, or is still being read.
    pub fn take(self) -> Option<Unread> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rest")
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unread")
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
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

    #[tokio::test]
    async fn ignored_content_is_empty_and_its_body_is_left_to_the_rest() {
        let content = Content::new(Full::new(Bytes::from_static(b"abc")));
        let rest = content.rest();
        let mut content = content.ignored();
        assert!(content.is_end() && content.next().await.is_none());
        assert!(rest.take().is_some_and(|unread| !unread.started));
    }
}
