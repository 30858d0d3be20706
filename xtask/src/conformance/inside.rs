//! Stages and attention maps, where a reference has them.

use anyhow::{Result, bail, ensure};
use openclip_core::{EXTRA_TOKENS, HostTensor, Indices, Precision, Taps};

use super::{
    case::{Activation, TowerReference},
    compare::{Activations, deviation},
};

/// Compares what a tower gives of its inside. Rounding to halves or integers is judged by the embedding alone.
///
/// # Errors
/// When something differs, or the tower can't be run.
pub fn check<I>(
    reference: &TowerReference<I>,
    precision: Precision,
    look_inside: impl Fn(Taps<HostTensor>) -> Result<Activations>,
) -> Result<()> {
    if precision != Precision::F32 || reference.stages.is_empty() {
        return Ok(());
    }
    let stages = numbered(look_inside(Taps::stages(Indices::All, true))?);
    let (found, expected) = (stages.len(), reference.stages.len());
    ensure!(found == expected, "{found} stages and groups of extra tokens, the reference has {expected}");
    let is_map = |activation: &&Activation| activation.name.ends_with(".attn.weights");
    let maps: Vec<&Activation> = reference.activations.iter().filter(is_map).collect();
    let found_maps = match maps.is_empty() {
        true => Vec::new(),
        false => look_inside(Taps::attention_maps(Indices::At(vec![0])))?,
    };
    let of_stage = reference.stages.iter().find_map(|stage| deviation(stage, &stages));
    match of_stage.or_else(|| maps.iter().find_map(|map| deviation(map, &found_maps))) {
        Some(difference) => bail!("{difference}"),
        None => Ok(()),
    }
}

/// The stages under the reference's names for them: their index, and of maps rows and columns.
fn numbered(stages: Activations) -> Activations {
    let mut count = 0;
    let named = stages.into_iter().map(|(name, values)| {
        if name.ends_with(EXTRA_TOKENS) {
            return (format!("{} extra tokens", count - 1), values);
        }
        count += 1;
        let name = match values.dims() {
            [_, _, height, width] => format!("{} [{height}, {width}]", count - 1),
            _ => (count - 1).to_string(),
        };
        (name, values)
    });
    named.collect()
}
