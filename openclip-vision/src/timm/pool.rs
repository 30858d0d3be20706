//! Pools that have no parameters, by timm's names.

use openclip_core::{
    Backend, HostTensor, Result,
    backend::{BinaryOp, ReduceOp},
};

use super::config::TimmConfig;

/// What many rows of features become one row by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reduction {
    /// `avg`.
    Mean,
    /// `max`.
    Max,
    /// `avgmax`: the mean of both.
    MeanAndMax,
}

impl Reduction {
    /// timm's names.
    pub(super) const NAMES: [&'static str; 3] = ["avg", "max", "avgmax"];

    /// The reduction that timm calls `name`.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "avg" => Self::Mean,
            "max" => Self::Max,
            "avgmax" => Self::MeanAndMax,
            _ => return None,
        })
    }

    /// `[N, L, C] -> [N, C]`.
    pub(super) fn forward<B: Backend>(self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let reduced = |op| backend.reduce(x, op, 1);
        match self {
            Self::Mean => reduced(ReduceOp::Mean),
            Self::Max => reduced(ReduceOp::Max),
            Self::MeanAndMax => {
                let sum =
                    backend.binary(BinaryOp::Add, &reduced(ReduceOp::Mean)?, &reduced(ReduceOp::Max)?)?;
                backend.binary(BinaryOp::Mul, &sum, &backend.constant(&HostTensor::new([1], vec![0.5])?)?)
            }
        }
    }
}

/// What becomes of the places of a trunk's feature map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MapPool {
    /// One row of features.
    Reduced(Reduction),
    /// They are left to the attention pool of the tower's head.
    Kept,
}

/// The attention pools that the reference puts behind a trunk that gives a feature map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MapAttention {
    /// `abs_attn`: learned positions.
    Absolute,
    /// `rot_attn`: rotary positions.
    Rotary,
}

impl MapAttention {
    /// The pool that the reference calls `name`.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "abs_attn" => Self::Absolute,
            "rot_attn" => Self::Rotary,
            _ => return None,
        })
    }
}

impl MapPool {
    /// The pool of a trunk whose own is the mean, and whose map an attention pool can follow.
    pub(super) fn of(config: &TimmConfig) -> Result<Self> {
        if MapAttention::named(&config.timm_pool).is_some() {
            return Ok(Self::Kept);
        }
        let reduction = mean_or(config);
        let names = || config.unknown_pool(&[&Reduction::NAMES[..], &["abs_attn", "rot_attn"]].concat());
        reduction.map(Self::Reduced).ok_or_else(names)
    }

    /// `[N, L, C] -> [N, C]`, or what it is given.
    pub(super) fn forward<B: Backend>(self, backend: &B, places: &B::Tensor) -> Result<B::Tensor> {
        match self {
            Self::Reduced(reduction) => reduction.forward(backend, places),
            Self::Kept => Ok(places.clone()),
        }
    }
}

impl Reduction {
    /// The reduction of a trunk whose own is the mean, and that no attention pool can follow.
    pub(super) fn of(config: &TimmConfig) -> Result<Self> {
        mean_or(config).ok_or_else(|| config.unknown_pool(&Self::NAMES))
    }
}

/// What `timm_pool` names. Where it is empty a trunk keeps its own way, but not one that is built with its classifier.
fn mean_or(config: &TimmConfig) -> Option<Reduction> {
    match config.timm_pool.as_str() {
        "" if !config.is_built_for_pool() => Some(Reduction::Mean),
        name => Reduction::named(name),
    }
}
