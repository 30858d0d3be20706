//! A NumPy array (`.npy`) by itself.

use super::{super::TensorData, header::Header};
use crate::weights::TensorInfo;

/// The array of a `.npy` file's content, whose elements start anew in the order of its axes.
///
/// # Errors
/// What is wrong with the content.
pub fn read_npy(content: &[u8]) -> Result<TensorData<'_>, String> {
    let header = Header::read(content)?;
    let dtype = header.dtype.ok_or_else(|| format!("its elements are of type {}", header.descr))?;
    let elements = content.get(header.bytes..).unwrap_or_default();
    if header.element_bytes() != Some(elements.len()) {
        let dims = &header.strided.dims;
        return Err(format!(
            "{} bytes aren't the elements of {dims:?} of type {}",
            elements.len(),
            header.descr
        ));
    }
    let bytes = header.strided.elements(elements)?;
    Ok(TensorData { info: TensorInfo { dtype, dims: header.strided.dims.clone() }, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_by_itself() {
        let literal = "{'descr': '<i2', 'fortran_order': True, 'shape': (2, 2)}";
        let length = (literal.len() as u16).to_le_bytes();
        let start = [b"\x93NUMPY\x01\x00", &length[..], literal.as_bytes()].concat();
        let array = [&start[..], &[1, 0, 2, 0, 3, 0, 4, 0]].concat();
        assert_eq!(read_npy(&array).unwrap().to_f32(), [1.0, 3.0, 2.0, 4.0]);
        assert!(read_npy(&array[..array.len() - 1]).unwrap_err().contains("7 bytes aren't the elements"));
        assert!(read_npy(b"").is_err());
    }
}
