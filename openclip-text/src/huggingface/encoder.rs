//! What the encoders of `transformers` consist of, by the fields of their config.json.

use openclip_core::{
    Error, Result, TowerConfig,
    backend::{Activation, NormKind},
    nn::{
        AttentionNames, BlockNames, BlockSpec, BranchNames, MlpNames, MlpSpec, NormOptions, NormPlace,
        SelfAttentionSpec, check_depth,
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Section name in error messages.
const SECTION: &str = "hf_model_config";

/// The kinds of encoders that the reference knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bert,
    /// RoBERTa and XLM-RoBERTa.
    Roberta,
    /// mT5.
    T5,
    /// M2M100, which NLLB is.
    M2m100,
}

/// An encoder.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EncoderConfig {
    pub(super) kind: Kind,
    pub(super) vocab_size: usize,
    pub(super) width: usize,
    pub(super) layers: usize,
    pub(super) pad_id: u32,
    /// Rows of the position table; none where positions aren't learned.
    pub(super) positions: usize,
    /// Rows of BERT's table of segments.
    pub(super) segments: usize,
    /// Whether token embeddings are multiplied by the root of the width.
    pub(super) scales_embedding: bool,
    /// Buckets of T5's relative positions, and the distance from which on all are in the last one.
    pub(super) relative: [usize; 2],
    pub(super) block: BlockSpec,
}

const BERT: BlockNames = BlockNames {
    attention: BranchNames { scope: "attention", norm: "attention.output.LayerNorm", scale: "" },
    attn: AttentionNames {
        input: &["self.query.weight", "self.key.weight", "self.value.weight"],
        input_bias: &[Some("self.query.bias"), Some("self.key.bias"), Some("self.value.bias")],
        output: "output.dense",
        qk_norm: ["", ""],
        inner_norm: "",
    },
    mlp: BranchNames { scope: "", norm: "output.LayerNorm", scale: "" },
    fc: MlpNames { input_norm: "", hidden: "intermediate.dense", gate: "", norm: "", output: "output.dense" },
};

const T5: BlockNames = BlockNames {
    attention: BranchNames { scope: "layer.0.SelfAttention", norm: "layer.0.layer_norm", scale: "" },
    attn: AttentionNames {
        input: &["q.weight", "k.weight", "v.weight"],
        input_bias: &[],
        output: "o",
        qk_norm: ["", ""],
        inner_norm: "",
    },
    mlp: BranchNames { scope: "layer.1.DenseReluDense", norm: "layer.1.layer_norm", scale: "" },
    fc: MlpNames { input_norm: "", hidden: "wi", gate: "", norm: "", output: "wo" },
};

/// Gated: the first layer is called otherwise.
const T5_GATED: BlockNames = BlockNames {
    fc: MlpNames { input_norm: "", hidden: "wi_0", gate: "wi_1", norm: "", output: "wo" },
    ..T5
};

const M2M100: BlockNames = BlockNames {
    attention: BranchNames { scope: "self_attn", norm: "self_attn_layer_norm", scale: "" },
    attn: AttentionNames {
        input: &["q_proj.weight", "k_proj.weight", "v_proj.weight"],
        input_bias: &[Some("q_proj.bias"), Some("k_proj.bias"), Some("v_proj.bias")],
        output: "out_proj",
        qk_norm: ["", ""],
        inner_norm: "",
    },
    mlp: BranchNames { scope: "", norm: "final_layer_norm", scale: "" },
    fc: MlpNames { input_norm: "", hidden: "fc1", gate: "", norm: "", output: "fc2" },
};

/// The fields of a config.json, with the defaults of its class.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn get<T: DeserializeOwned>(&self, name: &str, default: T) -> Result<T> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => serde_json::from_value(value.clone())
                .map_err(|error| Error::config(SECTION, format!("`{name}`: {error}"))),
        }
    }

    fn size(&self, name: &str, default: usize) -> Result<usize> {
        let size = self.get(name, default)?;
        TowerConfig::check_sizes(SECTION, &[(name, size)]).map(|()| size)
    }

    fn activation(&self, name: &str, default: &str) -> Result<Activation> {
        activation(&self.get(name, default.to_owned())?)
    }
}

/// An activation by the name that `transformers` has for it.
fn activation(name: &str) -> Result<Activation> {
    match name {
        "gelu" => Ok(Activation::GeluErf),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
        "quick_gelu" => Ok(Activation::QuickGelu),
        "relu" => Ok(Activation::Relu),
        "silu" | "swish" => Ok(Activation::Silu),
        other => Err(Error::config(SECTION, format!("activation `{other}` isn't supported"))),
    }
}

/// What a block has beside its sizes.
struct Style {
    names: BlockNames,
    place: NormPlace,
    norm: NormOptions,
    activation: Activation,
    gated: bool,
    bias: bool,
    score_scale: Option<f32>,
}

impl EncoderConfig {
    /// Reads the fields of a config.json, for texts of `context_length` tokens.
    pub(super) fn read(fields: &Map<String, Value>, context_length: usize) -> Result<Self> {
        let fields = Fields(fields);
        let this = match fields.get("model_type", String::new())?.as_str() {
            "bert" => Self::bert(&fields, Kind::Bert, 30_522, 0),
            "roberta" => Self::bert(&fields, Kind::Roberta, 50_265, 1),
            "xlm-roberta" => Self::bert(&fields, Kind::Roberta, 30_522, 1),
            "mt5" => Self::t5(&fields),
            "m2m_100" => Self::m2m_100(&fields),
            other => Err(Error::config(
                SECTION,
                format!(
                    "`model_type` {other:?} isn't supported: bert, roberta, xlm-roberta, mt5 and m2m_100 are"
                ),
            )),
        }?;
        check_depth(SECTION, this.layers)?;
        // Positions start behind that of padding, where there is one.
        let longest = match this.kind {
            Kind::Bert => this.positions,
            Kind::Roberta => this.positions.saturating_sub(this.pad_id as usize + 1),
            // Both compute their tables for the context.
            Kind::T5 | Kind::M2m100 => 4096,
        };
        if context_length > longest {
            let message =
                format!("context_length {context_length} is more than the {longest} positions of the model");
            return Err(Error::config(SECTION, message));
        }
        Ok(this)
    }

    fn bert(fields: &Fields<'_>, kind: Kind, vocab_size: usize, pad_id: u32) -> Result<Self> {
        let positions = fields.get("position_embedding_type", "absolute".to_owned())?;
        if positions != "absolute" || fields.get("is_decoder", false)? {
            let message = "only encoders with absolute positions are supported";
            return Err(Error::config(SECTION, message));
        }
        let style = Style {
            names: BERT,
            place: NormPlace::AfterSum,
            norm: NormOptions { eps: fields.get("layer_norm_eps", 1e-12)?, ..NormOptions::default() },
            activation: fields.activation("hidden_act", "gelu")?,
            gated: false,
            bias: true,
            score_scale: None,
        };
        let width = fields.size("hidden_size", 768)?;
        let heads = fields.size("num_attention_heads", 12)?;
        let hidden = fields.size("intermediate_size", 3072)?;
        Ok(Self {
            kind,
            vocab_size: fields.size("vocab_size", vocab_size)?,
            width,
            layers: fields.size("num_hidden_layers", 12)?,
            pad_id: fields.get("pad_token_id", pad_id)?,
            positions: fields.size("max_position_embeddings", 512)?,
            segments: fields.size("type_vocab_size", 2)?,
            scales_embedding: false,
            relative: [0, 0],
            block: block(width, heads, None, hidden, style)?,
        })
    }

    fn t5(fields: &Fields<'_>) -> Result<Self> {
        let feed_forward = fields.get("feed_forward_proj", "gated-gelu".to_owned())?;
        let (gated, name) = match feed_forward.strip_prefix("gated-") {
            // The name means the approximation by tanh here.
            Some("gelu") => (true, "gelu_new"),
            Some(other) => (true, other),
            None => (false, feed_forward.as_str()),
        };
        let norm = NormOptions {
            kind: NormKind::Rms,
            eps: fields.get("layer_norm_epsilon", 1e-6)?,
            elementwise_affine: true,
            bias: false,
        };
        let style = Style {
            names: if gated { T5_GATED } else { T5 },
            place: NormPlace::Before,
            norm,
            activation: activation(name)?,
            gated,
            bias: false,
            score_scale: Some(1.0),
        };
        let width = fields.size("d_model", 512)?;
        let heads = fields.size("num_heads", 6)?;
        let head_width = fields.size("d_kv", 64)?;
        let hidden = fields.size("d_ff", 1024)?;
        let relative = [
            fields.size("relative_attention_num_buckets", 32)?,
            fields.size("relative_attention_max_distance", 128)?,
        ];
        // Half of the buckets are for either direction, half of those for single distances.
        if !relative[0].is_multiple_of(4) || relative[0] > 1024 || relative[1] <= relative[0] / 4 {
            let message =
                format!("{} buckets of relative positions up to {} make no sense", relative[0], relative[1]);
            return Err(Error::config(SECTION, message));
        }
        Ok(Self {
            kind: Kind::T5,
            vocab_size: fields.size("vocab_size", 250_112)?,
            width,
            layers: fields.size("num_layers", 8)?,
            pad_id: fields.get("pad_token_id", 0)?,
            positions: 0,
            segments: 0,
            scales_embedding: false,
            relative,
            block: block(width, heads, Some(head_width), hidden, style)?,
        })
    }

    fn m2m_100(fields: &Fields<'_>) -> Result<Self> {
        let style = Style {
            names: M2M100,
            place: NormPlace::Before,
            norm: NormOptions::default(),
            activation: fields.activation("activation_function", "relu")?,
            gated: false,
            bias: true,
            score_scale: None,
        };
        let width = fields.size("d_model", 1024)?;
        let heads = fields.size("encoder_attention_heads", 16)?;
        let hidden = fields.size("encoder_ffn_dim", 4096)?;
        if width < 4 || !width.is_multiple_of(2) {
            return Err(Error::config(SECTION, format!("`d_model` {width} has no sines and cosines")));
        }
        Ok(Self {
            kind: Kind::M2m100,
            vocab_size: fields.size("vocab_size", 128_112)?,
            width,
            layers: fields.size("encoder_layers", 12)?,
            pad_id: fields.get("pad_token_id", 1)?,
            positions: 0,
            segments: 0,
            scales_embedding: fields.get("scale_embedding", true)?,
            relative: [0, 0],
            block: block(width, heads, None, hidden, style)?,
        })
    }
}

/// The block of an encoder; heads share its width unless theirs is given.
fn block(
    width: usize,
    heads: usize,
    head_width: Option<usize>,
    hidden: usize,
    style: Style,
) -> Result<BlockSpec> {
    if head_width.is_none() && !width.is_multiple_of(heads) {
        let message = format!("width {width} can't be split into {heads} heads of equal width");
        return Err(Error::config(SECTION, message));
    }
    let Style { names, place, norm, activation, gated, bias, score_scale } = style;
    Ok(BlockSpec {
        attention: SelfAttentionSpec {
            width,
            heads,
            head_width: head_width.unwrap_or(width / heads),
            score_scale,
            norm,
            causal: false,
            qk_norm: false,
            scale_heads: false,
            inner_norm: false,
            output_bias: bias,
            names: names.attn,
        },
        mlp: MlpSpec {
            hidden,
            activation,
            gated,
            input_norm: false,
            inner_norm: false,
            bias,
            names: names.fc,
        },
        norm_place: place,
        layer_scale: false,
        scale_attn: false,
        names,
    })
}
