//! [`Refusal`]: every reason to say no. Data, without status codes: each dialect words it.

use std::time::{Duration, SystemTime};

use crate::upload::UploadId;

/// Why a request is not done, with the facts its client needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The client stopped sending or went away: there is no one to answer.
    #[error("the client stopped sending")]
    Abandoned,
    /// The upload is complete, and takes nothing more.
    #[error("the upload is complete")]
    AlreadyComplete,
    /// The body is longer or shorter than the bytes it stands for.
    #[error("the body has {given} bytes, {expected} were announced")]
    BodyLengthWrong {
        /// How many bytes the request announces.
        expected: u64,
        /// How many there are, as far as known.
        given: u64,
    },
    /// More body than the upload has room for.
    #[error("the body passes the upload's length of {length} bytes")]
    BodyTooLong {
        /// The upload's length in bytes.
        length: u64,
    },
    /// Another request is writing the same bytes.
    #[error("another request is writing to this upload")]
    Busy,
    /// The bytes do not have the checksum given.
    #[error("the bytes do not have the checksum given")]
    ChecksumMismatch,
    /// The checksum algorithm is not offered.
    #[error("checksum algorithm {name:?} is not supported")]
    ChecksumUnknown {
        /// The algorithm's name as given, cut to a sane length.
        name: String,
    },
    /// The upload has other bytes in the place of those sent.
    #[error("the upload has other bytes at position {at}")]
    ContentConflict {
        /// The first position at which they differ, as far as known.
        at: u64,
    },
    /// A hook of the embedding application said no.
    #[error("{0}")]
    Denied(Denial),
    /// Another request has written the bytes of this one meanwhile, or took over from it because it
    /// had stopped receiving.
    #[error("another request took over this upload")]
    Displaced,
    /// The upload was not finished in time and its bytes are gone.
    #[error("the upload was not finished in time")]
    Expired,
    /// Final uploads take no bytes.
    #[error("a final upload takes no bytes")]
    FinalUpload,
    /// A bug of the server.
    #[error("internal error")]
    Internal,
    /// The length given contradicts what is known.
    #[error("upload is {known}, request says {given} bytes")]
    LengthConflict {
        /// The length given, in bytes.
        given: u64,
        /// What it contradicts.
        known: KnownLength,
    },
    /// A field of the request breaks its grammar, or contradicts another one.
    #[error("{field}: {reason}")]
    Malformed {
        /// Which field.
        field: &'static str,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// The metadata is longer than allowed.
    #[error("metadata is longer than {limit_bytes} bytes")]
    MetadataTooLong {
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// A part of a final upload is not a partial upload.
    #[error("upload {id} is not a partial upload")]
    NotPartial {
        /// Which one.
        id: UploadId,
    },
    /// The bytes do not belong where the upload is.
    #[error("upload is at {expected} bytes, request says {given}")]
    OffsetMismatch {
        /// Where the upload is.
        expected: u64,
        /// Where the request wants to write.
        given: u64,
    },
    /// The upload would be larger than allowed.
    #[error("uploads are limited to {limit_bytes} bytes")]
    OverLimit {
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// A part of a final upload is not finished.
    #[error("partial upload {id} is not finished")]
    PartialUnfinished {
        /// Which one.
        id: UploadId,
    },
    /// The asked range lies outside the upload.
    #[error("the range asked for lies outside the upload's {length} bytes")]
    RangeUnsatisfiable {
        /// The upload's length in bytes.
        length: u64,
    },
    /// The server is going down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The store has no room.
    #[error("the store has no space left")]
    StoreFull,
    /// The store failed; the log says how.
    #[error("the store failed; try again later")]
    StoreTrouble,
    /// The upload would be in more separate ranges than allowed.
    #[error("an upload may be in at most {limit} separate ranges")]
    TooFragmented {
        /// The limit.
        limit: usize,
    },
    /// More separate parts than allowed.
    #[error("at most {limit} parts are allowed")]
    TooManyPartials {
        /// The limit.
        limit: usize,
    },
    /// The upload is not as long as was declared, or no length was.
    #[error("upload is at {offset} bytes, not at its length")]
    Unfinished {
        /// Where the upload is.
        offset: u64,
        /// Its length in bytes, if it was declared.
        length: Option<u64>,
    },
    /// There is no such upload.
    #[error("no such upload")]
    Unknown,
    /// The store or its configuration cannot do this.
    #[error("{what} is not supported")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
    /// The protocol version is not spoken here.
    #[error("protocol version is missing or not supported")]
    VersionUnsupported,
    /// The body is of a kind that is not taken here.
    #[error("the body must be {expected}")]
    WrongMediaType {
        /// The media type expected.
        expected: &'static str,
    },
}

impl Refusal {
    /// A request of which `field` breaks its grammar, or contradicts another one.
    pub fn malformed(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Malformed { field, reason: reason.into() }
    }
}

/// What is known of the length of an upload, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KnownLength {
    /// It was declared.
    #[error("{0} bytes long")]
    Declared(u64),
    /// Its partial uploads are so long together.
    #[error("made of parts of {0} bytes")]
    Partials(u64),
    /// It has received bytes up to here.
    #[error("at {0} bytes already")]
    Received(u64),
}

/// A hook's no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Denial {
    /// What kind of no.
    pub kind: DenialKind,
    /// The text for the client.
    pub message: String,
}

/// The kinds of no that a hook has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DenialKind {
    /// This caller may not do it.
    Forbidden,
    /// The request is wrong in the application's eyes.
    Invalid,
    /// It is more than this caller may store.
    TooLarge,
    /// Not now; the client should try again after this time.
    Unavailable {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The caller is not authenticated.
    Unauthenticated {
        /// How to authenticate, as in a `WWW-Authenticate` field.
        challenge: Option<String>,
    },
}

impl Denial {
    /// Whether asking again gets the same answer.
    pub const fn is_final(&self) -> bool {
        match self.kind {
            DenialKind::Unavailable { .. } => false,
            DenialKind::Forbidden
            | DenialKind::Invalid
            | DenialKind::TooLarge
            | DenialKind::Unauthenticated { .. } => true,
        }
    }

    /// A caller who may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self { kind: DenialKind::Forbidden, message: message.into() }
    }

    /// A request the application does not accept.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { kind: DenialKind::Invalid, message: message.into() }
    }

    /// A caller without valid credentials.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self { kind: DenialKind::Unauthenticated { challenge: None }, message: message.into() }
    }

    /// A trouble that passes.
    pub fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        Self { kind: DenialKind::Unavailable { retry_after }, message: message.into() }
    }
}

/// A refusal, and what its answer says besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Until when the upload in question lives, if it expires (T-071).
    pub expires: Option<SystemTime>,
    /// Why.
    pub refusal: Refusal,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { expires: None, refusal }
    }
}
