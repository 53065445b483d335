//! Writes: plan, ingest, settle.

use std::{ops::Range, sync::Arc};

use http::Extensions;

use super::{
    Action, Engine,
    claims::Claim,
    ingest::{Arrived, Ending, Ingest},
    refusal_of,
};
use crate::{
    content::Content,
    rules::{
        Checksum, Denial, DenialKind, NewUpload, Outcome, Refusal, Refused, Target, Write, create,
        write::{self, WritePlan},
    },
    store::Writer,
    upload::{Digest, Digester, Receipt, Upload, UploadId},
};

/// Whether the upload of a write was there before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Created,
    Found,
}

impl Engine {
    pub(super) async fn write(
        &self,
        write: Write,
        content: Content,
        extensions: &Extensions,
    ) -> Result<Outcome, Refused> {
        match &write.target {
            Target::Existing(id) => self.append(id, &write, content, extensions).await,
            Target::New(new) => {
                let new = new.clone();
                self.create(new, &write, content, extensions)
                    .await
                    .map_err(Refused::from)
            }
        }
    }

    async fn append(
        &self,
        id: &UploadId,
        write: &Write,
        content: Content,
        extensions: &Extensions,
    ) -> Result<Outcome, Refused> {
        let upload = self.load(id).await?;
        self.alive(&upload)?;
        self.admit(Action::Write(&upload), extensions).await?;
        let keeps_pieces = write.checksum == Checksum::None;
        let claim = self
            .0
            .claims
            .claim(id, write.at..u64::MAX, keeps_pieces, self.limits())
            .await?;
        let mut upload = self.load(id).await?;
        let written = self
            .write_claimed(&mut upload, write, content, &claim, extensions)
            .await;
        written.map_err(|refusal| Refused {
            expires: upload.expires,
            refusal,
        })
    }

    async fn write_claimed(
        &self,
        upload: &mut Arc<Upload>,
        write: &Write,
        content: Content,
        claim: &Claim,
        extensions: &Extensions,
    ) -> Result<Outcome, Refusal> {
        let plan = write::plan(upload, write, self.limits(), self.now())?;
        if plan.declares_first() {
            *upload = self
                .record(&upload.id, &plan, plan.at..plan.at, Receipt::default())
                .await?;
        }
        let arrived = Ingest::new(self, upload, &plan, claim, content).run().await;
        let result = self
            .conclude(upload, &plan, arrived, claim, extensions, Origin::Found)
            .await;
        if let Ok(Outcome::Stored { upload: stored, .. }) = &result {
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
        content: Content,
        extensions: &Extensions,
    ) -> Result<Outcome, Refusal> {
        self.admit(Action::Create(&mut new), extensions).await?;
        let id = UploadId::random().map_err(|error| {
            tracing::error!(%error, "the system has no randomness to give");
            Refusal::Internal
        })?;
        let (limits, now) = (self.limits(), self.now());
        let mut upload = create::create(new, id, limits, now)?;
        let plan = write::plan(&upload, write, limits, now)?;
        if content.is_end() {
            verify_body(&plan, None, None, None).await?;
            let changes = write::settle(&upload, &plan, &(0..0), Receipt::default(), limits, now);
            upload = upload.after(&changes).map_err(|_| Refusal::Internal)?;
            let finished = if upload.is_complete() {
                self.finish(&upload, extensions).await?
            } else {
                Default::default()
            };
            self.create_record(&upload).await?;
            return Ok(Outcome::Stored {
                finished,
                offset: 0,
                upload: Arc::new(upload),
            });
        }
        self.create_record(&upload).await?;
        let claim = self
            .0
            .claims
            .claim(&upload.id, 0..u64::MAX, plan.keeps_pieces(), limits);
        let result = match claim.await {
            Ok(claim) => {
                let arrived = Ingest::new(self, &upload, &plan, &claim, content)
                    .run()
                    .await;
                self.conclude(&upload, &plan, arrived, &claim, extensions, Origin::Created)
                    .await
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
        self.store()
            .create(upload)
            .await
            .map_err(|error| refusal_of(&upload.id, &error))?;
        tracing::debug!(id = %upload.id, length = upload.length, "created");
        self.tell(upload, &upload.history());
        Ok(())
    }

    /// What follows from a body: bytes kept or dropped, and the answer.
    async fn conclude(
        &self,
        upload: &Upload,
        plan: &WritePlan,
        arrived: Arrived,
        claim: &Claim,
        extensions: &Extensions,
        origin: Origin,
    ) -> Result<Outcome, Refusal> {
        let Arrived {
            computed,
            ending,
            recorded,
            rest,
            trailer,
            mut writer,
        } = arrived;
        let result = match ending {
            Ending::Whole => match verify_body(plan, trailer, computed, writer.as_mut()).await {
                Ok(()) => self.keep(upload, plan, rest, writer, extensions).await,
                Err(refusal) => Err(refusal),
            },
            Ending::Interrupted(refusal) if plan.keeps_pieces() => {
                let kept = self.keep(upload, plan, rest, writer, extensions).await;
                // Of a creation the client gets to know where its upload is, if it can (T-063).
                return match origin {
                    Origin::Created => kept,
                    Origin::Found => kept.and(Err(refusal)),
                };
            }
            // What is recorded stays: the bytes are good, and the client asks how many there are.
            Ending::Failed(refusal) | Ending::Interrupted(refusal) => return Err(refusal),
            Ending::Refused(refusal) => Err(refusal),
        };
        let Err(refusal) = result else { return result };
        if origin == Origin::Found {
            self.take_back(upload, plan, &recorded, claim, &refusal)
                .await;
        }
        Err(refusal)
    }

    /// Makes the `rest` of the bytes part of the upload, completing it if that makes it full.
    async fn keep(
        &self,
        upload: &Upload,
        plan: &WritePlan,
        rest: Range<u64>,
        writer: Option<Box<dyn Writer>>,
        extensions: &Extensions,
    ) -> Result<Outcome, Refusal> {
        let receipt = match writer {
            Some(writer) => writer
                .finish()
                .await
                .map_err(|error| refusal_of(&upload.id, &error))?,
            None => Receipt::default(),
        };
        let settle = |now: &Upload| {
            write::settle(now, plan, &rest, receipt.clone(), self.limits(), self.now())
        };
        let (upload, finished) = self.commit(&upload.id, extensions, settle).await?;
        Ok(Outcome::Stored {
            finished,
            offset: rest.end,
            upload,
        })
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
            self.remove(upload).await
        } else {
            let changes = write::withdraw(plan, recorded, claim.withdraw());
            let none = Extensions::new();
            self.commit(&upload.id, &none, |_| changes.clone())
                .await
                .map(|_| ())
        };
        if let Err(refusal) = result {
            tracing::warn!(id = %upload.id, %refusal, "a refused write was not taken back");
        }
    }

    /// Records what a checkpoint made safe.
    pub(super) async fn checkpoint(
        &self,
        id: &UploadId,
        plan: &WritePlan,
        range: Range<u64>,
        receipt: Receipt,
    ) -> Result<(), Refusal> {
        self.record(id, plan, range, receipt).await.map(|_| ())
    }

    async fn record(
        &self,
        id: &UploadId,
        plan: &WritePlan,
        range: Range<u64>,
        receipt: Receipt,
    ) -> Result<Arc<Upload>, Refusal> {
        let settle = |now: &Upload| {
            write::settle(
                now,
                plan,
                &range,
                receipt.clone(),
                self.limits(),
                self.now(),
            )
        };
        // Nothing that completes is recorded on the way, so no completion step sees this.
        Ok(self.commit(id, &Extensions::new(), settle).await?.0)
    }
}

/// Whether a completion step said no for good.
fn is_final(refusal: &Refusal) -> bool {
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
    let computed = match (computed, writer) {
        (Some(computed), _) => computed,
        (None, None) => due.algorithm.digester().finish(),
        // Which checksum was wanted became known only after the bytes: they are read once more.
        (None, Some(writer)) => read_again(due.algorithm.digester(), writer).await?,
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
