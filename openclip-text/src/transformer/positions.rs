//! Resizing of the text position table to another context length, as the reference does it when a checkpoint is loaded.

use openclip_core::{Error, HostTensor, Result};

/// Resizes a position table along its length: linear without antialiasing, half-pixel centres, clamped at the ends, as
/// `torch.nn.functional.interpolate(mode="linear")`.
///
/// # Shapes
/// `[stored, width] -> [positions, width]`.
///
/// # Errors
/// [`Error::Shape`] when there is nothing to resize.
pub fn resize_positions(table: &HostTensor, positions: usize) -> Result<HostTensor> {
    let (stored, width) = match *table.dims() {
        [stored, width] if stored > 0 => (stored, width),
        _ => {
            let found = format!("{:?}", table.dims());
            return Err(Error::shape("positional_embedding", "[positions, width]", found));
        }
    };
    let row = |index: usize| &table.data()[index.min(stored - 1) * width..][..width];
    let scale = stored as f32 / positions as f32;
    let mut data = Vec::with_capacity(positions * width);
    for index in 0..positions {
        let place = (scale * (index as f32 + 0.5) - 0.5).max(0.0);
        let below = (place as usize).min(stored - 1);
        let share = place - below as f32;
        data.extend(row(below).iter().zip(row(below + 1)).map(|(a, b)| (1.0 - share) * a + share * b));
    }
    HostTensor::new([positions, width], data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[f32]) -> HostTensor {
        HostTensor::new([values.len(), 1], values.to_vec()).unwrap()
    }

    #[test]
    fn values_are_those_of_torch() {
        // torch.nn.functional.interpolate(torch.tensor([[[0., 1., 4., 9.]]]), size=N, mode="linear")
        let table = column(&[0.0, 1.0, 4.0, 9.0]);
        assert_eq!(resize_positions(&table, 2).unwrap(), column(&[0.5, 6.5]));
        let longer = [0.0, 0.25, 0.75, 1.75, 3.25, 5.25, 7.75, 9.0];
        assert_eq!(resize_positions(&table, 8).unwrap(), column(&longer));
        assert_eq!(resize_positions(&table, 4).unwrap(), table);
    }

    #[test]
    fn an_empty_table_is_refused() {
        assert!(resize_positions(&HostTensor::zeros([0, 4]), 8).is_err());
    }
}
