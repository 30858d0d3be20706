//! Linear layers on weights that were packed for the GEMM once, while the model was built.

use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape};
use openclip_core::{HostTensor, backend::Activation, backend::WeightLayout};
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use super::{contiguous, rows::activate_in_place};

/// `x W^T + b` and an activation, with `W` packed.
pub struct PackedLinear {
    weight: PackedBMatrix<f32>,
    bias: Option<Vec<f32>>,
    activation: Option<Activation>,
}

impl PackedLinear {
    /// Packs `weight`, which is `[out, in]` or `[in, out]` as `layout` says.
    pub fn new(
        weight: &HostTensor,
        layout: WeightLayout,
        bias: Option<HostTensor>,
        activation: Option<Activation>,
    ) -> Self {
        let gemm = GemmExecutor::<f32>::new();
        let &[rows, columns] = weight.dims() else {
            unreachable!("a linear layer's weight has two axes by construction");
        };
        let matrix = NdTensorView::from_data([rows, columns], weight.data());
        let weight = match layout {
            WeightLayout::OutIn => gemm.prepack_b(matrix.transposed()),
            WeightLayout::InOut => gemm.prepack_b(matrix),
        };
        Self { weight, bias: bias.map(HostTensor::into_data), activation }
    }
}

impl CustomOp1 for &PackedLinear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous("linear", storage, layout)?;
        let (inputs, outputs) = (self.weight.rows(), self.weight.cols());
        let mut dims = layout.dims().to_vec();
        match dims.last_mut() {
            Some(last) if *last == inputs => *last = outputs,
            _ => candle_core::bail!("expected dimensions [.., {inputs}], found {dims:?}"),
        }
        let count = x.len() / inputs.max(1);
        let mut y = vec![0.0; count * outputs];
        let options =
            GemmOptions { bias: self.bias.as_deref().map(BiasVector::Row), ..GemmOptions::default() };
        GemmExecutor::<f32>::new()
            .gemm(
                &mut y,
                GemmInputA::Unpacked(NdTensorView::from_data([count, inputs], x)),
                GemmInputB::Packed(&self.weight),
                options,
            )
            .map_err(Error::wrap)?;
        if let Some(activation) = self.activation {
            activate_in_place(&mut y, activation);
        }
        Ok((CpuStorage::F32(y), Shape::from(dims)))
    }
}
