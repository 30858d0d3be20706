//! Values of constants in the element types that graphs hold.

use half::f16;
use openclip_core::{Error, Result};

use crate::onnx::ElementType;

/// Values of one element type, row by row.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// 32-bit floats.
    Float(Vec<f32>),
    /// 16-bit floats.
    Float16(Vec<f16>),
    /// Unsigned bytes.
    Uint8(Vec<u8>),
    /// 64-bit integers.
    Int64(Vec<i64>),
}

impl Values {
    /// Floats in the element type of a graph's arithmetic.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for numbers that are finite and too large for the element type.
    pub fn floats(values: Vec<f32>, element: ElementType) -> Result<Self> {
        if element != ElementType::Float16 {
            return Ok(Self::Float(values));
        }
        let rounded: Vec<f16> = values.iter().copied().map(f16::from_f32).collect();
        match values.iter().zip(&rounded).find(|(value, rounded)| value.is_finite() && !rounded.is_finite()) {
            Some((value, _)) => Err(Error::InvalidArgument(format!(
                "{value} is too large for f16, whose largest number is {}: use f32",
                f16::MAX
            ))),
            None => Ok(Self::Float16(rounded)),
        }
    }

    /// The element type.
    pub fn element(&self) -> ElementType {
        match self {
            Self::Float(_) => ElementType::Float,
            Self::Float16(_) => ElementType::Float16,
            Self::Uint8(_) => ElementType::Uint8,
            Self::Int64(_) => ElementType::Int64,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Float(values) => values.len(),
            Self::Float16(values) => values.len(),
            Self::Uint8(values) => values.len(),
            Self::Int64(values) => values.len(),
        }
    }

    /// The values in little-endian, as files hold them.
    pub fn into_le_bytes(self) -> Vec<u8> {
        match self {
            Self::Float(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Float16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Uint8(values) => values,
            Self::Int64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_that_f16_can_not_hold_are_refused() {
        let half = |value: f32| Values::floats(vec![value], ElementType::Float16);
        assert_eq!(half(0.1).unwrap(), Values::Float16(vec![f16::from_f32(0.1)]));
        assert!(half(f32::NEG_INFINITY).is_ok());
        let error = half(1e6).unwrap_err().to_string();
        assert!(error.contains("1000000") && error.contains("use f32"), "{error}");
        assert_eq!(Values::floats(vec![1e6], ElementType::Float).unwrap(), Values::Float(vec![1e6]));
    }

    #[test]
    fn bytes_are_little_endian() {
        assert_eq!(Values::Int64(vec![258]).into_le_bytes(), [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Values::Float16(vec![f16::ONE]).into_le_bytes(), [0, 0x3c]);
        assert_eq!(Values::Uint8(vec![7]).into_le_bytes(), [7]);
    }
}
