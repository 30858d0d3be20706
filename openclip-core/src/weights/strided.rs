//! Tensors as elements at an offset and strides within a stored array, as PyTorch has them and as transposing, slicing
//! and joining axes make them of arrays in order. Contiguous ones are slices of the array; others are gathered into
//! row-major order.

use std::{borrow::Cow, ops::Range};

/// Bytes up to which a tensor may be larger than its storage, as `expand` makes them. Beyond, it is an attempt to
/// exhaust memory.
const MAX_EXPANDED_BYTES: usize = 256 << 20;

/// Rows and columns of the tiles in which transposed matrices are copied: one reads and writes few cache lines.
const TILE: usize = 32;

/// Where the elements of a tensor lie in its storage.
#[derive(Clone, Debug)]
pub(super) struct Strided {
    /// Bytes per element.
    pub(super) size: usize,
    /// Elements before the first one.
    pub(super) offset: usize,
    pub(super) dims: Vec<usize>,
    /// Elements from one index of a dimension to the next.
    pub(super) strides: Vec<usize>,
}

impl Strided {
    /// A whole storage in row-major order. `None` on overflow.
    pub(super) fn row_major(size: usize, dims: &[usize]) -> Option<Self> {
        let mut strides = vec![0; dims.len()];
        let mut stride = 1_usize;
        for (place, &dim) in strides.iter_mut().zip(dims).rev() {
            *place = stride;
            stride = stride.checked_mul(dim)?;
        }
        stride.checked_mul(size)?;
        Some(Self { size, offset: 0, dims: dims.to_vec(), strides })
    }

    /// A whole storage in column-major order. `None` on overflow.
    pub(super) fn column_major(size: usize, dims: &[usize]) -> Option<Self> {
        let reversed: Vec<usize> = dims.iter().rev().copied().collect();
        let mut this = Self::row_major(size, &reversed)?;
        this.dims.reverse();
        this.strides.reverse();
        Some(this)
    }

    /// The places `rows` of the first axis. `None` if it hasn't got them.
    pub(super) fn narrow(mut self, rows: Range<usize>) -> Option<Self> {
        let (dim, stride) = (self.dims.first_mut()?, self.strides.first()?);
        if rows.start > rows.end || rows.end > *dim {
            return None;
        }
        *dim = rows.len();
        self.offset = self.offset.checked_add(rows.start.checked_mul(*stride)?)?;
        Some(self)
    }

    /// The place `index` of the first axis, without that axis. `None` if it hasn't got it.
    pub(super) fn slice(self, index: usize) -> Option<Self> {
        let mut this = self.narrow(index..index.checked_add(1)?)?;
        this.dims.remove(0);
        this.strides.remove(0);
        Some(this)
    }

    /// The axis `first` and the one after it as one. `None` if they aren't there or don't lie one after the other.
    pub(super) fn merge(mut self, first: usize) -> Option<Self> {
        let second = first.checked_add(1)?;
        let (inner, stride) = (*self.dims.get(second)?, *self.strides.get(second)?);
        let outer_stride = *self.strides.get(first)?;
        if outer_stride != inner.checked_mul(stride)? {
            return None;
        }
        *self.dims.get_mut(first)? = self.dims.get(first)?.checked_mul(inner)?;
        *self.strides.get_mut(first)? = stride;
        self.dims.remove(second);
        self.strides.remove(second);
        Some(self)
    }

    /// The axes in another order: place `i` has the axis `order[i]`. `None` if `order` isn't one of as many axes.
    pub(super) fn permute(self, order: &[usize]) -> Option<Self> {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..self.dims.len()) {
            return None;
        }
        let pick = |from: &[usize]| order.iter().map(|&axis| from.get(axis).copied()).collect();
        let (dims, strides): (Option<Vec<usize>>, Option<Vec<usize>>) =
            (pick(&self.dims), pick(&self.strides));
        Some(Self { dims: dims?, strides: strides?, ..self })
    }

    /// Without the axes of one place.
    pub(super) fn squeeze(mut self) -> Self {
        let kept = self.dims.iter().zip(&self.strides).filter(|(dim, _)| **dim != 1);
        (self.dims, self.strides) = kept.map(|(&dim, &stride)| (dim, stride)).unzip();
        self
    }

    /// With an axis of one place in front.
    pub(super) fn unsqueeze(mut self) -> Self {
        self.dims.insert(0, 1);
        self.strides.insert(0, 0);
        self
    }

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
        last.checked_add(1)?.checked_mul(self.size)
    }

    /// Bytes of all elements, or `None` on overflow.
    fn bytes(&self) -> Option<usize> {
        if self.dims.contains(&0) {
            return Some(0);
        }
        self.dims.iter().try_fold(self.size, |bytes, &dim| bytes.checked_mul(dim))
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
        if self.run().1 == 0 {
            let whole = self.offset * self.size..self.offset * self.size + total;
            return storage.get(whole).map(Cow::Borrowed).ok_or_else(outside);
        }
        let gathered = match self.size {
            1 => self.gather::<1>(storage, total),
            2 => self.gather::<2>(storage, total / 2),
            4 => self.gather::<4>(storage, total / 4),
            8 => self.gather::<8>(storage, total / 8),
            size => Err(format!("has elements of {size} bytes, which can't be read")),
        };
        gathered.map(Cow::Owned)
    }

    /// The `count` elements in row-major order.
    fn gather<const SIZE: usize>(&self, storage: &[u8], count: usize) -> Result<Vec<u8>, String> {
        let storage = storage.as_chunks::<SIZE>().0;
        let mut gathered: Vec<[u8; SIZE]> = Vec::new();
        gathered.try_reserve_exact(count).map_err(|_| format!("{:?} doesn't fit into memory", self.dims))?;
        let (run, outer) = self.run();
        match self.transposed(run, outer) {
            Some(axes) => {
                gathered.resize(count, [0; SIZE]);
                self.transpose(storage, &mut gathered, axes).ok_or_else(outside)?;
            }
            None => {
                let mut index = vec![0; outer];
                let mut first = self.offset;
                loop {
                    gathered.extend_from_slice(storage.get(first..first + run).ok_or_else(outside)?);
                    if !self.advance(&mut index, &mut first) {
                        break;
                    }
                }
            }
        }
        Ok(gathered.into_flattened())
    }

    /// The axis whose elements are neighbours in the storage and the one whose elements will be neighbours, if these are two.
    fn transposed(&self, run: usize, outer: usize) -> Option<[usize; 2]> {
        let last = outer.checked_sub(1)?;
        let near = self.strides.iter().take(last).position(|&stride| stride == 1)?;
        (run == 1 && *self.strides.get(last)? > 1).then_some([near, last])
    }

    /// Copies tile by tile over the axes `near`, whose elements are neighbours in the storage, and `last`, whose elements
    /// are neighbours in `gathered`.
    fn transpose<T: Copy>(&self, storage: &[T], gathered: &mut [T], [near, last]: [usize; 2]) -> Option<()> {
        let target = Self::row_major(1, &self.dims)?;
        let (rows, columns) = (*self.dims.get(near)?, *self.dims.get(last)?);
        let (from_column, to_row) = (*self.strides.get(last)?, *target.strides.get(near)?);
        // What remains are matrices, one per position of the other axes.
        let others = |strided: &Self| Self {
            dims: strided
                .dims
                .iter()
                .enumerate()
                .map(|(i, &dim)| if i == near || i == last { 1 } else { dim })
                .collect(),
            ..strided.clone()
        };
        let (source, target) = (others(self), others(&target));
        let (mut from_index, mut to_index) = (vec![0; self.dims.len()], vec![0; self.dims.len()]);
        let (mut from, mut to) = (self.offset, 0);
        loop {
            for row in (0..rows).step_by(TILE) {
                for column in (0..columns).step_by(TILE) {
                    let width = TILE.min(columns - column);
                    for row in row..rows.min(row + TILE) {
                        let start = to + row * to_row + column;
                        let elements =
                            storage.get(from + row + column * from_column..)?.iter().step_by(from_column);
                        let places = gathered.get_mut(start..start + width)?;
                        places.iter_mut().zip(elements).for_each(|(place, element)| *place = *element);
                    }
                }
            }
            if !source.advance(&mut from_index, &mut from) | !target.advance(&mut to_index, &mut to) {
                return Some(());
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

fn outside() -> String {
    "exceeds its storage; the file is damaged".to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strided(offset: usize, dims: &[usize], strides: &[usize]) -> Strided {
        Strided { size: 2, offset, dims: dims.to_vec(), strides: strides.to_vec() }
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
