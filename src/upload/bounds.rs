//! [`Limits`] the operator sets and [`Capabilities`] a store has. Plain data.

use std::time::Duration;

/// The largest position or length in bytes: what a signed 64-bit integer holds (T-002).
pub const MAX_POSITION_BYTES: u64 = u64::MAX >> 1;

/// What an operator allows, and how long things may take. Made by `Limits::default()`, then changed
/// field by field: more fields may come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes between two checkpoints of a long request.
    pub checkpoint_bytes: u64,
    /// Time between two checkpoints of a long request.
    pub checkpoint_interval: Duration,
    /// How long a complete upload keeps its key: until then, bytes that a client sends from the
    /// start are compared with it; after that they begin a new upload.
    pub completed_grace: Duration,
    /// How long an unfinished upload lives after its last accepted byte; `None` = for ever.
    pub expire_after: Option<Duration>,
    /// How long a connection may take to bring a request head, from its opening or from the answer
    /// before. Kept by [`serve`](crate::serve).
    pub head_timeout: Duration,
    /// How long a request waits for a byte of its body, and a download for a client that takes
    /// nothing of it, before it is given up. [`serve`](crate::serve) waits as long for a client
    /// that does not read any other answer.
    pub idle_timeout: Duration,
    /// Whether a final upload may name partial uploads that are not finished yet.
    pub join_unfinished: bool,
    /// How long a request waits for another one that is still receiving the same bytes.
    pub lock_wait: Duration,
    /// The largest number of separate ranges an upload may be in while it is incomplete.
    pub max_fragments: usize,
    /// The longest metadata text, in bytes.
    pub max_metadata_bytes: usize,
    /// The largest number of partial uploads in one final upload.
    pub max_partials: usize,
    /// The largest upload, in bytes; `None` = what a position can hold.
    pub max_size_bytes: Option<u64>,
    /// How long a chunk from the middle waits for a new upload to be begun, after the one it
    /// belongs to is gone.
    pub reopen_wait: Duration,
    /// A writer that has waited this long for its client gives way to a newer request.
    pub stall_after: Duration,
    /// Whether clients may remove uploads.
    pub termination: bool,
    /// How long an expired upload is remembered as such.
    pub tombstone: Duration,
}

/// The longest time that makes a difference: ten years. Sums with it stay in the range of every
/// clock.
const MAX_TIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl Limits {
    /// The same with every time cut to what a clock can count.
    #[must_use]
    pub fn clamped(mut self) -> Self {
        for time in [
            &mut self.checkpoint_interval,
            &mut self.completed_grace,
            &mut self.head_timeout,
            &mut self.idle_timeout,
            &mut self.lock_wait,
            &mut self.reopen_wait,
            &mut self.stall_after,
            &mut self.tombstone,
        ] {
            *time = (*time).min(MAX_TIME);
        }
        self.expire_after = self.expire_after.map(|time| time.min(MAX_TIME));
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            checkpoint_bytes: 16 << 20,
            checkpoint_interval: Duration::from_secs(1),
            completed_grace: Duration::from_secs(60),
            expire_after: None,
            // Browsers keep connections for about as long (D-58: at least 75 s).
            head_timeout: Duration::from_secs(90),
            idle_timeout: Duration::from_secs(60),
            join_unfinished: false,
            lock_wait: Duration::from_secs(5),
            max_fragments: 10_000,
            max_metadata_bytes: 16 << 10,
            max_partials: 10_000,
            max_size_bytes: None,
            reopen_wait: Duration::from_secs(2),
            stall_after: Duration::from_secs(1),
            termination: true,
            tombstone: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// What a store can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// It can lay several uploads down as one.
    pub join: bool,
}
