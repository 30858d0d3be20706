//! Tensors as PyTorch stores them: elements at an offset and strides within a storage. Contiguous ones are slices of
//! the file; others are gathered into row-major order.

use std::borrow::Cow;

use super::globals::ElementType;

/// Bytes up to which a tensor may be larger than its storage, as `expand` makes them. Beyond, it is an attempt to
/// exhaust memory.
const MAX_EXPANDED_BYTES: usize = 256 << 20;

/// Where the elements of a tensor lie in its storage.
#[derive(Clone, Debug)]
pub(super) struct Strided {
    pub(super) element: ElementType,
    /// Elements before the first one.
    pub(super) offset: usize,
    pub(super) dims: Vec<usize>,
    /// Elements from one index of a dimension to the next.
    pub(super) strides: Vec<usize>,
}

impl Strided {
    /// Checks that all elements lie in a storage of `storage_bytes`.
    pub(super) fn check(&self, storage_bytes: u64) -> Result<(), String> {
        let end = self.end().and_then(|end| u64::try_from(end).ok());
        match end {
            Some(end) if end <= storage_bytes => Ok(()),
            _ => Err(format!(
                "{:?} with strides {:?} from element {} exceeds its storage of {storage_bytes} bytes; the file is damaged",
                self.dims, self.strides, self.offset
            )),
        }
    }

    /// Bytes from the storage's start to the end of the last element, or `None` on overflow.
    fn end(&self) -> Option<usize> {
        if self.dims.contains(&0) {
            return Some(0);
        }
        let last = self.dims.iter().zip(&self.strides).try_fold(self.offset, |last, (&dim, &stride)| {
            last.checked_add((dim - 1).checked_mul(stride)?)
        })?;
        last.checked_add(1)?.checked_mul(self.element.size)
    }

    /// Bytes of all elements, or `None` on overflow.
    fn bytes(&self) -> Option<usize> {
        if self.dims.contains(&0) {
            return Some(0);
        }
        self.dims.iter().try_fold(self.element.size, |bytes, &dim| bytes.checked_mul(dim))
    }

    /// How many of the innermost elements are neighbours, and how many of the outer dimensions remain.
    fn run(&self) -> (usize, usize) {
        let mut run = 1;
        for (axis, (&dim, &stride)) in self.dims.iter().zip(&self.strides).enumerate().rev() {
            if dim != 1 && stride != run {
                return (run, axis + 1);
            }
            run *= dim;
        }
        (run, 0)
    }

    /// The elements in row-major order. Copies them only if they aren't in that order.
    pub(super) fn elements<'a>(&self, storage: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
        self.check(storage.len() as u64)?;
        let size = self.element.size;
        let total = self.bytes().ok_or("has more elements than can be addressed; the file is damaged")?;
        if total == 0 {
            return Ok(Cow::Borrowed(&[]));
        }
        if total > storage.len() && total > MAX_EXPANDED_BYTES {
            return Err(format!(
                "{:?} repeats a storage of {} bytes up to {total} bytes, which is refused",
                self.dims,
                storage.len()
            ));
        }
        let (run, outer) = self.run();
        let outside = || "exceeds its storage; the file is damaged".to_owned();
        let window = |first: usize| storage.get(first * size..(first + run) * size).ok_or_else(outside);
        if outer == 0 {
            return window(self.offset).map(Cow::Borrowed);
        }
        let mut gathered = Vec::new();
        gathered.try_reserve_exact(total).map_err(|_| format!("{:?} doesn't fit into memory", self.dims))?;
        let mut index = vec![0; outer];
        let mut first = self.offset;
        loop {
            gathered.extend_from_slice(window(first)?);
            if !self.advance(&mut index, &mut first) {
                return Ok(Cow::Owned(gathered));
            }
        }
    }

    /// Moves `index` over the outer dimensions to the next position in row-major order, and `first`, the element
    /// there, along with it. False at the end.
    fn advance(&self, index: &mut [usize], first: &mut usize) -> bool {
        let axes = index.iter_mut().zip(self.dims.iter().zip(&self.strides));
        for (at, (&dim, &stride)) in axes.rev() {
            if *at + 1 < dim {
                *at += 1;
                *first += stride;
                return true;
            }
            *first -= *at * stride;
            *at = 0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::globals::element_type, *};

    fn strided(offset: usize, dims: &[usize], strides: &[usize]) -> Strided {
        let element = element_type("int16").unwrap();
        Strided { element, offset, dims: dims.to_vec(), strides: strides.to_vec() }
    }

    fn storage(count: u16) -> Vec<u8> {
        (0..count).flat_map(u16::to_le_bytes).collect()
    }

    fn values(tensor: &Strided, storage: &[u8]) -> Vec<u16> {
        let bytes = tensor.elements(storage).unwrap();
        bytes.as_chunks::<2>().0.iter().map(|&pair| u16::from_le_bytes(pair)).collect()
    }

    #[test]
    fn contiguous_tensors_are_borrowed() {
        let storage = storage(7);
        for (dims, strides) in [
            (&[2, 3][..], &[3, 1][..]),
            (&[], &[]),
            (&[1, 6], &[99, 1]),
            (&[6, 1], &[1, 0]),
            (&[0, 3], &[3, 1]),
        ] {
            let elements = strided(1, dims, strides);
            assert!(matches!(elements.elements(&storage), Ok(Cow::Borrowed(_))), "{dims:?} {strides:?}");
        }
        assert_eq!(values(&strided(1, &[2, 3], &[3, 1]), &storage), [1, 2, 3, 4, 5, 6]);
        assert_eq!(values(&strided(4, &[], &[]), &storage), [4]);
    }

    #[test]
    fn transposed_and_expanded_tensors_are_gathered() {
        let storage = storage(6);
        assert_eq!(values(&strided(0, &[3, 2], &[1, 3]), &storage), [0, 3, 1, 4, 2, 5]);
        assert_eq!(values(&strided(2, &[2, 2], &[0, 1]), &storage), [2, 3, 2, 3]);
        assert_eq!(values(&strided(0, &[3], &[2]), &storage), [0, 2, 4]);
    }

    #[test]
    fn windows_outside_of_the_storage_are_refused() {
        let storage = storage(6);
        for (offset, dims, strides) in [
            (6, &[][..], &[][..]),
            (0, &[7], &[1]),
            (1, &[2, 3], &[3, 1]),
            (usize::MAX, &[1], &[1]),
            (0, &[usize::MAX, usize::MAX], &[usize::MAX, 1]),
            (0, &[2], &[usize::MAX]),
        ] {
            let found = strided(offset, dims, strides).elements(&storage);
            assert!(found.is_err_and(|message| message.contains("exceeds")), "{offset} {dims:?} {strides:?}");
        }
        let bomb = strided(0, &[1 << 40], &[0]).elements(&storage);
        assert!(bomb.unwrap_err().contains("refused"));
        let overflow = strided(0, &[1 << 40, 1 << 40], &[0, 0]).elements(&storage);
        assert!(overflow.unwrap_err().contains("more elements"));
    }

    proptest! {
        /// Whatever the permutation, an element is found where index arithmetic says.
        #[test]
        fn gathering_follows_the_index(
            dims in prop::collection::vec(1_usize..5, 1..4),
            strides in prop::collection::vec(0_usize..6, 4),
            offset in 0_usize..4,
        ) {
            let tensor = strided(offset, &dims, &strides[..dims.len()]);
            let storage = storage(64);
            let found = values(&tensor, &storage);
            let count: usize = dims.iter().product();
            prop_assert_eq!(found.len(), count);
            for (position, value) in found.into_iter().enumerate() {
                let mut rest = position;
                let mut expected = offset;
                for (dim, stride) in dims.iter().zip(&strides).rev() {
                    expected += rest % dim * stride;
                    rest /= dim;
                }
                prop_assert_eq!(usize::from(value), expected);
            }
        }
    }
}
