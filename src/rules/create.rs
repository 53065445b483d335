//! May this upload be made.

use std::time::SystemTime;

use super::{NewUpload, Refusal, lifecycle};
use crate::upload::{Capabilities, Change, Limits, Role, Upload, UploadId};

/// The upload that `new` asks for.
///
/// # Errors
/// [`Refusal::OverLimit`], [`Refusal::MetadataTooLong`]; [`Refusal::Malformed`] for the checksum in
/// the metadata.
///
/// # Source
/// tus 1.0 "Creation"; T-055.
pub fn create(
    new: NewUpload,
    id: UploadId,
    limits: &Limits,
    now: SystemTime,
) -> Result<Upload, Refusal> {
    if let Some(length) = new.length {
        check_length(length, limits)?;
    }
    if new.metadata.as_text().len() > limits.max_metadata_bytes {
        return Err(Refusal::MetadataTooLong { limit_bytes: limits.max_metadata_bytes });
    }
    if let Some(Err(reason)) = new.metadata.checksum() {
        return Err(Refusal::Malformed { field: "checksum", reason: reason.to_owned() });
    }
    let NewUpload { completion, id_form: _, key, length, metadata, owner, role } = new;
    let created = Change::Created { completion, key, length, metadata, owner, role, at: now };
    let mut upload = Upload::new(id, &created).map_err(|_| Refusal::Internal)?;
    upload.expires = lifecycle::deadline(limits, now);
    Ok(upload)
}

/// Whether the store can make an upload of this role.
///
/// # Errors
/// [`Refusal::Unsupported`]: a partial upload that can never be joined is no upload (F-40).
pub fn check_role(role: &Role, capabilities: &Capabilities) -> Result<(), Refusal> {
    match role {
        Role::Partial { .. } | Role::Final { .. } if !capabilities.join => {
            Err(Refusal::Unsupported { what: "concatenation" })
        }
        Role::Whole | Role::Partial { .. } | Role::Final { .. } => Ok(()),
    }
}

/// Whether an upload of `length` bytes is allowed.
///
/// # Errors
/// [`Refusal::OverLimit`].
pub fn check_length(length: u64, limits: &Limits) -> Result<(), Refusal> {
    let limit_bytes = lifecycle::max_size(limits);
    if length > limit_bytes { Err(Refusal::OverLimit { limit_bytes }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::upload::Phase;

    #[test]
    fn creation_keeps_to_the_limits() {
        let limits = Limits {
            max_size_bytes: Some(10),
            max_metadata_bytes: 4,
            expire_after: Some(Duration::from_secs(5)),
            ..Limits::default()
        };
        for (length, metadata, expected) in [
            (Some(10), "a", Ok(())),
            (None, "", Ok(())),
            (Some(0), "", Ok(())),
            (Some(11), "", Err(Refusal::OverLimit { limit_bytes: 10 })),
            (Some(1), "abcde", Err(Refusal::MetadataTooLong { limit_bytes: 4 })),
        ] {
            let metadata = metadata.parse().expect("plain");
            let new = NewUpload { length, metadata, ..NewUpload::default() };
            let id = "a".parse().expect("plain");
            let made = create(new, id, &limits, UNIX_EPOCH);
            assert_eq!(made.as_ref().map(|_| ()).map_err(Clone::clone), expected);
            if let Ok(upload) = made {
                assert_eq!((upload.phase, upload.offset()), (Phase::Open, 0));
                assert_eq!(upload.expires, Some(UNIX_EPOCH + Duration::from_secs(5)));
            }
        }
    }

    #[test]
    fn roles_are_offered_where_the_store_can_join() {
        let capabilities = |join| Capabilities { join };
        let what = "concatenation";
        for (role, join, expected) in [
            (Role::Whole, false, Ok(())),
            (Role::partial(), true, Ok(())),
            (Role::partial(), false, Err(Refusal::Unsupported { what })),
        ] {
            assert_eq!(check_role(&role, &capabilities(join)), expected, "{role:?}");
        }
    }
}
