//! The angles of axial rotary positions (Heo et al., 2024; EVA02, Fang et al., 2023).

/// How patches of a grid are turned.
#[derive(Clone, Copy, Debug)]
pub(super) struct RopeSpec {
    /// The grid that other grids are scaled to.
    pub(super) reference: usize,
    /// Added to rows and columns.
    pub(super) offset: f32,
    /// Columns before rows.
    pub(super) columns_first: bool,
}

/// Base of the frequencies.
const TEMPERATURE: f32 = 10000.0;

impl RopeSpec {
    /// The angles of all tokens: none for `prefix` tokens, then row by row, half of a head's pairs by one axis and half by
    /// the other. Computed in the order and precision of the reference.
    ///
    /// # Shapes
    /// `[prefix + rows * columns, head_width / 2]`.
    pub(super) fn angles(&self, grid: [usize; 2], prefix: usize, head_width: usize) -> Vec<Vec<f32>> {
        let count = head_width / 4;
        let frequency = |index: usize| 1.0 / TEMPERATURE.powf(index as f32 / count as f32);
        let frequencies: Vec<f32> = (0..count).map(frequency).collect();
        let [rows, columns] = grid;
        let place =
            |index: usize, size: usize| (index as f32 + self.offset) / size as f32 * self.reference as f32;
        let patches = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let turned = patches.map(|(row, column)| {
            let (y, x) = (place(row, rows), place(column, columns));
            let axes = if self.columns_first { [x, y] } else { [y, x] };
            axes.iter().flat_map(|&place| frequencies.iter().map(move |&f| place * f)).collect()
        });
        std::iter::repeat_n(vec![0.0; 2 * count], prefix).chain(turned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_scaled_to_the_reference() {
        let rope = RopeSpec { reference: 4, offset: 0.0, columns_first: false };
        let angles = rope.angles([2, 8], 1, 4);
        assert_eq!(angles.len(), 17);
        assert_eq!(angles.first(), Some(&vec![0.0; 2]));
        // The second row's third patch: row 1 of 2 is 2 of 4, column 2 of 8 is 1 of 4.
        assert_eq!(angles.get(1 + 8 + 2), Some(&vec![2.0, 1.0]));
        let swapped = RopeSpec { columns_first: true, offset: 1.0, ..rope }.angles([2, 8], 0, 4);
        assert_eq!(swapped.get(8 + 2), Some(&vec![1.5, 4.0]));
    }
}
