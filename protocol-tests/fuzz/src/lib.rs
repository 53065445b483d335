//! Functions that feed any bytes to a parser or to the whole service, and say what must hold then.
//! They panic when it does not.
//!
//! Two drivers call them: libFuzzer, led by coverage (`libfuzzer/`, nightly), and
//! `tests/replay.rs`, which replays the corpus and mutations of it on any toolchain.

mod form;
mod input;
mod parsers;
mod service;

pub use self::{
    form::{chunked, form, resumable},
    parsers::{concat, fields, ids, metadata, record},
    service::service,
};

/// One thing to fuzz.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Feeds it with these bytes.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 9] = [
    Target { name: "chunked", run: chunked },
    Target { name: "concat", run: concat },
    Target { name: "fields", run: fields },
    Target { name: "form", run: form },
    Target { name: "ids", run: ids },
    Target { name: "metadata", run: metadata },
    Target { name: "record", run: record },
    Target { name: "resumable", run: resumable },
    Target { name: "service", run: service },
];
