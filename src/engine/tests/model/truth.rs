//! [`Truth`]: a plain sequential model of every upload, and what may be said of it. It knows no
//! claims, plans or checkpoints: only which bytes were sent by whom, which records the store has had,
//! and what clients were told.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use super::{
    request::{Answer, End, Request, Sum, What},
    stage::Heard,
};
use crate::{
    rules::Refusal,
    upload::{Change, Limits, Phase, Ranges, Role, Upload, UploadId},
};

/// What is known of one id.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// How often its completion was announced in this life.
    announced: u32,
    /// The bytes that count, or did when there last were any.
    pub(super) bytes: Vec<Option<u8>>,
    /// How often the completion step said yes in this life.
    finished: u32,
    /// The last step after which nobody was writing to it.
    idle: u64,
    /// The bytes that a client was told are there.
    kept: Ranges,
    /// The highest offset that a client was told.
    told: u64,
    /// Whether a client knows its id.
    pub(super) known: bool,
    /// The length that a client was told.
    told_length: Option<u64>,
    /// The records it has had, and since which step.
    versions: Vec<(u64, Option<Arc<Upload>>)>,
}

impl Book {
    pub(super) fn record(&self) -> Option<&Arc<Upload>> {
        self.versions.last().and_then(|(_, record)| record.as_ref())
    }

    fn is_alive(&self) -> bool {
        self.record().is_some_and(|record| !record.is_void())
    }

    /// The records it had in the course of these steps, `None` for none.
    fn seen(&self, start: u64, end: u64) -> impl Iterator<Item = Option<&Upload>> {
        let ends = self.versions.iter().skip(1).map(|(since, _)| *since);
        let ends = ends.chain([u64::MAX]);
        let first = self.versions.first().map_or(u64::MAX, |(since, _)| *since);
        let unborn = (start < first).then_some(None);
        let versions = self.versions.iter().zip(ends);
        let seen = versions.filter(move |((since, _), until)| *since <= end && start < *until);
        unborn.into_iter().chain(seen.map(|((_, record), _)| record.as_deref()))
    }

    fn holds(&self, at: u64, bytes: &[u8]) -> bool {
        let start = index(at);
        (0..bytes.len()).all(|i| self.bytes.get(start + i) == Some(&Some(bytes[i])))
    }
}

/// What is around an answer or a look at the store.
pub(super) struct Moment<'a> {
    pub(super) limits: &'a Limits,
    pub(super) now: SystemTime,
    pub(super) requests: &'a [Request],
    pub(super) step: u64,
}

/// A trouble that explains what otherwise may not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The completion step of this upload said no; for good, or not.
    Denied(usize, bool),
    /// The server was told to go down.
    Close,
    /// The server died.
    Kill,
    /// The store failed.
    Store,
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) books: BTreeMap<usize, Book>,
    pub(super) troubles: Vec<(u64, Trouble)>,
}

type Checked = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl Truth {
    fn troubled(&self, start: u64, end: u64, is: impl Fn(Trouble) -> bool) -> bool {
        self.troubles.iter().any(|(step, trouble)| (start..=end).contains(step) && is(*trouble))
    }

    /// The record and the counting bytes of an upload as the store has them now.
    pub(super) fn look(
        &mut self,
        number: usize,
        record: Option<&Arc<Upload>>,
        bytes: Vec<Option<u8>>,
        is_written: bool,
        moment: &Moment<'_>,
    ) -> Checked {
        let book = self.books.entry(number).or_default();
        if !is_written {
            book.idle = moment.step;
        }
        let before = book.record().cloned();
        match (&before, record) {
            (None, None) => return Ok(()),
            (Some(old), Some(new)) if old == new => {
                let book = &self.books[&number];
                return ensure(new.is_void() || book.bytes == bytes, || {
                    format!("u{number}: bytes that count have changed without a commit")
                });
            }
            (None, Some(new)) => {
                self.arrived(number, None, new, &bytes, moment)?;
                self.completed(number, new, &bytes)?;
            }
            (Some(old), Some(new)) => {
                self.moved(number, old, new, &bytes, is_written, moment)?;
                self.arrived(number, Some(old), new, &bytes, moment)?;
                if !old.is_complete() {
                    self.completed(number, new, &bytes)?;
                }
            }
            (Some(old), None) => {
                let allowed = self.may_go(number, old, moment);
                ensure(allowed, || format!("u{number}: removed without a reason"))?;
            }
        }
        let book = self.books.entry(number).or_default();
        book.versions.push((moment.step, record.cloned()));
        if record.is_some_and(|record| !record.is_void()) {
            book.bytes = bytes;
        }
        match record {
            None => {
                let (versions, bytes) =
                    (std::mem::take(&mut book.versions), std::mem::take(&mut book.bytes));
                *book = Book { bytes, versions, ..Book::default() };
            }
            Some(record) if !record.is_void() => {
                let (offset, told) = (record.offset(), book.told);
                ensure(offset >= told, || {
                    format!("u{number}: I-01: at {offset}, a client was told {told}")
                })?;
                let kept = book.kept.iter().all(|kept| record.received.covers(&kept));
                ensure(kept, || format!("u{number}: bytes told are gone"))?;
                let length = book.told_length.is_none() || record.length == book.told_length;
                ensure(length, || format!("u{number}: T-049: another length"))?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Whether one record may follow another.
    fn moved(
        &self,
        number: usize,
        old: &Upload,
        new: &Upload,
        bytes: &[Option<u8>],
        is_written: bool,
        moment: &Moment<'_>,
    ) -> Checked {
        let fail = |what: &str| Err(format!("u{number}: {what}: {old:?} -> {new:?}"));
        if old.created != new.created || old.revision + 1 != new.revision {
            return fail("not the next record");
        }
        let published = old.is_published();
        match (old.phase, new.phase) {
            (Phase::Open, Phase::Open | Phase::Complete) => {}
            (Phase::Complete, Phase::Complete) if old.received == new.received => {}
            (Phase::Open | Phase::Complete, Phase::Void) if new.removed => {
                if !self.removal_asked(number, moment) && !self.denied_for_good(number) {
                    return fail("removed without a reason");
                }
            }
            (Phase::Open | Phase::Complete, Phase::Void) => {
                let due = old.expires.is_some_and(|expires| expires <= moment.now);
                if !due || is_written || published {
                    return fail("T-073, F-57: expired while it should live");
                }
            }
            (Phase::Void, Phase::Void) => {}
            (Phase::Complete | Phase::Void, _) => return fail("what is over goes on"),
        }
        if new.is_void() {
            return Ok(());
        }
        // Bytes that count stay as they are; those that go must not have been told, see above.
        let book = &self.books[&number];
        for (at, (was, is)) in book.bytes.iter().zip(bytes).enumerate() {
            if was.is_some() && is.is_some() && was != is {
                return fail(&format!("the byte at {at} was replaced"));
            }
        }
        Ok(())
    }

    /// Whether every byte that is new was sent to this place by somebody, and was verified.
    fn arrived(
        &self,
        number: usize,
        old: Option<&Upload>,
        new: &Upload,
        bytes: &[Option<u8>],
        moment: &Moment<'_>,
    ) -> Checked {
        if let Role::Final { .. } = new.role {
            return Ok(());
        }
        let none = Ranges::new();
        let held = old.map_or(&none, |old| &old.received);
        for run in new.received.iter() {
            for at in held.gaps(&run).into_iter().flatten() {
                let byte = bytes.get(index(at)).copied().flatten();
                let mut senders = moment.requests.iter().enumerate();
                let sent = senders.any(|(r, request)| {
                    request.writes_to(r, number, new)
                        && request.has_sent(at) == byte
                        && request.counts()
                });
                ensure(sent, || {
                    format!("u{number}: T-084: nobody sent the byte {byte:?} at {at}, to count")
                })?;
            }
        }
        Ok(())
    }

    /// Whether a record that says complete is right.
    fn completed(&self, number: usize, new: &Upload, bytes: &[Option<u8>]) -> Checked {
        if !new.is_complete() {
            // Of a creation that runs nobody knows yet.
            let known = self.books.get(&number).is_some_and(|book| book.known);
            return ensure(!new.is_full() || !known, || {
                format!("u{number}: I-05: full and not complete")
            });
        }
        let whole = new.is_full() && bytes.iter().all(Option::is_some);
        ensure(whole, || format!("u{number}: F-22: complete and not full"))?;
        let finished = self.books.get(&number).map_or(0, |book| book.finished);
        if new.is_partial() {
            return ensure(finished == 0, || format!("u{number}: T-102"));
        }
        ensure(finished > 0, || format!("u{number}: I-05: complete before its completion step"))
    }

    /// Whether the bytes of the final upload `number` are those of its parts.
    pub(super) fn joined(&self, number: usize, parts: &[usize]) -> Checked {
        let book = &self.books[&number];
        if !book.record().is_some_and(|record| record.is_complete()) {
            return Ok(());
        }
        let mut expected = Vec::new();
        for part in parts {
            expected.extend(&self.books[part].bytes);
        }
        ensure(book.bytes == expected, || format!("u{number}: F-34: not its parts {parts:?}"))
    }

    fn removal_asked(&self, number: usize, moment: &Moment<'_>) -> bool {
        let mut running = moment.requests.iter().filter(|request| request.is_running());
        running.any(|request| {
            matches!(request.what, What::Remove { .. }) && request.concerns().contains(&number)
        })
    }

    fn denied_for_good(&self, number: usize) -> bool {
        self.troubled(0, u64::MAX, |t| t == Trouble::Denied(number, true))
    }

    /// Whether the record `old` may be taken away now.
    fn may_go(&self, number: usize, old: &Upload, moment: &Moment<'_>) -> bool {
        let over = old.is_void() || old.expires.is_some_and(|at| at <= moment.now);
        let mut running = moment.requests.iter().enumerate();
        // A creation that is refused takes with it what it has made.
        let unmade = running.any(|(r, request)| {
            let joins = matches!(request.what, What::Join { .. });
            let is_final = matches!(old.role, Role::Final { .. });
            let writes = request.creates() && request.writes_to(r, number, old);
            request.is_running() && (writes || (joins && is_final))
        });
        self.removal_asked(number, moment)
            || (!old.is_published() && (over || self.denied_for_good(number)))
            || (unmade && (!old.is_complete() || !self.books[&number].known))
    }

    /// What the application was told.
    pub(super) fn heard(&mut self, heard: &Heard) -> Checked {
        match heard {
            Heard::Changed(number, Change::Completed { .. }) => {
                let book = self.books.entry(*number).or_default();
                book.announced += 1;
                ensure(book.announced == 1, || format!("u{number}: announced twice"))?;
                let complete = book.record().is_some_and(|record| record.is_complete());
                ensure(complete, || format!("u{number}: announced, not complete"))
            }
            Heard::Finished(number, offset) => {
                let book = self.books.entry(*number).or_default();
                let complete = book.record().is_some_and(|record| record.is_complete());
                book.finished += 1;
                ensure(!complete, || format!("u{number}: I-05: completed again, at {offset}"))
            }
            Heard::Changed(..) | Heard::Removed(_) => Ok(()),
        }
    }

    /// Shows that each upload was completed and announced once, where nothing failed or died.
    pub(super) fn once(&self) -> Checked {
        if !self.troubles.is_empty() {
            return Ok(());
        }
        for (number, book) in &self.books {
            let Some(record) = book.record().filter(|record| record.is_complete()) else {
                continue;
            };
            let steps = u32::from(!record.is_partial());
            let counts = (book.announced, book.finished);
            ensure(counts == (1, steps), || {
                format!("u{number}: announced and finished {counts:?} times")
            })?;
        }
        Ok(())
    }

    /// Whether `answer` to the `r`th request is one that a server which does one thing after
    /// another could have given between its start and now.
    pub(super) fn answered(
        &mut self,
        r: usize,
        answer: &Answer,
        number_of: impl Fn(&UploadId) -> usize,
        moment: &Moment<'_>,
    ) -> Checked {
        let request = &moment.requests[r];
        match answer {
            Answer::Bytes(bytes) => self.fetched(request, bytes, moment.step),
            Answer::Gone => {
                let concerned = request.concerns();
                let gone = |number: &usize| {
                    let record = self.books.get(number).and_then(Book::record);
                    record.is_none_or(|record| record.removed)
                };
                ensure(concerned.iter().any(gone), || "T-092: still there".into())
            }
            Answer::Done => Ok(()),
            Answer::Refused(refusal) => {
                let may = self.may_refuse(r, refusal, &number_of, moment);
                ensure(may, || format!("refused without a reason: {refusal:?}"))?;
                self.left_nothing(r, refusal, moment)
            }
            Answer::State(upload) => {
                let number = number_of(&upload.id);
                self.told(request, number, upload, moment)
            }
            Answer::Stored { offset, upload } => {
                self.stored(r, *offset, upload, number_of(&upload.id), moment)
            }
        }
    }

    fn fetched(&self, request: &Request, bytes: &[u8], step: u64) -> Checked {
        let [number] = request.concerns()[..] else {
            return Err("a fetch of no upload".into());
        };
        let book = &self.books[&number];
        let mut seen = book.seen(request.start, step);
        let published = seen.any(|record| record.is_some_and(Upload::is_published));
        ensure(published, || format!("u{number}: D-51: not published"))?;
        let equal = book.bytes.len() == bytes.len() && book.holds(0, bytes);
        ensure(equal, || format!("u{number}: other bytes"))
    }

    /// A client was shown a state: it was a true one, and it is there to stay.
    fn told(
        &mut self,
        request: &Request,
        number: usize,
        upload: &Upload,
        moment: &Moment<'_>,
    ) -> Checked {
        let book = self.books.entry(number).or_default();
        let is_final = matches!(upload.role, Role::Final { .. });
        // A test that keeps an upload alive tells its new deadline.
        let same = |seen: &Upload| {
            let like = Upload { expires: seen.expires, revision: seen.revision, ..upload.clone() };
            *seen == like || (is_final && seen.received == upload.received)
        };
        let true_once = book
            .seen(request.start, moment.step)
            .flatten()
            .any(|seen| !seen.is_void() && same(seen));
        ensure(true_once, || format!("u{number}: no state between start and answer: {upload:?}"))?;
        ensure(!upload.is_full() || upload.is_complete(), || {
            format!("u{number}: I-05: told full and not complete")
        })?;
        // What a later upload of the same name holds is another matter.
        let is_same = |record: &Arc<Upload>| record.created == upload.created;
        if !book.is_alive() || !book.record().is_some_and(is_same) {
            return Ok(());
        }
        let offset = book.record().map_or(0, |record| record.offset());
        ensure(offset >= upload.offset(), || {
            format!("u{number}: I-01: told {}, at {offset}", upload.offset())
        })?;
        book.told = book.told.max(upload.offset());
        book.told_length = book.told_length.or(upload.length);
        if let What::Test { range, .. } = &request.what
            && upload.received.covers(range)
        {
            book.kept.insert(range.clone());
        }
        Ok(())
    }

    fn stored(
        &mut self,
        r: usize,
        offset: u64,
        upload: &Upload,
        number: usize,
        moment: &Moment<'_>,
    ) -> Checked {
        let request = &moment.requests[r];
        let closing = self.troubled(request.start, moment.step, |t| t == Trouble::Close);
        let book = self.books.entry(number).or_default();
        book.known = true;
        let seen = |book: &Book| {
            let mut seen = book.seen(request.start, moment.step).flatten();
            seen.any(|seen| seen.created == upload.created)
        };
        let existed = seen(book);
        ensure(existed, || format!("u{number}: stored in no upload"))?;
        let Some(sent) = &request.sent else {
            // A join, or a creation that finds its upload made already.
            if !book.is_alive() {
                return Ok(());
            }
            book.told = book.told.max(offset);
            let is_there = book.record().is_some_and(|record| record.offset() >= offset);
            return ensure(is_there, || format!("u{number}: I-01: told {offset}"));
        };
        // Of a creation that is interrupted before its trailer the client gets to know what was kept
        // (T-063).
        let heard_out = !closing && sent.silence() < moment.limits.idle_timeout;
        let came_whole = sent.end == End::Whole && heard_out;
        let unverified = request.creates() && matches!(sent.sum, Sum::Surprise { .. });
        ensure(sent.sum.is_right() || (unverified && !came_whole), || {
            format!("u{number}: T-083: stored with a wrong checksum")
        })?;
        let whole = sent.end == End::Whole;
        let reached = sent.at + sent.fed as u64;
        let is_right = if request.creates() && !sent.exact {
            offset <= reached
        } else {
            whole && offset == reached
        };
        ensure(is_right, || {
            format!("u{number}: I-02: stored up to {offset}, sent up to {reached}")
        })?;
        if sent.exact {
            ensure(sent.fed as u64 == sent.room, || {
                format!("u{number}: J-014: {} bytes for {}", sent.fed, sent.room)
            })?;
        }
        // What a later upload of the same name holds is another matter.
        let lives = book.seen(request.start, moment.step).flatten();
        let mut lives: Vec<_> = lives.map(|seen| seen.created).collect();
        lives.dedup();
        let is_same = lives.len() == 1;
        if !book.is_alive() || !is_same {
            return Ok(());
        }
        let count = index(offset - sent.at);
        ensure(book.holds(sent.at, &sent.bytes[..count]), || {
            format!("u{number}: I-02: acknowledged bytes are not there")
        })?;
        book.kept.insert(sent.at..offset);
        // Of a name, bytes may come that are there already: they move no deadline (J-040).
        if let (Some(record), Some(after)) = (book.record(), moment.limits.expire_after)
            && sent.at < offset
            && !record.named
            && record.phase == Phase::Open
        {
            let renewed = record.expires >= Some(request.started + after);
            ensure(renewed, || format!("u{number}: T-073: deadline not moved"))?;
        }
        if !sent.exact {
            book.told = book.told.max(offset);
        }
        Ok(())
    }

    /// A request that breaks a rule leaves nothing behind (I-03, I-04).
    fn left_nothing(&self, r: usize, refusal: &Refusal, moment: &Moment<'_>) -> Checked {
        let request = &moment.requests[r];
        let excused = |t| matches!(t, Trouble::Store | Trouble::Kill | Trouble::Close);
        let interrupted = matches!(
            refusal,
            Refusal::Abandoned
                | Refusal::Displaced
                | Refusal::ShuttingDown
                | Refusal::StoreFull
                | Refusal::StoreTrouble
                | Refusal::Unknown
        );
        if self.troubled(request.start, moment.step, excused) {
            return Ok(());
        }
        for (number, book) in &self.books {
            let Some(record) = book.record() else {
                continue;
            };
            if !request.writes_to(r, *number, record) {
                continue;
            }
            let made = matches!(request.what, What::Create { .. });
            ensure(!made, || format!("u{number}: I-04: left behind"))?;
            // Chunks of a name all send the same bytes: whose they are cannot be told.
            if interrupted || matches!(request.what, What::Chunk { .. } | What::Find { .. }) {
                continue;
            }
            // What a question is about to tell stays as well.
            let asked = moment.requests.iter().any(|other| {
                matches!(other.what, What::Status { .. })
                    && other.concerns().contains(number)
                    && other.end.is_none_or(|end| end >= request.start)
            });
            if record.named || asked {
                continue;
            }
            for at in record.received.iter().flatten().filter(|at| *at >= book.told) {
                let byte = book.bytes.get(index(at)).copied().flatten();
                ensure(request.has_sent(at) != byte, || {
                    format!("u{number}: I-03: keeps the byte at {at} of a refused request")
                })?;
            }
        }
        Ok(())
    }

    /// Whether there was a reason for `refusal`.
    fn may_refuse(
        &mut self,
        r: usize,
        refusal: &Refusal,
        number_of: &impl Fn(&UploadId) -> usize,
        moment: &Moment<'_>,
    ) -> bool {
        let request = &moment.requests[r];
        let (start, end) = (request.start, moment.step);
        let sent = request.sent.as_ref();
        let concerned: Vec<usize> = match &request.what {
            What::Create { .. } => {
                let made = self.books.iter().filter(|(number, book)| {
                    let mut seen = book.seen(start, end).flatten();
                    seen.any(|record| request.writes_to(r, **number, record))
                });
                made.map(|(number, _)| *number).collect()
            }
            What::Append { .. }
            | What::Chunk { .. }
            | What::Close
            | What::Fetch { .. }
            | What::Find { .. }
            | What::Join { .. }
            | What::Remove { .. }
            | What::Status { .. }
            | What::Sweep
            | What::Test { .. } => request.concerns(),
        };
        let saw = |number: &usize, is: &dyn Fn(Option<&Upload>) -> bool| {
            let Some(book) = self.books.get(number) else {
                return is(None);
            };
            book.seen(start, end).any(is)
        };
        let any = |is: &dyn Fn(Option<&Upload>) -> bool| concerned.iter().any(|n| saw(n, is));
        let some = |is: &dyn Fn(&Upload) -> bool| any(&|record| record.is_some_and(is));
        let is_over = |record: &Upload| {
            record.is_void() || record.expires.is_some_and(|expires| expires <= moment.now)
        };
        let others = || {
            let others = moment.requests.iter().enumerate().filter(|(o, other)| {
                *o != r && other.end.is_none_or(|other_end| other_end >= start)
            });
            others.filter(|(o, other)| {
                matches!(other.what, What::Sweep)
                    || concerned.iter().any(|number| {
                        let book = self.books.get(number).and_then(Book::record);
                        other.concerns().contains(number)
                            || book.is_some_and(|book| other.writes_to(*o, *number, book))
                    })
            })
        };
        let removed = || others().any(|(_, other)| matches!(other.what, What::Remove { .. }));
        let denied = |for_good| {
            self.troubled(start, end, |t| {
                concerned.iter().any(|number| t == Trouble::Denied(*number, for_good))
            })
        };
        let reached = sent.map_or(0, |sent| sent.at + sent.fed.max(sent.announced) as u64);
        match refusal {
            Refusal::Abandoned => sent.is_some_and(|sent| {
                sent.end == End::Cut || sent.silence() >= moment.limits.idle_timeout
            }),
            Refusal::BodyLengthWrong { expected, .. } => sent.is_some_and(|sent| {
                sent.exact && *expected == sent.room && sent.bytes.len() as u64 != sent.room
            }),
            Refusal::BodyTooLong { length } => {
                reached > *length
                    && (some(&|record| record.length == Some(*length))
                        || request.declares() == Some(*length))
            }
            Refusal::Busy => {
                // Finals are completed in the background.
                let is_final = |record: &Upload| matches!(record.role, Role::Final { .. });
                others().next().is_some() || some(&is_final)
            }
            Refusal::ChecksumMismatch => sent.is_some_and(|sent| !sent.sum.is_right()),
            Refusal::ContentConflict { at } => sent.is_some_and(|sent| {
                let given = request.has_sent(*at);
                let held = concerned
                    .iter()
                    .filter_map(|number| self.books.get(number)?.bytes.get(index(*at)).copied());
                sent.at <= *at && given.is_some() && held.flatten().any(|held| given != Some(held))
            }),
            Refusal::Denied(denial) => {
                // Of a creation that is refused the number was met when it was made.
                let all = matches!(request.what, What::Create { .. } | What::Join { .. });
                denied(denial.message == "never")
                    || (all && self.troubled(start, end, |t| matches!(t, Trouble::Denied(..))))
            }
            Refusal::Displaced => sent.is_some_and(|sent| {
                let stall_after = if sent.exact {
                    moment.limits.chunk_stall_after
                } else {
                    moment.limits.stall_after
                };
                // Nobody displaces a writer to remove an upload, but a question may.
                sent.silence() >= stall_after && others().next().is_some()
            }),
            Refusal::Expired => {
                let parts_gone = |record: &Upload| {
                    let Role::Final { partials, .. } = &record.role else {
                        return false;
                    };
                    partials.iter().any(|id| saw(&number_of(id), &|part| part.is_none_or(is_over)))
                };
                // What is being written lives on, whatever its deadline says (T-073).
                let lives = |number: &usize| {
                    let book = self.books.get(number);
                    matches!(request.what, What::Status { .. })
                        && book.is_some_and(|book| book.idle + 1 < start)
                        && !saw(number, &|record| record.is_none_or(Upload::is_void))
                };
                let over = |number: &usize| {
                    let is_over = |record: &Upload| is_over(record) && !lives(number);
                    saw(number, &|record| record.is_some_and(is_over))
                };
                concerned.iter().any(over)
                    || some(&parts_gone)
                    || (matches!(request.what, What::Chunk { .. })
                        && some(&|record| record.removed))
            }
            Refusal::FinalUpload => some(&|record| matches!(record.role, Role::Final { .. })),
            Refusal::LengthConflict { given, .. } => {
                request.declares() == Some(*given)
                    && some(&|record| {
                        record.length.is_some_and(|length| length != *given)
                            || record.received.end() > *given
                    })
            }
            Refusal::Malformed { .. } => sent.is_some_and(|sent| sent.sum == Sum::TrailerMissing),
            Refusal::NotPartial { id } => {
                saw(&number_of(id), &|part| part.is_some_and(|part| !part.is_partial()))
            }
            Refusal::OffsetMismatch { expected, given } => {
                let was = some(&|record| record.offset() == *expected);
                // The client is told where the upload is, like any other that asks (D-09).
                let told = request.what.target().and_then(|n| self.books.get_mut(&n));
                let stays = told.is_none_or(|book| {
                    book.told = book.told.max(if book.is_alive() { *expected } else { 0 });
                    !book.is_alive() || book.record().is_some_and(|now| now.offset() >= *expected)
                });
                was && stays && expected != given && sent.is_some_and(|sent| sent.at == *given)
            }
            Refusal::PartialUnfinished { id } => {
                saw(&number_of(id), &|part| part.is_some_and(|part| !part.is_complete()))
            }
            Refusal::ShuttingDown => self.troubled(0, end, |t| t == Trouble::Close),
            Refusal::StoreFull | Refusal::StoreTrouble => {
                self.troubled(start, end, |t| t == Trouble::Store)
            }
            Refusal::Unknown => {
                let private = matches!(request.what, What::Fetch { .. })
                    && some(&|record| !record.is_published());
                let parts = matches!(request.what, What::Join { .. }) && some(&is_over);
                any(&|record| record.is_none_or(|record| record.removed))
                    || private
                    || parts
                    || removed()
                    || denied(true)
            }
            Refusal::Unsupported { .. } => sent.is_some_and(|sent| {
                // A checksum that comes last cannot be verified over bytes that were compared.
                matches!(sent.sum, Sum::Surprise { .. } | Sum::Trailer { .. })
            }),
            Refusal::ChecksumUnknown { .. }
            | Refusal::Internal
            | Refusal::MetadataTooLong { .. }
            | Refusal::OverLimit { .. }
            | Refusal::RangeUnsatisfiable { .. }
            | Refusal::TooFragmented { .. }
            | Refusal::TooManyPartials { .. }
            | Refusal::TooManyUploads { .. }
            | Refusal::VersionUnsupported
            | Refusal::WrongMediaType { .. } => false,
        }
    }
}

/// A position in memory.
pub(super) fn index(at: u64) -> usize {
    usize::try_from(at).expect("uploads here are small")
}
