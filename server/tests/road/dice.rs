//! Random choices that a seed repeats.

/// A stream of choices: splitmix64.
pub(crate) struct Dice(u64);

impl Dice {
    /// The stream of this seed, or of `TILLROLL_SEED`. Prints which.
    pub(crate) fn new(seed: u64) -> Self {
        let given = std::env::var("TILLROLL_SEED").ok().map(|text| text.parse().expect("TILLROLL_SEED is a number"));
        let seed = given.unwrap_or(seed);
        println!("seed {seed}; TILLROLL_SEED={seed} repeats it");
        Self(seed)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// True one time in two.
    pub(crate) fn flip(&mut self) -> bool {
        self.below(2) == 0
    }

    /// So many bytes.
    pub(crate) fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }

    /// A word of so many letters, as often seen twice as words are.
    pub(crate) fn word(&mut self, letters: u64) -> String {
        (0..letters).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}
