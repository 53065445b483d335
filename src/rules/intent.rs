//! [`Intent`] and [`Outcome`]: the whole vocabulary between wire and engine.

use std::{fmt, io, ops::Range, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_core::Stream;

use crate::upload::{
    Algorithm, Capabilities, Completion, Digest, IdForm, Key, Limits, Metadata, Role, Upload,
    UploadId,
};

/// What a request wants, in no dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "nearly all intents are writes")]
pub enum Intent {
    /// Describe the server.
    Discover,
    /// An upload completed that is complete on request.
    Finish(Finish),
    /// The uploads of one owner that are complete on request.
    List {
        /// Whose uploads; `None` = those without an owner.
        owner: Option<String>,
    },
    /// The bytes of a complete upload.
    Fetch {
        /// Which upload.
        id: UploadId,
        /// Which bytes of it.
        selection: Selection,
    },
    /// A final upload made of partial ones.
    Join(Join),
    /// The state of an upload.
    Status {
        /// Which upload.
        of: Subject,
    },
    /// An upload removed.
    Terminate {
        /// Which upload.
        of: Subject,
    },
    /// Whether a keyed upload has certain bytes, asked by a client that is about to send the rest.
    Test(Test),
    /// Bytes stored, perhaps into an upload that is made for them.
    Write(Write),
}

/// The request that completes an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// What all its bytes must hash to, if that is to be verified.
    pub checksum: Option<Digest>,
    /// Which upload.
    pub of: Subject,
    /// How it waits for writers of the upload.
    pub wait: Wait,
}

/// Bytes stored; creation is a write with [`Target::New`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// How long the answer may be delayed while other requests are writing all that is missing, so
    /// that whichever answer is read last says complete. Zero: not at all.
    pub answer_when_alone: Duration,
    /// Where the body goes.
    pub at: At,
    /// What the body must hash to.
    pub checksum: Checksum,
    /// Whether the body is the last one of an upload that is complete on request.
    pub completes: bool,
    /// The length of the body, if it was announced.
    pub content_bytes: Option<u64>,
    /// The algorithm of the digest over the whole upload which its completion will ask for.
    pub digest: Option<Algorithm>,
    /// The length of the whole upload, if the request declares it.
    pub length: Option<u64>,
    /// The upload to write to.
    pub target: Target,
    /// How it waits for other writers of the same bytes.
    pub wait: Wait,
}

impl Write {
    /// A write to `target` at `at` of which nothing else is known.
    pub const fn new(target: Target, at: At, wait: Wait) -> Self {
        Self {
            answer_when_alone: Duration::ZERO,
            at,
            checksum: Checksum::None,
            completes: false,
            content_bytes: None,
            digest: None,
            length: None,
            target,
            wait,
        }
    }
}

/// How a request waits for others that write the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// How long it waits for a writer that keeps receiving.
    pub at_most: Duration,
    /// A writer that has waited this long for its own client gives way to others.
    pub stall_after: Duration,
}

/// Where the body of a write goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum At {
    /// Exactly these bytes, whole or not at all, of an upload whose bytes come in order: they begin
    /// where it is, or all of them are present and are compared.
    Next(Range<u64>),
    /// On from this position, which must be where the upload is, or below if the upload is keyed.
    /// What arrives counts as it arrives.
    Offset(u64),
    /// Exactly these bytes, whole or not at all, beside other writes to the same upload. Bytes that
    /// that are present are compared, not written again.
    Range(Range<u64>),
}

/// The upload a write goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// One that exists.
    Existing(UploadId),
    /// One that exists and belongs to this owner; `None` = to no owner.
    Owned(UploadId, Option<String>),
    /// The current one of this key, made if there is none and the write begins with byte 0. Of a
    /// length that is declared.
    Keyed(Key, NewUpload),
    /// One to be made.
    New(NewUpload),
    /// One to be made, which this key leads to unless it leads to another one.
    NewKeyed(Key, NewUpload),
}

/// An upload that a request asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// The one of this id.
    Id(UploadId),
    /// The one that this key leads to.
    Key(Key),
    /// The one of this id, if it belongs to this owner; `None` = to no owner.
    Owned(UploadId, Option<String>),
    /// The last one of this key, as long as it is not complete.
    Unfinished(Key),
}

/// Whether a keyed upload has certain bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// The key of the upload.
    pub key: Key,
    /// Total bytes of the upload.
    pub length: u64,
    /// The bytes asked about. That they are there counts as use: the upload expires later.
    pub range: Range<u64>,
}

/// An upload to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewUpload {
    /// When it is complete.
    pub completion: Completion,
    /// The form of its id, which is random.
    pub id_form: IdForm,
    /// What the client's own name for it hashes to; set by [`Target::Keyed`].
    pub key: Option<Key>,
    /// Total bytes, if known.
    pub length: Option<u64>,
    /// What the client says about it.
    pub metadata: Metadata,
    /// Who creates it, as far as that is known.
    pub owner: Option<String>,
    /// Alone or a part; [`Intent::Join`] makes finals.
    pub role: Role,
}

/// What the body of a write must hash to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Known beforehand: the body is kept whole or not at all.
    Given(Digest),
    /// No checksum was announced. If a trailer brings one all the same, it is ignored (D-22).
    #[default]
    None,
    /// Announced for the trailer: the body is kept whole or not at all.
    Trailing,
}

/// A final upload made of partial ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The length of the body, if it was announced. Finals take none.
    pub content_bytes: Option<u64>,
    /// The length the client expects, if it says so.
    pub length: Option<u64>,
    /// What the client says about the final upload.
    pub metadata: Metadata,
    /// Who creates it, as far as that is known.
    pub owner: Option<String>,
    /// The parts in order; one may occur more than once.
    pub partials: Vec<UploadId>,
    /// The list as the client wrote it.
    pub text: String,
}

/// Which bytes of an upload are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All.
    All,
    /// From this position to the end.
    From(u64),
    /// The last so many.
    Last(u64),
    /// None: the client has them already.
    Nothing,
    /// First and last position, both included.
    Span(u64, u64),
}

/// The most uploads in one list.
pub const MAX_LISTED: usize = 1_000;

/// What a request yielded.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// What is offered here.
    Discovered(Box<ServerInfo>),
    /// The bytes asked for.
    Fetched {
        /// The bytes; `None` when nothing was asked for.
        bytes: Option<FetchedBytes>,
        /// The upload they are from.
        upload: Arc<Upload>,
    },
    /// Uploads that a request asked for; at most [`MAX_LISTED`].
    Listed(Vec<Arc<Upload>>),
    /// The state of an upload; its offset is safe to acknowledge.
    Status {
        /// The upload.
        upload: Arc<Upload>,
    },
    /// The body was stored whole, or as far as it came where the dialect has an answer for that.
    Written {
        /// What the application adds to the answer of the request that completed the upload.
        finished: Finished,
        /// Whether the request made the upload, or brought bytes that it did not have.
        changed: bool,
        /// The position after the last byte stored by this request.
        offset: u64,
        /// The upload after it.
        upload: Arc<Upload>,
    },
    /// The upload is gone.
    Terminated,
}

/// A segment of an upload's bytes.
pub struct FetchedBytes {
    /// Whether it was asked for as a range.
    pub partial: bool,
    /// Which bytes.
    pub range: Range<u64>,
    /// The bytes.
    pub stream: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
}

impl fmt::Debug for FetchedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedBytes").field("range", &self.range).finish_non_exhaustive()
    }
}

/// What is offered here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// What the store can do.
    pub capabilities: Capabilities,
    /// What the operator allows.
    pub limits: Limits,
}

/// What the application adds to the answer of the request that completes an upload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// Header fields, for dialects that carry HTTP headers. Names that the dialect uses itself are
    /// left out.
    pub headers: Vec<(String, String)>,
}
