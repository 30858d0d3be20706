//! What graphs are given: a batch of images or texts, in the batch size and length that the graph takes.

use std::borrow::Cow;

use openclip_core::{Error, HostTensor, Result, TokenBatch};
use ort::{
    session::SessionInputValue,
    value::{Tensor, TensorRef},
};

use super::{
    failed,
    interface::{Integer, Interface},
};

/// A batch of images or texts.
pub enum Rows<'a> {
    /// Pixels `[N, 3, H, W]`.
    Images { size: [usize; 2], values: Cow<'a, [f32]> },
    /// Token ids `[N, length]`.
    Texts { length: usize, values: Vec<u32>, pad_id: u32 },
}

impl<'a> Rows<'a> {
    /// Pixels `[N, 3, H, W]`, whose dimensions have been checked.
    pub fn images(pixels: &'a HostTensor, size: [usize; 2]) -> Self {
        Self::Images { size, values: Cow::Borrowed(pixels.data()) }
    }

    /// Token ids. `pad_id` stands behind the end of a text.
    pub fn texts(tokens: &TokenBatch, pad_id: u32) -> Self {
        Self::Texts { length: tokens.length(), values: tokens.ids().to_vec(), pad_id }
    }

    /// Number of images or texts.
    pub fn count(&self) -> usize {
        let values = match self {
            Self::Images { values, .. } => values.len(),
            Self::Texts { values, .. } => values.len(),
        };
        values / self.row_size().max(1)
    }

    fn row_size(&self) -> usize {
        match self {
            Self::Images { size: [height, width], .. } => 3 * height * width,
            Self::Texts { length, .. } => *length,
        }
    }

    /// Rows from `start` on, exactly `count`: filled up with zeros or padding where there are no more.
    pub fn part(&self, start: usize, count: usize) -> Self {
        let size = self.row_size();
        let range = start * size..(start + count).min(self.count()) * size;
        match self {
            Self::Images { size: image, values } => {
                let mut part = values.get(range).unwrap_or_default().to_vec();
                part.resize(count * size, 0.0);
                Self::Images { size: *image, values: Cow::Owned(part) }
            }
            Self::Texts { length, values, pad_id } => {
                let mut part = values.get(range).unwrap_or_default().to_vec();
                part.resize(count * size, *pad_id);
                Self::Texts { length: *length, values: part, pad_id: *pad_id }
            }
        }
    }

    /// Texts padded to `length` tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] for longer ones.
    pub fn padded(&self, length: usize) -> Result<Self> {
        let Self::Texts { length: own, values, pad_id } = self else {
            return Err(Error::shape("encode_text", "token ids", "images"));
        };
        if *own > length {
            let expected = format!("[N, ..={length}]");
            return Err(Error::shape("encode_text", expected, format!("[{}, {own}]", self.count())));
        }
        let rows = values.chunks((*own).max(1));
        let values = rows
            .flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(*pad_id, length - own)))
            .collect();
        Ok(Self::Texts { length, values, pad_id: *pad_id })
    }

    /// The values that the graph's inputs take.
    pub fn inputs<'b>(
        &'b self,
        interface: &'b Interface,
    ) -> Result<Vec<(Cow<'b, str>, SessionInputValue<'b>)>> {
        let fail = || failed(interface.input.clone());
        let name = Cow::Borrowed(interface.input.as_str());
        match self {
            Self::Images { size: [height, width], values } => {
                let dims = [self.count(), 3, *height, *width];
                let pixels = TensorRef::from_array_view((dims, values.as_ref())).map_err(fail())?;
                Ok(vec![(name, pixels.into())])
            }
            Self::Texts { length, values, pad_id } => {
                let dims = [self.count(), *length];
                let ids = values.iter().map(|&id| i64::from(id)).collect();
                let mut inputs = vec![(name, integers(interface.ids, dims, ids).map_err(fail())?)];
                if let Some((mask, integer)) = &interface.mask {
                    let shown = values
                        .chunks((*length).max(1))
                        .flat_map(|row| attention_mask(row, *pad_id))
                        .collect();
                    inputs.push((
                        Cow::Borrowed(mask.as_str()),
                        integers(*integer, dims, shown).map_err(failed(mask.clone()))?,
                    ));
                }
                Ok(inputs)
            }
        }
    }
}

/// One for tokens and zero for the padding behind them.
fn attention_mask(row: &[u32], pad_id: u32) -> impl Iterator<Item = i64> + use<> {
    let tokens = row.iter().rposition(|&id| id != pad_id).map_or(0, |last| last + 1);
    (0..row.len()).map(move |place| i64::from(place < tokens))
}

fn integers(kind: Integer, dims: [usize; 2], values: Vec<i64>) -> ort::Result<SessionInputValue<'static>> {
    Ok(match kind {
        Integer::Int64 => Tensor::from_array((dims, values))?.into(),
        Integer::Int32 => {
            let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
            Tensor::from_array((dims, values))?.into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Rows<'static> {
        Rows::texts(&TokenBatch::new(3, 2, vec![1, 2, 3, 0, 0, 0]).unwrap(), 0)
    }

    fn ids(rows: &Rows) -> Vec<u32> {
        match rows {
            Rows::Texts { values, .. } => values.clone(),
            Rows::Images { .. } => Vec::new(),
        }
    }

    #[test]
    fn parts_are_filled_up() {
        assert_eq!(ids(&texts().part(2, 2)), [0, 0, 0, 0]);
        assert_eq!(ids(&texts().part(0, 1)), [1, 2]);
        let pixels = HostTensor::new([1, 3, 1, 1], vec![1.0, 2.0, 3.0]).unwrap();
        let part = Rows::images(&pixels, [1, 1]).part(0, 2);
        assert_eq!(part.count(), 2);
    }

    #[test]
    fn texts_are_padded_behind_each() {
        assert_eq!(ids(&texts().padded(3).unwrap()), [1, 2, 0, 3, 0, 0, 0, 0, 0]);
        assert!(texts().padded(1).is_err());
    }

    #[test]
    fn only_padding_at_the_end_is_hidden() {
        let mask = |row: &[u32]| attention_mask(row, 0).collect::<Vec<_>>();
        assert_eq!(mask(&[5, 0, 7, 0, 0]), [1, 1, 1, 0, 0]);
        assert_eq!(mask(&[0, 0]), [0, 0]);
    }
}
