//! The nouns: what an upload is. Plain values; no async, HTTP, clock or files.

pub mod bounds;
pub mod checksum;
pub mod id;
pub mod metadata;
pub mod ranges;

use std::{ops::Range, time::SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::{
    bounds::{Capabilities, Limits, MAX_POSITION_BYTES},
    checksum::{Algorithm, Digest, Digester},
    id::{InvalidId, Key, UploadId},
    metadata::{InvalidMetadata, Metadata},
    ranges::Ranges,
};

/// The record of one upload: a fold of its [`Change`]s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its name.
    pub id: UploadId,
    /// When it became complete.
    pub completed: Option<SystemTime>,
    /// What makes it complete.
    pub completion: Completion,
    /// When it was created.
    pub created: SystemTime,
    /// The deadline after which an open upload is voided and a void one forgotten.
    pub expires: Option<SystemTime>,
    /// Total bytes; `None` = not declared yet.
    pub length: Option<u64>,
    /// What the client says about it.
    pub metadata: Metadata,
    /// Whether clients find it by a name of theirs. Its chunks come in any order, and what it leaves
    /// behind tells them that it is gone.
    pub named: bool,
    /// Where it is in its life.
    pub phase: Phase,
    /// The bytes that have arrived.
    pub received: Ranges,
    /// Whether its bytes were given up at a client's wish.
    pub removed: bool,
    /// The number of commits that made this state. Stores compare it before they commit.
    pub revision: u64,
    /// Alone, a part of another, or made of others.
    pub role: Role,
}

/// How an upload relates to others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Role {
    /// An upload of its own.
    #[default]
    Whole,
    /// One to be joined into a final upload. Its bytes are never published by themselves.
    Partial {
        /// The client's word for it, kept for echo.
        text: String,
    },
    /// Made of other uploads.
    Final {
        /// The uploads it is made of, in order; one may occur more than once.
        partials: Vec<UploadId>,
        /// The list as the client wrote it, kept for echo.
        text: String,
    },
}

impl Role {
    /// [`Role::Partial`] by its usual word.
    pub fn partial() -> Self {
        Self::Partial { text: "partial".to_owned() }
    }
}

/// What makes an upload complete. Fixed at creation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completion {
    /// Holding every byte.
    #[default]
    WhenFull,
    /// A request that says so.
    OnRequest,
}

/// Where an upload is in its life. Full is computed, complete is recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It takes bytes.
    #[default]
    Open,
    /// It holds exactly its bytes, for good.
    Complete,
    /// Its bytes are gone; the record tells so until it is forgotten too.
    Void,
}

/// Opaque bytes by which a store finds written data again. Carried unread, and kept until the commit:
/// a store may free data whose receipts are all gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Receipt(pub Bytes);

impl Receipt {
    /// Whether the store needs nothing to find the data again.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The only way an upload changes. What is stored is what observers get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Change {
    /// It was made. Always the first change, and only the first.
    Created {
        /// See [`Upload::completion`].
        #[serde(default, skip_serializing_if = "is_default")]
        completion: Completion,
        /// See [`Upload::length`].
        #[serde(default, skip_serializing_if = "is_default")]
        length: Option<u64>,
        /// See [`Upload::metadata`].
        #[serde(default, skip_serializing_if = "is_default")]
        metadata: Metadata,
        /// See [`Upload::named`].
        #[serde(default, skip_serializing_if = "is_default")]
        named: bool,
        /// See [`Upload::role`].
        #[serde(default, skip_serializing_if = "is_default")]
        role: Role,
        /// See [`Upload::created`].
        #[serde(with = "unix_ms")]
        at: SystemTime,
    },
    /// Its length became known.
    LengthDeclared {
        /// Total bytes.
        length: u64,
    },
    /// Bytes arrived and are safe.
    Received {
        /// Which bytes.
        range: Range<u64>,
        /// Where the store has them.
        #[serde(default, skip_serializing_if = "Receipt::is_empty")]
        receipt: Receipt,
    },
    /// What a request had recorded before it was refused is undone. Never below what a client was
    /// told.
    Withdrawn {
        /// The bytes that no longer count.
        range: Range<u64>,
        /// Whether the length is unknown again.
        #[serde(default, skip_serializing_if = "is_default")]
        length: bool,
    },
    /// It holds exactly its bytes, for good.
    Completed {
        /// See [`Upload::completed`].
        #[serde(with = "unix_ms")]
        at: SystemTime,
    },
    /// A client wishes it gone. Comes with [`Change::Voided`].
    Removed,
    /// Its bytes are given up.
    Voided,
    /// Its deadline moved.
    ExpiryMoved {
        /// See [`Upload::expires`].
        #[serde(with = "unix_ms_option")]
        expires: Option<SystemTime>,
    },
}

/// A change does not fit the upload it is applied to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("change {change} does not fit an upload in phase {phase:?}")]
pub struct Inconsistent {
    change: &'static str,
    phase: Phase,
}

impl Upload {
    /// The upload that `first` makes, which must be [`Change::Created`].
    ///
    /// # Errors
    /// When `first` is any other change.
    pub fn new(id: UploadId, first: &Change) -> Result<Self, Inconsistent> {
        let Change::Created { completion, length, metadata, named, role, at } = first else {
            return Err(Inconsistent { change: first.name(), phase: Phase::Open });
        };
        Ok(Self {
            id,
            completed: None,
            completion: *completion,
            created: *at,
            expires: None,
            length: *length,
            metadata: metadata.clone(),
            named: *named,
            phase: Phase::Open,
            received: Ranges::new(),
            removed: false,
            revision: 0,
            role: role.clone(),
        })
    }

    /// Makes one change.
    ///
    /// # Errors
    /// When the change contradicts the state: the record it comes from is damaged.
    pub fn apply(&mut self, change: &Change) -> Result<(), Inconsistent> {
        let fits = match change {
            Change::Created { .. } => false,
            Change::LengthDeclared { length } => {
                let fits = self.length.is_none_or(|known| known == *length)
                    && self.received.end() <= *length;
                self.length = Some(*length);
                fits && self.phase == Phase::Open
            }
            Change::Received { range, .. } => {
                self.received.insert(range.clone());
                range.start <= range.end
                    && self.length.is_none_or(|length| range.end <= length)
                    && self.phase == Phase::Open
            }
            Change::Withdrawn { range, length } => {
                self.received.remove(range);
                if *length {
                    self.length = None;
                }
                self.phase == Phase::Open
            }
            Change::Completed { at } => {
                self.completed = Some(*at);
                let fits = self.phase == Phase::Open && self.is_full();
                self.phase = Phase::Complete;
                fits
            }
            Change::Removed => {
                self.removed = true;
                true
            }
            Change::Voided => {
                let fits = self.phase != Phase::Void;
                self.phase = Phase::Void;
                self.received = Ranges::new();
                fits
            }
            Change::ExpiryMoved { expires } => {
                self.expires = *expires;
                true
            }
        };
        if fits { Ok(()) } else { Err(Inconsistent { change: change.name(), phase: self.phase }) }
    }

    /// The state after one commit of `changes`: all of them, one revision later.
    ///
    /// # Errors
    /// When a change contradicts the state.
    pub fn after(&self, changes: &[Change]) -> Result<Self, Inconsistent> {
        let mut next = self.clone();
        for change in changes {
            next.apply(change)?;
        }
        next.revision = next.revision.saturating_add(1);
        Ok(next)
    }

    /// The changes that make this upload from nothing, in as few words as possible.
    pub fn history(&self) -> Vec<Change> {
        let mut changes = vec![Change::Created {
            completion: self.completion,
            length: self.length,
            metadata: self.metadata.clone(),
            named: self.named,
            role: self.role.clone(),
            at: self.created,
        }];
        changes.extend(
            self.received
                .iter()
                .map(|range| Change::Received { range, receipt: Receipt::default() }),
        );
        if self.removed {
            changes.push(Change::Removed);
        }
        match self.phase {
            Phase::Open => {}
            Phase::Complete => {
                let at = self.completed.unwrap_or(self.created);
                changes.push(Change::Completed { at });
            }
            Phase::Void => changes.push(Change::Voided),
        }
        if self.expires.is_some() {
            changes.push(Change::ExpiryMoved { expires: self.expires });
        }
        changes
    }

    /// The end of the contiguous bytes from 0.
    pub fn offset(&self) -> u64 {
        self.received.prefix()
    }

    /// Whether every byte of the declared length has arrived.
    pub fn is_full(&self) -> bool {
        self.length.is_some_and(|length| self.offset() == length)
    }

    /// Whether it is complete.
    pub fn is_complete(&self) -> bool {
        self.phase == Phase::Complete
    }

    /// Whether it is to be joined into a final upload.
    pub const fn is_partial(&self) -> bool {
        matches!(self.role, Role::Partial { .. })
    }

    /// Whether its bytes are gone.
    pub fn is_void(&self) -> bool {
        self.phase == Phase::Void
    }

    /// Whether its bytes are a file of their own once complete; partial uploads stay private.
    pub fn is_published(&self) -> bool {
        self.is_complete() && !self.is_partial()
    }
}

impl Change {
    /// Whether this is the change that completes an upload.
    pub const fn completes(&self) -> bool {
        matches!(self, Self::Completed { .. })
    }

    /// The name of the change, for messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::LengthDeclared { .. } => "length_declared",
            Self::Received { .. } => "received",
            Self::Withdrawn { .. } => "withdrawn",
            Self::Completed { .. } => "completed",
            Self::Removed => "removed",
            Self::Voided => "voided",
            Self::ExpiryMoved { .. } => "expiry_moved",
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A time as whole milliseconds since 1970 UTC.
mod unix_ms {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        to.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let millis = u64::deserialize(from)?;
        UNIX_EPOCH
            .checked_add(Duration::from_millis(millis))
            .ok_or_else(|| D::Error::custom("time out of range"))
    }
}

/// A time that may be absent.
mod unix_ms_option {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Time(#[serde(with = "super::unix_ms")] SystemTime);

    pub(super) fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(Time).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        Ok(Option::<Time>::deserialize(from)?.map(|time| time.0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const COMPLETED: Change = Change::Completed { at: UNIX_EPOCH };

    fn upload(length: Option<u64>) -> Upload {
        let created = Change::Created {
            completion: Completion::WhenFull,
            length,
            metadata: "name YQ==".parse().expect("plain"),
            named: false,
            role: Role::Whole,
            at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        };
        Upload::new("a".parse().expect("plain"), &created).expect("created comes first")
    }

    fn received(range: Range<u64>) -> Change {
        Change::Received { range, receipt: Receipt::default() }
    }

    #[test]
    fn changes_apply_only_where_they_fit() {
        let declared = |length| Change::LengthDeclared { length };
        let withdrawn = |range, length| Change::Withdrawn { range, length };
        for (length, changes, fits) in [
            (Some(5), vec![received(0..5), COMPLETED], true),
            (Some(5), vec![received(0..4), COMPLETED], false),
            (Some(5), vec![received(0..6)], false),
            (None, vec![received(0..6), declared(5)], false),
            (None, vec![received(0..5), declared(5), COMPLETED], true),
            (None, vec![received(0..5), COMPLETED], false),
            (Some(5), vec![declared(6)], false),
            (Some(5), vec![declared(5)], true),
            (Some(5), vec![received(0..5), COMPLETED, received(0..5)], false),
            (Some(5), vec![Change::Voided, received(0..5)], false),
            (Some(5), vec![received(0..5), withdrawn(2..5, false), received(2..5)], true),
            (None, vec![declared(9), withdrawn(0..0, true), declared(5)], true),
            (Some(5), vec![Change::ExpiryMoved { expires: Some(UNIX_EPOCH) }], true),
        ] {
            assert_eq!(upload(length).after(&changes).is_ok(), fits, "{length:?} {changes:?}");
        }
    }

    #[test]
    fn history_folds_to_the_same_upload_through_its_text() {
        let open = upload(Some(9)).after(&[received(0..3), received(5..9)]).expect("fits");
        let complete = open.after(&[received(3..5), COMPLETED]).expect("fits");
        let moved = Change::ExpiryMoved { expires: Some(UNIX_EPOCH + Duration::from_secs(5)) };
        let void = open.after(&[Change::Voided, moved]).expect("fits");
        for upload in [open, complete, void] {
            let text = serde_json::to_string(&upload.history()).expect("plain data");
            let changes: Vec<Change> = serde_json::from_str(&text).expect("own text");
            let mut folded = Upload::new(upload.id.clone(), &changes[0]).expect("created");
            for change in &changes[1..] {
                folded.apply(change).expect("fits");
            }
            folded.revision = upload.revision;
            assert_eq!(folded, upload, "{text}");
        }
    }
}
