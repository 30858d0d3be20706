//! Opening a checkpoint of whatever format. The content decides, not the file's name: a download that failed, a text
//! file in place of the weights, or an old format gets an error that says what it is.

use std::{path::Path, sync::Arc};

use super::{
    NpzFile, PickleCheckpoint, SafetensorsFile, WeightSource,
    bytes::{CheckpointBytes, malformed},
    quantized::QuantizedFile,
    zip::ZipFile,
};
use crate::Result;

/// Opens the checkpoint at `path`: `.safetensors`, a PyTorch zip archive (`.bin`, `.pt`, `.pth`), or a NumPy archive
/// (`.npz`). Reads its header and no tensor. Matrices that the file stores in integers with scales are read as floats.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when the file can't be opened, [`WeightsError`](super::WeightsError) naming the
/// file and what to do when it is damaged, unsafe, or of another format.
pub fn open_checkpoint(path: impl AsRef<Path>) -> Result<Arc<dyn WeightSource>> {
    open(CheckpointBytes::map(path.as_ref())?)
}

/// Opens a checkpoint that is part of the executable. `origin` is what error messages call it.
///
/// # Errors
/// As [`open_checkpoint`].
pub fn open_embedded_checkpoint(origin: &str, bytes: &'static [u8]) -> Result<Arc<dyn WeightSource>> {
    open(CheckpointBytes::from_static(origin, bytes))
}

fn open(bytes: CheckpointBytes) -> Result<Arc<dyn WeightSource>> {
    match recognise(bytes.as_ref(), bytes.origin()) {
        Format::Zip => {
            let zip = ZipFile::open(bytes)?;
            match NpzFile::recognises(&zip) {
                true => Ok(Arc::new(NpzFile::new(zip)?)),
                false => Ok(Arc::new(PickleCheckpoint::new(zip)?)),
            }
        }
        Format::Safetensors => {
            let file = SafetensorsFile::parse(bytes)?;
            match QuantizedFile::recognises(&file) {
                true => Ok(Arc::new(QuantizedFile::new(file)?)),
                false => Ok(Arc::new(file)),
            }
        }
        Format::Other(message) => Err(malformed(bytes.origin(), "checkpoint", message).into()),
    }
}

enum Format {
    Zip,
    Safetensors,
    /// Not readable; what it is and what to do.
    Other(&'static str),
}

/// How the content of other files starts, and what is said of them.
const OTHER_FORMATS: [(&[u8], &str); 13] = [
    (
        b"version https://git-lfs",
        "it is a Git LFS pointer instead of the weights; run `git lfs pull` where it came from, or download the file itself",
    ),
    // The magic number in front of PyTorch's old format, as a pickle of protocol 2.
    (
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19",
        "it is in the format of PyTorch before 1.6; load it with torch.load(.., weights_only=True) and save it again with torch.save, or as safetensors",
    ),
    (
        b"\x80",
        "it is a bare pickle, not a checkpoint of torch.save; nothing of it was run. Convert it to safetensors with a tool that you trust",
    ),
    (b"<", "it is a web page instead of the weights, as a failed download leaves behind; get the file again"),
    (
        b"{",
        "it is JSON text instead of the weights; name the checkpoint file, or get it again if this is a server's error message",
    ),
    (b"\x93NUMPY", "it is a single NumPy array; weights are an archive of them, `.npz`"),
    (b"\x1f\x8b", "it is compressed with gzip; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with Zstandard; unpack it first"),
    (
        b"\x89HDF",
        "it is an HDF5 file (Keras or TensorFlow weights), which is not supported; use the model's safetensors file",
    ),
    (b"GGUF", "it is a GGUF file, which is not supported; use the model's safetensors file"),
    (b"\x7fELF", "it is a program instead of the weights"),
    (b"\x89PNG", "it is an image instead of the weights"),
    (b"\xff\xd8\xff", "it is an image instead of the weights"),
];

fn recognise(bytes: &[u8], path: &Path) -> Format {
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return Format::Zip;
    }
    // Eight bytes of length, then JSON.
    if bytes.get(8) == Some(&b'{') && bytes.get(4..8) == Some(&[0; 4]) {
        return Format::Safetensors;
    }
    let text = bytes.trim_ascii_start();
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    if let Some((_, message)) =
        OTHER_FORMATS.iter().find(|(start, _)| bytes.starts_with(start) || text.starts_with(start))
    {
        return Format::Other(message);
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Format::Other(
            "it is a tar archive (PyTorch before 0.1.10, or several files); unpack it, or save it again with torch.save",
        );
    }
    if bytes.iter().take(4096).all(|&byte| byte == 0) {
        return Format::Other(
            "it starts with zeros, as a download leaves behind that was cut off; get the file again",
        );
    }
    // A damaged header is best described by the reader of the format that the file claims to be.
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors")) {
        return Format::Safetensors;
    }
    Format::Other(
        "it is neither safetensors nor a zip archive of torch.save or NumPy; is this the right file?",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_content_is_called_by_its_name() {
        let legacy = [&b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."[..], &[0; 64]].concat();
        let tar = [&[b'x'; 257][..], b"ustar\0"].concat();
        let cases: [(&str, &[u8], &str); 12] = [
            ("a.bin", b"<!DOCTYPE html><html>", "web page"),
            ("a.safetensors", b"\n  <html>", "web page"),
            ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:..", "git lfs pull"),
            ("a.bin", b"{\"error\": \"Invalid token\"}", "JSON text"),
            ("a.pt", &legacy, "before 1.6"),
            ("a.pt", b"\x80\x04\x95", "bare pickle"),
            ("a.pt", &tar, "tar archive"),
            ("a.bin", &[0; 10_000], "cut off"),
            ("a.npy", b"\x93NUMPY\x01\0", "NumPy array"),
            ("a.bin", b"PK\x03\x04 and so on", "cut off"),
            ("a.txt", b"hello", "neither safetensors nor"),
            ("a.safetensors", b"hello", "only 5 bytes"),
        ];
        let folder = tempfile::tempdir().unwrap();
        for (name, content, expected) in cases {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let found = open_checkpoint(&path).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(found.contains(expected) && found.contains(name), "`{expected}` not in `{found}`");
        }
    }
}
