//! Labels of a sample with several: NumPy arrays of one axis, not 0 where the image shows the class.

use openclip_core::weights::read_npy;

/// Reads the bytes of a `.npy` file.
///
/// # Errors
/// What is wrong with them.
pub fn read_labels(bytes: &[u8]) -> Result<Vec<bool>, String> {
    let array = read_npy(bytes).map_err(|message| format!("not a NumPy array of labels: {message}"))?;
    match array.info.dims.len() {
        1 => Ok(array.to_f32().into_iter().map(|value| value != 0.0).collect()),
        _ => Err(format!("the array has the axes {:?}, labels have one", array.info.dims)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        while !(header.len() + 11).is_multiple_of(64) {
            header.push(' ');
        }
        header.push('\n');
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), data].concat()
    }

    #[test]
    fn arrays_of_several_types() {
        assert_eq!(read_labels(&npy("|b1", "(3,)", &[0, 1, 1])).unwrap(), [false, true, true]);
        assert_eq!(read_labels(&npy("|u1", "(2,)", &[0, 5])).unwrap(), [false, true]);
        let wide: Vec<u8> = [0_i64, 1].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(read_labels(&npy("<i8", "(2,)", &wide)).unwrap(), [false, true]);
    }

    #[test]
    fn what_holds_no_labels_is_refused() {
        for (bytes, part) in [
            (b"no array".to_vec(), "doesn't start as a NumPy array"),
            (npy("|u1", "(1, 2)", &[0, 5]), "labels have one"),
            (npy("|u1", "(9000000,)", &[0, 5]), "2 bytes aren't"),
            (npy("<c16", "(1,)", &[0; 16]), "of type <c16"),
        ] {
            let error = read_labels(&bytes).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
