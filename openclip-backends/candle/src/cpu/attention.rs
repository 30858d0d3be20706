//! Multi-head attention that reads queries, keys and values where they stand, packed or not, and keeps one head's
//! scores at a time.

use candle_core::{CpuStorage, CustomOp3, Error, Layout, Result, Shape};
use openclip_core::{HostTensor, backend::AttentionSpec};
use rayon::prelude::*;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_simd::SimdOp;
use rten_tensor::{Matrix, NdTensorView};
use rten_vecmath::Softmax;

/// `softmax(scale * q k^T + mask + bias) v`, head by head.
pub struct Attention {
    /// Heads, scale and mask.
    pub spec: AttentionSpec,
    /// Added to the scores; axes `[N or 1, heads or 1, Lq or 1, Lk]`.
    pub bias: Option<HostTensor>,
}

/// A `[N, L, heads * E]` tensor as matrices `[L, E]` by input and head.
struct Heads<'a> {
    values: &'a [f32],
    strides: [usize; 3],
    length: usize,
    head_width: usize,
}

impl<'a> Heads<'a> {
    fn new(storage: &'a CpuStorage, layout: &Layout, heads: usize) -> Result<Self> {
        let (CpuStorage::F32(values), &[_, length, width], &[batch, row, column]) =
            (storage, layout.dims(), layout.stride())
        else {
            candle_core::bail!("attention takes f32 tensors [N, L, D], found {:?}", layout.shape());
        };
        let values = values.get(layout.start_offset()..).unwrap_or_default();
        Ok(Self { values, strides: [batch, row, column], length, head_width: width / heads })
    }

    fn matrix(&self, input: usize, head: usize) -> Result<Matrix<'a>> {
        let [batch, row, column] = self.strides;
        let start = input * batch + head * self.head_width * column;
        let values = self.values.get(start..).unwrap_or_default();
        NdTensorView::from_slice_with_strides([self.length, self.head_width], values, [row, column])
            .map_err(|error| Error::Msg(format!("attention: {error:?}")))
    }
}

impl Attention {
    /// Adds mask and bias to one head's scores `[Lq, Lk]` and turns them into weights.
    fn weigh(&self, scores: &mut [f32], keys: usize, input: usize, head: usize) {
        for (query, row) in scores.chunks_exact_mut(keys).enumerate() {
            if let Some(bias) = &self.bias {
                let dims = bias.dims();
                let at = |axis: usize, index: usize| if dims[axis] == 1 { 0 } else { index };
                let line = (at(0, input) * dims[1] + at(1, head)) * dims[2] + at(2, query);
                let width = dims[3];
                let line = &bias.data()[line * width..(line + 1) * width];
                row.iter_mut().enumerate().for_each(|(key, score)| *score += line[at(3, key)]);
            }
            let seen = if self.spec.causal { keys.min(query + 1) } else { keys };
            let (visible, hidden) = row.split_at_mut(seen);
            Softmax::new_mut(visible).dispatch();
            hidden.fill(0.0);
        }
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let heads = self.spec.heads;
        let q = Heads::new(q, q_layout, heads)?;
        let k = Heads::new(k, k_layout, heads)?;
        let v = Heads::new(v, v_layout, heads)?;
        let batch = q_layout.dims()[0];
        let (queries, keys, width) = (q.length, k.length, heads * v.head_width);

        let one_head = |(gemm, scores): &mut (GemmExecutor, Vec<f32>), index: usize| -> Result<Vec<f32>> {
            let (input, head) = (index / heads, index % heads);
            scores.resize(queries * keys, 0.0);
            let options = GemmOptions { alpha: self.spec.scale, ..GemmOptions::default() };
            gemm.gemm(
                scores,
                GemmInputA::Unpacked(q.matrix(input, head)?),
                GemmInputB::Unpacked(k.matrix(input, head)?.transposed()),
                options,
            )
            .map_err(Error::wrap)?;
            self.weigh(scores, keys, input, head);
            let mut output = vec![0.0; queries * v.head_width];
            let weights = NdTensorView::from_data([queries, keys], scores.as_slice());
            gemm.gemm(
                &mut output,
                GemmInputA::Unpacked(weights),
                GemmInputB::Unpacked(v.matrix(input, head)?),
                GemmOptions::default(),
            )
            .map_err(Error::wrap)?;
            Ok(output)
        };

        let outputs: Vec<Vec<f32>> = (0..batch * heads)
            .into_par_iter()
            .map_init(|| (GemmExecutor::new(), Vec::new()), one_head)
            .collect::<Result<_>>()?;
        // Heads stand side by side in the result: [N, Lq, heads * V].
        let mut result = vec![0.0; batch * queries * width];
        if width > 0 && queries > 0 {
            result.par_chunks_mut(queries * width).enumerate().for_each(|(input, rows)| {
                for head in 0..heads {
                    let source = outputs[input * heads + head].chunks_exact(v.head_width);
                    for (row, source) in rows.chunks_exact_mut(width).zip(source) {
                        row[head * v.head_width..(head + 1) * v.head_width].copy_from_slice(source);
                    }
                }
            });
        }
        Ok((CpuStorage::F32(result), Shape::from((batch, queries, width))))
    }
}
