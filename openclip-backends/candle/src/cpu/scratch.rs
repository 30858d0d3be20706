//! Memory for intermediate values, kept by each thread, so that no operation waits for fresh pages.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

use super::aligned::AlignedVec;

/// Buffers that a thread keeps. What is taken beyond that is freed again.
const KEPT: usize = 8;

thread_local! {
    static POOL: RefCell<Vec<AlignedVec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Values that start on a cache line. What they hold at first is left over from earlier.
pub struct Scratch {
    memory: AlignedVec<f32>,
    len: usize,
}

impl Scratch {
    /// A buffer of `len` values.
    pub fn new(len: usize) -> Self {
        // The smallest that is large enough; else the largest gives way to a larger one.
        let fitting = |(_, kept): &(usize, &AlignedVec<f32>)| (kept.len() < len, kept.len().abs_diff(len));
        let kept = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            let best = pool.iter().enumerate().min_by_key(fitting).map(|(place, _)| place);
            best.map(|place| pool.swap_remove(place))
        });
        let memory = kept.ok().flatten().filter(|kept| kept.len() >= len);
        Self { memory: memory.unwrap_or_else(|| AlignedVec::new(len)), len }
    }
}

impl Scratch {
    /// The memory as bytes.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }

    /// The memory as bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(self)
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[..self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        // A thread that ends has no pool any more.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < KEPT {
                pool.push(memory);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_starts_on_a_cache_line() {
        let first = Scratch::new(1000);
        let place = first.as_ptr();
        assert_eq!((place.align_offset(64), first.len()), (0, 1000));
        let other = Scratch::new(1000);
        assert_ne!(other.as_ptr(), place);
        drop(first);
        let again = Scratch::new(900);
        assert_eq!((again.as_ptr(), again.len()), (place, 900));
    }
}
