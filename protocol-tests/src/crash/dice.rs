//! Seeded chance.

/// A source of choices that a seed repeats.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The choices of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_F42D_4C95_7F2D)
    }

    /// The next choice below `sides`, which is not 0.
    pub fn roll(&mut self, sides: u64) -> u64 {
        // SplitMix64: neighbouring seeds have nothing in common.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }

    /// Whether an event with the odds of one in `odds` happens.
    pub fn one_in(&mut self, odds: u64) -> bool {
        self.roll(odds) == 0
    }

    /// One of the elements of a slice that is not empty.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.roll(among.len() as u64) as usize]
    }

    /// Another source, for somebody who rolls at times of their own.
    pub fn split(&mut self) -> Self {
        Self::new(self.roll(u64::MAX))
    }
}
