//! Plain `f64` arithmetic, written for being obvious.

use openclip_core::{HostTensor, backend::Activation};

/// A dense tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
}

impl From<&HostTensor> for Array {
    fn from(values: &HostTensor) -> Self {
        Self { dims: values.dims().to_vec(), data: values.data().iter().map(|&x| f64::from(x)).collect() }
    }
}

impl Array {
    pub fn new(dims: &[usize], value: impl Fn(&[usize]) -> f64) -> Self {
        let count: usize = dims.iter().product();
        let mut data = Vec::with_capacity(count);
        for flat in 0..count {
            let mut rest = flat;
            let mut index = vec![0; dims.len()];
            for (place, &dim) in index.iter_mut().zip(dims).rev() {
                *place = rest % dim;
                rest /= dim;
            }
            data.push(value(&index));
        }
        Self { dims: dims.to_vec(), data }
    }

    /// The value at `index`, whose axes are aligned at the last one and stay put where the tensor has one place only.
    pub fn at(&self, index: &[usize]) -> f64 {
        let index = &index[index.len() - self.dims.len()..];
        let flat = index.iter().zip(&self.dims).fold(0, |flat, (&place, &dim)| {
            assert!(place < dim || dim == 1);
            flat * dim + if dim == 1 { 0 } else { place }
        });
        self.data[flat]
    }

    pub fn map(&self, function: impl Fn(f64) -> f64) -> Self {
        Self { dims: self.dims.clone(), data: self.data.iter().map(|&x| function(x)).collect() }
    }
}

pub fn activation(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::GeluErf => 0.5 * x * (1.0 + libm::erf(x / 2.0_f64.sqrt())),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        }
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Relu => x.max(0.0),
        Activation::Silu => x * sigmoid(x),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
    }
}

/// `x [rows, in]`, `weight(out, in)` to `[rows, out]`.
pub fn linear(x: &Array, outputs: usize, weight: impl Fn(usize, usize) -> f64) -> Array {
    let &[rows, inputs] = x.dims.as_slice() else { panic!("two axes") };
    Array::new(&[rows, outputs], |at| {
        (0..inputs).map(|input| x.at(&[at[0], input]) * weight(at[1], input)).sum()
    })
}

/// `x [N, C, H, W]`, `weight [out, in / groups, kernel_h, kernel_w]`.
pub fn conv2d(x: &Array, weight: &Array, stride: [usize; 2], padding: [usize; 2]) -> Array {
    let (&[batch, channels, height, width], &[outputs, inputs, kernel_y, kernel_x]) =
        (x.dims.as_slice(), weight.dims.as_slice())
    else {
        panic!("four axes each")
    };
    let groups = channels / inputs;
    let rows = (height + 2 * padding[0] - kernel_y) / stride[0] + 1;
    let columns = (width + 2 * padding[1] - kernel_x) / stride[1] + 1;
    Array::new(&[batch, outputs, rows, columns], |at| {
        let first = at[1] / (outputs / groups) * inputs;
        let mut sum = 0.0;
        for input in 0..inputs {
            for y in 0..kernel_y {
                for z in 0..kernel_x {
                    let row = (at[2] * stride[0] + y).checked_sub(padding[0]).filter(|&row| row < height);
                    let column =
                        (at[3] * stride[1] + z).checked_sub(padding[1]).filter(|&column| column < width);
                    if let (Some(row), Some(column)) = (row, column) {
                        sum += x.at(&[at[0], first + input, row, column]) * weight.at(&[at[1], input, y, z]);
                    }
                }
            }
        }
        sum
    })
}

/// Rows of the last axis to mean 0 and deviation 1.
pub fn norm(x: &Array, eps: f64) -> Array {
    let features = *x.dims.last().unwrap();
    let mut data = Vec::new();
    for row in x.data.chunks(features) {
        let mean = row.iter().sum::<f64>() / features as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / features as f64;
        data.extend(row.iter().map(|x| (x - mean) / (variance + eps).sqrt()));
    }
    Array { dims: x.dims.clone(), data }
}

/// Attention of `[N, L, heads * width]` tensors, and for each value the weighted mean of the magnitudes of `v`.
pub fn attention(
    [q, k, v]: [&Array; 3],
    heads: usize,
    scale: f64,
    causal: bool,
    bias: Option<&Array>,
) -> (Array, Array) {
    let (batch, queries, keys) = (q.dims[0], q.dims[1], k.dims[1]);
    let (width, value_width) = (q.dims[2] / heads, v.dims[2] / heads);
    let weights = Array::new(&[batch, heads, queries, keys], |at| {
        let &[input, head, query, key] = at else { panic!("four axes") };
        if causal && key > query {
            return 0.0;
        }
        let places = head * width..(head + 1) * width;
        let product: f64 = places.map(|at| q.at(&[input, query, at]) * k.at(&[input, key, at])).sum();
        (scale * product + bias.map_or(0.0, |bias| bias.at(at))).exp()
    });
    let mean = |at: &[usize], value: fn(f64) -> f64| {
        let weight = |key: usize| weights.at(&[at[0], at[2] / value_width, at[1], key]);
        let total: f64 = (0..keys).map(weight).sum();
        (0..keys).map(|key| weight(key) / total * value(v.at(&[at[0], key, at[2]]))).sum()
    };
    let dims = [batch, queries, heads * value_width];
    (Array::new(&dims, |at| mean(at, |x| x)), Array::new(&dims, |at| mean(at, f64::abs)))
}
