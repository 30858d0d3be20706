//! Arrays in NumPy's file format, of the two kinds that competitors exchange: 32-bit floats and 64-bit integers, in rows
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use openclip_core::files::write_atomically;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Values of an array.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// `<f4`.
    F32(Vec<f32>),
    /// `<i8`.
    I64(Vec<i64>),
}

/// An array.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its dimensions, the first one of which counts rows.
    pub dims: Vec<usize>,
    /// Its values, row after row.
    pub values: Values,
}

impl Array {
    /// Writes it as version 1 of the format.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let (kind, bytes): (_, Vec<u8>) = match &self.values {
            Values::F32(values) => ("<f4", values.iter().copied().flat_map(f32::to_le_bytes).collect()),
            Values::I64(values) => ("<i8", values.iter().copied().flat_map(i64::to_le_bytes).collect()),
        };
        let dims: String = self.dims.iter().map(|dim| format!("{dim}, ")).collect();
        let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({dims}), }}");
        // The values begin at a multiple of 64.
        let length = (MAGIC.len() + 4 + header.len() + 1).next_multiple_of(64) - MAGIC.len() - 4;
        header = format!("{header:width$}\n", width = length - 1);
        let length = u16::try_from(length).context("too many dimensions")?;
        write_atomically(path, |file| {
            for part in [MAGIC, &[1, 0], &length.to_le_bytes(), header.as_bytes(), &bytes] {
                file.write_all(part).map_err(|error| openclip_core::Error::io(path, error))?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Reads a file of this kind, whoever wrote it.
    ///
    /// # Errors
    /// When it can't be read or holds something else.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        Self::parse(&bytes).with_context(|| path.display().to_string())
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let rest = bytes.strip_prefix(MAGIC).context("not a NumPy file")?;
        let ([1, 0, low, high], rest) = rest.split_first_chunk().context("the header is cut off")? else {
            bail!("only version 1.0 of the format is read");
        };
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let (header, data) = rest.split_at_checked(length).context("the header is cut off")?;
        let header = std::str::from_utf8(header)?;
        ensure!(header.contains("'fortran_order': False"), "columns before rows");
        let dims = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')'));
        let (dims, _) = dims.context("the header has no shape")?;
        let dims = dims.split(',').map(str::trim).filter(|dim| !dim.is_empty());
        let dims = dims.map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        let count = dims.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim));
        let count = count.context("the shape is too large")?;
        let values = if header.contains("'<f4'") {
            Values::F32(data.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect())
        } else if header.contains("'<i8'") {
            Values::I64(data.as_chunks().0.iter().copied().map(i64::from_le_bytes).collect())
        } else {
            bail!("neither 32-bit floats nor 64-bit integers: {header}");
        };
        let found = match &values {
            Values::F32(values) => values.len(),
            Values::I64(values) => values.len(),
        };
        ensure!(found == count, "{found} values, and a shape {dims:?}");
        Ok(Self { dims, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_read_as_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        for array in [
            Array { dims: vec![2, 3], values: Values::F32(vec![0.5, -1.0, 2.0, 3.0, 4.0, 1e-9]) },
            Array { dims: vec![2], values: Values::I64(vec![-7, 49407]) },
            Array { dims: vec![0, 77], values: Values::I64(vec![]) },
        ] {
            array.write(&path).unwrap();
            assert_eq!(Array::read(&path).unwrap(), array);
            assert_eq!(fs::read(&path).unwrap().iter().position(|&byte| byte == b'\n').unwrap() % 64, 63);
        }
    }

    #[test]
    fn other_files_are_refused() {
        let header = |text: &str| {
            let mut bytes = [MAGIC, &[1, 0, text.len() as u8, 0], text.as_bytes()].concat();
            bytes.extend([0; 8]);
            bytes
        };
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
        assert!(Array::parse(&header(good)).is_ok());
        for bad in [
            good.replace("(2,)", "(3,)"),
            good.replace("(2,)", "(x,)"),
            good.replace("(2,)", "(9999999999, 9999999999)"),
            good.replace("False", "True"),
            good.replace("<f4", "<f8"),
            "{}".to_owned(),
        ] {
            assert!(Array::parse(&header(&bad)).is_err(), "{bad}");
        }
        for bytes in [&b""[..], b"PK", b"\x93NUMPY\x01\x00\xff\x00{", b"\x93NUMPY\x02\x00\x01\x00\x00\x00 "] {
            assert!(Array::parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
