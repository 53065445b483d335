//! Which bytes of an upload may be read.

use std::{ops::Range, time::SystemTime};

use super::{Refusal, Selection, lifecycle};
use crate::upload::Upload;

/// The bytes that `selection` names; `None` when it names none.
///
/// # Errors
/// [`Refusal::Expired`]; [`Refusal::Unknown`] while the upload is not a published one (D-51);
/// [`Refusal::RangeUnsatisfiable`].
///
/// # Source
/// RFC 9110 "Range Requests"; D-51.
pub fn select(
    upload: &Upload,
    selection: &Selection,
    now: SystemTime,
) -> Result<Option<Range<u64>>, Refusal> {
    lifecycle::check_alive(upload, now)?;
    let length = upload.offset();
    if !upload.is_published() {
        return Err(Refusal::Unknown);
    }
    let range = match *selection {
        Selection::Nothing => return Ok(None),
        Selection::All => return Ok(Some(0..length)),
        // Media players ask so for all there is, without knowing that there is nothing.
        Selection::From(0) if length == 0 => return Ok(Some(0..0)),
        Selection::From(first) => first..length,
        Selection::Last(count) => length.saturating_sub(count)..length,
        Selection::Span(first, last) => first..last.saturating_add(1).min(length),
    };
    if range.is_empty() { Err(Refusal::RangeUnsatisfiable { length }) } else { Ok(Some(range)) }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::{
        rules::{NewUpload, create::create},
        upload::{Limits, Phase, Role, VoidReason},
    };

    const COMPLETE: Phase = Phase::Complete { at: UNIX_EPOCH };
    const VOID: Phase = Phase::Void { why: VoidReason::Expired, until: None };

    #[test]
    fn selections_are_cut_to_the_bytes_there_are() {
        let unsatisfiable = |length| Err(Refusal::RangeUnsatisfiable { length });
        for (role, phase, length, selection, expected) in [
            (Role::Whole, COMPLETE, 10, Selection::All, Ok(Some(0..10))),
            (Role::Whole, COMPLETE, 10, Selection::From(3), Ok(Some(3..10))),
            (Role::Whole, COMPLETE, 10, Selection::From(10), unsatisfiable(10)),
            (Role::Whole, COMPLETE, 10, Selection::Last(3), Ok(Some(7..10))),
            (Role::Whole, COMPLETE, 10, Selection::Last(30), Ok(Some(0..10))),
            (Role::Whole, COMPLETE, 10, Selection::Last(0), unsatisfiable(10)),
            (Role::Whole, COMPLETE, 10, Selection::Span(2, 4), Ok(Some(2..5))),
            (Role::Whole, COMPLETE, 10, Selection::Span(2, u64::MAX), Ok(Some(2..10))),
            (Role::Whole, COMPLETE, 10, Selection::Span(12, 14), unsatisfiable(10)),
            (Role::Whole, COMPLETE, 10, Selection::Nothing, Ok(None)),
            (Role::Whole, COMPLETE, 0, Selection::All, Ok(Some(0..0))),
            (Role::Whole, COMPLETE, 0, Selection::From(0), Ok(Some(0..0))),
            (Role::Whole, COMPLETE, 0, Selection::From(1), unsatisfiable(0)),
            (Role::Whole, COMPLETE, 0, Selection::Span(0, 0), unsatisfiable(0)),
            (Role::Whole, COMPLETE, 0, Selection::Last(1), unsatisfiable(0)),
            (Role::Whole, Phase::Open, 10, Selection::All, Err(Refusal::Unknown)),
            (Role::partial(), COMPLETE, 10, Selection::All, Err(Refusal::Unknown)),
            (Role::Whole, VOID, 10, Selection::All, Err(Refusal::Expired)),
        ] {
            let new = NewUpload { length: Some(length), role, ..NewUpload::default() };
            let id = "a".parse().expect("plain");
            let mut upload =
                create(new, id, &Limits::default(), UNIX_EPOCH).expect("within limits");
            upload.received.insert(0..length);
            upload.phase = phase;
            assert_eq!(select(&upload, &selection, UNIX_EPOCH), expected, "{selection:?}");
        }
    }
}
