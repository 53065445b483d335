//! What one connection does in each kind of load.

use std::{cell::RefCell, fmt::Display};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha1::{Digest as _, Sha1};

use crate::{
    http::{Answer, Request},
    load::{Script, pattern},
};

/// One upload in PATCHes of equal size.
#[derive(Debug)]
pub(crate) struct Patches {
    path: String,
    offset: u64,
    length: u64,
    chunk_bytes: u64,
    checksum: Option<String>,
}

impl Patches {
    /// `length` bytes into the upload at `path`.
    pub(crate) fn new(path: String, length: u64, chunk_bytes: u64) -> Self {
        Self { path, offset: 0, length, chunk_bytes, checksum: None }
    }

    /// The same, each PATCH with its SHA-1. All have the same content.
    pub(crate) fn with_sha1(mut self) -> Self {
        let mut digest = Sha1::new();
        let pattern = pattern();
        let mut left = self.chunk_bytes;
        while left > 0 {
            let some = pattern.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            digest.update(&pattern[..some]);
            left -= some as u64;
        }
        self.checksum = Some(BASE64_STANDARD.encode(digest.finalize()));
        self
    }
}

impl Script for Patches {
    fn next(
        &mut self,
        last: Option<&Answer>,
        request: &mut Request,
        _: bool,
    ) -> Result<bool, String> {
        if let Some(answer) = last {
            answer.expect(204)?;
        }
        let payload_bytes = self.chunk_bytes.min(self.length - self.offset);
        if payload_bytes == 0 {
            return Ok(false);
        }
        request.begin("PATCH", &self.path).tus().field("Upload-Offset", self.offset);
        if let Some(checksum) = &self.checksum {
            request.field("Upload-Checksum", format_args!("sha1 {checksum}"));
        }
        request.data(payload_bytes);
        self.offset += payload_bytes;
        Ok(true)
    }
}

/// Small uploads one after another: a creation and one PATCH each.
#[derive(Debug)]
pub(crate) struct CreateThenPatch {
    pub(crate) at: &'static str,
    pub(crate) bytes: u64,
    /// Whether the last answer was to a creation.
    created: bool,
}

impl CreateThenPatch {
    /// Uploads of `bytes`, created at `at`.
    pub(crate) fn new(at: &'static str, bytes: u64) -> Self {
        Self { at, bytes, created: false }
    }
}

impl Script for CreateThenPatch {
    fn next(
        &mut self,
        last: Option<&Answer>,
        request: &mut Request,
        over: bool,
    ) -> Result<bool, String> {
        if self.created {
            self.created = false;
            let path = last.ok_or("no answer")?.created()?;
            request.begin("PATCH", path).tus().field("Upload-Offset", 0).data(self.bytes);
            return Ok(true);
        }
        if let Some(answer) = last {
            answer.expect(204)?;
        }
        if over {
            return Ok(false);
        }
        self.created = true;
        request.begin("POST", self.at).within_unit().tus().field("Upload-Length", self.bytes);
        request.field("Content-Length", 0).end();
        Ok(true)
    }
}

/// Small uploads one after another, each in one request.
#[derive(Debug)]
pub(crate) struct CreateWithUpload {
    pub(crate) at: &'static str,
    pub(crate) bytes: u64,
}

impl Script for CreateWithUpload {
    fn next(
        &mut self,
        last: Option<&Answer>,
        request: &mut Request,
        over: bool,
    ) -> Result<bool, String> {
        if let Some(answer) = last {
            answer.created()?;
        }
        request.begin("POST", self.at).tus().field("Upload-Length", self.bytes).data(self.bytes);
        Ok(!over)
    }
}

/// HEADs of uploads one after another.
pub(crate) struct Heads<F> {
    /// The path of the next one.
    pub(crate) path: F,
}

impl<F: FnMut() -> String> Script for Heads<F> {
    fn next(
        &mut self,
        last: Option<&Answer>,
        request: &mut Request,
        over: bool,
    ) -> Result<bool, String> {
        if let Some(answer) = last {
            answer.expect(200)?;
        }
        request.begin("HEAD", &(self.path)()).tus().end();
        Ok(!over)
    }
}

/// The chunks of a ResumableJS upload, which several connections take from one list.
#[derive(Debug)]
pub(crate) struct Chunks<'a> {
    /// Numbers of chunks that nobody has sent yet, from one.
    pub(crate) left: &'a RefCell<Vec<u64>>,
    pub(crate) chunk_bytes: u64,
    pub(crate) total_bytes: u64,
}

impl Script for Chunks<'_> {
    fn next(
        &mut self,
        last: Option<&Answer>,
        request: &mut Request,
        _: bool,
    ) -> Result<bool, String> {
        if let Some(answer) = last {
            answer.expect(200)?;
        }
        let Some(number) = self.left.borrow_mut().pop() else {
            return Ok(false);
        };
        let (identifier, name) = (format!("{}-benchbin", self.total_bytes), "bench.bin");
        let chunks = self.total_bytes / self.chunk_bytes;
        // In the order and to the letter of resumable.js.
        let fields: [(&str, &dyn Display); 9] = [
            ("resumableChunkNumber", &number),
            ("resumableChunkSize", &self.chunk_bytes),
            ("resumableCurrentChunkSize", &self.chunk_bytes),
            ("resumableTotalSize", &self.total_bytes),
            ("resumableType", &"application/octet-stream"),
            ("resumableIdentifier", &identifier),
            ("resumableFilename", &name),
            ("resumableRelativePath", &name),
            ("resumableTotalChunks", &chunks),
        ];
        request.begin("POST", "/resumable").form(&fields, self.chunk_bytes);
        Ok(true)
    }
}
