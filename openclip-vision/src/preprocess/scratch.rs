//! Buffers that are used again for the next image: fresh pages for each would cost as much as resizing does.

use super::decode::JpegScratch;

/// What a thread that prepares many images keeps between them.
#[derive(Default)]
pub(crate) struct Scratch {
    pub jpeg: JpegScratch,
    pub pool: BufferPool,
}

/// Byte buffers that wait to be used again.
#[derive(Default)]
pub(crate) struct BufferPool(Vec<Vec<u8>>);

/// Buffers that are kept: no step needs more at once.
const KEPT: usize = 4;
/// Buffers that are larger are given back, so that one huge image doesn't hold memory for good.
const LARGEST_KEPT: usize = 64 << 20;

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
