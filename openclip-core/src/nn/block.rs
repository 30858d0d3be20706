//! The residual attention block of every transformer, and a stack of them.
//!
//! `x + attn(norm(x))`, then `x + mlp(norm(x))`, with norms where the family has them; parts that a specification doesn't ask
//! for are absent.

use super::{
    AttentionContext, BlockNames, Extended, Keep, KeyValues, MlpSpec, NormOptions, SelfAttention,
    SelfAttentionSpec,
    branch::{Branch, MlpBranch},
};
use crate::{Backend, Error, Result, Taps, Weights, backend::Activation};

/// What a block consists of.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockSpec {
    /// Attention, its width and norms those of the block.
    pub attention: SelfAttentionSpec,
    /// The MLP.
    pub mlp: MlpSpec,
    /// Where the norms of the two branches stand.
    pub norm_place: NormPlace,
    /// Learned factors per feature on both residual branches (LayerScale, Touvron et al., 2021).
    pub layer_scale: bool,
    /// A further norm after attention: `ln_attn`.
    pub scale_attn: bool,
    /// What the parameters are called.
    pub names: BlockNames,
}

/// Where the norm of a residual branch stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NormPlace {
    /// `x + branch(norm(x))`.
    #[default]
    Before,
    /// `x + norm(branch(x))`.
    AfterBranch,
    /// `norm(x + branch(x))`.
    AfterSum,
}

impl BlockSpec {
    /// A plain pre-norm block with the reference's names, bidirectional.
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
        let names = BlockNames::OPEN_CLIP;
        Ok(Self {
            attention: SelfAttentionSpec {
                width,
                heads,
                head_width: width / heads,
                score_scale: None,
                norm: NormOptions::default(),
                causal: false,
                qk_norm: false,
                scale_heads: false,
                inner_norm: false,
                output_bias: true,
                names: names.attn,
            },
            mlp: MlpSpec {
                hidden: mlp_width as usize,
                activation,
                gated: false,
                input_norm: false,
                inner_norm: false,
                bias: true,
                names: names.fc,
            },
            norm_place: NormPlace::Before,
            layer_scale: false,
            scale_attn: false,
            names,
        })
    }

    /// With other names for the parameters.
    pub fn named(mut self, names: BlockNames) -> Self {
        (self.attention.names, self.mlp.names, self.names) = (names.attn, names.fc, names);
        self
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
        block.mlp.inner_norm = self.scale_fc;
        Ok(())
    }
}

/// A residual attention block.
pub struct ResidualAttentionBlock<B: Backend> {
    name: String,
    attention_map: String,
    attn_branch: Branch<B>,
    attn: SelfAttention<B>,
    mlp: MlpBranch<B>,
}

impl<B: Backend> ResidualAttentionBlock<B> {
    /// Reads the block below the scope of `w`.
    ///
    /// # Errors
    /// [`Error::Weights`].
    pub fn new(backend: &B, w: &Weights, spec: &BlockSpec) -> Result<Self> {
        let attention = &spec.names.attention;
        let after_attn = spec.scale_attn.then_some("ln_attn");
        let (attn_branch, attn_scale) = Branch::new(backend, w, attention, spec, after_attn)?;
        let attn = SelfAttention::new(backend, w, attention.scope, &spec.attention, attn_scale)?;
        Ok(Self {
            name: w.scope_name().to_owned(),
            attention_map: w.path("attn.weights"),
            attn_branch,
            attn,
            mlp: MlpBranch::new(backend, w, spec)?,
        })
    }

    /// The block's output and its attention map are offered to `taps`.
    ///
    /// # Shapes
    /// `x [N, L, width] -> [N, L', width]`, the tokens of `keep`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn forward(
        &self,
        backend: &B,
        x: B::Tensor,
        context: &AttentionContext<'_, B>,
        keep: &Keep<B::Tensor>,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<B::Tensor> {
        let map = || self.attn.weights(backend, &self.attn_branch.enter(backend, &x)?, context);
        taps.offer_attention(&self.attention_map, map)?;
        let x = self.attend(backend, x, context, keep)?;
        let x = self.mlp.forward(backend, x)?;
        taps.offer(&self.name, &x);
        taps.offer_stage(&self.name, &x);
        Ok(x)
    }

    fn attend(
        &self,
        backend: &B,
        x: B::Tensor,
        context: &AttentionContext<'_, B>,
        keep: &Keep<B::Tensor>,
    ) -> Result<B::Tensor> {
        if let (Keep::All, Some(norm)) = (keep, self.attn_branch.only_before())
            && let Some(whole) = self.attn.forward_residual(backend, &x, norm, context)
        {
            return whole;
        }
        let branch = self.attn.forward(backend, &self.attn_branch.enter(backend, &x)?, context, keep)?;
        self.attn_branch.leave(backend, &keep.apply(backend, x)?, branch)
    }

    /// As [`forward`](Self::forward) of all tokens, where `x` are tokens that come behind others: `past` are keys and values of
    /// those, and `bias` says who sees whom. Gives keys and values of all of them beside the output.
    ///
    /// # Shapes
    /// `x [N, S, width] -> [N, S, width]`; `bias` broadcasts to `[N, heads, S, P + S]`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn extend(
        &self,
        backend: &B,
        x: B::Tensor,
        past: Option<&KeyValues<B::Tensor>>,
        bias: &B::Tensor,
    ) -> Result<(B::Tensor, KeyValues<B::Tensor>)> {
        let entered = self.attn_branch.enter(backend, &x)?;
        let (branch, known) = self.attn.extend(backend, &entered, past, bias)?;
        let x = self.attn_branch.leave(backend, &x, branch)?;
        Ok((self.mlp.forward(backend, x)?, known))
    }
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

/// A stack of equal blocks.
pub struct Transformer<B: Backend> {
    blocks: Vec<ResidualAttentionBlock<B>>,
}

impl<B: Backend> Transformer<B> {
    /// Reads `layers` blocks, `0`, `1`, ..., below the scope of `w`.
    ///
    /// # Errors
    /// [`Error::Weights`], and [`Error::Config`] for more layers than any model has.
    pub fn new(backend: &B, w: &Weights, layers: usize, spec: &BlockSpec) -> Result<Self> {
        check_depth(w.scope_name(), layers)?;
        let blocks = (0..layers)
            .map(|index| ResidualAttentionBlock::new(backend, &w.scope(index.to_string()), spec))
            .collect::<Result<_>>()?;
        Ok(Self { blocks })
    }

    /// The last block computes only what `keep` says.
    ///
    /// # Shapes
    /// `x [N, L, width] -> [N, L', width]`, the tokens of `keep`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn forward(
        &self,
        backend: &B,
        x: B::Tensor,
        context: &AttentionContext<'_, B>,
        keep: &Keep<B::Tensor>,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<B::Tensor> {
        let Some((last, others)) = self.blocks.split_last() else { return keep.apply(backend, x) };
        let x = others.iter().try_fold(x, |x, block| block.forward(backend, x, context, &Keep::All, taps))?;
        last.forward(backend, x, context, keep, taps)
    }

    /// The blocks' [`extend`](ResidualAttentionBlock::extend), one after another; `past` has an entry for each block, or none
    /// where no tokens came before.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn extend(
        &self,
        backend: &B,
        mut x: B::Tensor,
        past: &[KeyValues<B::Tensor>],
        bias: &B::Tensor,
    ) -> Result<Extended<B::Tensor>> {
        let mut known = Vec::with_capacity(self.blocks.len());
        for (index, block) in self.blocks.iter().enumerate() {
            let (output, block_known) = block.extend(backend, x, past.get(index), bias)?;
            x = output;
            known.push(block_known);
        }
        Ok(Extended { output: x, known })
    }
}
