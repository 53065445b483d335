//! [`Ranges`]: the set of received bytes.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A set of byte positions as sorted, disjoint, coalesced, non-empty half-open ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// The empty set.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The end of the run that begins at 0: how many bytes can be read from the start on.
    pub fn prefix(&self) -> u64 {
        match self.0.first() {
            Some(first) if first.start == 0 => first.end,
            Some(_) | None => 0,
        }
    }

    /// The number of separate runs.
    pub fn runs(&self) -> usize {
        self.0.len()
    }

    /// The end of the last run, 0 for the empty set.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |last| last.end)
    }

    /// The runs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }

    /// Whether every byte of `range` is in the set. An empty range always is.
    pub fn covers(&self, range: &Range<u64>) -> bool {
        let first = self.0.partition_point(|run| run.end <= range.start);
        range.is_empty()
            || self.0.get(first).is_some_and(|run| run.start <= range.start && range.end <= run.end)
    }

    /// The first run that ends behind `position`.
    pub fn run_after(&self, position: u64) -> Option<Range<u64>> {
        self.0.get(self.0.partition_point(|run| run.end <= position)).cloned()
    }

    /// Adds `range`.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // All runs that overlap or touch `range` become one with it.
        let first = self.0.partition_point(|run| run.end < range.start);
        let last = self.0.partition_point(|run| run.start <= range.end);
        let mut merged = range;
        for run in self.0.get(first..last).unwrap_or_default() {
            merged = merged.start.min(run.start)..merged.end.max(run.end);
        }
        self.0.splice(first..last, [merged]);
    }

    /// The bytes of `range` that are in the set.
    #[must_use]
    pub fn within(&self, range: &Range<u64>) -> Self {
        let first = self.0.partition_point(|run| run.end <= range.start);
        let last = self.0.partition_point(|run| run.start < range.end);
        let runs = self.0.get(first..last).unwrap_or_default().iter();
        let cut = |run: &Range<u64>| run.start.max(range.start)..run.end.min(range.end);
        Self(runs.map(cut).filter(|run| !run.is_empty()).collect())
    }

    /// The bytes of `within` that are not in the set, in ascending order.
    pub fn gaps(&self, within: &Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = within.start;
        for run in self.0.iter().skip_while(|run| run.end <= within.start) {
            if run.start >= within.end {
                break;
            }
            gaps.push(at..run.start.max(at));
            at = run.end;
        }
        gaps.push(at..within.end.max(at));
        gaps.retain(|gap| !gap.is_empty());
        gaps
    }
}

impl From<Range<u64>> for Ranges {
    fn from(range: Range<u64>) -> Self {
        let mut ranges = Self::new();
        ranges.insert(range);
        ranges
    }
}

impl From<Vec<(u64, u64)>> for Ranges {
    fn from(pairs: Vec<(u64, u64)>) -> Self {
        let mut ranges = Self::new();
        for (start, end) in pairs {
            ranges.insert(start..end);
        }
        ranges
    }
}

impl From<Ranges> for Vec<(u64, u64)> {
    fn from(ranges: Ranges) -> Self {
        ranges.0.into_iter().map(|run| (run.start, run.end)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn range() -> impl Strategy<Value = Range<u64>> {
        (0_u64..40, 0_u64..12).prop_map(|(start, len)| start..start + len)
    }

    proptest! {
        /// The ranges behave as a set of single positions does, and stay in normal form.
        #[test]
        fn ranges_agree_with_a_set_of_positions(
            inserted in proptest::collection::vec(range(), 0..30),
            ask in range(),
        ) {
            let mut ranges = Ranges::new();
            let mut model = BTreeSet::new();
            for range in inserted {
                ranges.insert(range.clone());
                model.extend(range);
            }
            prop_assert_eq!(ranges.iter().flatten().collect::<BTreeSet<_>>(), model.clone());
            let runs: Vec<_> = ranges.iter().collect();
            prop_assert!(runs.iter().all(|run| run.start < run.end));
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert_eq!(ranges.prefix(), (0..).find(|at| !model.contains(at)).unwrap_or(0));
            prop_assert_eq!(ranges.covers(&ask), ask.clone().all(|at| model.contains(&at)));
            let missing: Vec<u64> = ranges.gaps(&ask).into_iter().flatten().collect();
            let expected: Vec<u64> = ask.clone().filter(|at| !model.contains(at)).collect();
            prop_assert_eq!(missing, expected);
            let held: Vec<u64> = ranges.within(&ask).iter().flatten().collect();
            let expected: Vec<u64> = ask.filter(|at| model.contains(at)).collect();
            prop_assert_eq!(held, expected);
            let text = serde_json::to_string(&ranges).expect("ranges are plain pairs");
            prop_assert_eq!(serde_json::from_str::<Ranges>(&text).expect("own text"), ranges);
        }
    }
}
