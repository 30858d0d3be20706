//! Attributes of nodes.

use crate::onnx::{AttributeProto, AttributeType, ElementType, TensorProto};

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind.into(), ..AttributeProto::default() }
}

/// An integer.
pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

/// Integers.
pub fn ints(name: &str, values: impl IntoIterator<Item = usize>) -> AttributeProto {
    let ints = values.into_iter().map(|value| value as i64).collect();
    AttributeProto { ints, ..attribute(name, AttributeType::Ints) }
}

/// A float.
pub fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

/// A string.
pub fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec()), ..attribute(name, AttributeType::String) }
}

/// A tensor `[1]`.
pub fn float_tensor(name: &str, value: f32) -> AttributeProto {
    let tensor = TensorProto {
        dims: vec![1],
        data_type: ElementType::Float.into(),
        raw_data: Some(value.to_le_bytes().to_vec()),
        ..TensorProto::default()
    };
    AttributeProto { t: Some(tensor), ..attribute(name, AttributeType::Tensor) }
}
