//! Writes by a client's own name: found or begun, and their answers delayed until they are alone.

use std::{sync::Arc, time::Duration};

use http::Extensions;
use tokio::time::{Instant, timeout};

use super::{
    Action, Engine,
    records::{Leaves, refusal_of},
    writers::Kind,
};
use crate::{
    content::Content,
    rules::{
        At, Finished, NewUpload, Outcome, Refusal, Refused, Write,
        keyed::{self, Choice, Circumstances, KeyedWrite},
        lifecycle, write,
    },
    upload::{Key, Upload, UploadId},
};

/// A session that another process begins is looked for so often.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The upload of a write by name.
struct Found {
    /// Whether other bytes than the upload has begin a new one.
    compares: bool,
    /// What the application adds to the answer, if the creation has completed the upload.
    finished: Finished,
    /// Whether the write has made it.
    is_new: bool,
    upload: Arc<Upload>,
}

impl Found {
    fn existing(upload: Arc<Upload>, compares: bool) -> Self {
        Self { compares, finished: Finished::default(), is_new: false, upload }
    }
}

impl Engine {
    /// Writes to the upload that `key` leads to, or to a new one.
    pub(super) async fn write_keyed(
        &self,
        key: &Key,
        new: &NewUpload,
        write: &Write,
        content: &mut Content,
        extensions: &Extensions,
    ) -> Result<Outcome, Refused> {
        let new = NewUpload { key: Some(key.clone()), ..new.clone() };
        // The complete upload that has other bytes than this write brings.
        let mut other: Option<UploadId> = None;
        loop {
            let found =
                self.find_or_begin(key, &new, write, other.as_ref(), content, extensions).await?;
            let (upload, compares, is_new) =
                (Arc::clone(&found.upload), found.compares, found.is_new);
            match self.write_found(found, write, content, extensions).await {
                Ok(outcome) => {
                    let delay = write.answer_when_alone;
                    return Ok(self.answered_alone(outcome, delay, content).await?);
                }
                // Its first request was refused, and took it away again.
                Err(Refusal::Unknown) if !is_new && content.taken_bytes() == 0 => {}
                Err(Refusal::ContentConflict { .. }) if compares => {
                    self.replay(&upload, content).await?;
                    other = Some(upload.id.clone());
                }
                Err(refusal) => {
                    let id = upload.id.clone();
                    if is_new {
                        self.remove_unused(upload).await;
                    }
                    return Err(self.refused(&id, refusal).await);
                }
            }
        }
    }

    /// Writes to the upload that was found.
    async fn write_found(
        &self,
        found: Found,
        write: &Write,
        content: &mut Content,
        extensions: &Extensions,
    ) -> Result<Outcome, Refusal> {
        let Found { mut finished, is_new, mut upload, .. } = found;
        if !is_new {
            self.admit(Action::Write(&upload), extensions).await?;
        }
        if matches!(write.at, At::Offset(_)) {
            if !is_new {
                // A creation that finds its upload made already continues it (J-054), so the
                // request that has made it does not remove it any more.
                let due = |now: &Upload| {
                    write::plan(now, write, self.limits(), self.now())?;
                    Ok(lifecycle::shared(now, self.limits(), self.now()).into_iter().collect())
                };
                (upload, _) = self.0.records.commit(upload, extensions, due).await?;
            }
            if content.is_end() {
                let offset = upload.offset();
                return Ok(Outcome::Written { finished, changed: is_new, offset, upload });
            }
        }
        let reservation = content.while_present(self.reserve(&upload.id, write)).await?;
        let upload = self.load(&upload.id).await?;
        let written = self.write_reserved(upload, write, content, &reservation, extensions).await?;
        let mut outcome = written.whole()?;
        if let Outcome::Written { finished: now, changed, .. } = &mut outcome {
            now.headers.append(&mut finished.headers);
            *changed |= is_new;
        }
        Ok(outcome)
    }

    /// Whether an upload that is made now begins a session of `key`. Should another one come first,
    /// it is as if that one had come later, and joined this one.
    pub(super) async fn begins(
        &self,
        key: &Key,
        new: &NewUpload,
        write: &Write,
    ) -> Result<bool, Refusal> {
        let length = new.length.unwrap_or_default();
        let keyed_write = KeyedWrite { begins: true, has_bytes: false, length };
        let current = self.0.records.by_key(key).await?;
        let choice = self.choose(current.as_deref(), keyed_write, Instant::now(), write);
        Ok(choice == Choice::Begin)
    }

    /// The upload that a write by name means, made if it begins a session.
    async fn find_or_begin(
        &self,
        key: &Key,
        new: &NewUpload,
        write: &Write,
        other: Option<&UploadId>,
        content: &mut Content,
        extensions: &Extensions,
    ) -> Result<Found, Refusal> {
        let length = new.length.unwrap_or_default();
        let keyed_write = match &write.at {
            At::Offset(at) => {
                let has_bytes = length == 0 || !content.is_end();
                KeyedWrite { begins: *at == 0, has_bytes, length }
            }
            At::Next(range) | At::Range(range) => {
                KeyedWrite { begins: range.start == 0, has_bytes: true, length }
            }
        };
        let started = Instant::now();
        loop {
            let mut begun = std::pin::pin!(self.0.begun.notified());
            begun.as_mut().enable();
            let current = self.0.records.by_key(key).await?;
            let choice = self.choose(current.as_deref(), keyed_write, started, write);
            match (choice, current) {
                (Choice::Compare, Some(upload)) if other != Some(&upload.id) => {
                    return Ok(Found::existing(upload, true));
                }
                (Choice::Continue, Some(upload)) => return Ok(Found::existing(upload, false)),
                (Choice::Refuse(refusal), _) => return Err(refusal),
                (Choice::Wait, _) => {
                    let look = async { Ok(timeout(LOOK_INTERVAL, begun).await.is_ok()) };
                    content.while_present(look).await?;
                }
                (Choice::Begin | Choice::Compare | Choice::Continue, current) => {
                    let current = current.as_deref();
                    let begun = self.begin(key, new, write, current, content, extensions).await?;
                    // Otherwise another first chunk was quicker (J-026).
                    if let Some(found) = begun {
                        return Ok(found);
                    }
                }
            }
        }
    }

    fn choose(
        &self,
        current: Option<&Upload>,
        keyed_write: KeyedWrite,
        started: Instant,
        write: &Write,
    ) -> Choice {
        let writers = &self.0.writers;
        let is_written = current.is_some_and(|upload| writers.is_written(&upload.id));
        // While another request compares the first bytes, a session may be about to begin.
        let may_begin = current.is_some_and(|upload| writers.is_begun(&upload.id));
        let patience = match may_begin {
            true => write.wait.at_most.max(self.limits().reopen_wait),
            false => self.limits().reopen_wait,
        };
        let has_waited = started.elapsed() >= patience;
        let circumstances = Circumstances { has_waited, is_written };
        keyed::choose(current, keyed_write, circumstances, self.limits(), self.now())
    }

    /// Makes a new upload to which its key leads from then on, unless that has changed.
    async fn begin(
        &self,
        key: &Key,
        new: &NewUpload,
        write: &Write,
        predecessor: Option<&Upload>,
        content: &mut Content,
        extensions: &Extensions,
    ) -> Result<Option<Found>, Refusal> {
        let mut new = new.clone();
        self.admit(Action::Create(&mut new), extensions).await?;
        let predecessor = predecessor.map(|upload| &upload.id);
        // One after the other, so that the completion step of an empty upload does not run twice.
        let _reservation =
            self.0.writers.reserve(&key.to_id(), 0..1, Kind::Guard, write.wait).await?;
        let current = self.0.records.by_key(key).await?;
        if current.as_deref().map(|upload| &upload.id) != predecessor {
            return Ok(None);
        }
        // A request that cannot be done makes nothing (S-009).
        let (upload, plan) = self.planned(new, write)?;
        let (upload, finished) = match upload.is_full() {
            true => self.finish_empty(upload, &plan, content, extensions).await?,
            false => (upload, Finished::default()),
        };
        if !self.0.records.create(&upload, predecessor).await? {
            return Ok(None);
        }
        self.0.begun.notify_waiters();
        content.report(&upload);
        let upload = Arc::new(upload);
        Ok(Some(Found { compares: false, finished, is_new: true, upload }))
    }

    /// Has the bytes that `content` has given come once more: they are equal to those of `upload`.
    async fn replay(&self, upload: &Upload, content: &mut Content) -> Result<(), Refusal> {
        let taken = 0..content.taken_bytes();
        let stream = self.store().read(upload, taken).await;
        let stream = stream.map_err(|error| refusal_of(&upload.id, &error))?;
        content.replay(stream.into_inner());
        Ok(())
    }

    /// Delays the answer to a chunk while the last other chunks are on their way, so that whichever
    /// answer is read last says complete (J-033).
    async fn answered_alone(
        &self,
        mut outcome: Outcome,
        delay: Duration,
        content: &mut Content,
    ) -> Result<Outcome, Refusal> {
        let deadline = Instant::now() + delay;
        while let Outcome::Written { upload, .. } = &mut outcome {
            let length = upload.length.unwrap_or(u64::MAX);
            let gaps = upload.received.gaps(&(0..length));
            if gaps.is_empty() {
                break;
            }
            let writers = &self.0.writers;
            let released = async { Ok(writers.one_released(&upload.id, &gaps, deadline).await) };
            let is_released = content.while_present(released).await?;
            // What was stored stays stored, if the upload is removed meanwhile as well.
            let current = match self.load(&upload.id).await {
                Ok(current) if !current.is_void() => current,
                Ok(_) | Err(_) => break,
            };
            // A gap without a writer may have been closed since it was looked for.
            let is_longer = current.received != upload.received;
            *upload = current;
            if !is_released && (!is_longer || Instant::now() >= deadline) {
                break;
            }
        }
        Ok(outcome)
    }

    /// Takes away an upload whose first request was refused, if no other has joined it.
    async fn remove_unused(&self, upload: Arc<Upload>) {
        let id = upload.id.clone();
        let Some(_reservation) = self.0.writers.reserve_idle(&id) else {
            return;
        };
        let is_unused = |now: &Upload| Ok(lifecycle::is_unused(now));
        let removed = self.0.records.end_while(upload, Leaves::Nothing, is_unused).await;
        if let Err(refusal) = removed {
            tracing::warn!(%id, %refusal, "a refused upload was left behind");
        }
    }
}
