//! Writing `.safetensors` files.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use safetensors::tensor::{Dtype, Metadata, TensorInfo as HeaderEntry};

use super::{DType, TensorData};
use crate::{Error, Result, files::write_atomically};

/// Writes `tensors` to `path`, with `metadata` as the header's `__metadata__`. The file appears whole or not at all:
/// it is written under another name in the same folder and then renamed.
///
/// # Errors
/// [`Error::Io`] when the file can't be written, [`Error::InvalidArgument`] when a name occurs twice or a tensor's
/// bytes don't fit its dimensions.
pub fn save_safetensors<'a>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (String, TensorData<'a>)>,
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    let path = path.as_ref();
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    // Larger elements first, so that all of them are aligned in the file.
    tensors.sort_by_key(|(_, data)| std::cmp::Reverse(data.info.dtype.size()));
    let header = header(&tensors, metadata)?;
    write_atomically(path, |file| {
        let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(|error| Error::io(path, error));
        write(&(header.len() as u64).to_le_bytes())?;
        write(&header)?;
        tensors.iter().try_for_each(|(_, data)| write(&data.bytes))
    })
}

/// The header's JSON, padded so that the data after it is aligned.
fn header(
    tensors: &[(String, TensorData<'_>)],
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>> {
    let mut names = HashSet::new();
    let mut entries = Vec::with_capacity(tensors.len());
    let mut start = 0;
    for (name, data) in tensors {
        let bytes = data.info.count().and_then(|count| count.checked_mul(data.info.dtype.size()));
        if bytes != Some(data.bytes.len()) {
            return Err(Error::InvalidArgument(format!(
                "tensor `{name}`: {} bytes are not what dimensions {:?} of {:?} take",
                data.bytes.len(),
                data.info.dims,
                data.info.dtype
            )));
        }
        if name == "__metadata__" || !names.insert(name) {
            return Err(Error::InvalidArgument(format!(
                "a safetensors file can't hold another tensor `{name}`"
            )));
        }
        let end = start + data.bytes.len();
        let entry = HeaderEntry {
            dtype: dtype(data.info.dtype),
            shape: data.info.dims.clone(),
            data_offsets: (start, end),
        };
        entries.push((name.clone(), entry));
        start = end;
    }
    let invalid =
        |error: &dyn std::error::Error| Error::InvalidArgument(format!("safetensors header: {error}"));
    let metadata = Metadata::new(metadata, entries).map_err(|error| invalid(&error))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| invalid(&error))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

fn dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::Bf16 => Dtype::BF16,
        DType::F64 => Dtype::F64,
        DType::U8 => Dtype::U8,
        DType::I8 => Dtype::I8,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{SafetensorsFile, TensorInfo, WeightSource};

    fn bytes(values: &[u8]) -> TensorData<'_> {
        TensorData { info: TensorInfo { dtype: DType::U8, dims: vec![values.len()] }, bytes: values.into() }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.safetensors");
        std::fs::write(&path, b"an earlier file").unwrap();
        let tensors = [
            ("mask".to_owned(), bytes(&[1, 0, 1])),
            ("image".to_owned(), TensorData::from_f32(&[2, 2], &[1.0, -2.0, 3.5, f32::MIN_POSITIVE])),
            ("none".to_owned(), TensorData::from_f32(&[0, 7], &[])),
        ];
        let metadata = HashMap::from([("model".to_owned(), "ViT-B-32".to_owned())]);
        save_safetensors(&path, tensors, Some(metadata.clone())).unwrap();
        let file = SafetensorsFile::open(&path).unwrap();
        assert_eq!(file.metadata(), &metadata);
        assert_eq!(file.names().len(), 3);
        assert_eq!(file.read("image", &[2, 2]).unwrap().to_f32(), [1.0, -2.0, 3.5, f32::MIN_POSITIVE]);
        assert_eq!(file.read("mask", &[3]).unwrap().to_f32(), [1.0, 0.0, 1.0]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file is gone");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
            let ordinary = folder.path().join("ordinary");
            std::fs::write(&ordinary, b"").unwrap();
            assert_eq!(mode(&path), mode(&ordinary));
        }
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.safetensors");
        let twice = [("a".to_owned(), bytes(&[1])), ("a".to_owned(), bytes(&[2]))];
        let error = save_safetensors(&path, twice, None).unwrap_err().to_string();
        assert!(error.contains("another tensor `a`"), "{error}");
        let mut short = bytes(&[1]);
        short.info.dims = vec![2];
        let error = save_safetensors(&path, [("b".to_owned(), short)], None).unwrap_err().to_string();
        assert!(error.contains("`b`: 1 bytes"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let absent = folder.path().join("absent").join("out.safetensors");
        let error = save_safetensors(&absent, [("c".to_owned(), bytes(&[1]))], None).unwrap_err().to_string();
        assert!(error.contains("absent") && error.contains("No such file"), "{error}");
    }
}
