//! One upload under test, with the checks that every scenario ends with.

use std::time::{Duration, Instant};

use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::message::{Request, Response};
use crate::site::Site;

/// An upload by its path.
#[derive(Clone, Debug)]
pub struct Upload<'a> {
    /// The collection it lives in.
    pub site: &'a Site,
    /// Its path on the server.
    pub path: String,
}

/// Everything that HEAD shows of an upload; equality is "nothing changed" (I-03).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// `Upload-Offset`.
    pub offset: Option<u64>,
    /// `Upload-Length`.
    pub length: Option<u64>,
    /// `Upload-Defer-Length`.
    pub deferred: Option<String>,
    /// `Upload-Metadata`.
    pub metadata: Option<String>,
    /// `Upload-Concat`.
    pub concat: Option<String>,
    /// `Upload-Expires`.
    pub expires: Option<String>,
}

impl Upload<'_> {
    /// The last path segment.
    pub fn id(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// A request on the upload with a version and no other field.
    pub fn request(&self, method: &str) -> Request {
        Request::tus(method, &self.path)
    }

    /// A PATCH at this offset, still without a body.
    pub fn patch_at(&self, offset: u64) -> Request {
        Request::patch(&self.path, offset)
    }

    /// Sends bytes at this offset.
    pub fn patch(&self, offset: u64, bytes: &[u8]) -> Result<Response, Failure> {
        self.site.ask(&self.patch_at(offset).body(bytes))
    }

    /// Asks HEAD.
    pub fn head(&self) -> Result<Response, Failure> {
        self.site.ask(&self.request("HEAD"))
    }

    /// Asks GET.
    pub fn get(&self) -> Result<Response, Failure> {
        self.site.ask(&Request::plain("GET", &self.path))
    }

    /// Asks DELETE.
    pub fn delete(&self) -> Result<Response, Failure> {
        self.site.ask(&self.request("DELETE"))
    }

    /// What a successful HEAD shows.
    #[track_caller]
    pub fn state(&self) -> Result<State, Failure> {
        let head = self.head()?.is_one_of(&[200, 204])?;
        let text = |name| head.field(name).map(str::to_owned);
        Ok(State {
            offset: head.number("Upload-Offset"),
            length: head.number("Upload-Length"),
            deferred: text("Upload-Defer-Length"),
            metadata: text("Upload-Metadata"),
            concat: text("Upload-Concat"),
            expires: text("Upload-Expires"),
        })
    }

    /// The offset that HEAD shows.
    #[track_caller]
    pub fn offset(&self) -> Result<u64, Failure> {
        let offset = self.state()?.offset;
        offset.ok_or_else(|| Failure::new(format!("HEAD {} has no Upload-Offset", self.path)))
    }

    /// Expects HEAD to show this offset now.
    #[track_caller]
    pub fn stands_at(&self, offset: u64) -> Verdict {
        ensure_eq("the offset on HEAD", self.offset()?, offset)
    }

    /// Expects HEAD to show this offset, which may take the server a moment to notice.
    #[track_caller]
    pub fn reaches(&self, offset: u64, wait: Duration) -> Verdict {
        let deadline = Instant::now() + wait;
        loop {
            let found = self.offset()?;
            if found == offset {
                return Ok(());
            }
            let message = format!("HEAD shows {found} after {wait:?}, expected {offset}");
            ensure(found < offset && Instant::now() < deadline, message)?;
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a request that must be refused with one of these statuses and change nothing (I-03).
    #[track_caller]
    pub fn refuses(&self, request: &Request, statuses: &[u16]) -> Result<Response, Failure> {
        let before = self.state()?;
        let response = self.site.ask(request)?.is_one_of(statuses)?;
        ensure_eq("the upload after a refusal", self.state()?, before)?;
        Ok(response)
    }

    /// Expects HEAD, PATCH and GET to know nothing of the upload any more.
    #[track_caller]
    pub fn is_gone(&self, status: u16) -> Verdict {
        self.head()?.is(status)?.lacks("Upload-Offset")?.lacks("Upload-Length")?;
        self.patch(0, b"x")?.is(status)?;
        self.get()?.is(status)?;
        Ok(())
    }

    /// Expects the upload to have expired: HEAD begins anew, all else is told what became of it.
    #[track_caller]
    pub fn is_expired(&self) -> Verdict {
        self.head()?.is(404)?.lacks("Upload-Offset")?.lacks("Upload-Length")?;
        self.patch(0, b"x")?.is(410)?.has_code("ERR_UPLOAD_EXPIRED")?;
        self.get()?.is(410)?.has_code("ERR_UPLOAD_EXPIRED")?;
        Ok(())
    }

    /// Expects the upload to be complete with exactly this content (I-01).
    #[track_caller]
    pub fn reads_back(&self, content: &[u8]) -> Verdict {
        let state = self.state()?;
        let length = content.len() as u64;
        ensure_eq("offset and length", (state.offset, state.length), (Some(length), Some(length)))?;
        self.get()?.is(200)?.has_body(content)?;
        Ok(())
    }

    /// Sends what is missing from HEAD's offset on and reads the whole back: what stood below
    /// the offset was right (I-01).
    #[track_caller]
    pub fn completes_with(&self, content: &[u8]) -> Verdict {
        let offset = self.offset()?;
        let at = usize::try_from(offset).map_err(Failure::new)?;
        ensure(at <= content.len(), format!("HEAD shows {offset} of {}", content.len()))?;
        let deferred = self.state()?.length.is_none();
        if at < content.len() || deferred {
            let request = self.patch_at(offset).body(&content[at..]);
            let length = content.len();
            let request = if deferred { request.with("Upload-Length", length) } else { request };
            self.site.ask(&request)?.is(204)?.has("Upload-Offset", length)?;
        }
        self.reads_back(content)
    }
}
