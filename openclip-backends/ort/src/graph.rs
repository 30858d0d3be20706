//! The graph under construction: values, nodes under unique readable names, weights that are read only when the file is
//! written, and the numbers that follow from symbolic dimensions.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use half::f16;
use openclip_core::{Dim, Dims, DisplayDims, Error, Result};

use crate::{
    attributes,
    onnx::{AttributeProto, ElementType, NodeProto, TensorProto},
    quantize::QuantizedRows,
    values::Values,
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

impl Value {
    /// The same value, known to have another element type than its node's first input.
    pub(crate) fn typed(self, element: ElementType) -> Self {
        Self { element, ..self }
    }
}

/// Reads a weight in the layout and element type that the graph needs.
type ReadWeight = Arc<dyn Fn() -> Result<Values> + Send + Sync>;

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
    Constant(Values),
    Weight(ReadWeight),
}

impl Initializer {
    /// Size of the values in bytes.
    pub fn size(&self) -> u64 {
        self.dims.iter().map(|&dim| dim as u64).product::<u64>() * self.element.size()
    }

    /// The values, read from the checkpoint now.
    pub fn values(&self) -> Result<Values> {
        let values = match &self.content {
            Content::Constant(values) => values.clone(),
            Content::Weight(read) => read()?,
        };
        if values.element() != self.element || values.len() as u64 * self.element.size() != self.size() {
            let expected = format!("{:?}{:?}", self.element, self.dims);
            let found = format!("{} values of {:?}", values.len(), values.element());
            return Err(Error::shape(&*self.name, expected, found));
        }
        Ok(values)
    }

    /// The values in little-endian, read from the checkpoint now.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        self.values().map(Values::into_le_bytes)
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
    /// Activations that exist in 8 bits already, by name.
    pub(crate) quantized: HashMap<Arc<str>, QuantizedRows>,
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
        element: ElementType,
        read: impl Fn() -> Result<Values> + Send + Sync + 'static,
    ) -> Value {
        self.initializer(name, element, dims, Content::Weight(Arc::new(read)))
    }

    /// A constant that isn't a weight.
    pub fn constant(&mut self, name: &str, dims: &[usize], values: Values) -> Value {
        self.initializer(name, values.element(), dims, Content::Constant(values))
    }

    fn shared(&mut self, name: String, dims: &[usize], values: Values) -> Value {
        if let Some(value) = self.constants.get(&name) {
            return value.clone();
        }
        let value = self.constant(&name, dims, values);
        self.constants.insert(name, value.clone());
        value
    }

    /// Integers `[n]`; equal ones are shared.
    pub fn integers(&mut self, values: &[i64]) -> Value {
        self.shared(format!("int64{values:?}"), &[values.len()], Values::Int64(values.to_vec()))
    }

    /// An integer `[]`.
    pub fn integer(&mut self, value: i64) -> Value {
        self.shared(format!("int64({value})"), &[], Values::Int64(vec![value]))
    }

    /// A number `[]`.
    pub fn number(&mut self, value: f32) -> Value {
        self.shared(format!("float({value})"), &[], Values::Float(vec![value]))
    }

    /// A number `[]` of a float type. Those that go with values of other types stand in nodes' parameters.
    pub fn number_like(&mut self, value: f32, like: &Value) -> Value {
        match like.element {
            ElementType::Float16 => {
                self.shared(format!("float16({value})"), &[], Values::Float16(vec![f16::from_f32(value)]))
            }
            _ => self.number(value),
        }
    }

    /// A byte `[]`.
    pub fn byte(&mut self, value: u8) -> Value {
        self.shared(format!("uint8({value})"), &[], Values::Uint8(vec![value]))
    }

    /// `x` in another element type; itself where it has that type.
    pub fn cast(&mut self, scope: &str, x: &Value, element: ElementType) -> Value {
        if x.element == element {
            return x.clone();
        }
        let to = vec![attributes::int("to", element as i64)];
        self.named(scope, "Cast", &[x], to, x.dims.clone()).typed(element)
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
        Ok(value.typed(ElementType::Int64))
    }

    /// `value` in `f32` by `name`, or a name like it where that is taken, whatever else it is called.
    pub fn output(&mut self, name: &str, value: &Value) -> Value {
        let value = self.cast(name, value, ElementType::Float);
        self.alias(&value, name)
    }

    fn alias(&mut self, value: &Value, name: &str) -> Value {
        let name = self.unique(name);
        self.nodes.push(NodeProto {
            input: vec![value.name.to_string()],
            output: vec![name.to_string()],
            name: format!("{name}/Identity"),
            op_type: "Identity".to_owned(),
            attribute: Vec::new(),
        });
        Value { name, ..value.clone() }
    }

    /// Calls `value` by `name`, with a node of its own where nothing computes it.
    pub fn rename(&mut self, value: &Value, name: &str) -> Value {
        let produced = self.nodes.iter().any(|node| node.output.iter().any(|output| **output == *value.name));
        if !produced {
            return self.alias(value, name);
        }
        let name = self.unique(name);
        for node in &mut self.nodes {
            for used in node.input.iter_mut().chain(&mut node.output).filter(|used| **used == *value.name) {
                *used = name.to_string();
            }
        }
        Value { name, ..value.clone() }
    }

    /// Drops nodes and constants that `outputs` don't need.
    pub fn prune(&mut self, outputs: &[Value]) {
        let mut needed: HashSet<String> = outputs.iter().map(|output| output.name.to_string()).collect();
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
        graph.weight("unused", &[2], ElementType::Float, || Ok(Values::Float(vec![0.0; 2])));
        let number = graph.integer(3);
        let kept = graph.node("Add", &[&ids, &number], Vec::new(), ids.dims.clone());
        let dropped = graph.integer(4);
        graph.node("Mul", &[&kept, &dropped], Vec::new(), ids.dims.clone());
        let output = graph.rename(&kept, "output");
        graph.prune(&[output]);
        assert_eq!(lines(&graph), ["Add = Add(input_ids, int64(3))"]);
        assert_eq!(graph.nodes[0].output, ["output"]);
        assert_eq!(graph.initializers.len(), 1);
    }

    #[test]
    fn an_input_that_is_the_output_gets_a_node() {
        let mut graph = graph();
        let ids = graph.inputs[0].clone();
        let output = graph.rename(&ids, "output");
        graph.prune(&[output]);
        assert_eq!(lines(&graph), ["output/Identity = Identity(input_ids)"]);
    }

    #[test]
    fn a_weight_of_another_size_is_named() {
        let mut graph = graph();
        graph.weight("visual.proj", &[2], ElementType::Float, || Ok(Values::Float(vec![0.0; 3])));
        let error = graph.initializers[0].bytes().unwrap_err().to_string();
        assert!(error.starts_with("visual.proj: "), "{error}");
    }
}
