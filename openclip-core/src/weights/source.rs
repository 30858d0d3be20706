//! Where tensors come from: the trait that checkpoint readers implement, and the raw tensor that they hand out.

use std::borrow::Cow;

use half::{bf16, f16};

use super::WeightsError;

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// 32-bit float.
    F32,
    /// IEEE 16-bit float.
    F16,
    /// bfloat16.
    Bf16,
    /// 64-bit float.
    F64,
    /// Unsigned 8-bit integer, also booleans.
    U8,
    /// Signed 8-bit integer.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
}

impl DType {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

/// Element type and dimensions of a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; empty for a scalar.
    pub dims: Vec<usize>,
}

impl TensorInfo {
    /// Number of elements, or `None` on overflow.
    pub fn count(&self) -> Option<usize> {
        self.dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim))
    }
}

/// A stored tensor: little-endian elements in row-major order, borrowed from a mapped file where that is possible.
#[derive(Clone, Debug)]
pub struct TensorData<'a> {
    /// Element type and dimensions.
    pub info: TensorInfo,
    /// The elements.
    pub bytes: Cow<'a, [u8]>,
}

impl<'a> TensorData<'a> {
    /// A tensor that owns `f32` values.
    pub fn from_f32(dims: &[usize], values: &[f32]) -> TensorData<'static> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        TensorData { info: TensorInfo { dtype: DType::F32, dims: dims.to_vec() }, bytes: Cow::Owned(bytes) }
    }

    /// The values converted to `f32`.
    pub fn to_f32(&self) -> Vec<f32> {
        fn convert<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks::<N>().0.iter().map(|&chunk| value(chunk)).collect()
        }
        match self.info.dtype {
            DType::F32 => convert(&self.bytes, f32::from_le_bytes),
            DType::F16 => convert(&self.bytes, |b| f16::from_le_bytes(b).to_f32()),
            DType::Bf16 => convert(&self.bytes, |b| bf16::from_le_bytes(b).to_f32()),
            DType::F64 => convert(&self.bytes, |b| f64::from_le_bytes(b) as f32),
            DType::U8 => self.bytes.iter().map(|&b| f32::from(b)).collect(),
            DType::I8 => convert(&self.bytes, |b| f32::from(i8::from_le_bytes(b))),
            DType::I16 => convert(&self.bytes, |b| f32::from(i16::from_le_bytes(b))),
            DType::I32 => convert(&self.bytes, |b| i32::from_le_bytes(b) as f32),
            DType::I64 => convert(&self.bytes, |b| i64::from_le_bytes(b) as f32),
        }
    }

    /// The values as `f32`: borrowed where they are stored like that, else converted.
    pub fn into_f32(self) -> Cow<'a, [f32]> {
        if let (DType::F32, Cow::Borrowed(bytes)) = (self.info.dtype, &self.bytes)
            && let Some(values) = values(bytes)
        {
            return Cow::Borrowed(values);
        }
        Cow::Owned(self.to_f32())
    }
}

/// The elements as values where they lie, if they are values of this machine.
fn values(bytes: &[u8]) -> Option<&[f32]> {
    match cfg!(target_endian = "little") {
        true => bytemuck::try_cast_slice(bytes).ok(),
        false => None,
    }
}

/// An opened checkpoint, or anything else that can produce tensors by name.
pub trait WeightSource: Send + Sync {
    /// What error messages call the source: a file's path, or a description.
    fn origin(&self) -> String;

    /// The names of all tensors, or nothing for a source that makes any tensor on request.
    fn names(&self) -> Vec<String>;

    /// Element type and dimensions of `name`, without reading it. A source that makes any tensor on request has
    /// no stored dimensions and answers `None` here, as does one whose tensor has an element type that can't be read.
    fn info(&self, name: &str) -> Option<TensorInfo>;

    /// What error messages call the tensor `name`: the name in the file where the source presents it under another.
    fn display_name(&self, name: &str) -> String {
        name.to_owned()
    }

    /// Whether the source makes any tensor on request, in the dimensions that [`read`](Self::read) asks for.
    fn is_generative(&self) -> bool {
        false
    }

    /// The tensor `name`. Only this touches the tensor's bytes. `dims` is what the model needs; a source of stored
    /// tensors returns the stored dimensions, whatever they are, and its caller compares.
    ///
    /// # Errors
    /// [`WeightsError`] when the tensor is absent or its bytes can't be read.
    fn read(&self, name: &str, dims: &[usize]) -> Result<TensorData<'_>, WeightsError>;

    /// Says that the tensor `name` won't be read again soon, so that memory which holds it can be given back.
    fn release(&self, _name: &str) {}

    /// What tells this content from any other and costs next to nothing to find out, for what is kept of a file between
    /// runs. `None` where there is no such thing.
    fn fingerprint(&self) -> Option<String> {
        None
    }
}
