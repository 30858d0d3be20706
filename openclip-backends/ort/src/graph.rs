//! The graph under construction: values, nodes under unique readable names, weights that are read only when the file is
//! written, and the numbers that follow from symbolic dimensions.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use openclip_core::{Dim, Dims, DisplayDims, Error, Result};

use crate::{
    attributes,
    onnx::{AttributeProto, ElementType, NodeProto, TensorProto},
};

/// A value of the graph: what the recorder has in place of a tensor.
#[derive(Clone, Debug)]
pub struct Value {
    pub(crate) name: Arc<str>,
    pub(crate) element: ElementType,
    pub(crate) dims: Dims,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}{}", self.name, self.element, DisplayDims(&self.dims))
    }
}

/// Reads a weight in the layout that the graph needs.
type ReadWeight = Arc<dyn Fn() -> Result<Vec<f32>> + Send + Sync>;

/// A constant of the graph.
#[derive(Clone)]
pub(crate) struct Initializer {
    pub name: Arc<str>,
    pub element: ElementType,
    pub dims: Vec<usize>,
    content: Content,
}

#[derive(Clone)]
enum Content {
    /// Little-endian values.
    Bytes(Vec<u8>),
    Weight(ReadWeight),
}

impl Initializer {
    /// Size of the values in bytes.
    pub fn size(&self) -> u64 {
        let element = match self.element {
            ElementType::Int64 => 8,
            _ => 4,
        };
        self.dims.iter().map(|&dim| dim as u64).product::<u64>() * element
    }

    /// The values in little-endian, read from the checkpoint now.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let bytes = match &self.content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::Weight(read) => read()?.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        if bytes.len() as u64 != self.size() {
            let found = format!("{} bytes", bytes.len());
            return Err(Error::shape(&*self.name, format!("{:?}", self.dims), found));
        }
        Ok(bytes)
    }

    /// The constant without its values.
    pub fn header(&self) -> TensorProto {
        TensorProto {
            dims: self.dims.iter().map(|&dim| dim as i64).collect(),
            data_type: self.element.into(),
            name: self.name.to_string(),
            ..TensorProto::default()
        }
    }
}

/// The graph under construction.
#[derive(Default)]
pub(crate) struct Graph {
    pub nodes: Vec<NodeProto>,
    pub initializers: Vec<Initializer>,
    pub inputs: Vec<Value>,
    /// Names that are taken, with the number of the last that was derived from each.
    taken: HashMap<String, usize>,
    /// Where operations without weights of their own belong: the scope of the last layer that ran.
    scope: String,
    /// Constants that are shared, by name.
    constants: HashMap<String, Value>,
    /// Symbolic dimensions that exist as values `[1]` already.
    sizes: Vec<(Dim, Value)>,
    masks: Vec<([Dim; 2], Value)>,
}

impl Graph {
    /// `name`, or `name_1`, `name_2`, .. where it is taken.
    fn unique(&mut self, name: &str) -> Arc<str> {
        let mut candidate = name.to_owned();
        while self.taken.contains_key(&candidate) {
            let last = self.taken.entry(name.to_owned()).or_default();
            *last += 1;
            candidate = format!("{name}_{last}");
        }
        self.taken.insert(candidate.clone(), 0);
        candidate.into()
    }

    /// A value that comes from outside.
    pub fn input(&mut self, name: &str, element: ElementType, dims: Dims) -> Value {
        let value = Value { name: self.unique(name), element, dims };
        self.inputs.push(value.clone());
        value
    }

    /// Says that the layer `name` runs: operations after it belong to the module that holds it.
    pub fn enter(&mut self, name: &str) {
        self.scope.clear();
        self.scope.push_str(name.rsplit_once('.').map_or("", |(module, _)| module));
    }

    /// The module of the last layer that ran.
    pub fn scope(&self) -> String {
        self.scope.clone()
    }

    /// A node of the last layer's module; see [`named`](Self::named).
    pub fn node(
        &mut self,
        op: &str,
        inputs: &[&Value],
        attributes: Vec<AttributeProto>,
        dims: Dims,
    ) -> Value {
        let scope = self.scope();
        self.named(&scope, op, inputs, attributes, dims)
    }

    /// A node `scope/op`, whose one output has the node's name, the first input's element type and `dims`.
    pub fn named(
        &mut self,
        scope: &str,
        op: &str,
        inputs: &[&Value],
        attributes: Vec<AttributeProto>,
        dims: Dims,
    ) -> Value {
        let name = match scope {
            "" => self.unique(op),
            scope => self.unique(&format!("{scope}/{op}")),
        };
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|value| value.name.to_string()).collect(),
            output: vec![name.to_string()],
            name: name.to_string(),
            op_type: op.to_owned(),
            attribute: attributes,
        });
        let element = inputs.first().map_or(ElementType::Float, |value| value.element);
        Value { name, element, dims }
    }

    fn initializer(&mut self, name: &str, element: ElementType, dims: &[usize], content: Content) -> Value {
        let name = self.unique(name);
        self.initializers.push(Initializer {
            name: Arc::clone(&name),
            element,
            dims: dims.to_vec(),
            content,
        });
        Value { name, element, dims: dims.iter().copied().map(Dim::Fixed).collect() }
    }

    /// A weight, which `read` reads when the file is written.
    pub fn weight(
        &mut self,
        name: &str,
        dims: &[usize],
        read: impl Fn() -> Result<Vec<f32>> + Send + Sync + 'static,
    ) -> Value {
        self.initializer(name, ElementType::Float, dims, Content::Weight(Arc::new(read)))
    }

    fn shared(&mut self, name: String, element: ElementType, dims: &[usize], bytes: Vec<u8>) -> Value {
        if let Some(value) = self.constants.get(&name) {
            return value.clone();
        }
        let value = self.initializer(&name, element, dims, Content::Bytes(bytes));
        self.constants.insert(name, value.clone());
        value
    }

    /// Integers `[n]`; equal ones are shared.
    pub fn integers(&mut self, values: &[i64]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.shared(format!("int64{values:?}"), ElementType::Int64, &[values.len()], bytes)
    }

    /// An integer `[]`.
    pub fn integer(&mut self, value: i64) -> Value {
        self.shared(format!("int64({value})"), ElementType::Int64, &[], value.to_le_bytes().to_vec())
    }

    /// A number `[]`.
    pub fn number(&mut self, value: f32) -> Value {
        self.shared(format!("float({value})"), ElementType::Float, &[], value.to_le_bytes().to_vec())
    }

    /// A tensor that isn't a weight.
    pub fn tensor(&mut self, name: &str, dims: &[usize], values: &[f32]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, ElementType::Float, dims, Content::Bytes(bytes))
    }

    /// A dimension as a value `[1]`, computed from the inputs' dimensions where it is symbolic.
    pub fn size(&mut self, dim: &Dim) -> Result<Value> {
        if let Some(value) = dim.fixed() {
            return Ok(self.integers(&[value as i64]));
        }
        if let Some((_, value)) = self.sizes.iter().find(|(known, _)| known == dim) {
            return Ok(value.clone());
        }
        let sum = dim.to_sum();
        let value = match sum.as_slice() {
            [(symbols, 1)] if symbols.len() == 1 => self.symbol(dim)?,
            _ => {
                let mut total: Option<Value> = None;
                for (symbols, coefficient) in sum {
                    let mut product =
                        (symbols.is_empty() || coefficient != 1).then(|| self.integers(&[coefficient]));
                    for symbol in symbols {
                        let factor = self.size(&Dim::symbol(symbol))?;
                        product = Some(self.combine("Mul", product, factor));
                    }
                    if let Some(product) = product {
                        total = Some(self.combine("Add", total, product));
                    }
                }
                total.ok_or_else(|| Error::shape("dimension", "a sum", dim))?
            }
        };
        self.sizes.push((dim.clone(), value.clone()));
        Ok(value)
    }

    fn combine(&mut self, op: &str, left: Option<Value>, right: Value) -> Value {
        match left {
            Some(left) => self.named("size", op, &[&left, &right], Vec::new(), vec![Dim::Fixed(1)]),
            None => right,
        }
    }

    /// The size of the input axis that `dim`, a symbol by itself, is the size of.
    fn symbol(&mut self, dim: &Dim) -> Result<Value> {
        let place = self.inputs.iter().find_map(|input| {
            let axis = input.dims.iter().position(|size| size == dim)?;
            Some((input.clone(), axis as i64))
        });
        let Some((input, axis)) = place else {
            return Err(Error::shape("dimension", "the size of an input's axis", dim));
        };
        let range = vec![attributes::int("start", axis), attributes::int("end", axis + 1)];
        let value = self.named(&dim.to_string(), "Shape", &[&input], range, vec![Dim::Fixed(1)]);
        Ok(Value { element: ElementType::Int64, ..value })
    }

    /// `[queries, keys]`: `-inf` where a key comes after the query, else 0. Equal masks are shared.
    pub fn causal_mask(&mut self, queries: &Dim, keys: &Dim) -> Result<Value> {
        let dims = [queries.clone(), keys.clone()];
        if let Some((_, value)) = self.masks.iter().find(|(known, _)| *known == dims) {
            return Ok(value.clone());
        }
        let scope = "causal_mask";
        let (rows, columns) = (self.size(queries)?, self.size(keys)?);
        let axis = vec![attributes::int("axis", 0)];
        let size = self.named(scope, "Concat", &[&rows, &columns], axis, vec![Dim::Fixed(2)]);
        let fill = vec![attributes::float_tensor("value", f32::NEG_INFINITY)];
        let hidden = self.named(scope, "ConstantOfShape", &[&size], fill, dims.to_vec());
        let hidden = Value { element: ElementType::Float, ..hidden };
        let diagonal = self.integer(1);
        let upper = vec![attributes::int("upper", 1)];
        let mask = self.named(scope, "Trilu", &[&hidden, &diagonal], upper, dims.to_vec());
        self.masks.push((dims, mask.clone()));
        Ok(mask)
    }

    /// Calls `value` by `name`, with a node of its own where nothing computes it.
    pub fn rename(&mut self, value: &Value, name: &str) -> Value {
        let name = self.unique(name);
        let renamed = Value { name: Arc::clone(&name), ..value.clone() };
        let produced = self.nodes.iter().any(|node| node.output.iter().any(|output| **output == *value.name));
        if !produced {
            self.nodes.push(NodeProto {
                input: vec![value.name.to_string()],
                output: vec![name.to_string()],
                name: format!("{name}/Identity"),
                op_type: "Identity".to_owned(),
                attribute: Vec::new(),
            });
            return renamed;
        }
        for node in &mut self.nodes {
            for used in node.input.iter_mut().chain(&mut node.output).filter(|used| **used == *value.name) {
                *used = name.to_string();
            }
        }
        renamed
    }

    /// Drops nodes and constants that `output` doesn't need.
    pub fn prune(&mut self, output: &Value) {
        let mut needed = HashSet::from([output.name.to_string()]);
        // Nodes stand in the order of computation, so one pass from the back reaches all that is needed.
        let mut kept: Vec<NodeProto> = Vec::with_capacity(self.nodes.len());
        for node in self.nodes.drain(..).rev() {
            if node.output.iter().any(|output| needed.contains(output)) {
                needed.extend(node.input.iter().cloned());
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
        self.initializers.retain(|initializer| needed.contains(&*initializer.name));
    }
}

#[cfg(test)]
mod tests {
    use openclip_core::Symbol;

    use super::*;

    fn graph() -> Graph {
        let mut graph = Graph::default();
        let dims = [Symbol::BATCH, Symbol::SEQUENCE].map(Dim::symbol).to_vec();
        graph.input("input_ids", ElementType::Int64, dims);
        graph
    }

    fn lines(graph: &Graph) -> Vec<String> {
        let line = |node: &NodeProto| format!("{} = {}({})", node.name, node.op_type, node.input.join(", "));
        graph.nodes.iter().map(line).collect()
    }

    #[test]
    fn symbolic_dimensions_are_computed_once() {
        let mut graph = graph();
        let (batch, sequence) = (Dim::symbol(Symbol::BATCH), Dim::symbol(Symbol::SEQUENCE));
        let dim = &(&(&batch * &sequence) * &Dim::Fixed(2)) + &Dim::Fixed(1);
        let value = graph.size(&dim).unwrap();
        assert_eq!(graph.size(&dim).unwrap().name, value.name);
        graph.size(&(&sequence + &Dim::Fixed(1))).unwrap();
        assert_eq!(
            lines(&graph),
            [
                "batch/Shape = Shape(input_ids)",
                "size/Mul = Mul(int64[2], batch/Shape)",
                "sequence/Shape = Shape(input_ids)",
                "size/Mul_1 = Mul(size/Mul, sequence/Shape)",
                "size/Add = Add(int64[1], size/Mul_1)",
                "size/Add_1 = Add(int64[1], sequence/Shape)",
            ]
        );
        assert!(graph.size(&Dim::symbol(Symbol("elsewhere"))).is_err());
    }

    #[test]
    fn what_nothing_needs_is_dropped() {
        let mut graph = graph();
        let ids = graph.inputs[0].clone();
        graph.weight("unused", &[2], || Ok(vec![0.0; 2]));
        let number = graph.integer(3);
        let kept = graph.node("Add", &[&ids, &number], Vec::new(), ids.dims.clone());
        let dropped = graph.integer(4);
        graph.node("Mul", &[&kept, &dropped], Vec::new(), ids.dims.clone());
        let output = graph.rename(&kept, "output");
        graph.prune(&output);
        assert_eq!(lines(&graph), ["Add = Add(input_ids, int64(3))"]);
        assert_eq!(graph.nodes[0].output, ["output"]);
        assert_eq!(graph.initializers.len(), 1);
    }

    #[test]
    fn an_input_that_is_the_output_gets_a_node() {
        let mut graph = graph();
        let ids = graph.inputs[0].clone();
        let output = graph.rename(&ids, "output");
        graph.prune(&output);
        assert_eq!(lines(&graph), ["output/Identity = Identity(input_ids)"]);
    }

    #[test]
    fn a_weight_of_another_size_is_named() {
        let mut graph = graph();
        graph.weight("visual.proj", &[2], || Ok(vec![0.0; 3]));
        let error = graph.initializers[0].bytes().unwrap_err().to_string();
        assert!(error.starts_with("visual.proj: "), "{error}");
    }
}
