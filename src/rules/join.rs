//! Final uploads from partial ones.

use std::{sync::Arc, time::SystemTime};

use super::{Join, KnownLength, NewUpload, Refusal, create, lifecycle};
use crate::upload::{Change, Completion, Limits, Phase, Receipt, Role, Upload, UploadId};

/// Whether the request as such may be done, before any part is looked up.
///
/// # Errors
/// [`Refusal::FinalUpload`] when it has a body; [`Refusal::TooManyPartials`].
///
/// # Source
/// tus 1.0 "Concatenation"; T-104, D-37.
pub fn admit(join: &Join, limits: &Limits) -> Result<(), Refusal> {
    if join.content_bytes.is_some_and(|bytes| bytes > 0) {
        return Err(Refusal::FinalUpload);
    }
    if join.partials.len() > limits.max_partials {
        return Err(Refusal::TooManyPartials { limit: limits.max_partials });
    }
    Ok(())
}

/// Whether `part` may be a part of a final upload at `now`.
///
/// # Errors
/// [`Refusal::Unknown`], [`Refusal::NotPartial`], [`Refusal::PartialUnfinished`].
pub fn check_partial(part: &Upload, limits: &Limits, now: SystemTime) -> Result<(), Refusal> {
    // An expired part is as unknown as a removed one: the client can only start again.
    lifecycle::check_alive(part, now).map_err(|_| Refusal::Unknown)?;
    if !part.is_partial() {
        return Err(Refusal::NotPartial { id: part.id.clone() });
    }
    if !part.is_complete() && !limits.join_unfinished {
        return Err(Refusal::PartialUnfinished { id: part.id.clone() });
    }
    Ok(())
}

/// The length of the final upload, `None` while that of a part is unknown.
///
/// # Errors
/// [`Refusal::OverLimit`].
pub fn length(parts: &[Arc<Upload>], limits: &Limits) -> Result<Option<u64>, Refusal> {
    let mut sum: Option<u64> = Some(0);
    for part in parts {
        sum = match (sum, part.length) {
            (Some(sum), Some(length)) => Some(sum.saturating_add(length)),
            (_, None) | (None, _) => None,
        };
    }
    if let Some(sum) = sum {
        create::check_length(sum, limits)?;
    }
    Ok(sum)
}

/// The final upload that `join` makes of `parts`: open, without a byte.
///
/// # Errors
/// [`Refusal::LengthConflict`] when the client expects another length (D-36);
/// [`Refusal::OverLimit`], [`Refusal::MetadataTooLong`].
pub fn plan(
    join: Join,
    id: UploadId,
    parts: &[Arc<Upload>],
    limits: &Limits,
    now: SystemTime,
) -> Result<Upload, Refusal> {
    let length = length(parts, limits)?;
    match (join.length, length) {
        (Some(given), Some(sum)) if given != sum => {
            let known = KnownLength::Partials(sum);
            return Err(Refusal::LengthConflict { given, known });
        }
        (Some(_) | None, Some(_) | None) => {}
    }
    let new = NewUpload {
        completion: Completion::WhenFull,
        length,
        metadata: join.metadata,
        owner: join.owner,
        role: Role::Final { partials: join.partials, text: join.text },
        ..NewUpload::default()
    };
    create::create(new, id, limits, now)
}

/// The changes by which a final upload whose parts, all complete, are `length` bytes together
/// becomes complete itself. Empty when it is.
///
/// # Errors
/// [`Refusal::Unknown`], [`Refusal::Expired`] when it is gone.
pub fn changes(upload: &Upload, length: u64, now: SystemTime) -> Result<Vec<Change>, Refusal> {
    let mut changes = Vec::new();
    match upload.phase {
        Phase::Open => {}
        Phase::Complete { .. } => return Ok(changes),
        Phase::Void { .. } => lifecycle::check_alive(upload, now)?,
    }
    if upload.length.is_none() {
        changes.push(Change::LengthDeclared { length });
    }
    changes.extend([
        Change::Received { range: 0..length, receipt: Receipt::default() },
        Change::Completed { at: now },
    ]);
    if upload.expires.is_some() {
        changes.push(Change::ExpiryMoved { expires: None });
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::upload::{MAX_POSITION_BYTES, VoidReason};

    fn part(length: Option<u64>, role: Role, phase: Phase) -> Arc<Upload> {
        let new = NewUpload { length, role, ..NewUpload::default() };
        let id = "p".parse().expect("plain");
        let mut upload = create::create(new, id, &Limits::default(), UNIX_EPOCH).expect("fits");
        upload.phase = phase;
        Arc::new(upload)
    }

    const COMPLETE: Phase = Phase::Complete { at: UNIX_EPOCH };
    const VOID: Phase = Phase::Void { why: VoidReason::Expired, until: None };

    #[test]
    fn parts_must_be_finished_partials() {
        let id: UploadId = "p".parse().expect("plain");
        let no_limits = Limits::default();
        let unfinished = Limits { join_unfinished: true, ..Limits::default() };
        for (part, limits, expected) in [
            (part(Some(3), Role::partial(), COMPLETE), &no_limits, Ok(())),
            (part(Some(3), Role::partial(), Phase::Open), &unfinished, Ok(())),
            (
                part(Some(3), Role::partial(), Phase::Open),
                &no_limits,
                Err(Refusal::PartialUnfinished { id: id.clone() }),
            ),
            (part(Some(3), Role::Whole, COMPLETE), &no_limits, Err(Refusal::NotPartial { id })),
            (part(Some(3), Role::partial(), VOID), &no_limits, Err(Refusal::Unknown)),
        ] {
            assert_eq!(check_partial(&part, limits, UNIX_EPOCH), expected, "{part:?}");
        }
    }

    #[test]
    fn final_length_is_the_sum_of_its_parts() {
        let limits = Limits { max_size_bytes: Some(10), ..Limits::default() };
        let of = |length| part(length, Role::partial(), COMPLETE);
        for (parts, given, expected) in [
            (vec![of(Some(3)), of(Some(4))], None, Ok(Some(7))),
            (vec![of(Some(3)), of(Some(4))], Some(7), Ok(Some(7))),
            (vec![of(Some(3)), of(Some(3))], None, Ok(Some(6))),
            (vec![of(Some(0))], None, Ok(Some(0))),
            (vec![of(Some(3)), of(None)], Some(9), Ok(None)),
            (
                vec![of(Some(3)), of(Some(4))],
                Some(8),
                Err(Refusal::LengthConflict { given: 8, known: KnownLength::Partials(7) }),
            ),
            (vec![of(Some(6)), of(Some(5))], None, Err(Refusal::OverLimit { limit_bytes: 10 })),
            (
                vec![of(Some(MAX_POSITION_BYTES)); 3],
                None,
                Err(Refusal::OverLimit { limit_bytes: 10 }),
            ),
        ] {
            let join = Join {
                content_bytes: Some(0),
                length: given,
                metadata: "".parse().expect("plain"),
                owner: None,
                partials: Vec::new(),
                text: String::new(),
            };
            let id = "f".parse().expect("plain");
            let made = plan(join, id, &parts, &limits, UNIX_EPOCH).map(|upload| upload.length);
            assert_eq!(made, expected);
        }
    }
}
