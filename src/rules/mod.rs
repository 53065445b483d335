//! What a request may do. Pure functions of (upload, intent, limits, now): no async, HTTP, clock or
//! files.

pub mod create;
pub mod fetch;
pub mod finish;
pub mod intent;
pub mod join;
pub mod keyed;
pub mod lifecycle;
pub mod refusal;
pub mod write;

pub use self::{
    intent::{
        At, Checksum, FetchedBytes, Finish, Finished, Intent, Join, MAX_LISTED, NewUpload, Outcome,
        Selection, ServerInfo, Subject, Target, Test, Wait, Write,
    },
    refusal::{Denial, DenialKind, KnownLength, Refusal, Refused},
};
