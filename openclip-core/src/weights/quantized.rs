//! Weights in 8-bit integers: the convention by which a safetensors file stores them, and both directions of it.
//!
//! A matrix `NAME` is stored as `NAME` in I8 with its own dimensions and `NAME.scale` in F32, with dimensions
//! `[rows, 1]` or `[1, columns]` that say which axis the channels are. A value is its integer times the scale of its
//! channel, and the largest magnitude of a channel is the integer 127. Everything else is stored as it is.
//!
//! A reader sees `NAME` in F32 and nothing of the scales. Rounding what it sees gives the stored integers again, so that
//! a backend that computes in integers loses nothing more, and every other one reads the file like any checkpoint.

use std::{borrow::Cow, collections::HashMap};

use super::{DType, SafetensorsFile, TensorData, TensorInfo, WeightSource, WeightsError};

/// What follows a tensor's name in that of its scales.
const SCALE_SUFFIX: &str = ".scale";

/// The field of a file's metadata that says how its matrices are stored.
const METADATA_KEY: &str = "openclip.quantization";

/// The value of [`METADATA_KEY`] for the convention of this module.
const METADATA_VALUE: &str = "int8-per-channel";

/// The integer that the largest magnitude of a channel becomes.
const LARGEST: f32 = 127.0;

/// Which axis of a matrix has a scale for each of its places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelAxis {
    /// A scale per row, for weights `[out, in]` and tables `[count, features]`.
    Rows,
    /// A scale per column, for weights `[in, out]`.
    Columns,
}

impl ChannelAxis {
    fn scale_dims(self, [rows, columns]: [usize; 2]) -> [usize; 2] {
        match self {
            Self::Rows => [rows, 1],
            Self::Columns => [1, columns],
        }
    }

    /// The channel of each element of a matrix with `columns` columns, in order.
    fn channels(self, columns: usize, count: usize) -> impl Iterator<Item = usize> {
        let columns = columns.max(1);
        (0..count).map(move |place| match self {
            Self::Rows => place / columns,
            Self::Columns => place % columns,
        })
    }
}

/// What one step of the integers of a channel is worth whose largest magnitude is `largest`.
pub fn channel_scale(largest: f32) -> f32 {
    let scale = largest / LARGEST;
    // A channel of zeros, or of values too small for a scale, has any.
    if scale > 0.0 { scale } else { 1.0 }
}

/// The integer for `value` in a channel of that scale.
pub fn quantized_value(value: f32, scale: f32) -> i8 {
    // The cast saturates: in a channel of denormal values the quotient may be more than 127.
    (value / scale).round() as i8
}

/// The metadata of a file whose matrices are stored in integers.
pub fn quantized_metadata() -> HashMap<String, String> {
    HashMap::from([(METADATA_KEY.to_owned(), METADATA_VALUE.to_owned())])
}

/// Rounds the matrix `name` to integers with a scale per channel. Returns what is stored under `name` and under its
/// [`scale_name`].
///
/// # Errors
/// [`WeightsError::Quantization`] for a tensor that isn't a matrix or has values that aren't finite.
pub fn quantize(
    origin: &str,
    name: &str,
    data: &TensorData<'_>,
    axis: ChannelAxis,
) -> Result<[TensorData<'static>; 2], WeightsError> {
    let fail = |message: String| quantization(origin.to_owned(), name, message);
    let &[rows, columns] = data.info.dims.as_slice() else {
        return Err(fail(format!(
            "only matrices can be stored in integers, and this is {:?}",
            data.info.dims
        )));
    };
    let values = data.to_f32();
    if values.iter().any(|value| !value.is_finite()) {
        return Err(fail("it has values that are not finite; the checkpoint is damaged".to_owned()));
    }
    let scale_dims = axis.scale_dims([rows, columns]);
    let mut scales = vec![0.0_f32; scale_dims.iter().product()];
    for (value, channel) in values.iter().zip(axis.channels(columns, values.len())) {
        if let Some(largest) = scales.get_mut(channel) {
            *largest = largest.max(value.abs());
        }
    }
    scales.iter_mut().for_each(|scale| *scale = channel_scale(*scale));
    let integers = values.iter().zip(axis.channels(columns, values.len())).map(|(value, channel)| {
        let scale = scales.get(channel).copied().unwrap_or(1.0);
        quantized_value(*value, scale).to_le_bytes()
    });
    let bytes: Vec<u8> = integers.flatten().collect();
    let info = TensorInfo { dtype: DType::I8, dims: vec![rows, columns] };
    Ok([TensorData { info, bytes: Cow::Owned(bytes) }, TensorData::from_f32(&scale_dims, &scales)])
}

/// What the scales of `name` are called.
pub fn scale_name(name: &str) -> String {
    format!("{name}{SCALE_SUFFIX}")
}

fn quantization(origin: String, name: &str, message: String) -> WeightsError {
    WeightsError::Quantization { origin, name: name.to_owned(), message }
}

/// Presents a file whose matrices are stored in integers as one of floats.
pub(super) struct QuantizedFile {
    file: SafetensorsFile,
    /// Names in the order of the file, without scales.
    names: Vec<String>,
    /// The matrices that are stored in integers.
    quantized: HashMap<String, Matrix>,
}

#[derive(Clone, Copy)]
struct Matrix {
    dims: [usize; 2],
    axis: ChannelAxis,
}

impl QuantizedFile {
    /// Whether `file` keeps to the convention: its metadata say so, or, since other programs drop metadata when they
    /// copy tensors, there are integers with scales.
    pub(super) fn recognises(file: &SafetensorsFile) -> bool {
        file.metadata().contains_key(METADATA_KEY)
            || file
                .names()
                .iter()
                .any(|name| is_integer(file, name) && file.info(&scale_name(name)).is_some())
    }

    /// Checks that every tensor of integers has scales that fit.
    ///
    /// # Errors
    /// [`WeightsError::Quantization`] naming the file and the tensor.
    pub(super) fn new(file: SafetensorsFile) -> Result<Self, WeightsError> {
        if let Some(other) = file.metadata().get(METADATA_KEY).filter(|value| *value != METADATA_VALUE) {
            return Err(WeightsError::Malformed {
                path: file.origin().into(),
                format: "quantised safetensors",
                message: format!(
                    "its metadata name the quantisation `{other}`, and only `{METADATA_VALUE}` can be read"
                ),
            });
        }
        let mut names = file.names();
        let mut quantized = HashMap::new();
        for name in names.iter().filter(|name| is_integer(&file, name)) {
            quantized.insert(name.clone(), matrix(&file, name)?);
        }
        names.retain(|name| {
            name.strip_suffix(SCALE_SUFFIX).is_none_or(|matrix| !quantized.contains_key(matrix))
        });
        Ok(Self { file, names, quantized })
    }

    /// The matrix `name` in floats.
    fn dequantized(&self, name: &str, matrix: Matrix) -> Result<TensorData<'_>, WeightsError> {
        let Matrix { dims, axis } = matrix;
        let integers = self.file.read(name, &dims)?;
        let scales = self.file.read(&scale_name(name), &axis.scale_dims(dims))?.to_f32();
        let damaged = |scale: &&f32| !(scale.is_finite() && **scale > 0.0);
        if let Some((place, scale)) = scales.iter().enumerate().find(|(_, scale)| damaged(scale)) {
            let message = format!(
                "`{}` has {scale} for channel {place}, and a scale is a positive number; the file is damaged, get it again",
                scale_name(name)
            );
            return Err(quantization(self.origin(), name, message));
        }
        let channels = axis.channels(dims[1], integers.bytes.len());
        let values = integers.bytes.iter().zip(channels).map(|(&byte, channel)| {
            f32::from(i8::from_le_bytes([byte])) * scales.get(channel).copied().unwrap_or_default()
        });
        let bytes = values.flat_map(f32::to_le_bytes).collect();
        Ok(TensorData { info: float(dims), bytes: Cow::Owned(bytes) })
    }
}

fn is_integer(file: &SafetensorsFile, name: &str) -> bool {
    file.info(name).is_some_and(|info| info.dtype == DType::I8)
}

fn float(dims: [usize; 2]) -> TensorInfo {
    TensorInfo { dtype: DType::F32, dims: dims.to_vec() }
}

/// How the integers `name` of `file` are to be read, from the dimensions of their scales.
fn matrix(file: &SafetensorsFile, name: &str) -> Result<Matrix, WeightsError> {
    let fail = |message: String| Err(quantization(file.origin(), name, message));
    let stored = file.info(name).map(|info| info.dims).unwrap_or_default();
    let &[rows, columns] = stored.as_slice() else {
        return fail(format!("integers have scales only as matrices, and this is {stored:?}"));
    };
    let dims = [rows, columns];
    let scale = scale_name(name);
    let Some(info) = file.info(&scale) else {
        return fail(format!("its scales `{scale}` are missing or can't be read; get the file again"));
    };
    let axis =
        [ChannelAxis::Rows, ChannelAxis::Columns].into_iter().find(|a| a.scale_dims(dims)[..] == info.dims);
    match axis {
        Some(axis) if info.dtype == DType::F32 => Ok(Matrix { dims, axis }),
        _ => fail(format!(
            "`{scale}` is {:?} {:?}, and scales of {dims:?} are F32 [{rows}, 1] or [1, {columns}]; quantise the model again",
            info.dtype, info.dims
        )),
    }
}

impl WeightSource for QuantizedFile {
    fn origin(&self) -> String {
        self.file.origin()
    }

    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        match self.quantized.get(name) {
            Some(matrix) => Some(float(matrix.dims)),
            None => self.file.info(name),
        }
    }

    fn read(&self, name: &str, dims: &[usize]) -> Result<TensorData<'_>, WeightsError> {
        match self.quantized.get(name) {
            Some(&matrix) => self.dequantized(name, matrix),
            None => self.file.read(name, dims),
        }
    }

    fn release(&self, name: &str) {
        self.file.release(name);
    }

    fn fingerprint(&self) -> Option<String> {
        self.file.fingerprint()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::weights::{open_checkpoint, save_safetensors};

    type Tensors = Vec<(String, TensorData<'static>)>;

    /// What a reader sees of a file of `tensors`.
    fn reopened(tensors: &Tensors, metadata: Option<HashMap<String, String>>) -> crate::Result<Opened> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.safetensors");
        save_safetensors(&path, tensors.clone(), metadata).unwrap();
        Ok(Opened { source: open_checkpoint(&path)?, _folder: folder })
    }

    struct Opened {
        source: std::sync::Arc<dyn WeightSource>,
        _folder: tempfile::TempDir,
    }

    fn quantized(dims: &[usize], values: &[f32], axis: ChannelAxis) -> Tensors {
        let [integers, scales] = quantize("a.bin", "w", &TensorData::from_f32(dims, values), axis).unwrap();
        vec![("w".to_owned(), integers), (scale_name("w"), scales)]
    }

    proptest! {
        #[test]
        fn what_is_read_rounds_to_what_is_stored(
            values in prop::collection::vec(-3.0_f32..3.0, 12), by_rows: bool, marked: bool,
        ) {
            let axis = if by_rows { ChannelAxis::Rows } else { ChannelAxis::Columns };
            let tensors = quantized(&[3, 4], &values, axis);
            let opened = reopened(&tensors, marked.then(quantized_metadata)).unwrap();
            let source = &opened.source;
            prop_assert_eq!(source.names(), ["w"]);
            let read = source.read("w", &[3, 4]).unwrap();
            prop_assert_eq!(source.info("w"), Some(read.info.clone()));
            prop_assert_eq!(read.info.dtype, DType::F32);
            let scales = tensors[1].1.to_f32();
            for (place, (value, read)) in values.iter().zip(read.to_f32()).enumerate() {
                let scale = scales[if by_rows { place / 4 } else { place % 4 }];
                prop_assert!((value - read).abs() <= 0.5001 * scale, "{} {}", value, read);
            }
            let again = quantized(&[3, 4], &read.to_f32(), axis);
            prop_assert_eq!(&again[0].1.bytes, &tensors[0].1.bytes);
            for (again, scale) in again[1].1.to_f32().into_iter().zip(scales) {
                prop_assert!((again - scale).abs() <= scale * f32::EPSILON);
            }
        }
    }

    #[test]
    fn zeros_and_denormals_stay_near_what_they_are() {
        let values = [0.0, -0.0, 1e-45, 0.0, 1e-39, -1e-39];
        let opened = reopened(&quantized(&[3, 2], &values, ChannelAxis::Rows), None).unwrap();
        for (read, value) in opened.source.read("w", &[3, 2]).unwrap().to_f32().into_iter().zip(values) {
            assert!((read - value).abs() < 1e-40, "{read:e} {value:e}");
        }
        let none = quantized(&[0, 4], &[], ChannelAxis::Rows);
        assert_eq!(reopened(&none, None).unwrap().source.read("w", &[0, 4]).unwrap().to_f32(), [0.0_f32; 0]);
    }

    #[test]
    fn what_has_no_scales_is_refused_or_left_alone() {
        let fail = |dims: &[usize], values: &[f32]| {
            let data = TensorData::from_f32(dims, values);
            quantize("a.bin", "w", &data, ChannelAxis::Rows).unwrap_err().to_string()
        };
        assert!(
            fail(&[1, 2], &[1.0, f32::NAN])
                .contains("a.bin: quantised tensor `w`: it has values that are not")
        );
        assert!(fail(&[2], &[1.0, 2.0]).contains("only matrices"));
        // Integers of other files are what they are.
        let mut plain = quantized(&[1, 2], &[1.0, -1.0], ChannelAxis::Rows);
        plain.truncate(1);
        assert_eq!(reopened(&plain, None).unwrap().source.info("w").unwrap().dtype, DType::I8);
        // Scales of floats are a parameter like others.
        let floats = vec![("x.scale".to_owned(), TensorData::from_f32(&[1], &[2.0]))];
        assert_eq!(reopened(&floats, Some(quantized_metadata())).unwrap().source.names(), ["x.scale"]);
    }

    #[test]
    fn damage_is_named() {
        let scale = |dims: &[usize], values: &[f32]| TensorData::from_f32(dims, values);
        let half = TensorData {
            info: TensorInfo { dtype: DType::F16, dims: vec![2, 1] },
            bytes: Cow::Owned(vec![0, 60, 0, 60]),
        };
        let cases = [
            ("missing", None, "`w.scale` are missing"),
            ("transposed", Some(scale(&[1, 2], &[1.0, 1.0])), "F32 [2, 1] or [1, 3]"),
            ("flat", Some(scale(&[2], &[1.0, 1.0])), "is F32 [2]"),
            ("other type", Some(half), "is F16 [2, 1]"),
            ("NaN", Some(scale(&[2, 1], &[1.0, f32::NAN])), "NaN for channel 1"),
            ("infinite", Some(scale(&[2, 1], &[f32::INFINITY, 1.0])), "inf for channel 0"),
            ("negative", Some(scale(&[2, 1], &[-1.0, 1.0])), "-1 for channel 0"),
            ("zero", Some(scale(&[2, 1], &[0.0, 1.0])), "0 for channel 0"),
        ];
        for (case, scale, expected) in cases {
            let mut tensors = quantized(&[2, 3], &[1.0; 6], ChannelAxis::Rows);
            tensors.truncate(1);
            tensors.extend(scale.map(|scale| ("w.scale".to_owned(), scale)));
            let read = reopened(&tensors, Some(quantized_metadata()))
                .and_then(|opened| Ok(opened.source.read("w", &[2, 3]).map(drop)?));
            let error = read.unwrap_err();
            let crate::Error::Weights(WeightsError::Quantization { name, .. }) = &error else {
                panic!("{case}: {error}");
            };
            let message = error.to_string();
            assert!(
                name == "w" && message.contains("q.safetensors") && message.contains(expected),
                "{message}"
            );
        }
        let vector = TensorData {
            info: TensorInfo { dtype: DType::I8, dims: vec![2] },
            bytes: Cow::Owned(vec![1, 2]),
        };
        let error = reopened(&vec![("w".to_owned(), vector)], Some(quantized_metadata())).err().unwrap();
        assert!(error.to_string().contains("only as matrices"), "{error}");
        let other = HashMap::from([(METADATA_KEY.to_owned(), "int2".to_owned())]);
        let error = reopened(&Vec::new(), Some(other)).err().unwrap();
        assert!(error.to_string().contains("`int2`"), "{error}");
    }
}
