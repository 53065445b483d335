//! [`Chunk`]: chunk numbers and sizes to byte ranges. Pure arithmetic; byte ranges are the truth,
//! numbers exist only inside one request.
//!
//! # Source
//! J-010 to J-016, C-51; resumable.js `ResumableChunk` and
//! `bootstrap`. The rule by which a client cuts its last chunk is not transmitted.

use std::{fmt, ops::Range};

/// What follows the last boundary of a form, in bytes.
const LINE_BREAK_BYTES: u64 = 2;

/// What a request says about its chunk. Numbers are at most 2^53-1, `number` and `size` at least 1
/// (J-001, J-002).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Its number, from 1.
    pub(super) number: u64,
    /// The bytes of every chunk but the last.
    pub(super) size: u64,
    /// The bytes of this chunk, if the request says so.
    pub(super) current: Option<u64>,
    /// The bytes of the file.
    pub(super) total: u64,
    /// The number of chunks, if the request says so. It may be too small: resumable.js 1.1.0 counts
    /// those that it has made so far.
    pub(super) chunks: Option<u64>,
}

/// The lengths a chunk may have (J-011).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lengths {
    /// The last whole chunk of a file with a remainder: with it (`floor`) or without (`ceil`).
    Either {
        /// `floor(total / size)` chunks, the last one longer.
        floor: u64,
        /// `ceil(total / size)` chunks, the last one shorter.
        ceil: u64,
    },
    /// Both rules agree, or only one of them has such a chunk.
    One(u64),
}

/// Why a chunk is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// There is no chunk of this number.
    Number,
    /// The number of chunks is not one that this chunk could be part of (J-015).
    Chunks,
    /// It cannot have this length, or its length is missing where two are possible.
    Length,
}

impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Either { floor, ceil } => write!(f, "{ceil} or {floor}"),
            Self::One(one) => write!(f, "{one}"),
        }
    }
}

impl Lengths {
    /// All of them, the larger one first.
    fn all(self) -> impl Iterator<Item = u64> {
        let (one, other) = match self {
            Self::Either { floor, ceil } => (floor, Some(ceil)),
            Self::One(one) => (one, None),
        };
        std::iter::once(one).chain(other)
    }

    fn allows(self, length: u64) -> bool {
        self.all().any(|allowed| allowed == length)
    }

    /// The larger one.
    fn most(self) -> u64 {
        match self {
            Self::Either { floor, .. } => floor,
            Self::One(one) => one,
        }
    }

    /// The only one.
    fn only(self) -> Option<u64> {
        match self {
            Self::Either { .. } => None,
            Self::One(one) => Some(one),
        }
    }
}

impl Chunk {
    /// The bytes that a test asks about. Of two possible lengths it is the larger one: a wrong
    /// "absent" costs bandwidth, a wrong "present" costs data (J-013).
    ///
    /// # Errors
    /// Any [`Misfit`].
    pub(super) fn tested(&self, strict: bool) -> Result<Range<u64>, Misfit> {
        let lengths = self.lengths()?;
        let Some(current) = self.current else {
            self.check_chunks(None, strict)?;
            return self.range(lengths.most());
        };
        self.fitting(lengths, current, strict)
    }

    /// The bytes that an upload brings, of which `sent` arrive as far as is known beforehand
    /// (J-012).
    ///
    /// # Errors
    /// Any [`Misfit`].
    pub(super) fn uploaded(&self, sent: Option<u64>, strict: bool) -> Result<Range<u64>, Misfit> {
        let length = self.current.or(sent).or(self.missing_lengths()?.only());
        self.fitting(self.lengths()?, length.ok_or(Misfit::Length)?, strict)
    }

    /// The bytes of an upload that does not say how many they are, where at most `room` bytes can
    /// be its payload. Clients end a form with a line break, which takes two of them.
    pub(super) fn most_within(&self, room: u64) -> Option<u64> {
        let lengths = self.missing_lengths().ok()?;
        let ended = room.checked_sub(LINE_BREAK_BYTES);
        let exact = lengths.all().find(|length| Some(*length) == ended);
        exact.or(lengths.only()).or_else(|| lengths.all().find(|length| *length <= room))
    }

    /// The lengths that a chunk may have, as it is understood by a client.
    pub(super) fn allowed(&self) -> Option<Lengths> {
        self.lengths().ok()
    }

    /// The number of chunks by either rule: `floor`, `ceil`.
    pub(super) fn counts(size: u64, total: u64) -> (u64, u64) {
        let floor = total.checked_div(size).unwrap_or(0);
        let has_rest = floor.saturating_mul(size) < total;
        let ceil = floor.saturating_add(u64::from(has_rest));
        (floor.max(1), ceil.max(1))
    }

    /// J-011 for a chunk whose length is missing. A number of chunks that only one of the rules
    /// yields identifies that rule.
    fn missing_lengths(&self) -> Result<Lengths, Misfit> {
        let lengths = self.lengths()?;
        let (floor, _) = Self::counts(self.size, self.total);
        Ok(match lengths {
            Lengths::Either { ceil, .. } if self.chunks > Some(floor) => Lengths::One(ceil),
            Lengths::Either { .. } | Lengths::One(_) => lengths,
        })
    }

    /// J-011.
    fn lengths(&self) -> Result<Lengths, Misfit> {
        let (floor, ceil) = Self::counts(self.size, self.total);
        if self.number < 1 || self.number > ceil {
            return Err(Misfit::Number);
        }
        let rest = self.total.checked_sub(self.offset()?);
        let rest = rest.ok_or(Misfit::Number)?;
        Ok(if self.number < floor {
            Lengths::One(self.size)
        } else if self.number == floor && floor < ceil {
            Lengths::Either { floor: rest, ceil: self.size }
        } else {
            Lengths::One(rest)
        })
    }

    fn fitting(&self, lengths: Lengths, length: u64, strict: bool) -> Result<Range<u64>, Misfit> {
        if !lengths.allows(length) {
            return Err(Misfit::Length);
        }
        self.check_chunks(Some(length), strict)?;
        self.range(length)
    }

    /// J-015. A number below the true one but not below the chunk's own is legitimate; none at all,
    /// or one that leaves the chunk out, comes from a client that has given the file up.
    fn check_chunks(&self, length: Option<u64>, strict: bool) -> Result<(), Misfit> {
        let Some(chunks) = self.chunks else {
            return Ok(());
        };
        let (floor, ceil) = Self::counts(self.size, self.total);
        let takes_rest = floor < ceil && self.number == floor && length > Some(self.size);
        let most = if takes_rest { floor } else { ceil };
        let is_known = !strict || chunks == floor || chunks == ceil;
        if self.number <= chunks && chunks <= most && is_known {
            Ok(())
        } else {
            Err(Misfit::Chunks)
        }
    }

    /// J-010.
    fn offset(&self) -> Result<u64, Misfit> {
        self.number
            .checked_sub(1)
            .and_then(|before| before.checked_mul(self.size))
            .ok_or(Misfit::Number)
    }

    fn range(&self, length: u64) -> Result<Range<u64>, Misfit> {
        let start = self.offset()?;
        let end = start.checked_add(length).filter(|end| *end <= self.total);
        Ok(start..end.ok_or(Misfit::Length)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The largest number that a request can hold.
    const MOST: u64 = (1 << 53) - 1;

    fn chunk(number: u64, size: u64, current: Option<u64>, total: u64) -> Chunk {
        Chunk { number, size, current, total, chunks: None }
    }

    #[test]
    fn lengths_are_those_of_the_table_j_011() {
        use Lengths::{Either, One};
        for (number, size, total, expected) in [
            (1, 10, 0, Ok(One(0))),
            (2, 10, 0, Err(Misfit::Number)),
            (0, 10, 5, Err(Misfit::Number)),
            (1, 10, 5, Ok(One(5))),
            (2, 10, 5, Err(Misfit::Number)),
            (1, 10, 10, Ok(One(10))),
            (1, 10, 19, Ok(Either { floor: 19, ceil: 10 })),
            (2, 10, 19, Ok(One(9))),
            (3, 10, 19, Err(Misfit::Number)),
            (1, 10, 20, Ok(One(10))),
            (2, 10, 20, Ok(One(10))),
            (3, 10, 20, Err(Misfit::Number)),
            (1, 10, 29, Ok(One(10))),
            (2, 10, 29, Ok(Either { floor: 19, ceil: 10 })),
            (3, 10, 29, Ok(One(9))),
            (MOST, 1, MOST, Ok(One(1))),
            (1, MOST, MOST, Ok(One(MOST))),
            (MOST, MOST, MOST, Err(Misfit::Number)),
            (2, 1 << 52, MOST, Ok(One((1 << 52) - 1))),
        ] {
            let chunk = chunk(number, size, None, total);
            assert_eq!(chunk.lengths(), expected, "{chunk:?}");
        }
    }

    #[test]
    fn uploads_have_the_length_they_say_or_bring_j_012() {
        for (number, total, current, sent, expected) in [
            (1, 29, Some(10), None, Ok(0..10)),
            (2, 29, Some(19), None, Ok(10..29)),
            (2, 29, Some(10), None, Ok(10..20)),
            (3, 29, Some(9), None, Ok(20..29)),
            (2, 29, Some(15), None, Err(Misfit::Length)),
            (2, 29, Some(0), None, Err(Misfit::Length)),
            (1, 29, None, None, Ok(0..10)),
            (1, 29, None, Some(9), Err(Misfit::Length)),
            (2, 29, None, Some(19), Ok(10..29)),
            (2, 29, None, Some(10), Ok(10..20)),
            (2, 29, None, None, Err(Misfit::Length)),
            // What the request says decides; that it sends something else shows later.
            (2, 29, Some(19), Some(10), Ok(10..29)),
            (1, 5, Some(5), None, Ok(0..5)),
            (1, 0, Some(0), None, Ok(0..0)),
            (1, 0, None, Some(0), Ok(0..0)),
        ] {
            let chunk = chunk(number, 10, current, total);
            assert_eq!(chunk.uploaded(sent, false), expected, "{chunk:?} {sent:?}");
        }
    }

    #[test]
    fn tests_without_a_length_ask_for_the_larger_one_j_013() {
        for (number, current, expected) in [
            (1, None, Ok(0..10)),
            (2, None, Ok(10..29)),
            (2, Some(10), Ok(10..20)),
            (2, Some(19), Ok(10..29)),
            (2, Some(9), Err(Misfit::Length)),
            (3, None, Ok(20..29)),
            (4, None, Err(Misfit::Number)),
        ] {
            let chunk = chunk(number, 10, current, 29);
            assert_eq!(chunk.tested(false), expected, "{chunk:?}");
        }
    }

    #[test]
    fn numbers_of_chunks_include_the_chunk_j_015_f_09() {
        for (number, current, chunks, is_good, is_good_if_strict) in [
            (1, 10, 0, false, false),
            (1, 10, 1, true, false),
            (1, 10, 2, true, true),
            (1, 10, 3, true, true),
            (1, 10, 4, false, false),
            (2, 19, 1, false, false),
            (2, 19, 2, true, true),
            (2, 19, 3, false, false),
            (2, 10, 2, true, true),
            (2, 10, 3, true, true),
            (3, 9, 2, false, false),
            (3, 9, 3, true, true),
            (3, 9, 4, false, false),
        ] {
            for (strict, expected) in [(false, is_good), (true, is_good_if_strict)] {
                let chunk = Chunk { chunks: Some(chunks), ..chunk(number, 10, Some(current), 29) };
                assert_eq!(chunk.uploaded(None, strict).is_ok(), expected, "{chunk:?}");
                assert_eq!(chunk.tested(strict).is_ok(), expected, "{chunk:?}");
            }
        }
        // A test that does not tell its length may come from either kind of client.
        for chunks in [2, 3] {
            let chunk = Chunk { chunks: Some(chunks), ..chunk(2, 10, None, 29) };
            assert_eq!(chunk.tested(true), Ok(10..29), "{chunk:?}");
        }
        let empty = Chunk { chunks: Some(1), ..chunk(1, 10, Some(0), 0) };
        assert_eq!(empty.uploaded(None, true), Ok(0..0));
    }

    #[test]
    fn missing_lengths_are_the_largest_that_fit_the_body_j_012() {
        for (number, total, room, expected) in [
            (2, 29, 18, Some(10)),
            (2, 29, 19, Some(19)),
            (2, 29, 21, Some(19)),
            (2, 29, 99, Some(19)),
            (2, 29, 9, None),
            (1, 29, 3, Some(10)),
            (9, 29, 3, None),
            // A rest of a byte or two, and the end of a form that has a line break or none.
            (2, 21, 12, Some(10)),
            (2, 21, 13, Some(11)),
            (2, 21, 11, Some(11)),
            (2, 22, 12, Some(10)),
            (2, 22, 14, Some(12)),
        ] {
            let chunk = chunk(number, 10, None, total);
            assert_eq!(chunk.most_within(room), expected, "{chunk:?} {room}");
        }
        let by_ceil = Chunk { chunks: Some(3), ..chunk(2, 10, None, 21) };
        assert_eq!(by_ceil.most_within(99), Some(10));
    }

    /// How the clients cut a file.
    fn cut(size: u64, total: u64, by_floor: bool) -> Vec<Range<u64>> {
        let count = if by_floor { total / size } else { total.div_ceil(size) };
        let end = |k: u64| {
            let end = total.min(k * size);
            let takes_rest = by_floor && total - end < size;
            if takes_rest { total } else { end }
        };
        (1..=count.max(1)).map(|k| (k - 1) * size..end(k)).collect()
    }

    proptest! {
        #[test]
        fn both_ways_to_cut_a_file_are_understood_j_011_f_06(
            size in 1_u64..40,
            total in 0_u64..400,
            by_floor in any::<bool>(),
        ) {
            let ranges = cut(size, total, by_floor);
            for (number, range) in (1..).zip(&ranges) {
                let chunk = Chunk {
                    chunks: Some(ranges.len() as u64),
                    ..chunk(number, size, Some(range.end - range.start), total)
                };
                prop_assert_eq!(chunk.uploaded(None, true), Ok(range.clone()), "{:?}", chunk);
                prop_assert_eq!(chunk.tested(true), Ok(range.clone()), "{:?}", chunk);
            }
            let after = chunk(total.div_ceil(size).max(1) + 1, size, None, total);
            prop_assert_eq!(after.tested(false), Err(Misfit::Number));
        }

        #[test]
        fn no_numbers_overflow_or_leave_the_file_j_002_f_40(
            number in 0..=u64::MAX,
            size in 1..=u64::MAX,
            current in proptest::option::of(0..=u64::MAX),
            total in 0..=u64::MAX,
            chunks in proptest::option::of(0..=u64::MAX),
            strict in any::<bool>(),
        ) {
            let chunk = Chunk { number, size, current, total, chunks };
            let ranges = [chunk.tested(strict), chunk.uploaded(None, strict)];
            for range in ranges.into_iter().flatten() {
                prop_assert!(range.start <= range.end && range.end <= total);
            }
        }
    }
}
