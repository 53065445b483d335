//! The rules of the ResumableJS contract, each as one short sentence, and where those are tested
//! that a client cannot see.

use crate::case::Level::Ours;
use crate::rules::{Elsewhere, Rule, elsewhere, rule};

/// The chapters of the contract with their rules.
pub(super) const CHAPTERS: &[(&str, &[Rule])] = &[
    ("ResumableJS: reading a request", READING),
    ("ResumableJS: which bytes", BYTES),
    ("ResumableJS: presence, duplicates and overlap", PRESENCE),
    ("ResumableJS: completion", COMPLETION),
    ("ResumableJS: expiry and cancellation", EXPIRY),
    ("ResumableJS: seen from tus", TUS),
    ("ResumableJS: identity and safety", SAFETY),
    ("ResumableJS: answers", ANSWERS),
    ("ResumableJS: faults of other servers", FAULTS),
];

const READING: &[Rule] = &[
    rule(
        "J-001",
        Ours,
        "Numbers are 1 to 16 digits without sign, blank, point or leading zero, up to 2^53-1; the \
         chunk size of a file that is one chunk is anything.",
    ),
    rule(
        "J-002",
        Ours,
        "Chunk number, chunk size, total size and identifier are required; empty means absent.",
    ),
    rule("J-003", Ours, "A parameter given twice with one value is fine; with two it is refused."),
    rule(
        "J-004",
        Ours,
        "Names belong to one library; parameters of two of them, or of none, are refused.",
    ),
    rule(
        "J-005",
        Ours,
        "The chunk of a form is the part with the configured name, else its only file; never two.",
    ),
    rule("J-006", Ours, "Parameters come before the chunk; fields behind it must not contradict."),
    rule(
        "J-007",
        Ours,
        "A chunk without a file name is base64 text, decoded strictly; sizes are those decoded.",
    ),
    rule(
        "J-008",
        Ours,
        "Any type but multipart/form-data is the chunk itself; form-urlencoded is refused.",
    ),
    rule(
        "J-009",
        Ours,
        "POST, PUT and PATCH are one operation; without a chunk they are a test. HEAD is a test.",
    ),
];

const BYTES: &[Rule] = &[
    rule(
        "J-010",
        Ours,
        "A chunk begins at (number - 1) times the chunk size and ends within the file.",
    ),
    rule("J-011", Ours, "A chunk has one of the lengths that the two ways to cut a file allow."),
    rule(
        "J-012",
        Ours,
        "The current chunk size, if given, is one of these; if not, what arrives is.",
    ),
    rule("J-013", Ours, "A test without a size asks for the larger of two possible ranges."),
    rule(
        "J-014",
        Ours,
        "The bytes that arrive are as many as announced; otherwise none of them count.",
    ),
    rule(
        "J-015",
        Ours,
        "A number of chunks that is too small is tolerated, one that leaves the chunk out is not.",
    ),
    rule("J-016", Ours, "Each request stands alone: how the file is cut is not pinned."),
    rule(
        "J-017",
        Ours,
        "The total size is pinned by the first upload; another one is refused, tests included.",
    ),
];

const PRESENCE: &[Rule] = &[
    rule("J-020", Ours, "A test is answered by committed bytes alone, whoever wrote them."),
    rule(
        "J-021",
        Ours,
        "Another chunk size is computed anew; a chunk that is there in part is absent.",
    ),
    rule(
        "J-022",
        Ours,
        "Bytes over stored ones are compared: equal is fine, different is refused and changes nothing.",
    ),
    rule("J-023", Ours, "A chunk counts whole or not at all."),
    rule(
        "J-024",
        Ours,
        "A second copy of a chunk under way waits for the first; a silent first one gives way.",
    ),
    rule("J-025", Ours, "Chunks of one file are taken side by side."),
    rule("J-026", Ours, "First chunks in parallel make one upload."),
];

const COMPLETION: &[Rule] = &[
    rule("J-030", Ours, "A file is complete exactly when every byte is there, and completes once."),
    rule("J-031", Ours, "An empty file completes with its one empty chunk."),
    rule(
        "J-032",
        Ours,
        "Nothing is put together at the end: the last answer does not depend on the size.",
    ),
    rule("J-033", Ours, "An answer waits for the last other chunks that are under way."),
    rule("J-034", Ours, "An equal chunk of a complete file is answered as complete."),
    rule("J-035", Ours, "Completion and every stored chunk survive a kill."),
];

const EXPIRY: &[Rule] = &[
    rule("J-040", Ours, "Unfinished uploads expire, later with every chunk."),
    rule(
        "J-041",
        Ours,
        "After expiry or removal a chunk from the middle is 404 until the file is begun anew.",
    ),
    rule(
        "J-042",
        Ours,
        "DELETE on the status resource removes the upload; nothing on the main path does.",
    ),
];

const TUS: &[Rule] = &[
    rule("J-050", Ours, "HEAD of tus shows the contiguous prefix and the total size."),
    rule(
        "J-051",
        Ours,
        "PATCH works at the prefix and at the offset told last; it adds up what was received.",
    ),
    rule(
        "J-052",
        Ours,
        "A PATCH that closes the last gap completes the upload; equal ones after it succeed.",
    ),
    rule("J-053", Ours, "A PATCH that breaks keeps its bytes; a chunk that breaks keeps none."),
    rule("J-054", Ours, "A tus creation that names the file binds the same upload."),
    rule("J-055", Ours, "tus clients see name, type and path; answers carry the upload's URL."),
];

const SAFETY: &[Rule] = &[
    rule(
        "S-001",
        Ours,
        "The key is a keyed hash of owner, path, identifier, name and relative path, not of the size.",
    ),
    rule(
        "S-002",
        Ours,
        "The owner comes from authentication, never from the identifier; without one a name leads \
         nobody to an upload.",
    ),
    rule(
        "S-003",
        Ours,
        "Any UTF-8 up to 4096 bytes is an identifier; nothing else is, and nothing crashes on it.",
    ),
    rule(
        "S-004",
        Ours,
        "No text of a client becomes a path, header or log format; leading separators of a path \
         are dropped, one that climbs is refused.",
    ),
    rule("S-005", Ours, "What broke other servers is an identifier like any other here."),
    rule("S-006", Ours, "A test judges and scopes as the upload does."),
    rule(
        "S-007",
        Ours,
        "The declared size is what limits are held against, and nothing is preallocated.",
    ),
    rule("S-008", Ours, "Fragments and chunk sizes are bounded; bookkeeping never counts chunks."),
    rule("S-009", Ours, "A refused first request makes nothing; neither does a test."),
    rule("S-010", Ours, "A complete file keeps its name for a while, then another one may begin."),
    rule("S-011", Ours, "Uploads that a cookie would authorise come from allowed origins."),
    rule("S-012", Ours, "Answers are JSON that is neither cached nor sniffed."),
];

const ANSWERS: &[Rule] = &[
    rule(
        "A-001",
        Ours,
        "No status is used that makes one client or another retry for ever, or skip a chunk.",
    ),
    rule("A-002", Ours, "A refusal reaches a client that is still sending."),
    rule("A-003", Ours, "Answers that make clients come again are held back for a second."),
];

const FAULTS: &[Rule] = &[
    rule("F-01", Ours, "A test for an unknown chunk is 204 without a body."),
    rule("F-02", Ours, "A request for the bare path, or with a misspelt chunk number, is 400."),
    rule("F-03", Ours, "Nothing redirects, with or without a slash at the end."),
    rule("F-04", Ours, "A stored chunk is answered 200."),
    rule("F-05", Ours, "An invalid chunk is never answered 200."),
    rule("F-06", Ours, "Both ways to cut the end of a file complete it."),
    rule("F-07", Ours, "A file shorter than a chunk is accepted."),
    rule("F-08", Ours, "An empty media type is accepted."),
    rule("F-09", Ours, "Too small a number of chunks is accepted, none at all is not."),
    rule("F-10", Ours, "Chunks in any order make the same file, once."),
    rule("F-11", Ours, "The first chunk again, last, disturbs nothing."),
    rule("F-12", Ours, "A chunk cut in the middle is absent, and stored when it is sent again."),
    rule("F-13", Ours, "A file is not complete while a chunk is half received."),
    rule("F-14", Ours, "The last two chunks at the same moment complete the file exactly once."),
    rule("F-15", Ours, "First chunks in parallel make one upload."),
    rule("F-16", Ours, "An equal chunk after completion is a yes and makes no new upload."),
    rule("F-17", Ours, "A different chunk is refused and changes nothing."),
    rule("F-18", Ours, "Two different copies of a chunk at once never mix."),
    rule("F-19", Ours, "Sessions with different chunk sizes make the right file."),
    rule("F-20", Ours, "Zeros are bytes, a hole is not."),
    rule("F-21", Ours, "A chunk that ends in an ASCII 0 arrives whole."),
    rule("F-22", Ours, "Ten thousand chunks are in numeric order."),
    rule("F-23", Ours, "Brackets, stars and question marks are text."),
    rule("F-24", Ours, "Completion is judged by covered bytes, not by sums."),
    rule("F-25", Ours, "The file is still there a second after its completion."),
    rule("F-26", Ours, "A second upload of a name neither appends to the first nor is lost in it."),
    rule("F-27", Ours, "Empty files complete with one request in every form."),
    rule("F-28", Ours, "Base64 chunks are decoded, and measured when they are."),
    rule("F-29", Ours, "Fields of the application change nothing, wherever they stand."),
    rule("F-30", Ours, "Raw chunks of any media type are stored as they are."),
    rule("F-31", Ours, "All methods of uploads and tests give the same verdicts."),
    rule("F-32", Ours, "Every answer to another origin is readable; OPTIONS needs nothing."),
    rule("F-33", Ours, "A refused chunk of 8 MiB is answered, not reset."),
    rule("F-34", Ours, "A size refusal is 400."),
    rule("F-35", Ours, "The identifier never touches the file system."),
    rule("F-36", Ours, "Owners do not see each other's chunks."),
    rule("F-37", Ours, "Two files that share an identifier stay two files."),
    rule("F-38", Ours, "Another total size is 400 and disturbs nothing."),
    rule("F-39", Ours, "Stored chunks survive kill -9, half ones are absent."),
    rule("F-40", Ours, "Huge numbers cost nothing."),
    rule(
        "F-41",
        Ours,
        "After expiry a chunk from the middle is 404; the first one, or a test, begins anew.",
    ),
    rule("F-42", Ours, "The answer that arrives last says that the file is complete."),
    rule("F-43", Ours, "Status and removal exist off the main path only."),
    rule("F-44", Ours, "Answers to tests are not stored by caches."),
    rule("F-45", Ours, "tus and ResumableJS continue each other's uploads."),
    rule("F-46", Ours, "A retry is served although the first copy is stuck on a dead connection."),
];

/// Rules, or parts of rules, that black-box cases cannot reach.
pub(super) const NOT_ON_THE_WIRE: &[Elsewhere] = &[
    elsewhere(
        "S-002",
        "the binary has no source of owners; what it tells those who have none, the cases show",
        "wire test owners_come_from_the_application_or_a_header_s_002",
    ),
    elsewhere(
        "S-001",
        "what the hash depends on",
        "wire test keys_depend_on_owner_route_and_names_s_001_f_36_f_37",
    ),
    elsewhere(
        "F-36",
        "the binary has no source of owners",
        "wire tests keys_depend_on_owner_route_and_names_s_001_f_36_f_37 and owners_come_from_the_application_or_a_header_s_002",
    ),
    elsewhere("S-006", "authorisation of tests needs a gate", "engine tests"),
    elsewhere(
        "S-010",
        "what a key does after the grace of a minute needs a clock of its own",
        "engine tests of named uploads",
    ),
    elsewhere("A-003", "401 and 403 need a gate", "wire tests of refusals"),
    elsewhere(
        "J-004",
        "renamed parameters, namespaces and narrowed profiles are options of the library",
        "wire tests every_name_can_be_changed_j_004 and mounts_take_the_configured_names_only_j_004",
    ),
    elsewhere(
        "J-015",
        "strict counting is an option of the library",
        "wire test mounts_can_be_strict_j_015",
    ),
    elsewhere(
        "J-035",
        "the loss of power needs a disk that forgets",
        "file store tests of power loss",
    ),
    elsewhere(
        "J-030",
        "the one completion event is seen by observers",
        "engine tests; here the server's log is read",
    ),
];
