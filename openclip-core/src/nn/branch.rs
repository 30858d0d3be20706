//! The residual branches of a block: what surrounds attention and the MLP, and the branch of the MLP as a whole.

use super::{BlockSpec, BranchNames, Mlp, NormPlace, SelfAttentionSpec};
use crate::{Backend, Result, Weights, backend::BinaryOp};

/// What surrounds a residual branch.
pub(super) struct Branch<B: Backend> {
    before: Option<B::Norm>,
    after: Option<B::Norm>,
    /// LayerScale behind `after`; elsewhere it is part of the branch's last layer.
    scale: Option<B::Tensor>,
    sum: Option<B::Norm>,
}

impl<B: Backend> Branch<B> {
    /// `after` is the name of a further norm. Returns the parameter that the branch's last layer has to be multiplied by, too.
    pub(super) fn new(
        backend: &B,
        block: &Weights,
        names: &BranchNames,
        spec: &BlockSpec,
        after: Option<&str>,
    ) -> Result<(Self, Option<&'static str>)> {
        let SelfAttentionSpec { width, norm, .. } = spec.attention;
        let prepare = |name: &str| backend.prepare_norm(&block.scope(name), &norm.spec(width)).map(Some);
        let at = |place: NormPlace| match spec.norm_place == place {
            true => prepare(names.norm),
            false => Ok(None),
        };
        let after = match after {
            Some(name) => prepare(name)?,
            None => at(NormPlace::AfterBranch)?,
        };
        let scale = spec.layer_scale.then_some(names.scale);
        let (folded, apart) = if after.is_some() { (None, scale) } else { (scale, None) };
        let branch = Self {
            before: at(NormPlace::Before)?,
            after,
            scale: apart.map(|name| backend.param(block, name, &[width])).transpose()?,
            sum: at(NormPlace::AfterSum)?,
        };
        Ok((branch, folded))
    }

    /// The norm before the branch, where it is the only one.
    pub(super) fn only_before(&self) -> Option<&B::Norm> {
        self.before.as_ref().filter(|_| self.after.is_none() && self.sum.is_none())
    }

    /// What enters the branch.
    pub(super) fn enter(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        self.before.as_ref().map_or_else(|| Ok(x.clone()), |norm| backend.norm(x, norm))
    }

    /// The sum of `x` and the branch's output.
    pub(super) fn leave(&self, backend: &B, x: &B::Tensor, mut branch: B::Tensor) -> Result<B::Tensor> {
        if let Some(norm) = &self.after {
            branch = backend.norm(&branch, norm)?;
        }
        if let Some(scale) = &self.scale {
            branch = backend.binary(BinaryOp::Mul, &branch, scale)?;
        }
        let sum = backend.binary(BinaryOp::Add, x, &branch)?;
        match &self.sum {
            Some(norm) => backend.norm(&sum, norm),
            None => Ok(sum),
        }
    }
}

/// The branch of the MLP.
pub(super) struct MlpBranch<B: Backend> {
    branch: Branch<B>,
    mlp: Mlp<B>,
}

impl<B: Backend> MlpBranch<B> {
    /// Reads the branch of the block `w`.
    pub(super) fn new(backend: &B, w: &Weights, spec: &BlockSpec) -> Result<Self> {
        let SelfAttentionSpec { width, norm, .. } = spec.attention;
        let names = &spec.names.mlp;
        let (branch, scale) = Branch::new(backend, w, names, spec, None)?;
        Ok(Self { branch, mlp: Mlp::new(backend, w, names.scope, width, &spec.mlp, &norm, scale)? })
    }

    /// `x [.., width]` to the same.
    pub(super) fn forward(&self, backend: &B, x: B::Tensor) -> Result<B::Tensor> {
        if let Some(norm) = self.branch.only_before()
            && let Some(whole) = self.mlp.forward_residual(backend, &x, norm)
        {
            return whole;
        }
        let branch = self.mlp.forward(backend, &self.branch.enter(backend, &x)?)?;
        self.branch.leave(backend, &x, branch)
    }
}
