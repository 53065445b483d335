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
    id::{IdForm, InvalidId, InvalidKey, Key, UploadId},
    metadata::{InvalidMetadata, Metadata},
    ranges::Ranges,
};

/// The record of one upload: a fold of its [`Change`]s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its name.
    pub id: UploadId,
    /// What makes it complete.
    pub completion: Completion,
    /// When it was created.
    pub created: SystemTime,
    /// The deadline after which an unfinished upload, or a partial one, is voided.
    pub expires: Option<SystemTime>,
    /// What the client's own name for it hashes to. Chunks of a keyed upload come in any order, and
    /// what it leaves behind when it is voided says that it is gone.
    pub key: Option<Key>,
    /// Total bytes; `None` = not declared yet.
    pub length: Option<u64>,
    /// What the client says about it.
    pub metadata: Metadata,
    /// Who created it, as far as that is known.
    pub owner: Option<String>,
    /// Where it is in its life.
    pub phase: Phase,
    /// The bytes that have arrived.
    pub received: Ranges,
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
#[non_exhaustive]
pub enum Completion {
    /// Holding every byte.
    #[default]
    WhenFull,
    /// A request that says so.
    OnRequest,
}

/// Where an upload is in its life. Full is computed, complete is recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// It takes bytes.
    #[default]
    Open,
    /// It holds exactly its bytes from now on.
    Complete {
        /// Since when.
        at: SystemTime,
    },
    /// Its bytes are gone; the record says so until it is forgotten too.
    Void {
        /// Why they are gone.
        why: VoidReason,
        /// When the record may be forgotten; `None` = never.
        until: Option<SystemTime>,
    },
}

/// Why the bytes of an upload were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VoidReason {
    /// It was not finished in time.
    Expired,
    /// A client removed it.
    Removed,
}

/// Opaque bytes by which a store finds written data again. Carried unread, and kept until the
/// commit: a store may free data whose receipts are all gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Receipt(pub Bytes);

impl Receipt {
    /// Whether the store needs nothing to find the data again.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The only way an upload changes. Nothing that was recorded is ever taken back: no change
/// withdraws bytes or a length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[non_exhaustive]
pub enum Change {
    /// It was made. Always the first change, and only the first.
    Created {
        /// See [`Upload::completion`].
        #[serde(default, skip_serializing_if = "is_default")]
        completion: Completion,
        /// See [`Upload::key`].
        #[serde(default, skip_serializing_if = "is_default")]
        key: Option<Key>,
        /// See [`Upload::length`].
        #[serde(default, skip_serializing_if = "is_default")]
        length: Option<u64>,
        /// See [`Upload::metadata`].
        #[serde(default, skip_serializing_if = "is_default")]
        metadata: Metadata,
        /// See [`Upload::owner`].
        #[serde(default, skip_serializing_if = "is_default")]
        owner: Option<String>,
        /// See [`Upload::role`].
        #[serde(default, skip_serializing_if = "is_default")]
        role: Role,
        /// See [`Upload::created`].
        #[serde(with = "unix_ms")]
        at: SystemTime,
    },
    /// The client said what it is, in a request that had brought bytes before.
    Described {
        /// See [`Upload::metadata`].
        metadata: Metadata,
    },
    /// Its length became known. Of an upload that is complete on request, it may become known anew.
    LengthDeclared {
        /// Total bytes.
        length: u64,
    },
    /// Bytes arrived and are durable.
    Received {
        /// Which bytes.
        range: Range<u64>,
        /// Where the store has them.
        #[serde(default, skip_serializing_if = "Receipt::is_empty")]
        receipt: Receipt,
    },
    /// It holds exactly its bytes from now on.
    Completed {
        /// When.
        #[serde(with = "unix_ms")]
        at: SystemTime,
    },
    /// Its bytes are given up.
    Voided {
        /// See [`Phase::Void`].
        why: VoidReason,
        /// See [`Phase::Void`].
        #[serde(with = "unix_ms_option")]
        until: Option<SystemTime>,
    },
    /// Its deadline moved.
    ExpiryMoved {
        /// See [`Upload::expires`].
        #[serde(with = "unix_ms_option")]
        expires: Option<SystemTime>,
    },
}

/// What observers hear of an upload: what its changes mean to a listener that does not keep the
/// record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It was made.
    Created,
    /// Its length became known.
    LengthDeclared {
        /// Total bytes.
        length: u64,
    },
    /// Bytes arrived and are durable.
    Received {
        /// The end of the contiguous bytes from 0, by now.
        offset: u64,
    },
    /// It holds exactly its bytes from now on. Heard once.
    Completed,
    /// It was not finished in time, and its bytes are gone.
    Expired,
    /// It was removed, and its bytes are gone.
    Removed,
}

impl Event {
    /// What a commit of `changes` that led to `upload` means, in its order. Several segments of
    /// bytes are one event.
    pub fn of(upload: &Upload, changes: &[Change]) -> Vec<Self> {
        let mut events = Vec::new();
        for change in changes {
            let event = match change {
                Change::Created { .. } => Self::Created,
                Change::LengthDeclared { length } => Self::LengthDeclared { length: *length },
                Change::Received { .. } => Self::Received { offset: upload.offset() },
                Change::Completed { .. } => Self::Completed,
                Change::Voided { why: VoidReason::Expired, .. } => Self::Expired,
                Change::Voided { why: VoidReason::Removed, .. } => Self::Removed,
                Change::Described { .. } | Change::ExpiryMoved { .. } => continue,
            };
            if events.last() != Some(&event) {
                events.push(event);
            }
        }
        events
    }
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
        let Change::Created { completion, key, length, metadata, owner, role, at } = first else {
            return Err(Inconsistent { change: first.name(), phase: Phase::Open });
        };
        Ok(Self {
            id,
            completion: *completion,
            created: *at,
            expires: None,
            key: key.clone(),
            length: *length,
            metadata: metadata.clone(),
            owner: owner.clone(),
            phase: Phase::Open,
            received: Ranges::new(),
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
            Change::Described { metadata } => {
                self.metadata = metadata.clone();
                self.phase == Phase::Open
            }
            Change::LengthDeclared { length } => {
                let may_change = self.completion == Completion::OnRequest;
                let fits = self.length.is_none_or(|known| may_change || known == *length)
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
            Change::Completed { at } => {
                let fits = self.phase == Phase::Open && self.is_full();
                self.phase = Phase::Complete { at: *at };
                fits
            }
            Change::Voided { why, until } => {
                let fits = !self.is_void();
                self.phase = Phase::Void { why: *why, until: *until };
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
            key: self.key.clone(),
            length: self.length,
            metadata: self.metadata.clone(),
            owner: self.owner.clone(),
            role: self.role.clone(),
            at: self.created,
        }];
        changes.extend(
            self.received
                .iter()
                .map(|range| Change::Received { range, receipt: Receipt::default() }),
        );
        match self.phase {
            Phase::Open => {}
            Phase::Complete { at } => changes.push(Change::Completed { at }),
            Phase::Void { why, until } => changes.push(Change::Voided { why, until }),
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
        matches!(self.phase, Phase::Complete { .. })
    }

    /// Whether it is to be joined into a final upload.
    pub const fn is_partial(&self) -> bool {
        matches!(self.role, Role::Partial { .. })
    }

    /// Whether its bytes are gone.
    pub fn is_void(&self) -> bool {
        matches!(self.phase, Phase::Void { .. })
    }

    /// Whether it is made of others, and waits for them to be complete.
    pub fn is_pending_final(&self) -> bool {
        matches!(self.role, Role::Final { .. }) && self.phase == Phase::Open
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
            Self::Described { .. } => "described",
            Self::LengthDeclared { .. } => "length_declared",
            Self::Received { .. } => "received",
            Self::Completed { .. } => "completed",
            Self::Voided { .. } => "voided",
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
    const VOIDED: Change = Change::Voided { why: VoidReason::Expired, until: Some(UNIX_EPOCH) };

    fn upload(length: Option<u64>) -> Upload {
        let created = Change::Created {
            completion: Completion::WhenFull,
            key: Some(Key::new(b"secret", &[b"name"])),
            length,
            metadata: "name YQ==".parse().expect("plain"),
            owner: Some("somebody".to_owned()),
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
            (Some(5), vec![VOIDED, received(0..5)], false),
            (Some(5), vec![VOIDED, VOIDED], false),
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
        let moved = open.after(&[moved]).expect("fits");
        let void = open.after(&[VOIDED]).expect("fits");
        for upload in [open, complete, moved, void] {
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

    #[test]
    fn several_blocks_are_one_event_and_a_moved_deadline_is_none() {
        let moved = Change::ExpiryMoved { expires: None };
        let changes = [received(0..2), received(2..5), COMPLETED, moved];
        let upload = upload(Some(5)).after(&changes).expect("fits");
        let events = Event::of(&upload, &changes);
        assert_eq!(events, [Event::Received { offset: 5 }, Event::Completed]);
        assert_eq!(Event::of(&upload, &upload.history())[0], Event::Created);
    }
}
