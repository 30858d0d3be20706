//! The recording implementation of the seam: every operation adds nodes to a graph, and dimensions are those that
//! [`ShapeBackend`] infers.

use std::{
    borrow::Cow,
    sync::{Mutex, MutexGuard, PoisonError},
};

use openclip_core::{
    Backend, Dim, Dims, Error, HostTensor, Precision, Result, Weights,
    backend::{
        Activation, AttentionSpec, BinaryOp, Conv2dSpec, EmbeddingSpec, LinearSpec, NormKind, NormSpec,
        Pool2dSpec, PoolKind, Rearrange, ReduceOp, ShapeBackend, ShapeTensor, TokenPosition, WeightLayout,
    },
};

use crate::{
    attributes::{float, int, ints},
    compose::{shape, target},
    graph::{Graph, Value},
    model::OnnxModel,
    onnx::ElementType,
    quantize::{Channels, QuantizedWeight},
    values::Values,
};

/// Records what runs on it as an ONNX graph. Weights are not read before the model is saved.
pub struct OnnxRecorder {
    graph: Mutex<Graph>,
    precision: Precision,
}

/// A recorded linear layer.
pub struct Linear {
    name: String,
    spec: LinearSpec,
    weight: Matrix,
    bias: Option<Value>,
}

/// A recorded convolution.
pub struct Conv2d {
    name: String,
    spec: Conv2dSpec,
    weight: Value,
    bias: Option<Value>,
}

/// A recorded normalisation.
pub struct Norm {
    name: String,
    spec: NormSpec,
    weight: Value,
    bias: Option<Value>,
}

/// A recorded embedding table.
pub struct Embedding {
    name: String,
    spec: EmbeddingSpec,
    weight: Matrix,
}

/// A weight with two axes.
enum Matrix {
    Float(Value),
    Quantized(QuantizedWeight),
}

impl OnnxRecorder {
    /// An empty recording of a model that computes in `precision`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for bfloat16, which ONNX Runtime hasn't got on processors, and for integer weights alone.
    pub fn new(precision: Precision) -> Result<Self> {
        let reason = match precision {
            Precision::F32 | Precision::F16 | Precision::Int8 => None,
            Precision::Bf16 => Some("most of ONNX Runtime's operators don't take it"),
            Precision::Int8Weights => Some("ONNX Runtime's operator for it is slower than f32"),
        };
        if let Some(reason) = reason {
            let message = format!("precision {precision} is not available: {reason}; use f32, f16 or int8");
            return Err(Error::Unsupported { backend: "ort", message });
        }
        Ok(Self { graph: Mutex::default(), precision })
    }

    /// A value that comes from outside. Symbols by themselves among `dims` are what symbolic dimensions are computed
    /// from when the model runs. Floats come in `f32` at every precision.
    pub fn input(&self, name: &str, element: ElementType, dims: Dims) -> Value {
        let mut graph = self.graph();
        let value = graph.input(name, element, dims);
        match element {
            ElementType::Float => graph.cast(name, &value, self.element()),
            _ => value,
        }
    }

    /// Ends the recording: a model `name` that gives `value` under the name `output`, and `others` under theirs, all in
    /// `f32`. What these don't need is left out.
    pub fn finish(self, name: &str, output: &str, value: &Value, others: &[(String, Value)]) -> OnnxModel {
        let mut graph = self.graph.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut outputs: Vec<Value> = others.iter().map(|(name, value)| graph.output(name, value)).collect();
        let value = graph.cast(output, value, ElementType::Float);
        outputs.insert(0, graph.rename(&value, output));
        graph.prune(&outputs);
        OnnxModel::new(name, graph, outputs).with_metadata("precision", self.precision)
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Element type of arithmetic on floats.
    fn element(&self) -> ElementType {
        match self.precision {
            Precision::F16 => ElementType::Float16,
            _ => ElementType::Float,
        }
    }

    /// A weight under the name `path`, which `read` reads as floats.
    fn weight(
        &self,
        path: &str,
        dims: &[usize],
        read: impl Fn() -> Result<Vec<f32>> + Send + Sync + 'static,
    ) -> Value {
        let (name, element) = (path.to_owned(), self.element());
        self.graph().weight(path, dims, element, move || {
            Values::floats(read()?, element)
                .map_err(|error| Error::InvalidArgument(format!("{name}: {error}")))
        })
    }

    /// A weight `[rows, columns]`, in 8 bits where that is the precision.
    fn matrix(
        &self,
        path: &str,
        [rows, columns]: [usize; 2],
        channels: Channels,
        read: impl Fn() -> Result<Vec<f32>> + Send + Sync + 'static,
    ) -> Matrix {
        match self.precision {
            Precision::Int8 => {
                Matrix::Quantized(self.graph().quantized_weight(path, [rows, columns], channels, read))
            }
            _ => Matrix::Float(self.weight(path, &[rows, columns], read)),
        }
    }

    /// A parameter as it is stored.
    fn parameter(&self, w: &Weights, name: &str, dims: &[usize]) -> Result<Value> {
        w.require(name, dims)?;
        Ok(self.weight(&w.path(name), dims, read_parameter(w, name, dims)))
    }
}

fn read_parameter(w: &Weights, name: &str, dims: &[usize]) -> impl Fn() -> Result<Vec<f32>> + use<> {
    let (w, name, dims) = (w.clone(), name.to_owned(), dims.to_vec());
    move || w.read_f32(&name, &dims)
}

/// `[outputs, inputs] -> [inputs, outputs]`, by blocks that stay in the processor's cache.
fn transposed(values: &[f32], inputs: usize) -> Vec<f32> {
    const BLOCK: usize = 32;
    let outputs = values.len().checked_div(inputs).unwrap_or(0);
    let mut result = vec![0.0; outputs * inputs];
    for first in (0..outputs).step_by(BLOCK) {
        let block = first..(first + BLOCK).min(outputs);
        for (input, column) in result.chunks_mut(outputs).enumerate() {
            for (output, place) in block.clone().zip(column.iter_mut().skip(first)) {
                *place = values.get(output * inputs + input).copied().unwrap_or_default();
            }
        }
    }
    result
}

impl Backend for OnnxRecorder {
    type Tensor = Value;
    type Linear = Linear;
    type Conv2d = Conv2d;
    type Norm = Norm;
    type Embedding = Embedding;

    fn name(&self) -> &'static str {
        "onnx"
    }

    fn dims(&self, x: &Value) -> Dims {
        x.dims.clone()
    }

    fn prepare_linear(&self, w: &Weights, spec: &LinearSpec) -> Result<Linear> {
        spec.require(w)?;
        let (inputs, outputs) = (spec.in_features, spec.out_features);
        let stored = spec.weight_name(w);
        // `MatMul` takes `[in, out]`.
        let weight_name = match spec.layout {
            WeightLayout::OutIn => format!("{stored}.transposed"),
            WeightLayout::InOut => stored,
        };
        let (view, layer) = (w.clone(), spec.clone().biased(false));
        let read = move || {
            let (weight, _) = layer.read(&view)?;
            Ok(match layer.layout {
                WeightLayout::OutIn => transposed(weight.data(), inputs),
                WeightLayout::InOut => weight.into_data(),
            })
        };
        let weight = match spec.quantize {
            true => self.matrix(&weight_name, [inputs, outputs], Channels::Columns, read),
            false => Matrix::Float(self.weight(&weight_name, &[inputs, outputs], read)),
        };
        let (view, layer) = (w.clone(), spec.clone());
        let bias = spec.has_bias().then(|| {
            self.weight(&spec.bias_name(w), &[outputs], move || {
                Ok(layer.read_bias(&view)?.map(HostTensor::into_data).unwrap_or_default())
            })
        });
        let path = w.path(spec.weight.first().map_or("", |part| part.name.as_str()));
        let name = ["_weight", ".weight"].iter().find_map(|suffix| path.strip_suffix(suffix));
        Ok(Linear { name: name.unwrap_or(&path).to_owned(), spec: spec.clone(), weight, bias })
    }

    fn prepare_conv2d(&self, w: &Weights, spec: &Conv2dSpec) -> Result<Conv2d> {
        spec.require(w)?;
        let (view, layer) = (w.clone(), spec.clone());
        let weight = self.weight(&w.path("weight"), &spec.weight_dims(), move || {
            layer.weight_values(&view).map(Cow::into_owned)
        });
        let (view, layer) = (w.clone(), spec.clone());
        let bias = spec.has_bias().then(|| {
            self.weight(&w.path("bias"), &[spec.out_channels], move || {
                Ok(layer.read_bias(&view)?.map(HostTensor::into_data).unwrap_or_default())
            })
        });
        Ok(Conv2d { name: w.scope_name().to_owned(), spec: spec.clone(), weight, bias })
    }

    fn prepare_norm(&self, w: &Weights, spec: &NormSpec) -> Result<Norm> {
        Ok(Norm {
            name: w.scope_name().to_owned(),
            spec: *spec,
            weight: match spec.weight {
                true => self.parameter(w, "weight", &[spec.features])?,
                // The operator has to have one.
                false => self.constant(&HostTensor::new([spec.features], vec![1.0; spec.features])?)?,
            },
            bias: match spec.bias {
                true => Some(self.parameter(w, "bias", &[spec.features])?),
                false => None,
            },
        })
    }

    fn prepare_embedding(&self, w: &Weights, spec: &EmbeddingSpec) -> Result<Embedding> {
        let dims = [spec.count, spec.features];
        w.require("weight", &dims)?;
        let read = read_parameter(w, "weight", &dims);
        let weight = self.matrix(&w.path("weight"), dims, Channels::Rows, read);
        Ok(Embedding { name: w.scope_name().to_owned(), spec: *spec, weight })
    }

    fn param(&self, w: &Weights, name: &str, dims: &[usize]) -> Result<Value> {
        self.parameter(w, name, dims)
    }

    fn constant(&self, value: &HostTensor) -> Result<Value> {
        let values = Values::floats(value.data().to_vec(), self.element())?;
        Ok(self.graph().constant("constant", value.dims(), values))
    }

    fn linear(&self, x: &Value, layer: &Linear) -> Result<Value> {
        let dims = ShapeBackend.linear(&shape(x), &layer.spec)?.0;
        let mut graph = self.graph();
        graph.enter(&layer.name);
        let mut y = match &layer.weight {
            Matrix::Float(weight) => {
                graph.named(&layer.name, "MatMul", &[x, weight], Vec::new(), dims.clone())
            }
            Matrix::Quantized(weight) => graph.quantized_matmul(&layer.name, x, weight, dims.clone()),
        };
        if let Some(bias) = &layer.bias {
            y = graph.named(&layer.name, "Add", &[&y, bias], Vec::new(), dims);
        }
        Ok(match layer.spec.activation {
            Some(activation) => graph.activation(&layer.name, &y, activation),
            None => y,
        })
    }

    fn conv2d(&self, x: &Value, layer: &Conv2d) -> Result<Value> {
        let dims = ShapeBackend.conv2d(&shape(x), &layer.spec)?.0;
        let Conv2dSpec { kernel, stride, padding: [y, x_padding], groups, .. } = layer.spec;
        let mut graph = self.graph();
        graph.enter(&layer.name);
        let attributes = vec![
            ints("kernel_shape", kernel),
            ints("strides", stride),
            ints("pads", [y, x_padding, y, x_padding]),
            ints("dilations", [1, 1]),
            int("group", groups as i64),
        ];
        let inputs: Vec<&Value> = [x, &layer.weight].into_iter().chain(&layer.bias).collect();
        let y = graph.named(&layer.name, "Conv", &inputs, attributes, dims);
        Ok(match layer.spec.activation {
            Some(activation) => graph.activation(&layer.name, &y, activation),
            None => y,
        })
    }

    fn norm(&self, x: &Value, layer: &Norm) -> Result<Value> {
        let dims = ShapeBackend.norm(&shape(x), &layer.spec)?.0;
        let mut graph = self.graph();
        graph.enter(&layer.name);
        let attributes = vec![int("axis", -1), float("epsilon", layer.spec.eps as f32)];
        let inputs = [x, &layer.weight];
        Ok(match (layer.spec.kind, &layer.bias) {
            (NormKind::Layer, bias) => {
                let inputs: Vec<&Value> = inputs.into_iter().chain(bias).collect();
                graph.named(&layer.name, "LayerNormalization", &inputs, attributes, dims)
            }
            (NormKind::Rms, None) => graph.named(&layer.name, "RMSNormalization", &inputs, attributes, dims),
            (NormKind::Rms, Some(bias)) => {
                let y = graph.named(&layer.name, "RMSNormalization", &inputs, attributes, dims.clone());
                graph.named(&layer.name, "Add", &[&y, bias], Vec::new(), dims)
            }
        })
    }

    fn embed(&self, ids: &Value, table: &Embedding) -> Result<Value> {
        let dims = ShapeBackend.embed(&shape(ids), &table.spec)?.0;
        let mut graph = self.graph();
        graph.enter(&table.name);
        Ok(match &table.weight {
            Matrix::Float(weight) => {
                graph.named(&table.name, "Gather", &[weight, ids], vec![int("axis", 0)], dims)
            }
            Matrix::Quantized(weight) => graph.quantized_rows_of(&table.name, weight, ids, dims),
        })
    }

    fn activate(&self, x: &Value, activation: Activation) -> Result<Value> {
        let mut graph = self.graph();
        let scope = graph.scope();
        Ok(graph.activation(&scope, x, activation))
    }

    fn pool2d(&self, x: &Value, spec: &Pool2dSpec) -> Result<Value> {
        let dims = ShapeBackend.pool2d(&shape(x), spec)?.0;
        let op = match spec.kind {
            PoolKind::Max => "MaxPool",
            PoolKind::Average => "AveragePool",
        };
        let [y, x_padding] = spec.padding;
        let attributes = vec![
            ints("kernel_shape", spec.kernel),
            ints("strides", spec.stride),
            ints("pads", [y, x_padding, y, x_padding]),
        ];
        Ok(self.graph().node(op, &[x], attributes, dims))
    }

    fn attention(
        &self,
        q: &Value,
        k: &Value,
        v: &Value,
        spec: &AttentionSpec,
        bias: Option<&Value>,
    ) -> Result<Value> {
        let bias_dims = bias.map(shape);
        let dims = ShapeBackend.attention(&shape(q), &shape(k), &shape(v), spec, bias_dims.as_ref())?.0;
        let heads = spec.heads as i64;
        let attributes = vec![
            int("q_num_heads", heads),
            int("kv_num_heads", heads),
            float("scale", spec.scale),
            int("is_causal", i64::from(spec.causal)),
            int("softmax_precision", ElementType::Float as i64),
        ];
        let mut graph = self.graph();
        let bias = bias.map(|bias| graph.attention_bias(bias, q, k)).transpose()?;
        let inputs: Vec<&Value> = [q, k, v].into_iter().chain(&bias).collect();
        Ok(graph.node("Attention", &inputs, attributes, dims))
    }

    fn rearrange(&self, x: &Value, how: Rearrange) -> Result<Value> {
        let dims = ShapeBackend.rearrange(&shape(x), how)?.0;
        let mut graph = self.graph();
        // A zero in the target of `Reshape` takes the axis over as it is.
        let kept = |count: usize| vec![0_i64; count];
        Ok(match how {
            Rearrange::SplitLast { parts } => {
                let sizes = [kept(x.dims.len().saturating_sub(1)), vec![parts as i64, target(dims.last())]];
                graph.reshape(x, &sizes.concat(), dims)
            }
            Rearrange::MergeLast => {
                let sizes = [kept(x.dims.len().saturating_sub(2)), vec![target(dims.last())]];
                graph.reshape(x, &sizes.concat(), dims)
            }
            Rearrange::Transpose(a, b) => {
                let mut order: Vec<usize> = (0..x.dims.len()).collect();
                order.swap(a, b);
                graph.transpose(x, &order)
            }
            Rearrange::SpatialToTokens => {
                let [Some(batch), tokens, Some(channels)] = [dims.first(), dims.get(1), dims.get(2)] else {
                    return Err(Error::shape("rearrange", "[N, C, H, W]", x));
                };
                let size = target(tokens);
                let flat = [batch, channels].into_iter().chain(tokens).cloned().collect();
                let flat = graph.reshape(x, &[0, 0, size], flat);
                graph.transpose(&flat, &[0, 2, 1])
            }
            Rearrange::TokensToSpatial { height, width } => {
                let flat = graph.transpose(x, &[0, 2, 1]);
                graph.reshape(&flat, &[0, 0, height as i64, width as i64], dims)
            }
            Rearrange::Unsqueeze(axis) => {
                let axes = graph.integers(&[axis as i64]);
                graph.node("Unsqueeze", &[x, &axes], Vec::new(), dims)
            }
            Rearrange::Squeeze(axis) => {
                let axes = graph.integers(&[axis as i64]);
                graph.node("Squeeze", &[x, &axes], Vec::new(), dims)
            }
        })
    }

    fn binary(&self, op: BinaryOp, a: &Value, b: &Value) -> Result<Value> {
        let dims = ShapeBackend.binary(op, &shape(a), &shape(b))?.0;
        let op = match op {
            BinaryOp::Add => "Add",
            BinaryOp::Sub => "Sub",
            BinaryOp::Mul => "Mul",
            BinaryOp::Div => "Div",
        };
        Ok(self.graph().node(op, &[a, b], Vec::new(), dims))
    }

    fn matmul(&self, a: &Value, b: &Value) -> Result<Value> {
        let dims = ShapeBackend.matmul(&shape(a), &shape(b))?.0;
        Ok(self.graph().node("MatMul", &[a, b], Vec::new(), dims))
    }

    fn reduce(&self, x: &Value, op: ReduceOp, axis: usize) -> Result<Value> {
        let dims = ShapeBackend.reduce(&shape(x), op, axis)?.0;
        let op = match op {
            ReduceOp::Mean => "ReduceMean",
            ReduceOp::Sum => "ReduceSum",
            ReduceOp::Max => "ReduceMax",
        };
        let mut graph = self.graph();
        let axes = graph.integers(&[axis as i64]);
        Ok(graph.node(op, &[x, &axes], vec![int("keepdims", 0)], dims))
    }

    fn cat(&self, parts: &[&Value], axis: usize) -> Result<Value> {
        let shapes: Vec<ShapeTensor> = parts.iter().map(|part| shape(part)).collect();
        let dims = ShapeBackend.cat(&shapes.iter().collect::<Vec<_>>(), axis)?.0;
        Ok(self.graph().node("Concat", parts, vec![int("axis", axis as i64)], dims))
    }

    fn slice(&self, x: &Value, axis: usize, start: &Dim, end: &Dim) -> Result<Value> {
        let dims = ShapeBackend.slice(&shape(x), axis, start, end)?.0;
        if dims == x.dims {
            return Ok(x.clone());
        }
        let size = x.dims.get(axis).cloned().unwrap_or(Dim::Fixed(0));
        let mut graph = self.graph();
        let (start, end) = (graph.bound(start, &size)?, graph.bound(end, &size)?);
        let axes = graph.integers(&[axis as i64]);
        Ok(graph.node("Slice", &[x, &start, &end, &axes], Vec::new(), dims))
    }

    fn take_rows(&self, x: &Value, index: &Value) -> Result<Value> {
        let dims = ShapeBackend.take_rows(&shape(x), &shape(index))?.0;
        let mut graph = self.graph();
        let axes = graph.integers(&[1]);
        let index_dims = [index.dims.as_slice(), &[Dim::Fixed(1)]].concat();
        let index = graph.node("Unsqueeze", &[index, &axes], Vec::new(), index_dims);
        Ok(graph.node("GatherND", &[x, &index], vec![int("batch_dims", 1)], dims))
    }

    fn expand_batch(&self, x: &Value, like: &Value) -> Result<Value> {
        let dims = ShapeBackend.expand_batch(&shape(x), &shape(like))?.0;
        if dims == x.dims {
            return Ok(x.clone());
        }
        let batch = dims.first().cloned().unwrap_or(Dim::Fixed(1));
        let mut graph = self.graph();
        let batch = graph.size(&batch)?;
        // A one in the target of `Expand` leaves the axis as it is.
        let rest = graph.integers(&vec![1; dims.len().saturating_sub(1)]);
        let target_dims = vec![Dim::Fixed(dims.len())];
        let target = graph.node("Concat", &[&batch, &rest], vec![int("axis", 0)], target_dims);
        Ok(graph.node("Expand", &[x, &target], Vec::new(), dims))
    }

    fn token_position(&self, ids: &Value, which: TokenPosition) -> Result<Value> {
        ShapeBackend.token_position(&shape(ids), which)?;
        let mut graph = self.graph();
        Ok(match which {
            TokenPosition::HighestId => graph.first_maximum(ids),
            // All places are equal where the id doesn't occur, and the first of them is taken.
            TokenPosition::First(id) => {
                let equal = graph.equals(ids, id);
                graph.first_maximum(&equal)
            }
        })
    }

    fn padding_bias(&self, ids: &Value, pad_id: u32) -> Result<Value> {
        let dims = ShapeBackend.padding_bias(&shape(ids), pad_id)?.0;
        let mut graph = self.graph();
        let padding = graph.equals(ids, pad_id);
        let scope = graph.scope();
        let (hidden, shown) = (graph.number(f32::NEG_INFINITY), graph.number(0.0));
        let bias = graph.node("Where", &[&padding, &hidden, &shown], Vec::new(), ids.dims.clone());
        let bias = graph.cast(&scope, &bias.typed(ElementType::Float), self.element());
        let axes = graph.integers(&[1, 2]);
        Ok(graph.node("Unsqueeze", &[&bias, &axes], Vec::new(), dims))
    }
}
