"""What is compared: published architectures of the reference, and small made-up configurations for everything that
no published architecture uses.

A case is a model configuration in the reference's JSON form, the options that change it when it is built, and the
towers that are run.
"""

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path

import open_clip

# What `openclip-text` knows of models of the hub, in the form of their config.json.
KNOWN_MODELS = Path(__file__).resolve().parents[2] / "openclip-text/src/huggingface/known_models.json"

TOWERS = ("image", "text")
# CoCa has a decoder, too; its logits need all three.
COCA_TOWERS = (*TOWERS, "caption")


@dataclass(frozen=True)
class Marks:
    """How a tokenizer marks a text: what stands before it, behind it and fills the context."""

    begin: tuple
    end: int
    padding: int
    # The lowest id of a text's content, and how many ids of the vocabulary don't belong to any content.
    first: int
    kept: int


# By the tokenizer's name. SigLIP's tokenizers have no begin token and the first one pads with end tokens; BERT's end
# token is taken out for CLIPA.
MARKS = {
    "timm/ViT-B-16-SigLIP": Marks((), 1, 1, 3, 3),
    "timm/ViT-B-16-SigLIP-i18n-256": Marks((), 1, 1, 3, 3),
    "google/mt5-base": Marks((), 1, 0, 3, 3),
    "facebook/xlm-v-base": Marks((0,), 2, 1, 4, 4),
    "bert-base-uncased": Marks((101,), 0, 0, 1000, 1000),
    "roberta-base": Marks((0,), 2, 1, 4, 5),
    "xlm-roberta-base": Marks((0,), 2, 1, 4, 5),
    "xlm-roberta-large": Marks((0,), 2, 1, 4, 5),
    "google/mt5-xl": Marks((), 1, 0, 3, 3),
    "facebook/nllb-200-distilled-600M": Marks((256047,), 2, 1, 4, 206),
    "facebook/nllb-200-distilled-1.3B": Marks((256047,), 2, 1, 4, 206),
}
GEMMA = Marks((), 1, 0, 4, 4)


def marks_of(text_cfg: dict) -> Marks:
    """The marks of a text tower's tokenizer: CLIP's, whose begin and end are the last ids, unless another is named."""
    name = text_cfg.get("hf_tokenizer_name")
    if name is None and "hf_model_name" in text_cfg:
        return Marks((3,), 2, hf_config(text_cfg)["pad_token_id"], 4, 4)
    if name is None:
        vocabulary = text_cfg.get("vocab_size", 49408)
        return Marks((vocabulary - 2,), vocabulary - 1, text_cfg.get("pad_id", 0), 1, 3)
    return GEMMA if "SigLIP2" in name else MARKS[name]


def hf_config(text_cfg: dict) -> dict:
    """The configuration of the Hugging Face model that a text tower is: what is known of it, and what the case says."""
    known = json.loads(KNOWN_MODELS.read_text()).get(text_cfg["hf_model_name"], {"config": {}})["config"]
    return {**known, **text_cfg.get("hf_model_config", {})}


def vocabulary_of(text_cfg: dict) -> int:
    """Number of token ids of a text tower."""
    return hf_config(text_cfg)["vocab_size"] if "hf_model_name" in text_cfg else text_cfg.get("vocab_size", 49408)


@dataclass
class Case:
    """One file of `conformance/towers`."""

    name: str
    model_cfg: dict
    about: str = ""
    options: dict = field(default_factory=dict)
    towers: tuple = TOWERS
    # Tokens per text when it isn't the context length.
    input_length: int | None = None
    end_token: int | None = None
    # Padding stands between tokens, too.
    inner_padding: bool = False
    # Offset and scale of parameters whose names end so, where the rules of `synth.py` don't do.
    spreads: dict = field(default_factory=dict)

    @property
    def made_up(self) -> bool:
        return self.name.startswith("made-")


# Norms behind the branches that keep 64 blocks from adding up until attention sees rounding only: with the rules' weights the
# reference differs from itself by 2.5e-2 between one thread and two.
SMALL_BRANCHES = {"norm1.weight": (0.05, 0.025), "norm2.weight": (0.05, 0.025)}
SPREADS = {"EVA02-E-14": SMALL_BRANCHES, "EVA02-E-14-plus": SMALL_BRANCHES}
# ResNets with the rules' weights forget their inputs in early layers and amplify rounding in the last ones: each block adds a
# branch that ends with a norm. The more blocks, the smaller these norms are.
RESNET_BRANCHES = {"RN50": 0.65, "RN101": 0.45, "RN50x4": 0.5, "RN50x16": 0.38, "RN50x64": 0.3}
SPREADS |= {
    name + suffix: {"bn1.weight": (1.5, 0.25), "bn2.weight": (1.5, 0.25), "bn3.weight": (scale, 0.1)}
    for name, scale in RESNET_BRANCHES.items()
    for suffix in ("", "-quickgelu")
}


def published() -> list[Case]:
    """The architectures with the native text tower, but for CoCa, which has a function of its own."""
    configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    return [
        Case(name, config, spreads=SPREADS.get(name, {}))
        for name, config in configs.items()
        if "hf_model_name" not in config["text_cfg"] and "multimodal_cfg" not in config
    ]


def hugging_face() -> list[Case]:
    """The text towers of the architectures whose text tower is a Hugging Face model."""
    configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    cases = []
    for name, config in configs.items():
        if "hf_model_name" not in config["text_cfg"]:
            continue
        if "multimodal_cfg" not in config:
            cases.append(Case(name, config, towers=("text",)))
    return cases


def coca() -> list[Case]:
    """The CoCa architectures."""
    configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    return [Case(name, config, towers=COCA_TOWERS) for name, config in configs.items() if "multimodal_cfg" in config]


def resized() -> list[Case]:
    """A published architecture loaded at another image size or context length than its checkpoint has."""
    base = open_clip.get_model_config("ViT-B-32")
    image, text = ("image",), ("text",)
    return [
        Case("ViT-B-32.image-256", base, "position table resized from 7x7", {"force_image_size": 256}, image),
        Case("ViT-B-32.image-160x288", base, "position table resized to 5x9", {"force_image_size": [160, 288]}, image),
        Case("ViT-B-32.context-48", base, "text position table shortened", {"force_context_length": 48}, text),
        Case("ViT-B-32.context-96", base, "text position table lengthened", {"force_context_length": 96}, text),
    ]


VISION = {"layers": 3, "width": 64, "head_width": 32, "image_size": 32, "patch_size": 8}
TEXT = {"context_length": 12, "vocab_size": 500, "width": 48, "heads": 3, "layers": 3}
EMBED_DIM = 40


def _made(name, about, vision=None, text=None, options=None, input_length=None, end_token=None, **model):
    config = {
        "embed_dim": EMBED_DIM,
        "vision_cfg": {**VISION, **(vision or {})},
        "text_cfg": {**TEXT, **(text or {})},
        **model,
    }
    changed = {"image": vision, "text": text}
    towers = tuple(tower for tower in TOWERS if changed[tower] is not None) or TOWERS
    return Case("made-" + name, config, about, options or {}, towers, input_length, end_token)


def _both(name, about, **fields):
    """A field that both towers have."""
    return _made(name, about, fields, copy.deepcopy(fields))


def _blocks() -> list[Case]:
    custom = {
        "qk_norm": True,
        "scale_heads": True,
        "scale_attn_inner": True,
        "scale_attn": True,
        "scale_fc": True,
    }
    return [
        _made("plain", "what the other made-up cases change"),
        _both("qk-norm", "queries and keys normalised per head", qk_norm=True),
        _both("scale-heads", "learned scale per head", scale_heads=True),
        _both("scale-attn-inner", "norm before the output projection", scale_attn_inner=True),
        _both("scale-attn", "norm after attention", scale_attn=True),
        _both("scale-fc", "norm inside the MLP", scale_fc=True),
        _both("block-custom", "the custom block without options equals the default one", block_type="custom"),
        _both("block-default", "an explicit default block ignores the options", block_type="default", **custom),
        _both(
            "block-all",
            "every option of the custom block, LayerScale, epsilon and tanh GELU together",
            ls_init_value=0.1,
            norm_kwargs={"eps": 0.01},
            act_kwargs={"approximate": "tanh"},
            **custom,
        ),
        _both("layer-scale", "LayerScale", ls_init_value=0.1),
        _both("layer-scale-zero", "zero is a LayerScale too", ls_init_value=0.0),
        _both("gelu-tanh", "tanh GELU, with layers enough to show", layers=8, act_kwargs={"approximate": "tanh"}),
        _both("norm-eps", "an epsilon that shows", norm_kwargs={"eps": 0.01}),
        _both("norm-eps-small", "the epsilon of SigLIP", norm_kwargs={"eps": 1e-6}),
        _both("norm-no-bias", "norms without bias", norm_kwargs={"bias": False}),
        _both("norm-no-affine", "norms without parameters", norm_kwargs={"elementwise_affine": False}),
        _both("mlp-ratio", "hidden width truncated", mlp_ratio=2.71),
        _both("mlp-ratio-below-one", "hidden width smaller than the width", mlp_ratio=0.33),
        _made("quick-gelu", "QuickGELU in both towers", {}, {}, quick_gelu=True),
        _made("quick-gelu-custom", "QuickGELU in custom blocks", custom, dict(custom), quick_gelu=True),
        _made("quick-gelu-act-kwargs", "empty act_kwargs", {"act_kwargs": {}}, {"act_kwargs": {}}, quick_gelu=True),
    ]


def _timm(name, about, trunk, pool, image_size, **fields) -> Case:
    """A trunk of timm with another pool than published architectures have. Trunks come in timm's sizes only."""
    vision = {"timm_model_name": trunk, "timm_pool": pool, "timm_proj": "", "image_size": image_size, **fields}
    model_cfg = {"embed_dim": EMBED_DIM, "vision_cfg": vision, "text_cfg": TEXT}
    return Case("made-timm-" + name, model_cfg, about, {}, ("image",))


def _trunks() -> list[Case]:
    return [
        _timm("abs-attn", "attention to a map of its own size", "convnext_tiny", "abs_attn", 224),
        _timm("abs-attn-resized", "positions resized from 8x8 to 2x3", "fastvit_mci0", "abs_attn", [128, 192]),
        _timm("rot-attn", "rotary attention to 3x5 places", "convnext_tiny", "rot_attn", [96, 160], timm_proj="linear"),
        _timm("avgmax", "mean of mean and maximum", "convnext_tiny", "avgmax", 64),
        _timm("max", "maximum, after the trunk was built for the mean", "fastvit_mci0", "max", 128, timm_proj="mlp"),
        _timm("tokens-avgmax", "mean of mean and maximum of tokens", "vit_medium_patch16_gap_256", "avgmax", 256),
    ]


def _vision() -> list[Case]:
    def pooler(**fields):
        return {"attentional_pool": True, "attn_pooler_queries": 5, "attn_pooler_heads": 4, **fields}

    def two_poolers(kind, **fields):
        # `ln_post` of these is as wide as the embedding, and applied to the tokens.
        return {**pooler(width=EMBED_DIM, head_width=10), "attentional_pool": kind, **fields}

    eps = {"norm_kwargs": {"eps": 0.01}}
    resnet = {"layers": [1, 2, 1, 1], "width": 16, "head_width": 32, "image_size": 64}
    return [
        _made("resnet", "modified ResNet", resnet),
        _made("sin-cos-2d", "stored sin-cos position table", {"pos_embed_type": "sin_cos_2d"}),
        _made("no-ln-pre", "no norm before the blocks", {"no_ln_pre": True}),
        _made("image-pool-avg", "average without the class token", {"pool_type": "avg"}),
        _made("image-pool-none", "all tokens, projected", {"pool_type": "none"}),
        _made("final-ln-tok", "norm after pooling", {"final_ln_after_pool": True}),
        _made("final-ln-avg", "norm after average", {"pool_type": "avg", "final_ln_after_pool": True}),
        _made("final-ln-none", "norm of all tokens", {"pool_type": "none", "final_ln_after_pool": True}),
        _made(
            "clipa",
            "no_ln_pre, average, norm after it, and bidirectional text with the last token",
            {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
            {"no_causal_mask": True, "pool_type": "last"},
        ),
        _made("attn-pool", "query 0 of five", pooler()),
        _made("attn-pool-avg", "average of queries without query 0", pooler(pool_type="avg")),
        _made("attn-pool-none", "all queries", pooler(pool_type="none")),
        _made("attn-pool-same-width", "packed projections", pooler(width=EMBED_DIM, head_width=20)),
        _made("attn-pool-final-ln", "final_ln_after_pool ignored", pooler(pool_type="avg", final_ln_after_pool=True)),
        _made("attn-pool-eps", "the pooler's own norms keep 1e-5", pooler(**eps)),
        _made("attn-pool-parallel", "one query beside the others", two_poolers("parallel")),
        _made("attn-pool-cascade", "one query over the others", two_poolers("cascade")),
        _made("attn-pool-cascade-eps", "epsilon of ln_post only", two_poolers("cascade", **eps)),
        _made("attn-pool-parallel-tokens", "with tokens", two_poolers("parallel", output_tokens=True)),
        _made("attn-pool-cascade-tokens", "with tokens", two_poolers("cascade", output_tokens=True)),
        _made("attn-pool-tokens", "as in CoCa", pooler(output_tokens=True)),
        _made("image-tokens", "patch tokens beside the embedding", {"output_tokens": True}),
        _made(
            "image-tokens-final-ln",
            "tokens that are not normalised",
            {"output_tokens": True, "pool_type": "avg", "final_ln_after_pool": True},
        ),
        _made("head-width-16", "four heads", {"head_width": 16}),
        _made("head-width-24", "two heads of 32: the number of heads is rounded down", {"head_width": 24}),
        _made("head-width-64", "one head", {"head_width": 64}),
        _made("image-wide", "more columns than rows", {"image_size": [24, 56]}),
        _made("image-tall", "oblong patches of 4x16", {"image_size": [48, 32], "patch_size": [4, 16]}),
        _made("image-remainder", "an image that is no multiple of the patch", {"image_size": [35, 30]}),
        _made("patch-dropout", "inert outside training", {"patch_dropout": 0.5}),
        _made(
            "image-combination",
            "pooler, no ln_pre, LayerScale, wide image, QuickGELU and custom blocks together",
            pooler(
                no_ln_pre=True, ls_init_value=0.1, image_size=[32, 48], pool_type="avg", qk_norm=True, scale_fc=True
            ),
            quick_gelu=True,
        ),
        _made("one-layer", "a single block, no other between first and last", {"layers": 1}, {"layers": 1}),
    ]


BERT = {
    "vocab_size": 500, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96,
    "max_position_embeddings": 20, "type_vocab_size": 2,
}
# Heads are together narrower than the model.
MT5 = {"vocab_size": 500, "d_model": 48, "d_kv": 12, "d_ff": 96, "num_layers": 3, "num_heads": 3, "pad_token_id": 0}
M2M100 = {
    "vocab_size": 500, "d_model": 48, "encoder_layers": 3, "encoder_attention_heads": 3, "encoder_ffn_dim": 96,
    "decoder_layers": 1, "decoder_attention_heads": 3, "decoder_ffn_dim": 96, "pad_token_id": 1,
}


def _hugging_face() -> list[Case]:
    """Small Hugging Face towers of every kind, with every pooler and projection that the reference can run."""

    def made(name, about, model_type, config, pooler, proj, inner_padding=False, embed_dim=EMBED_DIM, length=12):
        fields = {"model_type": model_type, **config}
        fields.setdefault("pad_token_id", 0 if model_type == "bert" else 1)
        text = {
            "hf_model_name": f"made/{name}", "hf_model_config": fields, "hf_pooler_type": pooler, "hf_proj_type": proj,
            "context_length": length,
        }
        model = {"embed_dim": embed_dim, "vision_cfg": VISION, "text_cfg": text, "custom_text": True}
        return Case(f"made-hf-{name}", model, about, towers=("text",), inner_padding=inner_padding)

    return [
        made("bert", "BERT, its own pooling layer", "bert", BERT, "cls_pooler", "linear"),
        made("bert-hidden", "the first token itself", "bert", BERT, "cls_last_hidden_state_pooler", "mlp"),
        made("bert-mean", "mean, another activation", "bert", {**BERT, "hidden_act": "gelu_new"}, "mean_pooler", "mlp"),
        made("roberta", "positions count from behind padding", "roberta", BERT, "mean_pooler", "mlp"),
        made("roberta-cls", "RoBERTa's own pooling layer", "roberta", BERT, "cls_pooler", "linear"),
        made("roberta-padding", "padding between tokens isn't counted", "roberta", BERT, "mean_pooler", "mlp", True),
        made("bert-padding", "padding between tokens is counted", "bert", BERT, "mean_pooler", "mlp", True),
        made("xlm-roberta", "no projection", "xlm-roberta", {**BERT, "layer_norm_eps": 1e-5}, "mean_pooler", None, embed_dim=48),
        made("xlm-roberta-default", "the pooler that goes with the kind", "xlm-roberta", BERT, None, "linear"),
        made("mt5", "gated MLP, relative positions", "mt5", MT5, "mean_pooler", "mlp"),
        made("mt5-long", "positions beyond single distances", "mt5", MT5, "mean_pooler", "mlp", length=60),
        made("mt5-first", "first token", "mt5", MT5, "cls_pooler", "linear"),
        made("mt5-padding", "padding between tokens is counted", "mt5", MT5, "mean_pooler", "linear", True),
        made(
            "mt5-relu", "a plain MLP, other buckets", "mt5",
            {**MT5, "feed_forward_proj": "relu", "relative_attention_num_buckets": 16, "relative_attention_max_distance": 20},
            None, "linear", length=30,
        ),
        made("m2m-100", "M2M100, the encoder of NLLB", "m2m_100", M2M100, "cls_pooler", "linear"),
        made("m2m-100-mean", "mean of all tokens", "m2m_100", M2M100, "mean_pooler", "mlp"),
        made("m2m-100-padding", "padding between tokens isn't counted", "m2m_100", M2M100, "mean_pooler", "mlp", True),
        made(
            "m2m-100-plain", "embeddings as they are, another activation", "m2m_100",
            {**M2M100, "scale_embedding": False, "activation_function": "gelu"}, None, "linear",
        ),
    ]


def _text() -> list[Case]:
    cls = {"embed_cls": True}
    custom = {"custom_text": True}
    return [
        _made("bidirectional", "no causal mask: padding counts", text={"no_causal_mask": True}),
        _made("text-pool-first", "first token", text={"pool_type": "first", "no_causal_mask": True}),
        _made("text-pool-first-causal", "first token, which sees itself only", text={"pool_type": "first"}),
        _made("text-pool-last", "last position", text={"pool_type": "last"}),
        _made("text-pool-none", "all tokens", text={"pool_type": "none"}),
        _made("text-pool-eos", "first end token", text={"pool_type": "eos", "eos_id": 2}, end_token=2),
        _made(
            "text-pool-eos-repeated",
            "first of several end tokens",
            text={"pool_type": "eos", "eos_id": 2, "pad_id": 2},
            end_token=2,
        ),
        _made(
            "text-pool-eos-absent",
            "position 0 without an end token",
            text={"pool_type": "eos", "eos_id": 2, "no_causal_mask": True},
        ),
        _made("text-final-ln", "final_ln_after_pool ignored", text={"final_ln_after_pool": True, "pool_type": "none"}),
        _made("pad-id", "pad_id alone hides nothing", text={"pad_id": 7, "no_causal_mask": True}),
        _made(
            "short-bidirectional",
            "fewer tokens than the context has",
            text={"no_causal_mask": True, "pool_type": "last"},
            input_length=8,
            **custom,
        ),
        _made("short-embed-cls", "the class token follows the last token given", text=cls, input_length=8, **custom),
        _made("proj-other", "any other proj_type means linear", text={"proj_type": "mlp"}),
        _made("proj-none", "no projection: the text's own width", text={"proj_type": "none"}),
        _made("proj-bias", "projection with bias", text={"proj_bias": True}),
        _made("proj-none-bias", "no projection, so no bias", text={"proj_type": "none", "proj_bias": True}, **custom),
        _made("proj-bias-custom-text", "projection with bias under text.", text={"proj_bias": True}, **custom),
        _made("custom-text", "the text tower under text.", {}, {}, **custom),
        _made("force-custom-text", "the same by option", {}, {}, {"force_custom_text": True}),
        _made("embed-cls", "appended class token, legacy mask", text=cls, **custom),
        _made("embed-cls-bidirectional", "legacy mask alone", text={**cls, "no_causal_mask": True}, **custom),
        _made("embed-cls-pad-id", "another padding id", text={**cls, "pad_id": 3}, **custom),
        _made("embed-cls-custom-block", "mask per head in the custom block", text={**cls, "qk_norm": True}, **custom),
        _made("embed-cls-pool", "pool_type ignored", text={**cls, "pool_type": "first"}, **custom),
        _made("embed-cls-tokens", "with tokens, as in CoCa", text={**cls, "output_tokens": True}, **custom),
        _made("text-tokens", "tokens beside the embedding", text={"output_tokens": True}, **custom),
        _made("text-tokens-clip", "ignored in the plain layout", text={"output_tokens": True}),
        _made(
            "siglip-text",
            "bidirectional, last, projection with bias, logit bias",
            text={"no_causal_mask": True, "pool_type": "last", "proj_bias": True, "norm_kwargs": {"eps": 1e-6}},
            init_logit_bias=-10,
            **custom,
        ),
        _made(
            "nonscalar-logits",
            "scale and bias of shape [1]",
            {},
            {},
            init_logit_bias=-10,
            nonscalar_logit_scale=True,
        ),
    ]


def _coca() -> list[Case]:
    """Small models with a decoder."""
    width = TEXT["width"]
    pooler = {"attentional_pool": True, "attn_pooler_queries": 5, "attn_pooler_heads": 4, "output_tokens": True}
    text = {**TEXT, "embed_cls": True, "output_tokens": True}
    decoder = {"context_length": 12, "width": width, "heads": 3, "layers": 2}

    def made(name, about, vision=None, text_cfg=text, decoder_cfg=None, embed_dim=width, **model):
        config = {
            "embed_dim": embed_dim,
            "vision_cfg": {**VISION, **pooler, **(vision or {})},
            "text_cfg": text_cfg,
            "multimodal_cfg": {**decoder, **(decoder_cfg or {})},
            "custom_text": True,
            **model,
        }
        return Case("made-coca" + name, config, about, towers=COCA_TOWERS)

    roberta = {
        "hf_model_name": "made/coca", "hf_model_config": {"model_type": "roberta", "pad_token_id": 1, **BERT},
        "hf_proj_type": "linear", "output_tokens": True, "context_length": 12, "vocab_size": 490,
    }
    return [
        made("", "attentional pooling, appended class token, decoder"),
        made(
            "-patches", "the decoder sees the patches", {"attentional_pool": False, "width": width, "head_width": 16},
            embed_dim=EMBED_DIM,
        ),
        made(
            "-options", "QuickGELU, LayerScale, fields that are ignored, a padding id",
            text_cfg={**text, "pad_id": 3, "ls_init_value": 0.1},
            decoder_cfg={"ls_init_value": 0.1, "mlp_ratio": 2, "dim_head": 7, "n_queries": 9, "vocab_size": 77},
            quick_gelu=True,
        ),
        made("-no-class", "tokens behind the text tower's norm", text_cfg={**text, "embed_cls": False}),
        made("-bidirectional", "tokens that see what follows", text_cfg={**text, "no_causal_mask": True}),
        made("-roberta", "a text tower of transformers", text_cfg=roberta),
    ]


def _resized() -> list[Case]:
    def image(name, about, size, **fields):
        return _made("resize-" + name, about, fields, options={"force_image_size": size})

    def text(name, about, length, **fields):
        layout = {"custom_text": True} if fields else {}
        return _made("resize-" + name, about, text=fields, options={"force_context_length": length}, **layout)

    return [
        image("image-up", "4x4 to 9x9", 72),
        image("image-down", "4x4 to 3x3", 24),
        image("image-mixed", "4x4 to 2x7", [16, 56]),
        image("image-same-count", "4x4 to 2x8 is not resized", [16, 64]),
        image("image-avg", "4x4 to 6x5 with average pooling", [48, 40], pool_type="avg"),
        image("image-sin-cos", "stored sin-cos tables are resized too", 48, pos_embed_type="sin_cos_2d"),
        text("text-up", "12 to 20", 20),
        text("text-down", "12 to 7", 7),
        text("text-embed-cls", "13 to 16, class position included", 15, embed_cls=True),
    ]


def all_cases() -> list[Case]:
    """Every case, small ones first."""
    made_up = _blocks() + _trunks() + _vision() + _text() + _hugging_face() + _coca() + _resized()
    return made_up + resized() + published() + hugging_face() + coca()
