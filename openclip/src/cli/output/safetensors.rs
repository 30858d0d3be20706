//! `.safetensors`: the tensor `embeddings` `[N, D]` in f32. The metadata says what the rows are: `kind` is `image` or
//! `text`.

use serde_json::json;

/// The length of the JSON text, and the text padded so that the data is aligned.
pub fn header(kind: &str, count: usize, dim: usize) -> Vec<u8> {
    let description = json!({
        "__metadata__": { "format": "pt", "kind": kind },
        "embeddings": { "dtype": "F32", "shape": [count, dim], "data_offsets": [0, 4 * count * dim] },
    });
    let mut text = description.to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}
