//! Status, removal and expiry.

use std::time::SystemTime;

use super::Refusal;
use crate::upload::{Change, Limits, MAX_POSITION_BYTES, Phase, Upload, VoidReason};

/// The largest upload allowed, in bytes.
pub fn max_size(limits: &Limits) -> u64 {
    limits.max_size_bytes.unwrap_or(MAX_POSITION_BYTES)
}

/// The deadline of an upload that was last fed at `now`.
pub fn deadline(limits: &Limits, now: SystemTime) -> Option<SystemTime> {
    limits.expire_after.and_then(|after| now.checked_add(after))
}

/// The change that moves the deadline of `upload` on, if it has to move (T-073). It never comes
/// closer: a clock that was stepped back, or a shorter time configured since, takes nothing away
/// that was acknowledged.
pub fn renewed(upload: &Upload, limits: &Limits, now: SystemTime) -> Option<Change> {
    let expires = deadline(limits, now);
    let closer = expires.is_some() && expires < upload.expires;
    (expires != upload.expires && !closer).then_some(Change::ExpiryMoved { expires })
}

/// Uploads that are only asked about have their deadlines moved when that gains this part of the
/// time they have, so that not every question costs a record.
const WORTHWHILE_PART: u32 = 16;

/// The change that moves the deadline of `upload` on because a client has found its bytes there
/// (J-040), if that is worth a record.
pub fn touched(upload: &Upload, limits: &Limits, now: SystemTime) -> Option<Change> {
    let (after, expires) = (limits.expire_after?, upload.expires?);
    let gained = now.checked_add(after)?.duration_since(expires).ok()?;
    let is_worthwhile = upload.phase == Phase::Open && gained >= after / WORTHWHILE_PART;
    is_worthwhile.then(|| renewed(upload, limits, now)).flatten()
}

/// The change that marks an upload as acknowledged to another client, if it has had no change yet:
/// a creation that is refused removes only uploads that no other client knows.
pub fn shared(upload: &Upload, limits: &Limits, now: SystemTime) -> Option<Change> {
    let expires = deadline(limits, now).max(upload.expires);
    is_unused(upload).then_some(Change::ExpiryMoved { expires })
}

/// Whether an upload has had no change since its creation.
pub fn is_unused(upload: &Upload) -> bool {
    upload.phase == Phase::Open && upload.revision == 0
}

/// Whether the upload is still there at `now`.
///
/// # Errors
/// [`Refusal::Unknown`] when a client removed it; [`Refusal::Expired`] when its bytes are gone or
/// about to be.
pub fn check_alive(upload: &Upload, now: SystemTime) -> Result<(), Refusal> {
    match upload.phase {
        Phase::Void { why: VoidReason::Removed, .. } => Err(Refusal::Unknown),
        Phase::Void { why: VoidReason::Expired, .. } => Err(Refusal::Expired),
        Phase::Open | Phase::Complete { .. } if is_due(upload, now) => Err(Refusal::Expired),
        Phase::Open | Phase::Complete { .. } => Ok(()),
    }
}

/// The change that gives up the bytes of an upload and keeps its record for a while as a tombstone,
/// which tells clients that it is gone (J-041).
pub fn voided(why: VoidReason, limits: &Limits, now: SystemTime) -> Change {
    Change::Voided { why, until: now.checked_add(limits.tombstone) }
}

/// What a sweep does with an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpiryAction {
    /// It stays.
    Stay,
    /// Its bytes are given up; its record stays as a tombstone.
    Void(Change),
    /// It is forgotten.
    Forget,
}

/// What becomes of `upload` at `now`.
///
/// # Source
/// tus 1.0 "Expiration"; T-070, T-074.
pub fn expiry_action(upload: &Upload, limits: &Limits, now: SystemTime) -> ExpiryAction {
    match upload.phase {
        Phase::Void { until: Some(until), .. } if until <= now => ExpiryAction::Forget,
        Phase::Void { .. } => ExpiryAction::Stay,
        Phase::Open | Phase::Complete { .. } if is_due(upload, now) => {
            ExpiryAction::Void(voided(VoidReason::Expired, limits, now))
        }
        Phase::Open | Phase::Complete { .. } => ExpiryAction::Stay,
    }
}

/// A finished upload never expires; a partial one is never finished in this sense, however many of
/// its bytes have arrived (D-39).
fn is_due(upload: &Upload, now: SystemTime) -> bool {
    let finished = upload.is_complete() && !upload.is_partial();
    !finished && upload.expires.is_some_and(|expires| expires <= now)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{
        rules::{NewUpload, create::create},
        upload::Role,
    };

    #[test]
    fn questions_move_the_deadline_on_when_it_is_worthwhile_j_040() {
        let second = |n| UNIX_EPOCH + Duration::from_secs(n);
        let limits = Limits { expire_after: Some(Duration::from_secs(160)), ..Limits::default() };
        for (phase, now, expected) in [
            (Phase::Open, 0, None),
            (Phase::Open, 9, None),
            (Phase::Open, 10, Some(170)),
            (Phase::Open, 159, Some(319)),
            (Phase::Complete { at: UNIX_EPOCH }, 159, None),
            (Phase::Void { why: VoidReason::Expired, until: None }, 159, None),
        ] {
            let new = NewUpload { length: Some(1), ..NewUpload::default() };
            let id = "a".parse().expect("plain");
            let mut upload = create(new, id, &limits, UNIX_EPOCH).expect("within limits");
            upload.phase = phase;
            let moved = expected.map(|at| Change::ExpiryMoved { expires: Some(second(at)) });
            assert_eq!(touched(&upload, &limits, second(now)), moved, "{now}");
        }
    }

    #[test]
    fn only_unfinished_uploads_expire_and_tombstones_go_last() {
        let second = |n| UNIX_EPOCH + Duration::from_secs(n);
        let limits = Limits { expire_after: Some(Duration::from_secs(10)), ..Limits::default() };
        let until = Some(second(10) + limits.tombstone);
        let voided = ExpiryAction::Void(Change::Voided { why: VoidReason::Expired, until });
        let void = |why| Phase::Void { why, until: Some(second(10)) };
        let complete = Phase::Complete { at: UNIX_EPOCH };
        let gone = Err(Refusal::Expired);
        for (role, phase, now, is_alive, expected) in [
            (Role::Whole, Phase::Open, 9, Ok(()), ExpiryAction::Stay),
            (Role::Whole, Phase::Open, 10, gone.clone(), voided.clone()),
            (Role::Whole, complete, 10, Ok(()), ExpiryAction::Stay),
            (Role::partial(), complete, 10, gone.clone(), voided),
            (Role::Whole, void(VoidReason::Expired), 9, gone.clone(), ExpiryAction::Stay),
            (Role::Whole, void(VoidReason::Expired), 10, gone, ExpiryAction::Forget),
            (Role::Whole, void(VoidReason::Removed), 9, Err(Refusal::Unknown), ExpiryAction::Stay),
            (
                Role::Whole,
                void(VoidReason::Removed),
                10,
                Err(Refusal::Unknown),
                ExpiryAction::Forget,
            ),
        ] {
            let new = NewUpload { length: Some(1), role, ..NewUpload::default() };
            let id = "a".parse().expect("plain");
            let mut upload = create(new, id, &limits, UNIX_EPOCH).expect("within limits");
            upload.phase = phase;
            assert_eq!(check_alive(&upload, second(now)), is_alive, "{upload:?}");
            assert_eq!(expiry_action(&upload, &limits, second(now)), expected, "{upload:?}");
        }
    }
}
