//! Whether bytes are there: asked by clients that skip what they need not send again.

use std::ops::Range;

use crate::upload::Upload;

/// Whether `upload` holds all of `range`, whoever wrote it. Nothing is always there; of an empty
/// upload it is the completion that counts.
///
/// # Source
/// J-020, J-021, J-031.
pub fn is_there(upload: &Upload, range: &Range<u64>) -> bool {
    upload.received.covers(range) && (upload.length != Some(0) || upload.is_complete())
}
