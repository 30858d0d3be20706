//! Random numbers that are the same everywhere.

/// Uniform numbers from a seed: the counter-based generator splitmix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(super) struct Uniforms {
    state: u64,
}

impl Uniforms {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number from 0 to 1, the latter excluded, in steps of 2^-53.
    pub(super) fn next(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_splitmix64() {
        let mut uniforms = Uniforms::new(0);
        let first = 0xe220_a839_7b1d_cdaf_u64;
        assert_eq!(uniforms.next(), (first >> 11) as f64 / (1_u64 << 53) as f64);
        assert_ne!(uniforms.next(), Uniforms::new(1).next());
    }
}
