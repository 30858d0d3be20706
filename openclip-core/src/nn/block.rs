//! The residual attention block of every native tower, and a stack of them.
//!
//! `x + ls_1(ln_attn(attn(ln_1(x))))`, then `x + ls_2(mlp(ln_2(x)))`; parts that a configuration doesn't ask for are
//! absent. Parameter names are those of the reference's `ResidualAttentionBlock` and `CustomResidualAttentionBlock`,
//! which differ in the optional parts only.

use super::{Keep, NormOptions, SelfAttention, SelfAttentionSpec};
use crate::{
    Backend, Error, Result, Taps, Weights,
    backend::{Activation, BinaryOp, LinearSpec},
};

/// What a block consists of.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockSpec {
    /// Attention, its width that of the block.
    pub attention: SelfAttentionSpec,
    /// Features of the hidden layer of the MLP.
    pub mlp_width: usize,
    /// Activation of the MLP.
    pub activation: Activation,
    /// Learned factors per feature on both residual branches (LayerScale, Touvron et al., 2021): `ls_1`, `ls_2`.
    pub layer_scale: bool,
    /// A norm after attention: `ln_attn`.
    pub scale_attn: bool,
    /// A norm in the MLP, after its activation: `mlp.ln`.
    pub scale_fc: bool,
}

impl BlockSpec {
    /// A plain pre-norm block, bidirectional.
    ///
    /// # Errors
    /// [`Error::Config`] naming `section` when `heads` is zero or doesn't divide `width`.
    pub fn new(
        section: &str,
        width: usize,
        heads: usize,
        mlp_ratio: f64,
        activation: Activation,
    ) -> Result<Self> {
        if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
            let message = format!("width {width} can't be split into {heads} heads of equal width");
            return Err(Error::config(section, message));
        }
        let mlp_width = width as f64 * mlp_ratio;
        if !(1.0..=1e9).contains(&mlp_width) {
            return Err(Error::config(section, format!("mlp_ratio {mlp_ratio} makes no sense")));
        }
        Ok(Self {
            attention: SelfAttentionSpec {
                width,
                heads,
                norm: NormOptions::default(),
                causal: false,
                qk_norm: false,
                scale_heads: false,
                inner_norm: false,
            },
            mlp_width: mlp_width as usize,
            activation,
            layer_scale: false,
            scale_attn: false,
            scale_fc: false,
        })
    }
}

/// The options of a tower section that ask for more than a plain block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CustomBlock {
    /// Norms on queries and keys.
    pub qk_norm: bool,
    /// Cosine attention, which no version of the reference can run.
    pub scaled_cosine_attn: bool,
    /// A learned factor per head.
    pub scale_heads: bool,
    /// A norm before the output projection of attention.
    pub scale_attn_inner: bool,
    /// A norm after attention.
    pub scale_attn: bool,
    /// A norm in the MLP.
    pub scale_fc: bool,
}

impl CustomBlock {
    /// Adds the options to `block`. As in the reference, a `block_type` other than `custom` leaves a plain block
    /// whatever the options say, and without a `block_type` they are heeded.
    ///
    /// # Errors
    /// [`Error::Config`] naming `section` for `scaled_cosine_attn`.
    pub fn apply(self, section: &str, block_type: Option<&str>, block: &mut BlockSpec) -> Result<()> {
        if block_type.is_some_and(|block_type| block_type != "custom") {
            return Ok(());
        }
        if self.scaled_cosine_attn {
            let message = "scaled_cosine_attn is not available: the reference accepts it but can't run it, \
                           so there is nothing to be equal to";
            return Err(Error::config(section, message));
        }
        block.attention.qk_norm = self.qk_norm;
        block.attention.scale_heads = self.scale_heads;
        block.attention.inner_norm = self.scale_attn_inner;
        block.scale_attn = self.scale_attn;
        block.scale_fc = self.scale_fc;
        Ok(())
    }
}

/// A residual attention block.
pub struct ResidualAttentionBlock<B: Backend> {
    name: String,
    ln_1: B::Norm,
    attn: SelfAttention<B>,
    ln_attn: Option<B::Norm>,
    ls_1: Option<B::Tensor>,
    ln_2: B::Norm,
    c_fc: B::Linear,
    mlp_ln: Option<B::Norm>,
    c_proj: B::Linear,
    ls_2: Option<B::Tensor>,
}

impl<B: Backend> ResidualAttentionBlock<B> {
    /// Reads the block below the scope of `w`.
    ///
    /// # Errors
    /// [`Error::Weights`].
    pub fn new(backend: &B, w: &Weights, spec: &BlockSpec) -> Result<Self> {
        let SelfAttentionSpec { width, norm, .. } = spec.attention;
        let prepare_norm = |w: Weights, features: usize| backend.prepare_norm(&w, &norm.spec(features));
        let layer_scale = |name: &str| match spec.layer_scale {
            true => backend.param(&w.scope(name), "gamma", &[width]).map(Some),
            false => Ok(None),
        };
        let mlp = w.scope("mlp");
        Ok(Self {
            name: w.scope_name().to_owned(),
            ln_1: prepare_norm(w.scope("ln_1"), width)?,
            attn: SelfAttention::new(backend, &w.scope("attn"), &spec.attention)?,
            ln_attn: match spec.scale_attn {
                true => Some(prepare_norm(w.scope("ln_attn"), width)?),
                false => None,
            },
            ls_1: layer_scale("ls_1")?,
            ln_2: prepare_norm(w.scope("ln_2"), width)?,
            c_fc: backend.prepare_linear(
                &mlp.scope("c_fc"),
                &LinearSpec::new(width, spec.mlp_width).activated(spec.activation),
            )?,
            mlp_ln: match spec.scale_fc {
                true => Some(prepare_norm(mlp.scope("ln"), spec.mlp_width)?),
                false => None,
            },
            c_proj: backend.prepare_linear(&mlp.scope("c_proj"), &LinearSpec::new(spec.mlp_width, width))?,
            ls_2: layer_scale("ls_2")?,
        })
    }

    /// # Shapes
    /// `x [N, L, width]`, `bias` broadcasting to `[N, heads, L, L]` `-> [N, L', width]`, the tokens of `keep`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn forward(
        &self,
        backend: &B,
        x: B::Tensor,
        bias: Option<&B::Tensor>,
        keep: &Keep<B::Tensor>,
    ) -> Result<B::Tensor> {
        let x = self.attention_branch(backend, x, bias, keep)?;
        self.mlp_branch(backend, x)
    }

    fn attention_branch(
        &self,
        backend: &B,
        x: B::Tensor,
        bias: Option<&B::Tensor>,
        keep: &Keep<B::Tensor>,
    ) -> Result<B::Tensor> {
        if matches!(keep, Keep::All) && self.ln_attn.is_none() && self.ls_1.is_none() {
            let whole = self.attn.forward_residual(backend, &x, &self.ln_1, bias);
            if let Some(whole) = whole {
                return whole;
            }
        }
        let mut branch = self.attn.forward(backend, &backend.norm(&x, &self.ln_1)?, bias, keep)?;
        if let Some(norm) = &self.ln_attn {
            branch = backend.norm(&branch, norm)?;
        }
        residual(backend, &keep.apply(backend, x)?, branch, &self.ls_1)
    }

    fn mlp_branch(&self, backend: &B, x: B::Tensor) -> Result<B::Tensor> {
        if self.mlp_ln.is_none() && self.ls_2.is_none() {
            return backend.residual_mlp(&x, &self.ln_2, &self.c_fc, &self.c_proj);
        }
        let mut hidden = backend.linear(&backend.norm(&x, &self.ln_2)?, &self.c_fc)?;
        if let Some(norm) = &self.mlp_ln {
            hidden = backend.norm(&hidden, norm)?;
        }
        residual(backend, &x, backend.linear(&hidden, &self.c_proj)?, &self.ls_2)
    }
}

/// `x + scale * branch`.
fn residual<B: Backend>(
    backend: &B,
    x: &B::Tensor,
    mut branch: B::Tensor,
    scale: &Option<B::Tensor>,
) -> Result<B::Tensor> {
    if let Some(scale) = scale {
        branch = backend.binary(BinaryOp::Mul, &branch, scale)?;
    }
    backend.binary(BinaryOp::Add, x, &branch)
}

/// Checks that a tower has no more blocks than any model: a bound on what a damaged configuration can ask for.
///
/// # Errors
/// [`Error::Config`] naming `section`.
pub fn check_depth(section: &str, layers: usize) -> Result<()> {
    const LARGEST: usize = 1024;
    if layers > LARGEST {
        let message = format!("{layers} layers are too many; at most {LARGEST} are built");
        return Err(Error::config(section, message));
    }
    Ok(())
}

/// A stack of equal blocks: `resblocks.0`, `resblocks.1`, ...
pub struct Transformer<B: Backend> {
    blocks: Vec<ResidualAttentionBlock<B>>,
}

impl<B: Backend> Transformer<B> {
    /// Reads `layers` blocks below the scope of `w`.
    ///
    /// # Errors
    /// [`Error::Weights`], and [`Error::Config`] for more layers than any model has.
    pub fn new(backend: &B, w: &Weights, layers: usize, spec: &BlockSpec) -> Result<Self> {
        check_depth(w.scope_name(), layers)?;
        let blocks = w.scope("resblocks");
        let blocks = (0..layers)
            .map(|index| ResidualAttentionBlock::new(backend, &blocks.scope(index.to_string()), spec))
            .collect::<Result<_>>()?;
        Ok(Self { blocks })
    }

    /// Every block's output is offered to `taps` under the block's name. The last block computes only what `keep` says.
    ///
    /// # Shapes
    /// `x [N, L, width]`, `bias` broadcasting to `[N, heads, L, L]` `-> [N, L', width]`, the tokens of `keep`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn forward(
        &self,
        backend: &B,
        x: B::Tensor,
        bias: Option<&B::Tensor>,
        keep: &Keep<B::Tensor>,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<B::Tensor> {
        let Some((last, others)) = self.blocks.split_last() else { return keep.apply(backend, x) };
        let mut run = |x, block: &ResidualAttentionBlock<B>, keep: &Keep<B::Tensor>| {
            let x = block.forward(backend, x, bias, keep)?;
            taps.offer(&block.name, &x);
            Ok(x)
        };
        let x = others.iter().try_fold(x, |x, block| run(x, block, &Keep::All))?;
        run(x, last, keep)
    }
}
