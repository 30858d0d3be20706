//! Vectors that start on a cache line, so that no load of a whole SIMD register touches two lines.

use std::ops::{Deref, DerefMut};

use bytemuck::Pod;

/// Bytes of a cache line.
pub const LINE: usize = 64;

/// Values of a fixed number that start on a cache line.
#[derive(Debug)]
pub struct AlignedVec<T> {
    memory: Vec<T>,
    start: usize,
    len: usize,
}

impl<T> Default for AlignedVec<T> {
    fn default() -> Self {
        Self { memory: Vec::new(), start: 0, len: 0 }
    }
}

impl<T: Pod> AlignedVec<T> {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        let spare = LINE / size_of::<T>();
        let memory = vec![T::zeroed(); len + spare];
        let start = memory.as_ptr().align_offset(LINE).min(spare);
        Self { memory, start, len }
    }

    /// The first `len` values, which are made where there are fewer. What they hold is left over from earlier.
    pub fn first(&mut self, len: usize) -> &mut [T] {
        if self.len < len {
            *self = Self::new(len);
        }
        &mut self[..len]
    }
}

impl<T> Deref for AlignedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_start_on_a_line_with_zeros() {
        for len in [0, 1, 1000] {
            let values = AlignedVec::<f32>::new(len);
            assert_eq!((values.len(), values.as_ptr().align_offset(LINE)), (len, 0));
            assert!(values.iter().all(|&value| value == 0.0));
        }
        assert!(AlignedVec::<i8>::default().is_empty());
    }
}
