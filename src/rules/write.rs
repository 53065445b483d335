//! May these bytes go there, and what did their arrival change: the pure ends of every write of
//! every dialect, around the engine's one copy loop.

use std::{ops::Range, time::SystemTime};

use super::{At, Checksum, KnownLength, Refusal, Write, create, lifecycle};
use crate::upload::{
    Algorithm, Change, Completion, Digest, Limits, Metadata, Ranges, Receipt, Role, Upload,
};

/// A write may go from present to missing bytes, or back, this often, and ...
const FREE_SEGMENTS: u64 = 64;

/// ... once more for so many bytes of its body: what a segment costs is paid for in bytes (S-008).
const BYTES_PER_SEGMENT: u64 = 1 << 10;

/// What the copy loop may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WritePlan {
    /// Where the first byte goes.
    pub at: u64,
    /// What the bytes must hash to.
    pub checksum: Checksum,
    /// Whether the upload is complete with these bytes, although it is complete on request.
    pub completes: bool,
    /// The refusal of bytes that differ from those present, if it is not
    /// [`Refusal::ContentConflict`].
    pub conflict: Option<Refusal>,
    /// The length that this write declares for the upload, if it is news.
    pub declares: Option<u64>,
    /// The algorithm of the digest over all bytes of the upload, if one will be asked for.
    pub digest: Option<Algorithm>,
    /// The position that no byte may reach, and the refusal of a body that does.
    pub end: u64,
    /// Whether the body must reach the end, or none of it counts.
    pub exact: bool,
    /// See [`WritePlan::end`].
    pub overflow: Refusal,
    /// The bytes between `at` and `end` that the upload has: compared, not written.
    pub present: Ranges,
}

impl WritePlan {
    /// Whether bytes count as they arrive. If not, the body counts whole or not at all.
    pub fn is_incremental(&self) -> bool {
        self.checksum == Checksum::None && !self.exact
    }

    /// Whether the declared length is recorded before the body comes, so that it outlives a body
    /// that is cut off (D-18). Not when it makes the upload full there and then: that shows only
    /// together with its completion (I-05).
    pub fn declares_first(&self) -> bool {
        self.is_incremental() && self.declares.is_some_and(|length| length > self.at)
    }

    /// The position from which on the upload may be full: its end, or where the run begins that is
    /// present up to there.
    pub fn fills_at(&self) -> u64 {
        let last = self.present.iter().last();
        last.filter(|run| run.end == self.end).map_or(self.end, |run| run.start)
    }

    /// Where the bytes from `position` on stop being all present or all missing, and which they
    /// are.
    pub fn segment(&self, position: u64) -> (u64, Segment) {
        match self.present.run_after(position) {
            Some(run) if run.start <= position => (run.end, Segment::Present),
            Some(run) => (run.start, Segment::Missing),
            None => (self.end, Segment::Missing),
        }
    }

    /// Whether a body of which `taken_bytes` have been taken may be in so many segments.
    ///
    /// # Errors
    /// [`Refusal::TooFragmented`].
    pub fn check_segments(&self, segments: u64, taken_bytes: u64) -> Result<(), Refusal> {
        let limit = FREE_SEGMENTS.saturating_add(taken_bytes / BYTES_PER_SEGMENT);
        if segments <= limit {
            return Ok(());
        }
        Err(Refusal::TooFragmented { limit: usize::try_from(limit).unwrap_or(usize::MAX) })
    }
}

/// What is done with bytes as they arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// They are written.
    Missing,
    /// They are compared with those the upload has.
    Present,
}

/// Bytes that are durable in the store, and the receipt for them.
pub type Block = (Range<u64>, Receipt);

/// What of a body is to be recorded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Recorded<'a> {
    /// Its bytes.
    pub blocks: &'a [Block],
    /// Whether this is all of it.
    pub is_whole: bool,
    /// What it says about the upload, after its bytes.
    pub metadata: Option<&'a Metadata>,
}

/// Whether `write` may be done to `upload` at `now`, and how.
///
/// # Errors
/// In the order of the checks: [`Refusal::Expired`], [`Refusal::FinalUpload`],
/// [`Refusal::AlreadyComplete`], [`Refusal::OffsetMismatch`], [`Refusal::LengthConflict`],
/// [`Refusal::OverLimit`], [`Refusal::BodyTooLong`] or [`Refusal::BodyLengthWrong`],
/// [`Refusal::TooFragmented`].
///
/// # Source
/// tus 1.0 "PATCH"; T-019, T-049, D-10, D-11, D-16, D-17; J-010, J-014, J-017, J-022, J-051, S-008;
/// P-109, P-119, P-140 to P-143.
pub fn plan(
    upload: &Upload,
    write: &Write,
    limits: &Limits,
    now: SystemTime,
) -> Result<WritePlan, Refusal> {
    lifecycle::check_alive(upload, now)?;
    check_role(upload)?;
    let at = match &write.at {
        At::Next(range) => next(upload, range)?,
        At::Offset(given) => offset(upload, *given)?,
        At::Range(range) => range.start,
    };
    // A repeated request declares nothing new.
    let is_repeat = matches!(&write.at, At::Next(range) if range.end <= upload.offset());
    let declares = declared(upload, write.length.filter(|_| !is_repeat), limits)?;
    let (end, overflow) = match declares.or(upload.length) {
        Some(length) => (length, Refusal::BodyTooLong { length }),
        None => {
            let limit_bytes = lifecycle::max_size(limits);
            (limit_bytes, Refusal::OverLimit { limit_bytes })
        }
    };
    let (end, overflow, exact) = match &write.at {
        At::Offset(_) => (end, overflow, false),
        At::Next(range) | At::Range(range) if range.end <= end => {
            (range.end, wrong_length(range, write), true)
        }
        At::Next(_) | At::Range(_) => return Err(overflow),
    };
    let conflict = match &write.at {
        At::Next(range) => {
            Some(Refusal::OffsetMismatch { expected: upload.offset(), given: range.start })
        }
        At::Offset(_) | At::Range(_) => None,
    };
    let room = end.saturating_sub(at);
    if write.content_bytes.is_some_and(|given| given > room || (exact && given != room)) {
        return Err(overflow);
    }
    if exact {
        fragments(upload, &(at..end), limits)?;
    }
    let present = upload.received.within(&(at..end));
    let of_upload = upload.metadata.checksum().and_then(Result::ok);
    let digest = write.digest.or(of_upload.map(|digest| digest.algorithm));
    Ok(WritePlan {
        at,
        checksum: write.checksum.clone(),
        completes: write.completes,
        conflict,
        declares,
        digest: digest.filter(|_| !is_repeat),
        end,
        exact,
        overflow,
        present,
    })
}

/// Where a request begins whose bytes come in order: at the offset, unless all of them are present.
fn next(upload: &Upload, range: &Range<u64>) -> Result<u64, Refusal> {
    if upload.is_complete() {
        return Err(Refusal::AlreadyComplete);
    }
    let expected = upload.offset();
    if range.start == expected || range.end <= expected {
        Ok(range.start)
    } else {
        Err(Refusal::OffsetMismatch { expected, given: range.start })
    }
}

/// Checks that an upload of this role takes bytes at all, which is known before its writers are
/// waited for.
///
/// # Errors
/// [`Refusal::FinalUpload`].
pub fn check_role(upload: &Upload) -> Result<(), Refusal> {
    match upload.role {
        Role::Final { .. } => Err(Refusal::FinalUpload),
        Role::Partial { .. } | Role::Whole => Ok(()),
    }
}

/// The offset to write at. A keyed upload may have advanced beyond what its client knows, and
/// acknowledged offsets are not remembered: any offset up to its own is accepted, and bytes that
/// are present are compared (J-051).
fn offset(upload: &Upload, given: u64) -> Result<u64, Refusal> {
    let expected = upload.offset();
    if given == expected || (upload.key.is_some() && given < expected) {
        Ok(given)
    } else {
        Err(Refusal::OffsetMismatch { expected, given })
    }
}

fn wrong_length(range: &Range<u64>, write: &Write) -> Refusal {
    let expected = range.end.saturating_sub(range.start);
    // A body that continues past its end is at least one byte longer.
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

/// The length that `given` declares, `None` if it is no news. Of an upload that is complete on
/// request it may be declared anew, as long as it holds what was received (P-143).
fn declared(upload: &Upload, given: Option<u64>, limits: &Limits) -> Result<Option<u64>, Refusal> {
    let Some(given) = given else { return Ok(None) };
    match upload.length {
        Some(known) if known == given => Ok(None),
        Some(known) if upload.completion == Completion::WhenFull => {
            Err(Refusal::LengthConflict { given, known: KnownLength::Declared(known) })
        }
        _ if given < upload.received.end() => {
            let known = KnownLength::Received(upload.received.end());
            Err(Refusal::LengthConflict { given, known })
        }
        _ => create::check_length(given, limits).map(|()| Some(given)),
    }
}

/// How a body ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyEnd {
    /// The store failed, or the upload is being removed: bytes not yet recorded are lost.
    Failed(Refusal),
    /// It was cut off; the bytes received so far are good.
    Interrupted(Refusal),
    /// It breaks a rule.
    Refused(Refusal),
    /// It came whole, and it has the checksum that was asked for.
    Whole,
}

/// What becomes of the bytes of a write that are not recorded yet, and of its request. Those that
/// are recorded stay in any case (I-03).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conclusion {
    /// They count, and the write is done.
    Accept,
    /// They are dropped.
    Drop(Refusal),
    /// They count, and the client must send the rest.
    KeepReceived(Refusal),
}

/// What follows from the end of the body of a write.
///
/// # Source
/// I-03, D-12, D-24, D-25; J-023.
pub fn conclude(plan: &WritePlan, end: BodyEnd) -> Conclusion {
    match end {
        BodyEnd::Whole => Conclusion::Accept,
        BodyEnd::Interrupted(refusal) if plan.is_incremental() => Conclusion::KeepReceived(refusal),
        BodyEnd::Failed(refusal) | BodyEnd::Interrupted(refusal) | BodyEnd::Refused(refusal) => {
            Conclusion::Drop(refusal)
        }
    }
}

/// The changes that make `blocks` part of `upload`, as it is by now. If they make it full they
/// complete it in the same step: it is never visible as full and not complete (I-05).
///
/// Empty when nothing changed.
///
/// # Errors
/// [`Refusal::Displaced`] when a byte of them became present since the plan: it is another
/// writer's, and may be another byte. [`Refusal::LengthConflict`], [`Refusal::BodyTooLong`] when
/// another length has been declared, or one that they pass; [`Refusal::Expired`],
/// [`Refusal::Unknown`] when the upload is gone.
///
/// # Source
/// J-022, J-030, J-040; I-05, T-073.
pub fn changes(
    upload: &Upload,
    plan: &WritePlan,
    arrived: Recorded<'_>,
    limits: &Limits,
    now: SystemTime,
) -> Result<Vec<Change>, Refusal> {
    if upload.is_void() {
        lifecycle::check_alive(upload, now)?;
    }
    let mut changes = Vec::new();
    let declares = declared(upload, plan.declares, limits)?;
    let declared = declares.or(upload.length);
    if let Some(length) = declares {
        changes.push(Change::LengthDeclared { length });
    }
    let mut received = upload.received.clone();
    for (range, receipt) in arrived.blocks.iter().filter(|(range, _)| !range.is_empty()) {
        if let Some(length) = declared.filter(|length| *length < range.end) {
            return Err(Refusal::BodyTooLong { length });
        }
        if upload.received.within(range) != plan.present.within(range) {
            return Err(Refusal::Displaced);
        }
        received.insert(range.clone());
        changes.push(Change::Received { range: range.clone(), receipt: receipt.clone() });
    }
    if let Some(metadata) = arrived.metadata {
        changes.push(Change::Described { metadata: metadata.clone() });
    }
    let is_whole = arrived.is_whole && plan.completes;
    if is_whole && declared.is_none() {
        changes.push(Change::LengthDeclared { length: received.prefix() });
    }
    let full = declared.map_or(is_whole, |length| length == received.prefix());
    let is_due = is_whole || upload.completion == Completion::WhenFull;
    let completes = full && is_due && !upload.is_complete();
    if completes {
        changes.push(Change::Completed { at: now });
    }
    if changes.is_empty() {
        // That its bytes are there already is use of the upload as well.
        let compared = plan.present.runs() > 0;
        return Ok(lifecycle::touched(upload, limits, now)
            .filter(|_| compared)
            .into_iter()
            .collect());
    }
    if !completes || upload.is_partial() {
        changes.extend(lifecycle::renewed(upload, limits, now));
    } else if upload.expires.is_some() {
        changes.push(Change::ExpiryMoved { expires: None });
    }
    Ok(changes)
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
/// `trailer`. A trailer that was not announced is ignored (D-22).
///
/// # Errors
/// [`Refusal::Malformed`] when the one that was announced is missing (D-23).
pub fn checksum_due(
    planned: &Checksum,
    trailer: Option<Digest>,
) -> Result<Option<Digest>, Refusal> {
    match (planned, trailer) {
        (Checksum::None, _) => Ok(None),
        (Checksum::Given(digest), _) => Ok(Some(digest.clone())),
        (Checksum::Trailing, Some(digest)) => Ok(Some(digest)),
        (Checksum::Trailing, None) => {
            let reason = "announced for the trailer, and missing there".to_owned();
            Err(Refusal::Malformed { field: "checksum", reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{
        rules::{NewUpload, Target, Wait, create::create},
        upload::{Algorithm, Key, Phase, UploadId, VoidReason},
    };

    fn id() -> UploadId {
        "a".parse().expect("plain")
    }

    fn upload(length: Option<u64>, offset: u64, role: Role) -> Upload {
        let new = NewUpload { length, role, ..NewUpload::default() };
        let mut upload = create(new, id(), &Limits::default(), UNIX_EPOCH).expect("fits");
        upload.received.insert(0..offset);
        if upload.is_full() {
            upload.phase = Phase::Complete { at: UNIX_EPOCH };
        }
        upload
    }

    fn write(at: u64, content_bytes: Option<u64>, length: Option<u64>) -> Write {
        let wait = Wait { at_most: Duration::ZERO, stall_after: Duration::ZERO };
        Write { content_bytes, length, ..Write::new(Target::Existing(id()), At::Offset(at), wait) }
    }

    fn recorded(blocks: &[Block]) -> Recorded<'_> {
        Recorded { blocks, is_whole: true, metadata: None }
    }

    /// A plan from 4 to 9.
    fn planned(declares: Option<u64>, present: Ranges) -> WritePlan {
        WritePlan {
            at: 4,
            checksum: Checksum::None,
            completes: false,
            conflict: None,
            declares,
            digest: None,
            end: 9,
            exact: false,
            overflow: Refusal::Internal,
            present,
        }
    }

    #[test]
    fn writes_are_planned_as_the_contract_says() {
        let conflict = |given, known| Err(Refusal::LengthConflict { given, known });
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
                conflict(3, KnownLength::Received(4)),
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
                conflict(8, KnownLength::Declared(9)),
            ),
            ("T-108", Some(9), 9, final_upload, write(1, Some(1), None), Err(Refusal::FinalUpload)),
        ] {
            let plan = plan(&upload(length, offset, role), &ask, &limits, UNIX_EPOCH);
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
            let plan = planned(declares, Ranges::new());
            let blocks = [(arrived.clone(), Receipt::default())];
            let changes = changes(&upload, &plan, recorded(&blocks), &limits, now).expect("fits");
            assert_eq!(changes, expected, "{arrived:?} of {length:?}, declares {declares:?}");
            assert!(upload.after(&changes).is_ok());
        }
    }

    #[test]
    fn a_full_upload_takes_an_empty_write_without_a_change() {
        let upload = upload(Some(9), 9, Role::Whole);
        let limits = Limits::default();
        let plan = plan(&upload, &write(9, Some(0), None), &limits, UNIX_EPOCH).expect("D-10");
        assert_eq!(changes(&upload, &plan, recorded(&[]), &limits, UNIX_EPOCH), Ok(vec![]));
    }

    #[expect(clippy::single_range_in_vec_init, reason = "a list of one range")]
    #[test]
    fn keyed_upload_takes_a_write_at_any_offset_up_to_its_own_j_051() {
        let mut upload = upload(Some(9), 5, Role::Whole);
        upload.received.insert(7..9);
        for (is_keyed, at, expected) in [
            (false, 3, Err(Refusal::OffsetMismatch { expected: 5, given: 3 })),
            (true, 3, Ok(vec![3..5, 7..9])),
            (true, 0, Ok(vec![0..5, 7..9])),
            (true, 5, Ok(vec![7..9])),
            (true, 6, Err(Refusal::OffsetMismatch { expected: 5, given: 6 })),
        ] {
            upload.key = is_keyed.then(|| Key::new(b"secret", &[b"name"]));
            let plan = plan(&upload, &write(at, None, None), &Limits::default(), UNIX_EPOCH);
            let present = plan.map(|plan| plan.present.iter().collect::<Vec<_>>());
            assert_eq!(present, expected, "{at}");
        }
    }

    #[test]
    fn block_counts_only_if_nobody_else_wrote_a_byte_of_it_since_the_plan() {
        let limits = Limits::default();
        let plan = planned(None, Ranges::from(6..7));
        let commit = |upload: &Upload, range: Range<u64>| {
            let blocks = [(range, Receipt::default())];
            changes(upload, &plan, recorded(&blocks), &limits, UNIX_EPOCH).map(|_| ())
        };
        let mut upload = upload(Some(20), 4, Role::Whole);
        upload.received.insert(6..7);
        assert_eq!(commit(&upload, 4..9), Ok(()), "what the plan knew of was compared");
        upload.received.insert(8..9);
        assert_eq!(commit(&upload, 4..8), Ok(()));
        assert_eq!(commit(&upload, 4..9), Err(Refusal::Displaced));
        upload.length = Some(7);
        assert_eq!(commit(&upload, 4..7), Ok(()));
        assert_eq!(commit(&upload, 4..8), Err(Refusal::BodyTooLong { length: 7 }));
        upload.phase = Phase::Void { why: VoidReason::Expired, until: None };
        assert_eq!(commit(&upload, 4..8), Err(Refusal::Expired));
    }

    #[test]
    fn length_declared_by_another_writer_since_the_plan_is_a_conflict() {
        let plan = planned(Some(9), Ranges::new());
        for (length, received, expected) in [
            (None, 4, Ok(vec![Change::LengthDeclared { length: 9 }])),
            (Some(9), 4, Ok(vec![])),
            (
                Some(8),
                4,
                Err(Refusal::LengthConflict { given: 9, known: KnownLength::Declared(8) }),
            ),
            (None, 10, Err(Refusal::LengthConflict { given: 9, known: KnownLength::Received(10) })),
        ] {
            let upload = upload(length, received, Role::Whole);
            let changes = changes(&upload, &plan, recorded(&[]), &Limits::default(), UNIX_EPOCH);
            assert_eq!(changes, expected, "{length:?} {received}");
        }
    }

    #[test]
    fn equal_bytes_renew_the_deadline_and_none_at_all_do_not_j_040() {
        let limits = Limits { expire_after: Some(Duration::from_secs(16)), ..Limits::default() };
        let now = UNIX_EPOCH + Duration::from_secs(8);
        let mut upload = upload(Some(9), 6, Role::Whole);
        upload.expires = Some(UNIX_EPOCH + Duration::from_secs(16));
        let moved = Change::ExpiryMoved { expires: Some(UNIX_EPOCH + Duration::from_secs(24)) };
        for (present, expected) in [(Ranges::from(4..6), vec![moved]), (Ranges::new(), vec![])] {
            let plan = planned(None, present);
            assert_eq!(changes(&upload, &plan, recorded(&[]), &limits, now), Ok(expected));
        }
    }

    #[test]
    fn only_a_whole_body_or_a_cut_one_that_counts_as_it_comes_is_kept() {
        let refusal = Refusal::Abandoned;
        let dropped = Conclusion::Drop(refusal.clone());
        let kept = Conclusion::KeepReceived(refusal.clone());
        for (exact, checksum, end, expected) in [
            (false, Checksum::None, BodyEnd::Whole, Conclusion::Accept),
            (true, Checksum::Trailing, BodyEnd::Whole, Conclusion::Accept),
            (false, Checksum::None, BodyEnd::Interrupted(refusal.clone()), kept),
            (true, Checksum::None, BodyEnd::Interrupted(refusal.clone()), dropped.clone()),
            (false, Checksum::Trailing, BodyEnd::Interrupted(refusal.clone()), dropped.clone()),
            (false, Checksum::None, BodyEnd::Refused(refusal.clone()), dropped.clone()),
            (false, Checksum::None, BodyEnd::Failed(refusal), dropped),
        ] {
            let plan = WritePlan { exact, checksum, ..planned(None, Ranges::new()) };
            assert_eq!(conclude(&plan, end.clone()), expected, "{plan:?} {end:?}");
        }
    }

    #[test]
    fn segments_are_paid_for_in_bytes_s_008() {
        let plan = planned(None, Ranges::new());
        for (segments, taken_bytes, is_ok) in [
            (FREE_SEGMENTS, 0, true),
            (FREE_SEGMENTS + 1, BYTES_PER_SEGMENT - 1, false),
            (FREE_SEGMENTS + 1, BYTES_PER_SEGMENT, true),
        ] {
            assert_eq!(plan.check_segments(segments, taken_bytes).is_ok(), is_ok, "{segments}");
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
            (given, Some(digest), true),
        ] {
            let due = checksum_due(&planned, trailer.clone());
            assert_eq!(due.is_ok(), is_ok, "{planned:?} {trailer:?}");
        }
    }

    #[test]
    fn upload_may_be_full_where_its_last_run_begins() {
        for (present, expected) in
            [(Ranges::new(), 9), (Ranges::from(6..9), 6), (Ranges::from(4..6), 9)]
        {
            assert_eq!(planned(None, present.clone()).fills_at(), expected, "{present:?}");
        }
    }
}
