//! Memory: bodies are streamed, whatever a client announces.

use crate::case::{Case, OWN};
use crate::failure::{Failure, Verdict, ensure};
use crate::message::Request;
use crate::site::{Own, Site};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "memory_stays_small_during_a_large_body",
        &["I-11", "T-020"],
        "256 MiB in one PATCH, sized and chunked, and their download cost no memory to speak of",
        large_body,
    )
    .under(OWN)
    .waiting(),
    Case::must(
        "memory_is_not_reserved_for_what_is_announced",
        &["I-11", "T-020"],
        "a hundred PATCHes that announce a terabyte each and send a byte",
        announced,
    )
    .under(OWN),
    Case::ours(
        "memory_is_given_back_after_aborts",
        &["F-21", "I-11"],
        "a thousand more aborts after a thousand do not grow the server",
        aborts,
    )
    .under(OWN)
    .waiting(),
];

/// Room for buffers, threads and the allocator's habits.
const SMALL: u64 = 64 << 20;

fn peak(own: &Own) -> Result<u64, Failure> {
    own.process.peak_memory_bytes().ok_or_else(|| Failure::new("no VmHWM in /proc: needs Linux"))
}

fn grew_little(own: &Own, before: u64) -> Verdict {
    let after = peak(own)?;
    ensure(after < before + SMALL, format!("memory went from {before} to {after} bytes"))
}

fn large_body(site: &Site) -> Verdict {
    const PIECES: u64 = 256;
    let own = site.launch(&["--durability", "relaxed"])?;
    own.site.create_complete(b"warm")?;
    let before = peak(&own)?;
    let piece = crate::content::bytes(1 << 20, 75);
    let length = PIECES << 20;
    for chunked in [false, true] {
        let upload = own.site.create(length)?;
        let mut link = own.site.connect()?;
        let request = upload.patch_at(0);
        if chunked {
            link.send_head(&request.chunked(&[]))?;
        } else {
            link.send_head(&request.with("Content-Length", length))?;
        }
        for _ in 0..PIECES {
            if chunked { link.raw.send_chunk(&piece)? } else { link.raw.send(&piece)? }
        }
        if chunked {
            link.raw.send(b"0\r\n\r\n")?;
        }
        // The request as the watch sees it has no body: the offset is checked here instead.
        let answer = link.raw.read_answer(&upload.patch_at(0))?.is(204)?;
        answer.has("Upload-Offset", length)?;
        let last = Request::plain("GET", &upload.path)
            .with("Range", format!("bytes={}-", length - (1 << 20)));
        own.site.ask(&last)?.is(206)?.has_body(&piece)?;
        upload.delete()?.is(204)?;
    }
    grew_little(&own, before)
}

fn announced(site: &Site) -> Verdict {
    let own = site.launch(&["--durability", "relaxed"])?;
    own.site.create_complete(b"warm")?;
    let before = peak(&own)?;
    let mut links = Vec::new();
    for _ in 0..100 {
        let upload = own.site.create(1 << 40)?;
        let mut link = own.site.connect()?;
        link.send_head(&upload.patch_at(0).with("Content-Length", 1_u64 << 40))?;
        link.raw.send(b"x")?;
        links.push(link);
    }
    own.site.create_complete(b"abc")?.reads_back(b"abc")?;
    drop(links);
    grew_little(&own, before)
}

fn aborts(site: &Site) -> Verdict {
    let own = site.launch(&["--durability", "relaxed"])?;
    abort_a_thousand(&own)?;
    let before = peak(&own)?;
    abort_a_thousand(&own)?;
    let after = peak(&own)?;
    ensure(after < before + SMALL / 4, format!("memory went from {before} to {after} bytes"))?;
    own.site.create_complete(b"abc")?.reads_back(b"abc")
}

fn abort_a_thousand(own: &Own) -> Verdict {
    let content = vec![b'x'; 10_000];
    for _ in 0..10 {
        let upload = own.site.create(1 << 30)?;
        for round in 0..100 {
            let mut link = own.site.connect()?;
            let offset = upload.offset()?;
            link.send_head(&upload.patch_at(offset).with("Content-Length", 1 << 20))?;
            link.raw.send(&content)?;
            if round % 2 == 0 {
                link.raw.reset()?;
            }
        }
    }
    Ok(())
}
