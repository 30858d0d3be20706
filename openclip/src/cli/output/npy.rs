//! `.npy`: `[N, D]` in f32 (NumPy format version 1.0).

/// Magic, version, and a Python dictionary padded so that the data starts at a multiple of 64.
pub fn header(count: usize, dim: usize) -> Vec<u8> {
    const PREFIX: usize = 10;
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {dim}), }}");
    let length = (PREFIX + text.len() + 1).next_multiple_of(64) - PREFIX;
    text.extend(std::iter::repeat_n(' ', length - text.len() - 1));
    text.push('\n');
    [b"\x93NUMPY\x01\x00".as_slice(), &(length as u16).to_le_bytes(), text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_is_aligned_and_the_header_complete() {
        for (count, dim) in [(0, 1), (1, 512), (1_000_000, 1280)] {
            let header = header(count, dim);
            assert_eq!(header.len() % 64, 0);
            assert_eq!(header.last(), Some(&b'\n'));
            let length = u16::from_le_bytes([header[8], header[9]]);
            assert_eq!(header.len(), 10 + usize::from(length));
            assert!(String::from_utf8_lossy(&header).contains(&format!("({count}, {dim})")));
        }
    }
}
