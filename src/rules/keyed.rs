//! Which upload a client's own name means: the rules of sessions.
//!
//! A session of a name begins with byte 0, and with nothing else (J-043). What a name leads to
//! otherwise is the upload of the session that is running.

use std::{ops::Range, time::SystemTime};

use super::{KnownLength, Refusal, lifecycle};
use crate::upload::{Limits, Phase, Upload};

/// A write by a client's own name, as far as it says which upload it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedWrite {
    /// Whether it begins with byte 0.
    pub begins: bool,
    /// Whether it brings bytes to compare.
    pub has_bytes: bool,
    /// Total bytes of the upload that it means.
    pub length: u64,
}

/// What is known besides the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// Whether another request is writing to the upload that the name leads to.
    pub is_written: bool,
    /// Whether the request has waited for a session to begin for as long as it may.
    pub has_waited: bool,
}

/// Which upload a write by name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// A new one, to which the name leads from then on.
    Begin,
    /// The one that the name leads to, as long as the bytes are its own: a late duplicate. Other
    /// bytes begin a new one.
    Compare,
    /// The one that the name leads to.
    Continue,
    /// None.
    Refuse(Refusal),
    /// That of a session which may be about to begin: chunks of one file are sent side by side.
    Wait,
}

/// How the upload that a name leads to stands to one of a certain length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyState {
    /// It is complete; whether that was long enough ago for the name to be free (S-010).
    Complete { is_past: bool },
    /// There is none, or it is gone.
    Free,
    /// It takes bytes.
    Open,
    /// It has another length.
    OtherLength(u64),
}

impl KeyState {
    fn of(
        current: Option<&Upload>,
        length: u64,
        is_written: bool,
        limits: &Limits,
        now: SystemTime,
    ) -> Self {
        let Some(upload) = current else {
            return Self::Free;
        };
        // An upload that is being written does not expire, whatever its record says (T-073).
        if upload.is_void() || (!is_written && lifecycle::check_alive(upload, now).is_err()) {
            return Self::Free;
        }
        match (upload.phase, upload.length) {
            (_, Some(known)) if known != length => Self::OtherLength(known),
            (Phase::Complete { .. }, _) => Self::Complete { is_past: is_past(upload, limits, now) },
            (Phase::Open | Phase::Void { .. }, _) => Self::Open,
        }
    }
}

/// Whether an upload has been complete for so long that its name is free for another (S-010).
fn is_past(upload: &Upload, limits: &Limits, now: SystemTime) -> bool {
    let Phase::Complete { at } = upload.phase else {
        return false;
    };
    at.checked_add(limits.completed_grace).is_some_and(|past| past <= now)
}

/// Which upload a write means whose name leads to `current`.
///
/// # Source
/// J-017, J-034, J-041, J-043, J-044, J-054, S-010.
pub fn choose(
    current: Option<&Upload>,
    write: KeyedWrite,
    circumstances: Circumstances,
    limits: &Limits,
    now: SystemTime,
) -> Choice {
    let Circumstances { is_written, has_waited } = circumstances;
    let state = KeyState::of(current, write.length, is_written, limits, now);
    match (state, write.begins) {
        (KeyState::Open, _) => Choice::Continue,
        (KeyState::Free, true) => Choice::Begin,
        (KeyState::Complete { is_past: false }, true) if write.has_bytes => Choice::Compare,
        (KeyState::Complete { .. }, true) => Choice::Begin,
        (KeyState::OtherLength(_), true) if !is_written => Choice::Begin,
        (KeyState::OtherLength(known), _) if is_written || has_waited => {
            let known = KnownLength::Declared(known);
            Choice::Refuse(Refusal::LengthConflict { given: write.length, known })
        }
        (KeyState::Free, false) if has_waited => Choice::Refuse(Refusal::Expired),
        (KeyState::Complete { .. }, false) if has_waited => Choice::Continue,
        (KeyState::Free | KeyState::Complete { .. } | KeyState::OtherLength(_), _) => Choice::Wait,
    }
}

/// Whether a client that is about to send the bytes of `range` need not: the upload that the name
/// leads to is open and has them, from whichever dialect. Of a complete upload nothing is present:
/// who asks begins anew, perhaps with other bytes.
///
/// # Source
/// J-017, J-020, J-021, J-044.
pub fn is_present(
    current: &Upload,
    range: &Range<u64>,
    length: u64,
    is_written: bool,
    limits: &Limits,
    now: SystemTime,
) -> bool {
    KeyState::of(Some(current), length, is_written, limits, now) == KeyState::Open
        && current.received.covers(range)
}

/// Whether a name still leads a status request to its upload.
///
/// # Errors
/// [`Refusal::Unknown`] when it has been complete for too long (J-044).
pub fn is_current(upload: &Upload, limits: &Limits, now: SystemTime) -> Result<(), Refusal> {
    if is_past(upload, limits, now) { Err(Refusal::Unknown) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{
        rules::{NewUpload, create::create},
        upload::VoidReason,
    };

    const COMPLETE: Phase = Phase::Complete { at: UNIX_EPOCH };
    const VOID: Phase = Phase::Void { why: VoidReason::Removed, until: None };

    /// An upload of 9 bytes that expires after 100 s; a complete one is past after 60 s.
    fn upload(phase: Phase) -> Upload {
        let new = NewUpload { length: Some(9), ..NewUpload::default() };
        let id = "a".parse().expect("plain");
        let mut upload = create(new, id, &Limits::default(), UNIX_EPOCH).expect("fits");
        upload.expires = Some(UNIX_EPOCH + Duration::from_secs(100));
        upload.received.insert(0..5);
        upload.phase = phase;
        upload
    }

    #[test]
    fn session_begins_with_byte_0_and_with_nothing_else_j_043() {
        let conflict =
            Choice::Refuse(Refusal::LengthConflict { given: 8, known: KnownLength::Declared(9) });
        let expired = Choice::Refuse(Refusal::Expired);
        let (open, complete, void) = (upload(Phase::Open), upload(COMPLETE), upload(VOID));
        // What the name leads to; now; total bytes; what begins with byte 0, what comes from the
        // middle, and what does so after its wait.
        for (current, now, length, is_written, begins, middle, waited) in [
            (None, 0, 9, false, Choice::Begin, Choice::Wait, expired.clone()),
            (Some(&void), 0, 9, false, Choice::Begin, Choice::Wait, expired.clone()),
            (Some(&open), 0, 9, false, Choice::Continue, Choice::Continue, Choice::Continue),
            (Some(&open), 100, 9, false, Choice::Begin, Choice::Wait, expired),
            (Some(&open), 100, 9, true, Choice::Continue, Choice::Continue, Choice::Continue),
            (Some(&open), 0, 8, false, Choice::Begin, Choice::Wait, conflict.clone()),
            (Some(&open), 0, 8, true, conflict.clone(), conflict.clone(), conflict.clone()),
            (Some(&complete), 59, 9, false, Choice::Compare, Choice::Wait, Choice::Continue),
            (Some(&complete), 60, 9, false, Choice::Begin, Choice::Wait, Choice::Continue),
            (Some(&complete), 0, 8, false, Choice::Begin, Choice::Wait, conflict),
        ] {
            for (begins, has_waited, expected) in
                [(true, false, begins), (false, false, middle), (false, true, waited)]
            {
                let write = KeyedWrite { begins, has_bytes: true, length };
                let circumstances = Circumstances { is_written, has_waited };
                let now = UNIX_EPOCH + Duration::from_secs(now);
                let choice = choose(current, write, circumstances, &Limits::default(), now);
                assert_eq!(choice, expected, "{write:?} {circumstances:?} {current:?}");
            }
        }
    }

    #[test]
    fn creation_without_a_byte_does_not_find_a_complete_upload() {
        let write = KeyedWrite { begins: true, has_bytes: false, length: 9 };
        let circumstances = Circumstances { is_written: false, has_waited: false };
        let complete = upload(COMPLETE);
        let choice = choose(Some(&complete), write, circumstances, &Limits::default(), UNIX_EPOCH);
        assert_eq!(choice, Choice::Begin);
    }

    #[test]
    fn only_an_open_upload_of_this_length_has_bytes_for_those_who_ask_j_044() {
        for (rule, phase, received, range, length, expected) in [
            ("J-020", Phase::Open, &[(0, 3), (6, 9)][..], 0..3, 9, true),
            ("J-020", Phase::Open, &[(0, 3), (6, 9)], 3..6, 9, false),
            ("J-020", Phase::Open, &[(0, 3), (6, 9)], 6..9, 9, true),
            ("J-021", Phase::Open, &[(0, 4)], 3..6, 9, false),
            ("J-021", Phase::Open, &[(0, 4), (4, 7)], 3..6, 9, true),
            ("J-013", Phase::Open, &[(0, 6)], 3..9, 9, false),
            ("F-20", Phase::Open, &[(8, 9)], 0..3, 9, false),
            ("J-017", Phase::Open, &[(0, 5)], 0..5, 8, false),
            ("J-044", COMPLETE, &[(0, 9)], 0..3, 9, false),
            ("J-041", VOID, &[], 0..3, 9, false),
        ] {
            let upload = Upload { received: received.to_vec().into(), ..upload(phase) };
            let is_present =
                is_present(&upload, &range, length, false, &Limits::default(), UNIX_EPOCH);
            assert_eq!(is_present, expected, "{rule}: {phase:?} {range:?} {length}");
        }
    }
}
