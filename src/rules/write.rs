//! May these bytes go there, and what did their arrival change: the two pure ends of every write of
//! every dialect, around the engine's one copy loop.

use std::{ops::Range, time::SystemTime};

use super::{At, Checksum, Refusal, Write, create, lifecycle};
use crate::upload::{Change, Completion, Digest, Limits, Ranges, Receipt, Role, Upload};

/// What the copy loop may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WritePlan {
    /// Where the first byte goes.
    pub at: u64,
    /// What the bytes must hash to.
    pub checksum: Checksum,
    /// The length that this write declares for the upload, if it is news.
    pub declares: Option<u64>,
    /// The position that no byte may reach, and the refusal of a body that does.
    pub end: u64,
    /// Whether the body must reach the end, or none of it counts.
    pub exact: bool,
    /// The deadline of the upload before the write.
    pub expires: Option<SystemTime>,
    /// The bytes between at and end that the upload holds: compared, not written.
    pub held: Ranges,
    /// See [`WritePlan::end`].
    pub overflow: Refusal,
}

impl WritePlan {
    /// Whether bytes count as they arrive. If not, the body is kept whole or not at all.
    pub fn keeps_pieces(&self) -> bool {
        self.checksum == Checksum::None && !self.exact
    }

    /// Whether the declared length is recorded before the body comes, so that it outlives a body
    /// that is cut off (D-18). Not when it makes the upload full there and then: that shows only
    /// together with its completion (I-05).
    pub fn declares_first(&self) -> bool {
        self.keeps_pieces() && self.declares.is_some_and(|length| length > self.at)
    }

    /// The position from which on the upload may be full: its end, or where the run begins that it
    /// holds up to there.
    pub fn fills_at(&self) -> u64 {
        let last = self.held.iter().last();
        last.filter(|run| run.end == self.end).map_or(self.end, |run| run.start)
    }

    /// Where the bytes from `position` on stop being all held or all new, and which they are.
    pub fn stretch(&self, position: u64) -> (u64, Stretch) {
        let run = self.held.iter().find(|run| run.end > position);
        match run {
            Some(run) if run.start <= position => (run.end, Stretch::Held),
            Some(run) => (run.start, Stretch::New),
            None => (self.end, Stretch::New),
        }
    }
}

/// What is done with bytes as they arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stretch {
    /// They are compared with those the upload holds.
    Held,
    /// They are written.
    New,
}

/// Whether `write` may be done to `upload` at `now`, and how. `told` is the offset that a client
/// was last told, when the upload had jumped ahead of it (J-051).
///
/// # Errors
/// In the order of the checks: [`Refusal::Expired`], [`Refusal::FinalUpload`],
/// [`Refusal::OffsetMismatch`], [`Refusal::LengthConflict`], [`Refusal::OverLimit`],
/// [`Refusal::BodyTooLong`] or [`Refusal::BodyLengthWrong`], [`Refusal::TooFragmented`].
///
/// # Source
/// tus 1.0 "PATCH"; T-019, T-049, D-10, D-11, D-16, D-17; J-010, J-014, J-017, J-022, S-008.
pub fn plan(
    upload: &Upload,
    write: &Write,
    told: Option<u64>,
    limits: &Limits,
    now: SystemTime,
) -> Result<WritePlan, Refusal> {
    lifecycle::alive(upload, now)?;
    if matches!(upload.role, Role::Final { .. }) {
        return Err(Refusal::FinalUpload);
    }
    let at = match &write.at {
        At::Offset(given) => {
            let expected = upload.offset();
            let is_told = told == Some(*given) && *given < expected;
            if *given != expected && !is_told {
                let given = *given;
                return Err(Refusal::OffsetMismatch { expected, given });
            }
            *given
        }
        At::Range(range) => range.start,
    };
    let declares = declared(upload, write.length, limits)?;
    let (end, overflow) = match upload.length.or(declares) {
        Some(length) => (length, Refusal::BodyTooLong { length }),
        None => {
            let limit_bytes = lifecycle::max_size(limits);
            (limit_bytes, Refusal::OverLimit { limit_bytes })
        }
    };
    let exact = matches!(write.at, At::Range(_));
    let (end, overflow) = match &write.at {
        At::Offset(_) => (end, overflow),
        At::Range(range) if range.end <= end => (range.end, wrong_length(range, write)),
        At::Range(_) => return Err(overflow),
    };
    let room = end.saturating_sub(at);
    if write.content_bytes.is_some_and(|given| given > room || (exact && given != room)) {
        return Err(overflow);
    }
    if exact {
        fragments(upload, &(at..end), limits)?;
    }
    let held = upload.received.within(&(at..end));
    Ok(WritePlan {
        at,
        checksum: write.checksum.clone(),
        declares,
        end,
        exact,
        expires: upload.expires,
        held,
        overflow,
    })
}

fn wrong_length(range: &Range<u64>, write: &Write) -> Refusal {
    let expected = range.end.saturating_sub(range.start);
    // A body that goes on where it should end is at least one byte longer.
    let given = write.content_bytes.unwrap_or(expected.saturating_add(1));
    Refusal::BodyLengthWrong { expected, given }
}

fn fragments(upload: &Upload, range: &Range<u64>, limits: &Limits) -> Result<(), Refusal> {
    let mut received = upload.received.clone();
    received.insert(range.clone());
    let (before, after) = (upload.received.runs(), received.runs());
    if after > before && after > limits.max_fragments {
        return Err(Refusal::TooFragmented { limit: limits.max_fragments });
    }
    Ok(())
}

/// The length that `given` declares, `None` if it is no news.
fn declared(upload: &Upload, given: Option<u64>, limits: &Limits) -> Result<Option<u64>, Refusal> {
    let Some(given) = given else { return Ok(None) };
    match upload.length {
        Some(known) if known == given => Ok(None),
        Some(known) => Err(Refusal::LengthConflict { given, known: format!("{known} bytes long") }),
        None if given < upload.received.end() => {
            let held = upload.received.end();
            Err(Refusal::LengthConflict { given, known: format!("at {held} bytes already") })
        }
        None => create::fits(given, limits).map(|()| Some(given)),
    }
}

/// The changes that make `pieces`, safe in the store by their receipts, part of `upload`. If they
/// make it full they complete it in the same step: nobody ever sees it full and not complete.
///
/// Empty when nothing changed.
pub fn settle(
    upload: &Upload,
    plan: &WritePlan,
    pieces: &[(Range<u64>, Receipt)],
    limits: &Limits,
    now: SystemTime,
) -> Vec<Change> {
    let mut changes = Vec::new();
    if let (None, Some(length)) = (upload.length, plan.declares) {
        changes.push(Change::LengthDeclared { length });
    }
    let mut received = upload.received.clone();
    for (range, receipt) in pieces {
        if !received.covers(range) {
            let (range, receipt) = (range.clone(), receipt.clone());
            changes.push(Change::Received { range, receipt });
        }
        received.insert(range.clone());
    }
    let full = upload.length.or(plan.declares) == Some(received.prefix());
    let completes = full && upload.completion == Completion::WhenFull && !upload.is_complete();
    if completes {
        changes.push(Change::Completed { at: now });
    }
    if changes.is_empty() {
        return changes;
    }
    if !completes || upload.is_partial() {
        changes.extend(lifecycle::renewed(upload, limits, now));
    } else if upload.expires.is_some() {
        changes.push(Change::ExpiryMoved { expires: None });
    }
    changes
}

/// The changes that take back what a write had recorded on its way, when it is refused in the end:
/// `recorded` is how far its bytes count by now. What a client was told stays (I-01), and so does
/// what was there before.
pub fn withdraw(plan: &WritePlan, recorded: &Range<u64>, told: Option<u64>) -> Vec<Change> {
    let range = recorded.start.max(told.unwrap_or(0)).min(recorded.end)..recorded.end;
    let mut changes: Vec<_> = plan
        .held
        .gaps(&range)
        .into_iter()
        .map(|range| Change::Withdrawn { range, length: false })
        .collect();
    if told.is_none() && plan.declares_first() {
        let range = recorded.end..recorded.end;
        changes.push(Change::Withdrawn { range, length: true });
    }
    if told.is_none() && !changes.is_empty() && plan.expires.is_some() {
        let expires = plan.expires;
        changes.push(Change::ExpiryMoved { expires });
    }
    changes
}

/// Whether the bytes have the checksum that was asked for: `given` in the head or the trailer,
/// `computed` over the body.
///
/// # Errors
/// [`Refusal::ChecksumMismatch`].
pub fn verify(given: &Digest, computed: &Digest) -> Result<(), Refusal> {
    if given == computed { Ok(()) } else { Err(Refusal::ChecksumMismatch) }
}

/// The checksum to verify after the body, of the one `planned` and the one that came in the
/// `trailer`.
///
/// # Errors
/// [`Refusal::Malformed`] when there are two (D-22), or the one that was announced is missing
/// (D-23).
pub fn checksum_due(
    planned: &Checksum,
    trailer: Option<Digest>,
) -> Result<Option<Digest>, Refusal> {
    let malformed =
        |reason: &str| Err(Refusal::Malformed { field: "checksum", reason: reason.to_owned() });
    match (planned, trailer) {
        (Checksum::Given(_), Some(_)) => malformed("given before the body and again after it"),
        (Checksum::Trailing, None) => malformed("announced for the trailer, and missing there"),
        (Checksum::Given(digest), None) => Ok(Some(digest.clone())),
        (Checksum::None | Checksum::Trailing, trailer) => Ok(trailer),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{
        rules::{NewUpload, Target, create::create},
        upload::{Algorithm, Phase, UploadId},
    };

    fn id() -> UploadId {
        "a".parse().expect("plain")
    }

    fn upload(length: Option<u64>, offset: u64, role: Role) -> Upload {
        let new = NewUpload { length, role, ..NewUpload::default() };
        let mut upload = create(new, id(), &Limits::default(), UNIX_EPOCH).expect("fits");
        upload.received.insert(0..offset);
        if upload.is_full() {
            upload.phase = Phase::Complete;
        }
        upload
    }

    fn write(at: u64, content_bytes: Option<u64>, length: Option<u64>) -> Write {
        Write {
            at: At::Offset(at),
            checksum: Checksum::None,
            content_bytes,
            length,
            target: Target::Existing(id()),
        }
    }

    #[test]
    fn writes_are_planned_as_the_contract_says() {
        let conflict =
            |given, known: &str| Err(Refusal::LengthConflict { given, known: known.to_owned() });
        let final_upload = Role::Final { partials: vec![id()], text: "final;a".to_owned() };
        let limits = Limits { max_size_bytes: Some(100), ..Limits::default() };
        for (rule, length, offset, role, ask, expected) in [
            ("T-017", Some(9), 4, Role::Whole, write(4, Some(5), None), Ok((9, None))),
            ("D-13", Some(9), 4, Role::Whole, write(4, None, None), Ok((9, None))),
            (
                "T-019",
                Some(9),
                4,
                Role::Whole,
                write(3, Some(5), None),
                Err(Refusal::OffsetMismatch { expected: 4, given: 3 }),
            ),
            (
                "T-019",
                Some(9),
                4,
                Role::Whole,
                write(5, Some(1), None),
                Err(Refusal::OffsetMismatch { expected: 4, given: 5 }),
            ),
            (
                "D-11",
                Some(9),
                4,
                Role::Whole,
                write(4, Some(6), None),
                Err(Refusal::BodyTooLong { length: 9 }),
            ),
            ("D-10", Some(9), 9, Role::Whole, write(9, Some(0), None), Ok((9, None))),
            (
                "D-10",
                Some(9),
                9,
                Role::Whole,
                write(9, Some(1), None),
                Err(Refusal::BodyTooLong { length: 9 }),
            ),
            ("T-048", None, 4, Role::partial(), write(4, Some(1), None), Ok((100, None))),
            ("T-048", None, 4, Role::Whole, write(4, Some(1), Some(5)), Ok((5, Some(5)))),
            ("T-048", None, 4, Role::Whole, write(4, Some(0), Some(4)), Ok((4, Some(4)))),
            (
                "D-16",
                None,
                4,
                Role::Whole,
                write(4, Some(0), Some(3)),
                conflict(3, "at 4 bytes already"),
            ),
            (
                "D-16",
                None,
                4,
                Role::Whole,
                write(4, Some(2), Some(5)),
                Err(Refusal::BodyTooLong { length: 5 }),
            ),
            (
                "D-16",
                None,
                4,
                Role::Whole,
                write(4, Some(2), Some(101)),
                Err(Refusal::OverLimit { limit_bytes: 100 }),
            ),
            (
                "T-055",
                None,
                4,
                Role::Whole,
                write(4, Some(97), None),
                Err(Refusal::OverLimit { limit_bytes: 100 }),
            ),
            ("D-17", Some(9), 4, Role::Whole, write(4, Some(1), Some(9)), Ok((9, None))),
            (
                "T-049",
                Some(9),
                4,
                Role::Whole,
                write(4, Some(1), Some(8)),
                conflict(8, "9 bytes long"),
            ),
            ("T-108", Some(9), 9, final_upload, write(1, Some(1), None), Err(Refusal::FinalUpload)),
        ] {
            let plan = plan(&upload(length, offset, role), &ask, None, &limits, UNIX_EPOCH);
            assert_eq!(plan.map(|plan| (plan.end, plan.declares)), expected, "{rule} {ask:?}");
        }
    }

    #[test]
    fn arrival_completes_exactly_when_the_last_byte_is_there() {
        let limits = Limits { expire_after: Some(Duration::from_secs(9)), ..Limits::default() };
        let now = UNIX_EPOCH + Duration::from_secs(5);
        let received = |range| Change::Received { range, receipt: Receipt::default() };
        let renewed = Change::ExpiryMoved { expires: Some(UNIX_EPOCH + Duration::from_secs(14)) };
        let freed = Change::ExpiryMoved { expires: None };
        let declared = Change::LengthDeclared { length: 9 };
        let done = Change::Completed { at: now };
        for (length, role, declares, arrived, expected) in [
            (Some(9), Role::Whole, None, 4..8, vec![received(4..8), renewed.clone()]),
            (Some(9), Role::Whole, None, 4..9, vec![received(4..9), done.clone(), freed.clone()]),
            (
                Some(9),
                Role::partial(),
                None,
                4..9,
                vec![received(4..9), done.clone(), renewed.clone()],
            ),
            (Some(9), Role::Whole, None, 4..4, vec![]),
            (None, Role::Whole, None, 4..9, vec![received(4..9), renewed.clone()]),
            (None, Role::Whole, Some(9), 4..4, vec![declared.clone(), renewed]),
            (None, Role::Whole, Some(9), 4..9, vec![declared, received(4..9), done, freed]),
        ] {
            let mut upload = upload(length, 4, role);
            upload.expires = Some(UNIX_EPOCH);
            let plan = WritePlan {
                at: 4,
                checksum: Checksum::None,
                declares,
                end: 9,
                exact: false,
                expires: None,
                held: Ranges::new(),
                overflow: Refusal::Internal,
            };
            let pieces = [(arrived.clone(), Receipt::default())];
            let changes = settle(&upload, &plan, &pieces, &limits, now);
            assert_eq!(changes, expected, "{arrived:?} of {length:?}, declares {declares:?}");
            assert!(upload.after(&changes).is_ok());
        }
    }

    #[test]
    fn a_full_upload_takes_an_empty_write_without_a_change() {
        let upload = upload(Some(9), 9, Role::Whole);
        let limits = Limits::default();
        let plan =
            plan(&upload, &write(9, Some(0), None), None, &limits, UNIX_EPOCH).expect("D-10");
        let settle = settle(&upload, &plan, &[], &limits, UNIX_EPOCH);
        assert_eq!(settle, []);
    }

    #[test]
    fn a_refused_write_takes_back_what_no_client_was_told() {
        let plan = |declares| WritePlan {
            at: 4,
            checksum: Checksum::None,
            declares,
            end: 9,
            exact: false,
            expires: None,
            held: Ranges::new(),
            overflow: Refusal::Internal,
        };
        let withdrawn = |range, length| vec![Change::Withdrawn { range, length }];
        for (declares, recorded, told, expected) in [
            (None, 4..7, None, withdrawn(4..7, false)),
            (None, 4..7, Some(4), withdrawn(4..7, false)),
            (None, 4..7, Some(6), withdrawn(6..7, false)),
            (None, 4..7, Some(7), vec![]),
            (None, 4..4, None, vec![]),
            (Some(9), 4..4, None, withdrawn(4..4, true)),
            (Some(9), 4..7, Some(4), withdrawn(4..7, false)),
        ] {
            assert_eq!(
                withdraw(&plan(declares), &recorded, told),
                expected,
                "{recorded:?} {told:?}"
            );
        }
    }

    #[test]
    fn checksum_comes_once_and_where_it_was_announced() {
        let digest = Digest { algorithm: Algorithm::Sha1, value: vec![1] };
        let given = Checksum::Given(digest.clone());
        for (planned, trailer, is_ok) in [
            (Checksum::None, None, true),
            (Checksum::None, Some(digest.clone()), true),
            (Checksum::Trailing, Some(digest.clone()), true),
            (Checksum::Trailing, None, false),
            (given.clone(), None, true),
            (given, Some(digest), false),
        ] {
            let due = checksum_due(&planned, trailer.clone());
            assert_eq!(due.is_ok(), is_ok, "{planned:?} {trailer:?}");
        }
    }

    #[test]
    fn upload_may_be_full_where_its_last_run_begins() {
        for (held, expected) in
            [(Ranges::new(), 9), (Ranges::from(6..9), 6), (Ranges::from(4..6), 9)]
        {
            let plan = WritePlan {
                at: 4,
                checksum: Checksum::None,
                declares: None,
                end: 9,
                exact: false,
                expires: None,
                held,
                overflow: Refusal::Internal,
            };
            assert_eq!(plan.fills_at(), expected, "{plan:?}");
        }
    }
}
