//! Swin transformers (Liu et al., 2021): attention within windows, which every other block shifts by half a window.
//!
//! Tokens stand row by row, `[N, H*W, C]`; windows are cut out of maps.

use openclip_core::{
    Backend, Dim, Error, ExtraTokens, HostTensor, Result, StageView, Taps, TowerOutput, Weights,
    backend::{
        Activation, AttentionSpec, BinaryOp, Conv2dSpec, LinearSpec, NormSpec, Rearrange,
        composed::split_packed,
    },
};

use super::{
    config::SECTION,
    pool::Reduction,
    trunk::{Trunk, TrunkOptions},
};

/// What tells Swins apart.
#[derive(Debug)]
pub(super) struct SwinSpec {
    /// Pixels along a side of the image.
    image_size: usize,
    /// Pixels along a side of a patch.
    patch: usize,
    /// Places along a side of a window.
    window: usize,
    /// Blocks of each stage.
    depths: [usize; 4],
    /// Features of the first stage; each stage has twice as many as the one before.
    width: usize,
    /// Heads of the first stage; each stage has twice as many as the one before.
    heads: usize,
}

/// The architectures by timm's names.
pub(super) const ARCHITECTURES: &[(&str, SwinSpec)] = &[(
    "swin_base_patch4_window7_224",
    SwinSpec { image_size: 224, patch: 4, window: 7, depths: [2, 2, 18, 2], width: 128, heads: 4 },
)];

impl SwinSpec {
    /// Features of the last stage.
    pub(super) fn features(&self) -> usize {
        8 * self.width
    }
}

/// A Swin transformer.
pub(super) struct Swin<B: Backend> {
    patches: B::Conv2d,
    patch_norm: B::Norm,
    patch_name: String,
    stages: Vec<Stage<B>>,
    norm: B::Norm,
    pool: Reduction,
    classifier: Option<B::Linear>,
}

/// Blocks at one resolution.
struct Stage<B: Backend> {
    name: String,
    /// Places along a side.
    grid: usize,
    merging: Option<Merging<B>>,
    blocks: Vec<Block<B>>,
}

/// Two by two tokens become one; `grid` is that before.
struct Merging<B: Backend> {
    grid: usize,
    norm: B::Norm,
    reduction: B::Linear,
}

struct Block<B: Backend> {
    name: String,
    norm1: B::Norm,
    qkv: B::Linear,
    windows: Windows<B>,
    proj: B::Linear,
    norm2: B::Norm,
    fc1: B::Linear,
    fc2: B::Linear,
}

/// How places are divided into windows.
struct Windows<B: Backend> {
    /// Places along a side of the map and of a window, and how far windows are shifted.
    grid: usize,
    window: usize,
    shift: usize,
    attention: AttentionSpec,
    /// What is added to the scores, `[1, heads, window^2, window^2]`: of a window in the last row where the first index is
    /// one, in the last column where the second is.
    biases: [[B::Tensor; 2]; 2],
}

impl<B: Backend> Swin<B> {
    /// Reads a trunk below the scope of `w`.
    pub(super) fn new(backend: &B, w: &Weights, spec: &SwinSpec, options: &TrunkOptions<'_>) -> Result<Self> {
        let pool = Reduction::of(options.config)?;
        let size = options.config.image_size.to_array();
        if size != [spec.image_size; 2] {
            let message = format!("`image_size` is {size:?}: the trunk takes {} pixels", spec.image_size);
            return Err(Error::config(SECTION, message));
        }
        let patches = Conv2dSpec { bias: true, ..Conv2dSpec::patches(3, spec.width, [spec.patch; 2]) };
        let stage = |(index, &depth): (usize, &usize)| {
            let w = w.scope(format!("layers.{index}"));
            let grid = (spec.image_size / spec.patch) >> index;
            let (width, heads) = (spec.width << index, spec.heads << index);
            let merging = || Merging::new(backend, &w.scope("downsample"), width / 2, 2 * grid);
            let block = |block: usize| {
                let shift = if block % 2 == 1 && grid > spec.window { spec.window / 2 } else { 0 };
                let windows = [grid, spec.window.min(grid), shift];
                Block::new(backend, &w.scope(format!("blocks.{block}")), width, heads, windows)
            };
            Ok(Stage {
                name: w.scope_name().to_owned(),
                grid,
                merging: if index > 0 { Some(merging()?) } else { None },
                blocks: (0..depth).map(block).collect::<Result<_>>()?,
            })
        };
        let classifier = |classes| {
            let layer = LinearSpec::new(spec.features(), classes).unquantized();
            backend.prepare_linear(&w.scope("head.fc"), &layer)
        };
        Ok(Self {
            patches: backend.prepare_conv2d(&w.scope("patch_embed.proj"), &patches)?,
            patch_norm: backend.prepare_norm(&w.scope("patch_embed.norm"), &NormSpec::new(spec.width))?,
            patch_name: w.path("patch_embed"),
            stages: spec.depths.iter().enumerate().map(stage).collect::<Result<_>>()?,
            norm: backend.prepare_norm(&w.scope("norm"), &NormSpec::new(spec.features()))?,
            pool,
            classifier: options.classes.map(classifier).transpose()?,
        })
    }
}

impl<B: Backend> Trunk<B> for Swin<B> {
    fn forward(
        &self,
        backend: &B,
        pixels: &B::Tensor,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<TowerOutput<B::Tensor>> {
        let x = backend.rearrange(&backend.conv2d(pixels, &self.patches)?, Rearrange::SpatialToTokens)?;
        let mut x = backend.norm(&x, &self.patch_norm)?;
        taps.offer(&self.patch_name, &x);
        for (index, Stage { name, grid, merging, blocks }) in self.stages.iter().enumerate() {
            if let Some(merging) = merging {
                x = merging.forward(backend, &x)?;
            }
            for block in blocks {
                x = block.forward(backend, &x)?;
                taps.offer(&block.name, &x);
            }
            let norm = (index + 1 == self.stages.len()).then_some(&self.norm);
            taps.offer_stage(name, &x);
            taps.present(backend, &StageView { norm, extra: ExtraTokens::None, grid: Some([*grid; 2]) })?;
        }
        let tokens = backend.norm(&x, &self.norm)?;
        let pooled = self.pool.forward(backend, &tokens)?;
        let pooled = match &self.classifier {
            Some(classifier) => backend.linear(&pooled, classifier)?,
            None => pooled,
        };
        Ok(TowerOutput { pooled, tokens: Some(tokens) })
    }
}

impl<B: Backend> Merging<B> {
    /// Reads `norm` and `reduction`, from `width` to twice as many features.
    fn new(backend: &B, w: &Weights, width: usize, grid: usize) -> Result<Self> {
        let reduction = LinearSpec::new(4 * width, 2 * width).named("weight", None);
        Ok(Self {
            grid,
            norm: backend.prepare_norm(&w.scope("norm"), &NormSpec::new(4 * width))?,
            reduction: backend.prepare_linear(&w.scope("reduction"), &reduction)?,
        })
    }

    /// `[N, H*W, C] -> [N, H/2 * W/2, 2*C]`.
    fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let half = self.grid / 2;
        let map = to_map(backend, x, self.grid)?;
        // Every second place along the last axis.
        let every_second = |x: &B::Tensor, first: usize| {
            let pairs = backend.rearrange(x, Rearrange::SplitLast { parts: half })?;
            let one = backend.slice(&pairs, 4, &Dim::Fixed(first), &Dim::Fixed(first + 1))?;
            backend.rearrange(&one, Rearrange::Squeeze(4))
        };
        let exchange = Rearrange::Transpose(2, 3);
        let mut parts = Vec::with_capacity(4);
        for column in 0..2 {
            let columns = backend.rearrange(&every_second(&map, column)?, exchange)?;
            for row in 0..2 {
                let part = backend.rearrange(&every_second(&columns, row)?, exchange)?;
                parts.push(backend.rearrange(&part, Rearrange::SpatialToTokens)?);
            }
        }
        let merged = backend.cat(&parts.iter().collect::<Vec<_>>(), 2)?;
        backend.linear(&backend.norm(&merged, &self.norm)?, &self.reduction)
    }
}

impl<B: Backend> Block<B> {
    fn new(
        backend: &B,
        w: &Weights,
        width: usize,
        heads: usize,
        [grid, window, shift]: [usize; 3],
    ) -> Result<Self> {
        let linear = |name: &str, spec: LinearSpec| backend.prepare_linear(&w.scope(name), &spec);
        let norm = |name: &str| backend.prepare_norm(&w.scope(name), &NormSpec::new(width));
        let hidden = 4 * width;
        Ok(Self {
            name: w.scope_name().to_owned(),
            norm1: norm("norm1")?,
            qkv: linear("attn.qkv", LinearSpec::new(width, 3 * width))?,
            windows: Windows {
                grid,
                window,
                shift,
                attention: AttentionSpec::new(heads, width / heads),
                biases: biases(backend, &w.scope("attn"), heads, window, shift)?,
            },
            proj: linear("attn.proj", LinearSpec::new(width, width))?,
            norm2: norm("norm2")?,
            fc1: linear("mlp.fc1", LinearSpec::new(width, hidden).activated(Activation::GeluErf))?,
            fc2: linear("mlp.fc2", LinearSpec::new(hidden, width))?,
        })
    }

    /// `[N, H*W, C] -> [N, H*W, C]`.
    fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let packed = backend.linear(&backend.norm(x, &self.norm1)?, &self.qkv)?;
        let attended = self.windows.attend(backend, &packed)?;
        let x = backend.binary(BinaryOp::Add, x, &backend.linear(&attended, &self.proj)?)?;
        backend.residual_mlp(&x, &x, &self.norm2, &self.fc1, &self.fc2)
    }
}

impl<B: Backend> Windows<B> {
    /// Queries, keys and values side by side, `[N, H*W, 3*C] -> [N, H*W, C]`.
    fn attend(&self, backend: &B, packed: &B::Tensor) -> Result<B::Tensor> {
        let &Self { grid, window, shift, .. } = self;
        if grid == window {
            return self.attend_within(backend, packed, [false; 2]);
        }
        let map = roll(backend, &to_map(backend, packed, grid)?, grid, shift)?;
        let count = grid / window;
        let part = |x: &B::Tensor, axis: usize, index: usize| {
            backend.slice(x, axis, &Dim::Fixed(index * window), &Dim::Fixed((index + 1) * window))
        };
        let rows = (0..count).map(|row| {
            let strip = part(&map, 2, row)?;
            let windows = (0..count).map(|column| {
                let tokens = backend.rearrange(&part(&strip, 3, column)?, Rearrange::SpatialToTokens)?;
                let last = [row, column].map(|index| index + 1 == count);
                to_map(backend, &self.attend_within(backend, &tokens, last)?, window)
            });
            let windows = windows.collect::<Result<Vec<_>>>()?;
            backend.cat(&windows.iter().collect::<Vec<_>>(), 3)
        });
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let map = backend.cat(&rows.iter().collect::<Vec<_>>(), 2)?;
        let map = roll(backend, &map, grid, (grid - shift) % grid)?;
        backend.rearrange(&map, Rearrange::SpatialToTokens)
    }

    /// Attention within one window, `[N, window^2, 3*C] -> [N, window^2, C]`; `last` says whether it is in the last row and
    /// the last column.
    fn attend_within(&self, backend: &B, packed: &B::Tensor, last: [bool; 2]) -> Result<B::Tensor> {
        let [inner, bottom] = &self.biases;
        let [inner, right] = if last[0] { bottom } else { inner };
        let bias = if last[1] { right } else { inner };
        let [q, k, v] = split_packed(backend, packed)?;
        backend.attention(&q, &k, &v, &self.attention, Some(bias))
    }
}

/// Tokens as a square map: `[N, side^2, C] -> [N, C, side, side]`.
fn to_map<B: Backend>(backend: &B, x: &B::Tensor, side: usize) -> Result<B::Tensor> {
    backend.rearrange(x, Rearrange::TokensToSpatial { height: side, width: side })
}

/// Rows and columns of a square map `[N, C, side, side]` moved up and left by `by` places, and in again at the other end.
fn roll<B: Backend>(backend: &B, map: &B::Tensor, side: usize, by: usize) -> Result<B::Tensor> {
    if by == 0 {
        return Ok(map.clone());
    }
    let part = |x: &B::Tensor, axis: usize, from: usize, to: usize| {
        backend.slice(x, axis, &Dim::Fixed(from), &Dim::Fixed(to))
    };
    let mut map = map.clone();
    for axis in [2, 3] {
        map = backend.cat(&[&part(&map, axis, by, side)?, &part(&map, axis, 0, by)?], axis)?;
    }
    Ok(map)
}

/// Reads the bias of each relative position, `relative_position_bias_table [(2 * window - 1)^2, heads]`, spreads it over
/// the pairs of places of a window, and hides places from each other that a shift has brought together.
fn biases<B: Backend>(
    backend: &B,
    w: &Weights,
    heads: usize,
    window: usize,
    shift: usize,
) -> Result<[[B::Tensor; 2]; 2]> {
    const TABLE: &str = "relative_position_bias_table";
    let (places, distances) = (window * window, 2 * window - 1);
    let dims = [1, heads, places, places];
    let spread = w.derive(TABLE, &[distances * distances, heads], move |stored| {
        let table = stored.to_f32();
        let values = (0..heads * places * places).map(|at| {
            let (head, query, key) = (at / (places * places), at / places % places, at % places);
            let along = |of: fn(usize, usize) -> usize| of(query, window) + window - 1 - of(key, window);
            let index = along(|place, side| place / side) * distances + along(|place, side| place % side);
            table.get(index * heads + head).copied().unwrap_or_default()
        });
        HostTensor::new([1, heads, places, places], values.collect())
    });
    let bias = backend.param(&spread, TABLE, &dims)?;
    if shift == 0 {
        return Ok([[bias.clone(), bias.clone()], [bias.clone(), bias]]);
    }
    let hidden = |bottom: bool, right: bool| {
        // Which of the parts of a window that were apart before the shift a place belongs to.
        let part = |place: usize| {
            let beyond = |edge: bool, at: usize| usize::from(edge && at >= window - shift);
            2 * beyond(bottom, place / window) + beyond(right, place % window)
        };
        let apart = |at: usize| if part(at / places) == part(at % places) { 0.0 } else { -100.0 };
        let mask = HostTensor::new([1, 1, places, places], (0..places * places).map(apart).collect())?;
        backend.binary(BinaryOp::Add, &bias, &backend.constant(&mask)?)
    };
    Ok([[bias.clone(), hidden(false, true)?], [hidden(true, false)?, hidden(true, true)?]])
}
