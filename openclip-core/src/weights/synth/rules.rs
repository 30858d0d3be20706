//! How large synthesised values are, by a parameter's name and dimensions: large enough that leaving a parameter out
//! shows, and such that activations keep their size through a deep model. The table stands in `conformance/README.md`;
//! the twin is `rule` in `xtask/reference/synth.py`.

/// Values are uniform in `offset - scale .. offset + scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub offset: f32,
    pub scale: f32,
}

/// Parents of `weight` that are tables of embeddings and no matrices.
const TABLES: [&str; 4] = ["embedding", "embeddings", "embed_tokens", "shared"];

/// The spread of parameter `name`, by the first rule that fits.
pub(super) fn spread(name: &str, dims: &[usize]) -> Spread {
    let mut path = name.rsplit('.');
    let last = path.next().unwrap_or_default();
    let parent = path.next().unwrap_or_default();
    let around = |offset, scale| Spread { offset, scale };

    match last {
        "logit_scale" => around(2.639, 0.05),
        "logit_bias" => around(-10.0, 1.0),
        "running_var" => around(1.0, 0.5),
        "head_scale" => around(1.0, 0.5),
        // Branches that no norm precedes would add up over the blocks until nothing but rounding decides what attention sees.
        _ if parent.starts_with("layer_scale") => around(0.1, 0.05),
        _ if last.contains("gamma") || last.contains("layer_scale") => around(0.5, 0.25),
        _ if last.ends_with("bias") || last == "running_mean" => around(0.0, 0.1),
        "weight" if dims.len() == 1 => around(1.0, 0.25),
        _ if last == "query" || TABLES.iter().any(|table| parent.ends_with(table)) => around(0.0, 0.05),
        // These two multiply from the right: their first dimension is summed over.
        "proj" | "text_projection" if dims.len() == 2 => fan_in(1.0, &dims[..1]),
        // A gain above 1 for queries and keys makes attention prefer some positions.
        "in_proj_weight" | "q_proj_weight" | "k_proj_weight" => fan_in(1.5, inner(dims)),
        _ if parent == "qkv" => fan_in(1.5, inner(dims)),
        // T5 doesn't scale its scores, so its queries are small.
        _ if name.ends_with(".SelfAttention.q.weight") => fan_in(0.25, inner(dims)),
        _ if last.ends_with("weight") => fan_in(1.0, inner(dims)),
        // Position tables, class tokens and the like.
        _ if name.starts_with("visual.") => around(0.0, 0.5),
        _ => around(0.0, 0.05),
    }
}

/// The dimensions after the first.
fn inner(dims: &[usize]) -> &[usize] {
    dims.get(1..).unwrap_or_default()
}

/// A spread of standard deviation `gain / sqrt(fan)`, where `fan` is the number of inputs that are summed.
fn fan_in(gain: f32, summed: &[usize]) -> Spread {
    let fan = summed.iter().fold(1_usize, |product, &dim| product.saturating_mul(dim)) as f32;
    Spread { offset: 0.0, scale: gain * (3.0 / fan).sqrt() }
}
