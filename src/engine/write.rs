//! Writes: plan, ingest, settle.

use std::{ops::Range, sync::Arc};

use http::Extensions;

use super::{
    Action, Engine, Running,
    claims::{Claim, Kind, Patience},
    ingest::{Arrived, Ending, Ingest, Piece},
    refusal_of,
};
use crate::{
    content::Content,
    rules::{
        At, Checksum, Denial, DenialKind, NewUpload, Outcome, Refusal, Refused, Target, Write,
        create,
        write::{self, WritePlan},
    },
    store::Writer,
    upload::{Digest, Digester, Ranges, Upload, UploadId},
};

/// Whether the upload of a write was there before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Created,
    Found,
}

impl Engine {
    pub(super) fn write<'a>(
        &'a self,
        write: Write,
        mut content: Content,
        extensions: &'a Extensions,
    ) -> Running<'a> {
        match write.target.clone() {
            Target::Existing(id) => {
                Box::pin(async move { self.append(&id, &write, &mut content, extensions).await })
            }
            Target::Named(key, new) => {
                Box::pin(
                    async move { self.place(&key, &new, &write, &mut content, extensions).await },
                )
            }
            Target::New(new) => Box::pin(async move {
                let created = self.create(new, &write, &mut content, extensions).await;
                created.map_err(Refused::from)
            }),
        }
    }

    async fn append(
        &self,
        id: &UploadId,
        write: &Write,
        content: &mut Content,
        extensions: &Extensions,
    ) -> Result<Outcome, Refused> {
        let upload = self.load(id).await?;
        self.alive(&upload)?;
        self.admit(Action::Write(&upload), extensions).await?;
        let claim = content.while_present(self.claim(id, write)).await?;
        let mut upload = self.load(id).await?;
        let written = self.write_claimed(&mut upload, write, content, &claim, extensions).await;
        written.map_err(|refusal| Refused { expires: upload.expires, refusal })
    }

    /// The right to write where `write` wants to.
    pub(super) async fn claim(&self, id: &UploadId, write: &Write) -> Result<Claim, Refusal> {
        let limits = self.limits();
        let (range, patience) = match &write.at {
            At::Offset(at) => (
                *at..u64::MAX,
                Patience { stall_after: limits.stall_after, wait: limits.lock_wait },
            ),
            // An empty chunk claims a byte, so that two of them do not complete an upload at once.
            At::Range(range) => (
                range.start..range.end.max(range.start.saturating_add(1)),
                Patience { stall_after: limits.chunk_stall_after, wait: limits.chunk_wait },
            ),
        };
        let kind = match (&write.at, &write.checksum) {
            (At::Offset(_), Checksum::None) => Kind::Pieces,
            (At::Offset(_), Checksum::Given(_) | Checksum::Trailing) | (At::Range(_), _) => {
                Kind::Whole
            }
        };
        self.0.claims.claim(id, range, kind, patience).await
    }

    /// The right to all of an upload, as for a write from its start.
    pub(super) async fn claim_all(&self, id: &UploadId) -> Result<Claim, Refusal> {
        let limits = self.limits();
        let patience = Patience { stall_after: limits.stall_after, wait: limits.lock_wait };
        self.0.claims.claim(id, 0..u64::MAX, Kind::Guard, patience).await
    }

    pub(super) async fn write_claimed(
        &self,
        upload: &mut Arc<Upload>,
        write: &Write,
        content: &mut Content,
        claim: &Claim,
        extensions: &Extensions,
    ) -> Result<Outcome, Refusal> {
        let told = self.0.jumps.told(&upload.id);
        let plan = write::plan(upload, write, told, self.limits(), self.now())?;
        if plan.declares_first() {
            *upload = self.record(&upload.id, &plan, &[]).await?;
        }
        let mut arrived = Ingest::new(self, upload, &plan, claim, content).run().await;
        let result =
            self.conclude(upload, &plan, &mut arrived, claim, extensions, Origin::Found).await;
        if let Ok(Outcome::Stored { offset, upload: stored, .. }) = &result {
            if !plan.exact {
                self.0.jumps.tell(stored, *offset);
            }
            *upload = Arc::clone(stored);
        } else if let Ok(current) = self.store().load(&upload.id).await {
            *upload = current;
        }
        result
    }

    async fn create(
        &self,
        mut new: NewUpload,
        write: &Write,
        content: &mut Content,
        extensions: &Extensions,
    ) -> Result<Outcome, Refusal> {
        create::offered(&new.role, &self.store().capabilities())?;
        self.admit(Action::Create(&mut new), extensions).await?;
        let id = UploadId::random().map_err(|error| {
            tracing::error!(%error, "the system has no randomness to give");
            Refusal::Internal
        })?;
        let (limits, now) = (self.limits(), self.now());
        let mut upload = create::create(new, id, limits, now)?;
        let plan = write::plan(&upload, write, None, limits, now)?;
        if content.is_end() {
            verify_body(&plan, None, None, None).await?;
            let changes = write::settle(&upload, &plan, &[], limits, now);
            upload = upload.after(&changes).map_err(|_| Refusal::Internal)?;
            let finished = if upload.is_complete() {
                self.finish(&upload, extensions).await?
            } else {
                Default::default()
            };
            self.create_record(&upload).await?;
            return Ok(Outcome::Stored { finished, offset: 0, upload: Arc::new(upload) });
        }
        self.create_record(&upload).await?;
        let claim = self.claim(&upload.id, write);
        let result = match claim.await {
            Ok(claim) => {
                let mut arrived = Ingest::new(self, &upload, &plan, &claim, content).run().await;
                let (arrived, origin) = (&mut arrived, Origin::Created);
                self.conclude(&upload, &plan, arrived, &claim, extensions, origin).await
            }
            Err(refusal) => Err(refusal),
        };
        if result.is_err() {
            // A creation that is not answered with success leaves nothing behind (I-04).
            if let Err(refusal) = self.remove(&upload).await {
                tracing::warn!(id = %upload.id, %refusal, "a refused upload was left behind");
            }
        }
        result
    }

    pub(super) async fn create_record(&self, upload: &Upload) -> Result<(), Refusal> {
        self.store().create(upload).await.map_err(|error| refusal_of(&upload.id, &error))?;
        tracing::debug!(id = %upload.id, length = upload.length, "created");
        self.tell(upload, &upload.history());
        Ok(())
    }

    /// What follows from a body: bytes kept or dropped, and the answer.
    async fn conclude(
        &self,
        upload: &Upload,
        plan: &WritePlan,
        arrived: &mut Arrived,
        claim: &Claim,
        extensions: &Extensions,
        origin: Origin,
    ) -> Result<Outcome, Refusal> {
        let keeps = match &arrived.ending {
            Ending::Whole => {
                let writer = arrived.unsafe_rest.as_mut().map(|(_, writer)| writer);
                let trailer = arrived.trailer.take();
                verify_body(plan, trailer, arrived.computed.take(), writer).await
            }
            Ending::Interrupted(_) if plan.keeps_pieces() => Ok(()),
            // What is recorded stays: the bytes are good, and the client asks how many there are.
            Ending::Failed(refusal) | Ending::Interrupted(refusal) => return Err(refusal.clone()),
            Ending::Refused(refusal) => Err(refusal.clone()),
        };
        let result = match keeps {
            Ok(()) => {
                if let Some((range, writer)) = arrived.unsafe_rest.take() {
                    let finished = writer.finish().await;
                    let receipt = finished.map_err(|error| refusal_of(&upload.id, &error))?;
                    arrived.pieces.push((range, receipt));
                }
                self.keep(upload, plan, &arrived.pieces, arrived.reached, extensions).await
            }
            Err(refusal) => Err(refusal),
        };
        match (result, &arrived.ending) {
            // Of a creation the client gets to know where its upload is, if it can (T-063).
            (Ok(_), Ending::Interrupted(refusal)) if origin == Origin::Found => {
                Err(refusal.clone())
            }
            (Err(refusal), _) if origin == Origin::Found => {
                self.take_back(upload, plan, &arrived.recorded, claim, &refusal).await;
                Err(refusal)
            }
            (result, _) => result,
        }
    }

    /// Makes `pieces` part of the upload, completing it if that makes it full.
    async fn keep(
        &self,
        upload: &Upload,
        plan: &WritePlan,
        pieces: &[Piece],
        reached: u64,
        extensions: &Extensions,
    ) -> Result<Outcome, Refusal> {
        let settle = |now: &Upload| write::settle(now, plan, pieces, self.limits(), self.now());
        let (upload, finished) = self.commit(&upload.id, extensions, settle).await?;
        Ok(Outcome::Stored { finished, offset: reached, upload })
    }

    /// Undoes what a write recorded on its way, now that it is refused.
    async fn take_back(
        &self,
        upload: &Upload,
        plan: &WritePlan,
        recorded: &Range<u64>,
        claim: &Claim,
        refusal: &Refusal,
    ) {
        let result = if is_final(refusal) {
            // A completion step that says no for good leaves nothing to resume (D-49).
            self.give_up(upload).await
        } else {
            let changes = write::withdraw(plan, recorded, claim.withdraw());
            let none = Extensions::new();
            self.commit(&upload.id, &none, |_| changes.clone()).await.map(|_| ())
        };
        if let Err(refusal) = result {
            tracing::warn!(id = %upload.id, %refusal, "a refused write was not taken back");
        }
    }

    /// Records `pieces` while the write goes on. Nothing on the way completes an upload.
    pub(super) async fn record(
        &self,
        id: &UploadId,
        plan: &WritePlan,
        pieces: &[Piece],
    ) -> Result<Arc<Upload>, Refusal> {
        let settle = |now: &Upload| write::settle(now, plan, pieces, self.limits(), self.now());
        Ok(self.commit(id, &Extensions::new(), settle).await?.0)
    }
}

/// Whether a completion step said no for good.
pub(super) fn is_final(refusal: &Refusal) -> bool {
    let Refusal::Denied(Denial { kind, .. }) = refusal else {
        return false;
    };
    match kind {
        DenialKind::Unavailable { .. } => false,
        DenialKind::Forbidden
        | DenialKind::Invalid
        | DenialKind::TooLarge
        | DenialKind::Unauthenticated { .. } => true,
    }
}

/// Checks the bytes against the checksum in the head or the trailer, if there is one.
async fn verify_body(
    plan: &WritePlan,
    trailer: Option<Digest>,
    computed: Option<Digest>,
    writer: Option<&mut Box<dyn Writer>>,
) -> Result<(), Refusal> {
    let Some(due) = write::checksum_due(&plan.checksum, trailer)? else {
        return Ok(());
    };
    if computed.is_none() && plan.held != Ranges::new() {
        return Err(Refusal::Unsupported {
            what: "a checksum in the trailer over bytes that are there already",
        });
    }
    let computed = match (computed, writer) {
        (Some(computed), _) => computed,
        (None, None) => due.algorithm.digester().finish(),
        // Which checksum was wanted became known only after the bytes: they are read once more.
        (None, Some(writer)) => Box::pin(read_again(due.algorithm.digester(), writer)).await?,
    };
    write::verify(&due, &computed)
}

async fn read_again(
    mut digester: Digester,
    writer: &mut Box<dyn Writer>,
) -> Result<Digest, Refusal> {
    let failed = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "bytes just written cannot be read");
        Refusal::StoreTrouble
    };
    let mut stream = writer.reread().await.map_err(|error| failed(&error))?;
    while let Some(bytes) = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        digester.update(&bytes.map_err(|error| failed(&error))?);
    }
    Ok(digester.finish())
}
