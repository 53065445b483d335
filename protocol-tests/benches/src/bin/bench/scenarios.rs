//! Every scenario as data: who takes part, with which work, which figures are shown, and what they
//! are held against.

use crate::{
    servers::Server,
    target::{Of, Target},
    work::{Place, Small, Work},
};

/// Figures side by side.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) title: &'static str,
    /// Who takes part.
    pub(crate) entrants: &'static [Entrant],
    /// The figures that are shown; the others are in the JSON file.
    pub(crate) metrics: &'static [&'static str],
    /// What should hold.
    pub(crate) targets: &'static [Target],
}

/// One column.
#[derive(Debug)]
pub(crate) struct Entrant {
    /// Its head.
    pub(crate) name: &'static str,
    /// The server, unless the work is without one.
    pub(crate) server: Option<Server>,
    /// What it has to do.
    pub(crate) work: Work,
}

const fn entrant(name: &'static str, server: Server, work: Work) -> Entrant {
    Entrant { name, server: Some(server), work }
}

const fn sized(name: &'static str, server: Server, bytes: u64, connections: usize) -> Entrant {
    entrant(name, server, Work::Sized { bytes, connections })
}

const fn alone(name: &'static str, work: Work) -> Entrant {
    Entrant { name, server: None, work }
}

/// All servers that speak tus.
macro_rules! tus {
    ($work:expr) => {
        &[
            entrant("floor", Server::Floor, $work),
            entrant("windlass", Server::WindlassRelaxed, $work),
            entrant("tusd", Server::Tusd, $work),
            entrant("rustus", Server::Rustus, $work),
            entrant("@tus/server", Server::TusNode, $work),
        ]
    };
}

const FLOOR: Of = Of::Entrant("floor");
const WINDLASS: &str = "windlass";

/// The table of all scenarios.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "stream",
        title: "one PATCH per upload, 4 × 512 MiB side by side",
        entrants: tus!(Work::Stream { connections: 4, place: Place::Disk }),
        metrics: &[
            "CPU s per GiB",
            "user s per GiB",
            "system s per GiB",
            "wall s",
            "MiB/s",
            "peak MiB",
            "generator CPU s per GiB",
        ],
        targets: &[
            Target::at_most(WINDLASS, "CPU s per GiB", 1.15, FLOOR),
            Target::at_most(WINDLASS, "wall s", 1.10, FLOOR),
            Target::at_most(WINDLASS, "peak MiB", 16.0, Of::One),
        ],
    },
    Scenario {
        name: "patches",
        title: "PATCHes of 1 MiB on 4 kept-alive connections",
        entrants: tus!(Work::Patches { sha1: false }),
        metrics: &[
            "MiB/s",
            "CPU s per GiB",
            "user s per GiB",
            "system s per GiB",
            "p50 ms",
            "p99 ms",
            "peak MiB",
            "generator CPU s per GiB",
        ],
        targets: &[
            Target::at_least(WINDLASS, "MiB/s", 0.80, FLOOR),
            Target::at_most(WINDLASS, "CPU s per GiB", 1.30, FLOOR),
        ],
    },
    Scenario {
        name: "sha1",
        title: "PATCHes of 1 MiB with their SHA-1, on 4 kept-alive connections",
        entrants: &[
            entrant("windlass plain", Server::WindlassRelaxed, Work::Patches { sha1: false }),
            entrant("windlass sha1", Server::WindlassRelaxed, Work::Patches { sha1: true }),
            entrant("rustus sha1", Server::Rustus, Work::Patches { sha1: true }),
        ],
        metrics: &[
            "MiB/s",
            "CPU s per GiB",
            "user s per GiB",
            "system s per GiB",
            "p50 ms",
            "p99 ms",
        ],
        targets: &[Target::at_most(
            "windlass sha1",
            "CPU s per GiB",
            1.0,
            Of::Entrant("windlass plain"),
        )
        .plus(0.6)],
    },
    Scenario {
        name: "create-patch",
        title: "create + one PATCH of 4 KiB, 32 connections, tmpfs",
        entrants: tus!(Work::Small {
            kind: Small::CreateThenPatch,
            connections: 32,
            place: Place::Memory,
        }),
        metrics: &[
            "units/s",
            "CPU µs per unit",
            "user µs per unit",
            "system µs per unit",
            "p50 ms",
            "p99 ms",
            "peak MiB",
            "generator CPU µs per unit",
        ],
        targets: &[
            Target::at_least(WINDLASS, "units/s", 0.45, FLOOR),
            Target::at_least(WINDLASS, "units/s", 3.0, Of::BestPeer),
        ],
    },
    Scenario {
        name: "create-with-upload",
        title: "creation-with-upload of 4 KiB, 32 connections, tmpfs",
        entrants: tus!(Work::Small {
            kind: Small::CreateWithUpload,
            connections: 32,
            place: Place::Memory,
        }),
        metrics: &[
            "units/s",
            "CPU µs per unit",
            "user µs per unit",
            "system µs per unit",
            "p50 ms",
            "p99 ms",
            "peak MiB",
            "generator CPU µs per unit",
        ],
        targets: &[
            Target::at_least(WINDLASS, "units/s", 0.40, FLOOR),
            Target::at_least(WINDLASS, "units/s", 2.3, Of::BestPeer),
        ],
    },
    Scenario {
        name: "sizes",
        title: "creation-with-upload by size of the upload, 8 connections, tmpfs",
        entrants: &[
            sized("floor, 4 KiB", Server::Floor, 4 << 10, 8),
            sized("4 KiB", Server::WindlassRelaxed, 4 << 10, 8),
            sized("floor, 64 KiB", Server::Floor, 64 << 10, 8),
            sized("64 KiB", Server::WindlassRelaxed, 64 << 10, 8),
            sized("floor, 1 MiB", Server::Floor, 1 << 20, 8),
            sized("1 MiB", Server::WindlassRelaxed, 1 << 20, 8),
            sized("floor, 16 MiB", Server::Floor, 16 << 20, 8),
            sized("16 MiB", Server::WindlassRelaxed, 16 << 20, 8),
        ],
        metrics: &["CPU µs per unit", "CPU s per GiB", "p50 ms", "peak MiB"],
        targets: &[],
    },
    Scenario {
        name: "connections",
        title: "creation-with-upload of 4 KiB by number of connections, tmpfs",
        entrants: &[
            sized("1", Server::WindlassRelaxed, 4 << 10, 1),
            sized("8", Server::WindlassRelaxed, 4 << 10, 8),
            sized("64", Server::WindlassRelaxed, 4 << 10, 64),
            sized("512", Server::WindlassRelaxed, 4 << 10, 512),
            sized("4,096", Server::WindlassRelaxed, 4 << 10, 4096),
        ],
        metrics: &["units/s", "CPU µs per unit", "p50 ms", "p99 ms", "peak above idle MiB"],
        targets: &[],
    },
    Scenario {
        name: "head",
        title: "HEAD on 32 kept-alive connections",
        entrants: tus!(Work::Heads),
        metrics: &[
            "units/s",
            "CPU µs per unit",
            "user µs per unit",
            "system µs per unit",
            "p50 ms",
            "p99 ms",
            "generator CPU µs per unit",
        ],
        targets: &[Target::at_least(WINDLASS, "units/s", 0.70, FLOOR)],
    },
    Scenario {
        name: "final",
        title: "a final upload of 8 parts",
        entrants: &[
            entrant(
                "windlass 8 × 64 MiB",
                Server::WindlassRelaxed,
                Work::Final { part_bytes: 64 << 20 },
            ),
            entrant(
                "windlass 8 × 1 MiB",
                Server::WindlassRelaxed,
                Work::Final { part_bytes: 1 << 20 },
            ),
            entrant("tusd 8 × 64 MiB", Server::Tusd, Work::Final { part_bytes: 64 << 20 }),
            entrant("rustus 8 × 64 MiB", Server::Rustus, Work::Final { part_bytes: 64 << 20 }),
        ],
        metrics: &["answer ms", "CPU s until quiet"],
        targets: &[
            Target::at_most("windlass 8 × 64 MiB", "answer ms", 5.0, Of::One),
            Target::at_most("windlass 8 × 1 MiB", "answer ms", 5.0, Of::One),
        ],
    },
    Scenario {
        name: "stalled",
        title: "5,000 uploads that stall in the middle of a PATCH",
        entrants: tus!(Work::Stalled { uploads: 5_000 }),
        metrics: &["KiB per upload", "idle MiB", "peak MiB"],
        targets: &[Target::at_most(WINDLASS, "KiB per upload", 12.0, Of::One)],
    },
    Scenario {
        name: "resumable",
        title: "ResumableJS: 2 GiB in chunks of 1 MiB in any order, 3 connections",
        entrants: &[
            entrant("floor", Server::Floor, Work::Chunks),
            entrant("windlass", Server::WindlassRelaxed, Work::Chunks),
            entrant("a Node backend", Server::ResumableNode, Work::Chunks),
        ],
        metrics: &[
            "MiB/s",
            "CPU s per GiB",
            "p50 ms",
            "p99 ms",
            "last answer ms",
            "last / median",
            "peak above idle MiB",
            "generator CPU s per GiB",
        ],
        targets: &[
            Target::at_least(WINDLASS, "MiB/s", 0.75, FLOOR),
            Target::at_most(WINDLASS, "last / median", 2.0, Of::One),
            Target::at_most(WINDLASS, "peak above idle MiB", 32.0, Of::One),
        ],
    },
    Scenario {
        name: "synced-stream",
        title: "one big upload that survives power loss, beside what the disk sustains",
        entrants: &[
            alone("disk, a sync every 16 MiB", Work::DiskLarge),
            alone("disk, one sync at the end", Work::DiskOnce),
            entrant(
                "windlass synced",
                Server::WindlassSynced,
                Work::Stream { connections: 1, place: Place::Disk },
            ),
        ],
        metrics: &["MiB/s", "wall s", "CPU s per GiB", "peak MiB"],
        targets: &[Target::at_least(
            "windlass synced",
            "MiB/s",
            0.8,
            Of::Entrant("disk, a sync every 16 MiB"),
        )],
    },
    Scenario {
        name: "synced-small",
        title: "uploads of 4 KiB that survive power loss, beside the syncs the disk can do",
        entrants: &[
            alone("disk, 1 file", Work::DiskSyncs { files: 1 }),
            alone("disk, 64 files", Work::DiskSyncs { files: 64 }),
            entrant(
                "with creation, 1 connection",
                Server::WindlassSynced,
                Work::Small { kind: Small::CreateWithUpload, connections: 1, place: Place::Disk },
            ),
            entrant(
                "with creation, 64 connections",
                Server::WindlassSynced,
                Work::Small { kind: Small::CreateWithUpload, connections: 64, place: Place::Disk },
            ),
            entrant(
                "create + PATCH, 1 connection",
                Server::WindlassSynced,
                Work::Small { kind: Small::CreateThenPatch, connections: 1, place: Place::Disk },
            ),
            entrant(
                "create + PATCH, 64 connections",
                Server::WindlassSynced,
                Work::Small { kind: Small::CreateThenPatch, connections: 64, place: Place::Disk },
            ),
        ],
        metrics: &["units/s", "CPU µs per unit", "p50 ms", "p99 ms"],
        targets: &[
            Target::at_least(
                "with creation, 64 connections",
                "units/s",
                8.0,
                Of::Entrant("with creation, 1 connection"),
            ),
            Target::at_least(
                "create + PATCH, 64 connections",
                "units/s",
                8.0,
                Of::Entrant("create + PATCH, 1 connection"),
            ),
        ],
    },
    Scenario {
        name: "start",
        title: "from the start of the process to its first answer, and its memory at rest",
        entrants: &[
            entrant("floor", Server::Floor, Work::Start { stored: 0, cold: false }),
            entrant("empty", Server::WindlassSynced, Work::Start { stored: 0, cold: false }),
            entrant(
                "1,000,000 stored",
                Server::WindlassSynced,
                Work::Start { stored: 1_000_000, cold: false },
            ),
            entrant(
                "the same, nothing in the page cache",
                Server::WindlassSynced,
                Work::Start { stored: 1_000_000, cold: true },
            ),
        ],
        metrics: &["first answer ms", "idle MiB", "CPU s until quiet"],
        targets: &[
            Target::at_most("empty", "first answer ms", 50.0, Of::One),
            Target::at_most("1,000,000 stored", "first answer ms", 1000.0, Of::One),
            Target::at_most(
                "the same, nothing in the page cache",
                "first answer ms",
                1000.0,
                Of::One,
            ),
            Target::at_most("empty", "idle MiB", 12.0, Of::One),
            Target::at_most("1,000,000 stored", "idle MiB", 12.0, Of::One),
        ],
    },
    Scenario {
        name: "stored",
        title: "the cost of a request against the number of stored uploads, 8 connections",
        entrants: &[
            alone("files alone, 1", Work::Files { stored: 1 }),
            alone("files alone, 1,000,000", Work::Files { stored: 1_000_000 }),
            entrant("1", Server::WindlassRelaxed, Work::Stored { count: 1 }),
            entrant("10,000", Server::WindlassRelaxed, Work::Stored { count: 10_000 }),
            entrant("1,000,000", Server::WindlassRelaxed, Work::Stored { count: 1_000_000 }),
        ],
        metrics: &[
            "HEAD of one, CPU µs",
            "HEAD of one, p50 ms",
            "HEAD of any, CPU µs",
            "HEAD of any, p50 ms",
            "new of 4 KiB, CPU µs",
            "new of 4 KiB, p50 ms",
        ],
        targets: &[
            Target::at_most("1,000,000", "HEAD of one, CPU µs", 1.1, Of::Entrant("1")),
            Target::at_most("1,000,000", "new of 4 KiB, CPU µs", 1.1, Of::Entrant("1")),
        ],
    },
    Scenario {
        name: "line",
        title: "one upload at a round-trip time of 100 ms",
        entrants: &[
            entrant("HTTP/1.1", Server::WindlassRelaxed, Work::Line { http2: false }),
            entrant("HTTP/2", Server::WindlassRelaxed, Work::Line { http2: true }),
        ],
        metrics: &["MiB/s", "wall s", "peak above idle MiB"],
        targets: &[Target::at_least("HTTP/2", "MiB/s", 0.8, Of::Entrant("HTTP/1.1"))],
    },
];
