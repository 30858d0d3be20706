//! Views of row-major matrices whose rows may lie further apart than they are long.

use std::{marker::PhantomData, ops::Range, slice};

/// A matrix that is read.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T = f32> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// `rows` rows of `columns` values, `stride` values apart.
    ///
    /// # Panics
    /// When `values` doesn't hold them.
    pub fn new(values: &'a [T], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(fits(values.len(), rows, columns, stride), "matrix {rows}x{columns} in {}", values.len());
        Self { values, rows, columns, stride }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Where the first value is. All rows can be read from there.
    pub fn as_ptr(&self) -> *const T {
        self.values.as_ptr()
    }

    pub fn row(&self, row: usize) -> &'a [T] {
        let start = row * self.stride;
        &self.values[start..start + self.columns]
    }

    /// The part of these rows and columns.
    pub fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "part of a matrix");
        let start = (rows.start * self.stride + columns.start).min(self.values.len());
        Self::new(&self.values[start..], rows.len(), columns.len(), self.stride)
    }
}

fn fits(len: usize, rows: usize, columns: usize, stride: usize) -> bool {
    rows == 0 || columns == 0 || (stride >= columns && (rows - 1) * stride + columns <= len)
}

/// A matrix that is written, which can be split for several threads.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    values: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for the exclusive borrow of its own values, which may move to another thread like `&mut [f32]`.
unsafe impl Send for MatrixMut<'_> {}

impl<'a> MatrixMut<'a> {
    /// `rows` rows of `columns` values, `stride` values apart.
    ///
    /// # Panics
    /// When `values` doesn't hold them.
    pub fn new(values: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(fits(values.len(), rows, columns, stride), "matrix {rows}x{columns} in {}", values.len());
        Self { values: values.as_mut_ptr(), rows, columns, stride, borrowed: PhantomData }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn stride(&self) -> usize {
        self.stride
    }

    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row of a matrix");
        // SAFETY: the constructor checked that every row lies in the borrowed values, and splits are disjoint.
        unsafe { slice::from_raw_parts_mut(self.values.add(row * self.stride), self.columns) }
    }

    /// Where the value at `row`, `column` is, from which all rows below can be written.
    pub fn as_mut_ptr(&mut self, row: usize, column: usize) -> *mut f32 {
        assert!(row < self.rows && column < self.columns, "value of a matrix");
        // SAFETY: the constructor checked that the value lies in the borrowed values.
        unsafe { self.values.add(row * self.stride + column) }
    }

    /// The same matrix, for a while.
    pub fn reborrow(&mut self) -> MatrixMut<'_> {
        MatrixMut { borrowed: PhantomData, ..*self }
    }

    /// The rows before `row`, and the others.
    pub fn split_rows(self, row: usize) -> (Self, Self) {
        assert!(row <= self.rows, "row of a matrix");
        // An empty part must not point behind the values.
        let offset = if row == self.rows { 0 } else { row * self.stride };
        // SAFETY: `row` is one of the rows, or the offset is zero.
        let values = unsafe { self.values.add(offset) };
        (Self { rows: row, ..self }, Self { values, rows: self.rows - row, ..self })
    }

    /// The columns before `column`, and the others.
    pub fn split_columns(self, column: usize) -> (Self, Self) {
        assert!(column <= self.columns, "column of a matrix");
        let offset = if self.rows == 0 { 0 } else { column };
        // SAFETY: a row holds at least `column` values.
        let values = unsafe { self.values.add(offset) };
        (Self { columns: column, ..self }, Self { values, columns: self.columns - column, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_see_their_own_values() {
        let values: Vec<f32> = (0..20).map(|value| value as f32).collect();
        let matrix = Matrix::new(&values, 4, 3, 5);
        let part = matrix.part(1..3, 1..3);
        assert_eq!((part.row(0), part.row(1)), (&[6.0, 7.0][..], &[11.0, 12.0][..]));
        assert_eq!(matrix.part(4..4, 0..3).rows(), 0);
    }

    #[test]
    fn splits_are_disjoint_and_complete() {
        let mut values = vec![0.0; 4 * 5];
        let (top, bottom) = MatrixMut::new(&mut values, 4, 4, 5).split_rows(1);
        let (left, right) = bottom.split_columns(3);
        for (mark, mut part) in [(1.0, top), (2.0, left), (3.0, right)] {
            (0..part.rows()).for_each(|row| part.row(row).fill(mark));
        }
        let below = [2.0, 2.0, 2.0, 3.0, 0.0];
        assert_eq!(values, [[1.0, 1.0, 1.0, 1.0, 0.0], below, below, below].concat());
        let (all, none) = MatrixMut::new(&mut values, 4, 4, 5).split_rows(4);
        assert_eq!((all.rows(), none.rows()), (4, 0));
        let (none, all) = all.split_columns(0);
        assert_eq!((none.columns(), all.columns()), (0, 4));
    }

    #[test]
    #[should_panic(expected = "matrix 3x4")]
    fn a_matrix_lies_within_its_values() {
        let _ = Matrix::new(&[0.0_f32; 13], 3, 4, 5);
    }
}
