//! What can go wrong between an image file and a preprocessed tensor. Every message names the file (or whatever name
//! the caller gave to the bytes), so that one bad image in a batch can be reported and skipped.

/// Why an image couldn't be read or prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file can't be read at all.
    #[error("{name}: {source}")]
    Io {
        /// The file.
        name: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The content isn't an image in any supported format, whatever the file's extension says.
    #[error("{name}: not an image in a supported format (PNG, JPEG, WebP, GIF, BMP, TIFF, PNM, TGA)")]
    NotAnImage {
        /// The file or the name given to the bytes.
        name: String,
    },
    /// The header announces more pixels than the limit allows; nothing was decoded.
    #[error(
        "{name}: {width}x{height} pixels exceed the limit of {limit} pixels; \
         raise the limit (`DecodeOptions::with_max_pixels`) if the file is trusted"
    )]
    TooManyPixels {
        /// The file or the name given to the bytes.
        name: String,
        /// Width that the header announces.
        width: u64,
        /// Height that the header announces.
        height: u64,
        /// The limit in force.
        limit: u64,
    },
    /// The file ends before its last pixel.
    #[error("{name}: {format} file is truncated")]
    Truncated {
        /// The file or the name given to the bytes.
        name: String,
        /// The format that the content was recognised as.
        format: &'static str,
    },
    /// The file contradicts its own format.
    #[error("{name}: damaged {format} file: {message}")]
    Damaged {
        /// The file or the name given to the bytes.
        name: String,
        /// The format that the content was recognised as.
        format: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A valid file of a kind that isn't read.
    #[error("{name}: {format} file of an unsupported kind: {message}")]
    Unsupported {
        /// The file or the name given to the bytes.
        name: String,
        /// The format that the content was recognised as.
        format: &'static str,
        /// Which feature isn't supported.
        message: String,
    },
    /// The image is so elongated that a side vanishes when it is resized.
    #[error(
        "{name}: {width}x{height} pixels would be resized to {resized_width}x{resized_height}; \
         crop or pad the image, or use another resize mode"
    )]
    VanishingSide {
        /// The file or the name given to the bytes.
        name: String,
        /// Width of the image.
        width: u32,
        /// Height of the image.
        height: u32,
        /// Width after resizing.
        resized_width: u64,
        /// Height after resizing.
        resized_height: u64,
    },
    /// Preparing the image panicked, which is a mistake in a decoder or here. Only a [`BatchLoader`](super::BatchLoader)
    /// catches that, so that the other images go on.
    #[error("{name}: preparing it failed; that is a bug, please report it with the file")]
    Panicked {
        /// The file, the name given to the bytes, or `image N` where it has none.
        name: String,
    },
    /// The dimensions given for an image don't match its samples, or the output buffer has another length.
    #[error("{name}: expected {expected} values, found {found}")]
    Length {
        /// The image or buffer.
        name: String,
        /// Values that the dimensions ask for.
        expected: usize,
        /// Values that there are.
        found: usize,
    },
}

/// A decoder's finding, before the file's name is attached to it.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The data ends early.
    Truncated,
    /// The data contradicts the format.
    Damaged(String),
    /// A feature that isn't read.
    Unsupported(String),
    /// The header announces too large an image.
    TooManyPixels { width: u64, height: u64, limit: u64 },
}

impl Fault {
    /// A contradiction described by a library's error, on one line.
    pub(crate) fn damaged(message: impl ToString) -> Self {
        Self::Damaged(message.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// An input/output failure inside a decoder that reads from memory: the end of the data, or a broken stream.
    pub(crate) fn from_io(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::damaged(error),
        }
    }

    /// The public error for the file `name` of `format`.
    pub(crate) fn named(self, name: &str, format: &'static str) -> ImageError {
        let name = name.to_owned();
        match self {
            Self::Truncated => ImageError::Truncated { name, format },
            Self::Damaged(message) => ImageError::Damaged { name, format, message },
            Self::Unsupported(message) => ImageError::Unsupported { name, format, message },
            Self::TooManyPixels { width, height, limit } => {
                ImageError::TooManyPixels { name, width, height, limit }
            }
        }
    }
}
