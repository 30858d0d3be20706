//! Buffers that are used again for the next image: fresh pages for each would cost as much as resizing does.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::decode::JpegScratch;

/// What a thread that prepares many images keeps between them.
#[derive(Default)]
pub(crate) struct Scratch {
    pub jpeg: JpegScratch,
    pub pool: BufferPool,
}

/// Scratch of threads that prepare images one by one, for the next call of any of them.
#[derive(Default)]
pub(crate) struct ScratchPool(Mutex<Vec<Scratch>>);

impl ScratchPool {
    /// Lends scratch to `work`. More is kept than there are cores only while it is in use.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut Scratch) -> R) -> R {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = kept().pop().unwrap_or_default();
        let result = work(&mut scratch);
        let mut kept = kept();
        if kept.len() < std::thread::available_parallelism().map_or(1, usize::from) {
            kept.push(scratch);
        }
        result
    }
}

impl fmt::Debug for ScratchPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScratchPool").finish_non_exhaustive()
    }
}

/// Byte buffers that wait to be used again.
#[derive(Default)]
pub(crate) struct BufferPool(Vec<Vec<u8>>);

/// Buffers that are kept: no step needs more at once.
const KEPT: usize = 4;
/// Buffers that are larger are given back, so that one huge image doesn't hold memory for good.
pub(crate) const LARGEST_KEPT: usize = 64 << 20;

impl BufferPool {
    /// A buffer of `length` bytes of any value.
    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        let fitting = self.0.iter().position(|buffer| buffer.capacity() >= length);
        let Some(index) = fitting else { return vec![0; length] };
        let mut buffer = self.0.swap_remove(index);
        buffer.resize(length, 0);
        buffer
    }

    /// Keeps a buffer for later.
    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() > LARGEST_KEPT {
            return;
        }
        if self.0.len() == KEPT {
            // The smallest is the least likely to fit.
            let smallest = self.0.iter().enumerate().min_by_key(|(_, buffer)| buffer.capacity());
            if let Some((index, _)) = smallest {
                self.0.swap_remove(index);
            }
        }
        self.0.push(buffer);
    }
}
