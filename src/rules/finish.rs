//! May an upload be completed on request.

use std::time::SystemTime;

use super::{Refusal, lifecycle, write};
use crate::upload::{Change, Upload};

/// Checks that `upload` can be completed by a request that says so.
///
/// # Errors
/// In the order of the checks: [`Refusal::Expired`] or [`Refusal::Unknown`],
/// [`Refusal::FinalUpload`], [`Refusal::AlreadyComplete`], [`Refusal::Unfinished`].
///
/// # Source
/// P-101, P-110, P-144.
pub fn check(upload: &Upload, now: SystemTime) -> Result<(), Refusal> {
    lifecycle::check_alive(upload, now)?;
    write::check_role(upload)?;
    if upload.is_complete() {
        return Err(Refusal::AlreadyComplete);
    }
    if !upload.is_full() {
        return Err(Refusal::Unfinished { offset: upload.offset(), length: upload.length });
    }
    Ok(())
}

/// Returns the changes that complete `upload`.
///
/// # Errors
/// Those of [`check`].
pub fn changes(upload: &Upload, now: SystemTime) -> Result<Vec<Change>, Refusal> {
    check(upload, now)?;
    let mut changes = vec![Change::Completed { at: now }];
    if !upload.is_partial() && upload.expires.is_some() {
        changes.push(Change::ExpiryMoved { expires: None });
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{
        rules::{NewUpload, create::create},
        upload::{Completion, Limits, Phase, VoidReason},
    };

    #[test]
    fn only_full_and_open_uploads_are_completed_on_request_p_110_p_144() {
        let limits = Limits { expire_after: Some(Duration::from_secs(10)), ..Limits::default() };
        let complete = Phase::Complete { at: UNIX_EPOCH };
        let void = Phase::Void { why: VoidReason::Expired, until: None };
        let at = |second| UNIX_EPOCH + Duration::from_secs(second);
        let short = |length| Err(Refusal::Unfinished { offset: 4, length });
        for (length, phase, now, expected) in [
            (Some(4), Phase::Open, 9, Ok(())),
            (Some(5), Phase::Open, 9, short(Some(5))),
            (None, Phase::Open, 9, short(None)),
            (Some(4), complete, 9, Err(Refusal::AlreadyComplete)),
            (Some(4), Phase::Open, 10, Err(Refusal::Expired)),
            (Some(4), void, 9, Err(Refusal::Expired)),
        ] {
            let new =
                NewUpload { completion: Completion::OnRequest, length, ..NewUpload::default() };
            let id = "a".parse().expect("plain");
            let mut upload = create(new, id, &limits, UNIX_EPOCH).expect("within limits");
            upload.received.insert(0..4);
            upload.phase = phase;
            assert_eq!(check(&upload, at(now)), expected, "{upload:?}");
            let changes = changes(&upload, at(now)).map(|changes| upload.after(&changes));
            let completed = changes.map(|upload| upload.expect("consistent"));
            let is_complete =
                completed.as_ref().map(|now| now.is_complete() && now.expires.is_none());
            assert_eq!(is_complete, expected.as_ref().map(|()| true));
        }
    }
}
