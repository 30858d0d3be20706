//! `config.json` of a `CLIPModel` or `SiglipModel` as the reference's `model_cfg`: CLIP as its native towers, SigLIP as a
//! trunk of timm with a native text tower.

use openclip_core::{Error, ModelConfig, Result, TowerConfig};
use serde_json::{Map, Value, json};

use super::{Kind, fields::Fields};

/// Fields of transformers that every configuration may have: for training, for generating text, and about the file.
const INERT: [&str; 60] = [
    "_attn_implementation_autoset",
    "_name_or_path",
    "add_cross_attention",
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
];

/// The id that stands for any in the first configurations of CLIP: the last token of a text is that with the largest id.
const LEGACY_EOS: u32 = 2;

/// Where `logit_bias` starts in training. Its presence says that a model has one.
const LOGIT_BIAS: f32 = -10.0;

/// The `model_cfg`, and the side of the images that the image tower takes.
///
/// # Errors
/// [`Error::Config`] naming the field that is missing, wrong or not known.
pub(super) fn convert(origin: &str, kind: Kind, config: Map<String, Value>) -> Result<(ModelConfig, usize)> {
    let mut fields = Fields::new(origin, "", config);
    let vision = Tower::vision(origin, kind, section(&mut fields, "vision_config")?)?;
    let text = Tower::text(origin, kind, section(&mut fields, "text_config")?)?;
    let projection = fields.take_or("projection_dim", 512)?;
    let logit_scale: Option<f32> = fields.take("logit_scale_init_value")?;
    fields.ignore(&["model_type"]);
    fields.ignore(&INERT);
    fields.finish()?;
    let mut model = ModelConfig {
        embed_dim: projection,
        vision_cfg: TowerConfig::default(),
        text_cfg: text_section(&text),
        multimodal_cfg: None,
        quick_gelu: false,
        custom_text: false,
        init_logit_scale: logit_scale,
        init_logit_bias: None,
        nonscalar_logit_scale: false,
    };
    match kind {
        Kind::Clip => {
            let quick = [&vision, &text].map(|tower| tower.activation == Activation::Quick);
            if quick[0] != quick[1] {
                let message = "`hidden_act` is `quick_gelu` in one of `vision_config` and `text_config`, which the \
                               reference's models can only have in both";
                return Err(Error::config(origin, message));
            }
            model.quick_gelu = quick[0];
            model.vision_cfg = vision_section(&vision);
            match text.eos {
                LEGACY_EOS => {}
                eos => {
                    model.text_cfg.set("pool_type", "eos");
                    model.text_cfg.set("eos_id", eos);
                }
            }
        }
        Kind::Siglip => {
            model.embed_dim = vision.width;
            model.vision_cfg = trunk_section(origin, &vision)?;
            model.custom_text = true;
            model.init_logit_bias = Some(LOGIT_BIAS);
            model.text_cfg.set("no_causal_mask", true);
            model.text_cfg.set("pool_type", "last");
            model.text_cfg.set("proj_bias", true);
            let message = |found| {
                format!(
                    "`text_config.projection_size` is {found}, `vision_config.hidden_size` {}: the embeddings of images and \
                     texts would differ in size",
                    vision.width
                )
            };
            if let Some(found) = text.projection.filter(|size| *size != vision.width) {
                return Err(Error::config(origin, message(found)));
            }
        }
    }
    Ok((model, vision.image_size))
}

/// A tower's section. The first configurations of CLIP have a second one, which counts instead where it is there.
fn section(fields: &mut Fields, name: &str) -> Result<Map<String, Value>> {
    let section = fields.take_or(name, Map::new())?;
    Ok(fields.take(&format!("{name}_dict"))?.unwrap_or(section))
}

/// `hidden_act`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activation {
    Quick,
    Erf,
    Tanh,
}

/// What a section says of its tower. Fields of the other tower are zero.
struct Tower {
    width: usize,
    layers: usize,
    heads: usize,
    hidden: usize,
    activation: Activation,
    epsilon: f64,
    image_size: usize,
    patch_size: usize,
    context_length: usize,
    vocabulary: usize,
    eos: u32,
    projection: Option<usize>,
}

impl Tower {
    fn vision(origin: &str, kind: Kind, section: Map<String, Value>) -> Result<Self> {
        let mut fields = Fields::new(origin, "vision_config", section);
        let patch_size = match kind {
            Kind::Clip => 32,
            Kind::Siglip => 16,
        };
        let mut this = Self::common(&mut fields, kind, [768, 3072, 12])?;
        this.image_size = fields.take_or("image_size", 224)?;
        this.patch_size = fields.take_or("patch_size", patch_size)?;
        let channels: usize = fields.take_or("num_channels", 3)?;
        if channels != 3 {
            return Err(fields.wrong("num_channels", format!("it is {channels}, and images have 3")));
        }
        if !fields.take_or("vision_use_head", true)? {
            return Err(fields.wrong("vision_use_head", "a model without its pooling head has no embeddings"));
        }
        expect_type(&mut fields, kind, "vision")?;
        fields.ignore(&["projection_dim"]);
        fields.finish()?;
        let sizes = [("image_size", this.image_size), ("patch_size", this.patch_size)];
        this.check("vision_config", &sizes)?;
        Ok(this)
    }

    fn text(origin: &str, kind: Kind, section: Map<String, Value>) -> Result<Self> {
        let mut fields = Fields::new(origin, "text_config", section);
        let (sizes, vocabulary, context_length) = match kind {
            Kind::Clip => ([512, 2048, 8], 49408, 77),
            Kind::Siglip => ([768, 3072, 12], 32000, 64),
        };
        let mut this = Self::common(&mut fields, kind, sizes)?;
        this.vocabulary = fields.take_or("vocab_size", vocabulary)?;
        this.context_length = fields.take_or("max_position_embeddings", context_length)?;
        this.eos = fields.take_or("eos_token_id", 49407)?;
        this.projection = match kind {
            Kind::Clip => None,
            Kind::Siglip => Some(fields.take_or("projection_size", this.width)?),
        };
        expect_type(&mut fields, kind, "text")?;
        fields.ignore(&["projection_dim"]);
        fields.finish()?;
        let sizes = [("vocab_size", this.vocabulary), ("max_position_embeddings", this.context_length)];
        this.check("text_config", &sizes)?;
        Ok(this)
    }

    /// What both sections have, with the width, the MLP's width and the number of heads that are assumed.
    fn common(fields: &mut Fields, kind: Kind, [width, hidden, heads]: [usize; 3]) -> Result<Self> {
        let (activation, epsilon) = match kind {
            Kind::Clip => ("quick_gelu", 1e-5),
            Kind::Siglip => ("gelu_pytorch_tanh", 1e-6),
        };
        let activation: String = fields.take_or("hidden_act", activation.to_owned())?;
        let activation = match activation.as_str() {
            "quick_gelu" => Activation::Quick,
            "gelu" => Activation::Erf,
            "gelu_pytorch_tanh" | "gelu_new" => Activation::Tanh,
            other => {
                let message = format!(
                    "it is `{other}`; there are `quick_gelu`, `gelu`, `gelu_pytorch_tanh` and `gelu_new`"
                );
                return Err(fields.wrong("hidden_act", message));
            }
        };
        let this = Self {
            width: fields.take_or("hidden_size", width)?,
            layers: fields.take_or("num_hidden_layers", 12)?,
            heads: fields.take_or("num_attention_heads", heads)?,
            hidden: fields.take_or("intermediate_size", hidden)?,
            activation,
            epsilon: fields.take_or("layer_norm_eps", epsilon)?,
            image_size: 0,
            patch_size: 0,
            context_length: 0,
            vocabulary: 0,
            eos: 0,
            projection: None,
        };
        if this.width.checked_rem(this.heads).is_none_or(|rest| rest != 0) {
            let message = format!("{} features don't divide into {} heads", this.width, this.heads);
            return Err(fields.wrong("num_attention_heads", message));
        }
        let pruned: Value = fields.take_or("pruned_heads", json!({}))?;
        if pruned.as_object().is_none_or(|heads| !heads.is_empty()) {
            return Err(fields.wrong("pruned_heads", "a model with heads taken out can't be read"));
        }
        fields.ignore(&INERT);
        Ok(this)
    }

    fn check(&self, section: &str, own: &[(&str, usize)]) -> Result<()> {
        let common = [
            ("hidden_size", self.width),
            ("intermediate_size", self.hidden),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
        ];
        TowerConfig::check_sizes(section, &common)?;
        TowerConfig::check_sizes(section, own)
    }

    /// The MLP's width over the tower's, so that their product, rounded down, is the MLP's width.
    fn mlp_ratio(&self) -> f64 {
        let (hidden, width) = (self.hidden as f64, self.width as f64);
        if self.hidden.is_multiple_of(self.width) { hidden / width } else { (hidden + 0.5) / width }
    }

    /// What both towers of the reference's native models have.
    fn native(&self) -> TowerConfig {
        let mut section = TowerConfig::default();
        section.set("width", self.width);
        section.set("layers", self.layers);
        section.set("mlp_ratio", self.mlp_ratio());
        if self.activation == Activation::Tanh {
            section.set("act_kwargs", json!({"approximate": "tanh"}));
        }
        if self.epsilon != 1e-5 {
            section.set("norm_kwargs", json!({"eps": self.epsilon}));
        }
        section
    }
}

/// The section's own type, where it has one.
fn expect_type(fields: &mut Fields, kind: Kind, tower: &str) -> Result<()> {
    let name = match kind {
        Kind::Clip => "clip",
        Kind::Siglip => "siglip",
    };
    let found: Option<String> = fields.take("model_type")?;
    match found {
        Some(found) if found != name && found != format!("{name}_{tower}_model") => {
            Err(fields.wrong("model_type", format!("it is `{found}`, and the model's is `{name}`")))
        }
        _ => Ok(()),
    }
}

fn vision_section(vision: &Tower) -> TowerConfig {
    let mut section = vision.native();
    section.set("head_width", vision.width / vision.heads.max(1));
    section.set("patch_size", vision.patch_size);
    section.set("image_size", vision.image_size);
    section
}

fn text_section(text: &Tower) -> TowerConfig {
    let mut section = text.native();
    section.set("heads", text.heads);
    section.set("context_length", text.context_length);
    section.set("vocab_size", text.vocabulary);
    section
}

/// Trunks of timm with attentional pooling.
struct Trunk {
    name: &'static str,
    width: usize,
    layers: usize,
    heads: usize,
    hidden: usize,
    patch_size: usize,
    /// The sizes that there are, and whether they have the approximate GELU.
    sizes: &'static [(usize, bool)],
}

const TRUNKS: [Trunk; 6] = [
    Trunk {
        name: "vit_base_patch32_siglip",
        width: 768,
        layers: 12,
        heads: 12,
        hidden: 3072,
        patch_size: 32,
        sizes: &[(256, true)],
    },
    Trunk {
        name: "vit_base_patch16_siglip",
        width: 768,
        layers: 12,
        heads: 12,
        hidden: 3072,
        patch_size: 16,
        sizes: &[(224, false), (256, false), (384, false), (512, false)],
    },
    Trunk {
        name: "vit_large_patch16_siglip",
        width: 1024,
        layers: 24,
        heads: 16,
        hidden: 4096,
        patch_size: 16,
        sizes: &[(256, false), (384, false), (512, true)],
    },
    Trunk {
        name: "vit_so400m_patch14_siglip",
        width: 1152,
        layers: 27,
        heads: 16,
        hidden: 4304,
        patch_size: 14,
        sizes: &[(224, false), (378, false), (384, false)],
    },
    Trunk {
        name: "vit_so400m_patch16_siglip",
        width: 1152,
        layers: 27,
        heads: 16,
        hidden: 4304,
        patch_size: 16,
        sizes: &[(256, true), (384, true), (512, true)],
    },
    Trunk {
        name: "vit_giantopt_patch16_siglip",
        width: 1536,
        layers: 40,
        heads: 16,
        hidden: 6144,
        patch_size: 16,
        sizes: &[(256, true), (384, true)],
    },
];

/// The image tower of a SigLIP model: the trunk of timm that has its sizes.
fn trunk_section(origin: &str, vision: &Tower) -> Result<TowerConfig> {
    let sizes = |trunk: &&Trunk| {
        let of_trunk = [trunk.width, trunk.layers, trunk.heads, trunk.hidden, trunk.patch_size];
        of_trunk == [vision.width, vision.layers, vision.heads, vision.hidden, vision.patch_size]
    };
    let trunk = TRUNKS.iter().find(sizes).ok_or_else(|| {
        let message = format!(
            "`vision_config`: timm has no SigLIP with {} features, {} layers, {} heads, an MLP of {} and patches of {}",
            vision.width, vision.layers, vision.heads, vision.hidden, vision.patch_size
        );
        Error::config(origin, message)
    })?;
    if vision.epsilon != 1e-6 {
        let message = format!("`vision_config.layer_norm_eps` is {}, timm's SigLIP has 1e-6", vision.epsilon);
        return Err(Error::config(origin, message));
    }
    let is_tanh = match vision.activation {
        Activation::Tanh => true,
        Activation::Erf => false,
        Activation::Quick => {
            return Err(Error::config(
                origin,
                "`vision_config.hidden_act`: timm's SigLIP has no `quick_gelu`",
            ));
        }
    };
    // The size that is wanted where timm has it, else any, at another size.
    let size = |wanted: &dyn Fn(&(usize, bool)) -> bool| trunk.sizes.iter().find(|size| wanted(size));
    let &(size, has_tanh) = size(&|size| size.0 == vision.image_size)
        .or_else(|| size(&|size| size.1 == is_tanh))
        .or_else(|| trunk.sizes.first())
        .ok_or_else(|| Error::config(origin, format!("timm's {} has no sizes", trunk.name)))?;
    let mut section = TowerConfig::default();
    section.set("timm_model_name", format!("{}_{size}", trunk.name));
    section.set("timm_model_pretrained", false);
    section.set("timm_pool", "map");
    section.set("timm_proj", "none");
    section.set("image_size", vision.image_size);
    if is_tanh != has_tanh {
        section.set("timm_act_layer", if is_tanh { "gelu_tanh" } else { "gelu" });
    }
    Ok(section)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert_json(kind: Kind, json: &str) -> std::result::Result<(Value, usize), String> {
        let fields = serde_json::from_str(json).unwrap();
        let converted = super::convert("c.json", kind, fields);
        converted
            .map(|(config, size)| (serde_json::to_value(config).unwrap(), size))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_vit_b_32_of_openai() {
        let (config, size) = convert_json(Kind::Clip, r#"{"projection_dim": null}"#).unwrap();
        let expected = json!({
            "embed_dim": 512,
            "vision_cfg": {"width": 768, "layers": 12, "mlp_ratio": 4.0, "head_width": 64, "patch_size": 32, "image_size": 224},
            "text_cfg": {"width": 512, "layers": 12, "mlp_ratio": 4.0, "heads": 8, "context_length": 77, "vocab_size": 49408,
                "pool_type": "eos", "eos_id": 49407},
            "quick_gelu": true,
        });
        assert_eq!((config, size), (expected, 224));
    }

    #[test]
    fn sections_of_the_first_files_count_instead() {
        let json = r#"{"text_config": {"hidden_size": 1024, "eos_token_id": 2, "bos_token_id": 0, "top_k": 50}, "text_config_dict":
            {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}, "vision_config_dict": null,
            "vision_config": {"hidden_act": "quick_gelu", "model_type": "clip_vision_model"}, "logit_scale_init_value": 2.6592,
            "transformers_version": null, "torch_dtype": "float32", "architectures": ["CLIPModel"]}"#;
        let (config, _) = convert_json(Kind::Clip, json).unwrap();
        assert_eq!(config["text_cfg"]["width"], 768);
        assert_eq!(config["text_cfg"]["pool_type"], "eos", "what the other section has isn't looked at");
        let legacy = convert_json(Kind::Clip, r#"{"text_config": {"eos_token_id": 2}}"#).unwrap().0;
        assert_eq!(legacy["text_cfg"].get("pool_type"), None, "the largest id is the reference's default");
    }

    #[test]
    fn activations_norms_and_odd_widths_are_taken_over() {
        let json = r#"{"text_config": {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "intermediate_size": 1000},
            "vision_config": {"hidden_act": "gelu", "intermediate_size": 4304, "hidden_size": 1152, "num_attention_heads": 16}}"#;
        let (config, _) = convert_json(Kind::Clip, json).unwrap();
        assert_eq!(config.get("quick_gelu"), None);
        assert_eq!(config["text_cfg"]["act_kwargs"], json!({"approximate": "tanh"}));
        assert_eq!(config["text_cfg"]["norm_kwargs"], json!({"eps": 1e-6}));
        assert_eq!(config["vision_cfg"].get("act_kwargs"), None);
        for (tower, width, hidden) in [("text_cfg", 512.0, 1000), ("vision_cfg", 1152.0, 4304)] {
            let ratio = config[tower]["mlp_ratio"].as_f64().unwrap();
            assert_eq!((width * ratio) as usize, hidden);
        }
    }

    #[test]
    fn siglip_is_the_trunk_of_its_sizes() {
        let trunk = |vision: &str| {
            let json =
                format!(r#"{{"vision_config": {vision}, "text_config": {{"projection_size": null}}}}"#);
            convert_json(Kind::Siglip, &json).map(|(config, _)| config["vision_cfg"].clone())
        };
        let base = convert_json(Kind::Siglip, "{}").unwrap().0;
        let expected = json!({
            "embed_dim": 768,
            "vision_cfg": {"timm_model_name": "vit_base_patch16_siglip_224", "timm_model_pretrained": false, "timm_pool": "map",
                "timm_proj": "none", "image_size": 224, "timm_act_layer": "gelu_tanh"},
            "text_cfg": {"width": 768, "layers": 12, "mlp_ratio": 4.0, "act_kwargs": {"approximate": "tanh"},
                "norm_kwargs": {"eps": 1e-6}, "heads": 12, "context_length": 64, "vocab_size": 32000, "no_causal_mask": true,
                "pool_type": "last", "proj_bias": true},
            "custom_text": true, "init_logit_bias": -10.0,
        });
        assert_eq!(base, expected);
        let odd = trunk(r#"{"image_size": 320}"#).unwrap();
        assert_eq!(
            (&odd["timm_model_name"], &odd["image_size"]),
            (&json!("vit_base_patch16_siglip_224"), &json!(320))
        );
        let exact = trunk(r#"{"hidden_act": "gelu"}"#).unwrap();
        assert_eq!(exact.get("timm_act_layer"), None);
        for (vision, expected) in [
            (r#"{"hidden_size": 780}"#, "timm has no SigLIP with 780 features"),
            (r#"{"layer_norm_eps": 1e-5}"#, "`vision_config.layer_norm_eps`"),
            (r#"{"hidden_act": "quick_gelu"}"#, "`vision_config.hidden_act`"),
            (r#"{"vision_use_head": false}"#, "`vision_config.vision_use_head`"),
        ] {
            let message = trunk(vision).unwrap_err();
            assert!(message.contains(expected), "{vision}: {message}");
        }
        let message = convert_json(Kind::Siglip, r#"{"text_config": {"projection_size": 512}}"#).unwrap_err();
        assert!(message.contains("`text_config.projection_size` is 512"), "{message}");
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (json, expected) in [
            (r#"{"rope": true}"#, "`rope` is true"),
            (r#"{"text_config": {"rope": 1}}"#, "`text_config.rope` is 1"),
            (r#"{"vision_config": {"hidden_size": "x"}}"#, "`vision_config.hidden_size`: "),
            (r#"{"vision_config": {"hidden_size": 0}}"#, "`hidden_size` is 0"),
            (r#"{"vision_config": {"num_attention_heads": 0}}"#, "`vision_config.num_attention_heads`: "),
            (r#"{"vision_config": {"num_attention_heads": 7}}"#, "don't divide into 7 heads"),
            (r#"{"vision_config": {"num_channels": 1}}"#, "`vision_config.num_channels`: it is 1"),
            (r#"{"vision_config": {"patch_size": 0}}"#, "`patch_size` is 0"),
            (r#"{"vision_config": {"pruned_heads": {"0": [1]}}}"#, "`vision_config.pruned_heads`: "),
            (r#"{"vision_config": {"model_type": "siglip_vision_model"}}"#, "`vision_config.model_type`: "),
            (r#"{"text_config": {"hidden_act": "relu"}}"#, "`text_config.hidden_act`: it is `relu`"),
            (r#"{"text_config": {"hidden_act": "gelu"}}"#, "`quick_gelu` in one of"),
        ] {
            let message = convert_json(Kind::Clip, json).unwrap_err();
            assert!(message.contains(expected), "{json}: {message}");
        }
    }
}
