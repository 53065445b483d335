//! A request becomes an intent. What the head says is judged before a byte of the body is asked for
//! (P-122).

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{Method, request::Parts};

use super::{
    CHUNK_WAIT, DrfExchange,
    fields::{BodyKind, CHECKSUM, FILENAME, Fields},
};
use crate::{
    content::{Content, Trailer},
    fields::content_range,
    rules::{
        At, Checksum, Finish, Intent, NewUpload, Refusal, Subject, Target, Write,
        create::check_length,
    },
    upload::{Completion, IdForm, Limits, Metadata, Role, UploadId},
    wire::{
        check_uncoded,
        form::{Check, Form, Part, Shape},
        mount::Resource,
    },
};

/// Why a request has no intent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The file has no byte.
    EmptyFile,
    /// The checksum that completes an upload is not there.
    MissingChecksum,
    /// The resource does not have the method.
    NotAllowed,
    /// There is nothing at this path.
    NotFound,
    /// It asks what it may do.
    Options,
    /// The range passes the total that it gives.
    PastTotal {
        /// The total in bytes.
        total: u64,
    },
    /// It breaks a rule of all dialects.
    Refused(Refusal),
    /// `Content-Range` is missing or malformed.
    UnusableRange,
    /// The form has no file.
    WithoutFile,
    /// The body is of another kind.
    WrongMediaType {
        /// What it is, as the client says.
        given: String,
    },
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

type Read = Result<(Intent, Content), Rejection>;

/// Returns what the request of `exchange` wants, and the part of `content` that goes with it.
pub(super) async fn read(
    exchange: &DrfExchange,
    head: &Parts,
    content: Content,
    limits: &Limits,
) -> Read {
    // On every path (P-007).
    if head.method == Method::OPTIONS {
        return Err(Rejection::Options);
    }
    let owner = || exchange.owner.clone();
    let resource = exchange.config.locations.mount.resource(head.uri.path());
    match (&head.method, resource.ok_or(Rejection::NotFound)?) {
        (&Method::GET | &Method::HEAD, Resource::Collection) => {
            if owner().is_none() && !exchange.config.is_list_open {
                return Err(Rejection::NotFound);
            }
            Ok((Intent::List { owner: owner() }, content.ignored()))
        }
        (&Method::GET | &Method::HEAD, Resource::Upload(id)) => {
            Ok((Intent::Status { of: Subject::Owned(id, owner()) }, content.ignored()))
        }
        (&Method::POST, Resource::Collection) => exchange.whole_file(head, content).await,
        (&Method::POST, Resource::Upload(id)) => exchange.finish(head, id, content).await,
        (&Method::PUT, Resource::Collection) => exchange.chunk(head, None, content, limits).await,
        (&Method::PUT, Resource::Upload(id)) => {
            exchange.chunk(head, Some(id), content, limits).await
        }
        (&Method::DELETE, Resource::Upload(id)) if exchange.config.removes => {
            Ok((Intent::Terminate { of: Subject::Owned(id, owner()) }, content.ignored()))
        }
        (_, Resource::Collection | Resource::Upload(_)) => Err(Rejection::NotAllowed),
    }
}

/// A form at its file.
struct AtFile {
    fields: Fields,
    form: Form,
    part: Part,
}

impl DrfExchange {
    /// `PUT`: one chunk of an upload, or the first one of a new upload (P-001, P-002).
    async fn chunk(
        &self,
        head: &Parts,
        id: Option<UploadId>,
        content: Content,
        limits: &Limits,
    ) -> Read {
        let kind = body_kind(head)?;
        let given = content_range::decode(&head.headers).map_err(|_| Rejection::UnusableRange)?;
        let (range, total) = (given.range, given.total);
        if range.end > total {
            return Err(Rejection::PastTotal { total });
        }
        check_length(total, limits)?;
        let creates = id.is_none();
        if creates && range.start > 0 {
            return Err(Refusal::OffsetMismatch { expected: 0, given: range.start }.into());
        }
        let AtFile { fields, form, part } = self.file(kind, content).await?;
        let named = fields.has(FILENAME);
        let target = match id {
            Some(id) => Target::Owned(id, self.owner.clone()),
            None => {
                let metadata = if named { fields.metadata()? } else { Metadata::default() };
                Target::New(self.new_upload(metadata, Some(total)))
            }
        };
        let bytes = range.end.saturating_sub(range.start);
        let late = LateFields::new(fields);
        let content = form.payload(part, Shape::Measured(bytes), late.check());
        let content = if creates && !named {
            // The name may follow the chunk (P-014).
            content.with_end(Box::new(move || {
                Ok(Trailer { metadata: Some(late.lock().metadata()?), ..Trailer::default() })
            }))
        } else {
            content
        };
        Ok((self.write(target, Some(range), Some(total)), content))
    }

    /// `POST` to the collection: a whole file and its checksum (P-004).
    async fn whole_file(&self, head: &Parts, content: Content) -> Read {
        let AtFile { fields, form, part } = self.file(body_kind(head)?, content).await?;
        let algorithm = self.config.checksum;
        let late = LateFields::new(fields);
        let mut content = form.payload(part, Shape::Delimited, late.check());
        if content.is_empty().await.map_err(|_| Refusal::Abandoned)? {
            return Err(Rejection::EmptyFile);
        }
        let content = content.with_end(Box::new(move || {
            let fields = late.lock();
            let metadata = Some(fields.metadata()?);
            match fields.checksum(algorithm)? {
                None => Err(Refusal::malformed(CHECKSUM, "missing")),
                checksum => Ok(Trailer { checksum, metadata }),
            }
        }));
        let target = Target::New(self.new_upload(Metadata::default(), None));
        Ok((self.write(target, None, None), content))
    }

    /// `POST` to an upload: the checksum that completes it (P-003).
    async fn finish(&self, head: &Parts, id: UploadId, content: Content) -> Read {
        let fields = Fields::read(content, &body_kind(head)?).await?;
        let checksum = fields.checksum(self.config.checksum)?;
        let checksum = Some(checksum.ok_or(Rejection::MissingChecksum)?);
        let of = Subject::Owned(id, self.owner.clone());
        Ok((Intent::Finish(Finish { checksum, of, wait: CHUNK_WAIT }), Content::empty()))
    }

    /// Reads a form up to its file.
    async fn file(&self, kind: BodyKind, content: Content) -> Result<AtFile, Rejection> {
        let BodyKind::Form(boundary) = kind else {
            return Err(Rejection::WithoutFile);
        };
        let mut form = Form::new(content, &boundary);
        let mut fields = Fields::default();
        while let Some(part) = form.next_part().await? {
            if part.name == self.config.field_name {
                if !part.is_file() {
                    break;
                }
                return Ok(AtFile { fields, form, part });
            }
            let value = form.value().await?;
            fields.set(part.name, value);
        }
        Err(Rejection::WithoutFile)
    }

    fn new_upload(&self, metadata: Metadata, length: Option<u64>) -> NewUpload {
        NewUpload {
            completion: Completion::OnRequest,
            id_form: IdForm::Uuid,
            length,
            metadata,
            owner: self.owner.clone(),
            role: Role::Whole,
            ..NewUpload::default()
        }
    }

    /// A write of the bytes in `range`, or of a whole file.
    fn write(&self, target: Target, range: Option<Range<u64>>, length: Option<u64>) -> Intent {
        let is_whole_file = range.is_none();
        Intent::Write(Write {
            checksum: if is_whole_file { Checksum::Trailing } else { Checksum::None },
            completes: is_whole_file,
            digest: Some(self.config.checksum),
            length,
            ..Write::new(target, range.map_or(At::Offset(0), At::Next), CHUNK_WAIT)
        })
    }
}

fn body_kind(head: &Parts) -> Result<BodyKind, Rejection> {
    check_uncoded(&head.headers)?;
    BodyKind::of(&head.headers)
}

/// The fields of a form, to which those are added that follow its file.
#[derive(Clone)]
struct LateFields(Arc<Mutex<Fields>>);

impl LateFields {
    fn new(fields: Fields) -> Self {
        Self(Arc::new(Mutex::new(fields)))
    }

    /// Keeps the fields that follow the file.
    fn check(&self) -> Check {
        let late = self.clone();
        Box::new(move |part, value| {
            late.lock().set(part.name.clone(), value);
            Ok(())
        })
    }

    fn lock(&self) -> MutexGuard<'_, Fields> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
