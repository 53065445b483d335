//! Dialects: HTTP on one side, [`Intent`] and [`Outcome`] on the other. Knows `http`, `upload`,
//! `rules` and `content`; no store, no engine, no runtime.

pub mod cors;
pub mod drf;
pub mod form;
pub mod framing;
pub mod location;
pub mod mount;
pub mod naming;
pub mod origin;
pub mod reply;
pub mod resumable_js;
mod safe_name;
pub mod tus;

use std::{fmt, time::Duration};

use http::{HeaderMap, request::Parts};

use self::location::Locations;
pub use self::{
    naming::{Naming, Owner},
    reply::{Reply, ReplyBody},
};
use crate::{
    content::Content,
    fields::{Invalid, Reason, content_encoding, upload_checksum},
    rules::{Intent, Outcome, Refusal, Refused},
    upload::{Digest, Limits},
};

/// One way of speaking HTTP about uploads, mounted at a path.
pub trait Dialect: Send + Sync + fmt::Debug + 'static {
    /// What it is called in messages.
    fn name(&self) -> &'static str;

    /// Where it is served.
    fn locations(&self) -> &Locations;

    /// The CORS lists of this dialect.
    fn cors(&self) -> &cors::CorsFields;

    /// How much of an unread body is read after the answer, and for how long, so that a
    /// client in mid-send meets the answer and not a reset (D-48). What is more is cut off on
    /// purpose.
    fn drain(&self) -> (u64, Duration) {
        (16 << 20, Duration::from_secs(5))
    }

    /// Whether the request with `head` is this dialect's. Where several dialects share a path,
    /// those that know their requests by more than it are mounted first.
    fn matches(&self, head: &Parts) -> bool {
        self.locations().mount.matches(head.uri.path())
    }

    /// Whether the request with `head`, sent to another dialect, is plainly meant for this one.
    /// That dialect may then name the right path.
    fn recognizes(&self, _head: &Parts) -> bool {
        false
    }

    /// Whether the request with `head` would change something, and any page could have made a
    /// browser send it: a form does, and nothing in it is of this dialect alone. Then
    /// [`Cors::admit`](cors::Cors::admit) is asked.
    fn is_forgeable(&self, head: &Parts) -> bool;

    /// The exchange that a request head begins.
    fn open(&self, head: &Parts) -> Box<dyn Exchange>;
}

/// One request and its answer in a dialect.
///
/// `read` is called once, then, if it yields an intent, `next` until it yields none, then `answer`
/// once. It keeps what its answer needs to know of the request and no more: behind a head lies the
/// buffer of its connection, and some requests last for hours.
#[async_trait::async_trait]
pub trait Exchange: Send + fmt::Debug {
    /// What the request wants that began with `head`, and the data that goes with it; or the
    /// answer, when the engine is not needed for it. Only a dialect that puts its parameters into
    /// the body polls `content`.
    async fn read(
        &mut self,
        head: &Parts,
        content: Content,
        limits: &Limits,
    ) -> Result<(Intent, Content), Box<Reply>>;

    /// What the request wants next, after its intent yielded `result`; most want nothing.
    fn next(&mut self, _result: &Result<Outcome, Refused>) -> Option<Intent> {
        None
    }

    /// The answer to the last intent.
    fn answer(&mut self, result: Result<Outcome, Refused>) -> Reply;
}

impl From<Invalid> for Refusal {
    fn from(Invalid { field, reason }: Invalid) -> Self {
        match reason {
            Reason::Malformed(reason) => Self::malformed(field, reason),
            Reason::TooLarge => Self::malformed(field, reason.to_string()),
            Reason::TooLong { limit_bytes } => Self::MetadataTooLong { limit_bytes },
            Reason::UnknownAlgorithm { name } => Self::ChecksumUnknown { name },
            Reason::UnsupportedVersion => Self::VersionUnsupported,
            Reason::WrongMediaType { expected } => Self::WrongMediaType { expected },
        }
    }
}

/// Checks that a body is sent as it is: stored bytes are those of the file.
///
/// # Errors
/// [`Refusal::WrongMediaType`].
fn check_uncoded(headers: &HeaderMap) -> Result<(), Refusal> {
    if content_encoding::is_coded(headers) {
        return Err(Refusal::WrongMediaType { expected: "sent without a content coding" });
    }
    Ok(())
}

/// The checksum among the fields of a trailer; see [`Content::with_trailer_checksum`].
fn trailer_checksum(fields: &HeaderMap) -> Result<Option<Digest>, Refusal> {
    Ok(upload_checksum::decode(fields)?)
}
