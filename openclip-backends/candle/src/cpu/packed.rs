//! Packed values that never change: in memory, or in a mapped file of which several processes share the pages.

use std::{marker::PhantomData, ops::Deref, ops::Range, sync::Arc};

use bytemuck::Pod;
use memmap2::Mmap;

use super::aligned::{AlignedVec, LINE};

/// Bytes that start on a cache line. Cheap to clone: clones share them.
#[derive(Clone, Debug)]
pub struct PackedBytes(Memory);

#[derive(Clone, Debug)]
enum Memory {
    Owned(Arc<AlignedVec<u8>>),
    Mapped { map: Arc<Mmap>, start: usize, len: usize },
}

impl PackedBytes {
    /// Part of a map; `None` when it lies outside or doesn't start on a cache line.
    pub fn mapped(map: &Arc<Mmap>, range: Range<usize>) -> Option<Self> {
        let bytes = map.get(range.clone())?;
        let aligned = bytes.as_ptr().align_offset(LINE) == 0;
        aligned.then(|| Self(Memory::Mapped { map: Arc::clone(map), start: range.start, len: range.len() }))
    }
}

impl Deref for PackedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Owned(values) => values,
            Memory::Mapped { map, start, len } => &map[*start..*start + *len],
        }
    }
}

/// Values that start on a cache line. Cheap to clone: clones share them.
#[derive(Clone, Debug)]
pub struct PackedValues<T> {
    bytes: PackedBytes,
    values: PhantomData<T>,
}

impl<T: Pod> PackedValues<T> {
    /// `len` values, zeros to begin with, that `fill` writes.
    pub fn new(len: usize, fill: impl FnOnce(&mut [T])) -> Self {
        let mut memory = AlignedVec::<u8>::new(len * size_of::<T>());
        fill(bytemuck::cast_slice_mut(&mut memory));
        Self { bytes: PackedBytes(Memory::Owned(Arc::new(memory))), values: PhantomData }
    }

    /// `bytes` as values; `None` when they aren't a whole number of them.
    pub fn from_bytes(bytes: PackedBytes) -> Option<Self> {
        bytes.len().is_multiple_of(size_of::<T>()).then_some(Self { bytes, values: PhantomData })
    }

    /// The memory.
    pub fn bytes(&self) -> &PackedBytes {
        &self.bytes
    }
}

impl<T: Pod> Deref for PackedValues<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // Both constructors made sure that this is possible.
        bytemuck::cast_slice(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_was_filled_in() {
        let values = PackedValues::<f32>::new(3, |values| values[1] = 2.0);
        assert_eq!((&values[..], values.as_ptr().align_offset(LINE)), (&[0.0, 2.0, 0.0][..], 0));
        let same = PackedValues::<u32>::from_bytes(values.bytes().clone()).unwrap();
        assert_eq!(same[..], [0, 2.0_f32.to_bits(), 0]);
        let odd = PackedValues::<i8>::new(3, |_| {});
        assert!(PackedValues::<f32>::from_bytes(odd.bytes().clone()).is_none());
    }

    #[test]
    fn parts_of_a_map_lie_within_it_on_cache_lines() {
        let mut map = memmap2::MmapMut::map_anon(256).unwrap();
        map[64] = 7;
        let map = Arc::new(map.make_read_only().unwrap());
        assert_eq!(PackedBytes::mapped(&map, 64..70).unwrap()[..], [7, 0, 0, 0, 0, 0]);
        assert!(PackedBytes::mapped(&map, 64..usize::MAX).is_none());
        assert!(PackedBytes::mapped(&map, 192..257).is_none());
        assert!(PackedBytes::mapped(&map, 32..64).is_none());
    }
}
