//! timm's plain vision transformers: `VisionTransformer` (SigLIP, MobileCLIP, global average pooling), its relative of
//! relative positions, and `Eva` (EVA, EVA02, Perception Encoder).

mod architectures;
mod pool;
mod relative;
mod spec;
mod stem;

use openclip_core::{
    Backend, ExtraTokens, HostTensor, Result, StageView, Taps, TowerOutput, Weights,
    backend::{BinaryOp, LinearSpec, Rearrange},
    nn::{AttentionContext, Keep, ResidualAttentionBlock, Rotary, check_depth},
};

pub(super) use architectures::ARCHITECTURES;
use pool::Pool;
use spec::Positions;
pub(super) use spec::TransformerSpec;
use stem::Stem;

use super::{
    config::SECTION,
    trunk::{Trunk, TrunkOptions},
};
use crate::vit::resize_positions;

/// A transformer trunk, its fields named after its parameters.
pub(super) struct Transformer<B: Backend> {
    names: Names,
    /// Rows and columns of patches.
    grid: [usize; 2],
    patch_embed: Stem<B>,
    cls_token: Option<B::Tensor>,
    pos_embed: Option<PositionTable<B>>,
    rotary: Option<Rotary<B>>,
    norm_pre: Option<B::Norm>,
    blocks: Vec<Block<B>>,
    norm: Option<B::Norm>,
    pool: Pool<B>,
    fc_norm: Option<B::Norm>,
    head: Option<B::Linear>,
}

/// Full names of the activations that the trunk offers, beside those of its blocks.
struct Names {
    patch_embed: String,
    pos_embed: String,
    norm_pre: String,
}

/// Learned positions, `[1, L, width]`.
struct PositionTable<B: Backend> {
    table: B::Tensor,
    /// Whether the class token has one.
    with_class: bool,
}

/// A block, and the bias of its scores where it has one of its own, `[1, heads, L, L]`.
struct Block<B: Backend> {
    block: ResidualAttentionBlock<B>,
    bias: Option<B::Tensor>,
}

impl<B: Backend> Transformer<B> {
    /// Reads a trunk below the scope of `w`.
    pub(super) fn new(
        backend: &B,
        w: &Weights,
        spec: &TransformerSpec,
        options: &TrunkOptions<'_>,
    ) -> Result<Self> {
        let spec = &spec.as_configured(options.config);
        check_depth(SECTION, spec.depth)?;
        let grid = spec.grid(options.config)?;
        let pool = spec.pool_of(options)?;
        let block_spec = spec.block()?;
        let norm = spec.norms();
        let prepare_norm = |name: &str, wanted: bool| match wanted {
            true => backend.prepare_norm(&w.scope(name), &norm.spec(spec.width)).map(Some),
            false => Ok(None),
        };
        let block = |index: usize| {
            let w = w.scope(format!("blocks.{index}"));
            let bias = match spec.positions {
                Positions::Relative { hidden } => {
                    let w = w.scope("attn.rel_pos");
                    Some(relative::bias(backend, &w, grid, spec.heads, hidden, spec.class_token)?)
                }
                _ => None,
            };
            let block = ResidualAttentionBlock::new(backend, &w, &block_spec)?;
            Ok(Block { block, bias })
        };
        Ok(Self {
            names: Names {
                patch_embed: w.path("patch_embed"),
                pos_embed: w.path("pos_embed"),
                norm_pre: w.path("norm_pre"),
            },
            grid,
            patch_embed: Stem::new(backend, &w.scope("patch_embed"), spec)?,
            cls_token: match spec.class_token {
                true => Some(backend.param(w, "cls_token", &[1, 1, spec.width])?),
                false => None,
            },
            pos_embed: PositionTable::new(backend, w, spec, grid)?,
            rotary: match &spec.rope {
                Some(rope) => {
                    let prefix = usize::from(spec.class_token);
                    Some(Rotary::new(backend, &rope.angles(grid, prefix, spec.head_width()), spec.heads)?)
                }
                None => None,
            },
            norm_pre: prepare_norm("norm_pre", spec.pre_norm)?,
            blocks: (0..spec.depth).map(block).collect::<Result<_>>()?,
            norm: prepare_norm("norm", !pool.norm_last)?,
            fc_norm: prepare_norm("fc_norm", pool.norm_last)?,
            pool: Pool::new(backend, &w.scope("attn_pool"), spec, pool.kind)?,
            head: match options.classes {
                Some(classes) => {
                    let layer = LinearSpec::new(spec.width, classes).unquantized();
                    Some(backend.prepare_linear(&w.scope("head"), &layer)?)
                }
                None => None,
            },
        })
    }

    /// Patches with class token and positions: `[N, 3, H, W] -> [N, L, width]`.
    fn embed(&self, backend: &B, pixels: &B::Tensor, taps: &mut Taps<B::Tensor>) -> Result<B::Tensor> {
        let patches = self.patch_embed.forward(backend, pixels)?;
        let mut x = backend.rearrange(&patches, Rearrange::SpatialToTokens)?;
        taps.offer(&self.names.patch_embed, &x);
        let add = |x: B::Tensor, with_class: bool| match &self.pos_embed {
            Some(positions) if positions.with_class == with_class => {
                backend.binary(BinaryOp::Add, &x, &positions.table)
            }
            _ => Ok(x),
        };
        x = add(x, false)?;
        if let Some(class) = &self.cls_token {
            x = backend.cat(&[&backend.expand_batch(class, &x)?, &x], 1)?;
        }
        x = add(x, true)?;
        taps.offer(&self.names.pos_embed, &x);
        if let Some(norm) = &self.norm_pre {
            x = backend.norm(&x, norm)?;
            taps.offer(&self.names.norm_pre, &x);
        }
        Ok(x)
    }
}

impl<B: Backend> PositionTable<B> {
    fn new(backend: &B, w: &Weights, spec: &TransformerSpec, grid: [usize; 2]) -> Result<Option<Self>> {
        let with_class = match spec.positions {
            Positions::Learned => spec.class_token,
            Positions::LearnedOfPatches => false,
            Positions::Relative { .. } => return Ok(None),
        };
        let [rows, columns] = grid;
        let prefix = usize::from(with_class);
        let dims = [1, prefix + rows * columns, spec.width];
        let resizable = w.adapt("pos_embed", move |stored| {
            let table = HostTensor::new(stored.info.dims.get(1..).unwrap_or_default(), stored.to_f32())?;
            let resized = resize_positions("pos_embed", &table, prefix, [rows, columns])?;
            HostTensor::new(dims, resized.into_data())
        });
        Ok(Some(Self { table: backend.param(&resizable, "pos_embed", &dims)?, with_class }))
    }
}

impl<B: Backend> Trunk<B> for Transformer<B> {
    fn forward(
        &self,
        backend: &B,
        pixels: &B::Tensor,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<TowerOutput<B::Tensor>> {
        let mut x = self.embed(backend, pixels, taps)?;
        // Whoever looks inside wants to see all of it.
        let keep = if taps.wants_nothing() { self.pool.keep() } else { Keep::All };
        let last = self.blocks.len().saturating_sub(1);
        for (index, Block { block, bias }) in self.blocks.iter().enumerate() {
            let context = AttentionContext { bias: bias.as_ref(), rotary: self.rotary.as_ref(), longest: 0 };
            let keep = if index == last { &keep } else { &Keep::All };
            x = block.forward(backend, x, &context, keep, taps)?;
        }
        let extra = ExtraTokens::Before(usize::from(self.cls_token.is_some()));
        taps.present(backend, &StageView { norm: self.norm.as_ref(), extra, grid: Some(self.grid) })?;
        if let Some(norm) = &self.norm {
            x = backend.norm(&x, norm)?;
        }
        let mut pooled = self.pool.forward(backend, &x, taps)?;
        if let Some(norm) = &self.fc_norm {
            pooled = backend.norm(&pooled, norm)?;
        }
        if let Some(head) = &self.head {
            pooled = backend.linear(&pooled, head)?;
        }
        Ok(TowerOutput { pooled, tokens: matches!(keep, Keep::All).then_some(x) })
    }
}
