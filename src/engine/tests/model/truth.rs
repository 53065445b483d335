//! [`Truth`]: a plain sequential model of every upload, and what may be said of it. It knows no
//! reservations, plans or checkpoints: only which bytes were sent by whom, and which records the
//! store has had.
//!
//! Nothing that was recorded is taken back, so nearly all follows from two rules: a record only
//! grows, and an answer tells a record that there was between its request and itself.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use super::{
    request::{About, Answer, End, NAMES, Request, Sent, Sum, What, name_of},
    stage::Heard,
};
use crate::{
    rules::Refusal,
    upload::{Event, Limits, Phase, Ranges, Role, Upload, UploadId, VoidReason},
};

/// Values, and since which step.
type History<T> = Vec<(u64, T)>;

/// The values there were in the course of these steps.
fn during<T>(history: &History<T>, start: u64, end: u64) -> impl Iterator<Item = &T> {
    let ends = history.iter().skip(1).map(|(since, _)| *since).chain([u64::MAX]);
    let values = history.iter().zip(ends);
    values
        .filter(move |((since, _), until)| *since <= end && start < *until)
        .map(|((_, value), _)| value)
}

/// What is known of one upload.
#[derive(Debug)]
pub(super) struct Book {
    /// How often its completion was announced.
    announced: u32,
    /// The bytes that count, or did when there last were any.
    pub(super) bytes: Vec<Option<u8>>,
    /// The revisions of which the completion step said no for good.
    denied: Vec<u64>,
    /// How often the completion step said yes.
    finished: u32,
    /// The last step after which nobody was writing to it.
    idle: u64,
    /// Whether a client knows its id.
    pub(super) known: bool,
    /// Whether a client was told that it, or some of its bytes, are kept.
    kept: bool,
    /// The request that made it.
    maker: Option<usize>,
    /// The name that it was made for.
    pub(super) name: Option<usize>,
    /// Whether a change of it was made and nobody heard of it.
    pub(super) unheard: bool,
    versions: History<Option<Arc<Upload>>>,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            announced: 0,
            bytes: Vec::new(),
            denied: Vec::new(),
            finished: 0,
            idle: 0,
            kept: false,
            known: false,
            maker: None,
            name: None,
            unheard: false,
            versions: vec![(0, None)],
        }
    }
}

impl Book {
    pub(super) fn record(&self) -> Option<&Arc<Upload>> {
        self.versions.last().and_then(|(_, record)| record.as_ref())
    }

    fn is_alive(&self) -> bool {
        self.record().is_some_and(|record| !record.is_void())
    }

    fn is_complete(&self) -> bool {
        self.record().is_some_and(|record| record.is_complete())
    }

    /// The records it had in the course of these steps, `None` for none.
    fn seen(&self, start: u64, end: u64) -> impl Iterator<Item = Option<&Upload>> {
        during(&self.versions, start, end).map(Option::as_deref)
    }

    fn byte(&self, at: u64) -> Option<u8> {
        self.bytes.get(index(at)).copied().flatten()
    }

    fn holds(&self, at: u64, bytes: &[u8]) -> bool {
        (at..).zip(bytes).all(|(at, byte)| self.byte(at) == Some(*byte))
    }
}

/// What is around an answer or a look at the store.
pub(super) struct Moment<'a> {
    pub(super) limits: &'a Limits,
    pub(super) now: SystemTime,
    pub(super) requests: &'a [Request],
    pub(super) step: u64,
}

impl Moment<'_> {
    /// Whether the deadline of `record` has passed.
    fn is_due(&self, record: &Upload) -> bool {
        !record.is_published() && record.expires.is_some_and(|at| at <= self.now)
    }

    /// Whether its bytes are gone or about to be.
    pub(super) fn is_over(&self, record: &Upload) -> bool {
        record.is_void() || self.is_due(record)
    }

    /// Whether `record` has been complete for so long that its name is free for another (S-010).
    fn is_past(&self, record: &Upload) -> bool {
        matches!(record.phase, Phase::Complete { at } if at + self.limits.completed_grace <= self.now)
    }
}

/// A trouble that explains what otherwise may not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The node was told to go down.
    Close,
    /// The completion step of this upload said no; for good, or not.
    Denied(usize, bool),
    /// The node died.
    Kill,
    /// The store failed.
    Store,
}

/// All that is known.
#[derive(Debug)]
pub(super) struct Truth {
    pub(super) books: BTreeMap<usize, Book>,
    /// The upload that each name leads to.
    leads: [History<Option<usize>>; NAMES],
    nodes: usize,
    /// What went wrong, in which step and on which node.
    pub(super) troubles: Vec<(u64, usize, Trouble)>,
}

type Checked = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl Truth {
    /// What is known when nothing has happened.
    pub(super) fn new(nodes: usize) -> Self {
        let leads = std::array::from_fn(|_| vec![(0, None)]);
        Self { books: BTreeMap::new(), leads, nodes, troubles: Vec::new() }
    }

    /// Whether changes may have been made by somebody that a node does not know of.
    fn is_shared(&self) -> bool {
        self.nodes > 1 || self.troubles.iter().any(|(_, _, trouble)| *trouble == Trouble::Kill)
    }

    /// Whether there was such a trouble in the time of `request`, on its node.
    fn troubled(&self, request: &Request, step: u64, is: impl Fn(Trouble) -> bool) -> bool {
        let span = request.start..=step;
        let mut troubles = self.troubles.iter().filter(|(_, node, _)| *node == request.node);
        troubles.any(|(at, _, trouble)| span.contains(at) && is(*trouble))
    }

    /// The uploads that the `r`th request is about, or was in the steps since it began.
    fn concerned(&self, r: usize, moment: &Moment<'_>) -> Vec<usize> {
        let request = &moment.requests[r];
        let mut numbers = request.numbers();
        if let Some(name) = request.name() {
            numbers.extend(during(&self.leads[name], request.start, moment.step).flatten());
        }
        let made = self.books.iter().filter(|(_, book)| book.maker == Some(r));
        numbers.extend(made.map(|(number, _)| *number));
        numbers
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
                return ensure(new.is_void() || book.bytes == bytes, || {
                    format!("u{number}: bytes that count have changed without a commit")
                });
            }
            (None, Some(new)) => {
                let is_first = book.versions.len() == 1;
                ensure(is_first, || format!("u{number}: an id has a second life"))?;
                (book.maker, book.name) = (maker_of(new), name_of(new));
                self.begun(number, new, moment)?;
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
                ensure(allowed, || format!("u{number}: removed without a reason: {old:?}"))?;
            }
        }
        let book = self.books.entry(number).or_default();
        book.versions.push((moment.step, record.cloned()));
        if record.is_some_and(|record| !record.is_void()) {
            book.bytes = bytes;
        }
        if let Some(name) = book.name {
            let leads = &mut self.leads[name];
            match (&before, record) {
                (None, _) => leads.push((moment.step, Some(number))),
                (_, None) if leads.last().is_some_and(|(_, last)| *last == Some(number)) => {
                    leads.push((moment.step, None));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether an upload of a name may follow the one that the name has led to: a session begins
    /// with byte 0, and only where none is running (J-043).
    fn begun(&self, number: usize, new: &Upload, moment: &Moment<'_>) -> Checked {
        let book = &self.books[&number];
        let (Some(name), Some(r)) = (book.name, book.maker) else { return Ok(()) };
        let request = &moment.requests[r];
        let sent = request.sent.as_ref();
        ensure(sent.is_none_or(|sent| sent.at == 0), || {
            format!("u{number}: J-043: begun from the middle by r{r}")
        })?;
        let Some((_, Some(before))) = self.leads[name].last() else { return Ok(()) };
        let before = &self.books[before];
        let is_duplicate = sent
            .is_some_and(|sent| !sent.bytes.is_empty() && before.holds(0, &sent.bytes[..sent.fed]));
        let mut seen = before.seen(request.start, moment.step).flatten();
        let is_free = seen.any(|record| {
            let is_other = record.length != new.length || moment.is_past(record);
            moment.is_over(record) || is_other || (record.is_complete() && !is_duplicate)
        });
        ensure(is_free, || format!("u{number}: J-043, J-044: two sessions of n{name}, by r{r}"))
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
        let book = &self.books[&number];
        if old.created != new.created || old.revision + 1 != new.revision {
            return fail("not the next record");
        }
        match (old.phase, new.phase) {
            (Phase::Open, Phase::Open | Phase::Complete { .. }) => {}
            (Phase::Complete { .. }, Phase::Complete { .. }) if old.received == new.received => {}
            (Phase::Open | Phase::Complete { .. }, Phase::Void { why, .. }) => {
                let has_reason = match why {
                    VoidReason::Expired => moment.is_due(old) && !is_written,
                    VoidReason::Removed => {
                        book.denied.contains(&old.revision) || self.removal_asked(number, moment)
                    }
                };
                return if has_reason { Ok(()) } else { fail("T-073, F-57: voided for no reason") };
            }
            (Phase::Complete { .. } | Phase::Void { .. }, _) => {
                return fail("what is over goes on");
            }
        }
        let grows = old.received.iter().all(|run| new.received.covers(&run))
            && (old.length.is_none() || old.length == new.length);
        if !grows {
            return fail("I-01, T-049: something was taken back");
        }
        if new.expires < old.expires && !new.is_published() {
            return fail("T-073: the deadline has come closer");
        }
        for (at, (was, is)) in book.bytes.iter().zip(bytes).enumerate() {
            if was.is_some() && was != is {
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
        let present = old.map_or(&none, |old| &old.received);
        let book = &self.books[&number];
        for at in new.received.iter().flat_map(|run| present.gaps(&run)).flatten() {
            let byte = bytes.get(index(at)).copied().flatten();
            let mut senders = moment.requests.iter().enumerate();
            let sent = senders.any(|(r, request)| {
                writes_to(r, request, number, book)
                    && request.has_sent(at) == byte
                    && request.counts()
            });
            ensure(sent, || {
                format!("u{number}: T-084: nobody sent the byte {byte:?} at {at}, to count")
            })?;
        }
        Ok(())
    }

    /// Whether a record says complete when it is full, and only then.
    fn completed(&self, number: usize, new: &Upload, bytes: &[Option<u8>]) -> Checked {
        if !new.is_complete() {
            return ensure(!new.is_full(), || format!("u{number}: I-05: full and not complete"));
        }
        let whole = new.is_full() && bytes.iter().all(Option::is_some);
        ensure(whole, || format!("u{number}: F-22: complete and not full"))?;
        let finished = self.books[&number].finished;
        if new.is_partial() {
            return ensure(finished == 0, || format!("u{number}: T-102"));
        }
        ensure(finished > 0, || format!("u{number}: I-05: complete before its completion step"))
    }

    /// Whether the bytes of the final upload `number` are those of its parts.
    pub(super) fn joined(&self, number: usize, parts: &[usize]) -> Checked {
        let book = &self.books[&number];
        if !book.is_complete() {
            return Ok(());
        }
        let expected: Vec<_> =
            parts.iter().flat_map(|part| &self.books[part].bytes).copied().collect();
        ensure(book.bytes == expected, || format!("u{number}: F-34: not its parts {parts:?}"))
    }

    fn removal_asked(&self, number: usize, moment: &Moment<'_>) -> bool {
        let mut acting = (0..).zip(moment.requests).filter(|(_, one)| one.acts_since(moment.step));
        acting.any(|(r, request)| {
            matches!(request.what, What::Remove { .. })
                && self.concerned(r, moment).contains(&number)
        })
    }

    /// Whether the record `old` may be taken away now.
    fn may_go(&self, number: usize, old: &Upload, moment: &Moment<'_>) -> bool {
        let book = &self.books[&number];
        let acts = |request: &Request| request.acts_since(moment.step);
        // A creation that is refused takes with it what it has made, unless somebody else uses it.
        let made_in_vain = match (book.maker, book.name) {
            (Some(r), Some(_)) => {
                acts(&moment.requests[r]) && old.phase == Phase::Open && old.received.runs() == 0
            }
            (Some(r), None) => acts(&moment.requests[r]),
            (None, _) => {
                let mut joins = moment.requests.iter().filter(|one| acts(one));
                joins.any(|one| matches!(one.what, What::Join { .. }))
            }
        };
        let is_forgotten =
            matches!(old.phase, Phase::Void { until: Some(until), .. } if until <= moment.now);
        // A name keeps a tombstone.
        let is_removed = book.name.is_none()
            && (book.denied.contains(&old.revision) || self.removal_asked(number, moment));
        is_forgotten || is_removed || (made_in_vain && !book.kept)
    }

    /// What the application heard.
    pub(super) fn heard(&mut self, heard: &Heard) -> Checked {
        let is_shared = self.is_shared();
        match heard {
            Heard::Denied(number, revision) => {
                self.books.entry(*number).or_default().denied.push(*revision);
                Ok(())
            }
            Heard::Event(number, Event::Completed) => {
                let book = self.books.entry(*number).or_default();
                book.announced += 1;
                ensure(book.announced == 1, || format!("u{number}: announced twice"))?;
                ensure(book.is_complete(), || format!("u{number}: announced, not complete"))
            }
            Heard::Finished(number) => {
                let book = self.books.entry(*number).or_default();
                book.finished += 1;
                // Two nodes may do it at once.
                let is_late = book.is_complete() && !is_shared;
                ensure(!is_late, || format!("u{number}: I-05: completed again"))
            }
            Heard::Event(..) => Ok(()),
        }
    }

    /// Shows that each upload was completed and announced once.
    pub(super) fn once(&self) -> Checked {
        for (number, book) in &self.books {
            let Some(record) = book.record().filter(|record| record.is_complete()) else {
                continue;
            };
            ensure(book.announced == 1 || book.unheard, || format!("u{number}: not announced"))?;
            let is_plain = self.troubles.is_empty() && !self.is_shared() && !record.is_partial();
            ensure(!is_plain || book.finished == 1, || {
                format!("u{number}: {} completion steps", book.finished)
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
                let concerned = self.concerned(r, moment);
                let mut books = concerned.iter().filter_map(|number| self.books.get(number));
                ensure(books.any(|book| !book.is_alive()), || "T-092: still there".into())
            }
            Answer::Done => Ok(()),
            Answer::Refused(refusal) => {
                let may = self.may_refuse(r, refusal, &number_of, moment);
                ensure(may, || format!("refused without a reason: {refusal:?}"))?;
                self.left_nothing(r, refusal, moment)
            }
            Answer::State(upload) => self.told(request, number_of(&upload.id), upload, moment),
            Answer::Stored { offset, upload } => {
                let number = number_of(&upload.id);
                self.told(request, number, upload, moment)?;
                // An append without bytes keeps nothing; a creation without bytes keeps its upload.
                let needs_bytes = matches!(request.what, What::Append { .. } | What::Chunk { .. });
                let brings = |sent: &Sent| !needs_bytes || *offset > sent.at;
                let book = self.books.entry(number).or_default();
                book.kept |= request.sent.as_ref().is_none_or(brings);
                self.stored(r, *offset, upload, number, moment)
            }
        }
    }

    fn fetched(&self, request: &Request, bytes: &[u8], step: u64) -> Checked {
        let [number] = request.numbers()[..] else {
            return Err("a fetch of no upload".into());
        };
        let book = &self.books[&number];
        let published = book.seen(request.start, step).flatten().any(Upload::is_published);
        ensure(published, || format!("u{number}: D-51: not published"))?;
        let equal = book.bytes.len() == bytes.len() && book.holds(0, bytes);
        ensure(equal, || format!("u{number}: other bytes"))
    }

    /// A client was shown a state: it was a true one, and of the upload that was meant.
    fn told(
        &mut self,
        request: &Request,
        number: usize,
        upload: &Upload,
        moment: &Moment<'_>,
    ) -> Checked {
        let (start, step) = (request.start, moment.step);
        let book = self.books.entry(number).or_default();
        book.known = true;
        // The length of a pending final upload is told as far as those of its parts are known.
        let is_same = |seen: &Upload| {
            let length = if seen.is_pending_final() { seen.length } else { upload.length };
            !seen.is_void() && *seen == Upload { length, ..upload.clone() }
        };
        let true_once = book.seen(start, step).flatten().any(is_same);
        ensure(true_once, || format!("u{number}: no state between start and answer: {upload:?}"))?;
        if let (Some(name), Some(_)) = (request.name(), book.name) {
            let is_meant = during(&self.leads[name], start, step).any(|of| *of == Some(number));
            ensure(is_meant, || format!("u{number}: n{name} did not lead there"))?;
        }
        if let What::Test { range, total, .. } = &request.what {
            ensure(is_present(upload, range, *total), || format!("u{number}: J-020: not present"))?;
        }
        Ok(())
    }

    /// A client was told that its bytes are kept: they are there.
    fn stored(
        &self,
        r: usize,
        offset: u64,
        upload: &Upload,
        number: usize,
        moment: &Moment<'_>,
    ) -> Checked {
        let (request, book) = (&moment.requests[r], &self.books[&number]);
        let Some(sent) = &request.sent else {
            // A join, or a creation without bytes.
            let is_there = offset <= upload.offset();
            return ensure(is_there, || format!("u{number}: I-01: {offset}"));
        };
        ensure(sent.sum.is_right(), || format!("u{number}: T-083: stored with a wrong checksum"))?;
        // Of a creation that is interrupted the client gets to know what was kept (T-063).
        let is_interruptible = book.name.is_none() && book.maker == Some(r);
        let reached = sent.at + sent.fed as u64;
        let is_right = match sent.end {
            End::Whole => offset == reached,
            End::Cut | End::Open => false,
        };
        ensure(is_right || (is_interruptible && offset <= reached), || {
            format!("u{number}: I-02: stored up to {offset}, sent up to {reached}")
        })?;
        ensure(!sent.exact || sent.fed as u64 == sent.room, || {
            format!("u{number}: J-014: {} bytes for {}", sent.fed, sent.room)
        })?;
        if upload.offset() < offset && !sent.exact {
            return Err(format!("u{number}: I-01: {offset} of {}", upload.offset()));
        }
        ensure(book.holds(sent.at, &sent.bytes[..index(offset - sent.at)]), || {
            format!("u{number}: I-02: acknowledged bytes are not there")
        })?;
        // Of a name, bytes may come that are there already: they move no deadline (J-040).
        if let Some(after) = moment.limits.expire_after
            && sent.at < offset
            && book.name.is_none()
            && upload.phase == Phase::Open
        {
            let renewed = upload.expires >= Some(request.started + after);
            ensure(renewed, || format!("u{number}: T-073: deadline not moved"))?;
        }
        Ok(())
    }

    /// A creation that is refused leaves nothing behind (I-04), and no refused request completes an
    /// upload (I-03). Its bytes may stay as far as they were recorded on the way, but not if they
    /// count together, or if it was refused before its body.
    fn left_nothing(&self, r: usize, refusal: &Refusal, moment: &Moment<'_>) -> Checked {
        let request = &moment.requests[r];
        if self.troubled(request, moment.step, |t| t == Trouble::Store) {
            return Ok(());
        }
        let interrupted =
            matches!(refusal, Refusal::Abandoned | Refusal::Displaced | Refusal::ShuttingDown);
        let is_early = matches!(
            refusal,
            Refusal::Busy | Refusal::FinalUpload | Refusal::OffsetMismatch { .. }
        );
        let unrecorded = is_early || request.whole_or_nothing().is_some();
        for (number, book) in self.books.iter().filter(|(_, book)| book.is_alive()) {
            let Some(record) = book.record() else { continue };
            let made = book.maker == Some(r);
            if book.name.is_some() {
                // Names are used by others as well, who send the same bytes.
                let is_unused = record.phase == Phase::Open && record.received.runs() == 0;
                let is_alone = self.others(r, moment).is_empty();
                ensure(!(made && is_unused && is_alone), || format!("u{number}: S-009: left"))?;
                continue;
            }
            ensure(!made, || format!("u{number}: I-04: left behind"))?;
            if !writes_to(r, request, *number, book) {
                continue;
            }
            let is_own = |at: u64| request.has_sent(at).is_some_and(|b| book.byte(at) == Some(b));
            let kept = record.received.iter().flatten().any(is_own);
            ensure(!(unrecorded && kept), || format!("u{number}: I-03: keeps bytes"))?;
            let end = record.offset();
            // Another request that declares the length completes what this one has brought.
            let is_declared = (0..).zip(moment.requests).any(|(o, other)| {
                o != r
                    && other.declares().is_some_and(|length| Some(length) == record.length)
                    && writes_to(o, other, *number, book)
            });
            let completes = record.is_complete() && end > 0 && is_own(end - 1) && !is_declared;
            ensure(interrupted || !completes, || format!("u{number}: I-03: was completed"))?;
        }
        Ok(())
    }

    /// The other requests that may have had to do with the same uploads in the time of the `r`th.
    fn others<'a>(&self, r: usize, moment: &Moment<'a>) -> Vec<&'a Request> {
        let (request, concerned) = (&moment.requests[r], self.concerned(r, moment));
        let acting = (0..)
            .zip(moment.requests)
            .filter(|(o, other)| *o != r && other.acts_since(request.start));
        let meets = |(o, other): &(usize, &Request)| {
            matches!(other.what, What::Sweep)
                || (other.name().is_some() && other.name() == request.name())
                || self.concerned(*o, moment).iter().any(|number| concerned.contains(number))
        };
        acting.filter(meets).map(|(_, other)| other).collect()
    }

    /// Whether there was a reason for `refusal`.
    fn may_refuse(
        &self,
        r: usize,
        refusal: &Refusal,
        number_of: &impl Fn(&UploadId) -> usize,
        moment: &Moment<'_>,
    ) -> bool {
        let request = &moment.requests[r];
        let (start, end) = (request.start, moment.step);
        let sent = request.sent.as_ref();
        let concerned = self.concerned(r, moment);
        let saw = |number: &usize, is: &dyn Fn(Option<&Upload>) -> bool| {
            self.books.get(number).map_or_else(|| is(None), |book| book.seen(start, end).any(is))
        };
        let any = |is: &dyn Fn(Option<&Upload>) -> bool| concerned.iter().any(|n| saw(n, is));
        let some = |is: &dyn Fn(&Upload) -> bool| any(&|record| record.is_some_and(is));
        let is_over = |record: &Upload| moment.is_over(record);
        let unnamed = request
            .name()
            .is_some_and(|name| during(&self.leads[name], start, end).any(Option::is_none));
        let others = || self.others(r, moment);
        let denied = |for_good| {
            self.troubled(request, end, |trouble| {
                concerned.iter().any(|number| trouble == Trouble::Denied(*number, for_good))
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
            Refusal::Busy => !others().is_empty(),
            Refusal::ChecksumMismatch => sent.is_some_and(|sent| !sent.sum.is_right()),
            Refusal::ContentConflict { at } => {
                let given = request.has_sent(*at);
                let mut books = concerned.iter().filter_map(|number| self.books.get(number));
                given.is_some()
                    && books.any(|book| book.byte(*at).is_some() && book.byte(*at) != given)
            }
            Refusal::Denied(denial) => {
                // Of an upload that did not come to be only the number was met.
                let makes = !matches!(request.what, What::Append { .. });
                denied(denial.message == "never")
                    || (makes && self.troubled(request, end, |t| matches!(t, Trouble::Denied(..))))
            }
            Refusal::Displaced => {
                let stall_after = request.wait(moment.limits).stall_after;
                let is_silent = sent.is_some_and(|sent| sent.silence() >= stall_after);
                // On one node nobody is overtaken.
                let has_moved = |number: &usize| {
                    let book = self.books.get(number);
                    book.is_some_and(|book| book.seen(start, end).nth(1).is_some())
                };
                (is_silent && !others().is_empty())
                    || (self.is_shared() && sent.is_some() && concerned.iter().any(has_moved))
            }
            Refusal::Expired => {
                let parts_gone = |record: &Upload| {
                    let Role::Final { partials, .. } = &record.role else {
                        return false;
                    };
                    partials.iter().any(|id| saw(&number_of(id), &|part| part.is_none_or(is_over)))
                };
                // What is being written lives on, whatever its deadline says (T-073).
                let lives = |number: &usize| {
                    matches!(request.what, What::Status { of: About::Number(_) })
                        && self.books.get(number).is_some_and(|book| book.idle + 1 < start)
                        && !saw(number, &|record| record.is_none_or(Upload::is_void))
                };
                let over = |number: &usize| {
                    saw(number, &|record| record.is_some_and(is_over)) && !lives(number)
                };
                concerned.iter().any(over)
                    || some(&parts_gone)
                    || (unnamed && matches!(request.what, What::Chunk { .. }))
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
                expected != given
                    && sent.is_some_and(|sent| sent.at == *given)
                    && some(&|record| record.offset() == *expected)
            }
            Refusal::PartialUnfinished { id } => {
                saw(&number_of(id), &|part| part.is_some_and(|part| !part.is_complete()))
            }
            Refusal::ShuttingDown => {
                let mut closed = self.troubles.iter();
                closed.any(|(_, node, t)| *node == request.node && *t == Trouble::Close)
            }
            Refusal::StoreFull | Refusal::StoreTrouble => {
                self.troubled(request, end, |t| t == Trouble::Store)
            }
            Refusal::Unknown => {
                let is_gone = |record: Option<&Upload>| {
                    record.is_none_or(|record| {
                        matches!(record.phase, Phase::Void { why: VoidReason::Removed, .. })
                    })
                };
                let specially = match &request.what {
                    What::Fetch { .. } => some(&|record| !record.is_published()),
                    What::Join { .. } => some(&is_over),
                    What::Test { range, total, .. } => {
                        some(&|record| !is_present(record, range, *total) || is_over(record))
                    }
                    What::Remove { of: About::Name(_) } | What::Status { of: About::Name(_) } => {
                        some(&|record| moment.is_past(record))
                    }
                    _ => others().iter().any(|one| matches!(one.what, What::Remove { .. })),
                };
                any(&is_gone) || unnamed || specially || denied(true)
            }
            // A checksum that comes last cannot be verified over bytes that were compared.
            Refusal::Unsupported { .. } => {
                sent.is_some_and(|sent| matches!(sent.sum, Sum::Trailer { .. }))
            }
            Refusal::AlreadyComplete
            | Refusal::ChecksumUnknown { .. }
            | Refusal::Internal
            | Refusal::MetadataTooLong { .. }
            | Refusal::OverLimit { .. }
            | Refusal::RangeUnsatisfiable { .. }
            | Refusal::TooFragmented { .. }
            | Refusal::TooManyPartials { .. }
            | Refusal::Unfinished { .. }
            | Refusal::VersionUnsupported
            | Refusal::WrongMediaType { .. } => false,
        }
    }
}

/// The request that made an upload, as its metadata says.
fn maker_of(record: &Upload) -> Option<usize> {
    record.metadata.as_text().strip_prefix('r')?.parse().ok()
}

/// Whether the `r`th request writes to the upload `number`.
fn writes_to(r: usize, request: &Request, number: usize, book: &Book) -> bool {
    match request.what {
        What::Append { of, .. } => of == number,
        What::Chunk { name, .. } => book.name == Some(name),
        What::Create { .. } => book.maker == Some(r),
        What::Find { name, .. } => book.name == Some(name) || book.maker == Some(r),
        What::Close
        | What::Fetch { .. }
        | What::Join { .. }
        | What::Remove { .. }
        | What::Status { .. }
        | What::Sweep
        | What::Test { .. } => false,
    }
}

/// Whether a client that is about to send these bytes of a name need not (J-020, J-044).
fn is_present(record: &Upload, range: &std::ops::Range<u64>, total: u64) -> bool {
    record.phase == Phase::Open && record.length == Some(total) && record.received.covers(range)
}

/// A position in memory.
pub(super) fn index(at: u64) -> usize {
    usize::try_from(at).expect("uploads here are small")
}
