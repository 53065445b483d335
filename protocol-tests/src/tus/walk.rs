//! A seeded walk: requests at random against a model of the contract.

use crate::case::{BOTH, Case};
use crate::content::{bytes, checksum};
use crate::failure::{Verdict, ensure_eq};
use crate::message::{Body, Request};
use crate::site::Site;

pub(super) const CASES: &[Case] = &[Case::must(
    "walk_of_random_requests_follows_the_model",
    &["I-01", "I-02", "I-03", "I-04", "I-10", "D-01", "D-12", "D-16", "D-17", "D-18", "D-20"],
    "hundreds of requests, right and wrong, on many uploads: each status, offset and byte as predicted",
    walk,
)
.needing(&[
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "checksum",
    "concatenation",
    "termination",
])
.under(BOTH)];

/// What the model knows of one upload.
struct Known {
    path: String,
    content: Vec<u8>,
    length: Option<usize>,
    kind: Kind,
    gone: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Partial,
    Final,
}

/// The uploads so far and the source of chance.
struct Walk<'a> {
    site: &'a Site,
    uploads: Vec<Known>,
    dice: u64,
}

fn walk(site: &Site) -> Verdict {
    for seed in [11, 12, 13] {
        let mut walk = Walk { site, uploads: Vec::new(), dice: seed };
        for step in 0..150 {
            walk.step().map_err(|failure| failure.within(format!("seed {seed}, step {step}")))?;
        }
        let all: Vec<usize> = (0..walk.uploads.len()).collect();
        for index in all {
            walk.look(index).map_err(|failure| failure.within(format!("seed {seed}, end")))?;
        }
    }
    Ok(())
}

impl Known {
    fn complete(&self) -> bool {
        self.length == Some(self.content.len())
    }
}

impl Walk<'_> {
    fn roll(&mut self, sides: u64) -> usize {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // A few hundred at most: it fits.
        ((self.dice >> 33) % sides) as usize
    }

    fn step(&mut self) -> Verdict {
        if self.uploads.len() < 4 {
            return self.create();
        }
        let index = self.roll(self.uploads.len() as u64);
        match self.roll(16) {
            0..=1 => self.create(),
            2..=9 => self.patch(index),
            10 => self.delete(index),
            11..=12 => self.join(),
            13 => self.refuse_method(index),
            _ => self.look(index),
        }
    }

    fn create(&mut self) -> Verdict {
        let length = [None, Some(0), Some(700), Some(700)][self.roll(4)];
        let kind = [Kind::Whole, Kind::Partial][self.roll(2)];
        let body = [0, 0, 300, 701][self.roll(4)];
        let content = bytes(body, self.dice);
        let request = match length {
            None => self.site.post().with("Upload-Defer-Length", 1),
            Some(length) => self.site.post().with("Upload-Length", length),
        };
        let partial = kind == Kind::Partial;
        let request = if partial { request.with("Upload-Concat", "partial") } else { request };
        let request = self.framed(request.octets(), &content);
        if length.is_some_and(|length| body > length) {
            self.site.ask(&request)?.is(413)?.lacks("Location")?;
            return Ok(());
        }
        let answer = self.site.ask(&request)?.is(201)?.has("Upload-Offset", body)?;
        let path = self.site.created(&answer)?.path;
        self.uploads.push(Known { path, content, length, kind, gone: false });
        Ok(())
    }

    fn framed(&mut self, request: Request, content: &[u8]) -> Request {
        if self.roll(2) == 0 {
            return request.body(content);
        }
        let pieces: Vec<&[u8]> = content.chunks(97).collect();
        request.chunked(&pieces)
    }

    fn patch(&mut self, index: usize) -> Verdict {
        let at = self.uploads[index].content.len();
        let offset = [at, at, at, at, at + 1, at / 2][self.roll(6)];
        let body = [0, 1, 97, 350, 701][self.roll(5)];
        let declared =
            [None, None, None, Some(at), Some(at + body), Some(700), Some(3)][self.roll(7)];
        let sum = self.roll(6);
        let content = bytes(body, self.dice);

        let request = Request::patch(&self.uploads[index].path, offset as u64);
        let request = declared.iter().fold(request, |r, length| r.with("Upload-Length", length));
        let request = match sum {
            0 => request.with("Upload-Checksum", checksum("sha1", &content)),
            1 => request.with("Upload-Checksum", checksum("md5", b"something else")),
            2 => request.with("Upload-Checksum", "sha1 ?"),
            _ => request,
        };
        let request = self.framed(request, &content);
        let is_chunked = matches!(request.body, Body::Chunked(..));
        let status = expected(&self.uploads[index], offset, body, declared, sum);
        let answer = self.site.ask(&request)?.is(status)?;
        let known = &mut self.uploads[index];
        if status == 204 {
            known.content.extend(content);
            known.length = known.length.or(declared);
            answer.has("Upload-Offset", known.content.len())?;
        } else if status == 413 && is_chunked && sum > 2 && declared > Some(at) {
            // The head was right, and that the body is not was seen too late to matter (D-18).
            known.length = known.length.or(declared);
        }
        self.look(index)
    }

    fn delete(&mut self, index: usize) -> Verdict {
        let known = &mut self.uploads[index];
        let status = if known.gone { 404 } else { 204 };
        known.gone = true;
        let request = Request::tus("DELETE", &known.path);
        self.site.ask(&request)?.is(status)?;
        Ok(())
    }

    fn join(&mut self) -> Verdict {
        let usable = |known: &Known| known.kind == Kind::Partial && known.complete() && !known.gone;
        let parts: Vec<usize> =
            (0..self.uploads.len()).filter(|n| usable(&self.uploads[*n])).collect();
        let mut chosen = Vec::new();
        while !parts.is_empty() && chosen.len() < 3 {
            chosen.push(parts[self.roll(parts.len() as u64)]);
        }
        // Sometimes one more that may not be joined: then its own fault is the answer.
        let other = self.roll(self.uploads.len() as u64);
        let mut status = 201;
        if self.roll(3) == 0 || chosen.is_empty() {
            chosen.push(other);
            let known = &self.uploads[other];
            let gone = if known.gone { 404 } else { 400 };
            status = if usable(known) { 201 } else { gone };
        }
        let list =
            chosen.iter().map(|n| self.uploads[*n].path.as_str()).collect::<Vec<_>>().join(" ");
        let request = self.site.post().with("Upload-Concat", format!("final;{list}")).body(b"");
        let answer = self.site.ask(&request)?.is(status)?;
        if status == 201 {
            let content: Vec<u8> =
                chosen.iter().flat_map(|n| self.uploads[*n].content.clone()).collect();
            let path = self.site.created(&answer.has("Upload-Offset", content.len())?)?.path;
            let length = Some(content.len());
            self.uploads.push(Known { path, content, length, kind: Kind::Final, gone: false });
        }
        Ok(())
    }

    fn refuse_method(&mut self, index: usize) -> Verdict {
        let method = ["PUT", "POST", "LOCK"][self.roll(3)];
        let request = Request::patch(&self.uploads[index].path, 0).method(method).body(b"");
        self.site.ask(&request)?.is(405)?;
        Ok(())
    }

    /// Compares an upload with the model.
    fn look(&mut self, index: usize) -> Verdict {
        let known = &self.uploads[index];
        let upload = self.site.upload(&known.path);
        let readable = known.complete() && known.kind != Kind::Partial && !known.gone;
        let answer = upload.get()?.is(if readable { 200 } else { 404 })?;
        if readable {
            answer.has_body(&known.content)?;
        }
        if known.gone {
            upload.head()?.is(404)?;
            return Ok(());
        }
        let state = upload.state()?;
        let (offset, length) = (Some(known.content.len() as u64), known.length.map(|n| n as u64));
        ensure_eq("offset and length", (state.offset, state.length), (offset, length))?;
        ensure_eq("the deferral", state.deferred.is_some(), length.is_none())
    }
}

/// The status that the contract demands, in the order of its checks.
fn expected(known: &Known, offset: usize, body: usize, declared: Option<usize>, sum: usize) -> u16 {
    let at = known.content.len();
    let length = known.length.or(declared);
    if sum == 2 {
        400
    } else if known.gone {
        404
    } else if known.kind == Kind::Final {
        403
    } else if offset != at {
        409
    } else if declared
        .is_some_and(|declared| declared < at || known.length.is_some_and(|l| l != declared))
    {
        400
    } else if length.is_some_and(|length| at + body > length) {
        413
    } else if sum == 1 {
        460
    } else {
        204
    }
}

/// Keeps the walk honest: the model must see every kind of answer.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[test]
    fn model_answers_in_the_order_of_checks() -> Result<(), Failure> {
        let known = Known {
            path: String::new(),
            content: vec![0; 5],
            length: Some(10),
            kind: Kind::Whole,
            gone: false,
        };
        let table = [
            ((5, 5, None, 9), 204),
            ((5, 6, None, 9), 413),
            ((4, 6, Some(3), 9), 409),
            ((5, 6, Some(11), 9), 400),
            ((5, 5, Some(10), 1), 460),
            ((4, 5, None, 2), 400),
        ];
        for ((offset, body, declared, sum), status) in table {
            ensure_eq("the status", expected(&known, offset, body, declared, sum), status)?;
        }
        Ok(())
    }
}
