//! Writes: gate, reserve, plan, ingest, conclude.

use std::sync::Arc;

use http::Extensions;
use tokio::time::timeout;

use super::{
    Action, Engine, Running,
    ingest::{Arrived, Ingest},
    records::{Completing, Leaves, refusal_of},
    writers::{Kind, Reservation},
};
use crate::{
    content::{Content, Step, Trailer},
    rules::{
        At, Checksum, Finished, NewUpload, Outcome, Refusal, Refused, Target, Wait, Write, create,
        write::{self, BodyEnd, Conclusion, Recorded, WritePlan},
    },
    store::Writer,
    upload::{Completion, Digest, Digester, IdForm, Ranges, Upload, UploadId},
};

/// What came of a write whose bytes count.
pub(super) struct Written {
    pub(super) finished: Finished,
    /// Whether it brought bytes that the upload did not have.
    pub(super) changed: bool,
    /// Why the client must send the rest, if its body was interrupted.
    pub(super) interrupted: Option<Refusal>,
    /// The position after the last byte that counts.
    pub(super) offset: u64,
    pub(super) upload: Arc<Upload>,
}

impl Written {
    /// The outcome for a client that can ask how far its upload is.
    pub(super) fn whole(self) -> Result<Outcome, Refusal> {
        match self.interrupted {
            Some(refusal) => Err(refusal),
            None => Ok(self.stored()),
        }
    }

    /// The outcome for a client that does not know its upload yet, and must get to know where it
    /// is.
    fn stored(self) -> Outcome {
        let Self { finished, changed, offset, upload, .. } = self;
        Outcome::Written { finished, changed, offset, upload }
    }
}

impl Engine {
    pub(super) fn write<'a>(
        &'a self,
        write: Write,
        mut content: Content,
        extensions: &'a Extensions,
    ) -> Running<'a> {
        match write.target.clone() {
            Target::Existing(id) => Box::pin(async move {
                let upload = self.load(&id).await?;
                self.append(upload, &write, &mut content, extensions).await
            }),
            Target::Owned(id, owner) => Box::pin(async move {
                let upload = self.load_owned(&id, owner.as_deref()).await?;
                self.append(upload, &write, &mut content, extensions).await
            }),
            Target::Keyed(key, new) => Box::pin(async move {
                self.write_keyed(&key, &new, &write, &mut content, extensions).await
            }),
            Target::NewKeyed(key, new) => Box::pin(async move {
                let begins = self.begins(&key, &new, &write).await?;
                if begins {
                    return self.write_keyed(&key, &new, &write, &mut content, extensions).await;
                }
                let created = self.create(new, &write, &mut content, extensions).await;
                created.map_err(Refused::from)
            }),
            Target::New(new) => Box::pin(async move {
                let created = self.create(new, &write, &mut content, extensions).await;
                created.map_err(Refused::from)
            }),
        }
    }

    async fn append(
        &self,
        upload: Arc<Upload>,
        write: &Write,
        content: &mut Content,
        extensions: &Extensions,
    ) -> Result<Outcome, Refused> {
        let id = &upload.id;
        self.check_alive(&upload)?;
        write::check_role(&upload)?;
        self.admit(Action::Write(&upload), extensions).await?;
        let reservation = content.while_present(self.reserve(id, write)).await?;
        let current = self.load(id).await?;
        let written = self.write_reserved(current, write, content, &reservation, extensions).await;
        match written.and_then(Written::whole) {
            Ok(outcome) => Ok(outcome),
            Err(refusal) => Err(self.refused(id, refusal).await),
        }
    }

    /// A refusal of a write, and how long its upload lives (T-071).
    pub(super) async fn refused(&self, id: &UploadId, refusal: Refusal) -> Refused {
        let upload = self.store().load(id).await.ok();
        Refused { expires: upload.and_then(|upload| upload.expires), refusal }
    }

    /// Waits for the right to write where `write` wants to.
    pub(super) async fn reserve(
        &self,
        id: &UploadId,
        write: &Write,
    ) -> Result<Reservation, Refusal> {
        let range = match &write.at {
            At::Offset(at) => *at..u64::MAX,
            // An empty chunk reserves a byte, so that two of them do not complete an upload at
            // once.
            At::Next(range) | At::Range(range) => {
                range.start..range.end.max(range.start.saturating_add(1))
            }
        };
        let kind = match (&write.at, &write.checksum) {
            (At::Offset(_), Checksum::None) => Kind::Incremental,
            (At::Offset(_), Checksum::Given(_) | Checksum::Trailing)
            | (At::Next(_) | At::Range(_), _) => Kind::AllOrNothing,
        };
        self.0.writers.reserve(id, range, kind, write.wait).await
    }

    /// Waits until no request writes to an upload, and keeps others out.
    pub(super) async fn reserve_all(&self, id: &UploadId) -> Result<Reservation, Refusal> {
        let (at_most, stall_after) = (self.limits().lock_wait, self.limits().stall_after);
        let wait = Wait { at_most, stall_after };
        self.0.writers.reserve(id, 0..u64::MAX, Kind::Guard, wait).await
    }

    pub(super) async fn write_reserved(
        &self,
        mut upload: Arc<Upload>,
        write: &Write,
        content: &mut Content,
        reservation: &Reservation,
        extensions: &Extensions,
    ) -> Result<Written, Refusal> {
        let plan = write::plan(&upload, write, self.limits(), self.now())?;
        if plan.declares_first() {
            (upload, _) =
                self.record(upload, &plan, Recorded::default(), &Extensions::new()).await?;
        }
        let arrived = Ingest::new(self, upload, &plan, reservation, content).run().await;
        self.conclude(&plan, arrived, extensions).await
    }

    async fn create(
        &self,
        mut new: NewUpload,
        write: &Write,
        content: &mut Content,
        extensions: &Extensions,
    ) -> Result<Outcome, Refusal> {
        create::check_role(&new.role, &self.store().capabilities())?;
        self.admit(Action::Create(&mut new), extensions).await?;
        let (upload, plan) = self.planned(new, write)?;
        if upload.is_full() || content.is_end() {
            let (upload, finished) = self.finish_empty(upload, &plan, content, extensions).await?;
            self.0.records.create(&upload, None).await?;
            let upload = Arc::new(upload);
            return Ok(Outcome::Written { finished, changed: true, offset: 0, upload });
        }
        self.0.records.create(&upload, None).await?;
        content.report(&upload);
        let upload = Arc::new(upload);
        let written = match self.reserve(&upload.id, write).await {
            Ok(reservation) => {
                let created = Arc::clone(&upload);
                let arrived = Ingest::new(self, created, &plan, &reservation, content).run().await;
                self.conclude(&plan, arrived, extensions).await
            }
            Err(refusal) => Err(refusal),
        };
        if written.is_err() {
            // A creation that is not answered with success leaves nothing behind (I-04).
            let id = upload.id.clone();
            if let Err(refusal) =
                self.0.records.end_while(upload, Leaves::Nothing, |_| Ok(true)).await
            {
                tracing::warn!(%id, %refusal, "a refused upload was left behind");
            }
        }
        written.map(|written| Written { changed: true, ..written }.stored())
    }

    /// The upload that a creation asks for, without a byte yet, and the plan for its bytes.
    pub(super) fn planned(
        &self,
        new: NewUpload,
        write: &Write,
    ) -> Result<(Upload, WritePlan), Refusal> {
        let id = fresh_id(new.id_form)?;
        let upload = create::create(new, id, self.limits(), self.now())?;
        let plan = write::plan(&upload, write, self.limits(), self.now())?;
        Ok((upload, plan))
    }

    /// An upload to be created with all its bytes, of which there are none: its creation is one
    /// step with its completion, so that it is never seen full and not complete (I-05).
    pub(super) async fn finish_empty(
        &self,
        upload: Upload,
        plan: &WritePlan,
        content: &mut Content,
        extensions: &Extensions,
    ) -> Result<(Upload, Finished), Refusal> {
        let trailer = timeout(self.limits().idle_timeout, no_bytes(content, &plan.overflow)).await;
        let trailer = trailer.unwrap_or(Err(Refusal::Abandoned))?;
        verify_body(plan, trailer.checksum, None, None).await?;
        let recorded = Recorded { metadata: trailer.metadata.as_ref(), ..Recorded::default() };
        let changes = write::changes(&upload, plan, recorded, self.limits(), self.now())?;
        if changes.is_empty() {
            return Ok((upload, Finished::default()));
        }
        let upload = upload.after(&changes).map_err(|_| Refusal::Internal)?;
        let finished = match upload.is_complete() {
            true => self.0.records.finish(&upload, extensions).await?,
            false => Finished::default(),
        };
        Ok((upload, finished))
    }

    /// What follows from a body: its bytes count or are dropped.
    async fn conclude(
        &self,
        plan: &WritePlan,
        arrived: Arrived,
        extensions: &Extensions,
    ) -> Result<Written, Refusal> {
        let Arrived { mut blocks, digester, end, mut pushed, reached, mut trailer, upload } =
            arrived;
        let mut writer = pushed.as_mut().map(|(_, writer)| writer);
        let end = match end {
            BodyEnd::Whole => {
                let due = trailer.checksum.take();
                match verify_body(plan, due, digester.as_deref(), writer.as_deref_mut()).await {
                    Ok(()) => BodyEnd::Whole,
                    Err(refusal) => BodyEnd::Refused(refusal),
                }
            }
            end @ (BodyEnd::Failed(_) | BodyEnd::Interrupted(_) | BodyEnd::Refused(_)) => end,
        };
        let interrupted = match write::conclude(plan, end) {
            Conclusion::Accept => None,
            Conclusion::KeepReceived(refusal) => Some(refusal),
            Conclusion::Drop(refusal) => return Err(refusal),
        };
        let may_complete = interrupted.is_none()
            && reached == plan.fills_at()
            && upload.completion == Completion::WhenFull;
        let writer = writer.filter(|_| may_complete);
        let digester = self.digester_of_all(plan, &upload, digester, writer).await?;
        if let Some((range, writer)) = pushed {
            let finished = writer.finish().await;
            let receipt = finished.map_err(|error| refusal_of(&upload.id, &error))?;
            blocks.push((range, receipt));
        }
        let metadata = trailer.metadata.as_ref();
        let recorded = Recorded { blocks: &blocks, is_whole: interrupted.is_none(), metadata };
        let completing = Completing { checksum: None, digester: digester.as_ref(), extensions };
        let (upload, finished) = self.record(upload, plan, recorded, completing).await?;
        if let Some(digester) = digester
            && !upload.is_complete()
        {
            self.0.records.digests.keep(&upload.id, reached, digester);
        }
        let changed = !plan.present.covers(&(plan.at..reached));
        Ok(Written { finished, interrupted, changed, offset: reached, upload })
    }

    /// Returns the digester that has seen all bytes of `upload` up to the end of a body, if one is
    /// wanted: that of the body, or else one for which they are read, those of the body from
    /// `writer`.
    async fn digester_of_all(
        &self,
        plan: &WritePlan,
        upload: &Upload,
        digester: Option<Box<Digester>>,
        writer: Option<&mut Box<dyn Writer>>,
    ) -> Result<Option<Digester>, Refusal> {
        let Some(algorithm) = plan.digest else {
            return Ok(None);
        };
        let is_of_all = plan.at == 0 || plan.checksum == Checksum::None;
        let digester = digester.map(|digester| *digester);
        let seen = digester.filter(|seen| is_of_all && seen.algorithm() == algorithm);
        let before = 0..plan.at;
        let is_readable = upload.received.covers(&before) && plan.present == Ranges::new();
        match writer {
            Some(writer) if seen.is_none() && is_readable => {
                let digester = algorithm.digester();
                let digester = self.0.records.digest_stored(upload, before, digester).await?;
                Ok(Some(Box::pin(read_again(digester, writer)).await?))
            }
            Some(_) | None => Ok(seen),
        }
    }

    /// Makes what arrived part of an upload, completing it if that is due.
    pub(super) async fn record(
        &self,
        upload: Arc<Upload>,
        plan: &WritePlan,
        recorded: Recorded<'_>,
        completing: impl Into<Completing<'_>>,
    ) -> Result<(Arc<Upload>, Finished), Refusal> {
        let due = |now: &Upload| write::changes(now, plan, recorded, self.limits(), self.now());
        self.0.records.commit(upload, completing, due).await
    }
}

/// An id that no upload has had.
pub(super) fn fresh_id(form: IdForm) -> Result<UploadId, Refusal> {
    let id = match form {
        IdForm::Short => UploadId::random(),
        IdForm::Uuid => UploadId::random_uuid(),
    };
    id.map_err(|error| {
        tracing::error!(%error, "the system has no randomness to give");
        Refusal::Internal
    })
}

/// Waits for the end of a body that may have no bytes, and gives its trailer.
async fn no_bytes(content: &mut Content, overflow: &Refusal) -> Result<Trailer, Refusal> {
    let mut trailer = Trailer::default();
    loop {
        match content.next().await {
            None => return Ok(trailer),
            Some(Ok(Step::Trailer(given))) => trailer = given,
            Some(Ok(Step::Data(bytes))) if bytes.is_empty() => {}
            Some(Ok(Step::Data(_))) => return Err(overflow.clone()),
            Some(Ok(Step::Refused(refusal))) => return Err(refusal),
            Some(Err(_)) => return Err(Refusal::Abandoned),
        }
    }
}

/// Checks the bytes against the checksum in the head or the trailer, if there is one.
async fn verify_body(
    plan: &WritePlan,
    trailer: Option<Digest>,
    digester: Option<&Digester>,
    writer: Option<&mut Box<dyn Writer>>,
) -> Result<(), Refusal> {
    let Some(due) = write::checksum_due(&plan.checksum, trailer)? else {
        return Ok(());
    };
    let digester = digester.filter(|digester| digester.algorithm() == due.algorithm);
    if digester.is_none() && plan.present != Ranges::new() {
        return Err(Refusal::Unsupported {
            what: "a checksum in the trailer over bytes that are there already",
        });
    }
    let computed = match (digester, writer) {
        (Some(digester), _) => digester.clone().finish(),
        (None, None) => due.algorithm.digester().finish(),
        // Which checksum was wanted became known only after the bytes: they are read once more.
        (None, Some(writer)) => {
            Box::pin(read_again(due.algorithm.digester(), writer)).await?.finish()
        }
    };
    write::verify(&due, &computed)
}

async fn read_again(
    mut digester: Digester,
    writer: &mut Box<dyn Writer>,
) -> Result<Digester, Refusal> {
    let failed = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "bytes just written cannot be read");
        Refusal::StoreTrouble
    };
    let mut stream = writer.reread().await.map_err(|error| failed(&error))?;
    while let Some(bytes) = stream.next().await {
        digester.update(&bytes.map_err(|error| failed(&error))?);
    }
    Ok(digester)
}
