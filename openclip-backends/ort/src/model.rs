//! A recorded model, and how it becomes a file. Weights go from the checkpoint to the file one at a time, so that a
//! model of any size is written in the memory of its largest tensor.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use openclip_core::{Dim, DisplayDims, Error, Result, files::write_atomically};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};

#[cfg(feature = "runtime")]
use crate::values::Values;
use crate::{
    graph::{Graph, Initializer, Value},
    onnx::{
        AttributeProto, AttributeType, DataLocation, DimensionProto, DimensionValue, GraphProto, IR_VERSION,
        ModelProto, NodeProto, OPSET, OperatorSetIdProto, StringStringEntryProto, TensorProto,
        TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    },
};

/// Weights of more bytes than this are written beside the model: one message holds two gigabytes at most.
const LARGEST_INLINE: u64 = 1_500_000_000;
/// Constants of fewer bytes stay in the model in any case: runtimes look at them while they load it.
const SMALLEST_EXTERNAL: u64 = 1024;
/// Weights in a file of their own start at multiples of this, so that they can be mapped.
const EXTERNAL_ALIGNMENT: u64 = 4096;

/// Field numbers of what is streamed.
const MODEL_GRAPH: u32 = 7;
const GRAPH_INITIALIZER: u32 = 5;
const TENSOR_RAW_DATA: u32 = 9;

/// Where the weights of a saved model are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightStorage {
    /// In the model's file, beside it in `NAME.onnx.data` where they would be too large for one file.
    #[default]
    Automatic,
    /// In `NAME.onnx.data` beside the model's file.
    External,
}

/// A constant by itself: name, dimensions, values.
#[cfg(feature = "runtime")]
pub(crate) type Weight = (String, Vec<usize>, Values);

/// A recorded model. Its [`Display`](fmt::Display) lists the graph, a node a line.
pub struct OnnxModel {
    name: String,
    nodes: Vec<NodeProto>,
    initializers: Vec<Initializer>,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    metadata: Vec<(String, String)>,
}

impl OnnxModel {
    pub(crate) fn new(name: &str, graph: Graph, outputs: Vec<Value>) -> Self {
        Self {
            name: name.to_owned(),
            nodes: graph.nodes,
            initializers: graph.initializers,
            inputs: graph.inputs,
            outputs,
            metadata: Vec::new(),
        }
    }

    /// With a fact beside the graph, in the file's `metadata_props`.
    pub fn with_metadata(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.push((key.to_owned(), value.to_string()));
        self
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Size of all weights in bytes.
    pub fn weight_bytes(&self) -> u64 {
        self.initializers.iter().map(Initializer::size).sum()
    }

    /// Writes the model to `path`, reading the weights from its checkpoint. Files appear whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Weights`].
    pub fn save(&self, path: impl AsRef<Path>, storage: WeightStorage) -> Result<()> {
        let path = path.as_ref();
        let beside = DataFile::beside(path)?;
        let data = self.is_external(storage).then_some(&beside);
        write_atomically(path, |file| {
            let io = |error| Error::io(path, error);
            let mut tensors = Vec::with_capacity(self.initializers.len());
            match data {
                Some(data) => self.write_external(data, &mut tensors)?,
                None => tensors
                    .extend(self.initializers.iter().map(|constant| (constant.header(), Some(constant)))),
            }
            file.write_all(&self.head(&tensors)).map_err(io)?;
            for (header, inline) in &tensors {
                let (prefix, constant) = tensor_prefix(header, *inline);
                file.write_all(&prefix).map_err(io)?;
                if let Some(constant) = constant {
                    file.write_all(&constant.bytes()?).map_err(io)?;
                }
            }
            Ok(())
        })?;
        match data {
            Some(_) => Ok(()),
            None => beside.remove(),
        }
    }

    /// The model's message, which refers to its large constants by name alone, and these, read now.
    #[cfg(feature = "runtime")]
    pub(crate) fn with_weights_apart(&self) -> Result<(Vec<u8>, Vec<Weight>)> {
        let (mut tensors, mut weights) = (Vec::new(), Vec::new());
        for constant in &self.initializers {
            if constant.size() < SMALLEST_EXTERNAL {
                tensors.push((constant.header(), Some(constant)));
                continue;
            }
            let mut header = constant.header();
            header.refer_to("memory", 0, constant.size());
            tensors.push((header, None));
            weights.push((constant.name.to_string(), constant.dims.clone(), constant.values()?));
        }
        let mut bytes = self.head(&tensors);
        for (header, inline) in &tensors {
            let (prefix, constant) = tensor_prefix(header, *inline);
            bytes.extend(prefix);
            if let Some(constant) = constant {
                bytes.extend(constant.bytes()?);
            }
        }
        Ok((bytes, weights))
    }

    fn is_external(&self, storage: WeightStorage) -> bool {
        storage == WeightStorage::External || self.weight_bytes() > LARGEST_INLINE
    }

    /// Writes the large constants to `data`, and says for each constant where it is: in the file, or still to come.
    fn write_external<'a>(
        &'a self,
        data: &DataFile,
        tensors: &mut Vec<(TensorProto, Option<&'a Initializer>)>,
    ) -> Result<()> {
        write_atomically(&data.path, |file| {
            let io = |error| Error::io(&data.path, error);
            let mut end = 0;
            for constant in &self.initializers {
                let mut header = constant.header();
                let size = constant.size();
                if size < SMALLEST_EXTERNAL {
                    tensors.push((header, Some(constant)));
                    continue;
                }
                let start = u64::next_multiple_of(end, EXTERNAL_ALIGNMENT);
                file.write_all(&vec![0; (start - end) as usize]).map_err(io)?;
                file.write_all(&constant.bytes()?).map_err(io)?;
                end = start + size;
                header.refer_to(&data.name, start, size);
                tensors.push((header, None));
            }
            Ok(())
        })
    }

    /// The model's message up to the graph's constants, which are to follow.
    fn head(&self, tensors: &[(TensorProto, Option<&Initializer>)]) -> Vec<u8> {
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "openclip".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: None,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            metadata_props: self
                .metadata
                .iter()
                .map(|(key, value)| StringStringEntryProto { key: key.clone(), value: value.clone() })
                .collect(),
        };
        let graph = GraphProto {
            node: self.nodes.clone(),
            name: self.name.clone(),
            initializer: Vec::new(),
            input: self.inputs.iter().map(value_info).collect(),
            output: self.outputs.iter().map(value_info).collect(),
        };
        let constants: u64 = tensors
            .iter()
            .map(|(header, inline)| {
                let (prefix, constant) = tensor_prefix(header, *inline);
                prefix.len() as u64 + constant.map_or(0, Initializer::size)
            })
            .sum();
        let mut bytes = model.encode_to_vec();
        encode_key(MODEL_GRAPH, WireType::LengthDelimited, &mut bytes);
        encode_varint(graph.encoded_len() as u64 + constants, &mut bytes);
        bytes.extend(graph.encode_to_vec());
        bytes
    }
}

impl TensorProto {
    /// The values are `length` bytes of the file `location`.
    fn refer_to(&mut self, location: &str, offset: u64, length: u64) {
        self.data_location = Some(DataLocation::External.into());
        self.external_data = [
            ("location", location.to_owned()),
            ("offset", offset.to_string()),
            ("length", length.to_string()),
        ]
        .map(|(key, value)| StringStringEntryProto { key: key.to_owned(), value })
        .to_vec();
    }
}

/// The file that weights are written to when they aren't in the model's own.
struct DataFile {
    path: PathBuf,
    /// As the model refers to it.
    name: String,
}

impl DataFile {
    fn beside(model: &Path) -> Result<Self> {
        let name = model.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
            Error::InvalidArgument(format!("{}: the name of an ONNX file has to be UTF-8", model.display()))
        })?;
        let name = format!("{name}.data");
        Ok(Self { path: model.with_file_name(&name), name })
    }

    /// Removes what an earlier model of the same name left: nothing refers to it any more.
    fn remove(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(&self.path, error)),
            _ => Ok(()),
        }
    }
}

/// The bytes of a constant's message up to its values, and the constant whose values are to follow, if any.
fn tensor_prefix<'a>(
    header: &TensorProto,
    inline: Option<&'a Initializer>,
) -> (Vec<u8>, Option<&'a Initializer>) {
    let mut message = header.encode_to_vec();
    let mut length = message.len() as u64;
    if let Some(constant) = inline {
        let size = constant.size();
        length += key_len(TENSOR_RAW_DATA) as u64 + encoded_len_varint(size) as u64 + size;
        encode_key(TENSOR_RAW_DATA, WireType::LengthDelimited, &mut message);
        encode_varint(size, &mut message);
    }
    let mut prefix = Vec::with_capacity(message.len() + 16);
    encode_key(GRAPH_INITIALIZER, WireType::LengthDelimited, &mut prefix);
    encode_varint(length, &mut prefix);
    prefix.extend(message);
    (prefix, inline)
}

fn value_info(value: &Value) -> ValueInfoProto {
    let dim = |dim: &Dim| {
        let value = match dim.fixed() {
            Some(size) => DimensionValue::DimValue(size as i64),
            None => DimensionValue::DimParam(dim.to_string()),
        };
        DimensionProto { value: Some(value) }
    };
    let shape = TensorShapeProto { dim: value.dims.iter().map(dim).collect() };
    let tensor_type = TensorTypeProto { elem_type: value.element.into(), shape: Some(shape) };
    ValueInfoProto {
        name: value.name.to_string(),
        r#type: Some(TypeProto { tensor_type: Some(tensor_type) }),
    }
}

impl fmt::Display for OnnxModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {}", self.name)?;
        for input in &self.inputs {
            writeln!(f, "input {input}")?;
        }
        for constant in &self.initializers {
            let dims: Vec<Dim> = constant.dims.iter().copied().map(Dim::Fixed).collect();
            writeln!(f, "constant {} {:?}{}", constant.name, constant.element, DisplayDims(&dims))?;
        }
        for node in &self.nodes {
            write!(f, "{} = {}({})", node.output.join(", "), node.op_type, node.input.join(", "))?;
            for attribute in &node.attribute {
                write!(f, " {}={}", attribute.name, DisplayAttribute(attribute))?;
            }
            writeln!(f)?;
        }
        for output in &self.outputs {
            writeln!(f, "output {output}")?;
        }
        Ok(())
    }
}

struct DisplayAttribute<'a>(&'a AttributeProto);

impl fmt::Display for DisplayAttribute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attribute = self.0;
        match attribute.r#type() {
            AttributeType::Float => write!(f, "{}", attribute.f.unwrap_or_default()),
            AttributeType::Int => write!(f, "{}", attribute.i.unwrap_or_default()),
            AttributeType::Ints => write!(f, "{:?}", attribute.ints),
            AttributeType::String => {
                write!(f, "{}", String::from_utf8_lossy(attribute.s.as_deref().unwrap_or_default()))
            }
            AttributeType::Tensor => write!(f, "tensor"),
            AttributeType::Undefined => write!(f, "?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{onnx::ElementType, values::Values};

    /// A model with one weight of `count` values, which nobody reads.
    fn model(count: usize) -> OnnxModel {
        let mut graph = Graph::default();
        let weight = graph.weight("weight", &[count], ElementType::Float, || Ok(Values::Float(Vec::new())));
        let output = graph.rename(&weight, "output");
        OnnxModel::new("test", graph, vec![output])
    }

    #[test]
    fn large_weights_leave_the_file_by_themselves() {
        for (count, storage, external) in [
            (375_000_000, WeightStorage::Automatic, false),
            (375_000_001, WeightStorage::Automatic, true),
            (1, WeightStorage::External, true),
        ] {
            assert_eq!(model(count).is_external(storage), external, "{count} {storage:?}");
        }
    }

    #[test]
    fn a_weight_that_can_not_be_read_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        for storage in [WeightStorage::Automatic, WeightStorage::External] {
            assert!(model(1000).save(folder.path().join("image.onnx"), storage).is_err());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{storage:?}");
        }
    }
}
