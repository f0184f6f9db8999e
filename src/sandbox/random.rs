//! Small repeatable randomness for faults: the same seed and the same calls give the same faults.
//!
//! Not for secrets. The generator is `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
//! Generators, 2014): a counter and a mixing function, so every seed is a good one, zero included.

/// A seeded generator.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// A generator that starts at this seed.
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0.0..1.0`.
    pub(super) fn fraction(&mut self) -> f64 {
        // 32 bits fit a float exactly, and are fine enough for a probability.
        let bits = u32::try_from(self.next() >> 32).unwrap_or(u32::MAX);
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_spread_evenly() {
        let draw = |seed| {
            let mut random = Random::seeded(seed);
            (0..10_000).map(|_| random.fraction()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let numbers = draw(0);
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        let low = numbers.iter().filter(|number| **number < 0.25).count();
        assert!((2_300..2_700).contains(&low), "{low} of 10000 below a quarter");
    }
}
